"""The interactive page, put together from its files: one file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from types import MappingProxyType
from urllib.parse import urlencode

from fp8sim._support import checks
from fp8sim._support.files import check_target, written
from fp8sim._support.web import asset, content_policy, embedded_json, framed
from fp8sim.formats import FloatFormat
from fp8sim.play.data import number_data
from fp8sim.play.machines import core_data, model_data

__all__ = ["PARTS", "PlayPage", "page_sources", "play"]

#: Part, as in the page's address -> the names of its state, which its script gives their defaults.
PARTS: dict[str, tuple[str, ...]] = {
    "number": ("value", "format", "rounding", "overflow", "draw", "from", "to"),
    "block": ("values", "set", "bar", "granularity", "scale", "rule", "format"),
    "dot": (
        *("core", "format", "numbers", "k", "seed", "bits", "length", "output", "promote"),
        *("at", "stage", "rows"),
    ),
    "amdahl": ("model", "context", "speedup", "share"),
}

#: In the order that they run: what the parts stand on, then a script for each part.
_SCRIPTS = ("first", "arithmetic", "sums", "frame", "words", "ruler", "wheel", *PARTS, "last")
_STYLES = ("colours", "page", "sums")


@dataclass(frozen=True, repr=False)
class PlayPage:
    """The interactive page, open at one of its parts; made by `play`.

    Attributes
    ----------
    part : str
        The part that is shown first.
    state : Mapping[str, str]
        What differs there from its defaults, as in the page's address.
    """

    part: str
    state: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say how to look at it."""
        return f"<fp8sim.play({self.part!r}): shown in a notebook; .save('play.html') for a browser>"

    @property
    def address(self) -> str:
        """What stands behind the ``#`` of the page's address.

        Examples
        --------
        >>> play("number", value=0.1).address
        'number?value=0.1'
        """
        return self.part + (f"?{urlencode(self.state, safe=',:')}" if self.state else "")

    @property
    def html(self) -> str:
        """The page: it asks no host for anything, and its policy lets nothing else in."""
        style, script = page_sources()
        return Template(asset("fp8sim.play", "page.html")).substitute(
            policy=content_policy([style], [script]),
            style=style,
            script=script,
            data=embedded_json({**number_data(), **core_data(), **model_data(), "start": self.address}),
        )

    def save(self, path: str | Path) -> Path:
        """Write the page to a file, whole or not at all, and return where it is.

        Raises
        ------
        FileNotFoundError, ValueError, PermissionError, OSError
            If there cannot be such a file, or the disk is full; what was there before is still there then.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     play("number", value=0.1).save(Path(folder) / "play.html").name
        'play.html'
        """
        target = check_target(path, "play.html")
        with written(path, "w", encoding="utf-8", errors="xmlcharrefreplace", newline="\n") as stream:
            stream.write(self.html)
        return target

    def _repr_html_(self) -> str:
        return framed(self.html, "fp8sim play", 'style="width:100%;height:52rem;border:0"')


def page_sources() -> tuple[str, str]:
    """Return the style and the script of the page, which the policy of a page around it must let in too.

    Examples
    --------
    >>> [len(text) > 1000 for text in page_sources()]
    [True, True]
    """
    style = "".join(asset("fp8sim.play", f"{name}.css") for name in _STYLES)
    return style, "".join(asset("fp8sim.play", f"{name}.js") for name in _SCRIPTS)


def play(part: str = "number", **state: object) -> PlayPage:
    """Open the interactive page: a number, a block and more, to touch, bit for bit as the library computes.

    Parameters
    ----------
    part : str
        Which part is shown first, one of `PARTS`.
    **state : str, number, FloatFormat or a list of them
        How it stands, by the names in the page's address: for "number" ``value``, ``format`` (one or
        several), ``rounding`` and ``overflow``. What is left out is as when the page is opened.

    Returns
    -------
    PlayPage
        Shown by a notebook; ``.save(path)`` writes one file for a browser, ``.html`` is its text.

    Raises
    ------
    ValueError
        If there is no such part.
    TypeError
        If the part has no such name in its state, or a value is neither text nor a number.

    Examples
    --------
    >>> import fp8sim
    >>> page = fp8sim.play("number", value=0.1, format=["e4m3", "e5m2"])
    >>> page
    <fp8sim.play('number'): shown in a notebook; .save('play.html') for a browser>
    >>> page.address
    'number?value=0.1&format=e4m3,e5m2'
    >>> "https://" in page.html
    False
    """
    names = checks.lookup(part, PARTS, "part of the page")
    unknown = [name for name in state if name not in names]
    if unknown:
        raise TypeError(f"the part {part!r} has no {unknown[0]!r}; it has {', '.join(names)}")
    return PlayPage(part, MappingProxyType({name: _text(value, name) for name, value in state.items()}))


def _text(value: object, name: str) -> str:
    """Write a value of a state as it stands in an address."""
    if isinstance(value, (list, tuple)):
        return ",".join(_text(entry, name) for entry in value)
    if isinstance(value, (str, FloatFormat)):
        return str(value)
    return "nan" if value != value else repr(checks.number(value, name))
