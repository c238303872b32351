"""A block under one scale: how the scale was picked, and what became of each element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from fp8sim import metrics
from fp8sim._support import checks
from fp8sim._support.typing import ArrayLike, FloatArray
from fp8sim.anatomy.block_page import block_page
from fp8sim.anatomy.neighbours import Bits, split_code
from fp8sim.anatomy.page import Page, Told
from fp8sim.casts import decode
from fp8sim.formats import FORMATS, FloatFormat, FormatLike
from fp8sim.quantization import Quantized, Scaling, quantize
from fp8sim.reference.rounding import round_exact

__all__ = ["BlockAnatomy", "Element", "explain_block"]

ElementFate: TypeAlias = Literal["exact", "rounded", "flushed", "saturated"]


class Element(NamedTuple):
    """One element of a block."""

    where: tuple[int, ...]  #: index in the array that was given
    given: float
    scaled: float  #: ``given / scale``, in the precision of the array
    code: int
    bits: Bits
    value: float  #: of the code
    restored: float  #: ``value * scale``, exactly
    fate: ElementFate

    @property
    def error(self) -> float:
        """``restored - given``."""
        return self.restored - self.given

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**self._asdict(), "where": list(self.where), "bits": str(self.bits), "error": self.error}


@dataclass(frozen=True, repr=False)
class BlockAnatomy(Told):
    """The elements that share one scale; made by `explain_block`.

    Attributes
    ----------
    fmt : FloatFormat
        Format of the elements.
    scaling : Scaling
        Who shares a scale, and how it is picked and stored.
    group : tuple of int
        Which group of the array this is, an index into its scales.
    amax : float
        Largest magnitude of the group.
    scale : float
        The multiplier: ``x ~ value * scale``.
    scale_code : int
        The scale as stored, in the scale format.
    scale_bits : Bits
        The same by field.
    tensor_scale : float
        The FP32 scale above E4M3 scales, included in `scale`; else 1.
    elements : tuple of Element
        Every element, in C order.
    """

    fmt: FloatFormat
    scaling: Scaling
    group: tuple[int, ...]
    amax: float
    scale: float
    scale_code: int
    scale_bits: Bits
    tensor_scale: float
    elements: tuple[Element, ...]

    @property
    def saturated(self) -> int:
        """How many elements were beyond the largest finite value after rounding."""
        return sum(element.fate == "saturated" for element in self.elements)

    @property
    def flushed(self) -> int:
        """How many elements other than zero became zero."""
        return sum(element.fate == "flushed" for element in self.elements)

    @property
    def relative_error(self) -> float:
        """Relative Frobenius error of the block."""
        return metrics.relative_error(self._restored(), self._given())

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantisation-noise ratio of the block in dB."""
        return metrics.sqnr_db(self._restored(), self._given())

    def _given(self) -> list[float]:
        return [element.given for element in self.elements]

    def _restored(self) -> list[float]:
        return [element.restored for element in self.elements]

    def page(self) -> Page:
        """Return the lines that it shows as."""
        return block_page(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "format": self.fmt.name,
            "granularity": self.scaling.granularity,
            "scale_format": self.scaling.scale_format,
            "scale_rule": self.scaling.scale_rule,
            "amax_floor": self.scaling.amax_floor,
            "group": list(self.group),
            "amax": self.amax,
            "scale": self.scale,
            "scale_code": self.scale_code,
            "scale_bits": str(self.scale_bits),
            "tensor_scale": self.tensor_scale,
            "saturated": self.saturated,
            "flushed": self.flushed,
            "relative_error": self.relative_error,
            "sqnr_db": self.sqnr_db,
            "elements": [element.to_dict() for element in self.elements],
        }


def explain_block(
    x: ArrayLike,
    fmt: FormatLike = "e4m3",
    granularity: str = "tensor",
    *,
    axis: int = -1,
    scale_format: str = "fp32",
    scale_rule: str | None = None,
    amax_floor: float = 0.0,
    group: tuple[int, ...] | None = None,
) -> BlockAnatomy:
    """Tell what becomes of a block: its amax, its scale, and each element bit by bit.

    Parameters
    ----------
    x : array_like
        The block, or an array of several.
    fmt, granularity, axis, scale_format, scale_rule, amax_floor
        As in `quantize`; by default all of `x` shares one FP32 scale.
    group : tuple of int, optional
        Which of several groups to tell of: an index into ``quantize(x, ...).scales``.

    Returns
    -------
    BlockAnatomy
        The scale and the elements. Prints as text of 80 columns, and shows as HTML in a notebook;
        ``to_dict()`` gives it as data.

    Raises
    ------
    TypeError
        If `x` is no array of real numbers.
    ValueError
        As `quantize` does; if `x` is empty, holds NaN or infinity, or has several groups and `group` is
        none of them.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.anatomy import explain_block
    >>> block = explain_block([0.001, -0.3, 1.0, 1000.0], "e4m3")
    >>> block.amax, block.scale, block.flushed, block.saturated
    (1000.0, 2.232142925262451, 1, 0)
    >>> [(str(e.bits), e.value, e.fate) for e in block.elements[:2]]
    [('0 0000 000', 0.0, 'flushed'), ('1 0100 001', -0.140625, 'rounded')]
    """
    array = checks.as_float(x)
    checks.finite(array, "x", "a block that holds one has no amax")
    q = quantize(
        array,
        fmt,
        granularity,
        axis=axis,
        scale_format=scale_format,
        scale_rule=scale_rule,
        amax_floor=amax_floor,
    )
    if array.size == 0:
        raise ValueError(f"x has shape {array.shape}: an empty block has nothing to explain")
    at = _pick_group(q, group)
    inside = tuple(slice(g * size, (g + 1) * size) for g, size in zip(at, q.sizes, strict=True))
    scaling = q.scaling
    scale_fmt = FORMATS["fp32" if scaling.granularity == "none" else scaling.scale_format]
    scale_code = int(q.scale_codes[at].reshape(1).view(scale_fmt.code_dtype)[0])
    return BlockAnatomy(
        fmt=q.fmt,
        scaling=scaling,
        group=at,
        amax=float(np.abs(array[inside]).max()),
        scale=float(q.scales[at]),
        scale_code=scale_code,
        scale_bits=split_code(scale_code, scale_fmt),
        tensor_scale=float(q.tensor_scale),
        elements=_elements(array, q, inside, q.scales[at]),
    )


def _pick_group(q: Quantized, group: tuple[int, ...] | None) -> tuple[int, ...]:
    shape = q.scales.shape
    if group is None:
        if q.scales.size > 1:
            raise ValueError(
                f"{q.scaling} makes {q.scales.size} groups of shape {q.sizes}; pass group=(...), an index "
                f"into scales of shape {shape}, such as group={(0,) * len(shape)}"
            )
        return (0,) * len(shape)
    at = tuple(group)
    if len(at) != len(shape) or not all(0 <= i < size for i, size in zip(at, shape, strict=True)):
        raise ValueError(f"group={group} is no index into scales of shape {shape}")
    return at


def _elements(
    x: FloatArray, q: Quantized, inside: tuple[slice, ...], scale: np.float32
) -> tuple[Element, ...]:
    given = x[inside]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        scaled = given / given.dtype.type(scale) if scale else np.copysign(0, given)
    codes = q.codes[inside]
    values = decode(codes, q.fmt).astype(np.float64)
    restored = values * np.float64(scale)
    bits = codes.view(q.fmt.code_dtype)
    beyond = np.abs(round_exact(scaled.astype(np.float64), q.fmt, "nearest-even")) > q.fmt.max
    elements = []
    for index in np.ndindex(given.shape):
        number, code = float(given[index]), int(bits[index])
        fate: ElementFate = "exact" if restored[index] == number else "rounded"
        if values[index] == 0 and number != 0:
            fate = "flushed"
        elif beyond[index]:
            fate = "saturated"
        elements.append(
            Element(
                where=tuple(part.start + i for part, i in zip(inside, index, strict=True)),
                given=number,
                scaled=float(scaled[index]),
                code=code,
                bits=split_code(code, q.fmt),
                value=float(values[index]),
                restored=float(restored[index]),
                fate=fate,
            )
        )
    return tuple(elements)
