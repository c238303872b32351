"""Safetensors files written by hand, by the format's own description: all types, and whatever is wrong."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

KINDS = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0", "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL", "complex64": "C64",
}  # fmt: skip


def safetensors(tensors: dict[str, tuple[str, Any]]) -> bytes:
    """Return a file: length of the header, header, data."""
    header, data = {}, b""
    for name, (kind, x) in tensors.items():
        header[name] = {"dtype": kind, "shape": x.shape, "data_offsets": (len(data), len(data) + x.nbytes)}
        data += x.tobytes()
    return with_header(json.dumps(header), data)


def with_header(header: str | bytes, data: bytes = b"") -> bytes:
    """Return a file of any header."""
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data


def save(path: Path, **tensors: Any) -> Path:
    """Write arrays by name, a `:` in which stands for a dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        safetensors({name.replace(":", "."): (KINDS[x.dtype.name], x) for name, x in tensors.items()})
    )
    return path


def fp8(rng: np.random.Generator, *shape: int, dtype: Any = ml_dtypes.float8_e4m3fn) -> Any:
    """Return random codes without NaN."""
    return rng.standard_normal(shape).astype(np.float32).astype(dtype)


def powers(rng: np.random.Generator, *shape: int) -> Any:
    """Return random E8M0 scales."""
    return rng.integers(110, 140, shape).astype(np.uint8).view(ml_dtypes.float8_e8m0fnu)
