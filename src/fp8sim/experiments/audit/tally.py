"""What is known of some rows of a matrix, in numbers that add up to those of the whole, in any order.

Sums are held without rounding, and what is largest is the first of the largest: so the whole is the same to
the last bit however it was cut.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from fp8sim._support.typing import F64
from fp8sim.experiments.audit.stored_evidence import Evidence
from fp8sim.experiments.audit.sums import ZERO, Total, total_of

__all__ = ["Loss", "Tally", "loss_of", "merged"]


@dataclass(frozen=True)
class Loss:
    """What one recipe costs some rows."""

    squares: Total = ZERO  #: of errors
    worst: float = -1.0  #: relative error of the worst row; -1: there is none
    worst_row: int = 0
    saturated: int = 0
    flushed: int = 0
    product: Total | None = None  #: squared errors of the product
    failed: bool = False  #: a scale would be beyond its format

    def __add__(self, other: Loss) -> Loss:
        """Return what is lost of the rows of both."""
        worse = (other.worst, -other.worst_row) > (self.worst, -self.worst_row)
        return Loss(
            self.squares + other.squares,
            *((other.worst, other.worst_row) if worse else (self.worst, self.worst_row)),
            self.saturated + other.saturated,
            self.flushed + other.flushed,
            None if self.product is None or other.product is None else self.product + other.product,
            self.failed or other.failed,
        )


@dataclass(frozen=True)
class Tally:
    """What is known of some rows of a matrix."""

    elements: int
    largest: float  #: finite magnitude; 0 if there is none
    smallest: float  #: magnitude other than zero; infinity if there is none
    odd: int  #: NaNs and infinities
    energy: Total  #: sum of squares
    evidence: Evidence = field(default_factory=Evidence)
    losses: Mapping[str, Loss] = field(default_factory=dict)  #: recipe -> what it costs
    product: Total | None = None  #: sum of squares of the product

    def __add__(self, other: Tally) -> Tally:
        """Return what is known of the rows of both."""
        return Tally(
            self.elements + other.elements,
            max(self.largest, other.largest),
            min(self.smallest, other.smallest),
            self.odd + other.odd,
            self.energy + other.energy,
            self.evidence.merge(other.evidence),
            {name: loss + other.losses[name] for name, loss in self.losses.items() if name in other.losses},
            None if self.product is None or other.product is None else self.product + other.product,
        )

    def to_row(self) -> dict[str, Any]:
        """Return it as a row of numbers and text, those of a recipe under its name and a stroke."""
        row = {name: x for name, x in vars(self).items() if name not in ("evidence", "losses")}
        row |= {f"{name}/{key}": x for name, loss in self.losses.items() for key, x in vars(loss).items()}
        evidence = json.dumps(self.evidence.to_dict())
        return {"evidence": evidence} | {key: str(x) if isinstance(x, Total) else x for key, x in row.items()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Tally:
        """Read what `to_row` wrote."""
        own: dict[str, Any] = {"evidence": Evidence.from_dict(json.loads(row["evidence"]))}
        losses: dict[str, dict[str, Any]] = {}
        for key, x in row.items():
            recipe, _, name = key.rpartition("/")
            value = Total.parsed(x) if name in _TOTALS and x is not None else x
            if name != "evidence":
                (losses.setdefault(recipe, {}) if recipe else own)[name] = value
        return cls(**own, losses={name: Loss(**loss) for name, loss in losses.items()})


_TOTALS = ("squares", "energy", "product")


def loss_of(squares: F64, energy: F64, first: int, saturated: int, flushed: int) -> Loss:
    """Return what rows lose, from the sums of squares of their errors and of themselves.

    Examples
    --------
    >>> loss = loss_of(np.array([0.0, 1.0, 4.0]), np.array([1.0, 4.0, 16.0]), 10, 0, 2)
    >>> loss.worst, loss.worst_row, float(loss.squares)
    (0.5, 11, 5.0)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(squares > 0, np.sqrt(squares / energy), 0.0)
    at = int(relative.argmax()) if relative.size else 0
    worst = float(relative[at]) if relative.size else -1.0
    return Loss(
        total_of(squares), worst if not math.isnan(worst) else math.inf, first + at, saturated, flushed
    )


def merged(tallies: list[Tally]) -> Tally:
    """Return all as one."""
    return reduce(Tally.__add__, tallies)
