"""What a safetensors file says of itself: a length, a JSON header, data; and what a wrong file is.

The format is that of safetensors' own README ("Format") and of ``Dtype`` in its Rust code. It is read here
and not by the safetensors package, which gives numpy neither FP8 nor 6-bit and 4-bit types nor files behind
a URL, maps whole files, and does not say what a wrong file is.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np

from fp8sim._support import memory
from fp8sim._support.text import printable, shown
from fp8sim.checkpoints.places import Folder
from fp8sim.formats import get_format

__all__ = ["BITS", "Header", "Stored", "bits_of", "load_json", "numpy_type", "read_header"]

#: Bits of an element of each type of the format.
BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "I64": 64, "U64": 64, "I32": 32, "U32": 32,
    "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "C64": 64,
}  # fmt: skip
_LONGEST = 100_000_000  # bytes of a header: the limit of the safetensors package (MAX_HEADER_SIZE)
_AXES = 30  # numpy 1.26 has 32, and groups of a scale take one more
_LARGEST = 2**63  # elements and bytes of a tensor: more is no size


class Stored(NamedTuple):
    """One tensor as it is stored."""

    name: str
    dtype: str  #: as the format calls it: ``F8_E4M3``
    shape: tuple[int, ...]
    file: str
    start: int  #: of its bytes in the file
    stop: int

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return self.stop - self.start


class Header(NamedTuple):
    """What the header of a file says."""

    tensors: dict[str, Stored]
    metadata: dict[str, str]


def numpy_type(dtype: str) -> np.dtype[Any]:
    """Return the type of one unpacked element, in the byte order of files.

    Examples
    --------
    >>> numpy_type("BF16"), numpy_type("F4"), numpy_type("U16")
    (dtype(bfloat16), dtype(float4_e2m1fn), dtype('uint16'))
    """
    plain = {"F64": "<f8", "C64": "<c8", "BOOL": "?"}
    if dtype in plain or dtype[0] in "IU":
        return np.dtype(plain.get(dtype) or f"<{dtype[0].lower()}{BITS[dtype] // 8}")
    return get_format(dtype).dtype


def bits_of(shape: tuple[int, ...], dtype: str) -> int:
    """Return the bits that so many elements take.

    Examples
    --------
    >>> bits_of((3, 5), "F4")
    60
    """
    size = BITS[dtype]
    for length in shape:
        size *= length
    return size


def read_header(folder: Folder, name: str) -> Header:
    """Read the header of a file, and hold that it describes the file to the last byte.

    Raises
    ------
    ValueError
        If it is no safetensors file, is cut off, or contradicts itself; the message says which.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as path:
    ...     _ = (Path(path) / "m.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    ...     read_header(Folder(Path(path)), "m.safetensors")
    Header(tensors={}, metadata={})
    """
    label, size = folder.label(name), folder.size(name)
    head = folder.read(name, 0, min(size, 512)).tobytes()
    wrong = _what_else(head, name)
    if wrong:
        raise ValueError(f"{label} {wrong}")
    length = int.from_bytes(head[:8], "little")
    if size < 8:
        raise _damaged(label, f"it has {size} bytes, and the length of its header alone takes 8")
    if length == 0 and not any(head):
        raise _damaged(label, "it begins with zeros, as a file does whose download was not finished")
    if length > _LONGEST:
        raise _damaged(
            label, f"its first 8 bytes announce a header of {length} bytes, beyond the limit of 100 MB"
        )
    if 8 + length > size:
        raise _damaged(
            label, f"it is cut off: a header of {length} bytes is announced, and {size - 8} are there"
        )
    memory.require(20 * length, f"the header of {label}")
    text = folder.read(name, 8, 8 + length).tobytes()
    if text[:1] != b"{":
        raise _damaged(label, "its header does not begin with '{'")
    entries = load_json(text, f"{label} is no readable safetensors file: its header")
    return _checked(entries, label, name, 8 + length, size)


def load_json(text: bytes, what: str) -> dict[str, Any]:
    """Read an object of JSON that no one has checked; whatever is wrong with it is a ValueError.

    Examples
    --------
    >>> load_json(b'{"a": 1, "a": 2}', "config.json")
    Traceback (most recent call last):
    ValueError: config.json has the key 'a' twice
    """
    if text[:3] == b"\xef\xbb\xbf" or text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{what} begins with a byte order mark; save it as UTF-8 without one")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for key, value in pairs:
            if key in entries:
                raise _Twice(key)
            entries[key] = value
        return entries

    def constant(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except _Twice as error:
        raise ValueError(f"{what} has the key {shown(error.args[0])} twice") from None
    except UnicodeDecodeError:
        raise ValueError(f"{what} is no UTF-8 text") from None
    except (ValueError, RecursionError) as error:  # also of whole numbers of thousands of digits
        why = "it is nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ValueError(printable(f"{what} is no readable JSON: {why}")) from None
    if not isinstance(entries, dict):
        raise ValueError(f"{what} is no JSON object: {shown(entries)}")
    return entries


class _Twice(Exception):
    """A key of an object that stands in it twice."""


def _checked(entries: dict[str, Any], label: str, file: str, begin: int, size: int) -> Header:
    """Check every entry of a header, and that tensors fill the data without gap or overlap."""
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(label, "its __metadata__ must be texts by name")
    tensors = {name: _entry(name, entry, label, file, begin) for name, entry in entries.items()}
    end, last = begin, ""
    for one in sorted(tensors.values(), key=lambda one: (one.start, one.stop)):
        if one.start != end:
            where = (
                f"tensors {shown(last)} and {shown(one.name)}"
                if last
                else f"the header and {shown(one.name)}"
            )
            what = (
                "overlap"
                if one.start < end
                else f"have {one.start - end} bytes between them that are no tensor's"
            )
            raise _damaged(label, f"{where} {what}")
        end, last = one.stop, one.name
        if end > size:
            raise _damaged(
                label, f"it is cut off: tensor {shown(last)} ends at byte {end}, and the file at {size}"
            )
    if end != size:
        raise _damaged(label, f"{size - end} bytes after its last tensor belong to none")
    return Header(tensors, metadata)


def _entry(name: str, entry: Any, label: str, file: str, begin: int) -> Stored:
    """Return one checked entry of a header."""
    try:
        return _described(name, entry, file, begin)
    except ValueError as error:
        raise _damaged(label, f"tensor {shown(name)} {error}") from None


def _described(name: str, entry: Any, file: str, begin: int) -> Stored:
    """Return one checked entry of a header, or raise what is wrong with it, its name left out."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError(f"needs dtype, shape and data_offsets, got {shown(entry)}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ValueError(f"is of type {shown(dtype)}; the format has {', '.join(BITS)}")
    if not _counts(shape) or len(shape) > _AXES or math.prod(length for length in shape if length) > 2**58:
        raise ValueError(f"has no shape: {shown(shape)}")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"has no data_offsets: {shown(offsets)}")
    bits = bits_of(tuple(shape), dtype)
    if bits >= 8 * _LARGEST or -(-bits // 8) != offsets[1] - offsets[0] or bits % 8:
        raise ValueError(
            f"of type {dtype} and shape {shown(shape)} takes {bits / 8:.15g} bytes, and its "
            f"data_offsets are {offsets[1] - offsets[0]} apart"
        )
    return Stored(name, dtype, tuple(shape), file, begin + offsets[0], begin + offsets[1])


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) is int and 0 <= one < _LARGEST for one in values)


def _damaged(label: str, why: str) -> ValueError:
    return ValueError(f"{label} is no readable safetensors file: {why}")


#: How other files begin -> what they are.
_STARTS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs.github.com/spec/",
        "is a Git LFS pointer, not the file it stands for; fetch that with git lfs pull",
    ),
    (b"GGUF", "is a GGUF file; read the model's safetensors files"),
    (b"\x93NUMPY", "is an .npy file; read it with fp8sim.checkpoints.read_array"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes; convert it to safetensors first"),
    (b"\x1f\x8b", "is a gzip archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is a zstd archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it first"),
    (b"\xfd7zXZ\0", "is an xz archive; unpack it first"),
    (b"\x89PNG", "is a picture"),
    (b"%PDF", "is a PDF"),
    (b"ggml", "is a GGML file; read the model's safetensors files"),
    (b"lmgg", "is a GGML file; read the model's safetensors files"),
    (b"tjgg", "is a GGML file; read the model's safetensors files"),
    (b"\xef\xbb\xbf", "begins with the byte order mark of a text; a safetensors file begins with a length"),
    (b"\xff\xfe{", "is a text in UTF-16, no safetensors file"),
    (b"\xff\xfe{\0", "is a text in UTF-16, no safetensors file"),
)
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_PICKLE = (
    "looks like a pickle checkpoint, which can run code when it is loaded, so it is not; "
    "convert it to safetensors first"
)


def _what_else(head: bytes, name: str) -> str:
    """Say what a file is that begins like this, if it is no safetensors file."""
    # A header of 0x..80 bytes begins like a pickle, one of 0x8B1F like gzip; but has "{" in ninth place.
    if name.lower().endswith(_PICKLES):
        return _PICKLE
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST:
        return ""
    if head[:1] == b"\x80" or head[:4] == b"PK\x03\x04":
        return _PICKLE
    for start, what in _STARTS:
        if head.startswith(start):
            return what
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        return "is a web page, such as a server sends in place of a file; download the file itself"
    if text.startswith(b"{"):
        index = b"weight_map" in text or name.lower().endswith(".index.json")
        return (
            "is an index of shards, not a tensor file; give it the name model.safetensors.index.json"
            if index
            else "is JSON text, no safetensors file"
        )
    if len(head) > 256 and head[257:262] == b"ustar":
        return "is a tar archive; unpack it first"
    if 0 < len(head) < 512 and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"is no readable safetensors file: it is a short text, {shown(head.decode()[:60])}"
    return ""
