"""`import fp8sim` stays light: what is slow or optional is loaded on first use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fp8sim

HEAVY = {
    *("numba", "llvmlite", "matplotlib", "torch", "rich", "typer", "click", "pandas"),
    *("safetensors", "transformers", "dask", "jax", "scipy", "IPython", "multiprocessing"),
}


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `code`."""
    script = f"import sys; sys.path.insert(0, {str(Path(fp8sim.__file__).parents[1])!r})\n{code}\n"
    script += "print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy():
    loaded = loaded_by("import fp8sim")
    assert "fp8sim" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("code", ["import numba", "import rich", "import fp8sim, typer"])
def test_the_check_can_fail(code):
    assert loaded_by(code) & HEAVY


def test_import_warns_of_nothing_and_prints_nothing():
    command = [sys.executable, "-W", "error", "-c"]
    script = f"import sys; sys.path.insert(0, {str(Path(fp8sim.__file__).parents[1])!r}); import fp8sim"
    done = subprocess.run([*command, script], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
