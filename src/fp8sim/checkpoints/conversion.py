"""What becomes of each weight of a checkpoint, and in which shard it goes: known from headers alone."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from fp8sim._support import checks
from fp8sim._support.text import printable, shown
from fp8sim.checkpoints.checkpoint import Checkpoint, Tensor
from fp8sim.checkpoints.headers import bits_of
from fp8sim.checkpoints.targets import KEPT, Shapes, Target

__all__ = ["Item", "check_patterns", "conversion", "fits", "kept_modules", "shards"]

_FLOATS = ("f64", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Item:
    """A weight and what is written for it."""

    weight: Tensor
    why: str  #: why it stays wide; "" if it is quantised
    tensors: Shapes  #: type and shape of each tensor that is written, by name

    @property
    def is_copied(self) -> bool:
        """Whether its bytes are written as they are."""
        return bool(self.why) and (self.weight.layout == "plain" or bool(self.weight.refused))

    @property
    def is_transposed(self) -> bool:
        """Whether each matrix is written transposed: gpt-oss stores its quantised experts the other way."""
        return bool(self.why) and self.weight.layout == "gpt-oss"

    @property
    def nbytes(self) -> int:
        """Bytes that are written."""
        return sum(bits_of(shape, dtype) // 8 for dtype, shape in self.tensors.values())

    @property
    def source_nbytes(self) -> int:
        """Bytes that are read."""
        return self.weight.nbytes + self.weight.scale_nbytes


def conversion(checkpoint: Checkpoint, target: Target, keep: Sequence[str]) -> list[Item]:
    """Return what becomes of each weight, in the order in which they lie in their files.

    Raises
    ------
    ValueError
        If a weight cannot be read, a pattern fits none, or two tensors would have one name.
    """
    patterns = [checks.of_kind(one, str, "keep") or one for one in keep]
    names = checkpoint.names
    check_patterns(patterns, names)
    codes = {one.name for one in checkpoint if one.layout != "plain"}
    names = tuple(name for name in names if not _is_of_activations(name, codes))
    places = {name: checkpoint.place(name) for name in names}
    order = sorted(names, key=lambda name: (places[name].file, places[name].start))
    items = []
    for name in order:
        weight = checkpoint[name]
        if weight.refused and not any(fits(name, pattern) for pattern in patterns):
            raise ValueError(f"{weight.refused}; or keep it as it is stored (--keep)")
        why = _why_kept(weight, target, patterns)
        if not why:
            tensors: Shapes = target.tensors(name, *weight.shape)
        elif weight.layout == "plain" or weight.refused:
            tensors = {name: (places[name].dtype, places[name].shape)}
        else:
            transposed = weight.layout == "gpt-oss" and len(weight.shape) > 1
            shape = weight.shape
            tensors = {name: ("BF16", (*shape[:-2], shape[-1], shape[-2]) if transposed else shape)}
        items.append(Item(weight, why, tensors))
    seen: dict[str, str] = {}
    for item in items:
        for tensor in item.tensors:
            if seen.setdefault(tensor, item.weight.name) != item.weight.name:
                raise ValueError(
                    printable(
                        f"{shown(tensor)} is a weight, and would be the name of {item.weight.name}'s too"
                    )
                )
    return items


def _is_of_activations(name: str, codes: set[str]) -> bool:
    """Whether this is a scale of the activations of a layer whose weight is quantised: it goes with that."""
    module, _, last = name.rpartition(".")
    return last in ("input_scale", "output_scale") and f"{module}.weight" in codes


def _why_kept(weight: Tensor, target: Target, patterns: Sequence[str]) -> str:
    """Say why a weight stays wide; "" if it is quantised."""
    if weight.refused or (weight.layout == "plain" and weight.format not in _FLOATS):
        return "no numbers of a float format"
    if len(weight.shape) != 2 or weight.name.rpartition(".")[2] != "weight":
        return "no weight matrix of a layer"
    if any(fits(weight.name, pattern) for pattern in patterns):
        return "asked for"
    if any(fits(weight.name, pattern) for pattern in KEPT):
        return "embedding, head, norm or router"
    if 0 in weight.shape:
        return "empty"
    if weight.shape[1] % target.columns:
        return f"columns no multiple of {target.columns}"
    return ""


def check_patterns(patterns: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a pattern that fits no tensor: it was meant for one.

    Examples
    --------
    >>> check_patterns(["*.q"], ["layers.0.q.weight"])
    >>> check_patterns(["q"], ["layers.0.q.weight"])
    Traceback (most recent call last):
    ValueError: no tensor fits the pattern 'q' to keep; there are layers.0.q.weight, ...
    """
    for pattern in patterns:
        if not any(fits(name, pattern) for name in names):
            near = ", ".join(names[:3])
            raise ValueError(
                printable(f"no tensor fits the pattern {shown(pattern)} to keep; there are {near}, ...")
            )


def fits(name: str, pattern: str) -> bool:
    """Whether a pattern is that of a tensor, or of the module that holds it.

    Examples
    --------
    >>> fits("layers.0.q.weight", "*.q"), fits("layers.0.q.weight", "*.q.weight"), fits("q.weight", "k*")
    (True, True, False)
    """
    module = name.rpartition(".")[0]
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(module, pattern)


def kept_modules(items: Sequence[Item]) -> list[str]:
    """Return the modules with a weight matrix that stays wide, which a reader must not take for quantised.

    ``lm_head`` is one too where there is none: it may be tied to the embedding.
    """
    kept = [
        item.weight.name.removesuffix(".weight")
        for item in items
        if item.why and len(item.weight.shape) == 2 and item.weight.name.endswith(".weight")
    ]
    quantised = {item.weight.name for item in items if not item.why}
    return kept if "lm_head" in kept or "lm_head.weight" in quantised else [*kept, "lm_head"]


def shards(items: Sequence[Item], shard_bytes: int) -> dict[str, list[Item]]:
    """Return the weights of each file, by its name: as many one after the other as fit in `shard_bytes`."""
    groups: list[list[Item]] = [[]]
    total = 0
    for item in items:
        if groups[-1] and total + item.nbytes > shard_bytes:
            groups.append([])
            total = 0
        groups[-1].append(item)
        total += item.nbytes
    count = len(groups)
    if count == 1:
        return {"model.safetensors": groups[0]}
    return {f"model-{i:05d}-of-{count:05d}.safetensors": group for i, group in enumerate(groups, 1)}
