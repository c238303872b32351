"""Kernels: products on tensor cores, 64 columns at a time, and the fused step whose terms are truncated.

That step has two versions with the same results:

narrow
    float32 products and int32 sums; the operands must be finite and leave room for both.
wide
    float64 throughout; takes all there is: NaN, infinity, float32 subnormals, overflow, block scales.

The steps of the other laws are in `rounded_steps`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fp8sim._kernels._jit import intrinsic, jit
from fp8sim._kernels.lanes import (
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    WIDTH,
    Array,
    Lanes,
    Writer,
    power_of_two,
    round_to_bits,
)
from fp8sim._kernels.packed_steps import (
    ABSENT,
    NO_PRODUCT_NARROW,
    NO_PRODUCT_WIDE,
    RANK_BITS,
    RANKS,
    SCALE_BIAS,
    define_steps,
    exponent_of,
    pack_columns,
    pack_rows,
)
from fp8sim._kernels.rounded_steps import NARROW_FLOOR, run_rounded_steps

__all__ = ["NARROW_FLOOR", "WIDTH", "Plan", "RoundedPlan", "multiply_block"]


class Plan(NamedTuple):
    """What a product asks of the kernel: plain numbers, the same for all blocks of it."""

    law: int  # which of LAWS
    step: int  # products per fused step
    part: int  # products that are summed at once: as int32, or as a group before alignment
    subpart: int  # ranked: products that are a group where one outranks the accumulator
    slab: int  # k packed at a time
    fraction_bits: int  # kept below the alignment exponent
    out_bits: int  # fraction bits of the output
    floor: int  # least alignment exponent; narrow: NARROW_FLOOR at least
    c_emin: int  # exponent of a subnormal accumulator
    a_emin: int
    b_emin: int
    a_top: int  # narrow: int8 exponents are relative to the largest
    b_top: int
    scale_block: int  # k that share one scale inside the step (MX, NVFP4); 0: no such scales
    narrow: bool  # computed in float32 and int32, which hold all that enters; else in float64
    light: (
        bool  # truncated: every aligned sum is below 2^24, so float32 holds it; exact: two float64 hold the
    )
    # sum; pairwise: nothing can become subnormal
    grouped: bool  # groups of `part` products are summed exactly before they are aligned
    ranked: bool  # grouped: whether a product outranks the accumulator can change a bit
    fp16: bool  # the output is rounded to nearest FP16, not truncated to FP32
    promote: int  # k of a chain, which is then added in FP32; 0: one chain for all of k
    scaled: bool  # a chain is multiplied by two FP32 scales as it is added
    apart: bool  # rounded down: every second product is summed apart
    sum_bits: int  # rounded down: fraction bits of the sum
    sum_top: int  # exact and light: no sum reaches two to it
    finite: bool  # no sum can be NaN


class RoundedPlan(Plan):
    """The same of a core that rounds to nearest FP32: another type, so that its steps alone are compiled."""

    rounded = True


@jit
def multiply_block(plan: Any, a: Any, b: Any, scales: Any, promotion: Any, scratch: Any) -> None:
    """Go on with the sums of a block of the product by a window of k: some rows of A, some columns of B.

    `scales` are (values, exponents) of the block scales, for A and for B; `promotion` the FP32 scales of A
    and of B for whole chains. `scratch` has room for a slab of A and of B, as values and exponents of the
    types to compute in: float32 and int8 (narrow), or float64 and int16 (wide); and for the chains, the
    totals that they are promoted to, and one row of scales, in whole vectors.
    """
    packed, sums, b_scales = scratch
    k, width = a.shape[1], b_scales.size
    for k0 in range(0, k, plan.slab):
        steps = (min(plan.slab, k - k0) + plan.step - 1) // plan.step
        pack_rows(plan, a, scales[0], k0, (packed[0], packed[1]))
        for j in range(0, width, WIDTH):
            pack_columns(plan, b, scales[1], j, k0, (packed[2], packed[3]))
            for i in range(a.shape[0]):
                _run_steps(plan, packed, i, steps, sums[0], i * width + j)
        end = k0 + plan.slab
        if plan.promote and (end >= k or end % plan.promote == 0):
            _promote(plan, sums, promotion, b_scales, k0 // plan.promote)


@jit
def _run_steps(plan: Any, packed: Any, row: int, steps: int, chain: Any, chain_at: int) -> None:
    """Run the steps of a slab, for one packed row of A and 64 columns of B."""
    a_at = row * plan.slab
    if plan.law:
        run_rounded_steps(plan, packed, a_at, 0, chain, chain_at, steps)
    elif plan.light:
        run_light(plan, packed, a_at, 0, chain, chain_at, steps)
    elif plan.grouped:
        _run_grouped(plan, packed, a_at, 0, chain, chain_at, steps)
    elif plan.fp16:
        run_to_fp16(plan, packed, a_at, 0, chain, chain_at, steps)
    else:
        run_to_fp32(plan, packed, a_at, 0, chain, chain_at, steps)


@jit
def _run_grouped(plan: Any, packed: Any, a_at: int, b_at: int, chain: Any, chain_at: int, steps: int) -> None:
    """Run steps whose products are summed in groups."""
    if plan.ranked and plan.fp16:
        run_ranked_to_fp16(plan, packed, a_at, b_at, chain, chain_at, steps)
    elif plan.ranked:
        run_ranked(plan, packed, a_at, b_at, chain, chain_at, steps)
    elif plan.fp16:
        run_grouped_to_fp16(plan, packed, a_at, b_at, chain, chain_at, steps)
    else:
        run_grouped(plan, packed, a_at, b_at, chain, chain_at, steps)


@jit
def _promote(plan: Any, sums: Any, promotion: Any, scales: Any, at: int) -> None:
    """Add the chains of a block, which are number `at` along k, to its totals."""
    chains, totals = sums
    for j in range(promotion[1].shape[1] if plan.scaled else 0):
        scales[j] = promotion[1][at, j]
    for i in range(chains.size // scales.size):
        a_scale = promotion[0][i, at] if plan.scaled else np.float32(1)
        for j in range(0, scales.size, WIDTH):
            promote_lanes(plan, chains, totals, i * scales.size + j, a_scale, scales, j)


def narrow_sum(w: Writer, operands: list[Array], c: Lanes, light: bool) -> Lanes:
    """Align and add in float32 and int32: the exact sum, as float32 if `light`, else as float64."""
    a, a_exp, b, b_exp = operands
    step, bits = w.setting("step"), w.number("fraction_bits")

    def larger(k: Any, top: Lanes) -> Lanes:
        return top.max(a_exp.load_one(k).call("sadd.sat", b_exp.load_row(k)))

    stored = w.fold(step, w.fill(I8, NO_PRODUCT_NARROW), larger)
    products = stored.to(I32) + w.number("a_top") + w.number("b_top")
    top = (stored - NO_PRODUCT_NARROW).is_zero().where(NARROW_FLOOR, products)
    top = top.max(exponent_of(c, w.number("c_emin"))).max(w.number("floor"))
    # Times 2^(bits - top) the last place kept is worth 1, so that converting to an integer cuts off what is
    # below it, toward zero: beside 16 x 16 = 2^8 and with 13 bits, E4M3's 0.140625^2 = 0.0198 becomes
    # 0.0198 x 2^5 = 0.63, and 0; 0.25 x 0.25 becomes 2.
    scale = power_of_two(bits - top, F32)
    aligned_c = (c * scale).to(I32)

    def add(k: Any, total: Lanes) -> Lanes:
        return total + (a.load_one(k) * b.load_row(k) * scale).to(I32)

    if light:
        total = w.fold(step, aligned_c, add)
        return total.to(F32) * power_of_two(top - bits, F32)

    def add_part(i: Any, total: Lanes) -> Lanes:
        first = w.builder.mul(i, part)
        here = w.fold(part, w.fill(I32, 0), lambda k, t: add(w.builder.add(first, k), t))
        return total + here.to(F64)

    part = w.setting("part")
    total = w.fold(w.builder.sdiv(step, part), aligned_c.to(F64), add_part)
    return total * power_of_two(top - bits, F64)


def wide_sum(w: Writer, operands: list[Array], c: Lanes) -> Lanes:
    """Align and add in float64: the exact sum."""
    a, a_exp, b, b_exp = operands

    def larger(k: Any, top: Lanes) -> Lanes:
        return top.max(a_exp.load_one(k) + b_exp.load_row(k))

    top = w.fold(w.setting("step"), w.fill(I16, 2 * NO_PRODUCT_WIDE), larger).to(I32)
    top = top.max(exponent_of(c, w.number("c_emin")))
    return aligned_sum(w, c, top, w.setting("step"), lambda k: a.load_one(k) * b.load_row(k))


def grouped_sum(w: Writer, operands: list[Array], c: Lanes) -> Lanes:
    """Sum groups exactly, then align the groups by the exponents of their scales: the exact sum."""
    top = scale_exponent(w, operands).max(exponent_of(c, w.number("c_emin")))
    return cut_groups(w, operands, c, top, w.setting("part"))


def ranked_sum(w: Writer, operands: list[Array], c: Lanes) -> Lanes:
    """Do the same, but sum and align smaller groups, without c, where a product outranks it."""
    (_, a_exp, _, b_exp), c_exponent = operands, exponent_of(c, w.number("c_emin"))

    def larger(k: Any, highest: Lanes) -> Lanes:
        both = (a_exp.load_one(k) + b_exp.load_row(k)).max(0)
        return highest.max((both >> RANK_BITS) + (both & RANKS - 1))

    highest = w.fold(w.setting("step"), w.fill(I16, 0), larger).to(I32) - 2 * SCALE_BIAS
    outranked = highest + w.number("a_emin") + w.number("b_emin") > c_exponent
    top = scale_exponent(w, operands)
    finer = cut_groups(w, operands, c, top, w.setting("subpart"))
    return outranked.where(finer, cut_groups(w, operands, c, top.max(c_exponent), w.setting("part")))


def scale_exponent(w: Writer, operands: list[Array]) -> Lanes:
    """Find the largest exponent of two scales whose values multiply to anything but zero."""
    _, a_exp, _, b_exp = operands

    def larger(k: Any, top: Lanes) -> Lanes:
        return top.max(a_exp.load_one(k) + b_exp.load_row(k))

    top = w.fold(w.setting("step"), w.fill(I16, 2 * NO_PRODUCT_WIDE), larger).to(I32)
    return (w.fill(I32, 0) > top).where(ABSENT, (top >> RANK_BITS) - 2 * SCALE_BIAS)


def cut_groups(w: Writer, operands: list[Array], c: Lanes, top: Lanes, size: Any) -> Lanes:
    """Sum groups of a size exactly, cut them off below an exponent, and add them."""
    a, _, b, _ = operands

    def group(i: Any) -> Lanes:
        first = w.builder.mul(i, size)

        def add(k: Any, total: Lanes) -> Lanes:
            k = w.builder.add(first, k)
            return total + a.load_one(k) * b.load_row(k)

        return w.fold(size, w.fill(F64, 0.0), add)

    return aligned_sum(w, c, top, w.builder.sdiv(w.setting("step"), size), group)


def aligned_sum(w: Writer, c: Lanes, top: Lanes, count: Any, term: Callable[[Any], Lanes]) -> Lanes:
    """Cut terms and the accumulator off below an exponent, or the least there is, and add them in float64."""
    top, bits = top.max(w.number("floor")), w.number("fraction_bits")
    scale = power_of_two(bits - top, F64)
    aligned_c = (c.to(F64) * scale).call("trunc")
    total = w.fold(count, aligned_c, lambda i, t: t + (term(i) * scale).call("trunc"))
    return total * power_of_two(top - bits, F64)


def to_fp32(w: Writer, exact: Lanes, c: Lanes, narrow: bool) -> Lanes:
    """Truncate to `out_bits` fraction bits of FP32; zero comes out as +0."""
    if narrow:  # neither subnormal nor overflow: clear the bits below (E8M13: the last 10 of float32's 23)
        integer, stored_bits = (I32, 23) if exact.kind is F32 else (I64, 52)
        kept = w.fill(integer, -1) << (-w.number("out_bits", integer) + stored_bits)
        truncated = (exact.bits_as(integer) & kept).bits_as(exact.kind)
        return truncated if exact.kind is F32 else truncated.to(F32)
    return round_to_bits(exact, w.number("out_bits", I64), -126, "trunc").to(F32) + 0.0


def to_fp16(w: Writer, exact: Lanes, c: Lanes, narrow: bool) -> Lanes:
    """Round to the nearest FP16, ties to even; zero comes out as +0."""
    nearest = round_to_bits(exact, 10, -14, "roundeven")
    infinite = w.fill(F64, float("inf")).call("copysign", nearest)
    result = (nearest.call("fabs") > 65504.0).where(infinite, nearest).to(F32) + 0.0
    if narrow:  # integers hold no infinity: once a chain overflows it stays there
        return (c.call("fabs") > 65504.0).where(c, result)
    return result


def truncated_steps(method: str, finish: Callable[[Writer, Lanes, Lanes, bool], Lanes]) -> Any:
    """Make the function that runs steps of a kind: narrow and "light" or not, or wide and one of three."""
    wide = {"plain": wide_sum, "grouped": grouped_sum, "ranked": ranked_sum}

    def body(w: Writer, operands: list[Array], c: Lanes) -> Lanes:
        narrow = operands[0].kind is F32
        if narrow:
            return finish(w, narrow_sum(w, operands, c, light=method == "light"), c, narrow)
        return finish(w, wide[method](w, operands, c), c, narrow)

    return define_steps(body, {"light": (F32,), "plain": (F32, F64)}.get(method, (F64,)))


run_light = truncated_steps("light", to_fp32)
run_to_fp32 = truncated_steps("plain", to_fp32)
run_to_fp16 = truncated_steps("plain", to_fp16)
run_grouped = truncated_steps("grouped", to_fp32)
run_grouped_to_fp16 = truncated_steps("grouped", to_fp16)
run_ranked = truncated_steps("ranked", to_fp32)
run_ranked_to_fp16 = truncated_steps("ranked", to_fp16)


@intrinsic
def promote_lanes(
    context: Any, plan: Any, chain: Any, total: Any, at: Any, a_scale: Any, b_scales: Any, j: Any
) -> Any:
    """Add chains to FP32 totals, as they are or by one FMA with the product of their scales."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(context, builder, signature, arguments)
        chain, total, b_scales = w.array(1, at=3), w.array(2, at=3), w.array(5, at=6)
        scaled = chain.load().call("fma", w.spread(arguments[4]) * b_scales.load(), total.load())
        plain = chain.load() + total.load()
        total.store(Lanes(builder, builder.select(w.setting("scaled"), scaled.value, plain.value)))
        chain.store(w.fill(F32, 0.0))
        return context.get_dummy_value()

    return types.void(plan, chain, total, at, a_scale, b_scales, j), write
