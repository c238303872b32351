"""The handout: two pages of A4 to write on, drawn from the library: `python docs/teach/handout.py FILE`."""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import fp8sim
from fp8sim.anatomy import explain
from fp8sim.reference.codes import positive_values

__all__ = ["FORMAT", "TIE", "handout", "octaves"]

FORMAT = fp8sim.get_format("e4m3")
CORE = fp8sim.TENSOR_CORES["hopper-fp8"]
TIE = 0.296875

STYLE = """
@page { size: A4; margin: 12mm; }
* { box-sizing: border-box; }
body { font: 10.5pt/1.3 Georgia, "Times New Roman", serif; color: #000; background: #fff; margin: 0 auto;
  max-width: 186mm; }
h1 { font-size: 17pt; margin: 0 0 1mm; } h2 { font-size: 12pt; margin: 4mm 0 1mm; } p { margin: 1mm 0 2mm; }
ol { margin: 1mm 0 3mm; padding-left: 6mm; } li { margin: 0.8mm 0; }
table { border-collapse: collapse; width: 100%; font: 7.4pt/1.3 ui-monospace, "DejaVu Sans Mono", Consolas, monospace; }
th, td { border: 0.3pt solid #555; padding: 0.7mm 0.7mm; text-align: right; font-weight: normal; white-space: nowrap; }
sup { font-size: 75%; line-height: 0; }
th { background: #eee; } caption { text-align: left; }
.none { color: #555; } svg { width: 100%; height: auto; display: block; }
svg text { font: 10px ui-monospace, "DejaVu Sans Mono", Consolas, monospace; }
pre { font: 9pt/1.3 ui-monospace, "DejaVu Sans Mono", Consolas, monospace; margin: 1mm 0; }
.grid td { height: 6.6mm; width: 3.9%; padding: 0; } .grid .last { border-right: 1.6pt solid #000; }
.grid .off { background: repeating-linear-gradient(45deg, #fff 0 1.2mm, #ddd 1.2mm 1.5mm);
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.grid th { padding: 0.3mm 0; text-align: center; font-size: 7.5pt; } .grid .row { width: 17mm; text-align: left; padding-left: 1mm; }
section { break-inside: avoid; } .second { break-before: page; } footer { font-size: 8pt; margin-top: 3mm; }
@media screen { body { padding: 6mm; } table, pre { overflow-x: auto; } html { background: #fff; color-scheme: light; } }
@media screen and (prefers-color-scheme: dark) { html { background: #161616; } body { filter: invert(0.9) hue-rotate(180deg); } }
"""


def number(x: float) -> str:
    """Write a value in full."""
    return np.format_float_positional(x, trim="-")


def power(exponent: int) -> str:
    """Write a power of two."""
    return f"2<sup>{exponent}</sup>".replace("-", "−")


def octaves() -> Iterator[tuple[int, list[float]]]:
    """Yield each exponent field, the largest first, with the positive values that have it; a zero is one too."""
    values = [0.0, *positive_values(FORMAT).tolist()]
    size = 2**FORMAT.mantissa_bits
    for field in range(2**FORMAT.exponent_bits - 1, -1, -1):
        yield field, values[field * size : (field + 1) * size]


def table() -> Iterator[str]:
    """Yield the rows of all positive values, an octave each."""
    size = 2**FORMAT.mantissa_bits
    heads = "".join(f"<th>{m:0{FORMAT.mantissa_bits}b}</th>" for m in range(size))
    yield f"<tr><th>eeee</th><th>value</th><th>step</th>{heads}</tr>"
    for field, values in octaves():
        step = values[1] - values[0]
        cells = [f"<td>{number(value)}</td>" for value in values]
        cells += ['<td class="none">NaN</td>'] * (size - len(values))
        exponent = max(field, 1) - FORMAT.bias
        yield (
            f"<tr><th>{field:0{FORMAT.exponent_bits}b}</th><th>{'1' if field else '0'}.m×{power(exponent)}</th>"
            f"<th>{power(int(np.log2(step)))}</th>{''.join(cells)}</tr>"
        )


def ruler(low: float = 0.25) -> str:
    """Return a ruler of one octave and the first half of the next, without numbers but for its ends."""
    values = positive_values(FORMAT)
    values = values[(low <= values) & (values <= 3 * low)]
    at = [20 + 660 * (v - low) / (2 * low) for v in values]
    shapes = ['<line x1="20" x2="680" y1="30" y2="30" stroke="#000"/>']
    for v, x in zip(values.tolist(), at, strict=True):
        edge = v in (low, 2 * low, 3 * low)
        shapes.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{10 if edge else 20}" y2="30" stroke="#000"/>')
        if edge:
            shapes.append(f'<text x="{x:.1f}" y="8" text-anchor="middle">{number(v)}</text>')
        else:
            shapes.append(f'<line x1="{x - 12:.1f}" x2="{x + 12:.1f}" y1="58" y2="58" stroke="#000"/>')
    return f'<svg viewBox="0 0 700 70" role="img" aria-label="A ruler from {number(low)} to {number(3 * low)}, its ticks without numbers">{"".join(shapes)}</svg>'


def grid(rows: int = 5) -> Iterator[str]:
    """Yield the rows of a blank grid: places of bits under the largest exponent, and those that are cut off.

    A product of two numbers below 2 takes one place before the point more; their sum with c takes two.
    """
    places = range(3, -CORE.fraction_bits - 5, -1)
    looks = ["last" if p == -CORE.fraction_bits else "off" if p < -CORE.fraction_bits else "" for p in places]
    heads = "".join(f'<th class="{look}">{p}</th>' for p, look in zip(places, looks, strict=True))
    cells = "".join(f'<td class="{look}"></td>' for look in looks)
    yield f'<tr><th class="row"></th><th class="row">its value</th>{heads}</tr>'
    for row in [*(f"product {i + 1}" for i in range(rows)), "c so far", "sum"]:
        yield f'<tr><th class="row">{row}</th><td class="row"></td>{cells}</tr>'


def handout() -> str:
    """Return the handout as one page of HTML that needs nothing else."""
    name, tie = FORMAT.name.upper(), html.escape(str(explain(TIE, FORMAT)))
    largest = number(FORMAT.max)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=760">
<title>{name} by hand</title><style>{STYLE}</style></head><body>
<h1>{name} by hand</h1>
<p>A sign, {FORMAT.exponent_bits} exponent bits, {FORMAT.mantissa_bits} mantissa bits, bias {FORMAT.bias}. Read
<b>s eeee mmm</b> as ± 1.mmm × 2<sup>eeee − {FORMAT.bias}</sup>; with eeee = 0 as ± 0.mmm × {power(FORMAT.emin)}. Largest {largest}; beyond it a GPU's
conversion gives {largest}.</p>
<section><h2>All values from 0 on: a row an octave</h2><table>{"".join(table())}</table></section>
<section><h2>A ruler: write the values below the ticks, then mark 0.3, 0.28 and {number(TIE)}</h2>{ruler()}{ruler(16)}</section>
<section><h2>To round a number</h2><ol><li>Find its octave: the largest power of two that is not above it, and at least {power(FORMAT.emin)}.</li>
<li>The step is that power over {2**FORMAT.mantissa_bits}.</li><li>Divide the number by the step.</li>
<li>Round to a whole number; a half goes to the even one.</li><li>Multiply by the step. If that is above {largest}, write {largest}.</li></ol>
<p>0.3 → &hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip; 0.6 → &hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip;
100 → &hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip; 0.003 → &hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip;&hellip;</p></section>
<section class="second"><h2>A tie, worked</h2><pre>{tie}</pre></section>
<section><h2>A step of a tensor core ({CORE.name}): align, cut off, add</h2>
<p>Write each product in binary under the largest exponent E: place 0 is worth 2<sup>E</sup>, place −1 half of it. The larger places are for carries. {CORE.fraction_bits}
places after the point are kept; what would stand in the hatched ones is cut off, whatever its sign. Add up, and cut off again.</p>
<table class="grid">{"".join(grid())}</table></section>
<section><h2>Try</h2><p>256, and four times 0.140625² = {number(0.140625**2)}. Then 1, and four times {power(-CORE.fraction_bits)}. Then 1, and four times
{power(-CORE.fraction_bits - 1)}.</p><table class="grid">{"".join(grid())}</table></section>
<footer>fp8sim {fp8sim.__version__}. Every value on these pages is the library's.</footer>
</body></html>
"""


def main() -> None:
    """Write it where the command line says."""
    Path(sys.argv[1]).write_text(handout(), encoding="utf-8")


if __name__ == "__main__":
    main()
