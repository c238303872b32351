"""A bar picture of a model's cost: how much of each kind of byte, flop and second is in which format."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fp8sim.models.accounting import ModelCost
from fp8sim.models.memory import expert_traffic, kept_activations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bar_shares", "plot_model"]


def bar_shares(cost: ModelCost) -> dict[str, dict[str, float]]:
    """Return what the picture shows: each quantity in units of the baseline's, split in parts.

    Parameters
    ----------
    cost : ModelCost
        A model's cost.

    Returns
    -------
    dict of dict of float
        Quantity -> part -> share of the baseline's whole; the parts of a quantity that halves sum
        to 0.5. Times without a rate are left out.

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
    name, kept = str(cost.recipe), f"kept in {cost.recipe.output}"
    quantized = {gemm.component for gemm in cost.found.gemms if gemm.quantized}
    weights = sum(part.total for component, part in cost.weights.items() if component in quantized)
    rest = cost.weight_bytes - weights
    before, _, state = cost.training_states
    shares = {
        "weights": _over(cost.baseline_weight_bytes, {name: weights, kept: rest}),
        "training state": _over(
            before.total,
            {
                "weights": state.weights,
                "FP32 master": state.master,
                "FP32 gradients": state.gradients,
                "BF16 moments": state.moments,
            },
        ),
        "kept for backward": _over(cost.activation_bytes_per_token[1], _activations(cost, name, kept)),
        "dispatch and combine": _over(
            cost.expert_bytes_per_token[1],
            dict(zip((name, kept), expert_traffic(cost.found, cost.recipe), strict=True)),
        ),
        "KV cache": {kept: 1.0 if cost.kv_cache_bytes_per_token else 0.0},
        "FLOPs": {name: cost.quantized_flops_share, kept: 1 - cost.quantized_flops_share},
    }
    if not math.isnan(cost.seconds):
        fast = sum(part.seconds for part in cost.times if part.quantized)
        slow = cost.seconds - fast - cost.quantize_seconds
        parts = {name: fast, kept: slow, "quantising": cost.quantize_seconds}
        shares["time"] = _over(cost.baseline_seconds, parts)
    return {quantity: parts for quantity, parts in shares.items() if sum(parts.values())}


def _over(whole: float, parts: dict[str, float]) -> dict[str, float]:
    return {part: value / whole if whole else 0.0 for part, value in parts.items()}


def _activations(cost: ModelCost, name: str, kept: str) -> dict[str, float]:
    parts = {name: 0.0, "e5m6": 0.0, kept: 0.0}
    for tensor in kept_activations(cost.found, cost.recipe):
        stored = tensor.stored
        part = name if stored == cost.recipe.a else "e5m6" if stored.fmt.name == "e5m6" else kept
        parts[part] += tensor.bytes_per_token
    return parts


def plot_model(cost: ModelCost) -> Figure:
    """Draw one bar a quantity, in units of the baseline's; needs the ``plot`` extra.

    Parameters
    ----------
    cost : ModelCost
        A model's cost.

    Returns
    -------
    matplotlib.figure.Figure
        Not shown and on no display; ``figure.savefig("cost.png")`` writes it.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed; the message says what to install.

    Examples
    --------
    >>> from fp8sim.models import model_cost
    >>> figure = plot_model(model_cost("llama-3.1-8b"))
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['weights', 'training state', 'kept for backward', 'KV cache', 'FLOPs', 'time']
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'fp8sim[plot]'") from None
    shares = bar_shares(cost)
    figure = Figure(figsize=(8, 0.5 * len(shares) + 1.5), layout="constrained")
    axes: Any = figure.add_subplot()
    colours = {"weights": "C0", "quantising": "C3", "e5m6": "C2", str(cost.recipe): "C0"}
    for row, parts in enumerate(shares.values()):
        left = 0.0
        for part, share in parts.items():
            colour = colours.get(part, "C1" if part.startswith("kept") else "0.7")
            axes.barh(row, share, left=left, color=colour, edgecolor="white")
            if share > 0.14:
                axes.text(left + share / 2, row, part, ha="center", va="center", fontsize=8)
            left += share
        axes.text(left + 0.01, row, f"{left:.2f}", va="center", fontsize=9)
    axes.set_yticks(range(len(shares)), list(shares))
    axes.invert_yaxis()
    axes.axvline(0.5, color="grey", linestyle=":")
    axes.axvline(1.0, color="grey")
    axes.set_xlim(0, 1.15)
    axes.set_xlabel(f"share of {cost.baseline}'s (dotted: half)")
    axes.set_title(f"{cost.model} in {cost.recipe}: {cost.work.phase} on {cost.device}")
    return figure
