"""What is told of a value, a block and a dot product; what is measured: against the functions that do it."""

from __future__ import annotations

import json
import math
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import fp8sim
import oracle
from fp8sim import metrics
from fp8sim._support.results import plain_data
from fp8sim.anatomy import explain, explain_block, explain_dot, neighbours
from fuzz.arithmetic import any_format, any_scaling, element_format, numbers_for
from fuzz.harness import Failure, attempt, category, chance, must, must_equal, numbers, pick, wrapped
from fuzz.products import any_core, values_of


def strict(data: Any) -> None:
    """Fail unless data are those of JSON, which has no NaN."""
    try:
        json.dumps(plain_data(data), allow_nan=False)
    except (ValueError, TypeError) as error:
        raise Failure("traceback", f"no JSON: {error}") from error


def _value(rng: np.random.Generator) -> None:
    fmt, rounding = any_format(rng), pick(rng, (*oracle.MODES, "stochastic"))
    options = {"rounding": rounding, "overflow": pick(rng, (None, "saturate", "ieee"))}
    x = numbers_for(rng, fmt, 1, pick(rng, (np.float32, np.float64)))[0]
    seed = int(rng.integers(2**32))
    told, refusal = attempt(explain, x, fmt, **options, rng=np.random.default_rng(seed))
    rounded, refused = attempt(fp8sim.round_to, x, fmt, **options, rng=np.random.default_rng(seed))
    if fmt.twos_complement:
        must(refusal is not None, "explains an integer")
        return
    must(str(refusal) == str(refused), f"refusals differ: {refusal}; {refused}")
    if told is None:
        return
    must_equal(told.value, rounded, f"explain {x!r} {fmt!r} {options}")
    code = fp8sim.encode(x, fmt, **options, rng=np.random.default_rng(seed))
    must(told.code == int(code.view(fmt.code_dtype)), f"code {told.code}, {x!r} {fmt!r} {options}")
    must("\x1b" not in str(told) and told.why, "words")
    strict(told.to_dict())


def _block(rng: np.random.Generator) -> None:
    fmt, scaling = element_format(rng), any_scaling(rng)
    x = numbers(rng, int(rng.integers(1, 40)), np.float32)
    options = {
        "scale_format": scaling.scale_format,
        "scale_rule": scaling.scale_rule,
        "amax_floor": scaling.amax_floor,
    }
    told, refusal = attempt(explain_block, x, fmt, "tensor", **options)
    q, refused = attempt(fp8sim.quantize, x, fmt, "tensor", **options)
    must((refusal is None) == (refused is None), f"refusals differ: {refusal}; {refused}")
    if told is None or q is None:
        return
    values = [element.restored for element in told.elements]
    must_equal(np.array(values), q.dequantize(np.float64), f"explain_block {fmt!r} {scaling!r}")
    str(told)
    strict(told.to_dict())


def _dot(rng: np.random.Generator) -> None:
    core = any_core(rng)
    fmt = pick(rng, core.formats)
    if not fmt.zero or core.step > 64:
        return
    k = int(rng.integers(1, 80))
    a, b = values_of(rng, fmt, (1, k))[0], values_of(rng, fmt, (1, k))[0]
    every = int(core.step * rng.integers(1, 4)) if chance(rng, 0.3) else None
    options = {"promote_every": every, "a_format": fmt, "b_format": fmt}
    scales = None
    if core.scale_format:
        scale = np.exp2(rng.integers(-3, 4, (2, -(-k // core.scale_block)))).astype(np.float32)
        scales = scale[0], scale[1]
    told, refusal = attempt(explain_dot, a, b, core, scales=scales, **options)
    whole = None if scales is None else (scales[0][None], scales[1][:, None])
    product, refused = attempt(fp8sim.tensor_core_matmul, a[None], b[:, None], core, scales=whole, **options)
    must((refusal is None) == (refused is None), f"refusals differ: {refusal}; {refused}")
    if told is None or product is None:
        return
    must_equal(np.float32(told.result), product[0, 0], f"explain_dot {core!r} {fmt!r} {k}")
    str(told)
    strict(told.to_dict())


@category(
    "what is told of values, blocks and dot products",
    few=60,
    plant=lambda: wrapped(neighbours, "code_of", lambda code: code ^ 1),
)
def explanations(rng: np.random.Generator, folder: Path) -> None:
    """Explain something, and do it."""
    pick(rng, (_value, _block, _dot))(rng)


def _ratio(x: Any, reference: Any) -> float:
    """Return the relative error by fractions, to float64."""
    pairs = [
        (Fraction(float(p)), Fraction(float(q))) for p, q in zip(x.ravel(), reference.ravel(), strict=True)
    ]
    error, size = sum((p - q) ** 2 for p, q in pairs), sum(q**2 for _, q in pairs)
    if size == 0:
        return math.inf if error else 0.0
    return _root(error / size)


def _root(x: Fraction) -> float:
    """Return the square root of a fraction of any size."""
    if x == 0:
        return 0.0
    shift = oracle.floor_log2(x) // 2
    try:
        return math.ldexp(math.sqrt(x / Fraction(4) ** shift), shift)
    except OverflowError:
        return math.inf


def _off_by_little() -> AbstractContextManager[Any]:
    return wrapped(metrics, "relative_error", lambda error: error * 1.001)


@category("how far apart two arrays are, of any magnitudes", few=60, plant=_off_by_little)
def measures(rng: np.random.Generator, folder: Path) -> None:
    """Measure errors, and work one out by fractions."""
    shape = pick(rng, ((1,), (17,), (4, 9)))
    dtype = pick(rng, (np.float32, np.float64))
    x, reference = numbers(rng, shape, dtype), numbers(rng, shape, dtype)
    if chance(rng, 0.5):
        with np.errstate(all="ignore"):
            x = (reference * (1 + rng.standard_normal(shape) * 1e-3)).astype(dtype)
    for name in metrics.__all__:
        arguments = (x,) if name == "outlier_channels" else (x, reference)
        attempt(getattr(metrics, name), *arguments, *["e4m3"] * (name == "ulp_error"))
    error, refusal = attempt(metrics.relative_error, x, reference)
    if refusal is None and np.isfinite(x).all() and np.isfinite(reference).all():
        want = _ratio(x, reference)
        same = (
            error == want
            or math.isclose(float(error), want, rel_tol=1e-12, abs_tol=0)
            or want > 1e300
            or 0 < want < 1e-300
        )
        must(same, f"relative error {error!r}, want {want!r}")
