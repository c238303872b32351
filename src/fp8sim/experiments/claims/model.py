"""The rows of `claims` about the whole of DeepSeek-V3: its weights, memory, flops and time."""

from __future__ import annotations

from fp8sim._support.published import DEEPSEEK_V3, SPEEDUPS
from fp8sim._support.quantities import percent_text
from fp8sim.experiments.claims.product import REPORT, Setting
from fp8sim.experiments.claims.verdicts import Claim, halving, remainder
from fp8sim.models import ModelCost, check_model, model_cost

__all__ = ["model_memory", "model_time"]

_MODEL = "deepseek-v3"


def model_memory(setting: Setting) -> list[Claim]:
    """Bytes of weights, training state and KV cache."""
    cost = model_cost(_MODEL, device=setting.device)
    before, fp8_only, after = (state.total for state in cost.training_states)
    cache, matrices = DEEPSEEK_V3["kv_cache"], cost.inventory
    return [
        remainder(
            "halved",
            "bytes of all weights of DeepSeek-V3",
            cost.weight_bytes / cost.baseline_weight_bytes,
            f"{REPORT}, 3.3.1: what stays BF16; DeepSeek-V3 README_WEIGHTS.md: the scales",
            f"{percent_text(matrices.quantized_parameters / matrices.parameters)} of the parameters are in "
            "FP8, and their scales add next to nothing.",
        ),
        remainder(
            "halved",
            "bytes of the training state",
            after / before,
            f"{REPORT}, 3.3.3, gives no figure",
            "Master weights and gradients stay FP32. Of what is saved "
            f"{percent_text((before - fp8_only) / (before - after))} is due to FP8; the rest is AdamW's "
            "moments in BF16.",
        ),
        Claim(
            "halved",
            "KV cache of a token",
            cost.kv_cache_bytes_per_token,
            cache.value * 1e3,
            "B",
            cache.source,
            "does not hold",
            "The cache stays BF16; it is small because of MLA, not because of FP8.",
        ),
    ]


def model_time(setting: Setting) -> list[Claim]:
    """Show what share of the flops FP8 touches, and what that allows."""
    rows = []
    for length, name in ((4096, "4K"), (32768, "32K"), (131072, "128K")):
        cost = model_cost(_MODEL, device=setting.device, seq_len=length)
        ceiling, share = cost.ceilings[0].speedup, cost.quantized_flops_share
        rows.append(
            Claim(
                "computational requirements",
                f"speed-up of all of DeepSeek-V3 at {name} if FP8 GEMMs ran exactly twice as fast",
                ceiling,
                None,
                "ratio",
                "Amdahl's law on flops counted from the published config.json",
                halving(1 / ceiling),
                f"{percent_text(share)} of the forward flops are in FP8; attention itself, head and router "
                "are not.",
                "speed-up",
            )
        )
    return [*rows, _training_step(setting), _flops()]


def _training_step(setting: Setting) -> Claim:
    """Rooflines of a training step at the published batch, against speed-ups that were measured."""
    batch = int(DEEPSEEK_V3["batch"].value)
    cost: ModelCost = model_cost(_MODEL, device=setting.device, batch=batch)
    measured = [s for s in SPEEDUPS if s.end_to_end]
    best = max(s.high for s in measured)
    return Claim(
        "computational requirements",
        f"modelled speed-up of a training step, {batch} x 4096 tokens, quantising included",
        cost.speedup,
        best,
        "ratio",
        f"the largest measured end to end: {max(measured, key=lambda s: s.high).source}",
        halving(1 / min(cost.speedup, best)),
        f"Measured speed-ups of whole training runs lie between {min(s.low for s in measured):.2f} and "
        f"{best:.2f}; the report itself measures none.",
        "speed-up",
    )


def _flops() -> Claim:
    """Close the count that the rows above rest on against the published one."""
    (row,) = [r for r in check_model(_MODEL).rows if r.unit == "GFLOP"]
    return Claim(
        "computational requirements",
        "training flops of a token of DeepSeek-V3 at 4096, in GFLOP",
        row.ours,
        row.published,
        "",
        row.source,
        "does not hold",
        "As many under FP8 as under BF16. Our count closes against the published one.",
    )
