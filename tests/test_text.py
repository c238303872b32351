"""Text from outside reaches a terminal as text: no escape sequence, no line of its own, no megabyte."""

from __future__ import annotations

import pytest

from fp8sim._support.tables import Table
from fp8sim._support.text import printable, shorten, shown


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nfp8sim: all is well", r"a\nfp8sim: all is well"),
        ("\r\x07\x9b2J", r"\r\x07\x9b2J"),
        ("safe\u202etxt.exe", r"safe\u202etxt.exe"),
        ("two\u2028lines\u200b", r"two\u2028lines\u200b"),
        ("\udcff.npy", r"\udcff.npy"),  # a byte of a file's name that is no UTF-8
        ("größe \N{GREEK SMALL LETTER ALPHA}", "größe \N{GREEK SMALL LETTER ALPHA}"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text, written):
    assert printable(text) == written
    assert Table("t", ["name"], [[text]]).rows == [[written]]


def test_the_middle_of_what_is_endless_is_left_out():
    text = printable(f"tensor {'a' * 10**6}z, close to {'b' * 300}")
    assert len(text) < 1000
    assert "a…a" in text
    assert "az, close to " + "b" * 300 in text
    assert len(printable("word " * 10**5)) == len(printable("\x1b " * 10**5)) == 4000


def test_a_text_is_cut_only_where_it_must_be():
    assert [shorten("abcdef", width) for width in (7, 6, 5, 2)] == ["abcdef", "abcdef", "ab…ef", "…f"]


@pytest.mark.parametrize("value", [10**5000, [1.0] * 10**5, "e" * 10**6], ids=["number", "list", "text"])
def test_any_value_is_shown_in_a_few_words(value):
    assert len(shown(value)) <= 200
