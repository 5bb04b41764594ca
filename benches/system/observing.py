"""Time of inference with tensors observed in the graph, compared with plain inference.

`python -m benches.system.observing [rounds] [network …]`. Each case runs in a separate process,
because the threads of several sessions in one process disturb each other. The processes
take turns, and the medians over all runs are printed. Sessions are those that observation uses:
not optimized, no memory kept between runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benches.harness.networks import NETWORKS, model_file
from benches.harness.process import ROOT, command

CASES = ("plain inference", "required tensors", "all tensors")
RUNS = 3  # in a turn, after one that is not counted


def serve(key: str, path: str, case: str, size: str) -> None:
    """Read a number of runs from each line of the input; print their seconds."""
    network = NETWORKS[key]
    shape = network.shape if size == "full" else network.small
    feed = next(network.feeds(1, shape))
    run, summary = _opened(Path(path), case, feed)
    print("ready", flush=True)
    done = 0
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
            done += 1
        print(json.dumps(seconds), flush=True)
    print(json.dumps(summary(done)), flush=True)


def _opened(
    path: Path, case: str, feed: dict[str, Any]
) -> tuple[Callable[[], object], Callable[[int], dict[str, Any]]]:
    """Return a function that runs the sample, and one that returns what was observed."""
    import quantcal as qc
    from quantcal.onnx._model.model import load_model
    from quantcal.onnx._observe.in_graph import InGraphObserver
    from quantcal.onnx._observe.select_tensors import ObservedGraph, find_tensors
    from quantcal.onnx._options.resolved import Options
    from quantcal.onnx._plan.preparation import prepare
    from quantcal.onnx._runtime.session import Workspace

    loaded = load_model(path)
    if case == "required tensors":
        ready = prepare(loaded, Options.of())
        source = ObservedGraph(ready.converted, ready.types, ready.plan.observed)
    else:
        source = find_tensors(loaded, "all")
    work = Workspace(source.loaded)  # its folder lasts as long as the process
    if case == "plain inference":
        plain = work.open([value.name for value in work.light.graph.output])
        return lambda: (work, plain.run(None, feed)), lambda _: {}
    cal = qc.Calibrator()
    names = [name for name in source.names if name not in feed]
    observer = InGraphObserver(work, names, [cal])

    def summary(runs: int) -> dict[str, Any]:
        observer.finish()
        values = sum(cal[name].count for name in cal)
        return {"tensors": len(cal), "values": values / runs}

    return lambda: (work, observer.observe(feed, "the sample")), summary


class Worker:
    """A process that runs one case on request."""

    def __init__(self, key: str, path: Path, case: str, size: str) -> None:
        self._process = subprocess.Popen(
            command("benches.system.observing", key, path, case, size),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._read()

    def _read(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a case ended with {self._process.wait()}")
        return line

    def run(self, times: int) -> list[float]:
        """Return the seconds of each of `times` runs."""
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        return json.loads(self._read())

    def end(self) -> dict[str, Any]:
        """End the process; return what it observed."""
        self._process.stdin.close()
        summary = json.loads(self._read())
        self._process.wait()
        return summary


def compare(key: str, path: Path, rounds: int, size: str) -> None:
    """Time plain inference and the observation of required and of all tensors, in turns."""
    workers = {case: Worker(key, path, case, size) for case in CASES}
    times: dict[str, list[list[float]]] = {case: [] for case in CASES}
    for round in range(rounds + 1):
        order = CASES if round % 2 else CASES[::-1]
        for case in order:
            taken = workers[case].run(1 + RUNS)[1:]
            if round:  # the first warms them up
                times[case].append(taken)
    observed = {case: worker.end() for case, worker in workers.items()}
    network = NETWORKS[key]
    shape = network.shape if size == "full" else network.small
    print(f"\n{network.title}, {shape}, {rounds} rounds of {RUNS} runs", flush=True)
    medians = {case: np.median(np.array(t), axis=1) for case, t in times.items()}
    for case in CASES:
        median = np.median(times[case])
        ratios = medians[case] / medians[CASES[0]]
        line = f"  {case:<24}{median * 1e3:8.1f} ms  {np.median(ratios):5.2f} ×"
        line += f"  ({ratios.min():.2f} to {ratios.max():.2f})"
        if observed[case]:
            values = observed[case]["values"] / 1e6
            line += f"  {observed[case]['tensors']} tensors, {values:.1f} M values"
        print(line, flush=True)


def main(*, smoke: bool, rounds: int = 8, keys: tuple[str, ...] = ()) -> None:
    """Compare on each network."""
    with tempfile.TemporaryDirectory() as folder:
        for key in keys or tuple(NETWORKS):
            path = model_file(key, Path(folder))
            if path is not None:
                size = "small" if smoke else "full"
                compare(key, path, 1 if smoke else rounds, size)


if __name__ == "__main__":
    if len(sys.argv) == 5:
        serve(*sys.argv[1:])
    else:
        given = sys.argv[1:]
        count = int(given.pop(0)) if given and given[0].isdigit() else 8
        main(smoke=False, rounds=count, keys=tuple(given))
