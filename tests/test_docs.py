"""The documentation: its links are checked, and its pages leave out nothing that they promise."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import typer

from fp8sim import plotting
from fp8sim._support import published
from fp8sim.cli.commands import app

DOCS = Path(__file__).parent.parent / "docs"

PAGE = """<!DOCTYPE html><html><head><link rel="stylesheet" href="_static/style.css?v=1"></head>
<body id="start"><a href="other.html#here">other</a> <a href="#start">up</a> <img src="_static/a%20b.png">
<a href="https://example.org/far">elsewhere</a> <img src="data:image/png;base64,AA=="> {planted}</body></html>"""


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_links = load("check_links")


def site(folder: Path, planted: str = "", css: str = "") -> Path:
    (folder / "_static").mkdir()
    (folder / "index.html").write_text(PAGE.format(planted=planted))
    (folder / "other.html").write_text('<h1 id="here">Other</h1><a href="index.html">back</a>')
    (folder / "_static" / "a b.png").touch()
    (folder / "_static" / "style.css").write_text(f"body {{ background: url('a b.png') }} {css}")
    return folder


def test_a_site_whose_links_all_lead_somewhere_has_no_fault(tmp_path):
    assert check_links.faults_of_site(site(tmp_path)) == []


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        ('<a href="gone.html">x</a>', "gone.html leads to no file"),
        ('<a href="_static">x</a>', "_static leads to no file"),
        ('<a href="other.html#gone">x</a>', "other.html#gone leads to no anchor"),
        ('<a href="#gone">x</a>', "#gone leads to no anchor"),
        ('<img src="gone.png">', "gone.png leads to no file"),
        ('<img srcset="_static/a%20b.png 1x, gone.png 2x">', "gone.png leads to no file"),
        ('<script src="https://far.org/x.js"></script>', "loads https://far.org/x.js from another host"),
        ('<link rel="stylesheet" href="//far.org/x.css">', "loads //far.org/x.css from another host"),
        ('<img src="http://far.org/x.png">', "loads http://far.org/x.png from another host"),
        ("<style>@import 'https://far.org/x.css';</style>", "loads https://far.org/x.css from another host"),
        ('<p style="background: url(https://far.org/x)">', "loads https://far.org/x from another host"),
    ],
)
def test_a_planted_fault_of_a_page_is_found(tmp_path, planted, fault):
    assert check_links.faults_of_site(site(tmp_path, planted)) == [f"index.html: {fault}"]


def test_a_state_of_the_interactive_page_is_no_anchor_but_the_page_must_be_there(tmp_path):
    folder = site(tmp_path, '<a href="play/index.html#number?value=0.3">0.3</a>')
    (fault,) = check_links.faults_of_site(folder)
    assert fault == "index.html: play/index.html#number?value=0.3 leads to no file"
    (folder / "play").mkdir()
    (folder / "play" / "index.html").write_text("<p>play</p>")
    assert check_links.faults_of_site(folder) == []


@pytest.mark.parametrize("shown", ["Table(title=&#39;Sizes&#39;)", "&lt;fp8sim.gemm.Cost object at 0x7f&gt;"])
def test_a_result_shown_as_python_writes_it_is_found(tmp_path, shown):
    (fault,) = check_links.faults_of_site(site(tmp_path, f"<pre>\n{shown}\n</pre>"))
    assert re.match(r"index.html: shows (Table\(title=|<fp8sim.gemm.Cost object at).* no HTML", fault)


def test_a_style_sheet_that_loads_a_font_from_elsewhere_is_found(tmp_path):
    css = '@font-face { src: url("https://far.org/x.woff2") }'
    (fault,) = check_links.faults_of_site(site(tmp_path, css=css))
    assert fault == "_static/style.css: loads https://far.org/x.woff2 from another host"


def test_a_folder_without_pages_is_no_site(tmp_path):
    (fault,) = check_links.faults_of_site(tmp_path)
    assert "build the documentation first" in fault


def test_a_markdown_link_to_a_missing_file_is_found_but_not_one_in_code(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(
        "[here](README.md) [far](https://far.org/x) [up](#a) ![gone](docs/gone.svg) [too](gone.md#part)\n"
        "```text\n[code](nowhere.md)\n```\n"
    )
    found = check_links.faults_of_markdown(file)
    assert found == ["README.md: docs/gone.svg leads to no file", "README.md: gone.md leads to no file"]


@pytest.mark.parametrize("file", check_links.READ_ON_GITHUB, ids=lambda file: file.name)
def test_the_files_read_on_github_link_to_files_that_exist(file):
    assert check_links.faults_of_markdown(file) == []


def test_the_exit_status_says_whether_there_is_a_fault(tmp_path, capsys):
    assert check_links.main([str(site(tmp_path))]) == 0
    (tmp_path / "other.html").unlink()
    assert check_links.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == "index.html: other.html#here leads to no file\n"


# --- pages ----------------------------------------------------------------------------------------


def test_every_published_figure_is_on_the_page_of_sources():
    page = (DOCS / "sources.md").read_text(encoding="utf-8")
    tables = {name for name in published.__all__ if name.isupper()} - {"CLAIM", "CLAIM_SOURCE"}
    assert tables == set(re.findall(r"published\.([A-Z0-9_]+)", page))


def test_the_gallery_shows_every_picture():
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert {name for name in plotting.__all__ if f"plotting.{name}" in page} == set(plotting.__all__)


@pytest.mark.parametrize(
    "page", [*check_links.READ_ON_GITHUB, *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name
)
def test_the_commands_that_a_page_names_exist(page):
    for words in re.findall(r"`fp8sim ([a-z][^`]*)`", page.read_text(encoding="utf-8")):
        assert unknown_words(words.split()) == []


def unknown_words(words: list[str]) -> list[str]:
    """Return the commands and options in the words after `fp8sim` that the command line does not know."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and words:
        if words[0] not in command.commands:
            return words[:1]
        command, words = command.commands[words[0]], words[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in words if word.startswith("--") and word not in options]


def test_an_unknown_command_and_an_unknown_option_are_found():
    assert unknown_words(["explain", "value", "0.3", "--format", "e4m3"]) == []
    assert unknown_words(["explian", "0.3"]) == ["explian"]
    assert unknown_words(["explain", "values", "0.3"]) == ["values"]
    assert unknown_words(["explain", "dot", "--block", "--core", "x"]) == ["--block"]


def test_every_page_is_in_the_navigation():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {
        line for block in re.findall(r"```{toctree}(.*?)```", index, re.DOTALL) for line in block.split()
    }
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    assert {page for page in pages if not page.startswith("_build")} - {"index"} == listed & pages
