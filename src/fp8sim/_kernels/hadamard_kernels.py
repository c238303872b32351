"""Kernel: the Hadamard transform of blocks of a row, by butterflies in the order of the readable way."""

from __future__ import annotations

from typing import Any

from fp8sim._kernels._jit import jit

__all__ = ["transform_rows"]


@jit
def transform_rows(x: Any, before: Any, after: Any, out: Any) -> None:
    """Transform rows of `x` into `out`, whose length is a multiple of that of a block.

    `before` multiplies the elements of a block on the way in, `after` on the way out: signs and scale, in
    the dtype of `x`. A stage of stride 1, 2, 4, ... turns (a, b) into (a + b, a - b): [1, 2, 3, 4] becomes
    [3, -1, 7, -1] and then [10, -2, -4, 0].
    """
    size = before.size
    for row in range(x.shape[0]):
        for start in range(0, x.shape[1], size):
            source, block = x[row][start : start + size], out[row][start : start + size]
            for i in range(size):
                block[i] = source[i] * before[i]
            stride = 1
            while stride < size:
                for base in range(0, size, 2 * stride):
                    low = block[base : base + stride]
                    high = block[base + stride : base + 2 * stride]
                    for i in range(stride):
                        total, difference = low[i] + high[i], low[i] - high[i]
                        low[i], high[i] = total, difference
                stride *= 2
            for i in range(size):
                block[i] = block[i] * after[i]
