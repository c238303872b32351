"""The article's sentence, taken apart: each part measured, set beside what is published, and judged."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from fp8sim import metrics
from fp8sim._tables import Table, percent_text
from fp8sim._typing import F32
from fp8sim.cost import GemmCost, gemm_cost
from fp8sim.devices import Device, DeviceLike, get_device
from fp8sim.experiments import data
from fp8sim.experiments.comparison import Comparison, compare
from fp8sim.experiments.published import CLAIM, DEEPGEMM_H800, DEEPSEEK_V3
from fp8sim.gemm import matmul
from fp8sim.quantization import quantize_with
from fp8sim.recipes import get_recipe

__all__ = ["Claim", "Claims", "claims", "count_steps"]

Verdict: TypeAlias = Literal["holds", "partly", "does not hold", "not measured"]

_REPORT = "DeepSeek-V3 report (arXiv 2412.19437)"


@dataclass(frozen=True)
class Claim:
    """One part of the sentence and what came out."""

    part: str  #: the words of the sentence
    what: str  #: what was measured, with its baseline
    measured: float | None
    published: float | None
    unit: str  #: "ratio", "share" (printed in percent) or "number"
    source: str  #: of the published figure
    verdict: Verdict
    why: str  #: one sentence

    @property
    def ratio(self) -> float | None:
        """Measured over published, None where either is missing."""
        return self.measured / self.published if self.measured and self.published else None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return {**dataclasses.asdict(self), "ratio": self.ratio}


@dataclass(frozen=True)
class Claims:
    """All parts of the sentence, judged; prints as tables and shows as them in a notebook."""

    sentence: str
    device: str
    seed: int
    data: tuple[str, ...]  #: the matrices that were multiplied
    environment: dict[str, str]
    rows: tuple[Claim, ...]

    def __str__(self) -> str:
        """Return the tables as text."""
        return "\n\n".join(table.text(100) for table in self.tables())

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self.tables())

    @property
    def summary(self) -> str:
        """How many parts hold, in words."""
        verdicts = [row.verdict for row in self.rows]
        words = {"holds": "hold", "partly": "hold partly", "does not hold": "do not", "not measured": "not measured"}
        return ", ".join(f"{verdicts.count(v)} {w}" for v, w in words.items() if v in verdicts)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {
            **dataclasses.asdict(self),
            "summary": self.summary,
            "rows": [row.to_dict() for row in self.rows],
        }

    def tables(self) -> list[Table]:
        """Return the verdicts, and the reasons with their sources."""
        verdicts = Table(
            f'"{self.sentence}."',
            ["#>", "claim", "what was measured", "measured>", "published>", "ratio>", "verdict"],
            [_cells(number, row) for number, row in enumerate(self.rows, 1)],
            (f"Of {len(self.rows)} parts: {self.summary}.",),
        )
        reasons = Table(
            "Why, and where the published figures are from",
            ["#>", "why", "source"],
            [[str(number), row.why, row.source] for number, row in enumerate(self.rows, 1)],
            (
                f"Times are modelled on {self.device} (roofline, dense peak rates). Seed {self.seed}. Data:",
                *(f"  {source}" for source in self.data),
            ),
        )
        return [verdicts, reasons]


def claims(
    *, device: DeviceLike = "h800", seed: int = 0, on_step: Callable[[str], None] | None = None
) -> Claims:
    """Measure each part of the sentence and judge it.

    Real weights are used where the extra ``sample`` is installed, and LLM-like matrices from the
    seed where not; activations are generated in both cases.

    Parameters
    ----------
    device : str or Device
        Whose roofline times are modelled on. Published times are of the H800.
    seed : int
        Of everything generated.
    on_step : callable, optional
        Called with the name of each part before it is measured; for progress bars.

    Returns
    -------
    Claims
        One row per part.

    Raises
    ------
    ValueError
        If the device is unknown or the seed negative.

    Examples
    --------
    >>> import fp8sim
    >>> result = fp8sim.claims()
    >>> [row.verdict for row in result.rows if row.part == "computational requirements"]
    ['does not hold']
    """
    target = get_device(device)
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    setting = _Setting(target, seed, tuple(_operands(seed)))
    rows: list[Claim] = []
    for name, part in _PARTS:
        if on_step is not None:
            on_step(name)
        rows.extend(part(setting))
    sources = tuple(operands.source for operands in setting.operands)
    return Claims(CLAIM, target.title, seed, sources, _environment(), tuple(rows))


def count_steps() -> int:
    """Return how often `claims` calls `on_step`."""
    return len(_PARTS)


@dataclass(frozen=True, eq=False)
class _Setting:
    device: Device
    seed: int
    operands: tuple[data.Operands, ...]

    def comparisons(self) -> list[Comparison]:
        """Return recipes side by side on each product."""
        recipes = ("bf16", "fp16", "fp8-tensor", "deepseek-v3")
        return [compare(o.a, o.b, recipes, device=self.device) for o in self.operands]


def _operands(seed: int) -> Iterator[data.Operands]:
    if data.sample_model_path() is not None:
        for name in data.SAMPLE_MATRICES:
            yield data.sample_operands(name, m=256, seed=seed)
    else:
        yield data.llm_like_operands(128, 2112, 7168, seed=seed)


def _baseline_and_error(setting: _Setting) -> list[Claim]:
    """Errors of one product, averaged over the matrices (root mean square)."""
    results = setting.comparisons()
    error = {
        name: _rms([result[name].relative_error for result in results])
        for name in ("bf16", "fp16", "fp8-tensor", "deepseek-v3")
    }
    loss = error["deepseek-v3"] / error["bf16"]
    gain = error["fp8-tensor"] / error["deepseek-v3"]
    return [
        Claim(
            "from floating point 16",
            "error of a product in BF16 over that in FP16",
            error["bf16"] / error["fp16"],
            None,
            "ratio",
            f"{_REPORT}, 3.3 and 3.3.1",
            "does not hold",
            "DeepSeek's baseline is BF16, not FP16: as many bytes and the same peak rate, so the saving is "
            "the same, but three fewer mantissa bits, so FP8 has less accuracy to lose.",
        ),
        Claim(
            "without sacrificing accuracy",
            "error of a product under deepseek-v3",
            error["deepseek-v3"],
            None,
            "share",
            f"{_REPORT}, 3.3: the loss of training, not a product, is within "
            f"{DEEPSEEK_V3['loss_error'].value} %",
            "does not hold" if loss > 2 else "holds",
            f"Three mantissa bits cost {loss:.0f} times the error of BF16 ({percent_text(error['bf16'])}) in "
            f"every product; block scales make it {gain:.2f} times smaller than one scale per tensor.",
        ),
    ]


def _deepgemm_test(setting: _Setting) -> list[Claim]:
    """DeepGEMM's own acceptance test, on one of its shapes."""
    rng = np.random.default_rng(setting.seed)
    m, n, k = 128, 2112, 7168
    a, b = (get_recipe("bf16").a.fmt.dtype.type(rng.standard_normal(s, np.float32)) for s in ((m, k), (k, n)))
    truth = a.astype(np.float32) @ b.astype(np.float32)
    measured = metrics.calc_diff(matmul(a, b, "deepseek-v3"), truth)
    published, limit = DEEPSEEK_V3["calc_diff"], DEEPSEEK_V3["calc_diff_limit"]
    return [
        Claim(
            "without sacrificing accuracy",
            f"calc_diff of DeepGEMM's own test, {m}x{n}x{k}",
            measured,
            published.value,
            "number",
            f"{published.source}; limit {limit.value:g}, {limit.source}",
            "holds" if measured < limit.value else "does not hold",
            "The product is as accurate as DeepGEMM's own tests ask of an FP8 kernel: calc_diff is about half "
            "the squared relative error.",
        )
    ]


def _stored_bytes(setting: _Setting) -> list[Claim]:
    """Bytes of weights and activations, against two bytes an element."""
    recipe = get_recipe("deepseek-v3")
    rows = []
    for part, what, operand, arrays, group in (
        ("weights", "bytes of weights, 128x128 scales in", recipe.b, [o.b for o in setting.operands], 128**2),
        ("activations", "bytes of activations, 1x128 scales in", recipe.a, [o.a for o in setting.operands], 128),
    ):  # fmt: skip
        axis = 0 if part == "weights" else 1
        stored = sum(quantize_with(x, operand.fmt, operand.scaling, axis=axis).nbytes for x in arrays)
        measured = stored / sum(2 * x.size for x in arrays)
        rows.append(
            Claim(
                "halved",
                f"{what}, over BF16's",
                measured,
                (1 + 4 / group) / 2,
                "ratio",
                f"{_REPORT}, 3.3.2: one FP32 scale per {group} elements",
                "holds" if measured < 0.52 else "partly",
                f"One byte instead of two; the scales add {percent_text(2 * measured - 1)} to the {part}.",
            )
        )
    return rows


def _multiply_adds(setting: _Setting) -> list[Claim]:
    shapes = [speed[:3] for speed in DEEPGEMM_H800]
    fp8 = sum(gemm_cost(*shape, "deepseek-v3", setting.device).flops for shape in shapes)
    bf16 = sum(gemm_cost(*shape, "bf16", setting.device).flops for shape in shapes)
    return [
        Claim(
            "computational requirements",
            "multiply-adds, over BF16's",
            fp8 / bf16,
            None,
            "ratio",
            f"{_REPORT}, 3.3.1 claims speed, not fewer operations",
            "does not hold" if fp8 == bf16 else "partly",
            "Every multiplication and addition is still done; what can halve is the time and the bytes of each.",
        )
    ]


def _gemm_bytes_and_time(setting: _Setting) -> list[Claim]:
    """DeepSeek's own GEMM shapes, training or prefill (4096 tokens) and decoding (64)."""
    rows = []
    for tokens, phase in ((4096, "training"), (64, "decoding")):
        speeds = [speed for speed in DEEPGEMM_H800 if speed.m == tokens]
        fp8 = [gemm_cost(s.m, s.n, s.k, "deepseek-v3", setting.device) for s in speeds]
        bf16 = [gemm_cost(s.m, s.n, s.k, "bf16", setting.device) for s in speeds]
        where = f"DeepSeek's GEMMs at {tokens} tokens"
        bytes_bf16, seconds_bf16 = sum(c.bytes for c in bf16), sum(c.seconds for c in bf16)
        seconds = [c.flops / (s.tflops * 1e12) for c, s in zip(fp8, speeds, strict=True)]
        moved = sum(t * s.gbps * 1e9 for t, s in zip(seconds, speeds, strict=True))
        achieved = _achieved(setting.device, sum(seconds), bf16)
        ratios = (sum(c.bytes for c in fp8) / bytes_bf16, sum(c.seconds for c in fp8) / seconds_bf16)
        rows += [
            Claim(
                "halved",
                f"bytes moved by {where}, over BF16's",
                ratios[0],
                moved / bytes_bf16,
                "ratio",
                "DeepGEMM README a6d97a1, its GB/s and TFLOPS columns (no scales)",
                _halving(ratios[0]),
                "The operands are FP8 but the outputs stay BF16, and "
                f"in {phase} they are {percent_text(_output_share(fp8))} of the bytes.",
            ),
            Claim(
                "halved",
                f"time of {where}, over BF16's",
                ratios[1],
                achieved,
                "ratio",
                "DeepGEMM README a6d97a1, TFLOPS on H800, over BF16 at the best rate measured on H100 (MAMF)",
                _halving(max(ratios[1], achieved or 0)),
                _why_time(setting.device, ratios[1], achieved),
            ),
        ]
    return rows


def _achieved(device: Device, seconds: float, bf16: Sequence[GemmCost]) -> float | None:
    """Time of DeepGEMM's kernels over the best that BF16 was measured to do; of the H800 alone."""
    if device.name != "h800" or device.measured_bf16 is None:
        return None
    best = [max(c.flops / device.measured_bf16.value, c.memory_seconds) for c in bf16]
    return seconds / sum(best)


def _why_time(device: Device, modelled: float, achieved: float | None) -> str:
    if device.fp8 is None:
        return f"{device.title} has no FP8 unit: only what is bound by memory gets faster."
    limit = f"At the roofline FP8 is {1 / modelled:.2f} times as fast as BF16"
    if achieved is None:
        return f"{limit} on {device.title}; kernels stay below their peak."
    return f"{limit}; DeepGEMM's first kernels were {1 / achieved:.2f} times as fast as the best BF16 ones."


def _halving(ratio: float) -> Verdict:
    """Judge a ratio that should be one half: within 5 %, less than nine tenths, or neither."""
    return "holds" if ratio <= 0.525 else "partly" if ratio <= 0.9 else "does not hold"


def _output_share(costs: Sequence[GemmCost]) -> float:
    return float(sum(c.output.total for c in costs) / sum(c.bytes for c in costs))


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


_PARTS: tuple[tuple[str, Callable[[_Setting], list[Claim]]], ...] = (
    ("error of a product", _baseline_and_error),
    ("DeepGEMM's test", _deepgemm_test),
    ("bytes", _stored_bytes),
    ("multiply-adds", _multiply_adds),
    ("DeepSeek's GEMM shapes", _gemm_bytes_and_time),
)


def _cells(number: int, row: Claim) -> list[str]:
    return [
        str(number),
        row.part,
        row.what,
        _figure(row.measured, row.unit),
        _figure(row.published, row.unit),
        "-" if row.ratio is None else f"{row.ratio:.3f}",
        row.verdict,
    ]


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "share":
        return percent_text(value)
    return f"{value:.4f}" if unit == "ratio" else f"{value:.3g}"


def _environment() -> dict[str, str]:
    import fp8sim

    return {
        "fp8sim": fp8sim.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
