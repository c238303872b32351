"""One layer of attention, head by head and block by block of keys: products, softmax and P as stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fp8sim._support import checks, memory
from fp8sim._support.products import float_product
from fp8sim._support.typing import AnyArray, FloatArray
from fp8sim.accumulators import Accumulator, ValueSum
from fp8sim.experiments.kv_cache.storing import Side, Stored, StoredTensor
from fp8sim.quantization import FP32, Operand, Quantized, quantize_with

__all__ = ["Layer", "Rounded"]


@dataclass
class Rounded:
    """What storing P did to it, added up over heads and blocks."""

    squares: float = 0.0
    off: float = 0.0
    saturated: int = 0
    flushed: int = 0

    def add(self, p: FloatArray, values: FloatArray, quantized: Quantized) -> None:
        """Add a part of P."""
        exact = p.astype(np.float64)
        self.squares += float(np.sum(np.square(exact)))
        self.off += float(np.sum(np.square(values - exact)))
        self.saturated += quantized.saturated
        self.flushed += quantized.flushed

    def row(self, operand: Operand | None, elements: int) -> StoredTensor:
        """Return it as a share of all elements that are seen."""
        words = "as it is" if operand is None else str(operand)
        if operand is not None and operand.scaling.amax == 1:
            words = f"{operand.fmt} of {1 / quantize_with([1.0], operand).scales[0]:g} p"
        error = math.sqrt(self.off / self.squares) if self.squares else 0.0
        return StoredTensor("p", words, 0, error, self.saturated / elements, self.flushed / elements)


@dataclass(frozen=True)
class Layer:
    """Attention of one layer: its sizes, and how it is worked out."""

    heads: int
    queries: int
    keys: int
    causal: bool
    scale: float
    block: int | None
    accumulator: Accumulator | None  #: None: everything in float64
    p: Operand | None

    def __post_init__(self) -> None:
        if self.causal and self.queries > self.keys:
            raise ValueError(
                f"causal attention of {self.queries} queries needs as many keys, got {self.keys}; "
                "the queries are the last tokens of the keys"
            )

    @property
    def dtype(self) -> type[np.float32] | type[np.float64]:
        """What is between the products."""
        return np.float64 if self.accumulator is None else np.float32

    def require_memory(self, tensors: Sequence[FloatArray]) -> None:
        """Refuse what takes more memory than there can be."""
        # Of each score the logit, the weight and the error, ours and the true ones: 96 bytes at most at once.
        scores = self.heads * self.queries * self.keys
        sizes = f"{self.heads} heads, {self.queries} queries and {self.keys} keys"
        memory.require(96 * scores + 40 * sum(x.size for x in tensors), f"attention of {sizes}")

    def visible(self) -> AnyArray:
        """Return which keys each query sees."""
        last = np.arange(self.queries) + (self.keys - self.queries if self.causal else self.keys)
        return np.asarray(np.arange(self.keys) <= last[:, None])

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield the ends of blocks of keys, the last one first."""
        size = self.block or self.keys
        for start in range((self.keys - 1) // size * size, -1, -size):
            yield start, min(start + size, self.keys)

    def attend(self, q: Stored, k: Stored, v: Stored) -> tuple[FloatArray, FloatArray, Rounded]:
        """Return output and logits of all heads, and what storing P did."""
        dtype, masked, rounded = self.dtype, ~self.visible(), Rounded()
        output = np.empty((self.heads, self.queries, v.values.shape[2]), dtype)
        logits = np.empty((self.heads, self.queries, self.keys), dtype)
        group = self.heads // len(k.values)
        for head in range(self.heads):
            queries, shared = q.part(head, 0, self.queries), head // group
            top = np.full((self.queries, 1), -np.inf)
            total = np.zeros((self.queries, 1), dtype)
            mix = np.zeros((self.queries, output.shape[2]), dtype)
            for start, stop in self.blocks():
                scores = self._product(queries, k.part(shared, start, stop).T) * dtype(self.scale)
                checks.finite(scores, "q k^T", f"sums in {dtype.__name__} overflow, and have no softmax")
                scores[masked[:, start:stop]] = -np.inf
                logits[head, :, start:stop] = scores
                above, top = top, np.maximum(top, scores.max(axis=1, keepdims=True))
                shift = np.where(np.isfinite(top), top, 0.0)  # of a query that sees no key of a block
                p, faded = (np.exp(x - shift).astype(dtype) for x in (scores, above))
                added = p.sum(axis=1, dtype=np.float64, keepdims=True)
                total = (total.astype(np.float64) * faded + added).astype(dtype)
                mix = mix * faded + self._product(self._store_p(p, rounded), v.part(shared, start, stop))
                mix = mix.astype(dtype, copy=False)
            output[head] = mix / total
        return output, logits, rounded

    def _store_p(self, p: FloatArray, rounded: Rounded) -> Side:
        if self.p is None and self.accumulator is None:
            return Side(p, None)
        quantized = quantize_with(p, self.p or FP32, what="the exponentials")
        values = quantized.dequantize(self.dtype)
        rounded.add(p, values, quantized)
        return Side(values, quantized)

    def _product(self, a: Side, b: Side) -> FloatArray:
        if self.accumulator is None:
            return float_product(a.values, b.values)
        if isinstance(self.accumulator, ValueSum):
            return self.accumulator.sum_products(
                np.asarray(a.values, np.float32), np.asarray(b.values, np.float32)
            )
        assert a.codes is not None  # there are codes wherever all is not float64
        assert b.codes is not None
        return self.accumulator.multiply(a.codes, b.codes)
