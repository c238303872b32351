"""Emulate FP16, BF16 and FP8 matrix multiplies bit for bit, and measure what FP8 saves and costs."""

from __future__ import annotations

from fp8sim import metrics
from fp8sim.anatomy import explain
from fp8sim.casts import decode, encode, round_to
from fp8sim.costs.gemm import gemm_cost
from fp8sim.experiments.claims import claims
from fp8sim.experiments.comparison import Comparison, compare
from fp8sim.formats import FORMATS, FloatFormat, get_format
from fp8sim.gemm import matmul
from fp8sim.models import ModelCost, model_cost
from fp8sim.quantization.pipeline import Quantized, quantize
from fp8sim.recipes import RECIPES, Recipe, get_recipe
from fp8sim.tensor_cores.product import TENSOR_CORES, TensorCore, tensor_core_matmul

__version__ = "0.1.0"

__all__ = [
    "FORMATS",
    "RECIPES",
    "TENSOR_CORES",
    "Comparison",
    "FloatFormat",
    "ModelCost",
    "Quantized",
    "Recipe",
    "TensorCore",
    "claims",
    "compare",
    "decode",
    "encode",
    "explain",
    "gemm_cost",
    "get_format",
    "get_recipe",
    "matmul",
    "metrics",
    "model_cost",
    "quantize",
    "round_to",
    "tensor_core_matmul",
]
