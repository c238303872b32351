"""Write the verdict that README.md shows: `python docs/write_verdict.py` after a change to `claims`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import fp8sim

README = Path(__file__).parent.parent / "README.md"
MARKERS = "<!-- verdict begin -->", "<!-- verdict end -->"


def verdict() -> str:
    """Return the table of verdicts as `fp8sim claims` prints it, and how it was made."""
    result = fp8sim.claims(training=False)
    table = result.tables()[0]
    body = table.text(110).split("\n", 2)[2]  # the sentence stands above it
    made = f"fp8sim {fp8sim.__version__}, numpy {result.environment['numpy']}, seed {result.seed}"
    return (
        f"> {table.title}\n\n```text\n{body}\n```\n\n`fp8sim claims` wrote this ({made}, times modelled on "
        f"{result.device}); it goes on to say why, and where each published figure is from."
    )


def main() -> int:
    """Replace what stands between the markers."""
    page = README.read_text(encoding="utf-8")
    begin, end = (re.escape(marker) for marker in MARKERS)
    fresh = f"{MARKERS[0]}\n{verdict()}\n{MARKERS[1]}"
    README.write_text(re.sub(f"{begin}.*{end}", lambda _: fresh, page, flags=re.DOTALL), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
