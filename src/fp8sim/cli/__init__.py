"""The command line: the only place that prints. Exit status 0, or 2 with one line on standard error.

`check-gpu` ends with 1 where it found a difference.

Nothing that takes time is imported before `main`, which answers for what happens meanwhile too.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["main"]

#: What input raises that is well formed but too much -> what to do about it, and what it is where it says
#: nothing. Of what has no line here, bad input raises the `_REFUSALS`, which say so themselves.
_EXCESSES: dict[type[Exception], tuple[str, str]] = {
    MemoryError: ("make it smaller", "this takes more memory than there is"),
    OverflowError: ("pass a smaller one", "a number is too large"),
    ZeroDivisionError: ("pass numbers of a more usual size", "a number is too large or too small"),
    RecursionError: ("make it flatter", "the input is nested too deeply"),
    UnicodeError: ("pass text in UTF-8", "this is no text"),
}
_REFUSALS = (ValueError, TypeError, OSError, ModuleNotFoundError)


def main() -> None:
    """Run the command line in a process of its own: whatever goes wrong is one line and an exit status.

    In Python's development mode (``python -X dev``, ``PYTHONDEVMODE=1``) an exception is shown whole.
    """
    seen: list[int] = []  # interrupts
    ours = _on_interrupt(lambda *_: os._exit(130))  # nothing is begun, and who is imported would complain
    from fp8sim.cli import streams

    streams.prepare()
    status: Any = 0
    try:
        from fp8sim.cli.commands import app

        if ours:
            _on_interrupt(lambda *_: _interrupt(seen))
        status = app(standalone_mode=False, prog_name="fp8sim")
        sys.stdout.flush()
    except BaseException as error:
        status, line = _outcome(error)
        if line and not seen:
            if sys.flags.dev_mode and not hasattr(error, "format_message"):
                raise
            streams.say(line)
    if ours:  # there is nothing left to interrupt but the end of Python itself
        _on_interrupt(signal.SIG_IGN)
    streams.drain()
    sys.exit(130 if seen else status if isinstance(status, int) else 0)


def _on_interrupt(handler: Any) -> bool:
    """Let `handler` meet interrupts, if it is for `main` to do so."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell
        return False
    try:
        signal.signal(signal.SIGINT, handler)
    except ValueError:  # not in the main thread
        return False
    return True


def _interrupt(seen: list[int]) -> None:
    """Interrupt, and remember that: whoever catches the exception may make another of it, or go on."""
    seen.append(signal.SIGINT)
    sys.unraisablehook = lambda _: None  # Python writes an exception down where it cannot be raised
    raise KeyboardInterrupt


def _outcome(error: BaseException, program: str = "fp8sim") -> tuple[int, str]:
    """Return the exit status, and the line that says what to do instead.

    Examples
    --------
    >>> _outcome(ValueError("no file w.npy"))
    (2, 'fp8sim: no file w.npy')
    >>> _outcome(MemoryError())
    (2, 'fp8sim: this takes more memory than there is; make it smaller')
    """
    causes = list(_causes(error))
    if any(isinstance(cause, BrokenPipeError) for cause in causes):
        return 0, ""  # the reader has gone, as `head` does; rich and typer exit with 1 then
    if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
        return 130, ""
    if isinstance(error, SystemExit):
        return (error.code, "") if isinstance(error.code, int) else (2 if error.code else 0, "")
    from fp8sim._support.text import printable

    return 2, printable(f"{program}: {' '.join(_words(error).split())}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    text = str(error)
    if hasattr(error, "format_message"):  # typer's usage errors have it, wherever they live
        command = getattr(getattr(error, "ctx", None), "command_path", "fp8sim")
        return f"{error.format_message()} See '{command} --help'."
    for kind, (advice, otherwise) in _EXCESSES.items():
        if isinstance(error, kind):
            return f"{text or otherwise}; {advice}"
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    if isinstance(error, _REFUSALS):
        return text
    what = f"{type(error).__name__}: {text.partition(chr(10))[0]}"  # libraries add a page of their own
    return f"{what}; make the input smaller, or if it is not large report this (PYTHONDEVMODE=1 shows more)"
