"""The readable way of what is also compiled: everything runs as it does where numba is not installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fp8sim import _kernels
from fp8sim.quantization import Operand, Quantized, quantize_with


def readable(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function without any kernel."""
    with _kernels.readable():
        return function(*args, **options)


def quantize_readable(x: Any, fmt: Any, scaling: Any, *, axis: int = -1) -> Quantized:
    """Quantise as `quantize_with`, step by step in numpy."""
    return readable(quantize_with, x, Operand(fmt, scaling), axis=axis)
