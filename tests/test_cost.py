"""Bytes, flops and roofline time of one multiply, against hand-worked and published figures."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import ml_dtypes
import numpy as np
import pytest

from fp8sim._support.published import DEEPGEMM_H800, DEEPGEMM_H800_UPDATED, Figure, GemmSpeed
from fp8sim.costs import DEVICES, OPERAND_CLASSES, Device, Roofline, gemm_cost, get_device, operand_class
from fp8sim.formats import get_format
from fp8sim.quantization import Operand, Quantized, quantize_with
from fp8sim.recipes import RECIPES, Recipe, get_recipe


@pytest.mark.parametrize("row", [*DEEPGEMM_H800, *DEEPGEMM_H800_UPDATED], ids=lambda r: f"{r[:3]}")
def test_published_traffic_of_deepgemm_follows_from_its_tflops(row: GemmSpeed) -> None:
    cost = gemm_cost(row.m, row.n, row.k, "deepseek-v3", "h800")
    assert cost.gbps_at(row.tflops) == pytest.approx(row.gbps, rel=0.002)
    assert cost.gbps_at(row.tflops, scales=True) > cost.gbps_at(row.tflops)


def test_deepgemm_published_eighteen_rows_first() -> None:
    assert len(DEEPGEMM_H800) == len({row[:3] for row in DEEPGEMM_H800}) == 18


def test_bytes_of_a_ragged_product_are_those_worked_by_hand() -> None:
    # A: 3 x 300 codes, 3 x ceil(300 / 128) = 9 scales of 4 bytes; B: 300 x 200 codes, 3 x 2 scales.
    cost = gemm_cost(3, 200, 300, "deepseek-v3", "h800")
    assert cost.a == (900, 36)
    assert cost.b == (60_000, 24)
    assert cost.output == (3 * 200 * 2, 0)
    assert cost.bytes_without_scales == 900 + 60_000 + 1_200
    assert cost.bytes == 62_160
    assert cost.flops == 2 * 3 * 200 * 300
    assert cost.intensity == pytest.approx(360_000 / 62_160)


SCALE_BYTES = {"fp32": 4, "e8m0": 1, "e4m3": 1}


def stored(q: Quantized) -> tuple[int, int]:
    """Count the bytes of an array as it lies there: its codes, packed, and its scales, one by one."""
    bits = 8 if q.codes.dtype == np.int8 else ml_dtypes.finfo(q.codes.dtype).bits
    codes = math.ceil(q.codes.size * bits / 8)
    if q.scaling.granularity == "none":
        return codes, 0
    above = 4 if q.scaling.scale_format == "e4m3" else 0  # one FP32 scale for all of it
    return codes, q.scales.size * SCALE_BYTES[q.scaling.scale_format] + above


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_bytes_equal_those_of_quantised_arrays(name: str) -> None:
    rng = np.random.default_rng(0)
    recipe = get_recipe(name)
    a = quantize_with(rng.standard_normal((5, 201)), recipe.a, axis=1)
    b = quantize_with(rng.standard_normal((201, 71)), recipe.b, axis=0)
    cost = gemm_cost(5, 71, 201, recipe, "h100")
    assert (cost.a, cost.b) == (stored(a), stored(b))
    for q in (a, b):
        assert (q.nbytes, q.scale_nbytes) == (sum(stored(q)), stored(q)[1])


def test_a_large_product_is_bound_by_compute_and_takes_half_the_time_in_fp8() -> None:
    # 2 x 4096 x 7168 x 16384 flops: 962.07 GFLOP, 486.1 us at 1979 TFLOP/s and twice that in BF16.
    fp8 = gemm_cost(4096, 7168, 16384, "deepseek-v3", "h800")
    bf16 = gemm_cost(4096, 7168, 16384, "bf16", "h800")
    assert (fp8.bound, bf16.bound) == ("compute", "compute")
    assert fp8.seconds == pytest.approx(962.0727e9 / 1979e12, rel=1e-6)
    assert fp8.seconds / bf16.seconds == 0.5
    assert fp8.flops == bf16.flops


def test_a_product_of_few_rows_is_bound_by_memory() -> None:
    # One token: 7168 x 2048 weight bytes at 3.35 TB/s; activations and output weigh little.
    cost = gemm_cost(1, 7168, 2048, "fp8-tensor", "h800")
    assert cost.bound == "memory"
    assert cost.seconds == cost.memory_seconds == pytest.approx((14_680_064 + 2048 + 14336 + 8) / 3.35e12)


@pytest.mark.parametrize(
    ("recipe", "device", "unit"),
    [
        ("deepseek-v3", "h800", "fp8"),
        ("mxfp8", "mi300x", "fp8"),
        ("nvfp4", "b200", "fp4"),
        ("nvfp4", "h100", "fp8"),  # Hopper multiplies no 4-bit floats
        ("nvfp4", "a100", "bf16"),
        ("deepseek-v3", "a100", "bf16"),  # no FP8 before Ada and Hopper
        ("deepseek-v3", "v100", "fp16"),
        ("bf16", "v100", "fp16"),  # nor BF16 on Volta
        ("bf16", "h200", "bf16"),
        ("fp16", "h200", "fp16"),
        ("fp32", "h200", "fp32"),
    ],
)
def test_operands_go_to_the_narrowest_unit_that_the_device_has(recipe: str, device: str, unit: str) -> None:
    cost = gemm_cost(256, 256, 256, recipe, device)
    assert cost.rate.operand_class == unit
    assert bool(cost.rate.note) == (unit != operand_class(get_recipe(recipe)))
    assert cost.note in " ".join(str(cost).split())


@pytest.mark.parametrize("device", ["a100", "v100"])
def test_fp8_without_an_fp8_unit_saves_bytes_and_no_compute_time(device: str) -> None:
    fp8 = gemm_cost(8192, 8192, 8192, "deepseek-v3", device)
    plain = gemm_cost(8192, 8192, 8192, "fp16", device)
    assert fp8.bytes / plain.bytes < 0.7
    assert fp8.seconds == plain.seconds
    assert "has no FP8 unit" in fp8.note
    assert "saves bytes, and no compute time" in fp8.note


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("e2m1", "e2m1", "fp4"),
        ("e4m3", "e2m1", "fp8"),
        ("e5m2", "e4m3fnuz", "fp8"),
        ("e5m6", "e4m3", "fp16"),  # 12 bits: FP16 holds every value
        ("bf16", "e4m3", "bf16"),
        ("bf16", "fp16", "tf32"),  # neither 16-bit format holds the other
        ("tf32", "bf16", "tf32"),
        ("fp32", "e4m3", "fp32"),
        ("int8", "int8", "int8"),
        ("int8", "e4m3", "fp16"),
    ],
)
def test_the_wider_operand_decides_the_unit(a: str, b: str, expected: str) -> None:
    recipe = Recipe("mixed", Operand(get_format(a)), Operand(get_format(b)), "fp32")
    assert operand_class(recipe) == expected


@pytest.mark.parametrize(
    ("a", "b", "core", "expected"),
    [
        ("bf16", "e4m3", "hopper-bf16", "bf16"),
        ("e4m3", "e4m3", "hopper-bf16", "bf16"),  # a core without FP8 takes both as BF16
        ("e4m3", "e5m2", "ampere-fp16", "fp16"),
        ("e4m3", "e2m1", "hopper-fp8", "fp8"),
        ("e2m1", "e2m1", "hopper-fp8", "fp8"),
    ],
)
def test_a_core_multiplies_formats_that_it_has_not_as_those_that_it_has(a, b, core, expected) -> None:
    assert operand_class(Recipe("mixed", Operand(a), Operand(b), core)) == expected


def test_weights_in_8_bits_save_bytes_and_no_compute() -> None:
    # One token: 7168 x 2048 weights, a byte each, and an FP32 scale per column, at 3.35 TB/s.
    few = [gemm_cost(1, 7168, 2048, name, "h800") for name in ("fp8-weights", "bf16")]
    assert few[0].b == (7168 * 2048, 4 * 7168)
    assert few[0].a == few[1].a == (2 * 2048, 0)
    assert few[0].bound == "memory"
    assert few[0].ratio_to(few[1]).seconds == pytest.approx(0.5, abs=0.002)
    many = [gemm_cost(8192, 7168, 2048, name, "h800") for name in ("fp8-weights", "bf16", "fp8-row")]
    assert [cost.rate.operand_class for cost in many] == ["bf16", "bf16", "fp8"]
    assert many[0].seconds == many[1].seconds == 2 * many[2].seconds


def test_a_rate_that_nobody_gives_is_nan_and_says_so() -> None:
    cost = gemm_cost(64, 64, 64, "fp32", "mi300x")
    assert math.isnan(cost.seconds)
    assert cost.bound == "unknown"
    assert cost.note == "no FP32 rate of MI300X is at hand"
    assert json.loads(json.dumps(cost.to_dict(), allow_nan=False))["roofline_s"] is None


@pytest.mark.parametrize(
    ("device", "rate"),
    [("a100", 624e12), ("h100", 1978.9e12), ("h800", 1978.9e12), ("h100-pcie", 1513e12), ("b200", None)],
)
def test_int8_has_a_rate_of_its_own_or_none(device: str, rate: float | None) -> None:
    cost = gemm_cost(4096, 4096, 4096, "int8-row", device)
    if rate is None:
        assert cost.note == "no INT8 rate of B200 is at hand"
        assert math.isnan(cost.seconds)
    else:
        assert (cost.rate.operand_class, cost.peak, cost.note) == ("int8", rate, "")
    assert cost.bytes == gemm_cost(4096, 4096, 4096, "fp8-row", device).bytes


def test_fp4_runs_at_the_rate_of_fp8_where_there_is_no_unit_for_it() -> None:
    assert gemm_cost(64, 64, 64, "mxfp4", "h100").peak == get_device("h100").fp8.value
    assert gemm_cost(64, 64, 64, "mxfp4", "b200").peak == get_device("b200").fp4.value
    assert gemm_cost(64, 64, 64, "deepseek-v4", "b200").peak == get_device("b200").fp8.value


def test_a_device_and_a_recipe_of_ones_own_are_taken_as_they_are() -> None:
    mine = Device("mine", "Mine", bandwidth=Figure(1e9, "me"), bf16=Figure(1e12, "me"))
    wide = dataclasses.replace(get_recipe("bf16"), name="wide", output=get_format("fp32"))
    cost = gemm_cost(10, 10, 10, wide, mine)
    assert cost.output.elements == 400
    assert cost.memory_seconds == pytest.approx(800e-9)
    assert cost.compute_seconds == pytest.approx(2e-9)


def test_every_figure_of_every_device_has_a_source_and_a_plausible_size() -> None:
    for device in DEVICES.values():
        assert device.bandwidth.source
        for name in OPERAND_CLASSES:
            figure = getattr(device, name)
            assert figure is None or (figure.source and 1e13 < figure.value <= 1.5e16)
        if device.fp8 and device.bf16:
            ratio = 1 if device.name == "gaudi3" else 2  # 1.947 on Trainium2
            assert device.fp8.value / device.bf16.value == pytest.approx(ratio, rel=0.027)
        for measured, peak in ((device.measured_bf16, device.bf16), (device.measured_fp8, device.fp8)):
            assert measured is None or (peak is not None and 0.5 < measured.value / peak.value < 1)


@pytest.mark.parametrize("device", DEVICES.values(), ids=str)
def test_every_peak_names_the_document_of_the_vendor_that_states_it(device: Device) -> None:
    vendors = {"mi": "AMD", "ga": "Intel", "tp": "Google", "ir": "Google", "tr": "AWS"}
    vendor = vendors.get(device.name[:2], "NVIDIA")
    for name in ("bandwidth", "memory", *OPERAND_CLASSES):
        figure = getattr(device, name)
        assert figure is None or figure.source.startswith(vendor), name


def test_the_devices_print_with_their_units_and_a_dash_where_there_is_none() -> None:
    lines = {line.split()[0]: line for line in str(DEVICES).splitlines() if line}
    assert re.search(r"H100 SXM +989\.5 +1979 +- +3\.35 TB/s +80 GB$", lines["h100"])
    assert re.search(r"GB200 .* 10000 +8 TB/s +186 GB$", lines["gb200"])
    assert re.search(r"TPU v5p +459 +- +- +2\.765 TB/s +102 GB$", lines["tpu-v5p"])
    assert set(DEVICES) <= set(lines)
    assert "BF16 TFLOP/s" in lines["device"]
    assert max(map(len, lines.values())) <= 80


def test_a_roofline_bends_at_its_ridge() -> None:
    below, at, above = (Roofline(flops=f * 1e6, bytes=1e6, peak=4e12, bandwidth=1e11) for f in (39, 40, 41))
    assert below.ridge == 40
    assert [work.bound for work in (below, at, above)] == ["memory", "compute", "compute"]
    assert (below.seconds, above.seconds) == (1e-5, pytest.approx(41 / 4e6))
    assert (below.performance, above.performance) == (pytest.approx(3.9e12), pytest.approx(4e12))
    unknown = dataclasses.replace(above, peak=math.nan)
    assert (unknown.bound, unknown.memory_seconds) == ("unknown", 1e-5)
    assert math.isnan(unknown.seconds)


def test_the_table_names_units_and_the_html_escapes() -> None:
    recipe = dataclasses.replace(get_recipe("deepseek-v3"), name="<mine>")
    cost = gemm_cost(4096, 7168, 2048, recipe, "h800")
    text = repr(cost)
    for expected in ("8.39 MB", "262.14 kB", "120.26 GFLOP", "3.35 TB/s", "1979 TFLOP/s", "compute"):
        assert expected in text
    assert "<mine>" not in cost._repr_html_()
    assert "&lt;mine&gt;" in cost._repr_html_()


def test_the_dictionary_holds_the_same_figures() -> None:
    cost = gemm_cost(64, 2112, 7168)
    data = json.loads(json.dumps(cost.to_dict()))
    assert (data["m"], data["n"], data["k"]) == (64, 2112, 7168)
    assert data["bytes"] == sum(data[key] for key in data if key.endswith("_bytes"))
    assert data["bytes_without_scales"] == data["a_bytes"] + data["b_bytes"] + data["output_bytes"]
    assert data["roofline_s"] == max(data["compute_s"], data["memory_s"])


@pytest.mark.parametrize("size", [0, -4])
def test_sizes_below_one_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"n must be at least 1, got {size}"):
        gemm_cost(1, size, 1)


@pytest.mark.parametrize("size", [2.5, "7", None, True, float("nan")])
def test_sizes_that_are_no_whole_number_are_refused(size: object) -> None:
    with pytest.raises(TypeError, match="m must be a whole number"):
        gemm_cost(size, 1, 1)  # type: ignore[arg-type]


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown recipe 'deepseek-v9'; did you mean 'deepseek-v"):
        gemm_cost(1, 1, 1, "deepseek-v9")
    with pytest.raises(ValueError, match=r"unknown device 'h80'; did you mean 'h800'"):
        gemm_cost(1, 1, 1, device="h80")
    with pytest.raises(ValueError, match="unknown operand class 'int4'"):
        get_device("h800").rate("int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("tflops", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_is_not_positive_is_refused(tflops: float) -> None:
    with pytest.raises(ValueError, match="tflops must be positive"):
        gemm_cost(1, 1, 1).gbps_at(tflops)


@pytest.mark.parametrize("name", ["bandwidth", "bf16", "memory"])
@pytest.mark.parametrize("value", [0.0, 1e-300])
def test_a_device_has_rates_that_can_be_divided_by(name, value):
    device = get_device("h100")
    with pytest.raises(ValueError, match=f"{name} must be a rate or a size of 1 or more"):
        dataclasses.replace(device, **{name: dataclasses.replace(device.bandwidth, value=value)})
