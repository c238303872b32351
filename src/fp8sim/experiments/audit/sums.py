"""Sums of float64 numbers without rounding: the same whoever adds them, in whatever parts and order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fp8sim._support.typing import F64

__all__ = ["ZERO", "Total", "total_of"]

_LOW = 27  # bits of the lower half of a mantissa: 2^26 of them add up in an int64


class Total(NamedTuple):
    """A number that is held in full: ``units * 2**exponent``, of odd units; or infinity."""

    units: int
    exponent: int
    finite: bool = True

    def __add__(self, other: Any) -> Total:
        """Return the sum, in full."""
        if not (self.finite and other.finite):
            return Total(0, 0, False)
        exponent = min(self.exponent, other.exponent)
        units = self.units << (self.exponent - exponent)
        return _odd(units + (other.units << (other.exponent - exponent)), exponent)

    def __str__(self) -> str:
        """Return both numbers in one word."""
        return f"{self.units}p{self.exponent}" if self.finite else "beyond"

    @classmethod
    def parsed(cls, text: str) -> Total:
        """Read what `str` wrote."""
        units, _, exponent = text.partition("p")
        return cls(int(units), int(exponent)) if exponent else cls(0, 0, False)

    def __float__(self) -> float:
        """Return the nearest float64."""
        if not self.finite:
            return float("inf")
        try:
            above, below = max(self.exponent, 0), max(-self.exponent, 0)
            return (self.units << above) / (1 << below)  # of whole numbers: rounded once
        except OverflowError:
            return float("inf")


ZERO = Total(0, 0)


def total_of(values: F64) -> Total:
    """Return the sum of numbers that are not negative, without rounding.

    A mantissa of 53 bits is a whole number; those of one exponent are added as whole numbers.

    Examples
    --------
    >>> total_of(np.array([0.75, 2.0])), float(total_of(np.array([1e300, 1e-300] * 3)))
    (Total(units=11, exponent=-2, finite=True), 3e+300)
    """
    if not np.isfinite(values).all():
        return Total(0, 0, False)
    fractions, exponents = np.frexp(values)
    mantissas = np.ldexp(fractions, 53).astype(np.int64)
    result = ZERO
    for exponent in np.unique(exponents):
        some = mantissas[exponents == exponent]
        high, low = int((some >> _LOW).sum()), int((some & ((1 << _LOW) - 1)).sum())
        result += _odd((high << _LOW) + low, int(exponent) - 53)
    return result


def _odd(units: int, exponent: int) -> Total:
    if not units:
        return ZERO
    zeros = (units & -units).bit_length() - 1
    return Total(units >> zeros, exponent + zeros)
