"""Checkpoints that are written: the codes of `quantize`, whatever is interrupted, and what others make of them."""

from __future__ import annotations

import concurrent.futures
import hashlib
import importlib.util
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fp8sim
from fp8sim.checkpoints import open_checkpoint, shards, write_quantized
from fp8sim.experiments.data import sample_model_path
from tensor_files import fp8, save

BF16 = ml_dtypes.bfloat16
DATA = Path(__file__).parent / "data" / "checkpoints"
LAYOUTS = {
    "deepseek-v3": "deepseek", "deepseek-v3.1": "deepseek", "fp8-row": "float-quantized",
    "fp8-tensor": "float-quantized", "mxfp8": "mxfp8", "mxfp4": "mxfp4-pack-quantized",
    "nvfp4": "nvfp4-pack-quantized", "int8-row": "int-quantized", "mxfp8-floor": "mxfp8",
    "tilekernels-fp8": "deepseek", "te-current": "float-quantized", "fp8-weights": "float-quantized",
}  # fmt: skip
TYPES = {
    "F32": np.float32, "U8": np.uint8, "I8": np.int8, "BF16": BF16, "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F64": np.float64, "F16": np.float16, "I64": np.int64,
}  # fmt: skip


def load(folder):
    """Return all tensors of a folder, by the safetensors format's own description."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        data = file.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        for name, one in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__":
                start, stop = (8 + length + offset for offset in one["data_offsets"])
                assert start % np.dtype(TYPES[one["dtype"]]).itemsize == 0
                found[name] = np.frombuffer(data[start:stop], TYPES[one["dtype"]]).reshape(one["shape"])
    return found


def weights(rng, dtype=BF16, columns=384):
    """Return weights of odd shapes, with outliers, and what stays wide."""
    shapes = [(300, columns), (129, columns), (1, columns), (256, 2 * columns), (64, columns)]
    found = {f"model.layers.{i}.q_proj.weight": rng.standard_normal(shape) for i, shape in enumerate(shapes)}
    for one in found.values():
        one *= np.exp2(rng.integers(-12, 6, (len(one), 1)))
    found["model.layers.4.q_proj.weight"][:] = 0
    found["model.embed_tokens.weight"] = rng.standard_normal((50, 64))
    found["model.layers.0.mlp.gate.weight"] = rng.standard_normal((8, 64))
    found["model.norm.weight"] = rng.standard_normal(64)
    found["conv.weight"] = rng.standard_normal((4, 3, 2, 2))
    return {name: one.astype(dtype) for name, one in found.items()}


def source(folder, tensors, files=1, config=None):
    """Write a checkpoint of so many files."""
    names = list(tensors)
    if files == 1:
        save(folder / "model.safetensors", **tensors)
    else:
        where = {}
        for i in range(files):
            file = f"model-{i + 1:05d}-of-{files:05d}.safetensors"
            save(folder / file, **{name: tensors[name] for name in names[i::files]})
            where |= dict.fromkeys(names[i::files], file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
    return folder


def digests(folder):
    """Return what lies in a folder."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def names_in(folder):
    """Return the names of what lies in a folder that need not be there."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def quantised(x, recipe):
    """Quantise as the weights of a recipe, with `fp8sim.quantize`."""
    b = fp8sim.get_recipe(recipe).b
    s = b.scaling
    return fp8sim.quantize(
        x, b.fmt, s.granularity, scale_format=s.scale_format, scale_rule=s.scale_rule, amax_floor=s.amax_floor,
        division=s.division,
    )  # fmt: skip


def packed(bits):
    """Return two 4-bit codes a byte, the first in the lower half, one after the other."""
    flat = bits.reshape(-1).tolist()
    return np.array([a | b << 4 for a, b in zip(flat[::2], flat[1::2], strict=True)], np.uint8)


@pytest.mark.parametrize("recipe", LAYOUTS)
@pytest.mark.parametrize("dtype", [BF16, np.float32, np.float64])
@pytest.mark.parametrize("part", [1 << 21, 1000])
def test_codes_are_those_of_quantize_whatever_the_ranges_of_rows(
    tmp_path, rng, monkeypatch, recipe, dtype, part
):
    monkeypatch.setattr(shards, "_PART", part)
    tensors = weights(rng, dtype)
    write_quantized(source(tmp_path / "wide", tensors), tmp_path / "out", recipe)
    found, checkpoint = load(tmp_path / "out"), open_checkpoint(tmp_path / "out")
    for name, x in tensors.items():
        if "q_proj" not in name:
            assert found[name].dtype == x.dtype
            np.testing.assert_array_equal(found[name].view(np.uint8), x.view(np.uint8))
            continue
        q = quantised(x, recipe)
        tensor = checkpoint[name]
        assert (tensor.layout, tensor.shape, tensor.refused) == (LAYOUTS[recipe], x.shape, "")
        if recipe == "nvfp4":
            np.testing.assert_array_equal(found[name + "_packed"].reshape(-1), packed(q.bits))
            np.testing.assert_array_equal(found[name + "_scale"].view(np.uint8), q.scale_codes.view(np.uint8))
            above = found[name + "_global_scale"]
            assert above == np.float32(1) / q.tensor_scale
            values = np.repeat(q.scale_codes.astype(np.float64) / above.astype(np.float64), 16, 1)
            wanted = (q.codes.astype(np.float64) * values).astype(np.float32)
            np.testing.assert_allclose(wanted, q.dequantize(), rtol=2**-22)
        else:
            wanted = q.dequantize()
            if recipe == "mxfp4":
                np.testing.assert_array_equal(found[name + "_packed"].reshape(-1), packed(q.bits))
            else:
                np.testing.assert_array_equal(found[name].view(np.uint8), q.bits)
            end = "_scale_inv" if LAYOUTS[recipe] == "deepseek" else "_scale"
            scales = found[name + end]
            if scales.dtype == np.uint8:
                scales = np.exp2(scales.astype(np.float32) - 127)
            np.testing.assert_array_equal(scales.reshape(-1), q.scales.reshape(-1))
        np.testing.assert_array_equal(checkpoint.read(name), wanted)


@pytest.mark.parametrize(("recipe", "block"), [("mxfp8", 32), ("mxfp4", 32), ("nvfp4", 16)])
def test_what_ends_in_part_of_a_group_stays_wide_and_is_said_to(tmp_path, rng, recipe, block):
    x = {f"l{i}.weight": rng.standard_normal((8, 96 + i)).astype(BF16) for i in (0, 16, 1, 31)}
    written = write_quantized(source(tmp_path / "wide", x), tmp_path / "out", recipe)
    wide = [i for i in (0, 16, 1, 31) if (96 + i) % block]
    assert [row.tensors for row in written.rows] == [4 - len(wide), len(wide)]
    assert f"columns no multiple of {block}" in str(written)
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert sorted(config["ignore"]) == sorted([*(f"l{i}" for i in wide), "lm_head"])
    for i in wide:
        np.testing.assert_array_equal(
            open_checkpoint(tmp_path / "out").read(f"l{i}.weight"), x[f"l{i}.weight"]
        )


@pytest.mark.parametrize("recipe", ["deepseek-v3", "fp8-tensor", "nvfp4"])
def test_five_shards_and_one_file_and_small_shards_give_the_same_tensors(tmp_path, rng, recipe):
    tensors = weights(rng)
    one = write_quantized(source(tmp_path / "one", tensors), tmp_path / "a", recipe)
    write_quantized(source(tmp_path / "five", tensors, 5), tmp_path / "b", recipe)
    small = write_quantized(tmp_path / "five", tmp_path / "c", recipe, shard_bytes=100_000)
    first, second, third = (load(tmp_path / name) for name in "abc")
    assert one.files == ("model.safetensors",)
    assert len(small.files) >= 3
    assert small.files[0] == f"model-00001-of-{len(small.files):05d}.safetensors"
    index = json.loads((tmp_path / "c" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in third.values()) == small.nbytes
    assert set(index["weight_map"]) == set(third)
    for other in (second, third):
        assert first.keys() == other.keys()
        for name, x in first.items():
            np.testing.assert_array_equal(x.view(np.uint8), other[name].view(np.uint8))
    for file in small.files:  # but for what is larger alone
        assert (tmp_path / "c" / file).stat().st_size < 250_000


def test_workers_write_the_same_bytes(tmp_path, rng):
    source(tmp_path / "wide", weights(rng))
    write_quantized(tmp_path / "wide", tmp_path / "a", shard_bytes=100_000)
    calls = []
    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        write_quantized(
            tmp_path / "wide", tmp_path / "b", shard_bytes=100_000, executor=executor,
            on_tensor=lambda *call: calls.append(call),
        )  # fmt: skip
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert calls[-1][1] == calls[-1][2]


def test_progress_ends_at_all_bytes(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(shards, "_PART", 5000)
    calls = []
    tensors = weights(rng)
    source(tmp_path / "wide", tensors)
    write_quantized(tmp_path / "wide", tmp_path / "out", on_tensor=lambda *call: calls.append(call))
    done = [call[1] for call in calls]
    assert done == sorted(done)
    assert done[-1] == calls[0][2] == sum(x.nbytes for x in tensors.values())
    assert {call[0] for call in calls} == set(tensors)


# --- what stays wide, and what is said of it ------------------------------------------------------------


def test_the_configuration_is_the_published_one(tmp_path, rng):
    config = {
        "model_type": "deepseek_v3",
        "quantization_config": {"quant_method": "x"},
        "expert_dtype": "fp4",
    }
    source(tmp_path / "wide", weights(rng), config=config)
    write_quantized(tmp_path / "wide", tmp_path / "a", "deepseek-v3.1", keep="*.1.q_proj")
    found = json.loads((tmp_path / "a" / "config.json").read_text())
    assert found == {
        "model_type": "deepseek_v3",
        "quantization_config": {
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "scale_fmt": "ue8m0",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": [
                "model.layers.1.q_proj", "model.embed_tokens", "model.layers.0.mlp.gate", "lm_head",
            ],
        },
    }  # fmt: skip
    write_quantized(tmp_path / "wide", tmp_path / "b", "fp8-row")
    group = json.loads((tmp_path / "b" / "config.json").read_text())["quantization_config"]["config_groups"][
        "group_0"
    ]
    assert group["weights"] == {
        "num_bits": 8, "type": "float", "symmetric": True, "group_size": None, "strategy": "channel", "dynamic": False,
    }  # fmt: skip
    assert group["input_activations"]["strategy"] == "token"
    write_quantized(tmp_path / "wide", tmp_path / "c", "fp8-weights")  # whose activations are BF16
    group = json.loads((tmp_path / "c" / "config.json").read_text())["quantization_config"]["config_groups"][
        "group_0"
    ]
    assert group["input_activations"] is None


@pytest.mark.parametrize("name", ["FP8", "FP8_DYNAMIC", "W8A8", "MXFP8A16", "MXFP4A16", "NVFP4A16"])
def test_weights_are_described_as_compressed_tensors_does(tmp_path, rng, name):
    recorded = json.loads((DATA / "about.json").read_text())["configs"][f"compressed-tensors-{name}"]
    recipe = {"FP8": "fp8-tensor", "FP8_DYNAMIC": "fp8-row", "W8A8": "int8-row"}.get(name, name[:-3].lower())
    write_quantized(source(tmp_path / "wide", weights(rng)), tmp_path / "out", recipe)
    ours = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    theirs = recorded["quantization_config"]
    assert ours["format"] == theirs["format"]
    assert ours["config_groups"]["group_0"]["weights"] == theirs["config_groups"]["group_0"]["weights"]
    assert ours["config_groups"]["group_0"].keys() == theirs["config_groups"]["group_0"].keys()
    assert not theirs.keys() - ours.keys() - {"moe_sparsity_config"}


@pytest.mark.parametrize("pattern", ["model.layers.1.*", "*.1.q_proj", "model.layers.1.q_proj.weight"])
def test_patterns_keep_what_they_fit(tmp_path, rng, pattern):
    written = write_quantized(source(tmp_path / "wide", weights(rng)), tmp_path / "out", keep=[pattern])
    assert {row.why: row.tensors for row in written.rows} == {
        "": 4, "asked for": 1, "embedding, head, norm or router": 2, "no weight matrix of a layer": 2,
    }  # fmt: skip
    assert open_checkpoint(tmp_path / "out")["model.layers.1.q_proj.weight"].format == "bf16"


def test_other_files_are_copied_and_weights_in_other_formats_are_not(tmp_path, rng):
    wide = source(tmp_path / "wide", weights(rng), files=5)
    for name in ("tokenizer.json", "1_Pooling/config.json", "modeling.py"):
        (wide / name).parent.mkdir(exist_ok=True)
        (wide / name).write_text(name)
    for name in (
        "pytorch_model.bin",
        ".gitattributes",
        "hf_quant_config.json",
        "onnx/model.onnx",
        "deep/er/x.json",
    ):
        (wide / name).parent.mkdir(exist_ok=True, parents=True)
        (wide / name).write_text("{}")
    written = write_quantized(wide, tmp_path / "out")
    assert written.copied == ("modeling.py", "tokenizer.json", "1_Pooling/config.json")
    assert set(digests(tmp_path / "out")) == {
        *written.copied,
        "config.json",
        "fp8sim.json",
        "model.safetensors",
    }
    assert (tmp_path / "out" / "1_Pooling" / "config.json").read_text() == "1_Pooling/config.json"


def test_a_single_file_brings_nothing_but_its_configuration(tmp_path, rng):
    source(tmp_path, weights(rng))
    (tmp_path / "diary.txt").write_text("mine")
    written = write_quantized(tmp_path / "model.safetensors", tmp_path / "out")
    assert written.copied == ()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.parametrize("file", sorted(DATA.glob("*.safetensors")), ids=lambda file: file.stem)
@pytest.mark.parametrize("keep", [(), "*"])
def test_any_layout_that_is_read_is_converted(tmp_path, file, keep):
    wide = tmp_path / "wide"
    wide.mkdir()
    shutil.copy(file, wide / "model.safetensors")
    (wide / "config.json").write_text(
        json.dumps(json.loads((DATA / "about.json").read_text())["configs"][file.stem])
    )
    before = open_checkpoint(wide)
    write_quantized(wide, tmp_path / "out", "fp8-row", keep=keep)
    after = open_checkpoint(tmp_path / "out")
    activations = {"0.input_scale", "0.output_scale"}  # of quanto, which are no part of another layout
    assert set(after.names) == set(before.names) - activations
    for tensor in filter(lambda one: one.name in after.names, before):
        x, y = before.read(tensor.name), after.read(tensor.name)
        if tensor.layout == "plain":
            np.testing.assert_array_equal(x, y)
        elif not keep and len(x.shape) == 2:
            np.testing.assert_array_equal(y, quantised(x, "fp8-row").dequantize())
        else:  # as BF16; gpt-oss's matrices as its BF16 checkpoints have them
            x = np.swapaxes(x, 1, 2) if tensor.layout == "gpt-oss" else x
            np.testing.assert_array_equal(y, x.astype(BF16).astype(np.float32))


# --- what is refused --------------------------------------------------------------------------------------


def test_nothing_is_overwritten_and_nothing_lies_in_the_source(tmp_path, rng):
    wide = source(tmp_path / "wide", weights(rng))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(wide)
    before = digests(tmp_path)
    for out, message in [
        ("full", r"is not empty \(mine.txt\); name another folder, or pass force=True"),
        ("file", "is a file; name a folder"),
        ("wide", "holds it, which is read; name a folder elsewhere"),
        ("wide/out", "holds it, which is read"),
        ("link", "holds it, which is read"),
        (".", "holds it, which is read"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_quantized(wide, tmp_path / out)
    with pytest.raises(ValueError, match="which is read"):
        write_quantized(wide, wide, force=True)
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"recipe": "bf16"},
            "there is no layout for the weights of recipe bf16, bf16; use fp8-tensor, fp8-row",
        ),
        ({"recipe": "deepseek-v4"}, "no layout for the weights of recipe deepseek-v4"),
        ({"recipe": "te-nvfp4"}, "no layout for the weights of recipe te-nvfp4"),
        ({"keep": ["*.down_proj"]}, r"no tensor fits the pattern '\*.down_proj' to keep; there are "),
        ({"shard_bytes": 0}, "shard_bytes must be"),
    ],
)
def test_what_cannot_be_written_is_said_before_any_folder_is_made(tmp_path, rng, options, message):
    with pytest.raises(ValueError, match=message):
        write_quantized(source(tmp_path / "wide", weights(rng)), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_codes_without_scales_and_names_that_are_taken_are_refused(tmp_path, rng):
    source(tmp_path / "a", {"q.weight": fp8(rng, 8, 32)})
    with pytest.raises(ValueError, match="cannot be read as values: its scales were not found"):
        write_quantized(tmp_path / "a", tmp_path / "out")
    x = rng.standard_normal((8, 32)).astype(BF16)
    source(tmp_path / "b", {"q.weight": x, "q.weight_scale_inv": x})
    with pytest.raises(ValueError, match="would be the name of"):
        write_quantized(tmp_path / "b", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nan_is_refused_by_the_name_of_its_tensor_and_leaves_no_shard(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(shards, "_PART", 5000)
    x = rng.standard_normal((300, 64)).astype(BF16)
    x[290, 3] = np.nan
    source(tmp_path / "wide", {"q.weight": x})
    for recipe in ("deepseek-v3", "fp8-tensor"):
        with pytest.raises(ValueError, match=r"q.weight, from row \d+ on, holds 1 NaN or infinite"):
            write_quantized(tmp_path / "wide", tmp_path / recipe, recipe)
        assert names_in(tmp_path / recipe) == ["fp8sim.json"]


# --- interrupted runs -------------------------------------------------------------------------------------


def test_a_finished_folder_is_left_alone_and_other_settings_are_refused(tmp_path, rng):
    wide, out = source(tmp_path / "wide", weights(rng)), tmp_path / "out"
    first = write_quantized(wide, out)
    times = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    assert str(write_quantized(wide, out)) == str(first)
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == times
    for options, odd in (
        ({"recipe": "fp8-row"}, "recipe was 'deepseek-v3'"),
        ({"keep": "*.0.*"}, r"keep was \[\]"),
        ({"shard_bytes": 10_000}, "shard_bytes was 5000000000"),
    ):
        with pytest.raises(ValueError, match=f"written in another way: {odd}; name another folder"):
            write_quantized(wide, out, **options)
    source(wide, weights(rng, np.float32))
    with pytest.raises(ValueError, match="the source has changed"):
        write_quantized(wide, out)


def test_force_replaces_a_checkpoint_and_follows_no_link(tmp_path, rng):
    wide, out = source(tmp_path / "wide", weights(rng)), tmp_path / "out"
    write_quantized(wide, tmp_path / "wanted", "fp8-row")
    write_quantized(wide, out, shard_bytes=100_000)
    (out / "mine.txt").write_text("mine")
    (out / "config.json").unlink()
    (out / "config.json").symlink_to(wide / "config.json")
    before = digests(wide)
    write_quantized(wide, out, "fp8-row", force=True)
    assert digests(wide) == before
    found = digests(out)
    assert found.pop("mine.txt")
    assert found == digests(tmp_path / "wanted")


def test_a_full_disk_leaves_no_half_shard_and_a_second_run_ends_the_same(tmp_path, rng, monkeypatch):
    wide = source(tmp_path / "wide", weights(rng))
    write_quantized(wide, tmp_path / "wanted", shard_bytes=100_000)
    count = 0
    usual = shards.ShardFile.write

    def full(self, data, at):
        nonlocal count
        count += 1
        if count == 12:
            raise OSError(28, "No space left on device")
        usual(self, data, at)

    monkeypatch.setattr(shards.ShardFile, "write", full)
    with pytest.raises(OSError, match=r"cannot write .*model-0000\d-of-0000\d.safetensors: No space left"):
        write_quantized(wide, tmp_path / "out", shard_bytes=100_000)
    there = digests(tmp_path / "out")
    assert "config.json" not in there
    assert not [name for name in there if name.endswith(".part")]
    wanted = digests(tmp_path / "wanted")
    assert there.items() <= wanted.items()
    write_quantized(wide, tmp_path / "out", shard_bytes=100_000)
    assert digests(tmp_path / "out") == wanted


def test_a_shard_that_someone_changed_is_not_taken_for_ours(tmp_path, rng):
    wide, out = source(tmp_path / "wide", weights(rng)), tmp_path / "out"
    write_quantized(wide, out)
    (out / "config.json").unlink()
    save(out / "model.safetensors", w=np.ones(3, np.float32))
    with pytest.raises(ValueError, match="is not what was written there; delete it, or pass force=True"):
        write_quantized(wide, out)


RUN = "import sys; from fp8sim.checkpoints import write_quantized; write_quantized(*sys.argv[1:4], shard_bytes=200_000)"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with signals")
def test_a_file_size_limit_is_one_error(tmp_path, rng):
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000,) * 2); " + RUN
    source(tmp_path / "wide", weights(rng))
    command = [sys.executable, "-c", code, str(tmp_path / "wide"), str(tmp_path / "out"), "deepseek-v3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr.splitlines()[-1]
    assert names_in(tmp_path / "out") == ["fp8sim.json"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with signals")
@pytest.mark.parametrize("recipe", ["deepseek-v3", "nvfp4"])
def test_killed_at_any_moment_and_run_again_the_folder_is_the_same_to_the_byte(tmp_path, rng, recipe):
    tensors = {f"l{i}.weight": rng.standard_normal((512, 512)).astype(BF16) for i in range(24)}
    wide = source(tmp_path / "wide", tensors)
    (wide / "tokenizer.json").write_text("{}")
    write_quantized(wide, tmp_path / "wanted", recipe, shard_bytes=200_000)
    wanted, chance = digests(tmp_path / "wanted"), random.Random(1)
    command = [sys.executable, "-c", RUN, str(wide), str(tmp_path / "out"), recipe]
    stopped = []  # the shards that were there after each kill
    while len(stopped) < 10:
        at_once = chance.random() < 0.3
        before = names_in(tmp_path / "out")
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            new = [
                name for name in set(names_in(tmp_path / "out")) - set(before) if at_once or name[0] != "."
            ]
            if new:
                break
        time.sleep(0.05 * chance.random() * chance.random())
        process.kill()
        process.communicate()
        there = digests(tmp_path / "out")
        if "config.json" in there:
            break
        whole = {name: one for name, one in there.items() if not name.endswith(".part")}
        assert whole.items() <= wanted.items()
        stopped.append(len(whole))
    assert stopped
    assert max(stopped) > 1, "no run was killed between two shards"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr
    assert digests(tmp_path / "out") == wanted


def test_memory_is_flat_whatever_the_tensor(tmp_path):
    """Of a weight of 1 GB no more is in memory than a few ranges of rows."""
    resource = pytest.importorskip("resource")
    assert resource
    size = 2 * 32768 * 16384
    header = json.dumps(
        {"big.weight": {"dtype": "BF16", "shape": [32768, 16384], "data_offsets": [0, size]}}
    ).encode()
    with (tmp_path / "model.safetensors").open("wb") as stream:  # sparse
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + size)
    code = (
        "import resource, sys; from fp8sim.checkpoints import write_quantized; import numba\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = peak(); write_quantized(*sys.argv[1:4]); print(peak() - before)"
    )
    if not fp8sim._kernels.available():
        pytest.skip("without numba, a gigabyte takes minutes")
    for recipe in ("deepseek-v3", "nvfp4"):
        command = [
            sys.executable,
            "-c",
            code,
            str(tmp_path / "model.safetensors"),
            str(tmp_path / recipe),
            recipe,
        ]
        more = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert more < 400
        shutil.rmtree(tmp_path / recipe)


# --- the command line ---------------------------------------------------------------------------------------


def command(*arguments):
    """Run `fp8sim quantize`, and return its exit status, what it prints, and its errors."""
    line = [sys.executable, "-m", "fp8sim", "quantize", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_command_writes_what_the_function_does(tmp_path, rng):
    wide = source(tmp_path / "wide", weights(rng), 2)
    written = write_quantized(wide, tmp_path / "a", "nvfp4", keep=["*.1.q_proj"])
    status, out, err = command(wide, tmp_path / "b", "--recipe", "nvfp4", "--keep", "*.1.q_proj")
    assert (status, err) == (0, "")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    for words in ("e2m1 1x16 e4m3", "asked for", "nvfp4-pack-quantized", "0 other files copied"):
        assert words in out
    assert max(map(len, str(written).splitlines()[1:])) <= 100
    status, out, err = command(
        wide, tmp_path / "c", "--recipe", "nvfp4", "--keep", "*.1.q_proj", "--workers", 2, "--json"
    )
    assert (status, err) == (0, "")
    assert digests(tmp_path / "c") == digests(tmp_path / "a")
    found = json.loads(out)
    assert found["nbytes"] == written.nbytes
    assert found["rows"] == json.loads(json.dumps(written.to_dict()))["rows"]


def test_every_error_of_the_command_is_one_line(tmp_path, rng, run):
    wide = source(tmp_path / "wide", weights(rng))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x\x1b[31m").write_text("mine")
    for arguments, words in [
        ((wide, tmp_path / "out", "--recipe", "deepseek"), "unknown recipe 'deepseek'; did you mean"),
        ((wide, tmp_path / "out", "--recipe", "bf16"), "there is no layout for the weights of recipe bf16"),
        ((wide, tmp_path / "out", "--keep", "no*"), "no tensor fits the pattern 'no*'"),
        ((wide, tmp_path / "full"), r"is not empty (x\x1b[31m); name another folder, or pass"),
        ((wide, wide), "which is read; name a folder elsewhere"),
        ((tmp_path / "gone", tmp_path / "out"), "no file "),
        ((wide,), "missing argument 'out'"),
    ]:
        status, out, err = run("quantize", *map(str, arguments))
        assert (status, out) == (2, "")
        assert words in err or words in err.lower()
        assert err.count("\n") == 1
        assert "\x1b" not in err


# --- what others make of it ---------------------------------------------------------------------------------

needs = {
    name: pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"needs {name}")
    for name in ("transformers", "accelerate", "compressed_tensors")
}
needs_sample = pytest.mark.skipif(
    sample_model_path() is None, reason="needs the sample model: fp8sim[sample]"
)
THEIRS = ["fp8-row", "fp8-tensor", "mxfp8", "mxfp4", "nvfp4", "int8-row"]


def loaded(folder, config):
    """Return the weights of a model that transformers loads, dequantised, as float32."""
    import torch
    from transformers import AutoModel

    with warnings.catch_warnings():  # that a way of loading was asked for beside the file's own configuration
        warnings.simplefilter("ignore", UserWarning)
        model = AutoModel.from_pretrained(
            folder, quantization_config=config, dtype=torch.float32, local_files_only=True
        )
    return {
        name: one.detach().float().numpy()
        for name, one in model.state_dict().items()
        if name.endswith((".weight", ".bias"))
    }


def same_weights(found, checkpoint, digits=0.0):
    """Hold that all weights of a checkpoint are what was loaded."""
    assert set(found) <= set(checkpoint.names)
    assert len(found) > 100
    for name, x in found.items():
        np.testing.assert_allclose(x, checkpoint.read(name), rtol=digits, atol=0, err_msg=name)


@pytest.mark.extra
@needs["transformers"]
@needs["accelerate"]
@needs_sample
@pytest.mark.parametrize("recipe", ["deepseek-v3", "deepseek-v3.1"])
def test_transformers_loads_deepseeks_layout(tmp_path, recipe):
    from transformers import FineGrainedFP8Config

    write_quantized(sample_model_path(), tmp_path / "out", recipe)
    checkpoint = open_checkpoint(tmp_path / "out")
    assert sum(one.layout == "deepseek" for one in checkpoint) == 37
    same_weights(loaded(tmp_path / "out", FineGrainedFP8Config(dequantize=True)), checkpoint)


@pytest.mark.extra
@needs["transformers"]
@needs["compressed_tensors"]
@needs_sample
@pytest.mark.parametrize("recipe", THEIRS)
def test_transformers_loads_the_layouts_of_compressed_tensors(tmp_path, recipe):
    from transformers import CompressedTensorsConfig

    write_quantized(sample_model_path(), tmp_path / "out", recipe)
    checkpoint = open_checkpoint(tmp_path / "out")
    assert sum(one.layout == LAYOUTS[recipe] for one in checkpoint) == 37
    found = loaded(tmp_path / "out", CompressedTensorsConfig(dequantize=True))
    # NVFP4's scales, one over the other, are rounded to BF16 there, and so is what they are multiplied with.
    same_weights(found, checkpoint, 2**-8 if recipe == "nvfp4" else 0.0)


@pytest.mark.extra
@needs["compressed_tensors"]
@pytest.mark.parametrize("recipe", THEIRS)
def test_compressed_tensors_decompresses_to_the_same_values(tmp_path, rng, recipe):
    import torch
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from safetensors.torch import load_file

    write_quantized(source(tmp_path / "wide", weights(rng)), tmp_path / "out", recipe)
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    scheme = QuantizationConfig.model_validate(config).config_groups["group_0"]
    compressor = BaseCompressor.get_value_from_registry(config["format"])
    files, checkpoint = load_file(tmp_path / "out" / "model.safetensors"), open_checkpoint(tmp_path / "out")
    for name in checkpoint.names:
        if "q_proj" in name:
            stem = name.removesuffix("weight")
            state = {key.removeprefix(stem): x for key, x in files.items() if key.startswith(stem)}
            found = compressor.decompress(state, scheme)["weight"]
            wanted = torch.from_numpy(checkpoint.read(name))
            digits = {"nvfp4": 2**-22}.get(recipe, 0.0)
            torch.testing.assert_close(found, wanted.to(found.dtype), rtol=digits, atol=0)


def test_what_cannot_be_read_is_copied_if_it_is_kept_and_a_folder_without_weights_is_begun_anew(
    tmp_path, rng
):
    mask = np.tril(np.ones((8, 8), np.uint8))
    w = rng.standard_normal((64, 128)).astype(np.float16)
    bad = w.copy()
    bad[0, 0] = np.inf
    save(tmp_path / "m.safetensors", **{"l:q:weight": w, "l:k:weight": bad, "l:attn:mask": mask})
    with pytest.raises(ValueError, match=r"or keep it as it is stored \(--keep\)"):
        write_quantized(tmp_path / "m.safetensors", tmp_path / "out", "fp8-row")
    with pytest.raises(ValueError, match="infinit"):
        write_quantized(tmp_path / "m.safetensors", tmp_path / "out", "fp8-row", keep="*mask")
    write_quantized(tmp_path / "m.safetensors", tmp_path / "out", "fp8-row", keep=["*mask", "l.k"])
    out = open_checkpoint(tmp_path / "out")
    np.testing.assert_array_equal(out.read("l.attn.mask", raw=True), mask)
    assert out["l.q.weight"].format == "e4m3"
    np.testing.assert_array_equal(out.read("l.k.weight"), bad.astype(np.float32))
