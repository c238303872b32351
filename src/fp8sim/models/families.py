"""The families of models: each a row that says which parts a layer has and which keys hold their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fp8sim._support.text import shown
from fp8sim.models import patterns as of
from fp8sim.models.attention import Compressed, GroupedQuery, Index, Latent
from fp8sim.models.config import Config, PartSpec, Spec
from fp8sim.models.description import FeedForward, Mixture
from fp8sim.models.recurrent import Recurrent

__all__ = ["ALIASES", "EXPERTS", "FAMILIES", "MLA", "Family", "family_of"]


@dataclass(frozen=True)
class Family:
    """A row: classes of `transformers` that begin so, the parts of a layer by word, and what is where."""

    prefix: str
    attention: Mapping[str, PartSpec | None]
    attention_layers: of.Pattern
    feed_forward: Mapping[str, PartSpec | None]
    feed_forward_layers: of.Pattern
    whole: Mapping[str, Spec] = field(default_factory=dict)  #: fields of the description
    norms: str = "=2"
    only: tuple[tuple[str, object, str], ...] = ()  #: keys that may hold one value alone, and why
    left_out: tuple[str, ...] = ()  #: keys of parts that are not counted


def _fields(text: str, more: Mapping[str, Spec] | None = None) -> dict[str, Spec]:
    """Read fields and where they stand, parted by commas, after those of `more`."""
    return {**(more or {}), **dict(pair.split() for pair in text.split(","))}


# --- parts that several families share ------------------------------------------------------------

_DENSE: PartSpec = (FeedForward, _fields("width intermediate_size"))
_PLAIN: PartSpec = (FeedForward, _fields("width intermediate_size, gated =false, bias mlp_bias|=false"))
_GQA = _fields(
    "heads num_attention_heads, kv_heads num_key_value_heads|num_attention_heads, "
    "head_dim head_dim|hidden_size/num_attention_heads, qkv_bias attention_bias|=false"
)
_BIASED = _fields("output_bias attention_bias|=false", _GQA)
_QWEN3 = _fields("qk_norm =head", _BIASED)
_GATED = _fields("gate attn_output_gate?=width:=none|=width", _QWEN3)
_STEP = _fields("gate =head, kv_heads num_key_value_heads|num_attention_groups", _QWEN3)
_WINDOW = _fields("window sliding_window")
_STEP_NEAR = _fields(
    "heads num_sliding_attention_heads|attention_other_setting.num_attention_heads|num_attention_heads",
    _WINDOW,
)
_OWN_WINDOW = _fields("window sliding_window|=none", _GQA)
_SWA = _fields(
    "heads swa_num_attention_heads|num_attention_heads, kv_heads swa_num_key_value_heads|"
    "num_key_value_heads, head_dim swa_head_dim|head_dim, value_dim swa_v_head_dim|v_head_dim, "
    "qkv_bias attention_bias|=false, sinks add_swa_attention_sink_bias|=true, window sliding_window"
)
MLA = _fields(
    "heads num_attention_heads, q_rank q_lora_rank|=none, kv_rank kv_lora_rank, nope_dim qk_nope_head_dim, "
    "rope_dim qk_rope_head_dim, v_dim v_head_dim"
)
_INDEX = _fields("heads index_n_heads, dim index_head_dim, top index_topk")
_SPARSE_MLA: dict[str, Spec] = {**MLA, "index": (Index, _INDEX)}
_V4 = _fields(
    "heads num_attention_heads, head_dim head_dim, rope_dim qk_rope_head_dim, q_rank q_lora_rank, "
    "groups o_groups, o_rank o_lora_rank, window sliding_window"
)
_V4_SPARSE = {**_fields("ratio =4, overlap =2", _V4), "index": (Index, _fields("bits =4", _INDEX))}
_DELTA = _fields(
    "heads linear_num_value_heads, key_heads linear_num_key_heads, key_dim linear_key_head_dim, "
    "value_dim linear_value_head_dim, kernel linear_conv_kernel_dim"
)
_LINEAR = "linear_attn_config"
_KDA = _fields(
    f"heads {_LINEAR}.num_heads|linear_num_heads, key_heads {_LINEAR}.num_heads|linear_num_heads, "
    f"key_dim {_LINEAR}.head_dim|linear_head_dim, value_dim {_LINEAR}.head_dim|linear_head_dim, "
    f"kernel {_LINEAR}.short_conv_kernel_size|linear_conv_kernel_dim, scalars =1, head_parameters =1, "
    f"decay_rank {_LINEAR}.head_dim|linear_head_dim, gate_rank {_LINEAR}.use_full_rank_gate?=none:"
    f"{_LINEAR}.head_dim|{_LINEAR}.head_dim|linear_head_dim"
)
_MAMBA = _fields(
    "heads mamba_num_heads, key_heads n_groups, key_dim ssm_state_size, value_dim mamba_head_dim, "
    "kernel conv_kernel, scalars =1, head_parameters =3, delta =false, conv_bias use_conv_bias|=true, "
    "wide_norm =true, bias use_bias|=false"
)
EXPERTS = _fields(
    "width moe_intermediate_size, experts num_local_experts|num_experts|n_routed_experts|moe_num_experts, "
    "per_token num_experts_per_tok|num_experts_per_token|moe_top_k|top_k_experts"
)
_WIDE_EXPERTS = _fields("width intermediate_size", EXPERTS)
_DEEPSEEK_EXPERTS = _fields(
    "experts n_routed_experts|num_local_experts, shared n_shared_experts|=0, router_bias =true", EXPERTS
)
_ONE_SHARED = _fields("shared =1, shared_width shared_expert_intermediate_size, shared_gate =true", EXPERTS)
_STEP_EXPERTS = _fields(
    "shared =1, shared_width share_expert_dim|share_expert_dims, router_bias use_moe_router_bias|=true",
    EXPERTS,
)
_KIMI_EXPERTS = _fields(
    "shared num_shared_experts|=0, router_bias =true, latent routed_expert_hidden_size|=none, "
    "latent_norm latent_moe_use_norm|=false",
    EXPERTS,
)
_NEMOTRON_EXPERTS = _fields(
    "shared =1, shared_width moe_shared_expert_intermediate_size, gated =false, latent moe_latent_size|=none",
    _DEEPSEEK_EXPERTS,
)
_GEMMA4_FULL = _fields(
    "head_dim global_head_dim|head_dim, keys_are_values attention_k_eq_v|=false, kv_heads "
    "attention_k_eq_v?num_global_key_value_heads:num_key_value_heads|num_key_value_heads",
    _fields("qk_norm =head", _GQA),
)
_GEMMA4_EXPERTS = _fields("shared =1, shared_width intermediate_size, router_bias =true", EXPERTS)
_GEMMA4_NEAR = _fields("qk_norm =head, window sliding_window", _GQA)

_TIED = _fields("tied tie_word_embeddings|=false")
_TIED_BY_DEFAULT = _fields("tied tie_word_embeddings|=true")
_MTP = _fields("mtp_layers num_nextn_predict_layers|num_mtp_modules|mtp_num_hidden_layers|=0", _TIED)

_ALL, _FULL = of.every_layer("all"), of.every_layer("full_attention")
_FIRST_DENSE = of.listed_types(
    of.numbers(
        "moe_layer_freq",
        {0: "dense", 1: "sparse"},
        of.after_first("first_k_dense_replace", step="moe_layer_freq|=1"),
    ),
    "mlp_layer_types",
)
_FIRST_IF_ANY = of.listed_types(of.after_first("first_k_dense_replace|=0"), "mlp_layer_types")
_UPPER_WINDOWS = of.listed_types(of.upper_windows)
_SLIDING_FIRST = of.listed_types(of.one_in("=2", "full_attention", "sliding_attention"))
_ONE_IN_FOUR = of.one_in("full_attention_interval|=4", "full_attention", "linear_attention")
_DELTA_LAYERS: dict[str, PartSpec | None] = {
    "full_attention": (GroupedQuery, _GATED),
    "linear_attention": (Recurrent, _DELTA),
}


def _decoder(
    prefix: str,
    attention: dict[str, Spec],
    feed_forward: PartSpec = _DENSE,
    whole: Mapping[str, Spec] = _TIED,
    **more: Any,
) -> Family:
    """Describe a decoder whose layers are all alike."""
    kinds: dict[str, PartSpec | None] = {"full_attention": (GroupedQuery, attention)}
    return Family(prefix, kinds, _FULL, {"all": feed_forward}, _ALL, whole, **more)


def _two_reaches(
    prefix: str,
    attention: dict[str, Spec],
    pattern: of.Pattern,
    near: Mapping[str, Spec] = _WINDOW,
    **more: Any,
) -> Family:
    """Describe a decoder whose layers meet all tokens, or those of a window."""
    kinds = {"full_attention": attention, "sliding_attention": {**attention, **near}}
    alike: dict[str, Any] = {
        "attention": {word: (GroupedQuery, fields) for word, fields in kinds.items()},
        **{"attention_layers": pattern, "whole": _TIED},
        **{"feed_forward": {"all": _DENSE}, "feed_forward_layers": _ALL},
    }
    return Family(prefix, **(alike | more))


def _mla(prefix: str, fields: dict[str, Spec], experts: dict[str, Spec], dense: of.Pattern) -> Family:
    """Describe latent attention; the first layers dense, the others mixtures."""
    kinds: dict[str, PartSpec | None] = {"full_attention": (Latent, fields)}
    ffn: dict[str, PartSpec | None] = {"dense": _DENSE, "sparse": (Mixture, experts)}
    excluded = (("attention_bias", False, "latent attention with biases is not described"),)
    return Family(prefix, kinds, _FULL, ffn, dense, _MTP, only=excluded)


#: model_type -> its row, twenty lines at most.
FAMILIES: dict[str, Family] = {
    "deepseek_v3": _mla("DeepseekV3", MLA, _DEEPSEEK_EXPERTS, _FIRST_DENSE),
    "llama": _decoder(
        "Llama", _BIASED, (FeedForward, _fields("width intermediate_size, bias mlp_bias|=false"))
    ),
    "qwen2": _two_reaches("Qwen2", _fields("qkv_bias =true", _GQA), _UPPER_WINDOWS),  # its report, 2.2.1
    "qwen3": _two_reaches("Qwen3", _QWEN3, _UPPER_WINDOWS),
    "qwen3_moe": _two_reaches(
        *("Qwen3Moe", _QWEN3, _UPPER_WINDOWS),
        feed_forward={"dense": _DENSE, "sparse": (Mixture, EXPERTS)},
        feed_forward_layers=of.stepped,
    ),
    "deepseek_v2": _mla("DeepseekV2", MLA, _fields("router_bias =false", _DEEPSEEK_EXPERTS), _FIRST_DENSE),
    "deepseek_v32": _mla("DeepseekV32", _SPARSE_MLA, _DEEPSEEK_EXPERTS, _FIRST_DENSE),
    "deepseek_v4": Family(
        "DeepseekV4",
        {
            "sliding_attention": (Compressed, _V4),
            "compressed_sparse_attention": (Compressed, _V4_SPARSE),
            "heavily_compressed_attention": (Compressed, _fields("ratio =128", _V4)),
        },
        of.listed_types(of.numbers("compress_ratios", of.V4_RATIOS, of.every_layer("sliding_attention"))),
        {
            "moe": (Mixture, _DEEPSEEK_EXPERTS),
            "hash_moe": (Mixture, _fields("router_bias =false, hash_rows vocab_size", _DEEPSEEK_EXPERTS)),
        },
        of.listed_types(of.hashed, "mlp_layer_types"),
        _fields("streams hc_mult|=1", _MTP),
    ),
    "glm_moe_dsa": _mla("GlmMoeDsa", _SPARSE_MLA, _DEEPSEEK_EXPERTS, _FIRST_DENSE),
    "kimi_linear": Family(
        "KimiLinear",
        {
            "full_attention": (Latent, _fields("gate mla_use_output_gate|=false", MLA)),
            "linear_attention": (Recurrent, _KDA),
        },
        of.listed_types(of.kimi),
        {"dense": _DENSE, "sparse": (Mixture, _KIMI_EXPERTS)},
        _FIRST_IF_ANY,
        _MTP,
        left_out=("attn_res_block_size",),
    ),
    "mistral": _decoder("Mistral", _OWN_WINDOW),
    "mixtral": _decoder("Mixtral", _OWN_WINDOW, (Mixture, _WIDE_EXPERTS)),
    "llama4": Family(
        "Llama4",
        {
            "full_attention": (GroupedQuery, _BIASED),
            "chunked_attention": (GroupedQuery, _fields("chunk attention_chunk_size", _BIASED)),
        },
        of.listed_types(
            of.numbers(
                "no_rope_layers",
                {0: "full_attention", 1: "chunked_attention"},
                of.one_in("no_rope_layer_interval|=4", "full_attention", "chunked_attention"),
            )
        ),
        {
            "dense": (FeedForward, _fields("width intermediate_size_mlp")),
            "sparse": (Mixture, _fields("shared =1", _WIDE_EXPERTS)),
        },
        *(of.interleaved, _TIED),
    ),
    "qwen2_moe": _two_reaches(
        *("Qwen2Moe", _fields("qkv_bias qkv_bias|=true", _GQA), _UPPER_WINDOWS),
        feed_forward={"dense": _DENSE, "sparse": (Mixture, _ONE_SHARED)},
        feed_forward_layers=of.stepped,
    ),
    "qwen3_5": Family("Qwen3_5", _DELTA_LAYERS, of.listed_types(_ONE_IN_FOUR), {"all": _DENSE}, _ALL, _MTP),
    "qwen3_5_moe": Family(
        *("Qwen3_5Moe", _DELTA_LAYERS, of.listed_types(_ONE_IN_FOUR)),
        {"dense": _DENSE, "sparse": (Mixture, _ONE_SHARED)},
        *(of.stepped, _MTP),
    ),
    "gemma": _decoder("Gemma", _GQA, whole=_TIED_BY_DEFAULT),
    "gemma2": _two_reaches("Gemma2", _GQA, _SLIDING_FIRST, whole=_TIED_BY_DEFAULT, norms="=4"),
    "gemma3": _two_reaches(
        *("Gemma3", _fields("qk_norm =head", _GQA)),
        of.listed_types(
            of.one_in(
                "sliding_window_pattern|_sliding_window_pattern|=6", "full_attention", "sliding_attention"
            )
        ),
        whole=_TIED_BY_DEFAULT,
        norms="=4",
    ),
    "gemma4": Family(
        "Gemma4",
        {
            "full_attention": (GroupedQuery, _GEMMA4_FULL),
            "sliding_attention": (GroupedQuery, _GEMMA4_NEAR),
            "full_attention, shared": (GroupedQuery, _fields("borrowed =true", _GEMMA4_FULL)),
            "sliding_attention, shared": (GroupedQuery, _fields("borrowed =true", _GEMMA4_NEAR)),
        },
        of.shared_upper(
            of.listed_types(of.last_full(of.one_in("=6", "full_attention", "sliding_attention")))
        ),
        {
            "dense": _DENSE,
            "wide": (FeedForward, _fields("width intermediate_size*=2")),
            "sparse": (Mixture, _GEMMA4_EXPERTS),
        },
        of.gemma4_feed_forwards,
        _fields("layer_embedding hidden_size_per_layer_input|=0", _TIED_BY_DEFAULT),
        norms="enable_moe_block?=8:=4|=4",  # with a mixture 7, and the scale before the router
    ),
    "glm": _decoder("Glm", _GQA),
    "glm4": _decoder("Glm4", _GQA, norms="=4"),
    "glm4_moe": Family(
        "Glm4Moe",
        {"full_attention": (GroupedQuery, _fields("qk_norm use_qk_norm?=head:=none|=none", _GQA))},
        _FULL,
        {"dense": _DENSE, "sparse": (Mixture, _DEEPSEEK_EXPERTS)},
        _FIRST_IF_ANY,
        _MTP,
    ),
    "glm4_moe_lite": _mla("Glm4MoeLite", MLA, _DEEPSEEK_EXPERTS, _FIRST_IF_ANY),
    "minimax_m2": _decoder(
        *("MiniMaxM2", _fields("qk_norm use_qk_norm?=width:=none|=width", _GQA)),
        (Mixture, _fields("router_bias use_routing_bias|=true", _WIDE_EXPERTS)),
        _MTP,
    ),
    "gpt_oss": _two_reaches(
        *("GptOss", _fields("sinks =true", _BIASED), _SLIDING_FIRST),
        feed_forward={"all": (Mixture, _fields("bias =true", _WIDE_EXPERTS))},
    ),
    "mimo": _decoder("MiMo", _GQA, whole=_MTP),
    "mimo_v2_flash": Family(
        "MiMoV2Flash",
        {
            "full_attention": (
                GroupedQuery,
                _fields("value_dim v_head_dim, sinks add_full_attention_sink_bias|=false", _GQA),
            ),
            "sliding_attention": (GroupedQuery, _SWA),
        },
        of.listed_types(
            of.numbers("hybrid_layer_pattern", {0: "full_attention", 1: "sliding_attention"}, _FULL)
        ),
        {"dense": _DENSE, "sparse": (Mixture, _DEEPSEEK_EXPERTS)},
        *(_FIRST_DENSE, _MTP),
    ),
    "step3p7": _two_reaches(
        *("Step3p7", _STEP, of.listed_types(_FULL), _STEP_NEAR),
        feed_forward={"dense": _DENSE, "sparse": (Mixture, _STEP_EXPERTS)},
        feed_forward_layers=of.listed_types(of.after_first("first_k_dense_replace|=3"), "mlp_layer_types"),
        whole=_MTP,
    ),
    "phi3": _decoder("Phi3", _OWN_WINDOW),
    "olmo2": _decoder("Olmo2", _fields("qk_norm =width", _BIASED)),
    "olmo3": _two_reaches(
        *("Olmo3", _fields("qk_norm =width", _BIASED)),
        of.listed_types(of.one_in("=4", "full_attention", "sliding_attention")),
    ),
    "nemotron_h": Family(
        "NemotronH",
        {
            "M": (Recurrent, _MAMBA),
            "*": (GroupedQuery, _fields("head_dim head_dim|attention_head_dim", _BIASED)),
            **{"-": None, "E": None},
        },
        of.letters,
        {"-": _PLAIN, "E": (Mixture, _NEMOTRON_EXPERTS), "M": None, "*": None},
        *(of.letters, _TIED),
        norms="=1",
    ),
    "gpt2": _decoder(
        "GPT2",
        _fields("heads n_head, kv_heads n_head, head_dim n_embd/n_head, qkv_bias =true, output_bias =true"),
        (FeedForward, _fields("width n_inner|n_embd*=4, gated =false, bias =true")),
        _fields("hidden n_embd, positions n_positions, norm_bias =true", _TIED_BY_DEFAULT),
    ),
    "bert": _decoder(
        "Bert",
        _fields("qkv_bias =true, output_bias =true", _GQA),
        (FeedForward, _fields("width intermediate_size, gated =false, bias =true")),
        _fields(
            "decoder =false, positions max_position_embeddings, token_types type_vocab_size, pooler =true, "
            "norm_bias =true"
        ),
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
        raise cfg.not_described(f"model_type is missing; {known}")
    raise cfg.not_described(f"model_type {shown(name)} is not described; {known}")
