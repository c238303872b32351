"""Hypothesis strategies: formats, scalings, and arrays of every shape and layout."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fp8sim import FloatFormat
from fp8sim.quantization import SCALE_FORMATS, Scaling
from oracle import LAYOUTS, MODES, Layout

Array = NDArray[Any]

GRANULARITIES = ("tensor", "row", "1x1", "1x2", "1x4", "1x7", "1x16", "2x3", "3x2", "128x128")
ELEMENT_FORMATS = ("e4m3", "e5m2", "e4m3fnuz", "e5m2fnuz", "e3m4", "e2m3", "e3m2", "e2m1")

roundings = st.sampled_from(MODES)
overflows = st.sampled_from(["saturate", "ieee"])
format_names = st.sampled_from([name for name in LAYOUTS if name != "fp32"])
element_formats = st.sampled_from(ELEMENT_FORMATS)


def float64s() -> st.SearchStrategy[float]:
    """Any float64 below 1e307, infinity, NaN, and often an exponent that narrow formats have."""
    narrow = st.builds(lambda s, e: float(np.ldexp(s, e)), st.floats(-2, 2), st.integers(-30, 30))
    return st.one_of(st.floats(-1e307, 1e307), narrow, st.sampled_from([np.inf, -np.inf, np.nan]))


def finite_float32s(largest: float = 1e30) -> st.SearchStrategy[float]:
    """Zeros of both signs, subnormals, and magnitudes from all decades up to `largest`."""
    top = float(np.float32(largest))
    narrow = st.floats(-1000, 1000, width=32)
    return st.one_of(st.floats(-top, top, width=32), narrow, st.sampled_from([0.0, -0.0]))


@st.composite
def arrays(
    draw: st.DrawFn,
    dtype: Any = np.float32,
    min_dims: int = 1,
    max_dims: int = 3,
    min_side: int = 1,
    max_side: int = 9,
) -> Array:
    """Draw an array of finite numbers."""
    shapes = hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)
    return draw(hnp.arrays(dtype, shapes, elements=finite_float32s(), fill=st.just(0.0)))


@st.composite
def laid_out(draw: st.DrawFn, x: Array) -> Array:
    """Draw a view or copy with the values of `x` but another layout in memory; perhaps read-only."""
    match draw(st.sampled_from(["same", "fortran", "strided", "reversed", "transposed"])):
        case "fortran":
            x = np.asfortranarray(x)
        case "strided":
            spread = np.full((*x.shape[:-1], 2 * x.shape[-1]), 77, x.dtype)
            spread[..., ::2] = x
            x = spread[..., ::2]
        case "reversed":
            x = x[::-1].copy()[::-1]
        case "transposed":
            x = x.T.copy().T
        case _:
            x = x.copy()
    x.setflags(write=draw(st.booleans()))
    return x


@st.composite
def scalings(draw: st.DrawFn, ndim: int) -> Scaling:
    """Draw who shares a scale, and how it is stored and picked."""
    fits = [g for g in GRANULARITIES if ndim > 1 or not ((g[0].isdigit() and g[0] != "1") or g == "128x128")]
    scale_format = draw(st.sampled_from(list(SCALE_FORMATS)))
    return Scaling(
        draw(st.sampled_from(fits)),
        scale_format,
        draw(
            st.sampled_from([rule for rule in SCALE_FORMATS[scale_format] if not rule.startswith("4over6")])
        ),
        draw(st.sampled_from([0.0, 1e-4])),
    )


@st.composite
def user_formats(draw: st.DrawFn, signed: bool = True, max_bits: int = 12) -> tuple[FloatFormat, Layout]:
    """Draw an ExMy of at most `max_bits` that no table has, and the oracle's description of it."""
    exponent_bits = draw(st.integers(2, 8))
    mantissa_bits = draw(st.integers(0, max_bits - 1 - exponent_bits))
    # from the least float32 can hold to the most, and often near the usual bias
    lowest, highest = 2**exponent_bits - 128, 150 - mantissa_bits
    usual = min(max(2 ** (exponent_bits - 1) - 1 + draw(st.integers(-3, 3)), lowest), highest)
    bias = draw(st.one_of(st.just(usual), st.integers(lowest, highest)))
    specials = draw(st.sampled_from(["ieee", "nan-only", "none"] + ["fnuz"] * signed))
    subnormals = draw(st.booleans())
    fmt = FloatFormat(
        "user",
        exponent_bits,
        mantissa_bits,
        bias,
        specials,  # type: ignore[arg-type]
        subnormals=subnormals,
        signed=signed,
    )
    return fmt, Layout(signed, exponent_bits, mantissa_bits, bias, specials, subnormals)
