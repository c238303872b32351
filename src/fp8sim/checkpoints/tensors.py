"""Tensors from a safetensors checkpoint, read without loading the rest of the file."""

from __future__ import annotations

import difflib
import json
import tokenize
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fp8sim._support import checks
from fp8sim._support.files import check_source
from fp8sim._support.text import printable, shown
from fp8sim._support.typing import AnyArray, FloatArray
from fp8sim.formats import get_format
from fp8sim.quantization import scales_shape
from fp8sim.reference.scales import expand_groups

__all__ = ["read_array", "read_tensor", "tensor_names"]

#: safetensors' name -> format, of what it has no numpy type for and stores one code a byte.
_CODES = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def read_tensor(path: str | Path, name: str) -> FloatArray:
    """Read one tensor of a safetensors file, with all of its digits.

    A tensor that has 128x128 block scales beside it under the name ``<name>_scale_inv``
    (deepseek-ai/DeepSeek-V3, README_WEIGHTS.md) is multiplied by them.

    Parameters
    ----------
    path : str or Path
        The file. Pickle checkpoints are refused, never loaded: a pickle can run code.
    name : str
        Name of the tensor.

    Returns
    -------
    array
        The values: float32, and float64 of an F64 tensor and of integers.

    Raises
    ------
    ModuleNotFoundError
        If safetensors is not installed.
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no readable safetensors file or holds no such tensor; the message lists close names.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "model.safetensors"
    ...     save_file({"w": np.eye(2, dtype=np.float16)}, file)
    ...     read_tensor(file, "w")
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    with _open(path) as file:
        names = list(file.keys())
        if name not in names:
            raise ValueError(_no_tensor(str(path), name, names))
        values = checks.as_float(_get(file, Path(path), name), name)
        scales = f"{name}_scale_inv"  # DeepSeek's layout; the multiplier, in spite of its name
        if scales not in names:
            return values
        blocks = checks.as_float(_get(file, Path(path), scales), scales)
    if values.ndim != 2 or blocks.shape != scales_shape("128x128", values.shape):
        raise ValueError(
            printable(f"{path}: {scales} has shape {blocks.shape}, not one scale per 128x128 of {name}")
        )
    return np.asarray(values * expand_groups(blocks, (128, 128), values.shape))


def tensor_names(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a safetensors file, by name.

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError, ValueError
        As `read_tensor`.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"w": np.ones((3, 2))}, Path(folder) / "model.safetensors")
    ...     tensor_names(Path(folder) / "model.safetensors")
    {'w': (3, 2)}
    """
    with _open(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}


def read_array(path: str | Path) -> AnyArray:
    """Read an ``.npy`` file; object arrays are refused, since they are pickles.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no ``.npy`` file or holds objects.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "x.npy", np.arange(3.0))
    ...     read_array(Path(folder) / "x.npy")
    array([0., 1., 2.])
    """
    file = check_source(path)
    try:
        with warnings.catch_warnings():  # of a header as Python 2 wrote it, which is read all the same
            warnings.simplefilter("ignore", UserWarning)
            array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, tokenize.TokenError) as error:  # the header is Python
        why = (
            "it holds something else" if "allow_pickle" in str(error) else error
        )  # never that: it can run code
        raise ValueError(printable(f"{path} is no readable .npy file of numbers: {why}")) from None
    if not isinstance(array, np.ndarray):
        raise ValueError(printable(f"{path} is an archive of arrays; save the one you mean with np.save"))
    return array


@contextmanager
def _open(path: str | Path) -> Iterator[Any]:
    file = check_source(path)
    if file.suffix.lower() in _PICKLES or _starts_like_pickle(file):
        raise ValueError(
            f"{printable(str(path))} looks like a pickle checkpoint, which can run code when it is loaded, "
            "so it is not; convert it to safetensors first"
        )
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "reading checkpoints needs safetensors: pip install 'fp8sim[checkpoint]'"
        ) from None
    try:
        handle = safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ValueError(printable(f"{path} is no readable safetensors file: {error}")) from None
    with handle as opened:
        yield opened


def _get(file: Any, path: Path, name: str) -> AnyArray:
    """Read a tensor as it is stored."""
    kind = file.get_slice(name).get_dtype()
    if kind in ("F4", "F6_E2M3", "F6_E3M2"):
        raise ValueError(
            f"{printable(str(path))}: tensor {shown(name)} is of type {kind}, codes packed into bytes: "
            "not read so far"
        )
    try:
        if kind in _CODES:
            flat = _read_bytes(path, name).view(get_format(kind).dtype)
            return np.asarray(flat.reshape(file.get_slice(name).get_shape()))
        return np.asarray(file.get_tensor(name))
    except Exception as error:  # the Rust side raises types of its own
        raise ValueError(printable(f"{path}: cannot read tensor {name!r} of type {kind}: {error}")) from None


def _read_bytes(path: Path, name: str) -> AnyArray:
    """Read the bytes of a tensor: 8 bytes of header length, a JSON header with offsets, the data."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        begin, end = json.loads(stream.read(length))[name]["data_offsets"]
        stream.seek(8 + length + begin)
        return np.frombuffer(stream.read(end - begin), np.uint8)


def _starts_like_pickle(file: Path) -> bool:
    """Whether a file begins as a pickle, or as the zip archive that torch.save writes."""
    with file.open("rb") as stream:
        head = stream.read(9)
    # A safetensors file may begin with 0x80 too (its header's length), but has "{" in ninth place.
    return (head[:1] == b"\x80" and head[8:] != b"{") or head[:4] == b"PK\x03\x04"


def _no_tensor(path: str, name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=5, cutoff=0.3)
    close += [n for n in names if name in n and n not in close][: 5 - len(close)]
    listed = ", ".join(close or names[:5])
    return printable(f"{path} holds no tensor {shown(name)} among its {len(names)}; close names: {listed}")
