"""`sweep`: any function at every point of a grid."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from fp8sim import __version__
from fp8sim._support.text import printable
from fp8sim.experiments.sweeps.grid import Grid, GridLike, name_of, read_grid
from fp8sim.experiments.sweeps.identity import digest
from fp8sim.experiments.sweeps.record import Record, recorded
from fp8sim.experiments.sweeps.result import Row, Sweep
from fp8sim.experiments.sweeps.workers import Outcome, WorkerDied, check_executor, check_worker, outcomes_of

__all__ = ["sweep"]


def sweep(
    measure: Callable[..., Any],
    grid: GridLike,
    *,
    executor: Executor | None = None,
    out: str | Path | None = None,
    on_row: Callable[[Row], object] | None = None,
) -> Sweep:
    """Call a function at every point of a grid, and return a row for each.

    A point at which the function raises is a row with that error, and the rest goes on. Rows are in the
    order of the grid, and they and the bytes of `out` depend neither on the executor nor on interruptions.

    Parameters
    ----------
    measure : callable
        Takes the arguments by their names, and returns a mapping of results, which become columns, or one,
        which becomes the column ``value``: numbers, text, True, False, None, or what has a name.
    grid : mapping of str to list, or list of mappings
        Argument -> its values, every combination of which is a point, the argument named first changing
        last; or the points themselves. Values are as those of results. What has a name (a recipe, a format,
        a tensor core) is passed on as it is, and goes by its name in rows and files.
    executor : concurrent.futures.Executor, optional
        What runs the points: threads, processes, or a cluster (``distributed.Client(...).get_executor()``).
        Each worker keeps to one thread, of fp8sim, of a BLAS (with threadpoolctl) and of PyTorch. Without an
        executor points run here, one after the other, and use all threads.
    out : path, optional
        A file in JSON Lines: what is swept, then a row as soon as it is there. Where it exists, the run that
        it is of goes on from it; points that failed are not tried again. NaN and infinities are the text
        "NaN", "Infinity" and "-Infinity", as JSON has no such numbers.
    on_row : callable, optional
        Called with each row as it comes, those of `out` first.

    Returns
    -------
    Sweep
        The rows, with ways to a data frame, a table, a picture and a file.

    Raises
    ------
    TypeError
        If what is given is no function, grid or executor, or cannot be sent to the executor's processes.
    ValueError
        If the grid is empty or the function does not take it, or `out` is of another sweep or in use.
    ChildProcessError
        If a worker dies; the message says at which points it may have been, and how to go on: the same again
        runs those alone, and one that a worker dies at once more has failed. A cluster of Dask tries again
        before that.
    OSError
        If `out` cannot be written. What is there can be gone on from.

    Examples
    --------
    >>> import fp8sim
    >>> def error(fmt, x):
    ...     return abs(float(fp8sim.round_to(x, fmt)) / x - 1)
    >>> result = fp8sim.sweep(error, {"fmt": ["e4m3", "e5m2"], "x": [0.3, 17.0]})
    >>> for row in result.rows:
    ...     print(row)
    {'fmt': 'e4m3', 'x': 0.3, 'value': 0.04166666666666674, 'error': None}
    {'fmt': 'e4m3', 'x': 17.0, 'value': 0.05882352941176472, 'error': None}
    {'fmt': 'e5m2', 'x': 0.3, 'value': 0.04166666666666674, 'error': None}
    {'fmt': 'e5m2', 'x': 17.0, 'value': 0.05882352941176472, 'error': None}
    """
    points = read_grid(grid, measure)
    check_executor(executor, measure, points)
    name = printable(name_of(measure))
    keep = contextlib.nullcontext() if out is None else recorded(out, _header(measure, name, points), points)
    with keep as record:
        try:
            rows = _rows(points, measure, executor, record, on_row)
        except WorkerDied as error:
            words = "pass out=FILE, and the same again goes on from its rows"
            if record:
                record.suspect([place for place, _ in error.tasks])
                words = record.words
            raise ChildProcessError(f"{error}; {words}") from error.__cause__
    return Sweep(name, points.names, rows)


def _header(measure: Callable[..., Any], name: str, grid: Grid) -> dict[str, Any]:
    """Return what figures hang on; numpy's generators draw other numbers, and Pythons have other code."""
    python = ".".join(platform.python_version_tuple()[:2])
    versions = {"fp8sim": __version__, "numpy": np.__version__, "python": python}
    return {"measure": name, "code": digest(measure, name), **grid.header(), "versions": versions}


def _rows(
    grid: Grid,
    measure: Callable[..., Any],
    executor: Executor | None,
    record: Record | None,
    on_row: Callable[[Row], object] | None,
) -> tuple[Row, ...]:
    """Return the row of each point, in order."""
    rows: dict[int, Row] = {}

    def take(place: int, outcome: Outcome) -> None:
        rows[place] = {**grid.rows[place], **outcome.get("result", {}), "error": outcome.get("error")}
        if on_row is not None:
            on_row(rows[place])

    for place, outcome in record.outcomes.items() if record else ():
        take(place, outcome)
    alone = record.suspects if record else []
    if alone and executor is not None:
        check_worker(executor, measure)  # so that it is the point which is to blame
    done = {*rows, *alone}
    todo = [*([place] for place in alone), [place for place in range(len(grid)) if place not in done]]
    for places in todo:
        for place, outcome in outcomes_of(measure, [(i, grid.points[i]) for i in places], executor):
            if record:
                record.add(place, outcome)
            take(place, outcome)
    return tuple(rows[place] for place in range(len(grid)))
