"""Tensor cores, recipes, accumulators and their error bounds; threads, and what they inherit."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import fp8sim
import oracle
from fp8sim import RECIPES, TENSOR_CORES, FloatFormat, Operand, Recipe, Scaling, TensorCore
from fp8sim._support import threads as thread_pool
from fp8sim.accumulators import (
    ACCUMULATORS,
    Accumulator,
    Exact,
    OneChain,
    Sequential,
    TensorCoreSum,
    bounds,
)
from fp8sim.gemm import multiply_quantized, quantize_both
from fp8sim.tensor_cores import OUTPUTS, tensor_core_matmul
from fuzz.arithmetic import any_format, any_scaling, layout_of
from fuzz.harness import (
    Failure,
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
from readable import readable

# --- a core's step in fractions ---------------------------------------------------------------------------


def binade(x: Fraction, least: int) -> int:
    """Return the exponent of a number other than zero as it is stored."""
    return max(oracle.floor_log2(abs(x)), least)


def cut(x: Fraction, last: int) -> Fraction:
    """Cut off toward zero what is below 2^last."""
    unit = Fraction(2) ** last
    return math.trunc(x / unit) * unit


def output_of(x: Fraction, core: TensorCore) -> Fraction | float:
    """Round to what the accumulator holds."""
    if core.output == "fp16-rne":
        rounded = oracle.round_one(x, oracle.LAYOUTS["fp16"], "nearest-even", "ieee") if x else 0.0
        return rounded if math.isinf(rounded) else Fraction(rounded)
    if not x:
        return Fraction(0)
    kept = cut(x, binade(x, -126) - OUTPUTS[core.output])
    return kept if abs(kept) < 2**128 else math.copysign(math.inf, kept)


def step(pairs: list[tuple[Fraction, ...]], c: Fraction, core: TensorCore, emins: tuple[int, int]) -> Any:
    """Sum a step: pairs of two values and their two scales (1 where there are none), and the accumulator."""
    c_emin = -14 if core.output == "fp16-rne" else -126
    scale_emin = fp8sim.get_format(core.scale_format).emin if core.scale_format else 0

    def of_scales(pair: tuple[Fraction, ...]) -> int:
        return sum(binade(scale, scale_emin) for scale in pair[2:])

    def exponent(pair: tuple[Fraction, ...]) -> int:
        return of_scales(pair) + sum(binade(x, least) for x, least in zip(pair[:2], emins, strict=True))

    def terms(size: int) -> list[tuple[Fraction, int]]:
        groups = [pairs[i : i + size] for i in range(0, len(pairs), size)] if size else [[p] for p in pairs]
        counted = [[p for p in group if all(p)] for group in groups]
        return [
            (
                sum((math.prod(p) for p in group), Fraction(0)),
                max(map(of_scales if size else exponent, group)),
            )
            for group in counted
            if group
        ]

    ranks = [exponent(pair) for pair in pairs if all(pair)]
    finer = bool(core.subgroup and ranks and (not c or max(ranks) > binade(c, c_emin)))
    chosen = terms(core.subgroup if finer else core.group)
    exponents = [e for _, e in chosen] + ([binade(c, c_emin)] if c and not finer else [])
    if not exponents:
        return output_of(c, core)
    last = max(*exponents, core.exponent_floor) - core.fraction_bits
    return output_of(sum((cut(x, last) for x, _ in chosen), cut(c, last)), core)


def dot(
    a: Any, b: Any, c: float, core: TensorCore, formats: tuple[Any, Any], every: int, scales: Any
) -> float | None:
    """Chain steps over one row and one column; None where a sum is not finite."""
    emins = formats[0].emin, formats[1].emin
    total, chain = Fraction(c), Fraction(0 if every else c)
    k = len(a)
    for start in range(0, k, core.step):
        pairs = [
            (Fraction(float(a[i])), Fraction(float(b[i])), *(Fraction(float(s[i])) for s in scales))
            for i in range(start, min(start + core.step, k))
        ]
        chain = step(pairs, chain, core, emins)
        if isinstance(chain, float):
            return None
        end = start + core.step
        if every and (end >= k or end % every == 0):
            rounded = float(oracle.nearest_float32(total + chain))
            if math.isinf(rounded):
                return None
            total, chain = Fraction(rounded), Fraction(0)
    return float(total if every else chain)


# --- cores ------------------------------------------------------------------------------------------------


def own_core(rng: np.random.Generator) -> TensorCore | None:
    """Draw a core of one's own, perhaps an impossible one: None."""
    inputs = tuple(any_format(rng) for _ in range(rng.integers(1, 3)))
    group = int(pick(rng, (0, 0, 0, 2, 4, 16)))
    scale_format = pick(rng, ("e8m0", "e4m3", "e5m2")) if group or chance(rng, 0.3) else None
    fields = {
        "name": "own",
        "inputs": inputs,
        "step": int(pick(rng, (1, 2, 3, 4, 5, 8, 16, 32, 48, 64, 128))),
        "fraction_bits": int(rng.integers(1, 46)) if chance(rng, 0.7) else int(rng.integers(10, 26)),
        "output": pick(rng, OUTPUTS),
        "exponent_floor": int(pick(rng, (-133, -133, -20, -139, 0, -900))),
        "group": group,
        "subgroup": int(pick(rng, (0, 2, 4))) if group else 0,
        "scale_format": scale_format,
        "scale_block": int(pick(rng, (16, 32, 4, 7))) if scale_format else 0,
    }
    return attempt(TensorCore, **fields)[0]


def any_core(rng: np.random.Generator) -> TensorCore:
    """Draw a core: one of the catalogue, one that is slightly changed, or one of one's own."""
    while True:
        base = TENSOR_CORES[pick(rng, TENSOR_CORES)]
        match pick(rng, ("built-in", "changed", "own", "own")):
            case "built-in":
                return base
            case "changed":
                change = pick(
                    rng,
                    (
                        {"fraction_bits": int(rng.integers(1, 45))},
                        {"step": int(pick(rng, (1, 4, 16, 64)))},
                        {"output": pick(rng, OUTPUTS)},
                        {"exponent_floor": int(rng.integers(-150, 1))},
                    ),
                )
                core, _ = attempt(dataclasses.replace, base, name="changed", **change)
            case _:
                core = own_core(rng)
        if core is not None:
            return core


def values_of(rng: np.random.Generator, fmt: FloatFormat, shape: tuple[int, int]) -> Any:
    """Draw values of a format: usual ones, any of its codes, its smallest, or sums that cancel."""
    match pick(rng, ("usual", "usual", "codes", "small", "cancel")):
        case "codes":
            bits = rng.integers(0, 2**fmt.bits, shape, np.uint64).astype(fmt.code_dtype)
            x = fp8sim.decode(bits, fmt)
            return x if chance(rng, 0.2) else np.where(np.isfinite(x), x, np.float32(0))
        case "small":
            x = rng.integers(-9, 10, shape) * fmt.smallest_subnormal
        case "cancel":
            x = rng.standard_normal(shape)
            x[:, 1::2] = -x[:, : x.shape[1] // 2 * 2 : 2] if shape[1] % 2 == 0 else x[:, 1::2]
        case _:
            x = rng.standard_normal(shape) * 2.0 ** int(rng.integers(-4, 5))
    x = np.clip(x, -fmt.max, fmt.max).astype(np.float32)
    return (
        fp8sim.round_to(x if fmt.signed else np.abs(x), fmt, overflow="saturate") if fmt.zero else abs(x) + 1
    )


def scales_for(rng: np.random.Generator, core: TensorCore, shape: tuple[int, int]) -> Any:
    """Draw block scales."""
    fmt = fp8sim.get_format(core.scale_format)
    x = np.exp2(rng.uniform(*pick(rng, ((-3, 3), (-40, 40), (-6, 0))), shape)).astype(np.float32)
    if fmt.zero and chance(rng, 0.1):
        x[rng.random(shape) < 0.2] = 0
    return fp8sim.round_to(x, fmt, overflow="saturate")


def _one_bit_less() -> AbstractContextManager[Any]:
    from fp8sim.tensor_cores import product

    return wrapped(product, "make_plan", lambda plan: plan._replace(fraction_bits=plan.fraction_bits - 1))


@category("tensor cores, built-in and of one's own, in fractions", few=40, plant=_one_bit_less)
def cores(rng: np.random.Generator, folder: Path) -> None:
    """Multiply both ways, and one of the results in fractions."""
    core = any_core(rng)
    m, n = int(rng.integers(1, 20)), int(rng.integers(1, 70))
    k = int(pick(rng, (0, 1, core.step, 3 * core.step + 1, int(rng.integers(1, 300)))))
    left, right = pick(rng, core.formats), pick(rng, core.formats)
    if not (left.zero and right.zero):
        return
    a, b = values_of(rng, left, (m, k)), values_of(rng, right, (n, k)).T
    every = int(core.step * rng.integers(1, 5)) if chance(rng, 0.4) else None
    c = None
    if chance(rng, 0.4):
        c = values_of(
            rng, fp8sim.get_format("fp16" if core.output == "fp16-rne" and not every else "bf16"), (m, n)
        )
    blocks = -(-k // core.scale_block) if core.scale_format else 0
    scales = (
        (scales_for(rng, core, (m, blocks)), scales_for(rng, core, (blocks, n)))
        if core.scale_format
        else None
    )
    options = {"c": c, "promote_every": every, "scales": scales, "a_format": left, "b_format": right}
    found, refusal = attempt(tensor_core_matmul, laid_out(rng, a), laid_out(rng, b), core, **options)
    slow, refused = attempt(readable, tensor_core_matmul, a, b, core, **options)
    must(str(refusal) == str(refused), f"refusals differ: {refusal}; {refused}")
    what = f"{core!r} {left.name} {right.name} {m}x{n}x{k} every {every}"
    if found is None or slow is None:
        raise Failure("wrong bits", f"refused: {refusal}, {what}")
    must_equal_bits(found, slow, f"compiled and readable, {what}")
    if not k or getattr(core, "law", None) != getattr(TENSOR_CORES["hopper-fp16"], "law", None):
        return
    i, j = int(rng.integers(m)), int(rng.integers(n))
    start = 0.0 if c is None else float(c[i, j])
    inputs = (a[i], b[:, j]) if scales is None else (a[i], b[:, j], scales[0][i], scales[1][:, j])
    if not all(np.isfinite(x).all() for x in (*inputs, start)):
        return
    repeated = [np.repeat(x, core.scale_block)[:k] for x in inputs[2:]]
    want = dot(a[i], b[:, j], start, core, (left, right), every or 0, repeated)
    if want is not None:
        must(found[i, j] == want, f"{float(found[i, j])!r}, in fractions {want!r}, at {i}, {j}, {what}")


# --- recipes ----------------------------------------------------------------------------------------------


def any_accumulator(rng: np.random.Generator, fmt: FloatFormat) -> Accumulator | None:
    """Draw a way to sum, of a core one that multiplies the format."""
    match pick(rng, ("core", "core", "core", "chain", "named", "sequential")):
        case "named":
            return ACCUMULATORS[pick(rng, ACCUMULATORS)]
        case "sequential":
            return attempt(Sequential, pick(rng, ("fp32", "bf16", "fp16", "tf32")))[0]
        case kind:
            core = any_core(rng)
            if fmt not in core.formats:
                core = attempt(dataclasses.replace, core, name="fitted", inputs=(fmt,))[0]
            if core is None:
                return None
            every = pick(rng, (None, None, core.step, 4 * core.step))
            return OneChain(core) if kind == "chain" else TensorCoreSum(core, every)


def any_recipe(rng: np.random.Generator) -> Recipe | None:
    """Draw a recipe, mostly a possible one."""
    if chance(rng, 0.25):
        return RECIPES[pick(rng, RECIPES)]
    fmt = any_format(rng)
    accumulator = any_accumulator(rng, fmt)
    if accumulator is None:
        return None
    scaling = Scaling("none") if chance(rng, 0.2) else any_scaling(rng)
    core = getattr(accumulator, "core", None)
    if core is not None and core.scale_format in ("e8m0", "e4m3") and chance(rng, 0.9):
        scaling = Scaling(f"1x{core.scale_block}", core.scale_format)
    elif core is not None and core.scale_format is None and chance(rng, 0.5):
        scaling = Scaling(pick(rng, ("row", "tensor", f"1x{core.step}", f"1x{4 * core.step}")))
    other = any_scaling(rng) if chance(rng, 0.15) else scaling
    left, right = (attempt(Operand, fmt, one)[0] for one in (scaling, other))
    return None if left is None or right is None else attempt(Recipe, "drawn", left, right, accumulator)[0]


def operands(rng: np.random.Generator, *, usual: bool) -> tuple[Any, Any]:
    """Draw two matrices."""
    m, n, k = (int(rng.integers(1, most)) for most in (9, 9, 150))
    if usual:
        kind = pick(rng, ("normal", "one sign", "outliers"))
        a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
        if kind == "one sign":
            a, b = np.abs(a), np.abs(b)
        elif kind == "outliers":
            a *= np.where(rng.random(k) < 0.1, 2.0 ** rng.integers(0, 9), 1.0)
    else:
        a, b = numbers(rng, (m, k)), numbers(rng, (k, n))
    dtype = pick(rng, (np.float32, np.float64))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return a.astype(dtype), b.astype(dtype)


def exact_sum(a: Any, b: Any) -> Fraction:
    """Sum products exactly."""
    return sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)), Fraction(0))


@contextlib.contextmanager
def _codes_for_values() -> Iterator[None]:
    from fp8sim.accumulators import tensor_core_sum

    whole = tensor_core_sum.multiply_codes

    def broken(a: Any, b: Any, core: Any, **options: Any) -> Any:
        if a.codes.dtype.kind == "u" and core.scale_format is None:
            values = [x.codes.astype(np.float32) for x in (a, b)]
            return values[0] @ values[1]
        return whole(a, b, core, **options)

    with planted(tensor_core_sum, "multiply_codes", broken):
        yield


@category("products under recipes of one's own", few=40, plant=_codes_for_values)
def recipes(rng: np.random.Generator, folder: Path) -> None:
    """Multiply both ways, and one of the results in fractions where the law is simple."""
    recipe = any_recipe(rng)
    if recipe is None:
        return
    a, b = operands(rng, usual=chance(rng, 0.6))
    found, refusal = attempt(fp8sim.matmul, a, b, recipe)
    slow, refused = attempt(readable, fp8sim.matmul, a, b, recipe)
    what = f"{recipe.a} | {recipe.b} | {recipe.accumulator!r} {a.shape} {b.shape} {a.dtype}"
    must(str(refusal) == str(refused), f"refusals differ: {refusal}; {refused}; {what}")
    if found is None or slow is None:
        return
    must_equal_bits(found, slow, f"compiled and readable, {what}")
    left, right = quantize_both(a, b, recipe)
    must_equal(multiply_quantized(left, right, recipe), found, f"from codes, {what}")
    i, j = int(rng.integers(len(a))), int(rng.integers(b.shape[1]))
    x, y = left.dequantize()[i], right.dequantize()[:, j]
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return
    sums = recipe.accumulator
    if isinstance(sums, Exact):
        exact = left.dequantize(np.float64)[i], right.dequantize(np.float64)[:, j]
        want: float | None = float(oracle.nearest_float32(exact_sum(*exact)))
    elif isinstance(sums, Sequential):
        want = _sequential(x, y, layout_of(sums.fmt))
    elif isinstance(sums, TensorCoreSum) and not recipe.a.is_scaled and not recipe.b.is_scaled:
        if getattr(sums.core, "law", None) != getattr(TENSOR_CORES["hopper-fp16"], "law", None):
            return
        want = dot(x, y, 0.0, sums.core, (left.fmt, right.fmt), sums.promote_every or 0, [])
    else:
        return
    if want is not None:
        must(found[i, j] == want, f"{float(found[i, j])!r}, in fractions {want!r}, at {i}, {j}, {what}")


def _sequential(x: Any, y: Any, layout: Any) -> float | None:
    """Add products one by one, each sum with its product rounded once."""
    total = 0.0
    for one, other in zip(x, y, strict=True):
        exact = Fraction(total) + Fraction(float(one)) * Fraction(float(other))
        total = oracle.round_one(exact, layout, "nearest-even", "ieee")
        if not math.isfinite(total):
            return None
    return total


@category(
    "no sum is further off than its bound",
    few=25,
    plant=lambda: wrapped(bounds, "sum_error_bound", lambda bound: bound if bound is None else bound / 64),
)
def error_bounds(rng: np.random.Generator, folder: Path) -> None:
    """Compare errors, worked out in fractions, with their bounds."""
    recipe = any_recipe(rng)
    if recipe is None:
        return
    a, b = operands(rng, usual=chance(rng, 0.5))
    pair, _ = attempt(quantize_both, a, b, recipe)
    if pair is None:
        return
    left, right = pair
    sums, refusal = attempt(recipe.accumulator.multiply, left, right)
    limit, refused = attempt(bounds.sum_error_bound, left, right, recipe.accumulator)
    if refusal is not None or limit is None or sums is None:
        must(refused is None or refusal is not None, f"a bound is refused and the sum is not: {refused}")
        return
    must(limit.shape == sums.shape and not np.isnan(limit).any(), f"bounds {limit}")
    codes = fp8sim.decode(left.codes, left.fmt), fp8sim.decode(right.codes, right.fmt)
    if not all(np.isfinite(values).all() for values in codes):
        return
    exact = [_exact_values(q, values) for q, values in zip((left, right), codes, strict=True)]
    for i in range(min(3, sums.shape[0])):
        for j in range(min(3, sums.shape[1])):
            if not np.isfinite(sums[i, j]) or not np.isfinite(limit[i, j]):
                continue
            want = sum((x * y for x, y in zip(exact[0][i], exact[1].T[j], strict=True)), Fraction(0))
            error = abs(Fraction(float(sums[i, j])) - want)
            if error > Fraction(float(limit[i, j])):
                what = f"{recipe.a} | {recipe.b} | {recipe.accumulator!r} {a.shape} {b.shape}"
                raise Failure("wrong bits", f"error {float(error):g} beyond {limit[i, j]:g}, {what}")


def _exact_values(q: Any, values: Any) -> Any:
    """Return codes times scales as fractions."""
    scales = np.ones(q.shape, np.float32)
    if q.is_scaled:
        for index, place in oracle.group_slices(q.scaling.granularity, q.shape, q.axis):
            scales[place] = q.scales[index]
    pairs = zip(values.ravel().tolist(), scales.ravel().tolist(), strict=True)
    return np.array([Fraction(v) * Fraction(s) for v, s in pairs], object).reshape(q.shape)


# --- threads ----------------------------------------------------------------------------------------------


def _work(seed: int) -> list[Any]:
    """Do some of everything that runs in threads."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((200, 700)).astype(np.float32)
    q = fp8sim.quantize(x, "e4m3", pick(rng, ("tensor", "1x128", "row")))
    a, b = fp8sim.round_to(x[:40], "e4m3"), fp8sim.round_to(x.T[:, :50], "e4m3")
    draws = fp8sim.encode(x, "e5m2", rounding="stochastic", rng=np.random.default_rng(seed))
    return [
        fp8sim.round_to(x, "bf16", rounding=pick(rng, oracle.MODES)),
        q.bits,
        q.scales,
        q.dequantize(),
        tensor_core_matmul(a, b, "hopper-fp8/128"),
        fp8sim.matmul(x[:30], x.T[:, :20], pick(rng, RECIPES)),
        draws.view(np.uint8),
    ]


@contextlib.contextmanager
def _lost_piece() -> Iterator[None]:
    whole = thread_pool.run_in_threads

    def broken(run: Any, pieces: Any) -> Any:
        done = whole(run, pieces)
        if fp8sim._support.threads.get_num_threads() > 1 and isinstance(done, list):
            for piece in pieces:
                for array in piece:
                    if isinstance(array, np.ndarray) and array.flags.writeable and array.size > 1000:
                        array[..., -1] = 0
        return done

    with planted(thread_pool, "run_in_threads", broken):
        yield


@category("the same bits with any number of threads, and from several at once", few=6, plant=_lost_piece)
def threads(rng: np.random.Generator, folder: Path) -> None:
    """Do the same work with one thread, with several, and several times at once."""
    before = thread_pool.get_num_threads()
    seeds = [int(rng.integers(2**32)) for _ in range(3)]
    try:
        fp8sim.set_num_threads(1)
        alone = [_work(seed) for seed in seeds]
        fp8sim.set_num_threads(int(rng.integers(2, 9)))
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(_work, seeds))
    finally:
        fp8sim.set_num_threads(before)
    for one, other in zip(alone, together, strict=True):
        for place, (x, y) in enumerate(zip(one, other, strict=True)):
            must_equal_bits(y, x, f"result {place}")


def _environment_skip() -> str:
    return "" if find_spec("torch") else "needs PyTorch"


def _flushing_changes_subnormals() -> AbstractContextManager[Any]:
    from fp8sim import casts

    def change(result: Any) -> Any:
        import torch

        tiny = torch.tensor(1e-40) * 1  # zero where subnormals are flushed
        return result if tiny else np.where(np.abs(result) < 1e-37, 0, result).astype(result.dtype)

    return wrapped(casts, "round_to", change)


@category(
    "the caller flushes subnormals to zero: the same bits, or a refusal",
    few=6,
    plant=_flushing_changes_subnormals,
    skip=_environment_skip,
)
def environment(rng: np.random.Generator, folder: Path) -> None:
    """Work with subnormals as usual, while they are flushed, and after that."""
    import torch

    x = (np.nan_to_num(numbers(rng, (64, 300))).clip(-9, 9) * 2.0**-130).astype(np.float32)
    rounding, recipe, every = pick(rng, oracle.MODES), pick(rng, RECIPES), int(rng.integers(1, 5))

    def work() -> list[Any]:
        fp8sim.set_num_threads(every)
        return [
            fp8sim.round_to(x, "bf16", rounding=rounding),
            fp8sim.quantize(x, "e4m3", "1x32").bits,
            fp8sim.matmul(x[:20], x.T[:, :20], recipe),
        ]

    before = thread_pool.get_num_threads()
    usual = work()
    try:
        torch.set_flush_denormal(True)
        try:
            flushed: list[Any] | None = work()
        except (ValueError, RuntimeError):
            flushed = None
    finally:
        torch.set_flush_denormal(False)
    after = work()
    fp8sim.set_num_threads(before)
    for results in (flushed, after):
        for place, (y, want) in enumerate(zip(results or usual, usual, strict=True)):
            must_equal_bits(y, want, f"result {place}")
