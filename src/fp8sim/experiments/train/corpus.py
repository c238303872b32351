"""Text to train on: the source of Python's own standard library, which every machine has, or files."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp8sim._support.files import read_bytes

__all__ = ["Corpus", "read_corpus", "standard_library"]

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Text as bytes, and what it is.

    Examples
    --------
    >>> corpus = Corpus(np.arange(100, dtype=np.uint8), "the numbers below 100")
    >>> inputs, targets = corpus.batch(2, 4, seed=0, step=0)
    >>> bool((targets == inputs + 1).all())
    True
    """

    text: Bytes
    source: str  #: in words, for a table

    @property
    def digest(self) -> str:
        """First digits of the SHA-256 of the text."""
        return hashlib.sha256(self.text.tobytes()).hexdigest()[:12]

    def batch(self, sequences: int, length: int, *, seed: int, step: int) -> tuple[Any, Any]:
        """Draw so many sequences, and the same ones one byte on, as int64.

        They depend on seed and step alone: the same in any order of the steps, after any interruption.
        """
        rng = np.random.default_rng([seed, step])
        starts = rng.integers(0, len(self.text) - length, sequences)
        windows = self.text[starts[:, None] + np.arange(length + 1)].astype(np.int64)
        return windows[:, :-1], windows[:, 1:]


def standard_library() -> list[Path]:
    """Return the modules at the top of Python's standard library, sorted by name.

    Examples
    --------
    >>> "argparse.py" in [path.name for path in standard_library()]
    True
    """
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def read_corpus(files: Sequence[str | Path] = (), *, least: int = 4096) -> Corpus:
    """Read files one after another, a byte a token; without any, the source of Python's standard library.

    Fewer bytes than `least` are refused with a ValueError.

    Examples
    --------
    >>> len(read_corpus().text) > 1_000_000
    True
    """
    paths = [Path(file) for file in files]
    if paths:
        source = ", ".join(path.name for path in paths)
    else:
        paths, source = standard_library(), "the source of Python's standard library"
    text = np.frombuffer(b"\n".join(map(read_bytes, paths)), np.uint8)
    if len(text) < least:
        raise ValueError(f"{source} has {len(text)} bytes, too few to train on; pass at least {least}")
    return Corpus(text, f"{source}, {len(paths)} files, {len(text) / 1e6:.2f} MB")
