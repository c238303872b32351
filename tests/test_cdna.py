"""AMD's matrix cores: words that mmasim wrote, replayed; and rules written down apart."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fp8sim
from cdna import INSTRUCTIONS, KINDS, RECORDED, Batch, differing, draw, dropped
from fp8sim import TENSOR_CORES, _kernels
from fp8sim._support.typing import AnyArray
from fp8sim.tensor_cores import tensor_core_matmul_reference

ABOUT = json.loads(RECORDED.read_text())
LENGTHS = ("step", "chain")
WAYS = pytest.mark.parametrize(
    "way", [contextlib.nullcontext, _kernels.readable], ids=["compiled", "readable"]
)


def recorded(core: str, length: str) -> Iterator[tuple[str, Batch, AnyArray]]:
    """Yield what was recorded of a core: kind, case, and the words of mmasim."""
    key = f"{core}/{length}"
    with np.load(RECORDED.with_suffix(".npz")) as file:
        a, b, c, d = (file[f"{key}/{letter}"] for letter in "abcd")
    for i, formats in enumerate(ABOUT["formats"][key]):
        left, right = (fp8sim.decode(x[i], fmt) for x, fmt in zip((a, b), formats, strict=True))
        batch = Batch(core, tuple(formats), left, right, c[i].view(np.float32))
        yield KINDS[i // ABOUT["batches of a kind"]], batch, d[i]


def k_of(core: str, length: str) -> int:
    """Return the k of an instruction whose words were recorded."""
    step = TENSOR_CORES[core].step
    chained = len(INSTRUCTIONS[core][1].split())
    return step if length == "step" else step * 2 ** (chained - 1)


@WAYS
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("core", INSTRUCTIONS)
def test_mmasim_wrote_the_same_words(core: str, length: str, way: Any) -> None:
    with way():
        for kind, batch, words in recorded(core, length):
            assert not differing(batch, words, k_of(core, length)).any(), kind


def test_all_cores_and_kinds_were_recorded_and_the_licence_is_with_them() -> None:
    assert set(INSTRUCTIONS) == {name for name in TENSOR_CORES if name.startswith("cdna")}
    assert ABOUT["mmasim"] == "2.1.1"
    assert ABOUT["kinds"] == list(KINDS)
    assert "MIT License. Copyright (c) Microsoft Corporation." in ABOUT["licence"]
    outputs = [words for core in INSTRUCTIONS for length in LENGTHS for _, _, words in recorded(core, length)]
    assert len(outputs) == len(INSTRUCTIONS) * len(LENGTHS) * len(KINDS) * ABOUT["batches of a kind"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("core", INSTRUCTIONS)
def test_no_word_differs_from_the_published_rules(core: str, kind: str) -> None:
    rng = np.random.default_rng([7, KINDS.index(kind)])
    for steps in (1, 3):
        batch = draw(core, kind, steps * TENSOR_CORES[core].step, 64, rng)
        expected = batch.words()
        for way in (contextlib.nullcontext, _kernels.readable):
            with way():
                assert_array_equal(batch.product(), expected)


@pytest.mark.parametrize(
    ("core", "change"),
    [
        ("cdna1-fp16", {"step": 8}),
        ("cdna1-bf16", {"step": 4}),
        ("cdna2-fp16", {"step": 2}),
        ("cdna2-bf16", {"law": "exact"}),
        ("cdna2-bf16-k2", {"step": 4}),
        ("cdna3-fp16", {"step": 4}),
        ("cdna3-fp16", {"fraction_bits": 23}),
        ("cdna3-fp16", {"fraction_bits": 25}),
        ("cdna3-bf16", {"sum_bits": 30}),
        ("cdna3-tf32", {"group": 2}),
        ("cdna3-bf16", {"exponent_floor": -120}),
        ("cdna3-fp16-k4", {"step": 8}),
        ("cdna3-bf16-k4", {"law": "exact", "fraction_bits": 0, "sum_bits": 0}),
        ("cdna3-fp8", {"group": 0}),
        ("cdna3-fp8", {"sum_bits": 29}),
        ("cdna3-fp8", {"fraction_bits": 23}),
    ],
    ids=str,
)
def test_a_wrong_rule_would_be_seen(core: str, change: dict[str, Any]) -> None:
    wrong = dataclasses.replace(TENSOR_CORES[core], **change)
    words = [pair for length in LENGTHS for _, *pair in recorded(core, length)]
    assert sum(int((batch.product(wrong) != batch.product()).sum()) for batch, _ in words)
    assert sum(int((batch.product(wrong) != d).sum()) for batch, d in words)


# Corners


def one(core: Any, terms: list[tuple[float, float]], c: float = 0.0) -> float:
    """Return one output, the same both ways."""
    a, b = np.array([[x for x, _ in terms]], np.float32), np.array([[y] for _, y in terms], np.float32)
    found = []
    for way in (contextlib.nullcontext, _kernels.readable):
        with way():
            found.append(fp8sim.tensor_core_matmul(a, b, core, c=[[c]]))
    assert_array_equal(found[0].view(np.uint32), found[1].view(np.uint32))
    return float(found[0][0, 0])


def test_cdna1_rounds_once_and_keeps_the_sign_of_what_is_too_small() -> None:
    assert one("cdna1-fp16", [(2.0**-12, 2.0**-12), (2.0**-24, 2.0**-24)], 1.0) == 1 + 2.0**-23
    tiny = one("cdna1-bf16", [(-(2.0**-80), 2.0**-80)])
    assert tiny == 0
    assert np.signbit(tiny)
    assert not np.signbit(one("cdna1-bf16", [(-0.0, 1.0)], -0.0))
    assert one("cdna1-bf16", [(2.0**100, 2.0**100), (-(2.0**100), 2.0**100)], 3.0) == 3.0


def test_cdna2_has_no_subnormals() -> None:
    assert one("cdna2-fp16", [(2.0**-15, 1.0)]) == 0
    assert one("cdna2-fp16", [(0.0, 1.0)], 2.0**-127) == 0
    assert one("cdna2-bf16", [(2.0**-64, 2.0**-63)], 1.0) == 1
    lost = one("cdna2-bf16", [(-1.5 * 2.0**-63, 2.0**-63)], 2.0**-126)
    assert lost == 0
    assert np.signbit(lost)
    assert (
        one("cdna2-bf16", [(2.0**100, 2.0**100), (-(2.0**100), 2.0**100)]) != 0
    )  # NaN: each product is rounded


def test_an_accumulator_of_minus_zero_stays_within_an_instruction_of_cdna2() -> None:
    terms = [(-1.5 * 2.0**-63, 2.0**-63), (0, 0), (0, 0), (0, 0), *[(-0.0, 1.0)] * 4]
    terms = [*terms[:4], *[(-(2.0**-80), 2.0**-80)] * 4]
    longer = dataclasses.replace(TENSOR_CORES["cdna2-bf16"], step=8, group=4)
    assert not np.signbit(one("cdna2-bf16", terms, 2.0**-126))
    assert np.signbit(one(longer, terms, 2.0**-126))


def test_cdna3_rounds_down() -> None:
    assert one("cdna3-fp16", [(2.0**10, 2.0**14), (-(2.0**-1), 2.0**-1)]) == 2.0**24  # cut off toward zero
    assert one("cdna3-fp16", [(2.0**10, 2.0**14)], -(2.0**-9)) == 2.0**24 - 1  # down, and to nearest
    half = [(2.0**-12, 2.0**-12), (2.0**-16, 2.0**-16)]  # of the last place of 1, and a little more
    assert one("cdna3-bf16", half, 1.0) == 1.0  # which is 2^-32
    finer = dataclasses.replace(TENSOR_CORES["cdna3-bf16"], sum_bits=32)
    assert one(finer, half, 1.0) == 1 + 2.0**-23
    # a product of 2^128 is infinite
    assert np.isnan(one("cdna3-bf16", [(2.0**64, 2.0**64)], -np.inf))


def test_cdna3_fp8_drops_a_small_accumulator_but_no_infinity() -> None:
    large = [(2.0**13, 2.0**11), (0, 0), (-1.0, 1.0)]
    assert one("cdna3-fp8", large, -(2.0**-9)) == one("cdna3-fp8", large)
    assert one("cdna3-bf16", large, -(2.0**-9)) != one("cdna3-fp8", large, -(2.0**-9))
    assert one("cdna3-fp8", [(2.0**14, 2.0**14)], np.inf) == np.inf
    assert np.isnan(one("cdna3-fp8", [(2.0**14, 2.0**14)], np.nan))


def test_what_mmasim_drops_is_no_word_of_another_core() -> None:
    counts = {
        core: sum(
            int(dropped(batch, d).sum()) for length in LENGTHS for _, batch, d in recorded(core, length)
        )
        for core in INSTRUCTIONS
    }
    assert sum(counts.values()) == counts["cdna3-fp8"]


@pytest.mark.parametrize("core", INSTRUCTIONS)
def test_codes_under_scales_are_multiplied_as_their_values(core: str) -> None:
    rng = np.random.default_rng(0)
    fmt = TENSOR_CORES[core].inputs[0]
    a, b = rng.standard_normal((5, 70)), rng.standard_normal((70, 6))
    for scaling in ("none", "row", "tensor")[: 1 if fmt in ("bf16", "tf32") else 3]:  # scaled, these overflow
        operand = fp8sim.Operand(fmt, fp8sim.Scaling(scaling))
        recipe = fp8sim.Recipe("mine", operand, operand, core)
        with _kernels.readable():
            expected = fp8sim.matmul(a, b, recipe)
        assert_array_equal(fp8sim.matmul(a, b, recipe), expected)
        assert fp8sim.metrics.relative_error(expected, a @ b) < 0.1


@pytest.mark.parametrize("core", INSTRUCTIONS)
def test_padding_by_zeros_changes_nothing_but_the_sign_of_zero(core: str) -> None:
    step = TENSOR_CORES[core].step
    batch = draw(core, "normal", step + 1, 64, np.random.default_rng(3))
    padded = Batch(
        core,
        batch.formats,
        np.pad(batch.a, ((0, 0), (0, step - 1))),
        np.pad(batch.b, ((0, step - 1), (0, 0))),
        batch.c,
    )
    assert_array_equal(batch.product(), padded.product())


def test_impossible_combinations_are_refused() -> None:
    first, second, third = (TENSOR_CORES[name] for name in ("cdna1-fp16", "cdna2-fp16", "cdna3-fp16"))
    for core, change, message in (
        (
            first,
            {"fraction_bits": 24},
            "law 'exact' takes fraction_bits=0, as it cuts off no product, got 24",
        ),
        (first, {"law": "truncated"}, "law 'truncated' takes fraction_bits=1 and more, got 0"),
        (first, {"output": "fp32-rz"}, "law 'exact' takes output='fp32-rne', got 'fp32-rz'"),
        (first, {"group": 2}, "law 'exact' takes group=0, got 2"),
        (first, {"sum_bits": 31}, "law 'exact' takes sum_bits=0"),
        (second, {"step": 3}, "takes a step of 2 or 4, or of groups of so many; got a step of 3"),
        (second, {"scale_format": "e8m0", "scale_block": 32}, "takes no block scales and no subgroups"),
        (third, {"sum_bits": 0}, "law 'rounded-down' takes sum_bits=1 and more, got 0"),
        (third, {"group": 2}, "takes group=0 or half of the step, 4; got 2"),
        (third, {"sum_bits": 50}, "needs sums of 57 bits"),
        (
            TENSOR_CORES["hopper-fp16"],
            {"output": "fp32-rne"},
            "'truncated' takes one that is truncated, or FP16",
        ),
        (third, {"law": "rounded"}, "unknown law 'rounded'; did you mean 'rounded-down'"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(core, **change)


@pytest.mark.parametrize(("core", "promote"), [*itertools.product(INSTRUCTIONS, (False, True))])
def test_errors_of_sums_stay_below_their_bound(core: str, promote: bool) -> None:
    from fp8sim.accumulators import get_accumulator, sum_error_bound
    from fp8sim.gemm import quantize_both

    form = TENSOR_CORES[core]
    sums = get_accumulator(f"{core}/{4 * form.step}" if promote else core)
    rng = np.random.default_rng(11)
    for spread in (0, 3, 9):
        for make in (rng.standard_normal, rng.random):
            a = make((6, 600)) * 2.0 ** rng.integers(-spread, spread + 1, (6, 600))
            b = make((600, 7)) * 2.0 ** rng.integers(-spread, spread + 1, (600, 1))
            operand = fp8sim.Operand(form.inputs[0], fp8sim.Scaling("row" if "fp8" in core else "none"))
            left, right = quantize_both(a, b, fp8sim.Recipe("mine", operand, operand, sums))
            exact = left.dequantize(np.float64) @ right.dequantize(np.float64)
            error = np.abs(sums.multiply(left, right) - exact)
            bound = sum_error_bound(left, right, sums)
            assert (error <= bound + 1e-13 * np.abs(exact).max()).all()
            if make == rng.random and spread == 0:  # no idle bound
                assert np.median(bound) < 1000 * np.median(error)


@pytest.mark.parametrize("core", [core for core in TENSOR_CORES if core.startswith("cdna")])
def test_without_a_product_the_accumulator_is_left_as_it_is(core: str) -> None:
    c = np.float32([[2.0**-140, -0.0, np.inf]])
    a, b = np.zeros((1, 0)), np.zeros((0, 3))
    for way in (fp8sim.tensor_core_matmul, tensor_core_matmul_reference):
        assert way(a, b, core, c=c).tobytes() == c.tobytes()
