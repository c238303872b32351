"""The report: one self-contained HTML page with the verdicts, pictures and the page to touch."""

from __future__ import annotations

import html
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from string import Template

from fp8sim._support.files import check_target, written
from fp8sim._support.quantities import ratio_text
from fp8sim._support.web import asset, content_policy, embedded_json, framed
from fp8sim.experiments.claims import QUESTIONS, Claim, Claims
from fp8sim.experiments.claims.row import Question
from fp8sim.experiments.claims.rules import Verdict
from fp8sim.experiments.claims.sentence import SEEDS
from fp8sim.experiments.comparison import Comparison
from fp8sim.play import play
from fp8sim.play.page import page_sources
from fp8sim.report import pictures
from fp8sim.report.svg import picture_style, slug
from fp8sim.report.tables import scrolled

__all__ = ["html_report", "write_report"]

_asset = partial(asset, "fp8sim.report")

#: verdict -> a sign that says it without colour.
_SIGNS: dict[Verdict, str] = {"holds": "✓", "partly": "◐", "does not hold": "✗", "not measured": "?"}

#: words of the sentence -> the question that they raise.
_PHRASES: dict[str, Question] = {
    "floating point 16": "format",
    "halved": "bytes",
    "computational requirements": "time",
    "without sacrificing accuracy": "accuracy",
}


def html_report(result: Claims, comparison: Comparison | None = None, *, data: str = "") -> str:
    """Return the report as one HTML page that loads nothing else.

    Its content security policy allows the page's own style and script, by their hashes, and no
    request to anywhere. The figures stand in it as JSON too, in the element ``report-data``.

    Parameters
    ----------
    result : Claims
        What `claims` returned.
    comparison : Comparison, optional
        Recipes on one product, for one picture more.
    data : str
        In words, what was multiplied in `comparison`.

    Returns
    -------
    str
        The page; the same input gives the same text.

    Examples
    --------
    >>> import fp8sim
    >>> page = html_report(fp8sim.claims())
    >>> page[:15], "https://" in page
    ('<!DOCTYPE html>', False)
    """
    style = picture_style() + _asset("report.css")
    play_style, play_script = page_sources()
    sources = list(dict.fromkeys(row.source for row in result.rows if row.source))
    answers, numbered = result.answers, list(enumerate(result.rows, 1))
    by_question = {name: [pair for pair in numbered if pair[1].question == name] for name in QUESTIONS}
    groups = [
        _group(question, answers.get(words, ""), by_question[question], sources)
        for question, words in QUESTIONS.items()
    ]
    return Template(_asset("report.html")).substitute(
        policy=content_policy([style, play_style], [play_script]),
        style=style,
        play=framed(play().html, "fp8sim play", 'class="play"'),
        title=html.escape(" ".join(["fp8sim claims:", *result.bottom_line[:1]])),
        sentence=_annotated(result.sentence),
        summary="\n".join(f'<p class="summary">{html.escape(words)}</p>' for words in result.bottom_line),
        answers=_definitions(answers.items()),
        verdicts="\n".join(groups),
        scales="\n".join(scrolled(table) for table in result.rounding_tables()),
        pictures="\n".join(_pictures(result, comparison, data)),
        sources="\n".join(_source(i, source, result.rows) for i, source in enumerate(sources, 1)),
        setting=_definitions(_setting(result)),
        environment=_definitions(result.environment.items()),
        data=embedded_json({"claims": result.to_dict()}),
    )


def write_report(
    result: Claims, path: str | Path, comparison: Comparison | None = None, *, data: str = ""
) -> Path:
    """Write `html_report` to a file: the whole page, or nothing.

    Parameters
    ----------
    result, comparison, data
        As for `html_report`.
    path : str or Path
        The file; one that exists is replaced once the new page is complete.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    FileNotFoundError, ValueError, PermissionError, OSError
        As `check_target`, or if the disk is full; what was there before is still there then.

    Examples
    --------
    >>> import tempfile
    >>> import fp8sim
    >>> result = fp8sim.claims()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_report(result, Path(folder) / "report.html")
    ...     file.name, file.stat().st_size > 50_000
    ('report.html', True)
    """
    target = check_target(path)
    page = html_report(result, comparison, data=data)
    with written(path, "w", encoding="utf-8", errors="xmlcharrefreplace", newline="\n") as stream:
        stream.write(page)
    return target


def _annotated(sentence: str) -> str:
    """Return the sentence, its phrases links to the questions that they raise."""
    pieces, rest = [], sentence
    for phrase, question in _PHRASES.items():
        before, found, after = rest.partition(phrase)
        if found:
            pieces += [html.escape(before), f'<a class="part" href="#{question}">{html.escape(found)}</a>']
            rest = after
    return "".join([*pieces, html.escape(rest)])


def _group(question: Question, answer: str, rows: list[tuple[int, Claim]], sources: list[str]) -> str:
    head = (
        f'<tbody role="rowgroup" id="{question}"><tr role="row" class="part-row">'
        '<th role="rowheader" scope="rowgroup" colspan="6">'
        f"{html.escape(QUESTIONS[question])} <small>{html.escape(answer)}</small></th></tr>"
    )
    return "\n".join([head, *(_row(number, row, sources) for number, row in rows), "</tbody>"])


def _row(number: int, row: Claim, sources: list[str]) -> str:
    escape = html.escape
    agreement = "-" if row.agreement is None else ratio_text(row.agreement)
    note = sources.index(row.source) + 1 if row.source else None
    link = f' <a class="note" href="#source-{note}" aria-label="source {note}">[{note}]</a>' if note else ""
    apart = "*" * (not row.comparable)
    sign = f'<span aria-hidden="true">{_SIGNS[row.verdict]}</span>'
    spread = "" if row.range is None else f" ({' to '.join(map(row.figure, row.range))} over seeds)"
    return (
        f'<tr role="row" id="row-{number}"><td role="cell" class="number">{number}</td>'
        f'<th role="rowheader" scope="row">{escape(row.what)}<p>{escape(row.why)}{escape(spread)}</p>'
        f"<p>Rule: {escape(row.ruling)}</p></th>"
        f'<td role="cell" data-label="ours">{escape(row.figure(row.measured))}</td>'
        f'<td role="cell" data-label="published">{escape(row.figure(row.published))}{apart}{link}</td>'
        f'<td role="cell" data-label="agreement">{agreement}</td>'
        f'<td role="cell" class="verdict {slug(row.verdict)}">{sign} {escape(row.verdict)}</td></tr>'
    )


def _pictures(result: Claims, comparison: Comparison | None, data: str) -> Iterable[str]:
    drawings = (
        pictures.bar_picture(result.rows),
        pictures.agreement_picture(result.rows),
        None if comparison is None else pictures.recipe_picture(comparison, data),
        pictures.error_picture(),
        pictures.number_line_picture(),
    )
    return (picture.html() for picture in drawings if picture is not None)


def _source(index: int, source: str, rows: tuple[Claim, ...]) -> str:
    numbers = [n for n, row in enumerate(rows, 1) if row.source == source]
    links = ", ".join(f'<a href="#row-{n}">{n}</a>' for n in numbers)
    return f'<li id="source-{index}">{html.escape(source)} (row{"s" * (len(numbers) > 1)} {links})</li>'


def _setting(result: Claims) -> Iterable[tuple[str, str]]:
    yield "times modelled on", f"{result.device}: roofline at dense peak rates"
    yield "seeds", f"{result.seed} to {result.seed + SEEDS - 1}; the figures are of the first"
    for i, source in enumerate(result.data, 1):
        yield f"data {i}", source


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(
        f"<div><dt>{html.escape(str(term))}</dt><dd>{html.escape(str(text))}</dd></div>"
        for term, text in pairs
    )
