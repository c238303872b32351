"""One name for a way to train: how a linear layer's three products are quantised and summed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fp8sim._support import checks
from fp8sim._support.registry import Registry
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim._support.typing import Rounding
from fp8sim.accumulators import Accumulator, OneChain, get_accumulator
from fp8sim.casts import check_random_bits
from fp8sim.formats import get_format
from fp8sim.quantization import Operand, Scaling
from fp8sim.recipes import Recipe, get_recipe
from fp8sim.tensor_cores import get_tensor_core
from fp8sim.training.delayed import DelayedScaling

__all__ = [
    "GEMMS", "TRAINING_RECIPES", "TrainingRecipe", "TrainingRecipeLike", "get_training_recipe",
]  # fmt: skip

#: The products of a linear layer y = x W^T -> what A, B and the reduction axis are.
GEMMS: dict[str, str] = {
    "fprop": "y = x W^T: A = x (tokens, in), B = W^T (in, out), summed over in",
    "dgrad": "dx = dy W: A = dy (tokens, out), B = W (out, in), summed over out",
    "wgrad": "dW = dy^T x: A = dy^T (out, tokens), B = x (tokens, in), summed over tokens",
}


@dataclass(frozen=True, repr=False)
class TrainingRecipe(Result):
    """How the products of a linear layer are done, frozen: ``dataclasses.replace`` makes a what-if.

    Parameters
    ----------
    name : str
        What tables call it.
    fprop, dgrad, wgrad : Recipe
        One per product, as `GEMMS` describes them: operands A and B, groups along the axis that is
        summed over, accumulator, and the format that the result is rounded to.
    cached_input : {"original", "quantized"}
        What Wgrad's B is quantised from: x itself, or the quantised x of Fprop, which is then all
        that is kept for the backward pass (DeepSeek-V3 report, 3.3.1 and 3.5.2).
    gradient_rounding : str
        Rounding of the codes of dy; ``stochastic`` needs a generator.
    delayed : DelayedScaling, optional
        Scales from the past instead of current ones; all operands must be scaled per tensor.
    summary : str
        One line on what it is and where it comes from.
    gradient_random_bits : int, optional
        How many random bits that takes, as for `round_to`: 8 by TransformerEngine's account of NVFP4.

    Raises
    ------
    TypeError, ValueError
        If a name is unknown, or an operand under delayed scaling is not scaled per tensor.

    Examples
    --------
    >>> recipe = get_training_recipe("deepseek-v3")
    >>> print(recipe.wgrad.a, "|", recipe.wgrad.b, "|", recipe.wgrad.output)
    e4m3 1x128 fp32 | e4m3 1x128 fp32 | fp32
    """

    name: str
    fprop: Recipe
    dgrad: Recipe
    wgrad: Recipe
    cached_input: Literal["original", "quantized"] = "original"
    gradient_rounding: Rounding = "nearest-even"
    delayed: DelayedScaling | None = None
    summary: str = field(default="", compare=False)
    gradient_random_bits: int | None = None

    def __post_init__(self) -> None:
        """Check the names, and that delayed scales have one tensor to belong to."""
        checks.fields(self)
        check_random_bits(self.gradient_random_bits, self.gradient_rounding)
        if self.delayed is not None:
            for operand in (o for gemm in GEMMS for o in (getattr(self, gemm).a, getattr(self, gemm).b)):
                if operand != Operand(operand.fmt, Scaling("tensor")):
                    raise ValueError(
                        f"delayed scaling keeps one FP32 scale per tensor, but an operand is {operand}; "
                        "give every operand Scaling('tensor') and nothing else"
                    )

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    def parts(self) -> list[Table]:
        """Return a table of its three products."""
        rows = []
        for gemm, meaning in GEMMS.items():
            recipe: Recipe = getattr(self, gemm)
            a, b, sums = str(recipe.a), str(recipe.b), recipe.accumulator.name
            rows.append([gemm, meaning.partition(":")[0], a, b, sums, str(recipe.output)])
        bits = f" by {self.gradient_random_bits} bits" if self.gradient_random_bits else ""
        notes = [f"x for Wgrad is kept {self.cached_input}; dy is rounded {self.gradient_rounding}{bits}"]
        notes += [str(self.delayed)] * (self.delayed is not None) + [self.summary] * bool(self.summary)
        headers = ["", "product", "A", "B", "sums", "output"]
        return [Table(f"Training recipe {self.name}", headers, rows, notes)]


TrainingRecipeLike: TypeAlias = "str | TrainingRecipe"


_E4M3, _E5M2 = get_format("e4m3"), get_format("e5m2")
_FP32_SUMS = get_accumulator("fp32")
_PROMOTED = get_recipe("deepseek-v3").accumulator
_FAST = get_recipe("fp8-tensor").accumulator

_TENSOR = Operand(_E4M3, Scaling("tensor"))
_ROW = Operand(_E4M3, Scaling("row"))
# The floor of 1e-4 under amax is of the inference kernel; gradients are smaller than that.
_FINE = Operand(_E4M3, Scaling("1x128"))
_ACTIVATION, _WEIGHT = get_recipe("deepseek-v3").a, get_recipe("deepseek-v3").b


def _make(
    name: str,
    summary: str,
    *,
    x: Operand,
    w: Operand | None = None,
    dy: Operand | None = None,
    x_wgrad: Operand | None = None,
    dy_wgrad: Operand | None = None,
    sums: Accumulator = _PROMOTED,
    fprop_sums: Accumulator | None = None,
    output: str = "bf16",
    **options: Any,
) -> TrainingRecipe:
    """Build a recipe from its operands; W and dy are stored as x is, and in Wgrad as elsewhere, unless given.

    The weight gradient stays in FP32 in all of them (DeepSeek-V3 report, figure 6).
    """
    w, dy = w or x, dy or x
    fmt = get_format(output)
    fprop = Recipe(f"{name} fprop", x, w, fprop_sums or sums, fmt)
    dgrad = Recipe(f"{name} dgrad", dy, w, sums, fmt)
    wgrad = Recipe(f"{name} wgrad", dy_wgrad or dy, x_wgrad or x, sums, get_format("fp32"))
    return TrainingRecipe(name, fprop, dgrad, wgrad, summary=summary, **options)


def _deepseek(name: str, summary: str, **changes: Any) -> TrainingRecipe:
    """DeepSeek-V3's: 1x128 along the sum for activations and gradients, 128x128 for weights; and what-ifs."""
    base: dict[str, Any] = {"x": _ACTIVATION, "w": _WEIGHT, "dy": _FINE, "cached_input": "quantized"}
    return _make(name, summary, **{**base, **changes})


def _power_of_two(operand: Operand) -> Operand:
    return Operand(operand.fmt, dataclasses.replace(operand.scaling, scale_format="e8m0", scale_rule="ceil"))


#: Name -> training recipe. Add your own with ``TRAINING_RECIPES["mine"] = TrainingRecipe(...)``.
TRAINING_RECIPES: Registry[TrainingRecipe] = Registry(
    "training recipe",
    TrainingRecipe,
    (
        _make(
            "fp32",
            "FP32 throughout: PyTorch's own products",
            x=Operand(get_format("fp32")),
            sums=_FP32_SUMS,
            output="fp32",
        ),
        _make(
            "bf16",
            "BF16 on Hopper's BF16 tensor cores: DeepSeek-V3's own baseline (report, 3.3)",
            x=get_recipe("bf16").a,
            sums=get_recipe("bf16").accumulator,
        ),
        _make(
            "fp16",
            "FP16 on Hopper's FP16 tensor cores; gradients below 6e-8 need loss scaling",
            x=get_recipe("fp16").a,
            sums=get_recipe("fp16").accumulator,
            output="fp16",
        ),
        # Fast accumulation in Fprop alone: Float8CurrentScaling and _2X_ACC_FPROP of TransformerEngine,
        # use_fast_accum of torchao's Float8LinearConfig.
        _make(
            "fp8-tensor",
            "E4M3, one current scale per tensor; Fprop with fast accumulation, as TransformerEngine",
            x=_TENSOR,
            fprop_sums=_FAST,
        ),
        _make(
            "fp8-delayed",
            "E4M3 forward and E5M2 backward, one scale per tensor of past amax (TransformerEngine)",
            x=_TENSOR,
            dy=Operand(_E5M2, Scaling("tensor")),
            fprop_sums=_FAST,
            delayed=DelayedScaling(),
        ),
        _make(
            "fp8-row",
            "E4M3, one current scale per row; Fprop with fast accumulation, as torchao's rowwise",
            x=_ROW,
            fprop_sums=_FAST,
        ),
        _deepseek("deepseek-v3", "E4M3, activations and gradients 1x128, weights 128x128 (report, 3.3)"),
        _make(
            "mxfp8",
            "E4M3 in blocks of 32, E8M0 scales rounded up (TransformerEngine, MXFP8BlockScaling)",
            x=get_recipe("mxfp8").a,
            sums=get_recipe("mxfp8").accumulator,
        ),
        _make(
            "mxfp8-floor",
            "mxfp8 with scales rounded down: amax may saturate (OCP MX v1.0, 6.3)",
            x=get_recipe("mxfp8-floor").a,
            sums=get_recipe("mxfp8-floor").accumulator,
        ),
        _deepseek(
            "deepseek-v3-no-promotion",
            "deepseek-v3, all sums kept in the tensor core's 14 bits",
            sums=OneChain(get_tensor_core("hopper-fp8")),
        ),
        _deepseek("deepseek-v3-fp32-sums", "deepseek-v3, summed in FP32", sums=_FP32_SUMS),
        _deepseek(
            "deepseek-v3-block-gradients",
            "deepseek-v3, gradients 128x128 in Dgrad (report, B.2: diverged)",
            dy=Operand(_E4M3, Scaling("128x128")),
            dy_wgrad=_FINE,
        ),
        _deepseek(
            "deepseek-v3-e5m2-gradients",
            "deepseek-v3, gradients in E5M2",
            dy=Operand(_E5M2, Scaling("1x128")),
        ),
        _deepseek(
            "deepseek-v3-power-of-two-scales",
            "deepseek-v3, scales rounded up to powers of two (V3.1; TransformerEngine, Float8BlockScaling)",
            x=_power_of_two(_ACTIVATION),
            w=_power_of_two(_WEIGHT),
            dy=_power_of_two(_FINE),
        ),
        _deepseek(
            "deepseek-v3-stochastic-gradients",
            "deepseek-v3, gradients rounded stochastically",
            gradient_rounding="stochastic",
        ),
    ),
    {
        "x, dy": lambda recipe: " | ".join(dict.fromkeys(map(str, (recipe.fprop.a, recipe.dgrad.a)))),
        "W": lambda recipe: recipe.fprop.b,
        "sums": lambda recipe: recipe.dgrad.accumulator.name,
        "output": lambda recipe: recipe.fprop.output,
    },
)

get_training_recipe = TRAINING_RECIPES.find
