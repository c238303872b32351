"""Probes of tensor cores: inputs that tell how a unit sums, with what others saw on GPUs beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from paper import Published, Row, main

from fp8sim import TENSOR_CORES, tensor_core_matmul

MMA_SIM = "MMA-Sim (arXiv 2511.10909v2), table 8"
KM = "Khattak and Mikaitis 2025 (arXiv 2512.07004v2)"
FTTN = "FTTN (arXiv 2403.00232), table 3: extra bits of alignment; H100: 2 or more"
FASI = "Fasi, Higham, Mikaitis, Pranesh 2021 (PeerJ CS 7:e330), and the program that they publish with it"

Terms = list[tuple[float, float]]
U = 2.0**-24  # half the last place of FP32 at 1, and FP16's smallest subnormal


class Probe(NamedTuple):
    """Products and what they are added to, and what came of it: core -> value."""

    what: str
    c: float
    terms: Terms
    seen: dict[str, float]
    source: str


def on(value: float, *cores: str) -> dict[str, float]:
    """Return the same value for some cores."""
    return dict.fromkeys(cores, value)


_T8 = {
    **on(0.0, "volta-fp16", "ada-fp8", "hopper-fp8", "cdna2-fp16", "cdna2-bf16"),
    **on(
        -0.5, "turing-fp16", "ampere-fp16", "ampere-bf16", "ada-fp16", "ada-bf16", "cdna3-fp16", "cdna3-bf16"
    ),
    **on(-0.75, "hopper-fp16", "hopper-bf16", "blackwell-fp16", "blackwell-bf16", "blackwell-fp8"),
    **on(-0.875, "cdna1-fp16", "cdna1-bf16"),
    **on(-0.375, "cdna2-bf16-k2"),
    **on(-1.0, "cdna3-fp8"),
}
_V100, _T4, _A100 = "volta-fp16", "turing-fp16", "ampere-fp16"
_ALL = _V100, _T4, _A100

_CANCELLING: Terms = [(-(2.0**13), 2.0**10), (-0.5, 1), (-0.25, 1), (-0.125, 1)]
_SMALL: Terms = [(2.0**-12, 2.0**-11)] * 2  # 2^-23 each

#: What it is, c, products, what was seen. Those of FASI are what its programs check that a core writes.
PROBES = (
    Probe("T8, exactly -0.875", 2.0**23, _CANCELLING, _T8, MMA_SIM),
    Probe("1.5 x 1.5 + 2 x 2^-23", 0, [(1.5, 1.5), *_SMALL], on(2.25 + 2.0**-22, _V100), KM),
    Probe("1 x 2.25 + 2 x 2^-23", 0, [(1, 2.25), *_SMALL], on(2.25, _V100), KM),
    Probe("1 + 2 x 2^-13", 0, [(1, 1), *[(2.0**-6, 2.0**-7)] * 2], on(1 + 2.0**-12, "ada-fp8"), KM),
    Probe("c = 1, 2 x 2^-14", 1, [(2.0**-7, 2.0**-7)] * 2, on(1, "ada-fp8"), KM),
    Probe("subnormal a, 4 x 2^-24", 0, [(U, 4)], on(2.0**-22, *_ALL), FASI),
    Probe("c subnormal, 2^-149", 2.0**-149, [(0, 0)], on(2.0**-149, *_ALL), FASI),
    Probe("products exact", 0, [(1 - 2.0**-11,) * 2] * 4, on(4 - 2.0**-8 + 2.0**-20, *_ALL), FASI),
    Probe("c = 1, 4 x 2^-25", 1, [(0.5, U)] * 4, on(1, *_ALL), FASI),
    Probe("2 + 1.5 x 2^-23", 0, [(1, 2), (1, 2.0**-23 + U)], on(2, *_ALL), FASI),
    Probe("-2 - 1.5 x 2^-23", 0, [(1, -2), (1, -(2.0**-23) - U)], on(-2, *_ALL), FASI),
    Probe("c = 1 - 2^-24, 4 x 2^-24", 1 - U, [(1, U)] * 4, on(1 + 2.0**-23, _V100), FASI),
)


def dot(core: str, terms: Terms, c: float = 0.0) -> float:
    """Return c and the products, summed by a core."""
    a, b = np.array(terms, np.float64).T
    return float(tensor_core_matmul(a[None], b[:, None], core, c=np.float32([[c]]))[0, 0])


def extra_bits(core: str) -> int:
    """Return the bits below FP32's last place that an addend keeps beside 1, of at most 3.

    2^bits equal terms that make one last place of FP32, unless they are cut off before.
    """
    kept = [dot(core, [(2.0**-12, 2.0 ** -(11 + n))] * 2**n, 1.0) > 1 for n in range(4)]
    return kept.index(False) - 1 if False in kept else 3


def measure(quick: bool) -> list[Row]:
    """Return each probe on the cores that it was published of; a full run, on all that take its values."""
    return [*_values(quick), *_alignment()]


def _values(quick: bool) -> Iterator[Row]:
    for probe in PROBES:
        for core in TENSOR_CORES:
            known = probe.seen.get(core)
            if known is None and quick:
                continue
            try:
                ours = dot(core, probe.terms, probe.c)
            except ValueError:  # not values of its formats, or a core that wants block scales
                continue
            published = None if known is None else Published(known, probe.source)
            yield Row(f"{core}: {probe.what}", ours, published, digits=9)


def _alignment() -> Iterator[Row]:
    known = {"volta-fp16": 0, "ampere-fp16": 1, "hopper-fp16": 2}
    for core in (c.name for c in TENSOR_CORES.values() if c.inputs == ("fp16",) and c.output != "fp16-rne"):
        published = Published(known[core], FTTN) if core in known else None
        yield Row(f"{core}: extra bits, at most 3", extra_bits(core), published, "bits")


NOTES = (
    "Extra bits: below the last place of FP32, of terms beside 1; 3 is the most that the probe tells.",
    "FTTN's section V (D = C - A B, n = 8192: 0, 191.875 and 255.875 by GPU) is not here: neither its "
    "matrices nor the order of its sums are given to the bit.",
)

if __name__ == "__main__":
    main("Probes of tensor cores", measure, NOTES)
