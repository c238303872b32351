"""How fast a checkpoint is audited, beside reading its file alone; and what memory that takes.

Run it by `python benchmarks/emulator/bench_audit.py`. The peer reads the same file in pieces of 16 MiB, as
`cat` does.

`python benchmarks/emulator/bench_audit.py --memory 0.1 1 20` prints the peak memory of an audit of a sparse
checkpoint of so many GB, each in a process of its own; `--one` puts all of it into one tensor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import ml_dtypes
import numpy as np

import fp8sim
import harness
from fp8sim.quantization import quantize_with
from harness import Case, Options, Peer

RECIPES = ("fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8")
PROBE = """
import re, sys, time, fp8sim
start = time.perf_counter()
if sys.argv[1:]:
    fp8sim.audit(sys.argv[1], sys.argv[2].split(","))
peak = re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]  # KiB, of this process alone
print(time.perf_counter() - start, 1024 * int(peak))
"""


def cases(options: Options) -> Iterator[Case]:
    """Yield audits of one recipe and of four."""
    count, side = (2, 256) if options.smoke else (30, 4096)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        matrix = (0.02 * options.rng().standard_normal((side, side), np.float32)).astype(ml_dtypes.bfloat16)
        write(folder / "model.safetensors", count, matrix.shape, matrix)
        size = (folder / "model.safetensors").stat().st_size
        check(folder, matrix)
        for recipes in (RECIPES, *((name,) for name in RECIPES)):
            yield Case(
                f"{', '.join(recipes)} of {count} matrices of {side} x {side} in BF16",
                lambda recipes=recipes: figures(fp8sim.audit(folder, recipes)),
                {"reading the file": Peer(lambda: lambda: read(folder / "model.safetensors"), check=None)},
                size,
                "B",
                goal=0.4e9 if recipes == RECIPES and not options.smoke else None,
            )


def write(path: Path, count: int, shape: tuple[int, ...], matrix: np.ndarray | None) -> None:
    """Write a matrix under many names, its rows moved on by 128 each time; without one, a file of holes.

    Equal matrices would be found, read again and compared.
    """
    size = 2 * int(np.prod(shape))
    entries = {
        f"model.layers.{i}.q_proj.weight": {
            "dtype": "BF16", "shape": shape, "data_offsets": [i * size, (i + 1) * size]
        }
        for i in range(count)
    }  # fmt: skip
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for i in range(count if matrix is not None else 0):
            file.write(np.roll(matrix, 128 * i, axis=0).tobytes())
        file.truncate(8 + len(header) + count * size)


def check(folder: Path, matrix: np.ndarray) -> None:
    """Require that errors are those of the codes of `quantize`, worked out in float64."""
    x = matrix.astype(np.float32)
    energy = np.sum(x.astype(np.float64) ** 2)
    for row in fp8sim.audit(folder, RECIPES).rows:
        q = quantize_with(x, fp8sim.get_recipe(row["recipe"]).b)
        error = np.sqrt(np.sum((q.dequantize().astype(np.float64) - x) ** 2) / energy)
        assert abs(row["error"] / error - 1) < 1e-12, row
        assert row["nbytes"] == q.nbytes


def figures(audit: fp8sim.Audit) -> np.ndarray:
    """Return what is compared."""
    return np.array([row["error"] for row in audit.rows])


def read(path: Path) -> int:
    """Read a file in pieces."""
    total, piece = 0, bytearray(1 << 24)
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(piece):
            total += got
    return total


def memory(sizes: list[float], one: bool) -> None:
    """Print the peak memory and the time of audits of so many GB."""
    bare = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    print(f"import fp8sim: {float(bare.stdout.split()[1]) / 2**20:.0f} MiB")
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "model.safetensors"
            rows = int(size * 1e9 / 2 / 4096)
            write(path, *((1, (rows, 4096)) if one else (max(rows // 4096, 1), (4096, 4096))), None)
            start = time.perf_counter()
            found = subprocess.run(
                [sys.executable, "-c", PROBE, str(path), ",".join(RECIPES)],
                capture_output=True, text=True, check=True, env=os.environ,
            )  # fmt: skip
            seconds, peak = map(float, found.stdout.split())
            what = " in one tensor" if one else ""
            print(
                f"{size:g} GB{what}: peak {peak / 2**20:.0f} MiB, {seconds:.1f} s, "
                f"{size / seconds:.2f} GB/s ({time.perf_counter() - start:.1f} s with the start)",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--memory", type=float, nargs="+")
    parser.add_argument("--one", action="store_true")
    chosen, rest = parser.parse_known_args()
    if chosen.memory:
        memory(chosen.memory, chosen.one)
    else:
        sys.exit(harness.main("audit", "Audits", cases, rest))
