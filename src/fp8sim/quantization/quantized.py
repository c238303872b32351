"""An array as codes and scales, and the one pipeline that makes it: `quantize_with`.

Each group of elements gets a scale from its largest magnitude (amax), is divided by it, and is rounded to
codes: the steps are those of `work`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.memory import empty
from fp8sim._support.text import shown
from fp8sim._support.threads import run_in_threads
from fp8sim._support.typing import F32, AnyArray, ArrayLike, FloatArray, Rounding
from fp8sim.casts import check_random_bits, decode, worth_compiling
from fp8sim.formats import FloatFormat
from fp8sim.quantization.hadamard import transform, transform_text
from fp8sim.quantization.operand import FP32, Operand
from fp8sim.quantization.scaling import Scaling, group_sizes
from fp8sim.quantization.tiling import Place, Tiling
from fp8sim.quantization.work import Work
from fp8sim.reference.codes import decode_table
from fp8sim.reference.rounding import ROUNDINGS
from fp8sim.reference.scales import (
    Scales,
    expand_groups,
)

__all__ = ["Quantized", "quantize_with"]


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
    top: float = 0.0,
    what: str = "x",
) -> Quantized:
    """Quantise as `quantize` does, with format and scaling in one `Operand`.

    `scales` are known beforehand (delayed, static), instead of picked ones. Of rows of a larger tensor `top`
    is its largest magnitude, so that they get the codes that they have in it. Errors call the array `what`.

    Examples
    --------
    >>> quantize_with([1.0, 2.0], Operand("e4m3", Scaling("row"))).codes
    array([224, 448], dtype='float8_e4m3fn')
    """
    checks.of_kind(operand, Operand, "operand")
    checks.one_of(rounding, ROUNDINGS, "rounding")
    check_random_bits(random_bits, rounding)
    work = Work.of(x, operand, axis, what, top)
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
