"""Models that no row describes: by the headers of a checkpoint, and by what a library builds; and --check."""

from __future__ import annotations

import copy
import json
import struct
import sys
from math import prod
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import test_families
from fp8sim.checkpoints import open_checkpoint
from fp8sim.cli.commands import app
from fp8sim.models import Inventory, ModelDescription, check_model, get_model, inventory, model_cost
from fp8sim.models.memory import kept_activations, kv_cache_bytes
from fp8sim.models.parsing import describe
from fp8sim.models.reading import from_headers, from_transformers
from fp8sim.models.stored import stored_bytes
from fp8sim.models.tensors import component_of
from fp8sim.recipes import get_recipe

BITS = {"F8_E4M3": 8, "F8_E8M0": 8, "BF16": 16, "F32": 32, "I64": 64, "U8": 8}

Tensors = dict[str, tuple[str, tuple[int, ...]]]


def write(folder: Path, tensors: Tensors, config: dict[str, Any] | None = None) -> Path:
    """Write a checkpoint whose data are zeros, which take no room on most disks."""
    header, at = {}, 0
    for name, (kind, shape) in tensors.items():
        size = prod(shape) * BITS[kind] // 8
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": (at, at + size)}
        at += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


# Two layers of a family of our own: 4 heads of 64 with 2 of keys and values, experts from the second layer on.
CONFIG: dict[str, Any] = {
    **{"model_type": "dancer", "architectures": ["DancerForCausalLM"], "hidden_size": 256, "vocab_size": 512},
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 384},
    **{"moe_intermediate_size": 128, "num_experts": 4, "num_experts_per_tok": 2},
}


def dancer() -> Tensors:
    """Return its tensors: attention in FP8 with a scale each 128 x 128, all else BF16; and a tower."""
    tensors: Tensors = {"model.embed_tokens.weight": ("BF16", (512, 256))}
    for layer in range(2):
        begin = f"model.layers.{layer}"
        for name, rows, columns in (("q", 256, 256), ("k", 128, 256), ("v", 128, 256), ("o", 256, 256)):
            weight = f"{begin}.self_attn.{name}_proj.weight"
            tensors[weight] = "F8_E4M3", (rows, columns)
            tensors[f"{weight}_scale_inv"] = "F32", (rows // 128, columns // 128)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{begin}.{norm}.weight"] = "BF16", (256,)
    for name, shape in (("gate", (384, 256)), ("up", (384, 256)), ("down", (256, 384))):
        tensors[f"model.layers.0.mlp.{name}_proj.weight"] = "BF16", shape
    for expert in range(4):
        for name, shape in (("gate", (128, 256)), ("up", (128, 256)), ("down", (256, 128))):
            tensors[f"model.layers.1.mlp.experts.{expert}.{name}_proj.weight"] = "BF16", shape
    tensors["model.layers.1.mlp.gate.weight"] = "BF16", (4, 256)
    tensors["model.norm.weight"] = "BF16", (256,)
    tensors["lm_head.weight"] = "BF16", (512, 256)
    tensors["visual.blocks.0.attn.qkv.weight"] = "BF16", (96, 32)
    tensors["visual.blocks.1.attn.qkv.weight"] = "BF16", (96, 32)
    return tensors


ATTENTION = 2 * (2 * 256 * 256 + 2 * 128 * 256)  # parameters of both layers
DENSE, EXPERT, ROUTER, TABLE, NORMS = 3 * 384 * 256, 3 * 128 * 256, 4 * 256, 512 * 256, 5 * 256


# --- headers --------------------------------------------------------------------------------------


@pytest.fixture
def headers(tmp_path: Path) -> ModelDescription:
    return get_model(write(tmp_path, dancer(), CONFIG))


def test_headers_give_parameters_and_what_a_token_meets(headers: ModelDescription) -> None:
    found = inventory(headers)
    assert found.parameters == ATTENTION + DENSE + 4 * EXPERT + ROUTER + 2 * TABLE + NORMS
    assert found.active_parameters == ATTENTION + DENSE + 2 * EXPERT + ROUTER + 2 * TABLE + NORMS
    assert found.linear_flops == 2 * (ATTENTION + DENSE + 2 * EXPERT)
    assert found.kept_flops == 2 * (ROUTER + TABLE)
    assert (headers.hidden, headers.vocab, headers.layers, headers.decoder) == (256, 512, 2, True)


def test_headers_give_the_bytes_of_every_format_exactly(headers: ModelDescription, tmp_path: Path) -> None:
    parts = stored_bytes(headers)
    scales = 2 * 4 * (4 + 2 + 2 + 4)  # FP32, a number each 128 x 128
    assert (parts["attention"].elements, parts["attention"].scales) == (ATTENTION, scales)
    assert parts["routed experts"].total == 2 * 4 * EXPERT
    assert parts["other parts"].total == 2 * 2 * 96 * 32
    assert sum(part.total for part in parts.values()) == open_checkpoint(tmp_path).nbytes
    assert "e4m3" in headers.found[1]


def test_what_is_known_of_attention_is_counted(headers: ModelDescription) -> None:
    (core,) = inventory(headers).cores
    assert (core.layers, core.heads, core.qk_dim, core.v_dim) == (2, 4, 64, 64)
    assert kv_cache_bytes(inventory(headers), get_recipe("bf16")) == 2 * 2 * 2 * 2 * 64
    assert (
        "attention from the configuration and the shape of model.layers.*.self_attn.k_proj.weight"
        in headers.found
    )


def test_found_says_what_was_read_from_where(headers: ModelDescription, tmp_path: Path) -> None:
    assert headers.found[0].endswith("model_type 'dancer' is not described")
    assert headers.found[1].startswith(f"described from the headers of {tmp_path}: ")
    assert "2 of 4 experts see a token, from the configuration" in headers.found
    assert (
        "left out: 6.14 k parameters of towers and modules, visual.blocks.*.attn.qkv.weight first"
        in headers.found
    )
    text = str(model_cost(headers))
    assert "Described from the headers of" in text
    assert "Left out: what the backward pass keeps of a token." in text


def test_what_reads_one_tensor_reads_it_once(headers: ModelDescription) -> None:
    reads = {
        gemm.name.split(".")[-2]: gemm.reads for gemm in inventory(headers).gemms if "self_attn" in gemm.name
    }
    assert reads["q_proj"] == reads["k_proj"] == reads["v_proj"] != reads["o_proj"]
    down = next(gemm for gemm in inventory(headers).gemms if "experts.*.down" in gemm.name)
    assert down.dispatched
    assert kept_activations(inventory(headers), get_recipe("bf16")) == ()


@pytest.mark.parametrize("phase", ["training", "prefill", "decode"])
def test_all_that_is_counted_of_a_described_model_is_counted(headers: ModelDescription, phase: Any) -> None:
    cost = model_cost(headers, phase=phase)
    assert cost.seconds > 0
    assert str(cost)
    assert cost.to_dict()["found"] == list(headers.found)


def test_without_a_configuration_shapes_and_bytes_are_left(tmp_path: Path) -> None:
    model = get_model(write(tmp_path, dancer()))
    assert inventory(model).cores == ()
    assert inventory(model).active_parameters == inventory(model).parameters
    assert (model.hidden, model.layers, model.family) == (256, 2, "unknown")
    assert "left out: how many experts see a token, which is not said; all are counted" in model.found
    assert "left out: flops and cache of attention, whose kind is not known; not counted" in model.found


def test_a_file_and_an_index_are_read_by_their_headers_whatever_is_described(tmp_path: Path) -> None:
    write(tmp_path, dancer(), CONFIG | {"model_type": "llama"})
    index = {"weight_map": dict.fromkeys(dancer(), "model.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for name in ("model.safetensors", "model.safetensors.index.json"):
        model = get_model(tmp_path / name)
        assert model.tensors
        assert model.found[0].startswith("described from the headers")
    assert not get_model(tmp_path / "config.json").tensors


def test_a_checkpoint_behind_a_url_is_described() -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    tensors = {
        "model.embed_tokens.weight": ("BF16", (8, 4)),
        "model.layers.0.mlp.up_proj.weight": ("BF16", (6, 4)),
    }
    header, at = {}, 0
    for name, (kind, shape) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": (at, at + 2 * prod(shape))}
        at += 2 * prod(shape)
    text = json.dumps(header).encode()
    memory.pipe_file("/dancer/model.safetensors", struct.pack("<Q", len(text)) + text + bytes(at))
    model = get_model("memory://dancer/model.safetensors")
    assert inventory(model).parameters == 8 * 4 + 6 * 4
    assert model.hidden == 4


def test_modules_that_predict_further_tokens_are_apart(tmp_path: Path) -> None:
    tensors = dancer() | {
        "model.layers.2.mlp.up_proj.weight": ("BF16", (384, 256)),
        "mtp.0.fc.weight": ("BF16", (256, 512)),
    }
    model = get_model(write(tmp_path, tensors, CONFIG))
    assert inventory(model).parameters == ATTENTION + DENSE + 4 * EXPERT + ROUTER + 2 * TABLE + NORMS
    assert stored_bytes(model)["other parts"].total == 2 * (2 * 96 * 32 + 384 * 256 + 256 * 512)


def test_codes_without_scales_are_counted_but_not_packed_ones(tmp_path: Path) -> None:
    tensors = dancer() | {"model.layers.0.mlp.extra.weight": ("F8_E4M3", (64, 64))}  # without a scale
    model = get_model(write(tmp_path, tensors, CONFIG))
    assert (
        "scales of 1 tensors were not found, model.layers.0.mlp.extra.weight first; bytes are without them"
        in model.found
    )
    assert inventory(model).component_parameters("dense FFN") == DENSE + 64 * 64
    (tmp_path / "packed").mkdir()
    packed = dancer() | {"model.layers.0.mlp.extra.weight_packed": ("U8", (64, 32))}
    assert (
        "left out: parameters of 1 tensors that are not read, model.layers.0.mlp.extra.weight first"
        in get_model(write(tmp_path / "packed", packed, CONFIG)).found
    )


def test_names_of_many_publishers_are_understood() -> None:
    for name, component in {
        "transformer.h.0.attn.c_attn.weight": "attention",
        "gpt_neox.layers.3.mlp.dense_h_to_4h.weight": "dense FFN",
        "model.decoder.embed_positions.weight": "embedding",
        "layers.0.hc_attn_fn": "residual streams",
        "layers.0.ffn.experts.7.w1.weight": "routed experts",
        "layers.0.ffn.gate.weight": "router",
        "layers.0.attn.indexer.wq_b.weight": "index",
        "model.layers.3.mixer.up_proj.weight": "dense FFN",
        "embeddings.LayerNorm.bias": "norms",
        "head.weight": "output head",
    }.items():
        assert component_of(name) == component, name


# --- one clear line -------------------------------------------------------------------------------


def test_where_neither_way_works_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    line = r"^config of [^\n]*model_type 'dancer' is not described; known: [^\n]*pip install 'fp8sim\[transformers\]'\)$"
    for source in (CONFIG, tmp_path, tmp_path / "config.json"):
        with pytest.raises(ValueError, match=line):
            get_model(source)


def test_what_is_described_but_wrong_goes_no_second_way(tmp_path: Path) -> None:
    write(tmp_path, dancer(), CONFIG | {"model_type": "llama", "hidden_size": -1})
    with pytest.raises(ValueError, match=r"hidden_size must be at least 1, got -1$"):
        get_model(tmp_path)


def test_a_damaged_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 64)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"^config of [^\n]*'dancer' is not described; [^\n]*model.safetensors [^\n]*$"
    ):
        get_model(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"model.safetensors [^\n]*$"):
        get_model(tmp_path)


def test_tensors_without_a_matrix_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its 1 tensors hold no matrix"):
        get_model(write(tmp_path, {"a": ("F32", (3,))}))


# --- a description beside its checkpoint ----------------------------------------------------------

LLAMA: dict[str, Any] = {
    **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "vocab_size": 512},
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 384},
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}


def llama() -> Tensors:
    """Return the tensors of a Llama in FP8."""
    tensors = {name: one for name, one in dancer().items() if "mlp" not in name and "visual" not in name}
    for layer in range(2):
        for name, shape in (("gate", (384, 256)), ("up", (384, 256)), ("down", (256, 384))):
            weight = f"model.layers.{layer}.mlp.{name}_proj.weight"
            tensors[weight] = "F8_E4M3", shape
            tensors[f"{weight}_scale_inv"] = "F32", (shape[0] // 128, shape[1] // 128)
    return tensors


def test_a_checkpoint_that_is_as_described_is_accounted_for(tmp_path: Path) -> None:
    check = check_model(write(tmp_path, llama(), LLAMA))
    assert check.rows[0].what == "parameters"
    assert check.rows[-1].what == "bytes"
    assert all(row.ours == row.published for row in check.rows)
    assert check.rows[-1].published == open_checkpoint(tmp_path).nbytes
    assert check.notes == ("Every tensor of the language model is accounted for.",)
    assert "computed beside stored" in str(check)


def test_tensors_that_are_not_accounted_for_are_named(tmp_path: Path) -> None:
    tensors = llama() | {
        "model.layers.1.self_attn.sinks": ("BF16", (4,)),
        "model.layers.0.mlp.adapter.weight": ("BF16", (16, 256)),
    }
    check = check_model(write(tmp_path, tensors, LLAMA))
    assert check.notes == (
        "Not accounted for: model.layers.1.self_attn.sinks, 4.",
        "Not accounted for: model.layers.0.mlp.adapter.weight, 16 x 256.",
    )
    assert check.rows[0].published - check.rows[0].ours == 4 + 16 * 256


def test_what_is_missing_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    tensors = llama() | {"visual.patch.weight": ("BF16", (64, 32))}
    del (
        tensors["model.layers.1.self_attn.o_proj.weight"],
        tensors["model.layers.1.self_attn.o_proj.weight_scale_inv"],
    )
    check = check_model(write(tmp_path, tensors, LLAMA))
    assert check.notes == (
        "Left out: visual, 2.05 k parameters.",
        "Not in the checkpoint: 65.54 k parameters of attention.",
    )


def test_prediction_modules_may_be_in_the_checkpoint_or_not(tmp_path: Path) -> None:
    config = {**LLAMA, "model_type": "mimo", "num_nextn_predict_layers": 1}
    check = check_model(write(tmp_path, llama(), config))
    assert check.notes[0] == "Its prediction modules are not in the checkpoint."
    assert check.rows[0].ratio == check.rows[-1].ratio == 1


def test_headers_are_not_held_beside_themselves(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is described by these very headers"):
        check_model(write(tmp_path, dancer(), CONFIG))


def test_the_command_checks_a_folder(tmp_path: Path) -> None:
    write(tmp_path, llama(), LLAMA)
    result = CliRunner().invoke(app, ["model", str(tmp_path), "--check"])
    assert result.exit_code == 0
    assert "Every tensor of the language model is accounted for." in result.output
    rows = json.loads(CliRunner().invoke(app, ["model", str(tmp_path), "--check", "--json"]).output)["rows"]
    assert {row["ratio"] for row in rows} == {1.0}


# --- transformers ---------------------------------------------------------------------------------

# model_type, settings: none of them is a row.
UNDESCRIBED: list[tuple[str, dict[str, Any]]] = [
    ("cohere2", {"hidden_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 2}),
    ("falcon", {"num_hidden_layers": 2}),
    ("gpt_neox", {"num_hidden_layers": 2}),
    ("jamba", {"hidden_size": 512, "num_hidden_layers": 8, "mamba_dt_rank": 32}),
    ("mamba", {}),
    ("opt", {}),
    ("starcoder2", {}),
    ("t5", {}),
    ("vit", {}),
]


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "settings"), UNDESCRIBED)
def test_models_without_a_row_have_the_parameters_of_the_library(kind: str, settings: dict[str, Any]) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    made = transformers.AutoConfig.for_model(kind, **settings)
    auto = transformers.AutoModel if kind in ("t5", "vit") else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        built = auto.from_config(made)
    model = get_model({"model_type": kind, **settings})
    assert inventory(model).parameters == built.num_parameters()
    assert str(model_cost(model, phase="prefill"))
    assert any(line.startswith("described by what transformers") for line in model.found)


@pytest.mark.extra
def test_a_model_that_the_library_builds_is_worked_by_hand() -> None:
    pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = get_model(
        {"model_type": "starcoder2"}
    )  # 30 layers of 3072, 24 heads of 128, 2 of keys and values
    matrices = 30 * (2 * 3072**2 + 2 * 256 * 3072 + 2 * 3072 * 12288)
    found = inventory(model)
    assert found.linear_flops == 2 * matrices
    assert found.kept_flops == 2 * 49152 * 3072  # the head, which is the embedding
    assert kv_cache_bytes(found, get_recipe("bf16")) == 30 * 2 * 2 * 2 * 128


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["llama", "mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss", "olmo3", "phi3"])
def test_both_ways_count_what_a_row_counts(kind: str, tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    kind, name, settings = next(one for one in test_families.LIBRARY if one[0] == kind)
    made = transformers.AutoConfig.for_model(kind, num_hidden_layers=4, **settings)
    config = {**json.loads(made.to_json_string(use_diff=False)), "architectures": [name]}
    by_row = describe(config, kind)
    by_library = from_transformers(copy.deepcopy(config), kind, "user")
    with torch.device("meta"):
        built = getattr(transformers, name)(made)
    built.tie_weights()
    tensors: Tensors = {path: ("BF16", tuple(one.shape)) for path, one in built.named_parameters()}
    tensors |= {path: ("F32", tuple(one.shape)) for path, one in built.named_buffers() if "e_score" in path}
    by_headers = from_headers(write(tmp_path, tensors, config), config, kind)
    row = inventory(by_row)
    for other in map(inventory, (by_library, by_headers)):
        for figure in ("parameters", "active_parameters", "linear_flops", "kept_flops"):
            assert getattr(other, figure) == getattr(row, figure), figure
        assert _cores(other) == _cores(row)
    check = check_model(tmp_path)
    assert check.rows[0].ratio == check.rows[-1].ratio == 1
    assert check.notes[-1] == "Every tensor of the language model is accounted for."


def _cores(one: Inventory) -> list[tuple[float, int]]:
    return sorted((core.flops_per_token(1), core.cache_width) for core in one.cores)


@pytest.mark.extra
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000, more than 1000"),
        ({"hidden_size": -4}, "negative dimension"),
        ({"model_type": "dancer"}, "Unrecognized model identifier"),
        ({"architectures": ["OPTForDancing"]}, "it has no 'OPTForDancing'"),
        ({"hidden_size": "wide"}, "build it"),
    ],
)
def test_what_the_library_refuses_is_one_line(change: dict[str, Any], message: str) -> None:
    pytest.importorskip("torch"), pytest.importorskip("transformers")
    with pytest.raises(
        ValueError, match=rf"^config of model: model_type [^\n]* is not described; known: [^\n]*{message}"
    ):
        get_model({"model_type": "opt", **change})
