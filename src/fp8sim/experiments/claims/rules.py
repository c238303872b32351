"""Rules that judge: a verdict is what a rule says of a figure, never typed in beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fp8sim._support.quantities import count_text

__all__ = [
    "AS_ACCURATE", "AS_PRECISE", "AS_SMALL", "AS_SUMMED", "HALVED", "MOSTLY", "VERDICTS", "Rule", "Verdict",
    "loss_rule", "within_limits",
]  # fmt: skip

Verdict: TypeAlias = Literal["holds", "partly", "does not hold", "not measured"]

#: What a rule can say, the best first.
VERDICTS: tuple[Verdict, ...] = ("holds", "partly", "does not hold", "not measured")


@dataclass(frozen=True)
class Rule:
    """Two limits for a figure: up to the one the phrase holds, up to the other it holds partly.

    Examples
    --------
    >>> [HALVED(ratio) for ratio in (0.5016, 0.73, 1.0, None)]
    ['holds', 'partly', 'does not hold', 'not measured']
    >>> HALVED.words
    "left of BF16's: holds up to 0.525, partly up to 0.75"
    """

    what: str  #: which figure it looks at, in words
    holds: float | None  #: None: no figure shows that the phrase holds
    partly: float
    at_least: bool = False  #: whether the limits are to be reached, not kept within

    def __call__(self, figure: float | None) -> Verdict:
        """Judge a figure; None was not measured, and NaN is within no limit."""
        if figure is None:
            return "not measured"
        if self.holds is not None and self._meets(figure, self.holds):
            return "holds"
        return "partly" if self._meets(figure, self.partly) else "does not hold"

    def _meets(self, figure: float, limit: float) -> bool:
        return figure >= limit if self.at_least else figure <= limit

    @property
    def words(self) -> str:
        """The rule in words, with its limits."""
        reach = "from {:.4g} on" if self.at_least else "up to {:.4g}"
        best = "cannot show that it holds" if self.holds is None else f"holds {reach.format(self.holds)}"
        return f"{self.what}: {best}, partly {reach.format(self.partly)}"


#: One half, and five percent more for scales and what stays in BF16; partly: at least half of that saving.
HALVED = Rule("left of BF16's", 0.525, 0.75)

#: One format may stand for another if errors stay within a factor of two: one bit of precision.
AS_PRECISE = Rule("times the error", 2, 4)

#: The same factor for a product, and for the sums of a product.
AS_ACCURATE = Rule("times the error of the product in BF16", 2, 4)
AS_SUMMED = Rule("times the error of the same sums in FP32", 2, 4)

#: No more bits than there were, or half as many more.
AS_SMALL = Rule("times the bits", 1, 1.5)

#: Nearly all, or at least most of it.
MOSTLY = Rule("share", 0.95, 0.5, at_least=True)


def within_limits(bf16: float, fp8: float, whose: str) -> Rule:
    """Return the rule of somebody's acceptance tests: what they take of BF16, and what of FP8.

    Examples
    --------
    >>> rule = within_limits(1e-5, 0.001, "DeepGEMM's tests")
    >>> rule(0.0007), rule(0.0015)
    ('partly', 'does not hold')
    """
    return Rule(f"limits of {whose} for BF16 and for FP8", bf16, fp8)


def loss_rule(limit: float, tokens: float, least: float) -> Rule:
    """Return the rule of a training's loss error: `least` tokens are needed to show that training bears FP8.

    A run of fewer tokens can refute that, and support it only partly; so can one without a number.

    Examples
    --------
    >>> short, long = (loss_rule(0.0025, tokens, least=0.9e12) for tokens in (1e5, 1e12))
    >>> short(0.0005), long(0.0005), short(0.01), short(math.nan)
    ('partly', 'holds', 'does not hold', 'does not hold')
    """
    enough = math.isfinite(tokens) and tokens >= least
    what = f"loss error of {count_text(tokens)} tokens, where it takes {count_text(least)}"
    return Rule(what, limit if enough else None, limit)
