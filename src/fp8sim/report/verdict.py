"""The verdict as one picture in a file of its own: what FP8 leaves of BF16's."""

from __future__ import annotations

import html
from collections.abc import Sequence

from fp8sim.experiments.claims.row import QUESTIONS, Claim
from fp8sim.report.bars import LINE, claim_bar, label, left_text, saved_rows
from fp8sim.report.svg import Axis, grid, picture_style, slug, svg

__all__ = ["verdict_svg"]

_WIDTH, _MARGIN = 760, 16
_LABEL_CHARACTERS = 50  # that fit left of the bars
_FONT = 'svg { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }'
_NOTE = "Bar: counted or modelled. Diamond: measured by others. Dashed: one half."
_AXIS = Axis(0.0, 1.1, 356, 590)
_TICKS = ((0.0, "0"), (0.5, "half"), (1.0, "equal"))


def verdict_svg(rows: Sequence[Claim]) -> str:
    """Return the rows that say what FP8 leaves of BF16's as a self-contained SVG file.

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
    >>> from fp8sim.experiments.claims.rules import HALVED
    >>> row = Claim(name="weights", question="bytes", what="bytes of weights", basis="counted", measured=0.5,
    ...             unit="ratio", rule=HALVED, why="One byte.")
    >>> picture = verdict_svg([row])
    >>> picture[:4], picture.count("<rect"), "0.50" in picture
    ('<svg', 2, True)
    """
    body, words, y = [], [], 12.0
    shown = saved_rows(rows)
    for question, title in QUESTIONS.items():
        if chosen := [pair for pair in shown if pair[1].question == question]:
            shapes, y = _panel(title, chosen, y + 24)
            body += shapes
            bars = (f"{_label(row)} {left_text(row)} ({row.verdict})" for _, row in chosen)
            words.append(f"{title} {'; '.join(bars)}.")
    goal = svg("line", x1=_AXIS(0.5), x2=_AXIS(0.5), y1=34, y2=y, class_="goal")
    body += [goal, svg("text", _NOTE, x=_MARGIN, y=y + 26, class_="tick")]
    height, description = round(y + 42), " ".join(words)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="title text">',
            '<title id="title">Did FP8 halve it? What it leaves of BF16</title>',
            f'<desc id="text">{html.escape(description)}</desc>',
            f"<style>\n{picture_style()}{_FONT}\n</style>",
            svg("rect", x=0.5, y=0.5, width=_WIDTH - 1, height=height - 1, rx=6, class_="ground"),
            *grid(_AXIS, _TICKS, 30, y),
            *body,
            "</svg>\n",
        ]
    )


def _panel(title: str, rows: Sequence[tuple[int, Claim]], top: float) -> tuple[list[str], float]:
    """Draw the rows of one question from `top` down, and return where they end."""
    body = [svg("text", title, x=_MARGIN, y=top, class_="name")]
    y = top + 6
    for number, row in rows:
        words = label(f"{number}. {_label(row)}", _MARGIN, y, _LABEL_CHARACTERS)
        height = LINE * len(words)
        middle = y + height / 2 + 3
        drawn = claim_bar(row, _AXIS, middle, height=14, mark=(6, 9), figure=(640, 4))
        verdict = svg("text", row.verdict, x=654, y=middle + 4, class_=f"verdict {slug(row.verdict)}")
        body += [*words, *drawn, verdict]
        y += height + 9
    return body, y


def _label(row: Claim) -> str:
    of = row.what.partition(": ")[0] if row.unit == "times" else row.what  # a bar has no other model
    return of.removesuffix(", over BF16's")  # the title says it
