"""`fp8sim model`: what a whole model takes, and what FP8 saves of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fp8sim.cli.options import Command, DeviceName, Json, app, choose
from fp8sim.cli.output import check_picture, save_picture, show
from fp8sim.models.builtin import MODELS
from fp8sim.models.timing import PHASES
from fp8sim.recipes import RECIPES


@app.command("model", cls=Command)
def model_command(
    model: Annotated[
        str, typer.Argument(help=choose("A config.json, a folder or file of a checkpoint, or a name", MODELS))
    ],
    *,
    recipe: Annotated[
        str, typer.Option("--recipe", help=choose("How its linear layers multiply", RECIPES))
    ] = "deepseek-v3",
    baseline: Annotated[str, typer.Option("--baseline", help="Recipe that ratios are taken to.")] = "bf16",
    seq_len: Annotated[int, typer.Option("--seq-len", help="Tokens of a sequence.")] = 4096,
    batch: Annotated[int, typer.Option("--batch", help="Sequences.")] = 1,
    phase: Annotated[
        Any, typer.Option("--phase", parser=str, metavar="TEXT", help=choose("What is timed", PHASES))
    ] = "training",
    device: DeviceName = "h800",
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only compare with published figures, or with the checkpoint in a folder."
        ),
    ] = False,
    gemms: Annotated[bool, typer.Option("--gemms", help="List every GEMM too.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a bar picture (extra 'plot').")] = None,
    as_json: Json = False,
) -> None:
    """Count what a whole model takes, and what FP8 saves of its memory, traffic and time."""
    from fp8sim.models import check_model, model_cost

    if plot is not None:
        check_picture(plot)
    if check:
        show(check_model(model), as_json=as_json)
        return
    cost = model_cost(
        model, recipe, baseline=baseline, seq_len=seq_len, batch=batch, phase=phase, device=device
    )
    if plot is not None:
        from fp8sim.plotting.models import plot_model

        save_picture(plot_model(cost), plot, bbox_inches="tight")
    show(cost, as_json=as_json)
    if gemms and not as_json:
        typer.echo()
        show(cost.gemm_table())
