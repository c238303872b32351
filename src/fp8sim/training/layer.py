"""The three products of a linear layer under a training recipe: forward, input gradient, weight gradient."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F32, FloatArray, Rounding
from fp8sim.accumulators.catalogue import Fp32
from fp8sim.casts import round_to
from fp8sim.formats import FORMATS, FloatFormat
from fp8sim.quantization.pipeline import Quantized, quantize_with
from fp8sim.recipes import Operand, Recipe
from fp8sim.training.operands import (
    DelayedScales,
    as_it_is,
    quantize_by,
    quantize_rounding,
    same_codes,
    transpose,
)
from fp8sim.training.recipes import GEMMS, TrainingRecipe

__all__ = ["Counts", "LinearGemms", "Saved", "Statistics"]

_FP32 = Operand(FORMATS["fp32"])


@dataclass
class Counts:
    """What one of the three products lost so far.

    Examples
    --------
    >>> Counts(elements=1000, saturated=1, flushed=20, signal=100.0, noise=0.1).sqnr_db
    30.0
    """

    elements: int = 0  #: of both operands
    saturated: int = 0
    flushed: int = 0
    signal: float = 0.0  #: sum of squares of the products of the unquantised operands
    noise: float = 0.0  #: sum of squares of the differences from them

    @property
    def sqnr_db(self) -> float:
        """Signal over noise in dB; NaN where it was not measured."""
        if self.signal == 0:
            return math.nan
        return math.inf if self.noise == 0 else 10 * math.log10(self.signal / self.noise)


@dataclass
class Statistics:
    """Counters of the three products; with `sqnr`, each is compared with its FP32 product too."""

    sqnr: bool = False
    gemms: dict[str, Counts] = field(default_factory=lambda: {gemm: Counts() for gemm in GEMMS})

    def record(self, gemm: str, a: Quantized, b: Quantized) -> None:
        """Add what two operands lost."""
        counts = self.gemms[gemm]
        counts.elements += a.codes.size + b.codes.size
        counts.saturated += a.saturated + b.saturated
        counts.flushed += a.flushed + b.flushed

    def compare(self, gemm: str, product: FloatArray, truth: FloatArray) -> None:
        """Add the energy of a product and of its error."""
        counts = self.gemms[gemm]
        counts.signal += float(np.vdot(truth, truth))
        error = product - truth
        counts.noise += float(np.vdot(error, error))


class Saved(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    x: Quantized | None  #: as it was quantised for Fprop, where Wgrad starts from that
    w: Quantized | None  #: as it was quantised for Fprop, where Dgrad has the same codes
    original_x: FloatArray | None  #: where Wgrad quantises x anew, or statistics compare with it
    original_w: FloatArray | None  #: where Dgrad quantises W anew, or statistics compare with it


@dataclass
class LinearGemms:
    """A linear layer's three products under a recipe, with what lives from step to step.

    Parameters
    ----------
    recipe : TrainingRecipe
        How they are quantised and summed.
    rng : numpy.random.Generator, optional
        For stochastic rounding of gradients.
    statistics : Statistics, optional
        Where to count what is lost.
    multiply : callable
        What multiplies two float32 matrices where the accumulator is `Fp32`: numpy, or PyTorch under
        its layers, lest the threads of two BLAS libraries wait for each other's CPUs.

    Attributes
    ----------
    delayed : DelayedScales or None
        The amax histories, under a recipe with delayed scaling.

    Examples
    --------
    >>> import numpy as np
    >>> from fp8sim.training.recipes import get_training_recipe
    >>> gemms = LinearGemms(get_training_recipe("fp32"))
    >>> x, w = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
    >>> y, saved = gemms.forward(x, w)
    >>> dx, dw = gemms.backward(np.ones((2, 4), np.float32), saved)
    >>> y.shape, dx.shape, dw.shape
    ((2, 4), (2, 3), (4, 3))
    """

    recipe: TrainingRecipe
    rng: np.random.Generator | None = None
    statistics: Statistics | None = None
    multiply: Callable[[F32, F32], F32] = np.matmul

    def __post_init__(self) -> None:
        """Start the amax histories, and require a generator where one is needed."""
        delayed = self.recipe.delayed
        self.delayed = None if delayed is None else DelayedScales(delayed)
        if self.recipe.gradient_rounding == "stochastic":
            checks.generator(self.rng)

    def forward(
        self, x: FloatArray, w: FloatArray, bias: FloatArray | None = None, *, training: bool = True
    ) -> tuple[F32, Saved]:
        """Return ``x W^T + bias``, and what `backward` needs.

        Parameters
        ----------
        x : (tokens, in) array of float32 or float64
            Inputs.
        w : (out, in) array of float32 or float64
            Weights.
        bias : (out,) array, optional
            Added to the FP32 sums, before they are rounded to the recipe's output format.
        training : bool
            Whether delayed scaling remembers the amax of this step.

        Returns
        -------
        y : (tokens, out) array of float32
            Values of the output format.
        saved : Saved
            Quantised or original operands.

        Raises
        ------
        ValueError
            If the shapes do not multiply, or an operand that is scaled holds NaN or infinity.
        """
        recipe = self.recipe
        checks.multiply_shapes(x, w.T)
        qx = self._quantize("x", x, recipe.fprop.a, 1, training)
        qw = self._quantize("w", w, recipe.fprop.b, 1, training)
        y = self._product("fprop", recipe.fprop, qx, transpose(qw), x, w.T)
        if bias is not None:
            y = y + bias.astype(np.float32, copy=False)
        keep_x = recipe.cached_input == "quantized" or same_codes(recipe.fprop.a, recipe.wgrad.b)
        keep_w = same_codes(recipe.fprop.b, recipe.dgrad.b)
        compared = self.statistics is not None and self.statistics.sqnr
        saved = Saved(
            qx if keep_x else None,
            qw if keep_w else None,
            None if keep_x and not compared else x,
            None if keep_w and not compared else w,
        )
        return _round(y, recipe.fprop.output), saved

    def backward(
        self, dy: FloatArray, saved: Saved, *, dgrad: bool = True, wgrad: bool = True
    ) -> tuple[F32 | None, F32 | None]:
        """Return the gradients of x and W, None where one is not asked for.

        Parameters
        ----------
        dy : (tokens, out) array of float32 or float64
            Gradient of the outputs.
        saved : Saved
            From `forward`.
        dgrad, wgrad : bool
            Which of the two products to do.

        Returns
        -------
        dx : (tokens, in) array of float32, or None
            Rounded to the output format of Dgrad.
        dw : (out, in) array of float32, or None
            Rounded to the output format of Wgrad.

        Raises
        ------
        ValueError
            If the gradient holds NaN or infinity and is scaled.
        """
        recipe = self.recipe
        rounding = recipe.gradient_rounding
        dx = dw = quantized = None
        if dgrad:
            quantized = self._quantize("dy", dy, recipe.dgrad.a, 1, True, rounding)
            weights = self._weights(saved)
            dx = self._product("dgrad", recipe.dgrad, quantized, weights, dy, saved.original_w)
            dx = _round(dx, recipe.dgrad.output)
        if wgrad:
            if quantized is None or not same_codes(recipe.dgrad.a, recipe.wgrad.a):
                quantized = self._quantize("dy", dy, recipe.wgrad.a, 0, not dgrad, rounding)
            inputs = self._inputs(saved)
            left = transpose(dataclasses.replace(quantized, axis=0))
            dw = self._product("wgrad", recipe.wgrad, left, inputs, dy.T, saved.original_x)
            dw = _round(dw, recipe.wgrad.output)
        return dx, dw

    def _weights(self, saved: Saved) -> Quantized:
        """Return W with groups along its outputs."""
        if saved.w is not None:
            return dataclasses.replace(saved.w, axis=0)
        assert saved.original_w is not None
        return self._quantize("w", saved.original_w, self.recipe.dgrad.b, 0, False)

    def _inputs(self, saved: Saved) -> Quantized:
        """Return x with groups along the tokens."""
        operand = self.recipe.wgrad.b
        if saved.x is None:
            assert saved.original_x is not None
            return self._quantize("x", saved.original_x, operand, 0, False)
        if same_codes(self.recipe.fprop.a, operand):
            return dataclasses.replace(saved.x, axis=0)
        return self._quantize("x", saved.x.dequantize(), operand, 0, False)

    def _quantize(
        self,
        tensor: str,
        x: FloatArray,
        operand: Operand,
        axis: int,
        remember: bool,
        rounding: Rounding = "nearest-even",
    ) -> Quantized:
        if operand == _FP32 and x.dtype == np.float32:
            return as_it_is(x, operand, axis)
        if self.delayed is not None:
            multiplier = self.delayed.multiplier(tensor, operand.fmt)
            if remember:
                self.delayed.push(tensor, float(np.abs(x).max(initial=0)))
            return quantize_by(x, operand, axis, multiplier, rounding, self.rng, tensor)
        if rounding == "nearest-even":
            return quantize_with(x, operand.fmt, operand.scaling, axis=axis, what=tensor)
        return quantize_rounding(x, operand, axis, rounding, self.rng, tensor)

    def _product(
        self, gemm: str, recipe: Recipe, a: Quantized, b: Quantized, x: FloatArray, y: FloatArray | None
    ) -> F32:
        if recipe.accumulator == Fp32():
            with np.errstate(over="ignore", invalid="ignore"):
                product = self.multiply(_values(a), _values(b))
        else:
            product = recipe.accumulator.multiply(a, b)
        if self.statistics is not None:
            self.statistics.record(gemm, a, b)
            if self.statistics.sqnr and y is not None:
                both = x.dtype == y.dtype == np.float32
                self.statistics.compare(gemm, product, self.multiply(x, y) if both else x @ y)
        return product


def _values(x: Quantized) -> F32:
    """Dequantise; FP32 is taken as it is."""
    as_it_is = x.fmt == FORMATS["fp32"] and x.scaling.granularity == "none"
    return x.codes if as_it_is else x.dequantize()


def _round(x: F32, fmt: FloatFormat) -> F32:
    """Round sums to the format in which a GPU writes them."""
    return x if fmt == FORMATS["fp32"] else np.asarray(round_to(x, fmt), dtype=np.float32)
