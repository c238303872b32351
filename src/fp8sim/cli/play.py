"""`fp8sim play`: the interactive page, in a browser or as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fp8sim.cli.options import Command, app, choose
from fp8sim.cli.output import say_written
from fp8sim.play import PARTS, play


@app.command("play", cls=Command)
def play_command(
    part: Annotated[str, typer.Argument(help=choose("Which part is shown first", PARTS))] = "number",
    *,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write it as one HTML page, and open no browser.")
    ] = None,
) -> None:
    """Open a page to touch: numbers and bits, blocks under a scale, dot products, a model's time."""
    opened = play(part)
    if page is not None:
        opened.save(page)
        say_written(page)
        return
    import tempfile
    import webbrowser

    file = opened.save(Path(tempfile.mkdtemp(prefix="fp8sim-"), "play.html"))  # the browser reads it later
    say_written(file)
    if not webbrowser.open(file.as_uri()):
        raise ValueError(f"found no browser to open {file} with; open that file in one")
