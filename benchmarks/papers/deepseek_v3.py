"""DeepSeek-V3's report, 3.3.2: what sums of 14 bits cost, by k, and what promotion to FP32 leaves of it."""

from __future__ import annotations

import numpy as np
from paper import SEED, Row, main

import fp8sim
from fp8sim._support.published import DEEPSEEK_V3

PUBLISHED_K = 4096


def errors(kind: str, size: int, k: int, promote_every: int | None) -> tuple[float, float]:
    """Return the largest error of a sum over their root mean square, and the Frobenius error, in percent.

    Operands are exact in E4M3, so that nothing but the summing errs.
    """
    rng = np.random.default_rng(SEED)
    draw = rng.standard_normal if kind == "normal" else rng.random
    a, b = (fp8sim.round_to(draw(shape, np.float32), "e4m3") for shape in ((size, k), (k, size)))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    sums = fp8sim.tensor_core_matmul(a, b, "hopper-fp8", promote_every=promote_every)
    largest = np.abs(sums - exact).max() / np.sqrt(np.mean(exact**2))
    return 100 * float(largest), 100 * fp8sim.metrics.relative_error(sums, exact)


def measure(quick: bool) -> list[Row]:
    """Return both errors by data, way to sum and k."""
    size, lengths = (128, (1024, PUBLISHED_K)) if quick else (1024, (512, 1024, 2048, PUBLISHED_K))
    rows = []
    for kind in ("normal", "0 to 1"):
        for every in (None, 128):
            way = "promoted" if every else "one chain"
            for k in lengths:
                largest, frobenius = errors(kind, size, k, every)
                asked = kind == "normal" and not every and k == PUBLISHED_K
                published = DEEPSEEK_V3["sum_error"] if asked else None
                rows += [
                    Row(f"{kind}, {way}, k = {k}: largest", largest, published, "%"),
                    Row(f"{kind}, {way}, k = {k}: Frobenius", frobenius, None, "%"),
                ]
    return rows


def notes(rows: list[Row]) -> tuple[str, ...]:
    """Say what the figures are, and whether ours may be the published one: as much, or half at least."""
    ((ours, ratio),) = ((row.ours, row.ratio) for row in rows if row.ratio is not None)
    verdict = "is at most that and at least half" if 0.5 <= ratio <= 1 else "does not agree with it"
    return (
        "promoted: to FP32, every 128 of k. largest: the largest error of a sum over the root mean square "
        "of all sums. The report says 'nearly' 2 %, and neither distribution, size nor what it divides by: "
        f"ours, {ours:.2f} %, {verdict}, and is no reproduction.",
    )


if __name__ == "__main__":
    main("DeepSeek-V3: errors of FP8 sums on Hopper", measure, notes)
