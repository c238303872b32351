"""How quantised weights are written: one row of a table a layout, and its ``quantization_config``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fp8sim._support.typing import AnyArray
from fp8sim.quantization import Quantized
from fp8sim.recipes import RECIPES, Recipe

__all__ = ["KEPT", "TARGETS", "Shapes", "Target", "config_text", "find_target", "quantization_config"]

Shapes: TypeAlias = "Mapping[str, tuple[str, tuple[int, ...]]]"  # type and shape of tensors, by name

#: What stays wide whatever is asked for, by the names of modules: what the checkpoints of their publishers
#: keep (deepseek-ai/DeepSeek-V3, model.safetensors.index.json: ``lm_head``, ``embed_tokens``, ``mlp.gate``,
#: ``eh_proj``, ``shared_head.head``; Qwen/Qwen3-30B-A3B-FP8, zai-org/GLM-5-FP8 and MiniMaxAI/MiniMax-M2.5,
#: modules_to_not_convert; moonshotai/Kimi-K3, ignore).
KEPT = (
    "lm_head", "*.lm_head", "head", "*.head", "*embed*", "*embd*", "wte", "*.wte", "wpe", "*.wpe", "shared",
    "*norm*", "*.gate", "gate", "*router*", "*.shared_expert_gate", "*.eh_proj", "*.indexers_proj",
    "*.indexer.weights_proj", "*mm_projector*",
)  # fmt: skip

_SCALES = {"fp32": "F32", "e8m0": "U8", "e4m3": "F8_E4M3"}


@dataclass(frozen=True)
class Target:
    """One way to write a weight ``q.weight``: what its codes and scales are called and stored in."""

    layout: str  #: ``deepseek``, or the format as compressed-tensors calls it
    fmt: str
    granularity: str
    scale_format: str
    scale: str  #: how the name of the scales begins where that of the weight ends: ``_scale_inv``
    codes: str = ""  #: the same of the codes
    second: str = ""  #: the same of the number above the scales, one over the scale of the tensor
    stored: str = "F8_E4M3"  #: type of the codes
    scale_stored: str = ""  #: type of the scales; by default that of their format
    packed: bool = False  #: whether a byte holds two codes, the first in its lower half
    strategy: str = ""  #: as compressed-tensors calls the granularity of weights
    activations: str = ""  #: and that of activations, where they are quantised too

    @property
    def rows(self) -> int:
        """Rows of a block."""
        return 128 if self.granularity == "128x128" else 1

    @property
    def columns(self) -> int:
        """Columns that there must be a multiple of; readers expect whole groups, but for square blocks."""
        return {"1x32": 32, "1x16": 16}.get(self.granularity, 1)

    def tensors(self, name: str, rows: int, columns: int) -> Shapes:
        """Return type and shape of the tensors that a weight becomes, by name: codes, scales, and second.

        Examples
        --------
        >>> find_target("deepseek-v3").tensors("q.weight", 300, 256)
        {'q.weight': ('F8_E4M3', (300, 256)), 'q.weight_scale_inv': ('F32', (3, 2))}
        """
        width = columns // 2 if self.packed else columns
        group = {"row": columns, "tensor": columns, "128x128": 128}.get(self.granularity, self.columns)
        scales = -(-rows // self.rows), -(-columns // group)
        kind = self.scale_stored or _SCALES[self.scale_format]
        found = {
            name + self.codes: (self.stored, (rows, width)),
            name + self.scale: (kind, (1,) if self.granularity == "tensor" else scales),
        }
        return {**found, name + self.second: ("F32", (1,))} if self.second else found

    def arrays(self, q: Quantized, rows: int) -> list[AnyArray]:
        """Return what is stored of the first rows of a quantised array: codes, scales, and second."""
        codes = np.ascontiguousarray(q.bits[:rows])
        if self.packed:  # a pair 0x0b0a becomes the byte 0xba: 0x0b0a | 0x0b0a >> 4 is 0x0bba
            pairs = codes.view("<u2")
            codes = (pairs | pairs >> 4).astype(np.uint8)
        scales = q.scales if self.scale_stored == "F32" else q.scale_codes
        stored = [codes, np.ascontiguousarray(scales[: -(-rows // self.rows)])]
        if not self.second:
            return stored
        with np.errstate(over="ignore"):
            above = np.float32(1) / q.tensor_scale
        if not np.isfinite(above):
            raise ValueError("one over the scale of the tensor is beyond FP32: its numbers are too small")
        return [*stored, np.array([above], np.float32)]


#: In the order of their publication.
TARGETS = (
    # deepseek-ai/DeepSeek-V3, README_WEIGHTS.md; V3.1 stores powers of two in FP32 (config, scale_fmt ue8m0)
    Target("deepseek", "e4m3", "128x128", "fp32", "_scale_inv"),
    Target("deepseek", "e4m3", "128x128", "e8m0", "_scale_inv", scale_stored="F32"),
    # compressed-tensors 0.20, quantization/quant_scheme.py: FP8, FP8_DYNAMIC, W8A8, MXFP8, MXFP4, NVFP4A16
    Target("float-quantized", "e4m3", "tensor", "fp32", "_scale", strategy="tensor", activations="tensor"),
    Target("float-quantized", "e4m3", "row", "fp32", "_scale", strategy="channel", activations="token"),
    Target(
        "int-quantized", "int8", "row", "fp32", "_scale", stored="I8", strategy="channel",
        activations="token",
    ),
    Target("mxfp8-quantized", "e4m3", "1x32", "e8m0", "_scale", strategy="group", activations="group"),
    Target(
        "mxfp4-pack-quantized", "e2m1", "1x32", "e8m0", "_scale", "_packed", stored="U8", packed=True,
        strategy="group", activations="group",
    ),
    # NVFP4 of activations has a scale of the tensor that only calibration knows: they stay wide.
    Target(
        "nvfp4-pack-quantized", "e2m1", "1x16", "e4m3", "_scale", "_packed", "_global_scale", "U8",
        packed=True, strategy="tensor_group",
    ),
)  # fmt: skip


def find_target(recipe: str | Recipe) -> Target:
    """Return how the weights of a recipe, its operand B, are written.

    Raises
    ------
    ValueError
        If there is no layout for them.

    Examples
    --------
    >>> find_target("nvfp4").layout
    'nvfp4-pack-quantized'
    >>> find_target("bf16")
    Traceback (most recent call last):
    ValueError: there is no layout for the weights of recipe bf16, bf16; use fp8-tensor, fp8-row, ...
    """
    found = RECIPES.find(recipe)
    target = _target(found)
    if target is None:
        names = ", ".join(one.name for one in RECIPES.values() if _target(one))
        raise ValueError(f"there is no layout for the weights of recipe {found}, {found.b}; use {names}")
    return target


def _target(recipe: Recipe) -> Target | None:
    operand, scaling = recipe.b, recipe.b.scaling
    key = operand.fmt.name, scaling.granularity, scaling.scale_format
    if operand.hadamard or scaling.is_calibrated:
        return None
    target = next((one for one in TARGETS if (one.fmt, one.granularity, one.scale_format) == key), None)
    # A layout that says nothing of activations of another kind than weights would be read as another recipe.
    known = target is not None and (
        target.layout == "deepseek" or recipe.a == operand or not recipe.a.is_scaled
    )
    return target if known else None


def quantization_config(target: Target, recipe: Recipe, kept: Sequence[str]) -> dict[str, Any]:
    """Return what ``config.json`` says of a checkpoint in which these modules are kept wide.

    Examples
    --------
    >>> quantization_config(find_target("deepseek-v3"), RECIPES["deepseek-v3"], ["lm_head"])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'activation_scheme': 'dynamic', 'fmt': 'e4m3', 'quant_method': 'fp8', 'weight_block_size': [128, 128],
     'modules_to_not_convert': ['lm_head']}
    """
    if target.layout == "deepseek":
        powers = {"scale_fmt": "ue8m0"} if target.scale_format == "e8m0" else {}
        return {
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", **powers,
            "weight_block_size": [128, 128], "modules_to_not_convert": list(kept),
        }  # fmt: skip
    kind = "int" if target.fmt == "int8" else "float"
    size = {"1x32": 32, "1x16": 16}.get(target.granularity)
    weights: dict[str, Any] = {
        "num_bits": recipe.b.fmt.bits, "type": kind, "symmetric": True, "group_size": size,
        "strategy": target.strategy, "dynamic": False,
    }  # fmt: skip
    if size:
        weights["scale_dtype"] = "torch.uint8" if target.scale_format == "e8m0" else "torch.float8_e4m3fn"
    both = target.activations and recipe.a == recipe.b  # else activations are not as weights are: wide
    activations = {**weights, "strategy": target.activations, "dynamic": True} if both else None
    group = {
        "targets": ["Linear"], "weights": weights, "input_activations": activations,
        "output_activations": None, "format": target.layout,
    }  # fmt: skip
    return {
        "config_groups": {"group_0": group}, "quant_method": "compressed-tensors", "kv_cache_scheme": None,
        "format": target.layout, "quantization_status": "compressed", "global_compression_ratio": None,
        "ignore": list(kept),
    }  # fmt: skip


def config_text(config: dict[str, Any], added: dict[str, Any]) -> bytes:
    r"""Return the text of a configuration with another ``quantization_config``.

    What the old one said is left out, wherever publishers put it, and so is ``expert_dtype``, by which
    DeepSeek-V4 says that its experts are FP4.

    Examples
    --------
    >>> config_text({"model_type": "m", "quantization": {"bits": 4}}, {"bits": 8})
    b'{\n  "model_type": "m",\n  "quantization_config": {\n    "bits": 8\n  }\n}\n'
    """
    old = ("quantization_config", "compression_config", "quantization", "expert_dtype")
    whole = {key: value for key, value in config.items() if key not in old}
    inner = whole.get("text_config")
    if isinstance(inner, dict):
        whole["text_config"] = {key: value for key, value in inner.items() if key not in old}
    whole["quantization_config"] = added
    return (json.dumps(whole, indent=2) + "\n").encode()
