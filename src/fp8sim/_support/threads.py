"""Threads that wait for the next call: work of a few milliseconds is shared out in microseconds."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

from fp8sim._kernels._jit import get_num_threads

__all__ = ["run_in_threads"]


def run_in_threads(function: Callable[..., Any], tasks: Iterable[Sequence[Any]]) -> list[Any]:
    """Call ``function(*task)`` for every task, in threads, and return the results in order.

    The tasks must not write to the same memory: then neither their order nor the number of threads
    can change a result. The calling thread works too, so that a call from within a task cannot hang.

    Examples
    --------
    >>> run_in_threads(pow, [(2, 3), (3, 2)])
    [8, 9]
    """
    todo = list(tasks)
    results: list[Any] = [None] * len(todo)
    turns = deque(range(len(todo)))
    workers = min(get_num_threads(), len(todo))

    def work(place: int) -> None:
        if workers > 1:
            _move_to(place, workers)
        while True:
            try:
                turn = turns.popleft()
            except IndexError:
                return
            results[turn] = function(*todo[turn])

    helpers = [_helpers(os.getpid(), get_num_threads()).submit(work, n) for n in range(1, workers)]
    try:
        work(0)
    finally:
        turns.clear()
        started = [helper for helper in helpers if not helper.cancel()]
        wait(started)
    for helper in started:
        helper.result()  # raises what its task raised
    return results


@cache
def _helpers(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the waiting threads of this process; after a fork there are none, and a new pool starts."""
    return ThreadPoolExecutor(threads, thread_name_prefix="fp8sim")


def _move_to(place: int, workers: int) -> None:
    """Put this thread on a CPU of its own, if every CPU gets one; it may move on from there.

    Some schedulers wake a thread where its waker runs and take longer than a cast to spread the load.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    with contextlib.suppress(OSError):
        cpus = os.sched_getaffinity(0)
        if workers == len(cpus):
            os.sched_setaffinity(0, {sorted(cpus)[place]})
            os.sched_setaffinity(0, cpus)
