"""Write what `fp8sim.course.check` knows: `python docs/write_exercises.py`.

The exercises below are the teacher's source, right answers and planted wrong ones in clear; the package gets
salted digests of them. tests/test_course.py works every value out anew, by other means.
"""

from __future__ import annotations

import json
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fp8sim
from fp8sim.course.checking import digest, key_of, veiled
from fp8sim.course.values import readings

FILE = Path(fp8sim.__file__).parent / "course" / "exercises.json"
FORMS = {
    "number": "Numbers are asked for, such as 0.25, '1/4' or '2**-2'.",
    "code": "A code is asked for, such as 56, '0x38' or '0b00111000'.",
    "choice": "A letter is asked for, such as 'a'.",
    "text": "",
}


@dataclass(frozen=True)
class Exercise:
    """An exercise: its right answers, and hint after hint of wrong ones."""

    kind: str
    right: Any = None  #: of several values a list
    wrong: list[tuple[Any, str]] = field(default_factory=list)  #: answer, what to say to it
    hint: str = ""  #: to any other answer
    digits: int | None = None  #: decimals to which an answer is rounded before it is compared
    told: str = ""  #: to a right answer; to one in words, what counts


EXERCISES: dict[str, Exercise] = {
    # --- lesson 0 ---------------------------------------------------------------------------------
    "0.1": Exercise(
        "number",
        1.375,
        [
            (
                1011,
                "That reads the digits as a whole number. Behind the point they count halves, quarters and eighths.",
            ),
            (
                1.011,
                "That is the decimal number. In binary the digits behind the point count 1/2, 1/4 and 1/8.",
            ),
            (0.375, "The digit before the point counts too: it is a one."),
            (11, "Where is the point? The last three digits stand behind it, so they count less than one."),
            (1.75, "Look at the order: the first digit behind the point counts 1/2, and here it is 0."),
        ],
        "Write the value of each place above its digit: 1 . 1/2 1/4 1/8. Add those that have a one.",
    ),
    "0.2": Exercise(
        "number",
        0.8125,
        [
            (0.3125, "The hidden bit is missing: the fraction is 1.101, of which only the 101 is stored."),
            (104, "The bias is missing: the field holds the exponent plus 7."),
            (3.25, "The exponent has the wrong sign: it is the field less the bias."),
            (0.40625, "You used a bias of 8. E4M3 of this course has 7."),
            (-0.8125, "The first bit is the sign, and 0 is plus."),
        ],
        "Sign 0, exponent field 0110, fraction 101: the number is 1.101 in binary, times 2 to the field less 7.",
    ),
    "0.3": Exercise(
        "number",
        [1.25, 1.5],
        [
            (
                [1.375, 1.5],
                "You took ties away from zero. Nearest-even takes the neighbour whose last bit is 0.",
            ),
            ([1.25, 1.375], "You cut off. Both numbers are ties, and one of them goes up."),
            (
                [1.375, 1.375],
                "You took the neighbour whose last bit is 1, both times. Even means that it is 0.",
            ),
            (
                [1.3125, 1.4375],
                "Those are the numbers themselves: E4M3 has three bits behind the point, and they need four.",
            ),
            ([1.375, 1.625], "You always went up. And the neighbours are one eighth apart."),
        ],
        "Write both neighbours in binary, with three digits behind the point. Which of them ends in 0?",
    ),
    "0.4": Exercise(
        "number",
        2**-9,
        [
            (1.125 * 2**-7, "The field is 0: there is no hidden bit, and the exponent is that of field 1."),
            (
                1.125 * 2**-6,
                "The hidden bit is missing on purpose: in a subnormal the number starts with 0, not 1.",
            ),
            (
                2**-10,
                "The fraction is right. But the exponent of field 0 is that of field 1, so that no gap is left.",
            ),
            (2**-6, "That is the smallest number with a hidden bit. Below it there are seven more."),
            (0, "Only the fraction 000 is zero. This code ends in 1."),
        ],
        "Field 0 means 0.fraction times 2 to the smallest exponent, which is that of field 1.",
    ),
    "0.5": Exercise(
        "number",
        40,
        [
            (20, "That counts power. An error is an amplitude: 20 times the logarithm."),
            (-40, "The error falls, so the ratio of signal to error grows."),
            (2, "That is the logarithm itself. A decibel is a twentieth of it."),
            (12.04, "That is for two halvings. A hundred times is more."),
        ],
        "dB are 20 times the decimal logarithm of signal over error. What is the logarithm of 100?",
        digits=0,
    ),
    # --- lesson 1 ---------------------------------------------------------------------------------
    "1.1": Exercise(
        "number",
        57344,
        [
            (114688, "Field 31 is taken: E5M2 keeps it for infinity and NaN, as IEEE formats do."),
            (24576, "The hidden bit is missing: 1.11, not 0.11."),
            (32768, "That is the power of two of the top octave. Which fraction may stand before it?"),
            (448, "That is E4M3's."),
            (61440, "E5M2 has two bits behind the point, not three."),
            (28672, "The exponent is one too small: field 30 less bias 15."),
        ],
        "Largest field 30, fraction 11: the exponent is 30 less 15, and 1.11 in binary stands before it.",
    ),
    "1.2": Exercise(
        "number",
        [1 + i / 8 for i in range(8)] + [2 + i / 4 for i in range(8)] + [4],
        [
            (
                [1 + i / 8 for i in range(25)],
                "The strokes are an eighth apart up to 2 only. From 2 on steps are twice as large.",
            ),
            (
                [1 + i / 4 for i in range(4)] + [2 + i / 2 for i in range(4)] + [4],
                "That is E5M2: it has two bits behind the point. E4M3 has three.",
            ),
            (
                [1 + i / 8 for i in range(8)] + [2 + i / 4 for i in range(8)],
                "Right, but for the last one: 4 itself was asked for too.",
            ),
            (
                [1 + i / 4 for i in range(13)],
                "The strokes are a quarter apart from 2 on only. From 1 to 2 there are eight of them.",
            ),
        ],
        "An octave has eight values, evenly spaced. From 1 to 2 they are 1/8 apart; and from 2 to 4?",
    ),
    "1.3": Exercise(
        "code",
        0xB2,
        [
            (0x32, "The sign is missing: the number is negative, so the first bit is 1."),
            (0xB1, "You cut off. 0.6 lies 9.6 steps of 1/16 from zero: nearer to 10 steps than to 9."),
            (0xB5, "The hidden bit is stored nowhere: of 1.010 only the 010."),
            (0xBA, "The exponent is one too large. Did you take bias 8?"),
            (0xB9, "That is the code of E5M2: five exponent bits, two fraction bits."),
            (
                0xCE,
                "That is a negative integer's code. Floating point has a sign bit and leaves the rest as it is.",
            ),
            (0x8A, "The bias is missing somewhere: the field is -1 plus 7."),
        ],
        "First round 0.6: how many steps of 1/16? Then sign, field -1 + 7, and the three digits behind the point.",
    ),
    "1.4": Exercise(
        "number",
        254,
        [
            (256, "Two of E4M3's codes are no numbers."),
            (253, "You counted zero once. It has two codes, in FP16 as in E4M3."),
            (126, "You counted the positive numbers only."),
            (127, "You counted one sign only."),
            (252, "You left out zero: both of its codes count."),
            (248, "That is E5M2: six of its codes are NaN and two are infinity."),
            (65536, "FP16 has many numbers between those of E4M3."),
        ],
        "Does FP16 hold every number of E4M3? Compare exponents and fraction bits. Then count E4M3's.",
    ),
    "1.5": Exercise(
        "number",
        [0.75, 0.6875],
        [
            (
                [0.7265625, 0.6875],
                "The first is the exact sum of the two rounded numbers. E4M3 has to round it once more.",
            ),
            ([0.7, 0.7], "Nothing is rounded in that."),
            (
                [0.6875, 0.6875],
                "They are not the same: round 0.1, round 0.6, add, and round the sum to the nearest.",
            ),
            ([0.75, 0.75], "They are not the same: how many steps of 1/16 is 0.7 from zero?"),
            ([0.65625, 0.6875], "You cut 0.1 and 0.6 off instead of rounding them. Both go up."),
            ([0.625, 0.6875], "You cut off all the way. Each of the three roundings goes to the nearest."),
            ([0.6875, 0.75], "The other way round: first the sum, then what becomes of 0.7."),
        ],
        "Round 0.1, round 0.6, add, round. Steps around 0.1 are 1/128, from 0.5 to 1 they are 1/16.",
        told="Three small errors, all upward, made a large one.",
    ),
    "1.6": Exercise(
        "number",
        [1.125, 1],
        [
            (
                [1.125, 1.125],
                "The second way rounds twice. What does FP16 make of the last bit, and what does E4M3 do then?",
            ),
            ([1, 1], "It is more than half way, by a little. Seen directly, which neighbour is nearer?"),
            ([1, 1.125], "The other way round: which of the two ways sees the small bit?"),
            ([1.0625, 1.0625], "E4M3 has no 1.0625: that needs a fourth digit behind the point."),
            (
                [1.125, 1.0625],
                "The first is right. The second is what FP16 gives; it still has to go to E4M3.",
            ),
        ],
        "FP16 has 10 bits behind the point. Is 2^-20 among them? What is left then is a tie.",
    ),
    "1.7": Exercise(
        "number",
        [448, 448, "nan"],
        [
            (
                [448, 448, 448],
                "The last one is under `ieee`: beyond the largest there is infinity, or where a format has none, NaN.",
            ),
            ([448, 448, "inf"], "E4M3 has no infinity. What has it instead?"),
            ([448, "nan", "nan"], "Under `saturate` what is too large becomes the largest, not NaN."),
            ([448, 480, "nan"], "480 is no value of E4M3: the code is NaN."),
            ([464, 465, "nan"], "Those are no values of E4M3."),
            ([480, 480, "nan"], "480 is no value of E4M3: that code is NaN. What is the largest one?"),
            (
                ["nan", "nan", "nan"],
                "Overflow is decided after rounding: 464 is a tie between 448 and what would be 480.",
            ),
        ],
        "Round first: 464 is half way between 448 and what would be 480. Then see what the policy does with what is beyond 448.",
    ),
    "1.8": Exercise(
        "number",
        0.0625,
        [
            (
                16,
                "That is what you divide by it: x ~ codes x scale, so the scale is small where numbers are small.",
            ),
            (28 / 480, "480 is no value of E4M3: the largest is 448."),
            (28, "That is the largest number. Which number must it become?"),
            (28 / 57344, "That is E5M2's largest."),
            (28 / 256, "The largest value is not the largest power of two."),
        ],
        "28 must become the largest value of E4M3, and x ~ codes x scale.",
    ),
    "1.9": Exercise(
        "choice",
        "b",
        [
            ("a", "One scale serves the largest token. What becomes of one that is 2^20 times smaller?"),
            ("c", "That works, but it costs more bytes than needed: within a token nothing needs it."),
            ("d", "E5M2 has the range, but every number loses a bit, 6 dB. There is a way without that."),
        ],
        "What differs by 2^20, and who must not share a scale then? Then take the cheapest.",
    ),
    "1.10": Exercise(
        "text",
        told="1. The scale maps 1000 to the end of the format, in both.\n"
        "2. In INT8 a step is then 1000/127, about 8: nearly all of the others become zero. Measured: 0.0 dB.\n"
        "3. In E4M3 they lie around 0.45, in the middle of its octaves, where steps are as fine, relative to the "
        "number, as anywhere: they lose what they would have lost anyway. Measured: 31.5 dB.",
    ),
    # --- lesson 2 ---------------------------------------------------------------------------------
    "2.1": Exercise(
        "number",
        [2**-7, 1.75],
        [
            (
                [2**-8, 1.75],
                "The first is the `floor` rule. `ceil` is the smallest power of two under which nothing saturates: 448 times it must reach 1.9.",
            ),
            ([2**7, 1.75], "The scale is inverted: x ~ codes x scale."),
            ([1.9 / 448, 1.75], "That is the FP32 scale. E8M0 has powers of two only."),
            ([2**-7, 1.875], "1.9 x 2^8 is 486, and E4M3 ends at 448: it saturates."),
            ([2**-7, "nan"], "quantize saturates: what is too large becomes 448."),
            ([2**-7, 1.9], "Under `floor` the scale is 2^-8, and 1.9 x 2^8 is no value of E4M3."),
            ([2**-8, 1.875], "`ceil` must not saturate. And under `floor` 486 does: E4M3 ends at 448."),
        ],
        "1.9 / 448 lies between 2^-8 and 2^-7. Under `floor` the scale is 2^(0 - 8): what becomes of 1.9 x 2^8?",
    ),
    "2.2": Exercise(
        "number",
        [1, 1 + 31 * 2**-13],
        [
            (
                [1 + 31 * 2**-14, 1 + 31 * 2**-13],
                "That is the exact sum. The core keeps 13 bits behind the point of the largest, and cuts off the rest.",
            ),
            ([1, 1], "The second ones just fit: 2^-13 is the last place that is kept."),
            ([1 + 31 * 2**-13, 1 + 31 * 2**-13], "You rounded 2^-14 up. The core cuts off, toward zero."),
            ([1 + 31 * 2**-14, 1], "The other way round: the smaller ones are lost."),
            ([1, 1 + 32 * 2**-13], "There are 31 small products, and the large one."),
        ],
        "The largest product has exponent 0, so the last place kept is 2^-13. Which products have a bit there?",
    ),
    "2.3": Exercise(
        "choice",
        "a",
        [
            (
                "b",
                "In exact arithmetic, never. On the core the cut depends on how large the sum is when a product meets it.",
            ),
            ("c", "Try it: `np.mean(forward != backward)`."),
            ("d", "Exact sums do not depend on the order; this has nothing exact about it."),
        ],
        "What is cut off depends on the running sum that the product meets. Does an exact sum have one?",
    ),
    "2.4": Exercise(
        "choice",
        "c",
        [
            (
                "a",
                "For positive numbers, yes. For both signs something else cuts, at every step: which place does the sum go back to?",
            ),
            ("b", "Something does fall: measure `u` and `v` once more."),
            ("d", "Measure it: what falls is what alignment lost, and one bit more halves it."),
        ],
        "Run both and divide. Then ask where the second cut is: what does the register between steps keep?",
        told="What alignment cuts off halves. But the register between steps still keeps 13 fraction bits, so the "
        "bit that was saved is cut off when the sum is written back, at every step. For positive numbers that is "
        "one cut where there were 32; for both signs it is the larger one.",
    ),
    "2.5": Exercise(
        "number",
        [34, 62],
        [
            (
                [35, 63],
                "One too many. The core aligns to the sum of the exponents, 8 + 8 for E4M3's largest: 448 x 448 has "
                "two digits before that point, and fraction bits are those behind it.",
            ),
            ([17, 31], "That is for single numbers. A product has twice the exponents."),
            ([33, 61], "One too few: then the smallest product is half of the last place, and is cut off."),
            (
                [28, 58],
                "You took the smallest numbers with a hidden bit. Subnormals count too, and are smaller.",
            ),
            ([16, 30], "That is where the largest product is. How far below it is the smallest?"),
            (
                [34, 34],
                "The first is right. E5M2 has other exponents: take its largest and its smallest number.",
            ),
        ],
        "Exponent of largest times largest, less that of smallest times smallest.",
    ),
    "2.6": Exercise(
        "number",
        [256, 256.5],
        [
            (
                [256.5, 256.5],
                "That is exact both times. Without promotion the second step meets a sum of 256: where is its last place?",
            ),
            (
                [256, 256],
                "With promotion the second step starts from zero, so its products are only beside each other.",
            ),
            ([256.5, 256], "The other way round: promotion is what saves the small ones."),
            ([256, 0.5], "Promotion adds the sums of the chains; none is thrown away."),
            ([8.5, 256.5], "There are 32 products of 8."),
        ],
        "256 = 2^8, and 13 bits below it is 2^-5. A product of 2^-6 beside 256 is cut off; beside others of its size it is not.",
    ),
    "2.7": Exercise(
        "choice",
        "d",
        [
            (
                "a",
                "The FP32 register would hold it. But the bits are cut before, when products are aligned; and what is the larger error?",
            ),
            (
                "b",
                "The error of operands would fall, but then it is no FP8. And what comes with always the same sign?",
            ),
            ("c", "Finer scales add range. Look at the ordinary channels in the table."),
        ],
        "Which error has the same sign every time, and grows with k? And which of the four removes it without new silicon?",
    ),
    "2.8": Exercise(
        "text",
        told="1. Two kinds of error: noise goes either way and averages out; bias has one sign and adds up.\n"
        "2. Rounding operands to nearest is noise: it stays the same share, or falls, however long the sum.\n"
        "3. Cutting off in the sums is bias: toward zero each time, growing with k, up to 7 % where products have "
        "one sign.\n"
        "4. Promotion removes it without new hardware, while better operands would need more bits, which is what "
        "FP8 was to save.",
    ),
    # --- lesson 3 ---------------------------------------------------------------------------------
    "3.1": Exercise(
        "number",
        [363, 442],
        [
            (
                [442, 363],
                "The other way round. FP8 multiplies twice as fast, so it takes more multiplies to hide the bytes.",
            ),
            ([363, 363], "FP8 halves the time to multiply, but not all bytes: the output stays BF16."),
            ([442, 442], "BF16 multiplies half as fast: it needs fewer tokens."),
            ([362, 441], "That is the last m that memory binds. Asked is the first that compute binds."),
        ],
        "Go up in m until gemm_cost(m, 7168, 2048, recipe).bound is 'compute'.",
        told="FP8 halves the time to multiply, but the output is BF16 in both: the bytes do not quite halve, so it "
        "takes more multiplies to hide them.",
    ),
    "3.2": Exercise(
        "number",
        1.59,
        [
            (1.74, "That is with a ratio of 2. Measured is 1.765."),
            (1.765, "That is the ratio of the multiplies. Not all flops are in FP8."),
            (0.63, "That is the time that is left. Asked is how many times as fast."),
            (1.65, "You took the gain of 0.765 times the share. Times add, speeds do not."),
        ],
        "Time left: what stays BF16, and the share of FP8 over 1.765. The speed-up is one over it.",
        digits=2,
    ),
    "3.3": Exercise(
        "number",
        1.99,
        [
            (1.1, "That is without attention: at 128K it is most of the flops."),
            (1.69, "That is attention alone. The FP8 layers stay twice as fast too."),
            (2, "Nearly: output head and router stay as they are. Give two decimals."),
            (0.5, "That is the time that is left. Asked is how many times as fast."),
            (1.81, "That is against DeepSeek's recipe of today. Asked is: against all in BF16."),
        ],
        "Which share becomes twice as fast: FP8 layers and attention together? Then Amdahl's law.",
        digits=2,
    ),
    "3.4": Exercise(
        "number",
        1,
        [
            (5, "Five are saved, but moments in BF16 need no FP8."),
            (4, "Those four are the moments, in BF16: FP8 has nothing to do with them."),
            (13, "That is what is left. Asked is which part of what is saved is FP8's."),
            (0, "The weights themselves go from two bytes to one."),
        ],
        "Go through 2 + 4 + 4 + 4 + 4 and 1 + 4 + 4 + 2 + 2, term by term. Which term is an FP8 number?",
    ),
    "3.5": Exercise(
        "number",
        0.57,
        [
            (0.5, "Embedding and head stay at two bytes, and in this model they are large."),
            (0.53, "There are two such matrices, embedding and head."),
            (0.13, "That is their share. What is left of all bytes?"),
            (0.63, "What stays is their whole, not half more: 0.13 at two bytes, 0.87 at one."),
            (0.43, "That is what is saved. Asked is what is left."),
        ],
        "A share s of the bytes stays, the rest is halved: s + (1 - s) / 2. s is 2 x 128,256 x 4096 over all parameters.",
        digits=2,
        told="It is more than for DeepSeek-V3, because embedding and head are 13 % of this model and 0.3 % of that.",
    ),
    "3.6": Exercise(
        "text",
        told="1. It says from BF16, or leaves FP16 out.\n"
        "2. It says what halved: bytes of the weights, peak time of their multiplies.\n"
        "3. It does not say that operations or the whole time halved.\n"
        "4. It says whose claim the accuracy is, and of what: the report's, of two smaller models, within 0.25 %.",
    ),
}


def record(name: str, exercise: Exercise, salt: str) -> dict[str, Any]:
    """Return what the package keeps of an exercise."""
    asked: dict[str, Any] = {
        "kind": exercise.kind,
        "form": FORMS[exercise.kind],
        "digits": exercise.digits,
        "salt": salt,
        "hint": exercise.hint,
        "count": 0,
        "right": [],
        "hints": {},
        "told": "",
    }
    values = readings(exercise.right, exercise.kind)[0] if exercise.kind != "text" else []
    if exercise.told:
        asked["told"] = veiled(exercise.told.encode(), key_of(name, asked, values)).hex()
    if exercise.kind != "text":
        asked["count"] = len(values)
        asked["right"] = [digest(name, asked, values)]
        for answer, hint in exercise.wrong:
            asked["hints"][digest(name, asked, readings(answer, exercise.kind)[0])] = hint
    return asked


def main() -> int:
    """Write the file; an exercise that is there keeps its salt."""
    old = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    salts = {name: old.get(name, {}).get("salt") or secrets.token_hex(8) for name in EXERCISES}
    data = {name: record(name, exercise, salts[name]) for name, exercise in EXERCISES.items()}
    FILE.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
