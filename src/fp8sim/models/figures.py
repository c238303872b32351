"""The figures of a model's cost as plain data, ready for JSON, the unit in the key."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fp8sim.models.tables import LEFT_OUT

if TYPE_CHECKING:
    from fp8sim.models.accounting import ComponentCost, ModelCost
    from fp8sim.models.memory import TrainingState
    from fp8sim.models.timing import ProductTime

__all__ = ["model_dict"]


def model_dict(cost: ModelCost) -> dict[str, Any]:
    """Return every figure of a model's cost; times without a rate are None."""
    work = cost.work
    return {
        "model": cost.model.name,
        "source": cost.model.source,
        "recipe": cost.recipe.name,
        "baseline": cost.baseline.name,
        "device": cost.device.name,
        "phase": work.phase,
        "seq_len": work.seq_len,
        "batch": work.batch,
        "causal": work.causal,
        "absorbed": cost.absorbed,
        **_counts(cost),
        **_bytes(cost),
        **_times(cost),
        "components": [_component(row) for row in cost.components],
        "products": [_product(part) for part in cost.times],
        "left_out": list(LEFT_OUT),
    }


def _counts(cost: ModelCost) -> dict[str, Any]:
    found = cost.found
    return {
        "parameters": found.parameters,
        "active_parameters": found.active_parameters,
        "active_parameters_without_embedding": found.active_without_embedding,
        "active_parameters_without_embedding_and_head": found.active_without_embedding_and_head,
        "quantized_parameters": found.quantized_parameters,
        "forward_flops_per_token": cost.forward_flops_per_token,
        "flops_per_token": cost.flops_per_token,
        "quantized_flops_share": cost.quantized_flops_share,
    }


def _bytes(cost: ModelCost) -> dict[str, Any]:
    activations, dispatch = cost.activation_bytes_per_token, cost.expert_bytes_per_token
    return {
        "weight_bytes": cost.weight_bytes,
        "weight_scale_bytes": cost.weight_scale_bytes,
        "baseline_weight_bytes": cost.baseline_weight_bytes,
        "kv_cache_bytes_per_token": cost.kv_cache_bytes_per_token,
        "kv_cache_bytes": cost.kv_cache_bytes,
        "activation_bytes_per_token": activations[0],
        "baseline_activation_bytes_per_token": activations[1],
        "expert_bytes_per_token": dispatch[0],
        "baseline_expert_bytes_per_token": dispatch[1],
        "quantize_bytes": cost.quantize_bytes,
        "training_states": [_state(state) for state in cost.training_states],
    }


def _times(cost: ModelCost) -> dict[str, Any]:
    return {
        "roofline_s": _number(cost.seconds),
        "quantize_s": cost.quantize_seconds,
        "baseline_roofline_s": _number(cost.baseline_seconds),
        "quantized_time_share": _number(cost.quantized_time_share),
        "speedup": _number(cost.speedup),
        "ceilings": [
            {
                "what": row.what,
                "share_of": row.share_of,
                "share": _number(row.share),
                "gemm_speedup": _number(row.gemm_speedup),
                "speedup": _number(row.speedup),
                "source": row.source,
            }
            for row in cost.ceilings
        ],
    }


def _state(state: TrainingState) -> dict[str, Any]:
    return {
        "what": state.what,
        "weight_bytes": state.weights,
        "master_bytes": state.master,
        "gradient_bytes": state.gradients,
        "moment_bytes": state.moments,
        "bytes": state.total,
    }


def _component(row: ComponentCost) -> dict[str, Any]:
    return {
        "component": row.component,
        "parameters": row.parameters,
        "active_parameters": row.active_parameters,
        "weight_bytes": row.weights.elements,
        "weight_scale_bytes": row.weights.scales,
        "baseline_weight_bytes": row.baseline_weights.total,
        "forward_flops_per_token": row.flops_per_token,
        "quantized_share": row.quantized_share,
        "roofline_s": _number(row.seconds),
        "baseline_roofline_s": _number(row.baseline_seconds),
    }


def _product(part: ProductTime) -> dict[str, Any]:
    return {
        "name": part.name,
        "component": part.component,
        "product": part.product,
        "m": part.m,
        "n": part.n,
        "k": part.k,
        "products": part.products,
        "formats": part.formats,
        "quantized": part.quantized,
        "flops": part.flops,
        "bytes": part.bytes,
        "compute_s": _number(part.compute_seconds),
        "memory_s": part.memory_seconds,
        "roofline_s": _number(part.seconds),
        "bound": part.bound,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
