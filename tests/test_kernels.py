"""The compiled casts and block quantisation against the readable ones, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import fp8sim
from fp8sim import FORMATS, FloatFormat, _kernels, casts
from fp8sim._support.threads import run_in_threads, set_num_threads
from fp8sim.casts import COMPILED_FROM
from fp8sim.quantization import Operand, Quantized, Scaling, quantize_with, round_trip, tiling, work
from fp8sim.reference.codes import decode_reference, decode_table, encode_reference
from fp8sim.reference.rounding import ROUNDINGS, round_reference
from fp8sim.reference.scales import expand_groups, group_amax
from fp8sim.tensor_cores.arguments import values_range
from readable import quantize_readable

pytest.importorskip("numba")
from fp8sim._kernels import quantize_kernels as kernels
from fp8sim._kernels.cast_kernels import encode_nearest

Array = NDArray[Any]

LARGE = FloatFormat("large-e4m3", 4, 3, bias=-100)
# What no table has: no subnormals, no zero, no sign, no mantissa, and ends of the range of float32.
ODD = [
    FloatFormat("e4m3-ftz", 4, 3, specials="nan-only", subnormals=False),
    FloatFormat("e5m2fnuz-ftz", 5, 2, bias=16, specials="fnuz", subnormals=False),
    FloatFormat("e5m0-ftz", 5, 0, subnormals=False),
    FloatFormat("e5m0", 5, 0),
    FloatFormat("e5m0fnuz", 5, 0, specials="fnuz"),
    FloatFormat("e3m2-ftz-finite", 3, 2, specials="none", subnormals=False),
    FloatFormat("unsigned-e4m3", 4, 3, signed=False),
    FloatFormat("unsigned-e4m3-finite", 4, 3, signed=False, specials="none"),
    FloatFormat("signed-e8m0", 8, 0, specials="nan-only", subnormals=False, zero=False),
    LARGE,
    FloatFormat("small-e4m3", 4, 3, bias=127),
    FloatFormat("tiny-e4m3", 4, 3, bias=140),
    FloatFormat("e8m22", 8, 22),
    FloatFormat("fp32-ftz", 8, 23, subnormals=False),
    # The smallest normal number is float32's own, and the tie between it and zero goes to zero.
    FloatFormat("e8m0-signed", 8, 0),
    FloatFormat("e8m0-ftz", 8, 0, subnormals=False),
    FloatFormat("e7m0-finite", 7, 0, bias=127, specials="none"),
    FloatFormat("e5m0-small", 5, 0, bias=127, specials="nan-only"),
    FloatFormat("e4m0fnuz-small", 4, 0, bias=127, specials="fnuz"),
]
ALL = [*FORMATS.values(), *ODD]
POLICIES = ("saturate", "ieee")
SEED = 3


def bits(x: Array) -> Array:
    return x.view(f"u{x.itemsize}")


def assert_same_bits(actual: Array, expected: Array) -> None:
    assert actual.dtype == expected.dtype
    assert_array_equal(bits(np.ascontiguousarray(actual)), bits(np.ascontiguousarray(expected)))


@cache
def inputs(fmt: FloatFormat, dtype: type) -> Array:
    """All float16 and bfloat16, midpoints of neighbours of `fmt`, what is next to them, and random bits."""
    rng = np.random.default_rng(SEED)
    half = np.arange(2**16, dtype=np.uint16)
    codes = np.arange(2**fmt.bits) if fmt.bits <= 12 else rng.integers(0, 2**fmt.bits, 4000)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        values = decode_reference(codes, fmt).astype(np.float64)
        values = np.unique(values[np.isfinite(values)])
        upwards = np.maximum(2.0 ** (np.frexp(values)[1] - 1), fmt.smallest_normal) * fmt.eps
        middles = np.concatenate([values, values + upwards / 2, values - upwards / 2])
        middles = np.concatenate([middles, -middles]).astype(dtype)
        word = np.dtype(f"u{np.dtype(dtype).itemsize}")
        x = np.concatenate(
            [
                half.view(np.float16).astype(dtype),
                half.view(ml_dtypes.bfloat16).astype(dtype),
                middles,
                np.nextafter(middles, dtype(np.inf)),
                np.nextafter(middles, dtype(-np.inf)),
                rng.integers(0, np.iinfo(word).max, 10_000, dtype=word, endpoint=True).view(dtype),
            ]
        )
    x.setflags(write=False)
    return x


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Run on so many threads, with parts small enough that each gets some."""
    monkeypatch.setattr(casts, "LEAST", 1 << 10)
    for module in (tiling, work):
        monkeypatch.setattr(module, "LEAST", 1 << 10)
    set_num_threads(request.param)
    yield request.param
    set_num_threads(None)


# --- threads --------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_tasks(threads):
    assert run_in_threads(lambda i: i * i, [(i,) for i in range(100)]) == [i * i for i in range(100)]
    assert run_in_threads(abs, []) == []


def test_an_error_in_a_task_reaches_the_caller_after_all_tasks_ended(threads):
    running = set()

    def task(i: int) -> None:
        running.add(i)
        try:
            if i == 3:
                raise ZeroDivisionError(f"task {i}")
            time.sleep(0.001)
        finally:
            running.discard(i)

    with pytest.raises(ZeroDivisionError, match="task 3"):
        run_in_threads(task, [(i,) for i in range(20)])
    assert not running


def test_tasks_may_run_tasks_of_their_own(threads):
    def task(i: int) -> int:
        return sum(run_in_threads(lambda j: i * j, [(j,) for j in range(5)]))

    assert run_in_threads(task, [(i,) for i in range(8)]) == [10 * i for i in range(8)]


def test_several_callers_and_a_forked_child_get_their_results():
    code = (
        "import os, sys; from concurrent.futures import ThreadPoolExecutor as Pool\n"
        "from fp8sim._support.threads import run_in_threads, set_num_threads\n"
        "set_num_threads(3)\n"
        "work = lambda i: sum(run_in_threads(pow, [(i, j) for j in range(9)]))\n"
        "right = [sum(i**j for j in range(9)) for i in range(20)]\n"
        "with Pool(4) as pool: assert list(pool.map(work, range(20))) == right\n"
        "child = os.fork() if hasattr(os, 'fork') else 0\n"
        "assert [work(i) for i in range(20)] == right\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_a_thread_that_outlives_the_program_still_gets_its_results():
    code = (
        "import threading, time\n"
        "from fp8sim._support.threads import run_in_threads, set_num_threads\n"
        "set_num_threads(3)\n"
        "def late(): time.sleep(0.3); print(run_in_threads(pow, [(2, 3), (3, 2), (4, 1)]))\n"
        "threading.Thread(target=late).start()"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "[8, 9, 4]\n"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no CPU affinity")
def test_threads_may_run_on_any_cpu_afterwards(threads):
    before = os.sched_getaffinity(0)
    seen = run_in_threads(lambda _: (time.sleep(0.001), os.sched_getaffinity(0))[1], [(i,) for i in range(9)])
    assert all(cpus == before for cpus in [*seen, os.sched_getaffinity(0)])


# --- casts ----------------------------------------------------------------------------------------


def cast(x: Array, fmt: FloatFormat, rounding: str, policy: str, *, codes: bool) -> Any:
    draw = np.random.default_rng(SEED).random if rounding == "stochastic" else None
    return casts._cast_compiled(x, fmt, codes=codes, rounding=rounding, policy=policy, draw=draw)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_compiled_casts_equal_the_oracle_in_every_mode_and_policy(fmt, dtype):
    x = inputs(fmt, dtype)
    for rounding, policy in product(ROUNDINGS, POLICIES):
        draws = np.random.default_rng(SEED).random(x.size) if rounding == "stochastic" else None
        expected = round_reference(x, fmt, rounding, policy, draws)
        values, seen = cast(x, fmt, rounding, policy, codes=False)
        assert_same_bits(values, expected)
        assert seen.nan

        codes, seen = cast(x, fmt, rounding, policy, codes=True)
        assert seen.nan
        answered = ~np.isnan(expected) | fmt.has_nan
        assert_array_equal(codes[answered], encode_reference(expected, fmt)[answered])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", [f for f in ALL if not f.has_nan], ids=str)
def test_compiled_casts_say_what_a_format_without_nan_must_refuse(fmt, dtype):
    x = inputs(fmt, dtype)
    x = x[~np.isnan(x)]
    inside = np.concatenate([x[(x >= 0) & (x <= fmt.max)], [dtype(fmt.max)]])
    for rounding, policy in product([mode for mode in ROUNDINGS if mode != "stochastic"], POLICIES):
        for part in (x, inside):
            lost = bool(np.isnan(round_reference(part, fmt, rounding, policy)).any())
            assert cast(part, fmt, rounding, policy, codes=False)[1] == (False, lost)
            assert cast(part, fmt, rounding, policy, codes=True)[1] == (False, lost)


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_compiled_decoding_equals_the_oracle(fmt):
    rng = np.random.default_rng(SEED)
    codes = np.arange(2**fmt.bits) if fmt.bits <= 16 else rng.integers(0, 2**fmt.bits, 50_000)
    codes = codes.astype(fmt.code_dtype)
    decoded, expected = fp8sim.decode(codes, fmt), decode_reference(codes, fmt)
    number = ~np.isnan(expected)  # an FP32 code is its own value, the digits of a NaN included
    assert_same_bits(decoded[number], expected[number])
    assert_array_equal(np.isnan(decoded), ~number)
    assert_array_equal(np.signbit(decoded), np.signbit(expected))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_casts_depend_neither_on_threads_nor_on_layout(threads, dtype, rounding, monkeypatch):
    monkeypatch.setattr(casts, "WAVE", 5000)
    fmt = FORMATS["e4m3"]
    x = inputs(fmt, dtype)[: 3 * 50 * 200].reshape(3, 50, 200)
    draws = np.random.default_rng(SEED).random(x.shape) if rounding == "stochastic" else None
    expected = round_reference(x, fmt, rounding, "saturate", draws)
    for laid_out in (x, np.asfortranarray(x), x[:, ::-1].copy()[:, ::-1], np.repeat(x, 2, axis=1)[:, ::2]):
        values, _ = cast(laid_out, fmt, rounding, "saturate", codes=False)
        assert_same_bits(values, expected)
        codes, _ = cast(laid_out, fmt, rounding, "saturate", codes=True)
        assert_array_equal(codes, encode_reference(expected, fmt))
        assert_same_bits(casts._look_up(codes, decode_table(fmt)), decode_reference(codes, fmt))
        assert_same_bits(laid_out, x)  # still


def test_the_public_casts_give_large_arrays_to_the_kernels(monkeypatch):
    def refuse(*_: object) -> None:
        raise LookupError("the oracle ran")

    monkeypatch.setattr(fp8sim.casts, "round_reference", refuse)
    x = np.linspace(-3, 3, COMPILED_FROM, dtype=np.float32)
    assert fp8sim.encode(x, "e4m3").size == fp8sim.round_to(x, "e4m3").size == x.size
    with pytest.raises(LookupError, match="the oracle ran"):
        fp8sim.encode(x[1:], "e4m3")


def test_large_arrays_are_refused_as_small_ones_are():
    x = np.full(COMPILED_FROM, 100.0, np.float32)
    with pytest.raises(ValueError, match=r"x overflows e2m1 .* pass overflow='saturate'"):
        fp8sim.round_to(x, "e2m1", overflow="ieee")
    x[-1] = np.nan
    with pytest.raises(ValueError, match=r"x holds NaN, and e2m1 has none"):
        fp8sim.encode(x, "e2m1")


def test_a_few_numbers_are_cast_without_loading_numba():
    code = (
        "import sys, fp8sim; fp8sim.round_to([0.3] * 4095, 'e4m3'); fp8sim.quantize([0.3] * 99);"
        "assert 'numba' not in sys.modules;"
        "fp8sim.round_to([0.3] * 4096, 'e4m3'); assert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("field", ["half", "odd", "first", "limit", "nan"])
def test_the_comparison_finds_a_kernel_that_is_wrong_in_one_number(field):
    fmt = FORMATS["e4m3"]
    x = inputs(fmt, np.float32)
    right = kernels.nearest(fmt, "ieee")
    wrong = right._replace(**{field: np.uint32(getattr(right, field) ^ 1)})
    if field == "first":
        wrong = right._replace(first=right.first - np.uint32(1 << 23))
    expected = encode_reference(round_reference(x, fmt, "nearest-even", "ieee"), fmt)
    codes = np.empty_like(expected)
    encode_nearest(x, codes, right)
    assert_array_equal(codes, expected)
    encode_nearest(x, codes, wrong)
    assert (codes != expected).any()


@pytest.mark.parametrize("fmt", [fmt for fmt in ALL if fmt.signed and fmt.zero], ids=str)
def test_the_compiled_look_at_values_equals_the_readable_one(fmt):
    x = inputs(fmt, np.float32)
    codes = np.arange(2**fmt.bits, dtype=fmt.code_dtype) if fmt.bits <= 16 else encode_reference(x, fmt)
    for values in (x, x[np.isfinite(x)], decode_reference(codes, fmt), x[:0], np.zeros(70, np.float32)):
        compiled = values_range(values, fmt)
        with _kernels.readable():
            assert compiled == values_range(values, fmt)


# --- block quantisation ---------------------------------------------------------------------------

ELEMENTS = ["e4m3", "e5m2", "e4m3fnuz", "e2m1", "fp16", "bf16", "fp32", *ODD[:3], LARGE, ODD[-5]]
GRANULARITIES = ("tensor", "row", "1x128", "128x128", "1x32", "1x16", "3x5", "1x1", "none")
SCALES = [
    *(("fp32", "amax"), ("fp32", "ceil"), ("e8m0", "ceil")),
    *(("e8m0", "floor"), ("e8m0", "even"), ("e4m3", "amax")),
]
SHAPES = [(5, 301), (301, 5), (130, 257), (3, 7, 70), (2, 40, 33), (1500,)]


def matrices(shape: tuple[int, ...], dtype: type) -> Iterator[Array]:
    """Yield ordinary, wide, subnormal and sparse numbers in several layouts."""
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal(shape)
    wide = x * np.exp2(rng.integers(-40, 40, shape))
    sparse = x * (rng.random(shape) < 0.1)
    sparse[..., : shape[-1] // 2] = -0.0
    yield x.astype(dtype)
    yield np.asfortranarray(wide.astype(dtype))
    yield np.repeat((x * 2.0**-133).astype(dtype), 2, axis=-1)[..., ::2]
    yield sparse.astype(dtype)[::-1]
    yield (x * 2.0 ** (-1060 if dtype == np.float64 else -146)).astype(dtype)


def assert_same_quantized(actual: Quantized, expected: Quantized) -> None:
    assert_array_equal(actual.codes.view(actual.fmt.code_dtype), expected.codes.view(expected.fmt.code_dtype))
    assert_same_bits(actual.scales, expected.scales)
    assert_same_bits(actual.scale_codes, expected.scale_codes)
    assert actual.tensor_scale == expected.tensor_scale
    assert (actual.saturated, actual.flushed) == (expected.saturated, expected.flushed)


@pytest.fixture
def always_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp8sim.casts, "COMPILED_FROM", 1)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("fmt", ELEMENTS, ids=str)
def test_compiled_quantisation_equals_the_readable_one(fmt, granularity, threads, always_compiled):
    target = fp8sim.get_format(fmt)
    rng = np.random.default_rng(SEED)
    for shape, dtype in product(SHAPES, (np.float32, np.float64)):
        if len(shape) == 1 and granularity in ("128x128", "3x5"):
            continue
        rules = SCALES[:1] if granularity == "none" else SCALES
        scale_format, rule = rules[rng.integers(len(rules))]
        scaling = Scaling(granularity, scale_format, rule, [0.0, 1e-4][rng.integers(2)])
        axis = int(rng.integers(len(shape)))
        for x in matrices(shape, dtype):
            expected = quantize_readable(x, target, scaling, axis=axis)
            before = x.copy()
            x.setflags(write=False)
            quantized = quantize_with(x, Operand(target, scaling), axis=axis)
            assert_same_quantized(quantized, expected)
            assert_same_bits(x, before)
            with np.errstate(over="ignore", under="ignore"):
                factors = expand_groups(expected.scales, expected.sizes, shape)
                products = decode_reference(expected.codes.view(target.code_dtype), target) * factors
            assert_same_bits(quantized.dequantize(), products)
            assert_same_bits(round_trip(x, Operand(target, scaling), axis=axis), products)


@pytest.mark.parametrize(("scale_format", "rule"), SCALES)
def test_every_scale_rule_is_the_same_over_all_exponents(scale_format, rule, always_compiled):
    rng = np.random.default_rng(SEED)
    x = rng.integers(0, 0x7E800000, (3000, 4), dtype=np.uint32).view(np.float32)
    x[::7] = np.ldexp(np.float32(1), rng.integers(-149, 119, x[::7].shape))  # ties of `floor` and `ceil`
    x[1::7] = np.ldexp(np.float32(1.9375), rng.integers(-140, 119, x[1::7].shape))  # and of `even`
    scaling = Scaling("1x2", scale_format, rule)
    for name in ("e4m3", "e5m2", "e2m1"):
        target = fp8sim.get_format(name)
        expected = quantize_readable(x, target, scaling)
        assert_same_quantized(quantize_with(x, Operand(target, scaling)), expected)


def test_quantising_refuses_in_large_arrays_what_it_refuses_in_small_ones(always_compiled):
    x = np.ones((64, 128), np.float32)
    x[63, 5] = np.inf
    for granularity in ("1x128", "tensor", "1x16"):
        for scale_format in ("fp32", "e4m3"):
            with pytest.raises(ValueError, match=r"x holds 1 NaN or infinite values, the first at \[63, 5\]"):
                fp8sim.quantize(x, "e4m3", granularity, scale_format=scale_format)
    with pytest.raises(ValueError, match=r"a holds 1 NaN or infinite values"):
        round_trip(x, Operand("e4m3", Scaling("1x128")), what="a")
    tiny = FloatFormat("tiny-e4m3", 4, 3, bias=140)
    with pytest.raises(ValueError, match="needs a scale above 2"):
        fp8sim.quantize(np.full((64, 128), 2.0**100, np.float32), tiny, "1x32", scale_format="e8m0")
    with pytest.raises(ValueError, match="e2m1 has none"):
        fp8sim.quantize(np.full(5000, np.nan), "e2m1", "none")


def test_quantisation_in_one_pass_and_in_two_are_the_same():
    x = np.random.default_rng(SEED).standard_normal((300, 700), dtype=np.float32)
    steps = work.Work.of(x, Operand("e4m3", Scaling("1x128")), -1, "x")
    one = steps.in_one_pass()
    assert one is not None
    scales, codes, saturated, flushed = one
    assert_same_bits(steps.pick().values, scales.values)
    again = steps.encode(scales, "nearest-even", None, None)
    assert_array_equal(again[0].view(np.uint8), codes.view(np.uint8))
    assert again[1:] == (saturated, flushed)
    assert_same_bits(steps._group_amax(), group_amax(x, steps.sizes))


def test_a_contiguous_matrix_is_quantised_where_it_lies():
    x = np.zeros((200, 300), np.float32)
    for matrix, sizes in ((x, (1, 128)), (x, (128, 1)), (x.T, (128, 1)), (x.T, (128, 128))):
        cut = tiling.Tiling.of(matrix, sizes)
        assert np.shares_memory(cut.stack(matrix, cut.shape), x)


@pytest.mark.parametrize("field", ["kind", "max", "emax", "fraction"])
def test_the_comparison_finds_a_scale_rule_that_is_wrong_in_one_number(field):
    x = np.random.default_rng(SEED).standard_normal((64, 128), dtype=np.float32)
    e4m3 = FORMATS["e4m3"]
    p, name = kernels.nearest(e4m3, "saturate"), "amax" if field == "max" else "ceil"
    right = kernels.scale_rule(e4m3, name, 0.0, "divide")
    wrong = {"kind": 2, "max": np.float32(447), "emax": 7, "fraction": 0}[field]
    results = []
    for r in (right, right._replace(**{field: wrong})):
        codes, scales = np.empty(x.shape, np.uint8), np.empty((64, 8), np.float32)
        kernels.quantize_rows(x, codes, (scales, scales), (1, 16), r, p)
        results.append(scales)
    expected = quantize_readable(x, e4m3, Scaling("1x16", "fp32", name)).scales
    assert_same_bits(results[0], expected)
    assert (results[1] != expected).any()
