"""Sums in floating-point formats: the compiled ones against the readable ones, and both against fractions."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import fp8sim
from fp8sim import casts
from fp8sim._support.threads import set_num_threads
from fp8sim.accumulators import Kahan, Pairwise, Sequential
from fp8sim.formats import FORMATS, INT8, FloatFormat
from oracle import LAYOUTS, assert_same, sum_in_sequence
from readable import readable

Array = NDArray[Any]

FP8 = ("e4m3", "e5m2", "e4m3fnuz")
ODD = [
    FloatFormat("e5m0", 5, 0),
    FloatFormat("e4m3-ftz", 4, 3, subnormals=False),
    FloatFormat("e6m9-nan-only", 6, 9, specials="nan-only"),  # beyond its largest value there is NaN
    FloatFormat("e6m9-finite", 6, 9, specials="none"),  # and here nothing
    FloatFormat("unsigned-e4m3", 4, 3, signed=False),
    FloatFormat("tiny-e4m3", 4, 3, bias=140),
    FloatFormat("large-e4m3", 4, 3, bias=-100),
    INT8,
]
SUMS = [Pairwise(), Kahan(), *map(Sequential, [*FORMATS.values(), *ODD])]
NAMES = [sums.name for sums in SUMS]


@pytest.fixture(scope="module")
def kernels() -> Any:
    """The compiled sums; where there is no numba, tests of them are skipped by name."""
    pytest.importorskip("numba")
    from fp8sim._kernels import float_sum_kernels

    return float_sum_kernels


@pytest.fixture(autouse=True)
def compile_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sums of any size run compiled, unless they must be readable."""
    monkeypatch.setattr(casts, "COMPILED_FROM", 0)


def outcome(sums: Any, a: Array, b: Array) -> Array | str:
    """Return the bits of the sums, or the words with which they are refused."""
    try:
        return sums.sum_products(a, b).view(np.uint32)
    except ValueError as error:
        return str(error)


def assert_same_bits(sums: Any, a: Array, b: Array) -> None:
    np.testing.assert_array_equal(outcome(sums, a, b), readable(outcome, sums, a, b))


def numbers(kind: str, shape: tuple[int, ...], rng: np.random.Generator, fmt: FloatFormat) -> Array:
    """Return float32 numbers that are hard to sum in one way or another."""
    plain = rng.standard_normal(shape).astype(np.float32)
    signs = np.copysign(np.float32(1), plain)
    match kind:
        case "any bits":
            bits = rng.integers(0, 2**32, shape, np.uint32)
            return np.where(bits & 0x7F800000 == 0x7F800000, bits ^ 0x40000000, bits).view(np.float32)
        case "specials":
            special = rng.choice(np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38]), shape)
            return np.where(rng.random(shape) < 0.1, special, plain)
        case "ties":  # halves of steps
            return np.ldexp(signs, -rng.integers(0, 2 + fmt.mantissa_bits, shape).astype(np.int32))
        case "integers":
            return rng.integers(-9, 10, shape).astype(np.float32)
        case "near the largest":
            return np.float32(np.sqrt(fmt.max)) * (1 + np.abs(plain) / 8) * signs
        case "subnormal":
            return np.float32(np.sqrt(fmt.smallest_subnormal)) * plain
        case "zeros":
            return rng.choice(np.float32([0.0, -0.0, -1e-45]), shape)
    return plain


KINDS = ("plain", "any bits", "specials", "ties", "integers", "near the largest", "subnormal", "zeros")
shapes = st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(0, 70))


@pytest.mark.parametrize("sums", SUMS, ids=NAMES)
@given(st.integers(0, 2**32), shapes, st.sampled_from(KINDS), st.sampled_from(KINDS))
def test_compiled_sums_are_the_readable_ones(sums, seed, shape, left, right):
    rng, (m, k, n) = np.random.default_rng(seed), shape
    fmt = getattr(sums, "fmt", FORMATS["fp32"])
    a, b = numbers(left, (m, k), rng, fmt), numbers(right, (k, n), rng, fmt)
    assert a.dtype == b.dtype == np.float32
    assert_same_bits(sums, a, b)
    assert_same_bits(sums, b.T, a.T)


@pytest.mark.parametrize("shape", [(70, 130, 515), (3, 1000, 257), (300, 65, 2), (257, 64, 1), (1, 33, 63)])
@pytest.mark.parametrize("sums", [Pairwise(), Kahan(), *map(Sequential, ("fp32", "bf16", "fp16", "e4m3"))])
def test_many_blocks_of_ragged_shapes_and_any_layout(sums, shape, rng):
    m, k, n = shape
    a = rng.standard_normal((m, 2 * k)).astype(np.float32)[:, ::2]
    b = np.asfortranarray(rng.standard_normal((k, n)).astype(np.float32))
    a.flags.writeable = b.flags.writeable = False
    assert_same_bits(sums, a, b)
    try:
        set_num_threads(1)
        alone = sums.sum_products(a, b)
        set_num_threads(3)
        np.testing.assert_array_equal(sums.sum_products(a, b), alone)
    finally:
        set_num_threads(None)


# --- what sums in sequence must be ----------------------------------------------------------------


@st.composite
def products(draw: st.DrawFn) -> tuple[str, Array, Array]:
    """Draw a format and some factors: mostly such as make sums of its own size."""
    name = draw(st.sampled_from(list(LAYOUTS)))
    fmt = FORMATS[name]
    size = draw(st.integers(0, 6))
    own = st.builds(
        lambda s, e: float(np.float32(np.ldexp(s, e))), st.floats(-2, 2, width=32), st.integers(-12, 3)
    )
    steps = st.integers(-4, 4).map(lambda e: float(np.ldexp(1.0, e // 2 - fmt.mantissa_bits)))
    limits = st.sampled_from([fmt.max, -fmt.max, fmt.smallest_subnormal, fmt.smallest_normal])
    specials = st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, 2.0**-149, -(2.0**-149), 1.0, -1.0])
    factors = st.lists(st.one_of(own, steps, limits, specials), min_size=size, max_size=size)
    x, y = (np.array(draw(factors), np.float32) for _ in "ab")
    return name, x[None], y[:, None]


@given(products())
def test_a_sum_in_sequence_is_one_of_fractions_rounded_at_each_step(drawn):
    name, a, b = drawn
    sums, layout = Sequential(name), LAYOUTS[name]
    policy = casts.overflow_policy(FORMATS[name], None)
    expected = sum_in_sequence(a[0], b[:, 0], layout, policy)
    for found in (outcome(sums, a, b), readable(outcome, sums, a, b)):
        if np.isnan(expected) and not layout.has_nan:
            assert f"x holds NaN, and {name} has none" in found
        else:
            assert_same(found.view(np.float32)[0], np.float32([expected]))


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16", "fp16"])
def test_a_sum_that_float64_takes_for_a_tie_is_rounded_once(name):
    # 1 + eps, whose last bit is odd, and half of eps less 2^-46 of it: float64 sees the tie, which goes up.
    eps, u = FORMATS[name].eps, 2.0**-23
    a = np.float32([[1 + eps, eps / 2 * (1 + u)], [1 + eps, eps / 2 * (1 + u)], [1, eps / 2 * (1 + u)]])
    b = np.float32([[1, 1], [1 - u, 1]])
    assert float(a[0, 1]) * float(b[1, 0]) + (1 + eps) == 1 + 1.5 * eps
    expected = np.float32([[1 + eps, 1 + 2 * eps], [1 + eps, 1 + 2 * eps], [1, 1 + eps]])
    for found in (Sequential(name).sum_products(a, b), readable(Sequential(name).sum_products, a, b)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "sums", [sums for sums in SUMS if getattr(sums, "fmt", FORMATS["fp32"]).has_nan], ids=str
)
def test_every_nan_has_one_pattern(sums):
    payload = np.uint32([0xFFC12345]).view(np.float32)
    a = np.concatenate([payload, -payload, np.float32([np.nan])])[:, None]
    for found in (outcome(sums, a, np.ones((1, 2), np.float32)), readable(outcome, sums, a, a.T)):
        np.testing.assert_array_equal(found, 0x7FC00000)


@pytest.mark.parametrize(
    ("fmt", "message"),
    [("e2m1", "x holds NaN, and e2m1 has none"), (ODD[3], "x overflows e6m9-finite")],
)
def test_what_a_format_has_no_code_for_is_refused(fmt, message):
    a, b = np.float32([[np.inf, 1.0]]), np.zeros((2, 1), np.float32)
    if fmt is ODD[3]:
        a, b = np.full((1, 2), fmt.max, np.float32), np.ones((2, 1), np.float32)
    assert message in outcome(Sequential(fmt), a, b)
    assert message in readable(outcome, Sequential(fmt), a, b)


# --- which way is taken ---------------------------------------------------------------------------


def way(kernels: Any, sums: Any, k: int, monkeypatch: pytest.MonkeyPatch, dtype: Any = np.float32) -> str:
    """Return whether a product of 8 x 8 x k ran on a kernel."""
    used = []
    run = kernels._in_blocks
    monkeypatch.setattr(kernels, "_in_blocks", lambda *args: used.append(args[0]) or run(*args))
    sums.sum_products(np.ones((8, k), dtype), np.ones((k, 8), dtype))
    return used[0].__name__.removeprefix("_") if used else "readable"


def test_kernels_serve_all_formats_but_odd_ones_and_large_products_alone(kernels, monkeypatch):
    monkeypatch.undo()
    served = {str(sums): way(kernels, sums, 64, monkeypatch) for sums in SUMS[2:] if sums.fmt != ODD[3]}
    fused = {name for name, found in served.items() if found == "fuse"}
    assert fused == ({str(Sequential("fp32"))} if kernels.fuses() else set())
    unserved = {str(Sequential(fmt)) for fmt in ("e8m0", ODD[1], ODD[4])}
    assert {name for name, found in served.items() if found == "readable"} == unserved
    assert [way(kernels, sums, 64, monkeypatch) for sums in SUMS[:2]] == ["add_pairs", "add_corrected"]
    assert {way(kernels, sums, 63, monkeypatch) for sums in SUMS[:6]} == {"readable"}
    assert readable(way, kernels, SUMS[0], 64, monkeypatch) == "readable"
    assert way(kernels, SUMS[0], 64, monkeypatch, np.float64) == "readable"


def test_without_fused_multiply_adds_fp32_is_a_format_like_the_others(kernels, monkeypatch, rng):
    monkeypatch.setattr(kernels, "fuses", lambda: False)
    assert way(kernels, Sequential("fp32"), 3, monkeypatch) == "fuse_to_format"
    for kind in KINDS:
        a, b = (numbers(kind, shape, rng, FORMATS["fp32"]) for shape in ((20, 200), (200, 70)))
        assert_same_bits(Sequential("fp32"), a, b)


PROGRAM = """
import hashlib, sys, numpy as np
from fp8sim._kernels.float_sum_kernels import fuses
from fp8sim.accumulators import ACCUMULATORS
rng = np.random.default_rng(0)
a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((40, 300), (300, 70)))
names = [name for name in ACCUMULATORS if name.endswith(("sequential", "pairwise", "kahan"))]
print(fuses(), *(hashlib.sha256(ACCUMULATORS[name].sum_products(a, b)).hexdigest() for name in names))
"""


def printed(**settings: str) -> list[str]:
    source = str(Path(fp8sim.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, **settings}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_kind_of_cpu_that_is_compiled_for_changes_no_bit(kernels):
    (_, *here), (fuses, *plain) = printed(), printed(NUMBA_CPU_NAME="generic")
    assert len(here) == 5
    assert plain == here
    assert fuses == str(kernels.platform.machine().lower() in ("aarch64", "arm64"))


@pytest.mark.parametrize("sums", [Pairwise(), Kahan(), Sequential("fp32"), Sequential("fp16")])
def test_no_memory_is_taken_for_single_products(kernels, sums, rng):
    a, b = rng.random((256, 1024), np.float32), rng.random((1024, 256), np.float32)
    sums.sum_products(a, b)
    tracemalloc.start()
    try:
        sums.sum_products(a, b)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**21  # an eighth of it for the result; single products would take 128 times as much
