import dataclasses
import json

import numpy as np
import pytest

import fp8sim
from fp8sim import compare, gemm_cost, matmul, metrics
from fp8sim.experiments.comparison import DEFAULT_RECIPES
from fp8sim.experiments.comparison_row import advise, error_cells


@pytest.fixture
def matrices(rng):
    return rng.standard_normal((32, 256), np.float32), rng.standard_normal((256, 48), np.float32)


def test_each_row_holds_what_the_parts_give_by_themselves(matrices):
    a, b = matrices
    truth = a.astype(np.float64) @ b.astype(np.float64)
    for row in compare(a, b).rows:
        cost, base = gemm_cost(32, 48, 256, row.recipe), gemm_cost(32, 48, 256, "bf16")
        assert row.nbytes == cost.bytes
        assert row.bytes_ratio == cost.bytes / base.bytes
        assert row.time_ratio == cost.seconds / base.seconds
        error = np.linalg.norm(matmul(a, b, row.recipe) - truth) / np.linalg.norm(truth)
        assert row.relative_error == pytest.approx(error, rel=1e-12)
        assert row.sqnr_db == pytest.approx(-20 * np.log10(error))


def test_operand_and_sum_errors_add_up_to_the_whole(matrices):
    for row in compare(*matrices).rows:
        low = abs(row.quantization_error - row.accumulation_error)
        high = row.quantization_error + row.accumulation_error
        assert low * 0.999 <= row.relative_error <= high * 1.001


def test_fp32_has_no_operand_error_and_every_8_bit_recipe_has_more_than_bf16(matrices):
    result = compare(*matrices)
    assert result["fp32"].quantization_error == 0
    for name in ("fp8-tensor", "fp8-row", "deepseek-v3", "mxfp8", "nvfp4"):
        assert result[name].relative_error > 5 * result["bf16"].relative_error


def test_block_scales_beat_a_tensor_scale_where_tokens_differ_by_decades(rng):
    a = rng.standard_normal((64, 256)) * 10.0 ** rng.uniform(-5, 5, (64, 1))
    b = rng.standard_normal((256, 64))
    result = compare(a, b, ["fp8-tensor", "deepseek-v3"])
    assert result["fp8-tensor"].flushed > 0.2
    assert result["deepseek-v3"].flushed < 0.01


def test_the_baseline_is_put_first_if_it_is_not_named(matrices):
    result = compare(*matrices, recipes=["mxfp8"], baseline="fp16")
    assert [row.recipe for row in result.rows] == ["fp16", "mxfp8"]
    assert result["fp16"].bytes_ratio == result["fp16"].time_ratio == 1


def test_two_recipes_of_one_name_are_refused_and_one_twice_is_taken_once(matrices):
    row = fp8sim.get_recipe("fp8-row")
    other = dataclasses.replace(row, accumulator="hopper-fp8/128")
    for given in (["fp8-row", other], [other, "bf16", row]):
        with pytest.raises(ValueError, match="two recipes are called 'fp8-row'; give each a name of its own"):
            compare(*matrices, given)
    baseline = dataclasses.replace(fp8sim.get_recipe("mxfp4"), name="bf16")
    with pytest.raises(ValueError, match="two recipes are called 'bf16'"):
        compare(*matrices, ["bf16"], baseline=baseline)
    assert [row.recipe for row in compare(*matrices, ["fp8-row", row]).rows] == ["bf16", "fp8-row"]


def test_what_json_cannot_say_is_null_in_the_data(matrices):
    result = compare(matrices[0] * np.float32(1e30), matrices[1], ["fp16"])
    assert not np.isfinite(result["fp16"].relative_error)
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["rows"][1]["relative_error"] is None
    assert data["rows"][0]["relative_error"] == result["bf16"].relative_error


def test_decibels_that_round_to_none_have_no_sign():
    row = dataclasses.replace(made_up("r", nbytes=1, error=1.0), sqnr_db=-0.01)
    assert "0.0 dB" in error_cells(row, bounded=False)


def test_one_recipe_is_a_list_of_one(matrices):
    listed = compare(*matrices, ["deepseek-v3"])
    for one in ("deepseek-v3", fp8sim.get_recipe("deepseek-v3"), iter(["deepseek-v3"])):
        assert compare(*matrices, one) == listed
    with pytest.raises(TypeError, match="recipes must be a name, a Recipe, or a list of them, got 3"):
        compare(*matrices, 3)


def test_options_after_the_baseline_are_named(matrices):
    assert compare(*matrices, ["mxfp8"], "fp16").baseline == "fp16"
    with pytest.raises(TypeError, match="positional"):
        compare(*matrices, ["mxfp8"], "fp16", "h100")


def test_a_plain_prompt_shows_the_tables(matrices):
    result = compare(*matrices, ["bf16"])
    assert repr(result) == str(result)
    assert repr(result).startswith("(32, 256) @ (256, 48): bytes")


def test_every_default_recipe_has_a_row_and_is_printed(matrices):
    result = compare(*matrices)
    assert [row.recipe for row in result.rows] == list(DEFAULT_RECIPES)
    text = str(result)
    assert all(name in text for name in DEFAULT_RECIPES)
    assert max(map(len, text.splitlines())) <= 110


def test_it_shows_as_html_and_as_json(matrices):
    result = compare(*matrices, recipes=["bf16", "deepseek-v3"])
    assert "<td" in result._repr_html_()
    data = json.loads(json.dumps(result.to_dict()))
    assert data["rows"][1]["relative_error"] == result["deepseek-v3"].relative_error


def test_a_device_without_an_fp8_unit_saves_bytes_and_no_compute_time():
    a, b = np.ones((1024, 4096), np.float32), np.ones((4096, 1024), np.float32)
    row = compare(a, b, ["deepseek-v3"], device="a100")["deepseek-v3"]
    assert row.bytes_ratio < 0.6
    assert row.time_ratio == 1


def test_names_with_markup_are_escaped_in_html(matrices):
    import dataclasses

    evil = dataclasses.replace(fp8sim.get_recipe("bf16"), name="<script>alert(1)</script>")
    assert "<script>" not in compare(*matrices, recipes=[evil])._repr_html_()


def test_an_fp16_overflow_is_reported_as_an_infinite_or_undefined_error():
    a, b = np.full((2, 2), 1e6), np.ones((2, 2))
    row = compare(a, b, ["fp16"])["fp16"]
    assert not np.isfinite(row.relative_error)
    assert row.saturated > 0
    assert np.isfinite(metrics.relative_error(matmul(a, b, "bf16"), a @ b))


@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        (np.ones((2, 3)), np.ones((4, 2)), "do not multiply: a has k = 3 columns and b has k = 4 rows"),
        (np.ones((2, 3)), np.ones((2, 3)), "b looks transposed: pass b.T"),
        (np.ones((2, 3)), np.ones(3), "b must be a matrix"),
        (np.ones((0, 3)), np.ones((3, 2)), "empty product"),
        (np.zeros((2, 3)), np.ones((3, 2)), "all zero"),
        (
            np.array([[1.0, np.nan]]),
            np.ones((2, 2)),
            r"a holds 1 NaN or infinite values, the first at \[0, 1\]",
        ),
        (np.ones((2, 2)), np.array([[1.0, np.inf]] * 2), "b holds 2 NaN or infinite values"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, match):
    with pytest.raises(ValueError, match=match):
        compare(a, b)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"recipes": ["deepsek-v3"]}, "unknown recipe 'deepsek-v3'; did you mean 'deepseek-v3'"),
        ({"baseline": "bf61"}, "unknown recipe 'bf61'; did you mean 'bf16'"),
        ({"device": "h810"}, "unknown device 'h810'; did you mean 'h8?1?00'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(options, match, matrices):
    with pytest.raises(ValueError, match=match):
        compare(*matrices, **options)


def test_errors_of_more_rows_than_256_are_parted_over_256_unless_bounds_are_asked_for(rng):
    a, b = rng.standard_normal((700, 64), np.float32), rng.standard_normal((64, 16), np.float32)
    some, every = compare(a, b, ["fp8-row"]), compare(a, b, ["fp8-row"], bounds=True)
    assert (some.parted_rows, every.parted_rows) == (256, 700)
    assert "over 256 of 700 rows" in " ".join(str(some).split())
    row, whole = some["fp8-row"], every["fp8-row"]
    picked = compare(a[np.arange(256) * 700 // 256], b, ["fp8-row"])["fp8-row"]
    assert row.quantization_error == pytest.approx(picked.quantization_error, rel=1e-12)
    assert row.accumulation_error == pytest.approx(picked.accumulation_error, rel=1e-12)
    assert row.relative_error == whole.relative_error
    assert row.quantization_error == pytest.approx(whole.quantization_error, rel=0.1)
    assert row.accumulation_bound is None
    assert whole.accumulation_bound > whole.accumulation_error
    assert "bound: what" not in str(some)
    assert "bound: what" in str(every)


def test_errors_by_row_and_of_ordinary_channels_are_those_of_metrics(matrices):
    a, b = matrices
    a = np.where(np.arange(256) == 7, np.float32(448), a)  # an outlier that is exact
    row = compare(a, b, ["fp8-tensor"])["fp8-tensor"]
    product, truth = matmul(a, b, "fp8-tensor"), a.astype(np.float64) @ b.astype(np.float64)
    spread = metrics.row_error_spread(product, truth)
    assert (row.row_error_median, row.row_error_p99, row.row_error_worst) == pytest.approx(spread, rel=1e-9)
    stored = fp8sim.quantize(a, "e4m3").dequantize(np.float64)
    ordinary = metrics.ordinary_channel_error(stored, a)
    assert row.ordinary_channel_error == pytest.approx(ordinary, rel=1e-9)
    assert ordinary > 1.5 * metrics.relative_error(stored, a)


def made_up(name, *, nbytes, error, ordinary=0.02, b="w", outliers=1):
    """Return a row with the figures that the advice is made from."""
    row = compare(np.ones((2, 32)), np.ones((32, 2)), ["bf16"]).rows[0]
    share, figures = nbytes / 1000, {"relative_error": error, "ordinary_channel_error": ordinary}
    figures |= {"b": b, "outlier_channels": outliers}
    return dataclasses.replace(
        row, recipe=name, nbytes=nbytes, bytes_ratio=share, seconds=share, time_ratio=share, **figures
    )


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [("small", 500, 0.030), ("best", 520, 0.029)],
            "small is the best of those that take less than bf16: an error of 3 % (bf16: 0.2 %)",
        ),
        ([("small", 500, 0.030), ("best", 520, 0.029)], "best takes 3.33 % off it for 20 B more"),
        (
            [("small", 500, 0.040), ("best", 520, 0.029)],
            "best is the best of those that take less than bf16: an error of 2.9 %",
        ),
        ([("small", 500, 0.040), ("best", 520, 0.029)], "lies in outlier channels alone"),
        (
            [("tiny", 250, 0.090), ("best", 500, 0.030)],
            "tiny saves another 50 % of the bytes at 3.0 times the error",
        ),
        (
            [("tiny", 250, 0.09), ("best", 500, 0.0)],
            "tiny saves another 50 % of the bytes at an error of 9 %",
        ),
        (
            [("tiny", 250, 0.0), ("best", 500, 0.0)],
            "tiny is the best of those that take less than bf16: an error of 0 (bf16: 0.2 %)",
        ),
        ([("wide", 1000, 0.001)], "None of these takes fewer bytes or less time than bf16."),
        (
            [("broken", 500, np.nan)],
            "Nothing is left of the product under what takes less than bf16: broken.",
        ),
        ([("broken", 500, 1.0), ("wide", 900, 0.03)], "wide is the best of those that take less"),
        ([("first", 250, 0.09), ("second", 250, 0.08), ("best", 500, 0.03)], "second saves another"),
    ],
)
def test_the_advice_follows_its_rule(rows, says):
    made = [made_up("bf16", nbytes=1000, error=0.002)]
    made += [made_up(name, nbytes=nbytes, error=error) for name, nbytes, error in rows]
    assert says in advise(made, "bf16")


def test_gains_of_ordinary_channels_are_not_called_those_of_outliers():
    rows = [
        made_up("bf16", nbytes=1000, error=0.002),
        made_up("small", nbytes=500, error=0.04, ordinary=0.04),
        made_up("best", nbytes=520, error=0.029, ordinary=0.02),
    ]
    assert "outlier" not in advise(rows, "bf16")
    for change in ({"b": "other weights"}, {"outliers": 0}):
        rows[1] = made_up("small", nbytes=500, error=0.04, **change)
        rows[2] = made_up("best", nbytes=520, error=0.029, outliers=change.get("outliers", 1))
        assert "outlier" not in advise(rows, "bf16")


def test_rows_are_a_data_frame(matrices):
    pandas = pytest.importorskip("pandas")
    result = compare(*matrices, ["fp8-row"])
    frame = result.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["recipe"]) == ["bf16", "fp8-row"]
    assert frame["relative_error"][1] == result["fp8-row"].relative_error


def test_the_advice_is_printed_with_the_figures_and_fits(matrices):
    result = compare(*matrices, ["fp8-row", "deepseek-v3"])
    assert result.advice in " ".join(str(result).split())
    assert result.advice.startswith(("fp8-row", "deepseek-v3"))


@pytest.mark.parametrize(("device", "noted"), [("h800", True), ("b200", False), ("a100", False)])
def test_a_device_without_block_scales_is_said_to_lack_them(device, noted, matrices):
    row = compare(*matrices, ["mxfp8"], device=device)["mxfp8"]
    assert ("no unit for E8M0 scales of 32" in row.note) == noted
    assert compare(*matrices, ["fp8-row"], device=device)["bf16"].note == ""
