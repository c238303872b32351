"""The benchmarks run, and their harness refuses to time what does not agree."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import harness
from harness import Case, Options, Peer

FOLDER = Path(harness.__file__).parent
SCRIPTS = sorted(FOLDER.glob("bench_*.py"))


def run(script: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(script), *options], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_runs_small(script, tmp_path):
    if script.stem == "bench_products":
        pytest.importorskip("numba", reason="products take minutes without numba")
    file = tmp_path / "figures.json"
    printed = run(script, "--smoke", "--json", str(file))
    report = json.loads(file.read_text())
    assert report["smoke"]
    assert report["cases"]
    assert report["versions"]["numpy"] == np.__version__
    for case in report["cases"]:
        assert case["case"] in printed
        assert case["seconds"] > 0
        assert all(row["ratio"] > 0 for row in case["peers"])


def test_the_walk_over_float32_runs_small():
    assert "65,536 float32 inputs" in run(FOLDER / "exhaustive_float32.py", "--smoke")


def test_the_walk_over_float32_finds_a_wrong_code(monkeypatch):
    import ml_dtypes

    import exhaustive_float32

    x = np.float32([1.0, 1.0625, 1.1875, -3.0])
    right = exhaustive_float32.differences(x, "e4m3", ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(right, [False] * 4)
    wrong = exhaustive_float32.differences(x, "e4m3", ml_dtypes.float8_e4m3fnuz)
    assert wrong.any()


# --- the harness ----------------------------------------------------------------------------------


def one_case(peer: Peer) -> harness.Report:
    def cases(_: Options) -> Iterator[Case]:
        yield Case("ones", lambda: np.ones(4, np.float32), {"peer": peer}, 4, "elements")

    return harness.measure("ones", "Ones", cases, Options(smoke=True))


def test_a_peer_that_disagrees_stops_the_benchmark():
    with pytest.raises(AssertionError, match=r"ones: peer: 1 of 4 answers differ, the first at \(2,\)"):
        one_case(Peer(lambda: lambda: np.float32([1, 1, 2, 1])))


def test_a_peer_of_another_shape_or_of_too_few_answers_stops_the_benchmark():
    with pytest.raises(AssertionError, match=r"float32 of shape \(5,\), not float32 of \(4,\)"):
        one_case(Peer(lambda: lambda: np.ones(5, np.float32)))
    with pytest.raises(AssertionError, match="1 answers, not 2"):
        harness.same_bits((np.ones(2), np.ones(2)), (np.ones(2),))


def test_a_peer_that_is_not_installed_is_skipped_by_name():
    def make() -> harness.Call:
        raise ImportError("No module named 'elsewhere'")

    (case,) = one_case(Peer(make))["cases"]
    assert case["skipped"] == {"peer": "No module named 'elsewhere'"}
    assert case["peers"] == []


def test_a_distance_within_the_tolerance_passes_and_one_beyond_does_not():
    ours = np.array([3.0, 4.0])
    harness.within(1e-3)(ours, ours * (1 + 9e-4))
    with pytest.raises(AssertionError, match=r"relative distance 1.1\de-03, allowed 1.00e-03"):
        harness.within(1e-3)(ours, ours * (1 + 1.12e-3))


def test_extra_memory_is_what_a_call_takes_above_its_answer():
    def call() -> np.ndarray:
        scratch = np.ones(1 << 20, np.uint8)
        return scratch[:10].copy()

    def cases(_: Options) -> Iterator[Case]:
        yield Case("scratch", call, {}, 1, "calls")

    (case,) = harness.measure("scratch", "Scratch", cases, Options(smoke=True))["cases"]
    assert case["extra_bytes"] == pytest.approx(1 << 20, rel=0.02)


def test_a_written_section_replaces_its_own_and_leaves_the_others(tmp_path, monkeypatch):
    page = tmp_path / "README.md"
    monkeypatch.setattr(harness, "README", page)
    harness.write_section("casts", "## Casts\n\nfirst")
    harness.write_section("quantize", "## Quantisation\n\nsecond")
    harness.write_section("casts", "## Casts\n\nthird")
    text = page.read_text()
    assert text.startswith(harness.HEADER)
    assert "first" not in text
    assert text.index("third") < text.index("second")


def test_goals_are_judged_and_shown():
    report = {
        **one_case(Peer(lambda: lambda: np.ones(4, np.float32), goal=2)),
        "cases": [
            {
                "case": "ones",
                "seconds": 1e-3,
                "per_second": 4e3,
                "unit": "elements",
                "extra_bytes": 0,
                "peers": [harness.judge("peer", [3e-3, 1e-3, 2e-3], 1e-3, goal) for goal in (2, 2.5, None)],
                "skipped": {"other": "no module"},
            }
        ],
    }
    assert [row.get("met") for row in report["cases"][0]["peers"]] == [True, False, None]
    table = harness.markdown(report)
    assert "2.00x, met" in table
    assert "2.50x, missed" in table
    assert "| other | not installed |" in table


@pytest.mark.parametrize(
    ("goal", "words"), [(5.0, "(goal 5, met)"), (2e9, "(goal 2 G, missed)"), (None, "calls/s |")]
)
def test_a_rate_is_judged_by_its_goal(goal, words):
    def cases(_: Options) -> Iterator[Case]:
        yield Case("nothing", lambda: None, {}, 1, "calls", goal)

    report = harness.measure("nothing", "Nothing", cases, Options(seconds=0.01))
    assert words in harness._rate(report["cases"][0]) + " |"
    assert harness.main("nothing", "Nothing", cases, ["--seconds", "0.01"]) == (goal == 2e9)
    assert harness.main("nothing", "Nothing", cases, ["--smoke"]) == 0
