"""What a tensor core is, the catalogue of them, and matrix products that sum as they do."""

from __future__ import annotations

from fp8sim.tensor_cores.product import (
    TENSOR_CORES,
    TensorCore,
    get_tensor_core,
    promoted_matmul,
    tensor_core_matmul,
    tensor_core_matmul_reference,
)

__all__ = [
    "TENSOR_CORES",
    "TensorCore",
    "get_tensor_core",
    "promoted_matmul",
    "tensor_core_matmul",
    "tensor_core_matmul_reference",
]
