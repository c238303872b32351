"""Accumulators keep their law: where everything fits, the sum is the exact dot product."""

import dataclasses
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fp8sim
from fp8sim import RECIPES, _kernels, get_recipe, matmul, quantize
from fp8sim.accumulators import ACCUMULATORS, Exact, Sequential, exact_dot, get_accumulator
from fp8sim.formats import FORMATS
from readable import readable


def operands(a, b, fmt="fp32"):
    return quantize(a, fmt, "none", axis=1), quantize(b, fmt, "none", axis=0)


def exact_rational(a, b):
    """The dot products in fractions, then the nearest float32 by comparing fractions."""
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            pairs = zip(a[i].tolist(), b[:, j].tolist(), strict=True)
            total = sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(0))
            out[i, j] = nearest_float32(total)
    return out


def nearest_float32(value):
    guess = np.float32(float(value))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    even = {float(x): int(x.view(np.int32)) & 1 for x in near}
    return min(near, key=lambda x: (abs(Fraction(float(x)) - value), even[float(x)]))


@pytest.mark.parametrize("accumulator", ACCUMULATORS.values(), ids=lambda accumulator: accumulator.name)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_where_every_partial_sum_fits_the_sum_is_exact(accumulator, seed, k):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-2, 3, (3, k)), rng.integers(-1, 2, (k, 4))  # |sums| <= 80 < 2^8: even BF16
    result = accumulator.multiply(*operands(a.astype(np.float32), b.astype(np.float32)))
    np.testing.assert_array_equal(result, (a @ b).astype(np.float32))
    assert result.dtype == np.float32


@given(st.integers(0, 2**32), st.integers(0, 70), st.sampled_from(["fp32", "bf16", "e5m2", "e4m3"]))
def test_exact_is_correctly_rounded(seed, k, fmt):
    rng = np.random.default_rng(seed)
    spread = 2.0 ** rng.integers(-20, 20, (4, k))
    a, b = rng.standard_normal((4, k)) * spread, rng.standard_normal((k, 3))
    left, right = operands(a, b, fmt)
    result = Exact().multiply(left, right)
    np.testing.assert_array_equal(result, exact_rational(left.dequantize(), right.dequantize()))


def test_exact_sees_what_float64_sums_lose():
    a = np.array([[1e30, 1.0, -1e30, 2.0**-60]])
    b = np.ones((4, 1))
    left, right = operands(a, b)
    assert Exact().multiply(left, right)[0, 0] == np.float32(1)
    assert (left.dequantize() @ right.dequantize())[0, 0] != 1


def test_exact_rounds_a_sum_next_to_a_midpoint_by_its_last_bit():
    tiny = 2.0**-140
    a = np.array([[1.0, 2.0**-24, tiny], [1.0, 2.0**-24, -tiny], [1.0, 2.0**-24, 0.0]])
    result = Exact().multiply(*operands(a, np.ones((3, 1))))
    np.testing.assert_array_equal(result.ravel(), np.float32([1 + 2.0**-23, 1, 1]))


def test_what_three_levels_cannot_settle_is_settled_in_fractions():
    # 1 + 2^-24 is a midpoint of float32. What decides is 2^-298, and the second level forgets it while
    # it holds 2^-100.
    a = np.array([[1.0, 2.0**-24, 2.0**-100, 2.0**-149, -(2.0**-100)]])
    b = np.array([[1.0], [1.0], [1.0], [2.0**-149], [1.0]])
    if _kernels.available():
        from fp8sim._kernels.exact_kernels import exact_product

        _, unsettled = exact_product(a, b)
        assert unsettled.all()
    assert Exact().multiply(*operands(a, b))[0, 0] == np.float32(1 + 2.0**-23)


def test_exact_takes_scales_into_the_exact_products():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((5, 300)), rng.standard_normal((300, 4))
    recipe = dataclasses.replace(get_recipe("deepseek-v3"), accumulator="exact")
    left = quantize(a, "e4m3", "1x128", axis=1, amax_floor=1e-4)
    right = quantize(b, "e4m3", "128x128", axis=0, amax_floor=1e-4)
    want = exact_rational(left.dequantize(np.float64), right.dequantize(np.float64))
    np.testing.assert_array_equal(matmul(a, b, recipe), want)


def test_exact_passes_infinity_and_nan_on():
    a = np.array([[np.inf, 1.0], [np.inf, -np.inf], [np.nan, 1.0], [1.0, 1.0]])
    result = Exact().multiply(*operands(a, np.ones((2, 1))))
    np.testing.assert_array_equal(result.ravel(), np.float32([np.inf, np.nan, np.nan, 2]))
    slow = readable(Exact().multiply, *operands(a, np.ones((2, 1))))
    np.testing.assert_array_equal(slow, result)
    with _kernels.readable():
        zero_times = Exact().multiply(*operands(a, np.array([[0.0], [1.0]])))
    np.testing.assert_array_equal(zero_times.ravel(), np.float32([np.nan, np.nan, np.nan, 1]))


@pytest.mark.parametrize(("fmt", "dtype"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_sequential_equals_one_rounded_step_after_another(fmt, dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 60)).astype(dtype), rng.standard_normal((60, 5)).astype(dtype)
    total = np.zeros((4, 5), dtype)
    for q in range(60):  # float64 holds these products and sums to well beyond the narrow format
        exact = np.outer(a[:, q].astype(np.float64), b[q].astype(np.float64)) + total.astype(np.float64)
        total = exact.astype(dtype)
    result = Sequential(FORMATS[fmt]).multiply(*operands(a, b, fmt))
    np.testing.assert_array_equal(result, total.astype(np.float32))


def test_fp16_sequential_stops_growing_at_2048():
    ones = operands(np.ones((1, 4000)), np.ones((4000, 1)), "fp16")
    assert get_accumulator("fp16-sequential").multiply(*ones)[0, 0] == 2048


def test_sequential_rounds_the_exact_sum_once():
    # 1 + 2^-11 is a midpoint of FP16; float64 would forget the 2^-60 that decides.
    a = np.array([[2.0**-60, 1 + 2.0**-11]], np.float32)
    b = np.ones((2, 1), np.float32)
    fp16 = Sequential(dataclasses.replace(FORMATS["fp16"], name="wide fp16", exponent_bits=8, bias=127))
    assert fp16.multiply(*operands(a, b))[0, 0] == np.float32(1 + 2.0**-10)


def test_more_careful_sums_have_smaller_errors():
    rng = np.random.default_rng(1)
    a, b = rng.random((8, 4096), np.float32), rng.random((4096, 8), np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    names = ["bf16-sequential", "fp32-sequential", "fp32-pairwise", "fp32-kahan"]
    errors = [np.abs(get_accumulator(name).multiply(*operands(a, b)) - exact).mean() for name in names]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] > 5 * errors[2]


@pytest.mark.parametrize("accumulator", ACCUMULATORS.values(), ids=lambda accumulator: accumulator.name)
@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0)])
def test_empty_products_have_the_right_shape_and_are_zero(accumulator, shape):
    m, k, n = shape
    result = accumulator.multiply(*operands(np.ones((m, k)), np.ones((k, n))))
    assert result.shape == (m, n)
    assert not result.any()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_takes_another_accumulator(recipe):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((4, 200)), rng.standard_normal((200, 3))
    exact = matmul(a, b, dataclasses.replace(get_recipe(recipe), accumulator="exact"))
    blas = matmul(a, b, dataclasses.replace(get_recipe(recipe), accumulator="fp32"))
    np.testing.assert_allclose(blas, exact, rtol=1e-4, atol=1e-4)


def test_an_unknown_accumulator_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="unknown accumulator 'fp32-kahn'; did you mean 'fp32-kahan'"):
        get_accumulator("fp32-kahn")


@pytest.mark.parametrize("name", ["Hopper-FP8", "HOPPER-FP8/128", "Exact"])
def test_names_in_capitals_find_the_same_accumulator(name):
    assert get_accumulator(name) == get_accumulator(name.lower())
    assert get_accumulator(name) != get_accumulator("fp32")


def test_an_unknown_core_with_an_interval_is_refused():
    with pytest.raises(ValueError, match=r"unknown accumulator 'hoper-fp8/128'; did you mean 'hopper-fp8'"):
        get_accumulator("hoper-fp8/128")


def test_the_exact_sum_of_infinity_or_nan_is_that_of_ieee_compiled_or_not():
    for value in (math.nan, math.inf, -math.inf):
        a, b = np.full((1, 3), value), np.ones((3, 1))
        recipe = fp8sim.Recipe("x", fp8sim.Operand("bf16"), fp8sim.Operand("bf16"), "exact")
        for product in (fp8sim.matmul(a, b, recipe), readable(fp8sim.matmul, a, b, recipe)):
            np.testing.assert_array_equal(product, [[value]])
    assert math.isnan(exact_dot([math.inf, -math.inf], [1.0, 1.0]))
    assert exact_dot([1e300, 1.0], [-1e300, 1.0]) == -math.inf  # beyond float64 too
    with pytest.raises(ValueError, match="must be vectors of one length"):
        exact_dot(3.0, 4.0)
