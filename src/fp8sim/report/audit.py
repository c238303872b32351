"""An audit as one self-contained HTML page: findings first, a heat map of layer by kind, tables that sort."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

from fp8sim._support.files import check_target, written
from fp8sim._support.quantities import bytes_text, percent_text
from fp8sim._support.text import printable
from fp8sim._support.web import asset, content_policy, embedded_json
from fp8sim.experiments.audit import Audit
from fp8sim.report.svg import picture_style
from fp8sim.report.tables import scrolled

__all__ = ["audit_page", "write_audit"]

_asset = partial(asset, "fp8sim.report")

_ROWS = 5000  # matrices in the page: the worst of them where there are more
_STEPS = 8  # shades of the heat map
_SHADE = 6.0  # dB of each: a bit
_BEST = 55.0  # dB, from which on a cell is the lightest


def audit_page(audit: Audit) -> str:
    """Return an audit as one HTML page that loads nothing else; all names in it are escaped.

    Examples
    --------
    >>> import tempfile, numpy as np, fp8sim
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"<b>.weight": np.ones((64, 64), np.float32)}, folder + "/model.safetensors")
    ...     page = audit_page(fp8sim.audit(folder, "mxfp8"))
    >>> "<b>" in page, "&lt;b&gt;.weight" in page, "https://" in page
    (False, True, False)
    """
    style, script = picture_style() + _asset("report.css") + _asset("audit.css"), _asset("audit.js")
    matrices = _by_matrix(audit)
    count = len({row["tensor"] for row in audit.rows})
    shown = f"{len(matrices)} of {count} matrices, worst first." if count else "There is no matrix."
    return Template(_asset("audit.html")).substitute(
        policy=content_policy([style], [script]),
        style=style,
        script=script,
        source=_text(audit.source),
        counts=_text(f"{count} matrices of {count + len(audit.kept)} tensors; layout {audit.layout}."),
        findings=_findings(audit),
        totals=scrolled(audit.total_table()),
        heat="\n".join(_heat(audit)),
        shown=shown,
        matrices=_matrices(audit, matrices),
        kept=_sortable(
            ["tensor", "shape", "stored as", "bytes", "why"],
            (
                [_cell(one["name"], head=True), _cell("x".join(map(str, one["shape"]))), _cell(one["format"]),
                 _cell(bytes_text(one["nbytes"]), one["nbytes"]), _cell(one["why"])]
                for one in audit.kept[:_ROWS]
            ),
        ),
        data=embedded_json({"source": audit.source, "totals": list(audit.totals)}),
    )  # fmt: skip


def write_audit(audit: Audit, path: str | Path) -> Path:
    """Write `audit_page` to a file: the whole page, or nothing.

    Examples
    --------
    >>> import tempfile, numpy as np, fp8sim
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"q.weight": np.ones((64, 64), np.float32)}, folder + "/model.safetensors")
    ...     write_audit(fp8sim.audit(folder, "mxfp8"), folder + "/audit.html").name
    'audit.html'
    """
    target = check_target(path, "audit.html")
    page = audit_page(audit)
    with written(path, "w", encoding="utf-8", errors="xmlcharrefreplace", newline="\n") as stream:
        stream.write(page)
    return target


def _text(text: str) -> str:
    return html.escape(printable(text))


def _findings(audit: Audit) -> str:
    if not audit.findings:
        return ""
    rows = (
        [_cell(one.tensor, head=True), _cell(one.kind), _cell(one.text), _cell(one.advice)]
        for one in audit.findings[:_ROWS]
    )
    table = _sortable(["tensor", "kind", "what was found", "what to do"], rows)
    return (
        '<section id="findings" aria-labelledby="findings-title"><h2 id="findings-title">'
        f"Findings: {len(audit.findings)}</h2>{table}</section>"
    )


def _by_matrix(audit: Audit) -> list[list[dict[str, Any]]]:
    """Return the rows of each matrix, those that lose most first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in audit.rows:
        found.setdefault(row["tensor"], []).append(row)
    worst = sorted(found, key=lambda name: (-max(row["error"] or 0 for row in found[name]), name))
    return [found[name] for name in worst[:_ROWS]]


def _matrices(audit: Audit, matrices: Sequence[list[dict[str, Any]]]) -> str:
    heads = ["matrix", "shape", "stored as", "bytes", "octaves", *(f"{name} dB" for name in audit.recipes)]
    heads += [f"{name} flushed" for name in audit.recipes]

    def cells(rows: list[dict[str, Any]]) -> Iterable[str]:
        first = rows[0]
        yield _cell(first["tensor"], head=True)
        yield _cell("x".join(map(str, first["shape"])))
        yield _cell(f"{first['format']} {first['granularity']}".strip())
        yield _cell(bytes_text(first["stored_nbytes"]), first["stored_nbytes"])
        yield _number(first["spread_octaves"], ".1f")
        for row in rows:
            yield _number(row["sqnr_db"], ".1f")
        for row in rows:
            flushed = row["flushed"]
            yield _cell("-" if flushed is None else percent_text(flushed), flushed)

    return _sortable(heads, map(cells, matrices))


def _sortable(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(
        f'<th scope="col"><button class="sort" type="button">{_text(text)}</button></th>' for text in heads
    )
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="sortable">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(text: str, value: float | None = None, *, head: bool = False) -> str:
    if head:
        return f'<th scope="row">{_text(text)}</th>'
    number = "" if value is None else f' class="figure" data-value="{value!r}"'
    return f"<td{number}>{_text(text)}</td>"


def _number(value: float | None, spec: str) -> str:
    return _cell("-") if value is None else _cell(format(value, spec), 1e9 if value == math.inf else value)


def _heat(audit: Audit) -> Iterable[str]:
    """Yield a map for each recipe: kinds down, layers across, the worst of each."""
    layers = sorted({-1 if row["layer"] is None else row["layer"] for row in audit.rows})
    for number, recipe in enumerate(audit.recipes):
        cells: dict[str, dict[int, float]] = {}
        for row in audit.rows:
            if row["recipe"] == recipe and row["sqnr_db"] is not None:
                layer = -1 if row["layer"] is None else row["layer"]
                kinds = cells.setdefault(row["kind"], {})
                kinds[layer] = min(kinds.get(layer, math.inf), row["sqnr_db"])
        if not cells:
            continue
        head = "".join(f'<th scope="col">{"-" if layer < 0 else layer}</th>' for layer in layers)
        body = "\n".join(
            f'<tr><th scope="row">{_text(kind)}</th>{"".join(_shade(found.get(x)) for x in layers)}</tr>'
            for kind, found in cells.items()
        )
        label = f"{_text(recipe)}: kinds of matrices down, layers across"
        yield (
            f'<details{" open" * (number == 0)}><summary>{_text(recipe)}</summary><div class="scroll" '
            f'tabindex="0" role="region" aria-label="{label}"><table><thead><tr><th scope="col">kind</th>'
            f"{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
        )


def _shade(decibels: float | None) -> str:
    if decibels is None:
        return "<td></td>"
    step = min(max(int((_BEST - decibels) / _SHADE), 0), _STEPS - 1) if math.isfinite(decibels) else 0
    step = _STEPS - 1 if decibels == -math.inf else step
    return f'<td class="heat-{step}">{decibels:.1f}</td>'
