"""What a tensor core is given, checked: values of its formats, as float32."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32, AnyArray, ArrayLike
from fp8sim.casts import decode
from fp8sim.formats import FORMATS, FloatFormat, FormatLike, get_format
from fp8sim.reference.fused_step import TensorCore
from fp8sim.reference.rounding import round_reference

__all__ = ["Problem", "Side", "check_problem"]


class Side(NamedTuple):
    """One operand: contiguous float32 values of one format."""

    values: F32
    fmt: FloatFormat
    range: Any  # what `_kernels.operands.inspect` saw
    scales: F32 | None = None  # of the core's own, one per block of k


class Problem(NamedTuple):
    """A checked product."""

    core: TensorCore
    a: Side
    b: Side
    c: F32 | None
    promote_every: int


def check_problem(
    a: ArrayLike,
    b: ArrayLike,
    core: TensorCore,
    c: ArrayLike | None,
    promote_every: int | None,
    scales: tuple[ArrayLike, ArrayLike] | None,
    a_format: FormatLike | None,
    b_format: FormatLike | None,
) -> Problem:
    """Check what `tensor_core_matmul` is given, and take it as float32."""
    every = 0 if promote_every is None else checks.positive_int(promote_every, "promote_every")
    if every % core.step:
        near = max(1, round(every / core.step)) * core.step
        raise ValueError(
            f"promote_every={every} is not a multiple of {core.step}, the step of {core.name}; pass {near}"
        )
    left, right = _side(a, "a", core, a_format), _side(b, "b", core, b_format)
    m, n, k = checks.multiply_shapes(left.values, right.values)
    start = None if c is None else _accumulator(c, (m, n), core, every)
    a_scales, b_scales = _block_scales(scales, core, m, n, k)
    return Problem(core, left._replace(scales=a_scales), right._replace(scales=b_scales), start, every)


def _side(x: ArrayLike, what: str, core: TensorCore, wanted: FormatLike | None) -> Side:
    """Take `x` as contiguous float32 in the first format that holds all of its values."""
    from fp8sim._kernels import operands

    array = np.asarray(x)
    values = _to_float32(array, what, core)
    candidates = [get_format(name) for name in core.inputs]
    if wanted is not None:
        fmt = get_format(wanted)
        if fmt not in candidates:
            raise ValueError(
                f"{what}_format={fmt.name!r} is no input of {core.name}; pass one of {', '.join(core.inputs)}"
            )
        candidates = [fmt]
    elif _format_of(array) in candidates:
        candidates = [fmt for fmt in candidates if fmt == _format_of(array)]
    for fmt in candidates:
        found = operands.inspect(values, fmt)
        if not found.outside:
            return Side(values, fmt, found)
    places = [np.unravel_index(operands.first_outside(values, fmt), values.shape) for fmt in candidates]
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
            raise ValueError(_misfits(core, what, [(exact, at, " or ".join(core.inputs))], core.inputs[0]))
    return values


def _accumulator(c: ArrayLike, shape: tuple[int, int], core: TensorCore, promote_every: int) -> F32:
    """Take `c` as float32 values that the accumulator can start from."""
    from fp8sim._kernels import operands

    exact = checks.as_matrix(c, "c")
    if exact.shape != shape:
        raise ValueError(f"c has shape {exact.shape}, the product {shape}; they must be equal")
    fmt = FORMATS["fp16" if core.output == "fp16-rne" and not promote_every else "fp32"]
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(exact, dtype=np.float32)
    if ((values != exact) & ~np.isnan(exact)).any() or operands.inspect(values, fmt).outside:
        raise ValueError(
            f"c holds values that are not {fmt.name}, what {core.name} accumulates in; "
            f"round first: fp8sim.round_to(c, {fmt.name!r})"
        )
    return values


def _block_scales(
    scales: tuple[ArrayLike, ArrayLike] | None, core: TensorCore, m: int, n: int, k: int
) -> tuple[F32 | None, F32 | None]:
    """Check the scales that a core multiplies by itself."""
    if core.scale_format is None:
        if scales is not None:
            raise ValueError(f"{core.name} takes no scales; multiply its product by them instead")
        return None, None
    what = f"{core.scale_format} scales, one per {core.scale_block} of k"
    if scales is None:
        raise ValueError(f"{core.name} multiplies by {what}: pass scales=(a_scales, b_scales)")
    fmt, blocks = get_format(core.scale_format), -(-k // core.scale_block)
    checked = []
    for side, given, shape in zip("ab", scales, ((m, blocks), (blocks, n)), strict=True):
        values = _to_float32(np.asarray(given), f"scales of {side}", core)
        if values.shape != shape:
            raise ValueError(f"scales of {side} have shape {values.shape}; {core.name} needs {shape}: {what}")
        rounded = round_reference(values, fmt, "toward-zero", "saturate")
        if not np.array_equal(values, rounded, equal_nan=True) or (values < 0).any():
            raise ValueError(f"scales of {side} must be {fmt.name} values, none negative")
        checked.append(values)
    return checked[0], checked[1]
