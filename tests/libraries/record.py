"""Record what the casts of other libraries write, and compare with fp8sim.

The casts are PyTorch references that TileKernels and TransformerEngine publish beside their kernels and test
these against. They run here on the CPU, from checkouts that this script is given; what they write for arrays
of our own making goes to `tests/data/library_casts.npz`, for a replay without them (`tests/test_divisions.py`).

Needs PyTorch, and what fp8sim needs:

    PYTHONPATH=src:tests python tests/libraries/record.py --tilekernels PATH --te PATH [--elements 10000000]

With `--elements`, as many elements of each of four kinds are compared for each cast on the spot, and nothing is
recorded.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fp8sim.quantization import Operand, quantize_with
from library_casts import (
    CASTS,
    KINDS,
    TE_BLOCKS,
    TE_CURRENT,
    TE_NVFP4,
    TK,
    TK_E5M6,
    Array,
    count_differing,
    draw,
    is_bf16,
    tilekernels_e5m6,
)

DATA = Path(__file__).parents[1] / "data"
SHAPE = 24, 136  # ragged in blocks of 16, 32 and 128
CUSTOM = "transformer_engine.pytorch.custom_recipes"


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201


def stub(name: str, path: Path | None = None, **contents: Any) -> types.ModuleType:
    """Put a module in the place of one that needs a GPU, or of a package of which one file is wanted."""
    module = types.ModuleType(name)
    module.__dict__.update(contents, __path__=[str(path)] if path else [])
    sys.modules[name] = module
    return module


class Quantizer:
    """The part of TransformerEngine's Quantizer that its references use."""

    def __init__(self, rowwise: bool = True, columnwise: bool = True) -> None:
        self.rowwise_usage, self.columnwise_usage = rowwise, columnwise


def load(tilekernels: Path, te: Path) -> types.SimpleNamespace:
    """Import the references out of the checkouts."""
    stub("transformer_engine")
    stub("transformer_engine.pytorch")
    stub("transformer_engine.pytorch.quantized_tensor", QuantizedTensorStorage=object, Quantizer=Quantizer)
    package = stub(CUSTOM, te / "transformer_engine/pytorch/custom_recipes")
    gemm_type = types.SimpleNamespace(FPROP=0, WGRAD=1)
    package.gemm = stub(f"{CUSTOM}.gemm", MMParams=object, GEMMType=gemm_type)  # type: ignore[attr-defined]
    stub("references", te / "tests/pytorch/references")
    stub("tile_kernels", tilekernels / "tile_kernels")
    stub("tile_kernels.torch", tilekernels / "tile_kernels/torch")
    stub("tile_kernels.quant", tilekernels / "tile_kernels/quant")
    stub("tile_kernels.quant.common", unpack_from_e2m1fn_x2=None)
    return types.SimpleNamespace(
        cast=importlib.import_module("tile_kernels.torch.cast").cast,
        e5m6=importlib.import_module("tile_kernels.torch.cast_e5m6").cast_to_e5m6,
        current=importlib.import_module(f"{CUSTOM}.reference_current_scaling").CurrentScalingQuantizerRef,
        blocks=importlib.import_module(
            "references.blockwise_quantizer_reference"
        ).BlockwiseQuantizerReference,
        nvfp4=importlib.import_module(f"{CUSTOM}.reference_nvfp4"),
    )


def halves(packed: torch.Tensor) -> Array:
    """Unpack two 4-bit codes a byte, the lower one first."""
    words = packed.view(torch.uint8).numpy()
    return np.stack([words & 15, words >> 4], axis=-1).reshape(words.shape[0], -1)


def twelves(packed: torch.Tensor) -> Array:
    """Unpack eight 12-bit codes in three 32-bit words, the highest one first."""
    a, b, c = np.moveaxis(packed.contiguous().numpy().view("<u4").reshape(packed.shape[0], -1, 3), -1, 0)
    eight = [a >> 20, a >> 8, a << 4 | b >> 28, b >> 16, b >> 4, b << 8 | c >> 24, c >> 12, c]
    return (np.stack(eight, axis=-1) & 0xFFF).astype(np.uint16).reshape(packed.shape[0], -1)


def run(library: types.SimpleNamespace, name: str, x: torch.Tensor) -> tuple[Array, Array]:
    """Return the codes and the stored scales that a library has for `x`."""
    source, operand = CASTS[name]
    scaling, (rows, columns) = operand.scaling, x.shape
    block = scaling.granularity.split("x")
    tile = (int(block[0]), int(block[1])) if len(block) == 2 else (1, columns)
    dtype = torch.float8_e5m2 if operand.fmt.name == "e5m2" else torch.float8_e4m3fn
    if source == TK:
        codes, scales = library.cast(x, operand.fmt.name, tile, round_sf=scaling.scale_format == "e8m0")
        return (halves(codes) if operand.fmt.bits == 4 else codes.view(torch.uint8).numpy()), scales.numpy()
    if source == TK_E5M6:
        codes, scales = library.e5m6(x, columns)
        return twelves(codes), scales.numpy()
    if source == TE_CURRENT:
        result = library.current(dtype, columnwise=False).quantize(x)
        return result.data.view(torch.uint8).numpy(), result.scale.numpy().reshape(1, 1)
    if source == TE_BLOCKS:
        result = library.blocks().quantize(x, dtype, quant_tile_shape=tile, munge_scale_shapes=False)
        return result.data.view(torch.uint8).numpy(), result.scale.numpy()
    assert source == TE_NVFP4
    mode = {"4over6": "MAE", "4over6-mse": "MSE"}.get(str(scaling.scale_rule))
    options = {"nvfp4_use_4over6": True, "nvfp4_e4m3_max": 256, "nvfp4_4over6_err_mode": mode} if mode else {}
    e2m1 = library.nvfp4.reference_utils.Fp4Formats.E2M1
    quantizer = library.nvfp4.NVFP4QuantizerRef(e2m1, columnwise=False, quant_tile_shape=tile, **options)
    result = quantizer.quantize(x)
    scales = result.scale.view(torch.uint8).numpy()[:: tile[0]]
    return halves(result.data), scales[: -(-rows // tile[0]), : -(-columns // tile[1])]


def ours(operand: Operand, x: Array) -> tuple[Array, Array]:
    """Return the codes and the stored scales that fp8sim has for `x`."""
    q = quantize_with(x, operand)
    codes = q.bits
    if operand.fmt.name == "e5m6":
        scaled = x * (np.float32(65024) / np.maximum(np.abs(x).max(1, keepdims=True), np.float32(1e-4)))
        codes = tilekernels_e5m6(scaled, codes)
    return codes, q.scale_codes.view(np.uint8) if operand.scaling.scale_format == "e4m3" else q.scales


def as_torch(x: Array, kind: str) -> torch.Tensor:
    """Give an array in the type of its kind."""
    tensor = torch.from_numpy(x)
    return tensor.to(torch.bfloat16) if is_bf16(kind) else tensor


def compare(library: types.SimpleNamespace, elements: int) -> None:
    """Compare many elements of each cast; say how many codes and scales differ."""
    shape, total = (512, 2048), 0
    for name, (_, operand) in CASTS.items():
        for kind in ("normal", "normal fp32", "spread", "outliers"):
            rng, seen, scales, wrong = np.random.default_rng([len(name), len(kind)]), 0, 0, [0, 0]
            while seen < elements:
                x = draw(kind, shape, rng)
                theirs, own = run(library, name, as_torch(x, kind)), ours(operand, x)
                wrong[0] += count_differing(name, theirs[0], own[0])
                wrong[1] += int(np.count_nonzero(theirs[1] != own[1]))
                seen, scales = seen + x.size, scales + theirs[1].size
            total += seen
            say(f"{name:26} {kind:12} {wrong[0]} of {seen} codes, {wrong[1]} of {scales} scales differ")
    say(f"{total} elements in all")


def record(library: types.SimpleNamespace, commits: dict[str, str]) -> None:
    """Write a sample of everything, and say what differs of it."""
    rng, arrays = np.random.default_rng(2026), {}
    for kind in KINDS:
        x = draw(kind, SHAPE, rng)
        arrays[kind] = (x.view(np.uint32) >> 16).astype(np.uint16) if is_bf16(kind) else x.view(np.uint32)
        for name, (_, operand) in CASTS.items():
            theirs, own = run(library, name, as_torch(x, kind)), ours(operand, x)
            arrays[f"{kind}/{name}/codes"], arrays[f"{kind}/{name}/scales"] = theirs
            codes, scales = count_differing(name, theirs[0], own[0]), np.count_nonzero(theirs[1] != own[1])
            if codes or scales:
                say(f"{name} {kind}: {codes} codes and {scales} scales differ")
    np.savez_compressed(DATA / "library_casts.npz", **arrays)
    about = {
        "about": "Codes and stored scales that casts of other libraries write for arrays of our own making",
        "arrays": "kind: bits of the elements, BF16 in 16 and FP32 in 32; kind/cast/codes; kind/cast/scales",
        "sources": commits,
        "licence": "Outputs recorded by running TileKernels (MIT, Copyright (c) 2026 DeepSeek) and "
        "TransformerEngine (Apache-2.0, Copyright (c) 2022-2026 NVIDIA CORPORATION); no code of theirs is here",
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    (DATA / "library_casts.json").write_text(json.dumps(about, indent=1) + "\n")


def commit(path: Path) -> str:
    """Return which commit a checkout is at."""
    return subprocess.run(
        ["git", "-C", str(path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tilekernels", type=Path, required=True, help="checkout of deepseek-ai/TileKernels")
    parser.add_argument("--te", type=Path, required=True, help="checkout of NVIDIA/TransformerEngine")
    parser.add_argument("--elements", type=int, help="compare this many of each kind, and record nothing")
    options = parser.parse_args()
    library = load(options.tilekernels, options.te)
    if options.elements:
        return compare(library, options.elements)
    names = {"deepseek-ai/TileKernels": options.tilekernels, "NVIDIA/TransformerEngine": options.te}
    return record(library, {name: commit(path) for name, path in names.items()})


if __name__ == "__main__":
    main()
