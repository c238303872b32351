"""The rows on what is saved: bytes, operations and time, of single products and of all of DeepSeek-V3."""

from __future__ import annotations

from functools import partial

from fp8sim._support.published import (
    DEEPGEMM_H800,
    DEEPGEMM_H800_UPDATED,
    DEEPSEEK_V3,
    SPEEDUPS,
    GemmSpeed,
    Speedup,
)
from fp8sim._support.quantities import percent_text
from fp8sim.costs.devices import Device, get_device
from fp8sim.costs.gemm import GemmCost, gemm_cost
from fp8sim.experiments.claims.later import later_bytes, later_flops
from fp8sim.experiments.claims.row import Claim
from fp8sim.experiments.claims.rules import HALVED, MOSTLY
from fp8sim.models import model_cost

__all__ = ["saved_bytes", "saved_operations", "saved_time", "share_in_fp8"]

_MODEL = "deepseek-v3"
_CONFIG = "the published config.json"
_REPORT = "DeepSeek-V3 report (arXiv 2412.19437)"
# DeepGEMM's own shapes at many tokens, as in prefilling, and at few, as in decoding.
_SPEEDS: dict[int, tuple[tuple[GemmSpeed, ...], str]] = {
    4096: (DEEPGEMM_H800_UPDATED, "DeepGEMM README 55ab91f (H800, March 2025)"),
    64: (DEEPGEMM_H800, "DeepGEMM README a6d97a1 (H800, February 2025)"),
}
_SHAPES = "six GEMM shapes of DeepSeek-V3"

_bytes_row = partial(Claim, question="bytes", basis="counted", unit="ratio", rule=HALVED)
_time_row = partial(Claim, question="time", rule=HALVED)


def share_in_fp8(device: Device) -> Claim:
    """How much of the work went to FP8 at all."""
    cost, longer = (model_cost(_MODEL, device=device, seq_len=length) for length in (4096, 32768))
    return Claim(
        name="share in FP8",
        question="format",
        what="share of DeepSeek-V3's flops in FP8, context 4096",
        basis="counted",
        measured=cost.quantized_flops_share,
        unit="share",
        rule=MOSTLY,
        derived_from=f"{_CONFIG}; {_REPORT}, 3.3.1: what stays BF16",
        why="Linear layers are in FP8; attention itself, embedding, output head and router are not. At "
        f"context 32768 it is {percent_text(longer.quantized_flops_share)}.",
    )


def saved_bytes(device: Device) -> list[Claim]:
    """Bytes of weights, of what training keeps and sends, of products and of the KV cache."""
    cost, before = (model_cost(_MODEL, name, device=device) for name in (_MODEL, "bf16"))
    baseline, fp8_only, state = (state.total for state in cost.training_states)
    kept, sent = cost.activation_bytes_per_token, cost.expert_bytes_per_token
    matrices, cache = cost.inventory, DEEPSEEK_V3["kv_cache"]
    in_fp8 = matrices.quantized_parameters / matrices.parameters
    return [
        _bytes_row(
            name="weights",
            what="bytes of all weights of DeepSeek-V3's main model, over BF16's",
            measured=cost.weight_bytes / cost.baseline_weight_bytes,
            derived_from=f"{_CONFIG}; {_REPORT}, 3.3.1; DeepSeek-V3 README_WEIGHTS.md: the scales",
            why=f"One byte instead of two for {percent_text(in_fp8)} of the parameters; their scales add "
            "next to nothing.",
        ),
        _bytes_row(
            name="activations",
            what="bytes of activations that a token keeps for the backward pass, over BF16's",
            measured=kept[0] / kept[1],
            derived_from=f"{_CONFIG}; {_REPORT}, 3.2.3 and 3.3.3: what is kept",
            why="Inputs of linear layers are kept in FP8, but those after attention in 12 bits, and inputs "
            "of norms in BF16.",
        ),
        _bytes_row(
            name="training state",
            what="bytes of weights, gradients and moments in training, FP8 alone, over BF16's",
            measured=fp8_only / baseline,
            derived_from=f"{_REPORT}, 3.3.3, which gives no figure",
            why="Master weights and gradients stay FP32. With moments in BF16 too, which need no FP8, "
            f"{state / baseline:.2f} is left.",
        ),
        _bytes_row(
            name="sent",
            what="bytes sent to experts and back, a token forward, over BF16's",
            measured=sent[0] / sent[1],
            derived_from=f"{_CONFIG}; {_REPORT}, 3.3.3: dispatch in FP8, combine in BF16",
            why="Tokens go to the experts in FP8 and come back in BF16.",
        ),
        *(_moved(device, tokens) for tokens in _SPEEDS),
        _bytes_row(
            name="KV cache",
            what="KV cache of a token",
            measured=cost.kv_cache_bytes_per_token,
            unit="B",
            published=cache.value * 1e3,
            published_source=cache.source,
            judged=cost.kv_cache_bytes_per_token / before.kv_cache_bytes_per_token,
            why="It stays BF16 in DeepSeek's recipe, and is small because of MLA, not because of FP8.",
        ),
        *later_bytes(),
    ]


def _moved(device: Device, tokens: int) -> Claim:
    _, fp8, bf16 = _products(device, tokens)
    outputs = sum(cost.output.total for cost in fp8) / sum(cost.bytes for cost in fp8)
    return _bytes_row(
        name=f"moved at {tokens} tokens",
        what=f"least bytes that {_SHAPES} move at {tokens} tokens, over BF16's",
        measured=sum(cost.bytes for cost in fp8) / sum(cost.bytes for cost in bf16),
        derived_from="the shapes in DeepGEMM's README, each once",
        why=f"Operands are FP8, but outputs stay BF16: {percent_text(outputs)} of the bytes.",
    )


def saved_operations(device: Device) -> list[Claim]:
    """Multiply-adds of a token."""
    fp8, bf16 = (model_cost(_MODEL, name, device=device) for name in (_MODEL, "bf16"))
    published = DEEPSEEK_V3["flops"]
    return [
        Claim(
            name="operations",
            question="operations",
            what="flops to train DeepSeek-V3 on a token, context 4096",
            basis="counted",
            measured=fp8.flops_per_token,
            unit="FLOP",
            published=published.value * 1e9,
            published_source=published.source,
            judged=fp8.flops_per_token / bf16.flops_per_token,
            rule=HALVED,
            why="Every multiplication and addition is still done, and scaling adds a few; what can halve is "
            "the time and the bytes of each.",
        )
    ]


def saved_time(device: Device) -> list[Claim]:
    """Time of products, of a training step and of a token served: modelled over modelled, measured alike."""
    rows = [*(_product_time(device, tokens) for tokens in _SPEEDS)]
    if device.fp8 is not None:  # others measured on devices that have a unit for it
        rows += [_peaks(), *map(_published_layer, _PUBLISHED), _measured_step()]
    return [
        *rows,
        _ceiling(device),
        _training_step(device),
        *(_token(device, n) for n in (1, 1024)),
        *later_flops(),
    ]


def _product_time(device: Device, tokens: int) -> Claim:
    speeds, fp8, bf16 = _products(device, tokens)
    modelled = sum(cost.seconds for cost in fp8)
    published = None
    if device.name == "h800":
        published = sum(cost.flops / (s.tflops * 1e12) for cost, s in zip(fp8, speeds, strict=True))
    gap = "" if published is None else f" DeepGEMM's kernels took {published / modelled:.2f} times as long."
    why = f"An ideal: peak rates, or bandwidth where that binds; no quantising.{gap} No times of BF16 there."
    if device.fp8 is None:
        why = f"{device.title} has no FP8 unit: only what is bound by memory gets faster."
    return _time_row(
        name=f"products at {tokens} tokens",
        what=f"least time of {_SHAPES} at {tokens} tokens in FP8, at the roofline",
        basis="modelled",
        measured=modelled,
        unit="s",
        published=published,
        published_source=None if published is None else f"{_SPEEDS[tokens][1]}, from its TFLOPS",
        judged=modelled / sum(cost.seconds for cost in bf16),
        why=why,
    )


def _peaks() -> Claim:
    h100 = get_device("h100")
    fp8, bf16 = h100.measured_fp8, h100.measured_bf16
    assert fp8 is not None
    assert bf16 is not None
    return _time_row(
        name="measured peaks",
        what="best FP8 rate found on an H100 over the best of BF16, each at its own shape, as a time",
        basis="published",
        measured=None,
        unit="ratio",
        published=bf16.value / fp8.value,
        published_source=fp8.source,
        why=f"{fp8.value / 1e12:.1f} TFLOP/s in FP8 and {bf16.value / 1e12:.1f} in BF16, each the most that "
        "one program found over many shapes.",
    )


# name -> setting of the published speed-up, what was timed, and what to know.
_PUBLISHED: dict[str, tuple[str, str, str]] = {
    "GEMM quantised before": (
        "already quantised",
        "time of a layer's GEMMs on an H200 NVL, operands already in FP8, over BF16's",
        "Quantising is left out.",
    ),
    "GEMM with quantising": (
        "blocks as DeepSeek",
        "time of a layer's GEMMs on an H200 NVL, quantised in blocks as DeepSeek's, over BF16's",
        "Scales are powers of two; other scalings lie between this and the row above.",
    ),
    "MoE layer": (
        "MoE layer of DeepSeek-V3",
        "time of an MoE layer of DeepSeek-V3, over BF16's",
        "The one measured comparison with BF16 of a part of DeepSeek-V3.",
    ),
}


def _published_layer(name: str) -> Claim:
    setting, what, why = _PUBLISHED[name]
    (speed,) = (s for s in SPEEDUPS if setting in s.setting)
    return _published_speed(speed, name, what, why)


def _measured_step() -> Claim:
    steps = [speed for speed in SPEEDUPS if speed.end_to_end]
    best, sources = max(steps, key=lambda s: s.high), len({s.source for s in steps})
    return _published_speed(
        best,
        "measured step",
        "time of a training step of another model, over BF16's: the largest gain",
        f"{sources} sources have speed-ups of up to {min(s.low for s in steps):.2f} to {best.high:.2f}, "
        "of other models. This one also sends fewer bytes between GPUs. DeepSeek's report measures none.",
    )


def _published_speed(speed: Speedup, name: str, what: str, why: str) -> Claim:
    return _time_row(
        name=name,
        what=what,
        basis="published",
        measured=None,
        unit="ratio",
        published=1 / speed.high,
        published_source=f"{speed.source}: {speed.setting}, {speed.high:g} times as fast",
        why=why,
    )


def _ceiling(device: Device) -> Claim:
    cost = model_cost(_MODEL, device=device)
    ceiling = cost.ceilings[0]
    return _time_row(
        name="ceiling",
        what="what if FP8 GEMMs took exactly half: time of all flops of DeepSeek-V3, context 4096",
        basis="counted",
        measured=1 / ceiling.speedup,
        unit="ratio",
        derived_from=f"flops counted from {_CONFIG}; Amdahl's law",
        why=f"{percent_text(ceiling.share)} of the forward flops are in FP8; the rest takes as long as "
        "before. Longer contexts gain less.",
    )


def _training_step(device: Device) -> Claim:
    batch, gpus, step = (DEEPSEEK_V3[name] for name in ("batch", "gpus", "step"))
    cost = model_cost(_MODEL, device=device, batch=int(batch.value))
    fp8, bf16 = cost.seconds / gpus.value, cost.baseline_seconds / gpus.value
    of_h800 = device.name == "h800"
    why = "Rooflines of every product, and quantising, unfused; nothing between GPUs. "
    if of_h800:
        why += (
            f"That explains {fp8 / step.value:.2f} of the published step; if the rest takes as long in both "
            f"formats, {step.value / (step.value - fp8 + bf16):.2f} is left."
        )
    return _time_row(
        name="training step",
        what=f"time of a training step, {batch.value:.0f} x 4096 tokens on {gpus.value:.0f} GPUs, at the "
        "roofline",
        basis="modelled",
        measured=fp8,
        unit="s",
        published=step.value if of_h800 else None,
        published_source=step.source if of_h800 else None,
        judged=fp8 / bf16,
        why=why.strip(),
    )


def _token(device: Device, requests: int) -> Claim:
    context = 4096
    cost = model_cost(_MODEL, device=device, phase="decode", batch=requests, seq_len=context)
    several = "s" * (requests > 1)
    return _time_row(
        name=f"token for {requests}",
        what=f"time of a token for {requests} request{several}, {context} cached, at the roofline, over "
        "BF16's",
        basis="modelled",
        measured=1 / cost.speedup,
        unit="ratio",
        derived_from=_CONFIG,
        why="Reading weights takes most of it, and their bytes halve; as if one GPU held them all.",
    )


def _products(device: Device, tokens: int) -> tuple[list[GemmSpeed], list[GemmCost], list[GemmCost]]:
    """Return DeepGEMM's shapes at so many tokens: as published, under FP8 and under BF16."""
    speeds = [s for s in _SPEEDS[tokens][0] if s.m == tokens]
    fp8, bf16 = ([gemm_cost(s.m, s.n, s.k, name, device) for s in speeds] for name in (_MODEL, "bf16"))
    return speeds, fp8, bf16
