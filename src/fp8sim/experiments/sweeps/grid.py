"""What is swept: the points of a grid, in their order."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, TypeAlias

from fp8sim._support import checks, memory
from fp8sim._support.text import shown
from fp8sim.experiments.sweeps.identity import digest
from fp8sim.experiments.sweeps.values import Point, canonical, plain, to_json

__all__ = ["Grid", "GridLike", "name_of", "read_grid"]

GridLike: TypeAlias = "Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]]"

_PLAIN = (int, float, str, type(None))  # what a row says whole, True and False among them
_ROW = 1000  # bytes of a row in memory, about


@dataclass(frozen=True)
class Grid:
    """The points of a sweep."""

    data: Any  #: as it was given, in plain values
    points: tuple[Point, ...]  #: what the function gets
    rows: tuple[Point, ...]  #: the same in plain values

    def __len__(self) -> int:
        """Return how many points there are."""
        return len(self.points)

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments, in the order in which they are met."""
        return tuple(dict.fromkeys(name for point in self.rows for name in point))

    def header(self) -> dict[str, Any]:
        """Return what identifies the grid in a file; of what stands there by its name, a digest."""
        named = {id(x): x for point in self.points for x in point.values() if not isinstance(x, _PLAIN)}
        objects = {"objects": digest(list(named.values()), "this grid")} if named else {}
        return {"grid": self.data, **objects, "points": len(self)}


def read_grid(grid: GridLike, measure: Callable[..., Any]) -> Grid:
    """Return the points of a grid, or say why it is none for this function.

    Examples
    --------
    >>> read_grid({"base": [2, 3], "exp": range(2)}, pow).points
    ({'base': 2, 'exp': 0}, {'base': 2, 'exp': 1}, {'base': 3, 'exp': 0}, {'base': 3, 'exp': 1})
    >>> read_grid({"x": [2, 3]}, pow)
    Traceback (most recent call last):
    ValueError: unknown argument of builtins.pow 'x'; did you mean 'exp'?
    """
    if not callable(measure):
        raise TypeError(f"a sweep is of a function, got {shown(measure)}")
    if isinstance(grid, Mapping):
        count = math.prod(len(values) for values in grid.values() if isinstance(values, Sized))
        memory.require(_ROW * count, f"a sweep of {count} points")
        axes = {name: _axis(name, values) for name, values in grid.items()}
        data: Any = {name: [plain(value) for value in values] for name, values in axes.items()}
        points = tuple(dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
        rows = tuple(dict(zip(axes, values, strict=True)) for values in itertools.product(*data.values()))
    elif isinstance(grid, Iterable) and not isinstance(grid, str):
        points = tuple(map(_point, grid))
        rows = tuple({name: plain(value) for name, value in point.items()} for point in points)
        data = list(rows)
        _refuse_twice("the grid", [canonical(point) for point in points])
    else:
        raise TypeError(f"the grid must map arguments to lists, or be a list of points, got {shown(grid)}")
    if not any(points):
        raise ValueError("the grid is empty: name an argument and its values, such as {'k': [256, 1024]}")
    result = Grid(data, points, rows)
    _check_arguments(result, measure)
    return result


def _axis(name: object, values: Any) -> tuple[Any, ...]:
    """Return the values of an argument, no two alike."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of values, got {shown(values)}; write [{shown(values)}]")
    axis = tuple(_argument(value, name) for value in values)
    if not axis:
        raise ValueError(f"the grid is empty: {name} has no values")
    _refuse_twice(str(name), [to_json(plain(value)) for value in axis])
    return axis


def _point(point: Any) -> Point:
    if not isinstance(point, Mapping):
        raise TypeError(f"a point must map arguments to values, got {shown(point)}")
    return {name: _argument(value, name) for name, value in point.items()}


def _argument(value: Any, name: object) -> Any:
    """Return a value as the function gets it: numpy's scalars as Python's, what has a name as it is."""
    try:
        scalar = plain(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if isinstance(value, str):
        return str(value)
    return value if isinstance(scalar, str) else scalar


def _refuse_twice(what: str, keys: list[str]) -> None:
    if len(set(keys)) < len(keys):
        key = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{what} holds {key} twice; leave one out, or give each a name of its own")


def _check_arguments(grid: Grid, measure: Callable[..., Any]) -> None:
    """Refuse what the function does not take, and what it takes and is not given."""
    if bad := [name for name in grid.names if not isinstance(name, str)]:
        raise TypeError(f"arguments go by their names, got {shown(bad[0])}")
    if "error" in grid.names:
        raise ValueError("no argument can be called error, as a column of the rows is; take another name")
    try:
        parameters = inspect.signature(measure).parameters.values()
    except (TypeError, ValueError):  # a builtin that does not tell
        return
    if nameless := [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.name in grid.names]:
        raise ValueError(
            f"{name_of(measure)} takes {nameless[0]} by its position only, and a sweep passes it by name; "
            "define it without the /"
        )
    by_name = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in grid.names:
            if name not in by_name:
                raise ValueError(checks.unknown(f"argument of {name_of(measure)}", name, by_name or ["none"]))
    needed = {p.name for p in parameters if p.name in by_name and p.default is p.empty}
    for point in grid.points:
        if missing := sorted(needed - point.keys()):
            raise ValueError(f"{name_of(measure)} needs {', '.join(missing)}: add them to the grid")


def name_of(function: Any) -> str:
    """Return module and name of a function; of a partial one, what is fixed too, by its type at least.

    Examples
    --------
    >>> name_of(functools.partial(pow, exp=2, mod=[5]))
    'builtins.pow(exp=2, mod=list)'
    """
    if isinstance(function, functools.partial):
        values = [*map(_brief, function.args), *(f"{k}={_brief(v)}" for k, v in function.keywords.items())]
        return f"{name_of(function.func)}({', '.join(values)})"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _brief(value: Any) -> str:
    return shown(value) if isinstance(value, _PLAIN) else type(value).__name__
