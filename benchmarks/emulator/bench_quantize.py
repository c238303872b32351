"""Block quantisation against the same lines in torch and numpy.

`python benchmarks/emulator/bench_quantize.py` runs it.

`fp8sim.quantize` also refuses NaN and infinity, and counts what saturated and what became zero. The peers
do all of that, so that the work is the same; those named "bare" leave it out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

import fp8sim
import harness
from fp8sim import _kernels
from fp8sim.quantization import Operand, Scaling, quantize_with
from harness import Case, Options, Peer

E4M3 = fp8sim.get_format("e4m3")
OTHERS = [
    ("E4M3, 1x128 down the columns", Scaling("1x128"), 0),
    ("E4M3, 128x128", Scaling("128x128"), 0),
    ("E4M3, one scale", Scaling("tensor"), 1),
    ("MXFP8: E4M3, 1x32, E8M0 floor", Scaling("1x32", "e8m0", "floor"), 1),
]


def cases(options: Options) -> Iterator[Case]:
    """Yield block quantisations of one square matrix, and the way back."""
    n = 256 if options.smoke else 4096
    x = options.rng().standard_normal((n, n), dtype=np.float32)

    def case(name: str, ours: harness.Call, peers: dict[str, Peer]) -> Case:
        return Case(f"{name}, {n} x {n}", ours, peers, x.size, "elements")

    compiled = {
        "torch.compile": Peer(lambda: torch_quantize(x, counts=True, compiled=True), goal=1.3, check=same),
        "torch.compile, bare": Peer(lambda: torch_quantize(x, counts=False, compiled=True), check=same),
    }
    yield case(
        "E4M3, 1x128",
        lambda: fp8sim.quantize(x, "e4m3", "1x128"),
        {
            "torch": Peer(lambda: torch_quantize(x, counts=True), goal=15, check=same),
            "torch, bare": Peer(lambda: torch_quantize(x, counts=False), check=same),
            **({} if options.smoke else compiled),  # takes a C++ compiler and many seconds to build
            "numpy and ml_dtypes": Peer(lambda: lambda: numpy_quantize(x), check=same),
            "fp8sim's readable way": Peer(lambda: lambda: readable(x, Scaling("1x128"), 1), check=same),
        },
    )
    for name, scaling, axis in OTHERS:
        yield case(
            name,
            lambda scaling=scaling, axis=axis: quantize_with(x, Operand(E4M3, scaling), axis=axis),
            {
                "fp8sim's readable way": Peer(
                    lambda scaling=scaling, axis=axis: lambda: readable(x, scaling, axis), check=same
                )
            },
        )
    quantized = fp8sim.quantize(x, "e4m3", "1x128")
    yield case(
        "back to float32, 1x128",
        quantized.dequantize,
        {"numpy and ml_dtypes": Peer(lambda: lambda: numpy_dequantize(quantized))},
    )


def same(ours: fp8sim.Quantized, theirs: Any) -> None:
    """Require equal codes and scales, and equal counts where the peer has them."""
    codes, scales, *counts = theirs
    harness.same_bits((ours.codes, ours.scales), (codes, scales))
    if counts and [int(count) for count in counts] != [ours.saturated, ours.flushed]:
        raise AssertionError(f"counts {counts} differ from {ours.saturated}, {ours.flushed}")


def torch_quantize(x: np.ndarray, *, counts: bool, compiled: bool = False) -> harness.Call:
    """Quantise 1x128 to E4M3 in torch, in eager mode or compiled."""
    import torch

    def lines(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        groups = x.reshape(x.shape[0], -1, 128)
        amax = groups.abs().amax(-1, keepdim=True)
        scales = torch.where(amax > 0, (amax / 448).clamp(min=2.0**-149), 1.0)
        scaled = groups / scales
        codes = scaled.to(torch.float8_e4m3fn)
        found = codes.reshape(x.shape), scales.squeeze(-1)
        if not counts:
            return found
        flushed = (codes.to(torch.float32) == 0) & (groups != 0)
        return *found, (scaled.abs() > 464).sum(), flushed.sum(), torch.isfinite(amax).all()

    run, tensor = torch.compile(lines) if compiled else lines, torch.from_numpy(x)

    def call() -> tuple[torch.Tensor, ...]:
        found = run(tensor)
        if not counts:
            return found
        if not found[-1]:
            raise ValueError("x holds NaN or infinity")
        return found[:-1]

    return call


def numpy_quantize(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Quantise 1x128 to E4M3 in numpy, with ml_dtypes' cast."""
    groups = x.reshape(x.shape[0], -1, 128)
    amax = np.abs(groups).max(-1, keepdims=True)
    if not np.isfinite(amax).all():
        raise ValueError("x holds NaN or infinity")
    scales = np.where(amax > 0, np.maximum(amax / np.float32(448), np.float32(2.0**-149)), np.float32(1))
    scaled = groups / scales
    codes = scaled.astype(ml_dtypes.float8_e4m3fn)
    flushed = (codes.view(np.uint8) & 0x7F == 0) & (groups != 0)
    saturated = np.count_nonzero(np.abs(scaled) > 464)
    return codes.reshape(x.shape), scales[..., 0], saturated, np.count_nonzero(flushed)


def numpy_dequantize(q: fp8sim.Quantized) -> np.ndarray:
    """Multiply codes by their scales in numpy."""
    values = q.codes.astype(np.float32).reshape(q.shape[0], -1, 128) * q.scales[..., None]
    return values.reshape(q.shape)


def readable(x: np.ndarray, scaling: Scaling, axis: int) -> tuple[Any, ...]:
    """Quantise as fp8sim's numpy code does."""
    with _kernels.readable():
        q = quantize_with(x, Operand(E4M3, scaling), axis=axis)
    return q.codes, q.scales, q.saturated, q.flushed


if __name__ == "__main__":
    sys.exit(harness.main("quantize", "Block quantisation", cases))
