"""Measures against their definitions, written out in exact arithmetic or by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fp8sim
import oracle
from fp8sim import metrics
from oracle import LAYOUTS

pairs = st.integers(1, 20).flatmap(
    lambda n: st.tuples(*[hnp.arrays(np.float64, n, elements=st.floats(-100, 100, width=16))] * 2)
)


def sums(x, y):
    """Return the sums of (x - y)^2, x^2, y^2 and x y, exactly."""
    left, right = [Fraction(float(v)) for v in x], [Fraction(float(v)) for v in y]
    both = list(zip(left, right, strict=True))
    return (
        sum((p - q) ** 2 for p, q in both),
        sum(p * p for p in left),
        sum(q * q for q in right),
        sum(p * q for p, q in both),
    )


@given(pairs)
def test_measures_are_their_definitions_in_exact_arithmetic(drawn):
    x, y = drawn
    squared_error, xx, yy, xy = sums(x, y)
    if yy:
        error = math.sqrt(squared_error / yy)
        assert metrics.relative_error(x, y) == pytest.approx(error, rel=1e-12)
        if error:
            assert metrics.sqnr_db(x, y) == pytest.approx(-20 * math.log10(error), rel=1e-9, abs=1e-9)
        largest = max(abs(float(v)) for v in y)
        worst = max(abs(float(p) - float(q)) for p, q in zip(x, y, strict=True))
        assert metrics.max_abs_error(x, y) == worst
        assert metrics.max_relative_error(x, y) == pytest.approx(worst / largest, rel=1e-12)
    if xx and yy:
        cosine = float(xy) / math.sqrt(xx * yy)
        assert metrics.cosine_similarity(x, y) == pytest.approx(cosine, rel=1e-12, abs=1e-12)
    if xx + yy:
        assert metrics.calc_diff(x, y) == pytest.approx(float(1 - 2 * xy / (xx + yy)), abs=1e-12)


def test_relative_error_of_a_right_triangle():
    # the error is 3 and the reference 5
    assert metrics.relative_error([3.0, 7.0], [3.0, 4.0]) == pytest.approx(3 / 5, rel=1e-15)


@pytest.mark.parametrize(("error", "db"), [(0.1, 20.0), (0.01, 40.0), (10.0, -20.0), (0.5, 6.0206)])
def test_sqnr_counts_20_db_per_decade_of_relative_error(error, db):
    assert metrics.sqnr_db([1 + error], [1.0]) == pytest.approx(db, abs=1e-4)


def test_equal_arrays():
    x = [[1.0, -2.0], [0.0, 3.0]]
    assert metrics.relative_error(x, x) == 0
    assert metrics.sqnr_db(x, x) == math.inf
    assert metrics.cosine_similarity(x, x) == pytest.approx(1, rel=1e-15)
    assert metrics.calc_diff(x, x) == 0
    assert metrics.max_abs_error(x, x) == metrics.max_relative_error(x, x) == 0
    assert np.all(metrics.ulp_error(x, x, "e4m3") == 0)


def test_a_reference_of_zeros():
    zero, x = np.zeros(3), np.ones(3)
    assert metrics.relative_error(zero, zero) == metrics.max_relative_error(zero, zero) == 0
    assert metrics.relative_error(x, zero) == metrics.max_relative_error(x, zero) == math.inf
    assert metrics.sqnr_db(x, zero) == -math.inf
    assert math.isnan(metrics.cosine_similarity(x, zero))
    assert metrics.calc_diff(zero, zero) == 0
    assert metrics.calc_diff(x, zero) == 1


def test_directions():
    assert metrics.cosine_similarity([1.0, 0.0], [0.0, 5.0]) == 0
    assert metrics.cosine_similarity([1.0, 2.0], [-2.0, -4.0]) == pytest.approx(-1, rel=1e-15)
    assert metrics.calc_diff([1.0, 2.0], [-1.0, -2.0]) == 2


def test_calc_diff_is_half_the_squared_relative_error_where_arrays_are_close(rng):
    y = rng.standard_normal(10_000)
    x = y + 0.01 * rng.standard_normal(10_000)
    half = metrics.relative_error(x, y) ** 2 / 2
    assert metrics.calc_diff(x, y) == pytest.approx(half, rel=0.02)


@pytest.mark.parametrize("exponent", [-600, -120, 120, 600])
def test_a_common_factor_changes_no_ratio(exponent, rng):
    y = rng.standard_normal(50)
    x = y + 0.1 * rng.standard_normal(50)
    for measure in (
        metrics.relative_error,
        metrics.sqnr_db,
        metrics.cosine_similarity,
        metrics.calc_diff,
        metrics.max_relative_error,
    ):
        scaled = measure(np.ldexp(x, exponent), np.ldexp(y, exponent))
        assert scaled == pytest.approx(measure(x, y), rel=1e-12)


def test_measures_are_taken_in_float64():
    x, y = np.float32([1 + 2**-23]), np.float32([1])
    assert metrics.relative_error(x, y) == 2.0**-23
    bf16 = np.array([1.0078125], ml_dtypes.bfloat16)
    assert metrics.max_abs_error(bf16, [1.0]) == 0.0078125
    big = np.full(4, 3e38, np.float32)
    assert metrics.relative_error(-big, big) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_in_a_result_are_seen(bad):
    x, y = [bad, 1.0], [1.0, 1.0]
    expected = math.nan if math.isnan(bad) else math.inf
    assert metrics.relative_error(x, y) == pytest.approx(expected, nan_ok=True)
    assert metrics.max_abs_error(x, y) == pytest.approx(expected, nan_ok=True)
    assert metrics.sqnr_db(x, y) == pytest.approx(-expected, nan_ok=True)
    assert not metrics.calc_diff(x, y) < 0.001


def test_an_infinity_in_both_arrays_gives_nan_and_no_warning():
    for measure in (metrics.relative_error, metrics.sqnr_db, metrics.max_abs_error):
        assert math.isnan(measure([math.inf, 1.0], [math.inf, 1.0]))


@pytest.mark.parametrize(
    ("fmt", "x", "reference", "ulps"),
    [
        ("e4m3", 1.125, 1.0, 1.0),
        ("e4m3", 0.9375, 1.0, 0.5),  # the ulp is that of the reference
        ("e4m3", 1.0, 0.9375, 1.0),
        ("e4m3", 2.0**-9, 0.0, 1.0),  # around zero, the distance between subnormals
        ("e4m3", 2.0**-9, 2.0**-10, 0.5),
        ("e4m3", 448.0, 464.0, 0.5),
        ("e5m2", -1.25, -1.0, 1.0),
        ("bf16", 1 + 2.0**-7, 1.0, 1.0),
        ("fp16", 65504.0, 65536.0, 1.0),  # no ulp is larger than that of the largest binade
        ("e2m1", 6.0, 5.0, 0.5),
    ],
)
def test_ulp_errors_worked_by_hand(fmt, x, reference, ulps):
    assert metrics.ulp_error([x], [reference], fmt).tolist() == [ulps]


@given(st.sampled_from(["e4m3", "e5m2", "fp16", "bf16", "e2m1"]), st.floats(-400, 400), st.floats(-9, 9))
def test_ulp_error_is_its_definition_in_exact_arithmetic(name, reference, difference):
    layout = LAYOUTS[name]
    x = reference + difference
    capped = min(abs(Fraction(reference)), Fraction(oracle.largest(layout)))
    exact = abs(Fraction(x) - Fraction(reference)) / oracle.quantum(capped, layout)
    got = metrics.ulp_error([x], [reference], name)
    assert got.dtype == np.float64
    assert got[0] == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e3m4", "fp16", "bf16", "e5m6"])
def test_a_correctly_rounded_value_is_within_half_an_ulp(name, rng):
    x = rng.uniform(-1, 1, 10_000) * fp8sim.FORMATS[name].max
    small = x * np.exp2(-rng.integers(0, 40, 10_000))
    for y in (x, small):
        assert metrics.ulp_error(fp8sim.round_to(y, name), y, name).max() <= 0.5


def test_ulp_error_keeps_the_shape():
    assert metrics.ulp_error(np.ones((2, 3)), np.ones((2, 3)), "e4m3").shape == (2, 3)


# --- rows and channels ----------------------------------------------------------------------------


def test_each_row_has_an_error_of_its_own():
    reference = [[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [6e200, 8e200], [1e-200, 0.0]]
    x = [[3.0, 5.0], [0.0, 0.0], [0.0, 1.0], [6e200, 3e200], [1e-200, 1e-200]]
    # 1 of 5; nothing of nothing; something of nothing; 5 of 10; as much as is there
    assert metrics.row_errors(x, reference).tolist() == pytest.approx([0.2, 0, math.inf, 0.5, 1], rel=1e-12)


def test_row_errors_are_the_relative_errors_of_the_rows(rng):
    y = rng.standard_normal((7, 5))
    x = y + rng.standard_normal((7, 5))
    each = [metrics.relative_error(p, q) for p, q in zip(x, y, strict=True)]
    assert metrics.row_errors(x, y) == pytest.approx(each, rel=1e-12)
    assert metrics.row_errors(x[None], y[None]) == pytest.approx(each, rel=1e-12)  # (batch, tokens, channels)
    assert metrics.row_errors(x[0], y[0]).tolist() == pytest.approx(each[:1], rel=1e-12)


def test_nan_and_infinity_stay_in_their_row():
    x = [[math.nan, 1.0], [math.inf, 1.0], [1.0, 1.0]]
    nan, infinite, zero = metrics.row_errors(x, np.ones((3, 2)))
    assert math.isnan(nan)
    assert (infinite, zero) == (math.inf, 0)
    median, p99, worst = metrics.row_error_spread(x, np.ones((3, 2)))
    assert median == math.inf
    assert math.isnan(p99)
    assert math.isnan(worst)


@pytest.mark.parametrize(
    ("rows", "spread"),
    [
        (1, (1, 1, 1)),
        (2, (1.5, 2, 2)),
        (64, (32.5, 64, 64)),  # 99 % of 64 rows are 63.36: only all 64 are as many
        (99, (50, 99, 99)),
        (100, (50.5, 99, 100)),
        (101, (51, 100, 101)),
        (1000, (500.5, 990, 1000)),
    ],
)
def test_the_spread_of_errors_of_1_2_3_and_so_on(rows, spread, rng):
    reference = np.ones((rows, 1))
    x = reference + rng.permutation(np.arange(1.0, rows + 1))[:, None]
    assert metrics.row_error_spread(x, reference) == spread


def test_a_column_of_more_than_five_times_the_median_ones_root_mean_square_is_an_outlier():
    # root mean squares 1, 2, 2, 10 and 11; the median is 2
    x = np.array([[1, 2, 0, 10, 11], [-1, 2, 8**0.5, -10, 11]])
    assert metrics.outlier_channels(x).tolist() == [False, False, False, False, True]
    assert metrics.outlier_channels(x, limit=4.9).tolist() == [False, False, False, True, True]
    assert metrics.outlier_channels(np.ldexp(x, 900)).tolist() == metrics.outlier_channels(x).tolist()
    assert metrics.outlier_channels(np.stack([x, x])).tolist() == metrics.outlier_channels(x).tolist()


def test_where_most_columns_are_zero_the_rest_are_outliers():
    x = [[0.0, 0.0, 0.0, 1.0]]
    assert metrics.outlier_channels(x).tolist() == [False, False, False, True]
    assert metrics.ordinary_channel_error([[0.0, 0.0, 0.0, 9.0]], x) == 0
    assert metrics.ordinary_channel_error([[0.0, 0.5, 0.0, 1.0]], x) == math.inf


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-9, 9)))
def test_at_least_half_of_all_channels_are_ordinary(x):
    assert metrics.outlier_channels(x, limit=1).sum() <= x.shape[1] / 2


@pytest.mark.parametrize("limit", [0.99, 0, -5, math.nan])
def test_a_limit_that_may_leave_no_ordinary_channel_is_refused(limit):
    with pytest.raises(ValueError, match=r"limit must be (at least 1|a number, got NaN)"):
        metrics.outlier_channels([[1.0, 2.0]], limit=limit)


def test_the_error_of_ordinary_channels_leaves_out_the_outlier_of_the_reference():
    reference = np.array([[3.0, 0.0, 100.0], [0.0, 4.0, 100.0]])
    x = np.array([[3.0, 3.0, 90.0], [0.0, 4.0, 120.0]])
    assert metrics.ordinary_channel_error(x, reference) == pytest.approx(3 / 5, rel=1e-15)
    all_of_it = math.sqrt((9 + 100 + 400) / (25 + 20_000))
    assert metrics.relative_error(x, reference) == pytest.approx(all_of_it, rel=1e-15)
    assert metrics.ordinary_channel_error(x, reference, limit=100) == pytest.approx(all_of_it, rel=1e-15)


def test_without_outliers_the_error_of_ordinary_channels_is_that_of_all(rng):
    y = rng.standard_normal((50, 20))
    x = y + 0.1 * rng.standard_normal((50, 20))
    assert metrics.ordinary_channel_error(x, y) == metrics.relative_error(x, y)


def test_measures_change_no_input():
    x, y = np.array([1.0, 2.0]), np.array([3.0, -4.0])
    x.setflags(write=False)
    y.setflags(write=False)
    for name in metrics.__all__:
        arrays = (x,) if name == "outlier_channels" else (x, y)
        getattr(metrics, name)(*arrays, *(["e4m3"] if name == "ulp_error" else []))
    assert (x.tolist(), y.tolist()) == ([1.0, 2.0], [3.0, -4.0])


def test_errors_near_the_end_of_float64_are_finite_where_they_are():
    x, reference = np.array([1.7e308, -1.7e308]), np.array([-1.7e308, -1.7e308])
    assert metrics.relative_error(x, reference) == pytest.approx(math.sqrt(2))
    assert metrics.row_errors(x, reference) == pytest.approx([math.sqrt(2)])
    assert metrics.max_relative_error(x, reference) == 2
