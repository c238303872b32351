"""What FP8 saves of serving a model: `python benchmarks/fp16_vs_fp8/serving.py`.

Weights and cache, and the time of prefill and of decoding, as if one device held the whole model: rooflines,
which no server reaches. FP8 here is of the linear layers; the cache stays in 16 bits under every recipe.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import common
from common import Options, Row, Script
from fp8sim import gemm_cost, model_cost
from fp8sim._support.quantities import bytes_text, count_text
from fp8sim._support.tables import Table
from fp8sim.costs import get_device


def rows(options: Options) -> list[Row]:
    """Return what every model takes for every batch and context under every recipe."""
    recipes, found = common.beside(options.recipes), []
    for model in options.models:
        for batch in options.batch:
            for context in options.context:
                found += [serve(model, name, batch, context, options.device) for name in recipes]
    return common.with_ratios(found, "decode_s", ("model", "batch", "context"))


def serve(model: str, recipe: str, batch: int, context: int, device: str) -> Row:
    """Return weights and cache, and the time to read each sequence and to write one token more."""
    how = {"seq_len": context, "batch": batch, "device": device}
    prefill, decode = (model_cost(model, recipe, phase=phase, **how) for phase in ("prefill", "decode"))
    held, memory = decode.weight_bytes + decode.kv_cache_bytes, get_device(device).memory
    return {
        "model": decode.model.name,
        "batch": batch,
        "context": context,
        "recipe": recipe,
        "device": decode.device.name,
        "weight_bytes": decode.weight_bytes,
        "kv_cache_bytes": decode.kv_cache_bytes,
        "held_bytes": held,
        "fits": None if memory is None else held <= memory.value,
        "prefill_s": prefill.seconds,
        "decode_s": decode.seconds,
        "tokens_per_s": batch / decode.seconds,
        "note": gemm_cost(batch, 1, 1, recipe, device).note,  # of the units that multiply, whatever the sizes
    }


def tables(rows: list[Row], options: Options) -> list[Table]:
    """Return a table for each model, batch and context."""
    options.notes += common.remarks(rows)
    made = []
    for (model, batch, context), mine in common.groups(rows, "model", "batch", "context"):
        columns = {
            "recipe": lambda row: row["recipe"],
            "weights>": lambda row: bytes_text(row["weight_bytes"]),
            "cache>": lambda row: bytes_text(row["kv_cache_bytes"]),
            "fits": lambda row: {True: "yes", False: "no", None: "-"}[row["fits"]],
            "prefill>": lambda row: common.known_time(row["prefill_s"]),
            "decode>": lambda row: common.known_time(row["decode_s"]),
            **common.ratio_columns(mine),
            "tokens/s>": lambda row: count_text(row["tokens_per_s"]) if row["tokens_per_s"] else "unknown",
        }
        what = f"{batch} sequence{'s' * (batch > 1)} of {context} tokens on {get_device(options.device)}"
        made.append(Table.of(f"Serving {model}: {what}", columns, mine))
    return made


def bars(rows: list[Row]) -> Iterator[tuple[str, str, float | None]]:
    """Yield the tokens a second."""
    for row in rows:
        yield f"{row['model']}, {row['batch']} x {row['context']}", row["recipe"], row["tokens_per_s"]


SEVERAL = {"nargs": "+", "type": common.positive, "metavar": "N"}
SCRIPT = Script(
    "serving",
    "Memory and time of serving whole models: FP16, BF16, FP8 and INT8.",
    rows,
    tables,
    {
        "device": "h800",
        "recipes": common.RECIPES,
        "models": ("llama-3.1-8b", "llama-3.1-70b"),
        "batch": (1, 64),
        "context": (4096,),
    },
    {"models": ("llama-3.1-8b",), "batch": (1,)},
    bars,
    "tokens a second, at best",
    logarithmic=True,
    extras={
        **common.MODELS,
        "--batch": {**SEVERAL, "help": "sequences at once"},
        "--context": {**SEVERAL, "help": "tokens of each sequence"},
    },
    notes=(
        "As if one device held the whole model; fits: weights and cache into its memory. Times are "
        "rooflines: the least that they can be.",
        "cache: keys and values, which stay in 16 bits (under fp32 in 32); prefill: of all the tokens; "
        "decode: of one token more in each sequence, to whose time ratios are.",
    ),
)

if __name__ == "__main__":
    sys.exit(common.main(SCRIPT))
