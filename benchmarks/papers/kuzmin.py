"""Kuzmin et al. 2022: INT8 and FP8 formats at their best scale, on uniform, normal and Student t numbers.

Errors are expectations, integrals over the density, as in the authors' program
(Qualcomm-AI-research/FP8-quantization, compute_quant_error.py), whose distributions and formats these are:
every code of a format is a finite number, and the range is searched for the least mean squared error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from paper import Published, Row, main

import fp8sim
from fp8sim import FloatFormat

F64 = NDArray[np.float64]
NOUNE = "Noune et al. 2022 (arXiv 2206.02915), table 1: the same numbers, unscaled"
FORMATS = {
    "INT8": fp8sim.get_format("int8"),
    **{f"E{e}M{7 - e}": FloatFormat(f"e{e}m{7 - e}", e, 7 - e, specials="none") for e in (2, 3, 4, 5)},
}
FAR = 1e5  #: where tails are cut: beyond it lies 3e-8 of the power of Student's t at nu = 3.5, less above
UNSCALED = {"E3M4": 37.5, "E4M3": 31.5, "E5M2": 25.5}  # dB, of normal numbers


def normal(x: F64) -> F64:
    """Return the density of N(0, 1)."""
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def student(x: F64, nu: float) -> F64:
    """Return the density of Student's t."""
    log = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
    return math.exp(log) * (1 + x * x / nu) ** (-(nu + 1) / 2)


def largest_of(density: Callable[[F64], F64], n: int) -> float:
    """Return the median of the largest magnitude of n numbers of a symmetric density.

    All n are below it in half of all draws: each exceeds it with a probability of log(2) / n. What lies
    beyond x is an integral to infinity, of density(x / u) x / u^2 over u from 0 to 1.
    """
    u = (np.arange(4096) + 0.5) / 4096
    low, high = 1.0, 1e9
    while high / low > 1 + 1e-12:
        x = math.sqrt(low * high)
        beyond = 2 * float(np.mean(density(x / u) * x / u**2))
        low, high = (x, high) if beyond > math.log(2) / n else (low, x)
    return low


@dataclass(frozen=True)
class Distribution:
    """Magnitudes and their probabilities, up to where the tails are cut off."""

    x: F64
    weight: F64

    @classmethod
    def of(cls, density: Callable[[F64], F64], limit: float, points: int, power: int = 2) -> Distribution:
        """Cut the range into intervals, finer towards 0 with a higher power, and take the middle of each."""
        edges = limit * np.linspace(0, 1, points + 1) ** power
        x = (edges[1:] + edges[:-1]) / 2
        weight = density(x) * np.diff(edges)
        return cls(x, weight / weight.sum())

    @property
    def power(self) -> float:
        """Mean square."""
        return float(self.weight @ self.x**2)

    def snr(self, fmt: str, largest: float) -> float:
        """Return signal over noise in dB, with `largest` at the largest value of the format."""
        scale = largest / FORMATS[fmt].max
        error = scale * fp8sim.round_to(self.x / scale, FORMATS[fmt], overflow="saturate") - self.x
        return 10 * math.log10(self.power / float(self.weight @ error**2))

    def best_snr(self, fmt: str, ranges: int) -> float:
        """Return the largest, over ranges from the root mean square to 100 of it or 1.2 times the limit."""
        least = math.sqrt(self.power)
        candidates = np.geomspace(least, min(100 * least, 1.2 * self.x[-1]), ranges)
        return max(self.snr(fmt, float(largest)) for largest in candidates)


def measure(quick: bool) -> list[Row]:
    """Return ratios at the best scale, and what INT8 makes of heavy tails at other ranges and cuts."""
    points, ranges = (1 << 14, 60) if quick else (1 << 16, 120)
    distributions = {
        "uniform": Distribution.of(np.ones_like, 1, points),
        "normal": Distribution.of(normal, 10, points),
        "Student t, nu = 8": Distribution.of(partial(student, nu=8), 100, points),
    }
    rows = []
    for name, numbers in distributions.items():
        for fmt in FORMATS:
            known = UNSCALED.get(fmt) if name == "normal" else None
            published = Published(known, NOUNE) if known else None
            rows.append(Row(f"{name}: {fmt}", numbers.best_snr(fmt, ranges), published, "dB"))
    # What INT8 makes of Student t is decided by its tail and by the range: no one figure is "Student t".
    for nu in (3.5, 4, 5, 8):
        density = partial(student, nu=nu)
        numbers = Distribution.of(density, FAR, points, power=4)
        for fmt in ("INT8", "E3M4"):
            rows.append(Row(f"t, nu = {nu}, best: {fmt}", numbers.best_snr(fmt, ranges), None, "dB"))
            for n in (1_000_000, 5_000_000):
                end = largest_of(density, n)
                snr = Distribution.of(density, end, points).snr(fmt, end)
                rows.append(Row(f"t, nu = {nu}, largest of {n:,}: {fmt}", snr, None, "dB"))
    near = Distribution.of(partial(student, nu=3.5), 100, points)
    rows.append(Row("t, nu = 3.5, cut at 100, best: INT8", near.best_snr("INT8", ranges), None, "dB"))
    return rows


def notes(rows: list[Row]) -> tuple[str, ...]:
    """Say what the figures are; mean squares are 1/3 of uniform numbers, nu / (nu - 2) of Student's t."""
    uniform, student_8 = 10 * math.log10(3), 10 * math.log10(8 / 6)
    return (
        "The first figures are at the best scale, Student's t cut at 100 as by the authors, whose program "
        "prints -10 log10 of the mean squared error, without the signal's power: "
        f"{uniform:.2f} dB more for uniform numbers, {student_8:.2f} dB less for nu = 8.",
        f"t, best: the tail is cut at {FAR:,.0f}, which changes nothing; a cut nearer by does, as the last "
        "row shows. largest of n: the range ends at the median of the largest of n "
        "numbers, and the density with it: nothing saturates.",
    )


if __name__ == "__main__":
    main("Signal over noise of INT8 and FP8 (Kuzmin et al., arXiv 2208.09225)", measure, notes)
