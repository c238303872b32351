"""Token-correlated outliers in a gradient: what a scale for 128 tokens loses, and one per token keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp8sim._support import checks, memory
from fp8sim._support.products import float_product, norm
from fp8sim._support.quantities import percent_text
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim._support.text import shown
from fp8sim._support.typing import F32
from fp8sim.experiments.train.losses import recipe_label
from fp8sim.metrics import cosine_similarity
from fp8sim.quantization import quantize_with
from fp8sim.training import LinearGemms, TrainingRecipe, TrainingRecipeLike, get_training_recipe

__all__ = ["GradientOutliers", "OutlierRow", "gradient_outliers", "token_gradients"]

_REPORT = "DeepSeek-V3 report, B.2"
DEFAULT_SPREADS = (0.0, 1.0, 2.0, 3.0, 4.0)
DEFAULT_RECIPES = (
    "bf16", "fp8-tensor", "deepseek-v3", "deepseek-v3-block-gradients", "deepseek-v3-e5m2-gradients",
)  # fmt: skip


@dataclass(frozen=True)
class OutlierRow:
    """One recipe on one gradient."""

    decades: float  #: standard deviation of log10 of the tokens' magnitudes
    recipe: str
    flushed: float  #: share of the elements of dy that became zero for Dgrad
    lost_tokens: float  #: share of tokens whose dx is all zero
    median_error: float  #: relative error of dx, token by token: the median token
    worst_cosine: float  #: between dx and the exact one, of the token at the 5th percentile
    whole_error: float  #: relative Frobenius error of dx, which the largest tokens decide


@dataclass(frozen=True, repr=False)
class GradientOutliers(Result):
    """Rows of `gradient_outliers`; prints as a table and shows as one in a notebook."""

    tokens: int
    width: int
    seed: int
    rows: tuple[OutlierRow, ...]

    WIDTH = 120

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return dataclasses.asdict(self)

    def parts(self) -> list[Table]:
        """Return the rows as a table."""
        columns: dict[str, Callable[[OutlierRow], str]] = {
            "decades>": lambda row: f"{row.decades:g}",
            "recipe": lambda row: recipe_label(row.recipe),
            "flushed>": lambda row: percent_text(row.flushed),
            "tokens lost>": lambda row: percent_text(row.lost_tokens),
            "median error>": lambda row: percent_text(row.median_error),
            "low cosine>": lambda row: f"{row.worst_cosine:.4f}",
            "error of all>": lambda row: percent_text(row.whole_error),
        }
        notes = (
            f"dx = dy W of {self.tokens} tokens, {self.width} by {self.width}, seed {self.seed}; "
            "against the float64 product",
            "decades: standard deviation of log10 of a token's magnitude; flushed: share of dy now zero",
            "tokens lost: dx is all zero; median error: of a token's dx; low cosine: the 5th percentile",
            f"v3 block-gradients: 128 tokens share a scale. {_REPORT} lets them diverge, and suspects "
            "gradients that are highly imbalanced among tokens.",
        )
        return [Table.of("Token-correlated outliers in a gradient", columns, self.rows, notes)]


def token_gradients(tokens: int, width: int, decades: float, rng: np.random.Generator) -> F32:
    """Make a gradient whose tokens differ in magnitude: a normal matrix, each row times its own factor.

    It is about 1e-4 for the median token. `decades` is the standard deviation of log10 of a row's factor:
    1 means that one token in six is ten times larger than the median one, and one in six ten times smaller.

    Examples
    --------
    >>> dy = token_gradients(512, 64, 2.0, np.random.default_rng(0))
    >>> sizes = np.log10(np.abs(dy).mean(axis=1))
    >>> bool(1.8 < sizes.std() < 2.2)
    True
    """
    rng, decades = checks.generator(rng), checks.within(checks.number(decades, "decades"), "decades", 0, 30)
    tokens, width = checks.positive_int(tokens, "tokens"), checks.positive_int(width, "width")
    memory.require(20 * tokens * width, f"generating {tokens}x{width}")  # float64, its product, and FP32
    factors = 10.0 ** (decades * rng.standard_normal((tokens, 1)) - 4)
    return (factors * rng.standard_normal((tokens, width))).astype(np.float32)


def gradient_outliers(
    recipes: TrainingRecipeLike | Sequence[TrainingRecipeLike] = DEFAULT_RECIPES,
    *,
    spreads: Sequence[float] = DEFAULT_SPREADS,
    tokens: int = 512,
    width: int = 512,
    seed: int = 0,
) -> GradientOutliers:
    """Push gradients of growing imbalance among tokens through Dgrad under each recipe.

    Parameters
    ----------
    recipes : str or TrainingRecipe, or a sequence of them
        Names in `fp8sim.training.recipes.TRAINING_RECIPES` or your own, without delayed scaling.
    spreads : sequence of float
        Imbalances, as `token_gradients` takes them.
    tokens, width : int
        Tokens, and channels in and out.
    seed : int
        Of everything generated.

    Returns
    -------
    GradientOutliers
        One row per spread and recipe.

    Raises
    ------
    ValueError
        If a recipe is unknown or has delayed scaling, or a size is not positive.

    Examples
    --------
    >>> result = gradient_outliers(spreads=[3.0], tokens=256, width=128)
    >>> lost = {row.recipe: row.lost_tokens for row in result.rows}
    >>> lost["deepseek-v3"], lost["deepseek-v3-block-gradients"] > 0.2
    (0.0, True)
    """
    candidates = [get_training_recipe(one) for one in checks.several(recipes, TrainingRecipe, "recipes")]
    tokens, width = checks.positive_int(tokens, "tokens"), checks.positive_int(width, "width")
    seed = checks.seed(seed)
    weights = np.float32(0.02) * np.random.default_rng(seed).standard_normal((width, width), np.float32)
    rows = []
    if not isinstance(spreads, Iterable):
        raise TypeError(f"spreads must be a list of numbers, got {shown(spreads)}")
    for decades in spreads:
        rng = np.random.default_rng([seed, 1])  # anew, so that a row does not depend on the others
        dy = token_gradients(tokens, width, decades, rng)
        rows += [_measure(recipe, dy, weights, decades, rng) for recipe in candidates]
    return GradientOutliers(tokens, width, seed, tuple(rows))


def _measure(
    recipe: TrainingRecipe, dy: F32, weights: F32, decades: float, rng: np.random.Generator
) -> OutlierRow:
    if recipe.delayed is not None:
        raise ValueError(f"{recipe} scales by the past, and this gradient has none; choose another recipe")
    gemms = LinearGemms(recipe, rng)
    _, saved = gemms.forward(np.zeros_like(weights[:1]), weights)
    dx, _ = gemms.backward(dy, saved, wgrad=False)
    assert dx is not None
    exact = float_product(dy.astype(np.float64), weights.astype(np.float64))
    errors = np.linalg.norm(dx - exact, axis=1) / np.linalg.norm(exact, axis=1)
    cosines = [
        cosine_similarity(mine, truth) if mine.any() else 0.0 for mine, truth in zip(dx, exact, strict=True)
    ]
    quantized = quantize_with(dy, recipe.dgrad.a, axis=1)
    return OutlierRow(
        decades=float(decades),
        recipe=recipe.name,
        flushed=quantized.flushed / dy.size,
        lost_tokens=float(np.mean(~dx.any(axis=1))),
        median_error=float(np.median(errors)),
        worst_cosine=float(np.quantile(cosines, 0.05)),
        whole_error=norm(dx - exact) / norm(exact),
    )
