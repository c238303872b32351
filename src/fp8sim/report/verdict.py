"""The verdict as one picture in a file of its own: what FP8 leaves of BF16's, and how much faster it is."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

from fp8sim.experiments.claims.verdicts import Claim, Meaning
from fp8sim.report.bars import LINE, claim_bar, label, measured_rows
from fp8sim.report.svg import Axis, asset, grid, slug, svg

__all__ = ["verdict_svg"]

_WIDTH, _MARGIN = 760, 16
_LABEL_CHARACTERS = 50  # that fit left of the bars
_FONT = 'svg { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }'
_NOTE = "Bar: measured or modelled. Diamond: published. Dashed: where bars would end if the sentence held."


class _Panel(NamedTuple):
    """The rows of one meaning, under a title and an axis."""

    meaning: Meaning
    title: str
    axis: Axis
    ticks: tuple[tuple[float, str], ...]
    goal: float  #: where a bar would end if the sentence held


_PANELS = (
    _Panel(
        "remainder",
        "What FP8 leaves of BF16's",
        Axis(0.0, 1.1, 356, 590),
        ((0.0, "0"), (0.5, "half"), (1.0, "equal")),
        0.5,
    ),
    _Panel(
        "speed-up",
        "How much faster than BF16",
        Axis(1.0, 2.1, 356, 590),
        ((1.0, "equal"), (2.0, "twice")),
        2.0,
    ),
)


def verdict_svg(rows: Sequence[Claim]) -> str:
    """Return the rows that say what FP8 leaves or how much faster it is as a self-contained SVG file.

    It brings its own ground and colours, light or dark as the reader's, and loads nothing. The same
    rows give the same text.

    Parameters
    ----------
    rows : sequence of Claim
        The rows of `claims`.

    Returns
    -------
    str
        The file.

    Examples
    --------
    >>> row = Claim("halved", "bytes", 0.5, 0.51, "ratio", "a report", "holds", "One byte.", "remainder")
    >>> picture = verdict_svg([row])
    >>> picture[:4], picture.count("<rect"), "0.5000" in picture
    ('<svg', 2, True)
    """
    body, y = [], 0.0
    for panel in _PANELS:
        if chosen := measured_rows(rows, panel.meaning):
            shapes, y = _draw(panel, chosen, y + 30)
            body += shapes
    body.append(svg("text", _NOTE, x=_MARGIN, y=y + 26, class_="tick"))
    height = round(y + 42)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="title text">',
            '<title id="title">Did FP8 halve it?</title>',
            f'<desc id="text">{html.escape(_description(rows))}</desc>',
            f"<style>\n{asset('pictures.css')}{_FONT}\n</style>",
            svg("rect", x=0.5, y=0.5, width=_WIDTH - 1, height=height - 1, rx=6, class_="ground"),
            *body,
            "</svg>\n",
        ]
    )


def _description(rows: Sequence[Claim]) -> str:
    """Say in words what is drawn."""
    sentences = []
    for panel in _PANELS:
        chosen = measured_rows(rows, panel.meaning)
        words = [f"{_label(row)} {row.figure(row.measured)} ({row.verdict})" for _, row in chosen]
        sentences += [f"{panel.title}: {'; '.join(words)}."] if words else []
    return " ".join(sentences)


def _draw(panel: _Panel, rows: Sequence[tuple[int, Claim]], top: float) -> tuple[list[str], float]:
    """Draw a panel from `top` down, and return where it ends."""
    body = [svg("text", panel.title, x=_MARGIN, y=top, class_="name")]
    y = top + 12
    for number, row in rows:
        words = label(f"{number}. {_label(row)}", _MARGIN, y, _LABEL_CHARACTERS)
        height = LINE * len(words)
        middle = y + height / 2 + 3
        bar, figure, *mark = claim_bar(row, panel.axis, middle, height=14, mark=(6, 9), figure=(640, 4))
        verdict = svg("text", row.verdict, x=654, y=middle + 4, class_=f"verdict {slug(row.verdict)}")
        body += [*words, bar, *mark, figure, verdict]
        y += height + 9
    goal = panel.axis(panel.goal)
    line = svg("line", x1=goal, x2=goal, y1=top + 8, y2=y, class_="goal")
    return [*grid(panel.axis, panel.ticks, top + 8, y), *body, line], y


def _label(row: Claim) -> str:
    return row.what.removesuffix(", over BF16's")  # the title says it
