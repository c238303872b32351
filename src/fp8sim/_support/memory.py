"""Memory for results: new pages can cost more time than a kernel takes to fill them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from fp8sim._support.typing import AnyArray

__all__ = ["Allocate", "empty", "release", "scratch"]

Allocate: TypeAlias = Callable[[tuple[int, ...], Any], AnyArray]

HUGE = 1 << 21  # bytes of a huge page on x86-64, and of most on 64-bit ARM
KEPT = 1 << 26  # bytes that `scratch` keeps for each thread

_threads = threading.local()


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
