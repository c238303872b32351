"""Vector code as it is written: arithmetic between `Lanes`, of 64 numbers each, emits LLVM instructions.

Numba cannot tell that scratch arrays do not overlap, so loops over them would stay scalar, or check for it at
every turn. So the steps of tensor cores write LLVM code, by a `Writer`: vector code by construction on any
machine, as LLVM cuts 64 lanes to the registers there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

__all__ = [
    "F32", "F64", "I8", "I16", "I32", "I64", "WIDTH", "Array", "Lanes", "Writer", "power_of_two",
    "round_to_bits",
]  # fmt: skip

WIDTH = 64  # enough independent lanes to hide the latency of each instruction

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
FLOATS = (F32, F64)
START = I64(0)


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
    __and__, __or__, __xor__ = _operator("and_"), _operator("or_"), _operator("xor")
    __lshift__, __rshift__ = _operator("shl"), _operator("lshr")
    floor_shift = _operator("ashr")

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

    def moved(self, by: Any) -> Array:
        """Start some elements further on."""
        return self._replace(start=self.writer.builder.add(self.start, by))

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
        return self.fold_all(count, [first], lambda i, values: [body(i, values[0])])[0]

    def fold_all(
        self, count: Any, firsts: list[Lanes], body: Callable[[Any, list[Lanes]], list[Lanes]]
    ) -> list[Lanes]:
        """Write a loop of several values: values = body(i, values)."""
        b = self.builder
        before, loop = b.block, b.append_basic_block("fold")
        b.branch(loop)
        b.position_at_end(loop)
        i, *values = (b.phi(kind) for kind in (I64, *(first.value.type for first in firsts)))
        results = body(i, [Lanes(b, value) for value in values])
        following = b.add(i, I64(1))
        starts, again = [I64(0), *(x.value for x in firsts)], [following, *(x.value for x in results)]
        for phi, start, after in zip((i, *values), starts, again, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(after, b.block)
        done = b.append_basic_block("folded")
        b.cbranch(b.icmp_signed("<", following, count), loop, done)
        b.position_at_end(done)
        return results


def power_of_two(exponent: Lanes, kind: Any) -> Lanes:
    """Build a normal 2^exponent from its bits."""
    if kind is F32:
        return ((exponent + 127) << 23).bits_as(F32)
    wide = exponent if exponent.kind is I64 else exponent.to(I64)
    return ((wide + 1023) << 52).bits_as(F64)


def round_to_bits(x: Lanes, bits: Any, emin: int, rounding: str) -> Lanes:
    """Round float64 to bits after the first, at least multiples of 2^(emin - bits); infinity and NaN stay."""
    exponent = (((x.bits_as(I64) >> 52) & 2047) - 1023).max(emin)
    # Infinity and NaN have 1024: with one bit, 2^-1023 would be a zero here. No sum is beyond 2^512.
    last = exponent.call("smin", 512) - bits
    return (x * power_of_two(-last, F64)).call(rounding) * power_of_two(last, F64)
