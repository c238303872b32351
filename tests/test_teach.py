"""The teacher's kit, the notebooks in a browser, what takes minutes without numba, and the commands of the pages."""

from __future__ import annotations

import ast
import contextlib
import doctest
import email
import functools
import http.server
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import zipfile
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import fp8sim
from browser import CHROMIUM, MISSING, NO_BROWSER
from fp8sim import _kernels
from fp8sim.accumulators.exact import _float64_product, exact_dot

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SITE = DOCS / "_build" / "html"
NOT_BUILT = "the documentation is not built: nox -s docs"
needs_browser = pytest.mark.skipif(MISSING, reason=NO_BROWSER)
needs_site = pytest.mark.skipif(not (SITE / "teach" / "deck.html").exists(), reason=NOT_BUILT)
needs_lite = pytest.mark.skipif(not (SITE / "lite" / "jupyter-lite.json").exists(), reason=NOT_BUILT)

#: What runs where Pyodide does (PEP 508 markers), and the names and versions that its distribution brings.
BROWSER = {"sys_platform": "emscripten", "platform_system": "Emscripten", "platform_machine": "wasm32"}
PYODIDE = json.loads((ROOT / "tests" / "data" / "pyodide.json").read_text(encoding="utf-8"))["packages"]


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


questions = load(DOCS / "teach" / "questions.py")
handout = load(DOCS / "teach" / "handout.py")


# --- questions ------------------------------------------------------------------------------------


def by_ml_dtypes(x: float) -> float:
    return float(np.float64(x).astype(ml_dtypes.float8_e4m3fn))


def test_ten_questions_have_four_answers_each_with_a_reason_and_one_that_holds():
    assert len(questions.QUESTIONS) == 10
    for question in questions.QUESTIONS:
        assert len(question.answers) == 4
        assert question.holds in question.answers
        assert all(len(why) > 10 for why in question.answers.values())
    assert {question.teaches for question in questions.QUESTIONS} == {
        *("round by hand", "what a bit buys", "who shares a scale", "errors of a product"),
        "take a claim apart",
    }
    places = [list(q.answers).index(q.holds) for q in questions.QUESTIONS]
    assert all(places.count(place) >= 2 for place in range(4))  # one cannot win by always saying B


def test_the_answers_that_hold_are_those_of_others():
    values = np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(float)
    eights = [int(np.sum((low <= values) & (values < 2 * low))) for low in (0.25, 64)]
    share = questions.SHARE  # lesson 3 works it out with a pencil: 85.3 %
    expected = [
        f"{eights[0]} and {eights[1]}",
        str(by_ml_dtypes(0.3)),
        f"{by_ml_dtypes(1.0625):g} and {by_ml_dtypes(1.1875):g}",
        f"{float(ml_dtypes.finfo(ml_dtypes.float8_e4m3fn).max):g}",
        "in the mantissa",
        "stays",
        "stays",
        "7% too small",
        f"{1 / (1 - share / 2):.2f} times",
        str(2 + 4 + 4 + 4 + 4 - 1),
    ]
    assert [question.holds for question in questions.QUESTIONS] == expected
    assert round(share, 3) == 0.853


def test_the_exit_ticket_is_right():
    code = int(np.float64(0.7).astype(ml_dtypes.float8_e4m3fn).view(np.uint8))
    first, tie, cut, claim = (task.answer for task in questions.EXIT_TICKET)
    assert first == f"{by_ml_dtypes(0.7):g}: 0 {code >> 3:04b} {code & 7:03b}"
    assert tie.startswith(f"{by_ml_dtypes(1.3125):g}: half way")
    assert cut.startswith("256. ")
    assert f"{31 * 0.140625**2:.2f}" in cut
    assert "85%" in claim


def test_what_is_shown_is_escaped_and_marks_one_answer():
    planted = questions.Question("<b>?", dict.fromkeys("abcd", "<i>"), "c", "x")
    for shown in (planted.shown(), planted.answered()):
        assert "<b>?" not in shown
        assert "<i>" not in shown
    assert planted.answered().count("✓") == 1


# --- the handout ----------------------------------------------------------------------------------


class Cells(HTMLParser):
    """The texts of the cells of the first table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells, self.inside = [], False
        self.feed(page[: page.index("</table>")])

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "td"

    def handle_data(self, data):
        if self.inside:
            self.cells.append(data)


def test_the_handout_has_every_value_of_e4m3_from_zero_on_once():
    values = np.arange(128, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(float)
    rows = np.array(Cells(handout.handout()).cells).reshape(16, 8)[::-1].reshape(-1)
    assert rows[-1] == "NaN"
    assert [float(text) for text in rows[:-1]] == values[:-1].tolist()  # the code is the place


def test_the_handout_follows_the_format(monkeypatch):
    monkeypatch.setattr(handout, "FORMAT", fp8sim.get_format("e2m3"))
    page = handout.handout()
    assert ">7.5</td>" in page
    assert "448" not in page


def test_the_ruler_names_nothing_but_octaves():
    named = re.findall(r"<text[^>]*>([^<]+)<", handout.ruler())
    assert named == ["0.25", "0.5", "0.75"]
    assert handout.ruler().count('y2="30" stroke') - 1 == 8 + 4 + 1


def pages_of(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def print_to(pdf: Path, page: Path) -> bytes:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    profile = f"--user-data-dir={pdf.parent / 'profile'}"
    command = [CHROMIUM, *flags, profile, f"--print-to-pdf={pdf}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return pdf.read_bytes()


@needs_browser
def test_the_handout_prints_on_two_pages_of_a4(tmp_path):
    (tmp_path / "handout.html").write_text(handout.handout(), encoding="utf-8")
    pdf = print_to(tmp_path / "handout.pdf", tmp_path / "handout.html")
    assert pages_of(pdf) == 2
    boxes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox\s*\[([^]]+)\]", pdf)}
    assert all(abs(w - 595) < 2 and abs(h - 842) < 2 for _, _, w, h in boxes)  # A4 in points


# --- pictures -------------------------------------------------------------------------------------


def test_a_picture_takes_the_colours_of_the_page():
    pytest.importorskip("sphinx")
    pictures = load(DOCS / "pictures.py")
    assert doctest.testmod(pictures).failed == 0


def test_a_real_picture_has_a_name_and_neither_black_nor_white(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("matplotlib")
    from fp8sim.plotting import sqnr_against_scale

    ax = sqnr_against_scale(np.random.default_rng(0).standard_normal(1000))
    ax.figure.savefig(tmp_path / "a.svg")
    svg = load(DOCS / "pictures.py").inline((tmp_path / "a.svg").read_text(encoding="utf-8"), "A curve", "p0")
    assert 'aria-label="A curve"' in svg
    assert not re.search(r"#000000|#ffffff|black|white", svg)
    names = set(re.findall(r' id="([^"]+)"', svg))
    assert {name for name in names if not name.startswith("p0-")} == set()
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) == names


def test_code_that_is_shown_is_at_most_68_columns_wide():
    fence = re.compile(
        r"^```(?:\{code-cell\} ipython3|python|sh|bat|powershell)\n(.*?)^```", re.DOTALL | re.MULTILINE
    )
    wide = []
    for page in sorted(DOCS.rglob("*.md")):
        for block in fence.findall(page.read_text(encoding="utf-8")):
            head, _, code = block.rpartition("---\n") if block.startswith("---") else ("", "", block)
            if not re.search(r"remove-(?:cell|input)", head + code[:60]):
                wide += [(page.name, line) for line in code.splitlines() if len(line) > 68]
    assert wide == []


# --- nothing to install ---------------------------------------------------------------------------


def needed_in_the_browser(requirements: list[str]) -> dict[str, Requirement]:
    parsed = map(Requirement, requirements)
    return {r.name: r for r in parsed if not r.marker or r.marker.evaluate({**BROWSER, "extra": ""})}


def test_numba_and_the_command_line_are_not_needed_in_a_browser():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    requirements = ast.literal_eval(re.search(r"^dependencies = (\[.*\])$", project, re.MULTILINE)[1])
    assert set(needed_in_the_browser(requirements)) == {"numpy", "ml_dtypes", "rich"}
    here = [Requirement(text) for text in requirements]
    assert "numba" in {r.name for r in here if not r.marker or r.marker.evaluate({"extra": ""})}


#: What a browser's Python has not: modules, and threads that start.
AS_IN_A_BROWSER = """
import sys, threading
for name in ("numba", "typer", "click", "fcntl", "resource", "termios", "_posixshmem", "_multiprocessing", "pwd"):
    sys.modules[name] = None
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
"""
WORK = """
import hashlib, numpy as np, fp8sim
x = np.random.default_rng(0).standard_normal((40, 300)).astype("f4")
y = fp8sim.matmul(x, x.T, "deepseek-v3"), fp8sim.matmul(x, x.T, "int8-row"), fp8sim.quantize(np.resize(x, (99, 700)), "e4m3", "1x128").bits
fp8sim.compare(x, x.T)._repr_html_(); fp8sim.explain(0.3)._repr_html_(); fp8sim.model_cost("llama-3.1-8b")
print(hashlib.sha256(b"".join(a.tobytes() for a in y)).hexdigest())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(fp8sim.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )


def test_the_same_bits_without_what_a_browser_has_not():
    there = run(AS_IN_A_BROWSER + WORK)
    assert there.stderr == ""
    assert there.stdout == run(WORK).stdout


LONG = """
import sys
sys.modules["numba"] = None
from fp8sim import _kernels
_kernels.note_work({m}, 1024, 1024)
_kernels.note_work({m}, 1024, 1024)
_kernels.note_work(4096, 4096, 4096)
"""


def test_what_takes_minutes_without_numba_says_so_once_before_it_starts():
    (said,) = run(LONG.format(m=2048)).stderr.splitlines()
    assert said.startswith("fp8sim runs without numba here: the same bits")
    assert "2048 x 1024 x 1024 takes 2 min or more" in said
    (said,) = run(LONG.format(m=1000)).stderr.splitlines()  # many short ones are noticed too
    assert "1000 x 1024 x 1024" in said
    if _kernels.available():
        assert run(LONG.format(m=2048).replace('sys.modules["numba"] = None', "")).stderr == ""


def test_a_product_notes_its_work(monkeypatch):
    from fp8sim import _kernels

    noted = []
    monkeypatch.setattr(_kernels, "note_work", lambda *size: noted.append(size))
    with _kernels.readable():
        fp8sim.matmul(np.ones((2, 64), np.float32), np.ones((64, 3), np.float32))
    assert noted == [(2, 3, 64)]


def test_exact_sums_are_settled_in_float64_only_where_that_is_safe(rng):
    a, b = (rng.standard_normal(shape).astype(np.float32).astype(float) for shape in [(40, 1000), (1000, 40)])
    a[0] = 0.0
    a[1, 500:] = a[1, :500] = np.repeat(2.0**12, 500)  # pairs that cancel
    b[500:] = -b[:500]
    product, unsettled = _float64_product(a, b)
    assert unsettled[1].all()
    assert 0 < np.count_nonzero(unsettled[2:]) + 1 < 20
    for i in range(40):
        for j in np.flatnonzero(~unsettled[i])[:5]:
            exact = exact_dot(a[i], b[:, j])
            assert product[i, j].view(np.uint32) == exact.view(np.uint32)


@pytest.mark.parametrize("nudge", [0.0, 2.0**-60, -(2.0**-60)])
def test_an_exact_sum_beside_a_midpoint_is_left_to_fractions(nudge):
    a, b = np.array([[1.0, 2.0**-24, nudge]]), np.ones((3, 1))  # half way between 1 and its neighbour
    _, unsettled = _float64_product(a, b)
    assert unsettled.all()
    exact = 1 + Fraction(2) ** -24 + Fraction(nudge)
    expected = 1 + 2.0**-23 if exact > 1 + Fraction(2) ** -24 else 1.0
    assert float(exact_dot(a[0], b[:, 0])) == expected


# --- the built pages ------------------------------------------------------------------------------


@contextlib.contextmanager
def served(folder: Path):
    """Serve a folder on a port of this machine, and collect what was asked for."""
    asked: list[str] = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(str(args[1]))

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def page(browser):
    return browser


@needs_site
def test_the_slides_are_one_file_with_a_slide_for_each_heading():
    deck = (SITE / "teach" / "deck.html").read_text(encoding="utf-8")
    headings = re.findall(
        r"^## (.+)$", (DOCS / "teach" / "slides.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert deck.count('<div class="slide"') == len(headings) > 25
    assert not re.search(r'(?:src|href)="(?!#|https?:)|@import|url\((?!#)', deck)
    assert not re.search(r'src="|<link', deck)
    shown = (len(re.findall('<ol type="A"', deck)), deck.count("✓"))
    assert shown == (10, 8)  # the answers to questions 1 and 5 are pictures


@needs_site
@needs_browser
def test_the_slides_turn_by_keys_and_fit_the_screen(page):
    page.emulate(1280, height=720)
    page.open((SITE / "teach" / "deck.html").as_uri())
    now = "return Number(document.querySelector('.slide.now').id)"
    last = page.run("return document.querySelectorAll('.slide').length")
    assert page.run(now) == 1
    page.press("ArrowRight", "ArrowRight", "ArrowLeft", "PageDown")
    assert page.run(now) == 3
    page.press("End", "ArrowRight")
    assert page.run(now) == last
    page.press("Home")
    assert page.run("return location.hash") == "#1"
    script = """const out = [];
        for (const slide of document.querySelectorAll(".slide")) {
          document.querySelector(".slide.now").classList.remove("now");
          slide.classList.add("now");
          if (slide.scrollHeight > innerHeight + 1 || document.documentElement.scrollWidth > innerWidth)
            out.push(`${slide.id}: ${slide.scrollHeight}, ${document.documentElement.scrollWidth}`);
        }
        return out;"""
    assert page.run(script) == []
    assert [entry["message"] for entry in page.log("browser")] == []
    page.emulate_nothing()


@needs_site
@needs_browser
def test_the_slides_print_a_page_each(tmp_path):
    deck = SITE / "teach" / "deck.html"
    slides = deck.read_text(encoding="utf-8").count('<div class="slide"')
    assert pages_of(print_to(tmp_path / "deck.pdf", deck)) == slides


@needs_lite
def test_the_notebooks_and_the_wheel_are_listed():
    listed = json.loads((SITE / "lite" / "api" / "contents" / "all.json").read_text(encoding="utf-8"))
    names = {entry["name"] for entry in listed["content"]}
    assert names == {f"lesson-{n}.ipynb" for n in range(4)}
    for name in names:
        notebook = json.loads((SITE / "lite" / "files" / name).read_text(encoding="utf-8"))
        assert "%pip install -q fp8sim" in "".join(notebook["cells"][0]["source"])
        assert not any(cell.get("outputs") for cell in notebook["cells"])
    wheels = json.loads((SITE / "lite" / "pypi" / "all.json").read_text(encoding="utf-8"))
    assert fp8sim.__version__ in wheels["fp8sim"]["releases"]


@needs_lite
def test_all_that_the_wheel_needs_is_there_or_in_pyodide():
    wheels = SITE / "lite" / "pypi"
    (own,) = wheels.glob("fp8sim-*.whl")
    found = {path.name.split("-")[0].lower().replace("_", "-"): path for path in wheels.glob("*.whl")}
    queue, seen = [own], set()
    while queue:
        with zipfile.ZipFile(queue.pop()) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = email.message_from_bytes(wheel.read(name))
        for need in needed_in_the_browser(metadata.get_all("Requires-Dist", [])).values():
            name = need.name.lower().replace("_", "-")
            if name in found:
                version = found[name].name.split("-")[1]
                queue += [found[name]] if name not in seen else []
            else:
                version = PYODIDE[name]
            seen.add(name)
            assert Version(version) in need.specifier, need
    assert {"numpy", "ml-dtypes", "rich", "pygments"} <= seen
    assert "numba" not in seen
    assert "matplotlib" in PYODIDE  # what the first cell asks for too


@needs_lite
@needs_browser
def test_the_page_loads_from_a_server_and_shows_the_notebooks(page):
    with served(SITE / "lite") as (root, _):
        page.log("browser")
        page.open(f"{root}/lab/index.html")
        wait = """const done = arguments[0], start = Date.now();
            const look = () => {
              const names = [...document.querySelectorAll(".jp-DirListing-itemName")].map((e) => e.textContent);
              if (names.length || Date.now() - start > 60000) done(names); else setTimeout(look, 200);
            };
            look();"""
        page.call("/timeouts", script=90000)
        names = page.wait(wait)
        assert {name for name in names if name.endswith(".ipynb")} == {f"lesson-{n}.ipynb" for n in range(4)}
        asked = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
        urls = {m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"}
        elsewhere = {url for url in urls if not url.startswith((root, "data:", "blob:", "chrome", "file:"))}
        assert {url.split("/")[2] for url in elsewhere} <= {"cdn.jsdelivr.net"}  # Pyodide's own host
        page.open("about:blank")


@needs_site
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_page_is_wider_than_the_screen(page, width, scheme):
    page.emulate(width, scheme)
    wide = []
    for path in sorted(
        [*SITE.glob("*.html"), *(SITE / "lessons").glob("*.html"), *(SITE / "teach").glob("*.html")]
    ):
        if path.name == "handout.html":  # paper: a phone shows it scaled
            continue
        page.open(path.as_uri())
        if page.run("return document.documentElement.scrollWidth") > width:
            wide.append(path.name)
    page.emulate_nothing()
    assert wide == []


# --- the commands of the pages --------------------------------------------------------------------

#: Beginning of a command -> why it is not run here.
NOT_RUN = {
    "fp8sim claims": "half a minute; tests of the command line run it",
    "fp8sim train": "ten minutes",
    "fp8sim check-gpu": "needs a GPU",
    "fp8sim play": "opens a browser; tests of the page run it",
    "fp8sim compare --checkpoint": "run below, on a file made for it",
    "fp8sim model path/": "run below, on a file made for it",
    "fp8sim model FOLDER": "run below, on a checkpoint made for it",
    "fp8sim audit FOLDER": "run below, on a checkpoint made for it",
    "fp8sim quantize FOLDER": "run below, on a checkpoint made for it",
    "python3 -m venv": "installs; nox does so in every session",
    ".venv/bin/pip": "installs",
    ".venv\\Scripts\\pip": "installs",
    "py -m venv": "Windows",
    ".venv/bin/jupyter": "starts a server",
    ".venv\\Scripts\\jupyter": "starts a server",
    "sudo apt-get": "changes the machine",
    "python3 -m pip wheel": "the session that builds the documentation makes the wheel",
    "python3 docs/build_lite.py": "the session that builds the documentation runs it",
    "python3 -m http.server": "starts a server",
}


def commands() -> list[str]:
    """Return the commands that pages name, in blocks and within sentences."""
    found = []
    for path in [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]:
        if "_build" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(?:sh|bat|powershell|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        found += [line for block in blocks for line in block.splitlines() if line.strip()]
        found += re.findall(r"`(fp8sim [a-z][^`\n]*)`", text)
    return sorted(set(found))


def test_every_command_is_run_or_left_out_by_name():
    assert len(commands()) > 15
    for beginning in NOT_RUN:
        assert any(command.startswith(beginning) for command in commands()), f"{beginning} is on no page"


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_pages_works_as_it_stands(command, tmp_path):
    for beginning, why in NOT_RUN.items():
        if command.startswith(beginning):
            pytest.skip(f"{beginning}: {why}")
    run_command(command, tmp_path)


def run_command(command: str, folder: Path) -> None:
    windows = command.startswith(".venv\\")
    program, *words = shlex.split(command.replace("\\", "/") if windows else command)
    assert program in ("fp8sim", ".venv/bin/fp8sim", ".venv/Scripts/fp8sim"), command
    environment = {**os.environ, "PYTHONPATH": str(Path(fp8sim.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "fp8sim", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or done.stderr.startswith("wrote ")


def test_the_check_of_commands_can_fail(tmp_path):
    with pytest.raises(AssertionError):
        run_command("fp8sim explain value 0.3 --format e4m9", tmp_path)


def test_the_commands_that_take_a_file_work_on_one(tmp_path, rng):
    from safetensors.numpy import save_file

    save_file({"NAME": rng.standard_normal((256, 256)).astype(np.float16)}, tmp_path / "FILE.safetensors")
    (tmp_path / "FILE").write_bytes((tmp_path / "FILE.safetensors").read_bytes())
    config = {"model_type": "llama", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128}
    config |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "config.json").write_text(json.dumps(config))
    took = [c for c in commands() if c.startswith(("fp8sim compare --checkpoint", "fp8sim model path/"))]
    assert len(took) >= 2
    for command in took:
        run_command(command, tmp_path)


def test_the_commands_that_take_a_checkpoint_work_on_one(tmp_path, rng):
    from safetensors.numpy import save_file

    config = {"model_type": "llama", "vocab_size": 320, "hidden_size": 128, "intermediate_size": 256}
    config |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FOLDER" / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens": (320, 128), "lm_head": (320, 128), "model.norm": (128,)}
    for layer in range(2):
        for kind, shape in {
            **{f"self_attn.{x}_proj": (128, 128) for x in "qkvo"},
            **{f"mlp.{x}_proj": (256, 128) for x in ("gate", "up")},
            "mlp.down_proj": (128, 256),
            "input_layernorm": (128,),
            "post_attention_layernorm": (128,),
        }.items():
            shapes[f"model.layers.{layer}.{kind}"] = shape
    weights = {f"{name}.weight": rng.standard_normal(x).astype(np.float16) for name, x in shapes.items()}
    save_file(weights, tmp_path / "FOLDER" / "model.safetensors")
    took = [command for command in commands() if " FOLDER" in command and command.startswith("fp8sim ")]
    assert {command.split()[1] for command in took} == {"audit", "model", "quantize"}
    for command in took:
        run_command(command, tmp_path)
