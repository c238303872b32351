"""A picture of sums: how the error of a product on a tensor core grows with k, and what promotion does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fp8sim import metrics
from fp8sim._support import checks
from fp8sim._support.products import float_product
from fp8sim._support.text import shown
from fp8sim._support.typing import ArrayLike
from fp8sim.plotting._style import axes_for, legend_above, line_look, octaves
from fp8sim.tensor_cores import TensorCore, get_tensor_core, tensor_core_matmul

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["error_against_k"]


def error_against_k(
    a: ArrayLike,
    b: ArrayLike,
    core: str | TensorCore = "hopper-fp8",
    *,
    promote_every: Sequence[int | None] = (None, 128),
    lengths: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the error of summing the first k products, with and without promotion to FP32.

    It is relative, of the Frobenius norm, against the float64 product of the same operands: of the sums
    alone, not of the quantisation. `ax` and Returns are as for `number_lines`.

    Parameters
    ----------
    a, b, core
        As for `fp8sim.tensor_core_matmul`.
    promote_every : sequence of int or None
        One line each: products after which a chain is added in FP32; None for one chain.
    lengths : sequence of int, optional
        The values of k; by default powers of two from the core's step on, and all of k.

    Raises
    ------
    TypeError, ValueError
        As `fp8sim.tensor_core_matmul`, or if a length is not 1 to k.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> from fp8sim.plotting import error_against_k
    >>> rng = np.random.default_rng(0)
    >>> a, b = (fp8sim.round_to(rng.random(shape), "e4m3") for shape in [(8, 4096), (4096, 8)])
    >>> ax = error_against_k(a, b)
    >>> [f"{line.get_label()}: {line.get_ydata()[-1]:.2g} %" for line in ax.lines]
    ['one chain: 6.7 %', 'promoted every 128: 0.049 %']
    """
    left, right = checks.as_matrix(a, "a"), checks.as_matrix(b, "b")
    _, _, k = checks.multiply_shapes(left, right)
    for matrix, name in ((left, "a"), (right, "b")):
        checks.finite(matrix, name, "an error cannot be measured then")
    core = get_tensor_core(core)
    if lengths is None:
        powers = [2**n for n in range(k.bit_length()) if core.step <= 2**n < k]
        lengths = [*powers, k]
    for given, what in ((lengths, "lengths"), (promote_every, "promote_every")):
        if not isinstance(given, Sequence):
            raise TypeError(f"{what} must be a list, got {shown(given)}")
    for length in lengths:
        if not 1 <= checks.positive_int(length, "a length") <= k:
            raise ValueError(f"a length must be 1 to {k}, the k of the operands, got {length}")
    references = [
        float_product(left[:, :length].astype(np.float64), right[:length].astype(np.float64))
        for length in lengths
    ]
    ax = axes_for(ax)
    for index, every in enumerate(promote_every):
        errors = [
            metrics.relative_error(
                tensor_core_matmul(left[:, :length], right[:length], core, promote_every=every), reference
            )
            for length, reference in zip(lengths, references, strict=True)
        ]
        name = "one chain" if every is None else f"promoted every {every}"
        ax.plot(lengths, 100 * np.array(errors), label=name, **line_look(index))
    octaves(ax)
    if any(np.any(np.asarray(line.get_ydata()) > 0) for line in ax.lines):  # else all sums are exact
        ax.set_yscale("log")
    ax.set_xlabel(f"k, products in a sum on {core.name}")
    ax.set_ylabel("relative error of the sums (%)")
    ax.grid(alpha=0.3)
    legend_above(ax)
    return ax
