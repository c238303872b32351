"""The bytes of a checkpoint as it is stored, by the formats that its quantization_config names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from fp8sim.costs import Traffic, traffic
from fp8sim.formats import get_format
from fp8sim.models.description import ModelDescription, Stored
from fp8sim.models.layers import Inventory, inventory, mtp_inventory
from fp8sim.models.matrices import COMPONENTS, Component, Gemm
from fp8sim.quantization import Operand

__all__ = ["stored_bytes"]

_BF16 = get_format("bf16")

# Name of a GEMM -> what `transformers` calls the modules; of a component, those of the others.
_MODULES = {
    **{"wq": "self_attn.q_proj", "wk, wv": "self_attn.k_proj", "wk": "self_attn.k_proj"},
    **{"wv": "self_attn.v_proj", "wo": "self_attn.o_proj", "wq_a": "self_attn.q_a_proj"},
    **{"wq_b": "self_attn.q_b_proj", "wkv_a": "self_attn.kv_a_proj_with_mqa"},
    **{"wkv_b": "self_attn.kv_b_proj", "index wq": "self_attn.indexer.wq_b"},
    **{"index wk": "self_attn.indexer.wk", "w1, w3": "mlp.gate_proj", "w1": "mlp.up_proj"},
    **{"w2": "mlp.down_proj", "output gate": "self_attn.q_proj"},
}
_COMPONENTS: dict[Component, tuple[str, ...]] = {
    "attention": ("self_attn.other", "linear_attn.other", "mixer.other"),
    "index": ("self_attn.indexer.other",),
    "routed experts": ("mlp.experts.0.gate_proj", "block_sparse_moe.experts.0.w1"),
    "shared experts": ("mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj"),
}


def stored_bytes(model: ModelDescription) -> dict[Component, Traffic]:
    """Return the bytes of a checkpoint by component, scales apart, multi-token modules with the rest.

    Linear layers in the formats of its `Stored`, modules that are named there and all else in BF16, but
    for parameters that stay in FP32 and tables that pick experts, in 8-byte integers. Without a
    ``quantization_config`` all is BF16. Headers of files are not counted. Of a model that is described by the
    headers of its checkpoint, the bytes are those.

    Examples
    --------
    >>> from fp8sim.models import get_model
    >>> parts = stored_bytes(get_model("deepseek-v4-flash"))
    >>> sum(part.total for part in parts.values())
    159609485896
    """
    totals = dict.fromkeys(COMPONENTS, (0, 0))
    for row in model.tensors:
        elements, scales = totals[row.component]
        totals[row.component] = elements + row.elements, scales + row.scales
    if any(sum(both) for both in totals.values()):
        return {component: Traffic(*both) for component, both in totals.items()}
    wholes = [inventory(model), *[mtp_inventory(model)] * model.mtp_layers]
    for whole in wholes:
        for component, part in _parts(whole, model.stored):
            elements, scales = totals[component]
            totals[component] = elements + part.elements, scales + part.scales
    return {component: Traffic(*both) for component, both in totals.items()}


def _parts(whole: Inventory, stored: Stored | None) -> Iterator[tuple[Component, Traffic]]:
    for gemm in whole.gemms:
        one = traffic(_operand(gemm, stored), (gemm.k, gemm.n), axis=0)
        count = gemm.count * gemm.stored
        yield gemm.component, Traffic(count * one.elements, count * one.scales)
    for vector in whole.vectors:
        yield vector.component, Traffic(vector.parameters * (4 if vector.fp32 else 2), 0)
    for ffn, layers in whole.model.feed_forwards.items():
        rows = getattr(ffn, "hash_rows", 0)
        if rows:
            yield "router", Traffic(8 * layers * rows * getattr(ffn, "per_token", 0), 0)


def _operand(gemm: Gemm, stored: Stored | None) -> Operand:
    fp32 = gemm.component == "residual streams"  # DeepSeek-V4 inference/model.py
    if stored is None or not gemm.quantized or any(_kept(module, stored.kept) for module in _modules(gemm)):
        return Operand(get_format("fp32") if fp32 else _BF16)
    return stored.experts if stored.experts and gemm.component == "routed experts" else stored.linear


def _modules(gemm: Gemm) -> tuple[str, ...]:
    if "." in gemm.name:  # that of a tensor
        return (gemm.name.removesuffix(".weight").replace("*", "0").partition("layers.0.")[2],)
    named = _MODULES.get(gemm.name)
    return (named,) if named else _COMPONENTS.get(gemm.component, ())


def _kept(module: str, patterns: tuple[str, ...]) -> bool:
    """Whether a module is among those that are not quantised: named, under one that is, or matched."""
    whole = f"model.layers.0.{module}"
    for pattern in patterns:
        if pattern.startswith("re:"):
            try:
                if re.match(pattern[3:], whole):
                    return True
            except re.error:
                continue
        else:
            plain = re.sub(r"\.\d+\.", ".0.", pattern.replace("language_model.", "").replace(".*.", ".0."))
            if fnmatchcase(whole, plain) or whole.startswith(f"{plain}."):
                return True
    return False
