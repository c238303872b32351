"""Train one small language model under several recipes, from the same seeds."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

from fp8sim._support import checks
from fp8sim._support.files import locked
from fp8sim.experiments.train.corpus import read_corpus
from fp8sim.experiments.train.jobs import Job, ModelSize, Schedule
from fp8sim.experiments.train.losses import RunResult
from fp8sim.experiments.train.training import Training
from fp8sim.training import TrainingRecipe, TrainingRecipeLike, get_training_recipe

__all__ = ["DEFAULT_RECIPES", "Progress", "train"]

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


def train(
    recipes: TrainingRecipeLike | Sequence[TrainingRecipeLike] = DEFAULT_RECIPES,
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
    recipes : str or TrainingRecipe, or a sequence of them
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
        If a name is unknown, there is too little text or memory, `resume` finds other options, or
        another run writes in `folder`.

    Examples
    --------
    >>> from fp8sim.experiments.train import ModelSize, Schedule, train
    >>> result = train(["deepseek-v3"], seeds=1, size=ModelSize(width=32, layers=1, heads=2, context=16),
    ...                schedule=Schedule(steps=3))
    >>> [row.recipe for row in result.rows]
    ['bf16', 'deepseek-v3']
    """
    if resume and folder is None:
        raise ValueError("resume=True continues what is in a folder; pass folder=... too")
    every = Job(
        get_training_recipe(baseline),
        seed=0,
        size=size or ModelSize(),
        schedule=schedule or Schedule(),
        files=tuple(map(str, files)),
        folder=None if folder is None else Path(folder),
        resume=resume,
        threads=checks.positive_int(threads, "threads"),
    )
    jobs = _jobs(every, checks.several(recipes, TrainingRecipe, "recipes"), seeds)
    corpus = read_corpus(every.files, least=every.size.context + 2)
    every.check_memory()
    if every.folder is None:
        results = _run_all(jobs, executor, on_step)
    else:
        every.folder.mkdir(parents=True, exist_ok=True)
        with locked(every.folder):
            results = _run_all(jobs, executor, on_step)
    sizes = {"parameters": every.size.parameters, "emulated": every.size.emulated}
    return Training(
        str(every.recipe),
        corpus.source,
        {**dataclasses.asdict(every.size), **sizes},
        dataclasses.asdict(every.schedule),
        tuple(results),
    )


def _jobs(every: Job, recipes: Sequence[TrainingRecipeLike], seeds: int | Sequence[int]) -> list[Job]:
    """Return one job per recipe and seed, the baseline's first."""
    chosen = list(dict.fromkeys([every.recipe, *map(get_training_recipe, recipes)]))
    if len({str(recipe) for recipe in chosen}) < len(chosen):
        raise ValueError("two recipes have one name, and so one log and one row; give each a name of its own")
    if isinstance(seeds, int):
        seeds = range(checks.positive_int(seeds, "seeds"))
    which = [
        checks.within(checks.whole_number(seed, "a seed"), "a seed", 0, checks.LARGEST) for seed in seeds
    ]
    if not which:
        raise ValueError("seeds is empty: pass at least one, or how many")
    return [dataclasses.replace(every, recipe=recipe, seed=seed) for seed in which for recipe in chosen]


def _run_all(
    jobs: list[Job], executor: Executor | None, on_step: Callable[[Progress], None] | None
) -> list[RunResult]:
    from fp8sim.experiments.train.run import run_job  # needs PyTorch

    clock = _Clock(jobs, on_step)
    if executor is None:
        return [run_job(job, clock.of(index)) for index, job in enumerate(jobs)]
    results = []
    for index, result in enumerate(executor.map(run_job, jobs)):
        steps = len(result.losses)
        clock.of(index, steps)(steps, result.losses[-1])
        results.append(result)
    return results


class _Clock:
    """Tells progress from the steps that jobs of one schedule report."""

    def __init__(self, jobs: list[Job], report: Callable[[Progress], None] | None) -> None:
        self.jobs, self.report, self.start = jobs, report, time.perf_counter()
        self.steps = 0  #: that this process saw

    def of(self, index: int, stride: int = 1) -> Callable[[int, float], None]:
        """Return the callback of one job, which is called every `stride` steps."""
        job = self.jobs[index]

        def on_step(steps: int, loss: float) -> None:
            self.steps += stride
            if self.report is None:
                return
            seconds = time.perf_counter() - self.start
            total, before = (count * job.schedule.steps for count in (len(self.jobs), index))
            left = (total - before - steps) * seconds / self.steps
            tokens = self.steps * job.schedule.sequences * job.size.context
            speed = tokens / seconds if seconds else math.inf
            self.report(Progress(str(job.recipe), job.seed, loss, before + steps, total, speed, left))

        return on_step
