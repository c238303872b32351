"""Whole models from files: any layout that checkpoints come in, read by rows, or refused by name."""

from __future__ import annotations

from fp8sim.checkpoints.arrays import read_array
from fp8sim.checkpoints.checkpoint import Checkpoint, Tensor
from fp8sim.checkpoints.decoding import Coded
from fp8sim.checkpoints.opening import open_checkpoint

__all__ = ["Checkpoint", "Coded", "Tensor", "open_checkpoint", "read_array"]
