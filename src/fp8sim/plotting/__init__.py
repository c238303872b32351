"""Pictures of formats, arrays, sums, costs and training; each returns the matplotlib axes it drew in.

Each draws in the axes it is given as `ax`, or in those of a new figure; without matplotlib it raises
ModuleNotFoundError, which says what to install.
"""

from __future__ import annotations

from fp8sim.plotting.costs import cost_bars, flop_bars, roofline
from fp8sim.plotting.data import code_histogram, sqnr_against_scale
from fp8sim.plotting.formats import number_lines, rounding_error
from fp8sim.plotting.sums import error_against_k
from fp8sim.plotting.sweeps import sweep_curves
from fp8sim.plotting.training import training_curves

__all__ = [
    "code_histogram", "cost_bars", "error_against_k", "flop_bars", "number_lines", "roofline",
    "rounding_error", "sqnr_against_scale", "sweep_curves", "training_curves",
]  # fmt: skip
