"""Every family of models: configurations as published, as `transformers` writes them, and as fuzzed."""

from __future__ import annotations

import ast
import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from fp8sim.models import check_model, families, get_model, inventory, model_cost
from fp8sim.models.description import Compressed, GroupedQuery, Latent, Recurrent
from fp8sim.models.families import ALIASES, FAMILIES
from fp8sim.models.layers import mtp_parameters
from fp8sim.models.memory import kv_cache_bytes, record_bytes, state_bytes
from fp8sim.models.parsing import describe
from fp8sim.models.stored import stored_bytes
from fp8sim.models.timing import Workload, quantize_bytes
from fp8sim.recipes import get_recipe

FOLDER = Path(__file__).parent / "data" / "configs"
FILES = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))}

# Parameters that transformers 5.24 has on PyTorch's meta device, towers of vision left out, and biases of
# routers counted, which it has as buffers.
BUILT = {
    "MiniMaxAI--MiniMax-M2.5": 228_689_764_864,
    "Qwen--Qwen3-0.6B": 596_049_920,
    "Qwen--Qwen3-235B-A22B": 235_093_634_560,
    "Qwen--Qwen3-30B-A3B-FP8": 30_532_122_624,
    "Qwen--Qwen3-30B-A3B": 30_532_122_624,
    "Qwen--Qwen3-32B-FP8": 32_762_123_264,
    "Qwen--Qwen3-8B": 8_190_735_360,
    "Qwen--Qwen3-Coder-480B-A35B-Instruct": 480_154_875_392,
    "Qwen--Qwen3-VL-30B-A3B-Instruct": 30_532_122_624,
    "Qwen--Qwen3-VL-8B-Instruct": 8_190_735_360,
    "Qwen--Qwen3.5-122B-A10B": 122_111_526_912,
    "Qwen--Qwen3.5-27B": 26_895_998_464,
    "XiaomiMiMo--MiMo-V2-Flash": 308_778_780_864,
    "deepseek-ai--DeepSeek-R1": 671_026_419_200,
    "deepseek-ai--DeepSeek-V3.2": 671_877_944_064,
    "deepseek-ai--DeepSeek-V4-Flash": 284_332_240_471,
    "google--gemma-4-26B-A4B": 25_233_141_760,
    "meta-llama--Llama-4-Scout-17B-16E-Instruct": 107_769_861_120,
    "meta-llama--Meta-Llama-3.1-405B": 405_853_388_800,
    "meta-llama--Meta-Llama-3.1-70B": 70_553_706_496,
    "meta-llama--Meta-Llama-3.1-8B": 8_030_261_248,
    "mistralai--Mixtral-8x7B-v0.1": 46_702_792_704,
    "nvidia--DeepSeek-V3.1-NVFP4": 671_026_419_200,
    "nvidia--Llama-3.1-70B-Instruct-FP8": 70_553_706_496,
    "nvidia--MiniMax-M2.5-NVFP4": 228_689_764_864,
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 31_577_940_288,
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4": 31_577_940_288,
    "nvidia--Nemotron-H-56B-Base-8K": 56_324_350_464,
    "nvidia--Qwen3.5-122B-A10B-NVFP4": 122_111_526_912,
    "openai--gpt-oss-20b": 20_914_757_184,
    "zai-org--GLM-5-FP8": 743_911_218_432,
    "zai-org--GLM-5": 743_911_218_432,
}

# Billions as published for models that it does not know: total, active, and to how many digits. Kimi K3:
# 2.8T and 104B; Step-3.7-Flash: 196B and 11B; V4-Flash of another repository as of its own.
PUBLISHED = {
    "moonshotai--Kimi-K3": (2800, 104, -2),
    "stepfun-ai--Step-3.7-Flash": (196, 11, 0),
    "sgl-project--DeepSeek-V4-Flash-FP8": (284, 13, 0),
}


def total(name: str) -> int:
    """Return the parameters of a published file."""
    return inventory(describe(FILES[name], "mine")).parameters


@pytest.mark.parametrize("name", sorted(BUILT))
def test_parameters_equal_those_that_a_library_builds(name: str) -> None:
    assert total(name) == BUILT[name]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_other_models_round_to_what_is_published(name: str) -> None:
    found = inventory(describe(FILES[name], "mine"))
    whole, active, digits = PUBLISHED[name]
    assert round(found.parameters / 1e9, digits) == whole
    assert round(found.active_without_embedding / 1e9) <= active <= round(found.active_parameters / 1e9)


def test_mimo_7b_has_the_parameters_worked_by_hand() -> None:
    # 36 layers: q and o 4096 x 4096, k and v 1024 x 4096 with biases of q, k, v; gated FFN 11008; two norms.
    layer = 2 * 4096**2 + 2 * 1024 * 4096 + 4096 + 2 * 1024 + 3 * 11008 * 4096 + 2 * 4096
    assert total("XiaomiMiMo--MiMo-7B-Base") == 36 * layer + 2 * 151680 * 4096 + 4096


def test_every_published_file_is_described() -> None:
    assert len(FILES) == 36
    assert set(FILES) == set(BUILT) | set(PUBLISHED) | {"XiaomiMiMo--MiMo-7B-Base"}
    for name, config in FILES.items():
        model = describe(config, name.lower())
        assert model.summary
        assert model.found
        for phase in ("training", "prefill", "decode"):
            cost = model_cost(model, phase=phase, batch=2)
            assert cost.seconds > 0
            assert str(cost)
            assert sum(part.flops for part in cost.times) == pytest.approx(
                cost.work.tokens * cost.flops_per_token
            )


def test_aliases_name_rows_and_rows_are_short() -> None:
    assert set(ALIASES.values()) <= set(FAMILIES)
    assert not set(ALIASES) & set(FAMILIES)
    tree = ast.parse(Path(families.__file__).read_text(encoding="utf-8"))
    table = next(one for one in tree.body if isinstance(one, ast.AnnAssign) and "FAMILIES" in ast.dump(one))
    assert isinstance(table.value, ast.Dict)
    assert all((row.end_lineno or 0) - row.lineno < 20 for row in table.value.values)


# --- what is read ---------------------------------------------------------------------------------


def test_what_was_read_from_where_is_said() -> None:
    found = describe(FILES["google--gemma-4-26B-A4B"], "mine").found
    assert "opened text_config" in found
    assert "left out: vision_config, not counted" in found
    assert "Mixture shared_width from intermediate_size" in found
    assert "GroupedQuery head_dim from global_head_dim" in found
    assert "formats as stored from quantization_config, fp8" in describe(FILES["zai-org--GLM-5-FP8"]).found


def test_layers_differ_as_the_files_say() -> None:
    def kinds(name: str) -> list[tuple[int, str]]:
        model = describe(FILES[name], "mine")
        return [(layers, type(kind).__name__) for kind, layers in model.attentions.items()]

    assert kinds("openai--gpt-oss-20b") == [(12, "GroupedQuery")] * 2
    assert kinds("Qwen--Qwen3.5-27B") == [(48, "Recurrent"), (16, "GroupedQuery")]
    assert kinds("nvidia--Nemotron-H-56B-Base-8K") == [(54, "Recurrent"), (10, "GroupedQuery")]
    assert kinds("moonshotai--Kimi-K3") == [(69, "Recurrent"), (24, "Latent")]
    assert kinds("deepseek-ai--DeepSeek-V4-Flash") == [(n, "Compressed") for n in (2, 21, 20)]
    scout = describe(FILES["meta-llama--Llama-4-Scout-17B-16E-Instruct"], "mine").attentions
    assert [(layers, kind.chunk) for kind, layers in scout.items()] == [(36, 8192), (12, None)]  # type: ignore[union-attr]


HEADS = [
    ("LlamaForCausalLM", 128256 * 4096),
    ("LlamaModel", 0),
    ("LlamaForRewardModel", 0),
    ("LlamaForSequenceClassification", 2 * 4096),
]


@pytest.mark.parametrize(("name", "rows"), HEADS)
def test_the_class_decides_the_head(name: str, rows: int) -> None:
    config = {**FILES["meta-llama--Meta-Llama-3.1-8B"], "architectures": [name]}
    found = inventory(describe(config, "mine"))
    assert found.parameters == 8_030_261_248 - 128256 * 4096 + rows


def test_labels_are_counted_where_they_are_named() -> None:
    config = {
        **FILES["meta-llama--Meta-Llama-3.1-8B"],
        "architectures": ["LlamaForSequenceClassification"],
        "id2label": {"0": "a", "1": "b", "2": "c"},
    }
    assert inventory(describe(config)).component_parameters("output head") == 3 * 4096


FORMATS = {
    "deepseek-ai--DeepSeek-R1": "linear layers e4m3 128x128 fp32",
    "deepseek-ai--DeepSeek-V3.2": "linear layers e4m3 128x128 e8m0 ceil",
    "deepseek-ai--DeepSeek-V4-Flash": "linear layers e4m3 128x128 e8m0 ceil, experts e2m1 1x32 e8m0 ceil",
    "openai--gpt-oss-20b": "linear layers e2m1 1x32 e8m0 ceil",
    "nvidia--MiniMax-M2.5-NVFP4": "linear layers e2m1 1x16 e4m3",
    "moonshotai--Kimi-K3": "linear layers e2m1 1x32 e8m0 ceil",
    "Qwen--Qwen3-8B": "None",
}


@pytest.mark.parametrize(("name", "formats"), FORMATS.items())
def test_formats_are_those_that_are_stored(name: str, formats: str) -> None:
    assert str(describe(FILES[name]).stored) == formats


def test_modules_that_are_not_converted_stay_in_bf16() -> None:
    # gpt-oss: experts alone are MXFP4, 4.25 bits a weight; biases and all else BF16.
    model = describe(FILES["openai--gpt-oss-20b"], "mine")
    experts = 24 * 32 * 3 * 2880 * 2880
    rest = inventory(model).parameters - experts
    assert sum(part.total for part in stored_bytes(model).values()) == experts * 17 // 32 + 2 * rest
    # NVFP4 of MiniMax: all of attention is kept.
    parts = stored_bytes(describe(FILES["nvidia--MiniMax-M2.5-NVFP4"], "mine"))
    assert parts["attention"].scales == 0
    assert parts["routed experts"].scales > 0


def test_an_unknown_method_of_quantising_is_said_and_not_counted() -> None:
    config = {**FILES["Qwen--Qwen3-8B"], "quantization_config": {"quant_method": "awq", "bits": 4}}
    model = describe(config)
    assert model.stored is None
    assert "left out: formats as stored, quantization_config of 'awq'" in model.found


def test_the_checkpoint_of_r1_is_that_of_v3_with_its_module() -> None:
    model = describe(FILES["deepseek-ai--DeepSeek-R1"], "mine")
    stored = sum(part.total for part in stored_bytes(model).values())
    main = model_cost("deepseek-v3").weight_bytes
    alone, whole = mtp_parameters(model)
    assert main < stored < main + 2 * whole
    assert stored - main == pytest.approx(alone, rel=0.02)


# --- DeepSeek-V3.2 and V4 -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("deepseek-v3.2", "deepseek-ai--DeepSeek-V3.2"),
        ("deepseek-v4-flash", "deepseek-ai--DeepSeek-V4-Flash"),
    ],
)
def test_built_in_models_are_those_of_their_files(name: str, file: str) -> None:
    ours, theirs = get_model(name), describe(FILES[file], "mine")
    for field in ("stacks", "hidden", "vocab", "mtp", "stored", "streams", "mtp_layers"):
        assert getattr(ours, field) == getattr(theirs, field)


def test_v4_flash_takes_the_bytes_that_its_index_names() -> None:
    # metadata.total_size of model.safetensors.index.json; with the headers of the 46 files 159,617,149,040.
    stored = sum(part.total for part in stored_bytes(get_model("deepseek-v4-flash")).values())
    assert stored == 159_609_485_896
    assert stored == pytest.approx(159_617_149_040, rel=2e-4)


def test_v3_2_caches_48068_bytes_a_token() -> None:
    assert record_bytes(inventory(get_model("deepseek-v3.2")), 1) == 61 * (656 + 132) == 48_068
    with pytest.raises(ValueError, match="has layers that are not served with DeepSeek's records"):
        record_bytes(inventory(get_model("llama-3.1-8b")), 1)


def test_v4_caches_a_window_and_records_of_4_and_of_128_tokens() -> None:
    # Flash: 43 windows of 128; 21 layers keep 584 + 68 bytes each 4 tokens, 20 keep 584 each 128.
    bytes_ = record_bytes(inventory(get_model("deepseek-v4-flash")), 1 << 20)
    assert bytes_ == 43 * 128 * 584 + 21 * (1 << 18) * (584 + 68) + 20 * (1 << 13) * 584


@pytest.mark.parametrize(
    ("name", "caches", "flops"), [("deepseek-v4-flash", 13.7, 9.8), ("deepseek-v4-pro", 9.5, 3.7)]
)
def test_v4_closes_against_v3_2(name: str, caches: float, flops: float) -> None:
    rows = {row.what: row for row in check_model(name).rows}
    kv = next(row for what, row in rows.items() if what.startswith("KV cache"))
    work = next(row for what, row in rows.items() if what.startswith("FLOPs"))
    assert (kv.published, work.published) == (caches, flops)
    assert kv.ratio == pytest.approx(1, abs=0.006)
    assert work.ratio == pytest.approx(1, abs=0.03)


def test_v4_with_its_modules_has_the_parameters_of_the_report() -> None:
    for name, billions in (("deepseek-v4-flash", 290.94), ("deepseek-v4-pro", 1598.84)):
        model = get_model(name)
        assert round((inventory(model).parameters + mtp_parameters(model)[1]) / 1e9, 2) == billions


# --- caches and states ----------------------------------------------------------------------------


def test_a_window_keeps_its_width_and_a_state_nothing_a_token() -> None:
    bf16 = get_recipe("bf16")
    oss = inventory(describe(FILES["openai--gpt-oss-20b"], "mine"))
    assert kv_cache_bytes(oss, bf16, 8192) == 2 * 2 * 8 * 64 * (12 * 8192 + 12 * 128)
    qwen = inventory(describe(FILES["Qwen--Qwen3.5-27B"], "mine"))
    assert kv_cache_bytes(qwen, bf16, 8192) == 2 * 2 * 4 * 256 * 16 * 8192
    assert state_bytes(qwen) == 48 * (4 * 48 * 128 * 128 + 2 * 3 * (2 * 16 * 128 + 48 * 128))


def test_what_layers_of_two_kinds_read_is_quantised_in_each() -> None:
    # gpt-oss, 24 layers: attention input and output, MoE input, and the hidden units of 4 experts.
    found = inventory(describe(FILES["openai--gpt-oss-20b"], "mine"))
    work = Workload("prefill", seq_len=256, batch=1, causal=True)

    def moved(width: int) -> int:
        return 2 * width + width + 4 * -(-width // 128)

    layer = moved(2880) + moved(4096) + moved(2880) + 4 * moved(2880)
    assert quantize_bytes(found, get_recipe("deepseek-v3"), work) == 256 * 24 * layer


def test_a_prefill_reads_all_keys_once_and_a_decode_step_those_of_the_window() -> None:
    # 12 of 24 layers: 64 heads of 64 and a window of 128; keys and values are 2 x 8 x 64 elements.
    model = describe(FILES["openai--gpt-oss-20b"], "mine")
    for phase, tokens, read in (("prefill", 4096, 4096), ("decode", 1, 128)):
        cost = model_cost(model, "bf16", phase=phase, seq_len=4096)  # type: ignore[arg-type]
        core = next(part for part in cost.times if part.name == "sliding core")
        assert core.bytes == 12 * 2 * (tokens * 64 * 128 + read * 2 * 8 * 64)


def test_sparse_attention_meets_the_keys_that_its_index_picks() -> None:
    cost = model_cost("deepseek-v3.2", phase="decode", seq_len=1 << 17)
    names = {part.name: part for part in cost.times}
    assert names["attention core"].k == 2048
    assert names["index"].k == 1 << 17
    assert names["index"].formats == "e4m3 x e4m3"
    dense = model_cost("deepseek-v3", phase="decode", seq_len=1 << 17)
    assert cost.attention_flops_per_token < 0.2 * dense.attention_flops_per_token


def test_parts_are_frozen_and_refuse_what_they_cannot_be() -> None:
    for part, change in (
        (GroupedQuery(8, 2, 64), {"window": 0}),
        (Latent(8, None, 64, 32, 16, 32), {"kv_rank": 0}),
        (Compressed(8, 64, 16, 32, 2, 16, 128), {"ratio": 0}),
        (Recurrent(8, 2, 16, 16, 4), {"kernel": 0}),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(change))} must be at least 1"):
            type(part)(**{**vars(part), **change})  # type: ignore[arg-type]


# --- what is no model -----------------------------------------------------------------------------

REFUSED = [
    ("openai--gpt-oss-20b", {"layer_types": ["full_attention"]}, "layer_types has 1 entries for 24 layers"),
    ("openai--gpt-oss-20b", {"layer_types": "full"}, "layer_types must be a list of names, got 'full'"),
    ("openai--gpt-oss-20b", {"layer_types": ["odd"] * 24}, "layer_types names 'odd', which is not described"),
    ("openai--gpt-oss-20b", {"sliding_window": None}, "sliding_window is missing"),
    ("deepseek-ai--DeepSeek-V4-Flash", {"compress_ratios": [7] * 44}, "names '7', which is not described"),
    ("nvidia--Nemotron-H-56B-Base-8K", {"hybrid_override_pattern": "M-"}, "has 2 letters for 118 layers"),
    ("nvidia--Nemotron-H-56B-Base-8K", {"hybrid_override_pattern": 3}, "hybrid_override_pattern must be text"),
    ("Qwen--Qwen3-8B", {"num_hidden_layers": 10**6}, "num_hidden_layers must be at most 10000"),
    ("Qwen--Qwen3-8B", {"architectures": ["Qwen3ForDancing"]}, "architectures is .*; described are classes"),
    ("Qwen--Qwen3-8B", {"architectures": "Qwen3"}, "architectures must be a list of names, got 'Qwen3'"),
    ("Qwen--Qwen3-8B", {"quantization_config": 8}, "quantization_config must be an object, got 8"),
    ("Qwen--Qwen3-32B-FP8", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [0, "x"]}},
     "weight_block_size must be two whole numbers"),
    ("Qwen--Qwen3-8B", {"per_layer_config": {"0": {"head_dim": "x"}}}, "per_layer_config must hold sizes"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), REFUSED)
def test_a_refused_file_gets_one_line_that_names_the_key(
    name: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^config of mine: [^\n]*{message}"):
        describe({**FILES[name], **change}, "mine")


def _odd(rng: random.Random) -> Any:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    numbers = [0, -1, 1, 2, 3, 7, 128, 10**6, 10**18, 10**400, -(10**30), 0.5, float("nan")]
    texts = ["", "a", "full_attention", "\x1b[31m\n"]
    lists = [[], [1], [None], ["x"] * 3, deep]
    return rng.choice([None, True, False, *numbers, *texts, *lists, {}, {"a": 1}, {"text_config": deep}])


def _fuzzed(rng: random.Random) -> dict[str, Any]:
    config: dict[str, Any] = copy.deepcopy(FILES[rng.choice(sorted(FILES))])
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        places = [config, *(value for value in config.values() if isinstance(value, dict) and value)]
        place = rng.choice(places)
        key = rng.choice(sorted(place))
        if rng.random() < 0.25:
            del place[key]
        elif isinstance(place[key], list) and place[key] and rng.random() < 0.5:
            place[key][rng.randrange(len(place[key]))] = _odd(rng)
        else:
            place[key] = _odd(rng)
        if not config:
            break
    return config


@pytest.mark.parametrize("seed", range(10))
def test_a_thousand_fuzzed_configurations_are_described_or_refused_in_one_line(seed: int) -> None:
    rng = random.Random(seed)
    described = 0
    for _ in range(1000):
        config = _fuzzed(rng)
        try:
            model = describe(config, "mine")
            found = inventory(model)
        except ValueError as error:
            text = str(error)
            assert re.fullmatch(r"config of mine: [^\n\x1b]+", text), text
            assert len(text) < 1000, text
        else:
            described += 1
            assert found.parameters >= found.quantized_parameters >= 0
            assert sum(part.total for part in stored_bytes(model).values()) > 0
    assert 100 < described < 900


# --- transformers ---------------------------------------------------------------------------------

# model_type, class and settings other than the defaults of transformers.
LIBRARY: list[tuple[str, str, dict[str, Any]]] = [
    ("bert", "BertModel", {}),
    ("deepseek_v2", "DeepseekV2ForCausalLM", {"first_k_dense_replace": 1, "num_experts_per_tok": 6}),
    ("deepseek_v2", "DeepseekV2ForCausalLM", {"q_lora_rank": None, "num_experts_per_tok": 6}),
    ("deepseek_v3", "DeepseekV3ForCausalLM", {}),
    ("deepseek_v32", "DeepseekV32ForCausalLM", {}),
    ("deepseek_v4", "DeepseekV4ForCausalLM", {}),
    ("gemma", "GemmaForCausalLM", {}),
    ("gemma2", "Gemma2ForCausalLM", {}),
    ("gemma3", "Gemma3ForConditionalGeneration", {}),
    ("gemma3_text", "Gemma3ForCausalLM", {}),
    ("gemma4_text", "Gemma4ForCausalLM", {}),
    ("gemma4_text", "Gemma4ForCausalLM", {"num_kv_shared_layers": 10, "use_double_wide_mlp": True}),
    (
        "gemma4_text",
        "Gemma4ForCausalLM",
        {
            **{"attention_k_eq_v": True, "num_global_key_value_heads": 2, "hidden_size_per_layer_input": 0},
            **{"enable_moe_block": True, "num_experts": 32, "top_k_experts": 4, "moe_intermediate_size": 512},
        },
    ),
    ("glm", "GlmForCausalLM", {}),
    ("glm4", "Glm4ForCausalLM", {}),
    ("glm4_moe", "Glm4MoeForCausalLM", {"use_qk_norm": True, "attention_bias": True, "head_dim": 128}),
    ("glm4_moe_lite", "Glm4MoeLiteForCausalLM", {}),
    ("glm_moe_dsa", "GlmMoeDsaForCausalLM", {}),
    ("gpt2", "GPT2LMHeadModel", {}),
    ("gpt2", "GPT2LMHeadModel", {"n_embd": 1024, "n_layer": 24, "n_head": 16, "n_inner": 2048}),
    ("gpt_oss", "GptOssForCausalLM", {}),
    ("kimi_linear", "KimiLinearForCausalLM", {}),
    ("llama", "LlamaForCausalLM", {}),
    ("llama", "LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("llama", "LlamaForSequenceClassification", {"num_labels": 5}),
    ("llama", "LlamaModel", {}),
    ("llama4", "Llama4ForConditionalGeneration", {}),
    ("llama4_text", "Llama4ForCausalLM", {"interleave_moe_layer_step": 2}),
    ("minimax_m2", "MiniMaxM2ForCausalLM", {}),
    ("ministral3", "Ministral3ForCausalLM", {}),
    ("mistral", "MistralForCausalLM", {}),
    ("mistral3", "Mistral3ForConditionalGeneration", {}),
    ("mixtral", "MixtralForCausalLM", {}),
    ("nemotron_h", "NemotronHForCausalLM", {}),
    ("nemotron_h", "NemotronHForCausalLM", {"moe_latent_size": 512}),
    ("olmo2", "Olmo2ForCausalLM", {}),
    ("olmo3", "Olmo3ForCausalLM", {}),
    ("phi3", "Phi3ForCausalLM", {}),
    ("qwen2", "Qwen2ForCausalLM", {}),
    ("qwen2", "Qwen2ForCausalLM", {"use_sliding_window": True, "max_window_layers": 10}),
    ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", {}),
    ("qwen2_moe", "Qwen2MoeForCausalLM", {}),
    ("qwen3", "Qwen3ForCausalLM", {"attention_bias": True}),
    ("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", {}),
    ("qwen3_5_text", "Qwen3_5ForCausalLM", {}),
    ("qwen3_moe", "Qwen3MoeForCausalLM", {}),
    ("qwen3_moe", "Qwen3MoeForCausalLM", {"mlp_only_layers": [0, 3], "decoder_sparse_step": 2}),
    ("qwen3_next", "Qwen3NextForCausalLM", {}),
    ("qwen3_vl", "Qwen3VLForConditionalGeneration", {}),
    ("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", {}),
    ("step3p7", "Step3p7ForConditionalGeneration", {}),
]


def _built(config: Any, name: str) -> int:
    """Count the parameters that transformers has, as in `BUILT`."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    if not hasattr(transformers, name):
        pytest.skip(f"this transformers has no {name}")
    with torch.device("meta"):  # shapes, no memory
        built = getattr(transformers, name)(config)
    built.tie_weights()
    count = sum(
        one.numel() for path, one in built.named_parameters() if not re.search("vis|multi_modal", path)
    )
    return count + sum(one.numel() for path, one in built.named_buffers() if "e_score" in path)


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "name", "settings"), LIBRARY)
def test_defaults_of_transformers_have_its_parameters(kind: str, name: str, settings: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    try:
        config = transformers.AutoConfig.for_model(kind, **settings)
    except ValueError:
        pytest.skip(f"this transformers has no {kind}")
    written = json.loads(config.to_json_string(use_diff=False))
    assert inventory(describe({**written, "architectures": [name]}, kind)).parameters == _built(config, name)


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(BUILT))
def test_published_files_have_the_parameters_of_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = copy.deepcopy(FILES[name])
    for one in (config, config.get("text_config", {})):
        one.pop("quantization_config", None)
        one.pop("auto_map", None)
    try:
        made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    except ValueError:
        pytest.skip(f"this transformers does not know {name}")
    assert total(name) == _built(made, config["architectures"][0])
