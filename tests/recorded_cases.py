"""The cases of `recorded_outputs`, family by family.

Inputs come from integer arithmetic, so that every machine makes the same ones. The library is reached by
public names alone, and what may move by `api`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (registers its types with numpy)
import numpy as np

import fp8sim
from fp8sim import FORMATS, RECIPES, TENSOR_CORES, FloatFormat, metrics
from fp8sim.models.parsing import describe
from recorded_outputs import Case, api, facts, figures
from tensor_files import safetensors

_FAMILIES: list[tuple[str, Callable[..., Any], list[Any]]] = []
DRAWS = ("casts", "explain", "training", "close/training", "torch")  #: where "stochastic" draws


def family(name: str, function: Callable[..., Any], *axes: Iterable[Any]) -> None:
    """Make a function one case for each combination of the values of its axes; a dict names its values."""
    named = [axis.items() if isinstance(axis, dict) else [(_label(v), v) for v in axis] for axis in axes]
    _FAMILIES.append((name, function, named))


def _label(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def cases() -> Iterator[Case]:
    """Yield all cases."""
    for name, function, axes in _FAMILIES:
        for chosen in product(*axes):
            full = "/".join([name, *(label for label, _ in chosen)])
            drawn = full.startswith(DRAWS) and "stochastic" in full
            yield f"{'numpy/' * drawn}{full}", partial(function, *(value for _, value in chosen))


# --- inputs: integer arithmetic and exact scaling only --------------------------------------------


def words(count: int, seed: int) -> Any:
    """Random uint64 by SplitMix64, since a library's generator may change."""
    z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def whole(shape: tuple[int, ...], low: int, high: int, seed: int) -> Any:
    """Whole numbers from low to high."""
    drawn = (words(math.prod(shape), seed) >> np.uint64(8)) % np.uint64(high - low + 1)
    return (drawn.astype(np.int64) + low).reshape(shape)


def spread(shape: tuple[int, ...], seed: int, dtype: Any = np.float32, low: int = -6, high: int = 6) -> Any:
    """Floats of all significand bits, their exponents spread evenly."""
    bits = np.finfo(dtype).nmant + 1
    significands = whole(shape, 1 - 2**bits, 2**bits - 1, seed).astype(np.float64)
    return np.ldexp(significands, whole(shape, low, high, seed + 1) - bits).astype(dtype)


def patchy(shape: tuple[int, ...], seed: int, dtype: Any = np.float32) -> Any:
    """`spread` with groups of zeros, of tiny numbers and of float32 subnormals."""
    x = spread(shape, seed, dtype)
    x[1::5] = 0
    x[2::5] *= dtype(2.0**-120)
    x[4::35] = np.sign(x[4::35]) * dtype(2.0**-147)
    x[..., 5:9] = -0.0
    return x


def exact(shape: tuple[int, int], seed: int) -> Any:
    """Small whole numbers, 448 in every row and column: scales are powers of two, sums exact in any order."""
    x, (i, j) = whole(shape, -8, 8, seed).astype(np.float32), np.indices(shape)
    x[(i - j) % max(1, min(64, *shape)) == 0] = 448
    return x


def values_of(fmt: FloatFormat, shape: tuple[int, ...], seed: int, kind: str) -> Any:
    """Values of a format: near 1, tiny, wild (of all its binades), or special, infinity and NaN among them."""
    bits, near = fmt.mantissa_bits + 1, (max(fmt.emin, -2), min(fmt.emax, 3))
    reach = {"wild": (fmt.emin, fmt.emax), "tiny": (fmt.emin, min(fmt.emin + 2, fmt.emax))}
    low, high = reach.get(kind, near)
    significands = whole(shape, 1 - 2**bits, 2**bits - 1, seed).astype(np.float64)
    x = np.ldexp(significands, whole(shape, low, high, seed + 1) - fmt.mantissa_bits)
    x = np.clip(x, -fmt.max, fmt.max).astype(np.float32)
    if kind == "special" and x.size:
        odd = [fmt.max, fmt.smallest_subnormal, -fmt.smallest_normal, -0.0]
        odd += [np.inf, -np.inf] * fmt.has_inf + [np.nan] * fmt.has_nan
        x.flat[::23] = np.resize(np.array(odd, np.float32), x.flat[::23].shape)
    return x


def layouts(x: Any) -> list[Any]:
    """The same values in C and Fortran order, with gaps, and backwards in memory."""
    gaps = np.full((*x.shape[:-1], 2 * x.shape[-1]), 77, x.dtype)
    gaps[..., ::2] = x
    return [x, np.asfortranarray(x), gaps[..., ::2], x[::-1].copy()[::-1]]


def _own(name: str, exponent_bits: int, mantissa_bits: int, **options: Any) -> FloatFormat:
    return FloatFormat(name=name, exponent_bits=exponent_bits, mantissa_bits=mantissa_bits, **options)


#: Formats that no table has: without subnormals, zero, sign or mantissa, and at the ends of float32.
OWN = [
    _own("e4m3-ftz", 4, 3, specials="nan-only", subnormals=False),
    _own("e5m2fnuz-ftz", 5, 2, specials="fnuz", subnormals=False),
    _own("e5m0", 5, 0),
    _own("e3m2-finite-ftz", 3, 2, specials="none", subnormals=False),
    _own("unsigned-e4m3", 4, 3, signed=False),
    _own("large-e4m3", 4, 3, bias=-100),
    _own("tiny-e4m3", 4, 3, bias=140),
    _own("e8m22", 8, 22),
]
ALL_FORMATS = [*FORMATS.values(), *OWN]


@functools.cache
def around(fmt: FloatFormat, dtype: str, overflow: str | None) -> Any:
    """Limits, ties and neighbours of a format, all kinds of bits, and numbers of its own range."""
    if dtype in ("float16", "bfloat16"):  # NaN made quiet, since conversions differ in what they do to others
        x, quiet = np.arange(0, 2**16, 13, np.uint16), np.uint16(0x0200 if dtype == "float16" else 0x0040)
        x = np.where(np.isnan(x.view(dtype)), x | quiet, x).view(dtype)
    else:
        half, tiny = math.ldexp(1.0, fmt.emax - fmt.mantissa_bits - 1), fmt.smallest_subnormal
        edges = [fmt.max, fmt.max + half, fmt.max + 2 * half, 2 * fmt.max, tiny, tiny / 2, 1.5 * tiny, 0.0]
        edges += [fmt.smallest_normal, fmt.smallest_normal - tiny / 2, 1 + fmt.eps / 2, 1 + 1.5 * fmt.eps]
        with np.errstate(over="ignore"):
            x = np.array(edges).astype(dtype)
        x = np.concatenate([x, np.nextafter(x, x.dtype.type(np.inf)), np.nextafter(x, x.dtype.type(0))])
        patterns = words(150, 1).astype(f"u{x.itemsize}").view(x.dtype)  # signalling NaN among them
        special = np.array([np.inf, np.nan, 2.0**-149, 2.0**-126, 5e-324]).astype(dtype)
        low, high = max(fmt.emin - fmt.mantissa_bits - 2, -140), min(fmt.emax + 2, 126)
        x = np.concatenate([x, -x, special, -special, patterns, spread((150,), 2, x.dtype.type, low, high)])
    if fmt.has_nan:
        return x
    x = x[~np.isnan(x)]  # which the format refuses, as it does what would become NaN
    return x[np.abs(x.astype(np.float64)) <= fmt.max] if overflow == "ieee" and not fmt.has_inf else x


# Casts.

SHAPES = ((), (0,), (1,), (3, 5), (7, 1, 11), (300,))
LARGE = (71, 67)  # beyond 4096 elements, where compiled code takes over
CASTS = [*product(("float32", "float64"), ("saturate", "ieee"))]
CASTS += [*product(("float32", "float16", "bfloat16"), (None,))]


def seeded(rounding: str) -> dict[str, Any]:
    """Options of a rounding, with a new generator where it draws."""
    return {"rounding": rounding, "rng": np.random.default_rng(7) if rounding == "stochastic" else None}


def cast(fmt: FloatFormat, rounding: str, inputs: tuple[str, str | None]) -> Any:
    """Round and encode arrays of all shapes and layouts, and by the readable twins."""
    dtype, overflow = inputs
    x = around(fmt, dtype, overflow)
    arrays = [*(np.resize(x, shape) for shape in SHAPES), *layouts(np.resize(x, LARGE))]
    calls = product((fp8sim.round_to, fp8sim.encode), arrays)
    found = [call(array, fmt=fmt, overflow=overflow, **seeded(rounding)) for call, array in calls]
    if x.dtype in (np.float32, np.float64) and overflow is not None:
        draws = np.ldexp((words(x.size, 3) >> np.uint64(11)).astype(np.float64), -53)
        values = api.round_reference(x, fmt=fmt, rounding=rounding, overflow=overflow, draws=draws)
        found += [values, api.encode_reference(values, fmt=fmt)]
    return found


def decode(fmt: FloatFormat) -> Any:
    """Decode codes as integers of two widths and as the format's own dtype."""
    codes = np.arange(5000) if fmt.bits <= 12 else words(5000, 4)
    codes = (codes % 2**fmt.bits).astype(fmt.code_dtype)
    arrays = [*(np.resize(codes, shape) for shape in SHAPES), np.resize(codes, LARGE).T]
    arrays += [codes, codes.view(fmt.dtype), codes.astype(np.uint32)]
    return [fp8sim.decode(array, fmt=fmt) for array in arrays], api.decode_reference(codes, fmt=fmt)


family("casts", cast, ALL_FORMATS, api.ROUNDINGS.keys(), CASTS)
family("casts/decode", decode, ALL_FORMATS)

# Quantisation.

GRANULARITIES = ("tensor", "row", "1x128", "128x128", "1x32", "1x16", "3x7", "none")
SCALES = [
    (fmt, rule) for fmt, rules in api.SCALE_FORMATS.items() for rule in rules if not rule.startswith("4over6")
]
ELEMENTS = [*(FORMATS[name] for name in ("e4m3", "e5m2", "e2m1", "e4m3fnuz", "e3m4", "fp16")), OWN[3]]
RAGGED = [(0, 4), (4, 0), (1, 1), (1, 129), (129, 1), (127, 129), (2, 3, 5), (128, 256), (33, 7, 31)]
RAGGED += [(3, 20000), (2, 2, 2, 600)]
QUANTIZED = (
    "codes scales scale_codes tensor_scale saturated flushed nbytes scale_nbytes axis shape sizes fmt scaling"
)


def quantized(q: Any) -> Any:
    """Read what a quantised array holds and what it becomes."""
    return facts(q, QUANTIZED), repr(q), q.dequantize(dtype=np.float32), q.dequantize(dtype=np.float64)


def quantize(arrays: Iterable[Any], fmt: FloatFormat, scales: Any, axis: int = -1, floor: float = 0) -> Any:
    """Quantise arrays, by the readable twin and without codes too."""
    options = {"granularity": scales[0], "scale_format": scales[1][0], "scale_rule": scales[1][1]}
    found, scaling = [], api.Scaling(**options, amax_floor=floor)
    for x in arrays:
        found.append(quantized(fp8sim.quantize(x, fmt=fmt, axis=axis, amax_floor=floor, **options)))
        found.append(api.round_trip(x, fmt=fmt, scaling=scaling, axis=axis))
        if x.size < 4096 and x.dtype in (np.float32, np.float64):
            found.append(quantized(api.quantize_reference(x, fmt=fmt, scaling=scaling, axis=axis)))
    return found


def quantize_matrices(fmt: FloatFormat, *scales: Any, floor: float = 0) -> Any:
    """Quantise a small and large matrices of both precisions and of all layouts."""
    arrays = [patchy((13, 37), 5), patchy((13, 37), 6, np.float64), patchy((61, 131), 7, np.float64)]
    return quantize([*arrays, *layouts(patchy((61, 131), 8))], fmt, scales, floor=floor)


def quantize_stacks(axis: int, *scales: Any) -> Any:
    """Quantise along each axis of three."""
    return quantize([patchy((6, 9, 20), 9), patchy((9, 40, 35), 10)], FORMATS["e4m3"], scales, axis)


def quantize_dtype(fmt: FloatFormat, dtype: str) -> Any:
    """Quantise what becomes float32 or float64 first, and by default."""
    x = whole((70, 80), -100 * (dtype != "uint8"), 100, 12).astype(np.float32).astype(dtype)
    return quantize([x, x[:9, :9]], fmt, ("row", SCALES[0])), quantized(fp8sim.quantize(x))


family("quantize", quantize_matrices, ELEMENTS, GRANULARITIES, SCALES)
family("quantize/floor", partial(quantize_matrices, FORMATS["e4m3"], floor=1e-4), GRANULARITIES, SCALES)
family("quantize/axis", quantize_stacks, (-1, 0, 1), GRANULARITIES, SCALES[::3])
family("quantize/dtype", quantize_dtype, ELEMENTS, ("float16", "bfloat16", "int32", "uint8"))
for _shapes, _names in (
    (RAGGED, GRANULARITIES),
    ([(0,), (1,), (5,), (5000,)], ("tensor", "row", "1x128", "none")),
):
    _ragged = lambda shape, name: quantize([patchy(shape, 11)], FORMATS["e4m3"], (name, SCALES[0]))  # noqa: E731
    family("quantize/ragged", _ragged, _shapes, _names)
    _sizes = lambda shape, name: api.group_sizes(granularity=name, shape=shape, axis=0)  # noqa: E731
    family("quantize/sizes", _sizes, _shapes, _names)

# Tensor cores.

KINDS = ("near", "wild", "special", "tiny")
LENGTHS = {"0": (0, 0), "1": (1, 0), "2 steps and 3": (3, 2), "128 and a step": (128, 1)}
CORE_FORMATS = {
    f"{core.name}/{a}-{b}": (core, a, b)
    for core in TENSOR_CORES.values()
    for a, b in product(core.inputs, repeat=2)
}


def block_scales(core: Any, shape: tuple[int, int], seed: int, kind: str) -> Any:
    """Scales of one operand, for a core that multiplies by them."""
    reach = 60 if kind == "wild" else 3
    scales = np.ldexp(np.float32(1), whole(shape, -reach, reach, seed).astype(np.int32))
    if core.scale_format != "e8m0":
        scales = np.abs(values_of(FORMATS[core.scale_format], shape, seed, "near"))
    if kind == "special":
        scales[:1, :1] = np.nan
    return scales


def sides(core: Any, m: int, k: int, n: int, kind: str, formats: Any = None) -> tuple[Any, Any, Any]:
    """Operands of a core, and the pair of their block scales where it has such."""
    left, right = (FORMATS[name] for name in formats or (core.inputs[0], core.inputs[-1]))
    wide = kind == "tiny" and right.emin < -100  # whose products would all be nothing
    a, b = values_of(left, (m, k), 20, kind), values_of(right, (k, n), 20, "near" if wide else kind)
    blocks = -(-k // core.scale_block) if core.scale_format else 0
    pair = [block_scales(core, shape, 24, kind) for shape in ((m, blocks), (blocks, n)) if core.scale_format]
    return a, b, tuple(pair) or None


def chain(
    core: Any, kind: str, length: tuple[int, int], call: Any = fp8sim.tensor_core_matmul, n: int = 67
) -> Any:
    """Multiply plainly, from an accumulator, with promotion, and with both."""
    a, b, scales = sides(core, 5, length[0] + length[1] * core.step, n, kind)
    held = FORMATS["fp32" if kind == "tiny" and core.output != "fp16-rne" else "fp16"]
    c = values_of(held, (5, n), 26, "near" if kind == "wild" else kind)
    options = product(({}, {"c": c}), ({}, {"promote_every": 2 * core.step}))
    return [call(a, b, core=core.name, scales=scales, **start, **every) for start, every in options]


def multiply_formats(of: Any, kind: str) -> Any:
    """Multiply operands of given formats as float32, as float64 and in their own dtype, in all layouts."""
    core, *formats = of
    a, b, scales = sides(core, 4, core.step + 5, 70, kind, formats)
    own = [np.float32 if name == "tf32" else FORMATS[name].dtype for name in formats]
    named = {"a_format": formats[0], "b_format": formats[1]}
    return [
        fp8sim.tensor_core_matmul(x, y, core=core, scales=scales, **options)
        for dtypes, options in (((np.float32,) * 2, named), ((np.float64,) * 2, named), (own, {}))
        for x, y in zip(layouts(a.astype(dtypes[0])), layouts(b.astype(dtypes[1])), strict=True)
    ]


def multiply_promoted(core: Any, kind: str) -> Any:
    """Multiply chains by scales as they are promoted."""
    a, b, _ = sides(core, 6, 300, 66, kind)
    pair = np.abs(spread((6, 3), 27)), np.abs(spread((3, 66), 28))
    twin = api.tensor_core_matmul_reference(a, b, core=core, promote_every=128, promotion=pair)
    options = {"promote_every": 128, "a_scales": pair[0], "b_scales": pair[1]}
    return twin, api.promoted_matmul(a, b, core=core, **options)


def multiply_in_blocks(core: Any) -> Any:
    """Multiply what is cut into several blocks."""
    a, b, scales = sides(core, 260, 70, 530, "near")
    return fp8sim.tensor_core_matmul(a, b, core=core, scales=scales)


_plain = [core for core in TENSOR_CORES.values() if core.scale_format is None and 128 % core.step == 0]
family("tensor_cores", chain, TENSOR_CORES, KINDS, LENGTHS)
_twin = {"twin": api.tensor_core_matmul_reference}
family("tensor_cores", lambda *of: chain(*of, n=9), TENSOR_CORES, KINDS, {"2 steps and 3": (3, 2)}, _twin)
family("tensor_cores", multiply_formats, CORE_FORMATS, KINDS[:2])
family("tensor_cores/promoted", multiply_promoted, {core.name: core for core in _plain[::3]}, KINDS)
family("tensor_cores/large", multiply_in_blocks, {name: TENSOR_CORES[name] for name in [*TENSOR_CORES][::6]})

# Products under recipes.

PRODUCTS = ((1, 1, 1), (3, 0, 4), (1, 300, 70), (9, 140, 35))
BASES = ("bf16", "fp16", "fp8-tensor", "fp8-row", "deepseek-v3", "deepseek-v3.1", "mxfp8")
SPECIAL = {"nan": np.nan, "inf": np.inf, "large": 1e30, "tiny": 1e-44}


def sums_of(name: str) -> Iterator[tuple[str, Any]]:
    """Yield the accumulators that take the formats of a recipe."""
    yield from api.ACCUMULATORS.items()
    for core in TENSOR_CORES.values():
        if RECIPES[name].a.fmt.name in core.inputs and core.scale_format is None:
            yield from ((key, api.get_accumulator(key)) for key in (core.name, f"{core.name}/32"))
            if core.output != "fp16-rne" or name in BASES[:4]:  # no FP16 register is rescaled on the way
                yield f"{core.name} in one chain", api.OneChain(core=core.name)


def what_if(name: str, **changes: Any) -> Any:
    """Change a recipe."""
    return dataclasses.replace(RECIPES[name], name="what-if", **changes)


WHAT_IFS = {f"{name}/{key}": what_if(name, accumulator=sums) for name in BASES for key, sums in sums_of(name)}
for _name in ("mxfp8", "nvfp4"):
    WHAT_IFS[f"{_name}/128"] = what_if(_name, accumulator=f"blackwell-{_name}/128")
for _name, _side in product(BASES[:4], "ab"):
    _changes = {_side: RECIPES["deepseek-v3"].a, "accumulator": "exact"}
    WHAT_IFS[f"{_name}/mixed {_side}"] = what_if(_name, **_changes)


def multiply(recipe: Any, *more: tuple[int, int, int]) -> Any:
    """Multiply at once and in two steps; the sums of BLAS from numbers that make them exact."""
    found, make = [], exact if recipe.accumulator.name == "fp32" else spread
    for m, k, n in (*PRODUCTS, *more):
        a, b = make((m, k), 30), make((k, n), 32)
        operands = api.quantize_operands(a, b, recipe=recipe)
        found += [fp8sim.matmul(a, b, recipe=recipe), recipe.accumulator.multiply(*operands)]
        found += [fp8sim.matmul(a.astype(np.float64), np.asfortranarray(b), recipe=recipe)]
        found += map(quantized, operands)
    return found


def multiply_special(recipe: Any, bad: float) -> Any:
    """Multiply matrices with one odd number among them, which scaled operands need finite."""
    a, b = exact((70, 100), 44), np.abs(exact((100, 66), 46)) + np.float32(1)
    a[3] = 0
    a[3, 5] = bad if math.isfinite(bad) or recipe.a.scaling.granularity == "none" else 1e38
    return fp8sim.matmul(a, b, recipe=recipe)


def dot_exactly(seed: int) -> Any:
    """Sum in fractions."""
    return api.exact_dot(*(spread((50,), 34 + 2 * seed + i, np.float64, -30, 30) for i in (0, 40)))


family("matmul", lambda recipe: multiply(recipe, (70, 257, 66)), RECIPES)
family("matmul/what-if", multiply, WHAT_IFS)
family("matmul/special", multiply_special, RECIPES, SPECIAL)
family("matmul/exact_dot", dot_exactly, range(4))

# Errors measured.

MEASURES = (
    "calc_diff",
    "cosine_similarity",
    "max_abs_error",
    "max_relative_error",
    "relative_error",
    "sqnr_db",
)
TRUTH = exact((70, 66), 60)
PAIRS = {
    "equal": (TRUTH, TRUTH),
    "close": (TRUTH + whole(TRUTH.shape, -1, 1, 61).astype(np.float32), TRUTH),
    "zero": (TRUTH, 0 * TRUTH),
    "zeros": (0 * TRUTH, 0 * TRUTH),
    "large": (np.ldexp(TRUTH.astype(np.float64), 1000), np.ldexp(TRUTH.astype(np.float64), 999)),
    "infinite": (np.where(TRUTH == 448, np.float32(np.inf), TRUTH), TRUTH),
    "nan": (np.where(TRUTH == 448, np.float32(np.nan), TRUTH), TRUTH),
    "integers": (TRUTH.astype(np.int64) + 1, TRUTH.astype(np.int64)),
}
COMPARISONS = {
    "defaults": (exact, {}),
    "baseline": (exact, {"recipes": ["mxfp8", "deepseek-v3.1"], "baseline": "fp16", "bounds": False}),
    **{
        device: (spread, {"recipes": [*RECIPES][1:], "device": device}) for device in ("v100", "h800", "b200")
    },
}


def bound(recipe: Any, make: Any) -> Any:
    """Bound the errors of sums."""
    a, b = api.quantize_operands(make((9, 290), 50), make((290, 12), 52), recipe=recipe)
    sums = [recipe.accumulator, *map(api.get_accumulator, ("fp32", "exact"))]
    return [api.sum_error_bound(a, b, accumulator=one) for one in sums]


def html_of(result: Any) -> str:
    """What a notebook shows; the underscores are IPython's protocol."""
    return result._repr_html_()


def told(result: Any) -> Any:
    """Read a result as data, as text and as a notebook shows it."""
    return figures(result), str(result), html_of(result)


def compare(options: Any) -> Any:
    """Compare recipes."""
    return told(fp8sim.compare(options[0]((70, 256), 54), options[0]((256, 66), 56), **options[1]))


family("rounded/metrics", lambda name, pair: getattr(metrics, name)(*pair), MEASURES, PAIRS)
family("metrics/ulp_error", lambda f, pair: metrics.ulp_error(*pair, fmt=f), ("e4m3", "fp16", OWN[5]), PAIRS)
family("rounded/sum_error_bound", bound, RECIPES, {"spread": spread, "exact": exact})
family("rounded/compare", compare, COMPARISONS)

# Tables, and what products and models cost.

FORMAT = (
    "name exponent_bits mantissa_bits bias specials subnormals signed zero source bits has_inf has_nan emin emax "
    "max smallest_normal smallest_subnormal eps dtype code_dtype"
)
RECIPE = "name a b accumulator.name output bits summary"
CORE = "name inputs step fraction_bits output exponent_floor group scale_format scale_block source"
DEVICE = "name title bandwidth memory fp32 tf32 bf16 fp16 fp8 fp4 measured_bf16 measured_fp8 remark"
TRAINING = "name cached_input gradient_rounding delayed summary" + "".join(
    f" {gemm}.{name}" for gemm in api.GEMMS for name in RECIPE.split()
)
MODEL = "name family hidden vocab layers summary tied decoder positions token_types pooler mtp_layers source"
INVENTORY = (
    "parameters quantized_parameters active_parameters active_without_embedding linear_flops "
    "kept_flops active_without_embedding_and_head"
)
WORKLOADS = [
    *product(("deepseek-v3",), ("training", "prefill", "decode"), ("h800",), ({},)),
    ("nvfp4", "decode", "b200", {"batch": 7, "absorbed": False}),
    ("bf16", "prefill", "mi300x", {"seq_len": 100, "causal": False, "baseline": "fp16"}),
]


def gemm_cost(recipe: str, device: str, m: int, n: int, k: int) -> Any:
    """Count what a product costs, and beside another."""
    cost, base = (fp8sim.gemm_cost(m=m, n=n, k=k, recipe=name, device=device) for name in (recipe, "bf16"))
    ratio = facts(cost.ratio_to(base), "flops bytes bytes_without_scales seconds")
    return told(cost), ratio, cost.gbps_at(tflops=206.5), cost.gbps_at(tflops=3.25, scales=True)


def model_cost(model: str, work: Any) -> Any:
    """Count what a model costs; an encoder does not decode."""
    recipe, phase, device, options = work
    phase = "prefill" if model == "all-minilm-l6-v2" else phase
    cost = fp8sim.model_cost(model, recipe=recipe, phase=phase, device=device, **options)
    return told(cost), cost.gemm_table().html()


def published(device: Any) -> dict[str, Any]:
    """Read a device: of its published figures the value and the source."""
    found = {name: getattr(device, name) for name in DEVICE.split()}
    return {name: (x.value, x.source) if hasattr(x, "source") else x for name, x in found.items()}


family("tables/formats", lambda fmt: (str(fmt), facts(fmt, FORMAT)), ALL_FORMATS)
family("tables/recipes", lambda recipe: (str(recipe), facts(recipe, RECIPE)), RECIPES)
family("tables/cores", lambda core: facts(core, CORE), TENSOR_CORES)
family("tables/accumulators", lambda sums: (sums.name, str(sums)), api.ACCUMULATORS)
family("tables/devices", lambda device: (str(device), published(device)), api.DEVICES)
family("tables/rates", lambda device, of: tuple(device.rate(of)[:4]), api.DEVICES, api.OPERAND_CLASSES.keys())
family("tables/training", lambda recipe: (str(recipe), facts(recipe, TRAINING)), api.TRAINING_RECIPES)
family("tables/models", lambda name: facts(api.get_model(name), MODEL), api.MODELS.keys())
family(
    "tables/inventory", lambda name: facts(api.inventory(api.get_model(name)), INVENTORY), api.MODELS.keys()
)
for _table in ("ROUNDINGS", "SCALE_FORMATS", "SCALE_RULES", "GEMMS", "OPERAND_CLASSES"):
    family(f"tables/{_table}", lambda name=_table: list(getattr(api, name).items()))
for _m, _n, _k in ((64, 2112, 7168), (4096, 7168, 2048), (1, 3, 5)):
    family(f"costs/{_m}x{_n}x{_k}", partial(gemm_cost, m=_m, n=_n, k=_k), RECIPES.keys(), api.DEVICES.keys())
family("close/models", model_cost, api.MODELS.keys(), WORKLOADS)
family("close/check_model", lambda name: told(api.check_model(name)), api.MODELS.keys())

# Explanations.

BLOCKS = {"vector": patchy((32,), 70), "large": 1000 * spread((40,), 72), "zeros": np.zeros(3)}
GROUPS = [("1x16", 2, 1), ("3x7", 1, 2), ("row", 4, 0)]
ELEMENT_NAMES = ("e4m3", "e5m2", "e2m1")


def explain(fmt: FloatFormat, rounding: str) -> Any:
    """Explain numbers around the limits of a format."""
    numbers = [*around(fmt, "float64", None)[:60:4], *around(fmt, "float32", None)[2:90:15]]
    anatomies = [fp8sim.explain(x, fmt=fmt, **seeded(rounding)) for x in numbers]
    return [(told(one), facts(one, "below above midpoint error relative_error")) for one in anatomies]


def explain_block(x: Any, fmt: str, scales: tuple[str, str], floor: float = 0) -> Any:
    """Explain a block."""
    options = {"scale_format": scales[0], "scale_rule": scales[1], "amax_floor": floor}
    return api.explain_block(x, fmt=fmt, **options)


def explain_elements(*of: Any) -> Any:
    """Explain a block to the bit, without the errors over all of its elements, which BLAS sums."""
    return figures(explain_block(*of, floor=1e-4), "relative_error", "sqnr_db")


def explain_group(of: tuple[str, int, int]) -> Any:
    """Explain one of several blocks."""
    block = api.explain_block(patchy((6, 30), 74), granularity=of[0], group=of[1:])
    return figures(block, "relative_error", "sqnr_db")


def explain_dot(core: Any, kind: str, options: Any) -> Any:
    """Explain a dot product and its first step."""
    a, b, scales = sides(core, 1, 2 * core.step + 3, 1, kind)
    pair = scales and tuple(scale.ravel() for scale in scales)
    every = {"promote_every": core.step} if options else {}
    dot = api.explain_dot(a.ravel(), b.ravel(), core=core.name, scales=pair, **options, **every)
    return told(dot), told(dot.steps[0]), dot.cut_off


family("explain", explain, ALL_FORMATS, api.ROUNDINGS.keys())
family(
    "explain/all", lambda x: told(fp8sim.explain(x, fmt=[*FORMATS][:12])), (0.3, 1e6, -0.0, np.float32(0.1))
)
family("explain_block", explain_elements, BLOCKS, ELEMENT_NAMES, SCALES)
family("explain_block/group", explain_group, GROUPS)
family("rounded/explain_block", lambda *of: told(explain_block(*of)), BLOCKS, ELEMENT_NAMES, SCALES)
family("explain_dot", explain_dot, TENSOR_CORES, KINDS[:3], {"plain": {}, "promoted": {"c": 1.5}})

# Training.

SIZES = {
    "small": (37, 130, 45, np.float32),
    "large": (160, 256, 136, np.float32),
    "wide": (20, 64, 24, np.float64),
}
VARIANTS = {f"input {kept}": {"cached_input": kept} for kept in ("quantized", "original")}
VARIANTS["stochastic"] = {"gradient_rounding": "stochastic"}
DELAYED = {
    f"{h}-{m}": {"delayed": api.DelayedScaling(history=h, margin=m)} for h, m in product((1, 3), (0, 2))
}
FP8_DELAYED = {"fp8-delayed": api.TRAINING_RECIPES["fp8-delayed"]}


def exact_layer() -> list[Any]:
    """Inputs, weights, gradients and bias of a layer whose sums are exact."""
    return [*(exact(shape, 90) for shape in ((64, 96), (80, 96), (64, 80))), whole((80,), -8, 8, 93)]


def layer(recipe: Any, size: tuple[Any, ...]) -> list[Any]:
    """Inputs, weights, gradients and bias of a layer; exact sums where BLAS does them."""
    tokens, k, n, dtype = size
    if any(getattr(recipe, gemm).accumulator.name == "fp32" for gemm in api.GEMMS):
        return [x.astype(dtype) for x in exact_layer()]
    x, w, dy = (
        patchy(shape, 90 + 2 * i, dtype) for i, shape in enumerate([(tokens, k), (n, k), (tokens, n)])
    )
    return [x, w, np.ldexp(dy, -9).astype(dtype), spread((n,), 96, dtype)]


def gemms_of(recipe: Any, sqnr: bool = False) -> Any:
    """Return the products of a layer, with all that they can be given."""
    statistics = api.Statistics(sqnr=sqnr)
    return api.LinearGemms(recipe=recipe, rng=np.random.default_rng(5), statistics=statistics)


def train(recipe: Any, size: tuple[Any, ...], steps: int = 2) -> Any:
    """Go forward and backward, one product at a time too, and read what is kept between them."""
    gemms, (x, w, dy, bias), found = gemms_of(recipe), layer(recipe, size), []
    for step in range(steps):
        factor = x.dtype.type((step % 3 + 1) / 2)
        y, saved = gemms.forward(factor * x, w, bias=bias if step else None, training=step != 2)
        found += [y, *(q and quantized(q) for q in (saved.x, saved.w)), saved.original_x, saved.original_w]
        for asked in ({}, {"wgrad": False}, {"dgrad": False}):
            found += gemms.backward(factor * dy, saved, **asked)
        found += [] if gemms.delayed is None else [gemms.delayed.history.copy()]
    return found, {k: facts(v, "elements saturated flushed") for k, v in gemms.statistics.gemms.items()}


def train_variant(recipe: Any, changes: Any) -> Any:
    """Train under a what-if, for so many steps that past scales are forgotten."""
    return train(dataclasses.replace(recipe, name="what-if", **changes), SIZES["small"], 5)


def train_statistics(recipe: Any) -> Any:
    """Compare each product with the product of what was not quantised, in float64 since BLAS sums the errors."""
    (x, w, dy), gemms = (x.astype(np.float64) for x in exact_layer()[:3]), gemms_of(recipe, sqnr=True)
    gemms.backward(dy, gemms.forward(x, w)[1])
    return {gemm: facts(one, "signal noise sqnr_db") for gemm, one in gemms.statistics.gemms.items()}


def train_in_torch(recipe: Any) -> Any:
    """Go forward and backward in PyTorch."""
    import torch

    x, w, dy, bias = (torch.from_numpy(x.astype(np.float32)) for x in exact_layer())
    leaves = [tensor.requires_grad_() for tensor in (x, w, bias)]
    y = api.linear(x, w, bias, gemms=gemms_of(recipe))
    y.backward(dy)
    return [y.detach().numpy(), *(tensor.grad.numpy() for tensor in leaves)]


family("training", train, api.TRAINING_RECIPES, SIZES)
family("training/what-if", train_variant, api.TRAINING_RECIPES, VARIANTS)
family("training/what-if", train_variant, FP8_DELAYED, DELAYED)
family("close/training", train_statistics, api.TRAINING_RECIPES)
family("torch/linear", train_in_torch, api.TRAINING_RECIPES)

# Experiments: loss curves, generated data.

CURVES = {
    f"{name}-{seed}": whole((40,), 2**18, 2**20, 100 + i) / 2.0**19
    for i, (name, seed) in enumerate(product(("bf16", "deepseek-v3-no-promotion"), (0, 1)))
}
LOSSES = "recipe seeds loss loss_spread error error_low error_high largest saturated flushed diverged"


def compare_losses(diverged: bool) -> Any:
    """Compare runs over two seeds, one of which may have diverged."""
    layers = {"first": {gemm: {"sqnr_db": 31.5, "saturated": 0.0, "flushed": 0.25} for gemm in api.GEMMS}}
    ends = {"saturated": 0.25, "flushed": 0.125, "layers": layers}
    runs = [
        api.RunResult(recipe=name[:-2], seed=int(name[-1]), losses=tuple(curve), diverged=bad, **ends)
        for (name, curve), bad in zip(CURVES.items(), (False, False, False, diverged), strict=True)
    ]
    return [facts(row, LOSSES) for row in api.compare_losses(runs, baseline="bf16")]


def generate(shape: tuple[int, int, int], seed: int) -> Any:
    """Generate matrices like those of language models."""
    m, n, k = shape
    operands = (
        api.llm_like_operands(m=m, n=n, k=k, seed=seed),
        api.weight_operands(exact((n, k), 1), "w", seed=seed),
    )
    drawn = api.llm_like_activations(m, k, rng=np.random.default_rng(seed))
    gradients = api.token_gradients(m, k, decades=2.0, rng=np.random.default_rng(seed))
    return [facts(one, "a b source") for one in operands], drawn, gradients


def gradient_outliers(seed: int) -> Any:
    """Push uneven gradients through Dgrad."""
    found = api.gradient_outliers(spreads=[0.0, 3.0], tokens=160, width=130, seed=seed)
    return figures(found), str(found)


def attend(options: dict[str, Any]) -> Any:
    """Attend over a cache of small multiples of a power of two, so that most sums are exact."""
    q, k, v = whole((4, 3, 32), -9, 9, 121), whole((2, 37, 32), -99, 99, 122), whole((2, 37, 32), -9, 9, 123)
    result = fp8sim.attention(q / 8, k / 16, v / 8, **options)
    return result.logits, result.output, figures(result)


family("close/losses/smooth", lambda curve: api.smooth(curve), CURVES)
family("close/losses/errors", lambda curve: api.relative_errors(curve[:30], CURVES["bf16-0"]), CURVES)
family("close/losses/diverged", compare_losses, (True, False))
family("losses/label", lambda: list(map(api.recipe_label, api.TRAINING_RECIPES)))
family("numpy/data", generate, ((8, 4, 16), (64, 96, 300)), (0, 3))
ATTENTIONS = {
    "fp8": {"kv": "fp8"},
    "dynamic": {"kv": "e5m2", "scales": "dynamic", "granularity": "head", "causal": True},
    "token": {"kv": "int8", "granularity": "token", "block": 8},
    "nvfp4": {"kv": "nvfp4", "q_format": "bf16", "p_format": "fp8"},
    "hopper": {"kv": "fp8", "q_format": "fp8", "p_format": "fp8", "accumulator": "hopper-fp8"},
}
family("rounded/attention", attend, ATTENTIONS)
family("numpy/rounded/gradient_outliers", gradient_outliers, (0, 1))

# Checkpoints.

_KINDS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "I32": "int32"}
TENSORS = {kind: (kind, whole((3, 5), -9, 9, 111).astype("f4").astype(name)) for kind, name in _KINDS.items()}
TENSORS["w"] = "F8_E4M3", whole((130, 140), 0, 0x7E, 110).astype(np.uint8)
TENSORS["v"] = "F8_E5M2", whole((130, 140), 0, 0x7B, 110).astype(np.uint8)
SCALED = {"w_scale_inv": ("F32", whole((2, 2), 1, 9, 112).astype(np.float32))}


BAD_FILES = {
    "wrong": safetensors({"w": TENSORS["w"], "w_scale_inv": TENSORS["F32"]}),
    "short": safetensors(TENSORS)[:200],
    "pickle": b"\x80\x04\x95" + bytes(20),
    "empty": b"",
}


def read_tensor(content: bytes, tensor: str, suffix: str = ".safetensors") -> Any:
    """Read a file that is written for it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(content)
        if suffix == ".npy":
            return api.read_array(path)
        checkpoint = api.open_checkpoint(path)
        return checkpoint.read(tensor), {
            name: checkpoint.stored[name].shape for name in sorted(checkpoint.stored)
        }


_good = {"plain": safetensors(TENSORS), "scaled": safetensors(TENSORS | SCALED)}
family("checkpoints", read_tensor, _good, _KINDS.keys())
family("checkpoints", read_tensor, {"scaled": _good["scaled"]}, ("w",))
family("errors/checkpoints", read_tensor, _good, ("v",))  # FP8 codes whose scales are not there
family("errors/checkpoints", read_tensor, {"plain": _good["plain"]}, ("w",))
family("errors/checkpoints", read_tensor, BAD_FILES, ("w",), (".safetensors", ".pt", ".npy"))
family("errors/checkpoints", read_tensor, _good, ("x",))
family("errors/checkpoints/missing", lambda: api.open_checkpoint("no/such.safetensors"))

# The command line.

COMMANDS = {
    "cli": [
        "explain 0.3",
        "explain 0.3 2^-10 --format e5m2 --format bf16",
        "explain",
    ],
    "numpy/rounded/cli": ["compare --shape 16x32x64 --recipe mxfp8"],
}


def command(line: str) -> Any:
    """Run a command: exit status, what it prints, and whether it complains."""
    arguments, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["fp8sim", *line.split()]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            api.main()
    except SystemExit as stopped:
        return stopped.code, out.getvalue(), bool(err.getvalue())
    finally:
        sys.argv = arguments


for _group, _lines in COMMANDS.items():
    family(_group, command, _lines)

# Bad input.

ONES = np.ones((4, 4))
NO_ARRAYS = {
    **{"object": np.array([1.0, None]), "huge": [2**70], "ragged": [[1.0], [1.0, 2.0]], "none": None},
    **{"text": "0.5", "bytes": b"abc", "complex": ONES + 0j, "bool": ONES > 0},
    **{"masked": np.ma.masked_array(ONES, ONES > 0), "inexact": np.full((4, 4), 2**53 + 1)},
}
NO_PAIRS = {
    **{"transposed": (np.ones((2, 3)), np.ones((4, 3))), "three axes": (ONES, np.ones((2, 4, 4)))},
    **{"vector": (np.ones(4), ONES), "infinite": (ONES * np.inf, np.ones((4, 3)))},
    **{f"left {name}": (bad, ONES) for name, bad in NO_ARRAYS.items()},
}
TAKE_ONE = ("round_to", "encode", "quantize", "explain", "explain_block")
#: function -> arguments that it takes
GOOD = {
    "round_to": partial(fp8sim.round_to, [1.5], fmt="e4m3"),
    "encode": partial(fp8sim.encode, [np.nan, 9.0], fmt="e4m3"),
    "decode": partial(fp8sim.decode, fmt="e4m3"),
    "FloatFormat": partial(FloatFormat, name="x", exponent_bits=4, mantissa_bits=3),
    "TensorCore": partial(fp8sim.TensorCore, name="x", inputs=("fp16",), step=4, fraction_bits=23),
    "quantize": partial(fp8sim.quantize, ONES),
    "matmul": partial(fp8sim.matmul, ONES, ONES),
    "tensor_core_matmul": partial(fp8sim.tensor_core_matmul, ONES, ONES),
    "compare": partial(fp8sim.compare, ONES, ONES),
    "gemm_cost": partial(fp8sim.gemm_cost, m=4, n=4, k=4),
    "model_cost": partial(fp8sim.model_cost, "all-minilm-l6-v2"),
    "explain": partial(fp8sim.explain, 0.3),
    "explain_block": partial(api.explain_block, ONES, granularity="row"),
    "explain_dot": partial(api.explain_dot, [1.0], [1.0]),
    "get_accumulator": api.get_accumulator,
    "OneChain": api.OneChain,
    "get_model": api.get_model,
    "check_model": api.check_model,
    "get_training_recipe": lambda recipe: api.get_training_recipe(recipe),  # by position
    "DelayedScaling": api.DelayedScaling,
    "fp8-row": partial(dataclasses.replace, api.TRAINING_RECIPES["fp8-row"]),
    "llm_like_operands": partial(api.llm_like_operands, m=4, n=4, k=4),
    "gradient_outliers": api.gradient_outliers,
}
#: function and option -> values that it refuses
REFUSED: dict[str, tuple[Any, ...]] = {
    "round_to fmt": ("x", None, 8),
    "round_to rounding": ("up", None, "stochastic"),
    "round_to overflow": ("clip", True),
    "encode fmt": ("e2m1", OWN[3], "e9m9"),
    "decode codes": ([1.5], np.array([256], np.uint16), [-1], "a"),
    "FloatFormat exponent_bits": (0, 9, 4.0, True),
    "FloatFormat mantissa_bits": (-1, 24),
    "FloatFormat bias": (1.5, 200, -200),
    "FloatFormat name": ("", 3),
    "FloatFormat specials": ("odd", None),
    "FloatFormat zero": (False,),
    "TensorCore step": (0, 1.5, 2**30),
    "TensorCore inputs": ((), ("x",)),
    "TensorCore output": ("x",),
    "TensorCore exponent_floor": (-1000,),
    "TensorCore group": (3, 2),
    "TensorCore scale_block": (32,),
    "quantize granularity": ("rows", "1x0", "128", 128, None),
    "quantize axis": (2, -3, None, 1.0),
    "quantize scale_format": ("e8m1", "bf16"),
    "quantize scale_rule": ("up", 3),
    "quantize amax_floor": (-1.0, np.inf, np.nan, None, "1e-4"),
    "quantize fmt": ("e8m0", OWN[4], None),
    "matmul recipe": ("fp8", None, 8),
    "tensor_core_matmul core": ("hopper", None, "blackwell-mxfp8"),
    "tensor_core_matmul c": (np.ones((2, 2)), ONES * 1e300, ONES + 0j),
    "tensor_core_matmul promote_every": (0, 33, 1.5),
    "tensor_core_matmul scales": ((ONES, ONES),),
    "tensor_core_matmul a_format": ("bf16", "e9m9"),
    "gemm_cost m": (0, True, None),
    "gemm_cost device": ("h900", None),
    "model_cost phase": ("test", "decode"),
    "model_cost seq_len": (0, 1.5),
    "model_cost baseline": ("z",),
    "compare recipes": (["x"],),
    "explain fmt": ([], ["x"], "x"),
    "explain rounding": ("up", "stochastic"),
    "explain_block group": (None, (9, 0), (1,)),
    "explain_dot promote_every": (33,),
    "explain_dot a_format": ("e2m1",),
    "get_accumulator accumulator": ("fp8", None, "fp32/32", "hopper-fp8/x"),
    "OneChain core": ("x", None),
    "get_model model": ("llama", None, 3, {}, {"model_type": 7}, "no/config.json"),
    "check_model model": ("x", None),
    "get_training_recipe recipe": ("fp9", None),
    "DelayedScaling history": (0, 1.5),
    "DelayedScaling margin": (0.5, True),
    "fp8-row cached_input": ("x",),
    "fp8-row gradient_rounding": ("x",),
    "fp8-row fprop": ("bf16",),
    "fp8-row delayed": (api.DelayedScaling(),),
    "llm_like_operands k": (0, 1.5, None),
    "gradient_outliers tokens": (0, 1.5),
    "gradient_outliers recipes": (["fp8-delayed"], ["x"]),
}
#: model and key of its configuration -> values that are refused
MISDESCRIBED: dict[str, tuple[Any, ...]] = {
    "llama-3.1-8b vocab_size": (None, 0, "x", True),
    "llama-3.1-8b num_key_value_heads": (3,),
    "llama-3.1-8b tie_word_embeddings": (1,),
    "qwen2.5-7b use_sliding_window": (True,),
    "qwen3-30b-a3b num_experts_per_tok": (999,),
    "qwen3-30b-a3b decoder_sparse_step": (0,),
    "deepseek-v3 n_group": (7,),
    "deepseek-v3 first_k_dense_replace": (99,),
    "deepseek-v3 num_key_value_heads": (4,),
    "all-minilm-l6-v2 architectures": (["BertForMaskedLM"],),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "scale of a number": lambda: fp8sim.quantize(3.0),
    "block of a vector": lambda: fp8sim.quantize(np.ones(4), granularity="128x128"),
    "rule of another scale": lambda: fp8sim.quantize(ONES, scale_format="e8m0", scale_rule="amax"),
    "scale beyond e8m0": lambda: fp8sim.quantize(ONES * 1e300, scale_format="e8m0"),
    "scale beyond fp32": lambda: fp8sim.quantize(np.full((70, 70), 1e300)),
    "large nan": lambda: fp8sim.quantize(np.full((70, 300), np.nan, np.float32), granularity="1x128"),
    "overflow": lambda: fp8sim.round_to([9.0], fmt="e2m1", overflow="ieee"),
    "large overflow": lambda: fp8sim.encode(np.full(5000, 9.0), fmt="e2m1", overflow="ieee"),
    "negative": lambda: fp8sim.round_to([-1.0], fmt=_own("u", 4, 3, specials="none", signed=False)),
    "fnuz without sign": lambda: _own("u", 4, 3, specials="fnuz", signed=False),
    "not of the core": lambda: fp8sim.tensor_core_matmul(ONES / 3, ONES),
    "scales of no block": lambda: fp8sim.tensor_core_matmul(
        ONES, ONES, core="blackwell-mxfp8", scales=(ONES, ONES)
    ),
    "c of no fp16": lambda: fp8sim.tensor_core_matmul(ONES, ONES, core="hopper-fp8-fp16out", c=ONES / 3),
    "zero product": lambda: fp8sim.compare(0 * ONES, ONES),
    "empty product": lambda: fp8sim.compare(np.ones((0, 4)), ONES),
    "two lengths": lambda: api.explain_dot([1.0], [1.0, 2.0]),
    "no products": lambda: api.explain_dot([], []),
    "matrices": lambda: api.explain_dot(ONES, ONES),
    "numbers": lambda: fp8sim.explain([1.0]),
    "rate of none": lambda: fp8sim.gemm_cost(m=1, n=1, k=1).gbps_at(tflops=0.0),
    "training without generator": lambda: api.LinearGemms(
        recipe=api.TRAINING_RECIPES["deepseek-v3-stochastic-gradients"]
    ),
}
BAD_SUMS = [("deepseek-v3", sums) for sums in ("hopper-fp8/256", "blackwell-mxfp8", "x")]
BAD_SUMS += [("fp16", "hopper-fp8")]
BAD_SUMS += [("mxfp8", "hopper-fp8/128"), ("mxfp8", "blackwell-nvfp4"), ("nvfp4", "hopper-fp8")]
BAD_SUMS += [("deepseek-v3", api.OneChain(core="hopper-fp8-fp16out"))]


def each(table: dict[str, tuple[Any, ...]]) -> dict[str, tuple[str, str, Any]]:
    """Name every value of a table."""
    return {f"{key}/{i}": (*key.split(), bad) for key, some in table.items() for i, bad in enumerate(some)}


def called(name: str) -> Any:
    """Find a function by name."""
    return getattr(metrics, name, None) or getattr(fp8sim, name, None) or getattr(api, name)


def refuse_sums(of: tuple[str, Any]) -> Any:
    """Give a recipe an accumulator that its operands do not go with."""
    recipe = what_if(of[0], accumulator=of[1])
    return fp8sim.matmul(exact((300, 300), 1), 3 * exact((300, 300), 2), recipe=recipe)


def misdescribed(of: tuple[str, str, Any]) -> Any:
    """Read a configuration with one bad value."""
    return describe({**api.MODELS[of[0]].config, of[1]: of[2]})


family("errors/option", lambda of: GOOD[of[0]](**{of[1]: of[2]}), each(REFUSED))
family("errors/config", misdescribed, each(MISDESCRIBED))
family("errors/array", lambda name, bad: called(name)(bad, fmt="e4m3"), TAKE_ONE, NO_ARRAYS)
family("errors/pair", lambda name, pair: called(name)(*pair), ("matmul", "compare", *MEASURES[:2]), NO_PAIRS)
family("errors/sums", refuse_sums, BAD_SUMS)
family("errors/other", lambda call: call(), OTHERS)
