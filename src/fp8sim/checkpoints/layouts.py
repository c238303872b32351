"""How quantised weights are spelt in checkpoints: one row of a table a spelling, matched by names and shapes.

A weight is stored as codes, with companions beside it whose names follow from its own: ``q.weight`` has its scales
in ``q.weight_scale_inv`` (DeepSeek), ``q.weight_scale`` (compressed-tensors, ModelOpt), ``q.scale`` (DeepSeek-V4) or
``q.scale_weight`` (diffusion tools). Which elements share a scale follows from the two shapes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from fp8sim._support.text import printable
from fp8sim.checkpoints.config import Config
from fp8sim.checkpoints.headers import BITS, Stored
from fp8sim.formats import get_format

__all__ = [
    "LAYOUTS", "Layout", "Plan", "Refused", "find_plan", "is_companion", "may_be_codes", "neighbours", "owners",
    "plain_plan", "refusal",
]  # fmt: skip

Find: TypeAlias = "Callable[[str], Stored | None]"
Shape: TypeAlias = "tuple[int, ...]"
Block: TypeAlias = "tuple[int, int]"

_FP8 = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
_BYTES = ("U8", "I8", "F4")
_FLOATS = ("F32", "BF16", "F16")
_POWERS = ("F8_E8M0", "U8")  # E8M0, also where a file calls it bytes

#: Blocks that are looked for where no configuration names them.
_SQUARES: tuple[Block, ...] = ((128, 128), (64, 64), (32, 32))
_GROUPS: tuple[Block, ...] = tuple((1, 2**power) for power in range(4, 11))


@dataclass(frozen=True)
class Layout:
    """One spelling of a quantised weight.

    Names are given by how they end: a stored name is a stem and `codes`, and its companions are the same stem
    and theirs. A companion is one of a few spellings.
    """

    name: str
    codes: str  #: how the name of the codes ends; the weight's own name has `weight` in its place
    stored: tuple[str, ...]  #: types that codes are stored in
    scale: tuple[str, ...]  #: how the names of scales end
    scale_stored: tuple[str, ...]  #: types of scales: bytes are E8M0
    source: str  #: where it is described
    weight: str = ""
    element: str = ""  #: format of the elements where the stored type does not say it: ``e2m1``, ``int4``
    blocks: tuple[Block, ...] = ()  #: rows and columns that may share a scale, beside whole axes
    fixed: bool = False  #: whether `blocks` hold whatever a configuration says
    second: tuple[str, ...] = ()  #: how the name of a scale above the scales ends; one that must be there
    divides: bool = False  #: whether that one divides
    zero: tuple[str, ...] = ()  #: how the name of a zero point ends, if there is one
    other: tuple[str, ...] = ()  #: companions that are not multiplied: of activations, shapes, remarks
    marker: str = ""  #: a remark of ComfyUI that must be there, of which this is one reading
    high_first: bool = False  #: whether the first of two elements is in the upper half of a byte
    swizzled: bool = False  #: whether scales lie as cuBLAS reads them, in tiles of 128x4
    joined: bool = False  #: whether the last two axes are one, cut into groups


_ACTIVATIONS = ("input_scale", "weight_shape", "weight_g_idx")

#: In the order in which they are tried; those that no names or types fit are passed over.
LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "comfy-nvfp4", "weight", ("U8",), ("weight_scale",), ("F8_E4M3",), "comfy-kitchen, tensor/nvfp4.py",
        "weight", "e2m1", ((1, 16),), True, ("weight_scale_2",), marker="comfy_quant", high_first=True,
        swizzled=True, other=("input_scale",),
    ),
    Layout(
        "comfy-mxfp8", "weight", _FP8[:2], ("weight_scale",), _POWERS, "comfy-kitchen, tensor/mxfp8.py",
        "weight", "", ((1, 32),), True, marker="comfy_quant", swizzled=True, other=("input_scale",),
    ),
    Layout(
        "deepseek", "", _FP8, ("_scale_inv",), (*_FLOATS, *_POWERS),
        "deepseek-ai/DeepSeek-V3, README_WEIGHTS.md; V3.1 with E8M0", blocks=(*_SQUARES, (1, 32)),
    ),
    Layout(
        "deepseek-v4", "weight", _FP8, ("scale",), (*_FLOATS, *_POWERS),
        "deepseek-ai/DeepSeek-V4, inference/convert.py", "weight", blocks=(*_SQUARES, *_GROUPS),
    ),
    Layout(
        "deepseek-v4-fp4", "weight", _BYTES, ("scale",), _POWERS, "deepseek-ai/DeepSeek-V4, inference/convert.py",
        "weight", "e2m1", ((1, 32),), True,
    ),
    Layout(
        "nvfp4-pack-quantized", "_packed", ("U8",), ("_scale",), ("F8_E4M3",), "compressed-tensors, compressors/nvfp4",
        "", "e2m1", ((1, 16),), True, ("_global_scale",), divides=True,
    ),
    Layout(
        "mxfp4-pack-quantized", "_packed", ("U8",), ("_scale",), _POWERS, "compressed-tensors, compressors/mxfp4",
        "", "e2m1", ((1, 32),), True,
    ),
    Layout(
        "pack-quantized", "_packed", ("I32",), ("_scale",), _FLOATS, "compressed-tensors, compressors/pack_quantized",
        "", "int4", _GROUPS, zero=("_zero_point",), other=("_shape", "_g_idx"),
    ),
    Layout(
        "nvfp4", "", ("U8", "F4"), ("_scale", "_weight_scale"), ("F8_E4M3",), "NVIDIA ModelOpt, export of NVFP4",
        "", "e2m1", ((1, 16),), True, ("_scale_2", "_weight_scale_2"),
    ),
    Layout(
        "mxfp4", "", ("U8", "F4"), ("_scale", "_weight_scale"), _POWERS, "NVIDIA ModelOpt and AMD Quark, export of MXFP4",
        "", "e2m1", ((1, 32),), True,
    ),
    Layout(
        "gpt-oss", "_blocks", ("U8",), ("_scales",), ("U8", "F8_E8M0"), "openai/gpt-oss, gpt_oss/torch/weights.py",
        "", "e2m1", ((1, 32),), True, joined=True,
    ),
    Layout(
        "mxfp8", "", _FP8[:2], ("_scale", "_weight_scale"), _POWERS, "NVIDIA ModelOpt and compressed-tensors, MXFP8",
        blocks=((1, 32),), fixed=True,
    ),
    Layout(
        "float-quantized", "", _FP8, ("_scale", "_weight_scale"), _FLOATS,
        "compressed-tensors, compressors/naive_quantized; ModelOpt's FP8; FBGEMM's", blocks=(*_SQUARES, *_GROUPS),
    ),
    Layout(
        "int-quantized", "", ("I8",), ("_scale", "_weight_scale"), _FLOATS,
        "compressed-tensors, compressors/naive_quantized", "", "int8", (*_SQUARES, *_GROUPS), zero=("_zero_point",),
    ),
    Layout(
        "scaled-fp8", "weight", _FP8, ("scale_weight",), _FLOATS, "ComfyUI, single files with the key scaled_fp8",
        "weight", other=("scale_input",),
    ),
    Layout(
        "quanto", "._data", (*_FP8, "I8"), ("._scale",), _FLOATS, "huggingface/optimum-quanto, state dictionaries",
        blocks=_GROUPS,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How one weight is worked out from what is stored."""

    layout: str  #: name of the layout; ``plain`` for what is stored as it is
    codes: Stored
    shape: Shape  #: of the weight
    element: str  #: format of the elements: ``bf16``, ``e4m3``, ``e2m1``, ``int8``
    scale: Stored | None = None
    scale_shape: Shape = ()  #: one entry per group, as many axes as `shape`
    scale_format: str = ""
    sizes: Shape = ()  #: elements of a group along each axis
    second: Stored | None = None
    divides: bool = False
    zero: Stored | None = None
    shape_of: Stored | None = None  #: what says the shape again
    marker: Stored | None = None
    high_first: bool = False
    swizzled: bool = False

    @property
    def granularity(self) -> str:
        """Who shares a scale: ``tensor``, ``row``, ``128x128``; "" of what has none."""
        if self.scale is None:
            return ""
        if math.prod(self.scale_shape) <= 1:
            return "tensor"
        if len(self.shape) < 2:
            return "row" if self.sizes == (1,) else f"1x{self.sizes[0]}"
        rows, columns = self.sizes[-2:]
        if columns == self.shape[-1] and rows in (1, self.shape[-2]):
            return "row" if rows == 1 and self.shape[-2] > 1 else "matrix"
        return f"{rows}x{columns}"

    @property
    def companions(self) -> tuple[Stored, ...]:
        """What is stored beside the codes and multiplied in."""
        return tuple(one for one in (self.scale, self.second, self.zero) if one is not None)


class Refused(NamedTuple):
    """That codes cannot be read as values."""

    why: str  #: in words that follow "cannot be read as values:"


def plain_plan(stored: Stored) -> Plan:
    """Return the plan of a tensor that is its own values.

    Examples
    --------
    >>> plain_plan(Stored("w", "BF16", (2, 3), "m.safetensors", 0, 12)).element
    'bf16'
    """
    kind = stored.dtype
    element = kind.lower() if kind == "F64" or kind[0] in "IUC" or kind == "BOOL" else get_format(kind).name
    return Plan("plain", stored, stored.shape, element)


def find_plan(stored: Stored, find: Find, config: Config) -> Plan | Refused:
    """Return how a stored tensor is read as values: plainly, or as codes with the companions that `find` finds.

    Examples
    --------
    >>> codes = Stored("q.weight", "F8_E4M3", (256, 512), "m", 0, 256 * 512)
    >>> there = {"q.weight_scale_inv": Stored("q.weight_scale_inv", "F32", (2, 4), "m", 0, 32)}
    >>> find_plan(codes, there.get, Config()).granularity
    '128x128'
    >>> find_plan(codes, {}.get, Config()).why
    'its scales were not found'
    """
    if not may_be_codes(stored):
        return plain_plan(stored)
    misfits: list[str] = []
    for layout, stem in _candidates(stored):
        plan = _match(layout, stem, stored, find, config)
        if isinstance(plan, Plan):
            return plan
        misfits += [plan.why] if plan else []
        if plan and layout.marker:
            break  # a mark says which layout it is: no other is looked for
    if misfits:
        return Refused(misfits[0])
    if config.unread:
        return Refused(f"its configuration says quant_method {config.method!r}, which is not read")
    if _is_integer(stored.dtype) and not _in_a_weights_place(stored, find):
        return plain_plan(stored)
    return Refused("its scales were not found")


def may_be_codes(stored: Stored) -> bool:
    """Whether a type may stand for something else than its values: E8M0 is what scales are themselves.

    Examples
    --------
    >>> [may_be_codes(Stored("w", kind, (4, 4), "m", 0, 1)) for kind in ("F8_E4M3", "U8", "BF16", "F8_E8M0")]
    [True, True, False, False]
    """
    return BITS[stored.dtype] < 16 and stored.dtype not in ("F8_E8M0", "BOOL") or _is_integer(stored.dtype)


def _is_integer(dtype: str) -> bool:
    return dtype[0] in "IU"


def _in_a_weights_place(stored: Stored, find: Find) -> bool:
    """Whether integers look like codes: matrices of bytes, what is called a weight, what has scales beside it."""
    stem = stored.name.rpartition(".")[0]
    near = [
        f"{stored.name}{end}"
        for end in ("_scale", "_scale_inv", "_scales", ".absmax", ".scale", "_zero_point", "_weight_scale")
    ]
    near += [f"{stem}{'.' if stem else ''}{end}" for end in ("scales", "qzeros", "SCB", "scale", "weight_scale")]
    last = stored.name.rpartition(".")[2]
    named = last in ("weight", "qweight", "qzeros", "g_idx") or last.endswith(("_packed", "_blocks"))
    if len(stored.shape) >= 2 and (named or BITS[stored.dtype] == 8):
        return True
    return bool(stored.shape) and any(find(name) for name in near if name != stored.name)


def is_companion(name: str, find: Find) -> bool:
    """Whether a tensor belongs to another's codes: a scale, a zero point, a shape, a remark.

    Examples
    --------
    >>> codes = Stored("q.weight", "F8_E4M3", (2, 2), "m", 0, 4)
    >>> is_companion("q.weight_scale", {"q.weight": codes}.get), is_companion("q.bias", {"q.weight": codes}.get)
    (True, False)
    """
    return any(
        (codes := find(stem)) is not None and codes.name != name and may_be_codes(codes) for stem in owners(name)
    )


def owners(name: str) -> Iterator[str]:
    """Yield the names of codes that a tensor of this name may belong to.

    Examples
    --------
    >>> "q.weight" in set(owners("q.weight_scale_inv"))
    True
    """
    for end, places in _ENDS.items():
        if name.endswith(end):
            for codes in places:
                yield name[: len(name) - len(end)] + codes


def _ends() -> dict[str, tuple[str, ...]]:
    """Return how names of companions end -> how those of their codes do."""
    pairs = {
        (end, layout.codes)
        for layout in LAYOUTS
        for end in (*layout.scale, *layout.second, *layout.zero, *layout.other, layout.marker)
        if end
    }
    pairs |= {("input_scale", "weight"), ("output_scale", "weight"), ("input_global_scale", "weight_packed")}
    pairs |= {("_input_scale", ""), ("comfy_quant", "weight")}
    return {end: tuple(sorted(codes for e, codes in pairs if e == end)) for end in sorted({e for e, _ in pairs})}


_ENDS = _ends()


def _candidates(stored: Stored) -> Iterator[tuple[Layout, str]]:
    """Yield the layouts that the name and the type of codes allow, each with the stem of the name."""
    for layout in LAYOUTS:
        if stored.dtype in layout.stored and stored.name.endswith(layout.codes):
            yield layout, stored.name[: len(stored.name) - len(layout.codes)]


def _first(find: Find, stem: str, ends: tuple[str, ...], dtypes: tuple[str, ...]) -> Stored | None:
    found = (find(stem + end) for end in ends)
    return next((one for one in found if one is not None and one.dtype in dtypes), None)


def _match(layout: Layout, stem: str, codes: Stored, find: Find, config: Config) -> Plan | Refused | None:
    """Return the plan of a layout; None if what it needs is not there, or why that does not fit."""
    scale = _first(find, stem, layout.scale, layout.scale_stored)
    marker = find(f"{codes.name.rpartition('.')[0]}.comfy_quant")
    second = _first(find, stem, layout.second, _FLOATS)
    if scale is None or (layout.second and second is None) or (layout.marker and marker is None and not config.marked):
        return None
    element = layout.element or get_format(codes.dtype).name
    if codes.name.endswith("._data") and codes.dtype == "I8":
        element = "int8"
    if layout.element == "int4":
        if config.bits not in (4, 8):
            return Refused("how many bits its integers have is said by num_bits of a quantization_config, 4 or 8")
        element = f"int{config.bits}"
    contradiction = config.contradiction(element)
    if contradiction:
        return Refused(contradiction)
    shape = _unpacked(codes, element, layout.joined)
    zero = _first(find, stem, layout.zero, ("I8", "I32", "U8"))
    shape_of = find(stem + "_shape") if "_shape" in layout.other else None
    if second is not None and math.prod(second.shape) not in (1, *shape[:-2][:1]):
        return Refused(f"{second.name} has shape {second.shape}, not one number{' per expert' * (len(shape) > 2)}")
    if zero is not None and zero.shape != scale.shape:
        return Refused(f"its zero points {zero.name} have another shape, {zero.shape}, than {scale.name}, {scale.shape}")
    stored_shape = scale.shape
    if layout.swizzled:
        stored_shape = _unswizzled(scale.shape, shape, layout.blocks[0])
    blocks = layout.blocks
    if config.blocks and not layout.fixed:  # and rows of the same width, as embeddings beside square blocks have
        blocks = tuple(dict.fromkeys([*config.blocks, *((1, columns) for _, columns in config.blocks)]))
    found = _groups(stored_shape, shape, blocks)
    if found is None:
        allowed = ", ".join(f"{rows}x{columns}" for rows, columns in blocks)
        one = f"one scale per {allowed}" if len(blocks) == 1 else f"scales per tensor, row{', ' * bool(allowed)}{allowed}"
        return Refused(f"{scale.name} has shape {scale.shape}, not {one} of {shape}")
    full, sizes = found
    return Plan(
        layout.name, codes, shape, element, scale, full, _scale_format(scale), sizes, second, layout.divides, zero,
        shape_of, marker, layout.high_first, layout.swizzled,
    )  # fmt: skip


def _scale_format(scale: Stored) -> str:
    return "e8m0" if scale.dtype == "U8" else get_format(scale.dtype).name


def _unpacked(codes: Stored, element: str, joined: bool) -> Shape:
    """Return the shape of the elements: the last axis holds as many of them as its bits do."""
    shape = codes.shape
    if joined and len(shape) >= 2:
        shape = (*shape[:-2], shape[-2] * shape[-1])
    if codes.dtype in ("U8", "I8", "I32") and shape:
        bits = int(element[3:]) if element.startswith("int") else get_format(element).bits
        shape = (*shape[:-1], shape[-1] * BITS[codes.dtype] // bits)
    return shape


def _unswizzled(stored: Shape, shape: Shape, block: Block) -> Shape:
    """Return the shape of scales that lie in tiles of 128x4, padded; or the stored one, which then fits nothing."""
    rows, columns = shape[-2:] if len(shape) == 2 else (0, 0)
    plain = rows, -(-columns // block[1])
    padded = -(-plain[0] // 128) * 128, -(-plain[1] // 4) * 4
    return plain if stored == padded else (*stored, 0)


def _groups(stored: Shape, shape: Shape, blocks: tuple[Block, ...]) -> tuple[Shape, Shape] | None:
    """Return the shape of scales with all axes, and the elements that share one along each; None if none fits.

    Each axis of the scales has one entry, or one for each element, or one for each block; blocks are of the last
    two axes. What fits in two ways that differ fits in none.
    """
    if math.prod(stored) == 1:
        return (1,) * len(shape), tuple(max(length, 1) for length in shape)
    full = stored + (1,) * (len(shape) - len(stored))
    if len(full) != len(shape):
        return None
    lead = len(shape) - min(2, len(shape))
    if any(have not in (1, length) for have, length in zip(full[:lead], shape[:lead], strict=True)):
        return None
    tail, lengths = full[lead:], shape[lead:]
    whole = itertools.product(*[(1, length) for length in lengths])
    fitting = {_effective(sizes, lengths) for sizes in [*whole, *(block[-len(lengths) :] for block in blocks)]
               if all(-(-length // max(size, 1)) == have for have, size, length in zip(tail, sizes, lengths, strict=True))}  # fmt: skip
    if len(fitting) != 1:
        return None
    first = tuple(1 if have == length else length for have, length in zip(full[:lead], shape[:lead], strict=True))
    return full, first + fitting.pop()


def _effective(sizes: Shape, lengths: Shape) -> Shape:
    """Return what a group really has along each axis: never more than there is."""
    return tuple(max(min(size, length), 1) for size, length in zip(sizes, lengths, strict=True))


def neighbours(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that belong to the same layer, or begin alike: where a scale would be looked for.

    Examples
    --------
    >>> neighbours("q.weight", ["q.weight", "q.bias", "k.weight", "q.weight_scales"])
    ['q.bias', 'q.weight_scales']
    """
    layer = name.rpartition(".")[0]
    return sorted(
        other
        for other in names
        if other != name and (other.startswith(name) or (layer and other.rpartition(".")[0] == layer))
    )


def refusal(label: str, stored: Stored, why: str, near: list[str]) -> str:
    """Say that codes are not read, why, and what was seen near them."""
    beside = f"beside it: {', '.join(near[:8])}{', ...' * (len(near) > 8)}" if near else "nothing is beside it"
    return printable(
        f"{label}: {stored.name} ({stored.dtype} {'x'.join(map(str, stored.shape)) or 'one number'}) cannot be read "
        f"as values: {why}; {beside}; raw=True gives what is stored"
    )
