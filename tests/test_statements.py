"""What the pages of the documentation say in words: each figure is computed anew and looked up in the sentence."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import re
from fractions import Fraction
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fp8sim
from fp8sim._support import published
from fp8sim.cli.train import train_command
from fp8sim.experiments.data import attention_tensors, llm_like_matrices
from fp8sim.metrics import relative_error, sqnr_db
from fp8sim.quantization import DIVISIONS, SCALE_RULES

DOCS = Path(__file__).parent.parent / "docs"
E4M3, E5M2 = fp8sim.get_format("e4m3"), fp8sim.get_format("e5m2")


@cache
def words(page: str) -> str:
    """Return the text of a page, each run of white space as one space."""
    return " ".join((DOCS / f"{page}.md").read_text(encoding="utf-8").split())


def missing(page: str, *sentences: str) -> list[str]:
    """Return what the page does not say, word for word."""
    return [sentence for sentence in sentences if " ".join(sentence.split()) not in words(page)]


def percent(x: float, digits: int = 0) -> str:
    return f"{100 * x:.{digits}f} %"


@cache
def matrices() -> tuple[np.ndarray, np.ndarray]:
    """The operands of lesson 2."""
    both = llm_like_matrices(m=256, n=256, k=4096, seed=0)
    return both.a, both.b


@cache
def values(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The E4M3 operands of lesson 2: `u` and `v`, positive, or `x` and `y`, of both signs."""
    rng = np.random.default_rng(0)
    shapes = [(64, 4096), (4096, 64)]
    positive = [fp8sim.round_to(rng.random(shape), "e4m3") for shape in shapes]
    signed = [fp8sim.round_to(rng.standard_normal(shape), "e4m3") for shape in shapes]
    return tuple(positive if kind == "positive" else signed)


def chain_error(kind: str, every: int | None) -> float:
    left, right = values(kind)
    return relative_error(
        fp8sim.tensor_core_matmul(left, right, "hopper-fp8", promote_every=every), left @ right
    )


def ordinary_channels() -> np.ndarray:
    size = np.sqrt(np.mean(matrices()[0] ** 2, axis=0))
    return size < 5 * np.median(size)


def test_a_sentence_that_a_page_does_not_say_is_found():
    assert missing("quickstart", "the largest E4M3 value is 480", "The largest E4M3 value is 448") == [
        "the largest E4M3 value is 480"
    ]


# --- formats --------------------------------------------------------------------------------------


def reach(fmt: fp8sim.FloatFormat) -> float:
    """Return the octaves from half of the smallest number, which becomes zero, to the largest."""
    return math.log2(fmt.max / (fmt.smallest_subnormal / 2))


def values_by_octave(name: str) -> list[int]:
    positive = fp8sim.decode(np.arange(128, dtype=np.uint8), name)
    normal = positive[np.isfinite(positive) & (positive >= fp8sim.get_format(name).smallest_normal)]
    return np.unique(np.frexp(normal)[1], return_counts=True)[1].tolist()


def test_the_octaves_have_the_values_that_the_pages_count():
    inner, top = set(values_by_octave("e4m3")[:-1]), values_by_octave("e4m3")[-1]
    spelled = {8: "eight", 7: "seven"}
    assert inner == {8}
    assert (
        missing(
            "lessons/what-a-bit-is-worth",
            f"each has {spelled[8]} values. Only the top one, from 256 to {E4M3.max:.0f}, has {spelled[top]}",
        )
        == []
    )
    assert missing("quickstart", f"From 1/4 to 1/2 it has {spelled[8]} values") == []
    assert missing("gallery", f"{spelled[8]} codes each (the outermost {spelled[top]})") == []
    assert values_by_octave("e5m2")[0] * 2 == 8
    assert missing("gallery", "E5M2 has half as many strokes in each octave as E4M3") == []


def test_a_token_or_number_vanishes_where_the_pages_say():
    assert missing("lessons/what-a-bit-is-worth", f"$2^{{{reach(E4M3):.1f}}}$ times smaller") == []
    assert (
        missing(
            "training",
            f"E4M3's largest number is 2^{reach(E4M3):.1f} times half of its smallest",
            f"about {round(2 ** reach(E4M3), -4):,.0f} times smaller",
            f"E5M2 reaches 2^{reach(E5M2):.1f}",
        )
        == []
    )


def test_the_ends_of_e4m3_are_those_of_every_page():
    smallest = int(math.log2(E4M3.smallest_subnormal))
    for page, sentence in {
        "quickstart": f"The largest E4M3 value is {E4M3.max:.0f} and the smallest positive one 2^{smallest}",
        "lessons/what-a-bit-is-worth": f"E4M3 reaches from $2^{{{smallest}}}$ to {E4M3.max:.0f}",
        "lessons/start-here": f"So it is $2^{{-6}} \\cdot 2^{{-3}} = 2^{{{smallest}}}$",
        "conventions": f"largest value {E4M3.max:.0f}, one NaN per sign, no infinity",
    }.items():
        assert missing(page, sentence) == []


def test_a_bit_is_worth_six_decibels():
    bit = 20 * math.log10(2)
    three = f"three mantissa bits, {3 * bit:.0f} dB"
    assert missing("lessons/what-a-bit-is-worth", f"which is {bit:.2f} dB", three) == []
    x = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    e5m2, e4m3 = (sqnr_db(fp8sim.round_to(x, name), x) for name in ("e5m2", "e4m3"))
    assert missing("teach/index", f"E5M2's {e5m2:.1f} dB against E4M3's {e4m3:.1f}") == []


def test_the_worst_rounding_is_what_the_gallery_says():
    x = np.linspace(1, 2, 100_001)
    e4m3, e5m2 = (np.abs(fp8sim.round_to(x, name) / x - 1).max() for name in ("e4m3", "e5m2"))
    assert missing("gallery", f"{percent(e4m3)} at worst in E4M3, {percent(e5m2)} in E5M2") == []


# --- attention ------------------------------------------------------------------------------------


@cache
def attended(way: str) -> fp8sim.experiments.kv_cache.Attention:
    """The layer of the page on attention, by one of its ways to scale."""
    x = attention_tensors(32, 8, 16, 1024, 128, outlier=300)
    past = x.k[:, :512], x.v[:, :512]
    options = {
        "unity": {},
        "calibrated": {"calibration": past},
        "head": {"calibration": past, "granularity": "head"},
        "wide": {"calibration": tuple(2 * one for one in past), "granularity": "head"},
    }
    return fp8sim.attention(x.q, x.k[:, 512:], x.v[:, 512:], **options[way])


def test_scales_of_one_and_calibrated_ones_do_what_the_page_on_attention_says():
    unity, calibrated, head, wide = map(attended, ("unity", "calibrated", "head", "wide"))
    lost, kept = (percent(one["output"].relative_error) for one in (unity, calibrated))
    logit, clipped = (f"{one['logits'].max_abs_error:.1f}" for one in (unity, head))
    assert round(1000 * unity["k"].saturated) == 1
    assert (
        missing(
            "attention",
            "One element of K in a thousand is beyond 448",
            f"A logit that is off by {logit} gives a token e^{logit} times its weight",
            f"the output is {lost} off",
            f"{lost} becomes {kept}",
            f"{percent(head['k'].saturated, 3)} of K lie beyond: enough for a logit that is {clipped} off",
        )
        == []
    )
    assert calibrated["k"].saturated == wide["k"].saturated == 0
    assert wide["output"].relative_error < 1.1 * calibrated["output"].relative_error
    small, normal = (math.log2(getattr(E4M3, f"smallest_{which}")) for which in ("subnormal", "normal"))
    assert (
        missing("attention", f"below 2^{small - 1:.0f} becomes zero, and what is below 2^{normal:.0f} has")
        == []
    )


def test_the_transform_helps_fp8_at_random_entries_alone():
    rng = np.random.default_rng(0)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        rare = rng.random(shape) < 0.001
        return rng.normal(size=shape) + 10 * rare * rng.normal(size=shape)

    q, k, v = (draw((2, 512, 128)) for _ in range(3))
    fp8 = fp8sim.Operand("e4m3", fp8sim.Scaling("tensor"))
    before, after = (
        percent(fp8sim.attention(q, k, v, q_format=one, kv=(one, None))["output"].relative_error, 1)
        for one in (fp8, dataclasses.replace(fp8, hadamard=128))
    )
    assert missing("attention", f"at random entries of Q and K alike, from {before} to {after}") == []


# --- operands -------------------------------------------------------------------------------------


def test_the_estimate_of_a_rounding_follows_from_its_premise():
    step, octave = 2.0**-3, np.linspace(1, 2, 1_000_001)
    power = step / math.sqrt(12)
    number = power * math.sqrt(np.mean(1 / octave**2))
    assert (
        missing(
            "lessons/multiply-in-8-bits",
            f"here {percent(power, 1)} of that power of two",
            f"the error is ${100 * power:.1f}\\,\\% / \\sqrt 2 = {100 * number:.2f}\\,\\%$ of the number",
            f"$\\sqrt 2$ times that: {percent(number * math.sqrt(2), 1)} again",
        )
        == []
    )
    assert missing("quickstart", f"That makes {percent(number, 2)} of a number") == []
    uniform = np.random.default_rng(0).uniform(1, 2, 1_000_000)
    measured = math.sqrt(np.mean((fp8sim.round_to(uniform, "e4m3") / uniform - 1) ** 2))
    assert measured == pytest.approx(number, rel=0.002)


def test_fine_scales_leave_the_error_of_ordinary_channels_as_it_is():
    a, ordinary = matrices()[0], ordinary_channels()
    errors = [
        relative_error(fp8sim.quantize(a, "e4m3", granularity).dequantize()[:, ordinary], a[:, ordinary])
        for granularity in ("tensor", "1x128")
    ]
    assert max(errors) / min(errors) < 1.02
    assert missing("teach/index", f"ordinary channels err by {percent(min(errors), 1)}") == []
    assert "So fine scales hardly make E4M3 more accurate" in words("lessons/multiply-in-8-bits")


def test_eight_bits_cost_more_than_ten_times_what_bf16_does():
    rows = {row.recipe: row for row in fp8sim.compare(*matrices(), ["deepseek-v3"], bounds=False).rows}
    ratio = rows["deepseek-v3"].relative_error / rows["bf16"].relative_error
    assert (ratio > 10) == (missing("lessons/multiply-in-8-bits", "has less than a tenth of it") == [])
    sums = rows["deepseek-v3"].quantization_error / rows["deepseek-v3"].accumulation_error
    assert sums > 100
    assert missing("teach/index", "more than a hundred times what promoted sums do") == []


def test_scales_take_the_share_that_the_pages_say():
    q = fp8sim.quantize(matrices()[0], "e4m3", "1x128")
    assert missing("quickstart", percent(q.scale_nbytes / (q.nbytes - q.scale_nbytes), 3)) == []


def test_powers_of_two_cost_what_the_solution_says():
    rows = fp8sim.compare(*matrices(), ["deepseek-v3", "deepseek-v3.1"], bounds=False).rows
    error = {row.recipe: row.relative_error for row in rows}
    grown = error["deepseek-v3.1"] / error["deepseek-v3"] - 1
    assert (
        missing("lessons/multiply-in-8-bits", f"The error grows by about {percent(round(grown, 1))} here")
        == []
    )


def test_int8_wins_where_lesson_1_says(rng):
    pytest.importorskip("matplotlib", reason="needs the plot extra")
    x = rng.standard_normal(100_000).astype(np.float32)
    lines = fp8sim.plotting.sqnr_against_scale(x, ["e4m3", "int8"]).lines
    reaches = lines[0].get_xdata()
    e4m3, int8 = (line.get_ydata() for line in lines[:2])
    lead, best = int8.max() - e4m3.max(), reaches[int8.argmax()]
    crossing = reaches[(e4m3 > int8) & (reaches > best)][0]
    plateau = reaches[e4m3 > 31]
    decades = math.log10(plateau[-1] / plateau[0])
    assert abs(crossing - 12) < 2
    assert decades > 3
    assert (
        missing(
            "lessons/what-a-bit-is-worth",
            f"INT8 is best, by {lead:.0f} dB, while it is about {best:.0f}; E4M3 does not care, over three decades",
            "beyond about 12, E4M3 wins",
        )
        == []
    )


def test_the_generated_outliers_are_as_lesson_1_describes_them():
    a, ordinary = matrices()[0], ordinary_channels()
    size = np.sqrt(np.mean(a**2, axis=0))
    times = size[~ordinary] / np.median(size)
    assert np.all((times > 9) & (times < 110))
    share = a.shape[1] // np.count_nonzero(~ordinary)
    assert (
        missing("lessons/what-a-bit-is-worth", f"one channel in {share} that is 10 to 100 times larger") == []
    )


# --- sums -----------------------------------------------------------------------------------------


def test_a_chain_loses_what_lesson_2_says_and_promotion_brings_it_back():
    left, right = values("positive")
    lost = 1 - np.mean(fp8sim.tensor_core_matmul(left, right, "hopper-fp8") / (left @ right))
    assert missing("lessons/multiply-in-8-bits", f"*{percent(lost)} too small*") == []
    assert missing("teach/index", f"the sums that come out {percent(lost)} too small") == []
    gain = chain_error("both signs", None) / chain_error("both signs", 128)
    spelled = {10: "ten", 11: "ten", 9: "ten"}[round(gain)]
    assert missing("lessons/multiply-in-8-bits", f"about {spelled} times smaller") == []
    bits = fp8sim.TENSOR_CORES["hopper-fp8"].fraction_bits
    assert missing("lessons/multiply-in-8-bits", f"keeps {bits + 1} bits", f"kept with {bits} fraction") == []


def test_halving_the_interval_takes_off_what_the_solution_says():
    intervals = (32, 64, 128, 256, 512, 1024)
    shares = {}
    for kind in ("both signs", "positive"):
        errors = [chain_error(kind, every) for every in intervals]
        shares[kind] = [1 - fine / coarse for fine, coarse in itertools.pairwise(errors)]
    assert {round(share, 1) for share in shares["both signs"]} == {0.4}
    assert {round(share, 1) for share in shares["positive"]} == {0.6, 0.7}
    assert (
        missing(
            "lessons/multiply-in-8-bits",
            "about 40 % off the error on numbers of both signs",
            "60 to 70 % on positive ones",
        )
        == []
    )


def least_fraction_bits(fmt: fp8sim.FloatFormat) -> int:
    """Return how many bits below the largest exponent hold the smallest product beside the largest."""
    exponent = 2 * int(math.log2(fmt.max))
    smallest = Fraction(fmt.smallest_subnormal) ** 2
    return next(bits for bits in range(100) if (smallest / Fraction(2) ** (exponent - bits)).denominator == 1)


def test_the_least_bits_for_exact_sums_are_those_of_the_solution():
    e4m3, e5m2 = least_fraction_bits(E4M3), least_fraction_bits(E5M2)
    assert (
        missing(
            "lessons/multiply-in-8-bits",
            f"lie **{e4m3} fraction bits**",
            f"With {e4m3}, nothing is cut off any product. With {e4m3 - 1} the smallest can be lost",
            f"E5M2 would need {e5m2}",
            f"{e4m3} fraction bits are {e4m3 + 1}.",
        )
        == []
    )
    hopper = fp8sim.TENSOR_CORES["hopper-fp8"]
    tiny = E4M3.smallest_subnormal
    sums = [
        fp8sim.tensor_core_matmul(
            [[E4M3.max, -E4M3.max, tiny]],
            [[E4M3.max], [E4M3.max], [tiny]],
            dataclasses.replace(hopper, name="mine", fraction_bits=bits, output="fp32-rz"),
        )[0, 0]
        for bits in (e4m3 - 1, e4m3)
    ]
    assert sums == [0, tiny**2]


# --- costs ----------------------------------------------------------------------------------------


def test_the_costs_of_lesson_3_are_what_it_says():
    many = [fp8sim.gemm_cost(4096, 7168, 2048, recipe).bytes for recipe in ("bf16", "deepseek-v3")]
    whole = [row for row in published.SPEEDUPS if row.end_to_end]
    low, high = min(row.low for row in whole), max(row.high for row in whole)
    assert (
        missing(
            "lessons/did-it-halve",
            f"to {many[1] / many[0]:.2f} at 4096 tokens",
            f"lie between {low:.2f} and {high:.2f}",
            f"within {published.DEEPSEEK_V3['loss_error'].value} % of BF16 (DeepSeek-V3 report, 3.3 and B.1)",
        )
        == []
    )


def test_the_shares_of_the_solutions_are_what_they_say():
    first = {
        recipe: next(m for m in range(1, 4096) if fp8sim.gemm_cost(m, 7168, 2048, recipe).bound == "compute")
        for recipe in ("bf16", "deepseek-v3")
    }
    long = fp8sim.model_cost("deepseek-v3", seq_len=131072)
    attention = long.attention_flops_per_token / long.forward_flops_per_token
    fp8 = long.quantized_flops_share
    kept = {}
    for name in ("llama-3.1-8b", "deepseek-v3"):
        model = fp8sim.models.get_model(name)
        kept[name] = 2 * model.vocab * model.hidden / fp8sim.model_cost(name).inventory.parameters
    assert (
        missing(
            "lessons/did-it-halve",
            f"From {first['bf16']} tokens on in BF16 and from {first['deepseek-v3']} on in FP8",
            f"attention is {percent(attention, 1)} of the flops and the FP8 layers {percent(fp8, 1)}",
            f"Twice as fast on {percent(attention + fp8, 1)} of the work",
            f"{percent(kept['llama-3.1-8b'])}, against {percent(kept['deepseek-v3'], 1)} of DeepSeek-V3's",
        )
        == []
    )


def test_the_bytes_of_a_training_state_are_those_of_every_page():
    cost = fp8sim.model_cost("deepseek-v3")
    before, _, after = (round(state.total / cost.inventory.parameters) for state in cost.training_states)
    assert missing("lessons/did-it-halve", f"= {before} bytes, and takes 1 + 4 + 4 + 2 + 2 = {after}") == []
    assert missing("teach/index", f"{before} bytes to {after} a parameter") == []
    assert missing("whole-model", f"under BF16 a parameter takes {before} bytes") == []


def test_the_rates_that_pages_write_out_are_those_of_the_devices():
    h800, h100 = (fp8sim.costs.get_device(name) for name in ("h800", "h100"))
    bandwidth, fp8 = f"{h800.bandwidth.value / 1e12:g} TB/s", f"{h800.fp8.value / 1e12:.0f}"
    assert missing("whole-model", f"an H800 ({bandwidth}, {fp8} TFLOP/s in FP8)") == []
    bf16 = f"{math.ceil(h800.bf16.value / 1e12)} TFLOP/s in BF16"
    measured = h100.measured_fp8.value / h100.measured_bf16.value
    assert (
        missing(
            "lessons/did-it-halve",
            f"an H800 ({bandwidth}; {bf16}, {fp8} in FP8)",
            f"peaks of an H100 differ by {measured:.3f}, not {h100.fp8.value / h100.bf16.value:.0f}",
        )
        == []
    )


# --- training -------------------------------------------------------------------------------------


def test_the_recorded_embeddings_are_what_the_page_says():
    text = (DOCS / "training" / "embeddings.txt").read_text(encoding="utf-8")
    rows = {cells[0]: cells[1:] for cells in map(str.split, text.splitlines()) if len(cells) >= 5}
    eights = [rows[name] for name in ("fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8")]
    moved = [float(cells[0]) for cells in eights]
    changed = [float(cells[2]) for cells in eights]
    assert (
        missing(
            "training",
            f"by {100 * min(moved):.1f} to {percent(max(moved), 1)} of a cosine",
            f"of {min(changed):.0f} to {max(changed):.0f} % of the sentences",
        )
        == []
    )


def test_the_page_on_training_quotes_b2_and_calls_the_experiment_what_it_is():
    b2 = "in a model of about 16 B parameters that was trained for around 300 B tokens, and reports that the model"
    assert missing("training", f"{b2} diverged (B.2)", "It is true by construction") == []
    seeds = inspect.signature(train_command).parameters["seeds"].default
    times = {4: "four", 2: "two"}[8 // seeds]
    assert missing("training", f"`--seeds 8` says it better, and takes {times} times as long") == []


# --- conventions ----------------------------------------------------------------------------------

NAMES = re.findall(
    r"^\| (`.*?) \| (`.*?) \| (`.*?) \| (`.*?) \|$",
    (DOCS / "conventions.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


def test_the_names_of_formats_are_the_ones_that_the_table_gives():
    assert len(NAMES) == 8
    for formats, *others in NAMES:
        ours = re.findall(r"`(.*?)`", formats)
        for cell in others:
            theirs = re.findall(r"`(.*?)`", cell)
            assert [fp8sim.get_format(name).name for name in theirs] == ours
            assert [fp8sim.get_format(name.swapcase()).name for name in theirs] == ours
    assert fp8sim.get_format("torch.float8_e4m3fn") == fp8sim.get_format("ml_dtypes.float8_e4m3fn") == E4M3
    ieee = fp8sim.get_format(ml_dtypes.float8_e4m3)
    assert missing("conventions", f"IEEE-like with largest value {ieee.max:.0f}, is `{ieee.name}` here") == []


def test_e5m6_is_the_top_of_fp16():
    codes = np.arange(4096, dtype=np.uint16)
    np.testing.assert_array_equal(
        fp8sim.decode(codes, "e5m6"), (codes << 4).view(np.float16).astype(np.float32)
    )
    largest = fp8sim.get_format("e5m6").max
    assert (
        missing(
            "conventions",
            f"the top 12 bits of an FP16 number, in TileKernels: IEEE-like, largest value {largest:.0f}",
        )
        == []
    )
    assert "TileKernels" in fp8sim.get_format("e5m6").source


def test_overflow_is_decided_as_the_page_says():
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = np.float32(1e6).astype(ml_dtypes.float8_e4m3fn)
    assert np.isnan(theirs)
    ours = fp8sim.round_to(1e6, "e4m3")
    edge, beyond = (fp8sim.round_to(x, "e4m3", overflow="ieee") for x in (464.0, np.nextafter(464, 500)))
    assert (edge, np.isnan(beyond)) == (E4M3.max, True)
    directed = fp8sim.round_to(70000, "fp16", rounding="toward-zero", overflow="ieee")
    assert (
        missing(
            "conventions",
            f"where fp8sim and the GPU's own conversion (`cvt.rn.satfinite`) give {ours:.0f}",
            f"464 rounds to {edge:.0f} in E4M3 and does not overflow, the next float above it does",
            f"70000 toward zero is {directed:.0f} in FP16",
        )
        == []
    )


def scale_of(x: list[float], rule: str) -> float:
    return float(fp8sim.quantize(x, "e4m3", "tensor", scale_format="e8m0", scale_rule=rule).scales.ravel()[0])


def test_the_scale_rules_are_those_of_the_table():
    for amax in (1.0, 448.0, 449.0, 300.0, 511.9, 0.0137):
        power = math.frexp(amax)[1] - 1
        assert scale_of([amax], "floor") == 2.0 ** (power - E4M3.emax)
        ceil = scale_of([amax], "ceil")
        assert amax / ceil <= E4M3.max < amax / (ceil / 2)
        rounded = float(fp8sim.round_to(amax, fp8sim.FloatFormat("wide", 8, 3)))
        assert scale_of([amax], "even") == 2.0 ** (math.frexp(rounded)[1] - 1 - E4M3.emax)
    assert all(f"| `{name}` |" in words("conventions") for name in (*SCALE_RULES, *DIVISIONS))


def test_groups_of_zeros_and_scales_of_scales_are_as_the_page_says():
    zeros = np.zeros((2, 32), np.float32)
    assert fp8sim.quantize(zeros, "e4m3", "tensor").scales == 1
    mx = fp8sim.quantize(zeros, "e4m3", "1x32", scale_format="e8m0")
    assert set(mx.scales.ravel()) == {2.0**-127}
    assert not mx.dequantize().any()
    x = np.float32([[1.0] * 16 + [6.0] * 16])
    two = fp8sim.quantize(x, "e2m1", "1x16", scale_format="e4m3")
    np.testing.assert_allclose(two.dequantize(), x, rtol=0.07)
    tensor = 6.0 / (E4M3.max * fp8sim.get_format("e2m1").max)
    whole = two.scales.astype(np.float64) / np.float32(tensor)
    np.testing.assert_allclose(whole, fp8sim.round_to(whole, "e4m3"), rtol=1e-6)


def test_codes_take_a_byte_each_and_are_counted_packed():
    q = fp8sim.quantize(np.ones((2, 64), np.float32), "e2m1", "1x32", scale_format="e8m0")
    assert q.codes.dtype.itemsize == 1
    assert q.nbytes - q.scale_nbytes == q.codes.size // 2


def test_calc_diff_is_about_half_the_squared_error(rng):
    x = rng.standard_normal(10_000)
    noisy = x + 0.03 * rng.standard_normal(x.size)
    half = relative_error(noisy, x) ** 2 / 2
    assert fp8sim.metrics.calc_diff(noisy, x) == pytest.approx(half, rel=0.05)


def test_every_part_that_the_conventions_list_is_there():
    table = (DOCS / "conventions.md").read_text(encoding="utf-8").partition("## Where things are")[2]
    parts = [
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert len(parts) >= 15
    for part in parts:
        if part not in ("pytorch", "cli"):  # the one needs torch, the other is no name of the library
            assert getattr(fp8sim, part).__name__ == f"fp8sim.{part}"


def test_the_tensor_cores_are_named_from_the_first_to_the_last():
    first, *_, last = (name for name in fp8sim.TENSOR_CORES if not name.endswith("-fp16out"))
    assert missing("reference", f"from ``{first}`` to ``{last}``") == []


# --- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["read through", "read in a copy", "with sparsity", "agrees bit for bit"])
def test_every_mark_that_the_page_of_sources_explains_is_used(mark):
    figures = [figure for device in fp8sim.costs.DEVICES.values() for figure in vars(device).values()]
    sources = [
        thing.source for thing in (*figures, *fp8sim.TENSOR_CORES.values()) if hasattr(thing, "source")
    ]
    assert any(mark in source for source in sources)
    assert f'"{mark}' in words("sources")
