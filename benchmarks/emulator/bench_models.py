"""What it takes to describe a model: `python benchmarks/emulator/bench_models.py`.

The peer of a configuration is a pause of 5 ms, the most that one may take.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import harness
from fp8sim.models.parsing import describe
from harness import Case, Options, Peer

FOLDER = Path(__file__).parents[2] / "tests" / "data" / "configs"


def cases(options: Options) -> Iterator[Case]:
    """Yield published files, each from its keys to a description."""
    allowed = {"5 ms": Peer(lambda: lambda: time.sleep(5e-3), goal=1, check=None)}
    files = sorted(FOLDER.glob("*.json"))
    for file in files[:2] if options.smoke else files:
        config = json.loads(file.read_text(encoding="utf-8"))
        yield Case(
            file.stem.replace("--", "/"), functools.partial(describe, config), allowed, 1, "configurations"
        )


if __name__ == "__main__":
    sys.exit(harness.main("models", "Models", cases))
