"""A linear layer's three products, and whole training steps: `python benchmarks/emulator/bench_training.py`.

The peer of a step is the same model in plain PyTorch, float32: same batch, backward pass and AdamW. Its peak
memory is measured too, each way in a process of its own, above what the imports take.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import harness
from fp8sim.training import LinearGemms, get_training_recipe
from harness import Case, Options, Peer

SHARES = {
    "deepseek-v3-fp32-sums": 3,
    "deepseek-v3": 20,
    "bf16": None,
    "mxfp8": None,
}  # at most slower, as goals
STATUS = Path("/proc/self/status")


def cases(options: Options) -> Iterator[Case]:
    """Yield the three products of one layer, then steps of a model where PyTorch is installed."""
    tokens, width = (128, 128) if options.smoke else (2048, 1024)
    rng = options.rng()
    shapes = ((tokens, width), (width, width), (tokens, width))
    x, w, dy = (rng.standard_normal(shape, np.float32) for shape in shapes)
    for name in SHARES:
        yield Case(
            f"three products of a linear layer, {name}, {tokens} tokens, {width} x {width}",
            functools.partial(products, LinearGemms(get_training_recipe(name)), x, w, dy),
            {"numpy float32": Peer(lambda: lambda: (x @ w.T, dy @ w, dy.T @ x), check=near)},
            3 * tokens * width * width,
            "multiply-adds",
        )
    if importlib.util.find_spec("torch") is None:
        return
    size = {"width": 64, "layers": 1} if options.smoke else {"width": 512, "layers": 4}
    batch = (2, 32) if options.smoke else (4, 256)
    what = f"step of {size['layers']} layers of width {size['width']}, {batch[0]} x {batch[1]} bytes"
    for name, share in SHARES.items():
        plain = functools.partial(step, None, size, batch)
        yield Case(
            f"{what}, {name}; peak memory {memory_ratio(name, size, batch)} PyTorch's",
            step(name, size, batch),
            {"torch float32": Peer(plain, share and 1 / share, check=harness.within(0.3))},
            batch[0] * batch[1],
            "bytes",
        )


def products(gemms: LinearGemms, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> tuple[Any, ...]:
    """Return y, dx and dW."""
    y, saved = gemms.forward(x, w)
    return y, *gemms.backward(dy, saved)


def near(ours: Any, theirs: Any) -> None:
    """Require each product within a tenth, far more than FP8 costs and far less than a wrong one."""
    for mine, other in zip(ours, theirs, strict=True):
        harness.within(0.1)(mine, other)


def step(recipe: str | None, size: dict[str, int], batch: tuple[int, int]) -> Callable[[], Any]:
    """Return one training step; its learning rate is 0, so that every call does the same."""
    import torch

    from fp8sim.experiments.train import ModelSize
    from fp8sim.experiments.train.language_model import LanguageModel
    from fp8sim.pytorch import convert

    torch.manual_seed(0)
    model = LanguageModel(ModelSize(**size, context=batch[1]))
    if recipe is not None:
        model = convert(model, recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    text = np.random.default_rng(0).integers(0, 256, (2, *batch))
    inputs, targets = (torch.from_numpy(t) for t in text)

    def run() -> Any:
        optimizer.zero_grad(set_to_none=True)
        model.loss(inputs, targets).backward()
        optimizer.step()
        return model.blocks[0].qkv.weight.grad

    return run


def memory_ratio(recipe: str, size: dict[str, int], batch: tuple[int, int]) -> str:
    """Return the ratio of peak memories, as text; each is measured in a fresh process."""
    if not STATUS.exists():
        return "(not measured on this system) of"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    peaks = []
    for name in (recipe, None):
        code = f"import bench_training; bench_training.peak({name!r}, {size!r}, {batch!r})"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout))
    mine, theirs = peaks
    return f"{mine / theirs:.2f}x"


def peak(recipe: str | None, size: dict[str, int], batch: tuple[int, int]) -> None:
    """Print the peak memory of three steps in kB, above what is held after a step of a small model."""
    step(recipe, {"width": 64, "layers": 1}, (2, 128))()  # imports, and loads the kernels
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far (Linux, proc(5))
    run = step(recipe, size, batch)
    for _ in range(3):
        run()
    print(resident("VmHWM") - before)


def resident(field: str) -> int:
    """Return a line of /proc/self/status in kB."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    sys.exit(harness.main("training", "Training", cases))
