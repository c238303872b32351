"""What the tests sweep: in a module of its own, since other processes must find it by its name."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fp8sim
from fp8sim._support.threads import get_num_threads


def cheap(x: int, y: int = 0) -> dict[str, Any]:
    """Return results of every kind; raise at some points."""
    if x % 7 == 5:
        raise ValueError(f"no {x}\nhere")
    odd = {"inverse": math.inf if x == 0 else 1 / x, "root": math.sqrt(x) if x < 20 else math.nan}
    return {**odd, "text": f"é{x}", "even": x % 2 == 0, "nothing": None, "half": np.float32(x) / 2 + y}


def slow(x: int) -> float:
    """Return after a hundredth of a second."""
    time.sleep(0.01)
    return x / 3


def product(recipe: Any, seed: int) -> float:
    """Return a sum over a product."""
    a, b = (
        np.random.default_rng(seed).standard_normal(shape, np.float32) for shape in ((32, 256), (256, 32))
    )
    return float(fp8sim.matmul(a, b, recipe).sum(dtype=np.float64))


def threads(x: int) -> dict[str, int]:
    """Return how many threads each library may take here."""
    from threadpoolctl import threadpool_info

    torch = sys.modules.get("torch")
    return {
        "fp8sim": get_num_threads(),
        "blas": max(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"),
        "torch": torch.get_num_threads() if torch else 1,
        "process": os.getpid(),
    }


def fatal(x: int, marks: str) -> int:
    """Kill the worker at one point, the first time that it is come to."""
    mark = Path(marks, str(x))
    if x == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def deadly(x: int) -> int:
    """Kill the worker at one point, always."""
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


class Unsaid(Exception):
    """An error whose message is another one."""

    def __str__(self) -> str:
        """Raise."""
        raise RuntimeError


def ends(x: int) -> int:
    """Do at some points what would end a program."""
    if x == 1:
        sys.exit(5)
    if x == 2:
        raise GeneratorExit
    if x == 3:
        raise Unsaid
    return x


def main() -> None:
    """Sweep in a process of its own, which a test kills: python sweep_measures.py FILE EXECUTOR [COUNT]."""
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from contextlib import nullcontext
    from multiprocessing import get_context

    from fp8sim.cli.workers import _begin  # so that no worker is left when this is killed

    file, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    pools = {
        "none": nullcontext,
        "threads": lambda: ThreadPoolExecutor(3),
        "processes": lambda: ProcessPoolExecutor(2, get_context("spawn"), initializer=_begin),
        "forks": lambda: ProcessPoolExecutor(2, get_context("fork"), initializer=_begin),
    }
    import sweep_measures  # not of __main__, so that the name in the file is one

    with pools[kind]() as executor:
        fp8sim.sweep(sweep_measures.slow, {"x": range(count)}, executor=executor, out=file)


if __name__ == "__main__":
    main()
