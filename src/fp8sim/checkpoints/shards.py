"""Safetensors files written as they come: the header, known from shapes, and rows that threads quantise."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fp8sim._support import checks
from fp8sim._support.text import printable
from fp8sim._support.threads import run_in_threads, split
from fp8sim._support.typing import AnyArray
from fp8sim.casts import encode
from fp8sim.checkpoints.checkpoint import Checkpoint
from fp8sim.checkpoints.conversion import Item
from fp8sim.checkpoints.headers import BITS, bits_of
from fp8sim.checkpoints.targets import Shapes, Target
from fp8sim.quantization import Operand, quantize_with

__all__ = ["OnPart", "RowWriter", "ShardFile", "header_of", "writing"]

OnPart: TypeAlias = "Callable[[str, int], None]"

_PART = 1 << 21  # elements a thread has in work: 8 MiB in float32, and about as much beside
_BLOCK = 1 << 24  # bytes that are copied at a time


def header_of(tensors: Shapes) -> tuple[bytes, dict[str, int], int]:
    """Return the header of a file, where each tensor begins in it, and its bytes in all.

    Wide types come first, so that each element lies at a multiple of its size, as the safetensors package
    writes them; otherwise the order is kept.

    Examples
    --------
    >>> header, starts, size = header_of({"w": ("F8_E4M3", (2, 3)), "w_scale": ("F32", (1,))})
    >>> len(header) % 8, starts["w_scale"] - len(header), starts["w"] - len(header), size - len(header)
    (0, 0, 4, 10)
    """
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers asks for it
    offsets, at = {}, 0
    for name, (dtype, shape) in sorted(tensors.items(), key=lambda item: -BITS[item[1][0]]):
        stop = at + bits_of(shape, dtype) // 8
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, stop]}
        offsets[name], at = at, stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, {name: len(header) + offset for name, offset in offsets.items()}, len(header) + at


class ShardFile:
    """A file that threads write to, each at its own places; made by `writing`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, data: bytes | AnyArray, at: int) -> None:
        """Write all of some bytes at a place."""
        left: Any = memoryview(data if isinstance(data, bytes) else data.reshape(-1).view(np.uint8).data)
        with self._lock:
            self._stream.seek(at)
            while left:  # a disk that becomes full takes a part first, and then says so
                left = left[self._stream.write(left) :]


@contextlib.contextmanager
def writing(path: Path, size: int) -> Iterator[ShardFile]:
    """Open a file of `size` bytes to be written aside, which takes its place whole when the block ends.

    Unlike `written` the file aside has a name that the next run knows, and is written without a buffer.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder) / "m", 3) as file:
    ...         file.write(b"c", 2)
    ...         file.write(np.array([97, 98], np.uint8), 0)
    ...     (Path(folder) / "m").read_bytes()
    b'abc'
    """
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with part.open("xb", buffering=0) as stream:
            stream.truncate(size)
            yield ShardFile(stream)
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        if error.errno is None:  # not the system's: of a source, which says so itself
            raise
        raise type(error)(f"cannot write {printable(str(path))}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


class RowWriter:
    """Threads that read rows, quantise them, and write them where they belong."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: Target,
        operand: Operand,
        file: ShardFile,
        starts: dict[str, int],
        on_part: OnPart,
    ) -> None:
        self.checkpoint, self.target, self.operand = checkpoint, target, operand
        self.file, self.starts, self.on_part = file, starts, on_part

    def run(self, items: Sequence[Item]) -> None:
        """Write everything of these weights."""
        scaling = self.operand.scaling
        whole = scaling.granularity == "tensor" or scaling.scale_format == "e4m3"
        tasks, later = [], []
        for item in items:
            parts = self._parts(item)
            if whole and not item.why and len(parts) > 1:
                later.append((item, parts))
            else:
                tasks += [(item, start, stop, None) for start, stop in parts]
        run_in_threads(self._write, tasks)
        for item, parts in later:  # one number of the whole tensor decides on all scales: it comes first
            top = max(run_in_threads(self._largest, [(item, *part) for part in parts]))
            run_in_threads(self._write, [(item, *part, top) for part in parts])

    def _parts(self, item: Item) -> list[tuple[int, int]]:
        """Return ranges of rows, of whole blocks; of bytes if they are copied."""
        if item.is_copied:
            return split(item.nbytes, _BLOCK)
        shape = item.weight.shape or (1,)
        step = max(1, _PART // max(1, int(np.prod(shape[1:], dtype=object))))
        return split(shape[0], -(-step // self.target.rows) * self.target.rows)

    def _values(self, item: Item, start: int, stop: int) -> AnyArray:
        return self.checkpoint.read(item.weight.name, (start, stop) if item.weight.shape else None)

    def _largest(self, item: Item, start: int, stop: int) -> Any:
        """Return the largest magnitude of some rows, as a number of the type that they are read as."""
        name = item.weight.name
        if item.weight.layout == "plain":
            # The bits of magnitudes, without signs, are in the order of these: BF16 has 1 as 0x3f80, -2 as
            # 0xc000, whose magnitude is 0x4000. So nothing need be decoded but the largest.
            x = self.checkpoint.read(name, (start, stop), raw=True)
            word = np.dtype(f"u{x.itemsize}")
            sign = word.type(1 << (8 * x.itemsize - 1))
            top = checks.as_float((x.view(word) & ~sign).max(keepdims=True).reshape(1).view(x.dtype))[0]
        else:
            x = self._values(item, start, stop)
            top = np.maximum(x.max(), -x.min())
        if not np.isfinite(top):
            checks.finite(checks.as_float(x), _label(item, start), "a group that holds one has no scale")
        return top

    def _write(self, item: Item, start: int, stop: int, top: Any) -> None:
        name, shape = item.weight.name, item.weight.shape
        if item.is_copied:
            self.file.write(self.checkpoint.read_bytes(name, start, stop), self.starts[name] + start)
            length = item.nbytes
        else:
            x = self._values(item, start, stop)
            length = shape[0] if shape else 1
            if item.why:
                x = np.ascontiguousarray(np.swapaxes(x, -1, -2)) if item.is_transposed and x.ndim > 1 else x
                each = 2 * x.size // max(1, stop - start)
                self.file.write(encode(x, "bf16"), self.starts[name] + start * each)
            else:
                self._quantise(item, x, start, top)
        nbytes = item.source_nbytes
        self.on_part(name, nbytes * stop // max(length, 1) - nbytes * start // max(length, 1))

    def _quantise(self, item: Item, x: AnyArray, start: int, top: Any) -> None:
        rows = len(x)
        if top is not None:
            # A row more, of the largest magnitude of all rows: the one scale above is picked from that.
            more = np.zeros((1, x.shape[1]), x.dtype)
            more[0, 0] = top
            x = np.concatenate([x, more])
        q = quantize_with(x, self.operand, what=_label(item, start))
        arrays = self.target.arrays(q, rows)
        per_row = [1, self.target.rows, 0]  # rows of the weight to a row of codes, of scales; one for all
        for (name, (_, shape)), array, each in zip(item.tensors.items(), arrays, per_row, strict=False):
            at = 0
            if each and shape != (1,):
                at = start // each * (array.nbytes // max(1, len(array)))
            elif start:
                continue  # one number of the whole tensor, written with its first rows
            self.file.write(array, self.starts[name] + at)


def _label(item: Item, start: int) -> str:
    return item.weight.name + f", from row {start} on," * bool(start)
