"""What a way to sum is.

Law: where every product and every partial sum fits the width that an accumulator keeps, its result
is the exact dot product.
"""

from __future__ import annotations

import abc
from typing import final

from fp8sim._support.typing import F32
from fp8sim.quantization import Quantized

__all__ = ["Accumulator", "ValueSum"]


class Accumulator(abc.ABC):
    """A way to sum products: `multiply` turns two quantised operands into float32 sums."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What tables call it."""

    @abc.abstractmethod
    def multiply(self, a: Quantized, b: Quantized) -> F32:
        """Return the product of `a` (m, k) and `b` (k, n) as (m, n) float32."""


class ValueSum(Accumulator):
    """An accumulator that knows nothing of codes and scales: it sums products of their float32 values."""

    @abc.abstractmethod
    def sum_products(self, a: F32, b: F32) -> F32:
        """Return the product of values `a` (m, k) and `b` (k, n), which are only lent, as (m, n) float32."""

    @final
    def multiply(self, a: Quantized, b: Quantized) -> F32:
        """Return the sums of the dequantised operands' products."""
        return self.sum_products(a.values(), b.values())
