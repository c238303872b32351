"""Runs of one model under several recipes, and how they read: losses, and SQNR by layer."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from fp8sim._support.published import DEEPSEEK_V3
from fp8sim._support.quantities import percent_text
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim.experiments.train.losses import SMOOTHING, RecipeLoss, RunResult, compare_losses, recipe_label
from fp8sim.training import GEMMS

__all__ = ["Training", "failing_training", "recorded_training"]


@dataclass(frozen=True, eq=False, repr=False)
class Training(Result):
    """Runs of `train` and what they show; prints as tables and shows as them in a notebook."""

    baseline: str
    text: str  #: what was trained on
    size: dict[str, Any]
    schedule: dict[str, Any]
    runs: tuple[RunResult, ...]

    WIDTH = 120

    @property
    def rows(self) -> tuple[RecipeLoss, ...]:
        """One row per recipe, the baseline first."""
        return compare_losses(self.runs, self.baseline)

    def run(self, recipe: str, seed: int) -> RunResult:
        """Return one run."""
        return next(run for run in self.runs if (run.recipe, run.seed) == (recipe, seed))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {
            "baseline": self.baseline,
            "text": self.text,
            "size": self.size,
            "schedule": self.schedule,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "runs": [dataclasses.asdict(run) for run in self.runs],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Training:
        """Take back what `to_dict` returned, or what ``fp8sim train --json`` printed.

        Raises
        ------
        ValueError
            If `data` is something else.

        Examples
        --------
        >>> result = Training("bf16", "two steps", {}, {}, (RunResult("bf16", 0, (4.0, 3.0)),))
        >>> Training.from_dict(result.to_dict()).run("bf16", 0).losses
        (4.0, 3.0)
        """
        try:
            runs = tuple(_read_run(run) for run in data["runs"])
            return cls(data["baseline"], data["text"], data["size"], data["schedule"], runs)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"this is no training as fp8sim train --json prints it ({error}); pass all that it printed"
            ) from None

    def parts(self) -> list[Table]:
        """Return the losses, and for each product its SQNR by layer."""
        return [_loss_table(self), *(_layer_table(self, gemm) for gemm in GEMMS)]


def recorded_training() -> tuple[Training, str]:
    """Return the training that comes with fp8sim, made with the defaults of `train`, and how it was made.

    Examples
    --------
    >>> training, made = recorded_training()
    >>> training.size["parameters"], "torch" in made
    (1739264, True)
    """
    data = _read_record("training")
    return Training.from_dict(data), f"Recorded {data['date']} ({data['made']})."


def failing_training() -> tuple[Training, list[dict[str, Any]]]:
    """Return two recorded trainings that fail, each beside ones that do not.

    The first is the language model of `recorded_training` in E4M3 without any scale, beside its runs under
    ``bf16`` and ``deepseek-v3``. The second is a table of tokens whose gradients differ by decades: for each
    recipe the losses, as shares of the first, how many of 512 tokens got no gradient, step by step, and the
    imbalance that was measured, the standard deviation of log10 of the tokens' gradients.

    Examples
    --------
    >>> training, table = failing_training()
    >>> [row.recipe for row in training.rows]
    ['bf16', 'deepseek-v3', 'e4m3-without-scales']
    >>> [run["recipe"] for run in table if any(run["lost"])]
    ['deepseek-v3-block-gradients']
    """
    data, (working, _) = _read_record("failing"), recorded_training()
    failing = Training.from_dict(data["model"])
    runs = [run for run in working.runs if run.recipe in ("bf16", "deepseek-v3")]
    runs += [run for run in failing.runs if run.recipe != failing.baseline]
    return dataclasses.replace(working, runs=tuple(runs)), data["table"]["runs"]


def _read_record(name: str) -> dict[str, Any]:
    file = resources.files("fp8sim.experiments") / "recorded" / f"{name}.json"
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return data


def _read_run(run: dict[str, Any]) -> RunResult:
    """Take back a run; JSON has no NaN and no infinity, for which `fp8sim train --json` writes null."""
    layers = {
        layer: {
            gemm: {key: math.nan if value is None else value for key, value in figures.items()}
            for gemm, figures in gemms.items()
        }
        for layer, gemms in run.get("layers", {}).items()
    }
    losses = tuple(math.nan if loss is None else loss for loss in run["losses"])
    return RunResult(**{**run, "losses": losses, "layers": layers})


def _loss_table(training: Training) -> Table:
    size, schedule, baseline = training.size, training.schedule, training.baseline
    limit = DEEPSEEK_V3["loss_error"]
    headers = [
        "recipe", "loss>", "±>", "error>", "from>", "to>", "largest>", f"in {limit.value} %", "saturated>",
        "flushed>",
    ]  # fmt: skip
    notes = (
        f"Text: {training.text}.",
        f"Model: {size['layers']} layers of width {size['width']}, context {size['context']} bytes; "
        f"{schedule['steps']} steps of {schedule['sequences'] * size['context']} bytes.",
        f"loss: nats per byte at the end, smoothed (EMA {SMOOTHING}); mean over seeds ± half their range",
        f"error: smoothed loss over that of {baseline}, less one; mean over the last half of the steps",
        "from, to: of the seed with the least and the one with the most",
        f"largest: largest size of it in that half, of all seeds; limit {limit.value} % ({limit.source})",
        "saturated, flushed: shares of all elements that were quantised; v3: deepseek-v3 but for one part",
    )
    cells = [_cells(row, row.recipe == baseline, limit.value / 100) for row in training.rows]
    return Table(f"Loss under each recipe, against {baseline}", headers, cells, notes)


def _cells(row: RecipeLoss, is_baseline: bool, limit: float) -> list[str]:
    label, shares = recipe_label(row.recipe), [percent_text(row.saturated), percent_text(row.flushed)]
    if row.diverged:
        return [label, f"diverged {row.diverged}/{row.seeds}", *["-"] * 5, "no", *shares]
    if is_baseline:
        error, verdict = ["-"] * 4, "-"
    else:
        figures = (row.error, row.error_low, row.error_high)
        error = [*(f"{100 * value:+.3f} %" for value in figures), f"{100 * row.largest:.3f} %"]
        verdict = "yes" if row.largest <= limit else "on average" if abs(row.error) <= limit else "no"
    spread = f"{row.loss_spread:.4f}" if row.seeds > 1 else "-"  # one seed has none
    return [label, f"{row.loss:.4f}", spread, *error, verdict, *shares]


def _layer_table(training: Training, gemm: str) -> Table:
    names, runs = [row.recipe for row in training.rows], training.runs
    cells = []
    for layer in dict.fromkeys(layer for run in runs for layer in run.layers):
        sqnr = {
            name: [r.layers[layer][gemm]["sqnr_db"] for r in runs if r.recipe == name and layer in r.layers]
            for name in names
        }
        cells.append([layer, *(_decibels(sqnr[name]) for name in names)])
    return Table(
        f"SQNR of {gemm} by layer, dB",
        ["layer", *(f"{recipe_label(name)}>" for name in names)],
        cells,
        ("at the last step, against the FP32 product of that step's own operands; mean over seeds",),
    )


def _decibels(values: list[float]) -> str:
    mean = float(np.mean(values)) if values else math.nan
    return "-" if math.isnan(mean) else f"{mean:.1f}"
