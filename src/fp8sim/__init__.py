"""Emulate FP16, BF16 and FP8 matrix multiplies bit for bit, and measure what FP8 saves and costs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fp8sim import metrics
    from fp8sim._support.threads import set_num_threads
    from fp8sim.anatomy import explain
    from fp8sim.casts import decode, encode, round_to
    from fp8sim.costs import gemm_cost
    from fp8sim.experiments.audit import Audit, audit
    from fp8sim.experiments.claims import claims
    from fp8sim.experiments.comparison import Comparison, compare
    from fp8sim.experiments.gpu import check_gpu
    from fp8sim.experiments.kv_cache import attention
    from fp8sim.experiments.sweeps import Sweep, sweep
    from fp8sim.formats import FORMATS, FloatFormat, get_format
    from fp8sim.gemm import matmul
    from fp8sim.models import ModelCost, ServingCost, model_cost, serving_cost
    from fp8sim.play import play
    from fp8sim.quantization import Operand, Quantized, Scaling, quantize
    from fp8sim.recipes import RECIPES, Recipe, get_recipe
    from fp8sim.tensor_cores import TENSOR_CORES, TensorCore, tensor_core_matmul

__version__ = "0.1.0"

#: Module -> what is taken from it on first use, as for a type checker above.
_HOMES = {
    "_support.threads": "set_num_threads",
    "anatomy": "explain",
    "casts": "decode encode round_to",
    "costs": "gemm_cost",
    "experiments.audit": "Audit audit",
    "experiments.claims": "claims",
    "experiments.comparison": "Comparison compare",
    "experiments.gpu": "check_gpu",
    "experiments.kv_cache": "attention",
    "experiments.sweeps": "Sweep sweep",
    "formats": "FORMATS FloatFormat get_format",
    "gemm": "matmul",
    "models": "ModelCost ServingCost model_cost serving_cost",
    "quantization": "Operand Quantized Scaling quantize",
    "recipes": "RECIPES Recipe get_recipe",
    "tensor_cores": "TENSOR_CORES TensorCore tensor_core_matmul",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "FORMATS", "RECIPES", "TENSOR_CORES", "Audit", "Comparison", "FloatFormat", "ModelCost", "Operand",
    "Quantized", "Recipe", "Scaling", "ServingCost", "Sweep", "TensorCore", "attention", "audit",
    "check_gpu", "claims", "compare", "decode", "encode", "explain", "gemm_cost", "get_format",
    "get_recipe", "matmul", "metrics", "model_cost", "play", "quantize", "round_to", "serving_cost",
    "set_num_threads", "sweep", "tensor_core_matmul",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load what is asked for: a function, a class, or a submodule."""
    try:
        if name in _HOME:
            value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        elif name.startswith("_"):
            raise ModuleNotFoundError(name=f"{__name__}.{name}")
        else:
            value = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
