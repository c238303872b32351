"""One fused step of a tensor core, written to be read: the numpy oracle of the compiled products."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32, F64, AnyArray
from fp8sim.formats import FloatFormat, get_format
from fp8sim.reference.rounding import add_to_odd

__all__ = ["OUTPUTS", "TensorCore", "fused_step", "promote", "split_number"]

Output: TypeAlias = Literal["fp32-rz", "e8m13-rz", "fp16-rne"]

#: output -> fraction bits that it keeps.
OUTPUTS: dict[str, int] = {"fp32-rz": 23, "e8m13-rz": 13, "fp16-rne": 10}


@dataclass(frozen=True)
class TensorCore:
    """How a tensor core sums one fused step, ``step`` products and the accumulator c.

    The products are exact, of significands as they are stored (a subnormal keeps the least exponent
    of its format), each with the sum of two exponents. All terms, c among them, are cut off (toward
    zero) `fraction_bits` below the largest of these exponents, added exactly, and rounded once more
    to the output. A product chains such steps over k in order. Frozen, so ``dataclasses.replace``
    makes a what-if of it.

    Parameters
    ----------
    name : str
        What tables call it.
    inputs : tuple of str
        Formats that it multiplies, in any combination.
    step : int
        Products per fused step.
    fraction_bits : int
        Bits kept below the alignment exponent; 13 of them, with the leading bit, are the "14 bits"
        of Hopper's FP8.
    output : {"fp32-rz", "e8m13-rz", "fp16-rne"}
        Truncated to FP32; truncated to FP32 of 13 fraction bits; rounded to the nearest FP16.
    exponent_floor : int
        Least alignment exponent. It matters for sums near the smallest subnormal FP32 alone.
    group : int
        Products that are summed exactly before they are aligned, by the exponents of their scales;
        0 aligns each product on its own.
    scale_format : str, optional
        Format of the block scales that the core multiplies by itself (MX formats and NVFP4).
    scale_block : int
        Elements along k that share such a scale.
    source : str
        Where the numbers are from.

    Raises
    ------
    ValueError
        If a field is out of range.

    Examples
    --------
    >>> import dataclasses
    >>> from fp8sim.tensor_cores.product import TENSOR_CORES
    >>> core = TENSOR_CORES["hopper-fp8"]
    >>> core.step, core.fraction_bits, core.output
    (32, 13, 'e8m13-rz')
    >>> dataclasses.replace(core, name="what if", fraction_bits=25, output="fp32-rz").step
    32
    """

    name: str
    inputs: tuple[str, ...]
    step: int
    fraction_bits: int
    output: Output = "fp32-rz"
    exponent_floor: int = -133
    group: int = 0
    scale_format: str | None = None
    scale_block: int = 0
    source: str = field(default="user", compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check the fields."""
        checks.one_of(self.output, OUTPUTS, "output")
        if not self.inputs:
            raise ValueError(f"{self.name}: name at least one input format")
        for fmt in self.inputs:
            get_format(fmt)
        checks.positive_int(self.step, "step")
        checks.positive_int(self.fraction_bits, "fraction_bits")
        if not -900 <= self.exponent_floor <= 0:
            raise ValueError(f"{self.name}: exponent_floor must be -900 to 0, got {self.exponent_floor}")
        if self.group and self.step % self.group:
            raise ValueError(f"{self.name}: groups of {self.group} do not divide a step of {self.step}")
        if bool(self.scale_format) != bool(self.scale_block):
            raise ValueError(f"{self.name}: scale_format and scale_block go together")
        if self.scale_format:
            get_format(self.scale_format)
        if self.group and self.scale_block % self.group:
            raise ValueError(f"{self.name}: a group of {self.group} must share one scale: set scale_block")
        if self._sum_bits > 52:
            raise ValueError(
                f"{self.name}: a step of {self.step} with {self.fraction_bits} fraction bits needs sums of "
                f"{self._sum_bits} bits, beyond the 52 that stay exact; take fewer"
            )

    @property
    def _sum_bits(self) -> int:
        """Bits that the exact sum of a step may need, float64 having 52 to spare."""
        largest_term = 4.0  # a product of two significands below 2
        if self.group:
            largest_term = self.group * max(get_format(fmt).max for fmt in self.inputs) ** 2
        if self.scale_format:  # times two more significands
            largest_term *= 4.0
        return math.ceil(math.log2((self.step // max(1, self.group) + 1) * largest_term)) + self.fraction_bits


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


def fused_step(
    a: F32,
    b: F32,
    c: F32,
    core: TensorCore,
    a_fmt: FloatFormat,
    b_fmt: FloatFormat,
    scales: tuple[F32, F32] | None = None,
) -> F32:
    """Sum one step: `core.step` products and the accumulator.

    Parameters
    ----------
    a, b : (..., step) array of float32
        Factors, values of `a_fmt` and `b_fmt`.
    c : (...) array of float32
        The accumulator.
    core : TensorCore
        How to sum.
    a_fmt, b_fmt : FloatFormat
        Formats of the factors.
    scales : pair of (..., step) arrays of float32, optional
        Block scales, repeated for every factor.

    Returns
    -------
    (...) array of float32
        The new accumulator.

    Examples
    --------
    V100 keeps 23 bits below the largest exponent, and 1.5 * 1.5 has exponent 0, although it is 2.25:

    >>> import numpy as np, fp8sim
    >>> from fp8sim.tensor_cores.product import TENSOR_CORES
    >>> a = np.array([1.5, 2.0**-12, 2.0**-12, 0], np.float32)
    >>> b = np.array([1.5, 2.0**-11, 2.0**-11, 0], np.float32)
    >>> fp16 = fp8sim.get_format("fp16")
    >>> total = fused_step(a, b, np.float32(0), TENSOR_CORES["volta-fp16"], fp16, fp16)
    >>> float(total) - 2.25 == 2.0**-22
    True
    """
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        significand, exponent = exact_products(a, b, core, a_fmt, b_fmt, scales)
        c_significand, c_exponent = split_number(c, -14 if core.output == "fp16-rne" else -126)

        top = np.maximum(exponent.max(axis=-1), c_exponent)
        top = np.maximum(top, core.exponent_floor)
        kept = core.fraction_bits

        # Whole numbers of 2^(top - kept), so the sum is exact; what is smaller is cut off.
        terms = np.trunc(np.ldexp(significand, exponent - top[..., None] + kept))
        c_term = np.trunc(np.ldexp(c_significand, c_exponent - top + kept))
        total = np.ldexp(terms.sum(axis=-1) + c_term, top - kept)
        return _round_output(total, core.output)


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


#: An exponent below all others: with it, ldexp gives zero.
NOTHING = -10_000


def exact_products(
    a: F32, b: F32, core: TensorCore, a_fmt: FloatFormat, b_fmt: FloatFormat, scales: tuple[F32, F32] | None
) -> tuple[F64, AnyArray]:
    """Exact products as significands and exponents; of groups of products where the core has them."""
    a_significand, a_exponent = split_number(a, a_fmt.emin)
    b_significand, b_exponent = split_number(b, b_fmt.emin)
    significand, exponent = a_significand * b_significand, a_exponent + b_exponent
    if scales is None or core.scale_format is None:
        return significand, exponent
    emin = get_format(core.scale_format).emin
    (a_scale, a_binade), (b_scale, b_binade) = (split_number(s, emin) for s in scales)
    if not core.group:
        return significand * a_scale * b_scale, exponent + a_binade + b_binade

    def group(x: AnyArray) -> AnyArray:
        return x.reshape(*x.shape[:-1], -1, core.group)

    sums = group(a.astype(np.float64) * b).sum(axis=-1)  # exact: a fixed-point sum of small numbers
    scaled = sums * group(a_scale * b_scale)[..., 0]
    return scaled, np.where(scaled == 0, 2 * NOTHING, group(a_binade + b_binade)[..., 0])


def _round_output(x: F64, output: str) -> F32:
    """Round exact sums to the output; zero is +0, and what is too large is infinite."""
    emin, largest = (-14, 65504.0) if output == "fp16-rne" else (-126, float(np.finfo(np.float32).max))
    finite = np.where(np.isfinite(x) & (x != 0), x, 1.0)
    last = np.maximum(np.frexp(finite)[1] - 1, emin) - OUTPUTS[output]
    nearest = np.rint if output == "fp16-rne" else np.trunc
    rounded = np.ldexp(nearest(np.ldexp(x, -last)), last)
    rounded = np.where(np.abs(rounded) > largest, np.copysign(np.inf, rounded), rounded)
    return canonical_nan(np.asarray(rounded + 0.0, dtype=np.float32))


def canonical_nan(x: F32) -> F32:
    """Give every NaN the one pattern that tensor cores write, 0x7FFFFFFF."""
    return np.where(np.isnan(x), np.int32(0x7FFFFFFF).view(np.float32), x)
