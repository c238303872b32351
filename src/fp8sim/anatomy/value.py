"""One number in a format, and how it reads: fields of bits, a number line, the formats side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fp8sim._support import checks
from fp8sim._support.page import WIDTH, Line, Page, Span, prose
from fp8sim._support.quantities import full_text, number_text, power_text, signed_percent_text, signed_text
from fp8sim._support.results import Result, members
from fp8sim.anatomy.neighbours import FIELDS, Bits, Neighbour, Place
from fp8sim.anatomy.reasons import Fate
from fp8sim.formats import FloatFormat, FormatLike, get_format

__all__ = ["ValueAnatomy", "ValueInFormats"]

_INDENT = 12
_LINE = 56  # columns of the number line


@dataclass(frozen=True, repr=False)
class ValueAnatomy(Result):
    """One number in one format, bit by bit; made by `explain`."""

    given: float  #: the number, as float64 holds it
    fmt: FloatFormat
    rounding: str
    overflow: str  #: what the format does with too large a number
    value: float  #: what it became
    code: int  #: the bits of that
    bits: Bits  #: the same by field: sign, exponent and mantissa, each a string of 0 and 1
    place: Place  #: the values below and above, the midpoint between them, and their distance
    fate: Fate  #: ``exact``, ``rounded``, ``flushed`` (to zero), ``saturated``, ``overflowed`` or ``nan``
    why: str  #: why it became that, in a sentence or two

    @property
    def below(self) -> Neighbour | None:
        """The largest value of the format below the number."""
        return self.place.below

    @property
    def above(self) -> Neighbour | None:
        """The smallest value of the format above the number."""
        return self.place.above

    @property
    def midpoint(self) -> float | None:
        """Half way between the two, where roundings to nearest change their mind."""
        return self.place.midpoint

    @property
    def error(self) -> float:
        """``value - given``; NaN or infinity where one of them is."""
        if not (math.isfinite(self.value) and math.isfinite(self.given)):
            return self.value - self.given if self.value != self.given else 0.0
        return float(Fraction(self.value) - Fraction(self.given))

    @property
    def relative_error(self) -> float:
        """``(value - given) / |given|``; NaN where the given number is zero or not finite."""
        if self.given == 0 or not math.isfinite(self.given):
            return 0.0 if self.value == self.given else math.nan
        return self.error / abs(self.given)

    def parts(self) -> list[Page]:
        """Return a page: the bits and what they mean, a number line, the reason and the error."""
        lines: list[Line] = [[Span(part, "title")] for part in textwrap.wrap(_title(self), WIDTH)]
        lines += [[], _became(self), [], *_fields(self), [], *_number_line(self)]
        if math.isfinite(self.given):
            lines += [*_neighbours(self), []]
        lines += prose("why", self.why)
        lines += prose("error", _error(self))
        return [Page(lines)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        place = self.place
        return {
            "given": self.given,
            "format": self.fmt.name,
            **members(self, "rounding overflow value code"),
            "sign_bit": self.bits.sign,
            "exponent_bits": self.bits.exponent,
            "mantissa_bits": self.bits.mantissa,
            "below": place.below and place.below.to_dict(),
            "above": place.above and place.above.to_dict(),
            **members(place, "midpoint step"),
            **members(self, "error relative_error fate why"),
        }


@dataclass(frozen=True, repr=False)
class ValueInFormats(Result):
    """One number in several formats side by side; made by `explain`."""

    given: float
    anatomies: tuple[ValueAnatomy, ...]

    def __getitem__(self, fmt: FormatLike) -> ValueAnatomy:
        """Return the anatomy in one of the formats."""
        return checks.lookup(
            get_format(fmt).name, {a.fmt.name: a for a in self.anatomies}, "format of this anatomy"
        )

    def parts(self) -> list[Page]:
        """Return a page: a table of the formats, then the reasons."""
        names = max(6, *(len(v.fmt.name) for v in self.anatomies))
        width = max(4, *(len(str(v.bits)) for v in self.anatomies))
        head = f"{'format':{names}}  {'bits':{width}}  {'becomes':>12}  {'error':>9}  {'step':>5}"
        title = f"{full_text(self.given)}, {self.anatomies[0].rounding}"
        lines: list[Line] = [[Span(title, "title")], [], [Span(head, "dim")]]
        for v in self.anatomies:
            pad = " " * (width - len(str(v.bits)))
            relative = "0" if v.error == 0 else _relative(v)
            step = "-" if math.isnan(v.place.step) else power_text(v.place.step).split(" ")[0]
            after = Span(f"{pad}  {number_text(v.value):>12}  {relative:>9}  {step:>5}")
            lines.append([Span(f"{v.fmt.name:{names}}  "), *v.bits.spans(), after])
        lines.append([])
        for v in self.anatomies:
            lines += prose(v.fmt.name, v.why, indent=max(_INDENT, names + 4))
        return [Page(lines)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"given": self.given, "formats": [a.to_dict() for a in self.anatomies]}


def _title(v: ValueAnatomy) -> str:
    fmt = v.fmt
    fields = f"{fmt.exponent_bits} exponent (bias {fmt.bias}) and {fmt.mantissa_bits} mantissa bits"
    return f"{full_text(v.given)} in {fmt}: {'1 sign, ' if fmt.signed else 'unsigned, '}{fields}"


def _became(v: ValueAnatomy) -> Line:
    spans = [Span("  becomes   "), Span(number_text(v.value), "chosen")]
    if math.isfinite(v.value):
        spans.append(Span(f" = {_binary(v)}"))
    spans.append(Span(f", code {v.code:#0{2 + -(-v.fmt.bits // 4)}x}"))
    return spans


def _is_subnormal(v: ValueAnatomy) -> bool:
    return v.fmt.zero and "1" not in v.bits.exponent


def _exponent(v: ValueAnatomy) -> int:
    assert v.fmt.bias is not None
    return v.fmt.emin if _is_subnormal(v) else int(v.bits.exponent, 2) - v.fmt.bias


def _binary(v: ValueAnatomy) -> str:
    lead = "0" if _is_subnormal(v) else "1"
    fraction = f".{v.bits.mantissa}" if v.bits.mantissa else ""
    sign = "-" if v.bits.sign == "1" else "+" if v.bits.sign else ""
    return f"{sign}{lead}{fraction} x 2^{_exponent(v)}"


def _fields(v: ValueAnatomy) -> Iterator[Line]:
    """Yield the bits, and a branch from each field to what it means."""
    yield [Span(" " * _INDENT), *v.bits.spans()]
    shown = [item for item in zip(v.bits, FIELDS, _meanings(v), strict=True) if item[0]]
    starts = [sum(len(bits) + 1 for bits, *_ in shown[:i]) for i in range(len(shown))]
    end = min(24, max(starts) + 6)
    for index in reversed(range(len(shown))):
        stem = list(" " * end)
        for start in starts[:index]:
            stem[start] = "│"
        branch = "└" + "─" * (end - starts[index] - 2) + " "
        stem[starts[index] :] = branch
        bits, field, what = shown[index]
        text = what if len(bits) > 10 else f"{bits}: {what}"
        yield [Span(" " * _INDENT + "".join(stem)), Span(str(field), field), Span(f" {text}")]


def _meanings(v: ValueAnatomy) -> tuple[str, str, str]:
    """Say what sign, exponent and mantissa mean."""
    sign = "-" if v.bits.sign == "1" else "+"
    if not math.isfinite(v.value):
        what = "NaN" if math.isnan(v.value) else "infinity"
        alone = what if not v.fmt.mantissa_bits else f"with this mantissa, {what}"
        return sign, alone, f"with this exponent, {what}"
    bits, size = v.bits.mantissa, 2**v.fmt.mantissa_bits
    steps = int(bits, 2) if bits else 0
    if _is_subnormal(v):
        return sign, f"subnormal, {v.fmt.emin}", f"0 + {steps}/{size} = {number_text(steps / size)}"
    exponent = f"{int(v.bits.exponent, 2)} - {v.fmt.bias} = {_exponent(v)}"
    exponent = exponent.replace("- -", "+ ")
    return sign, exponent, f"1 + {steps}/{size} = {number_text(1 + steps / size)}"


def _number_line(v: ValueAnatomy) -> Iterator[Line]:
    """Draw the two neighbours, the midpoint, and where the number lies between them."""
    place = v.place
    if place.midpoint is None or place.below is None or place.above is None:
        return
    low, high, half = place.below.value, place.above.value, _LINE // 2
    at = min(_LINE - 1, max(1, round((v.given - low) / (high - low) * _LINE)))
    if at == half and v.given != place.midpoint:  # beside the midpoint, not on it
        at += 1 if v.given > place.midpoint else -1
    ruler = list("├" + "─" * (_LINE - 1) + "┤")
    ruler[half] = "┼"
    middle = f"{number_text(place.midpoint)} midpoint"
    left, right = number_text(low), number_text(high)
    head = left.ljust(_LINE + 1)
    start = half - len(number_text(place.midpoint)) // 2
    head = (head[:start].ljust(start) + middle).ljust(_LINE + 1 - len(right)) + right
    margin = " " * _INDENT
    yield [Span(margin + head)]
    yield [
        Span(margin + "".join(ruler[:at])),
        Span("●", "chosen"),
        Span("".join(ruler[at + 1 :])),
    ]
    label = full_text(v.given)
    yield [Span(margin + " " * max(0, at - len(label) // 2) + label, "chosen")]
    yield []


def _neighbours(v: ValueAnatomy) -> Iterator[Line]:
    width = len(str(v.bits)) + 2
    for label, neighbour in (("below", v.place.below), ("above", v.place.above)):
        if neighbour is None:
            yield [Span(f"  {label:10}"), Span(_no_neighbour(v), "dim")]
            continue
        taken = neighbour.value == v.value and v.fate != "exact"
        head = Span(f"  {label}  {'->' if taken else '  '} ", "chosen" if taken else "")
        gap = signed_text(neighbour.value - v.given)
        number = Span(f"{number_text(neighbour.value):<14} {gap:>12}", "chosen" if taken else "")
        if neighbour.bits is None:
            yield [head, Span(f"{'no code':{max(width, 9)}}", "dim"), number]
            continue
        pad = " " * (max(width, 9) - len(str(neighbour.bits)))
        yield [head, *neighbour.bits.spans(), Span(pad), number]


def _no_neighbour(v: ValueAnatomy) -> str:
    if abs(v.given) >= v.fmt.max:
        return f"none: the largest finite value is {number_text(v.fmt.max)}"
    return f"none: the smallest value is {number_text(v.fmt.smallest_subnormal)}"


def _error(v: ValueAnatomy) -> str:
    if v.error == 0:
        return "0"
    if not math.isfinite(v.error):
        return "not a number" if math.isnan(v.error) else "infinite"
    share = f", {signed_percent_text(v.relative_error)} of {full_text(v.given)}" if v.given else ""
    steps = abs(v.error) / v.place.step
    return f"{signed_text(v.error)}{share}" + (f"; {steps:.3g} of a step" if steps <= 1 else "")


def _relative(v: ValueAnatomy) -> str:
    """Write a relative error for a table, or say that there is none."""
    if math.isfinite(v.error):
        return signed_percent_text(v.relative_error)
    return "NaN" if math.isnan(v.error) else "infinite"
