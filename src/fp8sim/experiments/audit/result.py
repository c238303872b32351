"""What an audit gives: a row for each matrix and recipe, totals, what was kept, what was found."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fp8sim._support import checks
from fp8sim._support.files import check_target, written
from fp8sim._support.quantities import bytes_text, decibel_text, number_text, percent_text, ratio_text
from fp8sim._support.results import Result, data_frame
from fp8sim._support.tables import Table
from fp8sim._support.text import printable
from fp8sim.checkpoints import Checkpoint, Tensor
from fp8sim.experiments.audit.across import find_across
from fp8sim.experiments.audit.findings import Finding, find
from fp8sim.experiments.audit.keep_wide import Choice, Option, keep_wide
from fp8sim.experiments.audit.matrices import layer_and_kind, stack_of
from fp8sim.experiments.audit.sums import ZERO
from fp8sim.experiments.audit.tally import Loss, Tally
from fp8sim.recipes import Recipe

__all__ = ["Audit", "assembled"]

AS_STORED = "as stored"
_SHOWN = 15  # matrices in a table; --json, CSV and a page have all
_NAME = 30  # characters of a name in a table of 80 columns


@dataclass(frozen=True, eq=False, repr=False)
class Audit(Result):
    """What recipes save and cost of a checkpoint; prints as tables and shows as them in a notebook.

    Parameters
    ----------
    source, layout : str
        Where it lies, and how its quantised weights are spelt.
    recipes : tuple of str
        What was measured.
    rows : tuple of dict
        One for each matrix and recipe. ``error`` is the Frobenius error of the weights relative to the
        weights as they are stored, ``sqnr_db`` the same in decibels, ``worst_row`` the row with the largest
        relative error of its own, counted through all matrices of a stack; ``nbytes`` is codes and scales.
        None is what was not measured.
    totals : tuple of dict
        The whole checkpoint as it is stored, in BF16 and in FP16, and under each recipe, which leaves what is
        no matrix as it is stored.
    kept : tuple of dict
        What was kept as it is stored, and why.
    findings : tuple of Finding
        What is wrong with tensors, and what to do.

    Examples
    --------
    >>> import tempfile, numpy as np, fp8sim
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"q.weight": np.eye(64, dtype=np.float32)}, Path(folder) / "model.safetensors")
    ...     result = fp8sim.audit(folder, "fp8-tensor")
    >>> result.rows[0]["error"], result.totals[-1]["nbytes"]
    (0.0, 4100)
    """

    source: str
    layout: str
    recipes: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    totals: tuple[dict[str, Any], ...]
    kept: tuple[dict[str, Any], ...]
    findings: tuple[Finding, ...] = ()

    WIDTH = 80

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "source": self.source,
            "layout": self.layout,
            "recipes": list(self.recipes),
            "totals": list(self.totals),
            "findings": [asdict(one) for one in self.findings],
            "rows": list(self.rows),
            "kept": list(self.kept),
        }

    def to_frame(self) -> Any:
        """Return the rows as a pandas data frame.

        Raises
        ------
        ModuleNotFoundError
            If pandas is not installed; the message says what to type.
        """
        return data_frame([_flat(row) for row in self.rows], _columns(self.rows))

    def to_csv(self, path: str | Path) -> None:
        """Write the rows to a file, whole or not at all; None is an empty cell."""
        with written(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            table = csv.DictWriter(file, _columns(self.rows), lineterminator="\n")
            table.writeheader()
            table.writerows(map(_flat, self.rows))

    def to_parquet(self, path: str | Path) -> None:
        """Write the rows to a Parquet file, by pandas and what it needs for that.

        Raises
        ------
        ModuleNotFoundError
            If pandas or pyarrow is not installed; the message says what to type.
        """
        check_target(path, "audit.parquet")
        frame = self.to_frame()
        try:
            with written(path) as file:
                frame.to_parquet(file, index=False)
        except ImportError:
            raise ModuleNotFoundError("Parquet needs pyarrow: pip install pyarrow; or write CSV") from None

    def options(self) -> tuple[Option, ...]:
        """Return what each matrix may become, for `keep_wide` and `curve`: as stored, or under a recipe.

        Errors are squared, as shares of the squares of all these matrices, and add up. A matrix whose loss
        is not known has no options.
        """
        lost = [row for row in self.rows if row["error"] is not None]
        matrices = {row["tensor"]: row for row in lost}
        squares = {name: row["rms"] ** 2 * math.prod(row["shape"]) for name, row in matrices.items()}
        whole = math.fsum(squares.values()) or 1.0
        stored = [Option(name, AS_STORED, row["stored_nbytes"], 0.0) for name, row in matrices.items()]
        return *stored, *(
            Option(
                row["tensor"],
                row["recipe"],
                row["nbytes"],
                row["error"] ** 2 * squares[row["tensor"]] / whole if row["error"] else 0.0,
            )
            for row in lost
        )

    def choose(self, *, error: float | None = None, nbytes: float | None = None) -> Choice:
        """Choose what each matrix becomes: the fewest bytes for an error, or the least error for a size.

        Parameters
        ----------
        error : float
            Relative error of all measured matrices together, at most.
        nbytes : float
            Bytes of them, at most.

        Returns
        -------
        Choice
            Its ``error`` is the square of the relative error; ``keep`` names what stays as it is stored.

        Raises
        ------
        ValueError
            If no choice is within the budget, or nothing was measured.
        """
        budget = None if error is None else checks.number(error, "error") ** 2
        return keep_wide(self.options(), error=budget, nbytes=nbytes, wide=AS_STORED)

    def parts(self) -> list[Table]:
        """Return findings, totals and the matrices that lose most."""
        return [*self._finding_table(), self.total_table(), *self._matrix_table()]

    def _finding_table(self) -> list[Table]:
        rows = [[_short(one.tensor), one.kind, f"{one.text}; {one.advice}"] for one in self.findings[:_SHOWN]]
        more = len(self.findings) - len(rows)
        notes = [f"and {more} more"] * (more > 0)
        count = len(self.findings)
        title = f"{count} finding{'s' * (count != 1)}"
        return [Table(title, ["tensor", "kind", "what to do"], rows, notes)] if rows else []

    def total_table(self) -> Table:
        """Return what all of the checkpoint takes, and loses, under each recipe."""
        rows = [
            [
                one["as"],
                bytes_text(one["nbytes"]),
                number_text(round(one["bits_per_parameter"], 3)),
                ratio_text(one["of_bf16"]),
                "-" if one["error"] is None else percent_text(one["error"]),
                "-" if one["sqnr_db"] is None else decibel_text(one["sqnr_db"]),
            ]
            for one in self.totals
        ]
        headers = ["weights", "bytes>", "bits/parameter>", "of BF16>", "error>", "SQNR>"]
        return Table(f"{self.source}: {self._counts()}", headers, rows, self._notes())

    def _counts(self) -> str:
        count = len({row["tensor"] for row in self.rows})
        return f"{count} matri{'x' if count == 1 else 'ces'} of {count + len(self.kept)} tensors"

    def _notes(self) -> list[str]:
        reasons: dict[str, list[int]] = {}
        for one in self.kept:
            reasons.setdefault(one["why"], []).append(one["nbytes"])
        kept = [f"{why} ({len(sizes)}, {bytes_text(sum(sizes))})" for why, sizes in reasons.items()]
        notes = ["Kept as stored under every recipe: " + "; ".join(kept)] if kept else []
        if any(row["error"] is not None for row in self.rows):
            notes.append("Errors are of the matrices' weights, relative to them as they are stored.")
        odd = list(dict.fromkeys(row["tensor"] for row in self.rows if row["not_finite"]))
        if odd:
            notes.append(f"Not measured, as they hold NaN or infinity: {', '.join(map(_short, odd[:3]))}")
        return notes

    def _matrix_table(self) -> list[Table]:
        by_name: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            if row["error"] is not None:
                by_name.setdefault(row["tensor"], {})[row["recipe"]] = row
        if not by_name:
            return []
        worst = sorted(by_name, key=lambda name: (-max(row["error"] for row in by_name[name].values()), name))
        cells = [
            [_short(name), *(self._cell(by_name[name].get(r)) for r in self.recipes)]
            for name in worst[:_SHOWN]
        ]
        more = len(worst) - len(cells)
        notes = [f"and {more} more; --json, --csv and --html have all of them"] * (more > 0)
        title = "SQNR of the matrices that lose most"
        return [Table(title, ["matrix", *(f"{name}>" for name in self.recipes)], cells, notes)]

    @staticmethod
    def _cell(row: dict[str, Any] | None) -> str:
        return "-" if row is None else decibel_text(row["sqnr_db"])


def _short(name: str) -> str:
    """Return the end of a name, which says more than its beginning."""
    text = printable(name)
    return text if len(text) <= _NAME else f"…{text[1 - _NAME :]}"


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "shape": "x".join(map(str, row["shape"]))}


def _columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def assembled(
    checkpoint: Checkpoint,
    recipes: Sequence[Recipe],
    reasons: Mapping[str, str],
    tallies: Mapping[str, Tally],
) -> Audit:
    """Return an audit of what is known of each matrix; without it, of what headers say.

    `reasons` says of each tensor why it is kept, or nothing of a matrix.
    """
    tensors = {tensor.name: tensor for tensor in checkpoint}
    rows = [
        _row(tensor, recipe, tallies.get(name))
        for name, tensor in tensors.items()
        if not reasons[name]
        for recipe in recipes
    ]
    kept = [
        {
            "name": name,
            "shape": list(tensor.shape),
            "format": tensor.format,
            "nbytes": _stored(tensor),
            "why": reasons[name],
        }
        for name, tensor in tensors.items()
        if reasons[name]
    ]
    seen = {name: tally.evidence for name, tally in tallies.items()}
    findings = [one for name, tensor in tensors.items() for one in find(name, tensor, seen.get(name))]
    findings += find_across(checkpoint, seen)
    tallies = {name: tally for name, tally in tallies.items() if not reasons[name]}
    totals = _totals(list(tensors.values()), recipes, rows, tallies)
    names = tuple(recipe.name for recipe in recipes)
    return Audit(
        checkpoint.source, checkpoint.layout, names, tuple(rows), totals, tuple(kept), tuple(findings)
    )


def _stored(tensor: Tensor) -> int:
    return tensor.nbytes + tensor.scale_nbytes


def _row(tensor: Tensor, recipe: Recipe, tally: Tally | None) -> dict[str, Any]:
    """Return the row of a matrix under a recipe."""
    layer, kind = layer_and_kind(tensor.name)
    loss = None if tally is None or tally.odd else tally.losses.get(recipe.name)
    count = math.prod(tensor.shape)
    row: dict[str, Any] = {
        "tensor": tensor.name, "layer": layer, "kind": kind, "shape": list(tensor.shape),
        "format": tensor.format, "granularity": tensor.granularity, "layout": tensor.layout,
        "stored_nbytes": _stored(tensor),
        "recipe": recipe.name, "nbytes": _nbytes(tensor, recipe), "error": None, "sqnr_db": None,
        "worst_row": None, "worst_row_error": None, "saturated": None, "flushed": None, "product_error": None,
        "largest": None, "smallest": None, "rms": None, "spread_octaves": None,
        "not_finite": None if tally is None else tally.odd,
    }  # fmt: skip
    if tally is not None and not tally.odd:
        rms = math.sqrt(float(tally.energy) / count)
        nonzero = tally.largest > 0
        row |= {"largest": tally.largest, "smallest": tally.smallest if nonzero else None, "rms": rms}
        row["spread_octaves"] = math.log2(tally.largest / tally.smallest) if nonzero else None
    if tally is not None and loss is not None and not loss.failed:
        error = _relative(loss.squares, tally.energy)
        row |= {"error": error, "sqnr_db": _decibels(error), "worst_row": loss.worst_row}
        row |= {
            "worst_row_error": loss.worst,
            "saturated": loss.saturated / count,
            "flushed": loss.flushed / count,
        }
        if loss.product is not None and tally.product is not None:
            row["product_error"] = _relative(loss.product, tally.product)
    return row


def _nbytes(tensor: Tensor, recipe: Recipe) -> int:
    """Return the bytes of codes and scales of a matrix, or of all of a stack."""
    count, rows, columns = stack_of(tensor.shape)
    scales = recipe.b.scaling.nbytes((rows, columns)) if recipe.b.is_scaled else 0
    return count * (-(-rows * columns * recipe.b.fmt.bits // 8) + scales)


def _relative(squares: Any, energy: Any) -> float:
    """Return the error of sums of squares: 0 of what is exact, infinity of zeros that became something."""
    if squares == ZERO:
        return 0.0
    whole = float(energy)
    return math.sqrt(float(squares) / whole) if whole else math.inf


def _decibels(error: float) -> float:
    return math.inf if error == 0 else -math.inf if math.isinf(error) else -20 * math.log10(error)


def _totals(
    tensors: list[Tensor], recipes: Sequence[Recipe], rows: list[dict[str, Any]], tallies: Mapping[str, Tally]
) -> tuple[dict[str, Any], ...]:
    """Return what all of it takes as it is stored, in 16 bits, and under each recipe."""
    parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    stored = sum(map(_stored, tensors))
    wide = 2 * parameters
    measured = [name for name, tally in tallies.items() if not tally.odd]

    def total(name: str, nbytes: int, error: float | None = None) -> dict[str, Any]:
        return {
            "as": name, "nbytes": nbytes,
            "bits_per_parameter": 8 * nbytes / parameters if parameters else 0.0,
            "of_bf16": nbytes / wide if wide else 0.0, "error": error,
            "sqnr_db": None if error is None else _decibels(error),
        }  # fmt: skip

    lines = [total("as stored", stored), total("BF16", wide), total("FP16", wide)]
    for recipe in recipes:
        own = [row for row in rows if row["recipe"] == recipe.name]
        nbytes = stored + sum(row["nbytes"] - row["stored_nbytes"] for row in own)
        error = None
        losses = [
            (tallies[name].losses.get(recipe.name, Loss(failed=True)), tallies[name].energy)
            for name in measured
        ]
        fine = [(loss.squares, energy) for loss, energy in losses if not loss.failed]
        if fine:
            squares, energy = (sum(column, ZERO) for column in zip(*fine, strict=True))
            error = _relative(squares, energy)
        lines.append(total(recipe.name, nbytes, error))
    return tuple(lines)
