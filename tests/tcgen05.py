"""The rules of block-scaled tcgen05.mma, one output at a time in whole numbers: an oracle, and cases for it.

They are those of MODEL.md in sf-tensor/tcgen05 (@8fce64d), which its authors hold against words of a B200. R is
the largest exponent of a product other than zero, scales included, S that of the scales of such a product, and
rc the exponent of c, each as stored: a subnormal has the least of its format. Nothing here is shared with fp8sim
but the values of codes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

import fp8sim
from fp8sim._support.typing import F32, AnyArray
from fp8sim.tensor_cores import TensorCore

NAN, INFINITY = 0x7FFFFFFF, 0x7F800000
K = {"mxf8f6f4": 32, "mxf4": 64, "nvfp4": 64}
CORES = {"mxf8f6f4": "blackwell-mxfp8", "mxf4": "blackwell-mxfp4", "nvfp4": "blackwell-nvfp4"}
LEAST = {"e4m3": -6, "e5m2": -14, "e2m3": 0, "e3m2": -2, "e2m1": 0, "e8m0": -127, "fp32": -126}

Number = tuple[int, int, int]  #: whole number m and exponent e of m * 2^e, and the exponent as stored


def split(value: float, fmt: str) -> Number:
    """Take a finite value apart."""
    raw = max(math.frexp(value)[1] - 1, LEAST[fmt]) if value else LEAST[fmt]
    m = int(math.ldexp(value, 23 - raw))
    assert math.ldexp(m, raw - 23) == value
    return m, raw - 23, raw


def units(m: int, e: int, q: int) -> int:
    """Return m * 2^e in units of 2^q, cut off toward zero."""
    size = abs(m) << e - q if e >= q else abs(m) >> q - e
    return -size if m < 0 else size


def fp32_word(m: int, e: int) -> int:
    """Cut m * 2^e off to FP32; zero is positive."""
    if not m:
        return 0
    last = max(abs(m).bit_length() - 1 + e, -126) - 23
    # Of a normal number the first bit is 1, and adds one to the exponent field.
    bits = INFINITY if last > 127 - 23 else (last + 149 << 23) + units(abs(m), e, last)
    return bits | (0x80000000 if m < 0 and bits else 0)


class Dot(NamedTuple):
    """One output: values along k, c, and one scale per block of them."""

    a: list[float]
    b: list[float]
    c: float
    a_scales: list[float]
    b_scales: list[float]

    def special(self) -> int | None:
        """Return the word that NaN and infinity decide, if there are any."""
        finite = map(math.isfinite, (*self.a, *self.b, self.c, *self.a_scales, *self.b_scales))
        if all(finite):
            return None
        if any(map(math.isnan, (*self.a_scales, *self.b_scales))):
            return NAN
        found = {x * y for x, y in zip(self.a, self.b, strict=True)} | {self.c}
        if any(map(math.isnan, found)) or {math.inf, -math.inf} <= found:
            return NAN
        return INFINITY if math.inf in found else INFINITY | 0x80000000


def word(kind: str, dot: Dot, formats: tuple[str, str] = ("e2m1", "e2m1"), floor: int = -(10**6)) -> int:
    """Return the FP32 word that an instruction of a kind writes; `floor` is the least q."""
    special = dot.special()
    if special is not None:
        return special
    scale_format = "e4m3" if kind == "nvfp4" else "e8m0"
    block = len(dot.a) // len(dot.a_scales)
    scales = [
        (p * q, e + f, r + s)
        for (p, e, r), (q, f, s) in zip(
            *([split(x, scale_format) for x in side] for side in (dot.a_scales, dot.b_scales)), strict=True
        )
    ]
    products: list[Number] = []
    pairs = []  # exponents of the scales of products other than zero
    for k, (x, y) in enumerate(zip(dot.a, dot.b, strict=True)):
        (p, e, r), (q, f, s), (m, g, t) = split(x, formats[0]), split(y, formats[1]), scales[k // block]
        products.append((p * q * m, e + f + g, r + s + t))
        if p * q * m:
            pairs.append(t)
    c, c_unit, c_raw = split(dot.c, "fp32")
    there = [raw for m, _, raw in products if m]
    if not there:
        return fp32_word(c, c_unit)
    return _finite(kind, products, max(there), max(pairs), (c, c_unit, c_raw), floor)


def _finite(kind: str, products: list[Number], r: int, s: int, c: Number, floor: int) -> int:
    """Sum products of which one at least is not zero."""
    c_raw = c[2] if c[0] else -(10**6)
    if kind == "mxf8f6f4":
        q = max(r - 25, c_raw - 25, floor)
        return fp32_word(units(c[0], c[1], q) + sum(units(m, e, q) for m, e, _ in products), q)
    if kind == "mxf4":
        q = max(r - 39, s - 35, c_raw - 39, floor)
        total = units(c[0], c[1], q)
        for group in _groups(products, 16):
            m, e = _exact(group)
            outranked = any(p[0] for p in group) and c_raw >= max(p[2] for p in group if p[0])
            cut = max(q, c_raw - 35) if outranked else q
            total += units(m, e, cut) << cut - q
        return fp32_word(total, q)
    leads = c_raw >= r
    q, size = (c_raw - 35, 16) if leads else (max(max(r, c_raw) - 39, s - 35), 4)
    terms = [c[:2], *map(_exact, _groups(products, size))]
    return fp32_word(sum(units(m, e, q) for m, e in terms), q)


def _groups(products: list[Number], size: int) -> list[list[Number]]:
    return [products[k : k + size] for k in range(0, len(products), size)]


def _exact(group: list[Number]) -> tuple[int, int]:
    """Sum products exactly."""
    least = min(e for _, e, _ in group)
    return sum(m << e - least for m, e, _ in group), least


# Cases


class Batch(NamedTuple):
    """Rows of A (1, k) by columns of B (k, n), with what they start from and their scales."""

    kind: str
    formats: tuple[str, str]
    a: F32
    b: F32
    c: F32
    a_scales: F32
    b_scales: F32

    def dots(self) -> list[Dot]:
        """Return the outputs one by one."""
        row, scales = self.a[0].tolist(), self.a_scales[0].tolist()
        columns = zip(self.b.T.tolist(), self.c[0].tolist(), self.b_scales.T.tolist(), strict=True)
        return [Dot(row, column, c, scales, own) for column, c, own in columns]

    def words(self, floor: int) -> AnyArray:
        """Return what the oracle says."""
        return np.array([[word(self.kind, dot, self.formats, floor) for dot in self.dots()]], np.uint32)

    def product(self, core: TensorCore | None = None) -> AnyArray:
        """Return what fp8sim says; of another core than that of the kind, if so asked."""
        options: dict[str, Any] = {"c": self.c, "scales": (self.a_scales, self.b_scales)}
        options |= dict(zip(("a_format", "b_format"), self.formats, strict=True))
        found = fp8sim.tensor_core_matmul(self.a, self.b, core or CORES[self.kind], **options)
        return found.view(np.uint32)


def draw(kind: str, how: str, n: int, rng: np.random.Generator) -> Batch:
    """Draw a batch: "random" codes, groups that are "cancelling" exactly, "special" values, or "edge" cases.

    Those have blocks so far apart that what is cut off decides the words, or are so small that a floor does.
    """
    k, small = K[kind], ("e4m3", "e5m2", "e2m3", "e3m2", "e2m1")
    formats = tuple(str(x) for x in rng.choice(small, 2)) if kind == "mxf8f6f4" else ("e2m1", "e2m1")
    a, b = _values(formats[0], (1, k), how, rng), _values(formats[1], (k, n), how, rng)
    if how in ("cancelling", "special"):
        _cancel(a, b, rng)
    blocks = k // (16 if kind == "nvfp4" else 32)
    if how == "edge":
        a_scales, b_scales = _edge(kind, a, b, rng)
    else:
        a_scales, b_scales = (_scales(kind, shape, how, rng) for shape in ((1, blocks), (blocks, n)))
    return Batch(kind, formats, a, b, _starts(a, b, a_scales, b_scales, how, rng), a_scales, b_scales)


def _values(fmt: str, shape: tuple[int, int], how: str, rng: np.random.Generator) -> F32:
    bits = fp8sim.get_format(fmt).bits
    values = fp8sim.decode(rng.integers(0, 2**bits, shape, np.uint8), fmt)
    keep = np.isfinite(values) | (how == "special") & (rng.random(shape) < 0.02)
    return np.where(keep & (rng.random(shape) < rng.choice([0.1, 0.5, 1.0])), values, np.float32(0))


def _cancel(a: F32, b: F32, rng: np.random.Generator) -> None:
    """Make some groups of 4, 16 or all of the products cancel exactly, and some of them zero."""
    size = int(rng.choice([4, 16, 32]))
    half = size // 2
    for k in range(0, len(b), size):
        mirrored = rng.random(b.shape[1]) < 0.6
        if rng.random() < 0.8:
            a[:, k + half : k + size] = a[:, k : k + half]
            b[k + half : k + size, mirrored] = -b[k : k + half, mirrored]
        b[k : k + size, rng.random(b.shape[1]) < 0.15] = 0


def _edge(kind: str, a: F32, b: F32, rng: np.random.Generator) -> tuple[F32, F32]:
    """Draw scales of large and of small blocks, and turn A and B into values that show what is cut off."""
    k, n = b.shape
    if kind == "mxf8f6f4":  # the largest product at about 2^-133
        a_scales = np.ldexp(np.float32(1), rng.integers(-90, -50, (1, 1)))
        top = np.frexp(np.nan_to_num(np.abs(a.T * b), posinf=1).max(axis=0, keepdims=True))[1]
        place = -134 - top - np.frexp(a_scales)[1] + rng.integers(-2, 3, (1, n))
        return a_scales, np.ldexp(np.float32(1), np.clip(place, -127, 127))
    block = 16 if kind == "nvfp4" else 32
    small = rng.random(k // block) < 0.5
    along = np.repeat(small, block)
    a[:, along & (rng.random(k) < 0.5)] = 0.5
    b[along] = np.where(
        rng.random((along.sum(), n)) < rng.choice([0.1, 0.6]), 0.5 * rng.choice([-1, 1, 3]), 0
    )
    if kind == "mxf4":  # about 2^-139 and 2^-174
        a_scales = np.where(small, rng.integers(-89, -84, len(small)), -70)[None]
        b_scales = np.where(small[:, None], -87, rng.integers(-72, -67, (len(small), n)))
        return np.ldexp(np.float32(1), a_scales), np.ldexp(np.float32(1), b_scales)
    for at in (
        np.flatnonzero(~small) * block
    ):  # large blocks cancel, in twos: what else there is comes to light
        a[:, at + 1 : at + block : 2] = a[:, at : at + block : 2]
        b[at + 1 : at + block : 2] = -b[at : at + block : 2]
    codes = [
        np.where(low, rng.choice([1, 3, 7, 15], low.shape), rng.integers(120, 127, low.shape))
        for low in (small[None], np.repeat(small[:, None], n, 1))
    ]
    a_scales, b_scales = (fp8sim.decode(x.astype(np.uint8), "e4m3") for x in codes)
    return a_scales, b_scales


def _scales(kind: str, shape: tuple[int, int], how: str, rng: np.random.Generator) -> F32:
    nan = (rng.random(shape) < 0.01) & (how == "special")
    if kind == "nvfp4":
        codes = rng.integers(0, 127, shape)
        return fp8sim.decode(np.where(nan, 0x7F, codes).astype(np.uint8), "e4m3")
    middle, reach = rng.choice([0, -62, -66, -70, -74, -80, 60]), rng.choice([2, 12, 24, 45])
    exponents = np.clip(middle + rng.integers(-reach, reach + 1, shape), -127, 127)
    if rng.random() < 0.2:
        exponents = rng.integers(-127, 128, shape)
    return np.where(nan, np.float32(np.nan), np.ldexp(np.float32(1), exponents))


def _starts(a: F32, b: F32, a_scales: F32, b_scales: F32, how: str, rng: np.random.Generator) -> F32:
    """Draw c: zero, any FP32, of about the exponents that enter, or minus the sum of the products."""
    n, block = b.shape[1], len(b) // len(b_scales)
    with np.errstate(all="ignore"):
        left, right = (
            a * np.repeat(a_scales, block, 1).astype(float),
            b * np.repeat(b_scales, block, 0).astype(float),
        )
        exact, largest = (left @ right)[0], np.abs(left.T * right).max(axis=0)
        near = np.ldexp(rng.uniform(-2, 2, n), np.frexp(np.where(np.isfinite(largest), largest, 1))[1])
        near = near * np.exp2(rng.integers(-6, 7, n))
        opposite = -exact * (1 + rng.choice([0, 0, 2.0**-23, -(2.0**-22), 2.0**-12], n))
        anything = rng.integers(0, 2**32, n, np.uint32).view(np.float32).astype(float)
        tiny = 2.0 ** -(40 if how != "edge" else 24)
        choices = np.stack([np.zeros(n), anything, near, opposite, near * tiny])
        c = choices[rng.integers(0, len(choices), n), np.arange(n)].astype(np.float32)
        if how != "special":
            c = np.where(np.isfinite(c), c, np.float32(1))
        elif rng.random() < 0.5:
            c = np.where(rng.random(n) < 0.3, rng.integers(0, 2**23, n).astype(np.int32).view(np.float32), c)
    return np.where(rng.random((1, n)) < 0.5 * (how == "edge"), np.float32(0), c)
