"""What every result is made of: tables that never cut a figure, registries that suggest, quantities."""

from __future__ import annotations

import io
import pickle
import re

import numpy as np
import pytest
from rich.console import Console

import fp8sim
from fp8sim._support.quantities import bytes_text, count_text, percent_text, time_text, unit_for
from fp8sim._support.registry import Registry
from fp8sim._support.tables import Table
from fp8sim.costs import DEVICES
from fp8sim.training import TRAINING_RECIPES

REGISTRIES = [fp8sim.FORMATS, fp8sim.RECIPES, fp8sim.TENSOR_CORES, DEVICES, TRAINING_RECIPES]


def cells_of(table: Table) -> set[str]:
    """Return every cell that is not prose, the unit and the exponent with it."""
    return {cell for row in table.rows for cell in row if cell and len(cell) <= 24}


@pytest.mark.parametrize("width", [60, 80, 110, 200])
@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.what)
def test_tables_fit_the_width_and_cut_nothing(registry, width):
    (table,) = registry.parts()
    lines = table.text(width).splitlines()
    grid = lines[: len(lines) - len(table.notes)]
    assert max(map(len, grid)) <= width
    assert "…" not in table.text(width)
    for word in (word for cell in cells_of(table) for word in cell.split()):  # cells fold between words
        assert any(word in line for line in lines), word


def test_a_table_that_is_too_wide_is_stacked_with_its_first_column_again():
    table = Table("T", ["name", "one>", "two>", "three>"], [["a", "1" * 20, "2" * 20, "3" * 20]])
    wide, narrow = table.text(80), table.text(50)
    assert wide.count("name") == 1
    assert narrow.count("name") == 2
    for digit in "123":
        assert digit * 20 in narrow


def test_rich_shows_the_same_cells_and_no_markup_in_names():
    table = Table("[red]T", ["name"], [["[bold]x[/bold]"]], ["[link]note"])

    class Shown(fp8sim._support.results.Result):
        def parts(self):
            return [table]

    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(Shown())
    assert out.getvalue().splitlines()[0] == "[red]T"
    assert "[bold]x[/bold]" in out.getvalue()
    assert "[link]note" in out.getvalue()
    assert "&lt;" in Table("<b>", ["h"], []).html()


def test_results_show_tables_in_a_plain_prompt(rng):
    a, b = rng.standard_normal((4, 32)), rng.standard_normal((32, 4))
    for result in (
        fp8sim.compare(a, b),
        fp8sim.gemm_cost(2, 2, 2),
        fp8sim.get_recipe("bf16"),
        fp8sim.RECIPES,
    ):
        assert "─────" in repr(result)
        assert "<table>" in result._repr_html_()


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.what)
def test_registries_find_by_name_in_both_cases_take_entries_and_suggest(registry):
    for name, entry in registry.items():
        assert registry.find(name) is registry.find(name.upper()) is registry.find(entry) is entry
    with pytest.raises(ValueError, match=f"unknown {registry.what} '{name}x'; did you mean .*'{name}'"):
        registry.find(f"{name}x")
    with pytest.raises(ValueError, match=f"unknown {registry.what} None; known: "):
        registry.find(None)


def test_a_registry_takes_entries_of_ones_own():
    class Thing:
        def __init__(self, name):
            self.name = name

    things = Registry("thing", Thing, [Thing("a")], {"length>": lambda thing: len(thing.name)})
    things["long"] = Thing("long")
    assert things.find("LONG") is things["long"]
    assert repr(things).splitlines()[-1] == "long        4"
    with pytest.raises(TypeError, match="a thing is a Thing, got 3"):
        things["three"] = 3


def test_a_registry_is_pickled_as_the_entries_that_it_holds():
    assert pickle.loads(pickle.dumps(fp8sim.RECIPES)) == dict(fp8sim.RECIPES)


def test_a_table_holds_nothing_that_a_terminal_acts_on():
    table = Table("\x1b[31mred\r", ["a\x07>"], [["\x9b2J"]], ["\u202eback", "two\nlines"])
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", table.text() + table.html())
    assert table.text().startswith(r"\x1b[31mred\r")


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (bytes_text, 999, "999 B"),
        (bytes_text, 1000, "1.00 kB"),
        (bytes_text, 1.34205e12, "1.34 TB"),
        (count_text, 999, "999"),
        (count_text, 671026419200, "671.03 G"),
        (count_text, 2.5e15, "2.50 P"),
        (time_text, 9.5e-10, "0.95 ns"),
        (time_text, 999.4, "999 s"),
        (time_text, 3600, "3,600 s"),
        (time_text, float("nan"), "unknown"),
        (percent_text, 1, "100 %"),
    ],
)
def test_quantities_carry_their_unit(write, value, text):
    assert write(value) == text


def test_the_smallest_unit_takes_what_is_below_it():
    assert unit_for(0.0, "seconds") == (1e-9, "ns")


def test_parts_of_the_front_door():
    assert fp8sim.Operand("e4m3", fp8sim.Scaling("1x128")).is_scaled
    fp8sim.set_num_threads(2)
    fp8sim.set_num_threads(None)
    x = np.ones((1, 256))
    (recipe,) = fp8sim.compare(x, x.T, "deepseek-v3", baseline="deepseek-v3").rows
    assert recipe.recipe == "deepseek-v3"
