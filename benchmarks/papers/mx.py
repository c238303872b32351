"""OCP MX: the three rules for a block's power of two, and NVIDIA's argument for rounding it up."""

from __future__ import annotations

import numpy as np
from paper import SEED, Row, main

import fp8sim
from fp8sim.experiments.data import GENERATORS

RULES = ("floor", "ceil", "even")
BLOCK = 32


def measure(quick: bool) -> list[Row]:
    """Return errors, saturated elements, and the worst error of a block's largest, by format and rule."""
    shape = (64, 1024) if quick else (512, 8192)
    rows = []
    for fmt in ("e4m3", "e2m1"):
        for kind in ("gaussian", "student-t", "llm-like"):
            x = GENERATORS[kind](*shape, np.random.default_rng(SEED))
            for rule in RULES:
                q = fp8sim.quantize(x, fmt, f"1x{BLOCK}", scale_format="e8m0", scale_rule=rule)
                values, what = q.dequantize(), f"{fmt}, {kind}, {rule}"
                blocks, of_blocks = (y.reshape(-1, BLOCK) for y in (x, values))
                place = np.arange(len(blocks)), np.abs(blocks).argmax(axis=1)
                worst = np.abs(of_blocks[place] / blocks[place] - 1).max()
                rows += [
                    Row(f"{what}: error", 100 * fp8sim.metrics.relative_error(values, x), None, "%"),
                    Row(f"{what}: saturated", 100 * q.saturated / len(blocks), None, "/100 blocks"),
                    Row(f"{what}: amax off by", 100 * float(worst), None, "%"),
                ]
    return rows


NOTES = (
    "floor: OCP MX v1.0, 6.3: 2^(floor(log2 amax) - emax). Mishra et al. 2025 (arXiv 2506.08027) round up, "
    "since a block's largest element saturates under floor wherever its significand exceeds that of the "
    "largest value, 1.75 in E4M3; in their pre-training that rule can lead to divergence.",
    "error: relative, Frobenius. saturated: elements that saturate in a hundred blocks. amax off by: the "
    "largest relative error of a block's largest element.",
)

if __name__ == "__main__":
    main(f"MX scales, blocks of {BLOCK}: rounding errors by rule", measure, NOTES)
