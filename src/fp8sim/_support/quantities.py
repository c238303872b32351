"""How numbers are written: with a unit, in percent, with a sign, as a power of two."""

from __future__ import annotations

import math

__all__ = [
    "UNITS",
    "bytes_text",
    "count_text",
    "full_text",
    "number_text",
    "percent_text",
    "power_text",
    "signed_percent_text",
    "signed_text",
    "time_text",
    "unit_for",
]

#: kind of quantity -> its units, from the largest down: (how much one is, what it is called).
UNITS: dict[str, tuple[tuple[float, str], ...]] = {
    "bytes": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "count": ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")),
    "seconds": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")),
}


def unit_for(value: float, kind: str) -> tuple[float, str]:
    """Return the largest unit that `value` reaches, else the smallest: how much it is and its name.

    Examples
    --------
    >>> unit_for(1_048_576, "bytes"), unit_for(1e-12, "seconds")
    ((1000000.0, 'MB'), (1e-09, 'ns'))
    """
    return next((unit for unit in UNITS[kind] if value >= unit[0]), UNITS[kind][-1])


def bytes_text(count: float) -> str:
    """Write bytes in a decimal unit, as in ``1.05 MB``.

    Examples
    --------
    >>> bytes_text(1_048_576), bytes_text(673.15e9), bytes_text(96)
    ('1.05 MB', '673.15 GB', '96 B')
    """
    return _two_decimals(count, "bytes")


def count_text(count: float) -> str:
    """Write a number with a decimal prefix, as in ``671.03 G``.

    Examples
    --------
    >>> count_text(671026419200), count_text(512)
    ('671.03 G', '512')
    """
    return _two_decimals(count, "count").rstrip()


def _two_decimals(value: float, kind: str) -> str:
    factor, unit = unit_for(value, kind)
    return f"{value:.0f} {unit}" if factor == 1 else f"{value / factor:,.2f} {unit}"


def time_text(seconds: float) -> str:
    """Write a time in a fitting unit, as in ``18.3 us``; NaN is ``unknown``.

    Examples
    --------
    >>> time_text(1.834e-5), time_text(19.926), time_text(86400)
    ('18.3 us', '19.9 s', '86,400 s')
    """
    if math.isnan(seconds):
        return "unknown"
    if seconds >= 1000:
        return f"{seconds:,.0f} s"
    factor, unit = unit_for(seconds, "seconds")
    return f"{seconds / factor:.3g} {unit}"


def percent_text(share: float) -> str:
    """Write a share in percent with three significant digits; 0 is ``0``.

    Examples
    --------
    >>> percent_text(0.03711), percent_text(0.0), percent_text(2.5e-6)
    ('3.71 %', '0', '0.00025 %')
    """
    return "0" if share == 0 else f"{100 * share:.3g} %"


def signed_percent_text(share: float) -> str:
    """Write a share with its sign in percent; what is not quite all of it does not read as all.

    Examples
    --------
    >>> signed_percent_text(0.0417), signed_percent_text(-4e-8), signed_percent_text(-0.99955)
    ('+4.17 %', '-4e-06 %', '-99.955 %')
    """
    if 0.999 < abs(share) < 1:
        return f"{100 * share:+.{3 - math.floor(math.log10(1 - abs(share)))}g} %"
    return f"{100 * share:+.{3 if abs(share) >= 1e-4 else 1}g} %"


def number_text(x: float, digits: int = 9) -> str:
    """Write a number in full where that is short, else with so many digits.

    Examples
    --------
    >>> number_text(0.3125), number_text(448.0), number_text(2.0**-24), number_text(0.1 + 0.2)
    ('0.3125', '448', '5.96046448e-08', '0.3')
    """
    if x != x or math.isinf(x):
        return {True: "NaN", False: "infinity" if x > 0 else "-infinity"}[x != x]
    text = repr(float(x)).removesuffix(".0")
    return text if len(text) <= digits + 2 else f"{x:.{digits}g}"


def full_text(x: float) -> str:
    """Write a number with all the digits it takes to tell it from every other float64.

    Examples
    --------
    >>> full_text(1.0), full_text(1 + 2.0**-40)
    ('1', '1.0000000000009095')
    """
    return repr(float(x)).removesuffix(".0") if math.isfinite(x) else number_text(x)


def signed_text(x: float, digits: int = 6) -> str:
    """Write a number with its sign, as in ``+0.0125``.

    Examples
    --------
    >>> signed_text(0.0125), signed_text(-2.0), signed_text(0.0)
    ('+0.0125', '-2', '0')
    """
    return "0" if x == 0 else f"{x:+.{digits}g}"


def power_text(x: float) -> str:
    """Write a power of two as one, and in figures.

    Examples
    --------
    >>> power_text(0.03125), power_text(2.0**-30)
    ('2^-5 = 0.03125', '2^-30')
    """
    exponent = math.frexp(x)[1] - 1
    figures = repr(float(x)).removesuffix(".0")
    return f"2^{exponent} = {figures}" if len(figures) <= 10 else f"2^{exponent}"
