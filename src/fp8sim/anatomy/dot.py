"""A dot product on a tensor core: every product aligned, what falls off, the running sum, promotion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32, AnyArray, ArrayLike
from fp8sim.anatomy.dot_page import dot_page
from fp8sim.anatomy.page import Page, Told
from fp8sim.anatomy.step import StepAnatomy, take_step
from fp8sim.formats import FloatFormat, FormatLike
from fp8sim.reference.fused_step import TensorCore, promote
from fp8sim.tensor_cores import get_tensor_core
from fp8sim.tensor_cores.arguments import Problem, check_problem

__all__ = ["DotAnatomy", "Promotion", "explain_dot"]


class Promotion(NamedTuple):
    """A chain added to the FP32 sum outside the tensor core, rounded to nearest even."""

    last: int  #: the last k of the chain
    chain: float
    before: float
    after: float


@dataclass(frozen=True, repr=False)
class DotAnatomy(Told):
    """A dot product on a tensor core, step by step; made by `explain_dot`.

    Attributes
    ----------
    core : TensorCore
        How it sums.
    a_format, b_format : FloatFormat
        Formats of the factors.
    k : int
        Number of products.
    c : float
        What the sum starts from.
    promote_every : int
        Products after which a chain is added to an FP32 sum; 0 for one chain.
    steps : tuple of StepAnatomy
        The fused steps in order.
    promotions : tuple of Promotion
        The additions in FP32.
    result : float
        What the tensor core returns.
    exact : float
        The exact dot product of the same factors and c, as the nearest float64.
    """

    core: TensorCore
    a_format: FloatFormat
    b_format: FloatFormat
    k: int
    c: float
    promote_every: int
    steps: tuple[StepAnatomy, ...]
    promotions: tuple[Promotion, ...]
    result: float
    exact: float

    @property
    def error(self) -> float:
        """``result - exact``; 0 where both are the same infinity or NaN."""
        same = self.result == self.exact or math.isnan(self.result)
        return 0.0 if same else self.result - self.exact

    @property
    def relative_error(self) -> float:
        """``(result - exact) / |exact|``; NaN where the exact sum is zero and the result is not."""
        if self.error == 0:
            return 0.0
        return self.error / abs(self.exact) if self.exact else math.nan

    @property
    def cut_off(self) -> float:
        """Sum of all that fell off in the alignments, in float64."""
        return math.fsum(step.cut_off for step in self.steps)

    def page(self) -> Page:
        """Return the lines that it shows as."""
        return dot_page(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "core": self.core.name,
            "step_length": self.core.step,
            "fraction_bits": self.core.fraction_bits,
            "output": self.core.output,
            "a_format": self.a_format.name,
            "b_format": self.b_format.name,
            "k": self.k,
            "c": self.c,
            "promote_every": self.promote_every,
            "steps": [step.to_dict() for step in self.steps],
            "promotions": [promotion._asdict() for promotion in self.promotions],
            "result": self.result,
            "exact": self.exact,
            "error": self.error,
            "relative_error": self.relative_error,
        }


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
        promotions. Prints as text of 80 columns, and shows as HTML in a notebook; ``to_dict()``
        gives it as data, ``print(anatomy.steps[3])`` shows one step.

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
    chosen = get_tensor_core(core)
    left, right = _row_and_column(a, b)
    pair = None if scales is None else (np.reshape(scales[0], (1, -1)), np.reshape(scales[1], (-1, 1)))
    start = None if c is None else [[c]]
    problem = check_problem(left, right, chosen, start, promote_every, pair, a_format, b_format)
    steps, promotions, result = _walk(problem, left.size)
    first = 0.0 if c is None else float(c)
    exact = result
    if math.isfinite(first) and all(step.finite for step in steps):
        exact = float(sum((step.exact_products for step in steps), Fraction(first)))
    return DotAnatomy(
        core=chosen,
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


def _row_and_column(a: ArrayLike, b: ArrayLike) -> tuple[AnyArray, AnyArray]:
    """Take two vectors of one length, in their own types, as matrices that multiply."""
    for x, what in ((a, "a"), (b, "b")):
        shape = checks.as_float(x, what).shape
        if len(shape) != 1:
            raise ValueError(f"{what} must be a vector (1 dimension), got shape {shape}; pass one row")
    row, column = np.asarray(a).reshape(1, -1), np.asarray(b).reshape(-1, 1)
    if row.size != column.size:
        raise ValueError(f"a has {row.size} elements and b has {column.size}; they must be equal")
    if not row.size:
        raise ValueError("a and b are empty: there is no product to explain")
    return row, column


def _walk(problem: Problem, k: int) -> tuple[list[StepAnatomy], list[Promotion], float]:
    """Run the chain as `tensor_core_matmul` does, and keep what is seen on the way."""
    core = problem.core
    zero = np.float32(0)
    total: F32 = np.asarray(zero if problem.c is None else problem.c[0, 0])
    chain = np.asarray(zero) if problem.promote_every else total
    steps: list[StepAnatomy] = []
    promotions: list[Promotion] = []
    for first in range(0, k, core.step):
        step, chain = take_step(problem, first, min(first + core.step, k), chain)
        steps.append(step)
        end = first + core.step
        if problem.promote_every and (end >= k or end % problem.promote_every == 0):
            before, total = total, promote(total, chain)
            promotions.append(Promotion(min(end, k) - 1, float(chain), float(before), float(total)))
            chain = np.asarray(zero)
    return steps, promotions, float(total if problem.promote_every else chain)
