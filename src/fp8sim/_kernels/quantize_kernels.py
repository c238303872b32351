"""Kernels: float32 to the nearest value of a format, ties to even, in tiles that share a scale.

A matrix is cut into tiles, and each is read twice while it is in a cache: for its largest magnitude, from
which its scale is picked, and for its quotients by that scale, which are rounded. All runs in 32-bit lanes,
for every signed format with a zero whose normal numbers are float32 normals; what the kernels need to know
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
    "BLOCK", "ENDLESS", "INFINITY", "MAGNITUDE", "SIGN", "Nearest", "Rule", "code_magnitude", "complement",
    "count_lost", "dequantize_rows", "given", "largest", "look_up", "nearest", "prepare_span",
    "quantize_rows", "round_span", "round_trip_rows", "scale_rule", "scaled", "shift", "spread",
    "value_magnitude",
]  # fmt: skip

MAGNITUDE = np.uint32(0x7FFFFFFF)  # all bits of a float32 but the sign
SIGN = np.uint32(0x80000000)
INFINITY = np.uint32(0x7F800000)
SMALLEST = np.float32(2.0**-149)  # no FP32 scale is below it
LARGEST = np.float32(np.finfo(np.float32).max)  # and no multiplier above this
ENDLESS = np.float32(np.inf)
BLOCK = 2048  # columns done at a time: they stay in the first-level cache


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
    complement: np.uint32  #: mask of a code in two's complement, else 0
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
    adder = emin > -126 or not mant  # else dropping bits does it; but the tie between 0 and 2^emin goes to 0
    numbers = {
        "drop": drop,
        "mask": 2**32 - (1 << drop),
        "half": (1 << drop >> 1) - odd,
        "odd": odd,
        "first": (emin + 127) << 23 if adder else 0,
        "base": base,
        "magic": _bits(2.0 ** (emin + drop)) if adder else 0,
        "limit": top + (ieee and (fmt.has_inf or fmt.has_nan)),
        "nan": fmt.nan_code,
        "sign_drop": 32 - fmt.bits,
        "sign": 1 << (fmt.bits - 1),
        "complement": 2**fmt.bits - 1 if fmt.twos_complement else 0,
        "cutoff": cutoff,
        "keep": 2**32 - 1 if fmt.has_negative_zero else 0,
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
    return 0 if fmt.has_negative_zero else _bits(quantum / 2) + 1


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


class Rule(NamedTuple):
    """How a scale is picked from the largest magnitude of its tile."""

    kind: int  #: 0: amax / max; 1, 2, 3: a power of two, ceil, floor or even; -1: it is given
    floor: np.float32  #: smallest amax taken
    max: np.float32  #: largest value of the element format
    emax: int  #: its exponent
    fraction: int  #: its fraction bits in float64
    mantissa: int  #: mantissa bits of the element format
    inverse: bool  #: whether the scale is the reciprocal of the multiplier, not amax / max
    multiply: tuple[bool, ...]  #: ``(True,)``: elements are multiplied; ``()``: they are divided by scales


def scale_rule(fmt: FloatFormat, name: str, amax_floor: float, division: str) -> Rule:
    """Return the numbers of a scale rule for elements of `fmt`.

    Powers of two are divided by whatever `division` says: multiplying by their reciprocals is the same.
    Whether elements are multiplied is in the length of a tuple, and so in its type, for which numba compiles
    a kernel apart: a flag that each element asks for costs a tenth of the time.
    """
    kind = ("amax", "ceil", "floor", "even").index(name)
    multiply = (True,) * (division != "divide" and kind == 0)
    fraction = int(np.float64(fmt.max).view(np.int64)) & (2**52 - 1)
    with np.errstate(over="ignore"):
        floor, top = np.float32(amax_floor), np.float32(fmt.max)
    return Rule(kind, floor, top, fmt.emax, fraction, fmt.mantissa_bits, division == "te-current", multiply)


def given(fmt: FloatFormat, multiply: bool) -> Rule:
    """Return the rule for scales, or multipliers, that are there already."""
    return scale_rule(fmt, "amax", 0.0, "reciprocal" if multiply else "divide")._replace(kind=-1)


@jit
def _largest(line: Any, magnitude: Any, tile_columns: int, tiles: Any) -> None:
    """Raise `tiles` to the largest magnitude of each `tile_columns` of a line of float bits."""
    if tile_columns == 1:
        for i in range(line.size):
            tiles[i] = max(tiles[i], line[i] & magnitude)
        return
    for tile in range(tiles.size):
        part, top = line[tile * tile_columns : (tile + 1) * tile_columns], tiles[tile]
        for i in range(part.size):
            top = max(top, part[i] & magnitude)
        tiles[tile] = top


@jit
def largest(bits: Any, magnitude: Any, tile: Any, out: Any) -> None:
    """Write the largest magnitude of each tile of (rows, columns) float bits, as bits.

    Positive floats are in the order of their bits read as integers: 0.3 is 0x3E99999A, 448 is 0x43E00000.
    """
    out[:] = 0
    for row in range(bits.shape[0]):
        _largest(bits[row], magnitude, tile[1], out[row // tile[0]])


@jit
def _pick_quotients(tiles: Any, r: Any, scales: Any, multipliers: Any) -> None:
    """Pick amax / max, and max / amax, as `scales.pick_scales` does; infinity where no scale fits."""
    for tile in range(tiles.size):
        amax = max(np.uint32(tiles[tile]).view(np.float32), r.floor)
        scale = max(np.float32(amax / r.max), SMALLEST)
        if len(r.multiply):
            multiplier = min(np.float32(r.max / amax), LARGEST) if amax > 0 else np.float32(1)
            multipliers[tile] = multiplier
            scale = np.float32(np.float32(1) / multiplier) if r.inverse else scale
        scale = scale if amax > 0 else np.float32(1)
        scales[tile] = scale if tiles[tile] < INFINITY else ENDLESS


@jit
def _pick_powers(tiles: Any, r: Any, scales: Any) -> None:
    """Pick powers of two as `scales.pick_scales` does; infinity where none fits.

    The exponent of amax is read from its float64 bits. For E4M3 (448 = 1.75 x 2^8) and amax = 0.9 =
    1.8 x 2^-1: ``floor`` gives 2^(-1 - 8); ``ceil`` one more, as the fraction 0.8 is above that of 448,
    0.75; ``even`` adds just under half of the third fraction bit (and one more where that bit is odd), so
    that an amax that rounds up to 2^0, from 1.9375 x 2^-1 on, carries into the exponent.
    """
    for tile in range(tiles.size):
        amax = max(np.uint32(tiles[tile]).view(np.float32), r.floor)
        bits = np.float64(amax).view(np.int64)
        fraction = bits & ((1 << 52) - 1)
        if r.kind == 3:
            bits += (1 << (51 - r.mantissa)) - 1 + ((bits >> (52 - r.mantissa)) & 1 if r.mantissa else 1)
        exponent = (bits >> 52) - 1023 - r.emax + (1 if r.kind == 1 and fraction > r.fraction else 0)
        held = max(exponent, -127) if amax > 0 else -127
        scale = np.float32(np.int64((held + 1023) << 52).view(np.float64))
        scales[tile] = scale if tiles[tile] < INFINITY and exponent <= 127 else ENDLESS


@jit
def spread(scales: Any, zero: Any, tile_columns: int, start: int, out: Any) -> None:
    """Repeat scales over the columns from `start` on, `zero` for 0: infinity, which divides to zero."""
    for tile in range(start // tile_columns, (start + out.size - 1) // tile_columns + 1):
        scale = scales[tile] if scales[tile] != 0 else zero
        part = out[max(tile * tile_columns - start, 0) : (tile + 1) * tile_columns - start]
        for i in range(part.size):
            part[i] = scale


@jit
def _scale_tiles(lines: Any, span: Any, tile_columns: int, tiles: Any, r: Any, grids: Any) -> Any:
    """Pick the scales of the tiles of some lines of bits; return the largest, infinity where none fits."""
    scales, multipliers = grids
    tiles[:] = 0
    for row in range(lines.shape[0]):
        _largest(lines[row][span[0] : span[1]], MAGNITUDE, tile_columns, tiles)
    if r.kind == 0:
        _pick_quotients(tiles, r, scales, multipliers)
    else:
        _pick_powers(tiles, r, scales)
    top = np.float32(0)
    for tile in range(tiles.size):
        top = max(top, scales[tile])
    return top


@jit
def scaled(x: Any, by: Any, multiply: Any) -> Any:
    """Return an element as it is before it is rounded, by a multiplier or by a divisor."""
    return np.float32(x * by) if len(multiply) else np.float32(x / by)


@jit
def _scale_encode(x: Any, by: Any, multiply: Any, codes: Any, p: Any) -> Any:
    """Encode scaled numbers of up to the largest value; return their extreme magnitudes, as bits."""
    magic = np.uint32(p.magic).view(np.float32)
    worst, least = np.uint32(0), MAGNITUDE
    for i in range(codes.size):
        number = scaled(x[i], by[i], multiply)
        bits = np.float32(number).view(np.uint32)
        a = np.uint32(bits & MAGNITUDE)
        code = code_magnitude(number, a, magic, p)
        worst, least = max(worst, a), min(least, a)
        codes[i] = code | np.uint32(shift(bits, p.sign_drop) & p.sign)
    return worst, least


@jit
def complement(codes: Any, p: Any) -> None:
    """Turn sign and magnitude into two's complement: -3 is 0x83, and 0x80 - 0x83 is 0xFD in 8 bits."""
    for i in range(codes.size):
        code = np.uint32(codes[i])
        codes[i] = np.uint32(np.uint32(p.sign - code) & p.complement) if code >= p.sign else code


@jit
def _look_again(x: Any, by: Any, multiply: Any, codes: Any, p: Any) -> Any:
    """Mend what is beyond, and odd zeros (no subnormals, no -0); count what saturated or became zero."""
    saturated, flushed = np.uint32(0), np.uint32(0)
    for i in range(x.size):
        bits = np.float32(scaled(x[i], by[i], multiply)).view(np.uint32)
        a = np.uint32(bits & MAGNITUDE)
        sign = np.uint32(shift(bits, p.sign_drop) & p.sign)
        code = np.uint32(sign & p.keep) if a < p.cutoff else np.uint32(codes[i])
        codes[i] = np.uint32(sign | p.limit) if a >= p.over else code
        saturated = np.uint32(saturated + np.uint32((a >= p.over) & (a < INFINITY)))
        flushed = np.uint32(flushed + np.uint32((a <= p.flush) & (x[i] != 0)))
    return saturated, flushed


@jit
def _scale_round(x: Any, by: Any, back: Any, multiply: Any, out: Any, p: Any) -> Any:
    """Round scaled numbers of up to the largest value and scale back; return their extreme magnitudes."""
    magic = np.uint32(p.magic).view(np.float32)
    worst, least = np.uint32(0), MAGNITUDE
    for i in range(out.size):
        number = scaled(x[i], by[i], multiply)
        bits = np.float32(number).view(np.uint32)
        a = np.uint32(bits & MAGNITUDE)
        value = np.uint32(value_magnitude(number, a, magic, p) | np.uint32(bits & SIGN))
        worst, least = max(worst, a), min(least, a)
        factor = back[i] if len(multiply) else by[i]  # the same where elements are divided: one load
        out[i] = np.float32(np.uint32(value).view(np.float32) * factor)
    return worst, least


@jit
def _round_again(x: Any, by: Any, back: Any, multiply: Any, out: Any, p: Any) -> None:
    """Mend what `_scale_round` got wrong: what is beyond, odd zeros, and scales of zero."""
    for i in range(x.size):
        bits = np.float32(scaled(x[i], by[i], multiply)).view(np.uint32)
        a, sign = np.uint32(bits & MAGNITUDE), np.uint32(bits & SIGN)
        factor = back[i] if len(multiply) else by[i]
        if a >= p.over:
            out[i] = np.float32(np.uint32(sign | p.becomes).view(np.float32) * factor)
        elif a < max(p.cutoff, np.uint32(1)):
            out[i] = np.uint32(sign & p.keep).view(np.float32)


@jit
def round_span(x: Any, by: Any, back: Any, multiply: Any, out: Any, p: Any) -> Any:
    """Round scaled numbers and scale back; return their extreme magnitudes, as bits."""
    worst, least = _scale_round(x, by, back, multiply, out, p)
    if worst >= p.over or least < max(p.cutoff, np.uint32(1)):
        _round_again(x, by, back, multiply, out, p)
    return worst, least


@jit
def count_lost(x: Any, p: Any) -> Any:
    """Count the finite numbers beyond the largest value, and those other than zero that become zero."""
    saturated, flushed = 0, 0
    for i in range(x.size):
        a = np.uint32(x[i] & MAGNITUDE)
        saturated += (a >= p.over) & (a < INFINITY)
        flushed += (a <= p.flush) & (a > 0)
    return saturated, flushed


@jit
def prepare_span(place: Any, grids: Any, tile_columns: int, r: Any, scratch: Any) -> Any:
    """Pick the scales of a span of columns unless given, and spread what elements are scaled by and back by.

    `place` is some lines of bits, their strip of the grids and the span. Returns the largest scale picked.
    """
    lines, strip, (start, stop) = place
    scales = grids[0][strip]
    multipliers = grids[1][strip] if len(r.multiply) else scales
    tiles, by, back = scratch
    top = np.float32(0)
    if r.kind != -1:
        begin, end = start // tile_columns, (stop - 1) // tile_columns + 1
        part = scales[begin:end], multipliers[begin:end]
        top = _scale_tiles(lines, (start, stop), tile_columns, tiles[: end - begin], r, part)
    if len(r.multiply):
        spread(multipliers, np.float32(0), tile_columns, start, by[: stop - start])
        spread(scales, np.float32(0), tile_columns, start, back[: stop - start])
    else:
        spread(scales, ENDLESS, tile_columns, start, by[: stop - start])
    return top


@jit
def quantize_rows(x: Any, codes: Any, grids: Any, tile: Any, r: Any, p: Any) -> Any:
    """Quantise (rows, columns) float32 `x` in tiles into `codes`.

    `grids` are scales and multipliers, one per tile, picked here if `r.kind` is not -1; where elements are
    divided by scales, both are the same array. Returns the largest scale picked, and how many elements
    saturated and how many became zero.
    """
    columns, bits = x.shape[1], x.view(np.uint32)
    width = _width(tile[1], r)
    scratch = np.empty(width, np.uint32), np.empty(width, np.float32), np.empty(width, np.float32)
    top, saturated, flushed = np.float32(0), 0, 0
    for strip in range(grids[0].shape[0]):
        first, last = strip * tile[0], min((strip + 1) * tile[0], x.shape[0])
        for start in range(0, columns, width):
            stop = min(start + width, columns)
            top = max(top, prepare_span((bits[first:last], strip, (start, stop)), grids, tile[1], r, scratch))
            by = scratch[1][: stop - start]
            for row in range(first, last):
                values, part = x[row][start:stop], codes[row][start:stop]
                worst, least = _scale_encode(values, by, r.multiply, part, p)
                if worst >= p.over or least <= p.flush:
                    beyond, zeros = _look_again(values, by, r.multiply, part, p)
                    saturated, flushed = saturated + beyond, flushed + zeros
                if p.complement:
                    complement(part, p)
    return top, saturated, flushed


@jit
def round_trip_rows(x: Any, out: Any, grids: Any, tile: Any, r: Any, p: Any) -> Any:
    """Write the values that the codes of `quantize_rows` stand for; return the largest scale picked."""
    columns, bits = x.shape[1], x.view(np.uint32)
    width = _width(tile[1], r)
    scratch = np.empty(width, np.uint32), np.empty(width, np.float32), np.empty(width, np.float32)
    top = np.float32(0)
    for strip in range(grids[0].shape[0]):
        first, last = strip * tile[0], min((strip + 1) * tile[0], x.shape[0])
        for start in range(0, columns, width):
            stop = min(start + width, columns)
            top = max(top, prepare_span((bits[first:last], strip, (start, stop)), grids, tile[1], r, scratch))
            by, back = scratch[1][: stop - start], scratch[2][: stop - start]
            for row in range(first, last):
                values, part = x[row][start:stop], out[row][start:stop]
                round_span(values, by, back, r.multiply, part, p)
    return top


@jit
def _width(tile_columns: int, r: Any) -> int:
    """Return how many columns are done at a time: whole tiles where scales are picked."""
    return BLOCK if r.kind == -1 else max(BLOCK // tile_columns, 1) * tile_columns


@jit
def dequantize_rows(codes: Any, scales: Any, table: Any, tile: Any, out: Any) -> None:
    """Write the value of each code times its scale, for (rows, columns) in tiles."""
    for row in range(codes.shape[0]):
        line, values, factors = codes[row], out[row], scales[row // tile[0]]
        if tile[1] == 1:
            for i in range(line.size):
                values[i] = table[line[i]] * factors[i]
        else:
            for j in range(factors.size):
                part = line[j * tile[1] : (j + 1) * tile[1]]
                products = values[j * tile[1] : (j + 1) * tile[1]]
                for i in range(part.size):
                    products[i] = table[part[i]] * factors[j]


@jit
def look_up(codes: Any, table: Any, out: Any) -> None:
    """Write the value of each code of a matrix."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = table[codes[i, j]]
