"""Files with flipped bits, cut off or edited: refused in one line, or read as what they are."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shutil
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import fp8sim
from fp8sim.checkpoints import arrays, headers, open_checkpoint, places, read_array
from fp8sim.models import get_model
from fuzz.command import changed_config, contents, damaged
from fuzz.harness import attempt, category, chance, must, must_equal, pick, planted
from tensor_files import safetensors


def _edited_header(rng: np.random.Generator, content: bytes) -> bytes:
    """Change an entry of the header of a safetensors file, so that it is JSON all the same."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = pick(rng, list(header))
    odd = (
        None,
        -1,
        2**63,
        2**70,
        [],
        [0, 10**12],
        [4, 2],
        [-4, 4],
        "F8_E4M3",
        "F4",
        "BOOL",
        "\x1b[31m",
        {},
        1.5,
        [[0]],
    )
    if chance(rng, 0.2):
        header[name] = pick(rng, odd)
    else:
        header[name][pick(rng, ("dtype", "shape", "data_offsets", "new"))] = pick(rng, odd)
    new = json.dumps(header).encode()
    return len(new).to_bytes(8, "little") + new + content[8 + length :]


def _read(path: Path) -> None:
    if path.suffix == ".npy":
        array, _ = attempt(read_array, path)
        if array is not None:
            attempt(fp8sim.round_to, array, "e4m3", overflow="saturate")
    elif path.suffix == ".json":
        model, _ = attempt(get_model, path)
        if model is not None:
            for phase in ("training", "decode"):
                cost, _ = attempt(fp8sim.model_cost, model, phase=phase)
                if cost is not None:
                    str(cost)
                    cost.to_dict()
    else:
        checkpoint, _ = attempt(open_checkpoint, path)
        for name in checkpoint.names[:3] if checkpoint else ():
            attempt(checkpoint.read, name)


def _unguarded_array() -> AbstractContextManager[Any]:
    return planted(arrays, "read_array", lambda path: np.load(path, allow_pickle=False))


@category("arrays, checkpoints and configurations that are damaged", few=60, plant=_unguarded_array)
def files(rng: np.random.Generator, folder: Path) -> None:
    """Read a good file, or a damaged one."""
    name = pick(rng, [name for name in contents() if name != "text.txt"])
    path, content = folder / name, contents()[name]
    if chance(rng, 0.05):
        path.write_bytes(content)
        if name == "x.npy":
            must_equal(read_array(path), np.linspace(-3, 3, 80, dtype=np.float32).reshape(5, 16), name)
        elif name == "config.json":
            same = get_model(path).parameters if hasattr(get_model(path), "parameters") else None
            must(same == getattr(get_model("llama-3.1-8b"), "parameters", None), "another model")
        return
    if name == "config.json" and chance(rng, 0.6):
        content = changed_config(rng)
    elif name == "model.safetensors" and chance(rng, 0.5):
        content = _edited_header(rng, content)
    else:
        content = damaged(rng, content)
    path.write_bytes(content)
    _read(path)


# --- whole checkpoints ------------------------------------------------------------------------------------


def _made(rng: np.random.Generator) -> dict[str, tuple[str, Any]]:
    """Draw a few weights in layouts of all kinds, with their scales."""
    rows, columns = (int(n) for n in rng.integers(0, 5, 2) * (1, 32))
    tensors: dict[str, tuple[str, Any]] = {}
    for i in range(int(rng.integers(1, 4))):
        name = f"layers.{i}.q.weight"
        codes = rng.integers(0, 120, (rows, columns), np.uint8)
        tiles = rng.uniform(0.5, 2, (-(-rows // 128), -(-columns // 128))).astype(np.float32)
        packed, groups = codes[:, ::2], rng.integers(100, 140, (rows, columns // 32), np.uint8)
        one = np.ones(1, np.float32)
        drawn: dict[str, tuple[str, Any]] = pick(
            rng,
            (
                {name: ("F32", codes.astype(np.float32))},
                {name: ("F16", codes.astype(np.float16)), f"{name}_scale": ("F32", one)},
                {name: ("F8_E4M3", codes), f"{name}_scale_inv": ("F32", tiles)},
                {name: ("F8_E4M3", codes), f"layers.{i}.q.scale": ("F8_E8M0", groups)},
                {f"{name}_packed": ("U8", packed), f"{name}_scale": ("U8", groups)},
                {
                    name: ("U8", packed),
                    f"{name}_scale": ("F8_E4M3", np.repeat(groups, 2, 1) & 127),
                    f"{name}_scale_2": ("F32", one),
                },
                {
                    name: ("I8", codes),
                    f"{name}_scale": ("F32", one),
                    f"{name}_zero_point": ("I8", one.astype("i1")),
                },
                {name: ("F8_E5M2", codes[:, :, None] * np.ones((1, 1, 3), np.uint8))},
            ),
        )
        tensors |= drawn
    return tensors


def _write(rng: np.random.Generator, folder: Path) -> list[Path]:
    """Write a folder of shards, perhaps with an index and a configuration."""
    tensors = _made(rng)
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    where = {name: pick(rng, shards) for name in tensors}
    for shard in shards:
        content = safetensors({name: one for name, one in tensors.items() if where[name] == shard})
        (folder / shard).write_bytes(content)
    if chance(rng, 0.7):
        index = {"metadata": {}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if chance(rng, 0.5):
        group = {"weights": {"num_bits": 8, "type": "float", "group_size": 32, "block_structure": [128, 128]}}
        config = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
        (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
    return sorted(folder.iterdir())


def _changed(rng: np.random.Generator, content: bytes, suffix: str) -> bytes:
    if suffix == ".safetensors" and chance(rng, 0.6):
        with contextlib.suppress(IndexError, TypeError, ValueError):  # of a header without tensors
            return _edited_header(rng, content)
    if suffix == ".json" and chance(rng, 0.6):
        text = content.decode(errors="replace")
        words = re.findall(r'"[^"]*"|\d+', text) or [""]
        odd = (
            "null",
            "[]",
            "{}",
            "-1",
            "1e999",
            "[0, 0]",
            '"../../x"',
            '"/etc/passwd"',
            '"\\u001b"',
            "9" * 30,
            '"fp8"',
        )
        return text.replace(pick(rng, words), pick(rng, (*odd, *words)), 1).encode()
    return damaged(rng, content)


@contextlib.contextmanager
def _watched(folder: Path, measured: bool) -> Iterator[None]:
    """Hold that nothing is read but what is in the files of a folder, and that memory stays small."""
    whole = places.Folder.read

    def read(self: Any, name: str, start: int, stop: int) -> Any:
        path = (self.path / name).resolve()
        must(path.parent == folder.resolve(), f"{path} is read, outside the folder")
        must(0 <= start <= stop <= path.stat().st_size, f"bytes {start} to {stop} of {path.stat().st_size}")
        return whole(self, name, start, stop)

    places.Folder.read = read  # type: ignore[method-assign]
    if measured:  # which takes time
        tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        places.Folder.read = whole  # type: ignore[method-assign]
    must(
        peak < 2**25, f"{peak} bytes of memory for files of {sum(p.stat().st_size for p in folder.iterdir())}"
    )


def _read_all(rng: np.random.Generator, checkpoint: Any) -> list[str]:
    """Read every tensor, whole and by rows, and return those that are refused."""
    str(checkpoint)
    refused = []
    for name in [*checkpoint.names, *checkpoint.stored]:
        raw, no = attempt(checkpoint.read, name, raw=True)
        must(no is None, f"{name}: {no}")
        values, no = attempt(checkpoint.read, name)
        must((no is not None) >= bool(checkpoint[name].refused), f"{name} is read, and refused: {no}")
        if values is None or raw is None:
            refused += [name]
            continue
        must_equal(values.shape, checkpoint[name].shape, name)
        if values.ndim:
            start, stop = sorted(int(n) for n in rng.integers(0, min(len(values), 10**6) + 1, 2))
            must_equal(checkpoint.read(name, (start, stop)), values[start:stop], name)
    return refused


def _trusted() -> AbstractContextManager[Any]:
    """Trust the offsets of a header."""

    def checked(entries: dict[str, Any], label: str, file: str, begin: int, size: int) -> Any:
        entries.pop("__metadata__", None)
        tensors = {name: headers._entry(name, entry, label, file, begin) for name, entry in entries.items()}
        return headers.Header(tensors, {})

    return planted(headers, "_checked", checked)


@category("whole checkpoints whose headers, indexes and configurations are damaged", few=40, plant=_trusted)
def shards(rng: np.random.Generator, folder: Path) -> None:
    """Read a folder, an index or a shard: the right values, or a refusal."""
    files = _write(rng, folder)
    whole = chance(rng, 0.2)
    if not whole:
        for _ in range(int(rng.integers(1, 3))):
            file = pick(rng, files)
            file.write_bytes(_changed(rng, file.read_bytes(), file.suffix))
    with _watched(folder, measured=chance(rng, 0.1)):
        for source in (folder, pick(rng, files)):
            checkpoint, refusal = attempt(open_checkpoint, source)
            if checkpoint is None:
                must(not whole or source.suffix == ".json", f"a good checkpoint is refused: {refusal}")
                continue
            _read_all(rng, checkpoint)


# --- training ---------------------------------------------------------------------------------------------


def _needs_torch() -> str:
    return "" if find_spec("torch") else "needs PyTorch"


def _train(folder: Path, text: Path, **options: Any) -> Any:
    from fp8sim.experiments.train import ModelSize, Schedule, train

    return train(
        ["deepseek-v3"],
        baseline="fp32",
        seeds=1,
        size=ModelSize(width=16, layers=1, heads=2, context=8),
        schedule=Schedule(steps=4, sequences=1),
        files=[text],
        folder=folder,
        **options,
    )


@functools.cache
def _trained() -> tuple[Any, Path, Any]:
    """Train once: a temporary folder that lives as long as this, what training left in it, and the losses."""
    keep = tempfile.TemporaryDirectory(prefix="fp8sim-fuzz-trained-")
    folder = Path(keep.name)
    (folder / "text.txt").write_bytes(contents()["text.txt"])
    result = _train(folder / "run", folder / "text.txt")
    return keep, folder, _losses(result)


def _losses(result: Any) -> list[Any]:
    return [(run.recipe, run.seed, run.losses, run.digest) for run in result.runs]


def _trusting() -> AbstractContextManager[Any]:
    import io

    import torch

    from fp8sim.experiments.train import run

    return planted(run, "_unsealed", lambda data: torch.load(io.BytesIO(data[:-32]), weights_only=True))


class _Stopped(Exception):
    """Stops a training in its middle."""


@category("training checkpoints and logs that are damaged", few=6, plant=_trusting, skip=_needs_torch)
def checkpoints(rng: np.random.Generator, folder: Path) -> None:
    """Go on with a run that was stopped, or whose files were damaged: the same losses, or a refusal."""
    _, whole, losses = _trained()
    text, run = whole / "text.txt", folder / "run"
    if chance(rng, 0.3):
        at = int(rng.integers(1, 9))

        def stop(progress: Any) -> None:
            if progress.done >= at:
                raise _Stopped

        with contextlib.suppress(_Stopped):
            _train(run, text, on_step=stop)
        must(_losses(_train(run, text, resume=True)) == losses, "other losses after an interruption")
        return
    shutil.copytree(whole / "run", run)
    file = pick(rng, sorted(path for path in run.rglob("*") if path.is_file()))
    file.write_bytes(damaged(rng, file.read_bytes()))
    result, refusal = attempt(_train, run, text, resume=True)
    if refusal is None:
        must(_losses(result) == losses, f"other losses from a damaged {file.name}")
        for log in run.glob("*.jsonl"):
            must(log.read_bytes() == (whole / "run" / log.name).read_bytes(), f"another log, {log.name}")
