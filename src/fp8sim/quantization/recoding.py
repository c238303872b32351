"""From codes and scales to others, without the weights they came from: which scales, and codes rounded once.

All scales that are picked are powers of two, by which codes divide exactly: what is lost, if anything is, is
lost where a code has no equal in the new format.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fp8sim._support import checks
from fp8sim._support.text import shown
from fp8sim._support.typing import F32, F64, AnyArray, FloatArray
from fp8sim.casts import decode, encode
from fp8sim.formats import get_format
from fp8sim.reference.rounding import floor_log2

__all__ = ["RECODINGS", "Recoded", "Recoding", "recode", "values_of"]

_E8M0 = -127, 127  # exponents (OCP Microscaling Formats 1.0, 5.4.1)
_E4M3 = -9, 8  # exponents of the powers of two that E4M3 has
_SHIFT = 6  # E2M1's 6 times 2^6 is 384, the most of its multiples by a power of two that E4M3 holds


class Recoding(NamedTuple):
    """One way from codes and scales to others."""

    name: str
    what: str  #: in words
    source: str  #: where the rule is from
    sizes: tuple[int, int]  #: rows and columns of a group; 0: those of the source
    fmt: str  #: of the new codes; "" as before
    fmts: tuple[str, ...]  #: what codes may be before
    powers: bool  #: whether scales must be powers of two
    exponents: Callable[[AnyArray, int], AnyArray]  #: of new scales, from those of old ones and their largest


class Recoded(NamedTuple):
    """Lines of a weight in new codes and scales."""

    codes: AnyArray  #: in the type of their format
    scales: F32  #: (lines, groups of a line): what codes are multiplied by, a power of two
    columns: int  #: elements of a line that share a scale
    above: float = 1.0  #: scale of the tensor, of which `scales` are multiples


def _under_the_tensor(exponents: AnyArray, top: int) -> AnyArray:
    """Return exponents of E4M3 scales times that of the tensor, which is the largest over 2^8."""
    tensor = top - _E4M3[1]
    return np.asarray(np.clip(exponents - tensor, *_E4M3) + tensor)


#: name -> how scales are picked.
RECODINGS: dict[str, Recoding] = {
    row.name: row
    for row in (
        Recoding(
            "fp8-128x128", "E4M3 with one E8M0 scale for 128x128: the largest of the block's scales / 2^6",
            "deepseek-ai/DeepSeek-V4, inference/convert.py, cast_e2m1fn_to_e4m3fn", (128, 128), "e4m3",
            ("e2m1",), True, lambda e, top: np.clip(e - _SHIFT, *_E8M0),
        ),
        Recoding(
            "e8m0", "the same groups with E8M0 scales: the next power of two up, so that nothing saturates",
            "deepseek-ai/DeepSeek-V3.1, scale_fmt ue8m0", (0, 0), "",
            ("e4m3", "e5m2", "e2m1", "e4m3fnuz", "e5m2fnuz"), False, lambda e, top: np.clip(e, *_E8M0),
        ),
        Recoding(
            "nvfp4", "E2M1 with an E4M3 scale for 16, under one of the tensor: the largest / 2^8",
            "the same codes: an E8M0 scale is an E4M3 one, from 2^-9 to 2^8, times that of the tensor",
            (1, 16), "e2m1", ("e2m1",), True, _under_the_tensor,
        ),
    )
}  # fmt: skip


def recode(
    codes: FloatArray, scales: AnyArray, columns: int, to: str, *, fmt: str = "e2m1", largest: float = 0.0
) -> Recoded:
    """Return lines of a weight in other codes and scales.

    Parameters
    ----------
    codes : (lines, columns) float32
        What the codes stand for, without scales.
    scales : (lines, groups)
        The scale of each group of a line.
    columns : int
        Elements of a line that share a scale.
    to : str
        A name of `RECODINGS`. Blocks of 128x128 begin with the first line.
    fmt : str
        Format of the codes, which ``e8m0`` leaves as it is.
    largest : float
        The largest scale of the whole tensor, which ``nvfp4`` picks that of the tensor by; that of these
        lines by default.

    Raises
    ------
    ValueError
        If scales are not what the conversion is for, or NaN, infinite or negative.

    Examples
    --------
    >>> codes, scales = np.float32([[6, 0.5, -1, 3]]), np.float32([[2.0**-3, 2.0**-9]])
    >>> new = recode(codes, scales, 2, "fp8-128x128")
    >>> new.codes, new.scales, new.columns
    (array([[384, 32, -1, 3]], dtype='float8_e4m3fn'), array([[0.00195312]], dtype=float32), 128)
    """
    row = checks.lookup(to, RECODINGS, "conversion")
    exponents = _exponents(np.asarray(scales, np.float64), row)
    old = np.repeat(scales.astype(np.float64), columns, axis=-1)
    values = codes.astype(np.float64) * old[:, : codes.shape[1]]
    top = math.frexp(largest)[1] - 1 if largest else int(exponents.max(initial=-127))
    size = row.sizes[1] or columns
    spread = np.repeat(exponents, columns, axis=-1)[:, : codes.shape[1]]
    new = row.exponents(_largest(spread, row.sizes[0] or 1, size), top)
    each = np.repeat(new, size, axis=-1)[:, : codes.shape[1]]
    out = encode(values / np.ldexp(1.0, each), row.fmt or fmt)
    above = float(np.ldexp(1.0, top - _E4M3[1])) if to == "nvfp4" else 1.0
    return Recoded(out, np.ldexp(1.0, new).astype(np.float32), size, above)


def _exponents(scales: F64, row: Recoding) -> AnyArray:
    """Return the exponents of scales, rounded up to the next power of two."""
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        odd = scales[~(np.isfinite(scales) & (scales >= 0))].flat[0]
        raise ValueError(f"a scale is {shown(float(odd))}: no power of two stands for it; quantise it again")
    scales = np.where(scales == 0, 2.0**-127, scales)  # of zeros alone, or they become zero: any will do
    exponents = floor_log2(scales)
    exact = np.ldexp(1.0, exponents) == scales
    if row.powers and not exact.all():
        raise ValueError(
            f"{row.name} is for scales that are powers of two, got {float(scales[~exact].flat[0]):g}; "
            "quantise the values instead"
        )
    return np.asarray(exponents + ~exact)


def _largest(each: AnyArray, rows: int, columns: int) -> AnyArray:
    """Return the largest of each block, repeated for each line of it."""
    lines, width = each.shape
    padded = np.pad(each, ((0, -lines % rows), (0, -width % columns)), mode="edge") if each.size else each
    blocks = padded.reshape(-1, rows, padded.shape[1] // columns, columns).max(axis=(1, 3))
    return np.repeat(blocks, rows, axis=0)[:lines]


def values_of(recoded: Recoded, fmt: str) -> F64:
    """Return what new codes and scales stand for, exactly.

    Examples
    --------
    >>> values_of(recode(np.float32([[6, -1]]), np.float32([[0.25]]), 2, "nvfp4"), "e2m1")
    array([[ 1.5 , -0.25]])
    """
    each = np.repeat(recoded.scales.astype(np.float64), recoded.columns, axis=-1)
    values: F64 = decode(recoded.codes, get_format(fmt)) * each[:, : recoded.codes.shape[1]]
    return values
