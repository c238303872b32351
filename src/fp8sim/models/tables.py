"""The tables that a model's cost prints as, and what the model of cost leaves out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fp8sim._support.published import SPEEDUPS
from fp8sim._support.quantities import bytes_text, count_text, percent_text, time_text
from fp8sim._support.tables import Table
from fp8sim.costs.gemm import operand_class

if TYPE_CHECKING:
    from fp8sim.models.accounting import ModelCost

__all__ = ["LEFT_OUT", "Table", "model_tables", "product_table"]

#: What the modelled times do not hold.
LEFT_OUT: tuple[str, ...] = (
    "kernel launches, and every kernel's distance from peak and bandwidth",
    "communication between devices, and what of it overlaps",
    "norms, activations, rotary embeddings, softmax, residual additions, loss and optimizer step",
    "promotion of partial sums outside the tensor cores",
)


def model_tables(cost: ModelCost) -> list[Table]:
    """Return the component, total and ceiling tables of a model's cost."""
    tables = [_components(cost), _totals(cost), _speedups(cost)]
    return [*tables, _measured()] if cost.recipe.bits == 8 else tables


def product_table(cost: ModelCost) -> Table:
    """Return a table of every product of a model's cost."""
    rows = [
        [
            part.name,
            part.product,
            " x ".join(f"{size:.0f}" for size in (part.m, part.n, part.k)),
            f"{part.products:.0f}",
            part.formats,
            _count(part.flops),
            bytes_text(part.bytes),
            _time(part.seconds),
            part.bound,
        ]
        for part in cost.times
    ]
    headers = ["", "product", "m x n x k>", "count>", "formats", "FLOP>", "bytes>", "time>", "bound by"]
    return Table(_title(cost), headers, rows)


def _components(cost: ModelCost) -> Table:
    base = str(cost.baseline)
    rows = [
        [
            row.component,
            count_text(row.parameters),
            count_text(row.active_parameters),
            bytes_text(row.weights.total),
            bytes_text(row.baseline_weights.total),
            count_text(row.flops_per_token),
            _precision(cost, row.quantized_share, row.flops_per_token),
            _time(row.seconds),
            _time(row.baseline_seconds),
        ]
        for row in cost.components
    ]
    found = cost.found
    rows.append(["quantising", "", "", "", "", "", "", _time(cost.quantize_seconds), ""])
    rows.append(
        [
            "total",
            count_text(found.parameters),
            count_text(found.active_parameters),
            bytes_text(cost.weight_bytes),
            bytes_text(cost.baseline_weight_bytes),
            count_text(cost.forward_flops_per_token),
            "",
            _time(cost.seconds),
            _time(cost.baseline_seconds),
        ]
    )
    headers = ["", "params>", "active>", "weights>", f"{base}>", "FLOP/token>", "in", "time>"]
    return Table(_title(cost), [*headers, f"{base}>"], rows, _notes(cost))


def _title(cost: ModelCost) -> str:
    work = cost.work
    what = f"{work.phase} on {work.batch} x {work.seq_len} tokens"
    mask = ", causal" if work.causal else ", not causal"
    if work.phase == "decode":
        what = f"decoding a token after {work.seq_len} in each of {work.batch} sequences"
        mask = ", absorbed" if cost.absorbed else ""
    return f"{cost.model}, {cost.recipe} against {cost.baseline}: {what}{mask}, {cost.device}"


def _precision(cost: ModelCost, share: float, flops: float) -> str:
    if not flops:
        return "-"
    quantized = "/".join(dict.fromkeys((str(cost.recipe.a.fmt), str(cost.recipe.b.fmt))))
    names = {1.0: quantized, 0.0: str(cost.recipe.output)}
    return names.get(share, f"{percent_text(share)} {quantized}")


def _notes(cost: ModelCost) -> list[str]:
    found, rate = cost.found, cost.device.rate(operand_class(cost.recipe))
    active = f"Active: {count_text(found.active_without_embedding)} without the embedding"
    if found.component_parameters("output head"):
        without_both = count_text(found.active_without_embedding_and_head)
        active += f", {without_both} without the output head too"
    notes = [
        cost.model.summary,
        f"{active}.",
        "Flops are forward, 2 a multiply-add; times are rooflines of the whole workload.",
    ]
    if rate.note:
        notes.append(f"{rate.note[:1].upper()}{rate.note[1:]}.")
    held, memory = cost.weight_bytes, cost.device.memory
    if memory and held > memory.value:
        notes.append(
            f"The weights do not fit one {cost.device} ({bytes_text(memory.value)}): these are times "
            "at one device's rates, to be shared among many."
        )
    return notes


def _totals(cost: ModelCost) -> Table:
    found = cost.found
    states = cost.training_states
    activations, dispatch = cost.activation_bytes_per_token, cost.expert_bytes_per_token
    kv = cost.kv_cache_bytes_per_token
    pairs = [
        ("weights, scales included", cost.weight_bytes, cost.baseline_weight_bytes),
        ("training state, FP32 moments", states[1].total, states[0].total),
        ("training state, BF16 moments", states[2].total, states[0].total),
        ("kept for backward, a token", activations[0], activations[1]),
        ("dispatch and combine, a token, forward", dispatch[0], dispatch[1]),
        ("KV cache, a token", kv, kv),
    ]
    rows = [
        [what, bytes_text(ours), bytes_text(base), f"{ours / base:.4f}"] for what, ours, base in pairs if base
    ]
    flops = cost.flops_per_token
    rows.append(["FLOP a token", _count(flops), _count(flops), "1.0000"])
    ratio = cost.seconds / cost.baseline_seconds
    times = [_time(cost.seconds), _time(cost.baseline_seconds)]
    rows.append(["time", *times, "unknown" if math.isnan(ratio) else f"{ratio:.4f}"])
    notes = [
        f"{percent_text(found.quantized_parameters / found.parameters)} of the parameters and "
        f"{percent_text(cost.quantized_flops_share)} of the flops are in {cost.recipe}'s formats.",
    ]
    if cost.weight_scale_bytes:
        notes.append(f"Scales add {percent_text(_scale_share(cost))} to the weights they scale.")
    saved = states[0].total - states[2].total
    if saved > 0 and cost.recipe.bits < cost.baseline.bits:
        own = (states[0].total - states[1].total) / saved
        notes.append(
            f"Of the training state saved, {percent_text(own)} is the format's; the rest is BF16 moments."
        )
    return Table("Totals", ["", f"{cost.recipe}>", f"{cost.baseline}>", "ratio>"], rows, notes)


def _scale_share(cost: ModelCost) -> float:
    return cost.weight_scale_bytes * 8 / (cost.found.quantized_parameters * cost.recipe.b.fmt.bits)


def _speedups(cost: ModelCost) -> Table:
    rows = [
        [
            f"ceiling: {row.what}",
            f"{percent_text(row.share)} of {row.share_of}",
            _speed(row.gemm_speedup),
            _speed(row.speedup),
        ]
        for row in cost.ceilings
    ]
    free = cost.baseline_seconds / (cost.seconds - cost.quantize_seconds)
    rows.append(["modelled, quantising free", "rooflines", "", _speed(free)])
    rows.append(["modelled", "rooflines, quantising unfused", "", _speed(cost.speedup)])
    notes = [f"{row.what}: {row.source}." for row in cost.ceilings[2:] if row.source]
    notes.append("A ceiling lets the quantised GEMMs alone get faster. The modelled times leave out:")
    notes += [f"  {what}" for what in LEFT_OUT]
    return Table("Speed-ups", ["", "of what>", "GEMM>", "whole>"], rows, notes)


def _measured() -> Table:
    rows = []
    for row in SPEEDUPS:
        span = f"{row.low:.2f}" if row.low == row.high else f"{row.low:.2f} to {row.high:.2f}"
        rows.append([row.setting, span, row.source])
    return Table("Published speed-ups of FP8 over BF16", ["", "whole>", "source"], rows)


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "unknown"
    if seconds >= 1000:
        return f"{seconds:,.0f} s"
    return time_text(seconds) if seconds else "-"


def _count(value: float) -> str:
    return f"{value / 1e15:,.2f} P" if value >= 1e15 else count_text(value)


def _speed(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.3f}"
