"""A model served under a recipe and in BF16: memory, fit, times and bytes between devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fp8sim.costs import Device
from fp8sim.models.caches import CacheFormat
from fp8sim.models.deployment import PLANS, Deployment, Plan, ServingMemory, ServingPart, listed, seconds_of
from fp8sim.models.description import Mixture, ModelDescription
from fp8sim.models.layers import inventory
from fp8sim.models.memory import expert_traffic
from fp8sim.recipes import Recipe

__all__ = ["Exchange", "Served", "ServingSide", "plans", "points"]

_MOST = 1 << 40  # sequences and tokens that are looked for


class Exchange(NamedTuple):
    """Bytes that a token makes a device send to others in a forward pass, under one plan."""

    plan: Plan
    bytes_per_token: float
    baseline_bytes_per_token: float


@dataclass(frozen=True)
class ServingSide:
    """A model served under one recipe: its memory, and its time where it fits.

    Times are NaN where it does not fit; `decode` and `prefill` say what they would be made of.
    """

    of: Deployment
    batch: int
    context: int

    @property
    def recipe(self) -> Recipe:
        """How its linear layers multiply."""
        return self.of.recipe

    @property
    def kv(self) -> CacheFormat:
        """How its cache is stored."""
        return self.of.kv

    @cached_property
    def memory(self) -> ServingMemory:
        """Bytes of a device by part."""
        return self.of.memory(self.batch, self.context)

    @property
    def fits(self) -> bool | None:
        """Whether it fits; None where the memory of the device is not known."""
        return self.of.fits(self.batch, self.context)

    @property
    def missing_bytes(self) -> float:
        """By how much a device is too small; 0 where it fits."""
        memory = self.of.device.memory
        return max(0.0, self.memory.total - memory.value) if memory else math.nan

    @cached_property
    def largest_batch(self) -> int | None:
        """Most sequences of this context that fit; None without a limit, or where none is known."""
        apart, cache = self.of.apart, self.of.cache_of(self.context)
        most = _largest(lambda many: self.of.fits(many * apart, self.context, cache) is not False)
        return None if most is None else most * self.of.apart

    @cached_property
    def largest_context(self) -> int | None:
        """Longest context at which this batch fits; None without a limit."""
        return _largest(lambda tokens: self.of.fits(self.batch, tokens) is not False)

    @cached_property
    def decode(self) -> tuple[ServingPart, ...]:
        """One token more in every sequence, by part, on a device."""
        return listed(self.of.decode(np.array([self.batch], np.float64), [self.context]))

    @cached_property
    def prefill(self) -> tuple[ServingPart, ...]:
        """Reading one prompt of the whole context, by part, on a device."""
        return listed(self.of.prefill([self.context]))

    @property
    def decode_seconds(self) -> float:
        """Seconds of a step that gives every sequence one token more."""
        return self._if_it_fits(sum(part.seconds for part in self.decode))

    @property
    def time_to_first_token(self) -> float:
        """Seconds to read a prompt of the whole context, nothing waiting before it."""
        return self._if_it_fits(sum(part.seconds for part in self.prefill))

    @property
    def tokens_per_second(self) -> float:
        """Tokens written a second and device."""
        return self.batch / self.decode_seconds / self.of.devices

    @property
    def prefill_tokens_per_second(self) -> float:
        """Tokens read a second and device."""
        return self.context / self.time_to_first_token / self.of.cut

    def _if_it_fits(self, seconds: float) -> float:
        return math.nan if self.fits is False else seconds


def _largest(fits: Callable[[int], bool]) -> int | None:
    """Return the largest whole number that fits, 0 if none, None if any does."""
    if fits(_MOST):
        return None
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Served:
    """What `ServingCost` works out; that one prints it."""

    ours: ServingSide
    baseline: ServingSide

    @property
    def model(self) -> ModelDescription:
        """The model."""
        return self.ours.of.model

    @property
    def device(self) -> Device:
        """What it is served on."""
        return self.ours.of.device

    @property
    def devices(self) -> int:
        """How many of them."""
        return self.ours.of.devices

    @property
    def plan(self) -> Plan:
        """How the model is cut across them."""
        return self.ours.of.plan

    @property
    def memory(self) -> ServingMemory:
        """Bytes of a device under the recipe."""
        return self.ours.memory

    @property
    def fits(self) -> bool | None:
        """Whether it fits under the recipe."""
        return self.ours.fits

    @property
    def speedup(self) -> float:
        """How many times as many tokens a second as in BF16; NaN where one of the two does not fit."""
        return self.ours.tokens_per_second / self.baseline.tokens_per_second

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Bytes between devices a token, under each plan that the model can be cut by."""
        return tuple(
            Exchange(plan, _sent(self.ours.of, plan), _sent(self.baseline.of, plan))
            for plan in plans(self.model)
        )


def points(of: Deployment, many: list[int], long: list[int]) -> Iterable[dict[str, Any]]:
    """Yield memory and times of every batch at every context, the batches of a context together."""
    batch = np.tile(np.array(many, np.float64), len(long))
    contexts = np.repeat(np.array(long, np.float64), len(many))
    caches = np.repeat(np.array([of.cache_of(context) for context in long]), len(many))
    total = np.broadcast_to(of.memory(batch, contexts, caches).total, batch.shape)
    each = [context for context in long for _ in many]
    step = np.broadcast_to(seconds_of(of.decode(batch, each)), batch.shape)
    first = np.repeat(np.broadcast_to(seconds_of(of.prefill(long)), (len(long),)), len(many))
    for one, bytes_, decode_s, first_s in zip(
        batch.tolist(), total.tolist(), step.tolist(), first.tolist(), strict=True
    ):
        fits = bytes_ <= of.device.memory.value if of.device.memory else None
        timed = fits is not False and not math.isnan(decode_s)
        yield {
            "fits": fits,
            "bytes": bytes_,
            "time_to_first_token_s": first_s if timed else None,
            "decode_s": decode_s if timed else None,
            "tokens_per_s_and_device": one / decode_s / of.devices if timed else None,
        }


def _sent(of: Deployment, plan: Plan) -> float:
    """Return the bytes that a token makes a device send in a forward pass.

    Cut by tensors, a sum over all devices after each attention and each feed-forward layer, as a ring:
    2 (d - 1) / d of the hidden state. Cut by experts, dispatch in the format of A and combine in the
    output format, to each expert that is elsewhere.
    """
    elsewhere = (of.devices - 1) / of.devices
    if plan == "expert":
        return elsewhere * sum(expert_traffic(inventory(of.model), of.recipe))
    sums = sum(s.layers * ((s.attention is not None) + (s.feed_forward is not None)) for s in of.model.stacks)
    return 2 * elsewhere * sums * of.model.hidden * of.recipe.output.bits / 8


def plans(model: ModelDescription) -> tuple[Plan, ...]:
    """Return the plans that a model can be cut by: experts where there are any."""
    routed = any(isinstance(ffn, Mixture) for ffn in model.feed_forwards)
    return PLANS if routed else PLANS[:1]
