"""Codes to multiply, of kinds that tell one law of summing from another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fp8sim._support.typing import AnyArray
from fp8sim.casts import encode
from fp8sim.experiments.gpu.operations import Operation
from fp8sim.formats import FORMATS, FloatFormat

__all__ = ["KINDS", "draw"]


class _Draw(NamedTuple):
    """What is drawn from: two formats and that of the sums, rows on either side, k."""

    rng: np.random.Generator
    formats: tuple[FloatFormat, FloatFormat]
    out: FloatFormat
    side: int
    k: int

    def build(self, fmt: FloatFormat, exponent: AnyArray) -> AnyArray:
        """Return codes with these exponents, subnormal or saturated where they are far, of random signs.

        Half of the mantissas tell much: 1.0, one place more, one and a half, or all ones.
        """
        bits = fmt.mantissa_bits
        few = self.rng.choice(np.array([0, 1, 1 << bits >> 1, (1 << bits) - 1]), exponent.shape)
        any_bits = self.rng.integers(0, 1 << bits, exponent.shape)
        mantissa = np.where(self.rng.random(exponent.shape) < 0.5, few, any_bits)
        shift = np.clip(fmt.emin - exponent, 0, bits + 1)
        significand = ((1 << bits) | mantissa) >> shift
        # the hidden bit adds one to the exponent field: E4M3's 1.0 is field 7, ((0 + 6) << 3) + 0b1000 = 0x38
        code = (np.maximum(exponent - fmt.emin, 0) << bits) + significand
        return self.signed(fmt, np.minimum(code, fmt.top_code))

    def signed(self, fmt: FloatFormat, code: AnyArray) -> AnyArray:
        """Give codes random signs."""
        return code | self.rng.integers(0, 2, code.shape) << (fmt.bits - 1)

    def finite(self, fmt: FloatFormat) -> AnyArray:
        """Return any finite codes."""
        return self.signed(fmt, self.rng.integers(0, fmt.top_code + 1, (self.side, self.k)))


def _normal(draw: _Draw) -> Any:
    for fmt in draw.formats:
        spread = 2.0 ** draw.rng.integers(-3, 4, (draw.side, 1))
        values = (draw.rng.standard_normal((draw.side, draw.k)) * spread).astype(np.float32)
        yield encode(values, fmt, overflow="saturate").view(fmt.code_dtype)


def _codes(draw: _Draw) -> Any:
    return map(draw.finite, draw.formats)


def _wide(draw: _Draw) -> Any:
    for fmt in draw.formats:
        low, high = (-40, 40) if fmt.emax > 100 else (fmt.emin + 2, fmt.emax + 1)
        top = draw.rng.integers(low, high, (draw.side, 1))
        yield draw.build(fmt, top - draw.rng.integers(0, 17, (draw.side, draw.k)))


def _cancelling(draw: _Draw) -> Any:
    """Pairs of products that cancel, anywhere along k, beside a quarter that do not and are smaller."""
    pairs = draw.k * 3 // 8 * 2
    order = draw.rng.permutation(draw.k)
    for side, (fmt, codes) in enumerate(zip(draw.formats, _wide(draw), strict=True)):
        codes[:, 1:pairs:2] = codes[:, 0:pairs:2] ^ ((1 - side) << (fmt.bits - 1))
        small = draw.rng.integers(fmt.emin if fmt.emax < 100 else -60, 1, (draw.side, draw.k - pairs))
        codes[:, pairs:] = draw.build(fmt, small)
        yield codes[:, order]


def _subnormal(draw: _Draw) -> Any:
    for side, fmt in enumerate(draw.formats):
        exponent = fmt.emin + draw.rng.integers(-fmt.mantissa_bits - 1, 3, (draw.side, draw.k))
        if fmt.emax > 100:  # two such products are nothing: small times about one, or both middling
            middling = draw.rng.integers(-72, -62, exponent.shape)
            other = draw.rng.integers(-2, 3, exponent.shape) if side else exponent
            exponent = np.where(np.arange(draw.side)[:, None] % 2, other, middling)
        yield draw.build(fmt, exponent)


def _tiny(draw: _Draw) -> Any:
    """Products that are each below the smallest sum, where the format has such; in FP16, beside a tie.

    Of FP16 sums, half the smallest is 2^-25 = 2^-12 x 2^-13: what is beside it decides how that rounds.
    """
    for side, fmt in enumerate(draw.formats):
        low = -77 if fmt.emax > 100 else fmt.emin - fmt.mantissa_bits
        codes = draw.build(fmt, low + draw.rng.integers(0, 4, (draw.side, draw.k)))
        if draw.out.bits == 16:
            codes = np.where(draw.rng.random(codes.shape) < 0.7, 0, codes)
            codes[:, 0] = (max(-12 - side, fmt.emin) - fmt.emin + 1) << fmt.mantissa_bits
        positive = codes & ~(1 << (fmt.bits - 1))
        yield np.where(draw.rng.random((draw.side, 1)) < 0.7, positive, codes)


def _large(draw: _Draw) -> Any:
    for fmt in draw.formats:
        top = min(fmt.emax, draw.out.emax // 2)
        yield draw.build(fmt, top - draw.rng.integers(0, 5, (draw.side, draw.k)))


def _special(draw: _Draw) -> Any:
    """Few of k are infinity, NaN of any payload, or zero, as many of each."""
    for fmt in draw.formats:
        beyond = draw.rng.integers(fmt.top_code + 1, 1 << (fmt.bits - 1), (draw.side, draw.k))
        which = draw.rng.integers(0, 3, beyond.shape)
        special = draw.signed(fmt, np.choose(which, [fmt.top_code + 1, beyond, 0]))
        yield np.where(draw.rng.random(beyond.shape) < 0.2 / draw.k, special, draw.finite(fmt))


def _zeros(draw: _Draw) -> Any:
    for fmt in draw.formats:
        zeros = draw.signed(fmt, np.zeros((draw.side, draw.k), np.int64))
        rate = draw.rng.choice([0.0, 0.1, 0.3], (draw.side, 1))
        yield np.where(draw.rng.random(zeros.shape) < rate, draw.finite(fmt), zeros)


#: kind -> how it draws the codes of A and of B transposed.
KINDS: dict[str, Callable[[_Draw], Any]] = {
    "normal": _normal,
    "any codes": _codes,
    "wide exponents": _wide,
    "cancelling": _cancelling,
    "subnormal": _subnormal,
    "tiny sums": _tiny,
    "large": _large,
    "NaN and infinity": _special,
    "signed zeros": _zeros,
}


def draw(
    operation: Operation, kind: str, side: int, used: int, k: int, seed: list[int]
) -> tuple[AnyArray, AnyArray]:
    """Return codes of A and of B transposed, both (side, k), zero beyond `used` of k.

    Examples
    --------
    >>> from fp8sim.experiments.gpu import OPERATIONS
    >>> a, b = draw(OPERATIONS["mm fp16"], "any codes", 4, 16, 64, [0])
    >>> a.shape, a.dtype, bool(a[:, 16:].any())
    ((4, 64), dtype('uint16'), False)
    """
    formats = FORMATS[operation.a], FORMATS[operation.b]
    sums = FORMATS["fp16" if operation.out == "fp16" else "fp32"]
    sides = KINDS[kind](_Draw(np.random.default_rng(seed), formats, sums, side, used))
    a, b = (
        np.pad(codes.astype(fmt.code_dtype), ((0, 0), (0, k - used)))
        for codes, fmt in zip(sides, formats, strict=True)
    )
    return a, b
