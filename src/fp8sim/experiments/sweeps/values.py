"""Values of a sweep as data: what stands in a row, and how a file spells it."""

from __future__ import annotations

import json
import math
import os
from typing import Any, TypeAlias

import numpy as np

from fp8sim._support.text import shown

__all__ = ["Point", "Scalar", "canonical", "from_json", "plain", "to_json"]

Scalar: TypeAlias = "bool | int | float | str | None"
Point: TypeAlias = "dict[str, Any]"  # argument -> value

_BITS = 1024  # of a whole number at most: Python reads no number of more than 4,300 digits
#: Numbers that JSON lacks, as the JSON mapping of Protocol Buffers spells them
#: (protobuf.dev/programming-guides/json, float and double).
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any) -> Scalar:
    """Return a value as it stands in a row: a number, text, True, False or None; by its name what has one.

    Examples
    --------
    >>> import fp8sim
    >>> plain(np.float32(0.5)), plain(fp8sim.get_recipe("mxfp8")), plain("NaN")
    (0.5, 'mxfp8', nan)
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a scalar of numpy, ml_dtypes or torch
        value = value.item()
    if isinstance(value, np.floating):  # a long double has no item of Python's
        value = float(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > _BITS:
            raise ValueError(f"{shown(value)} is too large for a row; pass a float")
        return int(value)
    if isinstance(value, float):
        return math.nan if value != value else float(value)  # one NaN, which is then a key like any other
    if isinstance(value, (str, os.PathLike)):
        return _NUMBERS.get(str(value), str(value))  # as it comes back from a file
    name = getattr(value, "name", None)
    if isinstance(name, str):
        return name
    raise TypeError(
        f"{shown(value)} is no number, text, True, False or None, and has no name; pass one of these"
    )


def to_json(data: Any) -> str:
    """Write rows and points as strict JSON in one line.

    Examples
    --------
    >>> to_json({"x": math.inf, "y": 0.1})
    '{"x": "Infinity", "y": 0.1}'
    """
    try:
        return json.dumps(data, allow_nan=False)
    except ValueError:
        return json.dumps(_spelled(data), allow_nan=False)


def from_json(text: str | bytes) -> Any:
    """Read what `to_json` wrote; raise ValueError where it is something else.

    Examples
    --------
    >>> from_json('{"x": "Infinity", "y": 0.1}')
    {'x': inf, 'y': 0.1}
    """
    return json.loads(text, object_hook=_numbers)


def canonical(point: Point) -> str:
    """Return what a point is known by: its canonical JSON, whatever the order of its arguments.

    Examples
    --------
    >>> canonical({"k": 256, "core": "hopper-fp8"})
    '{"core": "hopper-fp8", "k": 256}'
    """
    return to_json({name: plain(point[name]) for name in sorted(point)})


def _spelled(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _spelled(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_spelled(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return next(text for text, x in _NUMBERS.items() if x == data or (x != x and data != data))
    return data


def _numbers(data: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _NUMBERS.get(value, value) if isinstance(value, str) else value for key, value in data.items()
    }
