"""Emulate FP16, BF16 and FP8 matrix multiplies bit for bit, and measure what FP8 saves and costs."""

from __future__ import annotations

from fp8sim import metrics
from fp8sim.casts import decode, encode, round_to
from fp8sim.cost import gemm_cost
from fp8sim.experiments.claims import claims
from fp8sim.experiments.comparison import Comparison, compare
from fp8sim.formats import FORMATS, FloatFormat, get_format
from fp8sim.gemm import matmul
from fp8sim.quantization import Quantized, quantize
from fp8sim.recipes import RECIPES, Recipe, get_recipe

__version__ = "0.1.0"

__all__ = [
    "FORMATS",
    "RECIPES",
    "Comparison",
    "FloatFormat",
    "Quantized",
    "Recipe",
    "claims",
    "compare",
    "decode",
    "encode",
    "gemm_cost",
    "get_format",
    "get_recipe",
    "matmul",
    "metrics",
    "quantize",
    "round_to",
]
