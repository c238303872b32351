"""Recipes side by side on several layers: the comparison of each, and what they come to together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fp8sim._support.quantities import bytes_text, percent_text, time_text
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim._support.typing import ArrayLike
from fp8sim.costs.devices import DeviceLike
from fp8sim.experiments.comparison import DEFAULT_RECIPES, Comparison, compare
from fp8sim.experiments.comparison_row import ComparisonRow
from fp8sim.recipes import RecipeLike

__all__ = ["LayerComparison", "compare_layers"]


@dataclass(frozen=True, repr=False)
class LayerComparison(Result):
    """Comparisons by layer, and their totals; made by `compare_layers`.

    Parameters
    ----------
    layers : dict of str to Comparison
        One of the same recipes per layer; ``result["name"]`` finds one.
    """

    layers: Mapping[str, Comparison]

    def __getitem__(self, layer: str) -> Comparison:
        """Return the comparison of a layer."""
        return self.layers[layer]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {"layers": {name: layer.to_dict() for name, layer in self.layers.items()}}

    def parts(self) -> list[Table]:
        """Return the error of each layer under each recipe, and the totals of the recipes."""
        first = next(iter(self.layers.values()))
        recipes, to = [row.recipe for row in first.rows], f"to {first.baseline}>"
        errors = Table(
            "Error by layer: relative Frobenius, against the float64 product of the unquantised inputs",
            ["layer", *(f"{recipe}>" for recipe in recipes)],
            [
                [name, *(percent_text(row.relative_error) for row in layer.rows)]
                for name, layer in self.layers.items()
            ],
        )
        totals = Table(
            f"All {len(self.layers)} layers together, time modelled on {first.device}",
            ["recipe", "bytes>", to, "time>", to, "error>", "worst>"],
            [self._total(recipe, first.baseline) for recipe in recipes],
            ("error: root mean square of the layers' errors; worst: that of the worst layer",),
        )
        return [errors, totals]

    def _total(self, recipe: str, baseline: str) -> list[str]:
        rows, base = ([layer[name] for layer in self.layers.values()] for name in (recipe, baseline))

        def total(figure: Callable[[ComparisonRow], float], of: list[ComparisonRow] = rows) -> float:
            return math.fsum(map(figure, of))

        nbytes, seconds = total(lambda row: row.nbytes), total(lambda row: row.seconds)
        size = f"{nbytes / total(lambda row: row.nbytes, base):.3f}"
        known = not math.isnan(seconds)
        time = f"{seconds / total(lambda row: row.seconds, base):.3f}" if known else "unknown"
        mean = math.sqrt(total(lambda row: row.relative_error**2) / len(rows))
        worst = max(row.relative_error for row in rows)
        errors = (percent_text(mean), percent_text(worst))
        return [recipe, bytes_text(nbytes), size, time_text(seconds), time, *errors]


def compare_layers(
    layers: Mapping[str, tuple[ArrayLike, ArrayLike]],
    recipes: RecipeLike | Sequence[RecipeLike] = DEFAULT_RECIPES,
    baseline: RecipeLike = "bf16",
    *,
    device: DeviceLike = "h800",
    bounds: bool = False,
) -> LayerComparison:
    """Compare recipes on several products in one call.

    Parameters
    ----------
    layers : mapping of str to pair of array_like
        Operands of each product, (m, k) and (k, n), by the name of the layer.
    recipes, baseline, device, bounds
        As for `compare`.

    Returns
    -------
    LayerComparison
        A `Comparison` per layer, and totals.

    Raises
    ------
    TypeError
        If `layers` is no mapping of pairs.
    ValueError
        If there is no layer, or as `compare`, the layer named.

    Examples
    --------
    >>> from fp8sim.experiments.data import llm_like_matrices
    >>> shapes = {"up": (32, 96, 64), "down": (32, 64, 96)}
    >>> made = {name: llm_like_matrices(*shape) for name, shape in shapes.items()}
    >>> result = compare_layers({name: (x.a, x.b) for name, x in made.items()}, ["fp8-row"])
    >>> result["up"]["fp8-row"].nbytes, result["down"]["fp8-row"].nbytes
    (14848, 13696)
    """
    if not isinstance(layers, Mapping) or any(
        not isinstance(pair, tuple) or len(pair) != 2 for pair in layers.values()
    ):
        raise TypeError(f"layers must be a mapping of names to pairs (a, b), got {type(layers).__name__}")
    if not layers:
        raise ValueError("layers is empty; give at least one name with its pair (a, b)")
    compared = {}
    for name, (a, b) in layers.items():
        try:
            compared[str(name)] = compare(a, b, recipes, baseline, device=device, bounds=bounds)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
    return LayerComparison(compared)
