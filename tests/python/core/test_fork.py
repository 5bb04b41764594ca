"""Fork: a child of a process that counted in parallel counts in parallel too."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
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
def test_a_forked_child_computes_and_quantizes_with_its_parents_threads() -> None:
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


def in_a_fork(work: Callable[[], None]) -> None:
    """Fork, and run `work` in the child, which must end well before it is taken to hang."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    for _ in range(int(WAIT * 100)):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def test_a_child_goes_on_with_a_calibrator_that_others_were_observing() -> None:
    """Whole tensors and channels, large and small, new names and merges; and many forks."""
    whole, small = samples.shape("gaussian", 1 << 17), samples.shape("laplace", 600)
    channels = samples.shape("gaussian", 1 << 18).reshape(-1, 2)
    cal = qc.Calibrator()
    stop = threading.Event()

    def keep_observing(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            if number == 0:
                cal.observe("channels", channels, axis=1)
            elif number == 1:
                cal.observe("whole", whole)
                cal["whole"]
            elif number == 2:
                cal.observe("small", small)
                cal.observe(f"new {turn % 50}", small)
                cal.observe_many({"small": small, "whole": small})
            else:
                cal.to_bytes()
                cal.merge(qc.Calibrator())

    def go_on() -> None:
        before = qc.Calibrator.from_bytes(cal.to_bytes())
        assert before == cal
        cal.observe("channels", channels, axis=1)
        cal.observe("whole", whole)
        cal.observe("small", small)
        cal.observe_many({"a name of the child's": small, "small": small})
        for name, size in (("channels", channels.size), ("small", small.size)):
            # Observations are whole: none was cut off by the fork.
            assert cal.stats(name).count % size == 0
            seen = before.stats(name).count if name in before else 0
            more = 2 if name == "small" else 1
            assert cal.stats(name).count == seen + more * size
        assert qc.Calibrator.from_bytes(cal.to_bytes()) == cal
        assert qc.load is not None

    others = [threading.Thread(target=keep_observing, args=(i,)) for i in range(4)]
    for thread in others:
        thread.start()
    try:
        for _ in range(40):
            in_a_fork(go_on)
    finally:
        stop.set()
        for thread in others:
            thread.join(timeout=WAIT)
    assert not any(thread.is_alive() for thread in others)
    in_a_fork(go_on)


def test_several_threads_may_fork_while_others_observe() -> None:
    cal = qc.Calibrator()
    x = samples.shape("gaussian", 1 << 16).reshape(-1, 4)
    failed: list[BaseException] = []

    def fork_and_observe() -> None:
        try:
            for _ in range(5):
                cal.observe("x", x, axis=1)
                in_a_fork(lambda: cal.observe("x", x, axis=1))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=fork_and_observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=4 * WAIT)
    assert not failed
    assert cal.stats("x").count == 20 * x.size
