"""Scales: who shares one, and how it is picked, against rational arithmetic and plain loops."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fp8sim
import oracle
import strategies
from fp8sim import FORMATS, _kernels, get_format
from fp8sim.quantization import (
    SCALE_FORMATS,
    SCALE_RULES,
    Operand,
    Scaling,
    group_sizes,
    quantize_with,
    round_trip,
    scales_shape,
)
from fp8sim.reference.scales import expand_groups, group_amax, group_percentile, pick_scales
from oracle import LAYOUTS

POWER_OF_TWO_RULES = ("ceil", "floor", "even")
ELEMENTS = ("e4m3", "e5m2", "e4m3fnuz", "e3m4", "e2m3", "e3m2", "e2m1", "e5m6", "fp16")


def picked(amax, fmt, scaling):
    return pick_scales(
        amax,
        fmt,
        scale_format=scaling.scale_format,
        scale_rule=scaling.scale_rule,
        amax_floor=scaling.amax_floor,
    )


def scale_of(amax, name, rule, scale_format="e8m0"):
    amax = np.atleast_1d(amax)
    return picked(amax, get_format(name), Scaling(scale_format=scale_format, scale_rule=rule))


def hard_amaxes(name):
    """Numbers around every point where the scale of a format can change, from 2^-149 to 2^128."""
    top = oracle.largest(LAYOUTS[name])
    significand = math.frexp(top)[0] * 2
    half_step = 2 - 2.0 ** -(LAYOUTS[name].mantissa_bits + 1)  # above it `even` carries
    exponents = [*range(-149, -110), *range(-12, 13), *range(110, 128)]
    exact = [s * 2.0**e for e in exponents for s in (1.0, significand, half_step, 1.5)]
    float64 = np.array(exact)
    around = np.concatenate([float64, np.nextafter(float64, np.inf), np.nextafter(float64, 0)])
    narrow = float64.astype(np.float32)
    narrow = np.concatenate(
        [narrow, np.nextafter(narrow, np.float32(3e38)), np.nextafter(narrow, narrow * 0)]
    )
    return around, np.unique(narrow[narrow > 0])


# --- powers of two --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale_format", ["e8m0", "fp32"])
@pytest.mark.parametrize("rule", POWER_OF_TWO_RULES)
@pytest.mark.parametrize("name", ELEMENTS)
def test_powers_of_two_follow_the_rule_in_exact_arithmetic(name, rule, scale_format):
    for amax in hard_amaxes(name):
        expected = [oracle.power_of_two_scale(Fraction(float(value)), LAYOUTS[name], rule) for value in amax]
        scales = scale_of(amax, name, rule, scale_format)
        assert scales.values.dtype == np.float32
        np.testing.assert_array_equal(scales.values, np.array([float(value) for value in expected]))
        assert scales.tensor_scale == 1
        np.testing.assert_array_equal(fp8sim.decode(scales.codes, scale_format), scales.values)


@given(
    st.floats(2.0**-120, 2.0**100),
    st.sampled_from(ELEMENTS),
    st.sampled_from(POWER_OF_TWO_RULES),
)
def test_any_amax_gets_its_power_of_two(amax, name, rule):
    expected = oracle.power_of_two_scale(Fraction(amax), LAYOUTS[name], rule)
    assert float(scale_of(amax, name, rule).values[0]) == expected


@given(st.floats(2.0**-100, 2.0**100), st.sampled_from(ELEMENTS))
def test_ceil_is_the_smallest_power_of_two_that_keeps_amax_in_range(amax, name):
    scale, top = float(scale_of(amax, name, "ceil").values[0]), FORMATS[name].max
    assert amax <= top * scale
    assert amax > top * scale / 2


# worked by hand: E4M3 has emax 8 and max 448 = 1.75 2^8, E2M1 emax 2 and max 6 = 1.5 2^2
@pytest.mark.parametrize(
    ("name", "amax", "ceil", "floor", "even"),
    [
        ("e4m3", 256.0, 1, 1, 1),
        ("e4m3", 448.0, 1, 1, 1),
        ("e4m3", 448.1, 2, 1, 1),
        ("e4m3", 495.9, 2, 1, 1),
        ("e4m3", 496.0, 2, 1, 2),  # half way from 1.875 to 2, in three bits of mantissa
        ("e4m3", 511.9, 2, 1, 2),
        ("e4m3", 512.0, 2, 2, 2),
        ("e4m3", 1.0, 2.0**-8, 2.0**-8, 2.0**-8),
        ("e2m1", 6.0, 1, 1, 1),
        ("e2m1", 6.5, 2, 1, 1),
        ("e2m1", 7.0, 2, 1, 2),  # half way from 1.5 to 2, in one bit of mantissa
        ("e2m1", 4.0, 1, 1, 1),
        ("e5m2", 65535.0, 2, 1, 2),
        ("e5m2", 57344.0, 1, 1, 1),
        ("e4m3", 7.9999995, 2.0**-5, 2.0**-6, 2.0**-5),  # log2 of it in float32 is 3
    ],
)
def test_scales_worked_by_hand(name, amax, ceil, floor, even):
    for rule, expected in zip(POWER_OF_TWO_RULES, (ceil, floor, even), strict=True):
        for dtype in (np.float32, np.float64):
            assert scale_of(dtype(amax), name, rule).values.tolist() == [expected]


def test_e8m0_scales_are_held_at_2_to_the_minus_127():
    for rule in POWER_OF_TWO_RULES:
        scales = scale_of(np.array([0.0, 5e-324, 2.0**-127, 1e-39]), "e4m3", rule)
        assert scales.values.tolist() == [2.0**-127] * 4
        assert scales.codes.view(np.uint8).tolist() == [0] * 4


def test_e8m0_codes_are_biased_exponents():
    scales = scale_of(np.array([448.0, 896.0, 448 * 2.0**120]), "e4m3", "ceil")
    assert scales.codes.dtype == ml_dtypes.float8_e8m0fnu
    assert scales.codes.view(np.uint8).tolist() == [127, 128, 247]


# DeepGEMM, utils/math.py, ceil_to_ue8m0: the exponent of amax / 448, plus one if any mantissa bit is set
def test_ceil_is_deepgemms_ue8m0(rng):
    amax = (np.exp2(rng.uniform(-13, 20, 100_000))).astype(np.float32)
    ratio = (amax / np.float32(448)).view(np.uint32)
    exponent = (ratio >> 23) + ((ratio & 0x7FFFFF) != 0)
    scales = scale_of(amax, "e4m3", "ceil")
    np.testing.assert_array_equal(scales.codes.view(np.uint8), exponent.clip(1, 254))


# --- FP32 scales ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTS)
def test_an_fp32_scale_is_amax_over_the_largest_value(name, dtype, rng):
    amax = np.exp2(rng.uniform(-80, 80, 500)).astype(dtype)
    top = Fraction(oracle.largest(LAYOUTS[name]))
    # one division in the dtype of amax, then one rounding to float32
    expected = [np.float32(dtype(float(Fraction(float(value)) / top))) for value in amax]
    scales = scale_of(amax, name, "amax", "fp32")
    assert scales.values.dtype == scales.codes.dtype == np.float32
    np.testing.assert_array_equal(scales.values, np.array(expected))
    np.testing.assert_array_equal(scales.codes, scales.values)


def test_zeros_and_tiny_groups_get_a_usable_fp32_scale():
    scales = scale_of(np.array([0.0, 5e-324, 1e-320]), "e4m3", "amax", "fp32")
    assert scales.values.tolist() == [1.0, 2.0**-149, 2.0**-149]
    scales = scale_of(np.float32([0.0, 2.0**-149]), "e4m3", "amax", "fp32")
    assert scales.values.tolist() == [1.0, 2.0**-149]


@pytest.mark.parametrize("scale_format", SCALE_FORMATS)
def test_amax_floor_is_the_smallest_amax_taken(scale_format):
    scaling = Scaling(scale_format=scale_format, amax_floor=0.5)
    amax = np.array([0.0, 0.25, 0.5, 8.0])
    floored = picked(amax, get_format("e4m3"), scaling)
    expected = picked(np.maximum(amax, 0.5), get_format("e4m3"), Scaling(scale_format=scale_format))
    np.testing.assert_array_equal(floored.values, expected.values)
    assert len(set(floored.values.tolist())) == 2
    assert amax.tolist() == [0.0, 0.25, 0.5, 8.0]


def test_deepseeks_floor_is_taken_in_the_dtype_of_the_array():
    # DeepSeek-V3 inference/kernel.py, act_quant: max(amax, 1e-4) / 448, in FP32
    for dtype in (np.float32, np.float64):
        q = fp8sim.quantize(np.zeros(4, dtype), "e4m3", "1x2", amax_floor=1e-4)
        assert q.scales.tolist() == [np.float32(dtype(1e-4) / dtype(448))] * 2


# --- NVFP4 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["e2m1", "e4m3"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nvfp4_scales_are_e4m3_codes_under_one_fp32_scale(name, dtype, rng):
    # TransformerEngine: FP32 scale amax / (448 * 6); E4M3 scale of a group its amax / 6 over that
    amax = np.exp2(rng.uniform(-14, 4, 2000)).astype(dtype)
    top = Fraction(oracle.largest(LAYOUTS[name]))
    scales = picked(amax, get_format(name), Scaling("1x16", "e4m3"))

    tensor = oracle.nearest_float32(Fraction(float(amax.max())) / (448 * top))
    assert scales.tensor_scale == tensor
    assert isinstance(scales.tensor_scale, np.float32)
    assert scales.codes.dtype == ml_dtypes.float8_e4m3fn
    exact = [Fraction(float(value)) / top / Fraction(float(tensor)) for value in amax]
    expected = [oracle.round_one(value, LAYOUTS["e4m3"], "nearest-even", "saturate") for value in exact]
    decoded = scales.codes.astype(np.float64)
    # the library rounds twice on the way, so a quotient within 2^-22 of a midpoint may go either way
    steps = np.array([float(oracle.quantum(value, LAYOUTS["e4m3"])) for value in exact])
    distance = np.abs(np.array([float(value) for value in exact]) - decoded)
    assert np.all(distance <= steps * 0.5 + decoded * 2.0**-22)
    assert np.count_nonzero(decoded != expected) <= 1
    assert decoded.max() == 448
    np.testing.assert_array_equal(scales.values, np.float32(decoded) * tensor)


def test_an_nvfp4_group_far_below_the_largest_has_a_scale_of_zero_and_no_nan():
    x = np.zeros((3, 16), np.float32)
    x[0], x[1] = 1000.0, 1e-4
    q = fp8sim.quantize(x, "e2m1", "1x16", scale_format="e4m3")
    assert q.scale_codes.astype(np.float32).tolist() == [[448.0], [0.0], [0.0]]
    assert q.scales[1] == q.scales[2] == 0
    values = q.dequantize()
    np.testing.assert_allclose(values[0], 1000, rtol=1e-6)
    assert not values[1:].any()
    assert q.flushed == 16


@pytest.mark.parametrize("name", ["bf16", "tf32", "fp32"])
def test_e4m3_scales_of_formats_as_wide_as_float32_are_those_of_float64(name, rng):
    x = rng.standard_normal((8, 64)).astype(np.float32)  # 448 times the largest value is beyond float32
    q = fp8sim.quantize(x, name, "1x16", scale_format="e4m3")
    exact = fp8sim.quantize(x.astype(np.float64), name, "1x16", scale_format="e4m3")
    np.testing.assert_array_equal(q.scales, exact.scales)
    assert fp8sim.metrics.relative_error(q.dequantize(np.float64), x) < 0.02  # an E4M3 scale may round down
    assert q.flushed == 0


@pytest.mark.parametrize("scale_format", ["fp32", "e4m3"])
@pytest.mark.parametrize("size", [16, 8192])
def test_a_scale_beyond_fp32_is_refused_in_every_scale_format(scale_format, size):
    small = fp8sim.FloatFormat("below-one", 4, 3, bias=16, specials="nan-only")  # its largest value is 0.875
    x = np.full((1, size), np.finfo(np.float32).max)
    for array in (x, x.astype(np.float32)):
        with pytest.raises(ValueError, match="needs a scale beyond FP32; divide the array first"):
            fp8sim.quantize(array, small, "1x16", scale_format=scale_format)


def test_nvfp4_scales_of_zeros_are_no_nan():
    for x in (np.zeros((2, 20)), np.full((2, 20), 1e-44, np.float32), np.full((2, 20), 1e-300)):
        q = fp8sim.quantize(x, "e2m1", "1x16", scale_format="e4m3")
        assert np.isfinite(q.scales).all()
        assert np.isfinite(q.dequantize()).all()
        assert np.isfinite(q.tensor_scale)
        assert q.tensor_scale > 0


# --- groups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granularity", "shape", "axis", "sizes", "groups"),
    [
        ("tensor", (300, 1000), -1, (300, 1000), (1, 1)),
        ("row", (300, 1000), -1, (1, 1000), (300, 1)),
        ("row", (300, 1000), 0, (300, 1), (1, 1000)),
        ("1x128", (300, 1000), -1, (1, 128), (300, 8)),
        ("1x128", (300, 1000), 1, (1, 128), (300, 8)),
        ("1x128", (300, 1000), 0, (128, 1), (3, 1000)),
        ("128x128", (300, 1000), -1, (128, 128), (3, 8)),
        ("128x128", (300, 1000), 0, (128, 128), (3, 8)),
        ("64x128", (300, 1000), -1, (64, 128), (5, 8)),
        ("64x128", (300, 1000), -2, (128, 64), (3, 16)),
        ("1x32", (100,), 0, (32,), (4,)),
        ("1x16", (2, 3, 40), -1, (1, 1, 16), (2, 3, 3)),
        ("128x128", (4, 300, 1000), -1, (1, 128, 128), (4, 3, 8)),
        ("128x128", (4, 300, 1000), 1, (1, 128, 128), (4, 3, 8)),
        ("1x128", (4, 5), -1, (1, 5), (4, 1)),
        ("tensor", (7,), 0, (7,), (1,)),
    ],
)
def test_group_sizes_and_counts(granularity, shape, axis, sizes, groups):
    assert group_sizes(granularity, shape, axis) == sizes
    assert scales_shape(granularity, shape, axis) == groups


@given(st.data())
def test_amax_and_expansion_walk_the_same_groups_as_plain_loops(data):
    x = data.draw(strategies.arrays(max_side=8))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    scaling = data.draw(strategies.scalings(x.ndim))
    sizes = group_sizes(scaling.granularity, x.shape, axis)
    amax = group_amax(x, sizes)
    expanded = expand_groups(amax, sizes, x.shape)
    assert amax.shape == scales_shape(scaling.granularity, x.shape, axis)
    seen = np.zeros(x.shape, int)
    for index, slices in oracle.group_slices(scaling.granularity, x.shape, axis):
        assert amax[index] == max(abs(float(v)) for v in x[slices].ravel())
        assert np.all(expanded[slices] == amax[index])
        seen[slices] += 1
    assert np.all(seen == 1)


@pytest.mark.parametrize(
    ("scaling", "shape", "nbytes"),
    [
        (Scaling("tensor"), (4096, 7168), 4),
        (Scaling("row"), (4096, 7168), 4 * 4096),
        (Scaling("1x128"), (4096, 7168), 4 * 4096 * 56),
        (Scaling("1x128", "e8m0"), (4096, 7168), 4096 * 56),
        (Scaling("128x128"), (2112, 7168), 4 * 17 * 56),
        (Scaling("1x32", "e8m0", "floor"), (3, 100), 3 * 4),
        (Scaling("1x16", "e4m3"), (3, 100), 3 * 7 + 4),
        (Scaling("none"), (3, 100), 0),
    ],
)
def test_bytes_of_scales_worked_by_hand(scaling, shape, nbytes):
    assert scaling.nbytes(shape) == nbytes


def test_activation_scales_of_deepseek_add_an_eighth_of_a_quarter():
    # 4 bytes for 128: 3.125 % in FP32, 0.78 % in E8M0
    elements = 4096 * 7168
    assert Scaling("1x128").nbytes((4096, 7168)) / elements == 0.03125
    assert Scaling("1x128", "e8m0").nbytes((4096, 7168)) / elements == 0.0078125


def test_scalings_are_frozen_hashable_values_with_default_rules():
    assert Scaling("row") == Scaling("row", "fp32", "amax", 0.0)
    assert Scaling("row", "e8m0").scale_rule == "ceil"
    assert Scaling("row", "e4m3").scale_rule == "amax"
    assert len({Scaling("row"), Scaling("row"), Scaling("tensor")}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Scaling("row").granularity = "tensor"
    changed = dataclasses.replace(Scaling("1x128", "e8m0"), granularity="1x32")
    assert (changed.granularity, changed.scale_rule) == ("1x32", "ceil")


def test_every_rule_of_every_scale_format_is_described():
    assert {rule for rules in SCALE_FORMATS.values() for rule in rules} == set(SCALE_RULES)
    assert set(SCALE_FORMATS) <= set(FORMATS)


# --- static scales and percentiles ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "scaling",
    [
        Scaling("tensor", amax=2),
        Scaling("tensor", amax=2.0, division="te-current"),
        Scaling("tensor", "e8m0", amax=2),
        Scaling("tensor", "e8m0", "floor", amax=1.9),
    ],
)
def test_a_given_amax_is_taken_whatever_the_array_holds(scaling, dtype, rng):
    x = rng.standard_normal((130, 70)).astype(dtype)
    q = quantize_with(x, Operand("e4m3", scaling))
    amax = np.array([[scaling.amax]], dtype)
    rule = dataclasses.asdict(scaling)
    expected = pick_scales(
        amax, get_format("e4m3"), **{key: rule[key] for key in ("scale_format", "scale_rule", "division")}
    )
    np.testing.assert_array_equal(q.scales, expected.values)
    beyond = np.abs(x) / q.scales > 464  # which is half way to 480, and rounded down
    assert q.saturated == np.count_nonzero(beyond) > 0
    assert (np.abs(q.codes.astype(np.float32))[beyond] == 448).all()
    with _kernels.readable():
        slow = quantize_with(x, Operand("e4m3", scaling))
        np.testing.assert_array_equal(round_trip(x, Operand("e4m3", scaling)), q.dequantize())
    np.testing.assert_array_equal(slow.bits, q.bits)
    assert (slow.saturated, slow.flushed) == (q.saturated, q.flushed)
    np.testing.assert_array_equal(round_trip(x, Operand("e4m3", scaling)), q.dequantize())


def test_the_amax_of_the_array_given_changes_no_bit(rng):
    x = rng.standard_normal((70, 90)).astype(np.float32)
    given = quantize_with(x, Operand("e4m3", Scaling("tensor", amax=float(np.abs(x).max()))))
    picked = quantize_with(x, Operand("e4m3", Scaling("tensor")))
    np.testing.assert_array_equal(given.bits, picked.bits)
    np.testing.assert_array_equal(given.scales, picked.scales)
    assert given.saturated == 0


def by_sorting(group, percentile):
    """Return the nearest rank of one group by the definition, in fractions."""
    ordered = sorted(np.abs(group).ravel().tolist())
    share = Fraction(str(percentile)) / 100
    return next(value for i, value in enumerate(ordered, 1) if Fraction(i, len(ordered)) >= share)


@pytest.mark.parametrize("percentile", [0.1, 25, 50, 99, 99.9, 99.99])
@pytest.mark.parametrize("granularity", ["tensor", "row", "1x16", "1x7", "3x2", "128x128", "64x64"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_percentile_is_the_nearest_rank_of_each_group(percentile, granularity, axis, rng):
    x = rng.standard_normal((100, 130))
    sizes = group_sizes(granularity, x.shape, axis)
    found = group_percentile(x, sizes, percentile)
    assert found.shape == scales_shape(granularity, x.shape, axis)
    for i, j in np.ndindex(found.shape):
        group = x[i * sizes[0] : (i + 1) * sizes[0], j * sizes[1] : (j + 1) * sizes[1]]
        assert found[i, j] == by_sorting(group, percentile)


def test_99_9_per_cent_of_1000_is_999_of_them():
    x = np.arange(1.0, 1001.0)
    assert group_percentile(x, (1000,), 99.9).tolist() == [999.0]  # 0.999 in binary is above 0.999
    q = quantize_with(x, Operand("int8", Scaling("tensor", percentile=99)))
    assert q.scales.tolist() == [np.float32(990 / 127)]
    assert q.saturated == 7  # 994 to 1000: 993 / (990 / 127) is 127.4


@pytest.mark.parametrize("scale_format", list(SCALE_FORMATS))
@pytest.mark.parametrize("granularity", ["tensor", "row", "1x16", "128x128"])
def test_percentiles_saturate_what_is_beyond_and_both_ways_agree(granularity, scale_format, rng):
    x = rng.standard_t(3, (150, 300)).astype(np.float32)
    operand = Operand("e2m1", Scaling(granularity, scale_format, percentile=90))
    q = quantize_with(x, operand)
    amax = group_percentile(x, q.sizes, 90)
    expected = pick_scales(amax, q.fmt, scale_format=scale_format, scale_rule=operand.scaling.scale_rule)
    np.testing.assert_array_equal(q.scales, expected.values)
    assert q.saturated > 0
    with _kernels.readable():
        slow = quantize_with(x, operand)
    np.testing.assert_array_equal(slow.bits, q.bits)
    assert (slow.saturated, slow.flushed) == (q.saturated, q.flushed)
    np.testing.assert_array_equal(round_trip(x, operand), q.dequantize())


def test_a_group_of_mostly_zeros_keeps_the_scale_of_its_largest():
    x = np.zeros((2, 100), np.float32)
    x[0, 3] = 7
    q = quantize_with(x, Operand("e4m3", Scaling("row", percentile=50)))
    assert q.scales.ravel().tolist() == [7 / 448, 1]
    assert q.dequantize()[0, 3] == 7


@pytest.mark.parametrize("scaling", [Scaling("tensor", amax=1), Scaling("row", percentile=50)])
def test_calibrated_scales_refuse_nan_as_others_do(scaling):
    with pytest.raises(ValueError, match="x holds 1 NaN or infinite values"):
        quantize_with(np.array([[1.0, np.nan]]), Operand("e4m3", scaling))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"amax": 0}, ValueError, "amax must be"),
        ({"amax": -1.0}, ValueError, "amax must be"),
        ({"amax": np.inf}, ValueError, "amax must be"),
        ({"amax": np.nan}, ValueError, "amax must be a number, got NaN"),
        ({"amax": 1e39}, ValueError, "amax must be"),
        ({"amax": "6"}, TypeError, "amax must be a number, got '6'"),
        (
            {"amax": 1, "granularity": "row"},
            ValueError,
            "amax=1 is that of a tensor, and granularity is 'row'",
        ),
        ({"amax": 1, "amax_floor": 1e-4}, ValueError, "amax is given, so amax_floor has nothing to act on"),
        ({"amax": 1, "percentile": 99}, ValueError, "amax is given, so percentile has nothing to act on"),
        ({"percentile": 0}, ValueError, "percentile must be above 0 and at most 100, got 0"),
        ({"percentile": 100.5}, ValueError, "percentile must be above 0 and at most 100"),
        ({"percentile": None}, TypeError, "percentile must be a number, got None"),
        ({"percentile": 99, "granularity": "none"}, ValueError, "granularity 'none' has no scales to pick"),
        (
            {"percentile": 99, "granularity": "1x16", "scale_format": "e4m3", "scale_rule": "4over6"},
            ValueError,
            "'4over6' picks scales by the largest of a block; leave percentile=99 out",
        ),
    ],
)
def test_calibration_that_makes_no_sense_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Scaling(**options)


def test_calibration_is_shown_and_compared():
    assert str(Scaling("tensor", amax=np.float32(6))) == "tensor fp32 amax 6"
    assert str(Scaling("row", "e8m0", "floor", percentile=99.9)) == "row e8m0 floor 99.9 %"
    assert Scaling("tensor", amax=6) == dataclasses.replace(Scaling("tensor"), amax=6.0)
    assert len({Scaling("tensor"), Scaling("tensor", amax=6), Scaling("tensor", amax=7)}) == 3
    assert Scaling("tensor") == Scaling("tensor", amax=None, percentile=100)
