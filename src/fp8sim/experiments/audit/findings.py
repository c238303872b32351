"""What is wrong with a tensor of a checkpoint, or worth knowing, each with what to do: a table of tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fp8sim._support.quantities import percent_text
from fp8sim._support.text import printable
from fp8sim._support.typing import F64
from fp8sim.checkpoints import Tensor
from fp8sim.experiments.audit.grids import GRANULARITIES, GRIDS, WIDER, Kind, on_grid
from fp8sim.experiments.audit.stored_evidence import Evidence, evidence, tested_lines
from fp8sim.formats import get_format
from fp8sim.reference.codes import decode_table

__all__ = ["DISTINCT", "FINDINGS", "Check", "Evidence", "Finding", "evidence", "find"]

DISTINCT = 4  # magnitudes below which any weights look quantised: zeros, ones, signs
_MANY = 257
#: Different magnitudes that weights must have before a grid says something: few levels fit a fine one under
#: some scale by chance, such as those of a mask.
_ENOUGH = {"e2m1": 5, "int4": 6, "e5m2": 10, "e4m3": 16, "int8": 48}
_BEARING = 64  # values that must bear out what others were quantised from: by chance, one in 2^64 at most


@dataclass(frozen=True)
class Finding:
    """What is wrong with a tensor, or worth knowing, and what to do.

    Examples
    --------
    >>> print(Finding("q.weight", "dead-rows", "2 of 8 rows are zero: 0, 3", "prune them"))
    q.weight: 2 of 8 rows are zero: 0, 3; prune them
    """

    tensor: str
    kind: str
    text: str
    advice: str

    def __str__(self) -> str:
        """Return it in one line."""
        return printable(f"{self.tensor}: {self.text}; {self.advice}")


class Check(NamedTuple):
    """One thing that is looked for in every tensor."""

    kind: str
    says: Callable[[Tensor, Evidence], str]  #: what is wrong; "" if nothing is
    advice: str


def find(name: str, tensor: Tensor, seen: Evidence | None = None) -> tuple[Finding, ...]:
    """Return the findings of one tensor.

    Parameters
    ----------
    name : str
        What the findings call it.
    tensor : Tensor
        What its headers say.
    seen : Evidence, optional
        That of all of its lines; none of a tensor that cannot be read.

    Examples
    --------
    >>> from fp8sim.checkpoints import Coded
    >>> tensor = Tensor("w", (2, 2), "fp32", "", "", "plain", 16, 0)
    >>> for finding in find("w", tensor, evidence(Coded("fp32", 0, 2), np.float32([[1, 0.5], [0, 0]]))):
    ...     print(finding)
    w: 1 of 2 rows is all zero: 1; if it is no padding, prune it, or look for what was not loaded there
    """
    tests = [(test, test.says(tensor, seen or Evidence())) for test in FINDINGS]
    return tuple(Finding(name, test.kind, printable(text), test.advice) for test, text in tests if text)


def _missing(tensor: Tensor, seen: Evidence) -> str:
    return tensor.refused if "scales were not found" in tensor.refused else ""


def _unreadable(tensor: Tensor, seen: Evidence) -> str:
    return "" if "scales were not found" in tensor.refused else tensor.refused


def _zero_scales(tensor: Tensor, seen: Evidence) -> str:
    """Say so of zeros that hide something: the scale of zeros alone may well be zero."""
    if not seen.lost:
        return ""
    return f"{_of(seen.zero_scales, seen.groups, 'scale')} zero, and {seen.lost} codes under them are not"


def _odd_scales(count: str, what: str) -> Callable[[Tensor, Evidence], str]:
    def says(tensor: Tensor, seen: Evidence) -> str:
        number = getattr(seen, count)
        return f"{_of(number, seen.groups, 'scale')} {what}" if number else ""

    return says


def _of(count: int, of: int, what: str) -> str:
    return f"{count} of {of} {what}{'s' * (of != 1)} {'is' if count == 1 else 'are'}"


def _uncalibrated(tensor: Tensor, seen: Evidence) -> str:
    if not seen.groups or seen.unit_scales < seen.groups:
        return ""
    return f"its {'scale is' if seen.groups == 1 else f'{seen.groups} scales are all'} exactly 1"


def _specials(tensor: Tensor, seen: Evidence) -> int:
    """Return how many codes stand for NaN or infinity."""
    if not seen.codes or tensor.format.startswith("int"):
        return 0
    table = decode_table(get_format(tensor.format))
    return sum(count for code, count in seen.codes.items() if not np.isfinite(table[int(code)]))


def _fnuz_as_ocp(tensor: Tensor, seen: Evidence) -> str:
    """Look for what OCP codes never have: the largest of each group is NaN, and -0 does not occur.

    The largest code of E4M3FNUZ is 0x7F, 240, that of E5M2FNUZ 0x7F too; both are NaN in OCP. 0x80 is the
    NaN of the one, and -0 in the other.
    """
    if tensor.format not in ("e4m3", "e5m2") or "128" in seen.codes:
        return ""
    count = _specials(tensor, seen)
    if not count or count < 0.9 * seen.groups:
        return ""
    return (
        f"{count} codes are NaN in {tensor.format.upper()} where the largest of each scale stand, and none "
        "is 0x80: these look like FNUZ codes, which are half as large"
    )


def _ocp_as_fnuz(tensor: Tensor, seen: Evidence) -> str:
    count = seen.codes.get("128", 0) if tensor.format.endswith("fnuz") else 0
    if not count:
        return ""
    return (
        f"{count} codes are 0x80, NaN in {tensor.format.upper()} and -0 in OCP's format: these look like OCP "
        "codes, which are twice as large"
    )


def _not_finite(tensor: Tensor, seen: Evidence) -> str:
    """Count values that are not finite, unless another finding says why."""
    explained = seen.nan_scales or seen.infinite_scales
    if explained or _fnuz_as_ocp(tensor, seen) or _ocp_as_fnuz(tensor, seen):
        return ""
    parts = [(seen.nans, "NaN"), (seen.infinities, "infinite")]
    found = " and ".join(f"{count} {what}" for count, what in parts if count)
    return f"{found} of {seen.elements} values" if found else ""


def _dead(tensor: Tensor, seen: Evidence) -> str:
    if not seen.dead or seen.lost or len(tensor.shape) < 2:
        return ""
    rows = math.prod(tensor.shape[:-1])
    if seen.dead == rows:
        return "all of it is zero"
    places = ", ".join(map(str, seen.dead_at)) + ", ..." * (seen.dead > len(seen.dead_at))
    return f"{_of(seen.dead, rows, 'row')} all zero: {places}"


def _saturated(tensor: Tensor, seen: Evidence) -> str:
    """Compare the codes of the largest magnitude with one for each scale, as amax scaling leaves them.

    Coarse formats have more: of normal weights in blocks of 32, 15 % are 6 in E2M1.
    """
    if not seen.codes or _fnuz_as_ocp(tensor, seen):
        return ""
    values = _code_values(tensor.format)
    counts = {int(code): count for code, count in seen.codes.items()}
    sizes = {code: abs(values[code]) for code in counts if np.isfinite(values[code])}
    largest = np.nanmax(np.where(np.isfinite(values), np.abs(values), 0))
    if tensor.format.startswith("int"):
        largest -= 1  # 127 and 7; what goes one further down is at the end too
    top = sum(counts[code] for code, size in sizes.items() if size >= largest)
    narrow = len(values) == 16 or tensor.format in ("int4", "e2m1")
    limit = 0.4 * seen.elements if narrow else 4 * seen.groups + seen.elements / 1000
    if top <= limit or len(sizes) < DISTINCT:
        return ""
    return f"{percent_text(top / seen.elements)} of the codes, {top}, are the largest, {largest:g}"


def _code_values(fmt: str) -> F64:
    """Return the value of each byte that is a code."""
    if fmt == "int4":
        return np.arange(256, dtype=np.uint8).view(np.int8).clip(-8, 7).astype(np.float64)
    if fmt == "int8":
        return np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float64)
    return decode_table(get_format(fmt)).astype(np.float64)


def _coarser(tensor: Tensor, seen: Evidence) -> str:
    """Say what values were quantised from: the coarsest grid, with the fewest scales, that has them all."""
    if len(tensor.shape) < 2:
        return ""
    if seen.codes:
        return _coarser_codes(tensor, seen)
    different = _MANY if seen.magnitudes is None else len(seen.magnitudes)
    grids = {tuple(key.split(" ")): count for key, count in (seen.grids or {}).items() if " " in key}
    for grid in GRIDS:
        if different < _ENOUGH[grid.name]:
            continue
        outs = ("", tensor.format, *WIDER.get(tensor.format, ()))
        if seen.magnitudes and seen.elements >= 4 * _BEARING:
            v = np.array([seen.magnitudes])
            for out in outs:
                if on_grid(v if out else v.astype(np.float32), grid, Kind(grid.name, out)):
                    return f"every value {_was(grid.name, 'tensor', out)}"
        for name in GRANULARITIES:
            for out in outs:
                if grids.get((grid.name, name, out), 0) >= _BEARING:
                    tested = tested_lines(tensor.shape[-1]) * tensor.shape[-1]
                    who = "value" if seen.elements <= tested else f"one of the first {tested:,} values"
                    return f"every {who} {_was(grid.name, name, out)}"
    return ""


_GRID_NAMES = {
    "e2m1": "E2M1 (FP4)",
    "e5m2": "E5M2 (FP8)",
    "e4m3": "E4M3 (FP8)",
    "int4": "INT4",
    "int8": "INT8",
}
_SHARED = {"tensor": "one scale for all", "row": "one scale a row"}


def _was(grid: str, granularity: str, out: str) -> str:
    who = _SHARED.get(granularity) or (
        f"one scale for {granularity[2:]} elements of a row"
        + " (1x128 or 128x128)" * (granularity == "1x128")
    )
    scales = f", rounded to {out.upper()}" if out else ", a power of two"
    return f"is a code of {_GRID_NAMES[grid]} times its scale{scales}; {who}"


def _coarser_codes(tensor: Tensor, seen: Evidence) -> str:
    """Say whether fewer bits would hold all codes."""
    values = np.abs(_code_values(tensor.format))
    used = np.unique([values[int(code)] for code in seen.codes])
    used = used[np.isfinite(used) & (used > 0)]
    if seen.elements < 4 * _BEARING or len(used) < DISTINCT:
        return ""
    if tensor.format == "int8":
        return "no code is beyond -8 to 7: INT4 holds them all" if used[-1] <= 7 else ""
    if get_format(tensor.format).bits < 8:
        return ""
    steps = (np.frexp(used)[0] * 16).astype(np.int64)  # significands: 8 to 15
    if (steps % 2 == 1).any() or get_format(tensor.format).mantissa_bits < 3:
        return ""
    kinds = "E2M1 (FP4) with scales that are powers of two" if (steps % 4 == 0).all() else "E5M2 or INT4"
    return f"its codes have {'one bit' if kinds[1] == '2' else 'two bits'} of mantissa at most, as of {kinds}"


def _wider(tensor: Tensor, seen: Evidence) -> str:
    if len(tensor.shape) < 2 or _coarser(tensor, seen):
        return ""
    name = next((name for name in WIDER.get(tensor.format, ()) if (seen.grids or {}).get(name, 0)), "")
    few = seen.magnitudes is not None and len(seen.magnitudes) < DISTINCT
    if not name or few or (seen.grids or {})[name] < _BEARING:
        return ""
    return f"it is stored in {tensor.format.upper()}, and every value is one of {name.upper()}"


#: What is looked for in every tensor, in the order in which findings are told.
FINDINGS: tuple[Check, ...] = (
    Check(
        "missing-scales", _missing,
        "put them beside it, under a name that a layout has, or in the index if another shard holds them",
    ),
    Check("unreadable", _unreadable, "convert it to a layout that is read, or leave it out"),
    Check("zero-scales", _zero_scales, "quantise it again, with a floor under the scale (amax_floor)"),
    Check("nan-scales", _odd_scales("nan_scales", "NaN"), "quantise it again from weights without NaN"),
    Check(
        "infinite-scales", _odd_scales("infinite_scales", "infinite"),
        "quantise it again; FP16 scales overflow at 65504",
    ),
    Check(
        "negative-scales", _odd_scales("negative_scales", "negative"),
        "look whether it is a zero point, or was stored in another type; kernels take magnitudes",
    ),
    Check(
        "uncalibrated-scales", _uncalibrated,
        "it was cast without calibration: quantise the original weights, to the largest of each group",
    ),
    Check(
        "fnuz-as-ocp", _fnuz_as_ocp,
        "store it as F8_E4M3FNUZ or F8_E5M2FNUZ: OCP has no codes for its largest values",
    ),
    Check(
        "ocp-as-fnuz", _ocp_as_fnuz,
        "store it as F8_E4M3 or F8_E5M2",
    ),
    Check("not-finite", _not_finite, "do not quantise it: one NaN or infinity spoils the scale of its group"),
    Check("dead-rows", _dead, "if it is no padding, prune it, or look for what was not loaded there"),
    Check(
        "coarser-grid", _coarser,
        "it was quantised before: store those codes, which lose nothing, or start from the original weights",
    ),
    Check("wider-than-needed", _wider, "store that: half the bytes, and the same values"),
    Check("saturated", _saturated, "its scales are too small: pick them from the largest of each group"),
)  # fmt: skip
