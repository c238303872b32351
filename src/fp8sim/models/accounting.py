"""The figures of a whole model under a recipe: bytes, flops, time and ceilings, beside a baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from fp8sim._support import checks
from fp8sim.costs import Device, Traffic, operand_class
from fp8sim.models.description import ModelDescription
from fp8sim.models.layers import Inventory, inventory
from fp8sim.models.matrices import COMPONENTS, Component
from fp8sim.models.memory import (
    TrainingState,
    expert_traffic,
    kept_activations,
    kv_cache_bytes,
    training_states,
    weight_bytes,
)
from fp8sim.models.timing import ProductTime, Workload, amdahl, product_times, quantize_bytes
from fp8sim.recipes import Recipe

__all__ = ["Accounting", "Ceiling", "ComponentCost"]


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


@dataclass(frozen=True)
class Accounting:
    """What `ModelCost` counts; that one prints it."""

    model: ModelDescription
    recipe: Recipe
    baseline: Recipe
    device: Device
    work: Workload
    absorbed: bool

    def __post_init__(self) -> None:
        """Check the fields."""
        checks.fields(self)

    @property
    def inventory(self) -> Inventory:
        """The model's matrices."""
        return inventory(self.model, absorbed=self.absorbed)

    @cached_property
    def weights(self) -> Mapping[Component, Traffic]:
        """Bytes of the weights by component."""
        return weight_bytes(self.inventory, self.recipe)

    @cached_property
    def baseline_weights(self) -> Mapping[Component, Traffic]:
        """Bytes of the baseline's weights by component."""
        return weight_bytes(self.inventory, self.baseline)

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
    def kv_cache_bytes_per_token(self) -> float:
        """Bytes cached for a sequence at its full length, over its tokens; whole if all are kept."""
        bytes_, tokens = kv_cache_bytes(self.inventory, self.recipe, self.work.seq_len), self.work.seq_len
        return bytes_ / tokens if bytes_ % tokens else bytes_ // tokens

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes cached for the whole batch at its full length."""
        return self.work.batch * kv_cache_bytes(self.inventory, self.recipe, self.work.seq_len)

    @cached_property
    def activation_bytes_per_token(self) -> tuple[float, float]:
        """Bytes a token keeps for the backward pass: under the recipe, under the baseline."""
        return self._both(lambda *of: (tensor.bytes_per_token for tensor in kept_activations(*of)))

    @property
    def training_states(self) -> tuple[TrainingState, ...]:
        """Baseline, the recipe with FP32 moments, and the recipe with BF16 moments."""
        return training_states(self.inventory, self.recipe, self.baseline)

    @property
    def expert_bytes_per_token(self) -> tuple[float, float]:
        """Bytes of dispatch and combine a token, forward: under the recipe, under the baseline."""
        return self._both(expert_traffic)

    def _both(self, amounts: Callable[[Inventory, Recipe], Iterable[float]]) -> tuple[float, float]:
        return sum(amounts(self.inventory, self.recipe)), sum(amounts(self.inventory, self.baseline))

    @property
    def attention_flops_per_token(self) -> float:
        """Forward flops a token of the attention products."""
        return sum(core.flops_per_token(self.work.keys(core)) for core in self.inventory.cores)

    @property
    def forward_flops_per_token(self) -> float:
        """Forward flops a token: linear layers, head and router, attention."""
        return self.inventory.linear_flops + self.inventory.kept_flops + self.attention_flops_per_token

    @property
    def flops_per_token(self) -> float:
        """Flops a token of the phase: three times the forward pass in training."""
        return self.work.passes * self.forward_flops_per_token

    @property
    def quantized_flops_share(self) -> float:
        """Share of the flops in GEMMs that the recipe applies to."""
        return self.inventory.linear_flops / self.forward_flops_per_token

    @cached_property
    def times(self) -> list[ProductTime]:
        """Every product under the recipe, with its roofline time."""
        return product_times(self.inventory, self.recipe, self.work, self.device)

    @cached_property
    def baseline_times(self) -> list[ProductTime]:
        """The same under the baseline."""
        return product_times(self.inventory, self.baseline, self.work, self.device)

    @cached_property
    def quantize_bytes(self) -> float:
        """Bytes that quantising activations and gradients reads and writes, unfused."""
        return quantize_bytes(self.inventory, self.recipe, self.work)

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
        quantizing = quantize_bytes(self.inventory, self.baseline, self.work) / self.device.bandwidth.value
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
            Ceiling(what, of, share, ratio, amdahl(share, ratio), source)
            for what, of, share, ratio, source in rows
        )

    @cached_property
    def components(self) -> tuple[ComponentCost, ...]:
        """One row for each component that the model has."""
        rows = (self._component(component) for component in COMPONENTS)
        return tuple(row for row in rows if row.parameters or row.flops_per_token)

    def _component(self, component: Component) -> ComponentCost:
        matrices = self.inventory
        gemms = [gemm for gemm in matrices.gemms if gemm.component == component]
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
            matrices.component_parameters(component),
            matrices.component_active(component),
            self.weights[component],
            self.baseline_weights[component],
            flops,
            quantized / flops if flops else 0.0,
            seconds,
            baseline_seconds,
        )
