"""What the scripts here share: their options, how rows become tables, files and pictures, how they end.

A script is a `Script`: which rows answer its question, a list of flat dicts with the same keys, and how they
are shown. `main` does the rest, so that every script takes the same options, writes the same files, and ends
with status 0, or with 2 and one line on standard error.
"""

from __future__ import annotations

import argparse
import csv
import functools
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from fp8sim._support import checks
from fp8sim._support.files import check_target, written
from fp8sim._support.page import wrap
from fp8sim._support.quantities import time_text
from fp8sim._support.results import plain_data
from fp8sim._support.tables import Table
from fp8sim._support.versions import versions
from fp8sim.cli import _outcome, output, streams
from fp8sim.costs import get_device
from fp8sim.experiments.data import GENERATORS
from fp8sim.models import get_model
from fp8sim.recipes import get_recipe

WIDTH = 80
BASELINES = ("fp16", "bf16")
#: FP16 and BF16, four ways to FP8, and INT8.
RECIPES = (*BASELINES, "fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8", "int8-row")
#: Name -> (m, n, k) by default: few tokens wait for the weights; many wait for the multipliers.
SHAPES = ((16, 7168, 2048), (4096, 7168, 2048), (8192, 28672, 8192))

Row = dict[str, Any]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Script:
    """One question: which rows answer it, and how they are shown."""

    name: str
    title: str
    rows: Callable[[Options], list[Row]]
    tables: Callable[[list[Row], Options], list[Table]]
    #: of what figures depend on: option -> what it is unless given, and what it is with --quick
    defaults: Mapping[str, Any]
    quick: Mapping[str, Any]
    #: rows -> (group, recipe, height) of each bar of the picture, and what the height is
    bars: Callable[[list[Row]], Iterable[tuple[str, str, float | None]]] | None = None
    height: str = ""
    #: points on a logarithmic axis, since the length of a bar on one means nothing
    logarithmic: bool = False
    notes: tuple[str, ...] = ()
    #: options of its own, flag -> arguments of `add_argument`
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: options of every script, unless it is one of another kind
    shared: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: SHARED)


@dataclass
class Options:
    """What the command line chose; a script reads what its `defaults` name, and notes what else is known."""

    given: dict[str, Any]  #: None where nothing was
    chosen: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)  #: that took part, beyond those of every script

    def __getattr__(self, name: str) -> Any:
        """Return what was chosen, or else given."""
        chosen = self.__dict__["chosen"]
        return chosen[name] if name in chosen else self.__dict__["given"][name]

    @property
    def seed_list(self) -> list[int]:
        """Return the seeds: as many as asked for, from 0 on."""
        return list(range(self.chosen.get("seeds", 0)))


class _Parser(argparse.ArgumentParser):
    """A parser that raises what is wrong, for `main` to say in one line."""

    def error(self, message: str) -> Any:
        raise ValueError(f"{message}; see {self.prog} --help")


def positive(text: str) -> int:
    """Take a number of an option."""
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def _shape(text: str) -> Shape:
    sizes = re.fullmatch(r"(\d{1,9})x(\d{1,9})x(\d{1,9})", text.strip().lower())
    if not sizes or "0" in sizes.groups():
        raise argparse.ArgumentTypeError(f"{text!r} is not MxNxK; write it like 128x2112x7168")
    m, n, k = map(int, sizes.groups())
    return m, n, k


def _name_of(find: Callable[[str], object]) -> Callable[[str], str]:
    """Take a name that `find` knows; its own words say which are near."""

    def name(text: str) -> str:
        try:
            find(text)
        except (ValueError, TypeError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text.lower()

    return name


_data = functools.partial(checks.lookup, table={"real": None, **GENERATORS}, what="kind of data")
SEVERAL: dict[str, Any] = {"nargs": "+", "metavar": "NAME"}
#: An option of scripts about whole models.
MODELS = {"--models": {**SEVERAL, "type": str, "help": "names, or files config.json of Hugging Face"}}
#: Every script takes these, so that one line of options serves all.
SHARED: dict[str, Mapping[str, Any]] = {
    "--device": {"type": _name_of(get_device), "help": "whose roofline times are modelled on"},
    "--shapes": {"nargs": "+", "metavar": "MxNxK", "type": _shape, "help": "of multiplies"},
    "--recipes": {**SEVERAL, "type": str, "help": "beside fp16 and bf16, to which ratios are"},
    "--data": {**SEVERAL, "type": _name_of(_data), "help": f"real, or generated: {', '.join(GENERATORS)}"},
    "--seeds": {"type": positive, "metavar": "N", "help": "how many seeds, from 0 on"},
}


def load(name: str) -> ModuleType:
    """Return a script of this folder as a module; by path, since Python has a `time` of its own."""
    file = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"fp16_vs_fp8_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settle(of: Script, given: Mapping[str, Any]) -> Options:
    """Return the options of a script: what was given, and its own choice of everything else."""
    chosen = {**of.defaults, **(of.quick if given.get("quick") else {})}
    chosen |= {name: given[name] for name in chosen if given.get(name) is not None}
    return Options(dict(given), chosen, list(of.notes))


def main(of: Script, argv: Sequence[str] | None = None) -> int:
    """Run a script: rows first, then what was asked to be made of them; return the exit status."""
    streams.prepare()
    try:
        options = settle(of, vars(_parser(of).parse_args(argv)))
        _check(of, options)
        with output.progress(of.name, None):
            rows = plain_data(of.rows(options))
        _write(of, rows, options)
        sys.stdout.flush()
        status = 0
    except BaseException as error:
        status, line = _outcome(error, f"{of.name}.py")
        if line:
            streams.say(line)
    streams.drain()
    return status


def _parser(of: Script) -> _Parser:
    parser = _Parser(prog=f"{of.name}.py", description=of.title, allow_abbrev=False)
    for flag, arguments in {**of.shared, **of.extras}.items():
        name = flag.lstrip("-").replace("-", "_")
        default = of.defaults.get(name)
        shown = " ".join(map(_written, default)) if isinstance(default, tuple) else default
        unused = flag in of.shared and name not in of.defaults
        about = "changes nothing here" if unused else f"{arguments['help']} (default: {shown})"
        flags = arguments.get("action") == "store_true"
        parser.add_argument(flag, **{**arguments, "help": arguments["help"] if flags else about})
    parser.add_argument("--quick", action="store_true", help="small: does it run?")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows")
    if of.bars is not None:
        parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them (extra 'plot')")
    parser.add_argument("--json", action="store_true", help="print data instead of tables")
    return parser


def _written(value: object) -> str:
    return shape_text(value) if isinstance(value, tuple) else str(value)


def _check(of: Script, options: Options) -> None:
    """Refuse names that are none or are there twice, before the work."""
    plot = options.given.get("plot")
    if plot is not None:
        output.check_picture(plot)
    if options.csv is not None and check_target(options.csv, "rows.csv") == (plot and check_target(plot)):
        raise ValueError(f"--csv and --plot both name {options.csv}; write rows and picture into two files")
    for model in options.chosen.get("models", ()):
        get_model(model)
    for name, values in options.given.items():
        if isinstance(values, list):
            texts = [get_model(x).name if name == "models" else _written(x).lower() for x in values]
            twice = next((text for text in texts if texts.count(text) > 1), None)
            if twice is not None:
                raise ValueError(f"--{name.replace('_', '-')} names {twice} twice; leave one out")
    for flag in of.shared:
        name = flag.removeprefix("--")
        if options.given[name] is not None and name not in options.chosen:
            options.notes.append(f"{flag} changes nothing here.")


def beside(recipes: Iterable[str]) -> tuple[str, ...]:
    """Return names of recipes, those that ratios are taken to first."""
    names = tuple(get_recipe(name).name for name in recipes)
    return tuple(dict.fromkeys((*BASELINES, *names)))


def with_ratios(rows: Iterable[Row], value: str, within: Sequence[str], prefix: str = "to_") -> list[Row]:
    """Add what a value is to FP16's and to BF16's in the row that is the same but for its recipe.

    None where there is no such row, or no such value.
    """
    rows = list(rows)
    base = {(row["recipe"], *(row[name] for name in within)): row[value] for row in rows}
    for row in rows:
        for name in BASELINES:
            other = base.get((name, *(row[key] for key in within)))
            row[f"{prefix}{name}"] = row[value] / other if other and row[value] is not None else None
    return rows


def ratio(value: float | None) -> str:
    """Write how many times one is the other: to a hundredth, or to three digits below 0.1 and from 10 on."""
    if value is None:
        return "-"
    if value < 0.1:
        return f"{value:.3g}"
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def ratio_columns(
    rows: Sequence[Row], text: Callable[[float | None], str] = ratio
) -> dict[str, Callable[[Row], str]]:
    """Return columns of the ratios: one where FP16 and BF16 are the same, none to what there is not."""
    if all(row["to_fp16"] == row["to_bf16"] for row in rows):
        return {"to 16-bit>": lambda row: text(row["to_fp16"])}
    there = [name for name in BASELINES if any(row[f"to_{name}"] is not None for row in rows)]
    return {f"to {name}>": lambda row, name=name: text(row[f"to_{name}"]) for name in there}


def known_time(seconds: float | None) -> str:
    """Write a time; None, which stands for NaN in rows, is unknown."""
    return "unknown" if seconds is None else time_text(seconds)


def remarks(rows: Iterable[Row]) -> list[str]:
    """Return what to know about the units that were taken, once for each recipe."""
    return list(dict.fromkeys(f"{row['recipe']}: {row['note']}." for row in rows if row["note"]))


def groups(rows: Iterable[Row], *names: str) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    """Yield the values of some keys and the rows that have them, in the order of the rows."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from found.items()


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape as the option takes it."""
    return "x".join(map(str, shape))


def footer(options: Options) -> str:
    """Say what the rows were made with, as one line."""
    made = ", ".join(f"{name} {text}" for name, text in versions(*options.packages).items())
    seeds = options.seed_list
    drawn = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else "seed 0" if seeds else "nothing drawn"
    return f"Made with {made}; {drawn}."


def _write(of: Script, rows: list[Row], options: Options) -> None:
    """Write the rows into files, then print them, as tables or as data."""
    if options.csv is not None:
        with written(options.csv, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
        output.say_written(options.csv)
    if options.given.get("plot") is not None:
        output.save_picture(_picture(of, rows), options.plot, bbox_inches="tight", dpi=150)
    tables = of.tables(rows, options)  # which may note something
    if options.json:
        facts = {"quick": bool(options.quick), "seeds": options.seed_list, "options": options.chosen}
        made = {"versions": versions(*options.packages), "notes": options.notes}
        output.print_json({"benchmark": of.name, "title": of.title, **facts, **made, "rows": rows})
        return
    lines = [line for note in [*options.notes, footer(options)] for line in wrap(note, WIDTH)]
    print("\n\n".join([*(table.text(WIDTH) for table in tables), "\n".join(lines)]))


def _picture(of: Script, rows: list[Row]) -> Any:
    """Draw a bar for each group and recipe, or a point on a logarithmic axis."""
    from fp8sim.plotting._style import axes_for, bar_look, legend_above, line_look

    assert of.bars is not None
    bars = [bar for bar in of.bars(rows) if bar[2] is not None]
    places = {group: index for index, group in enumerate(dict.fromkeys(bar[0] for bar in bars))}
    recipes = list(dict.fromkeys(bar[1] for bar in bars))
    ax, width = axes_for(None, min(14.0, max(7.0, 0.25 * len(bars))), 4.0), 0.8 / max(1, len(recipes))
    for index, recipe in enumerate(recipes):
        mine = {places[group]: height for group, name, height in bars if name == recipe}
        left = [place - 0.4 + width * (index + 0.5) for place in mine]
        if of.logarithmic:
            fill = ("full", "none", "bottom")[index // 7 % 3]  # colours and markers are seven each
            look = line_look(index) | {"linestyle": "none", "fillstyle": fill}
            ax.plot(left, list(mine.values()), label=recipe, **look)
        else:
            ax.bar(left, list(mine.values()), width, label=recipe, **bar_look(index))
    ax.set_xticks(range(len(places)), list(places), rotation=15 if len(places) > 3 else 0)
    ax.set_ylabel(of.height)
    if of.logarithmic:
        ax.set_yscale("log")
        ax.grid(axis="y", which="both", alpha=0.3)
    legend_above(ax)
    return ax.figure
