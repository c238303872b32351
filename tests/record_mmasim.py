"""Run cases through mmasim, the program of MMA-Sim's authors: record some, or compare many.

    python tests/record_mmasim.py              # writes tests/data/mmasim.npz and mmasim.json
    python tests/record_mmasim.py --live 20000 # compares so many single steps and chains per core and kind

Needs mmasim 2.1.1 (PyPI, MIT licence, Microsoft) with PyTorch, ninja and a C++ compiler. `test_cdna.py` replays what
was recorded on any machine.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

import fp8sim
from cdna import INSTRUCTIONS, KINDS, NAN, Batch, draw
from fp8sim._support.typing import F32, AnyArray

DATA = Path(__file__).with_name("data")
COLUMNS = 64
DTYPES = {"e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "e5m2fnuz": ml_dtypes.float8_e5m2fnuz}


def instruction(core: str, position: int, formats: tuple[str, str]) -> tuple[str, str]:
    """Return generation and name of one of the instructions of a core."""
    generation, names = INSTRUCTIONS[core]
    types = ({"e4m3fnuz": "fp8", "e5m2fnuz": "bf8"}.get(fmt, "") for fmt in formats)
    return generation, names.split()[position].format(*types)


def run(generation: str, name: str, batch: Batch) -> AnyArray:
    """Return the words of a chain of instructions."""
    import torch
    from mmasim.amd import MFMA

    def tensor(x: F32, fmt: str) -> torch.Tensor:
        if fmt in DTYPES:
            codes = torch.from_numpy(x.astype(DTYPES[fmt]).view(np.uint8))
            return codes.view(getattr(torch, np.dtype(DTYPES[fmt]).name))
        return torch.from_numpy(np.ascontiguousarray(x)).to(
            {"fp16": torch.float16, "bf16": torch.bfloat16}.get(fmt, torch.float32)
        )

    operation = MFMA(generation, name)
    k = operation.k
    a, b = tensor(batch.a, batch.formats[0]), tensor(np.ascontiguousarray(batch.b.T), batch.formats[1])
    c = torch.from_numpy(batch.c[0].copy())
    for at in range(0, a.shape[1], k):
        rows = a[:, at : at + k].contiguous().view(torch.uint8).expand(len(b), -1).contiguous().view(a.dtype)
        c = operation.dpa(rows, b[:, at : at + k], c)
    return c.numpy().view(np.uint32)[None]


def differing(batch: Batch, words: AnyArray) -> AnyArray:
    """Mark words that fp8sim writes otherwise; NaN is one for CDNA1 and 2, whose pattern mmasim takes from its host."""
    ours = batch.product()
    canonical = batch.core.startswith("cdna3")
    nan = np.isnan(words.view(np.float32)) & np.isnan(ours.view(np.float32))
    return (ours != words) & ~(nan & (not canonical))


def main() -> int:
    """Record, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", type=int, metavar="N", help="compare N outputs of each core and kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", nargs="*", default=list(INSTRUCTIONS))
    options = parser.parse_args()
    return compare(options.live, options.seed, options.cores) if options.live else 0


def compare(count: int, seed: int, cores: list[str]) -> int:
    from mmasim.amd import MFMA

    wrong = 0
    for core in cores:
        for kind in KINDS:
            rng = np.random.default_rng([seed, list(INSTRUCTIONS).index(core), KINDS.index(kind)])
            tally = {}
            while sum(n for n, _ in tally.values()) < count:
                for position in range(len(INSTRUCTIONS[core][1].split())):
                    for chain in (1, 3):
                        k = MFMA(*instruction(core, position, ("e4m3fnuz", "e4m3fnuz"))).k
                        batch = draw(core, kind, k * chain, COLUMNS, rng)
                        generation, name = instruction(core, position, batch.formats)
                        words = run(generation, name, batch)
                        bad = differing(batch, words)
                        n, m = tally.get((name, chain), (0, 0))
                        tally[name, chain] = n + bad.size, m + int(bad.sum())
                        if bad.any() and m == 0:
                            j = int(np.flatnonzero(bad[0])[0])
                            print(core, kind, name, batch.formats, batch.a[0].tolist(), batch.b[:, j].tolist(), "c", batch.c[0, j], "ours", hex(batch.product()[0, j]), "theirs", hex(words[0, j]))
            total, off = sum(n for n, _ in tally.values()), sum(m for _, m in tally.values())
            wrong += off
            print(f"{core:14} {kind:10} {total:7} {off:5}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
