"""Ten questions for a show of hands, and an exit ticket: data, of which pages and slides are made.

Figures are the library's, worked out here and not typed in.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import fp8sim
from fp8sim.reference.codes import positive_values

__all__ = ["EXIT_TICKET", "QUESTIONS", "Question", "Shown", "Task", "all_answers"]


class Shown(str):
    """HTML that a notebook shows as it is."""

    def _repr_html_(self) -> str:
        return str(self)


class Question(NamedTuple):
    """A question with four answers, of which one holds."""

    ask: str
    answers: dict[str, str]  #: what one can say -> why it tempts; of the one that holds: why it does
    holds: str
    teaches: str  #: the goal it belongs to

    def shown(self) -> Shown:
        """Return the question and what one can answer."""
        items = "".join(f"<li>{html.escape(answer)}</li>" for answer in self.answers)
        return Shown(f'<p class="ask">{html.escape(self.ask)}</p><ol type="A" class="answers">{items}</ol>')

    def answered(self) -> Shown:
        """Return the answers, marked, each with its reason."""
        rows = "".join(
            f"<tr{' class=holds' if answer == self.holds else ''}><td>{letter}{' ✓' if answer == self.holds else ''}</td>"
            f"<td>{html.escape(answer)}</td><td>{html.escape(why)}</td></tr>"
            for letter, (answer, why) in zip("ABCD", self.answers.items(), strict=True)
        )
        return Shown(
            f'<p class="ask">{html.escape(self.ask)}</p><table class="docutils align-default"><thead><tr><th></th>'
            f"<th>answer</th><th>why it holds, or why it tempts</th></tr></thead><tbody>{rows}</tbody></table>"
        )


class Task(NamedTuple):
    """A task of the exit ticket, with what is right and what is worth half."""

    ask: str
    answer: str
    half: str


def e4m3(x: float, **how: str) -> float:
    return float(fp8sim.round_to(x, "e4m3", **how))


def inside(low: float) -> int:
    """How many values of E4M3 lie in the octave that starts at `low`."""
    values = positive_values(fp8sim.get_format("e4m3"))
    return int(np.count_nonzero((low <= values) & (values < 2 * low)))


def lost_by_sums(k: int) -> float:
    """By which share sums of k positive products come out too small on Hopper's FP8 core."""
    rng = np.random.default_rng(0)
    u, v = (fp8sim.round_to(rng.random(shape), "e4m3") for shape in [(64, k), (k, 64)])
    return float(1 - np.mean(fp8sim.tensor_core_matmul(u, v, "hopper-fp8") / (u @ v)))


MODEL = fp8sim.model_cost("deepseek-v3", seq_len=4096)
SHARE = MODEL.quantized_flops_share
WHOLE = 1 / (1 - SHARE + SHARE / 2)
BEFORE, FP8_ALONE, AFTER = (round(s.total / MODEL.inventory.parameters) for s in MODEL.training_states)
LOST = lost_by_sums(4096)
FINE = float(fp8sim.round_to(0.3, "e3m4"))  # what a fourth bit of mantissa would give

QUESTIONS = (
    Question(
        "How many values has E4M3 from 1/4 up to 1/2, and how many from 64 up to 128?",
        {
            "2 and 512": "Who thinks of even spacing counts the width of the interval.",
            "8 and 16": "Larger numbers, more of them: a step that stays the same in one's mind.",
            f"{inside(0.25)} and {inside(64)}": "Three mantissa bits cut every octave into eight.",
            "64 and 64": "256 codes, shared among four of something.",
        },
        f"{inside(0.25)} and {inside(64)}",
        "round by hand",
    ),
    Question(
        "What does 0.3 become in E4M3, rounded to nearest?",
        {
            f"{e4m3(0.3, rounding='toward-zero')}": "The step below: the bits that do not fit are cut off.",
            f"{e4m3(0.3)}": "9.6 steps of 1/32 are nearest to 10.",
            "0.3": "It prints as 0.3 in every language one knows.",
            f"{FINE}": "The hidden bit counted as one of three more: a step of 1/64.",
        },
        f"{e4m3(0.3)}",
        "round by hand",
    ),
    Question(
        "1.0625 and 1.1875 lie half way between neighbours of E4M3. What do they become?",
        {
            "1.125 and 1.25": "Half is rounded up, as taught at school.",
            "1 and 1.125": "Half is cut off.",
            f"{e4m3(1.0625):g} and {e4m3(1.1875):g}": "To the neighbour whose last bit is 0: once down, once up.",
            "1.125 and 1.125": "To the same neighbour, since it is next to both.",
        },
        f"{e4m3(1.0625):g} and {e4m3(1.1875):g}",
        "round by hand",
    ),
    Question(
        "500 is converted to E4M3 as GPUs do by default. What comes out?",
        {
            "infinity": "As in FP32; E4M3 has none.",
            "512": "The next power of two, as if the format went on.",
            "NaN": "What ml_dtypes and JAX give: beyond the largest value there is only NaN.",
            f"{e4m3(500):g}": "The largest value: GPU conversions saturate.",
        },
        f"{e4m3(500):g}",
        "round by hand",
    ),
    Question(
        "Numbers are well inside the range. One bit more: where does it gain 6 dB?",
        {
            "in the exponent": "It doubles something, so it must be worth the same.",
            "in the mantissa": "Steps half as large, errors half as large: 6.02 dB.",
            "in either": "A bit is a bit.",
            "in neither, only a scale helps": "A scale moves the range, and they are inside it.",
        },
        "in the mantissa",
        "what a bit buys",
    ),
    Question(
        "E4M3 with one scale a tensor becomes E4M3 with one for each 128. The error of ordinary channels ...",
        {
            "stays": "They were in range already, and the step is relative. Fine scales add range.",
            "halves": "Finer must be more accurate, somehow.",
            "falls to a tenth": "What fine scales do for INT8, which has no octaves.",
            "grows": "More scales, more roundings.",
        },
        "stays",
        "who shares a scale",
    ),
    Question(
        "Operands are rounded to E4M3. From k = 256 to k = 4096, the relative error of their product ...",
        {
            "grows 16 times": "16 times as many errors are added up.",
            "grows 4 times": "Errors add up as a root, and the sum is forgotten.",
            "falls to a quarter": "They average out, and the sum grows as k does: right for positive numbers.",
            "stays": "With both signs, errors and sum both grow as the root of k.",
        },
        "stays",
        "errors of a product",
    ),
    Question(
        "4096 products of numbers from 0 to 1, summed on Hopper's FP8 core in one chain. The sum is ...",
        {
            f"{LOST:.0%} too small": "Bits are cut off, always toward zero, and more the larger the sum.",
            "right to 14 bits": "14 bits are kept, but at every step.",
            "off by a little, up or down": "Rounding to nearest would be; cutting off is not.",
            f"{LOST:.0%} too large": "Right size, wrong side.",
        },
        f"{LOST:.0%} too small",
        "errors of a product",
    ),
    Question(
        f"{SHARE:.0%} of the operations become twice as fast. How much faster is the whole?",
        {
            "2 times": "What was bought is what one gets.",
            f"{1 + SHARE:.2f} times": "Share times gain: right for time that is added, not for time saved.",
            f"{WHOLE:.2f} times": f"Of 1, {1 - SHARE:.2f} stay and {SHARE / 2:.2f} are left of the rest: Amdahl.",
            f"{1 / SHARE:.2f} times": "One over the share: as if the rest were gone.",
        },
        f"{WHOLE:.2f} times",
        "take a claim apart",
    ),
    Question(
        f"Training in BF16 keeps {BEFORE} bytes a parameter. FP8 by itself leaves ...",
        {
            f"{BEFORE // 2}": "Half the bits, half the memory.",
            f"{FP8_ALONE}": "The weight that is multiplied is one byte less. Master, gradient and moments stay.",
            f"{AFTER}": "What DeepSeek keeps: four more bytes are saved by moments in BF16.",
            f"{BEFORE - 2}": "Both bytes of the BF16 weight, as if FP8's took none.",
        },
        f"{FP8_ALONE}",
        "take a claim apart",
    ),
)

SMALL = 0.140625
DOT = fp8sim.tensor_core_matmul([[16.0] + [SMALL] * 31], [[16.0]] + [[SMALL]] * 31, "hopper-fp8")
CODE = int(fp8sim.encode(0.7, "e4m3").view(np.uint8))

EXIT_TICKET = (
    Task(
        "Round 0.7 to E4M3. Write its sign, exponent and mantissa bits.",
        f"{e4m3(0.7):g}: {CODE >> 7} {CODE >> 3 & 15:04b} {CODE & 7:03b}",
        "the right neighbours (0.6875 and 0.75), or the right step (1/16)",
    ),
    Task(
        "Round 1.3125 to E4M3, to nearest even.",
        f"{e4m3(1.3125):g}: half way, and its last bit is 0",
        "both neighbours (1.25 and 1.375) and the word tie",
    ),
    Task(
        f"One product is 256, and 31 are {SMALL**2:.4f} each. What does Hopper's FP8 core give, and what became of the rest?",
        f"{float(DOT[0, 0]):g}. Aligned to 256, the last place kept is 1/32; each of the small ones is below it and is "
        f"cut off, {31 * SMALL**2:.2f} in all",
        "256, without a reason; or the reason, with a slip",
    ),
    Task(
        "Did FP8 halve DeepSeek's computing? One sentence, one figure.",
        f"A multiply takes half as long at best, but only {SHARE:.0%} of the operations are in FP8, so a step is at most "
        f"{WHOLE:.2f} times as fast; the number of operations stays",
        "a figure without what it is of; or the parts without a figure",
    ),
)


def all_answers() -> Shown:
    """Return all questions, answered, each under a heading of its own."""
    return Shown(
        "".join(
            f'<section class="question"><h3 id="question-{n}">{n}. ({question.teaches})</h3>{question.answered()}</section>'
            for n, question in enumerate(QUESTIONS, 1)
        )
    )


def ticket(tasks: Sequence[Task] = EXIT_TICKET) -> Shown:
    """Return the exit ticket with what is right, and what is worth half."""
    rows = "".join(
        f"<tr><td>{n}</td>{''.join(f'<td>{html.escape(text)}</td>' for text in task)}</tr>"
        for n, task in enumerate(tasks, 1)
    )
    head = "<th></th><th>task</th><th>right: 2 points</th><th>half: 1 point</th>"
    return Shown(
        f'<table class="docutils align-default"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )
