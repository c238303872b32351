"""The command line: the only place that prints. Exit status 0, or 2 with one line on standard error."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fp8sim import __version__, _checks
from fp8sim._tables import Table

__all__ = ["app", "main"]

app = typer.Typer(
    help="What FP8 really saves and costs: FP16, BF16 and FP8 matrix multiplies, emulated bit for bit.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print data instead of tables.")]
DeviceName = Annotated[str, typer.Option("--device", help="GPU whose roofline times are modelled on.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of generated numbers.")]

#: What bad input raises, from the library's checks and from the file system.
_REFUSALS = (ValueError, TypeError, OSError, ModuleNotFoundError)


def main() -> None:
    """Run the command line, and turn every refusal into one line and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except BrokenPipeError:  # the reader of a pipe has gone, as `head` does
        sys.stderr.close()
        status = 0
    except _REFUSALS as error:
        _refuse(str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's usage errors have it, wherever they live
            raise
        _refuse(f"{error.format_message()} See 'fp8sim --help'.")
    sys.exit(status if isinstance(status, int) else 0)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"fp8sim {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("claims")
def claims_command(
    device: DeviceName = "h800",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Take apart the sentence "FP8 halved computational requirements without sacrificing accuracy"."""
    from fp8sim.experiments.claims import claims, count_parts

    with _progress("measuring", count_parts()) as advance:
        result = claims(device=device, seed=seed, on_part=advance)
    if as_json:
        _print_json(result.to_dict())
    else:
        _show(result)


@app.command("compare")
def compare_command(
    shape: Annotated[str, typer.Option("--shape", help="MxNxK of a generated product.")] = "",
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="A safetensors file.")] = None,
    tensor: Annotated[str, typer.Option("--tensor", help="Weight matrix in it, (n, k).")] = "",
    activations: Annotated[Path | None, typer.Option("--activations", help="(m, k) in .npy.")] = None,
    recipe: Annotated[list[str] | None, typer.Option("--recipe", help="Repeat for several.")] = None,
    baseline: Annotated[str, typer.Option("--baseline", help="Recipe that ratios are taken to.")] = "bf16",
    device: DeviceName = "h800",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Put recipes side by side on one product: bytes, modelled time and error."""
    from fp8sim.experiments.comparison import DEFAULT_RECIPES, compare

    operands = _operands(shape, checkpoint, tensor, activations, seed)
    with _progress("comparing", None):
        result = compare(operands.a, operands.b, recipe or DEFAULT_RECIPES, baseline, device)
    if as_json:
        _print_json({"source": operands.source, **result.to_dict()})
    else:
        typer.echo(operands.source)
        _show(result)


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
            _print_json(checked.to_dict())
        else:
            _print_table(checked.table())
        return
    cost = model_cost(
        model, recipe, baseline=baseline, seq_len=seq_len, batch=batch, phase=phase, device=device
    )
    if as_json:
        _print_json(cost.to_dict())
    else:
        _show(cost)
        if gemms:
            _print_table(cost.gemm_table())
    if plot is not None:
        _save_picture(cost, plot)


def _save_picture(cost: Any, path: Path) -> None:
    try:
        from fp8sim.models.picture import plot_model

        figure = plot_model(cost)
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'fp8sim[plot]'") from None
    figure.savefig(path, bbox_inches="tight")
    sys.stderr.write(f"wrote {path}\n")


@app.command("formats")
def formats_command(as_json: Json = False) -> None:
    """Print the table of formats."""
    from fp8sim.formats import FORMATS

    if as_json:
        _print_json({name: _format_facts(name) for name in FORMATS})
        return
    rows = []
    for name in FORMATS:
        facts = _format_facts(name)
        rows.append([f"{v:.6g}" if isinstance(v, float) else str(v) for v in facts.values()])
    headers = ["format", "bits>", "E>", "M>", "bias>", "max>", "min normal>", "min subnormal>", "eps>",
               "inf", "NaN", "dtype of codes"]  # fmt: skip
    notes = ("E, M: exponent and mantissa bits; min: smallest positive; eps: from 1 to the next value",)
    _print_table(Table("Formats", headers, rows, notes))


def _format_facts(name: str) -> dict[str, Any]:
    from fp8sim.formats import get_format

    fmt = get_format(name)
    return {
        "name": fmt.name,
        "bits": fmt.bits,
        "exponent_bits": fmt.exponent_bits,
        "mantissa_bits": fmt.mantissa_bits,
        "bias": fmt.bias,
        "max": fmt.max,
        "smallest_normal": fmt.smallest_normal,
        "smallest_subnormal": fmt.smallest_subnormal if fmt.subnormals else "-",
        "eps": fmt.eps,
        "infinity": "yes" if fmt.has_inf else "-",
        "nan": "yes" if fmt.has_nan else "-",
        "dtype": str(fmt.dtype),
    }


def _operands(shape: str, checkpoint: Path | None, tensor: str, activations: Path | None, seed: int) -> Any:
    """Return the matrices that `compare` was asked for."""
    from fp8sim.experiments import data

    if checkpoint is None:
        if tensor or activations:
            raise ValueError("--tensor and --activations go with --checkpoint FILE.safetensors")
        return data.llm_like_operands(*_parse_shape(shape or "256x2048x2048"), seed=seed)
    if shape:
        raise ValueError("--shape makes a matrix and --checkpoint reads one; pass one of them")
    from fp8sim.experiments.checkpoints import read_array, read_tensor, tensor_names

    if not tensor:
        matrices = [name for name, size in tensor_names(checkpoint).items() if len(size) == 2]
        raise ValueError(f"--checkpoint needs --tensor NAME, such as {', '.join(matrices[:3]) or 'none'}")
    operands = data.weight_operands(read_tensor(checkpoint, tensor), tensor, seed=seed)
    if activations is None:
        return operands
    a = _checks.as_matrix(read_array(activations), str(activations))
    return data.Operands(a.astype("float32"), operands.b, f"{tensor}, activations {activations}")


def _parse_shape(text: str) -> tuple[int, int, int]:
    found = re.fullmatch(r"(\d+)[x,](\d+)[x,](\d+)", text.strip().lower())
    if not found:
        raise ValueError(f"--shape {text!r} is not MxNxK; write it like 128x2112x7168")
    m, n, k = (int(group) for group in found.groups())
    return m, n, k


def _show(result: Any) -> None:
    for table in result.tables():
        _print_table(table)


def _print_table(table: Table) -> None:
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


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(_plain(data), indent=2))


def _plain(data: Any) -> Any:
    """Replace what JSON cannot say: NaN and infinity become null."""
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[str], None]]:
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


def _refuse(message: str) -> None:
    sys.stderr.write(f"fp8sim: {' '.join(message.split())}\n")
    sys.exit(2)
