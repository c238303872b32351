"""Write the page that benchmarks/README.md shows: `python docs/write_answer.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from readme_section import write_section

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def main() -> int:
    """Replace what stands between the markers by what the script of all questions prints."""
    command = [sys.executable, str(BENCHMARKS / "fp16_vs_fp8" / "all.py")]
    printed = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    write_section("answer", f"```text\n{printed.rstrip()}\n```", BENCHMARKS / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
