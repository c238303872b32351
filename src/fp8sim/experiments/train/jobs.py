"""What a training run depends on: the sizes of its model, its schedule, its recipe and its files."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from fp8sim._support import checks, memory
from fp8sim.experiments.train.corpus import Corpus
from fp8sim.training import TrainingRecipe

__all__ = ["BYTES", "Job", "ModelSize", "Schedule"]

BYTES = 256  # tokens that there are


@dataclass(frozen=True)
class ModelSize:
    """Sizes of a model.

    Examples
    --------
    >>> ModelSize().parameters
    1739264
    """

    width: int = 256
    layers: int = 2
    heads: int = 4
    context: int = 128

    def __post_init__(self) -> None:
        """Check the sizes."""
        checks.fields(self, **dict.fromkeys(("width", "layers", "heads", "context"), (1, None)))
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must be a multiple of twice the heads, {2 * self.heads}; "
                f"try {math.ceil(self.width / (2 * self.heads)) * 2 * self.heads}"
            )

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        width = self.width
        block = 12 * width**2 + 4 * width
        return self.layers * block + 2 * width + (BYTES + self.context + BYTES) * width

    @property
    def emulated(self) -> int:
        """Number of weights in the linear layers that are emulated."""
        return self.layers * 12 * self.width**2


@dataclass(frozen=True)
class Schedule:
    """How a model is trained; betas and decay are DeepSeek-V3's (report, 4.2)."""

    steps: int = 200
    sequences: int = 4  #: of the context's length, a step
    peak_lr: float = 5e-4
    warmup: float = 0.1  #: share of the steps; then a cosine down to a tenth of the peak
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip: float = 1.0  #: largest norm of the gradient

    def __post_init__(self) -> None:
        """Check the numbers."""
        share, count = (0, 1), (1, None)
        checks.fields(
            self, steps=count, sequences=count, warmup=share, betas=share, weight_decay=share, clip=(0, None)
        )
        if not (math.isfinite(self.peak_lr) and self.peak_lr > 0):
            raise ValueError(f"the learning rate must be positive, got {self.peak_lr}")

    def lr(self, step: int) -> float:
        """Return the learning rate of a step.

        Examples
        --------
        >>> schedule = Schedule(steps=101, peak_lr=1.0)
        >>> [round(schedule.lr(step), 3) for step in (0, 9, 10, 55, 100)]
        [0.1, 1.0, 1.0, 0.55, 0.1]
        """
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.peak_lr * (step + 1) / warm
        share = (step - warm) / max(1, self.steps - 1 - warm)
        return self.peak_lr * (0.55 + 0.45 * math.cos(math.pi * share))


@dataclass(frozen=True)
class Job:
    """Everything that one run depends on, ready to be sent to another process."""

    recipe: TrainingRecipe
    seed: int
    size: ModelSize
    schedule: Schedule
    files: tuple[str, ...] = ()  #: text; none is Python's standard library
    folder: Path | None = None  #: where the log and checkpoints go
    resume: bool = False
    save_every: int = 25  #: steps
    threads: int = 1  #: of PyTorch, whose sums depend on it; more would fight with those of the kernels

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.recipe}-seed{self.seed}"

    def check_memory(self) -> None:
        """Refuse what cannot fit: parameters, gradients, two moments, and the widest activations."""
        tokens, width = self.schedule.sequences * self.size.context, self.size.width
        what = f"training {self.size.parameters} parameters on {tokens} bytes a step"
        memory.require(16 * self.size.parameters + 4 * tokens * (4 * width + BYTES), what)

    def fingerprint(self, corpus: Corpus) -> str:
        """Return what must be equal for a run to be continued."""
        parts = (self.recipe, self.seed, self.size, self.schedule, self.threads, corpus.digest)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
