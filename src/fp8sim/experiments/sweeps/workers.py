"""How points are run: here or on an executor, a few at a time; what a function raises becomes a row."""

from __future__ import annotations

import pickle
import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from itertools import islice
from typing import Any, TypeAlias

from fp8sim._support.text import addressless, printable, shown
from fp8sim._support.threads import one_thread
from fp8sim.experiments.sweeps.grid import Grid, name_of
from fp8sim.experiments.sweeps.values import Point, Scalar, plain

__all__ = [
    "Outcome",
    "WorkerDied",
    "check_executor",
    "check_worker",
    "columns_of",
    "outcomes_of",
    "run_point",
    "run_points",
]

Outcome: TypeAlias = "dict[str, Any]"  # {"result": {...}} or {"error": "..."}
Task: TypeAlias = "tuple[int, Point]"  # place in the grid, and arguments

_Share: TypeAlias = "Future[tuple[list[Outcome], float]]"

_AHEAD = 512  # shares that wait or run at most: more than the threads of most clusters
_FIRST = 16  # of them while it is not known how long a point takes, or for
_PATIENCE = 5.0  # seconds; that is longer than the start of a worker
_MOST = 1024  # points of a share at most, and
_GROWTH = 16  # times as many as in the one before
_SECONDS = 0.1  # after which a worker hands back the points of its share that it has not begun
_NAMED = 3  # points in a message at most
_UNSENT = (
    "{} or a value of its grid cannot be sent to another process ({}); define it with def at the top of a "
    "module, or take threads"
)


class WorkerDied(ChildProcessError):
    """A worker is gone, or never began; `tasks` are those that it may have been at."""

    def __init__(self, measure: Callable[..., Any], error: Exception, tasks: Sequence[Task] = ()) -> None:
        words = printable(f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".: "))
        at = f" at {_points(tasks)}" if tasks else ""
        super().__init__(f"a worker died{at}, or could not load {name_of(measure)} ({words})")
        self.tasks = tasks


def _points(tasks: Sequence[Task]) -> str:
    """Write the first points of some, of which any may be to blame."""
    some = [shown({name: plain(value) for name, value in point.items()}) for _, point in tasks[:_NAMED]]
    return " or ".join(some) + f" or one of {len(tasks) - _NAMED} more" * (len(tasks) > _NAMED)


def run_point(measure: Callable[..., Any], point: Point) -> Outcome:
    """Return what a function gives at a point, ready for a row, or what it raises.

    Examples
    --------
    >>> run_point(lambda x: {"half": x / 2, "square": x * x}, {"x": 3})
    {'result': {'half': 1.5, 'square': 9}}
    >>> run_point(pow, {"base": 0, "exp": -1})
    {'error': 'ZeroDivisionError: 0.0 cannot be raised to a negative power'}
    """
    try:
        value = measure(**point)
        return {"result": columns_of(value if isinstance(value, Mapping) else {"value": value}, point)}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too, which would end all of the program
        return {"error": _said(error)}


def columns_of(result: Mapping[Any, Any], point: Point) -> dict[str, Scalar]:
    """Return results as they stand in a row, or say why they cannot.

    Examples
    --------
    >>> columns_of({"half": 1.5}, {"x": 3})
    {'half': 1.5}
    """
    return {_column(name, point): plain(value) for name, value in result.items()}


def _said(error: BaseException) -> str:
    """Return type and message of an error, the same in each run."""
    try:
        text = str(error)
    except Exception as unsaid:
        text = f"its message cannot be written ({type(unsaid).__name__})"
    return printable(addressless(f"{type(error).__name__}: {text}"))


def _column(name: object, point: Point) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a result goes by its name, got {shown(name)}")
    if name in point or name == "error":
        raise ValueError(f"a result is called {name}, as another column is; take another name")
    return name


def run_points(measure: Callable[..., Any], points: Sequence[Point]) -> tuple[list[Outcome], float]:
    """Return the outcomes of the first points, at least one, in one thread, and the seconds they took."""
    with one_thread():
        start = time.perf_counter()
        outcomes: list[Outcome] = []
        while True:
            outcomes.append(run_point(measure, points[len(outcomes)]))
            seconds = time.perf_counter() - start
            if len(outcomes) == len(points) or seconds > _SECONDS:
                return outcomes, seconds


def check_executor(executor: Any, measure: Callable[..., Any], grid: Grid) -> None:
    """Refuse what is no executor, and what cannot be sent to the processes of one."""
    if executor is None:
        return
    if not isinstance(executor, Executor):
        hint = "client.get_executor()" if hasattr(executor, "get_executor") else "ProcessPoolExecutor(4)"
        raise TypeError(f"executor must be a concurrent.futures.Executor, got {shown(executor)}; pass {hint}")
    processes = sys.modules.get("concurrent.futures.process")
    if processes is not None and isinstance(executor, processes.ProcessPoolExecutor):
        try:
            pickle.dumps((measure, grid.points))
        except Exception as error:  # pickle raises anything
            raise TypeError(_UNSENT.format(name_of(measure), error)) from None


def check_worker(executor: Executor, measure: Callable[..., Any]) -> None:
    """Refuse an executor whose workers cannot load the function, or do not live."""
    try:
        executor.submit(callable, measure).result()
    except Exception as error:
        raise WorkerDied(measure, error) from error


def outcomes_of(
    measure: Callable[..., Any], tasks: Iterable[Task], executor: Executor | None
) -> Iterator[tuple[int, Outcome]]:
    """Yield the place and the outcome of each task as they come.

    Raises
    ------
    WorkerDied
        If a worker dies, or cannot load the function.
    TypeError
        If the executor cannot send the function to its workers.
    """
    if executor is None:
        for place, point in tasks:
            yield place, run_point(measure, point)
    else:
        yield from _sent_out(measure, iter(tasks), executor)


def _sent_out(
    measure: Callable[..., Any], tasks: Iterator[Task], executor: Executor
) -> Iterator[tuple[int, Outcome]]:
    """Keep the executor busy with a bounded number of shares, which grow where points are quick."""
    ended: queue.SimpleQueue[_Share] = queue.SimpleQueue()
    running: dict[_Share, list[Task]] = {}
    returned: deque[Task] = deque()
    size, ahead = 1, _FIRST
    try:
        while True:
            while len(running) < ahead:
                share = [returned.popleft() for _ in range(min(size, len(returned)))]
                share = share or list(islice(tasks, size))
                if not share:
                    break
                try:
                    future = _submit(executor, measure, [point for _, point in share])
                except BrokenExecutor as error:
                    raise WorkerDied(measure, error, _under_way(running, executor)) from error
                running[future] = share
                future.add_done_callback(ended.put)
            if not running:
                return
            try:
                future = ended.get(timeout=_PATIENCE if ahead < _AHEAD else None)
            except queue.Empty:  # points take long, and there may be workers that have none
                ahead = _AHEAD
                continue
            try:  # what the function raises is in there, so that an error is the executor's
                outcomes, seconds = future.result()
            except Exception as error:
                at = _under_way(running, executor) if isinstance(error, BrokenExecutor) else running[future]
                raise WorkerDied(measure, error, at) from error
            share = running.pop(future)
            size = _size(len(share), len(outcomes), seconds)
            ahead = _AHEAD if seconds > _SECONDS / 4 else ahead
            returned += share[len(outcomes) :]
            for (place, _), outcome in zip(share, outcomes, strict=False):
                yield place, outcome
    finally:
        for future in running:
            future.cancel()


def _size(asked: int, done: int, seconds: float) -> int:
    """Return how many points a share should have: its way there and back costs up to 10 ms on a cluster.

    Examples
    --------
    >>> [_size(1, 1, 1e-4), _size(16, 16, 1e-3), _size(8, 8, 0.08), _size(64, 2, 0.11), _size(1, 1, 60.0)]
    [16, 256, 5, 1, 1]
    """
    fitting = int(done * _SECONDS / 2 / max(seconds, 1e-9))
    return max(1, min(fitting, _GROWTH * asked, _MOST))


def _submit(executor: Executor, measure: Callable[..., Any], points: Sequence[Point]) -> _Share:
    try:
        return executor.submit(run_points, measure, points)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise TypeError(_UNSENT.format(name_of(measure), error)) from None


def _under_way(running: dict[_Share, list[Task]], executor: Executor) -> list[Task]:
    """Return the tasks that workers may be at: they take shares in order, and may have answered some."""
    workers = getattr(executor, "_max_workers", 1)
    return [task for share in islice(running.values(), 2 * workers) for task in share]
