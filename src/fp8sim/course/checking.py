"""Check an answer against salted digests of right ones, and name the mistake behind a wrong one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fp8sim._support.page import Page, Span, wrap
from fp8sim._support.results import Result
from fp8sim._support.text import shown
from fp8sim.course.values import Value, canonical, changed, readings

__all__ = ["Feedback", "check", "digest", "key_of", "veiled"]

_ROUNDS = 500  # of SHA-256: nothing for one answer, a nuisance for someone who tries all
_WORDS = 12  # an answer in words has as many, before it is told what counts

#: Slip -> what to say of an answer that would be right without it.
_SLIPS = {
    "negated": "The size is right and the sign is not.",
    "inverted": "This is one over the answer: which of the two divides the other?",
    "hundredfold": "The figure is right, but it is a share; the question asks for percent.",
    "hundredth": "The figure is right, but it is in percent; the question asks for the share itself.",
}


@dataclass(frozen=True, repr=False)
class Feedback(Result):
    """What `check` says of an answer: true where it is right; prints as a sentence.

    Parameters
    ----------
    exercise : str
        Its number.
    right : bool or None
        None where only a reader can tell.
    text : str
        What to say to the student.

    Examples
    --------
    >>> feedback = Feedback("1.1", False, "Look at the sign.")
    >>> feedback
    1.1: not yet. Look at the sign.
    >>> bool(feedback)
    False
    """

    exercise: str
    right: bool | None
    text: str

    def __bool__(self) -> bool:
        """Return whether the answer is right."""
        return self.right is True

    def parts(self) -> list[Page]:
        """Return the sentence."""
        head = {True: "right.", False: "not yet.", None: ""}[self.right]
        text = " ".join(filter(None, (f"{self.exercise}:", head, self.text)))
        lines = [line for part in text.splitlines() for line in wrap(part)]
        return [Page([[Span(line, "" if number else "chosen")] for number, line in enumerate(lines)])]


def check(exercise: str, answer: object) -> Feedback:
    """Say whether an answer to an exercise of the lessons is right, and if not, what to look at.

    Values are compared exactly, whatever their type: 0.3125, ``np.float16(0.3125)``, ``"5/16"`` and an array
    that holds it are one answer, and so are the codes 42, ``"0x2A"`` and ``"0 0101 010"``. The package holds
    no answer, only salted digests of them. An answer in words is for a reader to judge: whoever gave one is
    told what counts.

    Parameters
    ----------
    exercise : str
        Its number, such as ``"1.3"``.
    answer : object
        A number, text, list or array. Whatever cannot be an answer is told so.

    Returns
    -------
    Feedback
        True where the answer is right; shows itself as a sentence.

    Raises
    ------
    Nothing
        A student may try anything.

    Examples
    --------
    >>> from fp8sim.course import check
    >>> check("0.1", "1011")
    0.1: not yet. That reads the digits as a whole number. Behind the point they
    count halves, quarters and eighths.
    >>> check("0.1", ...)
    0.1: not yet. Nothing is answered: put your answer in the place of the dots.
    """
    known = _exercises()
    name = str(exercise).strip() if isinstance(exercise, str | float) else ""
    if name not in known:
        first, last = next(iter(known)), list(known)[-1]
        given = shown(exercise) if isinstance(exercise, str | int | float) else type(exercise).__name__
        return Feedback(given, False, f'There is no such exercise; they are "{first}" to "{last}".')
    asked = known[name]
    if answer is None or answer is Ellipsis:
        return Feedback(name, False, "Nothing is answered: put your answer in the place of the dots.")
    if asked["kind"] == "text":
        return _told_what_counts(name, asked, answer)
    try:
        ways = readings(answer, asked["kind"])
        known_first = sorted(ways, key=lambda values: _rank(digest(name, asked, values), asked))
        return _judge(name, asked, known_first[0])
    except Exception as error:  # an answer is anything, and so is what it raises
        told = str(error) if type(error) is ValueError and str(error).endswith(".") else asked["form"]
        return Feedback(name, False, f"This cannot be read. {told}")


def digest(name: str, asked: Mapping[str, Any], values: list[Value]) -> str:
    """Return what is kept of an answer: enough to recognise it, not to tell it.

    Examples
    --------
    >>> digest("9.9", {"salt": "00", "digits": None}, ["b"])
    '1819272e19a62667'
    """
    return key_of(name, asked, values).hex()[:16]


def key_of(name: str, asked: Mapping[str, Any], values: list[Value]) -> bytes:
    """Return what only who has the answer can make: it opens what is told then, and its start is the digest.

    Examples
    --------
    >>> key_of("9.9", {"salt": "00", "digits": None}, ["b"]).hex()[:20]
    '1819272e19a62667603c'
    """
    text = canonical(values, asked["digits"])
    value = f"{asked['salt']}:{name}:{text}".encode()
    for _ in range(_ROUNDS):
        value = hashlib.sha256(value).digest()
    return value


def veiled(text: bytes, key: bytes) -> bytes:
    """Return a text that cannot be read without its key, or one such made readable.

    It is not read by chance before an answer was given; that of an answer in words is no secret.

    Examples
    --------
    >>> veiled(veiled(b"It goes up.", b"key"), b"key")
    b'It goes up.'
    """
    stream = hashlib.shake_256(key).digest(len(text))
    return bytes(one ^ other for one, other in zip(text, stream, strict=True))


@cache
def _exercises() -> dict[str, dict[str, Any]]:
    """Return number -> what is kept of each exercise."""
    file = resources.files("fp8sim.course") / "exercises.json"
    data: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return data


def _rank(own: str, asked: Mapping[str, Any]) -> int:
    """Return which reading of an answer comes first: what is right, then a mistake that is known."""
    return 0 if own in asked["right"] else 1 if own in asked["hints"] else 2


def _told(name: str, asked: Mapping[str, Any], values: list[Value]) -> str:
    return veiled(bytes.fromhex(asked["told"]), key_of(name, asked, values)).decode()


def _told_what_counts(name: str, asked: Mapping[str, Any], answer: object) -> Feedback:
    """Say what counts in an answer in words, once it has some."""
    written = re.findall(r"\w+", answer) if isinstance(answer, str) else []
    if len(written) < _WORDS:
        short = f"Write your answer first, in at least {_WORDS} words; then you are told what counts."
        return Feedback(name, None, f"Only a reader can judge this. {short}")
    told = _told(name, asked, [])
    return Feedback(name, None, f"Only a reader can judge this. What counts, a point each:\n{told}")


def _judge(name: str, asked: Mapping[str, Any], values: list[Value]) -> Feedback:
    own = digest(name, asked, values)
    if own in asked["right"]:
        return Feedback(name, True, _told(name, asked, values))
    if own in asked["hints"]:
        return Feedback(name, False, asked["hints"][own])
    if len(values) != asked["count"]:
        return Feedback(
            name, False, f"{asked['form']} {_counted(asked['count'])}, and this has {len(values)}."
        )
    for slip, told in _SLIPS.items() if asked["kind"] == "number" else ():
        other = changed(values, slip)
        if other is not None and other != values and digest(name, asked, other) in asked["right"]:
            return Feedback(name, False, told)
    return Feedback(name, False, asked["hint"])


def _counted(count: int) -> str:
    return "It is one value" if count == 1 else f"There are {count} values"
