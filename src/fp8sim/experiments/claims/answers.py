"""The bottom line and the five answers: sentences that the figures of the rows make, by their rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fp8sim._support.quantities import percent_text, signed_percent_text
from fp8sim.experiments.claims.row import QUESTIONS, Claim, Question
from fp8sim.experiments.claims.rules import HALVED, VERDICTS, Verdict

__all__ = ["answers", "bottom_line", "change", "overall"]

_HOLDS, _PARTLY, _FAILS, _UNKNOWN = VERDICTS
_OPENINGS: dict[Verdict, str] = {_HOLDS: "Yes", _PARTLY: "In part", _FAILS: "No", _UNKNOWN: "Not measured"}


def change(ratio: float, *, one: bool = False) -> str:
    """Say what became of something, by the ratio of after to before.

    Examples
    --------
    >>> [change(ratio) for ratio in (0.5016, 0.7224, 1.0, 1.3)]
    ['halve (0.50)', 'fall to 0.72', 'stay the same (1.00)', 'grow to 1.30']
    >>> change(0.7224, one=True)
    'falls to 0.72'
    """
    s = "s" if one else ""
    if HALVED(ratio) == _HOLDS:
        return f"halve{s} ({ratio:.2f})"
    if abs(ratio - 1) < 0.005:
        return f"stay{s} the same (1.00)"
    return f"{'fall' if ratio < 1 else 'grow'}{s} to {ratio:.2f}"


def overall(rows: Iterable[Claim]) -> Verdict:
    """Judge a question by its rows: all of them, none, or some.

    Rows that were not measured have no say.
    """
    verdicts = {row.verdict for row in rows} - {_UNKNOWN}
    if not verdicts:
        return _UNKNOWN
    return verdicts.pop() if len(verdicts) == 1 else _PARTLY


def bottom_line(rows: Mapping[str, Claim]) -> list[str]:
    """Return what it comes to, in three sentences."""
    left, training = _left(rows), rows["training"]
    became = {name: change(ratio) for name, ratio in left.items()}
    within = "not within" if training.verdict == _FAILS else "within"
    return [
        f"Bytes of weights {became['weights']}; those of the training state {became['training state']}, "
        f"those of the KV cache {became['KV cache']}.",
        f"Operations {became['operations']}; the time of a training step "
        f"{change(left['training step'], one=True)} by our model, to {left['measured step']:.2f} at best in "
        "published measurements.",
        f"A product errs {left['product']:.0f} times as much as in BF16; a small model trained so ends "
        f"{within} {_percent(training.published)} of BF16's loss ({_percent(training.measured)}), as "
        "DeepSeek reports of large ones.",
    ]


def answers(rows: Mapping[str, Claim]) -> dict[str, str]:
    """Return an answer to each question, in a layman's words."""
    left, product, training = _left(rows), rows["product"], rows["training"]
    became = {name: change(ratio, one=True) for name, ratio in left.items()}
    words: dict[Question, str] = {
        "format": f"from BF16, not FP16: {_bits(rows['16 bits'])}, but its products err "
        f"{left['precision of 16 bits']:.1f} times as much; and {percent_text(left['share in FP8'])} of the "
        "operations went to FP8.",
        "bytes": f"weights {change(left['weights'])}, activations {change(left['activations'])}; what "
        f"training keeps {became['training state']}, and a chat's memory {became['KV cache']}.",
        "operations": f"they {change(left['operations'])}, only on smaller numbers.",
        "time": f"a multiply {became['product in training']} at the GPU's peaks and "
        f"{became['GEMM with quantising']} as measured; by our model a training step "
        f"{became['training step']}, a written word {became['token served']}.",
        "accuracy": f"a multiply errs {left['product']:.0f} times as much as in BF16 "
        f"({percent_text(product.measured or 0.0)}), yet training a small model so moves its loss by at most "
        f"{_percent(training.measured)}. DeepSeek tested 16 B and 230 B models, not V3 itself.",
    }
    by_question: dict[Question, list[Claim]] = {question: [] for question in QUESTIONS}
    for row in rows.values():
        by_question[row.question].append(row)
    return {
        QUESTIONS[question]: f"{_OPENINGS[overall(by_question[question])]}: {text}"
        for question, text in words.items()
    }


def _left(rows: Mapping[str, Claim]) -> dict[str, float]:
    return {name: row.looked_at or 0.0 for name, row in rows.items()}


def _bits(row: Claim) -> str:
    return "as many bits" if row.looked_at == 1 else f"{row.looked_at:.2f} times the bits"


def _percent(share: float | None) -> str:
    if share is None or math.isnan(share):
        return "-" if share is None else "it diverged"
    return signed_percent_text(share).lstrip("+")
