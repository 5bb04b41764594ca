"""Fork: a child of a process that counted in parallel counts in parallel too."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import pytest

import quantcal as qc
import samples

# Newer interpreters warn of any fork beside threads; that is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

SIZE = (1 << 20) + 7  # well beyond the size at which a second thread is woken
WAIT = 60.0  # seconds after which a child is taken to hang


def observe(seed: int) -> bytes:
    """Count in parallel, in whatever process this runs."""
    return qc.Histogram().observe(samples.shape("gaussian", SIZE, seed)).to_bytes()


def compute(seed: int) -> tuple[int, bytes, qc.QuantParams]:
    """Use everything that has threads; return how many there are, and the results."""
    cal = qc.Calibrator()
    x = samples.shape("laplace", SIZE, seed)
    for i in range(10):
        cal.observe(f"x{i}", x[i:])
    p = cal.compute("mse", format="uint8")["x0"]
    return qc.get_num_threads(), p.fake_quantize(x).tobytes(), p


def in_children(work: Callable[[Any], Any], values: list[Any], processes: int) -> Any:
    """Return `work` of each value, from forked children that must not hang."""
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return pool.map_async(work, values).get(timeout=WAIT)


@pytest.mark.usefixtures("keep_num_threads")
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_a_forked_child_counts_as_its_parent_does(threads: int) -> None:
    qc.set_num_threads(threads)
    want = [observe(seed) for seed in range(3)]  # the parent's threads are running now
    assert in_children(observe, [0, 1, 2], processes=2) == want
    assert [observe(seed) for seed in range(3)] == want


@pytest.mark.usefixtures("keep_num_threads")
def test_a_forked_child_computes_and_quantises_with_its_parents_threads() -> None:
    qc.set_num_threads(3)
    want = compute(5)
    assert want[0] == 3
    assert in_children(compute, [5, 5], processes=2) == [want, want]


@pytest.mark.usefixtures("keep_num_threads")
def test_a_child_forked_while_others_count_counts_too() -> None:
    qc.set_num_threads(2)
    want = observe(0)
    stop = threading.Event()

    def keep_counting() -> None:
        x = samples.shape("gaussian", SIZE)
        while not stop.is_set():
            qc.Histogram().observe(x)
            qc.get_num_threads()

    others = [threading.Thread(target=keep_counting) for _ in range(2)]
    for thread in others:
        thread.start()
    try:
        for _ in range(3):
            assert in_children(observe, [0, 0], processes=2) == [want, want]
    finally:
        stop.set()
        for thread in others:
            thread.join(timeout=WAIT)


@pytest.mark.usefixtures("keep_num_threads")
def test_a_child_may_set_its_own_number_of_threads() -> None:
    qc.set_num_threads(2)
    want = observe(1)
    assert in_children(observe_with, [1, 2, 7], processes=1) == [want] * 3
    assert qc.get_num_threads() == 2


def observe_with(threads: int) -> bytes:
    qc.set_num_threads(threads)
    return observe(1)
