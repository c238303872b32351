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
from fp8sim.experiments.claims import Claims
from fp8sim.experiments.claims.verdicts import VERDICTS, Claim
from fp8sim.formats import FORMATS, FloatFormat
from fp8sim.report import pictures as report_pictures
from fp8sim.report import svg as report_svg

PLANTED = "<!--<script></script ><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;"
SENTENCE = "From floating point 16 to FP8, it halved computational requirements"
ROWS = (
    Claim(
        "halved",
        "bytes of weights, over BF16's",
        0.5,
        0.625,
        "ratio",
        "a report, table 1",
        "holds",
        "One byte.",
        "remainder",
    ),
    Claim(
        "computational requirements",
        "multiply-adds, over BF16's",
        1.0,
        None,
        "ratio",
        "another",
        "does not hold",
        "All.",
        "remainder",
    ),
    Claim(
        "halved", "error of a product", 0.0281, 0.01405, "share", "a report, table 1", "partly", "Three bits."
    ),
    Claim("halved", "energy", None, None, "J", "", "not measured", "No silicon figure."),
    Claim(
        "without loss",
        "speed-up of all",
        7.75,
        None,
        "ratio",
        "another",
        "does not hold",
        "Bits.",
        "speed-up",
    ),
)
RESULT = Claims(SENTENCE, "H800 SXM", 7, ("layer.weight 4x4",), {"python": "3.11", "numpy": "2.4"}, ROWS)


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


# --- what it says ---------------------------------------------------------------------------------


def test_every_row_stands_in_the_table_with_its_figures(page):
    text = words(page)
    for figure in ("0.5000", "0.6250", "0.800", "1.0000", "2.81 %", "1.41 %", "2.000", "7.7500"):
        assert f" {figure} " in text, figure
    for row in ROWS:
        assert row.what in text
        assert row.why in text
    assert "Of 5 parts: 1 hold, 1 hold partly, 2 do not, 1 not measured." in text


def test_rows_are_grouped_by_the_part_of_the_sentence_and_keep_their_numbers(page):
    rows = [i for i in page.all("id") if re.fullmatch(r"row-\d+", i)]
    assert rows == ["row-1", "row-3", "row-4", "row-2", "row-5"]
    assert "“ halved ” 1 holds, 1 partly, 1 not measured" in words(page).replace("“", "“ ").replace("”", " ”")


def test_the_sentence_links_its_parts_to_their_verdicts():
    text = report.html_report(RESULT)
    assert 'it <a class="part" href="#part-1">halved</a> <a class="part" href="#part-2">computational' in text
    assert 'href="#part-3"' not in text  # "without loss" is not in the sentence


def test_a_part_within_another_part_is_linked_once():
    rows = tuple(
        dataclasses.replace(ROWS[0], part=part) for part in ("computational", "computational requirements")
    )
    linked = Page(report.html_report(dataclasses.replace(RESULT, rows=rows)))
    assert sum(value.startswith("#part-") for value in linked.all("href")) == 1
    assert SENTENCE in " ".join(linked.text).replace("  ", " ")


def test_each_source_is_listed_once_with_the_rows_that_use_it(page):
    assert re.findall(r"a report, table 1 \(rows 1 , 3 \)", words(page))
    assert re.findall(r"another \(rows 2 , 5 \)", words(page))


def test_setting_data_and_versions_are_stated(page):
    text = words(page)
    for statement in ("H800 SXM: roofline", "seed 7", "layer.weight 4x4", "python 3.11", "numpy 2.4"):
        assert statement in text


def test_verdicts_are_told_apart_without_colour(page):
    assert set(report.page._SIGNS) == set(VERDICTS)
    assert len(set(report.page._SIGNS.values())) == len(VERDICTS)
    assert all(sign in words(page) for sign in report.page._SIGNS.values())


def test_a_verdict_that_is_new_is_shown_too():
    rows = (dataclasses.replace(ROWS[0], verdict="cannot <be> said"),)
    assert "• cannot <be> said" in words(Page(report.html_report(dataclasses.replace(RESULT, rows=rows))))


def test_no_rows_make_a_page_without_result_pictures():
    empty = Page(report.html_report(dataclasses.replace(RESULT, rows=(), data=())))
    ids = empty.all("id")
    assert "picture-error" in ids
    assert not {"picture-ratios", "picture-speeds"} & set(ids)
    assert "picture-agreement" not in ids


def test_the_same_result_gives_the_same_page():
    assert report.html_report(RESULT) == report.html_report(RESULT)


def test_the_real_claims_make_a_page():
    result = fp8sim.claims(training=False)
    text = words(Page(report.html_report(result)))
    assert all(row.what in text and row.why in text for row in result.rows)
    assert result.summary in text


# --- how it is built ------------------------------------------------------------------------------


def test_nothing_is_loaded_from_anywhere(page):
    text = report.html_report(RESULT)
    assert "http://www.w3.org/2000/svg" in text  # a name, not an address that is asked
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text)
    assert {value for value in page.all("href") if not value.startswith("#")} == {"data:,"}
    assert page.all("src") == page.all("srcset") == page.all("action") == []


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(page):
    text = report.html_report(RESULT)

    def source(pattern: str) -> str:
        (inside,) = re.findall(pattern, text, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"

    style = source(r"<style>(.*?)</style>")
    script = source(r'<script type="module">(.*?)</script>')
    assert page.all("content")[0] == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src {style}; script-src {script}"
    )
    assert page.all("style") == []  # the policy would refuse them
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_ids_are_unique_and_every_reference_finds_one(page):
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


def test_every_picture_has_a_title_and_a_description(page):
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) == 6  # the tally bar and five figures
    for attributes in pictures:
        assert attributes["role"] == "img"
        assert "aria-label" in attributes or {"aria-labelledby", "aria-describedby"} <= attributes.keys()


def test_text_contrasts_with_its_ground_in_every_scheme():
    css = report_svg.asset("pictures.css") + report_svg.asset("report.css")
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


def test_the_script_is_told_every_format_and_holds_none(page, monkeypatch):
    monkeypatch.setitem(FORMATS, "mine", FloatFormat("mine", 3, 2, bias=5))
    described = Page(report.html_report(RESULT)).data()["explorer"]["formats"]
    assert list(described) == list(FORMATS)
    assert described["mine"]["bias"] == 5
    assert (described["e4m3"]["max"], described["e4m3"]["overflow"], described["fp16"]["overflow"]) == (
        448,
        "saturate",
        "ieee",
    )
    script = page.scripts[1]
    assert not re.search(r"448|57344|65504|61440", script)


def test_the_figures_stand_in_the_page_as_json(page):
    assert page.data()["claims"] == json.loads(json.dumps(RESULT.to_dict()))


def test_nan_and_infinity_become_null_in_the_json():
    rows = (dataclasses.replace(ROWS[0], measured=math.nan, published=math.inf),)
    (row,) = Page(report.html_report(dataclasses.replace(RESULT, rows=rows))).data()["claims"]["rows"]
    assert row["measured"] is row["published"] is None


def test_markup_from_outside_stays_text(monkeypatch):
    rows = (Claim(PLANTED, PLANTED, 0.5, 0.5, PLANTED, PLANTED, "holds", PLANTED),)  # type: ignore[arg-type]
    rows += (Claim("halved", PLANTED, 0.5, 0.5, "ratio", PLANTED, PLANTED, PLANTED),)  # type: ignore[arg-type]
    monkeypatch.setitem(FORMATS, PLANTED, FloatFormat(PLANTED, 4, 3))
    a = np.ones((2, 4))
    recipe = dataclasses.replace(fp8sim.get_recipe("bf16"), name=PLANTED)
    comparison = fp8sim.compare(a, a.T, [recipe], "bf16")
    result = Claims(PLANTED, PLANTED, 0, (PLANTED,), {PLANTED: PLANTED}, rows)
    planted = Page(report.html_report(result, comparison, data=PLANTED))
    assert [tag for tag, _ in planted.elements].count("script") == 2
    assert "img" not in [tag for tag, _ in planted.elements]
    assert PLANTED in words(planted)
    assert planted.data()["claims"]["rows"][0]["why"] == PLANTED
    assert PLANTED in planted.data()["explorer"]["formats"]


# --- pictures -------------------------------------------------------------------------------------


def test_bars_are_as_long_as_the_measured_ratios_and_marks_stand_at_the_published_ones():
    rows = [
        *ROWS,
        dataclasses.replace(ROWS[1], measured=3.0),
        dataclasses.replace(ROWS[0], what="error, over BF16's", meaning=""),
        dataclasses.replace(ROWS[0], measured=math.nan),
    ]
    picture = report_pictures.bar_picture(rows, "remainder")
    half, whole, beyond = (float(bar["width"]) for bar in drawn(picture, "bar"))
    classes = [bar["class"].split()[1] for bar in drawn(picture, "bar")]
    assert report_pictures.bar_picture(rows[6:], "remainder") is None
    assert classes == ["verdict-holds", "verdict-does-not-hold", "verdict-does-not-hold"]
    assert whole == pytest.approx(2 * half)
    assert beyond == pytest.approx(1.25 * whole)  # the axis ends there
    assert "3.0000 →" in [shape.text for shape in shapes(picture)]
    (mark,) = drawn(picture, "published")
    assert float(re.match(r"M([\d.]+)", mark["d"])[1]) - 8 == pytest.approx(0.625 * whole, abs=0.01)
    assert picture.description.startswith("Measured: row 1 0.5000, row 2 1.0000, row 6 3.0000. ")


def test_speed_ups_start_at_as_fast_as_bf16():
    rows = [
        dataclasses.replace(ROWS[4], measured=m, published=p)
        for m, p in ((1.0, 2.0), (1.5, 1.25), (2.0, None))
    ]
    picture = report_pictures.bar_picture([*ROWS[:4], *rows], "speed-up")
    equal, faster, twice = (float(bar["width"]) for bar in drawn(picture, "bar"))
    assert (equal, faster) == (0, pytest.approx(twice / 2, abs=0.01))
    marks = [float(re.match(r"M([\d.]+)", mark["d"])[1]) - 8 for mark in drawn(picture, "published")]
    assert marks == pytest.approx([twice, twice / 4], abs=0.01)
    assert report_pictures.bar_picture(ROWS[:4], "speed-up") is None


def test_agreement_lies_on_a_logarithmic_axis_around_equal():
    rows = [dataclasses.replace(ROWS[0], measured=m, published=1.0) for m in (0.5, 1.0, 2.0, 2.0**0.5, 9.0)]
    picture = report_pictures.agreement_picture([*rows, ROWS[1]])
    half, equal, twice, root, beyond = (float(dot["cx"]) for dot in drawn(picture, "dot"))
    assert equal - half == pytest.approx(twice - equal, abs=0.02)
    assert root - equal == pytest.approx((twice - equal) / 2, abs=0.02)
    assert beyond == twice
    assert any(shape.text == "9.000 →" for shape in shapes(picture))
    assert picture.description.endswith("1 within 5 %, the furthest row 5 at 9.000.")


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
