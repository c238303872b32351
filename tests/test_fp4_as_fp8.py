"""FP4 weights in FP8: the recipe `deepseek-v4` step by step, and its experts written as E4M3."""

from __future__ import annotations

import dataclasses
import math

import ml_dtypes
import numpy as np
import pytest

import fp8sim
from fp8sim.quantization import Quantized, Scaling, recast_fp4

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


# --- the published steps, in numpy alone ----------------------------------------------------------


def power_at_least(x: np.ndarray) -> np.ndarray:
    """Return the smallest power of two that is at least each number."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(1.0, exponent - (mantissa == 0.5))


def activations(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """act_quant with ue8m0: blocks of 128, the floor 1e-4, scale 2^ceil(log2(amax / 448)), x / scale."""
    codes, scales = np.zeros_like(x), np.zeros((len(x), -(-x.shape[1] // 128)))
    for block in range(scales.shape[1]):
        part = slice(128 * block, 128 * block + 128)
        amax = np.maximum(np.abs(x[:, part]).max(1), np.float32(1e-4))
        scales[:, block] = power_at_least(amax / np.float32(448))
        quotient = np.clip(x[:, part] / scales[:, block, None], -448, 448)
        codes[:, part] = quotient.astype(ml_dtypes.float8_e4m3fn).astype(np.float64)
    return codes, scales


def weights(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """fp4_act_quant: blocks of 32 along k, the floor 6 x 2^-126, scale 2^ceil(log2(amax / 6)), clamp at 6."""
    codes, scales = np.zeros_like(x), np.zeros((-(-len(x) // 32), x.shape[1]))
    for block in range(len(scales)):
        part = slice(32 * block, 32 * block + 32)
        amax = np.maximum(np.abs(x[part]).max(0), 6 * 2.0**-126)
        scales[block] = power_at_least(amax / np.float32(6))
        quotient = np.clip(x[part] / scales[block], -6, 6)
        codes[part] = quotient.astype(ml_dtypes.float4_e2m1fn).astype(np.float64)
    return codes, scales


def hopper_chain(a: np.ndarray, b: np.ndarray) -> float:
    """Add 32 products of E4M3 as Hopper does: cut below 2^(e - 13) of the largest exponent, to 13 bits."""
    pairs = [(float(x), float(y)) for x, y in zip(a, b, strict=True) if x and y]
    if not pairs:
        return 0.0
    exponent = [max(math.frexp(x)[1] - 1, -6) + max(math.frexp(y)[1] - 1, -6) for x, y in pairs]
    unit = 2.0 ** (max(exponent) - 13)
    total = sum(math.trunc(x * y / unit) for x, y in pairs) * unit
    if not total:
        return 0.0
    last = 2.0 ** (math.frexp(total)[1] - 1 - 13)
    return math.trunc(total / last) * last


def fp4_gemm(a: np.ndarray, b: np.ndarray, *, chain) -> np.ndarray:
    """Blocks of 32 of k: the codes multiplied and added, times both scales, into an FP32 sum."""
    (left, s_a), (right, s_b) = activations(a), weights(b)
    sums = np.zeros((len(a), b.shape[1]), np.float32)
    for block, start in enumerate(range(0, a.shape[1], 32)):
        part = slice(start, start + 32)
        for i in range(len(a)):
            for j in range(b.shape[1]):
                scale = s_a[i, start // 128] * s_b[block, j]  # of powers of two: exact
                sums[i, j] = np.float32(float(sums[i, j]) + chain(left[i, part], right[part, j]) * scale)
    return sums


@pytest.mark.parametrize("k", [32, 128, 256, 300, 33])
@pytest.mark.parametrize("spread", [0, 3])
def test_the_recipe_is_the_published_loop_on_hoppers_core(k, spread, rng):
    a = (rng.standard_normal((5, k)) * 2.0 ** rng.normal(0, spread, (5, 1))).astype(np.float32)
    b = (rng.standard_normal((k, 4)) * 2.0 ** rng.normal(0, spread, (1, 4))).astype(np.float32)
    expected = fp4_gemm(a.astype(np.float64), b.astype(np.float64), chain=hopper_chain)
    np.testing.assert_array_equal(fp8sim.matmul(a, b, "deepseek-v4"), expected)
    plain = fp4_gemm(a.astype(np.float64), b.astype(np.float64), chain=np.dot)
    assert k == 32 or not np.array_equal(plain, expected)  # 13 bits are not FP32


def test_where_13_bits_hold_every_chain_the_order_of_sums_is_no_matter(rng):
    a = rng.integers(-8, 9, (16, 512)) * 2.0 ** rng.integers(-3, 4, (16, 1))
    b = rng.choice([-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0], (512, 12)) * 2.0 ** rng.integers(-3, 4, (1, 12))
    a[:, ::32] = 8 * 2.0**4  # of each block the largest, so that scales are the same
    expected = fp4_gemm(a, b, chain=np.dot)
    np.testing.assert_array_equal(fp8sim.matmul(a, b, "deepseek-v4"), expected)
    assert np.abs(expected).max() > 0


# --- FP4 written as FP8 ---------------------------------------------------------------------------


def block(codes: np.ndarray, exponents: np.ndarray) -> Quantized:
    """Return E2M1 codes under the scales of their groups of 32."""
    scales = np.ldexp(np.float32(1), exponents)
    return Quantized(
        codes.astype(ml_dtypes.float4_e2m1fn),
        scales,
        fp8sim.get_format("e2m1"),
        Scaling("1x32", "e8m0"),
        1,
        scales.astype(ml_dtypes.float8_e8m0fnu),
        np.float32(1),
        0,
        0,
    )


@pytest.mark.parametrize("top", [0, 40, 124, -101])
@pytest.mark.parametrize("span", range(26))
def test_fp4_comes_through_exactly_up_to_spans_of_2_14(span, top):
    """Every code under every smaller scale, beside the largest code under the largest."""
    if top - span < -127:
        pytest.skip("no such scale")
    codes = np.zeros((2, 128))
    codes[0, :32], codes[0, 32:48] = 6, np.concatenate([E2M1, -E2M1])
    codes[1] = -codes[0]
    x = block(codes, np.array([[top, top - span, top, top]] * 2))
    recast = recast_fp4(x)
    got, want = (one.dequantize().astype(np.float64) for one in (recast.quantized, x))
    assert recast.span == span
    assert recast.quantized.scales.shape == (1, 1)
    assert float(recast.quantized.scales[0, 0]) == 2.0 ** max(top - 6, -127)
    assert recast.changed == int((got != want).sum())
    assert (recast.changed == 0) == (span <= 14)
    assert not np.signbit(got[want == 0]).any()
    # what changed is what E4M3 rounds: multiples of 2^-9 below 2^-6, and 0 below half of that
    exact = want / 2.0 ** max(top - 6, -127)
    np.testing.assert_array_equal(got / 2.0 ** max(top - 6, -127), exact.astype(ml_dtypes.float8_e4m3fn))


def test_blocks_are_apart_and_edges_are_ragged(rng):
    w = (rng.standard_normal((300, 200)) * 2.0 ** rng.integers(-6, 6, (300, 1))).astype(np.float32)
    for axis in (0, 1):
        x = fp8sim.quantize(w, "e2m1", "1x32", axis=axis, scale_format="e8m0")
        recast = recast_fp4(x)
        assert recast.span <= 14
        assert recast.changed == 0
        assert recast.quantized.scales.shape == (3, 2)
        np.testing.assert_array_equal(recast.quantized.dequantize(), x.dequantize() + 0.0)
        assert recast.quantized.axis == axis


@pytest.mark.parametrize("how", [("e4m3", "1x32", "e8m0"), ("e2m1", "1x16", "e4m3"), ("e2m1", "row", "e8m0")])
def test_what_is_no_such_array_is_refused(how, rng):
    x = fp8sim.quantize(rng.standard_normal((32, 64)), how[0], how[1], scale_format=how[2])
    with pytest.raises(ValueError, match="x must be a matrix of e2m1 codes in blocks of 1x32"):
        recast_fp4(x)
    with pytest.raises(TypeError, match="x must be a Quantized, got 3"):
        recast_fp4(3)  # type: ignore[arg-type]
    whole = dataclasses.replace(x, saturated=1)
    assert whole.saturated == 1
