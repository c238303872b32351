"""Attention over a quantised cache beside that of float64: what fewer bits for K and V cost.

    Q, K, V --stored--> S = Q K^T scale --softmax, block by block--> P --stored--> O = P V / sum(P)

Q, K, V and P are stored in formats of their own, the products are summed by an accumulator, and everything
between them is in FP32, as in FlashAttention-3 (arXiv 2407.08608, 3.3); or all of it is in float64.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.quantities import bytes_text, decibel_text, percent_text
from fp8sim._support.results import Result, plain_data
from fp8sim._support.tables import Table
from fp8sim._support.text import shown
from fp8sim._support.typing import F64, AnyArray, ArrayLike, FloatArray
from fp8sim.accumulators import Accumulator, get_accumulator
from fp8sim.experiments.kv_cache.layer import Layer
from fp8sim.experiments.kv_cache.storing import StoredLike, StoredTensor, Storing, check_stores, p_operand
from fp8sim.metrics import Truth

__all__ = ["Attention", "AttentionError", "attention"]


@dataclass(frozen=True)
class AttentionError:
    """How far one thing is from what float64 makes of the unquantised tensors."""

    what: str  #: logits, weights or output
    relative_error: float  #: relative Frobenius
    sqnr_db: float  #: the same in decibels
    max_abs_error: float  #: of one element: a logit that is d too large makes its weight e^d times as large
    median_row: float  #: relative error of the median query of a head
    worst_row: float  #: and of the worst


@dataclass(frozen=True, repr=False, eq=False)
class Attention(Result):
    """Attention over a quantised cache beside that of float64; prints as tables.

    Parameters
    ----------
    heads, kv_heads, queries, keys : int
        Query heads, heads of K and V, tokens that ask and tokens that are asked.
    causal : bool
        Whether a token sees none after it.
    accumulator : str
        What sums both products.
    stored : tuple of StoredTensor
        Q, K, V and P; ``result["k"]`` finds one.
    errors : tuple of AttentionError
        Of the logits, the weights and the output; ``result["logits"]`` finds one.
    output : (heads, queries, channels of v) array
        In FP32, or float64 with that accumulator.
    logits : (heads, queries, keys) array
        Q K^T times the softmax scale, minus infinity where a token is not seen.
    exact_output, exact_logits : array of float64
        Of the unquantised tensors.

    Examples
    --------
    >>> from fp8sim.experiments.data import attention_tensors
    >>> x = attention_tensors(4, 2, 16, 64, 32)
    >>> result = attention(x.q, x.k, x.v, kv="nvfp4")
    >>> result["k"].nbytes, result["k"].stored
    (2308, 'e2m1 1x16 e4m3')
    """

    heads: int
    kv_heads: int
    queries: int
    keys: int
    causal: bool
    accumulator: str
    stored: tuple[StoredTensor, ...]
    errors: tuple[AttentionError, ...]
    output: FloatArray = field(repr=False)
    logits: FloatArray = field(repr=False)
    exact_output: F64 = field(repr=False)
    exact_logits: F64 = field(repr=False)

    def __getitem__(self, name: str) -> Any:
        """Return a row by its name: q, k, v, p, logits, weights or output."""
        rows: dict[str, Any] = {row.tensor: row for row in self.stored}
        return checks.lookup(name, rows | {row.what: row for row in self.errors}, "row of this attention")

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the arrays as plain data, ready for JSON."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.repr}
        for name in ("stored", "errors"):
            plain[name] = [dataclasses.asdict(row) for row in plain[name]]
        data: dict[str, Any] = plain_data(plain)
        return data

    def parts(self) -> list[Table]:
        """Return what is stored how, and what that costs."""
        sizes = f"{self.heads} heads on {self.kv_heads}, {self.queries} queries, {self.keys} keys"
        stored = Table.of(
            f"Attention, {sizes}{', causal' * self.causal}; sums: {self.accumulator}",
            {
                "": lambda row: row.tensor.upper(),
                "stored as": lambda row: row.stored,
                "bytes>": lambda row: bytes_text(row.nbytes) if row.nbytes else "-",
                "error>": lambda row: percent_text(row.error),
                "saturated>": lambda row: percent_text(row.saturated),
                "flushed>": lambda row: percent_text(row.flushed),
            },
            self.stored,
        )
        errors = Table.of(
            "Error against float64 on the unquantised tensors: relative Frobenius",
            {
                "": lambda row: row.what,
                "error>": lambda row: percent_text(row.relative_error),
                "SQNR>": lambda row: decibel_text(row.sqnr_db),
                "median row>": lambda row: percent_text(row.median_row),
                "worst>": lambda row: percent_text(row.worst_row),
                "largest>": lambda row: f"{row.max_abs_error:.3g}",
            },
            self.errors,
            (
                "row: a query of a head; largest: absolute, of one element",
                "weights: the softmax of the logits, before P is stored",
            ),
        )
        return [stored, errors]


@default_environment
def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    kv: StoredLike | tuple[StoredLike, StoredLike] = "fp8",
    scales: Literal["unity", "calibrated", "dynamic"] | None = None,
    granularity: Literal["tensor", "head", "token"] | None = None,
    calibration: Sequence[ArrayLike] | None = None,
    q_format: StoredLike = None,
    p_format: StoredLike = None,
    accumulator: str | Accumulator = "fp32",
    causal: bool = False,
    softmax_scale: float | None = None,
    block: int | None = None,
) -> Attention:
    """Attend over a cache whose K and V are quantised, and measure what that costs.

    Parameters
    ----------
    q : (heads, queries, channels) array_like
        Queries of one layer.
    k, v : (kv_heads, keys, channels) array_like
        Keys and values; each head of them serves ``heads / kv_heads`` query heads, one after the other.
    kv : str, dtype, FloatFormat, Operand or pair of them, optional
        How K and V are stored: a name in `CACHE_FORMATS` or of any format, an `Operand` with scaling of its
        own, or one for K and one for V. None leaves them as they are.
    scales : {"unity", "calibrated", "dynamic"}, optional
        Whence the scales of K, V and Q are: all 1; of the calibration tensors, by their largest magnitudes;
        or of the tensor itself. By default ``calibrated`` where `calibration` is given, ``unity`` for FP8, as
        vLLM has it for a checkpoint without scales (docs.vllm.ai, quantized KV cache), and ``dynamic`` for
        other formats.
    granularity : {"tensor", "head", "token"}, optional
        Who shares a scale; ``token`` is a token of a head, and cannot be calibrated.
    calibration : sequence of array_like, optional
        K and V, or Q, K and V, of other tokens.
    q_format : str, dtype, FloatFormat or Operand, optional
        How Q is stored, its scales as those of K. None leaves it as it is.
    p_format : str, dtype, FloatFormat or Operand, optional
        What the exponentials are rounded to before they meet V. FP8 holds them times a power of two, 256 for
        E4M3, as FlashAttention-3 does (hopper/softmax.h, Max_offset). None leaves them.
    accumulator : str or Accumulator
        What sums both products, as `get_accumulator` finds it; ``float64`` does everything in float64.
    causal : bool
        Whether a token sees none after it; the queries are the last tokens of the keys.
    softmax_scale : float, optional
        What Q K^T is multiplied by; one over the root of the channels.
    block : int, optional
        Keys of a block of the online softmax, from the last block to the first as FlashAttention-3 goes.
        None: all keys at once, each exponential under the largest logit of its row.

    Returns
    -------
    Attention
        Output and logits, their errors, and what saturated and was flushed.

    Raises
    ------
    TypeError
        If a tensor is no array of real numbers, or an argument is not of its kind.
    ValueError
        If shapes do not fit, a name is unknown, scales do not go with a format or an accumulator, a tensor
        holds NaN or infinity, or it takes more memory than there is.

    Notes
    -----
    An exponential is that of float64 rounded once to FP32, and so is the sum of a row; a GPU's are a few ulp
    off, in an order of its own. The output is divided by the sum of the exponentials before they are
    rounded to `p_format`.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.experiments.data import attention_tensors
    >>> x = attention_tensors(8, 2, 32, 256, 128, outlier=300)
    >>> unity = fp8sim.attention(x.q, x.k, x.v, kv="fp8")
    >>> dynamic = fp8sim.attention(x.q, x.k, x.v, kv="fp8", scales="dynamic")
    >>> for result in (unity, dynamic):
    ...     print(f"{result['k'].saturated:.4f} {result['output'].relative_error:.3f}")
    0.0009 0.729
    0.0000 0.091
    """
    tensors = _tensors((q, k, v), "qkv")
    _check_shapes(*tensors)
    exact_sums = isinstance(accumulator, str) and accumulator.lower() == "float64"
    sums = None if exact_sums else get_accumulator(accumulator)
    k_like, v_like = kv if isinstance(kv, tuple) and len(kv) == 2 else (kv, kv)
    given = _calibration(calibration, tensors)
    stores = tuple(
        Storing.of(like, scales, granularity, tensor, what)
        for what, like, tensor in zip("qkv", (q_format, k_like, v_like), given, strict=True)
    )
    p_store = p_operand(p_format)
    check_stores(stores, p_store, sums, calibrated=calibration is not None)
    layer = Layer(
        heads=len(tensors[0]),
        queries=tensors[0].shape[1],
        keys=tensors[1].shape[1],
        causal=checks.of_kind(causal, bool, "causal"),
        scale=_softmax_scale(softmax_scale, tensors[0].shape[2]),
        block=None if block is None else checks.positive_int(block, "block"),
        accumulator=sums,
        p=p_store,
    )
    layer.require_memory(tensors)
    kept = [store.store(tensor, exact=sums is None) for store, tensor in zip(stores, tensors, strict=True)]
    with np.errstate(all="ignore"):
        output, logits, p = layer.attend(*kept)
        plain = dataclasses.replace(layer, block=None, accumulator=None, p=None)
        truth = [Storing("exact", None).store(tensor, exact=True) for tensor in tensors]
        exact_output, exact_logits, _ = plain.attend(*truth)
        visible = layer.visible()
        errors = _errors((logits, exact_logits), (output, exact_output), visible)
        rows = [stored.row(tensor) for stored, tensor in zip(kept, tensors, strict=True)]
    return Attention(
        layer.heads,
        len(tensors[1]),
        layer.queries,
        layer.keys,
        layer.causal,
        "float64" if sums is None else sums.name,
        (*rows, p.row(layer.p, layer.heads * int(visible.sum()))),
        errors,
        output,
        logits,
        np.asarray(exact_output, np.float64),
        np.asarray(exact_logits, np.float64),
    )


def _tensors(given: Sequence[ArrayLike], names: str) -> tuple[FloatArray, ...]:
    """Take tensors of a layer as they are, and refuse what is none."""
    arrays = tuple(np.ascontiguousarray(checks.as_float(x, n)) for x, n in zip(given, names, strict=True))
    for x, name in zip(arrays, names, strict=True):
        if x.ndim != 3:
            hint = f"; of one head pass {name}[None]" if x.ndim == 2 else ""
            raise ValueError(f"{name} must have 3 axes (heads, tokens, channels), got shape {x.shape}{hint}")
        if not x.size:
            raise ValueError(f"{name} of shape {x.shape} holds nothing; an error cannot be measured then")
        checks.finite(x, name, "an error cannot be measured then")
    return arrays


def _check_shapes(q: AnyArray, k: AnyArray, v: AnyArray) -> None:
    if k.shape[:2] != v.shape[:2]:
        raise ValueError(
            f"k and v must have the same heads and tokens, got shapes {k.shape} and {v.shape}; "
            "pass both as (kv_heads, keys, channels)"
        )
    if q.shape[2] != k.shape[2]:
        raise ValueError(
            f"q has {q.shape[2]} channels and k has {k.shape[2]}; pass both as (heads, tokens, channels)"
        )
    if len(q) % len(k):
        raise ValueError(
            f"{len(q)} query heads cannot share {len(k)} heads of k and v; pass a multiple of {len(k)}"
        )


def _softmax_scale(given: float | None, channels: int) -> float:
    if given is None:
        return 1 / math.sqrt(channels)
    return float(checks.within(checks.number(given, "softmax_scale"), "softmax_scale", -(2.0**64), 2.0**64))


def _calibration(
    given: Sequence[ArrayLike] | None, tensors: tuple[FloatArray, ...]
) -> tuple[FloatArray | None, ...]:
    """Return tensors to calibrate Q, K and V by; None where there is none."""
    if given is None:
        return None, None, None
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise TypeError(f"calibration must be a pair (k, v) or (q, k, v), got {shown(given)}")
    names = "qkv"[-len(given) :]
    found = _tensors(given, names)
    for x, like, name in zip(found, tensors[-len(given) :], names, strict=True):
        if (x.shape[0], x.shape[2]) != (like.shape[0], like.shape[2]):
            raise ValueError(
                f"{name} of the calibration has shape {x.shape}, and {name} has {like.shape}; "
                "give other tokens of the same heads and channels"
            )
    return (None,) * (3 - len(found)) + found


def _errors(
    logits: tuple[FloatArray, FloatArray], output: tuple[FloatArray, FloatArray], visible: AnyArray
) -> tuple[AttentionError, ...]:
    """Measure logits, weights and output against those of float64."""
    weights = [np.exp(x - x.max(axis=2, keepdims=True)) for x in (y.astype(np.float64) for y in logits)]
    pairs = {
        # what is not seen is minus infinity in both, and no error
        "logits": [np.where(visible, x, 0.0) for x in logits],
        "weights": [x / x.sum(axis=2, keepdims=True) for x in weights],
        "output": output,
    }
    rows = []
    for what, (mine, exact) in pairs.items():
        truth = np.asarray(exact, np.float64).reshape(-1, exact.shape[-1])
        found = Truth(truth).errors(np.asarray(mine).reshape(truth.shape))
        median, _, worst = found.row_spread
        rows.append(AttentionError(what, found.relative, found.sqnr_db, found.largest, median, worst))
    return tuple(rows)
