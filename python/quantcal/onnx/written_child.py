"""The process that loads models first, and runs a written one, as a script of its own.

It imports onnxruntime and numpy only. :mod:`quantcal.onnx.load_first` asks it to load models,
as many as there are. :mod:`quantcal.onnx.check_written` asks it to load and run a single one.
It reports on that by a file, since libraries may print anything:

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
_FOLDER_KEY = "session.model_external_initializers_file_folder_path"


def main(folder: str) -> None:
    """Do what ``request.pickle`` in a folder says, and write ``report`` there."""
    import pickle
    import signal
    from pathlib import Path

    _leave_no_core()
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


def _leave_no_core() -> None:
    """Let an abort, which the parent reports, write no file into the working folder."""
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def serve() -> None:
    """Load what the requests on stdin name, and answer each by an empty line on stdout.

    The first line says that onnxruntime is imported. Whether a model can be loaded is not
    said: only the end of this process means something.
    """
    import pickle
    import signal
    from contextlib import suppress

    _leave_no_core()
    # Ctrl-C is for the parent, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)  # libraries may print anything
    import onnxruntime  # noqa: F401

    os.write(answers, b"\n")
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        with suppress(Exception):
            _load(**request)
        os.write(answers, b"\n")


def _load(
    path: str,
    providers: list[Any],
    optimise: bool,
    config: dict[str, str],
    library: str | None,
    taps: tuple[int, int] | None,
) -> None:
    """Open a session as quantcal.onnx.session.open_session does, and drop it."""
    from pathlib import Path

    import onnxruntime as ort

    options = ort.SessionOptions()
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    laid = None
    if library is not None and taps is not None:
        laid = _lay_taps(library, *taps)
        options.register_custom_ops_library(library)
    # Weights in another folder are for models that come as bytes.
    model: str | bytes = path
    if _FOLDER_KEY in config:
        model = Path(path).read_bytes()
    ort.InferenceSession(model, options, providers=providers)
    del laid  # sessions look for them while they are opened


def _lay_taps(library: str, number: int, count: int) -> Any:
    """Lay down recorders under the number that the nodes carry, or under a later one."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("quantcal._core", library)
    if spec is None or spec.loader is None:
        return None
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    tensors = [(str(position), core.TensorStats()) for position in range(count)]
    laid = core.Taps(tensors)
    while laid.number < number:  # numbers count up from 1
        laid = core.Taps(tensors)
    return laid


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
    if sys.argv[1] == "-":
        serve()
    else:
        main(sys.argv[1])
    # Libraries that fail while Python closes down say nothing of the model.
    os._exit(0)
