"""Lines of styled text: plain in any terminal, coloured by rich in one that can, HTML in a notebook."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["WIDTH", "Line", "Page", "Span", "Style", "prose", "wrap"]

WIDTH = 80  # columns of a terminal

Style: TypeAlias = Literal["", "title", "sign", "exponent", "mantissa", "lost", "chosen", "dim"]

#: style -> what rich calls it, of which terminals pick the shade; and CSS: black on colours of Okabe and
#: Ito, so that it reads on a light and on a dark page.
_LOOKS: dict[str, tuple[str, str]] = {
    "": ("", ""),
    "title": ("bold", "font-weight:bold"),
    "sign": ("yellow", "background:#E69F00;color:#000"),
    "exponent": ("cyan", "background:#56B4E9;color:#000"),
    "mantissa": ("green", "background:#2BB58A;color:#000"),
    "lost": ("magenta", "background:#D79BBC;color:#000"),
    "chosen": ("bold", "font-weight:bold"),
    "dim": ("dim", "opacity:0.75"),
}


class Span(NamedTuple):
    """A run of characters in one style."""

    text: str
    style: Style = ""


Line: TypeAlias = "list[Span]"


@dataclass(frozen=True)
class Page:
    """Lines of spans, laid out for 80 columns: a part of what a result shows.

    Examples
    --------
    >>> page = Page([[Span("0", "sign"), Span(" 0101 "), Span("<010>", "mantissa")]])
    >>> page.text(), page.html().count("&lt;010&gt;")
    ('0 0101 <010>', 1)
    """

    lines: Sequence[Line]

    def text(self, width: int = WIDTH) -> str:
        """Return plain text, the same for every `width`."""
        return "\n".join("".join(span.text for span in line).rstrip() for line in self.lines)

    def renderables(self, width: int = WIDTH) -> Iterator[Text]:
        """Yield the text for a rich console of any width; what it says is text, never markup."""
        from rich.text import Text

        text = Text(no_wrap=True, overflow="ignore")
        for number, line in enumerate(self.lines):
            text.append("\n" if number else "")
            for index, span in enumerate(line):
                last = index == len(line) - 1
                text.append(span.text.rstrip() if last else span.text, _LOOKS[span.style][0])
        yield text

    def html(self) -> str:
        """Return preformatted HTML, all text escaped."""

        def shown(span: Span) -> str:
            text = html.escape(span.text)
            return f'<span style="{_LOOKS[span.style][1]}">{text}</span>' if span.style else text

        body = "\n".join("".join(map(shown, line)).rstrip() for line in self.lines)
        return f'<pre style="line-height:1.3;overflow-x:auto">{body}</pre>'


def wrap(text: str, width: int = WIDTH) -> list[str]:
    """Break a sentence into lines; a figure stays with its percent sign.

    Examples
    --------
    >>> wrap("It is 12.3 % less", 10)
    ['It is', '12.3 %', 'less']
    """
    whole = text.replace(" %", "\u00a0%")
    lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\u00a0%", " %") for line in lines]


def prose(label: str, text: str, indent: int = 12) -> Iterator[Line]:
    """Break a sentence into lines behind a label.

    Examples
    --------
    >>> [line[0].text for line in prose("why", "a " * 40, indent=6)][1:]
    ['      a a a']
    """
    for number, part in enumerate(wrap(text, WIDTH - indent) or [""]):
        head = f"  {label}".ljust(indent) if number == 0 else " " * indent
        yield [Span(head + part)]
