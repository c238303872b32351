"""How far apart two arrays are: each measure defined once, computed in float64.

All take an array and what it is measured against, and refuse what `relative_error` refuses.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.products import norm
from fp8sim._support.text import shown
from fp8sim._support.typing import F64, ArrayLike, FloatArray
from fp8sim.formats import FormatLike, get_format

__all__ = [
    "calc_diff", "cosine_similarity", "max_abs_error", "max_relative_error", "ordinary_channel_error",
    "outlier_channels", "relative_error", "row_error_spread", "row_errors", "sqnr_db", "ulp_error",
]  # fmt: skip

Measure = TypeVar("Measure", bound=Callable[..., Any])


def _quiet(measure: Measure) -> Measure:
    """Let a measure say infinity of what overflows and NaN of what is undefined, without a warning of it."""

    @default_environment
    @functools.wraps(measure)
    def quiet(*arguments: Any, **options: Any) -> Any:
        with np.errstate(all="ignore"):  # one of its own for each call: old ones cannot be entered twice
            return measure(*arguments, **options)

    return cast(Measure, quiet)


class Truth:
    """An array that others are measured against: what each measure needs of it is computed once."""

    def __init__(self, values: F64) -> None:
        self.values = values

    def errors(self, x: FloatArray) -> Errors:
        """Measure an array of its shape."""
        return Errors(np.asarray(x, dtype=np.float64), self)

    @cached_property
    def norm(self) -> float:
        """Frobenius norm."""
        return _norm(self.values)

    @cached_property
    def largest(self) -> float:
        """Largest magnitude."""
        return _largest(self.values)

    @cached_property
    def row_norms(self) -> F64:
        """Norm of each row."""
        return _row_norms(self.values)


class Errors:
    """Each measure of an array against a `Truth`, defined once; the public functions return one of them."""

    def __init__(self, x: F64, truth: Truth) -> None:
        self.x, self.truth = x, truth

    @cached_property
    def difference(self) -> F64:
        """What `x` is off by; infinity minus infinity is NaN, which says enough."""
        return np.asarray(self.x - self.truth.values)

    @cached_property
    def relative(self) -> float:
        """`relative_error`."""
        return _ratio(_norm(self.difference), self.truth.norm)

    @property
    def sqnr_db(self) -> float:
        """`sqnr_db`."""
        error = self.relative
        return math.inf if error == 0 else -math.inf if error == math.inf else -20 * math.log10(error)

    @property
    def calc_diff(self) -> float:
        """`calc_diff`."""
        left, right = self.x, self.truth.values
        largest = max(_largest(left), self.truth.largest)
        if largest and math.isfinite(largest):  # squares that neither overflow nor vanish
            left, right = left / largest, right / largest
        denominator = float(np.sum(left * left + right * right))
        return 1.0 - 2.0 * float(np.sum(left * right)) / denominator if denominator else 0.0

    @cached_property
    def largest(self) -> float:
        """`max_abs_error`."""
        return _largest(self.difference)

    @property
    def max_relative(self) -> float:
        """`max_relative_error`."""
        return _ratio(self.largest, self.truth.largest)

    @property
    def rows(self) -> F64:
        """`row_errors`."""
        error, size = _row_norms(self.difference), self.truth.row_norms
        return np.where(size == 0, np.where(error == 0, 0.0, np.inf), error / size)

    @property
    def row_spread(self) -> tuple[float, float, float]:
        """`row_error_spread`."""
        errors = np.sort(self.rows)  # NaN last
        middle = errors[(errors.size - 1) // 2], errors[errors.size // 2]
        in_hundred = -(-99 * errors.size // 100)  # in whole numbers: 0.99 is no binary fraction
        return float(sum(middle) / 2), float(errors[in_hundred - 1]), float(errors[-1])


@_quiet
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
    return _errors(x, reference).relative


@_quiet
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
    return _errors(x, reference).sqnr_db


@_quiet
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
    value, truth = (_scaled(array, _largest(array)) for array in _pair(x, reference))
    norms = _norm(value) * _norm(truth)
    return float(np.sum(value * truth) / norms) if norms else math.nan


@_quiet
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
    return _errors(x, y).calc_diff


@_quiet
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
    return Truth(truth).errors(value).largest


@_quiet
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
    return _errors(x, reference).max_relative


@_quiet
def row_errors(x: ArrayLike, reference: ArrayLike) -> F64:
    """Return the relative error of each row: of each token, where rows are tokens.

    One figure for a whole matrix is that of its largest tokens; a small token can be far worse off.

    Returns
    -------
    (m,) array of float64
        `relative_error` of each row by itself; a row is what the last axis holds.

    Examples
    --------
    >>> row_errors([[3.0, 4.5], [0.0, 20.0]], [[3.0, 4.0], [0.0, 20.0]])
    array([0.1, 0. ])
    """
    return _errors(x, reference).rows


@_quiet
def row_error_spread(x: ArrayLike, reference: ArrayLike) -> tuple[float, float, float]:
    """Return the median, the 99th percentile and the worst of `row_errors`.

    Returns
    -------
    tuple of float
        Median; the smallest that 99 rows in 100 do not exceed, which for fewer than 100 rows is the
        worst; worst. A row of NaN counts as the worst.

    Examples
    --------
    >>> truth = np.full((200, 1), 100.0)
    >>> row_error_spread(truth + np.arange(1, 201)[:, None], truth)  # errors of 1 %, 2 %, ... 200 %
    (1.005, 1.98, 2.0)
    """
    return _errors(x, reference).row_spread


@_quiet
def outlier_channels(x: ArrayLike, *, limit: float = 5.0) -> NDArray[np.bool_]:
    """Return which channels are outliers: columns far larger than the median one.

    A Frobenius error is decided by them, and they often land exactly on the largest code, so that it
    says little of all the others; see `ordinary_channel_error`.

    Parameters
    ----------
    x : (m, k) array_like
        Activations, or anything whose last axis holds channels.
    limit : float
        How many times the root mean square of the median column an ordinary one may have; at least 1,
        so that there are ordinary ones.

    Returns
    -------
    (k,) array of bool
        At most half of them are True. Where most columns are all zero, all the rest are outliers.

    Raises
    ------
    ValueError
        If `x` is empty or the limit below 1.

    Examples
    --------
    >>> outlier_channels([[1.0, 2.0, -60.0, 3.0], [1.0, -2.0, 80.0, 3.0]])
    array([False, False,  True, False])
    """
    values, _ = _pair(x, x)
    if not checks.number(limit, "limit") >= 1:
        raise ValueError(f"limit must be at least 1, got {shown(limit)}: below, no channel may be ordinary")
    # columns are of one length, so their norms are as their root mean squares
    sizes = _row_norms(_as_rows(values).T)
    return np.asarray(sizes > limit * np.median(sizes))


@_quiet
def ordinary_channel_error(x: ArrayLike, reference: ArrayLike, *, limit: float = 5.0) -> float:
    """Return the error of ordinary channels: the relative error over the columns that are no outliers.

    Parameters
    ----------
    limit : float
        Which columns are left out: the `outlier_channels` of the reference.

    Returns
    -------
    float
        As `relative_error`, which it equals where there is no outlier.

    Raises
    ------
    ValueError
        As `relative_error` and `outlier_channels` do.

    Examples
    --------
    >>> a = np.array([[3.0, 0.0, 4.0, 1000.0]])
    >>> quantised = np.array([[3.0, 0.0, 4.5, 1000.0]])  # the outlier is exact, as the largest code is
    >>> round(relative_error(quantised, a), 6), ordinary_channel_error(quantised, a)
    (0.0005, 0.1)
    """
    value, truth = (np.atleast_1d(array) for array in _pair(x, reference))
    ordinary = ~outlier_channels(truth, limit=limit)
    return relative_error(value[..., ordinary], truth[..., ordinary])


@_quiet
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


def _errors(x: ArrayLike, reference: ArrayLike) -> Errors:
    value, truth = _in_reach(*_pair(x, reference))
    return Truth(truth).errors(value)


def _largest(x: F64) -> float:
    """Return the largest magnitude; NaN where there is one."""
    return max(float(np.max(x)), -float(np.min(x)))


def _norm(x: F64) -> float:
    """Return the Frobenius norm, safe from overflow and underflow of the squares."""
    largest = _largest(x)
    return largest * norm(_scaled(x, largest)) if math.isfinite(largest) else largest


def _row_norms(x: F64) -> F64:
    """Return the norm of each row, as safe from overflow and underflow as `_norm`."""
    rows = _as_rows(x)
    largest = np.max(np.abs(rows), axis=1)
    unit = np.where(np.isfinite(largest) & (largest > 0), largest, 1.0)
    return np.asarray(unit * np.linalg.norm(rows / unit[:, None], axis=1))


def _as_rows(x: F64) -> F64:
    """Return a matrix: a vector is one row, and of more axes than two all but the last are one."""
    matrix = np.atleast_2d(x)
    return matrix.reshape(-1, matrix.shape[-1])


def _in_reach(x: F64, y: F64) -> tuple[F64, F64]:
    """Make both smaller by one power of two where a difference or a norm could be beyond float64."""
    largest = max(float(np.max(np.abs(array), where=np.isfinite(array), initial=0)) for array in (x, y))
    return (np.ldexp(x, -64), np.ldexp(y, -64)) if largest > 2.0**960 else (x, y)


def _scaled(x: F64, largest: float) -> F64:
    """Divide by the largest magnitude, so that squares neither overflow nor vanish."""
    return x / largest if largest and math.isfinite(largest) else x


def _ratio(error: float, size: float) -> float:
    return error / size if size else (0.0 if error == 0 else math.inf)
