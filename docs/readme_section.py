"""Sections of README files that a script writes: each stands between two markers."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def write_section(name: str, text: str, file: Path = README) -> None:
    """Replace what stands between the markers of a section."""
    begin, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    page = file.read_text(encoding="utf-8")
    found = f"{re.escape(begin)}.*{re.escape(end)}"
    fresh = re.sub(found, lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)
    file.write_text(fresh, encoding="utf-8")
