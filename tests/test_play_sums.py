"""The page's dot product and Amdahl's law: the library's bits, and what the two parts say and do."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fp8sim
from fp8sim import FloatFormat, get_format
from fp8sim._support.typing import F32
from fp8sim.tensor_cores import (
    TENSOR_CORES,
    TensorCore,
    tensor_core_matmul,
    tensor_core_matmul_reference,
)

# --- a thousand dot products ----------------------------------------------------------------------

KINDS = ("normal", "wide", "sparse", "subnormal", "special")


def random_values(fmt: FloatFormat, shape: tuple[int, int], kind: str, rng: np.random.Generator) -> F32:
    """Values of a format: normally distributed, of all exponents, few, subnormal, or with NaN and infinity."""
    if kind == "normal":
        x = rng.standard_normal(shape)
    elif kind == "subnormal":
        x = rng.uniform(-2, 2, shape) * fmt.smallest_normal
    else:
        exponents = rng.integers(fmt.emin - fmt.mantissa_bits - 1, fmt.emax + 1, shape)
        x = np.ldexp(rng.choice([-1.0, 1.0], shape) * rng.uniform(1, 2, shape), exponents)
    if not fmt.signed:
        x = np.abs(x)
    values = fp8sim.round_to(x, fmt, rounding="toward-zero", overflow="saturate")
    if kind == "sparse":
        values = np.where(rng.random(shape) < 0.9, np.copysign(0.0, values), values)
    if kind == "special":
        there = [*[np.nan] * fmt.has_nan, *[np.inf, -np.inf] * fmt.has_inf]
        if there:
            values = np.where(rng.random(shape) < 0.02, rng.choice(np.array(there), shape), values)
    return values.astype(np.float32)


def random_scales(core: TensorCore, shape: tuple[int, int], wide: bool, rng: np.random.Generator) -> F32:
    fmt = get_format(core.scale_format)
    if fmt.mantissa_bits:
        values = np.abs(random_values(fmt, shape, "wide", rng))
    else:
        reach = 127 if wide else 12
        values = np.ldexp(1.0, rng.integers(-reach, reach + 1, shape))
    if wide and fmt.has_nan:
        values = np.where(rng.random(shape) < 0.01, np.nan, values)
    return values.astype(np.float32)


def what_if(rng: np.random.Generator) -> TensorCore:
    """A core that nobody builds: of any law, inputs, width, output, groups and scales that are allowed."""
    names = [name for name, fmt in fp8sim.FORMATS.items() if fmt.signed]
    small = ("e2m1", "e2m3", "e3m2")
    while True:
        law = str(rng.choice(["truncated"] * 5 + ["exact", "pairwise", "rounded-down", "rounded-down"]))
        down, truncated = law == "rounded-down", law == "truncated"
        step = int(rng.choice([2, 4, 8, 16] if law == "pairwise" else [1, 2, 3, 4, 6, 8, 16, 32, 33, 64]))
        scale_format = str(rng.choice(["e8m0", "e4m3", "bf16"])) if truncated and rng.random() < 0.4 else None
        divisors = [size for size in range(1, step + 1) if step % size == 0]
        group = int(rng.choice([0, *divisors])) if scale_format else 0
        if law == "pairwise":
            group = int(rng.choice([0, 2, 4]))
        if down and step % 2 == 0:
            group = int(rng.choice([0, step // 2]))
        try:
            return TensorCore(
                "what if",
                tuple(str(x) for x in rng.choice(small if scale_format and group else names, 2)),
                step=step,
                fraction_bits=int(rng.integers(1, 41)) if truncated or down else 0,
                output=str(rng.choice(["fp32-rz", "e8m13-rz", "fp16-rne"])) if truncated else "fp32-rne",
                exponent_floor=int(rng.choice([-126, -133, rng.integers(-900, 1), rng.integers(-140, -9)])),
                group=group,
                subgroup=int(rng.choice([0, *divisors])) if scale_format and group else 0,
                scale_format=scale_format,
                scale_block=(group or 1) * int(rng.choice([1, 2, 16])) if scale_format else 0,
                law=law,
                sum_bits=int(rng.integers(1, 46)) if down else 0,
            )
        except ValueError:
            continue  # a core that is refused


def cases(count: int) -> list[dict[str, Any]]:
    """Dot products of every named core in turn, and as many of cores that nobody builds."""
    rng = np.random.default_rng(14)
    named = itertools.cycle(TENSOR_CORES.values())
    made = []
    for number in range(count):
        core = next(named) if number % 2 == 0 else what_if(rng)
        k = int(rng.integers(1, 3 * core.step + 2)) if rng.random() < 0.7 else int(rng.integers(1, 300))
        formats = [core.formats[int(rng.integers(len(core.formats)))] for _ in "ab"]
        a, b = (random_values(fmt, (1, k), str(rng.choice(KINDS)), rng) for fmt in formats)
        options: dict[str, Any] = {"a_format": formats[0], "b_format": formats[1]}
        if rng.random() < 0.5:
            options["promote_every"] = core.step * int(rng.integers(1, 4))
        if rng.random() < 0.6:
            start = get_format("fp16" if core.output == "fp16-rne" else "fp32")
            options["c"] = random_values(start, (1, 1), str(rng.choice(KINDS)), rng)
        if core.scale_format:
            blocks, wide = -(-k // core.scale_block), bool(rng.random() < 0.3)
            left, right = (random_scales(core, (1, blocks), wide, rng) for _ in "ab")
            options["scales"] = left, right.T
        made.append({"core": core, "a": a, "b": b.T, "options": options})
    return made


def bits_of(x: F32) -> list[int]:
    return [int(bits) for bits in np.ascontiguousarray(x, np.float32).reshape(-1).view(np.uint32)]


def described(core: TensorCore) -> dict[str, Any]:
    return {**core.rule._asdict(), "c_emin": core.rule.c_emin, "scale_block": core.scale_block}


def as_sent(case: dict[str, Any]) -> dict[str, Any]:
    """A case as plain data: numbers as the bits of float32, so that NaN and -0 arrive."""
    core, options = case["core"], case["options"]
    sides = {}
    for name, x, axis in (("a", case["a"], 0), ("b", case["b"], 1)):
        scales = None
        if core.scale_format:
            scales = bits_of(np.repeat(options["scales"][axis].reshape(-1), core.scale_block)[: x.size])
        emin = options[f"{name}_format"].emin
        sides[name] = {"values": bits_of(x), "emin": emin, "scales": scales}
    return {
        "rule": described(core),
        **sides,
        "c": bits_of(options.get("c", np.zeros((1, 1), np.float32)))[0],
        "promoteEvery": options.get("promote_every") or 0,
    }


#: Runs the cases; answers the bits of the results. Every NaN is the one pattern that tensor cores write.
RUN_CASES = """
const floats = (bits) => bits && Array.from(new Float32Array(new Uint32Array(bits).buffer));
return arguments[0].map(({ rule, a, b, c, promoteEvery }) => {
  const [left, right] = [a, b].map((x) => ({ ...x, values: floats(x.values), scales: floats(x.scales) }));
  const result = fp8sim.sums.chain(rule, left, right, { c: floats([c])[0], promoteEvery });
  if (Object.is(Math.fround(result), result) === false) return "no float32";
  return Number.isNaN(result) ? 0x7fffffff : new Uint32Array(new Float32Array([result]).buffer)[0];
});
"""
