"""Arrays to codes and scales, in words; straight to what these stand for; and from FP4 codes to FP8."""

from __future__ import annotations

from typing import Any

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.memory import Allocate, empty
from fp8sim._support.threads import run_in_threads
from fp8sim._support.typing import F32, ArrayLike, Rounding
from fp8sim.casts import round_to
from fp8sim.formats import FormatLike, get_format
from fp8sim.quantization.operand import FP32, Operand
from fp8sim.quantization.quantized import Quantized, quantize_with
from fp8sim.quantization.scaling import Scaling
from fp8sim.quantization.tiling import Place
from fp8sim.quantization.work import Work

__all__ = ["quantize", "round_trip"]


def quantize(
    x: ArrayLike,
    fmt: FormatLike = "e4m3",
    granularity: str = "tensor",
    *,
    axis: int = -1,
    scale_format: str = "fp32",
    scale_rule: str | None = None,
    amax_floor: float = 0.0,
    rounding: Rounding = "nearest-even",
    rng: np.random.Generator | None = None,
    random_bits: int | None = None,
    division: str = "divide",
) -> Quantized:
    """Scale an array by groups and cast it: ``x ~ codes * scales``.

    Parameters
    ----------
    x : array_like
        One axis or more. Division and rounding are done from its own dtype (float32 or float64), but for
        a `division` other than ``divide`` and the rules of 4over6: these round it to FP32 first, and each
        of their operations to FP32, as kernels do.
    fmt : str, dtype or FloatFormat
        Format of the elements; ``int8`` for the integers -127 to 127.
    granularity : str
        ``tensor``, ``row``, ``1x128``, ``128x128``, ``1x32``, ``1x16``, any other ``RxC``, or
        ``none``. Groups run along `axis`; the last one of an axis may be ragged.
    axis : int
        The reduction axis of the product to come: -1 for A (m, k), 0 for B (k, n).
    scale_format : {"fp32", "e8m0", "e4m3"}
        ``e4m3`` scales stand under one FP32 scale of the tensor, ``amax / (448 max)`` (NVFP4).
    scale_rule : {"amax", "ceil", "floor", "even", "4over6", "4over6-mse"}, optional
        ``amax`` by default, ``ceil`` for ``e8m0``. The last two are for E2M1 under ``e4m3`` scales, by
        1x16 or 16x16; the scale of the tensor is ``amax / (256 max)`` then.
    amax_floor : float
        Smallest amax taken for a group.
    rounding, rng, random_bits
        Of the elements, as for `round_to`; scales are rounded to nearest.
    division : {"divide", "reciprocal", "te-current", "te-nvfp4"}
        How an element meets its scale: divided by it, or multiplied as some library does, bit for bit.
        ``divide``: ``x / scale`` (DeepSeek-V3's inference kernel). ``reciprocal``: ``x * (max / amax)``, and
        ``amax / max`` is stored (DeepSeek's TileKernels). ``te-current``: the same product, and the
        reciprocal of its multiplier is stored (TransformerEngine, FP8). ``te-nvfp4``: TransformerEngine's
        NVFP4, where a block whose scale underflows saturates, although it stands for zero.

    Returns
    -------
    Quantized
        Codes, scales, their bytes, and how many elements saturated or became zero.

    Raises
    ------
    TypeError
        If `x` is no array of real numbers, or `rng` is missing where it is needed.
    ValueError
        If a name or the axis is unknown, or `x` holds NaN or infinity, which have no scale.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> q = fp8sim.quantize(np.array([[1.0, -2.0, 896.0, 0.0]]), "e4m3", "1x2")
    >>> q.scales
    array([[0.00446429, 2.        ]], dtype=float32)
    >>> q.codes
    array([[224, -448, 448, 0]], dtype='float8_e4m3fn')
    >>> q.dequantize()
    array([[  1.,  -2., 896.,   0.]], dtype=float32)
    >>> fp8sim.quantize(np.float32([0.3, 1.3]), division="te-current").scales  # 1 / (448 / 1.3)
    array([0.00290179], dtype=float32)
    >>> fp8sim.quantize([0.5, -1.0, 0.004, 0.003], "int8").codes
    array([  64, -127,    1,    0], dtype=int8)
    """
    scaling = Scaling(granularity, scale_format, scale_rule, amax_floor, division)
    operand = Operand(get_format(fmt), scaling)
    return quantize_with(x, operand, axis=axis, rounding=rounding, rng=rng, random_bits=random_bits)


@default_environment
def round_trip(
    x: ArrayLike, operand: Operand, *, axis: int = -1, what: str = "x", allocate: Allocate = empty
) -> F32:
    """Return ``quantize_with(...).dequantize()`` where no codes need be kept: faster, in less memory.

    What is not changed at all is returned itself, and a large result lies where `allocate` says.

    Examples
    --------
    >>> round_trip([1.0, 0.3, -0.001], Operand("e4m3", Scaling("row")))
    array([ 1.000000e+00,  2.857143e-01, -9.765625e-04], dtype=float32)
    """
    checks.of_kind(operand, Operand, "operand")
    array = checks.as_float(x, what)
    if operand == FP32 and array.dtype == np.float32:
        return np.asarray(array, dtype=np.float32)
    values: F32 | None = None
    if operand.is_scaled:
        values = _round_trip_compiled(Work.of(array, operand, axis, what), allocate)
    elif operand.fmt.has_nan and operand.fmt.signed and operand.fmt.zero and not operand.hadamard:
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            values = round_to(array, operand.fmt).astype(np.float32, copy=False)
    return quantize_with(array, operand, axis=axis, what=what).values() if values is None else values


def _round_trip_compiled(work: Work, allocate: Allocate) -> F32 | None:
    """Return the values that the codes stand for; None where compiled code does not serve this."""
    if not work.compiled or work.x.dtype != np.float32:
        return None
    from fp8sim._kernels.quantize_kernels import given, round_trip_rows, scale_rule

    fmt, scaling, t = work.operand.fmt, work.operand.scaling, work.tiling
    p = work.nearest
    if p is None:
        return None
    stack, out = t.stack(work.x, t.shape), allocate(t.shape, np.float32)

    def fill(r: Any, scales: F32, multipliers: F32) -> bool:
        """Fill `out`, picking scales by a rule or with given ones; return whether all of them fit."""

        def run(element: Place, tile: Place) -> Any:
            grids = scales[tile], multipliers[tile]
            return round_trip_rows(stack[element], out[element], grids, t.tile, r, p)

        return bool(max(run_in_threads(run, t.pieces(whole=r.kind != -1))) < np.inf)

    if work.fits_one_pass:
        r = scale_rule(fmt, str(scaling.scale_rule), scaling.amax_floor, scaling.division)
        scales = np.empty(t.tiles, np.float32)
        if fill(r, scales, np.empty_like(scales) if r.multiply else scales):
            return t.unstack(out, work.x.shape)
    picked = work.pick()
    fill(given(fmt, picked.multipliers is not None), *work.grids(picked))
    return t.unstack(out, work.x.shape)
