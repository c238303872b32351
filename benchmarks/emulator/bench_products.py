"""Products with each accumulator and under each recipe: `python benchmarks/emulator/bench_products.py`.

The ceiling is numpy's float32 product of the same shape, which rounds otherwise and checks nothing.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator

import numpy as np

import fp8sim
import harness
from fp8sim import _kernels
from fp8sim._support.products import float_product
from fp8sim.accumulators import ACCUMULATORS, Accumulator
from fp8sim.experiments.comparison import DEFAULT_RECIPES
from fp8sim.quantization import Quantized, quantize
from fp8sim.tensor_cores import TENSOR_CORES, tensor_core_matmul_reference
from harness import Case, Options, Peer

CORES = {  # core -> least share of numpy's speed
    "hopper-fp8": 14,
    "hopper-fp16": 25,
    "hopper-bf16": 25,
    "ampere-fp16": 25,
    "ampere-bf16": 25,
    "blackwell-fp8": None,
    "volta-fp16": None,
    "cdna1-fp16": None,
    "cdna1-bf16": None,
    "cdna2-fp16": None,
    "cdna2-bf16": None,
    "cdna2-bf16-k2": None,
    "cdna3-fp16": None,
    "cdna3-bf16": None,
    "cdna3-tf32": None,
    "cdna3-fp16-k4": None,
    "cdna3-fp8": None,
}
SUMS = {  # accumulator -> least multiply-adds per second
    "fp32-sequential": 2e9,
    "fp32-pairwise": 2e9,
    "fp32-kahan": 2e9,
    "bf16-sequential": 1e9,
    "fp16-sequential": 1e9,
}


def cases(options: Options) -> Iterator[Case]:
    """Yield tensor cores, then other sums, then whole recipes."""
    m, n, k = (64, 64, 256) if options.smoke else (512, 512, 4096)
    rng = options.rng()
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    size = f"{m} x {n} x {k}"

    def numpy_float32(goal: float | None = None) -> Peer:
        return Peer(lambda: lambda: a @ b, goal, check=None)

    for name, share in CORES.items():
        left, right = (fp8sim.round_to(x, TENSOR_CORES[name].inputs[0]) for x in (a, b))
        peers = {"numpy float32": numpy_float32(share and 1 / share)}
        if name == "hopper-fp8":
            peers["mmaemu"] = Peer(lambda left=left, right=right: mmaemu_product(left, right), goal=12)
        if options.smoke:
            peers["the readable way"] = Peer(
                lambda left=left, right=right, name=name: (
                    lambda: tensor_core_matmul_reference(left, right, name)
                )
            )
        yield Case(
            f"{name}, {size}",
            lambda left=left, right=right, name=name: fp8sim.tensor_core_matmul(left, right, name),
            peers,
            m * n * k,
            "multiply-adds",
        )

    left, right = quantize(a, "fp16", "none", axis=1), quantize(b, "fp16", "none", axis=0)
    for name, accumulator in ACCUMULATORS.items():
        peers = {"numpy float32": Peer(lambda: lambda: a @ b, check=harness.within(0.1))}
        if options.smoke and name in SUMS:
            peers["the readable way"] = Peer(
                lambda accumulator=accumulator: lambda: readable_sums(accumulator, left, right)
            )
        yield Case(
            f"sums in {name}, {size}",
            lambda accumulator=accumulator: accumulator.multiply(left, right),
            peers,
            m * n * k,
            "multiply-adds",
            SUMS.get(name),
        )

    for name in fp8sim.RECIPES:
        yield Case(
            f"recipe {name}, {size}",
            lambda name=name: fp8sim.matmul(a, b, name),
            {"numpy float32": Peer(lambda: lambda: a @ b, check=harness.within(0.3))},
            m * n * k,
            "multiply-adds",
        )
    side = 128 if options.smoke else 2048
    yield comparison(a, b)
    c, d = rng.standard_normal((side, side), np.float32), rng.standard_normal((side, side), np.float32)
    for name in ("fp8-row", "deepseek-v3"):
        recipe = dataclasses.replace(fp8sim.get_recipe(name), name=f"{name} in fp32", accumulator="fp32")
        yield Case(
            f"recipe {recipe}, {side} x {side} x {side}",
            lambda recipe=recipe: fp8sim.matmul(c, d, recipe),
            {"numpy float32": Peer(lambda: lambda: c @ d, 1 / 1.25, harness.within(0.1))},
            side**3,
            "multiply-adds",
        )
    yield comparison(c, d)


def comparison(a: np.ndarray, b: np.ndarray) -> Case:
    """Compare the usual recipes: beside their products, and a float64 one to judge them by."""
    (m, k), n = a.shape, b.shape[1]

    def products() -> None:
        float_product(a.astype(np.float64), b.astype(np.float64))
        for name in DEFAULT_RECIPES:
            fp8sim.matmul(a, b, name)

    return Case(
        f"compare of {len(DEFAULT_RECIPES)} recipes, {m} x {n} x {k}",
        lambda: fp8sim.compare(a, b),
        {"its products and one in float64": Peer(lambda: products, 1 / 1.6, check=None)},
        len(DEFAULT_RECIPES) * m * n * k,
        "multiply-adds",
    )


def readable_sums(accumulator: Accumulator, a: Quantized, b: Quantized) -> np.ndarray:
    """Sum without any kernel."""
    with _kernels.readable():
        return accumulator.multiply(a, b)


def mmaemu_product(a: np.ndarray, b: np.ndarray) -> harness.Call:
    """Chain the same Hopper FP8 steps with the emulator mmaemu."""
    import torch
    from mmaemu.model.chain import chain_gemm

    codes = [
        torch.from_numpy(np.ascontiguousarray(fp8sim.encode(x, "e4m3").view(np.uint8))) for x in (a, b.T)
    ]
    return lambda: chain_gemm(*codes, fmt_a="e4m3", fmt_b="e4m3", preset="hopper").numpy()


if __name__ == "__main__":
    sys.exit(harness.main("products", "Products", cases))
