"""A whole checkpoint judged: what is wrong with it, what conversions lose, what to keep wide."""

from __future__ import annotations

from fp8sim.experiments.audit.across import find_across
from fp8sim.experiments.audit.certificates import Certificate, certify
from fp8sim.experiments.audit.findings import Evidence, Finding, evidence, find
from fp8sim.experiments.audit.keep_wide import Choice, Option, curve, keep_wide

__all__ = [
    "Certificate", "Choice", "Evidence", "Finding", "Option", "certify", "curve", "evidence", "find",
    "find_across", "keep_wide",
]  # fmt: skip
