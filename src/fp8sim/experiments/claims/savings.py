"""The rows on what is saved: bytes, operations and time, of one product and of all of DeepSeek-V3."""

from __future__ import annotations

from functools import partial

from fp8sim._support.published import DEEPGEMM_H800, DEEPSEEK_V3, SPEEDUPS, GemmSpeed, Speedup
from fp8sim._support.quantities import percent_text
from fp8sim.costs.devices import Device, get_device
from fp8sim.costs.gemm import GemmCost, gemm_cost
from fp8sim.experiments.claims.row import Claim
from fp8sim.experiments.claims.rules import HALVED, MOSTLY
from fp8sim.models import model_cost

__all__ = ["saved_bytes", "saved_operations", "saved_time", "share_in_fp8"]

_MODEL = "deepseek-v3"
_CONFIG = "the published config.json"
_REPORT = "DeepSeek-V3 report (arXiv 2412.19437)"
_DEEPGEMM = "DeepGEMM README a6d97a1 (H800), its GB/s and TFLOPS columns"
_PHASES = ((4096, "training"), (64, "decoding"))

_bytes_row = partial(Claim, question="bytes", basis="counted", rule=HALVED)
_time_row = partial(Claim, question="time", rule=HALVED)


def share_in_fp8(device: Device) -> Claim:
    """How much of the work went to FP8 at all."""
    cost = model_cost(_MODEL, device=device)
    return Claim(
        name="share in FP8",
        question="format",
        what="share of DeepSeek-V3's flops in FP8, context 4096",
        basis="counted",
        measured=cost.quantized_flops_share,
        unit="share",
        rule=MOSTLY,
        derived_from=f"{_CONFIG}; {_REPORT}, 3.3.1: what stays BF16",
        why="Linear layers are in FP8; attention itself, embedding, output head and router are not.",
    )


def saved_bytes(device: Device) -> list[Claim]:
    """Bytes of weights, activations, products, training state and KV cache."""
    cost, before = (model_cost(_MODEL, name, device=device) for name in (_MODEL, "bf16"))
    baseline, fp8_only, state = (state.total for state in cost.training_states)
    matrices, cache = cost.inventory, DEEPSEEK_V3["kv_cache"]
    in_fp8 = matrices.quantized_parameters / matrices.parameters
    due_to_fp8 = (baseline - fp8_only) / (baseline - state)
    return [
        _bytes_row(
            name="weights",
            what="bytes of all weights of DeepSeek-V3, over BF16's",
            measured=cost.weight_bytes / cost.baseline_weight_bytes,
            unit="ratio",
            derived_from=f"{_CONFIG}; {_REPORT}, 3.3.1; DeepSeek-V3 README_WEIGHTS.md: the scales",
            why=f"One byte instead of two for {percent_text(in_fp8)} of the parameters; their scales add "
            "next to nothing.",
        ),
        _activation_bytes(device),
        *(_moved(device, *phase) for phase in _PHASES),
        _bytes_row(
            name="training state",
            what="bytes of weights, gradients and moments in training, over BF16's",
            measured=state / baseline,
            unit="ratio",
            derived_from=f"{_REPORT}, 3.3.3, which gives no figure",
            why="Master weights and gradients stay FP32. Of what is saved "
            f"{percent_text(due_to_fp8)} is due to FP8; the rest is AdamW's moments in BF16.",
        ),
        _bytes_row(
            name="KV cache",
            what="KV cache of a token",
            measured=cost.kv_cache_bytes_per_token,
            unit="B",
            published=cache.value * 1e3,
            published_source=cache.source,
            judged=cost.kv_cache_bytes_per_token / before.kv_cache_bytes_per_token,
            why="The cache stays BF16; it is small because of MLA, not because of FP8.",
        ),
    ]


def _activation_bytes(device: Device) -> Claim:
    fp8, bf16 = (gemm_cost(4096, 7168, 7168, name, device).a for name in (_MODEL, "bf16"))
    return _bytes_row(
        name="activations",
        what="bytes of activations with their scales, over BF16's",
        measured=fp8.total / bf16.total,
        unit="ratio",
        derived_from=f"{_REPORT}, 3.3.2: one FP32 scale for 128 elements",
        why=f"One byte instead of two; the scales add {percent_text(fp8.scales / fp8.elements)}.",
    )


def _moved(device: Device, tokens: int, phase: str) -> Claim:
    speeds, fp8, bf16 = _products(device, tokens)
    seconds = [_measured_seconds(cost, speed) for cost, speed in zip(fp8, speeds, strict=True)]
    outputs = sum(cost.output.total for cost in fp8) / sum(cost.bytes for cost in fp8)
    moved = sum(cost.bytes for cost in fp8)
    return _bytes_row(
        name=f"moved in {phase}",
        what=f"bytes that DeepSeek's GEMMs move at {tokens} tokens in FP8",
        measured=moved,
        unit="B",
        published=sum(t * speed.gbps * 1e9 for t, speed in zip(seconds, speeds, strict=True)),
        published_source=f"{_DEEPGEMM}; without scales",
        judged=moved / sum(cost.bytes for cost in bf16),
        why=f"Operands are FP8, but outputs stay BF16: in {phase} {percent_text(outputs)} of the bytes.",
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
            why="Every multiplication and addition is still done; what can halve is the time and the bytes "
            "of each.",
        )
    ]


def saved_time(device: Device) -> list[Claim]:
    """Time of a product, of a training step and of a token served: modelled over modelled, measured alike."""
    return [
        *(_product_time(device, *phase) for phase in _PHASES),
        _peaks(),
        _measured_gemm(),
        _ceiling(device),
        _training_step(device),
        _measured_step(),
        _token(device),
    ]


def _product_time(device: Device, tokens: int, phase: str) -> Claim:
    speeds, fp8, bf16 = _products(device, tokens)
    modelled = sum(cost.seconds for cost in fp8)
    published = None
    if device.name == "h800":
        published = sum(_measured_seconds(cost, speed) for cost, speed in zip(fp8, speeds, strict=True))
    gap = "" if published is None else f" DeepGEMM's kernels took {published / modelled:.2f} times as long."
    why = f"At the roofline, which no kernel reaches, FP8 over BF16.{gap}"
    if device.fp8 is None:
        why = f"{device.title} has no FP8 unit: only what is bound by memory gets faster."
    return _time_row(
        name=f"product in {phase}",
        what=f"time of DeepSeek's GEMMs at {tokens} tokens in FP8, modelled",
        basis="modelled",
        measured=modelled,
        unit="s",
        published=published,
        published_source=None if published is None else f"{_DEEPGEMM}: measured",
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
        what="time of a GEMM on an H100, best FP8 kernel over best BF16 kernel measured",
        basis="published",
        measured=None,
        unit="ratio",
        published=bf16.value / fp8.value,
        published_source=fp8.source,
        why=f"{fp8.value / 1e12:.1f} TFLOP/s in FP8 and {bf16.value / 1e12:.1f} in BF16, each the most that "
        "one program found over many shapes.",
    )


def _measured_gemm() -> Claim:
    (speed,) = (s for s in SPEEDUPS if "blocks as DeepSeek" in s.setting)
    return _published_speed(
        speed,
        "GEMM with quantising",
        "time of a layer's GEMMs with quantising on an H200, FP8 over BF16, both measured",
        "FP8 in blocks as DeepSeek's, quantising of the operands included.",
    )


def _measured_step() -> Claim:
    steps = [s for s in SPEEDUPS if s.end_to_end]
    low, best = min(s.low for s in steps), max(steps, key=lambda s: s.high)
    return _published_speed(
        best,
        "measured step",
        "time of a training step, FP8 over BF16: the largest gain measured",
        f"Of other models: {len(steps)} publications have speed-ups of {low:.2f} to {best.high:.2f}. "
        "DeepSeek's report measures none.",
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
        what="time of all of DeepSeek-V3 at context 4096 if FP8 GEMMs took exactly half",
        basis="counted",
        measured=1 / ceiling.speedup,
        unit="ratio",
        derived_from=f"flops counted from {_CONFIG}; Amdahl's law",
        why=f"{percent_text(ceiling.share)} of the forward flops are in FP8; the rest takes as long as "
        "before. Longer contexts gain less.",
    )


def _training_step(device: Device) -> Claim:
    batch = int(DEEPSEEK_V3["batch"].value)
    cost = model_cost(_MODEL, device=device, batch=batch)
    return _time_row(
        name="training step",
        what=f"time of a training step, {batch} x 4096 tokens, modelled, over BF16's",
        basis="modelled",
        measured=1 / cost.speedup,
        unit="ratio",
        derived_from=f"{_CONFIG}; {_REPORT}, 4.2: the batch",
        why="Rooflines of every product and quantising, unfused; no communication between GPUs.",
    )


def _token(device: Device) -> Claim:
    batch, context = 64, 4096
    cost = model_cost(_MODEL, device=device, phase="decode", batch=batch, seq_len=context)
    return _time_row(
        name="token served",
        what=f"time of a token for each of {batch} requests, {context} cached, modelled, over BF16's",
        basis="modelled",
        measured=1 / cost.speedup,
        unit="ratio",
        derived_from=_CONFIG,
        why="Reading the weights takes nearly all of it, and their bytes halve; as if one GPU held them all.",
    )


def _products(device: Device, tokens: int) -> tuple[list[GemmSpeed], list[GemmCost], list[GemmCost]]:
    """Return DeepSeek's own GEMM shapes at so many tokens: as published, under FP8 and under BF16."""
    speeds = [s for s in DEEPGEMM_H800 if s.m == tokens]
    fp8, bf16 = ([gemm_cost(s.m, s.n, s.k, name, device) for s in speeds] for name in (_MODEL, "bf16"))
    return speeds, fp8, bf16


def _measured_seconds(cost: GemmCost, speed: GemmSpeed) -> float:
    return cost.flops / (speed.tflops * 1e12)
