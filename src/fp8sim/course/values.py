"""What an answer says, whatever its type: exact numbers, codes of eight bits, or the letter of a choice."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

__all__ = ["MOST", "Value", "canonical", "changed", "readings"]

MOST = 300  #: values of an answer that are read; no exercise asks for as many

Value: TypeAlias = "Fraction | str"  # a finite number; "nan", "inf", "-inf" or a word

_POWERS = 4096  # largest exponent that is worked out: garbage such as 9**9**9 is not
_OPERATIONS: dict[type, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
_NAMES = {"nan": "nan", "inf": "inf", "infinity": "inf", "-inf": "-inf", "-infinity": "-inf"}


def readings(answer: object, kind: str) -> list[list[Value]]:
    """Return what an answer can mean, as values of a kind; raise ValueError where it can mean nothing.

    An answer in words may be read in two ways: the code "42" is decimal or hexadecimal.

    Examples
    --------
    >>> readings(np.float32(0.3125), "number"), readings("5/16", "number")
    ([[Fraction(5, 16)]], [[Fraction(5, 16)]])
    >>> readings("0_0101_010", "code"), readings(["B"], "choice")
    ([[Fraction(42, 1)]], [['b']])
    """
    parts = list(islice(_parts(answer, kind), MOST + 1))
    if len(parts) > MOST:
        raise ValueError(f"These are more than {MOST} values, and no exercise asks for as many.")
    ways = [_read(part, kind) for part in parts]
    together = [[way[0] for way in ways], [way[-1] for way in ways]]
    return together if together[0] != together[1] else together[:1]


def canonical(values: Iterable[Value], digits: int | None = None) -> str:
    """Return one text for equal answers: numbers in lowest terms, rounded where so many decimals are asked.

    Examples
    --------
    >>> canonical([Fraction(5, 16), "nan"]), canonical([Fraction(15865, 10000)], 2)
    ('5/16 nan', '159/100')
    """
    rounded = (v if digits is None or isinstance(v, str) else round(v, digits) for v in values)
    return " ".join(map(str, rounded))


def changed(values: list[Value], change: str) -> list[Value] | None:
    """Return numbers as a slip left them: "negated", "inverted", "hundredfold" or "hundredth".

    Examples
    --------
    >>> changed([Fraction(1, 16)], "inverted")
    [Fraction(16, 1)]
    """
    if any(isinstance(v, str) or (change == "inverted" and v == 0) for v in values):
        return None
    numbers = [v for v in values if isinstance(v, Fraction)]
    if change == "negated":
        return [-v for v in numbers]
    if change == "inverted":
        return [1 / v for v in numbers]
    return [v * 100 if change == "hundredfold" else v / 100 for v in numbers]


def _parts(answer: object, kind: str) -> Iterable[Any]:
    """Yield the single values of an answer, however it is nested."""
    if isinstance(answer, bytes):
        answer = answer.decode()
    if isinstance(answer, str):
        yield from _words(answer, kind)
    elif isinstance(answer, np.ndarray | np.generic):
        if answer.dtype.kind in "OSU":
            for part in np.ravel(answer)[: MOST + 1].tolist():
                yield from _parts(part, kind)
        else:  # the kind of ml_dtypes is none of numbers; where a code is asked for, theirs are taken
            flat = np.ravel(answer)[: MOST + 1]
            codes = kind == "code" and flat.dtype.kind not in "biuf" and flat.dtype.itemsize == 1
            yield from (flat.view(np.uint8) if codes else flat)
    elif isinstance(answer, Iterable) and not isinstance(answer, dict):
        for part in islice(answer, MOST + 1):
            yield from _parts(part, kind)
    elif callable(getattr(answer, "tolist", None)):  # tensors
        yield from _parts(answer.tolist(), kind)  # type: ignore[attr-defined]
    else:
        yield answer


def _words(text: str, kind: str) -> Iterable[str]:
    """Yield the words between brackets, commas and semicolons; a code may have spaces between its fields."""
    inner = text.strip().strip("[](){}")
    if kind == "choice" or "," in inner or ";" in inner:
        return [part.strip(" .[](){}'\"") for part in re.split(r"[,;]", inner)]
    if kind == "code":
        return [inner.strip("'\"")]
    spaced = re.sub(r"\s*([-+*/^()]|\*\*)\s*", r"\1", inner)
    return spaced.split() or [""]


def _read(part: Any, kind: str) -> list[Value]:
    """Return what one value can be."""
    if kind == "choice":
        word = str(part).strip().lower() if isinstance(part, str) else ""
        if not word:
            raise ValueError("A letter is asked for, such as 'a'.")
        return [word]
    if isinstance(part, str):
        return _code_of(part) if kind == "code" else [_number_of(part)]
    return [_exact(part)]


def _exact(part: Any) -> Value:
    """Return a number exactly; numbers of numpy and ml_dtypes are floats or whole without a loss."""
    if isinstance(part, Fraction):
        return part
    if isinstance(part, complex | np.complexfloating):
        if part.imag:
            raise ValueError("A real number is asked for.")
        part = part.real
    if isinstance(part, int | np.integer | np.bool_):
        return Fraction(int(part))
    if isinstance(part, Decimal):
        return Fraction(part) if part.is_finite() else _NAMES[str(part).lower().replace("s", "")]
    if isinstance(part, np.datetime64 | np.timedelta64):
        raise ValueError("A number is asked for.")
    number = float(part)
    return Fraction(number) if math.isfinite(number) else str(number)


def _number_of(text: str) -> Value:
    """Work out a number in words: 0.3125, 5/16, 2^-9, 1.75 * 2**8, 0x2a, 7 %."""
    word = text.strip().lower().rstrip("%").strip()
    if word in _NAMES:
        return _NAMES[word]
    return _worked_out(ast.parse(word.replace("^", "**"), mode="eval").body)


def _worked_out(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(node.value)  # "0.7" is what 0.7 is in Python
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATIONS:
        return Fraction(_OPERATIONS[type(node.op)](_worked_out(node.operand)))
    if isinstance(node, ast.BinOp):
        left, right = _worked_out(node.left), _worked_out(node.right)
        if type(node.op) in _OPERATIONS:
            return Fraction(_OPERATIONS[type(node.op)](left, right))
        small = max(abs(left.numerator), left.denominator, abs(right.numerator)) <= _POWERS
        if isinstance(node.op, ast.Pow) and right.denominator == 1 and small:
            return Fraction(left) ** int(right)
    raise ValueError("A number is asked for, such as 0.25, '1/4' or '2**-2'.")


def _code_of(text: str) -> list[Value]:
    """Read a code: 0b00101010, 0 0101 010, 0x2A, 2A; what could be decimal or hexadecimal is both."""
    word = re.sub(r"[\s_.]+", "", text.strip().lower())
    if re.fullmatch(r"(0b)?[01]{8}", word):
        return [Fraction(int(word[-8:], 2))]
    if re.fullmatch(r"0x[0-9a-f]+", word):
        return [Fraction(int(word, 16))]
    if re.fullmatch(r"[0-9a-f]{1,2}h?", word):
        both = [int(word, 10)] if word.isdigit() else []
        return [Fraction(code) for code in [*both, int(word.rstrip("h"), 16)]]
    if word.isdigit():
        return [Fraction(int(word[:9]))]
    raise ValueError("A code is asked for: a whole number up to 255, or text such as '0x38' or '0 0111 000'.")
