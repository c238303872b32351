"""From the name of a file, a folder, an index or a URL to a checkpoint: which files it is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from fp8sim._support import memory
from fp8sim._support.text import printable, shown
from fp8sim.checkpoints.checkpoint import Checkpoint
from fp8sim.checkpoints.config import read_config
from fp8sim.checkpoints.headers import Header, load_json, read_header
from fp8sim.checkpoints.places import Folder, locate

__all__ = ["open_checkpoint"]

_INDEX = ".safetensors.index.json"
_SHARD = re.compile(r"(.*)-(\d{5,6})-of-(\d{5,6})\.safetensors")
_LONGEST = 200_000_000  # bytes of an index: one of a million tensors has half of it


def open_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
    """Open a checkpoint: nothing but headers and configurations is read before a tensor is asked for.

    Parameters
    ----------
    source : str or Path
        A safetensors file; a folder of them; an index, ``model.safetensors.index.json``; or a URL of one of
        these that fsspec knows (extra ``remote``). Of one shard of several the tensors are listed, and their
        scales are looked for in the others. Pickle checkpoints are refused, never loaded: a pickle can run
        code.

    Returns
    -------
    Checkpoint
        Names, shapes, formats and bytes; `Checkpoint.read` for values.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or a shard is missing.
    ValueError
        If a file is none of safetensors, is damaged, or two contradict each other; the message says what it
        is.
    ModuleNotFoundError
        If a URL needs a package that is not installed.
    TypeError
        If `source` is no name.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"w": np.ones((3, 2), np.float32)}, Path(folder) / "model.safetensors")
    ...     for tensor in open_checkpoint(folder):
    ...         print(tensor.name, tensor.shape, tensor.format, tensor.nbytes)
    w (3, 2) fp32 24
    """
    folder, name = locate(source)
    label = folder.label(name)
    files, siblings, index = _files(folder, name)
    headers = {file: read_header(folder, file) for file in files}
    config = read_config(folder)
    if any("_quantization_metadata" in header.metadata for header in headers.values()):
        config = replace(config, marked=True)
    if index:
        _check_index(index, headers, label)
    return Checkpoint(folder, headers, siblings, config, label)


def _files(folder: Folder, name: str) -> tuple[list[str], list[str], dict[str, str]]:
    """Return the tensor files of a source, those that may hold scales too, and the index of them."""
    if not name:
        names = folder.names()
        indexes = [one for one in names if one.endswith(_INDEX)]
        if len(indexes) > 1 and f"model{_INDEX}" in indexes:
            indexes = [f"model{_INDEX}"]
        if len(indexes) > 1:
            raise ValueError(
                f"{folder.label()} has {len(indexes)} indexes; name one: {', '.join(indexes[:4])}"
            )
        name = indexes[0] if indexes else ""
        if not name:
            return _without_index(folder, names), [], {}
    if name.endswith(".json"):
        index = _read_index(folder, name)
        files = sorted(set(index.values()))
        _need(folder, files, f"the index {folder.label(name)} names")
        return files, [], index
    shard = _SHARD.fullmatch(name)
    others = [one for one in _shards(shard) if one != name] if shard else []
    return [name], others, {}


def _without_index(folder: Folder, names: list[str]) -> list[str]:
    files = [one for one in names if one.endswith(".safetensors")]
    if not files:
        others = [
            one
            for one in names
            if one.endswith((".bin", ".pt", ".pth", ".gguf", ".npz", ".h5", ".onnx", ".msgpack"))
        ]
        what = f"; it has {', '.join(others[:3])}, which are not read" if others else ""
        unfinished = [one for one in names if one.endswith((".incomplete", ".part", ".aria2", ".crdownload"))]
        what += f"; {unfinished[0]} is a download that was not finished" if unfinished else ""
        raise ValueError(printable(f"{folder.label()} holds no safetensors file{what}"))
    for shard in filter(None, map(_SHARD.fullmatch, files)):
        _need(folder, _shards(shard), f"{folder.label(shard[0])} is one of")
    return files


def _shards(shard: re.Match[str]) -> list[str]:
    """Return the names of all shards of a set, as many as the name of one says."""
    stem, digits, total = shard[1], len(shard[2]), int(shard[3])
    return (
        [f"{stem}-{one:0{digits}d}-of-{shard[3]}.safetensors" for one in range(1, total + 1)]
        if total < 10**5
        else []
    )


def _need(folder: Folder, files: Sequence[str], who: str) -> None:
    missing = [file for file in files if not folder.holds(file)]
    if missing:
        few = ", ".join(missing[:3])
        raise FileNotFoundError(
            printable(f"{who} {len(files)} shards, of which {len(missing)} are missing: {few}")
        )


def _read_index(folder: Folder, name: str) -> dict[str, str]:
    """Return tensor -> shard, as an index says; a shard is a file in its folder."""
    label, size = folder.label(name), folder.size(name)
    if size > _LONGEST:
        raise ValueError(f"{label} has {size} bytes, more than any index; is it another file?")
    memory.require(20 * size, label)
    text = folder.read(name, 0, size).tobytes()
    if text.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{label} is a Git LFS pointer, not the file it stands for; fetch that with git lfs pull"
        )
    if text.lstrip()[:1] == b"<":
        raise ValueError(
            f"{label} is a web page, such as a server sends in place of a file; download the file itself"
        )
    index = load_json(text, label)
    weights = index.get("weight_map")
    if not isinstance(weights, dict):
        raise ValueError(f"{label} is no index: it has no weight_map of tensors and shards")
    if not weights:
        raise ValueError(f"{label}: its weight_map is empty")
    known: set[str] = set()
    for tensor, file in weights.items():
        if isinstance(file, str) and file in known:
            continue
        if not isinstance(file, str) or not file:
            raise ValueError(
                f"{label}: the shard of {shown(tensor)} must be the name of a file, got {shown(file)}"
            )
        known.add(file)
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or "\\" in file or "\0" in file or ":" in file:
            raise ValueError(f"{label}: the shard of {shown(tensor)} is outside its folder: {shown(file)}")
    return weights


def _check_index(index: Mapping[str, str], headers: Mapping[str, Header], label: str) -> None:
    """Hold that every tensor of an index is where it says."""
    for tensor, file in index.items():
        if tensor not in headers[file].tensors:
            elsewhere = [other for other, header in headers.items() if tensor in header.tensors]
            hint = f"; it is in {elsewhere[0]}" if elsewhere else ""
            raise ValueError(
                printable(f"{label}: {file} holds no tensor {shown(tensor)} as the index says{hint}")
            )
