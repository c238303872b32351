"""The application, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from fp8sim import __version__
from fp8sim.costs.devices import DEVICES

__all__ = ["SETTINGS", "Command", "DeviceName", "Json", "Seed", "app", "choose"]

_UNBROKEN = "\N{NON-BREAKING HYPHEN}"


class Command(TyperCommand):
    """A command whose help breaks no name at its hyphens, so that it can be copied."""

    def get_help(self, ctx: Any) -> str:
        """Return the help."""
        return str(super().get_help(ctx)).replace(_UNBROKEN, "-")


def choose(what: str, names: Iterable[str]) -> str:
    """Return the help of an option of a `Command` that takes names."""
    return f"{what}: {', '.join(names)}.".replace("-", _UNBROKEN)


#: Of every application and of those below it.
SETTINGS = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}

app = typer.Typer(
    help="What FP8 really saves and costs: FP16, BF16 and FP8 matrix multiplies, emulated bit for bit.",
    context_settings={"help_option_names": ["-h", "--help"]},
    **SETTINGS,  # type: ignore[arg-type]  # of several types
)

Json = Annotated[bool, typer.Option("--json", help="Print data instead of tables.")]
DeviceName = Annotated[
    str, typer.Option("--device", help=choose("GPU whose roofline times are modelled on", DEVICES))
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of generated numbers.")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"fp8sim {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
