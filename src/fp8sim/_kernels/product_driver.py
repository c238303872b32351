"""Driver: which version of the tensor-core kernel may run a product, and how it is cut into blocks."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from fp8sim._kernels.lanes import WIDTH
from fp8sim._kernels.tensor_core_kernels import NARROW_FLOOR, Plan, look_up_window, multiply_block
from fp8sim._support.threads import get_num_threads, run_in_threads, split
from fp8sim._support.typing import F32, AnyArray

__all__ = ["multiply"]

SLAB = 128  # k packed at a time: 64 columns of it fit the first-level cache
ROWS, COLUMNS = 256, 512  # of a block at most, to stay in the second-level cache
WINDOW = 256  # k whose values are taken at a time, at least: in the second-level cache too

ONE, NO_EXPONENT = np.ones((1, 1), np.float32), np.zeros((1, 1), np.int16)  # where there are no scales
ONE.flags.writeable = NO_EXPONENT.flags.writeable = False


def multiply(
    a: Any,
    b: Any,
    out: F32,
    rule: Any,
    *,
    c: Any = None,
    promote_every: int = 0,
    scale_block: int = 0,
    promotion: tuple[F32, F32] | None = None,
) -> None:
    """Add the product of `a` (m, k) and `b` (k, n) to `out` (m, n): zeros, or values in the range `c`.

    The sides are `fp8sim.tensor_cores.arguments.Side`, the rule a `fp8sim.reference.fused_step.StepRule`.
    Each thread takes a block of the result through all of k, a window at a time: the codes of the window are
    looked up, and their float32 values stay in its cache. No operand is there in float32 as a whole, and the
    threads need not wait for each other.
    """
    k, slab = a.array.shape[1], _slab(rule.step, promote_every)
    narrow = _narrow(a, b, None if promote_every else c, rule)
    plan = Plan(
        step=rule.step,
        part=rule.group or (narrow.part if narrow else rule.step),
        slab=slab,
        fraction_bits=rule.fraction_bits,
        out_bits=rule.out_bits,
        floor=max(rule.floor, NARROW_FLOOR) if narrow else rule.floor,
        c_emin=rule.c_emin,
        a_emin=a.fmt.emin,
        b_emin=b.fmt.emin,
        a_top=narrow.a_top if narrow else 0,
        b_top=narrow.b_top if narrow else 0,
        scale_block=scale_block,
        light=narrow is not None and narrow.light,
        grouped=rule.group > 0,
        fp16=rule.fp16,
        promote=promote_every,
        scaled=promotion is not None,
    )
    unit = math.lcm(slab, promote_every or slab, scale_block or slab)
    windows = [slice(*ends) for ends in split(k, -(-WINDOW // unit) * unit)]

    def run(rows: tuple[int, int], columns: tuple[int, int]) -> None:
        _run_block(plan, (a, b), (slice(*rows), slice(*columns)), windows, out, promotion, narrow is not None)

    run_in_threads(run, _blocks(*out.shape))
    if promote_every or not narrow:  # otherwise all is finite, or overflows one way
        _settle_nan(out)


def _run_block(
    plan: Plan,
    sides: tuple[Any, Any],
    place: tuple[slice, slice],
    windows: list[slice],
    out: F32,
    promotion: tuple[F32, F32] | None,
    narrow: bool,
) -> None:
    """Compute the block of `out` at some rows and columns."""
    block = out[place]
    memory = _scratch(plan, narrow, *block.shape)
    result = memory[1][1 if plan.promote else 0].reshape(len(block), -1)[:, : block.shape[1]]
    result[:] = block
    for window in windows:
        parts = (place[0], window), (window, place[1])
        values = [_look_up(side, part) for side, part in zip(sides, parts, strict=True)]
        scales: list[Any] = [(ONE, NO_EXPONENT), (ONE, NO_EXPONENT)]
        chain_scales: list[Any] = [ONE, ONE]
        for i, (side, part) in enumerate(zip(sides, parts, strict=True)):
            if side.scales is not None:
                at = _groups(part, 1 - i, plan.scale_block)
                scales[i] = _own(side.scales[at]), _own(side.scale_exponents[at])
            if promotion is not None:
                chain_scales[i] = _own(promotion[i][_groups(part, 1 - i, plan.promote)])
        multiply_block(plan, values[0], values[1], tuple(scales), tuple(chain_scales), memory)
        del values  # before the next ones are made
    block[:] = result


def _groups(part: tuple[slice, slice], axis: int, size: int) -> tuple[slice, ...]:
    """Turn a part of an array into that of one with an entry per `size` of k, which lies along `axis`."""
    along = slice(part[axis].start // size, -(-part[axis].stop // size))
    return (part[0], along) if axis == 1 else (along, part[1])


def _own(x: AnyArray) -> AnyArray:
    """Return a contiguous view or copy that is read-only: numba compiles a kernel once for such inputs."""
    view = np.ascontiguousarray(x).view()
    view.flags.writeable = False
    return view


def _look_up(side: Any, part: tuple[slice, slice]) -> AnyArray:
    """Return the float32 values of a part of a side."""
    codes = side.array[part]
    if side.table is None:
        return _own(codes)
    values = np.empty(codes.shape, np.float32)
    codes.flags.writeable = False
    look_up_window(codes, side.table, values)
    return _own(values)


def _slab(step: int, promote_every: int) -> int:
    """Most k, in whole steps, that are packed at a time; a chain is whole slabs."""
    chain = promote_every // step
    fitting = [s for s in range(1, max(1, SLAB // step) + 1) if chain % s == 0]
    return step * fitting[-1]


def _scratch(plan: Plan, narrow: bool, height: int, columns: int) -> tuple[Any, ...]:
    """Memory of one block, in the types to compute in."""
    value, exponent = (np.float32, np.int8) if narrow else (np.float64, np.int16)
    width = -(-columns // WIDTH) * WIDTH
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


def _narrow(a: Any, b: Any, c: Any, rule: Any) -> _Narrow | None:
    """Decide whether float32 products and int32 sums hold everything exactly, and how.

    All sums are multiples of 2^(low - fraction_bits), where `low` is the least exponent of a number
    that enters, so no alignment exponent is below that.
    """
    finite = a.range.finite and b.range.finite and (c is None or c.finite)
    if not finite or rule.group or rule.fraction_bits > 26 or not _are_powers_of_two(a.scales, b.scales):
        return None
    (a_low, a_top), (b_low, b_top) = _exponents(a), _exponents(b)
    low, top = a_low + b_low, a_top + b_top
    if c is not None and c.largest > 0:
        low, top = min(low, _exponent(c.smallest)), max(top, _exponent(c.largest))
    highest = top + 4 + math.ceil(math.log2(a.array.shape[1] + 1))  # no sum reaches 2^highest
    if (
        max(a_top - a_low, b_top - b_low) > 63  # int8 exponents
        or not -100 <= min(a_low, b_low) <= max(a_top, b_top) < 120  # scaled values
        or low - rule.fraction_bits < NARROW_FLOOR
        or highest > 127
    ):
        return None
    product = (2 - 2.0**-a.fmt.mantissa_bits) * (2 - 2.0**-b.fmt.mantissa_bits) * 2.0**rule.fraction_bits
    light = rule.step * product + 2.0 ** (rule.fraction_bits + 1) < 2.0**24 and not rule.fp16
    parts = [p for p in range(1, rule.step + 1) if rule.step % p == 0 and p * product < 2.0**31]
    return _Narrow(max(parts), light, a_top, b_top)


def _are_powers_of_two(*scales: F32 | None) -> bool:
    """Whether scales change exponents alone; NaN is none."""
    return all(scale is None or bool((np.frexp(scale)[0] == 0.5).all()) for scale in scales)


def _exponents(x: Any) -> tuple[int, int]:
    """Least and largest exponent of the numbers other than zero, as the core sees them."""
    if x.range.largest == 0:
        return x.fmt.emin, x.fmt.emin
    low, top = (max(_exponent(y), x.fmt.emin) for y in (x.range.smallest, x.range.largest))
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
