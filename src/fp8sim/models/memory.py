"""Where a model's bytes go: weights, training state, activations, KV cache and expert traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from fp8sim.costs import Traffic, traffic
from fp8sim.formats import get_format
from fp8sim.models.caches import KV_CACHES, cache_bytes
from fp8sim.models.description import Compressed, FeedForward, Latent, Mixture, Recurrent
from fp8sim.models.layers import Inventory
from fp8sim.models.matrices import COMPONENTS, Component, Gemm
from fp8sim.quantization import Operand, Scaling
from fp8sim.recipes import RECIPES, Recipe

__all__ = [
    "KeptTensor", "TrainingState", "expert_traffic", "kept_activations", "kv_cache_bytes", "matrix_traffic",
    "operands", "record_bytes", "state_bytes", "training_states", "weight_bytes",
]  # fmt: skip

_FP32 = 4  # bytes
_BF16 = 2
_ROWS = 4096  # tokens over which the scales of an activation are averaged

#: A recipe of routed experts -> that of the model's other linear layers (DeepSeek-V4: inference/model.py).
_BESIDE_EXPERTS = {"deepseek-v4": "deepseek-v3.1"}


def operands(gemm: Gemm, recipe: Recipe) -> tuple[Operand, Operand]:
    """Return how activations and weights of a linear layer are stored under a recipe.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> from fp8sim.recipes import get_recipe
    >>> gemms = {gemm.name: gemm for gemm in inventory(get_model("deepseek-v4-flash")).gemms}
    >>> for name in ("wq_a", "expert w2", "router"):
    ...     print(name, *(one.fmt for one in operands(gemms[name], get_recipe("deepseek-v4"))))
    wq_a e4m3 e4m3
    expert w2 e4m3 e2m1
    router bf16 bf16
    """
    if not gemm.quantized:
        return (Operand(recipe.output),) * 2
    if gemm.component != "routed experts":
        recipe = RECIPES.get(_BESIDE_EXPERTS.get(recipe.name, ""), recipe)
    return recipe.a, recipe.b


@lru_cache(maxsize=4096)
def matrix_traffic(operand: Operand, k: int, n: int) -> Traffic:
    """Return the bytes of one matrix of weights; models have few shapes, and many are asked for again.

    Examples
    --------
    >>> matrix_traffic(Operand("e4m3", Scaling("128x128")), 7168, 2048)
    Traffic(elements=14680064, scales=3584)
    """
    return traffic(operand, (k, n), axis=0)


def weight_bytes(inventory: Inventory, recipe: Recipe) -> dict[Component, Traffic]:
    """Return the bytes of the weights by component, scales apart.

    Linear layers take the recipe's format for B; everything else its output format, but for
    parameters that stay in FP32.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> from fp8sim.recipes import get_recipe
    >>> parts = weight_bytes(inventory(get_model("deepseek-v3")), get_recipe("deepseek-v3"))
    >>> sum(part.total for part in parts.values()), sum(part.scales for part in parts.values())
    (673150611808, 163352928)
    """
    wide = recipe.output.bits
    elements: dict[Component, int] = dict.fromkeys(COMPONENTS, 0)
    scales = dict(elements)
    for gemm in inventory.gemms:
        if gemm.quantized:
            one = matrix_traffic(operands(gemm, recipe)[1], gemm.k, gemm.n)
            elements[gemm.component] += gemm.count * one.elements * gemm.stored
            scales[gemm.component] += gemm.count * one.scales * gemm.stored
        else:
            elements[gemm.component] += gemm.parameters * wide // 8
    for vector in inventory.vectors:
        elements[vector.component] += vector.parameters * (32 if vector.fp32 else wide) // 8
    return {part: Traffic(elements[part], scales[part]) for part in COMPONENTS}


@dataclass(frozen=True)
class TrainingState:
    """Bytes that training holds whatever the batch."""

    what: str
    weights: int  #: what the multiplies read, scales included
    master: int
    gradients: int
    moments: int  #: both of AdamW

    @property
    def total(self) -> int:
        """Sum of the four."""
        return self.weights + self.master + self.gradients + self.moments


def training_states(inventory: Inventory, recipe: Recipe, baseline: Recipe) -> tuple[TrainingState, ...]:
    """Return weights, gradients and optimizer state of the baseline, of FP8 alone, and of DeepSeek.

    The baseline keeps FP32 master weights, gradients and both AdamW moments. The second changes the
    weights alone; the third also keeps the moments in BF16, as DeepSeek-V3 does (report, 3.3.3),
    which needs no FP8.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> from fp8sim.recipes import get_recipe
    >>> matrices = inventory(get_model("deepseek-v3"))
    >>> for state in training_states(matrices, get_recipe("deepseek-v3"), get_recipe("bf16")):
    ...     print(f"{state.what}: {state.total / matrices.parameters:.2f} bytes a parameter")
    bf16, FP32 moments: 18.00 bytes a parameter
    deepseek-v3, FP32 moments: 17.00 bytes a parameter
    deepseek-v3, BF16 moments: 13.00 bytes a parameter
    """
    count = inventory.parameters

    def state(recipe: Recipe, moment_bytes: int) -> TrainingState:
        weights = sum(part.total for part in weight_bytes(inventory, recipe).values())
        master = 0 if recipe.b.fmt.bits == 32 else _FP32 * count  # FP32 weights are their own master
        what = f"{recipe}, {'FP32' if moment_bytes == _FP32 else 'BF16'} moments"
        return TrainingState(what, weights, master, _FP32 * count, 2 * moment_bytes * count)

    return state(baseline, _FP32), state(recipe, _FP32), state(recipe, _BF16)


@dataclass(frozen=True)
class KeptTensor:
    """An activation that the forward pass keeps for the backward pass."""

    name: str
    stored: Operand
    bytes_per_token: float  #: over all layers, scales included


def kept_activations(inventory: Inventory, recipe: Recipe) -> tuple[KeptTensor, ...]:
    """Return what a recipe keeps of each token for the backward pass.

    The same tensors for every recipe, those of DeepSeek-V3 (report, 3.2.3 and 3.3.3): inputs of
    linear layers; norms, up-projections of latent attention and outputs of SwiGLU are recomputed
    from what is kept. Under a recipe of at most 8 bits, linear and SwiGLU inputs are kept in its
    format for A; the output of attention, which its backward pass needs too, in 12-bit E5M6 with
    power-of-two scales. Residual inputs of the norms, and queries, keys and values of grouped
    attention, stay in the output format. Softmax statistics, logits and the loss are left out.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> from fp8sim.recipes import get_recipe
    >>> tensors = kept_activations(inventory(get_model("deepseek-v3")), get_recipe("deepseek-v3"))
    >>> [f"{tensor.name}: {tensor.stored}" for tensor in (tensors[0], tensors[-1])]
    ['norm inputs: bf16', 'final hidden: bf16']
    """
    plain = Operand(recipe.output)
    eight_bit = recipe.a.fmt.bits <= 8
    after_attention = Operand(get_format("e5m6"), Scaling("1x128", "e8m0")) if eight_bit else plain
    how = {"linear": recipe.a, "attention": after_attention, "plain": plain}
    tensors = []
    for name, width, layers, kind in _kept_widths(inventory):
        one = traffic(how[kind], (_ROWS, width), axis=1).total / _ROWS
        tensors.append(KeptTensor(name, how[kind], one * layers))
    return tuple(tensors)


def _kept_widths(inventory: Inventory) -> Iterator[tuple[str, int, int, str]]:
    """Yield name, elements a token, layers and kind of what is kept."""
    model = inventory.model
    if model.tensors:  # which of them the backward pass needs is not known
        return
    norms = sum(stack.layers for stack in model.stacks if stack.attention)
    norms += sum(stack.layers for stack in model.stacks if stack.feed_forward)
    yield "norm inputs", norms * model.hidden // model.layers, model.layers, "plain"
    for attention, layers in model.attentions.items():
        for name, width, kind in attention.kept(model.hidden):
            yield name, width, layers, kind
    for ffn, layers in model.feed_forwards.items():
        if isinstance(ffn, FeedForward):
            yield "FFN input", model.hidden, layers, "linear"
            yield "FFN activation inputs", ffn.width * (1 + ffn.gated), layers, "linear"
        else:
            yield "MoE input", model.hidden, layers, "linear"
            yield "dispatched expert inputs", ffn.per_token * (ffn.latent or model.hidden), layers, "linear"
            shared = ffn.shared * (ffn.shared_width or ffn.width)
            units = (1 + ffn.gated) * (ffn.per_token * ffn.width + shared)
            yield "expert SwiGLU inputs", units, layers, "linear"
    if model.decoder:
        yield "final hidden", model.hidden, 1, "plain"


def kv_cache_bytes(inventory: Inventory, recipe: Recipe, tokens: int = 1) -> int:
    """Return the bytes that a sequence of so many tokens caches over all layers.

    In the recipe's output format: attention keeps its precision under every recipe (DeepSeek-V3
    report, 3.3.1), so FP8 multiplies leave the cache as it is; an index keeps its keys in its own. A
    window keeps its width, a state nothing (`state_bytes`). An encoder caches nothing.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> from fp8sim.recipes import get_recipe
    >>> kv_cache_bytes(inventory(get_model("deepseek-v3")), get_recipe("deepseek-v3"))
    70272
    """
    cached = (
        core.layers * core.kept(tokens) * core.cache_width * (core.bits or recipe.output.bits) // 8
        for core in inventory.cores
    )
    return inventory.model.decoder * sum(cached)


def record_bytes(inventory: Inventory, tokens: int) -> int:
    """Return the bytes that a sequence caches in the records that DeepSeek's models are served with.

    A token and layer of V3.2: 656 bytes, and 132 of its index (vLLM issue #56893); of V4, of each 4
    or 128 tokens: 584 bytes, and 68 of its index. Only of these kinds of attention.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> record_bytes(inventory(get_model("deepseek-v3.2")), 1000) / 1000
    48068.0
    """
    model = inventory.model
    if all(isinstance(kind, Latent) for kind in model.attentions):
        return cache_bytes(model, KV_CACHES["deepseek-v3.2"], tokens)
    if all(isinstance(kind, Compressed) for kind in model.attentions):
        return cache_bytes(model, KV_CACHES["deepseek-v4"], tokens)
    raise ValueError(f"{model} has layers that are not served with DeepSeek's records")


def state_bytes(inventory: Inventory) -> int:
    """Return the bytes of a sequence's recurrent states: in FP32, those of convolutions in BF16.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> state_bytes(inventory(get_model("llama-3.1-8b")))
    0
    """
    kinds = inventory.model.attentions.items()
    return sum(
        layers * (_FP32 * kind.state + _BF16 * kind.channels * (kind.kernel - 1))
        for kind, layers in kinds
        if isinstance(kind, Recurrent)
    )


def expert_traffic(inventory: Inventory, recipe: Recipe) -> tuple[float, float]:
    """Return the bytes a token sends to experts and gets back in a forward pass, over all layers.

    Dispatch carries the recipe's format for A with its scales, combine the output format
    (DeepSeek-V3 report, 3.3.3); the backward pass carries as much again, gradients out and back.
    Counted as if every routed expert were on another device; several on one device need one copy.

    Examples
    --------
    >>> from fp8sim.models import get_model, inventory
    >>> from fp8sim.recipes import get_recipe
    >>> expert_traffic(inventory(get_model("deepseek-v3")), get_recipe("deepseek-v3"))
    (3429888.0, 6651904.0)
    """
    moved = sent = 0.0
    for ffn, layers in inventory.model.feed_forwards.items():
        if isinstance(ffn, Mixture):
            width = ffn.latent or inventory.model.hidden
            sent += layers * ffn.per_token * traffic(recipe.a, (_ROWS, width), axis=1).total / _ROWS
            moved += layers * ffn.per_token * width * recipe.output.bits / 8
    return sent, moved
