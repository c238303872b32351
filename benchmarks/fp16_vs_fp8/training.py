"""What FP8 costs in training: `python benchmarks/fp16_vs_fp8/training.py`.

Losses of a small language model under each recipe, from the record that comes with fp8sim; `--train` trains
anew, smaller (needs PyTorch, some minutes).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator

import common
from common import Options, Row, Script
from fp8sim._support.published import DEEPSEEK_V3
from fp8sim._support.tables import Table
from fp8sim.experiments.train import ModelSize, RecipeLoss, Schedule, recorded_training, train
from fp8sim.experiments.train.losses import recipe_label

#: What `--train` trains beside BF16: there is no INT8 among training recipes.
TRAINED = ("fp16", "fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8")
SMALL = (ModelSize(width=64, layers=1, heads=2, context=64), Schedule(steps=60, sequences=2))
SMALLEST = (ModelSize(width=32, layers=1, heads=2, context=32), Schedule(steps=4, sequences=1))
LIMIT = DEEPSEEK_V3["loss_error"]


def rows(options: Options) -> list[Row]:
    """Return the losses under every recipe, as `fp8sim.experiments.train` compares them."""
    losses = trained(options) if options.train else recorded(options)
    found = [dataclasses.asdict(row) for row in losses]
    for row in found:
        if row["seeds"] == 1:  # which spread by nothing that is known
            row["loss_spread"] = None
    return common.with_ratios(found, "loss", ())


def trained(options: Options) -> tuple[RecipeLoss, ...]:
    """Train each recipe from the same seeds."""
    size, schedule = SMALLEST if options.quick else SMALL
    recipes = [name for name in options.recipes or TRAINED if name != "bf16"]
    result = train(recipes, seeds=options.seeds, size=size, schedule=schedule)
    options.packages.append("torch")
    options.notes.append(_model(result.size, result.schedule))
    return result.rows


def recorded(options: Options) -> tuple[RecipeLoss, ...]:
    """Return what was recorded, of as many seeds and of the recipes asked for."""
    result, made = recorded_training()
    held = list(dict.fromkeys(run.recipe for run in result.runs))
    missing = [name for name in options.recipes or () if name not in held]
    if missing:
        raise ValueError(
            f"the record has no {', '.join(missing)}, but {', '.join(held)}; --train trains others"
        )
    seeds = sorted({run.seed for run in result.runs})
    if options.seeds > len(seeds):
        raise ValueError(f"the record has {len(seeds)} seeds; --train trains with more")
    wanted = {result.baseline, *(options.recipes or held)}
    runs = [run for run in result.runs if run.recipe in wanted and run.seed in seeds[: options.seeds]]
    absent = "It has nothing in FP16, which --train trains; of INT8 there is no training recipe."
    options.notes += [f"{made} {absent}", _model(result.size, result.schedule)]
    return dataclasses.replace(result, runs=tuple(runs)).rows


def _model(size: dict[str, int], schedule: dict[str, int]) -> str:
    layers = f"{size['layers']} layer{'s' * (size['layers'] > 1)} of width {size['width']}"
    return (
        f"Model: {layers}, context {size['context']} bytes; "
        f"{schedule['steps']} steps of {schedule['sequences'] * size['context']} bytes."
    )


def tables(rows: list[Row], options: Options) -> list[Table]:
    """Return a table of the losses."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:+.3f} %"

    columns = {
        "recipe": lambda row: recipe_label(row["recipe"]),
        "loss>": lambda row: "diverged" if row["loss"] is None else f"{row['loss']:.4f}",
        "±>": lambda row: "-" if row["loss_spread"] is None else f"{row['loss_spread']:.4f}",
        **common.ratio_columns(rows, lambda x: "-" if x is None else f"{x:.4f}"),
        "error>": lambda row: percent(row["error"]),
        "largest>": lambda row: percent(row["largest"]),
        f"in {LIMIT.value} %": lambda row: _within(row["largest"]),
    }
    return [Table.of("Loss of a small language model, nats per byte", columns, rows)]


def _within(largest: float | None) -> str:
    return "yes" if largest is not None and largest <= LIMIT.value / 100 else "no"


def bars(rows: list[Row]) -> Iterator[tuple[str, str, float | None]]:
    """Yield the loss errors."""
    for row in rows:
        yield "against bf16", row["recipe"], None if row["error"] is None else 100 * row["error"]


SCRIPT = Script(
    "training",
    "Losses of a small language model trained in BF16 and in FP8.",
    rows,
    tables,
    {"recipes": None, "seeds": 2},
    {"seeds": 1},
    bars,
    "error of the loss, %",
    extras={"--train": {"action": "store_true", "help": "train anew, small, instead of taking a record"}},
    notes=(
        "loss: smoothed, at the end; mean over seeds ± half their range, of one seed unknown. error: of the "
        "smoothed loss against bf16's, mean over the last half; largest: size in that half; "
        f"limit {LIMIT.value} % ({LIMIT.source}).",
    ),
)

if __name__ == "__main__":
    sys.exit(common.main(SCRIPT))
