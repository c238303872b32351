"""Kernels: casts of any format, rounding and overflow policy, one number at a time in float64.

`cast_one` counts how many quanta (steps between neighbouring values) a magnitude has, and compares what is
left over with a threshold: one half to the nearest, a random number for stochastic rounding, 0 or more than
1 for the directed ones. In E4M3 and for 0.3 the quantum is 2^-5: 0.3 is 9 quanta and a rest of 0.6, above
one half, so 10 quanta: 0.3125. Its exponent, -2, is 4 above that of the smallest normal number, -6, so the
code is (4 << 3) + 10 = 42 = 0x2A: the 10 holds the leading 8 of a normal number, which stands for the 8
codes of the subnormals below the first binade.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fp8sim._kernels._jit import jit
from fp8sim.formats import FloatFormat

__all__ = ["Mode", "cast_one", "encode_any", "look_up", "mode", "round_any"]

TWO_52 = 2.0**52  # adding it leaves an integer below it in the last bits
SMALL, LARGE = 2.0**-250, 2.0**129  # magnitudes are held between: no rounding of these differs from beyond
NEVER = 2.0  # a threshold that no rest reaches


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
        negative_zero=fmt.specials != "fnuz",
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
def encode_any(x: Any, thresholds: Any, out: Any, p: Any) -> Any:
    """Encode float64 `x` into uint32 `out`; return whether x, and whether the result, holds NaN."""
    nan, lost = 0, 0
    for i in range(out.size):
        code, value, sign, _ = cast_one(x[i], thresholds[i], p)
        nan, lost = nan | (x[i] != x[i]), lost | (value != value)
        out[i] = code | (p.sign if sign else 0)
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
def look_up(codes: Any, table: Any, out: Any) -> None:
    """Write the value of each code, all flat."""
    for i in range(out.size):
        out[i] = table[codes[i]]
