"""What the pages of the lessons have beside Markdown: guesses, exercises, folded answers, hovers.

A Sphinx extension. `:::{guess}` asks before a cell measures: what that cell shows, and the `:::{measured}`
after it, is folded until the reader opens it. `:::{exercise} 1.3` is an exercise, `:::{answer}` and cells
tagged `answer` its folded answer. Links to `play:` lead to the interactive page; terms of the glossary say
what they mean. `write_notebooks.py` reads the same pages.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDED = {"answer", "tag_answer"}  # classes of what is folded under "Answer"
GLOSSARY = "lessons/glossary"


class Block(SphinxDirective):
    """A block with a class of its name, in which Markdown goes on."""

    has_content = True
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the block; an exercise has a number, a title and an anchor."""
        block = nodes.container(classes=[self.name])
        if self.name == "guess":
            block += nodes.paragraph("", "Guess first", classes=["block-title"])
        if self.name == "exercise":
            number = self.arguments[0]
            block += nodes.paragraph("", f"Exercise {number}", classes=["block-title"])
            block["ids"] = [f"exercise-{number.replace('.', '-')}"]
        self.state.nested_parse(self.content, self.content_offset, block)
        return [block]


def html(text: str) -> nodes.raw:
    """Return a piece of HTML."""
    return nodes.raw("", text, format="html")


def fold(parts: Iterable[nodes.Node], summary: str) -> list[nodes.Node]:
    """Return the nodes as what a click unfolds."""
    head = f'<details class="fold"><summary>{summary}</summary>'
    return [html(head), *parts, html("</details>")]


def classes(node: nodes.Node) -> set[str]:
    """Return the classes of a node."""
    return set(node.get("classes", ())) if isinstance(node, nodes.Element) else set()


def fold_answers(app: Sphinx, doctree: nodes.document) -> None:
    """Fold answers, each with the cells that belong to it, and what was measured after a guess."""
    for section in [doctree, *doctree.findall(nodes.section)]:
        children: list[nodes.Node] = []
        run: list[nodes.Node] = []
        guess = None
        for node in [*section.children, None]:
            kind = classes(node) if node is not None else set()
            if run and not kind & FOLDED:
                children += fold(run, "Answer")
                run = []
            if node is None:
                break
            if kind & FOLDED:
                run.append(node)
                continue
            if "guess" in kind:
                guess = "asked"
            elif guess == "asked" and "cell" in kind:
                guess = node
            elif "measured" in kind and isinstance(guess, nodes.Element):
                fold_output(guess, [node])
                guess = None
                continue
            elif guess not in (None, "asked"):
                fold_output(guess, [])
                guess = None
            children.append(node)
        if isinstance(guess, nodes.Element):
            fold_output(guess, [])
        section.children = children
        for child in children:
            child.parent = section


def fold_output(cell: nodes.Element, more: list[nodes.Node]) -> None:
    """Fold what a cell shows, and what is said about it."""
    source = [node for node in cell.children if "cell_output" not in classes(node)]
    shown = [node for node in cell.children if "cell_output" in classes(node)]
    cell.children = [*source, *fold([*shown, *more], "Measured")]
    for child in cell.children:
        child.parent = cell


def link_play(app: Sphinx, doctree: nodes.document) -> None:
    """Lead `play:number?value=0.3` to the interactive page, in that state."""
    folder = posixpath.dirname(app.env.docname)
    page = posixpath.relpath("play/index.html", folder or ".")
    for link in doctree.findall(nodes.reference):
        if link.get("refuri", "").startswith("play:"):
            link["refuri"] = f"{page}#{link['refuri'].removeprefix('play:')}"
            link["classes"] = [*link.get("classes", ()), "play"]


def inline_drawings(app: Sphinx, doctree: nodes.document) -> None:
    """Put drawings of the lessons into the page, where they follow its colours; an image would not."""
    for image in list(doctree.findall(nodes.image)):
        source = Path(app.srcdir, image["uri"])
        if source.suffix == ".svg" and "lessons" in source.parts:
            drawing = source.read_text(encoding="utf-8")
            image.parent.replace(image, html(f'<div class="drawing">{drawing}</div>'))


def note_terms(app: Sphinx, doctree: nodes.document) -> None:
    """Remember what the glossary says of each term."""
    if app.env.docname == GLOSSARY:
        app.env.lesson_terms = {  # type: ignore[attr-defined]
            anchor: item.next_node(nodes.definition).next_node(nodes.paragraph).astext()
            for item in doctree.findall(nodes.definition_list_item)
            for term in item.findall(nodes.term)
            for anchor in term["ids"]
        }


def explain_terms(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Let a term say what it means to a pointer that rests on it, and to a screen reader."""
    told: dict[str, str] = getattr(app.env, "lesson_terms", {})
    for link in doctree.findall(nodes.reference):
        anchor = link.get("refid") or link.get("refuri", "").partition("#")[2]
        if anchor in told and any("std-term" in classes(child) for child in link.children):
            link["reftitle"] = " ".join(told[anchor].split())
            link["classes"] = [*link.get("classes", ()), "term"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect all of it."""
    for name in ("guess", "measured", "exercise", "answer"):
        app.add_directive(name, Block)
    app.add_css_file("lessons.css")
    app.connect("doctree-read", fold_answers)
    app.connect("doctree-read", link_play)
    app.connect("doctree-read", inline_drawings)
    app.connect("doctree-read", note_terms)
    app.connect("doctree-resolved", explain_terms)
    return {"version": "1", "parallel_read_safe": False}
