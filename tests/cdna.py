"""AMD's matrix cores: their rules, one output at a time in fractions, an oracle; and cases for it and for mmasim.

The rules are those of MMA-Sim (arXiv 2511.10909v2, tables 6 to 10). Nothing here is shared with fp8sim but the
formats' limits and rounding to them, for the cases. `record_mmasim.py` runs the same cases through the authors'
own program.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fp8sim
from fp8sim._support.typing import F32, AnyArray

NAN, INFINITY = 0x7FFFFFFF, 0x7F800000
LEAST = {"fp16": -14, "bf16": -126, "tf32": -126, "e4m3fnuz": -7, "e5m2fnuz": -15, "fp32": -126}
#: core -> generation and instructions that chain its step, those of one step first
INSTRUCTIONS = {
    "cdna1-fp16": ("CDNA1", "f32_32x32x4f16 f32_32x32x8f16 f32_16x16x16f16"),
    "cdna1-bf16": ("CDNA1", "f32_32x32x2bf16 f32_32x32x4bf16 f32_16x16x8bf16"),
    "cdna2-fp16": ("CDNA2", "f32_32x32x4f16 f32_32x32x8f16 f32_16x16x16f16"),
    "cdna2-bf16": ("CDNA2", "f32_32x32x4bf16_1k f32_32x32x8bf16_1k f32_16x16x16bf16_1k"),
    "cdna2-bf16-k2": ("CDNA2", "f32_32x32x2bf16 f32_32x32x4bf16 f32_16x16x8bf16"),
    "cdna3-fp16": ("CDNA3", "f32_32x32x8_f16 f32_16x16x16_f16"),
    "cdna3-bf16": ("CDNA3", "f32_32x32x8_bf16 f32_16x16x16_bf16"),
    "cdna3-tf32": ("CDNA3", "f32_32x32x4_xf32 f32_16x16x8_xf32"),
    "cdna3-fp16-k4": ("CDNA3", "f32_32x32x4_2b_f16"),
    "cdna3-bf16-k4": ("CDNA3", "f32_32x32x4_2b_bf16"),
    "cdna3-fp8": ("CDNA3", "f32_32x32x16_{}_{} f32_16x16x32_{}_{}"),
}
#: What mmasim wrote, beside what is known of it.
RECORDED = Path(__file__).parent / "data" / "mmasim.json"
KINDS = ("normal", "wide", "cancelling", "tiny", "special")


# The rules


def fp32_word(x: Fraction) -> int:
    """Round to nearest FP32, ties to even; what is below zero keeps its sign, zero is positive."""
    size = abs(x)
    exponent = max(floor_log2(size), -126) if size else -126
    last = Fraction(2) ** (exponent - 23)
    units = round(size / last)  # Python rounds ties to even
    bits = (exponent + 126 << 23) + units  # 2^24 units: the next exponent; below 2^23 at -126: subnormal
    return min(bits, INFINITY) | (0x80000000 if x < 0 else 0)


def floor_log2(x: Fraction) -> int:
    """Return the exponent of x > 0."""
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess - 1 if Fraction(2) ** guess > x else guess


def number(word: int) -> float:
    return float(np.uint32(word).view(np.float32))


def exponent_of(x: float, fmt: str) -> int:
    """Return the exponent as stored: of a subnormal, and of zero, the least of the format."""
    return max(math.frexp(x)[1] - 1, LEAST[fmt]) if x else LEAST[fmt]


def special(products: list[float], c: float) -> int | None:
    """Return the word that NaN and infinity decide, if there are any."""
    found = [*products, c]
    if all(map(math.isfinite, found)):
        return None
    if any(map(math.isnan, found)) or {math.inf, -math.inf} <= set(found):
        return NAN
    return INFINITY if math.inf in found else INFINITY | 0x80000000


def cdna1(a: list[float], b: list[float], c: float) -> int:
    """Round the exact sum once."""
    decided = special([x * y for x, y in zip(a, b, strict=True)], c)
    if decided is not None:
        return decided
    return fp32_word(sum((Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(c)))


def cdna2(a: list[float], b: list[float], c: float, fmt: str) -> int:
    """Round everything, without subnormals."""

    def rounded(exact: float, x: Fraction) -> float:
        """Take what float64 says of zero and what is not finite; else round."""
        value = number(fp32_word(x)) if exact and math.isfinite(exact) else exact
        return math.copysign(0.0, value) if abs(value) < 2.0**-126 else value

    def multiply(x: float, y: float) -> float:
        finite = math.isfinite(x) and math.isfinite(y)
        return rounded(x * y, Fraction(x) * Fraction(y) if finite else Fraction(0))

    def add(x: float, y: float) -> float:
        finite = math.isfinite(x) and math.isfinite(y)
        return rounded(x + y, Fraction(x) + Fraction(y) if finite else Fraction(0))

    def arriving(x: float, of: str) -> float:
        return 0.0 if abs(x) < 2.0 ** LEAST[of] else x

    p = [multiply(arriving(x, fmt), arriving(y, fmt)) for x, y in zip(a, b, strict=True)]
    total = add(p[0], p[1]) if len(p) == 2 else add(add(p[0], p[1]), add(p[2], p[3]))
    result = add(arriving(c, "fp32"), total)
    return NAN if math.isnan(result) else int(np.float32(result).view(np.uint32))


def cdna3(a: list[float], b: list[float], c: float, formats: tuple[str, str], *, apart: bool = False) -> int:
    """Cut products off toward zero, round their sums down, and the whole to nearest."""
    products = [x * y for x, y in zip(a, b, strict=True)]
    products = [math.copysign(math.inf, p) if abs(p) >= 2.0**128 else p for p in products]
    decided = special(products, c)
    if decided is not None:
        return decided
    tops = [
        exponent_of(x, formats[0]) + exponent_of(y, formats[1]) if x * y else None
        for x, y in zip(a, b, strict=True)
    ]
    groups = [slice(0, None, 2), slice(1, None, 2)] if apart else [slice(None)]
    highest = max((t for t in tops if t is not None), default=-999)
    dot = Fraction(0)
    for group in groups:
        top = max((t for t in tops[group] if t is not None), default=-999)
        units = sum(int(Fraction(p) / Fraction(2) ** (top - 24)) for p in products[group])
        dot += down(units * Fraction(2) ** (top - 24), highest - 24)
    joint = max(highest, exponent_of(c, "fp32"))
    carried = down(Fraction(c), joint - 24)
    if apart and exponent_of(c, "fp32") < joint - 25:
        carried = Fraction(0)
    total = down(dot, joint - 32) + carried
    own = max(floor_log2(abs(total)), -126) if total else -126
    return fp32_word(down(total, own - 31))


def down(x: Fraction, last: int) -> Fraction:
    """Round to a multiple of 2^last, toward minus infinity."""
    return math.floor(x / Fraction(2) ** last) * Fraction(2) ** last


def step(core: str, a: list[float], b: list[float], c: float, formats: tuple[str, str]) -> int:
    """Return the word that one step of a core writes."""
    match core.partition("-")[0]:
        case "cdna1":
            return cdna1(a, b, c)
        case "cdna2":
            return cdna2(a, b, c, formats[0])
    return cdna3(a, b, c, formats, apart=core == "cdna3-fp8")


# Cases


class Batch(NamedTuple):
    """A row of A (1, k) by columns of B (k, n), and what they start from."""

    core: str
    formats: tuple[str, str]
    a: F32
    b: F32
    c: F32

    def words(self) -> AnyArray:
        """Return what the oracle says, step after step."""
        size = fp8sim.TENSOR_CORES[self.core].step
        row, words = self.a[0].tolist(), []
        for column, start in zip(self.b.T.tolist(), self.c[0].tolist(), strict=True):
            value = start
            for at in range(0, len(row), size):
                part = slice(at, at + size)
                word = step(self.core, row[part], column[part], value, self.formats)
                value = number(word)
            words.append(word)
        return np.array([words], np.uint32)

    def product(self, core: fp8sim.TensorCore | None = None) -> AnyArray:
        """Return what fp8sim says; of another core, if so asked."""
        options = dict(zip(("a_format", "b_format"), self.formats, strict=True))
        found = fp8sim.tensor_core_matmul(self.a, self.b, core or self.core, c=self.c, **options)
        return found.view(np.uint32)


def one_instruction(name: str, k: int) -> fp8sim.TensorCore:
    """Return the core whose step is an instruction of some k: inside of one, CDNA2 leaves an accumulator of -0."""
    core = fp8sim.TENSOR_CORES[name]
    return dataclasses.replace(core, step=k, group=core.step) if core.law == "pairwise" else core


def differing(batch: Batch, words: AnyArray, k: int) -> AnyArray:
    """Mark words that fp8sim writes otherwise than instructions of some k by mmasim.

    NaN is one for CDNA1 and CDNA2, as mmasim takes its pattern from the CPU it runs on. And it is no difference
    that mmasim's FP8 drops an accumulator of NaN or infinity beside products of 2^25 and more: `dropped`.
    """
    ours = batch.product(one_instruction(batch.core, k))
    nan = np.isnan(words.view(np.float32)) & np.isnan(ours.view(np.float32))
    return np.asarray(
        (ours != words) & ~(nan & (not batch.core.startswith("cdna3"))) & ~dropped(batch, words)
    )


def dropped(batch: Batch, words: AnyArray) -> AnyArray:
    """Mark finite words of mmasim's FP8 where NaN or infinity met large products in a later step."""
    if batch.core != "cdna3-fp8":
        return np.zeros(words.shape, bool)
    with np.errstate(invalid="ignore"):
        products = batch.a.T * batch.b
    lost, seen = np.zeros(words.shape[1], bool), ~np.isfinite(batch.c[0])
    for at in range(0, len(products), 16):
        part = products[at : at + 16]
        lost |= seen & (np.nan_to_num(np.abs(part)).max(axis=0) >= 2.0**25)
        seen |= ~np.isfinite(part).all(axis=0)
    return np.asarray(lost[None] & np.isfinite(words.view(np.float32)))


def draw(core: str, kind: str, k: int, n: int, rng: np.random.Generator) -> Batch:
    """Draw a batch of a kind."""
    formats = [str(x) for x in rng.choice(fp8sim.TENSOR_CORES[core].inputs, 2)]
    a, b = (_values(fmt, s, kind, rng) for fmt, s in zip(formats, ((1, k), (k, n)), strict=True))
    if (
        kind == "cancelling" and k > 1
    ):  # products in twos that nearly cancel, and c that nearly cancels the rest
        half, order = k // 2, rng.permutation(k)
        mirror = rng.random(n) < 0.7
        a[:, order[half : 2 * half]] = a[:, order[:half]]
        b[np.ix_(order[half : 2 * half], mirror)] = -b[np.ix_(order[:half], mirror)]
        b = np.where(rng.random(b.shape) < 0.1, fp8sim.round_to(b * np.float32(1.25), formats[1]), b)
    return Batch(core, (formats[0], formats[1]), a, b, _starts(a, b, kind, rng))


def _values(fmt: str, shape: tuple[int, int], kind: str, rng: np.random.Generator) -> F32:
    form = fp8sim.get_format(fmt)
    low = form.emin - form.mantissa_bits
    match kind:
        case "normal":
            x = rng.standard_normal(shape)
        case "tiny":
            reach = rng.choice([1, 4, 12])
            low = max(low, -140) + (62 if form.emin < -100 and rng.random() < 0.6 else 0)
            x = np.ldexp(
                rng.uniform(-2, 2, shape), rng.integers(low, low + form.mantissa_bits + reach, shape)
            )
        case "wide":
            middle = rng.integers(form.emin, form.emax + 1)
            reach = rng.choice([8, 20, 300])
            x = np.ldexp(rng.uniform(1, 2, shape), middle + rng.integers(-reach, reach + 1, shape))
            x *= rng.choice([-1, 1], shape)
        case _:
            x = np.ldexp(rng.uniform(-2, 2, shape), rng.integers(-6, 7, shape))
    values = fp8sim.round_to(np.clip(x, -form.max, form.max).astype(np.float32), form)
    values = np.where(rng.random(shape) < rng.choice([0, 0.1, 0.5]), np.float32(0), values)
    if form.has_negative_zero:
        values = np.where((values == 0) & (rng.random(shape) < 0.5), np.float32(-0.0), values)
    if kind == "special":
        chosen = [np.nan, *([np.inf, -np.inf] if form.has_inf else []), form.max, -form.max, 0]
        rare = rng.random(shape) < rng.choice([0.01, 0.05, 0.2])
        values = np.where(rare, rng.choice(np.array(chosen, np.float32), shape), values)
    return np.asarray(values, np.float32)


def _starts(a: F32, b: F32, kind: str, rng: np.random.Generator) -> F32:
    """Draw c: zeros, any FP32, of about the exponents that enter, or about minus the sum of the products."""
    n = b.shape[1]
    with np.errstate(all="ignore"):
        left, right = a[0].astype(float), b.astype(float)
        exact, largest = left @ right, np.abs(left[:, None] * right).max(axis=0)
        sizes = np.frexp(np.where(np.isfinite(largest) & (largest > 0), largest, 1))[1]
        near = np.ldexp(rng.uniform(-2, 2, n), sizes + rng.integers(-36, 37, n))
        close = np.ldexp(rng.uniform(-2, 2, n), sizes + rng.integers(-3, 4, n))
        opposite = -exact * (1 + rng.choice([0, 0, 2.0**-23, -(2.0**-22), 2.0**-12], n))
        anything = rng.integers(0, 2**32, n, np.uint32).view(np.float32).astype(float)
        subnormal = rng.integers(0, 2**24, n).astype(np.int32).view(np.float32) * rng.choice([-1.0, 1.0], n)
        zeros = rng.choice([0.0, -0.0], n)
        choices = np.stack([zeros, close, near, opposite, anything, subnormal])
        weights = {"normal": [2, 4, 2, 2, 0, 0], "tiny": [2, 2, 2, 2, 0, 3], "cancelling": [1, 1, 3, 4, 0, 0]}
        odds = np.array(weights.get(kind, [2, 2, 4, 2, 2, 1]), float)
        c = choices[rng.choice(6, n, p=odds / odds.sum()), np.arange(n)].astype(np.float32)
        if kind == "special":
            special = rng.choice(np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, -0.0], np.float32), n)
            return np.where(rng.random((1, n)) < 0.2, special, c)
    return np.where(np.isfinite(c), c, np.float32(1))[None]
