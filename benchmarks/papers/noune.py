"""Noune et al. 2022, table 1: what rounding costs normal numbers in each format; and the formats' ranges."""

from __future__ import annotations

import numpy as np
from paper import SEED, Published, Row, main

import fp8sim
from fp8sim import FloatFormat

NOUNE = "Noune et al. 2022, 8-bit Numerical Formats for Deep Neural Networks (arXiv 2206.02915), table 1"
RULE = "the same: SNR = 7.44 + 6.02 p dB, p bits of significand with the hidden one"
OFP8 = "Micikevicius et al. 2022, FP8 Formats for Deep Learning (arXiv 2209.05433), table 1"

DLFLOAT = FloatFormat("dlfloat", 6, 9)  # IBM's DLFloat16: 1.6.9
SNR = {"fp32": 151.9, "fp16": 73.7, "bf16": 55.6, DLFLOAT: 67.6, "e5m2": 25.5, "e4m3": 31.5, "e3m4": 37.5}

# property of a format -> E4M3's and E5M2's
RANGES = {
    "max": (448, 57344),
    "smallest_normal": (2.0**-6, 2.0**-14),
    "smallest_subnormal": (2.0**-9, 2.0**-16),
}


def measure(quick: bool) -> list[Row]:
    """Return signal-to-noise ratios on N(0, 1), unscaled, and ranges."""
    x = np.random.default_rng(SEED).standard_normal(1 << (16 if quick else 22))
    rows = []
    for name, published in SNR.items():
        fmt = fp8sim.get_format(name)
        snr = fp8sim.metrics.sqnr_db(fp8sim.round_to(x, fmt), x)
        rows.append(Row(f"{fmt}, SNR on N(0, 1)", snr, Published(published, NOUNE), "dB"))
    for bits in (3, 4, 8, 11):
        fmt = FloatFormat(f"p{bits}", 8, bits - 1)  # exponents enough
        snr = fp8sim.metrics.sqnr_db(fp8sim.round_to(x, fmt), x)
        rows.append(Row(f"{bits} bits of significand, SNR", snr, Published(7.44 + 6.02 * bits, RULE), "dB"))
    for quantity, published in RANGES.items():
        for name, value in zip(("e4m3", "e5m2"), published, strict=True):
            ours = getattr(fp8sim.get_format(name), quantity)
            rows.append(Row(f"{name}, {quantity.replace('_', ' ')}", ours, Published(value, OFP8)))
    return rows


if __name__ == "__main__":
    main("Formats of 8 bits and more, on normal numbers", measure)
