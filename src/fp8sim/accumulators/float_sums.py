"""Sums of float32 values in a floating-point format: by a BLAS, in sequence, in pairs, corrected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.products import float_product
from fp8sim._support.typing import F32, F64, FloatArray
from fp8sim.accumulators.base import ValueSum
from fp8sim.casts import round_to
from fp8sim.formats import FloatFormat, get_format
from fp8sim.reference.rounding import add_to_odd

__all__ = ["Fp32", "Kahan", "Pairwise", "Sequential"]


@final
@dataclass(frozen=True)
class Fp32(ValueSum):
    """FP32 sums of FP32 products of the dequantised operands, as a BLAS sums blocks, or as `matmul` does."""

    matmul: Callable[[F32, F32], F32] = field(default=float_product, repr=False, compare=False)

    name = "fp32"

    def __post_init__(self) -> None:
        """Check the product."""
        checks.fields(self)

    @default_environment
    def sum_products(self, a: F32, b: F32) -> F32:
        """Return ``a @ b`` in float32."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.matmul(a, b), dtype=np.float32)


@final
@dataclass(frozen=True)
class Sequential(ValueSum):
    """One fused multiply-add after another along k, each rounded to a format, to nearest even."""

    fmt: FloatFormat  #: a name is looked up

    def __post_init__(self) -> None:
        """Look up the format."""
        object.__setattr__(self, "fmt", get_format(self.fmt))

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.fmt} sequential"

    @default_environment
    def sum_products(self, a: F32, b: F32) -> F32:
        """Return the sums, one product after another."""
        left, right = (x.astype(np.float64) for x in (a, b))
        total: F64 = np.zeros((left.shape[0], right.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            for q in range(left.shape[1]):
                product = left[:, q, None] * right[None, q]  # exact: 48 bits in a float64
                total = round_to(add_to_odd(total, product), self.fmt).astype(np.float64)
        return total.astype(np.float32)


@final
@dataclass(frozen=True)
class Pairwise(ValueSum):
    """FP32 products summed in FP32 as a balanced binary tree over k."""

    name = "fp32 pairwise"

    @default_environment
    def sum_products(self, a: F32, b: F32) -> F32:
        """Return the sums of neighbours, of neighbouring sums, and so on."""
        rows = []
        with np.errstate(over="ignore", invalid="ignore"):
            for row in a:
                terms = row[:, None] * b
                while len(terms) > 1:
                    even = len(terms) // 2 * 2
                    terms = np.concatenate([terms[0:even:2] + terms[1:even:2], terms[even:]])
                rows.append(terms.sum(axis=0))  # the one term that is left, or 0 where k is 0
        return np.array(rows, np.float32).reshape(a.shape[0], b.shape[1])


@final
@dataclass(frozen=True)
class Kahan(ValueSum):
    """FP32 products summed in FP32 with Kahan's running correction."""

    name = "fp32 kahan"

    @default_environment
    def sum_products(self, a: F32, b: F32) -> F32:
        """Return the sums, what each addition lost carried to the next."""
        total: FloatArray = np.zeros((a.shape[0], b.shape[1]), np.float32)
        correction = np.zeros_like(total)
        with np.errstate(over="ignore", invalid="ignore"):
            for q in range(a.shape[1]):
                term = a[:, q, None] * b[None, q] - correction
                new = total + term
                correction = (new - total) - term
                total = new
        return np.asarray(total, dtype=np.float32)
