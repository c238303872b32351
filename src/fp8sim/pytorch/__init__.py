"""PyTorch layers whose products are emulated: PyTorch does autograd, modules, optimisers and data."""

from __future__ import annotations

try:
    import torch  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError("fp8sim.pytorch needs PyTorch: pip install 'fp8sim[torch]'") from None

from fp8sim.pytorch.attention import MultiheadAttention
from fp8sim.pytorch.conversion import DEFAULT_SKIP, Conversion, conversion, convert
from fp8sim.pytorch.linear import linear
from fp8sim.pytorch.modules import Conv1D, Emulated, Linear, emulated_layers

__all__ = [
    "DEFAULT_SKIP", "Conv1D", "Conversion", "Emulated", "Linear", "MultiheadAttention", "conversion",
    "convert", "emulated_layers", "linear",
]  # fmt: skip
