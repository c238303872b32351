"""An array as codes and scales."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from fp8sim._support.typing import F32, AnyArray, FloatArray
from fp8sim.casts import decode, worth_compiling
from fp8sim.formats import FloatFormat
from fp8sim.quantization.operand import FP32
from fp8sim.quantization.scaling import Scaling, group_sizes
from fp8sim.reference.codes import decode_table
from fp8sim.reference.scales import expand_groups

__all__ = ["Quantized"]


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

    def __repr__(self) -> str:
        """Say what it holds, what it takes and what was lost."""
        return (
            f"Quantized({self.shape} {self.fmt}, {self.scaling}: {self.nbytes} bytes, of them "
            f"{self.scale_nbytes} scales; {self.saturated} saturated, {self.flushed} flushed)"
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
        return dataclasses.replace(self, axis=axis)

    def values(self) -> F32:
        """Return `dequantize` in float32, FP32 as it is, without a copy."""
        plain = self.fmt == FP32.fmt and not self.is_scaled
        return self.codes if plain else np.asarray(self.dequantize(), dtype=np.float32)

    def dequantize(self, dtype: type[np.float32] | type[np.float64] = np.float32) -> FloatArray:
        """Return ``codes * scales``.

        Parameters
        ----------
        dtype : {numpy.float32, numpy.float64}
            In float32 each element is rounded once; in float64 it is exact.

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
        if (
            self.is_scaled
            and dtype == np.float32
            and self.fmt.bits <= 16
            and worth_compiling(self.codes.size)
        ):
            from fp8sim._kernels.quantize_driver import dequantize as compiled

            return compiled(self.bits, self.scales, self.sizes, decode_table(self.fmt))
        values: FloatArray = decode(self.codes, self.fmt).astype(dtype, copy=False)
        if not self.is_scaled:
            return values
        scales = expand_groups(self.scales.astype(dtype, copy=False), self.sizes, self.shape)
        with np.errstate(over="ignore", under="ignore"):
            product: FloatArray = values * scales
        return product
