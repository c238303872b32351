"""The rows on accuracy: of the formats, of products and their sums on real data, and of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from fp8sim import metrics
from fp8sim._support.products import float_product
from fp8sim._support.published import DEEPSEEK_V3
from fp8sim._support.quantities import percent_text
from fp8sim._support.typing import F32
from fp8sim.accumulators import Fp32
from fp8sim.casts import round_to
from fp8sim.costs.devices import Device
from fp8sim.experiments.claims.row import Claim
from fp8sim.experiments.claims.rules import (
    AS_ACCURATE,
    AS_PRECISE,
    AS_SMALL,
    AS_SUMMED,
    loss_rule,
    within_limits,
)
from fp8sim.experiments.data import Matrices, llm_like_matrices
from fp8sim.experiments.train import Training
from fp8sim.gemm import matmul
from fp8sim.recipes import get_recipe
from fp8sim.tensor_cores import tensor_core_matmul

__all__ = ["Setting", "formats", "product_errors", "published_test", "sum_errors", "training_loss"]

_REPORT = "DeepSeek-V3 report (arXiv 2412.19437)"
_SUMS = 256, 4096  #: outputs along each side, and k
_LEAST_TOKENS = 0.9e12  #: of the shorter of the report's two runs (B.1)

_accuracy_row = partial(Claim, question="accuracy")


@dataclass(frozen=True, eq=False)
class Setting:
    """What the rows are measured on."""

    device: Device
    seeds: tuple[int, ...]  #: of what is generated; the first gives the figures, all of them the ranges
    real: tuple[Matrices, ...]  #: recorded weights and activations
    training: Training  #: recorded, or made anew
    made: str = ""  #: when and with what it was recorded; nothing where it was made anew

    @cached_property
    def real_errors(self) -> dict[str, float]:
        """Recipe -> error of the products of the real layers."""
        recipes = ("fp16", "bf16", "deepseek-v3")
        return dict(zip(recipes, _errors(self.real, *recipes), strict=True))


def formats(setting: Setting) -> list[Claim]:
    """Return what DeepSeek came from: another format of 16 bits than the sentence says."""
    errors = setting.real_errors
    bits = [get_recipe(name).a.fmt.bits for name in ("fp16", "bf16")]
    return [
        Claim(
            name="16 bits",
            question="format",
            what="bits of an element in DeepSeek's baseline, BF16, over FP16's",
            basis="counted",
            measured=bits[1] / bits[0],
            unit="ratio",
            rule=AS_SMALL,
            derived_from=f"{_REPORT}, 3.3: the baseline is BF16",
            why="Both have 16 bits and the same peak rate, so that what FP8 saves of them is the same.",
        ),
        Claim(
            name="precision of 16 bits",
            question="format",
            what="error of a product in BF16, over that in FP16",
            basis="emulated",
            measured=errors["bf16"] / errors["fp16"],
            unit="times",
            rule=AS_PRECISE,
            derived_from=f"{_REPORT}, 3.3: the baseline is BF16",
            why="BF16 has three mantissa bits fewer than FP16, so that FP8 has less accuracy to lose. Layers "
            "of a small encoder.",
        ),
    ]


def product_errors(setting: Setting) -> list[Claim]:
    """Errors of products under DeepSeek-V3's recipe, on real layers and on generated ones."""
    fp8, bf16 = (setting.real_errors[name] for name in ("deepseek-v3", "bf16"))
    size = 128, 2112, 7168  # one of DeepSeek's

    errors = [_errors([llm_like_matrices(*size, seed=seed)], "deepseek-v3", "bf16") for seed in setting.seeds]
    row = partial(_accuracy_row, basis="emulated", unit="share", rule=AS_ACCURATE)
    return [
        row(
            name="product",
            what="error of a product under deepseek-v3, layers of a small encoder",
            measured=fp8,
            judged=fp8 / bf16,
            why=f"Three mantissa bits for seven: BF16 errs by {percent_text(bf16)}. Relative Frobenius error "
            f"of what a GPU stores, in BF16; root mean square over {len(setting.real)} layers.",
        ),
        row(
            name="generated product",
            what="the same on generated LLM-like matrices, {}x{}x{}".format(*size),
            measured=errors[0][0],
            judged=errors[0][0] / errors[0][1],
            range=_range([error for error, _ in errors]),
            why="Their outlier channels hold most of the energy, and often land on the largest code without "
            "an error: a kinder case than real layers.",
        ),
    ]


def published_test(setting: Setting) -> list[Claim]:
    """DeepGEMM's own acceptance test, on one of its shapes."""
    m, n, k = 128, 2112, 7168
    bf16 = get_recipe("bf16").a.fmt.dtype

    def measure(seed: int) -> float:
        rng = np.random.default_rng(seed)
        a = rng.standard_normal((m, k), np.float32).astype(bf16).astype(np.float32)
        b = rng.standard_normal((k, n), np.float32).astype(bf16).astype(np.float32)
        return metrics.calc_diff(matmul(a, b, "deepseek-v3"), float_product(a, b))

    measured, spread = _over_seeds(measure, setting.seeds)
    published, limit, of_bf16 = (
        DEEPSEEK_V3[name] for name in ("calc_diff", "calc_diff_limit", "calc_diff_limit_bf16")
    )
    return [
        _accuracy_row(
            name="DeepGEMM's test",
            what=f"calc_diff of DeepGEMM's own test, {m}x{n}x{k}",
            basis="emulated",
            measured=measured,
            unit="",
            published=published.value,
            published_source=f"{published.source}; limits {of_bf16.value:g}, {limit.value:g}: {limit.source}",
            rule=within_limits(of_bf16.value, limit.value, "DeepGEMM's tests"),
            range=spread,
            why="As accurate as its authors ask of an FP8 kernel, not as they ask of BF16; calc_diff is "
            "about half the squared error.",
        )
    ]


def sum_errors(setting: Setting) -> list[Claim]:
    """Errors of Hopper's FP8 sums over k = 4096, operands exact in E4M3: one chain, and promoted."""
    published = DEEPSEEK_V3["sum_error"]
    (one_chain, largest), (promoted, _) = _sums(setting.seeds, np.random.Generator.standard_normal)
    (positive, _), (positive_promoted, _) = _sums(setting.seeds, np.random.Generator.random)
    k = _SUMS[1]

    def row(name: str, what: str, error: _SumError, why: str, **published: Any) -> Claim:
        return _accuracy_row(
            name=name,
            what=what,
            basis="emulated",
            measured=error.figure,
            unit="share",
            judged=error.figure / error.fp32,
            rule=AS_SUMMED,
            range=error.range,
            why=why,
            **published,
        )

    return [
        row(
            "sums in one chain",
            f"largest error of sums of {k} FP8 products in one chain, over their root mean square",
            largest,
            "Hopper's FP8 tensor cores keep 14 bits while they sum. Normal numbers; the report, which has "
            f"nearly 2 %, does not say which. The error of all sums is {percent_text(one_chain.figure)}, "
            f"with promotion to FP32 every 128 {percent_text(promoted.figure)}.",
            published=published.value / 100,
            published_source=published.source,
            comparable=False,  # neither distribution, size nor normaliser is given
        ),
        row(
            "positive sums in one chain",
            f"error of sums of {k} positive FP8 products in one chain",
            positive,
            "What is cut off always has one sign here: numbers from 0 to 1.",
        ),
        row(
            "positive sums promoted",
            f"error of sums of {k} positive FP8 products, promoted to FP32 every 128",
            positive_promoted,
            f"DeepSeek's remedy leaves {percent_text(positive_promoted.figure / positive.figure)} of it.",
        ),
    ]


@dataclass(frozen=True)
class _SumError:
    figure: float
    range: tuple[float, float]
    fp32: float  #: the same error where the same products are summed in FP32


def _sums(seeds: Sequence[int], draw: Callable[..., F32]) -> list[tuple[_SumError, _SumError]]:
    """Sum exact products in one chain, and promoted every 128.

    Of each the error of all sums is returned, and the largest; both over their root mean square.
    """
    size, k = _SUMS
    errors: list[list[tuple[float, float]]] = [[], [], []]  # in one chain, promoted, in FP32
    for seed in seeds:
        rng = np.random.default_rng(seed)
        a, b = (
            round_to(draw(rng, shape, dtype=np.float32), "e4m3").astype(np.float32)
            for shape in ((size, k), (k, size))
        )
        exact = float_product(a.astype(np.float64), b.astype(np.float64))
        ways = [tensor_core_matmul(a, b, "hopper-fp8", promote_every=every) for every in (None, 128)]
        for of_way, products in zip(errors, [*ways, Fp32().sum_products(a, b)], strict=True):
            largest = np.abs(products - exact).max() / np.sqrt(np.mean(exact**2))
            of_way.append((metrics.relative_error(products, exact), float(largest)))
    *ours, fp32 = [list(zip(*of_way, strict=True)) for of_way in errors]
    results = [
        [_SumError(mine[0], _range(mine), beside[0]) for mine, beside in zip(way, fp32, strict=True)]
        for way in ours
    ]
    return [(whole, largest) for whole, largest in results]


def training_loss(setting: Setting) -> list[Claim]:
    """Relative loss error of a small model trained under deepseek-v3, recorded or made anew."""
    training, limit = setting.training, DEEPSEEK_V3["loss_error"]
    rows = {row.recipe: row for row in training.rows}
    ours, blocks = rows["deepseek-v3"], rows["deepseek-v3-block-gradients"]
    tokens = training.schedule["steps"] * training.schedule["sequences"] * training.size["context"]
    mean, most, least = (f"{100 * value:+.4f} %" for value in (ours.error, ours.error_high, ours.error_low))
    rule = loss_rule(limit.value / 100, tokens, _LEAST_TOKENS)
    passes = "passes too" if blocks.largest <= limit.value / 100 else "does not pass"
    return [
        _accuracy_row(
            name="training",
            what="largest loss error of training under deepseek-v3, smoothed, second half, "
            f"{training.size['parameters'] / 1e6:.1f} M parameters, over bf16",
            basis="recorded" if setting.made else "emulated",
            measured=ours.largest,
            unit="share",
            published=limit.value / 100,
            published_source=f"{limit.source}: less than that, of 16 B and 230 B; 1.33 and 0.9 T tokens",
            comparable=False,  # of other models
            rule=rule,
            why=f"On average {mean} (seeds: {least} to {most}). Too small and short for 671 B: gradients in "
            "128x128 blocks, under which a 16 B model diverged (B.2), give "
            f"{100 * blocks.largest:.3f} % here, and it {passes}. {setting.made}".rstrip(),
        )
    ]


def _errors(layers: Sequence[Matrices], *recipes: str) -> list[float]:
    """Return the relative error of products as each recipe stores them, root mean square over layers."""
    exact = [float_product(x.a.astype(np.float64), x.b.astype(np.float64)) for x in layers]
    errors = [
        [
            metrics.relative_error(matmul(x.a, x.b, recipe, output="recipe"), truth)
            for x, truth in zip(layers, exact, strict=True)
        ]
        for recipe in recipes
    ]
    return [float(np.sqrt(np.mean(np.square(one)))) for one in errors]


def _over_seeds(measure: Callable[[int], float], seeds: Sequence[int]) -> tuple[float, tuple[float, float]]:
    values = [measure(seed) for seed in seeds]
    return values[0], _range(values)


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
