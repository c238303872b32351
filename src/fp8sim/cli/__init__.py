"""The command line: the only place that prints. Exit status 0, or 2 with one line on standard error."""

from __future__ import annotations

import sys

import typer

from fp8sim.cli import (  # noqa: F401  (each adds its command)
    claims,
    compare,
    explain,
    formats,
    model,
    train,
)
from fp8sim.cli.options import app

__all__ = ["app", "main"]

#: What bad input raises, from the library's checks and from the file system.
_REFUSALS = (ValueError, TypeError, OSError, ModuleNotFoundError)


def main() -> None:
    """Run the command line, and turn every refusal into one line and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except BrokenPipeError:  # the reader of a pipe has gone, as `head` does
        sys.stderr.close()
        status = 0
    except _REFUSALS as error:
        _refuse(str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's usage errors have it, wherever they live
            raise
        _refuse(f"{error.format_message()} See 'fp8sim --help'.")
    sys.exit(status if isinstance(status, int) else 0)


def _refuse(message: str) -> None:
    sys.stderr.write(f"fp8sim: {' '.join(message.split())}\n")
    sys.exit(2)
