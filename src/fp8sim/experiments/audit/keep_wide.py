"""What to keep wide: one recipe for each layer, the cheapest under an error budget, or the reverse.

This is a multiple-choice knapsack. A multiplier turns the budget into a price: with it each layer is decided
for itself, which bounds from below what any choice costs (Lagrange), and a choice within the budget bounds it
from above. Where the two do not meet, what is left between them is searched by dynamic programming. All sums
are exact: errors are counted in units of 2^-k.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

from fp8sim._support import checks
from fp8sim._support.quantities import bytes_text, percent_text
from fp8sim._support.results import Part, Result
from fp8sim._support.tables import Table
from fp8sim._support.text import shown

__all__ = ["METHODS", "Choice", "Option", "Point", "curve", "keep_wide"]

#: method -> what it does.
METHODS = {
    "auto": "exact where that takes few steps, else the best that was found and its gap",
    "exact": "exact, however long it takes",
    "greedy": "by the gain of each step alone, with its gap",
}
_STEPS = 100_000  # states that are looked at where it need not be exact


class Option(NamedTuple):
    """One way to store one layer."""

    layer: str
    recipe: str
    nbytes: int
    error: float  #: what it adds to the error of the whole, such as a squared error


class Point(NamedTuple):
    """One point of the curve of size against error, and the step that led to it."""

    nbytes: int
    error: float
    layer: str = ""  #: that was made wider; "" at the start
    recipe: str = ""  #: which it has from here on


@dataclass(frozen=True, repr=False)
class Choice(Result):
    """A recipe for each layer.

    Attributes
    ----------
    recipes : dict
        Layer -> recipe.
    keep : tuple of str
        The layers that are kept wide, in the recipe that was asked for as such.
    nbytes : int
        Bytes of all layers.
    error : float
        Sum of their errors.
    gap : float
        How much lower at most the best choice could be in what was minimised, bytes or error: 0 if exact.
    minimised : str
        ``nbytes`` or ``error``.
    """

    recipes: Mapping[str, str]
    keep: tuple[str, ...]
    nbytes: int
    error: float
    gap: float
    minimised: str

    @property
    def exact(self) -> bool:
        """Whether no choice is better."""
        return self.gap == 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)

    def parts(self) -> Sequence[Part]:
        """Return what is shown: layers by recipe, totals and the gap."""
        names: dict[str, list[str]] = {}
        for layer, recipe in self.recipes.items():
            names.setdefault(recipe, []).append(layer)
        rows = [
            [recipe, str(len(layers)), ", ".join(layers[:6]) + ", ..." * (len(layers) > 6)]
            for recipe, layers in sorted(names.items())
        ]
        least = self.nbytes if self.minimised == "nbytes" else self.error
        gap = (
            "no choice is better"
            if self.exact
            else f"at most {percent_text(self.gap / least)} above the best"
        )
        what = "bytes" if self.minimised == "nbytes" else "error"
        title = f"{bytes_text(self.nbytes)}, error {self.error:.6g}; {what} {gap}"
        return [Table(title, ["recipe", "layers>", "which"], rows)]


def keep_wide(
    rows: Iterable[Option | tuple[str, str, int, float]],
    *,
    error: float | None = None,
    nbytes: float | None = None,
    wide: str = "bf16",
    method: str = "auto",
) -> Choice:
    """Choose a recipe for each layer: the fewest bytes for an error, or the least error for a size.

    Parameters
    ----------
    rows : list of Option
        A layer, a recipe, its bytes and its error, for each recipe that a layer may have.
    error, nbytes : float
        The budget: one of the two.
    wide : str
        The recipe whose layers `Choice.keep` names.
    method : {"auto", "exact", "greedy"}
        ``auto`` is exact where that takes few steps, and tells its gap where it is not.

    Raises
    ------
    ValueError
        If no choice is within the budget, a layer has a recipe twice, or there is no layer.
    TypeError
        If an argument is of another kind.

    Examples
    --------
    >>> rows = [("q", "bf16", 200, 0.0), ("q", "fp8", 100, 0.5)]
    >>> rows += [("k", "bf16", 200, 0.0), ("k", "fp8", 100, 3.0)]
    >>> choice = keep_wide(rows, error=1.0)
    >>> choice.keep, choice.nbytes, choice.error, choice.gap
    (('k',), 300, 0.5, 0.0)
    >>> keep_wide(rows, nbytes=250)
    200 B, error 3.5; error no choice is better
    <BLANKLINE>
    recipe  layers  which
    ─────────────────────
    fp8          2  q, k
    """
    checks.one_of(method, METHODS, "method")
    layers = _layers(rows)
    if (error is None) == (nbytes is None):
        raise ValueError("give one budget, error= or nbytes=")
    unit = _unit(layers)
    by_size = error is None
    budget = checks.number(nbytes if by_size else error, "nbytes" if by_size else "error")
    if not math.isfinite(budget) or budget < 0:
        raise ValueError(f"a budget must be finite and not negative, got {shown(budget)}")
    options = [[_weighed(one, unit, by_size) for one in layer] for layer in layers.values()]
    most = math.floor(Fraction(budget) * (1 if by_size else unit))
    picked, gap = _solved(options, most, method)
    if picked is None:
        least = sum(min(weight for _, weight in layer) for layer in options)
        text = bytes_text(least) if by_size else f"an error of {least / unit:.6g}"
        raise ValueError(f"no choice is within the budget: the least there can be is {text}")
    chosen = [layer[index] for layer, index in zip(layers.values(), picked, strict=True)]
    return Choice(
        {one.layer: one.recipe for one in chosen},
        tuple(one.layer for one in chosen if one.recipe == wide),
        sum(one.nbytes for one in chosen),
        float(sum(Fraction(one.error) for one in chosen)),
        float(gap / unit) if by_size else float(math.floor(gap)),
        "error" if by_size else "nbytes",
    )


def curve(rows: Iterable[Option | tuple[str, str, int, float]]) -> tuple[Point, ...]:
    """Return the curve of size against error, from the smallest of all choices to the most exact.

    Each step makes the layer wider that gains most for its bytes, so that each point is the best choice of
    its size, and of its error: the corners of the curve. What is between two of them is `keep_wide`'s.

    Examples
    --------
    >>> rows = [("q", "bf16", 200, 0.0), ("q", "fp8", 100, 0.5)]
    >>> rows += [("k", "bf16", 200, 0.0), ("k", "fp8", 100, 3.0)]
    >>> for point in curve(rows):
    ...     print(point.nbytes, point.error, point.layer or "-")
    200 3.5 -
    300 0.5 k
    400 0.0 q
    """
    layers = _layers(rows)
    unit = _unit(layers)
    names = list(layers)
    options = [[_weighed(one, unit, True) for one in layer] for layer in layers.values()]
    start, steps = _steps(options)
    size = sum(layer[index][1] for layer, index in zip(options, start, strict=True))
    cost = sum(layer[index][0] for layer, index in zip(options, start, strict=True))
    points = [Point(size, cost / unit)]
    for step in steps:
        size, cost = size + step.weight, cost - step.gain
        recipe = layers[names[step.layer]][step.option].recipe
        points.append(Point(size, cost / unit, names[step.layer], recipe))
    return tuple(points)


# --- what was given -----------------------------------------------------------------------------------


def _layers(rows: Iterable[Option | tuple[str, str, int, float]]) -> dict[str, list[Option]]:
    """Return the options of each layer, checked."""
    layers: dict[str, list[Option]] = {}
    for row in rows:
        if not isinstance(row, (tuple, list)) or len(row) != 4:
            raise TypeError(f"a row must be (layer, recipe, nbytes, error), got {shown(row)}")
        layer, recipe, size, error = row
        checks.of_kind(layer, str, "layer")
        checks.of_kind(recipe, str, "recipe")
        size = int(checks.within(checks.whole_number(size, f"{layer}: nbytes"), f"{layer}: nbytes", 0))
        error = float(checks.number(error, f"{layer}: error"))
        if not math.isfinite(error) or error < 0:
            raise ValueError(f"{layer}: error must be finite and not negative, got {shown(error)}")
        there = layers.setdefault(layer, [])
        if any(one.recipe == recipe for one in there):
            raise ValueError(f"{layer} has the recipe {recipe!r} twice; leave one of them out")
        there.append(Option(layer, recipe, size, error))
    if not layers:
        raise ValueError("there are no layers to choose for")
    return layers


def _unit(layers: Mapping[str, Sequence[Option]]) -> int:
    """Return how many units make an error of 1, so that every error is a whole number of them."""
    return max(Fraction(one.error).denominator for layer in layers.values() for one in layer)


def _weighed(option: Option, unit: int, by_size: bool) -> tuple[int, int]:
    """Return what is minimised of an option, and what the budget counts."""
    error = int(Fraction(option.error) * unit)
    return (error, option.nbytes) if by_size else (option.nbytes, error)


# --- solving: options are (cost, weight), whole numbers -----------------------------------------------

Options: TypeAlias = Sequence[Sequence[tuple[int, int]]]
_State: TypeAlias = "tuple[int, int, int, Any]"  # weight, cost, penalty, and what was picked, the last first


class _Step(NamedTuple):
    """From one option of a layer to the next on its lower hull: more weight, less cost."""

    layer: int
    option: int
    weight: int
    gain: int


def _steps(options: Options) -> tuple[list[int], list[_Step]]:
    """Return the lightest options, and steps from them, the most gain for its weight first."""
    start, steps = [], []
    for at, layer in enumerate(options):
        hull: list[int] = []
        for index in sorted(range(len(layer)), key=lambda i: (layer[i][1], layer[i][0])):
            cost, weight = layer[index]
            if hull and cost >= layer[hull[-1]][0]:
                continue
            while len(hull) > 1:
                (c0, w0), (c1, w1) = layer[hull[-2]], layer[hull[-1]]
                if (c0 - c1) * (weight - w1) > (c1 - cost) * (w1 - w0):
                    break
                hull.pop()
            hull.append(index)
        start.append(hull[0])
        pairs = itertools.pairwise(hull)
        steps += [_Step(at, j, layer[j][1] - layer[i][1], layer[i][0] - layer[j][0]) for i, j in pairs]
    return start, sorted(steps, key=lambda step: Fraction(-step.gain, step.weight))


def _solved(options: Options, most: int, method: str) -> tuple[list[int] | None, Fraction]:
    """Return the option of each layer and what the best choice may cost less; None if none is within."""
    picked, steps = _steps(options)
    room = most - sum(layer[i][1] for layer, i in zip(options, picked, strict=True))
    if room < 0:
        return None, Fraction(0)
    price = Fraction(0)  # of weight: that of the first step that there is no room for
    left: set[int] = set()  # layers whose steps there was no room for
    for step in steps:
        if step.layer in left:
            continue
        if step.weight <= room:
            picked[step.layer] = step.option
            room -= step.weight
        else:
            left.add(step.layer)
            price = price or Fraction(step.gain, step.weight)
    cost = sum(layer[i][0] for layer, i in zip(options, picked, strict=True))
    p, q = price.numerator, price.denominator
    penalties = []
    bound = -p * most  # of q times the cost
    for layer in options:
        priced = [q * c + p * w for c, w in layer]
        bound += min(priced)
        penalties.append([value - min(priced) for value in priced])
    if method != "greedy":
        limit = None if method == "exact" else _STEPS
        better, done = _searched(options, penalties, most, (q * cost - bound, cost), limit)
        if better is not None:
            picked, cost = better, sum(layer[i][0] for layer, i in zip(options, better, strict=True))
        if done:
            return picked, Fraction(0)
    least = -(-bound // q)  # costs are whole
    return picked, Fraction(max(0, cost - least))


def _searched(
    options: Options, penalties: Sequence[Sequence[int]], most: int, best: tuple[int, int], limit: int | None
) -> tuple[list[int] | None, bool]:
    """Return a choice that costs less than the best known, if there is one, and whether all were looked at.

    Options that cost so much more than the bound that no better choice has them are left out, and so are
    partial choices; of two of these the one that weighs and costs more is as well.
    """
    slack, known = best
    open_ones, base, weight = [], [0] * len(options), 0
    for at, (layer, costs) in enumerate(zip(options, penalties, strict=True)):
        allowed = [i for i in range(len(layer)) if costs[i] < slack]
        if not allowed:
            return None, True  # nothing is better than what is known
        base[at] = allowed[0]
        if len(allowed) > 1:
            open_ones.append((min(sorted(costs[i] for i in allowed)[1:]), at, allowed))
        else:
            weight += layer[allowed[0]][1]
    # the layers whose second choice costs most first: fewer partial choices remain for longer
    order = [(at, allowed) for _, at, allowed in sorted(open_ones, reverse=True)]
    lightest = [min(options[at][i][1] for i in allowed) for at, allowed in order]
    ahead = sum(lightest)
    states: list[_State] = [(weight, 0, 0, ())]
    looked = 0
    for (at, allowed), light in zip(order, lightest, strict=True):
        ahead -= light
        layer, extra = options[at], penalties[at]
        made: list[_State] = []
        for w, c, p, path in states:
            for i in allowed:
                if p + extra[i] < slack and w + layer[i][1] + ahead <= most:
                    made.append((w + layer[i][1], c + layer[i][0], p + extra[i], (i, path)))
        looked += len(made)
        if limit is not None and looked > limit:
            return None, False
        made.sort(key=lambda one: one[:2])
        states = []
        for one in made:
            if not states or one[1] < states[-1][1]:
                states.append(one)
    if not states:
        return None, True
    *_, path = min(states, key=lambda one: one[1])
    picked = list(base)
    for at, _ in reversed(order):
        picked[at], path = path
    better = sum(layer[i][0] for layer, i in zip(options, picked, strict=True)) < known
    return picked if better else None, True
