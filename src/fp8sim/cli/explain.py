"""`fp8sim explain`: a number, a block or a dot product, told bit by bit."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

import typer

from fp8sim.cli.options import Json, Seed, app
from fp8sim.cli.output import print_json
from fp8sim.reference.rounding import ROUNDINGS

__all__ = ["explain_command"]


@app.command("explain", context_settings={"ignore_unknown_options": True})  # so that -0.3 is a value
def explain_command(
    values: Annotated[
        list[str] | None,
        typer.Argument(help="Numbers such as 0.3 or 2^-10; with --dot, products AxB or AxB*COUNT."),
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="As fp8sim formats lists them; repeat for several.")
    ] = None,
    rounding: Annotated[
        Any,
        typer.Option("--rounding", parser=str, metavar="TEXT", help=f"Of a value: {', '.join(ROUNDINGS)}."),
    ] = "nearest-even",
    overflow: Annotated[
        Any,
        typer.Option(
            "--overflow", parser=str, metavar="TEXT", help="Of a value: saturate or ieee; what GPUs do."
        ),
    ] = None,
    block: Annotated[
        bool, typer.Option("--block", help="Explain the numbers as a block of one scale.")
    ] = False,
    scale_format: Annotated[
        str, typer.Option("--scale-format", help="Of a block: fp32, e8m0 or e4m3.")
    ] = "fp32",
    scale_rule: Annotated[
        str | None, typer.Option("--scale-rule", help="Of a block: amax, ceil, floor or even.")
    ] = None,
    dot: Annotated[bool, typer.Option("--dot", help="Explain the sum of products on a tensor core.")] = False,
    core: Annotated[str, typer.Option("--core", help="Tensor core of --dot.")] = "hopper-fp8",
    promote_every: Annotated[
        int | None, typer.Option("--promote-every", help="Products of --dot between additions in FP32.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Tell bit by bit what a number, a block of numbers or a dot product becomes, and why."""
    import numpy as np

    from fp8sim.anatomy import explain, explain_block, explain_dot

    if block and dot:
        raise ValueError("--block takes numbers and --dot takes products; pass one of them")
    if dot:
        factors = _parse_products(values or list(_LARGE_AMONG_32))
        a, b = ([pair[side] for pair in factors] for side in (0, 1))
        a_format, b_format = (formats * 2)[:2] if formats else (None, None)
        told: list[Any] = [
            explain_dot(a, b, core, promote_every=promote_every, a_format=a_format, b_format=b_format)
        ]
    else:
        numbers = [_parse_number(text) for text in values or []]
        if not numbers:
            raise ValueError("explain what? write numbers, such as 'fp8sim explain 0.3 --format e4m3'")
        chosen = formats or ["e4m3"]
        if block:
            told = [
                explain_block(numbers, fmt, scale_format=scale_format, scale_rule=scale_rule)
                for fmt in chosen
            ]
        else:
            rng = np.random.default_rng(seed)
            fmt: Any = chosen[0] if len(chosen) == 1 else chosen
            told = [explain(x, fmt, rounding=rounding, overflow=overflow, rng=rng) for x in numbers]
    if as_json:
        data = [one.to_dict() for one in told]
        print_json(data[0] if len(data) == 1 else data)
    else:
        _print_told(told)


#: One large product among the 32 of a step, which DeepSeek-V3's report tells of in 3.5.2.
_LARGE_AMONG_32 = ("16x16", "0.140625x0.140625*31")


def _parse_products(texts: list[str]) -> list[tuple[float, float]]:
    products = []
    for text in texts:
        pair, _, count = text.partition("*")
        a, cross, b = pair.partition("x")
        if not cross or not (count or "1").isdigit():
            raise ValueError(f"{text!r} is no product; write AxB, such as 16x0.5, or AxB*COUNT for several")
        products += [(_parse_number(a), _parse_number(b))] * int(count or 1)
    return products


def _parse_number(text: str) -> float:
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


def _print_told(told: list[Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for index, one in enumerate(told):
        console.print(*[""] * (index > 0), one, sep="\n")
