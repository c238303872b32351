"""How the anatomy of a number shows: fields of bits, a number line, and the formats side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fp8sim._support.quantities import full_text, number_text, power_text, signed_percent_text, signed_text
from fp8sim.anatomy.neighbours import Bits
from fp8sim.anatomy.page import WIDTH, Line, Page, Span, Style, prose

if TYPE_CHECKING:
    from fp8sim.anatomy.value import ValueAnatomy, ValueInFormats

__all__ = ["bits_spans", "formats_page", "value_page"]

FIELDS: tuple[Style, ...] = ("sign", "exponent", "mantissa")
_INDENT = 12
_LINE = 56  # columns of the number line


def value_page(v: ValueAnatomy) -> Page:
    """Lay out one number in one format.

    Examples
    --------
    >>> from fp8sim.anatomy import explain
    >>> print(value_page(explain(1.0, "e4m3")).text().splitlines()[2])
      becomes   1 = +1.000 x 2^0, code 0x38
    """
    lines: list[Line] = [[Span(part, "title")] for part in textwrap.wrap(_title(v), WIDTH)]
    lines += [[], _became(v), []]
    lines += [*_fields(v), []]
    lines += _number_line(v)
    if math.isfinite(v.given):
        lines += [*_neighbours(v), []]
    lines += prose("why", v.why)
    lines += prose("error", _error(v))
    return Page(lines)


def formats_page(several: ValueInFormats) -> Page:
    """Lay out one number in several formats: a table, then the reasons.

    Examples
    --------
    >>> from fp8sim.anatomy import explain
    >>> page = formats_page(explain(0.3, ["e4m3", "e5m2"]))
    >>> [line.split()[0] for line in page.text().splitlines()[3:5]]
    ['e4m3', 'e5m2']
    """
    names = max(6, *(len(v.fmt.name) for v in several.anatomies))
    width = max(4, *(len(str(v.bits)) for v in several.anatomies))
    first = several.anatomies[0]
    lines: list[Line] = [[Span(f"{full_text(several.given)}, {first.rounding}", "title")]]
    lines.append([])
    lines.append(
        [Span(f"{'format':{names}}  {'bits':{width}}  {'becomes':>12}  {'error':>9}  {'step':>5}", "dim")]
    )
    for v in several.anatomies:
        pad = " " * (width - len(str(v.bits)))
        relative = "0" if v.error == 0 else _relative(v)
        step = "-" if math.isnan(v.place.step) else power_text(v.place.step).split(" ")[0]
        lines.append(
            [
                Span(f"{v.fmt.name:{names}}  "),
                *bits_spans(v.bits),
                Span(f"{pad}  {number_text(v.value):>12}  {relative:>9}  {step:>5}"),
            ]
        )
    lines.append([])
    for v in several.anatomies:
        lines += prose(v.fmt.name, v.why, indent=max(_INDENT, names + 4))
    return Page(lines)


def bits_spans(bits: Bits) -> Line:
    """Return the fields of a code, each in its style.

    Examples
    --------
    >>> "".join(span.text for span in bits_spans(Bits("0", "0101", "010")))
    '0 0101 010'
    """
    spans: Line = []
    for text, style in zip(bits, FIELDS, strict=True):
        if text:
            spans += [Span(" ")] * bool(spans) + [Span(text, style)]
    return spans


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
    yield [Span(" " * _INDENT), *bits_spans(v.bits)]
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
        yield [head, *bits_spans(neighbour.bits), Span(pad), number]


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
