"""Whole checkpoints: what recipes save and cost, what is wrong, what conversions lose, what to keep wide."""

from __future__ import annotations

from fp8sim.experiments.audit.across import find_across
from fp8sim.experiments.audit.certificates import Certificate, certify
from fp8sim.experiments.audit.findings import Evidence, Finding, evidence, find
from fp8sim.experiments.audit.keep_wide import Choice, Option, curve, keep_wide
from fp8sim.experiments.audit.result import Audit
from fp8sim.experiments.audit.runs import DEFAULT_RECIPES, audit

__all__ = [
    "DEFAULT_RECIPES", "Audit", "Certificate", "Choice", "Evidence", "Finding", "Option", "audit", "certify",
    "curve", "evidence", "find", "find_across", "keep_wide",
]  # fmt: skip
