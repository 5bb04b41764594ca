"""The script of the child process, which loads models and runs written ones.

:mod:`quantcal.onnx._runtime.child_process` starts it. It imports only onnxruntime and numpy,
so that it starts fast. It reads pickled requests from stdin. Each answer is a line on stdout:
a JSON list of a stage and a message. The first answer, ``started``, means that onnxruntime is
imported. The answers to a request are:

* ``running`` and ``closing``, when that begins;
* ``unfit``, when the sample cannot be passed to onnxruntime here;
* ``loads`` or ``runs``, with the message of an exception;
* ``done`` at the end.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Numbers in onnx.TensorProto of the types of ml_dtypes. onnx is not imported here.
_ONNX_TYPES = {
    "bfloat16": 16,
    "float8_e4m3fn": 17,
    "float8_e4m3fnuz": 18,
    "float8_e5m2": 19,
    "float8_e5m2fnuz": 20,
}
_FOLDER_KEY = "session.model_external_initializers_file_folder_path"


def main() -> None:
    """Answer requests until stdin ends."""
    import json
    import pickle
    import signal

    _disable_core_dumps()
    # The terminal sends Ctrl-C to both processes. The parent handles it and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    def answer(stage: str, message: str = "") -> None:
        os.write(answers, json.dumps([stage, message]).encode() + b"\n")

    import onnxruntime  # noqa: F401

    answer("started")
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        answer(*check(request, answer))


def _disable_core_dumps() -> None:
    """Disable core dumps: the parent reports the abort."""
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def check(request: dict[str, Any], answer: Callable[[str], None]) -> tuple[str, str]:
    """Load a model, run it when there is a sample, and return the last answer."""
    import pickle

    sample = request.pop("sample")
    try:
        session = _load(**request)
    except Exception as error:
        return "loads", str(error)
    if sample is not None:
        try:
            feed = _to_ort_values(pickle.loads(sample))
        except Exception as error:
            return "unfit", str(error)
        answer("running")
        try:
            _run(session, feed)
        except Exception as error:
            return "runs", str(error)
    answer("closing")
    return "done", ""


def _load(
    path: str,
    providers: list[Any],
    optimize: bool,
    config: dict[str, str],
    library: str | None,
    taps: tuple[int, int] | None,
) -> Any:
    """Open a session with the options of quantcal.onnx._runtime.session.open_session."""
    from pathlib import Path

    import onnxruntime as ort

    options = ort.SessionOptions()
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    taps_alive = None
    if library is not None and taps is not None:
        taps_alive = _register_taps(library, *taps)
        options.register_custom_ops_library(library)
    # onnxruntime accepts weights in another folder only for models given as bytes.
    model: str | bytes = path
    if _FOLDER_KEY in config:
        model = Path(path).read_bytes()
    session = ort.InferenceSession(model, options, providers=providers)
    del taps_alive  # the session needs them only while it is opened
    return session


def _register_taps(library: str, number: int, count: int) -> Any:
    """Register recorders under at least the number that the nodes refer to."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("quantcal._core", library)
    if spec is None or spec.loader is None:
        return None
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    tensors = [(str(position), core.TensorStats()) for position in range(count)]
    made = core.Taps(tensors)
    while made.number < number:  # numbers count up from 1
        made = core.Taps(tensors)
    return made


def _to_ort_values(feed: dict[str, Any]) -> dict[str, Any]:
    """Convert a feed to OrtValues, unless it has text, sequences or maps."""
    kinds = [getattr(getattr(v, "dtype", None), "kind", "O") for v in feed.values()]
    if any(kind in "OUS" for kind in kinds):
        return feed
    return {name: _to_ort_value(array) for name, array in feed.items()}


def _to_ort_value(array: Any) -> Any:
    import onnxruntime as ort

    if array.dtype.kind != "V":
        return ort.OrtValue.ortvalue_from_numpy(array)
    bits = array.view("uint16" if array.dtype.itemsize == 2 else "uint8")
    number = _ONNX_TYPES[array.dtype.name]
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, number)


def _run(session: Any, feed: dict[str, Any]) -> None:
    """Run a sample and discard the outputs."""
    # OrtValues are not converted to numpy, which lacks some types.
    import onnxruntime as ort

    options = ort.RunOptions()
    options.log_severity_level = 4
    if all(isinstance(value, ort.OrtValue) for value in feed.values()):
        outputs = [value.name for value in session.get_outputs()]
        session.run_with_ort_values(outputs, feed, options)
    else:
        session.run(None, feed, options)


if __name__ == "__main__":
    # Without the folder of this script, whose modules would shadow others.
    sys.path[:] = sys.argv[1:]
    main()
    # A crash of a library while Python exits is no fault of the model.
    os._exit(0)
