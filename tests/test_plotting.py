"""Pictures: the data that is drawn, against an independent computation or a published figure."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fp8sim
from fp8sim import FORMATS, gemm_cost, plotting
from fp8sim.costs import get_device
from fp8sim.experiments.train.training import Training
from fp8sim.models import model_cost
from fp8sim.plotting.models import bar_shares, plot_model
from fp8sim.tensor_cores import tensor_core_matmul_reference
from oracle import LAYOUTS, decode, round_one

matplotlib = pytest.importorskip("matplotlib", reason="needs the plot extra")
matplotlib.use("Agg")
pyplot = pytest.importorskip("matplotlib.pyplot")

pytestmark = pytest.mark.extra

NORMAL = np.random.default_rng(7).standard_normal(1 << 15)


def values_of(name: str, limit: float, positive: bool = False) -> list[float]:
    layout = LAYOUTS[name]
    values = {decode(code, layout) for code in range(2**layout.bits)}
    return sorted(v for v in values if abs(v) <= limit and (v > 0 or not positive))


def strokes(ax: Any, row: int) -> dict[float, float]:
    """Return value -> length of the strokes on one number line."""
    segments = [s for c in ax.collections for s in c.get_segments() if np.allclose(s[:, 1].mean(), row)]
    return {float(s[0, 0]): float(np.ptp(s[:, 1])) for s in segments}


def lines(ax: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return label -> (x, y) of the lines in the legend."""
    labelled = [line for line in ax.lines if not line.get_label().startswith("_")]
    return {line.get_label(): (np.array(line.get_xdata()), np.array(line.get_ydata())) for line in labelled}


def e4m3_product(m: int = 6, k: int = 512, n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return tuple(fp8sim.round_to(rng.random(shape), "e4m3") for shape in [(m, k), (k, n)])


def comparison() -> fp8sim.Comparison:
    a, b = e4m3_product()
    return fp8sim.compare(a, b, ["bf16", "deepseek-v3"])


LOSSES = {  # recipe -> losses of two seeds
    "bf16": [(4.0, 3.0, 2.5), (4.0, 3.2, 2.6)],
    "deepseek-v3": [(4.0, 3.01, 2.51), (4.0, 3.19, 2.7)],
}


def training() -> Training:
    runs = [
        SimpleNamespace(recipe=name, seed=seed, losses=losses)
        for name, both in LOSSES.items()
        for seed, losses in enumerate(both)
    ]
    return Training("bf16", "three steps", {}, {}, tuple(runs))


# Every picture

PICTURES: dict[str, Callable[..., Any]] = {
    "number_lines": lambda ax=None: plotting.number_lines(["e4m3", "fp16"], ax=ax),
    "number_lines log": lambda ax=None: plotting.number_lines(["e4m3", "fp16"], scale="log", ax=ax),
    "rounding_error": lambda ax=None: plotting.rounding_error(["e4m3", "e5m2"], ax=ax),
    "sqnr_against_scale": lambda ax=None: plotting.sqnr_against_scale(NORMAL[:512], ax=ax),
    "code_histogram": lambda ax=None: plotting.code_histogram(NORMAL, ax=ax),
    "error_against_k": lambda ax=None: plotting.error_against_k(*e4m3_product(), ax=ax),
    "cost_bars": lambda ax=None: plotting.cost_bars(model_cost("deepseek-v3"), ax=ax),
    "cost_bars seconds": lambda ax=None: plotting.cost_bars(comparison(), "seconds", ax=ax),
    "flop_bars": lambda ax=None: plotting.flop_bars(model_cost("deepseek-v3"), ax=ax),
    "roofline": lambda ax=None: plotting.roofline(gemm_cost(64, 64, 64), ax=ax),
    "sweep_curves": lambda ax=None: plotting.sweep_curves(
        fp8sim.sweep(pow, {"base": [2, 3], "exp": [1, 2, 3]}), "exp", "value", by="base", ax=ax
    ),
    "training_curves": lambda ax=None: plotting.training_curves(training(), ax=ax),
    "training_curves loss": lambda ax=None: plotting.training_curves(training(), what="loss", ax=ax),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_drawn_in_the_axes_given_and_returns_them(draw: Callable[..., Any]) -> None:
    figure, (left, right) = pyplot.subplots(1, 2)
    settings = dict(matplotlib.rcParams)
    assert draw(right) is right
    assert right.has_data()
    assert not left.has_data()
    assert pyplot.get_fignums() == [figure.number]
    assert dict(matplotlib.rcParams) == settings
    figure.canvas.draw()


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_a_picture_says_what_its_axes_are(draw: Callable[..., Any]) -> None:
    ax = draw()
    assert ax.get_xlabel()
    assert ax.get_ylabel() or all(label.get_text() for label in ax.get_yticklabels())
    ax.figure.canvas.draw()
    outside = ax.figure.bbox.padded(1)
    texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *(ax.get_legend().texts if ax.get_legend() else [])]
    for text in [text for text in texts if text.get_text()]:
        box = text.get_window_extent()
        assert outside.contains(box.x0, box.y0), text.get_text()
        assert outside.contains(box.x1, box.y1), text.get_text()


@pytest.mark.parametrize("name", ["sqnr_against_scale", "error_against_k", "roofline"])
def test_lines_differ_by_more_than_their_colour(name: str) -> None:
    shown = [line for line in PICTURES[name]().lines if not line.get_label().startswith("_")]
    for one, other in itertools.combinations(shown, 2):
        assert (one.get_linestyle(), one.get_marker()) != (other.get_linestyle(), other.get_marker())


def test_every_public_function_is_among_the_pictures_tested() -> None:
    assert {name.split()[0] for name in PICTURES} == set(plotting.__all__)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fp8sim\[plot\]'"):
        plotting.number_lines()


def test_importing_the_package_loads_no_matplotlib() -> None:
    code = "import fp8sim.plotting, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Formats


def test_a_linear_line_has_a_stroke_at_every_value_up_to_its_limit() -> None:
    ax = plotting.number_lines(["e2m1", "e4m3"], limit=4)
    assert sorted(strokes(ax, 0)) == values_of("e2m1", 4)
    assert sorted(strokes(ax, 1)) == values_of("e4m3", 4)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["e2m1", "e4m3"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first one on top
    lengths = strokes(ax, 1)
    assert lengths[2.0**-6] > lengths[2.0**-6 - 2.0**-9]  # subnormals are short


def test_a_logarithmic_line_has_every_positive_value() -> None:
    ax = plotting.number_lines(["e5m2", "e4m3"], scale="log")
    assert ax.get_xscale() == "log"
    assert sorted(strokes(ax, 0)) == values_of("e5m2", np.inf, positive=True)[:123]
    assert len(strokes(ax, 1)) == 126
    assert len(strokes(plotting.number_lines(["e8m0"], scale="log"), 0)) == 255
    lengths = strokes(ax, 0)
    assert lengths[2.0**-14] > lengths[2.0**-16]


def test_values_too_dense_to_tell_apart_are_a_band_that_says_so() -> None:
    ax = plotting.number_lines(["fp16"], scale="log")
    assert [text.get_text() for text in ax.texts] == ["1,024 values an octave"]
    spans = [np.ptp(np.log2(c.get_paths()[0].vertices[:, 0])) for c in ax.collections]
    assert spans == [pytest.approx(24 + np.log2(65504)), pytest.approx(14 + np.log2(65504))]


def test_strokes_that_would_run_together_in_a_wide_picture_are_bands_with_their_density_beside() -> None:
    ax = plotting.number_lines(["e4m3", "bf16"], scale="log")
    assert [text.get_text() for text in ax.texts] == ["8 values an octave", "128 values an octave"]
    beside, inside = (text.get_position()[0] for text in ax.texts)
    assert beside > 448
    assert 2.0**-20 < inside < 2.0**20
    high = fp8sim.FloatFormat("high", 2, 5, bias=-100)
    assert plotting.number_lines([high, "bf16"], scale="log").texts[0].get_position()[0] < 2.0**96


def test_bad_lines_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown scale of a number line 'logs'"):
        plotting.number_lines(scale="logs")
    with pytest.raises(ValueError, match="limit must be positive, got 0"):
        plotting.number_lines(limit=0)
    with pytest.raises(ValueError, match="pass at least one"):
        plotting.number_lines([])
    with pytest.raises(ValueError, match="did you mean 'e4m3'"):
        plotting.rounding_error(["e4m33"])
    with pytest.raises(ValueError, match="unknown rounding to draw 'stochastic'"):
        plotting.rounding_error(["e4m3"], rounding="stochastic")


@pytest.mark.parametrize("mode", ["nearest-even", "toward-zero", "toward-positive"])
@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "bf16"])
def test_the_error_drawn_is_the_largest_between_neighbours(name: str, mode: str) -> None:
    x, percent = lines(plotting.rounding_error([name], rounding=mode))[name]
    exact = [abs(round_one(float(v), LAYOUTS[name], mode, "saturate") - v) / v for v in x]
    np.testing.assert_allclose(percent / 100, exact, rtol=1e-12)
    inside = np.sort(np.exp2(np.random.default_rng(0).uniform(0, np.log2(FORMATS[name].max), 300)))
    for v in inside:
        near = percent[np.abs(np.log2(x / v)) <= 1].max()
        assert 100 * abs(round_one(float(v), LAYOUTS[name], mode, "saturate") - v) / v <= near


def test_e4m3_is_off_by_one_part_in_17_to_31_and_by_all_of_a_tiny_number() -> None:
    x, percent = lines(plotting.rounding_error(["e4m3"]))["e4m3"]
    octave = percent[(x > 1) & (x < 2)]
    assert octave.max() == pytest.approx(100 / 17)
    assert octave.min() == pytest.approx(100 / 31)
    assert percent[0] == 100
    assert percent[x > 448][-1] == pytest.approx(100 * (1 - 1 / 8))


# Arrays


def test_the_plateaus_are_those_that_noune_et_al_print() -> None:
    curves = lines(plotting.sqnr_against_scale(NORMAL, ["e4m3", "e5m2", "e3m4", "int8"]))
    assert curves["e4m3"][1][20:40].mean() == pytest.approx(31.5, abs=0.15)  # arXiv 2206.02915, table 1
    assert curves["e5m2"][1][20:40].mean() == pytest.approx(25.5, abs=0.15)
    assert curves["e3m4"][1].max() == pytest.approx(37.5, abs=0.3)
    reach, decibels = curves["int8"]
    assert decibels.max() == pytest.approx(40.5, abs=0.3)  # its few largest numbers decide
    assert reach[decibels.argmax()] / 127 == pytest.approx(0.031, abs=0.002)


def test_a_curve_is_what_a_cast_by_ml_dtypes_gives() -> None:
    ax = plotting.sqnr_against_scale(3 * NORMAL, ["e4m3"], reach=[2.0, 64.0])
    rms = np.sqrt(np.mean(np.square(3 * NORMAL)))
    expected = []
    for reach in (2.0, 64.0):
        scale = reach * rms / 448
        held = (
            np.clip(3 * NORMAL / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale
        )
        noise = np.linalg.norm(held - 3 * NORMAL) / np.linalg.norm(3 * NORMAL)
        expected.append(-20 * np.log10(noise))
    np.testing.assert_allclose(lines(ax)["e4m3"][1], expected, rtol=1e-9)


def test_int8_wins_on_gaussian_data_until_its_step_is_too_coarse() -> None:
    ax = plotting.sqnr_against_scale(NORMAL, ["e4m3", "int8"])
    assert [text.get_text() for text in ax.texts] == ["int8\nbest", "e4m3\nbest"]
    upright = [float(line.get_xdata()[0]) for line in ax.lines if line.get_linestyle() in (":", "--")]
    largest = np.abs(NORMAL).max() / np.sqrt(np.mean(np.square(NORMAL)))
    assert min(upright, key=lambda x: abs(x - largest)) == pytest.approx(largest)
    assert any(10 < x < 15 for x in upright)  # 9 dB are lost 1.5 octaves above the peak at 4 sigma


def test_no_format_is_called_the_best_where_none_leads() -> None:
    saturated = plotting.sqnr_against_scale(NORMAL, ["e4m3", "int8"], reach=2.0 ** np.linspace(-6, -2, 9))
    alone = plotting.sqnr_against_scale(NORMAL, ["e4m3"])
    assert not saturated.texts
    assert not alone.texts


def test_an_array_without_signal_is_refused() -> None:
    for x in (np.zeros(4), np.ones(0)):
        with pytest.raises(ValueError, match="empty or all zero"):
            plotting.sqnr_against_scale(x)
    with pytest.raises(ValueError, match="x holds 1 NaN"):
        plotting.sqnr_against_scale([1.0, np.nan])


def test_bars_count_the_codes_in_order_of_their_values() -> None:
    x = np.concatenate([NORMAL, [-0.0, 0.0, 1e9, -1e9]])
    ax = plotting.code_histogram(x, "e4m3")
    heights = np.array([bar.get_height() for bar in ax.patches])
    codes = np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    counts = np.bincount(codes, minlength=256) / (x.size / 100)
    expected = [*counts[0xFE:0x7F:-1], *counts[:0x7F]]  # negative ones down to -0, then 0 and up
    np.testing.assert_allclose(heights, expected)
    at = dict(zip((label.get_text() for label in ax.get_xticklabels()), ax.get_xticks(), strict=True))
    assert (at["-448"], at["0"], at["1"], at["448"]) == (0, 127, 127 + 0x38, 253)
    share = counts[counts > 0] / 100
    assert f"{share.size} of 254 codes used" in ax.get_title()
    assert f"entropy {-(share * np.log2(share)).sum():.2f} of 8 bits" in ax.get_title()


def test_a_quantised_array_is_counted_in_its_own_format() -> None:
    q = fp8sim.quantize(NORMAL, "e2m1", "1x16")
    heights = [bar.get_height() for bar in plotting.code_histogram(q, "e5m2").patches]
    counts = np.bincount(q.codes.view(np.uint8), minlength=16)
    np.testing.assert_allclose(heights, 100 * np.r_[counts[:7:-1], counts[:8]] / NORMAL.size)


def test_one_code_tells_nothing_and_wide_formats_are_refused() -> None:
    assert "1 of 16 codes used, entropy 0.00 of 4 bits" in plotting.code_histogram([1.0], "e2m1").get_title()
    with pytest.raises(ValueError, match=r"fp16 has 2\^16 codes"):
        plotting.code_histogram(NORMAL, "fp16")
    with pytest.raises(ValueError, match="x is empty"):
        plotting.code_histogram([])


# Sums


def test_the_error_drawn_is_that_of_the_first_k_products() -> None:
    a, b = e4m3_product()
    curves = lines(plotting.error_against_k(a, b))
    assert list(curves) == ["one chain", "promoted every 128"]
    for name, every in (("one chain", None), ("promoted every 128", 128)):
        lengths, percent = curves[name]
        assert lengths.tolist() == [32, 64, 128, 256, 512]
        for k, drawn in zip(lengths, percent, strict=True):
            found = tensor_core_matmul_reference(a[:, :k], b[:k], promote_every=every)
            exact = a[:, :k] @ b[:k]
            assert drawn == pytest.approx(100 * np.linalg.norm(found - exact) / np.linalg.norm(exact))
    chain, promoted = (curves[name][1] for name in curves)
    assert chain[-1] > 4 * promoted[-1] > 0
    np.testing.assert_array_equal(chain[:3], promoted[:3])


def test_lengths_are_those_asked_for() -> None:
    a, b = e4m3_product(k=100)
    curves = lines(plotting.error_against_k(a, b, promote_every=[64], lengths=[3, 100]))
    assert curves["promoted every 64"][0].tolist() == [3, 100]
    assert lines(plotting.error_against_k(a, b))["one chain"][0].tolist() == [32, 64, 100]
    with pytest.raises(ValueError, match="a length must be 1 to 100, the k of the operands, got 101"):
        plotting.error_against_k(a, b, lengths=[101])
    with pytest.raises(ValueError, match="do not multiply"):
        plotting.error_against_k(a, b[1:])


# Costs


def stacked(ax: Any) -> list[float]:
    """Return where each bar ends."""
    rows = {round(bar.get_y() + bar.get_height() / 2) for bar in ax.patches}
    return [
        max(
            bar.get_x() + bar.get_width()
            for bar in ax.patches
            if round(bar.get_y() + bar.get_height() / 2) == row
        )
        for row in sorted(rows)
    ]


def test_the_bars_of_deepseek_v3_are_its_published_sizes() -> None:
    ax = plotting.cost_bars(model_cost("deepseek-v3"))
    assert stacked(ax) == [pytest.approx(1.34205, abs=1e-5), pytest.approx(0.67315, abs=1e-5)]  # TB
    assert "(TB)" in ax.get_xlabel()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["bf16", "deepseek-v3"]
    assert [text.get_text() for text in ax.texts] == ["1.34 TB", "0.673 TB, 0.502 of bf16"]
    # 58 layers of 256 routed experts of 44,040,192 parameters, two bytes each
    names = [text.get_text() for text in ax.get_legend().texts]
    routed = ax.containers[names.index("routed experts")][0].get_width()
    assert routed == pytest.approx(58 * 256 * 44_040_192 * 2 / 1e12)


def test_time_bars_end_at_the_modelled_time_and_show_quantising() -> None:
    cost = model_cost("deepseek-v3")
    ax = plotting.cost_bars(cost, "seconds")
    assert stacked(ax) == [pytest.approx(cost.baseline_seconds), pytest.approx(cost.seconds)]
    names = [text.get_text() for text in ax.get_legend().texts]
    base, ours = ax.containers[names.index("quantising")]
    assert (base.get_width(), ours.get_width()) == (0, pytest.approx(cost.quantize_seconds))
    assert "roofline time of training on H800 SXM (s)" in ax.get_xlabel()
    many = plotting.cost_bars(model_cost("deepseek-v3", batch=15360), "seconds").texts[0].get_text()
    assert re.fullmatch(r"\d\d,\d{3} s", many)


def test_a_comparison_has_one_bar_a_recipe() -> None:
    result = comparison()
    ax = plotting.cost_bars(result)
    assert stacked(ax) == [row.nbytes / 1e3 for row in result.rows]
    assert ax.get_legend() is None
    assert ax.texts[1].get_text().endswith(f"{result.rows[1].bytes_ratio:.3f} of bf16")
    seconds = plotting.cost_bars(result, "seconds")
    assert stacked(seconds) == pytest.approx([row.seconds * 1e9 for row in result.rows])
    assert "(ns)" in seconds.get_xlabel()


def test_the_parts_of_a_model_follow_each_other_and_end_at_the_share_of_the_baseline() -> None:
    cost = model_cost("deepseek-v3", batch=15360)
    shares = bar_shares(cost)
    ax = plot_model(cost).axes[0]
    assert stacked(ax) == pytest.approx([sum(parts.values()) for parts in shares.values()])
    for row, parts in enumerate(shares.values()):
        bars = sorted(
            (bar.get_x(), bar.get_width())
            for bar in ax.patches
            if round(bar.get_y() + bar.get_height() / 2) == row
        )
        assert [width for _, width in bars] == pytest.approx(list(parts.values()))
        assert [left for left, _ in bars] == pytest.approx([0, *itertools.accumulate(parts.values())][:-1])
    assert {"deepseek-v3", "0.50", "1.00"} <= {text.get_text() for text in ax.texts}


def test_what_has_no_bars_is_refused() -> None:
    with pytest.raises(TypeError, match="draws a ModelCost or a Comparison, got GemmCost"):
        plotting.cost_bars(gemm_cost(1, 1, 1))
    with pytest.raises(ValueError, match="unknown quantity 'joules'"):
        plotting.cost_bars(comparison(), "joules")
    with pytest.raises(ValueError, match="no rate for a recipe; pick another device"):
        plotting.cost_bars(model_cost("llama-3.1-8b", "fp32", device="mi300x"), "seconds")


def test_the_roof_bends_where_bandwidth_meets_the_peak() -> None:
    shapes = [(64, 7168, 2048), (4096, 7168, 2048)]
    costs = [gemm_cost(*shape, recipe) for shape in shapes for recipe in ("bf16", "deepseek-v3")]
    curves = lines(plotting.roofline(costs))
    h800 = get_device("h800")
    for label, figure in (("BF16 peak 990 TFLOP/s", h800.bf16), ("FP8 peak 1979 TFLOP/s", h800.fp8)):
        x, y = curves[label]
        assert x[1] == pytest.approx(figure.value / 3.35e12)
        assert y[1:].tolist() == [figure.value / 1e12] * 2
        assert y[0] == pytest.approx(x[0] * 3.35)
    for recipe, peak in (("bf16", 990), ("deepseek-v3", 1979)):
        x, y = curves[recipe]
        expected = [cost.flops / cost.bytes for cost in costs if str(cost.recipe) == recipe]
        assert x.tolist() == expected
        np.testing.assert_allclose(y, np.minimum(x * 3.35, peak), rtol=1e-3)


def test_shapes_are_named_once_and_neighbours_share_a_label() -> None:
    costs = [
        gemm_cost(m, n, 7168, recipe)
        for m in (64, 4096)
        for n in (2112, 2304)
        for recipe in ("bf16", "mxfp8")
    ]
    labels = [text.get_text() for text in plotting.roofline(costs).texts]
    assert labels == ["64x2112x7168\n64x2304x7168", "4096x2112x7168\n4096x2304x7168"]


def test_where_only_m_differs_points_are_named_by_it_and_the_title_has_the_rest() -> None:
    ax = plotting.roofline([gemm_cost(m, 7168, 2048, "bf16") for m in (16, 64, 4096)])
    assert [text.get_text() for text in ax.texts] == ["m = 16", "m = 64", "m = 4096"]
    assert ax.get_title() == "H800 SXM, 3.35 TB/s; n = 7168, k = 2048"


def test_a_roofline_is_of_one_device() -> None:
    with pytest.raises(ValueError, match="these costs are of h800, a100"):
        plotting.roofline([gemm_cost(1, 1, 1), gemm_cost(1, 1, 1, device="a100")])
    with pytest.raises(ValueError, match="of none"):
        plotting.roofline([])
    with pytest.raises(ValueError, match=r"MI300X.* has no rate"):
        plotting.roofline(gemm_cost(1, 1, 1, "fp32", "mi300x"))


# Training


def smoothed(losses: tuple[float, ...]) -> list[float]:
    """Return the moving average with the coefficient 0.9 of the DeepSeek-V3 report's figure 10."""
    first, second, third = losses
    return [first, 0.9 * first + 0.1 * second, 0.81 * first + 0.09 * second + 0.1 * third]


def test_training_curves_are_smoothed_losses_and_their_errors_against_the_baseline() -> None:
    curves = lines(plotting.training_curves(training(), what="loss"))
    for name, both in LOSSES.items():
        steps, drawn = curves[name]
        assert steps.tolist() == [1, 2, 3]
        np.testing.assert_allclose(drawn, np.mean([smoothed(losses) for losses in both], axis=0))
    ax = plotting.training_curves(training())
    assert "bf16" not in lines(ax)
    errors = [
        100 * (np.divide(smoothed(ours), smoothed(base)) - 1)
        for ours, base in zip(LOSSES["deepseek-v3"], LOSSES["bf16"], strict=True)
    ]
    np.testing.assert_allclose(lines(ax)["deepseek-v3"][1], np.mean(errors, axis=0))
    band = ax.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (
        pytest.approx(np.min(errors)),
        pytest.approx(np.max(errors)),
    )
    one = lines(plotting.training_curves(training(), seed=1))["deepseek-v3"][1]
    np.testing.assert_allclose(one, errors[1])


def test_the_published_limit_of_the_loss_error_is_drawn() -> None:
    ax = plotting.training_curves(training())
    heights = {float(line.get_ydata()[0]) for line in ax.lines if len(set(line.get_ydata())) == 1}
    assert {-0.25, 0.0, 0.25} <= heights
    assert any("0.25 % (DeepSeek-V3 report)" in text.get_text() for text in ax.get_legend().texts)


def test_a_curve_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(ValueError, match="draw 'error' or 'loss'"):
        plotting.training_curves(training(), what="time")
    with pytest.raises(ValueError, match=r"seed 7 was not trained; draw one of \[0, 1\]"):
        plotting.training_curves(training(), seed=7)
