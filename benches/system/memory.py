"""Peak memory and time of calibrating whole networks, each case in a fresh process.

`python -m benches.system.memory [network …]` runs all cases of some networks, or of all. The
time spans everything from opening the model's file to its ranges.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benches.harness.networks import NETWORKS, Feed, model_file
from benches.harness.process import ROOT, command

CASES = (
    ("plain inference", 8),
    ("quantcal", 8),
    ("quantcal, all tensors", 1),
    ("quantcal, all tensors", 8),
    ("quantcal, all tensors", 64),
    ("quantcal, all tensors, outputs", 8),
    ("onnxruntime MinMax", 8),
    ("onnxruntime Percentile", 8),
    ("onnxruntime Entropy", 8),
)


def run_case(key: str, path: str, case: str, samples: int, size: str) -> None:
    """Calibrate in this process; print time and peak memory."""
    from quantcal.onnx.result import peak_memory

    network = NETWORKS[key]
    shape = network.shape if size == "full" else network.small
    feeds = network.feeds(samples, shape)  # one at a time
    start = time.perf_counter()
    if case == "plain inference":
        session = _plain(path)
        for feed in feeds:
            session.run(None, feed)
    elif case.startswith("onnxruntime"):
        _onnxruntime(path, case.split()[1], feeds)
    else:
        import quantcal as qc

        calibrator = qc.onnx.observe(
            path,
            feeds,
            tensors="all" if "all tensors" in case else None,
            observer="outputs" if "outputs" in case else "in_graph",
        )
        calibrator.compute("mse", format="uint8")
    seconds = time.perf_counter() - start
    peak = (peak_memory() or 0) / 1e6
    print(f"  {case:<30} {samples:4d} samples {seconds:8.1f} s {peak:8.0f} MB peak")


def _plain(path: str):
    """Open the graph as observation does: not optimized, no memory kept between runs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _onnxruntime(path: str, method: str, feeds: Iterator[Feed]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = feeds

        def get_next(self):
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            path,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=getattr(CalibrationMethod, method),
        )
        calibrator.collect_data(Reader())
        calibrator.compute_data()


def main(*, smoke: bool, keys: tuple[str, ...] = ()) -> None:
    """Run every case in a fresh process."""
    size = "small" if smoke else "full"
    with tempfile.TemporaryDirectory() as folder:
        for key in keys or tuple(NETWORKS):
            path = model_file(key, Path(folder))
            if path is None:
                continue
            network = NETWORKS[key]
            shape = network.small if smoke else network.shape
            print(f"\n{network.title}, samples of {shape}", flush=True)
            for case, samples in CASES[:3] if smoke else CASES:
                count = str(2 if smoke else samples)
                arguments = (key, str(path), case, count, size)
                child = command("benches.system.memory", *arguments)
                done = subprocess.run(
                    child, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT
                )
                if done.returncode:
                    reason = (done.stderr.splitlines() or ["no message"])[-1]
                    ended = f"ended with {done.returncode}: {reason}"
                    print(f"  {case:<30} {samples:4d} samples {ended}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 6:
        parser = argparse.ArgumentParser()
        for name in ("key", "path", "case"):
            parser.add_argument(name)
        parser.add_argument("samples", type=int)
        parser.add_argument("size")
        run_case(**vars(parser.parse_args()))
    else:
        main(smoke=False, keys=tuple(sys.argv[1:]))
