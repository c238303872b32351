"""A block under one scale, and how it reads: how the scale was picked, what became of each element."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from fp8sim import metrics
from fp8sim._support.page import Line, Page, Span, prose
from fp8sim._support.quantities import decibel_text, number_text, power_text, signed_percent_text
from fp8sim._support.results import Result, members
from fp8sim.anatomy.neighbours import Bits
from fp8sim.casts import decode
from fp8sim.formats import FORMATS, FloatFormat
from fp8sim.quantization import Scaling

__all__ = ["BlockAnatomy", "Element", "ElementFate"]

ElementFate: TypeAlias = Literal["exact", "rounded", "flushed", "saturated"]

_ROWS = 32  # elements shown; a block of 128 does not fit a screen


class Element(NamedTuple):
    """One element of a block."""

    where: tuple[int, ...]  #: index in the array that was given
    given: float
    scaled: float  #: ``given / scale``, in the precision of the array
    code: int
    bits: Bits
    value: float  #: of the code
    restored: float  #: ``value * scale``, exactly
    fate: ElementFate

    @property
    def error(self) -> float:
        """``restored - given``."""
        return self.restored - self.given

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**self._asdict(), "where": list(self.where), "bits": str(self.bits), "error": self.error}


@dataclass(frozen=True, repr=False)
class BlockAnatomy(Result):
    """The elements that share one scale; made by `explain_block`."""

    fmt: FloatFormat  #: of the elements
    scaling: Scaling  #: who shares a scale, and how it is picked and stored
    group: tuple[int, ...]  #: which group of the array this is, an index into its scales
    amax: float  #: largest magnitude of the group
    scale: float  #: the multiplier: ``x ~ value * scale``
    scale_code: int  #: the scale as stored, in the scale format
    scale_bits: Bits  #: the same by field
    tensor_scale: float  #: the FP32 scale above E4M3 scales, included in `scale`; else 1
    elements: tuple[Element, ...]  #: every element, in C order

    @property
    def saturated(self) -> int:
        """How many elements were beyond the largest finite value after rounding."""
        return sum(element.fate == "saturated" for element in self.elements)

    @property
    def flushed(self) -> int:
        """How many elements other than zero became zero."""
        return sum(element.fate == "flushed" for element in self.elements)

    @property
    def relative_error(self) -> float:
        """Relative Frobenius error of the block."""
        return metrics.relative_error(*self._pair)

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantisation-noise ratio of the block in dB."""
        return metrics.sqnr_db(*self._pair)

    @property
    def _pair(self) -> tuple[list[float], list[float]]:
        return [element.restored for element in self.elements], [element.given for element in self.elements]

    def parts(self) -> list[Page]:
        """Return a page: the scale and why, then the elements in a table."""
        count, scaling = len(self.elements), self.scaling
        share = "no scale" if scaling.granularity == "none" else f"one scale: {scaling}"
        where = f", group {list(self.group)}" if any(self.group) else ""
        title = f"{count} element{'s' * (count > 1)} in {self.fmt}, {share}{where}"
        lines: list[Line] = [[Span(title, "title")], [], *_scale(self), [], *_table(self), []]
        return [Page([*lines, *prose("lost", _lost(self))])]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "format": self.fmt.name,
            **asdict(self.scaling),
            "group": list(self.group),
            **members(self, "amax scale scale_code"),
            "scale_bits": str(self.scale_bits),
            **members(self, "tensor_scale saturated flushed relative_error sqnr_db"),
            "elements": [element.to_dict() for element in self.elements],
        }


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
        *block.scale_bits.spans(),
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
    if scaling.four_over_six:
        ratio = f"{amax} / 6 or {amax} / 4, whichever errs less,"
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
    label, number, scaled, value, restored, error = (
        max(map(len, column)) for column in zip(*table, strict=True)
    )
    bits = max(4, *(len(str(element.bits)) for element in shown))
    for row, element in zip(table, (None, *shown), strict=True):
        before = f"{row[0]:>{label}}  {row[1]:>{number}} {row[2]:>{scaled}}  "
        after = f"  {row[3]:>{value}}  {row[4]:>{restored}} {row[5]:>{error}}"
        if element is None:
            yield [Span(f"{before}{'code':{bits}}{after}", "dim")]
            continue
        pad = " " * (bits - len(str(element.bits)))
        line = [Span(before), *element.bits.spans(), Span(pad + after)]
        if element.fate in ("saturated", "flushed"):
            line += [Span(" "), Span(element.fate, "lost")]
        yield line
    left = len(block.elements) - len(shown)
    if left:
        yield [Span(f"{'':{label}}  and {left} more; saturated, flushed and large ones come first", "dim")]


def _cells(e: Element) -> tuple[str, str, str, str, str, str]:
    error = "0" if e.error == 0 else signed_percent_text(e.error / abs(e.given))
    where = ",".join(map(str, e.where))
    number, value = number_text(e.given, 5), number_text(e.value, 5)
    return where, number, number_text(e.scaled, 4), value, number_text(e.restored, 5), error


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
    return f"{text}; relative error {100 * block.relative_error:.3g} %, SQNR {decibel_text(block.sqnr_db)}"
