"""Tables: aligned text for a terminal, HTML for a notebook; the drawing is rich's."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from fp8sim._support.page import wrap
from fp8sim._support.text import printable

if TYPE_CHECKING:
    import rich.table
    from rich.console import RenderableType

__all__ = ["Table"]

Columns: TypeAlias = Mapping[str, Callable[[Any], str]]

_WRAPS_ABOVE = 24  # characters: columns of short cells are never broken, columns of prose are
_NARROWEST = 16  # characters that a column of prose may be squeezed to


@dataclass(frozen=True)
class Table:
    """A table of text: columns whose header ends in ``>`` are aligned to the right.

    Examples
    --------
    >>> print(Table("Sizes", ["format", "bytes>"], [["bf16", "2"], ["e4m3", "1"]]).text())
    Sizes
    <BLANKLINE>
    format  bytes
    ─────────────
    bf16        2
    e4m3        1
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        """Let nothing in that a terminal would act on."""
        object.__setattr__(self, "title", printable(self.title))
        for name in ("headers", "notes"):
            object.__setattr__(self, name, [printable(text) for text in getattr(self, name)])
        object.__setattr__(self, "rows", [[printable(cell) for cell in row] for row in self.rows])

    @classmethod
    def of(cls, title: str, columns: Columns, entries: Iterable[Any], notes: Sequence[str] = ()) -> Table:
        """Return a table with a row for each entry; `columns` are header -> what to write of an entry."""
        return cls(title, list(columns), [[cell(x) for cell in columns.values()] for x in entries], notes)

    def renderables(self, width: int = 0) -> Iterator[RenderableType]:
        """Yield title, grids and notes for a rich console of `width` columns; text, never markup."""
        from rich.text import Text

        yield Text(self.title, style="bold")
        for columns in self._stacks(width):
            yield ""
            yield self._grid(columns)
        yield from [""] * bool(self.notes)
        yield from map(Text, self.notes)

    def text(self, width: int = 110) -> str:
        """Return title, table and notes as plain text of at most `width` columns."""
        from rich.console import Console

        out = io.StringIO()
        console = Console(file=out, width=width, color_system=None, legacy_windows=False, force_jupyter=False)
        for columns in self._stacks(width):
            console.print("", self._grid(columns), sep="\n")
        lines = [line.rstrip() for line in out.getvalue().rstrip().splitlines()]
        notes = [line for note in self.notes for line in wrap(note, width or len(note))]
        return "\n".join([self.title, *lines, *([""] if notes else []), *notes])

    def _narrowest(self, column: int) -> int:
        """Return the fewest characters a column takes: short cells and single words are never broken."""
        longest = (
            _NARROWEST if self._wraps(column) else max((len(row[column]) for row in self.rows), default=0)
        )
        return max(len(self.headers[column].rstrip(">")), longest)

    def _wraps(self, column: int) -> bool:
        """Whether a column is prose."""
        cells = [row[column] for row in self.rows]
        return any(len(cell) > _WRAPS_ABOVE for cell in cells) and any(" " in cell for cell in cells)

    def _stacks(self, width: int) -> list[list[int]]:
        """Cut the columns into grids that fit, each with the first column: no figure is ever cut."""
        stacks: list[list[int]] = [[0]]
        taken = [self._narrowest(index) for index in range(len(self.headers))]
        for index in range(1, len(taken)):
            here = sum(taken[i] + 2 for i in [*stacks[-1], index]) - 2
            if width and here > width and len(stacks[-1]) > 1:
                stacks.append([0])
            stacks[-1].append(index)
        return stacks

    def _grid(self, columns: list[int]) -> rich.table.Table:
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        grid = RichTable(
            box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", pad_edge=False, collapse_padding=True
        )
        for index in columns:
            header = self.headers[index]
            grid.add_column(
                Text(header.rstrip(">")),
                justify="right" if header.endswith(">") else "left",
                no_wrap=not self._wraps(index),
                overflow="fold",  # a long word goes on in the next line, where rich would cut it
            )
        for row in self.rows:
            grid.add_row(*(Text(row[index]) for index in columns))
        return grid

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        """Return the table as HTML, all text escaped."""
        escape = html.escape

        def cell(tag: str, text: str, header: str) -> str:
            side = "right" if header.endswith(">") else "left"
            return f'<{tag} style="text-align:{side};padding:0.15em 0.6em">{escape(text)}</{tag}>'

        head = "".join(cell("th", header.rstrip(">"), header) for header in self.headers)
        body = "".join(
            "<tr>"
            + "".join(cell("td", text, header) for text, header in zip(row, self.headers, strict=True))
            + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return (
            f"<table><caption>{escape(self.title)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"
        )
