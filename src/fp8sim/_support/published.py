"""Figures that others published, as frozen data: each with its unit and where it is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from fp8sim._support import checks

__all__ = [
    "CLAIM", "CLAIM_SOURCE", "DEEPGEMM_BEST", "DEEPGEMM_H800", "DEEPGEMM_H800_UPDATED", "DEEPSEEK_V3",
    "MODEL_FIGURES", "SERVING", "SPEEDUPS", "Figure", "GemmSpeed", "ServingFigure", "Speedup",
]  # fmt: skip

#: The sentence that the `claims` command takes apart.
CLAIM = (
    "By transitioning from the conventional binary encoding method (floating point 16) to the more efficient "
    "FP8, DeepSeek halved computational requirements without sacrificing accuracy."
)

#: Where it stands.
CLAIM_SOURCE = (
    "A news report about DeepSeek-R1 (of January 2025, by what it tells), in a paragraph that credits "
    "Aravind Srinivas, founder of Perplexity AI; the report gives no figure or source for it. DeepSeek's "
    "report on FP8 is about V3, from whose base model R1 was made."
)

_REPORT = "DeepSeek-V3 Technical Report, arXiv 2412.19437"
_REPORT_V4 = "DeepSeek-V4 report, arXiv 2606.19348"
_INSIGHTS = "Insights into DeepSeek-V3, arXiv 2505.09343"
_DEEPGEMM = "deepseek-ai/DeepGEMM"
_TE = "NVIDIA TransformerEngine docs, GEMM speed-ups"
_TORCHAO = "pytorch/ao docs and blog"


@dataclass(frozen=True)
class Figure:
    """A published number and where it is published.

    Examples
    --------
    >>> figure = DEEPSEEK_V3["mfu"]
    >>> figure.value, figure.unit, figure.source
    (38.94, '%', 'Insights into DeepSeek-V3, arXiv 2505.09343, table 4')
    """

    value: float
    source: str
    unit: str = ""
    what: str = ""  #: in words, what was measured or counted

    def __post_init__(self) -> None:
        """Check the fields."""
        checks.fields(self, value=(0, None))


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


class ServingFigure(NamedTuple):
    """How fast a server was measured: tokens a second, and what it served."""

    what: str
    model: str
    recipe: str
    device: str
    devices: int
    batch: int | None  #: sequences at once, on all devices; None: not published, as many as fit
    prompt: int  #: tokens of a prompt; of the cache, where only decoding is measured
    output: int  #: tokens written to each; 0: prompts are read alone
    kv: str
    rated: int  #: devices that the rate is of
    tokens_per_second: float  #: written, or read where none are
    source: str


#: DeepGEMM's first published table, on an H800 (README of commit a6d97a1, February 2025).
DEEPGEMM_H800: tuple[GemmSpeed, ...] = (
    GemmSpeed(64, 2112, 7168, 206, 1688),
    GemmSpeed(64, 24576, 1536, 289, 2455),
    GemmSpeed(64, 32768, 512, 219, 2143),
    GemmSpeed(64, 7168, 16384, 336, 2668),
    GemmSpeed(64, 4096, 7168, 287, 2320),
    GemmSpeed(64, 7168, 2048, 295, 2470),
    GemmSpeed(128, 2112, 7168, 352, 1509),
    GemmSpeed(128, 24576, 1536, 535, 2448),
    GemmSpeed(128, 32768, 512, 358, 2103),
    GemmSpeed(128, 7168, 16384, 645, 2604),
    GemmSpeed(128, 4096, 7168, 533, 2221),
    GemmSpeed(128, 7168, 2048, 510, 2277),
    GemmSpeed(4096, 2112, 7168, 1058, 527),
    GemmSpeed(4096, 24576, 1536, 990, 786),
    GemmSpeed(4096, 32768, 512, 590, 1232),
    GemmSpeed(4096, 7168, 16384, 1358, 343),
    GemmSpeed(4096, 4096, 7168, 1304, 500),
    GemmSpeed(4096, 7168, 2048, 1025, 697),
)

#: Its m = 4096 rows a month later (README of commit 55ab91f, 25 March 2025).
DEEPGEMM_H800_UPDATED: tuple[GemmSpeed, ...] = (
    GemmSpeed(4096, 2112, 7168, 1009, 503),
    GemmSpeed(4096, 24576, 1536, 1125, 893),
    GemmSpeed(4096, 32768, 512, 751, 1569),
    GemmSpeed(4096, 7168, 16384, 1426, 361),
    GemmSpeed(4096, 4096, 7168, 1265, 485),
    GemmSpeed(4096, 7168, 2048, 1168, 794),
)

#: The highest FP8 rate that DeepGEMM claims on an H800.
DEEPGEMM_BEST = Figure(1550, f"{_DEEPGEMM} README, April 2025", "TFLOP/s", "best FP8 GEMM rate on an H800")


def _insights(flops: float, kv_cache: float) -> dict[str, Figure]:
    return {
        "flops": Figure(flops, f"{_INSIGHTS}, table 2", "GFLOP", "training FLOPs a token at 4096"),
        "kv_cache": Figure(kv_cache, f"{_INSIGHTS}, table 1", "kB", "KV cache a token in BF16"),
    }


#: What DeepSeek published of DeepSeek-V3 and of its FP8 training.
DEEPSEEK_V3: dict[str, Figure] = {
    "parameters": Figure(671, "deepseek-ai/DeepSeek-V3 README.md", "10^9", "parameters"),
    "active": Figure(37, "deepseek-ai/DeepSeek-V3 README.md", "10^9", "active parameters a token"),
    "mtp": Figure(11.5, "DeepSeek-V3 README_WEIGHTS.md", "10^9", "parameters of the MTP module"),
    "repository": Figure(
        685, "deepseek-ai/DeepSeek-V3 README.md", "10^9", "parameters in the repository, MTP included"
    ),
    **_insights(250, 70.272),
    "tokens_per_day": Figure(272.80e9, f"{_INSIGHTS}, table 4", "tokens", "training tokens a day"),
    "step": Figure(19.926, f"{_INSIGHTS}, table 4", "s", "time of a training step"),
    "mfu": Figure(38.94, f"{_INSIGHTS}, table 4", "%", "MFU, attention causal"),
    "gpus": Figure(2048, f"{_REPORT}, section 1", "GPUs", "H800s of the training run"),
    "batch": Figure(15360, f"{_REPORT}, section 4.2", "sequences", "sequences a step"),
    "seq_len": Figure(4096, f"{_REPORT}, section 4.2", "tokens", "tokens a sequence"),
    "gpu_hours": Figure(180e3, f"{_REPORT}, section 1", "h", "GPU-hours per 10^12 tokens"),
    "pretraining_hours": Figure(2664e3, f"{_REPORT}, table 1", "h", "GPU-hours of pre-training"),
    "tokens": Figure(14.8e12, f"{_REPORT}, section 1", "tokens", "tokens of pre-training"),
    "loss_error": Figure(
        0.25, f"{_REPORT}, section 3.3", "%", "relative loss error of FP8 against BF16, at most"
    ),
    "sum_error": Figure(
        2.0, f"{_REPORT}, section 3.3.2", "%", "largest relative error of FP8 sums over k = 4096, nearly"
    ),
    "speed": Figure(2.0, f"{_REPORT}, section 3.3.1", "x", "theoretical speed of FP8 over BF16"),
    "calc_diff": Figure(0.0007, f"{_DEEPGEMM} issue #4", "", "usual calc_diff of its FP8 GEMM"),
    "calc_diff_limit": Figure(0.001, f"{_DEEPGEMM} tests/", "", "largest calc_diff its tests take of FP8"),
    "calc_diff_limit_bf16": Figure(
        1e-5, f"{_DEEPGEMM} tests/", "", "largest calc_diff its tests take of BF16"
    ),
}


def _deepseek_v4(active: float, kv_cache: float, flops: float) -> dict[str, Figure]:
    figure = f"{_REPORT_V4}, figure 1"
    return {
        "active": Figure(active, _REPORT_V4, "10^9", "active parameters a token"),
        "kv_ratio": Figure(kv_cache, figure, "x", "KV cache of V3.2 over its own, 2^20 tokens"),
        "flops_ratio": Figure(flops, figure, "x", "FLOPs of V3.2 over its own, after 2^20 tokens"),
    }


#: What is published of other models, for the same checks.
MODEL_FIGURES: dict[str, dict[str, Figure]] = {
    "qwen2.5-72b": _insights(394, 327.680),
    "llama-3.1-405b": _insights(2448, 516.096),
    "deepseek-v3.2": {
        "record": Figure(
            48_068, "vLLM issue #56893, 656 + 132 bytes in 61 layers", "B", "KV cache a token, as served"
        ),
    },
    "deepseek-v4-flash": {
        **_deepseek_v4(active=13, kv_cache=13.7, flops=9.8),
        "checkpoint": Figure(
            159_617_149_040, "deepseek-ai/DeepSeek-V4-Flash, its 46 files", "B", "checkpoint, MTP included"
        ),
    },
    "deepseek-v4-pro": _deepseek_v4(active=49, kv_cache=9.5, flops=3.7),
}

#: Measured FP8 against BF16 speeds, beyond the bare GEMM.
SPEEDUPS: tuple[Speedup, ...] = (
    Speedup("GEMMs with quantising, delayed scaling, H200", 1.69, 1.69, False, _TE),
    Speedup("GEMMs with quantising, current scaling, H200", 1.57, 1.57, False, _TE),
    Speedup("GEMMs with quantising, blocks as DeepSeek, H200", 1.41, 1.41, False, _TE),
    Speedup("GEMMs already quantised, current scaling, H200", 1.92, 1.92, False, _TE),
    Speedup("GEMMs with quantising, delayed scaling, B300", 1.61, 1.61, False, _TE),
    Speedup("GEMMs with quantising, current scaling, B300", 1.41, 1.41, False, _TE),
    Speedup("GEMMs with quantising, MXFP8, B300", 1.44, 1.44, False, _TE),
    Speedup("GEMMs with quantising, NVFP4, B300", 2.03, 2.03, False, _TE),
    Speedup("MoE layer of DeepSeek-V3", 1.25, 1.25, False, _TORCHAO),
    Speedup("training, 8B, 8 GPUs, at most", 1.25, 1.25, True, _TORCHAO),
    Speedup("training, 2,000 GPUs", 1.34, 1.43, True, _TORCHAO),
    Speedup("training, 70B and 405B, 512 GPUs", 1.43, 1.51, True, _TORCHAO),
    Speedup("training, MXFP8, B200", 1.28, 1.28, True, _TORCHAO),
    Speedup("training, Megatron-LM", 1.35, 1.42, True, "NVIDIA/Megatron-LM issue #396"),
    Speedup("training, GPT-175B, FP8-LM", 1.75, 1.75, True, "FP8-LM, arXiv 2310.18313"),
)

_DAY_6 = "deepseek-ai/open-infra-index, day 6"
_TENSORRT = "NVIDIA/TensorRT-LLM 1.0, performance overview"
_LLAMA_8B, _LLAMA_70B, _LLAMA_405B = "llama-3.1-8b", "llama-3.3-70b", "llama-3.1-405b"


def _tensorrt(
    model: str, device: str, devices: int, prompt: int, output: int, tokens_per_second: float
) -> ServingFigure:
    what = f"{model}, {devices} x {device}, {prompt} in, {output} out"
    served = model, "fp8-tensor", device, devices, None, prompt, output, "fp8-static", devices
    return ServingFigure(what, *served, tokens_per_second, _TENSORRT)


_NODES = "deepseek-v3", "deepseek-v3", "h800"

#: Serving with FP8 weights as others measured it. DeepSeek-V3's nodes have 8 GPUs; decoding is cut over 144,
#: at 20 to 22 tokens a second and sequence, so that a GPU has 14,800 / 8 / 21 = 88 sequences, of 4,989 cached
#: tokens; prompts are read over 32, and 56.3 % of their tokens were found on disk, not computed. Lengths of
#: prompts are not published. NVIDIA's checkpoints have FP8 caches.
SERVING: tuple[ServingFigure, ...] = (
    ServingFigure("decoding, a node", *_NODES, 144, 144 * 88, 4989, 1, "bf16", 8, 14_800, _DAY_6),
    ServingFigure("prompts, a node", *_NODES, 32, 32, 4096, 0, "bf16", 8, 73_700 * (1 - 0.563), _DAY_6),
    _tensorrt(_LLAMA_8B, "h100", 1, 128, 2048, 22714),
    _tensorrt(_LLAMA_8B, "h100", 1, 1000, 1000, 15220),
    _tensorrt(_LLAMA_8B, "h100", 1, 2048, 2048, 9305),
    _tensorrt(_LLAMA_8B, "h100", 1, 5000, 500, 3459),
    _tensorrt(_LLAMA_8B, "h200", 1, 2048, 2048, 12194),
    _tensorrt(_LLAMA_70B, "h200", 1, 2048, 2048, 2003),
    _tensorrt(_LLAMA_70B, "h100", 2, 2048, 2048, 3082),
    _tensorrt(_LLAMA_405B, "h100", 8, 2048, 2048, 2296),
    _tensorrt("qwen3-235b-a22b", "h100", 8, 2048, 2048, 9924),
)
