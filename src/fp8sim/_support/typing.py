"""Names for the array types that signatures use."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["F32", "F64", "AnyArray", "ArrayLike", "FloatArray", "Overflow", "Rounding"]

AnyArray: TypeAlias = NDArray[Any]
F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
#: float32 or float64
FloatArray: TypeAlias = NDArray[np.floating[Any]]

Rounding: TypeAlias = Literal[
    "nearest-even",
    "nearest-away",
    "toward-zero",
    "toward-positive",
    "toward-negative",
    "stochastic",
]
Overflow: TypeAlias = Literal["saturate", "ieee"]
