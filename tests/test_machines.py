"""A part of what `machines.py` compares: the same bits by other threads, on other CPUs, and without numba."""

from __future__ import annotations

import numpy as np
import pytest

import fp8sim
import machines
from machines import MACHINES, digests, run, whole

PART = 8  # of the workloads, one in so many


@pytest.fixture(scope="module")
def here():
    return digests(PART)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_number_of_threads_changes_no_bit(here, threads):
    try:
        fp8sim.set_num_threads(threads)
        assert digests(PART) == here
    finally:
        fp8sim.set_num_threads(None)


def test_neither_the_want_of_numba_nor_of_numpys_fast_loops_changes_a_bit(here):
    result = run(MACHINES["no numba, SSE"], PART)
    assert result["registers"] == "-"
    assert result["digests"] == here


def test_code_for_a_cpu_without_avx_computes_the_same_casts():
    pytest.importorskip("numba")
    if not machines.has(MACHINES["SSE"]):
        pytest.skip("this CPU is of another kind")
    result = run(MACHINES["SSE"], 4, "casts")
    assert result["registers"] == "xmm"  # so the CPU was another
    assert result["digests"] == digests(4, "casts")


def test_there_are_200_workloads_of_every_kind():
    names = [name for name, _ in machines.workloads()]
    assert len(set(names)) == len(names) == 200
    assert {name.split("/")[0] for name in names} == {
        "casts", "quantize", "tensor_cores", "matmul", "training", "metrics", "numpy", "rounded", "large",
    }  # fmt: skip


def test_a_changed_bit_changes_the_digest(monkeypatch, here):
    assert whole({**here, "casts": "0"}) != whole(here)
    first = digests(1, "large/encode")
    assert len(set(first.values())) == 2
    encode = fp8sim.encode

    def flipped(*args, **options):
        codes = encode(*args, **options)
        codes.view(np.uint8).flat[77] ^= 1
        return codes

    monkeypatch.setattr(fp8sim, "encode", flipped)
    assert not set(digests(1, "large/encode").values()) & set(first.values())


def test_work_that_stops_is_no_digest(monkeypatch):
    monkeypatch.setattr(machines, "workloads", lambda: [("stops", lambda: 1 / 0)])
    with pytest.raises(ZeroDivisionError):
        digests()
    with pytest.raises(RuntimeError, match="invalid int value"):
        run(machines.Machine(), "x")
