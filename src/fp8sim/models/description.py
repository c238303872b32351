"""What a transformer is made of: frozen descriptions from which every shape and count derives."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fp8sim._support import checks

__all__ = [
    "Attention", "Family", "FeedForward", "GroupedQuery", "Latent", "Mixture", "ModelDescription", "Stack",
]  # fmt: skip

Family: TypeAlias = Literal["deepseek_v3", "llama", "qwen2", "qwen3", "qwen3_moe", "bert"]


@dataclass(frozen=True)
class _Part:
    """A part of a description, its fields checked: sizes are at least 1, but for counts that may be none."""

    def __post_init__(self) -> None:
        """Check the fields."""
        none = ("vocab", "shared", "positions", "token_types", "mtp_layers")
        limits = {field.name: (int(field.name not in none), None) for field in dataclasses.fields(self)}
        checks.fields(self, **limits)


@dataclass(frozen=True)
class GroupedQuery(_Part):
    """Attention whose `heads` query heads share `kv_heads` keys and values (GQA, arXiv 2305.13245).

    Examples
    --------
    >>> GroupedQuery(heads=32, kv_heads=8, head_dim=128).cache_width
    2048
    """

    heads: int
    kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False  #: a norm over the head dimension of queries and of keys (Qwen3)

    @property
    def qk_dim(self) -> int:
        """Length of a head's query and key."""
        return self.head_dim

    @property
    def v_dim(self) -> int:
        """Length of a head's value."""
        return self.head_dim

    @property
    def cache_width(self) -> int:
        """Elements that a layer caches a token."""
        return 2 * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Latent(_Part):
    """Multi-head latent attention: keys and values from one cached latent (DeepSeek-V3, 2.1.1).

    Examples
    --------
    >>> Latent(128, q_rank=1536, kv_rank=512, nope_dim=128, rope_dim=64, v_dim=128).cache_width
    576
    """

    heads: int
    q_rank: int | None  #: None: queries come straight from the hidden state
    kv_rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int

    @property
    def qk_dim(self) -> int:
        """Length of a head's query and key: the part without and the part with positions."""
        return self.nope_dim + self.rope_dim

    @property
    def cache_width(self) -> int:
        """Elements that a layer caches a token: the latent and the shared rotary key."""
        return self.kv_rank + self.rope_dim


Attention: TypeAlias = GroupedQuery | Latent


@dataclass(frozen=True)
class FeedForward(_Part):
    """A dense feed-forward layer of `width` hidden units; gated ones have two up-projections."""

    width: int
    gated: bool = True
    bias: bool = False


@dataclass(frozen=True)
class Mixture(_Part):
    """A mixture of gated experts of `width` hidden units, `per_token` of which see a token."""

    width: int
    experts: int
    per_token: int
    shared: int = 0  #: experts that see every token
    router_bias: bool = False  #: an FP32 bias per expert (DeepSeek-V3, 2.1.2)


@dataclass(frozen=True)
class Stack(_Part):
    """A run of equal layers."""

    layers: int
    feed_forward: FeedForward | Mixture


@dataclass(frozen=True)
class ModelDescription(_Part):
    """A transformer as shapes: what `inventory` and `model_cost` count.

    Frozen, so that ``dataclasses.replace`` makes a what-if of it. `get_model` reads one from a
    Hugging Face ``config.json``.

    Parameters
    ----------
    name : str
        What tables call it.
    family : {"deepseek_v3", "llama", "qwen2", "qwen3", "qwen3_moe", "bert"}
        The ``model_type`` of its configuration.
    hidden, vocab : int
        Width of the residual stream, and rows of the embedding.
    attention : GroupedQuery or Latent
        The same in every layer.
    stacks : tuple of Stack
        The layers from the first to the last.
    tied : bool
        Whether the output head is the embedding.
    decoder : bool
        Whether attention is causal, with an output head and a final norm; otherwise an encoder.
    positions, token_types : int
        Rows of learned position and segment embeddings (BERT).
    pooler : bool
        Whether a last linear layer acts on the first token (BERT).
    mtp_layers : int
        Multi-token prediction modules, counted apart from the model (DeepSeek-V3, 2.2).
    source : str
        Where the configuration was read.

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

    name: str
    family: Family
    hidden: int
    vocab: int
    attention: Attention
    stacks: tuple[Stack, ...]
    tied: bool = False
    decoder: bool = True
    positions: int = 0
    token_types: int = 0
    pooler: bool = False
    mtp_layers: int = 0
    source: str = "user"

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @property
    def layers(self) -> int:
        """Number of layers."""
        return sum(stack.layers for stack in self.stacks)

    @property
    def summary(self) -> str:
        """One line of shapes."""
        att = self.attention
        if isinstance(att, Latent):
            kind = f"MLA {att.heads} heads, latent {att.kv_rank} + {att.rope_dim}"
        else:
            kind = f"{att.heads} heads of {att.head_dim}, {att.kv_heads} of keys and values"
        parts = [f"{self.layers} layers, hidden {self.hidden}, vocabulary {self.vocab}", kind]
        for stack in self.stacks:
            ffn = stack.feed_forward
            if isinstance(ffn, Mixture):
                shared = f" + {ffn.shared} shared" if ffn.shared else ""
                text = f"{ffn.per_token} of {ffn.experts}{shared} experts of {ffn.width}"
            else:
                text = f"{'gated ' * ffn.gated}FFN {ffn.width}"
            parts.append(f"{stack.layers} x {text}")
        return "; ".join(parts)
