"""One array from an ``.npy`` file."""

from __future__ import annotations

import tokenize
import warnings
from pathlib import Path

import numpy as np

from fp8sim._support.files import check_source
from fp8sim._support.text import printable
from fp8sim._support.typing import AnyArray

__all__ = ["read_array"]


def read_array(path: str | Path) -> AnyArray:
    """Read an ``.npy`` file; object arrays are refused, since they are pickles.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no ``.npy`` file or holds objects.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "x.npy", np.arange(3.0))
    ...     read_array(Path(folder) / "x.npy")
    array([0., 1., 2.])
    """
    file = check_source(path)
    try:
        with warnings.catch_warnings():  # of a header as Python 2 wrote it, which is read all the same
            warnings.simplefilter("ignore", UserWarning)
            array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, tokenize.TokenError) as error:  # the header is Python
        why = (
            "it holds something else" if "allow_pickle" in str(error) else error
        )  # never that: it can run code
        raise ValueError(printable(f"{path} is no readable .npy file of numbers: {why}")) from None
    if not isinstance(array, np.ndarray):
        raise ValueError(printable(f"{path} is an archive of arrays; save the one you mean with np.save"))
    return array
