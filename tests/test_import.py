"""`import fp8sim` stays light: what is slow or optional is loaded on first use, submodules too."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fp8sim

HEAVY = {
    *("numba", "llvmlite", "matplotlib", "torch", "rich", "typer", "click", "pandas"),
    *("safetensors", "transformers", "dask", "jax", "scipy", "IPython", "multiprocessing"),
}
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the torch extra")
SUBMODULES = ["plotting", "metrics", pytest.param("pytorch", marks=needs_torch)]


def run(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter, with the fp8sim of this one."""
    code = f"import sys; sys.path.insert(0, {str(Path(fp8sim.__file__).parents[1])!r})\n{code}"
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=False)


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after `code`."""
    done = run(f"{code}\nprint(*sys.modules)")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def packages(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def test_import_loads_nothing_heavy():
    loaded = packages(loaded_by("import fp8sim"))
    assert "fp8sim" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("code", ["import numba", "import rich", "import fp8sim, typer"])
def test_the_check_can_fail(code):
    pytest.importorskip(re.split(r"\W+", code)[-1])
    assert packages(loaded_by(code)) & HEAVY


def test_import_warns_of_nothing_and_prints_nothing():
    done = run("import fp8sim", "-W", "error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", SUBMODULES)
def test_a_submodule_is_loaded_on_first_use(name):
    assert f"fp8sim.{name}" not in loaded_by("import fp8sim")
    assert f"fp8sim.{name}" in loaded_by(
        f"import fp8sim\nassert fp8sim.{name} is sys.modules['fp8sim.{name}']"
    )


def test_everything_public_is_found_by_its_name():
    done = run("import fp8sim\nfor name in fp8sim.__all__: getattr(fp8sim, name)\nfrom fp8sim import *")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_use_of_one_name_loads_none_of_what_another_needs():
    loaded = loaded_by("import fp8sim\nfp8sim.get_format('e4m3')")
    assert packages(loaded) & HEAVY == set()
    assert "fp8sim.formats" in loaded
    assert not loaded & {"fp8sim.gemm", "fp8sim.models", "fp8sim.experiments"}


@pytest.mark.parametrize("name", ["no_such_name", "numba", "np"])
def test_an_unknown_name_is_no_attribute(name):
    with pytest.raises(AttributeError, match=f"'{name}'"):
        getattr(fp8sim, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from fp8sim import {name}")


def test_a_submodule_whose_extra_is_missing_says_what_to_install():
    done = run("sys.modules['torch'] = None\nimport fp8sim\nfp8sim.pytorch")
    assert done.returncode == 1
    assert "ModuleNotFoundError: fp8sim.pytorch needs PyTorch: pip install 'fp8sim[torch]'" in done.stderr
