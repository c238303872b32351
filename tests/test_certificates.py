"""Certificates of conversions, against exact fractions, exhaustively over codes and spans of scales."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fp8sim
from fp8sim.checkpoints import open_checkpoint
from fp8sim.experiments.audit import certificates
from fp8sim.experiments.audit.certificates import certify
from fp8sim.quantization.recoding import RECODINGS, recode, values_of
from tensor_files import fp8, save

F32 = np.float32
E2M1 = np.float32([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
#: Every magnitude of E4M3 (OCP FP8, table 1): subnormals k 2^-9, then 8 a binade up to 448.
E4M3 = {Fraction(k, 512) for k in range(8)} | {
    Fraction(8 + k, 8) * Fraction(2) ** e for e in range(-6, 9) for k in range(8) if (e, k) != (8, 7)
}


def powers(exponents):
    return np.ldexp(1.0, np.asarray(exponents)).astype(F32)


@pytest.mark.parametrize("span", range(24))
def test_fp4_to_fp8_is_exact_up_to_a_span_of_2_14_for_every_code(span):
    codes = np.tile(E2M1, (2, 2))  # a group of all codes under the largest scale, and one under the smallest
    scales = powers([[0, -span], [-span, 0]])
    new = recode(codes, scales, 16, "fp8-128x128")
    np.testing.assert_array_equal(new.scales, 2.0**-6)
    before = codes * np.repeat(scales, 16, axis=1).astype(np.float64)
    same = values_of(new, "e4m3") == before
    for value, exact in zip(before.reshape(-1), same.reshape(-1), strict=True):
        assert exact == (Fraction(float(abs(value))) * 64 in E4M3)
    assert same.all() == (span <= 14)


@pytest.mark.parametrize("exponent", range(-127, 128))
def test_every_scale_there_is_gives_the_scale_that_deepseek_writes(exponent):
    new = recode(E2M1[None], powers([[exponent]]), 16, "fp8-128x128")
    assert new.scales[0, 0] == 2.0 ** max(exponent - 6, -127)
    if exponent - 6 >= -127:
        np.testing.assert_array_equal(new.codes.astype(F32)[0], E2M1 * 64)
        np.testing.assert_array_equal(np.signbit(new.codes.astype(F32)), np.signbit(E2M1[None]))


@pytest.mark.parametrize("span", range(24))
def test_mxfp4_to_nvfp4_keeps_codes_up_to_a_span_of_2_17(span):
    codes = np.tile(E2M1, (1, 4))
    scales = powers([[3, 3 - span]])
    new = recode(codes, scales, 32, "nvfp4")
    assert new.columns == 16
    assert new.above == 2.0**-5  # the largest scale is 2^8 times that
    multiples = new.scales / new.above
    np.testing.assert_array_equal(multiples.astype(ml_dtypes.float8_e4m3fn).astype(F32), multiples)
    same = values_of(new, "e2m1") == codes * np.repeat(scales, 32, axis=1)
    assert same.all() == (span <= 17)
    if span <= 17:
        np.testing.assert_array_equal(new.codes.astype(F32), codes)
    # one further down, codes are halved: what has a half among E2M1's values is exact
    if span == 18:
        exact = {abs(value) for value, ok in zip(codes[0, 32:], same[0, 32:], strict=True) if ok}
        assert exact == {0, 1, 2, 3, 4, 6}


@given(st.data())
def test_e8m0_scales_lose_nothing_where_they_are_powers_of_two(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    fmt = data.draw(st.sampled_from(RECODINGS["e8m0"].fmts))
    codes = fp8sim.round_to(rng.standard_normal((3, 24)).astype(F32) * 3, fmt)
    exponents = rng.integers(-20, 20, (3, 4))
    exact = recode(codes, powers(exponents), 6, "e8m0", fmt=fmt)
    np.testing.assert_array_equal(exact.codes.astype(F32), codes)
    np.testing.assert_array_equal(exact.scales, powers(exponents))
    odd = powers(exponents) * F32(1.25)
    new = recode(codes, odd, 6, "e8m0", fmt=fmt)
    np.testing.assert_array_equal(new.scales, powers(exponents + 1))
    want = fp8sim.round_to(
        codes * np.repeat(odd.astype(np.float64), 6, axis=1) / np.repeat(new.scales, 6, axis=1), fmt
    )
    np.testing.assert_array_equal(new.codes.astype(F32), want.astype(F32))


def mxfp4(folder, codes, exponents):
    """Write an MXFP4 weight of codes (0 to 15) and exponents of its scales."""
    codes = np.asarray(codes, np.uint8)
    scales = (np.asarray(exponents) + 127).astype(np.uint8).view(ml_dtypes.float8_e8m0fnu)
    save(
        folder / "m.safetensors",
        **{"q:weight_packed": codes[..., ::2] | codes[..., 1::2] << 4, "q:weight_scale": scales},
    )
    return open_checkpoint(folder)


def by_hand(codes, exponents, block):
    """Return changed elements and the first with the largest error, by fractions."""
    changed, worst = 0, (Fraction(0), None)
    for i, j in np.ndindex(codes.shape):
        r, c = i // block, j // block
        top = exponents[r * block : (r + 1) * block, c * block // 32 : (c + 1) * block // 32].max()
        value = Fraction(float(E2M1[codes[i, j]])) * Fraction(2) ** int(exponents[i, j // 32])
        scale = Fraction(2) ** int(top - 6)
        near = min(E4M3, key=lambda x: (abs(abs(value) / scale - x), x * 512 % 2))
        if near * scale != abs(value):
            changed += 1
            error = abs(near * scale - abs(value)) / abs(value)
            if error > worst[0]:
                worst = error, (i, j)
    return changed, worst


def test_a_certificate_names_the_worst_element_wherever_the_file_is_cut(tmp_path, rng, monkeypatch):
    codes = rng.integers(0, 16, (160, 256))
    exponents = np.zeros((160, 8), int)
    exponents[130, 2], exponents[140, 7] = -16, -15
    checkpoint = mxfp4(tmp_path, codes, exponents)
    found = certify(checkpoint, "q.weight", "fp8-128x128")
    near = slice(128, 160)  # the blocks above have one scale each
    changed, (error, place) = by_hand(codes[near], exponents[near], 128)
    assert (found.changed, found.worst.place) == (changed, (place[0] + 128, place[1]))
    assert found.worst.error == float(error)
    assert (found.span, found.lossless, found.elements) == (16, False, 160 * 256)
    monkeypatch.setattr(certificates, "_CHUNK", 1)
    again = certify(checkpoint, "q.weight", "fp8-128x128")
    assert again.error == pytest.approx(found.error, rel=1e-12)
    assert (again.changed, again.worst, again.span) == (found.changed, found.worst, found.span)
    text = str(found)
    assert f"{changed} of 40960 elements change" in text
    assert f"worst, at [{found.worst.place[0]}, {found.worst.place[1]}]" in text


@pytest.mark.parametrize("to", ["fp8-128x128", "nvfp4"])
def test_mxfp4_of_normal_weights_converts_without_loss(tmp_path, rng, to):
    w = (rng.standard_normal((256, 256)) * np.exp(rng.standard_normal((256, 1)))).astype(F32)
    q = fp8sim.quantize(w, "e2m1", "1x32", scale_format="e8m0")
    exponents = np.frexp(q.scales)[1] - 1
    found = certify(mxfp4(tmp_path, q.codes.view(np.uint8), exponents), "q.weight", to)
    assert found.lossless
    assert (found.worst, found.error, found.flushed, found.saturated) == (None, 0.0, 0, 0)
    assert "lossless" in str(found)


def test_matrices_of_a_stack_are_converted_each_for_itself(tmp_path, rng):
    codes = rng.integers(1, 8, (2, 40, 64))
    exponents = np.zeros((2, 40, 2), int)
    exponents[1] = -40  # of no block with others
    checkpoint = mxfp4(tmp_path, codes.reshape(2, 40, 64), exponents)
    assert certify(checkpoint, "q.weight", "fp8-128x128").lossless
    found = certify(checkpoint, "q.weight", "nvfp4")
    assert (found.changed, found.flushed, found.worst.place, found.worst.error) == (
        40 * 64,
        40 * 64,
        (1, 0, 0),
        1.0,
    )


def test_fp32_blocks_to_e8m0_are_lossless_only_for_powers_of_two(tmp_path, rng):
    codes = fp8(rng, 200, 300)
    for scales, lossless in ((powers([[1, 2, 3], [-9, 0, 9]]), True), (F32([[1, 2, 3], [4, 5, 6]]), False)):
        save(tmp_path / "m.safetensors", **{"q:weight": codes, "q:weight_scale_inv": scales})
        found = certify(open_checkpoint(tmp_path), "q.weight", "e8m0")
        assert found.lossless == lossless
    # three scales are no powers of two: only their blocks may change, by half a step of E4M3's 3 bits at most
    values = codes.astype(np.float64)
    assert 0 < found.changed < values.size / 2
    assert found.worst.place[0] < 128 or found.worst.place[1] >= 128
    assert found.saturated == 0


def test_what_a_conversion_is_not_for_is_refused(tmp_path, rng):
    save(
        tmp_path / "m.safetensors",
        **{
            "w": rng.standard_normal((4, 4)).astype(F32),
            "q:weight": fp8(rng, 4, 4),
            "q:weight_scale": F32([0.3]),
        },
    )
    checkpoint = open_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"converts codes of e2m1 with scales; q\.weight is e4m3 tensor"):
        certify(checkpoint, "q.weight", "fp8-128x128")
    with pytest.raises(ValueError, match="w is fp32 without scales; quantise its values"):
        certify(checkpoint, "w", "e8m0")
    with pytest.raises(ValueError, match="unknown conversion 'fp8'"):
        certify(checkpoint, "q.weight", "fp8")
    with pytest.raises(ValueError, match="nvfp4 is for scales that are powers of two, got 3"):
        recode(E2M1[None], F32([[3]]), 16, "nvfp4")
    with pytest.raises(ValueError, match="a scale is nan"):
        recode(E2M1[None], F32([[np.nan]]), 16, "e8m0")
