"""Write the pages that benchmarks/README.md shows: `python docs/write_answer.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from readme_section import write_section

from fp8sim._support.quantities import time_text

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
#: What `time.py --gpu --json` printed on an H200, with the date; notes without calls of C++.
RECORDED = BENCHMARKS / "fp16_vs_fp8" / "h200.json"


def measured_times() -> str:
    """Return the table of the times that were measured on a GPU."""
    data = json.loads(RECORDED.read_text(encoding="utf-8"))
    columns = ("shape", "recipe", "measured", "to BF16's", "to the roofline", "rate")
    lines = [" | ".join(columns), "--- | --- | ---: | ---: | ---: | ---:"]
    for row in data["rows"]:
        if row["measured_s"] is not None:
            rate = f"{row['rate'] * row['seconds'] / row['measured_s'] / 1e12:,.0f} T{row['rate_unit']}"
            ratios = f"{row['measured_to_bf16']:.2f} | {row['of_roofline']:.2f}"
            texts = (row["shape"], row["recipe"], time_text(row["measured_s"]), ratios, rate)
            lines.append(" | ".join(texts))
    notes = [note for note in data["notes"] if note.startswith("Measured on ")]
    return "\n".join([*(f"| {line} |" for line in lines), "", *notes, f"On {data['versions']['date']}."])


def main() -> int:
    """Replace what stands between the markers: what the script of all questions prints, measured times."""
    command = [sys.executable, str(BENCHMARKS / "fp16_vs_fp8" / "all.py")]
    printed = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    write_section("answer", f"```text\n{printed.rstrip()}\n```", BENCHMARKS / "README.md")
    write_section("measured", measured_times(), BENCHMARKS / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
