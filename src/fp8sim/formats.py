"""What a floating-point format is: one frozen description, from which every limit derives."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias, final

import ml_dtypes
import numpy as np

from fp8sim._support import checks
from fp8sim._support.registry import Registry
from fp8sim._support.text import shown

__all__ = ["FORMATS", "INT8", "FloatFormat", "FormatLike", "IntegerFormat", "Specials", "get_format"]

Specials: TypeAlias = Literal["ieee", "nan-only", "fnuz", "none"]


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format of at most 32 bits.

    Frozen and hashable, so a format can be a dictionary key, and ``dataclasses.replace`` makes a
    what-if of it. Every value of a format must be a float32 value, since `decode` returns those.

    Parameters
    ----------
    name : str
        What tables call it.
    exponent_bits, mantissa_bits : int
        Stored bits of each field (1 to 8, and 0 to 23); the leading 1 of a normal number is not
        stored.
    bias : int, optional
        What is subtracted from the stored exponent; ``2**(exponent_bits - 1) - 1`` unless given.
    specials : {"ieee", "nan-only", "fnuz", "none"}
        What the top codes mean. ``ieee``: the top exponent is infinity and NaN. ``nan-only``: only
        all ones is NaN, one per sign, and there is no infinity (OCP E4M3). ``fnuz``: the code of
        -0 is the only NaN. ``none``: every code is finite.
    subnormals : bool
        Without them the numbers below `smallest_normal` are flushed: a result that would be
        subnormal becomes zero of its sign.
    signed : bool
        Whether there is a sign bit.
    zero : bool
        Whether exponent code 0 means zero and subnormals; E8M0 has neither, and spends the code on
        one more power of two.
    source : str
        Where the encoding is defined.

    Raises
    ------
    TypeError, ValueError
        If a field is no whole number or out of range, or if a value would not fit float32.

    Examples
    --------
    >>> import dataclasses, fp8sim
    >>> e4m3 = fp8sim.get_format("e4m3")
    >>> e4m3.max, e4m3.smallest_normal, e4m3.smallest_subnormal, e4m3.eps, e4m3.bits
    (448.0, 0.015625, 0.001953125, 0.125, 8)
    >>> dataclasses.replace(e4m3, name="e4m3-ieee", specials="ieee").max
    240.0
    >>> fp8sim.FloatFormat("e5m3", exponent_bits=5, mantissa_bits=3).max
    61440.0
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int | None = None
    specials: Specials = "ieee"
    subnormals: bool = True
    signed: bool = True
    zero: bool = True
    source: str = field(default="user", compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check the fields and fill in the bias."""
        checks.fields(self, exponent_bits=(1, 8), mantissa_bits=(0, 23), bias=(-512, 512))
        if self.bias is None:
            object.__setattr__(self, "bias", 2 ** (self.exponent_bits - 1) - 1)
        self._check_combination()

    def _check_combination(self) -> None:
        if self.specials == "fnuz" and not (self.signed and self.zero):
            raise ValueError(f"{self.name}: 'fnuz' reuses the code of -0, so it needs sign and zero")
        if not self.zero and self.subnormals:
            raise ValueError(f"{self.name}: a format without zero has no subnormals: subnormals=False")
        if self.emax < self.emin:
            raise ValueError(f"{self.name}: no exponent is left for a normal number")
        # Without subnormals too the smallest normal numbers are this far apart.
        if self.max >= 2.0**128 or self.emin - self.mantissa_bits < -149:
            raise ValueError(
                f"{self.name}: values from {self.smallest_subnormal:g} to {self.max:g} do not all fit "
                "float32 (steps of 2**-149, up to 2**128), which decode() returns; choose another bias"
            )

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @property
    def bits(self) -> int:
        """Bits of one element."""
        return int(self.signed) + self.exponent_bits + self.mantissa_bits

    @property
    def has_inf(self) -> bool:
        """Whether some code is infinity."""
        return self.specials == "ieee"

    @property
    def has_nan(self) -> bool:
        """Whether some code is NaN."""
        # With no mantissa bits the whole top exponent of an IEEE-like format is infinity.
        return self.specials != "none" and not (self.specials == "ieee" and self.mantissa_bits == 0)

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 has a code, in formats with a sign and a zero."""
        return self.specials != "fnuz"

    @property
    def twos_complement(self) -> bool:
        """Whether the code of -x is minus that of x, as in an `IntegerFormat`; else it has the sign bit."""
        return False

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal number."""
        assert self.bias is not None
        return int(self.zero) - self.bias

    @property
    def emax(self) -> int:
        """Exponent of the largest finite number."""
        assert self.bias is not None
        top_is_special = self.specials == "ieee" or (self.specials == "nan-only" and self.mantissa_bits == 0)
        return int((1 << self.exponent_bits) - 1 - int(top_is_special) - self.bias)

    @cached_property
    def max(self) -> float:
        """Largest finite value."""
        ulps_below_2 = 2 if self.specials == "nan-only" and self.mantissa_bits else 1
        return (2.0 - ulps_below_2 * 2.0**-self.mantissa_bits) * 2.0**self.emax

    @property
    def smallest_normal(self) -> float:
        """Smallest positive normal value."""
        return float(2.0**self.emin)

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive value; `smallest_normal` where there are no subnormals."""
        return float(2.0 ** (self.emin - self.mantissa_bits * self.subnormals))

    @property
    def eps(self) -> float:
        """Distance from 1 to the next larger value, ``2**-mantissa_bits``."""
        return 2.0**-self.mantissa_bits

    @property
    def infinity_code(self) -> int:
        """Code of +infinity in an IEEE-like format: the top exponent, no mantissa."""
        return int((1 << self.exponent_bits) - 1) << self.mantissa_bits

    @property
    def nan_code(self) -> int:
        """Code of the NaN that a conversion gives, its sign bit 0 (the quiet NaN of IEEE 754)."""
        if self.specials == "fnuz":
            return 1 << (self.bits - 1)
        if self.specials == "ieee":
            return self.infinity_code | (1 << self.mantissa_bits >> 1)
        return (1 << (self.exponent_bits + self.mantissa_bits)) - 1

    @property
    def top_code(self) -> int:
        """Code of the largest finite value; the codes of one sign count the values upwards."""
        steps = int(self.max * 2.0 ** (self.mantissa_bits - self.emax))
        return ((self.emax - self.emin - (not self.zero)) << self.mantissa_bits) + steps

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the codes: numpy's or ml_dtypes' own where there is one, else an unsigned int."""
        native = _NATIVE.get(self._layout)
        return np.dtype(native) if native is not None else self.code_dtype

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """The unsigned integer type that holds the bits of one code."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16 if self.bits <= 16 else np.uint32)

    @cached_property
    def _layout(self) -> tuple[object, ...]:
        """Everything that decides what a code means: all fields but the name and the source."""
        _, *fields, _ = dataclasses.astuple(self)
        return tuple(fields)


@final
class IntegerFormat(FloatFormat):
    """Integers of both signs as far from zero, in two's complement: to arithmetic, a floating-point format.

    With one exponent bit the subnormals and the only binade have one step, so that rounding, overflow, scale
    rules and kernels serve integers as they are. Only codes differ, and there is no -0. The code of the most
    negative integer stands for that, but no cast gives it: 8 bits hold -127 to 127.

    Examples
    --------
    >>> INT8.max, INT8.smallest_subnormal, INT8.emax, INT8.bits, INT8.dtype
    (127.0, 1.0, 6, 8, dtype('int8'))
    """

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        kind = self.exponent_bits, self.specials, self.subnormals, self.signed, self.zero
        if kind != (1, "none", True, True, True):
            raise ValueError(f"{self.name}: integers have one exponent bit, a sign, zero and no specials")

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 has a code: no."""
        return False

    @property
    def twos_complement(self) -> bool:
        """Whether the code of -x is minus that of x: yes."""
        return True

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the codes: numpy's signed integers where they have as many bits, else an unsigned int."""
        return np.dtype(f"i{self.bits // 8}") if self.bits in (8, 16) else self.code_dtype


FormatLike: TypeAlias = "str | FloatFormat | np.dtype[Any] | type[Any]"

_OFP8 = "OCP 8-bit Floating Point Specification (OFP8) v1.0; Micikevicius et al., arXiv 2209.05433"
_FNUZ = "Noune et al., arXiv 2206.02915"
_MX = "OCP Microscaling Formats (MX) Specification v1.0"
_E5M6 = "DeepSeek-V3 report 3.3.3 names it; deepseek-ai/TileKernels has its encoding: the top 12 bits of FP16"

# In the order of tables, each with the type of its codes where numpy or ml_dtypes have one.
_FORMATS: list[tuple[FloatFormat, Any]] = [
    (FloatFormat("fp32", 8, 23, source="IEEE 754 binary32"), np.float32),
    (FloatFormat("tf32", 8, 10, source="NVIDIA A100 architecture white paper (19 bits)"), None),
    (FloatFormat("bf16", 8, 7, source="Google bfloat16"), ml_dtypes.bfloat16),
    (FloatFormat("fp16", 5, 10, source="IEEE 754 binary16"), np.float16),
    (FloatFormat("e4m3", 4, 3, specials="nan-only", source=_OFP8), ml_dtypes.float8_e4m3fn),
    (FloatFormat("e5m2", 5, 2, source=_OFP8), ml_dtypes.float8_e5m2),
    (FloatFormat("e4m3fnuz", 4, 3, bias=8, specials="fnuz", source=_FNUZ), ml_dtypes.float8_e4m3fnuz),
    (FloatFormat("e5m2fnuz", 5, 2, bias=16, specials="fnuz", source=_FNUZ), ml_dtypes.float8_e5m2fnuz),
    (FloatFormat("e3m4", 3, 4, source="ml_dtypes float8_e3m4 (IEEE-like)"), ml_dtypes.float8_e3m4),
    (FloatFormat("e5m6", 5, 6, source=_E5M6), None),
    (FloatFormat("e2m3", 2, 3, specials="none", source=_MX), ml_dtypes.float6_e2m3fn),
    (FloatFormat("e3m2", 3, 2, specials="none", source=_MX), ml_dtypes.float6_e3m2fn),
    (FloatFormat("e2m1", 2, 1, specials="none", source=_MX), ml_dtypes.float4_e2m1fn),
    (
        FloatFormat(
            "e8m0", 8, 0, specials="nan-only", subnormals=False, signed=False, zero=False, source=_MX
        ),
        ml_dtypes.float8_e8m0fnu,
    ),
    (FloatFormat("e4m3-ieee", 4, 3, source="ml_dtypes float8_e4m3 (IEEE-like)"), ml_dtypes.float8_e4m3),
    (
        FloatFormat("e4m3b11fnuz", 4, 3, bias=11, specials="fnuz", source="ml_dtypes float8_e4m3b11fnuz"),
        ml_dtypes.float8_e4m3b11fnuz,
    ),
]

#: The integers -127 to 127: ``int8`` wherever a format of elements is taken, and in no table of
#: floating-point formats.
INT8 = IntegerFormat(
    "int8", 1, 6, bias=-5, specials="none", source="symmetric INT8: TensorRT, PyTorch's symmetric observers"
)

_NATIVE: dict[tuple[object, ...], Any] = {fmt._layout: dtype for fmt, dtype in _FORMATS if dtype}
_BY_DTYPE: dict[np.dtype[Any], FloatFormat] = {np.dtype(dtype): fmt for fmt, dtype in _FORMATS if dtype}
_BY_DTYPE[INT8.dtype] = INT8

#: Name -> format. Add your own with ``FORMATS["mine"] = FloatFormat("mine", ...)``.
FORMATS: Registry[FloatFormat] = Registry(
    "format",
    FloatFormat,
    (fmt for fmt, _ in _FORMATS),
    {
        "bits>": lambda fmt: fmt.bits,
        "E>": lambda fmt: fmt.exponent_bits,
        "M>": lambda fmt: fmt.mantissa_bits,
        "bias>": lambda fmt: fmt.bias,
        "max>": lambda fmt: f"{fmt.max:.6g}",
        "min normal>": lambda fmt: f"{fmt.smallest_normal:.6g}",
        "min subnormal>": lambda fmt: f"{fmt.smallest_subnormal:.6g}" if fmt.subnormals else "-",
        "eps>": lambda fmt: f"{fmt.eps:.6g}",
        "inf": lambda fmt: "yes" if fmt.has_inf else "-",
        "NaN": lambda fmt: "yes" if fmt.has_nan else "-",
        "dtype of codes": lambda fmt: fmt.dtype,
    },
    ("E, M: exponent and mantissa bits; min: smallest positive; eps: from 1 to the next value",),
)

#: What safetensors calls formats (its format.md, and `Dtype` of its Rust code).
_SAFETENSORS = {
    "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "e4m3", "F8_E5M2": "e5m2", "F8_E8M0": "e8m0",
    "F8_E4M3FNUZ": "e4m3fnuz", "F8_E5M2FNUZ": "e5m2fnuz", "F6_E2M3": "e2m3", "F6_E3M2": "e3m2", "F4": "e2m1",
    "I8": "int8",
}  # fmt: skip
#: What ONNX's TensorProto calls those that are not a dtype's name without underscores.
_ONNX = {
    "FLOAT": "fp32",
    "FLOAT8E8M0": "e8m0",
    "FLOAT4E2M1": "e2m1",
    "FLOAT6E2M3": "e2m3",
    "FLOAT6E3M2": "e3m2",
}


def _aliases() -> dict[str, str]:
    """Return every text by which torch, ml_dtypes, ONNX and safetensors call a format, in lower case."""
    names = {str(dtype): fmt.name for dtype, fmt in _BY_DTYPE.items()}
    joined = {name.replace("_", ""): fmt for name, fmt in names.items() if fmt != "e4m3-ieee"}
    short = {name.partition("_")[2]: fmt for name, fmt in names.items() if "_" in name}
    texts = {**short, **joined, **_ONNX, **_SAFETENSORS, **names}
    return {text.lower(): fmt for text, fmt in texts.items()}


_ALIASES = _aliases()


def get_format(fmt: FormatLike) -> FloatFormat:
    """Find a format by name or by dtype.

    Parameters
    ----------
    fmt : str, dtype or FloatFormat
        A name in `FORMATS`; a numpy, ml_dtypes or torch dtype; what torch, ml_dtypes, ONNX and
        safetensors call it (``"float8_e4m3fn"``, ``"torch.float8_e5m2"``, ``"FLOAT8E4M3FN"``,
        ``"F8_E4M3"``); or a `FloatFormat`, which is returned. ``int8`` is an `IntegerFormat`.

    Returns
    -------
    FloatFormat
        The format.

    Raises
    ------
    ValueError
        If the name or the dtype is not known; the message suggests the nearest name.

    Examples
    --------
    >>> import ml_dtypes, numpy as np, fp8sim
    >>> fp8sim.get_format("e5m2").max
    57344.0
    >>> fp8sim.get_format(ml_dtypes.float8_e4m3fn).name, fp8sim.get_format(np.float16).name
    ('e4m3', 'fp16')
    >>> [fp8sim.get_format(text).name for text in ("float8_e4m3fn", "torch.float8_e5m2", "F8_E8M0")]
    ['e4m3', 'e5m2', 'e8m0']
    """
    if type(fmt).__module__ == "torch":  # a dtype, which prints as its name
        fmt = str(fmt)
    if isinstance(fmt, str):
        text = fmt.lower().removeprefix("torch.").removeprefix("ml_dtypes.")
        name = fmt if {fmt, fmt.lower()} & FORMATS.keys() else _ALIASES.get(text, fmt)
        return INT8 if name == INT8.name and name not in FORMATS else FORMATS.find(name)
    if isinstance(fmt, FloatFormat):
        return fmt
    try:
        return _BY_DTYPE[np.dtype(fmt)]
    except (KeyError, TypeError, ValueError):
        dtypes = ", ".join(str(d) for d in _BY_DTYPE)
        raise ValueError(f"no format for {shown(fmt)}; pass a name, or one of the dtypes {dtypes}") from None
