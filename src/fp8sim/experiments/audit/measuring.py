"""What is measured of rows of a matrix: they are read once, and meet all recipes while they are in a cache.

The rows of a cut are held as they are stored, and worked out in pieces: what a worker needs does not grow
with the tensor. A scale of a whole matrix needs its largest magnitude first, which is found in a pass of its
own: over memory where the whole matrix is held, else over the file.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.products import float_product
from fp8sim._support.threads import one_thread, run_in_threads, split
from fp8sim._support.typing import F32, FloatArray
from fp8sim.casts import worth_compiling
from fp8sim.checkpoints import Checkpoint, Tensor, open_checkpoint, read_array
from fp8sim.experiments.audit.matrices import stack_of
from fp8sim.experiments.audit.stored_evidence import evidence
from fp8sim.experiments.audit.sums import ZERO, total_of
from fp8sim.experiments.audit.tally import Loss, Tally, loss_of, merged
from fp8sim.experiments.data import GENERATORS
from fp8sim.gemm import multiply_quantized
from fp8sim.quantization import quantize_with
from fp8sim.quantization.errors import row_errors, row_squares
from fp8sim.quantization.scaling import parse_granularity
from fp8sim.recipes import Recipe
from fp8sim.reference.errors import square_sums

__all__ = ["Question", "measure", "needs_largest", "tallest"]

PIECE = 1 << 21  # elements worked out at a time by a thread
STRIP = 128  # outputs of a product at a time: the same ones however a matrix is cut


@dataclass(frozen=True)
class Question:
    """What is asked of every matrix: all that a worker needs to know."""

    source: str
    fingerprint: str  #: of the headers, which must be the same for every worker
    recipes: tuple[Recipe, ...]
    activations: str = ""  #: a folder of .npy files by layer, or how they are generated; "": no products
    tokens: int = 32  #: rows of generated activations
    seed: int = 0

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, opened once by every worker."""
        return _opened(self.source, self.fingerprint)

    @functools.cached_property
    def operands(self) -> dict[str, Any]:
        """How the weights are stored, by recipe."""
        return {recipe.name: recipe.b for recipe in self.recipes}

    def inputs(self, name: str, k: int) -> FloatArray | None:
        """Return activations of a layer, (m, k); None if there are none."""
        if not self.activations:
            return None
        if self.activations in GENERATORS:
            rng = np.random.default_rng([self.seed, crc32(name.encode())])
            return GENERATORS[self.activations](self.tokens, k, rng)
        folder, layer = Path(self.activations), name.removesuffix(".weight")
        file = next(
            (path for path in (folder / f"{layer}.npy", folder / f"{name}.npy") if path.is_file()), None
        )
        if file is None:
            return None
        a = checks.as_matrix(read_array(file), str(file))
        if a.shape[1] != k:
            raise ValueError(f"{file} has {a.shape[1]} columns, and {name} takes {k}")
        return a


@functools.lru_cache(maxsize=2)
def _opened(source: str, fingerprint: str) -> Checkpoint:
    checkpoint = open_checkpoint(source)
    if checkpoint.fingerprint != fingerprint:
        raise ValueError(f"{checkpoint.source} is another checkpoint for this worker: its headers differ")
    return checkpoint


def needs_largest(recipes: tuple[Recipe, ...]) -> bool:
    """Whether a scale hangs on the largest magnitude of a whole matrix."""
    scalings = [recipe.b.scaling for recipe in recipes]
    return any(s.scale_format == "e4m3" or s.granularity == "tensor" for s in scalings)


def tallest(recipes: tuple[Recipe, ...], tensor: Tensor) -> int:
    """Return of how many rows cuts must be multiples, so that no group of scales is cut.

    Examples
    --------
    >>> import fp8sim
    >>> tensor = Tensor("w", (512, 8), "e4m3", "48x8", "fp32", "plain", 4096, 128)
    >>> tallest((fp8sim.get_recipe("deepseek-v3"),), tensor)
    384
    """
    granularities = [recipe.b.scaling.granularity for recipe in recipes]
    stored = tensor.granularity if "x" in tensor.granularity else "tensor"
    return math.lcm(STRIP, *(max(1, parse_granularity(text).rows) for text in (*granularities, stored)))


@default_environment
def measure(tensor: str, rows: str, find: str, top: float = 0.0, *, question: Question) -> dict[str, Any]:
    """Return what was found in rows of a tensor: its largest magnitude, or all there is to know.

    `find` is ``largest``, ``errors``, or ``evidence`` of what is no matrix; `top` is the largest magnitude of
    a matrix of which this is a part, if that is needed.
    """
    checkpoint = question.checkpoint
    described, (start, stop) = checkpoint[tensor], map(int, rows.split(":"))
    if len(described.shape) < 2:
        values = checkpoint.read(tensor).reshape(1, -1)
        return _with_evidence(_extent(values), checkpoint, (tensor, 0, 1), values).to_row()
    read = checkpoint.hold(tensor, start, stop)
    if find == "largest":
        return {"largest": _largest(read, _pieces(described, start, stop, STRIP))}
    tall = tallest(question.recipes, described)
    inputs = question.inputs(tensor, described.shape[-1]) if find == "errors" else None
    tallies: list[Tally] = []
    for first, last in _matrices(described, start, stop):
        pieces, most = _pieces(described, first, last, tall), top
        if find == "errors" and not most and len(pieces) > 1 and needs_largest(question.recipes):
            most = _largest(read, pieces)

        def one(i: int, j: int, most: float = most) -> Tally:
            x = read(i, j)
            tally = _extent(x)
            if find == "errors" and not tally.odd and most < math.inf:
                tally = _measured(x, tally, i, most, question)
                tally = tally if inputs is None else _with_product(inputs, x, tally, most, question)
            return _with_evidence(tally, checkpoint, (tensor, i, j), x)

        tallies += run_in_threads(one, pieces)
    return merged(tallies).to_row()


def _with_evidence(tally: Tally, checkpoint: Checkpoint, of: tuple[str, int, int], x: FloatArray) -> Tally:
    name, start, stop = of
    return replace(tally, evidence=evidence(checkpoint.take_apart(name, (start, stop)), x))


def _matrices(tensor: Tensor, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the rows of each matrix that a cut holds, or holds part of."""
    _, rows, _ = stack_of(tensor.shape)
    while start < stop:
        end = min(stop, (start // rows + 1) * rows)
        yield start, end
        start = end


def _pieces(tensor: Tensor, start: int, stop: int, tall: int) -> list[tuple[int, int]]:
    height = max(PIECE // tensor.shape[-1] // tall, 1) * tall
    return [(start + i, start + j) for i, j in split(stop - start, height)]


def _largest(read: Any, pieces: list[tuple[int, int]]) -> float:
    """Return the largest magnitude; infinity if one is NaN."""
    return max(run_in_threads(lambda i, j: _extremes(read(i, j))[2], pieces))


def _extremes(x: FloatArray) -> tuple[float, float, float]:
    """Return the largest finite magnitude, the smallest other than zero, and the largest of all.

    Examples
    --------
    >>> _extremes(np.float32([0, -2, 0.5])), _extremes(np.float32([1, np.nan]))
    ((2.0, 0.5, 2.0), (1.0, 1.0, inf))
    """
    if x.dtype == np.float32 and worth_compiling(x.size):
        from fp8sim._kernels.error_kernels import extremes

        flat = np.ascontiguousarray(x).reshape(-1).view(np.uint32)
        flat.flags.writeable = False
        largest, smallest = np.array(extremes(flat), np.uint32).view(np.float32)
        if largest < np.inf:
            return float(largest), float(smallest), float(largest)
    magnitudes = np.abs(x)
    there = magnitudes[np.isfinite(magnitudes)]
    largest = there.max(initial=0)
    smallest = there.min(initial=np.inf, where=there > 0)
    return float(largest), float(smallest), float(largest) if there.size == x.size else math.inf


def _extent(x: FloatArray) -> Tally:
    """Return what there is to know of rows before anything is done to them."""
    largest, smallest, all_of_it = _extremes(x)
    odd = 0 if all_of_it < math.inf else x.size - int(np.count_nonzero(np.isfinite(x)))
    return Tally(x.size, largest, smallest, odd, ZERO)


def _measured(x: FloatArray, tally: Tally, first: int, top: float, question: Question) -> Tally:
    """Add what recipes cost rows, of which the first is row `first`, and all are finite."""
    energy = row_squares(x)
    losses: dict[str, Loss] = {}
    for name, operand in question.operands.items():
        try:
            found = row_errors(x, operand, top=top or tally.largest)
        except ValueError:  # a scale beyond its format; the values are finite
            losses[name] = Loss(failed=True)
        else:
            losses[name] = loss_of(found.squares, energy, first, found.saturated, found.flushed)
    return replace(tally, energy=total_of(energy), losses=losses)


def _with_product(a: FloatArray, x: FloatArray, tally: Tally, top: float, question: Question) -> Tally:
    """Add the squares of a product, and of what it is off by under each recipe."""
    losses, squares = dict(tally.losses), ZERO
    with one_thread():  # a BLAS may sum in another order with more
        wide = np.ascontiguousarray(a.T, np.float64)
        quantised = {
            recipe.name: quantize_with(a, recipe.a, axis=1, what="activations") for recipe in question.recipes
        }
        sums = dict.fromkeys(losses, ZERO)
        for i, j in split(len(x), STRIP):
            exact = float_product(x[i:j].astype(np.float64), wide)
            squares += total_of(square_sums(exact))
            for recipe in question.recipes:
                if losses[recipe.name].failed:
                    continue
                b = quantize_with(x[i:j], recipe.b, top=top or tally.largest)
                product: F32 = np.ascontiguousarray(multiply_quantized(quantised[recipe.name], b.T, recipe).T)
                sums[recipe.name] += total_of(square_sums(product.astype(np.float64), exact))
    losses = {name: replace(loss, product=sums[name]) for name, loss in losses.items()}
    return replace(tally, losses=losses, product=squares)
