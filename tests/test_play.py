"""The interactive page in headless Chromium: the library's bits, the keyboard alone, a finger, no error, no request."""

from __future__ import annotations

import base64
import inspect
import json
import math
import re

import numpy as np
import pytest

import fp8sim
from browser import AXE, MISSING, NO_AXE, NO_BROWSER, violations
from fp8sim.formats import FORMATS, INT8
from fp8sim.play import PARTS
from fp8sim.play.page import page_sources
from fp8sim.quantization import SCALE_FORMATS
from fp8sim.reference.codes import encode_reference
from fp8sim.reference.rounding import ROUNDINGS, round_reference

in_browser = pytest.mark.skipif(MISSING, reason=NO_BROWSER)

PLANTED = "<!--<script></script ><img src=x onerror=alert(2)>"
#: Formats of kinds that no built-in one is of, one with a name that means to do harm.
MADE = [
    fp8sim.FloatFormat("flushing", 4, 3, subnormals=False),
    fp8sim.FloatFormat("unsigned", 5, 3, signed=False),
    fp8sim.FloatFormat(PLANTED, 4, 3),
]
ALL = {fmt.name: fmt for fmt in [*FORMATS.values(), INT8, *MADE]}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for fmt in MADE:
            patch.setitem(FORMATS, fmt.name, fmt)
        return fp8sim.play().save(tmp_path_factory.mktemp("play") / "play.html")


@pytest.fixture
def page(browser, file):
    """The page with nothing open yet; no test leaves an error behind or asks a host for anything."""
    browser.emulate_nothing()
    browser.log("browser")
    browser.log("performance")
    show(browser, file)
    yield browser
    assert browser.log("browser") == []
    assert browser.run("return window.problems") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} <= {
        file.as_uri(),
        "about:blank",
    }
    assert browser.run("return performance.getEntriesByType('resource').length") == 0


def show(browser, file, address: str = "") -> None:
    """Open the page anew at an address."""
    browser.open("about:blank")
    browser.open(f"{file.as_uri()}#{address}")
    browser.run(
        "window.problems = []; window.onerror = (message) => { window.problems.push(message); }; return 0"
    )


def told(page) -> str:
    return page.run("return document.querySelector('.part:not([hidden]) .told').textContent")


def address(page) -> str:
    # It is written five times a second.
    return page.wait("setTimeout(() => arguments[0](location.hash.slice(1)), 250)")


# --- the page as Python sees it -------------------------------------------------------------------


def test_the_page_is_one_file_that_names_no_host(tmp_path):
    page = fp8sim.play("block", granularity="1x32", format=["e4m3", fp8sim.get_format("e5m2")])
    assert page.address == "block?granularity=1x32&format=e4m3,e5m2"
    assert page.save(tmp_path / "play.html").read_text(encoding="utf-8") == page.html
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.html)
    assert "default-src 'none'" in page.html
    assert len(page.html) < 300_000


def test_the_page_is_told_every_format_and_its_scripts_hold_none(monkeypatch):
    monkeypatch.setitem(FORMATS, "mine", fp8sim.FloatFormat("mine", 3, 2, bias=5))
    text = re.search(r'<script type="application/json" id="play-data">(.*?)</script>', fp8sim.play().html)[1]
    described = json.loads(text)["formats"]
    assert list(described) == [*FORMATS, "int8"]
    assert (described["mine"]["bias"], described["mine"]["overflow"], described["fp16"]["overflow"]) == (
        5,
        "saturate",
        "ieee",
    )
    _, script = page_sources()
    assert not re.search(r"\b(448|57344|65504|61440|127\.0|3\.4028)", script)


def test_a_notebook_shows_it_in_a_frame_that_reaches_nothing_around_it():
    shown = fp8sim.play(value=0.1)._repr_html_()
    assert re.match(r'<iframe title="fp8sim play" sandbox="allow-scripts" ', shown)
    assert "number?value=0.1" in shown
    assert (
        repr(fp8sim.play())
        == "<fp8sim.play('number'): shown in a notebook; .save('play.html') for a browser>"
    )


def test_numbers_of_all_kinds_become_an_address():
    values = [0.1, np.float32(0.1), 3, math.nan, -math.inf, "1/3", (1, 2.5)]
    written = [fp8sim.play(value=value).state["value"] for value in values]
    assert written == ["0.1", "0.10000000149011612", "3", "nan", "-inf", "1/3", "1,2.5"]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"part": "numbr"}, ValueError, "unknown part of the page 'numbr'; did you mean 'number'"),
        ({"part": 3}, ValueError, "part of the page"),
        ({"valeu": 3}, TypeError, "the part 'number' has no 'valeu'; it has value, format"),
        ({"value": None}, TypeError, "value must be a number, got None"),
        ({"value": [1, {}]}, TypeError, "value must be a number"),
    ],
)
def test_what_makes_no_sense_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        fp8sim.play(**call)


def test_the_package_is_called_as_the_function_whichever_was_loaded_first():
    assert inspect.ismodule(fp8sim.play)
    assert inspect.signature(fp8sim.play) == inspect.signature(fp8sim.play.play)
    assert fp8sim.play("block") == fp8sim.play.play("block")


# --- the bits -------------------------------------------------------------------------------------


def hard_numbers(fmt: fp8sim.FloatFormat, count: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers that a format finds hard: values, ties and what is beside both, ends, other binades, specials."""
    codes = rng.integers(0, fmt.top_code + 1, count).astype(np.uint32)
    low, high = (
        fp8sim.decode(c.astype(fmt.code_dtype), fmt).astype(np.float64)
        for c in (codes, np.minimum(codes + 1, fmt.top_code))
    )
    top = fmt.max + np.ldexp(1.0, fmt.emax - fmt.mantissa_bits - 1)  # where overflow begins
    middle = (low + high) / 2
    usual = np.ldexp(
        rng.uniform(1, 2, count), rng.integers(fmt.emin - fmt.mantissa_bits - 2, fmt.emax + 3, count)
    )
    everywhere = np.ldexp(rng.uniform(1, 2, count), rng.integers(-1074, 1024, count))
    ends = [0.0, np.inf, np.nan, 5e-324, np.finfo(np.float64).max, fmt.max, top, fmt.smallest_subnormal / 2]
    kinds = [
        low,
        middle,
        np.nextafter(middle, 0),
        np.nextafter(middle, np.inf),
        usual,
        everywhere,
        rng.choice(ends, count),
    ]
    kinds.append(np.nextafter(rng.choice(ends[-3:], count), rng.choice([0, np.inf], count)))
    magnitudes = rng.permutation(np.concatenate(kinds))[:count]
    return np.where(np.isnan(magnitudes), np.nan, np.copysign(magnitudes, rng.choice([-1.0, 1.0], count)))


def text_of(x: float) -> str:
    return (
        "NaN"
        if math.isnan(x)
        else "Infinity"
        if x == math.inf
        else "-Infinity"
        if x == -math.inf
        else repr(float(x))
    )


ROUND_ALL = """const [cases] = arguments, a = fp8sim.arithmetic;
const text = (x) => x === null ? null : Object.is(x, -0) ? "-0" : String(x);
return cases.map(([format, rounding, overflow, xs, draws]) => xs.map((x, i) => {
  const value = a.round(Number(x), format, rounding, overflow, draws[i]);
  const code = a.encode(Number(x), format, rounding, overflow, draws[i]);
  return [code, text(value), code === null ? null : text(a.decode(code, format))];
}));"""


@in_browser
def test_ten_thousand_numbers_become_the_bits_of_the_library(page):
    rng = np.random.default_rng(2_209_05433)
    cases, expected, total = [], [], 0
    for fmt in ALL.values():
        for rounding in ROUNDINGS:
            for overflow in ("saturate", "ieee"):
                x = hard_numbers(fmt, 48, rng)
                draws = rng.random(x.size)
                values = round_reference(x, fmt, rounding, overflow, draws)
                codes = encode_reference(values, fmt)
                if rounding != "stochastic" and fmt.has_nan:  # the public function says the same
                    assert np.array_equal(
                        fp8sim.encode(x, fmt, rounding=rounding, overflow=overflow).view(codes.dtype), codes
                    )
                refused = np.isnan(values) & (not fmt.has_nan)
                cases.append((fmt.name, rounding, overflow, [text_of(v) for v in x], draws.tolist()))
                expected.append([None if lost else int(c) for c, lost in zip(codes, refused, strict=True)])
                total += x.size
    assert total > 10_000
    found = page.run(ROUND_ALL, cases)
    for case, results, codes in zip(cases, found, expected, strict=True):
        wrong = [(x, r[0], c) for x, r, c in zip(case[3], results, codes, strict=True) if r[0] != c]
        assert wrong == [], case[:3]
        assert [value for _, value, _ in results] == [
            decoded for _, _, decoded in results
        ]  # codes mean their values


@in_browser
@pytest.mark.parametrize(
    "fmt", [fmt for fmt in ALL.values() if fmt.bits <= 16], ids=lambda fmt: f"{fmt.bits} {fmt.name[:8]}"
)
def test_every_code_of_at_most_16_bits_means_its_value(page, fmt):
    script = """const [name, count] = arguments, text = (x) => Object.is(x, -0) ? "-0" : String(x);
        return Array.from({ length: count }, (_, code) => text(fp8sim.arithmetic.decode(code, name)));"""
    values = fp8sim.decode(np.arange(2**fmt.bits, dtype=fmt.code_dtype), fmt).astype(float)
    shown = page.run(script, fmt.name, 2**fmt.bits)
    assert np.array_equal([float(text) for text in shown], values, equal_nan=True)
    assert [text[0] == "-" for text in shown] == [bool(np.signbit(v) and not np.isnan(v)) for v in values]


def rules() -> list[tuple[str, str]]:
    return [(scale_format, rule) for scale_format, names in SCALE_FORMATS.items() for rule in names]


QUANTIZE_ALL = """const [cases] = arguments;
const text = (x) => Object.is(x, -0) ? "-0" : String(x);
return cases.map(([values, options]) => {
  let r;
  try {
    r = fp8sim.arithmetic.quantize(values.map(Number), options);
  } catch (problem) {
    return problem.name;
  }
  return [r.saturated, r.flushed, r.elements.map((e) => [String(e.scale), e.code, text(e.value)])];
});"""


@in_browser
def test_a_thousand_blocks_have_the_scales_codes_and_values_of_the_library(page):
    rng = np.random.default_rng(1_604)
    formats = [fmt for fmt in ALL.values() if fmt.signed and fmt.zero and fmt.name != PLANTED]
    cases, expected = [], []
    for number in range(1100):
        scale_format, rule = rules()[number % len(rules())]
        nested = rule.startswith("4over6")
        fmt = fp8sim.get_format("e2m1") if nested else formats[int(rng.integers(len(formats)))]
        granularity = "1x16" if nested else str(rng.choice(["tensor", "row", "1x128", "1x32", "1x16", "1x3"]))
        rows, columns = int(rng.integers(1, 4)), int(rng.integers(1, 150))
        spread = float(rng.choice([0.0, 2.0, 12.0]))
        x = rng.standard_normal((rows, columns)) * 2.0 ** (
            rng.normal(scale=spread, size=(rows, columns)) + rng.integers(-40, 40)
        )
        x[rng.random(x.shape) < 0.05] = rng.choice([0.0, -0.0, 2.0**-140, -5e-324, 2.0**-126])
        if number % 7 == 0:
            x.flat[0] = fmt.max * 2.0 ** int(rng.integers(-10, 10))  # amax where ceil and floor part
        try:
            q = fp8sim.quantize(x, fmt, granularity, scale_format=scale_format, scale_rule=rule)
        except ValueError:
            expected.append("RangeError")
        else:
            scales = (
                np.repeat(q.scales, q.sizes[1], axis=1)[:, :columns]
                .repeat(q.sizes[0], axis=0)[:rows]
                .astype(float)
            )
            values = [
                "-0" if v == 0 and np.signbit(v) else float(v) for v in q.dequantize(np.float64).ravel()
            ]
            expected.append(
                [
                    q.saturated,
                    q.flushed,
                    list(zip(scales.ravel().tolist(), q.bits.ravel().tolist(), values, strict=True)),
                ]
            )
        options = {
            "format": fmt.name,
            "granularity": granularity,
            "columns": columns,
            "scaleFormat": scale_format,
            "rule": rule,
        }
        cases.append(([repr(float(v)) for v in x.ravel()], options))
    assert sum(answer != "RangeError" for answer in expected) > 1000
    found = page.run(QUANTIZE_ALL, cases)
    for (_, options), mine, theirs in zip(cases, found, expected, strict=True):
        if theirs == "RangeError":
            assert mine == theirs, options
            continue
        assert mine[:2] == theirs[:2], options
        assert [(float(s), c, v if v == "-0" else float(v)) for s, c, v in mine[2]] == theirs[2], options


@in_browser
def test_the_next_values_are_all_values_in_order(page):
    script = """const [name, from, direction] = arguments, seen = [];
        for (let x = from; x !== null && seen.length < 400; x = fp8sim.arithmetic.nextValue(x, direction, name)) seen.push(x);
        return seen;"""
    for fmt in ALL.values():
        if fmt.bits > 8:
            continue
        values = np.unique(fp8sim.decode(np.arange(2**fmt.bits, dtype=fmt.code_dtype), fmt).astype(float))
        values = [v for v in values.tolist() if math.isfinite(v) and abs(v) <= fmt.max]
        assert page.run(script, fmt.name, values[0], 1) == values, fmt.name
        assert page.run(script, fmt.name, values[-1], -1) == values[::-1], fmt.name


# --- what is said ---------------------------------------------------------------------------------


@in_browser
@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("value=0.3", "It lies above the midpoint 0.296875, so it goes to the nearer neighbour, 0.3125."),
        ("value=0.3", "0.3 becomes 0.3125 in E4M3: 4.17\u00a0% too large."),
        ("value=1/3", "becomes 0.34375 in E4M3"),
        ("value=0.296875", "A tie: it lies exactly on the midpoint 0.296875, so it goes to the one whose last bit is 0, 0.3125."),
        ("value=464", "A tie: it lies exactly on the overflow point 464, so it goes to the one whose last bit is 0, 448."),
        ("value=465", "Beyond the largest value 448 even after rounding: it saturates at 448."),
        ("value=465&overflow=ieee", "it overflows to NaN."),
        ("value=-61440&overflow=ieee&format=e5m2", "it overflows to -infinity."),
        ("value=1e6&overflow=ieee&format=e5m2&rounding=toward-zero", "toward-zero stops at 57344."),
        ("value=inf", "Infinity saturates at the largest finite value and becomes 448."),
        ("value=inf&overflow=ieee", "E4M3 has no infinity: it becomes NaN."),
        ("value=0.5", "A value of E4M3: nothing is lost."),
        ("value=0.3&rounding=toward-zero", "Rounded toward zero, to the neighbour nearer to zero: it becomes 0.28125."),
        ("value=nan&format=e2m1", "E2M1 has no NaN."),
        ("value=7&overflow=ieee&format=e2m1", "It overflows, and E2M1 has neither infinity nor NaN."),
        ("value=-1&format=unsigned", "UNSIGNED has no negative numbers: the result is NaN."),
        ("value=0.0146&format=flushing", "it lies short of the flush point 0.0146484375: it becomes 0."),
        ("value=-1&format=e8m0", "neither zero nor negative numbers: the result is NaN."),
        ("value=1e-40&format=e8m0", "The smallest value of E8M0 is 5.877471754111438e-39: it has no zero."),
        ("value=0.3&rounding=stochastic&draw=0.7", "up to 0.3125 with a chance of 60\u00a0%, down to 0.28125 with 40\u00a0%; with this random number it became 0.28125."),
        ("value=0x2a", "0.3125 becomes 0.3125 in E4M3: exactly itself."),
    ],
)  # fmt: skip
def test_a_number_is_told_what_it_becomes_and_why(page, file, state, said):
    show(page, file, f"number?{state}")
    assert said in page.run(
        "return document.querySelector('.told').textContent + ' ' + document.querySelector('.why').textContent"
    )


@in_browser
def test_planted_markup_is_shown_and_not_run(page, file):
    show(page, file, f"number?value={PLANTED}")
    assert f"\u201c{PLANTED}\u201d is no number" in page.run(
        "return document.getElementById('value-problem').textContent"
    )
    show(page, file, "number?format=" + PLANTED.replace("&", "%26"))
    assert PLANTED.upper() in told(page)
    assert page.run("return [document.scripts.length, document.images.length]") == [2, 0]


@in_browser
@pytest.mark.parametrize(
    "state",
    [
        "number?value=&format=nothing,,e5m2&rounding=sideways&overflow=never&draw=7&from=5&to=1",
        "number?value=0xfffff&constructor=1&__proto__=2",
        "number?value=1e999&from=1e308&to=1e309",
        "block?values=1,2,x&bar=99&granularity=2x2&scale=fp7&rule=4over6&format=e8m0",
        "block?set=5:NaN,999:3,7:0.5&bar=-1",
        "block?values=1e300,1e-300&format=e4m3",
        "constructor?value=1",
        "%%%?&&&=",
    ],
)
def test_an_address_that_makes_no_sense_is_taken_for_the_defaults(page, file, state):
    show(page, file, state)
    assert page.run("return document.querySelector('.part:not([hidden])').textContent.length") > 100


@in_browser
def test_the_address_restores_the_state(page, file):
    for state in (
        "number?value=-1e-3&format=e5m2,fp16&rounding=toward-zero&overflow=ieee&from=-0.002&to=0.001",
        "number?value=0x7d&format=e5m2",
        "block?set=5:9000&bar=40&granularity=1x32&scale=e8m0&rule=floor&format=int8,e4m3",
        "block?values=1,-2,0.003&bar=2&scale=e4m3",
    ):
        show(page, file, state)
        first = page.run("return document.getElementById('panels').innerText")
        assert address(page) == state
        page.run("location.hash = '#number'; return 0")
        page.run("location.hash = arguments[0]; return 0", f"#{state}")
        assert (
            page.run(
                "return new Promise((done) => setTimeout(() => done(document.getElementById('panels').innerText), 50))"
            )
            == first
        )


@in_browser
def test_a_long_drag_leaves_its_last_state_in_the_address(page, file):
    show(page, file, "amdahl")
    drag = """const slider = document.querySelector(".part:not([hidden]) input[type=range]");
        for (let i = 0; i < 600; i++) {
            slider.value = i % 2 ? slider.min : slider.max;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
        }
        return 0"""  # browsers take 200 new addresses in half a minute, and no more
    page.run(drag)
    assert "context=1024" in address(page)


@in_browser
def test_the_page_opens_as_python_says(browser, file, tmp_path):
    browser.open(fp8sim.play("block", granularity="row").save(tmp_path / "play.html").as_uri())
    assert "a scale for each row" in told(browser)


@in_browser
def test_a_frame_in_a_notebook_works_though_it_has_no_address(browser, tmp_path):
    notebook = tmp_path / "notebook.html"
    notebook.write_text(
        f"<!DOCTYPE html><title>x</title>{fp8sim.play(value=7)._repr_html_()}", encoding="utf-8"
    )
    browser.log("browser")
    browser.open(notebook.as_uri())
    browser.call("/frame", id=0)
    assert told(browser) == "7 becomes 7 in E4M3: exactly itself."
    browser.run("document.getElementById('tab-block').click(); return 0")
    assert "one scale for all" in told(browser)
    browser.call("/frame", id=None)
    assert browser.log("browser") == []


@in_browser
def test_every_part_has_the_state_that_python_knows(page):
    assert page.run(
        "return Object.entries(fp8sim.parts).map(([name, part]) => [name, Object.keys(part.defaults)])"
    ) == [[name, list(names)] for name, names in PARTS.items()]


@in_browser
def test_the_policy_stops_a_script_that_asks_a_host(browser, file):
    show(browser, file)
    script = "return fetch('http://127.0.0.1:9/').then(() => 'sent', (problem) => problem.name)"
    assert browser.run(script) == "TypeError"
    assert "Content Security Policy" in json.dumps(browser.log("browser"))


# --- the keyboard alone ---------------------------------------------------------------------------


def focused(page) -> str:
    return page.run(
        "const e = document.activeElement; return e.id || e.getAttribute('aria-label') || e.textContent"
    )


def tab_to(page, wanted: str) -> None:
    for _ in range(90):
        page.press("Tab")
        if focused(page) == wanted:
            return
    raise AssertionError(f"Tab never reaches {wanted}")


@in_browser
def test_a_number_can_be_played_with_by_keyboard_alone(page):
    page.press("Tab")
    assert focused(page) == "tab-number"
    tab_to(page, "value")
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.press("Control+a", *"464")
    assert told(page).startswith("464 becomes 448")
    page.press("ArrowDown", "ArrowDown")
    assert told(page).startswith("416 becomes 416")
    tab_to(page, "rounding")
    page.press("t")  # toward zero
    assert "rounding=toward-zero" in address(page)
    tab_to(page, "IEEE 754")
    page.press("Enter")
    assert "overflow=ieee" in address(page)
    tab_to(page, "Number on the ruler")
    page.press("ArrowRight", "ArrowRight", "ArrowRight")
    assert float(told(page).split()[0]) > 416
    page.press("PageDown", "PageDown")
    assert told(page).startswith("384 becomes 384")
    page.press("+")
    assert "from=" in address(page)
    tab_to(page, "bit-0")
    page.press(" ")
    assert told(page).startswith("416 becomes 416")  # one code on
    assert focused(page) == "bit-0"
    page.press(" ")
    tab_to(page, "code")
    page.press("Control+a", *"0x38", "Enter")
    assert told(page).startswith("1 becomes 1")
    tab_to(page, "next")
    page.press("Enter", "Enter")
    assert told(page).startswith("1.25 becomes 1.25")
    tab_to(page, "Wheel of the 256 codes of E4M3")
    page.press("ArrowLeft")
    assert told(page).startswith("1.125 becomes 1.125")
    page.press("PageUp")  # an octave
    assert told(page).startswith("2.25 becomes 2.25")
    page.press("End")
    assert told(page).startswith("NaN becomes NaN")


@in_browser
def test_a_block_can_be_played_with_by_keyboard_alone(page):
    page.press("Tab", "ArrowRight")
    assert focused(page) == "tab-block"
    tab_to(page, "bar-5")
    page.press("End")
    assert re.search(r"(\d+) of 512 become 0", told(page))[1] == str(
        fp8sim.quantize(block_of({5: 9000.0}), "e4m3").flushed
    )
    page.press("ArrowRight", "Home")
    assert focused(page) == "bar-6"
    assert address(page) == "block?set=5:9000,6:0&bar=6"
    page.press("PageUp", "ArrowUp", "ArrowDown")
    assert "6:0." in address(page)
    tab_to(page, "exact")
    page.press("Control+a", *"-1/8", "Enter")
    assert "6:-0.125" in address(page)
    tab_to(page, "undo")
    page.press("Enter")
    assert address(page) == "block?bar=6"
    tab_to(page, "tab-block")  # round the end of the page
    tab_to(page, "1x32")
    page.press("Enter")
    assert "a scale for every 32 numbers" in told(page)
    tab_to(page, "E8M0")
    page.press("Enter")
    tab_to(page, "rule")
    page.press("f")
    assert address(page) == "block?bar=6&granularity=1x32&scale=e8m0&rule=floor"


def block_of(changed: dict[int, float]) -> np.ndarray:
    """The numbers that a block begins with, some of them changed."""
    from fp8sim.play.data import sample_values

    values = sample_values()
    for place, x in changed.items():
        values.flat[place] = x
    return values


# --- a finger -------------------------------------------------------------------------------------


@pytest.fixture
def phone(page):
    page.emulate(390)
    page.devtools("Emulation.setTouchEmulationEnabled", enabled=True)
    yield page
    page.devtools("Emulation.setTouchEmulationEnabled", enabled=False)
    page.emulate_nothing()


def box(page, selector: str) -> dict:
    """Bring an element to the middle of the window and return where it is."""
    script = """const e = document.querySelector(arguments[0]);
        e.scrollIntoView({ block: "center", behavior: "instant" });
        const b = e.getBoundingClientRect();
        return { x: b.x, y: b.y, width: b.width, height: b.height };"""
    return page.run(script, selector)


def middle(page, selector: str) -> tuple[float, float]:
    b = box(page, selector)
    return b["x"] + b["width"] / 2, b["y"] + b["height"] / 2


@in_browser
def test_a_number_can_be_played_with_by_a_finger(phone, file):
    show(phone, file, "number?value=0.3")
    x, y = middle(phone, ".handle .grip")
    phone.touch((x, y), (x + 30, y), (x + 60, y))
    assert 0.31 < float(told(phone).split()[0]) < 0.4
    before = told(phone)
    b = box(phone, ".ruler")
    phone.touch((b["x"] + 300, b["y"] + 36), (b["x"] + 200, b["y"] + 36))  # the scale: to move along
    assert told(phone) == before
    assert "from=" in address(phone)
    phone.touch((b["x"] + 40, b["y"] + 80))
    assert told(phone) != before
    phone.touch(middle(phone, "#bit-7"))
    assert told(phone).startswith("-0.")
    b = box(phone, ".wheel")
    scale = b["width"] / 360
    center = b["x"] + 180 * scale, b["y"] + 180 * scale
    phone.touch(
        (center[0] + 100 * scale, center[1]), (center[0], center[1] + 100 * scale)
    )  # a quarter of a turn
    assert phone.run("return document.querySelector('.wheel .hub-code').textContent") == "0x80"
    phone.touch(middle(phone, "#next"))
    assert "0.001953125 in E4M3" in told(phone)


@in_browser
def test_a_block_can_be_played_with_by_a_finger(phone, file):
    show(phone, file, "block")
    b = box(phone, ".bars")
    cell = (b["width"] - 52) / 16
    x = b["x"] + 52 + 5.5 * cell
    phone.touch((x, b["y"] + 160), (x, b["y"] + 60), (x, b["y"] + 1))
    assert address(phone) == "block?set=5:9000"
    assert "252 of 512" in told(phone)
    phone.touch(middle(phone, "[value='1x16']"))
    assert "a scale for every 16 numbers" in told(phone)
    b = box(phone, ".all svg")
    phone.touch((b["x"] + b["width"] / 2 + 40, b["y"] + b["height"] / 2))
    assert re.search(r"bar=(\d+)", address(phone))[1] not in ("5", "")
    phone.touch(middle(phone, "#large"))
    assert address(phone).count(":9000") == 2


# --- the phone, the dark, the printer, and who cannot see -----------------------------------------

PLACES = ["number", "number?value=-0.07&format=e4m3,fp32,e4m3b11fnuz,int8", "number?value=0.1&rounding=stochastic&format=e2m1,e8m0",
          "block?set=5:9000&granularity=1x32", "block?values=1,-2,0.003&scale=e8m0&rule=floor"]  # fmt: skip


@in_browser
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(page, file, width):
    for place in PLACES:
        page.emulate(width)
        show(page, file, place)
        assert page.run("return document.documentElement.scrollWidth") <= width, place


@in_browser
def test_the_dark_scheme_turns_paper_and_ink_and_paper_stays_white(page, file):
    paper = "return getComputedStyle(document.body).backgroundColor"
    page.emulate(1280)
    assert page.run(paper) == "rgb(255, 255, 255)"
    page.emulate(1280, "dark")
    assert max(int(c) for c in re.findall(r"\d+", page.run(paper))) < 40
    page.emulate(1280, "dark", media="print")
    assert page.run(paper) == "rgb(255, 255, 255)"
    assert page.run("return getComputedStyle(document.querySelector('.controls')).display") == "none"
    pdf = base64.b64decode(page.devtools("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
    page.emulate_nothing()


@in_browser
def test_every_control_has_a_name(page, file):
    for place in PLACES:
        show(page, file, place)
        tree = page.devtools("Accessibility.getFullAXTree")["nodes"]
        roles = {"textbox", "checkbox", "combobox", "slider", "link", "image", "button", "tab", "tabpanel"}
        named = [node for node in tree if node["role"]["value"] in roles and not node["ignored"]]
        assert len(named) > 15
        assert [n["role"]["value"] for n in named if not n.get("name", {}).get("value")] == []


@in_browser
def test_what_changes_is_said_to_those_who_listen(page):
    page.press("Tab")
    tab_to(page, "value")
    page.press("Control+a", *"464")
    heard = page.wait("setTimeout(arguments[0], 400, 0)") or page.run(
        "return document.getElementById('said').textContent"
    )
    assert heard.startswith("464 becomes 448 in E4M3")
    assert page.run("return document.getElementById('said').getAttribute('role')") == "status"


@in_browser
@pytest.mark.extra
@pytest.mark.skipif(not AXE.exists(), reason=NO_AXE)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation_of_wcag_aa(page, file, width, scheme):
    for place in PLACES:
        page.emulate(width, scheme)
        show(page, file, place)
        assert violations(page) == [], place
    page.emulate_nothing()
