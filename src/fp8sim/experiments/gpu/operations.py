"""What PyTorch alone reaches of a GPU's tensor cores: the operations, and the ways their kernels may sum."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp8sim._support import checks
from fp8sim._support.registry import Registry
from fp8sim._support.typing import AnyArray
from fp8sim.casts import decode, encode
from fp8sim.formats import FORMATS
from fp8sim.tensor_cores import TENSOR_CORES, TensorCore, tensor_core_matmul

__all__ = ["OPERATIONS", "Operation", "Way", "core_of", "expected_words", "generation_of", "ways"]

#: Least compute capability -> generation of `TENSOR_CORES`; RTX Blackwell (12.x) sums as Blackwell does
#: (MMA-Sim, arXiv 2511.10909v2, tables 4 and 5). Beyond the last major version nothing is known.
GENERATIONS = {
    (7, 0): "volta",
    (7, 5): "turing",
    (8, 0): "ampere",
    (8, 9): "ada",
    (9, 0): "hopper",
    (10, 0): "blackwell",
}
LAST_MAJOR = 12


@dataclass(frozen=True)
class Operation:
    """A product as PyTorch is asked for it.

    Examples
    --------
    >>> OPERATIONS["mm tf32"].since
    (8, 0)
    """

    name: str
    a: str  #: format of A
    b: str  #: format of B
    out: str  #: format of the product
    core: str  #: the core without its generation
    since: tuple[int, int] = (7, 0)  #: least compute capability whose cores have it
    fast: bool | None = None  #: FP8: whether fast accumulation is on

    def __post_init__(self) -> None:
        """Check the fields."""
        checks.fields(self, since=(0, 99))


def _fp8(a: str, b: str, fast: bool) -> Operation:
    """`torch._scaled_mm` with scales of 1; cuBLAS multiplies no E5M2 by E5M2."""
    return Operation(f"scaled_mm {a} {b}" + ", fast" * fast, a, b, "fp32", "fp8", (8, 9), fast)


_OPERATIONS = (
    Operation("mm fp16 to fp32", "fp16", "fp16", "fp32", "fp16"),
    Operation("mm fp16", "fp16", "fp16", "fp16", "fp16"),
    Operation("mm fp16, fp16 sums", "fp16", "fp16", "fp16", "fp16-fp16out"),
    Operation("mm bf16 to fp32", "bf16", "bf16", "fp32", "bf16", (8, 0)),
    Operation("mm bf16", "bf16", "bf16", "bf16", "bf16", (8, 0)),
    Operation("mm tf32", "tf32", "tf32", "fp32", "tf32", (8, 0)),
    *(
        _fp8(a, b, fast)
        for a, b in (("e4m3", "e4m3"), ("e4m3", "e5m2"), ("e5m2", "e4m3"))
        for fast in (True, False)
    ),
)


#: Name -> operation; prints as a table.
OPERATIONS: Registry[Operation] = Registry(
    "operation",
    Operation,
    _OPERATIONS,
    {
        "A": lambda operation: operation.a,
        "B": lambda operation: operation.b,
        "product": lambda operation: operation.out,
        "core": lambda operation: f"...-{operation.core}",
        "compute capability>": lambda operation: ".".join(map(str, operation.since)),
    },
)


def generation_of(capability: tuple[int, int]) -> str:
    """Return the generation of a compute capability, as the names of `TENSOR_CORES` begin.

    Raises
    ------
    RuntimeError
        If there are no cores of it.

    Examples
    --------
    >>> generation_of((8, 6)), generation_of((12, 0))
    ('ampere', 'blackwell')
    """
    known = [name for least, name in GENERATIONS.items() if least <= capability]
    if not known or capability[0] > LAST_MAJOR:
        shown = ".".join(map(str, capability))
        raise RuntimeError(
            f"fp8sim has no cores of compute capability {shown}; check a GPU from 7.0 to {LAST_MAJOR}.x"
        )
    return known[-1]


def core_of(operation: Operation, generation: str) -> TensorCore:
    """Return the core that an operation is held against."""
    return TENSOR_CORES[f"{generation}-{operation.core}"]


@dataclass(frozen=True)
class Way:
    """An order in which a kernel may sum along k: parts by themselves, added one after the other."""

    name: str
    parts: tuple[Any, ...]  #: what each part takes of k
    promote_every: int | None = None


def ways(operation: Operation, core: TensorCore, k: int) -> Iterator[Way]:
    """Yield the orders in which kernels are known to sum, the plain one first.

    cuBLAS may cut k into slices where a product is too small to fill the GPU (on an H100: 16384 in six
    slices of 2816 for FP8, multiples of 128; of 4 for TF32), and older kernels share each tile of k
    among warps. FP8 on Ada and Hopper leaves the core every 128 of k where fast accumulation is off.
    """
    promoted = operation.fast is False and core.output == "e8m13-rz"
    whole = (slice(0, k),)
    every = 128 if promoted else None
    if promoted:
        yield Way("promoted every 128", whole, 128)
    yield Way("one chain", whole)
    for other in (32, 64, 256, 512) if promoted else ():
        yield Way(f"promoted every {other}", whole, other)
    units = (128,) if operation.core == "fp8" else (64, 4)
    sizes = {-(-k // (count * unit)) * unit for unit in units for count in range(2, 65)}
    for size in sorted(sizes - {k}, reverse=True):
        if size < k:
            parts = tuple(slice(at, at + size) for at in range(0, k, size))
            yield Way(f"{len(parts)} slices of {size}", parts, every)
    for tile in (128, 64, 32):
        for count in (2, 4):
            run = tile // count
            turns = np.arange(k) // run % count
            if run % core.step == 0 and turns.any():
                shared = tuple(np.flatnonzero(turns == turn) for turn in range(count))
                yield Way(f"{run} of k in turn to {count} sums", shared, every)


def expected_words(operation: Operation, core: TensorCore, way: Way, a: AnyArray, b: AnyArray) -> AnyArray:
    """Return the words of A times B by the model: codes of A (m, k), of B transposed (n, k).

    Examples
    --------
    >>> operation = OPERATIONS["mm fp16 to fp32"]
    >>> core = core_of(operation, "hopper")
    >>> ones = encode(np.ones((1, 16)), "fp16").view(np.uint16)
    >>> words = expected_words(operation, core, next(ways(operation, core, 16)), ones, ones)
    >>> words.view(np.float32)
    array([[16.]], dtype=float32)
    """
    left, right = decode(a, operation.a), decode(b, operation.b)
    options: dict[str, Any] = {"a_format": operation.a, "b_format": operation.b}
    options["promote_every"] = way.promote_every
    sums = np.float16 if core.output == "fp16-rne" else np.float32
    with np.errstate(all="ignore"):
        chains = (
            tensor_core_matmul(left[:, part], right[:, part].T, core, **options).astype(sums)
            for part in way.parts
        )
        total = functools.reduce(np.add, chains).astype(np.float32)
    if operation.out == "fp32":
        return total.view(np.uint32)
    return encode(total, operation.out).view(FORMATS[operation.out].code_dtype)
