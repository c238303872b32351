"""The public names: what `__all__` says is what there is, and each explains itself with an example."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections import Counter
from pathlib import Path
from types import GenericAlias, ModuleType
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


#: What users import by hand: all of it stands on a page of the documentation. Parts of a page's reference
#: that are there for one function's sake, such as `fp8sim.experiments.comparison.ComparisonRow`, are not listed.
FOR_USERS = [
    "fp8sim",
    *(f"fp8sim.{name}" for name in ("accumulators", "anatomy", "checkpoints", "costs", "metrics", "models")),
    *(f"fp8sim.{name}" for name in ("plotting", "pytorch", "recipes", "report", "training")),
    *(f"fp8sim.experiments.{name}" for name in ("claims", "comparison", "data", "embeddings", "train")),
    "fp8sim.experiments.gradient_outliers",
]
DOCS = Path(__file__).parent.parent / "docs"
DIRECTIVE = re.compile(
    r"^\.\. (?P<kind>auto(?:function|class|module)|py:data):: (?P<name>[\w.]+).*(?P<options>(?:\n +:.*)*)",
    re.MULTILINE,
)

MODULES = modules()
PUBLIC = {name: getattr(fp8sim, name) for name in fp8sim.__all__ if callable(getattr(fp8sim, name))} | {
    f"metrics.{name}": getattr(fp8sim.metrics, name) for name in fp8sim.metrics.__all__
}
EXPORTED = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in getattr(module, "__all__", ())
    if inspect.isfunction(getattr(module, name))
    # Python 3.10 takes types such as NDArray[Any] for classes
    or (inspect.isclass(getattr(module, name)) and not isinstance(getattr(module, name), GenericAlias))
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


def file_of(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def body_of(module: str) -> list[ast.stmt]:
    """Parse a module without importing it, which may need an extra."""
    return ast.parse(file_of(module).read_text(encoding="utf-8")).body


def all_of(module: str) -> list[str]:
    """Return what `__all__` says."""
    lists = [
        n.value
        for n in body_of(module)
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
    ]
    return list(ast.literal_eval(lists[0])) if lists else []


def documented(page: str) -> list[tuple[str, str]]:
    """Return (module, name) of everything that a page documents; ("fp8sim", "metrics") is a module."""
    found = []
    for directive in DIRECTIVE.finditer(page):
        kind, path, options = directive["kind"], directive["name"], directive["options"]
        module, _, name = path.rpartition(".")
        if kind == "py:data":
            module = re.search(r":module: (\S+)", options)[1]
        found.append((module, name))
        if kind == "automodule" and ":members:" in options:
            found += [(path, name) for name in all_of(path)]
    return found


def origin(module: str, name: str) -> tuple[str, str]:
    """Follow imports within the package to where a name is bound."""
    imports = [node for node in body_of(module) if isinstance(node, ast.ImportFrom)]
    sources = [node.module for node in imports if name in [alias.name for alias in node.names]]
    if not sources or sources[0] == module:  # bound here, or a module
        return module, name
    return origin(sources[0], name)


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


# --- the reference --------------------------------------------------------------------------------


ON_PAGES = [
    found for path in sorted(DOCS.glob("*.md")) for found in documented(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("module", FOR_USERS)
def test_all_that_users_import_is_on_a_page_of_the_documentation(module):
    known = {origin(*found) for found in ON_PAGES}
    assert [name for name in all_of(module) if origin(module, name) not in known] == []


@pytest.mark.parametrize("found", sorted(set(ON_PAGES)), ids=".".join)
def test_what_the_documentation_names_is_exported_there(found):
    module, name = found
    assert name in all_of(module) or file_of(f"{module}.{name}").exists()


def test_nothing_is_documented_twice():
    twice = [found for found, count in Counter(origin(*found) for found in ON_PAGES).items() if count > 1]
    assert twice == []


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


def test_directives_are_found_with_the_module_they_name():
    page = """
.. autofunction:: fp8sim.get_format
.. autoclass:: fp8sim.pytorch.Linear(bias=True, *, recipe="deepseek-v3")
   :members:
.. py:data:: RECIPES
   :module: fp8sim
   :type: dict[str, Recipe]
.. automodule:: fp8sim.accumulators
   :members:
.. automodule:: fp8sim.plotting
"""
    assert documented(page) == [
        ("fp8sim", "get_format"),
        ("fp8sim.pytorch", "Linear"),
        ("fp8sim", "RECIPES"),
        ("fp8sim", "one_chain"),
        ("fp8sim.accumulators", "OneChain"),
        ("fp8sim", "plotting"),
    ]


def test_a_name_is_followed_to_where_it_is_bound():
    assert origin("fp8sim", "TensorCore") == ("fp8sim.reference.fused_step", "TensorCore")
    assert origin("fp8sim", "metrics") == ("fp8sim", "metrics")
    assert origin("fp8sim.pytorch", "linear") == ("fp8sim.pytorch.linear", "linear")
