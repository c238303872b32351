import html
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fp8sim
from fp8sim import __version__, cli
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim.cli import output
from fp8sim.costs.devices import DEVICES
from fp8sim.experiments.studies import STUDIES
from fp8sim.formats import FORMATS
from fp8sim.models import KV_CACHES, MODELS
from fp8sim.recipes import RECIPES
from fp8sim.tensor_cores import TENSOR_CORES
from fp8sim.training import TRAINING_RECIPES

save_file = pytest.importorskip("safetensors.numpy").save_file


@pytest.fixture
def checkpoint(tmp_path, rng):
    tensors = {
        "layer.weight": rng.standard_normal((24, 64), np.float32),
        "layer.bias": np.ones(24, np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def asked(monkeypatch, verdict):
    """What `fp8sim claims` asks `claims` for, which here was measured before."""
    options = []

    def measure(*, on_part, **rest):
        inspect.signature(fp8sim.claims).bind(on_part=on_part, **rest)
        on_part("a part")
        options.append(rest)
        return verdict

    monkeypatch.setattr("fp8sim.experiments.claims.claims", measure)
    return options


def test_serve_prints_memory_steps_and_what_is_served(run) -> None:
    status, out, _ = run("serve", "llama-3.1-8b", "--recipe", "fp8-row", "--kv", "fp8")
    assert status == 0
    assert "bf16: does not fit, 13.48 GB too much for 80.00 GB." in out
    assert re.search(r"attention +274\.88 G +34\.39 GB +10\.3 ms +cache +- ", out)
    data = json.loads(run("serve", "llama-3.1-8b", "--recipe", "fp8-row", "--kv", "fp8", "--json")[1])
    assert (data["fits"], data["baseline_fits"], data["baseline_decode_s"]) == (True, False, None)
    rows = json.loads(run("serve", "llama-3.1-8b", "--curve", "context", "--json")[1])
    assert [row["context"] for row in rows] == [1 << power for power in range(len(rows))]
    assert [row["fits"] for row in rows][-2:] == [True, False]
    assert "deepseek-v3 cache" not in run("serve", "llama-3.1-8b", "--curve", "batch")[1]
    rows = json.loads(run("serve", "deepseek-v3", "--check", "--json")[1])["rows"]
    assert rows[0]["published"] == 14_800


def test_model_prints_rows_of_the_phase_that_was_asked_for_only(run) -> None:
    for phase, there, gone in (
        ("training", "training state", "KV cache, a token"),
        ("decode", "KV cache, a token", "training"),
    ):
        out = run("model", "llama-3.1-8b", "--phase", phase)[1]
        assert there in out
        assert gone not in out


def test_claims_measures_and_its_json_parses(run, verdict):  # verdict: not without numba
    status, out, err = run("claims", "--json", "--seed", 3, "--device", "h100")
    data = json.loads(out)
    assert (status, err, data["seed"], data["device"]) == (0, "", 3, "H100 SXM")
    assert {row["verdict"] for row in data["rows"]} == {"holds", "partly", "does not hold"}


def test_claims_prints_the_sentence_the_bottom_line_the_answers_and_every_row(run, asked, verdict):
    status, out, err = run("claims")
    assert (status, err) == (0, "")
    printed = " ".join(out.split())
    for text in (verdict.sentence, *verdict.bottom_line, *verdict.answers.values()):
        assert text in printed
    for number, row in enumerate(verdict.rows, 1):
        figures, *reasons = (line for line in out.splitlines() if line.split()[:1] == [str(number)])
        assert figures.rstrip().endswith(f" {row.verdict}")
        assert any(" ".join(row.why.split()[:2]) in line for line in reasons)


def test_claims_in_json_are_their_to_dict(run, asked, verdict):
    status, out, err = run("claims", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == json.loads(json.dumps(verdict.to_dict()))


def test_claims_take_the_recorded_training_unless_asked_to_train(run, asked):
    run("claims")
    run("claims", "--train", "--device", "a100", "--seed", 5)
    assert asked == [
        {"device": "h800", "seed": 0, "train": False},
        {"device": "a100", "seed": 5, "train": True},
    ]


def test_claims_that_are_to_train_without_pytorch_say_what_to_install(run, monkeypatch):
    for module in [name for name in sys.modules if name.startswith("fp8sim.experiments.train.")]:
        if hasattr(sys.modules[module], "torch"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)
    status, out, err = run("claims", "--train")
    assert (status, out) == (2, "")
    assert err == "fp8sim: training needs PyTorch: pip install 'fp8sim[torch]'\n"


def test_compare_of_a_shape_prints_every_recipe(run):
    status, out, _ = run("compare", "--shape", "16x32x64")
    assert status == 0
    for name in ("fp32", "bf16", "fp16", "fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8", "nvfp4"):
        assert name in out


def test_compare_of_chosen_recipes_as_json(run):
    status, out, _ = run(
        "compare", "--shape", "16x32x64", "--recipe", "mxfp8", "--baseline", "fp16", "--json"
    )
    assert status == 0
    assert [row["recipe"] for row in json.loads(out)["rows"]] == ["fp16", "mxfp8"]


def test_compare_of_a_checkpoint_and_activations(run, checkpoint, tmp_path, rng):
    status, out, _ = run("compare", "--checkpoint", checkpoint, "--tensor", "layer.weight", "--json")
    assert status == 0
    assert (json.loads(out)["n"], json.loads(out)["k"]) == (24, 64)
    np.save(tmp_path / "x.npy", rng.standard_normal((5, 64)))
    status, out, _ = run(
        "compare",
        "--checkpoint",
        checkpoint,
        "--tensor",
        "layer.weight",
        "--activations",
        tmp_path / "x.npy",
        "--json",
    )
    assert status == 0
    assert json.loads(out)["m"] == 5


def test_compare_of_weights_in_a_file_and_of_several_layers(run, checkpoint, tmp_path, rng):
    np.save(tmp_path / "w.npy", rng.standard_normal((24, 64)))
    status, out, _ = run("compare", "--weights", tmp_path / "w.npy", "--recipe", "fp8-row", "--json")
    assert status == 0
    assert (json.loads(out)["n"], json.loads(out)["k"]) == (24, 64)
    save_file({name: rng.standard_normal((8, 16), np.float32) for name in ("up", "down")}, checkpoint)
    tensors = ["--checkpoint", checkpoint, "--tensor", "up", "--tensor", "down", "--recipe", "fp8-row"]
    status, out, _ = run("compare", *tensors, "--json")
    assert status == 0
    assert list(json.loads(out)["layers"]) == ["up", "down"]
    status, out, _ = run("compare", *tensors)
    assert status == 0
    assert "All 2 layers together" in out
    status, out, _ = run("compare", "--data", "real", "--recipe", "fp8-row")
    assert status == 0
    assert "All 4 layers together" in out


def test_the_source_of_a_comparison_reaches_a_terminal_escaped(run, checkpoint, tmp_path, rng):
    activations = tmp_path / "x\x1b[31m.npy"
    np.save(activations, rng.standard_normal((5, 64)))
    options = ["--checkpoint", checkpoint, "--tensor", "layer.weight", "--activations", activations]
    status, out, _ = run("compare", *options, "--recipe", "fp8-row")
    assert status == 0
    assert r"x\x1b[31m.npy" in out
    assert "\x1b" not in out


CATALOGUES = {"formats": FORMATS, "recipes": RECIPES, "devices": DEVICES}


@pytest.mark.parametrize("command", CATALOGUES)
def test_a_catalogue_is_a_table_or_data_of_every_entry(run, command):
    status, out, err = run(command)
    assert (status, err) == (0, "")
    assert all(name in out for name in CATALOGUES[command])
    assert max(map(len, out.splitlines())) <= 120
    data = json.loads(run(command, "--json")[1])
    assert list(data) == [entry["name"] for entry in data.values()] == list(CATALOGUES[command])


def test_catalogues_as_data_say_what_their_figures_are(run):
    e4m3 = json.loads(run("formats", "--json")[1])["e4m3"]
    assert (e4m3["max"], e4m3["smallest_subnormal"], e4m3["infinity"], e4m3["dtype"]) == (
        448, 2.0**-9, "-", "float8_e4m3fn",
    )  # fmt: skip
    recipe = json.loads(run("recipes", "--json")[1])["deepseek-v3"]
    assert recipe.pop("summary").startswith("E4M3, activations 1x128")
    assert recipe == {
        "name": "deepseek-v3",
        "a": "e4m3 1x128 fp32",
        "b": "e4m3 128x128 fp32",
        "accumulator": "hopper-fp8/128",
        "output": "bf16",
    }
    device = json.loads(run("devices", "--json")[1])["a100"]
    assert device["bandwidth_bytes_per_second"] == pytest.approx(2.039e12)
    assert device["memory_bytes"] == 80e9
    assert (device["bf16_flop_per_second"], device["fp8_flop_per_second"]) == (312e12, None)
    assert device["sources"]["tf32"].startswith("NVIDIA Ampere Architecture In-Depth")
    assert device["sources"]["fp8"] is None


def test_json_has_no_nan_or_infinity(run, tmp_path):
    # FP16 overflows on weights of 1e6; the row's error is not a number, which JSON cannot say.
    save_file({"w": np.full((4, 4), 1e6, np.float32)}, tmp_path / "m.safetensors")
    out = run(
        "compare", "--checkpoint", tmp_path / "m.safetensors", "--tensor", "w", "--recipe", "fp16", "--json"
    )[1]
    assert json.loads(out, parse_constant=pytest.fail)["rows"][1]["relative_error"] is None


def test_model_prints_components_totals_and_ceilings(run):
    status, out, _ = run("model", "deepseek-v3", "--gemms")
    assert status == 0
    for words in ("routed experts", "671.03 G", "0.5016", "1.743", "wkv_b"):
        assert words in out
    data = json.loads(run("model", "deepseek-v3", "--seq-len", 32768, "--phase", "prefill", "--json")[1])
    assert round(data["quantized_flops_share"], 3) == 0.459


def test_model_check_prints_published_figures_with_their_ratios(run):
    status, out, _ = run("model", "deepseek-v3", "--check")
    assert status == 0
    assert all(figure in out for figure in ("38.94", "19.926", "180,000", "1.0000"))
    rows = json.loads(run("model", "deepseek-v3", "--check", "--json")[1])["rows"]
    assert all(abs(row["ratio"] - 1) < 0.02 for row in rows)


def test_version_and_help(run):
    assert run("--version")[1] == f"fp8sim {__version__}\n"
    for arguments in ([], ["--help"], ["claims", "--help"], ["explain", "-h"]):
        status, out, err = run(*arguments)
        assert (status, err) == (0, "")
        assert "Usage" in out


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["compare"], [*RECIPES, *DEVICES]),
        (["model"], [*MODELS, *RECIPES, *DEVICES, "training", "prefill", "decode"]),
        (["serve"], [*MODELS, *RECIPES, *DEVICES, *KV_CACHES, "tensor", "expert"]),
        (["train"], TRAINING_RECIPES),
        (["claims"], DEVICES),
        (["explain", "value"], [*FORMATS, "nearest-even", "stochastic", "saturate", "ieee"]),
        (["explain", "block"], [*FORMATS, "fp32", "e8m0", "e4m3", "amax", "ceil", "floor", "even"]),
        (["explain", "dot"], TENSOR_CORES),
        (["sweep"], STUDIES),
    ],
)
def test_help_lists_the_names_that_options_take_and_breaks_none(run, command, names):
    words = set(run(*command, "--help")[1].replace(",", " ").replace(". ", " ").replace(".\n", " ").split())
    assert set(names) <= words


HEAVY = {"numba", "llvmlite", "torch", "matplotlib", "transformers"}


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import fp8sim.cli.commands", {*HEAVY, "rich"}),
        ("import fp8sim.cli.commands as c; c.app(['formats', '--json'])", HEAVY),
    ],
)
def test_the_command_line_starts_without_what_is_slow(code, heavy):
    script = f"import atexit, sys; atexit.register(lambda: sys.stderr.write(' '.join(sys.modules))); {code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "fp8sim" in loaded
    assert loaded & heavy == set()


class Marked(Result):
    def parts(self):
        return [Table("[bold]", ["[red]x"], [["[/]"]], ("[i] " + "word " * 40,)), Table("2", ["y"], [])]


def test_text_is_no_markup_and_a_pipe_has_120_columns(capsys):
    output.show(Marked(), Table("3", ["z"], []))
    out = capsys.readouterr().out
    assert out.startswith("[bold]\n\n[red]x\n")
    assert out.endswith("\n\n2\n\ny\n─\n\n3\n\nz\n─\n")
    assert 110 < max(map(len, out.splitlines())) <= 120


def test_the_package_can_be_run_as_a_module():
    done = subprocess.run([sys.executable, "-m", "fp8sim", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fp8sim {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["explain", "1e400"], "'1e400' is beyond float64"),
        (["explain", "-1e-400"], "'-1e-400' is beyond float64"),
        (["explain", "2^5000"], "'2^5000' is beyond float64"),
        (["explain", "2^-5000"], "'2^-5000' is beyond float64"),
        (["explain", "dot", "1x2*0"], "'1x2*0' is no product"),
        (["explain", "dot", "1x2*²"], "'1x2*²' is no product"),
        (["explain", "dot", "1x2", *["--format", "e4m3"] * 3], "--format is given 3 times"),
        (["clams"], "did you mean 'claims'"),
        (["claims", "--device", "h8000"], "unknown device 'h8000'"),
        (["claims", "--seed", "x"], "--seed"),
        (["claims", "--seed", "-1"], "--seed"),
        (["claims", "--colour"], "--colour"),
        (["claims", "--no-training"], "--no-training"),
        (["model", "deepseek-v4"], "did you mean 'deepseek-v3'"),
        (["model", "deepseek-v3", "--phase", "traning"], "did you mean 'training'"),
        (["model", "deepseek-v3", "--batch", "0"], "batch must be at least 1"),
        (["serve", "llama-3.1-8b", "--batch", "0"], "batch must be at least 1"),
        (["serve", "llama-3.1-8b", "--kv", "fp9"], "unknown cache format 'fp9'; did you mean 'fp8'"),
        (["serve", "llama-3.1-8b", "--kv", "deepseek-v4"], "is a record of latents"),
        (["serve", "llama-3.1-8b", "--plan", "expert"], "use plan='tensor'"),
        (["serve", "llama-3.1-8b", "--curve", "time"], "unknown curve 'time'"),
        (["serve", "llama-3.1-8b", "--reserve", "nan"], "reserve must be a number, got NaN"),
        (["serve", "qwen3-8b", "--check"], "no published serving of qwen3-8b is at hand; known: deepseek-v3"),
        (["model", "nowhere/config.json"], "nowhere"),
        (["model", "/no\x1b[31mwhere/config.json"], r"\x1b[31mwhere"),
        (["compare", "--shape", "16x32"], "is not MxNxK; write it like 128x2112x7168"),
        (["compare", "--shape", "0x3x4"], "m must be at least 1"),
        (["compare", "--shape", f"{2**40}x{2**20}x1"], "of memory, and there are"),
        (["sweep", "acuracy"], "unknown study 'acuracy'; did you mean 'accuracy'?"),
        (["sweep", "promotion", "--set", "kk=1"], "unknown argument of promotion 'kk'; did you mean 'k'?"),
        (["sweep", "promotion", "--set", "k"], "--set 'k' gives no values; write it like --set k=256,1024"),
        (["sweep", "promotion", "--set", "k=1,x"], "--set k=x is no number; write it like --set k=512,2048"),
        (["sweep", "promotion", "--set", "core=no,none"], "every point failed, the first: ValueError: unknown"),
        (["sweep", "promotion", "--set", "k=64,64"], "k holds 64 twice"),
        (["sweep", "promotion", "--workers", "0"], "--workers"),
        (["sweep", "promotion", "--out", "TEXT"], "is no file of a sweep; name another one"),
        (["sweep", "promotion", "--csv", "missing/f.csv"], "no folder missing to write f.csv in"),
        (["compare", "--recipe", "deepseek"], "'deepseek-v3' or 'deepseek-v3.1'"),
        (["compare", "--baseline", "fp17"], "unknown recipe 'fp17'"),
        (["compare", "--tensor", "w"], "--tensor goes with --checkpoint"),
        (["compare", "--activations", "TEXT"], "or --weights FILE.npy"),
        (["compare", "--data", "laplac"], "did you mean 'laplace'"),
        (["compare", "--data", "real", "--shape", "1x1x1"], "leave --shape away"),
        (["compare", "--weights", "TEXT"], ".npy"),
        (["compare", "--weights", "TEXT", "--shape", "1x1x1"], "pass one of them"),
        (["compare", "--weights", "TEXT", "--checkpoint", "CHECKPOINT"], "pass one of them"),
        (["compare", "--checkpoint", "nowhere.safetensors", "--tensor", "w"], "no file nowhere.safetensors"),
        (["compare", "--checkpoint", "CHECKPOINT"], "needs --tensor NAME, such as layer.weight"),
        (["compare", "--checkpoint", "CHECKPOINT", "--tensor", "layer.wieght"], "close names: layer.weight"),
        (["compare", "--checkpoint", "CHECKPOINT", "--tensor", "layer.bias"], "a product needs a matrix"),
        (["compare", "--checkpoint", "CHECKPOINT", "--tensor", "w", "--shape", "1x1x1"], "pass one of them"),
        (["compare", "--checkpoint", "TEXT", "--tensor", "w"], "no readable safetensors file"),
        (["compare", "--checkpoint", "PICKLE", "--tensor", "w"], "looks like a pickle checkpoint"),
        (["compare", "--checkpoint", "CHECKPOINT", "--tensor", "layer.weight", "--activations", "TEXT"], ".npy"),
    ],
)  # fmt: skip
def test_bad_input_gets_status_2_and_one_line(run, checkpoint, tmp_path, arguments, says):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "pickle.bin").write_bytes(b"\x80\x04N.")
    paths = {"CHECKPOINT": checkpoint, "TEXT": tmp_path / "text", "PICKLE": tmp_path / "pickle.bin"}
    status, out, err = run(*[paths.get(a, a) for a in arguments])
    assert (status, out) == (2, "")
    assert err.startswith("fp8sim: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert says.lower() in err.lower()


def test_claims_writes_a_page_and_prints_the_same_as_without(run, tmp_path, asked, verdict):
    status, out, err = run("claims", "--html", tmp_path / "report.html")
    assert (status, err) == (0, f"wrote {tmp_path / 'report.html'}\n")
    assert out == run("claims")[1]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert all(html.escape(line) in text for line in verdict.bottom_line)
    assert 'id="picture-recipes"' in text
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_a_page_in_no_folder_is_refused_before_anything_is_measured(run, tmp_path, monkeypatch):
    monkeypatch.setattr("fp8sim.experiments.claims.claims", None)  # would raise if it were called
    status, out, err = run("claims", "--html", tmp_path / "missing" / "report.html")
    assert (status, out) == (2, "")
    assert "to write report.html in; make it first" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_play_writes_a_page_or_opens_one_and_says_where_it_is(run, tmp_path, monkeypatch):
    file = tmp_path / "play.html"
    assert run("play", "block", "--html", file) == (0, "", f"wrote {file}\n")
    assert file.read_text(encoding="utf-8") == fp8sim.play("block").html
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: not opened.append(address))
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path))
    assert run("play") == (0, "", f"wrote {file}\n")
    assert opened == [file.as_uri()]
    assert file.read_text(encoding="utf-8") == fp8sim.play().html
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    status, _, err = run("play")
    assert (status, err.splitlines()[1]) == (
        2,
        f"fp8sim: found no browser to open {file} with; open that file in one",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["numbr"], "unknown part of the page 'numbr'; did you mean 'number'?"),
        (["--html", "no/such/folder/x.html"], "no folder no/such/folder to write x.html in; make it first"),
    ],
)
def test_play_says_what_to_type_instead(run, words, said):
    assert run("play", *words) == (2, "", f"fp8sim: {said}\n")


def test_explain_tells_of_a_number_a_block_and_a_dot_product(run):
    status, out, err = run("explain", "value", 0.3, "--format", "e4m3")
    assert (status, err) == (0, "")
    assert "above  -> 0 0101 010  0.3125" in out
    assert max(map(len, out.splitlines())) <= 80
    _, out, _ = run("explain", "block", 1.9, -1, "--scale-format", "e8m0", "--scale-rule", "floor")
    assert "1 saturated, 0 flushed of 2" in out
    _, out, _ = run("explain", "dot")
    assert "1-31  0.140625 x 0.140625  0.0197754  +0.0000000000000 │1010001" in out
    _, out, _ = run("explain", "dot", "-7x2", "1x0.5*40", "--promote-every", 32)
    assert "  result    6" in out
    assert out == run("explain", "dot", "-7x2", "1x0.5*40", "--core", "hopper-fp8/32")[1]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    "words",
    [
        [-0.3],
        [".5"],
        ["+2^-10", -0.3],
        ["nan"],
        ["-inf", "--overflow", "ieee", "--format", "e5m2"],
        ["--", -7],
    ],
)
def test_a_first_word_that_is_a_number_is_a_value(run, words):
    assert run("explain", *words) == run("explain", "value", *words)
    assert run("explain", *words)[0] == 0


def test_several_numbers_in_several_formats_stand_apart(run):
    _, out, _ = run("explain", -0.3, "2^-10", "--format", "e4m3", "--format", "fp16")
    assert out.count("format  bits") == 2
    assert "\n\n0.0009765625, nearest-even\n" in out


def test_infinity_has_its_own_code(run):
    _, out, _ = run("explain", "inf", "--format", "e5m2", "--overflow", "ieee", "--json")
    assert json.loads(out)["code"] == 0x7C


def test_explain_prints_data(run):
    _, out, _ = run("explain", 0.3, "--json")
    assert json.loads(out)["code"] == 0x2A
    _, out, _ = run("explain", 0.3, "nan", "--format", "e4m3", "--format", "e5m2", "--json")
    assert [[row["value"] for row in one["formats"]] for one in json.loads(out)] == [[0.3125] * 2, [None] * 2]
    _, out, _ = run("explain", "block", 1, "--format", "e4m3", "--format", "e5m2", "--json")
    assert [one["format"] for one in json.loads(out)] == ["e4m3", "e5m2"]
    _, out, _ = run("explain", "dot", "1x1", "--core", "hopper-fp16", "--json")
    assert json.loads(out)["core"] == "hopper-fp16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "explain what? write numbers"),
        (["value", "x"], "'x' is no number; write one such as 0.3"),
        (["2^9999"], "'2^9999' is beyond float64"),
        (["value"], ". See 'fp8sim explain value --help'"),
        (["blok", "1"], "Did you mean 'block'? See 'fp8sim explain --help'"),
        (["--dot", "1x1"], " See 'fp8sim explain --help'"),
        (["value", "--fromat", "e4m3", "1"], "no such option '--fromat'"),
        (["dot", "--cor", "hopper-fp16"], "no such option '--cor'"),
        (["dot", "3"], "'3' is no product; write AxB"),
        (["dot", "0.3x1"], "a[0, 0] = 0.3"),
        (["0.3", "--format", "e4m33"], "did you mean 'e4m3'"),
        (["0.3", "--rounding", "up"], "unknown rounding 'up'"),
        (["block", "1", "--scale-rule", "celi"], "did you mean 'ceil'"),
    ],
)
def test_explain_says_what_to_type_instead(run, arguments, message):
    status, out, err = run("explain", *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


ANYTHING = {
    "memory": (MemoryError("Unable to allocate 8 EiB"), "Unable to allocate 8 EiB; make it smaller"),
    "memory without a word": (MemoryError(), "this takes more memory than there is; make it smaller"),
    "overflow": (OverflowError("int too large"), "int too large; pass a smaller one"),
    "division": (ZeroDivisionError(), "pass numbers of a more usual size"),
    "recursion": (RecursionError(), "the input is nested too deeply; make it flatter"),
    "unicode": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "pass text in UTF-8"),
    "a library's": (
        RuntimeError("no room\nException raised from: ..."),
        "RuntimeError: no room; make the input",
    ),
    "a bug": (IndexError("tuple index"), "IndexError: tuple index; make the input smaller, or if it is not"),
    "a file": (PermissionError(13, "Permission denied", "x.npy"), "x.npy: Permission denied"),
    "a value": (ValueError("two\nlines"), "two lines"),
}


def failing(monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("fp8sim.models.model_cost", fails)


@pytest.mark.parametrize("what", ANYTHING)
def test_whatever_goes_wrong_gets_status_2_and_one_line(run, monkeypatch, what):
    error, says = ANYTHING[what]
    failing(monkeypatch, error)
    status, out, err = run("model", "deepseek-v3")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("fp8sim: ")
    assert says in err


def test_a_developer_sees_where_it_went_wrong(monkeypatch):
    class Development:
        dev_mode = True

    failing(monkeypatch, IndexError("tuple index"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "flags", Development)
    monkeypatch.setattr(sys, "argv", ["fp8sim", "model", "deepseek-v3"])
    with pytest.raises(IndexError, match="tuple index"):
        cli.main()


def wrapped(error, around):
    """Return an exception that came of another, as libraries make them."""
    try:
        try:
            raise error
        except BaseException:
            raise around  # noqa: B904  (as rich and numpy do)
    except BaseException as chained:
        return chained


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BrokenPipeError(), 0),
        (wrapped(BrokenPipeError(), SystemExit(1)), 0),  # rich's own way out, and typer's
        (SystemExit(1), 1),
        (KeyboardInterrupt(), 130),
        (wrapped(KeyboardInterrupt(), ImportError("numpy.core failed to import")), 130),
    ],
    ids=repr,
)
def test_a_reader_that_has_gone_and_an_interrupt_are_no_errors(run, monkeypatch, error, status):
    failing(monkeypatch, error)
    assert run("model", "deepseek-v3") == (status, "", "")


def shell(line, **environment):
    """Run a shell line in which ``fp8sim`` is this one: (exit status, standard output, standard error)."""
    line = line.replace("fp8sim", f"{sys.executable} -m fp8sim")
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, check=False, env={**os.environ, **environment}, timeout=120
    )
    return done.returncode, done.stdout, done.stderr.decode()


bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@bash
@pytest.mark.parametrize(
    "command", ["formats", "formats --json", "explain 0.3", "model llama-3.1-8b", "--help"]
)
def test_a_closed_pipe_ends_with_status_0(command):
    assert shell(f"fp8sim {command} | true; exit ${{PIPESTATUS[0]}}") == (0, b"", "")


@bash
@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("fp8sim formats >&-", 0, ""),
        ("fp8sim formats --json >&-", 0, ""),
        ("fp8sim formats 2>&- | tail -n 1", 0, ""),
        ("fp8sim formats >&- 2>&- <&-", 0, ""),
        ("fp8sim formats --nothing 2>&-", 2, ""),
        ("fp8sim formats --nothing 2>/dev/full", 2, ""),
        ("fp8sim formats >/dev/full", 2, "fp8sim: No space left on device\n"),
        ("fp8sim formats --json >/dev/full", 2, "fp8sim: No space left on device\n"),
    ],
)
def test_closed_and_full_streams_break_nothing(line, status, says):
    if "/dev/full" in line and not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full")
    returned, _, err = shell(line)
    assert (returned, err) == (status, says)


@bash
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    "command", ["explain 0.3", "explain dot", "formats", "model llama-3.1-8b", "recipes"]
)
def test_a_locale_without_unicode_gets_tables_and_pages_without_it(command, encoding):
    status, out, err = shell(f"fp8sim {command}", PYTHONIOENCODING=encoding)
    assert (status, err) == (0, "")
    assert not re.search(r"\\u|\\x", out.decode(encoding))
    assert "0.3125" in out.decode(encoding) or "explain 0.3" not in command


@bash
def test_what_an_encoding_lacks_is_written_as_python_writes_it(tmp_path):
    status, out, err = shell(f"fp8sim model '{tmp_path}/é…│.json'", PYTHONIOENCODING="ascii")
    assert (status, out) == (2, b"")
    assert "\\xe9...|.json" in err


@pytest.mark.skipif(os.name == "nt", reason="signals are of Unix")
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_an_interrupt_ends_it_with_status_130_and_no_word(delay):
    # From main() on: what Python does before is its own. A command that takes a while is what is interrupted.
    code = (
        "import sys, signal, os; from fp8sim import cli; sys.argv = ['fp8sim', 'compare', '--shape', '2048x8192x8192'];"
        "seen = signal.signal\n"
        "def signal_(*arguments):\n"
        "    seen(*arguments); signal.signal = seen; os.write(1, b'ready')\n"
        "signal.signal = signal_\n"
        "cli.main()"
    )
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {code}"  # may be ignored here
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:
        assert child.stdout.read(5) == b"ready"
        time.sleep(delay)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=120)
    assert (child.returncode, out, err.strip()) == (130, b"", b"")


def test_what_asks_too_much_is_refused_before_it_is_begun(run):
    for arguments, says in (
        (
            ["compare", "--shape", "1000000x1000000x1000000"],
            "generating 1000000x1000000x1000000 takes 16.00 TB",
        ),
        (["compare", "--shape", f"{'9' * 5000}x1x1"], "is not MxNxK"),
        (["explain", "dot", "1x1*100000000000"], "makes it more than 100000 products; pass fewer"),
        (["explain", "dot", *["1x1*60000"] * 2], "makes it more than 100000 products; pass fewer"),
        (["model", "deepseek-v3", "--seq-len", "9" * 160], "seq_len must be at most 9007199254740992"),
        (["train", "--width", "100000000", "--steps", "1"], "takes 3840001.86 TB of memory"),
        (["train", "--sequences", "99999999999", "--steps", "1"], "TB of memory"),
    ):
        status, out, err = run(*arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert says in err


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing/cost.png", "to write cost.png in; make it first"),
        ("cost.what", "matplotlib cannot write .what"),
    ],
)
@pytest.mark.parametrize("command", [["model", "llama-3.1-8b"], ["train"]])
def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_measured(
    run, tmp_path, command, path, message
):
    pytest.importorskip("matplotlib")
    (tmp_path / "old.png").touch(0o444)
    status, out, err = run(*command, "--plot", tmp_path / path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert [file.name for file in tmp_path.iterdir()] == ["old.png"]


def test_a_picture_that_the_disk_has_no_room_for_leaves_the_old_one(run, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib.figure")

    def full(self, stream, **_):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    picture = tmp_path / "cost.svg"
    assert run("model", "llama-3.1-8b", "--plot", picture)[0] == 0
    whole = picture.read_bytes()
    assert whole.rstrip().endswith(b"</svg>")
    monkeypatch.setattr(matplotlib.Figure, "savefig", full)
    status, out, err = run("model", "llama-3.1-8b", "--plot", picture)
    assert (status, out) == (2, "")
    assert "cost.svg: No space left on device" in err
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("cost.svg", whole)]


def test_a_picture_without_matplotlib_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, _, err = run("model", "llama-3.1-8b", "--plot", tmp_path / "cost.png")
    assert (status, err.count("\n")) == (2, 1)
    assert "pip install 'fp8sim[plot]'" in err
    assert not (tmp_path / "cost.png").exists()


QUICK = ["sweep", "promotion", "--set", "k=64,128", "--set", "promote_every=none,32", "--seed", 1]


def test_studies_are_listed_in_80_columns(run):
    status, out, err = run("sweep")
    assert (status, err) == (0, "")
    assert all(name in out for name in STUDIES)
    assert all(len(line) <= 80 for part in STUDIES.parts() for line in part.text(80).splitlines())
    assert json.loads(run("sweep", "--json")[1])["promotion"]["grid"]["core"] == ["hopper-fp8"]


def test_a_study_is_swept_over_what_is_set_and_written(run, tmp_path):
    pytest.importorskip("matplotlib")
    files = ["--out", tmp_path / "f.jsonl", "--csv", tmp_path / "f.csv", "--plot", tmp_path / "f.png"]
    status, out, err = run(*QUICK, *files)
    assert status == 0
    assert err == f"wrote {tmp_path / 'f.csv'}\nwrote {tmp_path / 'f.png'}\n"
    assert out.startswith(STUDIES["promotion"].question)
    assert re.search(r"^k +None +32$", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    header, *lines = (json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines())
    assert header["grid"] == {
        "promote_every": [None, 32],
        "k": [64, 128],
        "core": ["hopper-fp8"],
        "seed": [1],
    }
    data = json.loads(run(*QUICK, "--json", "--out", tmp_path / "f.jsonl")[1])
    assert [row["relative_error"] for row in data["rows"]] == [
        line["result"]["relative_error"] for line in lines
    ]
    assert (data["study"], data["arguments"]) == ("promotion", ["promote_every", "k", "core", "seed"])
    assert (tmp_path / "f.csv").read_text().count("\n") == 5


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ((*QUICK, "--out", "f.jsonl", "--csv", "./f.jsonl"), "--out and --csv are both f.jsonl"),
        ((*QUICK, "--csv", "f.png", "--plot", "link.png"), "--csv and --plot are both link.png"),
        ((*QUICK, "--out", "f.png", "--plot", "f.png"), "--out and --plot are both f.png"),
        (("train", "--out", "f.png", "--plot", "f.png"), "--out and --plot are both f.png"),
    ],
)
def test_one_file_for_two_options_is_refused_before_the_work(run, tmp_path, monkeypatch, command, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.png").symlink_to("f.png")
    status, out, err = run(*command)
    assert (status, out) == (2, "")
    assert says in err
    assert err.endswith("; give each a file of its own\n")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["link.png"]


def test_processes_sweep_to_the_same_bytes(run, tmp_path):
    assert run(*QUICK, "--out", tmp_path / "one.jsonl")[0] == 0
    status, _, err = run(*QUICK, "--out", tmp_path / "two.jsonl", "--workers", 2)
    assert (status, err) == (0, "")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_points_that_fail_are_told_of_and_the_rest_is_shown(run, tmp_path):
    pytest.importorskip("matplotlib")
    status, out, err = run(*QUICK, "--set", "core=hopper-fp8,hoper", "--plot", tmp_path / "f.png")
    assert (status, err) == (0, f"wrote {tmp_path / 'f.png'}\n")
    assert "4 points failed, the first: ValueError: unknown tensor core 'hoper'" in " ".join(out.split())


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("bad", ["k=0", "k=-5", "seed=-1"])
def test_a_length_or_a_seed_that_is_none_is_refused_in_one_line(run, study, bad):
    name, _, value = bad.partition("=")
    if name in STUDIES[study].grid:
        status, out, err = run("sweep", study, "--set", bad, *["--seed", 0] * (name != "seed"))
        assert (status, out) == (2, "")
        assert f"every point failed, the first: ValueError: {name} must be at least " in err
        assert err.endswith(f", got {value}\n")


#: The command line, where a shell in the background has interrupts ignored too.
MAY_INTERRUPT = """
import signal
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from fp8sim.cli import main
    main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are of Unix")
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_an_interrupted_sweep_says_nothing_and_can_be_gone_on_from(tmp_path, workers):
    file, command = (
        tmp_path / "f.jsonl",
        [sys.executable, "-c", MAY_INTERRUPT, "sweep", "promotion", "--seed", "0"],
    )
    command += ["--set", f"k={','.join(map(str, range(32, 32032, 32)))}", "--out", str(file), *workers]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, start_new_session=True) as child:
        while not file.exists() or file.read_bytes().count(b"\n") < 3:
            assert child.poll() is None
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does
        out, err = child.communicate(timeout=120)
    assert (child.returncode, out, err) == (130, b"", b"")
    assert 3 <= file.read_bytes().count(b"\n") < 5001
