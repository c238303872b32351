"""INT8 against E4M3, by the size of outliers, and the size from which on E4M3 errs less."""

from __future__ import annotations

import math

import numpy as np
from paper import SEED, Published, Row, main

import fp8sim
from fp8sim import metrics

NOUNE = "Noune et al. 2022 (arXiv 2206.02915), table 1: normal numbers, unscaled"
SIZES = (0, 4, 8, 12, 16, 24, 32, 64, 128)  # standard deviations


def errors(size: float, shape: tuple[int, int, int]) -> dict[str, float]:
    """Return errors of normal numbers with one outlier of a size in each row, rounded and multiplied."""
    m, n, k = shape
    rng = np.random.default_rng(SEED)
    a, b = (rng.standard_normal(s, np.float32) for s in ((m, k), (k, n)))
    if size:
        a[np.arange(m), rng.integers(0, k, m)] = size
    exact = a.astype(np.float64) @ b.astype(np.float64)
    found = {}
    for fmt, recipe in (("int8", "int8-row"), ("e4m3", "fp8-row")):
        found[f"{fmt}, rounded"] = metrics.relative_error(fp8sim.quantize(a, fmt, "row").dequantize(), a)
        found[f"{fmt}, product"] = metrics.relative_error(fp8sim.matmul(a, b, recipe), exact)
    return found


def crossover(what: str, sizes: tuple[int, ...], found: list[dict[str, float]]) -> float:
    """Return the size from which on INT8 errs more than E4M3, between two sizes by a straight line."""
    gaps = [of[f"int8, {what}"] - of[f"e4m3, {what}"] for of in found]
    last = max(i for i, gap in enumerate(gaps) if gap <= 0)
    share = -gaps[last] / (gaps[last + 1] - gaps[last])
    return sizes[last] + share * (sizes[last + 1] - sizes[last])


def measure(quick: bool) -> list[Row]:
    """Return errors by size, and the crossovers."""
    shape = (32, 16, 2048) if quick else (128, 256, 8192)
    found = [errors(size, shape) for size in SIZES]
    e4m3 = -20 * np.log10(found[0]["e4m3, rounded"])
    rows = [Row("no outliers: E4M3, SNR", float(e4m3), Published(31.5, NOUNE), "dB")]
    for size, of in zip(SIZES, found, strict=True):
        what = f"outliers of {size} sigma"
        rows += [Row(f"{what}: {name}", 100 * error, None, "%") for name, error in of.items()]
    rows += [
        Row(f"E4M3 errs less from, {what}", crossover(what, SIZES, found), None, "sigma")
        for what in ("rounded", "product")
    ]
    return rows


def notes(rows: list[Row]) -> tuple[str, ...]:
    """Say from which outlier on E4M3 should err less, by its own error without outliers."""
    (e4m3,) = (row.ours for row in rows if row.what == "outliers of 0 sigma: e4m3, rounded")  # in %
    size = 127 * math.sqrt(12) * e4m3 / 100
    return (
        "One outlier in a row of A; a scale for each row of A and column of B. A step of INT8 is the largest "
        "magnitude over 127, and its error 1 / sqrt(12) of it: as much as E4M3's of "
        f"{e4m3:.3g} % where the outlier is {size:.1f} sigma.",
    )


if __name__ == "__main__":
    main("INT8 and E4M3 by the size of outliers", measure, notes)
