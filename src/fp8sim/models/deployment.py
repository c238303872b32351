"""A model on devices: the bytes of each and what a step takes of it, of numbers or of arrays of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fp8sim.costs import Device, formats_class, traffic
from fp8sim.costs.roofline import least_seconds
from fp8sim.formats import get_format
from fp8sim.models.caches import KV_CACHES, CacheFormat, Stream, streams
from fp8sim.models.description import Latent, ModelDescription
from fp8sim.models.layers import Inventory, inventory
from fp8sim.models.matrices import AttentionCore, Gemm
from fp8sim.models.memory import matrix_traffic, operands, state_bytes, weight_bytes
from fp8sim.models.timing import INDEX_FORMATS, Workload, quantize_bytes
from fp8sim.quantization import Operand
from fp8sim.recipes import Recipe

__all__ = [
    "PLANS",
    "Deployment",
    "Plan",
    "ServingMemory",
    "ServingPart",
    "Step",
    "deployment",
    "listed",
    "seconds_of",
]

#: How a model is cut across devices. ``tensor``: every matrix, and the cache by heads of keys and values;
#: what has one head, such as a latent, is on every device. ``expert``: routed experts, all else on every
#: device, which has sequences of its own (DeepSeek-V3 report, 3.4).
Plan: TypeAlias = Literal["tensor", "expert"]
PLANS: tuple[Plan, ...] = get_args(Plan)

_FLOATS: TypeAlias = NDArray[np.float64]

#: Part of a step -> flops, bytes, bytes of the cache, seconds, and those of them bound by compute; a place a
#: point each.
Step: TypeAlias = "dict[str, tuple[_FLOATS, ...]]"

_CHUNK = 8192  # tokens of a step of prefill, whose activations are held: an assumption
_PARTS = ("linear layers", "routed experts", "attention", "vocabulary", "quantising")


class ServingMemory(NamedTuple):
    """Bytes of one device."""

    weights: float
    cache: float
    state: float
    activations: float
    reserve: float

    @property
    def held(self) -> float:
        """What is there between steps: weights, cache and state."""
        return self.weights + self.cache + self.state

    @property
    def total(self) -> float:
        """All of it."""
        return self.held + self.activations + self.reserve


class ServingPart(NamedTuple):
    """What one part of a step takes on one device, as if it fitted."""

    name: str
    flops: float
    bytes: float
    cache_bytes: float  #: of them, cached keys and values, and states
    seconds: float
    bound: str  #: compute, memory, or cache where most of what is read is


class _Layers(NamedTuple):
    """Linear layers as arrays, a place for each kind."""

    part: tuple[str, ...]
    routed: NDArray[np.bool_]
    head: NDArray[np.bool_]
    experts: _FLOATS
    per_token: _FLOATS
    weights: _FLOATS  #: bytes of a set of weights, all layers and copies
    rows: _FLOATS  #: bytes that a row reads and writes
    flops: _FLOATS  #: of a token
    peak: _FLOATS


class _Attention(NamedTuple):
    """One kind of attention on a device, over all layers."""

    core: AttentionCore
    pair_flops: float  #: of a token and a key that it meets
    token_bytes: float  #: queries and outputs
    key_bytes: float  #: of a key that is read
    peak: float


def _layers(matrices: Inventory, recipe: Recipe, device: Device) -> _Layers:
    rows: list[tuple[Any, ...]] = []
    for gemm in matrices.gemms:
        a, b = operands(gemm, recipe)
        moved = _row_bytes(a, gemm.k) + gemm.n * gemm.copies * recipe.output.bits / 8
        weights = gemm.layers * gemm.copies * matrix_traffic(b, gemm.k, gemm.n).total
        peak = device.rate(formats_class(a.fmt, b.fmt)).flops
        head = gemm.component == "output head"
        part = "routed experts" if _routed(gemm) else "vocabulary" if head else "linear layers"
        counts = float(gemm.experts), float(gemm.per_token)
        rows.append(
            (part, _routed(gemm), head, *counts, weights, gemm.layers * moved, gemm.flops_per_token, peak)
        )
    columns = list(zip(*rows, strict=True))
    numbers = (np.array(column, np.float64) for column in columns[3:])
    return _Layers(columns[0], np.array(columns[1]), np.array(columns[2]), *numbers)


def _routed(gemm: Gemm) -> bool:
    return gemm.component == "routed experts" and gemm.experts > 1


@lru_cache(maxsize=4096)
def _row_bytes(operand: Operand, width: int) -> int:
    one, two = (traffic(operand, (rows, width)).total for rows in (1, 2))
    return two - one


@dataclass(frozen=True)
class Deployment:
    """A model under a recipe on so many devices: what batch and context are free of."""

    model: ModelDescription
    recipe: Recipe
    kv: CacheFormat
    device: Device
    devices: int
    plan: Plan
    reserve: float

    @property
    def apart(self) -> int:
        """Devices among which sequences are shared out."""
        return self.devices if self.plan == "expert" else 1

    @property
    def cut(self) -> int:
        """Devices among which dense matrices are."""
        return 1 if self.plan == "expert" else self.devices

    def sequences(self, batch: Any) -> Any:
        """Return how many sequences a device has, or has its part of."""
        return -(-batch // self.apart)

    @cached_property
    def _plain(self) -> Inventory:
        return inventory(self.model)

    # --- memory -----------------------------------------------------------------------------------

    @cached_property
    def _streams(self) -> tuple[Stream, ...]:
        return tuple(streams(self.model, self.kv))

    @cached_property
    def _weights(self) -> float:
        matrices = self._plain
        parts = {name: part.total for name, part in weight_bytes(matrices, self.recipe).items()}
        whole = sum(parts.values())
        if self.plan == "tensor":
            return whole / self.devices
        routed = parts["routed experts"]
        experts = max(gemm.experts for gemm in matrices.gemms if _routed(gemm))
        return whole - routed + routed * -(-experts // self.devices) / experts

    @cached_property
    def _state(self) -> float:
        return state_bytes(self._plain) / self.cut

    @cached_property
    def _activations(self) -> tuple[float, float]:
        """Bytes of activations of a token in prefill, and of a sequence."""
        model, out = self.model, self.recipe.output.bits / 8
        gemms = [gemm for gemm in self._plain.gemms if gemm.component != "output head"]
        widest = max(gemm.per_token * (gemm.k + gemm.n * gemm.copies) for gemm in gemms)
        rows = model.vocab if model.head is None else model.head
        return (2 * model.hidden + widest) * out, 4.0 * rows

    def _share(self, one: Stream) -> float:
        """Return the share of a stream of keys that a device has."""
        return -(-one.shards // min(self.cut, one.shards)) / one.shards

    @cached_property
    def _cached(self) -> list[tuple[AttentionCore, float]]:
        """What keys are cached, and the bytes of one of them on a device over all layers."""
        return [(one.core, one.layers * one.held * self._share(one)) for one in self._streams]

    def cache_of(self, context: int) -> float:
        """Return the bytes of a sequence's cache on a device."""
        return sum(core.kept(context) * each for core, each in self._cached)

    def memory(self, batch: Any, context: Any, cache: Any = None) -> ServingMemory:
        """Return the bytes of a device, of numbers or of arrays of them."""
        each, last = self._activations
        many, cached = self.sequences(batch), self.cache_of(context) if cache is None else cache
        smaller = (
            np.minimum(many * context, _CHUNK)
            if isinstance(many, np.ndarray)
            else min(many * context, _CHUNK)
        )
        capacity = self.device.memory.value if self.device.memory else 0.0
        return ServingMemory(
            self._weights, many * cached, many * self._state, smaller * each + many * last,
            self.reserve * capacity,
        )  # fmt: skip

    def fits(self, batch: int, context: int, cache: float | None = None) -> bool | None:
        """Return whether it fits; None where the memory of the device is not known.

        `cache` are the bytes of a sequence, where they are known already.
        """
        memory = self.device.memory
        return self.memory(batch, context, cache).total <= memory.value if memory else None

    # --- time -------------------------------------------------------------------------------------

    @cached_property
    def _absorbed(self) -> Inventory:
        latent = any(isinstance(kind, Latent) for kind in self.model.attentions)
        return inventory(self.model, absorbed=True) if latent else self._plain

    @cached_property
    def _decoding(self) -> _Layers:
        if self._absorbed is self._plain:
            return self._reading
        return _layers(self._absorbed, self.recipe, self.device)

    @cached_property
    def _reading(self) -> _Layers:
        return _layers(self._plain, self.recipe, self.device)

    @cached_property
    def _quantizing(self) -> tuple[float, float]:
        """Bytes that quantising a token takes on a device: in decoding, and in prefill."""
        tokens = 4096
        work = Workload("decode", seq_len=1, batch=tokens, causal=True)
        both = (self._plain,) if self._absorbed is self._plain else (self._absorbed, self._plain)
        each = [quantize_bytes(one, self.recipe, work) / tokens / self.cut for one in both]
        return each[0], each[-1]

    def _linear(
        self, layers: _Layers, tokens: _FLOATS, last: _FLOATS, everywhere: _FLOATS
    ) -> dict[str, _FLOATS]:
        """Return flops, bytes and seconds of the linear layers on a device: (points, layers) each.

        `tokens` of a device go through the layers, `last` of them through the output head, and those of all
        devices, `everywhere`, through experts that are shared out among these.
        """
        routed = layers.routed
        many = np.where(layers.head, last[:, None], tokens[:, None])
        together = np.where(routed, everywhere[:, None], many)
        share = np.where(routed, 1 / self.devices, 1 / self.cut)
        touched = layers.experts * (1 - (1 - layers.per_token / layers.experts) ** together)
        flops = together * layers.flops * share
        moved = (together * layers.per_token * layers.rows + touched * layers.weights) * share
        seconds = least_seconds(flops, moved, layers.peak, self.device.bandwidth.value)
        computing = flops / layers.peak >= moved / self.device.bandwidth.value
        return {"flops": flops, "bytes": moved, "seconds": seconds, "computing": computing}

    def _attention(self, one: Stream, read: float) -> _Attention:
        """Return what a token and a key of one kind of attention take on a device."""
        core, output = one.core, self.recipe.output
        fmt = get_format(INDEX_FORMATS[core.bits]) if core.bits in INDEX_FORMATS else output
        width = one.layers * core.heads * (core.qk_dim + core.v_dim) / self.cut
        peak = self.device.rate(formats_class(fmt, fmt)).flops
        return _Attention(core, 2 * width, width * fmt.bits / 8, one.layers * read * self._share(one), peak)

    @cached_property
    def _cores(self) -> list[_Attention]:
        return [self._attention(one, one.read) for one in self._streams]

    @cached_property
    def _fresh_cores(self) -> list[_Attention]:
        """In prefill what was just computed is read, not what is cached of it."""
        size, fresh = self.recipe.output.bits / 8, streams(self.model, KV_CACHES["bf16"], absorbed=False)
        return [self._attention(one, one.core.kv_width * size) for one in fresh]

    def decode(self, batch: _FLOATS, contexts: list[int]) -> Step:
        """Return flops, bytes, bytes of the cache, seconds, and those of them bound by compute, by part."""
        tokens = np.asarray(self.sequences(batch), np.float64)
        everywhere = np.asarray(batch, np.float64)
        parts = self._by_part(self._decoding, tokens, tokens, everywhere, self._quantizing[0])
        for one in self._cores:
            keys = np.array([one.core.keys(context, half=False) for context in contexts], np.float64)
            read = tokens * keys * one.key_bytes
            self._add(parts, one, tokens * keys, tokens * one.token_bytes + read, read)
        return parts

    def prefill(self, contexts: list[int]) -> Step:
        """Return the same of one prompt on every device, or on all of them together."""
        tokens = np.array(contexts, np.float64)
        last, everywhere = np.ones_like(tokens), tokens * self.apart
        parts = self._by_part(self._reading, tokens, last, everywhere, self._quantizing[1])
        for one in self._fresh_cores:
            keys = np.array([one.core.keys(context, half=True) for context in contexts], np.float64)
            whole = np.array([one.core.fixed or n // one.core.ratio for n in contexts], np.float64)
            self._add(parts, one, tokens * keys, tokens * one.token_bytes + whole * one.key_bytes, 0 * tokens)
        return parts

    def _add(self, parts: Step, one: _Attention, pairs: _FLOATS, moved: _FLOATS, cached: _FLOATS) -> None:
        """Add one kind of attention to its part."""
        flops = pairs * one.pair_flops
        seconds = least_seconds(flops, moved, one.peak, self.device.bandwidth.value)
        figures = flops, moved, cached, seconds, seconds * (flops / one.peak >= seconds)
        before = parts.get("attention")
        both = figures if before is None else tuple(a + b for a, b in zip(before, figures, strict=True))
        parts["attention"] = both

    def _by_part(
        self, layers: _Layers, tokens: _FLOATS, last: _FLOATS, everywhere: _FLOATS, quantizing: float
    ) -> Step:
        every = self._linear(layers, tokens, last, everywhere)
        parts: Step = {}
        for name in _PARTS[:2] + _PARTS[3:4]:
            here = np.array([part == name for part in layers.part])
            if here.any():
                flops, moved, seconds = (every[key][:, here].sum(1) for key in ("flops", "bytes", "seconds"))
                computing = (every["seconds"] * every["computing"])[:, here].sum(1)
                parts[name] = (flops, moved, 0 * moved, seconds, computing)
        if quantizing:
            moved = tokens * quantizing
            zero = 0 * moved
            parts["quantising"] = (zero, moved, zero, moved / self.device.bandwidth.value, zero)
        return parts


def listed(parts: Step) -> tuple[ServingPart, ...]:
    """Return the parts of the first point."""
    found = []
    for name in _PARTS:
        if name not in parts:
            continue
        flops, moved, cached, seconds, computing = (float(figure[0]) for figure in parts[name])
        by = "compute" if computing > seconds / 2 else "cache" if cached > moved / 2 else "memory"
        known = by if seconds == seconds else "unknown"
        found.append(ServingPart(name, flops, moved, cached, seconds, known))
    return tuple(found)


def seconds_of(parts: Step) -> _FLOATS:
    """Return the seconds of a step, of each point."""
    return sum((figures[3] for figures in parts.values()), np.zeros(1))


@lru_cache(maxsize=64)
def deployment(*of: Any) -> Deployment:
    """Return a deployment, what is worked out of it kept for other batches and contexts."""
    return Deployment(*of)
