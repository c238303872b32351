"""Where a number lies between the values of a format, and the bits of those values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fp8sim._support.page import Line, Span, Style
from fp8sim.casts import encode
from fp8sim.formats import FloatFormat
from fp8sim.reference.rounding import floor_log2, round_exact

__all__ = ["FIELDS", "Bits", "Neighbour", "Place", "code_of", "find_place", "split_code"]

FIELDS: tuple[Style, ...] = ("sign", "exponent", "mantissa")


class Bits(NamedTuple):
    """The bits of one code by field; the sign of an unsigned format is empty. Integers are one field."""

    sign: str
    exponent: str
    mantissa: str

    def __str__(self) -> str:
        """Return the fields, a space between them."""
        return " ".join(filter(None, self))

    def spans(self) -> Line:
        """Return the fields, each in its style.

        Examples
        --------
        >>> Bits("", "0101", "010").spans()[0]
        Span(text='0101', style='exponent')
        """
        spans: Line = []
        for text, style in zip(self, FIELDS, strict=True):
            if text:
                spans += [Span(" ")] * bool(spans) + [Span(text, style)]
        return spans


class Neighbour(NamedTuple):
    """A value next to the given one; without a code where it is beyond the largest finite value."""

    value: float
    code: int | None
    bits: Bits | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"value": self.value, "code": self.code, "bits": self.bits and str(self.bits)}


class Place(NamedTuple):
    """The neighbours of a finite number on both sides; None where there is none."""

    below: Neighbour | None
    above: Neighbour | None
    midpoint: float | None  #: None at a value of the format, and where the nearer one does not decide
    step: float  #: distance between the values around the number, a power of two


def split_code(code: int, fmt: FloatFormat) -> Bits:
    """Cut a code into its fields.

    Examples
    --------
    >>> import fp8sim
    >>> print(split_code(0x2A, fp8sim.get_format("e4m3")))
    0 0101 010
    """
    digits = f"{code:0{fmt.bits}b}"
    if fmt.twos_complement:
        return Bits("", "", digits)
    sign, rest = (digits[:1], digits[1:]) if fmt.signed else ("", digits)
    return Bits(sign, rest[: fmt.exponent_bits], rest[fmt.exponent_bits :])


def code_of(value: float, fmt: FloatFormat) -> int:
    """Return the code of a value of the format, infinity included, as an integer.

    Examples
    --------
    >>> import fp8sim
    >>> hex(code_of(0.3125, fp8sim.get_format("e4m3")))
    '0x2a'
    """
    code = encode(np.float64(value), fmt, overflow="ieee")  # else FP8's infinity would saturate
    return int(code.reshape(1).view(fmt.code_dtype)[0])


def find_place(x: float, fmt: FloatFormat) -> Place:
    """Find the values of `fmt` on both sides of a finite `x`.

    Examples
    --------
    >>> import fp8sim
    >>> place = find_place(0.3, fp8sim.get_format("e4m3"))
    >>> place.below.value, place.midpoint, place.above.value, place.step
    (0.28125, 0.296875, 0.3125, 0.03125)
    """
    magnitude = abs(x)
    binade = int(floor_log2(np.asarray(magnitude))) if magnitude else fmt.emin
    step = 2.0 ** (min(max(binade, fmt.emin), fmt.emax) - fmt.mantissa_bits)
    if not fmt.signed and x <= 0:
        return Place(None, _neighbour(fmt.smallest_subnormal, fmt), None, step)
    if magnitude == 0:
        smallest = fmt.smallest_subnormal
        return Place(_neighbour(-smallest, fmt), _neighbour(smallest, fmt), None, step)
    inner, outer, midpoint = _magnitudes(magnitude, fmt, step)
    toward, away = (None if v is None else _neighbour(float(np.copysign(v, x)), fmt) for v in (inner, outer))
    below, above = (away, toward) if x < 0 else (toward, away)
    return Place(below, above, None if midpoint is None else float(np.copysign(midpoint, x)), step)


def _magnitudes(m: float, fmt: FloatFormat, step: float) -> tuple[float | None, float | None, float | None]:
    """Return the values towards zero and away from it, and the midpoint that decides between them."""
    last = fmt.max + 2.0 ** (fmt.emax - fmt.mantissa_bits)  # what would follow the largest value
    if m >= last:
        return fmt.max, None, None
    if m < fmt.smallest_normal and not (fmt.zero and fmt.subnormals):
        return (0.0 if fmt.zero else None), fmt.smallest_normal, None
    inner, outer = _grid(m, fmt, "toward-zero"), _grid(m, fmt, "toward-positive")
    if inner != outer:
        return inner, outer, inner + step / 2
    outer = _grid(float(np.nextafter(m, np.inf)), fmt, "toward-positive")
    if m == fmt.smallest_subnormal:
        return (0.0 if fmt.zero else None), outer, None
    return _grid(float(np.nextafter(m, 0)), fmt, "toward-zero"), (outer if m < fmt.max else None), None


def _grid(m: float, fmt: FloatFormat, rounding: str) -> float:
    """Round a magnitude as if there were no largest exponent."""
    flushing = fmt.zero and not fmt.subnormals
    return float(round_exact(np.asarray(m), replace(fmt, subnormals=True) if flushing else fmt, rounding))


def _neighbour(value: float, fmt: FloatFormat) -> Neighbour:
    if abs(value) > fmt.max:
        return Neighbour(value, None, None)
    code = code_of(value, fmt)
    return Neighbour(value, code, split_code(code, fmt))
