"""How the products of one output are summed: one small final class per way.

Law: where every product and every partial sum fits the width that an accumulator keeps, its result
is the exact dot product.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import final

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32, F64, FloatArray
from fp8sim.casts import decode, round_to
from fp8sim.formats import FORMATS, FloatFormat
from fp8sim.quantization.pipeline import Quantized
from fp8sim.reference.rounding import add_to_odd
from fp8sim.tensor_cores.product import TENSOR_CORES, TensorCore, promoted_matmul, tensor_core_matmul

__all__ = [
    "ACCUMULATORS",
    "Accumulator",
    "Exact",
    "Fp32",
    "Kahan",
    "Pairwise",
    "Sequential",
    "TensorCoreSum",
    "ValueSum",
    "exact_dot",
    "get_accumulator",
]


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
        return self.sum_products(a.dequantize(), b.dequantize())


@final
@dataclass(frozen=True)
class Fp32(ValueSum):
    """FP32 sums of FP32 products of the dequantised operands, in the order of numpy's BLAS."""

    @property
    def name(self) -> str:
        """What tables call it."""
        return "fp32"

    def sum_products(self, a: F32, b: F32) -> F32:
        """Return ``a @ b`` in float32."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(a @ b, dtype=np.float32)


@final
@dataclass(frozen=True)
class TensorCoreSum(Accumulator):
    """The fused steps of a tensor core, chained over k.

    Scales of whole rows or tensors multiply the finished sums. Where scales change along k, a chain
    ends with its block, and enters an FP32 sum times its two scales (DeepSeek-V3's promotion). MX and
    NVFP4 cores multiply by the block scales themselves.

    Parameters
    ----------
    core : TensorCore
        How one step is summed.
    promote_every : int, optional
        Elements of k after which a chain is promoted to FP32; None: only where scales change.

    Examples
    --------
    >>> from fp8sim.tensor_cores.product import TENSOR_CORES
    >>> TensorCoreSum(TENSOR_CORES["hopper-fp8"], promote_every=128).name
    'hopper-fp8/128'
    """

    core: TensorCore
    promote_every: int | None = None

    @property
    def name(self) -> str:
        """What tables call it: the core, and the promotion interval after a slash."""
        return f"{self.core.name}/{self.promote_every}" if self.promote_every else self.core.name

    def interval(self, a: Quantized, b: Quantized) -> int | None:
        """Return after how many elements of k a chain ends; None: one chain over all of k."""
        k, groups = a.shape[1], (a.sizes[1], b.sizes[0])
        if self.promote_every or self.core.scale_format is not None or min(groups) >= k:
            return self.promote_every
        return math.gcd(*groups)

    def multiply(self, a: Quantized, b: Quantized) -> F32:
        """Return the sums of the codes' products, times the scales."""
        if self.core.scale_format is not None:
            return self._with_scales_inside(a, b)
        k, a_group, b_group = a.shape[1], a.sizes[1], b.sizes[0]
        if a_group >= k and b_group >= k:  # one scale per row of A and column of B
            sums = tensor_core_matmul(
                a.codes, b.codes, self.core, promote_every=self.promote_every, a_format=a.fmt, b_format=b.fmt
            )
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                return sums * (_per_block(a, 1, max(k, 1)) * _per_block(b, 0, max(k, 1))) if k else sums
        every = self.interval(a, b)
        assert every is not None
        if a_group % every or b_group % every:
            raise ValueError(
                f"a promotion every {every} of k would straddle scales that change every {a_group} (A) "
                f"and {b_group} (B); promote every {math.gcd(a_group, b_group)}"
            )
        a_scales, b_scales = _per_block(a, 1, every), _per_block(b, 0, every)
        return promoted_matmul(
            a.codes, b.codes, self.core, every, a_scales, b_scales, a_format=a.fmt, b_format=b.fmt
        )

    def _with_scales_inside(self, a: Quantized, b: Quantized) -> F32:
        core, block = self.core, self.core.scale_block
        for operand, what, along in ((a, "A", a.sizes[1]), (b, "B", b.sizes[0])):
            if operand.scaling.scale_format != core.scale_format or (along % block and along < a.shape[1]):
                raise ValueError(
                    f"{core.name} multiplies by {core.scale_format} scales of {block} elements of k, and "
                    f"{what} has {operand.scaling}; use that scaling, or another accumulator"
                )
        scales = _per_block(a, 1, block, inside=True), _per_block(b, 0, block, inside=True)
        sums = tensor_core_matmul(
            a.codes, b.codes, core, promote_every=self.promote_every, scales=scales,
            a_format=a.fmt, b_format=b.fmt,
        )  # fmt: skip
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return sums * np.float32(a.tensor_scale * b.tensor_scale)


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
        from fp8sim._kernels.exact import exact_product

        left, right = _exact_values(a), _exact_values(b)
        product: F32
        product, unsettled = exact_product(left, right)
        for i, j in np.argwhere(unsettled):  # next to none: a sum within 2^-100 of a midpoint
            product[i, j] = exact_dot(left[i], right[:, j])
        return product


@final
@dataclass(frozen=True)
class Sequential(ValueSum):
    """One fused multiply-add after another along k, each rounded to a format, to nearest even."""

    fmt: FloatFormat

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.fmt} sequential"

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

    @property
    def name(self) -> str:
        """What tables call it."""
        return "fp32 pairwise"

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

    @property
    def name(self) -> str:
        """What tables call it."""
        return "fp32 kahan"

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


def _per_block(x: Quantized, k_axis: int, block: int, *, inside: bool = False) -> F32:
    """Return one scale per row (or column) of `x` and `block` elements of k."""
    scales = decode(x.scale_codes, x.scaling.scale_format) if inside else x.scales
    across = 1 - k_axis
    blocks = np.arange(-(-x.shape[k_axis] // block)) * block // x.sizes[k_axis]
    lines = np.arange(x.shape[across]) // x.sizes[across]
    return np.ascontiguousarray(scales.take(blocks, axis=k_axis).take(lines, axis=across))


def exact_dot(x: F64, y: F64) -> np.float32:
    """Return the dot product of two vectors as a student would check it: in fractions, rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> float(exact_dot(np.array([1e20, 1.0, -1e20]), np.ones(3)))
    1.0
    """
    total = sum((Fraction(p) * Fraction(q) for p, q in zip(x.tolist(), y.tolist(), strict=True)), Fraction(0))
    nearest = float(total)
    if Fraction(nearest) != total and np.float64(nearest).view(np.int64) % 2 == 0:
        # Round to odd, so that rounding to float32 sees what is left.
        nearest = float(np.nextafter(nearest, np.inf if total > Fraction(nearest) else -np.inf))
    with np.errstate(over="ignore"):
        return np.float32(nearest)


def _exact_values(x: Quantized) -> F64:
    return np.asarray(x.dequantize(np.float64), dtype=np.float64)


#: Name -> accumulator.
ACCUMULATORS: dict[str, Accumulator] = {
    "fp32": Fp32(),
    "fp32-sequential": Sequential(FORMATS["fp32"]),
    "fp32-pairwise": Pairwise(),
    "fp32-kahan": Kahan(),
    "bf16-sequential": Sequential(FORMATS["bf16"]),
    "fp16-sequential": Sequential(FORMATS["fp16"]),
    "exact": Exact(),
}


def get_accumulator(accumulator: str | Accumulator) -> Accumulator:
    """Find an accumulator by name.

    Parameters
    ----------
    accumulator : str or Accumulator
        A name in `ACCUMULATORS`; a tensor core (``"hopper-fp8"``), with the promotion interval after
        a slash where there is one (``"hopper-fp8/128"``); or an `Accumulator`, which is returned.

    Returns
    -------
    Accumulator
        The accumulator.

    Raises
    ------
    ValueError
        If the name is not known, or the interval is no multiple of the core's step.

    Examples
    --------
    >>> get_accumulator("fp32")
    Fp32()
    >>> get_accumulator("hopper-fp8/128").promote_every
    128
    """
    if isinstance(accumulator, Accumulator):
        return accumulator
    name, slash, interval = str(accumulator).lower().partition("/")
    if name in TENSOR_CORES:
        if slash and not interval.isdecimal():
            raise ValueError(f"accumulator {accumulator!r}: write the interval as in 'hopper-fp8/128'")
        return TensorCoreSum(TENSOR_CORES[name], int(interval) if slash else None)
    if name in ACCUMULATORS and not slash:
        return ACCUMULATORS[name]
    raise ValueError(checks.unknown("accumulator", accumulator, [*ACCUMULATORS, *TENSOR_CORES]))
