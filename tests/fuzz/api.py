"""Every public function with good arguments, of which some are made bad; frozen classes with bad fields."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import math
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import GenericAlias
from typing import Any

import ml_dtypes
import numpy as np

import fp8sim
from fp8sim._support import checks
from fp8sim.experiments.train import ModelSize, Schedule
from fp8sim.formats import INT8
from fuzz.harness import attempt, category, chance, laid_out, must, must_equal, pick, planted

NOWHERE = Path("/no/such/folder/file")
HAS_TORCH = find_spec("torch") is not None
if HAS_TORCH:
    pass  # before a trial, since it sets variables of the environment

A = np.linspace(-2, 2, 32, dtype=np.float32).reshape(4, 8)
B = np.linspace(-1, 3, 24, dtype=np.float32).reshape(8, 3)
CODES = np.arange(32, dtype=np.uint8).reshape(4, 8)
Q, K = A.reshape(4, 2, 4), np.linspace(-3, 1, 24, dtype=np.float32).reshape(2, 3, 4)
E4M3_A, E4M3_B = fp8sim.round_to(A, "e4m3"), fp8sim.round_to(B, "e4m3")


@functools.cache
def made() -> dict[str, Any]:
    """Make what is good as an argument, and takes time."""
    recipe = fp8sim.get_recipe("deepseek-v3")
    cost = fp8sim.model_cost("deepseek-v3")
    return {
        "quantized a": fp8sim.quantize(A, "e4m3", "1x128", axis=1),
        "quantized b": fp8sim.quantize(B, "e4m3", "1x128", axis=0),
        "recipe": recipe,
        "operand": recipe.a,
        "accumulator": recipe.accumulator,
        "comparison": fp8sim.compare(A, B),
        "model cost": cost,
        "inventory": cost.inventory if hasattr(cost, "inventory") else None,
        "gemm cost": fp8sim.gemm_cost(64, 64, 64),
        "training": importlib.import_module("fp8sim.experiments.train").recorded_training()[0],
        "device": importlib.import_module("fp8sim.costs").get_device("h800"),
        "generator": np.random.default_rng(0),
        "sweep": fp8sim.sweep(pow, {"base": (2,), "exp": (1, 2)}),
    }


#: Function -> good arguments, in the order of its parameters; what stands in `made` is named ``@name``.
CALLS: dict[str, dict[str, Any]] = {
    "fp8sim.round_to": {"x": A, "fmt": "e4m3", "rounding": "toward-zero", "overflow": "ieee", "rng": None},
    "fp8sim.encode": {"x": A, "fmt": "bf16", "rounding": "stochastic", "overflow": None, "rng": "@generator"},
    "fp8sim.decode": {"codes": CODES, "fmt": "e5m2"},
    "fp8sim.get_format": {"fmt": "e4m3"},
    "fp8sim.sweep": {"measure": pow, "grid": {"base": (2,), "exp": (1, 2)}, "executor": None},
    "fp8sim.audit": {
        "source": NOWHERE, "recipes": ("mxfp8",), "executor": None, "out": None, "activations": None, "tokens": 2,
        "seed": 0, "embeddings": False, "keep": (), "headers_only": True,
    },
    "fp8sim.get_recipe": {"name": "mxfp8"},
    "fp8sim.quantize": {
        "x": A, "fmt": "e4m3", "granularity": "1x4", "axis": -1, "scale_format": "fp32", "scale_rule": "amax",
        "amax_floor": 1e-4, "rounding": "nearest-even", "rng": None,
    },
    "fp8sim.matmul": {"a": A, "b": B, "recipe": "deepseek-v3", "output": "bf16"},
    "fp8sim.tensor_core_matmul": {
        "a": E4M3_A, "b": E4M3_B, "core": "hopper-fp8", "c": np.zeros((4, 3)), "promote_every": 32,
        "scales": None, "a_format": "e4m3", "b_format": "e4m3",
    },
    "fp8sim.compare": {"a": A, "b": B, "recipes": ("bf16", "mxfp8"), "baseline": "bf16", "device": "h100", "bounds": True},
    "fp8sim.attention": {
        "q": Q, "k": K, "v": K, "kv": "fp8", "scales": "calibrated", "granularity": "head",
        "calibration": (K, K), "q_format": None, "p_format": "e4m3", "accumulator": "fp32", "causal": True,
        "softmax_scale": 0.5, "block": 2,
    },
    "fp8sim.explain": {"x": 0.3, "fmt": "e4m3", "rounding": "nearest-even", "overflow": None, "rng": None},
    "fp8sim.gemm_cost": {"m": 64, "n": 32, "k": 128, "recipe": "deepseek-v3", "device": "h800"},
    "fp8sim.model_cost": {
        "model": "deepseek-v3", "recipe": "deepseek-v3", "seq_len": 4096, "batch": 1, "phase": "training",
        "device": "h800", "baseline": "bf16", "causal": None, "absorbed": None,
    },
    "fp8sim.serving_cost": {
        "model": "llama-3.1-8b", "recipe": "fp8-row", "device": "h100", "devices": 2, "batch": 8, "context": 100,
        "kv": "fp8", "plan": None, "reserve": 0.1,
    },
    "fp8sim.accumulators.exact_dot": {"x": A[0], "y": B[:, 0]},
    "fp8sim.accumulators.get_accumulator": {"accumulator": "hopper-fp8/128"},
    "fp8sim.accumulators.sum_error_bound": {"a": "@quantized a", "b": "@quantized b", "accumulator": "@accumulator"},
    "fp8sim.anatomy.explain_block": {
        "x": A[0], "fmt": "e4m3", "granularity": "tensor", "axis": -1, "scale_format": "fp32",
        "scale_rule": None, "amax_floor": 0.0, "group": None,
    },
    "fp8sim.anatomy.explain_dot": {
        "a": E4M3_A[0], "b": E4M3_B[:, 0], "core": "hopper-fp8", "c": 1.0, "promote_every": 32,
        "scales": None, "a_format": "e4m3", "b_format": None,
    },
    "fp8sim.checkpoints.open_checkpoint": {"source": NOWHERE},
    "fp8sim.checkpoints.read_array": {"path": NOWHERE},
    "fp8sim.checkpoints.write_quantized": {
        "source": NOWHERE, "out": NOWHERE, "recipe": "fp8-row", "keep": "*.weight", "force": False, "shard_bytes": 1000,
        "executor": None, "on_tensor": None,
    },
    "fp8sim.costs.formats_class": {"a": fp8sim.get_format("e4m3"), "b": fp8sim.get_format("bf16")},
    "fp8sim.costs.get_device": {"name": "h800"},
    "fp8sim.costs.operand_class": {"recipe": "@recipe"},
    "fp8sim.costs.traffic": {"operand": "@operand", "shape": (64, 128), "axis": -1},
    "fp8sim.gemm.multiply_quantized": {"a": "@quantized a", "b": "@quantized b", "recipe": "@recipe"},
    "fp8sim.gemm.quantize_both": {"a": A, "b": B, "recipe": "@recipe"},
    "fp8sim.gemm.round_output": {"sums": A, "fmt": "bf16"},
    **{
        f"fp8sim.metrics.{name}": {"x": A, "reference": A + np.float32(0.25)}
        for name in (
            "cosine_similarity", "max_abs_error", "max_relative_error", "relative_error", "row_error_spread",
            "row_errors", "sqnr_db", "ordinary_channel_error",
        )
    },
    "fp8sim.play": {"part": "block"},
    "fp8sim.metrics.calc_diff": {"x": A, "y": A + np.float32(0.25)},
    "fp8sim.metrics.outlier_channels": {"x": A, "limit": 5.0},
    "fp8sim.metrics.ulp_error": {"x": A, "reference": A + np.float32(0.25), "fmt": "e4m3"},
    "fp8sim.models.check_model": {"model": "deepseek-v3"},
    "fp8sim.models.check_serving": {"model": "llama-3.1-8b"},
    "fp8sim.models.get_model": {"model": "llama-3.1-8b"},
    "fp8sim.quantization.group_sizes": {"granularity": "1x128", "shape": (300, 1000), "axis": -1},
    "fp8sim.quantization.scales_shape": {"granularity": "1x128", "shape": (300, 1000), "axis": -1},
    "fp8sim.quantization.quantize_with": {"x": A, "operand": "@operand", "axis": -1, "rounding": "nearest-even", "rng": None},
    "fp8sim.quantization.round_trip": {"x": A, "operand": "@operand", "axis": -1},
    "fp8sim.tensor_cores.get_tensor_core": {"name": "hopper-fp8"},
    "fp8sim.tensor_cores.split_interval": {"core": "hopper-fp8/128", "promote_every": None},
    "fp8sim.tensor_cores.promoted_matmul": {
        "a": E4M3_A, "b": E4M3_B, "core": "hopper-fp8", "promote_every": 32,
        "a_scales": np.ones((4, 1), np.float32), "b_scales": np.ones((1, 3), np.float32),
    },
    "fp8sim.tensor_cores.tensor_core_matmul_reference": {"a": E4M3_A, "b": E4M3_B, "core": "hopper-fp8"},
    "fp8sim.training.get_training_recipe": {"name": "deepseek-v3"},
    "fp8sim.experiments.data.llm_like_activations": {"m": 8, "k": 16, "rng": "@generator"},
    "fp8sim.experiments.data.outlier_channel_activations": {"m": 8, "k": 16, "rng": "@generator", "size": 50.0},
    "fp8sim.experiments.data.attention_tensors": {
        "heads": 4, "kv_heads": 2, "queries": 2, "keys": 3, "head_dim": 4, "outlier": 50.0, "seed": 0,
    },
    "fp8sim.experiments.data.generated_matrices": {"kind": "laplace", "m": 8, "n": 4, "k": 16, "seed": 0},
    "fp8sim.experiments.data.llm_like_matrices": {"m": 8, "n": 4, "k": 16, "seed": 0},
    "fp8sim.experiments.data.weight_matrices": {"weight": A, "name": "w", "m": 8, "seed": 0},
    "fp8sim.experiments.gradient_outliers.gradient_outliers": {
        "recipes": ("bf16",), "spreads": (0.0, 1.0), "tokens": 16, "width": 16, "seed": 0,
    },
    "fp8sim.experiments.gradient_outliers.token_gradients": {"tokens": 8, "width": 8, "decades": 1.0, "rng": "@generator"},
    "fp8sim.report.check_target": {"path": NOWHERE, "such_as": "report.html"},
}  # fmt: skip
if find_spec("matplotlib"):
    CALLS |= {
        "fp8sim.plotting.code_histogram": {"x": A, "fmt": "e4m3"},
        "fp8sim.plotting.cost_bars": {"cost": "@comparison", "quantity": "bytes"},
        "fp8sim.plotting.flop_bars": {"costs": "@model cost"},
        "fp8sim.plotting.error_against_k": {
            "a": E4M3_A, "b": E4M3_B, "core": "hopper-fp8", "promote_every": (None, 32), "lengths": (4, 8),
        },
        "fp8sim.plotting.number_lines": {"formats": ("e4m3", "e5m2"), "scale": "linear", "limit": 8.0},
        "fp8sim.plotting.roofline": {"costs": "@gemm cost"},
        "fp8sim.plotting.rounding_error": {"formats": ("e4m3", "fp16"), "rounding": "nearest-even"},
        "fp8sim.plotting.sweep_curves": {"result": "@sweep", "x": "exp", "y": "value", "by": None},
        "fp8sim.plotting.sqnr_against_scale": {"x": A, "formats": ("e4m3",), "reach": None},
        "fp8sim.plotting.training_curves": {"result": "@training", "what": "error", "seed": None},
    }  # fmt: skip
#: Public functions that have no row: what changes the process, takes minutes, or has a category of its own.
LEFT_OUT = {
    "fp8sim.set_num_threads", "fp8sim.check_gpu", "fp8sim.claims", "fp8sim.experiments.claims.claims", "fp8sim.experiments.train.train",
    "fp8sim.experiments.claims.count_parts", "fp8sim.experiments.train.recorded_training", "fp8sim.experiments.train.failing_training",
    "fp8sim.experiments.data.real_matrices", "fp8sim.experiments.data.sample_model_path",
    "fp8sim.experiments.embeddings.embed_sentences", "fp8sim.experiments.embeddings.sentences",
    "fp8sim.report.html_report", "fp8sim.report.verdict_svg", "fp8sim.report.write_report",
    "fp8sim.report.audit_page", "fp8sim.report.write_audit",
    "fp8sim.models.inventory", "fp8sim.pytorch.conversion", "fp8sim.pytorch.convert", "fp8sim.pytorch.linear",
    "fp8sim.pytorch.emulated_layers",
}  # fmt: skip


def good(name: str) -> dict[str, Any]:
    """Return the good arguments of a function."""
    return {
        key: made()[value[1:]] if isinstance(value, str) and value.startswith("@") else value
        for key, value in CALLS[name].items()
    }


def find(name: str) -> Callable[..., Any]:
    """Return a function by its whole name."""
    module, _, function = name.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


class Odd:
    """An object that says what it is in two lines, and cannot be compared."""

    def __repr__(self) -> str:
        return "Odd\n\x1b[31mtwo lines"

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    __hash__ = None  # type: ignore[assignment]


class Raising:
    """An object that is no array, although it says so."""

    def __array__(self, *_: object, **__: object) -> Any:
        raise RuntimeError("no array\nafter all")


def itself() -> list[Any]:
    """Return a list that holds itself."""
    x: list[Any] = []
    x.append(x)
    return x


@functools.cache
def garbage() -> tuple[tuple[str, Callable[[], Any]], ...]:
    """Return what nobody should pass, each made anew."""
    some: dict[str, Callable[[], Any]] = {repr(x)[:40]: (lambda x=x: x) for x in (
        None, True, 0, 1, 3, -1, 7, 2**31, 2**53 + 1, 2**63, 2**64, 10**400, -(10**400), 0.5, -0.5, math.nan, math.inf,
        -math.inf, 1e300, 5e-324, 1j, "", "e4m3", "nonsense", "tensor", "fp32", "bf16", "1x128", "0x5", "1x99999999999",
        "hopper-fp8/0", "hopper-fp8/33", "hopper-fp8/\u0663", "\x1b[31mred", "a\nb", "a" * 5000, "\ud800", "\0", "None",
        b"abc", (), [], {}, set(), Fraction(1, 3), Decimal("0.3"), np.float32(1), np.float64("nan"), np.int64(3),
        np.bool_(True), np.uint8(200), int, np.float32, object, range(3), Ellipsis, NotImplemented, NOWHERE,
        Path("/dev/zero"), Path(), INT8, ("e4m3", 3), (1, 2, 3), (-1, 4), (2**40, 2**40), (0, 0), ("bf16", "bf16"),
        [None], ["e4m3"], [[1.0], [1.0, 2.0]], [[]], [math.nan], {"a": 1}, {"e4m3"}, "ieee", "saturate", "recipe",
        "stochastic",
    )}  # fmt: skip
    some |= {
        "odd": Odd, "raising": Raising, "itself": itself, "deep": lambda: functools.reduce(lambda x, _: [x], range(200), 1.0),
        "lambda": lambda: lambda *_: 0, "iterator": lambda: iter([1.0, 2.0]),
        "generator": lambda: np.random.default_rng(0), "old generator": lambda: np.random.RandomState(0),
        "object array": lambda: np.array([1.0, None]), "object matrix": lambda: np.full((4, 8), None),
        "strings": lambda: np.array(["a", "b"]), "bytes": lambda: np.array([b"a"]), "void": lambda: np.zeros(3, "V5"),
        "dates": lambda: np.array(["2024-12-26"], "datetime64[D]"), "record": lambda: np.zeros(2, [("a", "f4")]),
        "complex": lambda: A.astype(complex), "bool array": lambda: A > 0, "number array": lambda: np.array(1.5),
        "empty": lambda: np.zeros(0), "no rows": lambda: np.zeros((0, 8)), "no columns": lambda: np.zeros((4, 0)),
        "cube": lambda: np.ones((2, 4, 8)), "32 axes": lambda: np.ones((1,) * 32), "nan array": lambda: A * np.float32(np.nan),
        "infinite": lambda: np.where(A > 1, np.float32(np.inf), A), "huge array": lambda: A.astype(float) * 1e300,
        "largest": lambda: np.where(A > 0, 3.4e38, -3.4e38).astype(np.float32), "zeros": lambda: A * 0,
        "tiny": lambda: A * np.float32(1e-44), "tiny64": lambda: A.astype(float) * 1e-310, "big ints": lambda: np.full((4, 8), 2**60 + 1),
        "uint64": lambda: np.full((4, 8), 2**64 - 1, np.uint64), "int8": lambda: np.full((4, 8), -128, np.int8),
        "long double": lambda: A.astype(np.longdouble) / 3, "fp8": lambda: A.astype(ml_dtypes.float8_e4m3fn),
        "int4": lambda: np.ones((4, 8), ml_dtypes.int4), "e8m0": lambda: np.ones((4, 8), ml_dtypes.float8_e8m0fnu),
        "uint32": lambda: np.full((4, 8), 2**32 - 1, np.uint32), "masked": lambda: np.ma.masked_array(A, A > 0),
        "masked one": lambda: np.ma.masked, "signalling": lambda: np.full((4, 8), 0x7F800001, np.uint32).view(np.float32),
        "signalling64": lambda: np.full((4, 8), 0x7FF0000000000001, np.uint64).view(np.float64),
        "signalling16": lambda: np.full((4, 8), 0x7C01, np.uint16).view(np.float16),
        "memory": lambda: memoryview(b"12345678"), "other shape": lambda: np.ones((8, 4)), "vector": lambda: np.ones(8),
        "swapped": lambda: A.astype(">f4"), "format": lambda: fp8sim.get_format("e5m2"), "core": lambda: fp8sim.TENSOR_CORES["volta-fp16"],
        "recipe object": lambda: made()["recipe"], "quantized": lambda: made()["quantized a"], "scaling": lambda: fp8sim.Scaling("row"),
        "pair of arrays": lambda: (np.ones((4, 1)), np.ones((1, 3))), "model cost": lambda: made()["model cost"],
    }  # fmt: skip
    if hasattr(np.dtypes, "StringDType"):
        some["variable strings"] = lambda: np.array(["a"], np.dtypes.StringDType())
    if HAS_TORCH:
        import torch

        some |= {
            "grad": lambda: torch.tensor(A.tolist(), requires_grad=True), "conjugate": lambda: torch.ones(4, 8, dtype=torch.complex64).conj(),
            "negative": lambda: torch.ones(4, 8, dtype=torch.complex64).conj().imag, "sparse": lambda: torch.eye(4).to_sparse(),
            "meta": lambda: torch.ones(4, 8, device="meta"), "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            "quint8": lambda: torch.quantize_per_tensor(torch.ones(4, 8), 0.1, 0, torch.quint8), "torch dtype": lambda: torch.float8_e4m3fn,
            "torch bf16": lambda: torch.ones(4, 8, dtype=torch.bfloat16), "torch bool": lambda: torch.ones(4, 8, dtype=torch.bool),
            "parameter": lambda: torch.nn.Parameter(torch.ones(4, 8)), "list of tensors": lambda: [torch.ones(3), torch.ones(3)],
            "list of grads": lambda: [torch.ones(3, requires_grad=True)] * 2, "inference": lambda: torch.inference_mode()(torch.ones)(4, 8),
            "zero tensor": lambda: torch._efficientzerotensor((4, 8)), "torch int4": lambda: torch.ones(4, 8, dtype=torch.uint16),
        }  # fmt: skip
    return tuple(some.items())


def bad(rng: np.random.Generator) -> Any:
    """Draw what nobody should pass."""
    with warnings.catch_warnings():  # of torch and numpy, for what they make here
        warnings.simplefilter("ignore")
        return pick(rng, garbage())[1]()


def _no_checks() -> AbstractContextManager[Any]:
    return planted(checks, "as_array", lambda x, what="x": np.asarray(x))


@category("every public function with bad arguments", few=400, plant=_no_checks)
def api(rng: np.random.Generator, folder: Path) -> None:
    """Call a function whose arguments are good but for one or a few."""
    name = pick(rng, CALLS)
    arguments = good(name)
    for key in rng.permutation(list(arguments))[: int(pick(rng, (1, 1, 1, 2, 3)))]:
        arguments[str(key)] = bad(rng)
    made()["generator"].bit_generator.state = np.random.default_rng(0).bit_generator.state
    try:
        result, refusal = attempt(find(name), **arguments)
        if refusal is None:
            _look(result)
    finally:
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close("all")


def _look(result: Any) -> None:
    """Print a result, and its data, as a user would."""
    must(isinstance(repr(result), str), "no repr")
    if hasattr(result, "parts"):
        str(result)
    if hasattr(result, "to_dict"):
        result.to_dict()


# --- other objects of the same values ---------------------------------------------------------------------

TAKE_ARRAYS = {
    name: [key for key, value in row.items() if isinstance(value, np.ndarray) and value.dtype == np.float32]
    for name, row in CALLS.items()
    if not name.startswith("fp8sim.plotting")
}


def disguised(rng: np.random.Generator, x: Any) -> Any:
    """Return the same values as another object."""
    ways = ["layout", "layout", "list", "tuple", "float64", "longdouble", "subclass", "number list", "memory"]
    match pick(rng, ways + ["tensor", "parameter", "view", "numpy scalars"] * HAS_TORCH):
        case "list":
            return x.tolist()
        case "tuple":
            return tuple(x) if x.ndim == 1 else tuple(tuple(row) for row in x.tolist())
        case "longdouble":
            return x.astype(np.longdouble)
        case "float64":
            return laid_out(rng, x.astype(np.float64))
        case "subclass":
            return x.view(type("Own", (np.ndarray,), {}))
        case "number list":
            return [list(map(np.float32, row)) if x.ndim > 1 else np.float32(row) for row in x]
        case "memory":
            return memoryview(np.ascontiguousarray(x))
        case "tensor" | "view" | "parameter" as kind:
            import torch

            tensor = torch.from_numpy(np.array(x))
            if kind == "view" and x.ndim > 1:
                return tensor.mT.contiguous().mT
            return torch.nn.Parameter(tensor) if kind == "parameter" else tensor
    return laid_out(rng, x)


def _no_detach() -> AbstractContextManager[Any]:
    whole = checks.as_array
    return planted(
        checks,
        "as_array",
        lambda x, what="x": np.abs(whole(x, what)) if isinstance(x, list) else whole(x, what),
    )


@category("the same values in another object give the same result", few=150, plant=_no_detach)
def disguises(rng: np.random.Generator, folder: Path) -> None:
    """Call a function with arrays, and with something that holds the same values."""
    name = pick(rng, [name for name, keys in TAKE_ARRAYS.items() if keys])
    arguments, function = good(name), find(name)
    restart = made()["generator"].bit_generator
    restart.state = np.random.default_rng(0).bit_generator.state
    want = function(**arguments)
    for key in TAKE_ARRAYS[name]:
        if chance(rng, 0.7):
            arguments[key] = disguised(rng, arguments[key])
    if name == "fp8sim.tensor_cores.promoted_matmul":  # whose scales are arrays, and no more
        arguments |= {key: good(name)[key] for key in ("a_scales", "b_scales")}
    restart.state = np.random.default_rng(0).bit_generator.state
    found, refusal = attempt(function, **arguments)
    kinds = {key: type(arguments[key]).__name__ for key in TAKE_ARRAYS[name]}
    must(refusal is None, f"{name} of {kinds} refused: {refusal}")
    if ".metrics." in name:  # sums in float64, whose order is that of memory
        must(np.allclose(found, want, rtol=1e-12, atol=0), f"{name} of {kinds}")
    elif isinstance(want, np.ndarray):
        if want.dtype.kind != "V":
            must_equal(found, want, f"{name} of {kinds}")
        else:
            must(np.asarray(found).tobytes() == want.tobytes(), f"codes of {name} of {kinds}")
    elif isinstance(want, (float, np.generic)):
        must_equal(np.asarray(found), np.asarray(want), f"{name} of {kinds}")


# --- frozen classes ---------------------------------------------------------------------------------------


@functools.cache
def built() -> dict[str, Any]:
    """Make one of every frozen class that users build or change."""
    models, training = importlib.import_module("fp8sim.models"), importlib.import_module("fp8sim.training")
    accumulators = importlib.import_module("fp8sim.accumulators")
    llama, deepseek = models.get_model("llama-3.1-8b"), models.get_model("deepseek-v3")
    flash, parts = models.get_model("deepseek-v4-flash"), importlib.import_module("fp8sim.models.description")
    return {
        "format": fp8sim.get_format("e4m3"), "integers": INT8, "core": fp8sim.TENSOR_CORES["hopper-fp8"],
        "grouped core": fp8sim.TENSOR_CORES["blackwell-nvfp4"], "scaling": fp8sim.Scaling("1x128"),
        "operand": made()["operand"], "recipe": made()["recipe"], "delayed": training.DelayedScaling(),
        "training recipe": training.get_training_recipe("deepseek-v3"), "device": made()["device"],
        "chain": accumulators.OneChain("hopper-fp8"), "promoted": accumulators.get_accumulator("hopper-fp8/128"),
        "sequential": accumulators.get_accumulator("fp32-sequential"), "fp32": accumulators.get_accumulator("fp32"),
        "size": ModelSize(), "schedule": Schedule(), "llama": llama, "attention": llama.attention,
        "latent": deepseek.attention, "stack": llama.stacks[0], "feed-forward": llama.stacks[0].feed_forward,
        "mixture": deepseek.stacks[1].feed_forward, "work": made()["model cost"].work,
        "v4": flash, "compressed": flash.attention, "stored": flash.stored, "index": parts.Index(64, 128, 2048),
        "recurrent": parts.Recurrent(heads=64, key_heads=16, key_dim=128, value_dim=128, kernel=4),
    }  # fmt: skip


@category(
    "frozen classes with a bad field", few=400, plant=lambda: planted(checks, "fields", lambda *_, **__: None)
)
def fields(rng: np.random.Generator, folder: Path) -> None:
    """Change fields of what users build; what is taken must print, hash and equal its copy."""
    whole = built()[pick(rng, built())]
    names = [field.name for field in dataclasses.fields(whole) if field.init]
    changes = {str(name): bad(rng) for name in rng.permutation(names)[: int(pick(rng, (1, 1, 2)))]}
    new, refusal = attempt(dataclasses.replace, whole, **changes)
    if refusal is not None:
        return
    must(repr(new) and str(new), "prints nothing")
    must(
        hash(new) == hash(dataclasses.replace(new)) and new == dataclasses.replace(new), f"a copy of {new!r}"
    )
    for name, value in vars(new).items():
        old = getattr(whole, name)
        if isinstance(old, (bool, int, float, str)) and value is not None and name != "bias":
            same = isinstance(value, type(old)) or (isinstance(old, float) and isinstance(value, int))
            optional = "|" in str(type(whole).__annotations__.get(name, "|"))
            must(same or optional, f"{type(whole).__name__}.{name} is {value!r}")
    if isinstance(new, fp8sim.Recipe):
        attempt(fp8sim.matmul, A, B, new)
    elif isinstance(new, fp8sim.TensorCore):
        attempt(fp8sim.tensor_core_matmul, A, B, new)
    elif isinstance(new, fp8sim.Operand):
        attempt(find("fp8sim.quantization.quantize_with"), A, new)


def uncovered() -> set[str]:
    """Return the public functions that neither have a row nor are left out with a reason."""
    types = ("Bound", "OperandClass", "Specials", "Phase")  # types, which Python calls callable
    names = [
        "accumulators",
        "anatomy",
        "checkpoints",
        "costs",
        "formats",
        "gemm",
        "metrics",
        "models",
        "plotting",
    ]
    names += ["quantization", "recipes", "report", "tensor_cores", "training", "pytorch"]
    names += [
        f"experiments.{n}"
        for n in ("claims", "comparison", "data", "embeddings", "train", "gradient_outliers")
    ]
    missing = set()
    if not find_spec("matplotlib"):  # whose functions have no row then
        names.remove("plotting")
    for module in ["fp8sim", *(f"fp8sim.{name}" for name in names)]:
        with suppress(ModuleNotFoundError):
            there = importlib.import_module(module)
            for name in there.__all__:
                thing = getattr(there, name)
                if (
                    inspect.isclass(thing)
                    or isinstance(thing, GenericAlias)
                    or not callable(thing)
                    or name in types
                ):
                    continue
                full = f"{module}.{name}"
                if full not in CALLS and full not in LEFT_OUT and not _elsewhere(thing):
                    missing.add(full)
    return missing


def _elsewhere(function: Any) -> bool:
    """Whether a function has a row under another name."""
    return any(find(name) == function for name in CALLS)
