"""Sweeps: rows, the file that resumes, executors of every kind, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import math
import os
import random
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import fp8sim
import sweep_measures
from fp8sim._support.files import locked
from fp8sim._support.threads import get_num_threads
from fp8sim.experiments.studies import STUDIES
from fp8sim.experiments.sweeps import workers
from fp8sim.experiments.sweeps.identity import digest
from fp8sim.experiments.sweeps.values import from_json, plain, to_json
from sweep_measures import cheap, deadly, ends, fatal, product, slow, threads

POINTS = {"x": range(23), "y": [0, 2]}
unix = pytest.mark.skipif(os.name == "nt", reason="signals and limits are of Unix")


def same(left, right):
    """Compare rows, in which NaN is NaN."""
    return repr(left) == repr(right)


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made,
        distributed.Client(made) as client,
    ):
        yield client


@pytest.fixture(
    params=[
        "none",
        "one thread",
        "three threads",
        "processes",
        pytest.param("cluster", marks=[pytest.mark.extra, pytest.mark.filterwarnings("default")]),
    ]
)
def executor(request):
    """Every way to run a sweep."""
    if request.param == "none":
        yield None
    elif request.param == "cluster":
        yield request.getfixturevalue("cluster").get_executor()
    elif request.param == "processes":
        yield request.getfixturevalue("processes")
    else:
        with ThreadPoolExecutor(1 if request.param == "one thread" else 3) as pool:
            yield pool


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows and the file of one sweep, as one process makes them."""
    file = tmp_path_factory.mktemp("whole") / "cheap.jsonl"
    return fp8sim.sweep(cheap, POINTS, out=file), file.read_bytes()


# --- rows -----------------------------------------------------------------------------------------


def test_rows_are_in_the_order_of_the_grid_with_arguments_results_and_error():
    result = fp8sim.sweep(cheap, {"x": [0, 5, 25], "y": [1]})
    assert same(
        list(result.rows),
        [
            {"x": 0, "y": 1, "inverse": math.inf, "root": 0.0, "text": "é0", "even": True, "nothing": None,
             "half": 1.0, "error": None},
            {"x": 5, "y": 1, "error": "ValueError: no 5\\nhere"},
            {"x": 25, "y": 1, "inverse": 0.04, "root": math.nan, "text": "é25", "even": False,
             "nothing": None, "half": 13.5, "error": None},
        ],
    )  # fmt: skip
    assert result.failed == result.rows[1:2]
    assert result.columns == ["x", "y", "inverse", "root", "text", "even", "nothing", "half", "error"]
    points = fp8sim.sweep(pow, {"base": [2, 3], "exp": (0, 1, 2)}).rows
    assert [(row["base"], row["exp"]) for row in points] == [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]
    assert [row["value"] for row in points] == [1, 2, 4, 1, 3, 9]


def test_a_list_of_points_is_swept_in_its_order():
    points = [{"base": 3, "exp": 2}, {"base": 2, "exp": 1, "mod": 2}]
    rows = fp8sim.sweep(pow, points).rows
    assert rows == (
        {"base": 3, "exp": 2, "value": 9, "error": None},
        {"base": 2, "exp": 1, "mod": 2, "value": 0, "error": None},
    )


def test_values_of_numpy_become_pythons_and_what_has_a_name_is_passed_on_as_it_is():
    seen = []
    recipe = fp8sim.get_recipe("mxfp8")
    core = fp8sim.TENSOR_CORES["hopper-fp8"]
    grid = {"n": np.arange(2), "what": [recipe, core, fp8sim.get_format("e4m3"), "text", None]}
    result = fp8sim.sweep(lambda **point: seen.append(point) or point["what"] is None, grid)
    assert [type(point["n"]) for point in seen] == [int] * 10
    assert seen[0]["what"] is recipe
    assert seen[1]["what"] is core
    assert [row["what"] for row in result.rows[:5]] == ["mxfp8", "hopper-fp8", "e4m3", "text", None]


@pytest.mark.parametrize(
    ("value", "row"),
    [
        (np.float32(0.1), float(np.float32(0.1))),
        (np.longdouble(0.5), 0.5),
        (np.int8(-3), -3),
        (np.bool_(True), True),
        (np.array(2.5), 2.5),
        (fp8sim.encode(1.5, "e4m3")[()], 1.5),
        (np.str_("x"), "x"),
        (Path("a/b"), str(Path("a/b"))),
        (math.nan, math.nan),
        ("-Infinity", -math.inf),
        (fp8sim.get_recipe("bf16"), "bf16"),
    ],
)
def test_a_value_in_a_row_is_plain_and_comes_back_from_a_file(value, row):
    assert same(plain(value), row)
    assert type(plain(value)) is type(row)
    line = to_json({"x": plain(value)})
    assert same(from_json(line)["x"], row)
    json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (object(), "TypeError: <object object"),
        ([1, 2], "TypeError: [1, 2] is no number, text, True, False or None, and has no name"),
        (1j, "TypeError: 1j is no number"),
        (10**400, "ValueError: a whole number of 1329 bits is too large for a row"),
        ({"x": 1}, "ValueError: a result is called x, as another column is"),
        ({"error": 1}, "ValueError: a result is called error, as another column is"),
        ({1: 1}, "TypeError: a result goes by its name, got 1"),
    ],
)
def test_what_cannot_stand_in_a_row_is_an_error_of_its_point(result, says):
    (row,) = fp8sim.sweep(lambda x: result, {"x": [1]}).rows
    assert row["error"].startswith(says)
    assert row.keys() == {"x", "error"}


def test_what_is_raised_reaches_a_terminal_in_one_line():
    def fails(x):
        raise RuntimeError("\x1b[31mred\n" + "long " * 10_000)

    (row,) = fp8sim.sweep(fails, {"x": [1]}).rows
    assert row["error"].startswith("RuntimeError: \\x1b[31mred\\nlong")
    assert len(row["error"]) < 5000


def test_an_interrupt_is_no_row(tmp_path):
    def stops(x):
        if x == 2:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        fp8sim.sweep(stops, {"x": range(4)}, out=tmp_path / "f.jsonl")
    assert len((tmp_path / "f.jsonl").read_text().splitlines()) == 3


def test_a_function_that_would_end_the_program_is_a_row(executor):
    rows = fp8sim.sweep(ends, {"x": range(5)}, executor=executor).rows
    assert [row.get("value") for row in rows] == [0, None, None, None, 4]
    assert [row["error"] for row in rows[1:4]] == [
        "SystemExit: 5",
        "GeneratorExit: ",
        "Unsaid: its message cannot be written (RuntimeError)",
    ]


# --- what is refused ------------------------------------------------------------------------------


def takes_k(k, *, m=1):
    return k


NAMED_TWICE = [dataclasses.replace(fp8sim.get_recipe("bf16"), accumulator=name) for name in ("fp32", "exact")]


@pytest.mark.parametrize(
    ("grid", "error", "says"),
    [
        ({}, ValueError, "the grid is empty: name an argument and its values"),
        ([], ValueError, "the grid is empty"),
        ([{}], ValueError, "the grid is empty"),
        ({"k": []}, ValueError, "the grid is empty: k has no values"),
        ({"k": [1], "kk": [2]}, ValueError, r"unknown argument of .*takes_k 'kk'; did you mean 'k'\?"),
        ({"m": [1]}, ValueError, "takes_k needs k: add them to the grid"),
        ([{"k": 1}, {"m": 1}], ValueError, "takes_k needs k"),
        ({"k": 1}, TypeError, r"k must be a list of values, got 1; write \[1\]"),
        ({"k": "abc"}, TypeError, r"k must be a list of values, got 'abc'; write \['abc'\]"),
        ({"k": [[1]]}, TypeError, r"k: \[1\] is no number, text, True, False or None, and has no name"),
        ({"k": [1, 2, 1]}, ValueError, "k holds 1 twice; leave one out"),
        ({"k": NAMED_TWICE}, ValueError, 'k holds "bf16" twice; .* give each a name of its own'),
        ([{"k": 1, "m": 2}, {"m": 2, "k": 1}], ValueError, r'the grid holds {"k": 1, "m": 2} twice'),
        ({1: [1]}, TypeError, "arguments go by their names, got 1"),
        ("k", TypeError, "the grid must map arguments to lists, or be a list of points, got 'k'"),
        (3, TypeError, "the grid must map arguments to lists"),
        ([3], TypeError, "a point must map arguments to values, got 3"),
        ({"k": range(10**7), "m": range(10**7)}, ValueError, "TB of memory"),
    ],
    ids=str,
)
def test_a_grid_that_is_none_is_refused_before_anything_is_run(grid, error, says):
    with pytest.raises(error, match=says):
        fp8sim.sweep(takes_k, grid)


def test_what_is_no_function_or_no_executor_is_refused():
    with pytest.raises(TypeError, match="a sweep is of a function, got 3"):
        fp8sim.sweep(3, {"k": [1]})
    with pytest.raises(ValueError, match="no argument can be called error"):
        fp8sim.sweep(lambda **point: 1, {"error": [1]})
    with pytest.raises(TypeError, match=r"must be a concurrent.futures.Executor, got 4; pass ProcessPool"):
        fp8sim.sweep(takes_k, {"k": [1]}, executor=4)

    class Client:
        def get_executor(self):
            pytest.fail("called")

    with pytest.raises(TypeError, match=r"got .*; pass client.get_executor\(\)"):
        fp8sim.sweep(takes_k, {"k": [1]}, executor=Client())


def test_a_function_that_no_process_can_load_is_refused_with_what_to_do(processes, tmp_path):
    with pytest.raises(TypeError, match=r"<lambda> or a value of its grid cannot be sent to another process"):
        fp8sim.sweep(lambda x: x, {"x": [1]}, executor=processes, out=tmp_path / "f.jsonl")
    assert list(tmp_path.iterdir()) == []


# --- the file -------------------------------------------------------------------------------------


def test_the_file_says_what_is_swept_and_holds_strict_json(whole):
    _, content = whole
    header, *lines = (json.loads(line, parse_constant=pytest.fail) for line in content.splitlines())
    assert header == {
        "fp8sim sweep": 1,
        "measure": "sweep_measures.cheap",
        "code": digest(cheap, "cheap"),
        "grid": {"x": list(range(23)), "y": [0, 2]},
        "points": 46,
        "versions": {
            "fp8sim": fp8sim.__version__,
            "numpy": np.__version__,
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        },
    }
    assert [line["point"] for line in lines] == [{"x": x, "y": y} for x in range(23) for y in (0, 2)]
    assert lines[0]["result"]["inverse"] == "Infinity"
    assert lines[-1]["result"]["root"] == "NaN"
    assert lines[10] == {"point": {"x": 5, "y": 0}, "error": "ValueError: no 5\\nhere"}


def test_a_file_and_its_rows_are_the_same_whatever_runs_the_points(executor, tmp_path, whole):
    rows = []
    result = fp8sim.sweep(cheap, POINTS, executor=executor, out=tmp_path / "f.jsonl", on_row=rows.append)
    assert (tmp_path / "f.jsonl").read_bytes() == whole[1]
    assert same(result.rows, whole[0].rows)
    assert sorted(map(repr, rows)) == sorted(map(repr, result.rows))
    assert [path.name for path in tmp_path.iterdir()] == ["f.jsonl"]


def test_products_are_the_same_to_the_bit_whatever_runs_them(executor):
    grid = {"recipe": ["bf16", fp8sim.get_recipe("deepseek-v3")], "seed": range(3)}
    assert fp8sim.sweep(product, grid, executor=executor).rows == fp8sim.sweep(product, grid).rows


def test_a_file_that_is_all_there_is_read_and_nothing_is_run(tmp_path, whole, monkeypatch):
    (tmp_path / "f.jsonl").write_bytes(whole[1])
    monkeypatch.setattr(workers, "run_point", None)  # would raise if it were called
    rows = []
    assert same(fp8sim.sweep(cheap, POINTS, out=tmp_path / "f.jsonl", on_row=rows.append).rows, whole[0].rows)
    assert same(tuple(rows), whole[0].rows)


def test_a_file_that_was_cut_off_anywhere_is_gone_on_from(tmp_path, monkeypatch):
    grid, file = {"x": [3, 5, 24], "y": [1]}, tmp_path / "f.jsonl"
    fp8sim.sweep(cheap, grid, out=file)
    content = file.read_bytes()
    runs, run_point = [], workers.run_point

    def counted(measure, point):
        runs[-1] += 1
        return run_point(measure, point)

    monkeypatch.setattr(workers, "run_point", counted)
    for end in range(len(content)):
        file.write_bytes(content[:end])
        runs.append(0)
        fp8sim.sweep(cheap, grid, out=file)
        assert file.read_bytes() == content
    assert runs == sorted(runs, reverse=True)
    assert set(runs) == {1, 2, 3}


def test_rows_in_any_order_and_damaged_ones_are_put_right(tmp_path, whole):
    header, *lines = whole[1].splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    lines[3] = b"\0" * 20 + b"\n"
    lines[5] = lines[5][: len(lines[5]) // 2] + lines[6]
    lines[8] = b'{"point": {"x": 99, "y": 0}, "result": {}}\n'
    lines[9] = b'{"point": {"x": 0, "y": 0}}\n'
    lines[10] = b'{"point": {"x": 0, "y": 2}, "result": {"x": 1}}\n'
    lines[11:13] = [
        b"[]\n",
        b'{"point": 3}\n',
        b"\n",
        b"[" * 10_000 + b"\n",
        lines[0],
        b'{"point": {}, "result"',
    ]
    (tmp_path / "f.jsonl").write_bytes(header + b"".join(lines))
    assert same(fp8sim.sweep(cheap, POINTS, out=tmp_path / "f.jsonl").rows, whole[0].rows)
    assert (tmp_path / "f.jsonl").read_bytes() == whole[1]


ROW = b'"result": {"value": 4}'


@pytest.mark.parametrize(
    ("old", "new", "runs"),
    [
        (b'{"value": 4}', b'["ab"]', 1),
        (b'{"value": 4}', b'"ab"', 1),
        (b'{"value": 4}', b"null", 1),
        (b'{"value": 4}', b'{"value": [1, 2]}', 1),
        (b'{"value": 4}', b'{"value": {"x": 1}}', 1),
        (b'{"value": 4}', b'{"error": "x"}', 1),
        (ROW, b'"error": null', 1),
        (ROW, b'"error": 5', 1),
        (ROW, b'"error": "x", "result": {}', 1),
        (b"\n", b"\r\n", 0),
        (b"{", b" {", 0),
        (b'"value": ', b'"value":', 0),
        (b'{"fp8sim sweep', b'\xef\xbb\xbf{"fp8sim sweep', 0),
        (b'"x": 2}', b'"x": 2.0}', 1),
        (b'"x": 2}', b'"x": "2"}', 1),
    ],
)
def test_a_row_that_is_not_as_it_would_be_written_is_put_right(tmp_path, monkeypatch, old, new, runs):
    file, grid = tmp_path / "f.jsonl", {"x": [1, 2, 3]}

    def measure(x):
        return x * x

    rows = fp8sim.sweep(measure, grid, out=file).rows
    content, run_point, seen = file.read_bytes(), workers.run_point, []
    monkeypatch.setattr(workers, "run_point", lambda *task: seen.append(task) or run_point(*task))
    assert old in content
    file.write_bytes(content.replace(old, new))
    assert fp8sim.sweep(measure, grid, out=file).rows == rows
    assert file.read_bytes() == content
    assert len(seen) == runs


def test_blocks_of_a_file_that_a_crash_left_empty_are_gone_on_from(tmp_path, whole):
    file, header = tmp_path / "f.jsonl", whole[1].index(b"\n")
    for end in (0, 7, header // 2, header, header + 1, header + 40):
        file.write_bytes(whole[1][:end] + b"\0" * 50)
        assert same(fp8sim.sweep(cheap, POINTS, out=file).rows, whole[0].rows)
        assert file.read_bytes() == whole[1]


def other(x, y=0):
    return 1


CHANGED = dataclasses.replace(fp8sim.get_recipe("bf16"), accumulator="fp32")


@pytest.mark.parametrize(
    ("measure", "grid", "says"),
    [
        (other, POINTS, r"measure is sweep_measures.cheap there and .*other here"),
        (functools.partial(cheap, y=1), {"x": POINTS["x"]}, r"cheap there and sweep_measures.cheap\(y=1\) here"),
        (cheap, {"x": range(22), "y": [0, 2]}, r"x is \[0, 1, .*\] there and \[0, .*\] here; points is 46 there"),
        (cheap, {"x": POINTS["x"]}, r"y is \[0, 2\] there and missing here"),
        (cheap, {"y": POINTS["y"], "x": POINTS["x"]}, "its arguments are in another order"),
        (cheap, [{"x": 1}], r"grid is {'x': .* there and \[{'x': 1}\] here"),
    ],
)  # fmt: skip
def test_the_file_of_another_sweep_is_refused_with_what_differs(tmp_path, whole, measure, grid, says):
    (tmp_path / "f.jsonl").write_bytes(whole[1])
    with pytest.raises(ValueError, match=rf"f.jsonl is of another sweep: .*{says}.*; name another file"):
        fp8sim.sweep(measure, grid, out=tmp_path / "f.jsonl")
    assert (tmp_path / "f.jsonl").read_bytes() == whole[1]


def test_the_file_of_another_version_and_of_another_recipe_of_one_name_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "f.jsonl"
    grid = {"recipe": [fp8sim.get_recipe("bf16")], "seed": [0]}
    first = fp8sim.sweep(product, grid, out=file)
    assert fp8sim.sweep(product, grid, out=file).rows == first.rows
    with pytest.raises(ValueError, match="another sweep: what a name in the grid stands for has changed"):
        fp8sim.sweep(product, {**grid, "recipe": [CHANGED]}, out=file)
    monkeypatch.setattr(np, "__version__", "9.9")
    with pytest.raises(ValueError, match=r"another sweep: numpy is \d.* there and 9.9 here"):
        fp8sim.sweep(product, grid, out=file)


class Times:
    """What has a factor, and maybe a name: an object whose methods, or that itself, may be swept."""

    def __init__(self, factor, name="times"):
        self.factor, self.name = factor, name

    def of(self, x):
        return self.factor * x

    __call__ = of


@dataclasses.dataclass(frozen=True)
class Told:
    name: str
    value: object


def weighted(x, weights):
    return x * sum(weights)


def closed(factor):
    return lambda x: factor * x


def in_notebook(source):
    """Return what a notebook defines: its functions are of no module that could be imported."""
    place = {"__name__": "__main__", "math": math}
    exec(source, place)
    return place["error"]


LONG = [1.0] * 5000
HALF = [*LONG[:2500], 7.0, *LONG[2501:]]
NOTEBOOK = "def error(x): return x"
HELPED = "def helper(x): return {}\ndef error(x): return helper(x)"
METHOD = "class Model:\n  def of(self, x): return self.other(x)\n  def other(self, x): return {}\nerror = Model().of"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x, lambda x: 100 * x),
        (lambda x: x + 1, lambda x: x - 1),
        (lambda x: math.sin(x), lambda x: math.cos(x)),
        (lambda x, y=1: x * y, lambda x, y=2: x * y),
        (lambda x, *, y=1: x * y, lambda x, *, y=2: x * y),
        (lambda x: sum(x * y for y in (1,)), lambda x: sum(x * y for y in (2,))),
        (closed(2), closed(3)),
        (closed(np.float32(2)), closed(np.float64(2))),
        (Times(2).of, Times(3).of),
        (Times(2), Times(3)),
        (functools.partial(weighted, weights=LONG), functools.partial(weighted, weights=HALF)),
        (
            functools.partial(weighted, weights=np.array(LONG)),
            functools.partial(weighted, weights=np.array(HALF)),
        ),
        (functools.lru_cache(lambda x: x), functools.lru_cache(lambda x: 2 * x)),
        (in_notebook(NOTEBOOK), in_notebook(f"{NOTEBOOK}, 1")),
        (in_notebook(HELPED.format("x")), in_notebook(HELPED.format("-x"))),
        (in_notebook(f"scale = 2\n{NOTEBOOK} * scale"), in_notebook(f"scale = 3\n{NOTEBOOK} * scale")),
        (in_notebook(METHOD.format("x")), in_notebook(METHOD.format("-x"))),
    ],
)
def test_the_file_of_another_function_of_one_name_is_refused(tmp_path, one, other):
    file, grid = tmp_path / "f.jsonl", {"x": [1, 2]}
    first = fp8sim.sweep(one, grid, out=file)
    assert fp8sim.sweep(one, grid, out=file).rows == first.rows
    with pytest.raises(
        ValueError, match=r"another sweep: (measure is .*|the code of the function, or a value)"
    ):
        fp8sim.sweep(other, grid, out=file)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Times(2, "a"), Times(3, "a")),
        (Told("a", np.float32(1)), Told("a", np.float32(2))),
        (Told("a", {"k": 1}), Told("a", {"k": 2})),
        (Told("a", np.arange(3.0)), Told("a", np.arange(3.0) + 1)),
        (Told("a", [{1, 2}]), Told("a", [{1, 3}])),
        (Told("a", object()), Told("a", [])),
    ],
)
def test_the_file_of_another_object_of_one_name_is_refused(tmp_path, one, other):
    file = tmp_path / "f.jsonl"
    fp8sim.sweep(lambda x: x.name, {"x": [one]}, out=file)
    fp8sim.sweep(lambda x: x.name, {"x": [one]}, out=file)
    with pytest.raises(ValueError, match="another sweep: what a name in the grid stands for has changed"):
        fp8sim.sweep(lambda x: x.name, {"x": [other]}, out=file)


def test_what_cannot_be_told_from_another_keeps_no_rows_and_is_measured_without_a_file(tmp_path):
    lock, file = threading.Lock(), tmp_path / "f.jsonl"
    measure = functools.partial(lambda x, lock: x, lock=lock)
    with pytest.raises(
        ValueError, match=r"out= keeps no rows of .*: it holds or reads <unlocked .*; make that in"
    ):
        fp8sim.sweep(measure, {"x": [1]}, out=file)
    with pytest.raises(ValueError, match="out= keeps no rows of this grid: it holds or reads <unlocked"):
        fp8sim.sweep(lambda x: 1, {"x": [Told("a", lock)]}, out=file)
    assert list(tmp_path.iterdir()) == []
    assert fp8sim.sweep(measure, {"x": [1]}).rows[0]["value"] == 1


def test_a_function_is_known_again_in_another_process_and_wherever_it_stands(tmp_path):
    script = (
        "import functools, sys, numpy as np, fp8sim\n"
        "class K: pass\n"
        "def g(x, k, s, a): return x\n"
        "f = functools.partial(g, k=K(), s={'a', 'b', 'c'}, a=np.arange(5))\n"
        "print(len(fp8sim.sweep(f, {'x': [1]}, out=sys.argv[1]).rows))\n"
    )
    for lines in ("", "\n\n'moved down'\n"):
        subprocess.run(
            [sys.executable, "-c", lines + script, str(tmp_path / "f.jsonl")],
            env={**os.environ, "PYTHONPATH": str(Path(fp8sim.__file__).parents[1])},
            check=True,
        )
    assert '"measure": "__main__.g(k=K, s=set, a=ndarray)"' in (tmp_path / "f.jsonl").read_text()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"x,y\n1,2\n", "no file of a sweep; name another one"),
        (b"no line", "no file of a sweep"),
        (b"[1]\n", "no file of a sweep"),
        (b"\xff\xfe\n", "no file of a sweep"),
        (b"[" * 100_000 + b"\n", "no file of a sweep"),
        (b'{"fp8sim sweep": 2}\n', "of a newer fp8sim; name another file, or update"),
    ],
)
def test_a_file_that_is_no_sweeps_is_refused_and_kept(tmp_path, content, says):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ValueError, match=rf"f is {says}"):
        fp8sim.sweep(cheap, POINTS, out=tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == content


def test_a_name_that_no_file_can_have_is_refused_before_anything_is_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .* to write f\.jsonl in; make it first"):
        fp8sim.sweep(pytest.fail, {"reason": ["x"]}, out=tmp_path / "none" / "f.jsonl")
    with pytest.raises(ValueError, match=r"is a folder; name a file in it, such as .*sweep.jsonl"):
        fp8sim.sweep(pytest.fail, {"reason": ["x"]}, out=tmp_path)


def test_a_second_run_into_one_file_is_refused(tmp_path, whole):
    pytest.importorskip("fcntl")
    refused = []

    def again(row):
        with pytest.raises(ValueError, match=r"another run writes in .*f.jsonl; .* name another file"):
            fp8sim.sweep(cheap, POINTS, out=tmp_path / "f.jsonl")
        refused.append(row)

    fp8sim.sweep(cheap, POINTS, out=tmp_path / "f.jsonl", on_row=again)
    assert len(refused) == 46
    assert (tmp_path / "f.jsonl").read_bytes() == whole[1]


@unix
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside threads, as pools may do
def test_a_process_that_was_forked_off_does_not_keep_a_lock(tmp_path):
    pytest.importorskip("fcntl")
    (reader, writer), (ended, end) = os.pipe(), os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if not child:  # pragma: no cover
            os.close(end)
            os.write(writer, b"!")
            os.read(ended, 1)
            os._exit(0)
        os.read(reader, 1)
    try:
        with locked(tmp_path):
            pass
    finally:
        for pipe in (reader, writer, ended, end):
            os.close(pipe)
        os.waitpid(child, 0)


def test_a_file_that_was_replaced_while_it_was_waited_for_is_not_taken_for_the_new_one(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    file = tmp_path / "f"
    file.write_text("old")

    def flock(handle, how):
        file.unlink()
        file.write_text("new")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ValueError, match="another run writes in"), locked(file):
        pytest.fail("taken")


@unix
def test_a_full_disk_says_so_and_leaves_whole_lines_to_go_on_from(tmp_path, whole):
    import resource

    file, limits = tmp_path / "f.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*f.jsonl: File too large; make room for it: \d of 46 rows are in "
                           r".*f.jsonl: run the same again, and it goes on from there"):  # fmt: skip
            fp8sim.sweep(cheap, POINTS, out=file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes().endswith(b"\n")
    assert whole[1].startswith(file.read_bytes())
    fp8sim.sweep(cheap, POINTS, out=file)
    assert file.read_bytes() == whole[1]


def test_a_disk_that_is_full_when_rows_are_put_in_order_keeps_them(tmp_path, whole, monkeypatch):
    header, *lines = whole[1].splitlines(keepends=True)
    file = tmp_path / "f.jsonl"
    file.write_bytes(header + b"".join(reversed(lines)))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left on device; make room for it: 46 of 46 rows are in"):
            fp8sim.sweep(cheap, POINTS, out=file)
    assert [path.name for path in tmp_path.iterdir()] == ["f.jsonl"]
    fp8sim.sweep(cheap, POINTS, out=file)
    assert file.read_bytes() == whole[1]


@unix
@pytest.mark.parametrize(("kind", "seed"), [("none", 0), ("threads", 1), ("processes", 2), ("processes", 3)])
def test_a_run_that_is_killed_anywhere_is_gone_on_from_to_the_same_bytes(tmp_path, kind, seed):
    file = tmp_path / "f.jsonl"
    script = [sys.executable, sweep_measures.__file__, str(file), kind, "60"]
    search = os.pathsep.join([str(Path(fp8sim.__file__).parents[1]), str(Path(__file__).parent)])
    chance, seen = random.Random(seed), []
    for _ in range(2):
        child = subprocess.Popen(script, env={**os.environ, "PYTHONPATH": search})
        rows = chance.randrange(2, 30) + len(seen)
        deadline = time.monotonic() + 60
        while (file.read_bytes() if file.exists() else b"").count(b"\n") < rows:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        child.kill()
        child.wait()
        before, seen = seen, file.read_bytes().splitlines()[1:-1]
        assert set(before) <= {*seen, file.read_bytes().splitlines()[-1]}  # nothing that was there is lost
    fp8sim.sweep(slow, {"x": range(60)}, out=file)
    fp8sim.sweep(slow, {"x": range(60)}, out=tmp_path / "whole.jsonl")
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


# --- executors ------------------------------------------------------------------------------------


@unix
def test_a_worker_that_dies_says_how_to_go_on(tmp_path):
    file = tmp_path / "f.jsonl"
    again = r"f.jsonl: run the same again, and it goes on from there"
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        pytest.raises(
            ChildProcessError, match=rf"a worker died at {{'x': 3, .*, or could not load .*fatal .*{again}"
        ),
    ):
        fp8sim.sweep(fatal, {"x": range(6), "marks": [str(tmp_path)]}, executor=pool, out=file)
    assert file.read_bytes().endswith(b"\n")
    rows = fp8sim.sweep(fatal, {"x": range(6), "marks": [str(tmp_path)]}, out=file).rows
    assert [row["value"] for row in rows] == [x * x for x in range(6)]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        with pytest.raises(
            ChildProcessError, match=r"pass out=FILE, and the same again goes on from its rows"
        ):
            fp8sim.sweep(deadly, {"x": [3]}, executor=pool)
        with pytest.raises(ChildProcessError, match="a worker died"):  # of a pool that is broken already
            fp8sim.sweep(deadly, {"x": [1]}, executor=pool)


@unix
@pytest.mark.parametrize("count", [6, 40])
def test_a_point_that_always_kills_its_worker_is_found_and_fails(tmp_path, count):
    file, said = tmp_path / "f.jsonl", []
    for _ in range(6):
        try:
            with ProcessPoolExecutor(2, get_context("spawn")) as pool:
                rows = fp8sim.sweep(deadly, {"x": range(count)}, executor=pool, out=file).rows
                break
        except ChildProcessError as error:
            said.append(str(error))
    assert [row.get("value") for row in rows] == [x if x != 3 else None for x in range(count)]
    assert rows[3]["error"] == "ChildProcessError: a worker died at this point, twice"
    assert re.search(r"a worker died at .*{'x': 3}", said[0])
    assert said[-1].startswith("a worker died at {'x': 3}, or could not load")
    assert [json.loads(line)["point"]["x"] for line in file.read_text().splitlines()[1:]] == list(
        range(count)
    )
    assert 'died":' not in file.read_text()


@unix
def test_a_point_is_not_blamed_for_workers_that_never_lived(tmp_path):
    file = tmp_path / "f.jsonl"
    for _ in range(3):
        with (
            ProcessPoolExecutor(1, get_context("spawn"), initializer=os._exit, initargs=(1,)) as pool,
            pytest.raises(ChildProcessError, match="0 of 1 rows are in"),
        ):
            fp8sim.sweep(cheap, {"x": [1]}, executor=pool, out=file)
    assert fp8sim.sweep(cheap, {"x": [1]}, out=file).failed == ()


@unix
@pytest.mark.extra
@pytest.mark.filterwarnings("default")
def test_a_worker_of_a_cluster_that_is_killed_is_replaced_and_its_points_are_run_again(tmp_path):
    distributed = pytest.importorskip("distributed")
    (tmp_path / "marks").mkdir()
    grid = {"x": range(40), "marks": [str(tmp_path / "marks")]}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made,
        distributed.Client(made) as client,
    ):
        rows = fp8sim.sweep(fatal, grid, executor=client.get_executor(), out=tmp_path / "f.jsonl").rows
    assert [row["value"] for row in rows] == [x * x for x in range(40)]
    assert [path.name for path in (tmp_path / "marks").iterdir()] == ["3"]
    fp8sim.sweep(fatal, grid, out=tmp_path / "g.jsonl")
    assert (tmp_path / "f.jsonl").read_bytes() == (tmp_path / "g.jsonl").read_bytes()


def test_every_worker_keeps_to_one_thread_and_gives_them_back(executor):
    pytest.importorskip("threadpoolctl")
    if executor is None:
        return
    before = threads(0), fp8sim.sweep(threads, {"x": [0]}).rows[0]
    rows = fp8sim.sweep(threads, {"x": range(8)}, executor=executor).rows
    assert {(row["fp8sim"], row["blas"], row["torch"]) for row in rows} == {(1, 1, 1)}
    assert (threads(0), fp8sim.sweep(threads, {"x": [0]}).rows[0]) == before
    if rows[0]["process"] != os.getpid():  # nor do the workers themselves stay limited
        assert executor.submit(get_num_threads).result() == len(os.sched_getaffinity(0))


def test_without_threadpoolctl_all_but_a_blas_is_limited(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    workers.one_thread.__globals__["_blas_controller"].cache_clear()
    with ThreadPoolExecutor(1) as pool:
        rows = fp8sim.sweep(lambda x: get_num_threads(), {"x": range(3)}, executor=pool).rows
    workers.one_thread.__globals__["_blas_controller"].cache_clear()
    assert [row["value"] for row in rows] == [1, 1, 1]


class Later(Executor):
    """Runs a task when it likes to, and counts what it was given."""

    def __init__(self):
        self.shares, self.waiting, self.most, self.cancelled = [], 0, 0, 0
        self.pool = ThreadPoolExecutor(1)

    def submit(self, function, measure, points):
        self.shares.append(len(points))
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        future = Future()

        def run():
            if not future.set_running_or_notify_cancel():
                self.cancelled += 1
                return
            try:
                result = function(measure, points)
            except BaseException as error:
                self.waiting -= 1
                future.set_exception(error)
            else:
                self.waiting -= 1
                future.set_result(result)

        self.pool.submit(run)
        return future


def test_shares_of_quick_points_grow_and_few_wait_at_once():
    later = Later()
    rows = fp8sim.sweep(lambda x: x, {"x": range(20_000)}, executor=later).rows
    assert [row["value"] for row in rows] == list(range(20_000))
    assert later.shares[: workers._FIRST] == [1] * workers._FIRST
    assert max(later.shares) > 100
    assert len(later.shares) < 1000
    assert later.most <= workers._AHEAD


def test_a_share_hands_back_the_points_that_it_had_no_time_for(monkeypatch):
    monkeypatch.setattr(workers, "_SECONDS", 0.02)
    later = Later()
    rows = fp8sim.sweep(lambda x: time.sleep(0.01 * (x > 300)) or x, {"x": range(360)}, executor=later).rows
    assert [row["value"] for row in rows] == list(range(360))
    assert sum(later.shares) > 360  # some were handed back


def test_what_waits_is_cancelled_when_a_sweep_ends_early(monkeypatch):
    class Stop(Exception):
        pass

    def stop(row):
        raise Stop

    later = Later()
    with pytest.raises(Stop):
        fp8sim.sweep(lambda x: time.sleep(0.01), {"x": range(100)}, executor=later, on_row=stop)
    later.pool.shutdown()
    assert later.cancelled >= workers._FIRST - 3


def test_where_nothing_comes_back_for_long_all_workers_get_a_point(monkeypatch):
    monkeypatch.setattr(workers, "_PATIENCE", 0.05)
    started, go_on = threading.Semaphore(0), threading.Event()

    def waits(x):
        started.release()
        assert go_on.wait(30)

    with ThreadPoolExecutor(workers._FIRST + 4) as pool, ThreadPoolExecutor(1) as outside:
        future = outside.submit(fp8sim.sweep, waits, {"x": range(50)}, executor=pool)
        assert all(started.acquire(timeout=30) for _ in range(workers._FIRST + 4))
        go_on.set()
        assert len(future.result().rows) == 50


# --- what there is of a result --------------------------------------------------------------------


def test_a_table_of_rows_says_how_many_more_there_are_and_what_failed(whole):
    text = repr(whole[0])
    assert text.startswith("sweep_measures.cheap at 46 points\n")
    assert "and 26 more rows\n6 points failed, the first: ValueError: no 5\\nhere" in text
    assert max(map(len, text.splitlines())) <= 110


def test_a_csv_file_has_every_column(tmp_path, whole):
    whole[0].to_csv(tmp_path / "f.csv")
    with (tmp_path / "f.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == whole[0].columns
    assert rows[0] == ["0", "0", "inf", "0.0", "é0", "True", "", "0.0", ""]
    assert rows[10] == ["5", "0", "", "", "", "", "", "", "ValueError: no 5\\nhere"]
    assert len(rows) == 46


@pytest.mark.extra
def test_a_data_frame_has_the_rows(whole):
    pytest.importorskip("pandas")
    frame = whole[0].to_frame()
    assert list(frame.columns) == whole[0].columns
    assert frame["half"].tolist()[:2] == [0.0, 2.0]
    assert frame["error"].notna().sum() == 6


def test_a_data_frame_without_pandas_says_what_to_install(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs pandas: pip install 'fp8sim\[pandas\]'"):
        whole[0].to_frame()


def test_a_pivot_is_the_mean_of_what_shares_a_cell():
    result = fp8sim.sweep(
        lambda a, b, c: a * b + c if a < 3 else None, {"a": [1, 2, 3], "b": [10, None, 30][::2], "c": [0, 1]}
    )
    pivot = result.pivot("a", "b", "value")
    assert pivot.to_dict() == {1: {10: 10.5, 30: 30.5}, 2: {10: 20.5, 30: 60.5}}
    assert "mean over c" in repr(pivot)
    assert result.where(c=1).pivot("a", "b", "value").to_dict()[2] == {10: 21.0, 30: 61.0}
    assert repr(result.where(c=1).pivot("a", "b", "value")).startswith("value by a and b")
    assert "mean" not in repr(result.where(c=1).pivot("a", "b", "value"))


def test_what_a_grid_keeps_apart_is_found_apart():
    nan = float("nan")
    result = fp8sim.sweep(lambda x, y: y, {"x": [True, 1, 1.0, 0.0, -0.0, nan, None], "y": [2, 3]})
    assert list(map(repr, result.values("x"))) == ["True", "1", "1.0", "0.0", "-0.0", "nan", "None"]
    for value in result.values("x"):
        found = result.where(x=value)
        assert [repr(row["x"]) for row in found.rows] == [repr(value)] * 2
        assert found.pivot("x", "y", "value").to_dict() == {value: {2: 2, 3: 3}}
    assert len(result.where(x=np.float64("nan")).rows) == 2
    assert len(result.where(y=3.0).rows) == 7  # equal, and there is no 3.0
    for grid, says in (([True, 1.0], "x holds True and 1.0"), ([0.0, -0.0], r"x holds 0.0 and -0.0")):
        apart = fp8sim.sweep(lambda x, y: y, {"x": grid, "y": [2, 3]})
        for index, columns in (("x", "y"), ("y", "x")):
            with pytest.raises(ValueError, match=rf"{says}, which share .*; take one of them by where\(x="):
                apart.pivot(index, columns, "value")
    points = [{"x": float("nan"), "y": 1, "z": z} for z in (1, 2)]
    assert len(fp8sim.sweep(lambda x, y, z: z, points).pivot("x", "y", "value").cells) == 1


def test_a_mean_over_points_that_differ_in_no_argument_says_so():
    result = fp8sim.sweep(lambda x, y, z=None: 1, [{"x": 1, "y": 1}, {"x": 1, "y": 1, "z": None}])
    assert repr(result.pivot("x", "y", "value")).endswith("\nmean over points that share both")


def test_numbers_that_no_float_holds_and_halves_of_characters_leave_nothing_undone(tmp_path):
    result = fp8sim.sweep(lambda x: {"big": 2**1024 - 1, "text": "\ud800"}, {"x": [1]})
    with pytest.raises(ValueError, match="big holds a whole number that is larger than any float"):
        result.pivot("x", "x", "big")
    result.to_csv(tmp_path / "f.csv")
    assert (tmp_path / "f.csv").read_text(encoding="utf-8").splitlines()[1].endswith(",\\ud800,")


def test_an_argument_without_a_name_is_said_to_have_none():
    with pytest.raises(
        ValueError, match=r"<lambda> takes x by its position only, .*; define it without the /"
    ):
        fp8sim.sweep(lambda x, /: 1, {"x": [1]})


def test_where_an_object_lies_in_memory_is_no_part_of_an_error(tmp_path):
    def fails(x, how):
        if how == "raise":
            raise ValueError(f"no {object()} here")
        return object()

    for name in "ab":
        fp8sim.sweep(fails, {"x": range(20), "how": ["raise", "return"]}, out=tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "a").read_text().splitlines()[1:3]]
    assert rows[0]["error"] == "ValueError: no <object object> here"
    assert rows[1]["error"].startswith("TypeError: <object object> is no number")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("z", "y", "half"), "unknown argument of this sweep 'z'"),
        (("x", "half", "root"), "unknown argument of this sweep 'half'"),
        (("x", "y", "haf"), "unknown result of this sweep 'haf'; did you mean 'half'"),
        (("x", "y", "x"), "unknown result of this sweep 'x'"),
        (("x", "y", "text"), "text holds 'é0', and this takes a column of numbers"),
    ],
)
def test_a_pivot_and_a_picture_of_no_such_column_are_refused(whole, names, says):
    with pytest.raises(ValueError, match=says):
        whole[0].pivot(*names)
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=says):
        whole[0].plot(names[0], names[2], by=names[1])


def test_a_picture_shows_means_in_a_band_and_leaves_out_what_is_not_finite(whole):
    pytest.importorskip("matplotlib")
    result = fp8sim.sweep(
        lambda k, s, r: k * s + r if r < 2 else math.inf, {"k": [1, 4, 16], "s": [1, 10], "r": [0, 1, 2]}
    )
    ax = result.plot("k", "value", by="s")
    assert [line.get_label() for line in ax.lines] == ["s 1", "s 10"]
    assert ax.lines[1].get_xydata().tolist() == [[1, 10.5], [4, 40.5], [16, 160.5]]
    assert len(ax.collections) == 2
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("k", "value")
    named = fp8sim.sweep(lambda r: len(r), {"r": ["bf16", "mxfp8"]}).plot("r", "value")
    assert [label.get_text() for label in named.get_xticklabels()] == ["bf16", "mxfp8"]
    assert named.get_legend() is None
    with pytest.raises(ValueError, match="2 points failed, the first: ValueError: no 5"):
        whole[0].where(x=5).pivot("x", "y", "inverse")
    with pytest.raises(ValueError, match="there is no finite inverse to draw"):
        whole[0].where(x=0).plot("x", "inverse")


# --- studies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_measures_at_every_point_and_shows_it_in_80_columns(name):
    study = STUDIES[name]
    grid = {key: values[-1:] if key in ("seed", "k") else values[:2] for key, values in study.grid.items()}
    result = fp8sim.sweep(study.measure, grid)
    assert result.failed == ()
    assert all(row[study.y] > 0 for row in result.rows)
    tables = study.tables(result)
    assert len(tables) == len(grid[study.each])
    assert all(len(line) <= 80 for table in tables for line in table.text(80).splitlines())
    assert list(tables[-1].notes)[-len(study.notes) :] == list(study.notes)
    assert len(study.question) <= 80


def test_promotion_every_128_keeps_the_error_of_sums_from_growing_with_k():
    rows = fp8sim.sweep(STUDIES["promotion"].measure, STUDIES["promotion"].grid).pivot(
        "k", "promote_every", "relative_error"
    )
    errors = rows.to_dict()
    assert errors[8192][None] > 5 * errors[512][None]
    assert errors[8192][128] == pytest.approx(errors[512][128], rel=0.05)


def test_finer_scales_err_less_and_outliers_cost_block_formats_most():
    scales = STUDIES["scales"]
    grid = {**scales.grid, "granularity": ("tensor", "1x128", "1x32"), "data": ("real",), "seed": (0,)}
    errors = fp8sim.sweep(scales.measure, grid).pivot("fmt", "granularity", "relative_error").to_dict()
    assert all(row["1x32"] < row["1x128"] < row["tensor"] for row in errors.values())
    rows = fp8sim.sweep(STUDIES["outliers"].measure, {**STUDIES["outliers"].grid, "seed": (0,)})
    by_size = rows.pivot("recipe", "size", "ordinary_channel_error").to_dict()
    assert by_size["nvfp4"][1000] > 2 * by_size["nvfp4"][1]
    assert by_size["mxfp8"][1000] == pytest.approx(by_size["mxfp8"][1], rel=0.05)


def test_real_data_has_as_many_channels_as_the_layer():
    (row,) = fp8sim.sweep(
        STUDIES["accuracy"].measure, {"recipe": ["bf16"], "k": [1537], "data": ["real"], "seed": [0]}
    ).rows
    assert row["error"] == "ValueError: k of real data must be 1 to 1536, got 1537"
