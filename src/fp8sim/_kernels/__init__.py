"""The compiled twins of `reference`: the only place that imports numba, itself imported on first use.

Callers cut their work for kernels and for threads. Where numba is missing, blocked or told not to compile
(``NUMBA_DISABLE_JIT``), `available` says so, and they take the readable way; what takes minutes there says
so once, through `note_work`.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["available", "note_work", "readable"]

_readable = False

#: Multiply-adds a second of a tensor core the readable way: 7 to 36 million on a laptop, by the core.
RATE = 20e6
LONG = 60 * RATE  # a minute of them
_multiplied = 0


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


def note_work(m: int, n: int, k: int) -> None:
    """Say once in a process, before the work, that products take minutes where nothing can be compiled.

    It counts what is multiplied, so that many products that are short by themselves are noticed too. It
    is a record of logging, from ``fp8sim``, and goes to standard error unless logging is told otherwise.

    Examples
    --------
    >>> note_work(16, 16, 256)  # says nothing, as it is little
    """
    global _multiplied
    before, _multiplied = _multiplied, _multiplied + m * n * k
    if before <= LONG < _multiplied and not _installed():
        minutes = max(1, round(m * n * k / RATE / 60))
        logging.getLogger("fp8sim").warning(
            "fp8sim runs without numba here: the same bits, a hundred times slower. "
            f"A product of {m} x {n} x {k} takes {minutes} min or more; take fewer rows, or "
            "pip install numba where there is one"
        )


@functools.cache
def _installed() -> bool:
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return False
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True
