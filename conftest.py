"""What every test shares, examples in docstrings among them: some need an extra, and say which."""

from __future__ import annotations

import doctest
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "src"


def wanted_extra(error: BaseException | None) -> str | None:
    """Return what the library says must be installed, where that is why it stopped."""
    says_so = isinstance(error, (ModuleNotFoundError, FileNotFoundError))
    return str(error) if says_so and re.search(r"pip install 'fp8sim\[\w+\]'", str(error)) else None


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Pass over the examples of modules that cannot be loaded without what is not installed."""
    if collection_path.suffix != ".py" or SOURCES not in collection_path.parents:
        return None
    name = ".".join(collection_path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return True if wanted_extra(error) or error.name in ("numba", "llvmlite") else None
    except Exception:
        return None  # collecting it will say what is wrong
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the examples that measure the whole verdict where numba is missing."""
    from fp8sim import _kernels

    measuring = ("sentence.claims", "page.html_report", "page.write_report")
    for item in items:
        if item.name.endswith(measuring) and not _kernels.available():
            item.add_marker(pytest.mark.skip("without numba, the verdict takes longer than all other tests"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip an example that stops for want of an extra, by what it says itself."""
    try:
        return (yield)
    except doctest.UnexpectedException as failure:
        if reason := wanted_extra(failure.exc_info[1]):
            pytest.skip(reason)
        raise


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
