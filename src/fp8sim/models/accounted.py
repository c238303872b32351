"""Which tensors of a checkpoint a description accounts for, component by component, and which it does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations

from fp8sim._support.quantities import count_text
from fp8sim.checkpoints import Checkpoint
from fp8sim.models.description import ModelDescription
from fp8sim.models.layers import Inventory, inventory, mtp_inventory
from fp8sim.models.matrices import COMPONENTS, Component
from fp8sim.models.reading import tensors_of
from fp8sim.models.stored import stored_bytes
from fp8sim.models.tensors import Tensors, grouped, tower_of

__all__ = ["accounted"]

_MOST = 3  # kinds of tensors that may make up a difference together


def accounted(
    model: ModelDescription, checkpoint: Checkpoint
) -> tuple[dict[str, tuple[int, int]], tuple[int, int], list[str]]:
    """Return parameters by component, and bytes, described and stored; and what is not accounted for.

    Components are those of the names of tensors; where some differ and together do not, they are one. A
    difference is laid to the fewest kinds of tensors that make it up.
    """
    rows = grouped(tensors_of(checkpoint), modules=True)
    notes = [f"Not read: {one.name}, {one.format}." for one in checkpoint if one.refused]
    notes += _apart([row for row in rows if row.component == "other parts"])
    stored = {part: [row for row in rows if row.component == part] for part in COMPONENTS[:-1]}
    theirs = {part: sum(row.parameters for row in of) for part, of in stored.items()}
    main = [inventory(model)]
    both = [*main, *[mtp_inventory(model)] * model.mtp_layers]
    wholes = min(both, main, key=lambda some: abs(_total(some) - sum(theirs.values())))
    if wholes is main and model.mtp_layers:
        model = replace(model, mtp_layers=0)
        notes.append("Its prediction modules are not in the checkpoint.")
    ours = {part: sum(whole.component_parameters(part) for whole in wholes) for part in stored}
    pairs: dict[str, tuple[int, int]] = {}
    for parts in _settled({part: theirs[part] - ours[part] for part in stored}):
        pair = tuple(sum(side[part] for part in parts) for side in (ours, theirs))
        pairs[" and ".join(parts)] = more, less = pair[0], pair[1]
        if less > more:
            of = [row for part in parts for row in stored[part]]
            notes += (f"Not accounted for: {_told(row)}." for row in _odd(of, less - more, model))
        elif more > less:
            notes.append(f"Not in the checkpoint: {count_text(more - less)} parameters of {parts[0]}.")
    if sum(theirs.values()) == _total(wholes) and not any(note.startswith("Not") for note in notes):
        notes.append("Every tensor of the language model is accounted for.")
    towers = sum(row.elements + row.scales for row in rows if row.component == "other parts")
    bytes_ = sum(part.total for part in stored_bytes(model).values()), checkpoint.nbytes - towers
    return pairs, bytes_, notes


def _total(wholes: Iterable[Inventory]) -> int:
    return sum(whole.parameters for whole in wholes)


def _settled(more: dict[Component, int]) -> list[tuple[Component, ...]]:
    """Return the components, those together whose differences cancel: parts by another name."""
    odd = [part for part in more if more[part]]
    sets: list[tuple[Component, ...]] = []
    for count in range(2, len(odd) + 1):
        for some in combinations(odd, count):
            if not sum(more[part] for part in some) and not any(set(some) & set(one) for one in sets):
                sets.append(some)
    together = {part for some in sets for part in some}
    return [*((part,) for part in more if part not in together), *sets]


def _apart(rows: list[Tensors]) -> Iterator[str]:
    """Yield a line for each tower: how it begins, and its parameters."""
    towers: dict[str, int] = {}
    for row in rows:
        begin = tower_of(row.name)
        towers[begin] = towers.get(begin, 0) + row.parameters
    yield from (
        f"Left out: {begin}, {count_text(size)} parameters." for begin, size in towers.items() if size
    )


def _odd(rows: list[Tensors], more: int, model: ModelDescription) -> Iterator[Tensors]:
    """Yield the rows that make up a difference: the fewest, else those of shapes that are not described."""
    rows = [row for row in rows if row.parameters]
    for count in range(1, _MOST + 1):
        for some in combinations(rows, count):
            if sum(row.parameters for row in some) == more:
                yield from some
                return
    shapes = {shape for gemm in inventory(model).gemms for shape in ((gemm.n, gemm.k), (gemm.k, gemm.n))}
    yield from [row for row in rows if row.matrix and row.matrix not in shapes] or rows


def _told(row: Tensors) -> str:
    shape = " x ".join(map(str, row.shape)) or "1"
    times = f"{row.count} of " if row.count > 1 else ""
    return f"{row.name}, {times}{shape}"
