"""The report in headless Chromium: no error, no request, the keyboard alone, and the bits of `encode`."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fp8sim
from fp8sim import report
from fp8sim.experiments.claims import QUESTIONS, Claim, Claims
from fp8sim.experiments.claims.rounding import RoundingError
from fp8sim.experiments.claims.rules import HALVED
from fp8sim.formats import FORMATS
from fp8sim.quantization import SCALE_FORMATS
from fp8sim.reference.rounding import ROUNDINGS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
NO_BROWSER = "no browser: needs chromium and chromedriver (Debian: chromium, chromium-driver)"
pytestmark = pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason=NO_BROWSER)

PLANTED = "<!--<script></script ><script>alert(1)</script><img src=x onerror=alert(2)>"
KEYS = {
    "Tab": "\ue004",
    "Control": "\ue009",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
}
#: Formats of kinds that no built-in one is of.
MADE = {
    "flushing": fp8sim.FloatFormat("flushing", 4, 3, subnormals=False),
    "unsigned": fp8sim.FloatFormat("unsigned", 5, 3, signed=False),
}
ALL = {**FORMATS, **MADE}
DETERMINISTIC = [name for name in ROUNDINGS if name != "stochastic"]


class Browser:
    """Chromium through chromedriver's W3C WebDriver protocol, which is JSON over HTTP."""

    def __init__(self, port: int, profile: Path) -> None:
        self.root = f"http://127.0.0.1:{port}/session"
        flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        flags += "disable-component-update disable-sync disable-dev-shm-usage"
        options = {
            "binary": CHROMIUM,
            "args": [*(f"--{flag}" for flag in flags.split()), f"--user-data-dir={profile}"],
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self.root += f"/{self.call('', capabilities={'alwaysMatch': wanted})['sessionId']}"

    def call(self, path: str, **body: object) -> object:
        request = urllib.request.Request(
            f"{self.root}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def close(self) -> None:
        urllib.request.urlopen(urllib.request.Request(self.root, method="DELETE"), timeout=30).close()

    def open(self, url: str) -> None:
        self.call("/url", url=url)

    def run(self, script: str, *args: object) -> object:
        return self.call("/execute/sync", script=script, args=list(args))

    def log(self, kind: str) -> list[dict]:
        return self.call("/se/log", type=kind)

    def devtools(self, command: str, **parameters: object) -> dict:
        return self.call("/goog/cdp/execute", cmd=command, params=parameters)

    def press(self, *keys: str) -> None:
        """Press and release keys one after another; "Control+a" holds the first."""
        steps = []
        for key in keys:
            chord = [KEYS.get(name, name) for name in key.split("+")] if len(key) > 1 else [key]
            steps += [{"type": "keyDown", "value": name} for name in chord]
            steps += [{"type": "keyUp", "value": name} for name in reversed(chord)]
        self.call("/actions", actions=[{"type": "key", "id": "keyboard", "actions": steps}])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = subprocess.Popen([CHROMEDRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        started = (re.search(r"started successfully on port (\d+)", line) for line in driver.stdout)
        port = next(int(found[1]) for found in started if found)
        with contextlib.closing(Browser(port, tmp_path_factory.mktemp("profile"))) as session:
            yield session
    finally:
        driver.terminate()
        driver.wait(timeout=30)
        driver.stdout.close()


ROWS = (
    Claim(
        name="weights",
        question="bytes",
        what="bytes of weights",
        basis="counted",
        measured=0.5,
        unit="ratio",
        published=0.5,
        published_source="a report",
        rule=HALVED,
        why="One byte instead of two.",
    ),
    Claim(
        name="time",
        question="time",
        what=f"time {PLANTED}",
        basis="modelled",
        measured=0.7,
        unit="ratio",
        published=0.72,
        published_source=f"source {PLANTED}",
        rule=HALVED,
        range=(0.69, 0.71),
        why=f"reason {PLANTED}",
    ),
)
RESULT = Claims(
    sentence="FP8 halved it",
    bottom_line=("Bytes of weights halve (0.50).", f"bottom line {PLANTED}"),
    answers=dict.fromkeys(QUESTIONS.values(), f"answer {PLANTED}"),
    rows=ROWS,
    rounding=tuple(
        RoundingError(data, fmt, scaling, 0.0261, 0.0262, 0.0263, 0.0317, 0.0319)
        for data in ("activations of real layers", f"rounding {PLANTED}")
        for fmt in ("e4m3", "e2m1")
        for scaling in ("tensor", "row", "1x128")
    ),
    device="H800 SXM",
    seed=0,
    data=(f"data {PLANTED}", "weights.safetensors"),
    environment={"machine": "x86_64"},
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for fmt in (*MADE.values(), fp8sim.FloatFormat(PLANTED, 4, 3)):
            patch.setitem(FORMATS, fmt.name, fmt)
        return report.write_report(RESULT, tmp_path_factory.mktemp("report") / "report.html").as_uri()


@pytest.fixture
def page(browser, address):
    browser.open("about:blank")
    browser.log("browser")
    browser.log("performance")
    browser.open(address)
    return browser


def test_the_page_loads_without_an_error_and_asks_no_host_for_anything(page, address):
    page.run("document.getElementById('number').value = '7'; return 0")
    assert page.log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {address}
    assert page.run("return performance.getEntriesByType('resource').length") == 0


def test_the_policy_stops_a_script_that_asks_a_host(page):
    script = "return fetch('http://127.0.0.1:9/').then(() => 'sent', (problem) => problem.name)"
    assert page.run(script) == "TypeError"
    assert "Content Security Policy" in json.dumps(page.log("browser"))


def test_planted_markup_is_shown_and_not_run(page):
    shown = page.run("return document.body.innerText")
    for where in ("bottom line", "time", "reason", "source", "rounding", "data"):
        assert f"{where} {PLANTED}" in shown
    assert shown.count(f"answer {PLANTED}") == 2 * len(QUESTIONS)  # at the top, and above the rows
    assert page.run("return [document.scripts.length, document.images.length]") == [2, 0]
    assert (
        page.run("document.querySelectorAll('#formats input').forEach((box) => box.click()); return 0") == 0
    )
    assert PLANTED in page.run("return document.getElementById('cards').innerText")
    assert page.log("browser") == []


# --- the bits -------------------------------------------------------------------------------------


def inputs() -> np.ndarray:
    """Every kind of float64: all binades, ties of every format and their neighbours, ends, specials."""
    rng = np.random.default_rng(2_209_05433)
    everywhere = np.ldexp(rng.uniform(1, 2, 300), rng.integers(-1074, 1024, 300))
    usual = np.ldexp(rng.uniform(1, 2, 300), rng.integers(-30, 20, 300))
    ties = []
    for fmt in ALL.values():
        codes = np.unique(np.r_[0:4, rng.integers(0, 2 ** (fmt.bits - fmt.signed) - 1, 12)]).astype(
            fmt.code_dtype
        )
        low, high = (
            fp8sim.decode(c, fmt).astype(np.float64) for c in (codes, codes + fmt.code_dtype.type(1))
        )
        middle = (low + high)[np.isfinite(low + high)] / 2
        top = fmt.max + np.ldexp(1.0, fmt.emax - fmt.mantissa_bits - 1)  # where overflow begins
        tiny = fmt.smallest_subnormal / 2
        ties += [middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf), low[np.isfinite(low)]]
        ties += [[fmt.max, top, np.nextafter(top, 0), np.nextafter(top, np.inf), tiny, np.nextafter(tiny, 1)]]
    ends = [0.0, np.inf, np.nan, 5e-324, np.finfo(np.float64).max, 2.0**-1022]
    magnitudes = np.concatenate([everywhere, usual, *ties, ends])
    signs = np.where(rng.random(magnitudes.size) < 0.5, -1.0, 1.0)
    return np.concatenate([np.copysign(magnitudes, signs), ends, np.negative(ends)])


VALUES = inputs()
TEXTS = ["-nan" if np.isnan(v) and np.signbit(v) else repr(float(v)) for v in VALUES]


def codes_of(values: np.ndarray, name: str, rounding: str, overflow: str | None) -> list[int | None]:
    """What `fp8sim.encode` gives for each value; None where it refuses."""
    fmt = ALL[name]
    try:
        codes = fp8sim.encode(values, fmt, rounding=rounding, overflow=overflow)
    except ValueError:  # no NaN in the format: ask one by one
        if values.size == 1:
            return [None]
        return [code for v in values for code in codes_of(v[None], name, rounding, overflow)]
    return [int(code) for code in codes.view(fmt.code_dtype)]


READ_CARDS = """
const [texts, names] = arguments, number = document.getElementById("number");
for (const box of document.querySelectorAll("#formats input"))
  if (box.checked !== names.includes(box.value)) box.click();
return texts.map((text) => {
  number.value = text;
  number.dispatchEvent(new Event("input", { bubbles: true }));
  return [...document.querySelectorAll(".card")].map((card) => {
    const bits = [...card.querySelectorAll(".bits .sign, .bits .exponent, .bits .mantissa")];
    return [card.dataset.format, bits.map((part) => part.textContent).join(""),
      card.querySelector(".hex")?.textContent ?? null];
  });
});
"""


def test_the_cards_show_the_bits_of_encode_for_every_format(page):
    shown = page.run(READ_CARDS, TEXTS, list(ALL))
    assert len(shown) == len(VALUES) > 1000
    for column, (name, fmt) in enumerate(ALL.items()):
        expected = codes_of(VALUES, name, "nearest-even", None)
        for text, cards, code in zip(TEXTS, shown, expected, strict=True):
            bits = "" if code is None else f"{code:0{fmt.bits}b}"
            hexadecimal = None if code is None else f"0x{code:0{-(-fmt.bits // 4)}x}"
            assert cards[column] == [name, bits, hexadecimal], (name, text)
    assert page.log("browser") == []


def test_the_inputs_hold_ties_overflow_and_signed_zeros():
    for name in ("e4m3", "e5m2", "fp16", "bf16"):
        away, even = (codes_of(VALUES, name, r, "saturate") for r in ("nearest-away", "nearest-even"))
        assert sum(a != e for a, e in zip(away, even, strict=True)) >= 4
        assert codes_of(VALUES, name, "nearest-even", "ieee") != even
    assert {"0.0", "-0.0", "inf", "-inf", "nan", "-nan"} <= set(TEXTS)


@pytest.mark.parametrize("overflow", ["saturate", "ieee"])
@pytest.mark.parametrize("rounding", DETERMINISTIC)
def test_every_rounding_and_overflow_policy_gives_the_codes_of_encode(page, rounding, overflow):
    script = """const [texts, names, rounding, overflow] = arguments;
        return names.map((name) => texts.map((text) => window.fp8sim.encode(text, name, rounding, overflow)));"""
    for name, codes in zip(ALL, page.run(script, TEXTS, list(ALL), rounding, overflow), strict=True):
        expected = codes_of(VALUES, name, rounding, overflow)
        wrong = [t for t, c, e in zip(TEXTS, codes, expected, strict=True) if c != e]
        assert wrong == [], name


BLOCK = [float(x) for x in np.random.default_rng(8).standard_normal(40) * 2.0 ** np.arange(-30, 10)]
BLOCK += [0.0, -0.0, 2.0**-140, -5e-324]
SCALINGS = [
    (scale_format, rule)
    for scale_format, rules in SCALE_FORMATS.items()
    for rule in rules
    if not rule.startswith("4over6")
]


@pytest.mark.parametrize(("scale_format", "rule"), SCALINGS)
def test_blocks_have_the_scales_codes_and_values_of_quantize(page, scale_format, rule):
    script = """const [values, name, scaling, size] = arguments;
        const numbers = values.map(Number), result = window.fp8sim.quantize(numbers, name, scaling, size);
        const keep = (x) => (Object.is(x, -0) ? "-0" : x); // JSON has no -0
        return [result.saturated, result.flushed, result.elements.map((e) => [e.scale, e.code, keep(e.value)])];"""
    texts = [repr(x) for x in BLOCK]
    for name, size in itertools.product(("e4m3", "e5m2", "e2m1", "e2m3", "bf16"), (1, 4, 16, len(BLOCK))):
        saturated, flushed, elements = page.run(
            script, texts, name, {"format": scale_format, "rule": rule}, size
        )
        q = fp8sim.quantize(np.array(BLOCK), name, f"1x{size}", scale_format=scale_format, scale_rule=rule)
        scales = np.repeat(q.scales, size)[: len(BLOCK)].astype(np.float64)
        values = ["-0" if v == 0 and np.signbit(v) else v for v in q.dequantize(np.float64)]
        assert (saturated, flushed) == (q.saturated, q.flushed)
        expected = zip(scales, q.codes.view(q.fmt.code_dtype), values, strict=True)
        assert [tuple(e) for e in elements] == [(s, int(c), v) for s, c, v in expected], (name, size)


def test_arrow_keys_walk_through_every_value_of_a_format(page):
    script = """const number = document.getElementById("number"), seen = [];
        for (const box of document.querySelectorAll("#formats input"))
          if (box.checked !== (box.value === arguments[0])) box.click();
        number.value = arguments[1];
        for (let i = 0; i < 300 && seen.at(-1) !== number.value; i++) {
          seen.push(number.value);
          number.dispatchEvent(new KeyboardEvent("keydown", { key: arguments[2], bubbles: true }));
        }
        return seen;"""
    values = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(float)
    values = np.unique(values[np.isfinite(values)])
    assert [float(v) for v in page.run(script, "e4m3", "-448", "ArrowUp")] == values.tolist()
    assert [float(v) for v in page.run(script, "e4m3", "448", "ArrowDown")] == values[::-1].tolist()
    assert [float(v) for v in page.run(script, "e8m0", "1e-40", "ArrowUp")][:3] == [
        1e-40,
        2.0**-127,
        2.0**-126,
    ]


# --- what it says ---------------------------------------------------------------------------------


def one_card(page, text: str, name: str, rounding: str = "nearest-even", overflow: str = "default") -> str:
    page.run(
        """for (const [id, value] of [["rounding", arguments[0]], ["overflow", arguments[1]]]) {
          document.getElementById(id).value = value;
        } return 0""",
        rounding,
        overflow,
    )
    page.run(READ_CARDS, [text], [name])
    return page.run("return document.querySelector('.card').innerText").replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "name", "options", "said"),
    [
        (
            "0.3",
            "e4m3",
            {},
            "It lies above the midpoint 0.296875, so it becomes the nearer neighbour, 0.3125.",
        ),
        ("1/3", "e4m3", {}, "becomes 0.34375 reads +1.375 \u00d7 2^-2"),
        (
            "2^-10",
            "e4m3",
            {},
            "exactly on the midpoint 0.0009765625, so it becomes the one whose last bit is 0, 0.",
        ),
        ("-2^-9", "e4m3", {}, "reads -0.125 \u00d7 2^-6 (subnormal)"),
        (
            "464",
            "e4m3",
            {},
            "exactly on the overflow point 464, so it becomes the one whose last bit is 0, 448.",
        ),
        ("465", "e4m3", {}, "Beyond the largest value 448 even after rounding: it saturates at 448."),
        ("465", "e4m3", {"overflow": "ieee"}, "it overflows to NaN."),
        ("-61440", "e5m2", {"overflow": "ieee"}, "it overflows to -infinity."),
        ("1e6", "e5m2", {"rounding": "toward-zero", "overflow": "ieee"}, "toward-zero stops at 57344."),
        ("inf", "e4m3", {}, "Infinity saturates at the largest finite value and becomes 448."),
        ("inf", "e4m3", {"overflow": "ieee"}, "e4m3 has no infinity: it becomes NaN."),
        ("0.5", "e4m3", {}, "A value of e4m3: nothing is lost."),
        ("0.3", "e4m3", {"rounding": "toward-zero"}, "it becomes 0.28125."),
        ("nan", "e2m1", {}, "Refused: the format has no NaN."),
        ("-1", "unsigned", {}, "unsigned has no negative numbers: the result is NaN."),
        ("0.0146", "flushing", {}, "lies short of the flush point 0.0146484375: it becomes 0."),
        ("-1", "e8m0", {}, "neither zero nor negative numbers: the result is NaN."),
        ("1e-40", "e8m0", {}, "The smallest value of e8m0 is 5.877471754111438e-39: it has no zero."),
    ],
)
def test_a_card_says_why(page, text, name, options, said):
    assert said in one_card(page, text, name, **options)


def test_a_scale_moves_a_number_into_the_range_and_back(page):
    set_scale = """const slider = document.getElementById("scale"); slider.value = arguments[0];
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        return document.querySelector(".card").innerText.replaceAll("\\n", " ")"""
    assert "0x00" in one_card(page, "0.0003", "e4m3")
    scaled = page.run(set_scale, -10)
    expected = float(fp8sim.round_to(0.0003 * 2**10, "e4m3"))
    assert f"becomes {expected} \u00d7 2^-10 = {expected / 2**10}" in scaled
    assert f"relative error {100 * abs(expected / 2**10 / 0.0003 - 1):.3g} %" in scaled


def test_what_is_no_number_is_said_and_the_cards_go(page):
    for text in ("0,3", "abc", "", "1e", "--1", "0x10", "1/2/3"):
        page.run(READ_CARDS, [text], ["e4m3"])
        problem = page.run("return document.getElementById('number-problem').textContent")
        assert problem == f"“{text}” is no number: write it like 0.3"
        assert page.run("return document.querySelectorAll('.card').length") == 0
        assert page.run("return document.getElementById('number').getAttribute('aria-invalid')") == "true"
    page.run(READ_CARDS, ["0.3"], ["e4m3"])
    assert page.run("return document.getElementById('number-problem').textContent") == ""


WRITE_BLOCK = """for (const [id, value] of Object.entries(arguments[0])) {
  const control = document.getElementById(id);
  control.value = value;
  control.dispatchEvent(new Event("input", { bubbles: true }));
}
return ["block-summary", "block-problem"].map((id) => document.getElementById(id).textContent)"""


def test_blocks_are_compared_with_one_scale_for_all(page):
    controls = {"block": "1 -0.3, 0.002; 1e6", "block-format": "e4m3", "block-size": "2"}
    summary, problem = page.run(WRITE_BLOCK, controls)
    assert problem == ""
    x = np.array([1, -0.3, 0.002, 1e6])
    for words, granularity in (("A scale for every 2", "1x2"), ("One for all 4", "tensor")):
        q = fp8sim.quantize(x, "e4m3", granularity)
        error = np.mean(np.abs(q.dequantize(np.float64) / x - 1))
        expected = (
            rf"{words}: mean relative error ([\d.]+) %, {q.saturated} saturated, {q.flushed} flushed to 0\."
        )
        assert float(re.search(expected, summary)[1]) == pytest.approx(100 * error, rel=0.005)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("1 x 2", "“x” is no number"),
        ("", "Write at least one number."),
        ("1 inf", "A block that holds NaN or infinity has no scale."),
        ("1 " * 513, "At most 512 numbers, not 513."),
        ("1e300", "needs a scale beyond FP32"),
    ],
)
def test_a_block_that_cannot_be_scaled_says_why(page, block, said):
    summary, problem = page.run(WRITE_BLOCK, {"block": block})
    assert said in problem
    assert summary == ""
    assert page.run("return document.querySelectorAll('#block-table tbody tr').length") == 0
    assert page.log("browser") == []


# --- the keyboard, the phone, the dark, the printer -----------------------------------------------


def test_everything_can_be_done_by_keyboard_alone(page):
    def focused() -> str:
        return page.run("const e = document.activeElement; return e.id || e.value || e.textContent")

    def tab_to(wanted: str) -> None:
        for _ in range(80):
            page.press("Tab")
            if focused() == wanted:
                outline = "return getComputedStyle(document.activeElement).outlineStyle"
                assert page.run(outline) != "none"  # one sees where one is
                return
        raise AssertionError(f"Tab never reaches {wanted}")

    def summary() -> str:
        return page.run("return document.getElementById('number-summary').textContent")

    page.press("Tab")
    assert focused() == "Skip to the verdicts"
    tab_to("number")
    page.press("Control+a", *"464")
    assert "e4m3 448" in summary()
    page.press("ArrowDown")  # bf16 is the first format chosen
    assert page.run("return document.getElementById('number').value") == "462"
    tab_to("e4m3")
    page.press(" ")
    assert "e4m3" not in summary()
    tab_to("rounding")
    page.press("t")  # toward-zero
    assert page.run("return document.getElementById('rounding').value") == "toward-zero"
    tab_to("scale")
    page.press("ArrowRight")
    assert "2^1" in page.run("return document.getElementById('scale-value').textContent")
    tab_to("block")
    page.press("Control+a", *"1 2 3")
    tab_to("block-size")
    assert "for all 3" in page.run("return document.getElementById('block-summary').textContent")


def test_every_control_has_a_name(page):
    script = """return [...document.querySelectorAll("input, select, textarea, [role=region], [role=img]")]
        .filter((e) => !(e.labels?.length || e.ariaLabel || e.getAttribute("aria-labelledby")))
        .map((e) => e.outerHTML.slice(0, 80))"""
    assert page.run(script) == []
    tree = page.devtools("Accessibility.getFullAXTree")["nodes"]
    roles = {"textbox", "checkbox", "combobox", "slider", "link", "image"}
    named = [node for node in tree if node["role"]["value"] in roles and not node["ignored"]]
    assert len(named) > 30
    assert [n["role"]["value"] for n in named if not n.get("name", {}).get("value")] == []
    assert sum(node["role"]["value"] == "row" and not node["ignored"] for node in tree) >= len(ROWS)


def emulate(page, width: int, scheme: str = "light") -> None:
    page.devtools(
        "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=2, mobile=width < 500
    )
    page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


@pytest.fixture
def emulated(page):
    yield page
    page.devtools("Emulation.clearDeviceMetricsOverride")
    page.devtools("Emulation.setEmulatedMedia", media="", features=[])


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(emulated, width):
    emulate(emulated, width)
    assert emulated.run("return document.documentElement.scrollWidth") <= width


def test_a_phone_keeps_the_table_a_table_for_screen_readers(emulated):
    emulate(emulated, 390)
    assert emulated.run("return getComputedStyle(document.querySelector('#row-1')).display") == "grid"
    tree = emulated.devtools("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in tree if not node["ignored"]]
    assert roles.count("columnheader") >= 6
    assert roles.count("row") >= 1 + len(ROWS)
    left = """return ["th", "[data-label=ours]", ".verdict"].map((part) =>
        document.querySelector("#row-1").querySelector(part).getBoundingClientRect().left)"""
    assert len(set(emulated.run(left))) == 1  # what stands below a figure stands in its column
    smallest = """return Math.min(...[...document.querySelectorAll(".picture")].map((figure) =>
        12 * figure.querySelector("svg").getBoundingClientRect().width / 360))"""
    assert emulated.run(smallest) >= 11  # CSS pixels of the pictures' type


def test_the_dark_scheme_turns_paper_and_ink(emulated):
    paper = "return getComputedStyle(document.body).backgroundColor"
    emulate(emulated, 1280)
    assert emulated.run(paper) == "rgb(255, 255, 255)"
    emulate(emulated, 1280, "dark")
    assert max(int(c) for c in re.findall(r"\d+", emulated.run(paper))) < 40


def test_it_prints_the_verdicts_and_pictures_dark_on_white(emulated):
    emulated.devtools(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    assert emulated.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert emulated.run("return getComputedStyle(document.getElementById('explorer')).display") == "none"
    assert emulated.run("return document.getElementById('verdicts').getBoundingClientRect().height") > 50
    pdf = base64.b64decode(emulated.devtools("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
