"""Judging in child processes: an abort or an endless loop ends one of them, and is a finding."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, Queue

from fuzz.judge import Finding

Task = tuple[
    int, tuple[int, ...], "int | None"
]  # seed, steps left out, one set of options
_CONTEXT = multiprocessing.get_context("spawn")


class Worker:
    """One child, started when there is something to do and again after it died.

    Parameters
    ----------
    limit : float
        Seconds for one case.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._child: multiprocessing.process.BaseProcess | None = None
        self._ours: Connection | None = None
        self._log = Path(tempfile.mkstemp(prefix="quantcal-fuzz-", suffix=".log")[1])

    def judge(
        self, seed: int, without: Collection[int] = (), only: int | None = None
    ) -> list[Finding]:
        """Return what came of a case, whatever became of the child."""
        if self._child is None or not self._child.is_alive():
            self._start()
        assert self._ours is not None
        assert self._child is not None
        stage = "start"
        try:
            self._ours.send((seed, tuple(without), only))
            while self._ours.poll(self._limit):
                answer = self._ours.recv()
                if not isinstance(answer, str):
                    return list(answer)
                stage = answer
        except (EOFError, OSError):
            self._child.join(10)
            return [Finding("abort", f"exit code {self._child.exitcode} at {stage}")]
        self.stop()
        return [Finding("time limit", f"{self._limit:.0f} s at {stage}")]

    def stop(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._child = None

    def close(self) -> None:
        """End the child, and remove what it logged."""
        self.stop()
        self._log.unlink(missing_ok=True)

    def _start(self) -> None:
        self._ours, theirs = _CONTEXT.Pipe()
        self._child = _CONTEXT.Process(
            target=_serve, args=(theirs, str(self._log)), daemon=True
        )
        self._child.start()
        theirs.close()


def _serve(connection: Connection, log: str) -> None:
    """Judge cases until the parent is gone."""
    handle = os.open(log, os.O_WRONLY | os.O_TRUNC)
    os.dup2(handle, 2)  # onnxruntime logs there
    from fuzz.cases import make
    from fuzz.judge import judge

    while True:
        try:
            seed, without, only = connection.recv()
        except EOFError:
            return
        connection.send("make")
        case = make(seed, without)
        connection.send(judge(case, connection.send, only=only))


def run(
    seeds: Iterable[int],
    jobs: int,
    limit: float,
    done: Callable[[int, list[Finding]], None],
) -> None:
    """Judge all seeds with several children; ``done`` is called in this thread."""
    waiting: Queue[int] = Queue()
    for seed in seeds:
        waiting.put(seed)
    finished: Queue[tuple[int, list[Finding]] | None] = Queue()

    def work() -> None:
        worker = Worker(limit)
        try:
            while True:
                seed = waiting.get_nowait()
                finished.put((seed, worker.judge(seed)))
        except Empty:
            pass
        finally:
            worker.close()
            finished.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    left = jobs
    while left:
        entry = finished.get()
        if entry is None:
            left -= 1
        else:
            done(*entry)
