"""Sums of float32 values in a floating-point format: by a BLAS, in sequence, in pairs, corrected."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.products import float_product
from fp8sim._support.typing import F32, F64, FloatArray
from fp8sim.accumulators.base import ValueSum
from fp8sim.casts import overflow_policy, round_to, worth_compiling
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


class _StepByStep(ValueSum):
    """A sum whose steps are written twice, with the same results: to be read, and compiled."""

    @abc.abstractmethod
    def _readable(self, a: F32, b: F32) -> F32:
        """Return the sums, step by step in numpy."""

    @abc.abstractmethod
    def _compiled(self, a: F32, b: F32) -> F32 | None:
        """Return the sums from the kernels; None where those do not serve."""

    @final
    @default_environment
    def sum_products(self, a: F32, b: F32) -> F32:
        """Return the sums of the products."""
        served = worth_compiling(a.size * b.shape[1]) and a.dtype == b.dtype == np.float32
        with np.errstate(over="ignore", invalid="ignore"):
            compiled = self._compiled(a, b) if served else None
            sums = self._readable(a, b) if compiled is None else compiled
        sums[np.isnan(sums)] = np.nan  # whose sign and payload hang on the CPU
        return sums


@final
@dataclass(frozen=True)
class Sequential(_StepByStep):
    """One fused multiply-add after another along k, each rounded to a format, to nearest even."""

    fmt: FloatFormat  #: a name is looked up

    def __post_init__(self) -> None:
        """Look up the format."""
        object.__setattr__(self, "fmt", get_format(self.fmt))

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.fmt} sequential"

    def _readable(self, a: F32, b: F32) -> F32:
        """Add one product after another."""
        left, right = (x.astype(np.float64) for x in (a, b))
        total: F64 = np.zeros((left.shape[0], right.shape[1]))
        for q in range(left.shape[1]):
            product = left[:, q, None] * right[None, q]  # exact: 48 bits in a float64
            total = round_to(add_to_odd(total, product), self.fmt).astype(np.float64)
        return total.astype(np.float32)

    def _compiled(self, a: F32, b: F32) -> F32 | None:
        from fp8sim._kernels.float_sum_kernels import sum_in_sequence

        return sum_in_sequence(a, b, self.fmt, overflow_policy(self.fmt, None))


@final
@dataclass(frozen=True)
class Pairwise(_StepByStep):
    """FP32 products summed in FP32 as a balanced binary tree over k."""

    name = "fp32 pairwise"

    def _readable(self, a: F32, b: F32) -> F32:
        """Add neighbours, neighbouring sums, and so on."""
        rows = []
        for row in a:
            terms = row[:, None] * b
            while len(terms) > 1:
                even = len(terms) // 2 * 2
                terms = np.concatenate([terms[0:even:2] + terms[1:even:2], terms[even:]])
            rows.append(terms[0] if len(terms) else np.zeros(b.shape[1], np.float32))
        return np.array(rows, np.float32).reshape(a.shape[0], b.shape[1])

    def _compiled(self, a: F32, b: F32) -> F32:
        from fp8sim._kernels.float_sum_kernels import sum_in_pairs

        return sum_in_pairs(a, b)


@final
@dataclass(frozen=True)
class Kahan(_StepByStep):
    """FP32 products summed in FP32 with Kahan's running correction."""

    name = "fp32 kahan"

    def _readable(self, a: F32, b: F32) -> F32:
        """Carry what each addition lost to the next."""
        total: FloatArray = np.zeros((a.shape[0], b.shape[1]), np.float32)
        correction = np.zeros_like(total)
        for q in range(a.shape[1]):
            term = a[:, q, None] * b[None, q] - correction
            new = total + term
            correction = (new - total) - term
            total = new
        return np.asarray(total, dtype=np.float32)

    def _compiled(self, a: F32, b: F32) -> F32:
        from fp8sim._kernels.float_sum_kernels import sum_corrected

        return sum_corrected(a, b)
