"""Steps whose sums are rounded to nearest FP32, for 64 columns at a time: the matrix cores of AMD's CDNA.

exact
    The sum of products and accumulator is rounded once. Where no sum is too far from the last bit of a
    product, two float64 hold it, as `exact_sum` has it; else a list of them for each column, `add_to_list`.
pairwise
    Products and sums are float32, rounded one by one, and subnormal ones become zero.
rounded down
    Products are cut off toward zero; what is further below, and the accumulator, toward minus infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fp8sim._kernels._jit import jit
from fp8sim._kernels.exact_kernels import to_float32, two_sum
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
from fp8sim._kernels.packed_steps import NO_PRODUCT_NARROW, NO_PRODUCT_WIDE, define_steps, exponent_of

__all__ = ["LAWS", "NARROW_FLOOR", "run_rounded_steps"]

LAWS = ("truncated", "exact", "pairwise", "rounded-down")  # a plan has the index
EXACT, PAIRWISE = LAWS.index("exact"), LAWS.index("pairwise")

NARROW_FLOOR = -100  # narrow: no alignment exponent is below, and 2^(fraction_bits + 100) is a float32
WIDE_FLOOR = -500  # an exponent below that of any product, of which all powers of two here are float64
BEYOND_FP32 = float(np.nextafter(2.0**128, 0))  # a product above it is infinite


@jit
def run_rounded_steps(
    plan: Any, packed: Any, a_at: int, b_at: int, chain: Any, chain_at: int, steps: int
) -> None:
    """Run steps by their law."""
    if plan.law == EXACT:
        if plan.light:
            run_exact(plan, packed, a_at, b_at, chain, chain_at, steps)
        else:
            for s in range(steps):
                add_to_list(plan, packed, a_at + s * plan.step, b_at + s * plan.step * WIDTH, chain, chain_at)
    elif plan.law == PAIRWISE:
        if plan.light:
            if plan.part == 4:
                run_pairs_light(plan, packed, a_at, b_at, chain, chain_at, steps)
            else:
                run_pair_light(plan, packed, a_at, b_at, chain, chain_at, steps)
        elif plan.part == 4:
            run_pairs(plan, packed, a_at, b_at, chain, chain_at, steps)
        else:
            run_pair(plan, packed, a_at, b_at, chain, chain_at, steps)
    elif plan.apart:
        run_apart(plan, packed, a_at, b_at, chain, chain_at, steps)
    else:
        run_down(plan, packed, a_at, b_at, chain, chain_at, steps)


# Exact


@jit
def add_to_list(plan: Any, packed: Any, a_at: int, b_at: int, chain: Any, chain_at: int) -> None:
    """Sum whatever there is exactly, as Shewchuk does: in float64 of which none overlaps another."""
    a, b = packed[0], packed[2]
    parts = np.empty(plan.step + 1)
    for j in range(WIDTH):
        count, plain = 0, 0.0
        for k in range(plan.step + 1):
            x = np.float64(chain[chain_at + j])
            if k < plan.step:
                x = np.float64(a[a_at + k]) * np.float64(b[b_at + k * WIDTH + j])
            plain += x
            kept = 0
            for i in range(count):
                x, low = two_sum(x, parts[i])
                if low != 0.0:
                    parts[kept] = low
                    kept += 1
            parts[kept] = x
            count = kept + 1
        if not np.isfinite(plain):  # NaN or infinity
            chain[chain_at + j] = np.float32(plain)
            continue
        high, low, i = parts[count - 1] + 0.0, 0.0, count - 2  # + 0.0: zero is positive
        while i >= 0 and low == 0.0:
            high, low = two_sum(high, parts[i])
            i -= 1
        chain[chain_at + j] = to_float32(high, low)  # what is below does not change the side


def exact_sum(w: Writer, operands: list[Array], c: Lanes) -> Lanes:
    """Add exactly in two float64, and round once.

    Added to 1.5 x 2^(top + 1), where no sum reaches 2^top, all is rounded to multiples of 2^(top - 51),
    and what that takes away is exact in a second float64: 2^20 + 2^-40, with a top of 22, is 2^20 and 2^-40.
    """
    a, _, b, _ = operands
    magic = power_of_two(w.number("sum_top") + 1, F64) * 1.5
    start = c.to(F64)
    first = magic + start

    def add(k: Any, sums: list[Lanes]) -> list[Lanes]:
        (high, low), x, y = sums, a.load_one(k), b.load_row(k)
        after = x.call("fma", y, high)
        return [after, low + x.call("fma", y, high - after)]

    high, low = w.fold_all(w.setting("step"), [first, start - (first - magic)], add)
    return to_odd(high - magic, low).to(F32)


def to_odd(high: Lanes, low: Lanes) -> Lanes:
    """Add two float64, `high` a multiple of the last place of `low`; an inexact sum gets an odd last bit."""
    total = high + low
    rest = (low - (total - high)).bits_as(I64)
    bits = total.bits_as(I64)
    odd = (bits - ((bits ^ rest) >> 63)) | 1  # one less where the rest is toward zero
    return (rest << 1).is_zero().where(bits, odd).bits_as(F64)


run_exact = define_steps(exact_sum, (F64,), rounded=True)


# Pairwise


def pairwise_sum(size: int, flushed: bool) -> Callable[[Writer, list[Array], Lanes], Lanes]:
    """Write sums of `size` products as balanced trees, and add one after another, each sum rounded."""

    def body(w: Writer, operands: list[Array], c: Lanes) -> Lanes:
        a, _, b, _ = operands
        flush = without_subnormals if flushed else _as_it_is

        def add(i: Any, total: Lanes) -> Lanes:
            at = [w.builder.add(w.builder.mul(i, I64(size)), I64(k)) for k in range(size)]
            sums = [flush(a.load_one(k) * b.load_row(k)) for k in at]
            while len(sums) > 1:
                sums = [flush(x + y) for x, y in zip(sums[::2], sums[1::2], strict=True)]
            return flush(total + sums[0])

        count = w.builder.sdiv(w.setting("step"), I64(size))
        return w.fold(count, c + 0.0, add)  # an accumulator of -0 comes in as +0

    return body


def _as_it_is(x: Lanes) -> Lanes:
    return x


def without_subnormals(x: Lanes) -> Lanes:
    """Make subnormal float32 zeros of their sign."""
    bits = x.bits_as(I32)
    return (bits & 0x7F800000).is_zero().where(bits & -0x80000000, bits).bits_as(F32)


run_pair, run_pairs = (define_steps(pairwise_sum(size, True), (F32,), rounded=True) for size in (2, 4))
run_pair_light, run_pairs_light = (
    define_steps(pairwise_sum(size, False), (F32,), rounded=True) for size in (2, 4)
)


# Rounded down


def rounded_down_sum(parts: int) -> Callable[[Writer, list[Array], Lanes], Lanes]:
    """Write sums of products, of all or of every second one, cut off, and of these with the accumulator."""

    def body(w: Writer, operands: list[Array], c: Lanes) -> Lanes:
        bits, sum_bits = w.number("fraction_bits"), w.number("sum_bits")
        sums = [truncated_products(w, operands, first, parts) for first in range(parts)]
        dot, product_top = sums[0]
        if parts == 2:
            product_top = dot_top = sums[0][1].max(sums[1][1])
            first, second = (shifted_down(total, dot_top - top) for total, top in sums)
            dot = first + second
        own = exponent_of(c, w.number("c_emin"))
        top = product_top.max(own).max(w.number("floor"))
        low = sum_bits + 1  # the sum of products keeps one bit more
        dot = (dot.to(F64) * power_of_two(product_top - top + low - bits, F64)).call("floor")
        carried = (c.to(F64) * power_of_two(bits - top, F64)).call("floor")
        if parts == 2:  # infinity and NaN have the exponent 128 and stay
            carried = ((top - bits - 1).call("smin", 128) > own).where(0.0, carried)
        total = dot * power_of_two(top - low, F64) + carried * power_of_two(top - bits, F64)
        return round_to_bits(total, w.number("sum_bits", I64), -126, "floor").to(F32)

    return body


def truncated_products(w: Writer, operands: list[Array], first: int, parts: int) -> tuple[Lanes, Lanes]:
    """Sum every `parts`-th product, cut off toward zero, in units of the last place; and the exponent."""
    a, a_exp, b, b_exp = operands
    count = w.builder.sdiv(w.setting("step"), I64(parts))
    bits = w.number("fraction_bits")

    def at(i: Any) -> Any:
        return w.builder.add(w.builder.mul(i, I64(parts)), I64(first))

    if a.kind is F32:
        stored = w.fold(
            count,
            w.fill(I8, NO_PRODUCT_NARROW),
            lambda i, top: top.max(a_exp.load_one(at(i)).call("sadd.sat", b_exp.load_row(at(i)))),
        )
        top = stored.to(I32) + w.number("a_top") + w.number("b_top")
        top = (stored - NO_PRODUCT_NARROW).is_zero().where(NARROW_FLOOR, top)
        scale = power_of_two(bits - top, F32)
        total = w.fold(
            count,
            w.fill(I32, 0),
            lambda i, t: t + (a.load_one(at(i)) * b.load_row(at(i)) * scale).to(I32),
        )
        return total, top
    stored = w.fold(
        count,
        w.fill(I16, 2 * NO_PRODUCT_WIDE),
        lambda i, top: top.max(a_exp.load_one(at(i)) + b_exp.load_row(at(i))),
    )
    top = stored.to(I32).max(WIDE_FLOOR)
    wide_scale = power_of_two(bits - top, F64)

    def add(i: Any, t: Lanes) -> Lanes:
        product = a.load_one(at(i)) * b.load_row(at(i))
        infinite = w.fill(F64, float("inf")).call("copysign", product)
        product = (product.call("fabs") > BEYOND_FP32).where(infinite, product)
        return t + (product * wide_scale).call("trunc")

    return w.fold(count, w.fill(F64, 0.0), add), top


def shifted_down(total: Lanes, places: Lanes) -> Lanes:
    """Divide by a power of two, and round toward minus infinity."""
    if total.kind is I32:
        return total.floor_shift(places.call("smin", 31))
    return (total * power_of_two(-places, F64)).call("floor")


run_down, run_apart = (define_steps(rounded_down_sum(parts), (F32, F64), rounded=True) for parts in (1, 2))
