"""A small language model trained under recipes: losses against a baseline's, seed by seed."""

from __future__ import annotations

from fp8sim.experiments.train.jobs import ModelSize, Schedule
from fp8sim.experiments.train.losses import RecipeLoss, RunResult
from fp8sim.experiments.train.trainer import DEFAULT_RECIPES, Progress, train
from fp8sim.experiments.train.training import Training, failing_training, recorded_training

__all__ = [
    "DEFAULT_RECIPES", "ModelSize", "Progress", "RecipeLoss", "RunResult", "Schedule", "Training",
    "failing_training", "recorded_training", "train",
]  # fmt: skip
