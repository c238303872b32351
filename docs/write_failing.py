"""Write the record of trainings that fail: `python docs/write_failing.py`, 5 minutes; extra `torch`.

Two of them, each beside the same training under a recipe that works:

* E4M3 without any scale: the language model of `fp8sim train`, with its defaults. Its runs stand beside those
  of the recorded training, which has the same seeds, parameters and batches.
* 128x128 blocks of gradients, when tokens differ in size by decades: a table of tokens, looked up and
  multiplied by a matrix. Nothing but Dgrad reaches the table, so a token whose gradient vanishes stays as it
  was.
"""

from __future__ import annotations

import datetime
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

import fp8sim
from fp8sim.experiments.train import Training, train
from fp8sim.quantization import Operand
from fp8sim.recipes import Recipe
from fp8sim.training import LinearGemms, TrainingRecipe, get_training_recipe

RECORD = Path(fp8sim.__file__).parent / "experiments" / "recorded" / "failing.json"
TOKENS, WIDTH, STEPS, DECADES, RATE = 512, 128, 200, 2.0, 0.01
TABLE_RECIPES = ("bf16", "deepseek-v3", "deepseek-v3-block-gradients")


def without_scales() -> TrainingRecipe:
    """Return DeepSeek-V3's recipe with every scale left out."""
    base, plain = get_training_recipe("deepseek-v3"), Operand(fp8sim.get_format("e4m3"))
    gemms = {
        name: Recipe(f"no scales {name}", plain, plain, gemm.accumulator, gemm.output)
        for name in ("fprop", "dgrad", "wgrad")
        for gemm in [getattr(base, name)]
    }
    return TrainingRecipe("e4m3-without-scales", **gemms, cached_input="quantized")


def train_table(name: str, seed: int) -> tuple[list[float], list[int], float]:
    """Train a table of tokens; return losses, how many tokens got no gradient at each step, and imbalance.

    Targets are rows of another table times another matrix. A token's loss is weighted by 10 to a normal
    number times `DECADES`; the loss that is returned is not, and starts at 1. Adam makes steps of one size,
    whatever the weight: in exact arithmetic the small tokens learn as fast as the large ones. Imbalance is
    measured: the standard deviation of log10 of the sizes of the tokens' gradients, at the first step.
    """
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((TOKENS, WIDTH)) @ rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
    weight = 10.0 ** (DECADES * rng.standard_normal((TOKENS, 1)))
    table = (0.1 * rng.standard_normal((TOKENS, WIDTH))).astype(np.float32)
    matrix = (rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32)
    gemms = LinearGemms(get_training_recipe(name), rng)
    moments = [np.zeros((2, *table.shape)), np.zeros((2, *matrix.shape))]
    losses, lost, start, imbalance = [], [], float(np.mean(truth**2)), 0.0
    for step in range(1, STEPS + 1):
        y, saved = gemms.forward(table, matrix)
        error = y - truth
        losses.append(float(np.mean(error**2)) / start)
        dy = (weight * error).astype(np.float32)
        if step == 1:
            imbalance = float(np.log10(np.linalg.norm(dy, axis=1)).std())
        dx, dw = gemms.backward(dy, saved)
        lost.append(int(np.count_nonzero(~dx.any(axis=1))))
        for parameter, gradient, moment in zip((table, matrix), (dx, dw), moments, strict=True):
            moment[0] += 0.1 * (gradient - moment[0])
            moment[1] += 0.05 * (gradient.astype(np.float64) ** 2 - moment[1])
            first, second = moment[0] / (1 - 0.9**step), moment[1] / (1 - 0.95**step)
            parameter -= (RATE * first / (np.sqrt(second) + 1e-30)).astype(np.float32)
    return losses, lost, imbalance


def main() -> int:
    """Train and write."""
    table = []
    for name in TABLE_RECIPES:
        losses, lost, imbalance = train_table(name, 0)
        table.append({"recipe": name, "losses": losses, "lost": lost, "imbalance": imbalance})
        print(name, losses[::40], losses[-1], lost[::40], imbalance)
    model: Training = train([without_scales()], seeds=2)
    made = (
        f"fp8sim {fp8sim.__version__}, torch {version('torch')}, numpy {np.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}"
    )
    record = {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "made": made,
        "table": {"tokens": TOKENS, "width": WIDTH, "decades": DECADES, "runs": table},
        "model": model.to_dict(),
    }
    text = json.loads(json.dumps(record), parse_float=lambda digits: float(f"{float(digits):.6g}"))
    RECORD.write_text(json.dumps(text) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
