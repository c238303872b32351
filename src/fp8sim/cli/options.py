"""The application, and the options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from fp8sim import __version__

__all__ = ["DeviceName", "Json", "Seed", "app"]

app = typer.Typer(
    help="What FP8 really saves and costs: FP16, BF16 and FP8 matrix multiplies, emulated bit for bit.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print data instead of tables.")]
DeviceName = Annotated[str, typer.Option("--device", help="GPU whose roofline times are modelled on.")]
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
