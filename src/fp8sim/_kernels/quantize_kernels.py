"""Kernels: a matrix in tiles, each with its scale, each read twice while it is in a cache."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fp8sim._kernels._jit import jit
from fp8sim._kernels.cast_kernels import cast_one
from fp8sim._kernels.nearest_kernels import (
    INFINITY,
    MAGNITUDE,
    SIGN,
    code_magnitude,
    shift,
    value_magnitude,
)
from fp8sim.formats import FloatFormat

__all__ = [
    "Rule", "count_lost", "dequantize_rows", "encode_rows", "largest", "quantize_rows", "round_trip_rows",
    "scale_rule",
]  # fmt: skip

SMALLEST = np.float32(2.0**-149)  # no FP32 scale is below it
BLOCK = 2048  # columns quantised at a time: they stay in the first-level cache


class Rule(NamedTuple):
    """How a scale is picked from the largest magnitude of its tile."""

    kind: int  #: 0: amax / max; 1, 2, 3: a power of two, ceil, floor or even; -1: it is given
    floor: np.float32  #: smallest amax taken
    max: np.float32  #: largest value of the element format
    emax: int  #: its exponent
    fraction: int  #: its fraction bits in float64
    mantissa: int  #: mantissa bits of the element format


def scale_rule(fmt: FloatFormat, name: str | None, amax_floor: float = 0.0) -> Rule:
    """Return the numbers of a scale rule for elements of `fmt`; no name: the scales are given."""
    kind = -1 if name is None else ("amax", "ceil", "floor", "even").index(name)
    fraction = int(np.float64(fmt.max).view(np.int64)) & (2**52 - 1)
    with np.errstate(over="ignore"):
        return Rule(kind, np.float32(amax_floor), np.float32(fmt.max), fmt.emax, fraction, fmt.mantissa_bits)


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
def _pick_quotients(tiles: Any, r: Any, scales: Any) -> None:
    """Pick amax / max as `scales.pick_scales` does; infinity where none fits."""
    for tile in range(tiles.size):
        amax = max(np.uint32(tiles[tile]).view(np.float32), r.floor)
        scale = max(np.float32(amax / r.max), SMALLEST)
        scale = scale if amax > 0 else np.float32(1)
        scales[tile] = scale if tiles[tile] < INFINITY else np.float32(np.inf)


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
        scales[tile] = scale if tiles[tile] < INFINITY and exponent <= 127 else np.float32(np.inf)


@jit
def _spread(scales: Any, tile_columns: int, start: int, out: Any) -> None:
    """Repeat scales over the columns from `start` on; 0 becomes infinity, which divides to zero."""
    for tile in range(start // tile_columns, (start + out.size - 1) // tile_columns + 1):
        scale = scales[tile] if scales[tile] != 0 else np.float32(np.inf)
        part = out[max(tile * tile_columns - start, 0) : (tile + 1) * tile_columns - start]
        for i in range(part.size):
            part[i] = scale


@jit
def _scale_tiles(lines: Any, span: Any, tile_columns: int, tiles: Any, r: Any, scales: Any) -> Any:
    """Pick the scales of the tiles of some lines of bits; return the largest, infinity where none fits."""
    tiles[:] = 0
    for row in range(lines.shape[0]):
        _largest(lines[row][span[0] : span[1]], MAGNITUDE, tile_columns, tiles)
    if r.kind == 0:
        _pick_quotients(tiles, r, scales)
    else:
        _pick_powers(tiles, r, scales)
    top = np.float32(0)
    for tile in range(tiles.size):
        top = max(top, scales[tile])
    return top


@jit
def _divide_encode(x: Any, divisor: Any, codes: Any, p: Any) -> Any:
    """Encode quotients of up to the largest value; return their extreme magnitudes, as bits."""
    magic = np.uint32(p.magic).view(np.float32)
    worst, least = np.uint32(0), MAGNITUDE
    for i in range(codes.size):
        quotient = np.float32(x[i] / divisor[i])
        bits = np.float32(quotient).view(np.uint32)
        a = np.uint32(bits & MAGNITUDE)
        code = code_magnitude(quotient, a, magic, p)
        worst, least = max(worst, a), min(least, a)
        codes[i] = code | np.uint32(shift(bits, p.sign_drop) & p.sign)
    return worst, least


@jit
def _look_again(x: Any, divisor: Any, codes: Any, p: Any) -> Any:
    """Mend what is beyond, and odd zeros (no subnormals, no -0); count what saturated or became zero."""
    saturated, flushed = np.uint32(0), np.uint32(0)
    for i in range(x.size):
        bits = np.float32(x[i] / divisor[i]).view(np.uint32)
        a = np.uint32(bits & MAGNITUDE)
        sign = np.uint32(shift(bits, p.sign_drop) & p.sign)
        code = np.uint32(sign & p.keep) if a < p.cutoff else np.uint32(codes[i])
        codes[i] = np.uint32(sign | p.limit) if a >= p.over else code
        saturated = np.uint32(saturated + np.uint32((a >= p.over) & (a < INFINITY)))
        flushed = np.uint32(flushed + np.uint32((a <= p.flush) & (x[i] != 0)))
    return saturated, flushed


@jit
def _divide_round(x: Any, divisor: Any, out: Any, p: Any) -> Any:
    """Round quotients of up to the largest value and multiply back; return their extreme magnitudes."""
    magic = np.uint32(p.magic).view(np.float32)
    worst, least = np.uint32(0), MAGNITUDE
    for i in range(out.size):
        quotient = np.float32(x[i] / divisor[i])
        bits = np.float32(quotient).view(np.uint32)
        a = np.uint32(bits & MAGNITUDE)
        value = np.uint32(value_magnitude(quotient, a, magic, p) | np.uint32(bits & SIGN))
        worst, least = max(worst, a), min(least, a)
        out[i] = np.float32(np.uint32(value).view(np.float32) * divisor[i])
    return worst, least


@jit
def _round_again(x: Any, divisor: Any, out: Any, p: Any) -> None:
    """Mend what `_divide_round` got wrong: what is beyond, odd zeros, and scales of zero."""
    for i in range(x.size):
        bits = np.float32(x[i] / divisor[i]).view(np.uint32)
        a, sign = np.uint32(bits & MAGNITUDE), np.uint32(bits & SIGN)
        if a >= p.over:
            out[i] = np.float32(np.uint32(sign | p.becomes).view(np.float32) * divisor[i])
        elif a < max(p.cutoff, np.uint32(1)):
            out[i] = np.uint32(sign & p.keep).view(np.float32)


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
def _prepare(lines: Any, scales: Any, span: Any, tile_columns: int, r: Any, scratch: Any) -> Any:
    """Pick the scales of a span of columns unless given, and spread them; return the largest picked."""
    tiles, divisors = scratch
    start, stop = span
    top = np.float32(0)
    if r.kind != -1:
        begin, end = start // tile_columns, (stop - 1) // tile_columns + 1
        top = _scale_tiles(lines, span, tile_columns, tiles[: end - begin], r, scales[begin:end])
    _spread(scales, tile_columns, start, divisors[: stop - start])
    return top


@jit
def quantize_rows(x: Any, codes: Any, scales: Any, tile: Any, r: Any, p: Any) -> Any:
    """Quantise (rows, columns) float32 `x` in tiles into `codes`, picking `scales` if `r.kind` is not -1.

    Returns the largest scale picked, and how many elements saturated and how many became zero.
    """
    columns, bits = x.shape[1], x.view(np.uint32)
    width = _width(tile[1], r)
    scratch = np.empty(width, np.uint32), np.empty(width, np.float32)
    top, saturated, flushed = np.float32(0), 0, 0
    for strip in range(scales.shape[0]):
        first, last = strip * tile[0], min((strip + 1) * tile[0], x.shape[0])
        for start in range(0, columns, width):
            stop = min(start + width, columns)
            top = max(top, _prepare(bits[first:last], scales[strip], (start, stop), tile[1], r, scratch))
            divisors = scratch[1][: stop - start]
            for row in range(first, last):
                values, part = x[row][start:stop], codes[row][start:stop]
                worst, least = _divide_encode(values, divisors, part, p)
                if worst >= p.over or least <= p.flush:
                    beyond, zeros = _look_again(values, divisors, part, p)
                    saturated, flushed = saturated + beyond, flushed + zeros
    return top, saturated, flushed


@jit
def round_trip_rows(x: Any, out: Any, scales: Any, tile: Any, r: Any, p: Any) -> Any:
    """Write the values that the codes of `quantize_rows` stand for; return the largest scale picked."""
    columns, bits = x.shape[1], x.view(np.uint32)
    width = _width(tile[1], r)
    scratch = np.empty(width, np.uint32), np.empty(width, np.float32)
    top = np.float32(0)
    for strip in range(scales.shape[0]):
        first, last = strip * tile[0], min((strip + 1) * tile[0], x.shape[0])
        for start in range(0, columns, width):
            stop = min(start + width, columns)
            top = max(top, _prepare(bits[first:last], scales[strip], (start, stop), tile[1], r, scratch))
            divisors = scratch[1][: stop - start]
            for row in range(first, last):
                values, part = x[row][start:stop], out[row][start:stop]
                worst, least = _divide_round(values, divisors, part, p)
                if worst >= p.over or least < max(p.cutoff, np.uint32(1)):
                    _round_again(values, divisors, part, p)
    return top


@jit
def _width(tile_columns: int, r: Any) -> int:
    """Return how many columns are done at a time: whole tiles where scales are picked."""
    return BLOCK if r.kind == -1 else max(BLOCK // tile_columns, 1) * tile_columns


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
            _spread(scales[row // tile[0]], tile[1], start, divisor[: part.size])
            for i in range(part.size):
                quotient[i] = values[i] / divisor[i]
            for i in range(part.size):
                number = np.float64(quotient[i])
                code, value, sign, beyond = cast_one(number, 0.5, p)
                part[i] = code | (p.sign if sign else 0)
                saturated += beyond & (abs(number) < np.inf)
                flushed += (value == 0) & (values[i] != 0)
    return saturated, flushed


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
