"""What the papers share: a figure beside the published one, their table, and the options of a script.

A script measures rows and hands the function that does to `main`:

    from paper import Published, Row, main

    def measure(quick: bool) -> list[Row]:
        published = Published(448, "arXiv 2209.05433, table 1")
        return [Row("largest E4M3 value", fp8sim.get_format("e4m3").max, published)]

    if __name__ == "__main__":
        main("Formats of Micikevicius et al. 2022", measure)

`python benchmarks/papers/NAME.py` prints a table; `--quick` measures less, `--json` prints the rows as
JSON instead, `--csv FILE` writes them to a file too. Bad options and names of files get one line and status 2
before any work, as in the scripts of fp16_vs_fp8: the frame is theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

sys.path.append(str(Path(__file__).parents[1] / "fp16_vs_fp8"))  # what frames the scripts there, frames these

import common
from fp8sim._support.published import Figure
from fp8sim._support.tables import Table

__all__ = ["NONE", "SEED", "Published", "Row", "main", "table"]

SEED = 0  #: of everything that is drawn
NONE = "none published"


class Published(NamedTuple):
    """A figure that others published, and where: paper, section or table."""

    value: float
    source: str


@dataclass(frozen=True)
class Row:
    """A figure of ours, and the published one where there is one; both in `unit`."""

    what: str
    ours: float
    published: Published | Figure | None = None
    unit: str = ""
    digits: int = 4  #: that the table shows

    @property
    def ratio(self) -> float | None:
        """Ours over the published figure: 1 where they are equal, None where that cannot be said."""
        if self.published is None:
            return None
        if self.ours == self.published.value:
            return 1.0
        return self.ours / self.published.value if self.published.value else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what is not published is None."""
        value, source = (self.published.value, self.published.source) if self.published else (None, NONE)
        return {
            "figure": self.what,
            "published": value,
            "ours": self.ours,
            "unit": self.unit,
            "ratio": self.ratio,
            "source": source,
        }


def table(title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> Table:
    """Return a table of rows; their sources stand below it by number."""
    sources = list(dict.fromkeys(row.published.source for row in rows if row.published))

    def text(value: float, row: Row) -> str:
        return f"{value:.{row.digits}g} {row.unit}".rstrip()

    columns: dict[str, Callable[[Row], str]] = {
        "figure": lambda row: row.what,
        "published>": lambda row: text(row.published.value, row) if row.published else NONE,
        "ours>": lambda row: text(row.ours, row),
        "ratio>": lambda row: "-" if row.ratio is None else f"{row.ratio:.3f}",
        "source>": lambda row: f"[{sources.index(row.published.source) + 1}]" if row.published else "-",
    }
    numbered = [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
    return Table.of(title, columns, rows, [*numbered, *notes])


def main(
    title: str,
    measure: Callable[[bool], list[Row]],
    notes: Sequence[str] | Callable[[list[Row]], Sequence[str]] = (),
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Measure the rows, print and write what the command line asks for, and exit with its status.

    `notes` may be made of the rows.
    """
    found: list[Row] = []

    def rows(options: common.Options) -> list[common.Row]:
        found[:] = measure(options.quick)
        options.notes += notes(found) if callable(notes) else notes
        return [row.to_dict() for row in found]

    name = Path(measure.__code__.co_filename).stem
    drawn = {"seeds": 1} if "SEED" in measure.__globals__ else {}  # who draws has imported it
    script = common.Script(name, title, rows, lambda *_: [table(title, found)], drawn, {}, shared={})
    sys.exit(common.main(script, argv))
