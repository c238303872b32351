"""The public names: what `__all__` says is what there is, and each explains itself with an example."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from collections import Counter
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any

import pytest

import fp8sim

PACKAGE = Path(fp8sim.__file__).parent
SUBMODULES = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
OPTIONAL = {"matplotlib", "torch", "safetensors", "transformers", "dask", "numba", "llvmlite"}


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
    *(
        f"fp8sim.{name}"
        for name in ("accumulators", "anatomy", "checkpoints", "costs", "course", "formats", "gemm")
    ),
    *(f"fp8sim.{name}" for name in ("metrics", "models", "plotting", "pytorch", "quantization", "recipes")),
    *(f"fp8sim.{name}" for name in ("play", "report", "tensor_cores", "training")),
    *(
        f"fp8sim.experiments.{name}"
        for name in ("audit", "claims", "comparison", "data", "embeddings", "train")
    ),
    *(
        f"fp8sim.experiments.{name}"
        for name in ("gpu", "gradient_outliers", "kv_cache", "layer_comparison", "studies", "sweeps")
    ),
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
PUBLIC["play"] = fp8sim.play.play  # of the package that is called as that function
EXPORTED = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in getattr(module, "__all__", ())
    if inspect.isroutine(getattr(module, name))
    # Python 3.10 takes types such as NDArray[Any] for classes
    or (inspect.isclass(getattr(module, name)) and not isinstance(getattr(module, name), GenericAlias))
}
#: Module -> the function whose arguments and errors are those of all its functions, as its docstring says.
SAID_ONCE = {"fp8sim.metrics": fp8sim.metrics.relative_error}


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


def lazy_homes(body: list[ast.stmt]) -> dict[str, str]:
    """Return name -> module of what a module imports for a type checker alone, and gives on first use."""
    blocks = [n.body for n in body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


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
    body = body_of(module)
    imports = [node for node in body if isinstance(node, ast.ImportFrom)]
    sources = {alias.name: str(node.module) for node in imports for alias in node.names} | lazy_homes(body)
    if sources.get(name, module) == module:  # bound here, or a module
        return module, name
    return origin(sources[name], name)


def faults(function: Any, said_once: Any = None) -> list[str]:
    """Return what the docstring of a public function or class lacks.

    Its first arguments, as many as `said_once` has, and its errors may be those of that function, whose
    docstring says them for all of its module.
    """
    found = sections(function.__doc__)
    shared = set()
    if said_once not in (None, function):
        shared = set(list(inspect.signature(function).parameters)[: len(arguments(said_once))])
        found.setdefault("Raises", "")
    lacks = []
    if not re.fullmatch(r"[A-Z`*].*\.", found[""].split("\n")[0]):
        lacks.append("a first line that is a sentence")
    told = described(found.get("Parameters", "") + "\n" + found.get("Attributes", ""))
    if missing := arguments(function) - told - shared:
        lacks.append(f"parameters {sorted(missing)}")
    if inspect.isroutine(function):
        if unknown := described(found.get("Parameters", "")) - arguments(function):
            lacks.append(f"arguments named {sorted(unknown)}")
        if returns_something(function) and not {"Returns", "Yields"} & found.keys():
            lacks.append("Returns")
        if arguments(function) and "Raises" not in found:
            lacks.append("Raises")
    if ">>>" not in found.get("Examples", ""):
        lacks.append("Examples")
    return lacks


def test_all_is_what_a_type_checker_sees_and_what_is_given_on_first_use():
    homes = lazy_homes(body_of("fp8sim"))
    assert set(fp8sim.__all__) == homes.keys()
    assert len(fp8sim.__all__) == len(homes) <= 36
    given = {name: f"fp8sim.{home}" for name, home in fp8sim._HOME.items()}
    modules = {"play", *(name for name, home in homes.items() if home == "fp8sim")}  # "play" is called, too
    assert given == {name: home for name, home in homes.items() if name not in modules}
    for name, home in homes.items():
        value = fp8sim.__getattr__(name)
        assert value is (sys.modules[f"fp8sim.{name}"] if name in modules else vars(sys.modules[home])[name])
    assert set(fp8sim.__all__) <= set(dir(fp8sim))


@pytest.mark.parametrize("name", ["nothing", "_nothing", "matmuls"])
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'fp8sim' has no attribute '{name}'"):
        getattr(fp8sim, name)


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
    holds_modules_alone = not bound_names(Path(module.__file__).read_text(encoding="utf-8"))
    assert private or command_line or holds_modules_alone or hasattr(module, "__all__")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_docstring_has_parameters_returns_raises_and_an_example(name):
    assert faults(PUBLIC[name], SAID_ONCE.get(PUBLIC[name].__module__)) == []


@pytest.mark.parametrize("module", SAID_ONCE)
def test_a_module_says_which_function_speaks_for_all(module):
    assert f"`{SAID_ONCE[module].__name__}`" in sys.modules[module].__doc__


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
    if inspect.isclass(value):
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


# --- what the changelog says has moved --------------------------------------------------------------

MOVES = re.findall(
    r"^\| `([\w.]+)`.*? \| `(fp8sim[\w.]*)` \| (`.*`) \|$",
    (DOCS.parent / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n## ")[2].partition("\n## ")[0],
    flags=re.MULTILINE,
)


@pytest.mark.parametrize(("old", "new", "names"), MOVES, ids=[f"{old}->{new}" for old, new, _ in MOVES])
def test_what_has_moved_is_where_the_changelog_says_and_no_longer_where_it_was(old, new, names):
    moved = set(re.findall(r"`(\w+)`", names))
    assert moved <= set(all_of(new))
    assert not (file_of(old).exists() and moved & set(all_of(old)))


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


def scaled(y: int, factor: int) -> int:
    """Return it, scaled.

    Returns
    -------
    int
        A number.

    Examples
    --------
    >>> scaled(2, 3)
    6
    """
    return y * factor


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


def test_what_one_docstring_says_for_all_need_not_be_said_again_but_all_else_must():
    assert faults(complete, complete) == []
    assert faults(bare, complete) == [  # x is said by `complete`
        "a first line that is a sentence",
        "parameters ['y']",
        "arguments named ['z']",
        "Returns",
        "Examples",
    ]
    assert faults(scaled) == ["parameters ['factor', 'y']", "Raises"]
    assert faults(scaled, complete) == ["parameters ['factor']"]


def test_what_a_type_checker_alone_imports_is_found_with_its_module():
    source = "from a import b\nif TYPE_CHECKING:\n    from c import d, e as f\n    import g\nif x:\n    from h import i"
    assert lazy_homes(ast.parse(source).body) == {"d": "c", "f": "c"}


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
.. automodule:: fp8sim.checkpoints
   :members:
.. automodule:: fp8sim.plotting
"""
    assert documented(page) == [
        ("fp8sim", "get_format"),
        ("fp8sim.pytorch", "Linear"),
        ("fp8sim", "RECIPES"),
        ("fp8sim", "checkpoints"),
        ("fp8sim.checkpoints", "Checkpoint"),
        ("fp8sim.checkpoints", "Coded"),
        ("fp8sim.checkpoints", "Tensor"),
        ("fp8sim.checkpoints", "Written"),
        ("fp8sim.checkpoints", "WrittenRow"),
        ("fp8sim.checkpoints", "open_checkpoint"),
        ("fp8sim.checkpoints", "read_array"),
        ("fp8sim.checkpoints", "write_quantized"),
        ("fp8sim", "plotting"),
    ]


def test_a_name_is_followed_to_where_it_is_bound():
    assert origin("fp8sim", "TensorCore") == ("fp8sim.tensor_cores.core", "TensorCore")
    assert origin("fp8sim.recipes", "Operand") == ("fp8sim.quantization.operand", "Operand")
    assert origin("fp8sim", "metrics") == ("fp8sim", "metrics")
    assert origin("fp8sim.pytorch", "linear") == ("fp8sim.pytorch.linear", "linear")
