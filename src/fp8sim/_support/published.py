"""Figures that others published, as frozen data: each with its unit and where it is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "CLAIM",
    "DEEPGEMM_BEST",
    "DEEPGEMM_H800",
    "DEEPGEMM_H800_UPDATED",
    "DEEPSEEK_V3",
    "MODEL_FIGURES",
    "SPEEDUPS",
    "GemmSpeed",
    "Published",
    "Speedup",
]

#: The sentence that the `claims` command takes apart.
CLAIM = (
    "By transitioning from floating point 16 to the more efficient FP8, DeepSeek halved "
    "computational requirements without sacrificing accuracy"
)

_REPORT = "DeepSeek-V3 Technical Report, arXiv 2412.19437"
_INSIGHTS = "Insights into DeepSeek-V3, arXiv 2505.09343"
_DEEPGEMM = "deepseek-ai/DeepGEMM"
_TE = "NVIDIA TransformerEngine docs"
_TORCHAO = "pytorch/ao docs and blog"


@dataclass(frozen=True)
class Published:
    """One published number.

    Examples
    --------
    >>> figure = DEEPSEEK_V3["mfu"]
    >>> figure.value, figure.unit, figure.source
    (38.94, '%', 'Insights into DeepSeek-V3, arXiv 2505.09343, table 4')
    """

    what: str
    value: float
    unit: str
    source: str


class GemmSpeed(NamedTuple):
    """One row of DeepGEMM's table of speeds: FP8 operands, BF16 output."""

    m: int
    n: int
    k: int
    tflops: float
    gbps: float  #: 10^9 B/s


class Speedup(NamedTuple):
    """How many times faster FP8 ran than BF16, measured beyond the bare GEMM."""

    setting: str
    low: float
    high: float
    end_to_end: bool  #: whole training steps or requests; otherwise one layer or GEMM
    source: str


#: DeepGEMM's first published table, on an H800 (README of commit a6d97a1, February 2025).
DEEPGEMM_H800: tuple[GemmSpeed, ...] = tuple(
    GemmSpeed(*row)
    for row in (
        (64, 2112, 7168, 206, 1688),
        (64, 24576, 1536, 289, 2455),
        (64, 32768, 512, 219, 2143),
        (64, 7168, 16384, 336, 2668),
        (64, 4096, 7168, 287, 2320),
        (64, 7168, 2048, 295, 2470),
        (128, 2112, 7168, 352, 1509),
        (128, 24576, 1536, 535, 2448),
        (128, 32768, 512, 358, 2103),
        (128, 7168, 16384, 645, 2604),
        (128, 4096, 7168, 533, 2221),
        (128, 7168, 2048, 510, 2277),
        (4096, 2112, 7168, 1058, 527),
        (4096, 24576, 1536, 990, 786),
        (4096, 32768, 512, 590, 1232),
        (4096, 7168, 16384, 1358, 343),
        (4096, 4096, 7168, 1304, 500),
        (4096, 7168, 2048, 1025, 697),
    )
)

#: Its m = 4096 rows a month later (README of commit 55ab91f, 25 March 2025).
DEEPGEMM_H800_UPDATED: tuple[GemmSpeed, ...] = tuple(
    GemmSpeed(*row)
    for row in (
        (4096, 2112, 7168, 1009, 503),
        (4096, 24576, 1536, 1125, 893),
        (4096, 32768, 512, 751, 1569),
        (4096, 7168, 16384, 1426, 361),
        (4096, 4096, 7168, 1265, 485),
        (4096, 7168, 2048, 1168, 794),
    )
)

#: The highest FP8 rate that DeepGEMM claims on an H800.
DEEPGEMM_BEST = Published("best FP8 GEMM rate on an H800", 1550, "TFLOP/s", f"{_DEEPGEMM} README, April 2025")

#: What DeepSeek published of DeepSeek-V3 and of its FP8 training.
DEEPSEEK_V3: dict[str, Published] = {
    "parameters": Published("parameters", 671, "10^9", "deepseek-ai/DeepSeek-V3 README.md"),
    "active": Published("active parameters a token", 37, "10^9", "deepseek-ai/DeepSeek-V3 README.md"),
    "mtp": Published("parameters of the MTP module", 11.5, "10^9", "DeepSeek-V3 README_WEIGHTS.md"),
    "repository": Published(
        "parameters in the repository, MTP included", 685, "10^9", "deepseek-ai/DeepSeek-V3 README.md"
    ),
    "flops": Published("training FLOPs a token at 4096", 250, "GFLOP", f"{_INSIGHTS}, table 2"),
    "kv_cache": Published("KV cache a token in BF16", 70.272, "kB", f"{_INSIGHTS}, table 1"),
    "tokens_per_day": Published("training tokens a day", 272.80e9, "tokens", f"{_INSIGHTS}, table 4"),
    "step": Published("time of a training step", 19.926, "s", f"{_INSIGHTS}, table 4"),
    "mfu": Published("MFU, attention causal", 38.94, "%", f"{_INSIGHTS}, table 4"),
    "gpus": Published("H800s of the training run", 2048, "GPUs", f"{_REPORT}, section 1"),
    "batch": Published("sequences a step", 15360, "sequences", f"{_REPORT}, section 4.2"),
    "seq_len": Published("tokens a sequence", 4096, "tokens", f"{_REPORT}, section 4.2"),
    "gpu_hours": Published("GPU-hours per 10^12 tokens", 180e3, "h", f"{_REPORT}, section 1"),
    "pretraining_hours": Published("GPU-hours of pre-training", 2664e3, "h", f"{_REPORT}, table 1"),
    "tokens": Published("tokens of pre-training", 14.8e12, "tokens", f"{_REPORT}, section 1"),
    "loss_error": Published(
        "relative loss error of FP8 against BF16, at most", 0.25, "%", f"{_REPORT}, section 3.3"
    ),
    "sum_error": Published(
        "largest relative error of FP8 sums over k = 4096, nearly", 2.0, "%", f"{_REPORT}, section 3.3.2"
    ),
    "speed": Published("theoretical speed of FP8 over BF16", 2.0, "x", f"{_REPORT}, section 3.3.1"),
    "calc_diff": Published("usual calc_diff of its FP8 GEMM", 0.0007, "", f"{_DEEPGEMM} issue #4"),
    "calc_diff_limit": Published("largest calc_diff its tests take", 0.001, "", f"{_DEEPGEMM} tests/"),
}

#: What the Insights paper publishes of other models, for the same checks.
MODEL_FIGURES: dict[str, dict[str, Published]] = {
    "qwen2.5-72b": {
        "flops": Published("training FLOPs a token at 4096", 394, "GFLOP", f"{_INSIGHTS}, table 2"),
        "kv_cache": Published("KV cache a token in BF16", 327.680, "kB", f"{_INSIGHTS}, table 1"),
    },
    "llama-3.1-405b": {
        "flops": Published("training FLOPs a token at 4096", 2448, "GFLOP", f"{_INSIGHTS}, table 2"),
        "kv_cache": Published("KV cache a token in BF16", 516.096, "kB", f"{_INSIGHTS}, table 1"),
    },
}

#: Measured FP8 against BF16 speeds, beyond the bare GEMM.
SPEEDUPS: tuple[Speedup, ...] = (
    Speedup("GEMMs with quantising, delayed scaling, H200", 1.69, 1.69, False, _TE),
    Speedup("GEMMs with quantising, current scaling, H200", 1.58, 1.58, False, _TE),
    Speedup("GEMMs with quantising, blocks as DeepSeek, H200", 1.40, 1.40, False, _TE),
    Speedup("GEMMs already quantised, current scaling, H200", 1.90, 1.90, False, _TE),
    Speedup("GEMMs with quantising, MXFP8, B300", 1.42, 1.42, False, _TE),
    Speedup("MoE layer of DeepSeek-V3", 1.25, 1.25, False, _TORCHAO),
    Speedup("training, 8B, 8 GPUs", 1.0, 1.25, True, _TORCHAO),
    Speedup("training, 2,000 GPUs", 1.34, 1.43, True, _TORCHAO),
    Speedup("training, 70B and 405B, 512 GPUs", 1.43, 1.51, True, _TORCHAO),
    Speedup("training, MXFP8, B200", 1.28, 1.28, True, _TORCHAO),
    Speedup("training, Megatron-LM", 1.35, 1.42, True, "NVIDIA/Megatron-LM issue #396"),
    Speedup("training, GPT-175B, FP8-LM", 1.75, 1.75, True, "FP8-LM, arXiv 2310.18313"),
)
