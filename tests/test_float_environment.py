"""Bits do not depend on the floating-point environment of the calling thread, and it is left as it was."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

import fp8sim
from fp8sim._support import float_environment
from fp8sim._support.float_environment import default_environment, is_default
from fp8sim._support.products import float_product, norm
from fp8sim._support.threads import run_in_threads
from fp8sim.accumulators import ACCUMULATORS, exact_dot, get_accumulator, sum_error_bound
from fp8sim.anatomy import explain_block, explain_dot
from fp8sim.experiments.data import llm_like_activations
from fp8sim.gemm import quantize_both
from fp8sim.quantization import Operand, round_trip
from fp8sim.training import TRAINING_RECIPES, LinearGemms

on_x86 = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="sets the environment as glibc on x86-64 keeps it",
)

#: What the register of SSE holds beside its default: roundings, and subnormals taken for zero, in and out.
CHANGES = {"upward": 0x4000, "downward": 0x2000, "toward zero": 0x6000, "flush": 0x8040, "out alone": 0x8000}
MXCSR = 7  # which 32-bit word of fenv_t it is


@contextlib.contextmanager
def environment(change: str) -> Iterator[None]:
    """Change the environment of this thread."""
    libm = ctypes.PyDLL("libm.so.6")
    saved, changed = (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()
    libm.fegetenv(saved)
    libm.fegetenv(changed)
    changed[MXCSR] |= CHANGES[change]
    libm.fesetenv(changed)
    try:
        yield
        held = (ctypes.c_uint32 * 8)()
        libm.fegetenv(held)
        status = 0x3F  # flags of what has happened, which nobody asks for
        assert held[MXCSR] & ~status == changed[MXCSR] & ~status, "the caller's environment was changed"
    finally:
        libm.fesetenv(saved)


def _inputs() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((96, 256)) * np.exp2(rng.integers(-149, -60, (96, 256)))
    b = rng.standard_normal((256, 64)) * np.exp2(rng.integers(-80, -20, (256, 64)))
    return a.astype(np.float32), b.astype(np.float32)


A, B = _inputs()
HALF = fp8sim.round_to(A * np.float32(2.0**100), "fp16")
HEADS = (A[:64, :128] * np.float32(2.0**100)).reshape(2, 32, 128)
FEW = A[:3, :32], B[:32, :3]
NEAR = np.nextafter(A, np.float32(1))


def _product(recipe: str, a: Any = A, b: Any = B) -> Callable[[], Any]:
    return lambda: fp8sim.matmul(a, b, recipe)


def _summed(name: str) -> Callable[[], Any]:
    recipe = fp8sim.get_recipe("fp8-row")
    return lambda: get_accumulator(name).multiply(*quantize_both(*FEW, recipe))


def _bound(name: str) -> Callable[[], Any]:
    recipe = fp8sim.get_recipe(name)
    return lambda: sum_error_bound(*quantize_both(*FEW, recipe), recipe.accumulator)


def _trained() -> list[Any]:
    layer = LinearGemms(TRAINING_RECIPES["fp8-delayed"])
    y, saved = layer.forward(A[:32, :64], B[:48, :64])
    return [y, *layer.backward(A[32:64, :48], saved)]


def _attended() -> Any:
    return fp8sim.attention(HEADS, HEADS, HEADS, kv="fp8", p_format="e5m2", block=16, causal=True)


CASTS = {
    f"{name} {fmt} {rounding} {x.size} {x.dtype}": (
        lambda cast=cast, x=x, fmt=fmt, rounding=rounding: cast(
            x, fmt, rounding=rounding, rng=np.random.default_rng(1)
        )
    )
    for name, cast in (("round_to", fp8sim.round_to), ("encode", fp8sim.encode))
    for fmt in ("bf16", "fp16", "e4m3", "e5m2", "e8m0", "tf32")
    for rounding in ("nearest-even", "nearest-away", "toward-zero", "stochastic")
    for x in (np.abs(A), np.abs(A[0, :9]), np.abs(A.astype(np.float64)))
}
QUANTIZED = {
    f"quantize {fmt} {granularity} {scale} {size}": (
        lambda x=A[:size], fmt=fmt, granularity=granularity, scale=scale: _parts(
            fp8sim.quantize(x, fmt, granularity, scale_format=scale)
        )
    )
    for fmt in ("e4m3", "e2m1", "bf16", "int8")
    for granularity, scale in (("1x128", "fp32"), ("1x32", "e8m0"), ("1x16", "e4m3"), ("tensor", "fp32"))
    for size in (2, 96)
}


def _parts(q: Any) -> list[Any]:
    return [
        q.codes,
        q.scales,
        q.dequantize(),
        q.dequantize(np.float64),
        round_trip(A, Operand(q.fmt, q.scaling)),
    ]


WORK: dict[str, Callable[[], Any]] = {
    **CASTS,
    **QUANTIZED,
    **{f"matmul {name}": _product(name) for name in fp8sim.RECIPES},
    **{f"matmul {name}, little": _product(name, *FEW) for name in fp8sim.RECIPES},
    **{f"sums {name}": _summed(name) for name in ACCUMULATORS},
    **{f"bound {name}": _bound(name) for name in ("fp32", "bf16", "deepseek-v3", "nvfp4")},
    "decode": lambda: fp8sim.decode(fp8sim.encode(A, "bf16"), "bf16"),
    "tensor_core_matmul": lambda: fp8sim.tensor_core_matmul(HALF, HALF.T, "hopper-fp16", c=A[:, :96]),
    "promoted": lambda: fp8sim.tensor_core_matmul(HALF[:2], HALF[:2].T, "hopper-fp16/128"),
    "exact_dot": lambda: exact_dot(A[0], A[1]),
    "float_product": lambda: [float_product(A, B), float_product(*FEW)],
    "norm": lambda: norm(A),
    "compare": lambda: fp8sim.compare(A, B, ["nvfp4", "fp8-row"], bounds=True).to_dict(),
    "attention": lambda: [getattr(_attended(), name) for name in ("output", "logits", "exact_output")],
    "explain": lambda: asdict(fp8sim.explain(1e-40, "bf16")),
    "explain_block": lambda: asdict(explain_block(A[0, :32], "e4m3")),
    "explain_dot": lambda: explain_dot(HALF[0, :40], HALF[1, :40], "hopper-fp16").to_dict(),
    "training": _trained,
    "metrics": lambda: [
        fp8sim.metrics.relative_error(A, NEAR),
        fp8sim.metrics.sqnr_db(A, NEAR),
        fp8sim.metrics.ulp_error(A, NEAR, "fp32"),
        fp8sim.metrics.row_errors(A, NEAR),
    ],
    "data": lambda: llm_like_activations(8, 256, np.random.default_rng(2)),
}
#: Public functions that compute no array: what they give comes from counts, names and files.
NO_ARRAYS = {
    "audit",
    "check_gpu",
    "claims",
    "gemm_cost",
    "get_format",
    "get_recipe",
    "model_cost",
    "play",
    "serving_cost",
    "set_num_threads",
    "sweep",
}


def _bits(value: Any) -> list[Any]:
    """Return a result as something to compare, every bit of it."""
    if isinstance(value, (list, tuple)):
        return [_bits(part) for part in value]
    return [value.tobytes() if isinstance(value, (np.ndarray, np.generic)) else repr(value)]


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return {name: _bits(work()) for name, work in WORK.items()}


@on_x86
@pytest.mark.parametrize("change", CHANGES)
def test_bits_are_the_same_whatever_the_caller_has_set(change, expected):
    with environment(change):
        assert not is_default()
        seen = {name: _bits(work()) for name, work in WORK.items()}
    assert [name for name in WORK if seen[name] != expected[name]] == []
    assert is_default()


def test_every_public_function_that_computes_is_among_them():
    called = {name.split()[0] for name in WORK}
    functions = {n for n in fp8sim.__all__ if callable(getattr(fp8sim, n)) and n.islower()}
    assert functions - called == NO_ARRAYS


@on_x86
def test_without_the_guard_bits_differ():
    """The check can fail: the readable casts do depend on the environment."""
    unguarded = fp8sim.round_to.__globals__["_cast"].__wrapped__
    with environment("flush"):
        flushed = unguarded(np.full(3, 2.0**-130), "fp32", "nearest-even", None, None, codes=False)
        flushed = flushed.astype(np.float32)
    assert not np.array_equal(flushed, np.full(3, 2.0**-130, np.float32))


@on_x86
def test_threads_started_under_flush_to_zero_do_not_keep_it():
    code = [(A[i : i + 8],) for i in range(0, 96, 8)]
    with environment("flush"):
        run_in_threads(fp8sim.round_to, [(x, "bf16") for (x,) in code])
    halves = run_in_threads(lambda x: x * np.float32(0.5), code)
    assert np.array_equal(np.concatenate(halves), A * np.float32(0.5))


@on_x86
def test_where_it_cannot_be_changed_nothing_is_computed(monkeypatch):
    monkeypatch.setattr(float_environment, "_libm", lambda: None)
    with environment("flush"), pytest.raises(RuntimeError, match=r"set_flush_denormal\(False\)"):
        fp8sim.round_to([1.0], "e4m3")


@on_x86
def test_an_error_gives_the_environment_back():
    @default_environment
    def fail() -> None:
        raise KeyError("mine")

    with environment("upward"), pytest.raises(KeyError, match="mine"):
        fail()


@pytest.mark.extra
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the torch extra")
def test_a_training_loop_that_flushed_denormals_leaves_no_trace():
    import torch

    x = np.arange(1, 2**18, 3, dtype=np.uint32).view(np.float32)  # subnormals
    want = fp8sim.round_to(x, "bf16", rounding="toward-zero")
    torch.set_flush_denormal(True)
    try:
        under = fp8sim.round_to(x, "bf16", rounding="toward-zero")
    finally:
        torch.set_flush_denormal(False)
    after = fp8sim.round_to(x, "bf16", rounding="toward-zero")
    for seen in (under, after):
        assert np.array_equal(seen.view(np.uint32), want.view(np.uint32))
