"""Planted faults in checkpoints, one each, are found; in clean ones nothing is."""

from __future__ import annotations

import itertools
import json
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fp8sim
from fp8sim.checkpoints import Coded, open_checkpoint
from fp8sim.experiments.audit.across import find_across
from fp8sim.experiments.audit.findings import FINDINGS, Evidence, evidence, find
from fp8sim.experiments.audit.grids import GRIDS, Kind, on_grid, surviving
from tensor_files import fp8, powers, safetensors, save

F32, BF16, F16 = np.float32, ml_dtypes.bfloat16, np.float16
E4M3, E5M2, E8M0 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e8m0fnu


def weights(seed=0, *shape):
    return (np.random.default_rng(seed).standard_normal(shape or (128, 256)) * 0.02).astype(F32)


def judged(checkpoint, cut=None):
    """Return all findings of a checkpoint, each tensor cut into ranges of so many lines."""
    seen, found = {}, []
    for tensor in checkpoint:
        if not tensor.refused:
            lines = math.prod(tensor.shape[:-1])
            values = checkpoint.read(tensor.name).reshape(lines, -1)
            seen[tensor.name] = Evidence()
            for start in range(0, lines, cut or lines):
                rows = start, min(start + (cut or lines), lines)
                part = evidence(checkpoint.take_apart(tensor.name, rows), values[slice(*rows)])
                seen[tensor.name] = seen[tensor.name].merge(
                    Evidence.from_dict(json.loads(json.dumps(part.to_dict())))
                )
        found += find(tensor.name, tensor, seen.get(tensor.name))
    return seen, [*found, *find_across(checkpoint, seen)]


def quantized(w, fmt, granularity, scale_format="fp32", **options):
    """Return the codes and scales of a weight as arrays of their types."""
    q = fp8sim.quantize(w, fmt, granularity, scale_format=scale_format, **options)
    scales = q.scale_codes if scale_format == "e8m0" else q.scales
    return q.codes, scales


def packed(codes):
    halves = np.asarray(codes).view(np.uint8)
    return halves[:, ::2] | halves[:, 1::2] << 4


def fp8_row(w=None, dtype=E4M3, largest=448.0):
    """Return codes by rows and their scales, as another tool makes them."""
    w = weights() if w is None else w
    scales = (np.abs(w).max(axis=1, keepdims=True) / F32(largest)).astype(F32)
    return (w / np.where(scales > 0, scales, 1)).astype(dtype), scales


def deepseek(codes, scales):
    return {"q:weight": codes, "q:weight_scale_inv": scales}


def per_row(codes, scales):
    return {"q:weight": codes, "q:weight_scale": scales}


def changed(x, at, value):
    x = x.copy()
    x[at] = value
    return x


def blocks(w=None, scale_format="fp32"):
    return quantized(weights(1, 256, 256) if w is None else w, "e4m3", "128x128", scale_format)


def bf16(x):
    return fp8sim.round_to(x, "bf16").astype(BF16)


def dequantized(fmt, granularity, scale_format="fp32", shape=(128, 256)):
    return fp8sim.quantize(weights(2, *shape), fmt, granularity, scale_format=scale_format).dequantize()


def int4_groups():
    w = weights(3).reshape(-1, 128)
    scales = (np.abs(w).max(axis=1, keepdims=True) / 7).astype(F32)
    return (np.clip(np.rint(w / scales), -8, 7) * scales).astype(F32).reshape(128, 256)


def nvfp4():
    q = fp8sim.quantize(weights(4), "e2m1", "1x16", scale_format="e4m3")
    return {
        "q:weight": packed(q.codes),
        "q:weight_scale": np.asarray(q.scale_codes).astype(E4M3),
        "q:weight_scale_2": np.asarray(q.tensor_scale, F32),
    }


def mxfp4(w=None):
    codes, scales = quantized(weights(5) if w is None else w, "e2m1", "1x32", "e8m0")
    return {"q:weight_packed": packed(codes), "q:weight_scale": scales}


def mislabelled(dtype, largest, as_dtype, **fields):
    codes, scales = fp8_row(weights(6), dtype, largest)
    return per_row(codes.view(as_dtype), scales)


CONFIG_4 = {
    "quant_method": "compressed-tensors",
    "config_groups": {"a": {"weights": {"type": "float", "num_bits": 4, "group_size": 32}}},
}

row_codes, row_scales = fp8_row()
block_codes, block_scales = blocks()

#: what is planted -> (kind that must be found, tensors, configuration)
PLANTED = {
    "no scales at all": ("missing-scales", {"q:weight": row_codes}),
    "scales of another name": ("missing-scales", {"q:weight": row_codes, "q:scaling": row_scales}),
    "scales of another shape": ("unreadable", per_row(row_codes, row_scales[:77])),
    "a zero scale of a row": ("zero-scales", per_row(row_codes, changed(row_scales, 5, 0))),
    "a zero scale of a block": ("zero-scales", deepseek(block_codes, changed(block_scales, (1, 0), 0))),
    "all scales of NVFP4 underflown": ("zero-scales", {**nvfp4(), "q:weight_scale_2": np.zeros((), F32)}),
    "a NaN scale": ("nan-scales", per_row(row_codes, changed(row_scales, 9, np.nan))),
    "a NaN E8M0 scale": ("nan-scales", {**mxfp4(), "q:weight_scale": changed(mxfp4()["q:weight_scale"].view(np.uint8), (0, 0), 255).view(E8M0)}),
    "an infinite FP16 scale": ("infinite-scales", deepseek(block_codes, changed(block_scales, (0, 1), np.inf).astype(F16))),
    "a negative scale": ("negative-scales", deepseek(block_codes, changed(block_scales, (0, 1), -1e-4))),
    "one scale of exactly 1": ("uncalibrated-scales", {"q:weight": fp8(np.random.default_rng(0), 64, 64), "q:weight_scale": np.ones((), F32)}),
    "scales of exactly 1 by blocks": ("uncalibrated-scales", deepseek(block_codes, np.ones_like(block_scales))),
    "dead rows in BF16": ("dead-rows", {"q:weight": bf16(changed(weights(), slice(7, 9), 0))}),
    "a dead row under FP8": ("dead-rows", per_row(changed(row_codes, 3, 0), row_scales)),
    "a tensor of zeros": ("dead-rows", {"q:weight": np.zeros((16, 32), F32)}),
    "a NaN in BF16": ("not-finite", {"q:weight": bf16(changed(weights(), (100, 17), np.nan))}),
    "an infinity in FP16": ("not-finite", {"q:weight": changed(weights().astype(F16), (0, 0), np.inf)}),
    "a NaN code": ("not-finite", per_row(changed(row_codes, (3, 3), np.nan), row_scales)),
    "E4M3 by tensor in BF16": ("coarser-grid", {"q:weight": bf16(dequantized("e4m3", "tensor"))}),
    "E4M3 by rows in FP32": ("coarser-grid", {"q:weight": dequantized("e4m3", "row")}),
    "E4M3 by 128x128 in BF16": ("coarser-grid", {"q:weight": bf16(dequantized("e4m3", "128x128", shape=(256, 256)))}),
    "E5M2 by rows in FP16": ("coarser-grid", {"q:weight": dequantized("e5m2", "row").astype(F16)}),
    "MXFP4 in BF16": ("coarser-grid", {"q:weight": bf16(dequantized("e2m1", "1x32", "e8m0"))}),
    "NVFP4 in BF16": ("coarser-grid", {"q:weight": bf16(dequantized("e2m1", "1x16", "e4m3"))}),
    "INT8 by rows in BF16": ("coarser-grid", {"q:weight": bf16(dequantized("int8", "row"))}),
    "INT4 by 128 in BF16": ("coarser-grid", {"q:weight": bf16(int4_groups())}),
    "BF16 in FP32": ("wider-than-needed", {"q:weight": bf16(weights()).astype(F32)}),
    "FP16 in FP32": ("wider-than-needed", {"q:weight": weights().astype(F16).astype(F32)}),
    "FP4 codes in E4M3": ("coarser-grid", deepseek(np.random.default_rng(7).choice(np.float32([0, 0.5, 1, 1.5, 2, 3, 4, 6]), (128, 128)).astype(E4M3), np.float32([[0.01]]))),
    "FNUZ codes called E4M3": ("fnuz-as-ocp", mislabelled(ml_dtypes.float8_e4m3fnuz, 240, E4M3)),
    "FNUZ codes called E5M2": ("fnuz-as-ocp", mislabelled(ml_dtypes.float8_e5m2fnuz, 57344, E5M2)),
    "OCP codes called FNUZ": ("ocp-as-fnuz", per_row(changed(row_codes, (0, 1), -0.0).view(ml_dtypes.float8_e4m3fnuz), row_scales)),
    "scales ten times too small": ("saturated", per_row(np.clip(weights() / (row_scales / 10), -448, 448).astype(E4M3), row_scales / 10)),
    "a tensor twice": ("duplicated", {"head:weight": bf16(weights()), "embedding:weight": bf16(weights())}),
    "half of it left in BF16": ("headline-bits", {**mxfp4(), "big:weight": bf16(weights(9))}, CONFIG_4),
}  # fmt: skip


def written(folder, tensors, config=None):
    save(folder / "model.safetensors", **tensors)
    if config:
        (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
    return open_checkpoint(folder)


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_is_found_and_no_other(tmp_path, planted):
    kind, *content = PLANTED[planted]
    seen, found = judged(written(tmp_path, *content))
    assert [one.kind for one in found] == [kind]
    assert judged(open_checkpoint(tmp_path), cut=50) == (seen, found)
    assert all(one.text and one.advice for one in found)


def test_a_shard_that_is_there_twice_is_found(tmp_path):
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for file, layer in zip(names, "ab", strict=True):
        save(
            tmp_path / file, **{f"{layer}:q:weight": bf16(weights(1)), f"{layer}:k:weight": bf16(weights(2))}
        )
    (finding,) = judged(open_checkpoint(tmp_path))[1]
    assert (finding.kind, finding.tensor) == ("duplicated-shard", names[1])
    (tmp_path / names[1]).write_bytes((tmp_path / names[0]).read_bytes())
    with pytest.raises(ValueError, match="is in model-00001-of-00002"):
        open_checkpoint(tmp_path)


#: a clean checkpoint of each layout
CLEAN = {
    "BF16": {"q:weight": bf16(weights(10)), "q:bias": bf16(np.zeros(128, F32)), "norm:weight": bf16(np.ones(256, F32))},
    "FP32": {"q:weight": weights(11), "k:weight": weights(12), "position": np.eye(64, dtype=F32)},
    "FP16": {"q:weight": weights(13).astype(F16), "mask": np.tril(np.ones((64, 64))).astype(F16)},
    "deepseek": deepseek(*blocks()),
    "deepseek E8M0": deepseek(*blocks(scale_format="e8m0")),
    "deepseek-v4 FP4 experts": {"w1:weight": packed(quantized(weights(14), "e2m1", "1x32", "e8m0")[0]), "w1:scale": quantized(weights(14), "e2m1", "1x32", "e8m0")[1]},
    "FP8 by tensor": per_row(*(np.asarray(x).reshape(x.shape if x.size > 1 else ()) for x in quantized(weights(15), "e4m3", "tensor"))),
    "FP8 by rows, with rows of zeros that have no scale": per_row(*fp8_row(weights(16))),
    "E5M2 by rows": per_row(*fp8_row(weights(17), E5M2, 57344.0)),
    "FNUZ by rows": per_row(*fp8_row(weights(18), ml_dtypes.float8_e4m3fnuz, 240.0)),
    "INT8 by rows": per_row(*quantized(weights(19), "int8", "row")),
    "MXFP8": per_row(*quantized(weights(20), "e4m3", "1x32", "e8m0")),
    "MXFP4": mxfp4(),
    "NVFP4": nvfp4(),
    "experts in 3-D": {"experts:w": bf16(weights(21, 4, 32, 64)), "experts:w2": weights(22, 2, 8, 512)},
}  # fmt: skip


@pytest.mark.parametrize("layout", CLEAN)
def test_nothing_is_found_in_a_clean_checkpoint(tmp_path, layout):
    checkpoint = written(tmp_path, CLEAN[layout])
    assert [tensor.name for tensor in checkpoint if tensor.refused] == []
    assert judged(checkpoint)[1] == []


@pytest.mark.parametrize("planted", ["a zero scale of a block", "a tensor of zeros"])
def test_evidence_is_the_same_for_lines_one_by_one(tmp_path, planted):
    checkpoint = written(tmp_path, PLANTED[planted][1])
    assert judged(checkpoint, cut=1) == judged(checkpoint)


@given(st.data())
def test_evidence_of_any_cuts_in_any_order_is_the_same(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    fmt = data.draw(st.sampled_from(["bf16", "fp16", "fp32"]))
    lines, columns = data.draw(st.integers(1, 7)), data.draw(st.sampled_from([1, 16, 40]))
    levels = data.draw(
        st.sampled_from([[0, 1], [0, 1, 1.5, -2, 3], np.arange(-8, 8), rng.standard_normal(300)])
    )
    x = rng.choice(np.asarray(levels, np.float64), (lines, columns)) * rng.choice([1, 0.1, 0.0], (lines, 1))
    x = fp8sim.round_to(x.astype(F32), fmt)
    whole = evidence(Coded(fmt, 0, lines), x)
    bounds = sorted({0, lines, *data.draw(st.lists(st.integers(0, lines), max_size=3))})
    parts = [evidence(Coded(fmt, i, j), x[i:j]) for i, j in itertools.pairwise(bounds)]
    merged = Evidence()
    for part in data.draw(st.permutations(parts)):
        merged = merged.merge(part)
    assert merged == whole


# --- the exact test of grids ------------------------------------------------------------------------------


def has_scale(values, codes, slack):
    """Whether one scale gives all values in BF16: all that could are tried, between the bounds of each."""
    step = np.ones(len(values), np.int16)
    near = [(values.astype(BF16).view(np.int16) + k * step).view(BF16).astype(np.float64) for k in (-1, 1)]
    low, high = ((values + one) / 2 * (1 + sign * slack) for one, sign in zip(near, (-1, 1), strict=True))
    bounds = np.unique([edge / code for edge in (*low, *high) for code in codes])
    scales = (bounds[1:] + bounds[:-1]) / 2
    made = scales[:, None, None] * codes
    return bool(((low[:, None] < made) & (made < high[:, None])).any(axis=2).all(axis=1).any())


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)
@pytest.mark.parametrize("out", ["fp32", "bf16", "fp16"])
def test_values_made_of_codes_by_any_scale_are_on_the_grid(grid, out, rng):
    for size in (16, 40, 300):
        codes = rng.choice(grid.values[grid.values > grid.largest / 2000], (20, size))
        scales = np.exp(rng.uniform(-3, 1, (20, 1))).astype(F32) / F32(grid.largest)
        values = fp8sim.round_to(codes.astype(F32) * scales, out)
        assert on_grid(values, grid, Kind(grid.name, out))


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)
def test_one_value_moved_to_its_neighbour_is_on_no_grid(grid, rng):
    codes = rng.choice(grid.values[-12:], (1, 300))
    values = codes.astype(F32) * F32(0.0317)
    assert on_grid(values, grid, Kind(grid.name, "fp32"))
    values[0, 17] = np.nextafter(values[0, 17], F32(9e9), dtype=F32)
    assert not on_grid(values, grid, Kind(grid.name, "fp32"))


@pytest.mark.parametrize("grid", GRIDS[:2], ids=lambda grid: grid.name)
def test_the_grid_test_agrees_with_trying_all_scales(grid, rng):
    seen = []
    for trial in range(300):
        codes = rng.choice(grid.values, 6)
        values = fp8sim.round_to(codes.astype(F32) * F32(rng.uniform(0.5, 2)), "bf16")
        if trial % 2:
            values[0] = fp8sim.round_to(values[0] * F32(1 + 2.0**-7), "bf16")
        answer = on_grid(values[None], grid, Kind(grid.name, "bf16"))
        # code * scale rounded to FP32 first may move a bound by 2^-24
        assert has_scale(values, grid.values, 0) <= answer <= has_scale(values, grid.values, 2.0**-22)
        seen.append(answer)
    assert 150 <= sum(seen) < 280


@pytest.mark.parametrize("fmt", ["bf16", "fp16", "fp32"])
def test_random_weights_are_on_no_grid_however_small_the_groups(fmt):
    for seed in range(30):
        x = fp8sim.round_to(weights(seed, 8, 512), fmt)
        assert surviving(x, fmt) == {}


def test_few_and_sparse_values_are_no_evidence(tmp_path):
    sparse = np.where(np.random.default_rng(0).random((256, 512)) < 0.02, weights(1, 256, 512), 0).astype(F32)
    levels = np.random.default_rng(1).choice(weights(4, 12), (64, 128))
    signs = np.sign(weights(2)) * F32(0.37)
    tensors = {
        "sparse": bf16(sparse),
        "signs": bf16(signs),
        "levels": bf16(levels),
        "few": bf16(weights(3, 2, 8)),
    }
    assert judged(written(tmp_path, tensors))[1] == []


def test_what_cannot_be_read_is_found_without_evidence(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(safetensors({"q.weight": ("F8_E4M3", row_codes)}))
    checkpoint = open_checkpoint(tmp_path)
    (finding,) = find("q.weight", checkpoint["q.weight"])
    assert finding.kind == "missing-scales"
    assert str(finding).startswith("q.weight: ")


def test_kinds_are_named_once_and_lines_must_be_those_of_the_codes():
    assert len({row.kind for row in FINDINGS}) == len(FINDINGS)
    with pytest.raises(ValueError, match="2 lines of values are not the lines 0 to 3"):
        evidence(Coded("fp32", 0, 3), np.ones((2, 4), F32))


def test_codes_and_scales_of_any_lines_multiply_to_the_values(tmp_path, rng):
    w = weights(30, 3, 200, 192)
    codes = fp8(rng, 3, 200, 192)
    scales = rng.uniform(0.5, 2, (3, 2, 2)).astype(F32)
    one = rng.uniform(0.5, 2, (3, 1, 1)).astype(F32)
    vector, of_it = fp8(rng, 12), np.float32([0.5])
    tensors = {
        **deepseek(codes, scales), "k:weight": codes, "k:weight_scale": one, "v:weight": vector,
        "v:weight_scale": of_it, "o:weight_packed": packed(quantized(w[0], "e2m1", "1x32", "e8m0")[0]),
        "o:weight_scale": powers(rng, 200, 6),
    }  # fmt: skip
    checkpoint = written(tmp_path, tensors)
    for tensor in checkpoint:
        values = checkpoint.read(tensor.name).reshape(-1, tensor.shape[-1])
        for start, stop in ((0, len(values)), (0, 1), (len(values) // 3, len(values) - len(values) // 5)):
            apart = checkpoint.take_apart(tensor.name, (start, stop))
            decoded = fp8sim.decode(apart.codes, apart.format).astype(np.float64)
            np.testing.assert_array_equal((decoded * apart.spread()).astype(F32), values[start:stop])
        assert (
            checkpoint.take_apart(tensor.name).first.sum() * apart.scales.shape[1]
            == checkpoint.take_apart(tensor.name).scales.size
        )
