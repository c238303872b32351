"""`fp8sim sweep`: a study, which is a function at every point of a grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from fp8sim._support import checks
from fp8sim._support.files import check_distinct, check_target
from fp8sim.cli.options import Command, Json, app, choose
from fp8sim.cli.output import check_picture, print_json, progress, save_picture, say_written, show
from fp8sim.cli.workers import processes
from fp8sim.experiments.studies import STUDIES


@app.command("sweep", cls=Command)
def sweep_command(
    study: Annotated[str, typer.Argument(help=choose("Without one, all are listed", STUDIES))] = "",
    *,
    axes: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=V1,V2: other values of an argument. Repeat.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="One seed, instead of those of the study.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes, of one thread each.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Rows in JSON lines; if it is there, go on from it.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the rows as a table too.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a picture (extra 'plot').")] = None,
    as_json: Json = False,
) -> None:
    """Measure at every point of a grid: recipes, formats, lengths, data and seeds."""
    from fp8sim.experiments.sweeps import sweep

    if not study:
        if as_json:
            print_json({one.name: {"question": one.question, "grid": one.grid} for one in STUDIES.values()})
        else:
            show(STUDIES)
        return
    chosen = STUDIES.find(study)
    grid = _grid(chosen, axes or [], seed)
    check_distinct(out=out, csv=csv, plot=plot)
    if csv is not None:
        check_target(csv, "rows.csv")
    if plot is not None:
        check_picture(plot)
    points = math.prod(map(len, grid.values()))
    with processes(workers) as executor, progress(chosen.name, points) as advance:
        result = sweep(
            chosen.measure, grid, executor=executor, out=out, on_row=lambda _: advance(chosen.name)
        )
    if len(result.failed) == points:
        raise ValueError(f"every point failed, the first: {result.failed[0]['error']}")
    if csv is not None:
        result.to_csv(csv)
        say_written(csv)
    if plot is not None:
        from fp8sim.plotting.sweeps import sweep_figure

        save_picture(sweep_figure(result, chosen.x, chosen.y, by=chosen.by, each=chosen.each), plot, dpi=150)
    if as_json:
        print_json({"study": chosen.name, "question": chosen.question, **result.to_dict()})
    else:
        typer.echo(f"{chosen.question}\n")
        show(*chosen.tables(result))


def _grid(study: Any, axes: list[str], seed: int | None) -> dict[str, Any]:
    """Return the grid of a study with other values of some arguments."""
    grid, given = dict(study.grid), set[str]()
    if seed is not None:
        grid["seed"] = (seed,)
    for axis in axes:
        name, equals, values = axis.partition("=")
        if not equals:
            raise ValueError(f"--set {axis!r} gives no values; write it like --set k=256,1024")
        name = checks.one_of(name.strip(), study.grid, f"argument of {study.name}")
        if name in given:
            raise ValueError(f"--set names {name} twice; write all of its values in one, as in --set k=1,2")
        given.add(name)
        grid[name] = tuple(_value(text.strip(), name, study.grid[name]) for text in values.split(","))
    return grid


def _value(text: str, name: str, usual: tuple[Any, ...]) -> Any:
    """Return a value of the kind that the study has."""
    kind = type(next(value for value in usual if value is not None))
    if text.lower() == "none" and None in usual:
        return None
    try:
        return kind(text)
    except ValueError:
        such_as = ",".join(map(str, usual[:2])).lower()
        raise ValueError(f"--set {name}={text} is no number; write it like --set {name}={such_as}") from None
