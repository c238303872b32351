"""Why a number became what it became, in words."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

from fp8sim._support.quantities import full_text, number_text, power_text
from fp8sim.anatomy.neighbours import Place
from fp8sim.formats import FloatFormat

__all__ = ["Cast", "Fate", "steps_text"]

Fate: TypeAlias = Literal["exact", "rounded", "flushed", "saturated", "overflowed", "nan"]


class Cast(NamedTuple):
    """A number, what it became, and what decided that.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.anatomy.neighbours import find_place
    >>> e4m3 = fp8sim.get_format("e4m3")
    >>> cast = Cast(464.0, 448.0, 448.0, e4m3, "nearest-even", "ieee", find_place(464.0, e4m3))
    >>> print(cast.why)
    464 is 14.5 steps of 2^5 = 32, half way: it goes to the even number of steps, 14.
    """

    given: float
    value: float
    rounded: float  #: its magnitude after rounding, before it is held against the largest finite value
    fmt: FloatFormat
    rounding: str
    overflow: str
    place: Place

    @property
    def fate(self) -> Fate:
        """What became of it, in one word."""
        if self.value == self.given:
            return "exact"
        if abs(self.rounded) > self.fmt.max:
            return "saturated" if math.isfinite(self.value) else "overflowed"
        if math.isnan(self.value):
            return "nan"
        return "flushed" if self.value == 0 else "rounded"

    @property
    def why(self) -> str:
        """Why it became that, in a sentence or two."""
        given, value, fmt, x = self.given, self.value, self.fmt, full_text(self.given)
        if math.isnan(given):
            return f"NaN stays NaN; {fmt} has a code for it."
        if math.isnan(value) and not fmt.signed and given <= 0:
            return f"{fmt} is unsigned and has no code for {x}: it becomes NaN."
        if math.isinf(given):
            return _too_large("Infinity", self)
        if value == given:
            return f"{x} is a value of {fmt}: there is nothing to round."
        inward = math.isfinite(value) and self.overflow == "ieee"
        if self.place.midpoint is None:
            if abs(given) <= fmt.max:
                return _near_zero(self)
            beyond = f"{x} is beyond the largest finite value, {_inward(self)}"
            return beyond if inward else _too_large(x, self)
        reason = _between(self)
        if self.rounded > fmt.max:
            whole = f"That is {number_text(math.copysign(self.rounded, given))},"
            if inward:
                return f"{reason} {whole} beyond the largest finite value, {_inward(self)}"
            return f"{reason} {_too_large(whole, self)}"
        if self.rounded == 0:
            zero = " (it has no -0)" if given < 0 and not fmt.has_negative_zero else ""
            return f"{reason} It is flushed to zero{zero}."
        return reason


def steps_text(steps: float) -> str:
    """Write a number of steps with as many digits as it takes to tell it from a half or a whole.

    Examples
    --------
    >>> steps_text(9.6), steps_text(14.5), steps_text(14.500000000001)
    ('9.6', '14.5', '14.500000000001')
    """
    short = f"{steps:.9g}"
    return short if float(short) == steps or (2 * float(short)) % 1 else repr(steps)


def _between(cast: Cast) -> str:
    """Say which of two neighbours was taken."""
    given, step = cast.given, cast.place.step
    steps = given / step
    whole = math.copysign(cast.rounded / step, given)
    count = number_text(whole)
    start = f"{full_text(given)} is {steps_text(steps)} steps of {power_text(step)}"
    tie = abs(steps) % 1 == 0.5
    match cast.rounding:
        case "nearest-even" if tie:
            return f"{start}, half way: it goes to the even number of steps, {count}."
        case "nearest-away" if tie:
            return f"{start}, half way: it goes away from zero, to {count}."
        case "nearest-even" | "nearest-away":
            return f"{start}, and the nearest whole number of steps is {count}."
        case "stochastic":
            chance = abs(steps) % 1
            went = "away from zero" if abs(whole) > abs(steps) else "toward zero"
            return (
                f"{start}: it goes away from zero with a probability of {chance:.6g}. "
                f"This draw went {went}, to {count}."
            )
    sides = {"toward-zero": "zero", "toward-positive": "+infinity", "toward-negative": "-infinity"}
    return f"{start}, and goes toward {sides[cast.rounding]}, to {count}, however near the other side is."


def _near_zero(cast: Cast) -> str:
    """Say what happens below the smallest normal number of a format without subnormals."""
    fmt, x = cast.fmt, full_text(cast.given)
    if not fmt.zero:
        return f"{fmt} has no zero and nothing below {power_text(fmt.smallest_normal)}, its smallest value."
    limit = f"the smallest normal number {power_text(fmt.smallest_normal)}"
    if cast.value == 0:
        return f"{fmt} has no subnormals: {x} rounds to less than {limit}, and is flushed to zero."
    return f"{fmt} has no subnormals: {x} rounds to {limit}, so it is not flushed to zero."


def _too_large(what: str, cast: Cast) -> str:
    """Say what the overflow policy makes of too large a number."""
    value, fmt = cast.value, cast.fmt
    verb = "" if what.startswith("That is") else "is "
    became = "infinity" if math.isinf(value) else "NaN" if math.isnan(value) else number_text(value)
    without = f", as {fmt} has no infinity" if math.isnan(value) else ""
    return (
        f"{what} {verb}beyond the largest finite value {number_text(fmt.max)}: "
        f"overflow {cast.overflow!r} makes it {became}{without}."
    )


def _inward(cast: Cast) -> str:
    largest = number_text(cast.fmt.max)
    return f"{largest}, and {cast.rounding} goes no further than that on this side (IEEE 754, 7.4)."
