"""What the three products of a layer lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from fp8sim._support.typing import FloatArray
from fp8sim.quantization import Quantized
from fp8sim.training.recipes import GEMMS

__all__ = ["Counts", "Statistics"]


@dataclass
class Counts:
    """What one of the three products lost so far.

    Examples
    --------
    >>> Counts(elements=1000, saturated=1, flushed=20, signal=100.0, noise=0.1).sqnr_db
    30.0
    """

    elements: int = 0  #: of both operands
    saturated: int = 0
    flushed: int = 0
    signal: float = 0.0  #: sum of squares of the products of the unquantised operands
    noise: float = 0.0  #: sum of squares of the differences from them

    @property
    def sqnr_db(self) -> float:
        """Signal over noise in dB; NaN where it was not measured."""
        if self.signal == 0:
            return math.nan
        return math.inf if self.noise == 0 else 10 * math.log10(self.signal / self.noise)


@dataclass
class Statistics:
    """Counters of the three products; with `sqnr`, each is compared with its FP32 product too."""

    sqnr: bool = False
    gemms: dict[str, Counts] = field(default_factory=lambda: {gemm: Counts() for gemm in GEMMS})

    def record(self, gemm: str, a: Quantized, b: Quantized) -> None:
        """Add what two operands lost."""
        counts = self.gemms[gemm]
        counts.elements += a.codes.size + b.codes.size
        counts.saturated += a.saturated + b.saturated
        counts.flushed += a.flushed + b.flushed

    def compare(self, gemm: str, product: FloatArray, truth: FloatArray) -> None:
        """Add the energy of a product and of its error."""
        counts = self.gemms[gemm]
        counts.signal += float(np.sum(np.square(truth)))
        error = product - truth
        counts.noise += float(np.sum(np.square(error)))
