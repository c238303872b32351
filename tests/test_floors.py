"""The house: who may import whom, no circles, few floors; numba and printing only where they belong."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

import fp8sim

PACKAGE = Path(fp8sim.__file__).parent

# Package, or module at the root -> floor. A module imports from lower floors and from its own package;
# what shares a floor is independent of each other. A new package gets its floor here.
FLOORS = {
    "_support": 0,
    "formats": 1,
    "metrics": 2,
    "reference": 2,
    "_kernels": 2,
    "casts": 3,
    "quantization": 4,
    "tensor_cores": 4,
    "accumulators": 5,
    "recipes": 6,
    "gemm": 7,
    "costs": 8,
    "training": 8,
    "anatomy": 8,
    "models": 9,
    "checkpoints": 8,
    "pytorch": 9,
    "experiments": 10,
    "play": 11,
    "plotting": 11,
    "course": 11,
    "report": 12,
    "cli": 13,
    "__main__": 14,
}
AT_MOST = {"floors": 15, "files at the root": 9}
LATE = {"numba", "llvmlite"}  # imported by the kernels alone, and they on first use

SOURCES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}
# The root re-exports everything: rules of its own, at the end of the checks.
MODULES = {name: source for name, source in SOURCES.items() if name != "__init__"}

Graph = Mapping[str, set[str]]


# --- what a module imports ------------------------------------------------------------------------


def imports(source: str, module: str = "") -> set[str]:
    """Return what a module imports anywhere in it, in full, in functions and for types too."""
    names: set[str] = set()
    package = ["fp8sim", *module.split(".")][:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            path = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{path}.{alias.name}" for alias in node.names}
    return names


class _OnLoading(ast.NodeTransformer):
    """Take away what does not run while a module is loaded: bodies of functions, imports for types."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        test = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", "")
        if test == "TYPE_CHECKING":
            return [self.visit(statement) for statement in node.orelse]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return ast.Pass()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return ast.Pass()


def on_loading(source: str) -> str:
    return ast.unparse(ast.fix_missing_locations(_OnLoading().visit(ast.parse(source))))


def home(name: str, known: Collection[str]) -> str:
    """Return the module of fp8sim that holds what is imported by this full name; "" outside fp8sim."""
    first, *parts = name.split(".")
    if first != "fp8sim":
        return ""
    # `from fp8sim.a import b`: b is a module, a package or a name in one of them
    paths = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((path for stem in paths for path in (stem, f"{stem}.__init__") if path in known), "__init__")


def targets(source: str, module: str, known: Collection[str]) -> set[str]:
    """Return the modules of fp8sim, among those `known`, that a module imports from."""
    return {home(name, known) for name in imports(source, module)} - {"", module}


def own(module: str) -> str:
    """Return the package at the root that a module is in, or the module itself."""
    return module.split(".")[0]


def folder(module: str, depth: int) -> str:
    """Return the package a module is in, `depth` deep at most; a module at the root is its own."""
    *parents, name = module.split(".")
    return ".".join(parents[:depth]) or name


# --- graphs ---------------------------------------------------------------------------------------


def graph_of(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which modules each imports, the root not among them."""
    return {name: targets(source, name, sources) - {"__init__"} for name, source in sources.items()}


def packages(graph: Graph, depth: int) -> dict[str, set[str]]:
    """Return which packages, `depth` deep at most, each imports from."""
    merged: dict[str, set[str]] = {folder(name, depth): set() for name in graph}
    for name, imported in graph.items():
        here = folder(name, depth)
        merged[here] |= {folder(other, depth) for other in imported} - {here}
    return merged


def reached(graph: Graph, start: str) -> set[str]:
    """Return what can be reached from `start`, itself only by a circle."""
    seen: set[str] = set()
    ahead = set(graph[start])
    while ahead:
        seen |= ahead
        ahead = {further for name in ahead for further in graph.get(name, ())} - seen
    return seen


def circles(graph: Graph) -> list[list[str]]:
    """Return each set of nodes that all import each other, directly or through others."""
    reach = {name: reached(graph, name) for name in graph}
    on_one = {
        tuple(sorted(other for other in graph if name in reach[other] and other in reach[name]))
        for name in graph
        if name in reach[name]
    }
    return [list(names) for names in sorted(on_one)]


def longest_chain(graph: Graph) -> list[str]:
    """Return the longest way down, from a graph without circles: as many floors are needed."""
    chains: dict[str, list[str]] = {}

    def chain(name: str) -> list[str]:
        if name not in chains:
            chains[name] = [name, *max((chain(other) for other in sorted(graph[name])), key=len, default=[])]
        return chains[name]

    return max((chain(name) for name in graph), key=len)


def uphill(source: str, module: str, known: Collection[str] = MODULES) -> set[str]:
    """Return what a module imports from other packages that are on no lower floor."""
    floor = FLOORS.get(own(module), -1)  # without a floor, nothing is lower
    others = {name for name in targets(source, module, known) - {"__init__"} if own(name) != own(module)}
    return {name for name in others if FLOORS.get(own(name), floor) >= floor}


def loads(sources: Mapping[str, str], late: Collection[str]) -> set[str]:
    """Return the modules that cannot be loaded without loading a package of `late`."""
    graph: dict[str, set[str]] = {}
    for name, source in sources.items():
        at_once = on_loading(source)
        others = targets(at_once, name, sources)
        graph[name] = others | {path.split(".")[0] for path in imports(at_once, name)} & set(late)
        for other in [name, *others]:  # loading a.b.c loads a and a.b first
            *parents, _ = other.split(".")
            above = {".".join([*parents[:end], "__init__"]) for end in range(1, len(parents) + 1)}
            graph[name] |= above & (sources.keys() - {name})
    return {name for name in graph if reached(graph, name) & set(late)}


def prints(source: str) -> bool:
    """Return whether a module prints: by `print`, or by writing to a standard stream."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            return True
        if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
            return True
    return False


def defined(source: str) -> set[str]:
    """Return the names that a module itself gives a value, at its top level."""
    tree = ast.parse(source)
    assigned = [node.targets for node in tree.body if isinstance(node, ast.Assign)]
    return {target.id for names in assigned for target in names if isinstance(target, ast.Name)}


def borrowed(source: str, module: str, known: Collection[str]) -> set[str]:
    """Return the names that a module takes from the root itself: `fp8sim` where it takes the whole."""
    from_root = {name for name in imports(source, module) if home(name, known) == "__init__"}
    return {name.removeprefix("fp8sim.") for name in from_root}


def files_in(path: Path) -> list[str]:
    return [file.name for file in path.iterdir() if file.is_file()]


# --- the checks -----------------------------------------------------------------------------------

GRAPH = graph_of(MODULES)


def test_every_package_has_a_floor_and_every_floor_a_package():
    assert {own(module) for module in MODULES} == set(FLOORS)
    assert len(MODULES) > len(FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_lower_floors_and_its_own_package(module):
    assert uphill(MODULES[module], module) == set()


def test_no_modules_import_each_other_in_a_circle():
    assert circles(GRAPH) == []


@pytest.mark.parametrize("depth", range(1, max(name.count(".") for name in MODULES) + 1))
def test_no_packages_import_each_other_in_a_circle(depth):
    assert circles(packages(GRAPH, depth)) == []


def test_the_house_needs_few_floors():
    house = packages(GRAPH, 1)
    assert circles(house) == []  # else there is no longest chain
    assert len(longest_chain(house)) <= AT_MOST["floors"]
    assert max(FLOORS.values()) < AT_MOST["floors"]


def test_few_files_lie_at_the_root():
    assert len(files_in(PACKAGE)) <= AT_MOST["files at the root"]


@pytest.mark.parametrize("module", SOURCES)
def test_numba_is_imported_only_by_the_kernels(module):
    names = {name.split(".")[0] for name in imports(SOURCES[module], module)}
    assert not names & LATE or own(module) == "_kernels"


def test_the_kernels_are_imported_on_first_use():
    assert {name for name in loads(SOURCES, LATE) if own(name) != "_kernels"} == set()


@pytest.mark.parametrize("module", [name for name in SOURCES if own(name) != "cli"])
def test_only_the_command_line_prints(module):
    assert not prints(SOURCES[module])


@pytest.mark.parametrize("module", MODULES)
def test_of_the_root_a_module_takes_only_what_is_defined_there(module):
    # what the root passes on, by name, comes from the floors: taking it there would go round in a circle
    assert borrowed(MODULES[module], module, MODULES) <= defined(SOURCES["__init__"])


def test_loading_the_root_goes_round_in_no_circle():
    graph = {name: targets(source, name, SOURCES) for name, source in MODULES.items()}
    root = targets(on_loading(SOURCES["__init__"]), "__init__", SOURCES)
    graph = {**graph, "__init__": root}
    assert "__init__" not in reached(graph, "__init__")


# --- the checks themselves can fail ---------------------------------------------------------------


KNOWN = {
    *("_support.checks", "formats", "gemm", "recipes", "metrics", "quantization.quantized", "cli.__init__"),
    *("_kernels.__init__", "_kernels._jit", "_kernels.casts", "reference.codes", "plotting.sums"),
    *("experiments.__init__", "experiments.claims.__init__", "experiments.claims.sums", "report.page"),
}


@pytest.mark.parametrize(
    ("module", "source", "uphills"),
    [
        ("formats", "from fp8sim import gemm", {"gemm"}),
        ("formats", "import fp8sim.gemm as g", {"gemm"}),
        ("formats", "from fp8sim.experiments.claims.sums import sums", {"experiments.claims.sums"}),
        ("formats", "from fp8sim.experiments.claims import sums", {"experiments.claims.sums"}),
        ("formats", "from fp8sim.experiments.claims import claims", {"experiments.claims.__init__"}),
        ("formats", "from fp8sim.experiments import something", {"experiments.__init__"}),
        ("formats", "from .gemm import matmul", {"gemm"}),
        ("formats", "from . import gemm", {"gemm"}),
        ("formats", "from fp8sim._support import checks", set()),
        ("_support.checks", "from fp8sim.formats import get_format", {"formats"}),
        ("_kernels.casts", "from ..quantization.quantized import quantize_with", {"quantization.quantized"}),
        ("_kernels.casts", "from fp8sim.reference import codes", {"reference.codes"}),  # the same floor
        ("_kernels.casts", "from fp8sim._kernels._jit import jit\nfrom . import _jit", set()),
        ("_kernels.__init__", "from .casts import cast", set()),
        ("_kernels.__init__", "from ..gemm import matmul", {"gemm"}),
        ("plotting.sums", "from fp8sim.report.page import page", {"report.page"}),
        ("formats", "def late():\n    from fp8sim.cli import main", {"cli.__init__"}),
        ("formats", "if TYPE_CHECKING:\n    from fp8sim.recipes import Recipe", {"recipes"}),
        ("gemm", "from fp8sim import metrics\nfrom fp8sim.recipes import Recipe\nimport numpy", set()),
        ("gemm", "from fp8sim import __version__", set()),  # the root has rules of its own
        ("nowhere.module", "from fp8sim._support import checks", {"_support.checks"}),
    ],
)
def test_an_import_from_no_lower_floor_is_found(module, source, uphills):
    assert uphill(source, module, KNOWN) == uphills


def test_a_circle_is_found_without_what_only_leads_to_it_or_from_it():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"d", "e"}, "d": {"b"}, "e": set(), "f": {"f"}}
    assert circles(graph) == [["b", "c", "d"], ["f"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_a_circle_in_functions_and_types_counts():
    sources = {
        "a.x": "def f():\n    from fp8sim.a import y",
        "a.y": "if TYPE_CHECKING:\n    from fp8sim.a.x import X",
    }
    assert circles(graph_of(sources)) == [["a.x", "a.y"]]


def test_a_circle_of_packages_is_found_where_there_is_none_of_modules():
    graph = {"a.x": {"b"}, "b": {"a.in.y"}, "a.in.y": {"a.z"}, "a.z": set()}
    assert circles(graph) == []
    assert circles(packages(graph, 1)) == [["a", "b"]]
    assert circles(packages(graph, 2)) == [["a", "a.in", "b"]]
    inside = {"a.x": {"a.in.y"}, "a.in.y": {"a.z"}, "a.z": set()}
    assert circles(packages(inside, 1)) == []
    assert circles(packages(inside, 2)) == [["a", "a.in"]]


def test_the_longest_chain_is_that_of_the_imports():
    house = {"a": {"b", "d"}, "b": {"c"}, "c": {"d"}, "d": set(), "e": {"d"}}
    assert longest_chain(house) == ["a", "b", "c", "d"]


def test_what_does_not_run_on_loading_is_taken_away():
    source = """
import t
if t.TYPE_CHECKING:
    import a
if TYPE_CHECKING:
    import b
else:
    import c
if x:
    import d
class C:
    import e
    def method(self):
        import f
def function():
    import g
"""
    assert imports(source) == set("tabcdefg")
    assert imports(on_loading(source)) == set("tcde")


def test_loading_a_kernel_is_found_through_packages_and_other_modules():
    sources = {
        "_kernels.__init__": "from fp8sim._kernels._jit import jit",
        "_kernels._jit": "import numba",
        "_kernels.plain": "",
        "at_once": "from fp8sim._kernels import plain",
        "through": "from fp8sim.at_once import x",
        "late": "def f():\n    from fp8sim._kernels import plain",
        "types": "if TYPE_CHECKING:\n    import numba.core",
    }
    late = loads(sources, {"numba"})
    assert late == {"_kernels.__init__", "_kernels._jit", "_kernels.plain", "at_once", "through"}


def test_numba_is_found_by_any_of_its_names():
    assert imports("import numba\nfrom numba.typed import List") == {"numba", "numba.typed.List"}


@pytest.mark.parametrize(
    ("source", "printing"),
    [
        ("def f():\n    print('x')", True),
        ("sys.stderr.write('x')", True),
        ("def f():\n    return pprint('x')", False),
        ("console.print(grid)", False),  # of rich, which a table writes itself with
    ],
)
def test_printing_is_found(source, printing):
    assert prints(source) == printing


def test_what_is_taken_from_the_root_is_found():
    source = (
        "import fp8sim\nfrom fp8sim import __version__, gemm\nfrom .. import matmul\nimport fp8sim.formats"
    )
    assert borrowed(source, "plotting.sums", KNOWN) == {"fp8sim", "__version__", "matmul"}
    assert defined("from a import b\n__version__ = '1'\n__all__ = ['b']") == {"__version__", "__all__"}


def test_files_are_counted_and_folders_are_not(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "py.typed").touch()
    assert files_in(tmp_path) == ["py.typed"]
