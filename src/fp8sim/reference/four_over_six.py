"""Four over six, written to be read: each block of NVFP4 takes the better of two scales."""

from __future__ import annotations

import numpy as np

from fp8sim._support.typing import F32, AnyArray
from fp8sim.formats import FORMATS
from fp8sim.reference.codes import decode_table
from fp8sim.reference.rounding import round_reference
from fp8sim.reference.scales import Scales, apply_scales, expand_groups

__all__ = ["BLOCK", "DENOMINATOR", "choose", "fold_rows", "row_errors"]

BLOCK = 16  #: elements of a block along the reduction axis, and across it in 16x16
DENOMINATOR = np.float32(6 * 256)  #: amax of the tensor becomes this, the largest element and scale


def row_errors(x: F32, scales: Scales, sizes: tuple[int, ...], top: np.float32, axis: int, rule: str) -> F32:
    """Return the error of each row of each block, `axis` moved to the end, each operation rounded to FP32.

    An element comes back as ``element * scale * top / 1536``, `top` being the largest of the tensor;
    the sixteen errors are added in order.

    Examples
    --------
    >>> x = np.float32([[6, 4.9] + [0] * 14])
    >>> scales = Scales(np.ones((1, 1), np.float32), np.array([[0x38]], np.uint8))
    >>> row_errors(x, scales, (1, 16), np.float32(1536), -1, "4over6")  # 4.9 became 4
    array([[0.9000001]], dtype=float32)
    """
    elements = round_reference(apply_scales(x, scales, sizes), FORMATS["e2m1"], "nearest-even", "saturate")
    inside = decode_table(FORMATS["e4m3"])[scales.codes.view(np.uint8)]
    with np.errstate(over="ignore", under="ignore"):
        back = elements * expand_groups(inside, sizes, x.shape) * top / DENOMINATOR
        errors = np.moveaxis(np.abs(back - x), axis, -1)
        errors = np.square(errors) if rule == "4over6-mse" else errors
    padding = [(0, 0)] * (x.ndim - 1) + [(0, -errors.shape[-1] % BLOCK)]
    blocks = np.pad(errors, padding).reshape(*errors.shape[:-1], -1, BLOCK)
    total = np.zeros(blocks.shape[:-1], np.float32)
    with np.errstate(over="ignore"):
        for place in range(BLOCK):  # in order: np.sum adds in another
            total += blocks[..., place]
    return total


def fold_rows(errors: F32) -> F32:
    """Add the errors of sixteen rows at a time, in halves, as the threads of a warp do.

    Examples
    --------
    >>> fold_rows(np.ones((17, 1), np.float32))
    array([[16.],
           [ 1.]], dtype=float32)
    """
    padding = [(0, 0)] * (errors.ndim - 2) + [(0, -errors.shape[-2] % BLOCK), (0, 0)]
    rows = np.pad(errors, padding).reshape(*errors.shape[:-2], -1, BLOCK, errors.shape[-1])
    while rows.shape[-2] > 1:
        half = rows.shape[-2] // 2
        with np.errstate(over="ignore"):
            rows = rows[..., :half, :] + rows[..., half:, :]
    return np.asarray(rows[..., 0, :])


def choose(six: Scales, four: Scales, better: AnyArray) -> Scales:
    """Take the scales of `four` where it is `better`, else those of `six`.

    Examples
    --------
    >>> one, two = (Scales(np.float32([x]), np.array([x], np.uint8)) for x in (1, 2))
    >>> choose(one, two, np.array([True])).values
    array([2.], dtype=float32)
    """
    codes = np.where(better, four.codes.view(np.uint8), six.codes.view(np.uint8)).view(six.codes.dtype)
    values, multipliers = np.where(better, four.values, six.values), None
    if six.multipliers is not None and four.multipliers is not None:
        multipliers = np.where(better, four.multipliers, six.multipliers)
    return Scales(values, codes, six.tensor_scale, multipliers)
