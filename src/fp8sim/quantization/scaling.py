"""Who shares a scale, what it is stored in, and by which rule it is picked."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fp8sim._support import checks
from fp8sim._support.text import shown
from fp8sim.formats import FORMATS

__all__ = [
    "DIVISIONS", "SCALE_FORMATS", "SCALE_RULES", "Scaling", "group_sizes", "parse_granularity",
    "scales_shape",
]  # fmt: skip

#: scale format -> the rules it can follow, the default first.
SCALE_FORMATS: dict[str, tuple[str, ...]] = {
    "fp32": ("amax", "ceil", "floor", "even"),
    "e8m0": ("ceil", "floor", "even"),
    "e4m3": ("amax", "4over6", "4over6-mse"),
}

#: scale rule -> what it does with the largest magnitude (amax) of a group.
SCALE_RULES: dict[str, str] = {
    "amax": "amax becomes the largest finite value",
    "ceil": "the smallest power of two with which amax does not exceed the largest finite value",
    "floor": "2^(floor(log2 amax) - emax), as in the OCP MX specification: amax may saturate",
    "even": "as floor, of amax rounded to the element's mantissa first",
    "4over6": "amax becomes 6 or 4, whichever errs less by mean absolute error; ties to 6 (NVFP4)",
    "4over6-mse": "as 4over6, by mean squared error",
}

#: division -> how an element meets its scale. All but the first are done in FP32, as on a GPU.
DIVISIONS: dict[str, str] = {
    "divide": "x / scale, one true division (DeepSeek-V3's inference/kernel.py)",
    "reciprocal": "x * (max / amax), the scale amax / max stored (DeepSeek's TileKernels)",
    "te-current": "x * (max / amax), the scale 1 / (max / amax) stored (TransformerEngine)",
    "te-nvfp4": "x * (1 / (block scale * tensor scale)), in TransformerEngine's order of NVFP4",
}

_NORMAL = 2.0**-126, float(np.finfo(np.float32).max)  # normal numbers of FP32
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
    scale_rule : {"amax", "ceil", "floor", "even", "4over6", "4over6-mse"}, optional
        How a scale is picked; ``amax`` by default, ``ceil`` for ``e8m0``.
    amax_floor : float
        Smallest amax taken for a group (DeepSeek: 1e-4).
    division : {"divide", "reciprocal", "te-current", "te-nvfp4"}
        How an element meets its scale, as `DIVISIONS` says.
    amax : float, optional
        Taken for the largest magnitude of the tensor, whatever that is: a static scale, as calibration
        finds it. What is beyond it saturates.
    percentile : float
        What is taken for the largest magnitude of a group: that below or at which so many per cent of its
        magnitudes are, one of them (the nearest rank). What is beyond it saturates. The largest itself where
        that is zero.

    Raises
    ------
    TypeError, ValueError
        If a name is unknown, a rule or a division does not go with the scale format, or a number is none or
        beyond its limits, or goes with nothing here.

    Examples
    --------
    >>> Scaling("1x128", scale_format="e8m0").scale_rule
    'ceil'
    >>> print(Scaling("1x128", division="reciprocal"))
    1x128 fp32 reciprocal
    >>> print(Scaling("tensor", amax=6), "|", Scaling("row", percentile=99.9))
    tensor fp32 amax 6 | row fp32 99.9 %
    """

    granularity: str = "tensor"
    scale_format: str = "fp32"
    scale_rule: str | None = None
    amax_floor: float = 0.0
    division: str = "divide"
    amax: float | None = None
    percentile: float = 100.0

    def __post_init__(self) -> None:
        """Check the names and fill in the rule."""
        parse_granularity(self.granularity)
        checks.one_of(self.scale_format, SCALE_FORMATS, "scale format")
        rules = SCALE_FORMATS[self.scale_format]
        if self.scale_rule is None:
            object.__setattr__(self, "scale_rule", rules[0])
        checks.one_of(self.scale_rule, SCALE_RULES, "scale rule")
        if self.scale_rule not in rules:
            raise ValueError(
                f"{self.scale_format} scales cannot follow the rule {shown(self.scale_rule)}; "
                f"use {' or '.join(map(repr, rules))}"
            )
        if isinstance(self.amax_floor, bool) or not isinstance(self.amax_floor, (int, float, np.floating)):
            raise TypeError(f"amax_floor must be a number, got {shown(self.amax_floor)}")
        if isinstance(self.amax_floor, np.floating):  # float32 has not the limit below
            object.__setattr__(self, "amax_floor", float(self.amax_floor))
        if not 0 <= self.amax_floor <= sys.float_info.max:
            raise ValueError(f"amax_floor must be finite and not negative, got {shown(self.amax_floor)}")
        self._check_division()
        self._check_calibration()

    def _check_calibration(self) -> None:
        """Refuse a given amax or a percentile that is none, or that would change nothing."""
        object.__setattr__(self, "percentile", checks.number(self.percentile, "percentile"))
        if self.amax is not None:
            object.__setattr__(self, "amax", checks.number(self.amax, "amax"))
            checks.within(self.amax, "amax", *_NORMAL)
            for name, least in (("amax_floor", 0.0), ("percentile", 100.0)):
                if getattr(self, name) != least:
                    raise ValueError(f"amax is given, so {name} has nothing to act on; leave one of them out")
            if self.granularity != "tensor":
                raise ValueError(
                    f"amax={self.amax:g} is that of a tensor, and granularity is {shown(self.granularity)}; "
                    "use granularity 'tensor'"
                )
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile must be above 0 and at most 100, got {shown(self.percentile)}")
        if self.percentile < 100 and (self.granularity == "none" or self.four_over_six):
            what = "granularity 'none' has no scales" if self.granularity == "none" else repr(self.scale_rule)
            why = " to pick" if self.granularity == "none" else " picks scales by the largest of a block"
            raise ValueError(f"{what}{why}; leave percentile={self.percentile:g} out")

    def _check_division(self) -> None:
        """Refuse a division that the scales do not go with, and blocks that 4over6 does not know."""
        division = checks.one_of(self.division, DIVISIONS, "division")
        if self.four_over_six and self.granularity not in ("1x16", "16x16"):
            raise ValueError(
                f"the rule {self.scale_rule!r} picks scales for blocks of NVFP4, not {self.granularity!r}; "
                "use granularity '1x16' or '16x16'"
            )
        if division == "divide":
            return
        if self.granularity == "none":
            raise ValueError(f"granularity 'none' has no scales to meet; leave division={division!r} out")
        if (division == "te-nvfp4") != (self.scale_format == "e4m3"):
            wanted = "'e4m3'" if division == "te-nvfp4" else "'fp32' or 'e8m0'"
            raise ValueError(
                f"division {division!r} goes with scale_format {wanted}, not {self.scale_format!r}"
            )
        if division == "te-current" and self.scale_rule != "amax":
            raise ValueError(
                f"division 'te-current' goes with scale_rule 'amax', not {self.scale_rule!r}: "
                "powers of two divide exactly, so leave division out"
            )

    def __str__(self) -> str:
        """Return the scaling in a few words, such as ``1x128 fp32``."""
        if self.granularity == "none":
            return "unscaled"
        rule = "" if self.scale_rule == "amax" else f" {self.scale_rule}"
        division = "" if self.division == "divide" else f" {self.division}"
        share = "" if self.percentile == 100 else f" {self.percentile:g} %"
        amax = "" if self.amax is None else f" amax {self.amax:g}"
        return f"{self.granularity} {self.scale_format}{rule}{division}{share}{amax}"

    @property
    def four_over_six(self) -> bool:
        """Whether each block has two scales to choose from."""
        return self.scale_rule in ("4over6", "4over6-mse")

    @property
    def is_calibrated(self) -> bool:
        """Whether scales are picked from another number than the largest magnitude of their group."""
        return self.amax is not None or self.percentile < 100

    @property
    def in_fp32(self) -> bool:
        """Whether all arithmetic is in FP32, to which float64 elements are rounded first, as for a kernel."""
        return self.division != "divide" or self.four_over_six

    @property
    def scale_bytes(self) -> int:
        """Bytes of one scale."""
        return 0 if self.granularity == "none" else FORMATS[self.scale_format].bits // 8

    def nbytes(self, shape: tuple[int, ...], axis: int = -1) -> int:
        """Return the bytes that the scales of an array of `shape` take.

        Examples
        --------
        >>> Scaling("1x128").nbytes((4096, 7168))
        917504
        """
        count = math.prod(scales_shape(self.granularity, shape, axis))
        above = 4 * (self.scale_format == "e4m3" and self.granularity != "none")  # FP32, of the tensor
        return count * self.scale_bytes + above


def group_sizes(granularity: str, shape: tuple[int, ...], axis: int = -1) -> tuple[int, ...]:
    """Return how many elements share a scale along each axis, at most the length of the axis.

    Groups run along `axis`, the reduction axis of the product to come.

    Examples
    --------
    >>> group_sizes("128x128", (300, 1000)), group_sizes("1x128", (7168, 2048), axis=0)
    ((128, 128), (128, 1))
    """
    rows, columns = parse_granularity(granularity)
    shape = checks.sizes(shape, "shape")
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
            raise ValueError(f"granularity {shown(granularity)} needs two axes, got shape {shape}")
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


class Granularity(NamedTuple):
    """The elements that share a scale: rows across the reduction axis, columns along it."""

    rows: int
    columns: int  #: 0: the whole tensor

    @property
    def is_symmetric(self) -> bool:
        """Whether the groups of a matrix are the same whichever axis is summed over."""
        return self.rows == self.columns


def parse_granularity(text: str) -> Granularity:
    """Read a granularity, the one place that does.

    Examples
    --------
    >>> parse_granularity("1x128"), parse_granularity("tensor").is_symmetric
    (Granularity(rows=1, columns=128), True)
    """
    match text if isinstance(text, str) else None:  # an array would be compared element by element
        case "tensor" | "none":
            return Granularity(0, 0)
        case "row":
            return Granularity(1, np.iinfo(np.int64).max)
    block = _BLOCK.fullmatch(text) if isinstance(text, str) else None
    if not block:
        names = ("tensor", "row", "1x128", "128x128", "1x32", "1x16", "none")
        raise ValueError(checks.unknown("granularity", text, names) + " (or any RxC)")
    return Granularity(int(block[1]), int(block[2]))
