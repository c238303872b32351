"""What values were quantised from: an exact test of whether they all lie on the grid of a narrower format.

Dequantised values are ``round(code * scale)``, rounded to the format they are stored in. Of a group that
shares a scale it is asked whether any real scale gives all of its values so. Its largest value can have come
from few codes only. For each of them, each other value then leaves one code it can have come from, and an
interval of scales that gives it; the values are on the grid if the intervals have a scale in common. That is
a proof, not a likelihood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fp8sim._support.typing import F32, F64, AnyArray, FloatArray
from fp8sim.casts import round_to
from fp8sim.formats import get_format
from fp8sim.reference.codes import positive_values

__all__ = ["GRANULARITIES", "GRIDS", "WIDER", "Grid", "Kind", "bearing", "on_grid", "surviving"]


class Grid(NamedTuple):
    """The magnitudes that codes of a format have. With each its double is one too, up to the largest."""

    name: str
    values: F64
    format: str = ""  #: to which values are rounded; none for integers

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return float(self.values[-1])

    @property
    def tops(self) -> F64:
        """What the largest of a group can be, the likeliest first: others are these after some doublings."""
        tops = self.values[2 * self.values > self.largest][::-1]
        return tops if self.format else np.roll(tops, -1)  # 7 and 127, where -8 and -128 are not used

    def nearest(self, x: FloatArray) -> FloatArray:
        """Return the nearest magnitude of the grid to each of x, 0 too."""
        if self.format:
            return round_to(x, self.format)
        whole: FloatArray = np.minimum(np.rint(x), x.dtype.type(self.largest))
        return whole


def _floats(name: str) -> Grid:
    return Grid(name, positive_values(get_format(name)), name)


#: The grids that are looked for, from the fewest magnitudes up. Integers go down to -8 and -128.
GRIDS: tuple[Grid, ...] = (
    _floats("e2m1"),
    Grid("int4", np.arange(1.0, 9.0)),
    _floats("e5m2"),
    _floats("e4m3"),
    Grid("int8", np.arange(1.0, 129.0)),
)
#: Who may share a scale, from the most down: elements of a line.
GRANULARITIES: dict[str, int] = {"row": 0, "1x128": 128, "1x64": 64, "1x32": 32, "1x16": 16}
#: Format of the values -> the formats in which they may be held without need.
WIDER: dict[str, tuple[str, ...]] = {"fp32": ("bf16", "fp16")}

_CHUNK = 1 << 16  # elements looked at together
_FEW = 9  # values of a group that tell what its largest may be
_FREE = 6  # values of a group, beside its largest, that may fit some scale by chance
_HEAD = 512  # elements of a line that are looked at before others


class Kind(NamedTuple):
    """What values may have been: codes of a grid, with what scales, rounded to what."""

    grid: str
    out: str  #: format that code times scale was rounded to; "" of powers of two, which round nothing

    @property
    def powers(self) -> bool:
        """Whether scales are powers of two."""
        return not self.out


def kinds_of(fmt: str) -> list[Kind]:
    """Return what values of a format may have been, from the coarsest.

    Examples
    --------
    >>> [kind.out for kind in kinds_of("fp32") if kind.grid == "int8"]
    ['', 'fp32', 'bf16', 'fp16']
    """
    return [Kind(grid.name, out) for grid in GRIDS for out in ("", fmt, *WIDER.get(fmt, ()))]


def on_grid(groups: FloatArray, grid: Grid, kind: Kind) -> bool:
    """Whether the magnitudes of each group, a row, are those of codes of a grid times one scale.

    Examples
    --------
    >>> import fp8sim
    >>> codes = np.array([[1.0, 3.5, 448.0, 0.0]])
    >>> values = np.asarray(fp8sim.round_to(0.3 * codes, "bf16"))
    >>> e4m3 = GRIDS[3]
    >>> on_grid(values, e4m3, Kind("e4m3", "bf16")), on_grid(values, e4m3, Kind("e4m3", "fp32"))
    (True, False)
    >>> on_grid(values, e4m3, Kind("e4m3", "")), on_grid(codes / 64, e4m3, Kind("e4m3", ""))
    (False, True)
    """
    if kind.powers:
        return _by_powers(groups, grid)
    v = groups.astype(np.float64, copy=False)
    v = v[v.any(axis=-1)]
    if kind.out != "fp32" and not _holds(v.astype(np.float32), kind.out):
        return False
    first, *others = grid.tops
    v = v[~_fitting(v, np.full(len(v), first), grid, kind.out)]
    step = 1  # whichever group fits no way ends it: one is tried before many
    while len(v):
        part, v = v[:step], v[step:]
        step = max(1, _CHUNK // (len(others) * _FEW))
        # Some values leave few tops, mostly one, to be tried with all of them.
        largest = part.max(axis=-1, keepdims=True)
        few = np.repeat(np.hstack([largest, part[:, : _FEW - 1]]), len(others), axis=0)
        left = _fitting(few, np.tile(others, len(part)), grid, kind.out).reshape(len(part), -1)
        while len(part):
            if not left.any(axis=1).all():
                return False
            at = left.argmax(axis=1)
            fits = _fitting(part, np.array(others)[at], grid, kind.out)
            left[np.arange(len(part)), at] = False
            part, left = part[~fits], left[~fits]
    return True


def _by_powers(groups: FloatArray, grid: Grid) -> bool:
    """Whether each group is codes times a power of two: the least that leaves none beyond the largest."""
    largest = groups.max(axis=-1, keepdims=True, initial=0)
    with np.errstate(divide="ignore"):
        _, power = np.frexp(largest / groups.dtype.type(grid.largest))
    scale = np.ldexp(groups.dtype.type(1), np.minimum(power, 126))
    scale *= np.where(2 * largest <= grid.largest * scale, 0.5, 1).astype(groups.dtype)  # exactly a power
    codes = groups / np.where(largest > 0, scale, 1).astype(groups.dtype)
    return bool(np.array_equal(grid.nearest(codes), codes))


def _fitting(v: F64, tops: F64, grid: Grid, out: str) -> AnyArray:
    """Return which groups have a scale that gives all of their values, the largest of code `top`."""
    low, high = _rounding_intervals(v, out)
    there = v > 0
    at = np.arange(len(v)), v.argmax(axis=-1)
    lo, hi = low[at] / tops, high[at] / tops
    if not grid.format and get_format(out).mantissa_bits < 10:
        lo, hi = _narrowed(low, high, there, (lo, hi))
    codes = grid.nearest(v / ((lo + hi) / 2)[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        lo = np.where(there, low / codes, 0).max(axis=-1)
        hi = np.where(there, high / codes, np.inf).min(axis=-1)
    fitting: AnyArray = (lo <= hi) & ~(there & (codes == 0)).any(axis=-1)
    return fitting


def _narrowed(low: F64, high: F64, there: AnyArray, scales: tuple[F64, F64]) -> tuple[F64, F64]:
    """Return the scales left by values that one integer alone can have given.

    The largest value tells the scale to 2^-8 in BF16, by which 127 may be 126 or 128 too, and 20 is 20 alone.
    """
    lo, hi = scales
    for _ in range(5):
        with np.errstate(divide="ignore", invalid="ignore"):
            least, most = np.ceil(low / hi[:, None]), np.floor(high / lo[:, None])
            sure = there & (least == most) & (most > 0)
            lo = np.maximum(lo, np.where(sure, low / least, 0).max(axis=-1))
            hi = np.minimum(hi, np.where(sure, high / least, np.inf).min(axis=-1))
    return lo, hi


def _rounding_intervals(v: F64, out: str) -> tuple[F64, F64]:
    """Return what is rounded to each value: from half a unit in the last place below to half one above.

    What is halfway goes to the even neighbour: the interval of an odd one is open. Sums and quotients of
    float64 err by less than 2^-51; a product is rounded to FP32 before it is to a narrower format, by 2^-24.
    """
    fmt = get_format(out)
    significand, exponent = np.frexp(v)
    place = np.maximum(exponent - 1, fmt.emin) - fmt.mantissa_bits
    half = np.ldexp(0.5, place)
    below = np.where((significand == 0.5) & (exponent - 1 > fmt.emin), half / 2, half)
    odd = np.ldexp(v, -place) % 2 == 1
    inward = np.where(odd, 2.0**-49, -(2.0**-51) if out == "fp32" else -(2.0**-24))
    return (v - below) * (1 + inward), (v + half) * (1 - inward)


def surviving(values: F32, fmt: str) -> dict[str, int]:
    """Return what lines of values may have been, and how many of them bear each out.

    Keys are ``grid granularity out``, and ``bf16`` or ``fp16`` where a narrower format holds them as they
    are. A value bears a grid out if it is neither zero nor one of those of its group that fit by chance.
    What holds of lines holds of any cut of them.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> codes = rng.integers(-7, 8, (4, 64)).astype(np.float32)
    >>> found = surviving(codes * np.float32([[0.1], [0.2], [0.3], [0.4]]), "fp32")
    >>> found["int4 row fp32"], "int4 row " in found, "e4m3 row fp32" in found
    (175, False, True)
    """
    kinds = {kind: list(GRANULARITIES) for kind in kinds_of(fmt)}
    held = dict.fromkeys(WIDER.get(fmt, ()), 0)
    counts = dict.fromkeys(GRANULARITIES, 0)
    for lines in _chunks(values):
        held = {name: n + int(np.count_nonzero(lines)) for name, n in held.items() if _holds(lines, name)}
        v = np.abs(lines)
        if not np.isfinite(v).all():
            v = np.where(np.isfinite(v), v, np.float32(0))
        kinds = _left(v, kinds, (fmt, *held))
        if not (kinds or held):
            return {}
        for name in {name for left in kinds.values() for name in left}:
            counts[name] += bearing(v, GRANULARITIES[name])
    found = {f"{kind.grid} {name} {kind.out}": counts[name] for kind, left in kinds.items() for name in left}
    return held | found


def _left(v: F32, kinds: dict[Kind, list[str]], exact: tuple[str, ...]) -> dict[Kind, list[str]]:
    """Return the kinds and granularities that lines of magnitudes leave possible of those given.

    They are values of the formats of `exact`, so that codes times powers of two were rounded to these too.
    """
    left: dict[Kind, list[str]] = {}
    head = v[:1, :_HEAD]
    for kind, names in kinds.items():
        implied = {name for other in left if _implies(other, kind, exact) for name in left[other]}
        if not implied and not on_grid(_cut(head, GRANULARITIES[names[-1]]), _GRID[kind.grid], kind):
            continue
        for at, name in enumerate(names):  # what shares a scale more widely shares it more narrowly too
            if name in implied or on_grid(_cut(v, GRANULARITIES[name]), _GRID[kind.grid], kind):
                left[kind] = names[at:]
                break
    return left


def _implies(one: Kind, other: Kind, exact: tuple[str, ...]) -> bool:
    """Whether what is of one kind is of another too, with the same scales or their doubles."""
    same = one.out == other.out or (one.powers and other.out in exact)
    return same and other.grid in _IMPLIED[one.grid]


#: Grid -> those that have all of its magnitudes, after doublings: 6 is 12 times a half.
_IMPLIED = {
    "e2m1": ("e2m1", "e5m2", "e4m3", "int8"), "int4": ("int4", "e5m2", "e4m3", "int8"), "e5m2": ("e5m2",),
    "e4m3": ("e4m3",), "int8": ("int8",),
}  # fmt: skip
_GRID = {grid.name: grid for grid in GRIDS}


def bearing(v: F32, size: int) -> int:
    """Return how many values are neither zero nor the largest of their group, but for six of each group.

    A few values fit some scale by chance: any code of 64 to 127 may be the largest of a group of INT8.

    Examples
    --------
    >>> bearing(np.float32([[1, 2, 2, 0.5, 1, 1, 1, 1, 1], [0, 0, 0, 3, 0, 0, 0, 1, 2]]), 0)
    1
    """
    groups = _cut(v, size)
    others = (groups > 0) & (groups < groups.max(axis=-1, keepdims=True, initial=0))
    return int(np.maximum(np.count_nonzero(others, axis=-1) - _FREE, 0).sum())


def _cut(v: F32, size: int) -> F32:
    """Return groups of a line as rows, a short one filled up with zeros, which are on every grid."""
    size = size or v.shape[-1]
    short = -v.shape[-1] % size
    return (np.pad(v, ((0, 0), (0, short))) if short else v).reshape(-1, size)


def _holds(lines: F32, fmt: str) -> bool:
    """Whether a format holds values as they are; infinities and NaN do not count."""
    if fmt == "bf16":  # the upper half of an FP32
        return not (np.ascontiguousarray(lines).view(np.uint32) & np.uint32(0xFFFF)).any()
    with np.errstate(over="ignore", invalid="ignore"):
        same = lines.astype(np.float16) == lines
    return bool((same | ~np.isfinite(lines)).all())


def _chunks(values: F32) -> Iterator[F32]:
    """Yield one line, then more at a time: of most weights a few values tell that they are on no grid."""
    start, step, most = 0, 1, max(1, _CHUNK // max(1, values.shape[1]))
    while start < len(values):
        yield values[start : start + step]
        start += step
        step = min(4 * step, most)
