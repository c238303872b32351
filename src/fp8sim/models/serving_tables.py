"""Serving as tables, and as plain data for JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fp8sim._support import checks
from fp8sim._support.quantities import bytes_text, count_text, percent_text, ratio_text, time_text
from fp8sim._support.results import members, plain_data
from fp8sim._support.tables import Table
from fp8sim.costs import formats_class
from fp8sim.models.deployment import ServingMemory, ServingPart
from fp8sim.models.served import Served, ServingSide
from fp8sim.models.tables import LEFT_OUT

__all__ = ["curve_table", "powers", "serving_dict", "serving_tables"]


def serving_tables(cost: Served) -> list[Table]:
    """Return the tables of memory, of the two steps where one of the sides fits, and of what is served."""
    some = any(side.fits is not False for side in _sides(cost))
    steps = [_steps(cost, "decode"), _steps(cost, "prefill")] if some else []
    return [_memory_table(cost), *steps, _summary(cost)]


def serving_dict(cost: Served) -> dict[str, Any]:
    """Return every figure of serving as plain data."""
    sides = zip(("", "baseline_"), _sides(cost), strict=True)
    both = {f"{prefix}{key}": value for prefix, side in sides for key, value in _data(side).items()}
    data: dict[str, Any] = plain_data(
        {
            "model": cost.model.name,
            "device": cost.device.name,
            **members(cost, "devices plan"),
            **members(cost.ours, "batch context"),
            "memory_bytes": cost.device.memory and cost.device.memory.value,
            **both,
            "speedup": cost.speedup,
            "exchanges": [one._asdict() for one in cost.exchanges],
            "left_out": LEFT_OUT,
            "notes": _remarks(cost),
        }
    )
    return data


def _data(side: ServingSide) -> dict[str, Any]:
    timed = side.fits is not False
    return {
        "recipe": side.recipe.name,
        "kv": side.kv.name,
        **members(side, "fits missing_bytes largest_batch largest_context"),
        "memory": {**side.memory._asdict(), **members(side.memory, "held total")},
        "time_to_first_token_s": side.time_to_first_token,
        "decode_s": side.decode_seconds,
        "tokens_per_s_and_device": side.tokens_per_second,
        "prefill_tokens_per_s_and_device": side.prefill_tokens_per_second,
        "decode": [one._asdict() for one in side.decode] if timed else None,
        "prefill": [one._asdict() for one in side.prefill] if timed else None,
    }


def _columns(cost: Served) -> tuple[str, str]:
    """Return what tables call the two sides: by the recipe, and by the cache where that is all."""
    ours, base = (str(side.recipe) for side in (cost.ours, cost.baseline))
    return (ours if ours != base else f"{cost.ours.kv} cache"), base


def _memory_table(cost: Served) -> Table:
    ours, base = cost.ours.memory, cost.baseline.memory
    rows = [
        [name, bytes_text(getattr(ours, name)), bytes_text(getattr(base, name))]
        for name in ServingMemory._fields
        if getattr(base, name) or getattr(ours, name)
    ]
    between = ["held between steps", bytes_text(ours.held), bytes_text(base.held)]
    rows.insert(sum(row[0] in ("weights", "cache", "state") for row in rows), between)
    rows.append(["total", bytes_text(ours.total), bytes_text(base.total)])
    across = f"{cost.devices} x " if cost.devices > 1 else ""
    cut = f", cut by {cost.plan}s" if cost.devices > 1 else ""
    what = f"{cost.ours.batch} sequences of {cost.ours.context} tokens, cache {cost.ours.kv}"
    recipes = f"{cost.ours.recipe} against {cost.baseline.recipe}"
    title = f"{cost.model} on {across}{cost.device}{cut}, {recipes}: {what}"
    notes = [f"{name}: {_fit(side)}." for name, side in zip(_columns(cost), _sides(cost), strict=True)]
    if ours.reserve:
        share = percent_text(cost.ours.of.reserve)
        notes.append(f"Reserve: {share} of the memory, left to fragments and the runtime.")
    notes += [f"{line[:1].upper()}{line[1:]}." for line in _remarks(cost)]
    return Table(title, ["a device", *(f"{name}>" for name in _columns(cost))], rows, notes)


def _remarks(cost: Served) -> list[str]:
    """Return what a device does without a unit, and what of the model is not counted."""
    rates = (
        side.of.device.rate(formats_class(side.recipe.a.fmt, side.recipe.b.fmt)) for side in _sides(cost)
    )
    left_out = (line for line in cost.model.found if line.startswith("left out: ") and "backward" not in line)
    return list(dict.fromkeys([*(rate.note for rate in rates if rate.note), *left_out]))


def _sides(cost: Served) -> tuple[ServingSide, ServingSide]:
    return cost.ours, cost.baseline


def _fit(side: ServingSide) -> str:
    memory = side.of.device.memory
    if memory is None:
        return f"whether it fits is not known, as the memory of {side.of.device} is not"
    if side.fits:
        return f"fits, {bytes_text(memory.value - side.memory.total)} to spare of {bytes_text(memory.value)}"
    return f"does not fit, {bytes_text(side.missing_bytes)} too much for {bytes_text(memory.value)}"


def _steps(cost: Served, phase: str) -> Table:
    ours, base = ({part.name: part for part in getattr(side, phase)} for side in _sides(cost))
    timed, timed_base = (side.fits is not False for side in _sides(cost))

    def time(parts: dict[str, ServingPart], name: str, on: bool) -> str:
        return time_text(parts[name].seconds) if on and name in parts else "-"

    rows = [
        [
            name,
            count_text(part.flops),
            bytes_text(part.bytes),
            time(ours, name, timed),
            part.bound,
            time(base, name, timed_base),
            base[name].bound if name in base else "",
        ]
        for name, part in ours.items()
    ]
    totals = [
        time_text(sum(part.seconds for part in parts.values())) if on else "-"
        for parts, on in ((ours, timed), (base, timed_base))
    ]
    rows.append(["total", "", "", totals[0], "", totals[1], ""])
    first, second = _columns(cost)
    titles = {
        "decode": f"Decode: a token in each of {cost.ours.batch} sequences",
        "prefill": f"Prefill: a prompt of {cost.ours.context} tokens",
    }
    headers = ["a device", "FLOP>", "bytes>", f"{first}>", "bound by", f"{second}>", "bound by"]
    return Table(titles[phase], headers, rows)


def _summary(cost: Served) -> Table:
    rows = [[what, *map(text, _sides(cost))] for what, text in _SERVED.items()]
    notes = []
    for one in cost.exchanges if cost.devices > 1 else ():
        amounts = one.bytes_per_token, one.baseline_bytes_per_token
        rows.append([f"sent to others a token, by {one.plan}s", *map(bytes_text, amounts)])
        if one.plan == "expert" and amounts[0] < amounts[1]:
            saved, fmt = percent_text(1 - amounts[0] / amounts[1]), cost.ours.recipe.a.fmt
            notes.append(f"Dispatch in {fmt} saves {saved} of what goes to experts and back.")
    if cost.speedup == cost.speedup:
        notes.append(f"Tokens a second: {ratio_text(cost.speedup, 2)} times those of the baseline.")
    if not (cost.fits is not False and cost.baseline.fits is not False):
        notes.append("No time is given for what does not fit.")
    notes.append("Times are rooflines: the least that a server takes. They leave out:")
    notes += [f"  {what}" for what in LEFT_OUT[:3]]
    return Table("Served", ["", *(f"{name}>" for name in _columns(cost))], rows, notes)


#: What is served -> how it is written.
_SERVED: dict[str, Callable[[ServingSide], str]] = {
    "time to the first token": lambda side: _known(time_text, side.time_to_first_token),
    "time of a token": lambda side: _known(time_text, side.decode_seconds),
    "tokens a second, a device": lambda side: _known(count_text, side.tokens_per_second),
    "prompt tokens a second, a device": lambda side: _known(count_text, side.prefill_tokens_per_second),
    "largest batch at this context": lambda side: _limit(side, side.largest_batch),
    "largest context at this batch": lambda side: _limit(side, side.largest_context),
}


def _known(text: Callable[[float], str], value: float) -> str:
    return "-" if math.isnan(value) else text(value)


def _limit(side: ServingSide, value: int | None) -> str:
    if value is None:
        return "no limit" if side.of.device.memory else "-"
    return f"{value:,}" if value else "none"


def powers(cost: Served, along: str) -> dict[str, list[int]]:
    """Return the powers of two of a curve along the batch or the context, up to the first that is too many.

    Examples
    --------
    >>> from fp8sim.models import serving_cost
    >>> powers(serving_cost("llama-3.1-8b", device="h100", batch=1, context=8192), "batch")
    {'batch': [1, 2, 4, 8, 16, 32, 64]}
    """
    side = cost.ours
    most = side.largest_batch if checks.one_of(along, ("batch", "context"), "curve") == "batch" else None
    most = side.largest_context if along == "context" else most
    top = 20 if most is None else most.bit_length()
    return {along: [1 << power for power in range(top + 1)]}


def curve_table(cost: Served, rows: list[dict[str, Any]]) -> Table:
    """Return the rows of a curve as a table."""

    def time(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda row: "-" if row[name] is None else time_text(row[name])

    def rate(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda row: "-" if row[name] is None else count_text(row[name])

    ours, base = _columns(cost)
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "batch>": lambda row: f"{row['batch']}",
        "context>": lambda row: f"{row['context']}",
        "memory>": lambda row: bytes_text(row["bytes"]),
        "fits": lambda row: {True: "yes", False: "no", None: "-"}[row["fits"]],
        "first token>": time("time_to_first_token_s"),
        "a token>": time("decode_s"),
        f"tokens/s, {ours}>": rate("tokens_per_s_and_device"),
        f"{base}>": rate("baseline_tokens_per_s_and_device"),
    }
    title = f"{cost.model} on {cost.devices} x {cost.device}, {ours}, cache {cost.ours.kv}: of a device"
    return Table.of(title, columns, rows, ["No time is given for what does not fit."])
