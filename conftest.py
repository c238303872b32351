"""What every test shares, examples in docstrings among them: some need matplotlib or PyTorch."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PICTURES = Path(__file__).parent / "src" / "fp8sim" / "plotting"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Pass over the examples of modules that are built on PyTorch where it is not installed."""
    example = collection_path.suffix == ".py" and "src" in collection_path.parts
    if not example or importlib.util.find_spec("torch"):
        return None
    text = collection_path.read_text(encoding="utf-8")
    return True if re.search(r"^(import|from) (torch|fp8sim\.pytorch)\b", text, flags=re.MULTILINE) else None


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
