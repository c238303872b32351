"""How the products of one output are summed: one small final class per way.

Law: where every product and every partial sum fits the width that an accumulator keeps, its result
is the exact dot product.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import final

import numpy as np

from fp8sim import _checks
from fp8sim._typing import F32
from fp8sim.quantization import Quantized

__all__ = ["ACCUMULATORS", "Accumulator", "Exact", "Fp32", "get_accumulator"]


class Accumulator(abc.ABC):
    """A way to sum products: `multiply` turns two quantised operands into float32 sums."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What tables call it."""

    @abc.abstractmethod
    def multiply(self, a: Quantized, b: Quantized) -> F32:
        """Return the product of `a` (m, k) and `b` (k, n) as (m, n) float32."""


@final
@dataclass(frozen=True)
class Fp32(Accumulator):
    """FP32 sums of FP32 products of the dequantised operands, in the order of numpy's BLAS."""

    @property
    def name(self) -> str:
        """What tables call it."""
        return "fp32"

    def multiply(self, a: Quantized, b: Quantized) -> F32:
        """Return ``(a.codes * a.scales) @ (b.codes * b.scales)`` in float32."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(a.dequantize() @ b.dequantize(), dtype=np.float32)


@final
@dataclass(frozen=True)
class Exact(Accumulator):
    """The exact sum of the exact products of codes and scales, rounded once to FP32."""

    @property
    def name(self) -> str:
        """What tables call it."""
        return "exact"

    def multiply(self, a: Quantized, b: Quantized) -> F32:
        """Return the correctly rounded product."""
        raise NotImplementedError


#: Name -> accumulator.
ACCUMULATORS: dict[str, Accumulator] = {"fp32": Fp32(), "exact": Exact()}


def get_accumulator(accumulator: str | Accumulator) -> Accumulator:
    """Find an accumulator by name.

    Parameters
    ----------
    accumulator : str or Accumulator
        A name in `ACCUMULATORS`, or an `Accumulator`, which is returned.

    Returns
    -------
    Accumulator
        The accumulator.

    Raises
    ------
    ValueError
        If the name is not known.

    Examples
    --------
    >>> get_accumulator("fp32")
    Fp32()
    """
    if isinstance(accumulator, Accumulator):
        return accumulator
    return _checks.lookup(accumulator, ACCUMULATORS, "accumulator")
