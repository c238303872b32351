"""The product on a tensor core, bit for bit: `multiply` runs it compiled, in blocks, or step by step.

A side is there as codes, or as float32 values. Each thread takes a block of the result through all of k, a
window at a time: the codes of the window are looked up, and their values stay in its cache. No operand is
there in float32 as a whole, and threads need not wait for each other.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from fp8sim import _kernels
from fp8sim._support import checks
from fp8sim._support.threads import get_num_threads, run_in_threads, split
from fp8sim._support.typing import F32, AnyArray, ArrayLike
from fp8sim.casts import decode
from fp8sim.formats import FloatFormat, get_format
from fp8sim.reference.codes import decode_table
from fp8sim.reference.fused_step import NOTHING, Factors, sum_chains
from fp8sim.tensor_cores.arguments import (
    Range,
    check_format,
    check_interval,
    check_scales,
    check_start,
    unpacked,
)
from fp8sim.tensor_cores.core import TensorCore

__all__ = ["Problem", "Side", "check_problem", "coded_side", "codes_range", "multiply", "step_by_step"]

RUN = 1 << 18  # codes looked at at a time: they stay in a cache
SLAB = 128  # k packed at a time: 64 columns of it fit the first-level cache
ROWS, COLUMNS = 256, 512  # of a block at most, to stay in the second-level cache
WINDOW = 256  # k whose values are taken at a time, at least: in the second-level cache too

ONE, NO_EXPONENT = np.ones((1, 1), np.float32), np.zeros((1, 1), np.int16)  # where there are no scales
ONE.flags.writeable = NO_EXPONENT.flags.writeable = False


class Side(NamedTuple):
    """One side of a product: values of one format, or their codes."""

    array: AnyArray  #: float32 values, or codes as unsigned integers; contiguous
    fmt: FloatFormat
    range: Range
    table: F32 | None = None  #: of codes: the value of every code
    scales: F32 | None = None  #: of the core's own, one per block of k
    scale_exponents: AnyArray | None = None

    @property
    def values(self) -> F32:
        """The values in float32."""
        return self.array if self.table is None else decode(self.array, self.fmt)

    def factors(self, block: int, k_axis: int) -> Factors:
        """Return all of it, k along its columns, with scales repeated for a `block` of k each."""
        values, scales = (x if k_axis or x is None else x.T for x in (self.values, self.scales))
        assert values is not None
        if scales is not None:
            scales = np.repeat(scales, block, axis=1)[:, : values.shape[1]]
        return Factors(values, self.fmt.emin, scales)


class Problem(NamedTuple):
    """A checked product."""

    core: TensorCore
    a: Side
    b: Side
    c: F32 | None  #: what the sums start from; None: zero
    c_range: Range | None
    promote_every: int  #: k of a chain; 0: one chain for all of k
    promotion: tuple[F32, F32] | None = None  #: scales of A and of B for whole chains


def coded_side(codes: AnyArray, fmt: FloatFormat, core: TensorCore, what: str, *, finite: bool) -> Side:
    """Take codes that came from a cast to `fmt`: they need no check, and up to 16 bits no copy as float32.

    `finite` says that they hold no NaN and no infinity. Codes of 4 bits that the core does not multiply are
    unpacked first; other formats that it does not multiply are refused.
    """
    bits, wider = codes.view(fmt.code_dtype), unpacked(fmt, core)
    if wider is not None:
        fmt, bits = wider[0], wider[1][bits]
    check_format(fmt, core, what)
    bits = np.ascontiguousarray(bits)
    # Any two values of such a format multiply exactly in float32, and their sums fit: no look at them is due.
    narrow = finite and fmt.bits <= 8 and fmt.emax - fmt.emin < 32
    extent = Range(0, fmt.max, fmt.smallest_subnormal, True) if narrow else codes_range(bits, fmt)
    if fmt.bits > 16:  # no table of its values
        return Side(decode(bits, fmt), fmt, extent)
    return Side(bits, fmt, extent, decode_table(fmt))


def codes_range(bits: AnyArray, fmt: FloatFormat) -> Range:
    """Return the range of what codes stand for: the codes of one sign are in the order of their values.

    Examples
    --------
    >>> import fp8sim
    >>> bits = np.array([0x00, 0x38, 0xC0, 0x08], np.uint8)  # 0, 1, -2 and the smallest normal number
    >>> codes_range(bits, fp8sim.get_format("e4m3"))
    Range(outside=0, largest=2.0, smallest=0.015625, finite=True)
    """
    one = bits.dtype.type(1)
    magnitudes = bits.dtype.type(2 ** (fmt.exponent_bits + fmt.mantissa_bits) - 1)

    def look(part: AnyArray) -> tuple[int, int, bool]:
        size = part & magnitudes
        nan = bool((part == fmt.nan_code).any()) if fmt.specials == "fnuz" else False
        # Less one, zero becomes the largest integer: what is left is the smallest of the others.
        return int(size.max()), int((size - one).min()) + 1, nan

    flat = bits.reshape(-1, order="A")
    parts = run_in_threads(look, [(flat[i:j],) for i, j in split(bits.size, RUN)]) or [
        (0, magnitudes + 1, False)
    ]
    tops, lows, nans = zip(*parts, strict=True)
    top, low = min(max(tops), fmt.top_code), min(lows)
    largest, smallest = decode(np.array([top, min(low, fmt.top_code)], bits.dtype), fmt).tolist()
    there = 0 < low <= fmt.top_code
    return Range(0, largest, smallest if there else np.inf, max(tops) <= fmt.top_code and not any(nans))


def check_problem(
    a: Side,
    b: Side,
    core: TensorCore,
    *,
    c: ArrayLike | None = None,
    promote_every: int | None = None,
    scales: tuple[ArrayLike, ArrayLike] | None = None,
    promotion: tuple[F32, F32] | None = None,
) -> Problem:
    """Check how two sides go together, and options of `tensor_core_matmul`; `promotion`: scales of chains."""
    every = check_interval(promote_every, core)
    m, n, k = checks.multiply_shapes(a.array, b.array)
    start, extent = (None, None) if c is None else check_start(c, (m, n), core, every)
    (a_scales, a_exponents), (b_scales, b_exponents) = check_scales(scales, core, m, n, k)
    if promotion is not None:
        promotion = checks.as_array(promotion[0], "a_scales"), checks.as_array(promotion[1], "b_scales")
    chains = -(-k // every) if every else 1
    for what, one, wanted in zip("ab", promotion or (), ((m, chains), (chains, n)), strict=False):
        if one.shape != wanted or one.dtype != np.float32:
            raise ValueError(
                f"{what}_scales must be float32 {wanted}, one per chain of {every}; "
                f"got {one.dtype} {one.shape}"
            )
    left = a._replace(scales=a_scales, scale_exponents=a_exponents)
    right = b._replace(scales=b_scales, scale_exponents=b_exponents)
    return Problem(core, left, right, start, extent, every, promotion)


def multiply(problem: Problem) -> F32:
    """Run a checked product: compiled, or readable where nothing can be compiled."""
    return _in_blocks(problem) if _kernels.available() else step_by_step(problem)


def step_by_step(p: Problem) -> F32:
    """Run it as a student would: chains of fused steps over k."""
    block = p.core.scale_block
    a, b = p.a.factors(block, 1), p.b.factors(block, 0)
    return sum_chains(a, b, p.core.rule, _start(p), promote_every=p.promote_every, promotion=p.promotion)


def _start(p: Problem) -> F32:
    """Return an array of what the sums start from."""
    return np.zeros((len(p.a.array), p.b.array.shape[1]), np.float32) if p.c is None else p.c.copy()


def _in_blocks(p: Problem) -> F32:
    """Run it compiled, in blocks of the result, each in one thread."""
    plan, out = _plan(p), _start(p)
    unit = math.lcm(plan.slab, plan.promote or plan.slab, plan.scale_block or plan.slab)
    windows = [slice(*ends) for ends in split(p.a.array.shape[1], -(-WINDOW // unit) * unit)]
    run_in_threads(_run_block, [(p, plan, windows, place, out[place]) for place in _blocks(*out.shape)])
    if plan.promote or not plan.narrow:  # otherwise all is finite, or overflows one way
        for row in out:  # every NaN gets the one pattern that tensor cores write
            row.view(np.int32)[np.isnan(row)] = 0x7FFFFFFF
    return out


def _blocks(m: int, n: int) -> list[tuple[slice, slice]]:
    """Cut the result into blocks of rows and columns, several per thread where there is enough."""
    from fp8sim._kernels.tensor_core_kernels import WIDTH

    wanted = 2 * get_num_threads()
    rows = split(m, max(16, min(ROWS, -(-m // wanted))))
    column_blocks = max(1, wanted // max(1, len(rows)))
    columns = split(n, min(WIDTH * max(1, -(-n // (WIDTH * column_blocks))), COLUMNS))
    return [(slice(*i), slice(*j)) for i, j in itertools.product(rows, columns)]


def _run_block(p: Problem, plan: Any, windows: list[slice], place: tuple[slice, slice], block: F32) -> None:
    """Go on with the sums of one block, which is at some rows and columns, through all of k."""
    from fp8sim._kernels.tensor_core_kernels import multiply_block

    memory = _scratch(plan, *block.shape)
    result = memory[1][1 if plan.promote else 0].reshape(len(block), -1)[:, : block.shape[1]]
    result[:] = block
    for window in windows:
        parts = (place[0], window), (window, place[1])
        values = [_values(side, part) for side, part in zip((p.a, p.b), parts, strict=True)]
        scales: list[Any] = [(ONE, NO_EXPONENT), (ONE, NO_EXPONENT)]
        chain_scales: list[Any] = [ONE, ONE]
        for i, (side, part) in enumerate(zip((p.a, p.b), parts, strict=True)):
            if side.scales is not None and side.scale_exponents is not None:
                at = _groups(part, 1 - i, plan.scale_block)
                scales[i] = _own(side.scales[at]), _own(side.scale_exponents[at])
            if p.promotion is not None:
                chain_scales[i] = _own(p.promotion[i][_groups(part, 1 - i, plan.promote)])
        multiply_block(plan, values[0], values[1], tuple(scales), tuple(chain_scales), memory)
        del values  # before the next ones are made
    block[:] = result


def _values(side: Side, part: tuple[slice, slice]) -> AnyArray:
    """Return the float32 values of a part of a side."""
    codes = side.array[part]
    if side.table is None:
        return _own(codes)
    from fp8sim._kernels.quantize_kernels import look_up

    values = np.empty(codes.shape, np.float32)
    codes.flags.writeable = False
    look_up(codes, side.table, values)
    return _own(values)


def _groups(part: tuple[slice, slice], axis: int, size: int) -> tuple[slice, ...]:
    """Turn a part of an array into that of one with an entry per `size` of k, which lies along `axis`."""
    along = slice(part[axis].start // size, -(-part[axis].stop // size))
    return (part[0], along) if axis == 1 else (along, part[1])


def _own(x: AnyArray) -> AnyArray:
    """Return a contiguous view or copy that is read-only: numba compiles a kernel once for such inputs."""
    view = np.ascontiguousarray(x).view()
    view.flags.writeable = False
    return view


def _scratch(plan: Any, height: int, columns: int) -> tuple[Any, ...]:
    """Memory of one block, in the types to compute in."""
    from fp8sim._kernels.tensor_core_kernels import WIDTH

    value, exponent = (np.float32, np.int8) if plan.narrow else (np.float64, np.int16)
    width = -(-columns // WIDTH) * WIDTH
    a_size, b_size = height * plan.slab, WIDTH * plan.slab
    sizes = (a_size, value), (a_size, exponent), (b_size, value), (b_size, exponent)
    sums = np.zeros(height * width, np.float32), np.zeros(height * width, np.float32)
    return tuple(np.empty(*each) for each in sizes), sums, np.ones(width, np.float32)


def _plan(p: Problem) -> Any:
    """Return the `Plan` of `tensor_core_kernels` for a product: narrow where that is exact."""
    from fp8sim._kernels.tensor_core_kernels import NARROW_FLOOR, Plan

    rule, every, narrow = p.core.rule, p.promote_every, _narrow(p)
    # A chain is whole slabs, and a slab is whole steps.
    slabs = [steps for steps in range(1, max(1, SLAB // rule.step) + 1) if every // rule.step % steps == 0]
    return Plan(
        step=rule.step,
        part=rule.group or (narrow.part if narrow else rule.step),
        subpart=rule.subgroup or rule.group,
        slab=rule.step * slabs[-1],
        fraction_bits=rule.fraction_bits,
        out_bits=rule.out_bits,
        floor=max(rule.floor, NARROW_FLOOR) if narrow else rule.floor,
        c_emin=rule.c_emin,
        a_emin=p.a.fmt.emin,
        b_emin=p.b.fmt.emin,
        a_top=narrow.a_top if narrow else 0,
        b_top=narrow.b_top if narrow else 0,
        scale_block=p.core.scale_block,
        narrow=narrow is not None,
        light=narrow is not None and narrow.light,
        grouped=rule.group > 0,
        ranked=rule.subgroup > 0 and not _reaches_all(p),
        fp16=rule.fp16,
        promote=every,
        scaled=p.promotion is not None,
    )


def _reaches_all(p: Problem) -> bool:
    """Whether no product has a bit below the last place kept: then sizes of groups do not matter.

    A product of E2M1 is a multiple of 2^-2, two significands of E4M3 of 2^-6, and c may be 3 above the scales
    where 6 x 6 outranks it. So in NVFP4 all is exact where scales span at most 35 - 8 - 3 = 24 binades.
    """
    least = most = below = above = 0
    for side in (p.a, p.b):
        assert side.scale_exponents is not None
        assert p.core.scale_format is not None
        there = side.scale_exponents[side.scale_exponents > NOTHING]
        if not there.size:
            return True
        least, most = least + int(there.min()), most + int(there.max())
        below += side.fmt.mantissa_bits - side.fmt.emin + get_format(p.core.scale_format).mantissa_bits
        above += side.fmt.emax
    last = max(most + max(above - 1, 0), p.core.exponent_floor) - p.core.fraction_bits
    return p.core.fraction_bits >= 23 and least - below >= last


class _Narrow(NamedTuple):
    part: int
    light: bool
    a_top: int
    b_top: int


def _narrow(p: Problem) -> _Narrow | None:
    """Decide whether float32 products and int32 sums hold everything exactly, and how.

    All sums are multiples of 2^(low - fraction_bits), where `low` is the least exponent of a number
    that enters, so no alignment exponent is below that.
    """
    from fp8sim._kernels.tensor_core_kernels import NARROW_FLOOR

    a, b, rule, c = p.a, p.b, p.core.rule, None if p.promote_every else p.c_range
    finite = a.range.finite and b.range.finite and (c is None or c.finite)
    if not finite or rule.group or rule.fraction_bits > 26 or not _are_powers_of_two(a.scales, b.scales):
        return None
    if a.fmt.mantissa_bits + b.fmt.mantissa_bits > 22:  # a product of more than 24 bits
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
    parts = [size for size in range(1, rule.step + 1) if rule.step % size == 0 and size * product < 2.0**31]
    return _Narrow(max(parts), light, a_top, b_top)


def _are_powers_of_two(*scales: F32 | None) -> bool:
    """Whether scales change exponents alone; NaN is none."""
    return all(scale is None or bool((np.frexp(scale)[0] == 0.5).all()) for scale in scales)


def _exponents(x: Side) -> tuple[int, int]:
    """Least and largest exponent of the numbers other than zero, as the core sees them."""
    if x.range.largest == 0:
        return x.fmt.emin, x.fmt.emin
    low, top = (max(_exponent(y), x.fmt.emin) for y in (x.range.smallest, x.range.largest))
    if x.scale_exponents is None or not x.scale_exponents.size:
        return low, top
    return low + int(x.scale_exponents.min()), top + int(x.scale_exponents.max())


def _exponent(x: float) -> int:
    return math.frexp(x)[1] - 1
