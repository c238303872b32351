"""The interactive page: numbers, blocks and sums to touch, in one file, as the library computes them."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

from fp8sim.play.page import PARTS, PlayPage, play

__all__ = ["PARTS", "PlayPage", "play"]


class _Callable(ModuleType):
    """A module that can be called: `fp8sim.play` is this package and, to users, what opens the page."""

    __signature__ = inspect.signature(play)

    def __call__(self, part: str = "number", **state: Any) -> PlayPage:
        """As `play`."""
        return play(part, **state)


sys.modules[__name__].__class__ = _Callable
