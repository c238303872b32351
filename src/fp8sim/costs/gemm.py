"""What one matrix multiply costs, from shapes alone: bytes, flops, and the roofline time on a device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from fp8sim._support import checks
from fp8sim._support.quantities import bytes_text, count_text, percent_text, tera_text, time_text
from fp8sim._support.results import Result, members, plain_data
from fp8sim._support.tables import Table
from fp8sim.costs.devices import Device, DeviceLike, OperandClass, Rate, get_device
from fp8sim.costs.roofline import Roofline
from fp8sim.formats import FORMATS, FloatFormat
from fp8sim.quantization import Operand
from fp8sim.recipes import Recipe, RecipeLike, get_recipe
from fp8sim.tensor_cores.arguments import unpacked

__all__ = [
    "CostRatio", "GemmCost", "Traffic", "formats_class", "gemm_cost", "operand_class", "traffic",
]  # fmt: skip


class Traffic(NamedTuple):
    """The bytes of one matrix, read or written once."""

    elements: int
    scales: int = 0

    @property
    def total(self) -> int:
        """Elements and scales."""
        return self.elements + self.scales


class CostRatio(NamedTuple):
    """One cost as a share of another."""

    flops: float
    bytes: float  #: with scales
    bytes_without_scales: float
    seconds: float


@dataclass(frozen=True, repr=False, kw_only=True)
class GemmCost(Result, Roofline):
    """Bytes, flops and roofline time of ``A (m, k) @ B (k, n)`` under a recipe on a device.

    Made by `gemm_cost`. Every operand is read once and the product written once; the flops, 2 m n k,
    do not depend on the format.

    Examples
    --------
    >>> cost = gemm_cost(4096, 7168, 2048, "deepseek-v3", "h800")
    >>> cost.flops, cost.bytes_without_scales, cost.bytes - cost.bytes_without_scales
    (120259084288, 81788928, 265728)
    >>> cost.bound, round(cost.seconds * 1e6, 1)
    ('compute', 60.8)
    """

    flops: int
    bytes: int
    m: int
    n: int
    k: int
    recipe: Recipe
    device: Device
    a: Traffic  #: bytes of A, activations in a linear layer
    b: Traffic  #: bytes of B, the weights
    output: Traffic  #: bytes of the product in the recipe's output format

    @property
    def bytes_without_scales(self) -> int:
        """Bytes of the elements alone, as DeepGEMM counts them."""
        return self.a.elements + self.b.elements + self.output.elements

    @property
    def rate(self) -> Rate:
        """The unit of the device that multiplies these operands."""
        return self.device.rate(operand_class(self.recipe))

    @property
    def note(self) -> str:
        """What to know about the rate that was taken; empty where the device has the unit."""
        asked, rate = operand_class(self.recipe), self.rate
        notes = [rate.note]
        if asked in ("fp8", "fp4") and rate.operand_class in ("bf16", "fp16"):
            notes = [f"{rate.note}; this saves bytes, and no compute time"]
        if rate.operand_class == "fp8":
            notes.append(self.device.remark)
        core = getattr(self.recipe.accumulator, "core", None)
        if core and core.scale_format and not self.device.block_scales and rate.operand_class == asked:
            scales = f"{core.scale_format.upper()} scales of {core.scale_block}"
            notes.append(f"{self.device.title} has no unit for {scales}: its kernels scale sums in between")
        return "; ".join(filter(None, notes))

    def gbps_at(self, tflops: float, *, scales: bool = False) -> float:
        """Return the memory traffic in 10^9 B/s of a kernel that runs this GEMM at `tflops`, 10^12 FLOP/s.

        `scales` says whether to count them; DeepGEMM's published column does not.

        Examples
        --------
        >>> cost = gemm_cost(64, 2112, 7168)
        >>> round(cost.gbps_at(206)), round(cost.gbps_at(206, scales=True))  # DeepGEMM prints 1688
        (1687, 1689)
        """
        if not (math.isfinite(tflops) and tflops > 0):
            raise ValueError(f"tflops must be positive and finite, got {tflops}")
        moved = self.bytes if scales else self.bytes_without_scales
        return moved * tflops * 1e3 / self.flops

    def ratio_to(self, other: GemmCost) -> CostRatio:
        """Return this cost as a share of `other`: 0.5 is half.

        Examples
        --------
        >>> fp8, bf16 = gemm_cost(4096, 7168, 2048), gemm_cost(4096, 7168, 2048, "bf16")
        >>> fp8.ratio_to(bf16).seconds, round(fp8.ratio_to(bf16).bytes, 3)
        (0.5, 0.783)
        """
        names = CostRatio._fields
        return CostRatio(*(getattr(self, name) / getattr(other, name) for name in names))

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as plain data, the unit in the key; NaN times become None."""
        data: dict[str, Any] = plain_data(
            {
                **members(self, "m n k"),
                "recipe": self.recipe.name,
                "device": self.device.name,
                "a_bytes": self.a.elements,
                "a_scale_bytes": self.a.scales,
                "b_bytes": self.b.elements,
                "b_scale_bytes": self.b.scales,
                "output_bytes": self.output.elements,
                **members(self, "bytes_without_scales bytes flops"),
                "intensity_flop_per_byte": self.intensity,
                "operand_class": self.rate.operand_class,
                "peak_flops_per_s": self.peak,
                "bandwidth_bytes_per_s": self.bandwidth,
                "compute_s": self.compute_seconds,
                "memory_s": self.memory_seconds,
                "roofline_s": self.seconds,
                **members(self, "bound note"),
            }
        )
        return data

    def parts(self) -> list[Table]:
        """Return the table that it prints as."""
        m, n, k = self.m, self.n, self.k
        matrices = [
            (f"A ({m}, {k})", self.recipe.a, self.a),
            (f"B ({k}, {n})", self.recipe.b, self.b),
            (f"output ({m}, {n})", self.recipe.output, self.output),
        ]
        rows = [[what, str(how), *map(bytes_text, (*moved, moved.total))] for what, how, moved in matrices]
        scales = self.bytes - self.bytes_without_scales
        rows.append(["total", "", *map(bytes_text, (self.bytes_without_scales, scales, self.bytes))])
        headers = ["", "stored as", "elements>", "scales>", "bytes>"]
        title = f"{m} x {n} x {k} (m x n x k), {self.recipe} on {self.device}"
        return [Table(title, headers, rows, list(self._summary(scales / self.bytes)))]

    def _summary(self, scale_share: float) -> Iterator[str]:
        share = f"; scales are {percent_text(scale_share)} of the bytes" if scale_share else ""
        yield f"flops      {count_text(self.flops)}FLOP (2mnk), {self.intensity:.1f} FLOP/B{share}"
        yield f"memory     {time_text(self.memory_seconds)} at {tera_text(self.bandwidth, 'B/s')}"
        if self.bound != "unknown":
            peak = f"{tera_text(self.peak, 'FLOP/s')} (dense {self.rate.operand_class.upper()} peak)"
            yield f"compute    {time_text(self.compute_seconds)} at {peak}"
            yield f"roofline   {time_text(self.seconds)}, bound by {self.bound}: the least a kernel takes"
        if self.note:
            yield f"note       {self.note}"


def gemm_cost(
    m: int, n: int, k: int, recipe: RecipeLike = "deepseek-v3", device: DeviceLike = "h800"
) -> GemmCost:
    """Count what ``A (m, k) @ B (k, n)`` moves and computes, and how fast a device could be.

    Parameters
    ----------
    m, n, k : int
        Rows of A (tokens), columns of B (output features), and the reduction length.
    recipe : str or Recipe
        How A, B and the product are stored.
    device : str or Device
        A name in `DEVICES`, or a device of your own.

    Returns
    -------
    GemmCost
        Bytes with and without scales, flops, roofline time and what bounds it; prints as a table.

    Raises
    ------
    TypeError
        If a size is no whole number.
    ValueError
        If a size is not positive, or the recipe or the device is unknown.

    Examples
    --------
    >>> cost = gemm_cost(128, 7168, 2048, "deepseek-v3", "a100")
    >>> cost.rate.operand_class, cost.bound
    ('bf16', 'compute')
    >>> print(cost.note.partition("; ")[2])
    this saves bytes, and no compute time
    """
    m, n, k = (checks.positive_int(size, label) for size, label in ((m, "m"), (n, "n"), (k, "k")))
    recipe, device = get_recipe(recipe), get_device(device)
    a = traffic(recipe.a, (m, k), axis=1)
    b = traffic(recipe.b, (k, n), axis=0)
    output = traffic(Operand(recipe.output), (m, n))
    return GemmCost(
        flops=2 * m * n * k,
        bytes=a.total + b.total + output.total,
        peak=device.rate(operand_class(recipe)).flops,
        bandwidth=device.bandwidth.value,
        m=m,
        n=n,
        k=k,
        recipe=recipe,
        device=device,
        a=a,
        b=b,
        output=output,
    )


def traffic(operand: Operand, shape: tuple[int, ...], axis: int = -1) -> Traffic:
    """Return the bytes of an array stored as `operand`, groups running along `axis`.

    Examples
    --------
    >>> from fp8sim.recipes import get_recipe
    >>> traffic(get_recipe("deepseek-v3").b, (7168, 2048), axis=0)
    Traffic(elements=14680064, scales=3584)
    """
    checks.of_kind(operand, Operand, "operand")
    elements = -(-math.prod(checks.sizes(shape, "shape")) * operand.fmt.bits // 8)
    return Traffic(elements, operand.scaling.nbytes(shape, axis))


def operand_class(recipe: Recipe) -> OperandClass:
    """Return which kind of unit multiplies the operands of a recipe, in the formats that its core takes.

    Examples
    --------
    >>> from fp8sim.recipes import get_recipe
    >>> [operand_class(get_recipe(name)) for name in ("mxfp8", "nvfp4", "fp8-weights")]
    ['fp8', 'fp4', 'bf16']
    """
    checks.of_kind(recipe, Recipe, "recipe")
    core = getattr(recipe.accumulator, "core", None)
    fmts = recipe.a.fmt, recipe.b.fmt
    wider = [unpacked(fmt, core) if core else None for fmt in fmts]
    return formats_class(*(pair[0] if pair else fmt for pair, fmt in zip(wider, fmts, strict=True)))


def formats_class(a: FloatFormat, b: FloatFormat) -> OperandClass:
    """Return which kind of unit multiplies operands of two formats, by the wider of them.

    Integers: ``int8``. At most 4 bits: ``fp4``; at most 8: ``fp8``; else, and for an integer and a float,
    the first of ``fp16``, ``bf16`` and ``tf32`` that holds every value of both, and ``fp32`` if none does.

    Examples
    --------
    >>> from fp8sim.formats import get_format
    >>> formats_class(get_format("bf16"), get_format("e4m3"))
    'bf16'
    """
    bits = max(checks.of_kind(fmt, FloatFormat, "a format").bits for fmt in (a, b))
    integers = a.twos_complement + b.twos_complement
    if integers == 2:
        return "int8"
    if bits <= 8 and not integers:
        return "fp4" if bits <= 4 else "fp8"
    sixteen: tuple[OperandClass, ...] = ("fp16", "bf16", "tf32")
    for narrow in sixteen:
        if all(_holds(FORMATS[narrow], fmt) for fmt in (a, b)):
            return narrow
    return "fp32"


def _holds(wide: FloatFormat, fmt: FloatFormat) -> bool:
    """Whether `wide` holds the finite values of `fmt`."""
    return (
        wide.mantissa_bits >= fmt.mantissa_bits
        and wide.max >= fmt.max
        and wide.smallest_subnormal <= fmt.smallest_subnormal
    )
