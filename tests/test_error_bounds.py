"""Measured errors of sums stay below their bound, and the bound is not idle."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fp8sim import RECIPES, get_recipe
from fp8sim.accumulators import bounds, get_accumulator, sum_error_bound
from fp8sim.gemm import quantize_both

BOUNDED = [recipe for recipe in RECIPES.values() if recipe.accumulator.name != "exact"]


def measure(a, b, recipe):
    left, right = quantize_both(a, b, recipe)
    exact = left.dequantize(np.float64) @ right.dequantize(np.float64)
    error = np.abs(recipe.accumulator.multiply(left, right) - exact)
    return error, sum_error_bound(left, right, recipe.accumulator), exact


@pytest.mark.parametrize("recipe", BOUNDED, ids=str)
@given(seed=st.integers(0, 2**32), k=st.integers(1, 600), spread=st.sampled_from([0, 4]))
def test_no_sum_is_further_off_than_its_bound(recipe, seed, k, spread):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((5, k)) * 2.0 ** rng.integers(-spread, spread + 1, (5, k))
    b = rng.standard_normal((k, 6)) * 2.0 ** rng.integers(-spread, spread + 1, (k, 1))
    error, bound, exact = measure(a, b, recipe)
    # The exact product is itself computed in float64.
    assert np.all(error <= bound + 1e-13 * np.abs(exact).max())


@pytest.mark.parametrize("recipe", BOUNDED, ids=str)
@given(
    seed=st.integers(0, 2**32),
    k=st.integers(1, 300),
    sizes=st.tuples(st.integers(-148, 120), st.integers(-148, 120)),
    spread=st.sampled_from([0, 12]),
)
def test_the_bound_holds_where_fp32_underflows_and_overflows(recipe, seed, k, sizes, spread):
    rng = np.random.default_rng(seed)
    a, b = (
        (rng.standard_normal(shape) * 2.0 ** (size + rng.integers(-spread, spread + 1, shape))).clip(
            -1e38, 1e38
        )
        for shape, size in zip(((4, k), (k, 5)), sizes, strict=True)
    )
    left, right = quantize_both(a.astype(np.float32), b.astype(np.float32), recipe)
    operands = left.dequantize(np.float64), right.dequantize(np.float64)
    assume(all(np.isfinite(x).all() for x in operands))  # what BF16 and the like make infinite has no error
    exact = operands[0] @ operands[1]
    error = np.abs(recipe.accumulator.multiply(left, right) - exact)
    bound = sum_error_bound(left, right, recipe.accumulator)
    assert np.all((error <= bound + 1e-13 * np.abs(exact).max()) | np.isinf(bound))


@pytest.mark.parametrize("name", ["nvfp4", "fp8-row", "fp32"])
def test_what_underflows_is_a_term_of_the_bound(name, monkeypatch):
    rng = np.random.default_rng(0)
    a = np.float32(2.0**-76) * rng.standard_normal((4, 64)).astype(np.float32)
    b = np.float32(2.0**-76) * rng.standard_normal((64, 4)).astype(np.float32)
    error, bound, _ = measure(a, b, get_recipe(name))
    assert np.all(error <= bound)
    monkeypatch.setattr(bounds, "_UNDERFLOW", 0.0)
    monkeypatch.setattr(bounds, "_rounded", lambda scale: (np.float64(scale), np.zeros(np.shape(scale))))
    error, bound, _ = measure(a, b, get_recipe(name))
    assert np.any(error > bound)


@pytest.mark.parametrize("recipe", BOUNDED, ids=str)
def test_the_bound_holds_where_all_cut_off_terms_have_one_sign(recipe):
    rng = np.random.default_rng(0)
    error, bound, _ = measure(rng.random((8, 4096)), rng.random((4096, 8)), recipe)
    assert np.all(error <= bound)


def test_truncation_of_one_sign_comes_within_a_small_factor_of_the_bound():
    rng = np.random.default_rng(0)
    error, bound, _ = measure(rng.random((8, 4096)), rng.random((4096, 8)), get_recipe("fp8-row"))
    assert np.median(bound / error) < 4


def test_a_bound_for_one_fraction_bit_more_is_broken():
    rng = np.random.default_rng(0)
    a, b = rng.random((8, 4096)), rng.random((4096, 8))
    recipe = get_recipe("fp8-row")
    core = dataclasses.replace(recipe.accumulator.core, fraction_bits=16, output="fp32-rz")
    left, right = quantize_both(a, b, recipe)
    finer = sum_error_bound(left, right, dataclasses.replace(recipe.accumulator, core=core))
    error, _, _ = measure(a, b, recipe)
    assert np.any(error > finer)


def test_promotion_makes_the_bound_smaller():
    rng = np.random.default_rng(0)
    left, right = quantize_both(
        rng.standard_normal((4, 4096)), rng.standard_normal((4096, 4)), get_recipe("fp8-row")
    )
    one, promoted = (
        sum_error_bound(left, right, get_accumulator(name)) for name in ("hopper-fp8", "hopper-fp8/128")
    )
    assert np.all(promoted < one / 4)


@pytest.mark.parametrize("name", ["exact", "fp16-sequential", "hopper-fp16-fp16out"])
def test_accumulators_without_a_bound_say_so(name):
    left, right = quantize_both(np.ones((2, 3)), np.ones((3, 2)), get_recipe("fp16"))
    assert sum_error_bound(left, right, get_accumulator(name)) is None


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_sums_of_an_infinite_operand_have_an_infinite_bound(name):
    a, b = np.array([[np.inf, 1.0], [1.0, 1.0]]), np.array([[0.0], [1.0]])
    recipe = get_recipe(name)
    bound = sum_error_bound(*quantize_both(a, b, recipe), recipe.accumulator)
    assert np.isinf(bound[0, 0])
    assert np.isfinite(bound[1, 0])
