"""What a tensor core is given, and its checks: values of its formats, accumulators, block scales."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fp8sim import _kernels
from fp8sim._support import checks
from fp8sim._support.text import shown
from fp8sim._support.typing import F32, AnyArray, ArrayLike
from fp8sim.casts import decode, encode
from fp8sim.formats import FORMATS, FloatFormat, FormatLike, get_format
from fp8sim.reference.codes import decode_table
from fp8sim.reference.fused_step import split_number
from fp8sim.reference.rounding import round_reference
from fp8sim.tensor_cores.core import TensorCore

__all__ = [
    "Range",
    "check_format",
    "check_interval",
    "check_scales",
    "check_start",
    "checked_values",
    "unpacked",
    "values_range",
]


class Range(NamedTuple):
    """What is known of the values of an array: what they are, or for codes all that they may be."""

    outside: int  #: how many are no values of the format
    largest: float  #: finite magnitude; 0 if there is none
    smallest: float  #: finite magnitude other than zero; infinity if there is none
    finite: bool


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


@lru_cache(maxsize=64)
def unpacked(fmt: FloatFormat, core: TensorCore) -> tuple[FloatFormat, AnyArray] | None:
    """Return the first input format that holds all values of one of 8 bits or fewer, and their codes in it.

    So a kernel multiplies weights in a format that the core has not: DeepSeek-V4's ``fp4_gemm`` writes E2M1
    as E4M3 (inference/kernel.py), Marlin E4M3 as BF16 or FP16 (vLLM, gptq_marlin/dequant.h). None where the
    core multiplies the format itself, or no input holds it.

    Examples
    --------
    >>> from fp8sim.tensor_cores import get_tensor_core
    >>> wider, codes = unpacked(FORMATS["e2m1"], get_tensor_core("hopper-fp8"))
    >>> print(wider, decode(codes[:8], wider))
    e4m3 [0.  0.5 1.  1.5 2.  3.  4.  6. ]
    """
    if fmt in core.formats or fmt.bits > 8 or fmt.twos_complement:
        return None
    values = decode_table(fmt)
    for wide in core.formats:
        if not _misplaced(values, wide).any():
            return wide, encode(values, wide).view(wide.code_dtype)
    return None


def values_range(values: F32, fmt: FloatFormat) -> Range:
    """Look at all values of a float32 array once: how large, how small, of the format or not."""
    if _kernels.available():
        from fp8sim._kernels.range_kernels import inspect

        seen = inspect(values, fmt)
        if seen is not None:
            return Range(*seen)
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


def checked_values(
    x: ArrayLike, what: str, core: TensorCore, wanted: FormatLike | None
) -> tuple[F32, FloatFormat, Range]:
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
            return values, fmt, extent
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


def check_start(
    c: ArrayLike, shape: tuple[int, int], core: TensorCore, promote_every: int
) -> tuple[F32, Range]:
    """Take `c` as float32 values that the accumulator can start from."""
    exact = checks.as_matrix(c, "c")
    if exact.shape != shape:
        raise ValueError(f"c has shape {exact.shape}, the product {shape}; they must be equal")
    fmt = FORMATS["fp16" if core.output == "fp16-rne" and not promote_every else "fp32"]
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(exact, dtype=np.float32)
    extent = values_range(values, fmt)
    if extent.outside or ((values != exact) & ~np.isnan(exact)).any():
        raise ValueError(
            f"c holds values that are not {fmt.name}, what {core.name} accumulates in; "
            f"round first: fp8sim.round_to(c, {fmt.name!r})"
        )
    return values, extent


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
        raise TypeError(f"scales must be a pair, (a_scales, b_scales), got {shown(scales)}")
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
