"""The Hadamard transform of blocks along an axis, written to be read: butterflies in a fixed order."""

from __future__ import annotations

import math

import numpy as np

from fp8sim._support.typing import AnyArray, FloatArray

__all__ = ["hadamard_reference", "hadamard_scale", "sign_vector"]


def sign_vector(size: int, signs: int) -> AnyArray:
    """Return the signs of a block, -1 for the elements whose bit of `signs` is set, the lowest bit first.

    Those of TransformerEngine (``get_wgrad_sign_vector``) are 0xD7E8, the mask that its kernels take.

    Examples
    --------
    >>> sign_vector(16, 0xD7E8).tolist()
    [1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1]
    """
    return np.array([-1 if signs >> i & 1 else 1 for i in range(size)], np.int8)


def hadamard_scale(size: int) -> float:
    """Return 1 / sqrt(size), which makes a transform orthonormal: of a power of four a power of two.

    Examples
    --------
    >>> hadamard_scale(16), round(hadamard_scale(128), 6)
    (0.25, 0.088388)
    """
    return 1 / math.sqrt(size)


def hadamard_reference(
    x: FloatArray, size: int, signs: int = 0, axis: int = -1, *, inverse: bool = False
) -> FloatArray:
    """Multiply blocks of `size` along an axis by S H / sqrt(size), or by its inverse H S / sqrt(size).

    H is Sylvester's matrix, S the diagonal of `sign_vector`. A stage adds and subtracts elements that are
    1, 2, 4, ... apart, each sum rounded to the dtype of `x`; the last step multiplies by the scale, rounded
    to that dtype. Sums of few bits are exact, and so is the scale of a power of four.

    Examples
    --------
    >>> hadamard_reference(np.float32([1, 2, 3, 4]), 4)
    array([ 5., -1., -2.,  0.], dtype=float32)
    """
    moved = np.moveaxis(x, axis, -1)
    blocks = moved.reshape(-1, size)
    flips = sign_vector(size, signs).astype(x.dtype)
    if not inverse:
        blocks = blocks * flips
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        stride = 1
        while stride < size:
            pairs = blocks.reshape(-1, size // (2 * stride), 2, stride)
            low, high = pairs[:, :, :1], pairs[:, :, 1:]
            blocks = np.concatenate([low + high, low - high], axis=2).reshape(-1, size)
            stride *= 2
        blocks = blocks * x.dtype.type(hadamard_scale(size))
    if inverse:
        blocks = blocks * flips
    return np.asarray(np.moveaxis(blocks.reshape(moved.shape), -1, axis))
