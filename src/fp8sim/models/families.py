"""The families of models: each a row that says which parts a layer has and which keys hold their sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fp8sim._support.text import shown
from fp8sim.models.attention import Compressed, GroupedQuery, Index, Latent, Recurrent
from fp8sim.models.config import Config, PartSpec, Spec
from fp8sim.models.description import FeedForward, Mixture

__all__ = ["ALIASES", "FAMILIES", "V4_RATIOS", "Family", "family_of"]

#: A word for every layer, from a configuration; the words are keys of a row.
Pattern: TypeAlias = Callable[[Config], "list[str]"]


@dataclass(frozen=True)
class Family:
    """A row: classes of `transformers` that begin so, the parts of a layer by word, and what is where."""

    prefix: str
    attention: Mapping[str, PartSpec | None]
    feed_forward: Mapping[str, PartSpec | None]
    attention_layers: Pattern
    feed_forward_layers: Pattern
    whole: Mapping[str, Spec] = field(default_factory=dict)  #: fields of the description
    norms: str = "=2"
    only: tuple[tuple[str, object, str], ...] = ()  #: keys that may hold one value alone, and why
    left_out: tuple[str, ...] = ()  #: keys of parts that are not counted


# --- which layer is what --------------------------------------------------------------------------


def _all(word: str) -> Pattern:
    return lambda cfg: [word] * cfg.layers


def _types(otherwise: Pattern, *keys: str) -> Pattern:
    """Take the words of ``layer_types`` or another list, or a pattern where there is none."""

    def words(cfg: Config) -> list[str]:
        listed = (cfg.each_layer(key) for key in (keys or ("layer_types",)))
        return next((types for types in listed if types), None) or otherwise(cfg)

    return words


def _every(interval: Spec, last: str, others: str) -> Pattern:
    """Every so many layers `last`, the others before it."""

    def words(cfg: Config) -> list[str]:
        step = cfg.value(str(interval))
        return [others if (layer + 1) % step else last for layer in range(cfg.layers)]

    return words


def _numbers(key: str, words: Mapping[int, str], otherwise: Pattern) -> Pattern:
    """Take a list of numbers, each for a word."""

    def pattern(cfg: Config) -> list[str]:
        if not isinstance(cfg.get(key), list):
            return otherwise(cfg)
        listed = cfg.each_layer(key, int) or []
        return [words.get(number, str(number)) for number in listed]

    return pattern


def _upper_windows(cfg: Config) -> list[str]:
    """Qwen2: the layers from ``max_window_layers`` on have a window, where there is one."""
    used = cfg.value("use_sliding_window|=false", flag=True)
    first = cfg.value("max_window_layers|=0", least=0) if used else cfg.layers
    return ["full_attention" if layer < first else "sliding_attention" for layer in range(cfg.layers)]


def _after_first(key: str, *, step: str = "=1") -> Pattern:
    """Make the first layers dense, of the later ones every so many a mixture (DeepSeek)."""

    def words(cfg: Config) -> list[str]:
        first, layers = cfg.value(key, least=0), cfg.layers
        if first > layers:
            raise cfg.error(f"{key.partition('|')[0]} ({first}) is larger than num_hidden_layers ({layers})")
        every = cfg.value(step)
        return ["dense" if layer < first or layer % every else "sparse" for layer in range(layers)]

    return words


def _stepped(cfg: Config) -> list[str]:
    """Qwen-MoE: every ``decoder_sparse_step``-th layer a mixture, but for ``mlp_only_layers``."""
    step, dense = cfg.value("decoder_sparse_step|=1"), set(cfg.listed("mlp_only_layers", int) or ())
    return ["dense" if i in dense or (i + 1) % step else "sparse" for i in range(cfg.layers)]


def _interleaved(cfg: Config) -> list[str]:
    """Llama 4: the layers of ``moe_layers``, or every ``interleave_moe_layer_step``-th."""
    listed = cfg.listed("moe_layers", int)
    if listed is not None:
        return ["sparse" if layer in set(listed) else "dense" for layer in range(cfg.layers)]
    return _every("interleave_moe_layer_step", "sparse", "dense")(cfg)


def _hashed(cfg: Config) -> list[str]:
    first = cfg.value("num_hash_layers|=0", least=0)
    return ["hash_moe" if layer < first else "moe" for layer in range(cfg.layers)]


def _letters(cfg: Config) -> list[str]:
    """Nemotron-H: a letter a layer, or a word."""
    words = {
        "mamba": "M",
        "linear_attention": "M",
        "attention": "*",
        "full_attention": "*",
        "moe": "E",
        "mlp": "-",
    }
    listed = _types(lambda cfg: [], "layers_block_type", "layer_types")(cfg)
    if listed:
        return [words.get(word, word) for word in listed]
    text = cfg.get("hybrid_override_pattern")
    if not isinstance(text, str):
        wrong = "is missing" if text is None else f"must be text, got {shown(text)}"
        raise cfg.error(f"hybrid_override_pattern {wrong}")
    if len(text) != cfg.layers:
        raise cfg.error(f"hybrid_override_pattern has {len(text)} letters for {cfg.layers} layers")
    return list(text)


def _kimi(cfg: Config) -> list[str]:
    """Kimi Linear: the layers of ``kda_layers``, counted from one, are recurrent."""
    recurrent = cfg.listed("linear_attn_config.kda_layers", int)
    if recurrent is None:
        return _every("=4", "full_attention", "linear_attention")(cfg)
    there = set(recurrent)
    return ["linear_attention" if i + 1 in there else "full_attention" for i in range(cfg.layers)]


def _shared_upper(pattern: Pattern) -> Pattern:
    """Gemma 4: the last ``num_kv_shared_layers`` have the keys and values of earlier ones."""

    def words(cfg: Config) -> list[str]:
        own = cfg.layers - cfg.value("num_kv_shared_layers|=0", least=0)
        return [word if i < own else f"{word}, shared" for i, word in enumerate(pattern(cfg))]

    return words


def _last_full(pattern: Pattern) -> Pattern:
    return lambda cfg: [*pattern(cfg)[:-1], "full_attention"]


def _gemma4_ffn(cfg: Config) -> list[str]:
    if cfg.value("enable_moe_block|=false", flag=True):
        return ["sparse"] * cfg.layers
    wide = cfg.value("use_double_wide_mlp|=false", flag=True)
    own = cfg.layers - cfg.value("num_kv_shared_layers|=0", least=0)
    return ["wide" if wide and layer >= own else "dense" for layer in range(cfg.layers)]


# --- parts that several families share ------------------------------------------------------------

_DENSE: PartSpec = (FeedForward, {"width": "intermediate_size"})
_GQA: dict[str, Spec] = {
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads|num_attention_heads",
    "head_dim": "head_dim|hidden_size/num_attention_heads",
    "qkv_bias": "attention_bias|=false",
}
_QWEN3: dict[str, Spec] = {**_GQA, "output_bias": "attention_bias|=false", "qk_norm": "=head"}
_WINDOW: dict[str, Spec] = {"window": "sliding_window"}
_MLA: dict[str, Spec] = {
    "heads": "num_attention_heads",
    "q_rank": "q_lora_rank|=none",
    "kv_rank": "kv_lora_rank",
    "nope_dim": "qk_nope_head_dim",
    "rope_dim": "qk_rope_head_dim",
    "v_dim": "v_head_dim",
}
_INDEX: dict[str, Spec] = {"heads": "index_n_heads", "dim": "index_head_dim", "top": "index_topk"}
_EXPERTS: dict[str, Spec] = {
    "width": "moe_intermediate_size",
    "experts": "num_local_experts|num_experts|n_routed_experts|moe_num_experts",
    "per_token": "num_experts_per_tok|num_experts_per_token|moe_top_k|top_k_experts",
}
_DEEPSEEK_EXPERTS: dict[str, Spec] = {
    **_EXPERTS,
    "experts": "n_routed_experts|num_local_experts",
    "shared": "n_shared_experts|=0",
    "router_bias": "=true",
}
_QWEN_EXPERTS: dict[str, Spec] = {
    **_EXPERTS,
    "shared": "=1",
    "shared_width": "shared_expert_intermediate_size",
    "shared_gate": "=true",
}
_V4: dict[str, Spec] = {
    "heads": "num_attention_heads",
    "head_dim": "head_dim",
    "rope_dim": "qk_rope_head_dim",
    "q_rank": "q_lora_rank",
    "groups": "o_groups",
    "o_rank": "o_lora_rank",
    "window": "sliding_window",
}
_DELTA: dict[str, Spec] = {
    "heads": "linear_num_value_heads",
    "key_heads": "linear_num_key_heads",
    "key_dim": "linear_key_head_dim",
    "value_dim": "linear_value_head_dim",
    "kernel": "linear_conv_kernel_dim",
}
#: An entry of DeepSeek-V4's ``compress_ratios`` -> the kind of its layer.
V4_RATIOS = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}

_TIED: dict[str, Spec] = {"tied": "tie_word_embeddings|=false"}
_TIED_BY_DEFAULT: dict[str, Spec] = {"tied": "tie_word_embeddings|=true"}
_MTP: dict[str, Spec] = {**_TIED, "mtp_layers": "num_nextn_predict_layers|num_mtp_modules|=0"}

_FULL, _SPARSE = _all("full_attention"), _all("sparse")
_BY_TYPE = _types(_after_first("first_k_dense_replace|=0"), "mlp_layer_types")
_SLIDING_FIRST = _types(_every("=2", "full_attention", "sliding_attention"))


def _decoder(
    prefix: str,
    attention: dict[str, Spec],
    feed_forward: PartSpec = _DENSE,
    whole: Mapping[str, Spec] = _TIED,
    **more: Any,
) -> Family:
    """Describe a decoder whose layers are all alike."""
    kinds: dict[str, PartSpec | None] = {"full_attention": (GroupedQuery, attention)}
    return Family(prefix, kinds, {"all": feed_forward}, _FULL, _all("all"), whole, **more)


def _two_reaches(prefix: str, attention: dict[str, Spec], pattern: Pattern, **more: Any) -> Family:
    """Describe a decoder whose layers meet all tokens, or those of a window."""
    kinds: dict[str, PartSpec | None] = {
        "full_attention": (GroupedQuery, attention),
        "sliding_attention": (GroupedQuery, attention | _WINDOW),
    }
    alike: dict[str, Any] = {
        **{"feed_forward": {"all": _DENSE}, "feed_forward_layers": _all("all")},
        **{"attention_layers": pattern, "whole": _TIED},
    }
    return Family(prefix, kinds, **(alike | more))


def _mla(
    prefix: str, fields: dict[str, Spec], experts: dict[str, Spec], pattern: Pattern, **more: Any
) -> Family:
    """Latent attention; the first layers dense, the others mixtures."""
    kinds: dict[str, PartSpec | None] = {"full_attention": (Latent, fields)}
    ffn: dict[str, PartSpec | None] = {"dense": _DENSE, "sparse": (Mixture, experts)}
    excluded = (("attention_bias", False, "latent attention with biases is not described"),)
    return Family(prefix, kinds, ffn, _FULL, pattern, _MTP, only=excluded, **more)


_qwen_layers = _types(_upper_windows)
_FIRST_DENSE = _types(_after_first("first_k_dense_replace", step="moe_layer_freq|=1"), "mlp_layer_types")
_OLDER_DENSE = _types(
    _numbers("moe_layer_freq", {0: "dense", 1: "sparse"}, _after_first("first_k_dense_replace|=0")),
    "mlp_layer_types",
)

#: model_type -> its row.
FAMILIES: dict[str, Family] = {
    "deepseek_v3": _mla("DeepseekV3", _MLA, _DEEPSEEK_EXPERTS, _FIRST_DENSE),
    "llama": _decoder(
        "Llama",
        {**_GQA, "output_bias": "attention_bias|=false"},
        (FeedForward, {"width": "intermediate_size", "bias": "mlp_bias|=false"}),
    ),
    "qwen2": _two_reaches("Qwen2", {**_GQA, "qkv_bias": "=true"}, _qwen_layers),  # the Qwen2 report, 2.2.1
    "qwen3": _two_reaches("Qwen3", _QWEN3, _qwen_layers),
    "qwen3_moe": _two_reaches(
        "Qwen3Moe",
        _QWEN3,
        _qwen_layers,
        feed_forward={"dense": _DENSE, "sparse": (Mixture, _EXPERTS)},
        feed_forward_layers=_stepped,
    ),
    "deepseek_v2": _mla("DeepseekV2", _MLA, {**_DEEPSEEK_EXPERTS, "router_bias": "=false"}, _FIRST_DENSE),
    "deepseek_v32": _mla("DeepseekV32", _MLA | {"index": (Index, _INDEX)}, _DEEPSEEK_EXPERTS, _FIRST_DENSE),
    "deepseek_v4": Family(
        "DeepseekV4",
        {
            "sliding_attention": (Compressed, _V4),
            "compressed_sparse_attention": (
                Compressed,
                {**_V4, "ratio": "=4", "overlap": "=2", "index": (Index, {**_INDEX, "bits": "=4"})},
            ),
            "heavily_compressed_attention": (Compressed, {**_V4, "ratio": "=128"}),
        },
        {
            "moe": (Mixture, _DEEPSEEK_EXPERTS),
            "hash_moe": (Mixture, {**_DEEPSEEK_EXPERTS, "router_bias": "=false", "hash_rows": "vocab_size"}),
        },
        _types(_numbers("compress_ratios", V4_RATIOS, _all("sliding_attention"))),
        _types(_hashed, "mlp_layer_types"),
        {**_MTP, "streams": "hc_mult|=1"},
    ),
    "glm_moe_dsa": _mla("GlmMoeDsa", _MLA | {"index": (Index, _INDEX)}, _DEEPSEEK_EXPERTS, _FIRST_DENSE),
    "kimi_linear": Family(
        "KimiLinear",
        {
            "full_attention": (Latent, {**_MLA, "gate": "mla_use_output_gate|=false"}),
            "linear_attention": (
                Recurrent,
                {
                    "heads": "linear_attn_config.num_heads|linear_num_heads",
                    "key_heads": "linear_attn_config.num_heads|linear_num_heads",
                    "key_dim": "linear_attn_config.head_dim|linear_head_dim",
                    "value_dim": "linear_attn_config.head_dim|linear_head_dim",
                    "kernel": "linear_attn_config.short_conv_kernel_size|linear_conv_kernel_dim",
                    "scalars": "=1",
                    "head_parameters": "=1",
                    "decay_rank": "linear_attn_config.head_dim|linear_head_dim",
                    "gate_rank": "linear_attn_config.use_full_rank_gate?=none:linear_attn_config.head_dim"
                    "|linear_attn_config.head_dim|linear_head_dim",
                },
            ),
        },
        {
            "dense": _DENSE,
            "sparse": (
                Mixture,
                {
                    **_EXPERTS,
                    "shared": "num_shared_experts|=0",
                    "router_bias": "=true",
                    "latent": "routed_expert_hidden_size|=none",
                    "latent_norm": "latent_moe_use_norm|=false",
                },
            ),
        },
        _types(_kimi),
        _BY_TYPE,
        _MTP,
        left_out=("attn_res_block_size",),
    ),
    "mistral": _decoder("Mistral", {**_GQA, "window": "sliding_window|=none"}),
    "mixtral": _decoder(
        "Mixtral",
        {**_GQA, "window": "sliding_window|=none"},
        (Mixture, {**_EXPERTS, "width": "intermediate_size"}),
    ),
    "llama4": Family(
        "Llama4",
        {
            "full_attention": (GroupedQuery, {**_GQA, "output_bias": "attention_bias|=false"}),
            "chunked_attention": (
                GroupedQuery,
                {**_GQA, "output_bias": "attention_bias|=false", "chunk": "attention_chunk_size"},
            ),
        },
        {
            "dense": (FeedForward, {"width": "intermediate_size_mlp"}),
            "sparse": (Mixture, {**_EXPERTS, "width": "intermediate_size", "shared": "=1"}),
        },
        _types(
            _numbers(
                "no_rope_layers",
                {0: "full_attention", 1: "chunked_attention"},
                _every("no_rope_layer_interval|=4", "full_attention", "chunked_attention"),
            )
        ),
        _interleaved,
        _TIED,
    ),
    "qwen2_moe": _two_reaches(
        "Qwen2Moe",
        {**_GQA, "qkv_bias": "qkv_bias|=true"},
        _qwen_layers,
        feed_forward={"dense": _DENSE, "sparse": (Mixture, _QWEN_EXPERTS)},
        feed_forward_layers=_stepped,
    ),
    "qwen3_5": Family(
        "Qwen3_5",
        {
            "full_attention": (GroupedQuery, {**_QWEN3, "gate": "attn_output_gate?=width:=none|=width"}),
            "linear_attention": (Recurrent, _DELTA),
        },
        {"all": _DENSE},
        _types(_every("full_attention_interval|=4", "full_attention", "linear_attention")),
        _all("all"),
        {**_TIED, "mtp_layers": "mtp_num_hidden_layers|=0"},
    ),
    "qwen3_5_moe": Family(
        "Qwen3_5Moe",
        {
            "full_attention": (GroupedQuery, {**_QWEN3, "gate": "attn_output_gate?=width:=none|=width"}),
            "linear_attention": (Recurrent, _DELTA),
        },
        {"dense": _DENSE, "sparse": (Mixture, _QWEN_EXPERTS)},
        _types(_every("full_attention_interval|=4", "full_attention", "linear_attention")),
        _stepped,
        {**_TIED, "mtp_layers": "mtp_num_hidden_layers|=0"},
    ),
    "gemma": _decoder("Gemma", _GQA, whole=_TIED_BY_DEFAULT),
    "gemma2": _two_reaches("Gemma2", _GQA, _SLIDING_FIRST, whole=_TIED_BY_DEFAULT, norms="=4"),
    "gemma3": _two_reaches(
        "Gemma3",
        {**_GQA, "qk_norm": "=head"},
        _types(
            _every("sliding_window_pattern|_sliding_window_pattern|=6", "full_attention", "sliding_attention")
        ),
        whole=_TIED_BY_DEFAULT,
        norms="=4",
    ),
    "gemma4": Family(
        "Gemma4",
        {
            f"{reach}{shared}": (GroupedQuery, {**_GQA, **fields, **borrowed, "qk_norm": "=head"})
            for shared, borrowed in (("", {}), (", shared", {"borrowed": "=true"}))
            for reach, fields in (
                ("sliding_attention", _WINDOW),
                (
                    "full_attention",
                    {
                        "head_dim": "global_head_dim|head_dim",
                        "kv_heads": "attention_k_eq_v?num_global_key_value_heads:num_key_value_heads"
                        "|num_key_value_heads",
                        "keys_are_values": "attention_k_eq_v|=false",
                    },
                ),
            )
        },
        {
            "dense": _DENSE,
            "wide": (FeedForward, {"width": "intermediate_size*=2"}),
            "sparse": (
                Mixture,
                {**_EXPERTS, "shared": "=1", "shared_width": "intermediate_size", "router_bias": "=true"},
            ),
        },
        _shared_upper(_types(_last_full(_every("=6", "full_attention", "sliding_attention")))),
        _gemma4_ffn,
        {**_TIED_BY_DEFAULT, "layer_embedding": "hidden_size_per_layer_input|=0"},
        norms="enable_moe_block?=8:=4|=4",  # with a mixture 7, and the scale before the router
    ),
    "glm": _decoder("Glm", _GQA),
    "glm4": _decoder("Glm4", _GQA, norms="=4"),
    "glm4_moe": Family(
        "Glm4Moe",
        {"full_attention": (GroupedQuery, {**_GQA, "qk_norm": "use_qk_norm?=head:=none|=none"})},
        {"dense": _DENSE, "sparse": (Mixture, _DEEPSEEK_EXPERTS)},
        _FULL,
        _BY_TYPE,
        _MTP,
    ),
    "glm4_moe_lite": _mla("Glm4MoeLite", _MLA, _DEEPSEEK_EXPERTS, _BY_TYPE),
    "minimax_m2": _decoder(
        "MiniMaxM2",
        {**_GQA, "qk_norm": "use_qk_norm?=width:=none|=width"},
        (
            Mixture,
            {**_EXPERTS, "width": "intermediate_size", "router_bias": "use_routing_bias|=true"},
        ),
        _MTP,
    ),
    "gpt_oss": _two_reaches(
        "GptOss",
        {**_GQA, "output_bias": "attention_bias|=false", "sinks": "=true"},
        _SLIDING_FIRST,
        feed_forward={"all": (Mixture, {**_EXPERTS, "width": "intermediate_size", "bias": "=true"})},
    ),
    "mimo": _decoder("MiMo", _GQA, whole=_MTP),
    "mimo_v2_flash": Family(
        "MiMoV2Flash",
        {
            "full_attention": (
                GroupedQuery,
                {**_GQA, "value_dim": "v_head_dim", "sinks": "add_full_attention_sink_bias|=false"},
            ),
            "sliding_attention": (
                GroupedQuery,
                {
                    "heads": "swa_num_attention_heads|num_attention_heads",
                    "kv_heads": "swa_num_key_value_heads|num_key_value_heads",
                    "head_dim": "swa_head_dim|head_dim",
                    "value_dim": "swa_v_head_dim|v_head_dim",
                    "qkv_bias": "attention_bias|=false",
                    "sinks": "add_swa_attention_sink_bias|=true",
                    **_WINDOW,
                },
            ),
        },
        {"dense": _DENSE, "sparse": (Mixture, _DEEPSEEK_EXPERTS)},
        _types(_numbers("hybrid_layer_pattern", {0: "full_attention", 1: "sliding_attention"}, _FULL)),
        _OLDER_DENSE,
        _MTP,
    ),
    "step3p7": Family(
        "Step3p7",
        {
            "full_attention": (
                GroupedQuery,
                {
                    **_QWEN3,
                    "kv_heads": "num_key_value_heads|num_attention_groups",
                    "gate": "=head",
                },
            ),
            "sliding_attention": (
                GroupedQuery,
                {
                    **_QWEN3,
                    **_WINDOW,
                    "heads": "num_sliding_attention_heads|attention_other_setting.num_attention_heads"
                    "|num_attention_heads",
                    "kv_heads": "num_key_value_heads|num_attention_groups",
                    "gate": "=head",
                },
            ),
        },
        {
            "dense": _DENSE,
            "sparse": (
                Mixture,
                {
                    **_EXPERTS,
                    "shared": "=1",
                    "shared_width": "share_expert_dim|share_expert_dims",
                    "router_bias": "use_moe_router_bias|=true",
                },
            ),
        },
        _types(_FULL),
        _types(_after_first("first_k_dense_replace|=3"), "mlp_layer_types"),
        _MTP,
    ),
    "phi3": _decoder("Phi3", {**_GQA, "window": "sliding_window|=none"}),
    "olmo2": _decoder("Olmo2", {**_GQA, "output_bias": "attention_bias|=false", "qk_norm": "=width"}),
    "olmo3": _two_reaches(
        "Olmo3",
        {**_GQA, "output_bias": "attention_bias|=false", "qk_norm": "=width"},
        _types(_every("=4", "full_attention", "sliding_attention")),
    ),
    "nemotron_h": Family(
        "NemotronH",
        {
            "M": (
                Recurrent,
                {
                    "heads": "mamba_num_heads",
                    "key_heads": "n_groups",
                    "key_dim": "ssm_state_size",
                    "value_dim": "mamba_head_dim",
                    "kernel": "conv_kernel",
                    "scalars": "=1",
                    "head_parameters": "=3",
                    "delta": "=false",
                    "conv_bias": "use_conv_bias|=true",
                    "wide_norm": "=true",
                    "bias": "use_bias|=false",
                },
            ),
            "*": (
                GroupedQuery,
                {
                    **_GQA,
                    "head_dim": "head_dim|attention_head_dim",
                    "output_bias": "attention_bias|=false",
                },
            ),
            "-": None,
            "E": None,
        },
        {
            "M": None,
            "*": None,
            "-": (FeedForward, {"width": "intermediate_size", "gated": "=false", "bias": "mlp_bias|=false"}),
            "E": (
                Mixture,
                {
                    **_DEEPSEEK_EXPERTS,
                    "shared": "=1",
                    "shared_width": "moe_shared_expert_intermediate_size",
                    "gated": "=false",
                    "latent": "moe_latent_size|=none",
                },
            ),
        },
        _letters,
        _letters,
        _TIED,
        norms="=1",
    ),
    "gpt2": _decoder(
        "GPT2",
        {
            "heads": "n_head",
            "kv_heads": "n_head",
            "head_dim": "n_embd/n_head",
            "qkv_bias": "=true",
            "output_bias": "=true",
        },
        (FeedForward, {"width": "n_inner|n_embd*=4", "gated": "=false", "bias": "=true"}),
        {
            "tied": "tie_word_embeddings|=true",
            "hidden": "n_embd",
            "positions": "n_positions",
            "norm_bias": "=true",
        },
    ),
    "bert": _decoder(
        "Bert",
        {**_GQA, "qkv_bias": "=true", "output_bias": "=true"},
        (FeedForward, {"width": "intermediate_size", "gated": "=false", "bias": "=true"}),
        {
            "decoder": "=false",
            "positions": "max_position_embeddings",
            "token_types": "type_vocab_size",
            "pooler": "=true",
            "norm_bias": "=true",
        },
        only=(
            ("architectures", ["BertModel"], "of BERT only the encoder, BertModel, is described"),
            ("position_embedding_type", "absolute", "only absolute positions are described"),
            ("is_decoder", False, "BERT as a decoder is not described"),
        ),
    ),
}

#: model_type -> the row of another that describes it.
ALIASES: dict[str, str] = {
    "kimi_k2": "deepseek_v3",
    "ministral3": "mistral",
    "mistral3": "mistral",
    "kimi_k3": "kimi_linear",
    "qwen3_next": "qwen3_5_moe",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "step3p5": "step3p7",
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
}


def family_of(cfg: Config) -> str:
    """Return which row describes a configuration: that of its model_type, else that of its class."""
    name, classes = cfg.get("model_type"), cfg.get("architectures")
    if isinstance(name, str):
        plain = name.removesuffix("_text")
        plain = ALIASES.get(plain, plain)
        if plain in FAMILIES:
            return plain
    first = classes[0] if isinstance(classes, list) and classes else None
    if isinstance(first, str):
        stem = first.partition("For")[0].removesuffix("Model").removesuffix("LMHead")
        for family, row in FAMILIES.items():
            if row.prefix == stem:
                cfg.found.append(f"family from architectures, {first}")
                return family
    known = f"known: {', '.join(FAMILIES)}"
    if name is None:
        raise cfg.error(f"model_type is missing; {known}")
    raise cfg.error(f"model_type {shown(name)} is not described; {known}")
