"""Walk all 2^32 float32 inputs through E4M3 and E5M2 and compare with ml_dtypes, bit for bit.

`python benchmarks/emulator/exhaustive_float32.py` takes some minutes; `--smoke` walks one input in 65,537.
ml_dtypes casts with the `ieee` policy; `saturate` is compared with its cast of the clipped input.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

import ml_dtypes
import numpy as np

import fp8sim

CHUNK = 1 << 22
FORMATS = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}
INPUTS = 1 << 32


def main(argv: list[str] | None = None) -> int:
    """Compare; return 1 at the first chunk that differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="one input of 65,537 only")
    smoke = parser.parse_args(argv).smoke

    start, done = time.perf_counter(), 0
    for bits in chunks(smoke):
        x = bits.view(np.float32)
        for name, dtype in FORMATS.items():
            wrong = differences(x, name, dtype)
            if wrong.any():
                worst = int(bits[wrong][0])
                print(f"{name}: {int(wrong.sum())} inputs differ, the first is 0x{worst:08x}")
                return 1
        done += bits.size
        if sys.stderr.isatty():
            share, seconds = done / INPUTS, time.perf_counter() - start
            print(f"\r{share:6.1%} of 2^32, {seconds:.0f} s", end="", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    print(f"{done:,} float32 inputs, E4M3 and E5M2, ieee and saturate: equal to ml_dtypes ({seconds:.0f} s)")
    return 0


def chunks(smoke: bool) -> Iterator[np.ndarray]:
    """Yield the bits of the inputs, some millions at a time."""
    if smoke:
        yield np.arange(0, INPUTS, 65_537, dtype=np.uint64).astype(np.uint32)
        return
    for first in range(0, INPUTS, CHUNK):
        yield np.arange(first, first + CHUNK, dtype=np.uint64).astype(np.uint32)


def differences(x: np.ndarray, name: str, dtype: type) -> np.ndarray:
    """Return where a code differs from that of ml_dtypes under either policy; of NaN only NaN is asked."""
    top = np.float32(fp8sim.get_format(name).max)
    with np.errstate(invalid="ignore"):
        expected = {"ieee": x.astype(dtype), "saturate": np.clip(x, -top, top).astype(dtype)}
    wrong = np.zeros(x.shape, bool)
    for policy, codes in expected.items():
        ours = fp8sim.encode(x, name, overflow=policy)
        unequal = ours.view(np.uint8) != codes.view(np.uint8)
        if unequal.any():
            unequal &= ~(np.isnan(ours) & np.isnan(codes) & (np.signbit(ours) == np.signbit(codes)))
        wrong |= unequal
        rounded = fp8sim.round_to(x, name, overflow=policy)
        wrong |= (rounded != codes.astype(np.float32)) & ~(np.isnan(rounded) & np.isnan(codes))
    return wrong


if __name__ == "__main__":
    sys.exit(main())
