"""Run cases through mmasim, the program of MMA-Sim's authors: record some, or compare many.

    python tests/record_mmasim.py               # writes tests/data/mmasim.npz and mmasim.json
    python tests/record_mmasim.py --live 20000  # compares so many outputs of each core and kind of data

Needs mmasim 2.1.1 (PyPI, MIT licence, Microsoft) with PyTorch, ninja and a C++ compiler. `test_cdna.py` replays
what was recorded on any machine.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import fp8sim
from cdna import INSTRUCTIONS, KINDS, RECORDED, Batch, differing, draw
from fp8sim._support.typing import F32, AnyArray

COLUMNS, BATCHES = 24, 2
LIVE = 64  # columns of what is compared
LENGTHS = {"step": (0, 1), "chain": (-1, 3)}  #: which instruction of a core, and how many along k


def instruction(core: str, position: int, formats: tuple[str, ...]) -> Any:
    """Return one of the instructions of a core, by mmasim."""
    from mmasim.amd import MFMA

    generation, names = INSTRUCTIONS[core]
    types = ({"e4m3fnuz": "fp8", "e5m2fnuz": "bf8"}.get(fmt, "") for fmt in formats)
    return MFMA(generation, names.split()[position].format(*types))


def run(operation: Any, batch: Batch) -> AnyArray:
    """Return the words of a chain of instructions."""
    import torch

    def tensor(x: F32, fmt: str) -> torch.Tensor:
        if fmt == "tf32":
            return torch.from_numpy(x.copy())
        form = fp8sim.get_format(fmt)
        codes = torch.from_numpy(fp8sim.encode(x, form).view(form.code_dtype))
        return codes.view(getattr(torch, form.dtype.name))

    n, k = batch.b.shape[1], operation.k
    a = np.ascontiguousarray(np.broadcast_to(batch.a, (n, batch.a.shape[1])))
    left, right = tensor(a, batch.formats[0]), tensor(np.ascontiguousarray(batch.b.T), batch.formats[1])
    c = torch.from_numpy(batch.c[0].copy())
    for at in range(0, a.shape[1], k):
        c = operation.dpa(left[:, at : at + k], right[:, at : at + k], c)
    return np.asarray(c.numpy().view(np.uint32)[None])


def cases(
    core: str, kind: str, positions: Any, chains: Any, n: int, seed: int
) -> Iterator[tuple[Batch, Any]]:
    """Yield batches of a kind with their instruction, without end."""
    rng = np.random.default_rng([seed, [*INSTRUCTIONS].index(core), KINDS.index(kind)])
    for position, chain in itertools.cycle(itertools.product(positions, chains)):
        k = instruction(core, position, ("e4m3fnuz", "e4m3fnuz")).k
        batch = draw(core, kind, k * chain, n, rng)
        yield batch, instruction(core, position, batch.formats)


def compare(count: int, seed: int) -> dict[str, dict[str, list[int]]]:
    """Compare single instructions and chains of three; return outputs and differing ones of cores and kinds."""
    found: dict[str, dict[str, list[int]]] = {}
    for core, kind in itertools.product(INSTRUCTIONS, KINDS):
        positions = range(len(INSTRUCTIONS[core][1].split()))
        seen = off = 0
        for batch, operation in cases(core, kind, positions, (1, 3), LIVE, seed):
            marked = differing(batch, run(operation, batch), operation.k)
            seen, off = seen + marked.size, off + int(marked.sum())
            if seen >= count:
                break
        found.setdefault(core, {})[kind] = [seen, off]
        sys.stdout.write(f"{core:14} {kind:10} {seen:8,} {off:5}\n")
        sys.stdout.flush()
    return found


def record(seed: int) -> None:
    """Write words of single steps and of chains, with how many were compared beside them."""
    arrays: dict[str, AnyArray] = {}
    formats: dict[str, list[list[str]]] = {}
    names: dict[str, str] = {}
    for core, (length, (position, chain)) in itertools.product(INSTRUCTIONS, LENGTHS.items()):
        rows: dict[str, list[AnyArray]] = {letter: [] for letter in "abcd"}
        key = f"{core}/{length}"
        for kind in KINDS:
            taken = itertools.islice(cases(core, kind, (position,), (chain,), COLUMNS, seed), BATCHES)
            for batch, operation in taken:
                for letter, x in zip("ab", (batch.a, batch.b), strict=True):
                    form = fp8sim.get_format(batch.formats["ab".index(letter)])
                    rows[letter].append(fp8sim.encode(x, form).view(form.code_dtype))
                rows["c"].append(batch.c.view(np.uint32))
                rows["d"].append(run(operation, batch))
                formats.setdefault(key, []).append(list(batch.formats))
                names[key] = f"{operation.arch} {operation.suffix}"
        arrays |= {f"{key}/{letter}": np.stack(words) for letter, words in rows.items()}
    np.savez_compressed(RECORDED.with_suffix(".npz"), **arrays)
    about = {
        "made by": "tests/record_mmasim.py: inputs of our own (cdna.draw), outputs of mmasim",
        "mmasim": importlib.metadata.version("mmasim"),
        "licence": "mmasim: MIT License. Copyright (c) Microsoft Corporation.",
        "torch": importlib.metadata.version("torch"),
        "seed": seed,
        "kinds": KINDS,
        "batches of a kind": BATCHES,
        "instructions": names,
        "formats": formats,
    }
    RECORDED.write_text(json.dumps(about, indent=1) + "\n")


def main() -> int:
    """Record, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", type=int, metavar="N", help="compare N outputs of each core and kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.live:
        record(options.seed)
        return 0
    found = compare(options.live, options.seed)
    return int(any(off for kinds in found.values() for _, off in kinds.values()))


if __name__ == "__main__":
    sys.exit(main())
