"""Bad input: one clear error each, that says what to do instead; and no other exception."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest

import fp8sim
from fp8sim import FloatFormat, metrics
from fp8sim.quantization import Scaling

ONES = np.ones((4, 4))

TAKES_AN_ARRAY = {
    "round_to": lambda x: fp8sim.round_to(x, "e4m3"),
    "encode": lambda x: fp8sim.encode(x, "e4m3"),
    "quantize": lambda x: fp8sim.quantize(x, "e4m3"),
    "matmul a": lambda x: fp8sim.matmul(x, ONES),
    "matmul b": lambda x: fp8sim.matmul(ONES, x),
    "relative_error": lambda x: metrics.relative_error(x, ONES),
    "calc_diff": lambda x: metrics.calc_diff(ONES, x),
    "ulp_error": lambda x: metrics.ulp_error(x, ONES, "e4m3"),
}
BAD_ARRAYS = {
    "object": (np.array([1.0, None]), "is an object array .*pass np.asarray"),
    "huge integers": ([2**70], "is an object array"),
    "ragged": ([[1.0], [1.0, 2.0]], "cannot be read as an array of numbers"),
    "none": (None, "is an object array"),
    "string": ("0.5", "has dtype <U3, which is not a real number type"),
    "strings": (["0.5", "1"], "not a real number type; pass a float or integer array"),
    "bytes": (b"abc", "not a real number type"),
    "complex": (np.ones(2, complex), r"complex128, .*pass \.real and \.imag apart"),
    "bool": (np.array([True]), r"bool, .*write \.astype\(np\.float32\)"),
    "datetime": (np.array(["2024-12-26"], "datetime64[D]"), "not a real number type"),
    "structured": (np.zeros(2, [("a", "f4")]), "not a real number type"),
    "masked": (np.ma.masked_array([1.0, 2.0], [False, True]), r"is a masked array.*filled"),
    "dictionary": ({"a": 1.0}, "is an object array"),
}


@pytest.mark.parametrize("bad", BAD_ARRAYS)
@pytest.mark.parametrize("call", TAKES_AN_ARRAY)
def test_what_is_no_array_of_real_numbers_is_a_type_error_that_names_the_way_out(call, bad):
    value, match = BAD_ARRAYS[bad]
    with pytest.raises(TypeError, match=match):
        TAKES_AN_ARRAY[call](value)


@pytest.mark.parametrize("what", ["a", "b"])
def test_the_message_names_the_operand(what):
    good, bad = ONES, ONES.astype(complex)
    with pytest.raises(TypeError, match=rf"^{what} has dtype complex128"):
        fp8sim.matmul(*((bad, good) if what == "a" else (good, bad)))


@pytest.mark.parametrize(
    "x",
    [
        np.array([2**53 + 1]),
        np.array([0, -(2**53) - 1]),
        np.array([2**63 - 1]),
        np.array([2**64 - 1], np.uint64),
        [2**63 - 1, 5],
    ],
)
def test_integers_that_float64_cannot_hold_are_refused(x):
    with pytest.raises(ValueError, match=r"x holds -?\d{16,20} \(u?int64\), which float64 cannot hold"):
        fp8sim.round_to(x, "fp32")


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="long double is double here")
def test_long_doubles_that_float64_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="float64 cannot hold exactly"):
        fp8sim.round_to(np.longdouble(1) + np.finfo(np.longdouble).eps, "e4m3")
    with pytest.raises(ValueError, match="float64 cannot hold exactly"):
        fp8sim.round_to(np.array([np.finfo(np.longdouble).max]), "e4m3")
    assert np.isnan(fp8sim.round_to(np.longdouble("nan"), "e4m3"))


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [fp8sim.round_to, fp8sim.encode])
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rounding": "nearest-evn"}, r"unknown rounding 'nearest-evn'; did you mean 'nearest-even'"),
        ({"rounding": "up"}, r"unknown rounding 'up'; known: nearest-even, .*, stochastic"),
        ({"rounding": None}, r"unknown rounding None"),
        ({"rounding": 3}, r"unknown rounding 3; known:"),
        ({"overflow": "saturated"}, r"unknown overflow policy 'saturated'; did you mean 'saturate'"),
        ({"overflow": "clip"}, r"unknown overflow policy 'clip'; known: saturate, ieee"),
        ({"overflow": True}, r"unknown overflow policy True"),
    ],
)
def test_unknown_rounding_and_overflow_names_are_refused(call, options, match):
    with pytest.raises(ValueError, match=match):
        call([1.0], "e4m3", **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda fmt: fp8sim.round_to([1.0], fmt),
        lambda fmt: fp8sim.encode([1.0], fmt),
        lambda fmt: fp8sim.decode(np.array([1], np.uint8), fmt),
        lambda fmt: fp8sim.quantize([1.0], fmt),
        lambda fmt: metrics.ulp_error([1.0], [1.0], fmt),
    ],
)
def test_every_function_that_takes_a_format_suggests_the_nearest_name(call):
    with pytest.raises(ValueError, match=r"unknown format 'e4m33'; did you mean 'e4m3'"):
        call("e4m33")
    with pytest.raises(ValueError, match=r"no format for .*float64"):
        call(np.float64)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("deepseek", r"unknown recipe 'deepseek'; did you mean 'deepseek-v3"),
        ("fp-16", r"did you mean .*'fp16'"),
        ("fp8", r"unknown recipe 'fp8'; did you mean"),
        ("int8", r"unknown recipe 'int8'"),
        (None, r"unknown recipe None; "),
    ],
)
def test_unknown_recipes_get_a_suggestion(name, match):
    with pytest.raises(ValueError, match=match):
        fp8sim.get_recipe(name)
    with pytest.raises(ValueError, match=match):
        fp8sim.matmul(ONES, ONES, name)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"granularity": "rows"}, r"unknown granularity 'rows'; did you mean 'row'"),
        ({"granularity": "1x0"}, r"unknown granularity '1x0'; .*any RxC"),
        ({"granularity": "0x4"}, r"unknown granularity '0x4'"),
        ({"granularity": "1x-4"}, r"unknown granularity '1x-4'"),
        ({"granularity": "1x128x1"}, r"unknown granularity '1x128x1'; did you mean .*'1x128'"),
        ({"granularity": "128"}, r"unknown granularity '128'"),
        ({"granularity": 128}, r"unknown granularity 128"),
        ({"granularity": None}, r"unknown granularity None"),
        ({"granularity": (1, 128)}, r"unknown granularity \(1, 128\)"),
        ({"scale_format": "e8m1"}, r"unknown scale format 'e8m1'; did you mean 'e8m0'"),
        ({"scale_format": "bf16"}, r"unknown scale format 'bf16'; "),
        ({"scale_rule": "ceiling"}, r"unknown scale rule 'ceiling'; did you mean 'ceil'"),
        (
            {"scale_format": "e8m0", "scale_rule": "amax"},
            r"e8m0 scales cannot follow .*'amax'; use 'ceil' or",
        ),
        ({"scale_format": "e4m3", "scale_rule": "floor"}, r"e4m3 scales cannot follow .*'floor'; use 'amax'"),
        ({"amax_floor": -1.0}, r"amax_floor must be finite and not negative, got -1"),
        ({"amax_floor": np.inf}, r"amax_floor must be finite"),
        ({"amax_floor": np.nan}, r"amax_floor must be finite"),
        ({"axis": 2}, r"axis 2 does not exist in shape \(4, 4\); use -2 to 1"),
        ({"axis": -3}, r"axis -3 does not exist in shape \(4, 4\); use -2 to 1"),
    ],
)
def test_impossible_scalings_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        fp8sim.quantize(ONES, "e4m3", **options)


@pytest.mark.parametrize("axis", [None, 1.0, "k", (0, 1)])
def test_an_axis_that_is_no_whole_number_is_a_type_error(axis):
    with pytest.raises(TypeError, match="axis"):
        fp8sim.quantize(ONES, "e4m3", "1x2", axis=axis)


@pytest.mark.parametrize("floor", [None, "1e-4", [1e-4]])
def test_an_amax_floor_that_is_no_number_is_a_type_error(floor):
    with pytest.raises(TypeError, match="amax_floor"):
        fp8sim.quantize(ONES, "e4m3", amax_floor=floor)


# --- shapes ---------------------------------------------------------------------------------------


def test_shapes_that_do_not_multiply_are_refused_and_a_transposed_b_is_recognised():
    with pytest.raises(
        ValueError, match=r"\(2, 3\) and \(4, 5\) do not multiply: a has k = 3 .* k = 4 rows$"
    ):
        fp8sim.matmul(np.ones((2, 3)), np.ones((4, 5)))
    with pytest.raises(ValueError, match=r"b looks transposed: pass b\.T"):
        fp8sim.matmul(np.ones((2, 3)), np.ones((4, 3)))


@pytest.mark.parametrize("shape", [(), (4,), (2, 2, 4)])
def test_operands_must_be_matrices(shape):
    with pytest.raises(ValueError, match=r"^a must be a matrix \(2 dimensions\), got shape"):
        fp8sim.matmul(np.ones(shape), ONES)
    with pytest.raises(ValueError, match=r"^b must be a matrix \(2 dimensions\), got shape"):
        fp8sim.matmul(ONES, np.ones(shape))


def test_a_single_number_has_no_scale():
    with pytest.raises(ValueError, match="at least one axis"):
        fp8sim.quantize(3.0, "e4m3")


def test_blocks_of_rows_need_two_axes():
    with pytest.raises(ValueError, match=r"'128x128' needs two axes, got shape \(4,\)"):
        fp8sim.quantize(np.ones(4), "e4m3", "128x128")


OF_ONE = {"outlier_channels"}  # measures of one array


@pytest.mark.parametrize(
    "measure", [getattr(metrics, name) for name in metrics.__all__ if name not in OF_ONE]
)
def test_measures_refuse_other_shapes_and_empty_arrays(measure):
    arguments = ("e4m3",) if measure is metrics.ulp_error else ()
    with pytest.raises(ValueError, match=r"cannot compare shapes \(2,\) and \(2, 1\)"):
        measure([1.0, 2.0], [[1.0], [2.0]], *arguments)
    with pytest.raises(ValueError, match="empty"):
        measure(np.ones((0, 3)), np.ones((0, 3)), *arguments)


# --- NaN and infinity -----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("granularity", ["tensor", "row", "1x2", "2x2"])
@pytest.mark.parametrize("scale_format", ["fp32", "e8m0", "e4m3"])
def test_a_group_with_nan_or_infinity_has_no_scale(scale_format, granularity, bad):
    x = ONES.copy()
    x[2, 1] = x[3, 3] = bad
    with pytest.raises(ValueError, match=r"x holds 2 NaN or infinite values, the first at \[2, 1\]; .*mask"):
        fp8sim.quantize(x, "e4m3", granularity, scale_format=scale_format)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (31, 127), (69, 299), (69, 0), (40, 256)])
@pytest.mark.parametrize("granularity", ["tensor", "row", "1x128", "128x128"])
@pytest.mark.parametrize("scale_format", ["fp32", "e8m0", "e4m3"])
def test_nan_is_found_anywhere_in_a_large_array(scale_format, granularity, place, bad):
    x = np.ones((70, 300), np.float32)
    x[place] = bad
    where = rf"the first at \[{place[0]}, {place[1]}\]"
    for axis in (0, 1):
        with pytest.raises(ValueError, match=where):
            fp8sim.quantize(x, "e4m3", granularity, axis=axis, scale_format=scale_format)


@pytest.mark.parametrize("place", [0, 4999, 9999])
def test_what_a_format_without_nan_refuses_is_found_anywhere_in_a_large_array(place):
    for call in (fp8sim.round_to, fp8sim.encode):
        for dtype in (np.float32, np.float64):
            x = np.ones(10_000, dtype)
            x[place] = np.nan
            with pytest.raises(ValueError, match="x holds NaN, and e2m1 has none"):
                call(x, "e2m1")
            x[place] = -7.5
            with pytest.raises(ValueError, match="x overflows e2m1"):
                call(x, "e2m1", overflow="ieee")
            assert call(x, "e2m1")[place] == -6


def test_scaled_recipes_refuse_nan_and_name_the_operand():
    bad = np.where(np.eye(4) > 0, np.nan, 1.0)
    with pytest.raises(ValueError, match=r"^a holds 4 NaN or infinite values"):
        fp8sim.matmul(bad, ONES, "deepseek-v3")
    with pytest.raises(ValueError, match=r"^b holds 4 NaN or infinite values"):
        fp8sim.matmul(ONES, bad, "deepseek-v3")


@pytest.mark.parametrize("name", ["e2m3", "e3m2", "e2m1"])
def test_formats_without_nan_refuse_it_under_both_policies(name):
    for policy in ("saturate", "ieee", None):
        for call in (fp8sim.round_to, fp8sim.encode):
            with pytest.raises(ValueError, match=rf"x holds NaN, and {name} has none; .*nan_to_num"):
                call([1.0, np.nan], name, overflow=policy)


@pytest.mark.parametrize("name", ["e2m3", "e3m2", "e2m1"])
@pytest.mark.parametrize("x", [np.inf, -np.inf, 1e6, -1e6])
def test_formats_with_neither_infinity_nor_nan_refuse_the_ieee_policy_on_overflow(name, x):
    for call in (fp8sim.round_to, fp8sim.encode):
        with pytest.raises(ValueError, match=rf"x overflows {name} .*; pass overflow='saturate'"):
            call([1.0, x], name, overflow="ieee")


@pytest.mark.parametrize("size", [1, 5000])
@pytest.mark.parametrize(("mantissa_bits", "specials"), [(3, "none"), (0, "none"), (0, "ieee")])
def test_unsigned_formats_without_nan_refuse_negative_numbers(mantissa_bits, specials, size):
    fmt = FloatFormat("unsigned", 4, mantissa_bits, specials=specials, signed=False)
    assert not fmt.has_nan
    for policy in ("saturate", "ieee"):
        for call in (fp8sim.round_to, fp8sim.encode):
            with pytest.raises(ValueError, match="x holds"):
                call(np.resize([-1.0, 1.0], size), fmt, overflow=policy)
            call(np.resize([0.0, 1.0], size), fmt, overflow=policy)


def test_a_scale_that_fp32_or_e8m0_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"amax 1e\+300 needs a scale beyond FP32"):
        fp8sim.quantize([1e300], "e4m3")
    with pytest.raises(ValueError, match=r"amax 1e\+300 needs a scale beyond FP32"):
        fp8sim.quantize([1e300], "e2m1", "1x16", scale_format="e4m3")
    with pytest.raises(ValueError, match=r"amax 1e\+300 needs a scale above 2\^127"):
        fp8sim.quantize([1e300], "e4m3", "1x32", scale_format="e8m0")


# --- random numbers and codes ---------------------------------------------------------------------


@pytest.mark.parametrize("rng", [None, 0, np.random, np.random.RandomState(0)])
def test_stochastic_rounding_wants_a_generator(rng):
    with pytest.raises(TypeError, match=r"pass rng=np\.random\.default_rng\(seed\), got rng="):
        fp8sim.round_to([1.0], "e4m3", rounding="stochastic", rng=rng)


@pytest.mark.parametrize(
    "codes",
    [
        np.array([0.5]),
        np.array([56]),
        [56],
        np.array([1], ml_dtypes.float8_e5m2),
        np.array([1], np.float16),
        np.array([True]),
        np.array(["a"]),
    ],
)
def test_what_are_no_codes_is_a_type_error(codes):
    with pytest.raises(
        TypeError, match=r"codes of e4m3 are float8_e4m3fn or unsigned integers, .*encode\(\)"
    ):
        fp8sim.decode(codes, "e4m3")


def test_what_numpy_cannot_read_as_an_array_of_codes_says_so():
    with pytest.raises(TypeError, match="codes is an object array"):
        fp8sim.decode(np.array([None]), "e4m3")
    with pytest.raises(TypeError, match="codes is a masked array, whose mask would be lost"):
        fp8sim.decode(np.ma.masked_array(np.array([56], np.uint8), [True]), "e4m3")


@pytest.mark.parametrize(
    ("name", "dtype", "code"),
    [("e2m1", np.uint8, 16), ("e2m3", np.uint8, 64), ("e4m3", np.uint16, 256), ("e5m6", np.uint16, 4096)],
)
def test_codes_of_too_many_bits_are_refused(name, dtype, code):
    assert np.isfinite(fp8sim.decode(np.array([0], dtype), name))
    with pytest.raises(ValueError, match=rf"code {code:#x} has more than the \d+ bits of {name}"):
        fp8sim.decode(np.array([0, code], dtype), name)


# --- recipes and operands -------------------------------------------------------------------------


def test_recipes_refuse_unknown_parts():
    recipe = fp8sim.get_recipe("deepseek-v3")
    with pytest.raises(ValueError, match=r"unknown accumulator 'fp23'; did you mean"):
        dataclasses.replace(recipe, accumulator="fp23")
    with pytest.raises(ValueError, match=r"unknown format 'bf17'; did you mean 'bf16'"):
        dataclasses.replace(recipe, output="bf17")
    with pytest.raises(ValueError, match=r"unknown format"):
        dataclasses.replace(recipe.a, fmt="e9m9")


def test_scalings_are_checked_when_they_are_made():
    with pytest.raises(ValueError, match="unknown granularity"):
        Scaling("per-tensor")
    with pytest.raises(ValueError, match="unknown scale format"):
        Scaling("row", "fp64")
