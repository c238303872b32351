"""What a GPU can do at best: dense multiply rates, memory bandwidth and capacity, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from fp8sim._support import checks
from fp8sim._support.published import Figure
from fp8sim._support.quantities import amount_text, number_text, tera_text
from fp8sim._support.registry import Registry

__all__ = [
    "DEVICES", "OPERAND_CLASSES", "Device", "DeviceLike", "OperandClass", "Rate", "get_device",
]  # fmt: skip

OperandClass: TypeAlias = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "fp4"]

#: operand class -> where its operands go on a device without a unit for them, first choice first.
#: Each target holds every value of the class, but for BF16 in FP16.
OPERAND_CLASSES: dict[str, tuple[OperandClass, ...]] = {
    "fp32": ("fp32",),
    "tf32": ("tf32", "fp32"),
    "bf16": ("bf16", "fp16"),
    "fp16": ("fp16", "bf16"),
    "fp8": ("fp8", "bf16", "fp16"),
    "fp4": ("fp4", "fp8", "bf16", "fp16"),
}


class Rate(NamedTuple):
    """The rate at which a device multiplies operands of a class."""

    operand_class: OperandClass  #: the unit taken, perhaps a wider one than asked for
    flops: float  #: dense FLOP/s
    source: str
    note: str  #: empty where the device has a unit for the class


@dataclass(frozen=True)
class Device:
    """A GPU: peak dense rates by operand class, memory bandwidth and capacity.

    Parameters
    ----------
    name, title : str
        What code and tables call it.
    bandwidth : Figure
        Memory bandwidth in B/s.
    memory : Figure, optional
        Memory capacity in bytes.
    fp32, tf32, bf16, fp16, fp8, fp4 : Figure, optional
        Peak dense FLOP/s with operands of that class and FP32 sums; None where there is no such
        unit, or no figure at hand. Vendors often print the rate with 2:4 sparsity, twice this.
    measured_bf16, measured_fp8 : Figure, optional
        The highest FLOP/s that anyone measured over many GEMM shapes (MAMF, the maximum achievable
        matmul FLOPS), on that device or on the one that the source names.
    remark : str
        What else to know when FP8 is timed on it.

    Examples
    --------
    >>> h800 = get_device("h800")
    >>> h800.fp8.value / h800.bf16.value, h800.bandwidth.value
    (2.0, 3350000000000.0)
    """

    name: str
    title: str
    bandwidth: Figure
    memory: Figure | None = None
    fp32: Figure | None = None
    tf32: Figure | None = None
    bf16: Figure | None = None
    fp16: Figure | None = None
    fp8: Figure | None = None
    fp4: Figure | None = None
    measured_bf16: Figure | None = None
    measured_fp8: Figure | None = None
    remark: str = ""

    def __str__(self) -> str:
        """Return the title."""
        return self.title

    def rate(self, operand_class: OperandClass) -> Rate:
        """Return the rate at which operands of a class, that of the wider one, are multiplied.

        A device without the unit converts the operands and uses the next wider one. NaN FLOP/s where no
        figure is at hand.

        Examples
        --------
        >>> rate = get_device("a100").rate("fp8")
        >>> rate.operand_class, rate.flops
        ('bf16', 312000000000000.0)
        >>> print(rate.note)
        A100 SXM has no FP8 unit: operands are converted and multiplied at its BF16 rate
        """
        checks.one_of(operand_class, OPERAND_CLASSES, "operand class")
        asked = operand_class.upper()
        for unit in OPERAND_CLASSES[operand_class]:
            figure: Figure | None = getattr(self, unit)
            if figure is None:
                continue
            converted = f"operands are converted and multiplied at its {unit.upper()} rate"
            note = "" if unit == operand_class else f"{self.title} has no {asked} unit: {converted}"
            if (unit, operand_class) == ("fp16", "bf16"):
                note += ", as if every value fitted FP16"
            return Rate(unit, figure.value, figure.source, note)
        return Rate(operand_class, float("nan"), "", f"no {asked} rate of {self.title} is at hand")


DeviceLike: TypeAlias = "str | Device"

_STAS = "stas00/ml-engineering, compute/accelerator/README.md (vendor pages)"
_MAMF = "stas00/ml-engineering, compute/accelerator/README.md, MAMF"
_GK_H100 = "NVIDIA H100 white paper, as in glennklockwood.com/garden/processors/h100"
_GK_A100 = "NVIDIA A100 data sheet, as in glennklockwood.com/garden/processors/A100"
_GK_B200 = "NVIDIA Blackwell brief, as in glennklockwood.com/garden/processors/B200"
_V100 = "NVIDIA Tesla V100 data sheet"
_V100_FP32 = "NVIDIA Tesla V100 white paper, as in maosong.website/p/nvidia-gpu-specs"
_PCIE_FP32 = "NVIDIA H100 data sheet, as in archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html"
_L40S_FP32 = "NVIDIA L40S data sheet, as in mullet.se/product.html?product_id=355414"
_FLASHMLA = "deepseek-ai/FlashMLA issue #75 (3.35 TB/s, 990 TFLOPS)"
_HALF_SPARSE = f"{_STAS}; NVIDIA prints 1979 with sparsity, which is twice the dense rate"

# Name, title, bandwidth in TB/s, memory in GB, then TFLOP/s: of each operand class, and the highest measured.
_FIELDS = ("bandwidth", "memory", *OPERAND_CLASSES, "measured_bf16", "measured_fp8")
_ROWS: tuple[tuple[str, str, tuple[float | None, ...]], ...] = (
    ("v100", "V100 SXM2", (0.9, 32, 15.7, None, None, 125, None, None, None, None)),
    ("a100", "A100 SXM", (2.039, 80, 19.5, 156, 312, 312, None, None, 271.2, None)),
    ("l40s", "L40S", (0.86, 48, 91.6, 183, 362, 362, 733, None, None, None)),
    ("h100", "H100 SXM", (3.35, 80, 66.9, 494.7, 989.5, 989.5, 1979, None, 794.5, 1402.6)),
    ("h100-pcie", "H100 PCIe", (2.0, 80, 51, 378, 756, 756, 1513, None, None, None)),
    ("h800", "H800 SXM", (3.35, 80, 66.9, 494.7, 989.5, 989.5, 1979, None, 794.5, 1402.6)),
    ("h200", "H200", (4.8, 141, 66.9, 494.7, 989.5, 989.5, 1979, None, 794.5, 1453.4)),
    ("b200", "B200", (8.0, 180, 80, 1100, 2250, 2250, 4500, 9000, 1745, 3432.5)),
    ("gb200", "GB200 (one GPU)", (8.0, None, 90, 1250, 2500, 2500, 5000, 10000, 1822, 3615.6)),
    ("mi300x", "MI300X", (5.3, 192, None, None, 1307, 1307, 2615, None, 668.4, None)),
)

# Where a row's figures are published that are neither from _STAS nor, of those measured, from _MAMF.
_SOURCES = {
    ("v100", "bandwidth fp16"): _V100,
    ("v100", "memory"): f"{_V100} (16 or 32 GB)",
    ("v100", "fp32"): _V100_FP32,
    ("a100", "fp32 tf32"): _GK_A100,
    ("l40s", "fp32 tf32"): _L40S_FP32,
    ("h100", "fp32 tf32"): _GK_H100,
    ("h100", "bf16 fp16"): _HALF_SPARSE,
    ("h100-pcie", "fp32"): _PCIE_FP32,
    ("h100-pcie", "tf32"): f"{_PCIE_FP32} (756 with sparsity)",
    ("h800", "bandwidth"): _FLASHMLA,
    ("h800", "fp32 tf32"): f"{_GK_H100}; the H800 differs in NVLink and FP64 only",
    ("h800", "bf16 fp16"): f"{_HALF_SPARSE}; {_FLASHMLA}",
    ("h800", "measured_bf16 measured_fp8"): f"{_MAMF}, of the H100 SXM",
    ("h200", "fp32 tf32"): f"{_GK_H100}; the H200 is the same chip",
    ("h200", "bf16 fp16"): _HALF_SPARSE,
    ("h200", "measured_bf16"): f"{_MAMF} (the H200 is the same as the H100)",
    ("b200", "memory"): f"{_STAS} (180 to 192 GB)",
    ("b200", "fp32 tf32"): _GK_B200,
    ("gb200", "fp32 tf32 fp4"): _GK_B200,
}
_REMARKS = {"mi300x": "its FP8 unit takes the FNUZ forms (E4M3 up to 240), not OCP's"}


def _device(name: str, title: str, row: tuple[float | None, ...]) -> Device:
    sources = {
        field: text for (who, fields), text in _SOURCES.items() if who == name for field in fields.split()
    }
    figures = {}
    for field, value in zip(_FIELDS, row, strict=True):
        if value is not None:
            unit = {"bandwidth": "B/s", "memory": "B"}.get(field, "FLOP/s")
            source = sources.get(field, _MAMF if field.startswith("measured") else _STAS)
            figures[field] = Figure(value * (1e9 if field == "memory" else 1e12), source, unit)
    return Device(name, title, **figures, remark=_REMARKS.get(name, ""))


def _tera(figure: Figure | None) -> str:
    return "-" if figure is None else number_text(figure.value / 1e12, 6)


#: Name -> device. Add your own with ``DEVICES["mine"] = Device(...)``.
DEVICES: Registry[Device] = Registry(
    "device",
    Device,
    (_device(*row) for row in _ROWS),
    {
        "title": str,
        "BF16 TFLOP/s>": lambda device: _tera(device.bf16),
        "FP8>": lambda device: _tera(device.fp8),
        "FP4>": lambda device: _tera(device.fp4),
        "bandwidth>": lambda device: tera_text(device.bandwidth.value, "B/s"),
        "memory>": lambda device: amount_text(device.memory.value, 1e9, "GB") if device.memory else "-",
    },
    ("Rates are dense peaks in TFLOP/s, with FP32 sums.",),
)

#: Find a device by name, the nearest suggested; a `Device` is returned as it is.
get_device = DEVICES.find
