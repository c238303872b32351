"""What casts, scales and sums must give, in exact rational arithmetic and apart from the library.

Formats are described here once more, from their specifications, and codes are read digit by digit.
Rounding is written twice: `round_one` finds the neighbours of one rational number by arithmetic, and
`round_array` finds those of a float64 array by bisecting the sorted values of all codes. Comparing
float64 numbers is exact, and so are the midpoints (checked), so the second is as exact as the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import pairwise, product
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MODES = (
    "nearest-even",
    "nearest-away",
    "toward-zero",
    "toward-positive",
    "toward-negative",
)


@dataclass(frozen=True)
class Layout:
    """The fields of a code, the sign first, and which codes are no finite numbers."""

    signed: bool
    exponent_bits: int
    mantissa_bits: int
    bias: int
    specials: str
    subnormals: bool = True
    zero: bool = True

    @property
    def bits(self) -> int:
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def emin(self) -> int:
        return (1 if self.zero else 0) - self.bias

    @property
    def has_nan(self) -> bool:
        return any(math.isnan(decode(code, self)) for code in _top_codes(self))

    @property
    def has_inf(self) -> bool:
        return any(math.isinf(decode(code, self)) for code in _top_codes(self))


# OFP8 v1.0 (e4m3, e5m2); Noune et al., arXiv 2206.02915 (fnuz); MX v1.0 (e8m0 and 6 and 4 bits);
# IEEE 754 (fp16, fp32); ml_dtypes README (bf16, e3m4, e4m3-ieee, e4m3b11fnuz).
LAYOUTS = {
    "fp32": Layout(True, 8, 23, 127, "ieee"),
    "tf32": Layout(True, 8, 10, 127, "ieee"),
    "bf16": Layout(True, 8, 7, 127, "ieee"),
    "fp16": Layout(True, 5, 10, 15, "ieee"),
    "e4m3": Layout(True, 4, 3, 7, "nan-only"),
    "e5m2": Layout(True, 5, 2, 15, "ieee"),
    "e4m3fnuz": Layout(True, 4, 3, 8, "fnuz"),
    "e5m2fnuz": Layout(True, 5, 2, 16, "fnuz"),
    "e3m4": Layout(True, 3, 4, 3, "ieee"),
    "e5m6": Layout(True, 5, 6, 15, "ieee"),
    "e2m3": Layout(True, 2, 3, 1, "none"),
    "e3m2": Layout(True, 3, 2, 3, "none"),
    "e2m1": Layout(True, 2, 1, 1, "none"),
    "e8m0": Layout(False, 8, 0, 127, "nan-only", subnormals=False, zero=False),
    "e4m3-ieee": Layout(True, 4, 3, 7, "ieee"),
    "e4m3b11fnuz": Layout(True, 4, 3, 11, "fnuz"),
}

NATIVE: dict[str, Any] = {
    "fp32": np.float32,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "e3m4": ml_dtypes.float8_e3m4,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e8m0": ml_dtypes.float8_e8m0fnu,
    "e4m3-ieee": ml_dtypes.float8_e4m3,
    "e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz,
}

UP_TO_8_BITS = tuple(name for name, layout in LAYOUTS.items() if layout.bits <= 8)
UP_TO_16_BITS = tuple(name for name, layout in LAYOUTS.items() if layout.bits <= 16)


# --- codes ----------------------------------------------------------------------------------------


def decode(code: int, layout: Layout) -> float:
    """Read a code digit by digit; float64 holds every value exactly."""
    digits = f"{code:0{layout.bits}b}"
    sign = -1.0 if layout.signed and digits[0] == "1" else 1.0
    fields = digits[1:] if layout.signed else digits
    exponent_digits, mantissa_digits = fields[: layout.exponent_bits], fields[layout.exponent_bits :]
    if layout.specials == "fnuz" and sign < 0 and "1" not in fields:
        return math.nan
    if layout.specials == "nan-only" and "0" not in fields:
        return math.copysign(math.nan, sign)
    if layout.specials == "ieee" and "0" not in exponent_digits:
        return math.copysign(math.nan if "1" in mantissa_digits else math.inf, sign)
    value = _finite(int(exponent_digits, 2), int(mantissa_digits or "0", 2), layout)
    return math.copysign(_exact_float(value), sign)


def _finite(exponent: int, mantissa: int, layout: Layout) -> Fraction:
    fraction = Fraction(mantissa, 2**layout.mantissa_bits)
    if exponent == 0 and layout.zero:
        return fraction * Fraction(2) ** (1 - layout.bias) if layout.subnormals else Fraction(0)
    return (1 + fraction) * Fraction(2) ** (exponent - layout.bias)


def _top_codes(layout: Layout) -> tuple[int, ...]:
    """Return codes among which are an infinity and a NaN, if the format has one."""
    top = 2 ** (layout.exponent_bits + layout.mantissa_bits) - 1
    first_of_top_exponent = top >> layout.mantissa_bits << layout.mantissa_bits
    return top, first_of_top_exponent, (2 ** (layout.bits - 1) if layout.signed else 0)


def _exact_float(value: Fraction) -> float:
    result = float(value)
    assert Fraction(result) == value, f"float64 does not hold {value}"
    return result


# --- rounding -------------------------------------------------------------------------------------


class Grid(NamedTuple):
    """The magnitudes of a format and what lies between them, in float64, without rounding."""

    values: NDArray[np.float64]  #: finite ones, and last the next one if exponents went on
    midpoints: NDArray[np.float64]
    even: NDArray[np.bool_]  #: whether the last digit of each value is 0


@cache
def grid(layout: Layout) -> Grid:
    """Collect the magnitudes of all codes of a format of at most 16 bits."""
    full = replace(layout, subnormals=layout.zero)  # flushing comes after rounding
    one_sign = (decode(code, full) for code in range(2 ** (layout.exponent_bits + layout.mantissa_bits)))
    values = [Fraction(value) for value in one_sign if math.isfinite(value)]
    assert values == sorted(set(values))
    values.append(values[-1] + quantum(values[-1], layout))
    even = [value / quantum(value, layout) % 2 == 0 for value in values]
    return Grid(
        np.array([_exact_float(value) for value in values]),
        np.array([_exact_float((low + high) / 2) for low, high in pairwise(values)]),
        np.array(even),
    )


def largest(layout: Layout) -> float:
    """Return the largest finite value: of all codes, from the top down in wide formats."""
    if layout.bits <= 16:
        return float(grid(layout).values[-2])
    top = 2 ** (layout.exponent_bits + layout.mantissa_bits) - 1
    if layout.specials == "ieee":  # all of the top exponent is infinity and NaN
        top -= 2**layout.mantissa_bits
    return next(value for code in range(top, 0, -1) if math.isfinite(value := decode(code, layout)))


def floor_log2(x: Fraction) -> int:
    """Return floor(log2(x)) for x > 0."""
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    return exponent if Fraction(2) ** exponent <= x else exponent - 1


def quantum(x: Fraction, layout: Layout) -> Fraction:
    """Return the distance between neighbours around x >= 0."""
    exponent = max(floor_log2(x), layout.emin) if x else layout.emin
    return Fraction(2) ** (exponent - layout.mantissa_bits)


def round_magnitude(x: Fraction, layout: Layout, rounding: str, negative: bool = False) -> Fraction:
    """Round x >= 0, the magnitude of a positive or negative number, as if exponents had no end."""
    step = quantum(x, layout)
    below = x // step * step
    above = below if below == x else below + step
    twice = 2 * x - below - above
    # without mantissa bits both significands are 1, and the larger wins: IEEE 754 4.3.1
    even_is_below = below / step % 2 == 0
    goes_up = {
        "nearest-even": twice > 0 or (twice == 0 and not even_is_below),
        "nearest-away": twice >= 0,
        "toward-zero": False,
        "toward-positive": not negative,
        "toward-negative": negative,
    }[rounding]
    rounded = above if goes_up else below
    if not layout.zero:
        return max(rounded, Fraction(2) ** layout.emin)
    if not layout.subnormals and rounded < Fraction(2) ** layout.emin:
        return Fraction(0)
    return rounded


def round_one(x: float | Fraction, layout: Layout, rounding: str, overflow: str) -> float:
    """Round one number; NaN stands also for what the library must refuse, where there is no NaN."""
    negative = x < 0 if isinstance(x, Fraction) else math.copysign(1, x) < 0
    if not layout.signed and (x < 0 or (x == 0 and not layout.zero)):
        return math.nan
    if isinstance(x, float) and not math.isfinite(x):
        if math.isnan(x):
            return x
        result = largest(layout) if overflow == "saturate" else beyond(layout)
    else:
        exact = round_magnitude(abs(Fraction(x)), layout, rounding, negative)
        inward = {"toward-zero": True, "toward-positive": negative, "toward-negative": not negative}
        result = _exact_float(min(exact, Fraction(largest(layout))))
        # IEEE 754-2019 7.4: a directed rounding overflows only in the direction it rounds to
        if exact > largest(layout) and overflow == "ieee" and not inward.get(rounding, False):
            result = beyond(layout)
    if result == 0 and not _has_minus_zero(layout):
        return 0.0
    return math.copysign(result, -1 if negative else 1)


def beyond(layout: Layout) -> float:
    """Return what an overflow gives with the policy `ieee`."""
    return math.inf if layout.has_inf else math.nan


def _has_minus_zero(layout: Layout) -> bool:
    return layout.signed and layout.specials != "fnuz"


def round_array(x: Array, layout: Layout, rounding: str, overflow: str) -> NDArray[np.float64]:
    """Round as `round_one` does, by bisecting the sorted values of all codes."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        x = np.asarray(x, np.float64)
    values, midpoints, even = grid(layout)
    negative, finite = np.signbit(x), np.isfinite(x)
    magnitude = np.where(finite, np.abs(x), 0.0)

    low = np.maximum(np.searchsorted(values, magnitude, side="right") - 1, 0)
    in_between = magnitude > values[low]
    at = np.minimum(low, len(midpoints) - 1)
    # two odd neighbours (no mantissa): the larger of them, IEEE 754 4.3.1
    tie_goes_up = ~even[at] if rounding == "nearest-even" else np.ones_like(negative)
    nearest = (magnitude > midpoints[at]) | ((magnitude == midpoints[at]) & tie_goes_up)
    no, yes = np.zeros_like(negative), np.ones_like(negative)
    goes_up = {"toward-zero": no, "toward-positive": ~negative, "toward-negative": negative}
    index = low + (in_between & goes_up.get(rounding, nearest) & (low < len(midpoints)))

    inward = {"toward-zero": yes, "toward-positive": negative, "toward-negative": ~negative}
    over = np.where(finite, index == len(midpoints), ~np.isnan(x))
    stops = finite & inward.get(rounding, no) | (overflow == "saturate")
    result = np.where(over, np.where(stops, values[-2], beyond(layout)), values[index])
    if layout.zero and not layout.subnormals:
        result = np.where(result < 2.0**layout.emin, 0.0, result)
    result = np.copysign(np.where(np.isnan(x), np.nan, result), x)
    if not _has_minus_zero(layout):
        result = np.where(result == 0, 0.0, result)
    if not layout.signed:
        result = np.where((x < 0) | ((x == 0) & (not layout.zero)), np.nan, result)
    return result


def probes(layout: Layout, every: int = 1) -> NDArray[np.float64]:
    """Return numbers around every pair of neighbours, or `every` so many and those at the ends."""
    values = grid(layout).values
    pairs = np.unique(np.r_[: len(values) - 1 : every, :20, -20:0] % (len(values) - 1))
    return around(values[pairs], values[pairs + 1], beyond=float(values[-1]))


def around(low: Array, high: Array, beyond: float) -> NDArray[np.float64]:
    """Return numbers of both signs that are hard to round.

    For each pair of neighbours: both, the midpoint, their float64 neighbours and two points between;
    then zeros, infinities, NaNs, numbers past `beyond`, and float64 subnormals.
    """
    middle = (low + high) / 2
    parts = [low, high, middle, (low + middle) / 2, (middle + high) / 2]
    parts += [np.nextafter(part, side) for part in (low, high, middle) for side in (-np.inf, np.inf)]
    ends = [0.0, math.inf, math.nan, 5e-324, 2.0**-1022, 1e-40, beyond, 2 * beyond, 1e300]
    magnitudes = np.concatenate([*parts, ends])
    return np.concatenate([magnitudes, -magnitudes])


def narrowed(x: Array) -> NDArray[np.float32]:
    """Return the float32 numbers nearest to `x`, and their float32 neighbours."""
    with np.errstate(over="ignore"):
        narrow = np.asarray(x, np.float32)
        sides = [np.nextafter(narrow, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.concatenate([narrow, *sides])


def assert_same(actual: Array, expected: Array) -> None:
    """Assert equal values, NaN in the same places, and equal signs of zeros."""
    np.testing.assert_array_equal(actual, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual)[number], np.signbit(expected)[number])


# --- scales and sums ------------------------------------------------------------------------------


def power_of_two_scale(amax: Fraction, layout: Layout, rule: str) -> Fraction:
    """Return the E8M0 scale of a group, held at or above 2^-127."""
    top = Fraction(largest(layout))
    if amax == 0:
        return Fraction(1, 2**127)
    if rule == "ceil":
        exponent = floor_log2(amax / top)
        exponent += Fraction(2) ** exponent < amax / top
    elif rule == "floor":
        exponent = floor_log2(amax) - floor_log2(top)
    else:
        unit = Fraction(2) ** (floor_log2(amax) - layout.mantissa_bits)
        exponent = floor_log2(round(amax / unit) * unit) - floor_log2(top)  # round() ties to even
    return Fraction(2) ** max(exponent, -127)


def group_slices(
    granularity: str, shape: tuple[int, ...], axis: int
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Yield the index of each group and the slices that its elements fill."""
    axis %= len(shape)
    sizes = [1] * len(shape)
    if granularity == "tensor":
        sizes = list(shape)
    elif granularity == "row":
        sizes[axis] = shape[axis]
    else:
        rows, columns = map(int, granularity.split("x"))
        sizes[axis] = columns
        if rows > 1:
            across = max(other for other in range(len(shape)) if other != axis)
            sizes[across] = rows
    for index in product(*(range(-(-n // size)) for n, size in zip(shape, sizes, strict=True))):
        yield index, tuple(slice(i * size, (i + 1) * size) for i, size in zip(index, sizes, strict=True))


def nearest_float32(x: Fraction) -> np.float32:
    """Round a rational number to float32 once."""
    return np.float32(round_one(x, LAYOUTS["fp32"], "nearest-even", "ieee"))


def exact_product(a: Array, b: Array) -> NDArray[np.float32]:
    """Multiply matrices of float64 without rounding, then round each sum to float32 once."""
    left = [[Fraction(float(value)) for value in row] for row in a]
    right = [[Fraction(float(value)) for value in column] for column in b.T]
    sums = [
        [
            nearest_float32(sum((p * q for p, q in zip(row, column, strict=True)), Fraction(0)))
            for column in right
        ]
        for row in left
    ]
    return np.array(sums, np.float32).reshape(a.shape[0], b.shape[1])


def sum_in_sequence(x: Array, y: Array, layout: Layout, overflow: str) -> float:
    """Add products of two vectors one after the other, each sum rounded once; NaN as in `round_one`."""
    total = 0.0
    for p, q in zip(x.tolist(), y.tolist(), strict=True):
        if not (math.isfinite(total) and math.isfinite(p) and math.isfinite(q)):
            exact: float | Fraction = total + p * q  # infinity or NaN: nothing is lost in float64
        else:
            exact = Fraction(total) + Fraction(p) * Fraction(q)
            if exact == 0:  # whose sign IEEE 754 6.3 has, and a fraction has not
                exact = total + p * q if p * q == 0 else 0.0
        total = round_one(exact, layout, "nearest-even", overflow)
        if math.isnan(total):
            return total
    return total
