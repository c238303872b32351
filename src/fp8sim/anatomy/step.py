"""One fused step taken apart, and how it reads: each term's bits before and after the cut, and the sum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import Any, NamedTuple

from fp8sim._support.page import WIDTH, Line, Page, Span, prose
from fp8sim._support.quantities import number_text, power_text, signed_percent_text, signed_text
from fp8sim._support.results import Result, members
from fp8sim.tensor_cores import LAWS, TensorCore

__all__ = ["StepAnatomy", "Term", "error_text", "range_text"]

_OUTPUTS: dict[str, str] = {
    "fp32-rz": "truncated to FP32",
    "e8m13-rz": "truncated to FP32 with 13 fraction bits",
    "fp16-rne": "rounded to FP16, to nearest even",
    "fp32-rne": "rounded to FP32, to nearest even",
}


class Term(NamedTuple):
    """A product, a group of products or the accumulator, aligned; bits are signed magnitudes."""

    first: int  #: first k of the products in it; -1 for the accumulator
    last: int
    a: float | None  #: factors, where it is one product
    b: float | None
    value: float
    exponent: (
        int | None
    )  #: sum of the factors' (a group: its scales') exponents; None where it does not count
    kept: str  #: such as ``+1.0100000000000``, in units of 2^top; empty for laws that cut off no term
    lost: str  #: the bits after those of `kept` to the last 1; empty if nothing falls off
    kept_value: float
    lost_value: float


@dataclass(frozen=True, repr=False)
class StepAnatomy(Result):
    """One fused step of a tensor core; part of a `DotAnatomy`."""

    core: TensorCore  #: how it sums
    first: int  #: the first k
    last: int
    top: int  #: the largest of the terms' exponents, to which a law that is "truncated" aligns them
    terms: tuple[Term, ...]  #: products in order of k, or groups of them where the core sums groups exactly
    carried: Term  #: the accumulator as it comes in
    total: float  #: exact sum of what is kept
    total_bits: str  #: the same in the notation of `Term.kept`
    output: float  #: the accumulator as it goes out
    exact_products: Fraction  #: exact sum of the products; 0 where one is not finite
    finite: bool  #: whether all terms are

    @property
    def exact(self) -> float:
        """Exact sum of the products and of the accumulator that came in, as the nearest float64."""
        return float(self.exact_products + Fraction(self.carried.value)) if self.finite else self.output

    @property
    def cut_off(self) -> float:
        """Sum of what fell off in the alignment."""
        return math.fsum(term.lost_value for term in (*self.terms, self.carried))

    @property
    def rounded_off(self) -> float:
        """What the rounding to the output took away; all that was lost, of a law other than "truncated"."""
        return self.total - self.output if math.isfinite(self.output) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            **members(self, "first last"),
            "alignment_exponent": self.top,
            "terms": [term._asdict() for term in self.terms],
            "accumulator": self.carried._asdict(),
            "sum": self.total,
            "sum_bits": self.total_bits,
            **members(self, "output exact cut_off rounded_off"),
        }

    def parts(self) -> list[Page]:
        """Return a page of its `lines`."""
        return [Page(self.lines())]

    def lines(self) -> list[Line]:
        """Return a table of the terms, aligned at the point where they are cut off there, and the output."""
        core = self.core
        rows = self._rows()
        out = f"{number_text(self.output)}, {_OUTPUTS[core.output]}{error_text(self.output, self.exact)}"
        if core.law != "truncated":
            return [*_plain(self, rows), *prose("output", out)]
        last_place = power_text(2.0 ** (self.top - core.fraction_bits))
        lines: list[Line] = [
            [Span(f"k = {range_text(self.first, self.last, ' to ')}: ", "title"), Span(_alignment(self))],
            [Span(f"Last place kept: {last_place}; what is below it is cut off, toward zero.")],
        ]
        if core.scale_format:
            lines.append([Span("Products are taken times the scales of their blocks.")])
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
            bar = Span(" │" if cut else "")
            lines.append([start, *_kept(row.kept, whole, width), bar, Span(cut, "lost")])
        return [*lines, *prose("output", out)]

    def _rows(self) -> list[_Row]:
        """Return the rows of the table: one for each run of equal terms, and the sum."""
        same = groupby([*self.terms, self.carried], key=lambda term: (term.first < 0, *term[2:5]))
        return [
            *(_row(list(run)) for _, run in same),
            _Row("sum", "", number_text(self.total, 7), self.total_bits, ""),
        ]


class _Row(NamedTuple):
    """One row of a step's table."""

    label: str
    factors: str
    value: str
    kept: str
    lost: str


def _plain(step: StepAnatomy, rows: list[_Row]) -> list[Line]:
    """Tell a step whose terms are not cut off below one exponent: the law, the terms and their exact sum."""
    lines = [
        [Span(f"k = {range_text(step.first, step.last, ' to ')}", "title")],
        *prose("law", LAWS[step.core.law]),
    ]
    label, factors = max(len(row.label) for row in rows), max(5, *(len(row.factors) for row in rows))
    value = max(7, *(len(row.value) for row in rows))
    lines.append([Span(f"{'k':>{label}}  {'a x b':{factors}}  {'product':>{value}}", "dim")])
    for row in rows:
        if row.label == "sum":
            lines.append([Span(" " * (label + factors + 4) + "─" * value, "dim")])
        note = "  exact" if row.label == "sum" else ""
        lines.append([Span(f"{row.label:>{label}}  {row.factors:{factors}}  {row.value:>{value}}{note}")])
    return lines


def _alignment(step: StepAnatomy) -> str:
    """Say whose exponent everything is aligned to."""
    largest = [term for term in (*step.terms, step.carried) if term.exponent == step.top]
    if not largest:
        return f"aligned to 2^{step.top}, the least there is"
    term = largest[0]
    whose = "that of the sum so far" if term.first < 0 else f"that of k = {range_text(term.first, term.last)}"
    return f"aligned to 2^{step.top}, the largest exponent, {whose}"


def _row(terms: list[Term]) -> _Row:
    first, last = terms[0], terms[-1]
    label, factors = range_text(first.first, last.last), "group" + "s" * (len(terms) > 1)
    if first.first < 0:
        label, factors = "c", "so far"
    elif first.a is not None and first.b is not None:
        factors = f"{number_text(first.a, 6)} x {number_text(first.b, 6)}"
    return _Row(label, factors, number_text(first.value, 6), first.kept, first.lost)


def range_text(first: int, last: int, to: str = "-") -> str:
    """Write which k a term or a step takes.

    Examples
    --------
    >>> range_text(0, 31), range_text(4, 4)
    ('0-31', '4')
    """
    return str(first) if first == last else f"{first}{to}{last}"


def _kept(bits: str, whole: int, width: int) -> Line:
    """Align at the point, with the bits from the first 1 on in colour."""
    padded = " " * (whole - len(bits.partition(".")[0])) + bits
    leading = padded.find("1")
    if leading < 0:
        return [Span(f"{padded:{width}}", "dim")]
    return [Span(padded[:leading], "dim"), Span(padded[leading:], "mantissa")]


def error_text(total: float, exact: float) -> str:
    """Say how far a sum is from the exact one.

    Examples
    --------
    >>> error_text(255.5, 256.0)
    '; exact 256, error -0.5 (-0.195 %)'
    """
    if not (math.isfinite(total) and math.isfinite(exact)):
        return ""
    if total == exact:
        return "; nothing is lost"
    share = f" ({signed_percent_text((total - exact) / abs(exact))})" if exact else ""
    return f"; exact {number_text(exact)}, error {signed_text(total - exact)}{share}"
