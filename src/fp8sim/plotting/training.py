"""A picture of training: loss curves, or relative loss errors with the published limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from fp8sim._support import checks
from fp8sim._support.published import DEEPSEEK_V3
from fp8sim._support.text import shown
from fp8sim._support.typing import F64
from fp8sim.experiments.train.losses import SMOOTHING, recipe_label, relative_errors, smooth
from fp8sim.experiments.train.training import Training
from fp8sim.plotting._style import GREY, axes_for, legend_above, line_look, load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["training_curves", "training_figure"]


def training_curves(
    result: Training,
    *,
    what: Literal["error", "loss"] = "error",
    seed: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw relative loss errors with DeepSeek-V3's limit of 0.25 %, or the losses themselves.

    A run that diverged ends where it did. `ax` and Returns are as for `number_lines`.

    Parameters
    ----------
    result : Training
        From `fp8sim.experiments.train.train`.
    what : {"error", "loss"}
        Relative loss error against the baseline, in percent; or loss, in nats per byte. Both
        smoothed as in the DeepSeek-V3 report's figure 10.
    seed : int, optional
        Draw this seed alone; by default the mean of all, in a band from the smallest to the largest.

    Raises
    ------
    ValueError
        If `what` is unknown, or the seed was not trained.

    Examples
    --------
    >>> from fp8sim.experiments.train.training import Training
    >>> from fp8sim.experiments.train.losses import RunResult
    >>> runs = (RunResult("bf16", 0, (4.0, 3.0)), RunResult("deepseek-v3", 0, (4.0, 3.003)))
    >>> ax = training_curves(Training("bf16", "two steps", {}, {}, runs))
    >>> print(f"{ax.lines[0].get_ydata()[-1]:.4f} %")
    0.0077 %
    """
    checks.of_kind(result, Training, "result")
    if not (isinstance(what, str) and what in ("error", "loss")):
        raise ValueError(f"what={shown(what)} is not known; draw 'error' or 'loss'")
    seeds = sorted({run.seed for run in result.runs})
    if seed is not None and checks.whole_number(seed, "seed") not in seeds:
        raise ValueError(f"seed {shown(seed)} was not trained; draw one of {seeds}")
    axes = axes_for(ax)
    seeds = seeds if seed is None else [seed]
    names = dict.fromkeys(run.recipe for run in result.runs)
    for index, name in enumerate(names):  # a recipe looks the same in both pictures
        if what == "error" and name == result.baseline:
            continue
        curves = _curves(result, name, seeds, what)
        steps, look = np.arange(1, curves.shape[1] + 1), line_look(index, marked=False)
        axes.plot(steps, curves.mean(axis=0), label=recipe_label(name), **look)
        if len(seeds) > 1:
            low, high = curves.min(axis=0), curves.max(axis=0)
            axes.fill_between(steps, low, high, color=look["color"], alpha=0.12, linewidth=0)
    axes.set_xlabel("step")
    if what == "loss":
        axes.set_ylabel(f"loss, nats per byte (EMA {SMOOTHING})")
    else:
        _draw_limit(axes, result.baseline)
    legend_above(axes)
    return axes


def training_figure(result: Training) -> Figure:
    """Draw losses on the left and relative loss errors on the right.

    Examples
    --------
    >>> from fp8sim.experiments.train.training import Training
    >>> from fp8sim.experiments.train.losses import RunResult
    >>> runs = (RunResult("bf16", 0, (4.0, 3.0)), RunResult("deepseek-v3", 0, (4.0, 3.003)))
    >>> len(training_figure(Training("bf16", "two steps", {}, {}, runs)).axes)
    2
    """
    figure, (left, right) = load("pyplot").subplots(1, 2, figsize=(12, 5), layout="constrained")
    training_curves(result, what="loss", ax=left)
    training_curves(result, what="error", ax=right)
    return figure


def _curves(result: Training, recipe: str, seeds: list[int], what: str) -> F64:
    """Return one row per seed, cut to the shortest run."""
    rows = []
    for seed in seeds:
        losses = result.run(recipe, seed).losses
        base = result.run(result.baseline, seed).losses
        rows.append(smooth(losses) if what == "loss" else 100 * relative_errors(losses, base))
    steps = min(len(row) for row in rows)
    return np.stack([row[:steps] for row in rows])


def _draw_limit(axes: Axes, baseline: str) -> None:
    limit = DEEPSEEK_V3["loss_error"].value
    axes.axhline(0, color=GREY, linewidth=0.6)
    for value, label in ((limit, f"±{limit} % (DeepSeek-V3 report)"), (-limit, None)):
        axes.axhline(value, color=GREY, linewidth=1.0, linestyle=(0, (1, 2)), label=label)
    axes.set_ylabel(f"relative loss error against {baseline}, % (EMA {SMOOTHING})")
