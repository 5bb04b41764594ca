"""The process that loads models first, and runs a written one, as a script of its own.

It is started by :mod:`quantcal.onnx._runtime.load_first` and imports only onnxruntime and
numpy. Requests come on stdin, pickled. Each answer is a line on stdout, a list of a stage and a
message as JSON. The first answer says that onnxruntime is imported. For each request follow:

* ``running`` and ``closing``, when that begins;
* ``unfit`` when the sample cannot be given to onnxruntime here;
* ``loads`` or ``runs`` with the message of an exception;
* ``done`` at the end.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Of onnx.TensorProto, for types of ml_dtypes
_NUMBERS = {
    "bfloat16": 16,
    "float8_e4m3fn": 17,
    "float8_e4m3fnuz": 18,
    "float8_e5m2": 19,
    "float8_e5m2fnuz": 20,
}
_FOLDER_KEY = "session.model_external_initializers_file_folder_path"


def main() -> None:
    """Answer requests until their end."""
    import json
    import pickle
    import signal

    _leave_no_core()
    # Ctrl-C is for the parent, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)  # libraries may print anything

    def tell(stage: str, message: str = "") -> None:
        os.write(answers, json.dumps([stage, message]).encode() + b"\n")

    import onnxruntime  # noqa: F401

    tell("started")
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        tell(*check(request, tell))


def _leave_no_core() -> None:
    """Let an abort, which the parent reports, write no file into the working folder."""
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def check(request: dict[str, Any], tell: Callable[[str], None]) -> tuple[str, str]:
    """Load a model, and run it when there is a sample; return the answer."""
    import pickle

    sample = request.pop("sample")
    try:
        session = _load(**request)
    except Exception as error:
        return "loads", str(error)
    if sample is not None:
        try:
            feed = _values(pickle.loads(sample))
        except Exception as error:
            return "unfit", str(error)
        tell("running")
        try:
            _run(session, feed)
        except Exception as error:
            return "runs", str(error)
    tell("closing")
    return "done", ""


def _load(
    path: str,
    providers: list[Any],
    optimise: bool,
    config: dict[str, str],
    library: str | None,
    taps: tuple[int, int] | None,
) -> Any:
    """Open a session as quantcal.onnx._runtime.session.open_session does."""
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
    session = ort.InferenceSession(model, options, providers=providers)
    del laid  # sessions look for them while they are opened
    return session


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
    sys.path[:] = sys.argv[1:]
    main()
    # Libraries that fail while Python closes down say nothing of the model.
    os._exit(0)
