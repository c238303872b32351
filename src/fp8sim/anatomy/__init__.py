"""A value, a block of values and a dot product told bit by bit."""

from __future__ import annotations

from fp8sim.anatomy.block import BlockAnatomy
from fp8sim.anatomy.dot import DotAnatomy
from fp8sim.anatomy.explanations import explain, explain_block, explain_dot
from fp8sim.anatomy.step import StepAnatomy
from fp8sim.anatomy.value import ValueAnatomy, ValueInFormats

__all__ = [
    "BlockAnatomy", "DotAnatomy", "StepAnatomy", "ValueAnatomy", "ValueInFormats", "explain",
    "explain_block", "explain_dot",
]  # fmt: skip
