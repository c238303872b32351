"""Values to codes and back, written to be read: the numpy oracle of `encode` and `decode`.

The codes of one sign, read as integers, count the values of a format upwards from zero: subnormals
first, then each binade in turn, then what is special. So a code is just the number of steps. The other sign
sets the top bit, or in two's complement counts down from zero: 0xFF, 0xFE and so on.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fp8sim._support.typing import F32, F64, AnyArray, FloatArray
from fp8sim.formats import FloatFormat
from fp8sim.reference.rounding import floor_log2

__all__ = ["decode_reference", "decode_table", "encode_reference", "positive_values"]


def encode_reference(values: FloatArray, fmt: FloatFormat) -> AnyArray:
    """Return the codes of `values`, which are values of `fmt` already, as unsigned integers.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> encode_reference(np.array([0.0, 1.0, -448.0]), fp8sim.get_format("e4m3"))
    array([  0,  56, 254], dtype=uint8)
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        v = values.astype(np.float64)
    magnitude = np.where(np.isfinite(v), np.abs(v), 0.0)
    exponent = np.maximum(floor_log2(np.where(magnitude > 0, magnitude, fmt.smallest_normal)), fmt.emin)
    significand = np.ldexp(magnitude, fmt.mantissa_bits - exponent).astype(np.int64)
    code = ((exponent - fmt.emin).astype(np.int64) << fmt.mantissa_bits) + significand
    if not fmt.zero:
        code -= 1 << fmt.mantissa_bits  # no subnormals below the first binade to count

    if fmt.has_inf:
        code = np.where(np.isinf(v), fmt.infinity_code, code)
    if fmt.has_nan:
        code = np.where(np.isnan(v), fmt.nan_code, code)
    if fmt.signed:
        negative = -code & (2**fmt.bits - 1) if fmt.twos_complement else code | 1 << (fmt.bits - 1)
        plain = ~np.signbit(v) | (np.isnan(v) & (fmt.specials == "fnuz"))
        code = np.where(plain, code, negative)
    return np.asarray(code, dtype=fmt.code_dtype)


def decode_reference(codes: AnyArray, fmt: FloatFormat) -> F32:
    """Return the float32 values of unsigned integer `codes`.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> decode_reference(np.array([0x38, 0x7E, 0xFF], np.uint8), fp8sim.get_format("e4m3"))
    array([  1., 448.,  nan], dtype=float32)
    """
    code = codes.astype(np.int64)
    if fmt.twos_complement:
        steps = code - (code >> (fmt.bits - 1) << fmt.bits)
        return np.asarray(steps * fmt.smallest_subnormal, dtype=np.float32)
    field = (code >> fmt.mantissa_bits) & (2**fmt.exponent_bits - 1)
    mantissa = code & (2**fmt.mantissa_bits - 1)
    negative = (code >> (fmt.bits - 1) == 1) & fmt.signed

    normal = (field > 0) | (not fmt.zero)
    significand = mantissa + np.where(normal, 1 << fmt.mantissa_bits, 0)
    exponent = np.where(normal, field - int(fmt.zero), 0) + fmt.emin
    value = np.ldexp(significand.astype(np.float64), exponent - fmt.mantissa_bits)
    if not fmt.subnormals:
        value = np.where(normal, value, 0.0)

    unsigned = code & ~(int(fmt.signed) << (fmt.bits - 1))
    match fmt.specials:
        case "ieee":
            top = field == 2**fmt.exponent_bits - 1
            value = np.where(top, np.where(mantissa == 0, np.inf, np.nan), value)
        case "nan-only":
            value = np.where(unsigned == fmt.nan_code, np.nan, value)
        case "fnuz":
            value = np.where(code == fmt.nan_code, np.nan, value)
    negative &= ~((code == fmt.nan_code) & (fmt.specials == "fnuz"))
    return np.asarray(np.where(negative, -value, value), dtype=np.float32)


@lru_cache(maxsize=64)
def decode_table(fmt: FloatFormat) -> F32:
    """Return the value of every code of a format of at most 16 bits, read-only.

    Examples
    --------
    >>> import fp8sim
    >>> decode_table(fp8sim.get_format("e2m1"))[:8]
    array([0. , 0.5, 1. , 1.5, 2. , 3. , 4. , 6. ], dtype=float32)
    """
    table = decode_reference(np.arange(2**fmt.bits), fmt)
    table.setflags(write=False)
    return table


def positive_values(fmt: FloatFormat) -> F64:
    """Return every positive finite value of a format of at most 16 bits, in order.

    Examples
    --------
    >>> import fp8sim
    >>> positive_values(fp8sim.get_format("e2m1"))
    array([0.5, 1. , 1.5, 2. , 3. , 4. , 6. ])
    """
    values = np.unique(decode_table(fmt).astype(np.float64))
    return values[np.isfinite(values) & (values > 0)]
