"""The recording of what fp8sim computes: every digest is still the same, and the check can fail."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import recorded_outputs as outputs

pytest.importorskip("safetensors")

HEAD, KEYS, RECORDED = outputs.load()
CASES = dict(outputs.cases())
GROUPS = sorted({outputs.group_of(name) for name in {*RECORDED, *CASES}})
EXTRA = [pytest.mark.extra]


@pytest.mark.parametrize("group", [pytest.param(g, marks=EXTRA if "torch" in g else []) for g in GROUPS])
def test_the_outputs_are_the_recorded_ones(group):
    if obstacle := outputs.obstacle(group, HEAD):
        pytest.skip(obstacle)
    chosen = [(name, thunk) for name, thunk in CASES.items() if outputs.group_of(name) == group]
    recorded = {name: digest for name, digest in RECORDED.items() if outputs.group_of(name) == group}
    assert outputs.differences(chosen, recorded, KEYS) == []


def test_the_recording_is_large_and_its_names_are_unique():
    assert len(list(outputs.cases())) == len(CASES) >= 2000


# --- the check itself can fail --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.uint8])
def test_a_changed_bit_is_found(dtype):
    x = np.ones(5, dtype)
    y = x.copy()
    y.view(np.uint8)[0] ^= 1
    assert outputs.differences([("a", lambda: y)], {"a": outputs.digest(x)}, {}) == ["a"]
    assert outputs.differences([("a", lambda: x)], {"a": outputs.digest(x)}, {}) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.0, -0.0),
        (1.0, np.nextafter(1.0, 2.0)),
        (1.0, 1),
        (1, True),
        ("1", 1),
        (None, "None"),
        (np.float32(np.nan), -np.float32(np.nan)),
        (np.zeros(3), np.zeros((3, 1))),
        (np.zeros(4, np.float32), np.zeros(2, np.float64)),
        ([[1], 2], [1, [2]]),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": 1}),
        (["a", "b"], ["a','b"]),
        (ValueError("a"), TypeError("a")),
        (ValueError("a"), "ValueError"),
    ],
)
def test_what_differs_has_another_digest(one, other):
    assert outputs.digest(one) != outputs.digest(other)
    assert outputs.digest(one) == outputs.digest(one)


def test_messages_and_the_order_of_keys_do_not_count():
    assert outputs.digest(ValueError("a")) == outputs.digest(ValueError("b"))
    assert outputs.digest({"a": 1, "b": 2}) == outputs.digest({"b": 2, "a": 1})


def test_digits_that_are_not_asked_for_do_not_count():
    near = [1.0, 1 + 1e-9, np.float32(1.5), "about 0.12345678"]
    far = [1.0, 1 + 1e-9, np.float32(1.5), "about 0.1234567"]
    assert outputs.digest(near, 6) == outputs.digest(far, 6) == outputs.digest([1.0, 1.0, *far[2:]], 6)
    assert outputs.digest(near) != outputs.digest(far)
    assert outputs.digest(1.0, 6) != outputs.digest(1.00001, 6)


def test_a_key_that_came_later_does_not_count_and_one_that_went_does():
    class Result:
        def __init__(self, **data):
            self.to_dict = lambda: data

    keys = {}
    before = outputs.digest(outputs.figures(Result(a=1, rows=({"b": 2},))), None, keys)
    assert outputs.digest(outputs.figures(Result(a=1, rows=({"b": 2, "c": 3},), d=4)), None, keys) == before
    assert outputs.digest(outputs.figures(Result(rows=({"b": 2},))), None, keys) != before
    assert outputs.digest(outputs.figures(Result(a=1, rows=({"b": 3},))), None, keys) != before


def test_cases_that_are_new_or_gone_are_found():
    assert outputs.differences([("new", lambda: 1)], {"gone": "0"}, {}) == ["gone", "new"]


def test_an_exception_in_place_of_a_result_is_found():
    assert outputs.differences([("a", lambda: 1 / 0)], {"a": outputs.digest(1)}, {}) == ["a"]


def test_names_that_are_nowhere_are_told():
    with pytest.raises(
        ImportError, match=r"none of fp8sim\.no:x, no\.such:y exists: add its new home to HOMES"
    ):
        outputs.first("fp8sim.no:x", "no.such:y")
    assert outputs.first("no.such:y", "math:pi") == np.pi
