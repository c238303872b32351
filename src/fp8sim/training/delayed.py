"""Delayed scaling: scales that follow from the largest magnitudes of past steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32
from fp8sim.formats import FloatFormat
from fp8sim.quantization import Scales
from fp8sim.reference.scales import pick_multipliers

__all__ = ["DelayedScales", "DelayedScaling"]


@dataclass(frozen=True)
class DelayedScaling:
    """Scales from the past: per tensor, the largest amax of the last steps, not of this one.

    TransformerEngine's ``DelayedScaling``: before a first amax is known the multiplier is 1; what a
    scale did not foresee saturates (common/recipe/delayed_scaling.cu).

    Examples
    --------
    >>> DelayedScaling()
    DelayedScaling(history=1024, margin=0)
    """

    history: int = 1024  #: steps that are remembered
    margin: int = 0  #: amax maps to the largest finite value over ``2**margin``

    def __post_init__(self) -> None:
        """Check the fields."""
        checks.fields(self, history=(1, 2**24), margin=(-128, 128))


class DelayedScales:
    """The amax histories of one layer under delayed scaling, and the scales that follow from them.

    Parameters
    ----------
    options : DelayedScaling
        Length of the history and margin.

    Examples
    --------
    >>> import fp8sim
    >>> scales = DelayedScales(DelayedScaling(history=2))
    >>> e4m3 = fp8sim.get_format("e4m3")
    >>> float(scales.multiplier("x", e4m3))
    1.0
    >>> scales.push("x", 7.0)
    >>> float(scales.multiplier("x", e4m3))
    64.0
    """

    TENSORS = ("x", "w", "dy")

    def __init__(self, options: DelayedScaling) -> None:
        self.options = options
        self.history: F32 = np.zeros((len(self.TENSORS), options.history), np.float32)  #: the newest first

    def multiplier(self, tensor: str, fmt: FloatFormat) -> np.float32:
        """Return what to multiply a tensor by before the cast; 1 before anything is known."""
        amax = self.history[self.TENSORS.index(tensor)].max()
        return np.float32(pick_multipliers(amax, fmt.max * 2.0**-self.options.margin))

    def scales(self, tensor: str, fmt: FloatFormat) -> Scales:
        """Return the scales of a tensor: elements are multiplied, as by a GPU that knows them beforehand."""
        multiplier = np.full((1, 1), self.multiplier(tensor, fmt))
        inverse = np.float32(1) / multiplier
        return Scales(inverse, inverse, multipliers=multiplier)

    def push(self, tensor: str, amax: float) -> None:
        """Remember the amax of a step."""
        row = self.history[self.TENSORS.index(tensor)]
        row[1:] = row[:-1].copy()
        row[0] = amax
