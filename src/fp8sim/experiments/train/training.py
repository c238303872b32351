"""Train one small language model under several recipes, from the same seeds, and compare the losses."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fp8sim._support import checks
from fp8sim._support.results import Result
from fp8sim.experiments.train.corpus import read_corpus
from fp8sim.experiments.train.losses import RecipeLoss, RunResult, compare_losses, loss_tables
from fp8sim.training import GEMMS, TrainingRecipeLike, get_training_recipe

if TYPE_CHECKING:
    from fp8sim._support.tables import Table
    from fp8sim.experiments.train.language_model import ModelSize
    from fp8sim.experiments.train.run import Job, Schedule

__all__ = ["DEFAULT_RECIPES", "Progress", "Training", "train"]

#: What `train` compares with the baseline: the reference without rounding, one scale per tensor,
#: DeepSeek-V3's recipe, and what that would be without one of its parts.
DEFAULT_RECIPES = (
    "fp32",
    "fp8-tensor",
    "deepseek-v3",
    "deepseek-v3-no-promotion",
    "deepseek-v3-e5m2-gradients",
    "deepseek-v3-block-gradients",
)


class Progress(NamedTuple):
    """Where a training stands, after a step or, on an executor, after a run."""

    recipe: str
    seed: int
    loss: float  #: nats per byte, of the last step
    done: int  #: steps of all runs, those of earlier processes among them
    total: int
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True, eq=False)
class Training(Result):
    """Runs of `train` and what they show; prints as tables and shows as them in a notebook."""

    baseline: str
    text: str  #: what was trained on
    size: dict[str, Any]
    schedule: dict[str, Any]
    runs: tuple[RunResult, ...]

    WIDTH = 120

    @property
    def rows(self) -> tuple[RecipeLoss, ...]:
        """One row per recipe, the baseline first."""
        return compare_losses(self.runs, self.baseline)

    def run(self, recipe: str, seed: int) -> RunResult:
        """Return one run."""
        return next(run for run in self.runs if (run.recipe, run.seed) == (recipe, seed))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {
            "baseline": self.baseline,
            "text": self.text,
            "size": self.size,
            "schedule": self.schedule,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "runs": [dataclasses.asdict(run) for run in self.runs],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Training:
        """Take back what `to_dict` returned, or what ``fp8sim train --json`` printed.

        Raises
        ------
        ValueError
            If `data` is something else.

        Examples
        --------
        >>> result = Training("bf16", "two steps", {}, {}, (RunResult("bf16", 0, (4.0, 3.0)),))
        >>> Training.from_dict(result.to_dict()).run("bf16", 0).losses
        (4.0, 3.0)
        """
        try:
            runs = tuple(_read_run(run) for run in data["runs"])
            return cls(data["baseline"], data["text"], data["size"], data["schedule"], runs)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"this is no training as fp8sim train --json prints it ({error}); pass all that it printed"
            ) from None

    def parts(self) -> list[Table]:
        """Return the losses, and for each product its SQNR by layer."""
        tokens = self.schedule["sequences"] * self.size["context"]
        notes = (
            f"Text: {self.text}.",
            f"Model: {self.size['layers']} layers of width {self.size['width']}, context "
            f"{self.size['context']} bytes; {self.schedule['steps']} steps of {tokens} bytes.",
        )
        return loss_tables(self.rows, self.runs, self.baseline, notes, tuple(GEMMS))


def _read_run(run: dict[str, Any]) -> RunResult:
    """Take back a run; JSON has no NaN and no infinity, for which `fp8sim train --json` writes null."""
    layers = {
        layer: {
            gemm: {key: math.nan if value is None else value for key, value in figures.items()}
            for gemm, figures in gemms.items()
        }
        for layer, gemms in run.get("layers", {}).items()
    }
    losses = tuple(math.nan if loss is None else loss for loss in run["losses"])
    return RunResult(**{**run, "losses": losses, "layers": layers})


def train(
    recipes: Sequence[TrainingRecipeLike] = DEFAULT_RECIPES,
    *,
    baseline: TrainingRecipeLike = "bf16",
    seeds: int | Sequence[int] = 2,
    size: ModelSize | None = None,
    schedule: Schedule | None = None,
    files: Sequence[str | Path] = (),
    folder: str | Path | None = None,
    resume: bool = False,
    threads: int = 1,
    executor: Executor | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Training:
    """Train a byte-level language model under each recipe, from the same initialisation and batches.

    PyTorch does all but the products of the linear layers, which are emulated. Embedding, output
    head, norms and attention stay in FP32.

    Parameters
    ----------
    recipes : sequence of str or TrainingRecipe
        What to compare with the baseline.
    baseline : str or TrainingRecipe
        What relative loss errors are taken to; it is trained first.
    seeds : int or sequence of int
        How many seeds, or which: of initialisation, batches and stochastic rounding.
    size : ModelSize, optional
        Of the model; ``ModelSize()`` unless given.
    schedule : Schedule, optional
        Steps, batch and learning rate; ``Schedule()`` unless given.
    files : sequence of path
        Text; without any, the source of Python's standard library.
    folder : path, optional
        Where each run leaves a log in JSON lines and a checkpoint.
    resume : bool
        Take up the checkpoints in `folder`: the end is the same to the bit as without interruption.
    threads : int
        Threads of PyTorch, whose sums depend on their number: fixed, so that results do not depend on
        the machine's setting, and one, since more would wait for the CPUs that the emulation uses.
    executor : concurrent.futures.Executor, optional
        Runs are independent and map over it.
    on_step : callable, optional
        Called with a `Progress` after each step, or with an executor after each run.

    Returns
    -------
    Training
        Losses, relative loss errors, and what each product lost.

    Raises
    ------
    ModuleNotFoundError
        If PyTorch is not installed; the message says what to type.
    ValueError
        If a name is unknown, there is too little text, or `resume` finds other options.

    Examples
    --------
    >>> from fp8sim.experiments.train.language_model import ModelSize
    >>> from fp8sim.experiments.train.run import Schedule
    >>> result = train(["deepseek-v3"], seeds=1, size=ModelSize(width=32, layers=1, heads=2, context=16),
    ...                schedule=Schedule(steps=3))
    >>> [row.recipe for row in result.rows]
    ['bf16', 'deepseek-v3']
    """
    from fp8sim.experiments.train.language_model import ModelSize
    from fp8sim.experiments.train.run import Schedule

    size, schedule = size or ModelSize(), schedule or Schedule()
    if resume and folder is None:
        raise ValueError("resume=True continues what is in a folder; pass folder=... too")
    paths = tuple(str(path) for path in files)
    jobs = _jobs(recipes, baseline, seeds, size, schedule, paths, folder, resume, threads)
    corpus = read_corpus(paths, least=size.context + 2)
    results = _run_all(jobs, executor, on_step)
    return Training(
        str(jobs[0].recipe),
        corpus.source,
        {**dataclasses.asdict(size), "parameters": size.parameters, "emulated": size.emulated},
        dataclasses.asdict(schedule),
        tuple(results),
    )


def _jobs(
    recipes: Sequence[TrainingRecipeLike],
    baseline: TrainingRecipeLike,
    seeds: int | Sequence[int],
    size: ModelSize,
    schedule: Schedule,
    files: tuple[str, ...],
    folder: str | Path | None,
    resume: bool,
    threads: int,
) -> list[Job]:
    """Return one job per recipe and seed, the baseline's first."""
    from fp8sim.experiments.train.run import Job

    if isinstance(recipes, str):
        raise TypeError(f"recipes must be a list of names, got the text {recipes!r}; write [{recipes!r}]")
    chosen = list(dict.fromkeys(get_training_recipe(recipe) for recipe in (baseline, *recipes)))
    if len({str(recipe) for recipe in chosen}) < len(chosen):
        raise ValueError("two recipes have one name, and so one log and one row; give each a name of its own")
    which = range(checks.positive_int(seeds, "seeds")) if isinstance(seeds, int) else seeds
    if not which:
        raise ValueError("seeds is empty: pass at least one, or how many")
    where = None if folder is None else Path(folder)
    return [
        Job(
            recipe,
            seed,
            size,
            schedule,
            files,
            where,
            resume,
            threads=checks.positive_int(threads, "threads"),
        )
        for seed in which
        for recipe in chosen
    ]


def _run_all(
    jobs: list[Job], executor: Executor | None, on_step: Callable[[Progress], None] | None
) -> list[RunResult]:
    from fp8sim.experiments.train.run import run_job

    clock = _Clock(jobs, on_step)
    results = []
    if executor is None:
        for job in jobs:
            results.append(run_job(job, clock.of(job)))
        return results
    for job, result in zip(jobs, executor.map(run_job, jobs), strict=True):
        clock.of(job)(len(result.losses), result.losses[-1])
        results.append(result)
    return results


class _Clock:
    """Tells progress from the steps that jobs report."""

    def __init__(self, jobs: list[Job], report: Callable[[Progress], None] | None) -> None:
        self.report, self.start = report, time.perf_counter()
        self.total = sum(job.schedule.steps for job in jobs)
        self.done = 0  #: steps of jobs that have ended
        self.here = 0  #: steps that this process saw
        self.tokens = 0
        self.finished = 0

    def of(self, job: Job) -> Callable[[int, float], None]:
        """Return the callback of one job."""
        before = self.finished
        first: list[int] = []

        def on_step(steps: int, loss: float) -> None:
            first[:] = first or [steps - 1]  # what a resumed run had done before
            self.finished = before + job.schedule.steps
            self.here += 1
            self.tokens += job.schedule.sequences * job.size.context
            if self.report is None:
                return
            seconds = time.perf_counter() - self.start
            done = before + steps
            left = (self.total - done) * seconds / self.here
            speed = self.tokens / seconds if seconds else math.inf
            self.report(Progress(str(job.recipe), job.seed, loss, done, self.total, speed, left))

        return on_step
