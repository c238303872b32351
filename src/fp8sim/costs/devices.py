"""What a GPU can do at best: dense multiply rates, memory bandwidth and capacity, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from fp8sim._support import checks

__all__ = [
    "DEVICES",
    "OPERAND_CLASSES",
    "Device",
    "DeviceLike",
    "Figure",
    "OperandClass",
    "Rate",
    "get_device",
]

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


class Figure(NamedTuple):
    """A published number and where it is published."""

    value: float
    source: str


class Rate(NamedTuple):
    """The rate at which a device multiplies operands of a class."""

    operand_class: OperandClass  #: the unit used, perhaps a wider one than asked for
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

    def peak(self, operand_class: OperandClass) -> Figure | None:
        """Return the dense peak of a class in FLOP/s, None where the device has no unit for it.

        Examples
        --------
        >>> get_device("a100").peak("fp8") is None
        True
        """
        checks.one_of(operand_class, OPERAND_CLASSES, "operand class")
        figure: Figure | None = getattr(self, operand_class)
        return figure

    def rate(self, operand_class: OperandClass) -> Rate:
        """Return the rate at which operands of a class are multiplied, after conversion if need be.

        Parameters
        ----------
        operand_class : {"fp32", "tf32", "bf16", "fp16", "fp8", "fp4"}
            The class of the wider operand.

        Returns
        -------
        Rate
            A device without the unit converts the operands and uses the next wider one. NaN FLOP/s
            where no figure is at hand.

        Raises
        ------
        ValueError
            If the class is unknown.

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
        for used in OPERAND_CLASSES[operand_class]:
            figure = self.peak(used)
            if figure is None:
                continue
            converted = f"operands are converted and multiplied at its {used.upper()} rate"
            note = "" if used == operand_class else f"{self.title} has no {asked} unit: {converted}"
            if (used, operand_class) == ("fp16", "bf16"):
                note += ", as if every value fitted FP16"
            return Rate(used, figure.value, figure.source, note)
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
_LIKE_H100 = f"{_GK_H100}; the H800 differs in NVLink and FP64 only"
_HALF_SPARSE = f"{_STAS}; NVIDIA prints 1979 with sparsity, which is twice the dense rate"


def _tera(value: float, source: str = _STAS) -> Figure:
    return Figure(value * 1e12, source)


def _giga(value: float, source: str = _STAS) -> Figure:
    return Figure(value * 1e9, source)


#: Name -> device. Add your own with ``DEVICES["mine"] = Device(...)``.
DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device(
            "v100",
            "V100 SXM2",
            bandwidth=_tera(0.9, _V100),
            memory=_giga(32, f"{_V100} (16 or 32 GB)"),
            fp32=_tera(15.7, _V100_FP32),
            fp16=_tera(125, _V100),
        ),
        Device(
            "a100",
            "A100 SXM",
            bandwidth=_tera(2.039),
            memory=_giga(80),
            fp32=_tera(19.5, _GK_A100),
            tf32=_tera(156, _GK_A100),
            bf16=_tera(312),
            fp16=_tera(312),
            measured_bf16=_tera(271.2, _MAMF),
        ),
        Device(
            "l40s",
            "L40S",
            bandwidth=_tera(0.86),
            memory=_giga(48),
            fp32=_tera(91.6, _L40S_FP32),
            tf32=_tera(183, _L40S_FP32),
            bf16=_tera(362),
            fp16=_tera(362),
            fp8=_tera(733),
        ),
        Device(
            "h100",
            "H100 SXM",
            bandwidth=_tera(3.35),
            memory=_giga(80),
            fp32=_tera(66.9, _GK_H100),
            tf32=_tera(494.7, _GK_H100),
            bf16=_tera(989.5, _HALF_SPARSE),
            fp16=_tera(989.5, _HALF_SPARSE),
            fp8=_tera(1979),
            measured_bf16=_tera(794.5, _MAMF),
            measured_fp8=_tera(1402.6, _MAMF),
        ),
        Device(
            "h100-pcie",
            "H100 PCIe",
            bandwidth=_tera(2.0),
            memory=_giga(80),
            fp32=_tera(51, _PCIE_FP32),
            tf32=_tera(378, f"{_PCIE_FP32} (756 with sparsity)"),
            bf16=_tera(756),
            fp16=_tera(756),
            fp8=_tera(1513),
        ),
        Device(
            "h800",
            "H800 SXM",
            bandwidth=_tera(3.35, _FLASHMLA),
            memory=_giga(80),
            fp32=_tera(66.9, _LIKE_H100),
            tf32=_tera(494.7, _LIKE_H100),
            bf16=_tera(989.5, f"{_HALF_SPARSE}; {_FLASHMLA}"),
            fp16=_tera(989.5, f"{_HALF_SPARSE}; {_FLASHMLA}"),
            fp8=_tera(1979),
            measured_bf16=_tera(794.5, f"{_MAMF}, of the H100 SXM"),
            measured_fp8=_tera(1402.6, f"{_MAMF}, of the H100 SXM"),
        ),
        Device(
            "h200",
            "H200",
            bandwidth=_tera(4.8),
            memory=_giga(141),
            fp32=_tera(66.9, f"{_GK_H100}; the H200 is the same chip"),
            tf32=_tera(494.7, f"{_GK_H100}; the H200 is the same chip"),
            bf16=_tera(989.5, _HALF_SPARSE),
            fp16=_tera(989.5, _HALF_SPARSE),
            fp8=_tera(1979),
            measured_bf16=_tera(794.5, f"{_MAMF} (the H200 is the same as the H100)"),
            measured_fp8=_tera(1453.4, _MAMF),
        ),
        Device(
            "b200",
            "B200",
            bandwidth=_tera(8.0),
            memory=_giga(180, f"{_STAS} (180 to 192 GB)"),
            fp32=_tera(80, _GK_B200),
            tf32=_tera(1100, _GK_B200),
            bf16=_tera(2250),
            fp16=_tera(2250),
            fp8=_tera(4500),
            fp4=_tera(9000),
            measured_bf16=_tera(1745, _MAMF),
            measured_fp8=_tera(3432.5, _MAMF),
        ),
        Device(
            "gb200",
            "GB200 (one GPU)",
            bandwidth=_tera(8.0),
            fp32=_tera(90, _GK_B200),
            tf32=_tera(1250, _GK_B200),
            bf16=_tera(2500),
            fp16=_tera(2500),
            fp8=_tera(5000),
            fp4=_tera(10000, _GK_B200),
            measured_bf16=_tera(1822, _MAMF),
            measured_fp8=_tera(3615.6, _MAMF),
        ),
        Device(
            "mi300x",
            "MI300X",
            bandwidth=_tera(5.3),
            memory=_giga(192),
            bf16=_tera(1307),
            fp16=_tera(1307),
            fp8=_tera(2615),
            measured_bf16=_tera(668.4, _MAMF),
            remark="its FP8 unit takes the FNUZ forms (E4M3 up to 240), not OCP's",
        ),
    )
}


def get_device(device: DeviceLike) -> Device:
    """Find a device by name.

    Parameters
    ----------
    device : str or Device
        A name in `DEVICES`, or a `Device`, which is returned.

    Returns
    -------
    Device
        The device.

    Raises
    ------
    ValueError
        If the name is not known; the message suggests the nearest.

    Examples
    --------
    >>> get_device("b200").fp4.value / get_device("b200").fp8.value
    2.0
    """
    if isinstance(device, Device):
        return device
    return checks.lookup(device, DEVICES, "device")
