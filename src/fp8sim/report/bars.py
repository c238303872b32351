"""Bars of claims in SVG, as the page and the picture of the verdict draw them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from fp8sim._support.quantities import ratio_text
from fp8sim.experiments.claims.row import Claim
from fp8sim.experiments.claims.rules import HALVED
from fp8sim.report.svg import Axis, slug, svg

__all__ = ["LINE", "claim_bar", "label", "left_text", "saved_rows"]

LINE = 15  #: units from one line of a label to the next


def saved_rows(rows: Sequence[Claim]) -> list[tuple[int, Claim]]:
    """Return the rows that say what FP8 leaves of BF16's, numbered from 1."""
    return [
        (number, row)
        for number, row in enumerate(rows, 1)
        if row.rule == HALVED and row.looked_at is not None and math.isfinite(row.looked_at)
    ]


def label(text: str, x: float, top: float, characters: int) -> list[str]:
    """Write text below `top`, in lines of so many characters."""
    lines = textwrap.wrap(text, characters)
    return [svg("text", line, x=x, y=top + LINE * i) for i, line in enumerate(lines, 1)]


def claim_bar(
    row: Claim, axis: Axis, middle: float, *, height: int, mark: tuple[int, int], figure: tuple[float, float]
) -> list[str]:
    """Draw what FP8 leaves: a bar as long as our figure, or a diamond at what others measured.

    `mark` is half the width and height of the diamond; `figure` where the figure ends, and how far its
    base line is below the `middle` of the bar.

    Examples
    --------
    >>> row = Claim(name="weights", question="bytes", what="bytes", basis="counted", measured=0.5,
    ...             unit="ratio", rule=HALVED, why="One byte.")
    >>> for shape in claim_bar(row, Axis(0, 1, 0, 90), 20, height=10, mark=(5, 8), figure=(100, 4)):
    ...     print(shape)
    <rect x="0" y="15" width="45" height="10" class="bar verdict-holds"/>
    <text x="100" y="24" text-anchor="end">0.50</text>
    """
    left, (end, base), (w, h) = row.looked_at or 0.0, figure, mark
    words = svg("text", left_text(row) + " →" * (left > axis.high), x=end, y=middle + base, text_anchor="end")
    if row.basis == "published":
        path = f"M{axis(left):.2f} {middle - h:g}l{w} {h}l-{w} {h}l-{w} -{h}z"
        return [svg("path", d=path, class_="published"), words]
    top, width = middle - height / 2, axis(left) - axis.start
    bar = svg("rect", x=axis.start, y=top, width=width, height=height, class_=f"bar {slug(row.verdict)}")
    return [bar, words]


def left_text(row: Claim) -> str:
    """Write what FP8 leaves of BF16's."""
    return ratio_text(row.looked_at or 0.0, 2)
