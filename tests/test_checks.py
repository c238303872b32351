"""Bad input: one clear error each, that says what to do instead; and no other exception."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import fp8sim
from fp8sim import FloatFormat, metrics
from fp8sim._support import checks
from fp8sim._support.published import Figure
from fp8sim.accumulators import Fp32, OneChain, Sequential, TensorCoreSum, exact_dot
from fp8sim.anatomy import explain_block, explain_dot
from fp8sim.costs import get_device
from fp8sim.experiments import data
from fp8sim.experiments.train import ModelSize, Schedule
from fp8sim.experiments.train.losses import smooth
from fp8sim.models import get_model
from fp8sim.quantization import Operand, Scaling
from fp8sim.tensor_cores import promoted_matmul
from fp8sim.training import DelayedScaling, LinearGemms, get_training_recipe

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
#: Further arguments that are arrays, of other kinds than numbers or of one dimension.
TAKES_ANOTHER = {
    "decode": lambda x: fp8sim.decode(x, "e4m3"),
    "a tensor core's a": lambda x: fp8sim.tensor_core_matmul(x, ONES),
    "a tensor core's b": lambda x: fp8sim.tensor_core_matmul(ONES, x),
    "a tensor core's c": lambda x: fp8sim.tensor_core_matmul(ONES, ONES, c=x),
    "block scales": lambda x: fp8sim.tensor_core_matmul(
        ONES, ONES, "blackwell-nvfp4", scales=(ONES[:, :1], x)
    ),
    "chain scales": lambda x: promoted_matmul(
        ONES, ONES, "hopper-fp8", promote_every=32, a_scales=x, b_scales=ONES
    ),
    "compare": lambda x: fp8sim.compare(x, ONES),
    "explain": lambda x: fp8sim.explain(x, "e4m3"),
    "explain_block": explain_block,
    "explain_dot": lambda x: explain_dot(x, [1.0, 2.0]),
    "scales of a dot product": lambda x: explain_dot([1.0], [1.0], "blackwell-nvfp4", scales=(x, [1.0])),
    "exact_dot": lambda x: exact_dot(x, x),
    "outlier_channels": metrics.outlier_channels,
    "losses": smooth,
    "a layer": lambda x: LinearGemms(get_training_recipe("fp32")).forward(x, np.ones((2, 2), np.float32)),
}
BAD_ARRAYS = {
    "object": (np.array([1.0, None]), "is an object array .*pass np.asarray"),
    "huge integers": ([2**70], "is an object array"),
    "ragged": ([[1.0], [1.0, 2.0]], r"array of numbers: its rows differ in length; pad them to one$"),
    "none": (None, "is an object array"),
    "string": ("0.5", "has dtype <U3, which is not a real number type"),
    "strings": (["0.5", "1"], "not a real number type; pass a float or integer array"),
    "bytes": (b"abc", "not a real number type"),
    "complex": (np.ones(2, complex), r"complex128, .*pass \.real and \.imag apart"),
    "bool": (np.array([True]), r"bool, .*write \.astype\(np\.float32\)"),
    "datetime": (np.array(["2024-12-26"], "datetime64[D]"), "not a real number type"),
    "structured": (np.zeros(2, [("a", "f4")]), "not a real number type"),
    "masked": (np.ma.masked_array([1.0, 2.0], [False, True]), r"is a masked array.*filled"),
    "masked rows": (
        [[1.0, 2.0], np.ma.masked_array([1.0, 2.0], [False, True])],
        r"is a masked array.*filled",
    ),
    "masked numbers": ([1.0, np.ma.masked], r"is a masked array.*filled"),
    "dictionary": ({"a": 1.0}, "is an object array"),
    "variable strings": (np.array(["a"], np.dtypes.StringDType()), "not a real number type")
    if hasattr(np.dtypes, "StringDType")
    else ("a", "not a real number type"),
}


@pytest.mark.parametrize("bad", BAD_ARRAYS)
@pytest.mark.parametrize("call", TAKES_AN_ARRAY)
def test_what_is_no_array_of_real_numbers_is_a_type_error_that_names_the_way_out(call, bad):
    value, match = BAD_ARRAYS[bad]
    with pytest.raises(TypeError, match=match):
        TAKES_AN_ARRAY[call](value)


@pytest.mark.parametrize("call", TAKES_ANOTHER)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_mask_is_lost_nowhere(call, dtype):
    masked = np.ma.masked_array(np.ones((2, 2), dtype), [[False, True], [False, False]])
    with pytest.raises(
        TypeError, match=r"is a masked array, whose mask would be lost; pass x.filled\(value\)"
    ):
        TAKES_ANOTHER[call](masked)


@pytest.mark.parametrize("call", sorted(TAKES_ANOTHER.keys() - {"a layer"}))  # which takes arrays alone
def test_no_text_of_numpys_comes_out_for_a_ragged_list(call):
    with pytest.raises(TypeError, match=r"array of numbers: its rows differ in length; pad them to one$"):
        TAKES_ANOTHER[call]([[1.0], [1.0, 2.0]])


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
        ("deepseek", r"unknown recipe 'deepseek'; did you mean .*'deepseek-v3'"),
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


# --- fields of what users build ---------------------------------------------------------------------

LLAMA = get_model("llama-3.1-8b")
#: What users build, or change with `dataclasses.replace`.
BUILT = {
    "format": fp8sim.get_format("e4m3"),
    "core": fp8sim.TENSOR_CORES["hopper-fp8"],
    "scaling": Scaling("1x128"),
    "operand": Operand("e4m3", Scaling("1x128")),
    "recipe": fp8sim.get_recipe("deepseek-v3"),
    "delayed scaling": DelayedScaling(),
    "training recipe": get_training_recipe("deepseek-v3"),
    "device": get_device("h800"),
    "figure": Figure(1.0, "nowhere"),
    "chain": OneChain("hopper-fp8"),
    "promoted": TensorCoreSum("hopper-fp8/128"),
    "sequential": Sequential("fp32"),
    "fp32": Fp32(),
    "model size": ModelSize(),
    "schedule": Schedule(),
    "model": LLAMA,
    "attention": LLAMA.attention,
    "latent": get_model("deepseek-v3").attention,
    "stack": LLAMA.stacks[0],
    "feed-forward": LLAMA.stacks[0].feed_forward,
    "mixture": get_model("deepseek-v3").stacks[1].feed_forward,
    "workload": fp8sim.model_cost("deepseek-v3").work,
    "model cost": fp8sim.model_cost("deepseek-v3"),
}
FIELDS = [(what, field.name) for what, built in BUILT.items() for field in dataclasses.fields(built)]


class Nonsense:
    """Of no field's type."""


@pytest.mark.parametrize(("what", "field"), FIELDS)
def test_every_field_of_what_users_build_is_checked(what, field):
    with pytest.raises((TypeError, ValueError), match="Nonsense"):
        dataclasses.replace(BUILT[what], **{field: Nonsense()})


@pytest.mark.parametrize("bad", [math.nan, "1", [1], 10**400, -(10**400), -math.inf], ids=repr)
@pytest.mark.parametrize(
    ("what", "field"),
    [(what, name) for what, name in FIELDS if type(getattr(BUILT[what], name)) in (int, float, bool)],
)
def test_a_number_is_one_and_within_limits(what, field, bad):
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(BUILT[what], **{field: bad})


@pytest.mark.parametrize(
    ("what", "changes", "message"),
    [
        ("format", {"subnormals": 1.5}, "e4m3: subnormals must be True or False, got 1.5"),
        ("format", {"signed": 4}, "e4m3: signed must be True or False, got 4"),
        ("format", {"bias": 10**400}, "e4m3: bias must be -512 to 512, got a whole number of 1329 bits"),
        ("core", {"name": None}, "a TensorCore needs a name, got None"),
        ("core", {"group": True}, "hopper-fp8: group must be a whole number, got True"),
        ("core", {"group": Fraction(1, 2)}, r"group must be a whole number, got Fraction\(1, 2\)"),
        ("core", {"group": -1}, "hopper-fp8: group must be 0 to 1048576, got -1"),
        ("core", {"step": 2**31}, "hopper-fp8: step must be 1 to 1048576, got 2147483648"),
        ("core", {"inputs": "e4m3"}, r"inputs must be a tuple, got 'e4m3'; write \('e4m3',\)"),
        ("device", {"bandwidth": 1e12}, "h800: bandwidth must be a Figure, got 1000000000000.0"),
        ("operand", {"scaling": "1x128"}, r"got '1x128'; write Scaling\('1x128'\)"),
        ("recipe", {"a": "e4m3"}, "a must be an Operand, got 'e4m3'"),
        ("delayed scaling", {"margin": 2**70}, "margin must be -128 to 128, got 1180591620717411303424"),
        ("schedule", {"betas": (0.9,)}, r"betas must have 2 entries, got \(0.9,\)"),
        ("schedule", {"betas": (0.9, 2.0)}, "betas must be 0 to 1, got 2.0"),
        ("model", {"stacks": 3}, "stacks must be a tuple, got 3"),
        ("core", {"inputs": ("e4m3", 3)}, "inputs must be str or FloatFormat, got 3"),
        ("model", {"family": 3}, "family must be text, got 3"),
        ("workload", {"causal": "no"}, "causal must be True or False, got 'no'"),
    ],
)
def test_the_message_says_which_field_and_what_it_takes(what, changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        dataclasses.replace(BUILT[what], **changes)


@dataclasses.dataclass(frozen=True)
class Example:
    count: int
    share: float | None = None
    names: tuple[str, ...] = ()
    on: bool = False

    def __post_init__(self):
        checks.fields(self, count=(1, None), share=(0, 1))


def test_fields_become_pythons_own_and_hashable():
    example = Example(np.int8(3), np.float32(0.5), ["a", "b"], np.bool_(True))
    assert dataclasses.astuple(example) == (3, 0.5, ("a", "b"), True)
    assert [type(value) for value in dataclasses.astuple(example)] == [int, float, tuple, bool]
    assert len({example, Example(3, 0.5, ("a", "b"), True)}) == 1
    for changes in ({"count": 0}, {"share": 1.5}, {"names": (1,)}, {"on": 1}, {"count": True}):
        with pytest.raises((TypeError, ValueError)):
            dataclasses.replace(example, **changes)


@pytest.mark.parametrize(
    "call",
    [
        lambda size: fp8sim.gemm_cost(size, 1, 1, "bf16"),
        lambda size: fp8sim.model_cost("deepseek-v3", seq_len=size),
        lambda size: fp8sim.model_cost("deepseek-v3", batch=size),
        lambda size: fp8sim.tensor_core_matmul(np.ones((1, 32)), np.ones((32, 1)), promote_every=size),
        lambda size: dataclasses.replace(LLAMA, vocab=size),
    ],
)
@pytest.mark.parametrize("size", [2**63, 10**310, 10**5000], ids=["2^63", "10^310", "10^5000"])
def test_sizes_beyond_what_costs_can_be_worked_out_for_are_refused(call, size):
    with pytest.raises(ValueError, match="must be at most 9007199254740992, got"):
        call(size)


def test_what_memory_cannot_hold_is_refused_before_it_is_made():
    wide = np.broadcast_to(np.float32(1), (10**7, 1))
    with pytest.raises(ValueError, match=r"10000000x10000000x1 in float64 takes 2\d*\.\d\d TB of memory"):
        fp8sim.compare(wide, wide.T)


# --- names that are arrays, and others ----------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda name: fp8sim.quantize(ONES, name),
        lambda name: fp8sim.quantize(ONES, "e4m3", name),
        lambda name: fp8sim.quantize(ONES, "e4m3", scale_format=name),
        lambda name: fp8sim.quantize(ONES, "e4m3", scale_rule=name),
        lambda name: fp8sim.quantize(ONES, "e4m3", rounding=name),
        lambda name: fp8sim.round_to(ONES, "e4m3", overflow=name),
        lambda name: fp8sim.matmul(ONES, ONES, name),
        lambda name: fp8sim.gemm_cost(1, 1, 1, "bf16", name),
        lambda name: fp8sim.model_cost("deepseek-v3", phase=name),
    ],
)
@pytest.mark.parametrize("name", [np.array([1, 2]), np.array(["e4m3", "e5m2"]), [], 10**5000], ids=type)
def test_what_is_no_name_is_unknown(call, name):
    with pytest.raises(ValueError, match=r"^(unknown|no format for) "):
        call(name)


def test_stochastic_explanations_want_a_generator():
    with pytest.raises(TypeError, match=r"pass rng=np\.random\.default_rng\(seed\), got rng=3"):
        fp8sim.explain(0.3, "e4m3", rounding="stochastic", rng=3)


@pytest.mark.parametrize("dtype", [np.int8, np.float16, "float16"])
def test_codes_are_dequantised_to_what_holds_them(dtype):
    with pytest.raises(TypeError, match=r"dtype must be numpy\.float32 or numpy\.float64"):
        fp8sim.quantize(ONES, "e4m3").dequantize(dtype)


@pytest.mark.parametrize("scales", ["", 3, (ONES,)])
def test_scales_that_are_no_pair_are_a_type_error(scales):
    with pytest.raises(TypeError, match="scales must be a pair, those of a and those of b"):
        fp8sim.anatomy.explain_dot([1.0], [1.0], "blackwell-mxfp8", scales=scales)


def test_no_measure_warns_of_what_it_says():
    # warnings are errors in these tests
    signalling = np.array([0x7FA00000], np.uint32).view(np.float32)
    for name in metrics.__all__:
        measure = getattr(metrics, name)
        for x in (signalling, [np.inf], [-1.7e308], [5e-324], [0.0]):
            for reference in (signalling, [np.inf], [1.7e308], [5e-324], [0.0]):
                arguments = {"ulp_error": (reference, "fp32"), "outlier_channels": ()}.get(name, (reference,))
                measure(x, *arguments)


@pytest.mark.parametrize("size", [1e-45, 1e-320])
def test_a_comparison_of_what_vanishes_says_so_without_a_warning(size):
    for row in fp8sim.compare([[size]], [[1e-3 if size < 1e-300 else size]], bounds=True).rows:
        assert row.relative_error == 1 or row.recipe == "fp32"


def test_a_product_that_overflows_float64_cannot_be_compared():
    with pytest.raises(ValueError, match="the product holds 1 NaN or infinite values"):
        fp8sim.compare([[1.7e308]], [[1.7e308]])


# --- found by trials (tests/fuzz) -------------------------------------------------------------------------

OPERAND = Operand("e4m3")
QUANTIZED = fp8sim.quantize(ONES)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fp8sim.costs.traffic("e4m3", (4, 4)),
        lambda: fp8sim.costs.traffic(OPERAND, 3),
        lambda: fp8sim.costs.traffic(OPERAND, (4, None)),
        lambda: fp8sim.costs.operand_class("bf16"),
        lambda: fp8sim.costs.formats_class("e4m3", "bf16"),
        lambda: fp8sim.gemm.quantize_both(ONES, ONES, "bf16"),
        lambda: fp8sim.gemm.multiply_quantized(ONES, ONES, fp8sim.get_recipe("bf16")),
        lambda: fp8sim.accumulators.sum_error_bound(QUANTIZED, ONES, Fp32()),
        lambda: fp8sim.accumulators.sum_error_bound(QUANTIZED, QUANTIZED, "fp32"),
        lambda: fp8sim.quantization.quantize_with(ONES, "e4m3"),
        lambda: fp8sim.quantization.round_trip(ONES, np.ones(2)),
        lambda: fp8sim.quantization.group_sizes("row", {4}),
        lambda: fp8sim.compare(ONES, ONES, bounds=np.ones(2)),
        lambda: metrics.outlier_channels(ONES, limit="5"),
        lambda: data.llm_like_activations(4, 4, "0"),
        lambda: data.llm_like_matrices(4, 4, 4, seed="0"),
        lambda: data.weight_matrices([[1.0]], 3),
        lambda: fp8sim.checkpoints.read_array(3),
        lambda: fp8sim.checkpoints.open_checkpoint(np.ones(2)),
    ],
)
def test_what_is_no_argument_of_a_function_is_a_type_error_that_says_so(call):
    with pytest.raises(TypeError, match=r"( must be |pass ).*, got "):
        call()


class TwoLines:
    def __repr__(self):
        return "two\n\x1b[31mlines"

    def __array__(self, *_, **__):
        raise RuntimeError("no\narray")


def test_a_message_is_one_printable_line_whatever_was_given():
    for call in (
        fp8sim.get_format,
        fp8sim.get_recipe,
        fp8sim.round_to,
        lambda x: fp8sim.quantize(ONES, axis=x),
    ):
        with pytest.raises((TypeError, ValueError)) as refused:
            call(TwoLines(), "e4m3") if call is fp8sim.round_to else call(TwoLines())
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "a" * 5000])
def test_a_name_of_more_than_one_short_line_is_refused(name):
    with pytest.raises(ValueError, match="a FloatFormat needs a name of one short line, got"):
        FloatFormat(name, 4, 3)


def test_a_fraction_becomes_a_number_of_pythons_own():
    assert type(Schedule(peak_lr=Fraction(1, 4)).peak_lr) is float


def test_a_floor_of_numpys_own_is_taken_without_a_warning():
    assert type(Scaling(amax_floor=np.float32(1)).amax_floor) is float
