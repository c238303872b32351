"""`check_gpu`: what a GPU writes against what its cores say, operation by operation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fp8sim._support import checks
from fp8sim._support.page import Line, Page, Span, prose
from fp8sim._support.results import Part, Result
from fp8sim._support.tables import Table
from fp8sim._support.typing import AnyArray
from fp8sim.experiments.gpu.device import Gpu, GpuFacts, find_gpu
from fp8sim.experiments.gpu.inputs import KINDS, draw
from fp8sim.experiments.gpu.operations import (
    OPERATIONS,
    Operation,
    Way,
    core_of,
    expected_words,
    generation_of,
    ways,
)
from fp8sim.formats import FORMATS
from fp8sim.tensor_cores import TensorCore

__all__ = ["GpuCheck", "GpuDifference", "GpuRow", "check_gpu", "count_rows"]

PAD = 128  #: k of single steps: what is beyond the step is zero, and cuBLAS takes multiples of 16 bytes
SHOWN = 8  #: products of a difference that are printed


class _Length(NamedTuple):
    """How long sums are."""

    name: str
    steps: int = 0  #: of the core, the rest zeros; 0: all of k
    k: int = PAD
    copies: int = 1  #: of the rows, so that the GPU is full and no kernel cuts k


#: Two steps stand for a step that starts from a sum: what the first leaves is cut by the second.
LENGTHS = (
    _Length("1 step", 1),
    _Length("2 steps", 2),
    _Length("1024", k=1024),
    _Length("4096", k=4096),
    _Length("4096 full", k=4096, copies=16),
)


@dataclass(frozen=True)
class GpuDifference:
    """The first word of an operation that is not what the core says, with what was multiplied."""

    inputs: str  #: kind of the inputs
    out: str  #: format of the words
    row: int
    column: int
    a: tuple[int, ...]  #: codes of the row of A; TF32 is in its 19 bits
    b: tuple[int, ...]  #: codes of the column of B
    found: int  #: the word that the GPU wrote
    expected: int  #: and what it should be


@dataclass(frozen=True)
class GpuRow:
    """One operation at one length: how many words were compared, and how many are equal."""

    operation: str
    core: str  #: of `TENSOR_CORES`, that it was held against
    length: str
    k: int
    cases: int = 0  #: words compared; NaN is equal to NaN of any bits
    equal: int = 0
    differ: int = 0
    sums: str = ""  #: the order of summing that was compared: one that explains all words, if any does
    first: GpuDifference | None = None
    skipped: str | None = None  #: why nothing was compared


@dataclass(frozen=True, repr=False)
class GpuCheck(Result):
    """What `check_gpu` found; prints as a table, and shows as one in a notebook."""

    facts: GpuFacts
    seed: int
    side: int
    rows: tuple[GpuRow, ...]

    @property
    def agrees(self) -> bool:
        """Whether words were compared, and all are equal."""
        return any(row.cases for row in self.rows) and not any(row.differ for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {"agrees": self.agrees, **dataclasses.asdict(self)}

    def parts(self) -> list[Part]:
        """Return a table of the rows, and what differs."""
        columns: dict[str, Callable[[list[GpuRow]], str]] = {
            "operation": lambda rows: rows[0].operation,
            "core": lambda rows: rows[0].core,
            "k": lambda rows: ", ".join(row.length for row in rows),
            "equal>": lambda rows: f"{sum(row.equal for row in rows):,}",
            "differ>": lambda rows: f"{sum(row.differ for row in rows):,}",
            "summed as": lambda rows: rows[0].sums,
        }
        compared = [row for row in self.rows if not row.skipped]
        alike: dict[Any, list[GpuRow]] = {}
        for row in compared:
            alike.setdefault((row.operation, row.sums, row.differ > 0), []).append(row)
        skipped = {row.operation: row.skipped for row in self.rows if row.skipped}
        facts = self.facts
        versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
        capability = ".".join(map(str, facts.capability))
        notes = [
            f"compute capability {capability}, driver {facts.driver}, {versions}",
            f"seed {self.seed}; {self.side} x {self.side} words of each of {len(KINDS)} kinds of inputs: "
            f"{', '.join(KINDS)}",
            "k: steps of the core, the rest zeros, or k; full: rows repeated until the GPU is full",
            "summed as: the order along k, of those known, that gives all words",
            *(f"not compared: {name}: {why}" for name, why in skipped.items()),
            self._bottom_line(compared),
        ]
        table = Table.of(f"{facts.gpu} against fp8sim, bit by bit", columns, alike.values(), notes)
        return [table, *(Page(list(_lines(row))) for row in self.rows if row.first)]

    def _bottom_line(self, compared: Sequence[GpuRow]) -> str:
        cases, differ = (sum(getattr(row, name) for row in compared) for name in ("cases", "differ"))
        if not cases:
            return "nothing was compared"
        return f"{differ:,} of {cases:,} words differ" if differ else f"all {cases:,} words are equal"


def _lines(row: GpuRow) -> Iterator[Line]:
    """Tell the first difference of a row."""
    first = row.first
    assert first is not None
    yield [Span(f"{row.operation}, k {row.length}: first difference", "title")]
    digits = 2 + FORMATS[first.out].bits // 4
    place = f"row {first.row}, column {first.column} of {first.inputs!r}"
    yield from prose("where", place)
    yield from prose("GPU", f"{first.found:#0{digits}x}")
    yield from prose("model", f"{first.expected:#0{digits}x}")
    pairs = [(at, a, b) for at, (a, b) in enumerate(zip(first.a, first.b, strict=True)) if a and b]
    shown = ", ".join(f"{at}: 0x{a:x} 0x{b:x}" for at, a, b in pairs[:SHOWN])
    more = f", and {len(pairs) - SHOWN} more in its data" if len(pairs) > SHOWN else ""
    yield from prose("k: a b", f"{shown}{more}")


def check_gpu(
    *,
    seed: int = 0,
    side: int = 128,
    operations: str | Operation | Sequence[str | Operation] | None = None,
    device: Gpu | None = None,
    on_row: Callable[[str], object] | None = None,
) -> GpuCheck:
    """Multiply on a GPU, and compare every word with the core of its generation.

    FP16, BF16 and TF32 by ``torch.mm``, FP8 by ``torch._scaled_mm`` with and without fast accumulation: one
    and two steps of the core, the rest zeros, and long k; normal numbers, any codes, wide exponents, sums
    that cancel, subnormals, large numbers, NaN, infinity and zeros of both signs. A library may cut k or
    share it among warps: each row says the order that explains all of its words, or that none does.
    What the GPU or PyTorch cannot do is skipped, by name and with the reason.

    Parameters
    ----------
    seed : int
        Of all inputs.
    side : int
        Rows of A and columns of B, a multiple of 16.
    operations : str or Operation, or a sequence of them, optional
        Names in `fp8sim.experiments.gpu.OPERATIONS`; all by default.
    device : Gpu, optional
        What multiplies; PyTorch's current GPU by default. `fp8sim.experiments.gpu.Emulated` tries the check
        without one.
    on_row : callable, optional
        Is called with the name of each row that is done.

    Returns
    -------
    GpuCheck
        One row per operation and length, and whether all agrees.

    Raises
    ------
    RuntimeError
        If there is no GPU that can be checked, with one line that says what is needed.
    ValueError
        If `side` is no multiple of 16, or an operation is unknown.

    Examples
    --------
    >>> import fp8sim
    >>> from fp8sim.experiments.gpu import Emulated
    >>> result = fp8sim.check_gpu(side=16, operations="scaled_mm e4m3 e4m3", device=Emulated((9, 0)))
    >>> result.agrees, result.rows[-1].core, result.rows[-1].sums
    (True, 'hopper-fp8', 'promoted every 128')
    """
    seed, side = (
        checks.within(checks.whole_number(seed, "seed"), "seed", 0),
        checks.positive_int(side, "side"),
    )
    if side % 16:
        raise ValueError(f"side={side} is no multiple of 16, which cuBLAS needs; pass {-(-side // 16) * 16}")
    asked = checks.several(OPERATIONS if operations is None else operations, Operation, "operations")
    chosen = [OPERATIONS.find(one) for one in asked]
    gpu = find_gpu() if device is None else device
    setting, rows = _Setting(gpu, gpu.facts(), seed, side), []
    generation_of(setting.facts.capability)  # refuses what there are no cores of
    for operation in chosen:
        for length in LENGTHS:
            rows.append(_compare(setting, operation, length))
            if on_row is not None:
                on_row(f"{operation.name}, {length.name}")
    return GpuCheck(setting.facts, seed, side, tuple(rows))


def count_rows(operations: Sequence[object] | None = None) -> int:
    """Return how many rows a check has."""
    return len(operations or OPERATIONS) * len(LENGTHS)


class _Setting(NamedTuple):
    """What is the same for all rows of a check."""

    gpu: Gpu
    facts: GpuFacts
    seed: int
    side: int


class _Product(NamedTuple):
    """What a GPU was given, and what it wrote."""

    operation: Operation
    core: TensorCore
    inputs: str
    a: AnyArray
    b: AnyArray
    words: AnyArray


def _compare(setting: _Setting, operation: Operation, length: _Length) -> GpuRow:
    """Multiply inputs of all kinds at one length, and find the order of summing that explains the words."""
    facts, row = setting.facts, GpuRow(operation.name, "", length.name, length.k)
    if facts.capability < operation.since:
        has, needs = (".".join(map(str, c)) for c in (facts.capability, operation.since))
        return dataclasses.replace(row, skipped=f"compute capability {needs} or newer has it, this is {has}")
    core = core_of(operation, generation_of(facts.capability))
    row = dataclasses.replace(row, core=core.name)
    used, products = length.steps * core.step or length.k, []
    for number, kind in enumerate(KINDS):
        a, b = draw(operation, kind, setting.side, used, length.k, [setting.seed, number])
        try:
            words = setting.gpu.multiply(operation, a, b, length.copies)
        except NotImplementedError as reason:
            return dataclasses.replace(row, skipped=str(reason))
        products.append(_Product(operation, core, kind, a, b, words))
    plain, *others = ways(operation, core, length.k)
    wrong = [_differing(product, plain) for product in products]
    cases, differ = sum(mask.size for mask in wrong), sum(int(mask.sum()) for mask in wrong)
    name, first = plain.name, None
    if differ:
        explained = (way for way in others if not any(_differing(p, way).any() for p in products))
        if (way := next(explained, None)) is not None:
            name, differ = way.name, 0
        else:
            at = next(i for i, mask in enumerate(wrong) if mask.any())
            name, first = f"no known order; {name}", _difference(products[at], plain, wrong[at])
    return dataclasses.replace(row, cases=cases, equal=cases - differ, differ=differ, sums=name, first=first)


def _differing(product: _Product, way: Way) -> AnyArray:
    """Mark the words that are not what the core says; NaN is NaN."""
    fmt = FORMATS[product.operation.out]
    expected = expected_words(product.operation, product.core, way, product.a, product.b)
    magnitude = fmt.code_dtype.type((1 << (fmt.bits - 1)) - 1)
    # what is above infinity, the code after the largest finite number, is NaN: FP16's are 0x7c01 to 0x7fff
    both_nan = ((product.words & magnitude) > fmt.top_code + 1) & ((expected & magnitude) > fmt.top_code + 1)
    return np.asarray((product.words != expected) & ~both_nan)


def _difference(product: _Product, way: Way, wrong: AnyArray) -> GpuDifference:
    """Return the first word that is marked, and what was multiplied."""
    row, column = (int(i) for i in np.argwhere(wrong)[0])
    a, b = product.a[row], product.b[column]
    expected = expected_words(product.operation, product.core, way, a[None], b[None])
    words = int(product.words[row, column]), int(expected[0, 0])
    kinds = product.inputs, product.operation.out
    return GpuDifference(*kinds, row, column, tuple(a.tolist()), tuple(b.tolist()), *words)
