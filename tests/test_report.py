"""The report as text: what it says, that it is safe to open, its pictures' data, and how it is written."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import ml_dtypes
import numpy as np
import pytest

import fp8sim
from fp8sim import report
from fp8sim._support.web import asset
from fp8sim.experiments.claims import QUESTIONS, VERDICTS, Claim, Claims
from fp8sim.experiments.claims.rounding import RoundingError
from fp8sim.experiments.claims.rules import AS_ACCURATE, HALVED
from fp8sim.formats import FORMATS, FloatFormat
from fp8sim.report import pictures as report_pictures
from fp8sim.report import svg as report_svg

PLANTED = '<!--<script></script ><script>alert(1)</script><img src=x onerror=\'alert(2)\'>"&amp; style="a"'
SENTENCE = "From floating point 16 to FP8, it halved computational requirements"
ROWS = (
    Claim(
        name="weights",
        question="bytes",
        what="bytes of weights, over BF16's",
        basis="counted",
        measured=0.5,
        unit="ratio",
        published=0.625,
        published_source="a report, table 1",
        rule=HALVED,
        why="One byte.",
    ),
    Claim(
        name="operations",
        question="operations",
        what="multiply-adds of a token",
        basis="counted",
        measured=2.5e11,
        unit="FLOP",
        judged=1.0,
        derived_from="another",
        rule=HALVED,
        why="All are still done.",
    ),
    Claim(
        name="product",
        question="accuracy",
        what="error of a product",
        basis="emulated",
        measured=0.0281,
        unit="share",
        published=0.01405,
        published_source="a report, table 1",
        judged=3.0,
        rule=AS_ACCURATE,
        range=(0.0275, 0.0288),
        why="Three bits.",
    ),
    Claim(
        name="energy",
        question="bytes",
        what="energy of a byte",
        basis="counted",
        measured=None,
        unit="ratio",
        rule=HALVED,
        why="No silicon figure.",
    ),
    Claim(
        name="step",
        question="time",
        what="time of a step, over BF16's",
        basis="published",
        measured=None,
        unit="ratio",
        published=0.75,
        published_source="a third",
        rule=HALVED,
        why="Half of it is no product.",
    ),
)
ROUNDING = (
    RoundingError("real activations", "e4m3", "tensor", 0.0261, 0.0262, 0.0263, 0.0317, 0.0319),
    RoundingError("generated activations", "e4m3", "tensor", 0.0268, 0.0265, 0.0264, 0.0364, 0.0374),
    RoundingError("generated activations", "e2m1", "1x128", 0.143, 0.58, 0.145, 0.189, 0.196),
)
RESULT = Claims(
    sentence=SENTENCE,
    bottom_line=("Bytes of weights halve (0.50).", "Time falls to 0.75."),
    answers={words: f"In part: {question} & more." for question, words in QUESTIONS.items()},
    rows=ROWS,
    rounding=ROUNDING,
    device="H800 SXM",
    seed=7,
    data=("layer.weight 4x4",),
    environment={"python": "3.11", "numpy": "2.4"},
)


class Page(HTMLParser):
    """The elements of a page, its text, and the text inside each script."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._open = tag if tag in ("script", "style") else self._open
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._open = "" if tag == self._open else self._open

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1] += data
        elif not self._open:
            self.text.append(data)

    def all(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def data(self) -> dict:
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def page():
    return Page(report.html_report(RESULT))


def words(page: Page) -> str:
    return " ".join(" ".join(page.text).split())


def shapes(picture) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring("<svg>" + "".join(picture.shapes) + "</svg>"))


def drawn(picture, css_class: str) -> list[dict[str, str]]:
    return [shape.attrib for shape in shapes(picture) if css_class in shape.get("class", "").split()]


def parts(text: str, pattern: str) -> dict[str, str]:
    """The words of each part of a page, by what the pattern's first group holds."""
    return {key: words(Page(inside)) for key, inside in re.findall(pattern, text, re.DOTALL)}


def table_rows(text: str) -> dict[str, str]:
    return parts(text, r'<tr role="row" id="row-(\d+)">(.*?)</tr>')


# --- what it says ---------------------------------------------------------------------------------


def test_every_row_stands_in_the_table_with_its_figures():
    shown = table_rows(report.html_report(RESULT))
    assert shown["1"].endswith(" 0.5000 0.6250 [1] 0.800 ✓ holds")
    assert shown["2"].endswith(" 250.00 GFLOP - [2] - ✗ does not hold")
    assert shown["3"].endswith(" 2.81 % 1.41 % [1] 2.000 ◐ partly")
    assert shown["4"].endswith(" - - - ? not measured")
    assert shown["5"].endswith(" - 0.7500 [3] - ◐ partly")
    for number, row in enumerate(ROWS, 1):
        assert shown[str(number)].startswith(f"{number} {row.what} {row.why}")


def test_the_rule_and_what_it_saw_stand_below_each_row():
    text = report.html_report(RESULT)
    shown = dict(re.findall(r'id="row-(\d+)">.*?<p>Rule: (.*?)</p></th>', text))
    halved = "left of BF16&#x27;s: holds up to 0.525, partly up to 0.75"
    accurate = "times the error of the product in BF16: holds up to 2, partly up to 4"
    assert shown["1"] == f"{halved} (0.5000)"
    assert shown["2"] == f"{halved} (1)"  # not the flops, which are no ratio
    assert shown["3"] == f"{accurate} (3)"
    assert shown["4"] == halved  # it saw nothing
    assert shown["5"] == f"{halved} (0.7500)"


def test_the_range_over_seeds_stands_below_the_rows_that_have_one():
    shown = table_rows(report.html_report(RESULT))
    assert "Three bits. (2.75 % to 2.88 % over seeds)" in shown["3"]
    assert [number for number, text in shown.items() if "over seeds" in text] == ["3"]


def test_each_question_has_its_answer_and_its_rows_under_it():
    text = report.html_report(RESULT)
    groups = re.findall(r'<tbody role="rowgroup" id="(\w+)">(.*?)</tbody>', text, re.DOTALL)
    assert [question for question, _ in groups] == list(QUESTIONS)
    for question, inside in groups:
        assert words(Page(inside)).startswith(f"{QUESTIONS[question]} In part: {question} & more.")
    numbers = {question: re.findall(r'id="row-(\d+)"', inside) for question, inside in groups}
    assert numbers == {
        "format": [],
        "bytes": ["1", "4"],
        "operations": ["2"],
        "time": ["5"],
        "accuracy": ["3"],
    }


def test_the_bottom_line_and_the_answers_stand_at_the_top():
    text = report.html_report(RESULT)
    assert "<title>fp8sim claims: Bytes of weights halve (0.50).</title>" in text
    (header,) = re.findall(r"<header>(.*?)</header>", text, re.DOTALL)
    lines = re.findall(r'<p class="summary">(.*?)</p>', header)
    assert lines == list(RESULT.bottom_line)
    (answers,) = re.findall(r'<dl class="answers">(.*?)</dl>', header, re.DOTALL)
    pairs = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", answers)
    assert pairs == [(words, text.replace("&", "&amp;")) for words, text in RESULT.answers.items()]


def test_phrases_of_the_sentence_link_to_the_questions_that_they_raise(verdict):
    (quote,) = re.findall(r"<blockquote>“(.*?)”</blockquote>", report.html_report(verdict))
    assert re.findall(r'<a class="part" href="#(\w+)">(.*?)</a>', quote) == [
        ("format", "floating point 16"),
        ("bytes", "halved"),
        ("time", "computational requirements"),
        ("accuracy", "without sacrificing accuracy"),
    ]
    assert "".join(Page(quote).text) == verdict.sentence


@pytest.mark.parametrize(
    ("sentence", "linked"),
    [
        (SENTENCE, ["format", "bytes", "time"]),
        ("FP8 halved it & halved it", ["bytes"]),
        ("It did so without sacrificing accuracy", ["accuracy"]),
        ("", []),
    ],
)
def test_another_sentence_keeps_its_words_and_links_each_phrase_it_has_once(sentence, linked):
    text = report.html_report(dataclasses.replace(RESULT, sentence=sentence))
    (quote,) = re.findall(r"<blockquote>“(.*?)”</blockquote>", text)
    assert re.findall(r'href="#(\w+)"', quote) == linked
    assert "".join(Page(quote).text) == sentence


def test_each_source_is_listed_once_with_the_rows_that_use_it(page):
    text = words(page)
    assert "a report, table 1 (rows 1 , 3 )" in text
    assert "derived from another (row 2 )" in text
    assert [i for i in page.all("id") if re.fullmatch(r"source-\d+", i)] == [
        "source-1",
        "source-2",
        "source-3",
    ]


def test_setting_data_and_versions_are_stated(page):
    text = words(page)
    for statement in (
        *("H800 SXM: roofline", "seeds 7 to 11; the figures are of the first"),
        *("data 1 layer.weight 4x4", "python 3.11", "numpy 2.4"),
    ):
        assert statement in text


def test_what_scales_buy_stands_in_a_table_for_each_kind_of_data():
    text = report.html_report(RESULT)
    (section,) = re.findall(r'<section id="scales".*?>(.*?)</section>', text, re.DOTALL)
    first, second = (words(Page(table)) for table in re.findall(r"<table>(.*?)</table>", section, re.DOTALL))
    assert first.startswith("What scales buy: errors of rounding real activations format one scale for")
    assert first.endswith(" worst e4m3 tensor 2.61 % 2.62 % 2.63 % 3.17 % 3.19 %")
    assert "rounding generated activations" in second
    assert second.endswith(
        " e4m3 tensor 2.68 % 2.65 % 2.64 % 3.64 % 3.74 % e2m1 1x128 14.3 % 58 % 14.5 % 18.9 % 19.6 %"
    )
    assert "style" not in section  # the policy would refuse it


def test_verdicts_are_told_apart_without_colour(page):
    assert set(report.page._SIGNS) == set(VERDICTS)
    assert len(set(report.page._SIGNS.values())) == len(VERDICTS)
    assert all(sign in words(page) for sign in report.page._SIGNS.values())


def test_no_rows_make_a_page_without_result_pictures():
    nothing = {"rows": (), "data": (), "rounding": (), "bottom_line": (), "answers": {}}
    empty = Page(report.html_report(dataclasses.replace(RESULT, **nothing)))
    ids = empty.all("id")
    assert "picture-error" in ids
    assert not {"picture-ratios", "picture-agreement", "row-1", "source-1"} & set(ids)
    assert set(QUESTIONS) <= set(ids)


def test_the_same_result_gives_the_same_page():
    assert report.html_report(RESULT) == report.html_report(RESULT)


def test_the_real_claims_make_a_page(verdict):
    page = Page(report.html_report(verdict))
    text = words(page)
    assert all(part in text for row in verdict.rows for part in (row.what, row.why, row.ruling))
    assert all(row.source in text for row in verdict.rows)
    assert all(line in text for line in (*verdict.bottom_line, *verdict.answers.values()))
    assert all(words in page.text for words in verdict.answers)
    assert page.data()["claims"] == json.loads(json.dumps(verdict.to_dict()))
    check_references(page)


# --- how it is built ------------------------------------------------------------------------------


def test_nothing_is_loaded_from_anywhere(page):
    text = report.html_report(RESULT)
    assert "http://www.w3.org/2000/svg" in text  # a name, not an address that is asked
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\((?!#)", text)
    assert {value for value in page.all("href") if not value.startswith("#")} == {"data:,"}
    assert page.all("src") == page.all("srcset") == page.all("action") == []


def test_the_policy_allows_these_styles_and_this_script_and_nothing_else(page):
    (framed,) = page.all("srcdoc")
    texts = {"report": report.html_report(RESULT), "frame": framed}

    def source(where: str, pattern: str) -> str:
        (inside,) = re.findall(pattern, texts[where], re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"

    style = " ".join(source(where, r"<style>(.*?)</style>") for where in texts)
    script = source("frame", r"<script>(.*?)</script>")
    assert page.all("content")[0] == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src {style}; script-src {script}"
    )
    assert page.all("style") == []  # the policy would refuse them
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def check_references(page: Page) -> None:
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    named = [
        i
        for name in ("aria-labelledby", "aria-describedby", "for")
        for v in page.all(name)
        for i in v.split()
    ]
    anchors = [value[1:] for value in page.all("href") if value.startswith("#")]
    assert len(named) > 10
    assert len(anchors) > 10
    assert set(named) | set(anchors) <= set(ids)


def test_ids_are_unique_and_every_reference_finds_one(page):
    check_references(page)


def test_every_picture_has_a_title_and_a_description(page):
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) == 4  # no recipes were compared
    for attributes in pictures:
        assert attributes["role"] == "img"
        assert "aria-label" in attributes or {"aria-labelledby", "aria-describedby"} <= attributes.keys()


def test_text_contrasts_with_its_ground_in_every_scheme():
    css = report_svg.picture_style() + asset("fp8sim.report", "report.css")
    schemes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(schemes) == 3  # light, dark, print

    def luminance(colour: str) -> float:
        colour = "".join(2 * c for c in colour) if len(colour) == 3 else colour
        parts = (int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): #(\w+)", scheme))
        for name, least in [
            (n, 4.5) for n in ["ink", "muted", "link", "holds", "partly", "fails", "unknown"]
        ] + [
            (n, 3.0) for n in colours if n.startswith(("series", "sign", "exponent", "mantissa"))
        ]:  # WCAG 2.2, 1.4.3 and 1.4.11
            for ground in ("paper", "raised"):
                light, dark = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= least, (name, ground)


def test_the_style_speaks_of_nothing_that_the_page_lacks():
    css, text = asset("fp8sim.report", "report.css"), report.html_report(RESULT)
    selectors = " ".join(re.findall(r"([^{};]+)\{", re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)))
    named = re.findall(r'[.#]([a-z][\w-]*)|\[([\w-]+="[\w-]+")\]', selectors)
    assert len(named) > 50
    page, names = text.replace(css, ""), map("".join, named)
    assert [name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", page)] == []


def test_the_figures_stand_in_the_page_as_json(page):
    assert page.data()["claims"] == json.loads(json.dumps(RESULT.to_dict()))


def test_nan_and_infinity_become_null_in_the_json():
    rows = (dataclasses.replace(ROWS[0], measured=math.nan, published=math.inf, range=(math.nan, 1.0)),)
    page = Page(report.html_report(dataclasses.replace(RESULT, rows=rows)))
    (row,) = page.data()["claims"]["rows"]
    assert row["measured"] is row["published"] is row["judged"] is row["agreement"] is None
    assert row["range"] == [None, 1.0]
    assert "picture-ratios" not in page.all("id")


def test_markup_from_outside_stays_text(monkeypatch):
    marks = []

    def planted(where: str) -> str:
        marks.append(f"{PLANTED} {where}")
        return marks[-1]

    row = Claim(
        name=PLANTED,
        question="bytes",
        what=planted("what"),
        basis="counted",
        measured=0.5,
        unit=PLANTED,  # type: ignore[arg-type]
        rule=dataclasses.replace(HALVED, what=planted("rule")),
        why=planted("why"),
        published=0.5,
        published_source=planted("published_source"),
        derived_from=planted("derived_from"),
    )
    bar = dataclasses.replace(row, rule=HALVED, what=planted("bar"))
    monkeypatch.setitem(FORMATS, PLANTED, FloatFormat(PLANTED, 4, 3))
    a = np.ones((2, 4))
    recipe = dataclasses.replace(fp8sim.get_recipe("bf16"), name=planted("recipe"))
    comparison = fp8sim.compare(a, a.T, [recipe], "bf16")
    result = Claims(
        sentence=f"{planted('sentence')} halved {planted('end')}",
        bottom_line=(planted("bottom line"), planted("second line")),
        answers={QUESTIONS["bytes"]: planted("answer"), planted("question"): "Yes."},
        rows=(row, bar),
        rounding=(RoundingError(planted("rounded"), planted("format"), planted("scaling"), *[0.1] * 5),),
        device=planted("device"),
        seed=0,
        data=(planted("data"),),
        environment={planted("machine"): planted("version")},
    )
    page = Page(report.html_report(result, comparison, data=planted("compared")))
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "img" not in [tag for tag, _ in page.elements]
    assert page.all("style") == []
    text = words(page)
    assert [mark for mark in marks if mark not in text] == []
    assert page.data()["claims"] == json.loads(json.dumps(result.to_dict()))


# --- pictures -------------------------------------------------------------------------------------


def test_bars_are_as_long_as_what_fp8_leaves_and_diamonds_stand_at_what_others_measured():
    rows = [
        *ROWS,
        dataclasses.replace(ROWS[1], judged=3.0),
        dataclasses.replace(ROWS[0], rule=AS_ACCURATE),  # says of no remainder
        dataclasses.replace(ROWS[0], measured=math.nan),
    ]
    picture = report_pictures.bar_picture(rows)
    half, whole, beyond = (float(bar["width"]) for bar in drawn(picture, "bar"))
    classes = [bar["class"].split()[1] for bar in drawn(picture, "bar")]
    assert classes == ["verdict-holds", "verdict-does-not-hold", "verdict-does-not-hold"]
    assert whole == pytest.approx(2 * half)
    assert beyond == pytest.approx(1.25 * whole)  # the axis ends there
    assert "3.00 →" in [shape.text for shape in shapes(picture)]
    (mark,) = drawn(picture, "published")
    assert float(re.match(r"M([\d.]+)", mark["d"])[1]) - 8 == pytest.approx(0.75 * whole, abs=0.01)
    left = "Left: row 1 0.50, row 2 1.00, row 5 0.75, row 6 3.00. Of BF16's, half is 0.5."
    assert picture.description == left
    assert report_pictures.bar_picture(rows[6:]) is None


SVG = "{http://www.w3.org/2000/svg}"


def read_verdict(rows) -> tuple[list[ElementTree.Element], list[str]]:
    """The shapes of the verdict as a picture, and its writing."""
    picture = ElementTree.fromstring(report.verdict_svg(rows))
    return list(picture), [shape.text for shape in picture if shape.tag == f"{SVG}text"]


def test_the_picture_of_the_verdict_has_a_bar_or_diamond_for_each_row_question_by_question():
    drawn, writing = read_verdict(ROWS)
    bars = [shape for shape in drawn if shape.get("class", "").startswith("bar ")]
    half, whole = (float(bar.get("width")) for bar in bars)
    assert whole == pytest.approx(2 * half, abs=0.02)  # written in hundredths
    (goal,) = (shape for shape in drawn if shape.get("class") == "goal")
    left = float(bars[0].get("x"))
    assert float(goal.get("x1")) - left == pytest.approx(half, abs=0.01)
    (mark,) = (shape for shape in drawn if shape.get("class") == "published")
    assert float(re.match(r"M([\d.]+)", mark.get("d"))[1]) - left == pytest.approx(0.75 * whole, abs=0.01)
    assert writing[3:-1] == [
        *("Bytes halved?", "1. bytes of weights", "0.50", "holds"),
        *("Operations halved?", "2. multiply-adds of a token", "1.00", "does not hold"),
        *("Time halved?", "5. time of a step", "0.75", "partly"),
    ]
    (description,) = (shape.text for shape in drawn if shape.tag == f"{SVG}desc")
    assert description == (
        "Bytes halved? bytes of weights 0.50 (holds). Operations halved? multiply-adds of a token 1.00 "
        "(does not hold). Time halved? time of a step 0.75 (partly)."
    )


def test_the_picture_of_the_verdict_stands_alone_and_keeps_markup_text():
    rows = [dataclasses.replace(ROWS[0], what=PLANTED)]
    text = report.verdict_svg(rows)
    assert text == report.verdict_svg(rows)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|href|<script", text)
    drawn, writing = read_verdict(rows)
    assert {shape.tag.removeprefix(SVG) for shape in drawn} <= {
        *("title", "desc", "style", "rect", "line", "text", "path"),
    }
    assert f"1. {PLANTED}" in " ".join(writing)


def test_agreement_lies_on_a_logarithmic_axis_around_equal():
    rows = [dataclasses.replace(ROWS[0], measured=m, published=1.0) for m in (0.5, 1.0, 2.0, 2.0**0.5, 9.0)]
    others = [ROWS[1], dataclasses.replace(ROWS[0], comparable=False)]  # nothing published, another thing
    picture = report_pictures.agreement_picture([*rows, *others])
    half, equal, twice, root, beyond = (float(dot["cx"]) for dot in drawn(picture, "dot"))
    assert equal - half == pytest.approx(twice - equal, abs=0.02)
    assert root - equal == pytest.approx((twice - equal) / 2, abs=0.02)
    assert beyond == twice
    assert any(shape.text == "9.000 →" for shape in shapes(picture))
    assert picture.description.endswith("for 5 rows: 1 within 5 %, the furthest row 5 at 9.000.")
    assert report_pictures.agreement_picture(others) is None


def test_number_lines_have_a_tick_for_every_value():
    picture = report_pictures.number_line_picture(["e4m3", "e5m2"])
    ticks = [path["d"].count("v17") for path in drawn(picture, "ticks")]
    e4m3, e5m2 = (
        np.arange(128, dtype=np.uint8).view(dtype).astype(float)
        for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
    )
    expected = [np.sum(v <= 1) for v in (e4m3, e5m2)] + [
        np.sum((v > 0) & np.isfinite(v)) for v in (e4m3, e5m2)
    ]
    assert ticks == expected


def test_the_error_line_is_the_largest_error_of_round_to():
    picture = report_pictures.error_picture(["e4m3"])
    (line,) = drawn(picture, "line")
    corners = np.array([point.split(",") for point in line["points"].split()], float)
    magnitude = np.exp2(np.interp(corners[:, 0], [46, report_svg.WIDTH - 12], [-34, 20]))
    error = 10 ** np.interp(corners[:, 1], [12, 236], [0, -4])
    for exponent in (-9, -8, -6, 0, 7):  # one binade each, densely
        x = 2.0**exponent * np.linspace(1, 2, 4097)[:-1]
        worst = np.max(np.abs(fp8sim.round_to(x, "e4m3") - x)) / 2.0**exponent
        bound = np.exp(np.interp(np.log(2.0**exponent), np.log(magnitude), np.log(error)))
        assert bound == pytest.approx(worst, rel=0.01), exponent
    assert magnitude[-1] == pytest.approx(448, rel=0.01)


def test_recipes_are_placed_by_their_error_and_named_with_it(rng):
    a, b = rng.standard_normal((16, 64)), rng.standard_normal((64, 16))
    comparison = fp8sim.compare(a, b, ["bf16", "fp16", "deepseek-v3"])
    picture = report_pictures.recipe_picture(comparison, "noise")
    places = np.array([float(dot["cx"]) for dot in drawn(picture, "dot")])
    errors = np.array([row.relative_error for row in comparison.rows])
    low, high = math.floor(math.log10(errors.min())), math.ceil(math.log10(errors.max()))
    assert places == pytest.approx(100 + 90 * (np.log10(errors) - low) / (high - low), abs=0.01)
    texts = [shape.text for shape in shapes(picture)]
    assert all(f"{row.bytes_ratio:.2f}" in texts and row.recipe in texts for row in comparison.rows)
    assert "noise" in picture.caption


def test_a_recipe_without_a_finite_error_has_no_dot():
    rows = fp8sim.compare(np.full((2, 8), 3e38), np.full((8, 2), 1e-30), ["fp32", "fp16"], "fp32")
    picture = report_pictures.recipe_picture(rows)
    finite = [row for row in rows.rows if math.isfinite(row.relative_error) and row.relative_error > 0]
    assert len(finite) < len(rows.rows)
    assert len(drawn(picture, "dot")) == len(finite)


# --- how it is written ----------------------------------------------------------------------------


def test_the_file_holds_the_page_and_nothing_lies_beside_it(tmp_path):
    target = report.write_report(RESULT, tmp_path / "report.html")
    assert target.read_bytes().decode() == report.html_report(RESULT)
    assert list(tmp_path.iterdir()) == [target]


def test_an_older_report_is_replaced_through_a_link(tmp_path):
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "link.html").symlink_to(tmp_path / "real.html")
    report.write_report(RESULT, str(tmp_path / "link.html"))
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "real.html").read_text().startswith("<!DOCTYPE html>")


def test_a_failure_leaves_the_older_report_and_nothing_half_written(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")
    real = Path.replace

    def full(self, other):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match=r"cannot write .*report\.html: No space left on device"):
        report.write_report(RESULT, target)
    monkeypatch.setattr(Path, "replace", real)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_names_that_are_no_unicode_are_written_all_the_same(tmp_path):
    result = dataclasses.replace(RESULT, data=("caf\udce9.safetensors",))  # a file name in Latin-1
    text = report.write_report(result, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "caf&#56553;.safetensors" in text


def test_a_missing_folder_is_refused_by_name(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*missing to write report\.html in; make it first"
    ):
        report.write_report(RESULT, tmp_path / "missing" / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused_with_a_name_to_write_in_it(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder; name a file in it, such as .*report\.html"):
        report.write_report(RESULT, tmp_path)


def test_a_device_is_not_replaced():
    with pytest.raises(ValueError, match="/dev/null is no regular file"):
        report.write_report(RESULT, "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_a_folder_without_write_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="is not writable; name a file in another one"):
        report.check_target(tmp_path / "report.html")
