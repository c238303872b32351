"""The anatomy: every bit it shows is the codec's or the tensor core's, and what it says is so."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from bisect import bisect_left, bisect_right
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import fp8sim
import strategies
from fp8sim import FORMATS, FloatFormat
from fp8sim.anatomy import ValueAnatomy, explain, explain_block, explain_dot
from fp8sim.reference.fused_step import Factors, fused_step
from fp8sim.tensor_cores import LAWS, TENSOR_CORES, tensor_core_matmul
from oracle import LAYOUTS, MODES, around, decode, exact_product, grid, round_one

NARROW = [name for name, layout in LAYOUTS.items() if layout.bits <= 8]
FLUSHING = dataclasses.replace(FORMATS["e4m3"], name="e4m3-ftz", subnormals=False)
PLAIN_CORES = [
    name for name, core in TENSOR_CORES.items() if core.law == "truncated" and not core.scale_format
]
OTHER_CORES = [name for name, core in TENSOR_CORES.items() if core.law != "truncated"]
SCALED_CORES = [name for name, core in TENSOR_CORES.items() if core.scale_format]
SCRIPT = "<script>alert('x')</script>"


@cache
def finite_values(name: str) -> list[float]:
    """Return the finite values of a format, sorted, zero once."""
    layout = LAYOUTS[name]
    values = {decode(code, layout) for code in range(2**layout.bits)}
    return sorted(v for v in values if math.isfinite(v))


def code_bits(x: float, fmt: str, **options: object) -> int:
    """Return what `encode` gives, as an integer."""
    return int(fp8sim.encode(np.float64(x), fmt, **options).reshape(1).view(FORMATS[fmt].code_dtype)[0])


def widest(told: object) -> int:
    return max(map(len, str(told).splitlines()))


# A value


def test_a_third_of_a_page_tells_why_three_tenths_became_five_sixteenths() -> None:
    expected = """
0.3 in e4m3: 1 sign, 4 exponent (bias 7) and 3 mantissa bits

  becomes   0.3125 = +1.010 x 2^-2, code 0x2a

            0 0101 010
            │ │    └──── mantissa 010: 1 + 2/8 = 1.25
            │ └───────── exponent 0101: 5 - 7 = -2
            └─────────── sign 0: +

            0.28125                 0.296875 midpoint          0.3125
            ├───────────────────────────┼─────●─────────────────────┤
                                             0.3

  below     0 0101 001  0.28125            -0.01875
  above  -> 0 0101 010  0.3125              +0.0125

  why       0.3 is 9.6 steps of 2^-5 = 0.03125, and the nearest whole number of
            steps is 10.
  error     +0.0125, +4.17 % of 0.3; 0.4 of a step
"""
    assert str(explain(0.3, "e4m3")) == expected.strip()


@pytest.mark.parametrize("name", [*NARROW, "bf16", "fp16", "e5m6", "tf32", "fp32"])
def test_every_bit_of_a_value_is_what_encode_gives(name: str) -> None:
    layout = LAYOUTS[name]
    low = [1.0, 1.9, FORMATS[name].max * 0.99, FORMATS[name].smallest_normal / 3]
    for x in [*np.outer([1, -1], low).ravel(), 0.3, 1e-5, 464.0, 1e9, np.inf]:
        if math.isnan(round_one(float(x), layout, "nearest-even", "saturate")) and not layout.has_nan:
            continue  # refused, as another test checks
        told = explain(float(x), name)
        assert told.code == int("".join(told.bits), 2) == code_bits(float(x), name)
        fields = (layout.signed, layout.exponent_bits, layout.mantissa_bits)
        assert tuple(map(len, told.bits)) == fields
        if math.isfinite(told.value):
            assert told.value == decode(told.code, layout)


@given(strategies.float64s(), st.sampled_from(NARROW), strategies.roundings, strategies.overflows)
def test_a_value_becomes_what_exact_arithmetic_gives(x: float, name: str, mode: str, overflow: str) -> None:
    expected = round_one(x, LAYOUTS[name], mode, overflow)
    if math.isnan(expected) and not FORMATS[name].has_nan:
        with pytest.raises(ValueError, match=r"has none|neither"):
            explain(x, name, rounding=mode, overflow=overflow)
        return
    told = explain(x, name, rounding=mode, overflow=overflow)
    assert told.value == expected or (math.isnan(told.value) and math.isnan(expected))
    assert (told.fate == "exact") == (expected == x)
    if told.fate in ("rounded", "flushed"):
        assert told.value in [side.value for side in (told.below, told.above) if side is not None]
        assert told.error == float(Fraction(expected) - Fraction(x))
    assert (told.fate == "saturated") == (abs(x) > abs(expected) == FORMATS[name].max and expected != x) or (
        told.fate == "rounded"  # below the midpoint of the largest value and what would follow it
    )
    assert widest(told) <= 80


@pytest.mark.parametrize("name", NARROW)
def test_the_neighbours_are_the_next_values_of_all_codes(name: str) -> None:
    values, fmt = finite_values(name), FORMATS[name]
    positive = np.array([v for v in values if v > 0])
    numbers = around(positive[:-1], positive[1:], fmt.max)
    for x in numbers[np.isfinite(numbers) & (np.abs(numbers) < fmt.max)]:
        if not fmt.signed and x <= 0:
            continue
        place = explain(float(x), name, overflow="saturate").place
        below, above = bisect_left(values, x) - 1, bisect_right(values, x)
        for side, at in ((place.below, below), (place.above, above)):
            if not 0 <= at < len(values):
                assert side is None
                continue
            assert side is not None
            assert side.value == values[at] == decode(side.code or 0, LAYOUTS[name])
            assert side.code == int("".join(side.bits or ""), 2)
        if place.midpoint is not None:
            assert Fraction(place.midpoint) == (Fraction(values[below]) + Fraction(values[above])) / 2
        assert (place.midpoint is None) == (float(x) in values or (not fmt.zero and x < values[0]))


def test_beyond_the_largest_value_the_midpoint_still_decides() -> None:
    told = explain(463.0, "e4m3")
    assert told.above is not None
    assert (told.midpoint, told.above.value, told.above.code) == (464.0, 480.0, None)
    assert (told.value, told.fate) == (448.0, "rounded")
    assert explain(464.0001, "e4m3").fate == "saturated"
    assert explain(480.0, "e4m3").above is None
    assert "none: the largest finite value is 448" in str(explain(480.0, "e4m3"))


@pytest.mark.parametrize(
    ("x", "fmt", "options", "words"),
    [
        (464.0, "e4m3", {}, "14.5 steps of 2^5 = 32, half way: it goes to the even number of steps, 14"),
        (464.0, "e4m3", {"rounding": "nearest-away"}, "half way: it goes away from zero, to 15"),
        (464.0, "e4m3", {"rounding": "nearest-away"}, "That is 480, beyond the largest finite value 448"),
        (1e6, "e4m3", {}, "overflow 'saturate' makes it 448"),
        (1e6, "e4m3", {"overflow": "ieee"}, "overflow 'ieee' makes it NaN, as e4m3 has no infinity"),
        (-1e6, "e5m2", {"overflow": "ieee"}, "overflow 'ieee' makes it infinity"),
        (1e6, "e5m2", {"overflow": "ieee", "rounding": "toward-zero"}, "toward-zero goes no further"),
        (460.0, "e4m3", {"overflow": "ieee", "rounding": "toward-negative"}, "goes toward -infinity, to 14"),
        (-460.0, "e4m3", {"rounding": "toward-negative"}, "to -15, however near the other side is"),
        (-math.inf, "e4m3", {}, "Infinity is beyond the largest finite value 448"),
        (2.0**-10, "e4m3", {}, "half way: it goes to the even number of steps, 0. It is flushed to zero."),
        (-(2.0**-12), "e4m3fnuz", {}, "It is flushed to zero (it has no -0)"),
        (0.3125, "e4m3", {}, "0.3125 is a value of e4m3"),
        (1 + 2.0**-4 + 2.0**-40, "e4m3", {}, "8.500000000007276 steps"),
        (3.0, "e8m0", {}, "1.5 steps of 2^1 = 2, half way: it goes to the even number of steps, 2"),
        (-3.0, "e8m0", {}, "e8m0 is unsigned and has no code for -3"),
        (1e-40, "e8m0", {}, "has no zero and nothing below 2^-127"),
        (math.nan, "e5m2", {}, "NaN stays NaN"),
        (0.0107, FLUSHING, {}, "has no subnormals: 0.0107 rounds to less than the smallest normal number"),
        (0.0155, FLUSHING, {}, "rounds to the smallest normal number 2^-6 = 0.015625, so it is not flushed"),
    ],
)
def test_the_reason_is_told_in_words(
    x: float, fmt: str | FloatFormat, options: dict[str, str], words: str
) -> None:
    assert words in explain(x, fmt, **options).why


@pytest.mark.parametrize(
    ("x", "options", "fate"),
    [
        (1.0, {}, "exact"),
        (-0.0, {}, "exact"),
        (0.3, {}, "rounded"),
        (2.0**-11, {}, "flushed"),
        (500.0, {}, "saturated"),
        (math.inf, {}, "saturated"),
        (500.0, {"overflow": "ieee"}, "overflowed"),
        (math.nan, {}, "nan"),
    ],
)
def test_the_fate_is_one_word(x: float, options: dict[str, str], fate: str) -> None:
    assert explain(x, "e4m3", **options).fate == fate


def test_a_flushed_subnormal_has_zero_and_the_smallest_normal_as_neighbours() -> None:
    told = explain(0.0107, FLUSHING)
    assert told.below is not None
    assert told.above is not None
    assert (told.below.value, told.above.value, told.midpoint) == (0.0, 2.0**-6, None)
    assert (told.value, told.fate) == (0.0, "flushed")


def test_stochastic_rounding_tells_of_the_draw_that_round_to_makes() -> None:
    ups = 0
    for seed in range(40):
        options = {"rounding": "stochastic", "rng": np.random.default_rng(seed)}
        told = explain(0.3, "e4m3", **options)
        assert told.value == float(
            fp8sim.round_to(0.3, "e4m3", rounding="stochastic", rng=np.random.default_rng(seed))
        )
        assert "with a probability of 0.6" in told.why
        assert ("away from zero, to 10" in told.why) == (told.value == 0.3125)
        ups += told.value == 0.3125
    assert 14 <= ups <= 34  # 24 expected, 3.1 the standard deviation
    with pytest.raises(TypeError, match="pass rng"):
        explain(0.3, "e4m3", rounding="stochastic")


def test_a_number_is_taken_in_its_own_precision() -> None:
    assert explain(np.float32(0.1), "fp32").fate == "exact"
    assert explain(0.1, "fp32").fate == "rounded"
    assert explain(np.float16(0.1), "fp16").given == float(np.float16(0.1))


def test_formats_stand_side_by_side() -> None:
    several = explain(0.3, ["e4m3", "e5m2", "fp16"])
    assert [told.fmt.name for told in several.anatomies] == ["e4m3", "e5m2", "fp16"]
    assert str(several).splitlines()[2:6] == [
        "format  bits                     becomes      error   step",
        "e4m3    0 0101 010                0.3125    +4.17 %   2^-5",
        "e5m2    0 01101 01                0.3125    +4.17 %   2^-4",
        "fp16    0 01101 0011001101   0.300048828  +0.0163 %  2^-12",
    ]
    assert several["fp16"].value == float(np.float16(0.3))
    with pytest.raises(ValueError, match="unknown format of this anatomy 'bf16'"):
        several["bf16"]
    assert widest(explain(-0.3, list(FORMATS)[:12])) <= 80


@pytest.mark.parametrize("name", [name for name, fmt in FORMATS.items() if fmt.has_inf])
@pytest.mark.parametrize("x", [math.inf, -math.inf, 1e300, -1e300])
def test_infinity_has_its_own_code(name: str, x: float) -> None:
    told = explain(x, name, overflow="ieee")
    assert (told.value, told.code) == (math.copysign(math.inf, x), code_bits(x, name, overflow="ieee"))
    assert ("0" in told.bits.exponent, "1" in told.bits.mantissa) == (False, False)
    assert explain(x, [name], overflow="ieee")[name].code == told.code


def test_what_is_no_number_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\); explain_block\(\) tells of a block"):
        explain([0.1, 0.2], "e4m3")
    with pytest.raises(ValueError, match="pass at least one"):
        explain(0.3, [])
    with pytest.raises(ValueError, match="did you mean 'e4m3'"):
        explain(0.3, "e4m33")
    with pytest.raises(ValueError, match="unknown rounding"):
        explain(0.3, "e4m3", rounding="up")
    with pytest.raises(ValueError, match="x holds NaN, and e2m1 has none"):
        explain(math.nan, "e2m1")
    with pytest.raises(TypeError, match="real number type"):
        explain(1j, "e4m3")


# What all of them can do


def tellings() -> list[object]:
    product = explain_dot([1.5] * 70, [3.0] * 70, promote_every=32)
    return [explain(0.3), explain(0.3, ["e4m3", "fp16"]), explain_block([1, 2e-9]), product, product.steps[0]]


@pytest.mark.parametrize("told", tellings(), ids=lambda told: type(told).__name__)
def test_a_telling_is_text_colour_html_and_data(told: ValueAnatomy) -> None:
    text = str(told)
    assert text == repr(told)
    assert not any(line != line.rstrip() for line in text.splitlines())
    plain, coloured = io.StringIO(), io.StringIO()
    Console(file=plain, width=80, color_system=None).print(told)
    Console(file=coloured, width=80, color_system="standard", force_terminal=True).print(told)
    assert plain.getvalue().rstrip("\n") == text
    assert "\x1b[32m" in coloured.getvalue()  # green: a mantissa
    assert told._repr_html_().startswith("<pre")
    assert json.loads(json.dumps(told.to_dict())) == told.to_dict()


def test_names_from_outside_are_escaped() -> None:
    fmt = dataclasses.replace(FORMATS["e4m3"], name=SCRIPT)
    core = dataclasses.replace(TENSOR_CORES["hopper-fp8"], name=SCRIPT)
    pages = [
        explain(0.3, fmt),
        explain(0.3, [fmt, fmt]),
        explain_block([0.3], fmt),
        explain_dot([1.0], [1.0], core),
    ]
    for told in pages:
        assert SCRIPT in str(told)
        assert "<script" not in told._repr_html_()
        assert "&lt;script&gt;" in told._repr_html_()
        out = io.StringIO()
        Console(file=out, width=200, color_system=None).print(told)  # nor is it markup
        assert SCRIPT in out.getvalue()


def test_brackets_in_a_name_are_no_markup() -> None:
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(
        explain(0.3, dataclasses.replace(FORMATS["e4m3"], name="[bold]"))
    )
    assert "0.3 in [bold]:" in out.getvalue()


# A block


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "e4m3fnuz"])
@pytest.mark.parametrize(
    ("scale_format", "rule"), [("fp32", "amax"), ("e8m0", "ceil"), ("e8m0", "floor"), ("e8m0", "even")]
)
def test_every_bit_of_a_block_is_what_quantize_and_encode_give(
    name: str, scale_format: str, rule: str, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((3, 40)) * np.exp(rng.normal(0, 4, (3, 40)))
    options = {"scale_format": scale_format, "scale_rule": rule}
    q = fp8sim.quantize(x, name, "1x16", **options)
    codes, restored = q.codes.view(np.uint8), q.dequantize(np.float64)
    saturated = flushed = seen = 0
    for group in np.ndindex(q.scales.shape):
        told = explain_block(x, name, "1x16", group=group, **options)
        assert told.scale == q.scales[group]
        stored = fp8sim.encode(np.float32(told.scale), scale_format).reshape(1)
        assert told.scale_code == int(stored.view(FORMATS[scale_format].code_dtype)[0])
        assert int("".join(told.scale_bits), 2) == told.scale_code
        assert told.amax == max(abs(element.given) for element in told.elements)
        for element in told.elements:
            assert element.given == x[element.where]
            assert element.code == codes[element.where] == int("".join(element.bits), 2)
            assert element.code == code_bits(element.given / told.scale, name)
            assert element.restored == restored[element.where]
        saturated, flushed = saturated + told.saturated, flushed + told.flushed
        seen += len(told.elements)
        assert widest(told) <= 80
    assert (saturated, flushed, seen) == (q.saturated, q.flushed, x.size)
    assert flushed > 0 or name == "e5m2"


def test_the_mx_floor_rule_saturates_and_rounding_up_does_not() -> None:
    block = [1.9, 0.1, 2.0**-18, 0.0]  # 1.9 / 2^-8 is 486.4, and E4M3 overflows above 464
    floor = explain_block(block, "e4m3", scale_format="e8m0", scale_rule="floor")
    assert [element.fate for element in floor.elements] == ["saturated", "rounded", "flushed", "exact"]
    assert (floor.scale, floor.saturated, floor.flushed) == (2.0**-8, 1, 1)
    assert "2^(floor(log2 amax) - 8) = 2^-8" in str(floor)
    assert " saturated" in str(floor).splitlines()[8]
    ceil = explain_block(block, "e4m3", scale_format="e8m0", scale_rule="ceil")
    assert (ceil.scale, ceil.saturated) == (2.0**-7, 0)
    assert "the smallest power of two that is not below amax / 448: 2^-7" in str(ceil)


def test_the_scale_is_told_from_amax() -> None:
    told = explain_block([896.0, -1.0], "e4m3")
    assert (told.amax, told.scale, told.scale_code) == (896.0, 2.0, 0x40000000)
    assert "amax / 448 = 2, rounded to FP32" in str(told)
    assert "amax / scale = 448; e4m3 ends at 448" in str(told)
    floored = explain_block([2e-9, 1e-9], "e4m3", amax_floor=1e-4)
    assert "0.0001 / 448 = 2.23214286e-07" in str(floored)
    assert "as amax is below its floor of 0.0001" in " ".join(str(floored).split())
    assert "1, as every element is zero" in str(explain_block([0.0, 0.0], "e4m3"))
    assert "no scale" in str(explain_block([0.1, 500.0], "e4m3", "none"))


def test_an_nvfp4_scale_stands_under_that_of_the_tensor(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 32)).astype(np.float32)
    q = fp8sim.quantize(x, "e2m1", "1x16", scale_format="e4m3")
    told = explain_block(x, "e2m1", "1x16", scale_format="e4m3", group=(1, 0))
    assert told.scale_code == int(q.scale_codes.view(np.uint8)[1, 0])
    assert told.tensor_scale == float(q.tensor_scale) == pytest.approx(np.abs(x).max() / (6 * 448))
    stored = decode(told.scale_code, LAYOUTS["e4m3"])
    assert told.scale == float(np.float32(stored) * np.float32(told.tensor_scale))
    assert f"is {stored:g}; together" in " ".join(str(told).split())


def test_a_long_block_shows_what_was_lost_and_keeps_the_rest(rng: np.random.Generator) -> None:
    x = rng.standard_normal(128)
    x[77] = 1e-9
    told = explain_block(x, "e4m3")
    rows = [line for line in str(told).splitlines() if line.startswith(" 77  ")]
    assert rows[0].endswith("flushed")
    assert "and 96 more" in str(told)
    assert len(told.elements) == len(told.to_dict()["elements"]) == 128
    assert told.sqnr_db == pytest.approx(fp8sim.metrics.sqnr_db(fp8sim.quantize(x).dequantize(np.float64), x))


def test_a_group_is_asked_for_where_there_are_several() -> None:
    x = np.ones((2, 40))
    with pytest.raises(ValueError, match=r"6 groups of shape \(1, 16\); pass group=\(...\)"):
        explain_block(x, "e4m3", "1x16")
    for group in [(2, 0), (0,), (0, -1)]:
        with pytest.raises(ValueError, match=r"is no index into scales of shape \(2, 3\)"):
            explain_block(x, "e4m3", "1x16", group=group)
    assert len(explain_block(x, "e4m3", "1x16", group=(1, 2)).elements) == 8
    with pytest.raises(ValueError, match="an empty block"):
        explain_block(np.ones(0), "e4m3")


@pytest.mark.parametrize("granularity", ["tensor", "none"])
@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_block_without_an_amax_is_refused(bad: float, granularity: str) -> None:
    with pytest.raises(ValueError, match=r"x holds 1 NaN or infinite values, the first at \[1\]"):
        explain_block([1.0, bad], "e4m3", granularity)


# A dot product


def read(bits: str) -> Fraction:
    """Read bits such as ``-1.01`` as a number."""
    whole, _, fraction = bits[1:].partition(".")
    return Fraction(int(whole + fraction, 2), 2 ** len(fraction)) * (-1 if bits[0] == "-" else 1)


def operands(rng: np.random.Generator, core: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return values of the core's first input format that spread over many exponents."""
    fmt = TENSOR_CORES[core].inputs[0]
    spread = 0.0 if fmt == "e2m1" else 2.0
    a, b = (rng.standard_normal(k) * np.exp(rng.normal(0, spread, k)) for _ in "ab")
    return fp8sim.round_to(a, fmt), fp8sim.round_to(b, fmt)


def exponent(x: float, emin: int) -> int:
    return max(math.frexp(x)[1] - 1, emin)


def check_against_the_core(told: object, a: np.ndarray, b: np.ndarray, **options: object) -> None:
    expected = tensor_core_matmul(a[None], b[:, None], told.core, **options)[0, 0]
    assert np.float32(told.result).view(np.uint32) == expected.view(np.uint32)


@pytest.mark.parametrize("name", PLAIN_CORES)
@pytest.mark.parametrize("promote", [False, True])
def test_every_bit_of_a_dot_product_is_the_tensor_cores(
    name: str, promote: bool, rng: np.random.Generator
) -> None:
    core = TENSOR_CORES[name]
    k = 3 * core.step - 1
    a, b = operands(rng, name, k)
    fmt = FORMATS[core.inputs[0]]
    every = core.step if promote else None
    told = explain_dot(a, b, name, c=0.5, promote_every=every)
    check_against_the_core(told, a, b, c=[[0.5]], promote_every=every)
    assert [step.first for step in told.steps] == list(range(0, k, core.step))
    for step in told.steps:
        exponents = [
            exponent(a[i], fmt.emin) + exponent(b[i], fmt.emin) for i in range(step.first, step.last + 1)
        ]
        carried = step.carried.value
        own = [exponent(carried, -14 if core.output == "fp16-rne" else -126)] if carried else []
        assert step.top == max(exponents + own)
        unit = Fraction(2) ** step.top
        kept = Fraction(0)
        for term in (*step.terms, step.carried):
            exact = carried if term is step.carried else Fraction(term.a) * Fraction(term.b)
            scaled = Fraction(exact) / unit * 2**core.fraction_bits
            cut = Fraction(math.trunc(scaled), 2**core.fraction_bits)
            assert term.value == exact
            assert read(term.kept) == cut == Fraction(term.kept_value) / unit
            assert read(term.kept + term.lost) * unit == exact  # nothing but the cut was lost
            assert term.lost_value == (Fraction(exact) - cut * unit)
            kept += cut
        assert read(step.total_bits) == kept == Fraction(step.total) / unit
        left, right = (np.zeros(core.step, np.float32) for _ in "ab")
        count = step.last - step.first + 1
        left[:count], right[:count] = a[step.first : step.last + 1], b[step.first : step.last + 1]
        assert step.output == float(
            fused_step(Factors(left, fmt.emin), Factors(right, fmt.emin), np.float32(carried), core.rule)
        )
    assert told.exact == float(
        sum((Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(0.5))
    )
    assert widest(told) <= 80


@pytest.mark.parametrize("promote", [False, True])
@pytest.mark.parametrize("name", OTHER_CORES)
def test_steps_of_other_laws_are_told_by_their_exact_sums(
    name: str, promote: bool, rng: np.random.Generator
) -> None:
    core = TENSOR_CORES[name]
    a, b = operands(rng, name, 3 * core.step - 1)
    every = core.step if promote else None
    told = explain_dot(a, b, name, c=0.5, promote_every=every)
    check_against_the_core(told, a, b, c=[[0.5]], promote_every=every)
    for step in told.steps:
        span = slice(step.first, step.last + 1)
        exact = sum((Fraction(x) * Fraction(y) for x, y in zip(a[span], b[span], strict=True)), Fraction(0))
        assert step.exact_products == exact
        assert step.total == float(exact + Fraction(step.carried.value)) == step.exact
        assert step.rounded_off == step.total - step.output
        assert step.cut_off == 0
        text = str(step)
        assert LAWS[core.law][:40] in text
        assert "bits kept" not in text
    assert "aligned to" not in str(told)
    assert widest(told) <= 80
    special = explain_dot([np.inf if FORMATS[core.inputs[0]].has_inf else np.nan, 1], [1, 1], name)
    assert not np.isfinite(special.result)
    assert str(special)


@pytest.mark.parametrize("name", SCALED_CORES)
def test_scaled_cores_are_told_with_their_scales(name: str, rng: np.random.Generator) -> None:
    core = TENSOR_CORES[name]
    k = core.step + core.step // 2
    a, b = operands(rng, name, k)
    blocks = -(-k // core.scale_block)
    scales = [fp8sim.round_to(np.exp(rng.normal(0, 1, blocks)), core.scale_format) for _ in "ab"]
    told = explain_dot(a, b, name, scales=tuple(scales))
    check_against_the_core(told, a, b, scales=(scales[0][None], scales[1][:, None]))
    full = [np.repeat(s, core.scale_block)[:k] * x for s, x in zip(scales, (a, b), strict=True)]
    for step in told.steps:
        for term in step.terms:
            span = slice(term.first, term.last + 1)
            products = [Fraction(x) * Fraction(y) for x, y in zip(full[0][span], full[1][span], strict=True)]
            assert term.value == sum(products)
    assert told.exact == pytest.approx(float(full[0] @ full[1]))
    assert "times the scales of their blocks" in str(told)
    with pytest.raises(ValueError, match="pass scales="):
        explain_dot(a, b, name)


def test_one_large_product_pushes_31_small_ones_off_the_end() -> None:
    told = explain_dot([16, *[0.140625] * 31], [16, *[0.140625] * 31], "hopper-fp8")
    assert str(told) == (
        """
32 products of e4m3 and e4m3 on hopper-fp8, 32 a step

k = 0 to 31: aligned to 2^8, the largest exponent, that of k = 0
Last place kept: 2^-5 = 0.03125; what is below it is cut off, toward zero.
   k  a x b                  product  14 bits kept      fell off
   0  16 x 16                    256  +1.0000000000000
1-31  0.140625 x 0.140625  0.0197754  +0.0000000000000 │1010001
   c  so far                       0  +0.0000000000000
                           ───────────────────────────
 sum                             256  +1.0000000000000
  output    256, truncated to FP32 with 13 fraction bits; exact 256.613037,
            error -0.613037 (-0.239 %)
""".strip()
    )
    assert told.error == -31 * 0.140625**2
    assert told.cut_off == 31 * 0.140625**2


def test_the_generations_keep_what_table_8_of_mma_sim_says() -> None:
    a, b = [-(2.0**13), -0.5, -0.25, -0.125], [2.0**10, 1, 1, 1]
    kept = {}
    for name in ("volta-fp16", "ampere-fp16", "hopper-fp16", "hopper-fp8"):
        operand = (a, b) if name != "hopper-fp8" else ([-(2.0**7), *a[1:]], [2.0**8, 1, 1, 1])
        told = explain_dot(*operand, name, c=2.0**23 if name != "hopper-fp8" else 2.0**15)
        kept[name] = (told.result, [term.kept_value for term in told.steps[0].terms[1:]])
    assert kept == {
        "volta-fp16": (0.0, [0.0, 0.0, 0.0]),
        "ampere-fp16": (-0.5, [-0.5, 0.0, 0.0]),
        "hopper-fp16": (-0.75, [-0.5, -0.25, 0.0]),
        "hopper-fp8": (0.0, [0.0, 0.0, 0.0]),
    }


def test_fourteen_bits_are_kept_on_hopper_in_fp8() -> None:
    last_kept = explain_dot([1, 2.0**-6], [1, 2.0**-7], "hopper-fp8").steps[0].terms[1]
    assert (last_kept.kept, last_kept.lost) == ("+0.0000000000001", "")
    first_lost = explain_dot([1, 2.0**-7], [1, 2.0**-7], "hopper-fp8").steps[0].terms[1]
    assert (first_lost.kept, first_lost.lost) == ("+0.0000000000000", "1")


def test_promotion_is_told_chain_by_chain(rng: np.random.Generator) -> None:
    a, b = operands(rng, "hopper-fp8", 320)
    told = explain_dot(a, b, "hopper-fp8", promote_every=128)
    assert [promotion.last for promotion in told.promotions] == [127, 255, 319]
    total = np.float32(0)
    for start, promotion in zip((0, 128, 256), told.promotions, strict=True):
        part = slice(start, start + 128)
        chain = tensor_core_matmul(a[None, part], b[part, None], "hopper-fp8")[0, 0]
        assert (promotion.chain, promotion.before) == (chain, total)
        total = np.float32(total + chain)
        assert promotion.after == total
    assert told.result == total
    assert [step.carried.value for step in told.steps[::4]] == [0.0, 0.0, 0.0]  # chains start anew
    assert "Every 128 products the sum is added in FP32" in str(told)
    assert str(told).count("The step that lost the most") == 1


def test_a_long_chain_shows_both_ends_and_its_worst_step(rng: np.random.Generator) -> None:
    a, b = operands(rng, "hopper-fp8", 4096)
    told = explain_dot(a, b)
    text = str(told)
    assert "108 steps more" in text
    assert len(text.splitlines()) < 80
    worst = max(told.steps, key=lambda step: abs(step.exact - step.output))
    assert f"k = {worst.first} to {worst.last}:" in text
    reference = exact_product(a[None], b[:, None])[0, 0]
    assert told.exact == pytest.approx(reference, rel=1e-6)
    assert str(told.steps[3]).startswith("k = 96 to 127:")


def test_infinity_and_nan_go_through() -> None:
    told = explain_dot([np.inf, 1.0], [1.0, 1.0], "hopper-fp16")
    assert (told.result, told.exact, told.error, told.steps[0].finite) == (math.inf, math.inf, 0.0, False)
    assert told.steps[0].terms[0].kept == ""
    assert math.isnan(explain_dot([np.inf, 1.0], [0.0, 1.0], "hopper-fp16").result)
    assert "infinity" in str(told)
    nothing = explain_dot([0.0], [1.0])
    assert "aligned to 2^-133, the least there is" in str(nothing)
    assert (nothing.result, nothing.relative_error) == (0.0, 0.0)


def test_the_format_of_a_subnormal_decides_its_alignment() -> None:
    x = [2.0**-8, 2.0**-8]  # subnormal in E4M3, normal in E5M2
    tops = [explain_dot(x, x, a_format=fmt, b_format=fmt).steps[0].top for fmt in ("e4m3", "e5m2")]
    assert tops == [-12, -16]


def test_what_is_no_pair_of_vectors_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="a has 2 elements and b has 3"):
        explain_dot([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"a must be a vector .* got shape \(1, 2\); pass one row"):
        explain_dot([[1, 2]], [1, 2])
    with pytest.raises(ValueError, match="there is no product to explain"):
        explain_dot([], [])
    with pytest.raises(ValueError, match=r"round first: fp8sim.round_to\(a, 'e4m3'\)"):
        explain_dot([0.3], [1.0])
    with pytest.raises(ValueError, match="promote_every=100 is not a multiple of 32"):
        explain_dot([1.0], [1.0], promote_every=100)
    with pytest.raises(ValueError, match="unknown tensor core"):
        explain_dot([1.0], [1.0], "hoper-fp9")


def test_nothing_given_is_modified(rng: np.random.Generator) -> None:
    a, b = operands(rng, "hopper-fp8", 64)
    copies = a.copy(), b.copy()
    a.flags.writeable = b.flags.writeable = False
    explain_dot(a, b)
    explain_block(a)
    np.testing.assert_array_equal([a, b], copies)


def test_all_roundings_are_told() -> None:
    assert {explain(-0.3, "e4m3", rounding=mode).value for mode in MODES} == {-0.3125, -0.28125}
    assert grid(LAYOUTS["e4m3"]).values[-1] == 480.0  # the value that would follow the largest
