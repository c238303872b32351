"""NVIDIA tensor cores: how each generation sums products, and matrix products that sum the same way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32, AnyArray, ArrayLike
from fp8sim.formats import FORMATS, FormatLike, get_format
from fp8sim.reference.fused_step import OUTPUTS, TensorCore, canonical_nan, fused_step, promote, split_number
from fp8sim.tensor_cores.arguments import Problem, Side, check_problem

__all__ = [
    "TENSOR_CORES",
    "TensorCore",
    "get_tensor_core",
    "promoted_matmul",
    "tensor_core_matmul",
    "tensor_core_matmul_reference",
]

_MMA_SIM = "MMA-Sim (arXiv 2511.10909v2), tables 4 and 5"
_KM = "; agrees bit for bit with GPU outputs published with arXiv 2512.07004 ({})"


def _cores() -> list[TensorCore]:
    """One core per generation and input format, in the order of the generations."""
    fp8, small = ("e4m3", "e5m2"), ("e4m3", "e5m2", "e2m3", "e3m2", "e2m1")
    # generation, products per step of 16-bit formats (TF32: half), fraction bits, floor, recorded on
    generations = [
        ("volta", 4, 23, -132, "V100"),
        ("turing", 8, 24, -132, ""),
        ("ampere", 8, 24, -132, "A100, A2"),
        ("ada", 8, 24, -132, "Ada, L40S"),
        ("hopper", 16, 25, -133, "H100, H200"),
        ("blackwell", 16, 25, -133, "B200"),
    ]
    cores = []
    for name, step, bits, floor, recorded in generations:
        source = _MMA_SIM + (_KM.format(recorded) if recorded else "")
        formats = ["fp16"] if step == 4 or name == "turing" else ["fp16", "bf16", "tf32"]
        for fmt in formats:
            length = step // 2 if fmt == "tf32" else step
            core = TensorCore(f"{name}-{fmt}", (fmt,), length, bits, "fp32-rz", floor, source=source)
            cores.append(core)
        if name == "ada":
            cores.append(TensorCore("ada-fp8", fp8, 16, 13, "e8m13-rz", -132, source=source))
        if name == "hopper":  # wgmma; mma.sync converts FP8 to FP16 and uses the FP16 unit
            cores.append(TensorCore("hopper-fp8", fp8, 32, 13, "e8m13-rz", -132, source=source))
    cores.append(TensorCore("blackwell-fp8", small, 32, 25, source=_MMA_SIM))
    cores.append(
        TensorCore("blackwell-mxfp8", small, 32, 25, scale_format="e8m0", scale_block=32, source=_MMA_SIM)
    )
    for name, scale_format, block in (("mxfp4", "e8m0", 32), ("nvfp4", "e4m3", 16)):
        cores.append(
            TensorCore(
                f"blackwell-{name}",
                ("e2m1",),
                step=64,
                fraction_bits=35,
                group=16,
                scale_format=scale_format,
                scale_block=block,
                source=_MMA_SIM,
            )
        )
    for core in [c for c in cores if c.inputs[0] in ("fp16", "e4m3") and c.scale_format is None]:
        cores.append(replace(core, name=f"{core.name}-fp16out", output="fp16-rne"))
    return cores


#: Name -> tensor core. ``-fp16out`` sums in FP16 rather than FP32.
TENSOR_CORES: dict[str, TensorCore] = {core.name: core for core in _cores()}


def get_tensor_core(core: str | TensorCore) -> TensorCore:
    """Find a tensor core by name.

    Parameters
    ----------
    core : str or TensorCore
        A name in `TENSOR_CORES`, or a `TensorCore`, which is returned.

    Returns
    -------
    TensorCore
        The core.

    Raises
    ------
    ValueError
        If the name is not known; the message suggests the nearest.

    Examples
    --------
    >>> get_tensor_core("hopper-fp16").fraction_bits
    25
    """
    if isinstance(core, TensorCore):
        return core
    return checks.lookup(core, TENSOR_CORES, "tensor core")


def tensor_core_matmul(
    a: ArrayLike,
    b: ArrayLike,
    core: str | TensorCore = "hopper-fp8",
    *,
    c: ArrayLike | None = None,
    promote_every: int | None = None,
    scales: tuple[ArrayLike, ArrayLike] | None = None,
    a_format: FormatLike | None = None,
    b_format: FormatLike | None = None,
) -> F32:
    """Multiply matrices bit for bit as a tensor core does, from values in its input formats.

    Parameters
    ----------
    a : (m, k) array_like
        Left operand: values that the core's input format has, as ml_dtypes, float16, float32 or
        float64. A k that the step does not divide is filled up with zeros.
    b : (k, n) array_like
        Right operand, alike.
    core : str or TensorCore
        A name in `TENSOR_CORES`, or a core of your own.
    c : (m, n) array_like, optional
        FP32 (or FP16, for a core with FP16 output) values that the sums start from, instead of +0.
    promote_every : int, optional
        Start a new chain every so many k, a multiple of the core's step, and add the chains in
        FP32, rounding to nearest: 128 is what cuBLAS does where fast accumulation is off. Without
        it one chain runs over all of k.
    scales : ((m, k/block), (k/block, n)) pair of array_like, optional
        For a core that multiplies by block scales itself: values of its `scale_format`, one per
        `scale_block` elements along k.
    a_format, b_format : str, dtype or FloatFormat, optional
        Format of an operand, for a core with several: it decides how a subnormal is aligned. An
        ml_dtypes array carries it; other arrays take the first of the core's formats that holds
        all of their values.

    Returns
    -------
    (m, n) array of float32
        The accumulators, FP16 values among them for a core with FP16 output. NaN is 0x7FFFFFFF.

    Raises
    ------
    TypeError
        If an operand is no array of real numbers.
    ValueError
        If a value is not in the format, the shapes do not multiply, `promote_every` is no multiple
        of the step, or scales are missing or not asked for.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> a = np.array([[-(2.0**13), -0.5, -0.25, -0.125]])
    >>> b = np.array([[2.0**10, 1, 1, 1]]).T
    >>> for core in ["volta-fp16", "ampere-fp16", "hopper-fp16"]:  # -0.875 would be exact
    ...     print(core, fp8sim.tensor_cores.product.tensor_core_matmul(a, b, core, c=[[2.0**23]]))
    volta-fp16 [[0.]]
    ampere-fp16 [[-0.5]]
    hopper-fp16 [[-0.75]]
    """
    problem = check_problem(a, b, get_tensor_core(core), c, promote_every, scales, a_format, b_format)
    return _run(problem)


def promoted_matmul(
    a: ArrayLike,
    b: ArrayLike,
    core: str | TensorCore,
    promote_every: int,
    a_scales: F32,
    b_scales: F32,
    *,
    a_format: FormatLike | None = None,
    b_format: FormatLike | None = None,
) -> F32:
    """Multiply as `tensor_core_matmul`, each chain times its scales as it is promoted.

    A chain p over `promote_every` of k enters the FP32 sum as fma(p, fl32(a_scale * b_scale), sum),
    one rounding for the product of scales and one for the rest, as DeepGEMM's SM90 kernel has it.

    Parameters
    ----------
    a, b, core, promote_every, a_format, b_format
        As in `tensor_core_matmul`.
    a_scales : (m, ceil(k / promote_every)) array of float32
        One scale per row of `a` and chain.
    b_scales : (ceil(k / promote_every), n) array of float32
        One scale per chain and column of `b`.

    Returns
    -------
    (m, n) array of float32
        The scaled sums.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.ones((1, 256)), np.ones((256, 1))
    >>> scales = np.array([[0.5, 2.0]], np.float32)
    >>> promoted_matmul(a, b, "hopper-fp8", 128, scales, np.ones((2, 1), np.float32))
    array([[320.]], dtype=float32)
    """
    problem = check_problem(a, b, get_tensor_core(core), None, promote_every, None, a_format, b_format)
    (m, k), n = problem.a.values.shape, problem.b.values.shape[1]
    chains = -(-k // promote_every)
    for what, found, wanted in (("a", a_scales, (m, chains)), ("b", b_scales, (chains, n))):
        if found.shape != wanted or found.dtype != np.float32:
            raise ValueError(
                f"{what}_scales must be float32 {wanted}, one per chain of {promote_every}; "
                f"got {found.dtype} {found.shape}"
            )
    return _run(problem, (np.ascontiguousarray(a_scales), np.ascontiguousarray(b_scales)))


def tensor_core_matmul_reference(
    a: ArrayLike,
    b: ArrayLike,
    core: str | TensorCore = "hopper-fp8",
    *,
    c: ArrayLike | None = None,
    promote_every: int | None = None,
    scales: tuple[ArrayLike, ArrayLike] | None = None,
    a_format: FormatLike | None = None,
    b_format: FormatLike | None = None,
    promotion: tuple[F32, F32] | None = None,
) -> F32:
    """Do what `tensor_core_matmul` does, step by step in numpy: slow, and meant to be read.

    `promotion` are the scales of `promoted_matmul`.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.full((1, 64), 1.5), np.full((64, 1), 2.0)
    >>> tensor_core_matmul_reference(a, b), tensor_core_matmul(a, b)
    (array([[192.]], dtype=float32), array([[192.]], dtype=float32))
    """
    p = check_problem(a, b, get_tensor_core(core), c, promote_every, scales, a_format, b_format)
    (m, k), n, step = p.a.values.shape, p.b.values.shape[1], p.core.step
    total = np.zeros((m, n), np.float32) if p.c is None else p.c
    chain = np.zeros((m, n), np.float32) if p.promote_every else total
    for start in range(0, k, step):
        a_part, b_part = _columns(p.a.values, start, step), _columns(p.b.values.T, start, step)
        factors = None
        if p.a.scales is not None and p.b.scales is not None:  # one for every element
            a_scale, b_scale = (
                _columns(np.repeat(x, p.core.scale_block, axis=1)[:, :k], start, step)
                for x in (p.a.scales, p.b.scales.T)
            )
            factors = a_scale[:, None], b_scale[None]
        chain = fused_step(a_part[:, None], b_part[None], chain, p.core, p.a.fmt, p.b.fmt, factors)
        if p.promote_every and (start + step >= k or (start + step) % p.promote_every == 0):
            at = start // p.promote_every
            pair = () if promotion is None else (promotion[0][:, at, None], promotion[1][None, at])
            total = promote(total, chain, *pair)
            chain = np.zeros((m, n), np.float32)
    return canonical_nan(total if p.promote_every else chain)


def _columns(x: AnyArray, start: int, count: int) -> AnyArray:
    """Take `count` columns, zeros beyond the end."""
    part = x[:, start : start + count]
    return np.pad(part, ((0, 0), (0, count - part.shape[1])))


def _run(problem: Problem, promotion: tuple[F32, F32] | None = None) -> F32:
    """Run the compiled product."""
    from fp8sim._kernels import operands, products

    core, c = problem.core, problem.c
    shape = len(problem.a.values), problem.b.values.shape[1]
    out = np.zeros(shape, np.float32) if c is None else c.copy()
    products.multiply(
        _kernel_operand(problem.a, core),
        _kernel_operand(problem.b, core),
        out,
        products.Sum(
            step=core.step,
            fraction_bits=core.fraction_bits,
            floor=core.exponent_floor,
            group=core.group,
            out_bits=OUTPUTS[core.output],
            fp16=core.output == "fp16-rne",
        ),
        c=None if c is None else operands.inspect(c, FORMATS["fp32"]),
        promote_every=problem.promote_every,
        scale_block=core.scale_block,
        promotion=promotion,
    )
    return out


def _kernel_operand(side: Side, core: TensorCore) -> Any:
    from fp8sim._kernels import products

    exponents = None
    if side.scales is not None and core.scale_format is not None:
        emin = get_format(core.scale_format).emin
        exponents = split_number(side.scales, emin)[1].astype(np.int16)
    fmt = side.fmt
    return products.Operand(side.values, fmt.mantissa_bits, fmt.emin, side.range, side.scales, exponents)
