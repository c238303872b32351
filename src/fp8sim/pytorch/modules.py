"""Modules that PyTorch and transformers know, with their products emulated."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fp8sim.accumulators import Fp32
from fp8sim.pytorch.linear import linear, multiply
from fp8sim.training import LinearGemms, Statistics, TrainingRecipe, TrainingRecipeLike, get_training_recipe

__all__ = ["Conv1D", "Emulated", "Linear", "emulated_layers"]

_HISTORY = "amax_history"


class Emulated(nn.Module):
    """What the emulated modules share: a recipe, counters, and amax histories in the state dict.

    Under a recipe with delayed scaling the state dict has one entry more, ``amax_history``; loading a
    state dict without it leaves the histories as they are.
    """

    gemms: dict[str, LinearGemms]  #: by the name of the weight that a product is with

    def emulate(self, recipe: TrainingRecipeLike, rng: np.random.Generator | None, *weights: str) -> None:
        """Set the recipe of each weight's products; counters and histories start anew."""
        chosen = get_training_recipe(recipe)
        self.gemms = {weight: LinearGemms(chosen, rng, fp32=Fp32(multiply)) for weight in weights}

    @property
    def recipe(self) -> TrainingRecipe:
        """The recipe."""
        return next(iter(self.gemms.values())).recipe

    def measure(self, *, sqnr: bool = False) -> dict[str, Statistics]:
        """Start counting what is lost from now on, and return the counters, by the name of the weight.

        With `sqnr` each product is done in FP32 as well, and the inputs are kept unquantised.
        """
        for gemms in self.gemms.values():
            gemms.statistics = Statistics(sqnr)
        return {weight: g.statistics for weight, g in self.gemms.items() if g.statistics is not None}

    def product(self, weight: str, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``x @ w.T + bias`` under the recipe."""
        return linear(x, w, bias, self.gemms[weight], self.training)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        histories = [g.delayed.history for g in self.gemms.values() if g.delayed is not None]
        if histories:
            destination[prefix + _HISTORY] = torch.from_numpy(np.stack(histories))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        delayed = [g.delayed for g in self.gemms.values() if g.delayed is not None]
        saved = state_dict.pop(prefix + _HISTORY, None) if delayed else None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if saved is None:
            return
        wanted = (len(delayed), *delayed[0].history.shape)
        if tuple(saved.shape) != wanted:
            raise ValueError(f"{prefix}{_HISTORY} has shape {tuple(saved.shape)}, the recipe needs {wanted}")
        for scales, history in zip(delayed, saved.numpy(), strict=True):
            scales.history[...] = history


class Linear(Emulated, nn.Linear):
    """An `nn.Linear` whose products are emulated under a training recipe.

    Parameters
    ----------
    in_features, out_features, bias, device, dtype
        As for `nn.Linear`.
    recipe : str or TrainingRecipe
        A name in `fp8sim.training.TRAINING_RECIPES`, or a recipe of your own.
    rng : numpy.random.Generator, optional
        For recipes that round gradients stochastically.

    Raises
    ------
    ValueError
        If the recipe is unknown.
    TypeError
        If the recipe rounds stochastically and there is no generator.

    Examples
    --------
    >>> import torch
    >>> layer = Linear(256, 64, recipe="deepseek-v3")
    >>> layer
    Linear(in_features=256, out_features=64, bias=True, recipe=deepseek-v3)
    >>> counters = layer.measure()["weight"]
    >>> layer(torch.randn(8, 256)).sum().backward()
    >>> counters.gemms["wgrad"].elements == 8 * 64 + 8 * 256
    True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        recipe: TrainingRecipeLike = "deepseek-v3",
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.emulate(recipe, rng, "weight")

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input W^T + bias``."""
        return self.product("weight", input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Say what it is."""
        return f"{super().extra_repr()}, recipe={self.recipe}"


class Conv1D(Emulated):
    """A linear layer that stores its weights as (in, out), as transformers' GPT-2 does."""

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x W + bias``."""
        return self.product("weight", x, self.weight.t(), self.bias)

    def extra_repr(self) -> str:
        """Say what it is."""
        inputs, outputs = self.weight.shape
        return f"in_features={inputs}, out_features={outputs}, recipe={self.recipe}"


def emulated_layers(model: nn.Module) -> dict[str, Emulated]:
    """Return the emulated modules of a model by name.

    Examples
    --------
    >>> from torch import nn
    >>> list(emulated_layers(nn.Sequential(Linear(4, 4), nn.ReLU())))
    ['0']
    """
    return {name: module for name, module in model.named_modules() if isinstance(module, Emulated)}
