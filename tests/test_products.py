"""Products and norms of floats: right, and the same to the bit on any number of CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fp8sim
from fp8sim._support.products import float_product, norm
from fp8sim._support.threads import set_num_threads

SHAPES = [(1, 1, 1), (1, 300, 70), (33, 65, 1000), (300, 1, 257), (1, 1, 20_000), (2, 9000, 3), (64, 64, 512)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_a_product_of_whole_numbers_is_exact_in_any_layout(m, n, k, dtype, rng):
    a, b = (rng.integers(-30, 31, shape).astype(dtype) for shape in ((m, k), (k, n)))
    exact = a.astype(np.int64) @ b.astype(np.int64)
    for left, right in ((a, b), (np.asfortranarray(a), np.asfortranarray(b)), (a[::-1][::-1], b)):
        found = float_product(left, right)
        assert found.dtype == dtype
        assert_array_equal(found, exact)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 9000), (200, 200, 0)])
def test_an_empty_product_is_zeros(shape):
    m, n, k = shape
    assert_array_equal(float_product(np.ones((m, k)), np.ones((k, n))), np.zeros((m, n)))


@pytest.mark.parametrize("size", [4, 100])
def test_infinity_and_nan_stay_where_they_are_and_nothing_warns(size):
    a, b = np.ones((size, size)), np.ones((size, size))
    a[1, 0], a[2, 0], b[0, 1] = np.inf, np.nan, 0.0
    found = float_product(a, b)
    expected = np.full((size, size), float(size))
    expected[:, 1] = size - 1
    expected[1], expected[2], expected[1, 1] = np.inf, np.nan, np.nan
    assert_array_equal(found, expected)
    a[:] = 1e308
    assert np.isinf(float_product(a, a)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_number_of_threads_changes_no_bit(dtype, rng):
    a, b = rng.standard_normal((100, 900)).astype(dtype), rng.standard_normal((900, 5000)).astype(dtype)
    try:
        set_num_threads(1)
        alone = float_product(a, b)
        set_num_threads(3)
        assert_array_equal(float_product(a, b), alone)
    finally:
        set_num_threads(None)


def test_a_norm_is_the_root_of_the_sum_of_squares():
    assert norm(np.array([[3.0, 0.0], [0.0, 4.0]])) == 5.0


PROGRAM = """
import json
import numpy as np, fp8sim
rng = np.random.default_rng(0)
a, b = rng.standard_normal((256, 2048)), rng.standard_normal((2048, 256))
result = fp8sim.compare(a, b, ["fp32", "bf16", "deepseek-v3", "nvfp4"]).to_dict()
print(json.dumps([result, fp8sim.metrics.cosine_similarity(a, b.T), fp8sim.matmul(a, b, "fp32").tobytes().hex()]))
"""


def printed(**settings: str) -> list[object]:
    source = str(Path(fp8sim.__file__).parents[1])
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **settings}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    return list(json.loads(run.stdout))


def test_a_comparison_is_the_same_to_the_bit_whatever_the_threads_of_the_blas():
    alone, many = printed(OPENBLAS_NUM_THREADS="1"), printed(OPENBLAS_NUM_THREADS="4")
    assert alone == many
