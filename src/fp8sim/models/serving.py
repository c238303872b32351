"""Serving a model: does it fit, how fast can it be at best, and what FP8 weights and an FP8 cache change."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fp8sim._support import checks
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim.costs import DeviceLike, get_device
from fp8sim.models.builtin import ModelLike, get_model
from fp8sim.models.caches import KV_CACHES, CacheFormat, get_cache
from fp8sim.models.deployment import PLANS, Plan, deployment
from fp8sim.models.served import Served, ServingSide, plans, points
from fp8sim.models.serving_tables import serving_dict, serving_tables
from fp8sim.recipes import RecipeLike, get_recipe

__all__ = ["ServingCost", "serving_cost"]

_CACHE_UNKNOWN = re.compile("left out: flops.*cache")  # as `models.reading` says it


@dataclass(frozen=True, repr=False)
class ServingCost(Result, Served):
    """Memory, fit and roofline times of serving a model, beside the same in BF16.

    Made by `serving_cost`. Prints as tables; `curve` gives the same for many batches and contexts.

    Parameters
    ----------
    ours, baseline : ServingSide
        Under the recipe and its cache, and in BF16.

    Examples
    --------
    >>> cost = serving_cost("llama-3.1-8b", "fp8-row", device="h100", batch=64, context=8192)
    >>> f"{cost.ours.memory.held / 1e9:.1f} GB against {cost.baseline.memory.held / 1e9:.1f} GB"
    '77.8 GB against 84.8 GB'
    >>> cost.fits, cost.ours.largest_batch, cost.ours.largest_context
    (False, 57, 7415)
    """

    def curve(
        self, *, batch: int | Iterable[int] | None = None, context: int | Iterable[int] | None = None
    ) -> list[dict[str, Any]]:
        """Return memory and times for every batch and every context, a row each.

        Parameters
        ----------
        batch, context : int or iterable of int, optional
            What to go through; what is left out stays as it is.

        Returns
        -------
        list of dict
            ``batch context fits bytes time_to_first_token_s decode_s tokens_per_s_and_device`` and, after
            ``baseline_``, those of BF16. Times are None where it does not fit.

        Examples
        --------
        >>> cost = serving_cost("llama-3.1-8b", "fp8-row", device="h100", batch=64, context=8192, kv="fp8")
        >>> for row in cost.curve(batch=(1, 64, 128)):
        ...     print(row["batch"], row["fits"], row["decode_s"] and round(row["decode_s"] * 1e3, 1))
        1 True 2.6
        64 True 12.8
        128 False None
        """
        many, long = (
            [now] if given is None else _positive(given, what)
            for given, what, now in (
                (batch, "batch", self.ours.batch),
                (context, "context", self.ours.context),
            )
        )
        rows: list[dict[str, Any]] = [{"batch": b, "context": c} for c in long for b in many]
        for side, prefix in ((self.ours, ""), (self.baseline, "baseline_")):
            for row, found in zip(rows, points(side.of, many, long), strict=True):
                row |= {f"{prefix}{name}": value for name, value in found.items()}
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as plain data, the unit in the key; a time of what does not fit is None."""
        return serving_dict(self)

    def parts(self) -> list[Table]:
        """Return the tables that it prints as."""
        return serving_tables(self)


def _positive(given: Any, what: str) -> list[int]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        return [checks.positive_int(given, what)]
    return [checks.positive_int(one, what) for one in given]


def serving_cost(
    model: ModelLike,
    recipe: RecipeLike = "deepseek-v3",
    *,
    device: DeviceLike,
    devices: int = 1,
    batch: int,
    context: int,
    kv: str | CacheFormat = "bf16",
    plan: Plan | None = None,
    reserve: float = 0.1,
) -> ServingCost:
    """Work out whether a model can be served, how fast at best, and what FP8 changes of it.

    Parameters
    ----------
    model : str, path, mapping or ModelDescription
        A built-in name, a ``config.json``, or what one holds.
    recipe : str or Recipe
        How its linear layers multiply, and what their weights are stored in.
    device : str or Device
        What it is served on.
    devices : int
        How many of them.
    batch : int
        Sequences at once, on all devices together.
    context : int
        Tokens cached of each; also the tokens of a prompt.
    kv : str or CacheFormat
        How keys and values are cached: a name in `models.KV_CACHES`.
    plan : {"tensor", "expert"}, optional
        How the model is cut across devices: by default experts where there are any, else every matrix.
    reserve : float
        Share of a device's memory that is left free: 0.1 is what vLLM leaves.

    Returns
    -------
    ServingCost
        Memory by part, fit, roofline times by part, bytes between devices, all beside BF16; prints as
        tables.

    Raises
    ------
    TypeError
        If a number is none.
    ValueError
        If a number is out of range, a name is unknown, the configuration is malformed, the model is an
        encoder, a record of latents is asked of a model without, or a plan of experts of one without.

    Examples
    --------
    >>> cost = serving_cost("llama-3.1-8b", "fp8-row", device="h100", batch=64, context=8192, kv="fp8")
    >>> cost.fits, cost.baseline.fits, f"{cost.memory.held / 1e9:.1f} GB"
    (True, False, '43.4 GB')
    >>> [(part.name, part.bound) for part in cost.ours.decode]
    [('linear layers', 'memory'), ('attention', 'cache'), ('vocabulary', 'memory'), ('quantising', 'memory')]
    """
    description, on = get_model(model), get_device(device)
    if not description.decoder:
        raise ValueError(
            f"{description} is an encoder, which does not decode; use model_cost, phase='prefill'"
        )
    if line := next(filter(_CACHE_UNKNOWN.match, description.found), ""):
        raise ValueError(
            f"what serving {description} takes is not known ({line.removeprefix('left out: ')}); "
            "model_cost counts the rest"
        )
    many, batch, context = (
        checks.positive_int(size, what)
        for size, what in ((devices, "devices"), (batch, "batch"), (context, "context"))
    )
    known = plans(description)
    if plan is not None and checks.one_of(plan, PLANS, "plan") not in known:
        raise ValueError(f"{description} has no experts to cut by; use plan='tensor'")
    free = float(checks.within(checks.number(reserve, "reserve"), "reserve", 0, 0.99))
    cut = plan or known[-1]
    sides = [
        ServingSide(deployment(description, how, cache, on, many, cut, free), batch, context)
        for how, cache in ((get_recipe(recipe), get_cache(kv)), (get_recipe("bf16"), KV_CACHES["bf16"]))
    ]
    sides[0].of.cache_of(context)  # a record that the model has no latents for is refused here
    return ServingCost(*sides)
