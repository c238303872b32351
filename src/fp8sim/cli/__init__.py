"""The command line: the only place that prints. Exit status 0, or 2 with one line on standard error."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from fp8sim._support.tables import printable
from fp8sim.cli import (  # noqa: F401  (each adds its commands)
    catalogues,
    claims,
    compare,
    explain,
    model,
    train,
)
from fp8sim.cli.options import app

__all__ = ["app", "main"]

#: What bad input raises, from the library's checks and from the file system.
_REFUSALS = (ValueError, TypeError, OSError, ModuleNotFoundError)

#: What input raises that is well formed but too much -> what to do about it.
_EXCESSES: dict[type[Exception], str] = {
    MemoryError: "this takes more memory than there is; make it smaller",
    OverflowError: "a number is too large; pass a smaller one",
    RecursionError: "the input is nested too deeply; make it flatter",
}


def main() -> None:
    """Run the command line, and turn every refusal into one line and exit status 2."""
    try:
        status = app(standalone_mode=False, prog_name="fp8sim")
    except BrokenPipeError:  # the reader of a pipe has gone, as `head` does
        sys.stderr.close()
        status = 0
    except _REFUSALS as error:
        _refuse(str(error))
    except tuple(_EXCESSES) as error:
        _refuse(next(text for kind, text in _EXCESSES.items() if isinstance(error, kind)))
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's usage errors have it, wherever they live
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "fp8sim")
        _refuse(f"{error.format_message()} See '{command} --help'.")
    sys.exit(status if isinstance(status, int) else 0)


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"fp8sim: {printable(' '.join(message.split()))}\n")
    sys.exit(2)
