"""How long a model's parts take at best: roofline times by phase, and the cost of quantising."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from fp8sim._support import checks
from fp8sim.costs import Device, Roofline, formats_class, traffic
from fp8sim.formats import get_format
from fp8sim.models.layers import Inventory
from fp8sim.models.matrices import AttentionCore, Component, Gemm
from fp8sim.models.memory import operands
from fp8sim.quantization import Operand
from fp8sim.recipes import Recipe

__all__ = [
    "INDEX_FORMATS", "PHASES", "Phase", "Product", "ProductTime", "Workload", "amdahl", "product_times",
    "quantize_bytes", "touched",
]  # fmt: skip

Phase: TypeAlias = Literal["training", "prefill", "decode"]

#: Bits of an index's products -> their format.
INDEX_FORMATS = {8: "e4m3", 4: "e2m1"}

Product: TypeAlias = Literal["fprop", "dgrad", "wgrad", "backward"]

#: Forward and backward, or forward alone, of batch x seq_len tokens; forward of one new token in each of
#: batch sequences of seq_len cached ones.
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True)
class Workload:
    """What is run: how many tokens, and how many keys each of them meets."""

    phase: Phase
    seq_len: int
    batch: int
    causal: bool

    def __post_init__(self) -> None:
        """Check the fields."""
        checks.fields(self, seq_len=(1, None), batch=(1, None))

    @property
    def tokens(self) -> int:
        """Tokens that go through the layers."""
        return self.batch if self.phase == "decode" else self.batch * self.seq_len

    def keys(self, core: AttentionCore) -> float:
        """Keys that a token attends to on average: of all, or of half of them under a causal mask."""
        return core.keys(self.seq_len, half=self.causal and self.phase != "decode")

    @property
    def passes(self) -> int:
        """Products a weight is in: Fprop, and in training Dgrad and Wgrad."""
        return 3 if self.phase == "training" else 1


@dataclass(frozen=True, kw_only=True)
class ProductTime(Roofline):
    """One kind of product over the whole model, and its roofline time.

    Fprop is Y (m, n) = X (m, k) W; Dgrad dX (m, k) = dY (m, n) W; Wgrad dW (n, k) = dY X, summed
    over the tokens. ``m, n, k`` are rows, columns and reduction length of each.
    """

    name: str  #: of the GEMM in the inventory, or ``attention core``
    component: Component
    product: Product
    m: float  #: per expert the average under uniform routing
    n: int
    k: float
    products: float  #: how many there are in the workload
    formats: str  #: of the two operands
    quantized: bool  #: whether the recipe applies to it


def product_times(inventory: Inventory, recipe: Recipe, work: Workload, device: Device) -> list[ProductTime]:
    """Return the roofline time of every product, as if one device held the model.

    Weights are read once a product, activations read and written once. Routing is uniform, so that
    a few tokens touch few experts.

    Examples
    --------
    >>> from fp8sim.costs import get_device
    >>> from fp8sim.models import get_model, inventory
    >>> from fp8sim.recipes import get_recipe
    >>> work = Workload("decode", seq_len=1024, batch=1, causal=True)
    >>> times = product_times(
    ...     inventory(get_model("llama-3.1-8b")), get_recipe("bf16"), work, get_device("h100"))
    >>> {part.bound for part in times}, round(sum(part.seconds for part in times) * 1e3, 2)
    ({'memory'}, 4.52)
    """
    products: list[ProductTime] = []
    for gemm in inventory.gemms:
        products += _gemm_products(gemm, recipe, work, device)
    for core in inventory.cores:
        products += _core_products(core, recipe, work, device)
    return products


def _gemm_products(gemm: Gemm, recipe: Recipe, work: Workload, device: Device) -> Iterator[ProductTime]:
    """Yield Fprop and, in training, Dgrad and Wgrad."""
    out, (a, b) = recipe.output.bits / 8, operands(gemm, recipe)
    n, k, rows = gemm.n, gemm.k, work.tokens * gemm.per_token
    width = n * gemm.copies
    matrices = touched(gemm, work.tokens) * gemm.copies  # weights used in one layer
    weights = matrices * traffic(b, (k, n), axis=0).total

    def one(product: Product, shape: tuple[float, int, float], moved: float, right: Operand) -> ProductTime:
        return ProductTime(
            name=gemm.name,
            component=gemm.component,
            product=product,
            m=shape[0],
            n=shape[1],
            k=shape[2],
            products=gemm.layers * matrices,
            formats=f"{a.fmt} x {right.fmt}",
            quantized=gemm.quantized,
            flops=float(work.tokens * gemm.flops_per_token),
            bytes=moved * gemm.layers,
            peak=device.rate(formats_class(a.fmt, right.fmt)).flops,
            bandwidth=device.bandwidth.value,
        )

    m = rows * gemm.copies / matrices
    yield one("fprop", (m, n, k), traffic(a, (rows, k), 1).total + weights + rows * width * out, b)
    if work.phase == "training":
        yield one("dgrad", (m, k, n), traffic(a, (rows, width), 1).total + weights + rows * k * out, b)
        inputs = traffic(a, (rows, width), axis=0).total + traffic(a, (rows, k), axis=0).total
        gradients = 4 * matrices * n * k  # FP32 (DeepSeek-V3 report, 3.3.3)
        yield one("wgrad", (n, k, m), inputs + gradients, a)


def touched(gemm: Gemm, tokens: int) -> float:
    """Return how many of a layer's experts some token meets, on average under uniform routing.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> expert = next(g for g in inventory(get_model("deepseek-v3")).gemms if g.experts == 256)
    >>> touched(expert, 1), round(touched(expert, 64), 1), round(touched(expert, 4096), 1)
    (8.0, 222.4, 256.0)
    """
    missed = (1 - gemm.per_token / gemm.experts) ** tokens
    return gemm.experts * (1 - missed)


def _core_products(
    core: AttentionCore, recipe: Recipe, work: Workload, device: Device
) -> Iterator[ProductTime]:
    """Attention as one fused kernel; its backward pass has twice the flops and moves twice the bytes."""
    fmt = get_format(INDEX_FORMATS[core.bits]) if core.bits in INDEX_FORMATS else recipe.output
    size, tokens, keys = fmt.bits / 8, work.tokens, work.keys(core)
    whole = work.seq_len // core.ratio if core.fixed is None else core.fixed
    read = keys if work.phase == "decode" else whole
    cached = work.batch * read * core.kv_width  # keys and values, read once
    moved = core.layers * size * (tokens * core.heads * (core.qk_dim + core.v_dim) + cached)
    forward = ProductTime(
        name=core.name,
        component="attention core",
        product="fprop",
        m=tokens / work.batch,
        n=core.qk_dim + core.v_dim,
        k=keys,
        products=work.batch * core.heads * core.layers,
        formats=f"{fmt} x {fmt}",
        quantized=False,
        flops=tokens * core.flops_per_token(keys),
        bytes=moved,
        peak=device.rate(formats_class(fmt, fmt)).flops,
        bandwidth=device.bandwidth.value,
    )
    yield forward
    if work.phase == "training":
        yield replace(forward, product="backward", flops=2 * forward.flops, bytes=2 * forward.bytes)


def quantize_bytes(inventory: Inventory, recipe: Recipe, work: Workload) -> float:
    """Return the bytes that quantising reads and writes, not fused with anything.

    Forward, each tensor that linear layers read is read once in the output format and written in
    the recipe's format for A (DeepSeek-V3 report, 3.5.2). In training, the kept tensor is read and
    written once more with groups along the tokens for Wgrad, and each gradient is read and written
    twice, for Dgrad and for Wgrad. Quantising the weights once a step is left out.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> from fp8sim.recipes import get_recipe
    >>> work = Workload("prefill", seq_len=4096, batch=1, causal=True)
    >>> matrices = inventory(get_model("llama-3.1-8b"))
    >>> quantize_bytes(matrices, get_recipe("bf16"), work)
    0.0
    >>> quantize_bytes(matrices, get_recipe("deepseek-v3"), work) / work.tokens
    2582528.0
    """
    if recipe.a == Operand(recipe.output):
        return 0.0
    wide = recipe.output.bits / 8
    inputs: dict[tuple[str, int, int], int] = {}
    moved = 0.0
    for gemm in inventory.gemms:
        if not gemm.quantized:
            continue
        rows = work.tokens * (gemm.per_token if gemm.dispatched else 1)
        inputs[(gemm.reads, gemm.k, rows)] = gemm.layers
        if work.phase == "training":
            rows, width = work.tokens * gemm.per_token, gemm.n * gemm.copies
            twice = traffic(recipe.a, (rows, width), 1).total + traffic(recipe.a, (rows, width), 0).total
            moved += gemm.layers * (rows * width * wide + twice)
    for (_, k, rows), layers in inputs.items():
        narrow = traffic(recipe.a, (rows, k), axis=1).total
        moved += layers * (rows * k * wide + narrow)
        if work.phase == "training":
            moved += layers * (narrow + traffic(recipe.a, (rows, k), axis=0).total)
    return moved


def amdahl(share: float, ratio: float) -> float:
    """Return the speed-up of the whole where a `share` of the time, 0 to 1, becomes `ratio` times faster.

    It is at most ``1 / (1 - share)``, and NaN where one of the two is not known.

    Examples
    --------
    >>> round(amdahl(0.853, 2), 3)
    1.744
    """
    if math.isnan(share) or math.isnan(ratio):
        return math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"share must be 0 to 1, got {share}")
    if not ratio > 0:
        raise ValueError(f"ratio must be positive, got {ratio}")
    return 1 / (1 - share + share / ratio)
