"""Multi-head attention whose projections are emulated; the attention itself stays PyTorch's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from fp8sim.pytorch.modules import Emulated

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Emulated, nn.MultiheadAttention):
    """An `nn.MultiheadAttention` whose input and output projections are emulated.

    `nn.MultiheadAttention` multiplies by its own weights without calling a linear layer, so it is
    replaced as a whole. The products of queries, keys and values stay as they are (DeepSeek-V3
    report, 3.3.1: attention operators keep their precision).
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as `nn.MultiheadAttention` does, with its parameters and results."""
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal is a hint about attn_mask; pass the mask too")
        batched, first = query.dim() == 3, self.batch_first
        if not batched:
            query, key, value = (t.unsqueeze(0) for t in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not first:
            query, key, value = _transposed(query, key, value)
        q, k, v = (self._split(t) for t in self._project(query, key, value))
        mask = _additive(attn_mask, key_padding_mask, q, k)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q / math.sqrt(self.head_dim)) @ k.transpose(-2, -1)
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            weights = functional.dropout(weights, dropout)
            heads = weights @ v
            weights = weights.mean(dim=1) if average_attn_weights else weights
        else:
            heads = functional.scaled_dot_product_attention(q, k, v, mask, dropout)
        joined = heads.transpose(1, 2).flatten(2)
        out = self.product("out_proj.weight", joined, self.out_proj.weight, self.out_proj.bias)
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return (out if first else out.transpose(0, 1)), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Return queries, keys and values; in one product where the three inputs are one tensor."""
        bias = self.in_proj_bias
        if self.in_proj_weight is not None and query is key and key is value:
            return tuple(self.product("in_proj_weight", query, self.in_proj_weight, bias).chunk(3, dim=-1))
        packed = self.in_proj_weight is not None
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        weights = self.in_proj_weight.chunk(3) if packed else [getattr(self, name) for name in names]
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        return tuple(
            self.product("in_proj_weight" if packed else name, x, w, b)
            for name, x, w, b in zip(names, (query, key, value), weights, biases, strict=True)
        )

    def _split(self, x: Tensor) -> Tensor:
        """Return (batch, heads, length, head size)."""
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    @property
    def weight_names(self) -> tuple[str, ...]:
        """Names of the weights that products are with."""
        inputs = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        return (*(("in_proj_weight",) if self.in_proj_weight is not None else inputs), "out_proj.weight")


def _transposed(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Put the batch first, one tensor staying one."""
    q = query.transpose(0, 1)
    k = q if key is query else key.transpose(0, 1)
    v = q if value is query else k if value is key else value.transpose(0, 1)
    return q, k, v


def _additive(attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """Merge both masks into one that is added to the scores; True means that it must not attend."""
    batch, heads = q.shape[:2]
    merged = None
    if attn_mask is not None:
        shape = (batch, heads, *attn_mask.shape[1:]) if attn_mask.dim() == 3 else attn_mask.shape
        merged = _float_mask(attn_mask, q).reshape(shape)
    if padding is not None:
        keys = _float_mask(padding, q).reshape(batch, 1, 1, k.shape[2])
        merged = keys if merged is None else merged + keys
    return merged


def _float_mask(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros(mask.shape, dtype=like.dtype).masked_fill(mask, -math.inf)
