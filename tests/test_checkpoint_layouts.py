"""Every layout of quantised weights, against a float64 computation by plain indices."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fp8sim.checkpoints import open_checkpoint
from tensor_files import fp8, powers, safetensors, save, with_header

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]


def unpacked(packed, high_first=False):
    """Return two E2M1 values a byte, one byte after the other."""
    rows = packed.reshape(-1, packed.shape[-1])
    out = np.empty((len(rows), 2 * rows.shape[1]))
    for i, row in enumerate(rows):
        for j, byte in enumerate(row.tolist()):
            low, high = E2M1[byte % 16], E2M1[byte // 16]
            out[i, 2 * j : 2 * j + 2] = (high, low) if high_first else (low, high)
    return out.reshape(*packed.shape[:-1], -1)


def scaled(values, scales, block):
    """Multiply by the scale of each element's block, of the last two axes, in float64."""
    values = np.asarray(values, np.float64)
    at = [np.arange(length) // size for length, size in zip(values.shape[-2:], block, strict=True)]
    at = [*map(np.arange, values.shape[:-2]), *at]
    at = [np.minimum(one, length - 1) for one, length in zip(at, scales.shape, strict=True)]
    return values * scales.astype(np.float64)[np.ix_(*at)]


def same(checkpoint, name, want, layout, granularity):
    """Hold that a weight is what float64 says, whole and by any rows."""
    with np.errstate(over="ignore"):
        want = want.astype(np.float32)
    tensor = checkpoint[name]
    assert (tensor.layout, tensor.granularity, tensor.shape) == (layout, granularity, want.shape)
    assert not tensor.refused
    whole = checkpoint.read(name)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole, want)
    for start, stop in (
        (0, 1),
        (len(want) // 3, len(want)),
        (len(want) // 2, len(want) // 2),
        (1, len(want) - 1),
    ):
        np.testing.assert_array_equal(checkpoint.read(name, rows=(start, stop)), want[start:stop])
        np.testing.assert_array_equal(checkpoint.read(name, slice(start, stop)), want[start:stop])


F32 = np.float32


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "e8m0", "u8"])
@pytest.mark.parametrize("block", [128, 32])
def test_deepseeks_blocks_ragged_ones_too(tmp_path, rng, kind, block):
    shape = (-(-200 // block), -(-300 // block))
    scales = powers(rng, *shape) if kind in ("e8m0", "u8") else rng.uniform(0.5, 2, shape).astype(kind)
    codes = fp8(rng, 200, 300)
    stored = scales.view(np.uint8) if kind == "u8" else scales
    file = save(tmp_path / "m.safetensors", **{"q:weight": codes, "q:weight_scale_inv": stored})
    want = scaled(codes, scales, (block, block))
    same(open_checkpoint(file), "q.weight", want, "deepseek", f"{block}x{block}")


@pytest.mark.parametrize("dtype", ["float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_other_fp8_types_are_what_they_say(tmp_path, rng, dtype):
    codes, scale = fp8(rng, 5, 7, dtype=getattr(ml_dtypes, dtype)), np.array([[0.3]], F32)
    file = save(tmp_path / "m.safetensors", **{"q:weight": codes, "q:weight_scale_inv": scale})
    same(open_checkpoint(file), "q.weight", scaled(codes, scale, (5, 7)), "deepseek", "tensor")


@pytest.mark.parametrize(
    ("shape", "block", "granularity"),
    [((2, 3), (128, 128), "128x128"), ((200, 10), (1, 32), "1x32"), ((7, 10), (32, 32), "32x32")],
)
def test_deepseek_v4_calls_its_scales_scale(tmp_path, rng, shape, block, granularity):
    codes, scales = fp8(rng, 200, 300), powers(rng, *shape)
    file = save(tmp_path / "m.safetensors", **{"q:weight": codes, "q:scale": scales})
    same(open_checkpoint(file), "q.weight", scaled(codes, scales, block), "deepseek-v4", granularity)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_deepseek_v4_packs_fp4_experts_low_half_first(tmp_path, rng, dtype):
    packed, scales = rng.integers(0, 256, (6, 48)).astype(np.uint8), powers(rng, 6, 3)
    file = save(tmp_path / "m.safetensors", **{"w1:weight": packed.view(dtype), "w1:scale": scales})
    want = scaled(unpacked(packed), scales, (1, 32))
    same(open_checkpoint(file), "w1.weight", want, "deepseek-v4-fp4", "1x32")


def test_codes_of_type_f4_are_read_even_where_rows_begin_within_a_byte(tmp_path, rng):
    packed, scales = rng.integers(0, 256, 4 * 33 // 2).astype(np.uint8), powers(rng, 4, 2)
    values = unpacked(packed[None]).reshape(4, 33)
    tensors = {"w.weight": ("F4", packed), "w.scale": ("F8_E8M0", scales)}
    content = safetensors(tensors).replace(b'"shape": [66]', b'"shape": [4, 33]'.ljust(13))
    length = int.from_bytes(content[:8], "little")
    content = (length + 3).to_bytes(8, "little") + content[8:]
    (tmp_path / "m.safetensors").write_bytes(content)
    same(open_checkpoint(tmp_path), "w.weight", scaled(values, scales, (1, 32)), "deepseek-v4-fp4", "1x32")


@pytest.mark.parametrize(
    ("shape", "block", "granularity"),
    [
        ((), (200, 300), "tensor"), ((1,), (200, 300), "tensor"), ((200, 1), (1, 300), "row"),
        ((200,), (1, 300), "row"), ((2, 3), (128, 128), "128x128"), ((200, 5), (1, 64), "1x64"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_float_quantized_per_tensor_row_block_and_group(tmp_path, rng, shape, block, granularity, dtype):
    codes, scales = fp8(rng, 200, 300), rng.uniform(0.5, 2, shape).astype(dtype)
    file = save(
        tmp_path / "m.safetensors",
        **{"q:weight": codes, "q:weight_scale": np.asarray(scales), "q:input_scale": np.ones(1, F32)},
    )
    checkpoint = open_checkpoint(file)
    want = scaled(codes, np.asarray(scales, np.float64).reshape(shape + (1,) * (2 - len(shape))), block)
    assert checkpoint.names == ("q.weight",)
    same(checkpoint, "q.weight", want, "float-quantized", granularity)


def test_int_quantized_with_and_without_zero_points(tmp_path, rng):
    codes = rng.integers(-128, 128, (6, 40)).astype(np.int8)
    scales, zero = rng.uniform(0.5, 2, (6, 1)).astype(F32), rng.integers(-9, 9, (6, 1)).astype(np.int8)
    file = save(tmp_path / "a.safetensors", **{"q:weight": codes, "q:weight_scale": scales})
    same(open_checkpoint(file), "q.weight", scaled(codes, scales, (1, 40)), "int-quantized", "row")
    tensors = {"q:weight": codes, "q:weight_scale": scales, "q:weight_zero_point": zero}
    file = save(tmp_path / "b.safetensors", **tensors)
    want = scaled(codes.astype(np.float64) - zero, scales, (1, 40))
    same(open_checkpoint(file), "q.weight", want, "int-quantized", "row")


NVFP4 = [
    ("q:weight_packed", "q:weight_global_scale", "nvfp4-pack-quantized"),
    ("q:weight", "q:weight_scale_2", "nvfp4"),
]


@pytest.mark.parametrize(("codes", "above", "layout"), NVFP4)
def test_nvfp4_has_two_scales_of_which_compressed_tensors_divides_by_one(tmp_path, rng, codes, above, layout):
    packed, scales = rng.integers(0, 256, (5, 24)).astype(np.uint8), abs(fp8(rng, 5, 3))
    second = np.array([0.3], F32)
    file = save(tmp_path / "m.safetensors", **{codes: packed, "q:weight_scale": scales, above: second})
    one = scales.astype(np.float64)
    total = one / float(second[0]) if layout == NVFP4[0][2] else one * float(second[0])
    same(open_checkpoint(file), "q.weight", scaled(unpacked(packed), total, (1, 16)), layout, "1x16")


@pytest.mark.parametrize(
    ("codes", "layout"), [("q:weight_packed", "mxfp4-pack-quantized"), ("q:weight", "mxfp4")]
)
def test_mxfp4_has_e8m0_scales_in_bytes(tmp_path, rng, codes, layout):
    packed, scales = rng.integers(0, 256, (5, 48)).astype(np.uint8), powers(rng, 5, 3)
    file = save(tmp_path / "m.safetensors", **{codes: packed, "q:weight_scale": scales.view(np.uint8)})
    same(open_checkpoint(file), "q.weight", scaled(unpacked(packed), scales, (1, 32)), layout, "1x32")
    np.testing.assert_array_equal(open_checkpoint(file).read("q.weight_scale"), scales.astype(F32))


def test_mxfp8_has_e8m0_scales_in_bytes(tmp_path, rng):
    codes, scales = fp8(rng, 5, 96), powers(rng, 5, 3)
    file = save(tmp_path / "m.safetensors", **{"q:weight": codes, "q:weight_scale": scales.view(np.uint8)})
    same(open_checkpoint(file), "q.weight", scaled(codes, scales, (1, 32)), "mxfp8", "1x32")


@pytest.mark.parametrize("bits", [4, 8])
def test_integers_packed_in_words_need_the_configuration(tmp_path, rng, bits):
    values = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (6, 64))
    word = 32 // bits
    fields = (values + 2 ** (bits - 1)).reshape(6, -1, word).astype(np.uint32)
    packed = (fields << (np.arange(word, dtype=np.uint32) * bits)).sum(-1, dtype=np.uint32).view(np.int32)
    scales = rng.uniform(0.5, 2, (6, 2)).astype(F32)
    file = save(
        tmp_path / "model.safetensors",
        **{"q:weight_packed": packed, "q:weight_scale": scales, "q:weight_shape": np.array([6, 64])},
    )
    with pytest.raises(ValueError, match="num_bits of a quantization_config"):
        open_checkpoint(file).read("q.weight")
    weights = {"num_bits": bits, "type": "int", "group_size": 32, "strategy": "group"}
    config = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": config}))
    same(open_checkpoint(file), "q.weight", scaled(values, scales, (1, 32)), "pack-quantized", "1x32")


def test_gpt_oss_holds_blocks_of_bytes_along_a_last_axis(tmp_path, rng):
    blocks, scales = rng.integers(0, 256, (3, 4, 2, 16)).astype(np.uint8), powers(rng, 3, 4, 2)
    name = "experts:gate_up_proj"
    file = save(
        tmp_path / "m.safetensors", **{f"{name}_blocks": blocks, f"{name}_scales": scales.view(np.uint8)}
    )
    checkpoint = open_checkpoint(file)
    assert checkpoint.names == ("experts.gate_up_proj",)
    want = scaled(unpacked(blocks.reshape(3, 4, 32)), scales, (1, 32))
    same(checkpoint, "experts.gate_up_proj", want, "gpt-oss", "1x32")


@pytest.mark.parametrize(
    ("shape", "block", "granularity"),
    [
        ((3, 2, 3), (128, 128), "128x128"), ((3,), (200, 300), "matrix"), ((3, 1, 1), (200, 300), "matrix"),
        ((3, 200, 1), (1, 300), "row"), ((3, 200), (1, 300), "row"), ((3, 1, 300), (200, 1), "200x1"),
    ],
)  # fmt: skip
def test_experts_in_three_axes_have_scales_of_three(tmp_path, rng, shape, block, granularity):
    codes, scales = fp8(rng, 3, 200, 300), rng.uniform(0.5, 2, shape).astype(F32)
    file = save(tmp_path / "m.safetensors", **{"experts:up_proj": codes, "experts:up_proj_scale_inv": scales})
    want = scaled(codes, scales.reshape(shape + (1,) * (3 - len(shape))), block)
    same(open_checkpoint(file), "experts.up_proj", want, "deepseek", granularity)


def test_experts_of_nvfp4_have_one_upper_scale_each(tmp_path, rng):
    packed, scales = rng.integers(0, 256, (3, 4, 16)).astype(np.uint8), abs(fp8(rng, 3, 4, 2))
    second = rng.uniform(0.1, 1, 3).astype(F32)
    file = save(
        tmp_path / "m.safetensors",
        **{"e:up": packed, "e:up_weight_scale": scales, "e:up_weight_scale_2": second},
    )
    total = scales.astype(np.float64) * second.astype(np.float64)[:, None, None]
    same(open_checkpoint(file), "e.up", scaled(unpacked(packed), total, (1, 16)), "nvfp4", "1x16")


def test_single_files_of_diffusion_tools_call_it_scale_weight(tmp_path, rng):
    codes, scale = fp8(rng, 6, 8), np.array([0.3], F32)
    mark = np.zeros(2, ml_dtypes.float8_e4m3fn)
    file = save(
        tmp_path / "m.safetensors",
        **{"q:weight": codes, "q:scale_weight": scale, "q:scale_input": scale, "scaled_fp8": mark},
    )
    checkpoint = open_checkpoint(file)
    assert checkpoint.names == ("q.weight",)
    same(checkpoint, "q.weight", scaled(codes, scale[:, None], (6, 8)), "scaled-fp8", "tensor")


def remark(**what):
    return np.frombuffer(json.dumps(what).encode(), np.uint8)


def swizzled(scales):
    """Lay scales out as cuBLAS reads them: tiles of 128x4, in each of which row r is at (r % 32, r // 32)."""
    rows, columns = -(-scales.shape[0] // 128) * 128, -(-scales.shape[1] // 4) * 4
    out = np.zeros(rows * columns, scales.dtype)
    for (r, c), value in np.ndenumerate(scales):
        tile = (r // 128) * (columns // 4) + c // 4
        out[512 * tile + 16 * (r % 32) + 4 * (r % 128 // 32) + c % 4] = value
    return out.reshape(rows, columns)


def test_comfyuis_nvfp4_has_the_high_half_first_and_swizzled_scales(tmp_path, rng):
    packed, scales = rng.integers(0, 256, (144, 48)).astype(np.uint8), abs(fp8(rng, 144, 6))
    tensors = {
        "q:weight": packed,
        "q:weight_scale": swizzled(scales),
        "q:weight_scale_2": np.array(0.25, F32),
    }
    file = save(tmp_path / "m.safetensors", **tensors, **{"q:comfy_quant": remark(format="nvfp4")})
    want = scaled(unpacked(packed, high_first=True), scales.astype(np.float64) * 0.25, (1, 16))
    same(open_checkpoint(file), "q.weight", want, "comfy-nvfp4", "1x16")
    file = save(
        tmp_path / "m.safetensors", **tensors, **{"q:comfy_quant": remark(format="nvfp4", convrot=True)}
    )
    with pytest.raises(ValueError, match=r"q\.comfy_quant says .*convrot"):
        open_checkpoint(file).read("q.weight")


def test_comfyuis_remark_may_stand_in_the_header(tmp_path, rng):
    packed, scales = rng.integers(0, 256, (144, 48)).astype(np.uint8), abs(fp8(rng, 144, 6))
    tensors = {
        "q:weight": packed,
        "q:weight_scale": swizzled(scales),
        "q:weight_scale_2": np.array(0.25, F32),
    }
    file = save(tmp_path / "m.safetensors", **tensors)
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    layers = json.dumps({"format_version": "1.0", "layers": {"q": {"format": "nvfp4"}}})
    header = {**json.loads(content[8 : 8 + length]), "__metadata__": {"_quantization_metadata": layers}}
    file.write_bytes(with_header(json.dumps(header), content[8 + length :]))
    want = scaled(unpacked(packed, high_first=True), scales.astype(np.float64) * 0.25, (1, 16))
    same(open_checkpoint(file), "q.weight", want, "comfy-nvfp4", "1x16")


def test_comfyuis_mxfp8_has_swizzled_scales(tmp_path, rng):
    codes, scales = fp8(rng, 130, 96), powers(rng, 130, 3)
    file = save(
        tmp_path / "m.safetensors",
        **{"q:weight": codes, "q:weight_scale": swizzled(scales), "q:comfy_quant": remark(format="mxfp8")},
    )
    same(open_checkpoint(file), "q.weight", scaled(codes, scales, (1, 32)), "comfy-mxfp8", "1x32")


def test_quanto_keeps_data_and_scale_below_the_weight(tmp_path, rng):
    codes, scales = rng.integers(-127, 128, (6, 8)).astype(np.int8), rng.uniform(0.5, 2, (6, 1)).astype(F32)
    file = save(tmp_path / "m.safetensors", **{"q:weight:_data": codes, "q:weight:_scale": scales})
    checkpoint = open_checkpoint(file)
    assert checkpoint.names == ("q.weight",)
    same(checkpoint, "q.weight", scaled(codes, scales, (1, 8)), "quanto", "row")


def test_scales_are_found_in_another_shard(tmp_path, rng):
    codes, scales = fp8(rng, 128, 256), rng.uniform(0.5, 2, (1, 2)).astype(F32)
    first = save(tmp_path / "model-00001-of-00002.safetensors", **{"a:weight": codes})
    save(tmp_path / "model-00002-of-00002.safetensors", **{"a:weight_scale_inv": scales})
    for source in (first, tmp_path):
        want = scaled(codes, scales, (128, 128))
        same(open_checkpoint(source), "a.weight", want, "deepseek", "128x128")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"1 of its shards are missing or damaged, model-00002-of-00002\.safetensors"
    ):
        open_checkpoint(first).read("a.weight")


def test_a_product_of_two_scales_is_rounded_once(tmp_path):
    # 1.5 x 1.125 x 0.1 in float32, one product after the other, is another number
    packed, scales = np.full((1, 8), 0x33, np.uint8), np.full((1, 1), 1.125).astype(ml_dtypes.float8_e4m3fn)
    differs = 0
    for second in np.linspace(0.1, 0.2, 50, dtype=F32):
        file = save(
            tmp_path / "m.safetensors",
            **{"q:weight": packed, "q:weight_scale": scales, "q:weight_scale_2": np.array([second])},
        )
        want = F32(1.5 * 1.125 * float(second))
        assert open_checkpoint(file).read("q.weight")[0, 0] == want
        differs += F32(F32(1.125) * second) * F32(1.5) != want
    assert differs


def test_nan_and_infinite_scales_are_passed_on(tmp_path):
    codes = np.ones((2, 3), ml_dtypes.float8_e4m3fn)
    scales = np.array([[np.nan], [np.inf]], F32)
    file = save(tmp_path / "m.safetensors", **{"q:weight": codes, "q:weight_scale": scales})
    np.testing.assert_array_equal(open_checkpoint(file).read("q.weight"), np.broadcast_to(scales, (2, 3)))


# --- files of public tools --------------------------------------------------------------------------------------

RECORDED = Path(__file__).parent / "data" / "checkpoints"
ABOUT = json.loads((RECORDED / "about.json").read_text(encoding="utf-8"))
LAYOUT_OF = {
    "compressed-tensors-FP8": "float-quantized", "compressed-tensors-FP8_DYNAMIC": "float-quantized",
    "compressed-tensors-FP8_BLOCK": "float-quantized", "compressed-tensors-NVFP4A16": "nvfp4-pack-quantized",
    "compressed-tensors-MXFP4A16": "mxfp4-pack-quantized", "compressed-tensors-MXFP6A16": "mxfp6-pack-quantized",
    "compressed-tensors-MXFP8A16": "mxfp8", "compressed-tensors-W8A8": "int-quantized",
    "compressed-tensors-W4A16": "pack-quantized", "compressed-tensors-W8A16": "pack-quantized",
    "comfy-nvfp4": "comfy-nvfp4", "comfy-mxfp8": "comfy-mxfp8", "quanto-qfloat8": "quanto",
    "quanto-qint8": "quanto", "transformers-fp8-float": "deepseek", "transformers-fp8-ue8m0": "deepseek",
    "gpt-oss": "gpt-oss",
}  # fmt: skip


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("name", LAYOUT_OF)
def test_files_of_public_tools_are_read_as_float64_says(tmp_path, name, configured):
    with np.load(RECORDED / "values.npz") as values:
        want = values[name]
    shutil.copy(RECORDED / f"{name}.safetensors", tmp_path)
    if configured:
        (tmp_path / "config.json").write_text(json.dumps(ABOUT["configs"][name]))
    checkpoint = open_checkpoint(tmp_path)
    if not configured and LAYOUT_OF[name] == "pack-quantized":
        with pytest.raises(ValueError, match="num_bits"):
            checkpoint.read("layers.0.q_proj.weight")
        return
    weight = next(one for one in checkpoint if len(one.shape) > 1)
    assert weight.layout == LAYOUT_OF[name]
    assert all(one.layout == "plain" for one in checkpoint if one.name != weight.name)
    np.testing.assert_array_equal(checkpoint.read(weight.name), want)
    np.testing.assert_array_equal(checkpoint.read(weight.name, (1, 2)), want[1:2])


def test_every_recorded_file_is_compared():
    assert {path.stem for path in RECORDED.glob("*.safetensors")} == set(LAYOUT_OF) == set(ABOUT["configs"])


# --- the rule: codes without scales are no values -------------------------------------------------------------

U8, I8, ONES = np.zeros((4, 8), np.uint8), np.zeros((4, 8), np.int8), np.ones((4, 8), ml_dtypes.float8_e4m3fn)
S = np.ones((3, 7), F32)
REFUSED = {
    "FP8 alone": ({"q:weight": ONES}, "its scales were not found; nothing is beside it"),
    "FP8 of one axis": ({"q:bias": ONES[0]}, "its scales were not found"),
    "an unknown name": ({"q:weight": ONES, "q:weight_multiplier": S}, r"beside it: q\.weight_multiplier"),
    "a scale that does not fit": ({"q:weight": ONES, "q:weight_scale": S}, r"q\.weight_scale has shape \(3, 7\)"),
    "a column scale": ({"q:weight": ONES, "q:weight_scale": np.ones(8, F32)}, r"has shape \(8,\)"),
    "blocks that do not fit": ({"q:weight": ONES, "q:weight_scale_inv": S}, r"q\.weight_scale_inv has shape"),
    "bytes alone": ({"q:weight": U8}, "its scales were not found"),
    "signed bytes alone": ({"w": I8}, "its scales were not found"),
    "half of NVFP4": (
        {"q:weight": U8, "q:weight_scale": np.ones((4, 1), ml_dtypes.float8_e4m3fn)},
        r"its scales were not found; beside it: q\.weight_scale",
    ),
    "GPTQ": (
        {"q:qweight": np.zeros((4, 8), np.int32), "q:scales": S, "q:qzeros": np.zeros((1, 1), np.int32)},
        r"q\.qweight .*beside it: q\.qzeros, q\.scales",
    ),
    "MLX": ({"q:weight": np.zeros((4, 8), np.uint32), "q:scales": S, "q:biases": S}, r"q\.biases, q\.scales"),
    "bitsandbytes": (
        {"q:weight": np.zeros((16, 1), np.uint8), "q:weight:absmax": np.ones(1, F32)},
        r"beside it: q\.weight\.absmax",
    ),
    "LLM.int8": ({"q:weight": I8, "q:SCB": np.ones(4, F32)}, r"beside it: q\.SCB"),
    "packed": ({"q:weight_packed": np.zeros((4, 1), np.int32), "q:weight_scale": S}, "num_bits"),
    "zero points of FP4": (
        {
            "q:weight_packed": np.zeros((4, 16), np.uint8), "q:weight_scale": np.ones((4, 1), np.uint8),
            "q:weight_zero_point": np.zeros((4, 1), np.int8),
        },
        r"q\.weight_zero_point is not read",
    ),
    "columns in another order": (
        {"q:weight": I8, "q:weight_scale": np.ones((4, 1), F32), "q:weight_g_idx": np.zeros(8, np.int32)},
        r"q\.weight_g_idx is not read",
    ),
    "packed zero points": (
        {"q:weight": I8, "q:weight_scale": np.ones((4, 1), F32), "q:weight_zero_point": np.zeros((1, 1), np.int32)},
        r"q\.weight_zero_point is not read",
    ),
    "blocks alone": ({"e:up_blocks": np.zeros((2, 4, 2, 16), np.uint8)}, "its scales were not found"),
    "two upper scales": (
        {
            "q:weight": U8, "q:weight_scale": np.ones((4, 1), ml_dtypes.float8_e4m3fn),
            "q:weight_scale_2": np.ones(2, F32),
        },
        r"q\.weight_scale_2 has shape \(2,\), not one number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_codes_without_fitting_scales_are_refused_with_the_names_seen(tmp_path, case):
    tensors, words = REFUSED[case]
    file = save(tmp_path / "m.safetensors", **tensors)
    checkpoint = open_checkpoint(file)
    stored, codes = next(iter(tensors.items()))
    name = stored.replace(":", ".")
    with pytest.raises(ValueError, match=words) as refused:
        checkpoint.read(name)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith("raw=True gives what is stored")
    assert checkpoint[name].refused == str(refused.value)
    raw = checkpoint.read(name, raw=True)
    assert raw.dtype == codes.dtype
    assert raw.tobytes() == codes.tobytes()


def test_integers_that_are_no_codes_are_read(tmp_path):
    tensors = {
        "embeddings:position_ids": np.arange(6).reshape(1, 6), "bn:num_batches_tracked": np.array(3),
        "mask": np.eye(2, dtype=bool), "small": np.arange(3, dtype=np.uint8),
    }  # fmt: skip
    checkpoint = open_checkpoint(save(tmp_path / "m.safetensors", **tensors))
    for name, want in tensors.items():
        read = checkpoint.read(name.replace(":", "."))
        np.testing.assert_array_equal(read, want)
        assert read.dtype == (np.float64 if want.dtype == np.int64 else F32)


# --- what a configuration decides -----------------------------------------------------------------------------


def configured(folder, config, **tensors):
    (folder / "config.json").write_text(json.dumps(config))
    save(folder / "model.safetensors", **tensors)
    return open_checkpoint(folder)


def test_blocks_of_the_configuration_are_the_ones(tmp_path, rng):
    codes, scales = fp8(rng, 96, 96), rng.uniform(0.5, 2, (2, 2)).astype(F32)
    tensors = {"q:weight": codes, "q:weight_scale_inv": scales}
    block = {"quant_method": "fp8", "weight_block_size": [48, 48]}
    checkpoint = configured(tmp_path, {"quantization_config": block}, **tensors)
    same(checkpoint, "q.weight", scaled(codes, scales, (48, 48)), "deepseek", "48x48")
    block = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    checkpoint = configured(tmp_path, {"text_config": {"quantization_config": block}}, **tensors)
    with pytest.raises(ValueError, match=r"shape \(2, 2\), not scales per tensor, row, 128x128"):
        checkpoint.read("q.weight")


def test_scales_that_fit_two_blocks_of_the_configuration_are_refused(tmp_path):
    groups = {f"group_{n}": {"weights": {"num_bits": 8, "type": "float", "group_size": n}} for n in (48, 64)}
    config = {"quant_method": "compressed-tensors", "config_groups": groups}
    tensors = {"q:weight": np.ones((4, 96), ml_dtypes.float8_e4m3fn), "q:weight_scale": np.ones((4, 2), F32)}
    checkpoint = configured(tmp_path, {"quantization_config": config}, **tensors)
    with pytest.raises(
        ValueError, match=r"shape \(4, 2\), not scales per tensor, row, 1x48, 1x64 of \(4, 96\)"
    ):
        checkpoint.read("q.weight")


def test_a_method_that_is_not_read_is_named(tmp_path):
    checkpoint = configured(tmp_path, {"quantization_config": {"quant_method": "gptq"}}, **{"q:qweight": I8})
    with pytest.raises(ValueError, match="says quant_method 'gptq', which is not read"):
        checkpoint.read("q.qweight")


def test_codes_that_the_configuration_contradicts_are_refused(tmp_path):
    weights = {"num_bits": 8, "type": "float", "strategy": "channel"}
    config = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}
    tensors = {"q:weight": I8, "q:weight_scale": np.ones((4, 1), F32)}
    checkpoint = configured(tmp_path, {"quantization_config": config}, **tensors)
    with pytest.raises(ValueError, match="stored as int8, and its configuration says 8-bit float"):
        checkpoint.read("q.weight")


def test_modelopts_own_file_is_read(tmp_path):
    (tmp_path / "hf_quant_config.json").write_text(
        '{"quantization": {"quant_algo": "FP8", "exclude_modules": []}}'
    )
    save(tmp_path / "m.safetensors", **{"q:weight": ONES, "q:weight_scale": np.array(0.5, F32)})
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config.method == "modelopt"
    assert checkpoint.read("q.weight")[0, 0] == 0.5


BAD_CONFIGS = {
    "not JSON": ("{", "is no readable JSON"),
    "a list": ("[]", "is no JSON object"),
    "a BOM": ("\ufeff{}", "byte order mark"),
    "a text": ('{"quantization_config": "fp8"}', "quantization_config must be an object"),
    "a number for a method": ('{"quantization_config": {"quant_method": 3}}', "quant_method must be text"),
    "three sides": (
        '{"quantization_config": {"weight_block_size": [1, 2, 3]}}',
        "two positive whole numbers",
    ),
    "no block": ('{"quantization_config": {"weight_block_size": [0, -1]}}', "two positive whole numbers"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_damaged_configuration_is_named(tmp_path, case):
    text, words = BAD_CONFIGS[case]
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    save(tmp_path / "model.safetensors", w=np.ones(1, F32))
    with pytest.raises(ValueError, match=rf"config\.json.*{words}"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("columns", [32, 64])
def test_mxfp4_of_few_columns_is_not_taken_for_mxfp6(tmp_path, rng, columns):
    packed, scales = rng.integers(0, 256, (5, columns // 2)).astype(np.uint8), powers(rng, 5, columns // 32)
    file = save(tmp_path / "m.safetensors", **{"q:weight_packed": packed, "q:weight_scale": scales})
    granularity = "row" if columns == 32 else "1x32"
    want = scaled(unpacked(packed), scales, (1, 32))
    same(open_checkpoint(file), "q.weight", want, "mxfp4-pack-quantized", granularity)
