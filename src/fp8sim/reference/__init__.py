"""The readable numpy way of all that is also compiled: rounding, codes, scaling, one tensor-core step."""

from __future__ import annotations

from fp8sim.reference.codes import decode_reference, encode_reference
from fp8sim.reference.fused_step import fused_step
from fp8sim.reference.rounding import ROUNDINGS, round_reference
from fp8sim.reference.scales import pick_scales

__all__ = [
    "ROUNDINGS", "decode_reference", "encode_reference", "fused_step", "pick_scales", "round_reference",
]  # fmt: skip
