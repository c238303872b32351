"""How Q, K, V and P of an attention are stored: format, whence the scales are, and who shares one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from fp8sim._support import checks
from fp8sim._support.text import shown
from fp8sim._support.typing import AnyArray, FloatArray
from fp8sim.accumulators import Accumulator, Exact, ValueSum
from fp8sim.formats import INT8, FormatLike, get_format
from fp8sim.metrics import Truth
from fp8sim.quantization import FP32, Operand, Quantized, Scales, Scaling, quantize_with, scales_shape
from fp8sim.quantization.scaling import parse_granularity

__all__ = [
    "CACHE_FORMATS", "Side", "Stored", "StoredLike", "StoredTensor", "Storing", "check_stores", "p_operand",
]  # fmt: skip

#: Name -> how a cache holds elements in it, beside all names of formats: those of 8 bits and fewer with a
#: scale, wider ones without. Blocks run along the channels of a token, which is written as a whole.
CACHE_FORMATS: dict[str, Operand] = {
    "fp8": Operand(get_format("e4m3"), Scaling("tensor")),
    "mxfp8": Operand(get_format("e4m3"), Scaling("1x32", "e8m0")),
    "mxfp4": Operand(get_format("e2m1"), Scaling("1x32", "e8m0")),
    "nvfp4": Operand(get_format("e2m1"), Scaling("1x16", "e4m3")),
}

StoredLike: TypeAlias = "FormatLike | Operand | None"
_SCALES = ("unity", "calibrated", "dynamic")
#: granularity -> what `quantize` calls it: a head is one row of all its tokens and channels.
_GRANULARITIES = {"tensor": "tensor", "head": "row", "token": "row"}


@dataclass(frozen=True)
class StoredTensor:
    """One of Q, K, V and P as it is stored."""

    tensor: str  #: q, k, v or p
    stored: str  #: format and scales in words
    nbytes: int  #: with its scales; P is never in memory, and has none
    error: float  #: relative Frobenius, of what is stored against what was to be
    saturated: float  #: share of elements beyond the largest finite value
    flushed: float  #: share of elements, other than zero, that became zero


class Side(NamedTuple):
    """One operand of a product: values, and the codes that they are of."""

    values: FloatArray
    codes: Quantized | None

    @property
    def T(self) -> Side:
        """The same, transposed."""
        return Side(self.values.T, None if self.codes is None else self.codes.T)


@dataclass(frozen=True, eq=False)
class Storing:
    """How a tensor is stored, whence its scales are, and who shares one."""

    scales: str
    operand: Operand | None  #: None: as it is
    granularity: str = "tensor"
    calibration: FloatArray | None = None
    what: str = "x"

    @classmethod
    def of(
        cls,
        like: StoredLike,
        scales: str | None,
        granularity: str | None,
        calibration: FloatArray | None,
        what: str,
    ) -> Storing:
        """Check that format, scales and granularity go together."""
        if scales is not None:
            checks.one_of(scales, _SCALES, "scales")
        if granularity is not None:
            checks.one_of(granularity, _GRANULARITIES, "granularity")
        if isinstance(like, tuple):
            raise ValueError(f"kv must be one format or a pair for K and V, got {shown(like)}")
        if like is None:
            return cls("none", None, what=what)
        operand = _operand(like)
        if parse_granularity(operand.scaling.granularity).rows > 1:
            raise ValueError(
                f"{operand} of {what} would share scales among tokens; use 1xC, 'row' or 'tensor'"
            )
        whose = f"{what} in {shown(like) if isinstance(like, str) else operand}"
        if isinstance(like, Operand) or operand.scaling.granularity not in ("tensor", "none"):
            if scales not in (None, "dynamic") or granularity is not None:
                raise ValueError(f"{whose} has scales of its own; leave scales and granularity out")
            return cls("dynamic", operand, "own", what=what)
        if not operand.is_scaled:
            if scales not in (None, "unity") or granularity not in (None, "tensor"):
                raise ValueError(f"{whose} is stored without scales; leave scales and granularity out")
            return cls("none", operand, what=what)
        if scales is None:
            eight = operand.fmt != INT8 and operand.fmt.bits == 8
            scales = "calibrated" if calibration is not None else "unity" if eight else "dynamic"
        if scales == "calibrated" and calibration is None:
            names = "(q, k, v)" if what == "q" else "(k, v)"
            raise ValueError(f"{whose} is to be calibrated: pass calibration={names} of other tokens")
        share = granularity or "tensor"
        if scales == "calibrated" and share == "token":
            raise ValueError("tokens to come cannot be calibrated; use granularity 'tensor' or 'head'")
        operand = dataclasses.replace(operand, scaling=Scaling(_GRANULARITIES[share]))
        return cls(scales, operand, share, calibration if scales == "calibrated" else None, what)

    @property
    def of_tensor(self) -> bool:
        """Whether there is one scale, or none."""
        return self.operand is None or self.operand.scaling.granularity in ("tensor", "none")

    def words(self) -> str:
        """Return format and scales in words."""
        if self.operand is None:
            return "as it is"
        if self.granularity == "own" or not self.operand.is_scaled:
            return str(self.operand)
        if self.scales == "unity":
            return f"{self.operand.fmt} scale 1"
        return f"{self.operand.fmt} {self.scales}, per {self.granularity}"

    def store(self, x: FloatArray, *, exact: bool) -> Stored:
        """Quantise a tensor; `exact` keeps the values in float64."""
        if self.operand is None and exact:
            return Stored(self, np.asarray(x, np.float64), None)
        operand = self.operand or FP32
        given = None
        if self.scales == "unity":
            ones = np.ones(scales_shape(operand.scaling.granularity, self._flat(x).shape), np.float32)
            given = Scales(ones, ones)
        elif self.calibration is not None:
            known = quantize_with(self._flat(self.calibration), operand, what=self.what)
            given = Scales(known.scales, known.scale_codes)
        quantized = quantize_with(self._flat(x), operand, scales=given, what=self.what)
        values = np.asarray(quantized.dequantize(np.float64 if exact else np.float32))
        return Stored(self, values.reshape(x.shape), quantized)

    def _flat(self, x: FloatArray) -> FloatArray:
        """Return a tensor so that what shares a scale is a row, or all of it."""
        return x.reshape(len(x), 1, -1) if self.granularity == "head" else x


class Stored(NamedTuple):
    """A tensor as stored."""

    how: Storing
    values: FloatArray  #: (heads, tokens, channels)
    quantized: Quantized | None

    def part(self, head: int, start: int, stop: int) -> Side:
        """Return some tokens of a head."""
        values, q = self.values[head, start:stop], self.quantized
        if q is None:
            return Side(values, None)
        codes = q.codes.reshape(self.values.shape)[head, start:stop]

        def scales_of(scales: AnyArray) -> AnyArray:
            mine = scales[head if len(scales) > 1 else 0]
            return mine[start:stop] if len(mine) > 1 else mine

        scaling = Scaling("tensor") if self.how.granularity == "head" else q.scaling
        return Side(
            values,
            dataclasses.replace(
                q,
                codes=codes,
                scales=scales_of(q.scales),
                scale_codes=scales_of(q.scale_codes),
                scaling=scaling,
                axis=1,
            ),
        )

    def row(self, x: FloatArray) -> StoredTensor:
        """Return what storing a tensor did to it."""
        q, what, exact = self.quantized, self.how.what, np.asarray(x, np.float64)
        if q is None:
            return StoredTensor(what, self.how.words(), exact.nbytes, 0.0, 0.0, 0.0)
        values = np.asarray(q.dequantize(np.float64, invert=True), np.float64).reshape(exact.shape)
        error = Truth(exact).errors(values).relative
        lost = q.saturated / x.size, q.flushed / x.size
        return StoredTensor(what, self.how.words(), q.nbytes, error, *lost)


def _operand(like: StoredLike) -> Operand:
    """Return how a format is stored; its scales are still to be chosen."""
    if isinstance(like, Operand):
        return like
    if isinstance(like, str) and like.lower() in CACHE_FORMATS:
        return CACHE_FORMATS[like.lower()]
    try:
        fmt = get_format(like)  # type: ignore[arg-type]  # None is taken care of
    except ValueError as error:
        more = ", ".join(CACHE_FORMATS)
        raise ValueError(f"{error}; a cache also takes {more}") from None
    return Operand(fmt, Scaling("tensor" if fmt.bits <= 8 else "none"))


def p_operand(like: StoredLike) -> Operand | None:
    """Return how exponentials, from 0 to 1, are stored: those of a tensor under a scale that is known."""
    if like is None or isinstance(like, Operand):
        return like
    operand = _operand(like)
    if operand.scaling.granularity != "tensor":
        return operand
    # 1 becomes the largest power of two: 256 in E4M3, of which the scale is 2^-8; 127 in INT8.
    rule = "amax" if operand.fmt == INT8 else "floor"
    return Operand(operand.fmt, Scaling("tensor", scale_rule=rule, amax=1.0))


def check_stores(
    stores: Sequence[Storing], p: Operand | None, sums: Accumulator | None, *, calibrated: bool
) -> None:
    """Refuse transforms that do not cancel, calibration without use, and what a core cannot multiply."""
    transforms = [(s.operand.hadamard, s.operand.hadamard_signs) if s.operand else (0, 0) for s in stores]
    if transforms[0] != transforms[1] or transforms[2] != (0, 0) or (p is not None and p.hadamard):
        raise ValueError(
            "the Hadamard transforms of Q and K must be the same, so that they cancel, and V and P have "
            "none; write q_format=x, kv=(x, y) with y = dataclasses.replace(x, hadamard=0, hadamard_signs=0)"
        )
    if calibrated and not any(s.scales == "calibrated" for s in stores):
        raise ValueError("calibration is given, and nothing here is calibrated; leave it out")
    if sums is None or isinstance(sums, (ValueSum, Exact)):
        return
    operands = {**{s.what: s.operand for s in stores}, "p": p}
    if whole := [name for name, operand in operands.items() if operand is None]:
        raise ValueError(
            f"{sums.name} multiplies codes, and {', '.join(whole)} would stay as given; give q_format, kv "
            "and p_format formats that it takes, or accumulator='fp32', which sums values"
        )
    if not (stores[2].granularity == "head" or stores[2].of_tensor):
        raise ValueError(
            f"{sums.name} sums over keys, and the scales of v change from key to key; "
            "use granularity 'tensor' or 'head' for v, or accumulator='fp32', which sums values"
        )
