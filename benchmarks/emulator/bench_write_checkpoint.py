"""A checkpoint written with its weights quantised, beside reading the file alone, and copying it.

`python benchmarks/emulator/bench_write_checkpoint.py` runs it. Work is bytes of BF16 weights that are read.
What is compared is every code and scale of the files against `fp8sim.quantize` of the whole matrices.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

import fp8sim
import harness
from fp8sim.checkpoints import open_checkpoint, write_quantized
from harness import Case, Options, Peer

RECIPES = ("deepseek-v3", "fp8-row", "fp8-tensor", "mxfp8", "nvfp4")
GOAL = 0.3e9  # bytes of BF16 weights a second


def cases(options: Options) -> Iterator[Case]:
    """Yield one recipe after the other, of the same file."""
    count, n = (2, 256) if options.smoke else (16, 4096)
    x = options.rng().standard_normal((n, n), dtype=np.float32).astype(ml_dtypes.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.safetensors"
        save_file({f"layers.{i}.weight": np.roll(x, i, 0) for i in range(count)}, source)
        out = Path(folder) / "out"
        work = count * n * n * 2
        for recipe in RECIPES:
            yield Case(
                f"{recipe}, {count} weights of {n} x {n}",
                lambda recipe=recipe: written(source, out, recipe),
                {
                    "fp8sim.quantize, one matrix after the other": Peer(
                        lambda recipe=recipe: lambda: in_memory(source, recipe), check=same
                    ),
                    "reading the file alone": Peer(lambda: lambda: read(source), check=None),
                    "copying the file": Peer(lambda: lambda: copied(source, out), check=None),
                },
                work,
                "bytes",
                GOAL,
            )


def written(source: Path, out: Path, recipe: str) -> Path:
    """Write it anew."""
    shutil.rmtree(out, ignore_errors=True)
    write_quantized(source, out, recipe)
    return out


def in_memory(source: Path, recipe: str) -> dict[str, Any]:
    """Quantise each matrix, and keep nothing but digests of codes and scales."""
    b = fp8sim.get_recipe(recipe).b
    checkpoint = open_checkpoint(source)
    found = {}
    for name in checkpoint.names:
        q = fp8sim.quantize(
            checkpoint.read(name), b.fmt, b.scaling.granularity, scale_format=b.scaling.scale_format,
            amax_floor=b.scaling.amax_floor,
        )  # fmt: skip
        found[name] = q.bits, q.scales.reshape(-1), q.tensor_scale
    return found


def same(out: Path, theirs: dict[str, Any]) -> None:
    """Require the codes and scales of the files to be these."""
    checkpoint = open_checkpoint(out)
    for name, (codes, scales, above) in theirs.items():
        place = checkpoint.place(name)
        stored = checkpoint.read_bytes(name, 0, place.nbytes).reshape(place.shape)
        if place.dtype == "U8":
            codes = codes[:, ::2] | codes[:, 1::2] << 4
        harness.same_bits(stored, codes)
        if place.dtype == "U8":
            inside = checkpoint.read(place.name.removesuffix("_packed") + "_scale").reshape(-1)
            harness.same_bits(inside * above, scales)
        else:
            end = "_scale_inv" if f"{name}_scale_inv" in checkpoint else "_scale"
            harness.same_bits(checkpoint.read(name + end).reshape(-1), scales)


def read(source: Path) -> int:
    """Read a file as `cat` does."""
    size, part = 0, bytearray(1 << 20)
    with source.open("rb", buffering=0) as stream:
        while count := stream.readinto(part):
            size += count
    return size


def copied(source: Path, out: Path) -> None:
    """Copy a file."""
    out.mkdir(exist_ok=True)
    shutil.copyfile(source, out / "copy")
    (out / "copy").unlink()


if __name__ == "__main__":
    sys.exit(harness.main("write_checkpoint", "A checkpoint quantised and written", cases))
