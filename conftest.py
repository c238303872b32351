"""What every test shares, examples in docstrings among them: some need matplotlib or PyTorch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "src" / "fp8sim"
PICTURES = PACKAGE / "plotting"
ON_PYTORCH = (
    PACKAGE / "pytorch",
    PACKAGE / "experiments" / "train" / "language_model.py",
    PACKAGE / "experiments" / "train" / "run.py",
    PACKAGE / "experiments" / "train" / "trainer.py",
)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Pass over the examples of modules that are built on PyTorch where it is not installed."""
    if importlib.util.find_spec("torch"):
        return None
    found = any(part in (collection_path, *collection_path.parents) for part in ON_PYTORCH)
    return True if found else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the examples of `fp8sim.plotting`, by name, where the extra is not installed."""
    if importlib.util.find_spec("matplotlib"):
        return
    for item in items:
        if PICTURES in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs matplotlib: pip install 'fp8sim[plot]'"))


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
