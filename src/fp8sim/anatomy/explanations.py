"""What takes a value, a block of values and a dot product apart."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import Any, overload

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.text import shown
from fp8sim._support.typing import AnyArray, ArrayLike, FloatArray, Overflow, Rounding
from fp8sim.anatomy.alignment import take_steps
from fp8sim.anatomy.block import BlockAnatomy, Element, ElementFate
from fp8sim.anatomy.dot import DotAnatomy
from fp8sim.anatomy.neighbours import Place, code_of, find_place, split_code
from fp8sim.anatomy.reasons import Cast
from fp8sim.anatomy.value import ValueAnatomy, ValueInFormats
from fp8sim.casts import decode, overflow_policy, round_to
from fp8sim.formats import FORMATS, FloatFormat, FormatLike, get_format
from fp8sim.quantization import Quantized, quantize
from fp8sim.reference.rounding import ROUNDINGS, round_exact
from fp8sim.tensor_cores import TensorCore, split_interval
from fp8sim.tensor_cores.value_product import value_problem

__all__ = ["explain", "explain_block", "explain_dot"]


@overload
def explain(
    x: ArrayLike,
    fmt: FormatLike = ...,
    *,
    rounding: Rounding = ...,
    overflow: Overflow | None = ...,
    rng: np.random.Generator | None = ...,
) -> ValueAnatomy: ...


@overload
def explain(
    x: ArrayLike,
    fmt: list[Any] | tuple[Any, ...],
    *,
    rounding: Rounding = ...,
    overflow: Overflow | None = ...,
    rng: np.random.Generator | None = ...,
) -> ValueInFormats: ...


def explain(
    x: ArrayLike,
    fmt: FormatLike | list[Any] | tuple[Any, ...] = "e4m3",
    *,
    rounding: Rounding = "nearest-even",
    overflow: Overflow | None = None,
    rng: np.random.Generator | None = None,
) -> ValueAnatomy | ValueInFormats:
    """Tell what a number becomes in a format, bit by bit, and why.

    Parameters
    ----------
    x : float
        One number; a numpy scalar is taken in its own precision.
    fmt : str, dtype or FloatFormat, or a list of them
        The format, or several to put side by side.
    rounding, overflow, rng
        As in `round_to`.

    Returns
    -------
    ValueAnatomy or ValueInFormats
        Bits, neighbours, midpoint, reason and error. Prints as text of 80 columns, in colour with
        rich, and shows as HTML in a notebook; ``to_dict()`` gives it as data.

    Raises
    ------
    TypeError
        If `x` is no number, or `rng` is missing where it is needed.
    ValueError
        If `x` is an array, a name is unknown, or the format can not express what came out.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.anatomy import explain
    >>> why = explain(0.3, "e4m3")
    >>> why.value, hex(why.code), str(why.bits), round(why.relative_error, 4)
    (0.3125, '0x2a', '0 0101 010', 0.0417)
    >>> why.below.value, why.midpoint, why.above.value
    (0.28125, 0.296875, 0.3125)
    >>> print(why.why)
    0.3 is 9.6 steps of 2^-5 = 0.03125, and the nearest whole number of steps is 10.
    """
    number = checks.as_float(x)
    if number.ndim:
        raise ValueError(
            f"explain() tells of one number, got an array of shape {number.shape}; "
            "explain_block() tells of a block with its scale"
        )
    if isinstance(fmt, (list, tuple)):
        if not fmt:
            raise ValueError("no format to explain in; pass at least one, such as 'e4m3'")
        rows = tuple(_explain(number, get_format(one), rounding, overflow, rng) for one in fmt)
        return ValueInFormats(float(number), rows)
    return _explain(number, get_format(fmt), rounding, overflow, rng)


@default_environment
def _explain(
    x: FloatArray,
    fmt: FloatFormat,
    rounding: Rounding,
    overflow: Overflow | None,
    rng: np.random.Generator | None,
) -> ValueAnatomy:
    if fmt.twos_complement:
        raise ValueError(
            f"explain() reads the fields of a floating-point code, and {fmt} has none; "
            f"explain_block(x, {fmt.name!r}) tells of integers under a scale"
        )
    checks.one_of(rounding, ROUNDINGS, "rounding")
    draw = copy.deepcopy(checks.generator(rng)).random(()) if rounding == "stochastic" else None
    value = float(round_to(x, fmt, rounding=rounding, overflow=overflow, rng=rng))
    number, rounded, place = float(x), float(x), Place(None, None, None, math.nan)
    if math.isfinite(number):  # what the overflow policy and flushing then judge
        draws = None if draw is None else np.asarray(draw)
        rounded = float(round_exact(np.asarray(number), fmt, rounding, draws))
        place = find_place(number, fmt)
    cast = Cast(number, value, rounded, fmt, rounding, overflow_policy(fmt, overflow), place)
    code = code_of(value, fmt)
    return ValueAnatomy(
        given=number,
        fmt=fmt,
        rounding=rounding,
        overflow=cast.overflow,
        value=value,
        code=code,
        bits=split_code(code, fmt),
        place=place,
        fate=cast.fate,
        why=cast.why,
    )


@default_environment
def explain_block(
    x: ArrayLike,
    fmt: FormatLike = "e4m3",
    granularity: str = "tensor",
    *,
    axis: int = -1,
    scale_format: str = "fp32",
    scale_rule: str | None = None,
    amax_floor: float = 0.0,
    group: tuple[int, ...] | None = None,
) -> BlockAnatomy:
    """Tell what becomes of a block: its amax, its scale, and each element bit by bit.

    Parameters
    ----------
    x : array_like
        The block, or an array of several.
    fmt, granularity, axis, scale_format, scale_rule, amax_floor
        As in `quantize`; by default all of `x` shares one FP32 scale.
    group : tuple of int, optional
        Which of several groups to tell of: an index into ``quantize(x, ...).scales``.

    Returns
    -------
    BlockAnatomy
        The scale and the elements; prints as what `explain` returns.

    Raises
    ------
    TypeError
        If `x` is no array of real numbers.
    ValueError
        As `quantize` does; if `x` is empty, holds NaN or infinity, or has several groups and `group` is
        none of them.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.anatomy import explain_block
    >>> block = explain_block([0.001, -0.3, 1.0, 1000.0], "e4m3")
    >>> block.amax, block.scale, block.flushed, block.saturated
    (1000.0, 2.232142925262451, 1, 0)
    >>> [(str(e.bits), e.value, e.fate) for e in block.elements[:2]]
    [('0 0000 000', 0.0, 'flushed'), ('1 0100 001', -0.140625, 'rounded')]
    """
    array = checks.as_float(x)
    checks.finite(array, "x", "a block that holds one has no amax")
    q = quantize(
        array,
        fmt,
        granularity,
        axis=axis,
        scale_format=scale_format,
        scale_rule=scale_rule,
        amax_floor=amax_floor,
    )
    if array.size == 0:
        raise ValueError(f"x has shape {array.shape}: an empty block has nothing to explain")
    at = _pick_group(q, group)
    inside = tuple(slice(g * size, (g + 1) * size) for g, size in zip(at, q.sizes, strict=True))
    scaling = q.scaling
    scale_fmt = FORMATS["fp32" if scaling.granularity == "none" else scaling.scale_format]
    scale_code = int(q.scale_codes[at].reshape(1).view(scale_fmt.code_dtype)[0])
    return BlockAnatomy(
        fmt=q.fmt,
        scaling=scaling,
        group=at,
        amax=float(np.abs(array[inside]).max()),
        scale=float(q.scales[at]),
        scale_code=scale_code,
        scale_bits=split_code(scale_code, scale_fmt),
        tensor_scale=float(q.tensor_scale),
        elements=_elements(array, q, inside, q.scales[at]),
    )


def _pick_group(q: Quantized, group: tuple[int, ...] | None) -> tuple[int, ...]:
    shape = q.scales.shape
    if group is None:
        if q.scales.size > 1:
            raise ValueError(
                f"{q.scaling} makes {q.scales.size} groups of shape {q.sizes}; pass group=(...), an index "
                f"into scales of shape {shape}, such as group={(0,) * len(shape)}"
            )
        return (0,) * len(shape)
    try:
        at = tuple(group)
    except Exception:  # of what has no elements
        raise TypeError(f"group must be an index such as {(0,) * len(shape)}, got {shown(group)}") from None
    if len(at) != len(shape) or not all(
        0 <= checks.whole_number(i, "an index of group") < size for i, size in zip(at, shape, strict=True)
    ):
        raise ValueError(f"group={shown(group)} is no index into scales of shape {shape}")
    return at


def _elements(
    x: FloatArray, q: Quantized, inside: tuple[slice, ...], scale: np.float32
) -> tuple[Element, ...]:
    block = x[inside]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        scaled = block / block.dtype.type(scale) if scale else np.copysign(0, block)
    codes = q.codes[inside]
    values = decode(codes, q.fmt).astype(np.float64)
    restored = values * np.float64(scale)
    bits = codes.view(q.fmt.code_dtype)
    beyond = np.abs(round_exact(scaled.astype(np.float64), q.fmt, "nearest-even")) > q.fmt.max
    elements = []
    for index in np.ndindex(block.shape):
        number, code = float(block[index]), int(bits[index])
        fate: ElementFate = "exact" if restored[index] == number else "rounded"
        if values[index] == 0 and number != 0:
            fate = "flushed"
        elif beyond[index]:
            fate = "saturated"
        elements.append(
            Element(
                where=tuple(part.start + i for part, i in zip(inside, index, strict=True)),
                given=number,
                scaled=float(scaled[index]),
                code=code,
                bits=split_code(code, q.fmt),
                value=float(values[index]),
                restored=float(restored[index]),
                fate=fate,
            )
        )
    return tuple(elements)


@default_environment
def explain_dot(
    a: ArrayLike,
    b: ArrayLike,
    core: str | TensorCore = "hopper-fp8",
    *,
    c: float | None = None,
    promote_every: int | None = None,
    scales: tuple[ArrayLike, ArrayLike] | None = None,
    a_format: FormatLike | None = None,
    b_format: FormatLike | None = None,
) -> DotAnatomy:
    """Tell how a tensor core sums a dot product, bit by bit.

    Parameters
    ----------
    a, b : (k,) array_like
        Factors: values that the core's input formats have.
    core : str or TensorCore
        A name in `TENSOR_CORES`, or a core of your own.
    c : float, optional
        What the sum starts from.
    promote_every, a_format, b_format
        As in `tensor_core_matmul`.
    scales : pair of (ceil(k / block),) array_like, optional
        Block scales, for a core that multiplies by them itself.

    Returns
    -------
    DotAnatomy
        Every product aligned to the largest exponent, what falls off, the running sum and the
        promotions; prints as what `explain` returns, and ``print(anatomy.steps[3])`` shows one step.

    Raises
    ------
    TypeError
        If a factor is no real number.
    ValueError
        If `a` and `b` are no two vectors of one length, or as `tensor_core_matmul`.

    Examples
    --------
    31 products that together are 0.613 vanish beside one of 256:

    >>> import fp8sim
    >>> from fp8sim.anatomy import explain_dot
    >>> small = [0.140625] * 31
    >>> dot = explain_dot([16, *small], [16, *small], "hopper-fp8")
    >>> dot.result, dot.exact
    (256.0, 256.613037109375)
    >>> term = dot.steps[0].terms[1]
    >>> term.kept, term.lost
    ('+0.0000000000000', '1010001')
    """
    core, promote_every = split_interval(core, promote_every)
    left, right = _row_and_column(a, b)
    if scales is not None and not (isinstance(scales, (tuple, list)) and len(scales) == 2):
        raise TypeError(f"scales must be a pair, those of a and those of b, got {shown(scales)}")
    pair = None if scales is None else _scales_of_one(*scales)
    problem = value_problem(
        left,
        right,
        core,
        c=None if c is None else [[c]],
        promote_every=promote_every,
        scales=pair,
        a_format=a_format,
        b_format=b_format,
    )
    steps, promotions, result = take_steps(problem, left.size)
    first = 0.0 if c is None else float(c)
    exact = result
    if math.isfinite(first) and all(step.finite for step in steps):
        exact = float(sum((step.exact_products for step in steps), Fraction(first)))
    return DotAnatomy(
        core=core,
        a_format=problem.a.fmt,
        b_format=problem.b.fmt,
        k=left.size,
        c=first,
        promote_every=problem.promote_every,
        steps=tuple(steps),
        promotions=tuple(promotions),
        result=result,
        exact=exact,
    )


def _scales_of_one(a: ArrayLike, b: ArrayLike) -> tuple[AnyArray, AnyArray]:
    """Take the block scales of two vectors as those of matrices."""
    return checks.as_array(a, "scales of a").reshape(1, -1), checks.as_array(b, "scales of b").reshape(-1, 1)


def _row_and_column(a: ArrayLike, b: ArrayLike) -> tuple[AnyArray, AnyArray]:
    """Take two vectors of one length, in their own types, as matrices that multiply."""
    for x, what in ((a, "a"), (b, "b")):
        shape = checks.as_float(x, what).shape
        if len(shape) != 1:
            raise ValueError(f"{what} must be a vector (1 dimension), got shape {shape}; pass one row")
    row, column = checks.as_array(a).reshape(1, -1), checks.as_array(b).reshape(-1, 1)
    if row.size != column.size:
        raise ValueError(f"a has {row.size} elements and b has {column.size}; they must be equal")
    if not row.size:
        raise ValueError("a and b are empty: there is no product to explain")
    return row, column
