"""Everything works without numba, slower: the same bits where it is missing, blocked, or told not to compile."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import fp8sim
from fp8sim.accumulators import ACCUMULATORS, OneChain, sum_error_bound
from fp8sim.gemm import quantize_both
from fp8sim.training import TRAINING_RECIPES, LinearGemms
from readable import readable

SOURCES = str(Path(fp8sim.__file__).parents[1])
BLOCK = "import sys; sys.modules['numba'] = None"  # importing it raises ImportError
WORK = (
    "import numpy as np, fp8sim; x = np.random.default_rng(0).standard_normal((40, 300)).astype('f4');"
    "y = fp8sim.matmul(x, x.T, 'deepseek-v3'); e = fp8sim.encode(np.resize(x, 9000), 'e5m2');"
    "import hashlib; print(hashlib.sha256(y.tobytes() + e.tobytes()).hexdigest());"
    "fp8sim.compare(x, x.T); fp8sim.explain(0.3); fp8sim.gemm_cost(2, 2, 2); fp8sim.model_cost('llama-3.1-8b')"
)


def output_of(code: str, **environment: str) -> str:
    command = [sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": SOURCES, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("recipe", fp8sim.RECIPES)
@pytest.mark.parametrize("shape", [(0, 4, 2), (3, 4, 0), (3, 0, 2), (0, 0, 0)])
def test_empty_products_are_the_same(recipe, shape):
    m, k, n = shape
    a, b = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
    compiled = fp8sim.matmul(a, b, recipe)
    slow = readable(fp8sim.matmul, a, b, recipe)
    assert (slow.shape, slow.dtype) == (compiled.shape, compiled.dtype)
    assert not slow.any()


def test_results_are_the_same_where_numba_is_blocked_or_must_not_compile():
    compiled = output_of(WORK)
    assert len(compiled.strip()) == 64
    assert output_of(f"{BLOCK}; {WORK}") == compiled
    assert output_of(WORK, NUMBA_DISABLE_JIT="1") == compiled


def test_the_check_can_fail():
    assert output_of(WORK.replace("default_rng(0)", "default_rng(1)")) != output_of(WORK)
    with pytest.raises(subprocess.CalledProcessError):
        output_of(f"{BLOCK}; import numba")


@pytest.mark.parametrize("name", fp8sim.RECIPES)
def test_products_under_every_recipe(name, rng):
    a = (rng.standard_normal((20, 300)) * np.exp(rng.standard_normal((20, 1)))).astype(np.float32)
    b = rng.standard_normal((300, 33)).astype(np.float32)
    for output in (None, "recipe", "fp16"):
        compiled = fp8sim.matmul(a, b, name, output=output)
        slow = readable(fp8sim.matmul, a, b, name, output=output)
        np.testing.assert_array_equal(slow.view(np.uint32), compiled.view(np.uint32))


@pytest.mark.parametrize("accumulator", [*ACCUMULATORS, "hopper-fp8", "ada-fp8/64", "one chain"])
def test_sums_of_every_kind_and_their_bounds(accumulator, rng):
    a, b = rng.standard_normal((7, 200)), rng.standard_normal((200, 5))
    sums = OneChain("hopper-fp8") if accumulator == "one chain" else accumulator
    recipe = fp8sim.Recipe("what if", *(fp8sim.Operand("e4m3", fp8sim.Scaling("row")),) * 2, sums)

    def run():
        operands = quantize_both(a, b, recipe)
        return recipe.accumulator.multiply(*operands), sum_error_bound(*operands, recipe.accumulator)

    for slow, compiled in zip(readable(run), run(), strict=True):
        np.testing.assert_array_equal(slow, compiled)


@pytest.mark.parametrize(
    ("granularity", "rounding"), [*product(["1x128", "tensor", "none"], ["toward-zero", "stochastic"])]
)
def test_quantising_in_other_roundings(granularity, rounding, rng):
    x = rng.standard_normal((30, 300))

    def run():
        draws = np.random.default_rng(7)
        return fp8sim.quantize(x, "e5m2", granularity, rounding=rounding, rng=draws)

    slow, compiled = readable(run), run()
    np.testing.assert_array_equal(slow.bits, compiled.bits)
    np.testing.assert_array_equal(slow.scales, compiled.scales)
    assert (slow.saturated, slow.flushed) == (compiled.saturated, compiled.flushed)


@pytest.mark.parametrize("name", TRAINING_RECIPES)
def test_the_three_products_of_training(name, rng):
    x, w = rng.standard_normal((40, 70), np.float32), rng.standard_normal((60, 70), np.float32)
    dy = rng.standard_normal((40, 60), np.float32)

    def run():
        gemms = LinearGemms(TRAINING_RECIPES[name], np.random.default_rng(3))
        y, saved = gemms.forward(x, w)
        return y, *gemms.backward(dy, saved)

    for slow, compiled in zip(readable(run), run(), strict=True):
        np.testing.assert_array_equal(slow, compiled)
