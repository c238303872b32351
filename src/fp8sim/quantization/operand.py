"""How one operand of a product is stored: its format and its scaling."""

from __future__ import annotations

from dataclasses import dataclass

from fp8sim._support.text import shown
from fp8sim.formats import FORMATS, FloatFormat, get_format
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

    Raises
    ------
    TypeError, ValueError
        If the format is unknown, `scaling` is no `Scaling`, or the two do not go together.

    Examples
    --------
    >>> print(Operand("e4m3", Scaling("1x128")))
    e4m3 1x128 fp32
    """

    fmt: FloatFormat
    scaling: Scaling = _UNSCALED

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

    def __str__(self) -> str:
        """Return format and scaling in a few words."""
        return f"{self.fmt} {self.scaling}" if self.is_scaled else str(self.fmt)

    @property
    def is_scaled(self) -> bool:
        """Whether there are scales; else it is a plain cast."""
        return self.scaling.granularity != "none"

    @property
    def is_symmetric(self) -> bool:
        """Whether the codes of a matrix are the same whichever axis is summed over."""
        return parse_granularity(self.scaling.granularity).is_symmetric


#: FP32 as it is.
FP32 = Operand(FORMATS["fp32"])
