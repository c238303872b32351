"""Recipes on several layers: each is compared as by itself, and the totals are sums and means of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fp8sim import compare
from fp8sim.experiments.layer_comparison import compare_layers


@pytest.fixture
def layers(rng):
    return {
        name: (rng.standard_normal((m, k)), rng.standard_normal((k, n)))
        for name, (m, n, k) in {"up": (16, 48, 32), "down": (16, 32, 48), "head": (4, 64, 32)}.items()
    }


def test_each_layer_is_compared_as_by_itself(layers):
    result = compare_layers(layers, ["fp8-row", "nvfp4"], device="b200")
    assert list(result.layers) == list(layers)
    for name, (a, b) in layers.items():
        assert result[name] == compare(a, b, ["fp8-row", "nvfp4"], device="b200")
    data = json.loads(json.dumps(result.to_dict()))
    assert data["layers"]["head"]["rows"][1]["recipe"] == "fp8-row"


def test_totals_are_sums_of_bytes_and_times_and_the_root_mean_square_of_errors(layers):
    result = compare_layers(layers, ["fp8-row"])
    rows = [layer["fp8-row"] for layer in result.layers.values()]
    base = [layer["bf16"] for layer in result.layers.values()]
    line = next(row for row in result.parts()[1].rows if row[0] == "fp8-row")
    assert line[2] == f"{sum(r.nbytes for r in rows) / sum(r.nbytes for r in base):.3f}"
    assert line[4] == f"{sum(r.seconds for r in rows) / sum(r.seconds for r in base):.3f}"
    errors = [r.relative_error for r in rows]
    assert float(line[5].split()[0]) == pytest.approx(100 * math.sqrt(np.mean(np.square(errors))), rel=1e-2)
    assert float(line[6].split()[0]) == pytest.approx(100 * max(errors), rel=1e-2)


@pytest.mark.parametrize(
    ("layers", "error", "says"),
    [
        ({}, ValueError, "layers is empty"),
        ([1], TypeError, "must be a mapping of names to pairs"),
        ({"a": np.ones((2, 2))}, TypeError, "must be a mapping of names to pairs"),
        ({"up": (np.ones((2, 3)), np.ones((2, 3)))}, ValueError, "up: "),
        ({"up": ("x", np.ones((2, 3)))}, TypeError, "up: "),
    ],
)
def test_what_is_no_layer_is_refused(layers, error, says):
    with pytest.raises(error, match=says):
        compare_layers(layers)
