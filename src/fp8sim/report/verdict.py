"""The verdict as one picture in a file of its own: what FP8 leaves of BF16's, and how much faster it is."""

from __future__ import annotations

import html
from collections.abc import Sequence

from fp8sim.experiments.claims.verdicts import Claim, Meaning
from fp8sim.report.bars import LINE, claim_bar, label, measured_rows
from fp8sim.report.svg import Axis, asset, grid, slug, svg

__all__ = ["verdict_svg"]

_WIDTH, _MARGIN = 760, 16
_LABEL_CHARACTERS = 50  # that fit left of the bars
_FONT = 'svg { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }'
_NOTE = "Bar: measured or modelled. Diamond: published. Dashed: where bars would end if the sentence held."


# Meaning of the rows -> title, axis, its ticks, and where a bar would end if the sentence held.
_PANELS: dict[Meaning, tuple[str, Axis, tuple[tuple[float, str], ...], float]] = {
    "remainder": (
        "What FP8 leaves of BF16's",
        Axis(0.0, 1.1, 356, 590),
        ((0.0, "0"), (0.5, "half"), (1.0, "equal")),
        0.5,
    ),
    "speed-up": (
        "How much faster than BF16",
        Axis(1.0, 2.1, 356, 590),
        ((1.0, "equal"), (2.0, "twice")),
        2.0,
    ),
}


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
    body, words, y = [], [], 0.0
    for meaning, (title, *_) in _PANELS.items():
        if measured := measured_rows(rows, meaning):
            shapes, y = _panel(meaning, measured, y + 30)
            body += shapes
            bars = (f"{_label(row)} {row.figure(row.measured)} ({row.verdict})" for _, row in measured)
            words.append(f"{title}: {'; '.join(bars)}.")
    body.append(svg("text", _NOTE, x=_MARGIN, y=y + 26, class_="tick"))
    height, description = round(y + 42), " ".join(words)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="title text">',
            '<title id="title">Did FP8 halve it?</title>',
            f'<desc id="text">{html.escape(description)}</desc>',
            f"<style>\n{asset('pictures.css')}{_FONT}\n</style>",
            svg("rect", x=0.5, y=0.5, width=_WIDTH - 1, height=height - 1, rx=6, class_="ground"),
            *body,
            "</svg>\n",
        ]
    )


def _panel(meaning: Meaning, rows: Sequence[tuple[int, Claim]], top: float) -> tuple[list[str], float]:
    """Draw the rows of one meaning from `top` down, and return where they end."""
    title, axis, ticks, goal = _PANELS[meaning]
    body = [svg("text", title, x=_MARGIN, y=top, class_="name")]
    y = top + 12
    for number, row in rows:
        words = label(f"{number}. {_label(row)}", _MARGIN, y, _LABEL_CHARACTERS)
        height = LINE * len(words)
        middle = y + height / 2 + 3
        bar, figure, *mark = claim_bar(row, axis, middle, height=14, mark=(6, 9), figure=(640, 4))
        verdict = svg("text", row.verdict, x=654, y=middle + 4, class_=f"verdict {slug(row.verdict)}")
        body += [*words, bar, *mark, figure, verdict]
        y += height + 9
    end = axis(goal)
    line = svg("line", x1=end, x2=end, y1=top + 8, y2=y, class_="goal")
    return [*grid(axis, ticks, top + 8, y), *body, line], y


def _label(row: Claim) -> str:
    return row.what.removesuffix(", over BF16's")  # the title says it
