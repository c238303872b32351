"""Tables in pages whose policy allows no style of a table's own."""

from __future__ import annotations

import html
import re

from fp8sim._support.tables import Table

__all__ = ["scrolled"]


def scrolled(table: Table) -> str:
    """Return a table that scrolls where it is wider than the screen, in the page's own style.

    Examples
    --------
    >>> scrolled(Table("A", ["x"], [])).count("style=")
    0
    """
    unstyled = re.sub(r' style="[^"]*"', "", table.html())
    name = html.escape(table.title)
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">{unstyled}</div>'
