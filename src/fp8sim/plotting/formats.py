"""Pictures of formats: their values on a line, and how well they round along their range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from fp8sim._support import checks
from fp8sim._support.typing import F64, Rounding
from fp8sim.casts import round_to
from fp8sim.formats import FloatFormat, FormatLike, get_format
from fp8sim.plotting._style import COLOURS, GREY, axes_for, legend_above, line_look, octaves, write
from fp8sim.reference.codes import positive_values
from fp8sim.reference.rounding import ROUNDINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["number_lines", "rounding_error"]

_DRAWN_APART = 1200  # values on a linear line; more would run into a band, so a band is drawn
_APART_IN_OCTAVES = 400  # the same for a logarithmic line, of values as dense as in a normal octave
_PER_OCTAVE = 32  # gaps between neighbours at which the rounding error is taken


def number_lines(
    formats: Sequence[FormatLike] = ("e4m3", "e5m2"),
    *,
    scale: Literal["linear", "log"] = "linear",
    limit: float = 8.0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the values of formats on number lines, one below the other.

    Parameters
    ----------
    formats : sequence of str, dtype or FloatFormat
        From top to bottom.
    scale : {"linear", "log"}
        ``linear``: all values up to `limit`, of both signs. ``log``: all positive values.
        Subnormals are drawn short.
    limit : float
        Largest magnitude of a linear line.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn in.

    Raises
    ------
    ValueError
        If a name is unknown, there is no format, or `limit` is not positive.

    Examples
    --------
    >>> from fp8sim.plotting import number_lines
    >>> ax = number_lines(["e2m1", "e4m3", "e5m2"], scale="log")
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['e2m1', 'e4m3', 'e5m2']
    """
    checks.one_of(scale, ("linear", "log"), "scale of a number line")
    lines = _formats(formats)
    if not checks.number(limit, "limit") > 0:
        raise ValueError(f"limit must be positive, got {limit}; 8 shows E4M3 well")
    ax = axes_for(ax, 8.0, 0.8 + 0.55 * len(lines))
    ends = min(fmt.smallest_subnormal for fmt in lines), max(fmt.max for fmt in lines)
    for row, fmt in enumerate(lines):
        if scale == "log":
            _draw_octaves(ax, row, fmt, ends)
        else:
            _draw_linear(ax, row, fmt, min(limit, fmt.max))
    ax.set_yticks(range(len(lines)), [str(fmt) for fmt in lines])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "right", "top"]].set_visible(False)
    if scale == "log":
        octaves(ax)
        ax.set_xlabel("positive values (short: subnormal)")
    else:
        ax.set_xlim(-1.02 * limit, 1.02 * limit)
        ax.set_xlabel(f"values up to {limit:g} (short: subnormal)")
    return ax


def _draw_linear(ax: Axes, row: int, fmt: FloatFormat, top: float) -> None:
    """Draw the values up to `top`: a stroke each, or a band where there are too many."""
    low = -top if fmt.signed else 0.0
    ax.plot([low, top], [row, row], color=GREY, linewidth=0.6, zorder=1)
    values = positive_values(fmt) if fmt.bits <= 16 else None
    values = None if values is None else values[values <= top]
    if values is None or values.size > _DRAWN_APART:
        _draw_band(ax, row, low, top, 0.15)
        _write_density(ax, (low + top) / 2, row, fmt)
        return
    _draw_strokes(
        ax, row, fmt, np.concatenate([-values if fmt.signed else [], [0.0] if fmt.zero else [], values])
    )


def _draw_octaves(ax: Axes, row: int, fmt: FloatFormat, ends: tuple[float, float]) -> None:
    """Draw the positive values, on a line from end to end; a band where strokes would run into one."""
    low, first, top = fmt.smallest_subnormal, fmt.smallest_normal, fmt.max
    ax.plot([low, top], [row, row], color=GREY, linewidth=0.6, zorder=1)
    octaves_shown = math.log2(ends[1] / ends[0])
    if octaves_shown * 2**fmt.mantissa_bits <= _APART_IN_OCTAVES:  # never so beyond 16 bits
        _draw_strokes(ax, row, fmt, positive_values(fmt))
        return
    _draw_band(ax, row, low, top, 0.15)
    _draw_band(ax, row, first, top, 0.3)
    if math.log2(top / first) > 0.3 * octaves_shown:  # room inside
        _write_density(ax, math.sqrt(first) * math.sqrt(top), row, fmt)
    elif math.log2(ends[1] / top) > 0.3 * octaves_shown:
        _write_density(ax, top * 2 ** (0.01 * octaves_shown), row, fmt, ha="left")
    else:
        _write_density(ax, low / 2 ** (0.01 * octaves_shown), row, fmt, ha="right")


def _draw_strokes(ax: Axes, row: int, fmt: FloatFormat, values: F64) -> None:
    height = np.where(np.abs(values) < fmt.smallest_normal, 0.15, 0.3)
    ax.vlines(values, row - height, row + height, color=_colour(row), linewidth=0.9, zorder=2)


def _draw_band(ax: Axes, row: int, start: float, end: float, height: float) -> None:
    ax.fill_between([start, end], row - height, row + height, color=_colour(row), alpha=0.4, linewidth=0)


def _write_density(ax: Axes, x: float, row: int, fmt: FloatFormat, **look: str) -> None:
    write(ax, x, row, f"{2**fmt.mantissa_bits:,} values an octave", fontsize="x-small", zorder=3, **look)


def _colour(row: int) -> str:
    return COLOURS[row % len(COLOURS)]


def rounding_error(
    formats: Sequence[FormatLike] = ("e4m3", "e5m2", "e3m4", "fp16"),
    *,
    rounding: Rounding = "nearest-even",
    ax: Axes | None = None,
) -> Axes:
    """Draw the largest relative rounding error between neighbours along the range of formats.

    In each octave it falls from one half of `eps` to a quarter; below the smallest normal number it
    grows to 100 %, and beyond the largest, which values saturate to, it grows again. `formats`, `ax`,
    Returns and Raises are as for `number_lines`; `rounding` is any but ``stochastic``.

    Examples
    --------
    >>> from fp8sim.plotting import rounding_error
    >>> ax = rounding_error(["e4m3"])
    >>> x, percent = ax.lines[0].get_data()
    >>> print(f"{percent[(x >= 1) & (x < 256)].max():.2f} %")  # half of eps, of a number near 1.06
    5.88 %
    """
    checks.one_of(rounding, [name for name in ROUNDINGS if name != "stochastic"], "rounding to draw")
    lines = _formats(formats)
    ax = axes_for(ax)
    for index, fmt in enumerate(lines):
        x, error = _worst_errors(fmt, rounding)
        look = {**line_look(index), "linestyle": "-", "linewidth": 1.0}  # dashes would hide the teeth
        ax.plot(x, 100 * error, label=str(fmt), markevery=max(1, x.size // 9), **look)
    octaves(ax)
    ax.set_yscale("log")
    ax.set_xlabel("magnitude of the number")
    ax.set_ylabel(f"largest relative error, {rounding} (%)")
    ax.grid(alpha=0.3)
    legend_above(ax)
    return ax


def _worst_errors(fmt: FloatFormat, rounding: Rounding) -> tuple[F64, F64]:
    """Return where, and how large, the relative error is at its worst between neighbours."""
    lower, upper = _gaps(fmt)
    inside = (np.nextafter(lower, np.inf), (lower + upper) / 2, np.nextafter(upper, 0))
    x = np.stack([np.maximum(probe, 1e-300) for probe in inside])
    error = np.abs(round_to(x, fmt, rounding=rounding, overflow="saturate") - x) / x
    worst = error.argmax(axis=0)[None]
    beyond = fmt.max * np.geomspace(1.0, 8.0, _PER_OCTAVE)[1:]
    return (
        np.concatenate([np.take_along_axis(x, worst, 0)[0], beyond]),
        np.concatenate([np.take_along_axis(error, worst, 0)[0], 1 - fmt.max / beyond]),
    )


def _gaps(fmt: FloatFormat) -> tuple[F64, F64]:
    """Return neighbours around which to look, some in each octave."""
    smallest = fmt.smallest_subnormal  # below it, what is flushed to zero is lost in full
    lower, upper = [smallest / np.array([4, 2])], [smallest / np.array([2, 1])]
    first = fmt.emin - (fmt.mantissa_bits if fmt.subnormals else 0)
    for exponent in range(first, fmt.emax + 1):
        step = 2.0 ** (max(exponent, fmt.emin) - fmt.mantissa_bits)
        count = round(2.0**exponent / step)
        start = 2.0**exponent + step * np.unique(np.linspace(0, count - 1, min(count, _PER_OCTAVE)).round())
        start = start[start < fmt.max]
        lower.append(start)
        upper.append(start + step)
    return np.concatenate(lower), np.concatenate(upper)


def _formats(formats: Sequence[FormatLike]) -> list[FloatFormat]:
    lines = [get_format(fmt) for fmt in checks.several(formats, FloatFormat, "formats")]
    if not lines:
        raise ValueError("no format to draw; pass at least one, such as ['e4m3']")
    return lines
