"""The bottom line and the five answers: sentences that the figures of the rows make, by their rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fp8sim._support.quantities import percent_text
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
    left, product, training = _left(rows), rows["product"], rows["training"]
    state, cache = (change(left[name], one=True) for name in ("training state", "KV cache"))
    return [
        f"Memory: weights {change(left['weights'])}; what training keeps of a parameter {state} by FP8 "
        f"alone, a chat's cache {cache}.",
        f"Computing: operations {change(left['operations'])}; a training step takes "
        f"{left['training step']:.2f} of BF16's time at a GPU's best{_others(left)}.",
        f"Accuracy: a multiply is off by {percent_text(product.measured or 0.0)}, {left['product']:.0f} "
        f"times as much as in BF16; the training loss of a small model {_loss(training)}.",
    ]


def answers(rows: Mapping[str, Claim]) -> dict[str, str]:
    """Return an answer to each question, in a layman's words."""
    left, training = _left(rows), rows["training"]
    words: dict[Question, str] = {
        "format": f"the baseline was BF16, not FP16: {_bits(rows['16 bits'])}, but a multiply is off "
        f"{left['precision of 16 bits']:.1f} times as much in BF16. And {percent_text(left['share in FP8'])} "
        "of the operations went to FP8.",
        "bytes": f"weights {change(left['weights'])}; in training, activations "
        f"{change(left['activations'])}, weights with gradients and moments by FP8 alone "
        f"{change(left['training state'])}; a chat's cache {change(left['KV cache'], one=True)}.",
        "operations": f"they {change(left['operations'])}, most on half the bits.",
        "time": f"a multiply takes {left['products at 4096 tokens']:.2f} of BF16's time at a GPU's best"
        f"{_measured(left)}; a training step {left['training step']:.2f}, a token served "
        f"{left['token for 1']:.2f} to {left['token for 1024']:.2f} at best.",
        "accuracy": f"a multiply is off {left['product']:.0f} times as much as in BF16, yet the training "
        f"loss of a small model {_loss(training)}: too small to show more. DeepSeek reports less "
        f"than {percent_text(training.published or 0.0)} of 16 B and 230 B models.",
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


def _others(left: Mapping[str, float]) -> str:
    if "measured step" not in left:
        return ""
    step, layer = left["measured step"], left["MoE layer"]
    return f"; others measured {step:.2f} (another model), {layer:.2f} (V3 layer)"


def _measured(left: Mapping[str, float]) -> str:
    if "GEMM with quantising" not in left:
        return ""
    measured = sorted((left["GEMM quantised before"], left["GEMM with quantising"]))
    return ", {:.2f} to {:.2f} as others measured".format(*measured)


def _bits(row: Claim) -> str:
    return "as many bits" if row.looked_at == 1 else f"{row.looked_at:.2f} times the bits"


def _loss(training: Claim) -> str:
    error = training.measured
    if error is None or math.isnan(error):
        return "diverges"
    kept = training.verdict != _FAILS
    away = f"{'stays within' if kept else 'strays by'} {percent_text(error)} {'of' if kept else 'from'}"
    return f"{away} BF16's (smoothed, second half)"
