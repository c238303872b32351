"""A dot product on a tensor core, and how it reads: a step in full, the running sum, promotion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fp8sim._support.page import Line, Page, Span
from fp8sim._support.quantities import number_text, signed_text
from fp8sim._support.results import Result, members
from fp8sim.anatomy.step import StepAnatomy, error_text, range_text
from fp8sim.formats import FloatFormat
from fp8sim.tensor_cores import TensorCore

__all__ = ["DotAnatomy", "Promotion"]

_IN_FULL = 2  # steps of a chain that are shown in full; of a longer one, that which lost the most
_ENDS = 10  # rows of the running sum at each end of a long chain


class Promotion(NamedTuple):
    """A chain added to the FP32 sum outside the tensor core, rounded to nearest even."""

    last: int  #: the last k of the chain
    chain: float
    before: float
    after: float


@dataclass(frozen=True, repr=False)
class DotAnatomy(Result):
    """A dot product on a tensor core, step by step; made by `explain_dot`."""

    core: TensorCore  #: how it sums
    a_format: FloatFormat
    b_format: FloatFormat
    k: int  #: number of products
    c: float  #: what the sum starts from
    promote_every: int  #: products after which a chain is added to an FP32 sum; 0 for one chain
    steps: tuple[StepAnatomy, ...]  #: the fused steps in order
    promotions: tuple[Promotion, ...]  #: the additions in FP32
    result: float  #: what the tensor core returns
    exact: float  #: the exact dot product of the same factors and c, as the nearest float64

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

    def parts(self) -> list[Page]:
        """Return a page: a step in full, then the running sum and what promotion adds."""
        core, steps = self.core, self.steps
        formats = f"{self.a_format} and {self.b_format}"
        title = f"{self.k} product{'s' * (self.k > 1)} of {formats} on {core.name}, {core.step} a step"
        lines: list[Line] = [[Span(title, "title")], []]
        shown: Sequence[StepAnatomy] = steps
        if len(steps) > _IN_FULL:
            shown = [max(steps, key=lambda step: abs(step.exact - step.output))]
            lines += [[Span("The step that lost the most:")], []]
        for step in shown:
            lines += [*step.lines(), []]
        if len(steps) == 1 and not self.promotions:
            return [Page(lines[:-1])]
        result = f"{number_text(self.result)}{error_text(self.result, self.exact)}"
        return [Page([*lines, *_running(self), [], [Span(f"  {'result':9} {result}")]])]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "core": self.core.name,
            "step_length": self.core.step,
            "fraction_bits": self.core.fraction_bits,
            "output": self.core.output,
            "a_format": self.a_format.name,
            "b_format": self.b_format.name,
            **members(self, "k c promote_every"),
            "steps": [step.to_dict() for step in self.steps],
            "promotions": [promotion._asdict() for promotion in self.promotions],
            **members(self, "result exact error relative_error"),
        }


def _running(dot: DotAnatomy) -> Iterator[Line]:
    """Yield the sum after every step, and what promotion adds where."""
    promoted = {promotion.last: promotion for promotion in dot.promotions}
    steps, places = dot.steps, max(4, *(len(range_text(step.first, step.last)) for step in dot.steps))
    truncated = dot.core.law == "truncated"
    first, second = ("aligned to", "cut off") if truncated else ("largest", "lost")
    head = f"{'step':>6}  {'k':>{places}}  {first:>10}  {second:>12}  {'sum':>12}"
    yield [Span(head + f"     {'FP32 sum':>12}" * bool(promoted), "dim")]
    for number, step in enumerate(steps):
        if len(steps) > 2 * _ENDS + 1 and _ENDS <= number < len(steps) - _ENDS:
            if number == _ENDS:
                yield [Span(f"{'...':>6}  {len(steps) - 2 * _ENDS} steps more", "dim")]
            continue
        k, top = range_text(step.first, step.last), f"2^{step.top}"
        cut, total = signed_text(step.cut_off if truncated else step.rounded_off), number_text(step.output)
        line: Line = [Span(f"{number + 1:>6}  {k:>{places}}  {top:>10}  {cut:>12}  {total:>12}")]
        if promotion := promoted.get(step.last):
            line += [Span("  -> "), Span(f"{number_text(promotion.after):>12}", "chosen")]
        yield line
    if promoted:
        text = f"Every {dot.promote_every} products the sum is added in FP32, to nearest, and starts anew."
        yield [Span(text)]
