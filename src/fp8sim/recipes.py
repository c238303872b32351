"""One name for a way to multiply: the formats, the scaling and the accumulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from fp8sim._support import checks
from fp8sim._support.registry import Registry
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim._support.text import shown
from fp8sim.accumulators import Accumulator, get_accumulator
from fp8sim.formats import FloatFormat, get_format
from fp8sim.quantization import Operand, Scaling

__all__ = ["RECIPES", "Operand", "Recipe", "RecipeLike", "get_recipe"]


@dataclass(frozen=True, repr=False)
class Recipe(Result):
    """A way to multiply matrices, frozen, so that ``dataclasses.replace`` makes a what-if of it.

    Parameters
    ----------
    name : str
        What tables call it.
    a, b : Operand
        How A (m, k) and B (k, n) are stored; groups run along k.
    accumulator : Accumulator
        How products are summed; a name such as ``"fp32"`` is looked up.
    output : FloatFormat
        What the product is stored in; `matmul` returns its float32 sums unless asked to round to it.
    summary : str
        One line on what it is and where it comes from.

    Examples
    --------
    >>> import dataclasses, fp8sim
    >>> recipe = fp8sim.get_recipe("deepseek-v3")
    >>> print(recipe.a, "|", recipe.b)
    e4m3 1x128 fp32 | e4m3 128x128 fp32
    >>> dataclasses.replace(recipe, name="what-if", accumulator="fp32").accumulator
    Fp32()
    """

    name: str
    a: Operand
    b: Operand
    accumulator: Accumulator
    output: FloatFormat = field(default_factory=lambda: get_format("bf16"))
    summary: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Look up what was given by name."""
        object.__setattr__(self, "accumulator", get_accumulator(self.accumulator))
        object.__setattr__(self, "output", get_format(self.output))
        for side in ("a", "b"):
            if not isinstance(operand := getattr(self, side), Operand):
                raise TypeError(
                    f"{side} must be an Operand, got {shown(operand)}; write Operand('e4m3', ...)"
                )
        checks.fields(self)

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    def parts(self) -> list[Table]:
        """Return a table of what it is."""
        rows = [
            ["A (m, k)", str(self.a)],
            ["B (k, n)", str(self.b)],
            ["sums", self.accumulator.name],
            ["output", str(self.output)],
        ]
        return [Table(f"Recipe {self.name}", ["", "stored as"], rows, tuple(filter(None, (self.summary,))))]

    @property
    def bits(self) -> int:
        """Bits of the wider operand's elements: what the multipliers of a device must take."""
        return max(self.a.fmt.bits, self.b.fmt.bits)


RecipeLike: TypeAlias = "str | Recipe"


def _recipe(
    name: str, fmt: str, sums: str, scalings: tuple[Scaling, Scaling], summary: str, output: str = "bf16"
) -> Recipe:
    a, b = (Operand(get_format(fmt), scaling) for scaling in scalings)
    return Recipe(name, a, b, get_accumulator(sums), get_format(output), summary)


_FLOOR = 1e-4  # deepseek-ai/DeepSeek-V3, inference/kernel.py, act_quant
_UNSCALED, _TENSOR, _ROW = ((Scaling(name),) * 2 for name in ("none", "tensor", "row"))
_V3 = Scaling("1x128", amax_floor=_FLOOR), Scaling("128x128", amax_floor=_FLOOR)
_V31 = Scaling("1x128", "e8m0", "ceil", _FLOOR), Scaling("128x128", "e8m0", "ceil", _FLOOR)
_MX, _MX_FLOOR = ((Scaling("1x32", "e8m0", rule),) * 2 for rule in ("ceil", "floor"))
_NVFP4 = (Scaling("1x16", "e4m3"),) * 2
_SUMMARY_V3 = "E4M3, activations 1x128, weights 128x128, FP32 promotion every 128 of k (report, 3.3.2)"
_SUMMARY_MX = "E4M3, an E8M0 scale per 32, rounded up (TransformerEngine; RCEIL in torchao)"
_SUMMARY_MX_FLOOR = "mxfp8 with scales rounded down: amax may saturate (OCP MX v1.0, 6.3)"
_SUMMARY_V31 = "deepseek-v3 with power-of-two scales (config_v3.1.json, scale_fmt ue8m0)"

_RECIPES = (
    _recipe("fp32", "fp32", "fp32", _UNSCALED, "FP32 throughout, summed in blocks", "fp32"),
    _recipe("bf16", "bf16", "hopper-bf16", _UNSCALED, "BF16, as DeepSeek-V3's baseline (3.3)"),
    _recipe("fp16", "fp16", "hopper-fp16", _UNSCALED, "FP16", "fp16"),
    _recipe("fp8-tensor", "e4m3", "hopper-fp8", _TENSOR, "E4M3, one current scale per tensor"),
    _recipe("fp8-row", "e4m3", "hopper-fp8", _ROW, "E4M3, a scale per row of A and column of B"),
    _recipe("deepseek-v3", "e4m3", "hopper-fp8/128", _V3, _SUMMARY_V3),
    _recipe("deepseek-v3.1", "e4m3", "hopper-fp8/128", _V31, _SUMMARY_V31),
    _recipe("mxfp8", "e4m3", "blackwell-mxfp8", _MX, _SUMMARY_MX),
    _recipe("mxfp8-floor", "e4m3", "blackwell-mxfp8", _MX_FLOOR, _SUMMARY_MX_FLOOR),
    _recipe("nvfp4", "e2m1", "blackwell-nvfp4", _NVFP4, "E2M1, E4M3 scales per 16 under an FP32 one"),
)

#: Name -> recipe. Add your own with ``RECIPES["mine"] = Recipe(...)``.
RECIPES: Registry[Recipe] = Registry(
    "recipe",
    Recipe,
    _RECIPES,
    {
        "A": lambda recipe: recipe.a,
        "B": lambda recipe: recipe.b,
        "sums": lambda recipe: recipe.accumulator.name,
        "output": lambda recipe: recipe.output,
    },
    ("A: activations (m, k); B: weights (k, n); each with who shares a scale, its format and its rule",),
)

get_recipe = RECIPES.find
