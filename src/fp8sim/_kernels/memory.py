"""Memory for results: new pages can cost more time than a kernel takes to fill them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fp8sim._typing import AnyArray

__all__ = ["empty"]

HUGE = 1 << 21  # bytes of a huge page on x86-64, and of most on 64-bit ARM


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
    if size * kind.itemsize < HUGE:
        return np.empty(shape, kind)
    raw = np.empty(size * kind.itemsize + HUGE, np.uint8)
    start = -raw.__array_interface__["data"][0] % HUGE
    return np.asarray(raw[start : start + size * kind.itemsize].view(kind).reshape(shape))
