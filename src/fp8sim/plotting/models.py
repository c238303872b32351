"""A bar picture of a model's cost: how much of each kind of byte, flop and second is in which format."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from fp8sim._support.quantities import ratio_text
from fp8sim.models import ModelCost
from fp8sim.models.memory import expert_traffic, kept_activations
from fp8sim.plotting._style import load, stacked_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bar_shares", "plot_model"]


def bar_shares(cost: ModelCost) -> dict[str, dict[str, float]]:
    """Return what the picture shows: quantity -> part -> share of the baseline's whole.

    The parts of a quantity that halves sum to 0.5. Times without a rate are left out.

    Examples
    --------
    >>> from fp8sim.models import model_cost
    >>> shares = bar_shares(model_cost("deepseek-v3", batch=15360))
    >>> for quantity, parts in shares.items():
    ...     print(f"{quantity:15} {sum(parts.values()):.2f}")
    weights         0.50
    training state  0.72
    kept for backward 0.59
    dispatch and combine 0.76
    KV cache        1.00
    FLOPs           1.00
    time            0.64
    """
    name, rest = str(cost.recipe), f"kept in {cost.recipe.output}"
    quantized = {gemm.component for gemm in cost.inventory.gemms if gemm.quantized}
    weights = sum(part.total for component, part in cost.weights.items() if component in quantized)
    before, _, state = cost.training_states
    shares = {
        "weights": _over(cost.baseline_weight_bytes, {name: weights, rest: cost.weight_bytes - weights}),
        "training state": _over(
            before.total,
            {
                "weights": state.weights,
                "FP32 master": state.master,
                "FP32 gradients": state.gradients,
                "BF16 moments": state.moments,
            },
        ),
        "kept for backward": _over(cost.activation_bytes_per_token[1], _activations(cost, name, rest)),
        "dispatch and combine": _over(
            cost.expert_bytes_per_token[1],
            dict(zip((name, rest), expert_traffic(cost.inventory, cost.recipe), strict=True)),
        ),
        "KV cache": {rest: 1.0 if cost.kv_cache_bytes_per_token else 0.0},
        "FLOPs": {name: cost.quantized_flops_share, rest: 1 - cost.quantized_flops_share},
    }
    if not math.isnan(cost.seconds):
        fast = sum(part.seconds for part in cost.times if part.quantized)
        slow = cost.seconds - fast - cost.quantize_seconds
        parts = {name: fast, rest: slow, "quantising": cost.quantize_seconds}
        shares["time"] = _over(cost.baseline_seconds, parts)
    return {quantity: parts for quantity, parts in shares.items() if sum(parts.values())}


def _over(whole: float, parts: dict[str, float]) -> dict[str, float]:
    return {part: value / whole if whole else 0.0 for part, value in parts.items()}


def _activations(cost: ModelCost, name: str, rest: str) -> dict[str, float]:
    parts = {name: 0.0, "e5m6": 0.0, rest: 0.0}
    for tensor in kept_activations(cost.inventory, cost.recipe):
        stored = tensor.stored
        part = name if stored == cost.recipe.a else "e5m6" if stored.fmt.name == "e5m6" else rest
        parts[part] += tensor.bytes_per_token
    return parts


def plot_model(cost: ModelCost) -> Figure:
    """Draw one bar a quantity, in units of the baseline's, in a figure that is on no display.

    Examples
    --------
    >>> from fp8sim.models import model_cost
    >>> figure = plot_model(model_cost("llama-3.1-8b"))
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['weights', 'training state', 'kept for backward', 'KV cache', 'FLOPs', 'time']
    """
    shares, rest = bar_shares(cost), f"kept in {cost.recipe.output}"
    figure: Figure = load("figure").Figure(figsize=(8, 0.5 * len(shares) + 1.5), layout="constrained")
    axes: Any = figure.add_subplot()
    colours = {str(cost.recipe): "C0", "e5m6": "C2", rest: "C1", "quantising": "C3", "weights": "C0"}
    colours |= dict.fromkeys(("FP32 master", "FP32 gradients", "BF16 moments"), "0.7")
    stacked_bars(axes, shares, {part: {"color": c, "edgecolor": "white"} for part, c in colours.items()})
    for row, parts in enumerate(shares.values()):
        ends = list(accumulate(parts.values(), initial=0.0))
        for (part, share), left in zip(parts.items(), ends[:-1], strict=True):
            if share > 0.14:  # room for its name
                axes.text(left + share / 2, row, part, ha="center", va="center", fontsize=8)
        axes.text(ends[-1] + 0.01, row, ratio_text(ends[-1], 2), va="center", fontsize=9)
    axes.axvline(0.5, color="grey", linestyle=":")
    axes.axvline(1.0, color="grey")
    axes.set_xlim(0, 1.15)
    axes.set_xlabel(f"share of {cost.baseline}'s (dotted: half)")
    axes.set_title(f"{cost.model} in {cost.recipe}: {cost.work.phase} on {cost.device}")
    return figure
