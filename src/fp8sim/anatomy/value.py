"""One number in a format: its bits, its neighbours, and why it became what it became."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeAlias, overload

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import ArrayLike, FloatArray, Overflow, Rounding
from fp8sim.anatomy.neighbours import Bits, Neighbour, Place, code_of, find_place, split_code
from fp8sim.anatomy.page import Page, Told
from fp8sim.anatomy.reasons import tell_why
from fp8sim.anatomy.value_page import formats_page, value_page
from fp8sim.casts import overflow_policy, round_to
from fp8sim.formats import FloatFormat, FormatLike, get_format
from fp8sim.reference.rounding import round_exact

__all__ = ["Fate", "ValueAnatomy", "ValueInFormats", "explain"]

Fate: TypeAlias = Literal["exact", "rounded", "flushed", "saturated", "overflowed", "nan"]


@dataclass(frozen=True, repr=False)
class ValueAnatomy(Told):
    """One number in one format, bit by bit; made by `explain`.

    Attributes
    ----------
    given : float
        The number, as float64 holds it.
    fmt : FloatFormat
        The format.
    rounding, overflow : str
        How it was rounded, and what the format does with too large a number.
    value : float
        What it became.
    code : int
        The bits of that, as an integer.
    bits : Bits
        The same by field: sign, exponent and mantissa, each a string of 0 and 1.
    place : Place
        The values below and above, the midpoint between them, and their distance.
    fate : str
        ``exact``, ``rounded``, ``flushed`` (to zero), ``saturated``, ``overflowed`` or ``nan``.
    why : str
        Why it became that, in a sentence or two.
    """

    given: float
    fmt: FloatFormat
    rounding: str
    overflow: str
    value: float
    code: int
    bits: Bits
    place: Place
    fate: Fate
    why: str

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

    def page(self) -> Page:
        """Return the lines that it shows as."""
        return value_page(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        place = self.place
        return {
            "given": self.given,
            "format": self.fmt.name,
            "rounding": self.rounding,
            "overflow": self.overflow,
            "value": self.value,
            "code": self.code,
            "sign_bit": self.bits.sign,
            "exponent_bits": self.bits.exponent,
            "mantissa_bits": self.bits.mantissa,
            "below": place.below and place.below.to_dict(),
            "above": place.above and place.above.to_dict(),
            "midpoint": place.midpoint,
            "step": place.step,
            "error": self.error,
            "relative_error": self.relative_error,
            "fate": self.fate,
            "why": self.why,
        }


@dataclass(frozen=True, repr=False)
class ValueInFormats(Told):
    """One number in several formats side by side; made by `explain`."""

    given: float
    anatomies: tuple[ValueAnatomy, ...]

    def __getitem__(self, fmt: FormatLike) -> ValueAnatomy:
        """Return the anatomy in one of the formats."""
        return checks.lookup(
            get_format(fmt).name, {a.fmt.name: a for a in self.anatomies}, "format of this anatomy"
        )

    def page(self) -> Page:
        """Return the lines that it shows as."""
        return formats_page(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"given": self.given, "formats": [a.to_dict() for a in self.anatomies]}


@overload
def explain(
    x: ArrayLike,
    fmt: FormatLike = ...,
    *,
    rounding: Rounding = ...,
    overflow: Overflow | None = ...,
    rng: np.random.Generator | None = ...,
) -> ValueAnatomy: ...


@overload
def explain(
    x: ArrayLike,
    fmt: list[Any] | tuple[Any, ...],
    *,
    rounding: Rounding = ...,
    overflow: Overflow | None = ...,
    rng: np.random.Generator | None = ...,
) -> ValueInFormats: ...


def explain(
    x: ArrayLike,
    fmt: FormatLike | list[Any] | tuple[Any, ...] = "e4m3",
    *,
    rounding: Rounding = "nearest-even",
    overflow: Overflow | None = None,
    rng: np.random.Generator | None = None,
) -> ValueAnatomy | ValueInFormats:
    """Tell what a number becomes in a format, bit by bit, and why.

    Parameters
    ----------
    x : float
        One number; a numpy scalar is taken in its own precision.
    fmt : str, dtype or FloatFormat, or a list of them
        The format, or several to put side by side.
    rounding, overflow, rng
        As in `round_to`.

    Returns
    -------
    ValueAnatomy or ValueInFormats
        Bits, neighbours, midpoint, reason and error. Prints as text of 80 columns, in colour with
        rich, and shows as HTML in a notebook; ``to_dict()`` gives it as data.

    Raises
    ------
    TypeError
        If `x` is no number, or `rng` is missing where it is needed.
    ValueError
        If `x` is an array, a name is unknown, or the format can not express what came out.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.anatomy import explain
    >>> why = explain(0.3, "e4m3")
    >>> why.value, hex(why.code), str(why.bits), round(why.relative_error, 4)
    (0.3125, '0x2a', '0 0101 010', 0.0417)
    >>> why.below.value, why.midpoint, why.above.value
    (0.28125, 0.296875, 0.3125)
    >>> print(why.why)
    0.3 is 9.6 steps of 2^-5 = 0.03125, and the nearest whole number of steps is 10.
    """
    number = _number(x)
    if isinstance(fmt, (list, tuple)):
        if not fmt:
            raise ValueError("no format to explain in; pass at least one, such as 'e4m3'")
        rows = tuple(_explain(number, get_format(one), rounding, overflow, rng) for one in fmt)
        return ValueInFormats(float(number), rows)
    return _explain(number, get_format(fmt), rounding, overflow, rng)


def _number(x: ArrayLike) -> FloatArray:
    number = checks.as_float(x)
    if number.ndim:
        raise ValueError(
            f"explain() tells of one number, got an array of shape {number.shape}; "
            "explain_block() tells of a block with its scale"
        )
    return number


def _explain(
    x: FloatArray,
    fmt: FloatFormat,
    rounding: Rounding,
    overflow: Overflow | None,
    rng: np.random.Generator | None,
) -> ValueAnatomy:
    draw = copy.deepcopy(rng).random(()) if rounding == "stochastic" and rng is not None else None
    value = float(round_to(x, fmt, rounding=rounding, overflow=overflow, rng=rng))
    given = float(x)
    rounded = given
    if math.isfinite(given):  # what the overflow policy and flushing then judge
        draws = None if draw is None else np.asarray(draw)
        rounded = float(round_exact(np.asarray(given), fmt, rounding, draws))
    policy = overflow_policy(fmt, overflow)
    code = code_of(value, fmt)
    place = find_place(given, fmt) if math.isfinite(given) else Place(None, None, None, math.nan)
    fate = _fate(given, value, rounded, fmt)
    why = tell_why(given, value, rounded, fmt, rounding, policy, place)
    return ValueAnatomy(given, fmt, rounding, policy, value, code, split_code(code, fmt), place, fate, why)


def _fate(given: float, value: float, rounded: float, fmt: FloatFormat) -> Fate:
    if value == given:
        return "exact"
    if abs(rounded) > fmt.max:
        return "saturated" if math.isfinite(value) else "overflowed"
    if math.isnan(value):
        return "nan"
    return "flushed" if value == 0 else "rounded"
