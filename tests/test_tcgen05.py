"""Words that a B200 wrote, replayed, and its block-scaled instructions against rules written down apart."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fp8sim
from fp8sim import TENSOR_CORES, _kernels
from fp8sim._support.typing import F32
from fp8sim.tensor_cores import TensorCore, tensor_core_matmul
from tcgen05 import CORES, Batch, draw

#: Recorded by the authors of sf-tensor/tcgen05, whose licence (MIT) is in the file.
RECORDED = json.loads((Path(__file__).parent / "data" / "b200.json").read_text())
WAYS = pytest.mark.parametrize(
    "way", [contextlib.nullcontext, _kernels.readable], ids=["compiled", "readable"]
)
#: The least last place. MODEL.md drops groups of MXFP4 that are below 2^-174, which is where all of them end with
#: mmasim 2.1.1; of MXFP8 it says nothing, whose sums end at 2^-158 with mmasim, as an H100's do. Both are seen
#: only where c is 0 and all products are tiny. NVFP4's are never so small.
FLOORS = {"mxf8f6f4": -158, "mxf4": -174, "nvfp4": -174}
HOW = ("random", "cancelling", "special", "edge")


def values(words: str, name: str) -> F32:
    codes, fmt = np.array([int(word, 16) for word in words.split()], np.uint32), fp8sim.get_format(name)
    return codes.view(np.float32) if name == "tf32" else fp8sim.decode(codes.astype(fmt.code_dtype), fmt)


@WAYS
@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["name"])
def test_a_b200_wrote_the_same_word(case: dict[str, str], way: Any) -> None:
    fmt = case["format"]
    options: dict[str, Any] = {"a_format": fmt, "b_format": fmt}
    if "scales_a" in case:
        a_scales, b_scales = (values(case[f"scales_{side}"], case["scale_format"]) for side in "ab")
        options["scales"] = a_scales[None], b_scales[:, None]
    c = np.array([[int(case["c"], 16)]], np.uint32).view(np.float32)
    with way():
        d = tensor_core_matmul(
            values(case["a"], fmt)[None], values(case["b"], fmt)[:, None], case["core"], c=c, **options
        )
    assert f"{d.view(np.uint32)[0, 0]:08x}" == case["d"]


def test_45_words_were_recorded_and_their_licence_is_with_them() -> None:
    assert len(RECORDED["cases"]) == 45
    assert RECORDED["licence"].startswith("MIT License. Copyright (c) 2026 San Francisco Tensor Company.")
    assert {case["core"] for case in RECORDED["cases"]} >= set(CORES.values())


def batches(kind: str, how: str, count: int, seed: int = 0) -> list[Batch]:
    rng = np.random.default_rng([seed, [*CORES].index(kind), HOW.index(how)])
    return [draw(kind, how, 64, rng) for _ in range(count)]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", CORES)
def test_no_word_differs_from_the_rules_of_tcgen05(kind: str, how: str) -> None:
    """2,560 of each, so 10,240 of each kind."""
    for i, batch in enumerate(batches(kind, how, 40)):
        expected = batch.words(FLOORS[kind])
        for way in (contextlib.nullcontext, _kernels.readable):
            with way():
                assert_array_equal(batch.product(), expected, err_msg=f"batch {i}, {batch.formats}")


def differing(kind: str, how: str, core: TensorCore, count: int = 40) -> int:
    """Count words that a core with a fault would write otherwise."""
    return sum(
        int((batch.product(core) != batch.words(FLOORS[kind])).sum()) for batch in batches(kind, how, count)
    )


@pytest.mark.parametrize(
    ("kind", "how", "change"),
    [
        ("nvfp4", "edge", {"subgroup": 0}),
        ("nvfp4", "edge", {"subgroup": 16}),
        ("nvfp4", "edge", {"subgroup": 2}),
        ("nvfp4", "edge", {"group": 8}),
        ("nvfp4", "cancelling", {"fraction_bits": 34}),
        ("mxf4", "cancelling", {"fraction_bits": 34}),
        ("mxf4", "cancelling", {"group": 8}),
        ("mxf4", "edge", {"exponent_floor": -138}),
        ("mxf4", "edge", {"exponent_floor": -140}),
        ("mxf8f6f4", "random", {"fraction_bits": 26}),
        ("mxf8f6f4", "edge", {"exponent_floor": -132}),
        ("mxf8f6f4", "edge", {"exponent_floor": -134}),
    ],
    ids=str,
)
def test_a_wrong_rule_would_be_seen(kind: str, how: str, change: dict[str, int]) -> None:
    assert differing(kind, how, dataclasses.replace(TENSOR_CORES[CORES[kind]], **change))


@WAYS
@pytest.mark.parametrize("name", ["blackwell-mxfp4", "blackwell-nvfp4"])
def test_a_group_that_cancels_is_aligned_to_and_one_of_zeros_is_not(name: str, way: Any) -> None:
    core = TENSOR_CORES[name]
    blocks = 64 // core.scale_block
    a, b = np.zeros((1, 64)), np.zeros((64, 1))
    a[0, -1] = b[-1, 0] = 1.0
    b_scales, c = np.ones((blocks, 1)), [[2.0**-20]]
    a_scales = np.where(np.arange(blocks) == 0, 256.0, 2.0**-9)[None]
    with way():
        zeros = tensor_core_matmul(a, b, core, c=c, scales=(a_scales, b_scales))
        a[0, :2], b[:2, 0] = 1.0, [1.0, -1.0]
        c = [[2.0**-20 + 2.0**-30]]
        cancelled = tensor_core_matmul(a, b, core, c=c, scales=(a_scales, b_scales))
    assert zeros[0, 0] == 2.0**-9 + 2.0**-20
    assert cancelled[0, 0] == 2.0**-9 + 2.0**-20  # beside 256 the last place kept is 2^-27
