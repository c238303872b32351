"""Record what a Hopper GPU computes, and compare it with fp8sim.

Single tensor-core instructions, whole products of cuBLAS, and casts of all float32. A sample of the words goes
to `tests/data/hopper`, for a replay on any CPU (`tests/test_silicon.py`); the rest is compared on the spot.

Needs an NVIDIA GPU of compute capability 9.0, nvcc, PyTorch with CUDA, and what fp8sim needs:

    PYTHONPATH=src:tests python tests/hardware/record.py

It takes about four minutes, and says what differs. `--stand-in` tries it without a GPU, the model in its place.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import datetime
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from cases import KINDS, Cases

import fp8sim
from silicon import (
    BLOCK,
    CASTS,
    VECTORS,
    Case,
    Instruction,
    digest,
    expect,
    expect_cast,
    expect_product,
    scale_shapes,
    to_words,
)

SOURCE = Path(__file__).with_name("tensor_cores.cu")
SAMPLE = (16, 12)  # rows and columns of each kind that are written down
CHAIN = 4  # instructions that are chained along k
START = time.perf_counter()


def say(*words: object) -> None:
    print(f"{time.perf_counter() - START:6.1f} s ", *words, flush=True)  # noqa: T201


# The GPU


class Gpu:
    """The instructions and casts of `tensor_cores.cu`, which nvcc builds first."""

    def __init__(self, folder: Path) -> None:
        library = folder / "tensor_cores.so"
        target = ["-gencode=arch=compute_90a,code=sm_90a", "-shared", "-Xcompiler", "-fPIC"]
        subprocess.run(["nvcc", *target, "-o", library, SOURCE], check=True)
        self.library = ctypes.CDLL(str(library))
        self.library.instruction.restype = ctypes.c_char_p

    def names(self) -> list[str]:
        found: list[str] = []
        while (name := self.library.instruction(len(found))) is not None:
            found.append(name.decode())
        return found

    def run(self, number: int, steps: int, a: Any, b: Any, c: Any) -> Any:
        """Return the words of D."""
        inputs = [np.ascontiguousarray(x) for x in (a, b, c)]
        d = np.empty_like(inputs[2])
        arrays = [x.ctypes.data_as(ctypes.c_void_p) for x in (*inputs, d)]
        self._check(self.library.run(number, steps, *arrays, *d.shape, d.itemsize))
        return d

    def cast(self, kind: int, block: int) -> Any:
        out = np.empty(BLOCK, np.uint8 if kind < 2 else np.uint32)
        address = out.ctypes.data_as(ctypes.c_void_p)
        self._check(self.library.cast_block(kind, ctypes.c_uint32(block * BLOCK), address))
        return out

    def _check(self, error: int) -> None:
        if error:
            raise RuntimeError(f"CUDA error {error}")


class StandIn:
    """The model in the place of a GPU."""

    def names(self) -> list[str]:
        return ["mma m16n8k32 f32 e4m3 e5m2", "wgmma m64n8k16 f16 f16 f16", "wgmma m64n8k8 f32 tf32 tf32"]

    def run(self, number: int, steps: int, a: Any, b: Any, c: Any) -> Any:
        i = Instruction.named(self.names()[number])
        masks = [to_words(np.array(-1), fmt) for fmt in i.formats[:2]]
        return expect(i, a & masks[0], b & masks[1], c)


def environment() -> dict[str, str]:
    """Say what the words were recorded on."""
    import torch

    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpu, driver = subprocess.check_output(query, text=True).splitlines()[0].split(", ")
    nvcc = subprocess.check_output(["nvcc", "--version"], text=True).split("release ")[1].split(",")[0]
    return {
        "gpu": gpu,
        "compute capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "driver": driver,
        "nvcc": nvcc,
        "torch": torch.__version__,
        "CUDA of torch": torch.version.cuda,
        "cuBLAS": importlib.metadata.version("nvidia-cublas"),
        "numpy": np.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


# Single instructions


def record_instructions(gpu: Gpu | StandIn, out: Path, side: int, rounds: int) -> dict[str, Any]:
    """Write a sample of the words; return how many dot products were compared, and how many differ."""
    sample: dict[str, Any] = {}
    report: dict[str, Any] = {}
    for number, name in enumerate(gpu.names()):
        i = Instruction.named(name)
        written: list[Any] = []
        report[name] = {"dots of a kind": side * side * rounds, "alone": {}, f"{CHAIN} along k": {}}
        for steps, differ in zip((1, CHAIN), list(report[name].values())[1:], strict=True):
            for at, kind in enumerate(KINDS):
                differ[kind] = 0
                for again in range(rounds):
                    a, b, c = Cases(i, side, side, i.step * steps, [number, steps, at, again]).draw(kind)
                    d, model = gpu.run(number, steps, a, b, c), expect(i, a, b, c)
                    wrong = np.argwhere(d != model)
                    for row, column in wrong[:1]:
                        words = a[row], b[column], c[row, column], d[row, column], model[row, column]
                        say(name, steps, kind, "a, b, c, d and the model:", *(x.tolist() for x in words))
                    differ[kind] += len(wrong)
                    if steps == 1 and again == 0:
                        rows, columns = pick_sample(i, a, b, c, d)
                        written.append((a[rows], b[columns], c[rows][:, columns], d[rows][:, columns]))
        if i.a == "tf32":
            report[name]["differ by bits that TF32 has not"] = count_ignored_bits(gpu, number, i, side)
        say(name, report[name])
        for letter, parts in zip("abcd", zip(*written, strict=True), strict=True):
            sample[f"{name}/{letter}"] = np.stack(parts)
    np.savez_compressed(out / "instructions.npz", **sample)
    return report


def pick_sample(i: Instruction, a: Any, b: Any, c: Any, d: Any) -> tuple[Any, Any]:
    """Pick rows and columns: half the first ones, half those that tell most of what a wrong core would miss."""
    core = i.core
    faults = [{"fraction_bits": core.fraction_bits + off} for off in (-1, 1)]
    faults += [{"exponent_floor": core.exponent_floor + off} for off in (-1, 1)] + [{"step": core.step // 2}]
    telling = np.zeros(d.shape)
    for fault in faults:
        wrong = expect(i, a, b, c, dataclasses.replace(core, **fault)) != d
        telling += wrong / max(1, wrong.sum())  # what few see counts most
    picked = []
    for size, axis in zip(SAMPLE, (1, 0), strict=True):
        order = np.argsort(-telling.sum(axis), kind="stable")
        first = np.arange(size // 2)
        picked.append(np.concatenate([first, np.sort(order[order >= size // 2][: size - size // 2])]))
        telling = telling[picked[0]] if axis else telling
    return picked[0], picked[1]


def count_ignored_bits(gpu: Gpu | StandIn, number: int, i: Instruction, side: int) -> int:
    """Count where the last 13 bits of an FP32 word, which TF32 does not have, change a result."""
    rng = np.random.default_rng(5)
    a, b, c = Cases(i, side, side, i.step, [99]).draw("normal")
    noisy = [x | rng.integers(0, 1 << 13, x.shape, np.uint32) for x in (a, b)]
    return int((gpu.run(number, 1, *noisy, c) != gpu.run(number, 1, a, b, c)).sum())


# Whole products

SHAPES = {"small": (64, 128), "large": (2048, 2048)}
COMPARED = (32, 64)  # rows and columns of the corner that is compared
WRITTEN = (4, 8)  # and of that which is written down
LONGEST = {"e4m3": 16384, "e5m2": 16384, "f16": 4096, "bf16": 4096}
LONGEST_WRITTEN = {"e4m3": 4096, "e5m2": 1024, "f16": 1024, "bf16": 1024}


def product_cases() -> Iterator[Case]:
    """List products: what is multiplied how."""
    for shape in SHAPES:
        for a, b in (("e4m3", "e4m3"), ("e4m3", "e5m2"), ("e5m2", "e4m3")):
            for k in (32, 64, 128, 256, 512, 1024, 1200, 4096, 16384):
                for fast in (True, False):
                    for out in ("f32", "bf16") if a == b else ("f32",):
                        yield {
                            "a": a,
                            "b": b,
                            "shape": shape,
                            "k": k,
                            "out": out,
                            "fast": fast,
                            "scales": "1",
                        }
        fp8 = {"a": "e4m3", "b": "e4m3", "shape": shape}
        for k in (512, 1024, 4096):
            for out in ("f32", "bf16"):
                for scales in ("tensor", "row"):
                    for fast in (True, False):
                        yield {**fp8, "k": k, "out": out, "fast": fast, "scales": scales}
                for scales in ("1x128 1x128", "1x128 128x128", "128x128 1x128"):
                    yield {**fp8, "k": k, "out": out, "fast": False, "scales": scales}
        for fmt in ("f16", "bf16", "tf32"):
            for k in (16, 64, 256, 1024, 4096):
                for out in ("f32",) if fmt == "tf32" else ("f32", fmt):
                    yield {"a": fmt, "b": fmt, "shape": shape, "k": k, "out": out, "scales": "1"}
        for k in (16, 64, 256, 1024, 4096):
            case = {"a": "f16", "b": "f16", "shape": shape, "k": k, "out": "f16", "scales": "1"}
            yield {**case, "fp16 sums": True}


def draw_operands() -> dict[str, list[Any]]:
    """Return codes of A (m, k) and B transposed (n, k), normally distributed, in every format."""
    m, n = SHAPES["large"]
    x = np.random.default_rng(1).standard_normal((m + n, max(LONGEST.values())), np.float32) * np.float32(8)
    operands = {}
    for name, longest in LONGEST.items():
        fmt = fp8sim.get_format({"f16": "fp16"}.get(name, name))
        codes = fp8sim.encode(np.ascontiguousarray(x[:, :longest]), fmt).view(fmt.code_dtype)
        operands[name] = [codes[:m], codes[m:]]
    return operands


def multiply(case: Case, a: Any, b: Any, scales: list[Any]) -> Any:
    """Multiply on the GPU, A (m, k) by B transposed (n, k), as PyTorch has cuBLAS do it."""
    import torch

    out = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[case["out"]]
    if "fast" not in case:
        torch.backends.cuda.matmul.allow_fp16_accumulation = bool(case.get("fp16 sums"))
        return torch.mm(a, b.t()) if out == a.dtype else torch.mm(a, b.t(), out_dtype=out)
    x, y = (torch.from_numpy(s).cuda() for s in scales)
    if " " not in case["scales"]:
        scaled = (
            {"scale_a": x, "scale_b": y.t()}
            if case["scales"] == "row"
            else {"scale_a": x[0, 0], "scale_b": y[0, 0]}
        )
        return torch._scaled_mm(a, b.t(), **scaled, out_dtype=out, use_fast_accum=case["fast"])
    from torch.nn.functional import ScalingType, scaled_mm

    recipes, laid = [], []
    for layout, s in zip(case["scales"].split(), (x, y), strict=True):
        recipes.append(ScalingType.BlockWise1x128 if layout == "1x128" else ScalingType.BlockWise128x128)
        # Rows, or blocks of k, follow each other in memory.
        laid.append(s.t().contiguous().t() if layout == "1x128" else s.contiguous().t())
    return scaled_mm(
        a, b.t(), laid[0], recipes[0], laid[1], recipes[1], output_dtype=out, use_fast_accum=case["fast"]
    )


def kernel_of(work: Callable[[], Any]) -> str:
    """Return the name of the kernel that multiplies."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    names = [e.name for e in profiler.events() if "CUDA" in str(e.device_type)]
    return next((name for name in names if "sm90" in name), " ".join(names))[:80]


def record_products(out: Path) -> list[Case]:
    """Write corners of products; return what was multiplied, and in how many places the model differs."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True
    dtypes = {
        "e4m3": torch.float8_e4m3fn,
        "e5m2": torch.float8_e5m2,
        "bf16": torch.bfloat16,
        "f16": torch.float16,
    }
    operands = draw_operands()
    values, on_gpu = {}, {}
    for name, sides in operands.items():
        on_gpu[name] = [torch.from_numpy(x.view(np.uint8)).cuda().view(dtypes[name]) for x in sides]
        fmt = {"f16": "fp16"}.get(name, name)
        values[name] = [fp8sim.decode(x[:rows], fmt) for x, rows in zip(sides, COMPARED, strict=True)]
    on_gpu["tf32"], values["tf32"] = [x.float() for x in on_gpu["bf16"]], values["bf16"]
    cases, corners, scale_words = [], [], []
    for number, case in enumerate(product_cases()):
        m, n = SHAPES[case["shape"]]
        k = case["k"]
        a, b = (x[:rows, :k].contiguous() for x, rows in zip(on_gpu[case["a"]], (m, n), strict=True))
        b = on_gpu[case["b"]][1][:n, :k].contiguous()
        rng = np.random.default_rng(number)
        drawn = [rng.uniform(0.01, 2, shape).astype(np.float32) for shape in scale_shapes(case, m, n)]
        scales = [np.ones_like(s) for s in drawn] if case["scales"] == "1" else drawn
        try:
            d = multiply(case, a, b, scales)
            kernel = kernel_of(lambda: multiply(case, a, b, scales))  # noqa: B023
        except Exception as error:  # what this version of PyTorch has not
            say("refused:", case, str(error).splitlines()[0])
            continue
        corner = d[: COMPARED[0], : COMPARED[1]].contiguous()
        words = corner.view(torch.int32 if corner.itemsize == 4 else torch.int16).cpu().numpy()
        words = words.view(f"u{words.itemsize}")
        sides = values[case["a"]][0][:, :k], values[case["b"]][1][:, :k]
        explain(case, words, sides, corner_of(case, scales, COMPARED))
        if "slice" in case or case["differ"]:
            case["kernel"] = kernel
        cases.append(case)
        longest = min(LONGEST_WRITTEN[{"tf32": "bf16"}.get(case[x], case[x])] for x in "ab")
        case["written"] = k <= longest and not case["differ"]
        if case["written"]:
            corners.append(words[: WRITTEN[0], : WRITTEN[1]].astype(np.uint32))
            if case["scales"] != "1":
                scale_words += [s.ravel() for s in corner_of(case, scales, WRITTEN)]
    arrays = {
        f"{name}/{letter}": x[:rows, : LONGEST_WRITTEN[name]]
        for name, sides in operands.items()
        for letter, x, rows in zip("ab", sides, WRITTEN, strict=True)
    }
    scale_words = np.concatenate(scale_words)
    np.savez_compressed(out / "products.npz", d=np.stack(corners), scales=scale_words, **arrays)
    return cases


def corner_of(case: Case, scales: list[Any], size: tuple[int, int]) -> list[Any]:
    """Return the scales of a corner of a product."""
    return [s[: shape[0]] for s, shape in zip(scales, scale_shapes(case, *size), strict=True)]


def explain(case: Case, words: Any, sides: tuple[Any, Any], scales: list[Any]) -> None:
    """Count where the model differs, with slices of that size that makes it least if one slice does not do."""

    def count(**more: int) -> int:
        return int((expect_product({**case, **more}, *sides, *scales) != words).sum())

    case["differ"] = count()
    units = [128] if case["a"] in ("e4m3", "e5m2") else [64, 4]
    sizes = {-(-case["k"] // (parts * unit)) * unit for unit in units for parts in range(2, 65)}
    if case["differ"] and case["scales"] == "1":
        counts = {size: count(slice=size) for size in sorted(sizes, reverse=True)}
        best = min(counts, key=lambda size: counts[size])
        if not counts[best]:
            case["slice"], case["differ"] = best, 0


# Casts


def gpu_casts(gpu: Gpu) -> dict[str, Callable[[int], Any]]:
    """Return, by name, how the GPU casts a block of all float32."""
    import torch

    def by_torch(dtype: Any, word: Any) -> Callable[[int], Any]:
        def cast(block: int) -> Any:
            first = block * BLOCK - (1 << 32 if block >= 128 else 0)
            bits = torch.arange(first, first + BLOCK, dtype=torch.int64, device="cuda").to(torch.int32)
            return bits.view(torch.float32).to(dtype).view(word).cpu().numpy()

        return cast

    casts: list[Callable[[int], Any]] = [
        by_torch(torch.float8_e4m3fn, torch.uint8),
        by_torch(torch.float8_e5m2, torch.uint8),
        by_torch(torch.bfloat16, torch.int16),
        by_torch(torch.float16, torch.int16),
        *(lambda block, kind=kind: gpu.cast(kind, block) for kind in range(4)),
    ]
    return dict(zip(CASTS, casts, strict=True))


def record_casts(gpu: Gpu, seconds: float) -> dict[str, Any]:
    """Cast all 2^32 float32, as far as the time reaches, and keep digests; what NaN becomes stands apart."""
    casts = gpu_casts(gpu)
    rows: dict[str, Any] = {
        name: {"inputs": 0, "differ": 0, "nan": [], "digests": ["-"] * 256} for name in casts
    }
    fp8sim.set_num_threads(4)

    def compare(name: str, block: int) -> None:
        model, nan = expect_cast(name, block)
        found, row = casts[name](block).view(model.dtype), rows[name]
        wrong = (found != model) & ~nan
        row["inputs"] += int(BLOCK - nan.sum())
        row["differ"] += int(wrong.sum())
        if wrong.any():
            at = int(wrong.argmax())
            say(name, f"0x{block * BLOCK + at:08x} becomes 0x{found[at]:x}, and 0x{model[at]:x} in the model")
        if nan.any():
            seen = np.unique(found[nan])
            row["nan"].append(
                [f"{'-' if block & 0x80 else '+'}NaN", f"0x{seen[0]:x}", f"0x{seen[-1]:x}", len(seen)]
            )
        row["digests"][block] = digest(found, nan)

    began = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        for block in sorted(range(256), key=lambda x: (x & 0x7F != 0x7F, f"{x:08b}"[::-1])):
            if time.perf_counter() - began < seconds:
                list(pool.map(compare, casts, [block] * len(casts)))
    fp8sim.set_num_threads(None)
    return rows


# All of it


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write JSON, an entry of a list or a dictionary a line."""

    def lines(part: Any) -> str:
        if isinstance(part, dict):
            inner = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in part.items())
            return f"{{\n{inner}\n }}"
        return "[\n" + ",\n".join(f"  {json.dumps(value)}" for value in part) + "\n ]"

    parts = ",\n".join(f" {json.dumps(key)}: {lines(part)}" for key, part in report.items())
    path.write_text(f"{{\n{parts}\n}}\n")


def main(argv: list[str] | None = None) -> int:
    """Record and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=VECTORS)
    parser.add_argument("--parts", nargs="+", default=["instructions", "products", "casts"])
    parser.add_argument("--side", type=int, default=1024, help="each kind is side x side dot products, ...")
    parser.add_argument("--rounds", type=int, default=1, help="... so many times")
    parser.add_argument("--cast-seconds", type=float, default=120)
    parser.add_argument(
        "--stand-in", action="store_true", help="no GPU: the model against itself, instructions alone"
    )
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "recording.json"
    report: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"environments": {}}
    with tempfile.TemporaryDirectory() as folder:
        gpu = StandIn() if options.stand_in else Gpu(Path(folder))
        for part in ["instructions"] if options.stand_in else options.parts:
            report["environments"][part] = {} if options.stand_in else environment()
            if part == "instructions":
                report["kinds"] = KINDS
                report[part] = record_instructions(gpu, options.out, options.side, options.rounds)
            elif part == "products":
                report[part] = record_products(options.out)
                wrong = [case for case in report[part] if case["differ"]]
                say(len(report[part]), "products,", len(wrong), "differ", *wrong)
            else:
                report[part] = record_casts(gpu, options.cast_seconds)
                for name, row in report[part].items():
                    say(f"{name}: {row['inputs']:,} inputs, {row['differ']} differ;", row["nan"])
            write_report(path, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
