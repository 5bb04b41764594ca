"""Peak memory and time of observing a detection network, each case in a process of its own.

`python benches/python/memory.py` runs all cases; with arguments, one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE = 640  # pixels


def feeds(samples: int, side: int):
    """Yield smooth random images: noise alone would not excite a detector."""
    generator = np.random.default_rng(0)
    for _ in range(samples):
        coarse = generator.normal(size=(1, 3, side // 16, side // 16))
        yield {"x": coarse.repeat(16, 2).repeat(16, 3).astype(np.float32)}


def run_case(case: str, samples: int, side: int) -> None:
    """Observe `samples` images in this process and print time and peak memory."""
    from quantcal.demo.fetch import MODELS
    from quantcal.onnx.result import peak_memory

    path = MODELS["pp-ocr-det"].fetch()
    start = time.perf_counter()
    if case == "plain inference":
        session = _plain(path)
        for feed in feeds(samples, side):
            session.run(None, feed)
    elif case.startswith("onnxruntime"):
        _onnxruntime(path, case.split()[1], samples, side)
    else:
        import quantcal as qc

        calibrator = qc.onnx.observe(
            path,
            feeds(samples, side),
            tensors="all" if "all tensors" in case else None,
            method="outputs" if "outputs" in case else "in_graph",
        )
        calibrator.compute("mse", format="uint8")
    seconds = time.perf_counter() - start
    peak = (peak_memory() or 0) / 1e6
    print(f"  {case:<30} {samples:4d} samples {seconds:8.1f} s {peak:8.0f} MB peak")


def _plain(path: Path):
    """Open the graph as it is observed: not optimised, nothing kept between runs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _onnxruntime(path: Path, method: str, samples: int, side: int) -> None:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = feeds(samples, side)

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


def main(*, smoke: bool) -> None:
    """Run every case, one process each."""
    side = 96 if smoke else SIDE
    cases = [
        ("plain inference", 8),
        ("quantcal", 8),
        *(("quantcal, all tensors", samples) for samples in (1, 8, 64)),
        ("quantcal, all tensors, outputs", 8),
        ("onnxruntime MinMax", 8),
        ("onnxruntime Percentile", 8),
        ("onnxruntime Entropy", 8),
    ]
    print(f"\nPP-OCRv4 detector, {side} × {side}, float32", flush=True)
    for case, samples in cases[:3] if smoke else cases:
        count = str(2 if smoke else samples)
        command = [sys.executable, __file__, case, count, str(side)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        parser = argparse.ArgumentParser()
        parser.add_argument("case")
        parser.add_argument("samples", type=int)
        parser.add_argument("side", type=int)
        run_case(**vars(parser.parse_args()))
    else:
        main(smoke=False)
