"""FP16, BF16, FP8 and INT8 on one page: `python benchmarks/fp16_vs_fp8/all.py`.

Memory, time and accuracy, each by the script of that name; --shapes are those of the times, --error-shapes
those of the errors. Nothing is timed, so that the page is the same on every machine; benchmarks/README.md
shows it, and `python docs/write_answer.py` writes it there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import common
from common import Options, Row, Script
from fp8sim._support.quantities import bytes_text, percent_text, time_text
from fp8sim._support.tables import Table
from fp8sim.costs import get_device
from fp8sim.costs.gemm import formats_class
from fp8sim.experiments.train import recorded_training
from fp8sim.recipes import get_recipe

MEMORY, TIME, ACCURACY, SERVING = map(common.load, ("memory", "time", "accuracy", "serving"))
#: Question -> its unit, the title of its table, and how a figure is written.
QUESTIONS = {
    "memory": ("B", "Memory: weights; what training the last holds, a token keeps", bytes_text),
    "time": ("s", "Time at best on {device}: multiplies; a token of a chat with a model", time_text),
    "accuracy": ("1", "Error of multiplies, by data", percent_text),
}
#: What the table on top has a line for: its words, the question, what ratios are to.
ANSWERS = (
    ("memory, to FP16's", "memory", "fp16"),
    ("time at best, to FP16's", "time", "fp16"),
    ("error, to FP16's", "accuracy", "fp16"),
    ("error, to BF16's", "accuracy", "bf16"),
)
#: Subjects that are no products, and are left out of the ranges of their errors.
ORDINARY, LOSS = "ordinary, A quantised", "loss"


def rows(options: Options) -> list[Row]:
    """Return a row for each question, subject and recipe."""
    sizes = ", ".join(map(common.shape_text, options.error_shapes))
    (context,) = options.context
    options.notes += [
        f"Times are rooflines, the least that they can be; the token is the next of a sequence of {context}, "
        "all of the model on one device.",
        "Errors are relative Frobenius ones of products, means over all layers or over all seeds and shapes. "
        f"real: four layers of all-MiniLM-L6-v2 on text; the others are generated, m x n x k: {sizes}. "
        "ordinary, A quantised: of A alone, its channels in llm-like that are no outliers.",
    ]
    return [*memory(options), *time(options), *accuracy(options)]


def _row(question: str, subject: str, row: Row, value: float) -> Row:
    unit, ratios = QUESTIONS[question][0], {f"to_{name}": row.get(f"to_{name}") for name in common.BASELINES}
    named = {"question": question, "subject": subject, "recipe": row["recipe"]}
    return {**named, "value": value, "unit": unit, **ratios}


def _part(script: Script, options: Options, **own: Any) -> Options:
    """Return the options of another script: those of this one, but for some."""
    return common.settle(script, {**options.given, **options.chosen, **own})


def memory(options: Options) -> Iterator[Row]:
    """Yield the weights of every model; of the last, what training holds and what a token keeps."""
    found = MEMORY.rows(_part(MEMORY.SCRIPT, options, shapes=()))
    last = found[-1]["subject"]
    yield from (
        _row("memory", row["subject"], row, row["bytes"]) for row in found if row["part"] == "weights"
    )
    for row in found:
        if row["subject"] == last and row["part"] in ("training", "kept"):
            yield _row("memory", row["part"], row, row["bytes"])


def time(options: Options) -> Iterator[Row]:
    """Yield the time of every multiply, and of a token of a chat with the first model."""
    timed = TIME.rows(_part(TIME.SCRIPT, options, gpu=False))
    options.notes += common.remarks(timed)
    for row in timed:
        yield _row("time", row["shape"], row, row["seconds"])
    for row in SERVING.rows(_part(SERVING.SCRIPT, options, models=options.models[:1])):
        yield _row("time", f"{row['model']} token", row, row["decode_s"])


def accuracy(options: Options) -> Iterator[Row]:
    """Yield the mean error by data, and the error of the loss where a training is recorded."""
    of = ACCURACY.rows(_part(ACCURACY.SCRIPT, options, shapes=options.error_shapes))
    for (kind,), some in common.groups(of, "data"):
        found = ACCURACY.summaries(some, "data")
        yield from (_row("accuracy", kind, row, row["relative_error"]) for row in found)
        if kind == "llm-like":
            found = common.with_ratios(found, "ordinary_channel_error", ())
            yield from (_row("accuracy", ORDINARY, row, row["ordinary_channel_error"]) for row in found)
    recipes = common.beside(options.recipes)
    for loss in recorded_training()[0].rows:
        if loss.recipe in recipes and loss.recipe not in common.BASELINES:
            yield _row("accuracy", LOSS, {"recipe": loss.recipe}, loss.error)


def tables(rows: list[Row], options: Options) -> list[Table]:
    """Return the answer, then a table for each question: figures, each with its ratio to FP16's."""
    made = [answer(rows)]
    for (question,), mine in common.groups((row for row in rows if row["subject"] != LOSS), "question"):
        title = QUESTIONS[question][1].format(device=get_device(options.device))
        subjects = dict.fromkeys(row["subject"] for row in mine)
        lines = []
        for (recipe,), some in common.groups(mine, "recipe"):
            found = {row["subject"]: _cell(row) for row in some}
            lines.append([recipe, *(found.get(subject, "-") for subject in subjects)])
        made.append(Table(title, ["recipe", *(f"{subject}>" for subject in subjects)], lines))
    record, when = recorded_training()
    losses = [f"{row['recipe']} {percent_text(row['value'])}" for row in rows if row["subject"] == LOSS]
    if losses:
        options.notes.append(
            f"The loss of a small model, trained in each, is off BF16's by: {', '.join(losses)}, means of "
            f"{record.rows[0].seeds} seeds, whatever --seeds is. {when}"
        )
    return made


def _cell(row: Row) -> str:
    if row["value"] is None:
        return "unknown"
    figure = QUESTIONS[row["question"]][2](row["value"])
    return figure if row["to_fp16"] is None else f"{figure} {common.ratio(row['to_fp16'])}"


def answer(rows: list[Row]) -> Table:
    """Return what each question comes to: the range of all ratios, by what the operands are."""
    kinds = dict.fromkeys(_kind(row["recipe"]) for row in rows)
    lines = []
    for words, question, base in ANSWERS:
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        for row in rows:
            if row["question"] == question and row["subject"] != ORDINARY and row[f"to_{base}"] is not None:
                found[_kind(row["recipe"])].append(row[f"to_{base}"])
        lines.append([words, *map(_range, found.values())])
    *first, last = kinds
    title = f"{', '.join(first)} and {last} on one page"
    return Table(title, ["ratios", *(f"{kind}>" for kind in kinds)], lines)


def _kind(recipe: str) -> str:
    """Return what the operands are, as in FP8, or BF16 x FP8 where A and B differ."""
    found = get_recipe(recipe)
    return " x ".join(dict.fromkeys(formats_class(x.fmt, x.fmt).upper() for x in (found.a, found.b)))


def _range(ratios: list[float]) -> str:
    limits = [common.ratio(limit) for limit in (min(ratios), max(ratios))] if ratios else ["-"]
    return " to ".join(dict.fromkeys(limits))


def bars(rows: list[Row]) -> Iterator[tuple[str, str, float | None]]:
    """Yield the ratio of every figure."""
    yield from ((row["subject"], row["recipe"], row["to_fp16"]) for row in rows)


SCRIPT = Script(
    "all",
    "Memory, time and accuracy of FP16, BF16 and what is beside them on one page.",
    rows,
    tables,
    {
        **TIME.SCRIPT.defaults,
        "models": MEMORY.SCRIPT.defaults["models"],
        "batch": (1,),
        "context": (4096,),
        "error_shapes": ACCURACY.SCRIPT.defaults["shapes"],
        "data": ("real", "llm-like", "gaussian"),
        "seeds": ACCURACY.SCRIPT.defaults["seeds"],
    },
    {
        **TIME.SCRIPT.quick,
        "models": MEMORY.SCRIPT.quick["models"],
        "error_shapes": ACCURACY.SCRIPT.quick["shapes"],
        "data": ACCURACY.SCRIPT.quick["data"],
        "seeds": ACCURACY.SCRIPT.quick["seeds"],
    },
    bars,
    "multiple of FP16's",
    logarithmic=True,
    extras={
        **common.MODELS,
        "--error-shapes": {
            **common.SHARED["--shapes"],
            "help": "of the multiplies whose errors are measured",
        },
    },
    notes=(
        "Each figure is followed by its ratio to FP16's. The table on top has the ranges of these ratios, of "
        "errors those of products.",
        "training: weights, FP32 master copy, gradients and moments; kept: for the backward pass. What is "
        "not in linear layers, keys and values among it, stays in 16 bits.",
    ),
)

if __name__ == "__main__":
    sys.exit(common.main(SCRIPT))
