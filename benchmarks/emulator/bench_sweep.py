"""What a sweep takes beside its points, and what a second worker brings.

Run it by `python benchmarks/emulator/bench_sweep.py`.

The peer of points that take no time themselves is a pause of 0.3 ms for each; that of two workers is one.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import fp8sim
import harness
from harness import Case, Options, Peer

SPAWN = get_context("spawn")


def cheap(x: int, y: int) -> float:
    """Return at once."""
    return x * 1000.0 + y


def product(seed: int) -> float:
    """Return a figure of a product of 256 x 256 x 1024 under DeepSeek-V3's recipe."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((256, 1024), np.float32), rng.standard_normal((1024, 256), np.float32)
    return float(np.abs(fp8sim.matmul(a, b, "deepseek-v3")).max())


def cases(options: Options) -> Iterator[Case]:
    """Yield cheap points on every executor there is, and products on one worker and on two."""
    side, products = (10, 4) if options.smoke else (100, 200)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        allowed = {"0.3 ms a point": Peer(lambda: lambda: time.sleep(3e-4 * side**2), goal=1, check=None)}
        for name, executor in executors(stack).items():
            for file in (None, folder / "sweep.jsonl"):
                yield Case(
                    f"{side**2:,} points that take no time, {name}{', into a file' if file else ''}",
                    functools.partial(sweep_cheap, side, executor, file),
                    allowed,
                    side**2,
                    "points",
                )
        one, two = (stack.enter_context(ProcessPoolExecutor(count, SPAWN)) for count in (1, 2))
        seeds = {"seed": range(products)}
        yield Case(
            f"{products} products of 256 x 256 x 1024, deepseek-v3, 2 processes",
            lambda: values(fp8sim.sweep(product, seeds, executor=two)),
            {"1 process": Peer(lambda: lambda: values(fp8sim.sweep(product, seeds, executor=one)), goal=1.5)},
            products,
            "products",
        )


def executors(stack: ExitStack) -> dict[str, Executor | None]:
    """Return ways to run points, each of two workers; a cluster where there is Dask."""
    ways: dict[str, Executor | None] = {
        "here": None,
        "2 threads": stack.enter_context(ThreadPoolExecutor(2)),
        "2 processes": stack.enter_context(ProcessPoolExecutor(2, SPAWN)),
    }
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        return ways
    cluster = stack.enter_context(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0"))
    return {**ways, "2 workers of Dask": stack.enter_context(Client(cluster)).get_executor()}


def values(result: Any) -> np.ndarray:
    """Return the results of a sweep in the order of its grid."""
    return np.array([row["value"] for row in result.rows])


def sweep_cheap(side: int, executor: Executor | None, file: Path | None) -> np.ndarray:
    """Sweep points that take no time, into a new file if any, and check what comes out."""
    if file is not None:
        file.unlink(missing_ok=True)
    found = values(fp8sim.sweep(cheap, {"x": range(side), "y": range(side)}, executor=executor, out=file))
    np.testing.assert_array_equal(found, [cheap(x, y) for x in range(side) for y in range(side)])
    return found


if __name__ == "__main__":
    sys.exit(harness.main("sweep", "Sweeps", cases))
