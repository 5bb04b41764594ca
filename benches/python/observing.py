"""Time of a run with its tensors observed in the graph, beside the same run without.

`python benches/python/observing.py [rounds]`: the sessions take turns, medians are
printed. Sessions are those that observing uses: no optimisation, nothing kept.
"""

from __future__ import annotations

import sys
import time

import numpy as np

SHAPES = {"pp-ocr-det": (1, 3, 640, 640), "pp-ocr-rec": (1, 3, 48, 320)}


def observe(key: str, shape: tuple[int, ...], rounds: int) -> None:
    """Let plain inference and the observers of two choices of tensors take turns."""
    import quantcal as qc
    from quantcal.demo.fetch import MODELS
    from quantcal.onnx.choose import choose
    from quantcal.onnx.in_graph import InGraphObserver
    from quantcal.onnx.model import Workspace, load_model
    from quantcal.onnx.options import Options
    from quantcal.onnx.prepare import prepare

    path = MODELS[key].fetch()
    feed = {"x": np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}
    needed = prepare(load_model(path), Options.of())
    source = choose(load_model(path), "all")
    with Workspace(source.loaded) as work, Workspace(needed.converted) as other:
        plain = work.open([value.name for value in work.light.graph.output])
        cals = {
            "what quantising needs": qc.Calibrator(),
            "all tensors": qc.Calibrator(),
        }
        names = [
            [n for n in s if n != "x"] for s in (needed.plan.observed, source.names)
        ]
        observers = [
            InGraphObserver(where, chosen, cal)
            for where, chosen, cal in zip(
                (other, work), names, cals.values(), strict=True
            )
        ]
        runs = {"plain inference": lambda: plain.run(None, feed)}
        for case, observer in zip(cals, observers, strict=True):
            runs[case] = lambda o=observer: o.observe(feed, "the sample")
        times: dict[str, list[float]] = {case: [] for case in runs}
        for run in runs.values():
            run()
        for _ in range(rounds):
            for case, run in runs.items():
                start = time.perf_counter()
                run()
                times[case].append(time.perf_counter() - start)
        for observer in observers:
            observer.finish()
    base = np.median(times["plain inference"])
    print(f"\n{key}, {shape}, {rounds} rounds in turns", flush=True)
    for case, taken in times.items():
        median = np.median(taken)
        told = f"  {case:<24}{median * 1e3:8.1f} ms  {median / base:5.2f} ×"
        if case in cals:
            cal = cals[case]
            values = sum(cal[name].count for name in cal) / (rounds + 1)
            told += f"  {len(cal)} tensors, {values / 1e6:.1f} M values"
        print(told)


def main(*, smoke: bool, rounds: int = 15) -> None:
    """Run both networks."""
    for key, shape in SHAPES.items():
        small = (1, 3, 96, 96) if shape[2] == 640 else (1, 3, 48, 96)
        observe(key, small if smoke else shape, 1 if smoke else rounds)


if __name__ == "__main__":
    main(smoke=False, rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 15)
