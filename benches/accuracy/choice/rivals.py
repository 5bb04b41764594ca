"""Other libraries' static quantization, from the same prepared model and samples.

Both get the model as quantcal prepares it: at opset 13 or later, with folded normalizations,
without what they refuse. onnxsim is no part of the project's environment: QUANTCAL_ONNXSIM
names the interpreter that has it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from benches.accuracy import ort_static
from benches.accuracy.collection.case import Feed
from quantcal.onnx._model.model import load_model
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.preparation import prepare

VARIABLE = "QUANTCAL_ONNXSIM"
_SCRIPT = Path(__file__).with_name("onnxsim_script.py")
_peaks: list[float] = []


class MissingRivalError(Exception):
    """A library that is compared with is not installed; the message says how to get it."""


def onnxruntime(
    model: Path, output: Path, samples: Sequence[Feed], method: str
) -> None:
    """Quantize with onnxruntime alone, weights of 8 bits by channel."""
    ort_static.quantize(model, output, samples, method, reduce_range=False)


def onnxsim(model: Path, output: Path, samples: Sequence[Feed], method: str) -> None:
    """Quantize with onnxsim's `quantize_static` or `pick_calibration`, in a child."""
    interpreter = os.environ.get(VARIABLE, sys.executable)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = folder / "float.onnx"
        onnx.save(prepare(load_model(model), Options.of()).proto, source)
        for i, sample in enumerate(samples):
            np.savez(folder / f"{i:06}.npz", **sample)
        command = [interpreter, str(_SCRIPT), method, str(folder), str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named 'onnxsim'" in done.stderr:
        raise MissingRivalError(
            f"onnxsim is not installed for {interpreter}. Install onnxsim==0.8.1 in an "
            f"another environment and set {VARIABLE} to its interpreter."
        )
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise RuntimeError(f"onnxsim failed: {''.join(last)}")
    report = json.loads(done.stdout.splitlines()[-1])
    _peaks.append(report["mebibytes"])


def take_peak() -> float | None:
    """Return the peak of children since the last call, in MiB; None without any."""
    found = max(_peaks, default=None)
    _peaks.clear()
    return found
