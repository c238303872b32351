"""What a matrix multiply costs from shapes alone, on which device: bytes, flops and the roofline time."""

from __future__ import annotations

from fp8sim.costs.devices import DEVICES, OPERAND_CLASSES, Device, DeviceLike, OperandClass, Rate, get_device
from fp8sim.costs.gemm import CostRatio, GemmCost, Traffic, formats_class, gemm_cost, operand_class, traffic
from fp8sim.costs.roofline import Bound, Roofline

__all__ = [
    "DEVICES", "OPERAND_CLASSES", "Bound", "CostRatio", "Device", "DeviceLike", "GemmCost", "OperandClass",
    "Rate", "Roofline", "Traffic", "formats_class", "gemm_cost", "get_device", "operand_class", "traffic",
]  # fmt: skip
