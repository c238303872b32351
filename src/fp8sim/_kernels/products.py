"""Which version of the tensor-core kernel may run a product, and how it is cut into blocks."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from fp8sim._kernels._jit import get_num_threads, read_only, run_in_threads, split
from fp8sim._kernels.lanes import WIDTH
from fp8sim._kernels.operands import Range
from fp8sim._kernels.tensor_core import NARROW_FLOOR, Plan, multiply_block
from fp8sim._support.typing import F32, AnyArray

__all__ = ["Operand", "Sum", "multiply"]

SLAB = 128  # k packed at a time: 64 columns of it fit the first-level cache
ROWS, COLUMNS = 256, 512  # of a block at most, to stay in the second-level cache


class Sum(NamedTuple):
    """How a core sums: the fields of `fp8sim.tensor_cores.product.TensorCore` that matter here."""

    step: int
    fraction_bits: int
    floor: int
    group: int  # 0: every product is aligned on its own
    out_bits: int
    fp16: bool


class Operand(NamedTuple):
    """The values of one side, and what is known of them."""

    values: F32  # contiguous
    mantissa_bits: int
    emin: int
    range: Range
    scales: F32 | None = None  # in the layout of `values`, one per block of k
    scale_exponents: AnyArray | None = None


def multiply(
    a: Operand,
    b: Operand,
    out: F32,
    core: Sum,
    *,
    c: Range | None = None,
    promote_every: int = 0,
    scale_block: int = 0,
    promotion: tuple[F32, F32] | None = None,
) -> None:
    """Add the product of `a` (m, k) and `b` (k, n) to `out` (m, n): zeros, or values in the range `c`."""
    m, n = out.shape
    slab = _slab(core.step, promote_every)
    narrow = _narrow(a, b, None if promote_every else c, core)
    one, none = np.ones((1, 1), np.float32), np.zeros((1, 1), np.int16)
    scales = [one if x is None else x for x in (a.scales, b.scales)]
    exponents = [none if x is None else x for x in (a.scale_exponents, b.scale_exponents)]
    inside = tuple((read_only(s), read_only(e)) for s, e in zip(scales, exponents, strict=True))
    at_promotion = tuple(map(read_only, promotion or (one, one)))
    plan = Plan(
        step=core.step,
        part=core.group or (narrow.part if narrow else core.step),
        slab=slab,
        fraction_bits=core.fraction_bits,
        out_bits=core.out_bits,
        floor=core.floor,
        c_emin=-14 if core.fp16 else -126,
        a_emin=a.emin,
        b_emin=b.emin,
        a_top=narrow.a_top if narrow else 0,
        b_top=narrow.b_top if narrow else 0,
        scale_block=scale_block,
        light=narrow is not None and narrow.light,
        grouped=core.group > 0,
        fp16=core.fp16,
        promote=promote_every,
        scaled=promotion is not None,
    )
    arguments = (plan, read_only(a.values), read_only(b.values), out, inside, at_promotion)

    def run(rows: tuple[int, int], columns: tuple[int, int]) -> None:
        multiply_block(*arguments, _scratch(plan, narrow is not None, rows, columns), rows, columns)

    run_in_threads(run, _blocks(m, n))
    if promote_every or not narrow:  # otherwise all is finite, or overflows one way
        _settle_nan(out)


def _slab(step: int, promote_every: int) -> int:
    """Most k, in whole steps, that are packed at a time; a chain is whole slabs."""
    chain = promote_every // step
    fitting = [s for s in range(1, max(1, SLAB // step) + 1) if chain % s == 0]
    return step * fitting[-1]


def _scratch(plan: Plan, narrow: bool, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Any, ...]:
    """Memory of one block, in the types to compute in."""
    value, exponent = (np.float32, np.int8) if narrow else (np.float64, np.int16)
    height, width = rows[1] - rows[0], -(-(columns[1] - columns[0]) // WIDTH) * WIDTH
    a_size, b_size = height * plan.slab, WIDTH * plan.slab
    packed = (
        np.empty(a_size, value),
        np.empty(a_size, exponent),
        np.empty(b_size, value),
        np.empty(b_size, exponent),
    )
    sums = np.zeros(height * width, np.float32), np.zeros(height * width, np.float32)
    return packed, sums, np.ones(width, np.float32)


def _settle_nan(out: F32) -> None:
    """Give every NaN the one pattern that tensor cores write."""
    for row in out:
        row.view(np.int32)[np.isnan(row)] = 0x7FFFFFFF


class _Narrow(NamedTuple):
    part: int
    light: bool
    a_top: int
    b_top: int


def _narrow(a: Operand, b: Operand, c: Range | None, core: Sum) -> _Narrow | None:
    """Decide whether float32 products and int32 sums hold everything exactly, and how.

    All sums are multiples of 2^(low - fraction_bits), where `low` is the least exponent of a number
    that enters, so no alignment exponent is below that.
    """
    finite = a.range.finite and b.range.finite and (c is None or c.finite)
    if not finite or core.group or core.fraction_bits > 26 or not _are_powers_of_two(a.scales, b.scales):
        return None
    (a_low, a_top), (b_low, b_top) = _exponents(a), _exponents(b)
    low, top = a_low + b_low, a_top + b_top
    if c is not None and c.largest > 0:
        low, top = min(low, _exponent(c.smallest)), max(top, _exponent(c.largest))
    highest = top + 4 + math.ceil(math.log2(a.values.shape[1] + 1))  # no sum reaches 2^highest
    if (
        max(a_top - a_low, b_top - b_low) > 63  # int8 exponents
        or not -100 <= min(a_low, b_low) <= max(a_top, b_top) < 120  # scaled values
        or low - core.fraction_bits < max(NARROW_FLOOR, core.floor)
        or highest > 127
    ):
        return None
    product = (2 - 2.0**-a.mantissa_bits) * (2 - 2.0**-b.mantissa_bits) * 2.0**core.fraction_bits
    light = core.step * product + 2.0 ** (core.fraction_bits + 1) < 2.0**24 and not core.fp16
    parts = [p for p in range(1, core.step + 1) if core.step % p == 0 and p * product < 2.0**31]
    return _Narrow(max(parts), light, a_top, b_top)


def _are_powers_of_two(*scales: F32 | None) -> bool:
    """Whether scales change exponents alone; NaN is none."""
    return all(scale is None or bool((np.frexp(scale)[0] == 0.5).all()) for scale in scales)


def _exponents(x: Operand) -> tuple[int, int]:
    """Least and largest exponent of the numbers other than zero, as the core sees them."""
    if x.range.largest == 0:
        return x.emin, x.emin
    low, top = (max(_exponent(y), x.emin) for y in (x.range.smallest, x.range.largest))
    if x.scale_exponents is None or not x.scale_exponents.size:
        return low, top
    return low + int(x.scale_exponents.min()), top + int(x.scale_exponents.max())


def _exponent(x: float) -> int:
    return math.frexp(x)[1] - 1


def _blocks(m: int, n: int) -> list[Any]:
    """Cut the output into blocks of rows and columns, several per thread where there is enough."""
    wanted = 2 * get_num_threads()
    row_blocks = split(m, max(16, min(ROWS, -(-m // wanted))))
    column_blocks = max(1, wanted // max(1, len(row_blocks)))
    columns = WIDTH * max(1, -(-n // (WIDTH * column_blocks)))
    return list(itertools.product(row_blocks, split(n, min(columns, COLUMNS))))
