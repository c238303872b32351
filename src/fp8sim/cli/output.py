"""How results are printed: tables and pages, data, pictures, and a progress bar on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from fp8sim._support.files import check_target, written
from fp8sim._support.results import Part, Result, plain_data
from fp8sim._support.text import printable, shorten

__all__ = ["byte_progress", "check_picture", "print_json", "progress", "save_picture", "say_written", "show"]


def show(*results: Result | Part, as_json: bool = False) -> None:
    """Print results in the width of the terminal or of 120 columns, or the data of them."""
    if as_json:
        data = [result.to_dict() for result in results]  # type: ignore[union-attr]  # not of every result
        print_json(data[0] if len(data) == 1 else data)
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    parts = [part for one in results for part in (one.parts() if isinstance(one, Result) else [one])]
    for index, part in enumerate(parts):
        console.print(*[""] * bool(index), *part.renderables(console.width), sep="\n", crop=False)


def print_json(data: Any) -> None:
    """Print data as JSON."""
    typer.echo(json.dumps(plain_data(data), indent=2))


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[str], None]]:
    """Show a progress bar on standard error where that is a terminal, and nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)

        def advance(step: str) -> None:
            bar.update(task, advance=1, description=step)

        yield advance


@contextmanager
def byte_progress(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show on a terminal how many bytes are done, how fast, and the time that is left."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    words = TextColumn("{task.description}", markup=False)
    columns = words, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def advance(step: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=printable(shorten(step, 30)))

        yield advance


def check_picture(path: Path) -> None:
    """Refuse a picture that could not be written, before anything is measured for it."""
    from fp8sim.plotting._style import load

    figure = load("figure").Figure()
    check_target(path, "picture.png")
    if path.suffix.lstrip(".").lower() not in figure.canvas.get_supported_filetypes():
        raise ValueError(
            f"--plot {path}: matplotlib cannot write {path.suffix or 'this'}; use .png, .svg or .pdf"
        )


def save_picture(figure: Any, path: Path, **options: Any) -> None:
    """Write a figure, whole or not at all, and say so."""
    with written(path) as stream:
        figure.savefig(stream, format=path.suffix.lstrip(".").lower(), **options)
    say_written(path)


def say_written(path: Path) -> None:
    """Say on standard error that a file is there."""
    sys.stderr.write(f"wrote {printable(str(path))}\n")
