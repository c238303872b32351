"""The rows on what came later: caches, flops and a checkpoint of DeepSeek-V4, beside V3.2 and BF16."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from fp8sim._support.published import MODEL_FIGURES
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


def _cache(name: str) -> Claim:
    before, after = (record_bytes(_absorbed(one), _MILLION) for one in ("deepseek-v3.2", name))
    bf16 = sum(2 * core.layers * core.kept(_MILLION) * core.cache_width for core in _absorbed(name).cores)
    published = MODEL_FIGURES[name]["kv_ratio"]
    return Claim(
        name=f"{_MODELS[name]} cache",
        question="bytes",
        what=f"KV cache of DeepSeek-{_MODELS[name]} at 2^20 tokens: V3.2's over it",
        basis="counted",
        measured=before / after,
        unit="times",
        published=published.value,
        published_source=published.source,
        judged=after / bf16,
        rule=HALVED,
        why="Keys that stand for 4 or 128 tokens each make most of it; the formats, FP8 and an index in FP4, "
        f"leave {after / bf16:.2f} of what the same keys take in BF16.",
    )


def _checkpoint(name: str) -> Claim:
    model = get_model(name)
    total, bf16 = (
        sum(part.total for part in stored_bytes(one).values()) for one in (model, replace(model, stored=None))
    )
    published = MODEL_FIGURES[name]["checkpoint"]
    return Claim(
        name=f"{_MODELS[name]} checkpoint",
        question="bytes",
        what=f"checkpoint of DeepSeek-{_MODELS[name]}",
        basis="counted",
        measured=total,
        unit="B",
        published=published.value,
        published_source=published.source,
        judged=total / bf16,
        rule=HALVED,
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
    published = MODEL_FIGURES[name]["flops_ratio"]
    return Claim(
        name=f"{_MODELS[name]} flops",
        question="time",
        what=f"flops of a token of DeepSeek-{_MODELS[name]} after 2^20 others: V3.2's over them",
        basis="counted",
        measured=before / after,
        unit="times",
        published=published.value,
        published_source=published.source,
        judged=after / bf16,
        rule=HALVED,
        why="As the report counts: a flop in BF16 is two in FP8, one in FP4 a half. Fewer keys make most of "
        f"it; the formats leave {after / bf16:.2f} of the time that all of it takes in BF16.",
    )
