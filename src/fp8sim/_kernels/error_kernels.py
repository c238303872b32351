"""Kernels: what quantising does to rows of a matrix, measured while they are in a cache; nothing is written.

A row is rounded and scaled back in spans, and the squares of what it is off by are added up in `LANES` sums,
as `reference.errors` does: a loop over as many lanes as a vector unit likes, in one order all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fp8sim._kernels._jit import jit
from fp8sim._kernels.quantize_kernels import (
    BLOCK,
    INFINITY,
    MAGNITUDE,
    prepare_span,
    round_span,
    scaled,
)
from fp8sim._support.products import LANES

__all__ = ["error_rows", "extremes", "square_rows"]


@jit
def _add_squares(x: Any, y: Any, lanes: Any) -> None:
    """Add the squares of differences, element i to lane ``i % LANES``."""
    whole = x.size // LANES
    for block in range(whole):
        left, right = x[block * LANES : (block + 1) * LANES], y[block * LANES : (block + 1) * LANES]
        for i in range(LANES):
            difference = np.float64(left[i]) - np.float64(right[i])
            lanes[i] += difference * difference
    for i in range(x.size - whole * LANES):
        difference = np.float64(x[whole * LANES + i]) - np.float64(y[whole * LANES + i])
        lanes[i] += difference * difference


@jit
def _folded(lanes: Any) -> Any:
    """Return the sum of all lanes, added in halves; they are used up."""
    width = LANES // 2
    while width:
        for i in range(width):
            lanes[i] += lanes[i + width]
        width //= 2
    return lanes[0]


@jit
def square_rows(x: Any, out: Any) -> None:
    """Write the sum of squares of each row."""
    lanes, nothing = np.empty(LANES, np.float64), np.zeros(x.shape[1], np.float32)
    for row in range(x.shape[0]):
        lanes[:] = 0
        _add_squares(x[row], nothing, lanes)
        out[row] = _folded(lanes)


@jit
def extremes(bits: Any) -> Any:
    """Return the largest magnitude and the smallest other than zero, as bits; infinity if there is none."""
    largest, smallest = np.uint32(0), INFINITY
    for i in range(bits.size):
        a = np.uint32(bits[i] & MAGNITUDE)
        largest = max(largest, a)
        smallest = min(smallest, a if a > 0 else INFINITY)
    return largest, smallest


@jit
def _count(x: Any, by: Any, multiply: Any, p: Any) -> Any:
    """Count what saturates and what becomes zero."""
    saturated, flushed = np.uint32(0), np.uint32(0)
    for i in range(x.size):
        a = np.uint32(np.float32(scaled(x[i], by[i], multiply)).view(np.uint32) & MAGNITUDE)
        saturated = np.uint32(saturated + np.uint32((a >= p.over) & (a < INFINITY)))
        flushed = np.uint32(flushed + np.uint32((a <= p.flush) & (x[i] != 0)))
    return saturated, flushed


@jit
def error_rows(x: Any, out: Any, grids: Any, tile: Any, r: Any, p: Any) -> Any:
    """Write the sum of squared errors of each row of (rows, columns) float32 `x`, in tiles.

    `grids`, `tile`, `r` and `p` are those of `quantize_rows`, and so is what is returned: the largest scale
    picked, and how many elements saturated and how many became zero.
    """
    columns, bits = x.shape[1], x.view(np.uint32)
    # spans begin at a multiple of the lanes, or the order of sums would be another
    step = tile[1] * LANES
    width = BLOCK if r.kind == -1 else tile[1] if tile[1] >= columns else max(BLOCK // step, 1) * step
    width = min(width, max(columns, 1))
    scratch = np.empty(width, np.uint32), np.empty(width, np.float32), np.empty(width, np.float32)
    became, lanes = np.empty(width, np.float32), np.empty((tile[0], LANES), np.float64)
    top, saturated, flushed = np.float32(0), 0, 0
    for strip in range(grids[0].shape[0]):
        first, last = strip * tile[0], min((strip + 1) * tile[0], x.shape[0])
        lanes[:] = 0
        for start in range(0, columns, width):
            stop = min(start + width, columns)
            top = max(top, prepare_span((bits[first:last], strip, (start, stop)), grids, tile[1], r, scratch))
            by, back, part = scratch[1][: stop - start], scratch[2][: stop - start], became[: stop - start]
            for row in range(first, last):
                values = x[row][start:stop]
                worst, least = round_span(values, by, back, r.multiply, part, p)
                if worst >= p.over or least <= p.flush:
                    beyond, zeros = _count(values, by, r.multiply, p)
                    saturated, flushed = saturated + beyond, flushed + zeros
                _add_squares(values, part, lanes[row - first])
        for row in range(first, last):
            out[row] = _folded(lanes[row - first])
    return top, saturated, flushed
