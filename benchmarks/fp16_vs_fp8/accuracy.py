"""What FP8 costs in accuracy: `python benchmarks/fp16_vs_fp8/accuracy.py`.

Errors of products under each recipe: of a real model's layers, and of generated activations by kind, over
seeds. Relative Frobenius errors against the float64 product of the unquantised inputs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

import common
from common import Options, Row, Script
from fp8sim import compare
from fp8sim._support.tables import Table
from fp8sim.cli import streams
from fp8sim.experiments.data import Matrices, generated_matrices, real_matrices

#: What is taken of a row of `compare`.
FIGURES = (
    "relative_error", "ordinary_channel_error", "row_error_median", "row_error_p99", "row_error_worst",
    "sqnr_db", "saturated", "flushed",
)  # fmt: skip

#: Times the work by default from which on it is said on standard error, before it begins.
LONG = 10


def rows(options: Options) -> list[Row]:
    """Return the errors under every recipe, for each layer, or for each shape and seed."""
    recipes, found = common.beside(options.recipes), []
    runs = work(options) / work(common.settle(SCRIPT, {}))
    if runs > LONG:
        streams.say(f"accuracy: as long as {runs:,.0f} runs with the options by default")
    for kind, seed, matrices in _products(options):
        result = compare(matrices.a, matrices.b, recipes)
        named = {"data": kind, "shape": f"{result.m}x{result.n}x{result.k}", "source": matrices.source}
        for row in result.rows:
            figures = {name: getattr(row, name) for name in FIGURES}
            found.append({**named, "seed": seed, "recipe": row.recipe, **figures})
    return common.with_ratios(found, "relative_error", ("source",))


def work(options: Options) -> int:
    """Return the multiply-adds of generated data."""
    kinds = sum(kind != "real" for kind in options.data)
    sizes = sum(m * n * k for m, n, k in options.shapes)
    return kinds * sizes * len(options.seed_list) * len(common.beside(options.recipes))


def _products(options: Options) -> Iterator[tuple[str, int | None, Matrices]]:
    for kind in options.data:
        if kind == "real":
            yield from (("real", None, layer) for layer in real_matrices())
            continue
        for shape in options.shapes:
            yield from (
                (kind, seed, generated_matrices(kind, *shape, seed=seed)) for seed in options.seed_list
            )


def summaries(rows: list[Row], *within: str) -> list[Row]:
    """Return a row for each recipe within some keys: means over layers or seeds, and the range of errors.

    Ratios are of the means.
    """
    made = []
    for key, mine in common.groups(rows, *within, "recipe"):
        errors = [row["relative_error"] for row in mine]
        means = {name: float(np.mean([row[name] for row in mine])) for name in FIGURES}
        named = dict(zip((*within, "recipe"), key, strict=True))
        made.append({**named, **means, "least": min(errors), "most": max(errors)})
    return common.with_ratios(made, "relative_error", within)


def percent(share: float) -> str:
    """Write a share in percent, without the sign that the title has."""
    return f"{100 * share:.3g}"


def tables(rows: list[Row], options: Options) -> list[Table]:
    """Return a table for each kind of data and shape, real layers in one."""
    made, real = [], "layers of a real model"
    titled = [
        {**row, "of": real if row["data"] == "real" else f"{row['data']} {row['shape']}"} for row in rows
    ]
    for (name,), mine in common.groups(titled, "of"):
        lines = summaries(mine, "of")
        columns = {
            "recipe": lambda row: row["recipe"],
            "error>": lambda row: percent(row["relative_error"]),
            "least>": lambda row: percent(row["least"]),
            "most>": lambda row: percent(row["most"]),
            **common.ratio_columns(lines),
            "ordinary>": lambda row: percent(row["ordinary_channel_error"]),
            "99 %>": lambda row: percent(row["row_error_p99"]),
            "worst>": lambda row: percent(row["row_error_worst"]),
        }
        over = f"{len(mine) // len(lines)} {'of them' if name == real else 'seeds'}"
        made.append(Table.of(f"Error in %, {name}: mean over {over}", columns, lines))
    return made


def bars(rows: list[Row]) -> Iterator[tuple[str, str, float | None]]:
    """Yield the mean error of each kind of data."""
    for row in summaries(rows, "data"):
        yield row["data"], row["recipe"], 100 * row["relative_error"]


SCRIPT = Script(
    "accuracy",
    "Errors of multiplies in FP16, BF16, FP8 and INT8, by data and seed.",
    rows,
    tables,
    {
        "shapes": ((256, 512, 2048),),
        "recipes": common.RECIPES,
        "data": ("real", "llm-like", "gaussian", "outlier-channels", "outlier-tokens"),
        "seeds": 3,
    },
    {"shapes": ((64, 128, 1024),), "data": ("real", "llm-like"), "seeds": 2},
    bars,
    "relative error, %",
    logarithmic=True,
    notes=(
        "error: relative Frobenius, of the product against the float64 product of the unquantised inputs; "
        "least, most: of a layer or a seed; ratios: of the means.",
        "ordinary: of A as quantised, over its channels that are no outliers; 99 %, worst: of rows (tokens), "
        "the one that 99 in 100 do not exceed, and the worst; means too.",
        "real: four layers of all-MiniLM-L6-v2 on text, with shapes of their own.",
    ),
)

if __name__ == "__main__":
    sys.exit(common.main(SCRIPT))
