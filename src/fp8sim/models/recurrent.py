"""Layers that carry a state in place of a cache: state spaces and linear attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fp8sim.models.attention import Kept, Part, linear
from fp8sim.models.matrices import AttentionCore, Gemm, Vector

__all__ = ["Recurrent"]


@dataclass(frozen=True)
class Recurrent(Part):
    """Linear attention or a state space: a state of key_dim x value_dim a head in place of a cache.

    Mamba-2 (arXiv 2405.21060): `key_heads` are its groups, `key_dim` its state. Gated DeltaNet
    (arXiv 2412.06464) and Kimi Delta Attention (arXiv 2510.26692) read the state once more to write
    the difference alone (`delta`). Queries, keys and values go through a short convolution.

    Examples
    --------
    >>> Recurrent(heads=64, key_heads=16, key_dim=128, value_dim=128, kernel=4).state
    1048576
    """

    NONE = frozenset({"scalars", "head_parameters"})

    heads: int
    key_heads: int
    key_dim: int
    value_dim: int
    kernel: int  #: taps of the convolution
    scalars: int = 2  #: numbers a head that each token sets, such as decay and step
    head_parameters: int = 2  #: parameters a head, such as those of the decay
    gate_rank: int | None = None  #: rank of the output gate; None: full
    decay_rank: int | None = None  #: rank of a decay an element of the key; None: none
    delta: bool = True
    conv_bias: bool = False
    wide_norm: bool = False  #: a norm over all heads, not one
    bias: bool = False  #: of the projections in and out

    @property
    def state(self) -> int:
        """Elements of the state of a sequence in one layer, kept in FP32."""
        return self.heads * self.key_dim * self.value_dim

    @property
    def width(self) -> int:
        """Width of the output of all heads."""
        return self.heads * self.value_dim

    @property
    def channels(self) -> int:
        """Width of queries, keys and values, which the convolution runs over."""
        return 2 * self.key_heads * self.key_dim + self.width

    @property
    def cache_width(self) -> int:
        """Elements that a layer caches a token: none."""
        return 0

    @property
    def summary(self) -> str:
        """A few words."""
        return f"recurrent, {self.heads} heads, state {self.key_dim} x {self.value_dim}"

    def gemms(self, hidden: int, *, absorbed: bool) -> Iterator[Gemm]:
        """Yield the linear layers of one layer."""
        x = "attention input"
        yield linear("wqkv", self.channels, hidden, x)
        if self.gate_rank is None:
            yield linear("gate", self.width, hidden, x)
        else:
            yield linear("gate_a", self.gate_rank, hidden, x)
            yield linear("gate_b", self.width, self.gate_rank, "gate latent")
        if self.decay_rank is not None:
            yield linear("decay_a", self.decay_rank, hidden, x)
            yield linear("decay_b", self.heads * self.key_dim, self.decay_rank, "decay latent")
        if self.scalars:
            yield linear("scalars", self.scalars * self.heads, hidden, x, quantized=False)
        yield linear("wo", hidden, self.width, "attention output")

    def vectors(self, hidden: int) -> Iterator[Vector]:
        """Yield the other parameters of one layer."""
        yield Vector("convolution", "attention", self.channels * (self.kernel + self.conv_bias))
        decays = self.heads * self.key_dim if self.decay_rank is not None else 0
        yield Vector("decays", "attention", self.head_parameters * self.heads + decays)
        yield Vector("output norms", "norms", self.width if self.wide_norm else self.value_dim)
        if self.bias:
            into = self.channels + self.width + self.scalars * self.heads
            yield Vector("attention biases", "attention", into + hidden)

    def cores(self, *, absorbed: bool) -> Iterator[AttentionCore]:
        """Yield the products with the state: written and read, and read once more by a delta rule."""
        dim = self.key_dim * (3 if self.delta else 2)
        wide = 4 * self.heads * self.key_dim  # FP32, read and written: four times the bytes of BF16
        yield AttentionCore(1, self.heads, dim, 0, 0, wide, name="state", fixed=self.value_dim)

    def kept(self, hidden: int) -> Iterator[Kept]:
        """Yield what one layer keeps of a token for the backward pass."""
        yield "attention input", hidden, "linear"
        yield "queries, keys and values", self.channels + self.width, "plain"
        yield "attention output", self.width, "attention"
