"""The README shows what the commands print."""

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fp8sim.experiments.claims.rules import HALVED
from fp8sim.experiments.train import recorded_training
from fp8sim.report import verdict_svg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
VERDICT = re.search(r"<!-- verdict begin -->(.*)<!-- verdict end -->", README, flags=re.DOTALL)[1]
STALE = "run python docs/write_verdict.py"


@pytest.fixture
def result(verdict):
    return verdict


def test_the_verdict_is_what_claims_prints_first(result):
    shown = re.search(r"```text\n(.*?)\n```", VERDICT, flags=re.DOTALL)[1]
    assert str(result).startswith(f"{shown}\n\n"), STALE
    assert f"the {len(result.rows)} figures" in VERDICT, STALE


def test_the_picture_of_the_verdict_is_what_claims_measures(result):
    (name,) = re.findall(r"!\[[^]]{40,}\]\(([^)]+)\)", VERDICT)
    assert (ROOT / name).read_text(encoding="utf-8") == verdict_svg(result.rows), STALE


def test_the_picture_is_a_file_that_loads_nothing_and_repeats_the_figures_of_the_table(result):
    picture = verdict_svg(result.rows)
    root = ElementTree.fromstring(picture)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|<script|href", picture)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    drawn = {int(text.split(".")[0]) for text in texts if re.match(r"\d+\. ", text)}
    assert drawn == {n for n, row in enumerate(result.rows, 1) if row.rule == HALVED}
    for number in drawn:
        row = result.rows[number - 1]
        assert f"{row.looked_at:.2f}" in texts
        assert row.verdict in texts


def test_the_training_is_the_recorded_one():
    training, made = recorded_training()
    table = training.parts()[0].text(110)
    assert f"```text\n{table}\n```" in README, "run python docs/write_training.py"
    assert made[made.index("(") : -1] in README


def test_what_a_notebook_is_told_to_run_runs_and_gives_what_the_comments_say():
    (block,) = re.findall(r"```python\n(.*?)\n```", README, flags=re.DOTALL)
    names = {}
    for line in block.splitlines():
        code, _, comment = line.partition("  #")
        (statement,) = ast.parse(code.strip()).body or [None]
        if isinstance(statement, ast.Expr):
            shown = repr(eval(compile(ast.Expression(statement.value), "README.md", "eval"), names))
            assert shown == comment.strip() or not comment.strip().startswith("array("), line
        else:
            exec(code, names)


def test_there_is_one_command_for_the_verdict_and_one_for_the_tests():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv ")]
    assert [command.split()[-1] for command in commands] == ["claims", ".venv-test/bin/pytest"]
    assert all(" && " in command for command in commands)
