"""Rows of a stored tensor: its bytes, what they stand for, and the scales of their groups multiplied in."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fp8sim._support import checks, memory
from fp8sim._support.typing import F32, F64, AnyArray, FloatArray
from fp8sim.casts import decode
from fp8sim.checkpoints.headers import BITS, Stored, bits_of, numpy_type
from fp8sim.checkpoints.places import Bytes, Folder
from fp8sim.checkpoints.plans import Plan
from fp8sim.formats import get_format
from fp8sim.reference.codes import decode_table

__all__ = ["Coded", "read_coded", "read_codes", "read_values"]

_PART = 1 << 22  # elements that are worked out at a time: the memory beside the result stays small


class Coded(NamedTuple):
    """Lines of a weight taken apart: a code for each element, and the scales of the groups that hold them.

    A line is a row of the last axis; those of all matrices of a stack are counted through.
    """

    format: str  #: of the elements
    start: int  #: the first line
    stop: int
    codes: AnyArray | None = None  #: (lines, columns): bits, of integers their value; None where plain
    scales: FloatArray | None = None  #: (groups, groups of a line)
    group: AnyArray | None = None  #: of each line, which row of `scales` holds for it
    first: AnyArray | None = None  #: of each line, whether its groups begin with it
    columns: int = 0  #: elements of a line that share a scale

    def spread(self) -> AnyArray:
        """Return the scale of every element."""
        assert self.codes is not None
        assert self.scales is not None
        per_line = self.scales[self.group]
        return np.repeat(per_line, self.columns, -1)[:, : self.codes.shape[1]]


def read_codes(folder: Folder, stored: Stored, start: int, stop: int) -> AnyArray:
    """Return rows of a tensor as they are stored, 4-bit and 6-bit elements one a byte.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as path:
    ...     _ = (Path(path) / "m").write_bytes(bytes([0x21, 0x43, 0x65]))
    ...     read_codes(Folder(Path(path)), Stored("w", "F4", (2, 3), "m", 0, 3), 1, 2).view(np.uint8)
    array([[4, 5, 6]], dtype=uint8)
    """
    shape = (stop - start, *stored.shape[1:]) if stored.shape else ()
    return np.asarray(_elements(folder, stored, start, stop).view(numpy_type(stored.dtype)).reshape(shape))


def read_values(folder: Folder, plan: Plan, start: int, stop: int) -> FloatArray:
    """Return rows of a weight as numbers: float32, or float64 of types that float32 does not hold.

    Codes times scale are rounded once, to float32.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fp8sim.checkpoints.plans import plain_plan
    >>> with tempfile.TemporaryDirectory() as path:
    ...     _ = (Path(path) / "m").write_bytes(np.array([[1.0, 2.0], [3.0, 4.0]], np.float16).tobytes())
    ...     read_values(Folder(Path(path)), plain_plan(Stored("w", "F16", (2, 2), "m", 0, 8)), 1, 2)
    array([[3., 4.]], dtype=float32)
    """
    shape = (stop - start, *plan.shape[1:]) if plan.shape else ()
    wide = BITS[plan.codes.dtype] >= 32 and plan.codes.dtype != "F32" and plan.layout == "plain"
    dtype: Any = np.float64 if wide else np.float32
    if not math.prod(shape):  # however many rows there are of nothing
        return np.empty(shape, dtype)
    scales = _Scales(folder, plan, start, stop) if plan.scale is not None else None
    step = max(1, _PART // max(1, math.prod(shape[1:])))
    if stop - start <= step:
        numbers = _numbers(folder, plan, start, stop).reshape(shape or (1,))
        numbers = numbers if numbers.flags.writeable else numbers.copy()  # what is read may be shared
        whole: Any = numbers if scales is None else scales.apply(numbers, start)
        return np.asarray(whole, dtype).reshape(shape)
    out: Any = memory.empty(shape, dtype)
    flat = out.reshape(out.shape or (1,))
    for first in range(start, stop, step):
        last = min(first + step, stop)
        part = _numbers(folder, plan, first, last).reshape(last - first, *flat.shape[1:])
        flat[first - start : last - start] = part if scales is None else scales.apply(part, first)
    return np.asarray(out)


def read_coded(folder: Folder, plan: Plan, start: int, stop: int) -> Coded:
    """Return codes and scales of lines; of a weight that is its own values nothing is read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> scale = Stored("s", "F32", (), "m", 2, 6)
    >>> plan = Plan("float-quantized", Stored("w", "F8_E4M3", (2, 1), "m", 0, 2), (2, 1), "e4m3", scale,
    ...             (1, 1), "fp32", (2, 1))
    >>> with tempfile.TemporaryDirectory() as path:
    ...     _ = (Path(path) / "m").write_bytes(bytes([56, 126]) + np.float32(0.5).tobytes())
    ...     read_coded(Folder(Path(path)), plan, 1, 2).codes
    array([[126]], dtype=uint8)
    """
    if plan.scale is None:
        return Coded(plan.element, start, stop)
    stored, element = plan.codes, plan.element
    count, columns = math.prod(plan.shape[:-1]), plan.shape[-1] if plan.shape else 1
    if element == "e2m3" and stored.dtype == "U8":
        stored = stored._replace(dtype="F6_E2M3", shape=plan.shape)
    stored = stored._replace(shape=(count, math.prod(stored.shape) // max(count, 1)))
    codes: AnyArray = _elements(folder, stored, start, stop)
    if element in ("e2m1", "int4") and stored.dtype != "F4":
        halves = (codes >> 4, codes & 15) if plan.high_first else (codes & 15, codes >> 4)
        codes = np.stack(halves, axis=-1)
    if element == "int4":  # compressed-tensors adds 8
        codes = codes.view(np.int8) - np.int8(8)
    elif element.startswith("int"):
        codes = _integers(codes, stored).astype(np.int8)
    group, first, (begin, end) = _groups_of_lines(plan, start, stop)
    scales = _Scales(folder, plan, begin, end).scales
    scales = scales.reshape(-1, scales.shape[-1] if scales.ndim else 1)
    size = plan.sizes[-1] if plan.sizes else 1
    return Coded(element, start, stop, codes.reshape(-1, columns), scales, group, first, size)


def _groups_of_lines(plan: Plan, start: int, stop: int) -> tuple[AnyArray, AnyArray, tuple[int, int]]:
    """Return which row of the scales holds for each line, where groups begin, and the rows of axis 0."""
    shape, sizes, counts = plan.shape[:-1], plan.sizes[:-1], plan.scale_shape[:-1]
    lines, within = np.arange(start, stop), math.prod(shape[1:])
    begin, end = (start // within, -(-stop // within)) if shape else (0, 1)
    if len(plan.shape) == 1:
        begin, end = 0, plan.shape[0]
    group, first = np.zeros(len(lines), np.int64), np.ones(len(lines), bool)
    for axis, (at, size, count) in enumerate(
        zip(np.unravel_index(lines, shape) if shape else (), sizes, counts, strict=True)
    ):
        first &= at % size == 0
        base = begin // size if axis == 0 and count > 1 else 0
        group = group * (count if axis else 1) + (at // size - base if count > 1 else 0)
    return group, first, (begin, end)


def _elements(folder: Folder, stored: Stored, start: int, stop: int) -> Bytes:
    """Return the bytes of rows, of smaller elements one a byte."""
    bits = BITS[stored.dtype]
    each = bits_of(stored.shape[1:], stored.dtype)
    begin, end = start * each, stop * each
    raw = folder.read(stored.file, stored.start + begin // 8, stored.start + -(-end // 8))
    if bits >= 8:
        return raw
    count, skipped = (end - begin) // bits, begin % 8
    if bits == 4:  # the first element in the lower half of a byte
        halves = np.stack([raw & 15, raw >> 4], axis=-1).reshape(-1)
        return np.ascontiguousarray(halves[skipped // 4 :][:count])
    # Element i takes bits 6i to 6i + 5 of the bytes read as one number, least significant first.
    lined = np.unpackbits(raw, bitorder="little")[skipped : skipped + count * bits].reshape(count, bits)
    return np.packbits(lined, axis=-1, bitorder="little").reshape(-1)


def _numbers(folder: Folder, plan: Plan, start: int, stop: int) -> FloatArray:
    """Return the elements of rows, their scales left out."""
    stored, element = plan.codes, plan.element
    if element == "e2m3" and stored.dtype == "U8":  # packed as the type F6_E2M3 is
        stored = stored._replace(dtype="F6_E2M3", shape=plan.shape)
    raw = _elements(folder, stored, start, stop)
    if plan.layout == "plain" and element not in ("e4m3", "e5m2", "e8m0"):
        array = raw.view(numpy_type(stored.dtype))
        if (array.dtype.kind in "ib" and array.dtype.itemsize < 4) or (
            array.dtype.kind == "u" and array.itemsize < 4
        ):
            return array.astype(np.float32)
        return checks.as_float(array, stored.name)
    if element.startswith("int"):
        return _pairs(element, False)[raw] if element == "int4" else _integers(raw, stored)
    if element == "e2m1" and stored.dtype != "F4":
        return _pairs(element, plan.high_first)[raw]
    return decode(raw, get_format(element))


def _integers(raw: Bytes, stored: Stored) -> F32:
    """Return 8-bit integers: as they are, or in 32-bit words as compressed-tensors packs them, 128 added."""
    if stored.dtype == "I32":
        return raw.astype(np.float32) - np.float32(128)
    return raw.view(np.int8).astype(np.float32)


@lru_cache(maxsize=8)
def _pairs(element: str, high_first: bool) -> F32:
    """Return the two values of every byte of 4-bit elements; compressed-tensors adds 8 to integers."""
    one = np.arange(-8, 8, dtype=np.float32) if element == "int4" else decode_table(get_format(element))
    byte = np.arange(256)
    both = np.stack([one[byte & 15], one[byte >> 4]], axis=-1)
    table: F32 = np.ascontiguousarray(both[:, ::-1] if high_first else both)
    table.setflags(write=False)
    return table


class _Scales:
    """The scales of a range of rows, read once, and multiplied into any part of it."""

    def __init__(self, folder: Folder, plan: Plan, start: int, stop: int) -> None:
        assert plan.scale is not None
        self.sizes = plan.sizes
        self.one = plan.scale_shape[:1] in ((), (1,))  #: one row of scales for all
        group = plan.sizes[0] if plan.sizes else 1
        self.first = 0 if self.one else start // group
        last = 1 if self.one else -(-stop // group)
        where = folder, plan, self.first, last
        scales = _scale_rows(*where, plan.scale, plan.scale_format).astype(np.float64)
        if plan.second is not None:
            scales = self._under(scales, folder, plan, last)
        self.zero = None if plan.zero is None else _scale_rows(*where, plan.zero, "int8")
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            narrow = scales.astype(np.float32)
        exact = (narrow == scales) | np.isnan(scales)
        self.scales: FloatArray = narrow if exact.all() else scales

    def _under(self, scales: F64, folder: Folder, plan: Plan, last: int) -> F64:
        assert plan.second is not None
        count = math.prod(plan.second.shape)
        second: Any = decode_stored(folder, plan.second).astype(np.float64)
        each = second[self.first : last].reshape(-1, *[1] * (scales.ndim - 1))  # one for each expert
        second = second[0] if count == 1 else each
        with np.errstate(all="ignore"):
            return np.asarray(scales / second if plan.divides else scales * second)

    def apply(self, values: FloatArray, start: int) -> FloatArray:
        """Return values, which begin with row `start`, times the scale of their group."""
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            if self.zero is not None:
                values = values - self._expanded(self.zero, values, start)
            if values.ndim == 1 or self.scales.dtype == np.float64:
                return np.asarray(values * self._expanded(self.scales, values, start))
            rows = self._of_rows(self.scales, values, start)
            size, there = self.sizes[-1], values.shape[-1]
            if rows.shape[-1] == 1 or size == 1:
                return np.multiply(values, rows, out=values)
            whole = there // size * size  # the last group may be short
            groups = (*values.shape[:-1], there // size, size)
            head = values[..., :whole].reshape(groups)  # a copy if there is a short one
            values[..., :whole] = (head * rows[..., : there // size, None]).reshape(*values.shape[:-1], whole)
            values[..., whole:] *= rows[..., there // size :]
            return values

    def _of_rows(self, per_group: AnyArray, values: AnyArray, start: int) -> AnyArray:
        """Repeat along all axes but the last."""
        if not self.one:
            group = self.sizes[0]
            at = np.arange(start, start + len(values)) // group - self.first
            per_group = per_group[at]
        for axis in range(1, values.ndim - 1):
            if per_group.shape[axis] > 1 and self.sizes[axis] > 1:
                per_group = np.repeat(per_group, self.sizes[axis], axis)
                per_group = per_group.take(np.arange(values.shape[axis]), axis)
        return per_group

    def _expanded(self, per_group: AnyArray, values: AnyArray, start: int) -> AnyArray:
        rows = self._of_rows(per_group, values, start)
        if values.ndim > 1 and rows.shape[-1] > 1 and self.sizes[-1] > 1:
            rows = np.repeat(rows, self.sizes[-1], -1)[..., : values.shape[-1]]
        return rows


def decode_stored(folder: Folder, stored: Stored, fmt: str = "") -> F32:
    """Return all values of a small tensor in one row.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as path:
    ...     _ = (Path(path) / "m").write_bytes(bytes([127, 128]))
    ...     decode_stored(Folder(Path(path)), Stored("s", "U8", (2, 1), "m", 0, 2), "e8m0")
    array([1., 2.], dtype=float32)
    """
    return _decoded(folder.read(stored.file, stored.start, stored.stop), stored, fmt)


def _decoded(raw: Bytes, stored: Stored, fmt: str) -> F32:
    if fmt == "int8":
        return raw.view(np.int8).astype(np.float32)
    if stored.dtype in ("U8", "F8_E8M0") or BITS[stored.dtype] == 8:
        return decode(raw, get_format(fmt or stored.dtype))
    return np.asarray(raw.view(numpy_type(stored.dtype)), np.float32)


def _scale_rows(folder: Folder, plan: Plan, first: int, last: int, stored: Stored, fmt: str) -> F32:
    """Return the scales of some rows of groups, in all axes."""
    shape = plan.scale_shape
    if plan.swizzled:
        rows, columns = shape
        padded = stored.shape
        tiles = decode_stored(folder, stored, fmt).reshape(padded[0] // 128, padded[1] // 4, 32, 4, 4)
        # In a tile of 128 rows and 4 columns row r lies in line r % 32, at 4 (r // 32).
        straight = tiles.transpose(0, 3, 2, 1, 4).reshape(padded)
        return np.ascontiguousarray(straight[:rows, :columns][first:last])
    each = bits_of(shape[1:], stored.dtype) // 8
    raw = folder.read(stored.file, stored.start + first * each, stored.start + last * each)
    return (
        _decoded(raw, stored, fmt).reshape(last - first, *shape[1:]) if shape else _decoded(raw, stored, fmt)
    )
