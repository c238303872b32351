"""How a product is computed: which numbers hold all of its sums exactly, by what enters it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fp8sim._support.typing import F32
from fp8sim.formats import get_format
from fp8sim.reference.fused_step import NOTHING
from fp8sim.tensor_cores.arguments import Range
from fp8sim.tensor_cores.problem import Problem, Side

__all__ = ["make_plan"]

SLAB = 128  # k packed at a time: 64 columns of it fit the first-level cache


def make_plan(p: Problem) -> Any:
    """Return the `Plan` of `tensor_core_kernels` for a product: narrow where that is exact."""
    from fp8sim._kernels.rounded_steps import LAWS
    from fp8sim._kernels.tensor_core_kernels import NARROW_FLOOR, Plan, RoundedPlan

    rule, every = p.core.rule, p.promote_every
    kind = Plan if rule.law == "truncated" else RoundedPlan
    fits: dict[str, Callable[[Problem], _Fit]] = {"exact": _fit_exact, "pairwise": _fit_pairwise}
    fit = fits.get(rule.law, _fit_aligned)(p)
    # A chain is whole slabs, and a slab is whole steps.
    slabs = [steps for steps in range(1, max(1, SLAB // rule.step) + 1) if every // rule.step % steps == 0]
    return kind(
        law=LAWS.index(rule.law),
        step=rule.step,
        part=rule.group or fit.part,
        subpart=rule.subgroup or rule.group,
        slab=rule.step * slabs[-1],
        fraction_bits=rule.fraction_bits,
        out_bits=rule.out_bits,
        floor=max(rule.floor, NARROW_FLOOR) if fit.narrow else rule.floor,
        c_emin=rule.c_emin,
        a_emin=p.a.fmt.emin,
        b_emin=p.b.fmt.emin,
        a_top=fit.a_top,
        b_top=fit.b_top,
        scale_block=p.core.scale_block,
        narrow=fit.narrow,
        light=fit.light,
        grouped=rule.group > 0 and rule.law == "truncated",
        ranked=rule.subgroup > 0 and not _reaches_all(p),
        fp16=rule.fp16,
        promote=every,
        scaled=p.promotion is not None,
        apart=rule.group > 0 and rule.law == "rounded-down",
        sum_bits=rule.sum_bits,
        sum_top=fit.sum_top,
        finite=fit.finite,
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


class _Fit(NamedTuple):
    """What a plan says of the numbers that hold a product."""

    part: int
    narrow: bool = False
    light: bool = False
    finite: bool = False
    a_top: int = 0
    b_top: int = 0
    sum_top: int = 0


class _Extent(NamedTuple):
    """Exponents of the numbers that enter, none of them NaN or infinite."""

    low: int  #: least of a product or of the accumulator, and the largest
    top: int
    last: int  #: of the last place of any of them
    highest: int  #: no sum reaches two to it


def _extent(p: Problem) -> _Extent | None:
    """Return the exponents that enter; None where something is NaN or infinite."""
    c = _start_range(p)
    if not (p.a.range.finite and p.b.range.finite and (c is None or c.finite)):
        return None
    (a_low, a_top), (b_low, b_top) = _exponents(p.a), _exponents(p.b)
    low, top = a_low + b_low, a_top + b_top
    last = low - p.a.fmt.mantissa_bits - p.b.fmt.mantissa_bits
    if c is not None and c.largest > 0:
        least = _exponent(c.smallest)
        low, top, last = min(low, least), max(top, _exponent(c.largest)), min(last, least - 23)
    return _Extent(low, top, last, top + 4 + math.ceil(math.log2(p.a.array.shape[1] + 1)))


def _start_range(p: Problem) -> Range | None:
    """Return the range of what chains start from; None for zero."""
    return None if p.promote_every else p.c_range


def _fit_aligned(p: Problem) -> _Fit:
    """Decide whether float32 products and int32 sums hold everything exactly, and how.

    All sums are multiples of 2^(low - fraction_bits), where `low` is the least exponent of a number
    that enters, so no alignment exponent is below that; rounded down, of 2^(low - sum_bits - 1).
    """
    from fp8sim._kernels.tensor_core_kernels import NARROW_FLOOR

    a, b, rule, wide = p.a, p.b, p.core.rule, _Fit(p.core.step)
    extent, rounded = _extent(p), rule.law == "rounded-down"
    grouped = rule.group and not rounded
    if extent is None or grouped or rule.fraction_bits > 26 or not _are_powers_of_two(a.scales, b.scales):
        return wide
    if a.fmt.mantissa_bits + b.fmt.mantissa_bits > 22:  # a product of more than 24 bits
        return wide
    (a_low, a_top), (b_low, b_top) = _exponents(a), _exponents(b)
    if (
        max(a_top - a_low, b_top - b_low) > 63  # int8 exponents
        or not -100 <= min(a_low, b_low) <= max(a_top, b_top) < 120  # scaled values
        or extent.low - rule.fraction_bits - (rule.sum_bits + 1) * rounded < NARROW_FLOOR
        or extent.highest > 127
    ):
        return wide
    product = (2 - 2.0**-a.fmt.mantissa_bits) * (2 - 2.0**-b.fmt.mantissa_bits) * 2.0**rule.fraction_bits
    light = rule.step * product + 2.0 ** (rule.fraction_bits + 1) < 2.0**24 and not rule.fp16
    parts = [size for size in range(1, rule.step + 1) if rule.step % size == 0 and size * product < 2.0**31]
    if rounded and parts[-1] < rule.step:  # they are all in one int32
        return wide
    return _Fit(parts[-1], narrow=True, light=light, finite=True, a_top=a_top, b_top=b_top)


def _fit_exact(p: Problem) -> _Fit:
    """Decide whether two float64 hold all sums: the second what is lost in rounding to 2^(highest - 51)."""
    wide, extent = _Fit(p.core.step), _extent(p)
    if extent is None or extent.highest > 127:
        return wide
    lost = extent.highest - 52 + math.ceil(math.log2(p.core.step + 1))  # less than 2^lost in a step
    return wide._replace(light=lost - extent.last <= 53, finite=True, sum_top=extent.highest)


def _fit_pairwise(p: Problem) -> _Fit:
    """Decide whether nothing can become subnormal. Rounded sums stay multiples of the last place of all."""
    extent = _extent(p)
    return _Fit(p.core.step, narrow=True, light=extent is not None and extent.last >= p.core.rule.c_emin)


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
