"""The fused steps of a tensor core, chained over k, and where scales come in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.typing import F32
from fp8sim.accumulators.base import Accumulator
from fp8sim.casts import decode
from fp8sim.quantization import Quantized
from fp8sim.tensor_cores import TensorCore, split_interval
from fp8sim.tensor_cores.problem import check_problem, coded_side
from fp8sim.tensor_cores.product import multiply

__all__ = ["TensorCoreSum", "multiply_codes", "scale_sums"]


@final
@dataclass(frozen=True)
class TensorCoreSum(Accumulator):
    """The fused steps of a tensor core, chained over k.

    Finished sums are multiplied by the product of two scales of tensors, by scales of rows one after the
    other, B's first: so are cuBLAS's words on an H100 and an H200. Where scales change along k, a chain
    ends with its block, and enters an FP32 sum times its two scales (DeepSeek-V3's promotion). MX and
    NVFP4 cores multiply by the block scales themselves. Codes of a format that the core has not go to it
    in the first one that has their values: E2M1 as E4M3, and E4M3 as BF16.

    Parameters
    ----------
    core : TensorCore
        How one step is summed; a name such as ``"hopper-fp8/128"`` is looked up.
    promote_every : int, optional
        Elements of k after which a chain is promoted to FP32; None: only where scales change.

    Examples
    --------
    >>> from fp8sim.tensor_cores import TENSOR_CORES
    >>> TensorCoreSum(TENSOR_CORES["hopper-fp8"], promote_every=128).name
    'hopper-fp8/128'
    """

    core: TensorCore
    promote_every: int | None = None

    def __post_init__(self) -> None:
        """Look up the core."""
        core, interval = split_interval(self.core, self.promote_every)
        object.__setattr__(self, "core", core)
        object.__setattr__(self, "promote_every", interval)
        checks.fields(self, promote_every=(1, None))

    @property
    def name(self) -> str:
        """What tables call it: the core, and the promotion interval after a slash."""
        return f"{self.core.name}/{self.promote_every}" if self.promote_every else self.core.name

    def interval(self, a: Quantized, b: Quantized) -> int | None:
        """Return after how many elements of k a chain ends; None: one chain over all of k."""
        changing = [size for size in (a.sizes[1], b.sizes[0]) if size < a.shape[1]]
        if self.promote_every or self.core.scale_format is not None or not changing:
            return self.promote_every
        return math.gcd(*changing)

    @default_environment
    def multiply(self, a: Quantized, b: Quantized) -> F32:
        """Return the sums of the codes' products, times the scales."""
        if self.core.scale_format is not None:
            return self._with_scales_inside(a, b)
        k, a_group, b_group = a.shape[1], a.sizes[1], b.sizes[0]
        if a_group >= k and b_group >= k:  # one scale per row of A and column of B
            sums = multiply_codes(a, b, self.core, promote_every=self.promote_every)
            if not k:
                return sums
            return scale_sums(sums, a, b, _per_block(a, 1, k), _per_block(b, 0, k))
        every = self.interval(a, b)
        assert every is not None
        if any(size % every for size in (a_group, b_group) if size < k):
            raise ValueError(
                f"a promotion every {every} of k would straddle scales that change every {a_group} (A) "
                f"and {b_group} (B); promote every {math.gcd(a_group, b_group)}"
            )
        scales = _per_block(a, 1, every), _per_block(b, 0, every)
        return multiply_codes(a, b, self.core, promote_every=every, promotion=scales)

    def _with_scales_inside(self, a: Quantized, b: Quantized) -> F32:
        core, block = self.core, self.core.scale_block
        for side, what, along in ((a, "A", a.sizes[1]), (b, "B", b.sizes[0])):
            if side.scaling.scale_format != core.scale_format or (along % block and along < a.shape[1]):
                raise ValueError(
                    f"{core.name} multiplies by {core.scale_format} scales of {block} elements of k, and "
                    f"{what} has {side.scaling}; use that scaling, or another accumulator"
                )
        scales = _per_block(a, 1, block, inside=True), _per_block(b, 0, block, inside=True)
        sums = multiply_codes(a, b, core, promote_every=self.promote_every, scales=scales)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return sums * np.float32(a.tensor_scale * b.tensor_scale)


def scale_sums(sums: F32, a: Quantized, b: Quantized, a_scales: F32, b_scales: F32) -> F32:
    """Multiply finished sums by scales (m, 1) of A and (n,) of B: those of rows one after the other."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if a.scaling.granularity == b.scaling.granularity == "row":
            return np.asarray((sums * b_scales) * a_scales, dtype=np.float32)
        return np.asarray(sums * (a_scales * b_scales), dtype=np.float32)


def multiply_codes(a: Quantized, b: Quantized, core: TensorCore, **options: Any) -> F32:
    """Multiply codes (m, k) and (k, n) on a core, straight from where they were quantised: not checked again.

    Their scales are not looked at. `options` are ``c``, ``promote_every`` and ``scales`` of
    `tensor_core_matmul`, and ``promotion``: scales of whole chains, one per row of A and chain, and per chain
    and column of B.
    """
    left, right = (
        coded_side(x.codes, x.fmt, core, what, finite=x.is_scaled or not (x.fmt.has_inf or x.fmt.has_nan))
        for x, what in ((a, "a"), (b, "b"))
    )
    return multiply(check_problem(left, right, core, **options))


def _per_block(x: Quantized, k_axis: int, block: int, *, inside: bool = False) -> F32:
    """Return one scale per row (or column) of `x` and `block` elements of k."""
    scales = decode(x.scale_codes, x.scaling.scale_format) if inside else x.scales
    across = 1 - k_axis
    blocks = np.arange(-(-x.shape[k_axis] // block)) * block // x.sizes[k_axis]
    lines = np.arange(x.shape[across]) // x.sizes[across]
    return np.ascontiguousarray(scales.take(blocks, axis=k_axis).take(lines, axis=across))
