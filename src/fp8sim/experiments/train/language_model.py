"""A small decoder-only language model over bytes, from PyTorch's own parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fp8sim.experiments.train.jobs import BYTES, ModelSize

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ModuleNotFoundError:
    raise ModuleNotFoundError("training needs PyTorch: pip install 'fp8sim[torch]'") from None

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LanguageModel"]


class LanguageModel(nn.Module):
    """Bytes in, logits of the next byte out: GPT-2's layout, without biases in the linear layers.

    Examples
    --------
    >>> model = LanguageModel(ModelSize(width=32, layers=1, heads=2, context=16))
    >>> model(torch.zeros(2, 8, dtype=torch.long)).shape
    torch.Size([2, 8, 256])
    """

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        width = size.width
        self.bytes = nn.Embedding(BYTES, width)
        self.positions = nn.Embedding(size.context, width)
        self.blocks = nn.ModuleList(Block(width, size.heads) for _ in range(size.layers))
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, BYTES, bias=False)
        self.apply(_initialise)
        for block in self.blocks:  # as GPT-2: what adds to the residual stream starts smaller
            for layer in (block.out, block.down):
                nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * size.layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the byte after each."""
        x = self.bytes(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.norm(x))

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats per byte."""
        return functional.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())


class Block(nn.Module):
    """Causal attention and a feed-forward layer, each on a normalised residual stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual stream after the block."""
        projected = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = projected.transpose(1, 3).unbind(2)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.feed_forward_norm(x))))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
