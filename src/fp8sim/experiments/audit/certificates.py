"""What a conversion of a stored tensor loses: nothing, or which element the most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fp8sim._support import checks
from fp8sim._support.quantities import full_text, percent_text
from fp8sim._support.results import Part, Result
from fp8sim._support.tables import Table
from fp8sim._support.text import printable
from fp8sim._support.typing import AnyArray
from fp8sim.casts import decode
from fp8sim.checkpoints import Checkpoint, Tensor
from fp8sim.formats import get_format
from fp8sim.quantization.recoding import RECODINGS, Recoding, recode, values_of

__all__ = ["Certificate", "Element", "certify"]

_CHUNK = 1 << 20  # elements at a time


class Element(NamedTuple):
    """One element before and after a conversion."""

    place: tuple[int, ...]
    before: float
    after: float
    error: float  #: relative to what it was before


@dataclass(frozen=True, repr=False)
class Certificate(Result):
    """What a conversion of a tensor loses.

    Attributes
    ----------
    tensor, source, to : str
        Its name, how it is stored, and the conversion.
    elements, changed : int
        How many there are, and how many stand for another value after it.
    flushed, saturated : int
        How many of these became zero, and how many stopped at the largest code.
    error : float
        Relative Frobenius error, 0 if nothing changed.
    span : int
        The widest that exponents of scales spread in a block that shares one after it.
    worst : Element or None
        The first of those with the largest relative error.
    """

    tensor: str
    source: str
    to: str
    elements: int
    changed: int
    flushed: int
    saturated: int
    error: float
    span: int
    worst: Element | None

    @property
    def lossless(self) -> bool:
        """Whether every element stands for the same value as before."""
        return not self.changed

    def parts(self) -> Sequence[Part]:
        """Return what is shown: a sentence, and counts where something is lost."""
        verdict = "lossless" if self.lossless else f"{self.changed} of {self.elements} elements change"
        title = printable(f"{self.tensor}: {self.source} to {self.to}: {verdict}")
        rows = [["elements", str(self.elements)], ["span of scales in a block", f"2^{self.span}"]]
        if self.worst is not None:
            where = ", ".join(map(str, self.worst.place))
            change = f"{full_text(self.worst.before)} to {full_text(self.worst.after)}"
            rows += [
                ["changed", f"{self.changed} ({percent_text(self.changed / self.elements)})"],
                ["of them to zero", str(self.flushed)],
                ["of them to the largest code", str(self.saturated)],
                ["relative error of all", percent_text(self.error)],
                [f"worst, at [{where}]", f"{change}: {percent_text(self.worst.error)}"],
            ]
        return [Table(title, ["of it", "there are>"], rows, [RECODINGS[self.to].what])]


def certify(checkpoint: Checkpoint, name: str, to: str) -> Certificate:
    """Return what a conversion of a stored tensor loses, read by rows in flat memory.

    Parameters
    ----------
    checkpoint : Checkpoint
        What `checkpoints.open_checkpoint` returned.
    name : str
        A weight of it.
    to : str
        ``fp8-128x128`` or ``nvfp4``, from E2M1 with scales that are powers of two (MXFP4), or ``e8m0``, of
        FP8 with any scales.

    Raises
    ------
    ValueError
        If there is no such tensor or conversion, or it is for something else.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from safetensors.numpy import save_file
    >>> from fp8sim.checkpoints import open_checkpoint
    >>> codes = np.full((1, 2, 16), 0x27, np.uint8)  # 6, 1, 6, 1 in each of two groups
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"w_blocks": codes, "w_scales": np.uint8([[127, 109]])}, Path(folder) / "m.safetensors")
    ...     model = open_checkpoint(folder)
    ...     found = certify(model, "w", "fp8-128x128")
    >>> found.lossless, found.changed, found.span, found.worst.place, found.worst.after
    (False, 32, 18, (0, 33), 0.0)
    """
    row = checks.lookup(to, RECODINGS, "conversion")
    tensor = checkpoint[name]
    _check(tensor, row)
    largest = _largest_scale(checkpoint, tensor) if to == "nvfp4" else 0.0
    changed = flushed = saturated = span = 0
    squares = total = 0.0
    worst: Element | None = None
    fmt = row.fmt or tensor.format
    for start, stop in _cuts(tensor):
        apart = checkpoint.take_apart(name, (start, stop))
        assert apart.codes is not None
        assert apart.scales is not None
        scales = apart.scales[apart.group]
        codes = decode(apart.codes, tensor.format)
        recoded = recode(codes, scales, apart.columns, to, fmt=tensor.format, largest=largest)
        before, after = codes * apart.spread().astype(np.float64), values_of(recoded, fmt)
        span = max(span, _span(scales, row, apart.columns))
        lost = (before != after) & ~np.isnan(before)
        total += float(np.square(before, where=np.isfinite(before), out=np.zeros_like(before)).sum())
        if not lost.any():
            continue
        changed += int(lost.sum())
        flushed += int((lost & (after == 0)).sum())
        saturated += int((lost & (np.abs(after) < np.abs(before)) & _at_the_end(recoded.codes, fmt)).sum())
        squares += float(np.square(after[lost] - before[lost]).sum())
        error = np.zeros_like(before)
        np.divide(np.abs(after - before), np.abs(before), out=error, where=lost)
        at = np.unravel_index(error.argmax(), error.shape)
        if worst is None or error[at] > worst.error:
            place = (*np.unravel_index(start + at[0], tensor.shape[:-1]), at[1])
            worst = Element(tuple(map(int, place)), float(before[at]), float(after[at]), float(error[at]))
    source = f"{tensor.format} {tensor.granularity} {tensor.scale_format}"
    relative = math.sqrt(squares / total) if squares else 0.0
    size = math.prod(tensor.shape)
    return Certificate(name, source, to, size, changed, flushed, saturated, relative, span, worst)


def _check(tensor: Tensor, row: Recoding) -> None:
    """Refuse a tensor that a conversion is not for."""
    if tensor.refused:
        raise ValueError(tensor.refused)
    if not tensor.granularity or tensor.format not in row.fmts:
        stored = f"{tensor.format} {tensor.granularity or 'without scales'}"
        raise ValueError(
            f"{row.name} converts codes of {' or '.join(row.fmts)} with scales; {printable(tensor.name)} is "
            f"{stored}; quantise its values instead"
        )


def _cuts(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """Yield ranges of lines, of one matrix each, that begin where blocks of 128 lines do."""
    rows, columns = (1, *tensor.shape)[-2:]
    step = max(1, _CHUNK // max(1, columns) // 128) * 128
    for first in range(0, math.prod(tensor.shape[:-1]), max(1, rows)):
        for start in range(0, rows, step):
            yield first + start, first + min(start + step, rows)


def _largest_scale(checkpoint: Checkpoint, tensor: Tensor) -> float:
    """Return the largest scale of a tensor."""
    tops = (checkpoint.take_apart(tensor.name, cut).scales for cut in _cuts(tensor))
    return max((float(top.max()) for top in tops if top is not None and top.size), default=0.0)


def _span(scales: AnyArray, row: Recoding, columns: int) -> int:
    """Return how far exponents of scales spread in blocks that share one afterwards."""
    rows, width = row.sizes[0] or 1, max(1, (row.sizes[1] or columns) // columns)
    _, exponents = np.frexp(scales.astype(np.float64))
    lines, groups = exponents.shape
    padded = np.pad(exponents, ((0, -lines % rows), (0, -groups % width)), mode="edge")
    blocks = padded.reshape(len(padded) // rows, rows, -1, width)
    return int((blocks.max(axis=(1, 3)) - blocks.min(axis=(1, 3))).max(initial=0))


def _at_the_end(codes: AnyArray, fmt: str) -> AnyArray:
    """Return which codes are the largest there are."""
    ends: AnyArray = np.abs(decode(codes, fmt)) == get_format(fmt).max
    return ends
