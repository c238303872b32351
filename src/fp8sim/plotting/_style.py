"""What all pictures share: axes to draw in, and colours, markers and hatches that print tells apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "GREY",
    "HATCHES",
    "axes_for",
    "bar_look",
    "legend_above",
    "line_look",
    "octaves",
    "signs",
    "write",
]

#: Okabe and Ito's colours for the colour-blind (Color Universal Design, 2008), without the yellow
#: that is too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#666666"
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++", "oo", "---")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def axes_for(ax: Axes | None, width: float = 7.0, height: float = 4.0) -> Axes:
    """Return `ax`, or the axes of a new figure of so many inches."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'fp8sim[plot]'") from None
    _, new = pyplot.subplots(figsize=(width, height), layout="constrained")
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
        "hatch": HATCHES[index % len(HATCHES)],
        "edgecolor": "white",
        "linewidth": 0.5,
    }


def signs(index: int) -> str:
    """Return the marker of a group of points."""
    return _MARKERS[index % len(_MARKERS)]


def write(ax: Axes, x: float, y: float, text: str, **look: Any) -> None:
    """Write small text on a white ground, so that lines do not run through it."""
    ground = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    ax.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": "small", "bbox": ground, **look})


def octaves(ax: Axes, axis: str = "x") -> None:
    """Give an axis a logarithmic scale to base 2, with at most ten ticks at round powers."""
    from matplotlib.ticker import FixedLocator, NullLocator

    (ax.set_xscale if axis == "x" else ax.set_yscale)("log", base=2)
    which = ax.xaxis if axis == "x" else ax.yaxis
    low, high = (math.log2(end) for end in (ax.get_xlim() if axis == "x" else ax.get_ylim()))
    step = next(2**n for n in range(12) if (high - low) / 2**n < 10)
    first = math.ceil(low / step) * step
    which.set_major_locator(FixedLocator([2.0**e for e in range(first, math.floor(high) + 1, step)]))
    which.set_minor_locator(NullLocator())


def legend_above(ax: Axes) -> None:
    """Put the legend above the axes, where it hides nothing, in as many columns as there is room for."""
    labels = ax.get_legend_handles_labels()[1]
    columns = max(1, min(len(labels), 80 // (max(map(len, labels)) + 8)))
    ax.legend(ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
