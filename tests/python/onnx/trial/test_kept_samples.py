"""Kept samples: copies in memory or on disk, spread evenly over a stream of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantcal.onnx._runtime.array_store import ArrayStore
from quantcal.onnx._runtime.kept_samples import KeptSamples


def feed(number: int) -> dict[str, Any]:
    return {"x": np.full((2, 3), number, np.float32)}


def numbers(kept: KeptSamples) -> list[int]:
    found = [int(kept.feed(index)["x"][0, 0]) for index in range(len(kept))]
    assert found == [kept.number(index) for index in range(len(kept))]
    return found


@pytest.mark.parametrize("memory", [0, 24, 1 << 20])
def test_entries_are_copies_and_come_back_to_the_byte(memory: int) -> None:
    store = ArrayStore(memory)
    buffer = np.zeros((2, 3), np.float32)
    wanted = []
    for number in range(5):
        buffer[:] = np.pi * number
        store.append({"x": buffer, "flag": np.array(number % 2 == 0)})
        wanted.append(buffer.tobytes())
    assert [store[index]["x"].tobytes() for index in range(5)] == wanted
    assert [bool(store[index]["flag"]) for index in range(5)] == [1, 0, 1, 0, 1]
    store.close()


def test_what_exceeds_the_memory_is_on_disk_until_it_is_dropped() -> None:
    store = ArrayStore(2 * feed(0)["x"].nbytes)
    for number in range(6):
        store.append(feed(number))
    folder = store._folder
    assert folder is not None
    assert len(list(folder.path.glob("entry*"))) == 4
    store.keep([1, 3, 5])
    assert [store[index]["x"][0, 0] for index in range(3)] == [1, 3, 5]
    assert len(list(folder.path.glob("entry*"))) == 2
    store.append(feed(7))  # in the memory that became free
    assert len(list(folder.path.glob("entry*"))) == 2
    assert store[3]["x"][0, 0] == 7
    store.close()
    assert not folder.path.exists()


def test_lists_of_outputs_may_hold_what_is_no_array() -> None:
    store = ArrayStore(0)
    store.append([np.float32(1.5), [{1: 0.5}], np.array(["a"], object)])
    first, second, third = store[0]
    assert (float(first), second, list(third)) == (1.5, [{1: 0.5}], ["a"])
    store.close()


@given(count=st.integers(0, 400), folds=st.integers(1, 5), most=st.integers(1, 40))
def test_thinning_keeps_samples_spread_evenly_and_folds_balanced(
    count: int, folds: int, most: int
) -> None:
    kept = KeptSamples(folds, most)
    for number in range(count):  # a stream whose length nobody knows
        kept.add(number, feed(number))
    found = numbers(kept)
    limit = max(most, 2 * folds)
    assert len(found) <= limit
    assert len(found) == count or len(found) > limit // 2 - folds
    groups = sorted({number // folds for number in found})
    steps = set(np.diff(groups))
    assert len(steps) <= 1  # evenly
    if groups:
        step = steps.pop() if steps else 1
        assert groups[0] == 0
        # Nothing is missing at the end.
        assert (count - 1) // folds - groups[-1] < max(step, 1) or len(groups) == 1
    sizes = np.bincount([kept.fold(i) for i in range(len(found))], minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    kept.close()


@given(start=st.integers(0, 30), count=st.integers(2, 300))
def test_a_run_that_continues_has_samples_of_both_halves(
    start: int, count: int
) -> None:
    kept = KeptSamples(4, 16)
    for number in range(start, start + count):
        kept.add(number, feed(number))
    assert {kept.fold(index) % 2 for index in range(len(kept))} == {0, 1}
    assert set(numbers(kept)) <= set(range(start, start + count))
    kept.close()


def test_one_sample_is_kept() -> None:
    kept = KeptSamples(4, 128)
    kept.add(0, feed(0))
    assert numbers(kept) == [0]
    assert (kept.fold(0), kept.where(0)) == (0, "sample 0")
    kept.close()


def test_errors_and_metrics_get_the_callers_numbers() -> None:
    kept = KeptSamples(1, 4, number_of=lambda number: 5 * number + 4)
    for number in range(3):
        kept.add(number, feed(number))
    assert [kept.number(index) for index in range(3)] == [4, 9, 14]
    assert kept.where(2) == "sample 14"
    kept.close()
