"""Matrix products that sum as a tensor core does, bit for bit: step by step, and compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fp8sim import _kernels
from fp8sim._support import checks
from fp8sim._support.typing import F32, AnyArray, ArrayLike
from fp8sim.casts import decode
from fp8sim.formats import FORMATS, FloatFormat, FormatLike
from fp8sim.reference.codes import decode_table
from fp8sim.reference.fused_step import Factors, canonical_nan, fused_step, promote
from fp8sim.tensor_cores.arguments import (
    Problem,
    Range,
    Side,
    check_format,
    check_interval,
    check_scales,
    check_start,
    checked_side,
    codes_range,
    values_range,
)
from fp8sim.tensor_cores.catalogue import get_tensor_core, split_interval
from fp8sim.tensor_cores.core import TensorCore

__all__ = [
    "check_problem", "coded_side", "multiply", "promoted_matmul", "tensor_core_matmul",
    "tensor_core_matmul_reference",
]  # fmt: skip


def tensor_core_matmul(
    a: ArrayLike,
    b: ArrayLike,
    core: str | TensorCore = "hopper-fp8",
    *,
    c: ArrayLike | None = None,
    promote_every: int | None = None,
    scales: tuple[ArrayLike, ArrayLike] | None = None,
    a_format: FormatLike | None = None,
    b_format: FormatLike | None = None,
) -> F32:
    """Multiply matrices bit for bit as a tensor core does, from values in its input formats.

    Parameters
    ----------
    a : (m, k) array_like
        Left operand: values that the core's input format has, as ml_dtypes, float16, float32 or
        float64. A k that the step does not divide is filled up with zeros.
    b : (k, n) array_like
        Right operand, alike.
    core : str or TensorCore
        A name in `TENSOR_CORES`, with a promotion interval after a slash if there is one
        (``"hopper-fp8/128"``), or a core of your own.
    c : (m, n) array_like, optional
        FP32 (or FP16, for a core with FP16 output) values that the sums start from, instead of +0.
    promote_every : int, optional
        Start a new chain every so many k, a multiple of the core's step, and add the chains in
        FP32, rounding to nearest: 128 is what cuBLAS does where fast accumulation is off. Without
        it one chain runs over all of k.
    scales : ((m, k/block), (k/block, n)) pair of array_like, optional
        For a core that multiplies by block scales itself: values of its `scale_format`, one per
        `scale_block` elements along k.
    a_format, b_format : str, dtype or FloatFormat, optional
        Format of an operand, for a core with several: it decides how a subnormal is aligned. An
        ml_dtypes array carries it; other arrays take the first of the core's formats that holds
        all of their values.

    Returns
    -------
    (m, n) array of float32
        The accumulators, FP16 values among them for a core with FP16 output. NaN is 0x7FFFFFFF.

    Raises
    ------
    TypeError
        If an operand is no array of real numbers.
    ValueError
        If a value is not in the format, the shapes do not multiply, `promote_every` is no multiple
        of the step, or scales are missing or not asked for.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> a = np.array([[-(2.0**13), -0.5, -0.25, -0.125]])
    >>> b = np.array([[2.0**10, 1, 1, 1]]).T
    >>> for core in ["volta-fp16", "ampere-fp16", "hopper-fp16"]:  # -0.875 would be exact
    ...     print(core, fp8sim.tensor_cores.product.tensor_core_matmul(a, b, core, c=[[2.0**23]]))
    volta-fp16 [[0.]]
    ampere-fp16 [[-0.5]]
    hopper-fp16 [[-0.75]]
    """
    core, every = split_interval(core, promote_every)
    problem = check_problem(
        a, b, core, c=c, promote_every=every, scales=scales, a_format=a_format, b_format=b_format
    )
    return multiply(problem)


def promoted_matmul(
    a: ArrayLike,
    b: ArrayLike,
    core: str | TensorCore,
    *,
    promote_every: int,
    a_scales: F32,
    b_scales: F32,
    **formats: Any,
) -> F32:
    """Multiply as `tensor_core_matmul`, each chain times its scales as it is promoted.

    A chain p over `promote_every` of k enters the FP32 sum as fma(p, fl32(a_scale * b_scale), sum),
    one rounding for the product of scales and one for the rest, as DeepGEMM's SM90 kernel has it, and cuBLAS
    where one side has a scale per 128x128 block (recorded on an H100). Where both have one per 1x128, cuBLAS
    rounds p * a_scale, and has the other scale in the fma.
    There is one of `a_scales` per row of `a` and chain, one of `b_scales` per chain and column of `b`.

    Examples
    --------
    >>> import numpy as np
    >>> a, b, ones = np.ones((1, 256)), np.ones((256, 1)), np.ones((2, 1), np.float32)
    >>> scales = np.array([[0.5, 2.0]], np.float32)
    >>> promoted_matmul(a, b, "hopper-fp8", promote_every=128, a_scales=scales, b_scales=ones)
    array([[320.]], dtype=float32)
    """
    options = {**formats, "promote_every": promote_every, "promotion": (a_scales, b_scales)}
    return multiply(check_problem(a, b, get_tensor_core(core), **options))


def coded_side(codes: AnyArray, fmt: FloatFormat, core: TensorCore, what: str, *, finite: bool) -> Side:
    """Take codes that came from a cast to `fmt`: they need no check, and up to 16 bits no copy as float32.

    `finite` says that they hold no NaN and no infinity. Formats that the core does not multiply are refused.
    """
    check_format(fmt, core, what)
    bits = np.ascontiguousarray(codes.view(fmt.code_dtype))
    # Any two values of such a format multiply exactly in float32, and their sums fit: no look at them is due.
    narrow = finite and fmt.bits <= 8 and fmt.emax - fmt.emin < 32
    extent = Range(0, fmt.max, fmt.smallest_subnormal, True) if narrow else codes_range(bits, fmt)
    if fmt.bits > 16:  # no table of its values
        return Side(decode(bits, fmt), fmt, extent)
    return Side(bits, fmt, extent, decode_table(fmt))


def check_problem(
    a: ArrayLike | Side,
    b: ArrayLike | Side,
    core: TensorCore,
    *,
    c: ArrayLike | None = None,
    promote_every: int | None = None,
    scales: tuple[ArrayLike, ArrayLike] | None = None,
    promotion: tuple[F32, F32] | None = None,
    a_format: FormatLike | None = None,
    b_format: FormatLike | None = None,
) -> Problem:
    """Check what `tensor_core_matmul` is given; a side may be one already, `promotion` scales of chains."""
    every = check_interval(promote_every, core)
    left, right = (
        x if isinstance(x, Side) else checked_side(x, what, core, fmt)
        for x, what, fmt in ((a, "a", a_format), (b, "b", b_format))
    )
    m, n, k = checks.multiply_shapes(left.array, right.array)
    start = None if c is None else check_start(c, (m, n), core, every)
    left, right = (
        side._replace(scales=own, scale_exponents=exponents)
        for side, (own, exponents) in zip((left, right), check_scales(scales, core, m, n, k), strict=True)
    )
    chains = -(-k // every) if every else 1
    for what, one, wanted in zip("ab", promotion or (), ((m, chains), (chains, n)), strict=False):
        if one.shape != wanted or one.dtype != np.float32:
            raise ValueError(
                f"{what}_scales must be float32 {wanted}, one per chain of {every}; "
                f"got {one.dtype} {one.shape}"
            )
    return Problem(core, left, right, start, every, promotion)


def multiply(problem: Problem) -> F32:
    """Run a checked product: compiled, or readable where nothing can be compiled."""
    return _compiled(problem) if _kernels.available() else step_by_step(problem)


def tensor_core_matmul_reference(
    a: ArrayLike,
    b: ArrayLike,
    core: str | TensorCore = "hopper-fp8",
    **options: Any,
) -> F32:
    """Do what `tensor_core_matmul` does, step by step in numpy: slow, and meant to be read.

    `options` are those of `tensor_core_matmul`, and ``promotion``: the scales of `promoted_matmul`.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.full((1, 64), 1.5), np.full((64, 1), 2.0)
    >>> tensor_core_matmul_reference(a, b), tensor_core_matmul(a, b)
    (array([[192.]], dtype=float32), array([[192.]], dtype=float32))
    """
    return step_by_step(check_problem(a, b, get_tensor_core(core), **options))


def step_by_step(p: Problem) -> F32:
    """Run the chain of fused steps over k in order, and promote where a chain ends."""
    step, rule = p.core.step, p.core.rule
    a, b = _Columns.of(p.a, p.core, transposed=False), _Columns.of(p.b, p.core, transposed=True)
    (m, k), n = a.values.shape, len(b.values)
    total = np.zeros((m, n), np.float32) if p.c is None else p.c
    chain = np.zeros((m, n), np.float32) if p.promote_every else total
    for start in range(0, k, step):
        left, right = a.step(start, step), b.step(start, step)
        chain = fused_step(_for_all(left, 1), _for_all(right, 0), chain, rule)
        if p.promote_every and (start + step >= k or (start + step) % p.promote_every == 0):
            at = start // p.promote_every
            pair = () if p.promotion is None else (p.promotion[0][:, at, None], p.promotion[1][None, at])
            total = promote(total, chain, *pair)
            chain = np.zeros((m, n), np.float32)
    return canonical_nan(total if p.promote_every else chain)


class _Columns(NamedTuple):
    """One side, its rows the rows or columns of the product, k along its columns."""

    values: F32
    scales: F32 | None  #: repeated for every element
    emin: int

    @classmethod
    def of(cls, side: Side, core: TensorCore, *, transposed: bool) -> _Columns:
        values = side.values.T if transposed else side.values
        scales = side.scales
        if scales is not None:
            scales = np.repeat(scales.T if transposed else scales, core.scale_block, axis=1)
            scales = scales[:, : values.shape[1]]
        return cls(values, scales, side.fmt.emin)

    def step(self, start: int, count: int) -> Factors:
        """Take `count` columns, zeros beyond the end."""

        def take(x: F32) -> F32:
            part = x[:, start : start + count]
            return np.pad(part, ((0, 0), (0, count - part.shape[1])))

        return Factors(take(self.values), self.emin, None if self.scales is None else take(self.scales))


def _for_all(x: Factors, axis: int) -> Factors:
    """Add an axis for the rows or columns of the other side."""
    scales = None if x.scales is None else np.expand_dims(x.scales, axis)
    return x._replace(values=np.expand_dims(x.values, axis), scales=scales)


def _compiled(problem: Problem) -> F32:
    from fp8sim._kernels import product_driver

    core, c = problem.core, problem.c
    shape = len(problem.a.array), problem.b.array.shape[1]
    out = np.zeros(shape, np.float32) if c is None else c.copy()
    product_driver.multiply(
        problem.a,
        problem.b,
        out,
        core.rule,
        c=None if c is None else values_range(c, FORMATS["fp32"]),
        promote_every=problem.promote_every,
        scale_block=core.scale_block,
        promotion=problem.promotion,
    )
    return out
