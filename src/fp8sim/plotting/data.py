"""Pictures of an array in a format: which scale serves it best, and which codes it uses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from fp8sim import metrics
from fp8sim._support import checks
from fp8sim._support.text import shown
from fp8sim._support.typing import F64, AnyArray, ArrayLike, FloatArray
from fp8sim.casts import encode, round_to
from fp8sim.formats import FloatFormat, FormatLike, get_format
from fp8sim.plotting._style import COLOURS, GREY, axes_for, legend_above, line_look, octaves, write
from fp8sim.quantization import Quantized
from fp8sim.reference.codes import decode_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["code_histogram", "sqnr_against_scale"]

_DECIBELS_SHOWN = 60.0
_LEAD = 0.5  # dB by which a format must be better than every other to be called the best


def sqnr_against_scale(
    x: ArrayLike,
    formats: Sequence[FormatLike] = ("e4m3", "e5m2", "int8"),
    *,
    reach: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how well formats hold an array at every scale, and where each is the best of them.

    Left of the dashed line, at the largest magnitude of `x`, something saturates. A format is called the
    best where it leads by half a decibel. `ax` and Returns are as for `number_lines`.

    Parameters
    ----------
    x : array_like
        The array, of any shape. Not all zero.
    formats : sequence of str, dtype or FloatFormat
        One line each; ``int8`` is the integers from -127 to 127.
    reach : array_like, optional
        Scales, as the largest value that a scaled format holds, in units of the root mean square
        of `x`: so one axis serves formats of every range. By default 1 to 2^14.

    Raises
    ------
    ValueError
        If a name is unknown, or `x` is empty, all zero, or holds NaN or infinity.

    Examples
    --------
    >>> import numpy as np
    >>> from fp8sim.plotting import sqnr_against_scale
    >>> ax = sqnr_against_scale(np.random.default_rng(0).standard_normal(4096))
    >>> lines = {line.get_label(): line.get_ydata() for line in ax.lines[:3]}
    >>> {name: f"{decibels.max():.1f} dB" for name, decibels in lines.items()}
    {'e4m3': '31.7 dB', 'e5m2': '25.7 dB', 'int8': '40.8 dB'}
    """
    array = checks.as_float(x).ravel()
    checks.finite(array, "x", "it has no signal-to-noise ratio")
    top = float(np.abs(array).max()) if array.size else 0.0
    if top == 0:
        raise ValueError("x is empty or all zero: it has no signal-to-noise ratio")
    array = array.astype(np.float64) / top  # whose squares neither overflow nor vanish
    rms = float(np.sqrt(np.mean(np.square(array))))
    if reach is None:
        reach = 2.0 ** np.arange(0, 14.01, 0.25)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        reaches = np.atleast_1d(checks.as_float(reach, "reach")).astype(np.float64)
    if not (reaches.ndim == 1 and reaches.size and np.all((reaches >= 2.0**-64) & (reaches <= 2.0**64))):
        raise ValueError(f"reach must be numbers from 2^-64 to 2^64 in one row, got {shown(reach)}")
    targets = [get_format(fmt) for fmt in checks.several(formats, FloatFormat, "formats")]
    if not targets:
        raise ValueError("no format to draw; pass at least one, such as ['e4m3']")
    names = [str(fmt) for fmt in targets]
    curves = [[_sqnr(array, fmt, float(r) * rms) for r in reaches] for fmt in targets]
    ax = axes_for(ax)
    for index, (name, curve) in enumerate(zip(names, curves, strict=True)):
        ax.plot(reaches, curve, label=name, markevery=4, **line_look(index))
    octaves(ax)
    ax.axvline(1 / rms, color=GREY, linestyle="--", linewidth=1)
    low, high = max(0.0, np.min(curves)), min(_DECIBELS_SHOWN, np.max(curves))
    ax.set_ylim(low - 1, high + 7)
    _name_winners(ax, reaches, np.array(curves), names)
    ax.set_xlabel("largest value held (rms of the data = 1); dashed: largest of the data")
    ax.set_ylabel("SQNR (dB)")
    ax.grid(alpha=0.3)
    legend_above(ax)
    return ax


def _sqnr(x: FloatArray, fmt: FloatFormat, largest: float) -> float:
    """Return the SQNR in dB of `x` cast with the scale that makes `largest` the largest value."""
    scale = largest / fmt.max
    return metrics.sqnr_db(round_to(x / scale, fmt, overflow="saturate") * scale, x)


def _name_winners(ax: Axes, reaches: F64, curves: F64, names: list[str]) -> None:
    """Write above the curves which format is the best where, with a line between; nothing at a tie."""
    if len(names) < 2:
        return
    second, first = np.sort(curves, axis=0)[-2:]
    best = np.where(first - second >= _LEAD, curves.argmax(axis=0), -1)
    top = ax.get_ylim()[1]
    for winner, run in groupby(range(reaches.size), key=lambda at: int(best[at])):
        span = list(run)
        left, right = reaches[span[0]], reaches[span[-1]]
        if span[0]:
            ax.axvline(float(left), color=GREY, linestyle=":", linewidth=0.8)
        if winner >= 0 and len(span) > 3:  # room for a name
            middle = float(np.sqrt(left * right))
            write(ax, middle, top - 0.8, f"{names[winner]}\nbest", va="top")


def code_histogram(x: ArrayLike | Quantized, fmt: FormatLike = "e4m3", *, ax: Axes | None = None) -> Axes:
    """Draw how often each code of a format of at most 8 bits is used, in order of the values.

    The title counts the codes in use and what they can tell: the entropy. `ax` and Returns are as for
    `number_lines`.

    Parameters
    ----------
    x : array_like or Quantized
        What `quantize` returned, or an array that is cast without a scale.
    fmt : str, dtype or FloatFormat
        Format of the cast; a `Quantized` has its own.

    Raises
    ------
    ValueError
        If a name is unknown, the format has more than 8 bits, or `x` is empty.

    Examples
    --------
    >>> import numpy as np, fp8sim
    >>> from fp8sim.plotting import code_histogram
    >>> x = np.random.default_rng(0).standard_normal(4096)
    >>> code_histogram(x, "e4m3").get_title()
    'e4m3: 138 of 254 codes used, entropy 6.37 of 8 bits'
    >>> code_histogram(fp8sim.quantize(x, "e2m1", "1x16")).get_title()
    'e2m1: 16 of 16 codes used, entropy 3.95 of 4 bits'
    """
    codes, target = _codes(x, fmt)
    if target.bits > 8:
        raise ValueError(
            f"{target} has 2^{target.bits} codes, too many to draw; use a format of 8 bits or fewer"
        )
    if codes.size == 0:
        raise ValueError("x is empty: there are no codes to count")
    order = _in_order(target)
    values = decode_table(target)[order]
    counts = np.bincount(codes.ravel(), minlength=2**target.bits)[order]
    share = counts / codes.size
    used = share[share > 0]
    entropy = float(-(used * np.log2(used)).sum()) + 0.0
    ax = axes_for(ax, 8.0)
    ax.bar(np.arange(order.size), 100 * share, width=1.0, color=COLOURS[0], edgecolor="white", linewidth=0.2)
    at = _ticks(values)
    ax.set_xticks(at, [_value_text(float(values[i])) for i in at], fontsize="small")
    ax.set_xlim(-1, order.size)
    ax.set_xlabel("value of the code, one bar each")
    ax.set_ylabel("share of the elements (%)")
    ax.set_title(
        f"{target}: {used.size} of {order.size} codes used, entropy {entropy:.2f} of {target.bits} bits"
    )
    return ax


def _codes(x: ArrayLike | Quantized, fmt: FormatLike) -> tuple[AnyArray, FloatFormat]:
    if isinstance(x, Quantized):
        return x.codes.view(x.fmt.code_dtype), x.fmt
    target = get_format(fmt)
    return np.asarray(encode(x, target)).view(target.code_dtype), target


def _in_order(fmt: FloatFormat) -> AnyArray:
    """Return the codes that are finite numbers in order of their values, -0 before 0."""
    values = decode_table(fmt)
    finite = np.flatnonzero(np.isfinite(values))
    return finite[np.lexsort((~np.signbit(values[finite]), values[finite]))]


def _ticks(values: FloatArray) -> list[int]:
    """Return where to write values: at zero, the ends, then powers of two, where there is room."""
    last = values.size - 1
    magnitude = np.abs(values)
    powers = np.flatnonzero((magnitude > 0) & (np.frexp(magnitude)[0] == 0.5))
    by_roundness = sorted(powers, key=lambda i: (int(np.frexp(magnitude[i])[1] - 1) % 4, -magnitude[i]))
    zeros = np.flatnonzero(values == 0)[-1:]
    ticks: list[int] = []
    for at in map(int, [0, last, *zeros, *by_roundness]):
        if all(abs(at - other) >= 0.06 * last for other in ticks):
            ticks.append(at)
    return sorted(ticks)


def _value_text(value: float) -> str:
    text = f"{value:g}"
    if len(text) <= 5 or value == round(value):
        return text
    return f"${'-' * (value < 0)}2^{{{np.frexp(abs(value))[1] - 1}}}$"
