"""What a sweep gives: a row for each point, and ways to a table, a data frame, a file and a picture."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from fp8sim._support import checks
from fp8sim._support.files import written
from fp8sim._support.quantities import number_text
from fp8sim._support.results import Result, data_frame
from fp8sim._support.tables import Table
from fp8sim.experiments.sweeps.values import Scalar, plain, to_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Pivot", "Row", "Sweep"]

Row: TypeAlias = "dict[str, Scalar]"

_SHOWN = 20  # rows of a table; a data frame or a file has all


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Result):
    """The rows of a sweep; prints as a table and shows as one in a notebook.

    Parameters
    ----------
    measure : str
        Module and name of the function.
    arguments : tuple of str
        The columns that are arguments.
    rows : tuple of dict
        Arguments, results, and ``error``: None, or type and message.

    Examples
    --------
    >>> import fp8sim
    >>> result = fp8sim.sweep(pow, {"base": [0, 2], "exp": [1, -1]})
    >>> result
    builtins.pow at 4 points
    <BLANKLINE>
    base  exp  value
    ────────────────
       0    1      0
       0   -1      -
       2    1      2
       2   -1    0.5
    <BLANKLINE>
    1 point failed, the first: ZeroDivisionError: 0.0 cannot be raised to a negative power
    """

    measure: str
    arguments: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows of the points at which the function raised."""
        return tuple(row for row in self.rows if row["error"] is not None)

    @property
    def failures(self) -> list[str]:
        """What is to be said of failed points: nothing or a line."""
        count = len(self.failed)
        return [f"{_points(count)} failed, the first: {self.failed[0]['error']}"] if count else []

    @property
    def columns(self) -> list[str]:
        """What rows hold: arguments, then results, then the error."""
        names = dict.fromkeys(self.arguments) | dict.fromkeys(name for row in self.rows for name in row)
        return [*(name for name in names if name != "error"), "error"]

    def where(self, **columns: Scalar) -> Sweep:
        """Return the rows that have these values in these columns; ``error=None`` leaves failed points out.

        Equal numbers are one value unless the column holds the very value: 1 finds 1.0 where there is no 1.

        Raises
        ------
        ValueError
            If there is no such column.

        Examples
        --------
        >>> import fp8sim
        >>> fp8sim.sweep(pow, {"base": [2, 3], "exp": [1, 2]}).where(base=3).rows[1]["value"]
        9
        """
        rows = self.rows
        for name, value in columns.items():
            checks.one_of(name, self.columns, "column of this sweep")
            sought = plain(value)
            key = to_json(sought)
            same = tuple(row for row in rows if to_json(row.get(name)) == key)
            rows = same or tuple(row for row in rows if row.get(name) == sought)
        return replace(self, rows=rows)

    def values(self, name: str) -> list[Scalar]:
        """Return the values of an argument, in the order of the grid; of a result, as they are met."""
        return list({to_json(row.get(name)): row.get(name) for row in self.rows}.values())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"measure": self.measure, "arguments": list(self.arguments), "rows": list(self.rows)}

    def to_frame(self) -> Any:
        """Return the rows as a pandas data frame.

        Raises
        ------
        ModuleNotFoundError
            If pandas is not installed; the message says what to type.
        """
        return data_frame(self.rows, self.columns)

    def to_csv(self, path: str | Path) -> None:
        """Write the rows to a file, whole or not at all; what a row lacks and None are empty cells."""
        with written(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            table = csv.DictWriter(file, self.columns, lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows)

    def pivot(self, index: str, columns: str, values: str) -> Pivot:
        """Return a table of one result against two arguments: the mean of all points that share both.

        Parameters
        ----------
        index, columns : str
            Arguments, whose values become rows and columns.
        values : str
            A result, of numbers.

        Returns
        -------
        Pivot
            Rows and columns in the order of the grid; a cell without a number is left out of `to_dict`.

        Raises
        ------
        ValueError
            If there is no such column, or it holds text, or arguments are apart but equal, as 1 and True.

        Examples
        --------
        >>> import fp8sim
        >>> fp8sim.sweep(pow, {"base": [2, 3], "exp": [1, 2]}).pivot("base", "exp", "value")
        value by base and exp
        <BLANKLINE>
        base  1  2
        ──────────
        2     2  4
        3     3  9
        """
        cells: dict[tuple[Scalar, Scalar], list[float]] = {}
        for row, x in self.numbers(values, index, columns):
            cells.setdefault((row.get(index), row.get(columns)), []).append(x)
        several = [name for name in self.arguments if len(self.values(name)) > 1]
        others = [name for name in several if name not in (index, columns)]
        shared = any(len(xs) > 1 for xs in cells.values())
        note = f"mean over {', '.join(others) or 'points that share both'}" if shared else ""
        return Pivot(index, columns, values, {key: sum(xs) / len(xs) for key, xs in cells.items()}, note)

    def numbers(self, values: str, *arguments: str) -> list[tuple[Row, float]]:
        """Return the rows that hold a number as a result, with it, or say why there is none such.

        Raises
        ------
        ValueError
            If a name is no column, or the result is no number.
        """
        for name in arguments:
            checks.one_of(name, self.arguments, "argument of this sweep")
            met: dict[Scalar, Scalar] = {}
            for value in self.values(name):
                if value in met:
                    raise ValueError(
                        f"{name} holds {met[value]} and {value}, which share a place as equal numbers do; "
                        f"take one of them by where({name}=...)"
                    )
                met[value] = value
        results = [name for name in self.columns[:-1] if name not in self.arguments]
        if not results:
            raise ValueError("; ".join(self.failures) or "this sweep has no rows")
        checks.one_of(values, results, "result of this sweep")
        rows = [row for row in self.rows if row.get(values) is not None]
        for row in rows:
            if isinstance(row[values], str):
                raise ValueError(f"{values} holds {row[values]!r}, and this takes a column of numbers")
        try:
            return [(row, float(row[values])) for row in rows]  # type: ignore[arg-type]  # checked
        except OverflowError:
            raise ValueError(f"{values} holds a whole number that is larger than any float") from None

    def plot(self, x: str, y: str, *, by: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw a result against an argument, a line for each value of another: `plotting.sweep_curves`."""
        # pictures are a floor above, and know what they draw; this name is for whoever holds a sweep
        plotting = importlib.import_module("fp8sim.plotting")
        axes: Axes = plotting.sweep_curves(self, x, y, by=by, ax=ax)
        return axes

    def parts(self) -> list[Table]:
        """Return a table of the first rows."""
        *columns, _ = self.columns
        kept = self.rows[:_SHOWN]
        headers = [f"{name}>" if _is_number(kept, name) else name for name in columns]
        cells = [[_cell(row.get(name)) for name in columns] for row in kept]
        more = len(self.rows) - len(kept)
        notes = [f"and {more} more rows"] * bool(more)
        notes += self.failures
        return [Table(f"{self.measure} at {_points(len(self.rows))}", headers, cells, notes)]


@dataclass(frozen=True, eq=False, repr=False)
class Pivot(Result):
    """One result of a sweep against two arguments."""

    index: str
    columns: str
    values: str
    cells: dict[tuple[Scalar, Scalar], float]  #: (value of `index`, value of `columns`) -> mean
    note: str = ""  #: what is averaged over

    def to_dict(self) -> dict[Scalar, dict[Scalar, float]]:
        """Return index -> column -> value, for ``pandas.DataFrame.from_dict(..., orient="index")``."""
        rows: dict[Scalar, dict[Scalar, float]] = {}
        for (row, column), value in self.cells.items():
            rows.setdefault(row, {})[column] = value
        return rows

    def parts(self) -> list[Table]:
        """Return it as a table."""
        columns = dict.fromkeys(column for _, column in self.cells)
        headers = [self.index, *(f"{_cell(column, 'None')}>" for column in columns)]
        rows = [
            [_cell(row, "None"), *(_cell(values.get(column)) for column in columns)]
            for row, values in self.to_dict().items()
        ]
        title = f"{self.values} by {self.index} and {self.columns}"
        return [Table(title, headers, rows, [self.note] * bool(self.note))]


def _is_number(rows: Iterable[Row], name: str) -> bool:
    return all(not isinstance(row.get(name), (str, bool)) for row in rows)


def _cell(value: Scalar, nothing: str = "-") -> str:
    if isinstance(value, float):
        return number_text(value, 4)
    return nothing if value is None else str(value)


def _points(count: int) -> str:
    return f"{count} point{'s' * (count != 1)}"
