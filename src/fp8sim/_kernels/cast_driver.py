"""Driver: casts of whole arrays in threads, each equal bit for bit to the readable one in `reference`.

Float32 to the nearest goes to `nearest_kernels`; every other mode, dtype and format to `cast_kernels`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from fp8sim._kernels._jit import read_only
from fp8sim._kernels.cast_kernels import encode_any, look_up, mode, round_any
from fp8sim._kernels.nearest_kernels import INFINITY, encode_nearest, nearest, round_nearest
from fp8sim._support.memory import empty
from fp8sim._support.threads import get_num_threads, run_in_threads, split
from fp8sim._support.typing import F32, F64, AnyArray, FloatArray
from fp8sim.formats import FloatFormat

__all__ = ["Seen", "cast_array", "decode"]

CHUNK = 1 << 14  # elements of a task in float64: its scratch stays in the second-level cache
LEAST = 1 << 16  # elements of a task in float32: worth handing to a thread
WAVE = 1 << 20  # random numbers held at a time


class Seen(NamedTuple):
    """What a cast met that a format without NaN must refuse."""

    nan: bool  #: NaN among the inputs
    lost: bool  #: NaN among the results


def cast_array(
    x: FloatArray,
    fmt: FloatFormat,
    *,
    codes: bool,
    rounding: str,
    policy: str,
    rng: np.random.Generator | None = None,
) -> tuple[AnyArray, Seen]:
    """Return `x` rounded to `fmt` in its own dtype, or its codes as unsigned integers, and what it met.

    `rng` draws for "stochastic", in C order.
    """
    stochastic = rounding == "stochastic"
    order: Literal["C", "F"] = "C" if stochastic else _order(x)
    source = read_only(x.reshape(-1, order=order))  # a view, where `x` is contiguous
    out = empty(x.size, fmt.code_dtype if codes else x.dtype)
    seen = []
    for first, last in split(x.size, WAVE if stochastic else max(x.size, 1)):
        draws = rng.random(last - first) if stochastic and rng is not None else None
        values, results = source[first:last], out[first:last]

        def work(i: int, j: int, values: Any = values, results: Any = results, draws: Any = draws) -> Seen:
            numbers = None if draws is None else draws[i:j]
            return _cast_flat(values[i:j], results[i:j], fmt, rounding, policy, numbers)

        seen += run_in_threads(work, _tasks(last - first))
    total = Seen(any(part.nan for part in seen), any(part.lost for part in seen))
    return out.reshape(x.shape, order=order), total


def decode(codes: AnyArray, table: F32) -> F32:
    """Return ``table[codes]`` for codes given as unsigned integers."""
    order = _order(codes)
    source = read_only(codes.reshape(-1, order=order))
    out = empty(codes.size, np.float32)
    run_in_threads(look_up, [(source[i:j], table, out[i:j]) for i, j in _tasks(codes.size)])
    return out.reshape(codes.shape, order=order)


def _cast_flat(
    x: FloatArray, out: AnyArray, fmt: FloatFormat, rounding: str, policy: str, draws: F64 | None = None
) -> Seen:
    """Round flat `x` into `out` of its dtype, or encode it into an unsigned one, in this thread."""
    encoding = out.dtype.kind == "u"
    p = nearest(fmt, policy) if rounding == "nearest-even" and x.dtype == np.float32 else None
    if p is not None:
        worst, _ = (encode_nearest if encoding else round_nearest)(x, out, p)
        nan = bool(worst > INFINITY)
        return Seen(nan, nan or (policy == "ieee" and not fmt.has_inf and bool(worst >= p.over)))

    numbers, kernel = mode(fmt, rounding, policy), encode_any if encoding else round_any
    scratch = np.empty(min(CHUNK, x.size), np.uint32 if encoding else np.float64)
    threshold = np.full(scratch.size, 0.5 if rounding.startswith("nearest") else 0.0)
    nan = lost = False
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        for start, stop in split(x.size, CHUNK):
            limits = threshold if draws is None else draws[start:stop]
            part = scratch[: stop - start]
            seen = kernel(x[start:stop].astype(np.float64), limits, part, numbers)
            out[start:stop] = part
            nan, lost = nan or bool(seen[0]), lost or bool(seen[1])
    return Seen(nan, lost)


def _tasks(size: int) -> list[tuple[int, int]]:
    """Cut flat work into a few parts for each thread, none too small to be worth it."""
    return split(size, max(LEAST, -(-size // (4 * get_num_threads()))))


def _order(x: AnyArray) -> Literal["C", "F"]:
    return "F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C"
