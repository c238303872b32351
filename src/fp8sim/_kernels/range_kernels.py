"""Kernels: what the values of an array are like: how large and small, of a format or not, finite or not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types

from fp8sim._kernels._jit import intrinsic, jit, read_only
from fp8sim._kernels.lanes import I32, I64, WIDTH, Lanes, Writer
from fp8sim._support.threads import run_in_threads, split
from fp8sim._support.typing import F32, AnyArray
from fp8sim.formats import FloatFormat

__all__ = ["Range", "inspect"]

RUN = 1 << 18  # elements per task
INFINITE = 0x7F800000  # bits of float32 infinity


class Range(NamedTuple):
    """Facts about the values of a float32 array."""

    outside: int  # how many are no values of the format
    largest: float  # finite magnitude; 0 if there is none
    smallest: float  # finite magnitude other than zero; infinity if there is none
    finite: bool


class Limits(NamedTuple):
    """What the kernel knows of a format."""

    mantissa_bits: int
    emin: int
    largest: int  # float32 bits
    has_inf: int
    has_nan: int


def inspect(x: F32, fmt: FloatFormat) -> Range:
    """Look at all values of `x` once.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> inspect(np.array([0.1, 1.5, np.inf], np.float32), fp8sim.get_format("e5m2"))
    Range(outside=1, largest=1.5, smallest=0.10000000149011612, finite=False)
    """
    bits, limits = read_only(x.reshape(-1).view(np.int32)), _settings(fmt)
    tasks = [(limits, bits, start, stop) for start, stop in split(x.size, RUN)]
    facts = run_in_threads(_inspect, tasks) or [(0, 0, INFINITE, 0)]
    outside, largest, smallest, special = zip(*facts, strict=True)
    extremes = np.array([max(largest), min(smallest)], np.int32).view(np.float32)
    return Range(int(sum(outside)), float(extremes[0]), float(extremes[1]), not any(special))


def _settings(fmt: FloatFormat) -> Limits:
    largest = int(np.float32(fmt.max).view(np.int32))
    return Limits(fmt.mantissa_bits, fmt.emin, largest, int(fmt.has_inf), int(fmt.has_nan))


@intrinsic
def look_at_lanes(context: Any, limits: Any, bits: Any, start: Any, count: Any, results: Any) -> Any:
    """Look at `count` times 64 values; results are 64 of each of four facts."""
    signature = types.void(limits, bits, start, count, results)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(context, builder, signature, arguments)
        source, results = w.array(1, at=2), w.array(4)
        facts = w.fold_all(
            arguments[3], _nothing_seen(w), lambda i, *seen: _look(w, source.load_row(i), *seen)
        )
        for i, fact in enumerate(facts):
            results.store(fact, I64(i * WIDTH))
        return context.get_dummy_value()

    return signature, write


def _nothing_seen(w: Writer) -> list[Lanes]:
    return [w.fill(I32, start) for start in (0, 0, INFINITE, 0)]


def _look(
    w: Writer, bits: Lanes, outside: Lanes, largest: Lanes, smallest: Lanes, special: Lanes
) -> list[Lanes]:
    """Update the facts with 64 values."""
    mantissa_bits, one = w.number("mantissa_bits"), w.fill(I32, 1)
    magnitude = bits & 0x7FFFFFFF
    exponent = (magnitude >> 23).max(1) - 127
    leading = (magnitude > 0x7FFFFF).where(0x800000, w.fill(I32, 0))
    significand = (magnitude & 0x7FFFFF) | leading
    # A value of the format has zeros below its last mantissa bit: in E4M3 1.125 = 0x3F900000 has 20 spare
    # bits, all 0, and 1.0625 = 0x3F880000 has a 1 among them. A subnormal of the format has fewer bits of its
    # own: one per binade below emin, down to none.
    fewer = (w.number("emin") - exponent).max(0).min(mantissa_bits + 1)
    spare = (one << (fewer - mantissa_bits + 23)) - 1
    inexact = (significand & spare).min(1)
    too_large = (magnitude > w.number("largest")).where(1, inexact)
    infinite = (magnitude - INFINITE).is_zero().where(one - w.number("has_inf"), too_large)
    nan = (magnitude > INFINITE).where(one - w.number("has_nan"), infinite)
    is_special = magnitude > INFINITE - 1
    return [
        outside + nan,
        largest.max(is_special.where(0, magnitude)),
        smallest.min(magnitude.is_zero().where(INFINITE, magnitude)),
        special | is_special.where(1, w.fill(I32, 0)),
    ]


@jit
def _look_at_run(limits: Any, bits: Any, start: int, stop: int, facts: Any) -> None:
    """Look at a run of values: whole vectors, then the rest of them, filled up with zeros."""
    whole = (stop - start) // WIDTH
    if whole:
        look_at_lanes(limits, bits, start, whole, facts[0])
    rest = np.zeros(WIDTH, np.int32)
    for i in range(start + whole * WIDTH, stop):
        rest[i - start - whole * WIDTH] = bits[i]
    look_at_lanes(limits, rest, 0, 1, facts[1])


def _inspect(limits: Limits, bits: AnyArray, start: int, stop: int) -> tuple[int, int, int, int]:
    """Return how many values are outside, the largest and smallest magnitude, and if any is special."""
    facts = np.zeros((2, 4, WIDTH), np.int32)
    facts[:, 2] = INFINITE
    _look_at_run(limits, bits, start, stop, (facts[0].reshape(-1), facts[1].reshape(-1)))
    outside, largest, smallest, special = facts.swapaxes(0, 1)
    return int(outside.sum()), int(largest.max()), int(smallest.min()), int(special.max())
