"""`fp8sim claims`: the article's sentence, taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fp8sim.cli.options import Command, DeviceName, Json, Seed, app
from fp8sim.cli.output import progress, say_written, show


@app.command("claims", cls=Command)
def claims_command(
    *,
    device: DeviceName = "h800",
    seed: Seed = 0,
    train: Annotated[
        bool,
        typer.Option("--train", help="Train anew with PyTorch, 10 minutes, instead of taking a record."),
    ] = False,
    page: Annotated[Path | None, typer.Option("--html", help="Write it as one HTML page too.")] = None,
    as_json: Json = False,
) -> None:
    """Judge the sentence "FP8 halved computational requirements without sacrificing accuracy"."""
    from fp8sim.experiments.claims import claims, count_parts

    if page is not None:
        from fp8sim._support.files import check_target

        check_target(page)  # before anything is measured
    with progress("measuring", count_parts()) as advance:
        result = claims(device=device, seed=seed, train=train, on_part=advance)
    if page is not None:
        _write_page(result, page, device, seed)
    show(result, as_json=as_json)


def _write_page(result: Any, page: Path, device: str, seed: int) -> None:
    """Write the report, with all recipes on one generated product for a picture."""
    from fp8sim.experiments.comparison import compare
    from fp8sim.experiments.data import llm_like_matrices
    from fp8sim.report import write_report

    matrices = llm_like_matrices(256, 512, 2048, seed=seed)
    with progress("comparing recipes", None):
        recipes = compare(matrices.a, matrices.b, device=device)
    write_report(result, page, recipes, data=matrices.source)
    say_written(page)
