"""What every test shares, examples in docstrings among them: those that draw need matplotlib."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PICTURES = Path(__file__).parent / "src" / "fp8sim" / "plotting"


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
