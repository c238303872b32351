"""Attention over a quantised cache: exact where it is to be, and each part held to an independent computation."""

from __future__ import annotations

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fp8sim
from fp8sim.experiments.data import attention_tensors
from fp8sim.experiments.kv_cache import CACHE_FORMATS
from fp8sim.metrics import relative_error
from fp8sim.quantization import Operand, Scaling
from readable import readable

EXACT = {"kv": None, "accumulator": "float64"}
TENSOR = Operand("e4m3", Scaling("tensor"))


def plain(q, k, v, *, causal=False, scale=None):
    """Attention as a textbook has it, in float64: logits and output."""
    heads, queries, channels = q.shape
    keys, logits, outputs = k.shape[1], [], []
    for head in range(heads):
        of = head // (heads // len(k))
        s = q[head].astype(np.float64) @ k[of].astype(np.float64).T
        s = s * (1 / np.sqrt(channels) if scale is None else scale)
        if causal:
            s[np.triu(np.ones((queries, keys), bool), keys - queries + 1)] = -np.inf
        p = np.exp(s - s.max(axis=1, keepdims=True))
        logits.append(s)
        outputs.append(p @ v[of].astype(np.float64) / p.sum(axis=1, keepdims=True))
    return np.array(logits), np.array(outputs)


def dyadic(rng, shape):
    """Multiples of 1/16, whose products sum exactly in any order."""
    return (rng.integers(-48, 48, shape) / 16).astype(np.float32)


@pytest.fixture(scope="module")
def outliers():
    x = attention_tensors(8, 2, 32, 512, 128, outlier=300)
    halves = x.k[:, :256], x.v[:, :256], x.k[:, 256:], x.v[:, 256:]
    return x.q, *halves


# --- exact ----------------------------------------------------------------------------------------


@given(
    group=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    queries=st.integers(1, 7),
    more=st.integers(0, 9),
    channels=st.integers(1, 40),
    wide=st.integers(1, 9),
    causal=st.booleans(),
    block=st.sampled_from([None, 1, 3, 100]),
    seed=st.integers(0, 99),
)
def test_in_float64_it_is_plain_attention(
    group, kv_heads, queries, more, channels, wide, causal, block, seed
):
    rng = np.random.default_rng(seed)
    keys = queries + more
    q = dyadic(rng, (group * kv_heads, queries, channels))
    k, v = dyadic(rng, (kv_heads, keys, channels)), rng.standard_normal((kv_heads, keys, wide))
    result = fp8sim.attention(q, k, v, causal=causal, block=block, **EXACT)
    logits, output = plain(q, k, v, causal=causal)
    np.testing.assert_array_equal(result.exact_logits, logits)
    np.testing.assert_array_equal(result.logits, logits)
    size = np.abs(v).max()
    np.testing.assert_allclose(result.exact_output, output, rtol=1e-15, atol=1e-15 * size)
    np.testing.assert_allclose(result.output, output, rtol=4e-15, atol=4e-15 * size)
    assert result["logits"].relative_error == 0
    assert result["output"].relative_error < 1e-14


def test_large_ones_too(rng):
    q, k, v = (rng.standard_normal((2, 130, 96)) for _ in range(3))
    logits, output = plain(q, k, v, scale=0.2)
    result = fp8sim.attention(q, k, v, softmax_scale=0.2, **EXACT)
    assert relative_error(result.logits, logits) < 1e-15
    assert relative_error(result.output, output) < 1e-15


def test_heads_share_a_head_of_k_and_v_one_after_the_other(rng):
    q, k, v = (rng.standard_normal((n, 5, 16)) for n in (6, 2, 2))
    shared = fp8sim.attention(q, k, v, scales="dynamic", granularity="head")
    apart = fp8sim.attention(
        q, np.repeat(k, 3, axis=0), np.repeat(v, 3, axis=0), scales="dynamic", granularity="head"
    )
    np.testing.assert_array_equal(shared.output, apart.output)
    assert 3 * (shared["k"].nbytes) == apart["k"].nbytes


def test_it_knows_who_is_wrong():
    """The reference can fail: heads the other way round are no grouped-query attention."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((n, 5, 16)) for n in (4, 2, 2))
    result = fp8sim.attention(q, k, v, **EXACT)
    assert relative_error(result.output, plain(q, k[::-1], v[::-1])[1]) > 0.1


# --- what is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["e4m3", "e5m2"])
def test_unity_scales_are_a_saturating_cast(name, rng):
    dtype = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}[name]
    q = dyadic(rng, (2, 3, 32))
    k, v = (rng.standard_normal((1, 9, 32)) * 10.0 ** rng.integers(-4, 4, (1, 9, 32)) for _ in range(2))
    largest = float(ml_dtypes.finfo(dtype).max)
    cast = [np.clip(x, -largest, largest).astype(dtype).astype(np.float64) for x in (k, v)]
    result = fp8sim.attention(q, k, v, kv=name, scales="unity", accumulator="float64")
    logits, output = plain(q, *cast)
    np.testing.assert_array_equal(result.logits, logits)
    np.testing.assert_allclose(result.output, output, rtol=1e-14, atol=1e-12)
    assert result["k"].saturated == np.mean(np.abs(k) > largest * (1 + 2.0**-4))
    assert result["k"].flushed == np.mean((cast[0] == 0) & (k != 0))
    assert result["k"].error == relative_error(cast[0], k)


@pytest.mark.parametrize(
    ("scales", "granularity"),
    [
        ("dynamic", "tensor"),
        ("dynamic", "head"),
        ("dynamic", "token"),
        ("calibrated", "tensor"),
        ("calibrated", "head"),
    ],
)
def test_scales_are_of_whom_they_are_said_to_be(scales, granularity, rng):
    q, v = dyadic(rng, (2, 3, 32)), dyadic(rng, (2, 9, 32))
    k = rng.standard_normal((2, 9, 32)) * np.exp(rng.standard_normal((2, 9, 1)))
    other = rng.standard_normal((2, 5, 32))
    of = other if scales == "calibrated" else k
    axes = {"tensor": None, "head": (1, 2), "token": 2}[granularity]
    scale = np.float32(np.abs(of).max(axis=axes, keepdims=True) / 448).astype(np.float64)
    cast = np.clip(k / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale
    known = (other, other) if scales == "calibrated" else None
    result = fp8sim.attention(
        q, k, v, scales=scales, granularity=granularity, calibration=known, accumulator="float64"
    )
    np.testing.assert_allclose(result.logits, plain(q, cast, v)[0], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "bits", "least"),
    [
        ("bf16", 16, 0.001),
        ("mxfp8", 8.25, 0.02),
        ("int8", 8, 0.008),
        ("mxfp4", 4.25, 0.09),
        ("nvfp4", 4.5, 0.08),
    ],
)
def test_formats_take_their_bytes_and_err_as_their_bits_do(name, bits, least):
    x = attention_tensors(4, 2, 8, 64, 128)
    result = fp8sim.attention(x.q, x.k, x.v, kv=name)
    assert result["v"].nbytes == pytest.approx(bits / 8 * x.v.size, abs=4)
    assert least < result["v"].error < 2 * least


def test_wider_formats_err_less(outliers):
    q, _, _, k, v = outliers
    errors = [
        fp8sim.attention(q, k, v, kv=kv)["output"].relative_error
        for kv in (None, "fp16", "bf16", "mxfp8", "mxfp4")
    ]
    assert errors == sorted(errors)
    assert errors[0] < 1e-5


# --- what it shows --------------------------------------------------------------------------------


def test_calibrated_scales_recover_what_unity_scales_lose_in_outlier_channels(outliers):
    q, known_k, known_v, k, v = outliers
    unity = fp8sim.attention(q, k, v)
    tensor = fp8sim.attention(q, k, v, calibration=(known_k, known_v))
    head = fp8sim.attention(q, k, v, calibration=(known_k, known_v), granularity="head")
    assert unity["k"].saturated > 5e-4
    assert max(tensor["k"].saturated, head["k"].saturated) < 1e-4
    for what in ("logits", "weights", "output"):
        for calibrated in (tensor, head):
            assert unity[what].relative_error > 3 * calibrated[what].relative_error


def test_without_outliers_unity_scales_lose_nothing():
    x = attention_tensors(8, 2, 32, 256, 128)
    unity, dynamic = (
        fp8sim.attention(x.q, x.k, x.v, scales=scales)["output"].relative_error
        for scales in ("unity", "dynamic")
    )
    assert unity == pytest.approx(dynamic, rel=0.1)


def test_small_values_vanish_under_unity_scales():
    x = attention_tensors(8, 2, 32, 256, 128)
    v = x.v * np.float32(0.002)
    unity, dynamic = (fp8sim.attention(x.q, x.k, v, scales=scales) for scales in ("unity", "dynamic"))
    # what is below half of the smallest subnormal, 2^-10, is none: |x| < 0.488 of normal numbers
    assert unity["v"].flushed == pytest.approx(0.3746, abs=0.01)
    assert dynamic["v"].flushed < 0.001
    assert unity["output"].relative_error > 5 * dynamic["output"].relative_error


def test_a_hadamard_transform_of_q_and_k_cancels_and_spreads_outliers(outliers):
    q, _, _, k, v = outliers
    turned = dataclasses.replace(TENSOR, hadamard=128)
    wide = dataclasses.replace(turned, fmt="fp32", scaling=Scaling("none"))
    same = fp8sim.attention(q, k, v, kv=(wide, None), q_format=wide)
    assert same["logits"].relative_error < 1e-5
    int8 = Operand("int8", Scaling("tensor"))
    as_is, spread = (
        fp8sim.attention(q, k, v, kv=(one, None), q_format=one)["logits"].relative_error
        for one in (int8, dataclasses.replace(int8, hadamard=128))
    )
    assert spread < as_is / 2


# --- products, softmax and P ----------------------------------------------------------------------


def test_in_fp32_each_step_is_rounded_once(rng):
    """Products whose sums are exact: what is left is the softmax, here in a plain loop."""
    q, k, v = dyadic(rng, (1, 4, 16)), dyadic(rng, (1, 10, 16)), dyadic(rng, (1, 10, 3))
    result = fp8sim.attention(q, k, v, kv=None, accumulator="exact", block=4)
    f32 = np.float32
    for i in range(4):
        s = [f32(f32(q[0, i] @ k[0, j]) * f32(0.25)) for j in range(10)]
        top, total, mix = -np.inf, f32(0), np.zeros(3, f32)
        for start, stop in ((8, 10), (4, 8), (0, 4)):
            above, top = top, max(top, *map(float, s[start:stop]))
            p = [f32(np.exp(float(s[j]) - top)) for j in range(start, stop)]
            faded = f32(np.exp(above - top))
            total = f32(float(total) * float(faded) + np.sum(p, dtype=np.float64))
            added = [fp8sim.accumulators.exact_dot(np.array(p), v[0, start:stop, c]) for c in range(3)]
            mix = mix * faded + np.array(added, f32)
        np.testing.assert_array_equal(result.logits[0, i], s)
        np.testing.assert_array_equal(result.output[0, i], mix / total)


def test_on_tensor_cores_products_are_those_of_matmul(rng):
    q, k, v = (rng.standard_normal((2, n, 64)).astype(np.float32) for n in (7, 40, 40))
    result = fp8sim.attention(
        q, k, v, kv="fp8", q_format="fp8", p_format="fp8", scales="dynamic", granularity="head",
        accumulator="hopper-fp8",
    )  # fmt: skip
    recipe = fp8sim.Recipe("per head", TENSOR, TENSOR, "hopper-fp8")
    unit = Operand("e4m3", Scaling("tensor", amax=448 / 256))  # a scale of 1/256
    mixing = fp8sim.Recipe("p v", unit, TENSOR, "hopper-fp8")
    for head in range(2):
        logits = fp8sim.matmul(q[head], k[head].T, recipe) * np.float32(1 / 8)
        np.testing.assert_array_equal(result.logits[head], logits)
        top = logits.max(axis=1, keepdims=True).astype(np.float64)
        p = np.exp(logits - top).astype(np.float32)
        total = p.sum(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
        np.testing.assert_array_equal(result.output[head], fp8sim.matmul(p, v[head], mixing) / total)


@pytest.mark.parametrize(("name", "times"), [("e4m3", 256), ("fp8", 256), ("e5m2", 32768), ("int8", 127)])
def test_p_is_stored_times_the_largest_power_of_two(name, times):
    x = attention_tensors(2, 1, 4, 32, 32)
    result = fp8sim.attention(x.q, x.k, x.v, kv=None, p_format=name)
    assert result["p"].stored == f"{'e4m3' if name == 'fp8' else name} of {times} p"
    assert result["p"].saturated == 0
    assert result["logits"].relative_error < 1e-6
    assert 0.001 < result["output"].relative_error < 0.1


def test_blocks_from_the_last_keep_what_vanishes_beside_a_sink(rng):
    """P-collapse (arXiv 2606.06521): the first tokens draw most of the attention."""
    q, k, v = (rng.standard_normal((2, 256, 64)).astype(np.float32) for _ in range(3))
    q[..., 0], k[..., 0], k[:, :4, 0] = 8, 0, 6
    times_one = Operand("e4m3", Scaling("tensor", amax=448.0))
    flushed = {
        (name, block): fp8sim.attention(q, k, v, kv=None, p_format=one, block=block)["p"].flushed
        for name, one in (("1", times_one), ("256", "fp8"))
        for block in (None, 64)
    }
    assert flushed["1", None] > 2 * flushed["1", 64] > 0.02
    assert flushed["256", None] < 0.001


def test_blocks_hardly_matter_where_p_is_not_rounded(outliers):
    q, _, _, k, v = outliers
    whole, blocks = (fp8sim.attention(q, k, v, block=block, causal=True).output for block in (None, 50))
    assert 0 < relative_error(blocks, whole) < 1e-6


@pytest.mark.parametrize("kv", ["int8", "nvfp4"])
def test_scales_of_tokens_go_with_their_tokens_into_every_block(kv):
    x = attention_tensors(4, 2, 9, 70, 64, outlier=30)
    options = {"kv": kv, "block": 16, "causal": True} | ({"granularity": "token"} if kv == "int8" else {})
    codes, values = (fp8sim.attention(x.q, x.k, x.v, accumulator=a, **options) for a in ("exact", "float64"))
    visible = np.isfinite(values.logits)
    np.testing.assert_allclose(codes.logits[visible], values.logits[visible], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(codes.output, values.output, rtol=1e-5, atol=1e-5)
    assert values["logits"].relative_error == pytest.approx(
        relative_error(values.logits[visible], values.exact_logits[visible]), rel=1e-12
    )
    assert values["output"].relative_error == relative_error(values.output, values.exact_output)


@pytest.mark.parametrize(
    "options",
    [
        {"kv": "fp8", "block": 16, "causal": True},
        {"kv": "nvfp4", "p_format": "nvfp4"},
        {"kv": "int8", "granularity": "token", "accumulator": "exact"},
        {"kv": "fp8", "q_format": "e5m2", "p_format": "fp8", "accumulator": "hopper-fp8/32"},
    ],
    ids=str,
)
def test_readable_and_compiled_give_the_same(options):
    x = attention_tensors(4, 2, 9, 70, 64, outlier=300)
    compiled = fp8sim.attention(x.q, x.k, x.v, **options)
    slow = readable(fp8sim.attention, x.q, x.k, x.v, **options)
    for name in ("output", "logits", "exact_output", "exact_logits"):
        np.testing.assert_array_equal(getattr(slow, name), getattr(compiled, name))
    assert slow.to_dict() == compiled.to_dict()


# --- results and refusals -------------------------------------------------------------------------


def test_a_result_prints_within_80_columns_and_is_plain_data():
    x = attention_tensors(32, 8, 16, 128, 128)
    for kv in ("fp8", *CACHE_FORMATS):
        result = fp8sim.attention(x.q, x.k, x.v, kv=kv, q_format="bf16", p_format="fp8", causal=True)
        assert max(map(len, "\n".join(part.text(80) for part in result.parts()).splitlines())) <= 80
    assert "32 heads on 8, 16 queries, 128 keys, causal; sums: fp32" in repr(result)
    assert json.loads(json.dumps(result.to_dict()))["errors"][2]["what"] == "output"
    with pytest.raises(ValueError, match="unknown row of this attention 'logit'; did you mean 'logits'"):
        result["logit"]


def test_nothing_given_is_changed_and_any_layout_is_taken(rng):
    q, k, v = (rng.standard_normal((16, 5, 4)).transpose(2, 1, 0) for _ in range(3))
    before = [x.copy() for x in (q, k, v)]
    first = fp8sim.attention(q, k, v, calibration=(k, v), block=2)
    second = fp8sim.attention(*before, calibration=before[1:], block=2)
    np.testing.assert_array_equal(first.output, second.output)
    for x, y in zip((q, k, v), before, strict=True):
        np.testing.assert_array_equal(x, y)


def test_keys_that_are_all_zero_have_an_even_softmax():
    x = attention_tensors(2, 1, 3, 8, 16)
    result = fp8sim.attention(x.q, 0 * x.k, x.v, kv="nvfp4")
    assert result["logits"].relative_error == 0
    np.testing.assert_allclose(result.exact_output[0, 0], x.v[0].mean(axis=0, dtype=np.float64), atol=1e-15)


GOOD = attention_tensors(4, 2, 3, 8, 16)
TURNED = dataclasses.replace(TENSOR, hadamard=16)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"q": GOOD.q[0]}, ValueError, r"q must have 3 axes .* got shape \(3, 16\); of one head pass q\[None\]"),
        ({"q": GOOD.q[:3]}, ValueError, "3 query heads cannot share 2 heads of k and v; pass a multiple of 2"),
        ({"k": GOOD.k[..., :8]}, ValueError, "q has 16 channels and k has 8"),
        ({"v": GOOD.v[:, :4]}, ValueError, "k and v must have the same heads and tokens"),
        ({"v": GOOD.v[..., :0]}, ValueError, r"v of shape \(2, 8, 0\) holds nothing"),
        ({"k": GOOD.k * np.nan}, ValueError, "k holds 256 NaN or infinite values"),
        ({"q": GOOD.q * np.inf}, ValueError, "q holds 192 NaN or infinite values"),
        ({"q": GOOD.q * 1j}, TypeError, "q has dtype complex64"),
        ({"q": GOOD.q * 1e30, "k": GOOD.k * 1e30, "kv": None}, ValueError, "sums in float32 overflow"),
        ({"kv": "fp9"}, ValueError, "unknown format 'fp9'.*a cache also takes fp8, mxfp8, mxfp4, nvfp4"),
        ({"kv": "e8m0"}, ValueError, "e8m0 has no zero"),
        ({"kv": ("fp8",) * 3}, ValueError, "kv must be one format or a pair"),
        ({"kv": Operand("e4m3", Scaling("128x128"))}, ValueError, "would share scales among tokens"),
        ({"kv": TENSOR, "scales": "unity"}, ValueError, "has scales of its own"),
        ({"kv": "nvfp4", "granularity": "head"}, ValueError, "k in 'nvfp4' has scales of its own"),
        ({"kv": "bf16", "scales": "dynamic"}, ValueError, "k in 'bf16' is stored without scales"),
        ({"kv": TURNED}, ValueError, "Hadamard transforms of Q and K must be the same"),
        ({"scales": "static"}, ValueError, "unknown scales 'static'"),
        ({"granularity": "row"}, ValueError, "unknown granularity 'row'; known: tensor, head, token"),
        ({"scales": "calibrated"}, ValueError, r"pass calibration=\(k, v\) of other tokens"),
        ({"calibration": (GOOD.k, GOOD.v), "granularity": "token"}, ValueError, "tokens to come"),
        ({"calibration": GOOD.k}, TypeError, r"calibration must be a pair \(k, v\)"),
        ({"calibration": (GOOD.k[:1], GOOD.v)}, ValueError, "k of the calibration has shape"),
        ({"calibration": (GOOD.k, GOOD.v), "kv": "bf16"}, ValueError, "nothing here is calibrated"),
        ({"calibration": (GOOD.k, GOOD.v), "scales": "unity"}, ValueError, "nothing here is calibrated"),
        ({"accumulator": "fp99"}, ValueError, "unknown accumulator 'fp99'"),
        ({"accumulator": "hopper-fp8"}, ValueError, "multiplies codes, and q, p would stay as given"),
        (
            {"accumulator": "hopper-fp8", "q_format": "fp8", "p_format": "fp8", "granularity": "token"},
            ValueError,
            "the scales of v change from key to key",
        ),
        ({"causal": 1}, TypeError, "causal must be True or False"),
        ({"causal": True, "k": GOOD.k[:, :2], "v": GOOD.v[:, :2]}, ValueError, "3 queries needs as many keys"),
        ({"softmax_scale": np.inf}, ValueError, "softmax_scale must be at most"),
        ({"softmax_scale": "1"}, TypeError, "softmax_scale must be a number"),
        ({"block": 0}, ValueError, "block must be at least 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(changes, error, words):
    arguments = {"q": GOOD.q, "k": GOOD.k, "v": GOOD.v} | changes
    with pytest.raises(error, match=words):
        fp8sim.attention(**arguments)


def test_what_takes_more_memory_than_there_is_is_refused_before_it_is_begun():
    many = np.broadcast_to(np.float32(1), (1, 10**6, 1))
    with pytest.raises(ValueError, match=r"1000000 queries and 1000000 keys takes 96.00 TB of memory"):
        fp8sim.attention(many, many, many)


# --- generated tensors ----------------------------------------------------------------------------


def test_outlier_channels_are_in_k_alone_and_the_same_for_all_tokens():
    x = attention_tensors(8, 2, 64, 512, 256, outlier=100, seed=3)
    large = [fp8sim.metrics.outlier_channels(head, limit=10) for head in x.k]
    assert [int(channels.sum()) for channels in large] == [2, 2]
    assert not any(fp8sim.metrics.outlier_channels(head, limit=2).any() for head in x.v)
    small = np.sqrt(np.mean(x.q**2, axis=1)) < 0.5
    assert [np.flatnonzero(one).tolist() for one in small] == [
        np.flatnonzero(large[head // 4]).tolist() for head in range(8)
    ]
    again = attention_tensors(8, 2, 64, 512, 256, outlier=100, seed=3)
    np.testing.assert_array_equal(x.k, again.k)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 3}, "multiple of kv_heads=2"),
        ({"outlier": 0.5}, "outlier"),
        ({"keys": 0}, "keys"),
        ({"seed": -1}, "seed"),
    ],
)
def test_sizes_that_make_no_layer_are_refused(change, words):
    sizes = {"heads": 4, "kv_heads": 2, "queries": 1, "keys": 4, "head_dim": 8} | change
    with pytest.raises(ValueError, match=words):
        attention_tensors(**sizes)
    with pytest.raises(ValueError, match="memory"):
        attention_tensors(1, 1, 1, 2**40, 2**10)
