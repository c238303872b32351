"""The import of fp8sim against that of what it stands on: `python benchmarks/emulator/bench_import.py`."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator

import harness
from harness import Case, Options, Peer


def cases(_: Options) -> Iterator[Case]:
    """Yield the imports, each in a fresh interpreter, whose start every peer pays too."""
    below = "import numpy, ml_dtypes"
    for code, goal in (("import fp8sim", 1 / 1.5), ("from fp8sim import matmul", None)):
        peers = {below: peer(below, goal), "an empty program": peer("")}
        yield Case(code, functools.partial(run, code), peers, work=1, unit="imports")


def peer(code: str, goal: float | None = None) -> Peer:
    """Return another program; what a program answers is that it ran."""
    return Peer(lambda: lambda: run(code), goal, check=None)


def run(code: str) -> None:
    """Run a program that has nothing to say; anything else is an error."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode or done.stdout or done.stderr:
        raise AssertionError(f"{code!r} exits with {done.returncode} and writes {done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(harness.main("import", "Import", cases))
