"""How one stored tensor is read as values: its layout, its companions, and who shares a scale."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from fp8sim._support.text import printable
from fp8sim.checkpoints.config import Config
from fp8sim.checkpoints.headers import BITS, Stored
from fp8sim.checkpoints.layouts import FLOATS, LAYOUTS, Block, Layout
from fp8sim.formats import get_format

__all__ = [
    "Plan", "Refused", "as_matrix_plan", "find_plan", "is_companion", "may_be_codes", "neighbours",
    "owners", "plain_plan", "refusal",
]  # fmt: skip

Find: TypeAlias = "Callable[[str], Stored | None]"
Shape: TypeAlias = "tuple[int, ...]"


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


def as_matrix_plan(plan: Plan) -> Plan | None:
    """Return the plan of a stack of matrices as one of all their rows; None if groups would not stay whole.

    Examples
    --------
    >>> as_matrix_plan(plain_plan(Stored("w", "BF16", (4, 2, 3), "m", 0, 48))).shape
    (8, 3)
    """
    shape, stored = plan.shape, plan.codes
    if len(shape) <= 2:
        return plan
    count, rows = math.prod(shape[:-2]), shape[-2]
    lead = stored.shape[: len(shape) - 2]
    codes = stored._replace(shape=(count * rows, math.prod(stored.shape[len(lead) + 1 :])))
    if plan.scale is None:
        return replace(plan, codes=codes, shape=(count * rows, shape[-1]))
    one = math.prod(plan.scale_shape) == 1
    whole = plan.scale_shape[:-2] == shape[:-2] and rows % plan.sizes[-2] == 0
    each = plan.second is not None and math.prod(plan.second.shape) != 1
    if plan.swizzled or each or not (one or whole):
        return None
    scales = (1, 1) if one else (math.prod(plan.scale_shape[:-1]), plan.scale_shape[-1])
    sizes = (count * rows, shape[-1]) if one else plan.sizes[-2:]
    return replace(plan, codes=codes, shape=(count * rows, shape[-1]), scale_shape=scales, sizes=sizes)


def find_plan(stored: Stored, find: Find, config: Config) -> Plan | Refused:
    """Return how a stored tensor is read as values: as it is, or as codes with what `find` finds.

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
        if plan and layout.marked:
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
    small = BITS[stored.dtype] < 16 and stored.dtype not in ("F8_E8M0", "BOOL")
    return small or _is_integer(stored.dtype)


def _is_integer(dtype: str) -> bool:
    return dtype[0] in "IU"


def _in_a_weights_place(stored: Stored, find: Find) -> bool:
    """Whether integers look like codes: matrices of bytes, what is called a weight, what has scales."""
    stem = stored.name.rpartition(".")[0]
    near = [
        f"{stored.name}{end}"
        for end in ("_scale", "_scale_inv", "_scales", ".absmax", ".scale", "_zero_point", "_weight_scale")
    ]
    near += [
        f"{stem}{'.' if stem else ''}{end}" for end in ("scales", "qzeros", "SCB", "scale", "weight_scale")
    ]
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
    >>> [is_companion(name, {"q.weight": codes}.get) for name in ("q.weight_scale", "q.bias")]
    [True, False]
    """
    return any(
        (codes := find(stem)) is not None and codes.name != name and may_be_codes(codes)
        for stem in owners(name)
    )


def owners(name: str) -> Iterator[str]:
    """Yield the names of codes that a tensor of this name may belong to.

    Examples
    --------
    >>> "q.weight" in set(owners("q.weight_scale_inv"))
    True
    """
    if not name.endswith(_ALL_ENDS):  # at once, of the tens of thousands of names that are no companions
        return
    for end, places in _ENDS.items():
        if name.endswith(end):
            for codes in places:
                yield name[: len(name) - len(end)] + codes


def _ends() -> dict[str, tuple[str, ...]]:
    """Return how names of companions end -> how those of their codes do."""
    pairs = {
        (end, layout.codes)
        for layout in LAYOUTS
        for end in (*layout.scale, *layout.second, *layout.zero, *layout.other)
    }
    pairs |= {("input_scale", "weight"), ("output_scale", "weight"), ("input_global_scale", "weight_packed")}
    pairs |= {("_input_scale", ""), ("comfy_quant", "weight")}
    return {
        end: tuple(sorted(codes for e, codes in pairs if e == end)) for end in sorted({e for e, _ in pairs})
    }


_ENDS = _ends()
_ALL_ENDS = tuple(_ENDS)


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
    second = _first(find, stem, layout.second, FLOATS)
    if (
        scale is None
        or (layout.second and second is None)
        or (layout.marked and marker is None and not config.marked)
    ):
        return None
    element = layout.element or _format_name(codes.dtype)
    if layout.element == "int4":
        if config.bits not in (4, 8):
            return Refused(
                "how many bits its integers have is said by num_bits of a quantization_config, 4 or 8"
            )
        element = f"int{config.bits}"
    contradiction = config.contradiction(element)
    if contradiction:
        return Refused(contradiction)
    shape = _unpacked(codes, element, layout.joined)
    if shape is None:
        return None
    if (unread := _unread(stem, layout, find)) is not None:
        return Refused(f"{unread.name} is not read, and changes what it stands for")
    zero = _first(find, stem, layout.zero, ("I8",))
    shape_of = find(stem + "_shape") if "_shape" in layout.other else None
    if second is not None and math.prod(second.shape) not in (1, *shape[:-2][:1]):
        return Refused(
            f"{second.name} has shape {second.shape}, not one number{' per expert' * (len(shape) > 2)}"
        )
    if zero is not None and zero.shape != scale.shape:
        return Refused(
            f"its zero points {zero.name} have another shape, {zero.shape}, than {scale.name}, {scale.shape}"
        )
    stored_shape = scale.shape
    if layout.swizzled:
        stored_shape = _unswizzled(scale.shape, shape, layout.blocks[0])
    blocks = layout.blocks
    if (
        config.blocks and not layout.fixed
    ):  # and rows of the same width, as embeddings beside square blocks have
        blocks = tuple(dict.fromkeys([*config.blocks, *((1, columns) for _, columns in config.blocks)]))
    found = _groups(stored_shape, shape, blocks)
    if found is None:
        allowed = ", ".join(f"{rows}x{columns}" for rows, columns in blocks)
        one = (
            f"one scale per {allowed}"
            if len(blocks) == 1
            else f"scales per tensor, row{', ' * bool(allowed)}{allowed}"
        )
        return Refused(f"{scale.name} has shape {scale.shape}, not {one} of {shape}")
    full, sizes = found
    if second is not None and math.prod(second.shape) != 1 and second.shape[:1] != full[:1]:
        return Refused(f"{second.name} has one number per expert, and {scale.name} is of shape {scale.shape}")
    return Plan(
        layout.name, codes, shape, element, scale, full, _scale_format(scale), sizes, second, layout.divides,
        zero, shape_of, marker, layout.high_first, layout.swizzled,
    )  # fmt: skip


def _unread(stem: str, layout: Layout, find: Find) -> Stored | None:
    """Return a companion that would have to be reckoned with: zero points, columns in another order."""
    ends = ("_g_idx", "_pre_quant_scale", *(() if layout.zero else ("_zero_point",)))
    zero = next((find(stem + end) for end in layout.zero), None)
    packed = zero if zero is not None and zero.dtype != "I8" else None
    return next((one for end in ends if (one := find(stem + end)) is not None), packed)


@lru_cache(maxsize=64)
def _format_name(dtype: str) -> str:
    return get_format(dtype).name


def _scale_format(scale: Stored) -> str:
    return "e8m0" if scale.dtype == "U8" else _format_name(scale.dtype)


def _unpacked(codes: Stored, element: str, joined: bool) -> Shape | None:
    """Return the shape of the elements: the last axis holds as many of them as its bits do, None if none."""
    shape = codes.shape
    if joined and len(shape) >= 2:
        shape = (*shape[:-2], shape[-2] * shape[-1])
    if codes.dtype in ("U8", "I8", "I32") and shape:
        bits = int(element[3:]) if element.startswith("int") else get_format(element).bits
        columns, rest = divmod(shape[-1] * BITS[codes.dtype], bits)
        if rest:  # 64 elements of MXFP4 would be 42 of MXFP6, and have as many scales
            return None
        shape = (*shape[:-1], columns)
    return shape


def _unswizzled(stored: Shape, shape: Shape, block: Block) -> Shape:
    """Return the shape of scales that lie in tiles of 128x4, padded; else one that fits nothing."""
    rows, columns = shape[-2:] if len(shape) == 2 else (0, 0)
    plain = rows, -(-columns // block[1])
    padded = -(-plain[0] // 128) * 128, -(-plain[1] // 4) * 4
    return plain if stored == padded else (*stored, 0)


@lru_cache(maxsize=4096)  # a model has few shapes
def _groups(stored: Shape, shape: Shape, blocks: tuple[Block, ...]) -> tuple[Shape, Shape] | None:
    """Return the shape of scales with all axes, and the elements that share one along each, if any fit.

    Each axis of the scales has one entry, or one for each element, or one for each block; blocks are of the
    last two axes. What fits in two ways that differ fits in none.
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
    tried = [*itertools.product(*[(1, length) for length in lengths]), *(b[-len(lengths) :] for b in blocks)]
    counts = [tuple(-(-n // max(size, 1)) for n, size in zip(lengths, sizes, strict=True)) for sizes in tried]
    fitting = {_effective(sizes, lengths) for sizes, have in zip(tried, counts, strict=True) if have == tail}
    if len(fitting) != 1:
        return None
    first = tuple(
        1 if have == length else length for have, length in zip(full[:lead], shape[:lead], strict=True)
    )
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
    beside = (
        f"beside it: {', '.join(near[:8])}{', ...' * (len(near) > 8)}" if near else "nothing is beside it"
    )
    return printable(
        f"{label}: {stored.name} ({stored.dtype} {'x'.join(map(str, stored.shape)) or 'one number'}) "
        f"cannot be read as values: {why}; {beside}; raw=True gives what is stored"
    )
