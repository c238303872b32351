"""What FP8 saves of memory: `python benchmarks/fp16_vs_fp8/memory.py`.

Bytes of the matrices of a multiply, by shape; and of whole models: weights, what training holds beside them,
what a token keeps for the backward pass and in the cache. All of it is counted from shapes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import common
from common import Options, Row, Script
from fp8sim import gemm_cost, model_cost
from fp8sim._support.quantities import bytes_text
from fp8sim._support.tables import Table

#: What is counted -> its parts, and the one that ratios are shown of.
PARTS = {
    "multiply": (("A", "B", "output", "total"), "total"),
    "model": (("weights", "training", "bf16 moments", "kept", "cached"), "weights"),
}


def rows(options: Options) -> list[Row]:
    """Return the bytes of every part of every multiply and model under every recipe."""
    recipes = common.beside(options.recipes)
    found = [row for shape in options.shapes for name in recipes for row in multiply(shape, name)]
    found += [row for which in options.models for name in recipes for row in model(which, name)]
    return common.with_ratios(found, "bytes", ("what", "subject", "part"))


def multiply(shape: common.Shape, recipe: str) -> Iterator[Row]:
    """Yield the bytes of A, B, the product, and all three."""
    cost = gemm_cost(*shape, recipe)
    for part, moved in (("A", cost.a), ("B", cost.b), ("output", cost.output)):
        yield _row("multiply", common.shape_text(shape), part, recipe, moved.total, moved.scales)
    scales = cost.bytes - cost.bytes_without_scales
    yield _row("multiply", common.shape_text(shape), "total", recipe, cost.bytes, scales)


def model(which: str, recipe: str) -> Iterator[Row]:
    """Yield the bytes of a model; scales are told apart of its weights alone."""
    cost = model_cost(which, recipe)
    _, fp8_alone, bf16_moments = cost.training_states
    amounts = {
        "weights": cost.weight_bytes,
        "training": fp8_alone.total,
        "bf16 moments": bf16_moments.total,
        "kept": cost.activation_bytes_per_token[0],
        "cached": cost.kv_cache_bytes_per_token,
    }
    for part, amount in amounts.items():
        scales = cost.weight_scale_bytes if part == "weights" else None
        yield _row("model", cost.model.name, part, recipe, amount, scales)


def _row(what: str, subject: str, part: str, recipe: str, nbytes: float, scales: int | None) -> Row:
    named = {"what": what, "subject": subject, "part": part, "recipe": recipe}
    return {**named, "bytes": nbytes, "scale_bytes": scales}


def tables(rows: list[Row], options: Options) -> list[Table]:
    """Return a table for each multiply and each model, a line for each recipe."""
    made = []
    for (what, subject), mine in common.groups(rows, "what", "subject"):
        parts, first = PARTS[what]
        lines = [{row["part"]: row for row in one} for _, one in common.groups(mine, "recipe")]
        columns = {"recipe": lambda line, first=first: line[first]["recipe"]}
        for part in parts:
            columns[f"{part}>"] = lambda line, part=part: bytes_text(line[part]["bytes"])
            if part == first:
                ratios = common.ratio_columns([line[first] for line in lines])
                for head, text in ratios.items():
                    columns[head] = lambda line, text=text, first=first: text(line[first])
        made.append(Table.of(f"Bytes of {what} {subject}", columns, lines))
    return made


def bars(rows: list[Row]) -> Iterator[tuple[str, str, float | None]]:
    """Yield all of a multiply and the weights of a model as shares of FP16's."""
    for row in rows:
        if row["part"] == PARTS[row["what"]][1]:
            yield row["subject"], row["recipe"], row["to_fp16"]


SCRIPT = Script(
    "memory",
    "Bytes of multiplies and of whole models: FP16, BF16, FP8 and INT8.",
    rows,
    tables,
    {"shapes": common.SHAPES, "recipes": common.RECIPES, "models": ("llama-3.1-8b", "deepseek-v3")},
    {"shapes": common.SHAPES[:1], "models": ("llama-3.1-8b",)},
    bars,
    "bytes, as a share of FP16's",
    extras=common.MODELS,
    notes=(
        "Bytes as stored, scales included. The output of a multiply, and all of a model but its linear "
        "layers (embedding, head, norms, keys and values), stay in 16 bits (under fp32 in 32).",
        "training: weights, FP32 master copy, gradients and both moments of AdamW; with bf16 moments, which "
        "need no FP8. kept: by a token for the backward pass; cached: its keys and values.",
    ),
)

if __name__ == "__main__":
    sys.exit(common.main(SCRIPT))
