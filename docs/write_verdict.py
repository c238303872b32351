"""Write the verdict that README.md shows and its picture: `python docs/write_verdict.py`."""

from __future__ import annotations

import sys
from pathlib import Path

from readme_section import README, write_section

import fp8sim
from fp8sim.experiments.claims import Claims
from fp8sim.report import verdict_svg

PICTURE = Path(__file__).parent / "verdict.svg"
SHOWS = (
    "Bars and diamonds: what FP8 leaves of BF16's bytes, operations and time, each with its verdict. "
    "`fp8sim claims` prints the same figures."
)


def verdict(result: Claims) -> str:
    """Return what `fp8sim claims` prints first, the picture, and how it was made."""
    made = f"fp8sim {fp8sim.__version__}, numpy {result.environment['numpy']}, seed {result.seed}"
    picture = PICTURE.relative_to(README.parent).as_posix()
    return (
        f"```text\n{result.parts()[0].text(80)}\n```\n\n![{SHOWS}]({picture})\n\n"
        f"`fp8sim claims` wrote this ({made}, times modelled on {result.device}). It goes on with the "
        f"{len(result.rows)} figures behind it: each with the rule that judges it, its reason and its "
        "sources, and beside what others published of the same where there is such a figure."
    )


def main() -> int:
    """Replace what stands between the markers, and the picture."""
    result = fp8sim.claims()
    write_section("verdict", verdict(result))
    PICTURE.write_text(verdict_svg(result.rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
