"""How kernels are compiled: numba, with a cache on disk where one can be."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.extending
from numba.core import caching

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
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    with contextlib.suppress(RuntimeError):  # neither the package's nor the user's cache folder is writable
        dispatcher._cache = _Cache(function)
    return cast(F, dispatcher)


class _Cache(caching.FunctionCache):  # type: ignore[misc]  # numba has no types
    """Numba's cache on the disk, without which everything works: what it cannot do is left undone.

    What is damaged is compiled anew, and what a full disk does not take is compiled by every process.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(
            self.cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for a signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # pickle raises anything
            with contextlib.suppress(Exception):
                self.flush()  # an index that cannot be read could not be added to either
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, if there is room."""
        with contextlib.suppress(Exception):
            super().save_overload(sig, data)


class _Files(caching.IndexDataCacheFile):  # type: ignore[misc]
    """Numba's files, those of machine code behind a digest: a flipped bit there would be run."""

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        digest, content = content[:32], content[32:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("machine code in the cache is damaged")
        return pickle.loads(content)


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
