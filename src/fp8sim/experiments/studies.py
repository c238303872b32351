"""Studies: sweeps that answer a question, each a row of data; `fp8sim sweep` runs one by its name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp8sim import metrics
from fp8sim._support import checks
from fp8sim._support.products import float_product
from fp8sim._support.registry import Registry
from fp8sim._support.results import members
from fp8sim._support.tables import Table
from fp8sim.casts import round_to
from fp8sim.experiments.comparison import compare
from fp8sim.experiments.data import (
    WEIGHT_SIZE,
    Matrices,
    generated_matrices,
    outlier_channel_activations,
    real_matrices,
)
from fp8sim.experiments.sweeps import Sweep
from fp8sim.gemm import matmul, quantize_both
from fp8sim.quantization import quantize
from fp8sim.recipes import RecipeLike, get_recipe
from fp8sim.tensor_cores import tensor_core_matmul

__all__ = ["STUDIES", "Study", "accuracy", "outliers", "promotion", "scales"]

M, N = 64, 96  # tokens and outputs of the recorded layers, and so of what is generated beside them


@dataclass(frozen=True)
class Study:
    """A function, the grid it is swept over unless told otherwise, and how that is shown."""

    name: str
    question: str
    measure: Callable[..., Any]
    grid: Mapping[str, tuple[Any, ...]]
    x: str  #: argument that a picture has from left to right, and a table from the top down
    by: str  #: argument that has a line or a column for each value
    y: str  #: result that is shown
    each: str  #: argument that has a picture or a table for each value
    notes: tuple[str, ...] = ()  #: what the result is

    def __post_init__(self) -> None:
        """Check the fields."""
        checks.fields(self)

    @property
    def points(self) -> int:
        """How many points the grid has."""
        return math.prod(map(len, self.grid.values()))

    def tables(self, result: Sweep) -> list[Table]:
        """Return what a sweep of it shows: a table for each value of `each`, notes below the last."""
        tables: list[Table] = []
        for value in result.where(error=None).values(self.each):
            (table,) = result.where(**{self.each: value}).pivot(self.x, self.by, self.y).parts()
            tables.append(dataclasses.replace(table, title=f"{table.title}, {self.each} {value}"))
        notes = [*tables[-1].notes, *self.notes, *result.failures]
        return [*tables[:-1], dataclasses.replace(tables[-1], notes=notes)]


def accuracy(recipe: RecipeLike, k: int, data: str, seed: int) -> dict[str, float]:
    """Return the errors of a product under a recipe.

    Examples
    --------
    >>> round(accuracy("deepseek-v3", 1536, "real", 0)["relative_error"], 3)
    0.045
    """
    matrices = _matrices(data, k, seed)
    (row,) = compare(matrices.a, matrices.b, recipe, recipe).rows
    return members(row, "relative_error quantization_error accumulation_error sqnr_db saturated flushed")


def scales(granularity: str, fmt: str, data: str, seed: int) -> dict[str, float]:
    """Return the errors of activations in a format, by who shares a scale.

    Examples
    --------
    >>> round(scales("1x128", "e4m3", "real", 0)["relative_error"], 3)
    0.023
    """
    x = _matrices(data, 1536, seed).a
    quantized = quantize(x, fmt, granularity)
    back = quantized.dequantize()
    return {
        "relative_error": metrics.relative_error(back, x),
        "ordinary_channel_error": metrics.ordinary_channel_error(back, x),
        "sqnr_db": metrics.sqnr_db(back, x),
        "saturated": quantized.saturated / x.size,
        "flushed": quantized.flushed / x.size,
    }


def promotion(promote_every: int | None, k: int, core: str, seed: int) -> dict[str, float]:
    """Return the error of a tensor core's sums alone: its operands are what it multiplies.

    Examples
    --------
    >>> round(promotion(None, 4096, "hopper-fp8", 0)["relative_error"], 4)
    0.0013
    """
    rng = np.random.default_rng(checks.seed(seed))
    k = checks.positive_int(k, "k")
    a, b = (round_to(rng.standard_normal(shape, np.float32), "e4m3") for shape in ((M, k), (k, N)))
    sums = tensor_core_matmul(a, b, core, promote_every=promote_every)
    truth = float_product(a.astype(np.float64), b.astype(np.float64))
    return {"relative_error": metrics.relative_error(sums, truth), "sqnr_db": metrics.sqnr_db(sums, truth)}


def outliers(size: float, recipe: RecipeLike, k: int, seed: int) -> dict[str, float]:
    """Return what channels that are so many times as large do to a product and to other channels.

    Examples
    --------
    >>> round(outliers(100, "fp8-tensor", 1024, 0)["ordinary_channel_error"], 3)
    0.027
    """
    rng = np.random.default_rng(checks.seed(seed))
    a = outlier_channel_activations(M, k, rng, size)
    b = WEIGHT_SIZE * rng.standard_normal((k, N), np.float32)
    chosen = get_recipe(recipe)
    truth = float_product(a.astype(np.float64), b.astype(np.float64))
    back = quantize_both(a, b, chosen)[0].dequantize()
    return {
        "relative_error": metrics.relative_error(matmul(a, b, chosen), truth),
        "ordinary_channel_error": metrics.ordinary_channel_error(back, a),
    }


def _matrices(data: str, k: int, seed: int) -> Matrices:
    """Return matrices of k channels: of a real layer, whose channels the seed picks, or generated."""
    rng = np.random.default_rng(checks.seed(seed))
    if data == "real":
        layer = real_matrices()[-1]  # the one with the most channels
        channels = np.sort(rng.choice(layer.a.shape[1], size=_within(k, layer.a.shape[1]), replace=False))
        return Matrices(layer.a[:, channels], layer.b[channels], layer.source)
    return generated_matrices(data, M, N, k, seed=seed)


def _within(k: int, channels: int) -> int:
    return checks.within(checks.positive_int(k, "k"), "k of real data", 1, channels)


_RECIPES = ("bf16", "fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8", "nvfp4")
_DATA = ("real", "llm-like", "gaussian")
_SEEDS = (0, 1, 2)
_PRODUCT = "relative_error: Frobenius, against the float64 product of unquantised inputs"
_ORDINARY = "ordinary_channel_error: Frobenius, over the channels of A that are no outliers"
_REAL = (
    "real: all-MiniLM-L6-v2, down projection of layer 5; the seed picks k channels",
    "llm-like, gaussian: generated",
)

#: Name -> study. Add your own with ``STUDIES["mine"] = Study("mine", ...)``.
STUDIES: Registry[Study] = Registry(
    "study",
    Study,
    (
        Study(
            "accuracy",
            "How far off is a product under each recipe, by data and length of sums?",
            accuracy,
            {"recipe": _RECIPES, "k": (96, 384, 1536), "data": _DATA, "seed": _SEEDS},
            *("k", "recipe", "relative_error", "data"),
            (_PRODUCT, *_REAL),
        ),
        Study(
            "scales",
            "Who should share a scale: what does a finer one bring in each format?",
            scales,
            {
                "granularity": ("tensor", "row", "128x128", "1x128", "1x32", "1x16"),
                "fmt": ("e4m3", "e5m2", "e2m1", "int8"),
                "data": _DATA,
                "seed": _SEEDS,
            },
            *("granularity", "fmt", "relative_error", "data"),
            ("relative_error: Frobenius, of activations of 1536 channels in FP32 scales", *_REAL),
        ),
        Study(
            "promotion",
            "How often must Hopper's FP8 sums move to FP32 as sums grow longer?",
            promotion,
            {
                "promote_every": (None, 32, 128, 512, 2048),
                "k": (512, 2048, 8192),
                "core": ("hopper-fp8",),
                "seed": _SEEDS,
            },
            *("k", "promote_every", "relative_error", "core"),
            ("relative_error: Frobenius, of the sums alone, of normal numbers in E4M3",),
        ),
        Study(
            "outliers",
            "What do outlier channels cost, and whom?",
            outliers,
            {"size": (1, 10, 100, 1000), "recipe": _RECIPES, "k": (1024,), "seed": _SEEDS},
            *("size", "recipe", "ordinary_channel_error", "k"),
            (_ORDINARY, "size: how many times as large one channel in 128 is; generated, normal"),
        ),
    ),
    {
        "points>": lambda study: study.points,
        "question": lambda study: study.question,
        "over": lambda study: ", ".join(study.grid),
    },
    ("over: what --set can replace, as in --set k=256,1024",),
)
