"""Threads: the interpreter is released, and concurrent observations are all counted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import quantcal as qc
import samples
from samples import Array

BIG = 1 << 23  # elements; some milliseconds of work


@pytest.fixture
def never_switch() -> Iterator[None]:
    """Let the interpreter change threads only where the running one gives it up."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(3600.0)
    yield
    sys.setswitchinterval(before)


def overlap(work: Callable[[Any], Any], x: Array) -> bool:
    """Tell whether two calls of `work`, on two threads, were inside at the same time.

    Both meet at a barrier inside the call, where the engine asks for the array, and note it when
    they go in and come out. The interpreter changes threads only where one gives it up, so
    an engine that keeps it while it counts lets the second go in when the first is out.
    """
    log: list[str] = []
    barrier = threading.Barrier(2, timeout=60)

    class Lazy:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
            barrier.wait()
            log.append("in")
            return x

    def call() -> None:
        work(Lazy())
        log.append("out")

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(call) for _ in range(2)]:
            future.result(timeout=60)
    return log == ["in", "in", "out", "out"]


@pytest.mark.usefixtures("never_switch", "keep_num_threads")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", ["contiguous", "strided", "float16"])
def test_the_interpreter_is_released_while_counting(layout: str, threads: int) -> None:
    qc.set_num_threads(threads)
    x = np.tile(samples.shape("gaussian", BIG // 8), 8)
    arrays = {"contiguous": x, "strided": x[::2], "float16": x.astype(np.float16)}
    values = arrays[layout]
    values[-1] = np.nan
    h, refusing = qc.Histogram(), qc.Calibrator(on_nonfinite="raise")

    def count_and_refuse(lazy: Any) -> None:
        # What is refused is counted before and not merged after: no other part of the call
        # could let the second thread in.
        with pytest.raises(qc.CalibrationError):
            refusing.observe("x", lazy)

    for work in (h.observe, count_and_refuse):
        # The system decides when the second thread wakes; once in a hundred is proof enough.
        assert any(overlap(work, values) for _ in range(100))
    assert h.count % (2 * values.size) == 0
    assert h.nan == h.count // values.size
    assert len(refusing) == 0


@pytest.mark.usefixtures("never_switch", "keep_num_threads")
def test_the_interpreter_is_released_while_quantizing() -> None:
    qc.set_num_threads(1)
    p = qc.QuantParams.from_range(-1, 1)
    x = samples.shape("gaussian", BIG // 8)
    for work in (p.quantize, p.fake_quantize):
        assert any(overlap(work, np.tile(x, 8)) for _ in range(100))


@pytest.mark.usefixtures("never_switch")
def test_the_overlap_probe_sees_a_call_that_keeps_the_interpreter() -> None:
    """Guards the tests above: pure Python work that gives nothing up must not overlap."""
    for _ in range(20):
        assert not overlap(lambda lazy: sum(lazy.__array__().tolist()), np.ones(10_000))


def run_together(count: int, work: Callable[[int], Any]) -> None:
    """Run `work(0)`, `work(1)`, … on as many threads, which start at once."""
    barrier = threading.Barrier(count, timeout=60)

    def start(i: int) -> None:
        barrier.wait()
        work(i)

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(start, i) for i in range(count)]:
            future.result(timeout=120)


@pytest.mark.parametrize("size", [10, 3000, 50_000, 300_000])
def test_eight_threads_observe_one_name_without_losing_a_value(size: int) -> None:
    rounds = 5 if size > 10_000 else 50
    arrays = [samples.any_bits(size, seed) for seed in range(8)]
    want = qc.Calibrator()
    for x in arrays:
        for _ in range(rounds):
            want.observe("x", x)
    for _ in range(3):  # each time the name is new, and all want to make it
        cal = qc.Calibrator()

        def observe(i: int, cal: qc.Calibrator = cal) -> None:
            for _ in range(rounds):
                cal.observe("x", arrays[i])

        run_together(8, observe)
        assert cal == want
        assert cal.to_bytes() == want.to_bytes()


def test_eight_threads_observe_many_names_without_losing_one() -> None:
    names = [f"tensor {i}" for i in range(40)]
    arrays = [samples.shape("laplace", 500, seed) for seed in range(8)]
    cal = qc.Calibrator()

    def observe(i: int) -> None:
        for name in np.random.default_rng(i).permutation(names):
            cal.observe(str(name), arrays[i])
            cal.observe_many({str(name): arrays[i], "common": arrays[i][:3]})

    run_together(8, observe)
    assert sorted(cal.names) == sorted([*names, "common"])
    assert {cal[name].count for name in names} == {8 * 2 * 500}
    assert cal["common"].count == 8 * len(names) * 3


def test_one_histogram_is_observed_merged_and_read_by_all_threads() -> None:
    h = qc.Histogram()
    x = samples.shape("gaussian", 40_000)
    part = qc.Histogram().observe(x)

    def work(i: int) -> None:
        for _ in range(10):
            if i % 4 == 0:
                h.observe(x)
            elif i % 4 == 1:
                h.merge(part)
            elif i % 4 == 2:
                h.merge(qc.Histogram.from_bytes(part.to_bytes()))
            else:
                assert h.count % x.size == 0
                assert (h + part).count % x.size == 0
                assert h == h
                h.merge(qc.Histogram())

    run_together(8, work)
    assert h.count == 60 * x.size
    assert h == sum([part] * 60)


def test_calibrators_that_merge_each_other_do_not_wait_for_ever() -> None:
    cals = [qc.Calibrator() for _ in range(2)]
    for cal in cals:
        cal.observe("x", samples.shape("gaussian", 1000))

    def work(i: int) -> None:
        for _ in range(20):
            total = qc.Calibrator()
            total.merge(cals[i % 2])
            assert cals[i % 2] == cals[i % 2] + qc.Calibrator()
            assert total["x"].count == 1000
            qc.Histogram().merge(cals[(i + 1) % 2]["x"])

    run_together(8, work)


def test_tables_are_computed_while_others_observe() -> None:
    cal = qc.Calibrator()
    cal.observe("x", samples.shape("gaussian", 5000))

    def work(i: int) -> None:
        for seed in range(10):
            if i % 2:
                cal.observe(
                    f"x{i}" if seed % 2 else "x", samples.shape("laplace", 3000)
                )
            else:
                table = cal.compute("mse", format="uint8")
                assert all(p.scale > 0 for p in table.values())
                assert len(qc.Calibrator.from_bytes(cal.to_bytes())) >= len(table)

    run_together(6, work)
    assert cal["x"].count == 5000 + 3 * 5 * 3000


def test_the_number_of_threads_may_change_while_others_count() -> None:
    h = qc.Histogram()
    x = samples.shape("gaussian", 400_000)
    before = qc.get_num_threads()

    def work(i: int) -> None:
        for n in (1, 2, 3):
            if i == 0:
                qc.set_num_threads(n)
            h.observe(x)

    run_together(4, work)
    qc.set_num_threads(before)
    assert h == sum([qc.Histogram().observe(x)] * 12)


@pytest.mark.usefixtures("keep_num_threads")
def test_the_number_of_threads_is_the_one_that_was_set() -> None:
    for threads in (1, 2, 7):
        qc.set_num_threads(threads)
        assert qc.get_num_threads() == threads


class Refuses:
    """Refuses maxima of 10 and more: 10 only when 12 has been refused, if that happens."""

    def __init__(self, *, waits: bool) -> None:
        self.asked: list[float] = []
        self._waits = waits
        self._refused = threading.Event()

    def range(
        self, histogram: qc.Histogram, format: qc.QuantFormat
    ) -> tuple[float, float]:
        high = histogram.max or 0.0
        self.asked.append(high)
        if high == 10 and self._waits:
            assert self._refused.wait(60)
        if high >= 10:
            if high == 12:
                self._refused.set()
            msg = f"{high} is too much"
            raise qc.CalibrationError(msg)
        return 0.0, high


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_the_first_tensor_that_fails_is_reported(threads: int) -> None:
    cal = qc.Calibrator()
    for number in range(100):
        high = number if number in (10, 12) else 1
        cal.observe(f"t{number}", np.array([0, high], np.float32))
    before = qc.get_num_threads()
    qc.set_num_threads(threads)
    strategy = Refuses(waits=threads > 1)
    try:
        with pytest.raises(qc.CalibrationError, match=r'^Tensor "t10", .*10\.0 is'):
            cal.compute(strategy)
    finally:
        qc.set_num_threads(before)
    if threads == 1:
        assert len(strategy.asked) == 11  # nothing was begun behind it
