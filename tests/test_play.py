"""The interactive page in headless Chromium: the library's bits, the keyboard alone, a finger, no error, no request."""

from __future__ import annotations

import base64
import inspect
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from browser import MISSING, NO_BROWSER, browsing

import fp8sim
from fp8sim.formats import FORMATS, INT8
from fp8sim.play import PARTS
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
#: Where npm puts axe-core: `npm install axe-core` at the root of the repository, or what AXE_CORE says.
AXE = Path(os.environ.get("AXE_CORE", Path(__file__).parent.parent / "node_modules/axe-core/axe.min.js"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("profile")) as session:
        yield session


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
    assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} <= {file.as_uri(), "about:blank"}
    assert browser.run("return performance.getEntriesByType('resource').length") == 0


def show(browser, file, address: str = "") -> None:
    """Open the page anew at an address."""
    browser.open("about:blank")
    browser.open(f"{file.as_uri()}#{address}")
    browser.run("window.problems = []; window.onerror = (message) => { window.problems.push(message); }; return 0")


def told(page) -> str:
    return page.run("return document.querySelector('.part:not([hidden]) .told').textContent")


def address(page) -> str:
    return page.run("return location.hash.slice(1)")


# --- the page as Python sees it -------------------------------------------------------------------


def test_the_page_is_one_file_that_names_no_host(tmp_path):
    page = fp8sim.play("block", granularity="1x32", format=["e4m3", fp8sim.get_format("e5m2")])
    assert page.address == "block?granularity=1x32&format=e4m3,e5m2"
    assert page.save(tmp_path / "play.html").read_text(encoding="utf-8") == page.html
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.html)
    assert "default-src 'none'" in page.html
    assert len(page.html) < 200_000


def test_a_notebook_shows_it_in_a_frame_that_reaches_nothing_around_it():
    shown = fp8sim.play(value=0.1)._repr_html_()
    assert re.match(r'<iframe title="fp8sim play" sandbox="allow-scripts" ', shown)
    assert "number?value=0.1" in shown
    assert repr(fp8sim.play()) == "<fp8sim.play('number'): shown in a notebook; .save('play.html') for a browser>"


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
    low, high = (fp8sim.decode(c.astype(fmt.code_dtype), fmt).astype(np.float64) for c in (codes, np.minimum(codes + 1, fmt.top_code)))
    top = fmt.max + np.ldexp(1.0, fmt.emax - fmt.mantissa_bits - 1)  # where overflow begins
    middle = (low + high) / 2
    usual = np.ldexp(rng.uniform(1, 2, count), rng.integers(fmt.emin - fmt.mantissa_bits - 2, fmt.emax + 3, count))
    everywhere = np.ldexp(rng.uniform(1, 2, count), rng.integers(-1074, 1024, count))
    ends = [0.0, np.inf, np.nan, 5e-324, np.finfo(np.float64).max, fmt.max, top, fmt.smallest_subnormal / 2]
    kinds = [low, middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf), usual, everywhere, rng.choice(ends, count)]
    kinds.append(np.nextafter(rng.choice(ends[-3:], count), rng.choice([0, np.inf], count)))
    magnitudes = rng.permutation(np.concatenate(kinds))[:count]
    return np.where(np.isnan(magnitudes), np.nan, np.copysign(magnitudes, rng.choice([-1.0, 1.0], count)))


def text_of(x: float) -> str:
    return "NaN" if math.isnan(x) else "Infinity" if x == math.inf else "-Infinity" if x == -math.inf else repr(float(x))


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
                    assert np.array_equal(fp8sim.encode(x, fmt, rounding=rounding, overflow=overflow).view(codes.dtype), codes)
                refused = np.isnan(values) & (not fmt.has_nan)
                cases.append((fmt.name, rounding, overflow, [text_of(v) for v in x], draws.tolist()))
                expected.append([None if lost else int(c) for c, lost in zip(codes, refused, strict=True)])
                total += x.size
    assert total > 10_000
    found = page.run(ROUND_ALL, cases)
    for case, results, codes in zip(cases, found, expected, strict=True):
        wrong = [(x, r[0], c) for x, r, c in zip(case[3], results, codes, strict=True) if r[0] != c]
        assert wrong == [], case[:3]
        assert [value for _, value, _ in results] == [decoded for _, _, decoded in results]  # codes mean their values


@in_browser
@pytest.mark.parametrize("fmt", [fmt for fmt in ALL.values() if fmt.bits <= 16], ids=lambda fmt: f"{fmt.bits} {fmt.name[:8]}")
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
        x = rng.standard_normal((rows, columns)) * 2.0 ** (rng.normal(scale=spread, size=(rows, columns)) + rng.integers(-40, 40))
        x[rng.random(x.shape) < 0.05] = rng.choice([0.0, -0.0, 2.0**-140, -5e-324, 2.0**-126])
        if number % 7 == 0:
            x.flat[0] = fmt.max * 2.0 ** int(rng.integers(-10, 10))  # amax where ceil and floor part
        try:
            q = fp8sim.quantize(x, fmt, granularity, scale_format=scale_format, scale_rule=rule)
        except ValueError:
            expected.append("RangeError")
        else:
            scales = np.repeat(q.scales, q.sizes[1], axis=1)[:, :columns].repeat(q.sizes[0], axis=0)[:rows].astype(float)
            values = ["-0" if v == 0 and np.signbit(v) else float(v) for v in q.dequantize(np.float64).ravel()]
            expected.append([q.saturated, q.flushed, list(zip(scales.ravel().tolist(), q.bits.ravel().tolist(), values, strict=True))])
        options = {"format": fmt.name, "granularity": granularity, "columns": columns, "scaleFormat": scale_format, "rule": rule}
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
