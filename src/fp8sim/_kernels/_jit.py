"""How kernels are compiled: numba, with a cache on disk where one can be."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.extending

__all__ = ["intrinsic", "jit"]

F = TypeVar("F", bound=Callable[..., Any])


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
