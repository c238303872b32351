"""Whole models from shapes alone: what FP8 saves of their memory, traffic and time."""

from __future__ import annotations

from fp8sim.models.builtin import MODELS, get_model
from fp8sim.models.caches import KV_CACHES, CacheFormat
from fp8sim.models.cost import ModelCost, model_cost
from fp8sim.models.description import ModelDescription
from fp8sim.models.layers import Inventory, inventory
from fp8sim.models.reconciliation import ModelCheck, check_model, check_serving
from fp8sim.models.serving import ServingCost, serving_cost

__all__ = [
    "KV_CACHES", "MODELS", "CacheFormat", "Inventory", "ModelCheck", "ModelCost", "ModelDescription",
    "ServingCost", "check_model", "check_serving", "get_model", "inventory", "model_cost", "serving_cost",
]  # fmt: skip
