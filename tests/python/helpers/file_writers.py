"""A small example of each function that writes files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import onnx_models as models
import quantcal as qc

FEEDS = [{"x": models.random(1, 3, 9, 12)}]


def calibrator() -> qc.Calibrator:
    cal = qc.Calibrator()
    cal.observe("x", np.linspace(-1, 1, 50, dtype=np.float32))
    return cal


SAVE: dict[str, Callable[[Path], Any]] = {
    "histograms": lambda path: calibrator().save(path),
    "table": lambda path: calibrator().compute("minmax").save(path),
    "model": lambda path: qc.onnx.quantize(
        models.conv_net(), path, FEEDS, progress=False
    ),
}
