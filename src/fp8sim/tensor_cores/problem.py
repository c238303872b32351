"""What a tensor core multiplies: two checked sides, as codes or as values, and what goes with them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fp8sim._support import checks
from fp8sim._support.threads import run_in_threads, split
from fp8sim._support.typing import F32, AnyArray, ArrayLike
from fp8sim.casts import decode
from fp8sim.formats import FloatFormat
from fp8sim.reference.codes import decode_table
from fp8sim.reference.fused_step import Factors
from fp8sim.tensor_cores.arguments import (
    Range,
    check_format,
    check_interval,
    check_scales,
    check_start,
    unpacked,
)
from fp8sim.tensor_cores.core import TensorCore

__all__ = ["Problem", "Side", "check_problem", "coded_side", "codes_range"]

RUN = 1 << 18  # codes looked at at a time: they stay in a cache


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

    `finite` says that they hold no NaN and no infinity. Codes of at most 8 bits that the core does not
    multiply are unpacked to an input that holds their values; others are refused.
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
