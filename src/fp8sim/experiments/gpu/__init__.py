"""Products on a GPU against the cores of its generation, bit by bit: what agrees, and what does not."""

from __future__ import annotations

from fp8sim.experiments.gpu.check import GpuCheck, GpuDifference, GpuRow, check_gpu
from fp8sim.experiments.gpu.device import CudaDevice, Emulated, Gpu, GpuFacts, find_gpu
from fp8sim.experiments.gpu.operations import OPERATIONS, Operation, generation_of

__all__ = [
    "OPERATIONS",
    "CudaDevice",
    "Emulated",
    "Gpu",
    "GpuCheck",
    "GpuDifference",
    "GpuFacts",
    "GpuRow",
    "Operation",
    "check_gpu",
    "find_gpu",
    "generation_of",
]  # fmt: skip
