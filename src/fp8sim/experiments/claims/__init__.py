"""The article's sentence, taken apart: each part measured, set beside what is published, and judged."""

from __future__ import annotations

from fp8sim.experiments.claims.sentence import Claims, claims, count_parts
from fp8sim.experiments.claims.verdicts import Claim, halving

__all__ = ["Claim", "Claims", "claims", "count_parts", "halving"]
