"""What a tensor core is, the catalogue of them, and matrix products that sum as they do."""

from __future__ import annotations

from fp8sim.tensor_cores.catalogue import TENSOR_CORES, get_tensor_core, split_interval
from fp8sim.tensor_cores.core import LAWS, OUTPUTS, TensorCore
from fp8sim.tensor_cores.value_product import (
    promoted_matmul,
    tensor_core_matmul,
    tensor_core_matmul_reference,
)

__all__ = [
    "LAWS", "OUTPUTS", "TENSOR_CORES", "TensorCore", "get_tensor_core", "promoted_matmul", "split_interval",
    "tensor_core_matmul", "tensor_core_matmul_reference",
]  # fmt: skip
