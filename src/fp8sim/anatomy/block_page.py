"""How the anatomy of a block shows: the scale and why, then the elements in a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fp8sim._support.quantities import number_text, power_text, signed_percent_text
from fp8sim.anatomy.page import Line, Page, Span, prose
from fp8sim.anatomy.value_page import bits_spans
from fp8sim.casts import decode
from fp8sim.formats import FORMATS

if TYPE_CHECKING:
    from fp8sim.anatomy.block import BlockAnatomy, Element

__all__ = ["block_page"]

_ROWS = 32  # elements shown; a block of 128 does not fit a screen


def block_page(block: BlockAnatomy) -> Page:
    """Lay out a block.

    Examples
    --------
    >>> from fp8sim.anatomy import explain_block
    >>> page = block_page(explain_block([1.0, -2.0, 3.5], "e4m3", scale_format="e8m0"))
    >>> print(page.text().splitlines()[0])
    3 elements in e4m3, one scale: tensor e8m0 ceil
    """
    count, scaling = len(block.elements), block.scaling
    share = "no scale" if scaling.granularity == "none" else f"one scale: {scaling}"
    where = f", group {list(block.group)}" if any(block.group) else ""
    title = f"{count} element{'s' * (count > 1)} in {block.fmt}, {share}{where}"
    lines: list[Line] = [[Span(title, "title")], []]
    lines += _scale(block)
    lines.append([])
    lines += _table(block)
    lines.append([])
    lines += prose("lost", _lost(block))
    return Page(lines)


def _scale(block: BlockAnatomy) -> Iterator[Line]:
    largest = max(block.elements, key=lambda element: abs(element.given))
    at = ", ".join(map(str, largest.where))
    yield [Span(f"  amax      {number_text(block.amax)}, of element {at}")]
    if block.scaling.granularity == "none":
        return
    yield from prose("scale", _rule(block))
    digits = -(-FORMATS[block.scaling.scale_format].bits // 4)
    yield [
        Span("            "),
        *bits_spans(block.scale_bits),
        Span(f", code {block.scale_code:#0{2 + digits}x} of {block.scaling.scale_format}"),
    ]
    reached = abs(largest.scaled)
    yield from prose(
        "reach", f"amax / scale = {number_text(reached, 6)}; {block.fmt} ends at {number_text(block.fmt.max)}"
    )


def _rule(block: BlockAnatomy) -> str:
    """Say how the scale comes from amax."""
    scaling, value = block.scaling, number_text(block.scale)
    floored = scaling.amax_floor > block.amax
    if not block.amax and not floored:
        return f"{value}, as every element is zero"
    amax = number_text(scaling.amax_floor) if floored else "amax"
    because = f", as amax is below its floor of {amax}" if floored else ""
    ratio = f"{amax} / {number_text(block.fmt.max)}"
    if scaling.scale_format == "e4m3":
        stored = float(decode(np.uint8(block.scale_code), "e4m3"))
        return (
            f"{ratio} / {number_text(block.tensor_scale)}, the scale of the tensor, rounded to E4M3, is "
            f"{number_text(stored)}; together {value}{because}"
        )
    if scaling.scale_rule == "amax":
        return f"{ratio} = {value}, rounded to FP32{because}"
    power = power_text(block.scale)
    if scaling.scale_rule == "ceil":
        return f"the smallest power of two that is not below {ratio}: {power}{because}"
    rounded = f" rounded to {block.fmt.mantissa_bits} mantissa bits" * (scaling.scale_rule == "even")
    return f"2^(floor(log2 {amax}{rounded}) - {block.fmt.emax}) = {power}{because}"


def _table(block: BlockAnatomy) -> Iterator[Line]:
    """Yield a row for each element, in columns as wide as they need to be."""
    shown = _most_telling(block)
    heads = ("i", "x", "x / scale", "value", "x scale", "error")
    table = [heads, *map(_cells, shown)]
    label, given, scaled, value, restored, error = (
        max(map(len, column)) for column in zip(*table, strict=True)
    )
    bits = max(4, *(len(str(element.bits)) for element in shown))
    for row, element in zip(table, (None, *shown), strict=True):
        before = f"{row[0]:>{label}}  {row[1]:>{given}} {row[2]:>{scaled}}  "
        after = f"  {row[3]:>{value}}  {row[4]:>{restored}} {row[5]:>{error}}"
        if element is None:
            yield [Span(f"{before}{'code':{bits}}{after}", "dim")]
            continue
        pad = " " * (bits - len(str(element.bits)))
        line = [Span(before), *bits_spans(element.bits), Span(pad + after)]
        if element.fate in ("saturated", "flushed"):
            line += [Span(" "), Span(element.fate, "lost")]
        yield line
    left = len(block.elements) - len(shown)
    if left:
        yield [Span(f"{'':{label}}  and {left} more; saturated, flushed and large ones come first", "dim")]


def _cells(e: Element) -> tuple[str, str, str, str, str, str]:
    error = "0" if e.error == 0 else signed_percent_text(e.error / abs(e.given))
    where = ",".join(map(str, e.where))
    given, value = number_text(e.given, 5), number_text(e.value, 5)
    return where, given, number_text(e.scaled, 4), value, number_text(e.restored, 5), error


def _most_telling(block: BlockAnatomy) -> list[Element]:
    """Return the elements to show in order: what saturated or was flushed, then the largest."""
    order = {"saturated": 0, "flushed": 1}
    ranked = sorted(block.elements, key=lambda e: (order.get(e.fate, 2), -abs(e.given)))
    return sorted(ranked[:_ROWS], key=lambda e: e.where)


def _lost(block: BlockAnatomy) -> str:
    count = len(block.elements)
    text = f"{block.saturated} saturated, {block.flushed} flushed of {count}"
    if not block.amax:
        return text
    return f"{text}; relative error {100 * block.relative_error:.3g} %, SQNR {block.sqnr_db:.1f} dB"
