"""Every command: each module adds its own to the application."""

from __future__ import annotations

from fp8sim.cli import (  # noqa: F401
    audit,
    catalogues,
    claims,
    compare,
    explain,
    gpu,
    model,
    play,
    quantize,
    serve,
    sweep,
    train,
)
from fp8sim.cli.options import app

__all__ = ["app"]
