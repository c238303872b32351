"""`fp8sim audit`: what recipes save and cost of a whole checkpoint."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from fp8sim._support.files import check_distinct, check_target
from fp8sim._support.text import printable
from fp8sim.cli.options import Command, Json, Seed, app, choose
from fp8sim.cli.output import byte_progress, say_written, show
from fp8sim.cli.workers import cluster, processes
from fp8sim.experiments.data import GENERATORS
from fp8sim.recipes import RECIPES


@app.command("audit", cls=Command)
def audit_command(
    source: Annotated[str, typer.Argument(help="A safetensors file, folder, index or URL.")],
    *,
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help=choose("Repeat for several", RECIPES))
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of what is done; if it is there, go on from it.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes, of one thread each.")
    ] = None,
    dask: Annotated[str, typer.Option("--dask", help="Scheduler of a Dask cluster, tcp://host:8786.")] = "",
    activations: Annotated[
        str,
        typer.Option("--activations", help=choose("Folder of LAYER.npy, (m, k), or made ones", GENERATORS)),
    ] = "",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Rows of made activations.")] = 32,
    seed: Seed = 0,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Quantise embeddings too.")] = False,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="Pattern of names kept as stored. Repeat.")
    ] = None,
    headers_only: Annotated[
        bool, typer.Option("--headers-only", help="Sizes alone: read no weights.")
    ] = False,
    max_error: Annotated[
        float | None, typer.Option("--max-error", help="Which to keep as stored, for a relative error: 0.02.")
    ] = None,
    max_bytes: Annotated[
        float | None, typer.Option("--max-bytes", help="Which to keep as stored, for so many bytes.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a row per matrix and recipe.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="The same (pandas and pyarrow).")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one page with everything.")] = None,
    as_json: Json = False,
) -> None:
    """Measure what FP8 saves and costs of a whole checkpoint, matrix by matrix."""
    from fp8sim.experiments.audit import DEFAULT_RECIPES, audit

    if dask and workers is not None:
        raise ValueError("--workers starts processes and --dask takes a cluster's; pass one of them")
    asks = max_error is not None or max_bytes is not None
    if asks and (headers_only or (max_error is not None and max_bytes is not None)):
        raise ValueError("--max-error or --max-bytes: pass one of them, and not with --headers-only")
    files = {"csv": csv, "parquet": parquet, "html": html}
    check_distinct(**files)
    for name, path in files.items():
        if path is not None:
            check_target(path, f"audit.{name}")
            _check_apart(path, f"--{name}", source)
    options: dict[str, Any] = {"activations": activations or None, "tokens": tokens, "seed": seed}
    options |= {"embeddings": embeddings, "keep": keep or (), "headers_only": headers_only, "out": out}
    there: AbstractContextManager[Any] = cluster(dask) if dask else processes(workers)
    with nullcontext() if headers_only else there as executor, byte_progress("reading") as on_part:
        result = audit(source, recipe or DEFAULT_RECIPES, executor=executor, on_part=on_part, **options)
    budget = {"error": max_error, "nbytes": max_bytes}
    choice = [result.choose(**budget)] if asks else []
    for path, write in ((csv, result.to_csv), (parquet, result.to_parquet)):
        if path is not None:
            write(path)
            say_written(path)
    if html is not None:
        from fp8sim.report.audit import write_audit

        write_audit(result, html)
        say_written(html)
    show(result, *choice, as_json=as_json)


def _check_apart(path: Path, option: str, source: str) -> None:
    """Refuse to write over the checkpoint that is read."""
    target, read = path.resolve(), Path(source).resolve()
    folder = read if read.is_dir() else read.parent
    inside = target.parent == folder and target.suffix in (".safetensors", ".json") and target.exists()
    if target == read or inside:
        raise ValueError(f"{option} {printable(str(path))} is a file of the checkpoint; name another file")
