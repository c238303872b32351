"""`fp8sim quantize`: a checkpoint, written again with its weights quantised."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fp8sim.cli.options import Command, Json, app, choose
from fp8sim.cli.output import byte_progress, show
from fp8sim.cli.workers import processes

_RECIPES = ("deepseek-v3", "deepseek-v3.1", "fp8-row", "fp8-tensor", "mxfp8", "mxfp4", "nvfp4", "int8-row")


@app.command("quantize", cls=Command)
def quantize_command(
    source: Annotated[str, typer.Argument(help="Safetensors file, folder, index or URL.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, empty or not there.")],
    *,
    recipe: Annotated[
        str, typer.Option("--recipe", help=choose("Whose weights are written", _RECIPES))
    ] = "deepseek-v3",
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", help="Pattern of names that stay wide, as '*.down_proj'. Repeat. Heads always do."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that is there.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes, of one thread each.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint with its weights quantised, in a layout that others load."""
    from fp8sim.checkpoints import write_quantized

    with processes(workers) as executor, byte_progress("writing") as on_tensor:
        result = write_quantized(
            source, out, recipe, keep=keep or (), force=force, executor=executor, on_tensor=on_tensor
        )
    show(result, as_json=as_json)
