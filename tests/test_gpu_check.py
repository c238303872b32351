"""`check_gpu` against stand-ins for a GPU: what is equal, a planted difference, what cannot be done."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import types

import numpy as np
import pytest

import fp8sim
from fp8sim import _kernels
from fp8sim.experiments.gpu import OPERATIONS, CudaDevice, Emulated, check_gpu, find_gpu, generation_of
from fp8sim.experiments.gpu import device as devices
from fp8sim.experiments.gpu.check import LENGTHS
from fp8sim.experiments.gpu.inputs import KINDS, draw
from fp8sim.experiments.gpu.operations import core_of, expected_words, ways
from silicon import FORMATS as SHORT
from test_silicon import RECORDING, recorded_products

FP8 = "scaled_mm e4m3 e4m3"
SLOW = pytest.mark.skipif(not _kernels.available(), reason="many long sums take too long without numba")


class StandIn(Emulated):
    """A GPU that multiplies by the model, in a way or by a core of its own, and whose words can be changed."""

    def __init__(self, capability=(9, 0), way=0, spoil=lambda words: None, **fault):
        super().__init__(capability)
        self.way, self.spoil, self.fault, self.calls = way, spoil, fault, 0

    def multiply(self, operation, a, b, copies):
        core = dataclasses.replace(core_of(operation, self.generation), **self.fault)
        every = {way.name: way for way in ways(operation, core, a.shape[1])}
        way = every.get(self.way) or next(iter(every.values()))
        words = expected_words(operation, core, way, a, b)
        self.calls += 1
        self.spoil(words)
        return words


# What agrees


@pytest.mark.parametrize("capability", [(7, 0), (8, 9), (9, 0), (12, 0)])
@SLOW
def test_a_gpu_that_is_as_the_model_agrees_in_all_it_has(capability):
    result = check_gpu(side=16, device=StandIn(capability))
    assert result.agrees
    had = [name for name, operation in OPERATIONS.items() if operation.since <= capability]
    for row in result.rows:
        assert (row.cases, row.equal) == ((2304, 2304) if row.operation in had else (0, 0))
        assert row.differ == 0
        assert row.core.startswith(generation_of(capability)) or row.skipped
    assert [row.length for row in result.rows] == [length.name for length in LENGTHS] * len(OPERATIONS)
    assert f"all {2304 * 5 * len(had):,} words are equal" in str(result)


def test_the_readable_way_stands_in_for_a_gpu():
    result = check_gpu(side=16, operations=[FP8, "mm bf16"], device=Emulated())
    assert result.agrees
    assert {row.sums for row in result.rows} == {"promoted every 128", "one chain"}


@pytest.mark.parametrize(
    ("operation", "way", "k"),
    [
        ("mm fp16", "3 slices of 1408", "4096"),
        ("mm tf32", "4 slices of 256", "1024"),
        ("mm bf16 to fp32", "32 of k in turn to 2 sums", "1024"),
        (FP8, "promoted every 64", "1024"),
        (FP8, "one chain", "1024"),
        (f"{FP8}, fast", "2 slices of 512", "1024"),
    ],
)
@SLOW
def test_another_order_of_summing_is_found_and_named(operation, way, k):
    result = check_gpu(side=16, operations=operation, device=StandIn(way=way))
    assert result.agrees
    assert way in {row.sums for row in result.rows if row.length.startswith(k)}


@SLOW
def test_orders_of_summing_give_words_of_their_own():
    operation = OPERATIONS["mm bf16 to fp32"]
    core = core_of(operation, "hopper")
    a, b = draw(operation, "wide exponents", 32, 1024, 1024, [1])
    every = list(ways(operation, core, 1024))
    assert len({way.name for way in every}) == len(every) > 30
    assert len({expected_words(operation, core, way, a, b).tobytes() for way in every}) == len(every)


def test_nan_is_nan_of_any_bits():
    def other_nan(words):
        words[np.isnan(words.view(np.float32))] = 0xFFC00001

    result = check_gpu(side=16, operations="mm tf32", device=StandIn(spoil=other_nan))
    assert result.agrees


# What differs


def planted(kind, bit=1, at=(3, 5)):
    """Return what flips one bit of one word of one kind, at one step."""
    calls = iter(range(10**6))

    def spoil(words):
        if next(calls) == list(KINDS).index(kind):
            words[at] ^= words.dtype.type(bit)

    return spoil


@pytest.mark.parametrize("kind", ["normal", "any codes", "cancelling", "tiny sums", "signed zeros"])
@pytest.mark.parametrize("name", [FP8, "mm fp16", "mm tf32"])
@SLOW
def test_one_flipped_bit_is_found_with_its_place_and_inputs(name, kind):
    operation, bit = OPERATIONS[name], 1 << (8 if name == "mm fp16" else 13)
    result = check_gpu(side=16, seed=7, operations=name, device=StandIn(spoil=planted(kind, bit)))
    assert not result.agrees
    assert [row.differ for row in result.rows] == [1, 0, 0, 0, 0]
    row, first = result.rows[0], result.rows[0].first
    core = core_of(operation, "hopper")
    a, b = draw(operation, kind, 16, core.step, 128, [7, list(KINDS).index(kind)])
    assert (first.inputs, first.row, first.column) == (kind, 3, 5)
    assert first.a == tuple(a[3].tolist())
    assert first.b == tuple(b[5].tolist())
    assert first.found == first.expected ^ bit
    assert row.equal == row.cases - 1
    assert row.sums.startswith("no known order")
    text = str(result)
    assert f"1 of {row.cases * 5:,} words differ" in text
    assert f"{first.found:x}" in text


def test_a_number_in_the_place_of_nan_differs():
    def no_nan(words):
        words[np.isnan(words.view(np.float32))] = 0

    assert not check_gpu(side=16, operations="mm tf32", device=StandIn(spoil=no_nan)).agrees


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (FP8, {"fraction_bits": 12}),
        (FP8, {"fraction_bits": 14}),
        (FP8, {"step": 16}),
        (FP8, {"output": "fp32-rz"}),
        ("mm fp16 to fp32", {"fraction_bits": 24}),
        ("mm fp16 to fp32", {"step": 8}),
        ("mm bf16 to fp32", {"exponent_floor": -132}),
        ("mm tf32", {"exponent_floor": -134}),
        ("mm fp16, fp16 sums", {"exponent_floor": -20}),
    ],
)
@SLOW
def test_a_core_with_a_fault_differs(name, fault):
    result = check_gpu(side=32, operations=name, device=StandIn(**fault))
    assert any(row.differ for row in result.rows)


# What an H100 wrote


def named_operation(case):
    """Return the operation of a recorded product."""
    if "fast" in case:
        return f"scaled_mm {case['a']} {case['b']}" + ", fast" * case["fast"]
    fmt = SHORT[case["a"]]
    if fmt == "tf32":
        return "mm tf32"
    return f"mm {fmt}" + ", fp16 sums" * ("fp16 sums" in case) + " to fp32" * (case["out"] == "f32")


def plain_cases(cases):
    fits = [case for case in cases if case["scales"] == "1"]
    return [case for case in fits if named_operation(case) in OPERATIONS and OPERATIONS[named_operation(case)].out == SHORT[case["out"]]]  # fmt: skip


@SLOW
def test_the_words_of_an_h100_are_explained_by_a_known_order():
    chosen = [(c, x, d) for c, x, d in recorded_products() if plain_cases([c])]
    assert len(chosen) > 100
    for case, (a, b, *_), d in chosen:
        operation = OPERATIONS[named_operation(case)]
        core = core_of(operation, "hopper")
        codes = []
        for x, fmt in ((a, operation.a), (b, operation.b)):
            coded = fp8sim.encode(x, fmt)
            codes.append(coded.view(fp8sim.get_format(fmt).code_dtype))
        explained = (way.name for way in ways(operation, core, case["k"])
                     if (expected_words(operation, core, way, *codes) == d).all())  # fmt: skip
        name = next(explained, None)
        assert name is not None, case
        if "slice" not in case:
            assert name in ("one chain", "promoted every 128"), case


def test_the_slices_that_cublas_took_on_an_h100_are_among_the_orders():
    sliced = plain_cases([case for case in RECORDING["products"] if "slice" in case])
    assert len(sliced) > 10
    for case in sliced:
        operation = OPERATIONS[named_operation(case)]
        names = [way.name for way in ways(operation, core_of(operation, "hopper"), case["k"])]
        assert any(name.endswith(f" slices of {case['slice']}") for name in names), case


# Inputs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["mm fp16", "mm bf16", "mm tf32", "scaled_mm e4m3 e5m2"])
def test_inputs_are_codes_that_a_seed_repeats(name, kind):
    operation = OPERATIONS[name]
    one, again, other = (draw(operation, kind, 32, 64, 128, [seed, 0]) for seed in (0, 0, 1))
    for fmt, codes, same, unlike in zip((operation.a, operation.b), one, again, other, strict=True):
        bits = fp8sim.get_format(fmt).bits
        assert codes.shape == (32, 128)
        assert int(codes.max()) < 1 << bits
        assert not codes[:, 64:].any()
        np.testing.assert_array_equal(codes, same)
        assert (codes != unlike).any()
        finite = np.isfinite(fp8sim.decode(codes, fmt)).all()
        assert finite == (kind != "NaN and infinity")


def test_inputs_are_what_their_kind_says():
    operation = OPERATIONS["mm fp16"]
    values = {
        kind: [fp8sim.decode(x, "fp16").astype(np.float64) for x in draw(operation, kind, 64, 64, 64, [0, 0])]
        for kind in KINDS
    }
    a, b = values["cancelling"]
    assert np.median(np.abs(a @ b.T) / (np.abs(a) @ np.abs(b.T))) < 0.03
    large, tiny = (values[kind][0] @ values[kind][1].T for kind in ("large", "tiny sums"))
    assert (np.abs(values["subnormal"][0]) < 2.0**-14).mean() > 0.5
    assert 0.2 < (np.abs(large) > 65504).mean() < 1
    assert np.abs(tiny).max() < 2.0**-23
    assert np.isnan(values["NaN and infinity"][0]).any()
    assert np.isinf(values["NaN and infinity"][1]).any()
    signs = np.signbit(values["signed zeros"][0][values["signed zeros"][0] == 0])
    assert 0.4 < signs.mean() < 0.6


# What cannot be done


def test_what_a_gpu_has_not_is_skipped_by_name():
    result = check_gpu(side=16, operations=["mm fp16", FP8], device=StandIn((8, 0)))
    assert result.agrees
    assert f"not compared: {FP8}: compute capability 8.9 or newer has it, this is 8.0" in str(result)


def test_what_the_library_refuses_is_skipped_with_its_words():
    def refuse(words):
        raise NotImplementedError("refused: RuntimeError: no such kernel")

    result = check_gpu(side=16, operations="mm fp16", device=StandIn(spoil=refuse))
    assert not result.agrees
    assert "not compared: mm fp16: refused: RuntimeError: no such kernel" in str(result)
    assert "nothing was compared" in str(result)


def fake_torch(cuda="13.0", hip=None, available=True):
    version, gpu = (
        types.SimpleNamespace(cuda=cuda, hip=hip),
        types.SimpleNamespace(is_available=lambda: available),
    )
    return types.SimpleNamespace(version=version, cuda=gpu)


@pytest.mark.parametrize(
    ("torch", "reason"),
    [
        (None, "PyTorch is not installed"),
        (fake_torch(cuda=None), "built for CPUs alone"),
        (fake_torch(cuda=None, hip="6.4"), "built for ROCm"),
        (fake_torch(available=False), "PyTorch sees no GPU here"),
    ],
    ids=["no torch", "cpu", "rocm", "no gpu"],
)
def test_without_a_gpu_one_line_says_what_is_needed(monkeypatch, torch, reason):
    monkeypatch.setitem(sys.modules, "torch", torch)
    with pytest.raises(RuntimeError, match=f"needs an NVIDIA GPU and PyTorch built for CUDA: .*{reason}"):
        fp8sim.check_gpu()


def test_a_gpu_is_found(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    assert isinstance(find_gpu(), CudaDevice)


@pytest.mark.parametrize("capability", [(6, 1), (13, 0)])
def test_a_generation_without_cores_is_refused(capability):
    shown = ".".join(map(str, capability))
    with pytest.raises(RuntimeError, match=f"no cores of compute capability {shown}; check a GPU from 7.0"):
        generation_of(capability)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"side": 24}, ValueError, "side=24 is no multiple of 16, which cuBLAS needs; pass 32"),
        ({"side": 0}, ValueError, "side must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": 1.5}, TypeError, "seed must be a whole number"),
        ({"operations": "mm fp17"}, ValueError, "unknown operation 'mm fp17'; did you mean 'mm fp16'"),
        ({"operations": 3}, TypeError, "operations must be a name, a Operation, or a list"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_said_before_anything_runs(options, error, words):
    stand_in = StandIn()
    with pytest.raises(error, match=words):
        check_gpu(device=stand_in, **options)
    assert stand_in.calls == 0


# The command line


@pytest.fixture
def run(capsys, monkeypatch):
    """Run `fp8sim check-gpu` with a stand-in: (exit status, standard output, standard error)."""
    from fp8sim.cli.commands import app

    def call(stand_in, *arguments):
        monkeypatch.setattr("fp8sim.experiments.gpu.find_gpu", lambda: stand_in)
        line = ["check-gpu", "--side", "16", "--operation", "mm fp16", *arguments]
        status = app(line, standalone_mode=False, prog_name="fp8sim")
        return status, *capsys.readouterr()

    return call


def test_the_command_ends_with_status_0_where_all_agrees_and_1_where_a_word_differs(run):
    status, out, err = run(StandIn())
    assert (status or 0, err) == (0, "")
    assert "all 11,520 words are equal" in out
    status, out, err = run(StandIn(spoil=planted("wide exponents")))
    assert (status, err) == (1, "")
    assert "1 of 11,520 words differ" in out
    assert "first difference" in out


def test_the_command_prints_data(run):
    status, out, _ = run(StandIn(spoil=planted("normal")), "--json", "--seed", "3")
    data = json.loads(out)
    assert (status, data["agrees"], data["seed"], data["side"]) == (1, False, 3, 16)
    assert data["facts"]["capability"] == [9, 0]
    assert [row["differ"] for row in data["rows"]] == [1, 0, 0, 0, 0]
    assert len(data["rows"][0]["first"]["a"]) == 128


def test_the_command_without_a_gpu_is_one_line_and_status_2():
    code = "import sys; sys.modules['torch'] = None; sys.argv = ['fp8sim', 'check-gpu']; import fp8sim.cli as c; c.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("fp8sim: checking a GPU needs an NVIDIA GPU and PyTorch built for CUDA")


# PyTorch


@pytest.mark.extra
def test_the_calls_of_pytorch_multiply_as_they_are_asked_and_leave_its_switches(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(CudaDevice, "place", "cpu")
    switches = torch.backends.cuda.matmul
    names = ("fp32_precision", "allow_fp16_accumulation", "allow_bf16_reduced_precision_reduction")
    before = [getattr(switches, name) for name in names]
    refused = []
    for operation in OPERATIONS.values():
        a, b = draw(operation, "normal", 32, 64, 128, [0, 0])
        try:
            words = CudaDevice().multiply(operation, a, b, 2)
        except NotImplementedError as reason:  # the CPU has no FP16 times FP16 to FP32
            refused.append((operation.name, str(reason)[:8]))
            continue
        core = core_of(operation, "hopper")
        expected = expected_words(operation, core, next(ways(operation, core, 128)), a, b)
        assert (words.shape, words.dtype) == (expected.shape, expected.dtype)
        fmt = operation.out
        close = fp8sim.metrics.relative_error(fp8sim.decode(words, fmt), fp8sim.decode(expected, fmt))
        assert close < 2e-2, operation  # a CPU sums otherwise
    assert refused == [("mm fp16 to fp32", "refused:"), ("mm bf16 to fp32", "refused:")]
    assert [getattr(switches, name) for name in names] == before


def test_the_driver_is_asked_for_by_nvidias_own_program(monkeypatch):
    monkeypatch.setattr(devices.shutil, "which", lambda name: None)
    assert devices._driver() == "unknown"
    monkeypatch.setattr(devices.shutil, "which", lambda name: "/bin/echo")
    assert "driver_version" in devices._driver()
    monkeypatch.setattr(devices.shutil, "which", lambda name: "/bin/false")
    assert devices._driver() == "unknown"


@pytest.mark.extra
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("fmt", ["e4m3", "bf16", "tf32"])
def test_operands_lie_row_by_row_whatever_they_were(fmt, copies):
    """A GPU refuses FP8 that lies otherwise."""
    pytest.importorskip("torch")
    columns = np.asfortranarray(fp8sim.encode(np.ones((32, 64)), fmt).view(fp8sim.get_format(fmt).code_dtype))
    tensor = devices._tensor(columns, fmt, copies, "cpu")
    assert tensor.is_contiguous()
    assert tensor.shape == (32 * copies, 64)
