"""A model's cost as tables, and as plain data for JSON; and what the model of cost leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from fp8sim._support.published import SPEEDUPS
from fp8sim._support.quantities import bytes_text, count_text, percent_text, ratio_text, time_text
from fp8sim._support.results import members, plain_data
from fp8sim._support.tables import Table
from fp8sim.costs import operand_class
from fp8sim.models.accounting import Accounting
from fp8sim.models.stored import stored_bytes
from fp8sim.models.timing import Phase, ProductTime

__all__ = ["LEFT_OUT", "model_dict", "model_tables", "product_table"]

#: What the modelled times do not hold.
LEFT_OUT: tuple[str, ...] = (
    "kernel launches, and every kernel's distance from peak and bandwidth",
    "communication between devices, and what of it overlaps",
    "norms, activations, rotary embeddings, softmax, residual additions, loss and optimizer step",
    "promotion of partial sums outside the tensor cores",
)


def model_tables(cost: Accounting) -> list[Table]:
    """Return the component, total and ceiling tables of a model's cost."""
    tables = [_components(cost), _totals(cost), _speedups(cost)]
    return [*tables, _measured(cost.work.phase)] if cost.recipe.bits == 8 else tables


def product_table(cost: Accounting) -> Table:
    """Return a table of every product of a model's cost."""
    columns: dict[str, Callable[[ProductTime], str]] = {
        "": lambda part: part.name,
        "product": lambda part: part.product,
        "m x n x k>": lambda part: " x ".join(f"{size:.0f}" for size in (part.m, part.n, part.k)),
        "count>": lambda part: f"{part.products:.0f}",
        "formats": lambda part: part.formats,
        "FLOP>": lambda part: count_text(part.flops),
        "bytes>": lambda part: bytes_text(part.bytes),
        "time>": lambda part: time_text(part.seconds),
        "bound by": lambda part: part.bound,
    }
    return Table.of(_title(cost), columns, cost.times)


def _components(cost: Accounting) -> Table:
    base, matrices = str(cost.baseline), cost.inventory
    rows = [
        [
            row.component,
            *map(count_text, (row.parameters, row.active_parameters)),
            *map(bytes_text, (row.weights.total, row.baseline_weights.total)),
            count_text(row.flops_per_token),
            _precision(cost, row.quantized_share) if row.flops_per_token else "-",
            *map(time_text, (row.seconds, row.baseline_seconds)),
        ]
        for row in cost.components
    ]
    rows.append(["quantising", *[""] * 6, time_text(cost.quantize_seconds), ""])
    rows.append(
        [
            "total",
            *map(count_text, (matrices.parameters, matrices.active_parameters)),
            *map(bytes_text, (cost.weight_bytes, cost.baseline_weight_bytes)),
            count_text(cost.forward_flops_per_token),
            "",
            *map(time_text, (cost.seconds, cost.baseline_seconds)),
        ]
    )
    headers = ["", "params>", "active>", "weights>", f"{base}>", "FLOP/token>", "in", "time>", f"{base}>"]
    return Table(_title(cost), headers, rows, list(_notes(cost)))


def _title(cost: Accounting) -> str:
    work = cost.work
    what = f"{work.phase} on {work.batch} x {work.seq_len} tokens"
    mask = ", causal" if work.causal else ", not causal"
    if work.phase == "decode":
        what = f"decoding a token after {work.seq_len} in each of {work.batch} sequences"
        mask = ", absorbed" if cost.absorbed else ""
    return f"{cost.model}, {cost.recipe} against {cost.baseline}: {what}{mask}, {cost.device}"


def _precision(cost: Accounting, share: float) -> str:
    quantized = "/".join(dict.fromkeys((str(cost.recipe.a.fmt), str(cost.recipe.b.fmt))))
    names = {1.0: quantized, 0.0: str(cost.recipe.output)}
    return names.get(share, f"{percent_text(share)} {quantized}")


def _notes(cost: Accounting) -> Iterator[str]:
    matrices, rate = cost.inventory, cost.device.rate(operand_class(cost.recipe))
    active = f"Active: {count_text(matrices.active_without_embedding)} without the embedding"
    if matrices.component_parameters("output head"):
        without_both = count_text(matrices.active_without_embedding_and_head)
        active += f", {without_both} without the output head too"
    yield cost.model.summary
    told = ("left out", "described")
    yield from (f"{line[:1].upper()}{line[1:]}." for line in cost.model.found if line.startswith(told))
    if cost.model.stored:
        held = sum(part.total for part in stored_bytes(cost.model).values())
        modules = f", {cost.model.mtp_layers} prediction modules with it" if cost.model.mtp_layers else ""
        yield f"Its checkpoint holds {bytes_text(held)}{modules}: {cost.model.stored}."
    yield f"{active}."
    yield "Flops are forward, 2 a multiply-add; times are rooflines of the whole workload."
    if rate.note:
        yield f"{rate.note[:1].upper()}{rate.note[1:]}."
    memory = cost.device.memory
    if memory and cost.weight_bytes > memory.value:
        yield (
            f"The weights do not fit one {cost.device} ({bytes_text(memory.value)}): these are times "
            "at one device's rates, to be shared among many."
        )


def _totals(cost: Accounting) -> Table:
    before, narrow, state = cost.training_states
    kv, flops = cost.kv_cache_bytes_per_token, count_text(cost.flops_per_token)
    training = cost.work.phase == "training"
    of_training = [
        ("training state, FP32 moments", narrow.total, before.total),
        ("training state, BF16 moments", state.total, before.total),
        ("kept for backward, a token", *cost.activation_bytes_per_token),
    ]
    pairs = [
        ("weights, scales included", cost.weight_bytes, cost.baseline_weight_bytes),
        *(of_training if training else ()),
        ("dispatch and combine, a token, forward", *cost.expert_bytes_per_token),
        *(() if training else [("KV cache, a token", kv, kv)]),
    ]
    rows = [
        [what, bytes_text(ours), bytes_text(base), ratio_text(ours / base, 4)]
        for what, ours, base in pairs
        if base
    ]
    rows.append(["FLOP a token", flops, flops, ratio_text(1, 4)])
    times = cost.seconds, cost.baseline_seconds
    rows.append(["time", *map(time_text, times), ratio_text(times[0] / times[1], 4)])
    parameters, scaled = cost.inventory.parameters, cost.inventory.quantized_parameters
    notes = [
        f"{percent_text(scaled / parameters)} of the parameters and "
        f"{percent_text(cost.quantized_flops_share)} of the flops are in {cost.recipe}'s formats.",
    ]
    if cost.weight_scale_bytes:
        share = cost.weight_scale_bytes * 8 / (scaled * cost.recipe.b.fmt.bits)
        notes.append(f"Scales add {percent_text(share)} to the weights they scale.")
    saving = before.total - state.total
    if training and saving > 0 and cost.recipe.bits < cost.baseline.bits:
        own = percent_text((before.total - narrow.total) / saving)
        notes.append(f"Of the training state saved, {own} is the format's; the rest is BF16 moments.")
    return Table("Totals", ["", f"{cost.recipe}>", f"{cost.baseline}>", "ratio>"], rows, notes)


def _speedups(cost: Accounting) -> Table:
    rows = [
        [
            f"ceiling: {row.what}",
            f"{percent_text(row.share)} of {row.share_of}",
            *map(ratio_text, (row.gemm_speedup, row.speedup)),
        ]
        for row in cost.ceilings
    ]
    free = cost.baseline_seconds / (cost.seconds - cost.quantize_seconds)
    rows.append(["modelled, quantising free", "rooflines", "", ratio_text(free)])
    rows.append(["modelled", "rooflines, quantising unfused", "", ratio_text(cost.speedup)])
    notes = [f"{row.what}: {row.source}." for row in cost.ceilings[2:] if row.source]
    notes.append("A ceiling lets the quantised GEMMs alone get faster. The modelled times leave out:")
    notes += [f"  {what}" for what in LEFT_OUT]
    return Table("Speed-ups", ["", "of what>", "GEMM>", "whole>"], rows, notes)


def _measured(phase: Phase) -> Table:
    rows = []
    for row in SPEEDUPS:
        if phase != "training" and row.setting.startswith("training"):
            continue
        span = dict.fromkeys(ratio_text(ratio, 2) for ratio in (row.low, row.high))
        rows.append([row.setting, " to ".join(span), row.source])
    return Table("Published speed-ups of FP8 over BF16", ["", "whole>", "source"], rows)


def model_dict(cost: Accounting) -> dict[str, Any]:
    """Return every figure of a model's cost as plain data; times without a rate are None."""
    data: dict[str, Any] = plain_data(
        {
            "model": cost.model.name,
            "source": cost.model.source,
            "found": list(cost.model.found),
            "recipe": cost.recipe.name,
            "baseline": cost.baseline.name,
            "device": cost.device.name,
            **asdict(cost.work),
            "absorbed": cost.absorbed,
            **_amounts(cost),
            "roofline_s": cost.seconds,
            "quantize_s": cost.quantize_seconds,
            "baseline_roofline_s": cost.baseline_seconds,
            **members(cost, "quantized_time_share speedup"),
            "ceilings": [row._asdict() for row in cost.ceilings],
            **_rows(cost),
            "left_out": LEFT_OUT,
        }
    )
    return data


def _amounts(cost: Accounting) -> dict[str, Any]:
    """Return parameters, flops and bytes."""
    matrices = cost.inventory
    activations, dispatch = cost.activation_bytes_per_token, cost.expert_bytes_per_token
    return {
        **members(matrices, "parameters active_parameters"),
        "active_parameters_without_embedding": matrices.active_without_embedding,
        "active_parameters_without_embedding_and_head": matrices.active_without_embedding_and_head,
        **members(matrices, "quantized_parameters"),
        **members(cost, "forward_flops_per_token flops_per_token quantized_flops_share"),
        **members(cost, "weight_bytes weight_scale_bytes baseline_weight_bytes"),
        **members(cost, "kv_cache_bytes_per_token kv_cache_bytes"),
        "activation_bytes_per_token": activations[0],
        "baseline_activation_bytes_per_token": activations[1],
        "expert_bytes_per_token": dispatch[0],
        "baseline_expert_bytes_per_token": dispatch[1],
        "quantize_bytes": cost.quantize_bytes,
        "training_states": [
            {
                "what": state.what,
                "weight_bytes": state.weights,
                "master_bytes": state.master,
                "gradient_bytes": state.gradients,
                "moment_bytes": state.moments,
                "bytes": state.total,
            }
            for state in cost.training_states
        ],
    }


def _rows(cost: Accounting) -> dict[str, Any]:
    """Return the parts of the model and its products."""
    return {
        "components": [
            {
                **members(row, "component parameters active_parameters"),
                "weight_bytes": row.weights.elements,
                "weight_scale_bytes": row.weights.scales,
                "baseline_weight_bytes": row.baseline_weights.total,
                "forward_flops_per_token": row.flops_per_token,
                "quantized_share": row.quantized_share,
                "roofline_s": row.seconds,
                "baseline_roofline_s": row.baseline_seconds,
            }
            for row in cost.components
        ],
        "products": [
            {
                **members(part, "name component product m n k products formats quantized flops bytes"),
                "compute_s": part.compute_seconds,
                "memory_s": part.memory_seconds,
                "roofline_s": part.seconds,
                "bound": part.bound,
            }
            for part in cost.times
        ],
    }
