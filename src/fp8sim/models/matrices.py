"""The matrices of a model: GEMMs, other parameters, attention products, and their totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from fp8sim.models.description import ModelDescription

__all__ = ["COMPONENTS", "AttentionCore", "Component", "Gemm", "Inventory", "Vector"]

Component: TypeAlias = Literal[
    "embedding",
    "attention",
    "attention core",
    "dense FFN",
    "routed experts",
    "shared experts",
    "router",
    "norms",
    "pooler",
    "output head",
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
    """The products of queries with keys and of their weights with values; no parameters."""

    layers: int
    heads: int
    qk_dim: int
    v_dim: int
    cache_width: int  #: elements that a layer caches a token
    kv_width: int  #: elements of keys and values that a token reads of another, in one layer

    def flops_per_token(self, keys: float) -> float:
        """Return the forward flops of one token that attends to `keys` keys.

        Examples
        --------
        >>> AttentionCore(61, 128, 192, 128, 576, 40960).flops_per_token(2048)  # 4096, causal: half
        10234101760
        """
        return 2 * self.layers * self.heads * (self.qk_dim + self.v_dim) * keys


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
    core: AttentionCore

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
        """Forward flops a token of the GEMMs that keep their precision: head and router."""
        return sum(gemm.flops_per_token for gemm in self.gemms if not gemm.quantized)
