"""Whole checkpoints: what recipes save and cost of every matrix, on one machine or many, in flat memory."""

from __future__ import annotations

from fp8sim.experiments.audit.result import Audit
from fp8sim.experiments.audit.runs import DEFAULT_RECIPES, audit
from fp8sim.experiments.audit.seam import Finding

__all__ = ["DEFAULT_RECIPES", "Audit", "Finding", "audit"]
