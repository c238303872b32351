"""Driver: quantising by groups; an array of any shape and layout as rows of tiles, for kernels and threads.

Whatever shares its scales becomes a stack of C-contiguous matrices whose groups are tiles, without a copy
where the array is contiguous in C or Fortran order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fp8sim._kernels.cast_kernels import mode
from fp8sim._kernels.nearest_kernels import encode_nearest, nearest
from fp8sim._kernels.quantize_kernels import (
    count_lost,
    dequantize_rows,
    encode_rows,
    largest,
    quantize_rows,
    round_trip_rows,
    scale_rule,
)
from fp8sim._support.memory import Allocate, empty
from fp8sim._support.threads import get_num_threads, run_in_threads, split
from fp8sim._support.typing import F32, AnyArray, FloatArray
from fp8sim.formats import FloatFormat

__all__ = [
    "Lost", "Quantization", "dequantize", "encode_scaled", "encode_unscaled", "group_amax", "quantize",
    "round_trip",
]  # fmt: skip

LEAST = 1 << 16  # elements worth handing to a thread
_EVEN = "nearest-even"
TALLEST, WIDEST = 256, 1 << 14  # larger tiles do not stay in a cache between two readings


class Lost(NamedTuple):
    """What a quantisation lost."""

    saturated: int  #: finite elements beyond the largest value after rounding
    flushed: int  #: elements other than zero that became zero


class Quantization(NamedTuple):
    """Codes as unsigned integers, scales, and what was lost."""

    codes: AnyArray
    scales: F32
    lost: Lost


class Tiling(NamedTuple):
    """How an array is a stack of matrices in tiles."""

    axes: tuple[int, ...]  #: the axes in the order of the stack
    shape: tuple[int, int, int]  #: matrices, rows, columns
    rows: int  #: rows of a tile
    columns: int  #: columns of a tile

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of a tile."""
        return self.rows, self.columns

    @property
    def tiles(self) -> tuple[int, int, int]:
        """Matrices, and tiles along their rows and columns."""
        count, rows, columns = self.shape
        return count, -(-rows // self.rows), -(-columns // self.columns)

    def stack(self, x: AnyArray, shape: tuple[int, int, int]) -> AnyArray:
        """Return an array as a C-contiguous stack of `shape`, a view where it can be one."""
        stack = np.ascontiguousarray(x.transpose(self.axes)).reshape(shape)  # a view of our own at least
        stack.flags.writeable = False
        return stack

    def unstack(self, stack: AnyArray, shape: tuple[int, ...]) -> AnyArray:
        """Return a stack as the array of `shape` that it stands for."""
        moved = stack.reshape([shape[axis] for axis in self.axes])
        return moved.transpose(np.argsort(self.axes))


class Piece(NamedTuple):
    """A part of a stack for one thread: indices into the stack, and into its tiles."""

    elements: tuple[int, slice, slice]
    tiles: tuple[int, slice, slice]


def tiling(x: AnyArray, sizes: tuple[int, ...]) -> Tiling:
    """Find the stack for groups of `sizes` elements along each axis: all axes, or at most two."""
    axes = list(range(x.ndim))
    if x.flags.f_contiguous and not x.flags.c_contiguous:
        axes.reverse()
    if sizes == x.shape:
        return Tiling(tuple(axes), (1, 1, x.size), 1, x.size)
    grouped = [axis for axis in axes if sizes[axis] > 1] or axes[-1:]
    if len(grouped) == 2 and grouped != axes[-2:]:  # tiles span both axes, which must be the last ones
        axes = [axis for axis in axes if axis not in grouped] + grouped
    other, last = grouped[0], axes[-1]
    if other == last:
        return Tiling(tuple(axes), (1, x.size // x.shape[last], x.shape[last]), 1, sizes[last])
    at = axes.index(other)
    count, rows = math.prod(x.shape[axis] for axis in axes[:at]), x.shape[other]
    columns = math.prod(x.shape[axis] for axis in axes[at + 1 :])
    if rows % sizes[other] == 0:  # no tile crosses from one matrix into the next: they are one
        count, rows = 1, count * rows
    return Tiling(tuple(axes), (count, rows, columns), sizes[other], sizes[last])


def _pieces(t: Tiling, whole: bool) -> list[Piece]:
    """Cut a stack into parts, of whole tiles if asked to, a few for each thread."""
    count, rows, columns = t.shape
    size = max(LEAST, -(-count * rows * columns // (4 * get_num_threads())))
    if rows == 1:  # along the columns
        width = size if columns <= t.columns and not whole else -(-size // t.columns) * t.columns
        return [
            Piece((0, slice(0, 1), slice(i, j)), (0, slice(0, 1), slice(i // t.columns, -(-j // t.columns))))
            for i, j in split(columns, width)
        ]
    height = max(size // columns, 1)
    if whole or height >= t.rows:
        spans = split(rows, -(-height // t.rows) * t.rows)
    else:
        spans = [(i + a, i + b) for i, j in split(rows, t.rows) for a, b in split(j - i, height)]
    every = slice(None)
    return [
        Piece((k, slice(i, j), every), (k, slice(i // t.rows, -(-j // t.rows)), every))
        for k in range(count)
        for i, j in spans
    ]


def group_amax(x: FloatArray, sizes: tuple[int, ...]) -> FloatArray:
    """Return the largest magnitude of each group; infinity or NaN where a group holds one."""
    t = tiling(x, sizes)
    word = np.dtype(f"u{x.itemsize}")
    magnitude = word.type(2 ** (8 * x.itemsize - 1) - 1)
    stack, out = t.stack(x, t.shape).view(word), np.zeros(t.tiles, word)

    def work(piece: Piece) -> AnyArray:
        part = np.empty_like(out[piece.tiles])
        largest(stack[piece.elements], magnitude, t.tile, part)
        return part

    pieces = _pieces(t, whole=False)
    for piece, part in zip(pieces, run_in_threads(work, [(p,) for p in pieces]), strict=True):
        np.maximum(out[piece.tiles], part, out=out[piece.tiles])  # a tile may span pieces
    return np.ascontiguousarray(t.unstack(out.view(x.dtype), _grid(x, sizes)))


def quantize(
    x: FloatArray, sizes: tuple[int, ...], fmt: FloatFormat, *, policy: str, rule: tuple[str | None, float]
) -> Quantization | None:
    """Pick FP32 or power-of-two scales by `rule` (name, amax floor), divide and encode, in one pass.

    Returns None where this is not served (another dtype or format, tiles too large for a cache), or where
    `x` is not finite or a scale does not fit: the caller's way in two passes says so.
    """
    p, t = nearest(fmt, policy), tiling(x, sizes)
    if p is None or not _in_one_pass(x, t, fmt):
        return None
    stack, r = t.stack(x, t.shape), scale_rule(fmt, *rule)
    codes, scales = empty(t.shape, fmt.code_dtype), np.empty(t.tiles, np.float32)

    def work(piece: Piece) -> Any:
        element, tile = piece
        return quantize_rows(stack[element], codes[element], scales[tile], t.tile, r, p)

    results = run_in_threads(work, [(piece,) for piece in _pieces(t, whole=True)])
    if max(top for top, _, _ in results) == np.inf:
        return None
    lost = _total([Lost(saturated, flushed) for _, saturated, flushed in results])
    grid = np.ascontiguousarray(t.unstack(scales, _grid(x, sizes)))
    return Quantization(_in_order(t.unstack(codes, x.shape)), grid, lost)


def round_trip(
    x: FloatArray,
    sizes: tuple[int, ...],
    fmt: FloatFormat,
    *,
    policy: str,
    rule: tuple[str | None, float] = (None, 0.0),
    scales: F32 | None = None,
    allocate: Allocate = empty,
) -> F32 | None:
    """Return what quantising and `dequantize` do together, without the codes: by a rule or given scales.

    Returns None where `quantize` does, but for what given scales serve: tiles of any size.
    """
    p, t = nearest(fmt, policy), tiling(x, sizes)
    if p is None or not (_in_one_pass(x, t, fmt) if scales is None else x.dtype == np.float32):
        return None
    grid = np.empty(t.tiles, np.float32) if scales is None else np.array(t.stack(scales, t.tiles))
    stack, out, r = t.stack(x, t.shape), allocate(t.shape, np.float32), scale_rule(fmt, *rule)

    def work(piece: Piece) -> Any:
        values, products = stack[piece.elements], out[piece.elements]
        return round_trip_rows(values, products, grid[piece.tiles], t.tile, r, p)

    tops = run_in_threads(work, [(piece,) for piece in _pieces(t, whole=scales is None)])
    return None if max(tops) == np.inf else _in_order(t.unstack(out, x.shape))


def _in_one_pass(x: FloatArray, t: Tiling, fmt: FloatFormat) -> bool:
    return x.dtype == np.float32 and fmt.emax >= 1 and t.rows <= TALLEST and t.columns <= WIDEST


def encode_scaled(
    x: FloatArray, scales: F32, sizes: tuple[int, ...], fmt: FloatFormat, *, policy: str
) -> tuple[AnyArray, Lost]:
    """Divide finite `x` by given scales, in its own dtype, and encode; `fmt` has a sign and a zero."""
    p, t = nearest(fmt, policy) if x.dtype == np.float32 else None, tiling(x, sizes)
    stack, grid = t.stack(x, t.shape), np.array(t.stack(scales, t.tiles))
    codes, given, numbers = empty(t.shape, fmt.code_dtype), scale_rule(fmt, None), mode(fmt, _EVEN, policy)

    def work(piece: Piece) -> Lost:
        values, part, divisors = stack[piece.elements], codes[piece.elements], grid[piece.tiles]
        if p is None:
            return Lost(*encode_rows(values, part, divisors, t.tile, numbers))
        return Lost(*quantize_rows(values, part, divisors, t.tile, given, p)[1:])

    losses = run_in_threads(work, [(piece,) for piece in _pieces(t, whole=False)])
    return _in_order(t.unstack(codes, x.shape)), _total(losses)


def encode_unscaled(x: FloatArray, fmt: FloatFormat, *, policy: str) -> tuple[AnyArray, Lost]:
    """Encode, and count what was lost; NaN only if `fmt` has it."""
    p = nearest(fmt, policy)
    if x.dtype != np.float32 or p is None:
        return encode_scaled(x, np.ones([1] * x.ndim, np.float32), x.shape, fmt, policy=policy)
    t = tiling(x, x.shape)
    stack, codes = t.stack(x, t.shape)[0, 0], empty(t.shape, fmt.code_dtype)

    def work(piece: Piece) -> Lost:
        values, part = stack[piece.elements[2]], codes[piece.elements][0]
        worst, least = encode_nearest(values, part, p)
        counts = count_lost(values.view(np.uint32), p) if worst >= p.over or least <= p.flush else (0, 0)
        return Lost(*counts)

    losses = run_in_threads(work, [(piece,) for piece in _pieces(t, whole=False)])
    return _in_order(t.unstack(codes, x.shape)), _total(losses)


def _total(parts: list[Lost]) -> Lost:
    return Lost(sum(part.saturated for part in parts), sum(part.flushed for part in parts))


def dequantize(codes: AnyArray, scales: F32, sizes: tuple[int, ...], table: F32) -> F32:
    """Return the values that `table` has of codes (unsigned integers), times scales, in float32."""
    t = tiling(codes, sizes)
    stack, grid, out = t.stack(codes, t.shape), t.stack(scales, t.tiles), empty(t.shape, np.float32)

    def work(piece: Piece) -> None:
        element, tile = piece
        dequantize_rows(stack[element], grid[tile], table, t.tile, out[element])

    run_in_threads(work, [(piece,) for piece in _pieces(t, whole=False)])
    return _in_order(t.unstack(out, codes.shape))


def _grid(x: AnyArray, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the number of groups along each axis."""
    return tuple(-(-length // size) for length, size in zip(x.shape, sizes, strict=True))


def _in_order(x: AnyArray) -> AnyArray:
    """Return `x` contiguous, in C or Fortran order."""
    return x if x.flags.c_contiguous or x.flags.f_contiguous else np.ascontiguousarray(x)
