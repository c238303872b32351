"""The one pipeline that quantises: amax of each group, its scale, elements over it, codes, what was lost.

Where a scale depends on its own group alone and codes are rounded to nearest even, compiled code does all
of it in one pass over memory; everything else goes step by step, each step compiled where it can be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fp8sim._support import checks
from fp8sim._support.memory import Allocate, empty
from fp8sim._support.typing import F32, AnyArray, ArrayLike, FloatArray, Overflow, Rounding
from fp8sim.casts import decode, encode, overflow_policy, round_to, worth_compiling
from fp8sim.formats import FormatLike, get_format
from fp8sim.quantization.operand import FP32, Operand
from fp8sim.quantization.quantized import Quantized
from fp8sim.quantization.scaling import Scaling, group_sizes, scales_shape
from fp8sim.reference.scales import Scales, apply_scales, count_beyond, group_amax, pick_scales

__all__ = ["quantize", "quantize_with", "round_trip"]


def quantize(
    x: ArrayLike,
    fmt: FormatLike = "e4m3",
    granularity: str = "tensor",
    *,
    axis: int = -1,
    scale_format: str = "fp32",
    scale_rule: str | None = None,
    amax_floor: float = 0.0,
    rounding: Rounding = "nearest-even",
    rng: np.random.Generator | None = None,
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
    rounding, rng
        Of the elements, as for `round_to`; scales are rounded to nearest.

    Returns
    -------
    Quantized
        Codes, scales, their bytes, and how many elements saturated or became zero.

    Raises
    ------
    TypeError
        If `x` is no array of real numbers, or `rng` is missing where it is needed.
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
    operand = Operand(get_format(fmt), Scaling(granularity, scale_format, scale_rule, amax_floor))
    return quantize_with(x, operand, axis=axis, rounding=rounding, rng=rng)


def quantize_with(
    x: ArrayLike,
    operand: Operand,
    *,
    axis: int = -1,
    rounding: Rounding = "nearest-even",
    rng: np.random.Generator | None = None,
    scales: Scales | None = None,
    what: str = "x",
) -> Quantized:
    """Quantise as `quantize` does, with format and scaling in one `Operand`.

    `scales` are known beforehand (delayed, static), instead of picked ones; errors call the array `what`.

    Examples
    --------
    >>> quantize_with([1.0, 2.0], Operand("e4m3", Scaling("row"))).codes
    array([224, 448], dtype='float8_e4m3fn')
    """
    work = _Work.of(x, operand, axis, what)
    result = work.in_one_pass() if scales is None and rounding == "nearest-even" else None
    if result is None:
        if scales is None:
            scales = work.pick()
        else:
            checks.finite(work.x, what, "it has no scale")
        result = scales, *work.encode(scales, rounding, rng)
    (values, stored, tensor_scale, _), codes, saturated, flushed = result
    return Quantized(
        codes, values, operand.fmt, operand.scaling, axis, stored, tensor_scale, saturated, flushed
    )


def round_trip(
    x: ArrayLike, operand: Operand, *, axis: int = -1, what: str = "x", allocate: Allocate = empty
) -> F32:
    """Return ``quantize_with(...).dequantize()`` where no codes need be kept: faster, in less memory.

    What is not changed at all is returned itself, and a large result lies where `allocate` says.

    Examples
    --------
    >>> round_trip([1.0, 0.3, -0.001], Operand("e4m3", Scaling("row")))
    array([ 1.000000e+00,  2.857143e-01, -9.765625e-04], dtype=float32)
    """
    array = checks.as_float(x, what)
    if operand == FP32 and array.dtype == np.float32:
        return np.asarray(array, dtype=np.float32)
    values: F32 | None = None
    if operand.is_scaled:
        values = _Work.of(array, operand, axis, what).round_trip(allocate)
    elif operand.fmt.has_nan and operand.fmt.signed and operand.fmt.zero:
        values = round_to(array, operand.fmt).astype(np.float32, copy=False)
    return quantize_with(array, operand, axis=axis, what=what).values() if values is None else values


@dataclass(frozen=True)
class _Work:
    """An array on its way through the pipeline."""

    x: FloatArray
    operand: Operand
    sizes: tuple[int, ...]  #: elements that share a scale along each axis
    axis: int
    what: str
    compiled: bool  #: whether the steps are compiled

    @classmethod
    def of(cls, x: ArrayLike, operand: Operand, axis: int, what: str) -> _Work:
        """Check the array and the format."""
        array, fmt = checks.as_float(x, what), operand.fmt
        if not (fmt.signed and fmt.zero):
            raise ValueError(f"{fmt} has no zero or no sign: it holds scales, not the elements of an array")
        sizes = group_sizes(operand.scaling.granularity, array.shape, axis)
        odd = not operand.is_scaled and not fmt.has_nan  # `encode` refuses what such a format has not
        return cls(array, operand, sizes, axis, what, worth_compiling(array.size) and not odd)

    @property
    def policy(self) -> Overflow:
        """What becomes of an overflow: scaled elements saturate, whatever their format."""
        return "saturate" if self.operand.is_scaled else overflow_policy(self.operand.fmt, None)

    @property
    def rule(self) -> tuple[str | None, float]:
        """Scale rule and amax floor, as compiled code takes them."""
        return self.operand.scaling.scale_rule, self.operand.scaling.amax_floor

    @property
    def own_scales(self) -> bool:
        """Whether each scale follows from its own group alone."""
        return self.operand.is_scaled and self.operand.scaling.scale_format != "e4m3"

    def in_one_pass(self) -> tuple[Scales, AnyArray, int, int] | None:
        """Pick scales and encode at once; None where compiled code does not serve this."""
        if not (self.compiled and self.own_scales):
            return None
        from fp8sim._kernels import quantize_driver as compiled

        fmt, scaling = self.operand.fmt, self.operand.scaling
        result = compiled.quantize(self.x, self.sizes, fmt, policy=self.policy, rule=self.rule)
        if result is None:
            return None
        values = result.scales
        stored = values if scaling.scale_format == "fp32" else encode(values, scaling.scale_format)
        return Scales(values, stored), result.codes.view(fmt.dtype), *result.lost

    def pick(self) -> Scales:
        """Pick the scales in a pass of their own."""
        if not self.operand.is_scaled:
            ones = np.ones(scales_shape("none", self.x.shape, self.axis), np.float32)
            return Scales(ones, ones)
        if self.compiled:
            from fp8sim._kernels import quantize_driver as compiled

            amax = compiled.group_amax(self.x, self.sizes)
        else:
            amax = group_amax(self.x, self.sizes)
        if not np.isfinite(amax).all():
            checks.finite(self.x, self.what, "a group that holds one has no scale")
        scaling = self.operand.scaling
        return pick_scales(
            amax,
            self.operand.fmt,
            scale_format=scaling.scale_format,
            scale_rule=scaling.scale_rule,
            amax_floor=scaling.amax_floor,
            encode=encode,
        )

    def encode(
        self, scales: Scales, rounding: Rounding, rng: np.random.Generator | None
    ) -> tuple[AnyArray, int, int]:
        """Return the codes, and how many elements saturated and how many became zero."""
        fmt = self.operand.fmt
        if self.compiled and rounding == "nearest-even" and scales.multipliers is None:
            from fp8sim._kernels import quantize_driver as compiled

            if self.operand.is_scaled:
                codes, lost = compiled.encode_scaled(
                    self.x, scales.values, self.sizes, fmt, policy=self.policy
                )
            else:
                codes, lost = compiled.encode_unscaled(self.x, fmt, policy=self.policy)
            return codes.view(fmt.dtype), *lost
        scaled = apply_scales(self.x, scales, self.sizes) if self.operand.is_scaled else self.x
        codes = encode(scaled, fmt, rounding=rounding, overflow=self.policy, rng=rng)
        flushed = int(np.count_nonzero(self.x)) - int(np.count_nonzero(decode(codes, fmt)))
        return codes, count_beyond(scaled, fmt), flushed

    def round_trip(self, allocate: Allocate) -> F32 | None:
        """Return the values that the codes stand for; None where compiled code does not serve this."""
        if not self.compiled or self.x.dtype != np.float32:
            return None
        from fp8sim._kernels import quantize_driver as compiled

        fmt, values = self.operand.fmt, None
        if self.own_scales:
            values = compiled.round_trip(
                self.x, self.sizes, fmt, policy=self.policy, rule=self.rule, allocate=allocate
            )
        if values is None:
            scales = self.pick().values
            values = compiled.round_trip(
                self.x, self.sizes, fmt, policy=self.policy, scales=scales, allocate=allocate
            )
        return values
