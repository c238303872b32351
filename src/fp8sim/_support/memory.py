"""Memory for results: new pages can cost more time than a kernel takes to fill them."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fp8sim._support.quantities import bytes_text
from fp8sim._support.typing import AnyArray

__all__ = ["Allocate", "available", "empty", "own", "release", "require", "scratch"]

Allocate: TypeAlias = Callable[[tuple[int, ...], Any], AnyArray]

HUGE = 1 << 21  # bytes of a huge page on x86-64, and of most on 64-bit ARM
KEPT = 1 << 26  # bytes that `scratch` keeps for each thread

_threads = threading.local()


def available() -> int | None:
    """Return the bytes of memory that this process may take at most, if the system tells.

    Examples
    --------
    >>> (available() or 2**40) > 2**20
    True
    """
    limits: list[int] = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not everywhere
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(ValueError, OSError):  # of a container; "max" where there is none
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    with contextlib.suppress(ImportError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        limits += [limit] * (limit != resource.RLIM_INFINITY)
    return min(limits, default=None)


def require(nbytes: float, what: str) -> None:
    """Refuse what takes more memory than there can be, before it is begun.

    Examples
    --------
    >>> require(1e18, "a matrix of 500000000x500000000")
    Traceback (most recent call last):
    ValueError: a matrix of 500000000x500000000 takes 1000000.00 TB of memory, and there are ...
    """
    limit = available()
    if limit is not None and nbytes > limit:
        amount, there = bytes_text(nbytes), bytes_text(limit)
        raise ValueError(f"{what} takes {amount} of memory, and there are {there}; make it smaller")


def empty(shape: int | tuple[int, ...], dtype: Any) -> AnyArray:
    """Return an uninitialised array as `numpy.empty` does, a large one from a huge page's start on.

    Numpy asks for huge pages, and the system gives them to whole ones alone: of an array of 4 MiB that
    starts anywhere, half would come in 512 times as many small pages.

    Examples
    --------
    >>> empty((2048, 2048), np.float32).__array_interface__["data"][0] % HUGE
    0
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) if isinstance(shape, tuple) else shape
    if size * kind.itemsize < 2 * HUGE:  # to align less would cost more than it saves
        return np.empty(shape, kind)
    return _aligned(np.empty(size * kind.itemsize + HUGE, np.uint8), size, kind).reshape(shape)


def own(x: AnyArray) -> AnyArray:
    """Return a contiguous view or copy that is read-only: numba compiles a kernel once for such inputs.

    Examples
    --------
    >>> own(np.ones((2, 3)).T).flags.c_contiguous
    True
    """
    view = np.ascontiguousarray(x).view()
    view.flags.writeable = False
    return view


@contextmanager
def scratch() -> Iterator[Allocate]:
    """Lend large arrays until the end of a block: what is given back is lent again, without new pages.

    Examples
    --------
    >>> with scratch() as allocate:
    ...     first = allocate((2048, 2048), np.float32).__array_interface__["data"][0]
    >>> with scratch() as allocate:
    ...     allocate((1024, 2048), np.float32).__array_interface__["data"][0] == first
    True
    """
    kept: list[AnyArray] = _threads.__dict__.setdefault("kept", [])
    lent: list[AnyArray] = []

    def allocate(shape: tuple[int, ...], dtype: Any) -> AnyArray:
        kind, size = np.dtype(dtype), math.prod(shape)
        needed = size * kind.itemsize + HUGE
        if needed < 2 * HUGE:
            return np.empty(shape, kind)
        at = next((i for i, raw in enumerate(kept) if raw.size >= needed), None)
        lent.append(np.empty(needed, np.uint8) if at is None else kept.pop(at))
        return _aligned(lent[-1], size, kind).reshape(shape)

    try:
        yield allocate
    finally:
        candidates, total = [*lent, *kept], 0
        kept.clear()
        for raw in candidates:  # what was used last is the likeliest to be used again
            if total + raw.size <= KEPT:
                kept.append(raw)
                total += raw.size


def release() -> None:
    """Give back to the system what `scratch` keeps for this thread.

    Examples
    --------
    >>> with scratch() as allocate:
    ...     lent = allocate((2048, 2048), np.float32)
    >>> release()
    >>> hasattr(_threads, "kept")
    False
    """
    _threads.__dict__.pop("kept", None)


def _aligned(raw: AnyArray, size: int, kind: np.dtype[Any]) -> AnyArray:
    """Return `size` elements from the first start of a huge page in `raw` on."""
    start = -raw.__array_interface__["data"][0] % HUGE
    return raw[start : start + size * kind.itemsize].view(kind)
