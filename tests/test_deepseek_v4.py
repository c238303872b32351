"""The recipe `deepseek-v4`: FP8 activations by FP4 weights, step by step."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

import fp8sim

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
