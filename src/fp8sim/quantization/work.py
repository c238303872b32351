"""The steps that quantise an array: pick a scale for each group, divide by it, round to codes.

Where a scale depends on its own group alone and codes are rounded to nearest even, compiled code does all of
it in one pass over memory; everything else goes step by step, each step compiled where it can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from fp8sim._support import checks
from fp8sim._support.memory import empty
from fp8sim._support.threads import run_in_threads, split
from fp8sim._support.typing import F32, AnyArray, ArrayLike, FloatArray, Overflow, Rounding
from fp8sim.casts import decode, encode, overflow_policy, worth_compiling
from fp8sim.quantization.hadamard import transform
from fp8sim.quantization.operand import Operand
from fp8sim.quantization.scaling import group_sizes, parse_granularity, scales_shape
from fp8sim.quantization.tiling import LEAST, Place, Tiling
from fp8sim.reference.four_over_six import DENOMINATOR, choose, fold_rows, row_errors
from fp8sim.reference.scales import (
    Scales,
    apply_scales,
    count_beyond,
    group_amax,
    group_percentile,
    pick_scales,
)

__all__ = ["Work"]

TALLEST, WIDEST = 256, 1 << 14  # larger tiles do not stay in a cache between two readings


@dataclass(frozen=True)
class Work:
    """An array on its way through the pipeline."""

    x: FloatArray
    operand: Operand
    sizes: tuple[int, ...]  #: elements that share a scale along each axis
    axis: int
    what: str
    compiled: bool  #: whether the steps are compiled
    top: float = 0.0  #: largest magnitude of the tensor that this is rows of

    @classmethod
    def of(cls, x: ArrayLike, operand: Operand, axis: int, what: str, top: float = 0.0) -> Work:
        """Check the array and the format."""
        array, fmt = checks.as_float(x, what), operand.fmt
        if not (fmt.signed and fmt.zero):
            raise ValueError(f"{fmt} has no zero or no sign: it holds scales, not the elements of an array")
        if operand.in_fp32:
            array = _in_fp32(array, operand, what)
        sizes = group_sizes(operand.scaling.granularity, array.shape, axis)
        if operand.hadamard:
            array = transform(array, operand, axis, what)
        odd = not operand.is_scaled and not fmt.has_nan  # `encode` refuses what such a format has not
        return cls(array, operand, sizes, axis, what, worth_compiling(array.size) and not odd, top)

    @property
    def policy(self) -> Overflow:
        """What becomes of an overflow: scaled elements saturate, whatever their format."""
        return "saturate" if self.operand.is_scaled else overflow_policy(self.operand.fmt, None)

    @cached_property
    def tiling(self) -> Tiling:
        """How the array is cut for kernels and threads."""
        return Tiling.of(self.x, self.sizes)

    @property
    def fits_one_pass(self) -> bool:
        """Whether kernels can pick each scale from its own group while that is in a cache."""
        scaling = self.operand.scaling
        own_scales = self.operand.is_scaled and scaling.scale_format != "e4m3" and not scaling.is_calibrated
        own_scales = own_scales and not (self.top and scaling.granularity == "tensor")
        if not (self.compiled and own_scales and self.x.dtype == np.float32):
            return False
        return self.operand.fmt.emax >= 1 and self.tiling.rows <= TALLEST and self.tiling.columns <= WIDEST

    def in_one_pass(self) -> tuple[Scales, AnyArray, int, int] | None:
        """Pick scales and encode at once.

        None where compiled code does not serve this, or where the array is not finite or a scale does not
        fit: the way in steps says so.
        """
        if not self.fits_one_pass:
            return None
        from fp8sim._kernels.quantize_kernels import quantize_rows, scale_rule

        fmt, scaling, t, p = self.operand.fmt, self.operand.scaling, self.tiling, self.nearest
        r = scale_rule(fmt, str(scaling.scale_rule), scaling.amax_floor, scaling.division)
        if p is None:
            return None
        stack, codes, scales = (
            t.stack(self.x, t.shape),
            empty(t.shape, fmt.code_dtype),
            np.empty(t.tiles, np.float32),
        )
        multipliers = np.empty_like(scales) if r.multiply else scales

        def run(element: Place, tile: Place) -> Any:
            grids = scales[tile], multipliers[tile]
            return quantize_rows(stack[element], codes[element], grids, t.tile, r, p)

        tops, saturated, flushed = zip(*run_in_threads(run, t.pieces(whole=True)), strict=True)
        if max(tops) == np.inf:
            return None
        values = self._of_groups(scales)
        stored = values if scaling.scale_format == "fp32" else encode(values, scaling.scale_format)
        codes = t.unstack(codes, self.x.shape).view(fmt.dtype)
        return Scales(values, stored), codes, sum(saturated), sum(flushed)

    def pick(self) -> Scales:
        """Pick the scales in a pass of their own."""
        if not self.operand.is_scaled:
            ones = np.ones(scales_shape("none", self.x.shape, self.axis), np.float32)
            return Scales(ones, ones)
        amax = self._group_amax() if self.compiled else group_amax(self.x, self.sizes)
        if not np.isfinite(amax).all():
            checks.finite(self.x, self.what, "a group that holds one has no scale")
        scaling = self.operand.scaling
        if scaling.granularity == "tensor":
            amax = np.maximum(amax, amax.dtype.type(self.top))
        if scaling.amax is not None:
            amax = np.full_like(amax, scaling.amax)
        elif scaling.percentile < 100:
            level = group_percentile(self.x, self.sizes, scaling.percentile)
            amax = np.where(level > 0, level, amax)
        pick = partial(
            pick_scales,
            amax,
            self.operand.fmt,
            scale_format=scaling.scale_format,
            scale_rule=scaling.scale_rule,
            amax_floor=scaling.amax_floor,
            division=scaling.division,
            top=self.top,
            encode=encode,
        )
        if not (scaling.four_over_six and amax.size):
            return pick()
        six, four = pick(), pick(stretch=1.5)
        top = np.float32(max(amax.max(initial=0), scaling.amax_floor, self.top))
        return choose(six, four, self._errors(four, top) < self._errors(six, top))

    def _errors(self, scales: Scales, top: np.float32) -> F32:
        """Return the error of each block under scales."""
        rule = str(self.operand.scaling.scale_rule)
        if self.compiled:
            errors = self._errors_compiled(scales, top, rule)
        else:
            errors = row_errors(self.x, scales, self.sizes, top, self.axis, rule)
        if parse_granularity(self.operand.scaling.granularity).rows > 1:
            errors = fold_rows(errors)
        return np.moveaxis(errors, -1, self.axis)

    def _errors_compiled(self, scales: Scales, top: np.float32, rule: str) -> F32:
        from fp8sim._kernels import four_over_six_kernels as kernels

        def along(x: AnyArray) -> AnyArray:
            """Return matrices with the reduction axis last."""
            moved = np.ascontiguousarray(np.moveaxis(x, self.axis, -1))
            return moved.reshape(-1, *moved.shape[-2:]) if moved.ndim > 1 else moved.reshape(1, 1, -1)

        inside = decode(scales.codes, self.operand.scaling.scale_format)
        by = scales.values if scales.multipliers is None else scales.multipliers
        x, grids = along(self.x), (along(by), along(inside))
        out = np.zeros((*x.shape[:2], grids[0].shape[2]), np.float32)
        tall = parse_granularity(self.operand.scaling.granularity).rows
        r = (True,) * (scales.multipliers is not None), rule == "4over6-mse", top, DENOMINATOR
        p = self.nearest

        def run(matrix: int, i: int, j: int) -> None:
            rows, tiles = slice(i, j), slice(i // tall, -(-j // tall))
            part = grids[0][matrix, tiles], grids[1][matrix, tiles]
            kernels.row_errors(x[matrix, rows], part, tall, r, p, out[matrix, rows])

        height = max(LEAST // max(x.shape[2], 1), 1) * tall
        run_in_threads(run, [(k, i, j) for k in range(len(x)) for i, j in split(x.shape[1], height)])
        shape = np.moveaxis(self.x, self.axis, -1).shape[:-1]
        return out.reshape(*shape, out.shape[2])

    def _group_amax(self) -> FloatArray:
        """Return the largest magnitude of each group; infinity or NaN where a group holds one."""
        from fp8sim._kernels.quantize_kernels import largest

        t, word = self.tiling, np.dtype(f"u{self.x.itemsize}")
        magnitude = word.type(2 ** (8 * self.x.itemsize - 1) - 1)
        stack, out = t.stack(self.x, t.shape).view(word), np.zeros(t.tiles, word)

        def run(element: Place, tile: Place) -> AnyArray:
            part = np.empty_like(out[tile])
            largest(stack[element], magnitude, t.tile, part)
            return part

        pieces = t.pieces()
        for (_, tile), part in zip(pieces, run_in_threads(run, pieces), strict=True):
            np.maximum(out[tile], part, out=out[tile])  # a tile may span pieces
        return self._of_groups(out.view(self.x.dtype))

    def _of_groups(self, grid: AnyArray) -> AnyArray:
        """Return numbers of the tiles as an array with one for each group."""
        shape = scales_shape(self.operand.scaling.granularity, self.x.shape, self.axis)
        return np.ascontiguousarray(self.tiling.unstack(grid, shape))

    def encode(
        self, scales: Scales, rounding: Rounding, rng: np.random.Generator | None, random_bits: int | None
    ) -> tuple[AnyArray, int, int]:
        """Return the codes, and how many elements saturated and how many became zero."""
        fmt = self.operand.fmt
        multiplied = scales.multipliers is not None
        if self.compiled and rounding == "nearest-even" and not (multiplied and self.nearest is None):
            return self._encode_compiled(scales)
        scaled = apply_scales(self.x, scales, self.sizes) if self.operand.is_scaled else self.x
        policy = self.policy
        codes = encode(scaled, fmt, rounding=rounding, overflow=policy, rng=rng, random_bits=random_bits)
        flushed = int(np.count_nonzero(self.x)) - int(np.count_nonzero(decode(codes, fmt)))
        return codes, count_beyond(scaled, fmt), flushed

    @property
    def nearest(self) -> Any:
        """What float32 kernels ask of the format; None where they do not serve this."""
        from fp8sim._kernels.quantize_kernels import nearest

        return nearest(self.operand.fmt, self.policy) if self.x.dtype == np.float32 else None

    def grids(self, scales: Scales) -> tuple[F32, F32]:
        """Return scales and multipliers of the tiles: twice the same where elements are divided."""
        t = self.tiling
        if not self.operand.is_scaled:
            return (np.ones(t.tiles, np.float32),) * 2
        grid = np.array(t.stack(scales.values, t.tiles))
        multipliers = scales.multipliers
        return grid, grid if multipliers is None else np.array(t.stack(multipliers, t.tiles))

    def _encode_compiled(self, scales: Scales) -> tuple[AnyArray, int, int]:
        """Divide by given scales, in the array's own dtype, or multiply; encode; NaN only if unscaled."""
        from fp8sim._kernels.cast_kernels import encode_nearest, encode_rows, mode
        from fp8sim._kernels.quantize_kernels import count_lost, given, quantize_rows

        fmt, t, scaled = self.operand.fmt, self.tiling, self.operand.is_scaled
        p, r = self.nearest, given(fmt, scales.multipliers is not None)
        general = mode(fmt, "nearest-even", self.policy)
        grid, multipliers = self.grids(scales)
        stack, codes = t.stack(self.x, t.shape), empty(t.shape, fmt.code_dtype)

        def run(element: Place, tile: Place) -> Any:
            values, part = stack[element], codes[element]
            if p is None:
                return encode_rows(values, part, grid[tile], t.tile, general)
            if scaled:
                return quantize_rows(values, part, (grid[tile], multipliers[tile]), t.tile, r, p)[1:]
            worst, least = encode_nearest(values[0], part[0], p)  # of one row
            return count_lost(values[0].view(np.uint32), p) if worst >= p.over or least <= p.flush else (0, 0)

        saturated, flushed = zip(*run_in_threads(run, t.pieces()), strict=True)
        return t.unstack(codes, self.x.shape).view(fmt.dtype), sum(saturated), sum(flushed)


def _in_fp32(x: FloatArray, operand: Operand, what: str) -> F32:
    """Round elements to FP32, in which the arithmetic of a kernel is done."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # invalid: a signalling NaN
        rounded = x.astype(np.float32, copy=False)
    if x.dtype != np.float32 and (np.isinf(rounded) & np.isfinite(x)).any():
        raise ValueError(f"{what} holds numbers beyond FP32, in which {operand} is done; divide it first")
    return rounded
