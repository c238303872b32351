"""`fp8sim compare`: recipes side by side on one product."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from fp8sim._support import checks
from fp8sim._support.page import wrap
from fp8sim._support.text import printable
from fp8sim.cli.options import Command, DeviceName, Json, Seed, app, choose
from fp8sim.cli.output import print_json, progress, show
from fp8sim.experiments import data
from fp8sim.experiments.data import GENERATORS, Matrices
from fp8sim.recipes import RECIPES


@app.command("compare", cls=Command)
def compare_command(
    *,
    shape: Annotated[str, typer.Option("--shape", help="MxNxK of a generated product.")] = "",
    kind: Annotated[
        str, typer.Option("--data", help=choose("Activations to generate, or real", [*GENERATORS, "real"]))
    ] = "",
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="A safetensors file, folder, index or URL.")
    ] = None,
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

    layers = _layers(shape, kind, checkpoint, list(dict.fromkeys(tensor or [])), weights, activations, seed)
    if bounds and len(layers) > 1:
        raise ValueError("--bounds is of one product; name one layer, or take Python's compare_layers")
    how: dict[str, Any] = {"device": device, "bounds": bounds}
    with progress("comparing", None):
        result: Any
        if len(layers) == 1:
            (one,) = layers.values()
            result = compare(one.a, one.b, recipe or DEFAULT_RECIPES, baseline, **how)
        else:
            pairs = {name: (x.a, x.b) for name, x in layers.items()}
            result = compare_layers(pairs, recipe or DEFAULT_RECIPES, baseline, **how)
    sources = [x.source for x in layers.values()]
    if as_json:
        print_json({"source": "; ".join(sources), **result.to_dict()})
    else:
        typer.echo("\n".join(line for source in sources for line in wrap(printable(source))) + "\n")
        show(result)


def _layers(
    shape: str,
    kind: str,
    checkpoint: str | None,
    tensors: list[str],
    weights: Path | None,
    activations: Path | None,
    seed: int,
) -> dict[str, Matrices]:
    """Return the matrices that `compare` was asked for, by name: those of one layer or of several."""
    if checkpoint is None and weights is None:
        for given, what in ((tensors, "--tensor"), (activations, "--activations")):
            if given:
                raise ValueError(f"{what} goes with --checkpoint FILE.safetensors, or --weights FILE.npy")
        if kind != "real":
            made = data.generated_matrices(
                kind or "llm-like", *_parse_shape(shape or "256x2048x2048"), seed=seed
            )
            return {"generated": made}
        if shape:
            raise ValueError("--data real has shapes of its own; leave --shape away")
        return {x.source.partition(" ")[2].partition(",")[0]: x for x in data.real_matrices()}
    if shape:
        raise ValueError("--shape makes matrices and a file holds them; pass one of them")
    if kind and (kind == "real" or activations is not None):
        what = "real data has weights of its own" if kind == "real" else "--activations gives them too"
        raise ValueError(f"--data {kind} makes activations, and {what}; leave one away")
    return {
        name: _with_activations(w, name, activations, kind or "llm-like", seed)
        for name, w in _read(checkpoint, tensors, weights)
    }


def _read(checkpoint: str | None, tensors: list[str], weights: Path | None) -> Iterator[tuple[str, Any]]:
    """Read weights, (n, k), from a file of one array or tensors of a checkpoint."""
    from fp8sim.checkpoints import open_checkpoint, read_array

    if weights is not None:
        if checkpoint is not None or tensors:
            raise ValueError("--weights and --checkpoint both give the weights; pass one of them")
        yield f"weights {weights}", checks.as_matrix(read_array(weights), str(weights))
        return
    assert checkpoint is not None
    weights_of = open_checkpoint(checkpoint)
    if not tensors:
        names = [tensor.name for tensor in weights_of if len(tensor.shape) == 2]
        raise ValueError(f"--checkpoint needs --tensor NAME, such as {', '.join(names[:3]) or 'none'}")
    for name in tensors:
        yield name, weights_of.read(name)


def _with_activations(weight: Any, name: str, activations: Path | None, kind: str, seed: int) -> Matrices:
    """Pair weights with activations from a file, or made ones."""
    from fp8sim.checkpoints import read_array

    if activations is None:
        return data.weight_matrices(weight, name, seed=seed, kind=kind)
    a = checks.as_matrix(read_array(activations), str(activations))
    return data.Matrices(a, data.weight_matrices(weight, name, m=1).b, f"{name}, activations {activations}")


def _parse_shape(text: str) -> tuple[int, int, int]:
    sizes = re.fullmatch(r"(\d{1,20})[x,](\d{1,20})[x,](\d{1,20})", text.strip().lower(), re.ASCII)
    if not sizes:
        raise ValueError(f"--shape {text!r} is not MxNxK; write it like 128x2112x7168")
    m, n, k = (int(group) for group in sizes.groups())
    return m, n, k
