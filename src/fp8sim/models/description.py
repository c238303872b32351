"""What a transformer is made of: frozen descriptions from which every shape and count derives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from fp8sim.models.attention import Compressed, GroupedQuery, Index, Latent, Part
from fp8sim.models.recurrent import Recurrent
from fp8sim.models.tensors import Tensors
from fp8sim.quantization import Operand

__all__ = [
    "Attention", "Compressed", "FeedForward", "GroupedQuery", "Index", "Latent", "Mixture",
    "ModelDescription", "Recurrent", "Stack", "Stored",
]  # fmt: skip

#: How a layer mixes tokens.
Attention: TypeAlias = GroupedQuery | Latent | Compressed | Recurrent


@dataclass(frozen=True)
class FeedForward(Part):
    """A dense feed-forward layer of `width` hidden units; gated ones have two up-projections."""

    width: int
    gated: bool = True
    bias: bool = False

    @property
    def summary(self) -> str:
        """A few words."""
        return f"{'gated ' * self.gated}FFN {self.width}"


@dataclass(frozen=True)
class Mixture(Part):
    """A mixture of experts of `width` hidden units, `per_token` of which see a token."""

    NONE = frozenset({"shared", "hash_rows"})

    width: int
    experts: int
    per_token: int
    shared: int = 0  #: experts that see every token
    router_bias: bool = False  #: an FP32 number per expert (DeepSeek-V3, 2.1.2)
    shared_width: int | None = None  #: of a shared expert, where it is not that of the others
    gated: bool = True
    bias: bool = False  #: of router and experts
    shared_gate: bool = False  #: a number a token that scales the shared expert
    latent: int | None = None  #: width that tokens are projected to before the experts, and back after
    latent_norm: bool = False  #: a norm before they are projected back
    hash_rows: int = 0  #: rows of a table that picks experts by token, in place of the bias (DeepSeek-V4)

    @property
    def summary(self) -> str:
        """A few words."""
        shared = f" + {self.shared} shared" if self.shared else ""
        return f"{self.per_token} of {self.experts}{shared} experts of {self.width}"


@dataclass(frozen=True)
class Stack(Part):
    """Equal layers, wherever in the model they are."""

    layers: int
    feed_forward: FeedForward | Mixture | None
    attention: Attention | None = None
    norms: int = 2  #: vectors as wide as the hidden state


@dataclass(frozen=True)
class Stored(Part):
    """The formats that a checkpoint's ``quantization_config`` names.

    Parameters
    ----------
    linear : Operand
        Of the linear layers that are quantised.
    experts : Operand, optional
        Of routed experts, where it is another.
    kept : tuple of str
        Modules that are not quantised: names or patterns, as they stand there.
    method : str
        Its ``quant_method``.
    """

    linear: Operand
    experts: Operand | None = None
    kept: tuple[str, ...] = ()
    method: str = ""

    def __str__(self) -> str:
        """Return the formats in a few words."""
        experts = f", experts {self.experts}" if self.experts else ""
        return f"linear layers {self.linear}{experts}"


@dataclass(frozen=True)
class ModelDescription(Part):
    """A transformer as shapes: what `inventory` and `model_cost` count.

    Frozen, so that ``dataclasses.replace`` makes a what-if of it. `get_model` reads one from a
    Hugging Face ``config.json``.

    Parameters
    ----------
    name : str
        What tables call it.
    family : str
        The ``model_type`` whose row in `FAMILIES` described it.
    hidden, vocab : int
        Width of the residual stream, and rows of the embedding.
    stacks : tuple of Stack
        Its layers, equal ones together, in the order in which the first of each comes.
    tied : bool
        Whether the output head is the embedding.
    decoder : bool
        Whether attention is causal, with a final norm; otherwise an encoder.
    positions, token_types : int
        Rows of learned position and segment embeddings (BERT, GPT-2).
    pooler : bool
        Whether a last linear layer acts on the first token (BERT).
    mtp_layers : int
        Multi-token prediction modules, counted apart from the model (DeepSeek-V3, 2.2).
    source : str
        Where the configuration was read.
    head : int, optional
        Rows of the output head: as many as the vocabulary where it is None, 0 where there is none.
    norm_bias : bool
        Whether norms shift as well as scale (BERT, GPT-2).
    streams : int
        Residual streams mixed by hyper-connections (DeepSeek-V4, 2.2); 1: the plain residual.
    layer_embedding : int
        Width of a second embedding that every layer gets its part of (Gemma 3n and 4).
    mtp : Stack, optional
        The layer of a multi-token prediction module, where it is not like the last stack's.
    stored : Stored, optional
        Formats of its checkpoint.
    tensors : tuple of Tensors
        What it is made of, where no row describes it: the matrices are these, and `stacks` hold what is
        known beside them.
    found : tuple of str
        What was read from where, and what is left out; descriptions that differ in it alone are equal.

    Examples
    --------
    >>> import dataclasses
    >>> from fp8sim.models import get_model, inventory
    >>> model = get_model("llama-3.1-8b")
    >>> model.layers, model.hidden, inventory(model).parameters
    (32, 4096, 8030261248)
    >>> inventory(dataclasses.replace(model, tied=True)).parameters
    7504924672
    """

    NONE = frozenset({"vocab", "positions", "token_types", "mtp_layers", "head", "layer_embedding"})

    name: str
    family: str
    hidden: int
    vocab: int
    stacks: tuple[Stack, ...]
    tied: bool = False
    decoder: bool = True
    positions: int = 0
    token_types: int = 0
    pooler: bool = False
    mtp_layers: int = 0
    source: str = "user"
    head: int | None = None
    norm_bias: bool = False
    streams: int = 1
    layer_embedding: int = 0
    mtp: Stack | None = None
    stored: Stored | None = None
    tensors: tuple[Tensors, ...] = field(default=(), repr=False)
    found: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @property
    def layers(self) -> int:
        """Number of layers."""
        return sum(stack.layers for stack in self.stacks)

    @property
    def attentions(self) -> dict[Attention, int]:
        """Kind of attention -> layers that have it."""
        return _counted((stack.attention, stack.layers) for stack in self.stacks)

    @property
    def feed_forwards(self) -> dict[FeedForward | Mixture, int]:
        """Kind of feed-forward layer -> layers that have it."""
        return _counted((stack.feed_forward, stack.layers) for stack in self.stacks)

    @property
    def attention(self) -> Attention:
        """The kind of attention that comes first."""
        return next(iter(self.attentions))

    @property
    def summary(self) -> str:
        """One line of shapes."""
        kinds = self.attentions
        parts = [f"{self.layers} layers, hidden {self.hidden}, vocabulary {self.vocab}"]
        alone = list(kinds.values()) == [self.layers]
        parts += [f"{'' if alone else f'{layers} x '}{kind.summary}" for kind, layers in kinds.items()]
        parts += [f"{layers} x {kind.summary}" for kind, layers in self.feed_forwards.items()]
        return "; ".join(parts)


def _counted(kinds: Iterable[tuple[object, int]]) -> dict:  # type: ignore[type-arg]
    """Return kind -> layers, those without one left out."""
    counts: dict[object, int] = {}
    for kind, layers in kinds:
        if kind is not None:
            counts[kind] = counts.get(kind, 0) + layers
    return counts
