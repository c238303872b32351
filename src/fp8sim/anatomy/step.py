"""One fused step taken apart: each term's bits before and after the cut, and the sum of what is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from fp8sim._support.typing import F32, F64, AnyArray
from fp8sim.anatomy.dot_page import step_page
from fp8sim.anatomy.page import Page, Told
from fp8sim.reference.fused_step import TensorCore, exact_products, fused_step, split_number
from fp8sim.tensor_cores.arguments import Problem, Side

__all__ = ["StepAnatomy", "Term", "take_step"]


class Term(NamedTuple):
    """A product, a group of products or the accumulator, aligned; bits are signed magnitudes."""

    first: int  #: first k of the products in it; -1 for the accumulator
    last: int
    a: float | None  #: factors, where it is one product
    b: float | None
    value: float
    exponent: int | None  #: sum of the factors' exponents; None for zero, infinity and NaN
    kept: str  #: such as ``+1.0100000000000``, in units of two to the alignment exponent
    lost: str  #: the bits after those of `kept` to the last 1; empty if nothing falls off
    kept_value: float
    lost_value: float


@dataclass(frozen=True, repr=False)
class StepAnatomy(Told):
    """One fused step of a tensor core; part of a `DotAnatomy`.

    Attributes
    ----------
    core : TensorCore
        How it sums.
    first, last : int
        The first and the last k.
    top : int
        The alignment exponent: the largest of the terms' exponents.
    terms : tuple of Term
        The products in order of k, or groups of them where the core sums groups exactly.
    carried : Term
        The accumulator as it comes in.
    total : float
        Exact sum of what is kept.
    total_bits : str
        The same in the notation of `Term.kept`.
    output : float
        The accumulator as it goes out.
    exact_products : Fraction
        Exact sum of the products; 0 where one is not finite.
    finite : bool
        Whether all terms are.
    """

    core: TensorCore
    first: int
    last: int
    top: int
    terms: tuple[Term, ...]
    carried: Term
    total: float
    total_bits: str
    output: float
    exact_products: Fraction
    finite: bool

    def page(self) -> Page:
        """Return the lines that it shows as."""
        return Page(step_page(self))

    @property
    def exact(self) -> float:
        """Exact sum of the products and of the accumulator that came in, as the nearest float64."""
        return float(self.exact_products + Fraction(self.carried.value)) if self.finite else self.output

    @property
    def cut_off(self) -> float:
        """Sum of what fell off in the alignment."""
        return math.fsum(term.lost_value for term in (*self.terms, self.carried))

    @property
    def rounded_off(self) -> float:
        """What the rounding to the output took away."""
        return self.total - self.output if math.isfinite(self.output) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "first": self.first,
            "last": self.last,
            "alignment_exponent": self.top,
            "terms": [term._asdict() for term in self.terms],
            "accumulator": self.carried._asdict(),
            "sum": self.total,
            "sum_bits": self.total_bits,
            "output": self.output,
            "exact": self.exact,
            "cut_off": self.cut_off,
            "rounded_off": self.rounded_off,
        }


def take_step(problem: Problem, first: int, stop: int, chain: F32) -> tuple[StepAnatomy, F32]:
    """Take apart the step over k from `first` to `stop`; return it and the new accumulator.

    Examples
    --------
    >>> import numpy as np
    >>> from fp8sim.tensor_cores.arguments import check_problem
    >>> from fp8sim.tensor_cores import get_tensor_core
    >>> core = get_tensor_core("hopper-fp8")
    >>> problem = check_problem([[8, 0.25]], [[8], [0.0625]], core, None, None, None, None, None)
    >>> step, chain = take_step(problem, 0, 2, np.float32(0))
    >>> step.top, [(term.exponent, term.kept) for term in step.terms], float(chain)
    (6, [(6, '+1.0000000000000'), (-6, '+0.0000000000010')], 64.015625)
    """
    core = problem.core
    a, a_scales = _factors(problem.a, core, first)
    b, b_scales = _factors(problem.b, core, first)
    scales = None if a_scales is None or b_scales is None else (a_scales, b_scales)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        significands, exponents = exact_products(a, b, core, problem.a.fmt, problem.b.fmt, scales)
        significand, exponent = split_number(chain, -14 if core.output == "fp16-rne" else -126)
    top = max(int(exponents.max()), int(exponent), core.exponent_floor)
    size = core.group or 1
    terms = []
    for index in range(-(-(stop - first) // size)):
        start = first + index * size
        place = (start, min(start + size, stop) - 1)
        factors = (float(a[index]), float(b[index])) if size == 1 else None
        terms.append(_term(place, factors, significands[index], exponents[index], top, core))
    carried = _term((-1, -1), None, significand, exponent, top, core)
    output = fused_step(a, b, chain, core, problem.a.fmt, problem.b.fmt, scales)
    finite = all(math.isfinite(term.value) for term in (*terms, carried))
    units = sum(Fraction(term.kept_value) for term in (*terms, carried)) if finite else Fraction(0)
    step = StepAnatomy(
        core=core,
        first=first,
        last=stop - 1,
        top=top,
        terms=tuple(terms),
        carried=carried,
        total=float(units) if finite else float(output),
        total_bits=_bits(units / Fraction(2) ** top, core.fraction_bits)[0] if finite else "",
        output=float(output),
        exact_products=sum((Fraction(term.value) for term in terms), Fraction(0)) if finite else Fraction(0),
        finite=finite,
    )
    return step, output


def _factors(side: Side, core: TensorCore, first: int) -> tuple[F32, F32 | None]:
    """Return the factors of one step, filled up with zeros, and their scales."""

    def take(x: F32) -> F32:
        part = x.reshape(-1)[first : first + core.step]
        return np.pad(part, (0, core.step - part.size))

    if side.scales is None:
        return take(side.values), None
    return take(side.values), take(np.repeat(side.scales.reshape(-1), core.scale_block)[: side.values.size])


def _term(
    place: tuple[int, int],
    factors: tuple[float, float] | None,
    significand: F64 | float,
    exponent: AnyArray | int,
    top: int,
    core: TensorCore,
) -> Term:
    """Align one term: cut its significand so many bits below the alignment exponent."""
    (first, last), (a, b) = place, factors or (None, None)
    number, binade = float(significand), int(exponent)
    if not math.isfinite(number) or number == 0:
        bits = "+0." + "0" * core.fraction_bits if number == 0 else ""
        return Term(first, last, a, b, number, None, bits, "", number, 0.0)
    exact = Fraction(number) * Fraction(2) ** (binade - top)
    kept, lost, cut = _bits(exact, core.fraction_bits)
    unit = Fraction(2) ** top
    value = float(exact * unit)
    return Term(first, last, a, b, value, binade, kept, lost, float(cut * unit), float((exact - cut) * unit))


def _bits(x: Fraction, places: int) -> tuple[str, str, Fraction]:
    """Write x in binary and cut it, toward zero, after so many places: kept, lost, what is kept.

    Examples
    --------
    >>> _bits(Fraction(-11, 8), 2)
    ('-1.01', '1', Fraction(-5, 4))
    """
    magnitude = abs(x)
    units = int(magnitude * 2**places)
    rest = magnitude * 2**places - units
    count = max(0, rest.denominator.bit_length() - 1)  # a power of two: so many bits to the last 1
    lost = f"{rest.numerator:0{count}b}" if count else ""
    kept = f"{'-' if x < 0 else '+'}{units >> places:b}.{units & (2**places - 1):0{places}b}"
    return kept, lost, Fraction(units, 2**places) * (-1 if x < 0 else 1)
