"""What it takes to work out serving: `python benchmarks/emulator/bench_serving.py`.

The peers are pauses: 5 ms a configuration, 1 ms a point of a curve.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator

import numpy as np

import fp8sim
import harness
from fp8sim.models.deployment import deployment
from harness import Case, Options, Peer

MODELS = "llama-3.1-8b", "deepseek-v3", "deepseek-v4-flash"


def cases(options: Options) -> Iterator[Case]:
    """Yield one configuration of each model, nothing of it known before, and a curve of it."""
    side = 10 if options.smoke else 100
    for model in MODELS:
        fp8sim.models.get_model(model)  # read once
        yield Case(
            f"{model}, one configuration",
            functools.partial(configuration, model),
            pause(5e-3),
            1,
            "configurations",
        )
        curve = functools.partial(points, model, side)
        yield Case(f"{model}, {side**2:,} points of a curve", curve, pause(1e-3 * side**2), side**2, "points")


def pause(seconds: float) -> dict[str, Peer]:
    """Return a peer that does nothing for so long."""
    return {f"{seconds:g} s": Peer(lambda: lambda: time.sleep(seconds), goal=1, check=None)}


def configuration(model: str) -> np.ndarray:
    """Return every figure of one configuration."""
    deployment.cache_clear()
    data = fp8sim.serving_cost(model, device="b200", devices=8, batch=64, context=8192).to_dict()
    assert data["fits"]
    return np.array([data["decode_s"], data["time_to_first_token_s"], data["largest_batch"]])


def points(model: str, side: int) -> np.ndarray:
    """Return the times of many points, the last of them as it is on its own."""
    sizes = range(1, side + 1)
    cost = fp8sim.serving_cost(model, device="b200", devices=8, batch=side, context=side * 64)
    rows = cost.curve(batch=sizes, context=[64 * size for size in sizes])
    np.testing.assert_allclose(rows[-1]["decode_s"], cost.ours.decode_seconds, rtol=1e-12)
    return np.array([row["decode_s"] for row in rows])


if __name__ == "__main__":
    sys.exit(harness.main("serving", "Serving", cases))
