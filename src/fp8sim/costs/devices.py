"""What a device can do at best: dense multiply rates, memory bandwidth and capacity, each with its source."""

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

OperandClass: TypeAlias = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "fp4", "int8"]

#: operand class -> where its operands go on a device without a unit for them, first choice first.
#: Each target holds every value of the class, but for BF16 in FP16. INT8 goes nowhere else: most devices have
#: a unit for it, with or without a figure here.
OPERAND_CLASSES: dict[str, tuple[OperandClass, ...]] = {
    "fp32": ("fp32",),
    "tf32": ("tf32", "fp32"),
    "bf16": ("bf16", "fp16"),
    "fp16": ("fp16", "bf16"),
    "fp8": ("fp8", "bf16", "fp16"),
    "fp4": ("fp4", "fp8", "bf16", "fp16"),
    "int8": ("int8",),
}


class Rate(NamedTuple):
    """The rate at which a device multiplies operands of a class."""

    operand_class: OperandClass  #: the unit taken, perhaps a wider one than asked for
    flops: float  #: dense FLOP/s
    source: str
    note: str  #: empty where the device has a unit for the class


@dataclass(frozen=True)
class Device:
    """A GPU or another accelerator: peak dense rates by operand class, memory bandwidth and capacity.

    Parameters
    ----------
    name, title : str
        What code and tables call it.
    bandwidth : Figure
        Memory bandwidth in B/s.
    memory : Figure, optional
        Memory capacity in bytes.
    fp32, tf32, bf16, fp16, fp8, fp4, int8 : Figure, optional
        Peak dense FLOP/s with operands of that class and FP32 sums (INT32 of INT8); None where there is
        no such unit, or no figure at hand. Vendors often print the rate with 2:4 sparsity, twice this.
    measured_bf16, measured_fp8 : Figure, optional
        The highest FLOP/s that anyone measured over many GEMM shapes (MAMF, the maximum achievable
        matmul FLOPS), on that device or on the one that the source names.
    block_scales : bool
        Whether its units multiply by the scales of blocks of 16 or 32 themselves (MX formats, NVFP4).
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
    int8: Figure | None = None
    measured_bf16: Figure | None = None
    measured_fp8: Figure | None = None
    block_scales: bool = False
    remark: str = ""

    def __post_init__(self) -> None:
        """Check the fields."""
        checks.fields(self)
        for name, figure in vars(self).items():
            if isinstance(figure, Figure) and not figure.value >= 1:
                raise ValueError(f"{name} must be a rate or a size of 1 or more, got {figure.value!r}")

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

# Vendors' own documents; where the document itself could not be read, the page that quotes it is named too.
_STAS = "stas00/ml-engineering, compute/accelerator/README.md"
_KLOCKWOOD = "glennklockwood.com/garden/processors"
_MAMF = f"{_STAS}, MAMF"
_BENCHMARKING = "NVIDIA/dgxc-benchmarking README.md (commit 841f546)"
_AMPERE = "NVIDIA Ampere Architecture In-Depth, developer.nvidia.com (read in a copy of its text)"
_ROCM = "AMD ROCm documentation, MI300 series microarchitecture (read in a copy of its text)"
_H100 = f"NVIDIA H100 Tensor Core GPU Architecture white paper v1.04, read through {_KLOCKWOOD}/h100"
_BLACKWELL = f"NVIDIA Blackwell Architecture Technical Brief, read through {_KLOCKWOOD}/B200"
_A100_SHEET = f"NVIDIA A100 data sheet, read through {_KLOCKWOOD}/A100"
_L40S_SHEET = "NVIDIA L40S data sheet, read through mullet.se; it does not say with which sums"
_H100_PAGE = f"NVIDIA H100 specifications, nvidia.com/en-us/data-center/h100, read through {_STAS}"
_H100_PCIE = "NVIDIA H100 data sheet, read through archive-lib.hpctech.co.jp"
_H200_PAGE = f"NVIDIA H200 specifications, nvidia.com/en-us/data-center/h200, read through {_STAS}"
_H800_SHEET = "NVIDIA H800 data sheet, read through astroC86/gpu-datasheet GPUDatasheet/README.md"
_FLASHMLA = "deepseek-ai/FlashMLA issue #75 (3.35 TB/s, 990 TFLOPS)"
_B300_SHEET = f"NVIDIA DGX B300 data sheet, read through {_STAS}"
_GB300_PAGE = f"NVIDIA GB300 NVL72 specifications, read through {_STAS}"
_MIG_TABLE = f"NVIDIA multi-instance GPU page, read through {_STAS}"
_H20_SHEET = "NVIDIA H20 data sheet, read through zangshuxian.com and willitrunai.com"
_RTX4090 = "NVIDIA Ada GPU Architecture white paper, appendix A, read through hmc-tech.com and waredb.com"
_RTX5090 = "NVIDIA GeForce RTX 5090 page, read through spheron.network"
_MI325X = f"AMD Instinct MI325X specifications, read through {_STAS} and awesomeagents.ai"
_MI355X = f"AMD Instinct MI355X specifications, read through {_STAS}"
_GAUDI3 = "Intel Gaudi 3 AI Accelerator white paper, 1835 TFLOPS at 1750 MHz"
_TPU = "Google Cloud documentation, docs.cloud.google.com/tpu/docs"
_TRAINIUM2 = "AWS Neuron documentation, Trainium2 architecture (read in a copy of its text)"
_HALF = "half of the 1979 that it prints with sparsity"

_GIB = 1.073741824  # GB
# Name, title, bandwidth in TB/s, memory in GB, then TFLOP/s: of each operand class, and the highest measured.
_FIELDS = ("bandwidth", "memory", *list(OPERAND_CLASSES)[:6], "measured_bf16", "measured_fp8")
_ROWS: tuple[tuple[str, str, tuple[float | None, ...]], ...] = (
    ("v100", "V100 SXM2", (0.9, 32, 15.7, None, None, 125, None, None, None, None)),
    ("a100", "A100 SXM", (2.039, 80, 19.5, 156, 312, 312, None, None, 271.2, None)),
    ("l40s", "L40S", (0.864, 48, 91.6, 183, 362.05, 362.05, 733, None, None, None)),
    ("h100", "H100 SXM", (3.35, 80, 66.9, 494.7, 989.5, 989.5, 1979, None, 794.5, 1402.6)),
    ("h100-pcie", "H100 PCIe", (2.0, 80, 51, 378, 756, 756, 1513, None, None, None)),
    ("h800", "H800 SXM", (3.35, 80, 66.9, 494.7, 989.5, 989.5, 1979, None, 794.5, 1402.6)),
    ("h200", "H200", (4.8, 141, 66.9, 494.7, 989.5, 989.5, 1979, None, 794.5, 1453.4)),
    ("b200", "B200", (8.0, 180, 80, 1100, 2250, 2250, 4500, 9000, 1745, 3432.5)),
    ("gb200", "GB200 (one GPU)", (8.0, 186, 90, 1250, 2500, 2500, 5000, 10000, 1822, 3615.6)),
    ("mi300x", "MI300X", (5.3, 192, None, None, 1307.4, 1307.4, 2614.9, None, 668.4, None)),
    ("b300", "B300", (8.0, 288, 80, 1125, 2250, 2250, 4500, 12600, 1769, 3353.3)),
    ("gb300", "GB300 (one GPU)", (8.0, 288, 80, 1250, 2500, 2500, 5000, 15000, None, None)),
    ("h20", "H20", (4.0, 96, 44, 74, 148, 148, 296, None, None, None)),
    ("rtx4090", "RTX 4090", (1.008, 24, 82.58, 82.58, 165.2, 165.2, 330.3, None, None, None)),
    ("rtx5090", "RTX 5090", (1.792, 32, 105.2, None, 209.6, 209.6, 419.2, 1676, None, None)),
    ("mi325x", "MI325X", (6.0, 256, 163.4, 653.7, 1307.4, 1307.4, 2614.9, None, 784.9, None)),
    ("mi355x", "MI355X", (8.0, 288, 157.3, None, 2500, 2500, 5000, 10100, 1565, None)),
    ("gaudi3", "Gaudi 3", (3.7, 128, None, None, 1835, None, 1835, None, 1243, 1289.5)),
    ("tpu-v5p", "TPU v5p", (2.765, 95 * _GIB, None, None, 459, None, None, None, None, None)),
    ("tpu-v6e", "TPU v6e Trillium", (1.64, 32 * _GIB, None, None, 918, None, None, None, None, None)),
    ("ironwood", "TPU7x Ironwood", (7.37, 192 * _GIB, None, None, 2307, None, 4614, None, None, None)),
    ("trainium2", "Trainium2", (2.9, 96 * _GIB, 181, 667, 667, 667, 1299, None, None, None)),
)

# Where a row's figures are published; of those measured, it is _MAMF unless it says otherwise.
_SOURCES = {
    ("v100", "bandwidth fp32 fp16"): _AMPERE,
    ("v100", "memory"): f"{_AMPERE}: 16 or 32 GB",
    ("a100", "bandwidth memory"): _A100_SHEET,
    ("a100", "fp32 tf32 bf16 fp16"): _AMPERE,
    ("l40s", "bandwidth memory fp32 tf32 bf16 fp16 fp8"): _L40S_SHEET,
    ("h100", "bandwidth memory"): _H100_PAGE,
    ("h100", "fp32 tf32"): _H100,
    ("h100", "bf16 fp16"): f"{_H100_PAGE}: {_HALF}; {_BENCHMARKING} has 989",
    ("h100", "fp8"): _BENCHMARKING,
    ("h100-pcie", "bandwidth memory bf16 fp16 fp8"): _H100_PAGE,
    ("h100-pcie", "fp32"): _H100_PCIE,
    ("h100-pcie", "tf32"): f"{_H100_PCIE}: half of the 756 that it prints with sparsity",
    ("h800", "bandwidth"): f"{_H800_SHEET}; {_FLASHMLA}",
    ("h800", "memory"): _H800_SHEET,
    ("h800", "fp32 tf32"): f"{_H100}; the H800 differs in NVLink and FP64 only",
    ("h800", "bf16 fp16"): f"{_H800_SHEET}: {_HALF}; {_FLASHMLA}",
    ("h800", "fp8"): f"{_H800_SHEET}: half of the 3958 that it prints with sparsity",
    ("h800", "measured_bf16 measured_fp8"): f"{_MAMF}, of the H100 SXM",
    ("h200", "bandwidth memory fp8"): _H200_PAGE,
    ("h200", "fp32 tf32"): f"{_H100}; the H200 is the same chip",
    ("h200", "bf16 fp16"): f"{_H200_PAGE}: {_HALF}",
    ("h200", "measured_bf16"): f"{_MAMF} (the H200 is the same as the H100)",
    ("b200", "bandwidth"): f"{_BLACKWELL}; {_BENCHMARKING} has 7.7 TB/s",
    ("b200", "memory bf16 fp16 fp8 fp4"): _BENCHMARKING,
    ("b200", "fp32 tf32"): _BLACKWELL,
    ("gb200", "bandwidth"): _BENCHMARKING,
    ("gb200", "memory"): _MIG_TABLE,
    ("gb200", "fp32 tf32"): _BLACKWELL,
    ("gb200", "bf16 fp16"): f"{_BLACKWELL}; {_BENCHMARKING} has 2450",
    ("gb200", "fp8"): f"{_BLACKWELL}; {_BENCHMARKING} has 4900",
    ("gb200", "fp4"): f"{_BLACKWELL}; {_BENCHMARKING} has 9800",
    ("mi300x", "bandwidth bf16 fp16 fp8"): _ROCM,
    ("mi300x", "memory"): f"AMD Instinct MI300X specifications, read through {_STAS}",
    ("b300", "bandwidth memory fp32 tf32 bf16 fp16 fp8 fp4"): _B300_SHEET,
    ("gb300", "bandwidth fp32 tf32 bf16 fp16 fp8 fp4"): _GB300_PAGE,
    ("gb300", "memory"): f"{_GB300_PAGE} (of the B300, which it has)",
    ("h20", "bandwidth memory fp32 tf32 bf16 fp16"): _H20_SHEET,
    ("h20", "fp8"): f"{_H20_SHEET}: twice BF16, as every Hopper has",
    ("rtx4090", "bandwidth memory fp32 tf32 bf16 fp16 fp8"): f"{_RTX4090}: with FP32 sums",
    ("rtx5090", "bandwidth memory fp32"): _RTX5090,
    ("rtx5090", "fp4"): f"{_RTX5090}: half of the 3352 that it prints with sparsity",
    ("rtx5090", "fp8"): f"{_RTX5090}: a quarter of 1676.8, with sparsity and FP16 sums",
    ("rtx5090", "bf16 fp16"): f"{_RTX5090}: a quarter of 838.4, with sparsity and FP16 sums",
    ("mi325x", "bandwidth memory fp32 tf32 bf16 fp16 fp8"): _MI325X,
    ("mi355x", "bandwidth memory fp32 bf16 fp16 fp8 fp4"): _MI355X,
    ("gaudi3", "bandwidth memory"): f"Intel Gaudi 3 AI Accelerator white paper, read through {_STAS}",
    ("gaudi3", "bf16 fp8"): f"{_GAUDI3}; {_STAS} has 1677, at the 1600 MHz that it runs at",
    ("tpu-v5p", "bandwidth memory"): f"{_TPU}/v5p",
    ("tpu-v5p", "bf16"): f"{_TPU}/tpu7x, which has the same for FP8",
    ("tpu-v6e", "bandwidth memory"): f"{_TPU}/v6e; a later page has 1.6 TB/s",
    ("tpu-v6e", "bf16"): f"{_TPU}/tpu7x, which has the same for FP8",
    ("ironwood", "bandwidth"): f"{_TPU}/tpu7x, read through {_STAS}",
    ("ironwood", "memory bf16 fp8"): f"{_TPU}/tpu7x",
    ("trainium2", "bandwidth memory fp32 tf32 bf16 fp16 fp8"): _TRAINIUM2,
}
# _BLACKWELL: "micro-tensor scaling"; CDNA4 and RTX Blackwell take MX formats too; Hopper and CDNA3 do not
_BLOCK_SCALES = ("b200", "gb200", "b300", "gb300", "rtx5090", "mi355x")
# The dense rate of INT8 in TOP/s, and where it is published.
_INT8 = {
    "a100": (624, f"{_A100_SHEET}; {_STAS}"),
    "h100": (1978.9, _H100),
    "h100-pcie": (1513, f"{_H100_PCIE}: half of the 3026 that it prints with sparsity"),
    "h800": (1978.9, f"{_H100}; the H800 differs in NVLink and FP64 only"),
    "h200": (1978.9, f"{_H100}; the H200 is the same chip"),
    "h20": (296, _H20_SHEET),
    "rtx4090": (660.6, _RTX4090),
    "mi355x": (5000, _MI355X),
    "tpu-v5p": (918, f"{_TPU}/v5p, read through {_STAS}"),
    "tpu-v6e": (1836, f"{_TPU}/v6e"),
}
_FNUZ = "its FP8 unit takes the FNUZ forms (E4M3 up to 240), not OCP's"
_REMARKS = {
    "mi300x": _FNUZ,
    "mi325x": _FNUZ,
    "gaudi3": "its FP8 runs at the rate of its BF16: it saves bytes, and no compute time",
    "trainium2": "its FP8 unit takes cFP8, exponents of a bias that is set",
}


def _device(name: str, title: str, row: tuple[float | None, ...]) -> Device:
    sources = {
        field: text for (who, fields), text in _SOURCES.items() if who == name for field in fields.split()
    }
    figures = {}
    for field, value in zip(_FIELDS, row, strict=True):
        if value is not None:
            unit = {"bandwidth": "B/s", "memory": "B"}.get(field, "FLOP/s")
            source = sources.get(field, _MAMF) if field.startswith("measured") else sources[field]
            figures[field] = Figure(value * (1e9 if field == "memory" else 1e12), source, unit)
    if name in _INT8:
        figures["int8"] = Figure(_INT8[name][0] * 1e12, _INT8[name][1], "FLOP/s")
    return Device(name, title, **figures, block_scales=name in _BLOCK_SCALES, remark=_REMARKS.get(name, ""))


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
