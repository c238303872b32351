"""Scaling by groups, written to be read: amax of each group, its scale, and elements over it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np

from fp8sim._support.typing import F32, AnyArray, FloatArray
from fp8sim.formats import FORMATS, FloatFormat
from fp8sim.reference.codes import decode_table, encode_reference
from fp8sim.reference.rounding import floor_log2, round_exact, round_reference

__all__ = [
    "Scales", "apply_scales", "count_beyond", "encode_nearest", "expand_groups", "group_amax",
    "group_percentile", "pick_multipliers", "pick_scales",
]  # fmt: skip

_TINY = 2.0**-149  # smallest FP32 scale: keeps a group of tiny values from dividing by zero
_HUGE = np.finfo(np.float32).max  # largest multiplier, as in TransformerEngine: no zero becomes 0 x infinity
_BOUND = 448, 256  # largest NVFP4 scale; under 4over6, which may take a scale half again as large


Encode: TypeAlias = Callable[[FloatArray, FloatFormat], AnyArray]


def encode_nearest(x: FloatArray, fmt: FloatFormat) -> AnyArray:
    """Round to nearest even, saturate, and return the codes in the format's own dtype.

    Examples
    --------
    >>> encode_nearest(np.array([0.3, 1e6]), FORMATS["e4m3"])
    array([0.3125, 448], dtype='float8_e4m3fn')
    """
    return encode_reference(round_reference(x, fmt, "nearest-even", "saturate"), fmt).view(fmt.dtype)


class Scales(NamedTuple):
    """The scales of an array: multipliers, and how they are stored."""

    values: F32  #: ``x ~ codes * values``
    codes: AnyArray  #: in the scale format
    tensor_scale: np.float32 = np.float32(1)  #: the FP32 scale above E4M3 scales
    multipliers: F32 | None = None  #: elements are multiplied by these, not divided by `values`


def group_amax(x: FloatArray, sizes: tuple[int, ...]) -> FloatArray:
    """Return the largest magnitude of each group, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> group_amax(np.array([[1.0, -3.0, 2.0, 0.5, -0.25]]), (1, 2))
    array([[3.  , 2.  , 0.25]])
    """
    if not x.size:  # reduceat takes no axis without elements
        return np.zeros([-(-length // size) for length, size in zip(x.shape, sizes, strict=True)], x.dtype)
    amax: FloatArray = np.abs(x)
    for axis, size in enumerate(sizes):
        if size > 1:
            amax = np.maximum.reduceat(amax, np.arange(0, amax.shape[axis], size), axis=axis)
    return amax


def group_percentile(x: FloatArray, sizes: tuple[int, ...], percentile: float) -> FloatArray:
    """Return the magnitude in each group at or below which `percentile` per cent of its magnitudes are.

    The nearest rank, one of the magnitudes: of 1000 the 999th in order is their 99.9th percentile. A ragged
    group is counted as it is.

    Examples
    --------
    >>> group_percentile(np.array([[1.0, -3.0, 2.0, 0.5, -0.25]]), (1, 3), 50)
    array([[2.  , 0.25]])
    """
    levels = np.zeros([-(-length // size) for length, size in zip(x.shape, sizes, strict=True)], x.dtype)
    ends = [length // size * size for length, size in zip(x.shape, sizes, strict=True)]
    for ragged in itertools.product((False, True), repeat=x.ndim):  # whole groups, and those at the ends
        cut = [slice(end, None) if last else slice(end) for last, end in zip(ragged, ends, strict=True)]
        part = np.abs(x[tuple(cut)])
        if not part.size:
            continue
        size = [n if last else g for last, n, g in zip(ragged, part.shape, sizes, strict=True)]
        counts = [n // g for n, g in zip(part.shape, size, strict=True)]
        split = part.reshape([n for pair in zip(counts, size, strict=True) for n in pair])
        order = [*range(0, 2 * x.ndim, 2), *range(1, 2 * x.ndim, 2)]
        groups = split.transpose(order).reshape(*counts, -1)
        # The decimal number that is written: 99.9 % of 1000 is 999, where 0.999 in binary is above it.
        rank = math.ceil(Fraction(repr(float(percentile))) * groups.shape[-1] / 100) - 1
        starts = [end // size for end, size in zip(ends, sizes, strict=True)]
        at = [slice(end, None) if last else slice(end) for last, end in zip(ragged, starts, strict=True)]
        levels[tuple(at)] = np.partition(groups, rank, axis=-1)[..., rank]
    return levels


def expand_groups(per_group: AnyArray, sizes: tuple[int, ...], shape: tuple[int, ...]) -> AnyArray:
    """Repeat one number per group over the elements of the group.

    Examples
    --------
    >>> import numpy as np
    >>> expand_groups(np.array([[1.0, 2.0]]), (1, 3), (1, 5))
    array([[1., 1., 1., 2., 2.]])
    """
    for axis, (size, length) in enumerate(zip(sizes, shape, strict=True)):
        if per_group.shape[axis] == 1 and length:
            continue  # broadcasting repeats it
        if size > 1:
            per_group = np.repeat(per_group, size, axis=axis).take(np.arange(length), axis=axis)
    return np.broadcast_to(per_group, shape)


def pick_scales(
    amax: FloatArray,
    fmt: FloatFormat,
    *,
    scale_format: str = "fp32",
    scale_rule: str | None = "amax",
    amax_floor: float = 0.0,
    division: str = "divide",
    stretch: float = 1.0,
    top: float = 0.0,
    encode: Encode = encode_nearest,
) -> Scales:
    """Pick the scale of each group from its largest magnitude, by the rules of `Scaling`.

    The division by ``fmt.max`` is done in the dtype of `amax`. All multipliers are positive, but for E4M3
    scales, which may underflow to zero as they do on a GPU; `encode` is what encodes these, `stretch` what
    they are multiplied by, and `top` the largest magnitude of groups that are not here. A group of zeros gets
    the scale 1, or the smallest of E8M0. A scale too large for its format is a ValueError. Every `division`
    but ``divide`` wants float32.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> e4m3 = fp8sim.get_format("e4m3")
    >>> pick_scales(np.array([896.0, 0.0]), e4m3).values
    array([2., 1.], dtype=float32)
    >>> pick_scales(np.array([900.0]), e4m3, scale_format="e8m0", scale_rule="ceil").values
    array([4.], dtype=float32)
    >>> pick_scales(np.float32([0.9]), e4m3, division="te-current").multipliers
    array([497.7778], dtype=float32)
    """
    amax = np.maximum(amax, amax.dtype.type(amax_floor))
    if scale_format == "e4m3":
        if division == "te-nvfp4":
            return _te_nvfp4_scales(amax, fmt, scale_rule, stretch, top, encode)
        return _nvfp4_scales(amax, fmt, scale_rule, stretch, top, encode)
    if scale_rule == "amax":
        multipliers = None if division == "divide" else pick_multipliers(amax, fmt.max)
        divisor = multipliers if division == "te-current" else None
        with np.errstate(over="ignore", divide="ignore"):  # what is infinite is refused
            quotient = amax / amax.dtype.type(fmt.max) if divisor is None else np.float32(1) / divisor
        values = _positive_fp32(quotient, amax)
        return Scales(values, values, multipliers=multipliers)
    values = _power_of_two(amax, fmt, scale_rule)
    if scale_format == "e8m0":
        exponents = np.frexp(values)[1] - 1
        return Scales(values, (exponents + 127).astype(np.uint8).view(FORMATS["e8m0"].dtype))
    return Scales(values, values)


def pick_multipliers(amax: FloatArray, largest: float) -> F32:
    """Return ``largest / amax`` in FP32: 1 for a group of zeros, and at most the largest finite number.

    So does ``compute_scale_from_amax`` of TransformerEngine (common/recipe/recipe_common.cuh).

    Examples
    --------
    >>> pick_multipliers(np.float32([7.0, 0.0, 1e-40]), 448.0)
    array([6.4000000e+01, 1.0000000e+00, 3.4028235e+38], dtype=float32)
    """
    with np.errstate(over="ignore", divide="ignore"):
        quotient = np.float32(largest) / np.asarray(amax, np.float32)
    return np.where(amax > 0, np.minimum(quotient, _HUGE), np.float32(1))


def _nvfp4_scales(
    amax: FloatArray, fmt: FloatFormat, scale_rule: str | None, stretch: float, most: float, encode: Encode
) -> Scales:
    """E4M3 scales under one FP32 scale, so that the largest of them is 448 (TransformerEngine)."""
    bound = _BOUND[scale_rule != "amax"]
    if fmt.max * bound > float(np.finfo(amax.dtype).max):
        amax = amax.astype(np.float64)  # that of BF16 and wider formats is beyond float32
    dtype = amax.dtype.type
    top = amax.max(initial=dtype(most))
    with np.errstate(over="ignore"):  # of a format whose values are all small: refused by `_positive_fp32`
        tensor = _positive_fp32(np.asarray(top / dtype(fmt.max * bound)), np.asarray(top))
        return _under(tensor, amax / dtype(fmt.max) / dtype(tensor) * dtype(stretch), amax, encode)


def _te_nvfp4_scales(
    amax: FloatArray, fmt: FloatFormat, scale_rule: str | None, stretch: float, most: float, encode: Encode
) -> Scales:
    """E4M3 scales as TransformerEngine works them out: by reciprocals, each operation rounded to FP32.

    As the kernels of common/cast/nvfp4 and ``_quantize_blockwise_reference`` of
    pytorch/custom_recipes/reference_nvfp4.py do. A scale that underflows to zero leaves its elements
    multiplied by the largest finite number, so that they saturate; what they stand for is zero.
    """
    bound, largest, one = _BOUND[scale_rule != "amax"], np.float32(fmt.max), np.float32(1)
    top = np.asarray(amax.max(initial=amax.dtype.type(most)))
    tensor = _positive_fp32(top / np.float32(fmt.max * bound), top)
    wide = pick_multipliers(top, fmt.max * bound)
    with np.errstate(over="ignore", divide="ignore"):
        plain = scale_rule == "amax"
        quotient = amax * (wide * (one / largest)) if plain else amax / largest * wide
        scales = _under(tensor, quotient * np.float32(stretch), amax, encode)
        inside = decode_table(FORMATS["e4m3"])[scales.codes.view(np.uint8)]
        multipliers = np.minimum(one / (inside * (one / wide)), _HUGE)
    return scales._replace(multipliers=np.asarray(multipliers))


def _under(tensor: F32, quotient: FloatArray, amax: FloatArray, encode: Encode) -> Scales:
    """Encode scales in E4M3 that stand under the FP32 scale of a tensor."""
    codes = encode(quotient, FORMATS["e4m3"])
    values = np.asarray(decode_table(FORMATS["e4m3"])[codes.view(np.uint8)] * tensor)
    _refuse_infinite(values, amax)
    return Scales(values, codes, np.float32(tensor))


def _power_of_two(amax: FloatArray, fmt: FloatFormat, scale_rule: str | None) -> F32:
    """Powers of two, held in the range of E8M0."""
    positive = np.where(amax > 0, amax, 1)
    if scale_rule == "ceil":  # compare significands: amax = s 2^e against max = t 2^emax
        exponent = floor_log2(positive) - fmt.emax
        over = np.frexp(positive)[0] > math.frexp(fmt.max)[0]
        exponent = exponent + over
    else:
        exponent = floor_log2(positive) - fmt.emax
        if scale_rule == "even":  # amax = s 2^e with 1/2 <= s < 1, which may round up to 1
            bits = FloatFormat("significand", 8, fmt.mantissa_bits, subnormals=False)
            significand = np.frexp(positive)[0].astype(np.float64)
            exponent = exponent + (round_exact(significand, bits, "nearest-even") == 1)
    if exponent.size and exponent.max() > 127:
        raise ValueError(f"amax {amax.max():g} needs a scale above 2^127, the largest of E8M0")
    exponent = np.where(amax > 0, np.maximum(exponent, -127), -127)
    return np.asarray(np.ldexp(np.float32(1), exponent))


def _positive_fp32(scale: FloatArray, amax: FloatArray) -> F32:
    """Round scales to FP32, 1 for a group of zeros, and never zero or infinite."""
    with np.errstate(over="ignore"):
        rounded = scale.astype(np.float32)
    _refuse_infinite(rounded, amax)
    return np.where(amax > 0, np.maximum(rounded, np.float32(_TINY)), np.float32(1))


def _refuse_infinite(scale: F32, amax: FloatArray) -> None:
    if np.isinf(scale).any():
        raise ValueError(f"amax {amax.max():g} needs a scale beyond FP32; divide the array first")


def apply_scales(x: FloatArray, scales: Scales, sizes: tuple[int, ...]) -> FloatArray:
    """Return the elements as they are before they are rounded, in the dtype of `x`.

    Examples
    --------
    >>> scales = Scales(np.array([2.0, 0.0], np.float32), np.array([2.0, 0.0]))
    >>> apply_scales(np.array([3.0, 1.0, -3.0]), scales, (2,))
    array([ 1.5,  0.5, -0. ])
    """
    if scales.multipliers is not None:
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(x * expand_groups(scales.multipliers, sizes, x.shape), dtype=x.dtype)
    divisors = expand_groups(scales.values, sizes, x.shape)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        quotient = x / divisors.astype(x.dtype, copy=False)
    return np.where(divisors == 0, np.copysign(0, x), quotient)  # a scale that underflowed gives zero


def count_beyond(scaled: FloatArray, fmt: FloatFormat) -> int:
    """Count the finite elements that rounding leaves beyond the largest finite value.

    Examples
    --------
    >>> count_beyond(np.array([464.0, 465.0, np.inf]), FORMATS["e4m3"])
    1
    """
    candidates = scaled[np.isfinite(scaled) & (np.abs(scaled) > fmt.max)].astype(np.float64)
    return int(np.count_nonzero(round_exact(candidates, fmt, "nearest-even") > fmt.max))
