"""How far sums can be off at most, from the operands alone: a bound to hold measured errors against.

A fused step cuts off each of its terms below 2^(e - F), where e is the largest exponent and F the fraction
bits of the core, and then rounds its output. So a step of L products and the accumulator adds at most
(L + 1) 2^(e - F), and one unit in the last place of what leaves it. A promotion to FP32 adds half a unit.
Of AMD's cores those that round down add a little more of the same kind; an exact step half a unit alone; and
pairwise ones half a unit of every product and sum, and what becomes zero because it is subnormal.
"""

from __future__ import annotations

import numpy as np

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
SEGMENT = 8  # steps over which the accumulator is taken to be as large as at their end


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
    if isinstance(accumulator, Fp32):
        sizes = float_product(np.abs(a.dequantize(np.float64)), np.abs(b.dequantize(np.float64)))
        return np.asarray((a.shape[1] + 2) * _U32 * 1.01 * sizes)
    if not isinstance(accumulator, TensorCoreSum) or accumulator.core.output == "fp16-rne":
        return None
    return _chained(a, b, accumulator)


def _chained(a: Quantized, b: Quantized, sums: TensorCoreSum) -> F64:
    """Follow the steps of every chain, in units of the codes, and the chains into their FP32 sum."""
    core, k = sums.core, a.shape[1]
    inside = core.scale_format is not None
    every = sums.interval(a, b) or max(k, 1)
    left, right = _Side(a, 1, core), _Side(b, 0, core)
    bound = np.zeros((a.shape[0], b.shape[1]))
    total = np.zeros_like(bound)
    for start in range(0, k, every):
        stop = min(start + every, k)
        chain, size = _chain(left, right, core, start, stop)
        scale = 1.0 if inside else left.scales[:, start, None] * right.scales[:, start]
        total += size * scale + chain * scale
        # The promotion: scales multiplied and rounded, one fused multiply-add.
        bound += chain * scale + _U32 * 1.01 * (2 * (size + chain) * scale + total)
    tensor_scale = float(a.tensor_scale) * float(b.tensor_scale) if inside else 1.0
    return np.asarray(bound * tensor_scale + 3 * _U32 * total * tensor_scale)


class _Side:
    """Magnitudes, alignment exponents (as powers of two) and scales of one operand, rows first."""

    def __init__(self, x: Quantized, k_axis: int, core: TensorCore) -> None:
        def rows(array: AnyArray) -> AnyArray:
            return array if k_axis == 1 else array.T

        scales = np.asarray(expand_groups(x.scales.astype(np.float64), x.sizes, x.shape))
        values = decode(x.codes, x.fmt)
        exponents = split_number(values, x.fmt.emin)[1].astype(np.float64)
        magnitudes = np.abs(values.astype(np.float64))
        if core.scale_format is not None:
            stored = decode(x.scale_codes, x.scaling.scale_format)
            stored = np.asarray(expand_groups(stored, x.sizes, x.shape))
            binades = split_number(stored, get_format(core.scale_format).emin)[1]
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
        bound += terms * (
            float_product(rows, columns.T) + steps * np.maximum(binade, 2.0**core.exponent_floor)
        )
        bound += steps * np.maximum(binade, 2.0**-126) * output
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
