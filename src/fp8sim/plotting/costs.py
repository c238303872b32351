"""Pictures of costs: bytes and time of a model or of recipes, and GEMMs under a device's roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from fp8sim._support import checks
from fp8sim._support.quantities import amount_text, percent_text, ratio_text, tera_text, unit_for
from fp8sim.costs import GemmCost
from fp8sim.experiments.comparison import Comparison
from fp8sim.models import ModelCost
from fp8sim.plotting._style import (
    GREY,
    axes_for,
    bar_look,
    legend_above,
    line_look,
    octaves,
    stacked_bars,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cost_bars", "flop_bars", "roofline"]

Quantity: TypeAlias = Literal["bytes", "seconds"]
Stacks: TypeAlias = "dict[str, dict[str, float]]"  # bar -> part -> amount

_SMALL = 0.015  # share of the longest bar below which a part is shown under "rest"


def cost_bars(cost: ModelCost | Comparison, quantity: Quantity = "bytes", *, ax: Axes | None = None) -> Axes:
    """Draw bytes or modelled time as bars, under a recipe and its baseline or under many recipes.

    Each bar ends with its sum and the ratio to the baseline's. `ax` and Returns are as for `number_lines`.

    Parameters
    ----------
    cost : ModelCost or Comparison
        A model's cost: weights or time by component, beside the baseline's. A comparison: operands
        and output, or roofline time, one bar a recipe.
    quantity : {"bytes", "seconds"}
        What to draw.

    Raises
    ------
    ValueError
        If the quantity is unknown, or the device has no rate to model a time with.

    Examples
    --------
    >>> from fp8sim.models import model_cost
    >>> from fp8sim.plotting import cost_bars
    >>> ax = cost_bars(model_cost("deepseek-v3"))
    >>> [text.get_text() for text in ax.texts]
    ['1.34 TB', '0.673 TB, 0.502 of bf16']
    """
    checks.one_of(quantity, ("bytes", "seconds"), "quantity")
    if isinstance(cost, ModelCost):
        stacks, baseline = _model_stacks(cost, quantity), str(cost.baseline)
        time = f"roofline time of {cost.work.phase} on {cost.device}"
        what = f"{cost.model}, {'weights' if quantity == 'bytes' else time}"
    elif isinstance(cost, Comparison):
        stacks, baseline = _comparison_stacks(cost, quantity), cost.baseline
        kind = "operands and output" if quantity == "bytes" else f"roofline time on {cost.device}"
        what = f"({cost.m}, {cost.k}) @ ({cost.k}, {cost.n}), {kind}"
    else:
        raise TypeError(f"cost_bars() draws a ModelCost or a Comparison, got {type(cost).__name__}")
    sums = {bar: sum(parts.values()) for bar, parts in stacks.items()}
    if any(map(math.isnan, sums.values())):
        raise ValueError("a time is unknown, as the device has no rate for a recipe; pick another device")
    factor, unit = unit_for(max(sums.values()), quantity)
    ax = axes_for(ax, 7.5, 1.6 + 0.45 * len(stacks))
    bars = _in_unit(stacks, factor)
    names = list(next(iter(bars.values())))
    stacked_bars(ax, bars, {name: {**bar_look(i), "height": 0.7} for i, name in enumerate(names)})
    if names != [""]:
        legend_above(ax)
    for row, (bar, total) in enumerate(sums.items()):
        ratio = "" if bar == baseline else f", {ratio_text(total / sums[baseline])} of {baseline}"
        text, end = f"{amount_text(total, factor, unit)}{ratio}", (total / factor, row)
        ax.annotate(text, end, (4, 0), textcoords="offset points", va="center", fontsize="small")
    ax.set_xlim(0, 1.4 * max(sums.values()) / factor)  # room for the sums
    ax.set_xlabel(f"{what} ({unit})")
    ax.spines[["right", "top"]].set_visible(False)
    return ax


def flop_bars(costs: ModelCost | Sequence[ModelCost], *, ax: Axes | None = None) -> Axes:
    """Draw the forward flops of a token, a bar a context length; what is in the recipe's formats is hatched.

    Each bar ends with its sum and the share that is hatched. `ax` and Returns are as for `number_lines`.

    Parameters
    ----------
    costs : ModelCost or sequence of ModelCost
        What `model_cost` returned, all of one model under one recipe.

    Raises
    ------
    ValueError
        If there is no cost, or the models or recipes differ.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.plotting import flop_bars
    >>> lengths = (4096, 131072)
    >>> ax = flop_bars([fp8sim.model_cost("deepseek-v3", seq_len=length) for length in lengths])
    >>> [text.get_text() for text in ax.texts]
    ['83.5 GFLOP, 85.3 % in deepseek-v3', '401 GFLOP, 17.8 % in deepseek-v3']
    """
    costs = [checks.of_kind(cost, ModelCost, "a cost") for cost in checks.several(costs, ModelCost, "costs")]
    if len({(str(cost.model), str(cost.recipe)) for cost in costs}) != 1:
        raise ValueError("the bars are of one model under one recipe; draw one picture each")
    recipe = str(costs[0].recipe)
    stacks: Stacks = {}
    looks: dict[str, dict[str, Any]] = {}
    largest = max(cost.forward_flops_per_token for cost in costs)
    for cost in costs:
        bar = stacks.setdefault(f"{cost.work.seq_len} tokens", {})
        for row in sorted(cost.components, key=lambda row: -row.quantized_share):
            thin = row.flops_per_token < _SMALL * largest
            kind = recipe if row.quantized_share else str(cost.baseline)
            part = f"{'rest' if thin else row.component}, {kind}"
            bar[part] = bar.get(part, 0.0) + row.flops_per_token / 1e9
            look = bar_look(len(looks)) | ({"facecolor": GREY} if thin else {})
            looks.setdefault(part, {**look, "hatch": "///" if row.quantized_share else "", "height": 0.7})
    ax = axes_for(ax, 7.5, 1.8 + 0.45 * len(stacks))
    stacked_bars(ax, stacks, looks)
    legend_above(ax)
    for row_number, (cost, parts) in enumerate(zip(costs, stacks.values(), strict=True)):
        share = percent_text(cost.quantized_flops_share)
        text = f"{sum(parts.values()):.3g} GFLOP, {share} in {recipe}"
        end = (sum(parts.values()), row_number)
        ax.annotate(text, end, (4, 0), textcoords="offset points", va="center", fontsize="small")
    ax.set_xlim(0, 1.6 * largest / 1e9)  # room for the sums
    ax.set_xlabel(f"{costs[0].model}, forward flops of a token (GFLOP)")
    ax.spines[["right", "top"]].set_visible(False)
    return ax


def _model_stacks(cost: ModelCost, quantity: str) -> Stacks:
    """Return the parts of the baseline's bar and of the recipe's."""
    ours: dict[str, float] = {}
    base: dict[str, float] = {}
    for row in cost.components:
        weigh = quantity == "bytes"
        ours[row.component] = row.weights.total if weigh else row.seconds
        base[row.component] = row.baseline_weights.total if weigh else row.baseline_seconds
    if quantity == "seconds":
        ours["quantising"] = cost.quantize_seconds
    return {str(cost.baseline): base, str(cost.recipe): ours}


def _comparison_stacks(cost: Comparison, quantity: str) -> Stacks:
    return {row.recipe: {"": float(row.nbytes if quantity == "bytes" else row.seconds)} for row in cost.rows}


def _in_unit(stacks: Stacks, factor: float) -> Stacks:
    """Return amounts over `factor`; parts that are too thin to be seen in any bar go under one name."""
    longest = max(sum(parts.values()) for parts in stacks.values())
    names = dict.fromkeys(name for parts in stacks.values() for name in parts)
    widest = {name: max(parts.get(name, 0.0) for parts in stacks.values()) for name in names}
    thin = [name for name in names if widest[name] < _SMALL * longest]
    bars = {}
    for bar, parts in stacks.items():
        bars[bar] = {name: parts.get(name, 0.0) / factor for name in names if name not in thin}
        if thin:
            bars[bar]["rest"] = sum(parts.get(name, 0.0) for name in thin) / factor
    return bars


def roofline(costs: GemmCost | Sequence[GemmCost], *, ax: Axes | None = None) -> Axes:
    """Draw GEMMs under the roofline of their device: what memory and multipliers let them reach.

    One roof for each kind of operands; points under the slope wait for memory, points under the flat for
    multiplies. No kernel is above its roof. `ax` and Returns are as for `number_lines`.

    Parameters
    ----------
    costs : GemmCost or sequence of GemmCost
        What `gemm_cost` returned, all on one device.

    Raises
    ------
    ValueError
        If there is no cost, the devices differ, or a rate is unknown.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.plotting import roofline
    >>> recipes = ["bf16", "deepseek-v3"]
    >>> costs = [fp8sim.gemm_cost(m, 7168, 2048, recipe) for m in (64, 4096) for recipe in recipes]
    >>> ax = roofline(costs)
    >>> [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    ['BF16 peak 990 TFLOP/s', 'FP8 peak 1979 TFLOP/s', 'bf16', 'deepseek-v3']
    """
    costs = [checks.of_kind(cost, GemmCost, "a cost") for cost in checks.several(costs, GemmCost, "costs")]
    devices = {cost.device.name: cost.device for cost in costs}
    if len(devices) != 1:
        names = ", ".join(devices) or "none"
        raise ValueError(f"a roofline is of one device, these costs are of {names}; draw one picture each")
    (device,) = devices.values()
    if any(math.isnan(cost.seconds) for cost in costs):
        raise ValueError(f"{device} has no rate for a recipe; pick another device")
    ax = axes_for(ax, 7.5, 4.5)
    _draw_roofs(ax, costs)
    for index, recipe in enumerate(dict.fromkeys(str(cost.recipe) for cost in costs)):
        own = [cost for cost in costs if str(cost.recipe) == recipe]
        look = {**line_look(index), "linestyle": "", "markersize": 8, "zorder": 3}
        rates = [cost.performance / 1e12 for cost in own]
        ax.plot([cost.intensity for cost in own], rates, label=recipe, **look)
    octaves(ax)
    ax.set_yscale("log")
    _name_shapes(ax, costs)
    ax.set_xlabel("arithmetic intensity (FLOP/B)")
    ax.set_ylabel("reachable rate (TFLOP/s)")
    constant = f"; n = {costs[0].n}, k = {costs[0].k}" if _only_m_varies(costs) else ""
    ax.set_title(f"{device}, {tera_text(device.bandwidth.value, 'B/s')}{constant}")
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right", fontsize="small")
    return ax


def _draw_roofs(ax: Axes, costs: Sequence[GemmCost]) -> None:
    """Draw the slope of the memory and one flat a kind of operands."""
    roofs = {cost.rate.operand_class: cost for cost in costs}
    intensities = [cost.intensity for cost in costs] + [roof.ridge for roof in roofs.values()]
    low, high = min(intensities) / 3, max(intensities) * 3
    for index, (kind, roof) in enumerate(sorted(roofs.items(), key=lambda item: item[1].peak)):
        ax.plot(
            [low, roof.ridge, high],
            np.array([low * roof.bandwidth, roof.peak, roof.peak]) / 1e12,
            color=GREY,
            linestyle=line_look(index)["linestyle"],
            label=f"{kind.upper()} peak {tera_text(round(roof.peak, -12), 'FLOP/s')}",
            zorder=1,
        )


def _only_m_varies(costs: Sequence[GemmCost]) -> bool:
    return len({cost.m for cost in costs}) > 1 == len({(cost.n, cost.k) for cost in costs})


def _name_shapes(ax: Axes, costs: Sequence[GemmCost]) -> None:
    """Write each shape, or m alone, once below its lowest point; shapes that share a place in a list."""
    short = _only_m_varies(costs)
    lowest: dict[str, tuple[float, float]] = {}
    for cost in costs:
        point = (cost.intensity, cost.performance / 1e12)
        shape = f"m = {cost.m}" if short else f"{cost.m}x{cost.n}x{cost.k}"
        lowest[shape] = min(lowest.get(shape, point), point, key=lambda xy: xy[1])
    width = math.log(max(cost.intensity for cost in costs) / min(cost.intensity for cost in costs)) + 2
    places: list[tuple[float, float, list[str]]] = []
    for shape, (x, y) in sorted(lowest.items(), key=lambda item: item[1]):
        if places and math.log(x / places[-1][0]) < (0.07 if short else 0.12) * width:
            places[-1][2].append(shape)
        else:
            places.append((x, y, [shape]))
    for x, y, shapes in places:
        more = [f"and {len(shapes) - 3} more"] if len(shapes) > 4 else shapes[3:]
        write(ax, x, y / 1.2, "\n".join([*shapes[:3], *more]), fontsize="x-small", va="top")
