"""How an array of any shape and layout looks to kernels and threads: a stack of matrices in tiles.

The elements of a tile share a scale. Each thread takes pieces of the stack, and the tiles that go with them.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np

from fp8sim._support.threads import get_num_threads, split
from fp8sim._support.typing import AnyArray

__all__ = ["LEAST", "Place", "Tiling"]

LEAST = 1 << 16  # elements worth handing to a thread

Place: TypeAlias = tuple[int, slice, slice]  # of a part of a stack: which matrix, its rows and its columns


class Tiling(NamedTuple):
    """An array as a stack of C-contiguous matrices whose groups are tiles; a view where it is contiguous."""

    axes: tuple[int, ...]  #: the axes in the order of the stack
    shape: tuple[int, int, int]  #: matrices, rows, columns
    rows: int  #: rows of a tile
    columns: int  #: columns of a tile

    @classmethod
    def of(cls, x: AnyArray, sizes: tuple[int, ...]) -> Tiling:
        """Find the stack for groups of `sizes` elements along each axis: all axes, or at most two."""
        axes = list(range(x.ndim))
        if x.flags.f_contiguous and not x.flags.c_contiguous:
            axes.reverse()
        if sizes == x.shape:
            return cls(tuple(axes), (1, 1, x.size), 1, x.size)
        grouped = [axis for axis in axes if sizes[axis] > 1] or axes[-1:]
        if len(grouped) == 2 and grouped != axes[-2:]:  # tiles span both axes, which must be the last ones
            axes = [axis for axis in axes if axis not in grouped] + grouped
        other, last = grouped[0], axes[-1]
        if other == last:
            return cls(tuple(axes), (1, x.size // x.shape[last], x.shape[last]), 1, sizes[last])
        at = axes.index(other)
        count, rows = math.prod(x.shape[axis] for axis in axes[:at]), x.shape[other]
        columns = math.prod(x.shape[axis] for axis in axes[at + 1 :])
        if rows % sizes[other] == 0:  # no tile crosses from one matrix into the next: they are one
            count, rows = 1, count * rows
        return cls(tuple(axes), (count, rows, columns), sizes[other], sizes[last])

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
        """Return a stack as the array of `shape` that it stands for, contiguous in C or Fortran order."""
        moved = stack.reshape([shape[axis] for axis in self.axes]).transpose(np.argsort(self.axes))
        return moved if moved.flags.c_contiguous or moved.flags.f_contiguous else np.ascontiguousarray(moved)

    def pieces(self, *, whole: bool = False) -> list[tuple[Place, Place]]:
        """Cut the stack, and its tiles with it, into a few parts for each thread: whole tiles if asked to."""
        count, rows, columns = self.shape
        size = max(LEAST, -(-count * rows * columns // (4 * get_num_threads())))
        every = slice(None)
        if rows == 1:  # along the columns
            width = size if columns <= self.columns and not whole else -(-size // self.columns) * self.columns
            return [
                ((0, every, slice(i, j)), (0, every, slice(i // self.columns, -(-j // self.columns))))
                for i, j in split(columns, width)
            ]
        height = max(size // columns, 1)
        if whole or height >= self.rows:
            spans = split(rows, -(-height // self.rows) * self.rows)
        else:
            spans = [(i + a, i + b) for i, j in split(rows, self.rows) for a, b in split(j - i, height)]
        return [
            ((k, slice(i, j), every), (k, slice(i // self.rows, -(-j // self.rows)), every))
            for k in range(count)
            for i, j in spans
        ]
