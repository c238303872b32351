"""Whole models from files: checkpoints in any layout, read by rows or refused by name, and written anew."""

from __future__ import annotations

from fp8sim.checkpoints.arrays import read_array
from fp8sim.checkpoints.checkpoint import Checkpoint, Tensor
from fp8sim.checkpoints.decoding import Coded
from fp8sim.checkpoints.opening import open_checkpoint
from fp8sim.checkpoints.writing import Written, WrittenRow, write_quantized

__all__ = [
    "Checkpoint", "Coded", "Tensor", "Written", "WrittenRow", "open_checkpoint", "read_array",
    "write_quantized",
]  # fmt: skip
