"""Write the record, the tables and the picture of training: `python docs/write_training.py`, 10 minutes.

Trains with the defaults of `fp8sim train`, embeds sentences; writes the record that comes with fp8sim,
docs/training/ and a table of README.md.
Needs the extras `sample` and `plot`. With `--resume` interrupted runs go on, and finished ones are read.
"""

from __future__ import annotations

import datetime
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from readme_section import write_section

import fp8sim
from fp8sim.experiments.embeddings import embed_sentences
from fp8sim.experiments.train import Schedule, Training, train
from fp8sim.plotting.training import training_figure

DOCS = Path(__file__).parent
FOLDER = DOCS / "training"
RECORD = Path(fp8sim.__file__).parent / "experiments" / "recorded" / "training.json"
RUNS = DOCS / "_build" / "training-runs"


def main() -> int:
    """Train, embed, and write what the pages include."""
    FOLDER.mkdir(exist_ok=True)
    result = train(folder=RUNS, resume="--resume" in sys.argv)
    made = (
        f"fp8sim {fp8sim.__version__}, torch {version('torch')}, numpy {version('numpy')}, "
        f"Python {platform.python_version()}, {platform.machine()}"
    )
    date = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    text = json.dumps({"date": date, "made": made, **_rounded(result)})
    RECORD.write_text(text + "\n", encoding="utf-8")
    training_figure(result).savefig(FOLDER / "training.png", dpi=100)
    chance = train(["fp32"], schedule=Schedule(steps=120, peak_lr=4 * Schedule.peak_lr))
    (FOLDER / "chance.json").write_text(json.dumps(_rounded(chance)) + "\n", encoding="utf-8")
    embeddings = embed_sentences()
    (FOLDER / "embeddings.txt").write_text(f"{embeddings}\n\n{made}.\n", encoding="utf-8")
    write_section("training", section(result, made))
    return 0


def _rounded(result: Training) -> dict[str, object]:
    """Return the result as data, losses and shares to nine digits: enough for every figure that is shown."""
    return json.loads(json.dumps(result.to_dict()), parse_float=lambda text: float(f"{float(text):.9g}"))


def section(result: Training, made: str) -> str:
    """Return the table of losses for the README, and how it was made."""
    return f"```text\n{result.parts()[0].text(110)}\n```\n\nMade by `fp8sim train` ({made})."


if __name__ == "__main__":
    sys.exit(main())
