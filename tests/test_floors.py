"""The floors: a module imports only from its own floor or lower ones, and numba only where it belongs."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path

import pytest

import fp8sim

PACKAGE = Path(fp8sim.__file__).parent

# Top-level module or package -> floor. A new module is given one here.
FLOORS = {
    "_typing": 0,
    "_checks": 0,
    "_memory": 0,
    "_tables": 0,
    "formats": 1,
    "metrics": 1,
    "rounding": 2,
    "codec": 2,
    "casts": 2,
    "fused_sum": 2,
    "_kernels": 2,
    "scaling": 3,
    "quantization": 3,
    "accumulators": 3,
    "_operands": 3,
    "tensor_cores": 3,
    "one_chain": 3,
    "error_bounds": 3,
    "recipes": 4,
    "training_operands": 4,
    "training_recipes": 4,
    "linear_gemms": 4,
    "gemm": 4,
    "devices": 4,
    "cost": 4,
    "models": 5,
    "pytorch": 5,
    "experiments": 5,
    "plotting": 6,
    "report": 6,
    "report_svg": 6,
    "report_pictures": 6,
    "report_verdict": 6,
    "anatomy": 6,
    "__main__": 7,
    "cli": 7,
}

SOURCES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}
MODULES = {name: source for name, source in SOURCES.items() if name != "__init__"}


def imports(source: str, module: str = "") -> set[str]:
    """Return what a module imports anywhere in it, in full, type-checking blocks included."""
    found: set[str] = set()
    package = ["fp8sim", *module.split(".")][:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            path = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{path}.{alias.name}" for alias in node.names}
    return found


class _AtRunTime(ast.NodeTransformer):
    """Take away what only a type checker imports."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        test = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", "")
        return None if test == "TYPE_CHECKING" else self.generic_visit(node)


def at_run_time(source: str) -> str:
    return ast.unparse(_AtRunTime().visit(ast.parse(source)))


def own(module: str) -> str:
    return module.split(".")[0]


def targets(source: str, module: str, known: Collection[str]) -> set[str]:
    """Return the modules of fp8sim, among those `known`, that a module imports from."""
    found = set()
    for name in imports(source, module):
        parts = name.split(".")
        if parts[0] != "fp8sim":
            continue
        # `from fp8sim.a import b`: b is a module, a package or a name in one of them
        longest = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
        paths = (path for path in longest for path in (path, f"{path}.__init__"))
        found |= {next((path for path in paths if path in known), "")} - {"", module}
    return found


def uphill(source: str, module: str, known: Collection[str] = ()) -> set[str]:
    top = max(FLOORS.values())  # a module without a floor is another test's business
    floor = FLOORS.get(own(module), top)
    return {path for path in targets(source, module, known or MODULES) if FLOORS.get(own(path), 0) > floor}


def printing(source: str) -> bool:
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return any(isinstance(call, ast.Name) and call.id == "print" for call in calls)


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules that are left when those that import none of the rest are taken away."""
    left = dict(graph)
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_every_module_has_a_floor():
    assert {own(module) for module in MODULES} <= set(FLOORS)
    assert len(MODULES) > 10


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_no_higher_floor(module):
    assert uphill(MODULES[module], module) == set()


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: targets(at_run_time(source), name, MODULES) for name, source in MODULES.items()}
    assert cycle(graph) == []


@pytest.mark.parametrize("module", SOURCES)
def test_numba_is_imported_only_by_the_kernels(module):
    names = {name.split(".")[0] for name in imports(SOURCES[module], module)}
    assert "numba" not in names or own(module) == "_kernels"


@pytest.mark.parametrize("module", [name for name in SOURCES if own(name) != "cli"])
def test_only_the_command_line_prints(module):
    assert not printing(SOURCES[module])


# --- the checks themselves can fail ---------------------------------------------------------------


KNOWN = {
    *("_checks", "formats", "gemm", "recipes", "quantization", "cli"),
    *("_kernels.__init__", "_kernels._jit", "_kernels.casts"),
    *("experiments.__init__", "experiments.claims"),
}


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("formats", "from fp8sim import gemm", {"gemm"}),
        ("formats", "import fp8sim.gemm as g", {"gemm"}),
        ("formats", "from fp8sim.experiments.claims.claims import claims", {"experiments.claims"}),
        ("formats", "from fp8sim.experiments import claims", {"experiments.claims"}),
        ("formats", "from fp8sim.experiments import something", {"experiments.__init__"}),
        ("formats", "from .gemm import matmul", {"gemm"}),
        ("formats", "from . import gemm, _checks", {"gemm"}),
        ("_kernels.casts", "from ..quantization import quantize", {"quantization"}),
        ("_kernels.casts", "from fp8sim._kernels._jit import jit\nfrom . import _jit", set()),
        ("_kernels.__init__", "from .casts import cast", set()),
        ("_kernels.__init__", "from ..gemm import matmul", {"gemm"}),
        ("formats", "def late():\n    from fp8sim.cli import main", {"cli"}),
        ("formats", "if TYPE_CHECKING:\n    from fp8sim.recipes import Recipe", {"recipes"}),
        ("gemm", "from fp8sim import _checks\nfrom fp8sim.recipes import Recipe\nimport numpy", set()),
    ],
)
def test_an_import_from_a_higher_floor_is_found(module, source, found):
    assert uphill(source, module, KNOWN) == found


def test_a_circle_is_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
    assert cycle({"a": {"b"}, "b": set()}) == []


def test_what_only_a_type_checker_imports_makes_no_circle():
    source = (
        "import t\nif t.TYPE_CHECKING:\n    import a\nif TYPE_CHECKING:\n    import b\nif x:\n    import c"
    )
    assert imports(source) == {"t", "a", "b", "c"}
    assert imports(at_run_time(source)) == {"t", "c"}


def test_numba_and_printing_are_found():
    assert {"numba", "numba.typed.List"} <= imports("import numba\nfrom numba.typed import List")
    assert printing("def f():\n    print('x')")
    assert not printing("def f():\n    return pprint('x')")
