"""`fp8sim formats`, `recipes` and `devices`: what options can name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from fp8sim._support.published import Figure
from fp8sim._support.results import members
from fp8sim.cli.options import Json, app
from fp8sim.cli.output import print_json, show
from fp8sim.costs.devices import DEVICES, Device
from fp8sim.formats import FORMATS, FloatFormat
from fp8sim.recipes import RECIPES, Recipe


def _format(fmt: FloatFormat) -> dict[str, Any]:
    return {
        **members(fmt, "name bits exponent_bits mantissa_bits bias max smallest_normal"),
        "smallest_subnormal": fmt.smallest_subnormal if fmt.subnormals else "-",
        "eps": fmt.eps,
        "infinity": "yes" if fmt.has_inf else "-",
        "nan": "yes" if fmt.has_nan else "-",
        "dtype": str(fmt.dtype),
    }


def _recipe(recipe: Recipe) -> dict[str, Any]:
    sums, output = recipe.accumulator.name, recipe.output.name
    operands = {"a": str(recipe.a), "b": str(recipe.b)}
    return {"name": recipe.name, **operands, "accumulator": sums, "output": output, "summary": recipe.summary}


def _device(device: Device) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": device.name, "title": device.title}
    sources = {}
    for field in dataclasses.fields(device):
        figure = getattr(device, field.name)
        if figure is None or isinstance(figure, Figure):
            unit = {"bandwidth": "bytes_per_second", "memory": "bytes"}.get(field.name, "flop_per_second")
            facts[f"{field.name}_{unit}"] = figure and figure.value
            sources[field.name] = figure and figure.source
    return {**facts, "block_scales": device.block_scales, "remark": device.remark, "sources": sources}


def _add(name: str, what: str, registry: Any, facts: Callable[[Any], dict[str, Any]]) -> None:
    @app.command(name, help=f"Print {what}.")
    def command(as_json: Json = False) -> None:
        if as_json:
            print_json({key: facts(entry) for key, entry in registry.items()})
        else:
            show(registry)


_add("formats", "every format and its limits", FORMATS, _format)
_add("recipes", "every recipe: what it stores A and B in, and how it sums", RECIPES, _recipe)
_add("devices", "every device and its published rates", DEVICES, _device)
