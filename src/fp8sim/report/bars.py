"""Bars of claims in SVG, as the page and the picture of the verdict draw them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from fp8sim.experiments.claims.verdicts import Claim, Meaning
from fp8sim.report.svg import Axis, slug, svg

__all__ = ["LINE", "claim_bar", "label", "measured_rows"]

LINE = 15  #: units from one line of a label to the next


def measured_rows(rows: Sequence[Claim], meaning: Meaning) -> list[tuple[int, Claim]]:
    """Return the rows whose figure means that and was measured, numbered from 1.

    Examples
    --------
    >>> row = Claim("halved", "energy", None, None, "ratio", "", "not measured", "No watt.", "remainder")
    >>> measured_rows([row], "remainder")
    []
    """
    numbered = [(n, row) for n, row in enumerate(rows, 1) if row.meaning == meaning]
    return [(n, row) for n, row in numbered if row.measured is not None and math.isfinite(row.measured)]


def label(text: str, x: float, top: float, characters: int) -> list[str]:
    """Write text below `top`, in lines of so many characters."""
    lines = textwrap.wrap(text, characters)
    return [svg("text", line, x=x, y=top + LINE * i) for i, line in enumerate(lines, 1)]


def claim_bar(
    row: Claim, axis: Axis, middle: float, *, height: int, mark: tuple[int, int], figure: tuple[float, float]
) -> list[str]:
    """Draw a bar as long as what was measured, its figure, and a diamond at what is published, if anything.

    `mark` is half the width and height of the diamond; `figure` where the figure ends, and how far its
    base line is below the `middle` of the bar.

    Examples
    --------
    >>> row = Claim("halved", "bytes", 0.5, None, "ratio", "", "holds", "One byte.", "remainder")
    >>> for shape in claim_bar(row, Axis(0, 1, 0, 90), 20, height=10, mark=(5, 8), figure=(100, 4)):
    ...     print(shape)
    <rect x="0" y="15" width="45" height="10" class="bar verdict-holds"/>
    <text x="100" y="24" text-anchor="end">0.5000</text>
    """
    measured, (end, base), (w, h) = row.measured or 0.0, figure, mark
    words = row.figure(measured) + " →" * (measured > axis.high)
    top, width = middle - height / 2, axis(measured) - axis.start
    bar = svg("rect", x=axis.start, y=top, width=width, height=height, class_=f"bar {slug(row.verdict)}")
    shapes = [bar, svg("text", words, x=end, y=middle + base, text_anchor="end")]
    if row.published is not None:
        path = f"M{axis(row.published):.2f} {middle - h:g}l{w} {h}l-{w} {h}l-{w} -{h}z"
        shapes.append(svg("path", d=path, class_="published"))
    return shapes
