"""A checkpoint: the weights of a file, a folder, an index or a URL, each read by rows and with its scales."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fp8sim._support import memory
from fp8sim._support.quantities import bytes_text, count_text
from fp8sim._support.results import Part, Result
from fp8sim._support.tables import Table
from fp8sim._support.text import printable, shown
from fp8sim._support.typing import AnyArray, FloatArray
from fp8sim.checkpoints.config import Config
from fp8sim.checkpoints.decoding import Coded, read_coded, read_codes, read_values
from fp8sim.checkpoints.headers import BITS, Header, Stored, load_json, read_header
from fp8sim.checkpoints.places import Folder, HeldFolder
from fp8sim.checkpoints.plans import (
    Plan,
    Refused,
    as_matrix_plan,
    find_plan,
    is_companion,
    neighbours,
    owners,
    plain_plan,
    refusal,
)

__all__ = ["Checkpoint", "Tensor"]

Rows: TypeAlias = "slice | range | tuple[int, int] | None"


@dataclass(frozen=True)
class Tensor:
    """A weight of a checkpoint, as its header and those of its scales describe it."""

    name: str
    shape: tuple[int, ...]
    format: str  #: of the elements: ``bf16``, ``e4m3``, ``e2m1``, ``int8``
    granularity: str  #: who shares a scale: ``tensor``, ``row``, ``128x128``; "" without scales
    scale_format: str  #: ``fp32``, ``e8m0``, ``e4m3``
    layout: str  #: the spelling it was recognised by; ``plain``
    nbytes: int  #: of the codes or values
    scale_nbytes: int  #: of the scales
    refused: str = ""  #: why its values cannot be read


class Checkpoint(Result):
    """The weights of a checkpoint, by name; made by `open_checkpoint`.

    Scales, zero points and remarks belong to their weight and are no weights of their own, but `read` takes
    their names too. A packed weight goes by the name that it has unpacked: ``q.weight``, not
    ``q.weight_packed``.

    Attributes
    ----------
    stored : dict
        Everything that is stored in the files of the source, by name.
    source : str
        Where it lies.
    config : Config
        What the configuration beside it says of its quantisation.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from safetensors.numpy import save_file
    >>> from fp8sim.checkpoints import open_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"w": np.eye(3, dtype=np.float16)}, Path(folder) / "model.safetensors")
    ...     checkpoint = open_checkpoint(folder)
    ...     checkpoint.names, checkpoint["w"].format, checkpoint.read("w", rows=(1, 2))
    (('w',), 'fp16', array([[0., 1., 0.]], dtype=float32))
    """

    def __init__(
        self,
        folder: Folder,
        headers: Mapping[str, Header],
        siblings: Sequence[str],
        config: Config,
        source: str,
    ) -> None:
        self.source = source
        self.config = config
        self._folder = folder
        self._sibling_files = siblings
        self._without: list[str] = []  # siblings that cannot be read
        self.stored: dict[str, Stored] = {}
        for file, header in headers.items():
            for name, one in header.tensors.items():
                if name in self.stored:
                    there = self.stored[name].file
                    raise ValueError(
                        printable(
                            f"{source}: tensor {shown(name)} is in {there} and in {file}; name one of them"
                        )
                    )
                self.stored[name] = one
        self._plans: dict[str, Plan | Refused] = {}
        weights = {
            self._name(one): one.name for one in self.stored.values() if not self._is_companion(one.name)
        }
        self._codes = {name: weights[name] for name in sorted(weights)}

    # --- what there is --------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The weights, in order."""
        return tuple(self._codes)

    @cached_property
    def layout(self) -> str:
        """The spelling of the quantised weights, such as ``deepseek``; several are joined by plus signs."""
        found = dict.fromkeys(one.layout for one in self if one.layout not in ("plain", ""))
        return " + ".join(found) or "plain"

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is stored."""
        return sum(one.nbytes for one in self.stored.values())

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all that the headers say: names, types, shapes and places."""
        lines = "\n".join(repr(tuple(self.stored[name])) for name in sorted(self.stored))
        return hashlib.sha256(lines.encode(errors="backslashreplace")).hexdigest()[:16]

    @cached_property
    def changed(self) -> str:
        """A digest of when the files were written: another once one has been written anew."""
        files = sorted({one.file for one in self.stored.values()})
        lines = "\n".join(f"{file} {self._folder.changed(file)}" for file in files)
        return hashlib.sha256(lines.encode(errors="backslashreplace")).hexdigest()[:16]

    def __len__(self) -> int:
        """Return the number of weights."""
        return len(self._codes)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield what is known of each weight, in order of names."""
        return (self[name] for name in self._codes)

    def __contains__(self, name: object) -> bool:
        """Whether there is a weight or a stored tensor of this name."""
        return name in self._codes or name in self.stored

    def __getitem__(self, name: str) -> Tensor:
        """Return what the headers say of a weight.

        Raises
        ------
        ValueError
            If there is none of this name; the message lists close names.
        """
        stored = self._stored(name)
        plan = self._plan(stored)
        if isinstance(plan, Refused):
            plain = replace(plain_plan(stored), layout="")
            return _described(name, plain, self._refusal(stored, plan.why))
        return _described(name, plan)

    def place(self, name: str) -> Stored:
        """Return where the codes or values of a weight, or anything else that is stored, lie in which file.

        Raises
        ------
        ValueError
            If there is none of this name; the message lists close names.
        """
        return self._stored(name)

    def read_bytes(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        """Return some of the bytes of the codes or values of a weight, as they are stored."""
        stored = self._stored(name)
        return self._folder.read(stored.file, stored.start + start, stored.start + stop)

    # --- reading --------------------------------------------------------------------------------------

    def read(self, name: str, rows: Rows = None, *, raw: bool = False) -> AnyArray:
        """Read a tensor, or some of its rows and nothing else of it.

        Parameters
        ----------
        name : str
            A weight, or anything else that is stored.
        rows : slice, range or (start, stop), optional
            Which entries of the first axis, without steps; all unless given.
        raw : bool
            Give what is stored, without scales, in the type that the file says: codes for FP8, bytes for what
            is packed in bytes.

        Returns
        -------
        array
            The values: float32, each code times its scale rounded once; float64 of F64 and of integers of 32
            and 64 bits, which lose nothing either.

        Raises
        ------
        ValueError
            If there is no such tensor or row, if these are codes whose scales were not found or do not
            fit, or if the file has changed.
        TypeError
            If an argument is of another kind.

        Examples
        --------
        >>> import tempfile, numpy as np
        >>> from pathlib import Path
        >>> from safetensors.numpy import save_file
        >>> from fp8sim.checkpoints import open_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     codes, scale = np.array([[2, -3]], np.int8), np.array([[0.5]], np.float32)
        ...     save_file({"w": codes, "w_scale": scale}, Path(folder) / "model.safetensors")
        ...     checkpoint = open_checkpoint(folder)
        ...     checkpoint.read("w"), checkpoint.read("w", raw=True)
        (array([[ 1. , -1.5]], dtype=float32), array([[ 2, -3]], dtype=int8))
        """
        stored = self._stored(name)
        if raw:
            start, stop = _bounds(rows, stored.shape, name)
            memory.require(
                _share(stored.shape, start, stop) * max(1, BITS[stored.dtype] // 8), f"tensor {name}"
            )
            return read_codes(self._folder, stored, start, stop)
        plan = self._readable(stored)
        start, stop = _bounds(rows, plan.shape, name)
        memory.require(4 * _share(plan.shape, start, stop), f"tensor {name}")
        return read_values(self._folder, plan, start, stop)

    def take_apart(self, name: str, lines: Rows = None) -> Coded:
        """Read the codes of some lines of a weight, one an element, and the scales of their groups.

        Of a weight that is its own values nothing is read, and there are none. Lines are rows of the last
        axis, those of all matrices of a stack counted through. Errors are those of `read`.

        Examples
        --------
        >>> import tempfile, numpy as np
        >>> from pathlib import Path
        >>> from safetensors.numpy import save_file
        >>> from fp8sim.checkpoints import open_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     codes, scale = np.array([[2, -3], [5, 7]], np.int8), np.array([[0.5], [0.25]], np.float32)
        ...     save_file({"w": codes, "w_scale": scale}, Path(folder) / "model.safetensors")
        ...     apart = open_checkpoint(folder).take_apart("w", lines=(1, 2))
        >>> apart.format, apart.codes, apart.scales, apart.columns
        ('int8', array([[5, 7]], dtype=int8), array([[0.25]], dtype=float32), 2)
        """
        plan = self._readable(self._stored(name))
        shape = (_share(plan.shape[:-1], 0, plan.shape[0]) if len(plan.shape) > 1 else 1, *plan.shape[-1:])
        start, stop = _bounds(lines, shape, name)
        memory.require(2 * _share(shape, start, stop), f"tensor {name}")
        return read_coded(self._folder, plan, start, stop)

    def _readable(self, stored: Stored) -> Plan:
        """Return how the values of a tensor are read, or refuse it."""
        plan = self._plan(stored)
        if isinstance(plan, Refused):
            raise ValueError(self._refusal(stored, plan.why))
        self._check_remarks(plan)
        return plan

    def hold(self, name: str, start: int, stop: int) -> Callable[[int, int], FloatArray]:
        """Hold rows of a weight in memory as they are stored, and return what gives values of any of them.

        A stack of matrices, as of experts, is one of all their rows here; what is stored is read once.

        Parameters
        ----------
        name : str
            A weight of two axes or more.
        start, stop : int
            Which rows of the matrix, or of all matrices of the stack.

        Returns
        -------
        callable
            Takes two places from `start` to `stop`; returns values as `read` does, of two axes.

        Examples
        --------
        >>> import tempfile, numpy as np
        >>> from pathlib import Path
        >>> from safetensors.numpy import save_file
        >>> from fp8sim.checkpoints import open_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stack = np.arange(12, dtype=np.float16).reshape(3, 2, 2)
        ...     save_file({"w": stack}, Path(folder) / "m.safetensors")
        ...     open_checkpoint(folder).hold("w", 1, 6)(3, 5)
        array([[6., 7.],
               [8., 9.]], dtype=float32)
        """
        plan = self._readable(self._stored(name))
        matrix = as_matrix_plan(plan)
        if matrix is None:  # whole matrices, decoded
            rows = math.prod(plan.shape[1:-1])
            first = start // rows
            values = read_values(self._folder, plan, first, -(-stop // rows)).reshape(-1, plan.shape[-1])
            return lambda i, j: values[i - first * rows : j - first * rows]
        codes = matrix.codes
        each = codes.nbytes // max(codes.shape[0], 1)
        exact = each * codes.shape[0] == codes.nbytes  # rows of 4-bit elements may end within a byte
        where = (
            (codes.start + start * each, codes.start + stop * each) if exact else (codes.start, codes.stop)
        )
        held = HeldFolder(self._folder, codes.file, *where)
        return lambda i, j: read_values(held, matrix, i, j)

    def _stored(self, name: str) -> Stored:
        if not isinstance(name, str):
            raise TypeError(f"the name of a tensor must be text, got {shown(name)}")
        found = self.stored.get(self._codes.get(name, name))
        if found is None:
            raise ValueError(_no_tensor(self.source, name, list(dict.fromkeys([*self._codes, *self.stored]))))
        return found

    def _name(self, stored: Stored) -> str:
        """Return the name that a weight goes by: its own if the unpacked one is another's."""
        name = _weight_name(stored)
        return stored.name if name in self.stored else name

    def _plan(self, stored: Stored) -> Plan | Refused:
        """Return how a stored tensor is read, worked out once."""
        if stored.name not in self._plans:
            self._plans[stored.name] = self._worked_out(stored)
        return self._plans[stored.name]

    def _worked_out(self, stored: Stored) -> Plan | Refused:
        if stored.dtype == "C64":
            return Refused("complex numbers are no weights of a matrix product")
        if self._is_companion(stored.name):
            return self._companion_plan(stored)
        return find_plan(stored, self._find, self.config)

    def _companion_plan(self, stored: Stored) -> Plan:
        """Return how scales are read: codes of a byte as those that they are, what is wider as it is."""
        if BITS[stored.dtype] > 8:
            return plain_plan(stored)
        for name in owners(stored.name):
            owner = self._find(name)
            if owner is not None and owner.name != stored.name:
                plan = self._plan(owner)
                if isinstance(plan, Plan) and plan.scale is not None and plan.scale.name == stored.name:
                    return Plan("scale", stored, stored.shape, plan.scale_format)
        plain = plain_plan(stored)
        return Plan("scale", stored, stored.shape, plain.element) if _is_fp8(stored) else plain

    def _is_companion(self, name: str) -> bool:
        return name == "scaled_fp8" or is_companion(name, self.stored.get)

    def _find(self, name: str) -> Stored | None:
        """Look a name up here, and in the other shards if it is not here."""
        found = self.stored.get(name)
        return found if found is not None or not self._sibling_files else self._siblings.get(name)

    @cached_property
    def _siblings(self) -> dict[str, Stored]:
        """What is stored in the other shards of a file that was opened alone."""
        found: dict[str, Stored] = {}
        for file in self._sibling_files:
            try:
                found |= read_header(self._folder, file).tensors
            except (ValueError, FileNotFoundError):  # one that is not needed may be missing or damaged
                self._without.append(file)
        return found

    def _refusal(self, stored: Stored, why: str) -> str:
        near = neighbours(stored.name, {**self.stored, **(self._siblings if self._sibling_files else {})})
        if self._without:
            count = f"{len(self._without)} of its shards are missing or damaged"
            why += f", and {count}, {self._without[0]} among them"
        return refusal(self._folder.label(stored.file), stored, why, near)

    def _check_remarks(self, plan: Plan) -> None:
        """Refuse what the contents of small companions contradict: a shape, or ComfyUI's remark."""
        if plan.shape_of is not None:
            said = (
                read_codes(self._folder, plan.shape_of, 0, max(1, *plan.shape_of.shape)).reshape(-1).tolist()
            )
            if said != list(plan.shape):
                raise ValueError(
                    self._refusal(plan.codes, f"{plan.shape_of.name} says {said}, not {list(plan.shape)}")
                )
        if plan.marker is not None and plan.marker.nbytes <= 4096:
            text = self._folder.read(plan.marker.file, plan.marker.start, plan.marker.stop).tobytes()
            remark = load_json(text, f"{self.source}: {plan.marker.name}")
            odd = [
                key
                for key, value in remark.items()
                if value and key not in ("format", "full_precision_matrix_mult")
            ]
            if _REMARKS.get(str(remark.get("format"))) != plan.layout or odd:
                raise ValueError(
                    self._refusal(plan.codes, f"{plan.marker.name} says {shown(json.dumps(remark))}")
                )

    # --- showing --------------------------------------------------------------------------------------

    def parts(self) -> Sequence[Part]:
        """Return what is shown: weights by how they are stored."""
        counts: Counter[tuple[str, ...]] = Counter()
        sizes: Counter[tuple[str, ...]] = Counter()
        numbers: Counter[tuple[str, ...]] = Counter()
        for one in self:
            key = one.format, one.granularity or "-", one.scale_format or "-", one.layout or "not read"
            counts[key] += 1
            sizes[key] += one.nbytes + one.scale_nbytes
            numbers[key] += _share(one.shape, 0, one.shape[0] if one.shape else 1)
        rows = [
            [*key, str(counts[key]), count_text(numbers[key]), bytes_text(sizes[key])]
            for key in sorted(sizes, key=lambda key: -sizes[key])
        ]
        title = f"{self.source}: {len(self)} tensor{'s' * (len(self) != 1)}, {bytes_text(self.nbytes)}"
        headers = ["format", "scales", "of", "layout", "tensors>", "elements>", "bytes>"]
        return [Table(title, headers, rows)]


#: What ComfyUI's remark says -> the layout that it means.
_REMARKS = {
    "nvfp4": "comfy-nvfp4", "mxfp8": "comfy-mxfp8", "float8_e4m3fn": "float-quantized",
    "float8_e5m2": "float-quantized", "int8_tensorwise": "int-quantized",
}  # fmt: skip


def _weight_name(stored: Stored) -> str:
    """Return the name that a weight has unpacked."""
    for end, kinds in (
        ("_packed", ("U8", "I32")),
        ("_blocks", ("U8",)),
        ("._data", ("I8", "F8_E4M3", "F8_E5M2")),
    ):
        if stored.name.endswith(end) and stored.dtype in kinds and len(stored.name) > len(end):
            return stored.name[: -len(end)]
    return stored.name


def _is_fp8(stored: Stored) -> bool:
    return BITS[stored.dtype] <= 8 and stored.dtype[0] == "F"


def _described(name: str, plan: Plan, refused: str = "") -> Tensor:
    scales = sum(one.nbytes for one in plan.companions)
    return Tensor(
        name, plan.shape, plan.element, plan.granularity, plan.scale_format, plan.layout, plan.codes.nbytes,
        scales, refused,
    )  # fmt: skip


def _share(shape: tuple[int, ...], start: int, stop: int) -> int:
    """Return the elements of some rows."""
    size = stop - start
    for length in shape[1:]:
        size *= length
    return size


def _bounds(rows: Rows, shape: tuple[int, ...], name: str) -> tuple[int, int]:
    """Return where rows begin and end."""
    length = shape[0] if shape else 1
    if rows is None:
        return 0, length
    if not shape:
        raise ValueError(f"tensor {shown(name)} is one number, without rows; leave rows out")
    if isinstance(rows, slice):
        try:
            start, stop, step = rows.indices(length)
        except TypeError:
            raise TypeError(f"rows must be a slice of whole numbers, got {shown(rows)}") from None
    elif isinstance(rows, range):
        start, stop, step = rows.start, rows.stop, rows.step
    elif isinstance(rows, tuple) and len(rows) == 2 and all(type(one) is int for one in rows):
        (start, stop), step = rows, 1
    else:
        raise TypeError(f"rows must be a slice, a range or (start, stop), got {shown(rows)}")
    if step != 1:
        raise ValueError(f"rows are read one after the other: leave out the step {step}")
    if not 0 <= start <= length or not stop <= length or (stop < start and not isinstance(rows, slice)):
        raise ValueError(f"rows {start} to {stop} are not in tensor {shown(name)}, which has {length}")
    return start, max(start, stop)


def _no_tensor(source: str, name: str, names: list[str]) -> str:
    near = [one for one in names if name in one or one in name][:5]
    near = near or difflib.get_close_matches(name[:200], names[:5000], n=5, cutoff=0.3)
    listed = ", ".join(near or names[:5])
    return printable(f"{source} holds no tensor {shown(name)} among its {len(names)}; close names: {listed}")
