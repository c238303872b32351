"""Kernels: what the values of an array are like: how large and small, of a format or not, finite or not.

A number is a value of a format if rounding it to the format leaves it as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fp8sim._kernels._jit import jit
from fp8sim._kernels.quantize_kernels import INFINITY, MAGNITUDE, nearest, value_magnitude
from fp8sim._support.threads import run_in_threads, split
from fp8sim._support.typing import F32
from fp8sim.formats import FloatFormat

__all__ = ["inspect"]

RUN = 1 << 18  # elements per task


def inspect(x: F32, fmt: FloatFormat) -> tuple[int, float, float, bool] | None:
    """Look at all values of `x` once; None where a format needs float64.

    Returns how many are no values of `fmt`; the largest and the smallest finite magnitude other than zero
    (0 and infinity if there is none); and whether all are finite.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> inspect(np.array([0.1, 1.5, np.inf], np.float32), fp8sim.get_format("e5m2"))
    (1, 1.5, 0.10000000149011612, False)
    """
    p, values = nearest(fmt, "ieee"), x.reshape(-1)
    if p is None:
        return None
    values.flags.writeable = False
    tasks = [(values[i:j], p, fmt.has_inf, fmt.has_nan) for i, j in split(x.size, RUN)]
    facts = run_in_threads(_look, tasks) or [(0, 0, INFINITY, 0)]
    outside, largest, smallest, top = zip(*facts, strict=True)
    extremes = np.array([max(largest), min(smallest)], np.uint32).view(np.float32)
    return int(sum(outside)), float(extremes[0]), float(extremes[1]), bool(max(top) < INFINITY)


@jit
def _look(x: Any, p: Any, has_inf: Any, has_nan: Any) -> Any:
    """Return how many are outside, the extreme finite magnitudes other than zero, and the largest of all."""
    magic, bits = np.uint32(p.magic).view(np.float32), x.view(np.uint32)
    outside, largest, smallest, top = np.uint32(0), np.uint32(0), INFINITY, np.uint32(0)
    for i in range(x.size):
        a = np.uint32(bits[i] & MAGNITUDE)
        same = (value_magnitude(x[i], a, magic, p) == a) & (a < p.over) & ((a >= p.cutoff) | (a == 0))
        outside = np.uint32(outside + np.uint32((a < INFINITY) & (not same)))
        largest = max(largest, a if a < INFINITY else np.uint32(0))
        smallest = min(smallest, a if a > 0 else INFINITY)
        top = max(top, a)
    if top >= INFINITY:
        for i in range(x.size):
            a = np.uint32(bits[i] & MAGNITUDE)
            outside += ((a == INFINITY) & (not has_inf)) | ((a > INFINITY) & (not has_nan))
    return outside, largest, smallest, top
