"""How kernels are compiled and run: numba, with a cache on disk where one can be, and threads."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.extending
from numpy.typing import NDArray

__all__ = ["get_num_threads", "intrinsic", "jit", "read_only", "run_in_threads", "set_num_threads", "split"]

F = TypeVar("F", bound=Callable[..., Any])

_num_threads: int | None = None


def jit(function: F) -> F:
    """Compile `function` on its first call, without the GIL, and keep the machine code on disk.

    Numba judges its cache by the file of `function` alone, and would not see an edit of what that
    file imports. The cache is named after the function, so the name gets a digest of all kernels.

    Examples
    --------
    >>> import numpy as np
    >>> @jit
    ... def total(x):
    ...     return x.sum()
    >>> total(np.ones(3))
    3.0
    """
    function.__qualname__ = f"{function.__qualname__}_{_digest()}"
    try:
        return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # neither the package's folder nor the user's cache folder is writable
        return cast(F, numba.njit(nogil=True, error_model="numpy")(function))


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that writes LLVM code callable from kernels: numba's own, with a type.

    Examples
    --------
    >>> @intrinsic
    ... def twice(context, x):
    ...     return x(x), lambda context, builder, signature, args: builder.add(args[0], args[0])
    >>> @numba.njit
    ... def four_times(x):
    ...     return twice(twice(x))
    >>> four_times(3)
    12
    """
    return cast(Callable[..., Any], numba.extending.intrinsic(function))


@functools.cache
def _digest() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def get_num_threads() -> int:
    """Return how many threads kernels use: what was set, else the CPUs this process may run on.

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
    """Let kernels use `n` threads from now on; None goes back to all CPUs. Results never depend on it.

    Examples
    --------
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(None)
    """
    global _num_threads
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise ValueError(f"the number of threads must be a whole number from 1 on, or None, got {n!r}")
    _num_threads = n


def read_only(x: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written to.

    Numba compiles a kernel anew for arrays that are read-only. Kernels that get all of their inputs
    so are compiled once.

    Examples
    --------
    >>> import numpy as np
    >>> read_only(np.ones(2)).flags.writeable
    False
    """
    view = x.view()
    view.flags.writeable = False
    return view


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
    can change a result.

    Examples
    --------
    >>> run_in_threads(pow, [(2, 3), (3, 2)])
    [8, 9]
    """
    todo = list(tasks)
    workers = min(get_num_threads(), len(todo))
    if workers <= 1:
        return [function(*task) for task in todo]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda task: function(*task), todo))
