"""The report in headless Chromium: no error, no request, a table on a phone too, the dark, the printer."""

from __future__ import annotations

import base64
import json
import re

import pytest

from browser import MISSING, NO_BROWSER
from fp8sim import report
from fp8sim.experiments.claims import QUESTIONS, Claim, Claims
from fp8sim.experiments.claims.rounding import RoundingError
from fp8sim.experiments.claims.rules import HALVED

pytestmark = pytest.mark.skipif(MISSING, reason=NO_BROWSER)

PLANTED = "<!--<script></script ><script>alert(1)</script><img src=x onerror=alert(2)>"


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
    return report.write_report(RESULT, tmp_path_factory.mktemp("report") / "report.html").as_uri()


@pytest.fixture
def page(browser, address):
    browser.open("about:blank")
    browser.log("browser")
    browser.log("performance")
    browser.open(address)
    return browser


def test_the_page_loads_without_an_error_and_asks_no_host_for_anything(page, address):
    assert page.log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("data:", "about:srcdoc"))} == {address}
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
    assert page.run("return [document.scripts.length, document.images.length]") == [1, 0]
    assert page.log("browser") == []


# --- the page to touch, in a frame -----------------------------------------------------------------


def test_the_page_to_touch_works_in_its_frame(page):
    page.call("/frame", id=0)
    told = "return document.querySelector('.part:not([hidden]) .told').textContent"
    assert page.run(told).startswith("0.3 becomes 0.3125 in E4M3")
    page.run("document.getElementById('tab-block').click(); return 0")
    assert page.run(told).startswith("With one scale for all 512 numbers")
    page.call("/frame", id=None)
    assert page.log("browser") == []


# --- the phone, the dark, the printer -----------------------------------------------


def test_every_control_has_a_name(page):
    script = """return [...document.querySelectorAll("input, select, textarea, [role=region], [role=img]")]
        .filter((e) => !(e.labels?.length || e.ariaLabel || e.getAttribute("aria-labelledby")))
        .map((e) => e.outerHTML.slice(0, 80))"""
    assert page.run(script) == []
    tree = page.devtools("Accessibility.getFullAXTree")["nodes"]
    roles = {"textbox", "checkbox", "combobox", "slider", "link", "image"}
    named = [node for node in tree if node["role"]["value"] in roles and not node["ignored"]]
    assert len(named) > 10
    assert [n["role"]["value"] for n in named if not n.get("name", {}).get("value")] == []
    assert sum(node["role"]["value"] == "row" and not node["ignored"] for node in tree) >= len(ROWS)


@pytest.fixture
def emulated(page):
    yield page
    page.emulate_nothing()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(emulated, width):
    emulated.emulate(width)
    assert emulated.run("return document.documentElement.scrollWidth") <= width


def test_a_phone_keeps_the_table_a_table_for_screen_readers(emulated):
    emulated.emulate(390)
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
    emulated.emulate(1280)
    assert emulated.run(paper) == "rgb(255, 255, 255)"
    emulated.emulate(1280, "dark")
    assert max(int(c) for c in re.findall(r"\d+", emulated.run(paper))) < 40


def test_it_prints_the_verdicts_and_pictures_dark_on_white(emulated):
    emulated.emulate(1280, "dark", media="print")
    assert emulated.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert emulated.run("return getComputedStyle(document.getElementById('explorer')).display") == "none"
    assert emulated.run("return document.getElementById('verdicts').getBoundingClientRect().height") > 50
    pdf = base64.b64decode(emulated.devtools("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
