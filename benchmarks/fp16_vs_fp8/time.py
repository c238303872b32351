"""What FP8 saves of time: `python benchmarks/fp16_vs_fp8/time.py`.

The roofline of multiplies on a device: the least that a kernel takes. `--gpu` times `torch.mm`,
`torch._scaled_mm` and `torch._int_mm` beside it on a machine with an NVIDIA GPU; on any other it ends with
status 2 and one line that says what is missing, before any work. Without `--gpu` nothing is timed.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import common
from common import Options, Row, Script
from fp8sim import gemm_cost
from fp8sim._support.quantities import time_text
from fp8sim._support.tables import Table
from fp8sim.costs import DEVICES, get_device
from fp8sim.experiments.gpu import find_gpu

NEEDS = "--gpu times torch.mm and torch._scaled_mm, and needs an NVIDIA GPU and PyTorch built for CUDA"
NEVER = "Measured times: skipped; --gpu takes them, where there is an NVIDIA GPU and PyTorch built for CUDA."
ROUNDS, QUICK_ROUNDS, WARM_UP = 30, 3, 3
CACHE = 256 << 20  # bytes, above any GPU's L2: written before each call, so that operands come from memory
ALLOWED = 0.01  # relative distance from the FP32 product: BF16 rounds by 0.2 %, FP8 cores cut sums off

Call = Callable[[], Any]


class Gpu(Protocol):
    """What times calls; anything that has these can stand in for a GPU."""

    place: str  #: where PyTorch makes tensors
    name: str
    made: str  #: driver and versions, in words

    def seconds(self, call: Call) -> float:
        """Run a call and return how long it took."""


class CudaGpu:
    """PyTorch's current GPU, timed by CUDA events."""

    place = "cuda"

    def __init__(self) -> None:
        import torch

        facts = find_gpu().facts()
        versions = ", ".join(f"{name} {text}" for name, text in facts.versions.items())
        self.name, self.made = facts.gpu, f"driver {facts.driver}, {versions}"
        self._scratch = torch.empty(CACHE, dtype=torch.int8, device=self.place)

    def seconds(self, call: Call) -> float:
        """Run a call after what is in the cache was written over, which also hides the launch."""
        import torch

        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._scratch.zero_()
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def open_gpu() -> Gpu:
    """Return the GPU, or say what is needed for one."""
    try:
        return CudaGpu()
    except (RuntimeError, ImportError) as error:
        why = str(error).partition(": ")[2] or str(error)
        raise ValueError(f"{NEEDS}: {why}. Leave --gpu away for the model's times") from None


def rows(options: Options) -> list[Row]:
    """Return the roofline of every shape under every recipe, and the measured times beside it."""
    gpu = open_gpu() if options.gpu else None
    if gpu is None:
        options.notes.append(NEVER)
    else:
        options.notes.append(f"Measured on {gpu.name} ({gpu.made}).")
        if options.given["device"] is None:
            options.chosen["device"] = _device_of(gpu.name) or options.device
    recipes, found, missing = common.beside(options.recipes), [], {}
    for shape in options.shapes:
        measured, refused = ({}, {}) if gpu is None else measure(shape, recipes, gpu, options)
        found += [_row(shape, name, options.device, measured.get(name)) for name in recipes]
        for recipe_and_why in refused.items():
            missing.setdefault(recipe_and_why, []).append(common.shape_text(shape))
    options.notes += [f"Not timed: {name} of {', '.join(of)}: {why}." for (name, why), of in missing.items()]
    timed = common.with_ratios(found, "measured_s", ("shape",), "measured_to_")
    return common.with_ratios(timed, "seconds", ("shape",))


def _device_of(gpu: str) -> str | None:
    """Return the device that a GPU is by its name: the longest that is in it."""
    words = gpu.lower().replace("-", " ")
    known = [name for name in DEVICES if name.replace("-", " ") in words]
    return max(known, key=len, default=None)


def _row(shape: common.Shape, recipe: str, device: str, measured: float | None) -> Row:
    cost = gemm_cost(*shape, recipe, device)
    return {
        "shape": common.shape_text(shape),
        "recipe": recipe,
        "device": cost.device.name,
        "operand_class": cost.rate.operand_class,
        "bound": cost.bound,
        "seconds": cost.seconds,
        "rate": cost.performance,
        "rate_unit": "OP/s" if cost.rate.operand_class == "int8" else "FLOP/s",
        "measured_s": measured,
        "of_roofline": None if measured is None else measured / cost.seconds,
        "note": cost.note,
    }


def measure(
    shape: common.Shape, recipes: tuple[str, ...], gpu: Gpu, options: Options
) -> tuple[dict[str, float], dict[str, str]]:
    """Time the call of every recipe that this GPU and PyTorch have, in turn; say why of the others."""
    calls: dict[str, Call] = {}
    refused: dict[str, str] = {}
    for name in recipes:
        try:
            if name not in CALLS:
                raise ValueError("PyTorch has no call for it")
            calls[name] = _checked(*CALLS[name](shape, gpu.place))
        except Exception as error:  # of many types: what this GPU, or this version of PyTorch, has not
            why = (str(error).splitlines() or [type(error).__name__])[0]
            refused[name] = why.partition(" when calling ")[0].rstrip(".")  # and PyTorch's own C++ call
    options.packages[:] = ["torch"]
    return medians(calls, gpu, QUICK_ROUNDS if options.quick else ROUNDS), refused


def medians(calls: Mapping[str, Call], gpu: Gpu, rounds: int) -> dict[str, float]:
    """Time calls in turn, round by round in an order of its own, after some off the clock."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, rng = list(calls), random.Random(0)
    for turn in range(WARM_UP + rounds):
        rng.shuffle(order)
        for name in order:
            seconds = gpu.seconds(calls[name])
            if turn >= WARM_UP:
                times[name].append(seconds)
    return {name: statistics.median(taken) for name, taken in times.items()}


def _checked(call: Call, a: Any, b: Any) -> Call:
    """Return a call that gives the product of its operands, whose scales are all one."""
    expected = a.float() @ b.float()
    distance = float((call().float() - expected).norm() / expected.norm())
    if not distance <= ALLOWED:
        raise ValueError(f"its product is off by {distance:.2g}, and at most {ALLOWED} was allowed")
    return call


# Each returns a call, and the values of A (m, k) and of B (k, n), which lies in memory column by column.


def _drawn(shape: common.Shape, place: str, dtype: str) -> tuple[Any, Any]:
    import torch

    m, n, k = shape
    rng = torch.Generator(place).manual_seed(0)
    a, b = (torch.randn(size, k, device=place, generator=rng) for size in (m, n))
    if dtype == "int8":
        a, b = ((30 * x).round().clamp(-127, 127) for x in (a, b))
    return a.to(getattr(torch, dtype)), b.to(getattr(torch, dtype)).t()


def _mm(dtype: str) -> Callable[..., tuple[Call, Any, Any]]:
    def make(shape: common.Shape, place: str) -> tuple[Call, Any, Any]:
        import torch

        a, b = _drawn(shape, place, dtype)
        multiply = torch._int_mm if dtype == "int8" else torch.mm
        return lambda: multiply(a, b), a, b

    return make


def _scaled(
    scales: Callable[..., tuple[Any, Any]], *, fast: bool = False
) -> Callable[..., tuple[Call, Any, Any]]:
    """Return what makes a `torch._scaled_mm` of E4M3 with scales, all one, in the layout that it takes."""

    def make(shape: common.Shape, place: str) -> tuple[Call, Any, Any]:
        import torch

        a, b = _drawn(shape, place, "float8_e4m3fn")
        scale_a, scale_b = scales(torch, *shape, place)
        options = {"out_dtype": torch.bfloat16, "use_fast_accum": fast}
        return lambda: torch._scaled_mm(a, b, scale_a=scale_a, scale_b=scale_b, **options), a, b

    return make


def _one(torch: Any, m: int, n: int, k: int, place: str) -> tuple[Any, Any]:
    return torch.ones((), device=place), torch.ones((), device=place)


def _rows(torch: Any, m: int, n: int, k: int, place: str) -> tuple[Any, Any]:
    return torch.ones(m, 1, device=place), torch.ones(1, n, device=place)


def _blocks(torch: Any, m: int, n: int, k: int, place: str) -> tuple[Any, Any]:
    """Return scales of 1x128 of A, column by column, and of 128x128 of B."""
    return torch.ones(-(-k // 128), m, device=place).t(), torch.ones(
        -(-n // 128), -(-k // 128), device=place
    ).t()


def _mx(torch: Any, m: int, n: int, k: int, place: str) -> tuple[Any, Any]:
    """Return E8M0 scales of 1x32, in tiles of 128 rows and 4 scales."""
    columns = -(-k // 128) * 4
    sizes = (-(-rows // 128) * 128 * columns for rows in (m, n))
    one, other = (torch.ones(size, device=place).to(torch.float8_e8m0fnu) for size in sizes)
    return one, other


CALLS: dict[str, Callable[..., tuple[Call, Any, Any]]] = {
    "fp16": _mm("float16"),
    "bf16": _mm("bfloat16"),
    "fp8-tensor": _scaled(_one, fast=True),
    "fp8-row": _scaled(_rows, fast=True),
    "deepseek-v3": _scaled(_blocks),
    "mxfp8": _scaled(_mx),
    "int8-row": _mm("int8"),
}


def _rate(row: Row) -> str:
    return "-" if row["rate"] is None else f"{row['rate'] / 1e12:.0f} T{row['rate_unit']}"


def tables(rows: list[Row], options: Options) -> list[Table]:
    """Return a table for each shape."""
    options.notes += common.remarks(rows)

    def number(key: str, digits: str = ".2f") -> Callable[[Row], str]:
        return lambda row: "-" if row[key] is None else format(row[key], digits)

    made = []
    for (shape,), mine in common.groups(rows, "shape"):
        columns = {
            "recipe": lambda row: row["recipe"],
            "unit": lambda row: row["operand_class"],
            "roofline>": lambda row: common.known_time(row["seconds"]),
            "bound by": lambda row: row["bound"],
            "rate>": _rate,
            **common.ratio_columns(mine),
        }
        if options.gpu:
            columns |= {
                "measured>": lambda row: "-" if row["measured_s"] is None else time_text(row["measured_s"]),
                "to roofline>": number("of_roofline"),
                "to measured fp16>": number("measured_to_fp16"),
                "to measured bf16>": number("measured_to_bf16"),
            }
        made.append(Table.of(f"Time of {shape} (m x n x k) on {get_device(options.device)}", columns, mine))
    return made


def bars(rows: list[Row]) -> Iterator[tuple[str, str, float | None]]:
    """Yield the time as a share of FP16's: measured where it was, else the roofline."""
    for row in rows:
        timed = row["measured_s"] is not None
        yield row["shape"], row["recipe"], row["measured_to_fp16" if timed else "to_fp16"]


SCRIPT = Script(
    "time",
    "Time of multiplies in FP16, BF16, FP8 and INT8: rooflines, and measured on a GPU.",
    rows,
    tables,
    {"device": "h800", "shapes": common.SHAPES, "recipes": common.RECIPES},
    {"shapes": common.SHAPES[:1]},
    bars,
    "time, as a share of FP16's",
    extras={"--gpu": {"action": "store_true", "help": "time PyTorch's calls too; status 2 without a GPU"}},
    notes=(
        "roofline: the longer of the flops at the dense peak and the bytes at the memory's bandwidth, which "
        "no kernel is faster than; rate: what that comes to.",
    ),
)

if __name__ == "__main__":
    sys.exit(common.main(SCRIPT))
