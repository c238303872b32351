"""The Hadamard transform of an operand: checked, compiled where it can be, in threads."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fp8sim._support import checks
from fp8sim._support.memory import empty
from fp8sim._support.text import shown
from fp8sim._support.threads import get_num_threads, run_in_threads, split
from fp8sim._support.typing import FloatArray
from fp8sim.casts import worth_compiling
from fp8sim.reference.hadamard import hadamard_reference, hadamard_scale, sign_vector

__all__ = ["Transformed", "check_same_transform", "check_transform", "transform", "transform_text"]

LARGEST = 1 << 15  # as in Dao-AILab/fast-hadamard-transform
LEAST = 1 << 16  # elements worth handing to a thread


class Transformed(Protocol):
    """What has a Hadamard transform: how an operand is stored, or a quantised one."""

    @property
    def hadamard(self) -> int:
        """Elements of a block; 0: none."""

    @property
    def hadamard_signs(self) -> int:
        """The signs of a block, a bit for each of its elements."""


def check_transform(size: int, signs: int) -> None:
    """Refuse a block that is no power of two, and signs that it has not.

    Examples
    --------
    >>> check_transform(12, 0)
    Traceback (most recent call last):
    ValueError: hadamard must be 0 (none) or a power of two from 2 to 32768, got 12; use 8 or 16
    """
    if size and (not 2 <= size <= LARGEST or size & (size - 1)):
        low = 1 << max(size.bit_length() - 1, 1)
        near = f"; use {low} or {2 * low}" if 2 <= size < LARGEST else ""
        raise ValueError(f"hadamard must be 0 (none) or a power of two from 2 to {LARGEST}, got {size}{near}")
    if not 0 <= signs < 1 << size:
        has = f"a block of {size} has {size} bits" if size else "without hadamard there is nothing to sign"
        raise ValueError(f"hadamard_signs has a bit for each element of a block, got {shown(signs)}: {has}")


def transform_text(x: Transformed, digits: int = 8) -> str:
    """Return a transform in a few words, with a space before them; nothing where there is none.

    Of many signs the first `digits` are shown.
    """
    if not x.hadamard:
        return ""
    signs = f"{x.hadamard_signs:x}"
    more = "..." if len(signs) > digits else ""
    return f" hadamard {x.hadamard}" + (f"/0x{signs[:digits]}{more}" if x.hadamard_signs else "")


def check_same_transform(a: Transformed, b: Transformed) -> None:
    """Refuse operands of a product whose transforms are not the same, and would not cancel."""
    if (a.hadamard, a.hadamard_signs) != (b.hadamard, b.hadamard_signs):
        first, second = (transform_text(x, LARGEST).strip() or "no hadamard" for x in (a, b))
        raise ValueError(
            f"A has {first} and B has {second}, which do not cancel in the product; "
            "give both operands the same hadamard and hadamard_signs"
        )


def transform(x: FloatArray, by: Transformed, axis: int, what: str, *, inverse: bool = False) -> FloatArray:
    """Transform blocks along an axis, or back, in the dtype of `x`, as `hadamard_reference` does."""
    size, length = by.hadamard, x.shape[axis]
    if length % size:
        raise ValueError(
            f"{what} has {length} elements along the axis that is summed over, no multiple of "
            f"hadamard={size}; pad it with zeros to {-(-length // size) * size}, or leave hadamard out"
        )
    if not inverse:
        checks.finite(x, what, "a Hadamard transform would spread it over its block")
    if worth_compiling(x.size):
        out = _compiled(x, by, axis, inverse)
    else:
        out = hadamard_reference(x, size, by.hadamard_signs, axis, inverse=inverse)
    if not inverse and not np.isfinite(out).all():
        raise ValueError(
            f"{what} holds numbers so large that their Hadamard transform overflows; divide it first"
        )
    return out


def _compiled(x: FloatArray, by: Transformed, axis: int, inverse: bool) -> FloatArray:
    from fp8sim._kernels.hadamard_kernels import transform_rows

    moved = np.moveaxis(x, axis, -1)
    rows = np.ascontiguousarray(moved).reshape(-1, moved.shape[-1])
    rows.flags.writeable = False
    out = empty(rows.shape, x.dtype)
    signs = sign_vector(by.hadamard, by.hadamard_signs).astype(x.dtype)
    scale, ones = x.dtype.type(hadamard_scale(by.hadamard)), np.ones_like(signs)
    # The scale last, and a sign changes no rounding: signs on either side are those of the readable way.
    before, after = (ones, signs * scale) if inverse else (signs, ones * scale)
    height = max(1, max(LEAST, -(-rows.size // (4 * get_num_threads()))) // max(rows.shape[1], 1))
    run_in_threads(
        transform_rows, [(rows[i:j], before, after, out[i:j]) for i, j in split(len(rows), height)]
    )
    return np.asarray(np.moveaxis(out.reshape(moved.shape), -1, axis))
