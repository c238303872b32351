"""Casts, compiled: rounding, encoding and decoding, equal bit for bit to the numpy oracle.

Float32 to the nearest goes to the kernels of `nearest`. Every other mode, dtype and format goes through
`cast_one`, which counts quanta in float64 and compares what is left over with a threshold: one half to the
nearest, a random number for stochastic rounding, 0 or more than 1 for the directed ones.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from fp8sim._kernels._jit import get_num_threads, jit, read_only, split
from fp8sim._kernels.nearest import INFINITY, encode_nearest, nearest, round_nearest, top_code
from fp8sim._support.memory import empty
from fp8sim._support.threads import run_in_threads
from fp8sim._support.typing import F32, F64, AnyArray, FloatArray
from fp8sim.formats import FloatFormat
from fp8sim.reference.codes import decode_reference, decode_table, nan_code

__all__ = ["Seen", "cast_one", "decode", "encode", "mode", "round_to"]

CHUNK = 1 << 14  # elements of a task in float64: its scratch stays in the second-level cache
LEAST = 1 << 16  # elements of a task in float32: worth handing to a thread
WAVE = 1 << 20  # random numbers held at a time
TWO_52 = 2.0**52  # adding it leaves an integer below it in the last bits
SMALL, LARGE = 2.0**-250, 2.0**129  # magnitudes are held between: no rounding of these differs from beyond
NEVER = 2.0  # a threshold that no rest reaches


class Seen(NamedTuple):
    """What a cast met that a format without NaN must refuse."""

    nan: bool  #: NaN among the inputs
    lost: bool  #: NaN among the results


class Mode(NamedTuple):
    """What `cast_one` asks of a format, a rounding and an overflow policy."""

    mantissa: int  #: stored bits
    emin: int  #: exponent of the smallest normal number
    lead: int  #: codes that a format without zero lacks below its first binade
    flush: int  #: codes below it become zero
    top: int  #: code of the largest value
    limit: int  #: code of what is beyond it
    nan: int  #: code of NaN
    sign: int  #: sign bit of a code, or 0
    negative_zero: bool  #: whether -0 has a code
    smallest: float  #: smallest value of a format without zero, else 0
    least: float  #: numbers below it have no code, which are those below zero in an unsigned format
    max: float  #: largest value
    beyond: float  #: what is beyond it
    positive: float  #: added to the threshold of positive numbers
    negative: float  #: and of negative ones
    ties: int  #: on the threshold, go up 0: never, 1: from an odd count, 2: always
    inward_positive: bool  #: whether positive numbers stop at the largest value
    inward_negative: bool  #: and negative ones


@lru_cache(maxsize=256)
def mode(fmt: FloatFormat, rounding: str, policy: str) -> Mode:
    """Return the numbers for `cast_one`."""
    ieee = policy == "ieee" and (fmt.has_inf or fmt.has_nan)
    beyond = fmt.max if policy == "saturate" else np.inf if fmt.has_inf else np.nan
    to_zero, up, down = (rounding == f"toward-{where}" for where in ("zero", "positive", "negative"))
    normal = 1 << fmt.mantissa_bits
    return Mode(
        mantissa=fmt.mantissa_bits,
        emin=fmt.emin,
        lead=0 if fmt.zero else normal,
        flush=normal if fmt.zero and not fmt.subnormals else 0,
        top=top_code(fmt),
        limit=top_code(fmt) + ieee,
        nan=nan_code(fmt),
        sign=1 << (fmt.bits - 1) if fmt.signed else 0,
        negative_zero=fmt.specials != "fnuz",
        smallest=0.0 if fmt.zero else fmt.smallest_normal,
        least=-np.inf if fmt.signed else 0.0 if fmt.zero else 5e-324,
        max=fmt.max,
        beyond=float(beyond),
        positive=NEVER if to_zero or down else 0.0,
        negative=NEVER if to_zero or up else 0.0,
        ties={"nearest-even": 1, "nearest-away": 2}.get(rounding, 0),
        inward_positive=to_zero or down,
        inward_negative=to_zero or up,
    )


@jit
def cast_one(x: float, threshold: float, p: Any) -> Any:
    """Return the code and the value of the magnitude, the bit of its sign, and whether it went beyond."""
    bits, a = np.float64(x).view(np.int64), abs(x)
    bounded = np.float64(min(max(a, SMALL), LARGE))
    field = max(bounded.view(np.int64) >> 52, p.emin + 1023)
    ratio = bounded * np.int64((2046 - field + p.mantissa) << 52).view(np.float64) if a > 0 else 0.0
    steps = np.floor(ratio)
    rest = ratio - steps
    negative = bits < 0
    limit = threshold + (p.negative if negative else p.positive)
    count = np.float64(steps + TWO_52).view(np.int64)
    up = (rest > limit) | ((rest == limit) & ((p.ties & (count | 2)) != 0))
    count = (count & ((1 << 52) - 1)) + up
    value = count * np.int64((field - p.mantissa) << 52).view(np.float64)
    code = ((field - (p.emin + 1023)) << p.mantissa) + count - p.lead

    code = 0 if code < p.flush else max(code, 0)
    value = 0.0 if code < p.flush else max(value, p.smallest)
    inward = (p.inward_negative if negative else p.inward_positive) & (a < np.inf)
    over = code > p.top
    code = (p.top if inward else p.limit) if over else code
    value = (p.max if inward else p.beyond) if over else value
    keep = (p.sign != 0) & (p.negative_zero | (code != 0))
    sign = bits & np.int64(-(2**63)) if keep else 0
    if x < p.least:  # what has no code is not a number
        code, value, sign = p.nan, np.nan, 0
    if x != x:
        code, value, sign = p.nan, a, bits & np.int64(-(2**63))
    return code, value, sign, over


@jit
def encode_any(x: Any, thresholds: Any, out: Any, p: Any) -> Any:
    """Encode float64 `x` into uint32 `out`; return whether x, and whether the result, holds NaN."""
    nan, lost = 0, 0
    for i in range(out.size):
        code, value, sign, _ = cast_one(x[i], thresholds[i], p)
        nan, lost = nan | (x[i] != x[i]), lost | (value != value)
        out[i] = code | (p.sign if sign else 0)
    return nan, lost


@jit
def round_any(x: Any, thresholds: Any, out: Any, p: Any) -> Any:
    """Round float64 `x` into float64 `out`; return whether x, and whether the result, holds NaN."""
    nan, lost = 0, 0
    bits = out.view(np.int64)
    for i in range(out.size):
        _, value, sign, _ = cast_one(x[i], thresholds[i], p)
        nan, lost = nan | (x[i] != x[i]), lost | (value != value)
        bits[i] = np.float64(value).view(np.int64) | sign
    return nan, lost


@jit
def look_up(codes: Any, table: Any, out: Any) -> None:
    """Write the value of each code, all flat."""
    for i in range(out.size):
        out[i] = table[codes[i]]


def round_to(
    x: FloatArray, fmt: FloatFormat, rounding: str, policy: str, rng: np.random.Generator | None = None
) -> tuple[FloatArray, Seen]:
    """Return what `rounding.round_reference` does, and what it met; `rng` draws for "stochastic"."""
    return _cast_array(x, empty(x.size, x.dtype), fmt, rounding, policy, rng)


def encode(
    x: FloatArray, fmt: FloatFormat, rounding: str, policy: str, rng: np.random.Generator | None = None
) -> tuple[AnyArray, Seen]:
    """Return the codes of what `round_to` returns, as unsigned integers, and what it met."""
    return _cast_array(x, empty(x.size, fmt.code_dtype), fmt, rounding, policy, rng)


def decode(codes: AnyArray, fmt: FloatFormat) -> F32:
    """Return the values of codes given as unsigned integers."""
    order = _order(codes)
    source = read_only(codes.reshape(-1, order=order))
    out = empty(codes.size, np.float32)
    tasks = [(source[i:j], out[i:j]) for i, j in _tasks(codes.size)]
    if fmt.bits <= 16:
        table = decode_table(fmt)
        run_in_threads(lambda bits, values: look_up(bits, table, values), tasks)
    else:
        run_in_threads(lambda bits, values: _decode_wide(bits, fmt, values), tasks)
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


def _cast_array(
    x: FloatArray,
    out: AnyArray,
    fmt: FloatFormat,
    rounding: str,
    policy: str,
    rng: np.random.Generator | None,
) -> tuple[AnyArray, Seen]:
    """Cast in threads into flat `out`, and give it the shape and memory order of `x`."""
    stochastic = rounding == "stochastic"
    order: Literal["C", "F"] = "C" if stochastic else _order(x)  # draws are taken in C order
    source = read_only(x.reshape(-1, order=order))  # a view, where `x` is contiguous
    found = []
    for first, last in split(x.size, WAVE if stochastic else max(x.size, 1)):
        draws = rng.random(last - first) if stochastic and rng is not None else None
        values, results = source[first:last], out[first:last]

        def work(i: int, j: int, values: Any = values, results: Any = results, draws: Any = draws) -> Seen:
            numbers = None if draws is None else draws[i:j]
            return _cast_flat(values[i:j], results[i:j], fmt, rounding, policy, numbers)

        found += run_in_threads(work, _tasks(last - first))
    seen = Seen(any(s.nan for s in found), any(s.lost for s in found))
    return out.reshape(x.shape, order=order), seen


def _decode_wide(codes: AnyArray, fmt: FloatFormat, out: F32) -> None:
    if fmt.dtype == np.float32:
        out.view(np.uint32)[:] = codes
        return
    for start, stop in split(codes.size, CHUNK):
        out[start:stop] = decode_reference(codes[start:stop], fmt)


def _tasks(size: int) -> list[tuple[int, int]]:
    """Cut flat work into a few parts for each thread, none too small to be worth it."""
    return split(size, max(LEAST, -(-size // (4 * get_num_threads()))))


def _order(x: AnyArray) -> Literal["C", "F"]:
    return "F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C"
