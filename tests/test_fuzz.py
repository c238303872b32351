"""A few trials of every category, always the same ones; ``python tests/fuzz/run.py`` does as many as wanted."""

from __future__ import annotations

import pytest

from fuzz import api, run
from fuzz.harness import CATEGORIES, Category, run_trial


def skip_if_needed(chosen: Category) -> None:
    if reason := chosen.skip():
        pytest.skip(reason)


@pytest.mark.filterwarnings("default")  # a trial sees warnings for itself
@pytest.mark.parametrize("name", CATEGORIES)
def test_no_trial_fails(name):
    skip_if_needed(CATEGORIES[name])
    trials = ((number, run_trial(CATEGORIES[name], 0, number)) for number in range(CATEGORIES[name].few))
    failures = [f"--only {name}:0:{number}  {failure}" for number, failure in trials if failure is not None]
    assert not failures, "\n".join(failures)


#: Categories whose planted fault is found within a second; the others are for `run.py --planted`.
QUICK = [
    "casts-of-all",
    "formats",
    "scales",
    "cores",
    "recipes",
    "explanations",
    "measures",
    "api",
    "fields",
    "command",
    "files",
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", QUICK)
def test_a_planted_fault_is_found(name):
    skip_if_needed(CATEGORIES[name])
    if name in ("casts-of-all", "cores"):
        pytest.importorskip("numba", reason="the fault is planted in a kernel")
    assert run.first_found(CATEGORIES[name], 0, 300) is not None


def test_a_trial_is_the_same_each_time():
    chosen = CATEGORIES["formats"]
    with chosen.plant():
        first = [str(run_trial(chosen, 0, number)) for number in range(30)]
        assert first == [str(run_trial(chosen, 0, number)) for number in range(30)]
        assert len(set(first)) > 2


def test_every_public_function_is_called_with_bad_arguments_or_left_out_with_a_reason():
    assert api.uncovered() == set()
