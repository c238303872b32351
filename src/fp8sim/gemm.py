"""Matrix products under a recipe: THE product, which everything that multiplies under one calls.

Both operands are quantised along k, the accumulator sums their products, and what a GPU would store is
the sums rounded to the recipe's output format.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.memory import scratch
from fp8sim._support.typing import F32, ArrayLike, FloatArray
from fp8sim.accumulators import Fp32, ValueSum
from fp8sim.casts import round_to
from fp8sim.formats import FORMATS, FormatLike, get_format
from fp8sim.quantization import Quantized, quantize_with, round_trip
from fp8sim.quantization.hadamard import check_same_transform
from fp8sim.recipes import Recipe, RecipeLike, get_recipe

__all__ = ["matmul", "multiply_quantized", "quantize_both", "round_output"]


@default_environment
def matmul(
    a: ArrayLike,
    b: ArrayLike,
    recipe: RecipeLike = "deepseek-v3",
    *,
    output: Literal["recipe"] | FormatLike | None = None,
) -> F32:
    """Multiply two matrices as a recipe does: quantise both, then sum as its accumulator sums.

    Parameters
    ----------
    a : (m, k) array_like
        Left operand, the activations of a linear layer.
    b : (k, n) array_like
        Right operand, the weights; its groups run along k too.
    recipe : str or Recipe
        A name in `RECIPES`, or a recipe of your own.
    output : {"recipe"} or str, dtype or FloatFormat, optional
        What the sums are rounded to, to nearest even: the recipe's output format, or another. Without
        it they stay as the accumulator left them, in FP32.

    Returns
    -------
    (m, n) array of float32
        The sums, or values of the output format.

    Raises
    ------
    TypeError
        If an operand is no array of real numbers.
    ValueError
        If a name is unknown, the shapes do not multiply, or an operand that is scaled holds NaN
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
    >>> stored = fp8sim.matmul(a, b, "deepseek-v3", output="recipe")  # in BF16
    >>> bool((stored == fp8sim.round_to(product, "bf16")).all())
    True
    """
    chosen = get_recipe(recipe)
    as_stored = isinstance(output, str) and output == "recipe"
    fmt = None if output is None else chosen.output if as_stored else get_format(output)
    if isinstance(chosen.accumulator, ValueSum):  # which needs no codes
        left, right = _as_matrices(a, b)
        with scratch() as allocate:
            product = chosen.accumulator.sum_products(
                round_trip(left, chosen.a, axis=1, what="a", allocate=allocate),
                round_trip(right, chosen.b, axis=0, what="b", allocate=allocate),
            )
    else:
        product = multiply_quantized(*quantize_both(a, b, chosen), chosen)
    return product if fmt is None else round_output(product, fmt)


def multiply_quantized(a: Quantized, b: Quantized, recipe: Recipe, *, fp32: Fp32 | None = None) -> F32:
    """Return the product of operands that are quantised already, as the recipe's accumulator sums it.

    `fp32` does FP32 sums in numpy's place: under PyTorch's layers, PyTorch.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> recipe = fp8sim.get_recipe("bf16")
    >>> multiply_quantized(*quantize_both(np.ones((1, 8)), np.ones((8, 1)), recipe), recipe)
    array([[8.]], dtype=float32)
    """
    for side in (a, b):
        checks.of_kind(side, Quantized, "an operand")
    checks.of_kind(recipe, Recipe, "recipe")
    check_same_transform(a, b)
    accumulator = fp32 if fp32 is not None and recipe.accumulator == fp32 else recipe.accumulator
    return accumulator.multiply(a, b)


def quantize_both(a: ArrayLike, b: ArrayLike, recipe: Recipe) -> tuple[Quantized, Quantized]:
    """Quantise A (m, k) along its columns and B (k, n) along its rows, as `recipe` says.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> a, b = quantize_both(np.ones((2, 256)), np.ones((256, 3)), fp8sim.get_recipe("deepseek-v3"))
    >>> a.scales.shape, b.scales.shape
    ((2, 2), (2, 1))
    """
    checks.of_kind(recipe, Recipe, "recipe")
    left, right = _as_matrices(a, b)
    return (
        quantize_with(left, recipe.a, axis=1, what="a"),
        quantize_with(right, recipe.b, axis=0, what="b"),
    )


def round_output(sums: F32, fmt: FormatLike) -> F32:
    """Round sums to the format in which a GPU writes them.

    Examples
    --------
    >>> round_output(np.float32([1.001]), "bf16")
    array([1.], dtype=float32)
    """
    target = get_format(fmt)
    if target == FORMATS["fp32"]:
        return sums
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return np.asarray(round_to(sums, target), dtype=np.float32)


def _as_matrices(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    left, right = checks.as_matrix(a, "a"), checks.as_matrix(b, "b")
    checks.multiply_shapes(left, right)
    return left, right
