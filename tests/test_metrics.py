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


def test_measures_change_no_input():
    x, y = np.array([1.0, 2.0]), np.array([3.0, -4.0])
    x.setflags(write=False)
    y.setflags(write=False)
    for name in metrics.__all__:
        getattr(metrics, name)(x, y, *(["e4m3"] if name == "ulp_error" else []))
    assert (x.tolist(), y.tolist()) == ([1.0, 2.0], [3.0, -4.0])
