"""From a description to its matrices: what each kind of layer multiplies, and by what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from fp8sim.models.description import (
    FeedForward,
    GroupedQuery,
    Latent,
    Mixture,
    ModelDescription,
    Stack,
)
from fp8sim.models.matrices import AttentionCore, Gemm, Inventory, Vector

__all__ = ["inventory", "mtp_parameters"]


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
    gemms = [*_attention_gemms(model, absorbed)]
    for stack in model.stacks:
        gemms += _feed_forward_gemms(model, stack)
    if model.decoder:
        gemms.append(
            Gemm(
                *("output head", "output head", model.vocab, model.hidden, "final hidden"),
                quantized=False,
                stored=not model.tied,
            )
        )
    return Inventory(model, tuple(gemms), tuple(_vectors(model)), _core(model, absorbed))


def _attention_gemms(model: ModelDescription, absorbed: bool) -> Iterator[Gemm]:
    att, hidden, layers = model.attention, model.hidden, model.layers
    width = att.heads * att.v_dim
    if isinstance(att, GroupedQuery):
        kv = att.kv_heads * att.head_dim
        yield Gemm("wq", "attention", width, hidden, "attention input", layers)
        yield Gemm("wk, wv", "attention", kv, hidden, "attention input", layers, copies=2)
    else:
        queries, up = att.heads * att.qk_dim, att.heads * (att.nope_dim + att.v_dim)
        if att.q_rank is None:
            yield Gemm("wq", "attention", queries, hidden, "attention input", layers)
        else:
            yield Gemm("wq_a", "attention", att.q_rank, hidden, "attention input", layers)
            yield Gemm("wq_b", "attention", queries, att.q_rank, "query latent", layers)
        yield Gemm("wkv_a", "attention", att.cache_width, hidden, "attention input", layers)
        yield Gemm(
            *("wkv_b", "attention", up, att.kv_rank, "key-value latent", layers),
            quantized=not absorbed,
        )
    yield Gemm("wo", "attention", hidden, width, "attention output", layers)


def _feed_forward_gemms(model: ModelDescription, stack: Stack) -> Iterator[Gemm]:
    hidden, layers, ffn = model.hidden, stack.layers, stack.feed_forward
    if isinstance(ffn, FeedForward):
        up = "w1, w3" if ffn.gated else "w1"
        copies = 2 if ffn.gated else 1
        yield Gemm(up, "dense FFN", ffn.width, hidden, "FFN input", layers, copies=copies)
        yield Gemm("w2", "dense FFN", hidden, ffn.width, "FFN hidden", layers)
        return
    experts = Gemm(
        *("expert w1, w3", "routed experts", ffn.width, hidden, "MoE input", layers),
        copies=2,
        experts=ffn.experts,
        per_token=ffn.per_token,
    )
    yield experts
    yield replace(
        experts, name="expert w2", n=hidden, k=ffn.width, reads="expert hidden", copies=1, dispatched=True
    )
    if ffn.shared:
        width = ffn.shared * ffn.width  # DeepSeek-V3 model.py: one MLP of all shared experts
        yield Gemm("shared w1, w3", "shared experts", width, hidden, "MoE input", layers, copies=2)
        yield Gemm("shared w2", "shared experts", hidden, width, "shared hidden", layers)
    yield Gemm("router", "router", ffn.experts, hidden, "MoE input", layers, quantized=False)


def _vectors(model: ModelDescription) -> Iterator[Vector]:
    hidden, layers, att = model.hidden, model.layers, model.attention
    rows = model.vocab + model.positions + model.token_types
    yield Vector("embedding", "embedding", rows * hidden)
    norm = hidden if model.decoder else 2 * hidden  # RMSNorm scales; LayerNorm also shifts
    yield Vector("layer norms", "norms", 2 * layers * norm)
    yield Vector("final norm" if model.decoder else "embedding norm", "norms", norm)
    if isinstance(att, Latent):
        yield Vector("latent norms", "norms", layers * (att.kv_rank + (att.q_rank or 0)))
    else:
        yield Vector("query and key norms", "norms", 2 * att.head_dim * layers * att.qk_norm)
        qkv = (att.heads + 2 * att.kv_heads) * att.head_dim
        biases = qkv * att.qkv_bias + hidden * att.output_bias
        yield Vector("attention biases", "attention", layers * biases)
    for stack in model.stacks:
        ffn = stack.feed_forward
        if isinstance(ffn, Mixture):
            biases = stack.layers * ffn.experts * ffn.router_bias
            yield Vector("router biases", "router", biases, fp32=True)
        else:
            biases = stack.layers * ffn.bias * (ffn.width * (1 + ffn.gated) + hidden)
            yield Vector("FFN biases", "dense FFN", biases)
    if model.pooler:  # one product a sequence, so a matrix of parameters but no GEMM of tokens
        yield Vector("pooler", "pooler", hidden * hidden + hidden)


def _core(model: ModelDescription, absorbed: bool) -> AttentionCore:
    att, layers = model.attention, model.layers
    qk_dim, v_dim, kv_width = att.qk_dim, att.v_dim, att.cache_width
    if isinstance(att, Latent):
        if absorbed:  # heads work on the latent and the rotary key
            qk_dim, v_dim = att.cache_width, att.kv_rank
        else:
            kv_width = att.heads * (qk_dim + v_dim)
    return AttentionCore(layers, att.heads, qk_dim, v_dim, att.cache_width, kv_width)


@lru_cache(maxsize=64)
def mtp_parameters(model: ModelDescription) -> tuple[int, int]:
    """Return the parameters of one multi-token prediction module: without and with its projection.

    The module has one layer of the last stack, two norms and a final one, and a projection of two
    hidden states to one; it shares embedding and head with the model (DeepSeek-V3 report, 2.2).

    Examples
    --------
    >>> from fp8sim.models import get_model
    >>> mtp_parameters(get_model("deepseek-v3"))
    (11507286272, 11610068224)
    """
    if not model.mtp_layers:
        return 0, 0
    one = ModelDescription(
        *(model.name, model.family, model.hidden, 0, model.attention),
        stacks=(Stack(1, model.stacks[-1].feed_forward),),
    )
    layer = inventory(one).parameters - model.hidden  # without the final norm
    return layer, layer + 3 * model.hidden + 2 * model.hidden * model.hidden
