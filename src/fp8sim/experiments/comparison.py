"""Recipes side by side on one product: bytes, modelled time and error."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp8sim import metrics
from fp8sim._support import checks, memory
from fp8sim._support.products import float_product, norm
from fp8sim._support.quantities import bytes_text, percent_text, time_text
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim._support.typing import ArrayLike, FloatArray
from fp8sim.accumulators import sum_error_bound
from fp8sim.costs.devices import Device, DeviceLike, get_device
from fp8sim.costs.gemm import GemmCost, gemm_cost
from fp8sim.gemm import quantize_both
from fp8sim.recipes import Recipe, RecipeLike, get_recipe

__all__ = ["Comparison", "ComparisonRow", "compare"]

DEFAULT_RECIPES = ("fp32", "bf16", "fp16", "fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8", "nvfp4")


@dataclass(frozen=True)
class ComparisonRow:
    """One recipe on one product."""

    recipe: str
    a: str  #: format and scaling of A
    b: str  #: format and scaling of B
    accumulator: str  #: how the products were summed
    nbytes: int  #: A, B and the output, scales included
    bytes_ratio: float  #: to the baseline's
    seconds: float  #: modelled roofline time on the device
    time_ratio: float  #: to the baseline's
    relative_error: float  #: Frobenius, against the float64 product of the unquantised inputs
    quantization_error: float  #: of it, from the operands alone: exact sums of the quantised inputs
    accumulation_error: float  #: of it, from the sums alone: against those exact sums
    accumulation_bound: float | None  #: what `accumulation_error` cannot exceed, None where no bound is known
    sqnr_db: float
    calc_diff: float  #: DeepGEMM's measure
    max_relative_error: float  #: largest error over largest value of the product
    saturated: float  #: share of the operands' elements
    flushed: float  #: share of the operands' elements


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Recipes side by side on one product; prints as aligned tables and shows as them in a notebook.

    Parameters
    ----------
    m, n, k : int
        Sizes of the product.
    device : str
        Name of the device that times are modelled on.
    baseline : str
        Name of the recipe that ratios are taken to.
    rows : tuple of ComparisonRow
        One per recipe; ``comparison["deepseek-v3"]`` finds one.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> result = fp8sim.compare(np.ones((4, 8)), np.ones((8, 2)), ["mxfp8"])
    >>> result["mxfp8"].relative_error, result.baseline
    (0.0, 'bf16')
    """

    m: int
    n: int
    k: int
    device: str
    baseline: str
    rows: tuple[ComparisonRow, ...]

    def __getitem__(self, recipe: str) -> ComparisonRow:
        """Return the row of a recipe."""
        return checks.lookup(recipe, {row.recipe: row for row in self.rows}, "recipe of this comparison")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return dataclasses.asdict(self)

    def parts(self) -> list[Table]:
        """Return what the recipes save, and what they cost in accuracy."""
        lost = ("saturated>", "flushed>")
        savings = Table(
            f"({self.m}, {self.k}) @ ({self.k}, {self.n}): bytes, and time modelled on {self.device}",
            ["recipe", "A", "B", "bytes>", f"to {self.baseline}>", "time>", f"to {self.baseline}>"],
            [_saving_cells(row) for row in self.rows],
            ("bytes: operands with their scales and the output, as stored; time: roofline, a lower bound",),
        )
        errors = Table(
            "Error: relative Frobenius, against the float64 product of the unquantised inputs",
            ["recipe", "sums in", "error>", "of operands>", "of sums>", "bound>", "SQNR>", *lost],
            [_error_cells(row) for row in self.rows],
            (
                "of operands: the exact product of what was quantised; of sums: the result against that",
                "bound: what the error of the sums cannot exceed, from exponents alone",
            ),
        )
        return [savings, errors]


def compare(
    a: ArrayLike,
    b: ArrayLike,
    recipes: RecipeLike | Sequence[RecipeLike] = DEFAULT_RECIPES,
    baseline: RecipeLike = "bf16",
    *,
    device: DeviceLike = "h800",
    bounds: bool = True,
) -> Comparison:
    """Multiply two matrices under several recipes and put what it saves and costs side by side.

    Parameters
    ----------
    a : (m, k) array_like
        Left operand, the activations of a linear layer.
    b : (k, n) array_like
        Right operand, the weights.
    recipes : str or Recipe, or a sequence of them
        What to compare; the baseline is put first if it is not among them.
    baseline : str or Recipe
        What ratios are taken to.
    device : str or Device
        Whose roofline the time is modelled on.
    bounds : bool
        Whether to work out the bound for the error of sums, which takes about as long as the products.

    Returns
    -------
    Comparison
        One row per recipe.

    Raises
    ------
    TypeError
        If an operand is no array of real numbers.
    ValueError
        If a name is unknown, the shapes do not multiply, a matrix is empty or all zero, or one holds
        NaN or infinity: no error can be measured then.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> rng = np.random.default_rng(0)
    >>> result = fp8sim.compare(rng.standard_normal((64, 512)), rng.standard_normal((512, 64)),
    ...                         recipes=["bf16", "deepseek-v3"])
    >>> [(row.recipe, round(row.relative_error, 4)) for row in result.rows]
    [('bf16', 0.0023), ('deepseek-v3', 0.0357)]
    """
    left, right = checks.as_matrix(a, "a"), checks.as_matrix(b, "b")
    m, n, k = checks.multiply_shapes(left, right)
    if 0 in (m, n, k):
        raise ValueError(f"an empty product ({m}x{n}x{k}) has no error to measure")
    for matrix, name in ((left, "a"), (right, "b")):
        checks.finite(matrix, name, "an error cannot be measured then")
    # the operands and three products in float64: the truth, a sum and what they differ by
    memory.require(8 * ((m + n) * k + 3 * m * n), f"comparing products of {m}x{n}x{k} in float64")
    with np.errstate(all="ignore"):
        truth = float_product(left.astype(np.float64), right.astype(np.float64))
    checks.finite(truth, "the product", "an error cannot be measured then")
    if not truth.any():
        raise ValueError("the product is all zero: no relative error can be measured")

    checks.of_kind(bounds, bool, "bounds")
    base = get_recipe(baseline)
    candidates = list(dict.fromkeys(map(get_recipe, checks.several(recipes, Recipe, "recipes"))))
    if base not in candidates:
        candidates.insert(0, base)
    target = get_device(device)
    cost = gemm_cost(m, n, k, base, target)
    rows = [
        _measure(left, right, recipe, truth, base=cost, device=target, bounds=bounds) for recipe in candidates
    ]
    return Comparison(m, n, k, target.name, base.name, tuple(rows))


def _measure(
    a: FloatArray,
    b: FloatArray,
    recipe: Recipe,
    truth: FloatArray,
    *,
    base: GemmCost,
    device: Device,
    bounds: bool,
) -> ComparisonRow:
    left, right = quantize_both(a, b, recipe)
    product = recipe.accumulator.multiply(left, right)
    with np.errstate(all="ignore"):  # an operand that overflowed to infinity, or became all zero
        exact = float_product(left.dequantize(np.float64), right.dequantize(np.float64))
        elements = a.size + b.size
        bound = sum_error_bound(left, right, recipe.accumulator) if bounds else None
        ratio = None if bound is None else float(np.divide(norm(bound), norm(exact)))
        cost = gemm_cost(a.shape[0], b.shape[1], a.shape[1], recipe, device)
        return ComparisonRow(
            recipe=recipe.name,
            a=str(recipe.a),
            b=str(recipe.b),
            accumulator=recipe.accumulator.name,
            nbytes=int(cost.bytes),
            bytes_ratio=cost.bytes / base.bytes,
            seconds=cost.seconds,
            time_ratio=cost.seconds / base.seconds,
            relative_error=metrics.relative_error(product, truth),
            quantization_error=metrics.relative_error(exact, truth),
            accumulation_error=metrics.relative_error(product, exact),
            accumulation_bound=ratio,
            sqnr_db=metrics.sqnr_db(product, truth),
            calc_diff=metrics.calc_diff(product, truth),
            max_relative_error=metrics.max_relative_error(product, truth),
            saturated=(left.saturated + right.saturated) / elements,
            flushed=(left.flushed + right.flushed) / elements,
        )


def _saving_cells(row: ComparisonRow) -> list[str]:
    size, time = bytes_text(row.nbytes), time_text(row.seconds)
    return [row.recipe, row.a, row.b, size, f"{row.bytes_ratio:.3f}", time, f"{row.time_ratio:.3f}"]


def _error_cells(row: ComparisonRow) -> list[str]:
    errors = (row.relative_error, row.quantization_error, row.accumulation_error)
    bound = "-" if row.accumulation_bound is None else percent_text(row.accumulation_bound)
    lost = (percent_text(row.saturated), percent_text(row.flushed))
    return [row.recipe, row.accumulator, *map(percent_text, errors), bound, f"{row.sqnr_db:.1f} dB", *lost]
