"""The scripts that set FP16 beside FP8: their rows are what public functions give, whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import write_answer

import common
import fp8sim
from fp8sim import _kernels
from fp8sim.costs import OPERAND_CLASSES
from fp8sim.experiments.data import GENERATORS, generated_matrices, real_matrices
from fp8sim.experiments.train import recorded_training

ROOT = Path(__file__).parent.parent
FOLDER = Path(common.__file__).parent
NAMES = ("memory", "time", "accuracy", "serving", "training", "all")
SHAPE = "32x64x256"
COMPILED = pytest.mark.skipif(not _kernels.available(), reason="without numba, products take minutes")
ALL = [pytest.param(name, marks=COMPILED) if name in ("accuracy", "all") else name for name in NAMES]


def run(name: str, *options: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = common.main(common.load(name).SCRIPT, options)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def report(capsys):
    """What a script prints with `--json`."""

    def of(name: str, *options: str) -> dict:
        status, out, err = run(name, "--json", *options, capsys=capsys)
        assert (status, err) == (0, "")
        return json.loads(out)

    return of


def one(rows: list[dict], **wanted: object) -> dict:
    (row,) = (row for row in rows if all(row[key] == value for key, value in wanted.items()))
    return row


@pytest.mark.parametrize("name", ALL)
def test_a_script_runs_small_in_a_process_of_its_own(name):
    """Run from elsewhere, so that no name of a script stands in the way of Python's own."""
    command = [sys.executable, "-W", "error", str(FOLDER / f"{name}.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert data["quick"]
    assert data["versions"]["numpy"] == np.__version__
    assert len({tuple(row) for row in data["rows"]}) == 1, "every row has the same keys"
    assert all(not isinstance(value, (list, dict)) for row in data["rows"] for value in row.values())


@pytest.mark.parametrize("name", ALL)
def test_tables_fit_and_tell_versions_and_seeds(name, capsys):
    options = ("--quick", "--data", "real") if name in ("accuracy", "all") else ()
    status, out, err = run(name, *options, capsys=capsys)
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert f"numpy {np.__version__}" in out
    assert ("seeds 0 to 1." in out) == (name in ("accuracy", "all", "training"))


# --- rows are what public functions give -------------------------------------------------------------


def test_bytes_are_those_of_gemm_cost_and_model_cost(report):
    rows = report("memory", "--shapes", "16x7168x2048", "--models", "llama-3.1-8b")["rows"]
    assert {row["recipe"] for row in rows} == set(common.RECIPES)
    for recipe in ("fp16", "deepseek-v3", "int8-row"):
        cost = fp8sim.gemm_cost(16, 7168, 2048, recipe)
        b, total = (one(rows, subject="16x7168x2048", part=part, recipe=recipe) for part in ("B", "total"))
        assert (b["bytes"], b["scale_bytes"]) == (cost.b.total, cost.b.scales)
        assert total["bytes"] == cost.bytes
        assert total["to_bf16"] == cost.bytes / fp8sim.gemm_cost(16, 7168, 2048, "bf16").bytes
        model = fp8sim.model_cost("llama-3.1-8b", recipe)
        found = {
            row["part"]: row["bytes"] for row in rows if (row["what"], row["recipe"]) == ("model", recipe)
        }
        assert found["weights"] == model.weight_bytes
        assert found["training"] == model.training_states[1].total
        assert found["bf16 moments"] == model.training_states[2].total
        assert found["kept"] == model.activation_bytes_per_token[0]
        assert found["cached"] == model.kv_cache_bytes_per_token


def test_times_are_those_of_gemm_cost(report):
    data = report("time", "--device", "h200", "--shapes", "8x64x64", SHAPE, "--recipes", "mxfp8")
    assert data["options"]["device"] == "h200"
    assert [(row["shape"], row["recipe"]) for row in data["rows"]] == [
        (shape, recipe) for shape in ("8x64x64", SHAPE) for recipe in ("fp16", "bf16", "mxfp8")
    ]
    row = one(data["rows"], shape=SHAPE, recipe="mxfp8")
    mine, base = (fp8sim.gemm_cost(32, 64, 256, recipe, "h200") for recipe in ("mxfp8", "fp16"))
    assert (row["seconds"], row["bound"], row["note"]) == (mine.seconds, mine.bound, mine.note)
    assert row["to_fp16"] == mine.seconds / base.seconds
    assert row["measured_s"] is None
    assert any("mxfp8: H200 has no unit" in note for note in data["notes"])
    assert any("Measured times: skipped" in note for note in data["notes"])


def test_a_time_that_is_not_known_is_none(report):
    rows = report("time", "--device", "b200", "--shapes", SHAPE)["rows"]
    row = one(rows, recipe="int8-row")
    assert (row["seconds"], row["to_fp16"], row["bound"]) == (None, None, "unknown")


@COMPILED
def test_errors_are_those_of_compare(report):
    options = ("--data", "student-t", "real", "--shapes", SHAPE, "--seeds", "2", "--recipes", "int8-row")
    data = report("accuracy", *options)
    assert data["seeds"] == [0, 1]
    rows = data["rows"]
    assert len(rows) == 3 * (2 + 4)
    matrices = generated_matrices("student-t", 32, 64, 256, seed=1)
    expected = fp8sim.compare(matrices.a, matrices.b, ["fp16", "int8-row"])
    row = one(rows, data="student-t", seed=1, recipe="int8-row")
    for name in ("relative_error", "ordinary_channel_error", "row_error_p99", "row_error_worst"):
        assert row[name] == getattr(expected["int8-row"], name)
    assert row["to_fp16"] == row["relative_error"] / expected["fp16"].relative_error
    layer = real_matrices()[2]
    row = one(rows, source=layer.source, recipe="bf16")
    assert row["relative_error"] == fp8sim.compare(layer.a, layer.b, "bf16")["bf16"].relative_error
    assert row["seed"] is None


def test_the_table_has_the_mean_and_the_range_over_seeds(report, capsys):
    options = ("--data", "gaussian", "--shapes", SHAPE, "--seeds", "3", "--recipes", "mxfp8")
    errors = [
        row["relative_error"] for row in report("accuracy", *options)["rows"] if row["recipe"] == "mxfp8"
    ]
    assert len(set(errors)) == 3
    _, out, _ = run("accuracy", *options, capsys=capsys)
    (line,) = (line.split() for line in out.splitlines() if line.startswith("mxfp8 "))
    assert line[1:4] == [f"{100 * figure(errors):.3g}" for figure in (statistics.fmean, min, max)]


def test_serving_is_what_the_phases_of_model_cost_give(report):
    options = ("--models", "llama-3.1-70b", "--batch", "1", "8", "--context", "512", "--device", "h100")
    rows = report("serving", *options, "--recipes", "fp8-row")["rows"]
    row = one(rows, batch=8, recipe="fp8-row")
    how = {"seq_len": 512, "batch": 8, "device": "h100"}
    decode = fp8sim.model_cost("llama-3.1-70b", "fp8-row", phase="decode", **how)
    assert (row["weight_bytes"], row["kv_cache_bytes"]) == (decode.weight_bytes, decode.kv_cache_bytes)
    assert row["decode_s"] == decode.seconds
    assert row["tokens_per_s"] == 8 / decode.seconds
    assert row["prefill_s"] == fp8sim.model_cost("llama-3.1-70b", "fp8-row", phase="prefill", **how).seconds
    assert row["to_bf16"] == row["decode_s"] / one(rows, batch=8, recipe="bf16")["decode_s"]
    # 141 GB of 16-bit weights are more than an H100's 80 GB, 73 GB are not
    assert [one(rows, batch=1, recipe=recipe)["fits"] for recipe in ("bf16", "fp8-row")] == [False, True]


def test_losses_are_those_of_the_record(report):
    record, made = recorded_training()
    data = report("training")
    assert any(note.startswith(made) for note in data["notes"])
    assert [row["recipe"] for row in data["rows"]] == [row.recipe for row in record.rows]
    for found, expected in zip(data["rows"], record.rows, strict=True):
        assert (found["loss"], found["error"], found["largest"]) == (
            expected.loss,
            expected.error,
            expected.largest,
        )
        assert found["to_bf16"] == expected.loss / record.rows[0].loss
        assert found["to_fp16"] is None
    rows = report("training", "--recipes", "deepseek-v3", "--seeds", "1")["rows"]
    assert [(row["recipe"], row["seeds"]) for row in rows] == [("bf16", 1), ("deepseek-v3", 1)]


def test_one_seed_has_no_spread(report, capsys):
    assert {row["loss_spread"] for row in report("training", "--seeds", "1")["rows"]} == {None}
    assert None not in {row["loss_spread"] for row in report("training")["rows"]}
    _, out, _ = run("training", "--seeds", "1", capsys=capsys)
    (line,) = (line.split() for line in out.splitlines() if line.startswith("bf16 "))
    assert line[2] == "-"


def test_serving_tells_what_units_a_device_lacks(report):
    for name in ("serving", "time"):
        data = report(name, "--quick", "--device", "a100", "--recipes", "fp8-row", "mxfp8")
        note = fp8sim.gemm_cost(1, 1, 1, "fp8-row", "a100").note
        assert note
        assert one(data["rows"], recipe="fp8-row")["note"] == note
        assert f"fp8-row: {note}." in data["notes"]
    notes = report("serving", "--quick", "--device", "h800", "--recipes", "mxfp8")["notes"]
    assert any("mxfp8: H800 SXM has no unit for E8M0 scales" in note for note in notes)


def test_integers_are_operations_and_no_flops(report, capsys):
    rows = report("time", "--shapes", SHAPE)["rows"]
    assert {row["recipe"]: row["rate_unit"] for row in rows} == {
        name: "OP/s" if name == "int8-row" else "FLOP/s" for name in common.RECIPES
    }
    cost = fp8sim.gemm_cost(32, 64, 256, "int8-row", "h800")
    assert one(rows, recipe="int8-row")["rate"] == cost.performance
    _, out, _ = run("time", "--shapes", SHAPE, capsys=capsys)
    assert out.count(" TOP/s ") == 1


@pytest.mark.extra
def test_training_anew_trains_what_the_record_has_not(report):
    pytest.importorskip("torch")
    data = report("training", "--train", "--quick", "--recipes", "fp16", "mxfp8")
    assert [row["recipe"] for row in data["rows"]] == ["bf16", "fp16", "mxfp8"]
    assert all(3 < row["loss"] < 7 for row in data["rows"])
    assert one(data["rows"], recipe="fp16")["to_fp16"] == 1
    assert "torch" in data["versions"]


# --- the page ------------------------------------------------------------------------------------------


def test_measured_times_are_those_that_were_recorded():
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert f"<!-- measured begin -->\n{write_answer.measured_times()}\n<!-- measured end -->" in page
    data = json.loads(write_answer.RECORDED.read_text(encoding="utf-8"))
    for row in data["rows"]:
        m, n, k = map(int, row["shape"].split("x"))
        assert row["seconds"] == fp8sim.gemm_cost(m, n, k, row["recipe"], row["device"]).seconds
        if row["measured_s"] is not None:
            assert row["of_roofline"] == row["measured_s"] / row["seconds"] > 1  # no kernel is faster


@pytest.mark.skipif(
    not _kernels.available(), reason="without numba, the page takes longer than all other tests"
)
def test_the_page_is_the_one_in_the_readme(capsys):
    status, out, _ = run("all", capsys=capsys)
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    shown = re.search(
        r"<!-- answer begin -->\n```text\n(.*)\n```\n<!-- answer end -->", page, flags=re.DOTALL
    )[1]
    figures, _, made = out.partition("Made with ")
    assert status == 0
    assert shown.partition("Made with ")[0] == figures, "run python docs/write_answer.py"
    assert made
    assert 45 <= len(out.splitlines()) <= 65


def test_the_page_ranges_over_what_is_below_it():
    page = common.load("all")
    ratios = {"fp16": 1.0, "bf16": 1.0, "mxfp8": 0.5, "fp8-row": 0.25, "int8-row": 0.75}
    rows = [
        {"question": "memory", "subject": "x", "recipe": name, "to_fp16": ratio, "to_bf16": ratio}
        for name, ratio in ratios.items()
    ]
    table = page.answer(rows)
    assert [header.rstrip(">") for header in table.headers[1:]] == ["FP16", "BF16", "FP8", "INT8"]
    assert table.rows[0] == ["memory, to FP16's", "1.00", "1.00", "0.25 to 0.50", "0.75"]
    assert table.rows[1] == ["time at best, to FP16's", "-", "-", "-", "-"]
    assert {header.rstrip(">").lower() for header in table.headers[1:]} <= set(OPERAND_CLASSES)
    assert table.title == "FP16, BF16, FP8 and INT8 on one page"


def page_rows(*ratios: tuple[str, str, float]) -> list[dict]:
    return [
        {"question": "accuracy", "subject": subject, "recipe": name, "to_fp16": ratio, "to_bf16": ratio}
        for subject, name, ratio in ratios
    ]


def test_the_range_of_errors_is_that_of_products_alone():
    page = common.load("all")
    table = page.answer(
        page_rows(
            ("real", "int8-row", 62.3),
            ("gaussian", "int8-row", 39.9),
            (page.ORDINARY, "int8-row", 1435.0),
            ("real", "fp16", 1.0),
        )
    )
    assert table.rows[2] == ["error, to FP16's", "39.9 to 62.3", "1.00"]


def test_operands_of_two_formats_have_a_column_of_their_own():
    table = common.load("all").answer(
        page_rows(("real", "bf16", 1.0), ("real", "fp8-weights", 10.0), ("real", "mxfp4", 30.0))
    )
    assert table.headers[1:] == ["BF16>", "BF16 x FP8>", "FP4>"]
    assert table.title == "BF16, BF16 x FP8 and FP4 on one page"
    assert table.rows[2][1:] == ["1.00", "10.0", "30.0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.000412, "0.000412"),
        (0.0666, "0.0666"),
        (0.5, "0.50"),
        (9.0, "9.00"),
        (41.26, "41.3"),
        (1435.2, "1,435"),
    ],
)
def test_no_ratio_is_written_as_nothing(value, text):
    assert common.ratio(value) == text


@COMPILED
def test_the_page_tells_on_what_it_was_measured(report):
    data = report(
        "all",
        "--quick",
        "--data",
        "llm-like",
        "--error-shapes",
        "8x16x64",
        "4x8x32",
        "--recipes",
        "fp8-row",
        "fp8-tensor",
        "--seeds",
        "1",
    )
    options = data["options"]
    assert options["shapes"] == [[16, 7168, 2048]]
    assert options["error_shapes"] == [[8, 16, 64], [4, 8, 32]]
    assert (options["models"], options["batch"], options["context"]) == (["llama-3.1-8b"], [1], [4096])
    (of_errors,) = (note for note in data["notes"] if note.startswith("Errors are"))
    assert "8x16x64, 4x8x32" in of_errors
    matrices = [generated_matrices("llm-like", *shape, seed=0) for shape in ((8, 16, 64), (4, 8, 32))]
    errors = [fp8sim.compare(x.a, x.b, ["fp8-row"])["fp8-row"].relative_error for x in matrices]
    assert one(data["rows"], subject="llm-like", recipe="fp8-row")["value"] == pytest.approx(np.mean(errors))
    (loss,) = (note for note in data["notes"] if note.startswith("The loss"))
    assert "means of 2 seeds, whatever --seeds is" in loss
    assert loss.endswith(recorded_training()[1])


def test_work_that_is_long_says_so_before_it_begins(capsys, monkeypatch):
    monkeypatch.setitem(GENERATORS, "llm-like", None)  # work would be an error
    status, _, err = run("accuracy", "--data", "llm-like", "--shapes", "8192x28672x8192", capsys=capsys)
    assert status == 2
    assert err.startswith(
        "accuracy: as long as 1,792 runs with the options by default\n"
    )  # 7168 times, of 1 in 4 kinds
    _, _, err = run("accuracy", "--data", "llm-like", "--quick", capsys=capsys)
    assert "as long as" not in err


# --- options and files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shapes", "12"), "'12' is not MxNxK; write it like 128x2112x7168"),
        (("--shapes", "0x1x1"), "'0x1x1' is not MxNxK"),
        (("--device", "h9000"), "unknown device 'h9000'"),
        (("--recipes", "fp9"), "unknown recipe 'fp9'; did you mean"),
        (("--data", "gauss"), "unknown kind of data 'gauss'; did you mean 'gaussian'"),
        (("--seeds", "0"), "'0' is no positive whole number"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
        (("--csv", "no/such/folder/rows.csv"), "no folder no/such/folder to write rows.csv in"),
        (("--plot", "rows.xyz"), "matplotlib cannot write .xyz"),
        (("--csv", "o.png", "--plot", "./o.png"), "--csv and --plot both name o.png"),
        (("--data", "real", "gaussian", "Real"), "--data names real twice; leave one out"),
        (("--shapes", "1x2x3", "01x2x3"), "--shapes names 1x2x3 twice; leave one out"),
        (("--recipes", "mxfp8", "MXFP8"), "--recipes names mxfp8 twice; leave one out"),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "time"])
def test_bad_options_get_one_line_before_any_work(name, options, words, capsys, monkeypatch):
    if "--plot" in options:
        pytest.importorskip("matplotlib")
    monkeypatch.setitem(GENERATORS, "llm-like", None)  # work would be another error
    status, out, err = run(name, "--data", "llm-like", *options, capsys=capsys)
    assert (status, out) == (2, "")
    assert err.startswith(f"{name}.py: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("memory", ("--models", "lama-3.1-8b"), "lama-3.1-8b"),
        ("serving", ("--batch", "x"), "'x' is no positive whole number"),
        ("serving", ("--batch", "1", "8", "1"), "--batch names 1 twice; leave one out"),
        ("memory", ("--models", "llama-3.1-8b", "Llama-3.1-8B"), "--models names llama-3.1-8b twice"),
        ("all", ("--error-shapes", "1x2x3", "1x2x3"), "--error-shapes names 1x2x3 twice"),
        ("training", ("--recipes", "mxfp8"), "the record has no mxfp8, but bf16, fp32"),
        ("training", ("--seeds", "9"), "the record has 2 seeds; --train trains with more"),
    ],
)
def test_bad_options_of_one_script_get_one_line(name, options, words, capsys):
    status, out, err = run(name, *options, capsys=capsys)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_an_option_that_changes_nothing_says_so(report):
    quick = ("--quick", "--models", "llama-3.1-8b")
    notes = report("memory", *quick, "--seeds", "2", "--data", "real")["notes"]
    assert "--seeds changes nothing here." in notes
    assert "--data changes nothing here." in notes
    assert not any("changes nothing" in note for note in report("memory", *quick)["notes"])


def test_the_csv_has_the_rows_of_the_json(report, tmp_path, capsys):
    file = tmp_path / "rows.csv"
    options = ("--shapes", SHAPE, "--device", "b200")
    status, _, err = run("time", *options, "--csv", str(file), capsys=capsys)
    assert (status, err) == (0, f"wrote {file}\n")
    with file.open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    rows = report("time", *options)["rows"]
    assert found == [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]


def test_a_file_is_left_alone_where_the_work_fails(tmp_path, capsys):
    file = tmp_path / "rows.csv"
    file.write_text("before")
    status, _, _ = run("time", "--recipes", "fp9", "--csv", str(file), capsys=capsys)
    assert (status, file.read_text()) == (2, "before")
    assert list(tmp_path.iterdir()) == [file]


def test_a_picture_has_a_bar_for_each_row(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    picture = common._picture
    monkeypatch.setattr(common, "_picture", lambda *args: drawn.append(picture(*args)) or drawn[-1])
    file = tmp_path / "time.svg"
    shapes = ("--shapes", SHAPE, "8x64x64")
    status, _, err = run("time", *shapes, "--recipes", "fp8-row", "--plot", str(file), capsys=capsys)
    assert (status, err) == (0, f"wrote {file}\n")
    assert file.read_text(encoding="utf-8").rstrip().endswith("</svg>")
    (ax,) = drawn[0].axes
    heights = [bar.get_height() for bar in ax.patches]
    ratios = [
        fp8sim.gemm_cost(*shape, recipe, "h800").seconds / fp8sim.gemm_cost(*shape, "fp16", "h800").seconds
        for recipe in ("fp16", "bf16", "fp8-row")
        for shape in ((32, 64, 256), (8, 64, 64))
    ]
    assert heights == pytest.approx(ratios, rel=1e-12)
    assert [text.get_text() for text in ax.get_xticklabels()] == [SHAPE, "8x64x64"]


def test_a_logarithmic_axis_has_points_and_no_bars(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    picture = common._picture
    monkeypatch.setattr(common, "_picture", lambda *args: drawn.append(picture(*args)) or drawn[-1])
    file = tmp_path / "serving.svg"
    status, *_ = run("serving", "--quick", "--recipes", "fp8-row", "--plot", str(file), capsys=capsys)
    assert status == 0
    (ax,) = drawn[0].axes
    assert (ax.get_yscale(), list(ax.patches)) == ("log", [])
    rates = [
        1
        / fp8sim.model_cost(
            "llama-3.1-8b", recipe, phase="decode", seq_len=4096, batch=1, device="h800"
        ).seconds
        for recipe in ("fp16", "bf16", "fp8-row")
    ]
    assert [float(line.get_ydata()[0]) for line in ax.lines] == pytest.approx(rates, rel=1e-12)
    assert {line.get_linestyle() for line in ax.lines} == {"None"}
    assert all(line.get_marker() != "None" for line in ax.lines)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_one_line():
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, str(FOLDER / "serving.py"), "--quick"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False, env=buffered
        )
    assert (done.returncode, done.stderr) == (2, "serving.py: No space left on device\n")


# --- measured times -------------------------------------------------------------------------------------


class StandIn:
    """A GPU whose every call takes as long as told, and that PyTorch's CPU computes for."""

    place, name, made = "cpu", "NVIDIA H100 PCIe", "driver none"

    def __init__(self, seconds):
        self.taken = seconds

    def seconds(self, call):
        call()
        return next(self.taken)


def test_calls_are_timed_in_turn_and_the_first_rounds_are_off_the_clock():
    timing, order = common.load("time"), []
    calls = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    rounds = timing.WARM_UP + 3
    seconds = iter([9.0] * 2 * timing.WARM_UP + [1.0, 1.0, 5.0, 5.0, 2.0, 2.0])
    assert timing.medians(calls, StandIn(seconds), 3) == {"a": 2.0, "b": 2.0}
    assert [sorted(order[i : i + 2]) for i in range(0, 2 * rounds, 2)] == [["a", "b"]] * rounds
    assert len({tuple(order[i : i + 2]) for i in range(0, 2 * rounds, 2)}) == 2, (
        "every round in its own order"
    )


def test_measured_times_stand_beside_the_roofline(capsys, monkeypatch):
    pytest.importorskip("torch")
    timing = common.load("time")
    monkeypatch.setattr(timing, "open_gpu", lambda: StandIn(iter(lambda: 1e-3, None)))
    options = ("--gpu", "--quick", "--json", "--shapes", "32x64x256", "--recipes", "mxfp8", "deepseek-v4")
    status = common.main(timing.SCRIPT, options)
    data = json.loads(capsys.readouterr().out)
    assert status == 0
    assert data["options"]["device"] == "h100-pcie"  # by the name of the GPU, unless one was given
    row = one(data["rows"], recipe="bf16")
    assert row["measured_s"] == 1e-3
    assert row["of_roofline"] == 1e-3 / fp8sim.gemm_cost(32, 64, 256, "bf16", "h100-pcie").seconds
    assert row["measured_to_fp16"] == 1
    assert one(data["rows"], recipe="deepseek-v4")["measured_s"] is None
    assert "Not timed: deepseek-v4 of 32x64x256: PyTorch has no call for it." in data["notes"]
    assert any(note.startswith("Not timed: mxfp8 of 32x64x256: ") for note in data["notes"])
    assert "torch" in data["versions"]


def test_a_call_that_gives_another_product_is_not_timed():
    torch = pytest.importorskip("torch")
    timing = common.load("time")
    a, b = torch.eye(4), torch.eye(4)
    assert timing._checked(lambda: a @ b, a, b)() is not None
    with pytest.raises(ValueError, match=r"off by 0.02\d*, and at most 0.01"):
        timing._checked(lambda: 1.02 * a, a, b)


def test_without_a_gpu_the_flag_is_one_line_and_status_2(capsys, monkeypatch):
    timing = common.load("time")

    def find() -> None:
        raise RuntimeError("checking a GPU needs one: PyTorch sees no GPU here")

    monkeypatch.setattr(timing, "find_gpu", find)
    monkeypatch.setitem(sys.modules, "torch", sys)  # whether it is installed or not
    assert common.main(timing.SCRIPT, ["--gpu"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        f"time.py: {timing.NEEDS}: PyTorch sees no GPU here. Leave --gpu away for the model's times\n",
    )


@pytest.mark.parametrize(
    ("gpu", "device"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_a_gpu_is_the_device_of_its_name(gpu, device):
    assert common.load("time")._device_of(gpu) == device
