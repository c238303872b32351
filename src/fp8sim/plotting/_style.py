"""What all pictures share: axes to draw in, and colours, markers and hatches that print tells apart."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fp8sim._support import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Okabe and Ito's colours for the colour-blind (Color Universal Design, 2008), without the yellow
#: that is too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#666666"
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++", "oo", "---")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def load(name: str) -> Any:
    """Import a part of matplotlib, on first use; raise ModuleNotFoundError with what to install."""
    try:
        importlib.import_module("matplotlib")
        return importlib.import_module(f"matplotlib.{name}")
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'fp8sim[plot]'") from None


def axes_for(ax: Axes | None, width: float = 7.0, height: float = 4.0) -> Axes:
    """Return `ax`, or the axes of a new figure of so many inches."""
    if ax is not None:
        return checks.of_kind(ax, load("axes").Axes, "ax")
    _, new = load("pyplot").subplots(figsize=(width, height), layout="constrained")
    return new


def line_look(index: int, *, marked: bool = True) -> dict[str, Any]:
    """Return colour, dashes and marker of a line; no two of seven share any of them."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": _DASHES[index % len(_DASHES)],
        "marker": _MARKERS[index % len(_MARKERS)] if marked else "",
        "markersize": 5,
        "linewidth": 1.6,
    }


def bar_look(index: int) -> dict[str, Any]:
    """Return colour and hatch of a bar."""
    return {
        "facecolor": COLOURS[index % len(COLOURS)],
        "hatch": _HATCHES[index % len(_HATCHES)],
        "edgecolor": "white",
        "linewidth": 0.5,
    }


def stacked_bars(
    ax: Axes, stacks: Mapping[str, Mapping[str, float]], looks: Mapping[str, Mapping[str, Any]]
) -> None:
    """Draw a bar for each stack, from the top down, its parts end to end in the order of `looks`."""
    ends = [0.0] * len(stacks)
    for part, look in looks.items():
        rows = [row for row, parts in enumerate(stacks.values()) if part in parts]
        widths = [parts[part] for parts in stacks.values() if part in parts]
        ax.barh(rows, widths, left=[ends[row] for row in rows], label=part, **look)
        for row, width in zip(rows, widths, strict=True):
            ends[row] += width
    ax.set_yticks(range(len(stacks)), list(stacks))
    ax.set_ylim(len(stacks) - 0.4, -0.6)


def write(ax: Axes, x: float, y: float, text: str, **look: Any) -> None:
    """Write small text on a white ground, so that lines do not run through it."""
    ground = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    ax.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": "small", "bbox": ground, **look})


def octaves(ax: Axes) -> None:
    """Give the x axis a logarithmic scale to base 2, with at most ten ticks at round powers."""
    ticker = load("ticker")
    ax.set_xscale("log", base=2)
    low, high = map(math.log2, ax.get_xlim())
    step = next(2**n for n in range(12) if (high - low) / 2**n < 10)
    first = math.ceil(low / step) * step
    ax.xaxis.set_major_locator(
        ticker.FixedLocator([2.0**e for e in range(first, math.floor(high) + 1, step)])
    )
    ax.xaxis.set_minor_locator(ticker.NullLocator())


def legend_above(ax: Axes) -> None:
    """Put the legend above the axes, where it hides nothing, in as many columns as there is room for."""
    labels = ax.get_legend_handles_labels()[1]
    columns = max(1, min(len(labels), 80 // (max(map(len, labels)) + 8)))
    ax.legend(ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
