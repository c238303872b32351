"""Kernels: fused tensor-core steps for 64 columns at a time, as LLVM vector code.

A fused step has two versions with the same results:

narrow
    float32 products and int32 sums; the operands must be finite and leave room for both.
wide
    float64 throughout; takes all there is: NaN, infinity, float32 subnormals, overflow, block scales.

Factors are packed first: values beside the exponents that they bring to their products. Numba cannot tell
that scratch arrays do not overlap, so loops over them would stay scalar, or check for it at every turn. So
the steps write LLVM code, by a `Writer`: arithmetic between `Lanes`, of 64 numbers each, emits instructions,
vector code by construction on any machine, as LLVM cuts 64 lanes to the registers there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from fp8sim._kernels._jit import intrinsic, jit

__all__ = ["NARROW_FLOOR", "WIDTH", "Array", "Lanes", "Plan", "Writer", "multiply_block"]

WIDTH = 64  # enough independent lanes to hide the latency of each instruction

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
FLOATS = (F32, F64)
START = I64(0)

NARROW_FLOOR = -100  # narrow: no alignment exponent is below, and 2^(fraction_bits + 100) is a float32
#: Exponent of zero: even with the largest of any other it adds to less than the exponents of two
#: numbers do (the narrow sum saturates).
NO_PRODUCT_NARROW, NO_PRODUCT_WIDE = -128, -16_000
ABSENT = -100_000  # exponent of an accumulator that is zero, and of groups without a product
#: Where groups are summed, an int16 holds two exponents: that of the scale, from -SCALE_BIAS up, times RANKS,
#: and that of the value, from the least up. E2M1's 6 is 2 above it: with a scale of 1, 256 x 16 + 2 = 4098.
#: The largest sum of two, shifted, is the largest exponent of two scales.
SCALE_BIAS, RANK_BITS = 256, 4
RANKS = 1 << RANK_BITS


class Plan(NamedTuple):
    """What a product asks of the kernel: plain numbers, the same for all blocks of it."""

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
    light: bool  # narrow: every aligned sum is below 2^24, so float32 holds it
    grouped: bool  # groups of `part` products are summed exactly before they are aligned
    ranked: bool  # grouped: whether a product outranks the accumulator can change a bit
    fp16: bool  # the output is rounded to nearest FP16, not truncated to FP32
    promote: int  # k of a chain, which is then added in FP32; 0: one chain for all of k
    scaled: bool  # a chain is multiplied by two FP32 scales as it is added


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
    for s in range(steps):
        a_at, b_at = row * plan.slab + s * plan.step, s * plan.step * WIDTH
        if plan.light:
            step_light(plan, packed, a_at, b_at, chain, chain_at)
        elif plan.grouped:
            _run_grouped(plan, packed, a_at, b_at, chain, chain_at)
        elif plan.fp16:
            step_to_fp16(plan, packed, a_at, b_at, chain, chain_at)
        else:
            step_to_fp32(plan, packed, a_at, b_at, chain, chain_at)


@jit
def _run_grouped(plan: Any, packed: Any, a_at: int, b_at: int, chain: Any, chain_at: int) -> None:
    """Run one step whose products are summed in groups."""
    if plan.ranked and plan.fp16:
        step_ranked_to_fp16(plan, packed, a_at, b_at, chain, chain_at)
    elif plan.ranked:
        step_ranked(plan, packed, a_at, b_at, chain, chain_at)
    elif plan.fp16:
        step_grouped_to_fp16(plan, packed, a_at, b_at, chain, chain_at)
    else:
        step_grouped(plan, packed, a_at, b_at, chain, chain_at)


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


def round_at(x: Lanes, exponent: Lanes, rounding: str) -> Lanes:
    """Round float64 to a multiple of 2^exponent; infinity and NaN stay."""
    return (x * power_of_two(-exponent, F64)).call(rounding) * power_of_two(exponent, F64)


def to_fp32(w: Writer, exact: Lanes, c: Lanes, narrow: bool) -> Lanes:
    """Truncate to `out_bits` fraction bits of FP32; zero comes out as +0."""
    if narrow:  # neither subnormal nor overflow: clear the bits below (E8M13: the last 10 of float32's 23)
        integer, stored_bits = (I32, 23) if exact.kind is F32 else (I64, 52)
        kept = w.fill(integer, -1) << (-w.number("out_bits", integer) + stored_bits)
        truncated = (exact.bits_as(integer) & kept).bits_as(exact.kind)
        return truncated if exact.kind is F32 else truncated.to(F32)
    exponent = ((exact.bits_as(I64) >> 52) & 2047) - 1023
    last = exponent.max(-126) - w.number("out_bits", I64)
    return round_at(exact, last, "trunc").to(F32) + 0.0


def to_fp16(w: Writer, exact: Lanes, c: Lanes, narrow: bool) -> Lanes:
    """Round to the nearest FP16, ties to even; zero comes out as +0."""
    exponent = ((exact.bits_as(I64) >> 52) & 2047) - 1023
    nearest = round_at(exact, exponent.max(-14) - 10, "roundeven")
    infinite = w.fill(F64, float("inf")).call("copysign", nearest)
    result = (nearest.call("fabs") > 65504.0).where(infinite, nearest).to(F32) + 0.0
    if narrow:  # integers hold no infinity: once a chain overflows it stays there
        return (c.call("fabs") > 65504.0).where(c, result)
    return result


def define_step(method: str, finish: Callable[[Writer, Lanes, Lanes, bool], Lanes]) -> Any:
    """Make the function that runs one fused step on 64 accumulators, in place."""

    @intrinsic
    def fused_step(
        context: Any, plan: Any, packed: Any, a_at: Any, b_at: Any, chain: Any, chain_at: Any
    ) -> Any:
        def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            w = Writer(context, builder, signature, arguments)
            operands = [w.array(1, at=at, part=part) for part, at in enumerate((2, 2, 3, 3))]
            home = w.array(4, at=5)
            c, narrow = home.load(), operands[0].kind is F32
            wide = {"plain": wide_sum, "grouped": grouped_sum, "ranked": ranked_sum}
            if narrow and method in ("light", "plain"):
                home.store(finish(w, narrow_sum(w, operands, c, light=method == "light"), c, narrow))
            elif not narrow and method in wide:
                home.store(finish(w, wide[method](w, operands, c), c, narrow))
            return context.get_dummy_value()  # no plan asks for the others

        return types.void(plan, packed, a_at, b_at, chain, chain_at), write

    return fused_step


step_light = define_step("light", to_fp32)
step_to_fp32 = define_step("plain", to_fp32)
step_to_fp16 = define_step("plain", to_fp16)
step_grouped = define_step("grouped", to_fp32)
step_grouped_to_fp16 = define_step("grouped", to_fp16)
step_ranked = define_step("ranked", to_fp32)
step_ranked_to_fp16 = define_step("ranked", to_fp16)


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


def _operator(instruction: str) -> Callable[[Lanes, Any], Lanes]:
    """Make an operator of `Lanes` that emits an instruction, or the one for floats: add, fadd."""

    def emit(x: Lanes, other: Any) -> Lanes:
        write = getattr(x.builder, f"f{instruction}" if x.kind in FLOATS else instruction)
        return Lanes(x.builder, write(x.value, x._peer(other)))

    return emit


class Lanes:
    """WIDTH numbers while code is being written: an operation between Lanes emits an instruction."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value, self.kind = builder, value, value.type.element

    def _peer(self, other: Any) -> Any:
        same = isinstance(other, Lanes)
        return other.value if same else ir.Constant(self.value.type, [other] * WIDTH)

    __add__, __sub__, __mul__ = _operator("add"), _operator("sub"), _operator("mul")
    __and__, __lshift__, __rshift__ = _operator("and_"), _operator("shl"), _operator("lshr")

    def __neg__(self) -> Lanes:
        return Lanes(self.builder, self.builder.neg(self.value))

    def __gt__(self, other: Any) -> Lanes:
        floating = self.kind in FLOATS
        compare = self.builder.fcmp_ordered if floating else self.builder.icmp_signed
        return Lanes(self.builder, compare(">", self.value, self._peer(other)))

    def is_zero(self) -> Lanes:
        zero = ir.Constant(self.value.type, [0] * WIDTH)
        return Lanes(self.builder, self.builder.icmp_signed("==", self.value, zero))

    def where(self, yes: Any, no: Lanes) -> Lanes:
        """Choose `yes` in the lanes where this condition holds."""
        return Lanes(self.builder, self.builder.select(self.value, no._peer(yes), no.value))

    def to(self, kind: Any) -> Lanes:
        """Convert the numbers; a float becomes an integer by truncation."""
        b, from_float = self.builder, self.kind in FLOATS
        if kind in FLOATS:
            convert = (b.fpext if kind is F64 else b.fptrunc) if from_float else b.sitofp
        elif from_float:
            convert = b.fptosi
        else:
            convert = b.sext if kind.width > self.kind.width else b.trunc
        return Lanes(b, convert(self.value, ir.VectorType(kind, WIDTH)))

    def bits_as(self, kind: Any) -> Lanes:
        return Lanes(self.builder, self.builder.bitcast(self.value, ir.VectorType(kind, WIDTH)))

    def call(self, name: str, *others: Any) -> Lanes:
        """Call an LLVM function of vectors: smax, sadd.sat, trunc, roundeven, copysign, fma."""
        vector = self.value.type
        suffix = {I8: "i8", I16: "i16", I32: "i32", I64: "i64", F32: "f32", F64: "f64"}[self.kind]
        kind = ir.FunctionType(vector, [vector] * (1 + len(others)))
        module, full = self.builder.module, f"llvm.{name}.v{WIDTH}{suffix}"
        function = module.globals.get(full) or ir.Function(module, kind, full)
        return Lanes(self.builder, self.builder.call(function, [self.value, *map(self._peer, others)]))

    def max(self, other: Any) -> Lanes:
        return self.call("smax", other)


class Array(NamedTuple):
    """One argument array, from an index on."""

    writer: Writer
    data: Any
    kind: Any
    start: Any

    def _address(self, offset: Any, kind: Any) -> Any:
        # LLVM's pointers have lost their types, and llvmlite is losing them: what they point to is said anew
        b = self.writer.builder
        element = b.gep(self.data, [b.add(self.start, offset)], source_etype=self.kind)
        return b.bitcast(element, kind.as_pointer())

    def _load(self, offset: Any, kind: Any, align: int | None = None) -> Any:
        return self.writer.builder.load(self._address(offset, kind), align=align, typ=kind)

    def load(self, offset: Any = START) -> Lanes:
        """Load WIDTH neighbours."""
        return Lanes(self.writer.builder, self._load(offset, ir.VectorType(self.kind, WIDTH), align=1))

    def load_row(self, row: Any) -> Lanes:
        return self.load(self.writer.builder.mul(row, I64(WIDTH)))

    def load_one(self, offset: Any) -> Lanes:
        """Load one element into every lane."""
        return self.writer.spread(self._load(offset, self.kind))

    def store(self, lanes: Lanes, offset: Any = START) -> None:
        address = self._address(offset, lanes.value.type)
        self.writer.builder.store(lanes.value, address, align=1)


class Writer:
    """Writes the body of an intrinsic, which gives `signature` and `arguments`."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder = context, builder
        self.kinds, self.arguments = signature.args, arguments

    def array(self, i: int, at: int | None = None, part: int | None = None) -> Array:
        """Argument `i`, an array or `part` of a tuple of arrays, from the index in argument `at` on."""
        kind, value = self.kinds[i], self.arguments[i]
        if part is not None:
            kind, value = kind.types[part], self.builder.extract_value(value, part)
        data = self.context.make_array(kind)(self.context, self.builder, value).data
        start = I64(0) if at is None else self.arguments[at]
        return Array(self, data, self.context.get_data_type(kind.dtype), start)

    def setting(self, name: str) -> Any:
        """Return a number of argument 0, a named tuple."""
        return self.builder.extract_value(self.arguments[0], self.kinds[0].fields.index(name))

    def number(self, name: str, kind: Any = I32) -> Lanes:
        """Return an integer of argument 0 in every lane."""
        number = self.setting(name)
        return self.spread(number if kind is I64 else self.builder.trunc(number, kind))

    def fill(self, kind: Any, number: float) -> Lanes:
        return Lanes(self.builder, ir.Constant(ir.VectorType(kind, WIDTH), [number] * WIDTH))

    def spread(self, scalar: Any) -> Lanes:
        nothing = ir.Constant(ir.VectorType(scalar.type, WIDTH), ir.Undefined)
        first = self.builder.insert_element(nothing, scalar, I32(0))
        everywhere = ir.Constant(ir.VectorType(I32, WIDTH), [0] * WIDTH)
        return Lanes(self.builder, self.builder.shuffle_vector(first, nothing, everywhere))

    def fold(self, count: Any, first: Lanes, body: Callable[[Any, Lanes], Lanes]) -> Lanes:
        """Write a loop: value = body(i, value) for i below `count`, which is at least 1."""
        b = self.builder
        before, loop = b.block, b.append_basic_block("fold")
        b.branch(loop)
        b.position_at_end(loop)
        i, value = b.phi(I64), b.phi(first.value.type)
        result = body(i, Lanes(b, value))
        following = b.add(i, I64(1))
        for phi, start, again in ((i, I64(0), following), (value, first.value, result.value)):
            phi.add_incoming(start, before)
            phi.add_incoming(again, b.block)
        done = b.append_basic_block("folded")
        b.cbranch(b.icmp_signed("<", following, count), loop, done)
        b.position_at_end(done)
        return result


def power_of_two(exponent: Lanes, kind: Any) -> Lanes:
    """Build a normal 2^exponent from its bits."""
    if kind is F32:
        return ((exponent + 127) << 23).bits_as(F32)
    wide = exponent if exponent.kind is I64 else exponent.to(I64)
    return ((wide + 1023) << 52).bits_as(F64)
