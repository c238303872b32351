"""Threads that wait for the next call: work of a few milliseconds is shared out in microseconds."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

from fp8sim._support.float_environment import default_environment

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
from fp8sim._support.text import shown

__all__ = ["Shared", "get_num_threads", "one_thread", "run_in_threads", "set_num_threads", "split"]

_MOST = 256  # threads of the pool at most; it starts one only where none is idle

_num_threads: int | None = None
_busy = threading.local()  # whether the tasks that a thread is at one of have all threads


def get_num_threads() -> int:
    """Return how many threads are used: what was set, else the CPUs this process may run on.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    if _num_threads is not None:
        return _num_threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_threads(n: int | None) -> None:
    """Let fp8sim use `n` threads from now on; None goes back to all CPUs. Results never depend on it.

    Parameters
    ----------
    n : int or None
        At least 1.

    Raises
    ------
    ValueError
        If `n` is neither.

    Examples
    --------
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(None)
    """
    global _num_threads
    if n is not None and (isinstance(n, bool) or not isinstance(n, Integral) or n < 1):
        raise ValueError(f"the number of threads must be a whole number from 1 on, or None, got {shown(n)}")
    _num_threads = None if n is None else int(n)


class Shared:
    """Settings of the process that several threads want: the first makes them, the last undoes it.

    Examples
    --------
    >>> settings, steps = Shared(), []
    >>> def change():
    ...     steps.append("changed")
    ...     return lambda: steps.append("put back")
    >>> with settings.made(change), settings.made(change):
    ...     steps.append("both")
    >>> steps
    ['changed', 'both', 'put back']
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._users = 0

    @contextlib.contextmanager
    def made(self, change: Callable[[], Callable[[], None]]) -> Iterator[None]:
        """Hold the settings in a block; `change` makes them, and returns what puts the old ones back."""
        with self.lock:
            if not self._users:
                self._put_back = change()
            self._users += 1
        try:
            yield
        finally:
            with self.lock:
                self._users -= 1
                if not self._users:
                    self._put_back()


_limits = Shared()


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Let fp8sim, a BLAS and PyTorch, where it is loaded, use one thread in a block: for one worker of many.

    The limits are the process's, and are lifted when the last block ends. Without threadpoolctl a BLAS keeps
    its threads.

    Examples
    --------
    >>> before = get_num_threads()
    >>> with one_thread():
    ...     get_num_threads()
    1
    >>> get_num_threads() == before
    True
    """
    return _limits.made(_limit)


def _limit() -> Callable[[], None]:
    """Set one thread everywhere, and return what puts things back."""
    steps = contextlib.ExitStack()
    steps.callback(set_num_threads, _num_threads)
    set_num_threads(1)
    controller = _blas_controller(len(sys.modules))
    if controller is not None:
        steps.enter_context(controller.limit(limits=1, user_api="blas"))
        steps.callback(_hand_over_blas)
    torch = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads"):
        steps.callback(torch.set_num_threads, torch.get_num_threads())  # type: ignore[union-attr]
        torch.set_num_threads(1)  # type: ignore[union-attr]
    return steps.close


def _hand_over_blas() -> None:
    """Let this thread lift the limit of another, which threadpoolctl since 3.7 does not by itself."""
    import threadpoolctl

    clear = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


@lru_cache(maxsize=1)
def _blas_controller(modules: int) -> Any:
    """Return what limits each BLAS that is loaded; it is looked for, in 1 ms, when there are more modules."""
    try:
        import threadpoolctl
    except ModuleNotFoundError:
        return None
    return threadpoolctl.ThreadpoolController()


def split(length: int, size: int) -> list[tuple[int, int]]:
    """Cut ``range(length)`` into runs of at most `size`.

    Examples
    --------
    >>> split(10, 4)
    [(0, 4), (4, 8), (8, 10)]
    """
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def run_in_threads(function: Callable[..., Any], tasks: Iterable[Sequence[Any]]) -> list[Any]:
    """Call ``function(*task)`` for every task, in threads, and return the results in order.

    The tasks must not write to the same memory: then neither their order nor the number of threads
    can change a result. The calling thread works too, so that a call from within a task cannot hang; where
    all threads are at tasks already, it does all of its own.

    Examples
    --------
    >>> run_in_threads(pow, [(2, 3), (3, 2)])
    [8, 9]
    """
    todo = list(tasks)
    results: list[Any] = [None] * len(todo)
    turns = deque(range(len(todo)))
    threads = get_num_threads()
    workers = min(threads, len(todo))
    share = function, todo, turns, results, workers == threads
    if workers < 2 or getattr(_busy, "all", False):
        _one_by_one(share)
        return results
    from concurrent.futures import wait  # not needed by whoever only imports fp8sim

    helpers: list[Future[None]] = []
    with contextlib.suppress(RuntimeError):  # no new thread, as when Python ends: this one does all
        for place in _places(workers):
            helpers.append(_pool(os.getpid()).submit(_work, share, place))
    try:
        _work(share)
    finally:
        turns.clear()
        started = [helper for helper in helpers if not helper.cancel()]
        wait(started)
    for helper in started:
        helper.result()  # raises what its task raised
    return results


def _work(share: tuple[Any, ...], place: Place | None = None) -> None:
    """Take one turn after the other, until none is left."""
    if place:
        place.take()
    _busy.all = share[-1]
    try:
        _one_by_one(share)
    finally:
        _busy.all = False


@default_environment  # a thread of the pool has that of whoever started it
def _one_by_one(share: tuple[Any, ...]) -> None:
    function, todo, turns, results, _ = share
    while True:
        try:
            turn = turns.popleft()
        except IndexError:
            return
        results[turn] = function(*todo[turn])


class Place(NamedTuple):
    """A CPU for a thread of the pool to start on, and those that it may move on to."""

    cpu: int
    allowed: set[int]

    def take(self) -> None:
        """Move the thread that calls this, one of our own."""
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {self.cpu})
            os.sched_setaffinity(0, self.allowed)


def _places(workers: int) -> list[Place | None]:
    """Give each helper a CPU that the calling thread is not on, if every CPU gets a worker.

    Some schedulers wake a thread where its waker runs, and take longer than a cast to spread the load. The
    calling thread is the user's, and stays as it is.
    """
    current_cpu = _current_cpu()
    if current_cpu is not None:
        allowed = os.sched_getaffinity(0)
        others = sorted(allowed - {current_cpu()})
        if len(others) == workers - 1:
            return [Place(cpu, allowed) for cpu in others]
    return [None] * (workers - 1)


@cache
def _current_cpu() -> Callable[[], int] | None:
    """Return what tells the CPU that the calling thread is on, if anything does."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    import ctypes

    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the waiting threads of this process; after a fork there are none, and a new pool starts."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_MOST, thread_name_prefix="fp8sim")
