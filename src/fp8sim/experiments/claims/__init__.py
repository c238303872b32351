"""The article's sentence, taken apart: five questions, each figure beside what is published, and judged."""

from __future__ import annotations

from fp8sim.experiments.claims.row import QUESTIONS, Claim
from fp8sim.experiments.claims.rules import VERDICTS, Rule
from fp8sim.experiments.claims.sentence import Claims, claims, count_parts

__all__ = ["QUESTIONS", "VERDICTS", "Claim", "Claims", "Rule", "claims", "count_parts"]
