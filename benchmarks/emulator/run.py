"""Run every benchmark here in turn, with the same options: `python benchmarks/emulator/run.py --smoke`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run each `bench_*.py` in a process of its own; return 1 if one of them failed."""
    scripts = sorted(Path(__file__).parent.glob("bench_*.py"))
    failed = []
    for script in scripts:
        print(f"== {script.name}", flush=True)
        if subprocess.run([sys.executable, str(script), *sys.argv[1:]], check=False).returncode:
            failed.append(script.name)
    print(
        f"{len(scripts) - len(failed)} of {len(scripts)} benchmarks ran"
        + (f"; not {failed}" if failed else "")
    )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
