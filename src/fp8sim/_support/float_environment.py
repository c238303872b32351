"""Arithmetic as IEEE 754 has it by default, whatever the calling thread has set.

A thread may round upwards, or take subnormals for zero: a library built with ``-ffast-math`` sets that, so
does ``torch.set_flush_denormal(True)``. Threads inherit it from the one that starts them. What computes bits
runs in the default environment, and leaves the thread as it was.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["default_environment", "is_default"]

Function = TypeVar("Function", bound=Callable[..., Any])

# Numbers that give themselves away; as names, for Python computes literals when it compiles.
_one, _little = 1.0, 2.0**-60
_tiny = struct.unpack("<d", struct.pack("<q", 1))[0]  # 2^-1074 from its bits: here it could be flushed too
_SIZE = 256  # bytes, more than any C library needs to hold an environment
_DEFAULT = -1  # FE_DFL_ENV of glibc and musl


def is_default() -> bool:
    """Whether this thread keeps subnormals and rounds to nearest.

    Examples
    --------
    >>> is_default()
    True
    """
    # 1 + 2^-60 is 1 + 2^-52 when rounded upwards; 1 - 2^-60 is 1 - 2^-53 when rounded downwards or to zero.
    return _tiny * _one != 0 and _one + _little == _one and _one - _little == _one


def default_environment(function: Function) -> Function:
    """Let a function compute in the default environment, and give the caller's back when it ends.

    Where the environment is not the default, and cannot be changed, the function is not run: RuntimeError.

    Examples
    --------
    >>> @default_environment
    ... def third():
    ...     return 1 / 3
    >>> third()
    0.3333333333333333
    """

    @functools.wraps(function)
    def guarded(*arguments: Any, **options: Any) -> Any:
        if is_default():
            return function(*arguments, **options)
        import ctypes

        saved = ctypes.create_string_buffer(_SIZE)
        library = _libm()
        if library is not None:
            library.fegetenv(saved)
            library.fesetenv(ctypes.c_void_p(_DEFAULT))
        try:
            if not is_default():
                raise RuntimeError(
                    "this thread flushes subnormals or does not round to nearest, which changes bits, "
                    "and it cannot be changed from here; undo it, as with torch.set_flush_denormal(False)"
                )
            return function(*arguments, **options)
        finally:
            if library is not None:
                library.fesetenv(saved)

    return cast(Function, guarded)


@functools.cache
def _libm() -> Any:
    """Return the C library that holds a thread's environment; None where its numbers are not known."""
    import sys

    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    for name in ("libm.so.6", None):  # glibc; what Python itself is linked with, as musl
        try:
            library = ctypes.PyDLL(name)
            library.fegetenv, library.fesetenv  # noqa: B018  # there, or AttributeError
        except (OSError, AttributeError):
            continue
        return library
    return None
