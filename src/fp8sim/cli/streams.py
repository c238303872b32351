"""Standard output and error, in any state that a shell hands them over: closed, full, or without Unicode."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys

__all__ = ["drain", "prepare", "say"]

#: What fp8sim draws with -> what stands for it where there is no Unicode; all else is written as Python does.
_PLAIN = {
    "│": "|", "├": "+", "┤": "+", "┼": "+", "└": "+", "─": "-", "●": "o", "±": "+-", "…": "...",
    "→": "->", "←": "<-", "\N{MULTIPLICATION SIGN}": "x", "\u00a0": " ", "\N{NON-BREAKING HYPHEN}": "-",
}  # fmt: skip


def prepare() -> None:
    """Open what is closed, where nobody reads, and let no character be one that cannot be written."""
    codecs.register_error("fp8sim", _plain)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # else the next file that is opened would be taken for it
            nowhere = os.open(os.devnull, os.O_RDWR)  # open until the end, as Python's own
            setattr(sys, name, open(nowhere, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="fp8sim")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return what is written in place of what a stream's encoding lacks, and where it goes on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or ascii(c)[1:-1] for c in lacking), error.end


def say(line: str) -> None:
    """Write a line on standard error, if anybody can read it."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def drain() -> None:
    """Write what is still to be written, or let it go: Python would say at its end that it cannot."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
