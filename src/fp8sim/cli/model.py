"""`fp8sim model`: what a whole model takes, and what FP8 saves of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fp8sim.cli.options import DeviceName, Json, app
from fp8sim.cli.output import print_json, print_table, show

__all__ = ["model_command"]


@app.command("model")
def model_command(
    model: Annotated[str, typer.Argument(help="A built-in name, or a Hugging Face config.json.")],
    recipe: Annotated[str, typer.Option("--recipe", help="How its linear layers multiply.")] = "deepseek-v3",
    baseline: Annotated[str, typer.Option("--baseline", help="Recipe that ratios are taken to.")] = "bf16",
    seq_len: Annotated[int, typer.Option("--seq-len", help="Tokens of a sequence.")] = 4096,
    batch: Annotated[int, typer.Option("--batch", help="Sequences.")] = 1,
    phase: Annotated[
        Any, typer.Option("--phase", parser=str, help="training, prefill or decode.")
    ] = "training",
    device: DeviceName = "h800",
    check: Annotated[bool, typer.Option("--check", help="Only compare with published figures.")] = False,
    gemms: Annotated[bool, typer.Option("--gemms", help="List every GEMM too.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a bar picture (extra 'plot').")] = None,
    as_json: Json = False,
) -> None:
    """Count what a whole model takes, and what FP8 saves of its memory, traffic and time."""
    from fp8sim.models import check_model, model_cost

    if check:
        checked = check_model(model)
        if as_json:
            print_json(checked.to_dict())
        else:
            show(checked)
        return
    cost = model_cost(
        model, recipe, baseline=baseline, seq_len=seq_len, batch=batch, phase=phase, device=device
    )
    if as_json:
        print_json(cost.to_dict())
    else:
        show(cost)
        if gemms:
            print_table(cost.gemm_table())
    if plot is not None:
        _save_picture(cost, plot)


def _save_picture(cost: Any, path: Path) -> None:
    from fp8sim.plotting.models import plot_model

    plot_model(cost).savefig(path, bbox_inches="tight")
    sys.stderr.write(f"wrote {path}\n")
