"""The matrices of a model: GEMMs, other parameters and attention products, and the parts they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

__all__ = ["COMPONENTS", "AttentionCore", "Component", "Gemm", "Vector"]

Component: TypeAlias = Literal[
    "embedding",
    "attention",
    "attention core",
    "index",
    "dense FFN",
    "routed experts",
    "shared experts",
    "router",
    "norms",
    "residual streams",
    "pooler",
    "output head",
    "other parts",
]

#: The parts of a model in the order of tables.
COMPONENTS: tuple[Component, ...] = get_args(Component)


@dataclass(frozen=True)
class Gemm:
    """Linear layers of one shape: each multiplies a token's activations (k) by weights (n, k).

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> experts = next(g for g in inventory(get_model("deepseek-v3")).gemms if g.name == "expert w2")
    >>> experts.n, experts.k, experts.count, experts.active_count, experts.flops_per_token
    (7168, 2048, 14848, 464, 13623099392)
    """

    name: str
    component: Component
    n: int
    k: int
    reads: str  #: the tensor it multiplies; what several read is quantised once
    layers: int = 1
    copies: int = 1  #: matrices of this shape side by side, such as gate and up
    experts: int = 1  #: sets of weights in a layer
    per_token: int = 1  #: of them, those that see a token
    quantized: bool = True  #: whether a recipe applies to it
    stored: bool = True  #: False for a head that is the embedding
    dispatched: bool = False  #: reads a row per token and expert, not per token

    @property
    def count(self) -> int:
        """Matrices in the model."""
        return self.layers * self.copies * self.experts

    @property
    def active_count(self) -> int:
        """Matrices that a token meets."""
        return self.layers * self.copies * self.per_token

    @property
    def parameters(self) -> int:
        """Weights in the model."""
        return self.n * self.k * self.count * self.stored

    @property
    def active_parameters(self) -> int:
        """Weights that a token meets."""
        return self.n * self.k * self.active_count

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of the forward pass, 2 n k a matrix."""
        return 2 * self.active_parameters


@dataclass(frozen=True)
class Vector:
    """Parameters that no GEMM multiplies: embeddings, norms and biases."""

    name: str
    component: Component
    parameters: int
    fp32: bool = False  #: kept in FP32 under every recipe


@dataclass(frozen=True)
class AttentionCore:
    """The products of queries with keys and of their weights with values; no parameters.

    Of the keys before it a token meets all, or at most the nearest `window`, those of its `chunk`, or
    the `top` that an index picks; each stands for `ratio` tokens where keys are compressed. A state
    takes the place of `fixed` keys however long the sequence is.
    """

    layers: int
    heads: int
    qk_dim: int
    v_dim: int
    cache_width: int  #: elements that a layer caches a token
    kv_width: int  #: elements of keys and values that a token reads of another, in one layer
    name: str = "attention core"
    window: int | None = None
    chunk: int | None = None
    top: int | None = None
    ratio: int = 1
    fixed: int | None = None
    bits: int | None = None  #: of its operands, where they are not the recipe's output: those of an index

    def flops_per_token(self, keys: float) -> float:
        """Return the forward flops of one token that attends to `keys` keys.

        Examples
        --------
        >>> AttentionCore(61, 128, 192, 128, 576, 40960).flops_per_token(2048)  # 4096, causal: half
        10234101760
        """
        return 2 * self.layers * self.heads * (self.qk_dim + self.v_dim) * keys

    def keys(self, seq_len: int, *, half: bool) -> float:
        """Return how many keys a token meets of `seq_len`: after all of them, or on average on the way.

        Causal tokens meet half of the sequence on average (`half`), and under a window w of length
        s > w the mean of min(i, w), which is w - w^2 / 2s. A chunk is taken at its fullest.

        Examples
        --------
        >>> core = AttentionCore(1, 1, 64, 64, 128, 128, window=1024)
        >>> core.keys(4096, half=True), core.keys(4096, half=False), core.keys(512, half=True)
        (896.0, 1024, 256.0)
        """
        if self.fixed is not None:
            return self.fixed
        every = seq_len / self.ratio if self.ratio > 1 else seq_len
        if self.chunk is not None:
            every = min(every, self.chunk)
        limit = min((most for most in (self.window, self.top) if most is not None), default=every)
        if every <= limit:
            return every / 2 if half else every
        return limit - limit * limit / (2 * every) if half else limit

    def kept(self, seq_len: int) -> int:
        """Return how many keys a sequence of `seq_len` tokens keeps in one layer.

        Examples
        --------
        >>> AttentionCore(1, 1, 64, 64, 128, 128, window=1024).kept(4096)
        1024
        """
        if self.fixed is not None:
            return self.fixed
        limits = (most for most in (self.window, self.chunk) if most is not None)
        return min([seq_len // self.ratio, *limits])
