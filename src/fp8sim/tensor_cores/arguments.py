"""What a tensor core is given, and its checks: values of its formats, accumulators, block scales."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fp8sim import _kernels
from fp8sim._support import checks
from fp8sim._support.threads import run_in_threads, split
from fp8sim._support.typing import F32, AnyArray, ArrayLike
from fp8sim.casts import decode
from fp8sim.formats import FORMATS, FloatFormat, FormatLike, get_format
from fp8sim.reference.fused_step import split_number
from fp8sim.reference.rounding import round_reference
from fp8sim.tensor_cores.core import TensorCore

__all__ = [
    "Problem", "Range", "Side", "check_format", "check_interval", "check_scales", "check_start",
    "checked_side", "codes_range", "values_range",
]  # fmt: skip

RUN = 1 << 18  # codes looked at at a time: they stay in a cache


class Range(NamedTuple):
    """What is known of the values of an array: what they are, or for codes all that they may be."""

    outside: int  #: how many are no values of the format
    largest: float  #: finite magnitude; 0 if there is none
    smallest: float  #: finite magnitude other than zero; infinity if there is none
    finite: bool


class Side(NamedTuple):
    """One side of a product: values of one format, or their codes; what everything below is handed."""

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


class Problem(NamedTuple):
    """A checked product."""

    core: TensorCore
    a: Side
    b: Side
    c: F32 | None
    promote_every: int
    promotion: tuple[F32, F32] | None = None  #: scales of A and of B for whole chains


def check_interval(promote_every: int | None, core: TensorCore) -> int:
    """Return the promotion interval in whole steps; 0 where one chain runs over all of k."""
    every = 0 if promote_every is None else checks.positive_int(promote_every, "promote_every")
    if every % core.step:
        near = max(1, round(every / core.step)) * core.step
        raise ValueError(
            f"promote_every={every} is not a multiple of {core.step}, the step of {core.name}; pass {near}"
        )
    return every


def check_format(fmt: FloatFormat, core: TensorCore, what: str) -> None:
    """Refuse a format that the core does not multiply."""
    if fmt not in core.formats:
        names = ", ".join(map(str, core.formats))
        raise ValueError(f"{what}_format={fmt.name!r} is no input of {core.name}; pass one of {names}")


def codes_range(bits: AnyArray, fmt: FloatFormat) -> Range:
    """Return the range of what codes stand for: the codes of one sign are in the order of their values.

    Examples
    --------
    >>> bits = np.array([0x00, 0x38, 0xC0, 0x08], np.uint8)  # 0, 1, -2 and the smallest normal number
    >>> codes_range(bits, FORMATS["e4m3"])
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


def values_range(values: F32, fmt: FloatFormat) -> Range:
    """Look at all values of a float32 array once: how large, how small, of the format or not."""
    if _kernels.available():
        from fp8sim._kernels.range_kernels import inspect

        return Range(*inspect(values, fmt))
    size = np.abs(values[np.isfinite(values)])
    return Range(
        int(np.count_nonzero(_misplaced(values, fmt))),
        float(size.max(initial=0)),
        float(size[size > 0].min(initial=np.inf)),
        size.size == values.size,
    )


def _misplaced(values: F32, fmt: FloatFormat) -> AnyArray:
    """Mark what is no value of the format."""
    same = round_reference(values, fmt, "toward-zero", "saturate") == values
    same |= np.isinf(values) & fmt.has_inf | np.isnan(values) & fmt.has_nan
    return ~np.asarray(same)


def checked_side(x: ArrayLike, what: str, core: TensorCore, wanted: FormatLike | None) -> Side:
    """Take `x` as contiguous float32 in the first format that holds all of its values."""
    array = checks.as_array(x, what)
    values = _to_float32(array, what, core)
    candidates = core.formats
    if wanted is not None:
        fmt = get_format(wanted)
        check_format(fmt, core, what)
        candidates = [fmt]
    elif _format_of(array) in candidates:
        candidates = [fmt for fmt in candidates if fmt == _format_of(array)]
    for fmt in candidates:
        extent = values_range(values, fmt)
        if not extent.outside:
            return Side(values, fmt, extent)
    places = [tuple(np.argwhere(_misplaced(values, fmt))[0]) for fmt in candidates]
    misfits = [(values, at, fmt.name) for at, fmt in zip(places, candidates, strict=True)]
    raise ValueError(_misfits(core, what, misfits, candidates[0].name))


def _misfits(core: TensorCore, what: str, misfits: list[tuple[AnyArray, Any, str]], target: str) -> str:
    """Name values that no input format has."""
    named = [
        f"{what}[{', '.join(str(int(i)) for i in at)}] = {values[at]!s} is no {names} value"
        for values, at, names in misfits
    ]
    return (
        f"{core.name} multiplies values of its input formats, but {' and '.join(named)}; "
        f"round first: fp8sim.round_to({what}, {target!r})"
    )


def _format_of(array: AnyArray) -> FloatFormat | None:
    """Return the format that the dtype says, if that is narrower than float32."""
    if array.dtype in (np.float32, np.float64):
        return None
    try:
        return get_format(array.dtype)
    except ValueError:
        return None


def _to_float32(array: AnyArray, what: str, core: TensorCore) -> F32:
    own = _format_of(array)
    if own is not None and array.ndim == 2:
        return np.ascontiguousarray(decode(array, own))
    exact = checks.as_matrix(array, what)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(exact, dtype=np.float32)
    if exact.dtype != np.float32:
        wrong = (values != exact) & ~np.isnan(exact)
        if wrong.any():
            at = np.unravel_index(int(wrong.argmax()), wrong.shape)
            names = [str(fmt) for fmt in core.formats]
            raise ValueError(_misfits(core, what, [(exact, at, " or ".join(names))], names[0]))
    return values


def check_start(c: ArrayLike, shape: tuple[int, int], core: TensorCore, promote_every: int) -> F32:
    """Take `c` as float32 values that the accumulator can start from."""
    exact = checks.as_matrix(c, "c")
    if exact.shape != shape:
        raise ValueError(f"c has shape {exact.shape}, the product {shape}; they must be equal")
    fmt = FORMATS["fp16" if core.output == "fp16-rne" and not promote_every else "fp32"]
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(exact, dtype=np.float32)
    if ((values != exact) & ~np.isnan(exact)).any() or values_range(values, fmt).outside:
        raise ValueError(
            f"c holds values that are not {fmt.name}, what {core.name} accumulates in; "
            f"round first: fp8sim.round_to(c, {fmt.name!r})"
        )
    return values


def check_scales(
    scales: tuple[ArrayLike, ArrayLike] | None, core: TensorCore, m: int, n: int, k: int
) -> list[tuple[F32 | None, AnyArray | None]]:
    """Check the scales that a core multiplies by itself; return them and their exponents, of A and of B."""
    if core.scale_format is None:
        if scales is not None:
            raise ValueError(f"{core.name} takes no scales; multiply its product by them instead")
        return [(None, None)] * 2
    what = f"{core.scale_format} scales, one per {core.scale_block} of k"
    if scales is None:
        raise ValueError(f"{core.name} multiplies by {what}: pass scales=(a_scales, b_scales)")
    pair = tuple(scales) if isinstance(scales, Iterable) else ()
    if len(pair) != 2:
        raise TypeError(f"scales must be a pair, (a_scales, b_scales), got {scales!r}")
    fmt, blocks = get_format(core.scale_format), -(-k // core.scale_block)
    checked: list[tuple[F32 | None, AnyArray | None]] = []
    for side, own, shape in zip("ab", pair, ((m, blocks), (blocks, n)), strict=True):
        values = _to_float32(checks.as_array(own, f"scales of {side}"), f"scales of {side}", core)
        if values.shape != shape:
            raise ValueError(f"scales of {side} have shape {values.shape}; {core.name} needs {shape}: {what}")
        rounded = round_reference(values, fmt, "toward-zero", "saturate")
        if not np.array_equal(values, rounded, equal_nan=True) or (values < 0).any():
            raise ValueError(f"scales of {side} must be {fmt.name} values, none negative")
        checked.append((values, split_number(values, fmt.emin)[1].astype(np.int16)))
    return checked
