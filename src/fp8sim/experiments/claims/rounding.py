"""What scales buy: errors of rounding activations, by format and scaling, of all and of ordinary channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fp8sim import metrics
from fp8sim._support.quantities import percent_text
from fp8sim._support.tables import Table
from fp8sim.experiments.data import Matrices
from fp8sim.quantization import quantize

__all__ = ["FORMATS", "SCALINGS", "RoundingError", "rounding_errors", "rounding_table"]

FORMATS = ("e4m3", "int8", "e2m1")
SCALINGS = ("tensor", "row", "1x128")


@dataclass(frozen=True)
class RoundingError:
    """Relative errors of activations in one format under one scaling, root mean square over layers."""

    data: str  #: what was rounded
    format: str
    scaling: str
    all: float  #: Frobenius, over all channels
    ordinary: float  #: over the channels that are no outliers
    median: float  #: of a token
    high: float  #: of the token at the 99th percentile
    worst: float  #: token


def rounding_errors(layers: Sequence[Matrices], data: str) -> tuple[RoundingError, ...]:
    """Round the activations of layers in each format under each scaling.

    Examples
    --------
    >>> from fp8sim.experiments.data import llm_like_matrices
    >>> rows = rounding_errors([llm_like_matrices(64, 8, 1024)], "generated")
    >>> fine = next(row for row in rows if (row.format, row.scaling) == ("e4m3", "1x128"))
    >>> round(fine.all, 3), round(fine.ordinary, 3)  # outliers often land on the largest code
    (0.015, 0.026)
    """
    rows = []
    for fmt in FORMATS:
        for scaling in SCALINGS:
            errors = []
            for x in layers:
                rounded = quantize(x.a, fmt, scaling).dequantize()
                whole = metrics.relative_error(rounded, x.a)
                ordinary = metrics.ordinary_channel_error(rounded, x.a)
                errors.append((whole, ordinary, *metrics.row_error_spread(rounded, x.a)))
            rows.append(
                RoundingError(data, fmt, scaling, *np.sqrt(np.mean(np.square(errors), axis=0)).tolist())
            )
    return tuple(rows)


def rounding_table(rows: Sequence[RoundingError]) -> Table:
    """Return the errors of one kind of data as a table."""
    columns: dict[str, Callable[[RoundingError], str]] = {
        "format": lambda row: row.format,
        "one scale for": lambda row: row.scaling,
        "all channels>": lambda row: percent_text(row.all),
        "ordinary>": lambda row: percent_text(row.ordinary),
        "token>": lambda row: percent_text(row.median),
        "99 % of them>": lambda row: percent_text(row.high),
        "worst>": lambda row: percent_text(row.worst),
    }
    notes = (
        "ordinary: channels whose root mean square is at most 5 times the median one's",
        "token: the median token, that at the 99th percentile, the worst; FP32 scales",
    )
    return Table.of(f"What scales buy: errors of rounding {rows[0].data}", columns, rows, notes)
