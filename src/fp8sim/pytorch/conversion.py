"""Replace the linear layers of any model by emulated ones, in one line."""

from __future__ import annotations

import copy
import fnmatch
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim._support.text import shown
from fp8sim.pytorch.attention import MultiheadAttention
from fp8sim.pytorch.modules import Conv1D, Emulated, Linear
from fp8sim.training import TrainingRecipe, TrainingRecipeLike, get_training_recipe

__all__ = ["DEFAULT_SKIP", "Conversion", "conversion", "convert"]

#: Output heads and routers, by the names that models give them. The DeepSeek-V3 report keeps embedding,
#: output head, MoE gating, normalisation and attention in BF16 or FP32 (3.3.1).
DEFAULT_SKIP = (
    "lm_head", "head", "*_head", "embed_out", "output_layer", "classifier", "score", "cls.*",
    "gate", "router", "*_gate", "*router*",
)  # fmt: skip

Skip: TypeAlias = "Sequence[str] | Callable[[str, nn.Module], bool]"


@dataclass(frozen=True, repr=False)
class Conversion(Result):
    """What `convert` replaced and what it kept; prints as a table."""

    recipe: str
    replaced: dict[str, str]  #: name -> kind and shape
    kept: dict[str, str]  #: name of a layer that multiplies by weights -> why it was kept

    WIDTH = 120

    def parts(self) -> list[Table]:
        """Return one row per layer."""
        rows = [[name, "emulated", what] for name, what in self.replaced.items()]
        rows += [[name, "kept", why] for name, why in self.kept.items()]
        return [Table(f"Linear layers under {self.recipe}", ["layer", "is", "what or why"], rows)]


def convert(
    model: nn.Module,
    recipe: TrainingRecipeLike = "deepseek-v3",
    *,
    skip: Skip = DEFAULT_SKIP,
    rng: np.random.Generator | None = None,
) -> nn.Module:
    """Return a model with its linear layers emulated, on the same parameters.

    Replaces `nn.Linear`, the projections of `nn.MultiheadAttention`, and transformers' `Conv1D`.
    Embeddings, norms, attention and everything else stay. The model that is passed is left as it is;
    both share parameters and buffers, so an optimiser made for one serves the other, and state dicts
    have the same entries. ``convert(copy.deepcopy(model), ...)`` trains apart.

    Parameters
    ----------
    model : nn.Module
        Any model.
    recipe : str or TrainingRecipe
        A name in `fp8sim.training.TRAINING_RECIPES`, or a recipe of your own.
    skip : sequence of str, or callable
        Layers to keep: patterns with ``*``, compared with a layer's full name and with the last part
        of it; or ``skip(name, module) -> bool``. By default output heads and routers, as in the
        report; a layer that shares its weight with an embedding is kept in any case.
    rng : numpy.random.Generator, optional
        For recipes that round gradients stochastically; all layers draw from it.

    Returns
    -------
    nn.Module
        The converted copy; `conversion` tells what was replaced.

    Raises
    ------
    ValueError
        If the recipe is unknown, or nothing was left to replace.
    TypeError
        If `model` is no module or `skip` one text, or the recipe rounds stochastically and there is no
        generator.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = convert(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), "mxfp8", skip=["2"])
    >>> print(conversion(model))
    Linear layers under mxfp8
    <BLANKLINE>
    layer  is        what or why
    ────────────────────────────────
    0      emulated  Linear 8x8
    2      kept      skipped by name
    """
    if isinstance(skip, str):
        raise TypeError(f"skip must be a list of patterns, got the text {shown(skip)}; write [{shown(skip)}]")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {shown(model)}")
    recipe = get_training_recipe(recipe)
    shared: dict[int, Any] = {id(t): t for t in itertools.chain(model.parameters(), model.buffers())}
    result = copy.deepcopy(model, shared)
    embeddings = {id(m.weight): name for name, m in result.named_modules() if isinstance(m, nn.Embedding)}
    emulated: dict[int, nn.Module] = {}
    replaced: dict[str, str] = {}
    kept: dict[str, str] = {}
    for name, module in list(result.named_modules(remove_duplicate=False)):
        kind = _kind(module)
        if kind is None or _inside_attention(name, result):
            continue
        why = _why_kept(name, module, skip, embeddings)
        if why:
            kept[name] = why
            continue
        if id(module) not in emulated:
            emulated[id(module)] = _emulated(module, kind, recipe, rng)
        replaced[name] = _describe(emulated[id(module)])
        result = _put(result, name, emulated[id(module)])
    if not replaced:
        raise ValueError(f"no linear layer was left to convert ({len(kept)} were skipped); see skip=")
    _turn_off_fast_paths(result)
    result.__dict__["_fp8sim_conversion"] = Conversion(recipe.name, replaced, kept)
    return result


def conversion(model: nn.Module) -> Conversion:
    """Return what `convert` did to a model.

    Raises
    ------
    ValueError
        If it is no result of `convert`.
    """
    record = model.__dict__.get("_fp8sim_conversion")
    if not isinstance(record, Conversion):
        raise ValueError("this model is no result of fp8sim.pytorch.convert; pass what convert returned")
    return record


def _kind(module: nn.Module) -> type[Emulated] | None:
    """Return the class that can stand in for a module."""
    if isinstance(module, Emulated):
        return None
    if isinstance(module, nn.MultiheadAttention):
        return MultiheadAttention
    if isinstance(module, nn.Linear):
        return Linear
    cls = type(module)
    return Conv1D if cls.__name__ == "Conv1D" and cls.__module__.startswith("transformers.") else None


def _why_kept(name: str, module: nn.Module, skip: Skip, embeddings: dict[int, str]) -> str:
    if callable(skip):
        if skip(name, module):
            return "skipped by the caller"
    elif any(fnmatch.fnmatchcase(part, p) for p in skip for part in (name, name.rpartition(".")[2])):
        return "skipped by name"
    if isinstance(module, nn.MultiheadAttention):
        if type(module) is not nn.MultiheadAttention:
            return f"a subclass, {type(module).__name__}"
        odd = module.bias_k is not None or module.add_zero_attn
        return "attention with add_bias_kv or add_zero_attn" if odd else ""
    if "forward" in vars(module):
        return "its forward was replaced on the instance"
    if id(module.weight) in embeddings:
        return f"shares its weight with the embedding {embeddings[id(module.weight)]}"
    if isinstance(module, nn.Linear) and type(module).forward is not nn.Linear.forward:
        return f"a subclass with its own forward, {type(module).__name__}"
    if "weight" not in module._parameters:
        return "its weight is computed (a parametrisation)"
    return ""


def _inside_attention(name: str, model: nn.Module) -> bool:
    """Whether a layer is the output projection that an attention already covers."""
    parent, _, last = name.rpartition(".")
    return last == "out_proj" and isinstance(model.get_submodule(parent), nn.MultiheadAttention)


def _emulated(
    module: nn.Module, kind: type[Emulated], recipe: TrainingRecipe, rng: np.random.Generator | None
) -> Emulated:
    """Make the emulated twin: same parameters, hooks and mode."""
    twin = kind.__new__(kind)
    twin.__dict__.update(module.__dict__)
    weights = twin.weight_names if isinstance(twin, MultiheadAttention) else ("weight",)
    twin.emulate(recipe, rng, *weights)
    return twin


def _describe(module: nn.Module) -> str:
    if isinstance(module, MultiheadAttention):
        return f"MultiheadAttention, projections of {module.embed_dim}"
    shape = module.weight.shape if isinstance(module, Linear) else module.weight.t().shape
    return f"{type(module).__name__} {shape[0]}x{shape[1]}"


def _put(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Set a submodule by name; the model itself where the name is empty."""
    if not name:
        return module
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
    return model


def _turn_off_fast_paths(model: nn.Module) -> None:
    """Keep PyTorch's fused inference kernels from multiplying by the weights themselves."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
