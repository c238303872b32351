"""Every command: each module adds its own to the application."""

from __future__ import annotations

from fp8sim.cli import audit, catalogues, claims, compare, explain, gpu, model, play, sweep, train  # noqa: F401
from fp8sim.cli.options import app

__all__ = ["app"]
