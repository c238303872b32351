"""What the page knows of the library: its formats and rules, so that no script holds a number of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fp8sim._support.results import members
from fp8sim._support.typing import F64
from fp8sim.casts import overflow_policy
from fp8sim.formats import FORMATS, INT8, FloatFormat
from fp8sim.quantization import SCALE_FORMATS, SCALE_RULES
from fp8sim.reference.four_over_six import DENOMINATOR
from fp8sim.reference.rounding import ROUNDINGS

__all__ = ["describe_format", "number_data", "sample_values"]

_COLUMNS = 256


def number_data() -> dict[str, Any]:
    """Return what rounding and scaling are told.

    Examples
    --------
    >>> number_data()["formats"]["e4m3"]["max"], number_data()["scale_formats"]["e8m0"]
    (448.0, ['ceil', 'floor', 'even'])
    """
    return {
        "formats": {fmt.name: describe_format(fmt) for fmt in [*FORMATS.values(), INT8]},
        "roundings": ROUNDINGS,
        "scale_formats": {name: list(rules) for name, rules in SCALE_FORMATS.items()},
        "scale_rules": SCALE_RULES,
        "four_over_six_denominator": float(DENOMINATOR),
        "sample": {"columns": _COLUMNS, "values": sample_values().ravel().tolist()},
    }


def sample_values() -> F64:
    """Return two rows of numbers as small as weights are, to three digits, for a block to begin with.

    Examples
    --------
    >>> sample_values().shape, float(sample_values().std().round(3))
    ((2, 256), 0.03)
    """
    drawn = np.random.default_rng(8).normal(scale=0.03, size=(2, _COLUMNS))
    return np.array([[float(f"{x:.3g}") for x in row] for row in drawn])


def describe_format(fmt: FloatFormat) -> dict[str, Any]:
    """Return everything about a format as plain data.

    Examples
    --------
    >>> describe_format(FORMATS["e4m3"])["overflow"]
    'saturate'
    """
    derived = "bits has_inf has_nan has_negative_zero twos_complement emin emax max smallest_normal "
    derived += "smallest_subnormal nan_code infinity_code top_code"
    return {
        **dataclasses.asdict(fmt),
        **members(fmt, derived),
        "overflow": overflow_policy(fmt, None),
    }
