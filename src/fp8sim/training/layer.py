"""The three products of a linear layer under a training recipe: forward, input gradient, weight gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fp8sim._support import checks
from fp8sim._support.float_environment import default_environment
from fp8sim._support.products import float_product
from fp8sim._support.typing import F32, FloatArray
from fp8sim.accumulators import Fp32
from fp8sim.gemm import multiply_quantized, round_output
from fp8sim.quantization import FP32, Operand, Quantized, quantize_with
from fp8sim.training.delayed import DelayedScales
from fp8sim.training.recipes import TrainingRecipe
from fp8sim.training.statistics import Statistics

__all__ = ["LinearGemms", "Saved"]


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
    fp32 : Fp32
        What does FP32 sums: numpy, or PyTorch under its layers, lest the threads of two BLAS libraries
        wait for each other's CPUs.

    Attributes
    ----------
    delayed : DelayedScales or None
        The amax histories, under a recipe with delayed scaling.

    Examples
    --------
    >>> import numpy as np
    >>> from fp8sim.training import get_training_recipe
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
    fp32: Fp32 = field(default_factory=Fp32)

    def __post_init__(self) -> None:
        """Start the amax histories, and require a generator where one is needed."""
        delayed = self.recipe.delayed
        self.delayed = None if delayed is None else DelayedScales(delayed)
        if self.recipe.gradient_rounding == "stochastic":
            checks.generator(self.rng)

    @default_environment
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
        y = self._product("fprop", qx, qw.T, (x, w.T))
        if bias is not None:
            y = y + bias.astype(np.float32, copy=False)
        keep_x = recipe.cached_input == "quantized" or _same_codes(recipe.fprop.a, recipe.wgrad.b)
        keep_w = _same_codes(recipe.fprop.b, recipe.dgrad.b)
        compared = self.statistics is not None and self.statistics.sqnr
        saved = Saved(
            qx if keep_x else None,
            qw if keep_w else None,
            None if keep_x and not compared else x,
            None if keep_w and not compared else w,
        )
        return round_output(y, recipe.fprop.output), saved

    @default_environment
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
        dx = dw = quantized = None
        if dgrad:
            quantized = self._quantize("dy", dy, recipe.dgrad.a, 1, True)
            dx = self._product("dgrad", quantized, self._weights(saved), (dy, saved.original_w))
            dx = round_output(dx, recipe.dgrad.output)
        if wgrad:
            if quantized is None or not _same_codes(recipe.dgrad.a, recipe.wgrad.a):
                quantized = self._quantize("dy", dy, recipe.wgrad.a, 0, not dgrad)
            inputs = self._inputs(saved)
            dw = self._product("wgrad", quantized.along(0).T, inputs, (dy.T, saved.original_x))
            dw = round_output(dw, recipe.wgrad.output)
        return dx, dw

    def _weights(self, saved: Saved) -> Quantized:
        """Return W with groups along its outputs."""
        if saved.w is not None:
            return saved.w.along(0)
        assert saved.original_w is not None
        return self._quantize("w", saved.original_w, self.recipe.dgrad.b, 0, False)

    def _inputs(self, saved: Saved) -> Quantized:
        """Return x with groups along the tokens."""
        operand = self.recipe.wgrad.b
        if saved.x is None:
            assert saved.original_x is not None
            return self._quantize("x", saved.original_x, operand, 0, False)
        if _same_codes(self.recipe.fprop.a, operand):
            return saved.x.along(0)
        return self._quantize("x", saved.x.dequantize(invert=True), operand, 0, False)

    def _quantize(self, tensor: str, x: FloatArray, operand: Operand, axis: int, remember: bool) -> Quantized:
        """Quantise x, w or dy; under delayed scaling by scales of the past, this step's amax remembered."""
        if operand == FP32 and x.dtype == np.float32:
            return Quantized.of_fp32(checks.as_array(x, tensor), axis)
        scales = None
        if self.delayed is not None:
            scales = self.delayed.scales(tensor, operand.fmt)
            if remember:
                self.delayed.push(tensor, float(np.abs(x).max(initial=0)))
        if tensor != "dy":
            return quantize_with(x, operand, axis=axis, scales=scales, what=tensor)
        return quantize_with(
            x,
            operand,
            axis=axis,
            rounding=self.recipe.gradient_rounding,
            rng=self.rng,
            random_bits=self.recipe.gradient_random_bits,
            scales=scales,
            what=tensor,
        )

    def _product(
        self, gemm: str, a: Quantized, b: Quantized, originals: tuple[FloatArray, FloatArray | None]
    ) -> F32:
        """Multiply, and count what was lost, against the product of the originals where they are there."""
        product = multiply_quantized(a, b, getattr(self.recipe, gemm), fp32=self.fp32)
        x, y = originals
        if self.statistics is not None:
            self.statistics.record(gemm, a, b)
            if self.statistics.sqnr and y is not None:
                if x.dtype == y.dtype == np.float32:
                    truth = self.fp32.matmul(x, y)
                else:
                    truth = float_product(x.astype(np.float64), y.astype(np.float64))
                self.statistics.compare(gemm, product, truth)
        return product


def _same_codes(first: Operand, second: Operand) -> bool:
    """Whether two operands of one matrix, summed over either axis, have the same codes and scales."""
    return first == second and first.is_symmetric
