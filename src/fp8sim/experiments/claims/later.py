"""The rows on what came later: caches, flops and a checkpoint of DeepSeek-V4, beside V3.2 and BF16."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from fp8sim._support.published import MODEL_FIGURES, Figure
from fp8sim.experiments.claims.row import Claim
from fp8sim.experiments.claims.rules import HALVED
from fp8sim.models import Inventory, get_model, inventory
from fp8sim.models.memory import record_bytes
from fp8sim.models.reconciliation import equivalent_flops
from fp8sim.models.stored import stored_bytes

__all__ = ["later_bytes", "later_flops"]

_MILLION = 1 << 20  # tokens: the context that these figures are published for
_MODELS = {"deepseek-v4-flash": "V4-Flash", "deepseek-v4-pro": "V4-Pro"}


@cache
def _absorbed(name: str) -> Inventory:
    return inventory(get_model(name), absorbed=True)


def later_bytes() -> list[Claim]:
    """KV caches of V4 beside V3.2's, and its checkpoint; judged by what the formats leave of BF16's bytes."""
    return [*map(_cache, _MODELS), _checkpoint("deepseek-v4-flash")]


def _counted(model: str, of: str, *, published: Figure, **claim: Any) -> Claim:
    """Return a claim of what is counted of a model, beside the figure that is published of it."""
    beside: dict[str, Any] = {"published": published.value, "published_source": published.source}
    return Claim(name=f"{_MODELS[model]} {of}", basis="counted", rule=HALVED, **beside, **claim)


def _cache(name: str) -> Claim:
    before, after = (record_bytes(_absorbed(one), _MILLION) for one in ("deepseek-v3.2", name))
    bf16 = sum(2 * core.layers * core.kept(_MILLION) * core.cache_width for core in _absorbed(name).cores)
    return _counted(
        name,
        "cache",
        published=MODEL_FIGURES[name]["kv_ratio"],
        question="bytes",
        what=f"KV cache of DeepSeek-{_MODELS[name]} at 2^20 tokens: V3.2's over it",
        measured=before / after,
        unit="times",
        judged=after / bf16,
        why="Keys that stand for 4 or 128 tokens each make most of it; the formats, FP8 and an index in FP4, "
        f"leave {after / bf16:.2f} of what the same keys take in BF16.",
    )


def _checkpoint(name: str) -> Claim:
    model = get_model(name)
    total, bf16 = (
        sum(part.total for part in stored_bytes(one).values()) for one in (model, replace(model, stored=None))
    )
    return _counted(
        name,
        "checkpoint",
        published=MODEL_FIGURES[name]["checkpoint"],
        question="bytes",
        what=f"checkpoint of DeepSeek-{_MODELS[name]}",
        measured=total,
        unit="B",
        judged=total / bf16,
        why="Experts are in FP4, other linear layers in FP8: beyond the step that the sentence is about.",
    )


def later_flops() -> list[Claim]:
    """Flops of V4 beside V3.2's, as of FP8; judged by what the formats leave of BF16's."""
    return [*map(_flops, _MODELS)]


def _flops(name: str) -> Claim:
    before, after = (equivalent_flops(_absorbed(one), _MILLION) for one in ("deepseek-v3.2", name))
    one = _absorbed(name)
    cores = sum(core.flops_per_token(core.keys(_MILLION, half=False)) for core in one.cores)
    bf16 = 2 * (one.linear_flops + one.kept_flops + cores)
    return _counted(
        name,
        "flops",
        published=MODEL_FIGURES[name]["flops_ratio"],
        question="time",
        what=f"flops of a token of DeepSeek-{_MODELS[name]} after 2^20 others: V3.2's over them",
        measured=before / after,
        unit="times",
        judged=after / bf16,
        why="As the report counts: a flop in BF16 is two in FP8, one in FP4 a half. Fewer keys make most of "
        f"it; the formats leave {after / bf16:.2f} of the time that all of it takes in BF16.",
    )
