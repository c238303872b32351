"""Sums of many products whose last bit does not hang on the number of CPUs.

A BLAS cuts a large product for its threads, and how it does decides in which order the products of an
element are added up. A block of `BLOCK` it does in one thread: a product in such blocks, which threads of our
own take in a fixed order, is the same to the bit wherever the CPU is of one kind.
"""

from __future__ import annotations

import numpy as np

from fp8sim._support.float_environment import default_environment
from fp8sim._support.threads import run_in_threads, split
from fp8sim._support.typing import AnyArray, FloatArray

__all__ = ["LANES", "float_product", "norm"]

#: Running sums in which a row of squares is added up: enough for any vector unit, few beside a row.
LANES = 64

#: Rows, columns and terms of a block. OpenBLAS does 2^18 multiply-adds in one thread, 9,216 where one side
#: is a vector.
BLOCK = (32, 32, 256)
SMALL = 9216  # multiply-adds that are done at once
WIDE = 64  # blocks side by side, whose sums stay in a cache


@default_environment
def float_product(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return ``a @ b`` of two float32 or two float64 matrices, summed in a fixed order, without a warning.

    Examples
    --------
    >>> float_product(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    array([[11.]])
    """
    (m, k), n = a.shape, b.shape[1]
    if m * n * k <= SMALL:
        with np.errstate(all="ignore"):
            return np.asarray(a @ b)
    rows, columns, terms = (min(pair) for pair in zip((m, n, k), BLOCK, strict=True))
    left, right = _padded(a, rows, terms), _padded(b, terms, columns)
    out = np.empty((left.shape[0], right.shape[1]), a.dtype)
    strips = right.reshape(len(right), -1, columns).transpose(1, 0, 2)  # of columns
    strips = np.ascontiguousarray(strips)  # rows a page apart would take turns in one place of a cache
    sums = out.reshape(-1, rows, len(strips), columns).transpose(0, 2, 1, 3)

    def add_up(row: int, start: int, stop: int) -> None:
        line, total = left[row * rows : (row + 1) * rows], np.zeros_like(sums[row, start:stop])
        with np.errstate(all="ignore"):  # which each thread has to itself
            for at in range(0, left.shape[1], terms):
                total += line[:, at : at + terms] @ strips[start:stop, at : at + terms]
        sums[row, start:stop] = total

    run_in_threads(add_up, [(row, *ends) for row in range(len(sums)) for ends in split(len(strips), WIDE)])
    return out[:m, :n]


def _padded(x: AnyArray, rows: int, columns: int) -> AnyArray:
    """Return a matrix in C order with zeros up to whole blocks."""
    missing = [(0, -length % size) for length, size in zip(x.shape, (rows, columns), strict=True)]
    return np.pad(x, missing) if any(after for _, after in missing) else np.ascontiguousarray(x)


@default_environment
def norm(x: FloatArray) -> float:
    """Return the Frobenius norm, in C order whatever the layout; numpy's own is a BLAS's.

    Examples
    --------
    >>> norm(np.array([[3.0, 4.0]]))
    5.0
    """
    return float(np.sqrt(np.sum(np.square(x, order="C"))))
