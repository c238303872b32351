"""What to keep wide: against brute force in exact fractions, and within its own bound where that is too much."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp8sim.experiments.audit.keep_wide import METHODS, Option, curve, keep_wide


def brute(rows, weighs, costs, budget):
    """Return the least cost of all choices within a budget; None if there is none."""
    layers = {}
    for row in rows:
        layers.setdefault(row[0], []).append(row)
    best = None
    for choice in itertools.product(*layers.values()):
        if sum(Fraction(one[weighs]) for one in choice) <= Fraction(budget):
            cost = sum(Fraction(one[costs]) for one in choice)
            best = cost if best is None else min(best, cost)
    return best


@st.composite
def tables(draw, layers=6, options=3):
    """Draw layers with options: few different sizes, as models have, or any; errors of all magnitudes."""
    sizes = st.sampled_from([100, 200, 300]) if draw(st.booleans()) else st.integers(0, 1000)
    errors = st.sampled_from([0.0, 0.1, 0.2, 1 / 3]) if draw(st.booleans()) else st.floats(0, 1e3)
    count = draw(st.integers(1, layers))
    return [
        (f"layer {i}", recipe, draw(sizes), draw(errors))
        for i in range(count)
        for recipe in ["bf16", "fp8", "mxfp4", "nvfp4"][: draw(st.integers(1, options))]
    ]


@given(tables(), st.data())
def test_the_choice_is_that_of_brute_force(rows, data):
    by_error = data.draw(st.booleans())
    weighs, costs = (3, 2) if by_error else (2, 3)
    budget = data.draw(st.floats(0, 1.2)) * sum(row[weighs] for row in rows)
    best = brute(rows, weighs, costs, budget)
    budgets = {"error" if by_error else "nbytes": budget}
    if best is None:
        with pytest.raises(ValueError, match="no choice is within the budget: the least there can be is"):
            keep_wide(rows, **budgets)
        return
    for method in ("auto", "exact"):
        choice = keep_wide(rows, **budgets, method=method)
        assert getattr(choice, choice.minimised) == float(best)
        assert (choice.gap, choice.exact) == (0, True)
        check(choice, rows, budgets)
    greedy = keep_wide(rows, **budgets, method="greedy")
    check(greedy, rows, budgets)
    least = getattr(greedy, greedy.minimised)
    assert float(best) <= least
    assert least - greedy.gap <= float(best) * (1 + 1e-12)


def check(choice, rows, budgets):
    """Hold that a choice has one recipe a layer, adds up, and is within the budget."""
    table = {(row[0], row[1]): row for row in rows}
    assert choice.recipes.keys() == {row[0] for row in rows}
    chosen = [table[pair] for pair in choice.recipes.items()]
    assert choice.nbytes == sum(one[2] for one in chosen)
    assert choice.error == float(sum(Fraction(one[3]) for one in chosen))
    assert all(getattr(choice, name) <= budget for name, budget in budgets.items())
    assert choice.keep == tuple(layer for layer, recipe in choice.recipes.items() if recipe == "bf16")


@pytest.mark.parametrize("by_error", [True, False])
def test_twelve_layers_with_two_recipes_equal_brute_force_at_every_budget(rng, by_error):
    rows = []
    for i, (size, error) in enumerate(
        zip(rng.integers(1, 50, 12) * 1000, rng.lognormal(0, 2, 12), strict=True)
    ):
        rows += [(f"{i}", "bf16", int(2 * size), float(error) / 64), (f"{i}", "fp8", int(size), float(error))]
    weighs, costs = (3, 2) if by_error else (2, 3)
    low, high = (sum(row[weighs] for row in rows[k::2]) for k in ((0, 1) if by_error else (1, 0)))
    for share in np.linspace(0, 1, 5):
        budget = low * 1.0000001 + share * (high - low)
        choice = keep_wide(rows, **{"error" if by_error else "nbytes": budget})
        assert getattr(choice, choice.minimised) == float(brute(rows, weighs, costs, budget))


def many(rng, count, shapes=None):
    rows = []
    for i in range(count):
        size = int(shapes[i % len(shapes)] if shapes else rng.integers(1, 10**7))
        error = float(rng.lognormal(0, 1) * size)
        rows += [
            (f"{i}", "bf16", 2 * size, 0.0),
            (f"{i}", "fp8", size, error),
            (f"{i}", "mxfp4", size // 2, 20 * error),
        ]
    return rows


@pytest.mark.parametrize("shapes", [None, [4096 * 4096, 4096 * 11008, 1024 * 4096]])
def test_thousands_of_layers_are_within_a_small_gap(rng, shapes):
    rows = many(rng, 3000, shapes)
    budget = sum(row[2] for row in rows[::3]) // 2.5
    choice = keep_wide(rows, nbytes=budget)
    check(choice, rows, {"nbytes": budget})
    assert choice.gap <= 1e-3 * choice.error
    greedy = keep_wide(rows, nbytes=budget, method="greedy")
    assert choice.error <= greedy.error
    assert greedy.error - greedy.gap <= choice.error
    points = curve(rows)
    assert len(points) <= 6001
    assert min(points, key=lambda one: one.nbytes) == points[0]


@given(tables(layers=4))
def test_each_point_of_the_curve_is_the_best_of_its_size_and_they_fall_ever_less_steeply(rows):
    points = curve(rows)
    slopes = [
        (Fraction(a.error) - Fraction(b.error)) / (b.nbytes - a.nbytes) for a, b in itertools.pairwise(points)
    ]
    assert all(a >= b * (1 - Fraction(1, 2**40)) for a, b in itertools.pairwise(slopes))
    for point in points:
        assert point.error == float(brute(rows, 2, 3, point.nbytes))
    exact = min(point.error for point in points)
    assert exact == float(brute(rows, 2, 3, 10**9))
    assert keep_wide(rows, nbytes=points[-1].nbytes).error == exact


def test_a_choice_prints_as_a_table():
    rows = [Option("q", "bf16", 200, 0.0), Option("q", "fp8", 100, 0.5), Option("k", "fp8", 100, 1.0)]
    text = str(keep_wide(rows, error=1.2))
    assert text.startswith("300 B, error 1; bytes no choice is better")
    assert "bf16         1  q" in text
    rows += [("k", "bf16", 250, 0.01), ("v", "fp8", 100, 3.0), ("v", "bf16", 260, 0.0)]
    greedy = keep_wide(rows, nbytes=350 + 149, method="greedy")
    assert (greedy.keep, greedy.exact) == (("v",), False)
    assert f"error at most {100 * greedy.gap / greedy.error:.3g} % above the best" in str(greedy)


@pytest.mark.parametrize(
    ("rows", "budget", "kind", "words"),
    [
        ([], {"error": 1}, ValueError, "no layers"),
        ([("q", "fp8", 1, 0.0)], {}, ValueError, "give one budget"),
        ([("q", "fp8", 1, 0.0)], {"error": 1, "nbytes": 1}, ValueError, "give one budget"),
        ([("q", "fp8", 1, 0.0), ("q", "fp8", 2, 0.0)], {"error": 1}, ValueError, "'fp8' twice"),
        ([("q", "fp8", 1, float("inf"))], {"error": 1}, ValueError, "finite and not negative"),
        ([("q", "fp8", -1, 0.0)], {"error": 1}, ValueError, "nbytes must be at least 0"),
        ([("q", "fp8", 1.5, 0.0)], {"error": 1}, TypeError, "whole number"),
        ([("q", "fp8", 1)], {"error": 1}, TypeError, "a row must be"),
        ([("q", "fp8", 1, 0.0)], {"error": -1}, ValueError, "a budget must be finite and not negative"),
        ([("q", "fp8", 1, 0.0)], {"error": "1"}, TypeError, "error must be a number"),
        ([("q", "fp8", 8, 0.0)], {"nbytes": 7}, ValueError, "the least there can be is 8 B"),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_refused(rows, budget, kind, words):
    with pytest.raises(kind, match=words):
        keep_wide(rows, **budget)
    assert set(METHODS) == {"auto", "exact", "greedy"}


def test_hard_tables_equal_brute_force(rng):
    # bytes and errors that hardly differ from each other: the bound is far off, and much is searched
    for _ in range(150):
        rows = []
        for i in range(7):
            size, error = int(rng.integers(50, 70)), float(rng.integers(50, 70))
            rows += [(f"{i}", "bf16", 2 * size, 0.0), (f"{i}", "fp8", size, error)]
        budget = float(rng.integers(500, 800))
        best = brute(rows, 2, 3, budget)
        if best is not None:
            choice = keep_wide(rows, nbytes=budget)
            assert (choice.error, choice.gap) == (float(best), 0)
