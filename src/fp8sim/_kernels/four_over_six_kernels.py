"""Kernel: the errors of blocks of NVFP4 under a scale, from which four over six chooses."""

from __future__ import annotations

from typing import Any

import numpy as np

from fp8sim._kernels._jit import jit
from fp8sim._kernels.quantize_kernels import ENDLESS, MAGNITUDE, SIGN, scaled, value_magnitude

__all__ = ["row_errors"]


@jit
def row_errors(x: Any, grids: Any, tile_rows: int, r: Any, p: Any, out: Any) -> None:
    """Write the error of each sixteen of a row of float32 `x` as `four_over_six.row_errors` does.

    `grids` are what elements are scaled by, and the E4M3 scales, one per block; `r` is whether elements are
    multiplied, whether errors are squared, the largest of the tensor, and what that becomes.
    """
    magic = np.uint32(p.magic).view(np.float32)
    multiply, square, top, denominator = r
    for row in range(x.shape[0]):
        by, inside = grids[0][row // tile_rows], grids[1][row // tile_rows]
        for block in range(out.shape[1]):
            line = x[row][block * 16 : (block + 1) * 16]
            factor = by[block] if len(multiply) or by[block] != 0 else ENDLESS
            total = np.float32(0)
            for i in range(line.size):
                number = scaled(line[i], factor, multiply)
                bits = np.float32(number).view(np.uint32)
                a = np.uint32(bits & MAGNITUDE)
                size = value_magnitude(number, a, magic, p) if a < p.over else p.becomes
                element = np.uint32(size | np.uint32(bits & SIGN)).view(np.float32)
                back = np.float32(np.float32(np.float32(element * inside[block]) * top) / denominator)
                error = np.float32(back - line[i])
                total = np.float32(total + (np.float32(error * error) if square else abs(error)))
            out[row, block] = total
