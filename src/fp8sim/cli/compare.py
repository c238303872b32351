"""`fp8sim compare`: recipes side by side on one product."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from fp8sim._support import checks
from fp8sim._support.text import printable
from fp8sim.cli.options import Command, DeviceName, Json, Seed, app, choose
from fp8sim.cli.output import print_json, progress, show
from fp8sim.recipes import RECIPES


@app.command("compare", cls=Command)
def compare_command(
    *,
    shape: Annotated[str, typer.Option("--shape", help="MxNxK of a generated product.")] = "",
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="A safetensors file.")] = None,
    tensor: Annotated[
        list[str] | None, typer.Option("--tensor", help="Weight matrix in it, (n, k); repeat for several.")
    ] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Weight matrix (n, k) in .npy.")] = None,
    activations: Annotated[Path | None, typer.Option("--activations", help="(m, k) in .npy.")] = None,
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help=choose("Repeat for several", RECIPES))
    ] = None,
    baseline: Annotated[str, typer.Option("--baseline", help="Recipe that ratios are taken to.")] = "bf16",
    device: DeviceName = "h800",
    bounds: Annotated[bool, typer.Option("--bounds", help="Bound the error of sums too: slower.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Put recipes side by side on one product: bytes, modelled time and error."""
    from fp8sim.experiments.comparison import DEFAULT_RECIPES, compare
    from fp8sim.experiments.layer_comparison import compare_layers

    names = list(dict.fromkeys(tensor or []))
    read = [_matrices(shape, checkpoint, name, weights, activations, seed) for name in names or [""]]
    how: dict[str, Any] = {"device": device, "bounds": bounds}
    with progress("comparing", None):
        result: Any
        if len(read) == 1:
            result = compare(read[0].a, read[0].b, recipe or DEFAULT_RECIPES, baseline, **how)
        else:
            layers = {name: (x.a, x.b) for name, x in zip(names, read, strict=True)}
            result = compare_layers(layers, recipe or DEFAULT_RECIPES, baseline, **how)
    sources = [x.source for x in read]
    if as_json:
        print_json({"source": "; ".join(sources), **result.to_dict()})
    else:
        typer.echo("\n".join(map(printable, sources)) + "\n")
        show(result)


def _matrices(
    shape: str,
    checkpoint: Path | None,
    tensor: str,
    weights: Path | None,
    activations: Path | None,
    seed: int,
) -> Any:
    """Return the matrices that `compare` was asked for."""
    from fp8sim.checkpoints.tensors import read_array, read_tensor, tensor_names
    from fp8sim.experiments import data

    if checkpoint is not None and weights is not None:
        raise ValueError("--checkpoint and --weights both give the weights; pass one of them")
    if tensor and checkpoint is None:
        raise ValueError("--tensor names one of --checkpoint FILE.safetensors; pass that too")
    if checkpoint is None and weights is None:
        if activations:
            raise ValueError("--activations goes with --weights FILE.npy, or --checkpoint and --tensor")
        return data.llm_like_matrices(*_parse_shape(shape or "256x2048x2048"), seed=seed)
    if shape:
        raise ValueError("--shape makes matrices and a file holds them; pass one of them")
    if weights is not None:
        matrix, name = checks.as_matrix(read_array(weights), str(weights)), f"weights {weights}"
    else:
        assert checkpoint is not None
        if not tensor:
            names = [name for name, size in tensor_names(checkpoint).items() if len(size) == 2]
            raise ValueError(f"--checkpoint needs --tensor NAME, such as {', '.join(names[:3]) or 'none'}")
        matrix, name = read_tensor(checkpoint, tensor), tensor
    if activations is None:
        return data.weight_matrices(matrix, name, seed=seed)
    a = checks.as_matrix(read_array(activations), str(activations))
    b = data.weight_matrices(matrix, name, m=1).b
    return data.Matrices(a, b, f"{name}, activations {activations}")


def _parse_shape(text: str) -> tuple[int, int, int]:
    sizes = re.fullmatch(r"(\d{1,20})[x,](\d{1,20})[x,](\d{1,20})", text.strip().lower())
    if not sizes:
        raise ValueError(f"--shape {text!r} is not MxNxK; write it like 128x2112x7168")
    m, n, k = (int(group) for group in sizes.groups())
    return m, n, k
