"""Reads windows with many configurations, several windows in parallel, one core each."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor

import quantcal as qc

from .chain import Chain
from .configurations import Configuration
from .measure import Results

Work: TypeAlias = "Sequence[tuple[Tensor, Sequence[Configuration]]]"
"""Windows, and the configurations to read each with."""

Weights: TypeAlias = "tuple[str | None, str]"
"""The weights of a configuration: their format, and how the model is smoothed."""


@contextmanager
def one_core_each() -> Iterator[None]:
    """Let torch and quantcal compute on the thread that calls them.

    Numpy computes the products; the environment sets its threads before it is loaded.
    """
    before = torch.get_num_threads(), qc.get_num_threads()
    torch.set_num_threads(1)
    qc.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        qc.set_num_threads(before[1])


def at_once(
    tasks: Iterable[Callable[[], object]],
    workers: int,
    stop: threading.Event | None = None,
) -> None:
    """Run all tasks, `workers` at a time.

    After an error or Ctrl-C no task starts, and `stop` is set for those that run.
    """
    with one_core_each(), ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(task) for task in tasks]
        try:
            for future in as_completed(running):
                future.result()
        except BaseException:
            if stop is not None:
                stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Progress:
    """Progress and remaining time: a bar in a terminal, else a line each minute."""

    def __init__(self, total: int, *, at_most: bool = False) -> None:
        self.total = total
        self.at_most = at_most
        """Whether `total` is an upper limit."""
        self.done = 0
        self._start = self._shown = time.perf_counter()
        self._lock = threading.Lock()

    def step(self) -> None:
        """Count one window."""
        with self._lock:
            self.done += 1
            now = time.perf_counter()
            if now - self._shown < (1 if sys.stderr.isatty() else 60):
                return
            self._shown = now
            if sys.stderr.isatty():
                print(f"\r{self}\033[K", end="", file=sys.stderr, flush=True)
            else:
                print(f"           {self}", file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    @property
    def each(self) -> float:
        """Seconds per window, with several read in parallel."""
        return self.seconds / max(self.done, 1)

    def __str__(self) -> str:
        left = self.each * (self.total - self.done) / 60
        filled = 30 * self.done // max(self.total, 1)
        most = "at most " if self.at_most else ""
        return (
            f"[{'#' * filled}{'.' * (30 - filled)}] {self.done} of {most}{self.total} "
            f"windows, {self.each:.2f} s each, {most}{left:.1f} minutes left"
        )


class Reader:
    """Reads windows with configurations and stores the losses."""

    def __init__(
        self, results: Results, chains: Mapping[Weights, Chain], workers: int
    ) -> None:
        self._results = results
        self._chains = chains
        self._workers = workers
        self._stop = threading.Event()

    def missing(self, work: Work) -> int:
        """Return the number of windows to read; equal configurations count once."""
        return sum(len(self._of(window, todo)) for window, todo in work)

    def read(
        self, work: Work, progress: Progress, deadline: float = float("inf")
    ) -> None:
        """Read what is missing, window by window.

        At the pace so far, no window starts that would end after `deadline`, in seconds of
        `time.perf_counter`.
        """

        def task(window: Tensor, todo: Sequence[Configuration]) -> Callable[[], None]:
            return lambda: self._read(window, todo, progress, deadline)

        self._stop.clear()
        at_once([task(*each) for each in work], self._workers, self._stop)

    def _of(self, window: Tensor, todo: Sequence[Configuration]) -> list[Configuration]:
        """Return the configurations whose losses of a window are missing."""
        different = {c.digest: c for c in todo}
        return [c for d, c in different.items() if not self._results.has(d, window)]

    def _read(
        self,
        window: Tensor,
        todo: Sequence[Configuration],
        progress: Progress,
        deadline: float,
    ) -> None:
        missing = sorted(self._of(window, todo), key=_weights_key)
        takes = len(missing) * progress.each * self._workers if progress.done else 0.0
        if time.perf_counter() + takes > deadline:
            return
        for _, group in itertools.groupby(missing, _weights_key):
            some = list(group)
            chain = self._chains[some[0].weights, some[0].smoothing]
            plans = {c.digest: c.plan(chain.names) for c in some}
            # Neighbors share their first steps, which are computed once.
            some.sort(key=lambda c: [key for key, _ in plans[c.digest]])
            found = chain.losses(window, [plans[c.digest] for c in some])
            for configuration in some:
                if self._stop.is_set():
                    return
                self._results.save(configuration.digest, window, next(found))
                progress.step()


def _weights_key(configuration: Configuration) -> tuple[str, str]:
    return configuration.weights or "", configuration.smoothing
