"""The report's pictures: inline SVG, written as text from results and formats alone."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fp8sim._tables import percent_text
from fp8sim.casts import decode
from fp8sim.experiments.comparison import Comparison, ComparisonRow
from fp8sim.experiments.verdicts import Claim
from fp8sim.formats import FloatFormat, get_format

__all__ = [
    "Picture",
    "agreement_picture",
    "error_picture",
    "number_line_picture",
    "ratio_picture",
    "recipe_picture",
    "slug",
    "svg",
]

#: Units across a picture: about one CSS pixel on a phone, so that its text stays legible there.
WIDTH = 360
_LABEL_CHARACTERS = 48  # that fit WIDTH in the page's 12-unit type
_LINE = 15


@dataclass(frozen=True)
class Picture:
    """One figure: a drawing with a title and a description for those who do not see it.

    Examples
    --------
    >>> print(Picture("dot", "A <dot>", "One dot.", "", 10, (svg("circle", cx=5, cy=5, r=2),)).html())
    <figure class="picture" id="picture-dot">
    <h3 id="picture-dot-title">A &lt;dot&gt;</h3>
    <svg role="img" aria-labelledby="picture-dot-title" aria-describedby="picture-dot-text" viewBox="0 0 360 10">
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
            f'<svg role="img" aria-labelledby="{key}-title" aria-describedby="{key}-text" '
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


def ratio_picture(rows: Sequence[Claim]) -> Picture | None:
    """Draw bars of every ratio to the baseline, the published one as a mark; None if there is none.

    Examples
    --------
    >>> row = Claim("halved", "bytes of weights", 0.5, 0.51, "ratio", "a report", "holds", "One byte.")
    >>> ratio_picture([row]).description
    'Bars of 1 measured ratios; 1 lie at 0.525 or below, which counts as halved.'
    """
    drawn = [(n, row) for n, row in enumerate(rows, 1) if row.unit == "ratio" and row.measured is not None]
    if not drawn:
        return None
    axis = _Axis(0.0, 1.25, 8, WIDTH - 70)
    body, y = [], 26
    for number, row in drawn:
        measured = row.measured or 0.0
        lines = textwrap.wrap(f"{number}. {row.what}", _LABEL_CHARACTERS)
        body += [svg("text", line, x=8, y=y + _LINE * i) for i, line in enumerate(lines, 1)]
        y += _LINE * len(lines) + 6
        kind = slug(row.verdict)
        body.append(svg("rect", x=8, y=y, width=axis(measured) - 8, height=11, class_=f"bar {kind}"))
        beyond = " →" if measured > axis.high else ""
        body.append(svg("text", row.figure(measured) + beyond, x=WIDTH - 8, y=y + 10, text_anchor="end"))
        if row.published is not None:
            body.append(_diamond(axis(row.published), y + 5.5))
        y += 17
    halved = sum(1 for _, row in drawn if row.measured is not None and row.measured <= 0.525)
    ticks = [(0.0, "0"), (0.5, "half"), (1.0, "equal")]
    return Picture(
        "ratios",
        "Ratios to the baseline",
        f"Bars of {len(drawn)} measured ratios; {halved} lie at 0.525 or below, which counts as halved.",
        "Bar: measured; diamond: published; the number is that of the row in the table.",
        y + 8,
        (*_vertical_axis(axis, ticks, 22, y), *body),
    )


def agreement_picture(rows: Sequence[Claim]) -> Picture | None:
    """Draw measured over published, row by row; None if nothing is published.

    Examples
    --------
    >>> row = Claim("halved", "bytes of weights", 0.5, 0.4, "ratio", "a report", "holds", "One byte.")
    >>> agreement_picture([row]).description
    'Dots of measured over published for 1 rows: 0 within 5 %, the furthest row 1 at 1.250.'
    """
    drawn = [(n, row.ratio) for n, row in enumerate(rows, 1) if row.ratio is not None and row.ratio > 0]
    if not drawn:
        return None
    axis = _Axis(0.5, 2.0, 64, WIDTH - 76, log=True)
    bottom = 26 + 19 * len(drawn)
    band = svg("rect", x=axis(0.95), y=22, width=axis(1.05) - axis(0.95), height=bottom - 22, class_="band")
    body = [band]
    for index, (number, ratio) in enumerate(drawn):
        y = 26 + 19 * index + 9
        beyond = " ←" if ratio < axis.low else " →" if ratio > axis.high else ""
        body += [
            svg("text", f"row {number}", x=4, y=y + 4),
            svg("line", x1=axis(1), x2=axis(ratio), y1=y, y2=y, class_="stem"),
            svg("circle", cx=axis(ratio), cy=y, r=5, class_="dot"),
            svg("text", f"{ratio:.3f}{beyond}", x=WIDTH - 8, y=y + 4, text_anchor="end"),
        ]
    near = sum(1 for _, ratio in drawn if 0.95 <= ratio <= 1.05)
    furthest = max(drawn, key=lambda pair: abs(math.log(pair[1])))
    ticks = [(0.5, "half"), (1.0, "equal"), (2.0, "twice")]
    return Picture(
        "agreement",
        "Measured over published",
        f"Dots of measured over published for {len(drawn)} rows: {near} within 5 %, "
        f"the furthest row {furthest[0]} at {furthest[1]:.3f}.",
        "Where both figures exist. The band is 5 % to either side; the axis is logarithmic.",
        bottom + 8,
        (*_vertical_axis(axis, ticks, 22, bottom), *body),
    )


def error_picture(names: Sequence[str] = ("fp16", "bf16", "e4m3", "e5m2")) -> Picture:
    """Draw the bound of the relative rounding error of formats along the magnitude.

    It is half the distance between neighbours over the power of two below the value: constant where
    numbers are normal, doubling with each halving below, where they are subnormal.

    Examples
    --------
    >>> error_picture(["e4m3"]).description
    'Largest relative rounding error: e4m3 6.25 % from 2^-6 to 448.'
    """
    formats = [get_format(name) for name in names]
    x_axis, y_axis = _Axis(-34, 20, 46, WIDTH - 12), _Axis(1e-4, 1.0, 236, 12, log=True)
    shapes = [
        *(svg("line", x1=46, x2=WIDTH - 12, y1=y_axis(t), y2=y_axis(t), class_="grid") for t in _DECADES),
        *(svg("text", percent_text(t), x=42, y=y_axis(t) + 4, text_anchor="end") for t in _DECADES),
        *(svg("text", f"2^{e}", x=x_axis(e), y=254, text_anchor="middle") for e in (-32, -24, -16, -8, 0, 8, 16)),
        svg("text", "magnitude of the value", x=197, y=272, text_anchor="middle"),
    ]
    for index, fmt in enumerate(formats):
        path = " ".join(f"{x_axis(x):.2f},{y_axis(y):.2f}" for x, y in _error_bound(fmt, x_axis.low, x_axis.high))
        shapes.append(svg("polyline", points=path, class_=f"line series-{index % 4}"))
        where = {"x": x_axis(0), "y": y_axis(fmt.eps / 2) - 5}
        shapes.append(svg("text", fmt.name, **where, text_anchor="middle", class_="name"))
    return Picture(
        "error",
        "Relative rounding error along the range",
        "Largest relative rounding error: "
        + "; ".join(f"{f} {percent_text(f.eps / 2)} from 2^{f.emin} to {f.max:.6g}" for f in formats)
        + ".",
        "Flat: normal numbers, half a unit in the last place. Rising to the left: subnormals, and at "
        "100 % a value becomes 0. At the right end the format overflows.",
        280,
        tuple(shapes),
    )


def number_line_picture(names: Sequence[str] = ("e4m3", "e5m2", "e2m1")) -> Picture:
    """Draw the positive values of formats as ticks, on a linear and on a logarithmic line.

    Examples
    --------
    >>> number_line_picture(["e2m1"]).description
    'Ticks at every positive value: e2m1 has 7, of them 2 in (0, 1].'
    """
    formats = [get_format(name) for name in names]
    linear, log = _Axis(0.0, 1.0, 46, WIDTH - 14), _Axis(2.0**-18, 2.0**17, 46, WIDTH - 14, log=True)
    shapes, words, y = [svg("text", "from 0 to 1, linear", x=46, y=14)], [], 22
    for fmt in formats:
        inside = [v for v in _positive_values(fmt) if v <= 1]
        shapes += _tick_row(fmt, [0.0, *inside], linear, y)
        words.append(f"{fmt} has {len(_positive_values(fmt))}, of them {len(inside)} in (0, 1]")
        y += 30
    linear_ticks = [(0.0, "0"), (0.25, "1/4"), (0.5, "1/2"), (1.0, "1")]
    shapes += [svg("text", word, x=linear(v), y=y + 10, text_anchor="middle") for v, word in linear_ticks]
    y += 34
    shapes.append(svg("text", "the whole range, logarithmic", x=46, y=y))
    y += 8
    for fmt in formats:
        shapes += _tick_row(fmt, _positive_values(fmt), log, y)
        y += 30
    shapes += [
        svg("text", f"2^{e}", x=log(2.0**e), y=y + 10, text_anchor="middle") for e in (-16, -8, 0, 8, 16)
    ]
    return Picture(
        "numbers",
        "Where the values of a format lie",
        f"Ticks at every positive value: {'; '.join(words)}.",
        "Each tick is a value. Formats crowd towards zero: as many values in every binade.",
        y + 18,
        tuple(shapes),
    )


def recipe_picture(comparison: Comparison, data: str = "") -> Picture:
    """Draw the error of a product under each recipe, with its bytes and its modelled time.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> a, b = np.ones((2, 8)), np.full((8, 2), 0.3)
    >>> recipe_picture(fp8sim.compare(a, b, ["bf16", "fp16"])).description
    'Error of the product: bf16 0.26 %, fp16 0.0163 %.'
    """
    errors = [row.relative_error for row in comparison.rows if _is_positive(row.relative_error)] or [1.0]
    low, high = math.floor(math.log10(min(errors))), math.ceil(math.log10(max(errors)))
    axis = _Axis(10.0 ** min(low, high - 1), 10.0**high, 100, 190, log=True)
    bottom = 40 + 22 * len(comparison.rows)
    heads = ((145, "error, logarithmic"), (262, "error"), (310, "bytes"), (WIDTH - 4, "time"))
    head = (svg("text", word, x=x, y=12, text_anchor="middle" if x == 145 else "end") for x, word in heads)
    rows = [shape for i, row in enumerate(comparison.rows) for shape in _recipe_row(row, axis, 40 + 22 * i)]
    ticks = [(axis.low, percent_text(axis.low)), (axis.high, percent_text(axis.high))]
    size = f"({comparison.m}, {comparison.k}) @ ({comparison.k}, {comparison.n})"
    return Picture(
        "recipes",
        "What each recipe costs and saves",
        "Error of the product: "
        + ", ".join(f"{row.recipe} {percent_text(row.relative_error)}" for row in comparison.rows)
        + ".",
        f"{size}{', ' + data if data else ''}. Relative Frobenius error, logarithmic; bytes and roofline time "
        f"on {comparison.device} over those of {comparison.baseline}.",
        bottom,
        (*head, *_vertical_axis(axis, ticks, 32, bottom - 6), *rows),
    )


def _error_bound(fmt: FloatFormat, low: float, high: float) -> Iterable[tuple[float, float]]:
    """Corners of the bound: (log2 of the magnitude, relative error) from `low` to `high`."""
    error, half_step, top = fmt.eps / 2, fmt.smallest_subnormal / 2, math.log2(fmt.max)
    left = max(math.log2(half_step), low)  # the magnitude that is lost whole
    yield left, max(error, half_step / 2.0**left)
    yield max(fmt.emin, low), error
    yield min(top, high), error
    if top < high:
        yield top, 1.0


def _recipe_row(row: ComparisonRow, axis: _Axis, y: float) -> Iterable[str]:
    yield svg("text", row.recipe, x=4, y=y + 12)
    if _is_positive(row.relative_error):
        yield svg("circle", cx=axis(row.relative_error), cy=y + 8, r=5, class_="dot")
    figures = (percent_text(row.relative_error), f"{row.bytes_ratio:.2f}", f"{row.time_ratio:.2f}")
    for x, figure in zip((262, 310, WIDTH - 4), figures, strict=True):
        yield svg("text", figure, x=x, y=y + 12, text_anchor="end")


@dataclass(frozen=True)
class _Axis:
    """Where a value lies between two positions of the picture; beyond the ends, at the end."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (self.stop - self.start) * (value - low) / (high - low)


_DECADES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def _vertical_axis(axis: _Axis, ticks: Iterable[tuple[float, str]], top: float, bottom: float) -> Iterable[str]:
    for value, word in ticks:
        x = axis(value)
        yield svg("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid")
        yield svg("text", word, x=x, y=top - 6, text_anchor="start" if x < 20 else "middle", class_="tick")


def _tick_row(fmt: FloatFormat, values: Sequence[float], axis: _Axis, y: float) -> Iterable[str]:
    yield svg("text", fmt.name, x=4, y=y + 15)
    yield svg("line", x1=axis.start, x2=axis.stop, y1=y + 20, y2=y + 20, class_="grid")
    path = "".join(f"M{axis(v):.2f} {y + 3:g}v17" for v in values if axis.low <= v <= axis.high)
    yield svg("path", d=path, class_="ticks")


def _positive_values(fmt: FloatFormat) -> list[float]:
    values = decode(np.arange(2**fmt.bits, dtype=fmt.code_dtype), fmt).astype(np.float64)
    return [float(v) for v in np.unique(values[np.isfinite(values) & (values > 0)])]


def _diamond(x: float, y: float) -> str:
    return svg("path", d=f"M{x:.2f} {y - 8:g}l5 8l-5 8l-5 -8z", class_="published")


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _attribute(value: object) -> str:
    return f"{round(value, 2):g}" if isinstance(value, float) else str(value)
