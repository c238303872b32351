"""Serving: memory, fit, times by part, curves, and what is published of servers."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp8sim
from fp8sim import RECIPES, serving_cost
from fp8sim._support.published import SERVING, Figure
from fp8sim.costs import Device
from fp8sim.models import KV_CACHES, CacheFormat, check_serving, get_model, inventory
from fp8sim.models.caches import cache_bytes, key_bytes
from fp8sim.models.description import GroupedQuery, ModelDescription, Recurrent, Stack
from fp8sim.models.memory import kv_cache_bytes, state_bytes
from fp8sim.models.timing import Workload, product_times, quantize_bytes

CONFIGS = sorted((Path(__file__).parent / "data" / "configs").glob("*.json"))
GB = 1e9
H100, FP8, BF16 = 3.35e12, 1979e12, 989.5e12  # bytes a second, and dense FLOP/s
# Llama-3.1-8B: 32 layers of 4096, 32 query heads and 8 of keys and values of 128, FFN 14336, vocabulary 128256
LAYERS, HIDDEN, KV_WIDTH, WIDTH, VOCAB = 32, 4096, 1024, 14336, 128256
LINEAR = LAYERS * (2 * HIDDEN * HIDDEN + 2 * KV_WIDTH * HIDDEN + 3 * WIDTH * HIDDEN)
OTHERS = 2 * VOCAB * HIDDEN + (2 * LAYERS + 1) * HIDDEN  # embedding, head and norms
COLUMNS = LAYERS * (2 * HIDDEN + 2 * KV_WIDTH + 2 * WIDTH + HIDDEN)  # of all linear layers: a scale each
KEYS = LAYERS * 2 * KV_WIDTH  # elements cached a token


def llama(recipe: str = "fp8-row", **more: Any) -> fp8sim.ServingCost:
    return serving_cost("llama-3.1-8b", recipe, **{"device": "h100", "batch": 64, "context": 8192, **more})


def seconds(parts: Any) -> dict[str, float]:
    return {part.name: part.seconds for part in parts}


# --- worked by hand -------------------------------------------------------------------------------


def test_by_hand_llama_in_bf16_needs_84_8_gb_and_does_not_fit():
    cost = llama("bf16")
    weights = 2 * (LINEAR + OTHERS)  # 16.06 GB
    cache = 2 * KEYS * 64 * 8192  # 131,072 bytes a token: 68.72 GB
    assert (cost.memory.weights, cost.memory.cache, cost.memory.state) == (weights, cache, 0)
    assert cost.memory.held == weights + cache
    assert cost.memory.held / GB == pytest.approx(84.8, rel=0.01)
    assert cost.fits is False


def test_by_hand_llama_with_fp8_weights_needs_77_8_gb_and_does_not_fit():
    cost = llama()
    weights = LINEAR + 4 * COLUMNS + 2 * OTHERS  # 9.09 GB
    assert cost.memory.weights == weights
    assert cost.memory.held / GB == pytest.approx(77.8, rel=0.01)
    # a chunk of 8192 tokens: the residual and a norm of it, and what w1 and w3 read and write; logits in FP32
    activations = 8192 * 2 * (2 * HIDDEN + HIDDEN + 2 * WIDTH) + 64 * 4 * VOCAB
    assert cost.memory.activations == activations
    missing = weights + 2 * KEYS * 64 * 8192 + activations + 8 * GB - 80 * GB
    assert cost.fits is False
    assert cost.ours.missing_bytes == missing == pytest.approx(6.51 * GB, rel=1e-3)
    # a sequence takes its cache and its logits: how many are left room for
    room = 72 * GB - weights - 8192 * 2 * (3 * HIDDEN + 2 * WIDTH)
    assert cost.ours.largest_batch == room // (2 * KEYS * 8192 + 4 * VOCAB) == 57
    assert "does not fit, 6.51 GB too much for 80.00 GB" in str(cost)


def test_by_hand_attention_is_20_5_of_23_ms_of_decoding():
    parts = seconds(llama().ours.decode)
    cache = 2 * KEYS * 64 * 8192
    queries = 2 * 64 * LAYERS * 2 * HIDDEN  # read, and as many written
    assert parts["attention"] == pytest.approx((cache + queries) / H100)
    assert parts["attention"] == pytest.approx(20.5e-3, rel=0.01)
    head = 2 * (VOCAB * HIDDEN + 64 * (HIDDEN + VOCAB))
    assert parts["vocabulary"] == pytest.approx(head / H100)
    # each linear layer reads its rows in FP8 with a scale, and writes BF16; gate and up, and K and V, share rows
    shapes = [
        (HIDDEN, HIDDEN),
        (HIDDEN, 2 * KV_WIDTH),
        (HIDDEN, HIDDEN),
        (HIDDEN, 2 * WIDTH),
        (WIDTH, HIDDEN),
    ]
    rows = sum(64 * (k + 4 + 2 * n) for k, n in shapes)
    assert parts["linear layers"] == pytest.approx((LINEAR + 4 * COLUMNS + LAYERS * rows) / H100)
    assert sum(parts.values()) == pytest.approx(23.0e-3, rel=0.01)
    assert math.isnan(llama().ours.decode_seconds)  # it does not fit


def test_by_hand_an_fp8_cache_halves_what_is_left():
    cost = llama(kv="fp8")
    cache = KEYS * 64 * 8192  # 34.36 GB
    assert cost.memory.cache == cache
    assert cost.fits
    assert cost.ours.largest_batch == 115
    assert seconds(cost.ours.decode)["attention"] == pytest.approx((cache + 64 * LAYERS * 4 * HIDDEN) / H100)
    assert cost.ours.tokens_per_second == pytest.approx(64 / cost.ours.decode_seconds)
    assert math.isnan(cost.speedup)  # BF16 does not fit


def test_by_hand_a_prompt_is_bound_by_compute():
    cost = llama(kv="fp8")
    parts = seconds(cost.ours.prefill)
    assert parts["linear layers"] == pytest.approx(2 * LINEAR * 8192 / FP8, rel=1e-9)
    # each of 8192 tokens meets half of them, in 32 heads whose products with K and V are 128 long
    assert parts["attention"] == pytest.approx(LAYERS * 4 * HIDDEN * 4096 * 8192 / BF16)
    assert parts["vocabulary"] == pytest.approx(2 * (VOCAB * HIDDEN + HIDDEN + VOCAB) / H100)  # one token
    quantized = LAYERS * 8192 * sum(2 * k + k + 4 for k in (HIDDEN, HIDDEN, HIDDEN, WIDTH))
    assert parts["quantising"] == pytest.approx(quantized / H100)
    assert cost.ours.time_to_first_token == pytest.approx(sum(parts.values()))


def test_by_hand_a_device_without_the_unit_gains_no_time_in_prefill():
    a100, bandwidth = llama(device="a100", batch=1), 2.039e12
    part = seconds(a100.ours.prefill)["linear layers"]
    assert part == pytest.approx(2 * LINEAR * 8192 / 312e12)  # at the BF16 rate
    assert part == seconds(a100.baseline.prefill)["linear layers"]
    head = 2 * (VOCAB * HIDDEN + HIDDEN + VOCAB)
    assert seconds(a100.ours.decode)["vocabulary"] == pytest.approx(head / bandwidth)


@pytest.mark.parametrize(("devices", "share"), [(2, 1 / 2), (4, 1 / 4), (6, 2 / 8), (8, 1 / 8), (16, 1 / 8)])
def test_by_hand_tensors_are_cut_evenly_and_caches_by_heads(devices, share):
    cost = llama(devices=devices)
    assert cost.plan == "tensor"
    assert cost.memory.weights == pytest.approx((LINEAR + 4 * COLUMNS + 2 * OTHERS) / devices)
    assert cost.memory.cache == pytest.approx(2 * KEYS * 64 * 8192 * share)
    read = 2 * KEYS * 64 * 8192 * share + 64 * LAYERS * 4 * HIDDEN / devices
    assert seconds(cost.ours.decode)["attention"] == pytest.approx(read / H100)
    (exchange,) = cost.exchanges  # two sums a layer, around a ring
    assert exchange.bytes_per_token == pytest.approx(2 * (devices - 1) / devices * 2 * LAYERS * HIDDEN * 2)


def test_by_hand_experts_of_deepseek_v3_on_144_devices():
    cost = serving_cost("deepseek-v3", device="h800", devices=144, batch=144 * 88, context=4989)
    assert cost.plan == "expert"
    expert = 3 * 2048 * 7168  # one of 256 in each of 58 layers; a device has two
    scaled = 1 + 4 / 128**2
    routed = 58 * 2 * expert * scaled
    beside = 671_026_419_200 - 58 * 256 * expert
    wide = 2 * 129280 * 7168 + 58 * 256 * 7168  # embedding, head and routers
    small = 61 * (2 * 7168 + 1536 + 512) + 7168  # norms in BF16, and the biases of the router in FP32
    narrow = beside - wide - small - 58 * 256
    # blocks of wkv_a, 576 x 7168, are ragged: 5 x 56 scales where 4.5 x 56 are counted
    weights = routed + narrow * scaled + 61 * 4 * (5 * 56 - 4.5 * 56) + 2 * (wide + small) + 4 * 58 * 256
    assert cost.memory.weights == pytest.approx(weights, rel=1e-12)
    assert cost.memory.cache == 88 * 4989 * 70_272
    sent, moved = 58 * 8 * (7168 + 4 * 56), 58 * 8 * 2 * 7168
    tensor, expert_plan = cost.exchanges
    assert expert_plan.bytes_per_token == pytest.approx(143 / 144 * (sent + moved))
    assert expert_plan.baseline_bytes_per_token == pytest.approx(143 / 144 * 2 * moved)
    assert tensor.plan == "tensor"
    # all tokens of 144 devices meet the experts of one, 1 / 144 of them; each weight is read once
    flops = 144 * 88 * 2 * 58 * 8 * expert / 144
    part = next(part for part in cost.ours.decode if part.name == "routed experts")
    assert part.flops == pytest.approx(flops)
    assert (part.bound, part.seconds) == ("compute", pytest.approx(flops / FP8, rel=0.03))  # w2 a little more


def test_by_hand_records_of_deepseek():
    v32 = serving_cost("deepseek-v3.2", device="b200", devices=8, batch=32, context=1000, kv="deepseek-v3.2")
    assert v32.memory.cache == 4 * 1000 * 61 * (656 + 132)
    v4 = serving_cost(
        "deepseek-v4-flash",
        "deepseek-v4",
        device="b200",
        devices=8,
        batch=8,
        context=1_000_000,
        kv="deepseek-v4",
    )
    kinds = {kind.ratio: layers for kind, layers in get_model("deepseek-v4-flash").attentions.items()}  # type: ignore[union-attr]
    assert kinds == {None: 2, 4: 21, 128: 20}
    records = 43 * 128 * 584 + 21 * 250_000 * (584 + 68) + 20 * 7812 * 584
    assert v4.memory.cache == records


def test_by_hand_experts_of_deepseek_v4_are_stored_in_fp4():
    cost = serving_cost("deepseek-v4-flash", "deepseek-v4", device="h200", devices=8, batch=8, context=1000)
    expert = 43 * 32 * 3 * 2048 * 4096  # 256 of a layer over 8 devices, half a byte and a scale each 32
    eight_bit = serving_cost(
        "deepseek-v4-flash", "deepseek-v3.1", device="h200", devices=8, batch=8, context=1000
    )
    saved = expert * (1 + 4 / 128**2 * 1 / 4 - 1 / 2 - 1 / 32)
    assert eight_bit.memory.weights - cost.memory.weights == pytest.approx(saved)


def test_by_hand_a_state_is_no_cache():
    model = get_model(str(next(path for path in CONFIGS if "Qwen3.5-27B" in path.name)))
    (kind,) = (kind for kind in model.attentions if isinstance(kind, Recurrent))
    cost = serving_cost(model, "bf16", device="h200", batch=16, context=4096)
    # heads x keys x values in FP32, and three taps of the convolution in BF16, in each of 48 layers
    channels = 2 * kind.key_heads * kind.key_dim + kind.heads * kind.value_dim
    assert model.attentions[kind] == 48
    state = 48 * (4 * kind.heads * kind.key_dim * kind.value_dim + 2 * 3 * channels)
    assert cost.memory.state == 16 * state == 16 * state_bytes(inventory(model))
    (full,) = (kind for kind in model.attentions if isinstance(kind, GroupedQuery))
    assert cost.memory.cache == 16 * 4096 * 16 * 2 * full.kv_heads * full.head_dim * 2


# --- caches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "of_llama", "of_v3"),
    [
        *[("bf16", 4096, 1152), ("fp8", 2048, 576), ("fp8-static", 2048, 576), ("fp8-token", 2056, 580)],
        *[("fp4", 1024 + 64, 288 + 18), ("nvfp4", 1024 + 128, 288 + 36)],
        *[
            ("deepseek-v3.2", None, 656),
            ("deepseek-v4", None, 512 + 8 + 128),
            ("deepseek-v4.1", None, 576 + 18),
        ],
        *[("mxfp4-latent", None, 256 + 16 + 128), ("nvfp4-latent", None, 256 + 32 + 128)],
    ],
)
def test_bytes_of_a_key_and_its_value_in_one_layer(name, of_llama, of_v3):
    assert key_bytes(KV_CACHES[name], get_model("deepseek-v3").attention) == of_v3
    attention = get_model("llama-3.1-8b").attention
    if of_llama is None:
        with pytest.raises(ValueError, match=f"{name} is a record of latents"):
            key_bytes(KV_CACHES[name], attention)
    else:
        assert key_bytes(KV_CACHES[name], attention) == of_llama


def test_every_cache_format_has_its_bytes_here():
    marks = test_bytes_of_a_key_and_its_value_in_one_layer.pytestmark  # type: ignore[attr-defined]
    assert [row[0] for row in marks[0].args[1]] == list(KV_CACHES)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_family_has_its_bytes_a_token(path):
    model = get_model(str(path))
    found = inventory(model)
    wide = kv_cache_bytes(found, RECIPES["bf16"], 100_000)
    indexed = any(core.bits for core in found.cores)  # whose keys have scales here
    assert cache_bytes(model, KV_CACHES["bf16"], 100_000) == pytest.approx(wide, rel=0.01 if indexed else 0)
    halved = cache_bytes(model, KV_CACHES["fp8"], 100_000)
    assert halved == pytest.approx(wide / 2, rel=0.2 if indexed else 0)
    assert cache_bytes(model, KV_CACHES["fp8-token"], 1000) >= cache_bytes(model, KV_CACHES["fp8"], 1000)


def test_a_cache_of_ones_own():
    mine = CacheFormat("int8", fp8sim.Operand("int8", fp8sim.Scaling("row")))
    assert llama(kv=mine, context=1).memory.cache == 64 * LAYERS * (2 * KV_WIDTH + 8)
    KV_CACHES["int8"] = mine
    try:
        assert llama(kv="INT8").ours.kv is mine
    finally:
        del KV_CACHES["int8"]
    with pytest.raises(TypeError, match="a cache format is a CacheFormat, got 3"):
        KV_CACHES["x"] = 3  # type: ignore[assignment]


# --- one roofline ---------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["bf16", "fp8-row", "deepseek-v3", "deepseek-v4", "mxfp8", "nvfp4"])
@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "deepseek-v4-flash", "qwen3-30b-a3b"])
def test_steps_take_what_the_products_of_a_model_take(name, recipe):
    model = get_model(name)
    side = serving_cost(model, recipe, device="h100", batch=48, context=3000).ours
    indexed = any(core.bits for core in inventory(model).cores)
    for parts, phase, batch in ((side.decode, "decode", 48), (side.prefill, "prefill", 1)):
        absorbed = phase == "decode" and name == "deepseek-v3"
        work = Workload(phase, 3000, batch, causal=True)
        found = inventory(model, absorbed=absorbed)
        products = product_times(found, RECIPES[recipe], work, side.of.device)
        want = {"attention core": 0.0, "output head": 0.0, "layers": 0.0}
        for one in products:
            want[one.component if one.component in want else "layers"] += one.seconds
        got = seconds(parts)
        layers = got["linear layers"] + got.get("routed experts", 0.0)
        assert layers == pytest.approx(want["layers"], rel=1e-6)
        rel = 0.01 if indexed and phase == "decode" else 1e-9  # keys of an index have their scales here
        assert got["attention"] == pytest.approx(want["attention core"], rel=rel)
        if phase == "decode":  # in prefill one token of a prompt meets the head
            assert got["vocabulary"] == pytest.approx(want["output head"])
        quantizing = quantize_bytes(found, RECIPES[recipe], work) / H100
        assert got.get("quantising", 0.0) == pytest.approx(quantizing, rel=1e-4)


def test_parts_add_up_and_say_what_bounds_them():
    cost = serving_cost("deepseek-v3", device="h200", devices=16, batch=256, context=4096, kv="deepseek-v3.2")
    assert cost.fits
    for side in (cost.ours, cost.baseline):
        for parts in (side.decode, side.prefill):
            assert {part.bound for part in parts} <= {"compute", "memory", "cache"}
            assert all(0 <= part.cache_bytes <= part.bytes for part in parts)
    assert cost.ours.decode_seconds == pytest.approx(sum(part.seconds for part in cost.ours.decode))
    unknown = serving_cost("llama-3.1-8b", "fp32", device="mi300x", batch=1, context=100)
    assert unknown.ours.decode[0].bound == "unknown"
    assert math.isnan(unknown.ours.decode_seconds)
    assert "unknown" in str(unknown)


# --- fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "deepseek-v4-flash", "qwen3-30b-a3b"])
@pytest.mark.parametrize("devices", [1, 3, 8, 32])
def test_the_largest_batch_and_context_fit_and_one_more_does_not(name, devices):
    how: dict[str, Any] = {"device": "b200", "devices": devices}
    side = serving_cost(name, batch=16, context=5000, **how).ours
    step = devices if side.of.plan == "expert" else 1
    if side.largest_batch:
        assert serving_cost(name, batch=side.largest_batch, context=5000, **how).fits
    more = (side.largest_batch or 0) + step
    assert not serving_cost(name, batch=more, context=5000, **how).fits
    if side.largest_context:
        assert serving_cost(name, batch=16, context=side.largest_context, **how).fits
    assert not serving_cost(name, batch=16, context=(side.largest_context or 0) + 128, **how).fits


def test_a_reserve_decides_whether_it_fits():
    assert llama(reserve=0.0, context=8192, batch=63).fits
    assert not llama(reserve=0.1, context=8192, batch=63).fits
    assert llama(reserve=0.25).memory.reserve == 20 * GB


def test_no_time_is_given_for_what_does_not_fit():
    cost = llama()
    data = cost.to_dict()
    assert data["fits"] is data["baseline_fits"] is False
    timed = [key for key in data if key.endswith(("_s", "_device", "decode", "prefill", "speedup"))]
    assert len(timed) == 13
    assert {data[key] for key in timed} == {None}
    assert not re.search(r"\d (ms|us|s)\b", str(cost))
    assert "No time is given for what does not fit." in str(cost)
    json.dumps(data, allow_nan=False)


def test_where_the_memory_is_not_known_times_are_given():
    mine = Device("mine", "Mine", bandwidth=Figure(1e12, "me"), bf16=Figure(1e15, "me"))
    cost = llama(device=mine)
    assert cost.fits is cost.ours.largest_batch is None
    assert cost.ours.decode_seconds > 0
    assert "whether it fits is not known" in str(cost)


def test_a_window_or_a_state_leaves_the_context_without_a_limit():
    config = {
        **{"model_type": "mistral", "vocab_size": 1000, "hidden_size": 512, "intermediate_size": 1024},
        **{"num_hidden_layers": 4, "num_attention_heads": 8, "sliding_window": 1024},
    }
    cost = serving_cost(config, device="h100", batch=4, context=4096)
    assert cost.memory.cache == 4 * 4 * 1024 * 2 * 512 * 2
    assert cost.ours.largest_context is None
    assert "no limit" in str(cost)


# --- curves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "deepseek-v4-flash"])
def test_a_curve_is_what_each_of_its_points_is(name):
    how: dict[str, Any] = {"device": "h200", "devices": 8, "kv": "fp8"}
    rows = serving_cost(name, batch=3, context=99, **how).curve(batch=(1, 17, 4000), context=[100, 70_000])
    assert [(row["batch"], row["context"]) for row in rows][:4] == [
        (1, 100),
        (17, 100),
        (4000, 100),
        (1, 70_000),
    ]
    for row in rows:
        cost = serving_cost(name, batch=row["batch"], context=row["context"], **how)
        for side, prefix in ((cost.ours, ""), (cost.baseline, "baseline_")):
            assert row[f"{prefix}fits"] == side.fits
            assert row[f"{prefix}bytes"] == pytest.approx(side.memory.total)
            for key, want in (
                ("time_to_first_token_s", side.time_to_first_token),
                ("decode_s", side.decode_seconds),
                ("tokens_per_s_and_device", side.tokens_per_second),
            ):
                got = row[f"{prefix}{key}"]
                assert got == pytest.approx(want) if side.fits else got is None
    assert {row["fits"] for row in rows} == {True, False}


def test_a_curve_stays_where_nothing_is_given():
    cost = llama(kv="fp8")
    (row,) = cost.curve()
    assert (row["batch"], row["context"], row["decode_s"]) == (
        64,
        8192,
        pytest.approx(cost.ours.decode_seconds),
    )
    assert len(cost.curve(batch=np.arange(1, 4))) == 3


# --- published ------------------------------------------------------------------------------------


def test_servers_are_slower_than_their_rooflines_by_known_ratios():
    check = check_serving()
    rows = {row.what: row for row in check.rows}
    node = rows["decoding, a node"]
    assert (node.published, node.ratio) == (14_800, pytest.approx(2.71, abs=0.01))
    prompts = rows["prompts, a node"]
    assert (prompts.published, prompts.ratio) == (pytest.approx(32_207, abs=1), pytest.approx(4.99, abs=0.01))
    tensorrt = [row for row in check.rows if "TensorRT" in row.source]
    assert len(tensorrt) == len(SERVING) - 2
    # the more devices, the more is left out: what they send each other
    one, many = ([row.ratio for row in tensorrt if (" 1 x" in row.what) == alone] for alone in (True, False))
    assert all(1.3 < ratio < 1.6 for ratio in one)
    assert all(1.6 < ratio < 3.7 for ratio in many)
    assert all(1.3 < rows[f"6 GEMMs of DeepGEMM, m = {m}"].ratio < 1.8 for m in (64, 4096))
    assert "leaves out" in str(check)


def test_only_what_is_published_is_checked():
    assert {row.what.partition(",")[0] for row in check_serving("llama-3.1-8b").rows} == {"llama-3.1-8b"}
    with pytest.raises(ValueError, match="no published serving of qwen3-8b is at hand; known: deepseek-v3, "):
        check_serving("qwen3-8b")


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch": 0}, ValueError, "batch must be at least 1, got 0"),
        ({"batch": -3}, ValueError, "batch must be at least 1, got -3"),
        ({"batch": 1.5}, TypeError, r"batch must be a whole number, got 1\.5"),
        ({"batch": 10**400}, ValueError, "batch must be at most"),
        ({"context": True}, TypeError, "context must be a whole number, got True"),
        ({"context": math.nan}, TypeError, "context must be a whole number, got nan"),
        ({"devices": 0}, ValueError, "devices must be at least 1, got 0"),
        ({"device": "h101"}, ValueError, "unknown device 'h101'; did you mean"),
        ({"kv": "fp9"}, ValueError, "unknown cache format 'fp9'; did you mean 'fp8'"),
        ({"kv": 8}, ValueError, "unknown cache format 8"),
        ({"kv": "deepseek-v4"}, ValueError, "is a record of latents, and 32 heads of 128"),
        ({"recipe": "fp9"}, ValueError, "unknown recipe 'fp9'"),
        ({"plan": "expert"}, ValueError, "has no experts to cut by; use plan='tensor'"),
        ({"plan": "pipeline"}, ValueError, "plan"),
        ({"reserve": math.nan}, ValueError, "reserve must be a number, got NaN"),
        ({"reserve": 1}, ValueError, "reserve must be 0 to 0.99, got 1"),
        ({"reserve": "x"}, TypeError, "reserve must be a number, got 'x'"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        llama(**change)


def test_an_encoder_is_refused():
    with pytest.raises(ValueError, match="is an encoder, which does not decode; use model_cost"):
        serving_cost("all-minilm-l6-v2", device="h100", batch=1, context=128)


@pytest.mark.parametrize(
    ("given", "error"), [((0,), ValueError), ("12", TypeError), ((1.5,), TypeError), ((None,), TypeError)]
)
def test_a_curve_refuses_what_is_no_size(given, error):
    with pytest.raises(error, match="batch must be"):
        llama().curve(batch=given)


@pytest.mark.parametrize("size", [1, 2**53])
def test_the_smallest_and_the_largest_sizes_have_figures(size):
    for name in ("llama-3.1-8b", "deepseek-v3", "deepseek-v4-flash"):
        cost = serving_cost(name, device="b200", devices=size, batch=size, context=size)
        json.dumps(cost.to_dict(), allow_nan=False)
        assert str(cost)


def test_what_is_not_counted_is_not_served():
    """A cache that is not known would leave a model that seems to fit anywhere."""
    falcon = ModelDescription(
        "falcon", "falcon", 4544, 65024, (Stack(32, None, None),), True, decoder=True,
        found=("left out: flops and cache of attention, whose kind is not known; not counted",),
    )  # fmt: skip
    with pytest.raises(ValueError, match="what serving falcon takes is not known"):
        serving_cost(falcon, "fp8-row", device="h100", batch=256, context=100_000)


@pytest.mark.parametrize("batch", [1, 2, 7, 9, 100])
def test_experts_that_are_shared_out_see_the_sequences_there_are(batch):
    """Not as many as would fill every device: of 256 experts, 8 see one token."""
    cost = serving_cost("deepseek-v3", "bf16", device="h200", devices=8, batch=batch, context=4096)
    (experts,) = (part for part in cost.ours.decode if part.name == "routed experts")
    touched = 256 * (1 - (1 - 8 / 256) ** batch)
    weights = 58 * 3 * 7168 * 2048 * 2  # bytes of an expert in all layers
    assert experts.bytes == pytest.approx(touched * weights / 8, rel=0.02)
    assert experts.flops == pytest.approx(2 * batch * 8 * 58 * 3 * 7168 * 2048 / 8, rel=1e-9)


def test_what_a_device_lacks_is_said_and_rows_are_in_order_without_a_reserve():
    cost = serving_cost("llama-3.1-8b", "fp8-row", device="a100", batch=8, context=8192, reserve=0)
    text = repr(cost)
    assert "A100 SXM has no FP8 unit" in text
    assert any("no FP8 unit" in line for line in cost.to_dict()["notes"])
    order = [text.index(f"\n{name} ") for name in ("weights", "cache", "held between steps", "activations")]
    assert order == sorted(order)
    assert "Reserve" not in text
