"""Attention over a quantised cache: what fewer bits for K and V cost the logits and the output of a layer."""

from __future__ import annotations

from fp8sim.experiments.kv_cache.comparison import Attention, AttentionError, attention
from fp8sim.experiments.kv_cache.storing import CACHE_FORMATS, StoredTensor

__all__ = ["CACHE_FORMATS", "Attention", "AttentionError", "StoredTensor", "attention"]
