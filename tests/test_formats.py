"""Formats: limits against their specifications, codes against an independent reading."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fp8sim
import oracle
import strategies
from fp8sim import FORMATS, FloatFormat, get_format
from oracle import LAYOUTS, NATIVE

E4M3 = get_format("e4m3")

# bits, largest, smallest normal, smallest positive, eps. OFP8 v1.0 table 1 (e4m3, e5m2); Noune et al.,
# arXiv 2206.02915 (fnuz); MX v1.0 tables (6 and 4 bits, e8m0); IEEE 754-2019 table 3.5 (fp32, fp16);
# the rest follows from the widths of an IEEE-like format.
LIMITS = {
    "fp32": (32, (2 - 2**-23) * 2.0**127, 2.0**-126, 2.0**-149, 2**-23),
    "tf32": (19, (2 - 2**-10) * 2.0**127, 2.0**-126, 2.0**-136, 2**-10),
    "bf16": (16, (2 - 2**-7) * 2.0**127, 2.0**-126, 2.0**-133, 2**-7),
    "fp16": (16, 65504.0, 2.0**-14, 2.0**-24, 2**-10),
    "e4m3": (8, 448.0, 2.0**-6, 2.0**-9, 2**-3),
    "e5m2": (8, 57344.0, 2.0**-14, 2.0**-16, 2**-2),
    "e4m3fnuz": (8, 240.0, 2.0**-7, 2.0**-10, 2**-3),
    "e5m2fnuz": (8, 57344.0, 2.0**-15, 2.0**-17, 2**-2),
    "e3m4": (8, 15.5, 2.0**-2, 2.0**-6, 2**-4),
    "e5m6": (12, 65024.0, 2.0**-14, 2.0**-20, 2**-6),
    "e2m3": (6, 7.5, 1.0, 0.125, 2**-3),
    "e3m2": (6, 28.0, 0.25, 0.0625, 2**-2),
    "e2m1": (4, 6.0, 1.0, 0.5, 2**-1),
    "e8m0": (8, 2.0**127, 2.0**-127, 2.0**-127, 1.0),
    "e4m3-ieee": (8, 240.0, 2.0**-6, 2.0**-9, 2**-3),
    "e4m3b11fnuz": (8, 30.0, 2.0**-10, 2.0**-13, 2**-3),
}


def test_every_format_has_limits_and_an_independent_description_here():
    assert set(FORMATS) == set(LIMITS) == set(LAYOUTS)


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_those_of_the_specification(name):
    fmt = FORMATS[name]
    limits = (fmt.bits, fmt.max, fmt.smallest_normal, fmt.smallest_subnormal, fmt.eps)
    assert limits == LIMITS[name]
    assert fmt.name == str(fmt) == name
    assert fmt.has_nan is LAYOUTS[name].has_nan
    assert fmt.has_inf is LAYOUTS[name].has_inf


@pytest.mark.parametrize("name", NATIVE)
def test_limits_are_those_of_ml_dtypes(name):
    fmt, info = FORMATS[name], ml_dtypes.finfo(NATIVE[name])
    assert fmt.dtype == np.dtype(NATIVE[name])
    assert fmt.max == float(info.max)
    assert fmt.smallest_normal == float(info.smallest_normal)
    assert fmt.smallest_subnormal == float(info.smallest_subnormal)
    assert fmt.eps == float(info.eps)


@pytest.mark.parametrize("name", ["tf32", "e5m6"])
def test_formats_without_a_numpy_type_have_unsigned_codes(name):
    assert FORMATS[name].dtype == {"tf32": np.uint32, "e5m6": np.uint16}[name]


# ONNX float8.md: E4M3 has two NaNs, E5M2 six and two infinities; MX v1.0: E8M0 has one NaN.
@pytest.mark.parametrize(
    ("name", "finite", "distinct"),
    [("e4m3", 254, 253), ("e5m2", 248, 247), ("e4m3fnuz", 255, 255), ("e8m0", 255, 255), ("e2m1", 16, 15)],
)
def test_count_of_finite_codes_and_values(name, finite, distinct):
    values = fp8sim.decode(np.arange(2 ** FORMATS[name].bits, dtype=np.uint8), name)
    values = values[np.isfinite(values)]
    assert (len(values), len(np.unique(values))) == (finite, distinct)


def test_e2m1_values_are_those_of_the_specification():
    values = fp8sim.decode(np.arange(16, dtype=np.uint8), "e2m1")
    positive = np.float32([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    oracle.assert_same(values, np.concatenate([positive, -positive]))


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "fp32"])
def test_every_code_decodes_to_its_value(name):
    layout = LAYOUTS[name]
    codes = np.arange(2**layout.bits, dtype=np.uint32)
    codes = codes[:: 1 if layout.bits <= 16 else 13]
    values = fp8sim.decode(codes, name)
    assert values.dtype == np.float32
    oracle.assert_same(values, np.array([oracle.decode(int(code), layout) for code in codes]))


@pytest.mark.parametrize("name", NATIVE)
def test_codes_decode_as_ml_dtypes_decodes_them(name, rng):
    fmt = FORMATS[name]
    if fmt.bits <= 16:
        bits = np.arange(2**fmt.bits, dtype=fmt.code_dtype)
    else:
        bits = rng.integers(0, 2**32, 100_000, dtype=np.uint32)
    codes = bits.view(NATIVE[name])
    with np.errstate(invalid="ignore"):
        expected = codes.astype(np.float32)
    oracle.assert_same(fp8sim.decode(bits, name), expected)
    oracle.assert_same(fp8sim.decode(codes, NATIVE[name]), expected)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "fp32"])
def test_encode_gives_every_code_back(name):
    fmt = FORMATS[name]
    bits = np.arange(2**fmt.bits, dtype=fmt.code_dtype)
    values = fp8sim.decode(bits, name)
    bits = bits[~np.isnan(values)]
    codes = fp8sim.encode(values[~np.isnan(values)], name, overflow="ieee")
    assert codes.dtype == fmt.dtype
    np.testing.assert_array_equal(codes.view(fmt.code_dtype), bits)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("fp32", 0x7FC00000),
        ("tf32", 0x3FE00),
        ("bf16", 0x7FC0),
        ("fp16", 0x7E00),
        ("e5m6", 0x7E0),
        ("e4m3", 0x7F),
        ("e5m2", 0x7E),
        ("e3m4", 0x78),
    ],
)
def test_nan_becomes_the_quiet_nan_of_its_sign(name, code):
    fmt = FORMATS[name]
    bits = fp8sim.encode(np.array([np.nan, np.copysign(np.nan, -1)]), name).view(fmt.code_dtype)
    assert bits.tolist() == [code, code | 1 << (fmt.bits - 1)]


@pytest.mark.parametrize(("name", "code"), [("e4m3fnuz", 0x80), ("e5m2fnuz", 0x80), ("e8m0", 0xFF)])
def test_nan_becomes_the_only_nan_there_is(name, code):
    bits = fp8sim.encode(np.array([np.nan, np.copysign(np.nan, -1)]), name).view(np.uint8)
    assert bits.tolist() == [code, code]


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@given(data=st.data())
def test_a_user_format_follows_from_its_fields(signed, data):
    fmt, layout = data.draw(strategies.user_formats(signed))
    values = oracle.grid(layout).values
    positive = values[values > 0]
    normal = positive >= 2.0**layout.emin
    assert fmt.bits == layout.bits
    assert fmt.max == values[-2]
    assert fmt.smallest_normal == positive[normal][0]
    assert fmt.smallest_subnormal == positive[normal | layout.subnormals][0]
    codes = np.arange(2**fmt.bits, dtype=np.uint16)
    decoded = fp8sim.decode(codes, fmt)
    oracle.assert_same(decoded, np.array([oracle.decode(int(code), layout) for code in codes]))

    flushed = (decoded == 0) & (codes & 2 ** (fmt.bits - layout.signed) - 1 > 0)
    back = ~np.isnan(decoded) & ~flushed
    again = fp8sim.encode(decoded[back], fmt, overflow="ieee").view(fmt.code_dtype)
    np.testing.assert_array_equal(again, codes[back])


def test_a_format_without_subnormals_may_reach_as_far_as_float32_has_its_steps():
    fmt = FloatFormat("ends", 8, 10, bias=140, subnormals=False)
    codes = np.arange(1 << 10, 1 << 11, dtype=np.uint32)  # the first binade, in steps of 2^-149
    np.testing.assert_array_equal(fp8sim.encode(fp8sim.decode(codes, fmt), fmt), codes)


def test_formats_are_frozen_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        E4M3.bias = 8
    assert {E4M3: "found"}[get_format("e4m3")] == "found"
    assert len(set(FORMATS.values())) == len(FORMATS)


def test_the_source_does_not_tell_formats_apart():
    other = dataclasses.replace(E4M3, source="elsewhere")
    assert other == E4M3
    assert hash(other) == hash(E4M3)
    assert all(fmt.source for fmt in FORMATS.values())


def test_a_what_if_keeps_the_numpy_type_only_while_its_codes_mean_the_same():
    assert dataclasses.replace(E4M3, name="mine").dtype == ml_dtypes.float8_e4m3fn
    assert dataclasses.replace(E4M3, name="ftz", subnormals=False).dtype == np.uint8
    assert dataclasses.replace(E4M3, name="ieee", specials="ieee").dtype == ml_dtypes.float8_e4m3


def test_a_registered_format_works_by_name(monkeypatch):
    monkeypatch.setitem(FORMATS, "e2m5", FloatFormat("e2m5", 2, 5, specials="none"))
    # 1.03 / 2^-5 = 32.96; the largest value is (2 - 2^-5) 2^(3 - 1)
    assert fp8sim.round_to([1.03, 100.0], "e2m5").tolist() == [1.03125, 7.875]


def test_a_format_without_subnormals_flushes_them_to_zero_of_their_sign():
    flushing = dataclasses.replace(E4M3, name="ftz", subnormals=False)
    result = fp8sim.round_to([2.0**-6, 2.0**-7, -(2.0**-7), 2.0**-6 * (1 - 2.0**-5)], flushing)
    oracle.assert_same(result, np.array([2.0**-6, 0.0, -0.0, 2.0**-6]))
    assert flushing.smallest_subnormal == 2.0**-6


@pytest.mark.parametrize("name", FORMATS)
def test_get_format_knows_names_in_both_cases_dtypes_and_formats(name):
    fmt = FORMATS[name]
    assert get_format(name) is get_format(name.upper()) is get_format(fmt) is fmt
    if name in NATIVE:
        assert get_format(NATIVE[name]) is get_format(np.dtype(NATIVE[name])) is fmt


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("float8_e4m3fn", "e4m3"),
        ("torch.float8_e5m2", "e5m2"),
        ("ml_dtypes.float8_e8m0fnu", "e8m0"),
        ("FLOAT8E4M3FNUZ", "e4m3fnuz"),  # ONNX
        ("FLOAT4E2M1", "e2m1"),
        ("float8_e4m3", "e4m3-ieee"),  # ml_dtypes: another format than safetensors' F8_E4M3
        ("F8_E4M3", "e4m3"),
        ("f8_e8m0", "e8m0"),
        ("bfloat16", "bf16"),
        ("BF16", "bf16"),
        ("F32", "fp32"),
        ("e4m3fn", "e4m3"),
        ("float6_e2m3fn", "e2m3"),
    ],
)
def test_formats_answer_to_what_other_libraries_call_them(text, name):
    assert get_format(text) is FORMATS[name]


def test_a_format_of_ones_own_may_take_a_name_of_another_library(monkeypatch):
    mine = FloatFormat("float8_e4m3fn", 3, 4)
    monkeypatch.setitem(FORMATS, "float8_e4m3fn", mine)
    assert get_format("float8_e4m3fn") is mine


@pytest.mark.extra
def test_torch_dtypes_and_tensors_of_narrow_formats_are_taken():
    torch = pytest.importorskip("torch")
    assert get_format(torch.float8_e5m2) is FORMATS["e5m2"]
    assert get_format(torch.bfloat16) is FORMATS["bf16"]
    x = torch.tensor([[0.3, -2.0, 448.0, 1e-3]])
    for dtype in (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64):
        tensor = x.to(dtype)
        np.testing.assert_array_equal(fp8sim.round_to(tensor, "fp32"), tensor.to(torch.float32).numpy())
        assert fp8sim.quantize(tensor, "e4m3").shape == (1, 4)
    assert fp8sim.matmul(torch.nn.Parameter(x), x.T.bfloat16(), "fp32").shape == (1, 1)
    codes = x.to(torch.float8_e4m3fn)
    np.testing.assert_array_equal(fp8sim.decode(codes, "e4m3"), codes.float().numpy())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("e4m4", r"did you mean .*'e4m3'"),
        ("fp17", r"did you mean .*'fp16'"),
        ("BF-16", r"did you mean 'bf16'"),
        ("", r"known: fp32, tf32, bf16, fp16, e4m3"),
        ("posit", r"unknown format 'posit'; known: fp32"),
    ],
)
def test_unknown_format_names_get_a_suggestion(name, hint):
    with pytest.raises(ValueError, match=hint):
        get_format(name)


@pytest.mark.parametrize("fmt", [np.float64, np.dtype(np.int16), None, 8, [], object()])
def test_what_is_no_format_is_refused_with_the_list_of_dtypes(fmt):
    with pytest.raises(ValueError, match=r"no format for .*pass a name, or one of the dtypes float32"):
        get_format(fmt)


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"exponent_bits": 0}, ValueError, "exponent_bits must be 1 to 8, got 0"),
        ({"exponent_bits": 9}, ValueError, "exponent_bits must be 1 to 8, got 9"),
        ({"mantissa_bits": -1}, ValueError, "mantissa_bits must be 0 to 23, got -1"),
        ({"mantissa_bits": 24}, ValueError, "mantissa_bits must be 0 to 23, got 24"),
        ({"mantissa_bits": 3.0}, TypeError, "mantissa_bits must be a whole number, got 3.0"),
        ({"exponent_bits": True}, TypeError, "exponent_bits must be a whole number, got True"),
        ({"bias": 7.5}, TypeError, "bias must be a whole number, got 7.5"),
        ({"name": ""}, TypeError, "needs a name"),
        ({"specials": "nan_only"}, ValueError, "unknown specials 'nan_only'; did you mean 'nan-only'"),
        ({"bias": 200}, ValueError, "do not all fit float32"),
        ({"bias": -200}, ValueError, "do not all fit float32"),
        ({"exponent_bits": 8, "mantissa_bits": 10, "bias": 141}, ValueError, "do not all fit float32"),
        (
            {"exponent_bits": 8, "mantissa_bits": 10, "bias": 141, "subnormals": False},
            ValueError,
            "do not all fit",
        ),
        (
            {"exponent_bits": 8, "mantissa_bits": 23, "subnormals": False, "zero": False},
            ValueError,
            "do not all fit",
        ),
        ({"specials": "fnuz", "signed": False}, ValueError, "needs sign and zero"),
        ({"zero": False}, ValueError, "subnormals=False"),
        ({"exponent_bits": 1}, ValueError, "no exponent is left"),
    ],
)
def test_impossible_formats_are_refused(fields, error, match):
    good = {"name": "mine", "exponent_bits": 4, "mantissa_bits": 3}
    with pytest.raises(error, match=match):
        FloatFormat(**(good | fields))
