"""Operands of a linear layer beyond `quantize`: scales of the past, random rounding, transposed reuse."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32, AnyArray, FloatArray, Overflow, Rounding
from fp8sim.casts import decode, encode
from fp8sim.formats import FloatFormat
from fp8sim.quantization.pipeline import Quantized, count_beyond, divide
from fp8sim.quantization.scaling import expand_groups, group_amax, group_sizes, pick_scales
from fp8sim.recipes import Operand
from fp8sim.training.recipes import DelayedScaling

__all__ = ["DelayedScales", "as_it_is", "quantize_by", "quantize_rounding", "same_codes", "transpose"]


class DelayedScales:
    """The amax histories of one layer under delayed scaling, and the scales that follow from them.

    Parameters
    ----------
    options : DelayedScaling
        Length of the history and margin.

    Examples
    --------
    >>> import fp8sim
    >>> scales = DelayedScales(DelayedScaling(history=2))
    >>> e4m3 = fp8sim.get_format("e4m3")
    >>> float(scales.multiplier("x", e4m3))
    1.0
    >>> scales.push("x", 7.0)
    >>> float(scales.multiplier("x", e4m3))
    64.0
    """

    TENSORS = ("x", "w", "dy")

    def __init__(self, options: DelayedScaling) -> None:
        self.options = options
        self.history: F32 = np.zeros((len(self.TENSORS), options.history), np.float32)  #: the newest first

    def multiplier(self, tensor: str, fmt: FloatFormat) -> np.float32:
        """Return what to multiply a tensor by before the cast; 1 before anything is known."""
        amax = self.history[self.TENSORS.index(tensor)].max()
        if amax == 0:
            return np.float32(1)
        largest = float(np.finfo(np.float32).max)
        return np.float32(min(float(np.float32(fmt.max * 2.0**-self.options.margin)) / float(amax), largest))

    def push(self, tensor: str, amax: float) -> None:
        """Remember the amax of a step."""
        row = self.history[self.TENSORS.index(tensor)]
        row[1:] = row[:-1].copy()
        row[0] = amax


def transpose(x: Quantized) -> Quantized:
    """Return a quantised matrix transposed: the same codes and scales, the other axis summed over.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> q = fp8sim.quantize(np.ones((2, 256), np.float32), "e4m3", "1x128")
    >>> transpose(q).shape, transpose(q).axis, transpose(q).scales.shape
    ((256, 2), 0, (2, 2))
    """
    return dataclasses.replace(
        x, codes=x.codes.T, scales=x.scales.T, scale_codes=x.scale_codes.T, axis=1 - x.axis % 2
    )


def as_it_is(x: F32, operand: Operand, axis: int) -> Quantized:
    """Take a float32 matrix as its own FP32 codes, without a copy."""
    one = np.ones((1, 1), np.float32)
    return Quantized(x, one, operand.fmt, operand.scaling, axis, one, np.float32(1), 0, 0)


def same_codes(first: Operand, second: Operand) -> bool:
    """Whether two operands of one matrix, summed over either axis, have the same codes and scales."""
    if first != second:
        return False
    granularity = first.scaling.granularity
    rows, _, columns = granularity.partition("x")
    return granularity in ("none", "tensor") or (bool(columns) and rows == columns)


def quantize_by(
    x: FloatArray,
    operand: Operand,
    axis: int,
    multiplier: np.float32,
    rounding: Rounding,
    rng: Any,
    what: str = "x",
) -> Quantized:
    """Multiply by one number and cast, as a GPU does with a scale that is known beforehand."""
    checks.finite(x, what, "an amax history would keep it")
    scaled = (x * multiplier).astype(x.dtype, copy=False)
    scale = np.full((1, 1), np.float32(1) / multiplier, np.float32)
    return _as_quantized(x, scaled, operand, axis, scale, scale, np.float32(1), rounding, rng)


def quantize_rounding(
    x: FloatArray, operand: Operand, axis: int, rounding: Rounding, rng: Any, what: str = "x"
) -> Quantized:
    """Do what `quantize_with` does, with another rounding of the codes."""
    if operand.scaling.granularity == "none":
        none = np.ones((1, 1), np.float32)
        return _as_quantized(x, x, operand, axis, none, none, np.float32(1), rounding, rng)
    checks.finite(x, what, "a group that holds one has no scale")
    sizes = group_sizes(operand.scaling.granularity, x.shape, axis)
    scales = pick_scales(group_amax(x, sizes), operand.fmt, operand.scaling)
    scaled = divide(x, expand_groups(scales.values, sizes, x.shape))
    return _as_quantized(
        x, scaled, operand, axis, scales.values, scales.codes, scales.tensor_scale, rounding, rng
    )


def _as_quantized(
    x: FloatArray,
    scaled: FloatArray,
    operand: Operand,
    axis: int,
    scales: F32,
    scale_codes: AnyArray,
    tensor_scale: np.float32,
    rounding: Rounding,
    rng: Any,
) -> Quantized:
    policy: Overflow | None = None if operand.scaling.granularity == "none" else "saturate"
    codes = encode(scaled, operand.fmt, rounding=rounding, overflow=policy, rng=rng)
    kept = np.count_nonzero(decode(codes, operand.fmt))
    return Quantized(
        codes=codes,
        scales=scales,
        fmt=operand.fmt,
        scaling=operand.scaling,
        axis=axis,
        scale_codes=scale_codes,
        tensor_scale=tensor_scale,
        saturated=count_beyond(scaled, operand.fmt),
        flushed=int(np.count_nonzero(x)) - int(kept),
    )
