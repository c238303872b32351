"""How the fused steps of a chain are taken apart: each term aligned to the largest exponent and cut."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from fp8sim._support.typing import F32, F64, AnyArray
from fp8sim.anatomy.dot import Promotion
from fp8sim.anatomy.step import StepAnatomy, Term
from fp8sim.reference.fused_step import (
    NOTHING,
    Factors,
    exact_products,
    fused_step,
    outranks,
    promote,
    split_number,
)
from fp8sim.tensor_cores import TensorCore
from fp8sim.tensor_cores.problem import Problem, Side

__all__ = ["take_steps"]


def take_steps(problem: Problem, k: int) -> tuple[list[StepAnatomy], list[Promotion], float]:
    """Run a chain of k products as `tensor_core_matmul` does: its steps, what promotion adds, the sum.

    Examples
    --------
    >>> from fp8sim.tensor_cores import get_tensor_core
    >>> from fp8sim.tensor_cores.value_product import value_problem
    >>> problem = value_problem([[8, 0.25]], [[8], [0.0625]], get_tensor_core("hopper-fp8"))
    >>> (step,), promotions, total = take_steps(problem, 2)
    >>> step.top, [(term.exponent, term.kept) for term in step.terms], total
    (6, [(6, '+1.0000000000000'), (-6, '+0.0000000000010')], 64.015625)
    """
    core = problem.core
    zero = np.float32(0)
    total: F32 = np.asarray(zero if problem.c is None else problem.c[0, 0])
    chain = np.asarray(zero) if problem.promote_every else total
    steps: list[StepAnatomy] = []
    promotions: list[Promotion] = []
    for first in range(0, k, core.step):
        step, chain = _take_step(problem, first, min(first + core.step, k), chain)
        steps.append(step)
        end = first + core.step
        if problem.promote_every and (end >= k or end % problem.promote_every == 0):
            before, total = total, promote(total, chain)
            promotions.append(Promotion(min(end, k) - 1, float(chain), float(before), float(total)))
            chain = np.asarray(zero)
    return steps, promotions, float(total if problem.promote_every else chain)


def _take_step(problem: Problem, first: int, stop: int, chain: F32) -> tuple[StepAnatomy, F32]:
    """Take apart the step over k from `first` to `stop`; return it and the new accumulator."""
    core, rule = problem.core, problem.core.rule
    a, b = (_factors(side, core, first) for side in (problem.a, problem.b))
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        significand, exponent = split_number(chain, rule.c_emin)
        truncated = rule.law == "truncated"
        alone = bool(rule.subgroup and outranks(a, b, chain, rule))  # the products decide the alignment
        size = ((rule.subgroup if alone else rule.group) or 1) if truncated else 1
        significands, exponents = exact_products(a, b, rule._replace(group=size if rule.group else 0))
    top = max(int(exponents.max()), core.exponent_floor, NOTHING if alone else int(exponent))
    terms = []
    for index in range(-(-(stop - first) // size)):
        start = first + index * size
        place = (start, min(start + size, stop) - 1)
        factors = (float(a.values[index]), float(b.values[index])) if size == 1 else None
        terms.append(_term(place, factors, significands[index], exponents[index], top, core))
    carried = _term((-1, -1), None, significand, exponent, top, core)
    output = fused_step(a, b, chain, rule)
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
        total_bits=_bits(units / Fraction(2) ** top, core.fraction_bits)[0] if finite and truncated else "",
        output=float(output),
        exact_products=sum((Fraction(term.value) for term in terms), Fraction(0)) if finite else Fraction(0),
        finite=finite,
    )
    return step, output


def _factors(side: Side, core: TensorCore, first: int) -> Factors:
    """Return the factors of one step, filled up with zeros."""
    scales = side.scales
    if scales is not None:
        scales = np.repeat(scales.reshape(-1), core.scale_block)[: side.array.size]
    return Factors(side.values.reshape(-1), side.fmt.emin, scales).step(first, core.step)


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
    if core.law != "truncated" and math.isfinite(number):  # nothing is cut off one by one
        value = math.ldexp(number, binade) if number else number
        return Term(first, last, a, b, value, binade if number else None, "", "", value, 0.0)
    if not math.isfinite(number) or number == 0:
        bits = "+0." + "0" * core.fraction_bits if number == 0 else ""
        counts = number == 0 and binade > NOTHING // 2  # a group that cancels
        return Term(first, last, a, b, number, binade if counts else None, bits, "", number, 0.0)
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
