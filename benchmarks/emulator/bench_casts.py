"""Casts against numpy with ml_dtypes, torch, jax and gfloat: `python benchmarks/emulator/bench_casts.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import ml_dtypes
import numpy as np

import fp8sim
import harness
from harness import Case, Options, Peer


def cases(options: Options) -> Iterator[Case]:
    """Yield the casts; the values need no saturation, on which the peers differ."""
    x = options.rng().standard_normal(1 << (12 if options.smoke else 24), dtype=np.float32)
    yield from to_e4m3(x)
    yield from to_16_bits(x)
    yield from_e4m3(fp8sim.encode(x, "e4m3"))
    x64 = x.astype(np.float64) * (1 + 2.0**-40)  # ml_dtypes would round twice
    yield case(
        "float64 to E4M3 codes",
        lambda: fp8sim.encode(x64, "e4m3"),
        {"gfloat": Peer(lambda: gfloat_encode(x64, "format_info_ocp_e4m3"))},
        x64.size,
    )


def case(name: str, ours: harness.Call, peers: dict[str, Peer], size: int) -> Case:
    """Name a case after what it does and to how many elements."""
    return Case(f"{name}, {size / 2**20:g} Mi elements", ours, peers, size, "elements")


def to_e4m3(x: np.ndarray) -> Iterator[Case]:
    """Yield encoding and rounding to E4M3."""
    yield case(
        "float32 to E4M3 codes",
        lambda: fp8sim.encode(x, "e4m3"),
        {
            "torch": Peer(lambda: torch_cast(x, "float8_e4m3fn"), goal=1.5),
            "jax jit": Peer(lambda: jax_cast(x, "float8_e4m3fn")),
            "ml_dtypes": Peer(lambda: lambda: x.astype(ml_dtypes.float8_e4m3fn), goal=25),
            "gfloat": Peer(lambda: gfloat_encode(x, "format_info_ocp_e4m3")),
        },
        x.size,
    )
    yield case(
        "round to E4M3, float32 to float32",
        lambda: fp8sim.round_to(x, "e4m3"),
        {
            "jax jit": Peer(lambda: jax_cast(x, "float8_e4m3fn", back=True), goal=2),
            "a copy of the array": Peer(lambda: x.copy, goal=0.8, check=None),
            "torch": Peer(lambda: torch_cast(x, "float8_e4m3fn", back=True)),
            "ml_dtypes": Peer(lambda: lambda: x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)),
            "gfloat": Peer(lambda: gfloat_round(x, "format_info_ocp_e4m3", "TiesToEven")),
        },
        x.size,
    )
    yield case(
        "round to E4M3 toward zero",
        lambda: fp8sim.round_to(x, "e4m3", rounding="toward-zero"),
        {"gfloat": Peer(lambda: gfloat_round(x, "format_info_ocp_e4m3", "TowardZero"))},
        x.size,
    )


def to_16_bits(x: np.ndarray) -> Iterator[Case]:
    """Yield the formats that FP8 is compared with."""
    yield case(
        "float32 to BF16",
        lambda: fp8sim.encode(x, "bf16"),
        {
            "torch": Peer(lambda: torch_cast(x, "bfloat16")),
            "jax jit": Peer(lambda: jax_cast(x, "bfloat16")),
            "ml_dtypes": Peer(lambda: lambda: x.astype(ml_dtypes.bfloat16)),
        },
        x.size,
    )
    yield case(
        "float32 to FP16",
        lambda: fp8sim.encode(x, "fp16"),
        {
            "torch": Peer(lambda: torch_cast(x, "float16")),
            "numpy": Peer(lambda: lambda: x.astype(np.float16)),
        },
        x.size,
    )


def from_e4m3(codes: np.ndarray) -> Case:
    """Return the way back."""
    return case(
        "E4M3 codes to float32",
        lambda: fp8sim.decode(codes, "e4m3"),
        {
            "torch": Peer(lambda: torch_decode(codes)),
            "ml_dtypes": Peer(lambda: lambda: codes.astype(np.float32)),
        },
        codes.size,
    )


def torch_cast(x: np.ndarray, name: str, *, back: bool = False) -> harness.Call:
    """Cast with torch, in eager mode."""
    import torch

    tensor, dtype = torch.from_numpy(x), getattr(torch, name)
    return (lambda: tensor.to(dtype).to(tensor.dtype)) if back else (lambda: tensor.to(dtype))


def torch_decode(codes: np.ndarray) -> harness.Call:
    """Turn E4M3 codes into float32 with torch."""
    import torch

    tensor = torch.from_numpy(codes.view(np.uint8)).view(torch.float8_e4m3fn)
    return lambda: tensor.to(torch.float32)


def jax_cast(x: np.ndarray, name: str, *, back: bool = False) -> harness.Call:
    """Cast with jax, compiled."""
    import jax
    import jax.numpy as jnp

    dtype = getattr(jnp, name)
    cast = jax.jit(lambda a: a.astype(dtype).astype(a.dtype) if back else a.astype(dtype))
    array = jnp.asarray(x)
    return lambda: cast(array).block_until_ready()


def gfloat_round(x: np.ndarray, name: str, mode: str) -> harness.Call:
    """Round with gfloat's numpy code."""
    import gfloat
    import gfloat.formats

    info, rounding = getattr(gfloat.formats, name), gfloat.RoundMode[mode]
    return lambda: gfloat.round_ndarray(info, x, rounding).astype(x.dtype)


def gfloat_encode(x: np.ndarray, name: str) -> harness.Call:
    """Round and encode with gfloat's numpy code."""
    import gfloat
    import gfloat.formats

    info = getattr(gfloat.formats, name)
    return lambda: gfloat.encode_ndarray(info, gfloat.round_ndarray(info, x)).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(harness.main("casts", "Casts", cases))
