"""Divisions and four over six: casts of named kernels against their own words, plain loops and the readable way."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fp8sim
from fp8sim.quantization import DIVISIONS, Operand, Scaling, quantize_with, round_trip
from fp8sim.reference.four_over_six import fold_rows
from fp8sim.training import DelayedScales, DelayedScaling
from library_casts import CASTS, KINDS, count_differing, is_bf16, tilekernels_e5m6
from oracle import assert_same
from readable import quantize_readable, readable

DATA = Path(__file__).with_name("data")
F32 = np.float32
HUGE = np.finfo(F32).max


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA / "library_casts.npz") as arrays:
        return dict(arrays)


def elements(recorded, kind):
    bits = recorded[kind]
    return (bits.astype(np.uint32) << 16 if is_bf16(kind) else bits).view(F32)


# --- the words of the libraries -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASTS)
def test_codes_and_scales_are_those_of_the_library(name, kind, recorded):
    x, (_, operand) = elements(recorded, kind), CASTS[name]
    for q in (
        quantize_with(x, operand),
        quantize_readable(x, operand.fmt, operand.scaling),
        quantize_with(x.T, operand, axis=0).T,
        quantize_with(x.astype(np.float64), operand),
    ):
        codes = q.bits
        if operand.fmt.name == "e5m6":
            codes = tilekernels_e5m6(x * multiplier(x, 65024, 1e-4), codes)
        assert count_differing(name, recorded[f"{kind}/{name}/codes"], codes) == 0
        scales = q.scale_codes.view(np.uint8) if operand.scaling.scale_format == "e4m3" else q.scales
        assert_same(scales, recorded[f"{kind}/{name}/scales"])


def multiplier(x, largest, floor):
    return F32(largest) / np.maximum(np.abs(x).max(axis=1, keepdims=True), F32(floor))


def test_bf16_arrays_are_quantised_as_their_values(recorded):
    x = elements(recorded, "normal")
    narrow = quantize_with(x.astype(ml_dtypes.bfloat16), CASTS["te e4m3 tensor"][1])
    assert_same(narrow.bits, recorded["normal/te e4m3 tensor/codes"])


def test_e5m6_of_tilekernels_differs_in_subnormal_numbers_alone(recorded):
    different = 0
    for kind in KINDS:
        x = elements(recorded, kind)
        scaled = x * multiplier(x, 65024, 1e-4)
        codes = quantize_with(x, CASTS["tk e5m6 row"][1]).bits
        wrong = codes != recorded[f"{kind}/tk e5m6 row/codes"]
        assert (np.abs(scaled[wrong]) < 2.0**-14).all()
        different += int(wrong.sum())
    assert different == 2017
    one = F32([[1.5 * 2**-20, 2.5 * 2**-20]])  # ties of subnormal numbers: the low bits are zero
    assert_same(fp8sim.encode(one, "e5m6").view(np.uint16), np.uint16([[2, 2]]))
    assert_same(tilekernels_e5m6(one, np.zeros((1, 2))), np.uint16([[1, 2]]))


def test_the_recording_says_where_it_is_from():
    about = json.loads((DATA / "library_casts.json").read_text())
    assert set(about["sources"]) == {"deepseek-ai/TileKernels", "NVIDIA/TransformerEngine"}
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit in about["sources"].values())
    assert "MIT" in about["licence"]
    assert "Apache-2.0" in about["licence"]


# --- laws -----------------------------------------------------------------------------------------


def by_hand(block, division, largest):
    """Return scale and multiplier of a block by FP32 operations one at a time."""
    amax = np.abs(block).max()
    if amax == 0:
        return F32(1), F32(1)
    with np.errstate(over="ignore"):
        multiplier = min(F32(largest) / amax, HUGE)
    scale = F32(1) / multiplier if division == "te-current" else max(amax / F32(largest), F32(2.0**-149))
    return scale, multiplier


@pytest.mark.parametrize("fmt", ["e4m3", "e5m2", "e2m1", "int8", "fp16"])
@pytest.mark.parametrize("division", ["reciprocal", "te-current"])
@pytest.mark.parametrize(
    "way", [quantize_with, lambda x, operand: quantize_readable(x, operand.fmt, operand.scaling)]
)
def test_elements_are_multiplied_by_the_reciprocal(way, division, fmt, rng):
    x = (rng.standard_normal((128, 70)) * np.exp2(rng.integers(-150, 100, (128, 1)))).astype(F32)
    x[::9] = 0
    q = way(x, Operand(fmt, Scaling("1x16", division=division)))
    for row in range(len(x)):
        for group in range(5):
            block = x[row, group * 16 : group * 16 + 16]
            scale, multiplier = by_hand(block, division, q.fmt.max)
            assert q.scales[row, group] == scale
            with np.errstate(under="ignore"):
                expected = fp8sim.encode(block * multiplier, fmt, overflow="saturate")
            assert_same(q.codes[row, group * 16 : group * 16 + 16], expected)


def test_a_multiplier_is_no_division():
    x = F32([[1.3, 0.45, 0.3]])
    found = {d: fp8sim.quantize(x, "e4m3", "row", division=d).scales[0, 0] for d in list(DIVISIONS)[:3]}
    assert found["divide"] == found["reciprocal"] == F32(1.3) / F32(448)
    assert found["te-current"] == F32(1) / (F32(448) / F32(1.3)) != found["divide"]
    rng = np.random.default_rng(0)
    many = (rng.standard_normal((512, 256)).astype(F32).view(np.uint32) & 0xFFFF0000).view(F32)
    codes = [fp8sim.quantize(many, "e4m3", "1x128", division=d).bits for d in ("divide", "reciprocal")]
    assert 0 < np.count_nonzero(codes[0] != codes[1]) < 100


@pytest.mark.parametrize("rule", ["ceil", "floor", "even"])
@pytest.mark.parametrize("scale_format", ["fp32", "e8m0"])
def test_powers_of_two_divide_and_multiply_alike(scale_format, rule, rng):
    x = (rng.standard_normal((96, 64)) * np.exp2(rng.integers(-140, 120, (96, 1)))).astype(F32)
    same = [Scaling("1x32", scale_format, rule, division=division) for division in ("divide", "reciprocal")]
    one, two = (quantize_with(x, Operand("e4m3", scaling)) for scaling in same)
    assert_same(one.bits, two.bits)
    assert_same(one.scales, two.scales)


def test_delayed_scaling_multiplies_as_current_scaling_does(rng):
    x = rng.standard_normal((40, 50)).astype(F32)
    past = DelayedScales(DelayedScaling(history=1))
    past.push("x", float(np.abs(x).max()))
    operand = Operand("e4m3", Scaling("tensor"))
    delayed = quantize_with(x, operand, scales=past.scales("x", operand.fmt))
    current = fp8sim.quantize(x, "e4m3", division="te-current")
    assert_same(delayed.bits, current.bits)
    assert_same(delayed.scales, current.scales)


@pytest.mark.parametrize("granularity", ["1x16", "16x16"])
@pytest.mark.parametrize("division", ["divide", "te-nvfp4"])
@pytest.mark.parametrize("rule", ["4over6", "4over6-mse"])
def test_a_block_takes_the_scale_that_errs_less(rule, division, granularity, rng):
    """By hand in float64, where the two errors are no tie."""
    x = rng.standard_normal((64, 64))
    x[16:32] = rng.choice([4, 3, -2, 1], (16, 64)) + rng.normal(0, 0.01, (16, 64))  # these suit a map to 4
    x = x.astype(F32)
    q = fp8sim.quantize(x, "e2m1", granularity, scale_format="e4m3", scale_rule=rule, division=division)
    grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    tensor, rows, taken = np.abs(x).max() / (6 * 256), int(granularity.split("x")[0]), [0, 0]
    assert q.tensor_scale == F32(np.abs(x).max()) / F32(1536)
    for i in range(64 // rows):
        for j in range(4):
            block = x[i * rows : (i + 1) * rows, j * 16 : (j + 1) * 16].astype(np.float64)
            errors, codes = [], []
            for target in (6, 4):
                code = np.asarray(np.abs(block).max() / target / tensor).astype(ml_dtypes.float8_e4m3fn)
                scale = float(code) * tensor
                nearest = grid[np.abs(np.abs(block / scale)[..., None] - grid).argmin(-1)] * scale
                error = np.abs(nearest - np.abs(block))
                errors.append(np.mean(error if rule == "4over6" else error**2))
                codes.append(code.view(np.uint8))
            if abs(errors[0] - errors[1]) > 1e-6 * errors[0]:
                best = int(errors[1] < errors[0])
                assert q.scale_codes.view(np.uint8)[i, j] == codes[best]
                taken[best] += 1
    assert min(taken) > 3


def test_errors_of_rows_are_added_in_the_order_of_a_warp(rng):
    """As reduce_group_sum_16 of TransformerEngine: each thread adds what is 8, 4, 2 and 1 places further."""
    errors = (rng.random((16, 100)) * np.exp2(rng.integers(-20, 20, (16, 100)))).astype(F32)
    lanes = list(errors)
    for offset in (8, 4, 2, 1):
        lanes = [lanes[i] + lanes[i + offset] for i in range(offset)]
    assert_same(fold_rows(errors), lanes[0][None])
    assert (fold_rows(errors) != np.add.reduce(errors, dtype=F32)).any()


def test_a_tie_of_four_over_six_maps_to_six():
    x = np.zeros((1, 32), F32)
    x[0, ::16] = 6  # one element a block: exact under both
    q = fp8sim.quantize(x, "e2m1", "1x16", scale_format="e4m3", scale_rule="4over6")
    assert_same(q.codes[0, ::16].astype(F32), F32([6, 6]))


def test_an_underflowed_block_of_nvfp4_saturates_and_stands_for_zero():
    x = np.zeros((1, 32), F32)
    x[0, :17] = [1] * 16 + [-1e-9]
    options = {"fmt": "e2m1", "granularity": "1x16", "scale_format": "e4m3"}
    theirs, own = (fp8sim.quantize(x, division=d, **options) for d in ("te-nvfp4", "divide"))
    assert theirs.scales[0, 1] == own.scales[0, 1] == 0
    assert (float(theirs.codes[0, 16]), float(own.codes[0, 16])) == (-6, 0)
    assert_same(theirs.dequantize(), own.dequantize())


# --- two ways, and what both are given ------------------------------------------------------------

OPERANDS = [
    *(
        Operand(fmt, Scaling(granularity, scale_format, rule, floor, division))
        for division in ("reciprocal", "te-current")
        for fmt in ("e4m3", "e2m1", "int8", "e4m3fnuz", "fp16", "bf16")
        for granularity, scale_format, rule, floor in (
            ("1x128", "fp32", "amax", 1e-4),
            ("16x16", "fp32", "amax", 0.0),
            ("tensor", "fp32", "amax", 0.0),
            ("row", "fp32", "amax", 0.0),
        )
    ),
    *(Operand("e4m3", Scaling("1x32", form, "ceil", 0.0, "reciprocal")) for form in ("fp32", "e8m0")),
    *(
        Operand("e2m1", Scaling(granularity, "e4m3", rule, floor, division))
        for division in ("divide", "te-nvfp4")
        for rule in ("amax", "4over6", "4over6-mse")
        for granularity in ("1x16", "16x16")
        for floor in (0.0, 1e-4)
    ),
    *(Operand("e2m1", Scaling(g, "e4m3", division="te-nvfp4")) for g in ("tensor", "row", "3x7")),
]
SHAPES = [
    (5,),
    (3, 17),
    (17, 3),
    (40, 200),
    (2, 3, 20),
    (3000,),
    (129, 257),
    (2, 130, 33),
    (40, 3, 70),
    (0, 4),
]


@st.composite
def arrays(draw):
    shape, rng = draw(st.sampled_from(SHAPES)), np.random.default_rng(draw(st.integers(0, 2**32)))
    width = draw(st.sampled_from([0, 3, 60]))
    x = rng.standard_normal(shape) * np.exp2(
        rng.integers(-width, width + 1, shape[:1] + (1,) * (len(shape) - 1))
    )
    x[rng.random(shape) < draw(st.sampled_from([0.02, 0.9]))] = -0.0
    x = np.where(rng.random(shape) < 1e-3, 1e-41, x)
    return x.astype(draw(st.sampled_from([np.float32, np.float64])))


@given(arrays(), st.sampled_from(OPERANDS), st.integers(0, 2))
def test_compiled_and_readable_agree_bit_for_bit(x, operand, axis):
    rows = operand.scaling.granularity.split("x")[0]
    if x.ndim == 1 and rows.isdigit() and rows != "1":
        x = x.reshape(1, -1)
    axis %= x.ndim
    one, two = (f(x, operand.fmt, operand.scaling, axis=axis) for f in (quantize, quantize_readable))
    assert_same(one.bits, two.bits)
    assert_same(one.scales, two.scales)
    assert_same(one.scale_codes.view(np.uint8), two.scale_codes.view(np.uint8))
    assert (one.tensor_scale, one.saturated, one.flushed) == (two.tensor_scale, two.saturated, two.flushed)
    assert_same(round_trip(x, operand, axis=axis), two.values())
    assert_same(readable(round_trip, x, operand, axis=axis), two.values())


def quantize(x, fmt, scaling, axis):
    return quantize_with(x, Operand(fmt, scaling), axis=axis)


@pytest.mark.parametrize(
    "name", ["tk e4m3 1x128", "te e4m3 tensor", "te nvfp4 1x16 amax", "te nvfp4 16x16 4over6"]
)
def test_float64_is_rounded_to_fp32_first(name, rng):
    _, operand = CASTS[name]
    x = rng.standard_normal((33, 200))
    assert_same(quantize_with(x, operand).bits, quantize_with(x.astype(F32), operand).bits)
    assert (quantize_with(x, Operand("e4m3", Scaling("row"))).scales.dtype) == F32
    with pytest.raises(
        ValueError, match=r"x holds numbers beyond FP32, in which .* is done; divide it first"
    ):
        quantize_with(x * 1e39, operand)
    with pytest.raises(ValueError, match="x holds 1 NaN or infinite values"):
        quantize_with(np.where(np.arange(200) == 3, np.inf, x)[:1], operand)


@pytest.mark.parametrize("operand", OPERANDS[::5], ids=str)
def test_stochastic_rounding_takes_the_same_multipliers(operand, rng):
    x = rng.standard_normal((48, 80)).astype(F32)
    q = quantize_with(x, operand, rounding="stochastic", rng=rng)
    assert_same(q.scales, quantize_with(x, operand).scales)
    assert q.codes.shape == x.shape


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"division": "reciprocl"}, "unknown division 'reciprocl'; did you mean 'reciprocal'"),
        ({"division": "te-nvfp4"}, "division 'te-nvfp4' goes with scale_format 'e4m3', not 'fp32'"),
        (
            {"scale_format": "e4m3", "division": "te-current"},
            "division 'te-current' goes with scale_format 'fp32' or 'e8m0', not 'e4m3'",
        ),
        (
            {"scale_rule": "ceil", "division": "te-current"},
            "division 'te-current' goes with scale_rule 'amax', not 'ceil': powers of two divide exactly",
        ),
        ({"granularity": "none", "division": "reciprocal"}, "granularity 'none' has no scales to meet"),
        (
            {"granularity": "1x32", "scale_format": "e4m3", "scale_rule": "4over6"},
            "the rule '4over6' picks scales for blocks of NVFP4, not '1x32'; use granularity '1x16' or '16x16'",
        ),
        ({"scale_rule": "4over6"}, "fp32 scales cannot follow the rule '4over6'; use 'amax'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Scaling(**arguments)
    with pytest.raises(ValueError, match=re.escape(message)):
        fp8sim.quantize(np.ones((2, 2)), "e2m1", **arguments)


@pytest.mark.parametrize("options", [{"division": "te-nvfp4"}, {"scale_rule": "4over6"}])
def test_rules_of_nvfp4_are_for_e2m1(options):
    (asked,) = options.values()
    with pytest.raises(ValueError, match=f"'{asked}' is a rule of NVFP4, for elements of e2m1, not e4m3"):
        Operand("e4m3", Scaling("1x16", "e4m3", **options))


def test_a_division_is_said_where_it_is_not_the_default():
    assert str(Scaling("1x128")) == "1x128 fp32"
    assert str(Scaling("1x128", division="reciprocal")) == "1x128 fp32 reciprocal"
    assert str(Scaling("1x16", "e4m3", "4over6", division="te-nvfp4")) == "1x16 e4m3 4over6 te-nvfp4"
    assert Scaling("row") == Scaling("row", "fp32", "amax", 0.0, "divide")
