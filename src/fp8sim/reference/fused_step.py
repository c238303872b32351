"""Fused steps of a tensor core, chained over k, written to be read: the numpy twin of compiled products.

NVIDIA's are "truncated": all products of a step, and the accumulator c, are cut off below the largest
exponent among them, added exactly, and rounded once. E4M3 on Hopper keeps 13 bits: beside 16 x 16 = 2^8 the
last place that is kept is 2^(8 - 13) = 2^-5, and 0.140625 x 0.140625 = 1.27 x 2^-6 falls off whole.
AMD's have three other laws: `_exact_sum`, `_pairwise_sum` and `_rounded_down_sum`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fp8sim._support.typing import F32, F64, AnyArray
from fp8sim.reference.rounding import add_to_odd, sum_to_odd

__all__ = [
    "Factors",
    "StepRule",
    "exact_products",
    "fused_step",
    "outranks",
    "promote",
    "split_number",
    "sum_chains",
]

#: An exponent below all others: with it, ldexp gives zero.
NOTHING = -10_000


class StepRule(NamedTuple):
    """How one step is summed, in numbers: what `fp8sim.tensor_cores.TensorCore` says in words."""

    step: int  #: products
    group: int  #: products summed exactly before they are aligned; 0: each on its own
    subgroup: int  #: the same where a product outranks c, which then counts for no alignment; 0: no such rule
    fraction_bits: int  #: kept below the alignment exponent
    floor: int  #: least alignment exponent
    out_bits: int  #: fraction bits of the output
    fp16: bool  #: the output is rounded to nearest FP16, not truncated to FP32
    scale_emin: int  #: least exponent of the format of block scales
    law: str = "truncated"  #: how terms and their sum are rounded
    sum_bits: int = 0  #: rounded down: fraction bits of the sum

    @property
    def c_emin(self) -> int:
        """Exponent of a subnormal accumulator."""
        return -14 if self.fp16 else -126


class Factors(NamedTuple):
    """One side of a step or a product: values of one format, and block scales repeated for each of them."""

    values: F32  #: (..., k)
    emin: int  #: of the format: the exponent of its subnormals
    scales: F32 | None = None  #: (..., k)

    def step(self, start: int, count: int) -> Factors:
        """Take those of `count` k from `start` on, zeros beyond the end."""

        def take(x: F32) -> F32:
            part = x[..., start : start + count]
            return np.pad(part, [(0, 0)] * (x.ndim - 1) + [(0, count - part.shape[-1])])

        return Factors(take(self.values), self.emin, None if self.scales is None else take(self.scales))

    def for_all(self, axis: int) -> Factors:
        """Add an axis for the rows or columns of the other side."""
        scales = None if self.scales is None else np.expand_dims(self.scales, axis)
        return Factors(np.expand_dims(self.values, axis), self.emin, scales)


def split_number(x: AnyArray, emin: int) -> tuple[F64, AnyArray]:
    """Split x into significand and exponent, as stored: below 2^emin the significand is below 1.

    Zero, infinity and NaN count for no alignment, so their exponent is the least that ldexp takes.

    Examples
    --------
    >>> significand, exponent = split_number(np.array([6.0, 2.0**-9]), emin=-6)
    >>> significand.tolist(), exponent.tolist()
    ([1.5, 0.125], [2, -6])
    """
    counts = np.isfinite(x) & (x != 0)
    exponent = np.maximum(np.frexp(np.where(counts, x, 1.0))[1] - 1, emin)
    significand = np.ldexp(x.astype(np.float64), -exponent)
    return significand, np.where(counts, exponent, NOTHING)


def sum_chains(
    a: Factors,
    b: Factors,
    rule: StepRule,
    c: F32,
    *,
    promote_every: int = 0,
    promotion: tuple[F32, F32] | None = None,
) -> F32:
    """Chain steps over k for the rows of `a` (m, k) and `b` (n, k); promote the chains, where one ends.

    The sums start from `c` (m, n). `promotion` holds the scales of chains: (m, chains) and (chains, n).

    Examples
    --------
    >>> import fp8sim
    >>> ones = Factors(np.ones((1, 64), np.float32), emin=-6)
    >>> sum_chains(ones, ones, fp8sim.TENSOR_CORES["hopper-fp8"].rule, np.zeros((1, 1), np.float32))
    array([[64.]], dtype=float32)
    """
    k, total = a.values.shape[1], c
    chain = np.zeros_like(c) if promote_every else c
    for start in range(0, k, rule.step):
        left, right = a.step(start, rule.step).for_all(1), b.step(start, rule.step).for_all(0)
        chain = fused_step(left, right, chain, rule)
        end = start + rule.step
        if promote_every and (end >= k or end % promote_every == 0):
            at = start // promote_every
            pair = () if promotion is None else (promotion[0][:, at, None], promotion[1][None, at])
            total = promote(total, chain, *pair)
            chain = np.zeros_like(c)
    return _canonical_nan(total if promote_every else chain)


def fused_step(a: Factors, b: Factors, c: F32, rule: StepRule) -> F32:
    """Sum one step: the products of (..., step) values, and the accumulator c, (...) float32.

    Examples
    --------
    V100 keeps 23 bits below the largest exponent, and 1.5 * 1.5 has exponent 0, although it is 2.25:

    >>> import fp8sim
    >>> a = np.array([1.5, 2.0**-12, 2.0**-12, 0], np.float32)
    >>> b = np.array([1.5, 2.0**-11, 2.0**-11, 0], np.float32)
    >>> rule = fp8sim.TENSOR_CORES["volta-fp16"].rule
    >>> total = fused_step(Factors(a, emin=-14), Factors(b, emin=-14), np.float32(0), rule)
    >>> float(total) - 2.25 == 2.0**-22
    True
    """
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        if rule.law != "truncated":
            laws = {"exact": _exact_sum, "pairwise": _pairwise_sum, "rounded-down": _rounded_down_sum}
            return _canonical_nan(np.asarray(laws[rule.law](a, b, c, rule), dtype=np.float32))
        significand, exponent = exact_products(a, b, rule)
        top = np.maximum(exponent.max(axis=-1), split_number(c, rule.c_emin)[1])
        total = _aligned_sum(significand, exponent, c, top, rule)
        if rule.subgroup:
            significand, exponent = exact_products(a, b, rule._replace(group=rule.subgroup))
            finer = _aligned_sum(significand, exponent, c, exponent.max(axis=-1), rule)
            total = np.where(outranks(a, b, c, rule), finer, total)
        return _round_output(total, rule)


def _aligned_sum(significand: F64, exponent: AnyArray, c: F32, top: AnyArray, rule: StepRule) -> F64:
    """Cut terms and the accumulator off below 2^top, and add them, exactly."""
    last = np.maximum(top, rule.floor) - rule.fraction_bits
    c_significand, c_exponent = split_number(c, rule.c_emin)
    # Whole numbers of 2^last, so the sum is exact; what is smaller is cut off.
    terms = np.trunc(np.ldexp(significand, exponent - last[..., None]))
    c_term = np.trunc(np.ldexp(c_significand, c_exponent - last))
    return np.asarray(np.ldexp(terms.sum(axis=-1) + c_term, last))


def outranks(a: Factors, b: Factors, c: F32, rule: StepRule) -> AnyArray:
    """Whether the largest exponent of the products, scales included, is above that of the accumulator.

    Examples
    --------
    >>> import fp8sim
    >>> rule, one = fp8sim.TENSOR_CORES["blackwell-nvfp4"].rule, np.ones(1, np.float32)
    >>> a = Factors(6 * one, 0, one)  # 6 * 6 has the exponent 4
    >>> [bool(outranks(a, a, np.float32(c), rule)) for c in (0, 15, 16)]
    [True, True, False]
    """
    exponents = exact_products(a, b, rule._replace(group=0))[1]
    return np.asarray(exponents.max(axis=-1) > split_number(c, rule.c_emin)[1])


def _exact_sum(a: Factors, b: Factors, c: F32, rule: StepRule) -> AnyArray:
    """Add products and accumulator exactly: what is then rounded once to FP32 (CDNA1)."""
    products = a.values.astype(np.float64) * b.values
    return sum_to_odd(np.concatenate([products, np.broadcast_to(c, products.shape[:-1])[..., None]], axis=-1))


def _pairwise_sum(a: Factors, b: Factors, c: F32, rule: StepRule) -> AnyArray:
    """Round each product and each sum, of neighbours, of neighbouring sums, and of that with c (CDNA2).

    A subnormal factor or accumulator comes in as +0, and so does -0; a subnormal result becomes zero of its
    sign. Where there are groups, their sums are added to c one after another.
    """

    def flushed(x: F32) -> F32:
        return np.where(np.abs(x) < 2.0**rule.c_emin, np.copysign(np.float32(0), x), x)

    left, right = (np.where(np.abs(x.values) < 2.0**x.emin, np.float32(0), x.values) for x in (a, b))
    sums = flushed(left * right)
    for _ in range((rule.group or rule.step).bit_length() - 1):
        sums = flushed(sums[..., ::2] + sums[..., 1::2])
    total = np.where(np.abs(c) < 2.0**rule.c_emin, np.float32(0), c)
    for group in np.moveaxis(sums, -1, 0):
        total = flushed(total + group)
    return total


def _rounded_down_sum(a: Factors, b: Factors, c: F32, rule: StepRule) -> AnyArray:
    """Cut products off toward zero; round their sum, c, and the sum of both toward minus infinity (CDNA3).

    That sum keeps `sum_bits` below its own exponent, and is then rounded to nearest FP32. Where there are two
    groups, of even and odd k, c counts for nothing where all of it is below the last place.
    """
    bits, low = rule.fraction_bits, rule.sum_bits + 1
    significand, exponent = exact_products(a, b, rule)
    beyond = np.abs(np.ldexp(significand, exponent)) >= 2.0**128
    significand = np.where(beyond, np.copysign(np.inf, significand), significand)
    parts = rule.step // (rule.group or rule.step)
    significand, exponent = (x.reshape(*x.shape[:-1], -1, parts) for x in (significand, exponent))
    tops = exponent.max(axis=-2)  # of each group
    terms = np.trunc(np.ldexp(significand, exponent - tops[..., None, :] + bits))
    top = tops.max(axis=-1)
    dot = np.floor(np.ldexp(terms.sum(axis=-2), tops - top[..., None])).sum(axis=-1)
    c_significand, c_exponent = split_number(c, rule.c_emin)
    joint = np.maximum(np.maximum(top, c_exponent), rule.floor)
    dot = np.floor(np.ldexp(dot, top - bits - joint + low))
    carried = np.floor(np.ldexp(c_significand, c_exponent - joint + bits))
    if rule.group:
        carried = np.where(np.isfinite(c) & (c_exponent < joint - bits - 1), 0.0, carried)
    total = np.ldexp(dot, joint - low) + np.ldexp(carried, joint - bits) + 0.0  # zero is positive
    own = np.maximum(np.frexp(np.where(np.isfinite(total), total, 1.0))[1] - 1, rule.c_emin)
    own = np.where(total == 0, rule.c_emin, own)
    return np.asarray(np.ldexp(np.floor(np.ldexp(total, rule.sum_bits - own)), own - rule.sum_bits))


def promote(total: F32, chain: F32, a_scale: F32 | None = None, b_scale: F32 | None = None) -> F32:
    """Add a chain to the FP32 sum: plainly, or as fma(chain, a_scale * b_scale, total).

    Examples
    --------
    >>> one = np.float32(1)
    >>> float(promote(one, np.float32(2.0**-24) * 3, one, one)) - 1 == 2.0**-22  # 1.5 ulp: ties to even
    True
    """
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        if a_scale is None or b_scale is None:
            return np.asarray(total + chain, dtype=np.float32)
        scale = np.asarray(a_scale * b_scale, dtype=np.float32)
        product = chain.astype(np.float64) * scale.astype(np.float64)  # exact: 48 bits
        added = total.astype(np.float64)
        return add_to_odd(product, added).astype(np.float32)


def exact_products(a: Factors, b: Factors, rule: StepRule) -> tuple[F64, AnyArray]:
    """Return exact products as significands and exponents; of groups of them where the rule says so."""
    a_significand, a_exponent = split_number(a.values, a.emin)
    b_significand, b_exponent = split_number(b.values, b.emin)
    significand, exponent = a_significand * b_significand, a_exponent + b_exponent
    if a.scales is None or b.scales is None:
        return significand, exponent
    (a_scale, a_binade), (b_scale, b_binade) = (
        split_number(scales, rule.scale_emin) for scales in (a.scales, b.scales)
    )
    if not rule.group:
        return significand * a_scale * b_scale, exponent + a_binade + b_binade

    def group(x: AnyArray) -> AnyArray:
        return x.reshape(*x.shape[:-1], x.shape[-1] // rule.group, rule.group)

    sums = group(a.values.astype(np.float64) * b.values).sum(axis=-1)  # exact: sums of few small numbers
    # Products that cancel count all the same: the exponent of a group is that of its scales.
    binade = np.where(significand * a_scale * b_scale == 0, 2 * NOTHING, a_binade + b_binade)
    return sums * group(a_scale * b_scale)[..., 0], group(binade).max(axis=-1)


def _round_output(x: F64, rule: StepRule) -> F32:
    """Round exact sums to the output; zero is +0, and what is too large is infinite."""
    largest = 65504.0 if rule.fp16 else float(np.finfo(np.float32).max)
    finite = np.where(np.isfinite(x) & (x != 0), x, 1.0)
    last = np.maximum(np.frexp(finite)[1] - 1, rule.c_emin) - rule.out_bits
    nearest = np.rint if rule.fp16 else np.trunc
    rounded = np.ldexp(nearest(np.ldexp(x, -last)), last)
    rounded = np.where(np.abs(rounded) > largest, np.copysign(np.inf, rounded), rounded)
    return _canonical_nan(np.asarray(rounded + 0.0, dtype=np.float32))


def _canonical_nan(x: F32) -> F32:
    """Give every NaN the one pattern that tensor cores write, 0x7FFFFFFF."""
    return np.where(np.isnan(x), np.int32(0x7FFFFFFF).view(np.float32), x)
