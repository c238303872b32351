"""What a whole model costs under a recipe: bytes, flops, time and ceilings, beside a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from fp8sim._support import checks
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim.costs.devices import Device, DeviceLike, get_device
from fp8sim.costs.gemm import Traffic, operand_class
from fp8sim.models.builtin import ModelLike, get_model
from fp8sim.models.description import Latent, ModelDescription
from fp8sim.models.figures import model_dict
from fp8sim.models.layers import inventory
from fp8sim.models.matrices import COMPONENTS, Component, Inventory
from fp8sim.models.memory import (
    TrainingState,
    expert_traffic,
    kept_activations,
    kv_cache_bytes,
    training_states,
    weight_bytes,
)
from fp8sim.models.tables import model_tables, product_table
from fp8sim.models.timing import (
    PHASES,
    Phase,
    ProductTime,
    Workload,
    amdahl,
    product_times,
    quantize_bytes,
)
from fp8sim.recipes import Recipe, RecipeLike, get_recipe

__all__ = ["Ceiling", "ComponentCost", "ModelCost", "model_cost"]


class ComponentCost(NamedTuple):
    """One part of the model; flops are forward, a token; times are of the whole workload."""

    component: Component
    parameters: int
    active_parameters: int
    weights: Traffic
    baseline_weights: Traffic
    flops_per_token: float
    quantized_share: float  #: share of its flops that a recipe applies to
    seconds: float
    baseline_seconds: float


class Ceiling(NamedTuple):
    """The most that faster GEMMs can speed up the whole (Amdahl's law), everything else unchanged."""

    what: str  #: how much faster the GEMMs are taken to be
    share_of: str  #: what the share that gets faster is a share of: flops, or the baseline's time
    share: float
    gemm_speedup: float
    speedup: float
    source: str


@dataclass(frozen=True, repr=False)
class ModelCost(Result):
    """Bytes, flops and roofline time of a model under a recipe and under a baseline.

    Made by `model_cost`. Prints as tables: by component; totals beside the baseline;
    speed-ups; and, under 8-bit recipes, published speed-ups. `gemm_table` lists every product.

    Parameters
    ----------
    model : ModelDescription
        The model.
    recipe, baseline : Recipe
        How its linear layers multiply, and what ratios are taken to.
    device : Device
        Whose rooflines times are modelled on.
    work : Workload
        Phase, sequences and their length.
    absorbed : bool
        Whether MLA's up-projection is folded into its neighbours, as at inference.

    Examples
    --------
    >>> from fp8sim.models import model_cost
    >>> cost = model_cost("deepseek-v3")
    >>> cost.weight_bytes / cost.baseline_weight_bytes
    0.501582...
    >>> [(ceiling.what, round(ceiling.speedup, 3)) for ceiling in cost.ceilings[:1]]
    [('GEMMs exactly 2x', 1.743)]
    """

    model: ModelDescription
    recipe: Recipe
    baseline: Recipe
    device: Device
    work: Workload
    absorbed: bool

    @property
    def found(self) -> Inventory:
        """The model's matrices."""
        return inventory(self.model, absorbed=self.absorbed)

    @cached_property
    def weights(self) -> Mapping[Component, Traffic]:
        """Bytes of the weights by component."""
        return weight_bytes(self.found, self.recipe)

    @cached_property
    def baseline_weights(self) -> Mapping[Component, Traffic]:
        """Bytes of the baseline's weights by component."""
        return weight_bytes(self.found, self.baseline)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights, scales included."""
        return sum(part.total for part in self.weights.values())

    @property
    def weight_scale_bytes(self) -> int:
        """Bytes of the scales of the weights."""
        return sum(part.scales for part in self.weights.values())

    @property
    def baseline_weight_bytes(self) -> int:
        """Bytes of the baseline's weights."""
        return sum(part.total for part in self.baseline_weights.values())

    @property
    def kv_cache_bytes_per_token(self) -> int:
        """Bytes that a token caches over all layers."""
        return kv_cache_bytes(self.found, self.recipe)

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes cached for the whole batch at its full length."""
        return self.work.batch * self.work.seq_len * self.kv_cache_bytes_per_token

    @cached_property
    def activation_bytes_per_token(self) -> tuple[float, float]:
        """Bytes a token keeps for the backward pass: under the recipe, under the baseline."""
        recipe, baseline = (
            sum(tensor.bytes_per_token for tensor in kept_activations(self.found, used))
            for used in (self.recipe, self.baseline)
        )
        return recipe, baseline

    @property
    def training_states(self) -> tuple[TrainingState, ...]:
        """Baseline, the recipe with FP32 moments, and the recipe with BF16 moments."""
        return training_states(self.found, self.recipe, self.baseline)

    @property
    def expert_bytes_per_token(self) -> tuple[float, float]:
        """Bytes of dispatch and combine a token, forward: under the recipe, under the baseline."""
        return sum(expert_traffic(self.found, self.recipe)), sum(expert_traffic(self.found, self.baseline))

    @property
    def attention_flops_per_token(self) -> float:
        """Forward flops a token of the attention products."""
        return self.found.core.flops_per_token(self.work.keys)

    @property
    def forward_flops_per_token(self) -> float:
        """Forward flops a token: linear layers, head and router, attention."""
        return self.found.linear_flops + self.found.kept_flops + self.attention_flops_per_token

    @property
    def flops_per_token(self) -> float:
        """Flops a token of the phase: three times the forward pass in training."""
        return self.work.passes * self.forward_flops_per_token

    @property
    def quantized_flops_share(self) -> float:
        """Share of the flops in GEMMs that the recipe applies to."""
        return self.found.linear_flops / self.forward_flops_per_token

    @cached_property
    def times(self) -> list[ProductTime]:
        """Every product under the recipe, with its roofline time."""
        return product_times(self.found, self.recipe, self.work, self.device)

    @cached_property
    def baseline_times(self) -> list[ProductTime]:
        """The same under the baseline."""
        return product_times(self.found, self.baseline, self.work, self.device)

    @cached_property
    def quantize_bytes(self) -> float:
        """Bytes that quantising activations and gradients reads and writes, unfused."""
        return quantize_bytes(self.found, self.recipe, self.work)

    @property
    def quantize_seconds(self) -> float:
        """Seconds of quantising at the memory bandwidth."""
        return self.quantize_bytes / self.device.bandwidth.value

    @property
    def seconds(self) -> float:
        """Sum of the roofline times and of quantising."""
        return sum(part.seconds for part in self.times) + self.quantize_seconds

    @property
    def baseline_seconds(self) -> float:
        """Sum of the baseline's roofline times, and of quantising if it does."""
        moved = quantize_bytes(self.found, self.baseline, self.work)
        quantizing = moved / self.device.bandwidth.value
        return sum(part.seconds for part in self.baseline_times) + quantizing

    @property
    def speedup(self) -> float:
        """Modelled speed-up, quantising included."""
        return self.baseline_seconds / self.seconds

    @property
    def quantized_time_share(self) -> float:
        """Share of the baseline's roofline time in GEMMs that the recipe applies to."""
        quantized = sum(part.seconds for part in self.baseline_times if part.quantized)
        return quantized / sum(part.seconds for part in self.baseline_times)

    @property
    def ceilings(self) -> tuple[Ceiling, ...]:
        """Speed-ups if the quantised GEMMs alone get faster.

        By the ratio of bits, over forward flops and over the baseline's roofline time (few tokens
        wait for weights, whose bytes halve too); then over flops by the dense peaks of the device,
        and by the highest rates measured, where both are published.
        """
        bits = self.baseline.bits / self.recipe.bits
        exactly = f"GEMMs exactly {bits:g}x"
        over_flops = ("forward flops", self.quantized_flops_share)
        over_time = ("roofline time", self.quantized_time_share)
        recipe, baseline = operand_class(self.recipe), operand_class(self.baseline)
        fast, slow = self.device.rate(recipe), self.device.rate(baseline)
        rows = [
            (exactly, *over_flops, bits, "ratio of bits"),
            (exactly, *over_time, bits, "ratio of bits"),
            ("GEMMs at dense peaks", *over_flops, fast.flops / slow.flops, fast.source),
        ]
        measured = (self.device.measured_fp8, self.device.measured_bf16)
        if (recipe, baseline) == ("fp8", "bf16") and measured[0] and measured[1]:
            ratio = measured[0].value / measured[1].value
            rows.append(("GEMMs at measured peaks", *over_flops, ratio, measured[0].source))
        return tuple(
            Ceiling(what, of, share, ratio, _amdahl(share, ratio), source)
            for what, of, share, ratio, source in rows
        )

    @cached_property
    def components(self) -> tuple[ComponentCost, ...]:
        """One row for each component that the model has."""
        rows = (self._component(component) for component in COMPONENTS)
        return tuple(row for row in rows if row.parameters or row.flops_per_token)

    def _component(self, component: Component) -> ComponentCost:
        found = self.found
        gemms = [gemm for gemm in found.gemms if gemm.component == component]
        flops = float(sum(gemm.flops_per_token for gemm in gemms))
        quantized = sum(gemm.flops_per_token for gemm in gemms if gemm.quantized)
        if component == "attention core":
            flops = self.attention_flops_per_token
        seconds, baseline_seconds = (
            sum(part.seconds for part in parts if part.component == component)
            for parts in (self.times, self.baseline_times)
        )
        return ComponentCost(
            component,
            found.component_parameters(component),
            found.component_active(component),
            self.weights[component],
            self.baseline_weights[component],
            flops,
            quantized / flops if flops else 0.0,
            seconds,
            baseline_seconds,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as plain data, the unit in the key; times without a rate are None."""
        return model_dict(self)

    def parts(self) -> list[Table]:
        """Return the tables that it prints as."""
        return model_tables(self)

    def gemm_table(self) -> Table:
        """Return a table of every product: shape, count, formats, bytes and roofline time."""
        return product_table(self)

    def __repr__(self) -> str:
        """Return the tables as text."""
        return str(self)


def _amdahl(share: float, ratio: float) -> float:
    return math.nan if math.isnan(share) or math.isnan(ratio) else amdahl(share, ratio)


def model_cost(
    model: ModelLike,
    recipe: RecipeLike = "deepseek-v3",
    *,
    seq_len: int = 4096,
    batch: int = 1,
    phase: Phase = "training",
    device: DeviceLike = "h800",
    baseline: RecipeLike = "bf16",
    causal: bool | None = None,
    absorbed: bool | None = None,
) -> ModelCost:
    """Count what a model moves, holds and computes under a recipe, and how fast it could be.

    Parameters
    ----------
    model : str, path, mapping or ModelDescription
        A built-in name, a ``config.json``, or what one holds.
    recipe, baseline : str or Recipe
        How linear layers multiply; embedding, head, router, norms and attention products keep the
        output format (DeepSeek-V3 report, 3.3.1).
    seq_len : int
        Tokens a sequence; in decode, tokens already cached.
    batch : int
        Sequences.
    phase : {"training", "prefill", "decode"}
        What is computed; training is three times the forward flops.
    device : str or Device
        Whose peaks and bandwidth the roofline takes, as if it held the whole model.
    causal : bool, optional
        Whether a token attends to half of the sequence on average; by default so in a decoder.
    absorbed : bool, optional
        Whether latent attention works on cached latents; by default in decode only.

    Returns
    -------
    ModelCost
        Figures as attributes; prints as tables.

    Raises
    ------
    TypeError
        If a size is no whole number.
    ValueError
        If a size is not positive, a name is unknown, the configuration is malformed, or an encoder
        is asked to decode.

    Examples
    --------
    >>> cost = model_cost("deepseek-v3", seq_len=4096, phase="training")
    >>> f"{cost.flops_per_token / 1e9:.2f} GFLOP, {cost.quantized_flops_share:.1%} in FP8"
    '250.45 GFLOP, 85.3% in FP8'
    >>> f"{cost.weight_bytes / 1e9:.2f} GB against {cost.baseline_weight_bytes / 1e9:.2f} GB"
    '673.15 GB against 1342.05 GB'
    """
    description = get_model(model)
    checks.one_of(phase, PHASES, "phase")
    if phase == "decode" and not description.decoder:
        raise ValueError(f"{description} is an encoder, which does not decode; use phase='prefill'")
    work = Workload(
        phase,
        checks.positive_int(seq_len, "seq_len"),
        checks.positive_int(batch, "batch"),
        description.decoder if causal is None else bool(causal),
    )
    chosen, base = get_recipe(recipe), get_recipe(baseline)
    on_latents = phase == "decode" if absorbed is None else bool(absorbed)
    on_latents = on_latents and isinstance(description.attention, Latent)
    return ModelCost(description, chosen, base, get_device(device), work, on_latents)
