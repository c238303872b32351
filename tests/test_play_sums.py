"""The page's dot product and Amdahl's law: the library's bits, and what the two parts say and do."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import math
import re
from typing import Any

import numpy as np
import pytest

import fp8sim
from browser import AXE, MISSING, NO_AXE, NO_BROWSER, violations
from fp8sim import FloatFormat, get_format
from fp8sim._support.typing import F32
from fp8sim.anatomy import explain_dot
from fp8sim.experiments.claims.rules import HALVED
from fp8sim.play.machines import MODELS, describe_core
from fp8sim.tensor_cores import (
    TENSOR_CORES,
    TensorCore,
    tensor_core_matmul,
    tensor_core_matmul_reference,
)

in_browser = pytest.mark.skipif(MISSING, reason=NO_BROWSER)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return fp8sim.play("dot").save(tmp_path_factory.mktemp("play") / "play.html").as_uri()


@pytest.fixture
def page(browser, address):
    browser.open("about:blank")
    browser.log("browser")
    browser.log("performance")
    browser.open(address)
    yield browser
    browser.emulate_nothing()


# --- a thousand dot products ----------------------------------------------------------------------

KINDS = ("normal", "wide", "sparse", "subnormal", "special")


def random_values(fmt: FloatFormat, shape: tuple[int, int], kind: str, rng: np.random.Generator) -> F32:
    """Values of a format: normally distributed, of all exponents, few, subnormal, or with NaN and infinity."""
    if kind == "normal":
        x = rng.standard_normal(shape)
    elif kind == "subnormal":
        x = rng.uniform(-2, 2, shape) * fmt.smallest_normal
    else:
        exponents = rng.integers(fmt.emin - fmt.mantissa_bits - 1, fmt.emax + 1, shape)
        x = np.ldexp(rng.choice([-1.0, 1.0], shape) * rng.uniform(1, 2, shape), exponents)
    if not fmt.signed:
        x = np.abs(x)
    values = fp8sim.round_to(x, fmt, rounding="toward-zero", overflow="saturate")
    if kind == "sparse":
        values = np.where(rng.random(shape) < 0.9, np.copysign(0.0, values), values)
    if kind == "special":
        there = [*[np.nan] * fmt.has_nan, *[np.inf, -np.inf] * fmt.has_inf]
        if there:
            values = np.where(rng.random(shape) < 0.02, rng.choice(np.array(there), shape), values)
    return values.astype(np.float32)


def random_scales(core: TensorCore, shape: tuple[int, int], wide: bool, rng: np.random.Generator) -> F32:
    fmt = get_format(core.scale_format)
    if fmt.mantissa_bits:
        values = np.abs(random_values(fmt, shape, "wide", rng))
    else:
        reach = 127 if wide else 12
        values = np.ldexp(1.0, rng.integers(-reach, reach + 1, shape))
    if wide and fmt.has_nan:
        values = np.where(rng.random(shape) < 0.01, np.nan, values)
    return values.astype(np.float32)


def what_if(rng: np.random.Generator) -> TensorCore:
    """A core that nobody builds: of any law, inputs, width, output, groups and scales that are allowed."""
    names = [name for name, fmt in fp8sim.FORMATS.items() if fmt.signed]
    small = ("e2m1", "e2m3", "e3m2")
    while True:
        law = str(rng.choice(["truncated"] * 5 + ["exact", "pairwise", "rounded-down", "rounded-down"]))
        down, truncated = law == "rounded-down", law == "truncated"
        step = int(rng.choice([2, 4, 8, 16] if law == "pairwise" else [1, 2, 3, 4, 6, 8, 16, 32, 33, 64]))
        scale_format = str(rng.choice(["e8m0", "e4m3", "bf16"])) if truncated and rng.random() < 0.4 else None
        divisors = [size for size in range(1, step + 1) if step % size == 0]
        group = int(rng.choice([0, *divisors])) if scale_format else 0
        if law == "pairwise":
            group = int(rng.choice([0, 2, 4]))
        if down and step % 2 == 0:
            group = int(rng.choice([0, step // 2]))
        try:
            return TensorCore(
                "what if",
                tuple(str(x) for x in rng.choice(small if scale_format and group else names, 2)),
                step=step,
                fraction_bits=int(rng.integers(1, 41)) if truncated or down else 0,
                output=str(rng.choice(["fp32-rz", "e8m13-rz", "fp16-rne"])) if truncated else "fp32-rne",
                exponent_floor=int(rng.choice([-126, -133, rng.integers(-900, 1), rng.integers(-140, -9)])),
                group=group,
                subgroup=int(rng.choice([0, *divisors])) if scale_format and group else 0,
                scale_format=scale_format,
                scale_block=(group or 1) * int(rng.choice([1, 2, 16])) if scale_format else 0,
                law=law,
                sum_bits=int(rng.integers(1, 46)) if down else 0,
            )
        except ValueError:
            continue  # a core that is refused


def cases(count: int) -> list[dict[str, Any]]:
    """Dot products of every named core in turn, and as many of cores that nobody builds."""
    rng = np.random.default_rng(14)
    named = itertools.cycle(TENSOR_CORES.values())
    made = []
    for number in range(count):
        core = next(named) if number % 2 == 0 else what_if(rng)
        k = int(rng.integers(1, 3 * core.step + 2)) if rng.random() < 0.7 else int(rng.integers(1, 300))
        formats = [core.formats[int(rng.integers(len(core.formats)))] for _ in "ab"]
        a, b = (random_values(fmt, (1, k), str(rng.choice(KINDS)), rng) for fmt in formats)
        options: dict[str, Any] = {"a_format": formats[0], "b_format": formats[1]}
        if rng.random() < 0.5:
            options["promote_every"] = core.step * int(rng.integers(1, 4))
        if rng.random() < 0.6:
            start = get_format("fp16" if core.output == "fp16-rne" else "fp32")
            options["c"] = random_values(start, (1, 1), str(rng.choice(KINDS)), rng)
        if core.scale_format:
            blocks, wide = -(-k // core.scale_block), bool(rng.random() < 0.3)
            left, right = (random_scales(core, (1, blocks), wide, rng) for _ in "ab")
            options["scales"] = left, right.T
        made.append({"core": core, "a": a, "b": b.T, "options": options})
    return made


def bits_of(x: F32) -> list[int]:
    return [int(bits) for bits in np.ascontiguousarray(x, np.float32).reshape(-1).view(np.uint32)]


def as_sent(case: dict[str, Any]) -> dict[str, Any]:
    """A case as plain data: numbers as the bits of float32, so that NaN and -0 arrive."""
    core, options = case["core"], case["options"]
    sides = {}
    for name, x, axis in (("a", case["a"], 0), ("b", case["b"], 1)):
        scales = None
        if core.scale_format:
            scales = bits_of(np.repeat(options["scales"][axis].reshape(-1), core.scale_block)[: x.size])
        emin = get_format(options[f"{name}_format"]).emin
        sides[name] = {"values": bits_of(x), "emin": emin, "scales": scales}
    return {
        "rule": describe_core(core),
        **sides,
        "c": bits_of(options.get("c", np.zeros((1, 1), np.float32)))[0],
        "promoteEvery": options.get("promote_every") or 0,
    }


#: Runs the cases; answers the bits of the results. Every NaN is the one pattern that tensor cores write.
RUN_CASES = """
const floats = (bits) => bits && Array.from(new Float32Array(new Uint32Array(bits).buffer));
return arguments[0].map(({ rule, a, b, c, promoteEvery }) => {
  const [left, right] = [a, b].map((x) => ({ ...x, values: floats(x.values), scales: floats(x.scales) }));
  const result = fp8sim.sums.chain(rule, left, right, { c: floats([c])[0], promoteEvery });
  if (Object.is(Math.fround(result), result) === false) return "no float32";
  return Number.isNaN(result) ? 0x7fffffff : new Uint32Array(new Float32Array([result]).buffer)[0];
});
"""


def expected_bits(case: dict[str, Any]) -> int:
    """What the library says, readable and compiled alike."""
    operands, options = (case["a"], case["b"], case["core"]), case["options"]
    with np.errstate(over="ignore", invalid="ignore"):
        readable = bits_of(tensor_core_matmul_reference(*operands, **options))
        assert bits_of(tensor_core_matmul(*operands, **options)) == readable
    return readable[0]


@pytest.fixture(scope="module")
def thousand() -> list[dict[str, Any]]:
    return cases(1000)


def test_the_thousand_hold_every_core_law_output_and_kind_of_number(thousand):
    laws = {case["core"].law for case in thousand}
    assert {case["core"].name for case in thousand} == {*TENSOR_CORES, "what if"}
    assert laws == {"truncated", "exact", "pairwise", "rounded-down"}
    assert {case["core"].output for case in thousand} == {"fp32-rz", "e8m13-rz", "fp16-rne", "fp32-rne"}
    for kind in ("promote_every", "c", "scales"):
        assert 50 < sum(kind in case["options"] for case in thousand) < 950
    inputs = np.concatenate([x.reshape(-1) for case in thousand for x in (case["a"], case["b"])])
    assert all(np.any(found) for found in (np.isnan(inputs), np.isposinf(inputs), np.isneginf(inputs)))
    assert np.any((inputs == 0) & np.signbit(inputs))


@in_browser
def test_a_thousand_dot_products_have_the_bits_of_the_library(page, thousand):
    expected = [expected_bits(case) for case in thousand]
    found = page.run(RUN_CASES, [as_sent(case) for case in thousand])
    wrong = [(str(c["core"]), f, e) for c, f, e in zip(thousand, found, expected, strict=True) if f != e]
    assert wrong == []
    patterns = np.array(expected, np.uint32).view(np.float32)
    assert np.isnan(patterns).sum() > 20
    assert np.isinf(patterns).sum() > 20
    assert (patterns == 0).sum() > 20


CORNERS = {
    "an exact sum too small for FP32 keeps its sign": ("cdna1-bf16", [-(2.0**-100)], [2.0**-100], 0.0, -0.0),
    "an exact sum of negative zeros is positive": ("cdna1-bf16", [-0.0], [1.0], -0.0, 0.0),
    "what is far below a tie decides it": ("cdna1-bf16", [1, 2.0**-24], [1, 1], 2.0**-80, 1 + 2.0**-23),
    "a subnormal result is zero of its sign": ("cdna2-bf16", [2.0**-63], [2.0**-63], -1.5 * 2.0**-126, -0.0),
}


@in_browser
@pytest.mark.parametrize("corner", CORNERS)
def test_corners_that_chance_seldom_finds(page, corner):
    name, a, b, c, result = CORNERS[corner]
    core = TENSOR_CORES[name]
    case = {
        "core": core,
        "a": np.array([a], np.float32),
        "b": np.array([b], np.float32).T,
        "options": {
            "c": np.array([[c]], np.float32),
            "a_format": core.formats[0],
            "b_format": core.formats[0],
        },
    }
    assert [expected_bits(case)] == bits_of(np.float32(result))
    assert page.run(RUN_CASES, [as_sent(case)]) == [expected_bits(case)]


@in_browser
def test_nvfp4_sums_smaller_groups_where_products_outrank_c(page):
    rng = np.random.default_rng(4)
    core = dataclasses.replace(TENSOR_CORES["blackwell-nvfp4"], name="what if", fraction_bits=6)
    whole = dataclasses.replace(core, subgroup=0)
    made = []
    for _ in range(60):
        a, b = (random_values(core.formats[0], (1, 64), "wide", rng) for _ in "ab")
        scales = tuple(random_scales(core, (1, 4), False, rng) for _ in "ab")
        c = random_values(get_format("fp32"), (1, 1), "normal", rng)
        options = {"scales": (scales[0], scales[1].T), "c": c}
        made.append(
            {"core": core, "a": a, "b": b.T, "options": {**options, "a_format": "e2m1", "b_format": "e2m1"}}
        )
    expected = [expected_bits(case) for case in made]
    assert (
        sum(e != expected_bits({**case, "core": whole}) for e, case in zip(expected, made, strict=True)) > 10
    )
    assert page.run(RUN_CASES, [as_sent(case) for case in made]) == expected


@in_browser
@pytest.mark.parametrize("name", TENSOR_CORES)
def test_sliders_go_as_far_as_a_core_may(page, name):
    """The most fraction bits with which `TensorCore` takes a core, and with one more refuses it."""
    core = TENSOR_CORES[name]
    if not core.fraction_bits:
        return
    largest = max(fmt.max for fmt in core.formats)
    most = page.run("return fp8sim.sums.mostBits(arguments[0], arguments[1])", describe_core(core), largest)
    assert dataclasses.replace(core, fraction_bits=most).fraction_bits == most
    with pytest.raises(ValueError, match="stay exact"):
        dataclasses.replace(core, fraction_bits=most + 1)


# --- the numbers that are drawn -------------------------------------------------------------------


class Xorshift:
    """The page's generator in Python: Marsaglia, "Xorshift RNGs" (2003), shifts 13, 17 and 5."""

    def __init__(self, seed: int) -> None:
        self.x = ((seed + 1) * 0x9E3779B1) % 2**32 or 1

    def __call__(self) -> int:
        x = self.x
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self.x = x
        return x

    def draw(self, k: int, positive: bool) -> np.ndarray:
        def one() -> float:
            return self() / 2**32

        return np.array([one() if positive else sum(one() for _ in range(12)) - 6 for _ in range(k)])


def operand(numbers: np.ndarray, core: TensorCore) -> tuple[np.ndarray, np.ndarray | None]:
    """Round numbers as the page does: to the core's first format, under block scales that saturate nothing."""
    fmt, block = core.formats[0], core.scale_block
    if not core.scale_format:
        return fp8sim.round_to(numbers, fmt), None
    blocks = numbers.reshape(-1, block)
    scales = fp8sim.round_to(
        np.abs(blocks).max(axis=1) / fmt.max, core.scale_format, rounding="toward-positive"
    )
    return fp8sim.round_to(blocks / scales[:, None], fmt).reshape(-1), scales


DRAW = """
const [k, positive, seed, name] = arguments, core = fp8sim.data.cores[name], next = fp8sim.sums.generator(seed);
const format = fp8sim.data.formats[core.inputs[0]], scale = core.scale_format && fp8sim.data.formats[core.scale_format];
const sides = [0, 1].map(() =>
  fp8sim.sums.operand(fp8sim.sums.draw(next, k, positive), format, core.scale_block, scale, fp8sim.arithmetic.round));
return { sides, sums: [0, 2 * core.step].map((promoteEvery) => fp8sim.sums.chain(core, ...sides, { promoteEvery })) };
"""


@in_browser
@pytest.mark.parametrize("positive", [True, False], ids=["positive", "both signs"])
@pytest.mark.parametrize("name", TENSOR_CORES)
def test_every_core_sums_the_numbers_that_are_drawn_as_the_library_does(page, name, positive):
    core, k, seed = TENSOR_CORES[name], 192, 7
    found = page.run(DRAW, k, positive, seed, name)
    rng = Xorshift(seed)
    (a, a_scales), (b, b_scales) = (operand(rng.draw(k, positive), core) for _ in "ab")
    assert [side["values"] for side in found["sides"]] == [a.tolist(), b.tolist()]
    options = {"a_format": core.formats[0], "b_format": core.formats[0]}
    if core.scale_format:
        assert found["sides"][0]["scales"] == np.repeat(a_scales, core.scale_block).tolist()
        options["scales"] = a_scales[None], b_scales[:, None]
    expected = [
        tensor_core_matmul(a[None], b[:, None], core, promote_every=every, **options)[0, 0]
        for every in (None, 2 * core.step)
    ]
    assert found["sums"] == [float(x) for x in expected]


# --- part 3 ---------------------------------------------------------------------------------------


def told(page) -> str:
    return page.run("return document.querySelector('[role=tabpanel]:not([hidden]) .told').innerText")


def text_of(page, selector: str) -> str:
    return page.run(
        "return document.querySelector('[role=tabpanel]:not([hidden])').querySelector(arguments[0]).innerText",
        selector,
    )


def show(page, address: str) -> None:
    page.run(
        "location.hash = arguments[0]; dispatchEvent(new HashChangeEvent('hashchange')); return 0", address
    )


def library_sum(positive: bool, every: int | None, k: int = 4096) -> tuple[float, float]:
    """The first dot product of the page: on the tensor core, and exact."""
    rng = Xorshift(1)
    a, b = (fp8sim.round_to(rng.draw(k, positive), "e4m3") for _ in "ab")
    return float(tensor_core_matmul(a[None], b[:, None], promote_every=every)[0, 0]), math.fsum(a * b)


@in_browser
@pytest.mark.parametrize("every", [None, 128])
@pytest.mark.parametrize("positive", [True, False])
def test_the_headline_is_what_the_library_gives(page, positive, every):
    numbers = "positive" if positive else "signs"
    show(page, f"#dot?numbers={numbers}&promote={every or 'none'}")
    found, exact = library_sum(positive, every)
    words = "too small" if abs(found) < abs(exact) else "too large"
    share = float(f"{100 * abs(found / exact - 1):.3g}")
    assert told(page).replace("\u00a0", " ") == (
        f"The tensor core\u2019s sum is {found:.6g}; it should be {exact:.6g}. It is {share:g} % {words}."
    )


@in_browser
def test_the_first_thing_seen_is_a_sum_seven_per_cent_too_small(page):
    found, exact = library_sum(True, None)
    assert round(100 * (1 - found / exact)) == 7
    assert f"{found:.6g}" in told(page)
    assert "all 16 sums of such numbers, too small: a bias" in text_of(page, ".why")


@in_browser
def test_the_curves_are_the_library_s_errors(page):
    """Their ends: root mean squares over the sixteen dot products that the numbers give."""
    rng = Xorshift(1)
    pairs = [[fp8sim.round_to(rng.draw(4096, False), "e4m3") for _ in "ab"] for _ in range(16)]
    show(page, "#dot?numbers=signs")
    labels = page.run(
        "return [...document.querySelectorAll('#panel-dot svg text.name')].map((e) => e.textContent)"
    )
    for every, label in ((None, "one chain"), (128, "promoted every 128")):
        sums = np.array(
            [tensor_core_matmul(a[None], b[:, None], promote_every=every)[0, 0] for a, b in pairs]
        )
        exact = np.array([math.fsum(a * b) for a, b in pairs])
        error = fp8sim.metrics.relative_error(sums, exact)
        assert f"{label}: {100 * error:.3g}\u00a0%" in labels


@in_browser
def test_bits_that_fall_off_are_those_that_explain_dot_counts(page):
    rng = Xorshift(1)
    a, b = (fp8sim.round_to(rng.draw(64, True), "e4m3") for _ in "ab")
    show(page, "#dot?k=64&rows=all&at=2&stage=cut")
    step = explain_dot(a, b, "hopper-fp8").steps[1]
    rows = page.run(
        """return [...document.querySelectorAll("#panel-dot .lanes tbody tr:not(.more)")].map((row) =>
        [row.querySelector(".kept").textContent, row.querySelector(".lost").textContent])"""
    )
    assert len(rows) == 33
    lost = 0
    for (kept, off), term in zip(rows, [*step.terms, step.carried], strict=True):
        written = term.kept[1:].replace(".", "").lstrip("0")
        assert kept == (written if term.lost else written.rstrip("0"))
        assert off == (term.lost if written else term.lost.lstrip("0"))
        lost += len(off)
    lost -= len(rows[-1][1])
    worth = sum(term.lost_value for term in step.terms)
    assert f"{lost} of the" in text_of(page, ".seen")
    assert f"in all worth {worth:.3g}." in text_of(page, ".seen")


@in_browser
def test_thirty_four_places_keep_every_product_of_e4m3_and_thirty_three_do_not(page):
    left, right = [[448, -448, 2.0**-9]], [[448], [448], [2.0**-9]]
    for bits, result in ((33, 0), (34, 2.0**-18)):
        core = dataclasses.replace(TENSOR_CORES["hopper-fp8"], name="what if", fraction_bits=bits)
        assert tensor_core_matmul(left, right, core)[0, 0] == result
        show(page, f"#dot?numbers=cancel&k=32&bits={bits}")
        words = {0: "is 0; it should be 2⁻¹⁸.", 2.0**-18: "is 2⁻¹⁸: exact."}
        assert words[result] in told(page)
    assert "from 2¹⁶ down to 2⁻¹⁸, so it takes 34 places" in text_of(page, ".why")


@in_browser
@pytest.mark.parametrize("numbers", ["positive", "signs", "cancel"])
def test_every_core_and_stage_can_be_shown(page, numbers):
    """Drawn apart from the address, of which Chromium takes only so many changes in a time."""
    shown = page.run(
        """const [cores, numbers] = arguments, part = fp8sim.parts.dot, found = [];
        for (const core of cores) for (const stage of ["products", "slide", "cut", "add"]) {
          const state = { ...part.defaults, core, numbers, stage, k: "100" }, root = document.createElement("section");
          part.mount(root, state, () => {})(state);
          found.push([core, root.querySelector(".told").textContent, root.textContent]);
        }
        return found;""",
        list(TENSOR_CORES),
        numbers,
    )
    assert len(shown) == 4 * len(TENSOR_CORES)
    for core, headline, text in shown:
        assert headline.startswith("The tensor core\u2019s sum is "), core
        assert not re.search("NaN|undefined|null|Infinity", text), core
    assert page.log("browser") == []


@in_browser
@pytest.mark.parametrize(
    "wild",
    [
        "#dot?core=toString&k=1e9&bits=99&length=0&promote=-1&at=0&seed=x&stage=y&numbers=z&rows=&output=__proto__",
        "#dot?k=99999999999&bits=1.5&promote=33&format=<img src=x onerror=alert(1)>",
        "#amdahl?model=__proto__&context=-1&speedup=abc&share=7",
        "#amdahl?model=<script>alert(1)</script>&context=1e99",
    ],
)
def test_a_state_that_makes_no_sense_is_as_if_it_were_not_there(page, wild):
    part = wild[1:].partition("?")[0]
    show(page, f"#{part}")
    before = page.run("return document.getElementById(arguments[0]).innerText", f"panel-{part}")
    show(page, wild)
    assert page.run("return document.getElementById(arguments[0]).innerText", f"panel-{part}") == before
    assert page.log("browser") == []


# --- part 4 ---------------------------------------------------------------------------------------


@in_browser
@pytest.mark.parametrize("model", MODELS)
def test_shares_are_those_of_the_library_at_every_context(page, model):
    for context in (1024, 4096, 5000, 32768, 131072):
        show(page, f"#amdahl?model={model}&context={context}")
        cost = fp8sim.model_cost(model, model if model in fp8sim.RECIPES else "deepseek-v3", seq_len=context)
        speedup = cost.ceilings[0].speedup
        why = text_of(page, ".why").replace("\u00a0", " ")
        assert why.startswith(f"{100 * cost.quantized_flops_share:.3g} % of the work of {model}")
        assert f"the whole becomes {speedup:.3g} times as fast" in why
        assert f"{100 / speedup:.3g} % of the time is left" in told(page).replace("\u00a0", " ")


@in_browser
@pytest.mark.parametrize(
    ("state", "said", "needs"),
    [
        ("model=own&share=1&speedup=2", "“Halved” holds: 50 % of the time is left.", ""),
        ("model=own&share=0.95&speedup=2", "“Halved” holds: 52.5 %", "would have to be 2.11 times as fast"),
        ("", "“Halved” holds in part: 57.4 %", "would have to be 2.42 times as fast, not 2"),
        ("context=131072", "“Halved” does not hold: 91.1 %", "No FP8 unit is fast enough"),
        ("model=own&share=0.5&speedup=4", "“Halved” holds in part: 62.5 %", "No FP8 unit is fast enough"),
        ("model=own&share=0.4&speedup=2", "“Halved” does not hold: 80 %", "60 % of the work stays"),
    ],
)
def test_what_is_left_of_the_sentence_is_decided_by_the_figures(page, state, said, needs):
    show(page, f"#amdahl?{state}")
    assert said in told(page).replace("\u00a0", " ")
    assert needs in text_of(page, ".why").replace("\u00a0", " ")
    left = float(re.search(r"([\d.]+)\s%", told(page))[1]) / 100
    words = {"holds": "“Halved” holds:", "partly": "holds in part", "does not hold": "does not hold"}
    assert words[HALVED(left)] in told(page)


# --- the keyboard, a finger, the eye --------------------------------------------------------------


def tab_to(page, name: str) -> None:
    """Press Tab until a control of that name has the focus, and see that one sees where it is."""
    focused = """const e = document.activeElement;
        return e.ariaLabel || (e.labels?.length ? e.labels[0].innerText : e.innerText)"""
    for _ in range(60):
        page.press("Tab")
        if page.run(focused).startswith(name):
            assert page.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"Tab never reaches {name!r}")


def address_of(page) -> str:
    return page.wait("setTimeout(() => arguments[0](location.hash), 250)")  # written five times a second


def reloaded(page, address: str) -> str:
    """What the page shows when it is opened at an address."""
    page.open("about:blank")
    page.open(address)
    return page.run("return document.querySelector('[role=tabpanel]:not([hidden])').innerText")


@in_browser
def test_a_dot_product_by_keyboard_alone(page):
    start = told(page)
    tab_to(page, "DeepSeek, promoted")
    page.press("Enter")
    assert address_of(page) == "#dot?numbers=signs&promote=128"
    assert told(page) != start
    tab_to(page, "2 Slide")
    page.press(" ")
    assert "stand in one column" in text_of(page, ".seen")
    tab_to(page, "Next")
    page.press("Enter", "Enter")
    assert "stage=add" in address_of(page)
    assert "added to the FP32 sum" in text_of(page, ".seen")
    tab_to(page, "Step")
    page.press("Home")
    assert "at=1&stage=add" in address_of(page)
    page.press("ArrowRight", "ArrowRight")
    assert "at=3" in address_of(page)
    tab_to(page, "Show all 32 rows")
    page.press("Enter")
    assert page.run("return document.querySelectorAll('#panel-dot .lanes tbody tr').length") == 34
    tab_to(page, "Places kept")
    page.press("ArrowRight")
    assert "bits=14" in address_of(page)
    tab_to(page, "Promotion")
    page.press("End")
    assert "promote=none" in address_of(page) or "promote" not in address_of(page)
    tab_to(page, "Products in a step")
    page.press("ArrowLeft")
    assert "length=16" in address_of(page)
    tab_to(page, "Products, k")
    page.press("ArrowLeft", "ArrowLeft")
    assert "k=1024" in address_of(page)
    tab_to(page, "Tensor core")
    page.press(*"volta-fp16")
    assert "core=volta-fp16" in address_of(page)
    shown = page.run("return document.getElementById('panel-dot').innerText")
    assert reloaded(page, page.run("return location.href")) == shown
    assert page.log("browser") == []


@in_browser
def test_rows_slide_from_their_own_exponent_under_the_largest(page):
    show(page, "#dot?stage=products")
    places = """return [...document.querySelectorAll("#panel-dot .lanes tbody .run")].map((run) =>
        new DOMMatrix(getComputedStyle(run).transform).e)"""
    page.run(
        "document.querySelectorAll('#panel-dot .run').forEach((run) => { run.mark = 1; run.style.transition = 'none'; }); return 0"
    )
    wide = page.run("return parseFloat(getComputedStyle(document.querySelector('#panel-dot .lane')).width)")
    columns = page.run(
        "return Number(document.querySelector('#panel-dot .lanes').style.getPropertyValue('--columns'))"
    )
    texts = page.run(
        "return [...document.querySelectorAll('#panel-dot .lanes tbody tr:not(.more) td:nth-child(4)')].map((e) => e.innerText)"
    )
    exponents = [int(text.replace("\u2212", "-")) for text in texts]
    shifts = [(e - max(exponents)) * wide / columns for e in exponents]
    assert min(shifts) < -5 * wide / columns
    assert page.run(places) == pytest.approx(shifts, abs=0.5)
    page.run("document.querySelectorAll('#panel-dot .segments')[1].children[1].click(); return 0")
    assert page.run(places) == [0] * len(exponents)
    assert page.run(
        "return [...document.querySelectorAll('#panel-dot .run')].every((run) => run.mark)"
    )  # the same rows


@in_browser
def test_play_goes_through_the_stages_and_stops_when_asked(page):
    show(page, "#dot?at=1&stage=products&k=64")
    tab_to(page, "Play")
    page.press("Enter")
    assert page.run("return document.activeElement.innerText") == "Pause"
    page.wait("const done = arguments[0]; setTimeout(() => done(0), 1400)")
    page.press("Enter")
    assert page.run("return document.activeElement.innerText") == "Play"
    assert "stage=slide" in address_of(page)
    page.press("Enter")
    page.wait(
        """const done = arguments[0], look = () =>
        [...document.querySelectorAll("#panel-dot button")].some((b) => b.innerText === "Pause")
          ? setTimeout(look, 100) : done(0); look()"""
    )
    assert "stage=add" in address_of(page)
    assert "Step: 2 of 2" in page.run("return document.getElementById('panel-dot').innerText")


def middle(page, selector: str, nth: int = 0) -> tuple[float, float]:
    """Where an element is once it has been scrolled to."""
    return tuple(
        page.run(
            """const e = document.querySelectorAll(arguments[0])[arguments[1]];
            e.scrollIntoView({ block: "center", behavior: "instant" });
            const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]""",
            selector,
            nth,
        )
    )


def wait_for(page, wanted: str) -> bool:
    """Whether the address comes to hold a text within a second."""
    script = """const [wanted, done] = arguments, start = performance.now();
        const look = () => location.hash.match(wanted) ? done(true)
          : performance.now() - start > 1000 ? done(false) : setTimeout(look, 20);
        look();"""
    return page.wait(script, wanted)


def tap(page, selector: str, nth: int, wanted: str) -> None:
    """Tap an element until the address matches: Chromium drops a made tap now and then, after another's drag."""
    for _ in range(4):
        page.touch(middle(page, selector, nth))
        if wait_for(page, wanted):
            return
    raise AssertionError(f"{address_of(page)} does not match {wanted!r}")


def drag_slider(page, selector: str, nth: int, share: float, wanted: str) -> None:
    wide = page.run(
        "return document.querySelectorAll(arguments[0])[arguments[1]].getBoundingClientRect().width",
        selector,
        nth,
    )
    for _ in range(4):
        x, y = middle(page, selector, nth)
        page.touch((x, y), (x + (share - 0.5) * (wide - 18), y))
        if wait_for(page, wanted):
            return
    raise AssertionError(f"{address_of(page)} does not match {wanted!r}")


@in_browser
def test_a_dot_product_by_touch(page):
    page.emulate(390)
    tap(page, "#panel-dot .segments button", 4, "numbers=cancel")
    drag_slider(page, "#panel-dot .sliders input[type=range]", 0, 1.0, "bits=40")
    assert "exact" in told(page)
    tap(page, "#panel-dot .segments button", 0, "^#dot$")
    tap(page, "#panel-dot svg.errors", 0, "at=")
    at = int(re.search(r"at=(\d+)", address_of(page))[1])
    assert 45 < at < 75  # the middle of the picture is not quite that of its axis
    tap(page, "#panel-dot .segments button", 8, "stage=add")
    assert page.log("browser") == []


@in_browser
def test_amdahl_by_keyboard_alone_and_by_touch(page):
    show(page, "#amdahl")
    tab_to(page, "Model")
    page.press(*"llama-3.1-8b")
    assert address_of(page) == "#amdahl?model=llama-3.1-8b"
    tab_to(page, "Context")
    page.press("End")
    assert "context=131072" in address_of(page)
    tab_to(page, "Share of the work")
    page.press("Home")
    assert "model=own" in address_of(page)
    assert told(page) == "“Halved” does not hold: 100\u00a0% of the time is left."
    page.press("End")
    tab_to(page, "Products of matrices")
    page.press("End")
    assert "speedup=4" in address_of(page)
    assert told(page) == "“Halved” holds: 25\u00a0% of the time is left."
    page.emulate(390)
    tap(page, "#panel-amdahl .segments button", 1, "context=32768")
    drag_slider(page, "#panel-amdahl input[type=range]", 2, 0.0, "speedup=1($|&)")
    assert told(page) == "“Halved” does not hold: 100\u00a0% of the time is left."
    shown = page.run("return document.getElementById('panel-amdahl').innerText")
    assert reloaded(page, page.run("return location.href")) == shown
    assert page.log("browser") == []


@in_browser
def test_nothing_is_asked_of_any_host(page, address):
    show(page, "#dot?core=blackwell-nvfp4")
    show(page, "#amdahl")
    messages = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("data:", "about:"))} <= {address, address + "#dot"}
    assert page.run("return performance.getEntriesByType('resource').length") == 0


STATES = [
    *(
        "dot",
        "dot?stage=products&at=1",
        "dot?stage=add&promote=128&rows=all",
        "dot?numbers=cancel&k=32&bits=33",
    ),
    *("dot?core=cdna2-fp16&numbers=signs", "dot?core=blackwell-nvfp4&numbers=signs"),
    *("amdahl", "amdahl?context=131072&model=llama-3.2-1b", "amdahl?model=own&share=1"),
]


@in_browser
@pytest.mark.parametrize("state", STATES)
def test_it_is_never_wider_than_the_screen_and_every_control_has_a_name(page, state):
    unnamed = """return [...document.querySelectorAll("input, select, button, [role=region], [role=img]")]
        .filter((e) => !(e.labels?.length || e.ariaLabel || e.innerText || e.getAttribute("aria-labelledby")))
        .map((e) => e.outerHTML.slice(0, 80))"""
    cut = """const panel = document.querySelector("[role=tabpanel]:not([hidden])");
        return [...panel.querySelectorAll("svg text")].filter((text) => {
          const box = text.getBoundingClientRect(), frame = text.ownerSVGElement.getBoundingClientRect();
          return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 2;
        }).map((text) => text.textContent)"""
    for width in (320, 390, 768, 1280):
        page.emulate(width)
        show(page, f"#{state}")
        assert page.run("return document.documentElement.scrollWidth") <= width
        assert page.run(unnamed) == []
        assert page.run(cut) == [], width  # no text of a picture is cut off


@in_browser
@pytest.mark.extra
@pytest.mark.skipif(not AXE.exists(), reason=NO_AXE)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_violation_of_wcag_aa(page, state, scheme):
    for width in (390, 1280):
        page.emulate(width, scheme)
        show(page, f"#{state}")
        assert violations(page) == [], width


@in_browser
@pytest.mark.parametrize("state", ["dot", "amdahl"])
def test_it_prints_dark_on_white_without_controls(page, state):
    page.emulate(1280, "dark", media="print")
    show(page, f"#{state}")
    assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        page.run("return getComputedStyle(document.querySelector('.part:not([hidden]) .sliders')).display")
        == "none"
    )
    assert (
        page.run("return document.querySelector('.part:not([hidden]) svg').getBoundingClientRect().height")
        > 50
    )
    assert base64.b64decode(page.devtools("Page.printToPDF", printBackground=True)["data"]).startswith(
        b"%PDF"
    )
