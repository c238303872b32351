"""Inline SVG for the report: a figure for those who see it and those who do not, its shapes, its axes."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass

from fp8sim._support.web import asset

__all__ = ["WIDTH", "Axis", "Picture", "grid", "picture_style", "slug", "svg"]

#: Units across a picture: about one CSS pixel on a phone, so that its text stays legible there.
WIDTH = 360


@dataclass(frozen=True)
class Picture:
    """One figure: a drawing with a title and a description for those who do not see it.

    Examples
    --------
    >>> print(Picture("dot", "A <dot>", "One dot.", "", 10, (svg("circle", cx=5, cy=5, r=2),)).html())
    <figure class="picture" id="picture-dot">
    <h3 id="picture-dot-title">A &lt;dot&gt;</h3>
    <svg role="img" aria-labelledby="picture-dot-title" aria-describedby="picture-dot-text"
     viewBox="0 0 360 10">
    <desc id="picture-dot-text">One dot.</desc>
    <circle cx="5" cy="5" r="2"/>
    </svg>
    </figure>
    """

    key: str  #: unique in a page; ASCII letters
    title: str
    description: str  #: what the drawing shows, in words
    caption: str  #: printed below; none if empty
    height: int  #: of the drawing, in units of which `WIDTH` go across
    shapes: tuple[str, ...]  #: SVG elements

    def html(self) -> str:
        """Return the figure as HTML, all text escaped."""
        key = f"picture-{self.key}"
        opening = (
            f'<svg role="img" aria-labelledby="{key}-title" aria-describedby="{key}-text"\n '
            f'viewBox="0 0 {WIDTH} {self.height}">'
        )
        lines = [
            f'<figure class="picture" id="{key}">',
            f'<h3 id="{key}-title">{html.escape(self.title)}</h3>',
            opening,
            f'<desc id="{key}-text">{html.escape(self.description)}</desc>',
            *self.shapes,
            "</svg>",
            *([f"<figcaption>{html.escape(self.caption)}</figcaption>"] if self.caption else []),
            "</figure>",
        ]
        return "\n".join(lines)


def svg(tag: str, text: str = "", **attributes: object) -> str:
    """Write one SVG element: ``_`` in a name stands for ``-``, numbers are cut to hundredths.

    Examples
    --------
    >>> svg("text", "a < b", x=1 / 3, class_="note", text_anchor="end")
    '<text x="0.33" class="note" text-anchor="end">a &lt; b</text>'
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(_attribute(value))}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{written}>{html.escape(text)}</{tag}>" if text else f"<{tag}{written}/>"


def slug(verdict: str) -> str:
    """Return the CSS class of a verdict.

    Examples
    --------
    >>> slug("does not hold")
    'verdict-does-not-hold'
    """
    return "verdict-" + "".join(c if c.isalnum() and c.isascii() else "-" for c in verdict.lower())


@dataclass(frozen=True)
class Axis:
    """Where a value lies between two positions of a picture; beyond the ends, at the end.

    Examples
    --------
    >>> decades = Axis(0.01, 100.0, 0, 200, log=True)
    >>> round(decades(10.0), 6), decades(1e9)
    (150.0, 200.0)
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of `value`."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (self.stop - self.start) * (value - low) / (high - low)


def grid(axis: Axis, ticks: Iterable[tuple[float, str]], top: float, bottom: float) -> Iterable[str]:
    """Draw a vertical line at each (value, word) of an axis, the word above it.

    Examples
    --------
    >>> list(grid(Axis(0, 2, 50, 90), [(1, "one")], 20, 30))[0]
    '<line x1="70" x2="70" y1="20" y2="30" class="grid"/>'
    """
    for value, word in ticks:
        x = axis(value)
        yield svg("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid")
        yield svg("text", word, x=x, y=top - 6, text_anchor="start" if x < 20 else "middle", class_="tick")


def picture_style() -> str:
    """Return the style of pictures, colours and all.

    Examples
    --------
    >>> "prefers-color-scheme: dark" in picture_style()
    True
    """
    return asset("fp8sim.play", "colours.css") + asset("fp8sim.report", "pictures.css")


def _attribute(value: object) -> str:
    return f"{round(value, 2):g}" if isinstance(value, float) else str(value)
