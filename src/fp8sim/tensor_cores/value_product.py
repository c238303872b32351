"""Products of values on a tensor core, all that a user gives checked: `tensor_core_matmul`."""

from __future__ import annotations

from typing import Any

from fp8sim._support.float_environment import default_environment
from fp8sim._support.typing import F32, ArrayLike
from fp8sim.formats import FormatLike
from fp8sim.tensor_cores.arguments import checked_values
from fp8sim.tensor_cores.catalogue import get_tensor_core, split_interval
from fp8sim.tensor_cores.core import TensorCore
from fp8sim.tensor_cores.problem import Problem, Side, check_problem
from fp8sim.tensor_cores.product import multiply, step_by_step

__all__ = ["promoted_matmul", "tensor_core_matmul", "tensor_core_matmul_reference", "value_problem"]


@default_environment
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
        A name in `TENSOR_CORES`, with a promotion interval after a slash if there is one
        (``"hopper-fp8/128"``), or a core of your own.
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
    ...     print(core, fp8sim.tensor_core_matmul(a, b, core, c=[[2.0**23]]))
    volta-fp16 [[0.]]
    ampere-fp16 [[-0.5]]
    hopper-fp16 [[-0.75]]
    """
    core, every = split_interval(core, promote_every)
    formats = {"a_format": a_format, "b_format": b_format}
    return multiply(value_problem(a, b, core, c=c, promote_every=every, scales=scales, **formats))


@default_environment
def promoted_matmul(
    a: ArrayLike,
    b: ArrayLike,
    core: str | TensorCore,
    *,
    promote_every: int,
    a_scales: F32,
    b_scales: F32,
    **formats: Any,
) -> F32:
    """Multiply as `tensor_core_matmul`, each chain times its scales as it is promoted.

    A chain p over `promote_every` of k enters the FP32 sum as fma(p, fl32(a_scale * b_scale), sum),
    one rounding for the product of scales and one for the rest, as DeepGEMM's SM90 kernel has it, and cuBLAS
    where one side has a scale per 128x128 block (recorded on an H100). Where both have one per 1x128, cuBLAS
    rounds p * a_scale, and has the other scale in the fma.
    There is one of `a_scales` per row of `a` and chain, one of `b_scales` per chain and column of `b`.

    Examples
    --------
    >>> import numpy as np
    >>> a, b, ones = np.ones((1, 256)), np.ones((256, 1)), np.ones((2, 1), np.float32)
    >>> scales = np.array([[0.5, 2.0]], np.float32)
    >>> promoted_matmul(a, b, "hopper-fp8", promote_every=128, a_scales=scales, b_scales=ones)
    array([[320.]], dtype=float32)
    """
    options = {**formats, "promote_every": promote_every, "promotion": (a_scales, b_scales)}
    return multiply(value_problem(a, b, get_tensor_core(core), **options))


@default_environment
def tensor_core_matmul_reference(
    a: ArrayLike,
    b: ArrayLike,
    core: str | TensorCore = "hopper-fp8",
    **options: Any,
) -> F32:
    """Do what `tensor_core_matmul` does, step by step in numpy: slow, and meant to be read.

    `options` are those of `tensor_core_matmul`, and ``promotion``: the scales of `promoted_matmul`.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.full((1, 64), 1.5), np.full((64, 1), 2.0)
    >>> tensor_core_matmul_reference(a, b), tensor_core_matmul(a, b)
    (array([[192.]], dtype=float32), array([[192.]], dtype=float32))
    """
    return step_by_step(value_problem(a, b, get_tensor_core(core), **options))


def value_problem(
    a: ArrayLike,
    b: ArrayLike,
    core: TensorCore,
    *,
    a_format: FormatLike | None = None,
    b_format: FormatLike | None = None,
    **options: Any,
) -> Problem:
    """Check what `tensor_core_matmul` is given; `options` are those of `check_problem`."""
    left = Side(*checked_values(a, "a", core, a_format))
    return check_problem(left, Side(*checked_values(b, "b", core, b_format)), core, **options)
