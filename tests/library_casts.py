"""Casts of other libraries, as fp8sim names them, and the arrays on which they were recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fp8sim.quantization import Operand, Scaling

Array = npt.NDArray[Any]

TK, TK_E5M6 = "TileKernels tile_kernels/torch/cast.py", "TileKernels tile_kernels/torch/cast_e5m6.py"
TE_CURRENT = "TransformerEngine custom_recipes/reference_current_scaling.py"
TE_BLOCKS = "TransformerEngine tests/pytorch/references/blockwise_quantizer_reference.py"
TE_NVFP4 = "TransformerEngine custom_recipes/reference_nvfp4.py"

FLOOR, FLOOR_E2M1 = 1e-4, 6 * 2.0**-126  # get_min_clamp_val of TileKernels


def _nvfp4(granularity: str, rule: str) -> tuple[str, Operand]:
    return TE_NVFP4, Operand("e2m1", Scaling(granularity, "e4m3", rule, division="te-nvfp4"))


#: name -> the file that says what it is, and what it is here.
CASTS: dict[str, tuple[str, Operand]] = {
    "tk e4m3 1x128": (TK, Operand("e4m3", Scaling("1x128", "fp32", "amax", FLOOR, "reciprocal"))),
    "tk e4m3 128x128": (TK, Operand("e4m3", Scaling("128x128", "fp32", "amax", FLOOR, "reciprocal"))),
    "tk e4m3 row": (TK, Operand("e4m3", Scaling("row", "fp32", "amax", FLOOR, "reciprocal"))),
    "tk e2m1 1x32": (TK, Operand("e2m1", Scaling("1x32", "fp32", "amax", FLOOR_E2M1, "reciprocal"))),
    "tk e4m3 1x32 e8m0": (TK, Operand("e4m3", Scaling("1x32", "e8m0", "ceil", FLOOR, "reciprocal"))),
    "tk e4m3 32x32 e8m0": (TK, Operand("e4m3", Scaling("32x32", "e8m0", "ceil", FLOOR))),
    "tk e2m1 1x32 e8m0": (TK, Operand("e2m1", Scaling("1x32", "e8m0", "ceil", FLOOR_E2M1))),
    "tk e5m6 row": (TK_E5M6, Operand("e5m6", Scaling("row", "fp32", "amax", FLOOR, "reciprocal"))),
    "te e4m3 tensor": (TE_CURRENT, Operand("e4m3", Scaling("tensor", division="te-current"))),
    "te e5m2 tensor": (TE_CURRENT, Operand("e5m2", Scaling("tensor", division="te-current"))),
    "te e4m3 1x128": (TE_BLOCKS, Operand("e4m3", Scaling("1x128", division="te-current"))),
    "te e4m3 128x128": (TE_BLOCKS, Operand("e4m3", Scaling("128x128", division="te-current"))),
    **{
        f"te nvfp4 {granularity} {rule}": _nvfp4(granularity, rule)
        for granularity in ("1x16", "16x16")
        for rule in ("amax", "4over6", "4over6-mse")
    },
}

KINDS = ("normal", "normal fp32", "spread", "outliers", "specials", "tiny", "zeros", "ties")


def to_bf16(x: Array) -> Array:
    """Cut float32 to BF16 values: what is left is BF16, whichever way it was rounded."""
    return (x.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def is_bf16(kind: str) -> bool:
    """Whether the arrays of a kind are given to the library in BF16."""
    return kind not in ("normal fp32", "specials", "tiny", "ties")


def draw(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Draw an array of a kind, float32."""
    x = rng.standard_normal(shape)
    match kind:
        case "spread":  # by rows, over many binades
            x *= np.exp2(rng.normal(0, 6, (shape[0], 1)))
        case "outliers":  # one in fifty is thirty-one times as large
            x[rng.random(shape) < 0.02] *= 31
        case "specials":
            x = _specials(shape, rng)
        case "tiny":  # subnormal, so that the multiplier is the largest number
            x *= 1e-40
        case "zeros":
            x = np.zeros(shape)
        case "ties":
            x = _ties(shape, rng)
    x = x.astype(np.float32)
    return to_bf16(x) if is_bf16(kind) else x


def _ties(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Blocks of 16 whose scales of NVFP4 are within a few last places of the middle between two of E4M3."""
    top, middle = 6.7, (rng.integers(8, 15, (shape[0], -(-shape[1] // 16))) + 0.5) * 16
    bound = np.where(np.arange(shape[0]) % 2, 6 * 448, 6 * 256)[:, None]  # without and with 4over6
    amax = (middle * 6 * top / bound * np.exp2(-rng.integers(1, 4, middle.shape))).astype(np.float32)
    amax = (amax.view(np.uint32) + rng.integers(-2, 3, amax.shape)).astype(np.uint32).view(np.float32)
    x = rng.uniform(-1, 1, shape) * np.repeat(amax, 16, axis=1)[:, : shape[1]]
    x[:, ::16] = amax
    x[0, 0] = top
    return x


def _specials(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Lines of zeros, of one value, of what ends exactly at a largest value, of subnormals and ties."""
    x = np.zeros(shape)
    for row in range(shape[0]):
        match row % 8:
            case 1:
                x[row] = 2.0 ** rng.integers(-100, 100)
            case 2:
                x[row] = rng.choice([448.0, 1.0, 3.0, 0.5], shape[1])
            case 3:
                x[row] = rng.choice([6.0, 5.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, -0.25, -2.5], shape[1])
            case 4:
                x[row] = rng.standard_normal(shape[1]) * 1e-39
            case 5:
                x[row, ::37] = rng.choice([57344.0, 65024.0, -1e-30], len(x[row, ::37]))
            case 6:
                x[row] = np.exp2(rng.integers(-140, 120, shape[1]).astype(float))
            case 7:
                x[row, : shape[1] // 2] = rng.standard_normal(shape[1] // 2) * 1e-4
    return x


def count_differing(name: str, theirs: Array, own: Array) -> int:
    """Count codes that differ, but for -0, which TransformerEngine's reference of NVFP4 writes as 0.

    Its kernels do not: they convert by an instruction that keeps the sign.
    """
    differ = theirs != own
    if CASTS[name][0] == TE_NVFP4:
        differ &= (theirs != 0) | (own != 8)
    return int(np.count_nonzero(differ))


def tilekernels_e5m6(x: Array, codes: Array) -> Array:
    """Return what TileKernels writes for scaled `x` whose E5M6 codes are `codes`.

    Normal numbers are rounded to nearest even. Subnormal ones, below 2^-14, are cut to the multiples of
    2^-20; then the low 17 bits of the float32, those that a normal number drops, decide whether to go up by
    one, though they are worth something else here.
    """
    bits = x.astype(np.float32).view(np.uint32)
    subnormal = np.abs(x) < 2.0**-14
    cut = np.floor(np.where(subnormal, np.abs(x), 0).astype(np.float64) * 2**20).astype(np.uint32)
    up = (cut & 1) + (bits & 0x1FFFF) > 0x10000
    return np.where(subnormal, (bits >> 31 << 11) | (cut + up), codes).astype(np.uint16)
