"""Casts, formats and scales: compiled against readable against exact rational arithmetic."""

from __future__ import annotations

import dataclasses
import math
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import fp8sim
import oracle
from fp8sim import FORMATS, FloatFormat, Operand, Scaling
from fp8sim.formats import INT8, IntegerFormat
from fp8sim.quantization import DIVISIONS, SCALE_FORMATS, quantize_with, round_trip
from fp8sim.reference import scales as reference_scales
from fuzz.harness import (
    attempt,
    category,
    chance,
    laid_out,
    must,
    must_equal,
    must_equal_bits,
    numbers,
    pick,
    planted,
    wrapped,
)
from oracle import Layout
from readable import readable

SIZES = (0, 1, 7, 60, 300, 4095, 4096, 5000, 9000)  # 4096 on are compiled
ORACLE_SIZE = 120  # elements that rational arithmetic does, where there is no table of all values
NARROW = (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)


def layout_of(fmt: FloatFormat) -> Layout:
    """Return the oracle's description of a format."""
    assert fmt.bias is not None
    widths = fmt.signed, fmt.exponent_bits, fmt.mantissa_bits
    return Layout(*widths, fmt.bias, fmt.specials, fmt.subnormals, fmt.zero)


def format_fields(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the fields of a format: mostly possible ones."""
    exponent_bits = int(rng.integers(1, 9))
    most = int(pick(rng, (3, 10 - exponent_bits, 23)))
    bias = 2 ** (exponent_bits - 1) - 1 + int(rng.integers(-3, 4))
    zero = chance(rng, 0.9)
    return {
        "name": "own",
        "exponent_bits": exponent_bits,
        "mantissa_bits": int(rng.integers(0, max(most, 0) + 1)),
        "bias": pick(rng, (None, bias, bias, int(rng.integers(-130, 160)))),
        "specials": pick(rng, ("ieee", "nan-only", "none", "fnuz")),
        "subnormals": zero and chance(rng, 0.7),
        "signed": chance(rng, 0.85),
        "zero": zero,
    }


def own_format(rng: np.random.Generator) -> FloatFormat:
    """Draw a format of one's own."""
    while True:
        fmt, refusal = attempt(FloatFormat, **format_fields(rng))
        if fmt is not None:
            return fmt
        assert refusal is not None


def any_format(rng: np.random.Generator) -> FloatFormat:
    """Draw a format: built-in, of one's own, or of integers."""
    match pick(rng, ("built-in", "built-in", "own", "own", "integer")):
        case "built-in":
            return FORMATS[pick(rng, FORMATS)]
        case "own":
            return own_format(rng)
    bits = int(rng.integers(2, 10))
    return INT8 if chance(rng, 0.5) else IntegerFormat("own-int", 1, bits, bias=1 - bits, specials="none")


def numbers_for(rng: np.random.Generator, fmt: FloatFormat, size: int, dtype: Any) -> Any:
    """Draw numbers, often such as the format has trouble with."""
    if chance(rng, 0.5):
        return numbers(rng, size, dtype)
    # halves of its own steps, its ends among them
    exponents = rng.integers(fmt.emin - 2, fmt.emax + 2, size)
    whole = rng.integers(-(2 ** (fmt.mantissa_bits + 2)), 2 ** (fmt.mantissa_bits + 2) + 1, size)
    with np.errstate(over="ignore", under="ignore"):
        x = np.ldexp(whole.astype(np.float64), exponents - fmt.mantissa_bits - 1).astype(dtype)
        if size and chance(rng, 0.4):
            x = np.nextafter(x, dtype(pick(rng, (-np.inf, np.inf))))
    if size and chance(rng, 0.2):
        x[rng.integers(size)] = pick(rng, (np.nan, np.inf, -np.inf, -0.0))
    return x


def expected(x: Any, fmt: FloatFormat, rounding: str, overflow: str, draws: Any = None) -> tuple[Any, slice]:
    """Round by the oracle, all of `x` or its first elements; NaN is also what must be refused."""
    layout = layout_of(fmt)
    with np.errstate(invalid="ignore"):
        x = x.astype(np.float64)
    quick = fmt.bits <= 10 or (fmt in FORMATS.values() and fmt.bits <= 16)
    if draws is None and quick and np.abs(np.nan_to_num(x, posinf=0, neginf=0)).max(initial=0) < 1e307:
        result, part = oracle.round_array(x, layout, rounding, overflow), slice(None)
    else:
        part = slice(0, ORACLE_SIZE)
        result = np.array(
            [
                oracle.round_one(float(one), layout, rounding, overflow)
                if draws is None
                else _stochastic(float(one), layout, overflow, float(draw))
                for one, draw in zip(x[part], x[part] if draws is None else draws[part], strict=True)
            ],
            np.float64,
        )
    return (result if fmt.has_negative_zero and not fmt.twos_complement else result + 0.0), part


def _stochastic(x: float, layout: Layout, overflow: str, draw: float) -> float:
    """Round away from zero if the draw is below the distance from the neighbour nearer to zero, in steps."""
    if not math.isfinite(x) or x == 0 or (x < 0 and not layout.signed):
        return oracle.round_one(x, layout, "nearest-even", overflow)
    size = abs(Fraction(x))
    step = oracle.quantum(size, layout)
    way = "toward-positive" if Fraction(draw) * step < size % step else "toward-zero"
    rounded = oracle.round_magnitude(size, layout, way)
    if rounded > Fraction(oracle.largest(layout)):
        rounded = Fraction(oracle.largest(layout)) if overflow == "saturate" else None
    result = oracle.beyond(layout) if rounded is None else float(rounded)
    return math.copysign(result, x)


def _broken_ties() -> AbstractContextManager[Any]:
    """Plant a rounding toward zero for nearest even, in the compiled way alone."""
    from fp8sim._kernels import cast_kernels

    whole = cast_kernels.mode
    return planted(
        cast_kernels,
        "mode",
        lambda fmt, rounding, policy: whole(
            fmt, "toward-zero" if rounding == "nearest-even" else rounding, policy
        ),
    )


@category(
    "round_to, encode and decode of every format, rounding, policy and dtype", few=60, plant=_broken_ties
)
def casts_of_all(rng: np.random.Generator, folder: Path) -> None:
    """Cast both ways, and hold it against the oracle."""
    fmt, rounding = any_format(rng), pick(rng, (*oracle.MODES, "stochastic"))
    overflow = pick(rng, (None, "saturate", "ieee"))
    policy = overflow or ("saturate" if fmt.bits <= 8 else "ieee")
    size = pick(rng, SIZES) if chance(rng, 0.97) else 140_000
    x = numbers_for(rng, fmt, size, pick(rng, (np.float32, np.float64)))
    if chance(rng, 0.15):
        with np.errstate(all="ignore"):
            x = x.astype(pick(rng, NARROW))
    elif chance(rng, 0.1):
        x = rng.integers(-300, 300, size).astype(pick(rng, (np.int8, np.int32, np.int64)))
    x = laid_out(rng, x)
    seed = int(rng.integers(2**32))

    def options() -> dict[str, Any]:
        draws = {"rng": np.random.default_rng(seed)} if rounding == "stochastic" else {}
        return {"rounding": rounding, "overflow": overflow, **draws}

    rounded, refusal = attempt(fp8sim.round_to, x, fmt, **options())
    codes, refused = attempt(fp8sim.encode, x, fmt, **options())
    slow, slowly_refused = attempt(readable, fp8sim.round_to, x, fmt, **options())
    same = str(refusal) == str(refused) == str(slowly_refused)
    must(same, f"refusals differ: {refusal}; {refused}; {slowly_refused}")
    draws = np.random.default_rng(seed).random(x.shape) if rounding == "stochastic" else None
    want, part = expected(x, fmt, rounding, policy, draws)
    if refusal is not None:
        must(not fmt.has_nan and (np.isnan(want).any() or want.size < x.size), f"refused: {refusal}")
        return
    assert rounded is not None
    assert codes is not None
    must(fmt.has_nan or not np.isnan(want).any(), "a NaN that the format has not was taken")
    must_equal(rounded[part], want, f"round_to {fmt!r} {rounding} {policy} {x.dtype} {x.size}")
    must_equal_bits(rounded, slow, f"round_to, compiled and readable, {fmt!r} {rounding}")
    bits = codes.view(fmt.code_dtype)
    must_equal(fp8sim.decode(codes, fmt), rounded, f"decode of encode {fmt!r}")
    must_equal(bits, readable(fp8sim.encode, x, fmt, **options()).view(fmt.code_dtype), f"encode {fmt!r}")
    must_equal(readable(fp8sim.decode, bits, fmt), rounded, f"readable decode {fmt!r}")
    if not fmt.twos_complement:
        digits = [oracle.decode(int(code), layout_of(fmt)) for code in bits[:20]]
        must_equal(np.array(digits), rounded[:20], f"codes of {fmt!r}, digit by digit")


@category(
    "formats of one's own: their limits, and every code",
    few=60,
    plant=lambda: planted(FloatFormat, "emin", property(lambda fmt: -fmt.bias)),
)
def formats(rng: np.random.Generator, folder: Path) -> None:
    """Make a format, and read all of its codes."""
    fields = format_fields(rng)
    fmt, _ = attempt(FloatFormat, **fields)
    if fmt is None:
        plain = {**fields, "bias": None, "specials": "ieee", "signed": True, "zero": True, "subnormals": True}
        must(fields != plain or fields["exponent_bits"] < 2, f"refused a plain format: {fields}")
        return
    layout = layout_of(fmt)
    count = 2**fmt.bits
    codes = np.arange(count) if fmt.bits <= 10 else rng.integers(0, count, 300)
    codes = np.unique(np.r_[codes, 0, 1, count - 1, fmt.top_code, fmt.smallest_subnormal > 0])
    want = np.array([oracle.decode(int(code), layout) for code in codes])
    must_equal(fp8sim.decode(codes.astype(fmt.code_dtype), fmt), want, f"decode {fmt!r}")
    finite = np.abs(want[np.isfinite(want)])
    if fmt.bits <= 10:
        must(finite.max() == fmt.max, f"max of {fmt!r}: {fmt.max}, want {finite.max()}")
        least = finite[finite > 0].min()
        must(fmt.smallest_subnormal == least, f"least of {fmt!r}: {fmt.smallest_subnormal}, want {least}")
        must(fmt.has_nan == bool(np.isnan(want).any()), f"NaN of {fmt!r}")
        must(fmt.has_inf == bool(np.isinf(want).any()), f"infinity of {fmt!r}")
    there = np.isfinite(want)
    values = want[there].astype(np.float32)  # flushed ones of fnuz have a sign, which no cast gives
    values = values if fmt.has_negative_zero else values + np.float32(0)
    must_equal(fp8sim.decode(fp8sim.encode(values, fmt), fmt), values, f"values of {fmt!r} encoded")
    must(hash(dataclasses.replace(fmt)) == hash(fmt) and repr(fmt), f"a copy of {fmt!r}")


# --- scales -----------------------------------------------------------------------------------------------

GRANULARITIES = ("tensor", "row", "1x1", "1x2", "1x5", "1x16", "1x32", "1x128", "2x3", "3x2", "128x128")
SHAPES = ((7,), (130,), (5, 33), (40, 128), (33, 129), (64, 100), (3, 4, 50), (1, 5000), (5000, 1), (70, 257))


def any_scaling(rng: np.random.Generator) -> Scaling:
    """Draw a scaling: of what goes together."""
    while True:
        scale_format = pick(rng, SCALE_FORMATS)
        floor = pick(rng, (0.0, 0.0, 1e-4, 1e-40, 3.0))
        rule = pick(rng, (None, *SCALE_FORMATS[scale_format]))
        granularity, division = pick(rng, (*GRANULARITIES, "none")), pick(rng, ("divide", *DIVISIONS))
        scaling, _ = attempt(Scaling, granularity, scale_format, rule, floor, division)
        if scaling is not None:
            return scaling


def element_format(rng: np.random.Generator) -> FloatFormat:
    """Draw a format that can hold elements."""
    while True:
        fmt = any_format(rng)
        if fmt.signed and fmt.zero:
            return fmt


def any_operand(rng: np.random.Generator) -> Operand:
    """Draw elements and a scaling that go together."""
    while True:
        fmt = FORMATS["e2m1"] if chance(rng, 0.1) else element_format(rng)
        operand, _ = attempt(Operand, fmt, any_scaling(rng))
        if operand is not None:
            return operand


def _larger_scale(scales: Any) -> Any:
    return scales._replace(values=np.nextafter(scales.values, np.float32(np.inf)))


@category(
    "quantize with every scaling, layout and dtype",
    few=40,
    plant=lambda: wrapped(reference_scales, "pick_scales", _larger_scale),
)
def scales(rng: np.random.Generator, folder: Path) -> None:
    """Quantise both ways, and work out scales and some elements from fractions."""
    operand, shape = any_operand(rng), pick(rng, SHAPES)
    fmt, scaling = operand.fmt, operand.scaling
    axis = int(rng.integers(-len(shape), len(shape)))
    x = numbers(rng, shape, pick(rng, (np.float32, np.float32, np.float64)))
    if chance(rng, 0.2):
        with np.errstate(all="ignore"):
            x = x.astype(pick(rng, NARROW[:2]))
    x = laid_out(rng, x)
    if chance(rng, 0.3):  # groups of zeros
        x = np.where((rng.random(shape[0]) < 0.5).reshape(-1, *[1] * (len(shape) - 1)), x, x.dtype.type(0))
    rounding = pick(rng, ("nearest-even", "nearest-even", *oracle.MODES, "stochastic"))
    seed = int(rng.integers(2**32))

    def run(way: Any) -> Any:
        draws = {"rng": np.random.default_rng(seed)} if rounding == "stochastic" else {}
        return attempt(way, x, operand, axis=axis, rounding=rounding, **draws)

    fast, refusal = run(quantize_with)
    slow, refused = run(lambda *args, **options: readable(quantize_with, *args, **options))
    must(str(refusal) == str(refused), f"refusals differ: {refusal}; {refused}")
    with np.errstate(invalid="ignore"):
        exact = x.astype(np.float64)
    if fast is None:
        finite = bool(np.isfinite(exact).all())
        flat = len(shape) == 1 and scaling.granularity in ("2x3", "3x2", "128x128")
        extreme = bool((np.abs(exact[np.isfinite(exact)]) > fmt.max * 2.0**100).any()) or fmt.max < 2.0**-20
        if scaling.in_fp32:  # as the kernels whose bits these are, with elements of their own
            extreme |= bool((np.abs(exact[np.isfinite(exact)]) > 2.0**127).any())
        must(not finite or flat or extreme or scaling.granularity == "none", f"refused: {refusal}")
        return
    what = f"{fmt!r} {scaling!r} {shape} axis {axis} {x.dtype} {rounding}"
    must_equal_bits(fast.scales, slow.scales, f"scales, compiled and readable, {what}")
    must_equal_bits(fast.bits, slow.bits, f"codes, compiled and readable, {what}")
    must(fast.scale_codes.tobytes() == slow.scale_codes.tobytes(), f"scale codes, {what}")
    counts = [(q.saturated, q.flushed, float(q.tensor_scale)) for q in (fast, slow)]
    must(counts[0] == counts[1], f"counts, compiled and readable, {what}: {counts}")
    values = fast.dequantize()
    must_equal_bits(values, readable(fast.dequantize), f"dequantize, {what}")
    if rounding == "nearest-even":
        must_equal(round_trip(x, operand, axis=axis), values, f"round_trip, {what}")
    if fast.is_scaled and not scaling.in_fp32:  # what libraries compute is held against their words
        _check_groups(rng, x, fast, rounding, what)


def _check_groups(rng: np.random.Generator, x: Any, q: Any, rounding: str, what: str) -> None:
    """Work out a few groups by fractions, and all elements of them."""
    layout, dtype = layout_of(q.fmt), np.dtype(np.float64 if x.dtype.itemsize == 8 else np.float32)
    groups = list(oracle.group_slices(q.scaling.granularity, x.shape, q.axis))
    top = Fraction(_rounded(np.abs(x.astype(np.float64)).max(), dtype))
    for index, place in [groups[i] for i in rng.integers(len(groups), size=3)]:
        element = x[place].astype(np.float64).ravel()[:ORACLE_SIZE]
        floor = Fraction(_rounded(q.scaling.amax_floor, dtype))
        amax = max(Fraction(float(np.abs(x[place].astype(np.float64)).max())), floor)
        scale = float(q.scales[index])
        want = _scale(amax, max(top, floor), layout, q.scaling, dtype)
        if want is not None:
            must(scale == want, f"scale {scale!r}, want {want!r} of amax {float(amax)!r}, {what}")
        codes = q.codes[place].ravel()[:ORACLE_SIZE]
        values = fp8sim.decode(codes, q.fmt)
        if rounding == "stochastic" or scale == 0:
            continue
        quotients = [_quotient(float(one), scale, dtype) for one in element]
        policy = "saturate"
        wanted = [oracle.round_one(one, layout, rounding, policy) for one in quotients]
        no_sign = q.fmt.twos_complement or not q.fmt.has_negative_zero
        must_equal(values, np.array(wanted) + 0.0 if no_sign else np.array(wanted), f"elements, {what}")
        exact = [Fraction(float(v)) * Fraction(scale) for v in values]
        rounded = np.array([oracle.nearest_float32(one) for one in exact])
        must_equal(
            np.abs(q.dequantize()[place].ravel()[:ORACLE_SIZE]), np.abs(rounded), f"dequantize, {what}"
        )


def _rounded(x: float, dtype: np.dtype[Any]) -> float:
    return float(dtype.type(x))


def _quotient(x: float, scale: float, dtype: np.dtype[Any]) -> float:
    """Divide in a type, one rounding; the sign of zero and infinity stay."""
    if x == 0:
        return x
    exact = Fraction(x) / Fraction(scale)
    if dtype == np.float32:
        return float(oracle.nearest_float32(exact)) if abs(exact) > 2.0**-151 else math.copysign(0, x)
    try:
        return float(exact) if exact else x
    except OverflowError:
        return math.copysign(math.inf, x)


def _scale(
    amax: Fraction, top: Fraction, layout: Layout, scaling: Scaling, dtype: np.dtype[Any]
) -> float | None:
    """Return the scale of a group; None where it is under another one."""
    if scaling.scale_format == "e4m3":
        return None
    if scaling.scale_rule != "amax":
        return float(oracle.power_of_two_scale(amax, layout, str(scaling.scale_rule)))
    if amax == 0:
        return 1.0
    quotient = _quotient(float(amax), oracle.largest(layout), dtype)
    return max(float(oracle.nearest_float32(Fraction(quotient))), 2.0**-149)
