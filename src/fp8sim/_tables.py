"""Results as tables: aligned text for a terminal, HTML for a notebook; the drawing is rich's."""

from __future__ import annotations

import abc
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import rich.table

__all__ = ["Table", "Tabled", "bytes_text", "count_text", "percent_text", "plain_data", "time_text"]

_WRAPS_ABOVE = 24  # characters: columns of short cells are never broken, columns of prose are


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

    def rich(self) -> rich.table.Table:
        """Return the table for a rich console; cells are plain text, not markup."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", pad_edge=False, collapse_padding=True
        )
        for index, header in enumerate(self.headers):
            longest = max((len(row[index]) for row in self.rows), default=0)
            table.add_column(
                Text(header.rstrip(">")),
                justify="right" if header.endswith(">") else "left",
                no_wrap=longest <= _WRAPS_ABOVE,
            )
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        return table

    def text(self, width: int = 110) -> str:
        """Return title, table and notes as plain text of at most `width` columns."""
        from rich.console import Console

        out = io.StringIO()
        console = Console(file=out, width=width, color_system=None, legacy_windows=False, force_jupyter=False)
        console.print(self.rich())
        lines = [line.rstrip() for line in out.getvalue().rstrip().splitlines()]
        return "\n".join([self.title, "", *lines, *([""] if self.notes else []), *self.notes])

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


class Tabled(abc.ABC):
    """A result made of tables: prints as text, and shows as HTML in a notebook."""

    WIDTH: ClassVar[int] = 110  #: most columns of the text

    @abc.abstractmethod
    def tables(self) -> list[Table]:
        """Return the tables."""

    def __str__(self) -> str:
        """Return the tables as text."""
        return "\n\n".join(table.text(self.WIDTH) for table in self.tables())

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self.tables())


def bytes_text(count: float) -> str:
    """Write bytes in a decimal unit, as in ``1.05 MB``.

    Examples
    --------
    >>> bytes_text(1_048_576), bytes_text(673.15e9), bytes_text(96)
    ('1.05 MB', '673.15 GB', '96 B')
    """
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f} B"


def time_text(seconds: float) -> str:
    """Write a time in a fitting unit, as in ``18.3 us``.

    Examples
    --------
    >>> time_text(1.834e-5), time_text(19.926)
    ('18.3 us', '19.9 s')
    """
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def percent_text(share: float) -> str:
    """Write a share in percent with three significant digits; 0 is ``0``.

    Examples
    --------
    >>> percent_text(0.03711), percent_text(0.0), percent_text(2.5e-6)
    ('3.71 %', '0', '0.00025 %')
    """
    return "0" if share == 0 else f"{100 * share:.3g} %"


def count_text(count: float) -> str:
    """Write a number with a decimal prefix, as in ``671.03 G``.

    Examples
    --------
    >>> count_text(671026419200), count_text(512)
    ('671.03 G', '512')
    """
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f}"


def plain_data(data: Any) -> Any:
    """Replace what JSON cannot say: NaN and infinity become None, keys become text.

    Examples
    --------
    >>> plain_data({"error": float("nan"), 4: (1.5, "x")})
    {'error': None, '4': [1.5, 'x']}
    """
    if isinstance(data, dict):
        return {str(key): plain_data(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain_data(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
