"""Who shares a scale, how it is picked, and arrays as codes and scales."""

from __future__ import annotations

from fp8sim.quantization.conversions import quantize, round_trip
from fp8sim.quantization.operand import FP32, Operand
from fp8sim.quantization.quantized import Quantized, quantize_with
from fp8sim.quantization.scaling import (
    DIVISIONS,
    SCALE_FORMATS,
    SCALE_RULES,
    Scaling,
    group_sizes,
    scales_shape,
)
from fp8sim.reference.scales import Scales

__all__ = [
    "DIVISIONS", "FP32", "SCALE_FORMATS", "SCALE_RULES", "Operand", "Quantized", "Scales",
    "Scaling", "group_sizes", "quantize", "quantize_with", "round_trip", "scales_shape",
]  # fmt: skip
