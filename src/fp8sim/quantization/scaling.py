"""Who shares a scale, and how the scale is picked from the largest magnitude of its group."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32, AnyArray, FloatArray
from fp8sim.casts import decode, encode
from fp8sim.formats import FORMATS, FloatFormat
from fp8sim.reference.rounding import floor_log2, round_exact

__all__ = [
    "SCALE_FORMATS",
    "SCALE_RULES",
    "Scales",
    "Scaling",
    "expand_groups",
    "group_amax",
    "group_sizes",
    "pick_scales",
    "scales_shape",
]

#: scale format -> the rules it can follow, the default first.
SCALE_FORMATS: dict[str, tuple[str, ...]] = {
    "fp32": ("amax", "ceil", "floor", "even"),
    "e8m0": ("ceil", "floor", "even"),
    "e4m3": ("amax",),
}

#: scale rule -> what it does with the largest magnitude (amax) of a group.
SCALE_RULES: dict[str, str] = {
    "amax": "amax becomes the largest finite value",
    "ceil": "the smallest power of two with which amax does not exceed the largest finite value",
    "floor": "2^(floor(log2 amax) - emax), as in the OCP MX specification: amax may saturate",
    "even": "as floor, of amax rounded to the element's mantissa first",
}

_TINY = 2.0**-149  # smallest FP32 scale: keeps a group of tiny values from dividing by zero
_BLOCK = re.compile(r"([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True)
class Scaling:
    """How an array is scaled before it is cast.

    Parameters
    ----------
    granularity : str
        Who shares a scale. ``tensor``: all; ``row``: one per row of the reduction axis; ``RxC``
        (``1x128``, ``128x128``, ``1x32``, ``1x16``): blocks of C along the reduction axis and R
        across it; ``none``: no scale, a plain cast.
    scale_format : {"fp32", "e8m0", "e4m3"}
        What a scale is stored in; ``e4m3`` scales stand under one FP32 scale of the tensor (NVFP4).
    scale_rule : {"amax", "ceil", "floor", "even"}, optional
        How a scale is picked; ``amax`` by default, ``ceil`` for ``e8m0``.
    amax_floor : float
        Smallest amax taken for a group (DeepSeek: 1e-4).

    Raises
    ------
    ValueError
        If a name is unknown, a rule does not go with the scale format, or the floor is negative.

    Examples
    --------
    >>> Scaling("1x128", scale_format="e8m0").scale_rule
    'ceil'
    """

    granularity: str = "tensor"
    scale_format: str = "fp32"
    scale_rule: str | None = None
    amax_floor: float = 0.0

    def __post_init__(self) -> None:
        """Check the names and fill in the rule."""
        _parse_granularity(self.granularity)
        checks.one_of(self.scale_format, SCALE_FORMATS, "scale format")
        rules = SCALE_FORMATS[self.scale_format]
        if self.scale_rule is None:
            object.__setattr__(self, "scale_rule", rules[0])
        checks.one_of(self.scale_rule, SCALE_RULES, "scale rule")
        if self.scale_rule not in rules:
            raise ValueError(
                f"{self.scale_format} scales cannot follow the rule {self.scale_rule!r}; "
                f"use {' or '.join(map(repr, rules))}"
            )
        if isinstance(self.amax_floor, bool) or not isinstance(self.amax_floor, (int, float, np.floating)):
            raise TypeError(f"amax_floor must be a number, got {self.amax_floor!r}")
        if not (math.isfinite(self.amax_floor) and self.amax_floor >= 0):
            raise ValueError(f"amax_floor must be finite and not negative, got {self.amax_floor}")

    def __str__(self) -> str:
        """Return the scaling in a few words, such as ``1x128 fp32``."""
        if self.granularity == "none":
            return "unscaled"
        rule = "" if self.scale_rule == "amax" else f" {self.scale_rule}"
        return f"{self.granularity} {self.scale_format}{rule}"

    @property
    def scale_bytes(self) -> int:
        """Bytes of one scale."""
        return 0 if self.granularity == "none" else FORMATS[self.scale_format].bits // 8

    @property
    def tensor_bytes(self) -> int:
        """Bytes that the whole tensor adds: the FP32 scale above E4M3 ones."""
        return 4 if self.scale_format == "e4m3" and self.granularity != "none" else 0

    def nbytes(self, shape: tuple[int, ...], axis: int = -1) -> int:
        """Return the bytes that the scales of an array of `shape` take.

        Examples
        --------
        >>> Scaling("1x128").nbytes((4096, 7168))
        917504
        """
        count = math.prod(scales_shape(self.granularity, shape, axis))
        return count * self.scale_bytes + self.tensor_bytes


class Scales(NamedTuple):
    """The scales of an array: multipliers, and how they are stored."""

    values: F32  #: ``x ~ codes * values``
    codes: AnyArray  #: in the scale format
    tensor_scale: np.float32  #: the FP32 scale above E4M3 scales, else 1


def group_sizes(granularity: str, shape: tuple[int, ...], axis: int = -1) -> tuple[int, ...]:
    """Return how many elements share a scale along each axis.

    Parameters
    ----------
    granularity : str
        As in `Scaling`.
    shape : tuple of int
        Shape of the array; at least one axis.
    axis : int
        The reduction axis, along which groups run.

    Returns
    -------
    tuple of int
        One size per axis, at most the length of the axis.

    Raises
    ------
    ValueError
        If the axis does not exist, or blocks of rows are asked of a vector.

    Examples
    --------
    >>> group_sizes("128x128", (300, 1000)), group_sizes("1x128", (7168, 2048), axis=0)
    ((128, 128), (128, 1))
    """
    rows, columns = _parse_granularity(granularity)
    ndim, axis = len(shape), checks.whole_number(axis, "axis")
    if ndim == 0:
        raise ValueError("a scale needs an array of at least one axis, got a single number")
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} does not exist in shape {shape}; use {-ndim} to {ndim - 1}")
    if columns == 0:  # the whole tensor
        return tuple(max(size, 1) for size in shape)
    axis %= ndim
    sizes = [1] * ndim
    sizes[axis] = max(1, min(columns, shape[axis]))
    if rows > 1:
        if ndim == 1:
            raise ValueError(f"granularity {granularity!r} needs two axes, got shape {shape}")
        across = ndim - 1 if axis != ndim - 1 else ndim - 2
        sizes[across] = max(1, min(rows, shape[across]))
    return tuple(sizes)


def scales_shape(granularity: str, shape: tuple[int, ...], axis: int = -1) -> tuple[int, ...]:
    """Return the shape of the scales: the number of groups along each axis.

    Examples
    --------
    >>> scales_shape("1x128", (64, 7168)), scales_shape("128x128", (7168, 2112), axis=0)
    ((64, 56), (56, 17))
    """
    sizes = group_sizes(granularity, shape, axis)
    return tuple(-(-length // size) for length, size in zip(shape, sizes, strict=True))


def group_amax(x: FloatArray, sizes: tuple[int, ...]) -> FloatArray:
    """Return the largest magnitude of each group, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> group_amax(np.array([[1.0, -3.0, 2.0, 0.5, -0.25]]), (1, 2))
    array([[3.  , 2.  , 0.25]])
    """
    amax: FloatArray = np.abs(x)
    for axis, size in enumerate(sizes):
        if size > 1 and amax.size:
            amax = np.maximum.reduceat(amax, np.arange(0, amax.shape[axis], size), axis=axis)
    return amax


def expand_groups(per_group: AnyArray, sizes: tuple[int, ...], shape: tuple[int, ...]) -> AnyArray:
    """Repeat one number per group over the elements of the group.

    Examples
    --------
    >>> import numpy as np
    >>> expand_groups(np.array([[1.0, 2.0]]), (1, 3), (1, 5))
    array([[1., 1., 1., 2., 2.]])
    """
    for axis, (size, length) in enumerate(zip(sizes, shape, strict=True)):
        if per_group.shape[axis] == 1 and length:
            continue  # broadcasting repeats it
        if size > 1:
            per_group = np.repeat(per_group, size, axis=axis).take(np.arange(length), axis=axis)
    return np.broadcast_to(per_group, shape)


def pick_scales(amax: FloatArray, fmt: FloatFormat, scaling: Scaling) -> Scales:
    """Pick the scale of each group from its largest magnitude.

    Parameters
    ----------
    amax : array of float32 or float64
        Largest magnitude of each group; the division by ``fmt.max`` is done in its dtype.
    fmt : FloatFormat
        Format of the elements.
    scaling : Scaling
        The scale format, the rule and the floor.

    Returns
    -------
    Scales
        Multipliers in float32, all positive (E4M3 scales may underflow to zero, as they do on a
        GPU), and their codes. A group of zeros gets the scale 1, or the smallest of E8M0.

    Raises
    ------
    ValueError
        If a scale is too large for its format.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> e4m3 = fp8sim.get_format("e4m3")
    >>> pick_scales(np.array([896.0, 0.0]), e4m3, Scaling()).values
    array([2., 1.], dtype=float32)
    >>> pick_scales(np.array([900.0]), e4m3, Scaling(scale_format="e8m0")).values
    array([4.], dtype=float32)
    """
    amax = np.maximum(amax, amax.dtype.type(scaling.amax_floor))
    if scaling.scale_format == "e4m3":
        return _nvfp4_scales(amax, fmt)
    if scaling.scale_rule == "amax":
        values = _positive_fp32(amax / amax.dtype.type(fmt.max), amax)
    else:
        values = _power_of_two(amax, fmt, scaling)
    codes = encode(values, scaling.scale_format)
    return Scales(values, codes, np.float32(1))


def _nvfp4_scales(amax: FloatArray, fmt: FloatFormat) -> Scales:
    """E4M3 scales under one FP32 scale, so that the largest of them is 448 (TransformerEngine)."""
    dtype = amax.dtype.type
    top = amax.max(initial=0)
    tensor = _positive_fp32(np.asarray(top / dtype(fmt.max * FORMATS["e4m3"].max)), np.asarray(top))
    codes = encode(amax / dtype(fmt.max) / dtype(tensor), "e4m3")
    return Scales(decode(codes, "e4m3") * tensor, codes, np.float32(tensor))


def _power_of_two(amax: FloatArray, fmt: FloatFormat, scaling: Scaling) -> F32:
    """Powers of two, held in the range of E8M0."""
    positive = np.where(amax > 0, amax, 1)
    if scaling.scale_rule == "ceil":  # compare significands: amax = s 2^e against max = t 2^emax
        exponent = floor_log2(positive) - fmt.emax
        over = np.frexp(positive)[0] > math.frexp(fmt.max)[0]
        exponent = exponent + over
    else:
        exponent = floor_log2(positive) - fmt.emax
        if scaling.scale_rule == "even":  # amax = s 2^e with 1/2 <= s < 1, which may round up to 1
            bits = FloatFormat("significand", 8, fmt.mantissa_bits, subnormals=False)
            significand = np.frexp(positive)[0].astype(np.float64)
            exponent = exponent + (round_exact(significand, bits, "nearest-even") == 1)
    if exponent.size and exponent.max() > 127:
        raise ValueError(f"amax {amax.max():g} needs a scale above 2^127, the largest of E8M0")
    exponent = np.where(amax > 0, np.maximum(exponent, -127), -127)
    return np.asarray(np.ldexp(np.float32(1), exponent))


def _positive_fp32(scale: FloatArray, amax: FloatArray) -> F32:
    """Round scales to FP32, 1 for a group of zeros, and never zero or infinite."""
    with np.errstate(over="ignore"):
        rounded = scale.astype(np.float32)
    if np.isinf(rounded).any():
        raise ValueError(f"amax {amax.max():g} needs a scale beyond FP32; divide the array first")
    return np.where(amax > 0, np.maximum(rounded, np.float32(_TINY)), np.float32(1))


def _parse_granularity(text: str) -> tuple[int, int]:
    """Return (rows, columns) of a group; 0 columns for the whole tensor."""
    match text:
        case "tensor" | "none":
            return 0, 0
        case "row":
            return 1, np.iinfo(np.int64).max
    found = _BLOCK.fullmatch(text) if isinstance(text, str) else None
    if not found:
        names = ("tensor", "row", "1x128", "128x128", "1x32", "1x16", "none")
        raise ValueError(checks.unknown("granularity", text, names) + " (or any RxC)")
    return int(found[1]), int(found[2])
