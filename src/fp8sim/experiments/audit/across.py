"""What is found only in many tensors together: what is stored twice, and more bits than promised."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from fp8sim._support.quantities import bytes_text
from fp8sim._support.text import printable, shown
from fp8sim.checkpoints import Checkpoint
from fp8sim.experiments.audit.findings import DISTINCT, Evidence, Finding

__all__ = ["find_across"]


def find_across(checkpoint: Checkpoint, seen: Mapping[str, Evidence]) -> tuple[Finding, ...]:
    """Return what is found only in many tensors together: what is stored twice, and more bits than promised.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where tensors lie. Those whose evidence is equal are read again and compared.
    seen : mapping of str to Evidence
        By name of the tensor, that of all of its lines.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from safetensors.numpy import save_file
    >>> from fp8sim.checkpoints import open_checkpoint
    >>> from fp8sim.experiments.audit.findings import evidence
    >>> w = np.random.default_rng(0).standard_normal((4, 8), dtype=np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"head": w, "embedding": w.copy()}, Path(folder) / "model.safetensors")
    ...     model = open_checkpoint(folder)
    ...     seen = {name: evidence(model.take_apart(name), model.read(name)) for name in model.names}
    ...     for finding in find_across(model, seen):
    ...         print(finding)
    head: its values are those of embedding, to the last bit: 128 B twice; store them once and tie them
    """
    twins = list(_twins(checkpoint, seen))
    files = _twin_files(checkpoint, twins)
    found = [
        Finding(
            file,
            "duplicated-shard",
            printable(f"all of its tensors are those of {other} under other names"),
            "leave one of the files out, and take it from the index",
        )
        for file, other in files.items()
    ]
    for name, other in twins:
        if checkpoint.place(name).file in files:
            continue
        size = bytes_text(checkpoint[name].nbytes)
        text = f"its values are those of {other}, to the last bit: {size} twice"
        found.append(Finding(name, "duplicated", printable(text), "store them once and tie them"))
    headline = _headline(checkpoint)
    return (*found, *([headline] if headline else []))


def _twins(checkpoint: Checkpoint, seen: Mapping[str, Evidence]) -> Iterator[tuple[str, str]]:
    """Yield tensors that hold the same as one before them."""
    alike: dict[Any, list[str]] = defaultdict(list)
    for name, one in seen.items():
        tensor = checkpoint[name]
        few = one.magnitudes is not None and len(one.magnitudes) < DISTINCT and not one.codes
        if len(tensor.shape) >= 2 and not few and one.dead < math.prod(tensor.shape[:-1]):
            alike[tensor.shape, one.fingerprint].append(name)
    for names in alike.values():
        first, *others = sorted(names)
        for name in others:
            if _same(checkpoint, first, name):
                yield name, first


def _same(checkpoint: Checkpoint, one: str, other: str) -> bool:
    """Whether two tensors of a shape hold the same values, read by rows."""
    shape = checkpoint[one].shape
    step = max(1, (1 << 22) // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], step):
        rows = start, min(start + step, shape[0])
        if checkpoint.read(one, rows).tobytes() != checkpoint.read(other, rows).tobytes():
            return False
    return True


def _twin_files(checkpoint: Checkpoint, twins: list[tuple[str, str]]) -> dict[str, str]:
    """Return files whose matrices are all those of one other file."""
    where: dict[str, set[str]] = defaultdict(set)
    for name, other in twins:
        where[checkpoint.place(name).file].add(checkpoint.place(other).file)
    twice = {name for name, _ in twins}
    matrices = [one.name for one in checkpoint if len(one.shape) >= 2]
    for name in matrices:
        if name not in twice:
            where.pop(checkpoint.place(name).file, None)
    return {
        file: min(others) for file, others in sorted(where.items()) if len(others) == 1 and file not in others
    }


#: quant_method -> the bits it promises, where the configuration names none.
_PROMISED = {"fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4}


def _headline(checkpoint: Checkpoint) -> Finding | None:
    """Compare the bits of a parameter with those that the configuration promises, scales and all."""
    config = checkpoint.config
    promised = min((bits for _, bits in config.kinds), default=_PROMISED.get(config.method, 0))
    tensors = [one for one in checkpoint if not one.refused]
    count = sum(math.prod(one.shape) for one in tensors)
    if not promised or not count:
        return None
    bits = 8 * sum(one.nbytes + one.scale_nbytes for one in tensors) / count
    if bits <= 1.25 * promised:
        return None
    wide = max(tensors, key=lambda one: one.nbytes * (one.granularity == ""))
    text = (
        f"{promised} bits a parameter are promised, and {bits:.2f} are stored, scales included; most of the "
        f"rest is {shown(wide.name)}, {bytes_text(wide.nbytes)} in {wide.format}"
    )
    advice = "reckon with what is stored, or quantise what was left wide"
    return Finding(checkpoint.source, "headline-bits", printable(text), advice)
