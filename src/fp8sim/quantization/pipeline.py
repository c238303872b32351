"""Arrays to codes and scales, and back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fp8sim._support import checks
from fp8sim._support.memory import Allocate, empty
from fp8sim._support.typing import F32, AnyArray, ArrayLike, FloatArray, Overflow
from fp8sim.casts import COMPILED_FROM, decode, encode, overflow_policy, round_to
from fp8sim.formats import FORMATS, FloatFormat, FormatLike, get_format
from fp8sim.quantization.scaling import (
    Scales,
    Scaling,
    expand_groups,
    group_amax,
    group_sizes,
    pick_scales,
    scales_shape,
)
from fp8sim.reference.rounding import round_exact

__all__ = [
    "Quantized",
    "count_beyond",
    "divide",
    "quantize",
    "quantize_reference",
    "quantize_with",
    "round_trip",
]

_NO_SCALE = "a group that holds one has no scale"


@dataclass(frozen=True, eq=False)
class Quantized:
    """An array as codes and scales: ``x ~ codes * scales``, each scale shared by a group.

    Attributes
    ----------
    codes : array of fmt.dtype
        One code per element, in the shape of the array.
    scales : array of float32
        One multiplier per group: the number of groups along each axis is its shape.
    fmt : FloatFormat
        Format of the codes.
    scaling : Scaling
        How the scales were picked.
    axis : int
        The reduction axis, along which groups run.
    scale_codes : array
        The scales as stored, in the scale format.
    tensor_scale : float32
        The FP32 scale above E4M3 scales (included in `scales`), else 1.
    saturated : int
        Elements that were beyond the largest finite value after rounding.
    flushed : int
        Elements other than zero that became zero.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> x = np.random.default_rng(0).standard_normal((256, 512), dtype=np.float32)
    >>> fp8sim.quantize(x, "e4m3", "1x128")
    Quantized((256, 512) e4m3, 1x128 fp32: 135168 bytes, of them 4096 scales; 0 saturated, 0 flushed)
    """

    codes: AnyArray = field(repr=False)
    scales: F32 = field(repr=False)
    fmt: FloatFormat
    scaling: Scaling
    axis: int
    scale_codes: AnyArray = field(repr=False)
    tensor_scale: np.float32
    saturated: int
    flushed: int

    def __repr__(self) -> str:
        """Say what it holds, what it takes and what was lost."""
        return (
            f"Quantized({self.shape} {self.fmt}, {self.scaling}: {self.nbytes} bytes, of them "
            f"{self.scale_nbytes} scales; {self.saturated} saturated, {self.flushed} flushed)"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.codes.shape

    @property
    def sizes(self) -> tuple[int, ...]:
        """Elements that share a scale along each axis."""
        return group_sizes(self.scaling.granularity, self.shape, self.axis)

    @property
    def scale_nbytes(self) -> int:
        """Bytes that the scales take where this is stored."""
        return self.scaling.nbytes(self.shape, self.axis)

    @property
    def nbytes(self) -> int:
        """Bytes that codes and scales take where this is stored, codes packed to their bits."""
        return -(-self.codes.size * self.fmt.bits // 8) + self.scale_nbytes

    def dequantize(self, dtype: type[np.float32] | type[np.float64] = np.float32) -> FloatArray:
        """Return ``codes * scales``.

        Parameters
        ----------
        dtype : {numpy.float32, numpy.float64}
            In float32 each element is rounded once; in float64 it is exact.

        Returns
        -------
        array
            In the shape of the array that was quantised.

        Examples
        --------
        >>> import numpy as np, fp8sim
        >>> fp8sim.quantize(np.array([1.0, 0.3, -0.001]), "e4m3").dequantize()
        array([ 1.000000e+00,  2.857143e-01, -9.765625e-04], dtype=float32)
        """
        scaled = self.scaling.granularity != "none"
        if scaled and dtype == np.float32 and self.codes.size >= COMPILED_FROM and self.fmt.bits <= 16:
            from fp8sim._kernels import quantize as compiled

            bits = self.codes.view(self.fmt.code_dtype)
            return compiled.dequantize(bits, self.scales, self.sizes, self.fmt)
        values: FloatArray = decode(self.codes, self.fmt).astype(dtype, copy=False)
        if not scaled:
            return values
        scales = expand_groups(self.scales.astype(dtype, copy=False), self.sizes, self.shape)
        with np.errstate(over="ignore", under="ignore"):
            product: FloatArray = values * scales
        return product


def quantize(
    x: ArrayLike,
    fmt: FormatLike = "e4m3",
    granularity: str = "tensor",
    *,
    axis: int = -1,
    scale_format: str = "fp32",
    scale_rule: str | None = None,
    amax_floor: float = 0.0,
) -> Quantized:
    """Scale an array by groups and cast it: ``x ~ codes * scales``.

    Parameters
    ----------
    x : array_like
        One axis or more. Division and rounding are done from its own dtype (float32 or float64).
    fmt : str, dtype or FloatFormat
        Format of the elements.
    granularity : str
        ``tensor``, ``row``, ``1x128``, ``128x128``, ``1x32``, ``1x16``, any other ``RxC``, or
        ``none``. Groups run along `axis`; the last one of an axis may be ragged.
    axis : int
        The reduction axis of the product to come: -1 for A (m, k), 0 for B (k, n).
    scale_format : {"fp32", "e8m0", "e4m3"}
        ``e4m3`` scales stand under one FP32 scale of the tensor, ``amax / (448 max)`` (NVFP4).
    scale_rule : {"amax", "ceil", "floor", "even"}, optional
        ``amax`` by default, ``ceil`` for ``e8m0``.
    amax_floor : float
        Smallest amax taken for a group.

    Returns
    -------
    Quantized
        Codes, scales, their bytes, and how many elements saturated or became zero.

    Raises
    ------
    TypeError
        If `x` is no array of real numbers.
    ValueError
        If a name or the axis is unknown, or `x` holds NaN or infinity, which have no scale.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> q = fp8sim.quantize(np.array([[1.0, -2.0, 896.0, 0.0]]), "e4m3", "1x2")
    >>> q.scales
    array([[0.00446429, 2.        ]], dtype=float32)
    >>> q.codes
    array([[224, -448, 448, 0]], dtype='float8_e4m3fn')
    >>> q.dequantize()
    array([[  1.,  -2., 896.,   0.]], dtype=float32)
    """
    return quantize_with(x, fmt, Scaling(granularity, scale_format, scale_rule, amax_floor), axis=axis)


def quantize_with(
    x: ArrayLike, fmt: FormatLike, scaling: Scaling, *, axis: int = -1, what: str = "x"
) -> Quantized:
    """Quantise as `quantize` does, with the options in one `Scaling`; errors call the array `what`.

    Examples
    --------
    >>> quantize_with([1.0, 2.0], "e4m3", Scaling("row")).codes
    array([224, 448], dtype='float8_e4m3fn')
    """
    array, target = checks.as_float(x, what), get_format(fmt)
    if not (target.signed and target.zero):
        raise ValueError(f"{target} has no zero or no sign: it holds scales, not the elements of an array")
    odd = scaling.granularity == "none" and not target.has_nan
    if array.size < COMPILED_FROM or odd:
        return quantize_reference(array, target, scaling, axis=axis, what=what)
    return _quantize_compiled(array, target, scaling, axis, what)


def round_trip(
    x: ArrayLike,
    fmt: FormatLike,
    scaling: Scaling,
    *,
    axis: int = -1,
    what: str = "x",
    allocate: Allocate = empty,
) -> F32:
    """Return ``quantize_with(...).dequantize()`` where no codes need be kept: faster, in less memory.

    What is not changed at all is returned itself, and a large result lies where `allocate` says.

    Examples
    --------
    >>> round_trip([1.0, 0.3, -0.001], "e4m3", Scaling("row"))
    array([ 1.000000e+00,  2.857143e-01, -9.765625e-04], dtype=float32)
    """
    array, target = checks.as_float(x, what), get_format(fmt)
    values: F32 | None = None
    if target.signed and target.zero:
        if scaling.granularity != "none":
            values = _round_trip_compiled(array, target, scaling, axis, what, allocate)
        elif target == FORMATS["fp32"] and array.dtype == np.float32:
            values = array  # as it is
        elif target.has_nan:
            values = round_to(array, target).astype(np.float32, copy=False)
    return (
        quantize_with(array, target, scaling, axis=axis, what=what).dequantize() if values is None else values
    )


def _round_trip_compiled(
    x: FloatArray, fmt: FloatFormat, scaling: Scaling, axis: int, what: str, allocate: Allocate
) -> F32 | None:
    """Do what `_quantize_compiled` does, and decode as it goes; None where codes are needed."""
    if x.size < COMPILED_FROM or x.dtype != np.float32:
        return None
    from fp8sim._kernels import quantize as compiled

    sizes, policy = group_sizes(scaling.granularity, x.shape, axis), _policy(fmt, scaling)
    values: F32 | None = None
    if scaling.scale_format != "e4m3":
        assert scaling.scale_rule is not None
        rule, floor = scaling.scale_rule, scaling.amax_floor
        values = compiled.round_trip(x, sizes, fmt, policy, rule, floor, allocate)
    if values is None:
        scales = _pick_scales(x, sizes, fmt, scaling, what)
        values = compiled.round_trip_scaled(x, scales.values, sizes, fmt, policy, allocate)
    return values


def quantize_reference(
    x: FloatArray, fmt: FloatFormat, scaling: Scaling, *, axis: int = -1, what: str = "x"
) -> Quantized:
    """Quantise step by step in numpy, to be read: what `quantize_with` does for arrays of any size.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> quantize_reference(np.array([1.0, 2.0]), fp8sim.get_format("e4m3"), Scaling("row")).scales
    array([0.00446429], dtype=float32)
    """
    policy = _policy(fmt, scaling)
    if scaling.granularity == "none":
        scaled, scales = x, _no_scales(x.shape, axis)
    else:
        checks.finite(x, what, _NO_SCALE)
        sizes = group_sizes(scaling.granularity, x.shape, axis)
        scales = pick_scales(group_amax(x, sizes), fmt, scaling)
        scaled = divide(x, expand_groups(scales.values, sizes, x.shape))
    codes = encode(scaled, fmt, overflow=policy)
    flushed = int(np.count_nonzero(x)) - int(np.count_nonzero(decode(codes, fmt)))
    return _quantized(codes, scales, fmt, scaling, axis, count_beyond(scaled, fmt), flushed)


def _quantize_compiled(x: FloatArray, fmt: FloatFormat, scaling: Scaling, axis: int, what: str) -> Quantized:
    """Quantise in one pass where scales depend on their own group alone, else in two."""
    from fp8sim._kernels import quantize as compiled

    sizes, policy = group_sizes(scaling.granularity, x.shape, axis), _policy(fmt, scaling)
    done = None
    if scaling.granularity != "none" and scaling.scale_format != "e4m3":
        assert scaling.scale_rule is not None
        done = compiled.quantize(x, sizes, fmt, policy, scaling.scale_rule, scaling.amax_floor)
    if done is not None:
        codes, lost = done.codes, done.lost
        scales = Scales(done.scales, encode(done.scales, scaling.scale_format), np.float32(1))
    elif scaling.granularity == "none":
        scales = _no_scales(x.shape, axis)
        codes, lost = compiled.encode_unscaled(x, fmt, policy)
    else:
        scales = _pick_scales(x, sizes, fmt, scaling, what)
        codes, lost = compiled.encode_scaled(x, scales.values, sizes, fmt, policy)
    return _quantized(codes.view(fmt.dtype), scales, fmt, scaling, axis, lost.saturated, lost.flushed)


def _quantized(
    codes: AnyArray,
    scales: Scales,
    fmt: FloatFormat,
    scaling: Scaling,
    axis: int,
    saturated: int,
    flushed: int,
) -> Quantized:
    return Quantized(
        codes=codes,
        scales=scales.values,
        fmt=fmt,
        scaling=scaling,
        axis=axis,
        scale_codes=scales.codes,
        tensor_scale=scales.tensor_scale,
        saturated=saturated,
        flushed=flushed,
    )


def _pick_scales(
    x: FloatArray, sizes: tuple[int, ...], fmt: FloatFormat, scaling: Scaling, what: str
) -> Scales:
    """Pick the scales in a pass of their own."""
    from fp8sim._kernels.quantize import group_amax as compiled_amax

    amax = compiled_amax(x, sizes)
    if not np.isfinite(amax).all():
        checks.finite(x, what, _NO_SCALE)
    return pick_scales(amax, fmt, scaling)


def _policy(fmt: FloatFormat, scaling: Scaling) -> Overflow:
    """Return what becomes of an overflow: scaled elements saturate, whatever their format."""
    return overflow_policy(fmt, None) if scaling.granularity == "none" else "saturate"


def divide(x: FloatArray, scales: AnyArray) -> FloatArray:
    """Divide by the scales, in the dtype of `x`; a scale that underflowed to zero gives zero.

    Examples
    --------
    >>> divide(np.array([3.0, -3.0]), np.array([2.0, 0.0]))
    array([ 1.5, -0. ])
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        quotient = x / scales.astype(x.dtype, copy=False)
    return np.where(scales == 0, np.copysign(0, x), quotient)


def count_beyond(scaled: FloatArray, fmt: FloatFormat) -> int:
    """Count the finite elements that rounding leaves beyond the largest finite value.

    Examples
    --------
    >>> count_beyond(np.array([464.0, 465.0, np.inf]), get_format("e4m3"))
    1
    """
    candidates = scaled[np.isfinite(scaled) & (np.abs(scaled) > fmt.max)].astype(np.float64)
    return int(np.count_nonzero(round_exact(candidates, fmt, "nearest-even") > fmt.max))


def _no_scales(shape: tuple[int, ...], axis: int) -> Scales:
    ones = np.ones(scales_shape("none", shape, axis), np.float32)
    return Scales(ones, ones, np.float32(1))
