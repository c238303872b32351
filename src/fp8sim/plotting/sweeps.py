"""A picture of a sweep: one of its results against an argument, a line for each value of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fp8sim._support import checks
from fp8sim.experiments.sweeps import Sweep
from fp8sim.plotting._style import axes_for, legend_above, line_look, load, octaves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["sweep_curves", "sweep_figure"]

_OCTAVES = 8.0  # from how many times the least on an axis of positive numbers is logarithmic


def sweep_curves(result: Sweep, x: str, y: str, *, by: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw a result of a sweep: the mean of the points at each place, in a band from the least to the most.

    Numbers stand where they are, on a logarithmic axis where they are positive and far apart; text, True,
    False and None stand side by side. `ax` and Returns are as for `number_lines`.

    Parameters
    ----------
    result : Sweep
        From `fp8sim.sweep`.
    x : str
        Argument that is drawn from left to right.
    y : str
        Result, of numbers.
    by : str, optional
        Argument that has a line for each of its values.

    Raises
    ------
    ValueError
        If there is no such argument or result, or nothing to draw.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.plotting import sweep_curves
    >>> ax = sweep_curves(fp8sim.sweep(pow, {"base": [2, 3], "exp": [1, 2, 3]}), "exp", "value", by="base")
    >>> [(line.get_label(), line.get_ydata().tolist()) for line in ax.lines]
    [('base 2', [2.0, 4.0, 8.0]), ('base 3', [3.0, 9.0, 27.0])]
    """
    checks.of_kind(result, Sweep, "result")
    lines: dict[Any, dict[Any, list[float]]] = {}
    for row, value in result.numbers(y, x, *([] if by is None else [by])):
        if np.isfinite(value):
            lines.setdefault(None if by is None else row.get(by), {}).setdefault(row.get(x), []).append(value)
    if not lines:
        raise ValueError(f"there is no finite {y} to draw; see the errors of the rows")
    places = list(dict.fromkeys(place for line in lines.values() for place in line))
    numeric = all(isinstance(p, (int, float)) and not isinstance(p, bool) for p in places)
    at = {place: place if numeric else index for index, place in enumerate(places)}
    ax = axes_for(ax)
    for index, (name, points) in enumerate(lines.items()):
        order = sorted(points, key=at.__getitem__)
        label = name if isinstance(name, str) else f"{by} {name}"
        ends, look = [at[place] for place in order], line_look(index)
        several = [points[place] for place in order]
        low, high = (np.array([pick(values) for values in several]) for pick in (min, max))
        mean = [sum(values) / len(values) for values in several]
        ax.plot(ends, mean, label=label, **look)
        if np.any(low < high):
            ax.fill_between(ends, low, high, color=look["color"], alpha=0.12, linewidth=0)
    _scale(ax, places, numeric, [v for line in lines.values() for vs in line.values() for v in vs])
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(alpha=0.3)
    if by:
        legend_above(ax)
    return ax


def sweep_figure(result: Sweep, x: str, y: str, *, by: str, each: str) -> Figure:
    """Draw a picture for each value of an argument at which not every point failed, side by side.

    Examples
    --------
    >>> import fp8sim
    >>> result = fp8sim.sweep(pow, {"base": [2, 3], "exp": [1, 2], "mod": [5, 7]})
    >>> [ax.get_title() for ax in sweep_figure(result, "exp", "value", by="base", each="mod").axes]
    ['mod 5', 'mod 7']
    """
    values = result.where(error=None).values(each)
    figure, axes = load("pyplot").subplots(
        1, len(values), figsize=(6 * len(values), 4.5), layout="constrained", squeeze=False, sharey=True
    )
    for ax, value in zip(axes[0], values, strict=True):
        sweep_curves(result.where(**{each: value}), x, y, by=by, ax=ax)
        ax.set_title(f"{each} {value}", y=-0.25)
    return figure


def _scale(ax: Axes, places: list[Any], numeric: bool, values: list[float]) -> None:
    """Make an axis logarithmic where that shows more, and name places that are no numbers."""
    if not numeric:
        ax.set_xticks(range(len(places)), [str(place) for place in places])
    elif min(places) > 0 and max(places) >= _OCTAVES * min(places):
        octaves(ax)
    if min(values) > 0 and max(values) >= _OCTAVES * min(values):
        ax.set_yscale("log")
