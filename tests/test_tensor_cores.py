"""Tensor cores: published vectors, the readable step against the compiled product, and a peer."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import fp8sim
from fp8sim import FloatFormat, get_format
from fp8sim._support.threads import get_num_threads, set_num_threads
from fp8sim._support.typing import F32
from fp8sim.accumulators import TensorCoreSum
from fp8sim.reference.fused_step import Factors, fused_step
from fp8sim.tensor_cores import (
    TENSOR_CORES,
    TensorCore,
    get_tensor_core,
    promoted_matmul,
    tensor_core_matmul,
    tensor_core_matmul_reference,
)
from fp8sim.tensor_cores.problem import codes_range
from strategies import user_formats

HOPPER_FP8 = TENSOR_CORES["hopper-fp8"]
SIXTEEN_BITS = [name for name, core in TENSOR_CORES.items() if core.inputs[0] in ("fp16", "bf16", "tf32")]
FP32_OUT = [name for name, core in TENSOR_CORES.items() if core.output == "fp32-rz" and not core.scale_format]


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    set_num_threads(request.param)
    yield request.param
    set_num_threads(None)


def assert_same_bits(found: F32, expected: F32) -> None:
    assert found.dtype == expected.dtype == np.float32
    assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def dot(terms: list[tuple[float, float]], core: str | TensorCore, c: float = 0.0) -> float:
    """One output, by the compiled product and by the numpy step alike."""
    a, b = np.array([[x for x, _ in terms]]), np.array([[y] for _, y in terms])
    results = [f(a, b, core, c=[[c]]) for f in (tensor_core_matmul, tensor_core_matmul_reference)]
    assert_same_bits(*results)
    return float(results[0][0, 0])


# Published vectors


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (["volta-fp16"], 0.0),
        (["turing-fp16", "ampere-fp16", "ampere-bf16", "ampere-tf32", "ada-fp16", "ada-bf16"], -0.5),
        (["hopper-fp16", "hopper-bf16", "blackwell-fp16", "blackwell-bf16", "hopper-tf32"], -0.75),
        (["ada-fp8", "hopper-fp8"], 0.0),
        (["blackwell-fp8"], -0.75),
        (["cdna1-fp16", "cdna1-bf16"], -0.875),
        (["cdna2-fp16", "cdna2-bf16"], 0.0),
        (["cdna2-bf16-k2"], -0.375),
        (["cdna3-fp16", "cdna3-bf16", "cdna3-tf32", "cdna3-fp16-k4", "cdna3-bf16-k4"], -0.5),
        (["cdna3-fp8"], -1.0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_the_generations_differ_as_table_8_of_mma_sim_says(cores: list[str], expected: float) -> None:
    terms = [(-(2.0**13), 2.0**10), (-0.5, 1), (-0.25, 1), (-0.125, 1)]
    assert [dot(terms, core, c=2.0**23) for core in cores] == [expected] * len(cores)


def test_v100_aligns_a_product_by_the_sum_of_its_exponents() -> None:
    small = [(2.0**-12, 2.0**-11)] * 2
    assert dot([(1.5, 1.5), *small], "volta-fp16") == 2.25 + 2.0**-22
    assert dot([(1.0, 2.25), *small], "volta-fp16") == 2.25


@pytest.mark.parametrize("core", ["ada-fp8", "hopper-fp8"])
def test_fp8_keeps_13_fraction_bits(core: str) -> None:
    assert dot([(1, 1), *[(2.0**-6, 2.0**-7)] * 2], core) == 1 + 2.0**-12  # L40S
    assert dot([(2.0**-7, 2.0**-7)] * 2, core, c=1.0) == 1.0  # L40S


@pytest.mark.parametrize("core", ["ada-fp8", "hopper-fp8"])
def test_an_fp8_accumulator_passes_through_with_13_bits(core: str) -> None:
    values = np.array([[1 + 2.0**-13 + 2.0**-14, -(3 + 2.0**-11), 2.0**-126 * (1 + 2.0**-20)]], np.float32)
    expected = [[1 + 2.0**-13, -(3 + 2.0**-11), 2.0**-126]]
    assert_array_equal(tensor_core_matmul(np.zeros((1, 32)), np.zeros((32, 3)), core, c=values), expected)


@pytest.mark.parametrize(("name", "extra_bits"), [("volta-fp16", 0), ("ampere-fp16", 1), ("hopper-fp16", 2)])
def test_extra_alignment_bits_are_as_table_3_of_fttn_says(name: str, extra_bits: int) -> None:
    for bits in range(4):  # 2^bits equal terms that make one last place of FP32, unless cut before
        total = dot([(2.0**-12, 2.0 ** -(11 + bits))] * 2**bits, name, c=1.0)
        assert total == (1 + 2.0**-23 if bits <= extra_bits else 1.0)


def test_v100_has_no_guard_digit_and_sums_are_not_monotonic() -> None:
    quarter_ulps = [(2.0**-12, 2.0**-12)] * 4
    assert dot(quarter_ulps, "volta-fp16", c=1 - 2.0**-24) == 1 + 2.0**-23
    assert dot(quarter_ulps, "volta-fp16", c=1.0) == 1.0  # a larger c, a smaller sum


@pytest.mark.parametrize("name", SIXTEEN_BITS)
def test_subnormal_inputs_count_but_for_cdna2(name: str) -> None:
    core = TENSOR_CORES[name]
    tiny = get_format(core.inputs[0]).smallest_subnormal
    result = 2.0**-14 if core.output == "fp16-rne" else 1.0
    found = dot([(tiny, result / tiny)] if result / tiny < 60000 else [(tiny, 1.0)], core)
    assert found in ((0.0,) if core.law == "pairwise" else (result, tiny))


# The readable step and the compiled product


def random_values(fmt: FloatFormat, shape: tuple[int, int], kind: str, rng: np.random.Generator) -> F32:
    """Values of a format: normally distributed, of all exponents, few, subnormal, or any code."""
    if kind == "normal":
        values = rng.standard_normal(shape).astype(np.float32)
    elif kind == "subnormal":
        values = rng.uniform(-2, 2, shape).astype(np.float32) * np.float32(fmt.smallest_normal)
    else:
        values = rng.integers(0, 2**32, shape, np.uint32).view(np.float32)  # any float32 at all
        if fmt.emin > -126:  # mostly far outside: spread the exponents over the format
            exponents = rng.integers(fmt.emin - fmt.mantissa_bits - 1, fmt.emax + 1, shape)
            values = np.ldexp(rng.choice([-1, 1], shape) * rng.uniform(1, 2, shape), exponents)
    values = truncated(np.asarray(values, np.float32), fmt)
    if kind == "sparse":
        values = np.where(rng.random(shape) < 0.9, np.copysign(np.float32(0), values), values)
    if kind == "special":
        specials = [
            x for x, there in ((np.nan, fmt.has_nan), (np.inf, fmt.has_inf), (-np.inf, fmt.has_inf)) if there
        ]
        if specials:
            values = np.where(
                rng.random(shape) < 0.01, rng.choice(np.array(specials, np.float32), shape), values
            )
    return values


def truncated(x: F32, fmt: FloatFormat) -> F32:
    """Cut x to the format, as exactly as float64 does; beyond its largest value, to that."""
    x64 = np.where(np.isfinite(x), x, 0).astype(np.float64)
    exponent = np.maximum(np.frexp(np.where(x64 == 0, 1, x64))[1] - 1, fmt.emin)
    quantum = np.ldexp(1.0, exponent - fmt.mantissa_bits)
    return np.clip(np.trunc(x64 / quantum) * quantum, -fmt.max, fmt.max).astype(np.float32)


def random_scales(core: TensorCore, shape: tuple[int, int], wide: bool, rng: np.random.Generator) -> F32:
    if core.scale_format == "e4m3":
        return rng.integers(0, 0x7F + wide, shape, np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    reach = 127 if wide else 12
    scales = np.ldexp(np.float32(1), rng.integers(-reach, reach, shape))
    return np.where(rng.random(shape) < 0.01 * wide, np.float32(np.nan), scales)


KINDS = ["normal", "wide", "sparse", "subnormal", "special"]


@pytest.mark.parametrize("name", TENSOR_CORES)
@settings(max_examples=80)
@given(data=st.data())
def test_the_compiled_product_equals_the_numpy_step(name: str, data: st.DataObject) -> None:
    core, draw = TENSOR_CORES[name], data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n = draw(st.integers(1, 6)), draw(st.sampled_from([1, 3, 63, 64, 65, 130]))
    k = draw(st.integers(1, 4 * core.step)) if draw(st.booleans()) else draw(st.integers(1, 400))
    kinds = [draw(st.sampled_from(KINDS)) for _ in "ab"]
    formats = [get_format(draw(st.sampled_from(core.inputs))) for _ in "ab"]
    a, b = (
        random_values(f, s, kind, rng) for f, s, kind in zip(formats, ((m, k), (k, n)), kinds, strict=True)
    )
    every = core.step * draw(st.integers(1, 3)) if draw(st.booleans()) else None
    options = {"promote_every": every, "a_format": formats[0], "b_format": formats[1]}
    if draw(st.booleans()):
        accumulator = get_format("fp16" if core.output == "fp16-rne" else "fp32")
        options["c"] = random_values(accumulator, (m, n), draw(st.sampled_from(KINDS)), rng)
    if core.scale_format:
        blocks, wide = -(-k // core.scale_block), draw(st.booleans())
        options["scales"] = (
            random_scales(core, (m, blocks), wide, rng),
            random_scales(core, (blocks, n), wide, rng),
        )
    with np.errstate(over="ignore"):
        expected = tensor_core_matmul_reference(a, b, core, **options)
    assert_same_bits(tensor_core_matmul(a, b, core, **options), expected)


@pytest.mark.parametrize("name", ["hopper-fp8", "hopper-fp16", "ampere-bf16", "hopper-fp16-fp16out"])
@pytest.mark.parametrize(("m", "n", "k"), [(33, 70, 3000), (2, 700, 1500), (600, 2, 500)])
def test_neither_threads_nor_blocks_change_a_bit(name: str, m: int, n: int, k: int, threads: int) -> None:
    rng = np.random.default_rng(m)
    fmt = get_format(TENSOR_CORES[name].inputs[0])
    a, b = random_values(fmt, (m, k), "normal", rng), random_values(fmt, (k, n), "normal", rng)
    whole = tensor_core_matmul(a, b, name)
    rows, columns = rng.integers(0, m, 4), rng.integers(0, n, 4)
    assert_same_bits(whole[rows][:, columns], tensor_core_matmul_reference(a[rows], b[:, columns], name))
    set_num_threads(3)
    assert_same_bits(tensor_core_matmul(a, b, name), whole)


@pytest.mark.parametrize("name", ["hopper-fp8", "hopper-fp16"])
def test_products_of_several_thousand_k_agree(name: str, rng: np.random.Generator, threads: int) -> None:
    fmt = get_format(TENSOR_CORES[name].inputs[0])
    a, b = random_values(fmt, (4, 7001), "normal", rng), random_values(fmt, (7001, 65), "normal", rng)
    for every in (None, 128):
        result = tensor_core_matmul(a, b, name, promote_every=every)
        assert_same_bits(result, tensor_core_matmul_reference(a, b, name, promote_every=every))


@pytest.mark.parametrize("name", [*FP32_OUT, "hopper-fp8"])
def test_what_if_cores_agree_too(name: str, rng: np.random.Generator) -> None:
    core = TENSOR_CORES[name]
    fmt = get_format(core.inputs[0])
    a, b = random_values(fmt, (3, 200), "wide", rng), random_values(fmt, (200, 66), "normal", rng)
    for change in (
        {"output": "fp16-rne"},
        {"output": "e8m13-rz", "fraction_bits": 9},
        {"step": 7},
        {"step": 48, "fraction_bits": 27},
        {"step": 1, "fraction_bits": 40},
        {"exponent_floor": -5},
        {"fraction_bits": 1},
    ):
        changed = dataclasses.replace(core, **change)
        for every in (None, 5 * changed.step):
            expected = tensor_core_matmul_reference(a, b, changed, promote_every=every)
            assert_same_bits(tensor_core_matmul(a, b, changed, promote_every=every), expected)


@st.composite
def cores(draw: st.DrawFn) -> dict[str, object]:
    """Draw the fields of a core: of any inputs, 24 bits among them, groups, scales, outputs and floors."""
    names = st.sampled_from([name for name in fp8sim.FORMATS if name != "int8"])
    formats = st.one_of(names, user_formats(max_bits=24).map(lambda pair: pair[0]))
    step = draw(st.sampled_from([1, 2, 4, 6, 8, 16, 32, 33, 64]))
    divisor = st.sampled_from([size for size in range(1, step + 1) if step % size == 0])
    scale_format = draw(st.sampled_from([None, None, "e8m0", "e4m3", "e5m2", "bf16", "e3m2"]))
    group = draw(st.one_of(st.just(0), divisor))
    small = draw(st.booleans()) and group  # formats whose groups stay exact
    chosen = st.sampled_from(["e2m1", "e2m3", "e3m2"]) if small else formats
    return {
        "inputs": tuple(draw(st.lists(chosen, min_size=1, max_size=2))),
        "step": step,
        "fraction_bits": draw(st.integers(1, 40)),
        "output": draw(st.sampled_from(["fp32-rz", "e8m13-rz", "fp16-rne"])),
        "exponent_floor": draw(st.one_of(st.integers(-900, 0), st.integers(-140, -10))),
        "group": group,
        "subgroup": draw(st.one_of(st.just(0), divisor)) if group else 0,
        "scale_format": scale_format,
        "scale_block": (group or 1) * draw(st.sampled_from([1, 2, 3, 16])) if scale_format else 0,
    }


@st.composite
def rounded_cores(draw: st.DrawFn) -> dict[str, object]:
    """Draw the fields of a core that rounds to nearest FP32."""
    names = st.sampled_from([name for name in fp8sim.FORMATS if name != "int8"])
    formats = st.one_of(names, user_formats(max_bits=24).map(lambda pair: pair[0]))
    law = draw(st.sampled_from(["exact", "pairwise", "rounded-down", "rounded-down"]))
    down = law == "rounded-down"
    step = draw(st.sampled_from([2, 4, 8, 16] if law == "pairwise" else [1, 2, 3, 4, 8, 16, 33, 64]))
    half = step // 2 if down and step % 2 == 0 and draw(st.booleans()) else 0
    return {
        "inputs": tuple(draw(st.lists(formats, min_size=1, max_size=2))),
        "step": step,
        "fraction_bits": draw(st.integers(1, 40)) if down else 0,
        "output": "fp32-rne",
        "exponent_floor": draw(st.one_of(st.just(-126), st.integers(-900, 0))),
        "group": draw(st.sampled_from([0, 2, 4])) if law == "pairwise" else half,
        "law": law,
        "sum_bits": draw(st.integers(1, 45)) if down else 0,
    }


@settings(max_examples=500)
@given(fields=st.one_of(cores(), rounded_cores()), data=st.data())
def test_a_core_of_ones_own_runs_both_ways_to_the_same_bits_or_is_refused(
    fields: dict[str, object], data: st.DataObject
) -> None:
    try:
        core = TensorCore("mine", **fields)  # type: ignore[arg-type]
    except ValueError:
        with pytest.raises(ValueError, match=r"^mine: "):
            TensorCore("mine", **fields)  # type: ignore[arg-type]
        return
    draw, rng = data.draw, np.random.default_rng(data.draw(st.integers(0, 2**32)))
    m, n, k = draw(st.integers(1, 3)), draw(st.sampled_from([1, 5, 66])), draw(st.integers(1, 3 * core.step))
    formats = [draw(st.sampled_from(core.formats)) for _ in "ab"]

    def some(fmt: FloatFormat, shape: tuple[int, int], kinds: list[str]) -> F32:
        values = random_values(fmt, shape, draw(st.sampled_from(kinds)), rng)
        return fp8sim.round_to(values if fmt.signed else np.abs(values), fmt, overflow="saturate")

    a, b = some(formats[0], (m, k), KINDS), some(formats[1], (k, n), KINDS)
    every = core.step * draw(st.integers(1, 2)) if draw(st.booleans()) else None
    options = {"promote_every": every, "a_format": formats[0], "b_format": formats[1]}
    if draw(st.booleans()):
        start = get_format("fp16" if core.output == "fp16-rne" else "fp32")
        options["c"] = random_values(start, (m, n), draw(st.sampled_from(KINDS)), rng)
    if core.scale_format:
        fmt, blocks = get_format(core.scale_format), -(-k // core.scale_block)
        scales = some(fmt, (m, blocks), KINDS[:4]), some(fmt, (blocks, n), KINDS[:4])
        options["scales"] = tuple(np.abs(x) for x in scales)
    with np.errstate(over="ignore"):
        expected = tensor_core_matmul_reference(a, b, core, **options)
    assert_same_bits(tensor_core_matmul(a, b, core, **options), expected)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("hopper-fp16", {"inputs": ("fp32",), "fraction_bits": 20}),
        ("blackwell-nvfp4", {"output": "fp16-rne"}),
        ("blackwell-mxfp4", {"output": "fp16-rne"}),
        ("blackwell-nvfp4", {"output": "e8m13-rz"}),
    ],
)
def test_24_bits_and_groups_with_other_outputs_agree(name: str, change: dict[str, object]) -> None:
    core = dataclasses.replace(TENSOR_CORES[name], name="x", **change)
    fmt = get_format(core.inputs[0])
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = (
            random_values(fmt, (1, core.step), "normal", rng),
            random_values(fmt, (core.step, 1), "normal", rng),
        )
        scales = None
        if core.scale_format:
            blocks = core.step // core.scale_block
            scales = tuple(random_scales(core, shape, False, rng) for shape in ((1, blocks), (blocks, 1)))
        expected = tensor_core_matmul_reference(a, b, core, scales=scales)
        assert_same_bits(tensor_core_matmul(a, b, core, scales=scales), expected)


@pytest.mark.parametrize("sum_bits", [1, 2, 24])
def test_an_infinite_sum_stays_infinite_whatever_bits_a_sum_keeps(sum_bits: int) -> None:
    core = TensorCore("x", ("fp32",), 1, 1, "fp32-rne", -126, law="rounded-down", sum_bits=sum_bits)
    total = tensor_core_matmul([[1.5, 1.0]], np.float32([[3e38], [1e15]]), core)
    assert_same_bits(total, np.float32([[np.inf]]))


# NaN, infinity, overflow, zero


def test_nan_is_one_pattern_and_infinity_follows_ieee() -> None:
    inf, nan = float("inf"), float("nan")
    assert dot([(inf, 2.0)], "hopper-fp8") == inf
    assert dot([(inf, -2.0), (3.0, 1.0)], "hopper-fp16") == -inf
    for terms in ([(inf, 0.0)], [(inf, 1.0), (inf, -1.0)], [(nan, 0.0)], [(1.0, -nan)]):
        result = tensor_core_matmul([[x for x, _ in terms]], [[y] for _, y in terms], "hopper-bf16")
        assert result.view(np.uint32).tolist() == [[0x7FFFFFFF]]
    assert np.isnan(dot([(inf, 1.0)], "hopper-fp16", c=-inf))


def test_too_large_sums_are_infinite_and_stay_so() -> None:
    big = 2.0**127
    assert dot([(big, 1.0)], "hopper-bf16", c=big) == np.inf  # though it truncates
    assert dot([(big, 2.0), (-big, 1.0)], "hopper-bf16") == big  # terms may be larger than the result
    assert dot([(2.0**100, 2.0**28), (-(2.0**100), 2.0**27)], "hopper-bf16") == big
    core = dataclasses.replace(TENSOR_CORES["hopper-fp16-fp16out"], step=1)
    assert dot([(60000.0, 2.0), (-60000.0, 1.0)], core) == np.inf
    assert dot([(65504.0, 1.0), (15.0, 1.0)], "hopper-fp16-fp16out") == 65504.0
    assert dot([(65504.0, 1.0), (16.0, 1.0)], "hopper-fp16-fp16out") == np.inf  # half way: to even


@pytest.mark.parametrize("name", TENSOR_CORES)
def test_steps_full_of_the_largest_values_agree(name: str) -> None:
    core = TENSOR_CORES[name]
    fmt = get_format(core.inputs[0])
    top = fmt.max if fmt.emax < 100 else (2 - fmt.eps) * 2.0**50
    mixed = get_format(core.inputs[-1]).max if fmt.emax < 100 else top
    a, b = np.full((2, 3 * core.step), top), np.full((3 * core.step, 2), mixed)
    a[1, ::3] *= -1
    b[0] /= 2
    blocks = -(-a.shape[1] // core.scale_block) if core.scale_block else 0
    scales = (np.ones((2, blocks)), np.ones((blocks, 2))) if blocks else None
    expected = tensor_core_matmul_reference(a, b, core, scales=scales)
    assert_same_bits(tensor_core_matmul(a, b, core, scales=scales), expected)


def test_subnormal_results_are_truncated_and_fp16_ties_go_to_even() -> None:
    assert dot([(2.0**-75, 1.5 * 2.0**-74)], "hopper-bf16") == 2.0**-149
    assert dot([(2.0**-75, -(2.0**-75))], "hopper-bf16") == 0.0
    assert dot([(2.0**-24, 0.5)], "hopper-fp16-fp16out") == 0.0
    assert dot([(2.0**-24, 1.5)], "hopper-fp16-fp16out") == 2.0**-23
    assert dot([(1 + 2.0**-10, 1 + 2.0**-10)], "hopper-fp16-fp16out") == 1 + 2.0**-9


def test_zero_sums_are_positive_zero() -> None:
    for core in ("hopper-fp8", "volta-fp16", "hopper-bf16", "hopper-fp16-fp16out"):
        for terms, c in (([(-0.0, 1.0)], -0.0), ([(1.0, -1.0)], 1.0), ([(0.0, -1.0)] * 40, 0.0)):
            assert np.copysign(1.0, dot(terms, core, c=c)) == 1.0


def test_the_exponent_floor_cuts_what_is_far_below_the_subnormals() -> None:
    terms = [(2.0**-80, 2.0**-78)] * 512  # 2^-158 each, together 2^-149
    assert dot([*terms[:16], (0.0, 0.0)], "hopper-bf16") == 0.0
    wide = dataclasses.replace(TENSOR_CORES["hopper-bf16"], step=512)
    assert dot(terms, wide) == 2.0**-149  # floor -133, 25 bits below it
    assert dot(terms, dataclasses.replace(wide, exponent_floor=-132)) == 0.0


@pytest.mark.parametrize(
    ("name", "last"),
    [("volta-fp16", -42), ("ampere-fp16", -44), ("hopper-fp16", -46), ("blackwell-fp16", -46)],
)
def test_fp16_sums_have_a_floor_of_their_own(name: str, last: int) -> None:
    half = (2.0**-14, 2.0**-11)  # half of the smallest FP16: to zero, unless there is something beside it
    assert dot([half, (2.0**-24, 2.0 ** (last + 24))], f"{name}-fp16out") == 2.0**-24
    assert dot([half, (2.0**-24, 2.0 ** (last + 23))], f"{name}-fp16out") == 0.0
    assert dot([half, (2.0**-24, 2.0 ** (last + 23))], f"{name}-fp16out", c=2.0**-24) == 2.0**-23


# Formats, promotion, scales


def test_subnormals_align_by_the_least_exponent_of_their_own_format() -> None:
    a = np.array([[2.0**-9, 2.0**-8 * 1.75]])  # 2^-9 is subnormal in E4M3, normal in E5M2
    b = np.array([[1.0], [2.0**-9]])
    by_value = tensor_core_matmul(a, b, "hopper-fp8", a_format="e5m2")
    clamped = tensor_core_matmul([[2.0**-9, 0.0]], b, "hopper-fp8", c=[[0.0]])
    assert by_value[0, 0] == 2.0**-9 + 1.75 * 2.0**-17
    assert clamped[0, 0] == 2.0**-9


def test_formats_may_be_mixed_and_dtypes_carry_theirs(rng: np.random.Generator) -> None:
    a = rng.standard_normal((3, 64)).astype(ml_dtypes.float8_e5m2)
    b = rng.standard_normal((64, 5)).astype(ml_dtypes.float8_e4m3fn)
    expected = tensor_core_matmul_reference(
        a.astype(float), b.astype(float), a_format="e5m2", b_format="e4m3"
    )
    assert_same_bits(tensor_core_matmul(a, b), expected)
    assert_same_bits(tensor_core_matmul(a.astype(np.float64), b.T.copy().T, a_format="e5m2"), expected)
    halves = rng.standard_normal((2, 64)).astype(np.float16)
    assert_same_bits(
        tensor_core_matmul(halves, b, "hopper-fp16"),
        tensor_core_matmul(halves.astype(float), b.astype(float), "hopper-fp16"),
    )


def test_promotion_restarts_the_chain_and_adds_in_fp32(rng: np.random.Generator) -> None:
    a = random_values(get_format("e4m3"), (4, 320), "normal", rng)
    b = random_values(get_format("e4m3"), (320, 3), "normal", rng)
    c = rng.standard_normal((4, 3)).astype(np.float32)
    total = c
    for start in (0, 128, 256):
        total = total + tensor_core_matmul(a[:, start : start + 128], b[start : start + 128])
    assert_same_bits(tensor_core_matmul(a, b, c=c, promote_every=128), total)


def test_promoted_scales_enter_by_one_fma(rng: np.random.Generator, threads: int) -> None:
    m, n, k = 5, 70, 1000
    e4m3 = get_format("e4m3")
    a, b = random_values(e4m3, (m, k), "normal", rng), random_values(e4m3, (k, n), "normal", rng)
    a_scales = np.exp(rng.normal(0, 3, (m, 8))).astype(np.float32)
    b_scales = np.exp(rng.normal(0, 3, (8, n))).astype(np.float32)
    result = promoted_matmul(a, b, "hopper-fp8", promote_every=128, a_scales=a_scales, b_scales=b_scales)
    expected = tensor_core_matmul_reference(a, b, promote_every=128, promotion=(a_scales, b_scales))
    assert_same_bits(result, expected)
    separate = np.zeros((m, n), np.float32)
    for i in range(8):
        chain = tensor_core_matmul(a[:, i * 128 : i * 128 + 128], b[i * 128 : i * 128 + 128])
        separate += chain * (a_scales[:, i, None] * b_scales[i])
    assert (separate != result).any()  # two roundings are not one
    assert np.allclose(separate, result, rtol=1e-5, atol=1e-5 * np.abs(result).max())


@pytest.mark.parametrize("scales", [3, (np.ones((1, 4)),), ()])
def test_scales_that_are_no_pair_are_refused(scales):
    with pytest.raises(TypeError, match=r"scales must be a pair, \(a_scales, b_scales\), got"):
        tensor_core_matmul(np.ones((1, 64)), np.ones((64, 1)), "blackwell-nvfp4", scales=scales)


def test_nvfp4_groups_are_exact_and_aligned_by_their_scales() -> None:
    a, b = np.full((1, 64), 6.0), np.full((64, 1), 6.0)
    ones = np.ones((1, 4), np.float32)
    assert tensor_core_matmul(a, b, "blackwell-nvfp4", scales=(ones, ones.T))[0, 0] == 64 * 36
    scales = np.array([[448.0, 2.0**-9, 2.0**-9, 0.0]])
    found = tensor_core_matmul(a, b, "blackwell-nvfp4", scales=(scales, ones.T))[0, 0]
    assert found == np.float32(16 * 36 * 448 + 2.25)


def test_scales_with_a_significand_align_by_their_exponent(rng: np.random.Generator) -> None:
    core = dataclasses.replace(TENSOR_CORES["blackwell-mxfp8"], scale_format="e4m3", scale_block=16)
    a, b = random_values(get_format("e4m3"), (3, 90), "normal", rng), np.full((90, 4), 1.75)
    scales = random_scales(core, (3, 6), False, rng), random_scales(core, (6, 4), False, rng)
    expected = tensor_core_matmul_reference(a, b, core, scales=scales)
    assert_same_bits(tensor_core_matmul(a, b, core, scales=scales), expected)


def test_empty_products_are_c_or_zero() -> None:
    assert_same_bits(tensor_core_matmul(np.zeros((2, 0)), np.zeros((0, 3))), np.zeros((2, 3), np.float32))
    c = np.array([[1.5, -2.0]], np.float32)
    assert_same_bits(tensor_core_matmul(np.zeros((1, 0)), np.zeros((0, 2)), c=c), c)
    assert tensor_core_matmul(np.zeros((0, 4)), np.zeros((4, 3))).shape == (0, 3)


def test_nothing_passed_in_is_modified(rng: np.random.Generator) -> None:
    a, b = random_values(get_format("fp16"), (2, 40), "normal", rng), np.ones((40, 3), np.float32)
    c = np.ones((2, 3), np.float32)
    for x in (a, b, c):
        x.flags.writeable = False
    tensor_core_matmul(a, b, "hopper-fp16", c=c)
    assert (c == 1).all()


# How kernels run


def test_kernels_compile_where_no_cache_can_be_kept() -> None:
    pytest.importorskip("numba")
    from fp8sim._kernels._jit import jit

    namespace: dict[str, object] = {}
    exec("def add_one(x):\n    return x + 1", namespace)  # no file, so no cache beside it
    assert jit(namespace["add_one"])(2) == 3


def test_the_number_of_threads_is_checked() -> None:
    set_num_threads(3)
    assert get_num_threads() == 3
    for wrong in (0, True, 1.5):
        with pytest.raises(ValueError, match="number of threads must be a whole number from 1 on"):
            set_num_threads(wrong)
    set_num_threads(None)
    assert get_num_threads() >= 1


def test_numba_is_imported_on_first_use_only() -> None:
    code = "import sys, fp8sim.tensor_cores; assert not {'numba', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


# Refusals


def test_a_value_outside_the_format_is_named() -> None:
    bad = np.ones((2, 4))
    bad[1, 2] = 0.3
    with pytest.raises(ValueError, match=r"a\[1, 2\] = 0.3 is no .*fp8sim.round_to\(a, 'e4m3'\)"):
        tensor_core_matmul(bad, np.ones((4, 1)))
    with pytest.raises(ValueError, match=r"b\[1, 2\] = 0.3 is no fp16 value"):
        tensor_core_matmul(np.ones((1, 2)), bad.astype(np.float32), "hopper-fp16")
    with pytest.raises(ValueError, match=r"a\[0, 0\] = inf is no e4m3 value"):
        tensor_core_matmul([[np.inf]], [[1.0]], a_format="e4m3")
    with pytest.raises(
        ValueError, match=r"a\[0, 1\] = 500.0 is no e4m3 value and a\[0, 0\] = 1.125 is no e5m2"
    ):
        tensor_core_matmul([[1.125, 500.0]], [[1.0], [1.0]])
    with pytest.raises(ValueError, match="'e2m1' is no input of hopper-fp8; pass one of e4m3, e5m2"):
        tensor_core_matmul([[1.0]], [[1.0]], a_format="e2m1")


def test_unusable_options_are_refused() -> None:
    one = np.ones((1, 1))
    with pytest.raises(ValueError, match=r"promote_every=100 is not a multiple of 32.*pass 96"):
        tensor_core_matmul(one, one, promote_every=100)
    with pytest.raises(ValueError, match="unknown tensor core 'hoper-fp8'; did you mean 'hopper-fp8'"):
        tensor_core_matmul(one, one, "hoper-fp8")
    with pytest.raises(ValueError, match=r"c has shape \(1, 2\), the product \(1, 1\)"):
        tensor_core_matmul(one, one, c=np.ones((1, 2)))
    with pytest.raises(ValueError, match="c holds values that are not fp32"):
        tensor_core_matmul(one, one, c=[[0.1]])
    with pytest.raises(ValueError, match="c holds values that are not fp16"):
        tensor_core_matmul(one, one, "hopper-fp16-fp16out", c=[[1e6]])
    with pytest.raises(ValueError, match="hopper-fp8 takes no scales"):
        tensor_core_matmul(one, one, scales=(one, one))
    with pytest.raises(ValueError, match="multiplies by e4m3 scales, one per 16 of k: pass scales="):
        tensor_core_matmul(one, one, "blackwell-nvfp4")
    with pytest.raises(ValueError, match="scales of b must be e8m0 values"):
        tensor_core_matmul(one, one, "blackwell-mxfp8", scales=(one, 3 * one))
    with pytest.raises(ValueError, match="b looks transposed"):
        tensor_core_matmul(np.ones((2, 3)), np.ones((4, 3)))
    scales = {"a_scales": np.ones((1, 2), np.float32), "b_scales": np.ones((1, 1), np.float32)}
    with pytest.raises(ValueError, match=r"a_scales must be float32 \(1, 1\)"):
        promoted_matmul(one, one, "hopper-fp8", promote_every=128, **scales)


def test_impossible_cores_are_refused() -> None:
    core = get_tensor_core("hopper-fp8")
    for change, message in (
        ({"step": 0}, "step must be 1 to 1048576"),
        ({"fraction_bits": 48}, "needs sums of 56 bits"),
        ({"output": "fp64"}, "unknown output"),
        ({"inputs": ()}, "at least one input"),
        ({"group": 5}, "groups of 5 do not divide"),
        ({"scale_block": 16}, "go together"),
        ({"exponent_floor": 7}, "exponent_floor must be"),
        ({"group": 4}, "groups are aligned by the exponents of their scales: set scale_format"),
        ({"group": -1}, "group must be 0 to 1048576"),
        ({"subgroup": 4}, "subgroups of 4 do not divide groups of 0"),
        (
            {"inputs": ("fp32",), "scale_format": "e4m3", "scale_block": 32},
            "have up to 56 bits, beyond the 53",
        ),
        ({"inputs": (FloatFormat("low", 8, 2, bias=140),)}, "low has exponents below -127"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(core, **change)


# Whole products fixed for good, and that the checks can fail


def fixed_operands(dtype: type, k: int) -> tuple[np.ndarray, np.ndarray]:
    codes = np.random.default_rng(7).integers(0, 256, (2, 48, k), np.uint8)
    codes[(codes & 0x7F) > (0x7E if dtype is ml_dtypes.float8_e4m3fn else 0x7B)] = 0  # NaN, infinity
    return codes[0].view(dtype), codes[1].view(dtype).T


def fingerprint(core: TensorCore) -> str:
    results = [
        tensor_core_matmul(*fixed_operands(dtype, k), core, promote_every=every).tobytes()
        for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
        for k, every in ((4096, None), (1000, None), (1000, 448))
    ]
    return hashlib.sha256(b"".join(results)).hexdigest()[:16]


FINGERPRINT = "f70960f2ad950fd1"  # of results equal to those of mmaemu 0.1.0


def test_hopper_fp8_products_are_what_they_were() -> None:
    assert fingerprint(HOPPER_FP8) == FINGERPRINT


@pytest.mark.parametrize(
    "change",
    [
        {"fraction_bits": 12},
        {"fraction_bits": 14},
        {"step": 16},
        {"step": 64},
        {"step": 31},
        {"output": "fp32-rz"},
        {"output": "fp16-rne"},
    ],
    ids=str,
)
def test_the_checks_fail_for_a_core_that_is_slightly_off(change: dict[str, object]) -> None:
    wrong = dataclasses.replace(HOPPER_FP8, **change)
    if 448 % wrong.step == 0:
        assert fingerprint(wrong) != FINGERPRINT
    a, b = fixed_operands(ml_dtypes.float8_e4m3fn, 512)
    assert (tensor_core_matmul(a, b, wrong) != tensor_core_matmul_reference(a, b, HOPPER_FP8)).any()


def test_the_step_alone_fails_with_a_wrong_width() -> None:
    a = np.array([[1, 2.0**-6, 2.0**-6] + [0] * 29], np.float32)
    b = np.array([[1, 2.0**-7, 2.0**-7] + [0] * 29], np.float32)
    e4m3 = get_format("e4m3")
    right, zero = HOPPER_FP8, np.zeros(1, np.float32)
    wrong = dataclasses.replace(right, fraction_bits=12)
    factors = Factors(a, e4m3.emin), Factors(b, e4m3.emin)
    assert fused_step(*factors, zero, right.rule) == 1 + 2.0**-12
    assert fused_step(*factors, zero, wrong.rule) == 1


# A peer


@pytest.mark.extra
@pytest.mark.extra
@pytest.mark.parametrize("dtypes", [("e4m3", "e4m3"), ("e5m2", "e5m2"), ("e4m3", "e5m2")], ids="-".join)
@pytest.mark.parametrize("k", [128, 512, 1000, 8192, 4097])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_hopper_fp8_agrees_with_mmaemu(
    dtypes: tuple[str, str], k: int, fast: bool, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch", exc_type=ImportError)
    pytest.importorskip("mmaemu", exc_type=ImportError)
    from mmaemu.model.chain import chain_gemm
    from mmaemu.model.plan import execute_plan, make_plan

    m, n = 24, 70
    codes = [rng.integers(0, 256, shape, np.uint8) for shape in ((m, k), (n, k))]
    if k != 512:  # ordinary numbers; else all codes, NaN and infinity among them
        codes = [
            rng.standard_normal(c.shape).astype(get_format(d).dtype).view(np.uint8)
            for c, d in zip(codes, dtypes, strict=True)
        ]

    def chain(a_codes: object, b_codes: object) -> object:
        return chain_gemm(a_codes, b_codes, fmt_a=dtypes[0], fmt_b=dtypes[1], preset="hopper")

    plan = make_plan(k, fast=fast, preset="hopper")
    theirs = execute_plan(
        plan, *(torch.from_numpy(c) for c in codes), fmt_a=dtypes[0], fmt_b=dtypes[1], chain_fn=chain
    )
    a, b = (c.view(get_format(d).dtype) for c, d in zip(codes, dtypes, strict=True))
    ours = tensor_core_matmul(a, b.T, promote_every=None if fast else 128)
    assert_same_bits(ours, theirs.numpy())


def test_a_promotion_interval_may_stand_after_a_slash(rng: np.random.Generator) -> None:
    a, b = (random_values(get_format("e4m3"), shape, "normal", rng) for shape in ((3, 300), (300, 20)))
    promoted = tensor_core_matmul(a, b, "hopper-fp8", promote_every=128)
    assert_same_bits(tensor_core_matmul(a, b, "hopper-fp8/128"), promoted)
    assert (promoted != tensor_core_matmul(a, b, "hopper-fp8")).any()
    with pytest.raises(ValueError, match="'hopper-fp8/128' names a promotion interval, and promote_every=64"):
        tensor_core_matmul(a, b, "hopper-fp8/128", promote_every=64)
    with pytest.raises(ValueError, match="write the interval as in 'hopper-fp8/128'"):
        tensor_core_matmul(a, b, "hopper-fp8/all")


# Codes that come from quantising


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "fp16", "bf16", "tf32", "e5m6"])
def test_the_range_of_codes_is_that_of_their_values(name: str, rng: np.random.Generator) -> None:
    fmt = get_format(name)
    for size in (1, 5, 3000):
        codes = rng.integers(0, 2**fmt.bits, size).astype(fmt.code_dtype)
        codes[rng.random(size) < 0.3] = 0
        values = fp8sim.decode(codes, fmt)
        sizes = np.abs(values[np.isfinite(values)])
        seen = codes_range(codes, fmt)
        assert seen.finite == np.isfinite(values).all()
        assert seen.smallest == sizes[sizes > 0].min(initial=np.inf)
        if seen.finite:
            assert seen.largest == sizes.max(initial=0)


def test_a_nan_without_a_sign_is_seen_among_codes() -> None:
    fnuz = get_format("e4m3fnuz")
    assert not codes_range(np.array([0, 0x80], np.uint8), fnuz).finite
    assert codes_range(np.array([0, 0x7F], np.uint8), fnuz).finite


@pytest.mark.parametrize(
    ("name", "core"), [("tf32", "hopper-tf32"), ("bf16", "ampere-bf16"), ("fp16", "volta-fp16")]
)
def test_codes_of_every_width_reach_a_core_as_the_values_they_are(
    name: str, core: str, rng: np.random.Generator
) -> None:
    a, b = rng.standard_normal((5, 70), np.float32), rng.standard_normal((70, 66), np.float32)
    a[1, 2], b[3, 4] = 0, np.inf
    recipe = fp8sim.Recipe("plain", fp8sim.Operand(name), fp8sim.Operand(name), core)
    expected = tensor_core_matmul(fp8sim.round_to(a, name), fp8sim.round_to(b, name), core)
    assert_same_bits(fp8sim.matmul(a, b, recipe), expected)


def test_codes_of_a_format_of_ones_own_are_no_integers(rng: np.random.Generator) -> None:
    mine = FloatFormat("e5m6-mine", 5, 6)
    core = dataclasses.replace(HOPPER_FP8, name="mine", inputs=(mine,), fraction_bits=20, output="fp32-rz")
    recipe = fp8sim.Recipe("mine", fp8sim.Operand(mine), fp8sim.Operand(mine), TensorCoreSum(core))
    ones = fp8sim.matmul(np.ones((1, 8)), np.ones((8, 1)), recipe)
    assert ones == 8  # 126,982 would be what the code of 1 is as an integer
    a, b = rng.standard_normal((5, 700)), rng.standard_normal((700, 9))
    np.testing.assert_allclose(fp8sim.matmul(a, b, recipe), a @ b, atol=0.5)
    with pytest.raises(ValueError, match="a_format='bf16' is no input of mine"):
        fp8sim.matmul(a, b, dataclasses.replace(recipe, a=fp8sim.Operand("bf16")))
