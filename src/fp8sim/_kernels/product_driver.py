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
WINDOW = 512  # k whose codes are looked up at a time, at least


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
    Codes are looked up a window of k at a time, whose float32 values stay in a cache: of an operand no more
    than `WINDOW` of k, or whole chains, are there in float32 at once.
    """
    k, slab = a.array.shape[1], _slab(rule.step, promote_every)
    narrow = _narrow(a, b, None if promote_every else c, rule)
    plan = Plan(
        step=rule.step,
        part=rule.group or (narrow.part if narrow else rule.step),
        slab=slab,
        fraction_bits=rule.fraction_bits,
        out_bits=rule.out_bits,
        floor=rule.floor,
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
    width = max(k, 1)
    if a.table is not None or b.table is not None:
        unit = math.lcm(slab, promote_every or slab, scale_block or slab)
        width = -(-WINDOW // unit) * unit
    for start, stop in split(k, width):
        _multiply_window(plan, (a, b), slice(start, stop), out, promotion, narrow is not None)
    if promote_every or not narrow:  # otherwise all is finite, or overflows one way
        _settle_nan(out)


def _multiply_window(
    plan: Plan,
    sides: tuple[Any, Any],
    window: slice,
    out: F32,
    promotion: tuple[F32, F32] | None,
    narrow: bool,
) -> None:
    """Add the products of a window of k, whose chains go on where those of the window before ended."""
    one, none = np.ones((1, 1), np.float32), np.zeros((1, 1), np.int16)
    values: list[Any] = []
    scales: list[Any] = [(one, none), (one, none)]
    chain_scales: list[Any] = [one, one]
    for axis, side in zip((1, 0), sides, strict=True):
        values.append(_look_up(side, _along(side.array, axis, window)))
        if side.scales is not None:
            pair = (_along(x, axis, window, plan.scale_block) for x in (side.scales, side.scale_exponents))
            scales[1 - axis] = tuple(map(np.ascontiguousarray, pair))
        if promotion is not None:
            chain_scales[1 - axis] = np.ascontiguousarray(
                _along(promotion[1 - axis], axis, window, plan.promote)
            )
    for array in (*values, *scales[0], *scales[1], *chain_scales):  # views of our own
        array.flags.writeable = False  # numba compiles a kernel once for inputs that are all read-only

    def run(rows: tuple[int, int], columns: tuple[int, int]) -> None:
        block, memory = (*values, rows, columns), _scratch(plan, narrow, rows, columns)
        multiply_block(plan, block, out, tuple(scales), tuple(chain_scales), memory)

    run_in_threads(run, _blocks(*out.shape))


def _along(x: AnyArray, axis: int, window: slice, size: int = 1) -> AnyArray:
    """Take a window of k of an array that has one entry for so many of k."""
    part = slice(window.start // size, -(-window.stop // size))
    return x[:, part] if axis == 1 else x[part]


def _look_up(side: Any, part: AnyArray) -> F32:
    """Return contiguous float32 values."""
    if side.table is None:
        return np.ascontiguousarray(part)
    values = np.empty(part.shape, np.float32)
    part.flags.writeable = False
    rows = max(1, -(-len(part) // get_num_threads()))
    tasks = [(part[i:j], side.table, values[i:j]) for i, j in split(len(part), rows)]
    run_in_threads(look_up_window, tasks)
    return values


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
        or low - rule.fraction_bits < max(NARROW_FLOOR, rule.floor)
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
