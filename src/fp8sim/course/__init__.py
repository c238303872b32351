"""Exercises of the lessons: whether an answer is right, and if not, which mistake gives it."""

from __future__ import annotations

from fp8sim.course.checking import Feedback, check

__all__ = ["Feedback", "check"]
