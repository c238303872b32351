"""Text from outside, such as names of files and tensors, written so that a terminal shows it and no more."""

from __future__ import annotations

import re

__all__ = ["addressless", "printable", "shorten", "shown"]

#: What a terminal acts on instead of showing it: control characters, newline among them, since a name may not
#: begin a line of its own; what turns text round or has no width, and line separators. Also halves of
#: surrogate pairs, which stand for what is no UTF-8 in the name of a file.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_WORD = 300  # characters of a word at most, and
_TEXT = 4000  # of a whole text: names in checkpoints are as long as whoever wrote the file liked
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of an object without a repr of its own
_LONG_WORD = re.compile(rf"\S{{{_WORD + 1},}}")


def addressless(text: str) -> str:
    """Leave out where objects lie in memory, which is another place each time.

    Examples
    --------
    >>> addressless(f"got {object()}")
    'got <object object>'
    """
    return _ADDRESS.sub("", text)


def printable(text: str) -> str:
    r"""Write control characters as Python does, and leave out the middle of what is endless.

    Examples
    --------
    >>> print(printable("\x1b[31mred"))
    \x1b[31mred
    >>> len(printable("tensor " + "a" * 1_000_000))
    307
    """
    # cut twice: what is escaped is longer, and there is no need to escape what is not shown
    cut = _LONG_WORD.sub(lambda word: shorten(word[0], _WORD), shorten(text, _TEXT))
    return shorten(_CONTROLS.sub(lambda found: repr(found[0])[1:-1], cut), _TEXT)


def shorten(text: str, width: int) -> str:
    """Leave out the middle of a text of more than so many characters.

    Examples
    --------
    >>> shorten("model.layers.0.weight", 11)
    'model…eight'
    """
    half = width // 2
    return text if len(text) <= width else f"{text[: width - half - 1]}…{text[-half:]}"


def shown(value: object) -> str:
    """Write any value for a message, as `repr` does where that is short, in one line.

    Examples
    --------
    >>> shown("e4m3"), shown(10**400), len(shown("a" * 1000))
    ("'e4m3'", 'a whole number of 1329 bits', 200)
    >>> import numpy as np
    >>> shown(np.eye(2))
    'array([[1., 0.], [0., 1.]])'
    """
    if isinstance(value, int) and value.bit_length() > 256:  # thousands of digits Python refuses to write
        return f"a whole number of {value.bit_length()} bits"
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply to show"
    return shorten(printable(" ".join(text.split())), 200)
