"""Matrix products under a recipe."""

from __future__ import annotations

from fp8sim._support import checks
from fp8sim._support.memory import scratch
from fp8sim._support.typing import F32, ArrayLike, FloatArray
from fp8sim.accumulators.catalogue import ValueSum
from fp8sim.quantization.pipeline import Quantized, quantize_with, round_trip
from fp8sim.recipes import Recipe, RecipeLike, get_recipe

__all__ = ["matmul", "quantize_operands"]


def matmul(a: ArrayLike, b: ArrayLike, recipe: RecipeLike = "deepseek-v3") -> F32:
    """Multiply two matrices as a recipe does: quantise both, then sum as its accumulator sums.

    Parameters
    ----------
    a : (m, k) array_like
        Left operand, the activations of a linear layer.
    b : (k, n) array_like
        Right operand, the weights; its groups run along k too.
    recipe : str or Recipe
        A name in `RECIPES`, or a recipe of your own.

    Returns
    -------
    (m, n) array of float32
        The sums, not yet rounded to the recipe's output format.

    Raises
    ------
    TypeError
        If an operand is no array of real numbers.
    ValueError
        If the recipe is unknown, the shapes do not multiply, or an operand that is scaled holds NaN
        or infinity.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.standard_normal((64, 512)), rng.standard_normal((512, 32))
    >>> product = fp8sim.matmul(a, b, "deepseek-v3")
    >>> product.shape, product.dtype
    ((64, 32), dtype('float32'))
    >>> round(fp8sim.metrics.relative_error(product, a @ b), 3)
    0.037
    """
    chosen = get_recipe(recipe)
    if isinstance(chosen.accumulator, ValueSum):
        left, right = _as_matrices(a, b)
        with scratch() as allocate:
            return chosen.accumulator.sum_products(
                round_trip(left, chosen.a.fmt, chosen.a.scaling, axis=1, what="a", allocate=allocate),
                round_trip(right, chosen.b.fmt, chosen.b.scaling, axis=0, what="b", allocate=allocate),
            )
    return chosen.accumulator.multiply(*quantize_operands(a, b, chosen))


def quantize_operands(a: ArrayLike, b: ArrayLike, recipe: Recipe) -> tuple[Quantized, Quantized]:
    """Quantise A (m, k) along its columns and B (k, n) along its rows, as `recipe` says.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> a, b = quantize_operands(np.ones((2, 256)), np.ones((256, 3)), fp8sim.get_recipe("deepseek-v3"))
    >>> a.scales.shape, b.scales.shape
    ((2, 2), (2, 1))
    """
    left, right = _as_matrices(a, b)
    return (
        quantize_with(left, recipe.a.fmt, recipe.a.scaling, axis=1, what="a"),
        quantize_with(right, recipe.b.fmt, recipe.b.scaling, axis=0, what="b"),
    )


def _as_matrices(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    left, right = checks.as_matrix(a, "a"), checks.as_matrix(b, "b")
    checks.multiply_shapes(left, right)
    return left, right
