"""Words to multiply, of kinds that tell one law of summing from another."""

from __future__ import annotations

from typing import Any

import numpy as np

import fp8sim
from fp8sim import FloatFormat
from fp8sim.tensor_cores import OUTPUTS
from silicon import Instruction, to_values, to_words

#: kind -> what its dot products are like.
KINDS = {
    "normal": "normally distributed, of several spreads",
    "codes": "any finite code; c near the largest product",
    "aligned": "exponents around the last place that is kept; few mantissa bits, or all of them",
    "cancelling": "pairs of large products that cancel beside small ones; c cancels the sum for half",
    "pair": "one or two products, the rest zero, and c near them: rounding of the result",
    "ties": "c, half or one of its last places, and what is so small that it just decides or is cut off",
    "subnormal": "subnormal inputs, accumulators and results",
    "least": "sums of products that are each below the smallest accumulator, where the format has such",
    "overflow": "sums around the largest number of the accumulator",
    "special": "NaN of any payload, infinities of both signs, zero times infinity",
    "zeros": "zeros of both signs, few other numbers",
    "single": "one product of any two codes, NaN and infinity among them: all 2^16 of them for FP8",
}

Words = Any  # unsigned integers


class Cases:
    """Draws A (m, k), B transposed (n, k) and C (m, n) for an instruction."""

    def __init__(self, instruction: Instruction, m: int, n: int, k: int, seed: list[int]) -> None:
        self.rng = np.random.default_rng(seed)
        self.a, self.b, self.c = instruction.formats
        self.core = instruction.core
        self.m, self.n, self.k = m, n, k

    def draw(self, kind: str) -> tuple[Words, Words, Words]:
        a, b, c = getattr(self, kind)()
        return to_words(a, self.a), to_words(b, self.b), to_words(c, self.c)

    # Parts

    def build(self, fmt: FloatFormat, exponent: Any, mantissa: Any = None) -> Words:
        """Return codes with these exponents, subnormal or saturated where they are far, of random signs."""
        shape = np.shape(exponent)
        if mantissa is None:
            mantissa = self.rng.integers(0, 1 << fmt.mantissa_bits, shape)
        shift = np.clip(fmt.emin - exponent, 0, fmt.mantissa_bits + 1)
        significand = ((1 << fmt.mantissa_bits) | mantissa) >> shift
        code = (np.maximum(exponent - fmt.emin, 0) << fmt.mantissa_bits) + significand
        return self.signed(fmt, np.minimum(code, fmt.top_code))

    def signed(self, fmt: FloatFormat, code: Words) -> Words:
        return code | self.rng.integers(0, 2, np.shape(code)) << (fmt.bits - 1)

    def telling(self, fmt: FloatFormat, shape: tuple[int, ...]) -> Words:
        """Return mantissas of which half are 1.0, one last place more, one and a half, or all ones."""
        bits = fmt.mantissa_bits
        few = self.rng.choice(np.array([0, 0, 1, 1 << (bits - 1), (1 << bits) - 1]), shape)
        return np.where(self.rng.random(shape) < 0.5, few, self.rng.integers(0, 1 << bits, shape))

    def finite(self, fmt: FloatFormat, shape: tuple[int, ...]) -> Words:
        return self.signed(fmt, self.rng.integers(0, fmt.top_code + 1, shape))

    def values(self, fmt: FloatFormat, x: Any) -> Words:
        codes = fp8sim.encode(np.asarray(x, np.float32), fmt, overflow="saturate")
        return codes.view(fmt.code_dtype).astype(np.int64)

    def tops(self, a: Words, b: Words) -> Any:
        """Return about the exponent of the largest product of every dot."""

        def largest(codes: Words, fmt: FloatFormat) -> Any:
            values = np.abs(to_values(to_words(codes, fmt), fmt)).max(axis=1)
            return np.frexp(np.maximum(values, 2.0**-140))[1] - 1

        return largest(a, self.a)[:, None] + largest(b, self.b)[None]

    def near(self, a: Words, b: Words, below: int = 30, above: int = 8) -> Words:
        """Return accumulators with exponents around that of the largest product, a few zero."""
        exponent = self.tops(a, b) + self.rng.integers(-below, above + 1, (self.m, self.n))
        c = self.build(self.c, exponent, self.telling(self.c, (self.m, self.n)))
        return np.where(self.rng.random(c.shape) < 0.1, 0, c)

    def exponents(self, fmt: FloatFormat, rows: int, spread: int) -> Any:
        """Return exponents of which each row has its own largest, and reaches `spread` below it."""
        if fmt.emax > 100:  # products that are neither subnormal nor too large
            top = self.rng.integers(-40, 40, (rows, 1))
        else:
            top = self.rng.integers(fmt.emin + 2, fmt.emax + 1, (rows, 1))
        return top - self.rng.integers(0, spread + 1, (rows, self.k))

    # Kinds

    def normal(self) -> tuple[Words, Words, Words]:
        spread = 2.0 ** self.rng.integers(-3, 4, (self.m, 1))
        a = self.values(self.a, self.rng.standard_normal((self.m, self.k)) * spread)
        b = self.values(self.b, self.rng.standard_normal((self.n, self.k)))
        size = 2.0 ** self.rng.integers(-8, 9, (self.m, self.n))
        return a, b, self.values(self.c, self.rng.standard_normal((self.m, self.n)) * size)

    def codes(self) -> tuple[Words, Words, Words]:
        a, b = self.finite(self.a, (self.m, self.k)), self.finite(self.b, (self.n, self.k))
        c = self.near(a, b, 40, 20)
        any_c = self.rng.random(c.shape) < 0.2
        return a, b, np.where(any_c, self.finite(self.c, c.shape), c)

    def aligned(self) -> tuple[Words, Words, Words]:
        sides = []
        for fmt, rows in ((self.a, self.m), (self.b, self.n)):
            exponent = self.exponents(fmt, rows, 16 if fmt.bits > 8 else 12)
            sides.append(self.build(fmt, exponent, self.telling(fmt, exponent.shape)))
        return *sides, self.near(*sides)

    def cancelling(self) -> tuple[Words, Words, Words]:
        half = self.k // 4 * 2  # products in pairs, of opposite signs
        a, b, _ = self.aligned()
        small = self.exponents(self.a, self.m, 4) - self.rng.integers(8, 24, (self.m, 1))
        a[:, half:] = self.build(self.a, small[:, half:])
        a[:, 1:half:2] = a[:, 0:half:2] ^ (1 << (self.a.bits - 1))
        b[:, 1:half:2] = b[:, 0:half:2]
        a, b = (x[:, order] for order in [self.rng.permutation(self.k)] for x in (a, b))
        c = self.near(a, b)
        left, right = (to_values(to_words(x, f), f).astype(np.float64) for x, f in ((a, self.a), (b, self.b)))
        against = self.values(self.c, np.clip(-(left @ right.T), -3e38, 3e38))
        against = np.clip(against + self.rng.integers(-2, 3, c.shape) * (against & 0xFFFF > 8), 0, None)
        return a, b, np.where(self.rng.random(c.shape) < 0.5, against, c)

    def pair(self) -> tuple[Words, Words, Words]:
        a, b = (
            self.build(fmt, exponent, self.telling(fmt, exponent.shape))
            for fmt, rows in ((self.a, self.m), (self.b, self.n))
            for exponent in [self.exponents(fmt, rows, 2)]
        )
        keep = np.argsort(self.rng.random((self.m, self.k)), axis=1) < self.rng.integers(1, 3, (self.m, 1))
        return np.where(keep, a, 0), b, self.near(a, b, 28, 28)

    def ties(self) -> tuple[Words, Words, Words]:
        out_bits = OUTPUTS[self.core.output]
        if self.a.emax > 100:
            top = self.rng.integers(-40, 40, (self.m, 1))
        else:
            top = self.rng.integers(max(self.a.emin - 2, -15 - out_bits), self.a.emax, (self.m, 1))
        own = self.rng.integers(-1, 2, (self.n, 1))
        down = out_bits + 1 - self.core.fraction_bits + self.rng.integers(-4, 7, (self.m, self.k))
        a = self.build(self.a, top + np.minimum(down, 0), self.telling(self.a, down.shape))
        a[:, 0] = self.build(self.a, top[:, 0], np.zeros(self.m, np.int64))
        b = self.build(self.b, np.broadcast_to(own, (self.n, self.k)), self.telling(self.b, (self.n, self.k)))
        b[:, 0] = self.build(self.b, own[:, 0], np.zeros(self.n, np.int64))
        a[:, 1:] = np.where(self.rng.random((self.m, self.k - 1)) < 0.8, 0, a[:, 1:])
        c = self.build(self.c, top + own.T + out_bits + self.rng.integers(0, 3, (self.m, self.n)))
        order = self.rng.permutation(self.k)
        return a[:, order], b[:, order], c

    def subnormal(self) -> tuple[Words, Words, Words]:
        sides = []
        for fmt, rows in ((self.a, self.m), (self.b, self.n)):
            shape = rows, self.k
            exponent = fmt.emin + self.rng.integers(-fmt.mantissa_bits - 1, 3, shape)
            if fmt.emax > 100:  # two such products are nothing: half are small times about one
                middling = self.rng.integers(-80, -62, (rows, 1)) + self.rng.integers(0, 6, shape)
                other = exponent if len(sides) == 0 else self.rng.integers(-2, 3, shape)
                exponent = np.where(self.rng.random((rows, 1)) < 0.5, other, middling)
            sides.append(self.build(fmt, exponent))
        exponent = self.c.emin + self.rng.integers(-self.c.mantissa_bits - 1, 3, (self.m, self.n))
        c = self.build(self.c, exponent)
        return *sides, np.where(self.rng.random(c.shape) < 0.3, self.near(*sides), c)

    def least(self) -> tuple[Words, Words, Words]:
        sides = []
        for fmt, rows in ((self.a, self.m), (self.b, self.n)):
            shape = rows, self.k
            low = -77 if fmt.emax > 100 else fmt.emin - fmt.mantissa_bits
            codes = self.build(fmt, low + self.rng.integers(0, 4, shape), self.telling(fmt, shape))
            if self.c.bits == 16:  # one product is half of the smallest FP16, or odd halves; few others count
                codes = np.where(self.rng.random(shape) < 0.7, 0, codes)
                whole = max(-12 - len(sides), fmt.emin) + np.zeros(rows, np.int64)
                codes[:, 0] = self.build(fmt, whole, self.rng.integers(0, 2, rows) << (fmt.mantissa_bits - 1))
            positive = codes & ~(1 << (fmt.bits - 1))
            sides.append(np.where(self.rng.random((rows, 1)) < 0.7, positive, codes))
        c = self.build(self.c, np.full((self.m, self.n), self.c.emin - self.c.mantissa_bits))
        return *sides, np.where(self.rng.random(c.shape) < 0.7, 0, c)

    def overflow(self) -> tuple[Words, Words, Words]:
        sides = []
        for fmt, rows in ((self.a, self.m), (self.b, self.n)):
            top = min(fmt.emax, self.c.emax // 2)
            sides.append(self.build(fmt, top - self.rng.integers(0, 5, (rows, self.k))))
        c = self.build(self.c, self.c.emax - self.rng.integers(0, 4, (self.m, self.n)))
        which = self.rng.random(c.shape)
        c = np.where(which < 0.2, self.signed(self.c, np.full(c.shape, self.c.top_code)), c)
        return *sides, np.where(which > 0.7, 0, c)

    def special(self) -> tuple[Words, Words, Words]:
        a, b = self.finite(self.a, (self.m, self.k)), self.finite(self.b, (self.n, self.k))
        rate = 0.2 / self.k
        a, b, c = self.sprinkle(self.a, a, rate), self.sprinkle(self.b, b, rate), self.near(a, b)
        return a, b, self.sprinkle(self.c, c, 0.2)

    def sprinkle(self, fmt: FloatFormat, codes: Words, rate: float) -> Words:
        """Replace codes by infinities, zeros and NaN of any payload, as many of each."""
        first = fmt.top_code + 1
        beyond = self.rng.integers(first, 1 << (fmt.bits - 1), codes.shape)
        which = self.rng.integers(0, 3, codes.shape)
        choices = np.where(which == 0, first, np.where(which == 1, beyond, 0))
        return np.where(self.rng.random(codes.shape) < rate, self.signed(fmt, choices), codes)

    def zeros(self) -> tuple[Words, Words, Words]:
        sides = []
        for fmt, rows in ((self.a, self.m), (self.b, self.n)):
            zero = self.signed(fmt, np.zeros((rows, self.k), np.int64))
            few = self.rng.random(zero.shape) < self.rng.choice([0, 0.1, 0.3], (rows, 1))
            sides.append(np.where(few, self.finite(fmt, zero.shape), zero))
        zero = self.signed(self.c, np.zeros((self.m, self.n), np.int64))
        return *sides, np.where(self.rng.random(zero.shape) < 0.3, self.finite(self.c, zero.shape), zero)

    def single(self) -> tuple[Words, Words, Words]:
        sides, at = [], self.rng.integers(0, self.k)
        for fmt, rows in ((self.a, self.m), (self.b, self.n)):
            codes = np.zeros((rows, self.k), np.int64)
            codes[:, at] = self.rng.permutation(np.arange(rows) % 2**fmt.bits)
            if fmt.bits > 8:
                codes[:, at] = self.rng.integers(0, 2**fmt.bits, rows)
            sides.append(codes)
        return *sides, np.zeros((self.m, self.n), np.int64)
