"""Compiled kernels: the only place that imports numba, itself imported on first use."""

from __future__ import annotations

from fp8sim._kernels._jit import get_num_threads, set_num_threads

__all__ = ["get_num_threads", "set_num_threads"]
