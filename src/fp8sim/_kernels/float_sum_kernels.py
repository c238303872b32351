"""Kernels: sums of float32 products in a floating-point format, the same to the bit as step by step in numpy.

Each k adds one product to every sum of a row, so the sums of a row are independent lanes, and no addition
changes its place. A block of rows and columns takes some k at a time, whose part of B stays in a cache; its
sums wait in the result, since every value of a format is a float32 value.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import binding

from fp8sim._kernels._jit import intrinsic, jit
from fp8sim._support.memory import own
from fp8sim._support.threads import get_num_threads, run_in_threads, split
from fp8sim._support.typing import F32
from fp8sim.formats import FORMATS, FloatFormat

__all__ = ["fuses", "sum_corrected", "sum_in_pairs", "sum_in_sequence"]

ROWS, COLUMNS = 32, 256  # of a block at most
WINDOW = 32  # k at a time: with 256 columns, 32 KiB of B
LANES = 64  # columns that fill the vector registers; fewer, where there are more rows, become the rows
EXPONENT = np.int64(2047 << 52)  # the exponent field of a float64


class Rounding(NamedTuple):
    """What rounding to the nearest value of a format asks of it."""

    smallest_normal: float
    adder: int  #: from the exponent field of a number up to that of 2^52 of its steps
    max: float  #: largest value
    beyond: float  #: what is beyond it
    zero: float  #: added to the result: -0 leaves it as it is, 0 makes a -0 a 0


@lru_cache(maxsize=256)
def _rounding(fmt: FloatFormat, policy: str) -> Rounding | None:
    """Return the numbers for `_nearest`; None of a format without sign, zero or subnormals."""
    if not (fmt.signed and fmt.zero and fmt.subnormals):
        return None
    beyond = fmt.max if policy == "saturate" else np.inf if fmt.has_inf else np.nan
    zero = -0.0 if fmt.has_negative_zero else 0.0
    return Rounding(fmt.smallest_normal, (52 - fmt.mantissa_bits) << 52, fmt.max, beyond, zero)


def sum_in_sequence(a: F32, b: F32, fmt: FloatFormat, policy: str) -> F32 | None:
    """Return ``a @ b`` by one fused multiply-add after another, each rounded to a format, to nearest even.

    None where the format is not served, or a sum became NaN and it has none.

    Examples
    --------
    >>> import fp8sim
    >>> ones = np.ones((1, 4000), np.float32)
    >>> sum_in_sequence(ones, ones.T, fp8sim.get_format("fp16"), "ieee")
    array([[2048.]], dtype=float32)
    """
    if fmt == FORMATS["fp32"] and fuses():
        return _in_blocks(_fuse, a, b)
    numbers = _rounding(fmt, policy)
    if numbers is None:
        return None
    out = _in_blocks(_fuse_to_format, a, b, numbers)
    return None if not fmt.has_nan and np.isnan(out).any() else out


def sum_in_pairs(a: F32, b: F32) -> F32:
    """Return ``a @ b`` of FP32 products, summed in FP32 as a balanced binary tree.

    Examples
    --------
    >>> sum_in_pairs(np.float32([[2**24, 1, 1, 1]]), np.ones((4, 1), np.float32)) - np.float32(2**24)
    array([[2.]], dtype=float32)
    """
    return _in_blocks(_add_pairs, a, b)


def sum_corrected(a: F32, b: F32) -> F32:
    """Return ``a @ b`` of FP32 products, summed in FP32 with Kahan's correction.

    Examples
    --------
    >>> sum_corrected(np.float32([[2**24, 1, 1, 1]]), np.ones((4, 1), np.float32)) - np.float32(2**24)
    array([[4.]], dtype=float32)
    """
    return _in_blocks(_add_corrected, a, b)


def fuses() -> bool:
    """Whether numba compiles for a CPU with fused multiply-adds; else each would be a call of a C library.

    Examples
    --------
    >>> isinstance(fuses(), bool)
    True
    """
    if platform.machine().lower() in ("aarch64", "arm64"):
        return True  # part of the architecture
    chosen = numba.config.CPU_FEATURES  # NUMBA_CPU_FEATURES, or of NUMBA_CPU_NAME=generic
    return "+fma" in (binding.get_host_cpu_features().flatten() if chosen is None else chosen).split(",")


def _in_blocks(kernel: Any, a: F32, b: F32, *numbers: Any) -> F32:
    """Run a kernel on blocks of the result, each in one thread."""
    m, n = a.shape[0], b.shape[1]
    if n < min(m, LANES):  # factors commute
        return np.ascontiguousarray(_in_blocks(kernel, b.T, a.T, *numbers).T)
    out = np.zeros((m, n), np.float32)
    rows = min(ROWS, max(1, -(-m // (2 * get_num_threads()))))
    columns = -(-n // -(-n // COLUMNS)) if n else 1  # as even as can be
    left, right = own(a), own(b)
    places = [(*i, *j) for i in split(m, rows) for j in split(n, columns)]
    run_in_threads(kernel, [(left, right, place, out, *numbers) for place in places])
    return out


@intrinsic
def _fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z, rounded once."""
    return x(x, x, x), lambda context, builder, signature, arguments: builder.fma(*arguments)


@jit
def _fuse(a: Any, b: Any, place: Any, out: Any) -> None:
    """Sum one block by fused multiply-adds in FP32."""
    first, last, left, right = place
    for start in range(0, a.shape[1], WINDOW):
        for i in range(first, last):
            total = out[i][left:right]
            for q in range(start, min(start + WINDOW, a.shape[1])):
                x, factors = a[i, q], b[q][left:right]
                for j in range(total.size):
                    total[j] = _fma(x, factors[j], total[j])


@jit
def _fuse_to_format(a: Any, b: Any, place: Any, out: Any, p: Any) -> None:
    """Sum one block by multiply-adds that are exact, then rounded to a format."""
    first, last, left, right = place
    for start in range(0, a.shape[1], WINDOW):
        for i in range(first, last):
            total = out[i][left:right]
            for q in range(start, min(start + WINDOW, a.shape[1])):
                x, factors = np.float64(a[i, q]), b[q][left:right]
                for j in range(total.size):
                    product = x * np.float64(factors[j])  # exact: 48 bits in a float64
                    total[j] = np.float32(_nearest(_add_to_odd(np.float64(total[j]), product), p))


@jit
def _add_to_odd(x: float, y: float) -> Any:
    """Add in float64; an inexact sum goes to that neighbour whose last bit is odd, for one more rounding."""
    total = np.float64(x + y)
    y_part = total - x
    error = np.float64((x - (total - y_part)) + (y - y_part))  # exact (Knuth's two-sum)
    bits = total.view(np.int64)
    # Where the signs of sum and error differ, the sum was rounded away from zero: one bit less is below it.
    toward_zero = bits + ((bits ^ error.view(np.int64)) >> 63)
    inexact = (error < 0) | (error > 0)  # of infinity and NaN the error is NaN
    return np.int64(toward_zero | 1 if inexact else bits).view(np.float64)


@jit
def _nearest(x: float, p: Any) -> Any:
    """Round to the nearest value of a format, ties to even, as the adder of the CPU does.

    Beside 2^52 steps there is room for whole steps alone. In FP16 the steps around 2049 are 2 wide: its
    exponent is 11, and 10 bits follow. 2^53 + 2049 is half way between 1024 and 1025 steps more than 2^53,
    and goes to the even number of them: 2048. Infinity and NaN stay, whatever their field is raised to.
    """
    magnitude = abs(x)
    field = np.float64(max(magnitude, p.smallest_normal)).view(np.int64) & EXPONENT
    adder = np.int64(field + p.adder).view(np.float64)
    rounded = (magnitude + adder) - adder
    return np.copysign(p.beyond if rounded > p.max else rounded, x) + p.zero


@jit
def _add_corrected(a: Any, b: Any, place: Any, out: Any) -> None:
    """Sum one block with Kahan's correction."""
    first, last, left, right = place
    corrections = np.zeros((last - first, right - left), np.float32)
    for start in range(0, a.shape[1], WINDOW):
        for i in range(first, last):
            total, correction = out[i][left:right], corrections[i - first]
            for q in range(start, min(start + WINDOW, a.shape[1])):
                x, factors = a[i, q], b[q][left:right]
                for j in range(total.size):
                    term = x * factors[j] - correction[j]
                    new = total[j] + term
                    correction[j] = (new - total[j]) - term
                    total[j] = new


@jit
def _add_pairs(a: Any, b: Any, place: Any, out: Any) -> None:
    """Sum one block as a tree: what waits for a neighbour has the sizes of the binary digits of a count.

    After 6 products there are a sum of 4 and one of 2; the seventh waits, and the eighth joins it, then both
    join the 2 and the 4. In the end what still waits is joined from the right, as the tree does it.
    """
    first, last, left, right = place
    k = a.shape[1]
    depth = 1
    while k >> depth:
        depth += 1
    waiting = np.empty((last - first, depth + 1, right - left), np.float32)
    for start in range(0, k, WINDOW):
        for i in range(first, last):
            sums = waiting[i - first]
            for q in range(start, min(start + WINDOW, k)):
                top, rest = 0, q
                while rest:
                    top, rest = top + (rest & 1), rest >> 1
                x, factors, term = a[i, q], b[q][left:right], sums[top]
                for j in range(term.size):
                    term[j] = x * factors[j]
                size = q + 1
                while top and (size % 2 == 0 or q + 1 == k):
                    earlier, later = sums[top - 1], sums[top]
                    for j in range(earlier.size):
                        earlier[j] += later[j]
                    top, size = top - 1, size // 2
    if k:
        for i in range(first, last):
            out[i][left:right] = waiting[i - first, 0]
