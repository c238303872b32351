"""Which tensors of a checkpoint are matrices of products, what of a model each is, and how they are cut."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fp8sim.checkpoints import Tensor
from fp8sim.checkpoints.conversion import fits
from fp8sim.formats import FORMATS

__all__ = ["HELD", "Cut", "cuts", "has_values", "kept_because", "layer_and_kind", "stack_of"]

HELD = 1 << 27  # bytes that a worker holds of a tensor, as it is stored
_CUT = 1 << 25  # bytes of a cut, where a matrix is larger than that
_EMBEDDING = re.compile(r"embed\w*|\w*embeddings?|\w*_emb|wte|wpe|shared")  # the last word of a name


def kept_because(tensor: Tensor, keep: Sequence[str] = (), embeddings: bool = False) -> str:
    """Return why a tensor is left as it is stored; "" of a matrix that a recipe would quantise.

    Examples
    --------
    >>> norm = Tensor("norm.weight", (64,), "bf16", "", "", "plain", 128, 0)
    >>> kept_because(norm), kept_because(Tensor("q.weight", (64, 64), "bf16", "", "", "plain", 8192, 0))
    ('1 axis: no matrix', '')
    """
    if tensor.refused:
        return "its values cannot be read"
    axes = len(tensor.shape)
    if axes not in (2, 3):
        return f"{axes} {'axis' if axes == 1 else 'axes'}: no matrix"
    if not _is_float(tensor):
        return f"{tensor.format}: no weights"
    if min(tensor.shape) == 0:
        return "empty"
    if min(tensor.shape[-2:]) == 1:
        return "one row or column: no matrix"
    if any(fits(tensor.name, pattern) for pattern in keep):
        return "kept as asked"
    if not embeddings and _EMBEDDING.fullmatch(_words(tensor.name.lower())[-1]):
        return "an embedding"
    return ""


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor has numbers that something can be seen in: matrices, norms, biases, embeddings.

    Examples
    --------
    >>> has_values(Tensor("norm.weight", (64,), "bf16", "", "", "plain", 128, 0))
    True
    """
    return bool(tensor.shape) and min(tensor.shape) > 0 and not tensor.refused and _is_float(tensor)


def _is_float(tensor: Tensor) -> bool:
    return tensor.layout != "plain" or tensor.format in FORMATS or tensor.format == "f64"


def layer_and_kind(name: str) -> tuple[int | None, str]:
    """Return the number of the layer in a name, and the name without numbers.

    Examples
    --------
    >>> layer_and_kind("model.layers.3.mlp.experts.17.down_proj.weight")
    (3, 'mlp.experts.*.down_proj')
    >>> layer_and_kind("lm_head.weight")
    (None, 'lm_head')
    """
    words = _words(name)
    at = next((i for i, word in enumerate(words) if word.isascii() and word.isdigit()), None)
    rest = words if at is None else words[at + 1 :]
    kind = ".".join("*" if word.isascii() and word.isdigit() else word for word in rest)
    return (None, kind) if at is None else (int(words[at][:9]), kind or ".".join(words[:at]))


def _words(name: str) -> list[str]:
    return name.removesuffix(".weight").split(".")


def stack_of(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return how many matrices a tensor is, and their rows and columns: (n, k), or a stack of experts.

    Examples
    --------
    >>> stack_of((4, 2, 3)), stack_of((2, 3))
    ((4, 2, 3), (1, 2, 3))
    """
    rows, columns = (1, 1, *shape)[-2:]
    return math.prod(shape[:-2]), rows, columns


class Cut(NamedTuple):
    """Rows of a tensor, those of all matrices of a stack counted through."""

    tensor: str
    start: int
    stop: int
    whole: bool  #: whether it is whole matrices

    @property
    def rows(self) -> str:
        """The rows, as a file names them."""
        return f"{self.start}:{self.stop}"


def cuts(tensor: Tensor, tall: int, *, held: int = HELD, cut: int = _CUT) -> Iterator[Cut]:
    """Yield the cuts of a tensor: whole matrices, as many as are held, or multiples of `tall` rows of one.

    Examples
    --------
    >>> tensor = Tensor("w", (2, 300, 8), "bf16", "", "", "plain", 9600, 0)
    >>> [one.rows for one in cuts(tensor, 128, held=5000, cut=2500)]
    ['0:300', '300:600']
    >>> [one.rows for one in cuts(tensor, 128, held=4000, cut=2500)]
    ['0:128', '128:256', '256:300', '300:428', '428:556', '556:600']
    """
    count, rows, _ = stack_of(tensor.shape)
    each = max(1, tensor.nbytes // (count * rows))  # bytes of a row
    if rows * each <= held:
        several = max(1, min(held, cut) // (rows * each))
        for first in range(0, count, several):
            yield Cut(tensor.name, first * rows, min(first + several, count) * rows, True)
        return
    height = max(cut // each // tall, 1) * tall
    for matrix in range(count):
        for start in range(0, rows, height):
            stop = min(start + height, rows)
            yield Cut(tensor.name, matrix * rows + start, matrix * rows + stop, False)
