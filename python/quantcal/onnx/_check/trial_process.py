"""The process that loads and runs a written model first, as a script of its own.

It is started by :mod:`quantcal.onnx._check.trial_run` and imports onnxruntime and numpy
only. It reports by a file, since libraries may print anything:

* ``started`` once onnxruntime is imported;
* ``unfit`` when the sample cannot be given to it here;
* ``loads`` or ``runs`` with the message of an exception;
* ``done`` at the end.
"""

from __future__ import annotations

import os
import sys
from typing import Any

# Of onnx.TensorProto, for types of ml_dtypes
_NUMBERS = {
    "bfloat16": 16,
    "float8_e4m3fn": 17,
    "float8_e4m3fnuz": 18,
    "float8_e5m2": 19,
    "float8_e5m2fnuz": 20,
}


def main(folder: str) -> None:
    """Do what ``request.pickle`` in a folder says, and write ``report`` there."""
    import pickle
    import signal
    from pathlib import Path

    # An interrupt must not wait for C code.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    request = (Path(folder) / "request.pickle").read_bytes()
    path, providers, feed_bytes = pickle.loads(request)
    report = Path(folder) / "report"

    def tell(stage: str, message: str = "") -> None:
        report.write_text(f"{stage}\n{message}", "utf-8", "backslashreplace")

    import onnxruntime as ort

    tell("started")
    options = ort.SessionOptions()
    # As quantcal.onnx._runtime.session.open_session: no memory is kept, errors are exceptions.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(path, options, providers=providers)
    except Exception as error:
        return tell("loads", str(error))
    if feed_bytes is None:
        return tell("done")
    try:
        feed = _values(pickle.loads(feed_bytes))
    except Exception as error:
        return tell("unfit", str(error))
    tell("running")
    try:
        _run(session, feed)
    except Exception as error:
        return tell("runs", str(error))
    return tell("done")


def _values(feed: dict[str, Any]) -> dict[str, Any]:
    """Return what onnxruntime takes: text, sequences and maps only as they are."""
    kinds = [getattr(getattr(v, "dtype", None), "kind", "O") for v in feed.values()]
    if any(kind in "OUS" for kind in kinds):
        return feed
    return {name: _value(array) for name, array in feed.items()}


def _value(array: Any) -> Any:
    import onnxruntime as ort

    if array.dtype.kind != "V":
        return ort.OrtValue.ortvalue_from_numpy(array)
    bits = array.view("uint16" if array.dtype.itemsize == 2 else "uint8")
    number = _NUMBERS[array.dtype.name]
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, number)


def _run(session: Any, feed: dict[str, Any]) -> None:
    """Run a sample, and leave the outputs where they are: numpy lacks some types."""
    import onnxruntime as ort

    options = ort.RunOptions()
    options.log_severity_level = 4
    if all(isinstance(value, ort.OrtValue) for value in feed.values()):
        outputs = [value.name for value in session.get_outputs()]
        session.run_with_ort_values(outputs, feed, options)
    else:
        session.run(None, feed, options)


if __name__ == "__main__":
    # Not the folder of this script: its modules would hide others.
    sys.path[:] = sys.argv[2:]
    main(sys.argv[1])
    # Libraries that fail while Python closes down say nothing of the model.
    os._exit(0)
