"""One part of the article's sentence, with the figure measured, the one published, and the verdict."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fp8sim._support.quantities import count_text, percent_text

__all__ = ["VERDICTS", "Claim", "Meaning", "Verdict", "halving", "remainder"]

Verdict: TypeAlias = Literal["holds", "partly", "does not hold", "not measured"]
Meaning: TypeAlias = Literal["remainder", "speed-up", ""]

#: verdict -> how a summary counts it.
VERDICTS: dict[Verdict, str] = {
    "holds": "hold",
    "partly": "hold partly",
    "does not hold": "do not",
    "not measured": "not measured",
}


@dataclass(frozen=True)
class Claim:
    """One part of the sentence and what came out.

    Examples
    --------
    >>> row = Claim("halved", "bytes of weights", 0.5001, 0.5, "ratio", "a report", "holds", "One byte.")
    >>> row.ratio, row.figure(row.measured)
    (1.0002, '0.5001')
    """

    part: str  #: the words of the sentence
    what: str  #: what was measured, with its baseline
    measured: float | None
    published: float | None
    unit: str  #: "ratio", "share" (printed in percent), or the unit of a count
    source: str  #: of the published figure
    verdict: Verdict
    why: str  #: one sentence
    meaning: Meaning = ""  #: of a ratio: what FP8 leaves of BF16's, how much faster it is, or neither

    @property
    def ratio(self) -> float | None:
        """Measured over published, None where either is missing."""
        return self.measured / self.published if self.measured and self.published else None

    def figure(self, value: float | None) -> str:
        """Write a figure in the unit of this row."""
        if value is None:
            return "-"
        if self.unit == "ratio":
            return f"{value:.4f}"
        if self.unit == "share":
            return percent_text(value)
        text = count_text(value) if value >= 1000 else f"{value:.3g}"
        return f"{text}{'' if text[-1].isalpha() else ' '}{self.unit}".strip()

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return {**dataclasses.asdict(self), "ratio": self.ratio}


def halving(ratio: float) -> Verdict:
    """Judge a ratio that should be one half: within 5 % of it, below nine tenths, or neither.

    Examples
    --------
    >>> halving(0.5016), halving(0.73), halving(1.0)
    ('holds', 'partly', 'does not hold')
    """
    return "holds" if ratio <= 0.525 else "partly" if ratio <= 0.9 else "does not hold"


def remainder(
    part: str, what: str, ratio: float, source: str, why: str, *, published: float | None = None
) -> Claim:
    """Return the row of what FP8 leaves of BF16's, which should be one half.

    Examples
    --------
    >>> remainder("halved", "bytes of weights", 0.5001, "a report", "One byte.").verdict
    'holds'
    """
    what = f"{what}, over BF16's"
    return Claim(part, what, ratio, published, "ratio", source, halving(ratio), why, "remainder")
