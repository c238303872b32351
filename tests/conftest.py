"""Fixtures and the hypothesis profiles of all tests."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("dev", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))  # repeatable unless asked otherwise


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_241_226)
