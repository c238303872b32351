"""Which layer of a model is what: a word for each, from lists, steps or letters of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from fp8sim._support.text import shown
from fp8sim.models.config import Config

__all__ = [
    "V4_RATIOS",
    "Pattern",
    "after_first",
    "every_layer",
    "gemma4_feed_forwards",
    "hashed",
    "interleaved",
    "kimi",
    "last_full",
    "letters",
    "listed_types",
    "numbers",
    "one_in",
    "shared_upper",
    "stepped",
    "upper_windows",
]  # fmt: skip

#: A word for every layer, from a configuration; the words are keys of a row of `FAMILIES`.
Pattern: TypeAlias = Callable[[Config], "list[str]"]

#: An entry of DeepSeek-V4's ``compress_ratios`` -> the kind of its layer.
V4_RATIOS = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


def every_layer(word: str) -> Pattern:
    """Give every layer one word."""
    return lambda cfg: [word] * cfg.layers


def listed_types(otherwise: Pattern, *keys: str) -> Pattern:
    """Take the words of ``layer_types`` or another list, or a pattern where there is none."""

    def words(cfg: Config) -> list[str]:
        listed = (cfg.each_layer(key) for key in (keys or ("layer_types",)))
        return next((types for types in listed if types), None) or otherwise(cfg)

    return words


def one_in(interval: str, last: str, others: str) -> Pattern:
    """Every so many layers `last`, the others before it."""

    def words(cfg: Config) -> list[str]:
        step = cfg.value(interval)
        return [others if (layer + 1) % step else last for layer in range(cfg.layers)]

    return words


def numbers(key: str, words: Mapping[int, str], otherwise: Pattern) -> Pattern:
    """Take a list of numbers, each for a word."""

    def pattern(cfg: Config) -> list[str]:
        if not isinstance(cfg.get(key), list):
            return otherwise(cfg)
        listed = cfg.each_layer(key, int) or []
        return [words.get(number, str(number)) for number in listed]

    return pattern


def upper_windows(cfg: Config) -> list[str]:
    """Qwen2: the layers from ``max_window_layers`` on have a window, where there is one."""
    used = cfg.value("use_sliding_window|=false", flag=True)
    first = cfg.value("max_window_layers|=0", least=0) if used else cfg.layers
    return ["full_attention" if layer < first else "sliding_attention" for layer in range(cfg.layers)]


def after_first(key: str, *, step: str = "=1") -> Pattern:
    """Make the first layers dense, of the later ones every so many a mixture (DeepSeek)."""

    def words(cfg: Config) -> list[str]:
        first, layers = cfg.value(key, least=0), cfg.layers
        if first > layers:
            raise cfg.error(f"{key.partition('|')[0]} ({first}) is larger than num_hidden_layers ({layers})")
        every = cfg.value(step)
        return ["dense" if layer < first or layer % every else "sparse" for layer in range(layers)]

    return words


def stepped(cfg: Config) -> list[str]:
    """Qwen-MoE: every ``decoder_sparse_step``-th layer a mixture, but for ``mlp_only_layers``."""
    step, dense = cfg.value("decoder_sparse_step|=1"), set(cfg.listed("mlp_only_layers", int) or ())
    return ["dense" if i in dense or (i + 1) % step else "sparse" for i in range(cfg.layers)]


def interleaved(cfg: Config) -> list[str]:
    """Llama 4: the layers of ``moe_layers``, or every ``interleave_moe_layer_step``-th."""
    listed = cfg.listed("moe_layers", int)
    if listed is not None:
        return ["sparse" if layer in set(listed) else "dense" for layer in range(cfg.layers)]
    return one_in("interleave_moe_layer_step", "sparse", "dense")(cfg)


def hashed(cfg: Config) -> list[str]:
    """DeepSeek-V4: the first ``num_hash_layers`` pick experts by a table."""
    first = cfg.value("num_hash_layers|=0", least=0)
    return ["hash_moe" if layer < first else "moe" for layer in range(cfg.layers)]


def letters(cfg: Config) -> list[str]:
    """Nemotron-H: a letter a layer, or a word."""
    words = {
        "mamba": "M",
        "linear_attention": "M",
        "attention": "*",
        "full_attention": "*",
        "moe": "E",
        "mlp": "-",
    }
    listed = listed_types(lambda cfg: [], "layers_block_type", "layer_types")(cfg)
    if listed:
        return [words.get(word, word) for word in listed]
    text = cfg.get("hybrid_override_pattern")
    if not isinstance(text, str):
        wrong = "is missing" if text is None else f"must be text, got {shown(text)}"
        raise cfg.error(f"hybrid_override_pattern {wrong}")
    if len(text) != cfg.layers:
        raise cfg.error(f"hybrid_override_pattern has {len(text)} letters for {cfg.layers} layers")
    return list(text)


def kimi(cfg: Config) -> list[str]:
    """Kimi Linear: the layers of ``kda_layers``, counted from one, are recurrent."""
    recurrent = cfg.listed("linear_attn_config.kda_layers", int)
    if recurrent is None:
        return one_in("=4", "full_attention", "linear_attention")(cfg)
    there = set(recurrent)
    return ["linear_attention" if i + 1 in there else "full_attention" for i in range(cfg.layers)]


def shared_upper(pattern: Pattern) -> Pattern:
    """Gemma 4: the last ``num_kv_shared_layers`` have the keys and values of earlier ones."""

    def words(cfg: Config) -> list[str]:
        own = cfg.layers - cfg.value("num_kv_shared_layers|=0", least=0)
        return [word if i < own else f"{word}, shared" for i, word in enumerate(pattern(cfg))]

    return words


def last_full(pattern: Pattern) -> Pattern:
    """Let the last layer meet all tokens (Gemma 4)."""
    return lambda cfg: [*pattern(cfg)[:-1], "full_attention"]


def gemma4_feed_forwards(cfg: Config) -> list[str]:
    """Gemma 4: mixtures, or dense layers that are twice as wide where keys and values are shared."""
    if cfg.value("enable_moe_block|=false", flag=True):
        return ["sparse"] * cfg.layers
    wide = cfg.value("use_double_wide_mlp|=false", flag=True)
    own = cfg.layers - cfg.value("num_kv_shared_layers|=0", least=0)
    return ["wide" if wide and layer >= own else "dense" for layer in range(cfg.layers)]
