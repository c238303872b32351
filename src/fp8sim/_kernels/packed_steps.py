"""Factors packed for fused steps, values beside exponents, and how steps over them are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from fp8sim._kernels._jit import intrinsic, jit
from fp8sim._kernels.lanes import F32, F64, I32, I64, WIDTH, Array, Lanes, Writer

__all__ = [
    "ABSENT", "NO_PRODUCT_NARROW", "NO_PRODUCT_WIDE", "RANKS", "RANK_BITS", "SCALE_BIAS", "define_steps",
    "exponent_of", "pack_columns", "pack_rows",
]  # fmt: skip

#: Exponent of zero: even with the largest of any other it adds to less than the exponents of two
#: numbers do (the narrow sum saturates).
NO_PRODUCT_NARROW, NO_PRODUCT_WIDE = -128, -16_000
ABSENT = -100_000  # exponent of an accumulator that is zero, and of groups without a product
#: Where groups are summed, an int16 holds two exponents: that of the scale, from -SCALE_BIAS up, times RANKS,
#: and that of the value, from the least up. E2M1's 6 is 2 above it: with a scale of 1, 256 x 16 + 2 = 4098.
#: The largest sum of two, shifted, is the largest exponent of two scales.
SCALE_BIAS, RANK_BITS = 256, 4
RANKS = 1 << RANK_BITS


@jit
def _pack(plan: Any, x: Any, scale: Any, side: Any, packed: Any, to: int) -> None:
    """Store one element as `pack_lanes` does, times a scale (value, exponent); `side` is (emin, top)."""
    values, exponents = packed
    factor, scale_exponent = scale
    values[to] = np.float64(x) * factor
    magnitude = np.float32(x).view(np.int32) & 0x7FFFFFFF
    if magnitude == 0 or (plan.grouped and scale_exponent < -SCALE_BIAS):  # a scale of zero, or NaN
        exponents[to] = NO_PRODUCT_NARROW if values.itemsize == 4 else NO_PRODUCT_WIDE
    elif plan.grouped:
        rank = min(max((magnitude >> 23) - 127, side[0]) - side[0], RANKS // 2 - 1) if plan.ranked else 0
        exponents[to] = (scale_exponent + SCALE_BIAS) * RANKS + rank
    else:
        exponents[to] = max((magnitude >> 23) - 127, side[0]) - side[1] + scale_exponent


@jit
def pack_rows(plan: Any, a: Any, scales: Any, k0: int, packed: Any) -> None:
    """Pack rows of A from k0 on, padded by zeros to the slab."""
    real = min(plan.slab, a.shape[1] - k0)
    flat, side = a.reshape(-1), (plan.a_emin, plan.a_top)
    whole = 0 if plan.scale_block else real // WIDTH * WIDTH
    for i in range(a.shape[0]):
        to = i * plan.slab
        for q in range(0, whole, WIDTH):
            pack_lanes(flat, i * a.shape[1] + k0 + q, packed, to + q, side[0], side[1])
        for q in range(whole, plan.slab):
            row, block = (i, (k0 + min(q, real - 1)) // plan.scale_block) if plan.scale_block else (0, 0)
            x = a[i, k0 + q] if q < real else np.float32(0)
            _pack(plan, x, (scales[0][row, block], scales[1][row, block]), side, packed, to + q)


@jit
def pack_columns(plan: Any, b: Any, scales: Any, j0: int, k0: int, packed: Any) -> None:
    """Pack WIDTH columns of B from (k0, j0) on, padded by zeros to the slab."""
    k, n = b.shape
    flat, side = b.reshape(-1), (plan.b_emin, plan.b_top)
    for q in range(plan.slab):
        row = min(k0 + q, k - 1)
        if k0 + q < k and j0 + WIDTH <= n and plan.scale_block == 0:
            pack_lanes(flat, row * n + j0, packed, q * WIDTH, side[0], side[1])
            continue
        for j in range(WIDTH):
            column = min(j0 + j, n - 1)
            block, at = (row // plan.scale_block, column) if plan.scale_block else (0, 0)
            x = b[row, column] if k0 + q < k and j0 + j < n else np.float32(0)
            _pack(plan, x, (scales[0][block, at], scales[1][block, at]), side, packed, q * WIDTH + j)


@intrinsic
def pack_lanes(context: Any, source: Any, at: Any, packed: Any, to: Any, emin: Any, top: Any) -> Any:
    """Store 64 neighbours, each with its exponent: at least `emin`, and relative to `top`."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(context, builder, signature, arguments)
        values, exponents = w.array(2, at=3, part=0), w.array(2, at=3, part=1)
        emin, top = (w.spread(builder.trunc(arguments[i], I32)) for i in (4, 5))
        x = w.array(0, at=1).load()
        magnitude = x.bits_as(I32) & 0x7FFFFFFF
        # The exponent field of float32, not below that of the format: 0.3125 = 1.25 x 2^-2 has the field 125,
        # so -2; E4M3's subnormal 2^-9 has -6, as a core sees it.
        exponent = ((magnitude >> 23) - 127).max(emin) - top
        nothing = NO_PRODUCT_NARROW if values.kind is F32 else NO_PRODUCT_WIDE
        values.store(x if values.kind is F32 else x.to(F64))
        exponents.store(magnitude.is_zero().where(nothing, exponent).to(exponents.kind))
        return context.get_dummy_value()

    return types.void(source, at, packed, to, emin, top), write


def exponent_of(c: Lanes, emin: Lanes) -> Lanes:
    """Exponent of the accumulator: `emin` for its subnormals, ABSENT for zero.

    Infinity and NaN decide the sum, whatever it is aligned to.
    """
    exponent = (((c.bits_as(I32) >> 23) & 255) - 127).max(emin)  # the exponent field of a float32
    return (c.bits_as(I32) << 1).is_zero().where(ABSENT, exponent)


def define_steps(
    body: Callable[[Writer, list[Array], Lanes], Lanes], kinds: tuple[Any, ...], *, rounded: bool = False
) -> Any:
    """Make the function that runs some steps, one after another, on 64 accumulators, kept in registers.

    `body` writes the new accumulators of a step from (writer, packed factors, accumulators). It serves packed
    values of some `kinds`, and plans that are `rounded` or not: for others, as no plan asks, nothing is
    compiled.
    """

    @intrinsic
    def run_steps(
        context: Any, plan: Any, packed: Any, a_at: Any, b_at: Any, chain: Any, chain_at: Any, steps: Any
    ) -> Any:
        def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            w = Writer(context, builder, signature, arguments)
            operands = [w.array(1, at=at, part=part) for part, at in enumerate((2, 2, 3, 3))]
            home, a_step = w.array(4, at=5), w.setting("step")
            b_step = builder.mul(a_step, I64(WIDTH))

            def step(s: Any, c: Lanes) -> Lanes:
                moves = (builder.mul(s, size) for size in (a_step, a_step, b_step, b_step))
                return body(w, [x.moved(by) for x, by in zip(operands, moves, strict=True)], c)

            if getattr(plan.instance_class, "rounded", False) == rounded and operands[0].kind in kinds:
                home.store(w.fold(arguments[6], home.load(), step))
            return context.get_dummy_value()

        return types.void(plan, packed, a_at, b_at, chain, chain_at, types.int64), write

    return run_steps
