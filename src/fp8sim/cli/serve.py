"""`fp8sim serve`: does a model fit on devices, how fast at best, and what FP8 changes of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fp8sim.cli.options import Command, DeviceName, Json, app, choose
from fp8sim.cli.output import print_json, show
from fp8sim.models.builtin import MODELS
from fp8sim.models.caches import KV_CACHES
from fp8sim.models.deployment import PLANS
from fp8sim.recipes import RECIPES


@app.command("serve", cls=Command)
def serve_command(
    model: Annotated[str, typer.Argument(help=choose("A Hugging Face config.json, or a name", MODELS))] = "",
    *,
    recipe: Annotated[
        str, typer.Option("--recipe", help=choose("How its linear layers multiply", RECIPES))
    ] = "deepseek-v3",
    device: DeviceName = "h100",
    devices: Annotated[int, typer.Option("--devices", help="How many of them.")] = 1,
    batch: Annotated[int, typer.Option("--batch", help="Sequences at once, on all devices.")] = 64,
    context: Annotated[int, typer.Option("--context", help="Tokens of each.")] = 8192,
    kv: Annotated[str, typer.Option("--kv", help=choose("What is cached", KV_CACHES))] = "bf16",
    plan: Annotated[
        Any, typer.Option("--plan", parser=str, metavar="TEXT", help=choose("How the model is cut", PLANS))
    ] = None,
    reserve: Annotated[float, typer.Option("--reserve", help="Share of memory left free.")] = 0.1,
    curve: Annotated[
        Any,
        typer.Option(
            "--curve", parser=str, metavar="TEXT", help="Go through powers of two: batch or context."
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare with measured servers.")] = False,
    as_json: Json = False,
) -> None:
    """Work out what serving a model takes: does it fit, how fast at best, and what FP8 changes."""
    from fp8sim.models import check_serving, serving_cost
    from fp8sim.models.serving_tables import curve_table, powers

    if check:
        show(check_serving(model or None), as_json=as_json)
        return
    if not model:
        raise ValueError("name a model: fp8sim serve llama-3.1-8b, or the path of a config.json")
    where: dict[str, Any] = {"device": device, "devices": devices, "plan": plan, "reserve": reserve}
    cost = serving_cost(model, recipe, batch=batch, context=context, kv=kv, **where)
    if curve is None:
        show(cost, as_json=as_json)
        return
    rows = cost.curve(**powers(cost, curve))
    if as_json:
        print_json(rows)
    else:
        show(curve_table(cost, rows))
