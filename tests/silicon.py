"""What fp8sim says that a Hopper GPU writes: single instructions, products of cuBLAS, casts.

`hardware/record.py` records the words on such a GPU, and `test_silicon.py` replays them on any CPU.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fp8sim
from fp8sim import TENSOR_CORES, FloatFormat, get_format
from fp8sim._support.typing import F32, AnyArray
from fp8sim.reference.rounding import add_to_odd
from fp8sim.tensor_cores import TensorCore, promoted_matmul, tensor_core_matmul

# Single instructions

FORMATS = {"f16": "fp16", "bf16": "bf16", "tf32": "tf32", "e4m3": "e4m3", "e5m2": "e5m2", "f32": "fp32"}
STEP_BYTES = 32  # of k, that every instruction here takes
VECTORS = Path(__file__).parent / "data" / "hopper"


class Instruction(NamedTuple):
    """An instruction by its name, as in "wgmma m64n8k32 f32 e4m3 e5m2": unit, shape, types of D, A and B."""

    unit: str
    shape: str
    accumulator: str
    a: str
    b: str

    @classmethod
    def named(cls, name: str) -> Instruction:
        return cls(*name.split())

    @property
    def formats(self) -> tuple[FloatFormat, FloatFormat, FloatFormat]:
        """The formats of A, B and the accumulators."""
        a, b, c = (get_format(FORMATS[x]) for x in (self.a, self.b, self.accumulator))
        return a, b, c

    @property
    def step(self) -> int:
        """Elements along k."""
        return STEP_BYTES // word_dtype(self.formats[0]).itemsize

    @property
    def core(self) -> TensorCore:
        """The core that has its unit: the one of its formats, with FP32 or FP16 sums."""
        family = "fp8" if self.a in ("e4m3", "e5m2") else FORMATS[self.a]
        return TENSOR_CORES[f"hopper-{family}" + ("-fp16out" if self.accumulator == "f16" else "")]


def word_dtype(fmt: FloatFormat) -> np.dtype[np.unsignedinteger]:
    """Return the words that hold a format in memory: TF32 is in the upper bits of an FP32."""
    return np.dtype(f"u{4 if fmt.bits > 16 else fmt.bits // 8}")


def to_words(codes: AnyArray, fmt: FloatFormat) -> AnyArray:
    """Lay codes out as the instruction reads them."""
    return np.asarray(codes).astype(word_dtype(fmt)) << (13 if fmt.name == "tf32" else 0)


def to_values(words: AnyArray, fmt: FloatFormat) -> F32:
    """Return what words stand for."""
    if words.dtype == np.uint32:
        return words.view(np.float32)
    return fp8sim.decode(words, fmt)


def expect(i: Instruction, a: AnyArray, b: AnyArray, c: AnyArray, core: TensorCore | None = None) -> AnyArray:
    """Return the words of D = A B + C by the model: A (m, k), B transposed (n, k), C (m, n), all in words."""
    fmt_a, fmt_b, fmt_c = i.formats
    left, right, start = to_values(a, fmt_a), to_values(b, fmt_b).T, to_values(c, fmt_c)
    if i.unit == "mma" and fmt_a.bits == 8:
        result = through_fp16(i, left, right, start)
    else:
        options = {"a_format": fmt_a, "b_format": fmt_b}
        result = tensor_core_matmul(left, right, core or i.core, c=start, **options)
    return result.view(np.uint32) if fmt_c.bits == 32 else result.astype(np.float16).view(np.uint16)


def through_fp16(i: Instruction, a: F32, b: F32, c: F32) -> F32:
    """Multiply FP8 as mma.sync of Hopper does: by two FP16 instructions for 32 of k, and c is added last.

    The compiler has no FP8 instruction for it. It unpacks two bytes of four at a time to FP16, so the first
    instruction takes k = 0, 1, 4, 5, ... and the second the rest; then comes a plain addition, in FP32 or FP16.
    """
    core = TENSOR_CORES["hopper-fp16-fp16out" if i.accumulator == "f16" else "hopper-fp16"]
    sums = np.float16 if i.accumulator == "f16" else np.float32
    order = np.argsort(np.arange(i.step) % 4 >= 2, kind="stable")
    total = c.astype(sums)
    with np.errstate(all="ignore"):
        for at in range(0, a.shape[1], i.step):
            total = total + tensor_core_matmul(a[:, at + order], b[at + order], core).astype(sums)
    return np.where(np.isnan(total), np.int32(0x7FFFFFFF).view(np.float32), total.astype(np.float32))


# Products of cuBLAS

#: What a product was, as recorded: how it was called and scaled, formats, shape, k and what it wrote.
Case = dict[str, Any]


def expect_product(case: Case, a: F32, b: F32, a_scale: F32, b_scale: F32) -> AnyArray:
    """Return the words of A (m, k) by B transposed (n, k), times scales, as cuBLAS multiplies."""
    if " " in case["scales"]:
        total = promote_blocks(case, a, b, a_scale, b_scale)
    else:
        total = add_slices(case, a, b)
        if case["scales"] == "tensor":
            total = total * (a_scale * b_scale)
        elif case["scales"] == "row":  # one after the other
            total = (total * b_scale.T) * a_scale
    fmt = get_format(FORMATS[case["out"]])
    return total.view(np.uint32) if fmt.bits == 32 else fp8sim.encode(total, fmt).view(np.uint16)


def add_slices(case: Case, a: F32, b: F32) -> F32:
    """Sum slices of k: each is one chain, or promoted every 128 of k where fast accumulation is off.

    cuBLAS takes one slice, unless the product is too small to fill the GPU otherwise.
    """
    half = case.get("fp16 sums", False)
    core = (
        "hopper-"
        + {"e4m3": "fp8", "e5m2": "fp8", "f16": "fp16"}.get(case["a"], case["a"])
        + "-fp16out" * half
    )
    options = {"a_format": FORMATS[case["a"]], "b_format": FORMATS[case["b"]]}
    if case.get("fast") is False:
        options["promote_every"] = 128
    sums = np.float16 if half else np.float32
    size = case.get("slice", a.shape[1])
    slices = [slice(at, at + size) for at in range(0, a.shape[1], size)]
    chains = (tensor_core_matmul(a[:, part], b[:, part].T, core, **options).astype(sums) for part in slices)
    return functools.reduce(np.add, chains).astype(np.float32)


def promote_blocks(case: Case, a: F32, b: F32, a_scale: F32, b_scale: F32) -> F32:
    """Scale chains over 128 of k as they are promoted."""
    if "128x128" in case["scales"]:  # DeepSeek's recipe
        scales = (np.repeat(s, len(x) // len(s), axis=0) for x, s in ((a, a_scale), (b, b_scale)))
        a_scales, b_scales = (np.ascontiguousarray(s) for s in scales)
        b_scales = np.ascontiguousarray(b_scales.T)
        return promoted_matmul(a, b.T, "hopper-fp8", promote_every=128, a_scales=a_scales, b_scales=b_scales)
    total = np.zeros((len(a), len(b)), np.float32)
    for block in range(a_scale.shape[1]):  # times the scale of A, rounded; then fma with that of B
        part = slice(128 * block, 128 * (block + 1))
        chain = tensor_core_matmul(a[:, part], b[:, part].T, "hopper-fp8")
        scaled = chain * a_scale[:, block, None]
        exact = scaled.astype(np.float64) * b_scale[:, block]
        total = add_to_odd(exact, total.astype(np.float64)).astype(np.float32)
    return total


def scale_shapes(case: Case, m: int, n: int) -> Iterator[tuple[int, int]]:
    """Yield the shapes of the scales of A and of B: with one column, or one per 128 of k."""
    layouts = case["scales"].split() if " " in case["scales"] else [case["scales"]] * 2
    for layout, rows in zip(layouts, (m, n), strict=True):
        blocks = case["k"] // 128
        yield {"row": (rows, 1), "1x128": (rows, blocks), "128x128": (-(-rows // 128), blocks)}.get(
            layout, (1, 1)
        )


# Casts

#: name -> what the model takes for it: torch's own casts on a GPU, and single instructions.
CASTS: dict[str, dict[str, Any]] = {
    "torch float8_e4m3fn": {"fmt": "e4m3", "overflow": "ieee"},
    "torch float8_e5m2": {"fmt": "e5m2", "overflow": "ieee"},
    "torch bfloat16": {"fmt": "bf16"},
    "torch float16": {"fmt": "fp16"},
    "cvt.rn.satfinite.e4m3x2.f32": {"fmt": "e4m3"},
    "cvt.rn.satfinite.e5m2x2.f32": {"fmt": "e5m2"},
    "cvt.rn.tf32.f32": {"fmt": "tf32"},
    "cvt.rna.tf32.f32": {"fmt": "tf32", "rounding": "nearest-away"},
}
BLOCK = 1 << 24  # float32 inputs that are cast at a time: those of one first byte


def expect_cast(name: str, block: int) -> tuple[AnyArray, AnyArray]:
    """Return the words of one block of all float32 inputs, and which of the inputs are NaN."""
    x = np.arange(block * BLOCK, (block + 1) * BLOCK, dtype=np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        codes = fp8sim.encode(x, **CASTS[name])
    fmt = get_format(CASTS[name]["fmt"])
    return to_words(codes.view(fmt.code_dtype), fmt), np.isnan(x)


def digest(words: AnyArray, nan: AnyArray) -> str:
    """Return a digest of words, whatever NaN became."""
    known = np.where(nan, words.dtype.type(0), words) if nan.any() else words
    return hashlib.sha256(known.tobytes()).hexdigest()[:8]
