"""Let ``python -m fp8sim`` be the command line."""

from __future__ import annotations

from fp8sim.cli import main

if __name__ == "__main__":
    main()
