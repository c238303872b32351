"""Casts: `round_to`, `encode` and `decode` against ml_dtypes and against exact rational arithmetic."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fp8sim
import oracle
import strategies
from fp8sim import FORMATS, FloatFormat, _kernels, get_format
from oracle import LAYOUTS, MODES, NATIVE, UP_TO_8_BITS, UP_TO_16_BITS, assert_same

INPUTS = {name: np.arange(2**16, dtype=np.uint16).view(NATIVE[name]) for name in ("fp16", "bf16")}
POLICIES = ("saturate", "ieee")
DIRECTED = {"toward-positive": "toward-negative", "toward-negative": "toward-positive"}
#: bits of bfloat16: 2^-127 (1 + i/64), of which those nearer to 2^-127 than to 2^-126
JUST_ABOVE_2_TO_MINUS_127 = range(0x0041, 0x0060)


def without_nan(x: oracle.Array) -> oracle.Array:
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return x[~np.isnan(x.astype(np.float64))]


def bits(codes: oracle.Array) -> oracle.Array:
    return codes.view({1: np.uint8, 2: np.uint16, 4: np.uint32}[codes.dtype.itemsize])


bits_ = bits  # where a test has a parameter of that name


def ml_dtypes_codes(x: oracle.Array, name: str) -> oracle.Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return bits(x.astype(NATIVE[name]))


def canonical(codes: oracle.Array, name: str) -> oracle.Array:
    """Replace NaN codes by the quiet NaN of their sign: ml_dtypes and numpy pass payloads through."""
    layout = LAYOUTS[name]
    if layout.bits <= 8:
        return codes
    sign, magnitude = codes >> (layout.bits - 1) << (layout.bits - 1), codes << 1 >> 1
    infinity = (2**layout.exponent_bits - 1) << layout.mantissa_bits
    quiet = infinity | 1 << (layout.mantissa_bits - 1)
    return np.where(magnitude > infinity, sign | quiet, codes)


# --- against ml_dtypes ----------------------------------------------------------------------------


@pytest.mark.parametrize("source", INPUTS)
@pytest.mark.parametrize("name", NATIVE)
def test_every_16_bit_input_encodes_as_in_ml_dtypes(name, source):
    x = INPUTS[source]
    if not LAYOUTS[name].has_nan:
        x = without_nan(x)
    # formats with neither infinity nor NaN saturate in ml_dtypes
    codes = fp8sim.encode(x, name, overflow="ieee" if LAYOUTS[name].has_nan else "saturate")
    assert codes.dtype == NATIVE[name]
    expected = canonical(ml_dtypes_codes(x, name), name)
    if name == "e8m0" and source == "bf16":
        known = np.isin(bits(x), JUST_ABOVE_2_TO_MINUS_127)
        assert not np.any(bits(codes)[known] == expected[known])
        expected[known] = 0  # see the next test
    np.testing.assert_array_equal(bits(codes), expected)


def test_e8m0_differs_from_ml_dtypes_where_ml_dtypes_picks_the_further_neighbour():
    x = np.array(JUST_ABOVE_2_TO_MINUS_127, np.uint16).view(ml_dtypes.bfloat16)
    exact = [oracle.round_one(float(v), LAYOUTS["e8m0"], "nearest-even", "ieee") for v in x]
    assert exact == [2.0**-127] * 31
    assert fp8sim.round_to(x, "e8m0").tolist() == exact
    assert x.astype(ml_dtypes.float8_e8m0fnu).astype(np.float64).tolist() == [2.0**-126] * 31


@pytest.mark.parametrize("source", INPUTS)
@pytest.mark.parametrize("name", NATIVE)
def test_every_16_bit_input_saturates_as_ml_dtypes_does_after_clipping(name, source):
    x = INPUTS[source]
    if not LAYOUTS[name].has_nan:
        x = without_nan(x)
    with np.errstate(invalid="ignore"):
        clipped = np.clip(x.astype(np.float32), -FORMATS[name].max, FORMATS[name].max)
    expected = canonical(ml_dtypes_codes(clipped, name), name)
    codes = fp8sim.encode(x, name, overflow="saturate")
    if name == "e8m0" and source == "bf16":
        expected[np.isin(bits(x), JUST_ABOVE_2_TO_MINUS_127)] = 0
    np.testing.assert_array_equal(bits(codes), expected)


@pytest.mark.parametrize("name", NATIVE)
def test_a_million_float32_bit_patterns_encode_as_in_ml_dtypes(name, rng):
    x = rng.integers(0, 2**32, 2**20, dtype=np.uint32).view(np.float32)
    if not LAYOUTS[name].has_nan:
        x = without_nan(x)
    if name == "e8m0":  # ml_dtypes rounds subnormals up
        x = x[~(np.abs(x) < 2.0**-126)]
    policy = "ieee" if LAYOUTS[name].has_nan else "saturate"
    expected = canonical(ml_dtypes_codes(x, name), name)
    np.testing.assert_array_equal(bits(fp8sim.encode(x, name, overflow=policy)), expected)


@pytest.mark.parametrize("source", [name for name in NATIVE if LAYOUTS[name].bits <= 8])
@pytest.mark.parametrize("name", NATIVE)
def test_codes_of_narrow_formats_are_inputs_too(name, source):
    x = np.arange(2 ** LAYOUTS[source].bits, dtype=np.uint8).view(NATIVE[source])
    if not LAYOUTS[name].has_nan:
        x = without_nan(x)
    policy = "ieee" if LAYOUTS[name].has_nan else "saturate"
    expected = canonical(ml_dtypes_codes(x.astype(np.float32), name), name)
    np.testing.assert_array_equal(bits(fp8sim.encode(x, name, overflow=policy)), expected)


# --- against the rational oracle ------------------------------------------------------------------


def test_the_two_oracles_agree():
    for name in UP_TO_8_BITS:
        layout = LAYOUTS[name]
        for mode in MODES:
            for policy in POLICIES:
                x = oracle.probes(layout, every=9)
                one = [oracle.round_one(float(v), layout, mode, policy) for v in x]
                assert_same(oracle.round_array(x, layout, mode, policy), np.array(one))


def check(x, fmt, layout, mode, policy):
    """Compare `round_to` and `encode` with the oracle; what has no answer must be refused."""
    expected = oracle.round_array(x, layout, mode, policy)
    if not layout.has_nan:
        refused = np.isnan(expected)
        for value in x[refused][::29]:
            with pytest.raises(ValueError, match=r"x (holds|overflows)"):
                fp8sim.round_to(value, fmt, rounding=mode, overflow=policy)
            with pytest.raises(ValueError, match=r"x (holds|overflows)"):
                fp8sim.encode([value], fmt, rounding=mode, overflow=policy)
        x, expected = x[~refused], expected[~refused]
    # few and many numbers take different ways, and must not differ
    for size in (100, len(x)) if len(x) > 5000 else (len(x), 5000):
        some, answers = np.resize(x, size), np.resize(expected, size)
        result = fp8sim.round_to(some, fmt, rounding=mode, overflow=policy)
        assert result.dtype == x.dtype
        assert_same(result, answers)
        codes = fp8sim.encode(some, fmt, rounding=mode, overflow=policy)
        assert codes.dtype == get_format(fmt).dtype
        assert_same(fp8sim.decode(codes, fmt), answers)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", UP_TO_16_BITS)
def test_midpoints_and_their_neighbours_round_as_exact_arithmetic_says(name, mode, policy):
    x = oracle.probes(LAYOUTS[name])
    check(x, name, LAYOUTS[name], mode, policy)
    check(oracle.narrowed(x), name, LAYOUTS[name], mode, policy)


WIDE = {
    "tf32": LAYOUTS["tf32"],
    "fp32": LAYOUTS["fp32"],
    "e7m16": oracle.Layout(True, 7, 16, 63, "ieee"),
    "e8m13": oracle.Layout(True, 8, 13, 127, "ieee"),
    "e4m23": oracle.Layout(True, 4, 23, 7, "ieee"),
    "e6m12-ftz": oracle.Layout(True, 6, 12, 31, "ieee", subnormals=False),
    "e8m12-low": oracle.Layout(True, 8, 12, 135, "ieee"),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WIDE)
def test_wide_formats_round_as_exact_arithmetic_says(name, mode, policy, rng):
    layout = WIDE[name]
    fields = {field: getattr(layout, field) for field in ("bias", "specials", "subnormals", "signed")}
    fmt = FORMATS.get(name) or FloatFormat(name, layout.exponent_bits, layout.mantissa_bits, **fields)
    normal = 2**layout.mantissa_bits
    infinity = (2**layout.exponent_bits - 1) * normal
    full = dataclasses.replace(layout, subnormals=True)
    codes = np.r_[rng.integers(0, infinity - 1, 50), 0, normal - 1, normal, infinity - 2]
    low = np.array([oracle.decode(int(code), full) for code in codes])
    high = np.array([oracle.decode(int(code) + 1, full) for code in codes])
    x = oracle.around(low, high, beyond=2.0 * oracle.decode(infinity - normal, full))
    for inputs in (x, oracle.narrowed(x)[::3]):
        with np.errstate(invalid="ignore"):
            expected = [oracle.round_one(float(v), layout, mode, policy) for v in inputs]
        for size in (len(inputs), 5000):
            rounded = fp8sim.round_to(np.resize(inputs, size), fmt, rounding=mode, overflow=policy)
            assert_same(rounded, np.resize(expected, size))
            codes = fp8sim.encode(np.resize(inputs, size), fmt, rounding=mode, overflow=policy)
            assert_same(fp8sim.decode(codes, fmt), np.resize(expected, size))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", UP_TO_16_BITS)
def test_every_16_bit_input_rounds_as_exact_arithmetic_says(name, mode, policy):
    for x in INPUTS.values():
        check(x.astype(np.float32), name, LAYOUTS[name], mode, policy)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", UP_TO_16_BITS)
def test_random_bit_patterns_round_as_exact_arithmetic_says(name, mode, rng):
    x64 = rng.integers(0, 2**64, 100_000, dtype=np.uint64).view(np.float64)
    x64 = x64[~(np.abs(x64) > 1e307)]
    middle = rng.standard_normal(100_000) * np.exp2(rng.integers(-40, 40, 100_000))
    x32 = rng.integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    for x in (x64, middle, middle.astype(np.float32), x32):
        check(x, name, LAYOUTS[name], mode, "saturate")


@given(st.sampled_from(UP_TO_16_BITS), strategies.float64s(), strategies.roundings, strategies.overflows)
def test_any_float64_rounds_as_exact_arithmetic_says(name, x, mode, policy):
    check(np.array([x]), name, LAYOUTS[name], mode, policy)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@given(data=st.data(), mode=strategies.roundings, policy=strategies.overflows)
def test_any_user_format_rounds_as_exact_arithmetic_says(signed, data, mode, policy):
    fmt, layout = data.draw(strategies.user_formats(signed))
    x = oracle.probes(layout)
    check(x, fmt, layout, mode, policy)
    check(oracle.narrowed(x), fmt, layout, mode, policy)


@pytest.mark.parametrize("subnormals", [True, False], ids=["subnormals", "flushing"])
@pytest.mark.parametrize("specials", ["ieee", "nan-only", "fnuz", "none"])
@pytest.mark.parametrize("mantissa_bits", [0, 1])
@pytest.mark.parametrize("exponent_bits", [2, 3])
def test_tiny_formats_round_as_exact_arithmetic_says(exponent_bits, mantissa_bits, specials, subnormals):
    fmt = FloatFormat("tiny", exponent_bits, mantissa_bits, specials=specials, subnormals=subnormals)
    bias = 2 ** (exponent_bits - 1) - 1
    layout = oracle.Layout(True, exponent_bits, mantissa_bits, bias, specials, subnormals)
    x = oracle.probes(layout)
    for mode in MODES:
        for policy in POLICIES:
            check(x, fmt, layout, mode, policy)
            check(oracle.narrowed(x), fmt, layout, mode, policy)


def test_float64_rounds_to_fp32_as_numpy_does_and_never_crosses_the_value(rng):
    x = rng.standard_normal(100_000) * np.exp2(rng.integers(-160, 140, 100_000))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        values = x[:50_000].astype(np.float32)
        x[:50_000] = np.where(np.isinf(values), x[:50_000], values + np.spacing(values) / np.float64(2))
        nearest = x.astype(np.float32)
    assert_same(fp8sim.round_to(x, "fp32"), nearest.astype(np.float64))
    assert_same(fp8sim.encode(x, "fp32"), nearest)

    finite = np.abs(x) < np.finfo(np.float32).max
    x, nearest = x[finite], nearest[finite]
    down = np.where(nearest > x, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    up = np.where(nearest < x, np.nextafter(nearest, np.float32(np.inf)), nearest)
    assert_same(fp8sim.encode(x, "fp32", rounding="toward-negative"), down)
    assert_same(fp8sim.encode(x, "fp32", rounding="toward-positive"), up)
    assert_same(fp8sim.encode(x, "fp32", rounding="toward-zero"), np.where(x < 0, up, down))


def test_float32_needs_no_rounding_to_fp32(rng):
    x = rng.integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    for mode in MODES:
        assert_same(fp8sim.round_to(x, "fp32", rounding=mode), x)


# --- literal values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (-431.99999999999994, -416.0),  # a tie at 432 once it has been through float32
        (-432.0, -448.0),
        (1 + 2.0**-4 + 2.0**-40, 1.125),
        (1 + 2.0**-4, 1.0),
        (1 + 1 / 16 + 2.0**-20, 1.125),  # 1 through bfloat16 or float16
        (2.0**-10 + 2.0**-60, 2.0**-9),
        (2.0**-10, 0.0),
        (-(2.0**-10), -0.0),
        (464.0, 448.0),
        (5e-324, 0.0),
        (-5e-324, -0.0),
    ],
)
def test_e4m3_rounds_once_from_float64(x, expected):
    for policy in POLICIES:
        assert_same(fp8sim.round_to(np.array([x]), "e4m3", overflow=policy), np.array([expected]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_e4m3_overflows_from_the_next_number_above_464(dtype):
    above = np.nextafter(dtype(464), dtype(np.inf))
    assert fp8sim.round_to(dtype(464), "e4m3", overflow="ieee") == 448
    assert np.isnan(fp8sim.round_to(above, "e4m3", overflow="ieee"))
    assert fp8sim.round_to(above, "e4m3", overflow="saturate") == 448


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_e5m2_overflows_from_61440(dtype):
    below = np.nextafter(dtype(61440), dtype(0))
    assert fp8sim.round_to(below, "e5m2", overflow="ieee") == 57344
    assert fp8sim.round_to(dtype(61440), "e5m2", overflow="ieee") == np.inf
    assert fp8sim.round_to(dtype(-61440), "e5m2", overflow="ieee") == -np.inf
    assert fp8sim.round_to(dtype(61440), "e5m2") == 57344


# ONNX float8.md, tables of saturating and non-saturating casts
@pytest.mark.parametrize(
    ("name", "policy", "expected"),
    [
        ("e4m3", "saturate", [448, -448, np.nan, 448, -448]),
        ("e4m3", "ieee", [np.nan, np.nan, np.nan, np.nan, np.nan]),
        ("e5m2", "saturate", [57344, -57344, np.nan, 57344, -57344]),
        ("e5m2", "ieee", [np.inf, -np.inf, np.nan, np.inf, -np.inf]),
        ("e4m3fnuz", "saturate", [240, -240, np.nan, 240, -240]),
        ("e4m3fnuz", "ieee", [np.nan, np.nan, np.nan, np.nan, np.nan]),
    ],
)
def test_infinity_nan_and_overflow_follow_the_policy(name, policy, expected):
    x = np.array([np.inf, -np.inf, np.nan, 1e6, -1e6])
    np.testing.assert_array_equal(fp8sim.round_to(x, name, overflow=policy), expected)


@pytest.mark.parametrize("name", LAYOUTS)
def test_by_default_formats_of_8_bits_saturate_and_wider_ones_do_not(name):
    x = np.array([np.inf, 1e300])
    expected = [FORMATS[name].max] * 2 if LAYOUTS[name].bits <= 8 else [np.inf, np.inf]
    assert fp8sim.round_to(x, name).tolist() == expected
    assert fp8sim.round_to(x, name, overflow=None).tolist() == expected


# IEEE 754-2019, 7.4: overflow under a directed rounding
@pytest.mark.parametrize(
    ("mode", "positive", "negative"),
    [
        ("toward-zero", 57344, -57344),
        ("toward-positive", np.inf, -57344),
        ("toward-negative", 57344, -np.inf),
        ("nearest-even", np.inf, -np.inf),
        ("nearest-away", np.inf, -np.inf),
    ],
)
@pytest.mark.parametrize("size", [57345.0, 70000.0, 1e300])
def test_a_finite_number_overflows_only_in_the_direction_of_rounding(mode, positive, negative, size):
    if mode.startswith("nearest") and size < 61440:
        positive, negative = 57344, -57344
    x = np.array([size, -size])
    rounded = fp8sim.round_to(x, "e5m2", rounding=mode, overflow="ieee")
    assert rounded.tolist() == [positive, negative]
    infinite = fp8sim.round_to(np.array([np.inf, -np.inf]), "e5m2", rounding=mode, overflow="ieee")
    assert infinite.tolist() == [np.inf, -np.inf]


def test_e8m0_has_neither_zero_nor_sign():
    x = np.array([0.0, -0.0, -1.0, -np.inf, np.nan, 2.0**-140, 1.5, 3.0, 1e39])
    rounded = fp8sim.round_to(x, "e8m0")
    # 1.5 and 3 are ties of two odd significands: the larger, as IEEE 754-2019 4.3.1 has it
    assert rounded[5:].tolist() == [2.0**-127, 2.0, 4.0, 2.0**127]
    assert np.isnan(rounded[:5]).all()
    assert bits(fp8sim.encode(x, "e8m0")).tolist() == [255] * 5 + [0, 128, 129, 254]


def test_fnuz_formats_have_no_minus_zero():
    for name in ("e4m3fnuz", "e5m2fnuz", "e4m3b11fnuz"):
        x = np.array([-0.0, -1e-30, 1e-30])
        assert_same(fp8sim.round_to(x, name), np.zeros(3))
        assert bits(fp8sim.encode(x, name)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", [name for name in LAYOUTS if "fnuz" not in name and name != "e8m0"])
def test_signed_zeros_survive(name):
    tiny = FORMATS[name].smallest_subnormal / 4
    x = np.array([0.0, -0.0, tiny, -tiny])
    assert_same(fp8sim.round_to(x, name), np.array([0.0, -0.0, 0.0, -0.0]))
    assert_same(fp8sim.decode(fp8sim.encode(x, name), name), np.float32([0.0, -0.0, 0.0, -0.0]))


# --- laws -----------------------------------------------------------------------------------------

finite64 = hnp.arrays(np.float64, st.integers(1, 40), elements=strategies.float64s())


@given(strategies.format_names, finite64, strategies.roundings)
def test_rounding_twice_changes_nothing(name, x, mode):
    if not LAYOUTS[name].has_nan:
        x = x[~np.isnan(x)]
    once = fp8sim.round_to(x, name, rounding=mode)
    for again in MODES:
        assert_same(fp8sim.round_to(once, name, rounding=again), once)


@given(strategies.format_names, finite64, strategies.roundings, strategies.overflows)
def test_rounding_is_monotonic(name, x, mode, policy):
    if name == "e8m0":
        x = np.abs(x[x != 0])
    if not LAYOUTS[name].has_inf:
        policy = "saturate"
    x = np.sort(x[~np.isnan(x)])
    rounded = fp8sim.round_to(x, name, rounding=mode, overflow=policy)
    assert np.all(rounded[1:] >= rounded[:-1])


@given(strategies.format_names.filter(lambda name: name != "e8m0"), finite64, strategies.roundings)
def test_rounding_a_mirror_image_gives_the_mirror_image(name, x, mode):
    x = x[~np.isnan(x)]
    mirrored = fp8sim.round_to(-x, name, rounding=DIRECTED.get(mode, mode))
    expected = -fp8sim.round_to(x, name, rounding=mode)
    if LAYOUTS[name].specials == "fnuz":
        expected += 0.0
    assert_same(mirrored, expected)


@given(strategies.format_names, strategies.roundings, strategies.overflows, st.data())
def test_float32_input_gives_what_the_same_float64_gives(name, mode, policy, data):
    x = data.draw(hnp.arrays(np.float32, st.integers(1, 40), elements=strategies.finite_float32s(3e38)))
    if not LAYOUTS[name].has_nan:
        policy = "saturate"
    narrow = fp8sim.round_to(x, name, rounding=mode, overflow=policy)
    wide = fp8sim.round_to(x.astype(np.float64), name, rounding=mode, overflow=policy)
    assert narrow.dtype == np.float32
    assert_same(narrow, wide)


# --- stochastic rounding --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "e4m3fnuz", "bf16", "fp16", "e5m6"])
def test_stochastic_rounding_is_unbiased(name, dtype, rng):
    values = oracle.grid(LAYOUTS[name]).values
    pairs = rng.integers(0, len(values) - 2, 40)
    pairs[:3] = 0, 1, len(values) - 3  # subnormals, and just below the largest value
    draws = 4000
    share = rng.uniform(0.02, 0.98, 40)
    low, high = values[pairs], values[pairs + 1]
    sign = rng.choice([-1, 1], 40)
    x = (sign * (low + share * (high - low))).astype(dtype)
    share = (np.abs(x).astype(np.float64) - low) / (high - low)

    rounded = fp8sim.round_to(np.tile(x, (draws, 1)), name, rounding="stochastic", rng=rng)
    went_up = np.abs(rounded) == high
    assert np.all(went_up | (np.abs(rounded) == low))
    assert np.all((rounded == 0) | (np.signbit(rounded) == (sign < 0)))
    z_squared = (went_up.sum(axis=0) - draws * share) ** 2 / (draws * share * (1 - share))
    # the sum of 40 squared z is chi-square: mean 40, variance 80
    assert abs(z_squared.sum() - 40) < 4 * math.sqrt(80)
    assert z_squared.max() < 4.5**2


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in ("fp32", "tf32")])
def test_stochastic_rounding_leaves_values_of_the_format_alone(name, rng):
    values = oracle.grid(LAYOUTS[name]).values
    x = values[:-1] if name == "e8m0" else np.concatenate([values[:-1], -values[1:-1]])
    assert_same(fp8sim.round_to(x, name, rounding="stochastic", rng=rng), x)


def test_stochastic_rounding_can_round_tiny_numbers_away_from_zero(rng):
    x = np.full(200_000, -(2.0**-9) / 1000)
    rounded = fp8sim.round_to(x, "e4m3", rounding="stochastic", rng=rng)
    assert set(rounded.tolist()) == {-0.0, -(2.0**-9)}
    # 200 expected of a binomial whose standard deviation is 14
    assert 130 < np.count_nonzero(rounded) < 270


def test_stochastic_rounding_overflows_as_often_as_it_rounds_past_the_largest_value(rng):
    x = np.full(10_000, 448.0 + 32 * 0.25)  # a quarter of the way to 480
    lost = np.isnan(fp8sim.round_to(x, "e4m3", rounding="stochastic", overflow="ieee", rng=rng))
    assert abs(lost.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 10_000)
    assert np.all(fp8sim.round_to(x, "e4m3", rounding="stochastic", rng=rng) == 448)


@pytest.mark.parametrize("fast", [False, True])
def test_a_seed_repeats_stochastic_rounding_to_the_last_bit(fast, rng):
    x = rng.standard_normal(1_500_000 if fast else 1000)
    first, second, other = (
        fp8sim.round_to(x, "e4m3", rounding="stochastic", rng=np.random.default_rng(seed))
        for seed in (3, 3, 4)
    )
    assert_same(first, second)
    assert np.any(first != other)
    codes = fp8sim.encode(x, "e4m3", rounding="stochastic", rng=np.random.default_rng(3))
    assert_same(fp8sim.decode(codes, "e4m3"), first)


@pytest.mark.parametrize("rows", [30, 3000])
def test_stochastic_rounding_draws_in_c_order_whatever_the_layout(rows, rng):
    x = rng.standard_normal((rows, 20))
    expected = fp8sim.round_to(x, "e4m3", rounding="stochastic", rng=np.random.default_rng(5))
    for same in (np.asfortranarray(x), x.ravel(), np.repeat(x, 2, axis=0)[::2], x.reshape(5, rows // 5, 20)):
        again = fp8sim.round_to(same, "e4m3", rounding="stochastic", rng=np.random.default_rng(5))
        assert_same(again, expected.reshape(same.shape))


def test_stochastic_rounding_of_the_first_numbers_does_not_depend_on_how_many_follow(rng):
    x = rng.standard_normal(300_000)
    for name in ("e4m3", "bf16"):
        many, few, one = (
            fp8sim.round_to(x[:size], name, rounding="stochastic", rng=np.random.default_rng(6))
            for size in (len(x), 1000, 1)
        )
        assert_same(many[:1000], few)
        assert_same(many[:1], one)


class Fixed(np.random.Generator):
    """A generator whose draws are given."""

    def __init__(self, draws: oracle.Array) -> None:
        super().__init__(np.random.PCG64(0))
        self.draws = draws

    def random(self, size: Any = None) -> oracle.Array:
        return np.resize(self.draws, size)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_few_random_bits_round_up_as_often_as_an_adder_carries(bits, fast, sign):
    # Every rest of 10 bits between 1 and 1.125 in E4M3, and between its two smallest subnormals, under
    # every random integer r: the adder gives 2^n + r + floor(f 2^n) over 2^n.
    rests = np.arange(2**10)
    for low, quantum in ((1.0, 2.0**-3), (2.0**-9, 2.0**-9)):
        x = sign * (low + quantum * rests / 2**10)
        for r in range(2**bits):
            draws = np.full(5000, (2**bits - 1 - r) / 2**bits)
            expected = sign * (low + quantum * (((rests >> (10 - bits)) + r) >> bits))
            options = {"rounding": "stochastic", "rng": Fixed(draws), "random_bits": bits}
            found = fp8sim.round_to(np.tile(x, 5 if fast else 1), "e4m3", **options)
            np.testing.assert_array_equal(found, np.tile(expected, 5 if fast else 1))


@pytest.mark.parametrize("bits", [1, 4, 8, 13, 16, 32, None])
def test_compiled_and_readable_take_the_same_random_bits(bits, rng):
    x = (rng.standard_normal((70, 90)) * np.exp2(rng.integers(-12, 9, (70, 1)))).astype(np.float32)
    for fmt in ("e4m3", "e5m2", "e2m1", "bf16", "fp16", "int8"):
        options = {"rounding": "stochastic", "random_bits": bits}
        fast = fp8sim.encode(x, fmt, rng=np.random.default_rng(3), **options)
        with _kernels.readable():
            slow = fp8sim.encode(x, fmt, rng=np.random.default_rng(3), **options)
        np.testing.assert_array_equal(bits_(fast), bits_(slow))
        values = fp8sim.round_to(x, fmt, rng=np.random.default_rng(3), **options)
        np.testing.assert_array_equal(fp8sim.decode(fast, fmt), values)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_few_random_bits_are_biased_toward_zero_by_half_of_their_last_one(bits, rng):
    x = 1 + rng.random(400_000) / 8
    rounded = fp8sim.round_to(x, "e4m3", rounding="stochastic", rng=rng, random_bits=bits)
    bias, noise = (rounded - x).mean() * 8, 0.5 / math.sqrt(x.size)
    assert abs(bias + 2.0**-bits / 2) < 4 * noise
    again = fp8sim.round_to(-x, "e4m3", rounding="stochastic", rng=rng, random_bits=bits)
    assert abs((again + x).mean() * 8 - 2.0**-bits / 2) < 4 * noise


def test_values_of_the_format_stay_under_few_random_bits(rng):
    x = np.tile(fp8sim.decode(np.arange(0x7F, dtype=np.uint8), "e4m3"), 50)
    assert_same(fp8sim.round_to(x, "e4m3", rounding="stochastic", rng=rng, random_bits=1), x)


def test_random_bits_reach_what_quantises(rng):
    x = rng.standard_normal((64, 128))
    options = {"rounding": "stochastic", "random_bits": 2}
    q = fp8sim.quantize(x, "e4m3", "row", rng=np.random.default_rng(1), **options)
    expected = fp8sim.encode(x / q.scales, "e4m3", rng=np.random.default_rng(1), **options)
    np.testing.assert_array_equal(bits(q.codes), bits(expected))
    full = fp8sim.quantize(x, "e4m3", "row", rng=np.random.default_rng(1), rounding="stochastic")
    assert not np.array_equal(bits(q.codes), bits(full.codes))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"random_bits": 8}, ValueError, "rounding 'nearest-even' draws nothing; leave random_bits=8 out"),
        ({"random_bits": 0, "rounding": "stochastic"}, ValueError, "random_bits must be 1 to 32, got 0"),
        ({"random_bits": 33, "rounding": "stochastic"}, ValueError, "random_bits must be 1 to 32, got 33"),
        ({"random_bits": 8.0, "rounding": "stochastic"}, TypeError, "random_bits must be a whole number"),
    ],
)
def test_random_bits_that_make_no_sense_are_refused(options, error, message, rng):
    for run in (fp8sim.round_to, fp8sim.encode, fp8sim.quantize):
        with pytest.raises(error, match=message):
            run([1.0, 2.0], "e4m3", rng=rng, **options)


def test_only_stochastic_rounding_draws():
    rng = np.random.default_rng(1)
    fp8sim.round_to([0.3], "e4m3", rng=rng)
    assert rng.bit_generator.state == np.random.default_rng(1).bit_generator.state


# --- arrays in and out ----------------------------------------------------------------------------


@given(st.data())
def test_shape_order_and_input_are_kept_whatever_the_layout(data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    x = data.draw(strategies.arrays(dtype, min_dims=0, min_side=0))
    view = data.draw(strategies.laid_out(x)) if x.ndim else x
    before = view.copy()
    rounded, codes = fp8sim.round_to(view, "e4m3"), fp8sim.encode(view, "e4m3")
    decoded = fp8sim.decode(codes, "e4m3")
    assert rounded.shape == codes.shape == decoded.shape == x.shape
    assert (rounded.dtype, decoded.dtype) == (dtype, np.float32)
    flat = [oracle.round_one(float(v), LAYOUTS["e4m3"], "nearest-even", "saturate") for v in x.ravel()]
    assert_same(rounded, np.array(flat, dtype).reshape(x.shape))
    assert_same(decoded, rounded)
    assert_same(view, before)
    assert not np.shares_memory(rounded, view)
    assert rounded.flags.writeable
    assert decoded.flags.writeable


@pytest.mark.parametrize("shape", [(), (0,), (0, 128), (3, 0), (2, 0, 5)])
def test_empty_and_zero_dimensional_arrays_keep_their_shape(shape):
    x = np.full(shape, 1.05)
    for mode in (*MODES, "stochastic"):
        rng = np.random.default_rng(0)
        rounded = fp8sim.round_to(x, "e4m3", rounding=mode, rng=rng)
        codes = fp8sim.encode(x, "e4m3", rounding=mode, rng=rng)
        assert isinstance(rounded, np.ndarray)
        assert rounded.shape == codes.shape == fp8sim.decode(codes, "e4m3").shape == shape


def test_a_value_already_in_the_format_is_still_a_new_array():
    x = np.float32([1.0, 2.0])
    rounded = fp8sim.round_to(x, "fp32")
    rounded[0] = 9
    assert x[0] == 1


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", "<f2", "<f4", "<f8", ">i4", ">u2"])
def test_any_byte_order_is_read(dtype):
    x = np.array([1.0, 3.0, 17.0, 0.0]).astype(dtype)
    rounded = fp8sim.round_to(x, "e4m3")
    assert rounded.tolist() == [1.0, 3.0, 16.0, 0.0]
    assert rounded.dtype.isnative


@pytest.mark.parametrize("size", [6, 6000])
@pytest.mark.parametrize("name", ["e4m3", "e2m1", "e8m0", "bf16", "tf32", "fp32"])
def test_the_ends_of_float64_round_without_a_warning(name, size):
    ends = np.array([np.finfo(np.float64).max, np.finfo(np.float64).tiny, 5e-324])
    x, layout = np.resize(ends, size), LAYOUTS[name]
    policies = POLICIES if layout.has_nan else ("saturate",)
    for mode in MODES:
        for policy in policies:
            expected = [oracle.round_one(float(value), layout, mode, policy) for value in ends]
            rounded = fp8sim.round_to(x, name, rounding=mode, overflow=policy)
            assert_same(rounded, np.resize(expected, size))


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (np.arange(5, dtype=np.int8), np.float64),
        (np.arange(5, dtype=np.uint64), np.float64),
        ([1, 2, 3], np.float64),
        ([[0.5, 2], [3, 4]], np.float64),
        (7, np.float64),
        (np.array([1.1, 2.2], np.float16), np.float32),
        (np.array([1.1], ml_dtypes.bfloat16), np.float32),
        (np.arange(5, dtype=np.longdouble), np.float64),
        (np.array([-3, 7]).astype(ml_dtypes.int4), np.float32),
    ],
)
def test_other_numbers_are_taken_exactly(x, dtype):
    rounded = fp8sim.round_to(x, "fp32")
    assert rounded.dtype == dtype
    assert_same(rounded, np.asarray(x).astype(dtype))


@pytest.mark.parametrize(
    "x",
    [
        np.array([2**62, -(2**62), 2**53 + 2, -(2**63)]),
        np.array([2**63, 2**64 - 2048], dtype=np.uint64),
    ],
)
def test_large_integers_that_float64_holds_are_taken(x):
    expected = np.array([float(int(v)) for v in x])
    assert_same(fp8sim.round_to(x, dataclasses.replace(get_format("fp32"), name="f")), expected.astype("f4"))


# --- decode ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_codes_can_be_unsigned_integers_of_any_width(dtype):
    codes = np.array([[0x38, 0x7E], [0xFE, 0x01]], dtype)
    expected = np.float32([[1.0, 448.0], [-448.0, 2.0**-9]])
    assert_same(fp8sim.decode(codes, "e4m3"), expected)
    assert_same(fp8sim.decode(codes.T, "e4m3"), expected.T)


def test_decoding_changes_no_later_decoding():
    codes = np.arange(256, dtype=np.uint8)
    first = fp8sim.decode(codes, "e5m2")
    expected = first.copy()
    first[:] = 0
    assert_same(fp8sim.decode(codes, "e5m2"), expected)


# --- signal to noise ------------------------------------------------------------------------------


# Noune et al., arXiv 2206.02915, Table 1: SNR of N(0, 1) without scaling
@pytest.mark.parametrize(
    ("name", "db"), [("fp16", 73.7), ("bf16", 55.6), ("e4m3", 31.5), ("e5m2", 25.5), ("e3m4", 37.5)]
)
def test_snr_of_gaussian_numbers_is_as_published(name, db, rng):
    x = rng.standard_normal(1_000_000)
    assert fp8sim.metrics.sqnr_db(fp8sim.round_to(x, name), x) == pytest.approx(db, abs=0.1)
