"""What quantising does to each row of a matrix, measured without keeping codes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fp8sim._support.float_environment import default_environment
from fp8sim._support.threads import get_num_threads, run_in_threads, split
from fp8sim._support.typing import F64, ArrayLike
from fp8sim.quantization.operand import FP32, Operand
from fp8sim.quantization.quantized import Quantized, quantize_with
from fp8sim.quantization.tiling import LEAST
from fp8sim.quantization.work import Work
from fp8sim.reference.errors import square_sums

__all__ = ["RowErrors", "row_errors", "row_squares"]

_STRIP = 128  # rows done at a time where a scale is all of theirs


class RowErrors(NamedTuple):
    """What was lost of rows."""

    squares: F64  #: of each row, the sum of squared errors
    saturated: int  #: elements beyond the largest finite value after rounding
    flushed: int  #: elements other than zero that became zero


@default_environment
def row_errors(x: ArrayLike, operand: Operand, *, top: float = 0.0, what: str = "x") -> RowErrors:
    """Quantise a matrix along its columns, and return what each row is off by.

    Rows that are cut from a matrix where no group of `operand` goes on have the same errors to the last bit,
    if `top` is its largest magnitude.

    Examples
    --------
    >>> from fp8sim.quantization import Scaling
    >>> row_errors([[1.0, 0.3, -0.001]], Operand("e4m3", Scaling("row")))
    RowErrors(squares=array([0.00020408]), saturated=0, flushed=0)
    """
    work = Work.of(x, operand, -1, what, top)
    measured = None if operand.hadamard else _compiled(work)
    if measured is None:
        q = quantize_with(x, operand, top=top, what=what)
        measured = RowErrors(row_squares(np.asarray(x), q), q.saturated, q.flushed)
    return measured


def row_squares(x: Any, became: Quantized | None = None) -> F64:
    """Return the sum of squares of each row, or of what it is off by, as `square_sums` does.

    Examples
    --------
    >>> row_squares(np.float32([[3.0, 4.0]]))
    array([25.])
    """
    if became is None and x.dtype == np.float32 and Work.of(x, FP32, -1, "x").compiled:
        from fp8sim._kernels.error_kernels import square_rows

        out = np.empty(len(x), np.float64)
        x = np.ascontiguousarray(x)[:]
        x.flags.writeable = False
        parts = split(len(x), max(1, LEAST // x.shape[1]))
        run_in_threads(square_rows, [(x[i:j], out[i:j]) for i, j in parts])
        return out
    return square_sums(x, None if became is None else became.dequantize(invert=True))


def _compiled(work: Work) -> RowErrors | None:
    """Measure in the cache what compiled code serves; None else, or if a scale does not fit."""
    if not (work.compiled and work.x.dtype == np.float32) or work.nearest is None:
        return None
    from fp8sim._kernels.error_kernels import error_rows
    from fp8sim._kernels.quantize_kernels import given, scale_rule

    operand, scaling, (rows, columns) = work.operand, work.operand.scaling, work.x.shape
    picks = work.fits_one_pass and scaling.granularity != "tensor"
    tile = work.sizes if scaling.granularity not in ("tensor", "none") else (min(_STRIP, rows), columns)
    tiles = -(-rows // tile[0]), -(-columns // tile[1])
    if picks:
        r = scale_rule(operand.fmt, str(scaling.scale_rule), scaling.amax_floor, scaling.division)
        scales = np.empty(tiles, np.float32)
        by = np.empty_like(scales) if r.multiply else scales
    else:
        picked = work.pick()
        r = given(operand.fmt, picked.multipliers is not None)
        scales = np.array(np.broadcast_to(picked.values, tiles), np.float32)
        by = scales if picked.multipliers is None else np.array(np.broadcast_to(picked.multipliers, tiles))
    x, squares = np.ascontiguousarray(work.x)[:], np.empty(rows, np.float64)
    x.flags.writeable = False

    def run(i: int, j: int) -> Any:
        strips = slice(i // tile[0], -(-j // tile[0]))
        return error_rows(x[i:j], squares[i:j], (scales[strips], by[strips]), tile, r, work.nearest)

    height = max(LEAST, -(-x.size // (4 * get_num_threads()))) // columns // tile[0] * tile[0]
    tops, saturated, flushed = zip(*run_in_threads(run, split(rows, max(height, tile[0]))), strict=True)
    if picks and max(tops) == np.inf:
        return None
    return RowErrors(squares, int(sum(saturated)), int(sum(flushed)))
