"""Write the verdict that README.md shows, its picture and its table: `python docs/write_verdict.py`."""

from __future__ import annotations

import sys
from pathlib import Path

from readme_section import README, write_section

import fp8sim
from fp8sim.experiments import data
from fp8sim.experiments.claims import Claims
from fp8sim.report import verdict_svg

PICTURE = Path(__file__).parent / "verdict.svg"
SHOWS = (
    "Bars: what FP8 leaves of BF16's bytes, time and operations, and how much faster it is, each with its "
    "verdict. The table below has the same figures."
)


def measured() -> Claims:
    """Return what `fp8sim claims` measures where neither PyTorch nor the sample model is installed."""
    data.sample_model_path = lambda: None
    return fp8sim.claims(training=False)


def verdict(result: Claims) -> str:
    """Return the sentence, the picture, the table as `fp8sim claims` prints it, and how it was made."""
    table = result.parts()[0]
    body = table.text(110).split("\n", 2)[2]  # the sentence stands above it
    made = f"fp8sim {fp8sim.__version__}, numpy {result.environment['numpy']}, seed {result.seed}"
    picture = PICTURE.relative_to(README.parent).as_posix()
    return (
        f"> {table.title}\n\n![{SHOWS}]({picture})\n\n```text\n{body}\n```\n\n"
        f"`fp8sim claims` wrote this ({made}, times modelled on {result.device}); it goes on to say why, and "
        "where each published figure is from."
    )


def main() -> int:
    """Replace what stands between the markers, and the picture."""
    result = measured()
    write_section("verdict", verdict(result))
    PICTURE.write_text(verdict_svg(result.rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
