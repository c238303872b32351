"""How results are printed: tables, data, and a progress bar on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from fp8sim._support.results import plain_data
from fp8sim._support.tables import Table

__all__ = ["print_json", "print_table", "progress", "show"]


def show(result: Any) -> None:
    """Print the tables of a result."""
    for table in result.parts():
        print_table(table)


def print_table(table: Table) -> None:
    """Print a table, in the width of the terminal or of 120 columns."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=False)
    console.print(f"\n[bold]{_escape(table.title)}[/bold]\n")
    console.print(table.rich())
    if table.notes:
        console.print()
    for note in table.notes:
        console.print(_escape(note))


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


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
