"""`round_to`, `encode` and `decode`: the public casts, checked, compiled and in threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from fp8sim import _kernels
from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.memory import empty
from fp8sim._support.text import shown
from fp8sim._support.threads import get_num_threads, run_in_threads, split
from fp8sim._support.typing import F32, F64, AnyArray, ArrayLike, FloatArray, Overflow, Rounding
from fp8sim.formats import FloatFormat, FormatLike, get_format
from fp8sim.reference.codes import decode_reference, decode_table, encode_reference
from fp8sim.reference.rounding import ROUNDINGS, draw_thresholds, round_reference

__all__ = ["check_random_bits", "decode", "encode", "overflow_policy", "round_to", "worth_compiling"]

# Smaller arrays go through the numpy oracle, so that numba need not be loaded for a few numbers.
COMPILED_FROM = 4096
CHUNK = 1 << 14  # elements done at a time where numpy helps: their scratch stays in the second-level cache
LEAST = 1 << 16  # elements worth handing to a thread
WAVE = 1 << 20  # random numbers held at a time


def round_to(
    x: ArrayLike,
    fmt: FormatLike,
    *,
    rounding: Rounding = "nearest-even",
    overflow: Overflow | None = None,
    rng: np.random.Generator | None = None,
    random_bits: int | None = None,
) -> FloatArray:
    """Round to the values of a format, once, from the caller's own precision.

    Parameters
    ----------
    x : array_like
        float32 and float64 keep their dtype; float16, bfloat16 and FP8 become float32; integers and
        lists become float64 if that is exact.
    fmt : str, dtype or FloatFormat
        The target format.
    rounding : str
        ``nearest-even``, ``nearest-away``, ``toward-zero``, ``toward-positive``,
        ``toward-negative`` or ``stochastic``.
    overflow : {"saturate", "ieee"}, optional
        What becomes of a value that is still beyond the largest finite one after rounding.
        ``saturate``: that largest value, for infinities too; NaN stays NaN. ``ieee``: infinity where
        the format has one, else NaN; directed roundings of finite values stop at the largest value
        on the side they do not round to (IEEE 754-2019, 7.4). By default what GPU conversions do:
        ``saturate`` for formats of 8 bits and fewer, ``ieee`` above. ml_dtypes and JAX do ``ieee``
        for FP8 too, and so does PyTorch 2.11 on a GPU.
    rng : numpy.random.Generator, optional
        The source of ``stochastic`` rounding: one draw of 53 bits per element, in C order.
    random_bits : int, optional
        How many of these bits ``stochastic`` rounding takes, 1 to 32, as hardware does: they are added to as
        many bits of the magnitude below the last place that is kept, and what is below that place is cut off.
        A magnitude that is a fraction f of the way to the next goes there with the probability
        ``floor(f * 2**n) / 2**n``, which is too low by less than ``2**-n``. All of f counts by default.

    Returns
    -------
    array of float32 or float64
        A new array of the shape of `x`. Signed zeros survive where the format has them.

    Raises
    ------
    TypeError
        If `x` is no array of real numbers, or `rng` is missing where it is needed.
    ValueError
        If a name is unknown, `random_bits` is beyond its limits or not for `rounding`, `x` holds NaN and
        `fmt` has none, or `overflow` is ``ieee``, the format has neither infinity nor NaN, and a value
        overflows.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> fp8sim.round_to([0.3, -431.99999999999994, 1e6], "e4m3")
    array([ 3.125e-01, -4.160e+02,  4.480e+02])
    >>> fp8sim.round_to(np.float32([0.3, 1e6]), "e4m3", overflow="ieee")
    array([0.3125,    nan], dtype=float32)
    >>> rng = np.random.default_rng(0)
    >>> float(fp8sim.round_to(np.full(10_000, 1.05), "e4m3", rounding="stochastic", rng=rng).mean())
    1.04995
    >>> chance = {"rounding": "stochastic", "rng": rng, "random_bits": 2}
    >>> float(fp8sim.round_to(np.full(10_000, 1.05), "e4m3", **chance).mean())  # 0.4 in 2 bits is 0.25
    1.0296125
    """
    return _cast(x, fmt, rounding, overflow, rng, codes=False, random_bits=random_bits)


def encode(
    x: ArrayLike,
    fmt: FormatLike,
    *,
    rounding: Rounding = "nearest-even",
    overflow: Overflow | None = None,
    rng: np.random.Generator | None = None,
    random_bits: int | None = None,
) -> AnyArray:
    """Round to a format and return the codes: the bits a GPU would store.

    Parameters
    ----------
    x, fmt, rounding, overflow, rng, random_bits
        As for `round_to`.

    Returns
    -------
    array
        Of ``fmt.dtype``: the numpy or ml_dtypes type where there is one, else unsigned integers.

    Raises
    ------
    TypeError, ValueError
        As for `round_to`.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> codes = fp8sim.encode([0.3, 1.0, 1e6], "e4m3")
    >>> codes
    array([0.3125, 1, 448], dtype='float8_e4m3fn')
    >>> codes.view(np.uint8)
    array([ 42,  56, 126], dtype=uint8)
    """
    return _cast(x, fmt, rounding, overflow, rng, codes=True, random_bits=random_bits)


@default_environment
def decode(codes: ArrayLike, fmt: FormatLike) -> F32:
    """Return the values of codes.

    Parameters
    ----------
    codes : array
        Of ``fmt.dtype``, or unsigned integers that hold the bits.
    fmt : str, dtype or FloatFormat
        The format they are in.

    Returns
    -------
    array of float32
        The values, exactly.

    Raises
    ------
    TypeError
        If `codes` is neither of the format's dtype nor of unsigned integers.
    ValueError
        If a code has more bits than the format.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> fp8sim.decode(np.array([0x38, 0x7E, 0x7F], np.uint8), "e4m3")
    array([  1., 448.,  nan], dtype=float32)
    """
    target = get_format(fmt)
    bits = _code_bits(checks.as_array(codes, "codes"), target)
    if target.bits > 16:
        return _decode_wide(bits, target)
    if worth_compiling(bits.size):
        return _look_up(bits, decode_table(target))
    return np.asarray(decode_table(target)[bits])


def overflow_policy(fmt: FloatFormat, overflow: str | None) -> Overflow:
    """Return `overflow`, or what GPU conversions to `fmt` do if it is None."""
    if overflow is None:
        return "saturate" if fmt.bits <= 8 else "ieee"
    checks.one_of(overflow, ("saturate", "ieee"), "overflow policy")
    return "saturate" if overflow == "saturate" else "ieee"


def check_random_bits(bits: int | None, rounding: str) -> int | None:
    """Return how many random bits a rounding takes, None for all of a draw, else raise."""
    if bits is None:
        return None
    if rounding != "stochastic":
        raise ValueError(f"rounding {rounding!r} draws nothing; leave random_bits={shown(bits)} out")
    return int(checks.within(checks.whole_number(bits, "random_bits"), "random_bits", 1, 32))


def worth_compiling(size: int) -> bool:
    """Whether an array of that size is large enough for the compiled way, and there is one."""
    return size >= COMPILED_FROM and _kernels.available()


@default_environment
def _cast(
    x: ArrayLike,
    fmt: FormatLike,
    rounding: Rounding,
    overflow: Overflow | None,
    rng: np.random.Generator | None,
    *,
    codes: bool,
    random_bits: int | None = None,
) -> AnyArray:
    """Check the arguments, and round or encode, compiled or not."""
    target = get_format(fmt)
    checks.one_of(rounding, ROUNDINGS, "rounding")
    policy = overflow_policy(target, overflow)
    array = checks.as_float(x)
    bits = check_random_bits(random_bits, rounding)
    draw = partial(draw_thresholds, checks.generator(rng), bits) if rounding == "stochastic" else None
    if worth_compiling(array.size):
        result, seen = _cast_compiled(array, target, codes=codes, rounding=rounding, policy=policy, draw=draw)
    else:
        draws = None if draw is None else draw(array.shape)
        result = round_reference(array, target, rounding, policy, draws)
        seen = Seen(bool(np.isnan(array).any()), bool(np.isnan(result).any()))
        result = encode_reference(result, target) if codes else result
    _refuse_lost(seen, target, policy)
    return result.view(target.dtype) if codes else result


class Seen(NamedTuple):
    """What a cast met that a format without NaN must refuse."""

    nan: bool  #: NaN among the inputs
    lost: bool  #: NaN among the results


def _refuse_lost(seen: Seen, fmt: FloatFormat, policy: str) -> None:
    """Raise if there was NaN, or a value that became NaN, in a format without NaN."""
    if fmt.has_nan or not (seen.nan or seen.lost):
        return
    if seen.nan:
        raise ValueError(f"x holds NaN, and {fmt} has none; replace it first, as with np.nan_to_num")
    if not fmt.signed and (policy == "saturate" or fmt.has_inf):
        raise ValueError(f"x holds numbers that the unsigned format {fmt} has not; clip them first")
    if not fmt.has_inf:
        unsigned = "" if fmt.signed else f"x holds numbers that the unsigned format {fmt} has not, or "
        raise ValueError(
            f"{unsigned}x overflows {fmt} (largest value {fmt.max:g}), which has neither infinity nor NaN "
            "for overflow='ieee'; pass overflow='saturate'"
        )


def _cast_compiled(
    x: FloatArray,
    fmt: FloatFormat,
    *,
    codes: bool,
    rounding: str,
    policy: str,
    draw: Callable[[int], F64] | None = None,
) -> tuple[AnyArray, Seen]:
    """Round `x` in its own dtype, or encode it as unsigned integers; `draw` gives numbers in C order."""
    from fp8sim._kernels import cast_kernels as kernels
    from fp8sim._kernels.quantize_kernels import INFINITY, nearest

    p = nearest(fmt, policy) if rounding == "nearest-even" and x.dtype == np.float32 else None
    quick = kernels.encode_nearest if codes else kernels.round_nearest
    numbers, slow = kernels.mode(fmt, rounding, policy), kernels.encode_any if codes else kernels.round_any

    def cast(values: FloatArray, results: AnyArray, draws: F64 | None = None) -> Seen:
        if p is None:
            size = min(CHUNK, values.size)
            equal = np.full(size, 0.5 if rounding.startswith("nearest") else 0.0)
            return _cast_in_float64(slow, numbers, values, results, equal if draws is None else draws)
        worst, _ = quick(values, results, p)
        nan = bool(worst > INFINITY)
        return Seen(nan, nan or (policy == "ieee" and not fmt.has_inf and bool(worst >= p.over)))

    order: Literal["C", "F"] = "C" if draw is not None else _order(x)
    source, out, seen = x.reshape(-1, order=order), empty(x.size, fmt.code_dtype if codes else x.dtype), []
    source.flags.writeable = False  # of a view, where `x` is contiguous: kernels are compiled once, for such
    for first, last in split(x.size, max(x.size, 1) if draw is None else WAVE):
        arrays = [source[first:last], out[first:last], *([] if draw is None else [draw(last - first)])]
        seen += run_in_threads(cast, [[array[i:j] for array in arrays] for i, j in _tasks(last - first)])
    total = Seen(any(part.nan for part in seen), any(part.lost for part in seen))
    return out.reshape(x.shape, order=order), total


def _cast_in_float64(kernel: Any, mode: Any, x: FloatArray, out: AnyArray, thresholds: F64) -> Seen:
    """Cast a flat array; `thresholds` are one for each element, or equal ones for a CHUNK."""
    scratch = np.empty(min(CHUNK, x.size), np.uint32 if out.dtype.kind == "u" else np.float64)
    nan = lost = False
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        for start, stop in split(x.size, CHUNK):
            limits = thresholds[start:stop] if thresholds.size == x.size else thresholds
            part = scratch[: stop - start]
            seen = kernel(x[start:stop].astype(np.float64), limits, part, mode)
            out[start:stop] = part
            nan, lost = nan or bool(seen[0]), lost or bool(seen[1])
    return Seen(nan, lost)


def _look_up(codes: AnyArray, table: F32) -> F32:
    """Return ``table[codes]`` for codes given as unsigned integers."""
    from fp8sim._kernels.quantize_kernels import look_up

    order = _order(codes)
    source, out = codes.reshape(1, -1, order=order), empty((1, codes.size), np.float32)
    source.flags.writeable = False
    run_in_threads(look_up, [(source[:, i:j], table, out[:, i:j]) for i, j in _tasks(codes.size)])
    return out.reshape(codes.shape, order=order)


def _tasks(size: int) -> list[tuple[int, int]]:
    """Cut flat work into a few parts for each thread, none too small to be worth it."""
    return split(size, max(LEAST, -(-size // (4 * get_num_threads()))))


def _order(x: AnyArray) -> Literal["C", "F"]:
    return "F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C"


def _code_bits(codes: AnyArray, fmt: FloatFormat) -> AnyArray:
    bits = codes.view(fmt.code_dtype) if codes.dtype == fmt.dtype else codes
    if bits.dtype.kind != "u":
        raise TypeError(
            f"codes of {fmt} are {fmt.dtype} or unsigned integers, got dtype {codes.dtype}; "
            "to turn values into codes call encode()"
        )
    if bits.size and 8 * bits.itemsize > fmt.bits and int(bits.max()) >= 2**fmt.bits:
        raise ValueError(f"code {int(bits.max()):#x} has more than the {fmt.bits} bits of {fmt}")
    return bits.astype(fmt.code_dtype, copy=False)


def _decode_wide(bits: AnyArray, fmt: FloatFormat) -> F32:
    """Decode more than 16 bits, for which there is no table, in parts that fit a cache."""
    if fmt.dtype == np.float32:
        return np.array(bits.view(np.float32))
    out = np.empty(bits.shape, np.float32, order="F" if bits.flags.fnc else "C")
    flat, values = bits.reshape(-1, order="A"), out.reshape(-1, order="A")
    for start, stop in split(bits.size, CHUNK):
        values[start:stop] = decode_reference(flat[start:stop], fmt)
    return out
