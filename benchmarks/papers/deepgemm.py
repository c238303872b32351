"""DeepGEMM: the measure of its tests on its shapes, and the byte column of its table of speeds."""

from __future__ import annotations

import numpy as np
from paper import SEED, Published, Row, main

import fp8sim
from fp8sim._support.published import DEEPGEMM_H800, DEEPGEMM_H800_UPDATED, DEEPSEEK_V3

TESTS = "deepseek-ai/DeepGEMM, tests/: the limit"
FEBRUARY = "deepseek-ai/DeepGEMM, README of commit a6d97a1 (February 2025), H800"
MARCH = "deepseek-ai/DeepGEMM, README of commit 55ab91f (25 March 2025), H800"
SHAPES = [(row.n, row.k) for row in DEEPGEMM_H800 if row.m == 128]

# recipe -> what its tests accept of it: both operands FP8, one FP4, both FP4, both BF16
LIMITS = {"deepseek-v3": 0.001, "deepseek-v3.1": 0.001, "deepseek-v4": 0.01, "mxfp4": 0.02, "bf16": 1e-5}


def calc_diff(m: int, n: int, k: int, recipe: str) -> float:
    """Run DeepGEMM's test: normal numbers in BF16, their product in BF16 against the exact one."""
    rng = np.random.default_rng(SEED)
    a, b = (fp8sim.round_to(rng.standard_normal(s, np.float32), "bf16") for s in ((m, k), (k, n)))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    return fp8sim.metrics.calc_diff(fp8sim.matmul(a, b, recipe, output="recipe"), exact)


def measure(quick: bool) -> list[Row]:
    """Return the differences, usual and at most, and the bytes moved in a second."""
    m, shapes = (64, [(512, 2048)]) if quick else (128, SHAPES)
    usual = DEEPSEEK_V3["calc_diff"]
    rows = [
        Row(f"calc_diff, {m}x{n}x{k}, deepseek-v3", calc_diff(m, n, k, "deepseek-v3"), usual)
        for n, k in shapes
    ]
    n, k = shapes[0]
    rows += [
        Row(f"calc_diff, {name}, of a limit", calc_diff(m, n, k, name), Published(limit, TESTS))
        for name, limit in LIMITS.items()
    ]
    for speeds, source in ((DEEPGEMM_H800, FEBRUARY), (DEEPGEMM_H800_UPDATED, MARCH)):
        for speed in speeds:
            size = speed.m, speed.n, speed.k
            gbps = fp8sim.gemm_cost(*size).gbps_at(speed.tflops)
            rows.append(Row("{}x{}x{}".format(*size), gbps, Published(speed.gbps, source), "GB/s"))
    return rows


NOTES = (
    "calc_diff is 1 - 2 sum(xy) / sum(x^2 + y^2), about half the squared relative error.",
    "GB/s: bytes by our count, at their TFLOP/s, which they round to whole numbers.",
)

if __name__ == "__main__":
    main("DeepGEMM: m x n x k", measure, NOTES)
