"""How far rows are from what they became: sums of squares of each row, in an order that nothing can change.

A row is added up in `LANES` running sums, element i in sum ``i % LANES``, which are then folded in halves.
That order is one of the row alone: neither the rows around it nor threads nor vector units have a say.
"""

from __future__ import annotations

import numpy as np

from fp8sim._support.products import LANES
from fp8sim._support.typing import F64, FloatArray

__all__ = ["square_sums"]


def square_sums(x: FloatArray, y: FloatArray | None = None) -> F64:
    """Return the sum of squares of each row of ``x - y``, or of `x`, in float64.

    Examples
    --------
    >>> square_sums(np.float32([[1, 2, 2], [0, 3, 4]]))
    array([ 9., 25.])
    >>> square_sums(np.float32([[1, 2, 2]]), np.float32([[1, 2, 1]]))
    array([1.])
    """
    difference = x.astype(np.float64) if y is None else x.astype(np.float64) - y
    rows, columns = x.shape
    padded = np.zeros((rows, -(-columns // LANES), LANES))  # adding 0 changes no sum of squares
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        padded.reshape(rows, padded.shape[1] * LANES)[:, :columns] = difference * difference
        lanes = np.zeros((rows, LANES))
        for block in range(padded.shape[1]):
            lanes += padded[:, block]
        width = LANES
        while width > 1:
            width //= 2
            lanes = lanes[:, :width] + lanes[:, width:]
    return lanes[:, 0]
