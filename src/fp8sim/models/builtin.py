"""Configurations of models people compare, with their sources, and finding a model by name or path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

from fp8sim._support import checks
from fp8sim._support.text import printable, shown
from fp8sim.checkpoints.places import is_url
from fp8sim.models.description import ModelDescription
from fp8sim.models.parsing import describe, read_config
from fp8sim.models.reading import by_headers, described, has_headers

__all__ = ["MODELS", "BuiltIn", "ModelLike", "get_model"]


@dataclass(frozen=True)
class BuiltIn:
    """The shape-giving keys of a published config.json, and the parameter count published with it."""

    config: Mapping[str, Any]
    source: str
    parameters: int  #: as published
    precision: int = 1  #: what the published count is rounded to
    parameters_source: str = "safetensors metadata on Hugging Face"


def _decoder(
    repo: str, parameters: int, *shape: int, family: str, vocab: int, tied: bool = False, **more: int
) -> BuiltIn:
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = {
        **{"model_type": family, "vocab_size": vocab, "tie_word_embeddings": tied},
        **dict(zip((*keys, "num_key_value_heads"), shape, strict=True)),
        **more,
    }
    return BuiltIn(config, f"{repo} config.json on Hugging Face", parameters)


_llama = partial(_decoder, family="llama", vocab=128256)
_qwen2 = partial(_decoder, family="qwen2", vocab=152064)
_qwen3 = partial(_decoder, family="qwen3", vocab=151936, head_dim=128)
_qwen3_moe = partial(_qwen3, family="qwen3_moe", num_experts=128, num_experts_per_tok=8)

# github.com/deepseek-ai/DeepSeek-V3 inference/configs/config_671B.json, in the keys of Hugging Face.
_DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "first_k_dense_replace": 3,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "n_group": 8,
    "topk_group": 4,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "num_nextn_predict_layers": 1,
    "tie_word_embeddings": False,
}

# config.json of deepseek-ai/DeepSeek-V3.2 and DeepSeek-V4-Flash: shapes and formats. DeepSeek-V4-Pro's was
# not at hand: its sizes are from public summaries, held by the published parameters, cache and FLOPs.
_INDEX = {"index_n_heads": 64, "index_head_dim": 128}
_UE8M0 = {
    "quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0", "weight_block_size": [128, 128],
    "activation_scheme": "dynamic",
}  # fmt: skip
_DEEPSEEK_V32 = {
    **_DEEPSEEK_V3, **_INDEX, "model_type": "deepseek_v32", "index_topk": 2048, "quantization_config": _UE8M0,
}  # fmt: skip


def _v4(first: int, **sizes: int) -> dict[str, Any]:
    layers = sizes["num_hidden_layers"]
    later = [4 if layer % 2 == 0 else 128 for layer in range(layers - 2)]
    return {
        **{"model_type": "deepseek_v4", "vocab_size": 129280, "head_dim": 512, "qk_rope_head_dim": 64},
        **{"num_key_value_heads": 1, "o_lora_rank": 1024, "sliding_window": 128, "n_shared_experts": 1},
        **{"num_experts_per_tok": 6, "num_hash_layers": 3, "hc_mult": 4, "num_nextn_predict_layers": 1},
        **{"expert_dtype": "fp4", "quantization_config": _UE8M0, "tie_word_embeddings": False},
        **{"compress_ratios": [first, first, *later, 0], **_INDEX, **sizes},
    }


_V4_FLASH = _v4(
    0, hidden_size=4096, num_hidden_layers=43, num_attention_heads=64, q_lora_rank=1024, o_groups=8,
    index_topk=512, n_routed_experts=256, moe_intermediate_size=2048,
)  # fmt: skip
_V4_PRO = _v4(
    128, hidden_size=7168, num_hidden_layers=61, num_attention_heads=128, q_lora_rank=1536, o_groups=16,
    index_topk=1024, n_routed_experts=384, moe_intermediate_size=3072,
)  # fmt: skip

_MINILM = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 30522,
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}


def _deepseek(file: str, readme: str) -> BuiltIn:
    source = f"deepseek-ai/DeepSeek-V3 inference/configs/{file}"
    return BuiltIn(_DEEPSEEK_V3, source, 671_000_000_000, 10**9, readme)


#: Name -> configuration, in the order of hidden size within a family.
MODELS: dict[str, BuiltIn] = {
    "deepseek-v3": _deepseek("config_671B.json", "deepseek-ai/DeepSeek-V3 README.md"),
    "deepseek-v3.1": _deepseek("config_v3.1.json", "deepseek-ai/DeepSeek-V3.1 README.md"),
    "deepseek-v3.2": BuiltIn(
        *(_DEEPSEEK_V32, "deepseek-ai/DeepSeek-V3.2 config.json on Hugging Face", 671_877_944_064),
        parameters_source="transformers 5.24 on the meta device, router biases with them",
    ),
    "deepseek-v4-flash": BuiltIn(
        *(_V4_FLASH, "deepseek-ai/DeepSeek-V4-Flash config.json on Hugging Face", 284_000_000_000, 10**9),
        parameters_source="DeepSeek-V4 report, arXiv 2606.19348",
    ),
    "deepseek-v4-pro": BuiltIn(
        *(_V4_PRO, "summaries of DeepSeek-V4-Pro, not its config.json", 1_600_000_000_000, 10**11),
        parameters_source="DeepSeek-V4 report, arXiv 2606.19348",
    ),
    "llama-3.2-1b": _llama("meta-llama/Llama-3.2-1B", 1235814400, 2048, 8192, 16, 32, 8, tied=True),
    "llama-3.2-3b": _llama("meta-llama/Llama-3.2-3B", 3212749824, 3072, 8192, 28, 24, 8, tied=True),
    "llama-3.1-8b": _llama("meta-llama/Llama-3.1-8B", 8030261248, 4096, 14336, 32, 32, 8),
    "llama-3.1-70b": _llama("meta-llama/Llama-3.1-70B", 70553706496, 8192, 28672, 80, 64, 8),
    "llama-3.3-70b": _llama("meta-llama/Llama-3.3-70B-Instruct", 70553706496, 8192, 28672, 80, 64, 8),
    "llama-3.1-405b": _llama("meta-llama/Llama-3.1-405B", 405853388800, 16384, 53248, 126, 128, 8),
    "qwen2.5-0.5b": _qwen2("Qwen/Qwen2.5-0.5B", 494032768, 896, 4864, 24, 14, 2, vocab=151936, tied=True),
    "qwen2.5-1.5b": _qwen2("Qwen/Qwen2.5-1.5B", 1543714304, 1536, 8960, 28, 12, 2, vocab=151936, tied=True),
    "qwen2.5-3b": _qwen2("Qwen/Qwen2.5-3B", 3085938688, 2048, 11008, 36, 16, 2, vocab=151936, tied=True),
    "qwen2.5-7b": _qwen2("Qwen/Qwen2.5-7B", 7615616512, 3584, 18944, 28, 28, 4),
    "qwen2.5-14b": _qwen2("Qwen/Qwen2.5-14B", 14770033664, 5120, 13824, 48, 40, 8),
    "qwen2.5-32b": _qwen2("Qwen/Qwen2.5-32B", 32763876352, 5120, 27648, 64, 40, 8),
    "qwen2.5-72b": _qwen2("Qwen/Qwen2.5-72B", 72706203648, 8192, 29568, 80, 64, 8),
    "qwen3-0.6b": _qwen3("Qwen/Qwen3-0.6B", 596049920, 1024, 3072, 28, 16, 8, tied=True),
    "qwen3-1.7b": _qwen3("Qwen/Qwen3-1.7B", 1720574976, 2048, 6144, 28, 16, 8, tied=True),
    "qwen3-4b": _qwen3("Qwen/Qwen3-4B", 4022468096, 2560, 9728, 36, 32, 8, tied=True),
    "qwen3-8b": _qwen3("Qwen/Qwen3-8B", 8190735360, 4096, 12288, 36, 32, 8),
    "qwen3-14b": _qwen3("Qwen/Qwen3-14B", 14768307200, 5120, 17408, 40, 40, 8),
    "qwen3-32b": _qwen3("Qwen/Qwen3-32B", 32762123264, 5120, 25600, 64, 64, 8),
    "qwen3-30b-a3b": _qwen3_moe(
        "Qwen/Qwen3-30B-A3B", 30532122624, 2048, 6144, 48, 32, 4, moe_intermediate_size=768
    ),
    "qwen3-235b-a22b": _qwen3_moe(
        "Qwen/Qwen3-235B-A22B", 235093634560, 4096, 12288, 94, 64, 4, moe_intermediate_size=1536
    ),
    "all-minilm-l6-v2": BuiltIn(
        _MINILM, "sentence-transformers/all-MiniLM-L6-v2 config.json on Hugging Face", 22713216
    ),
}

_HEADERS = (".safetensors", ".safetensors.index.json")  # ends of names of what has headers

ModelLike: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | ModelDescription"


def get_model(model: ModelLike) -> ModelDescription:
    """Find or read a model description.

    Parameters
    ----------
    model : str, path, mapping or ModelDescription
        A name in `MODELS`; the path of a ``config.json`` or of the folder that holds it; the
        configuration itself; a safetensors file, an index or a URL, of which the headers are read; or a
        description, which is returned.

    Returns
    -------
    ModelDescription
        Shapes alone. Where no row of `FAMILIES` describes a configuration, those of the headers of the
        checkpoint beside it, or else of what `transformers` builds (extra ``transformers``); its `found`
        says which.

    Raises
    ------
    ValueError
        If the name is not known and no such file is there, or the configuration is malformed.

    Examples
    --------
    >>> print(get_model("deepseek-v3").summary.partition(";")[0])
    61 layers, hidden 7168, vocabulary 129280
    """
    if isinstance(model, ModelDescription):
        return model
    if isinstance(model, Mapping):
        return described(model)
    if isinstance(model, str) and model.lower() in MODELS:
        return _built_in(model.lower())
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model must be a name, a path or a configuration, got {shown(model)}")
    if is_url(model):
        return by_headers(str(model))
    path = Path(model)
    try:
        there = path.exists()
    except (OSError, ValueError):  # no name of a file: too long, or with a NUL
        there = False
    if not there and path.suffix != ".json":
        hint = " (or pass the path of a config.json)"
        raise ValueError(checks.unknown("model", path.name, MODELS) + hint)
    whole = path.is_dir()
    if path.name.endswith(_HEADERS) or (whole and has_headers(path) and not (path / "config.json").exists()):
        return by_headers(path)
    folder = path if whole else path.absolute().parent
    beside = folder if whole or path.name == "config.json" else None
    name = path.stem if not whole and path.name != "config.json" else folder.name
    return described(read_config(path), printable(name or str(path)), str(path), beside)


@lru_cache(maxsize=64)
def _built_in(name: str) -> ModelDescription:
    return describe(MODELS[name].config, name, MODELS[name].source)
