"""Kernels: exact dot products, as float64 sums that carry their own error, rounded once to float32.

Three levels hold a sum: `high` is the running float64 sum, `low` the sum of what its additions lost,
and `lost` bounds what the additions to `low` lost in turn (Ogita, Rump and Oishi, "Accurate sum and dot
product", 2005). Where `lost` leaves only one float32 possible, that one is the answer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fp8sim._kernels._jit import jit
from fp8sim._support.threads import run_in_threads, split

__all__ = ["exact_product", "exact_rows"]

_SPLITTER = 134217729.0  # 2^27 + 1 cuts a float64 into two halves whose products are exact (Dekker)


@jit
def two_sum(x: Any, y: Any) -> Any:
    """Return the rounded sum and its exact error (Knuth)."""
    total = x + y
    z = total - x
    return total, (x - (total - z)) + (y - z)


@jit
def two_product(x: Any, y: Any) -> Any:
    """Return the rounded product and its exact error (Dekker, Veltkamp)."""
    product = x * y
    t = _SPLITTER * x
    x_high = t - (t - x)
    x_low = x - x_high
    t = _SPLITTER * y
    y_high = t - (t - y)
    y_low = y - y_high
    return product, x_low * y_low - (((product - x_high * y_high) - x_low * y_high) - x_high * y_low)


@jit
def to_float32(high: Any, low: Any) -> Any:
    """Round high + low to float32 once: to odd in float64 first, which keeps what rounding must see."""
    total, error = two_sum(high, low)
    if error != 0.0 and np.isfinite(total):
        _, exponent = math.frexp(total)
        last = math.ldexp(total, 53 - exponent)  # an integer: the significand of 53 bits
        if last % 2.0 == 0.0:  # even, and the rest would be forgotten: take the odd neighbour
            total = np.nextafter(total, np.inf if error > 0.0 else -np.inf)
    return np.float32(total)


@jit
def exact_rows(a: Any, b: Any, first: Any, last: Any, out: Any, unsettled: Any) -> None:
    """Fill rows first to last of ``out = a @ b``; mark the sums that three levels cannot settle."""
    k, n = b.shape
    high, low, lost = np.empty(n), np.empty(n), np.empty(n)
    for i in range(first, last):
        high[:] = 0.0
        low[:] = 0.0
        lost[:] = 0.0
        for q in range(k):
            x = a[i, q]
            for j in range(n):
                product, rest = two_product(x, b[q, j])
                high[j], error = two_sum(high[j], product)
                low[j], first_loss = two_sum(low[j], error)
                low[j], second_loss = two_sum(low[j], rest)
                lost[j] += abs(first_loss) + abs(second_loss)
        for j in range(n):
            if not np.isfinite(high[j]):  # NaN or infinity among the operands: IEEE decides
                out[i, j] = np.float32(high[j])
                continue
            slack = 1.01 * lost[j]  # covers the rounding of `lost` itself and of the sums below
            out[i, j] = to_float32(high[j], low[j])
            if slack != 0.0:
                below = to_float32(high[j], low[j] - slack)
                above = to_float32(high[j], low[j] + slack)
                unsettled[i, j] = below != above


def exact_product(a: Any, b: Any) -> tuple[Any, Any]:
    """Return float32 ``a @ b`` of float64 matrices, and a mask of the sums that are not settled."""
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    unsettled = np.zeros(out.shape, np.bool_)
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    rows = max(1, -(-len(a) // 8))
    run_in_threads(exact_rows, [(a, b, i, j, out, unsettled) for i, j in split(len(a), rows)])
    return out, unsettled
