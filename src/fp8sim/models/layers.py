"""From a description to its matrices: what each kind of layer multiplies, by what, and the totals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from fp8sim.models import tensors
from fp8sim.models.description import FeedForward, Mixture, ModelDescription
from fp8sim.models.matrices import AttentionCore, Component, Gemm, Vector

__all__ = ["Inventory", "inventory", "mtp_inventory", "mtp_parameters"]


@dataclass(frozen=True)
class Inventory:
    """All of a model's matrices.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> matrices = inventory(get_model("deepseek-v3"))
    >>> matrices.parameters, matrices.quantized_parameters
    (671026419200, 669065609216)
    """

    model: ModelDescription
    gemms: tuple[Gemm, ...]
    vectors: tuple[Vector, ...]
    cores: tuple[AttentionCore, ...]

    @property
    def core(self) -> AttentionCore:
        """The attention products that come first."""
        return self.cores[0]

    @property
    def _items(self) -> tuple[Gemm | Vector, ...]:
        return (*self.gemms, *self.vectors)

    @property
    def parameters(self) -> int:
        """Parameters of the model, multi-token prediction modules apart."""
        return sum(item.parameters for item in self._items)

    @property
    def quantized_parameters(self) -> int:
        """Parameters that a recipe applies to."""
        return sum(gemm.parameters for gemm in self.gemms if gemm.quantized)

    @property
    def active_parameters(self) -> int:
        """Parameters that a token meets, embedding and output head included.

        A head that is tied to the embedding counts once, as it is stored.
        """
        gemms = sum(gemm.active_parameters for gemm in self.gemms if gemm.stored)
        return gemms + sum(vector.parameters for vector in self.vectors)

    @property
    def active_without_embedding(self) -> int:
        """Parameters that a token meets in products and norms: all but the embedding."""
        return self.active_parameters - self.component_parameters("embedding")

    @property
    def active_without_embedding_and_head(self) -> int:
        """Parameters that a token meets in the layers and the final norm."""
        return self.active_without_embedding - self.component_parameters("output head")

    def component_parameters(self, component: Component) -> int:
        """Return the parameters of one component."""
        return sum(item.parameters for item in self._items if item.component == component)

    def component_active(self, component: Component) -> int:
        """Return the parameters of one component that a token meets."""
        gemms = (gemm for gemm in self.gemms if gemm.component == component and gemm.stored)
        vectors = (vector for vector in self.vectors if vector.component == component)
        return sum(gemm.active_parameters for gemm in gemms) + sum(v.parameters for v in vectors)

    @property
    def linear_flops(self) -> int:
        """Forward flops a token of the GEMMs that a recipe applies to."""
        return sum(gemm.flops_per_token for gemm in self.gemms if gemm.quantized)

    @property
    def kept_flops(self) -> int:
        """Forward flops a token of the GEMMs that keep their precision: head, router and the like."""
        return sum(gemm.flops_per_token for gemm in self.gemms if not gemm.quantized)


@lru_cache(maxsize=64)
def inventory(model: ModelDescription, *, absorbed: bool = False) -> Inventory:
    """List every GEMM of a model, its other parameters and its attention products.

    What a recipe applies to follows the DeepSeek-V3 report, 3.3.1: every linear layer of attention
    and feed-forward parts. Embedding, output head, router, norms and the attention products keep
    their precision.

    Parameters
    ----------
    model : ModelDescription
        The shapes.
    absorbed : bool
        Whether latent attention works on the cached latents, its up-projection absorbed into
        queries and outputs and so kept in higher precision (DeepSeek-V3 ``inference/model.py``,
        ``attn_impl = "absorb"``). No effect on other attention.

    Returns
    -------
    Inventory
        GEMMs, vectors and the attention core.

    Examples
    --------
    >>> from fp8sim.models import get_model
    >>> for gemm in inventory(get_model("qwen2.5-0.5b")).gemms:
    ...     print(f"{gemm.name:12} {gemm.n} x {gemm.k}, {gemm.count} of them")
    wq           896 x 896, 24 of them
    wk, wv       128 x 896, 48 of them
    wo           896 x 896, 24 of them
    w1, w3       4864 x 896, 48 of them
    w2           896 x 4864, 24 of them
    output head  151936 x 896, 1 of them
    """
    hidden = model.hidden
    cores = tuple(
        replace(core, layers=layers)
        for attention, layers in model.attentions.items()
        for core in attention.cores(absorbed=absorbed)
    )
    if model.tensors:
        listed = [*tensors.gemms(model.tensors), *(_output_head(model) if model.tied else ())]
        return Inventory(model, tuple(listed), tuple(tensors.vectors(model.tensors)), cores)
    gemms: list[Gemm] = []
    for which, (attention, layers) in enumerate(model.attentions.items()):
        gemms += _of_layers(attention.gemms(hidden, absorbed=absorbed), layers, which)
    for which, (ffn, layers) in enumerate(model.feed_forwards.items()):
        of = _dense_gemms(ffn, hidden) if isinstance(ffn, FeedForward) else _expert_gemms(ffn, hidden)
        gemms += _of_layers(of, layers, which)
    gemms += _model_gemms(model)
    return Inventory(model, tuple(gemms), tuple(_vectors(model)), cores)


def _of_layers(gemms: Iterator[Gemm], layers: int, which: int) -> Iterator[Gemm]:
    """Yield the GEMMs of a kind of layer: what they read is another tensor than that of other kinds."""
    for gemm in gemms:
        yield replace(gemm, layers=layers, reads=f"{gemm.reads} {which + 1}" if which else gemm.reads)


def _dense_gemms(ffn: FeedForward, hidden: int) -> Iterator[Gemm]:
    up, copies = ("w1, w3", 2) if ffn.gated else ("w1", 1)
    yield Gemm(up, "dense FFN", ffn.width, hidden, "FFN input", copies=copies)
    yield Gemm("w2", "dense FFN", hidden, ffn.width, "FFN hidden")


def _expert_gemms(ffn: Mixture, hidden: int) -> Iterator[Gemm]:
    up, copies = ("w1, w3", 2) if ffn.gated else ("w1", 1)
    x, inside = ("MoE input", hidden) if ffn.latent is None else ("MoE latent", ffn.latent)
    experts = Gemm(
        *(f"expert {up}", "routed experts", ffn.width, inside, x),
        copies=copies,
        experts=ffn.experts,
        per_token=ffn.per_token,
    )
    if ffn.latent is not None:
        yield Gemm("latent in", "routed experts", inside, hidden, "MoE input")
        yield Gemm("latent out", "routed experts", hidden, inside, "MoE latent output")
    yield experts
    down = {"n": inside, "k": ffn.width, "reads": "expert hidden", "copies": 1, "dispatched": True}
    yield replace(experts, name="expert w2", **down)  # type: ignore[arg-type]  # each of its own type
    if ffn.shared:
        width = ffn.shared * (ffn.shared_width or ffn.width)  # DeepSeek-V3 model.py: one MLP of all of them
        yield Gemm(f"shared {up}", "shared experts", width, hidden, "MoE input", copies=copies)
        yield Gemm("shared w2", "shared experts", hidden, width, "shared hidden")
    yield Gemm("router", "router", ffn.experts, hidden, "MoE input", quantized=False)
    if ffn.shared_gate:
        yield Gemm("shared gate", "router", 1, hidden, "MoE input", quantized=False)


def _model_gemms(model: ModelDescription) -> Iterator[Gemm]:
    """Yield what stands outside the layers, and in every layer whatever its kind."""
    hidden, layers, streams, width = model.hidden, model.layers, model.streams, model.layer_embedding
    if streams > 1:  # before attention and before the experts: streams in, streams out and their mixing
        mix = Gemm("stream mixing", "residual streams", (2 + streams) * streams, streams * hidden, "streams")
        yield replace(mix, layers=layers, copies=2, quantized=False)
        yield replace(mix, name="stream head", n=streams, quantized=False)
    if width:
        one = Gemm("layer embedding", "embedding", layers * width, hidden, "embedding", quantized=False)
        yield one
        yield replace(one, name="layer gate", n=width, layers=layers, reads="FFN output")
        yield replace(one, name="layer output", n=hidden, k=width, layers=layers, reads="gated embedding")
    yield from _output_head(model)


def _output_head(model: ModelDescription) -> Iterator[Gemm]:
    rows = model.vocab if model.head is None else model.head
    if model.decoder and rows:
        stored = not (model.tied and model.head is None)
        head = Gemm("output head", "output head", rows, model.hidden, "final hidden", quantized=False)
        yield replace(head, stored=stored)


def _vectors(model: ModelDescription) -> Iterator[Vector]:
    hidden, layers, streams = model.hidden, model.layers, model.streams
    rows = model.vocab + model.positions + model.token_types
    yield Vector("embedding", "embedding", rows * hidden)
    norm = hidden * (1 + model.norm_bias)
    yield Vector("layer norms", "norms", norm * sum(stack.layers * stack.norms for stack in model.stacks))
    yield Vector("final norm" if model.decoder else "embedding norm", "norms", norm)
    for attention, count in model.attentions.items():
        for vector in attention.vectors(hidden):
            yield replace(vector, parameters=count * vector.parameters)
    for ffn, count in model.feed_forwards.items():
        for vector in _ffn_vectors(ffn, hidden):
            yield replace(vector, parameters=count * vector.parameters)
    if streams > 1:
        biases = 2 * layers * ((2 + streams) * streams + 3) + streams + 1
        yield Vector("stream biases", "residual streams", biases, fp32=True)
    if model.layer_embedding:
        yield Vector("layer embedding", "embedding", model.vocab * layers * model.layer_embedding)
        yield Vector("layer embedding norms", "norms", model.layer_embedding + layers * hidden)
    if model.pooler:  # one product a sequence, so a matrix of parameters but no GEMM of tokens
        yield Vector("pooler", "pooler", hidden * hidden + hidden)
    if model.head and not model.decoder:
        yield Vector("output head", "output head", model.head * (hidden + 1))


def _ffn_vectors(ffn: FeedForward | Mixture, hidden: int) -> Iterator[Vector]:
    if isinstance(ffn, FeedForward):
        yield Vector("FFN biases", "dense FFN", ffn.bias * (ffn.width * (1 + ffn.gated) + hidden))
        return
    yield Vector("router biases", "router", ffn.experts * ffn.router_bias, fp32=True)
    yield Vector("latent norm", "norms", ffn.latent_norm * (ffn.latent or 0))
    if ffn.bias:
        each = ffn.width * (1 + ffn.gated) + hidden
        yield Vector("expert biases", "routed experts", ffn.experts * each)
        yield Vector("router biases", "router", ffn.experts)


def mtp_inventory(model: ModelDescription) -> Inventory:
    """List the matrices of one multi-token prediction module: a layer, and how it joins the model.

    It has one layer of the last stack, two norms and a final one, and a projection of two hidden
    states to one; it shares embedding and head with the model (DeepSeek-V3 report, 2.2).
    """
    layer = replace(model.mtp or model.stacks[-1], layers=1)
    one = replace(model, vocab=0, stacks=(layer,), positions=0, token_types=0, pooler=False, head=0)
    found = inventory(replace(one, layer_embedding=0, mtp_layers=0, mtp=None))
    join = Gemm("projection", "attention", model.hidden, model.hidden, "hidden states", copies=2)
    return replace(
        found,
        gemms=(*found.gemms, join),
        vectors=(*found.vectors, Vector("module norms", "norms", 2 * model.hidden)),
    )


@lru_cache(maxsize=64)
def mtp_parameters(model: ModelDescription) -> tuple[int, int]:
    """Return the parameters of one multi-token prediction module: without and with what joins it.

    Examples
    --------
    >>> from fp8sim.models import get_model
    >>> mtp_parameters(get_model("deepseek-v3"))
    (11507286272, 11610068224)
    """
    if not model.mtp_layers:
        return 0, 0
    whole = mtp_inventory(model).parameters
    return whole - 3 * model.hidden - 2 * model.hidden * model.hidden, whole
