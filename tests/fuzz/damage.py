"""Files with flipped bits, cut off or edited: refused in one line, or read as what they are."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import tempfile
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import fp8sim
from fp8sim.checkpoints import arrays, open_checkpoint, read_array
from fp8sim.models import get_model
from fuzz.command import changed_config, contents, damaged
from fuzz.harness import attempt, category, chance, must, must_equal, pick, planted


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
