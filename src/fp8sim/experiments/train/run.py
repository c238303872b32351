"""One training run under one recipe: the loop, its log, and checkpoints that resume to the same bits."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fp8sim._support import checks
from fp8sim._support.files import read_bytes, written
from fp8sim._support.threads import Shared
from fp8sim.experiments.train.corpus import Corpus, read_corpus
from fp8sim.experiments.train.jobs import Job
from fp8sim.experiments.train.language_model import LanguageModel
from fp8sim.experiments.train.losses import RunResult
from fp8sim.pytorch import convert, emulated_layers
from fp8sim.training import Counts, Statistics

import torch  # isort: skip  (after the modules that say how to install it)

__all__ = ["run_job"]

_settings = Shared()  # PyTorch's are of the process, and runs may be in several threads


def run_job(job: Job, on_step: Callable[[int, float], None] | None = None) -> RunResult:
    """Train a model from its seed, or continue a run that was interrupted.

    `on_step` is called with the number of steps done and the loss of the last. A run that was started
    with other options is refused with a ValueError.

    Examples
    --------
    >>> from fp8sim.experiments.train.jobs import ModelSize, Schedule
    >>> from fp8sim.training import get_training_recipe
    >>> size, schedule = ModelSize(width=32, layers=1, heads=2, context=16), Schedule(steps=2)
    >>> result = run_job(Job(get_training_recipe("deepseek-v3"), 0, size, schedule))
    >>> len(result.losses), result.diverged
    (2, False)
    """
    corpus = read_corpus(job.files, least=job.size.context + 2)
    start = time.perf_counter()
    with _deterministic(job.threads):
        run = _Run(job, corpus)
        run.restore()
        while len(run.losses) < job.schedule.steps and not run.diverged:
            run.step()
            if on_step is not None:
                on_step(len(run.losses), run.losses[-1])
        run.save()  # the end too: resuming a finished run reads it
    return RunResult(
        recipe=str(job.recipe),
        seed=job.seed,
        losses=tuple(run.losses),
        diverged=run.diverged,
        saturated=run.share("saturated"),
        flushed=run.share("flushed"),
        layers=run.layers,
        digest=_digest(run.model),
        seconds=time.perf_counter() - start,
        tokens=len(run.losses) * job.schedule.sequences * job.size.context,
    )


class _Run:
    """A run between two steps."""

    def __init__(self, job: Job, corpus: Corpus) -> None:
        self.job, self.corpus = job, corpus
        self.rng = np.random.default_rng([job.seed, 1])  # of stochastic rounding
        with _settings.lock, torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            model = LanguageModel(job.size)
        self.model = convert(model, job.recipe, rng=self.rng)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1.0, betas=job.schedule.betas, weight_decay=job.schedule.weight_decay
        )
        self.losses: list[float] = []
        self.diverged = False
        self.totals = {"elements": 0, "saturated": 0, "flushed": 0}
        self.layers: dict[str, dict[str, dict[str, float]]] = {}
        folder = job.folder
        self.log_digest = ""  #: of the log as it was when the checkpoint was written
        self.log = None if folder is None else folder / f"{job.name}.jsonl"
        self.checkpoint = None if folder is None else folder / f"{job.name}.pt"

    def step(self) -> None:
        """Do one step, and write what it gave."""
        job, step = self.job, len(self.losses)
        last = step + 1 == job.schedule.steps
        counters = self._count(sqnr=last)
        sequences, length = job.schedule.sequences, job.size.context
        inputs, targets = self.corpus.batch(sequences, length, seed=job.seed, step=step)
        for group in self.optimizer.param_groups:
            group["lr"] = job.schedule.lr(step)
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(math.nan)
        norm = math.inf
        with contextlib.suppress(checks.NotFiniteError):  # raised by what has no scale; the run has diverged
            loss = self.model.loss(torch.from_numpy(inputs), torch.from_numpy(targets))
            self.losses[-1] = loss.item()
            if math.isfinite(self.losses[-1]):
                loss.backward()
                norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), job.schedule.clip))
        if math.isfinite(norm):
            self.optimizer.step()
        else:
            self.diverged = True
        self._record(counters, norm)
        if last or self.diverged:
            self.layers = {
                layer: {gemm: _describe(counts) for gemm, counts in statistics.gemms.items()}
                for layer, statistics in counters.items()
            }
        elif len(self.losses) % job.save_every == 0:
            self.save()

    def share(self, what: str) -> float:
        """Return which share of all elements saturated or became zero."""
        return self.totals[what] / max(1, self.totals["elements"])

    def save(self) -> None:
        """Write a checkpoint in place of the old one."""
        if self.checkpoint is None or self.log is None:
            return
        state = {
            "fingerprint": self.job.fingerprint(self.corpus),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "run": json.dumps(
                {
                    "losses": self.losses,
                    "diverged": self.diverged,
                    "totals": self.totals,
                    "layers": self.layers,
                    "rng": self.rng.bit_generator.state,
                }
            ),
            "log": hashlib.sha256(self.log.read_bytes()).hexdigest(),
        }
        try:
            with written(self.checkpoint) as file:
                file.write(_sealed(state))
        except (OSError, RuntimeError) as error:  # PyTorch's writer has errors of its own
            raise OSError(f"{self.checkpoint} could not be written ({error}); is the disk full?") from None

    def restore(self) -> None:
        """Take up the last checkpoint where there is one and it is asked for; drop what came after it."""
        if self.log is None or self.checkpoint is None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.job.resume and self.checkpoint.exists():
            self._load(self.checkpoint)
            content = self._read_log(self.log)
        else:
            self.checkpoint.unlink(missing_ok=True)  # of another run: nothing is to go on from it
            content = b""
        with written(self.log) as file:
            file.write(content)

    def _load(self, checkpoint: Path) -> None:
        """Take up a checkpoint of this run, or say why it is none."""
        try:
            state = _unsealed(read_bytes(checkpoint))
            ours = state["fingerprint"] == self.job.fingerprint(self.corpus)
            if ours:
                self._take_up(state)
        except Exception as error:  # damaged and edited files raise anything
            raise ValueError(
                f"{checkpoint} is damaged or no checkpoint of fp8sim train ({type(error).__name__}); "
                "delete it, or start anew in another folder"
            ) from None
        if not ours:
            raise ValueError(
                f"{checkpoint} was started with other options or text; "
                "repeat those, or start anew in another folder"
            )

    def _take_up(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        run = json.loads(state["run"])
        self.losses, self.diverged = run["losses"], run["diverged"]
        self.totals, self.layers = run["totals"], run["layers"]
        self.log_digest = str(state["log"])
        self.rng.bit_generator.state = run["rng"]

    def _read_log(self, log: Path) -> bytes:
        """Return the lines of the steps of the checkpoint, to the bit; later ones are done again."""
        lines = log.read_bytes().splitlines(True)[: len(self.losses)] if log.exists() else []
        if len(lines) < len(self.losses) or not all(line.endswith(b"\n") for line in lines):
            raise ValueError(
                f"{log} has fewer lines than its checkpoint has steps, {len(self.losses)}; "
                "start anew in another folder, or without --resume"
            )
        content = b"".join(lines)
        if hashlib.sha256(content).hexdigest() != self.log_digest:
            raise ValueError(
                f"{log} is damaged: it is not what its checkpoint was written with; "
                "start anew in another folder, or without --resume"
            )
        return content

    def _count(self, *, sqnr: bool) -> dict[str, Statistics]:
        """Start the counters of a step, one set per layer."""
        return {
            name: layer.measure(sqnr=sqnr)["weight"] for name, layer in emulated_layers(self.model).items()
        }

    def _record(self, counters: dict[str, Statistics], norm: float) -> None:
        """Add the counters of a step up, and log it."""
        counts = [c for statistics in counters.values() for c in statistics.gemms.values()]
        step = {key: sum(getattr(c, key) for c in counts) for key in self.totals}
        for key, value in step.items():
            self.totals[key] += value
        if self.log is None:
            return
        line = {"step": len(self.losses), "loss": self.losses[-1], "gradient_norm": norm, **step}
        with self.log.open("a") as file:
            file.write(
                json.dumps({k: None if v != v or v == math.inf else v for k, v in line.items()}) + "\n"
            )


def _sealed(state: dict[str, Any]) -> bytes:
    """Return the bytes of a checkpoint: what PyTorch writes, of which it checks nothing, and their digest."""
    file = io.BytesIO()
    torch.save(state, file)
    content = file.getvalue()
    return content + hashlib.sha256(content).digest()


def _unsealed(sealed: bytes) -> dict[str, Any]:
    """Return the state in a checkpoint; raise, whatever it is, where a bit of it has changed."""
    content, digest = sealed[:-32], sealed[-32:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("the digest is another")
    return dict(torch.load(io.BytesIO(content), weights_only=True))


def _describe(counts: Counts) -> dict[str, float]:
    elements = max(1, counts.elements)
    shares = {"saturated": counts.saturated / elements, "flushed": counts.flushed / elements}
    return {"sqnr_db": counts.sqnr_db, **shares}


def _digest(model: Any) -> str:
    """Return a digest of the bits of all parameters."""
    sha = hashlib.sha256()
    for parameter in model.parameters():
        sha.update(parameter.detach().numpy().tobytes())
    return sha.hexdigest()


def _deterministic(threads: int) -> contextlib.AbstractContextManager[None]:
    """Let PyTorch repeat itself to the bit; the last run to end leaves its settings as they were."""

    def change() -> Callable[[], None]:
        put_back = _settings_now()
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        return put_back

    return _settings.made(change)


def _settings_now() -> Callable[[], None]:
    """Return what puts PyTorch's settings back as they are now."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()

    def put_back() -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)

    return put_back
