"""`int8`: symmetric integers wherever a format of elements is taken, each against plain integer arithmetic."""

from __future__ import annotations

import dataclasses
import pickle
from fractions import Fraction
from itertools import cycle

import numpy as np
import pytest

import fp8sim
import oracle
from fp8sim.anatomy import explain_block
from fp8sim.formats import INT8, IntegerFormat
from fp8sim.quantization import Operand, Quantized, Scales, Scaling, quantize_with, round_trip
from oracle import assert_same
from readable import readable

ROUNDINGS = (
    "nearest-even",
    "nearest-away",
    "toward-zero",
    "toward-positive",
    "toward-negative",
    "stochastic",
)
# Of every size: some go the readable way, some the compiled one, some in threads and in several tiles.
SHAPES = [(1,), (300,), (5000,), (7, 33), (129, 257), (3, 5003), (5003, 3), (3, 40, 70), (300, 1000)]
BY_VALUES = oracle.Layout(True, 1, 6, -5, "none")


def around_every_boundary() -> np.ndarray:
    """Every integer and half-integer up to 140, and eight float32 values on both sides of each."""
    middle = (np.arange(-280, 281) / 2).astype(np.float32)
    out = [middle]
    for direction in (-np.inf, np.inf):
        beside = middle
        for _ in range(8):
            beside = np.nextafter(beside, np.float32(direction))
            out.append(beside)
    return np.concatenate([*out, np.float32([-0.0, 1e-40, -1e-40, 1e30, -1e30, 8388607.5, -0.3])])


BOUNDARIES = around_every_boundary()


def to_integers(x: np.ndarray, rounding: str = "nearest-even", rng: np.random.Generator | None = None):
    """Round to -127..127 as numpy does, apart from the library; exact in float64."""
    x = x.astype(np.float64)
    match rounding:
        case "nearest-even":
            whole = np.rint(x)
        case "nearest-away":
            whole = np.trunc(x) + np.sign(x) * (np.abs(x - np.trunc(x)) >= 0.5)
        case "toward-zero":
            whole = np.trunc(x)
        case "toward-positive":
            whole = np.ceil(x)
        case "toward-negative":
            whole = np.floor(x)
        case _:
            assert rng is not None
            below = np.floor(np.abs(x))
            whole = np.copysign(below + (rng.random(x.shape) < np.abs(x) - below), x)
    return whole.clip(-127, 127).astype(np.int8)


def given(scales) -> Scales:
    scales = np.asarray(scales, np.float32)
    return Scales(scales, scales)


def data(shape, seed=0, dtype=np.float32) -> np.ndarray:
    """Draw numbers of many sizes, with zeros of both signs and groups of zeros among them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.exp2(rng.integers(-9, 9, shape[-1]))
    x[rng.random(shape) < 0.05] = -0.0
    x[..., : shape[-1] // 3] *= rng.random((*shape[:-1], 1)) < 0.5
    return x.astype(dtype)


def same(q: Quantized, other: Quantized) -> None:
    """Assert that two are equal to the last bit."""
    assert q.codes.dtype == other.codes.dtype == np.int8
    np.testing.assert_array_equal(q.codes, other.codes)
    assert q.scales.tobytes() == other.scales.tobytes()
    assert q.scale_codes.tobytes() == other.scale_codes.tobytes()
    assert q.dequantize().tobytes() == other.dequantize().tobytes()
    assert (q.saturated, q.flushed) == (other.saturated, other.flushed)


# --- codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 0.007874015718698502, 3e-5, 2.0**40])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_codes_around_every_boundary_are_those_of_integer_rounding(rounding, scale, dtype):
    scale = np.float32(scale)
    with np.errstate(over="ignore"):
        x = (BOUNDARIES * scale).clip(-3e38, 3e38).astype(dtype)
    quotient = x / dtype(scale)
    options = {"axis": -1, "rounding": rounding, "scales": given([scale])}
    expected = to_integers(quotient, rounding, np.random.default_rng(5))
    operand, q = Operand("int8", Scaling("tensor")), None
    for call in (quantize_with, lambda *args, **more: readable(quantize_with, *args, **more)):
        q = call(x, operand, rng=np.random.default_rng(5), **options)
        assert q.codes.dtype == np.int8
        np.testing.assert_array_equal(q.codes, expected)
        assert q.saturated == np.count_nonzero(np.abs(np.rint(quotient)) > 127)
        assert q.flushed == np.count_nonzero((expected == 0) & (x != 0))
        assert_same(q.dequantize(np.float64), expected.astype(np.float64) * np.float64(scale))
        assert_same(q.dequantize(), expected.astype(np.float32) * scale)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_casts_without_a_scale_round_and_saturate(rounding, dtype):
    x = BOUNDARIES.astype(dtype)
    expected = to_integers(x, rounding, np.random.default_rng(5))
    for run in (lambda f, *a, **o: f(*a, **o), readable):
        codes = run(fp8sim.encode, x, "int8", rounding=rounding, rng=np.random.default_rng(5))
        values = run(fp8sim.round_to, x, "int8", rounding=rounding, rng=np.random.default_rng(5))
        assert codes.dtype == np.int8
        np.testing.assert_array_equal(codes, expected)
        assert_same(values, expected.astype(dtype))  # no -0


def test_every_code_stands_for_its_integer_and_comes_back():
    integers = np.arange(-128, 128).astype(np.int8)
    for run in (lambda f, *a: f(*a), readable):
        for codes in (integers, integers.view(np.uint8), np.tile(integers, 40)):
            values = run(fp8sim.decode, codes, "int8")
            assert values.dtype == np.float32
            assert_same(values, codes.view(np.int8).astype(np.float32))
        # -128 is read where someone else wrote it, and never written
        np.testing.assert_array_equal(run(fp8sim.encode, integers, "int8"), integers.clip(-127, 127))


# --- scales ---------------------------------------------------------------------------------------

RULES = [("fp32", rule) for rule in ("amax", "ceil", "floor", "even")]
RULES += [("e8m0", rule) for rule in ("ceil", "floor", "even")]


def expected_scale(amax, scaling):
    """Return the scale of a group from its largest magnitude."""
    if scaling.scale_rule != "amax":
        return float(oracle.power_of_two_scale(Fraction(float(amax)), BY_VALUES, scaling.scale_rule))
    return float(np.float32(amax / amax.dtype.type(127))) if amax else 1.0


@pytest.mark.parametrize(("scale_format", "rule"), RULES)
@pytest.mark.parametrize("granularity", ["tensor", "row", "1x128", "1x97", "128x128", "30x50"])
def test_scales_codes_and_counts_are_those_of_plain_loops(granularity, scale_format, rule):
    scaling = Scaling(granularity, scale_format, rule)
    for shape, dtype in zip(SHAPES, cycle([np.float32, np.float32, np.float64]), strict=False):
        if len(shape) == 1 and granularity in ("128x128", "30x50"):
            continue
        x = data(shape, dtype=dtype)
        for axis in {-1, 0} if len(shape) > 1 else {-1}:
            slices = list(oracle.group_slices(granularity, shape, axis))
            if len(slices) > 500:
                continue
            q = quantize_with(x, Operand("int8", scaling), axis=axis)
            quotient, spread = np.empty(shape), np.empty(shape)
            for index, part in slices:
                scale = expected_scale(np.abs(x[part]).max(), scaling)
                assert q.scales[index] == scale
                spread[part], quotient[part] = scale, x[part] / dtype(scale)
            codes = to_integers(quotient)
            np.testing.assert_array_equal(q.codes, codes)
            assert_same(q.dequantize(np.float64), codes * spread)
            assert_same(q.dequantize(), (codes * spread).astype(np.float32))
            assert q.saturated == np.count_nonzero(np.abs(np.rint(quotient)) > 127)
            assert q.flushed == np.count_nonzero((x != 0) & (codes == 0))
            if rule in ("amax", "ceil"):
                assert q.saturated == 0


@pytest.mark.parametrize(("scale_format", "rule"), [*RULES, ("e4m3", "amax")])
@pytest.mark.parametrize("granularity", ["tensor", "row", "1x128", "128x128", "1x7"])
def test_compiled_and_readable_ways_agree_to_the_last_bit(granularity, scale_format, rule):
    operand = Operand("int8", Scaling(granularity, scale_format, rule))
    for shape, axis, dtype in [
        ((129, 257), -1, np.float32),
        ((129, 257), 0, np.float64),
        ((5003, 3), 0, np.float32),
        ((3, 70, 200), 1, np.float32),
    ]:
        x = data(shape, 1, dtype)
        q = quantize_with(x, operand, axis=axis)
        same(q, readable(quantize_with, x, operand, axis=axis))
        trip = round_trip(x, operand, axis=axis)
        assert trip.dtype == np.float32
        assert_same(trip, q.dequantize())
        assert_same(readable(round_trip, x, operand, axis=axis), trip)


def test_stochastic_codes_have_the_mean_of_what_they_round(rng):
    x = np.linspace(-1, 1, 41, dtype=np.float32).repeat(2000)
    q = fp8sim.quantize(x, "int8", rounding="stochastic", rng=rng)
    mean = q.dequantize(np.float64).reshape(41, 2000).mean(axis=1)
    assert np.abs(mean - x.reshape(41, 2000)[:, 0]).max() < 5 * 0.5 / 127 / np.sqrt(2000)


def test_no_negative_zero_comes_back():
    for size in (4, 8000):
        x = np.resize(np.float32([-0.0, -1e-3, 127, -127]), size)
        for q in (fp8sim.quantize(x, "int8"), readable(fp8sim.quantize, x, "int8")):
            assert_same(q.dequantize(), np.resize(np.float32([0, 0, 127, -127]), size))
        assert_same(round_trip(x, Operand("int8", Scaling("row"))), q.dequantize())
        assert_same(round_trip(x, Operand("int8")), q.dequantize())


def test_mxint8_has_the_codes_of_int8_under_scales_of_64_times():
    """OCP MX v1.0, 5.3.4: MXINT8 is INT8 with an implied 2^-6, and its largest exponent is 0."""
    mxint8 = IntegerFormat("mxint8", 1, 6, bias=1, specials="none")
    assert (mxint8.max, mxint8.emax) == (1 + 63 / 64, 0)
    x = data((40, 640), 2)
    q, mx = (
        fp8sim.quantize(x, fmt, "1x32", scale_format="e8m0", scale_rule="floor") for fmt in (INT8, mxint8)
    )
    np.testing.assert_array_equal(mx.codes, q.codes)
    there = q.scales > 2.0**-127  # the scale of a group of zeros in both
    np.testing.assert_array_equal(mx.scales[there], 64 * q.scales[there])
    assert_same(mx.dequantize(), q.dequantize())


# --- what it is -----------------------------------------------------------------------------------


def test_it_prints_and_counts_its_bytes():
    q = fp8sim.quantize(data((256, 512)), "int8", "1x128")
    assert str(q).startswith("Quantized((256, 512) int8, 1x128 fp32: 135168 bytes, of them 4096 scales; ")
    assert (q.nbytes, q.scale_nbytes) == (256 * 512 + 4096, 4096)
    assert str(Operand("int8", Scaling("row"))) == "int8 row fp32"
    np.testing.assert_array_equal(q.bits.view(np.int8), q.codes)
    assert_same(q.T.dequantize(), q.dequantize().T)


@pytest.mark.parametrize("name", ["int8", "INT8", "torch.int8", "I8", np.int8, np.dtype("int8"), INT8])
def test_it_goes_by_the_names_of_others(name):
    assert fp8sim.get_format(name) is INT8
    assert Operand(name).fmt is INT8
    assert fp8sim.quantize([1.0], name).codes.tolist() == [127]


def test_torch_dtypes_are_taken():
    torch = pytest.importorskip("torch")
    assert fp8sim.get_format(torch.int8) is INT8
    codes = torch.tensor([-127, 0, 5], dtype=torch.int8)
    assert fp8sim.decode(codes, "int8").tolist() == [-127, 0, 5]


def test_it_is_in_no_table_of_floating_point_formats_and_gives_way_to_a_users_own(monkeypatch):
    assert "int8" not in fp8sim.FORMATS
    assert INT8 not in fp8sim.FORMATS.values()
    own = fp8sim.FloatFormat("int8", 1, 6, bias=-5, specials="none")
    assert own != INT8
    assert own.dtype == np.uint8
    monkeypatch.setitem(fp8sim.FORMATS, "int8", own)
    assert fp8sim.get_format("int8") is own


def test_it_can_be_copied_and_pickled():
    again = pickle.loads(pickle.dumps(INT8))
    assert again == INT8
    assert again.dtype == np.int8
    assert dataclasses.replace(INT8, name="mine").twos_complement


@pytest.mark.parametrize("fields", [{"exponent_bits": 2}, {"specials": "fnuz"}, {"subnormals": False}])
def test_what_is_no_integer_format_is_refused(fields):
    good = {"name": "mine", "exponent_bits": 1, "mantissa_bits": 6, "bias": -5, "specials": "none"}
    with pytest.raises(
        ValueError, match="mine: integers have one exponent bit, a sign, zero and no specials"
    ):
        IntegerFormat(**(good | fields))


@pytest.mark.parametrize("size", [5, 5000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_have_no_scale(bad, size):
    x = np.ones(size, np.float32)
    x[3] = bad
    with pytest.raises(ValueError, match=r"x holds 1 NaN or infinite values, the first at \[3\]; a group"):
        fp8sim.quantize(x, "int8")
    if np.isnan(bad):
        with pytest.raises(ValueError, match="x holds NaN, and int8 has none"):
            fp8sim.encode(x, "int8")


# --- where formats of elements are taken ----------------------------------------------------------


def int8_recipe(scaling: Scaling, accumulator: str) -> fp8sim.Recipe:
    return fp8sim.Recipe("int8", Operand("int8", scaling), Operand("int8", scaling), accumulator)


@pytest.mark.parametrize("granularity", ["tensor", "row"])
def test_products_are_integer_products_times_the_scales(rng, granularity):
    a, b = rng.standard_normal((33, 300)), rng.standard_normal((300, 65))
    recipe = int8_recipe(
        Scaling(granularity, "e8m0"), "exact"
    )  # times a power of two, sums below 2^24 are exact
    qa = fp8sim.quantize(a, "int8", granularity, scale_format="e8m0")
    qb = fp8sim.quantize(b, "int8", granularity, axis=0, scale_format="e8m0")
    whole = qa.codes.astype(np.int64) @ qb.codes.astype(np.int64)
    assert np.abs(whole).max() < 2**24
    assert_same(fp8sim.matmul(a, b, recipe), (whole * (qa.scales * qb.scales)).astype(np.float32))


@pytest.mark.parametrize("accumulator", ["exact", "fp32", "fp32-sequential", "fp32-kahan"])
@pytest.mark.parametrize("granularity", ["tensor", "row", "1x128", "128x128"])
def test_recipes_multiply_through_values_as_other_formats_do(rng, granularity, accumulator):
    a, b = rng.standard_normal((12, 300)), rng.standard_normal((300, 9))
    recipe = int8_recipe(Scaling(granularity), accumulator)
    qa, qb = fp8sim.quantize(a, "int8", granularity), fp8sim.quantize(b, "int8", granularity, axis=0)
    plain = dataclasses.replace(recipe, a=Operand("fp32"), b=Operand("fp32"))
    product = fp8sim.matmul(a, b, recipe)
    assert fp8sim.metrics.relative_error(product, a @ b) < 0.02
    if accumulator == "exact":
        exact = qa.dequantize(np.float64) @ qb.dequantize(np.float64)
        np.testing.assert_allclose(product, exact, rtol=2.0**-24, atol=1e-14)
    else:
        np.testing.assert_array_equal(product, fp8sim.matmul(qa.dequantize(), qb.dequantize(), plain))


def test_a_tensor_core_of_floats_refuses_it(rng):
    x = rng.standard_normal((8, 64))
    with pytest.raises(ValueError, match="a_format='int8' is no input of hopper-fp8"):
        fp8sim.matmul(x, x.T, int8_recipe(Scaling("row"), "hopper-fp8"))
    with pytest.raises(
        ValueError, match="int8 products are summed as integers, exactly: accumulator 'exact'"
    ):
        dataclasses.replace(fp8sim.TENSOR_CORES["hopper-fp8"], name="mine", inputs=("int8",))


def test_a_block_is_explained_in_twos_complement():
    block = explain_block([1.0, -3 / 127, 1e-4, 0.25], "int8")
    assert [(str(e.bits), e.code, e.value, e.fate) for e in block.elements] == [
        ("01111111", 127, 127.0, "rounded"),
        ("11111101", 253, -3.0, "rounded"),
        ("00000000", 0, 0.0, "flushed"),
        ("00100000", 32, 32.0, "rounded"),
    ]
    assert "amax / 127 = 0.00787401572" in str(block)
    with pytest.raises(ValueError, match=r"int8 has none; explain_block\(x, 'int8'\) tells of integers"):
        fp8sim.explain(3.0, "int8")


# --- a published figure ---------------------------------------------------------------------------


def best_sqnr(density, clip: float, fmt: str) -> float:
    """Return the SQNR in dB at the scale of least squared error, by quadrature over a symmetric density."""
    x = np.linspace(0, clip, 100_001, dtype=np.float64)
    weight, power = density(x), density(x) @ x**2
    operand = Operand(fmt, Scaling("tensor"))

    def error(reach: float) -> float:
        q = quantize_with(x, operand, scales=given([reach / operand.fmt.max]))
        return float(weight @ (q.dequantize(np.float64) - x) ** 2)

    return float(10 * np.log10(power / min(map(error, np.geomspace(2, clip, 120)))))


@pytest.mark.parametrize(("fmt", "decibels"), [("int8", 40.54), ("e3m4", 37.56), ("e4m3", 31.56)])
def test_gaussian_numbers_are_held_as_well_as_published(fmt, decibels):
    """Kuzmin et al. 2022 (arXiv 2208.09225): N(0, 1) clipped at 10, the scale of least squared error.

    They print 40.5 dB for INT8 and 31.6 dB for E4M3.
    """
    assert best_sqnr(lambda x: np.exp(-(x**2) / 2), 10, fmt) == pytest.approx(decibels, abs=0.03)


@pytest.mark.parametrize(("fmt", "decibels"), [("int8", 34.4), ("e3m4", 37.4)])
def test_heavier_tails_turn_the_tables(fmt, decibels):
    """Student's t with 8 degrees of freedom clipped at 100, as in their published script."""
    assert best_sqnr(lambda x: (1 + x**2 / 8) ** -4.5, 100, fmt) == pytest.approx(decibels, abs=0.05)
