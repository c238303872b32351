"""`audit`: every matrix of a checkpoint under several recipes, here or on a cluster, and on after a kill.

Each tensor is cut into ranges of rows; a task is one of them, and gives numbers that add up. A task that
needs to know the largest magnitude of its matrix waits for the tasks that find it. All are kept in one file,
from which the same again goes on.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path
from typing import Any

from fp8sim import __version__
from fp8sim._support import checks
from fp8sim._support.files import named, written
from fp8sim._support.results import plain_data
from fp8sim._support.text import shown
from fp8sim.checkpoints import Checkpoint, Tensor, open_checkpoint
from fp8sim.checkpoints.conversion import check_patterns
from fp8sim.experiments.audit.matrices import Cut, cuts, has_values, kept_because, stack_of
from fp8sim.experiments.audit.measuring import Question, measure, needs_largest, tallest
from fp8sim.experiments.audit.result import Audit, assembled
from fp8sim.experiments.audit.tally import Tally, merged
from fp8sim.experiments.data import GENERATORS
from fp8sim.experiments.sweeps.grid import Grid
from fp8sim.experiments.sweeps.record import Record, recorded
from fp8sim.experiments.sweeps.workers import Task, WorkerDied, check_executor, outcomes_of
from fp8sim.recipes import Recipe, RecipeLike, get_recipe

__all__ = ["DEFAULT_RECIPES", "Progress", "audit"]

DEFAULT_RECIPES = ("fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8")
PARTS, RESULT = "parts.jsonl", "audit.json"  # in the folder of `out`
_DEATHS = 5  # of workers of a cluster, without a task done in between

Progress = Callable[[str, int, int], object]  # tensor, bytes that are done, bytes of all


def audit(
    source: str | os.PathLike[str],
    recipes: RecipeLike | Sequence[RecipeLike] = DEFAULT_RECIPES,
    *,
    executor: Executor | None = None,
    out: str | os.PathLike[str] | None = None,
    activations: str | os.PathLike[str] | None = None,
    tokens: int = 32,
    seed: int = 0,
    embeddings: bool = False,
    keep: str | Sequence[str] = (),
    headers_only: bool = False,
    on_part: Progress | None = None,
) -> Audit:
    """Measure what recipes save and cost of a whole checkpoint: every matrix of it, in flat memory.

    Weights are quantised along their input features, as a recipe's B is. Figures depend neither on the
    executor nor on how the work was cut, interrupted or ordered, to the last digit.

    Parameters
    ----------
    source : str or Path
        What `checkpoints.open_checkpoint` takes: a file, a folder, an index, a URL.
    recipes : str, Recipe, or list of them
        Of each the weights' side is measured, and with `activations` its product too.
    executor : concurrent.futures.Executor, optional
        What runs the tasks: threads, processes, or a cluster (``distributed.Client(...).get_executor()``),
        each worker in one thread, and all able to read `source`. Without one they run here, in all threads.
    out : path, optional
        A folder, made if it is not there: tasks that are done are kept in it, and where there are some of the
        same audit, it goes on from them. Its files have the same bytes in the end, whatever happened.
    activations : path or str, optional
        A folder of activations (m, k), ``LAYER.npy`` for ``LAYER.weight``; or how they are generated, such as
        ``llm-like``. With them the error of each layer's product is measured too, which takes far longer.
    tokens, seed : int
        Rows and seed of generated activations.
    embeddings : bool
        Whether embeddings are quantised too: they are looked up, not multiplied.
    keep : str or list of str
        Patterns of names of tensors or of their modules (``*lm_head*``), which are kept as they are stored.
    headers_only : bool
        Count bytes only, which reads nothing but headers.
    on_part : callable, optional
        Called with the name of a tensor, the bytes that are done and those of all, as tasks end.

    Returns
    -------
    Audit
        Rows for each matrix, totals, what was kept and why; prints as tables.

    Raises
    ------
    ValueError, FileNotFoundError, ModuleNotFoundError, TypeError
        If the checkpoint cannot be opened or changes, an argument is wrong, or `out` is of another audit.
    ChildProcessError
        If workers die and no new ones come; what is in `out` can be gone on from.
    OSError
        If `out` cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np, fp8sim
    >>> from pathlib import Path
    >>> from safetensors.numpy import save_file
    >>> rng = np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     w = rng.standard_normal((256, 512)).astype(np.float16)
    ...     save_file({"layers.0.q.weight": w, "norm.weight": w[0]}, Path(folder) / "model.safetensors")
    ...     result = fp8sim.audit(folder, ["fp8-row", "mxfp8"])
    >>> [(row["tensor"], row["recipe"], round(row["error"], 4)) for row in result.rows]
    [('layers.0.q.weight', 'fp8-row', 0.0264), ('layers.0.q.weight', 'mxfp8', 0.0265)]
    >>> [(one["name"], one["why"]) for one in result.kept]
    [('norm.weight', '1 axis: no matrix')]
    """
    chosen = _recipes(recipes)
    patterns = tuple(checks.several(keep, str, "keep"))
    checkpoint = open_checkpoint(source)
    check_patterns(patterns, checkpoint.names)
    reasons = {tensor.name: kept_because(tensor, patterns, embeddings) for tensor in checkpoint}
    tensors = {tensor.name: tensor for tensor in checkpoint if has_values(tensor)}
    matrices = {name for name in tensors if not reasons[name]}
    options: Any = (_inputs(activations), checks.positive_int(tokens, "tokens"), checks.seed(seed))
    if headers_only:
        return assembled(checkpoint, chosen, reasons, {})
    question = Question(os.fspath(source), checkpoint.fingerprint, chosen, *options)
    work = _Work(tensors, matrices, question, on_part)
    with _kept(out, checkpoint, question, work.grid) as record:
        work.run(executor, record)
        result = assembled(checkpoint, chosen, reasons, work.tallies())
    if out is not None:
        with written(Path(out) / RESULT, "w", encoding="utf-8", newline="\n") as file:
            json.dump(plain_data(result.to_dict()), file, indent=1)
            file.write("\n")
    return result


def _recipes(recipes: RecipeLike | Sequence[RecipeLike]) -> tuple[Recipe, ...]:
    chosen = tuple(map(get_recipe, checks.several(recipes, Recipe, "recipes")))
    names = [recipe.name for recipe in chosen]
    if not chosen:
        raise ValueError(f"an audit is of one recipe at least, such as {DEFAULT_RECIPES[0]!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"recipes holds {max(names, key=names.count)!r} twice; leave one out, or rename it")
    for recipe in chosen:
        scaling = recipe.b.scaling
        if scaling.granularity == "tensor" and scaling.percentile < 100:
            raise ValueError(
                f"recipe {recipe.name}: a percentile of a whole tensor needs all of it at once, and an audit "
                "reads it in parts; use granularity 'row', or give amax"
            )
    return chosen


def _inputs(activations: str | os.PathLike[str] | None) -> str:
    if activations is None or activations in GENERATORS:
        return str(activations or "")
    if not named(activations).is_dir():
        raise ValueError(
            f"activations must be a folder of .npy files, or one of {', '.join(GENERATORS)}; "
            f"got {shown(os.fspath(activations))}"
        )
    return os.fspath(activations)


@contextlib.contextmanager
def _kept(
    out: str | os.PathLike[str] | None, checkpoint: Checkpoint, question: Question, grid: Grid
) -> Iterator[Record | None]:
    if out is None:
        yield None
        return
    folder = named(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; out is a folder, such as {folder}.audit")
    folder.mkdir(parents=True, exist_ok=True)
    header = {
        "source": checkpoint.source,
        "headers": checkpoint.fingerprint,
        "files": checkpoint.changed,
        "recipes": {r.name: f"{r.a} | {r.b} | {r.accumulator.name}" for r in question.recipes},
        "activations": [question.activations, question.tokens, question.seed]
        if question.activations
        else None,
        "tasks": len(grid),
        "versions": {"fp8sim": __version__},
    }
    with recorded(folder / PARTS, header, grid, "audit") as record:
        yield record


class _Work:
    """The tasks of an audit: which there are, which can be done now, and what came of them."""

    def __init__(
        self, tensors: dict[str, Tensor], matrices: set[str], question: Question, on_part: Progress | None
    ) -> None:
        self.measure = functools.partial(measure, question=question)
        self.on_part = on_part
        self.tasks: list[tuple[Cut, str]] = []
        self.size: list[int] = []  # bytes of each
        for tensor in tensors.values():
            each = list(cuts(tensor, tallest(question.recipes, tensor)))
            total, finds = max(1, each[-1].stop), ["evidence"]
            if tensor.name in matrices:
                first = not each[0].whole and needs_largest(question.recipes)
                finds = ["largest"] * first + ["errors"]
            for find in finds:
                self.tasks += [(one, find) for one in each]
                self.size += [tensor.nbytes * (one.stop - one.start) // total for one in each]
        rows = tuple({"tensor": cut.tensor, "rows": cut.rows, "find": find} for cut, find in self.tasks)
        self.grid = Grid(None, rows, rows)
        self.total = sum(self.size)
        self.found: dict[int, dict[str, Any]] = {}  # place -> what a task returned
        self.done = 0  # bytes
        self._waiting: dict[str, list[int]] = defaultdict(list)  # tensor -> tasks that need its largest
        self._unseen: dict[str, int] = defaultdict(int)  # tensor -> tasks that find it, not done
        self._rows = {tensor.name: stack_of(tensor.shape)[1] for tensor in tensors.values()}
        self._tops: dict[tuple[str, int], float] = defaultdict(float)  # tensor, matrix of it -> largest

    def run(self, executor: Executor | None, record: Record | None) -> None:
        """Do what is not done, in any order, and once more what workers died at."""
        check_executor(executor, self.measure, self.grid)
        ready = self._ready(record.outcomes if record else {})
        deaths = 0
        while True:
            try:
                for place, outcome in outcomes_of(self.measure, ready, executor):
                    if "error" in outcome:
                        raise ValueError(
                            f"{self.tasks[place][0].tensor}: {outcome['error'].partition(': ')[2]}"
                        )
                    if record:
                        record.add(place, outcome)
                    deaths = 0
                    ready.extend(self._take(place, outcome["result"]))
            except WorkerDied as error:
                deaths += 1
                words = record.words if record else "pass out=FOLDER, and the same again goes on from there"
                if isinstance(error.__cause__, BrokenExecutor) or deaths > _DEATHS:
                    raise ChildProcessError(f"{error}; {words}") from error.__cause__
                ready = self._ready({})
            else:
                return

    def _ready(self, outcomes: dict[int, Any]) -> _Ready:
        """Take what is there, and return the tasks that can be done."""
        for place, outcome in outcomes.items():
            if "result" in outcome:
                self._note(place, outcome["result"])
        self._waiting.clear()
        self._unseen.clear()
        for place, (cut, find) in enumerate(self.tasks):
            if find == "largest":
                self._unseen[cut.tensor] += place not in self.found
        ready = _Ready()
        for place, (cut, _) in enumerate(self.tasks):
            if place in self.found:
                continue
            if self.tasks[place][1] == "errors" and self._unseen[cut.tensor]:
                self._waiting[cut.tensor].append(place)
            else:
                ready.append(self._task(place))
        return ready

    def _take(self, place: int, result: dict[str, Any]) -> Iterator[Task]:
        """Take what a task returned, and yield those that waited for it."""
        self._note(place, result)
        cut, find = self.tasks[place]
        if find == "largest":
            self._unseen[cut.tensor] -= 1
            if not self._unseen[cut.tensor]:
                yield from map(self._task, self._waiting.pop(cut.tensor, ()))

    def _task(self, place: int) -> Task:
        cut, find = self.tasks[place]
        top = self._tops[cut.tensor, cut.start // self._rows[cut.tensor]] if find == "errors" else 0.0
        return place, {**self.grid.points[place], "top": top}

    def _note(self, place: int, result: dict[str, Any]) -> None:
        """Keep what a task returned."""
        cut, find = self.tasks[place]
        self.found[place] = result
        if find == "largest":
            matrix = cut.tensor, cut.start // self._rows[cut.tensor]
            self._tops[matrix] = max(self._tops[matrix], result["largest"])
        self.done += self.size[place]
        if self.on_part is not None:
            self.on_part(cut.tensor, self.done, self.total)

    def tallies(self) -> dict[str, Tally]:
        """Return what is known of each tensor."""
        parts: dict[str, list[Tally]] = defaultdict(list)
        for place in sorted(self.found):
            cut, find = self.tasks[place]
            if find != "largest":
                parts[cut.tensor].append(Tally.from_row(self.found[place]))
        return {name: merged(some) for name, some in parts.items()}


class _Ready(deque[Task]):
    """Tasks that can be done now; who takes them finds more once others are done."""

    def __next__(self) -> Task:
        """Return the next task that is there now."""
        if not self:
            raise StopIteration
        return self.popleft()

    def __iter__(self) -> _Ready:
        """Return itself: what is taken is gone."""
        return self
