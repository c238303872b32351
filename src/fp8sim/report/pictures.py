"""The report's pictures: inline SVG, written as text from results and formats alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from fp8sim._support.quantities import number_text, percent_text, ratio_text
from fp8sim.experiments.claims.row import Claim
from fp8sim.experiments.comparison import Comparison, ComparisonRow
from fp8sim.formats import FloatFormat, get_format
from fp8sim.reference.codes import positive_values
from fp8sim.report.bars import LINE, claim_bar, label, left_text, saved_rows
from fp8sim.report.svg import WIDTH, Axis, Picture, grid, svg

__all__ = [
    "agreement_picture", "bar_picture", "error_picture", "number_line_picture", "recipe_picture",
]  # fmt: skip

_LABEL_CHARACTERS = 48  # that fit WIDTH in the page's 12-unit type
_DECADES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_BAR_AXIS = Axis(0.0, 1.25, 8, WIDTH - 70)
_BAR_TICKS = ((0.0, "0"), (0.5, "half"), (1.0, "equal"))
_BAR_CAPTION = (
    "Bar: counted or modelled; diamond: measured by others; the number is that of the row in the table."
)


def bar_picture(rows: Sequence[Claim]) -> Picture | None:
    """Draw what is left of BF16's bytes, operations and time as bars; None if no row says it.

    Examples
    --------
    >>> from fp8sim.experiments.claims.rules import HALVED
    >>> row = Claim(name="weights", question="bytes", what="bytes of weights", basis="counted", measured=0.5,
    ...             unit="ratio", rule=HALVED, why="One byte.")
    >>> bar_picture([row]).description
    "Left: row 1 0.50. Of BF16's, half is 0.5."
    """
    saved = saved_rows(rows)
    if not saved:
        return None
    body, y = [], 26
    for number, row in saved:
        lines = label(f"{number}. {row.what}", 8, y, _LABEL_CHARACTERS)
        y += LINE * len(lines) + 6
        body += lines
        body += claim_bar(row, _BAR_AXIS, y + 5.5, height=11, mark=(5, 8), figure=(WIDTH - 8, 4.5))
        y += 17
    figures = ", ".join(f"row {number} {left_text(row)}" for number, row in saved)
    words = f"Left: {figures}. Of BF16's, half is 0.5."
    shapes = (*grid(_BAR_AXIS, _BAR_TICKS, 22, y), *body)
    return Picture("ratios", "What is left of BF16's", words, _BAR_CAPTION, y + 8, shapes)


def agreement_picture(rows: Sequence[Claim]) -> Picture | None:
    """Draw our figure over the published one, row by row; None if nothing is published.

    Examples
    --------
    >>> from fp8sim.experiments.claims.rules import HALVED
    >>> row = Claim(name="cache", question="bytes", what="KV cache", basis="counted", measured=5.0, unit="B",
    ...             published=4.0, judged=1.0, rule=HALVED, why="It stays.")
    >>> agreement_picture([row]).description
    'Dots of ours over published for 1 rows: 0 within 5 %, the furthest row 1 at 1.250.'
    """
    ratios = [(n, x) for n, row in enumerate(rows, 1) if (x := row.agreement) is not None and x > 0]
    if not ratios:
        return None
    axis = Axis(0.5, 2.0, 64, WIDTH - 76, log=True)
    bottom = 26 + 19 * len(ratios)
    band = svg("rect", x=axis(0.95), y=22, width=axis(1.05) - axis(0.95), height=bottom - 22, class_="band")
    body = [band]
    for index, (number, ratio) in enumerate(ratios):
        y = 26 + 19 * index + 9
        beyond = " ←" if ratio < axis.low else " →" if ratio > axis.high else ""
        body += [
            svg("text", f"row {number}", x=4, y=y + 4),
            svg("line", x1=axis(1), x2=axis(ratio), y1=y, y2=y, class_="stem"),
            svg("circle", cx=axis(ratio), cy=y, r=5, class_="dot"),
            svg("text", ratio_text(ratio) + beyond, x=WIDTH - 8, y=y + 4, text_anchor="end"),
        ]
    near = sum(1 for _, ratio in ratios if 0.95 <= ratio <= 1.05)
    furthest = max(ratios, key=lambda pair: abs(math.log(pair[1])))
    ticks = [(0.5, "half"), (1.0, "equal"), (2.0, "twice")]
    return Picture(
        "agreement",
        "Ours over published",
        f"Dots of ours over published for {len(ratios)} rows: {near} within 5 %, "
        f"the furthest row {furthest[0]} at {ratio_text(furthest[1])}.",
        "Where both are of the same thing. The band is 5 % to either side; the axis is logarithmic.",
        bottom + 8,
        (*grid(axis, ticks, 22, bottom), *body),
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
    x_axis, y_axis = Axis(-34, 20, 46, WIDTH - 12), Axis(1e-4, 1.0, 236, 12, log=True)
    shapes = [
        *(svg("line", x1=46, x2=WIDTH - 12, y1=y_axis(t), y2=y_axis(t), class_="grid") for t in _DECADES),
        *(svg("text", percent_text(t), x=42, y=y_axis(t) + 4, text_anchor="end") for t in _DECADES),
        *(svg("text", f"2^{e}", x=x_axis(e), y=254, text_anchor="middle") for e in range(-32, 17, 8)),
        svg("text", "magnitude of the value", x=197, y=272, text_anchor="middle"),
    ]
    words = []
    for index, fmt in enumerate(formats):
        words.append(f"{fmt} {percent_text(fmt.eps / 2)} from 2^{fmt.emin} to {number_text(fmt.max, 6)}")
        corners = _error_bound(fmt, x_axis.low, x_axis.high)
        path = " ".join(f"{x_axis(x):.2f},{y_axis(y):.2f}" for x, y in corners)
        shapes.append(svg("polyline", points=path, class_=f"line series-{index % 4}"))
        where = {"x": x_axis(0), "y": y_axis(fmt.eps / 2) - 5}
        shapes.append(svg("text", fmt.name, **where, text_anchor="middle", class_="name"))
    return Picture(
        "error",
        "Relative rounding error along the range",
        f"Largest relative rounding error: {'; '.join(words)}.",
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
    linear, log = Axis(0.0, 1.0, 46, WIDTH - 14), Axis(2.0**-18, 2.0**17, 46, WIDTH - 14, log=True)
    shapes, words, y = [svg("text", "from 0 to 1, linear", x=46, y=14)], [], 22
    for fmt in formats:
        values = positive_values(fmt)
        shapes += _tick_row(fmt, [0.0, *values], linear, y)
        words.append(f"{fmt} has {values.size}, of them {(values <= 1).sum()} in (0, 1]")
        y += 30
    linear_ticks = [(0.0, "0"), (0.25, "1/4"), (0.5, "1/2"), (1.0, "1")]
    shapes += [svg("text", word, x=linear(v), y=y + 10, text_anchor="middle") for v, word in linear_ticks]
    y += 34
    shapes.append(svg("text", "the whole range, logarithmic", x=46, y=y))
    y += 8
    for fmt in formats:
        shapes += _tick_row(fmt, positive_values(fmt), log, y)
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
    axis = Axis(10.0 ** min(low, high - 1), 10.0**high, 100, 190, log=True)
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
        f"{size}{', ' + data if data else ''}. Relative Frobenius error, logarithmic; bytes and roofline "
        f"time on {comparison.device} over those of {comparison.baseline}.",
        bottom,
        (*head, *grid(axis, ticks, 32, bottom - 6), *rows),
    )


def _error_bound(fmt: FloatFormat, low: float, high: float) -> Iterable[tuple[float, float]]:
    """Yield the corners of the bound: (log2 of the magnitude, relative error) from `low` to `high`."""
    error, half_step, top = fmt.eps / 2, fmt.smallest_subnormal / 2, math.log2(fmt.max)
    left = max(math.log2(half_step), low)  # the magnitude that is lost whole
    yield left, max(error, half_step / 2.0**left)
    yield max(fmt.emin, low), error
    yield min(top, high), error
    if top < high:
        yield top, 1.0


def _recipe_row(row: ComparisonRow, axis: Axis, y: float) -> Iterable[str]:
    yield svg("text", row.recipe, x=4, y=y + 12)
    if _is_positive(row.relative_error):
        yield svg("circle", cx=axis(row.relative_error), cy=y + 8, r=5, class_="dot")
    error = percent_text(row.relative_error) if math.isfinite(row.relative_error) else "overflow"
    figures = (error, ratio_text(row.bytes_ratio, 2), ratio_text(row.time_ratio, 2))
    for x, figure in zip((262, 310, WIDTH - 4), figures, strict=True):
        yield svg("text", figure, x=x, y=y + 12, text_anchor="end")


def _tick_row(fmt: FloatFormat, values: Iterable[float], axis: Axis, y: float) -> Iterable[str]:
    yield svg("text", fmt.name, x=4, y=y + 15)
    yield svg("line", x1=axis.start, x2=axis.stop, y1=y + 20, y2=y + 20, class_="grid")
    path = "".join(f"M{axis(v):.2f} {y + 3:g}v17" for v in values if axis.low <= v <= axis.high)
    yield svg("path", d=path, class_="ticks")


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
