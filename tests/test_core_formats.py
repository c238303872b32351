"""Every format on every core under every accumulator: codes are multiplied as the values they stand for."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fp8sim
from fp8sim import FORMATS, TENSOR_CORES, FloatFormat, Operand, Recipe, Scaling
from fp8sim._support.typing import F32
from fp8sim.accumulators import OneChain, TensorCoreSum
from fp8sim.accumulators.base import Accumulator
from fp8sim.gemm import quantize_both
from fp8sim.tensor_cores import TensorCore, tensor_core_matmul_reference

OWN = [
    FloatFormat("e5m6-mine", 5, 6),
    FloatFormat("e4m7-fnuz", 4, 7, specials="fnuz"),
    FloatFormat("e6m9-flushed", 6, 9, subnormals=False),
    FloatFormat("e8m14", 8, 14),
    FloatFormat("e2m2", 2, 2, specials="none"),
]
FORMATS_OF_CORES = [fmt for fmt in FORMATS.values() if fmt.signed and not fmt.twos_complement] + OWN


def pairs(*, scaled: bool) -> dict[str, tuple[TensorCore, FloatFormat]]:
    """Pair every format with one core of each rule; one of its own where no such core has the format."""
    found = {}
    for core in TENSOR_CORES.values():
        for fmt in FORMATS_OF_CORES if bool(core.scale_format) == scaled else ():
            if (core.rule, fmt) not in found:
                with contextlib.suppress(ValueError):  # groups of wide formats have too many bits
                    mine = dataclasses.replace(core, name="mine", inputs=(fmt,))
                    found[core.rule, fmt] = core if fmt in core.formats else mine
    return {f"{fmt} on {core} {rule.step}": (core, fmt) for (rule, fmt), core in found.items()}


PLAIN, SCALED = pairs(scaled=False), pairs(scaled=True)


def matmul(fmt: FloatFormat, scaling: Scaling | None, accumulator: Accumulator) -> tuple[F32, Any, Any]:
    """Multiply, and return the operands too, as they were quantised."""
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((3, 75), np.float32), rng.standard_normal((75, 5), np.float32)
    a[0, 0] = b[3, 3] = 0
    a[1] *= 2.0**-8
    operand = Operand(fmt) if scaling is None else Operand(fmt, scaling)
    recipe = Recipe("mine", operand, operand, accumulator)
    return fp8sim.matmul(a, b, recipe), *quantize_both(a, b, recipe)


def expected(a: Any, b: Any, core: TensorCore, **options: Any) -> F32:
    """Multiply the values of codes, step by step."""
    left, right = (fp8sim.decode(x.codes, x.fmt) for x in (a, b))
    formats = {"a_format": a.fmt, "b_format": b.fmt}
    return tensor_core_matmul_reference(left, right, core, **formats, **options)


@pytest.mark.parametrize(("core", "fmt"), PLAIN.values(), ids=PLAIN)
def test_a_product_is_that_of_the_values_step_by_step(core: TensorCore, fmt: FloatFormat) -> None:
    every = 2 * core.step
    for accumulator, options in (
        (TensorCoreSum(core), {}),
        (TensorCoreSum(core, every), {"promote_every": every}),
        (OneChain(core), {}),
    ):
        plain, a, b = matmul(fmt, None, accumulator)
        assert_array_equal(plain, expected(a, b, core, **options))
        by_row, a, b = matmul(fmt, Scaling("row"), accumulator)
        with np.errstate(all="ignore"):
            assert_array_equal(by_row, expected(a, b, core, **options) * b.scales * a.scales)
    blocks, a, b = matmul(fmt, Scaling(f"1x{every}"), TensorCoreSum(core))
    assert_array_equal(blocks, expected(a, b, core, promote_every=every, promotion=(a.scales, b.scales)))


@pytest.mark.parametrize(("core", "fmt"), SCALED.values(), ids=SCALED)
def test_scales_inside_go_with_the_values(core: TensorCore, fmt: FloatFormat) -> None:
    assert core.scale_format is not None
    scaling = Scaling(f"1x{core.scale_block}", core.scale_format)
    for every in (None, core.step):
        found, a, b = matmul(fmt, scaling, TensorCoreSum(core, every))
        scales = tuple(fp8sim.decode(x.scale_codes, core.scale_format) for x in (a, b))
        with np.errstate(all="ignore"):
            sums = expected(a, b, core, scales=scales, promote_every=every)
            assert_array_equal(found, sums * np.float32(a.tensor_scale * b.tensor_scale))


def test_every_format_was_paired() -> None:
    assert {fmt for _, fmt in PLAIN.values()} == {fmt for _, fmt in SCALED.values()} == set(FORMATS_OF_CORES)


def test_the_ones_of_every_format_multiply_to_their_number() -> None:
    for fmt in FORMATS_OF_CORES:
        core = dataclasses.replace(TENSOR_CORES["hopper-bf16"], name="mine", inputs=(fmt,))
        for accumulator in (TensorCoreSum(core), TensorCoreSum(core, 32), OneChain(core)):
            recipe = Recipe("mine", Operand(fmt), Operand(fmt), accumulator)
            assert fp8sim.matmul(np.ones((1, 32)), np.ones((32, 1)), recipe) == 32  # not of codes
