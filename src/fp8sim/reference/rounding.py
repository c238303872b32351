"""Rounding to a format, written to be read: the numpy oracle that the compiled kernels must equal."""

from __future__ import annotations

import math

import numpy as np

from fp8sim._support.typing import F64, AnyArray, FloatArray
from fp8sim.formats import FloatFormat

__all__ = [
    "ROUNDINGS", "add_to_odd", "draw_thresholds", "floor_log2", "round_exact", "round_reference",
    "sum_to_odd",
]  # fmt: skip

#: rounding -> what it does with a value between two neighbours.
ROUNDINGS: dict[str, str] = {
    "nearest-even": "the nearer neighbour; half way, the one with an even last bit",
    "nearest-away": "the nearer neighbour; half way, the one further from zero",
    "toward-zero": "the neighbour nearer to zero",
    "toward-positive": "the upper neighbour",
    "toward-negative": "the lower neighbour",
    "stochastic": "the upper neighbour with a probability equal to the distance from the lower one",
}


def floor_log2(x: FloatArray) -> AnyArray:
    """Return floor(log2(x)) exactly, as integers, for finite x > 0; subnormals too.

    `np.log2` rounds: it gives 3 for float32(7.9999995), whose exponent is 2.

    Examples
    --------
    >>> import numpy as np
    >>> floor_log2(np.array([1.0, 1.5, 7.9999995, 8.0], np.float32))
    array([0, 0, 2, 3], dtype=int32)
    """
    return np.asarray(np.frexp(x)[1] - 1)


def draw_thresholds(rng: np.random.Generator, bits: int | None, shape: int | tuple[int, ...]) -> F64:
    """Draw for "stochastic" what a rest, in steps between neighbours, must exceed to be rounded up.

    With `bits` n an adder has a random integer r below 2^n, and a rest f carries where
    ``floor(f 2^n) + r >= 2^n``: where f is at least (k + 1) / 2^n, for k = 2^n - 1 - r, as random as r. What
    is returned is the float64 before that, since f must exceed it. k is the first n bits of a draw.

    Examples
    --------
    >>> 0.25 > draw_thresholds(np.random.default_rng(0), 2, 8)  # a quarter of the time
    array([False, False,  True,  True, False, False, False, False])
    """
    draws = rng.random(shape)
    if bits is None:
        return np.asarray(draws)
    return np.asarray(np.nextafter((np.floor(draws * 2.0**bits) + 1) * 2.0**-bits, 0))


def round_reference(
    x: FloatArray, fmt: FloatFormat, rounding: str, overflow: str, draws: F64 | None = None
) -> FloatArray:
    """Round `x`, once, to values of `fmt` in its own dtype; `casts.round_to` is the checked, fast version.

    `draws` are uniform numbers in [0, 1), one per element, for "stochastic".

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> round_reference(np.array([0.3, 464, 465]), fp8sim.get_format("e4m3"), "nearest-even", "ieee")
    array([3.125e-01, 4.480e+02,       nan])
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        x64 = x.astype(np.float64)
    magnitude = _limit(round_exact(x64, fmt, rounding, draws), x64, fmt, rounding, overflow)
    result = np.copysign(magnitude, x64)
    if not fmt.signed:  # what has no code is not a number
        result = np.where(x64 < 0, np.nan, np.where(x64 == 0, 0.0 if fmt.zero else np.nan, result))
    if not fmt.has_negative_zero:
        result = np.where(result == 0, 0.0, result)
    return np.asarray(result, dtype=x.dtype)


def round_exact(x: F64, fmt: FloatFormat, rounding: str, draws: F64 | None = None) -> F64:
    """Round |x| as if `fmt` had no largest exponent: what the overflow policy then judges."""
    magnitude = np.where(np.isfinite(x), np.abs(x), 0.0)
    exponent = np.maximum(floor_log2(np.where(magnitude > 0, magnitude, 1.0)), fmt.emin)
    quantum = np.ldexp(1.0, exponent - fmt.mantissa_bits)  # distance between neighbours around x

    steps = np.floor(magnitude / quantum)
    below = steps * quantum
    rest = magnitude - below  # exact, and 0 <= rest < quantum
    with np.errstate(over="ignore"):  # the largest float64 may round up to infinity
        rounded = np.where(_goes_up(x, rest, quantum, steps, rounding, draws), below + quantum, below)

    if not fmt.zero:  # no zero to round to: positive numbers stay positive
        rounded = np.maximum(rounded, fmt.smallest_normal)
    elif not fmt.subnormals:
        rounded = np.where(rounded < fmt.smallest_normal, 0.0, rounded)
    return np.where(np.isfinite(x), rounded, np.abs(x))


def _goes_up(x: F64, rest: F64, quantum: F64, steps: F64, rounding: str, draws: F64 | None) -> AnyArray:
    """Whether the magnitude rounds to the neighbour further from zero."""
    negative = np.signbit(x)
    half = quantum / 2
    match rounding:
        case "nearest-even":
            return np.asarray((rest > half) | ((rest == half) & (steps % 2 == 1)))
        case "nearest-away":
            return np.asarray(rest >= half)
        case "toward-zero":
            return np.zeros(x.shape, bool)
        case "toward-positive":
            return np.asarray((rest > 0) & ~negative)
        case "toward-negative":
            return np.asarray((rest > 0) & negative)
        case "stochastic":
            assert draws is not None
            return np.asarray(draws * quantum < rest)
    raise AssertionError(rounding)


def _limit(magnitude: F64, x: F64, fmt: FloatFormat, rounding: str, overflow: str) -> F64:
    """Apply the overflow policy to rounded magnitudes beyond the largest finite value."""
    beyond = magnitude > fmt.max
    if overflow == "saturate":
        return np.where(beyond, fmt.max, magnitude)
    result = np.where(beyond, np.inf if fmt.has_inf else np.nan, magnitude)
    # IEEE 754-2019 7.4: a directed rounding never crosses the value it is given, so a finite number
    # overflows only in the direction it is rounded to.
    inward = {
        "toward-zero": np.ones(x.shape, bool),
        "toward-positive": np.signbit(x),
        "toward-negative": ~np.signbit(x),
    }.get(rounding)
    if inward is not None:
        result = np.where(beyond & inward & np.isfinite(x), fmt.max, result)
    return result


def add_to_odd(x: F64, y: F64) -> F64:
    """Add in float64; an inexact sum goes to that neighbour whose last bit is odd.

    The odd bit remembers that something was lost, so one more rounding, to a format of at most 51
    bits, gives what a single rounding of the exact sum would have given.

    Examples
    --------
    >>> import numpy as np
    >>> tie, tiny = np.float64(1 + 2.0**-24), np.float64(2.0**-80)  # a midpoint of float32
    >>> float(np.float32(tie + tiny)) - 1, float(np.float32(add_to_odd(tie, tiny))) - 1
    (0.0, 1.1920928955078125e-07)
    """
    total = x + y
    y_part = total - x
    error = (x - (total - y_part)) + (y - y_part)  # exact (Knuth's two-sum)
    bits = np.asarray(total).view(np.int64)
    toward_zero = np.where((error != 0) & ((error > 0) != (total > 0)), bits - 1, bits)
    odd = np.where(error != 0, toward_zero | 1, bits).view(np.float64)
    return np.asarray(np.where(np.isfinite(total), odd, total))


def sum_to_odd(x: F64) -> F64:
    """Add along the last axis; an inexact sum goes to that neighbour whose last bit is odd.

    So one more rounding gives what a single one would have given, as for `add_to_odd`. Zero is positive.

    Examples
    --------
    >>> total = sum_to_odd(np.array([1e30, 1 + 2.0**-24, 2.0**-80, -1e30]))
    >>> float(np.float32(total)) == 1 + 2.0**-23
    True
    """
    rows = x.reshape(-1, x.shape[-1])
    total, rest = rows.sum(axis=-1), np.zeros(len(rows))
    for i in np.flatnonzero(np.isfinite(total)):
        row = rows[i].tolist()
        total[i] = math.fsum(row)  # rounded to nearest; what is left is exact, or has the sign that matters
        rest[i] = math.fsum([*row, -total[i]])
    return add_to_odd(total, rest).reshape(x.shape[:-1])
