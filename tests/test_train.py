"""Training runs: the same bits again, after interruption too; losses compared as the report compares them."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fp8sim
from fp8sim._support.results import plain_data
from fp8sim.costs.devices import get_device
from fp8sim.experiments.claims import sentence
from fp8sim.experiments.claims.accuracy import Setting, training_loss
from fp8sim.experiments.claims.rules import loss_rule
from fp8sim.experiments.gradient_outliers import gradient_outliers, token_gradients
from fp8sim.experiments.train import (
    DEFAULT_RECIPES,
    ModelSize,
    RunResult,
    Schedule,
    Training,
    recorded_training,
    train,
    trainer,
)
from fp8sim.experiments.train.corpus import Corpus, read_corpus
from fp8sim.experiments.train.jobs import Job
from fp8sim.experiments.train.losses import compare_losses, relative_errors, smooth
from fp8sim.training import GEMMS, LinearGemms, get_training_recipe

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the torch extra")

TINY = {"width": 32, "layers": 1, "heads": 2, "context": 16}


FAST = {"sequences": 2, "peak_lr": 2e-3}


def tiny(recipes, *, steps=4, sequences=2, **options):
    schedule = Schedule(**{**FAST, "steps": steps, "sequences": sequences})
    return train(recipes, size=ModelSize(**TINY), schedule=schedule, **options)


# Losses and their comparison


def test_smoothing_is_the_moving_average_of_the_report():
    losses = [4.0, 3.0, 2.5]
    np.testing.assert_allclose(smooth(losses), [4.0, 0.9 * 4 + 0.1 * 3, 0.9 * 3.9 + 0.1 * 2.5])
    assert losses == [4.0, 3.0, 2.5]


def test_a_relative_error_compares_smoothed_losses():
    found = relative_errors([4.0, 3.0], [4.0, 2.0])
    np.testing.assert_allclose(found, [0, 3.9 / 3.8 - 1])


def curves(recipe, seed, losses, **options):
    return RunResult(recipe, seed, tuple(losses), **options)


def test_rows_average_over_seeds_and_the_last_half_of_the_steps():
    runs = [
        curves("bf16", 0, [2.0] * 4),
        curves("x", 0, [9.0, 2.0, 2.0, 2.0], saturated=0.1),
        curves("bf16", 1, [1.0] * 4),
        curves("x", 1, [1.0, 1.0, 1.01, 1.01], saturated=0.3),
    ]
    base, row = compare_losses(runs, "bf16")
    first = np.array([9, 8.3, 7.67, 7.103])[2:] / 2 - 1
    second = np.array([1.001, 1.0019]) - 1
    assert row.error == pytest.approx((first.mean() + second.mean()) / 2)
    assert (row.error_low, row.error_high) == pytest.approx((second.mean(), first.mean()))
    assert row.largest == pytest.approx(first.max())
    assert row.loss == pytest.approx((7.103 + 1.0019) / 2)
    assert row.loss_spread == pytest.approx((7.103 - 1.0019) / 2)
    assert row.saturated == pytest.approx(0.2)
    assert (base.error, base.largest) == (0, 0)


def training(runs):
    return Training(
        "bf16", "text", {"layers": 1, "width": 8, "context": 4}, {"steps": 4, "sequences": 1}, tuple(runs)
    )


def test_what_was_written_as_json_comes_back():
    result = training([curves("bf16", 0, [2.0, 1.0]), curves("x", 0, [2.0, math.nan], diverged=True)])
    again = Training.from_dict(json.loads(json.dumps(result.to_dict())))
    assert str(again) == str(result)
    assert again.run("bf16", 0).losses == (2.0, 1.0)


def test_what_the_command_prints_as_json_comes_back():
    layers = {"a": {g: {"sqnr_db": math.inf, "saturated": 0.0, "flushed": 0.0} for g in GEMMS}}
    result = training([curves("bf16", 0, [2.0, 1.0]), curves("fp32", 0, [2.0, math.nan], layers=layers)])
    again = Training.from_dict(json.loads(json.dumps(plain_data(result.to_dict()))))
    assert str(again)
    assert math.isnan(again.run("fp32", 0).losses[1])


@pytest.mark.parametrize("data", [{}, {"runs": 3}, {"runs": [{"losses": [], "what": 1}]}, []])
def test_other_data_is_no_training(data):
    with pytest.raises(ValueError, match="as fp8sim train --json prints it"):
        Training.from_dict(data)


def cells(result):
    return {row[0].strip(): row for row in result.parts()[0].rows}


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [([2.001] * 4, "yes"), ([2.0, 2.0, 2.06, 1.9], "on average"), ([2.1] * 4, "no")],
)
def test_the_verdict_says_whether_all_of_the_last_half_is_within_the_published_limit(losses, verdict):
    result = training([curves("bf16", 0, [2.0] * 4), curves("deepseek-v3", 0, losses)])
    assert cells(result)["deepseek-v3"][7] == verdict


def test_a_run_that_diverged_has_no_figures_and_is_counted():
    result = training(
        [curves("bf16", 0, [2.0] * 4), curves("deepseek-v3-no-promotion", 0, [2.0, math.inf], diverged=True)]
    )
    assert result.rows[1].diverged == 1
    assert cells(result)["v3 no-promotion"][1] == "diverged 1/1"
    assert cells(result)["v3 no-promotion"][7] == "no"
    assert "<table>" in result._repr_html_()
    assert json.dumps(result.to_dict()["rows"][0])


# Text


def test_a_batch_depends_on_seed_and_step_alone_and_targets_follow_inputs():
    corpus = Corpus(np.arange(200, dtype=np.uint8), "numbers")
    inputs, targets = corpus.batch(3, 8, seed=1, step=5)
    again, _ = corpus.batch(3, 8, seed=1, step=5)
    np.testing.assert_array_equal(inputs, again)
    np.testing.assert_array_equal(targets, inputs + 1)
    assert not np.array_equal(inputs, corpus.batch(3, 8, seed=1, step=6)[0])
    assert not np.array_equal(inputs, corpus.batch(3, 8, seed=2, step=5)[0])


def test_every_byte_of_a_text_can_be_a_target():
    corpus = Corpus(np.arange(10, dtype=np.uint8), "ten")
    seen = np.concatenate([corpus.batch(4, 8, seed=0, step=s)[1].ravel() for s in range(50)])
    assert set(seen) == set(range(1, 10))


def test_files_are_read_in_the_order_given(tmp_path):
    for name, text in (("b", "first " * 1000), ("a", "second " * 1000)):
        (tmp_path / name).write_text(text)
    corpus = read_corpus([tmp_path / "b", tmp_path / "a"])
    assert corpus.text.tobytes().startswith(b"first ")
    assert corpus.source == "b, a, 2 files, 0.01 MB"


def test_too_little_text_is_refused(tmp_path):
    (tmp_path / "short").write_text("short")
    with pytest.raises(ValueError, match="short has 5 bytes, too few"):
        read_corpus([tmp_path / "short"])
    with pytest.raises(FileNotFoundError):
        read_corpus([tmp_path / "missing"])


# Training


@needs_torch
@pytest.mark.extra
def test_runs_start_from_the_same_bits_and_repeat_to_the_bit():
    first = tiny(["fp32", "deepseek-v3"], seeds=2)
    again = tiny(["fp32", "deepseek-v3"], seeds=2)
    assert [run.digest for run in first.runs] == [run.digest for run in again.runs]
    assert len({run.digest for run in first.runs}) == 6
    by_seed = {
        seed: {first.run(r, seed).losses[0] for r in ("bf16", "fp32", "deepseek-v3")} for seed in (0, 1)
    }
    for losses in by_seed.values():  # the same parameters and batch, rounded differently
        assert max(losses) - min(losses) < 0.01
    assert abs(min(by_seed[0]) - min(by_seed[1])) > 0.001


@needs_torch
@pytest.mark.extra
def test_the_fp32_recipe_trains_as_plain_pytorch_does():
    import torch

    from fp8sim.experiments.train.language_model import LanguageModel

    result = tiny(["fp32"], seeds=1, steps=6)
    schedule, corpus = Schedule(steps=6, **FAST), read_corpus()
    torch.manual_seed(0)
    model = LanguageModel(ModelSize(**TINY))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    losses = []
    for step in range(6):
        optimizer.param_groups[0]["lr"] = schedule.lr(step)
        tokens, targets = (torch.from_numpy(t) for t in corpus.batch(2, 16, seed=0, step=step))
        loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(result.run("fp32", 0).losses, losses, rtol=1e-5)


@needs_torch
@pytest.mark.extra
def test_a_model_learns():
    losses = tiny(["deepseek-v3"], seeds=1, steps=40, sequences=8).run("deepseek-v3", 0).losses
    assert losses[0] == pytest.approx(math.log(256), abs=0.1)
    assert np.mean(losses[-5:]) < 4.5


@needs_torch
@pytest.mark.extra
def test_counters_tell_layers_and_products_apart():
    result = tiny(["fp8-tensor", "deepseek-v3", "deepseek-v3-e5m2-gradients"], seeds=1)
    layers = result.run("deepseek-v3-e5m2-gradients", 0).layers
    assert list(layers) == ["blocks.0.qkv", "blocks.0.out", "blocks.0.up", "blocks.0.down"]
    assert list(layers["blocks.0.up"]) == ["fprop", "dgrad", "wgrad"]
    assert 25 < layers["blocks.0.up"]["fprop"]["sqnr_db"] < 40
    with_e4m3 = result.run("deepseek-v3", 0).layers["blocks.0.up"]
    for gemm in ("dgrad", "wgrad"):  # a mantissa bit of one operand of two
        assert 2 < with_e4m3[gemm]["sqnr_db"] - layers["blocks.0.up"][gemm]["sqnr_db"] < 6
    assert abs(with_e4m3["fprop"]["sqnr_db"] - layers["blocks.0.up"]["fprop"]["sqnr_db"]) < 2
    assert result.run("fp8-tensor", 0).flushed > 0
    titles = [table.title for table in result.parts()]
    assert titles[1:] == [f"SQNR of {gemm} by layer, dB" for gemm in ("fprop", "dgrad", "wgrad")]


@needs_torch
@pytest.mark.extra
def test_progress_counts_all_steps_and_ends_with_nothing_left():
    seen = []
    tiny(["deepseek-v3"], seeds=2, on_step=seen.append)
    assert [at.done for at in seen] == list(range(1, 17))
    assert {at.total for at in seen} == {16}
    assert seen[-1].seconds_left == 0
    assert seen[0].seconds_left > 0
    assert all(at.tokens_per_second > 0 for at in seen)


@needs_torch
@pytest.mark.extra
def test_an_executor_of_the_caller_gives_the_same_bits():
    seen = []
    with ThreadPoolExecutor(3) as pool:
        mapped = tiny(["deepseek-v3"], seeds=2, executor=pool, on_step=seen.append)
    assert [run.digest for run in mapped.runs] == [run.digest for run in tiny(["deepseek-v3"], seeds=2).runs]
    assert [at.done for at in seen] == [4, 8, 12, 16]


def test_speed_and_time_left_count_steps_whether_runs_report_each_or_at_their_end(monkeypatch):
    job = Job(get_training_recipe("bf16"), 0, ModelSize(**TINY), Schedule(steps=4, sequences=2))
    for stride in (1, 4):
        seen, now = [], [0.0]
        monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda now=now: now[0]))
        clock = trainer._Clock([job] * 3, seen.append)
        for index in range(3):
            for step in range(stride, 5, stride):
                now[0] += stride / 2  # half a second a step
                clock.of(index, stride)(step, 4.0)
        assert {at.tokens_per_second for at in seen} == {2 * 16 / 0.5}
        assert [at.seconds_left for at in seen] == [(12 - at.done) / 2 for at in seen]
        assert [at.done for at in seen] == list(range(stride, 13, stride))


@needs_torch
@pytest.mark.extra
def test_one_recipe_is_a_list_of_one():
    result = tiny("fp32", seeds=1)
    assert [run.recipe for run in result.runs] == ["bf16", "fp32"]
    assert repr(result) == str(result)
    assert repr(result).startswith("Loss under each recipe, against bf16\n")


@needs_torch
@pytest.mark.extra
def test_settings_of_pytorch_are_left_as_they_were():
    import torch

    torch.manual_seed(5)
    before = torch.get_rng_state(), torch.get_num_threads()
    tiny(["fp32"], seeds=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert not torch.are_deterministic_algorithms_enabled()


@needs_torch
@pytest.mark.extra
def test_a_loss_that_is_not_finite_ends_a_run_as_diverged(monkeypatch, tmp_path):
    from fp8sim.experiments.train import language_model

    loss, calls = language_model.LanguageModel.loss, []

    def breaks(self, *batch):
        calls.append(1)
        return loss(self, *batch) * (math.inf if len(calls) == 3 else 1)

    monkeypatch.setattr(language_model.LanguageModel, "loss", breaks)
    result = tiny([], baseline="deepseek-v3", seeds=1, folder=tmp_path)
    assert result.runs[0].diverged
    assert len(result.runs[0].losses) == 3
    last = json.loads((tmp_path / "deepseek-v3-seed0.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["loss"], last["gradient_norm"]) == (3, None, None)


# Logs, checkpoints and interruption


@needs_torch
@pytest.mark.extra
def test_a_folder_gets_one_line_a_step_and_no_partial_files(tmp_path):
    result = tiny(["fp8-delayed"], seeds=1, folder=tmp_path / "new")
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == [f"{r}-seed0.{kind}" for r in ("bf16", "fp8-delayed") for kind in ("jsonl", "pt")]
    lines = [json.loads(line) for line in (tmp_path / "new" / "bf16-seed0.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert tuple(line["loss"] for line in lines) == result.run("bf16", 0).losses
    assert all(line["elements"] > 0 and line["gradient_norm"] > 0 for line in lines)


@needs_torch
@pytest.mark.extra
def test_a_scaled_run_that_meets_nan_has_diverged_and_the_others_go_on():
    schedule = Schedule(steps=30, sequences=2, peak_lr=1e3)
    result = train(["deepseek-v3", "fp32"], seeds=1, size=ModelSize(**TINY), schedule=schedule)
    assert result.run("deepseek-v3", 0).diverged
    assert cells(result)["deepseek-v3"][1].startswith("diverged")


@needs_torch
@pytest.mark.extra
@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_named_and_left(tmp_path, content):
    tiny([], seeds=1, folder=tmp_path)
    (tmp_path / "bf16-seed0.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"bf16-seed0.pt is damaged or no checkpoint"):
        tiny([], seeds=1, folder=tmp_path, resume=True)
    assert (tmp_path / "bf16-seed0.pt").read_bytes() == content


@needs_torch
@pytest.mark.extra
def test_no_flipped_bit_of_a_checkpoint_is_taken_up(tmp_path):
    from fp8sim.experiments.train.run import _unsealed

    tiny([], seeds=1, folder=tmp_path)
    path = tmp_path / "bf16-seed0.pt"
    whole = path.read_bytes()
    assert set(_unsealed(whole)) == {"fingerprint", "log", "model", "optimizer", "run"}
    places = [*range(0, len(whole), 101), *range(len(whole) - 40, len(whole))]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match="digest"):
            _unsealed(bytes(flipped))
    flipped = bytearray(whole)
    flipped[len(whole) // 4] ^= 16
    for damaged in (bytes(flipped), whole[:-1], whole + b"\0", whole[32:]):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"bf16-seed0.pt is damaged or no checkpoint.*delete it, or start"
        ):
            tiny([], seeds=1, folder=tmp_path, resume=True)
        assert path.read_bytes() == damaged


@needs_torch
@pytest.mark.extra
@pytest.mark.parametrize(
    "key", ["fingerprint", "model", "optimizer", "run", "a run without losses", "a shape"]
)
def test_an_edited_checkpoint_is_refused_in_the_same_words(tmp_path, key):
    from fp8sim.experiments.train import run

    tiny([], seeds=1, folder=tmp_path)
    path = tmp_path / "bf16-seed0.pt"
    state = run._unsealed(path.read_bytes())
    if key == "a shape":
        state["model"] = {name: value[:1] for name, value in state["model"].items()}
    elif key == "a run without losses":
        state["run"] = "{}"
    else:
        del state[key]
    path.write_bytes(run._sealed(state))
    with pytest.raises(ValueError, match=r"bf16-seed0.pt is damaged or no checkpoint"):
        tiny([], seeds=1, folder=tmp_path, resume=True)


@needs_torch
@pytest.mark.extra
@pytest.mark.parametrize("keep", [0, 2, None])
def test_a_log_shorter_than_its_checkpoint_is_refused(tmp_path, keep):
    tiny([], seeds=1, folder=tmp_path)
    log = tmp_path / "bf16-seed0.jsonl"
    if keep is None:
        log.unlink()
    else:
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:keep]) + "{")
    with pytest.raises(ValueError, match="has fewer lines than its checkpoint has steps, 4"):
        tiny([], seeds=1, folder=tmp_path, resume=True)


@needs_torch
@pytest.mark.extra
def test_a_log_with_a_flipped_bit_is_refused(tmp_path):
    tiny([], seeds=1, folder=tmp_path)
    log = tmp_path / "bf16-seed0.jsonl"
    content = bytearray(log.read_bytes())
    content[20] ^= 1
    log.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: it is not what its checkpoint was written with"):
        tiny([], seeds=1, folder=tmp_path, resume=True)


@needs_torch
@pytest.mark.extra
def test_starting_anew_leaves_no_checkpoint_of_the_run_before(tmp_path, monkeypatch):
    from fp8sim.experiments.train import run as training_run

    tiny([], seeds=1, folder=tmp_path)
    monkeypatch.setattr(training_run._Run, "save", lambda self: None)  # as if it was killed early
    tiny([], seeds=1, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bf16-seed0.jsonl"]


@needs_torch
@pytest.mark.extra
def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    import torch

    tiny([], seeds=1, folder=tmp_path)
    before = (tmp_path / "bf16-seed0.pt").read_bytes()

    def full(state, file):
        file.write(b"half")
        raise RuntimeError("write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="is the disk full"):
        tiny([], seeds=1, folder=tmp_path, resume=True)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".jsonl", ".pt"]
    assert (tmp_path / "bf16-seed0.pt").read_bytes() == before


def test_recipes_of_one_name_are_refused():
    mine = dataclasses.replace(get_training_recipe("deepseek-v3"), cached_input="original")
    with pytest.raises(ValueError, match="two recipes have one name"):
        tiny(["deepseek-v3", mine])
    with pytest.raises(ValueError, match="seeds is empty"):
        tiny(["deepseek-v3"], seeds=[])


CHILD = """
import sys
from fp8sim.experiments.train.jobs import Job, ModelSize, Schedule
from fp8sim.experiments.train.run import run_job
from fp8sim.training import get_training_recipe
recipe, folder, resume = sys.argv[1:]
job = Job(get_training_recipe(recipe), 3, ModelSize(width=32, layers=1, heads=2, context=16),
          Schedule(steps=40, sequences=2), folder=__import__("pathlib").Path(folder), resume=resume == "resume",
          save_every=3)
print(run_job(job).digest)
"""


def child(recipe, folder, mode="anew", **options):
    command = [sys.executable, "-c", CHILD, recipe, str(folder), mode]
    source = str(Path(fp8sim.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)


@needs_torch
@pytest.mark.extra
@pytest.mark.parametrize("recipe", ["deepseek-v3-stochastic-gradients", "fp8-delayed"])
def test_a_run_that_was_killed_resumes_to_the_same_bits(recipe, tmp_path):
    whole = child(recipe, tmp_path / "whole")
    killed = child(recipe, tmp_path / "killed")
    log = tmp_path / "killed" / f"{recipe}-seed3.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().splitlines()) >= 8):  # between two checkpoints, or near
        assert killed.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    assert 8 <= len(log.read_text().splitlines()) < 40
    resumed = child(recipe, tmp_path / "killed", "resume")
    expected, found = whole.communicate()[0], resumed.communicate()[0]
    assert len(found.strip()) == 64
    assert found == expected
    assert log.read_bytes() == (tmp_path / "whole" / log.name).read_bytes()


@needs_torch
@pytest.mark.extra
def test_resuming_what_is_finished_gives_the_same_result_at_once(tmp_path):
    first = tiny(["deepseek-v3"], seeds=1, folder=tmp_path)
    seen = []
    again = tiny(["deepseek-v3"], seeds=1, folder=tmp_path, resume=True, on_step=seen.append)
    assert seen == []
    for mine, theirs in zip(again.runs, first.runs, strict=True):
        assert (mine.losses, mine.layers, mine.digest) == (theirs.losses, theirs.layers, theirs.digest)
        assert (mine.saturated, mine.flushed) == (theirs.saturated, theirs.flushed)


@needs_torch
@pytest.mark.extra
def test_without_resume_a_folder_is_started_anew(tmp_path):
    tiny([], seeds=1, folder=tmp_path)
    tiny([], seeds=1, folder=tmp_path)
    assert len((tmp_path / "bf16-seed0.jsonl").read_text().splitlines()) == 4


EDITS = {
    "no model": lambda state: state.pop("model"),
    "no optimizer": lambda state: state.pop("optimizer"),
    "no run": lambda state: state.pop("run"),
    "no JSON": lambda state: state.update(run="{"),
    "a run without losses": lambda state: state.update(run="{}"),
    "another shape": lambda state: state["model"].update({"norm.weight": state["model"]["norm.weight"][:1]}),
    "a list": lambda state: state.update(model=[]),
}


@needs_torch
@pytest.mark.extra
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_checkpoint_is_refused(tmp_path, edit):
    import torch

    tiny([], seeds=1, folder=tmp_path)
    file = tmp_path / "bf16-seed0.pt"
    state = torch.load(file, weights_only=True)
    EDITS[edit](state)
    torch.save(state, file)
    with pytest.raises(ValueError, match=r"bf16-seed0.pt is damaged or no checkpoint of fp8sim train"):
        tiny([], seeds=1, folder=tmp_path, resume=True)


@needs_torch
@pytest.mark.extra
def test_two_runs_do_not_write_in_one_folder(tmp_path):
    pytest.importorskip("fcntl")

    def again(progress):
        with pytest.raises(ValueError, match="another run writes in"):
            tiny([], seeds=1, folder=tmp_path)

    result = tiny([], seeds=1, folder=tmp_path, on_step=again)
    lines = (tmp_path / "bf16-seed0.jsonl").read_text().splitlines()
    assert len(lines) == len(result.run("bf16", 0).losses)


def test_a_training_that_cannot_fit_is_refused_before_it_is_begun():
    with pytest.raises(ValueError, match=r"training \d+ parameters on 32 bytes a step takes .* TB of memory"):
        train([], seeds=1, size=ModelSize(**{**TINY, "width": 10**8}), schedule=Schedule(sequences=2))


@needs_torch
@pytest.mark.extra
def test_a_checkpoint_of_other_options_is_refused(tmp_path):
    tiny([], seeds=1, folder=tmp_path)
    with pytest.raises(ValueError, match=r"bf16-seed0.pt was started with other options or text"):
        tiny([], seeds=1, folder=tmp_path, resume=True, steps=5)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"resume": True}, ValueError, "pass folder="),
        ({"seeds": 0}, ValueError, "seeds must be at least 1"),
        ({"recipes": 3}, TypeError, "recipes must be a name, a TrainingRecipe, or a list of them, got 3"),
        ({"recipes": "bf17"}, ValueError, "did you mean 'bf16'"),
        ({"recipes": ["bf17"]}, ValueError, "did you mean 'bf16'"),
        ({"baseline": "none"}, ValueError, "unknown training recipe"),
        ({"seeds": [False]}, TypeError, "a seed must be a whole number, got False"),
        ({"seeds": [-1]}, ValueError, "a seed must be at least 0, got -1"),
        ({"files": ["/dev/null"]}, ValueError, "/dev/null is a device, a pipe or a socket; name a file"),
    ],
)
def test_bad_options_of_train_are_refused(options, error, match):
    with pytest.raises(error, match=match):
        tiny(options.pop("recipes", []), **options)


def test_sizes_and_schedules_check_their_numbers():
    with pytest.raises(ValueError, match="width 100 must be a multiple of twice the heads, 8; try 104"):
        ModelSize(width=100)
    with pytest.raises(ValueError, match="layers must be at least 1"):
        ModelSize(layers=0)
    with pytest.raises(ValueError, match="learning rate must be positive"):
        Schedule(peak_lr=0)


@needs_torch
@pytest.mark.extra
def test_the_model_sees_no_byte_that_is_to_come_and_counts_its_parameters():
    import torch

    from fp8sim.experiments.train.language_model import LanguageModel

    size = ModelSize(**TINY)
    model = LanguageModel(size)
    assert sum(p.numel() for p in model.parameters()) == size.parameters
    linear = [m for m in model.blocks.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(m.weight.numel() for m in linear) == size.emulated
    tokens = torch.randint(0, 256, (1, 16))
    changed = tokens.clone()
    changed[0, 9] ^= 1
    differ = (model(tokens) != model(changed)).any(dim=-1)[0]
    assert differ.tolist() == [False] * 9 + [True] * 7


# Outliers among tokens


def test_generated_gradients_have_the_asked_spread():
    dy = token_gradients(4000, 16, 1.5, np.random.default_rng(0))
    sizes = np.log10(np.sqrt((dy.astype(np.float64) ** 2).mean(axis=1)))
    assert sizes.std() == pytest.approx(1.5, rel=0.05)
    assert np.median(sizes) == pytest.approx(-4, abs=0.1)
    assert dy.dtype == np.float32


def test_block_scales_lose_small_tokens_and_token_scales_none():
    result = gradient_outliers(spreads=[0, 2], tokens=256, width=256)
    rows = {(row.decades, row.recipe): row for row in result.rows}
    blocks, fine = "deepseek-v3-block-gradients", "deepseek-v3"
    assert rows[0, blocks].lost_tokens == rows[0, fine].lost_tokens == rows[2, fine].lost_tokens == 0
    assert rows[2, blocks].lost_tokens > 0.2
    assert rows[2, blocks].flushed > 100 * rows[2, fine].flushed
    assert rows[2, blocks].worst_cosine < 0.5 < 0.99 < rows[2, fine].worst_cosine
    # The Frobenius error of all tokens does not show it.
    assert rows[2, blocks].whole_error == pytest.approx(rows[2, fine].whole_error, rel=0.1)
    assert "lost" in str(result)


def test_lost_tokens_are_those_far_below_the_largest_of_their_block():
    rng = np.random.default_rng(0)
    dy = token_gradients(128, 128, 2.0, rng)
    gemms = LinearGemms(get_training_recipe("deepseek-v3-block-gradients"))
    _, saved = gemms.forward(np.zeros((1, 128), np.float32), np.eye(128, dtype=np.float32))
    dx, _ = gemms.backward(dy, saved, wgrad=False)
    smallest = np.abs(dy).max() / 448 * 2.0**-10  # half of E4M3's smallest subnormal, 2^-9
    np.testing.assert_array_equal(~dx.any(axis=1), np.abs(dy).max(axis=1) <= smallest)


def test_one_recipe_by_name_or_of_your_own_is_a_list_of_one():
    mine = dataclasses.replace(get_training_recipe("deepseek-v3"), name="mine")
    options = {"spreads": [1.0], "tokens": 8, "width": 8}
    first, second = (gradient_outliers(one, **options).rows for one in ("deepseek-v3", mine))
    assert [row.recipe for row in (*first, *second)] == ["deepseek-v3", "mine"]
    assert dataclasses.replace(second[0], recipe="deepseek-v3") == first[0]
    assert repr(gradient_outliers("bf16", **options)).startswith("Token-correlated outliers")


def test_delayed_scaling_has_no_past_to_scale_by():
    with pytest.raises(ValueError, match="scales by the past"):
        gradient_outliers(["fp8-delayed"], spreads=[1.0], tokens=8, width=8)


# Claims


LIMIT = 0.0025  # of the DeepSeek-V3 report
LONG = {"steps": 10**6, "sequences": 10**3}  # of 1024 bytes: a trillion tokens


def claim_row(*losses, steps=100, sequences=16, made="Made for a test.", blocks=1.002):
    """The row on training, of one curve per seed and a baseline that stays at 1."""
    runs = []
    for seed, ours in enumerate(losses):
        runs += [curves("bf16", seed, [1.0] * len(ours)), curves("fp32", seed, [1.0] * len(ours))]
        runs += [curves("deepseek-v3-block-gradients", seed, [blocks] * len(ours))]
        runs += [curves("deepseek-v3", seed, ours, diverged=any(map(math.isnan, ours)))]
    schedule = {"steps": steps, "sequences": sequences}
    training = Training("bf16", "made up", {"parameters": 1.5e6, "context": 1024}, schedule, tuple(runs))
    (row,) = training_loss(Setting(get_device("h800"), (0,), (), training, made))
    return row


@pytest.mark.parametrize(
    ("losses", "schedule", "verdict"),
    [
        ([[1.001] * 4], {}, "partly"),  # too few tokens to show that it holds
        ([[1.004] * 4], {}, "does not hold"),
        ([[0.996] * 4], {}, "does not hold"),  # as far off, if to the better
        ([[1.001] * 4], LONG, "holds"),
        ([[1.004] * 4], LONG, "does not hold"),
        ([[1.0, math.nan]], LONG, "does not hold"),
        ([[1.001] * 4, [1.0, math.nan]], {}, "does not hold"),  # one seed of two diverged
        ([[1.0, math.nan], [1.001] * 4], {}, "does not hold"),
    ],
)
def test_a_training_refutes_the_claim_at_any_length_and_shows_it_at_full_length_only(
    losses, schedule, verdict
):
    row = claim_row(*losses, **schedule)
    assert row.verdict == verdict
    assert row.verdict == loss_rule(LIMIT, 1e12 if schedule else 1e6, 0.9e12)(row.measured)


@pytest.mark.parametrize(
    ("tokens", "verdict"),
    [(0.9e12, "holds"), (0.899e12, "partly"), (0, "partly"), (math.nan, "partly"), (math.inf, "partly")],
)
def test_it_takes_as_many_tokens_as_the_report_trained_on(tokens, verdict):
    rule = loss_rule(LIMIT, tokens, 0.9e12)
    assert rule(LIMIT) == verdict
    assert rule(None) == "not measured"
    assert rule(np.nextafter(LIMIT, 1)) == rule(math.nan) == "does not hold"


def test_the_row_on_training_says_what_it_saw_and_what_a_recipe_that_diverged_gives():
    row = claim_row([1.001] * 4, [0.998] * 4)
    assert (row.measured, row.published) == (pytest.approx(0.002), LIMIT)
    assert row.agreement is None  # the report's models are others
    assert "On average -0.0500 % (seeds: -0.2000 % to +0.1000 %)" in row.why
    assert "diverged (B.2), give 0.200 % here, and it passes too" in row.why
    assert row.why.endswith("Made for a test.")
    assert "it does not pass too" not in row.why
    assert "give 0.400 % here, and it does not pass" in claim_row([1.001] * 4, blocks=1.004).why
    assert row.ruling == (  # 100 steps of 16 times 1024 bytes
        "loss error of 1.64 M tokens, where it takes 900.00 G: cannot show that it holds, "
        "partly up to 0.0025 (0.2 %)"
    )


def test_the_recorded_training_is_one_with_the_defaults_of_train():
    training, made = recorded_training()
    assert {row.recipe for row in training.rows} == {"bf16", *DEFAULT_RECIPES}
    assert training.schedule == json.loads(json.dumps(dataclasses.asdict(Schedule())))
    assert training.size.items() >= dataclasses.asdict(ModelSize()).items()
    assert all(row.seeds == 2 and row.diverged == 0 for row in training.rows)
    (row,) = training_loss(Setting(get_device("h800"), (0,), (), training, made))
    assert (row.basis, row.verdict) == ("recorded", "partly")
    assert row.measured == next(r.largest for r in training.rows if r.recipe == "deepseek-v3")
    assert row.why.endswith(made)


def test_claims_that_train_anew_ask_for_pytorch_before_anything_is_measured(monkeypatch):
    def train_without_pytorch(*_, **__):
        raise ModuleNotFoundError("training needs PyTorch: pip install 'fp8sim[torch]'")

    monkeypatch.setattr(sentence, "train", train_without_pytorch)
    parts = []
    with pytest.raises(ImportError, match="training needs PyTorch"):
        fp8sim.claims(train=True, on_part=parts.append)
    assert parts == ["training"]


@needs_torch
@pytest.mark.extra
def test_claims_train_anew_as_was_recorded_from_their_own_seed(monkeypatch):
    asked = []

    def train_fast(recipes, *, seeds):
        asked.append((recipes, seeds))
        return tiny(recipes, seeds=seeds)

    monkeypatch.setattr(sentence, "train", train_fast)
    monkeypatch.setattr(sentence, "_PARTS", {"loss of a training": training_loss})
    monkeypatch.setattr(sentence, "bottom_line", lambda rows: [])
    monkeypatch.setattr(sentence, "answers", lambda rows: {})
    (row,) = fp8sim.claims(train=True, seed=3).rows
    assert asked == [(DEFAULT_RECIPES, [3, 4])]
    assert row.verdict in ("partly", "does not hold")
    assert 0 < row.measured < 0.05
    assert row.basis == "emulated"  # not an earlier run
    assert "Recorded" not in row.why
