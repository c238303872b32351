"""What every result of the library is: it prints in a plain prompt, in colour, and in a notebook."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Part", "Result", "data_frame", "members", "plain_data"]


class Part(Protocol):
    """A piece of what a result shows: a table, or a page of styled lines."""

    def text(self, width: int) -> str:
        """Return plain text of at most `width` columns, wherever the words let it."""

    def html(self) -> str:
        """Return HTML, all text escaped."""

    def renderables(self, width: int) -> Iterator[RenderableType]:
        """Yield what rich prints on a console of `width` columns."""


class Result(abc.ABC):
    """A result that shows itself: as text by `print` and in a plain prompt, by rich, and as HTML.

    Subclasses that are dataclasses say ``repr=False``, so that `__repr__` is this one.

    Examples
    --------
    >>> from fp8sim._support.tables import Table
    >>> class Sizes(Result):
    ...     def parts(self):
    ...         return [Table("Sizes", ["format", "bytes>"], [["e4m3", "1"]])]
    >>> Sizes()
    Sizes
    <BLANKLINE>
    format  bytes
    ─────────────
    e4m3        1
    """

    WIDTH: ClassVar[int] = 110  #: most columns of the text

    @abc.abstractmethod
    def parts(self) -> Sequence[Part]:
        """Return what is shown, from the top down."""

    def __repr__(self) -> str:
        """Return the parts as plain text."""
        return "\n\n".join(part.text(self.WIDTH) for part in self.parts())

    def __rich_console__(self, console: Any, options: Any) -> Iterator[RenderableType]:
        """Yield the parts in colour, an empty line between them."""
        for index, part in enumerate(self.parts()):
            if index:
                yield ""
            yield from part.renderables(options.max_width)

    def _repr_html_(self) -> str:
        return "".join(part.html() for part in self.parts())


def data_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Any:
    """Return rows as a pandas data frame, or say what to install."""
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise ModuleNotFoundError("a data frame needs pandas: pip install 'fp8sim[pandas]'") from None
    return pd.DataFrame(list(rows), columns=columns)


def members(source: object, names: str) -> dict[str, Any]:
    """Return attributes by name.

    Examples
    --------
    >>> members(1.5, "real imag")
    {'real': 1.5, 'imag': 0.0}
    """
    return {name: getattr(source, name) for name in names.split()}


def plain_data(data: Any) -> Any:
    """Replace what JSON cannot say: NaN and infinity become None, keys become text.

    Examples
    --------
    >>> plain_data({"error": float("nan"), 4: (1.5, "x")})
    {'error': None, '4': [1.5, 'x']}
    """
    if isinstance(data, dict):
        return {str(key): plain_data(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain_data(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
