"""How far sums can be off at most, from the operands alone: a bound to hold measured errors against.

A fused step cuts off each of its terms below 2^(e - F), where e is the largest exponent and F the fraction
bits of the core, and then rounds its output. So a step of L products and the accumulator adds at most
(L + 1) 2^(e - F), and one unit in the last place of what leaves it. A promotion to FP32 adds half a unit, as
does every other rounding in FP32; where that underflows, half of the smallest subnormal.
Of AMD's cores those that round down add a little more of the same kind; an exact step half a unit alone; and
pairwise ones half a unit of every product and sum, and what becomes zero because it is subnormal.
"""

from __future__ import annotations

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.products import float_product
from fp8sim._support.typing import F64, AnyArray
from fp8sim.accumulators.base import Accumulator
from fp8sim.accumulators.float_sums import Fp32
from fp8sim.accumulators.tensor_core_sum import TensorCoreSum
from fp8sim.casts import decode
from fp8sim.formats import get_format
from fp8sim.quantization import Quantized
from fp8sim.reference.fused_step import split_number
from fp8sim.reference.scales import expand_groups
from fp8sim.tensor_cores import OUTPUTS, TensorCore

__all__ = ["sum_error_bound"]

_U32 = 2.0**-24  # unit roundoff of FP32
_UNDERFLOW = 2.0**-150  # what rounding loses at most where FP32 is subnormal: half of its smallest value
_MAX = float(np.finfo(np.float32).max)  # sums that could be larger have no bound
SEGMENT = 8  # steps over which the accumulator is taken to be as large as at their end


@default_environment
def sum_error_bound(a: Quantized, b: Quantized, accumulator: Accumulator) -> F64 | None:
    """Bound the error of every sum against the exact product of the quantised operands.

    For a tensor core the bound follows each step, with the largest exponent that its products and its
    accumulator can have; for FP32 sums it is the standard one, ``(k + 2) u |A| |B|`` with u = 2^-24, k of it
    for the sums and two for rounding the operands (Blanchard, Higham, Lopez, Mary and Pranesh, "Mixed
    precision block fused multiply-add", MIMS 2019.18, table 3.2).

    Parameters
    ----------
    a, b : Quantized
        Operands, (m, k) and (k, n).
    accumulator : Accumulator
        How they are summed.

    Returns
    -------
    (m, n) array of float64, or None
        Absolute bounds; None for an accumulator without one (exact, sequential and the like), and for a
        core with FP16 output.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> from fp8sim.gemm import quantize_both
    >>> rng = np.random.default_rng(0)
    >>> recipe = fp8sim.get_recipe("deepseek-v3")
    >>> a, b = quantize_both(rng.standard_normal((4, 512)), rng.standard_normal((512, 4)), recipe)
    >>> exact = a.dequantize(np.float64) @ b.dequantize(np.float64)
    >>> error = np.abs(recipe.accumulator.multiply(a, b) - exact)
    >>> bool(np.all(error <= sum_error_bound(a, b, recipe.accumulator)))
    True
    """
    for side in (a, b):
        checks.of_kind(side, Quantized, "an operand")
    checks.of_kind(accumulator, Accumulator, "accumulator")
    if isinstance(accumulator, Fp32):
        return _fp32(a, b)
    if not isinstance(accumulator, TensorCoreSum) or accumulator.core.output == "fp16-rne":
        return None
    with np.errstate(all="ignore"):
        return _chained(a, b, accumulator)


def _fp32(a: Quantized, b: Quantized) -> F64:
    """Take the standard bound, and what is lost where an operand or a product is subnormal."""
    left, right = (np.abs(x.dequantize(np.float64)) for x in (a, b))
    lost = np.zeros((len(left), right.shape[1]))
    if a.is_scaled:
        lost += right.sum(axis=0)
    if b.is_scaled:
        lost += left.sum(axis=1)[:, None]
    sizes = float_product(left, right)
    bound = (a.shape[1] + 2) * _U32 * 1.01 * sizes + _UNDERFLOW * (lost + 2 * a.shape[1])
    too_large = (left > _MAX).any(axis=1, keepdims=True) | (right > _MAX).any(axis=0)
    return np.where(too_large | ~(sizes + bound <= _MAX), np.inf, bound)


def _chained(a: Quantized, b: Quantized, sums: TensorCoreSum) -> F64:
    """Follow the steps of every chain, in units of the codes, then their FP32 sum, and its scales."""
    core, k = sums.core, a.shape[1]
    inside, every = core.scale_format is not None, sums.interval(a, b) or max(k, 1)
    left, right = _Side(a, 1, core), _Side(b, 0, core)
    scales_change = not inside and min(a.sizes[1], b.sizes[0]) < k
    bound = np.zeros((a.shape[0], b.shape[1]))
    total = np.zeros_like(bound)
    for start in range(0, k, every):
        chain, size = _chain(left, right, core, start, min(start + every, k))
        if scales_change:  # the chain is promoted times the rounded product of its scales
            scale, off = _rounded(left.scales[:, start, None] * right.scales[:, start])
            chain, size = chain * scale + size * off, size * scale
        total += size
        bound += chain
        if scales_change or every < k:  # one addition, rounded
            bound += _U32 * 1.01 * (total + bound) + _UNDERFLOW
    overflow = ~(total + bound <= _MAX)  # NaN, of infinity, too
    if not inside and a.scaling.granularity == b.scaling.granularity == "row":  # one after the other
        for scale in (right.scales[:, 0], left.scales[:, :1]):
            total, bound = total * scale, bound * scale
            bound += _U32 * (total + bound) + _UNDERFLOW
            overflow |= ~(total + bound <= _MAX)
    elif not scales_change and (a.is_scaled or b.is_scaled):
        pair = (a.tensor_scale, b.tensor_scale) if inside else (left.scales[:, :1], right.scales[:, 0])
        exact = np.asarray(pair[0], np.float64) * pair[1]
        scale, off = _rounded(exact)
        if np.any(exact != 1):  # the sums times their scales, rounded, against scales that were rounded apart
            drift = (1 + left.drift) * (1 + right.drift) - 1
            bound = bound * scale + total * (off + drift * exact)
            bound += _U32 * (total * scale + bound) + _UNDERFLOW
            overflow |= ~(total * scale + bound <= _MAX) | np.isinf(scale)
    return np.where(overflow, np.inf, bound)


def _rounded(scale: np.float64 | F64) -> tuple[F64, F64]:
    """Return a product of scales, rounded to FP32, and by how much it is off."""
    rounded = np.asarray(scale, np.float32).astype(np.float64)
    return rounded, np.abs(rounded - scale)


class _Side:
    """Magnitudes, alignment exponents (as powers of two) and scales of one operand, rows first."""

    def __init__(self, x: Quantized, k_axis: int, core: TensorCore) -> None:
        def rows(array: AnyArray) -> AnyArray:
            return array if k_axis == 1 else array.T

        self.drift = 0.0  # of scales, relative
        scales = np.asarray(expand_groups(x.scales.astype(np.float64), x.sizes, x.shape))
        values = decode(x.codes, x.fmt)
        exponents = split_number(values, x.fmt.emin)[1].astype(np.float64)
        magnitudes = np.abs(values.astype(np.float64))
        if core.scale_format is not None:
            stored = decode(x.scale_codes, x.scaling.scale_format)
            stored = np.asarray(expand_groups(stored, x.sizes, x.shape))
            binades = split_number(stored, get_format(core.scale_format).emin)[1]
            # The exact product is of scales rounded to FP32; the core multiplies by both of their factors.
            exact = stored.astype(np.float64) * np.float64(x.tensor_scale)
            off = np.abs(scales - exact)[exact > 0] / exact[exact > 0]
            self.drift = float(off.max(initial=0))
            exponents = np.where(core.group, 0.0, exponents) + binades
            magnitudes = magnitudes * stored
        self.magnitudes, self.scales = rows(magnitudes), rows(scales)
        self.subnormal = np.where(self.magnitudes < x.fmt.smallest_normal, self.magnitudes, 0.0)
        self.binades = np.exp2(np.maximum(rows(exponents), -1000.0))

    def largest(self, part: slice, step: int) -> F64:
        """Return 2 to the largest exponent of every step in a part of k."""
        binades = self.binades[:, part]
        starts = np.arange(0, binades.shape[1], step)
        return np.asarray(np.maximum.reduceat(binades, starts, axis=1))


def _chain(left: _Side, right: _Side, core: TensorCore, start: int, stop: int) -> tuple[F64, F64]:
    """Return the bound of one chain and the sum of its products' magnitudes.

    Cutting off toward zero makes nothing larger, so no accumulator exceeds that sum; one that was rounded
    otherwise may, by its bound so far. A step's largest exponent is that of a product or of the accumulator;
    both together bound it, and the products of a segment's steps are one matrix product of powers of two.
    """
    size = np.zeros((len(left.magnitudes), len(right.magnitudes)))
    bound = np.zeros_like(size)
    terms, output = _cut_off(core)
    for at in range(start, stop, SEGMENT * core.step):
        part = slice(at, min(at + SEGMENT * core.step, stop))
        size += float_product(left.magnitudes[:, part], right.magnitudes[:, part].T)
        rows, columns = left.largest(part, core.step), right.largest(part, core.step)
        steps = rows.shape[1]
        reach = size if core.law == "truncated" else size + 1.01 * bound
        if core.law == "pairwise":
            bound += _rounded_products(left, right, core, part, steps)
            reach = size + 1.01 * bound
        binade = np.where(reach > 0, np.exp2(np.frexp(reach)[1] - 1.0), 0.0)
        least = 2.0 ** max(core.exponent_floor, -126)  # a subnormal accumulator has that exponent
        accumulator = np.maximum(binade, least)
        bound += terms * (float_product(rows, columns.T) + steps * accumulator) + steps * accumulator * output
    return bound, size


def _cut_off(core: TensorCore) -> tuple[float, float]:
    """Return what a step cuts off at most, below its largest exponent and below that of its output."""
    if core.law == "truncated":
        terms = core.step // (core.subgroup or core.group or 1) + 1
        return terms * 2.0**-core.fraction_bits, 2.0 ** -OUTPUTS[core.output]
    if core.law != "rounded-down":
        return 0.0, _U32
    sums = 2 if core.group else 0  # each rounded down; then their sum, and that with the accumulator
    low = 2.0 ** -(core.sum_bits + 1)
    return (core.step + sums + 1) * 2.0**-core.fraction_bits + low, _U32 + 2 * low


def _rounded_products(left: _Side, right: _Side, core: TensorCore, part: slice, steps: int) -> F64:
    """Bound what a pairwise core loses in a part of k before it adds to the accumulator."""
    a, b = left.magnitudes[:, part], right.magnitudes[:, part]
    roundings = (core.group or core.step).bit_length()  # of a product, and of the sums that it is in
    lost = float_product(left.subnormal[:, part], b.T) + float_product(a, right.subnormal[:, part].T)
    tiny = (2 * core.step + 2) * steps * 2.0**-126  # each result may have become zero
    return np.asarray(roundings * _U32 * 1.01 * float_product(a, b.T) + lost + tiny)
