"""Any function over a grid of its arguments, here or on a cluster: points, workers, a file to resume from."""

from __future__ import annotations

from fp8sim.experiments.sweeps.result import Pivot, Sweep
from fp8sim.experiments.sweeps.runs import sweep

__all__ = ["Pivot", "Sweep", "sweep"]
