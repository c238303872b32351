"""Recipes side by side on one product: bytes, modelled time and error."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp8sim import metrics
from fp8sim._support import checks, memory
from fp8sim._support.float_environment import default_environment
from fp8sim._support.page import Page, Span, wrap
from fp8sim._support.products import float_product, norm
from fp8sim._support.results import Result, data_frame, plain_data
from fp8sim._support.tables import Table
from fp8sim._support.text import shown
from fp8sim._support.typing import F64, AnyArray, ArrayLike, FloatArray
from fp8sim.accumulators import sum_error_bound
from fp8sim.costs.devices import Device, DeviceLike, get_device
from fp8sim.costs.gemm import GemmCost, gemm_cost
from fp8sim.experiments.comparison_row import ComparisonRow, advise, error_cells, saving_cells, token_cells
from fp8sim.gemm import quantize_both
from fp8sim.quantization import FP32, Quantized
from fp8sim.recipes import Recipe, RecipeLike, get_recipe

__all__ = ["Comparison", "ComparisonRow", "compare"]

#: Rows over which an error is parted into that of the operands and that of the sums.
PARTED_ROWS = 256
DEFAULT_RECIPES = ("fp32", "bf16", "fp16", "fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8", "nvfp4")


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
    parted_rows : int
        Rows, evenly spaced, over which errors are parted into those of operands and of sums.
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
    parted_rows: int
    rows: tuple[ComparisonRow, ...]

    def __getitem__(self, recipe: str) -> ComparisonRow:
        """Return the row of a recipe."""
        return checks.lookup(recipe, {row.recipe: row for row in self.rows}, "recipe of this comparison")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON: what is NaN or infinite is None."""
        data: dict[str, Any] = plain_data(dataclasses.asdict(self))
        return data

    def to_frame(self) -> Any:
        """Return the rows as a pandas data frame (extra ``pandas``)."""
        return data_frame([dataclasses.asdict(row) for row in self.rows])

    @property
    def advice(self) -> str:
        """One sentence on which recipe is the best of those that save, made by a rule from the figures.

        The rule: of the recipes that take less time or fewer bytes than the baseline, those within a tenth
        of the least error are as good as each other, and of these the one with the fewest bytes is the best.
        Whether its error is small enough is for whoever has the product to say.
        """
        return advise(self.rows, self.baseline)

    def parts(self) -> list[Table | Page]:
        """Return what the recipes save, and what they cost in accuracy."""
        lost = ("saturated>", "flushed>")
        bounded = any(row.accumulation_bound is not None for row in self.rows)
        notes = dict.fromkeys(f"{row.recipe}: {row.note}" for row in self.rows if row.note)
        savings = Table(
            f"({self.m}, {self.k}) @ ({self.k}, {self.n}): bytes, and time modelled on {self.device}",
            ["recipe", "A", "B", "bytes>", f"to {self.baseline}>", "time>", f"to {self.baseline}>"],
            [saving_cells(row) for row in self.rows],
            (
                "bytes: operands with their scales and the output, as stored; time: roofline, a lower bound",
                *notes,
            ),
        )
        over = "" if self.parted_rows == self.m else f", over {self.parted_rows} of {self.m} rows"
        errors = Table(
            "Error: relative Frobenius, against the float64 product of the unquantised inputs",
            [
                *("recipe", "sums in", "error>", "of operands>", "of sums>", *["bound>"] * bounded, "SQNR>"),
                *lost,
            ],
            [error_cells(row, bounded=bounded) for row in self.rows],
            (
                "of operands: the exact product of what was quantised; of sums: the result against that"
                + over,
                *["bound: what the error of the sums cannot exceed, from exponents alone"] * bounded,
            ),
        )
        tokens = Table(
            "Error by row (token), and of the channels of A that are no outliers",
            ["recipe", "median row>", "99 %>", "worst>", "ordinary channels>"],
            [token_cells(row) for row in self.rows],
        )
        return [savings, errors, tokens, Page([[Span(line)] for line in wrap(self.advice)])]


@default_environment
def compare(
    a: ArrayLike,
    b: ArrayLike,
    recipes: RecipeLike | Sequence[RecipeLike] = DEFAULT_RECIPES,
    baseline: RecipeLike = "bf16",
    *,
    device: DeviceLike = "h800",
    bounds: bool = False,
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
        Whether to work out the bound for the error of sums, and to part the error of all rows where
        there are more than 256: both take about as long as the products.

    Returns
    -------
    Comparison
        One row per recipe.

    Raises
    ------
    TypeError
        If an operand is no array of real numbers.
    ValueError
        If a name is unknown or that of two recipes, the shapes do not multiply, a matrix is empty or all
        zero, or one holds NaN or infinity: no error can be measured then.

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
        truth = np.asarray(float_product(left.astype(np.float64), right.astype(np.float64)), np.float64)
    checks.finite(truth, "the product", "an error cannot be measured then")
    if not truth.any():
        raise ValueError("the product is all zero: no relative error can be measured")

    checks.of_kind(bounds, bool, "bounds")
    base = get_recipe(baseline)
    candidates = list(dict.fromkeys(map(get_recipe, checks.several(recipes, Recipe, "recipes"))))
    if base not in candidates:
        candidates.insert(0, base)
    names = [recipe.name for recipe in candidates]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two recipes are called {shown(twice[0])}; give each a name of its own")
    parted = np.arange(m) if bounds or m <= PARTED_ROWS else np.arange(PARTED_ROWS) * m // PARTED_ROWS
    case = _Case(left, right, truth, parted, bounds=bounds, device=get_device(device), base=base)
    rows = tuple(map(case.measure, candidates))
    return Comparison(m, n, k, case.device.name, base.name, len(parted), rows)


class _Case:
    """A product that recipes are measured on, and what all of them are measured against."""

    def __init__(
        self,
        a: FloatArray,
        b: FloatArray,
        truth: F64,
        parted: AnyArray,
        *,
        bounds: bool,
        device: Device,
        base: Recipe,
    ) -> None:
        self.a, self.b, self.bounds, self.device = a, b, bounds, device
        self.truth, self.parted = metrics.Truth(truth), parted
        self.base = self._cost(base)
        self.parted_truth = self.truth if len(parted) == len(a) else metrics.Truth(truth[parted])
        ordinary = ~metrics.outlier_channels(a)
        self.ordinary = metrics.Truth(a[parted][:, ordinary].astype(np.float64))
        self.columns = np.flatnonzero(ordinary)

    def _cost(self, recipe: Recipe) -> GemmCost:
        return gemm_cost(self.a.shape[0], self.b.shape[1], self.a.shape[1], recipe, self.device)

    def measure(self, recipe: Recipe) -> ComparisonRow:
        """Return the row of a recipe."""
        left, right = quantize_both(self.a, self.b, recipe)
        product = recipe.accumulator.multiply(left, right)
        elements = self.a.size + self.b.size
        cost, base = self._cost(recipe), self.base
        with np.errstate(all="ignore"):  # an operand that overflowed to infinity, or became all zero
            operand = np.asarray(left.dequantize(np.float64)[self.parted], dtype=np.float64)
            same = recipe.a == recipe.b == FP32 and self.a.dtype == self.b.dtype == np.float32
            exact = self.parted_truth if same else self._exact(operand, right)
            bound = sum_error_bound(left, right, recipe.accumulator) if self.bounds else None
            errors = self.truth.errors(product)
            spread = errors.row_spread
            return ComparisonRow(
                recipe=recipe.name,
                a=str(recipe.a),
                b=str(recipe.b),
                accumulator=recipe.accumulator.name,
                nbytes=int(cost.bytes),
                bytes_ratio=cost.bytes / base.bytes,
                seconds=cost.seconds,
                time_ratio=cost.seconds / base.seconds,
                relative_error=errors.relative,
                quantization_error=self.parted_truth.errors(exact.values).relative,
                accumulation_error=exact.errors(product[self.parted]).relative,
                accumulation_bound=None
                if bound is None
                else float(np.divide(norm(bound), norm(exact.values))),
                row_error_median=spread[0],
                row_error_p99=spread[1],
                row_error_worst=spread[2],
                ordinary_channel_error=self.ordinary.errors(self._in_channels(left, operand)).relative,
                outlier_channels=self.a.shape[1] - len(self.columns),
                sqnr_db=errors.sqnr_db,
                calc_diff=errors.calc_diff,
                max_relative_error=errors.max_relative,
                saturated=(left.saturated + right.saturated) / elements,
                flushed=(left.flushed + right.flushed) / elements,
                note=cost.note,
            )

    def _in_channels(self, left: Quantized, operand: F64) -> F64:
        """Return the ordinary channels of a quantised A, its Hadamard transform undone."""
        if left.hadamard:
            operand = np.asarray(left.dequantize(np.float64, invert=True)[self.parted], dtype=np.float64)
        return operand[:, self.columns]

    def _exact(self, operand: F64, right: Quantized) -> metrics.Truth:
        """Return the exact product of quantised operands, over the rows whose error is parted."""
        exact = float_product(operand, np.asarray(right.dequantize(np.float64), dtype=np.float64))
        return metrics.Truth(np.asarray(exact, dtype=np.float64))
