"""The article's sentence, taken apart: five questions, answered by figures that rules judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fp8sim._support import checks
from fp8sim._support.page import Line, Page, Span, prose, wrap
from fp8sim._support.published import CLAIM, CLAIM_SOURCE
from fp8sim._support.results import Part, Result
from fp8sim._support.tables import Table
from fp8sim._support.versions import versions
from fp8sim.costs.devices import DeviceLike, get_device
from fp8sim.experiments.claims.accuracy import (
    Setting,
    formats,
    product_errors,
    published_test,
    sum_errors,
    training_loss,
)
from fp8sim.experiments.claims.answers import answers, bottom_line
from fp8sim.experiments.claims.rounding import RoundingError, rounding_errors, rounding_table
from fp8sim.experiments.claims.row import QUESTIONS, Claim
from fp8sim.experiments.claims.savings import saved_bytes, saved_operations, saved_time, share_in_fp8
from fp8sim.experiments.data import llm_like_matrices, real_matrices
from fp8sim.experiments.train import DEFAULT_RECIPES, Training, recorded_training, train

__all__ = ["Claims", "claims", "count_parts"]

SEEDS = 5  #: of what is generated: the figures are of the first, the ranges over all

_PARTS: dict[str, Callable[[Setting], list[Claim]]] = {
    "formats of 16 bits": formats,
    "share in FP8": lambda setting: [share_in_fp8(setting.device)],
    "bytes": lambda setting: saved_bytes(setting.device),
    "operations": lambda setting: saved_operations(setting.device),
    "time": lambda setting: saved_time(setting.device),
    "errors of products": product_errors,
    "DeepGEMM's own test": published_test,
    "sums of 14 bits": sum_errors,
    "loss of a training": training_loss,
}


@dataclass(frozen=True, repr=False, kw_only=True)
class Claims(Result):
    """The sentence, judged: a bottom line, five answers, and the figures that make them.

    Prints as a page and tables of 80 columns, and shows as them in a notebook; ``result["weights"]`` is a
    row.
    """

    sentence: str
    bottom_line: tuple[str, ...]  #: what it comes to, in at most three sentences that the rows make
    answers: dict[str, str]  #: question -> answer, in words that the rows make
    rows: tuple[Claim, ...]
    rounding: tuple[RoundingError, ...]  #: what scales buy, by format and scaling
    device: str
    seed: int
    data: tuple[str, ...]  #: what was multiplied
    environment: dict[str, str]

    WIDTH = 80

    def __getitem__(self, name: str) -> Claim:
        """Return a row by its name."""
        return checks.lookup(name, {row.name: row for row in self.rows}, "row of this verdict")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {**dataclasses.asdict(self), "rows": [row.to_dict() for row in self.rows]}

    def parts(self) -> list[Part]:
        """Return the answers, the figures by question, what scales buy, and the reasons with sources."""
        numbered = list(enumerate(self.rows, 1))
        tables = [
            _figures(words, [(n, row) for n, row in numbered if row.question == question])
            for question, words in QUESTIONS.items()
        ]
        return [self._opening(), *tables, *self.rounding_tables(), self._reasons(numbered)]

    def rounding_tables(self) -> list[Table]:
        """Return what scales buy: errors of rounded activations, a table for each kind of data."""
        kinds = dict.fromkeys(row.data for row in self.rounding)
        return [rounding_table([row for row in self.rounding if row.data == data]) for data in kinds]

    def _opening(self) -> Page:
        """Return the sentence, the bottom line and the answers."""
        lines: list[Line] = [
            *([Span(line)] for line in wrap(f'"{self.sentence}"')),
            [],
            *([Span(line, "title")] for sentence in self.bottom_line for line in wrap(sentence)),
            [],
        ]
        for question, answer in self.answers.items():
            lines += prose(question, answer, indent=21)
        return Page(lines)

    def _reasons(self, numbered: Sequence[tuple[int, Claim]]) -> Table:
        columns: dict[str, Callable[[tuple[int, Claim]], str]] = {
            "#>": lambda pair: str(pair[0]),
            "why": lambda pair: pair[1].why,
            "rule (what it saw)": lambda pair: pair[1].ruling,
            "source": lambda pair: pair[1].source or "-",
        }
        notes = (
            f"Times: modelled on {self.device}, roofline at dense peak rates.",
            f"Seeds of what is generated: {self.seed} to {self.seed + SEEDS - 1}. Data:",
            *(f"  {line}" for source in self.data for line in wrap(source, 78)),
            "The sentence:",
            *(f"  {line}" for line in wrap(CLAIM_SOURCE, 78)),
        )
        return Table.of("Why", columns, numbered, notes)


def claims(
    *,
    device: DeviceLike = "h800",
    seed: int = 0,
    train: bool = False,
    on_part: Callable[[str], None] | None = None,
) -> Claims:
    """Judge the sentence: measure, set beside what is published, and answer five questions.

    Products are measured on recorded weights and activations of a real model, and on generated ones beside
    them; the training is a recorded one. The same figures come out whatever extras are installed.

    Parameters
    ----------
    device : str or Device
        Whose roofline times are modelled on. Published times are of the H800.
    seed : int
        The first of the five seeds of everything generated.
    train : bool
        Whether to train anew, for about ten minutes with PyTorch, instead of taking the recorded training.
    on_part : callable, optional
        Called with the name of each part before it is measured; for progress bars.

    Returns
    -------
    Claims
        Bottom line, answers, and one row per figure.

    Raises
    ------
    ValueError
        If the device is unknown or the seed negative.
    ImportError
        If `train` is asked for without PyTorch.

    Examples
    --------
    >>> import fp8sim
    >>> result = fp8sim.claims()
    >>> result["operations"].verdict
    'does not hold'
    >>> print(result.answers["Operations halved?"])
    No: they stay the same (1.00), most on half the bits.
    """
    target = get_device(device)
    seed = checks.seed(seed)
    seeds, real = tuple(range(seed, seed + SEEDS)), real_matrices()
    say = on_part or (lambda part: None)
    say("training" if train else "record of a training")
    setting = Setting(target, seeds, real, *((_trained(seed),) if train else recorded_training()))
    rows: list[Claim] = []
    for name, measure in _PARTS.items():
        say(name)
        rows.extend(measure(setting))
    say("errors of formats")
    rounding = (
        *rounding_errors(real, "activations of real layers"),
        *rounding_errors([llm_like_matrices(128, 512, 7168, seed=seed)], "generated LLM-like activations"),
    )
    by_name = {row.name: row for row in rows}
    return Claims(
        sentence=CLAIM,
        bottom_line=tuple(bottom_line(by_name)),
        answers=answers(by_name),
        rows=tuple(rows),
        rounding=rounding,
        device=target.title,
        seed=seed,
        data=(*(matrices.source for matrices in real), "LLM-like matrices, generated"),
        environment=versions(),
    )


def count_parts() -> int:
    """Return how often `claims` calls `on_part`.

    Examples
    --------
    >>> count_parts() > 3
    True
    """
    return len(_PARTS) + 2


def _trained(seed: int) -> Training:
    """Train as the recorded training was, from other seeds."""
    return train(DEFAULT_RECIPES, seeds=[seed, seed + 1])


def _figures(question: str, rows: Sequence[tuple[int, Claim]]) -> Table:
    columns: dict[str, Callable[[tuple[int, Claim]], str]] = {
        "#>": lambda pair: str(pair[0]),
        "figure": lambda pair: pair[1].what,
        "ours>": lambda pair: pair[1].figure(pair[1].measured),
        "published>": lambda pair: pair[1].figure(pair[1].published) + "*" * (not pair[1].comparable),
        "ratio>": lambda pair: "-" if pair[1].agreement is None else f"{pair[1].agreement:.3f}",
        "phrase": lambda pair: pair[1].verdict,
    }
    apart = ["*: of something else, and so without a ratio"] * any(not row.comparable for _, row in rows)
    notes = (*(_spread(n, row) for n, row in rows if row.range), *apart)
    return Table.of(question, columns, rows, notes)


def _spread(number: int, row: Claim) -> str:
    low, high = row.range or (0.0, 0.0)
    return f"{number}: {row.figure(low)} to {row.figure(high)} over {SEEDS} seeds"
