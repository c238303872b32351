"""The compiled twins of `reference`: the only place that imports numba, itself imported on first use.

Callers cut their work for kernels and for threads. Where numba is missing, blocked or told not to compile
(``NUMBA_DISABLE_JIT``), `available` says so, and they take the readable way.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["available", "readable"]

_readable = False


def available() -> bool:
    """Whether kernels can be compiled here, and are not left aside.

    Examples
    --------
    >>> with readable():
    ...     available()
    False
    """
    return not _readable and _installed()


@contextmanager
def readable() -> Iterator[None]:
    """Take the readable way in a block, in all threads, as where numba is not installed; for tests.

    Examples
    --------
    >>> import fp8sim
    >>> with readable():
    ...     q = fp8sim.quantize([0.3] * 5000, "e4m3")
    """
    global _readable
    before, _readable = _readable, True
    try:
        yield
    finally:
        _readable = before


@functools.cache
def _installed() -> bool:
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return False
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True
