"""A row of the verdict: a figure, what somebody else published of the same, and the rule that judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fp8sim._support.quantities import bytes_text, count_text, percent_text, time_text
from fp8sim.experiments.claims.rules import Rule, Verdict

__all__ = ["QUESTIONS", "Basis", "Claim", "Question", "Unit"]

Question: TypeAlias = Literal["format", "bytes", "operations", "time", "accuracy"]
Basis: TypeAlias = Literal["counted", "modelled", "emulated", "recorded", "published"]
Unit: TypeAlias = Literal["ratio", "times", "share", "B", "s", "FLOP", ""]

#: question -> how it is asked.
QUESTIONS: dict[Question, str] = {
    "format": "From FP16 to FP8?",
    "bytes": "Bytes halved?",
    "operations": "Operations halved?",
    "time": "Time halved?",
    "accuracy": "Accuracy kept?",
}

_WRITERS: dict[str, Callable[[float], str]] = {
    "ratio": "{:.4f}".format,
    "times": "{:.2f} x".format,
    "share": percent_text,
    "B": bytes_text,
    "s": time_text,
    "FLOP": lambda flops: f"{count_text(flops)}FLOP",
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One figure on one of the questions.

    Two things are told apart: whether our figure agrees with a published one, and whether the phrase holds.

    Examples
    --------
    >>> from fp8sim.experiments.claims.rules import HALVED
    >>> row = Claim(name="cache", question="bytes", what="KV cache of a token", basis="counted",
    ...             measured=70_272, unit="B", published=70_272, published_source="a report",
    ...             judged=1.0, rule=HALVED, why="It stays in BF16.")
    >>> row.agreement, row.verdict, row.figure(row.measured)
    (1.0, 'does not hold', '70.27 kB')
    """

    name: str  #: short, to find it by
    question: Question
    what: str  #: the figure, with its baseline
    basis: Basis  #: how it was come by: the last two are another's figure, or an earlier run of ours
    measured: float | None  #: our figure
    unit: Unit  #: a "ratio" is to BF16's
    rule: Rule
    why: str  #: one sentence or two
    judged: float | None = None  #: what the rule looks at, where it is not the figure itself
    published: float | None = None  #: what somebody else printed
    published_source: str | None = None
    comparable: bool = True  #: whether the published figure is of the same thing
    derived_from: str | None = None  #: published inputs that our figure is worked out from
    range: tuple[float, float] | None = None  #: least and largest over seeds, of a generated figure

    @property
    def agreement(self) -> float | None:
        """Our figure over the published one of the same thing."""
        if not (self.comparable and self.measured and self.published):
            return None
        return self.measured / self.published

    @property
    def looked_at(self) -> float | None:
        """The figure that the rule looks at."""
        if self.judged is not None:
            return self.judged
        return self.published if self.basis == "published" else self.measured

    @property
    def verdict(self) -> Verdict:
        """Whether the phrase holds."""
        return self.rule(self.looked_at)

    @property
    def source(self) -> str:
        """Where the published figure, or what ours is derived from, is published."""
        derived = f"derived from {self.derived_from}" if self.derived_from else ""
        return "; ".join(filter(None, (self.published_source, derived)))

    @property
    def ruling(self) -> str:
        """The rule, and what it looked at."""
        looked_at = "" if self.looked_at is None else f" ({self._plain(self.looked_at)})"
        return f"{self.rule.words}{looked_at}"

    def _plain(self, value: float) -> str:
        own = self.judged is None
        return self.figure(value) if own and self.unit != "" else f"{value:.4g}"

    def figure(self, value: float | None) -> str:
        """Write a figure in the unit of this row."""
        if value is None:
            return "-"
        writer = _WRITERS.get(self.unit)
        return f"{value:.3g}" if writer is None else writer(value)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        names = (
            "name question what basis measured unit published published_source comparable derived_from "
            "agreement verdict range why"
        )
        return {
            **{name: getattr(self, name) for name in names.split()},
            "question": QUESTIONS[self.question],
            "rule": self.rule.words,
            "judged": self.looked_at,
        }
