"""A value, a block of values and a dot product told bit by bit."""

from __future__ import annotations

from fp8sim.anatomy.block import BlockAnatomy, explain_block
from fp8sim.anatomy.dot import DotAnatomy, explain_dot
from fp8sim.anatomy.step import StepAnatomy
from fp8sim.anatomy.value import ValueAnatomy, ValueInFormats, explain

__all__ = [
    "BlockAnatomy",
    "DotAnatomy",
    "StepAnatomy",
    "ValueAnatomy",
    "ValueInFormats",
    "explain",
    "explain_block",
    "explain_dot",
]
