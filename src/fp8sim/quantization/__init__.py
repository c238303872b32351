"""Who shares a scale, how it is picked, and arrays as codes and scales."""

from __future__ import annotations

from fp8sim.quantization.pipeline import Quantized, quantize, quantize_with, round_trip
from fp8sim.quantization.scaling import SCALE_FORMATS, SCALE_RULES, Scales, Scaling

__all__ = [
    "SCALE_FORMATS",
    "SCALE_RULES",
    "Quantized",
    "Scales",
    "Scaling",
    "quantize",
    "quantize_with",
    "round_trip",
]
