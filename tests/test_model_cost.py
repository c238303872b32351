"""Bytes, flops and time of whole models, against published and hand-worked figures."""

from __future__ import annotations

import dataclasses
import json
import math
import time

import numpy as np
import pytest

from fp8sim._support.published import SPEEDUPS, Figure
from fp8sim.costs import Device
from fp8sim.models import check_model, get_model, inventory, model_cost
from fp8sim.models.memory import expert_traffic, kept_activations, training_states, weight_bytes
from fp8sim.models.timing import Workload, amdahl, product_times, quantize_bytes, touched
from fp8sim.plotting.models import bar_shares, plot_model
from fp8sim.recipes import RECIPES, get_recipe

# DeepSeek-V3's FP8 shares of forward flops and the ceilings they leave, by sequence length.
SHARES = [(4096, 0.853, 1.743, 1.586), (32768, 0.459, 1.298, 1.248), (131072, 0.178, 1.097, 1.083)]


def test_the_checkpoint_of_deepseek_v3_halves() -> None:
    # 669,065,609,216 FP8 bytes, 40,838,232 scales of 4, 1,960,809,984 others of 2 (router biases 4).
    cost = model_cost("deepseek-v3")
    assert cost.weight_scale_bytes == 4 * 40_838_232
    kept = 2 * 1_960_809_984 + 2 * 58 * 256
    assert cost.weight_bytes == 669_065_609_216 + 4 * 40_838_232 + kept
    assert round(cost.weight_bytes / 1e9, 2) == 673.15
    assert round(cost.baseline_weight_bytes / 1e9, 2) == 1342.05
    assert round(cost.weight_bytes / cost.baseline_weight_bytes, 4) == 0.5016
    assert round(100 * cost.weight_scale_bytes / 669_065_609_216, 4) == 0.0244
    assert model_cost("deepseek-v3", "deepseek-v3.1").weight_scale_bytes == 40_838_232


@pytest.mark.parametrize(("seq_len", "share", "ceiling", "measured"), SHARES)
def test_the_fp8_share_and_its_ceilings_fall_with_the_sequence(
    seq_len: int, share: float, ceiling: float, measured: float
) -> None:
    cost = model_cost("deepseek-v3", seq_len=seq_len)
    assert round(cost.quantized_flops_share, 3) == share
    assert cost.ceilings[0].share_of == "forward flops"
    assert round(cost.ceilings[0].speedup, 3) == ceiling
    assert round(cost.ceilings[3].speedup, 3) == measured
    assert round(cost.ceilings[3].gemm_speedup, 3) == 1.765


def test_training_flops_follow_the_published_250_gflop() -> None:
    assert round(model_cost("deepseek-v3").flops_per_token / 1e9, 2) == 250.45
    assert round(model_cost("deepseek-v3", causal=False).flops_per_token / 1e9, 2) == 281.15
    forward = model_cost("deepseek-v3", phase="prefill")
    assert round(forward.flops_per_token / 1e9, 3) == round(71.183 + 2.066 + 10.234, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deepseek-v3", 70_272),  # Insights into DeepSeek-V3, table 1: 70.272 KB
        ("qwen2.5-72b", 327_680),  # 327.680 KB
        ("llama-3.1-405b", 516_096),  # 516.096 KB
        ("llama-3.1-8b", 2 * 32 * 8 * 128 * 2),
        ("all-minilm-l6-v2", 0),  # an encoder caches nothing
    ],
)
def test_the_kv_cache_is_the_published_one_and_fp8_leaves_it(name: str, expected: int) -> None:
    for recipe in ("bf16", "deepseek-v3"):
        cost = model_cost(name, recipe, seq_len=100, batch=3)
        assert cost.kv_cache_bytes_per_token == expected
        assert cost.kv_cache_bytes == 300 * expected


def test_training_state_falls_from_18_to_13_bytes_of_which_fp8_brings_one() -> None:
    cost = model_cost("deepseek-v3")
    per = [state.total / cost.inventory.parameters for state in cost.training_states]
    assert per == pytest.approx([18, 17, 13], abs=0.005)
    assert 1 - per[2] / per[0] == pytest.approx(0.28, abs=0.005)


def test_fp32_weights_are_their_own_master() -> None:
    found = inventory(get_model("qwen2.5-0.5b"))
    state = training_states(found, get_recipe("fp32"), get_recipe("bf16"))[1]
    assert state.master == 0
    assert state.total == 16 * found.parameters


def test_what_a_token_of_llama_keeps_is_worked_by_hand() -> None:
    # A layer: norm inputs 2 x 4096 in BF16; attention and FFN inputs 4096 bytes and 32 scales of 4;
    # queries, keys and values 6144 in BF16; attention output 4096 x 12 bits and 32 scales of 1;
    # gate and up 28672 bytes and 224 scales of 4. Then the final hidden state in BF16.
    layer = 2 * 2 * 4096 + 2 * (4096 + 128) + 2 * 6144 + (6144 + 32) + (28672 + 896)
    found = inventory(get_model("llama-3.1-8b"))
    kept = kept_activations(found, get_recipe("deepseek-v3"))
    assert sum(tensor.bytes_per_token for tensor in kept) == 32 * layer + 2 * 4096
    plain = 2 * (2 * 4096 + 2 * 4096 + 6144 + 4096 + 28672)
    baseline = kept_activations(found, get_recipe("bf16"))
    assert sum(tensor.bytes_per_token for tensor in baseline) == 32 * plain + 2 * 4096
    assert {str(tensor.stored) for tensor in baseline} == {"bf16"}


def test_dispatch_is_fp8_and_combine_bf16() -> None:
    found = inventory(get_model("deepseek-v3"))
    rows = 58 * 8 * 7168
    assert expert_traffic(found, get_recipe("deepseek-v3")) == (rows * (1 + 4 / 128), rows * 2)
    assert expert_traffic(found, get_recipe("deepseek-v3.1")) == (rows * (1 + 1 / 128), rows * 2)
    assert expert_traffic(found, get_recipe("bf16")) == (rows * 2, rows * 2)
    assert expert_traffic(inventory(get_model("llama-3.1-8b")), get_recipe("bf16")) == (0, 0)


def test_a_decode_step_of_one_sequence_reads_weights_and_cache_once() -> None:
    # Llama-3.1-8B after 1024 tokens: 2 bytes of each weight but the embedding, and the cache.
    cost = model_cost("llama-3.1-8b", "bf16", phase="decode", seq_len=1024, device="h100")
    weights = 2 * (8_030_261_248 - 128256 * 4096 - 65 * 4096)
    seconds = (weights + 1024 * 131_072) / 3.35e12
    assert cost.seconds == pytest.approx(seconds, rel=1e-3)  # activations are the rest
    assert all(part.bound == "memory" for part in cost.times)


def test_a_decode_step_in_fp8_is_nearly_twice_as_fast_where_weights_are_all_it_reads() -> None:
    cost = model_cost("llama-3.1-405b", phase="decode", seq_len=128, device="h200")
    assert cost.speedup == pytest.approx(cost.baseline_weight_bytes / cost.weight_bytes, rel=0.01)


def test_a_large_training_step_meets_the_ceiling_before_quantising_and_not_after() -> None:
    cost = model_cost("deepseek-v3", batch=15360)
    free = cost.baseline_seconds / (cost.seconds - cost.quantize_seconds)
    assert free == pytest.approx(cost.ceilings[0].speedup, rel=0.003)
    assert 1.4 < cost.speedup < free
    flops = 15360 * 4096 * cost.flops_per_token
    assert cost.baseline_seconds == pytest.approx(flops / 989.5e12, rel=0.01)


def test_a_training_step_of_one_layer_is_worked_by_hand() -> None:
    # wo of Llama-3.1-8B alone, 8192 tokens, BF16 on a device of 1 FLOP/s or of 1 B/s.
    work = Workload("training", seq_len=8192, batch=1, causal=True)
    device = Device("slow", "Slow", bandwidth=Figure(1.0, ""), bf16=Figure(1.0, ""))
    times = product_times(inventory(get_model("llama-3.1-8b")), get_recipe("bf16"), work, device)
    wo = [part for part in times if part.name == "wo"]
    m, n, k = 8192, 4096, 4096
    assert [(p.product, p.m, p.n, p.k, p.products) for p in wo] == [
        ("fprop", m, n, k, 32),
        ("dgrad", m, k, n, 32),
        ("wgrad", n, k, m, 32),
    ]
    assert [part.compute_seconds for part in wo] == [32 * 2 * m * n * k] * 3
    forward = 2 * (m * k + n * k + m * n)
    assert [part.memory_seconds for part in wo] == [
        32 * forward,
        32 * forward,
        32 * (2 * (m * n + m * k) + 4 * n * k),  # gradients in FP32
    ]


def test_quantising_reads_and_writes_what_is_worked_by_hand() -> None:
    # wo's inputs and gradients, both 4096 wide: forward 2 + q, q one FP8 byte and its scale;
    # backward reads and writes the input, 2 q, and reads the gradient once, writing it twice, 2 + 2 q.
    found = inventory(get_model("llama-3.1-8b"))
    alone = dataclasses.replace(found, gemms=tuple(g for g in found.gemms if g.name == "wo"))
    recipe, q = get_recipe("deepseek-v3"), 1 + 4 / 128
    prefill = Workload("prefill", seq_len=256, batch=1, causal=True)
    training = dataclasses.replace(prefill, phase="training")
    values = 32 * 256 * 4096
    assert quantize_bytes(alone, recipe, prefill) == values * (2 + q)
    assert quantize_bytes(alone, recipe, training) == values * ((2 + q) + 2 * q + (2 + 2 * q))
    assert quantize_bytes(alone, get_recipe("bf16"), training) == 0


def test_a_tensor_that_several_layers_read_is_quantised_once() -> None:
    found = inventory(get_model("deepseek-v3"))
    work = Workload("prefill", seq_len=128, batch=1, causal=True)
    reads = 61 * (7168 + 1536 + 512 + 16384) + 3 * (7168 + 18432) + 58 * (7168 + 8 * 2048 + 2048)
    q = 1 + 4 / 128
    assert quantize_bytes(found, get_recipe("deepseek-v3"), work) == 128 * reads * (2 + q)


def test_a_few_tokens_touch_few_experts(rng: np.random.Generator) -> None:
    expert = next(g for g in inventory(get_model("deepseek-v3")).gemms if g.experts == 256)
    for tokens in (1, 16, 64):
        drawn = [
            len({e for _ in range(tokens) for e in rng.choice(256, 8, replace=False)}) for _ in range(100)
        ]
        assert touched(expert, tokens) == pytest.approx(np.mean(drawn), rel=0.03)


def test_decoding_many_sequences_is_bound_by_the_cache_and_fp8_helps_less() -> None:
    speedups = [
        model_cost("llama-3.1-8b", phase="decode", seq_len=32768, batch=batch).speedup
        for batch in (1, 16, 128)
    ]
    assert speedups == sorted(speedups, reverse=True)
    assert speedups[0] > 1.4
    assert speedups[-1] < 1.05


def test_latent_attention_is_absorbed_in_decode_alone() -> None:
    assert model_cost("deepseek-v3", phase="decode").absorbed
    assert not model_cost("deepseek-v3", phase="decode", absorbed=False).absorbed
    assert not model_cost("deepseek-v3").absorbed
    assert not model_cost("llama-3.1-8b", phase="decode", absorbed=True).absorbed


def test_latent_attention_reads_latents_when_absorbed_and_heads_when_not() -> None:
    # One layer and sequence, 1000 cached tokens: 576 elements each, or 128 heads of 192 + 128.
    for absorbed, cached, own in ((True, 576, 576 + 512), (False, 128 * 320, 320)):
        cost = model_cost("deepseek-v3", phase="decode", seq_len=1000, absorbed=absorbed)
        core = cost.times[-1]
        assert core.bytes == 61 * 2 * (128 * own + 1000 * cached)


def test_the_ceiling_over_time_counts_the_wait_for_weights() -> None:
    # One sequence of Llama-3.1-8B: of the bytes read, those of linear layers; twice as fast.
    cost = model_cost("llama-3.1-8b", phase="decode", seq_len=1024, device="h100")
    linear = 2 * (8_030_261_248 - 2 * 128256 * 4096 - 65 * 4096)
    share = linear / (linear + 2 * 128256 * 4096 + 1024 * 131_072)
    ceiling = cost.ceilings[1]
    assert ceiling.share_of == "roofline time"
    assert ceiling.share == pytest.approx(share, rel=1e-3)
    assert ceiling.speedup == pytest.approx(1 / (1 - share / 2), rel=1e-3)


def test_a_device_without_fp8_units_saves_bytes_and_no_compute_time() -> None:
    cost = model_cost("llama-3.1-8b", batch=64, device="a100")
    parts = [part for part in cost.times if part.quantized]
    before = [part for part in cost.baseline_times if part.quantized]
    assert [p.compute_seconds for p in parts] == [p.compute_seconds for p in before]
    assert all(part.bytes < base.bytes for part, base in zip(parts, before, strict=True))
    assert cost.ceilings[2].speedup == 1
    assert cost.speedup < 1.01
    assert "A100 SXM has no FP8 unit" in str(cost)


def test_components_add_up_to_the_totals() -> None:
    cost = model_cost("deepseek-v3", batch=8)
    rows = cost.components
    assert sum(row.parameters for row in rows) == cost.inventory.parameters
    assert sum(row.active_parameters for row in rows) == cost.inventory.active_parameters
    assert sum(row.weights.total for row in rows) == cost.weight_bytes
    assert sum(row.baseline_weights.total for row in rows) == cost.baseline_weight_bytes
    assert sum(row.flops_per_token for row in rows) == cost.forward_flops_per_token
    assert sum(row.seconds for row in rows) + cost.quantize_seconds == pytest.approx(cost.seconds)
    flops = sum(part.flops for part in cost.times)
    assert flops == pytest.approx(cost.work.tokens * cost.flops_per_token)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_counts_weights_as_its_formats_do(name: str) -> None:
    recipe = get_recipe(name)
    found = inventory(get_model("qwen2.5-0.5b"))
    parts = weight_bytes(found, recipe)
    elements = sum(part.elements for part in parts.values())
    kept = found.parameters - found.quantized_parameters
    bits = 8 if name == "deepseek-v4" else recipe.b.fmt.bits  # E2M1 is of experts, which this model has not
    assert elements == found.quantized_parameters * bits // 8 + kept * recipe.output.bits // 8
    assert (sum(part.scales for part in parts.values()) > 0) == (recipe.b.fmt.bits <= 8)


def test_check_reproduces_what_deepseek_published() -> None:
    rows = {row.what: row for row in check_model("deepseek-v3").rows}
    assert all(row.ratio == pytest.approx(1, abs=0.016) for row in rows.values())
    assert rows["KV cache a token in BF16"].ratio == 1
    mfu = rows["MFU, attention causal"]
    assert mfu.published == 38.94
    assert mfu.ours == pytest.approx(38.94, abs=0.1)
    step = rows["time of a training step"]
    assert (round(step.ours, 3), step.published) == (19.926, 19.926)
    hours = rows["GPU-hours per 10^12 tokens"]
    assert hours.published == 180e3
    assert hours.ours == pytest.approx(180.18e3, rel=1e-4)


def test_check_prints_ours_the_published_figure_and_their_ratio() -> None:
    check = check_model("deepseek-v3")
    text = str(check)
    for expected in ("39.0217", "38.94", "1.0021", "19.926", "180,176", "70.272", "250.45", "671.026"):
        assert expected in text
    data = json.loads(json.dumps(check.to_dict()))
    assert data["rows"][0]["ratio"] == check.rows[0].ratio
    assert "<table" in check._repr_html_()


def test_check_of_dense_models_shows_where_a_published_figure_is_not_met() -> None:
    llama = {row.what: row.ratio for row in check_model("llama-3.1-405b").rows}
    assert llama["parameters"] == llama["KV cache a token in BF16"] == 1
    assert llama["training FLOPs a token at 4096"] == pytest.approx(1.01, abs=0.005)
    qwen = check_model("qwen2.5-72b").rows[1]
    assert qwen.ratio > 1.1
    assert "429 GFLOP before any attention" in qwen.how  # so 394 cannot be the whole


def test_check_refuses_a_model_of_which_nothing_is_published() -> None:
    mine = dataclasses.replace(get_model("llama-3.1-8b"), name="mine")
    with pytest.raises(ValueError, match="no published figures of mine are at hand; known: deepseek-v3"):
        check_model(mine)


def test_the_tables_hold_every_figure_with_its_unit() -> None:
    text = str(model_cost("deepseek-v3"))
    for expected in ("671.03 G", "673.15 GB", "1.34 TB", "250.45 G", "85.3 %", "1.743", "1.586", "0.5016"):
        assert expected in text
    for row in SPEEDUPS:
        assert row.setting in text
    assert "kernel launches" in text
    assert "250.45" not in str(model_cost("deepseek-v3", phase="prefill"))
    assert "wgrad" in model_cost("deepseek-v3").gemm_table().text(140)
    assert model_cost("deepseek-v3")._repr_html_().count("<table") == 4
    assert model_cost("deepseek-v3", "bf16")._repr_html_().count("<table") == 3


@pytest.mark.parametrize("phase", ["training", "prefill", "decode"])
@pytest.mark.parametrize(
    ("name", "recipe", "device"), [("qwen3-0.6b", "fp32", "mi300x"), ("deepseek-v3", "nvfp4", "v100")]
)
def test_figures_are_json_whatever_is_unknown(phase: str, name: str, recipe: str, device: str) -> None:
    cost = model_cost(name, recipe, phase=phase, device=device)  # type: ignore[arg-type]
    data = json.loads(json.dumps(cost.to_dict(), allow_nan=False))
    assert data["parameters"] == cost.inventory.parameters
    assert (data["roofline_s"] is None) == math.isnan(cost.seconds) == (recipe == "fp32")
    assert str(cost)


def test_the_picture_shows_the_halves_and_the_wholes() -> None:
    shares = {what: sum(parts.values()) for what, parts in bar_shares(model_cost("deepseek-v3")).items()}
    assert shares["weights"] == pytest.approx(0.5016, abs=1e-4)
    assert shares["FLOPs"] == shares["KV cache"] == 1
    assert "dispatch and combine" not in bar_shares(model_cost("llama-3.1-8b"))
    assert "time" not in bar_shares(model_cost("llama-3.1-8b", "fp32", device="mi300x"))
    pytest.importorskip("matplotlib", reason="needs the plot extra")
    figure = plot_model(model_cost("deepseek-v3"))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(shares)


def test_bad_arguments_get_one_clear_error() -> None:
    with pytest.raises(ValueError, match="unknown phase 'train'; did you mean 'training'"):
        model_cost("deepseek-v3", phase="train")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seq_len must be at least 1, got 0"):
        model_cost("deepseek-v3", seq_len=0)
    with pytest.raises(TypeError, match=r"batch must be a whole number, got 1\.5"):
        model_cost("deepseek-v3", batch=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="all-minilm-l6-v2 is an encoder, which does not decode"):
        model_cost("all-minilm-l6-v2", phase="decode")
    with pytest.raises(ValueError, match="unknown device 'h900'"):
        model_cost("deepseek-v3", device="h900")
    with pytest.raises(ValueError, match=r"share must be 0 to 1, got 1\.5"):
        amdahl(1.5, 2)
    with pytest.raises(ValueError, match="ratio must be positive, got 0"):
        amdahl(0.5, 0)


def test_one_model_takes_under_50_ms_and_a_thousand_under_5_s() -> None:
    def best(runs: int) -> float:
        times = []
        for run in range(runs):
            start = time.process_time()
            model_cost("deepseek-v3", seq_len=1000 + run).to_dict()
            times.append(time.process_time() - start)
        return min(times)

    assert best(5) < 0.05
    start = time.process_time()
    speedups = [
        model_cost("deepseek-v3", seq_len=seq_len, batch=batch, phase="decode", device=device).speedup
        for seq_len in range(1024, 26624, 1024)
        for batch in range(1, 11)
        for device in ("h100", "h800", "h200", "b200")
    ]
    assert len(speedups) == 1000
    assert time.process_time() - start < 5
