"""Whole checkpoints quantised: read by rows, written by shards that others load, gone on with if killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fp8sim._support import checks
from fp8sim._support.files import locked, named, written
from fp8sim._support.quantities import bytes_text, count_text, ratio_text
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim._support.text import printable, shown
from fp8sim._support.threads import one_thread, split
from fp8sim._support.versions import versions
from fp8sim.checkpoints.checkpoint import Checkpoint
from fp8sim.checkpoints.conversion import Item, conversion, kept_modules, shards
from fp8sim.checkpoints.headers import load_json
from fp8sim.checkpoints.opening import open_checkpoint
from fp8sim.checkpoints.places import Folder, RemoteFolder, is_url, locate
from fp8sim.checkpoints.shards import OnPart, RowWriter, header_of, writing
from fp8sim.checkpoints.targets import Target, config_text, find_target, quantization_config
from fp8sim.recipes import Recipe, RecipeLike, get_recipe

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Written", "WrittenRow", "write_quantized"]

SHARD_BYTES = 5_000_000_000  # of a file, as those of DeepSeek and of transformers' save_pretrained
RECORD = "fp8sim.json"  #: in the folder that is written: by what settings, so that a run can go on
OnTensor: TypeAlias = "Callable[[str, int, int], None]"
_BLOCK = 1 << 24  # bytes that are copied at a time
_ASIDE = re.compile(r"\.([0-9a-f]{16}|.*\.safetensors)\.part")  # what a run that was killed leaves
#: Weights in files that are not read, and what a description of quantisation is in beside config.json.
_NOT_COPIED = (
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".npz", ".h5", ".onnx", ".onnx_data", ".msgpack", ".ot",
    ".tflite", ".mlmodel", ".part", ".incomplete",
)  # fmt: skip


@dataclass(frozen=True)
class WrittenRow:
    """Weights that were written in one way."""

    stored: str  #: format and scales, or the format alone
    why: str  #: why they are wide; "" of those that are quantised
    tensors: int
    elements: int
    source_nbytes: int  #: bytes in the source, with scales
    nbytes: int  #: bytes that were written, with scales


@dataclass(frozen=True, repr=False)
class Written(Result):
    """What `write_quantized` wrote; prints as a table."""

    source: str
    out: str
    recipe: str
    layout: str  #: of the weights: ``deepseek``, or the format as compressed-tensors calls it
    files: tuple[str, ...]  #: that hold tensors
    copied: tuple[str, ...]  #: copied as they are: those of the tokenizer and others
    rows: tuple[WrittenRow, ...]
    ragged: int  #: quantised weights whose last blocks hold less than others

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors that were written."""
        return sum(row.nbytes for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {**asdict(self), "nbytes": self.nbytes}

    def parts(self) -> list[Table]:
        """Return the weights by how they were written."""
        columns: dict[str, Callable[[WrittenRow], str]] = {
            "stored as": lambda row: row.stored,
            "why": lambda row: row.why or "quantised",
            "tensors>": lambda row: str(row.tensors),
            "elements>": lambda row: count_text(row.elements),
            "before>": lambda row: bytes_text(row.source_nbytes),
            "after>": lambda row: bytes_text(row.nbytes),
        }
        before = sum(row.source_nbytes for row in self.rows)
        share = ratio_text(self.nbytes / before if before else float("nan"))
        count = len(self.files)
        notes = [
            f"{count} file{'s' * (count != 1)} of tensors, {bytes_text(self.nbytes)}, {share} of the bytes "
            f"that were read; {len(self.copied)} other files copied"
        ]
        if self.ragged:
            notes.append(
                f"{self.ragged} matrices end in blocks of less than 128 rows or columns, as DeepSeek's own "
                "do: transformers 5, dequantising, would take all blocks of a matrix to be of one size"
            )
        title = f"{self.out}: weights of {self.source} under {self.recipe}, layout {self.layout}"
        return [Table.of(title, columns, self.rows, notes)]


@dataclass(frozen=True)
class _Job:
    """Everything that decides what is written."""

    source: str
    state: tuple[tuple[str, int, int], ...]  #: names, bytes and times of change of the source's files
    out: str
    recipe: Recipe
    keep: tuple[str, ...]
    shard_bytes: int

    def record(self) -> dict[str, Any]:
        """Return what is told apart when a run goes on: no names of folders, which may move."""
        return {
            "fp8sim": versions().get("fp8sim", ""),
            "recipe": self.recipe.name,
            "weights": str(self.recipe.b),
            "keep": list(self.keep),
            "shard_bytes": self.shard_bytes,
            "source": hashlib.sha256(json.dumps(self.state).encode()).hexdigest(),
        }


@dataclass(frozen=True)
class _Plan:
    """A checkpoint and what becomes of it."""

    checkpoint: Checkpoint
    target: Target
    items: tuple[Item, ...]
    files: dict[str, list[Item]]


@lru_cache(maxsize=1)  # of a process that writes one shard after the other
def _plan(job: _Job) -> _Plan:
    checkpoint, target = open_checkpoint(job.source), find_target(job.recipe)
    items = conversion(checkpoint, target, job.keep)
    return _Plan(checkpoint, target, tuple(items), shards(items, job.shard_bytes))


def write_quantized(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    recipe: RecipeLike = "deepseek-v3",
    *,
    keep: str | Sequence[str] = (),
    force: bool = False,
    shard_bytes: int = SHARD_BYTES,
    executor: Executor | None = None,
    on_tensor: OnTensor | None = None,
) -> Written:
    """Quantise a checkpoint as the weights of a recipe are, and write it in a layout that others load.

    Every matrix of a layer is quantised as `fp8sim.quantize` does it, bit for bit, along its columns. What
    is no such matrix is copied; embeddings, heads, norms and routers stay wide. `deepseek-v3` and
    `deepseek-v3.1` are written as DeepSeek did, the others as compressed-tensors does. Files beside the
    tensors are copied, and ``config.json`` gets its ``quantization_config``.

    A file takes its name when it is whole. A run that was interrupted goes on where it stopped if it is
    called again in the same way; ``fp8sim.json`` in the folder tells whether it is the same.

    Parameters
    ----------
    source : str or Path
        What `open_checkpoint` takes, in any layout that it reads. What is kept of codes with scales becomes
        BF16.
    out : str or Path
        A folder that is empty or not there; it is made. It may not lie in a source that is a folder.
    recipe : str or Recipe
        Whose operand B the weights become.
    keep : str or sequence of str
        What stays wide beside: patterns (``*``, ``?``, ``[...]``) for names of tensors or of their modules.
    force : bool
        Whether to replace a checkpoint that is there.
    shard_bytes : int
        Most bytes of a file, but for a weight that takes more alone.
    executor : concurrent.futures.Executor, optional
        Writes files next to each other; they are written one after the other by threads otherwise.
    on_tensor : callable, optional
        Called with a name, the bytes of the source that are done, and those of all; for progress bars.

    Returns
    -------
    Written
        What was quantised and what was kept; prints as a table.

    Raises
    ------
    ValueError
        If the recipe has no layout, a weight cannot be read or holds NaN or infinity, a pattern fits
        nothing, or the folder is not to be written to.
    FileNotFoundError, OSError
        If there is no such source, or a disk is full.
    TypeError
        If an argument is of another kind.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     weights = {"q.weight": np.ones((256, 384), np.float32), "norm.weight": np.ones(384, np.float32)}
    ...     save_file(weights, Path(folder) / "model.safetensors")
    ...     written = write_quantized(Path(folder) / "model.safetensors", Path(folder) / "fp8")
    ...     checkpoint = open_checkpoint(Path(folder) / "fp8")
    ...     written.rows[0].stored, checkpoint["q.weight"].layout, checkpoint.read("q.weight", (0, 1))[0, :2]
    ('e4m3 128x128 fp32', 'deepseek', array([1., 1.], dtype=float32))
    """
    found = get_recipe(recipe)
    find_target(found)
    patterns = tuple(checks.several(keep, str, "keep"))
    checks.of_kind(force, bool, "force")
    checks.positive_int(shard_bytes, "shard_bytes")
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(f"executor must be a concurrent.futures executor, got {shown(executor)}")
    folder, name = locate(source)
    path = _folder(out, folder, whole=not name.endswith(".safetensors"))
    checkpoint = open_checkpoint(source)
    text = source if is_url(source) else str(Path(source).absolute())
    job = _Job(str(text), _state(folder, checkpoint), str(path), found, patterns, shard_bytes)
    plan = _plan(job)
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        begin = _begin(path, job, force)
        others = _others(folder, name)
        if begin:
            _write_shards(job, plan, executor, on_tensor)
            _write_rest(path, job, plan, folder, others)
    return Written(
        checkpoint.source,
        printable(str(out)),
        found.name,
        plan.target.layout,
        tuple(plan.files),
        tuple(others),
        _rows(plan, found),
        _ragged(plan),
    )


# --- the folder ---------------------------------------------------------------------------------------


def _folder(out: Any, source: Folder, whole: bool) -> Path:
    """Return the folder to write to; refuse one that the source lies in, or that lies in it."""
    path = Path(os.path.realpath(named(out)))
    label = printable(str(out))
    if path.exists() and not path.is_dir():
        raise ValueError(f"{label} is a file; name a folder to write the checkpoint in")
    if isinstance(source, RemoteFolder):
        return path
    root = Path(os.path.realpath(source.path))
    if path == root or path in root.parents or (whole and root in path.parents):
        raise ValueError(
            f"{label} is in {source.label()} or holds it, which is read; name a folder elsewhere"
        )
    return path


def _state(folder: Folder, checkpoint: Checkpoint) -> tuple[tuple[str, int, int], ...]:
    """Return what tells that a file of the source was changed."""
    names = sorted({one.file for one in checkpoint.stored.values()})
    if isinstance(folder, RemoteFolder):
        return tuple((name, folder.size(name), 0) for name in names)
    found = ((name, (folder.path / name).stat()) for name in names)
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def _begin(path: Path, job: _Job, force: bool) -> bool:
    """Make a folder ready to be written to, or gone on with; return False if all of it is there."""
    label = printable(job.out)
    names = sorted(one.name for one in path.iterdir())
    for name in filter(_ASIDE.fullmatch, names):
        (path / name).unlink()
    names = [name for name in names if not _ASIDE.fullmatch(name)]
    if force:
        for name in names:
            one = path / name
            old = name in ("config.json", RECORD) or name.endswith(
                (".safetensors", ".safetensors.index.json")
            )
            if old or one.is_symlink():  # a link is replaced, not what it points to
                one.unlink()
    elif names == [RECORD]:  # of a run that wrote nothing
        (path / RECORD).unlink()
    elif names and RECORD not in names:
        few = ", ".join(names[:3])
        raise ValueError(
            printable(f"{label} is not empty ({few}); name another folder, or pass force=True (--force)")
        )
    elif names:
        there = load_json((path / RECORD).read_bytes(), f"{label}/{RECORD}")
        odd = [key for key, value in job.record().items() if there.get(key) != value]
        if odd:
            was = (
                f"{odd[0]} was {shown(there.get(odd[0]))}" if odd[0] != "source" else "the source has changed"
            )
            raise ValueError(
                f"{label} holds what was written in another way: {was}; name another folder, or pass "
                "force=True (--force)"
            )
        return "config.json" not in names
    _write_small(path / RECORD, json.dumps(job.record(), indent=2).encode() + b"\n")
    return True


def _write_small(path: Path, text: bytes) -> None:
    with written(path) as stream:
        stream.write(text)


def _others(folder: Folder, name: str) -> list[str]:
    """Return the files that go with the model: of a folder all but weights, of one file none."""
    if name.endswith(".safetensors"):
        return []
    names = folder.names()
    if isinstance(folder, RemoteFolder):
        names = [one for one in names if folder.holds(one)]
    else:
        found = [one.relative_to(folder.path) for one in folder.path.glob("*/*") if one.is_file()]
        names = [one for one in names if folder.holds(one)]
        # Modules of sentence-transformers lie in folders of their own, with weights that are small.
        skipped = () if "modules.json" in names else (".safetensors",)
        names += sorted(one.as_posix() for one in found if not one.name.endswith(skipped or "\0"))
    return [
        one
        for one in names
        if not any(part.startswith(".") for part in one.split("/"))
        and not one.endswith(_NOT_COPIED)
        and one not in ("config.json", "hf_quant_config.json", RECORD)
        and ("/" in one or not one.endswith((".safetensors", ".safetensors.index.json")))
    ]


def _write_rest(path: Path, job: _Job, plan: _Plan, folder: Folder, others: Sequence[str]) -> None:
    """Write all but tensors, config.json last: without it a folder is not whole."""
    for name in others:
        (path / name).parent.mkdir(exist_ok=True)
        with written(path / name) as stream:
            for start, stop in split(folder.size(name), _BLOCK):
                stream.write(folder.read(name, start, stop))
    if len(plan.files) > 1:
        where = {name: file for file, items in plan.files.items() for one in items for name in one.tensors}
        total = sum(item.nbytes for item in plan.items)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        _write_small(path / "model.safetensors.index.json", json.dumps(index, indent=2).encode() + b"\n")
    config: dict[str, Any] = {}
    if folder.holds("config.json"):
        label = folder.label("config.json")
        config = load_json(folder.read("config.json", 0, folder.size("config.json")).tobytes(), label)
    added = quantization_config(plan.target, job.recipe, kept_modules(plan.items))
    _write_small(path / "config.json", config_text(config, added))


# --- the shards ---------------------------------------------------------------------------------------


def _write_shards(job: _Job, plan: _Plan, executor: Executor | None, on_tensor: OnTensor | None) -> None:
    total = sum(item.source_nbytes for item in plan.items)
    done, lock = 0, threading.Lock()

    def on_part(name: str, nbytes: int) -> None:
        nonlocal done
        with lock:
            done += nbytes
            if on_tensor is not None:
                on_tensor(name, done, total)

    if executor is None:
        for file in plan.files:
            _write_shard(job, file, on_part)
        return
    from concurrent.futures import as_completed

    futures = {executor.submit(_in_one_thread, job, file): file for file in plan.files}
    try:
        for future in as_completed(futures):
            future.result()
            on_part(futures[future], sum(item.source_nbytes for item in plan.files[futures[future]]))
    finally:
        for future in futures:
            future.cancel()


def _in_one_thread(job: _Job, file: str) -> None:
    with one_thread():
        _write_shard(job, file, lambda name, nbytes: None)


def _write_shard(job: _Job, file: str, on_part: OnPart) -> None:
    """Write one file of tensors, if it is not there already."""
    plan = _plan(job)
    items, path = plan.files[file], Path(job.out, file)
    header, starts, size = header_of({key: one for item in items for key, one in item.tensors.items()})
    if path.exists():
        with path.open("rb") as old:
            there = old.read(len(header))
        if there != header or path.stat().st_size != size:
            raise ValueError(
                printable(f"{path} is not what was written there; delete it, or pass force=True (--force)")
            )
        for item in items:
            on_part(item.weight.name, item.source_nbytes)
        return
    with writing(path, size) as stream:
        stream.write(header, 0)
        RowWriter(plan.checkpoint, plan.target, job.recipe.b, stream, starts, on_part).run(items)


# --- what is told -------------------------------------------------------------------------------------


def _rows(plan: _Plan, recipe: Recipe) -> tuple[WrittenRow, ...]:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for item in plan.items:
        stored = str(recipe.b) if not item.why else item.weight.format if item.is_copied else "bf16"
        row = counts.setdefault((item.why, stored), Counter())
        row["tensors"] += 1
        row["elements"] += int(np.prod(item.weight.shape, dtype=object))
        row["source_nbytes"] += item.source_nbytes
        row["nbytes"] += item.nbytes
    return tuple(WrittenRow(stored, why, **counts[why, stored]) for why, stored in sorted(counts))


def _ragged(plan: _Plan) -> int:
    block = plan.target.rows
    quantised = [item.weight.shape for item in plan.items if not item.why] if block > 1 else []
    return sum(rows % block > 0 or columns % block > 0 for rows, columns in quantised)
