"""Where findings are plugged in: what is looked for in rows as they are stored, and said of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fp8sim._support.typing import FloatArray
from fp8sim.checkpoints import Checkpoint, Tensor

__all__ = ["Evidence", "Finding", "evidence_of", "find", "find_across"]


@dataclass(frozen=True)
class Evidence:
    """What was seen of a tensor."""

    def merge(self, other: Evidence) -> Evidence:
        """Return what was seen of both."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evidence:
        """Read what `to_dict` wrote."""
        return cls(**data)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a tensor, or worth knowing, and what to do."""

    tensor: str
    kind: str
    text: str
    advice: str


def evidence_of(checkpoint: Checkpoint, name: str, start: int, stop: int, values: FloatArray) -> Evidence:
    """Look at rows of a tensor, and at what they stand for."""
    return Evidence()


def find(name: str, tensor: Tensor, seen: Evidence | None = None) -> tuple[Finding, ...]:
    """Return what is to be said of a tensor."""
    if not tensor.refused:
        return ()
    return (Finding(name, "not-read", tensor.refused, "look for its scales in another file"),)


def find_across(checkpoint: Checkpoint, seen: Mapping[str, Evidence]) -> tuple[Finding, ...]:
    """Return what is to be said of several tensors together."""
    return ()
