"""FP16, BF16, FP8 and INT8 on one page: `python benchmarks/fp16_vs_fp8/all.py`.

Memory, time and accuracy, each by the script of that name with its own defaults; what is given goes on to
them. Nothing is timed, so that the page is the same on every machine; benchmarks/README.md shows it, and
`python docs/write_answer.py` writes it there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import common
from common import Options, Row, Script
from fp8sim._support.quantities import bytes_text, percent_text, time_text
from fp8sim._support.tables import Table
from fp8sim.costs import get_device, operand_class
from fp8sim.experiments.train import recorded_training
from fp8sim.recipes import get_recipe

MEMORY, TIME, ACCURACY, SERVING = map(common.load, ("memory", "time", "accuracy", "serving"))
#: Question -> its unit, the title of its table, how a figure is written, digits of its ratio to FP16's.
QUESTIONS = {
    "memory": ("B", "Memory: weights; what training the last holds, a token keeps", bytes_text, ".2f"),
    "time": ("s", "Time at best on {device}: multiplies; a token of a chat", time_text, ".2f"),
    "accuracy": ("1", "Error of multiplies, by data; of the loss of training", percent_text, ".3g"),
}
ORDINARY, LOSS = "its ordinary", "loss"


def rows(options: Options) -> list[Row]:
    """Return a row for each question, subject and recipe."""
    return [*memory(options), *time(options), *accuracy(options)]


def _row(question: str, subject: str, row: Row, value: float) -> Row:
    unit, ratios = QUESTIONS[question][0], {f"to_{name}": row.get(f"to_{name}") for name in common.BASELINES}
    named = {"question": question, "subject": subject, "recipe": row["recipe"]}
    return {**named, "value": value, "unit": unit, **ratios}


def memory(options: Options) -> Iterator[Row]:
    """Yield the weights of every model; of the last, what training holds and what a token keeps."""
    part = common.settle(MEMORY.SCRIPT, options.given)
    part.chosen["shapes"] = ()
    found = MEMORY.rows(part)
    last = found[-1]["subject"]
    yield from (
        _row("memory", row["subject"], row, row["bytes"]) for row in found if row["part"] == "weights"
    )
    for row in found:
        if row["subject"] == last and row["part"] in ("training", "kept"):
            yield _row("memory", row["part"], row, row["bytes"])


def time(options: Options) -> Iterator[Row]:
    """Yield the time of every multiply, and of a token of a chat with the first model."""
    for row in TIME.rows(common.settle(TIME.SCRIPT, {**options.given, "gpu": False})):
        yield _row("time", row["shape"], row, row["seconds"])
    part = common.settle(SERVING.SCRIPT, options.given)
    part.chosen |= {"models": part.models[:1], "batch": (1,)}
    for row in SERVING.rows(part):
        yield _row("time", row["model"], row, row["decode_s"])


def accuracy(options: Options) -> Iterator[Row]:
    """Yield the mean error by data, and that of the loss where a training is recorded."""
    of = ACCURACY.rows(common.settle(ACCURACY.SCRIPT, {**options.given, "data": options.data}))
    found = ACCURACY.summaries(of, "data")
    for row in found:
        yield _row("accuracy", row["data"], row, row["relative_error"])
    for row in common.with_ratios(found, "ordinary_channel_error", ("data",)):
        if row["data"] == "llm-like":
            yield _row("accuracy", ORDINARY, row, row["ordinary_channel_error"])
    recipes = common.beside(options.recipes)
    for loss in recorded_training()[0].rows:
        if loss.recipe in recipes and loss.recipe not in common.BASELINES:
            yield _row("accuracy", LOSS, {"recipe": loss.recipe}, loss.error)


def tables(rows: list[Row], options: Options) -> list[Table]:
    """Return the answer, then a table for each question: figures, each with its ratio to FP16's."""
    made = [answer(rows)]
    for (question,), mine in common.groups(rows, "question"):
        title = QUESTIONS[question][1].format(device=get_device(options.device))
        subjects = dict.fromkeys(row["subject"] for row in mine)
        lines = []
        for (recipe,), some in common.groups(mine, "recipe"):
            found = {row["subject"]: _cell(row) for row in some}
            lines.append([recipe, *(found.get(subject, "-") for subject in subjects)])
        made.append(Table(title, ["recipe", *(f"{subject}>" for subject in subjects)], lines))
    return made


def _cell(row: Row) -> str:
    _, _, text, digits = QUESTIONS[row["question"]]
    if row["value"] is None:
        return "unknown"
    return text(row["value"]) + (f" {row['to_fp16']:{digits}}" if row["to_fp16"] is not None else "")


def answer(rows: list[Row]) -> Table:
    """Return what each question comes to: the range of all ratios, by what the operands are."""
    kinds = dict.fromkeys(operand_class(get_recipe(row["recipe"])) for row in rows)
    lines = []
    for question, base in (("memory", "fp16"), ("time", "fp16"), ("accuracy", "fp16"), ("accuracy", "bf16")):
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        for row in rows:
            if row["question"] == question and row[f"to_{base}"] is not None:
                found[operand_class(get_recipe(row["recipe"]))].append(row[f"to_{base}"])
        what = "error" if question == "accuracy" else question
        ranges = (_range(ratios, QUESTIONS[question][3]) for ratios in found.values())
        lines.append([f"{what}, as multiples of {base.upper()}'s", *ranges])
    return Table("FP16, BF16, FP8 and INT8: the answer", ["", *(f"{kind.upper()}>" for kind in kinds)], lines)


def _range(ratios: list[float], digits: str) -> str:
    low, high = (format(limit, digits) for limit in (min(ratios), max(ratios))) if ratios else ("-", "-")
    return low if low == high else f"{low} to {high}"


SCRIPT = Script(
    "all",
    "Memory, time and accuracy of FP16, BF16, FP8 and INT8 on one page.",
    rows,
    tables,
    {**ACCURACY.SCRIPT.defaults, **TIME.SCRIPT.defaults, "data": ("real", "llm-like", "gaussian")},
    {**ACCURACY.SCRIPT.quick, **TIME.SCRIPT.quick},
    notes=(
        "Each figure is followed by its ratio to FP16's. The table on top has the ranges of these ratios.",
        "training: weights, FP32 master copy, gradients and moments; kept: for the backward pass. What is "
        "not in linear layers, keys and values among it, stays in 16 bits.",
        "Times are rooflines, the least that they can be; the token is the next of a sequence of 4096, all "
        "of the model on one device.",
        "Errors are relative Frobenius ones, means of layers or seeds. real: four layers of "
        "all-MiniLM-L6-v2 on text; the others are generated. ordinary: of the channels of A that are no "
        "outliers.",
        "loss: of a small model after training, relative to BF16's; recorded, where there is a figure.",
    ),
)

if __name__ == "__main__":
    sys.exit(common.main(SCRIPT))
