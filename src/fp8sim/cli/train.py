"""`fp8sim train`: a small language model under each recipe, from the same seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fp8sim._support.files import check_distinct
from fp8sim.cli.options import Command, Json, app, choose
from fp8sim.cli.output import check_picture, save_picture, show
from fp8sim.training import TRAINING_RECIPES


@app.command("train", cls=Command)
def train_command(
    *,
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help=choose("Repeat for several", TRAINING_RECIPES))
    ] = None,
    baseline: Annotated[
        str, typer.Option("--baseline", help="Recipe that losses are compared with.")
    ] = "bf16",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds, from 0 on.")] = 2,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of each run.")] = 200,
    sequences: Annotated[int, typer.Option("--sequences", min=1, help="Sequences a step.")] = 4,
    context: Annotated[int, typer.Option("--context", min=1, help="Bytes of a sequence.")] = 128,
    width: Annotated[int, typer.Option("--width", min=1, help="Width of the model.")] = 256,
    layers: Annotated[int, typer.Option("--layers", min=1, help="Layers of the model.")] = 2,
    heads: Annotated[int, typer.Option("--heads", min=1, help="Attention heads.")] = 4,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 5e-4,
    text: Annotated[
        list[Path] | None,
        typer.Option("--text", help="File to train on; repeat. Default: Python's own source."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for logs in JSON lines, and checkpoints.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue what is in --out.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write the curves as a picture (extra 'plot').")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a small language model on real text under each recipe, and compare the losses."""
    from fp8sim.experiments.train import DEFAULT_RECIPES, ModelSize, Schedule, train

    if resume and out is None:
        raise ValueError("--resume continues what is in a folder: pass --out DIR too")
    check_distinct(out=out, plot=plot)
    if plot is not None:
        check_picture(plot)
    with _bar() as on_step:
        result = train(
            recipe or DEFAULT_RECIPES,
            baseline=baseline,
            seeds=seeds,
            size=ModelSize(width=width, layers=layers, heads=heads, context=context),
            schedule=Schedule(steps=steps, sequences=sequences, peak_lr=lr),
            files=text or (),
            folder=out,
            resume=resume,
            on_step=on_step,
        )
    if plot is not None:
        from fp8sim.plotting.training import training_figure

        save_picture(training_figure(result), plot, dpi=150)
    show(result, as_json=as_json)


@contextmanager
def _bar() -> Iterator[Callable[[Any], None] | None]:
    """Show loss, bytes a second and the time left on a terminal, and nothing in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step {task.completed}/{task.total}  loss {task.fields[loss]}"),
        TextColumn("{task.fields[speed]} bytes/s  {task.fields[left]} left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=None, loss="-", speed="-", left="-")

        def on_step(at: Any) -> None:
            minutes, seconds = divmod(round(at.seconds_left), 60)
            bar.update(
                task,
                total=at.total,
                completed=at.done,
                description=f"{at.recipe}, seed {at.seed}",
                loss=f"{at.loss:.3f}",
                speed=f"{at.tokens_per_second:.0f}",
                left=f"{minutes}:{seconds:02d}",
            )

        yield on_step
