"""Loss curves against a baseline's, as the DeepSeek-V3 report compares them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F64, ArrayLike

__all__ = [
    "SMOOTHING", "RecipeLoss", "RunResult", "compare_losses", "recipe_label", "relative_errors", "smooth",
]  # fmt: skip

#: Coefficient of the exponential moving average (DeepSeek-V3 report, figure 10).
SMOOTHING = 0.9


@dataclass(frozen=True, eq=False)
class RunResult:
    """What came out of one run."""

    recipe: str
    seed: int
    losses: tuple[float, ...]  #: nats per byte, one a step
    diverged: bool = False  #: a loss or gradient was not finite, and the run ended
    saturated: float = 0.0  #: share of all elements that were quantised
    flushed: float = 0.0  #: share of all elements that were quantised
    #: layer -> product -> its SQNR in dB, and the shares that saturated and became zero, at the last step
    layers: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    digest: str = ""  #: of the final parameters, bit for bit
    seconds: float = 0.0  #: of this process; not of all the run, if it was resumed
    tokens: int = 0  #: bytes trained on


@dataclass(frozen=True)
class RecipeLoss:
    """How a recipe's losses compare with the baseline's, over seeds."""

    recipe: str
    seeds: int
    loss: float  #: nats per byte, smoothed, at the last step; mean over seeds
    loss_spread: float  #: half the distance from the smallest to the largest of the seeds
    error: float  #: relative loss error, mean over the last half of the steps and over seeds
    error_low: float  #: of the seed with the smallest
    error_high: float  #: of the seed with the largest
    largest: float  #: largest size of the relative loss error in the last half, of all seeds
    saturated: float  #: share of quantised elements
    flushed: float  #: share of quantised elements
    diverged: int  #: seeds


def smooth(losses: ArrayLike, coefficient: float = SMOOTHING) -> F64:
    """Return the exponential moving average of a loss curve, starting at its first value.

    Examples
    --------
    >>> smooth([4.0, 2.0, 2.0])
    array([4.  , 3.8 , 3.62])
    """
    averages = checks.as_float(losses, "losses").astype(np.float64)
    for step in range(1, len(averages)):
        averages[step] = coefficient * averages[step - 1] + (1 - coefficient) * averages[step]
    return averages


def relative_errors(losses: ArrayLike, baseline: ArrayLike) -> F64:
    """Return the relative loss error at each step: smoothed loss over the smoothed baseline, less one.

    Examples
    --------
    >>> relative_errors([4.0, 2.02], [4.0, 2.0])
    array([0.        , 0.00052632])
    """
    mine, theirs = smooth(losses), smooth(baseline)
    steps = min(len(mine), len(theirs))
    return np.asarray(mine[:steps] / theirs[:steps] - 1)


def compare_losses(runs: Sequence[RunResult], baseline: str) -> tuple[RecipeLoss, ...]:
    """Compare each recipe with the baseline, which each seed has a run of, seed by seed.

    The recipes come in the order of the runs. One of which a run diverged has no finite loss.
    """
    base = {run.seed: run for run in runs if run.recipe == baseline}
    names = list(dict.fromkeys(run.recipe for run in runs))
    return tuple(_compare([run for run in runs if run.recipe == name], base) for name in names)


def _compare(runs: list[RunResult], base: dict[int, RunResult]) -> RecipeLoss:
    ends = [math.nan if run.diverged else float(smooth(run.losses)[-1]) for run in runs]
    halves = []
    for run in runs:
        errors = relative_errors(run.losses, base[run.seed].losses)
        halves.append(np.full(1, np.nan) if run.diverged else errors[len(errors) // 2 :])
    means = [float(half.mean()) for half in halves]
    return RecipeLoss(
        recipe=runs[0].recipe,
        seeds=len(runs),
        loss=float(np.mean(ends)),
        loss_spread=float(np.ptp(ends)) / 2,
        error=float(np.mean(means)),
        error_low=float(np.min(means)),  # NaN if any is, which Python's own min would pass over
        error_high=float(np.max(means)),
        largest=float(np.max([np.abs(half).max() for half in halves])),
        saturated=float(np.mean([run.saturated for run in runs])),
        flushed=float(np.mean([run.flushed for run in runs])),
        diverged=sum(run.diverged for run in runs),
    )


def recipe_label(recipe: str) -> str:
    """Shorten the name of what is DeepSeek-V3's recipe but for one part, for a table.

    Examples
    --------
    >>> recipe_label("deepseek-v3"), recipe_label("deepseek-v3-no-promotion")
    ('deepseek-v3', 'v3 no-promotion')
    """
    part = recipe.removeprefix("deepseek-v3-")
    return recipe if part == recipe else f"v3 {part}"
