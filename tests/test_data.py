"""Matrices to measure on: the real ones that the package holds, and what they were recorded from."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import write_real_data as writer

import fp8sim
from fp8sim import metrics
from fp8sim.checkpoints import open_checkpoint
from fp8sim.experiments.data import (
    GENERATORS,
    Matrices,
    generated_matrices,
    real_matrices,
    sample_model_path,
)

FOLDER = Path(fp8sim.__file__).parent / "experiments" / "recorded"
RECORD = json.loads((FOLDER / "real.json").read_text(encoding="utf-8"))
needs_sample = pytest.mark.skipif(
    sample_model_path() is None or importlib.util.find_spec("transformers") is None,
    reason="needs the sample extra",
)


def test_the_files_are_there_and_small():
    sizes = {name: (FOLDER / name).stat().st_size for name in writer.FILES}
    assert all(sizes.values())
    assert sum(sizes.values()) <= 1_000_000


def test_the_licence_lies_beside_the_data_and_is_named_in_the_package():
    assert "Apache License\n                           Version 2.0" in (FOLDER / "LICENSE-APACHE").read_text()
    notice = (FOLDER / "NOTICE").read_text(encoding="utf-8")
    assert RECORD["model"]["name"] in notice
    assert RECORD["model"]["card"] == "license: apache-2.0"
    assert RECORD["model"]["card"] in notice
    assert "Changed by" in notice


def test_there_are_layers_of_four_kinds():
    real = real_matrices()
    assert [x.a.shape for x in real] == [(64, 384), (64, 384), (64, 384), (64, 1536)]
    assert [x.b.shape for x in real] == [(384, 96), (384, 96), (384, 96), (1536, 96)]
    kinds = ("query projection", "up projection", "output projection", "down projection")
    assert all(kind in x.source for kind, x in zip(kinds, real, strict=True))
    blocks = [layer["name"].split(".")[2] for layer in RECORD["layers"]]
    assert len(set(blocks)) == 4
    assert RECORD["rows"]["tokens"].split()[::63] == ["[CLS]", "[SEP]"]


@pytest.mark.parametrize("matrices", real_matrices(), ids=lambda x: x.source)
def test_real_data_is_finite_has_no_row_twice_and_is_no_noise(matrices):
    for rows in (matrices.a, matrices.b.T):
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        assert len(np.unique(rows, axis=0)) == len(rows)
    assert 0.01 < matrices.b.std() < 0.2
    deviations = matrices.a / matrices.a.std()
    assert np.mean(deviations**4) > 3.3  # of Gaussian noise it is 3


def test_the_data_keeps_15_bits_and_uses_them_all():
    for x in real_matrices():
        for values in (x.a, x.b):
            assert (fp8sim.round_to(values, writer.KEPT) == values).all()
            mantissas = np.ascontiguousarray(values).view(np.uint32) & 0x7FFFFF
            assert np.bitwise_or.reduce(mantissas, axis=None) == 0x7FFE00
            # so that FP16, which has 11, errs by what it errs by on values that were not rounded before
            assert metrics.relative_error(fp8sim.round_to(values, "fp16"), values) > 1.5e-4


def test_it_is_read_once_and_nobody_can_change_it():
    first, second = real_matrices(), real_matrices()
    assert first is second
    for array in (first[0].a, first[0].b):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1


def test_importing_reads_no_data():
    trace = "import sys; sys.addaudithook(lambda event, args: event == 'open' and print(args[0]))"
    last = f"{trace}; import fp8sim; from fp8sim.experiments.data import real_matrices; print('---')"
    done = subprocess.run(
        [sys.executable, "-c", f"{last}; real_matrices()"], capture_output=True, text=True, check=True
    )
    before, after = done.stdout.split("---")
    assert "data.py" in before or "data.cpython" in before  # the hook sees what is opened
    assert [name in before for name in ("real.npz", "real.json")] == [False, False]
    assert [name in after for name in ("real.npz", "real.json")] == [True, True]


# --- packing --------------------------------------------------------------------------------------


def test_what_is_packed_comes_back_rounded_to_15_bits():
    from fp8sim.experiments.data import _unpacked

    x = np.float32(
        [[1.0, -2.5, 0.0, -0.0], [1 + 2**-14, 1 + 2**-15, 1 + 3 * 2**-15, -3e38], [1e-38, 2.0**-149, 0, 7]]
    )
    kept = np.float32([[1.0, -2.5, 0.0, -0.0], [1 + 2**-14, 1.0, 1 + 2**-13, -3e38], [1e-38, 0, 0, 7]])
    back = _unpacked(writer.packed(x), 4)
    assert back.tobytes() != x.tobytes()
    assert back == pytest.approx(kept, rel=2.0**-15)
    assert back[:2, :3].tobytes() == kept[:2, :3].tobytes()  # the signs of zeros too; ties went to even
    assert back.tobytes() == fp8sim.round_to(x, writer.KEPT).tobytes()


def test_rounding_to_15_bits_errs_a_sixteenth_of_what_fp16_errs(rng):
    x = rng.standard_normal((100, 384), np.float32)
    kept = fp8sim.round_to(x, writer.KEPT)
    half = fp8sim.round_to(x, "fp16")
    assert metrics.relative_error(half, x) / metrics.relative_error(kept, x) == pytest.approx(16, rel=0.02)
    assert np.abs(kept / x - 1).max() <= fp8sim.FORMATS["fp16"].eps / 2 / 16


def test_rows_and_outputs_are_spread_evenly():
    rows = writer.kept_rows(2048)
    assert rows[[0, 1, -1]].tolist() == [0, 32, 2047]
    assert set(np.diff(rows)) == {32, 33}
    assert writer.kept_outputs(384).tolist() == list(range(0, 384, 4))
    assert writer.kept_outputs(1536).tolist() == list(range(0, 1536, 16))


def test_the_texts_are_real_and_long():
    texts = writer.texts()
    assert len(set(texts)) == len(writer.MODULES) == 16
    assert all(len(text.split()) > 100 for text in texts)


# --- where it is from -----------------------------------------------------------------------------


@needs_sample
@pytest.mark.extra
def test_the_weights_are_those_of_the_checkpoint_to_the_last_bit_kept():
    for layer, matrices in zip(RECORD["layers"], real_matrices(), strict=True):
        weight = open_checkpoint(sample_model_path()).read(f"{layer['name']}.weight")
        assert weight.shape == (layer["of"], layer["k"])
        ours = weight[np.arange(96) * layer["of"] // 96]
        assert (fp8sim.round_to(ours, writer.KEPT) == matrices.b.T).all()


@needs_sample
@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")
def test_the_writer_records_the_same_again(tmp_path, monkeypatch):
    assert writer.main(tmp_path) == 0
    fresh = json.loads((tmp_path / "real.json").read_text(encoding="utf-8"))
    same_text = fresh["text"]["sha256"] == RECORD["text"]["sha256"]
    assert same_text or fresh["text"]["python"] != RECORD["text"]["python"]
    for name in ("model", "layers", "precision"):
        assert fresh[name] == RECORD[name]
    for mine, recorded in zip(read(tmp_path, monkeypatch), real_matrices(), strict=True):
        assert mine.source == recorded.source
        assert (mine.b == recorded.b).all()
        if same_text:  # docstrings change from one Python to the next
            # sums of another order or library differ in the last bits of FP32, far below the 15 that are kept
            assert metrics.relative_error(mine.a, recorded.a) < 2.0**-15


@needs_sample
@pytest.mark.extra
def test_a_model_card_with_another_licence_is_refused(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("---\nlicense: other\n---\n")
    monkeypatch.setattr(writer, "sample_model_path", lambda: tmp_path)
    with pytest.raises(SystemExit, match=r"does not say 'license: apache-2\.0'"):
        writer.main(tmp_path)


def read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Matrices, ...]:
    """Read recorded data from another folder, as the package reads its own."""
    from fp8sim.experiments import data

    (folder / "recorded").mkdir()
    for name in ("real.npz", "real.json"):
        (folder / name).rename(folder / "recorded" / name)
    monkeypatch.setattr(data.resources, "files", lambda package: folder)
    return data._recorded.__wrapped__()


@pytest.mark.parametrize("kind", GENERATORS)
def test_generated_data_is_of_its_kind_and_the_same_for_a_seed(kind):
    x = generated_matrices(kind, 512, 8, 1024, seed=3)
    assert np.array_equal(x.a, generated_matrices(kind.upper(), 512, 8, 1024, seed=3).a)
    assert not np.array_equal(x.a, generated_matrices(kind, 512, 8, 1024, seed=4).a)
    assert x.a.dtype == x.b.dtype == np.float32
    assert (x.a.shape, x.b.shape) == ((512, 1024), (1024, 8))
    values = x.a.astype(np.float64)
    kurtosis = np.mean(values**4) / np.mean(values**2) ** 2
    # of the distributions: uniform 9/5, normal 3, Student's t of 8 degrees 3 + 6/(8 - 4), Laplace 6
    expected = {"uniform": 1.8, "gaussian": 3, "student-t": 4.5, "laplace": 6}.get(kind)
    assert kurtosis > 20 if expected is None else kurtosis == pytest.approx(expected, rel=0.05)
    columns, rows = (np.sqrt(np.mean(values**2, axis=axis)) for axis in (0, 1))
    assert (columns.max() > 8 * np.median(columns)) == (kind in ("llm-like", "outlier-channels"))
    assert (rows.max() > 8 * np.median(rows)) == (kind == "outlier-tokens")


@pytest.mark.parametrize(("m", "k"), [(1, 1), (1, 8), (8, 1)])
@pytest.mark.parametrize("kind", GENERATORS)
def test_generated_data_can_be_small(kind, m, k):
    assert generated_matrices(kind, m, 2, k).a.shape == (m, k)


def test_an_unknown_kind_of_data_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'laplace'"):
        generated_matrices("laplac", 2, 2, 2)
