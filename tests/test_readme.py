"""The README shows what the commands print."""

import re
from pathlib import Path

from fp8sim import claims
from fp8sim.experiments import data

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_verdict_is_what_claims_prints_without_the_sample_model(monkeypatch):
    monkeypatch.setattr(data, "sample_model_path", lambda: None)
    shown = re.search(r"```text\n(.*?)\n```", README, flags=re.DOTALL)[1]
    printed = claims(training=False).tables()[0].text(110)
    assert printed.endswith(shown), "run python docs/write_verdict.py"


def test_there_is_one_command_for_the_verdict_and_one_for_the_tests():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv ")]
    assert [command.split()[-1] for command in commands] == ["claims", ".venv-test/bin/pytest"]
    assert all(" && " in command for command in commands)
