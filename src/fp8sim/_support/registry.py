"""Named things: found by name, the nearest one suggested, shown as a table, open for more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from fp8sim._support import checks
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim._support.text import shown

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Result, dict[str, T], Generic[T]):
    """A dictionary of named entries of one kind; ``registry["mine"] = entry`` adds one.

    `what` is what messages call an entry, such as ``recipe``; `kind` its class, of which `find` returns
    an instance as it is. `columns` are those of its table: header -> what to write of an entry, aligned
    to the right under a header that ends in ``>``; `notes` are the lines below it.

    Examples
    --------
    >>> import fp8sim
    >>> fp8sim.RECIPES.find("BF16").name
    'bf16'
    >>> fp8sim.RECIPES.find("deepseek")
    Traceback (most recent call last):
    ValueError: unknown recipe 'deepseek'; did you mean 'deepseek-v4' or 'deepseek-v3' or 'deepseek-v3.1'?
    """

    def __init__(
        self,
        what: str,
        kind: type[T],
        entries: Iterable[Any],
        columns: Mapping[str, Callable[[T], Any]],
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__({entry.name: entry for entry in entries})
        self.what, self.kind, self.columns, self.notes = what, kind, columns, notes

    def __setitem__(self, name: str, entry: T) -> None:
        """Add an entry, which must be of the registry's kind."""
        if not isinstance(entry, self.kind):
            raise TypeError(f"a {self.what} is a {self.kind.__name__}, got {shown(entry)}")
        if not isinstance(name, str):
            raise TypeError(f"the name of a {self.what} must be text, got {shown(name)}")
        super().__setitem__(name, entry)

    def __reduce__(self) -> Any:
        """Pickle and copy as a plain dictionary of the entries; their table stays with the registry."""
        return dict, (dict(self),)

    def find(self, name: object, /) -> T:
        """Return an entry as it is, or the one of that name, upper and lower case alike.

        Parameters
        ----------
        name : str or an entry
            A key of the registry; or an object of its kind, which is returned.

        Returns
        -------
        entry
            Of the registry's kind.

        Raises
        ------
        ValueError
            If the name is not known; the message suggests the nearest.

        Examples
        --------
        >>> import fp8sim
        >>> fp8sim.TENSOR_CORES.find("Hopper-FP8").fraction_bits
        13
        """
        return name if isinstance(name, self.kind) else checks.lookup(name, self, self.what)

    def parts(self) -> list[Table]:
        """Return a table of the entries."""
        headers = [self.what, *self.columns]
        rows = [[name, *(str(cell(entry)) for cell in self.columns.values())] for name, entry in self.items()]
        title = f"{self.what}s".capitalize().replace("Studys", "Studies")
        return [Table(title, headers, rows, self.notes)]
