"""How one operand of a product is stored: its format and its scaling."""

from __future__ import annotations

from dataclasses import dataclass

from fp8sim._support import checks
from fp8sim._support.text import shown
from fp8sim.formats import FORMATS, FloatFormat, get_format
from fp8sim.quantization.hadamard import check_transform, transform_text
from fp8sim.quantization.scaling import Scaling, parse_granularity

__all__ = ["FP32", "Operand"]

_UNSCALED = Scaling("none")


@dataclass(frozen=True)
class Operand:
    """How one operand of a product is stored.

    Parameters
    ----------
    fmt : FloatFormat
        Format of its elements; a name or a dtype is looked up.
    scaling : Scaling
        Its scales; by default none, a plain cast.
    hadamard : int
        Elements of a block, a power of two, along the axis that is summed over, that are multiplied by a
        Hadamard matrix before they are scaled: Sylvester's, over the square root of its size. 0: none.
        All of it is done in FP32. With the same on both operands, their product is unchanged.
    hadamard_signs : int
        Which elements of a block change their sign before that, a bit for each, the lowest for the first:
        0xD7E8 is TransformerEngine's.

    Raises
    ------
    TypeError, ValueError
        If the format is unknown, `scaling` is no `Scaling`, the two do not go together, or there is no such
        transform.

    Examples
    --------
    >>> print(Operand("e4m3", Scaling("1x128")))
    e4m3 1x128 fp32
    >>> print(Operand("e2m1", Scaling("1x16", "e4m3"), hadamard=16, hadamard_signs=0xD7E8))
    e2m1 1x16 e4m3 hadamard 16/0xd7e8
    """

    fmt: FloatFormat
    scaling: Scaling = _UNSCALED
    hadamard: int = 0
    hadamard_signs: int = 0

    def __post_init__(self) -> None:
        """Look up the format."""
        object.__setattr__(self, "fmt", get_format(self.fmt))
        if not isinstance(self.scaling, Scaling):
            raise TypeError(
                f"scaling must be a Scaling, got {shown(self.scaling)}; write Scaling({shown(self.scaling)})"
            )
        rule, e2m1 = self.scaling.scale_rule if self.scaling.four_over_six else None, FORMATS["e2m1"]
        asked = rule or (self.scaling.division if self.scaling.division == "te-nvfp4" else None)
        if asked and self.fmt != e2m1:
            raise ValueError(f"{asked!r} is a rule of NVFP4, for elements of {e2m1}, not {self.fmt}")
        for name in ("hadamard", "hadamard_signs"):
            object.__setattr__(self, name, checks.whole_number(getattr(self, name), name))
        check_transform(self.hadamard, self.hadamard_signs)

    def __str__(self) -> str:
        """Return format and scaling in a few words."""
        scaling = f" {self.scaling}" if self.is_scaled else ""
        return f"{self.fmt}{scaling}{transform_text(self)}"

    @property
    def is_scaled(self) -> bool:
        """Whether there are scales; else it is a plain cast."""
        return self.scaling.granularity != "none"

    @property
    def is_symmetric(self) -> bool:
        """Whether the codes of a matrix are the same whichever axis is summed over."""
        return not self.hadamard and parse_granularity(self.scaling.granularity).is_symmetric

    @property
    def in_fp32(self) -> bool:
        """Whether all arithmetic is in FP32, to which float64 elements are rounded first, as for a kernel."""
        return self.scaling.in_fp32 or self.hadamard > 0


#: FP32 as it is.
FP32 = Operand(FORMATS["fp32"])
