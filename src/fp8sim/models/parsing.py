"""Reading a Hugging Face config.json into a description, with one clear error for a bad one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from fp8sim._support import checks
from fp8sim._support.files import read_bytes
from fp8sim._support.text import shown
from fp8sim.models.description import (
    Attention,
    Family,
    FeedForward,
    GroupedQuery,
    Latent,
    Mixture,
    ModelDescription,
    Stack,
)

__all__ = ["FAMILIES", "describe", "read_config"]

#: The values of model_type that are described.
FAMILIES: tuple[Family, ...] = get_args(Family)


class _Config:
    """A configuration under a name: looks up keys, checks what they hold, and words the errors."""

    def __init__(self, data: Mapping[str, Any], name: str, source: str) -> None:
        self.data, self.name, self.source = data, name, source
        self.family = self._find_family()

    def _find_family(self) -> Family:
        name = self.data.get("model_type")
        if name is None:  # some files name the class alone
            classes = self.data.get("architectures")
            first = classes[0] if isinstance(classes, list) and classes else None
            name = next((family for family, (known, _) in _FAMILIES.items() if known == first), None)
            if name is None:
                raise self.error(f"model_type is missing; known: {', '.join(FAMILIES)}")
        for family in FAMILIES:
            if name == family:
                return family
        raise self.error(f"model_type {shown(name)} is not described; known: {', '.join(FAMILIES)}")

    def error(self, what: str) -> ValueError:
        return ValueError(f"config of {self.name}: {what}")

    def size(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """Return a whole number of at least `least`."""
        value = self.data.get(key)
        value = default if value is None else value
        if value is None:
            raise self.error(f"{key} is missing")
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(f"{key} must be a whole number, got {shown(value)}")
        if not least <= value <= checks.LARGEST:
            bound = f"at least {least}" if value < least else f"at most {checks.LARGEST}"
            raise self.error(f"{key} must be {bound}, got {shown(value)}")
        return int(value)

    def optional(self, key: str) -> int | None:
        """Return a size, or None where the key is absent or null."""
        return None if self.data.get(key) is None else self.size(key)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.data.get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"{key} must be true or false, got {shown(value)}")
        return value

    def only(self, key: str, allowed: object, why: str) -> None:
        """Require that a key, where it stands, holds the one value this library describes."""
        value = self.data.get(key)
        if value is not None and value != allowed:
            raise self.error(f"{key} is {shown(value)}; {why}")

    def divides(self, small: str, large: str) -> int:
        """Return ``large / small``, which must be whole."""
        whole, part = self.size(large), self.size(small)
        if whole % part:
            raise self.error(f"{large} ({whole}) is not a multiple of {small} ({part})")
        return whole // part


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a config.json, or that of a folder; what is none is refused with a ValueError.

    Examples
    --------
    >>> read_config("no-such-folder/config.json")
    Traceback (most recent call last):
    ValueError: cannot read no-such-folder/config.json: No such file or directory
    """
    file = Path(path)
    if file.is_dir():
        file = file / "config.json"
    try:
        data = json.loads(read_bytes(file).decode("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"cannot read {file}: No such file or directory") from None
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not text; pass a model's config.json") from None
    except json.JSONDecodeError as error:
        cut = "it ends too early" if error.pos >= len(error.doc.rstrip()) else error.msg
        raise ValueError(f"{file} is not JSON: {cut} (line {error.lineno})") from None
    except RecursionError:
        raise ValueError(f"{file} is not a config.json: it is nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError(f"{file} holds a JSON {type(data).__name__}; a config.json holds an object")
    return data


def describe(config: Mapping[str, Any], name: str = "model", source: str = "user") -> ModelDescription:
    """Turn a Hugging Face configuration into a description: its shapes, not its quantisation settings.

    `name` is what tables call the model, `source` where its configuration is from. What is missing,
    unknown, or contradicts itself raises a ValueError.

    Examples
    --------
    >>> config = dict(model_type="llama", vocab_size=32000, hidden_size=4096, intermediate_size=11008,
    ...               num_hidden_layers=32, num_attention_heads=32)
    >>> describe(config, "llama-2-7b").attention
    GroupedQuery(heads=32, kv_heads=32, head_dim=128, qkv_bias=False, output_bias=False, qk_norm=False)
    """
    cfg = _Config(config, name, source)
    _, read = _FAMILIES[cfg.family]
    return read(cfg)


def _model(cfg: _Config, attention: Attention, *stacks: Stack, **options: Any) -> ModelDescription:
    hidden, vocab = cfg.size("hidden_size"), cfg.size("vocab_size")
    layers = tuple(stack for stack in stacks if stack.layers)
    return ModelDescription(
        cfg.name, cfg.family, hidden, vocab, attention, layers, source=cfg.source, **options
    )


def _grouped(cfg: _Config, *, qkv_bias: bool, output_bias: bool, qk_norm: bool = False) -> GroupedQuery:
    heads = cfg.size("num_attention_heads")
    kv_heads = cfg.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise cfg.error(
            f"num_attention_heads ({heads}) is not a multiple of num_key_value_heads ({kv_heads})"
        )
    head_dim = cfg.optional("head_dim") or cfg.divides("num_attention_heads", "hidden_size")
    return GroupedQuery(heads, kv_heads, head_dim, qkv_bias, output_bias, qk_norm)


def _decoder(cfg: _Config, attention: Attention, ffn: FeedForward | Mixture) -> ModelDescription:
    tied = cfg.flag("tie_word_embeddings", False)
    return _model(cfg, attention, Stack(cfg.size("num_hidden_layers"), ffn), tied=tied)


def _llama(cfg: _Config) -> ModelDescription:
    bias = cfg.flag("attention_bias", False)
    ffn = FeedForward(cfg.size("intermediate_size"), bias=cfg.flag("mlp_bias", False))
    return _decoder(cfg, _grouped(cfg, qkv_bias=bias, output_bias=bias), ffn)


def _qwen(cfg: _Config) -> ModelDescription:
    cfg.only("use_sliding_window", False, "sliding windows are not described: set it to false")
    if cfg.family == "qwen2":
        attention = _grouped(cfg, qkv_bias=True, output_bias=False)  # the Qwen2 report, 2.2.1
    else:
        bias = cfg.flag("attention_bias", False)
        attention = _grouped(cfg, qkv_bias=bias, output_bias=bias, qk_norm=True)
    if cfg.family != "qwen3_moe":
        return _decoder(cfg, attention, FeedForward(cfg.size("intermediate_size")))
    cfg.only("decoder_sparse_step", 1, "only a mixture in every layer is described")
    cfg.only("mlp_only_layers", [], "only a mixture in every layer is described")
    # transformers writes num_local_experts since version 5, num_experts before
    key = "num_local_experts" if "num_local_experts" in cfg.data else "num_experts"
    return _decoder(cfg, attention, Mixture(cfg.size("moe_intermediate_size"), *_experts(cfg, key)))


def _experts(cfg: _Config, key: str) -> tuple[int, int]:
    experts, per_token = cfg.size(key), cfg.size("num_experts_per_tok")
    if per_token > experts:
        raise cfg.error(f"num_experts_per_tok ({per_token}) is larger than {key} ({experts})")
    return experts, per_token


def _latent(cfg: _Config) -> Latent:
    heads = cfg.size("num_attention_heads")
    if cfg.size("num_key_value_heads", heads) != heads:
        raise cfg.error(
            "num_key_value_heads differs from num_attention_heads, which latent attention excludes"
        )
    cfg.only("attention_bias", False, "latent attention with biases is not described")
    return Latent(
        heads,
        cfg.optional("q_lora_rank"),
        cfg.size("kv_lora_rank"),
        cfg.size("qk_nope_head_dim"),
        cfg.size("qk_rope_head_dim"),
        cfg.size("v_head_dim"),
    )


def _deepseek_v3(cfg: _Config) -> ModelDescription:
    layers = cfg.size("num_hidden_layers")
    dense = cfg.size("first_k_dense_replace", least=0)
    if dense > layers:
        raise cfg.error(f"first_k_dense_replace ({dense}) is larger than num_hidden_layers ({layers})")
    cfg.only("moe_layer_freq", 1, "only a mixture in every later layer is described")
    experts, per_token = _experts(cfg, "n_routed_experts")
    groups = cfg.size("n_group", 1)
    if experts % groups:
        raise cfg.error(f"n_routed_experts ({experts}) is not a multiple of n_group ({groups})")
    shared = cfg.size("n_shared_experts", 0, least=0)
    width = cfg.size("moe_intermediate_size")
    mixture = Mixture(width, experts, per_token, shared, router_bias=True)
    return _model(
        cfg,
        _latent(cfg),
        Stack(dense, FeedForward(cfg.size("intermediate_size"))),
        Stack(layers - dense, mixture),
        tied=cfg.flag("tie_word_embeddings", False),
        mtp_layers=cfg.size("num_nextn_predict_layers", 0, least=0),
    )


def _bert(cfg: _Config) -> ModelDescription:
    classes = cfg.data.get("architectures", ["BertModel"])
    if classes != ["BertModel"]:
        raise cfg.error(
            f"architectures is {shown(classes)}; of BERT only the encoder, BertModel, is described"
        )
    cfg.only("position_embedding_type", "absolute", "only absolute positions are described")
    cfg.only("is_decoder", False, "BERT as a decoder is not described")
    attention = _grouped(cfg, qkv_bias=True, output_bias=True)
    ffn = FeedForward(cfg.size("intermediate_size"), gated=False, bias=True)
    return _model(
        cfg,
        attention,
        Stack(cfg.size("num_hidden_layers"), ffn),
        decoder=False,
        positions=cfg.size("max_position_embeddings"),
        token_types=cfg.size("type_vocab_size"),
        pooler=True,
    )


# model_type -> the class that some files name alone, and how the configuration is read.
_FAMILIES: dict[Family, tuple[str, Callable[[_Config], ModelDescription]]] = {
    "deepseek_v3": ("DeepseekV3ForCausalLM", _deepseek_v3),
    "llama": ("LlamaForCausalLM", _llama),
    "qwen2": ("Qwen2ForCausalLM", _qwen),
    "qwen3": ("Qwen3ForCausalLM", _qwen),
    "qwen3_moe": ("Qwen3MoeForCausalLM", _qwen),
    "bert": ("BertModel", _bert),
}
