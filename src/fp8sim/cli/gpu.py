"""`fp8sim check-gpu`: what a GPU writes against what its cores say."""

from __future__ import annotations

from typing import Annotated

import typer

from fp8sim.cli.options import Command, Json, Seed, app
from fp8sim.cli.output import progress, show


@app.command("check-gpu", cls=Command)
def check_gpu_command(
    *,
    side: Annotated[int, typer.Option("--side", help="Rows and columns, a multiple of 16.")] = 128,
    operation: Annotated[
        list[str] | None, typer.Option("--operation", help="Repeat for several; all by default.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare an NVIDIA GPU with the cores of its generation; exit status 1 where a word differs."""
    from fp8sim.experiments.gpu import check_gpu, find_gpu
    from fp8sim.experiments.gpu.check import count_rows

    try:
        device = find_gpu()
    except RuntimeError as error:  # one line that says what is needed
        raise ValueError(error) from None
    with progress("multiplying", count_rows(operation)) as advance:
        result = check_gpu(seed=seed, side=side, operations=operation, device=device, on_row=advance)
    show(result, as_json=as_json)
    if not result.agrees:
        raise typer.Exit(1)  # as of `cmp` and `diff`: 0 the same, 1 different, 2 trouble
