"""The exact sum of exact products, rounded once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import final

import numpy as np

from fp8sim import _kernels
from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.typing import F32, F64, AnyArray, ArrayLike
from fp8sim.accumulators.base import Accumulator
from fp8sim.quantization import Quantized

__all__ = ["Exact", "exact_dot"]


@final
@dataclass(frozen=True)
class Exact(Accumulator):
    """The exact sum of the exact products of codes and scales, rounded once to FP32."""

    name = "exact"

    @default_environment
    def multiply(self, a: Quantized, b: Quantized) -> F32:
        """Return the correctly rounded product."""
        left, right = (np.asarray(x.dequantize(np.float64), dtype=np.float64) for x in (a, b))
        product: F32
        if _kernels.available():
            from fp8sim._kernels.exact_kernels import exact_product

            product, unsettled = exact_product(left, right)
        else:
            product, unsettled = _float64_product(left, right)
        for i, j in np.argwhere(unsettled):  # next to none: sums too close to a midpoint
            product[i, j] = exact_dot(left[i], right[:, j])
        return product


def _float64_product(a: F64, b: F64) -> tuple[F32, AnyArray]:
    """Return the product that float64 gives, and where its error might cross a midpoint of FP32.

    Whatever the order, a float64 sum of k products is off by at most k 2^-53 / (1 - k 2^-53) of the sum
    of their magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1);
    (k + 2) 2^-52 of it, as computed, is more. No product of codes times FP32 scales is too small for
    float64. At k = 1024 the bound is 2^-42 of the magnitudes and half a step of FP32 2^-25 of the sum, so
    that few sums are in doubt.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sums, magnitudes = a @ b, np.abs(a) @ np.abs(b)
        error = (a.shape[1] + 2) * 2.0**-52 * magnitudes
        low, high = (np.asarray(sums + side, dtype=np.float32) for side in (-error, error))
    empty = magnitudes == 0
    low[empty] = 0  # and not -0
    return low, ~(empty | ((low == high) & (low != 0)))  # NaN and the sign of zero are left to fractions


@default_environment
def exact_dot(x: ArrayLike, y: ArrayLike) -> np.float32:
    """Return the dot product of two vectors as a student would check it: in fractions, rounded once.

    Products with infinity and NaN are those of IEEE 754, and beside them no finite one counts.

    Examples
    --------
    >>> import numpy as np
    >>> float(exact_dot(np.array([1e20, 1.0, -1e20]), np.ones(3)))
    1.0
    """
    left, right = checks.as_float(x, "x"), checks.as_float(y, "y")
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError(
            f"x and y must be vectors of one length, got shapes {left.shape} and {right.shape}; pass rows"
        )
    beyond = ~(np.isfinite(left) & np.isfinite(right))
    if beyond.any():  # infinity or NaN, whatever the rest: IEEE decides
        with np.errstate(invalid="ignore"):
            return np.float32(np.sum(left[beyond].astype(np.float64) * right[beyond].astype(np.float64)))
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    total = sum((Fraction(p) * Fraction(q) for p, q in pairs), Fraction(0))
    if abs(total) > 2**200:  # beyond FP32, and perhaps beyond float64
        return np.float32(math.inf if total > 0 else -math.inf)
    nearest = float(total)
    if Fraction(nearest) != total and np.float64(nearest).view(np.int64) % 2 == 0:
        # Round to odd, so that rounding to float32 sees what is left.
        nearest = float(np.nextafter(nearest, np.inf if total > Fraction(nearest) else -np.inf))
    with np.errstate(over="ignore"):
        return np.float32(nearest)
