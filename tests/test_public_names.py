"""The public names: what `__all__` says is what there is, and each explains itself with an example."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fp8sim

PACKAGE = Path(fp8sim.__file__).parent
SUBMODULES = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
OPTIONAL = {"matplotlib", "torch", "safetensors", "transformers", "dask"}


def bound_names(source: str) -> set[str]:
    """Return the public names that the top level of a module binds."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            if getattr(node, "module", None) != "__future__":
                names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def modules() -> list[ModuleType]:
    """Import every module of the package, but those whose extra is not installed."""
    found = []
    for info in pkgutil.walk_packages(fp8sim.__path__, "fp8sim."):
        if info.name.endswith("__main__"):
            continue
        try:
            found.append(importlib.import_module(info.name))
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL and "pip install" not in str(error):
                raise
    return found


MODULES = modules()
PUBLIC = {name: getattr(fp8sim, name) for name in fp8sim.__all__ if callable(getattr(fp8sim, name))} | {
    f"metrics.{name}": getattr(fp8sim.metrics, name) for name in fp8sim.metrics.__all__
}
EXPORTED = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in getattr(module, "__all__", ())
    if inspect.isfunction(getattr(module, name)) or inspect.isclass(getattr(module, name))
}


def sections(docstring: str | None) -> dict[str, str]:
    """Split a numpydoc docstring at its underlined titles."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}\n", inspect.cleandoc(docstring or ""), flags=re.MULTILINE)
    return {"": parts[0].strip()} | dict(zip(parts[1::2], parts[2::2], strict=True))


def described(section: str) -> set[str]:
    """Return the names that a Parameters or Attributes section describes."""
    heads = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: :.*)?$", section, flags=re.MULTILINE)
    return {name.strip("* ") for head in heads for name in head.split(",")}


def arguments(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "cls"}


def returns_something(function: Any) -> bool:
    annotation = str(inspect.signature(function).return_annotation)
    return annotation not in ("None", "<class 'inspect._empty'>")


def faults(function: Any) -> list[str]:
    """Return what the docstring of a public function or class lacks."""
    found = sections(function.__doc__)
    lacks = []
    if not re.fullmatch(r"[A-Z`*].*\.", found[""].split("\n")[0]):
        lacks.append("a first line that is a sentence")
    told = described(found.get("Parameters", "") + "\n" + found.get("Attributes", ""))
    if missing := arguments(function) - told:
        lacks.append(f"parameters {sorted(missing)}")
    if inspect.isfunction(function):
        if unknown := described(found.get("Parameters", "")) - arguments(function):
            lacks.append(f"arguments named {sorted(unknown)}")
        if returns_something(function) and not {"Returns", "Yields"} & found.keys():
            lacks.append("Returns")
        if arguments(function) and "Raises" not in found:
            lacks.append("Raises")
    if ">>>" not in found.get("Examples", ""):
        lacks.append("Examples")
    return lacks


def test_all_is_what_the_package_binds():
    assert set(fp8sim.__all__) == bound_names((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert len(fp8sim.__all__) == len(set(fp8sim.__all__)) <= 25
    assert all(getattr(fp8sim, name) is not None for name in fp8sim.__all__)


def test_no_public_name_hides_a_module():
    hidden = [
        name for name in fp8sim.__all__ if name in SUBMODULES and not inspect.ismodule(getattr(fp8sim, name))
    ]
    assert hidden == []


def test_the_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(a|b|rc|dev)\d+)?", fp8sim.__version__)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_all_of_each_module_exists_and_its_docstring_says_what_it_holds(module):
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(module, name)] == []
    assert re.match(r"\S.*[.:;]", (module.__doc__ or "").split("\n")[0])


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_modules_say_what_they_export(module):
    private = any(part.startswith("_") for part in module.__name__.split("."))
    command_line = module.__name__.split(".")[1] == "cli"  # called by name, imported by nobody
    assert private or command_line or hasattr(module, "__all__") or module.__name__ == "fp8sim.experiments"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_docstring_has_parameters_returns_raises_and_an_example(name):
    assert faults(PUBLIC[name]) == []


@pytest.mark.parametrize("name", EXPORTED)
def test_what_a_module_exports_has_a_docstring_of_its_own(name):
    first_line = (EXPORTED[name].__doc__ or "").split("\n")[0]
    assert re.fullmatch(r"[A-Z|`*0-9].*[.:;]", first_line)


@pytest.mark.parametrize("name", [name for name, value in PUBLIC.items() if inspect.isclass(value)])
def test_public_methods_and_properties_have_docstrings(name):
    members = {
        key: value
        for key, value in vars(PUBLIC[name]).items()
        if not key.startswith("_") and (callable(value) or isinstance(value, property))
    }
    assert [key for key, value in members.items() if not value.__doc__] == []


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_signatures_are_annotated(name):
    value = EXPORTED[name]
    if not inspect.isfunction(value):
        return
    signature = inspect.signature(value)
    bare = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
    assert bare == []
    assert signature.return_annotation is not inspect.Signature.empty


# --- the checks themselves can fail ---------------------------------------------------------------


def complete(x: int) -> int:
    """Return it.

    Parameters
    ----------
    x : int
        A number.

    Returns
    -------
    int
        The number.

    Raises
    ------
    ValueError
        Never.

    Examples
    --------
    >>> complete(1)
    1
    """
    return x


def bare(x: int, y: int) -> int:
    """do something

    Parameters
    ----------
    x, z : int
        Numbers.
    """
    return x + y


def test_a_docstring_that_lacks_something_is_found():
    assert faults(complete) == []
    assert faults(bare) == [
        "a first line that is a sentence",
        "parameters ['y']",
        "arguments named ['z']",
        "Returns",
        "Raises",
        "Examples",
    ]


def test_a_name_that_all_lacks_is_found():
    source = "from a import b, c as d\nimport e.f\n_g = 1\nh = 2\n__all__ = ['b']\ndef i(): ...\nj: int = 3"
    assert bound_names(source) == {"b", "d", "e", "h", "i", "j"}
