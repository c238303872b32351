"""How numbers are written: with a unit, in percent, with a sign, as a power of two."""

from __future__ import annotations

import math

__all__ = [
    "UNITS", "amount_text", "bytes_text", "count_text", "decibel_text", "figure_text", "full_text",
    "number_text", "percent_text", "power_text", "ratio_text", "signed_percent_text", "signed_text",
    "tera_text", "time_text", "unit_for",
]  # fmt: skip

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
    factor, unit = unit_for(count, "bytes")
    return f"{count:.0f} B" if factor == 1 else f"{count / factor:.2f} {unit}"


def count_text(count: float) -> str:
    """Write a number with a decimal prefix, as in ``671.03 G``.

    Examples
    --------
    >>> count_text(671026419200), count_text(512)
    ('671.03 G', '512')
    """
    factor, unit = unit_for(count, "count")
    return f"{count:.0f}" if factor == 1 else f"{count / factor:,.2f} {unit}"


def decibel_text(value: float) -> str:
    """Write decibels to a tenth; what rounds to none has no sign.

    Examples
    --------
    >>> decibel_text(31.54), decibel_text(-0.04), decibel_text(float("-inf"))
    ('31.5 dB', '0.0 dB', '-inf dB')
    """
    return f"{round(value, 1) + 0.0:.1f} dB"


def time_text(seconds: float) -> str:
    """Write a time in a fitting unit, as in ``18.3 us``; NaN is ``unknown``, no time at all is ``-``.

    Examples
    --------
    >>> time_text(1.834e-5), time_text(19.926), time_text(86400), time_text(0.0)
    ('18.3 us', '19.9 s', '86,400 s', '-')
    """
    if not seconds or math.isnan(seconds):
        return "unknown" if seconds else "-"
    return amount_text(seconds, *unit_for(seconds, "seconds"))


def amount_text(value: float, factor: float, unit: str) -> str:
    """Write an amount in the unit that is `factor` large: three digits, or whole from a thousand on.

    Examples
    --------
    >>> amount_text(673.15e9, 1e12, "TB"), amount_text(86400.0, 1.0, "s")
    ('0.673 TB', '86,400 s')
    """
    amount = value / factor
    return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:,.0f} {unit}"


def tera_text(value: float, unit: str) -> str:
    """Write a rate in 10^12 of a unit, as vendors do.

    Examples
    --------
    >>> tera_text(1.979e15, "FLOP/s"), tera_text(8.6e11, "B/s")
    ('1979 TFLOP/s', '0.86 TB/s')
    """
    return f"{value / 1e12:g} T{unit}"


def ratio_text(ratio: float, decimals: int = 3) -> str:
    """Write how many times one is the other; NaN is ``unknown``.

    Examples
    --------
    >>> ratio_text(1.74321), ratio_text(0.5, 4), ratio_text(float("nan"))
    ('1.743', '0.5000', 'unknown')
    """
    return "unknown" if math.isnan(ratio) else f"{ratio:.{decimals}f}"


def figure_text(value: float) -> str:
    """Write a figure of any size beside others: whole from ten thousand on, else six digits.

    Examples
    --------
    >>> figure_text(180175.95), figure_text(39.02171)
    ('180,176', '39.0217')
    """
    return f"{value:,.0f}" if value >= 1e4 else f"{value:.6g}"


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
