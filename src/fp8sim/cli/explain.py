"""`fp8sim explain`: a value, a block of values or a dot product, told bit by bit."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fp8sim._support.text import shorten
from fp8sim.cli.options import SETTINGS, Command, Json, Seed, app, choose
from fp8sim.cli.output import show
from fp8sim.formats import FORMATS
from fp8sim.quantization import SCALE_FORMATS, SCALE_RULES
from fp8sim.reference.rounding import ROUNDINGS
from fp8sim.tensor_cores import TENSOR_CORES

_NUMBER = re.compile(r"--$|[+-]?(\d|\.\d|inf|nan)", re.IGNORECASE)


class _Group(TyperGroup):
    """Takes a number for its first word as `value` and the number."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the words."""
        return super().parse_args(ctx, ["value", *args] if args and _NUMBER.match(args[0]) else args)


_explain = typer.Typer(cls=_Group, **SETTINGS)  # type: ignore[arg-type]  # of several types
app.add_typer(_explain, name="explain")

_OVERFLOWS = ("saturate", "ieee")
_WORDS = {"ignore_unknown_options": True}  # so that -0.3 is a number

Numbers = Annotated[list[str], typer.Argument(help="Such as 0.3, -1e-3 or 2^-10.")]
Formats = Annotated[list[str] | None, typer.Option("--format", help=choose("Repeat for several", FORMATS))]


@_explain.callback(invoke_without_command=True)
def explain_command(context: typer.Context) -> None:
    """Tell bit by bit what a value, a block of values or a dot product becomes, and why."""
    if context.invoked_subcommand is None:
        raise ValueError("explain what? write numbers, such as 'fp8sim explain 0.3 --format e4m3'")


@_explain.command("value", cls=Command, context_settings=_WORDS)
def value_command(
    numbers: Numbers,
    formats: Formats = None,
    rounding: Annotated[
        Any, typer.Option("--rounding", parser=str, metavar="TEXT", help=choose("One of", ROUNDINGS))
    ] = "nearest-even",
    overflow: Annotated[
        Any,
        typer.Option("--overflow", parser=str, metavar="TEXT", help=choose("What GPUs do, or", _OVERFLOWS)),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Tell what each number becomes in a format, or in several side by side."""
    import numpy as np

    from fp8sim.anatomy import explain

    rng, chosen = np.random.default_rng(seed), formats or ["e4m3"]
    fmt: Any = chosen[0] if len(chosen) == 1 else chosen
    options = {"rounding": rounding, "overflow": overflow, "rng": rng}
    show(*(explain(_parse_number(x), fmt, **options) for x in numbers), as_json=as_json)


@_explain.command("block", cls=Command, context_settings=_WORDS)
def block_command(
    numbers: Numbers,
    formats: Formats = None,
    scale_format: Annotated[
        str, typer.Option("--scale-format", help=choose("What the scale is stored in", SCALE_FORMATS))
    ] = "fp32",
    scale_rule: Annotated[
        str | None, typer.Option("--scale-rule", help=choose("How it is picked", SCALE_RULES))
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell how numbers that share one scale are quantised."""
    from fp8sim.anatomy import explain_block

    x = [_parse_number(text) for text in numbers]
    blocks = [
        explain_block(x, fmt, scale_format=scale_format, scale_rule=scale_rule) for fmt in formats or ["e4m3"]
    ]
    show(*blocks, as_json=as_json)


@_explain.command("dot", cls=Command, context_settings=_WORDS)
def dot_command(
    products: Annotated[
        list[str] | None, typer.Argument(help="AxB, such as 16x0.5, or AxB*COUNT for several.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="Of the factors; twice if they differ.")
    ] = None,
    core: Annotated[str, typer.Option("--core", help=choose("What sums", TENSOR_CORES))] = "hopper-fp8",
    promote_every: Annotated[
        int | None, typer.Option("--promote-every", help="Products between additions in FP32.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell how a tensor core sums products; by default one large one among 31 small ones."""
    from fp8sim.anatomy import explain_dot

    if formats and len(formats) > 2:
        raise ValueError(f"--format is given {len(formats)} times; factors have two formats at most")
    a, b = zip(*_parse_products(products or list(_LARGE_AMONG_32)), strict=True)
    a_format, b_format = (formats * 2)[:2] if formats else (None, None)
    dot = explain_dot(a, b, core, promote_every=promote_every, a_format=a_format, b_format=b_format)
    show(dot, as_json=as_json)


#: One large product among the 32 of a step, which DeepSeek-V3's report tells of in 3.5.2.
_LARGE_AMONG_32 = ("16x16", "0.140625x0.140625*31")


_MOST = 100_000  # products, some seconds of work


def _parse_products(texts: list[str]) -> list[tuple[float, float]]:
    products: list[tuple[float, float]] = []
    for text in texts:
        _refuse_option(text)
        pair, _, count = text.partition("*")
        a, cross, b = pair.partition("x")
        if not cross or not re.fullmatch("[1-9][0-9]*", count or "1"):
            raise ValueError(f"{text!r} is no product; write AxB, such as 16x0.5, or AxB*COUNT for several")
        if len(count) > 6 or len(products) + int(count or 1) > _MOST:
            raise ValueError(f"{shorten(text, 40)!r} makes it more than {_MOST} products; pass fewer")
        products += [(_parse_number(a), _parse_number(b))] * int(count or 1)
    return products


def _parse_number(text: str) -> float:
    _refuse_option(text)
    power = re.fullmatch(r"([+-]?)2(?:\^|\*\*)([+-]?\d{1,5})", text.strip())
    try:
        number = math.ldexp(float(f"{power[1]}1"), int(power[2])) if power else float(text)
    except OverflowError:
        number = math.inf
    except ValueError:
        raise ValueError(f"{text!r} is no number; write one such as 0.3, -1e-3 or 2^-10") from None
    digits = text.lower().partition("e")[0]  # of infinity, nan and 0e5 there are none but 0
    beyond = not math.isfinite(number) and bool(re.search("[1-9]", digits))
    vanished = number == 0 and bool(re.search("[1-9]", digits))
    if beyond or vanished:
        raise ValueError(f"{text!r} is beyond float64, in which numbers are taken: 5e-324 to 1.8e308")
    return number


def _refuse_option(text: str) -> None:
    """Refuse an unknown option: the parser takes it for one of the words, as it does -0.3."""
    if text.startswith("--"):
        raise ValueError(f"no such option {text!r}; see 'fp8sim explain --help'")
