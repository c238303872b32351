"""Write the notebooks of the lessons: `python docs/write_notebooks.py FOLDER`, or `--teacher`.

A student's notebook is the page of the lesson without answers, outputs and hidden checks; where the page asks
for a guess there is a cell for it, and under each exercise one for the answer and one that checks it. A
teacher's copy has the answers, the points that count and the checks too. Cells are marked for nbgrader
(metadata, schema 3), a teacher's copy also for Otter Assign (raw cells), each of which makes a graded
assignment of it.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from write_exercises import EXERCISES

DOCS = Path(__file__).parent
#: Page -> notebook.
LESSONS = {
    "start-here": "lesson-0",
    "what-a-bit-is-worth": "lesson-1",
    "multiply-in-8-bits": "lesson-2",
    "did-it-halve": "lesson-3",
}
_DROPPED = {"remove-cell", "answer"}  # tags of cells that a student does not get
_HEADER = "from fp8sim.course import check"

Cell = dict[str, Any]


class Block(NamedTuple):
    """A piece of a page: prose, a code cell, or a block of one of the directives of lesson_pages.py."""

    kind: str  #: "prose", "code", "guess", "measured", "exercise" or "answer"
    text: str
    argument: str = ""  #: the number of an exercise
    tags: tuple[str, ...] = ()  #: of a code cell


def blocks(page: str) -> Iterator[Block]:
    """Yield the pieces of a page, in order; prose is split at headings."""
    body = re.sub(r"\A---\n.*?\n---\n", "", page, flags=re.DOTALL)
    pattern = (
        r"^```{code-cell}[^\n]*\n(?P<code>.*?)^```$"
        r"|^(?P<colons>:{3,}){(?P<kind>\w+)}(?P<argument>[^\n]*)\n(?P<block>.*?)^(?P=colons)$"
    )
    end = 0
    for found in re.finditer(pattern, body, flags=re.DOTALL | re.MULTILINE):
        yield from prose(body[end : found.start()])
        end = found.end()
        if found["code"] is None:
            yield Block(found["kind"], found["block"].strip(), found["argument"].strip())
        else:
            yield code_block(found["code"])
    yield from prose(body[end:])


def prose(text: str) -> Iterator[Block]:
    """Yield prose, a piece for each heading."""
    text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)
    for part in re.split(r"^(?=#{1,3} )", text, flags=re.MULTILINE):
        if part.strip():
            yield Block("prose", part.strip())


def code_block(text: str) -> Block:
    """Return a code cell without its options, and its tags."""
    header = re.match(r"(---\n.*?\n---\n|(:[\w-]+:[^\n]*\n)*)", text, flags=re.DOTALL)[0]
    tags = re.search(r"tags:\s*\[([^\]]*)\]", header)
    names = [tag.strip() for tag in tags[1].split(",")] if tags else []
    return Block("code", text[len(header) :].strip(), tags=tuple(names))


def notebook(lesson: str, *, teacher: bool = False) -> dict[str, Any]:
    """Return a notebook, as JSON has it."""
    page = (DOCS / "lessons" / f"{lesson}.md").read_text(encoding="utf-8")
    cells: list[Cell] = []
    number = ""  # of the exercise whose answer may follow
    for block in blocks(page):
        answers = block.kind == "answer" or "answer" in block.tags
        if number and not answers:
            cells += _closing(number, teacher)
            number = ""
        if block.kind == "prose":
            cells.append(_markdown(block.text))
        elif block.kind == "code":
            if teacher or not _DROPPED & set(block.tags):
                cells.append(_code(block.text, tags=list(block.tags)))
        elif block.kind == "guess":
            cells.append(_markdown(f"**Guess first.** {block.text}"))
            cells.append(_code("guess = ...  # replace the dots, then go on", tags=["guess"]))
        elif block.kind == "measured":
            cells.append(_markdown(block.text if teacher else _folded(block.text)))
        elif block.kind == "exercise":
            number = block.argument
            cells += _opening(number, block.text, teacher)
        elif teacher:
            cells.append(_markdown(f"**Answer to {number}.** {block.text}", tags=["answer"]))
    if number:
        cells += _closing(number, teacher)
    cells.insert(1, _code(_HEADER))
    if teacher:
        cells.insert(0, _raw(f"# ASSIGNMENT CONFIG\nname: {LESSONS[lesson]}"))
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index}"
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _opening(number: str, text: str, teacher: bool) -> list[Cell]:
    """Return what is asked, and where the answer goes; in a teacher's copy the right one; more may follow."""
    exercise, name = EXERCISES[number], f"exercise-{number.replace('.', '-')}"
    asked, judged = _markdown(f"**Exercise {number}.** {text}"), exercise.kind == "text"
    value = repr(exercise.told if judged else exercise.right).replace("'nan'", 'float("nan")')
    solution = f"### BEGIN SOLUTION\n{_variable(number)} = {value}  # SOLUTION\n### END SOLUTION"
    blank = '"""\n...\n"""  # sentences, in the place of the dots' if judged else "..."
    answer = _code(solution if teacher else f"{_variable(number)} = {blank}")
    answer["metadata"] = _nbgrader(name, grade=judged, solution=True, points=3)
    if not teacher:
        return [asked, answer]
    manual = "points: 3\nmanual: true" if judged else "points: 1"
    config = _raw(f"# BEGIN QUESTION\nname: {_variable(number)}\n{manual}")
    return [config, asked, _raw("# BEGIN SOLUTION"), answer]


def _closing(number: str, teacher: bool) -> list[Cell]:
    """Return the check of an answer; in a teacher's copy one that fails, and the end of the question."""
    call = f'check("{number}", {_variable(number)})'
    if EXERCISES[number].kind == "text":  # says what counts; the points are a reader's
        return [*map(_raw, ("# END SOLUTION", "# END QUESTION") if teacher else ()), _code(call)]
    test = _code(f"assert {call}" if teacher else call)
    name = f"exercise-{number.replace('.', '-')}-check"
    test["metadata"] = _nbgrader(name, grade=True, solution=False, points=1)
    if not teacher:
        return [test]
    marks = ("# END SOLUTION", "# BEGIN TESTS", "", "# END TESTS", "# END QUESTION")
    return [_raw(mark) if mark else test for mark in marks]


def _variable(number: str) -> str:
    return f"answer_{number.replace('.', '_')}"


def _nbgrader(name: str, *, grade: bool, solution: bool, points: int = 0) -> dict[str, Any]:
    """Return nbgrader's metadata of a cell."""
    marks: dict[str, Any] = {
        "schema_version": 3,
        "grade_id": name,
        "grade": grade,
        "solution": solution,
        "locked": grade and not solution,
        "task": False,
    }
    return {"nbgrader": marks | ({"points": points} if grade else {})}


def _folded(text: str) -> str:
    """Return text that a reader unfolds, after the cell above was run."""
    return f"<details><summary>Run the cell above, then open this</summary>\n\n{text}\n\n</details>"


def _markdown(text: str, tags: list[str] | None = None) -> Cell:
    """Return prose as Jupyter shows it: terms as hovers, links to notebooks, drawings in the cell."""
    attachments = {}
    for name in re.findall(r"!\[[^\]]*\]\(([\w-]+\.svg)\)", text):
        data = base64.b64encode((DOCS / "lessons" / name).read_bytes()).decode()
        attachments[name] = {"image/svg+xml": data}
        text = text.replace(f"({name})", f"(attachment:{name})")
    cell = {"cell_type": "markdown", "metadata": {"tags": tags} if tags else {}, "source": _plain(text)}
    return cell | ({"attachments": attachments} if attachments else {})


def _plain(text: str) -> str:
    """Replace what MyST has and Markdown has not."""
    text = re.sub(r"{term}`([^`<]+?)(?:\s*<[^`>]+>)?`", _hover, text)
    text = re.sub(r"\[([^\]]+)\]\(play:([\w-]+)\??([^)\s]*)\)", _play, text)
    text = re.sub(r"\[([^\]]+)\]\(#[^)\s]*\)", r"\1", text)
    for page, name in LESSONS.items():
        text = re.sub(rf"\[([^\]]+)\]\({page}\.md[^)\s]*\)", rf"[\1]({name}.ipynb)", text)
    return re.sub(r"\[([^\]]+)\]\((?![a-z]+:)[\w./-]+\.md[^)\s]*\)", r"\1", text)


def _hover(found: re.Match[str]) -> str:
    """Return a term with what the glossary says of it."""
    entry = re.search(r"<([^>]+)>", found[0])
    told = glossary()[(entry[1] if entry else found[1]).lower()]
    return f'<abbr title="{told}">{found[1]}</abbr>'


def glossary() -> dict[str, str]:
    """Return term, in small letters -> what it means, without markup."""
    page = (DOCS / "lessons" / "glossary.md").read_text(encoding="utf-8")
    terms = {}
    for entry in re.split(r"\n(?=\S)", re.search(r"{glossary}\n(.*?)\n:::", page, re.DOTALL)[1]):
        lines = entry.splitlines()
        heads = [line.strip() for line in lines if line and not line.startswith(" ")]
        text = " ".join(line.strip() for line in lines if line.startswith(" "))
        text = re.sub(r"{\w+}`([^`<]+?)(?:\s*<[^`>]+>)?`", r"\1", text).replace('"', "&quot;")
        plain = re.sub(r"[`$]|(?<!\s)\*|\*(?!\s)", "", text)  # a star between spaces is a product
        terms |= {head.lower(): plain for head in heads}
    return terms


def _play(found: re.Match[str]) -> str:
    """Return a link to the interactive page as the call that shows it."""
    state = ", ".join(
        f'{key}="{value}"' for key, _, value in (p.partition("=") for p in found[3].split("&") if p)
    )
    call = ", ".join(filter(None, (f'"{found[2]}"', state)))
    return f"{found[1]} (`fp8sim.play({call})`)"


def _code(text: str, tags: list[str] | None = None) -> Cell:
    metadata = {"tags": tags} if tags else {}
    return {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": [], "source": text}


def _raw(text: str) -> Cell:
    return {"cell_type": "raw", "metadata": {}, "source": text}


def write_notebook(lesson: str, folder: Path, *, teacher: bool = False) -> Path:
    """Write the notebook of a lesson into a folder; return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{LESSONS[lesson]}{'-teacher' if teacher else ''}.ipynb"
    file.write_text(json.dumps(notebook(lesson, teacher=teacher), indent=1) + "\n", encoding="utf-8")
    return file


def main(arguments: list[str]) -> int:
    """Write the notebooks."""
    parser = argparse.ArgumentParser(description="Write the notebooks of the lessons.")
    parser.add_argument("folder", type=Path, help="where they go")
    parser.add_argument("--teacher", action="store_true", help="with answers and checks")
    options = parser.parse_args(arguments)
    for lesson in LESSONS:
        print(write_notebook(lesson, options.folder, teacher=options.teacher))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
