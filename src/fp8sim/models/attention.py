"""How a layer mixes tokens: one small final class a kind, with its matrices, its products and its cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

from fp8sim._support import checks
from fp8sim.models.matrices import AttentionCore, Gemm, Vector

__all__ = ["Compressed", "GroupedQuery", "Index", "Kept", "Latent", "Part", "linear"]

#: Name, elements a token, and kind of what the forward pass keeps for the backward pass.
Kept: TypeAlias = "tuple[str, int, str]"


@dataclass(frozen=True)
class Part:
    """A part of a description, its fields checked: sizes are at least 1, but for counts that may be none."""

    NONE: ClassVar[frozenset[str]] = frozenset()  #: fields that may be 0

    def __post_init__(self) -> None:
        """Check the fields."""
        limits = {field.name: (int(field.name not in self.NONE), None) for field in dataclasses.fields(self)}
        checks.fields(self, **limits)


def linear(name: str, n: int, k: int, reads: str, **more: bool) -> Gemm:
    """Return a linear layer of attention."""
    return Gemm(name, "attention", n, k, reads, **more)


@dataclass(frozen=True)
class Index(Part):
    """What picks the `top` keys that sparse attention meets: its own small heads (DeepSeek-V3.2, section 2).

    Examples
    --------
    >>> index = Index(heads=64, dim=128, top=2048)
    >>> [(gemm.name, gemm.n, gemm.k) for gemm in index.gemms(7168, 1536)]
    [('index wq', 8192, 1536), ('index weights', 64, 7168)]
    """

    heads: int
    dim: int
    top: int
    bits: int = 8  #: of its queries and keys: FP8 in V3.2, FP4 in V4

    @property
    def record(self) -> int:
        """Bytes of a cached key: FP8 with an FP32 scale each 128, FP4 with an E8M0 scale each 32 (vLLM)."""
        return self.dim + 4 * -(-self.dim // 128) if self.bits == 8 else self.dim // 2 + -(-self.dim // 32)

    def gemms(self, hidden: int, q_rank: int | None) -> Iterator[Gemm]:
        """Yield its queries and the weights of its heads."""
        reads = ("query latent", q_rank) if q_rank else ("attention input", hidden)
        yield Gemm("index wq", "index", self.heads * self.dim, reads[1], reads[0])
        yield Gemm("index weights", "index", self.heads, hidden, "attention input", quantized=False)

    def core(self, ratio: int = 1) -> AttentionCore:
        """Return its products, which meet every key."""
        width = self.dim
        return AttentionCore(
            *(1, self.heads, self.dim, 0, width, width), name="index", ratio=ratio, bits=self.bits
        )


@dataclass(frozen=True)
class GroupedQuery(Part):
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
    qk_norm: Literal["none", "head", "width"] = "none"  #: of queries and keys: each head, or all as one
    value_dim: int | None = None  #: length of a value, where it is not that of a key
    window: int | None = None  #: keys that a token meets, the nearest
    chunk: int | None = None  #: tokens that meet no others
    sinks: bool = False  #: a learned logit a head that takes weight from the keys
    gate: Literal["none", "head", "width"] = "none"  #: of the output: one a head, or one an element
    keys_are_values: bool = False  #: one projection gives both
    borrowed: bool = False  #: keys and values are those of an earlier layer

    @property
    def qk_dim(self) -> int:
        """Length of a head's query and key."""
        return self.head_dim

    @property
    def v_dim(self) -> int:
        """Length of a head's value."""
        return self.value_dim or self.head_dim

    @property
    def cache_width(self) -> int:
        """Elements that a layer caches a token."""
        return 0 if self.borrowed else self.kv_heads * (self.head_dim + self.v_dim)

    @property
    def summary(self) -> str:
        """A few words."""
        chunks = f", chunks of {self.chunk}" if self.chunk else ""
        reach = f", window {self.window}" if self.window else chunks
        return f"{self.heads} heads of {self.head_dim}, {self.kv_heads} of keys and values{reach}"

    def gemms(self, hidden: int, *, absorbed: bool) -> Iterator[Gemm]:
        """Yield the linear layers of one layer."""
        x, kv = "attention input", self.kv_heads * self.head_dim
        yield linear("wq", self.heads * self.head_dim, hidden, x)
        if not self.borrowed and self.v_dim == self.head_dim and not self.keys_are_values:
            yield replace(linear("wk, wv", kv, hidden, x), copies=2)
        elif not self.borrowed:
            yield linear("wk", kv, hidden, x)
            if not self.keys_are_values:
                yield linear("wv", self.kv_heads * self.v_dim, hidden, x)
        if self.gate != "none":
            yield linear("output gate", self.heads * (self.v_dim if self.gate == "width" else 1), hidden, x)
        yield linear("wo", hidden, self.heads * self.v_dim, "attention output")

    def vectors(self, hidden: int) -> Iterator[Vector]:
        """Yield the other parameters of one layer."""
        heads = {"none": (0, 0), "head": (1, 1), "width": (self.heads, self.kv_heads)}[self.qk_norm]
        norms = heads[0] if self.borrowed else sum(heads)
        yield Vector("query and key norms", "norms", norms * self.head_dim)
        qkv = self.heads * self.head_dim + self.cache_width
        biases = qkv * self.qkv_bias + hidden * self.output_bias + self.heads * self.sinks
        yield Vector("attention biases", "attention", biases)

    def cores(self, *, absorbed: bool) -> Iterator[AttentionCore]:
        """Yield the products of one layer."""
        width, name = self.kv_heads * (self.head_dim + self.v_dim), "attention core"
        name = "sliding core" if self.window else "chunked core" if self.chunk else name
        yield AttentionCore(
            *(1, self.heads, self.head_dim, self.v_dim, self.cache_width, width),
            name=name,
            window=self.window,
            chunk=self.chunk,
        )

    def kept(self, hidden: int) -> Iterator[Kept]:
        """Yield what one layer keeps of a token for the backward pass."""
        yield "attention input", hidden, "linear"
        qkv = self.heads * self.head_dim + self.kv_heads * (self.head_dim + self.v_dim)
        yield "queries, keys and values", qkv, "plain"
        yield "attention output", self.heads * self.v_dim, "attention"


@dataclass(frozen=True)
class Latent(Part):
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
    index: Index | None = None  #: what picks the keys of sparse attention (DeepSeek-V3.2)
    gate: bool = False  #: of the output, one an element

    @property
    def qk_dim(self) -> int:
        """Length of a head's query and key: the part without and the part with positions."""
        return self.nope_dim + self.rope_dim

    @property
    def cache_width(self) -> int:
        """Elements that a layer caches a token: the latent and the shared rotary key."""
        return self.kv_rank + self.rope_dim

    @property
    def summary(self) -> str:
        """A few words."""
        sparse = f", {self.index.top} keys of an index" if self.index else ""
        return f"MLA {self.heads} heads, latent {self.kv_rank} + {self.rope_dim}{sparse}"

    def gemms(self, hidden: int, *, absorbed: bool) -> Iterator[Gemm]:
        """Yield the linear layers of one layer; absorbed, the up-projection keeps its precision."""
        x, queries = "attention input", self.heads * self.qk_dim
        up = self.heads * (self.nope_dim + self.v_dim)
        if self.q_rank is None:
            yield linear("wq", queries, hidden, x)
        else:
            yield linear("wq_a", self.q_rank, hidden, x)
            yield linear("wq_b", queries, self.q_rank, "query latent")
        yield linear("wkv_a", self.cache_width, hidden, x)
        yield linear("wkv_b", up, self.kv_rank, "key-value latent", quantized=not absorbed)
        if self.gate:
            yield linear("output gate", self.heads * self.v_dim, hidden, x)
        yield linear("wo", hidden, self.heads * self.v_dim, "attention output")
        if self.index:
            yield from self.index.gemms(hidden, self.q_rank)
            yield Gemm("index wk", "index", self.index.dim, hidden, x)

    def vectors(self, hidden: int) -> Iterator[Vector]:
        """Yield the other parameters of one layer."""
        yield Vector("latent norms", "norms", self.kv_rank + (self.q_rank or 0))
        if self.index:  # a norm that scales and shifts
            yield Vector("index norms", "index", 2 * self.index.dim)

    def cores(self, *, absorbed: bool) -> Iterator[AttentionCore]:
        """Yield the products of one layer: of heads, or absorbed of the latent and the rotary key."""
        dims = (self.cache_width, self.kv_rank) if absorbed else (self.qk_dim, self.v_dim)
        read = self.cache_width if absorbed else self.heads * sum(dims)
        top = self.index.top if self.index else None
        yield AttentionCore(1, self.heads, *dims, self.cache_width, read, top=top)
        if self.index:
            yield self.index.core()

    def kept(self, hidden: int) -> Iterator[Kept]:
        """Yield what one layer keeps of a token for the backward pass."""
        yield "attention input", hidden, "linear"
        if self.q_rank is not None:
            yield "query latent", self.q_rank, "linear"
        yield "key-value latent", self.kv_rank, "linear"
        yield "rotary key", self.rope_dim, "plain"
        yield "attention output", self.heads * self.v_dim, "attention"


@dataclass(frozen=True)
class Compressed(Part):
    """Attention to a window of tokens and to older ones compressed `ratio` to one (DeepSeek-V4, 2.3).

    One key of `head_dim`, which is its own value, serves all heads; the output goes through `groups`
    projections to `o_rank`. A compressor whose blocks overlap has twice the width.

    Examples
    --------
    >>> csa = Compressed(64, 512, 64, 1024, 8, 1024, 128, ratio=4, overlap=2, index=Index(64, 128, 512, 4))
    >>> [(core.name, core.keys(1 << 20, half=False)) for core in csa.cores(absorbed=False)]
    [('sliding core', 128), ('compressed core', 512), ('index', 262144.0)]
    """

    heads: int
    head_dim: int
    rope_dim: int
    q_rank: int
    groups: int
    o_rank: int
    window: int
    ratio: int | None = None  #: None: the window alone
    overlap: int = 1
    index: Index | None = None

    @property
    def cache_width(self) -> int:
        """Elements of one cached key."""
        return self.head_dim

    @property
    def summary(self) -> str:
        """A few words."""
        older = f", {self.ratio} to 1 beyond" if self.ratio else ""
        sparse = f", {self.index.top} of an index" if self.index else ""
        return f"{self.heads} heads of {self.head_dim} over one key, window {self.window}{older}{sparse}"

    def gemms(self, hidden: int, *, absorbed: bool) -> Iterator[Gemm]:
        """Yield the linear layers of one layer; compressors keep their precision."""
        x, width = "attention input", self.heads * self.head_dim
        yield linear("wq_a", self.q_rank, hidden, x)
        yield linear("wq_b", width, self.q_rank, "query latent")
        yield linear("wkv", self.head_dim, hidden, x)
        yield Gemm(  # each group reads its own part of the output
            *("wo_a", "attention", self.o_rank, width // self.groups, "attention output"),
            experts=self.groups,
            per_token=self.groups,
            dispatched=True,
        )
        yield linear("wo_b", hidden, self.groups * self.o_rank, "output latent")
        if self.ratio:
            n = self.overlap * self.head_dim
            yield replace(linear("compressor", n, hidden, x, quantized=False), copies=2)
        if self.index:
            yield from self.index.gemms(hidden, self.q_rank)
            n = self.overlap * self.index.dim
            yield Gemm("index compressor", "index", n, hidden, x, copies=2, quantized=False)

    def vectors(self, hidden: int) -> Iterator[Vector]:
        """Yield the other parameters of one layer."""
        yield Vector("latent norms", "norms", self.q_rank + self.head_dim)
        yield Vector("sinks", "attention", self.heads, fp32=True)
        for dim, part in ((self.head_dim, "attention"), (self.index.dim if self.index else 0, "index")):
            if self.ratio and dim:
                positions = self.ratio * self.overlap * dim
                yield Vector("compressor positions", part, positions, fp32=True)  # type: ignore[arg-type]
                yield Vector("compressor norms", "norms", dim)

    def cores(self, *, absorbed: bool) -> Iterator[AttentionCore]:
        """Yield the products of one layer: with the window, with the compressed, and those of the index."""
        width = self.head_dim
        near = AttentionCore(1, self.heads, *(4 * (width,)), name="sliding core", window=self.window)
        yield near
        if self.ratio:
            top = self.index.top if self.index else None
            yield replace(near, name="compressed core", window=None, ratio=self.ratio, top=top)
            if self.index:
                yield self.index.core(self.ratio)

    def kept(self, hidden: int) -> Iterator[Kept]:
        """Yield what one layer keeps of a token for the backward pass."""
        yield "attention input", hidden, "linear"
        yield "query latent", self.q_rank, "linear"
        yield "key", self.head_dim, "plain"
        yield "attention output", self.heads * self.head_dim, "attention"
        yield "output latent", self.groups * self.o_rank, "linear"
