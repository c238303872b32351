"""Whole models from files."""

from __future__ import annotations

from fp8sim.checkpoints.tensors import read_array, read_tensor, tensor_names

__all__ = ["read_array", "read_tensor", "tensor_names"]
