"""What a tensor core is: one frozen description of how it sums a step of products."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fp8sim._support import checks
from fp8sim.formats import FloatFormat, get_format
from fp8sim.reference.fused_step import StepRule

__all__ = ["LAWS", "OUTPUTS", "Law", "TensorCore"]

Output: TypeAlias = Literal["fp32-rz", "e8m13-rz", "fp16-rne", "fp32-rne"]
Law: TypeAlias = Literal["truncated", "exact", "pairwise", "rounded-down"]

#: output -> fraction bits that it keeps.
OUTPUTS: dict[str, int] = {"fp32-rz": 23, "e8m13-rz": 13, "fp16-rne": 10, "fp32-rne": 23}

#: law -> what happens to the terms of a step and to their sum; in brackets what MMA-Sim calls it.
LAWS: dict[str, str] = {
    "truncated": "terms are cut off below the largest exponent, and their sum at the output (T-FDPA)",
    "exact": "the exact sum of all terms is rounded once, to nearest (E-FDPA)",
    "pairwise": "each product and each sum of two is rounded to nearest; subnormals become zero (FTZ-AddMul)",
    "rounded-down": "products are cut off, their sums rounded down, the output to nearest (TR- and GTR-FDPA)",
}


@dataclass(frozen=True)
class TensorCore:
    """How a tensor core sums one fused step, ``step`` products and the accumulator c.

    The products are exact, of significands as they are stored (a subnormal keeps the least exponent
    of its format), each with the sum of two exponents. All terms, c among them, are cut off (toward
    zero) `fraction_bits` below the largest of these exponents, added exactly, and rounded once more
    to the output. A product chains such steps over k in order. Frozen, so ``dataclasses.replace``
    makes a what-if of it. That is the law of NVIDIA's cores, "truncated"; AMD's have one of three others:

    exact
        The exact sum of products and c is rounded once, to the nearest FP32 (CDNA1).
    pairwise
        Subnormal factors, and a subnormal c, become +0. Each product is rounded to the nearest FP32, then
        each sum: of two neighbours, of two such sums, and last of that and c. A subnormal result becomes
        zero of its sign (CDNA2).
    rounded-down
        Products are cut off (toward zero) `fraction_bits` below the largest exponent of a product; those of
        2^128 and more are infinite. Their sum is rounded down (toward minus infinity) ``sum_bits + 1`` below
        the larger of that exponent and of c's, and c `fraction_bits` below it. The sum of both is rounded
        down `sum_bits` below its own exponent, and then to the nearest FP32 (CDNA3).

    Parameters
    ----------
    name : str
        What tables call it.
    inputs : tuple of str or FloatFormat
        Formats that it multiplies, in any combination.
    step : int
        Products per fused step.
    fraction_bits : int
        Bits kept below the alignment exponent; 13 of them, with the leading bit, are the "14 bits"
        of Hopper's FP8.
    output : {"fp32-rz", "e8m13-rz", "fp16-rne", "fp32-rne"}
        Truncated to FP32; truncated to FP32 of 13 fraction bits; rounded to the nearest FP16; to the
        nearest FP32, which belongs to the laws other than "truncated".
    exponent_floor : int
        Least alignment exponent. It matters for sums near the smallest subnormal of the output alone.
    group : int
        Products that are summed exactly before they are aligned, by the exponents of their scales,
        even where they cancel; 0 aligns each product on its own. Rounded down: half of the step, where even
        and odd k are summed apart, each sum is rounded down `fraction_bits` below the largest exponent, and c
        counts for nothing where it is wholly below that; or 0. Pairwise: 2 or 4 whose sums are added to c one
        after another within a step; 0 for one such sum a step.
    subgroup : int
        What is summed exactly instead of a group where the exponent of a product, scales included, is
        above that of c, which then counts for no alignment; 0: groups are the same everywhere.
    scale_format : str, optional
        Format of the block scales that the core multiplies by itself (MX formats and NVFP4).
    scale_block : int
        Elements along k that share such a scale.
    law : {"truncated", "exact", "pairwise", "rounded-down"}
        How terms are rounded, as above. Laws that cut off no product have 0 `fraction_bits`.
    sum_bits : int
        Rounded down: bits of the sum kept below its own exponent; 0 for the other laws.
    source : str
        Where the numbers are from.

    Raises
    ------
    ValueError
        If a field is out of range.

    Examples
    --------
    >>> import dataclasses
    >>> from fp8sim import TENSOR_CORES
    >>> core = TENSOR_CORES["hopper-fp8"]
    >>> core.step, core.fraction_bits, core.output
    (32, 13, 'e8m13-rz')
    >>> dataclasses.replace(core, name="what if", fraction_bits=25, output="fp32-rz").step
    32

    The recipe ``fp8-row`` as an MI300X multiplies, in its own E4M3:

    >>> from fp8sim import Operand, Scaling, get_recipe
    >>> e4m3 = Operand("e4m3fnuz", Scaling("row"))
    >>> recipe = dataclasses.replace(
    ...     get_recipe("fp8-row"), name="fp8-row-mi300x", a=e4m3, b=e4m3, accumulator="cdna3-fp8"
    ... )
    >>> import fp8sim
    >>> fp8sim.matmul([[1.0, 2.0]], [[3.0], [4.0]], recipe)
    array([[10.933335]], dtype=float32)
    """

    name: str
    inputs: tuple[str | FloatFormat, ...]
    step: int
    fraction_bits: int
    output: Output = "fp32-rz"
    exponent_floor: int = -133
    group: int = 0
    subgroup: int = 0
    scale_format: str | None = None
    scale_block: int = 0
    law: Law = "truncated"
    sum_bits: int = 0
    source: str = field(default="user", compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check the fields."""
        sizes = dict.fromkeys(("fraction_bits", "group", "subgroup", "scale_block", "sum_bits"), (0, 2**20))
        checks.fields(self, step=(1, 2**20), **sizes, exponent_floor=(-900, 0))
        self._check_law()
        if not self.inputs:
            raise ValueError(f"{self.name}: name at least one input format")
        for fmt in self.inputs:
            if get_format(fmt).twos_complement:
                raise ValueError(
                    f"{self.name}: {fmt} products are summed as integers, exactly: accumulator 'exact'"
                )
            if get_format(fmt).emin < -127:
                raise ValueError(
                    f"{self.name}: {fmt} has exponents below -127, which float32 keeps as subnormals alone"
                )
        if bool(self.scale_format) != bool(self.scale_block):
            raise ValueError(f"{self.name}: scale_format and scale_block go together")
        if self.law == "truncated":
            self._check_groups()
        if self._product_bits > 53:
            raise ValueError(
                f"{self.name}: products of {' and '.join(map(str, self.inputs))}, with groups and scales, "
                f"have up to {self._product_bits} bits, beyond the 53 that stay exact; take narrower formats"
            )
        if self._sum_bits > 52:
            raise ValueError(
                f"{self.name}: a step of {self.step} with {self.fraction_bits} fraction bits "
                f"needs sums of {self._sum_bits} bits, beyond the 52 that stay exact; take fewer"
            )

    def _check_law(self) -> None:
        """Check what the law asks of the fields."""
        aligned, truncated = self.law in ("truncated", "rounded-down"), self.law == "truncated"
        if aligned != (self.fraction_bits > 0):
            wanted = "1 and more" if aligned else "0, as it cuts off no product"
            raise ValueError(
                f"{self.name}: law {self.law!r} takes fraction_bits={wanted}, got {self.fraction_bits}"
            )
        if (self.law == "rounded-down") != (self.sum_bits > 0):
            wanted = (
                "1 and more" if self.law == "rounded-down" else "0, which 'rounded-down' alone has more than"
            )
            raise ValueError(f"{self.name}: law {self.law!r} takes sum_bits={wanted}, got {self.sum_bits}")
        if truncated == (self.output == "fp32-rne"):
            wanted = "one that is truncated, or FP16" if truncated else "output='fp32-rne'"
            raise ValueError(f"{self.name}: law {self.law!r} takes {wanted}, got {self.output!r}")
        if self.law == "pairwise" and (
            (self.group or self.step) not in (2, 4) or self.step % (self.group or 1)
        ):
            raise ValueError(
                f"{self.name}: law 'pairwise' takes a step of 2 or 4, or of groups of so many; got a step of "
                f"{self.step} in groups of {self.group}"
            )
        if not truncated and (self.scale_format or self.subgroup):
            raise ValueError(f"{self.name}: law {self.law!r} takes no block scales and no subgroups")
        if self.law == "exact" and self.group:
            raise ValueError(f"{self.name}: law 'exact' takes group=0, got {self.group}")
        if self.law == "rounded-down" and self.group and 2 * self.group != self.step:
            raise ValueError(
                f"{self.name}: law 'rounded-down' takes group=0 or half of the step, "
                f"{self.step / 2:g}; got {self.group}"
            )

    def _check_groups(self) -> None:
        """Check how products are grouped."""
        if self.group and self.step % self.group:
            raise ValueError(f"{self.name}: groups of {self.group} do not divide a step of {self.step}")
        if self.group and not self.scale_format:
            raise ValueError(
                f"{self.name}: groups are aligned by the exponents of their scales: set scale_format"
            )
        if self.group and self.scale_block % self.group:
            raise ValueError(f"{self.name}: a group of {self.group} must share one scale: set scale_block")
        if self.subgroup and (not self.group or self.group % self.subgroup):
            raise ValueError(
                f"{self.name}: subgroups of {self.subgroup} do not divide groups of {self.group}"
            )
        wide = [fmt.name for fmt in self.formats if fmt.emax - fmt.emin > 7]
        if self.subgroup and wide:
            raise ValueError(
                f"{self.name}: subgroups are for formats of up to 8 binades, and {wide[0]} has more"
            )

    @property
    def rule(self) -> StepRule:
        """What the readable and the compiled step ask of it."""
        return StepRule(
            step=self.step,
            group=self.group,
            subgroup=self.subgroup,
            fraction_bits=self.fraction_bits,
            floor=self.exponent_floor,
            out_bits=OUTPUTS[self.output],
            fp16=self.output == "fp16-rne",
            scale_emin=get_format(self.scale_format).emin if self.scale_format else 0,
            law=self.law,
            sum_bits=self.sum_bits,
        )

    @property
    def formats(self) -> list[FloatFormat]:
        """The formats of `inputs`."""
        return [get_format(fmt) for fmt in self.inputs]

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @property
    def _product_bits(self) -> int:
        """Bits that an exact product, or sum of a group, may need with its scales; float64 has 53."""
        bits = 2 * max(fmt.mantissa_bits + 1 for fmt in self.formats)
        if self.group and self.law == "truncated":
            bits = 2 * max(fmt.emax - fmt.emin + fmt.mantissa_bits + 1 for fmt in self.formats)
            bits += (self.group - 1).bit_length()
        return bits + (2 * get_format(self.scale_format).mantissa_bits + 2 if self.scale_format else 0)

    @property
    def _sum_bits(self) -> int:
        """Bits that the exact sum of a step may need, float64 having 52 to spare."""
        if self.law == "rounded-down":  # two sums, with c
            return math.ceil(math.log2(4 * self.step + 4)) + max(self.fraction_bits, self.sum_bits + 1)
        if self.law != "truncated":  # not in one float64
            return 0
        largest_term = 4.0  # a product of two significands below 2
        if self.group:
            largest_term = self.group * max(get_format(fmt).max for fmt in self.inputs) ** 2
        if self.scale_format:  # times two more significands
            largest_term *= 4.0
        return math.ceil(math.log2((self.step // max(1, self.group) + 1) * largest_term)) + self.fraction_bits
