"""Float32 to the nearest value of a format, ties to even, in 32-bit lanes: the fast kernels.

They serve every signed format with a zero whose normal numbers are float32 normals. What they need to know
of it is passed as numbers, so that each is compiled once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fp8sim._kernels._jit import intrinsic, jit
from fp8sim.formats import FloatFormat
from fp8sim.reference.codes import nan_code

__all__ = [
    "INFINITY",
    "MAGNITUDE",
    "SIGN",
    "Nearest",
    "encode_nearest",
    "nearest",
    "round_nearest",
    "shift",
    "top_code",
]

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
    drop, base, top = 23 - mant, (emin + 126) << mant, top_code(fmt)
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
        "nan": nan_code(fmt),
        "sign_drop": 32 - fmt.bits,
        "sign": 1 << (fmt.bits - 1),
        "cutoff": cutoff,
        "keep": 0 if fmt.specials == "fnuz" else 2**32 - 1,
        "flush": max(cutoff - 1, _bits(2.0 ** (emin - mant) / 2)),
        "over": ((top + base + 1) << drop) - (1 << drop >> 1) + (odd and top % 2 == 0),
        "becomes": _bits((np.inf if fmt.has_inf else np.nan) if ieee else fmt.max),
    }
    return Nearest(**{name: np.uint32(number) for name, number in numbers.items()})


def top_code(fmt: FloatFormat) -> int:
    """Return the code of the largest finite value."""
    steps = int(fmt.max * 2.0 ** (fmt.mantissa_bits - fmt.emax))
    return ((fmt.emax - fmt.emin - (not fmt.zero)) << fmt.mantissa_bits) + steps


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
def _encode_block(x: Any, bits: Any, codes: Any, p: Any) -> Any:
    """Encode, NaN and odd zeros apart; return the largest and the smallest magnitude, as bits."""
    magic = np.uint32(p.magic).view(np.float32)
    worst, least = np.uint32(0), MAGNITUDE
    for i in range(codes.size):
        a = np.uint32(bits[i] & MAGNITUDE)
        up = np.uint32(p.half + np.uint32(shift(a, p.drop) & p.odd))
        normal = np.uint32(shift(np.uint32(a + up), p.drop) - p.base)
        # Adding `magic` makes the adder round to whole quanta and leave their number in the last bits.
        steps = np.uint32(np.float32(np.float32(abs(x[i])) + magic).view(np.uint32) - p.magic)
        code = min(normal if a >= p.first else steps, p.limit)
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
        up = np.uint32(p.half + np.uint32(shift(a, p.drop) & p.odd))
        normal = np.uint32(np.uint32(a + up) & p.mask)
        small = np.float32(np.float32(np.float32(abs(x[i])) + magic) - magic).view(np.uint32)
        value = normal if a >= p.first else small
        value = p.becomes if a >= p.over else value
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
