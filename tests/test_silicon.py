"""Words that an H100 wrote, replayed: instructions, products of cuBLAS, casts of all float32."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fp8sim
from fp8sim import TENSOR_CORES, _kernels
from fp8sim._support.typing import AnyArray
from fp8sim.accumulators import TensorCoreSum
from fp8sim.quantization import Quantized, Scaling
from silicon import (
    CASTS,
    FORMATS,
    VECTORS,
    Case,
    Instruction,
    digest,
    expect,
    expect_cast,
    expect_product,
    scale_shapes,
)

RECORDING = json.loads((VECTORS / "recording.json").read_text())
NAMES = list(RECORDING["instructions"])
WGMMA = [name for name in NAMES if name.startswith("wgmma")]


def recorded(name: str) -> Iterator[tuple[str, list[AnyArray]]]:
    """Yield what was recorded of an instruction: kind of case; words of A, B transposed, C and D."""
    with np.load(VECTORS / "instructions.npz") as file:
        words = [file[f"{name}/{letter}"] for letter in "abcd"]
    yield from zip(RECORDING["kinds"], zip(*words, strict=True), strict=True)


def differing(name: str, **change: object) -> int:
    """Count the words that a core with a fault would have written otherwise."""
    i = Instruction.named(name)
    core = dataclasses.replace(i.core, **change)
    return sum(int((expect(i, a, b, c, core) != d).sum()) for _, (a, b, c, d) in recorded(name))


# Instructions


@pytest.mark.parametrize("way", [contextlib.nullcontext, _kernels.readable], ids=["compiled", "readable"])
@pytest.mark.parametrize("name", NAMES)
def test_an_instruction_writes_what_was_recorded(name: str, way: type) -> None:
    with way():
        for kind, (a, b, c, d) in recorded(name):
            assert_array_equal(expect(Instruction.named(name), a, b, c), d, err_msg=kind)


def test_every_hopper_core_was_recorded() -> None:
    cores = {Instruction.named(name).core.name for name in WGMMA}
    assert cores == {name for name in TENSOR_CORES if name.startswith("hopper-")}


def test_no_dot_product_that_was_compared_differed() -> None:
    for name, row in RECORDING["instructions"].items():
        assert row["dots of a kind"] >= 1_000_000
        for steps in ("alone", "4 along k"):
            assert row[steps] == dict.fromkeys(RECORDING["kinds"], 0), name


@pytest.mark.parametrize("name", WGMMA)
@pytest.mark.parametrize("bits", [-1, 1], ids=["a bit less", "a bit more"])
def test_a_wrong_number_of_fraction_bits_would_be_seen(name: str, bits: int) -> None:
    assert differing(name, fraction_bits=Instruction.named(name).core.fraction_bits + bits)


@pytest.mark.parametrize("name", WGMMA)
def test_a_wrong_step_would_be_seen(name: str) -> None:
    assert differing(name, step=Instruction.named(name).step // 2)


@pytest.mark.parametrize("name", ["wgmma m64n8k32 f32 e4m3 e4m3", "wgmma m64n8k16 f32 bf16 bf16"])
def test_a_wrong_output_would_be_seen(name: str) -> None:
    other = "fp32-rz" if Instruction.named(name).core.output == "e8m13-rz" else "e8m13-rz"
    assert differing(name, output=other)


@pytest.mark.parametrize(
    "name", ["wgmma m64n8k16 f32 bf16 bf16", "wgmma m64n8k8 f32 tf32 tf32", "wgmma m64n8k16 f16 f16 f16"]
)
@pytest.mark.parametrize("off", [-1, 1])
def test_a_wrong_floor_would_be_seen(name: str, off: int) -> None:
    assert differing(name, exponent_floor=Instruction.named(name).core.exponent_floor + off)


def test_mma_sync_multiplies_fp8_by_another_law_than_wgmma() -> None:
    name = "e4m3 e4m3"
    other = Instruction.named(f"wgmma m64n8k32 f32 {name}")
    assert any(
        (expect(other, a, b, c) != d).any() for _, (a, b, c, d) in recorded(f"mma m16n8k32 f32 {name}")
    )


# Products


def recorded_products() -> list[tuple[Case, list[AnyArray], AnyArray]]:
    """Return what was multiplied: how, values of A, B and their scales, and the words of a corner."""
    with np.load(VECTORS / "products.npz") as file:
        arrays = dict(file)
    scales, found = arrays["scales"], []
    for case, d in zip([c for c in RECORDING["products"] if c["written"]], arrays["d"], strict=True):
        inputs = []
        for letter in "ab":  # TF32 was multiplied from the values of BF16
            name = {"tf32": "bf16"}.get(case[letter], case[letter])
            inputs.append(fp8sim.decode(arrays[f"{name}/{letter}"][:, : case["k"]], FORMATS[name]))
        for shape in scale_shapes(case, *d.shape):
            size = int(np.prod(shape)) if case["scales"] != "1" else 0
            inputs.append(scales[:size].reshape(shape) if size else np.ones(shape, np.float32))
            scales = scales[size:]
        found.append((case, inputs, d))
    assert not scales.size
    return found


def test_products_of_cublas_are_what_was_recorded() -> None:
    for case, inputs, d in recorded_products():
        assert_array_equal(expect_product(case, *inputs), d, err_msg=str(case))


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        ({"fast": True}, {"fast": False, "scales": "1"}),
        ({"fast": False}, {"fast": True, "scales": "1"}),
        ({"scales": "row"}, {"scales": "tensor"}),
        ({"scales": "1x128 1x128"}, {"scales": "1x128 128x128"}),
        ({"slice": 1024}, {"slice": 64}),
    ],
    ids=["never promoted", "promoted", "scale after scale", "scale after scale of blocks", "one slice"],
)
def test_a_wrong_law_of_products_would_be_seen(fault: Case, where: Case) -> None:
    affected = [x for x in recorded_products() if where.items() <= x[0].items() and x[0]["k"] == 1024]
    assert affected
    for case, inputs, d in affected:
        if case["out"] == "f32":
            assert (expect_product({**case, **fault}, *inputs) != d).any()


@pytest.mark.parametrize("scales", ["tensor", "row", "1x128 128x128"])
def test_scaled_operands_multiply_as_cublas_multiplies_them(scales: str) -> None:
    """The products of recipes: `fp8-tensor`, `fp8-row` and `deepseek-v3` on this core."""
    found = [x for x in recorded_products() if x[0]["scales"] == scales and x[0]["out"] == "f32"]
    assert len(found) >= 3
    for case, (a, b, a_scale, b_scale), d in found:
        a_scaling, b_scaling = (Scaling(name) for name in (scales.split() * 2)[:2])
        a_fmt, b_fmt = (fp8sim.get_format(case[letter]) for letter in "ab")
        one, nothing = np.float32(1), (0, 0)
        left = Quantized(fp8sim.encode(a, a_fmt), a_scale, a_fmt, a_scaling, 1, a_scale, one, *nothing)
        b_codes = fp8sim.encode(np.ascontiguousarray(b.T), b_fmt)
        b_scale = np.ascontiguousarray(b_scale.T)
        right = Quantized(b_codes, b_scale, b_fmt, b_scaling, 0, b_scale, one, *nothing)
        sums = TensorCoreSum("hopper-fp8", promote_every=None if case["fast"] else 128)
        assert_array_equal(sums.multiply(left, right).view(np.uint32), d, err_msg=str(case))


def test_no_product_that_was_compared_differed() -> None:
    assert len(RECORDING["products"]) >= 250
    assert not [case for case in RECORDING["products"] if case["differ"]]


# Casts


@pytest.mark.parametrize("name", CASTS)
def test_casts_of_whole_blocks_of_float32_are_what_was_recorded(name: str) -> None:
    row = RECORDING["casts"][name]
    # Subnormal E4M3; around the largest E4M3, E5M2 and FP16, and BF16; subnormal FP16 below zero.
    for block in (0x3B, 0x43, 0x47, 0x7F, 0xB8):
        assert digest(*expect_cast(name, block)) == row["digests"][block], f"0x{block:02x}"


def test_all_float32_were_cast_and_none_differed() -> None:
    nan = 2 * (2**23 - 1)
    for row in RECORDING["casts"].values():
        assert (row["inputs"], row["differ"]) == (2**32 - nan, 0)


def test_a_wrong_cast_would_be_seen() -> None:
    words, nan = expect_cast("torch float8_e4m3fn", 0x43)
    words[12345] ^= 1
    assert digest(words, nan) != RECORDING["casts"]["torch float8_e4m3fn"]["digests"][0x43]
    saturated = RECORDING["casts"]["cvt.rn.satfinite.e4m3x2.f32"]["digests"][0x43]
    assert saturated != RECORDING["casts"]["torch float8_e4m3fn"]["digests"][0x43]
