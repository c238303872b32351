"""The Hadamard transform of an operand: against its matrix, both ways, in products and in training."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

import fp8sim
from fp8sim import Operand, Scaling, _kernels
from fp8sim.experiments.data import llm_like_matrices
from fp8sim.gemm import multiply_quantized
from fp8sim.quantization import quantize_with, round_trip
from fp8sim.training import DelayedScaling, LinearGemms, get_training_recipe

#: Of TransformerEngine, get_wgrad_sign_vector in pytorch/custom_recipes (NVFP4 reference), and as its mask.
TE_SIGNS = [1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1]
TE_MASK = 0xD7E8
SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512)


def matrix(size: int, signs: list[int] | None = None) -> np.ndarray:
    """Return S H as whole numbers, H from the parity of the common bits of row and column."""
    h = np.array([[(-1) ** (i & j).bit_count() for j in range(size)] for i in range(size)])
    return h if signs is None else np.diag(signs) @ h


def mask_of(signs: list[int]) -> int:
    return sum(1 << i for i, sign in enumerate(signs) if sign < 0)


def by_matrix(x: np.ndarray, axis: int, size: int, signs: list[int] | None = None) -> np.ndarray:
    """Multiply the blocks along an axis by S H, exactly for whole numbers."""
    moved = np.moveaxis(x, axis, -1)
    blocks = moved.reshape(-1, size).astype(np.float64) @ matrix(size, signs)
    return np.moveaxis(blocks.reshape(moved.shape), -1, axis)


def both_ways(run):
    """Return what is computed compiled, and by reading."""
    with _kernels.readable():
        slow = run()
    return run(), slow


def assert_same_codes(first: fp8sim.Quantized, second: fp8sim.Quantized) -> None:
    np.testing.assert_array_equal(first.bits, second.bits)
    np.testing.assert_array_equal(first.scales.view(np.uint32), second.scales.view(np.uint32))
    assert (first.saturated, first.flushed) == (second.saturated, second.flushed)


def transformed(recipe: str, **changes: int) -> fp8sim.Recipe:
    base = fp8sim.get_recipe(recipe)
    a, b = (dataclasses.replace(side, **changes) for side in (base.a, base.b))
    return dataclasses.replace(base, name=f"{recipe} transformed", a=a, b=b)


# --- the transform --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("shape", "axis"), [((1024,), 0), ((12, 1024), 1), ((1024, 12), 0), ((3, 512, 5), 1)]
)
def test_whole_numbers_are_multiplied_by_the_matrix_exactly(size, shape, axis, rng):
    x = rng.integers(-20, 21, shape).astype(np.float32)
    signs = [int(sign) for sign in rng.choice([-1, 1], size)]
    operand = Operand("fp32", hadamard=size, hadamard_signs=mask_of(signs))
    sums = by_matrix(x, axis, size, signs).astype(np.float32)  # exact: below 2^24
    expected = sums * np.float32(1 / math.sqrt(size))  # the scale, rounded, and one rounding more
    for values in both_ways(lambda: quantize_with(x, operand, axis=axis).dequantize()):
        np.testing.assert_array_equal(values, expected)
    if math.log2(size) % 2 == 0:
        np.testing.assert_array_equal(expected.astype(np.float64) * math.sqrt(size), sums)


def test_it_is_transformer_engines_of_16_with_its_signs(rng):
    assert mask_of(TE_SIGNS) == TE_MASK
    unit = np.eye(16, dtype=np.float32)
    operand = Operand("fp32", hadamard=16, hadamard_signs=TE_MASK)
    np.testing.assert_array_equal(quantize_with(unit, operand).dequantize(), matrix(16, TE_SIGNS) / 4)
    # row 3 of S H is minus that of H: 1, -1, -1, 1, ...
    assert (4 * quantize_with(unit, operand).dequantize()[3, :4]).tolist() == [-1, 1, 1, -1]


@pytest.mark.parametrize("size", [2, 16, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_compiled_and_readable_are_the_same_bits(size, dtype, layout, rng):
    x = (rng.standard_normal((256, 384)) * np.exp2(rng.integers(-12, 12, (256, 1)))).astype(dtype)
    x = {"C": x, "F": np.asfortranarray(x), "strided": np.repeat(x, 2, axis=1)[:, ::2]}[layout]
    before = x.copy()
    for (fmt, scaling), axis in itertools.product(
        [
            ("e4m3", Scaling("1x128")),
            ("e4m3", Scaling("128x128", "e8m0")),
            ("e2m1", Scaling("1x16", "e4m3", "4over6", division="te-nvfp4")),
            ("int8", Scaling("row", division="reciprocal")),
            ("bf16", Scaling("none")),
        ],
        (0, 1),
    ):
        operand = Operand(fmt, scaling, size, 2)
        fast, slow = both_ways(lambda o=operand, axis=axis: quantize_with(x, o, axis=axis))
        assert_same_codes(fast, slow)
        values = both_ways(lambda o=operand, axis=axis: round_trip(x, o, axis=axis))
        for one in values:
            np.testing.assert_array_equal(one, fast.dequantize())
        for one in (np.float32, np.float64):
            back = both_ways(lambda q=fast, one=one: q.dequantize(one, invert=True))
            np.testing.assert_array_equal(*back)
            assert back[0].dtype == one
    np.testing.assert_array_equal(x, before)


def test_codes_are_those_of_the_transformed_array(rng):
    x = rng.integers(-9, 10, (64, 128)).astype(np.float32)
    scaling = Scaling("1x16", "e4m3")
    q = quantize_with(x, Operand("e2m1", scaling, hadamard=16, hadamard_signs=TE_MASK))
    expected = quantize_with((by_matrix(x, 1, 16, TE_SIGNS) / 4).astype(np.float32), Operand("e2m1", scaling))
    assert_same_codes(q, expected)
    np.testing.assert_array_equal(q.dequantize(), expected.dequantize())


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_inverting_gives_the_array_back(axis, rng):
    x = rng.integers(-50, 51, (128, 256)).astype(np.float32)
    exact = quantize_with(x, Operand("fp32", hadamard=64, hadamard_signs=0xBEEF), axis=axis)
    assert not np.array_equal(exact.dequantize(), x)
    np.testing.assert_array_equal(exact.dequantize(invert=True), x)
    np.testing.assert_array_equal(exact.T.dequantize(invert=True), x.T)
    near = quantize_with(x, Operand("e4m3", Scaling("row"), hadamard=128), axis=axis)
    assert 0.01 < fp8sim.metrics.relative_error(near.dequantize(np.float64, invert=True), x) < 0.04
    plain = quantize_with(x, Operand("e4m3", Scaling("row")), axis=axis)
    np.testing.assert_array_equal(plain.dequantize(invert=True), plain.dequantize())


def test_float64_is_rounded_to_fp32_first():
    x = np.array([1 + 2.0**-30, 1.0])
    assert quantize_with(x, Operand("fp32", hadamard=2)).dequantize()[1] == 0


# --- products -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sums", ["fp32", "exact", "fp32-sequential", "fp32-kahan"])
@pytest.mark.parametrize("signs", [0, TE_MASK])
def test_the_same_on_both_sides_leaves_a_product_as_it_is(sums, signs, rng):
    a, b = rng.integers(-9, 10, (40, 160)), rng.integers(-9, 10, (160, 24))
    recipe = dataclasses.replace(transformed("fp32", hadamard=16, hadamard_signs=signs), accumulator=sums)
    np.testing.assert_array_equal(fp8sim.matmul(a, b, recipe), a @ b)


def test_different_transforms_are_refused_wherever_they_meet(rng):
    base = fp8sim.get_recipe("nvfp4")
    a = dataclasses.replace(base.a, hadamard=16)
    message = (
        "A has hadamard 16 and B has no hadamard, which do not cancel in the product; "
        "give both operands the same hadamard and hadamard_signs"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        dataclasses.replace(base, a=a)
    with pytest.raises(ValueError, match="A has hadamard 16 and B has hadamard 16/0xd7e8, which"):
        dataclasses.replace(base, a=a, b=dataclasses.replace(a, hadamard_signs=TE_MASK))
    x = rng.standard_normal((32, 32))
    with pytest.raises(ValueError, match="A has no hadamard and B has hadamard 16, which do not cancel"):
        multiply_quantized(quantize_with(x, base.a), quantize_with(x, a, axis=0), base)


def test_outliers_are_spread_which_helps_mxfp4_and_not_nvfp4():
    x = llm_like_matrices(m=256, n=256, k=4096, seed=0)
    recipes = [
        recipe
        for name in ("nvfp4", "mxfp4")
        for recipe in (name, transformed(name, hadamard=128, hadamard_signs=0x6A09E667F3BCC908))
    ]
    rows = fp8sim.compare(x.a, x.b, recipes)
    error = {row.recipe: row.relative_error for row in rows.rows}
    assert error["nvfp4 transformed"] > 1.15 * error["nvfp4"]
    assert error["mxfp4 transformed"] < 0.95 * error["mxfp4"]


def test_ordinary_channels_are_compared_in_their_own_basis():
    x = llm_like_matrices(m=64, n=64, k=2048, seed=0)
    row = fp8sim.compare(x.a, x.b, [transformed("bf16", hadamard=16)])["bf16 transformed"]
    assert row.ordinary_channel_error < 0.05  # and not far above 1, as between two bases


@pytest.mark.parametrize("name", ["deepseek-v3", "nvfp4", "mxfp8", "fp8-row"])
def test_a_transformed_recipe_costs_the_same_bytes_and_multiplies_both_ways(name, rng):
    a, b = rng.standard_normal((48, 512)), rng.standard_normal((512, 40))
    recipe = transformed(name, hadamard=32, hadamard_signs=5)
    fast, slow = both_ways(lambda: fp8sim.matmul(a, b, recipe))
    np.testing.assert_array_equal(fast.view(np.uint32), slow.view(np.uint32))
    assert fp8sim.metrics.relative_error(fast, a @ b) < 0.2
    assert fp8sim.gemm_cost(48, 40, 512, recipe).bytes == fp8sim.gemm_cost(48, 40, 512, name).bytes


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"hadamard": 12}, ValueError, "a power of two from 2 to 32768, got 12; use 8 or 16"),
        ({"hadamard": 1}, ValueError, "a power of two from 2 to 32768, got 1$"),
        ({"hadamard": -16}, ValueError, "got -16"),
        ({"hadamard": 2**16}, ValueError, "got 65536"),
        ({"hadamard": 16.0}, TypeError, "hadamard must be a whole number, got 16.0"),
        ({"hadamard": True}, TypeError, "hadamard must be a whole number"),
        ({"hadamard": 16, "hadamard_signs": 1 << 16}, ValueError, "got 65536: a block of 16 has 16 bits"),
        ({"hadamard": 16, "hadamard_signs": -1}, ValueError, "got -1: a block of 16 has 16 bits"),
        ({"hadamard_signs": 1}, ValueError, "without hadamard there is nothing to sign"),
        ({"hadamard": 2, "hadamard_signs": [1, -1]}, TypeError, "hadamard_signs must be a whole number"),
    ],
)
def test_what_is_no_transform_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        Operand("e4m3", **changes)


def test_arrays_that_have_no_transform_are_refused(rng):
    operand = Operand("e4m3", Scaling("row"), hadamard=16)
    with pytest.raises(ValueError, match=r"x has 40 elements along the axis .* pad it with zeros to 48"):
        quantize_with(np.ones((3, 40)), operand)
    with pytest.raises(ValueError, match="b has 40 elements"):
        quantize_with(np.ones((40, 32)), operand, axis=0, what="b")
    x = rng.standard_normal((2, 16))
    x[1, 3] = np.nan
    for scaling in ("row", "none"):
        with pytest.raises(ValueError, match=r"1 NaN or infinite values, the first at \[1, 3\]; a Hadamard"):
            quantize_with(x, Operand("bf16", Scaling(scaling), hadamard=16))
    with pytest.raises(ValueError, match="transform overflows; divide it first"):
        quantize_with(np.full((1, 16), 3e38, np.float32), operand)
    with pytest.raises(ValueError, match="axis 2 does not exist"):
        quantize_with(np.ones((3, 16)), operand, axis=2)
    q = quantize_with(np.ones((16, 16)), operand, axis=1)
    assert q.along(-1).axis == -1
    with pytest.raises(ValueError, match="along axis 1 does not cancel in sums over axis 0"):
        q.along(0)


def test_operands_show_their_transform_and_stay_values():
    operand = Operand("e2m1", Scaling("1x16", "e4m3"), np.int64(16), TE_MASK)
    assert str(operand) == "e2m1 1x16 e4m3 hadamard 16/0xd7e8"
    assert str(Operand("bf16", hadamard=128)) == "bf16 hadamard 128"
    assert str(Operand("bf16", hadamard=128, hadamard_signs=0x12345678 << 96)).endswith("/0x12345678...")
    assert type(operand.hadamard) is int
    assert {operand: 1}[dataclasses.replace(operand, hadamard=16)] == 1
    assert operand != dataclasses.replace(operand, hadamard_signs=0)
    assert not Operand("e4m3", Scaling("128x128"), 128).is_symmetric
    assert "e2m1, 1x16 e4m3 hadamard 16/0xd7e8: " in repr(quantize_with(np.ones((4, 16)), operand))
    assert (Operand("e4m3").hadamard, Operand("e4m3").hadamard_signs) == (0, 0)


# --- training -------------------------------------------------------------------------------------


def test_a_transform_of_wgrad_alone_is_along_the_tokens(rng):
    base = get_training_recipe("fp32")
    plain = dataclasses.replace(base.wgrad, a=Operand("e2m1", Scaling("1x16", "e4m3")), accumulator="fp32")
    side = dataclasses.replace(plain.a, hadamard=16, hadamard_signs=TE_MASK)
    recipe = dataclasses.replace(base, name="rht", wgrad=dataclasses.replace(plain, a=side, b=side))
    x, w, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((64, 24), (40, 24), (64, 40)))
    gemms = LinearGemms(recipe)
    y, saved = gemms.forward(x, w)
    _, dw = gemms.backward(dy, saved)
    np.testing.assert_array_equal(y, LinearGemms(base).forward(x, w)[0])
    np.testing.assert_array_equal(dw, fp8sim.matmul(dy.T, x, recipe.wgrad))
    assert 0.01 < fp8sim.metrics.relative_error(dw, dy.T @ x) < 0.2


def test_x_that_was_kept_quantised_is_taken_back_first(rng):
    base = get_training_recipe("deepseek-v3")
    fprop = transformed("deepseek-v3", hadamard=16)
    recipe = dataclasses.replace(base, name="rht", fprop=fprop)
    x, w, dy = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((256, 128), (128, 128), (256, 128))
    )
    gemms = LinearGemms(recipe)
    _, saved = gemms.forward(x, w)
    assert saved.original_x is None
    _, dw = gemms.backward(dy, saved)
    assert fp8sim.metrics.relative_error(dw, dy.T @ x) < 0.06


def test_delayed_scales_are_of_what_they_remember():
    base = get_training_recipe("fp8-delayed")
    assert base.delayed == DelayedScaling()
    with pytest.raises(ValueError, match="an operand is e4m3 tensor fp32 hadamard 16"):
        dataclasses.replace(base, fprop=transformed("fp8-tensor", hadamard=16))
