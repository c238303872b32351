"""The three products of a linear layer under a recipe, each against an independent way to do it."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from fp8sim.accumulators import OneChain, get_accumulator
from fp8sim.formats import FORMATS, FloatFormat, get_format
from fp8sim.quantization import Operand, Scaling, quantize, quantize_with
from fp8sim.recipes import RECIPES, Recipe
from fp8sim.tensor_cores import TENSOR_CORES, promoted_matmul, tensor_core_matmul
from fp8sim.training import (
    GEMMS,
    TRAINING_RECIPES,
    Counts,
    DelayedScales,
    DelayedScaling,
    LinearGemms,
    Statistics,
    get_training_recipe,
)

TOKENS, IN, OUT = 200, 300, 150  # none a multiple of 128


@pytest.fixture
def layer(rng):
    x = rng.standard_normal((TOKENS, IN), dtype=np.float32) * np.exp(rng.standard_normal((TOKENS, 1)))
    w = np.float32(0.05) * rng.standard_normal((OUT, IN), dtype=np.float32)
    dy = np.float32(1e-6) * rng.standard_normal((TOKENS, OUT), dtype=np.float32)
    return x.astype(np.float32), w, dy


def run(recipe, layer, **options):
    x, w, dy = layer
    gemms = LinearGemms(get_training_recipe(recipe), **options)
    y, saved = gemms.forward(x, w)
    return y, *gemms.backward(dy, saved)


def blocks(x, rows, columns, floor=0.0, largest=448.0, dtype=ml_dtypes.float8_e4m3fn):
    """Quantise by blocks with loops, and return codes and one scale per element."""
    codes, scales = np.empty(x.shape, dtype), np.empty(x.shape, np.float32)
    for i in range(0, x.shape[0], rows):
        for j in range(0, x.shape[1], columns):
            part = x[i : i + rows, j : j + columns]
            scale = np.float32(max(np.abs(part).max(), np.float32(floor)) / np.float32(largest))
            codes[i : i + rows, j : j + columns] = np.clip(part / scale, -largest, largest).astype(dtype)
            scales[i : i + rows, j : j + columns] = scale
    return codes, scales


def bf16(x):
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def promoted(a, b):
    """Multiply two (codes, scale of each element) on Hopper's FP8 core, promoted every 128."""
    return promoted_matmul(
        a[0], b[0], "hopper-fp8", promote_every=128, a_scales=a[1][:, ::128], b_scales=b[1][::128]
    )


# --- DeepSeek-V3 ------------------------------------------------------------------------------------------


def test_deepseek_fprop_multiplies_separately_quantised_operands_bit_for_bit(layer):
    x, w, _ = layer
    codes, scales = blocks(w, 128, 128, floor=1e-4)
    expected = promoted(blocks(x, 1, 128, floor=1e-4), (codes.T, scales.T))
    np.testing.assert_array_equal(run("deepseek-v3", layer)[0], bf16(expected))


def test_deepseek_dgrad_multiplies_separately_quantised_operands_bit_for_bit(layer):
    _, w, dy = layer
    expected = promoted(blocks(dy, 1, 128), blocks(w, 128, 128, floor=1e-4))
    np.testing.assert_array_equal(run("deepseek-v3", layer)[1], bf16(expected))


def test_deepseek_wgrad_starts_from_the_fp8_copy_of_x_and_stays_in_fp32(layer):
    x, _, dy = layer
    cached = blocks(x, 1, 128, floor=1e-4)
    again = cached[0].astype(np.float32) * cached[1]
    expected = promoted(blocks(dy.T, 1, 128), blocks(again, 128, 1, floor=1e-4))
    np.testing.assert_array_equal(run("deepseek-v3", layer)[2], expected)


def test_one_promoted_block_is_a_chain_of_the_tensor_core(rng):
    x, w, dy = (rng.standard_normal(shape, dtype=np.float32) for shape in ((9, 128), (7, 128), (9, 7)))
    (a, a_scale), (b, b_scale) = blocks(x, 1, 128, floor=1e-4), blocks(w, 128, 128, floor=1e-4)
    expected = tensor_core_matmul(a, b.T, "hopper-fp8") * (a_scale[:, :1] * b_scale.T[:1])
    np.testing.assert_array_equal(run("deepseek-v3", (x, w, dy))[0], bf16(expected))


def test_what_deepseek_keeps_for_the_backward_pass_is_fp8_alone(layer):
    x, w, _ = layer
    _, saved = LinearGemms(get_training_recipe("deepseek-v3")).forward(x, w)
    assert saved.original_x is None
    assert saved.original_w is None
    assert saved.x.codes.itemsize == saved.w.codes.itemsize == 1


# --- every recipe -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINING_RECIPES)
def test_every_recipe_is_near_the_float64_products(name, layer):
    x, w, dy = (t.astype(np.float64) for t in layer)
    if name == "fp8-delayed":  # without a history, gradients of 1e-6 are all flushed
        gemms = LinearGemms(get_training_recipe(name))
        for _ in range(2):
            y, saved = gemms.forward(layer[0], layer[1])
            result = y, *gemms.backward(layer[2], saved)
    else:
        result = run(name, layer, rng=np.random.default_rng(0))
    limit = 1e-6 if name == "fp32" else 0.005 if name == "bf16" else 0.08
    for found, exact in zip(result, (x @ w.T, dy @ w, dy.T @ x), strict=True):
        assert found.dtype == np.float32
        assert np.linalg.norm(found - exact) < limit * np.linalg.norm(exact)


# What is quantised for each side of each product, and the axis of the product that it has in common.
SIDES = {
    ("fprop", "a"): ("x", 0),
    ("fprop", "b"): ("w", 1),
    ("dgrad", "a"): ("dy", 0),
    ("dgrad", "b"): ("w", 1),
    ("wgrad", "a"): ("dy", 0),
    ("wgrad", "b"): ("x", 1),
}


def of_one_row(name: str) -> list[tuple[str, str, str]]:
    """Return the sides of a recipe's products where one row of the summed axis shares scales with no other."""
    recipe = get_training_recipe(name)
    sides = []
    for gemm, side in SIDES:
        granularity = getattr(getattr(recipe, gemm), side).scaling.granularity
        # x that was quantised for Fprop already has shared scales across the tokens' other axis
        again = (gemm, side) == ("wgrad", "b") and recipe.cached_input == "quantized"
        if (granularity == "row" or granularity.startswith("1x")) and not again:
            sides.append((name, gemm, side))
    return sides


@pytest.mark.parametrize(
    ("name", "gemm", "side"), [case for name in TRAINING_RECIPES for case in of_one_row(name)]
)
def test_groups_run_along_the_axis_that_is_summed(name, gemm, side, layer):
    tensors = dict(zip(("x", "w", "dy"), layer, strict=True))
    tensor, axis = SIDES[gemm, side]
    with_outlier = {**tensors, tensor: tensors[tensor].copy()}
    with_outlier[tensor][0, 0] *= (
        1000  # its group flushes or coarsens; a group that runs across flushes others
    )
    index = ("fprop", "dgrad", "wgrad").index(gemm)
    before, after = (
        run(name, tuple(t[key] for key in ("x", "w", "dy")), rng=np.random.default_rng(0))[index]
        for t in (tensors, with_outlier)
    )
    changed = (before != after).any(axis=1 - axis)
    np.testing.assert_array_equal(np.flatnonzero(changed), [0])


@pytest.mark.parametrize("name", TRAINING_RECIPES)
def test_nothing_that_is_passed_is_modified(name, layer):
    copies = [t.copy() for t in layer]
    run(name, layer, rng=np.random.default_rng(0))
    for before, after in zip(copies, layer, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", sorted(TRAINING_RECIPES.keys() & RECIPES.keys()))
def test_one_name_means_one_way_to_multiply_in_products_and_in_training(name):
    product, training = RECIPES[name], TRAINING_RECIPES[name].fprop
    assert (training.a, training.b, training.accumulator) == (product.a, product.b, product.accumulator)


@pytest.mark.parametrize("name", ["bf16", "fp8-tensor", "deepseek-v3", "mxfp8"])
def test_outputs_are_bf16_and_weight_gradients_are_not(name, layer):
    y, dx, dw = run(name, layer)
    np.testing.assert_array_equal(y, bf16(y))
    np.testing.assert_array_equal(dx, bf16(dx))
    assert (dw != bf16(dw)).any()


def test_tensor_scaling_sums_fprop_in_one_chain_and_promotes_the_gradients(layer):
    xq, wq, dq = (blocks(t, *t.shape) for t in layer)
    y, dx, dw = run("fp8-tensor", layer)
    chain = tensor_core_matmul(xq[0], wq[0].T, "hopper-fp8") * (xq[1][0, 0] * wq[1][0, 0])
    np.testing.assert_array_equal(y, bf16(chain))
    split = tensor_core_matmul(dq[0], wq[0], "hopper-fp8", promote_every=128) * (dq[1][0, 0] * wq[1][0, 0])
    np.testing.assert_array_equal(dx, bf16(split))
    split = tensor_core_matmul(dq[0].T, xq[0], "hopper-fp8", promote_every=128) * (dq[1][0, 0] * xq[1][0, 0])
    np.testing.assert_array_equal(dw, split)
    assert not np.array_equal(y, run("deepseek-v3", layer)[0])


def test_a_bias_is_added_before_rounding(layer):
    x, w, _ = layer
    bias = np.linspace(-1, 1, OUT, dtype=np.float32)
    gemms = LinearGemms(get_training_recipe("bf16"))
    sums = tensor_core_matmul(bf16(x), bf16(w).T, "hopper-bf16")
    np.testing.assert_array_equal(gemms.forward(x, w, bias)[0], bf16(sums + bias))


def test_float64_is_rounded_once(rng):
    x = np.array([[1 + 2.0**-4 + 2.0**-40, 448.0]])  # E4M3 from float32 would be 1
    recipe = dataclasses.replace(
        get_training_recipe("fp8-tensor"),
        fprop=Recipe("f", Operand("e4m3", Scaling("tensor")), Operand("fp32"), "fp32", "fp32"),
    )
    y, _ = LinearGemms(recipe).forward(x, np.array([[1.0, 0.0]]))
    assert y[0, 0] == 1.125


# --- ablations --------------------------------------------------------------------------------------------


def test_e5m2_gradients_cost_a_bit(layer):
    exact = layer[2].astype(np.float64) @ layer[1]
    error = {
        name: np.linalg.norm(run(name, layer)[1] - exact)
        for name in ("deepseek-v3", "deepseek-v3-e5m2-gradients")
    }
    assert 1.3 < error["deepseek-v3-e5m2-gradients"] / error["deepseek-v3"] < 2.0  # of the two operands, one


def test_block_gradients_flush_a_token_that_shares_its_block_with_an_outlier(layer):
    x, w, dy = layer
    dy = dy.copy()
    dy[0] *= 1e6  # 1e6 is more than the 2^18.8 from E4M3's largest value to half its smallest
    dx = run("deepseek-v3-block-gradients", (x, w, dy))[1]
    assert np.all(dx[1:128] == 0)
    assert np.all(dx[128:].any(axis=1))
    assert np.all(run("deepseek-v3", (x, w, dy))[1].any(axis=1))


def test_block_gradients_are_for_dgrad_alone(layer):
    for index in (0, 2):
        np.testing.assert_array_equal(
            run("deepseek-v3-block-gradients", layer)[index], run("deepseek-v3", layer)[index]
        )


def test_power_of_two_scales_lose_nothing_when_x_is_quantised_again(layer):
    recipe = get_training_recipe("deepseek-v3-power-of-two-scales")
    x, w, dy = layer
    x = x[:, :100] * np.float32(0.001) + 1  # no large spread: the second scale is never the coarser one
    twice = run(recipe, (x, w[:, :100], dy))[2]
    once = run(dataclasses.replace(recipe, cached_input="original"), (x, w[:, :100], dy))[2]
    np.testing.assert_array_equal(twice, once)
    assert not np.array_equal(
        run("deepseek-v3", (x, w[:, :100], dy))[2],
        run(dataclasses.replace(get_training_recipe("deepseek-v3"), cached_input="original"),
            (x, w[:, :100], dy))[2],
    )  # fmt: skip


def test_stochastic_gradients_are_unbiased_and_repeat_with_their_seed(layer):
    x, w, dy = (t[:40] for t in layer)
    w = layer[1]
    name = "deepseek-v3-stochastic-gradients"
    recipe = dataclasses.replace(
        get_training_recipe(name),
        dgrad=Recipe("d", get_training_recipe(name).dgrad.a, Operand("fp32"), "fp32", "fp32"),
    )
    rng = np.random.default_rng(1)
    draws = np.stack([run(recipe, (x, w, dy), rng=rng)[1] for _ in range(200)])
    exact = dy.astype(np.float64) @ w
    error = np.linalg.norm(draws.mean(axis=0) - exact) / np.linalg.norm(draws[0] - exact)
    assert error < 1.3 / np.sqrt(200)  # a bias would stay
    first, second, third = (
        run(name, layer, rng=np.random.default_rng(seed))[1] for seed in (7, 7, 8)
    )  # fmt: skip
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)


def test_gradients_take_the_random_bits_of_the_recipe(layer):
    base = get_training_recipe("deepseek-v3-stochastic-gradients")
    few = dataclasses.replace(base, name="few", gradient_random_bits=1)
    assert "dy is rounded stochastic by 1 bits" in str(few.parts()[0])
    dx = [run(recipe, layer, rng=np.random.default_rng(7))[1] for recipe in (base, few, few)]
    np.testing.assert_array_equal(dx[1], dx[2])
    assert not np.array_equal(dx[0], dx[1])
    with pytest.raises(ValueError, match="rounding 'nearest-even' draws nothing; leave random_bits=8 out"):
        dataclasses.replace(get_training_recipe("deepseek-v3"), gradient_random_bits=8)


def test_stochastic_recipes_ask_for_a_generator():
    with pytest.raises(TypeError, match=r"pass rng=np.random.default_rng\(seed\)"):
        LinearGemms(get_training_recipe("deepseek-v3-stochastic-gradients"))


# --- one chain --------------------------------------------------------------------------------------------


def multiply(a, b, accumulator, a_scaling, b_scaling):
    qa = quantize(a, "e4m3", a_scaling.granularity, scale_format=a_scaling.scale_format)
    qb = quantize(b, "e4m3", b_scaling.granularity, scale_format=b_scaling.scale_format, axis=0)
    return accumulator.multiply(qa, qb), qa, qb


def test_one_chain_with_one_scale_is_the_chain_of_the_core(rng):
    a, b = rng.standard_normal((6, 500)), rng.standard_normal((500, 5))
    found, qa, qb = multiply(a, b, OneChain("hopper-fp8"), Scaling("row"), Scaling("row"))
    np.testing.assert_array_equal(
        found, tensor_core_matmul(qa.codes, qb.codes, "hopper-fp8") * qb.scales * qa.scales
    )


def test_one_chain_with_power_of_two_scales_is_a_chain_of_the_scaled_values(rng, monkeypatch):
    # A core sums scaled values as it sums codes, if scales are powers of two and no code is subnormal.
    monkeypatch.setitem(FORMATS, "wide", FloatFormat("wide", exponent_bits=8, mantissa_bits=3))
    core = dataclasses.replace(TENSOR_CORES["hopper-fp8"], name="wide", inputs=("wide",))
    size = (5, 512)
    a, b = (
        rng.choice([-1, 1], shape) * rng.uniform(1, 2, shape) * 2.0 ** rng.integers(-3, 4, shape)
        for shape in (size, size[::-1])
    )
    a *= np.repeat(2.0 ** rng.integers(-4, 5, (5, 4)), 128, axis=1)
    fine = Scaling("1x128", "e8m0")
    found, qa, qb = multiply(a, b, OneChain("hopper-fp8"), fine, fine)
    assert len(np.unique(qa.scales)) > 1
    expected = tensor_core_matmul(qa.dequantize(), qb.dequantize(), core)
    np.testing.assert_array_equal(found, expected)


def test_one_chain_cuts_its_register_off_where_scales_change():
    a, b = np.zeros((1, 256), np.float32), np.zeros((256, 1), np.float32)
    a[0, 0], b[0, 0] = 448, 448  # the scales of this block are 1
    a[0, 128], b[129, 0] = 3 * 448, 448  # of this one 3 and 1, and its product is 0
    found, qa, _ = multiply(a, b, OneChain("hopper-fp8"), Scaling("1x128"), Scaling("128x128"))
    assert qa.scales.tolist() == [[1, 3]]
    # 448^2 / 3 = 66901.3 lies between 66896 and 66904, two neighbours of 13 fraction bits.
    assert found.tolist() == [[3 * 66896]]


def test_one_chain_loses_more_than_promotion(rng):
    a, b = rng.uniform(0, 1, (16, 4096)), rng.uniform(0, 1, (4096, 16))
    fine, block = Scaling("1x128"), Scaling("128x128")
    exact = multiply(a, b, get_accumulator("exact"), fine, block)[0]
    error = [
        np.linalg.norm(multiply(a, b, sums, fine, block)[0] - exact)
        for sums in (OneChain("hopper-fp8"), get_training_recipe("deepseek-v3").fprop.accumulator)
    ]
    assert error[0] > 10 * error[1]


# --- delayed scaling --------------------------------------------------------------------------------------


def test_delayed_scales_follow_the_largest_amax_of_the_history():
    scales, e4m3 = DelayedScales(DelayedScaling(history=3, margin=1)), get_format("e4m3")
    seen = []
    for amax in (7.0, 14.0, 3.5, 3.5, 3.5):
        seen.append(float(scales.multiplier("x", e4m3)))
        scales.push("x", amax)
    assert seen == [1.0, 32.0, 16.0, 16.0, 16.0]  # (448 / amax) / 2^margin
    assert scales.multiplier("x", e4m3) == 64.0  # 14 has left the history
    assert scales.multiplier("w", e4m3) == 1.0


def test_a_step_that_the_history_did_not_foresee_saturates():
    counts = Statistics()
    gemms = LinearGemms(get_training_recipe("fp8-delayed"), statistics=counts)
    w = np.eye(2, dtype=np.float32)
    for x, saturated in (([[1.0, 2.0]], 0), ([[1.0, 2.0]], 0), ([[1.0, 4.0]], 1), ([[1.0, 4.0]], 1)):
        y, _ = gemms.forward(np.array(x, np.float32), w)
        assert counts.gemms["fprop"].saturated == saturated
    np.testing.assert_array_equal(y, [[1.0, 4.0]])


def test_saturation_clips_to_the_old_amax():
    gemms = LinearGemms(get_training_recipe("fp8-delayed"))
    w = np.eye(2, dtype=np.float32)
    gemms.forward(np.array([[1.0, 2.0]], np.float32), w)
    np.testing.assert_array_equal(gemms.forward(np.array([[1.0, 8.0]], np.float32), w)[0], [[1.0, 2.0]])


def test_delayed_scaling_remembers_only_while_training():
    gemms = LinearGemms(get_training_recipe("fp8-delayed"))
    x, w = np.full((2, 3), 7, np.float32), np.ones((4, 3), np.float32)
    gemms.forward(x, w, training=False)
    assert not gemms.delayed.history.any()
    _, saved = gemms.forward(x, w)
    gemms.backward(np.full((2, 4), 0.5, np.float32), saved)
    np.testing.assert_array_equal(gemms.delayed.history[:, 0], [7, 1, 0.5])
    assert np.count_nonzero(gemms.delayed.history) == 3


def test_the_amax_of_a_gradient_is_remembered_once_without_dgrad_too():
    gemms = LinearGemms(get_training_recipe("fp8-delayed"))
    _, saved = gemms.forward(np.ones((2, 3), np.float32), np.ones((4, 3), np.float32))
    gemms.backward(np.full((2, 4), 0.5, np.float32), saved, dgrad=False)
    np.testing.assert_array_equal(gemms.delayed.history[2, :2], [0.5, 0])


# --- counters, and what is refused ------------------------------------------------------------------------


def test_statistics_count_what_is_lost_and_measure_against_fp32(layer):
    x, w, dy = layer
    x = x.copy()
    x[0, :128] = 1e-9
    x[0, 0] = 1.0  # the other 127 are flushed
    counts = Statistics(sqnr=True)
    y, dx, dw = run("deepseek-v3-fp32-sums", (x, w, dy), statistics=counts)
    plain = run("deepseek-v3-fp32-sums", (x, w, dy))
    for found, expected in zip((y, dx, dw), plain, strict=True):
        np.testing.assert_array_equal(found, expected)  # measuring changes nothing
    assert counts.gemms["fprop"].elements == x.size + w.size
    assert counts.gemms["fprop"].flushed >= 127
    assert counts.gemms["fprop"].saturated == 0
    exact = dy.astype(np.float64).T @ x
    snr = -20 * np.log10(np.linalg.norm(dw - exact) / np.linalg.norm(exact))
    assert counts.gemms["wgrad"].sqnr_db == pytest.approx(snr, abs=1e-3)


def test_counts_without_a_measurement_have_no_sqnr():
    assert np.isnan(Counts(elements=5).sqnr_db)
    assert Counts(signal=1.0).sqnr_db == np.inf


@pytest.mark.parametrize("tokens", [0, 1])
@pytest.mark.parametrize("name", TRAINING_RECIPES)
def test_no_token_and_one_token_work(name, tokens):
    x, w, dy = np.ones((tokens, 5), np.float32), np.ones((3, 5), np.float32), np.ones((tokens, 3), np.float32)
    y, dx, dw = run(name, (x, w, dy), rng=np.random.default_rng(0))
    np.testing.assert_allclose(y, np.full((tokens, 3), 5.0), rtol=1e-3)
    np.testing.assert_allclose(dx, np.full((tokens, 5), 3.0), rtol=1e-3)
    np.testing.assert_allclose(dw, np.full((3, 5), float(tokens)), rtol=1e-3)


@pytest.mark.parametrize(
    ("granularity", "same"),
    [("128x128", True), ("tensor", True), ("none", True), ("1x128", False), ("row", False), ("2x3", False)],
)
def test_square_blocks_have_the_same_codes_along_either_axis(granularity, same, rng):
    operand = Operand("e4m3", Scaling(granularity))
    assert operand.is_symmetric == same
    x = rng.standard_normal((300, 200))
    x[:100] *= 100
    x[:, :50] *= 1000
    along = [quantize_with(x, operand, axis=axis).dequantize() for axis in (0, 1)]
    assert np.array_equal(*along) == same


@pytest.mark.parametrize("name", ["deepseek-v3", "fp8-delayed", "deepseek-v3-stochastic-gradients"])
def test_a_gradient_with_nan_is_refused_by_its_name(name, layer):
    x, w, dy = layer
    dy = dy.copy()
    dy[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"dy holds 1 NaN or infinite values, the first at \[3, 4\]"):
        run(name, (x, w, dy), rng=np.random.default_rng(0))


def test_shapes_that_do_not_multiply_are_refused(layer):
    with pytest.raises(ValueError, match="do not multiply"):
        LinearGemms(get_training_recipe("fp32")).forward(layer[0], layer[2])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"cached_input": "both"}, "unknown cached_input 'both'"),
        ({"gradient_rounding": "up"}, "unknown gradient_rounding 'up'"),
        ({"delayed": DelayedScaling()}, r"one FP32 scale per tensor, but an operand is e4m3 1x128"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(get_training_recipe("deepseek-v3"), **changes)


def test_a_product_must_be_a_recipe():
    with pytest.raises(TypeError, match="wgrad must be a Recipe, got 'fp32'"):
        dataclasses.replace(get_training_recipe("deepseek-v3"), wgrad="fp32")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"history": 0}, ValueError, "history must be 1 to 16777216"),
        ({"margin": 0.5}, TypeError, "margin must be a whole number, got 0.5"),
    ],
)
def test_delayed_scaling_checks_its_numbers(options, error, match):
    with pytest.raises(error, match=match):
        DelayedScaling(**options)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'deepseek-v3'"):
        get_training_recipe("deepseek")


def test_the_table_names_every_recipe_and_says_what_it_is():
    assert {"fp32", "bf16", "fp8-tensor", "fp8-delayed", "fp8-row", "deepseek-v3", "mxfp8"} <= set(
        TRAINING_RECIPES
    )
    for name, recipe in TRAINING_RECIPES.items():
        assert str(recipe) == recipe.name == name
        assert recipe.summary
    assert set(GEMMS) == {"fprop", "dgrad", "wgrad"}


def test_fp32_values_under_a_scale_are_multiplied_by_it():
    scaled = Operand(FORMATS["fp32"], Scaling("tensor"))
    gemm = Recipe("scaled", scaled, scaled, get_accumulator("fp32"), FORMATS["fp32"])
    recipe = dataclasses.replace(get_training_recipe("fp32"), name="scaled", fprop=gemm)
    y, _ = LinearGemms(recipe).forward(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32))
    np.testing.assert_allclose(y, 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("granularity", "scale_format", "rule"), [("1x16", "e4m3", None), ("1x32", "e8m0", "floor")]
)
def test_stochastic_rounding_takes_every_scaling(granularity, scale_format, rule, rng):
    x = rng.standard_normal((4, 64)).astype(np.float32)
    x[1] = 0
    operand = Operand(FORMATS["e2m1"], Scaling(granularity, scale_format, rule))
    q = quantize_with(x, operand, axis=1, rounding="stochastic", rng=rng)
    assert np.all(q.dequantize()[1] == 0)
    nearest = quantize_with(x, Operand("e2m1", operand.scaling), axis=1)
    assert q.saturated == nearest.saturated
    assert np.array_equal(q.scales, nearest.scales)


def test_delayed_scales_of_tiny_tensors_stay_finite():
    scales = DelayedScales(DelayedScaling(history=1))
    scales.push("x", 1e-40)
    x = np.array([[1e-40, 0.0]], np.float32)
    q = quantize_with(
        x, Operand("e4m3", Scaling("tensor")), axis=1, scales=scales.scales("x", FORMATS["e4m3"])
    )
    assert np.isfinite(q.dequantize()).all()
