"""One recipe on one product, and the best of those that save: a sentence made from their figures by a rule.

Of the recipes that take fewer bytes or less time than the baseline, those whose error is within a tenth of
the least are as good as each other; of these, the one with the fewest bytes is the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fp8sim._support.quantities import bytes_text, decibel_text, percent_text, time_text

__all__ = ["AS_GOOD", "ComparisonRow", "advise", "error_cells", "saving_cells", "token_cells"]

AS_GOOD = 1.1  # times the least error: what is as good
USELESS = 0.5  # an error from which half of the product and more is noise


@dataclass(frozen=True)
class ComparisonRow:
    """One recipe on one product."""

    recipe: str
    a: str  #: format and scaling of A
    b: str  #: format and scaling of B
    accumulator: str  #: how the products were summed
    nbytes: int  #: A, B and the output, scales included
    bytes_ratio: float  #: to the baseline's
    seconds: float  #: modelled roofline time on the device
    time_ratio: float  #: to the baseline's
    relative_error: float  #: Frobenius, against the float64 product of the unquantised inputs
    quantization_error: float  #: of it, from the operands alone: exact sums of the quantised inputs
    accumulation_error: float  #: of it, from the sums alone: against those exact sums
    accumulation_bound: (
        float | None
    )  #: what `accumulation_error` cannot exceed, None where not asked or known
    row_error_median: float  #: relative error of the median row, a token
    row_error_p99: float  #: which 99 rows in 100 do not exceed
    row_error_worst: float
    ordinary_channel_error: float  #: of A as quantised, over the columns that are no outliers
    outlier_channels: int  #: columns of A that are
    sqnr_db: float
    calc_diff: float  #: DeepGEMM's measure
    max_relative_error: float  #: largest error over largest value of the product
    saturated: float  #: share of the operands' elements
    flushed: float  #: share of the operands' elements
    note: str  #: what the device lacks, if anything


def advise(rows: Sequence[ComparisonRow], baseline: str) -> str:
    """Say which recipe is the best of those that take less, what a larger one gains, what fewer bits cost.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.experiments.data import llm_like_matrices
    >>> matrices = llm_like_matrices(64, 128, 512)
    >>> rows = fp8sim.compare(matrices.a, matrices.b, ["bf16", "fp16"]).rows
    >>> advise(rows, "bf16")
    'None of these takes fewer bytes or less time than bf16.'
    """
    base = next(row for row in rows if row.recipe == baseline)
    saving = [row for row in rows if row.nbytes < base.nbytes or row.seconds < base.seconds]
    if not saving:
        return f"None of these takes fewer bytes or less time than {baseline}."
    cheaper = [row for row in saving if row.relative_error < USELESS]  # NaN is not below
    if not cheaper:
        names = ", ".join(row.recipe for row in saving)
        return f"Nothing is left of the product under what takes less than {baseline}: {names}."
    closest = min(cheaper, key=lambda row: (row.relative_error, row.nbytes))
    limit = AS_GOOD * closest.relative_error
    best = min((row for row in cheaper if row.relative_error <= limit), key=_bytes_then_error)
    return "; ".join(_clauses(best, closest, cheaper, base)) + "."


def _bytes_then_error(row: ComparisonRow) -> tuple[int, float]:
    return row.nbytes, row.relative_error


def _clauses(
    best: ComparisonRow, closest: ComparisonRow, cheaper: list[ComparisonRow], base: ComparisonRow
) -> Iterator[str]:
    error, bases = percent_text(best.relative_error), percent_text(base.relative_error)
    size = f"{percent_text(best.bytes_ratio)} of the bytes"
    those = f"those that take less than {base.recipe}"  # which is in the list, and may be the more accurate
    yield f"{best.recipe} is the best of {those}: an error of {error} ({base.recipe}: {bases}) for {size}"
    if closest is not best and closest.relative_error < best.relative_error:
        gained = percent_text(1 - closest.relative_error / best.relative_error)
        more = bytes_text(closest.nbytes - best.nbytes)
        yield f"{closest.recipe} takes {gained} off it for {more} more"
    wider = [row for row in cheaper if row.relative_error > AS_GOOD * closest.relative_error]
    alike = [
        row
        for row in wider
        if row.nbytes <= best.nbytes
        and row.b == best.b  # so that the gain is that of A, whose channels these are
        and row.outlier_channels
        and row.ordinary_channel_error <= AS_GOOD * best.ordinary_channel_error
    ]
    if alike:
        nearest = min(alike, key=lambda row: row.relative_error)
        yield f"what {best.recipe} gains over {nearest.recipe} lies in outlier channels alone"
    least = min(cheaper, key=_bytes_then_error)
    if least.nbytes < 0.9 * best.nbytes:
        saved = percent_text(1 - least.nbytes / best.nbytes)
        cost = f"an error of {percent_text(least.relative_error)}"
        if best.relative_error:
            cost = f"{least.relative_error / best.relative_error:.1f} times the error"
        yield f"{least.recipe} saves another {saved} of the bytes at {cost}"


def saving_cells(row: ComparisonRow) -> list[str]:
    """Write what a recipe saves."""
    size, time = bytes_text(row.nbytes), time_text(row.seconds)
    ratio = "unknown" if math.isnan(row.time_ratio) else f"{row.time_ratio:.3f}"
    return [row.recipe, row.a, row.b, size, f"{row.bytes_ratio:.3f}", time, ratio]


def error_cells(row: ComparisonRow, *, bounded: bool) -> list[str]:
    """Write its error, what it is made of, and what was lost; the bound where one was asked for."""
    errors = (row.relative_error, row.quantization_error, row.accumulation_error)
    bound = "-" if row.accumulation_bound is None else percent_text(row.accumulation_bound)
    sqnr, lost = decibel_text(row.sqnr_db), (percent_text(row.saturated), percent_text(row.flushed))
    return [row.recipe, row.accumulator, *map(percent_text, errors), *[bound] * bounded, sqnr, *lost]


def token_cells(row: ComparisonRow) -> list[str]:
    """Write its error by row, and that of ordinary channels."""
    errors = (row.row_error_median, row.row_error_p99, row.row_error_worst, row.ordinary_channel_error)
    return [row.recipe, *map(percent_text, errors)]
