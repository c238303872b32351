"""How far apart two arrays are: each measure defined once, computed in float64.

All take an array and what it is measured against, and refuse what `relative_error` refuses.
"""

from __future__ import annotations

import math

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F64, ArrayLike
from fp8sim.formats import FormatLike, get_format

__all__ = [
    "calc_diff", "cosine_similarity", "max_abs_error", "max_relative_error", "relative_error", "sqnr_db",
    "ulp_error",
]  # fmt: skip


def relative_error(x: ArrayLike, reference: ArrayLike) -> float:
    """Return the relative Frobenius error, ``||x - reference|| / ||reference||``.

    Parameters
    ----------
    x, reference : array_like
        Arrays of one shape. NaN or infinity in `x` gives NaN or infinity.

    Returns
    -------
    float
        0 where they are equal; infinity where only the reference is all zero.

    Raises
    ------
    ValueError
        If the shapes differ or the arrays are empty.

    Examples
    --------
    >>> relative_error([3.0, 4.1], [3.0, 4.0])
    0.019999999999999928
    """
    value, truth = _pair(x, reference)
    return _ratio(_norm(_difference(value, truth)), _norm(truth))


def sqnr_db(x: ArrayLike, reference: ArrayLike) -> float:
    """Return the signal-to-quantisation-noise ratio in dB, ``-20 log10(relative_error)``.

    Returns
    -------
    float
        Decibels; infinity where they are equal. Each bit of a format is worth about 6.02 dB.

    Examples
    --------
    >>> round(sqnr_db([3.0, 4.1], [3.0, 4.0]), 2)
    33.98
    """
    error = relative_error(x, reference)
    return math.inf if error == 0 else -math.inf if error == math.inf else -20 * math.log10(error)


def cosine_similarity(x: ArrayLike, reference: ArrayLike) -> float:
    """Return the cosine of the angle between two arrays taken as vectors.

    Returns
    -------
    float
        1 where they point the same way; NaN where one of them is all zero.

    Examples
    --------
    >>> cosine_similarity([1.0, 0.0], [2.0, 0.0])
    1.0
    """
    value, truth = (_scaled(array) for array in _pair(x, reference))
    norms = _norm(value) * _norm(truth)
    return float(np.vdot(value, truth) / norms) if norms else math.nan


def calc_diff(x: ArrayLike, y: ArrayLike) -> float:
    """Return DeepGEMM's measure of difference, ``1 - 2 sum(x y) / sum(x^2 + y^2)``.

    Returns
    -------
    float
        0 where they are equal, and about half the squared relative error where they are close;
        0 where both are all zero. DeepGEMM's tests accept an FP8 product below 0.001
        (deepseek-ai/DeepGEMM, deep_gemm/testing/numeric.py).

    Examples
    --------
    >>> round(calc_diff([3.0, 4.1], [3.0, 4.0]), 6)
    0.000197
    """
    left, right = _pair(x, y)
    largest = max(float(np.max(np.abs(left))), float(np.max(np.abs(right))))
    if largest and math.isfinite(largest):  # squares that neither overflow nor vanish
        left, right = left / largest, right / largest
    denominator = float(np.sum(left * left + right * right))
    return 1.0 - 2.0 * float(np.sum(left * right)) / denominator if denominator else 0.0


def max_abs_error(x: ArrayLike, reference: ArrayLike) -> float:
    """Return the largest ``|x - reference|``.

    Returns
    -------
    float
        In the unit of the arrays.

    Examples
    --------
    >>> max_abs_error([1.0, 2.5], [1.0, 2.0])
    0.5
    """
    value, truth = _pair(x, reference)
    return float(np.max(np.abs(_difference(value, truth))))


def max_relative_error(x: ArrayLike, reference: ArrayLike) -> float:
    """Return the largest error as a share of the largest reference value.

    Elementwise relative errors have no bound where a product passes through zero, so the normaliser
    is one number: ``max |x - reference| / max |reference|``.

    Returns
    -------
    float
        A share, 0 where they are equal.

    Examples
    --------
    >>> max_relative_error([1.0, 2.5], [1.0, 2.0])
    0.25
    """
    _, truth = _pair(x, reference)
    return _ratio(max_abs_error(x, reference), float(np.max(np.abs(truth))))


def ulp_error(x: ArrayLike, reference: ArrayLike, fmt: FormatLike) -> F64:
    """Return ``|x - reference|`` in units in the last place of a format, element by element.

    Parameters
    ----------
    fmt : str, dtype or FloatFormat
        Its ulp is the distance between its values around the reference,
        ``2**(max(floor(log2 |reference|), emin) - mantissa_bits)``.

    Returns
    -------
    array of float64
        A correctly rounded value is within 0.5.

    Examples
    --------
    >>> ulp_error([1.125, 0.3125], [1.0, 0.3], "e4m3")
    array([1. , 0.4])
    """
    value, truth = _pair(x, reference)
    target = get_format(fmt)
    with np.errstate(invalid="ignore"):
        magnitude = np.where(np.isfinite(truth) & (truth != 0), np.abs(truth), target.smallest_normal)
        exponent = np.clip(np.frexp(magnitude)[1] - 1, target.emin, target.emax)
        return np.asarray(np.abs(value - truth) / np.ldexp(1.0, exponent - target.mantissa_bits))


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[F64, F64]:
    left = checks.as_float(x, "x").astype(np.float64)
    right = checks.as_float(y, "reference").astype(np.float64)
    if left.shape != right.shape:
        raise ValueError(f"cannot compare shapes {left.shape} and {right.shape}; they must be equal")
    if left.size == 0:
        raise ValueError("an error of empty arrays is not defined")
    return left, right


def _norm(x: F64) -> float:
    """Return the Frobenius norm, safe from overflow and underflow of the squares."""
    largest = float(np.max(np.abs(x)))
    return largest * float(np.linalg.norm(_scaled(x).ravel())) if math.isfinite(largest) else largest


def _difference(x: F64, y: F64) -> F64:
    """Return x - y; infinity minus infinity is NaN, which says enough."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(x - y)


def _scaled(x: F64) -> F64:
    """Divide by the largest magnitude, so that squares neither overflow nor vanish."""
    largest = float(np.max(np.abs(x)))
    return x / largest if largest and math.isfinite(largest) else x


def _ratio(error: float, size: float) -> float:
    return error / size if size else (0.0 if error == 0 else math.inf)
