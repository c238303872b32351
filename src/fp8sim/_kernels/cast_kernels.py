"""Kernels: casts of flat arrays: any format, rounding and overflow policy, one number at a time in float64.

Float32 to the nearest, the usual case, goes the quick way of `quantize_kernels`. For all else `cast_one`
counts how many quanta (steps between neighbouring values) a magnitude has, and compares what is left over
with a threshold: one half to the nearest, a random number for stochastic rounding, 0 or more than 1 for the
directed ones. In E4M3 and for 0.3 the quantum is 2^-5: 0.3 is 9 quanta and a rest of 0.6, above one half, so
10 quanta: 0.3125. Its exponent, -2, is 4 above that of the smallest normal number, -6, so the code is
(4 << 3) + 10 = 42 = 0x2A: the 10 holds the leading 8 of a normal number, which stands for the 8 codes of the
subnormals below the first binade.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fp8sim._kernels._jit import jit
from fp8sim._kernels.quantize_kernels import (
    BLOCK,
    ENDLESS,
    INFINITY,
    MAGNITUDE,
    SIGN,
    code_magnitude,
    complement,
    shift,
    spread,
    value_magnitude,
)
from fp8sim.formats import FloatFormat

__all__ = [
    "Mode", "cast_one", "encode_any", "encode_nearest", "encode_rows", "mode", "round_any", "round_nearest",
]  # fmt: skip

TWO_52 = 2.0**52  # adding it leaves an integer below it in the last bits
SMALL, LARGE = 2.0**-250, 2.0**129  # magnitudes are held between: no rounding of these differs from beyond
NEVER = 2.0  # a threshold that no rest reaches
QUIET = np.uint32(0x00400000)  # makes a NaN a quiet one


class Mode(NamedTuple):
    """What `cast_one` asks of a format, a rounding and an overflow policy."""

    mantissa: int  #: stored bits
    emin: int  #: exponent of the smallest normal number
    lead: int  #: codes that a format without zero lacks below its first binade
    flush: int  #: codes below it become zero
    top: int  #: code of the largest value
    limit: int  #: code of what is beyond it
    nan: int  #: code of NaN
    sign: int  #: sign bit of a code, or 0
    complement: int  #: what the code of -x is that of x less than, in two's complement, else 0
    negative_zero: bool  #: whether -0 has a code
    smallest: float  #: smallest value of a format without zero, else 0
    least: float  #: numbers below it have no code, which are those below zero in an unsigned format
    max: float  #: largest value
    beyond: float  #: what is beyond it
    positive: float  #: added to the threshold of positive numbers
    negative: float  #: and of negative ones
    ties: int  #: on the threshold, go up 0: never, 1: from an odd count, 2: always
    inward_positive: bool  #: whether positive numbers stop at the largest value
    inward_negative: bool  #: and negative ones


@lru_cache(maxsize=256)
def mode(fmt: FloatFormat, rounding: str, policy: str) -> Mode:
    """Return the numbers for `cast_one`."""
    ieee = policy == "ieee" and (fmt.has_inf or fmt.has_nan)
    beyond = fmt.max if policy == "saturate" else np.inf if fmt.has_inf else np.nan
    to_zero, up, down = (rounding == f"toward-{where}" for where in ("zero", "positive", "negative"))
    normal = 1 << fmt.mantissa_bits
    return Mode(
        mantissa=fmt.mantissa_bits,
        emin=fmt.emin,
        lead=0 if fmt.zero else normal,
        flush=normal if fmt.zero and not fmt.subnormals else 0,
        top=fmt.top_code,
        limit=fmt.top_code + ieee,
        nan=fmt.nan_code,
        sign=1 << (fmt.bits - 1) if fmt.signed else 0,
        complement=2**fmt.bits if fmt.twos_complement else 0,
        negative_zero=fmt.has_negative_zero,
        smallest=0.0 if fmt.zero else fmt.smallest_normal,
        least=-np.inf if fmt.signed else 0.0 if fmt.zero else 5e-324,
        max=fmt.max,
        beyond=float(beyond),
        positive=NEVER if to_zero or down else 0.0,
        negative=NEVER if to_zero or up else 0.0,
        ties={"nearest-even": 1, "nearest-away": 2}.get(rounding, 0),
        inward_positive=to_zero or down,
        inward_negative=to_zero or up,
    )


@jit
def cast_one(x: float, threshold: float, p: Any) -> Any:
    """Return the code and the value of the magnitude, the bit of its sign, and whether it went beyond."""
    bits, a = np.float64(x).view(np.int64), abs(x)
    bounded = np.float64(min(max(a, SMALL), LARGE))
    # The exponent field of float64, not below that of the format's smallest normal number; multiplying by
    # 2^(mantissa - exponent), built from its bits, is exact, and turns quanta into whole numbers.
    field = max(bounded.view(np.int64) >> 52, p.emin + 1023)
    ratio = bounded * np.int64((2046 - field + p.mantissa) << 52).view(np.float64) if a > 0 else 0.0
    steps = np.floor(ratio)
    rest = ratio - steps
    negative = bits < 0
    limit = threshold + (p.negative if negative else p.positive)
    # The float64 steps + 2^52 has `steps` in its low bits; `ties & (count | 2)` is true for ties = 1 only
    # where count is odd, and for ties = 2 always.
    count = np.float64(steps + TWO_52).view(np.int64)
    up = (rest > limit) | ((rest == limit) & ((p.ties & (count | 2)) != 0))
    count = (count & ((1 << 52) - 1)) + up
    value = count * np.int64((field - p.mantissa) << 52).view(np.float64)
    code = ((field - (p.emin + 1023)) << p.mantissa) + count - p.lead

    code = 0 if code < p.flush else max(code, 0)
    value = 0.0 if code < p.flush else max(value, p.smallest)
    inward = (p.inward_negative if negative else p.inward_positive) & (a < np.inf)
    over = code > p.top
    code = (p.top if inward else p.limit) if over else code
    value = (p.max if inward else p.beyond) if over else value
    keep = (p.sign != 0) & (p.negative_zero | (code != 0))
    sign = bits & np.int64(-(2**63)) if keep else 0
    if x < p.least:  # what has no code is not a number
        code, value, sign = p.nan, np.nan, 0
    if x != x:
        code, value, sign = p.nan, a, bits & np.int64(-(2**63))
    return code, value, sign, over


@jit
def _with_sign(code: int, sign: int, p: Any) -> int:
    """Return the code of a magnitude with its sign; of no -0 that has no code."""
    negative = p.complement - code if p.complement else code | p.sign
    return negative if sign else code


@jit
def encode_any(x: Any, thresholds: Any, out: Any, p: Any) -> Any:
    """Encode float64 `x` into uint32 `out`; return whether x, and whether the result, holds NaN."""
    nan, lost = 0, 0
    for i in range(out.size):
        code, value, sign, _ = cast_one(x[i], thresholds[i], p)
        nan, lost = nan | (x[i] != x[i]), lost | (value != value)
        out[i] = _with_sign(code, sign, p)
    return nan, lost


@jit
def round_any(x: Any, thresholds: Any, out: Any, p: Any) -> Any:
    """Round float64 `x` into float64 `out`; return whether x, and whether the result, holds NaN."""
    nan, lost = 0, 0
    bits = out.view(np.int64)
    for i in range(out.size):
        _, value, sign, _ = cast_one(x[i], thresholds[i], p)
        nan, lost = nan | (x[i] != x[i]), lost | (value != value)
        bits[i] = np.float64(value).view(np.int64) | sign
    return nan, lost


@jit
def encode_rows(x: Any, codes: Any, scales: Any, tile: Any, p: Any) -> Any:
    """Divide by given scales in the dtype of `x` and encode, for what the float32 kernel does not serve.

    Returns how many elements saturated and how many became zero.
    """
    divisor, quotient = np.empty(BLOCK, x.dtype), np.empty(BLOCK, x.dtype)
    saturated, flushed = 0, 0
    for row in range(x.shape[0]):
        for start in range(0, x.shape[1], BLOCK):
            values, part = x[row][start : start + BLOCK], codes[row][start : start + BLOCK]
            spread(scales[row // tile[0]], ENDLESS, tile[1], start, divisor[: part.size])
            for i in range(part.size):
                quotient[i] = values[i] / divisor[i]
            for i in range(part.size):
                number = np.float64(quotient[i])
                code, value, sign, beyond = cast_one(number, 0.5, p)
                part[i] = _with_sign(code, sign, p)
                saturated += beyond & (abs(number) < np.inf)
                flushed += (value == 0) & (values[i] != 0)
    return saturated, flushed


@jit
def _encode_block(x: Any, bits: Any, codes: Any, p: Any) -> Any:
    """Encode, NaN and odd zeros apart; return the largest and the smallest magnitude, as bits."""
    magic = np.uint32(p.magic).view(np.float32)
    worst, least = np.uint32(0), MAGNITUDE
    for i in range(codes.size):
        a = np.uint32(bits[i] & MAGNITUDE)
        code = min(code_magnitude(x[i], a, magic, p), p.limit)  # beyond the largest: that, or the next
        worst, least = max(worst, a), min(least, a)
        codes[i] = code | np.uint32(shift(bits[i], p.sign_drop) & p.sign)
    return worst, least


@jit
def encode_nearest(x: Any, out: Any, p: Any) -> Any:
    """Encode float32 `x` into unsigned `out`, both flat; return the extreme magnitudes, as bits."""
    worst, least = np.uint32(0), MAGNITUDE
    for start in range(0, out.size, BLOCK):
        values, codes = x[start : start + BLOCK], out[start : start + BLOCK]
        bits = values.view(np.uint32)
        high, low = _encode_block(values, bits, codes, p)
        if high > INFINITY:
            for i in range(codes.size):
                if np.uint32(bits[i] & MAGNITUDE) > INFINITY:
                    codes[i] = p.nan | np.uint32(shift(bits[i], p.sign_drop) & p.sign)
        if low < p.cutoff:
            for i in range(codes.size):
                if np.uint32(bits[i] & MAGNITUDE) < p.cutoff:
                    codes[i] = shift(bits[i], p.sign_drop) & np.uint32(p.sign & p.keep)
        if p.complement:
            complement(codes, p)
        worst, least = max(worst, high), min(least, low)
    return worst, least


@jit
def _round_block(x: Any, bits: Any, out: Any, p: Any) -> Any:
    """Round, NaN and odd zeros apart; return the largest and the smallest magnitude, as bits."""
    magic = np.uint32(p.magic).view(np.float32)
    worst, least = np.uint32(0), MAGNITUDE
    for i in range(out.size):
        a = np.uint32(bits[i] & MAGNITUDE)
        value = p.becomes if a >= p.over else value_magnitude(x[i], a, magic, p)
        worst, least = max(worst, a), min(least, a)
        out[i] = np.uint32(value | np.uint32(bits[i] & SIGN))
    return worst, least


@jit
def round_nearest(x: Any, out: Any, p: Any) -> Any:
    """Round float32 `x` into float32 `out`, both flat; return the extreme magnitudes, as bits."""
    worst, least = np.uint32(0), MAGNITUDE
    for start in range(0, out.size, BLOCK):
        values, rounded = x[start : start + BLOCK], out[start : start + BLOCK].view(np.uint32)
        bits = values.view(np.uint32)
        high, low = _round_block(values, bits, rounded, p)
        if high > INFINITY:
            for i in range(rounded.size):
                if np.uint32(bits[i] & MAGNITUDE) > INFINITY:
                    rounded[i] = bits[i] | QUIET
        if low < p.cutoff:
            for i in range(rounded.size):
                if np.uint32(bits[i] & MAGNITUDE) < p.cutoff:
                    rounded[i] = bits[i] & np.uint32(SIGN & p.keep)
        worst, least = max(worst, high), min(least, low)
    return worst, least
