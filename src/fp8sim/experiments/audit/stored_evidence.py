"""What is seen of lines of a tensor: numbers that add up to the same, however the tensor was cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import AnyArray, FloatArray
from fp8sim.checkpoints import Coded
from fp8sim.experiments.audit.grids import surviving
from fp8sim.formats import get_format

__all__ = ["Evidence", "evidence", "tested_lines"]

_CHUNK = 1 << 16  # elements looked at together
_FEW = 8  # places that are kept
_MAGNITUDES = 256  # more different ones than any grid of 8 bits has
_TESTED = 1 << 16  # elements of a tensor that are tested for grids, which takes long where they are on one
_MASK = (1 << 53) - 1  # of a fingerprint: whole numbers that every reader of JSON holds


@dataclass(frozen=True)
class Evidence:
    """What was seen of some lines of a tensor; all of it is the same however they were cut.

    Examples
    --------
    >>> lines = Coded("bf16", 0, 2), Coded("bf16", 2, 3)
    >>> x = np.float32([[1, 2], [0, 0], [np.nan, 3]])
    >>> seen = evidence(lines[0], x[:2]).merge(evidence(lines[1], x[2:]))
    >>> seen.elements, seen.dead, seen.dead_at, seen.nans
    (6, 1, (1,), 1)
    >>> Evidence.from_dict(seen.to_dict()) == seen
    True
    """

    elements: int = 0
    nans: int = 0
    infinities: int = 0
    dead: int = 0  #: lines of zeros
    dead_at: tuple[int, ...] = ()  #: the first of them
    fingerprint: int = 0  #: of the values and the lines they stand in
    magnitudes: tuple[float, ...] | None = ()  #: other than zero, of weights without scales; None: too many
    grids: dict[str, int] | None = (
        None  #: what the first lines may have been, and how many values bear it out
    )
    codes: dict[str, int] = field(default_factory=dict)  #: how often each is there
    groups: int = 0  #: that share a scale
    zero_scales: int = 0
    lost: int = 0  #: codes other than zero under a scale of zero
    nan_scales: int = 0
    infinite_scales: int = 0
    negative_scales: int = 0
    unit_scales: int = 0  #: scales of exactly 1

    def __post_init__(self) -> None:
        """Check every field, as of what was read from a file."""
        checks.fields(self)

    def merge(self, other: Evidence) -> Evidence:
        """Return what was seen of both."""
        sums = {
            one.name: getattr(self, one.name) + getattr(other, one.name)
            for one in fields(self)
            if one.name not in ("dead_at", "magnitudes", "grids", "codes")
        }
        grids = self.grids if other.grids is None else other.grids
        if self.grids is not None and other.grids is not None:
            shared = sorted(self.grids.keys() & other.grids)
            grids = {key: self.grids[key] + other.grids[key] for key in shared}
        both = sorted(self.codes.keys() | other.codes, key=int)
        sums["fingerprint"] &= _MASK
        return Evidence(
            **sums,
            dead_at=tuple(sorted({*self.dead_at, *other.dead_at})[:_FEW]),
            magnitudes=_united(self.magnitudes, other.magnitudes),
            grids=grids,
            codes={code: self.codes.get(code, 0) + other.codes.get(code, 0) for code in both},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evidence:
        """Return what `to_dict` gave, or what JSON made of it."""
        return cls(**{**data, "dead_at": tuple(data["dead_at"]), "magnitudes": _tuple(data["magnitudes"])})


def _tuple(values: Iterable[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)


def _united(one: Iterable[float] | None, other: Iterable[float] | None) -> tuple[float, ...] | None:
    if one is None or other is None:
        return None
    both = sorted({*one, *other})
    return tuple(both) if len(both) <= _MAGNITUDES else None


def evidence(stored: Coded, values: FloatArray) -> Evidence:
    """Return what is seen of some lines of a tensor.

    Parameters
    ----------
    stored : Coded
        What `checkpoints.Checkpoint.take_apart` gives of them.
    values : array
        What they stand for; the last axis is that of the tensor.

    Returns
    -------
    Evidence
        `Evidence.merge` adds up that of other lines.

    Examples
    --------
    >>> evidence(Coded("fp32", 0, 2), np.float32([[1, 0.5], [0, 0]])).dead_at
    (1,)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        lines = np.ascontiguousarray(values, dtype=np.float32)
    lines = lines.reshape(-1, lines.shape[-1] if lines.ndim else 1)
    if len(lines) != stored.stop - stored.start:
        raise ValueError(
            f"{len(lines)} lines of values are not the lines {stored.start} to {stored.stop} of their codes"
        )
    plain = stored.codes is None and stored.format in ("fp32", "bf16", "fp16")
    tested = lines[: max(0, tested_lines(lines.shape[1]) - stored.start)]
    with np.errstate(all="ignore"):
        return Evidence(
            lines.size,
            **_of_values(lines, stored.start),
            magnitudes=_magnitudes(lines) if plain else (),
            grids=surviving(tested, stored.format) if plain and tested.size else None,
            **_of_scales(stored),
        )


def tested_lines(columns: int) -> int:
    """Return how many lines of a tensor are tested for grids, the first ones.

    Examples
    --------
    >>> tested_lines(7168), tested_lines(10**6)
    (9, 1)
    """
    return max(1, _TESTED // max(1, columns))


def _of_values(lines: AnyArray, start: int) -> dict[str, Any]:
    """Count what is not finite and lines of zeros, and make the fingerprint."""
    nans = infinities = dead = total = 0
    dead_at: list[int] = []
    step = max(1, _CHUNK // max(1, lines.shape[1]))
    for first in range(0, len(lines), step):
        bits = lines[first : first + step].view(np.uint32)
        magnitudes = bits & np.uint32(0x7FFFFFFF)
        largest = magnitudes.max(axis=1, initial=0)
        odd = magnitudes[largest >= 0x7F800000]
        infinities += int(np.count_nonzero(odd == 0x7F800000))
        nans += int(np.count_nonzero(odd > 0x7F800000))
        zero = np.flatnonzero(largest == 0)
        dead += len(zero)
        dead_at += (zero[: _FEW - len(dead_at)] + (start + first)).tolist()
        # Sums of 32 bits, each times an odd number of its line's own (multiples of 2^64 / golden ratio):
        # equal ones of another line give another number.
        sums = bits.sum(axis=1, dtype=np.uint32).astype(np.uint64) + np.uint64(1)
        odds = 2 * np.arange(start + first, start + first + len(bits), dtype=np.uint64) + np.uint64(1)
        mixed = sums * (odds * np.uint64(0x9E3779B97F4A7C15))
        total += int((mixed ^ (mixed >> np.uint64(29))).sum(dtype=np.uint64))
    counts = {"nans": nans, "infinities": infinities, "dead": dead, "dead_at": tuple(dead_at)}
    return {**counts, "fingerprint": total & _MASK}


def _magnitudes(lines: AnyArray) -> tuple[float, ...] | None:
    """Return the magnitudes other than zero; None if there are more than any grid has."""
    found: tuple[float, ...] | None = ()
    flat, start, size = lines.reshape(-1), 0, 1024
    while start < flat.size and found is not None:
        some = np.unique(np.abs(flat[start : start + size]))
        some = some[np.isfinite(some) & (some > 0)]
        found = _united(found, some.tolist()) if len(some) <= _MAGNITUDES else None
        start, size = start + size, _CHUNK
    return found


def _of_scales(stored: Coded) -> dict[str, Any]:
    """Count codes, and scales where their group begins, so that each is counted once."""
    if stored.codes is None or stored.scales is None or stored.group is None or stored.first is None:
        return {}
    counts = _counts(stored.codes.view(np.uint8))
    own = np.asarray(stored.scales[stored.group[stored.first]], np.float64)
    zero = own == 0
    return {
        "codes": {str(code): int(counts[code]) for code in np.flatnonzero(counts)},
        "groups": own.size,
        "zero_scales": int(np.count_nonzero(zero)),
        "lost": _lost(stored) if (stored.scales == 0).any() else 0,
        "nan_scales": int(np.count_nonzero(np.isnan(own))),
        "infinite_scales": int(np.count_nonzero(np.isinf(own))),
        "negative_scales": int(np.count_nonzero(own < 0)),
        "unit_scales": int(np.count_nonzero(own == 1)),
    }


def _counts(codes: AnyArray) -> AnyArray:
    """Return how often each byte is there: two at a time, which takes half as long."""
    flat = np.ascontiguousarray(codes).reshape(-1)
    even = flat.size // 2 * 2
    counts = np.zeros(256, np.int64)
    for start in range(0, even, 1 << 20):
        pairs = np.bincount(flat[start : min(start + (1 << 20), even)].view(np.uint16), minlength=1 << 16)
        counts += pairs.reshape(256, 256).sum(axis=0) + pairs.reshape(256, 256).sum(axis=1)
    counts[flat[even:]] += 1
    return counts


def _lost(stored: Coded) -> int:
    """Return how many codes that are not zero a scale of zero multiplies."""
    assert stored.codes is not None
    integer = stored.format.startswith("int")
    magnitudes = (
        stored.codes if integer else stored.codes & np.uint8(2 ** (get_format(stored.format).bits - 1) - 1)
    )
    return int(np.count_nonzero((magnitudes != 0) & (stored.spread() == 0)))
