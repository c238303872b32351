"""What a result was made with: versions of what computes, and the machine's architecture."""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata

__all__ = ["versions"]


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of what computes, and of further packages, where installed.

    Examples
    --------
    >>> "numpy" in versions(), "torsh" in versions("torsh")
    (True, False)
    """
    found = {}
    for name in ("fp8sim", "numpy", "ml_dtypes", "numba", *packages):
        with contextlib.suppress(metadata.PackageNotFoundError):  # run from a checkout
            found[name] = metadata.version(name)
    return {"python": platform.python_version(), **found, "machine": platform.machine()}
