"""The three products of a linear layer under one recipe: what each is quantised to, and what it lost."""

from __future__ import annotations

from fp8sim.training.delayed import DelayedScales, DelayedScaling
from fp8sim.training.layer import LinearGemms, Saved
from fp8sim.training.recipes import (
    GEMMS,
    TRAINING_RECIPES,
    TrainingRecipe,
    TrainingRecipeLike,
    get_training_recipe,
)
from fp8sim.training.statistics import Counts, Statistics

__all__ = [
    "GEMMS", "TRAINING_RECIPES", "Counts", "DelayedScales", "DelayedScaling", "LinearGemms", "Saved",
    "Statistics", "TrainingRecipe", "TrainingRecipeLike", "get_training_recipe",
]  # fmt: skip
