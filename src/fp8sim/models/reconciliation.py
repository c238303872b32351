"""Computed beside published: the figures of a model that others printed, and how close ours come."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fp8sim._support.published import (
    DEEPGEMM_H800,
    DEEPSEEK_V3,
    MODEL_FIGURES,
    SERVING,
    Figure,
    GemmSpeed,
    ServingFigure,
)
from fp8sim._support.quantities import figure_text, ratio_text
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim.checkpoints import open_checkpoint
from fp8sim.costs import gemm_cost, get_device
from fp8sim.models.accounted import accounted
from fp8sim.models.builtin import MODELS, ModelLike, get_model
from fp8sim.models.cost import ModelCost, model_cost
from fp8sim.models.description import ModelDescription
from fp8sim.models.layers import Inventory, inventory, mtp_parameters
from fp8sim.models.memory import record_bytes
from fp8sim.models.reading import has_headers
from fp8sim.models.served import ServingSide
from fp8sim.models.serving import serving_cost
from fp8sim.models.stored import stored_bytes
from fp8sim.models.tables import LEFT_OUT

__all__ = ["ModelCheck", "PublishedCheck", "check_model", "check_serving"]


@dataclass(frozen=True)
class PublishedCheck:
    """One published figure beside ours."""

    what: str
    ours: float
    published: float
    unit: str
    source: str
    how: str  #: what ours is computed from

    @property
    def ratio(self) -> float:
        """Ours over the published figure."""
        return self.ours / self.published if self.published else math.nan


@dataclass(frozen=True, repr=False)
class ModelCheck(Result):
    """A model's figures confronted with published ones; prints as a table."""

    model: str
    rows: tuple[PublishedCheck, ...]
    notes: tuple[str, ...] = ()
    beside: str = "published"  #: what stands beside ours

    def to_dict(self) -> dict[str, Any]:
        """Return the rows as plain data, each with its ratio."""
        rows = [asdict(row) | {"ratio": row.ratio} for row in self.rows]
        return {"model": self.model, "rows": rows, "notes": list(self.notes)}

    def parts(self) -> list[Table]:
        """Return the table that it prints as."""
        columns: dict[str, Callable[[PublishedCheck], str]] = {
            "": lambda row: row.what,
            "ours>": lambda row: figure_text(row.ours),
            f"{self.beside}>": lambda row: figure_text(row.published),
            "unit": lambda row: row.unit,
            "ratio>": lambda row: ratio_text(row.ratio, 4),
            "source": lambda row: row.source,
        }
        notes = [*(f"{row.what}: {row.how}." for row in self.rows), *self.notes]
        return [Table.of(f"{self.model}: computed beside {self.beside}", columns, self.rows, notes)]


def check_model(model: ModelLike) -> ModelCheck:
    """Confront what is computed from a configuration with what is published of that model, or stored.

    Parameters
    ----------
    model : str or path
        A built-in name, beside what is published of it; or the folder of a checkpoint, whose ``config.json``
        is held beside its headers: parameters in all and by component, bytes, and tensors that are not
        accounted for, by name.

    Returns
    -------
    ModelCheck
        A row for each figure: ours, the other one, their ratio and the source.

    Raises
    ------
    ValueError
        If the model is not known, nothing is published here of it, and no checkpoint is beside it; or if the
        headers of its checkpoint are what it is described by.

    Examples
    --------
    >>> for row in check_model("deepseek-v3").rows[5:9]:
    ...     print(f"{row.what}: {row.ours:.2f} {row.unit}, {row.ratio:.4f} of what is published")
    training FLOPs a token at 4096: 250.45 GFLOP, 1.0018 of what is published
    MFU, attention causal: 39.02 %, 1.0021 of what is published
    time of a training step: 19.93 s, 1.0000 of what is published
    GPU-hours per 10^12 tokens: 180175.95 h, 1.0010 of what is published
    """
    description = get_model(model)
    if isinstance(model, (str, os.PathLike)) and str(model).lower() not in MODELS:
        path = Path(model)
        folder = path.absolute().parent if path.name == "config.json" else path
        if folder.is_dir() and has_headers(folder):
            return check_checkpoint(description, folder)
    name = description.name
    if name not in MODELS:
        names = f"known: {', '.join(MODELS)}; or pass a folder that holds its safetensors files"
        raise ValueError(f"no published figures of {name} are at hand; {names}")
    cost = model_cost(description, seq_len=4096)
    if name in ("deepseek-v3", "deepseek-v3.1"):
        return ModelCheck(name, (*_deepseek_shapes(cost), *_deepseek_run(cost)), (_step_at_roofline(cost),))
    known = MODELS[name]
    count = Figure(known.parameters, known.parameters_source, what="parameters")
    rows = [_row(count, cost.inventory.parameters, "sum over every matrix of the inventory")]
    published = MODEL_FIGURES.get(name, {})
    ours = {**_ours(cost), **(_later(cost) if published.keys() & {"record", "kv_ratio"} else {})}
    rows += (_row(figure, *ours[key]) for key, figure in published.items())
    return ModelCheck(name, tuple(rows))


def check_checkpoint(model: ModelDescription, folder: Path) -> ModelCheck:
    """Hold a description beside the headers of the checkpoint that it is of."""
    if model.tensors:
        raise ValueError(f"{model} is described by these very headers, beside which there is nothing to hold")
    checkpoint = open_checkpoint(folder)
    parts, bytes_, notes = accounted(model, checkpoint)
    ours, theirs = (sum(pair[side] for pair in parts.values()) for side in (0, 1))
    rows = [
        ("parameters", ours, theirs, "", "sum over every matrix, prediction modules with them"),
        *((f"parameters, {part}", *pair, "", "the same of one component") for part, pair in parts.items()),
        ("bytes", *bytes_, "B", "every tensor in the format that the configuration names"),
    ]
    source = f"headers of {checkpoint.source}"
    whole = [
        PublishedCheck(what, ours, theirs, unit, source, how)
        for what, ours, theirs, unit, how in rows
        if theirs or ours
    ]
    return ModelCheck(model.name, tuple(whole), tuple(notes), "stored")


def _ours(cost: ModelCost) -> dict[str, tuple[float, str]]:
    flops = "three times the forward flops, causal attention meeting half of 4096 keys"
    floor = 6 * cost.inventory.active_without_embedding
    published = MODEL_FIGURES.get(cost.model.name, {}).get("flops")
    if published and published.value * 1e9 < floor:
        flops += f" (6 flops an active parameter are {floor / 1e9:.0f} GFLOP before any attention)"
    return {
        "kv_cache": (cost.kv_cache_bytes_per_token / 1e3, "layers x cached elements x 2 bytes"),
        "flops": (cost.flops_per_token / 1e9, flops),
    }


_MILLION = 1 << 20  # tokens: the longest context that DeepSeek-V4 is published for


def _later(cost: ModelCost) -> dict[str, tuple[float, str]]:
    """Return the figures of DeepSeek-V3.2 and V4 that are published of them."""
    one, before = cost.inventory, inventory(get_model("deepseek-v3.2"), absorbed=True)
    caches = record_bytes(before, _MILLION) / record_bytes(one, _MILLION)
    flops = equivalent_flops(before, _MILLION) / equivalent_flops(one, _MILLION)
    counted = "BF16 counted 2, FP8 1, an FP4 index 1/2"
    stored = sum(part.total for part in stored_bytes(cost.model).values())
    return {
        "record": (record_bytes(one, _MILLION) / _MILLION, "records of latents and of the index"),
        "active": (one.active_without_embedding / 1e9, "embedding left out, output head included"),
        "kv_ratio": (caches, "both in the records they are served with"),
        "flops_ratio": (flops, f"a token after 2^20 others, {counted}"),
        "checkpoint": (stored, "every tensor in the format it is stored in, headers left out"),
    }


def equivalent_flops(one: Inventory, tokens: int) -> float:
    """Return the forward flops of a token after others, as of FP8: a BF16 one counts 2, an FP4 one 1/2.

    The measure of DeepSeek-V4's report, figure 1. Experts in FP4 multiply FP8 activations, as FP8 does.

    Examples
    --------
    >>> round(equivalent_flops(inventory(get_model("deepseek-v4-flash")), 1 << 20) / 1e9)
    121
    """
    cores = (
        core.flops_per_token(core.keys(tokens, half=False)) * (core.bits or 16) / 8 for core in one.cores
    )
    return one.linear_flops + 2 * one.kept_flops + sum(cores)


def _deepseek_shapes(cost: ModelCost) -> list[PublishedCheck]:
    matrices, published = cost.inventory, DEEPSEEK_V3
    alone, projected = mtp_parameters(cost.model)
    copies = matrices.component_parameters("embedding") + matrices.component_parameters("output head")
    repository = matrices.parameters + projected + copies
    ours = {
        "parameters": (matrices.parameters / 1e9, "sum over every matrix of the inventory"),
        "active": (matrices.active_parameters / 1e9, "embedding and output head included"),
        "mtp": (alone / 1e9, "one layer, without its projection"),
        "repository": (repository / 1e9, "the model, the module and its copies of embedding and head"),
        **_ours(cost),
    }
    return [_row(published[key], *figure) for key, figure in ours.items()]


def _deepseek_run(cost: ModelCost) -> list[PublishedCheck]:
    """Derive MFU, time of a step and GPU-hours from the published tokens a day."""
    published = DEEPSEEK_V3
    per_day, gpus = published["tokens_per_day"].value, published["gpus"].value
    a_step = published["batch"].value * published["seq_len"].value
    per_second = per_day / 86400
    peak = get_device("h800").bf16
    assert peak is not None
    mfu = per_second * cost.flops_per_token / gpus / peak.value
    hours, tokens = gpus * 24 / per_day, published["tokens"].value
    run = f"{per_day / 1e9:.2f} x 10^9 tokens a day on {gpus:.0f} GPUs"
    return [
        _row(published["mfu"], 100 * mfu, f"our flops a token, {run}, BF16 peak {peak.value / 1e12:g} TF"),
        _row(published["step"], a_step / per_second, f"15360 x 4096 tokens, {run}"),
        _row(published["gpu_hours"], hours * 1e12, run),
        _row(published["pretraining_hours"], hours * tokens, f"14.8 x 10^12 tokens, {run}"),
    ]


def _step_at_roofline(cost: ModelCost) -> str:
    """Say how far the published step is from the rooflines of as many devices."""
    gpus, step = DEEPSEEK_V3["gpus"].value, DEEPSEEK_V3["step"].value
    whole = model_cost(cost.model, batch=int(DEEPSEEK_V3["batch"].value), device="h800")
    fp8, bf16 = whole.seconds / gpus, whole.baseline_seconds / gpus
    return (
        f"At the rooflines of {gpus:.0f} H800s a step takes {fp8:.2f} s under {whole.recipe} and "
        f"{bf16:.2f} s under {whole.baseline}; the published {step} s are {step / fp8:.1f} times the former."
    )


def _row(published: Figure, ours: float, how: str) -> PublishedCheck:
    return PublishedCheck(published.what, ours, published.value, published.unit, published.source, how)


# --- serving --------------------------------------------------------------------------------------


def check_serving(model: str | None = None) -> ModelCheck:
    """Confront the rooflines of serving with what servers were measured to do.

    Parameters
    ----------
    model : str, optional
        A built-in name: its figures alone; by default all.

    Returns
    -------
    ModelCheck
        A row for each figure: tokens a second at the roofline, as measured, and their ratio, which is
        what the roofline leaves out.

    Raises
    ------
    ValueError
        If nothing is published here of the model.

    Examples
    --------
    >>> for row in check_serving("deepseek-v3").rows[:2]:
    ...     print(f"{row.what}: {row.ratio:.1f} times what was measured")
    decoding, a node: 2.7 times what was measured
    prompts, a node: 5.0 times what was measured
    """
    name = None if model is None else get_model(model).name
    figures = [figure for figure in SERVING if name in (None, figure.model)]
    if not figures:
        known = ", ".join(dict.fromkeys(figure.model for figure in SERVING))
        raise ValueError(f"no published serving of {name} is at hand; known: {known}")
    rows = [_served(figure) for figure in figures]
    if name in (None, "deepseek-v3"):
        rows += [_gemms([row for row in DEEPGEMM_H800 if row.m == m], m) for m in (64, 4096)]
    notes = ["The ratio is what the roofline leaves out:", *(f"  {what}" for what in LEFT_OUT)]
    notes += ["  sequences that come and go, caches that are not full, hours in which few ask"]
    return ModelCheck(f"serving {name}" if name else "serving", tuple(rows), tuple(notes))


def _served(figure: ServingFigure) -> PublishedCheck:
    """Return tokens a second at the roofline, beside those measured."""
    cached = figure.prompt + figure.output // 2 if figure.batch is None else figure.prompt

    def served(context: int, batch: int) -> ServingSide:
        return serving_cost(
            figure.model,
            figure.recipe,
            device=figure.device,
            devices=figure.devices,
            batch=batch,
            context=context,
            kv=figure.kv,
        ).ours

    if not figure.output:
        ours, how = served(cached, figure.batch or 1).prefill_tokens_per_second, f"prompts of {cached} tokens"
    elif figure.batch:
        ours = served(cached, figure.batch).tokens_per_second
        how = f"{figure.batch} sequences, each of {cached} tokens"
    else:
        batch = served(cached, 1).largest_batch or 1
        step, first = served(cached, batch).decode_seconds, served(figure.prompt, 1)
        reading = figure.prompt / first.prefill_tokens_per_second / figure.devices
        ours = figure.output / (reading + figure.output * step / batch) / figure.devices
        how = f"as many sequences as fit, {batch}, of {cached} tokens on average, each prompt read once"
    ours, published = ours * figure.rated, figure.tokens_per_second
    return PublishedCheck(figure.what, ours, published, "token/s", figure.source, how)


def _gemms(rows: list[GemmSpeed], m: int) -> PublishedCheck:
    """Return the rate of several GEMMs one after the other, beside DeepGEMM's."""
    costs = [gemm_cost(row.m, row.n, row.k, "deepseek-v3", "h800") for row in rows]
    flops = sum(cost.flops for cost in costs)
    measured = sum(cost.flops / (row.tflops * 1e12) for cost, row in zip(costs, rows, strict=True))
    ours, published = flops / sum(cost.seconds for cost in costs) / 1e12, flops / measured / 1e12
    what, source = f"{len(rows)} GEMMs of DeepGEMM, m = {m}", "deepseek-ai/DeepGEMM README (commit a6d97a1)"
    return PublishedCheck(what, ours, published, "TFLOP/s", source, "one after the other on an H800")
