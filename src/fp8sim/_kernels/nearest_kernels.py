"""Kernels: float32 to the nearest value of a format, ties to even, in 32-bit lanes.

They serve every signed format with a zero whose normal numbers are float32 normals. What they need to know
of it is passed as numbers, so that each is compiled once. Two ideas do the work; for E4M3 and 0.3, whose
float32 bits are 0x3E99999A and which lies between 9 and 10 steps of 2^-5:

normal numbers
    Float32 and the format differ in 20 low mantissa bits (`drop`) and in the bias. Adding just under half of
    the last bit that stays, and one more where that bit is odd, carries into it exactly where rounding to
    nearest even goes up: 0x3E99999A + 0x7FFFF + 1 = 0x3EA1999A (the last bit that stays, 0x100000, is 1).
    Shifting by 20 gives 0x3EA, and subtracting the difference of the biases, 120 << 3 = 0x3C0 (`base`),
    the code 0x2A = 0 0101 010, which is 0.3125. A carry out of the mantissa raises the exponent, as it must.
subnormal numbers
    These are multiples of 2^-9. Adding `magic` = 2^14, the float32 whose own last bit is worth 2^-9, makes
    the adder of the CPU round to such a multiple, ties to even, and leave their number in the last bits:
    0.005 + 2^14 has the bits 0x46800003, and minus those of 2^14 that is 3, the code of 3 x 2^-9 = 0.00586.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fp8sim._kernels._jit import intrinsic, jit
from fp8sim.formats import FloatFormat

__all__ = [
    "INFINITY", "MAGNITUDE", "SIGN", "Nearest", "code_magnitude", "encode_nearest", "nearest",
    "round_nearest", "shift", "value_magnitude",
]  # fmt: skip

MAGNITUDE = np.uint32(0x7FFFFFFF)  # all bits of a float32 but the sign
SIGN = np.uint32(0x80000000)
INFINITY = np.uint32(0x7F800000)
QUIET = np.uint32(0x00400000)  # makes a NaN a quiet one
BLOCK = 2048  # elements between two looks at what is rare; they stay in the first-level cache


class Nearest(NamedTuple):
    """What the kernels ask of a format, all uint32: shifts, codes, and magnitudes as float32 bits."""

    drop: np.uint32  #: mantissa bits of float32 that the format lacks
    mask: np.uint32  #: the bits that stay
    half: np.uint32  #: added before the others go: just under half, or half where all ties go up
    odd: np.uint32  #: 1 where the last bit that stays decides a tie
    first: np.uint32  #: smallest normal number; 0 where dropping bits rounds the subnormals too
    base: np.uint32  #: the bits that stay of a normal number, minus its code
    magic: np.uint32  #: the float32 whose distance to the next is the smallest subnormal
    limit: np.uint32  #: largest code that a number gets: that of the largest value, or the next
    nan: np.uint32  #: code of NaN
    sign_drop: np.uint32  #: from the sign of a float32 down to the sign of a code
    sign: np.uint32  #: sign bit of a code
    cutoff: np.uint32  #: what is below it becomes a zero that needs care (no subnormals, no -0)
    keep: np.uint32  #: mask of the sign of such a zero
    flush: np.uint32  #: largest number that becomes zero
    over: np.uint32  #: smallest number that rounds beyond the largest value
    becomes: np.uint32  #: what those become


@lru_cache(maxsize=256)
def nearest(fmt: FloatFormat, policy: str) -> Nearest | None:
    """Return the numbers for the kernels, or None where a format needs float64."""
    mant, emin = fmt.mantissa_bits, fmt.emin
    if not (fmt.signed and fmt.zero and -126 <= emin <= 100):
        return None
    drop, base, top = 23 - mant, (emin + 126) << mant, fmt.top_code
    odd = int(drop > 0 and mant > 0)  # without a mantissa the significand is 1, odd: ties go up
    ieee, cutoff = policy == "ieee", _cutoff(fmt)
    numbers = {
        "drop": drop,
        "mask": 2**32 - (1 << drop),
        "half": (1 << drop >> 1) - odd,
        "odd": odd,
        "first": (emin + 127) << 23 if emin > -126 else 0,
        "base": base,
        "magic": _bits(2.0 ** (emin + drop)) if emin > -126 else 0,
        "limit": top + (ieee and (fmt.has_inf or fmt.has_nan)),
        "nan": fmt.nan_code,
        "sign_drop": 32 - fmt.bits,
        "sign": 1 << (fmt.bits - 1),
        "cutoff": cutoff,
        "keep": 0 if fmt.specials == "fnuz" else 2**32 - 1,
        "flush": max(cutoff - 1, _bits(2.0 ** (emin - mant) / 2)),
        "over": ((top + base + 1) << drop) - (1 << drop >> 1) + (odd and top % 2 == 0),
        "becomes": _bits((np.inf if fmt.has_inf else np.nan) if ieee else fmt.max),
    }
    return Nearest(**{name: np.uint32(number) for name, number in numbers.items()})


def _cutoff(fmt: FloatFormat) -> int:
    quantum = 2.0 ** (fmt.emin - fmt.mantissa_bits)
    if not fmt.subnormals and fmt.mantissa_bits:
        # Half a quantum under the smallest normal number, which gets the tie.
        return _bits(fmt.smallest_normal - quantum / 2)
    return _bits(quantum / 2) + 1 if fmt.specials == "fnuz" else 0


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


@intrinsic
def shift(typing: Any, a: Any, n: Any) -> Any:
    """Return ``a >> n`` of two uint32 as uint32, for n < 32.

    Numba widens 32-bit integers to 64 bits at every operation. A uint32() around each lets LLVM keep the
    lanes narrow, but not for shifts by a variable.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.lshr(*args)

    return types.uint32(types.uint32, types.uint32), generate


@jit
def code_magnitude(x: Any, a: Any, magic: Any, p: Any) -> Any:
    """Return the code of float32 `x` without its sign, whose magnitude has the bits `a`."""
    up = np.uint32(p.half + np.uint32(shift(a, p.drop) & p.odd))
    normal = np.uint32(shift(np.uint32(a + up), p.drop) - p.base)
    steps = np.uint32(np.float32(np.float32(abs(x)) + magic).view(np.uint32) - p.magic)
    return normal if a >= p.first else steps


@jit
def value_magnitude(x: Any, a: Any, magic: Any, p: Any) -> Any:
    """Return the bits of what float32 `x` becomes, without its sign, whose magnitude has the bits `a`."""
    up = np.uint32(p.half + np.uint32(shift(a, p.drop) & p.odd))
    normal = np.uint32(np.uint32(a + up) & p.mask)
    small = np.float32(np.float32(np.float32(abs(x)) + magic) - magic).view(np.uint32)
    return normal if a >= p.first else small


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
