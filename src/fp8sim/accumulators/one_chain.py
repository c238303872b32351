"""A whole product in one chain of a tensor core: what is lost without promotion to FP32."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import final

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.typing import F32, AnyArray, Rounding
from fp8sim.accumulators.base import Accumulator
from fp8sim.accumulators.tensor_core_sum import multiply_codes, scale_sums
from fp8sim.casts import round_to
from fp8sim.formats import FloatFormat
from fp8sim.quantization import Quantized
from fp8sim.tensor_cores import OUTPUTS, TensorCore, get_tensor_core

__all__ = ["OneChain"]


@final
@dataclass(frozen=True)
class OneChain(Accumulator):
    """Sums that stay in a tensor core's own register from the first k to the last.

    With one scale for all of k (per tensor, per row, or none) this is the chain of a GPU: cuBLAS with
    fast accumulation, TransformerEngine without its split accumulator. With scales that change along
    k no GPU can do it, since a scale is applied as a partial sum leaves the register. It is modelled
    all the same, to show what promotion alone buys: where the scales change, the register is
    multiplied by the ratio of the old to the new ones and cut off (toward zero) to its own bits, or rounded
    to nearest on a core that does so.

    Parameters
    ----------
    core : TensorCore
        Whose register it is; a name such as ``"hopper-fp8"`` is looked up.

    Examples
    --------
    >>> import dataclasses, numpy as np, fp8sim
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.standard_normal((64, 4096)), rng.standard_normal((4096, 32))
    >>> recipe = dataclasses.replace(fp8sim.get_recipe("deepseek-v3"), name="no promotion",
    ...                              accumulator=OneChain("hopper-fp8"))
    >>> bool(fp8sim.matmul(a, b, recipe).any())
    True
    """

    core: TensorCore

    def __post_init__(self) -> None:
        """Look up the core."""
        object.__setattr__(self, "core", get_tensor_core(self.core))
        checks.fields(self)

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.core.name}, one chain"

    @default_environment
    def multiply(self, a: Quantized, b: Quantized) -> F32:
        """Return the sums, scaled once at the end."""
        register: F32 = np.zeros((a.shape[0], b.shape[1]), np.float32)
        scales: AnyArray = np.ones((1, 1), np.float32)
        for start, stop in _runs(a, b):
            with np.errstate(over="ignore", under="ignore"):  # two scales at the end of FP32
                new = _scales_at(a, 1, start)[:, None] * _scales_at(b, 0, start)
            if start:
                register = self._rescale(register, scales, new)
            left = dataclasses.replace(a, codes=a.codes[:, start:stop])
            right = dataclasses.replace(b, codes=b.codes[start:stop])
            register = multiply_codes(left, right, self.core, c=register)
            scales = new
        if a.shape[1] == 0:
            return register
        return scale_sums(register, a, b, _scales_at(a, 1, start)[:, None], _scales_at(b, 0, start))

    def _rescale(self, register: F32, old: AnyArray, new: AnyArray) -> F32:
        """Express the register in units of the new scales, rounded once to what it holds."""
        if np.array_equal(old, new):
            return register
        held = FloatFormat("register", 8, OUTPUTS[self.core.output])
        rounding: Rounding = "nearest-even" if self.core.output == "fp32-rne" else "toward-zero"
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # by a scale that vanished
            rescaled = register * (old.astype(np.float64) / new)
        return np.asarray(round_to(rescaled, held, rounding=rounding), dtype=np.float32)


def _runs(a: Quantized, b: Quantized) -> list[tuple[int, int]]:
    """Cut k where a scale of either side changes."""
    k = a.shape[1]
    starts = sorted({*range(0, k, a.sizes[1]), *range(0, k, b.sizes[0])})
    return list(zip(starts, [*starts, k][1:], strict=True))


def _scales_at(x: Quantized, axis: int, k: int) -> F32:
    """Return the scales of one operand at one k of its reduction axis: one per line, or one for all."""
    scales = np.take(x.scales, [k // x.sizes[axis]], axis=axis).ravel()
    across = 1 - axis
    return scales if len(scales) == 1 else np.repeat(scales, x.sizes[across])[: x.shape[across]]
