"""The process that loads and runs a written model first, as a script of its own.

It is started by :mod:`quantcal.onnx.check_written` and imports onnxruntime and numpy
only. It reports by a file, since libraries may print anything:

* ``started`` once onnxruntime is imported;
* ``loads`` or ``runs`` with the message of an exception;
* ``done`` at the end.
"""

from __future__ import annotations

import os
import sys
from typing import Any


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
    # As quantcal.onnx.session.open_session: no memory is kept, errors are exceptions.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(path, options, providers=providers)
    except Exception as error:
        return tell("loads", str(error))
    if feed_bytes is not None:
        feed = pickle.loads(feed_bytes)
        told = ort.RunOptions()
        told.log_severity_level = 4
        tell("running")
        try:
            run(session, feed, told)
        except Exception as error:
            return tell("runs", str(error))
    return tell("done")


def run(session: Any, feed: dict[str, Any], options: Any) -> None:
    """Run a sample, and leave the outputs where they are: numpy lacks some types."""
    import onnxruntime as ort

    values = {}
    for name, array in feed.items():
        kind = getattr(getattr(array, "dtype", None), "kind", None)
        if kind == "V":  # bfloat16 and other types of ml_dtypes
            values[name] = _unusual(session, name, array)
        elif kind is None or kind in "OUS":
            # Text, sequences and maps, which no OrtValue takes
            session.run(None, feed, options)
            return
        else:
            values[name] = ort.OrtValue.ortvalue_from_numpy(array)
    outputs = [value.name for value in session.get_outputs()]
    session.run_with_ort_values(outputs, values, options)


def _unusual(session: Any, name: str, array: Any) -> Any:
    import onnxruntime as ort

    numbers = {
        "bfloat16": 16,
        "float8_e4m3fn": 17,
        "float8_e4m3fnuz": 18,
        "float8_e5m2": 19,
        "float8_e5m2fnuz": 20,
    }
    bits = array.view("uint16" if array.dtype.itemsize == 2 else "uint8")
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
        bits, numbers[array.dtype.name]
    )


if __name__ == "__main__":
    # The folder of this script comes first; its modules must hide no others.
    del sys.path[0]
    sys.path[:] = sys.argv[2:]
    main(sys.argv[1])
    # Libraries that fail while Python closes down say nothing of the model.
    os._exit(0)
