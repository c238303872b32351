"""Where findings are plugged in: what is looked for in rows as they are stored, and said of a tensor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from fp8sim._support.typing import FloatArray
from fp8sim.checkpoints import Tensor

__all__ = ["Evidence", "Finding", "StoredRows", "evidence_of", "find"]


class StoredRows(NamedTuple):
    """Rows of a tensor as they are stored."""

    tensor: Tensor
    start: int
    stop: int
    rows: int  #: of the whole tensor


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
    def from_dict(cls, data: dict[str, Any]) -> Evidence:
        """Read what `to_dict` wrote."""
        return cls(**data)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a tensor, or worth knowing, and what to do."""

    tensor: str
    kind: str
    text: str
    advice: str


def evidence_of(stored: StoredRows, values: FloatArray) -> Evidence:
    """Look at rows."""
    return Evidence()


def find(name: str, tensor: Tensor, evidence: Evidence) -> tuple[Finding, ...]:
    """Return what is to be said of a tensor."""
    return ()
