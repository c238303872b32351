"""The course: answers worked out anew, mistakes that get their own hint, and notebooks that hold no answer."""

from __future__ import annotations

import ast
import itertools
import json
import math
import os
import re
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from write_exercises import EXERCISES, FILE, record
from write_notebooks import DOCS, LESSONS, blocks, glossary, notebook

import fp8sim
from fp8sim.course import check
from fp8sim.course.checking import veiled
from fp8sim.course.values import readings

SOURCES = str(Path(fp8sim.__file__).parents[1])
RECORD = json.loads(FILE.read_text(encoding="utf-8"))
CHECKED = [name for name, exercise in EXERCISES.items() if exercise.kind != "text"]
WRONG = [(name, wrong, hint) for name in CHECKED for wrong, hint in EXERCISES[name].wrong]


# --- formats by fractions, without fp8sim ----------------------------------------------------------


def values(exponent_bits: int, mantissa_bits: int, bias: int, last: int) -> list[Fraction]:
    """The value of every code from 0 to `last`, which is the largest number."""
    found = []
    for code in range(last + 1):
        field, fraction = code >> mantissa_bits, code & (2**mantissa_bits - 1)
        hidden = 1 if field else 0
        power = Fraction(2) ** (max(field, 1) - bias)
        found.append((hidden + Fraction(fraction, 2**mantissa_bits)) * power)
    return found


E4M3 = values(4, 3, 7, 0b1111_110)
E5M2 = values(5, 2, 15, 0b11110_11)


def nearest(x: Any, known: list[Fraction] = E4M3) -> Fraction:
    """Round to nearest, ties to the even code; beyond the largest, as if the values went on by its step."""
    x = Fraction(x)
    ongoing = [*known, known[-1] + (known[-1] - known[-2])]
    size = min(range(len(ongoing)), key=lambda code: (abs(ongoing[code] - abs(x)), code % 2))
    return ongoing[size] if x >= 0 else -ongoing[size]


def down(x: Any, known: list[Fraction] = E4M3) -> Fraction:
    """Cut off: the largest value that is not larger."""
    return max(value for value in known if value <= Fraction(x))


def away(x: Any, known: list[Fraction] = E4M3) -> Fraction:
    """Round to nearest, ties away from zero."""
    return min(known, key=lambda value: (abs(value - Fraction(x)), -value))


def code_of(x: Any, known: list[Fraction] = E4M3) -> int:
    return known.index(abs(Fraction(x))) + (0x80 if x < 0 else 0)


def aligned(terms: list[Fraction], bits: int = 13, cut: Any = math.floor) -> Fraction:
    """A step of a tensor core: each term cut so many bits below the exponent of the largest."""
    top = max(abs(term) for term in terms)
    unit = Fraction(2) ** (math.frexp(float(top))[1] - 1 - bits)
    return sum((cut(term / unit) * unit for term in terms), Fraction(0))


F = Fraction
TINY, TIE = F(1, 2**14), F(1, 2**13)
X16 = F(1) + F(1, 16) + F(1, 2**20)
HALF = [F(1) + F(i, 2**10) for i in range(2**10)]  # FP16 between 1 and 2
_LINEAR = 2 * (61 * 187_105_280 + 3 * 396_361_728 + 58 * 9 * 44_040_192)
_REST = 2 * (129_280 * 7168 + 58 * 256 * 7168)


def share_of(length: int, attention_too: bool = False) -> Fraction:
    """The share of DeepSeek-V3's flops in linear layers, and in attention too, from the shapes in its report."""
    core = 61 * 128 * (192 + 128) * 2 * length // 2
    fast = _LINEAR + (core if attention_too else 0)
    return F(fast, _LINEAR + core + _REST)


def amdahl(share: Fraction, gain: Any = 2) -> Fraction:
    return 1 / (1 - share + share / gain)


KEPT = F(2 * 128_256 * 4096, 8_030_261_248)  # parameters of Llama 3.1 8B: its config.json


def least_tokens(bits: int, rate: int) -> int:
    """The first m at which (m, 2048) @ (2048, 7168) takes longer to multiply than to move, on an H800."""
    for m in itertools.count(1):
        scales = 4 * (m * 16 + 56 * 16) if bits == 8 else 0
        moved = (m * 2048 + 2048 * 7168) * bits // 8 + 2 * m * 7168 + scales
        if F(2 * m * 2048 * 7168, rate) > F(moved, 3_350_000_000_000):
            return m
    raise AssertionError


BF16_TOKENS, FP8_TOKENS = least_tokens(16, 989_500_000_000_000), least_tokens(8, 1_979_000_000_000_000)
REACH = {  # fraction bits between the largest product and the smallest
    "e4m3": 2 * 8 + 2 * 9,
    "e5m2": 2 * 15 + 2 * 16,
}
OCTAVES = [1 + F(i, 8) for i in range(8)] + [2 + F(i, 4) for i in range(8)] + [4]

#: Right answers, worked out here.
RIGHT: dict[str, Any] = {
    "0.1": F(0b1011, 2**3),
    "0.2": E4M3[0b0110_101],
    "0.3": [nearest(1.3125), nearest(1.4375)],
    "0.4": E4M3[1],
    "0.5": 20 * math.log10(100),
    "1.1": E5M2[-1],
    "1.2": [value for value in E4M3 if 1 <= value <= 4],
    "1.3": code_of(nearest(-0.6)),
    "1.4": 2 * len(E4M3),
    "1.5": [nearest(nearest(0.1) + nearest(0.6)), nearest(0.7)],
    "1.6": [nearest(X16), nearest(min(HALF, key=lambda value: abs(value - X16)))],
    "1.7": [min(nearest(464), E4M3[-1]), min(nearest(465), E4M3[-1]), "nan"],
    "1.8": F(28) / E4M3[-1],
    "2.1": [F(1, 2**7), nearest(min(F(1.9) * 2**8, E4M3[-1])) / 2**8],
    "2.2": [aligned([F(1), *[TINY] * 31]), aligned([F(1), *[TIE] * 31])],
    "2.5": list(REACH.values()),
    "2.6": [
        aligned([aligned([F(8)] * 32), *[F(1, 64)] * 32]),
        aligned([F(8)] * 32) + aligned([F(1, 64)] * 32),
    ],
    "3.1": [BF16_TOKENS, FP8_TOKENS],
    "3.2": amdahl(share_of(4096), F(1402600, 794500)),
    "3.3": amdahl(share_of(131072, attention_too=True)),
    "3.4": 2 - 1,
    "3.5": KEPT + (1 - KEPT) / 2,
    "1.9": "b", "2.3": "a", "2.4": "c", "2.7": "d",
}  # fmt: skip

#: Planted wrong answers, worked out as the mistake works them out. Others follow from a choice's letters.
MISTAKES: dict[str, dict[str, Any]] = {
    "0.1": {"whole number": 1011, "decimal": F("1.011"), "hidden bit": F(0b011, 8), "no point": 0b1011, "order": 1 + F(0b110, 8)},
    "0.2": {
        "hidden bit": F(0b101, 8) / 2, "no bias": F(0b1101, 8) * 2**6, "exponent's sign": F(0b1101, 8) * 2,
        "bias 8": F(0b1101, 8) / 4, "sign": -F(0b1101, 8) / 2,
    },
    "0.3": {
        "tie away": [away(1.3125), away(1.4375)], "truncation": [down(1.3125), down(1.4375)],
        "ties to odd": [F(11, 8), F(11, 8)], "not rounded": [F(1.3125), F(1.4375)], "always up": [F(11, 8), F(13, 8)],
    },
    "0.4": {
        "hidden bit and field 0": F(9, 8) / 2**7, "hidden bit": F(9, 8) / 2**6, "exponent of field 0": F(1, 8) / 2**7,
        "smallest normal": min(v for c, v in enumerate(E4M3) if c >> 3), "zero": E4M3[0],
    },
    "0.5": {"power": 10 * math.log10(100), "sign": -20 * math.log10(100), "no factor": math.log10(100), "two halvings": 20 * math.log10(4)},
    "1.1": {
        "field 31": F(7, 4) * 2**16, "hidden bit": F(3, 4) * 2**15, "power of two": 2**15, "E4M3": E4M3[-1],
        "three bits": F(15, 8) * 2**15, "exponent": F(7, 4) * 2**14,
    },
    "1.2": {
        "even steps of 1/8": [1 + F(i, 8) for i in range(25)], "E5M2": [v for v in E5M2 if 1 <= v <= 4],
        "without the end": [v for v in E4M3 if 1 <= v < 4], "even steps of 1/4": [1 + F(i, 4) for i in range(13)],
    },
    "1.3": {
        "sign": code_of(nearest(0.6)), "truncation": 0x80 + code_of(down(0.6)), "hidden bit stored": 0b1_0110_101,
        "bias 8": 0b1_0111_010, "E5M2": code_of(-nearest(0.6, E5M2), E5M2), "two's complement": 256 - code_of(nearest(0.6)),
        "no bias": 0b1_0001_010,
    },
    "1.4": {
        "NaN": 256, "one zero": 2 * len(E4M3) - 1, "positive": len(E4M3) - 1, "one sign": len(E4M3),
        "no zero": 2 * len(E4M3) - 2, "E5M2": 2 * len(E5M2), "all": 2**16,
    },
    "1.5": {
        "sum not rounded": [nearest(0.1) + nearest(0.6), nearest(0.7)], "nothing rounded": [F("0.7")] * 2,
        "the exact sum": [nearest(0.7)] * 2, "the sum twice": [nearest(nearest(0.1) + nearest(0.6))] * 2,
        "cut off first": [down(0.1) + down(0.6), nearest(0.7)],
        "truncation": [down(down(0.1) + down(0.6)), nearest(0.7)],
        "swapped": [nearest(0.7), nearest(nearest(0.1) + nearest(0.6))],
    },
    "1.6": {
        "once": [nearest(X16)] * 2, "both twice": [F(1)] * 2, "swapped": [F(1), nearest(X16)],
        "not rounded": [F(17, 16)] * 2, "FP16": [nearest(X16), min(HALF, key=lambda value: abs(value - X16))],
    },
    "1.7": {
        "saturation against NaN": [448, 448, 448], "infinity": [448, 448, "inf"], "NaN against saturation": [448, "nan", "nan"],
        "480": [448, nearest(465), "nan"], "not rounded": [464, 465, "nan"], "480 twice": [480, 480, "nan"],
        "before rounding": ["nan"] * 3,
    },
    "1.8": {
        "scale inverted": E4M3[-1] / 28, "480": F(28, 480), "no scale": 28, "E5M2": 28 / E5M2[-1], "power of two": F(28, 256),
    },
    "2.1": {
        "floor rule": [F(1, 2**8), F(7, 4)], "scale inverted": [2**7, F(7, 4)], "FP32": [F(1.9 / 448), F(7, 4)],
        "no saturation": [F(1, 2**7), nearest(F(1.9) * 2**8) / 2**8], "saturation against NaN": [F(1, 2**7), "nan"],
        "not rounded": [F(1, 2**7), F(1.9)], "floor twice": [F(1, 2**8), nearest(F(1.9) * 2**8) / 2**8],
    },
    "2.2": {
        "nothing cut": [1 + 31 * TINY, 1 + 31 * TIE], "both cut": [F(1), F(1)],
        "rounded up": [aligned([F(1), *[TINY] * 31], cut=math.ceil), aligned([F(1), *[TIE] * 31])],
        "swapped": [1 + 31 * TINY, F(1)], "32 of them": [F(1), 1 + 32 * TIE],
    },
    "2.5": {
        "normalised products": [REACH["e4m3"] + 1, REACH["e5m2"] + 1], "single numbers": [8 + 9, 15 + 16],
        "one too few": [REACH["e4m3"] - 1, REACH["e5m2"] - 1], "no subnormals": [2 * 8 + 2 * 6, 2 * 15 + 2 * 14],
        "the largest": [2 * 8, 2 * 15], "the same": [REACH["e4m3"]] * 2,
    },
    "2.6": {
        "sum without the cut": [256 + F(1, 2)] * 2, "without promotion": [256, 256], "swapped": [256 + F(1, 2), 256],
        "the last chain": [256, F(1, 2)], "one of 32": [8 + F(1, 2), 256 + F(1, 2)],
    },
    "3.1": {
        "swapped": [FP8_TOKENS, BF16_TOKENS], "BF16": [BF16_TOKENS] * 2, "FP8": [FP8_TOKENS] * 2,
        "the last of memory": [BF16_TOKENS - 1, FP8_TOKENS - 1],
    },
    "3.2": {
        "a ratio of 2": amdahl(share_of(4096)), "all": F("1.765"), "time": 1 / amdahl(share_of(4096), F("1.765")),
        "speeds added": 1 + share_of(4096) * F("0.765"),
    },
    "3.3": {
        "no attention": amdahl(share_of(131072)), "attention alone": amdahl(share_of(131072, attention_too=True) - share_of(131072)),
        "all": 2, "time": 1 / amdahl(share_of(131072, attention_too=True)),
        "against FP8": amdahl(share_of(131072, attention_too=True)) / amdahl(share_of(131072)),
    },
    "3.4": {"all five": 5, "the moments": 4, "what is left": 13, "none": 0},
    "3.5": {
        "all halved": F(1, 2), "one of two": KEPT / 2 + (1 - KEPT / 2) / 2, "what stays": KEPT, "half more": F(1, 2) + KEPT,
        "what is saved": 1 - (KEPT + (1 - KEPT) / 2),
    },
}  # fmt: skip


def same(name: str, one: Any, other: Any) -> bool:
    kind, digits = EXERCISES[name].kind, EXERCISES[name].digits
    both = [readings(answer, kind)[0] for answer in (one, other)]
    if digits is not None:
        both = [[round(value, digits) for value in answer] for answer in both]
    if kind == "number":  # what Python's floats make of fractions such as 28/480
        both = [[value if isinstance(value, str) else float(value) for value in answer] for answer in both]
    return both[0] == both[1]


def test_every_right_answer_is_what_is_worked_out_here():
    assert set(RIGHT) == set(CHECKED)
    assert [name for name in CHECKED if not same(name, RIGHT[name], EXERCISES[name].right)] == []


def test_every_planted_wrong_answer_is_what_its_mistake_gives():
    for name, mistakes in MISTAKES.items():
        planted = [wrong for wrong, _ in EXERCISES[name].wrong]
        assert len(planted) == len(mistakes)
        for mistake, answer in mistakes.items():
            assert sum(same(name, answer, wrong) for wrong in planted) == 1, (name, mistake)
    assert set(MISTAKES) | {name for name in CHECKED if EXERCISES[name].kind == "choice"} == set(CHECKED)


def test_the_choices_that_can_be_measured_are_measured():
    rng = np.random.default_rng(5)
    u, v = (fp8sim.round_to(rng.random(shape), "e4m3") for shape in ((16, 2048), (2048, 16)))
    forward = fp8sim.tensor_core_matmul(u, v, "hopper-fp8")
    backward = fp8sim.tensor_core_matmul(u[:, ::-1], v[::-1], "hopper-fp8")
    assert np.mean(forward != backward) > 0.5  # 2.3 (a)
    np.testing.assert_allclose(u @ v, u[:, ::-1] @ v[::-1], rtol=1e-12)
    size = np.log2(float(E4M3[-1] / (E4M3[1] / 2)))
    assert size < 20 < np.log2(float(E5M2[-1] / (E5M2[1] / 2)))  # 1.9: (a) loses tokens, (d) none


def test_there_are_enough_exercises_and_mistakes():
    assert len(EXERCISES) >= 15
    assert len(WRONG) >= 30
    assert {"choice", "text", "code", "number"} == {exercise.kind for exercise in EXERCISES.values()}


@pytest.mark.parametrize("name", CHECKED)
def test_a_right_answer_is_accepted_and_no_wrong_one(name):
    assert check(name, EXERCISES[name].right).right is True
    hints = [hint for _, hint in EXERCISES[name].wrong]
    assert len(set(hints)) == len(hints)  # each mistake has a hint of its own
    for wrong, hint in EXERCISES[name].wrong:
        feedback = check(name, wrong)
        assert feedback.right is False
        assert feedback.text == hint


ONE = 0.8125  # exercise 0.2


@pytest.mark.parametrize(
    "answer",
    [
        *(ONE, F(13, 16), Decimal("0.8125"), "0.8125", "13/16", " 13 / 16 ", "1.625 * 2**-1", "1.625*2^-1", "+0.8125", b"0.8125"),
        *(kind(ONE) for kind in (np.float16, np.float32, np.float64, np.longdouble)),
        *(np.array(ONE, kind) for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn)),
        *([ONE], (ONE,), {ONE}, np.array([[ONE]]), [[ONE]], ["13/16"], np.array(["0.8125"]), iter([ONE]), complex(ONE)),
        *(np.array([ONE], object), np.float32(ONE).reshape(1, 1), [np.float16(ONE)], "[0.8125]"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_number_of_any_type_is_accepted(answer):
    assert check("0.2", answer)


@pytest.mark.parametrize(
    "answer",
    [
        *(178, 178.0, np.uint8(178), np.int64(178), "0xB2", "0xb2", "b2", "B2", "b2h", "178", "0b10110010", "10110010"),
        *("1 0110 010", "1_0110_010", "1.0110.010", fp8sim.encode(-0.6, "e4m3"), np.array([178], np.uint8), [0b10110010]),
    ],
    ids=repr,
)  # fmt: skip
def test_a_code_of_any_type_is_accepted(answer):
    assert check("1.3", answer)


@pytest.mark.parametrize(
    "answer", ["b", "B", "(b)", " b. ", ["b"], np.array("b"), np.str_("b"), b"b"], ids=repr
)
def test_a_letter_in_any_dress_is_accepted(answer):
    assert check("1.9", answer)


@pytest.mark.parametrize(
    "answer",
    [
        [448, 448, math.nan],
        "448, 448, nan",
        "[448; 448; NaN]",
        (448, np.float32(448), "nan"),
        np.array([448, 448, np.nan]),
    ],
    ids=repr,
)
def test_several_values_are_accepted(answer):
    assert check("1.7", answer)


class Hostile:
    def __float__(self):
        raise RuntimeError("no")

    __iter__ = __array__ = __str__ = __repr__ = __float__


GARBAGE = {
    "none": None, "dots": ..., "nothing": "", "object": object(), "words": "no idea", "dict": {"a": 1}, "huge": 10**6000,
    "tower": "9**9**9**9", "long power": "2**100000", "endless": itertools.count(), "hostile": Hostile(), "infinite": math.inf,
    "nan": math.nan, "complex": 1 + 2j, "date": np.datetime64("2025-01-01"), "function": len, "type": int,
    "deep": eval("[" * 60 + "]" * 60), "empty": [], "large": np.zeros(10**6), "records": np.zeros(3, "i4,f4"),
    "code": "__import__('os').system('true')", "parentheses": "(" * 5000, "null": "\0", "bytes": b"\xff\xfe", "set": {1, "a"},
    "nested none": [None], "long text": "1" * 10**5, "void": np.void(b"abc"), "bool": True, "range": range(10**9),
}  # fmt: skip


@pytest.mark.parametrize("name", ["0.2", "1.3", "1.9", "1.7", "3.2"])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_told_in_a_sentence(name, garbage):
    feedback = check(name, garbage)
    assert feedback.right is False
    assert feedback.text.endswith(".") or feedback.text.endswith("?")
    assert len(str(feedback)) < 500


@pytest.mark.parametrize(
    "name",
    ["9.9", "", None, 7, object(), Hostile(), ["0.1"]],
    ids=["9.9", "empty", "none", "7", "object", "hostile", "list"],
)
def test_an_unknown_exercise_is_told_which_there_are(name):
    feedback = check(name, 1)
    assert not feedback
    assert '"0.1" to "3.6"' in feedback.text


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("1.8", -0.0625, "sign"), ("1.1", F(1, 57344), "one over"), ("3.5", 56.7, "percent"), ("0.3", [1.25], "2 values"),
        ("0.5", 4000, "percent"), ("1.10", "range", "Only a reader"), ("0.1", ..., "place of the dots"),
    ],
)  # fmt: skip
def test_common_slips_are_named(name, answer, said):
    assert said in check(name, answer).text


WORDED = [name for name in EXERCISES if EXERCISES[name].kind == "text"]


@pytest.mark.parametrize("name", WORDED)
def test_an_answer_in_words_is_told_what_counts_and_none_before(name):
    told = EXERCISES[name].told
    points = [line[:2] for line in told.splitlines()]
    assert points in (["1.", "2.", "3."], ["1.", "2.", "3.", "4."])
    given = check(name, "One of the numbers is far larger, so the others all become smaller.")
    assert given.right is None
    assert given.text.endswith(f"What counts, a point each:\n{told}")
    assert " ".join(told.split()) in " ".join(str(given).split())
    assert max(map(len, str(given).splitlines())) <= 80
    for short in ("", "\n...\n", "no idea", ["a"] * 20, 7, ...):
        assert not any(line in check(name, short).text for line in told.splitlines())


def test_what_is_told_to_a_right_answer_cannot_be_read_without_it():
    told = [name for name in CHECKED if EXERCISES[name].told]
    assert set(told) >= {"1.5", "2.4", "3.1", "3.5"}  # whose "why" is asked
    for name in told:
        assert check(name, EXERCISES[name].right).text == EXERCISES[name].told
        kept = bytes.fromhex(RECORD[name]["told"])
        for key in (b"", RECORD[name]["salt"].encode(), bytes.fromhex(RECORD[name]["right"][0])):
            assert EXERCISES[name].told.encode() not in (kept, veiled(kept, key))
    clear = FILE.read_text(encoding="utf-8")
    for exercise in EXERCISES.values():
        assert not any(line in clear for line in exercise.told.splitlines())


def test_the_measured_figures_of_exercise_1_10_are_measured():
    others = np.random.default_rng(0).standard_normal(1_000_000)
    step, scale = 1000 / 127, 1000 / 448
    rounded = np.round(others / step) * step, fp8sim.round_to(others / scale, "e4m3") * scale
    for line, held in zip(EXERCISES["1.10"].told.splitlines()[1:], rounded, strict=True):
        assert line.endswith(f"Measured: {fp8sim.metrics.sqnr_db(held, others):.1f} dB.")


# --- what is kept, and what students get -----------------------------------------------------------


def test_the_package_has_what_the_teacher_wrote():
    assert list(RECORD) == list(EXERCISES)
    for name, exercise in EXERCISES.items():
        assert RECORD[name] == record(name, exercise, RECORD[name]["salt"])
    assert len({kept["salt"] for kept in RECORD.values()}) == len(RECORD)


def in_clear(answer: Any, text: str) -> bool:
    """Whether a text has every value of an answer, written as a number that stands alone."""
    parts = answer if isinstance(answer, list) else [answer]
    return all(
        re.search(rf"(?<![\w.]){re.escape(f'{part:g}')}(?![\w.])", text) for part in parts if part != "nan"
    )


@pytest.mark.parametrize("name", [name for name in CHECKED if EXERCISES[name].kind != "choice"])
def test_no_hint_has_the_answer_in_clear(name):
    answer = EXERCISES[name].right
    if name in ("2.6", "1.7", "3.4"):  # of small numbers that the exercise itself has
        answer = {"2.6": 256.5, "1.7": "nan", "3.4": 1}[name]
        if name != "2.6":
            return
    assert not in_clear(answer, json.dumps(list(RECORD[name]["hints"].values())) + RECORD[name]["hint"])


def student(lesson: str) -> list[dict[str, Any]]:
    return notebook(lesson)["cells"]


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_student_notebook_has_neither_answers_nor_outputs_nor_checks(lesson):
    cells = student(lesson)
    text = "\n".join(cell["source"] for cell in cells)
    assert not any(cell.get("outputs") for cell in cells)
    assert not re.search(r"\bassert\b|:::|{term}|play:|\.md\)|SOLUTION", text)
    page = (DOCS / "lessons" / f"{lesson}.md").read_text(encoding="utf-8")
    answers = [block.text for block in blocks(page) if block.kind == "answer" or "answer" in block.tags]
    assert answers
    shown = {
        line
        for block in blocks(page)
        if block.kind == "code" and not block.tags
        for line in block.text.splitlines()
    }
    for line in (line for answer in answers for line in answer.splitlines() if len(line) > 40):
        assert line in shown or line not in text
    for name in (name for name in CHECKED if name[0] == LESSONS[lesson][-1]):
        right = EXERCISES[name].right
        if (
            EXERCISES[name].kind == "number"
            and len(f"{right}") > 2
            and name not in ("1.6", "1.7", "0.3", "2.2", "3.5")
        ):
            # (of these, what is asked, or another figure of the page, has the numbers too)
            assert not in_clear(right, text), name


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_student_notebook_has_a_place_for_each_guess_and_answer(lesson):
    page = (DOCS / "lessons" / f"{lesson}.md").read_text(encoding="utf-8")
    kinds = [block.kind for block in blocks(page)]
    numbers = [block.argument for block in blocks(page) if block.kind == "exercise"]
    cells = student(lesson)
    assert sum("guess" in cell["metadata"].get("tags", ()) for cell in cells) == kinds.count("guess") > 0
    marked = [cell["metadata"]["nbgrader"] for cell in cells if "nbgrader" in cell["metadata"]]
    assert len({mark["grade_id"] for mark in marked}) == len(marked)
    assert sum(mark["solution"] for mark in marked) == len(numbers)
    assert sum(mark["grade"] for mark in marked) == len(numbers)
    assert numbers == [name for name in EXERCISES if name[0] == LESSONS[lesson][-1]]


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_teachers_copy_has_the_answers_and_marks_for_otter(lesson):
    cells = notebook(lesson, teacher=True)["cells"]
    raw = [cell["source"].splitlines()[0] for cell in cells if cell["cell_type"] == "raw"]
    assert raw[0] == "# ASSIGNMENT CONFIG"
    for what in ("QUESTION", "SOLUTION", "TESTS"):
        assert raw.count(f"# BEGIN {what}") == raw.count(f"# END {what}") > 0
    space: dict[str, Any] = {"check": check}
    for cell in cells:
        if cell["source"].startswith(("### BEGIN SOLUTION", "assert check(", "check(")):
            exec(cell["source"], space)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_has_at_most_twelve_new_terms_all_in_the_glossary_and_short_lines_of_code(lesson):
    told: set[str] = set()
    for name in LESSONS:
        page = (DOCS / "lessons" / f"{name}.md").read_text(encoding="utf-8")
        used = {
            (entry or shown).strip().lower()
            for shown, entry in re.findall(r"{term}`([^`<]+?)(?:\s*<([^`>]+)>)?`", page)
        }
        if name == lesson:
            assert used <= glossary().keys()
            assert 0 < len(used - told) <= 12
            shown = [
                block for block in blocks(page) if block.kind == "code" and "remove-cell" not in block.tags
            ]
            assert [line for block in shown for line in block.text.splitlines() if len(line) > 68] == []
        told |= used


RUN = """
import contextlib, io, json, sys, time
if {blocked}: sys.modules["numba"] = None
import matplotlib; matplotlib.use("Agg")
start, space, shown = time.time(), {{}}, io.StringIO()
with contextlib.redirect_stdout(shown):
    for source in json.load(open({file!r})):
        exec(source, space)
print(json.dumps([time.time() - start, shown.getvalue()]))
"""


def shown_by(lesson: str, folder: Path, blocked: bool) -> tuple[float, str]:
    """Run a student notebook; the last expression of a cell is printed."""
    sources = []
    for cell in student(lesson):
        if cell["cell_type"] == "code":
            body = ast.parse(cell["source"]).body
            if (
                body
                and isinstance(body[-1], ast.Expr)
                and not ast.unparse(body[-1]).startswith(("print", "plt"))
            ):
                body[-1] = ast.parse(f"print({ast.unparse(body[-1])})").body[0]
            sources.append(ast.unparse(ast.Module(body, [])))
    file = folder / f"{lesson}-{blocked}.json"
    file.write_text(json.dumps(sources))
    # An old matplotlib calls by old names what a new package of its own has renamed.
    warnings = ("-W", "error", "-W", "ignore::DeprecationWarning")
    command = [sys.executable, *warnings, "-c", RUN.format(blocked=blocked, file=str(file))]
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    seconds, text = json.loads(done.stdout.splitlines()[-1])
    return seconds, re.sub(r"0x[0-9a-f]{8,}", "", text)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_student_notebook_runs_outside_the_repository_and_without_numba_to_the_same_figures(
    lesson, tmp_path
):
    pytest.importorskip("matplotlib", reason="needs the plot extra")
    seconds, slow = shown_by(lesson, tmp_path, blocked=True)
    assert seconds < 120
    assert shown_by(lesson, tmp_path, blocked=False)[1] == slow
    assert "not yet" in slow
