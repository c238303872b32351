"""Stochastic rounding with few random bits: its bias, by their number."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from paper import SEED, Row, main

import fp8sim

F64 = NDArray[np.float64]
FORMATS = {"e2m1": 6.0, "e4m3": 448.0}  # format -> largest value that is drawn
BITS = (1, 2, 3, 4, 6, 8, 11)


def neighbours(x: F64, fmt: str) -> tuple[F64, F64]:
    """Return the values of a format below and above positive numbers."""
    return tuple(fp8sim.round_to(x, fmt, rounding=f"toward-{way}") for way in ("negative", "positive"))


def measure(quick: bool) -> list[Row]:
    """Return the mean error in last places, its standard error and what is expected, by random bits."""
    count = 1 << (19 if quick else 21)
    rows = []
    for fmt, largest in FORMATS.items():
        rng = np.random.default_rng(SEED)
        x = largest * rng.random(count)
        low, high = neighbours(x, fmt)
        place = np.where(high > low, high - low, 1.0)
        draw = {"rounding": "stochastic", "rng": rng}
        ways = {f"{bits} random bits": fp8sim.round_to(x, fmt, random_bits=bits, **draw) for bits in BITS}
        ways["all random bits"] = fp8sim.round_to(x, fmt, **draw)
        ways["nearest even"] = fp8sim.round_to(x, fmt)
        for way, rounded in ways.items():
            error = (rounded - x) / place
            bits = way.removesuffix(" random bits")
            figures = {
                "bias": np.mean(error),
                "std. error": np.std(error) / math.sqrt(count),
                "expected": -(2.0 ** -(int(bits) + 1)) if bits.isdecimal() else 0.0,
            }
            rows += [
                Row(f"{fmt}, {way}: {what}", float(value), None, "ulp") for what, value in figures.items()
            ]
    return rows


NOTES = (
    "ulp: distance of the two values around a number. What lies below the last random bit is cut off, "
    "half of 2^-bits on average: a bias of -2^-(bits + 1) is expected, and none of all bits or to nearest "
    "even. std. error: of the bias, a mean; what is less than "
    "some of it apart is so by chance.",
    "That few bits bias is shown in Fitzgibbon and "
    "Felix 2025 (arXiv 2504.20634); NVIDIA's conversion for NVFP4 takes 8 (TransformerEngine, PR 3281).",
)

if __name__ == "__main__":
    main("Bias of stochastic rounding, uniform numbers", measure, NOTES)
