"""`fp8sim formats`: every format and its limits."""

from __future__ import annotations

from typing import Any

from fp8sim._support.tables import Table
from fp8sim.cli.options import Json, app
from fp8sim.cli.output import print_json, print_table

__all__ = ["formats_command"]


@app.command("formats")
def formats_command(as_json: Json = False) -> None:
    """Print the table of formats."""
    from fp8sim.formats import FORMATS

    if as_json:
        print_json({name: _format_facts(name) for name in FORMATS})
        return
    rows = []
    for name in FORMATS:
        facts = _format_facts(name)
        rows.append([f"{v:.6g}" if isinstance(v, float) else str(v) for v in facts.values()])
    headers = ["format", "bits>", "E>", "M>", "bias>", "max>", "min normal>", "min subnormal>", "eps>",
               "inf", "NaN", "dtype of codes"]  # fmt: skip
    notes = ("E, M: exponent and mantissa bits; min: smallest positive; eps: from 1 to the next value",)
    print_table(Table("Formats", headers, rows, notes))


def _format_facts(name: str) -> dict[str, Any]:
    from fp8sim.formats import get_format

    fmt = get_format(name)
    return {
        "name": fmt.name,
        "bits": fmt.bits,
        "exponent_bits": fmt.exponent_bits,
        "mantissa_bits": fmt.mantissa_bits,
        "bias": fmt.bias,
        "max": fmt.max,
        "smallest_normal": fmt.smallest_normal,
        "smallest_subnormal": fmt.smallest_subnormal if fmt.subnormals else "-",
        "eps": fmt.eps,
        "infinity": "yes" if fmt.has_inf else "-",
        "nan": "yes" if fmt.has_nan else "-",
        "dtype": str(fmt.dtype),
    }
