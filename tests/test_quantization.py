"""`quantize`: laws over shapes, axes, layouts and scalings, each against plain loops or exact values."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fp8sim
import oracle
import strategies
from fp8sim import FORMATS
from fp8sim.quantization import Operand, Scaling, quantize_with, scales_shape
from oracle import LAYOUTS, assert_same

DTYPES = st.sampled_from([np.float32, np.float64])


SHAPES = [
    *((5000,), (7, 801), (64, 128), (129, 257), (1, 5003), (5003, 1), (300, 1000), (1000, 90)),
    *((3, 40, 70), (40, 3, 70), (70, 40, 3), (2, 130, 33), (2, 3, 40, 30)),
]


@st.composite
def large_cases(draw, dtypes=DTYPES):
    """Draw as `cases` does, arrays of thousands of elements: those take another way than small ones."""
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(dtypes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.standard_normal(shape) * np.exp2(rng.integers(-9, 9, shape[-1]))
    x[rng.random(shape) < 0.05] = -0.0
    x[..., : shape[-1] // 3] *= rng.random((*shape[:-1], 1)) < 0.5  # groups of zeros
    rare = rng.random(shape)
    x = np.where(rare < 1e-4, 1e-41, np.where(rare > 1 - 1e-4, 1e15, x)).astype(dtype)
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    scaling = draw(strategies.scalings(x.ndim))
    groups = math.prod(scales_shape(scaling.granularity, shape, axis))
    assume(groups <= 2000)
    return draw(strategies.laid_out(x)), axis, draw(strategies.element_formats), scaling


@st.composite
def cases(draw, dtypes=DTYPES, formats=strategies.element_formats):
    """Draw an array, an axis, a format of the elements and a scaling."""
    x = draw(strategies.arrays(draw(dtypes)))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    return x, axis, draw(formats), draw(strategies.scalings(x.ndim))


def expected_scale(amax, dtype, name, scaling):
    """Return the scale of one group from its largest magnitude; not for E4M3 scales."""
    amax = max(amax, dtype(scaling.amax_floor))
    if scaling.scale_rule != "amax":
        return float(oracle.power_of_two_scale(Fraction(float(amax)), LAYOUTS[name], scaling.scale_rule))
    if amax == 0:
        return 1.0
    return max(float(np.float32(amax / dtype(oracle.largest(LAYOUTS[name])))), 2.0**-149)


def nearest_error(quotient, name):
    """Return the distance from each number to the nearest finite value of a format."""
    values = oracle.grid(LAYOUTS[name]).values[:-1]
    above = np.searchsorted(values, np.abs(quotient)).clip(0, len(values) - 1)
    below = np.maximum(above - 1, 0)
    return np.minimum(np.abs(values[above] - np.abs(quotient)), np.abs(values[below] - np.abs(quotient)))


# --- codes and scales -----------------------------------------------------------------------------


@given(cases())
def test_each_group_has_the_scale_of_its_largest_magnitude(case):
    x, axis, name, scaling = case
    assume(scaling.scale_format != "e4m3")
    q = quantize_with(x, Operand(name, scaling), axis=axis)
    assert q.scales.dtype == np.float32
    indices = []
    for index, slices in oracle.group_slices(scaling.granularity, x.shape, axis):
        amax = max(np.abs(x[slices]).ravel())
        assert q.scales[index] == expected_scale(amax, x.dtype.type, name, scaling)
        indices.append(index)
    assert q.scales.size == len(set(indices)) == len(indices)
    assert_same(fp8sim.decode(q.scale_codes, scaling.scale_format), q.scales)


@given(cases())
def test_each_code_is_the_nearest_value_to_the_scaled_element(case):
    x, axis, name, scaling = case
    q = quantize_with(x, Operand(name, scaling), axis=axis)
    assert q.codes.shape == q.shape == x.shape
    assert q.codes.dtype == FORMATS[name].dtype
    values = fp8sim.decode(q.codes, name).astype(np.float64)
    assert np.isfinite(values).all()
    # the division rounds once in the dtype of x before the cast does
    slack = 2.0**-23 if x.dtype == np.float32 else 2.0**-52
    for index, slices in oracle.group_slices(scaling.granularity, x.shape, axis):
        scale = np.float64(q.scales[index])
        if scale == 0:  # an E4M3 scale that underflowed
            assert not values[slices].any()
            continue
        quotient = x[slices] / scale
        error = np.abs(values[slices] - quotient)
        assert np.all(error <= nearest_error(quotient, name) + slack * np.abs(quotient))


@given(cases())
def test_dequantize_is_within_half_a_step_of_each_element(case):
    x, axis, name, scaling = case
    q = quantize_with(x, Operand(name, scaling), axis=axis)
    back = q.dequantize(np.float64)
    values, layout = fp8sim.decode(q.codes, name).astype(np.float64), LAYOUTS[name]
    for index, slices in oracle.group_slices(scaling.granularity, x.shape, axis):
        scale = float(q.scales[index])
        for element, code, result in zip(x[slices].flat, values[slices].flat, back[slices].flat, strict=True):
            assert result == code * scale
            step = float(oracle.quantum(abs(Fraction(code)), layout)) * scale
            saturated = abs(code) == oracle.largest(layout) and abs(element) > abs(result)
            if not saturated and scale:
                assert abs(element - result) <= step / 2 + abs(element) * 2.0**-23


@given(cases())
def test_dequantize_in_float32_rounds_each_element_once(case):
    x, axis, name, scaling = case
    q = quantize_with(x, Operand(name, scaling), axis=axis)
    exact, rounded = q.dequantize(np.float64), q.dequantize()
    assert (exact.dtype, rounded.dtype) == (np.float64, np.float32)
    assert exact.shape == rounded.shape == x.shape
    assert_same(rounded, exact.astype(np.float32))


@given(cases())
def test_bytes_are_codes_packed_to_their_bits_and_one_scale_per_group(case):
    x, axis, name, scaling = case
    q = quantize_with(x, Operand(name, scaling), axis=axis)
    groups = len(list(oracle.group_slices(scaling.granularity, x.shape, axis)))
    scales = {"fp32": 4 * groups, "e8m0": groups, "e4m3": groups + 4}[scaling.scale_format]
    assert q.scale_nbytes == scales
    assert q.nbytes == math.ceil(x.size * LAYOUTS[name].bits / 8) + scales


@given(st.one_of(cases(), large_cases()))
def test_codes_scales_and_counts_are_those_of_plain_loops_to_the_last_bit(case):
    x, axis, name, scaling = case
    q = quantize_with(x, Operand(name, scaling), axis=axis)
    quotient, scales, spread = np.empty_like(x), np.empty_like(q.scales), np.empty(x.shape)
    for index, slices in oracle.group_slices(scaling.granularity, x.shape, axis):
        scale = q.scales[index]
        if scaling.scale_format != "e4m3":  # those have a test of their own
            scale = expected_scale(np.abs(x[slices]).max(), x.dtype.type, name, scaling)
        scales[index] = spread[slices] = scale
        quotient[slices] = x[slices] / x.dtype.type(scale) if scale else 0 * x[slices]
    values = oracle.round_array(quotient, LAYOUTS[name], "nearest-even", "saturate")
    overflowed = ~np.isfinite(oracle.round_array(quotient, LAYOUTS[name], "nearest-even", "ieee"))

    assert_same(q.scales, scales)
    assert_same(fp8sim.decode(q.codes, name), values)
    assert_same(q.dequantize(np.float64), values * spread)
    assert_same(q.dequantize(), (values * spread).astype(np.float32))
    assert q.saturated == np.count_nonzero(overflowed)
    assert q.flushed == np.count_nonzero((x != 0) & (values == 0))


@given(large_cases())
def test_large_arrays_are_not_changed_and_their_layout_does_not_matter(case):
    x, axis, name, scaling = case
    before = x.copy()
    q = quantize_with(x, Operand(name, scaling), axis=axis)
    plain = quantize_with(np.ascontiguousarray(x), Operand(name, scaling), axis=axis)
    assert_same(x, before)
    assert_same(fp8sim.decode(q.codes, name), fp8sim.decode(plain.codes, name))
    assert_same(q.scales, plain.scales)
    assert_same(q.dequantize(), plain.dequantize())
    moved = quantize_with(
        np.moveaxis(x, axis, 0), Operand(name, dataclasses.replace(scaling, granularity="row")), axis=0
    )
    rows = quantize_with(x, Operand(name, dataclasses.replace(scaling, granularity="row")), axis=axis)
    assert_same(np.moveaxis(moved.dequantize(), 0, axis), rows.dequantize())


# --- laws -----------------------------------------------------------------------------------------


@given(cases())
def test_the_mirror_image_has_the_same_scales_and_mirrored_codes(case):
    x, axis, name, scaling = case
    q, mirrored = (quantize_with(v, Operand(name, scaling), axis=axis) for v in (x, -x))
    assert_same(mirrored.scales, q.scales)
    expected = -q.dequantize()
    if LAYOUTS[name].specials == "fnuz":
        expected += 0.0
    assert_same(mirrored.dequantize(), expected)
    assert (mirrored.saturated, mirrored.flushed) == (q.saturated, q.flushed)


@given(cases())
def test_within_a_group_order_is_kept(case):
    x, axis, name, scaling = case
    q = quantize_with(x, Operand(name, scaling), axis=axis)
    back = q.dequantize(np.float64)
    for _, slices in oracle.group_slices(scaling.granularity, x.shape, axis):
        order = np.argsort(x[slices], axis=None)
        assert np.all(np.diff(back[slices].ravel()[order]) >= 0)


@given(cases(), st.randoms(use_true_random=False))
def test_elements_keep_their_places(case, random):
    x, _, name, scaling = case
    scaling = dataclasses.replace(scaling, granularity="tensor")
    order = list(range(x.size))
    random.shuffle(order)
    q = quantize_with(x, Operand(name, scaling))
    shuffled = quantize_with(x.ravel()[order], Operand(name, scaling))
    assert_same(shuffled.dequantize(), q.dequantize().ravel()[order])


@given(cases(dtypes=st.just(np.float64)), st.sampled_from(["ceil", "floor", "even"]))
def test_quantizing_again_with_powers_of_two_changes_nothing(case, rule):
    x, axis, name, scaling = case
    scaling = Scaling(scaling.granularity, "e8m0", rule)
    assume(np.all((x == 0) | (np.abs(x) > 1e-25)))  # clear of the smallest scale
    once = quantize_with(x, Operand(name, scaling), axis=axis).dequantize(np.float64)
    twice = quantize_with(once, Operand(name, scaling), axis=axis)
    assert_same(twice.dequantize(np.float64), once)
    assert twice.saturated == 0


@given(cases(), st.integers(-20, 20))
def test_a_power_of_two_passes_into_power_of_two_scales(case, exponent):
    x, axis, name, scaling = case
    scaling = Scaling(scaling.granularity, "e8m0", "floor")
    assume(np.all((x == 0) | (np.abs(x) > 1e-25)))
    q = quantize_with(x, Operand(name, scaling), axis=axis)
    scaled = quantize_with(np.ldexp(x, exponent), Operand(name, scaling), axis=axis)
    assert_same(fp8sim.decode(scaled.codes, name), fp8sim.decode(q.codes, name))
    assert_same(scaled.dequantize(np.float64), np.ldexp(q.dequantize(np.float64), exponent))


@given(cases())
def test_ceil_saturates_nothing_and_amax_nothing_either(case):
    x, axis, name, scaling = case
    for scale_format, rule in (("e8m0", "ceil"), ("fp32", "ceil"), ("fp32", "amax")):
        # FP32 rounds amax / max once, which cannot push amax past the half-way point beyond max
        scaling = Scaling(scaling.granularity, scale_format, rule)
        assert quantize_with(x, Operand(name, scaling), axis=axis).saturated == 0


# --- axes, layouts, inputs ------------------------------------------------------------------------


@given(cases())
def test_groups_follow_the_axis_wherever_it_is(case):
    x, axis, name, scaling = case
    rows = scaling.granularity.split("x")[0]
    assume(rows in ("tensor", "row", "1") or x.ndim == 2)
    q = quantize_with(x, Operand(name, scaling), axis=axis)
    moved = quantize_with(np.moveaxis(x, axis, -1), Operand(name, scaling), axis=-1)
    assert_same(np.moveaxis(moved.dequantize(), -1, axis), q.dequantize())
    assert_same(np.moveaxis(moved.scales, -1, axis), q.scales)


@given(cases())
def test_negative_axes_count_from_the_end(case):
    x, axis, name, scaling = case
    q, other = (quantize_with(x, Operand(name, scaling), axis=a) for a in (axis, axis % x.ndim))
    assert_same(q.dequantize(), other.dequantize())
    assert q.nbytes == other.nbytes


apart = strategies.scalings(3).filter(lambda s: s.granularity != "tensor" and s.scale_format != "e4m3")


@given(strategies.arrays(min_dims=3), strategies.element_formats, apart)
def test_matrices_of_a_stack_are_scaled_apart(x, name, scaling):
    stack = quantize_with(x, Operand(name, scaling))
    for matrix, codes, scales in zip(x, stack.codes, stack.scales, strict=True):
        q = quantize_with(matrix, Operand(name, scaling))
        assert_same(fp8sim.decode(q.codes, name), fp8sim.decode(codes, name))
        assert_same(q.scales, scales)


@given(cases(), st.data())
def test_layout_in_memory_does_not_matter_and_no_input_is_changed(case, data):
    x, axis, name, scaling = case
    view = data.draw(strategies.laid_out(x))
    before = view.copy()
    q, plain = (
        quantize_with(view, Operand(name, scaling), axis=axis),
        quantize_with(x, Operand(name, scaling), axis=axis),
    )
    assert_same(view, before)
    assert_same(fp8sim.decode(q.codes, name), fp8sim.decode(plain.codes, name))
    assert_same(q.scales, plain.scales)
    assert (q.saturated, q.flushed) == (plain.saturated, plain.flushed)
    q.dequantize()[...] = 7
    assert_same(q.dequantize(), plain.dequantize())


def test_a_broadcast_view_is_read():
    x = np.broadcast_to(np.float32([1.0, -3.0, 0.5]), (4, 3))
    q = fp8sim.quantize(x, "e4m3", "row")
    assert_same(q.dequantize(), fp8sim.quantize(x.copy(), "e4m3", "row").dequantize())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int32])
def test_narrow_floats_and_integers_are_taken_exactly(dtype):
    x = np.array([[1, -2, 3, 104], [5, 0, -7, 8]]).astype(dtype)
    wide = x.astype(np.float32 if np.dtype(dtype).itemsize < 4 else np.float64)
    for granularity in ("tensor", "row", "1x2", "2x2"):
        q, plain = (fp8sim.quantize(v, "e5m2", granularity) for v in (x, wide))
        assert_same(q.dequantize(), plain.dequantize())
        assert_same(q.scales, plain.scales)


def test_float64_is_divided_and_rounded_in_float64():
    # 464 is the tie of E4M3; amax 448 makes the scale 1, and 432 - 2^-44 must not become 432
    x = np.array([448.0, 431.99999999999994, 1 + 2.0**-4 + 2.0**-40])
    assert fp8sim.quantize(x, "e4m3").dequantize().tolist() == [448.0, 416.0, 1.125]


def test_large_arrays_agree_with_the_nearest_value(rng):
    x = (rng.standard_normal((1000, 1100)) * np.exp2(rng.integers(-9, 9, (1000, 1)))).astype(np.float32)
    q = fp8sim.quantize(x, "e4m3", "1x128")
    scales = np.repeat(q.scales, 128, axis=1)[:, :1100].astype(np.float64)
    amax = np.maximum.reduceat(np.abs(x), np.arange(0, 1100, 128), axis=1)
    assert_same(q.scales, amax / np.float32(448))
    quotient = x / scales
    error = np.abs(q.codes.astype(np.float64) - quotient)
    assert np.all(error <= nearest_error(quotient, "e4m3") + 2.0**-23 * np.abs(quotient))


# --- ends -----------------------------------------------------------------------------------------


def test_a_ragged_last_group_holds_what_is_there():
    x = np.zeros((3, 300))
    x[:, 256:] = [[2.0], [4.0], [8.0]]
    q = fp8sim.quantize(x, "e4m3", "1x128")
    assert q.scales.shape == (3, 3)
    np.testing.assert_array_equal(q.scales[:, 2], np.float32([2, 4, 8]) / np.float32(448))
    assert np.all(q.codes[:, 256:].astype(np.float32) == 448)
    block = fp8sim.quantize(x, "e4m3", "128x128")
    assert block.scales.shape == (1, 3)
    assert block.scales[0, 2] == np.float32(8) / np.float32(448)


@pytest.mark.parametrize("scale_format", ["fp32", "e8m0", "e4m3"])
@pytest.mark.parametrize("granularity", ["tensor", "row", "1x2", "2x2", "none"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_groups_of_zeros_give_zeros_of_their_sign_and_never_nan(dtype, granularity, scale_format):
    x = np.array([[0.0, -0.0, 0.0, -0.0], [0.0, -0.0, 0.0, 0.0]], dtype)
    mixed = np.vstack([x, np.full((2, 4), 3, dtype)])
    for array in (x, mixed):
        q = fp8sim.quantize(array, "e4m3", granularity, scale_format=scale_format)
        assert np.isfinite(q.scales).all()
        assert_same(q.dequantize()[:2], x)
        assert q.flushed == q.saturated == 0


@pytest.mark.parametrize("shape", [(0, 256), (256, 0), (0, 0), (2, 0, 300)])
@pytest.mark.parametrize("axis", [-1, -2])
def test_empty_blocks_of_rows_have_scales_of_their_shape_too(axis, shape):
    q = fp8sim.quantize(np.ones(shape), "e4m3", "128x128", axis=axis)
    assert q.scales.shape == scales_shape("128x128", shape, axis)
    assert q.dequantize().shape == shape


@pytest.mark.parametrize("shape", [(0,), (0, 256), (3, 0), (0, 5), (2, 0, 3)])
@pytest.mark.parametrize("granularity", ["tensor", "row", "1x128", "1x2", "none"])
@pytest.mark.parametrize("scale_format", ["fp32", "e8m0", "e4m3"])
def test_empty_arrays_give_empty_codes_and_no_error(scale_format, granularity, shape):
    q = fp8sim.quantize(np.ones(shape), "e4m3", granularity, scale_format=scale_format)
    assert q.codes.shape == q.dequantize().shape == shape
    assert (q.saturated, q.flushed) == (0, 0)
    assert q.scales.shape == q.scale_codes.shape == scales_shape(granularity, shape)
    if granularity != "none":
        assert q.scales.size * Scaling(granularity, scale_format).scale_bytes == q.scale_nbytes - (
            4 if scale_format == "e4m3" else 0
        )


@pytest.mark.parametrize("scale_format", ["fp32", "e8m0", "e4m3"])
@pytest.mark.parametrize("tiny", [5e-324, 1e-310, 2.0**-149, 2.0**-140, 1e-38])
def test_tiny_numbers_give_no_nan_and_no_warning(tiny, scale_format):
    for dtype in (np.float32, np.float64):
        x = np.array([[tiny, -tiny, 0.0, tiny / 2]], dtype)
        for name in ("e4m3", "e5m2", "e2m1"):
            back = fp8sim.quantize(x, name, "1x2", scale_format=scale_format).dequantize(np.float64)
            assert np.isfinite(back).all()
            assert np.all(np.abs(back) <= 2 * tiny)


@pytest.mark.parametrize("scale_format", ["fp32", "e8m0", "e4m3"])
def test_the_largest_float32_is_quantised_without_a_warning(scale_format):
    top = np.finfo(np.float32).max
    q = fp8sim.quantize(np.array([[top, -top, top / 3, 1.0]]), "e4m3", "1x4", scale_format=scale_format)
    np.testing.assert_allclose(q.dequantize(np.float64)[0, :3], [top, -top, top / 3], rtol=2.0**-4)
    assert not np.isnan(q.dequantize()).any()


@pytest.mark.parametrize(("name", "x", "largest"), [("e5m6", 65400.0, 65024.0), ("fp16", 65530.0, 65504.0)])
def test_the_floor_rule_saturates_whatever_the_element_format(name, x, largest):
    q = fp8sim.quantize([x, 1.0], name, "row", scale_format="e8m0", scale_rule="floor")
    assert q.scales.tolist() == [1.0]
    assert q.dequantize().tolist() == [largest, 1.0]
    assert q.saturated == 1


def test_the_ocp_floor_rule_saturates_amax_beyond_448_and_ceil_does_not():
    x = np.array([511.0, -500.0, 460.0, 101.0])
    floor, ceil = (
        fp8sim.quantize(x, "e4m3", "1x32", scale_format="e8m0", scale_rule=rule) for rule in ("floor", "ceil")
    )
    # 460 rounds to 448 before the limit is looked at, so it does not count
    assert (floor.scales.tolist(), floor.saturated) == ([1.0], 2)
    assert floor.dequantize().tolist() == [448, -448, 448, 104]
    assert (ceil.scales.tolist(), ceil.saturated) == ([2.0], 0)
    assert ceil.dequantize().tolist() == [512, -512, 448, 104]


def test_flushed_counts_what_underflows():
    q = fp8sim.quantize([448.0, 2.0**-10, 2.0**-9, 0.0, -(2.0**-11)], "e4m3")
    assert (q.flushed, q.saturated) == (2, 0)


def test_a_plain_cast_has_no_scales_and_takes_what_the_cast_takes():
    x = np.array([1.0, 1e6, np.inf, np.nan, 2.0**-11])
    q = fp8sim.quantize(x, "e4m3", "none")
    assert_same(q.dequantize(), np.float32([1, 448, 448, np.nan, 0]))
    assert (q.nbytes, q.scale_nbytes) == (5, 0)
    assert (q.saturated, q.flushed) == (1, 1)
    wide = fp8sim.quantize(x, "fp16", "none").dequantize()
    assert_same(wide, np.float32([1, np.inf, np.inf, np.nan, 2.0**-11]))


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "e8m0"])
def test_every_format_with_a_zero_can_be_quantised_to(name):
    granularity = "none" if LAYOUTS[name].bits > 8 else "tensor"
    q = fp8sim.quantize([0.0, 1.0, 0.25, 3.0], name, granularity)
    assert (q.flushed, q.saturated) == (0, 0)
    np.testing.assert_allclose(q.dequantize(), [0.0, 1.0, 0.25, 3.0], rtol=0.125)


@pytest.mark.parametrize("granularity", ["none", "tensor", "1x128"])
def test_a_format_without_a_zero_holds_no_elements(granularity):
    with pytest.raises(ValueError, match="e8m0 has no zero or no sign: it holds scales, not the elements"):
        fp8sim.quantize([1.0, 2.0, 0.25], "e8m0", granularity)  # all of them values of E8M0


def test_quantized_says_what_it_holds_and_is_frozen():
    q = fp8sim.quantize(np.full((2, 300), 3.0), "e4m3", "1x128", scale_format="e8m0", scale_rule="floor")
    assert repr(q) == (
        "Quantized((2, 300) e4m3, 1x128 e8m0 floor: 606 bytes, of them 6 scales; 0 saturated, 0 flushed)"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        q.flushed = 3


# --- roundings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["tensor", "row", "1x128", "none"])
@pytest.mark.parametrize("rounding", ["nearest-away", "toward-zero", "toward-positive", "toward-negative"])
@pytest.mark.parametrize("shape", [(3, 40), (40, 300)])
def test_elements_are_rounded_as_asked_and_scales_as_ever(rounding, granularity, shape, rng):
    x = rng.standard_normal(shape)
    q, nearest = (fp8sim.quantize(x, "e4m3", granularity, rounding=r) for r in (rounding, "nearest-even"))
    assert_same(q.scales, nearest.scales)
    scales = np.repeat(q.scales, 128, axis=1)[:, : shape[1]] if granularity == "1x128" else q.scales
    expected = fp8sim.round_to(x / scales.astype(x.dtype), "e4m3", rounding=rounding, overflow="saturate")
    assert_same(fp8sim.decode(q.codes, "e4m3"), expected.astype(np.float32))
    assert (q.bits != nearest.bits).any() == (rounding != "nearest-away")


def test_stochastic_elements_are_right_on_average_and_repeat_with_their_seed():
    x = np.full((1, 5000), 1.05)
    x[0, 0] = 448  # the scale is 1
    one, same, other = (
        fp8sim.quantize(x, "e4m3", rounding="stochastic", rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert_same(one.bits, same.bits)
    assert (one.bits != other.bits).any()
    assert set(np.unique(one.dequantize()[0, 1:])) == {1.0, 1.125}
    assert one.dequantize()[0, 1:].mean() == pytest.approx(1.05, abs=0.005)
    with pytest.raises(TypeError, match=r"pass rng=np\.random\.default_rng"):
        fp8sim.quantize(x, "e4m3", rounding="stochastic")
