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
from fp8sim.quantization.hadamard import check_same_transform

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
        check_same_transform(self.a, self.b)

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
    name: str, fmts: str, sums: str, scalings: tuple[Scaling, Scaling], summary: str, output: str = "bf16"
) -> Recipe:
    """Build a recipe; `fmts` is the format of both operands, or of A and of B."""
    a, b = (Operand(get_format(fmt), s) for fmt, s in zip((fmts.split() * 2)[:2], scalings, strict=True))
    return Recipe(name, a, b, get_accumulator(sums), get_format(output), summary)


_FLOOR = 1e-4  # deepseek-ai/DeepSeek-V3, inference/kernel.py, act_quant
_UNSCALED, _TENSOR, _ROW = ((Scaling(name),) * 2 for name in ("none", "tensor", "row"))
_V3 = Scaling("1x128", amax_floor=_FLOOR), Scaling("128x128", amax_floor=_FLOOR)
_V31 = Scaling("1x128", "e8m0", "ceil", _FLOOR), Scaling("128x128", "e8m0", "ceil", _FLOOR)
_MX, _MX_FLOOR = ((Scaling("1x32", "e8m0", rule),) * 2 for rule in ("ceil", "floor"))
_NVFP4 = (Scaling("1x16", "e4m3"),) * 2
# deepseek-ai/DeepSeek-V4, inference/kernel.py (act_quant, fp4_act_quant); TileKernels has the same floors
_FLOOR_FP4 = 6 * 2.0**-126
_V4 = Scaling("1x128", "e8m0", "ceil", _FLOOR), Scaling("1x32", "e8m0", "ceil", _FLOOR_FP4)
_TK = (
    Scaling("1x128", amax_floor=_FLOOR, division="reciprocal"),
    Scaling("128x128", amax_floor=_FLOOR, division="reciprocal"),
)
_WEIGHTS = Scaling("none"), Scaling("row")
_TE_CURRENT = (Scaling("tensor", division="te-current"),) * 2
# TransformerEngine, common/recipe/__init__.py: weights in blocks of 16x16, 4over6 under the bound of 256
_TE_NVFP4, _FOUR_OVER_SIX = (
    (Scaling("1x16", "e4m3", rule, division="te-nvfp4"), Scaling("16x16", "e4m3", rule, division="te-nvfp4"))
    for rule in ("amax", "4over6")
)
_SUMMARY_V3 = "E4M3, activations 1x128, weights 128x128, FP32 promotion every 128 of k (report, 3.3.2)"
_SUMMARY_MX = "E4M3, an E8M0 scale per 32, rounded up (TransformerEngine; RCEIL in torchao)"
_SUMMARY_MX_FLOOR = "mxfp8 with scales rounded down: amax may saturate (OCP MX v1.0, 6.3)"
_SUMMARY_MXFP4 = "E2M1, an E8M0 scale per 32, rounded up (TileKernels; TransformerEngine, cast_to_e8)"
_SUMMARY_V4 = "activations of deepseek-v3.1 by E2M1 experts, E8M0 per 32, promoted every 32 (fp4_gemm)"
_SUMMARY_TK = "deepseek-v3, cast as TileKernels does: x times 448 / amax"
_SUMMARY_WEIGHTS = "BF16 by E4M3 weights, a scale per column, as BF16 to the core (W8A16: Marlin)"
_SUMMARY_TE_CURRENT = "fp8-tensor, cast as TransformerEngine's current scaling does, bit for bit"
_SUMMARY_TE_NVFP4 = "nvfp4, weights 16x16, cast as TransformerEngine's NVFP4BlockScaling, bit for bit"
_SUMMARY_4OVER6 = "te-nvfp4, each block mapped to 6 or to 4, whichever errs less (nvfp4_4over6='all')"
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
    _recipe("mxfp4", "e2m1", "blackwell-mxfp4", _MX, _SUMMARY_MXFP4),
    _recipe("nvfp4", "e2m1", "blackwell-nvfp4", _NVFP4, "E2M1, E4M3 scales per 16 under an FP32 one"),
    _recipe("deepseek-v4", "e4m3 e2m1", "hopper-fp8/32", _V4, _SUMMARY_V4),
    _recipe("int8-row", "int8", "exact", _ROW, "INT8, -127 to 127, a scale per row of A and column of B"),
    _recipe("fp8-weights", "bf16 e4m3", "hopper-bf16", _WEIGHTS, _SUMMARY_WEIGHTS),
    _recipe("tilekernels-fp8", "e4m3", "hopper-fp8/128", _TK, _SUMMARY_TK),
    _recipe("te-current", "e4m3", "hopper-fp8", _TE_CURRENT, _SUMMARY_TE_CURRENT),
    _recipe("te-nvfp4", "e2m1", "blackwell-nvfp4", _TE_NVFP4, _SUMMARY_TE_NVFP4),
    _recipe("nvfp4-4over6", "e2m1", "blackwell-nvfp4", _FOUR_OVER_SIX, _SUMMARY_4OVER6),
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
