"""Fixtures and the hypothesis profiles of all tests."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browser import Browser
    from fp8sim.experiments.claims import Claims

# What records words, by what a user need not have.
collect_ignore = ["hardware", "libraries", "record_checkpoints.py", "record_mmasim.py"]

TOO_SLOW = [HealthCheck.too_slow]  # says that the machine is busy, of one test or another
settings.register_profile("dev", deadline=None, max_examples=60, suppress_health_check=TOO_SLOW)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))  # repeatable unless asked otherwise


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_241_226)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, the same for all tests of a module."""
    from browser import browsing

    with browsing(tmp_path_factory.mktemp("profile")) as session:
        yield session


@pytest.fixture(scope="session")
def verdict() -> Claims:
    """What `fp8sim.claims` returns, measured once for all tests: it takes a while."""
    import fp8sim
    from fp8sim import _kernels

    if not _kernels.available():
        pytest.skip("without numba, the verdict takes longer than all other tests")
    return fp8sim.claims()


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: (exit status, standard output, standard error)."""
    from fp8sim import cli

    monkeypatch.setattr(
        signal, "signal", lambda *_: None
    )  # main() has a process of its own; this is pytest's

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fp8sim", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call
