"""How the anatomy of a dot product shows: one step in full, then the running sum and promotions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from fp8sim._support.quantities import number_text, power_text, signed_percent_text, signed_text
from fp8sim.anatomy.page import WIDTH, Line, Page, Span, prose

if TYPE_CHECKING:
    from fp8sim.anatomy.dot import DotAnatomy
    from fp8sim.anatomy.step import StepAnatomy, Term

__all__ = ["dot_page", "step_page"]

_OUTPUTS: dict[str, str] = {
    "fp32-rz": "truncated to FP32",
    "e8m13-rz": "truncated to FP32 with 13 fraction bits",
    "fp16-rne": "rounded to FP16, to nearest even",
}
_IN_FULL = 2  # steps of a chain that are shown in full; of a longer one, that which lost the most
_ENDS = 10  # rows of the running sum at each end of a long chain


class _Row(NamedTuple):
    """One row of a step's table."""

    label: str
    factors: str
    value: str
    kept: str
    lost: str


def dot_page(dot: DotAnatomy) -> Page:
    """Lay out a dot product.

    Examples
    --------
    >>> from fp8sim.anatomy import explain_dot
    >>> print(dot_page(explain_dot([1.5] * 40, [2.0] * 40)).text().splitlines()[0])
    40 products of e4m3 and e4m3 on hopper-fp8, 32 a step
    """
    core, steps = dot.core, dot.steps
    formats = f"{dot.a_format} and {dot.b_format}"
    title = f"{dot.k} product{'s' * (dot.k > 1)} of {formats} on {core.name}, {core.step} a step"
    lines: list[Line] = [[Span(title, "title")], []]
    shown: Sequence[StepAnatomy] = steps
    if len(steps) > _IN_FULL:
        shown = [max(steps, key=lambda step: abs(step.exact - step.output))]
        lines += [[Span("The step that lost the most:")], []]
    for step in shown:
        lines += [*step_page(step), []]
    if len(steps) == 1 and not dot.promotions:
        return Page(lines[:-1])
    lines += [*_running(dot), []]
    lines.append([Span(f"  {'result':9} {number_text(dot.result)}{_error(dot.result, dot.exact)}")])
    return Page(lines)


def step_page(step: StepAnatomy) -> list[Line]:
    """Lay out one fused step.

    Examples
    --------
    >>> from fp8sim.anatomy import explain_dot
    >>> dot = explain_dot([8, 0.25], [8, 0.0625])
    >>> print("".join(span.text for span in step_page(dot.steps[0])[2]))
      k  a x b             product  14 bits kept       fell off
    """
    core = step.core
    last_place = power_text(2.0 ** (step.top - core.fraction_bits))
    lines: list[Line] = [
        [Span(f"k = {_range(step.first, step.last, ' to ')}: ", "title"), Span(_alignment(step))],
        [Span(f"Last place kept: {last_place}; what is below it is cut off, toward zero.")],
    ]
    if core.scale_format:
        lines.append([Span("Products are taken times the scales of their blocks.")])
    rows = [_row(terms) for terms in _runs([*step.terms, step.carried])]
    rows.append(_Row("sum", "", number_text(step.total, 7), step.total_bits, ""))
    label, factors = max(len(row.label) for row in rows), max(5, *(len(row.factors) for row in rows))
    value = max(7, *(len(row.value) for row in rows))
    whole = max(len(row.kept.partition(".")[0]) for row in rows)
    width = whole + 1 + core.fraction_bits
    room = max(4, WIDTH - (label + factors + value + width + 8))
    head = f"{'k':>{label}}  {'a x b':{factors}}  {'product':>{value}}"
    bits = f"{core.fraction_bits + 1} bits kept"
    lines.append([Span(f"{head}  {bits:{width}}" + "  fell off" * (room >= 8), "dim")])
    for row in rows:
        if row.label == "sum":
            lines.append([Span(" " * (label + factors + 4) + "─" * (value + 2 + width), "dim")])
        start = Span(f"{row.label:>{label}}  {row.factors:{factors}}  {row.value:>{value}}  ")
        cut = row.lost if len(row.lost) <= room else row.lost[: room - 1] + "…"
        lines.append([start, *_kept(row.kept, whole, width), Span(" │" if cut else ""), Span(cut, "lost")])
    out = f"{number_text(step.output)}, {_OUTPUTS[core.output]}{_error(step.output, step.exact)}"
    return [*lines, *prose("output", out)]


def _alignment(step: StepAnatomy) -> str:
    """Say whose exponent everything is aligned to."""
    largest = [term for term in (*step.terms, step.carried) if term.exponent == step.top]
    if not largest:
        return f"aligned to 2^{step.top}, the least there is"
    term = largest[0]
    whose = "that of the sum so far" if term.first < 0 else f"that of k = {_range(term.first, term.last)}"
    return f"aligned to 2^{step.top}, the largest exponent, {whose}"


def _runs(terms: list[Term]) -> Iterator[list[Term]]:
    """Yield runs of equal products, each to be shown in one row."""
    for _, run in groupby(terms, key=lambda term: (term.first < 0, term.a, term.b, term.value)):
        yield list(run)


def _row(terms: list[Term]) -> _Row:
    """Make the row of a run of equal terms."""
    first, last = terms[0], terms[-1]
    label, factors = _range(first.first, last.last), "group" + "s" * (len(terms) > 1)
    if first.first < 0:
        label, factors = "c", "so far"
    elif first.a is not None and first.b is not None:
        factors = f"{number_text(first.a, 6)} x {number_text(first.b, 6)}"
    return _Row(label, factors, number_text(first.value, 6), first.kept, first.lost)


def _range(first: int, last: int, to: str = "-") -> str:
    return str(first) if first == last else f"{first}{to}{last}"


def _kept(bits: str, whole: int, width: int) -> Line:
    """Align at the point, with the bits from the first 1 on in colour."""
    padded = " " * (whole - len(bits.partition(".")[0])) + bits
    leading = padded.find("1")
    if leading < 0:
        return [Span(f"{padded:{width}}", "dim")]
    return [Span(padded[:leading], "dim"), Span(padded[leading:], "mantissa")]


def _error(found: float, exact: float) -> str:
    """Say how far a sum is from the exact one."""
    if not (math.isfinite(found) and math.isfinite(exact)):
        return ""
    if found == exact:
        return "; nothing is lost"
    share = f" ({signed_percent_text((found - exact) / abs(exact))})" if exact else ""
    return f"; exact {number_text(exact)}, error {signed_text(found - exact)}{share}"


def _running(dot: DotAnatomy) -> Iterator[Line]:
    """Yield the sum after every step, and what promotion adds where."""
    promoted = {promotion.last: promotion for promotion in dot.promotions}
    steps, places = dot.steps, max(4, *(len(_range(step.first, step.last)) for step in dot.steps))
    head = f"{'step':>6}  {'k':>{places}}  {'aligned to':>10}  {'cut off':>12}  {'sum':>12}"
    yield [Span(head + f"     {'FP32 sum':>12}" * bool(promoted), "dim")]
    for number, step in enumerate(steps):
        if len(steps) > 2 * _ENDS + 1 and _ENDS <= number < len(steps) - _ENDS:
            if number == _ENDS:
                yield [Span(f"{'...':>6}  {len(steps) - 2 * _ENDS} steps more", "dim")]
            continue
        k, top = _range(step.first, step.last), f"2^{step.top}"
        cut, total = signed_text(step.cut_off), number_text(step.output)
        line: Line = [Span(f"{number + 1:>6}  {k:>{places}}  {top:>10}  {cut:>12}  {total:>12}")]
        if promotion := promoted.get(step.last):
            line += [Span("  -> "), Span(f"{number_text(promotion.after):>12}", "chosen")]
        yield line
    if promoted:
        text = f"Every {dot.promote_every} products the sum is added in FP32, to nearest, and starts anew."
        yield [Span(text)]
