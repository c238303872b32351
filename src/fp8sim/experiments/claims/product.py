"""The rows of `claims` about one matrix product: its error, its bytes and its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fp8sim import metrics
from fp8sim._support.published import DEEPGEMM_H800, DEEPSEEK_V3, GemmSpeed
from fp8sim._support.quantities import percent_text
from fp8sim.costs.devices import Device
from fp8sim.costs.gemm import GemmCost, gemm_cost
from fp8sim.experiments.claims.verdicts import Claim, halving, remainder
from fp8sim.experiments.comparison import compare
from fp8sim.experiments.data import Matrices
from fp8sim.gemm import matmul
from fp8sim.quantization import quantize_with
from fp8sim.recipes import get_recipe

__all__ = [
    "REPORT", "Setting", "deepgemm_test", "gemm_bytes_and_time", "multiply_adds", "product_error",
    "stored_bytes",
]  # fmt: skip

REPORT = "DeepSeek-V3 report (arXiv 2412.19437)"
_DEEPGEMM = "DeepGEMM README a6d97a1 (H800)"


@dataclass(frozen=True, eq=False)
class Setting:
    """What the parts are measured on."""

    device: Device
    seed: int
    matrices: tuple[Matrices, ...]
    training: bool = True  #: whether a model may be trained


def product_error(setting: Setting) -> list[Claim]:
    """Errors of a product, the root mean square over the matrices."""
    names = ("bf16", "fp16", "fp8-tensor", "deepseek-v3")
    results = [compare(x.a, x.b, names, device=setting.device, bounds=False) for x in setting.matrices]
    error = {name: _rms([result[name].relative_error for result in results]) for name in names}
    loss = error["deepseek-v3"] / error["bf16"]
    gain = error["fp8-tensor"] / error["deepseek-v3"]
    limit = DEEPSEEK_V3["loss_error"].value
    return [
        Claim(
            "from floating point 16",
            "error of a product in BF16 over that in FP16",
            error["bf16"] / error["fp16"],
            None,
            "ratio",
            f"{REPORT}, 3.3 and 3.3.1",
            "does not hold",
            "DeepSeek's baseline is BF16, not FP16: as many bytes and the same peak rate, so the saving "
            "is the same, but three fewer mantissa bits, so FP8 has less accuracy to lose.",
        ),
        Claim(
            "without sacrificing accuracy",
            "error of a product under deepseek-v3",
            error["deepseek-v3"],
            None,
            "share",
            f"{REPORT}, 3.3: training loss, not a product, is within {limit} %",
            "does not hold" if loss > 2 else "holds",
            f"Three mantissa bits cost {loss:.0f} times the error of BF16 ({percent_text(error['bf16'])}) "
            f"in every product; block scales make it {gain:.2f} times smaller than one scale per tensor.",
        ),
    ]


def deepgemm_test(setting: Setting) -> list[Claim]:
    """DeepGEMM's own acceptance test, on one of its shapes."""
    rng = np.random.default_rng(setting.seed)
    m, n, k = 128, 2112, 7168
    bf16 = get_recipe("bf16").a.fmt.dtype
    a = rng.standard_normal((m, k), np.float32).astype(bf16).astype(np.float32)
    b = rng.standard_normal((k, n), np.float32).astype(bf16).astype(np.float32)
    measured = metrics.calc_diff(matmul(a, b, "deepseek-v3"), a @ b)
    published, limit = DEEPSEEK_V3["calc_diff"], DEEPSEEK_V3["calc_diff_limit"]
    return [
        Claim(
            "without sacrificing accuracy",
            f"calc_diff of DeepGEMM's own test, {m}x{n}x{k}",
            measured,
            published.value,
            "",
            f"{published.source}; limit {limit.value:g}, {limit.source}",
            "holds" if measured < limit.value else "does not hold",
            "The product is as accurate as DeepGEMM's own tests ask of an FP8 kernel; calc_diff is about "
            "half the squared relative error.",
        )
    ]


def stored_bytes(setting: Setting) -> list[Claim]:
    """Bytes of weights and activations, against two bytes an element."""
    recipe = get_recipe("deepseek-v3")
    stored = {
        "weights": [quantize_with(x.b, recipe.b, axis=0) for x in setting.matrices],
        "activations": [quantize_with(x.a, recipe.a, axis=1) for x in setting.matrices],
    }
    rows = []
    for kind, group in (("weights", 128 * 128), ("activations", 128)):
        bf16 = sum(2 * q.codes.size for q in stored[kind])
        measured = sum(q.nbytes for q in stored[kind]) / bf16
        scales = sum(q.scale_nbytes for q in stored[kind]) / (bf16 / 2)
        rows.append(
            remainder(
                "halved",
                f"bytes of {kind}, scales included",
                measured,
                f"{REPORT}, 3.3.2: one FP32 scale per {group} elements",
                f"One byte instead of two; the scales add {percent_text(scales)} to the {kind}.",
                published=(1 + 4 / group) / 2,
            )
        )
    return rows


def multiply_adds(setting: Setting) -> list[Claim]:
    """Operations of DeepSeek's own GEMM shapes."""
    fp8, bf16 = (
        sum(gemm_cost(s.m, s.n, s.k, recipe, setting.device).flops for s in DEEPGEMM_H800)
        for recipe in ("deepseek-v3", "bf16")
    )
    return [
        remainder(
            "computational requirements",
            "multiply-adds",
            fp8 / bf16,
            f"{REPORT}, 3.3.1 claims speed, not fewer operations",
            "Every multiplication and addition is still done; what can halve is the time and the bytes "
            "of each.",
        )
    ]


def gemm_bytes_and_time(setting: Setting) -> list[Claim]:
    """DeepSeek's own GEMM shapes, in training or prefill (4096 tokens) and in decoding (64)."""
    return [
        row
        for tokens, phase in ((4096, "training"), (64, "decoding"))
        for row in _phase(setting.device, phase, [s for s in DEEPGEMM_H800 if s.m == tokens])
    ]


def _phase(device: Device, phase: str, speeds: list[GemmSpeed]) -> list[Claim]:
    fp8, bf16 = (
        [gemm_cost(s.m, s.n, s.k, recipe, device) for s in speeds] for recipe in ("deepseek-v3", "bf16")
    )
    moved_bf16 = sum(c.bytes for c in bf16)
    bytes_ratio = sum(c.bytes for c in fp8) / moved_bf16
    time_ratio = sum(c.seconds for c in fp8) / sum(c.seconds for c in bf16)
    seconds = [c.flops / (s.tflops * 1e12) for c, s in zip(fp8, speeds, strict=True)]
    moved = sum(t * s.gbps * 1e9 for t, s in zip(seconds, speeds, strict=True))
    achieved = _achieved(device, sum(seconds), bf16)
    outputs = sum(c.output.total for c in fp8) / sum(c.bytes for c in fp8)
    where = f"DeepSeek's GEMMs at {speeds[0].m} tokens"
    return [
        remainder(
            "halved",
            f"bytes moved by {where}",
            bytes_ratio,
            f"{_DEEPGEMM}, its GB/s and TFLOPS columns; without scales",
            f"The operands are FP8 but the outputs stay BF16; in {phase} they are "
            f"{percent_text(outputs)} of the bytes.",
            published=moved / moved_bf16,
        ),
        Claim(
            "halved",
            f"time of {where}, over BF16's",
            time_ratio,
            achieved,
            "ratio",
            f"{_DEEPGEMM}, over BF16 at the best rate measured on an H100 (MAMF)",
            halving(max(time_ratio, achieved or 0)),
            _why_time(device, time_ratio, achieved),
            "remainder",
        ),
    ]


def _achieved(device: Device, seconds: float, bf16: Sequence[GemmCost]) -> float | None:
    """Time of DeepGEMM's kernels over the best that BF16 was measured to do; of the H800 alone."""
    if device.name != "h800" or device.measured_bf16 is None:
        return None
    rate = device.measured_bf16.value
    return seconds / sum(max(c.flops / rate, c.memory_seconds) for c in bf16)


def _why_time(device: Device, modelled: float, achieved: float | None) -> str:
    if device.fp8 is None:
        return f"{device.title} has no FP8 unit: only what is bound by memory gets faster."
    limit = f"At the roofline FP8 is {1 / modelled:.2f} times as fast as BF16"
    if achieved is None:
        return f"{limit} on {device.title}; kernels stay below their peak."
    return f"{limit}; DeepGEMM's first kernels were {1 / achieved:.2f} times as fast as the best BF16 ones."


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
