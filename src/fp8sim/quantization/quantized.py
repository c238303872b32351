"""An array as codes and scales, and the one pipeline that makes it: `quantize_with`.

Each group of elements gets a scale from its largest magnitude (amax), is divided by it, and is rounded to
codes. Where a scale depends on its own group alone and codes are rounded to nearest even, compiled code does
all of it in one pass over memory; everything else goes step by step, each step compiled where it can be. To
kernels and threads an array of any shape and layout is a stack of matrices in tiles that share a scale.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.memory import empty
from fp8sim._support.text import shown
from fp8sim._support.threads import get_num_threads, run_in_threads, split
from fp8sim._support.typing import F32, AnyArray, ArrayLike, FloatArray, Overflow, Rounding
from fp8sim.casts import check_random_bits, decode, encode, overflow_policy, worth_compiling
from fp8sim.formats import FloatFormat
from fp8sim.quantization.hadamard import transform, transform_text
from fp8sim.quantization.operand import FP32, Operand
from fp8sim.quantization.scaling import Scaling, group_sizes, parse_granularity, scales_shape
from fp8sim.reference.codes import decode_table
from fp8sim.reference.four_over_six import DENOMINATOR, choose, fold_rows, row_errors
from fp8sim.reference.rounding import ROUNDINGS
from fp8sim.reference.scales import (
    Scales,
    apply_scales,
    count_beyond,
    expand_groups,
    group_amax,
    group_percentile,
    pick_scales,
)

__all__ = ["Place", "Quantized", "Tiling", "Work", "quantize_with"]

LEAST = 1 << 16  # elements worth handing to a thread
TALLEST, WIDEST = 256, 1 << 14  # larger tiles do not stay in a cache between two readings

Place: TypeAlias = tuple[int, slice, slice]  # of a part of a stack: which matrix, its rows and its columns


@default_environment
def quantize_with(
    x: ArrayLike,
    operand: Operand,
    *,
    axis: int = -1,
    rounding: Rounding = "nearest-even",
    rng: np.random.Generator | None = None,
    random_bits: int | None = None,
    scales: Scales | None = None,
    what: str = "x",
) -> Quantized:
    """Quantise as `quantize` does, with format and scaling in one `Operand`.

    `scales` are known beforehand (delayed, static), instead of picked ones; errors call the array `what`.

    Examples
    --------
    >>> quantize_with([1.0, 2.0], Operand("e4m3", Scaling("row"))).codes
    array([224, 448], dtype='float8_e4m3fn')
    """
    checks.of_kind(operand, Operand, "operand")
    checks.one_of(rounding, ROUNDINGS, "rounding")
    check_random_bits(random_bits, rounding)
    work = Work.of(x, operand, axis, what)
    result = work.in_one_pass() if scales is None and rounding == "nearest-even" else None
    if result is None:
        if scales is None:
            scales = work.pick()
        else:
            checks.finite(work.x, what, "it has no scale")
        result = scales, *work.encode(scales, rounding, rng, random_bits)
    (values, stored, tensor_scale, _), codes, saturated, flushed = result
    lost = tensor_scale, saturated, flushed
    basis = operand.hadamard, operand.hadamard_signs
    return Quantized(codes, values, operand.fmt, operand.scaling, axis, stored, *lost, *basis)


@dataclass(frozen=True, eq=False)
class Quantized:
    """An array as codes and scales: ``x ~ codes * scales``, each scale shared by a group.

    Attributes
    ----------
    codes : array of fmt.dtype
        One code per element, in the shape of the array.
    scales : array of float32
        One multiplier per group: the number of groups along each axis is its shape.
    fmt : FloatFormat
        Format of the codes.
    scaling : Scaling
        How the scales were picked.
    axis : int
        The reduction axis, along which groups run.
    scale_codes : array
        The scales as stored, in the scale format.
    tensor_scale : float32
        The FP32 scale above E4M3 scales (included in `scales`), else 1.
    saturated : int
        Elements that were beyond the largest finite value after rounding.
    flushed : int
        Elements other than zero that became zero.
    hadamard, hadamard_signs : int
        The Hadamard transform, as of an `Operand`, that elements went through before they were scaled.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> x = np.random.default_rng(0).standard_normal((256, 512), dtype=np.float32)
    >>> fp8sim.quantize(x, "e4m3", "1x128")
    Quantized((256, 512) e4m3, 1x128 fp32: 135168 bytes, of them 4096 scales; 0 saturated, 0 flushed)
    """

    codes: AnyArray = field(repr=False)
    scales: F32 = field(repr=False)
    fmt: FloatFormat
    scaling: Scaling
    axis: int
    scale_codes: AnyArray = field(repr=False)
    tensor_scale: np.float32
    saturated: int
    flushed: int
    hadamard: int = 0
    hadamard_signs: int = 0

    def __repr__(self) -> str:
        """Say what it holds, what it takes and what was lost."""
        return (
            f"Quantized({self.shape} {self.fmt}, {self.scaling}{transform_text(self)}: {self.nbytes} bytes, "
            f"of them {self.scale_nbytes} scales; {self.saturated} saturated, {self.flushed} flushed)"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.codes.shape

    @property
    def sizes(self) -> tuple[int, ...]:
        """Elements that share a scale along each axis."""
        return group_sizes(self.scaling.granularity, self.shape, self.axis)

    @property
    def is_scaled(self) -> bool:
        """Whether there are scales; else it is a plain cast."""
        return self.scaling.granularity != "none"

    @property
    def bits(self) -> AnyArray:
        """The codes as unsigned integers."""
        return self.codes.view(self.fmt.code_dtype)

    @property
    def scale_nbytes(self) -> int:
        """Bytes that the scales take where this is stored."""
        return self.scaling.nbytes(self.shape, self.axis)

    @property
    def nbytes(self) -> int:
        """Bytes that codes and scales take where this is stored, codes packed to their bits."""
        return -(-self.codes.size * self.fmt.bits // 8) + self.scale_nbytes

    @classmethod
    def of_fp32(cls, x: F32, axis: int) -> Quantized:
        """Take a float32 matrix as its own FP32 codes, without a copy."""
        one = np.ones((1, 1), np.float32)
        return cls(x, one, FP32.fmt, FP32.scaling, axis, one, np.float32(1), 0, 0)

    @property
    def T(self) -> Quantized:
        """A quantised matrix transposed: the same codes and scales, the other axis summed over."""
        return dataclasses.replace(
            self,
            codes=self.codes.T,
            scales=self.scales.T,
            scale_codes=self.scale_codes.T,
            axis=1 - self.axis % 2,
        )

    def along(self, axis: int) -> Quantized:
        """Return the same codes and scales, taken to be summed over another axis."""
        if self.hadamard and (axis - self.axis) % len(self.shape):
            raise ValueError(
                f"a Hadamard transform along axis {self.axis} does not cancel in sums over axis {axis}; "
                "quantise along that axis instead"
            )
        return dataclasses.replace(self, axis=axis)

    def values(self) -> F32:
        """Return `dequantize` in float32, FP32 as it is, without a copy."""
        plain = self.fmt == FP32.fmt and not self.is_scaled
        return self.codes if plain else np.asarray(self.dequantize(), dtype=np.float32)

    @default_environment
    def dequantize(
        self, dtype: type[np.float32] | type[np.float64] = np.float32, *, invert: bool = False
    ) -> FloatArray:
        """Return ``codes * scales``: of an operand with a Hadamard transform, the elements transformed.

        Parameters
        ----------
        dtype : {numpy.float32, numpy.float64}
            In float32 each element is rounded once; in float64 it is exact.
        invert : bool
            Whether to undo the Hadamard transform, in `dtype`, for values near those that were quantised.

        Returns
        -------
        array
            In the shape of the array that was quantised.

        Examples
        --------
        >>> import numpy as np, fp8sim
        >>> fp8sim.quantize(np.array([1.0, 0.3, -0.001]), "e4m3").dequantize()
        array([ 1.000000e+00,  2.857143e-01, -9.765625e-04], dtype=float32)
        """
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise TypeError(f"dtype must be numpy.float32 or numpy.float64, got {shown(dtype)}")
        values = self._dequantize(dtype)
        return transform(values, self, self.axis, "x", inverse=True) if invert and self.hadamard else values

    def _dequantize(self, dtype: type[np.float32] | type[np.float64]) -> FloatArray:
        if self.is_scaled and self.fmt.bits <= 16 and worth_compiling(self.codes.size):
            return self._dequantize_compiled(dtype)
        values: FloatArray = decode(self.codes, self.fmt).astype(dtype, copy=False)
        if not self.is_scaled:
            return values
        scales = expand_groups(self.scales.astype(dtype, copy=False), self.sizes, self.shape)
        with np.errstate(over="ignore", under="ignore"):
            product: FloatArray = values * scales
        return product

    def _dequantize_compiled(self, dtype: type[np.float32] | type[np.float64]) -> FloatArray:
        from fp8sim._kernels.quantize_kernels import dequantize_rows

        t, table = Tiling.of(self.codes, self.sizes), decode_table(self.fmt).astype(dtype, copy=False)
        stack, grid, out = (
            t.stack(self.bits, t.shape),
            t.stack(self.scales.astype(dtype, copy=False), t.tiles),
            empty(t.shape, dtype),
        )

        def run(element: Place, tile: Place) -> None:
            dequantize_rows(stack[element], grid[tile], table, t.tile, out[element])

        run_in_threads(run, t.pieces())
        return t.unstack(out, self.shape)


@dataclass(frozen=True)
class Work:
    """An array on its way through the pipeline."""

    x: FloatArray
    operand: Operand
    sizes: tuple[int, ...]  #: elements that share a scale along each axis
    axis: int
    what: str
    compiled: bool  #: whether the steps are compiled

    @classmethod
    def of(cls, x: ArrayLike, operand: Operand, axis: int, what: str) -> Work:
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
        return cls(array, operand, sizes, axis, what, worth_compiling(array.size) and not odd)

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
        from fp8sim._kernels.quantize_kernels import nearest, quantize_rows, scale_rule

        fmt, scaling, t = self.operand.fmt, self.operand.scaling, self.tiling
        p = nearest(fmt, self.policy)
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
            encode=encode,
        )
        if not (scaling.four_over_six and amax.size):
            return pick()
        six, four = pick(), pick(stretch=1.5)
        top = np.float32(max(amax.max(initial=0), scaling.amax_floor))
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
        from fp8sim._kernels.quantize_kernels import nearest

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
        p = nearest(self.operand.fmt, self.policy)

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
        if self.compiled and rounding == "nearest-even" and not (multiplied and self._nearest is None):
            return self._encode_compiled(scales)
        scaled = apply_scales(self.x, scales, self.sizes) if self.operand.is_scaled else self.x
        policy = self.policy
        codes = encode(scaled, fmt, rounding=rounding, overflow=policy, rng=rng, random_bits=random_bits)
        flushed = int(np.count_nonzero(self.x)) - int(np.count_nonzero(decode(codes, fmt)))
        return codes, count_beyond(scaled, fmt), flushed

    @property
    def _nearest(self) -> Any:
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
        p, r = self._nearest, given(fmt, scales.multipliers is not None)
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


class Tiling(NamedTuple):
    """An array as a stack of C-contiguous matrices whose groups are tiles; a view where it is contiguous."""

    axes: tuple[int, ...]  #: the axes in the order of the stack
    shape: tuple[int, int, int]  #: matrices, rows, columns
    rows: int  #: rows of a tile
    columns: int  #: columns of a tile

    @classmethod
    def of(cls, x: AnyArray, sizes: tuple[int, ...]) -> Tiling:
        """Find the stack for groups of `sizes` elements along each axis: all axes, or at most two."""
        axes = list(range(x.ndim))
        if x.flags.f_contiguous and not x.flags.c_contiguous:
            axes.reverse()
        if sizes == x.shape:
            return cls(tuple(axes), (1, 1, x.size), 1, x.size)
        grouped = [axis for axis in axes if sizes[axis] > 1] or axes[-1:]
        if len(grouped) == 2 and grouped != axes[-2:]:  # tiles span both axes, which must be the last ones
            axes = [axis for axis in axes if axis not in grouped] + grouped
        other, last = grouped[0], axes[-1]
        if other == last:
            return cls(tuple(axes), (1, x.size // x.shape[last], x.shape[last]), 1, sizes[last])
        at = axes.index(other)
        count, rows = math.prod(x.shape[axis] for axis in axes[:at]), x.shape[other]
        columns = math.prod(x.shape[axis] for axis in axes[at + 1 :])
        if rows % sizes[other] == 0:  # no tile crosses from one matrix into the next: they are one
            count, rows = 1, count * rows
        return cls(tuple(axes), (count, rows, columns), sizes[other], sizes[last])

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of a tile."""
        return self.rows, self.columns

    @property
    def tiles(self) -> tuple[int, int, int]:
        """Matrices, and tiles along their rows and columns."""
        count, rows, columns = self.shape
        return count, -(-rows // self.rows), -(-columns // self.columns)

    def stack(self, x: AnyArray, shape: tuple[int, int, int]) -> AnyArray:
        """Return an array as a C-contiguous stack of `shape`, a view where it can be one."""
        stack = np.ascontiguousarray(x.transpose(self.axes)).reshape(shape)  # a view of our own at least
        stack.flags.writeable = False
        return stack

    def unstack(self, stack: AnyArray, shape: tuple[int, ...]) -> AnyArray:
        """Return a stack as the array of `shape` that it stands for, contiguous in C or Fortran order."""
        moved = stack.reshape([shape[axis] for axis in self.axes]).transpose(np.argsort(self.axes))
        return moved if moved.flags.c_contiguous or moved.flags.f_contiguous else np.ascontiguousarray(moved)

    def pieces(self, *, whole: bool = False) -> list[tuple[Place, Place]]:
        """Cut the stack, and its tiles with it, into a few parts for each thread: whole tiles if asked to."""
        count, rows, columns = self.shape
        size = max(LEAST, -(-count * rows * columns // (4 * get_num_threads())))
        every = slice(None)
        if rows == 1:  # along the columns
            width = size if columns <= self.columns and not whole else -(-size // self.columns) * self.columns
            return [
                ((0, every, slice(i, j)), (0, every, slice(i // self.columns, -(-j // self.columns))))
                for i, j in split(columns, width)
            ]
        height = max(size // columns, 1)
        if whole or height >= self.rows:
            spans = split(rows, -(-height // self.rows) * self.rows)
        else:
            spans = [(i + a, i + b) for i, j in split(rows, self.rows) for a, b in split(j - i, height)]
        return [
            ((k, slice(i, j), every), (k, slice(i // self.rows, -(-j // self.rows)), every))
            for k in range(count)
            for i, j in spans
        ]
