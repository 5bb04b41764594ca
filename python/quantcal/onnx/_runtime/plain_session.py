"""Sessions as an application opens them: with all optimizations of onnxruntime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal._io.files import is_text
from quantcal._io.temporary import TemporaryFolder, working
from quantcal.onnx._model.model import LoadedModel
from quantcal.onnx._runtime.child_process import load_in_child
from quantcal.onnx._runtime.session import FOLDER_KEY

if TYPE_CHECKING:
    import onnxruntime

_PROVIDERS = ["CPUExecutionProvider"]
_WEIGHTS = "weights"


def open_plain(loaded: LoadedModel, *, exact: bool) -> onnxruntime.InferenceSession:
    """Open a session with all optimizations.

    Parameters
    ----------
    loaded : LoadedModel
    exact : bool
        Compute Q/DQ nodes as written, instead of with integer kernels.

    Raises
    ------
    CalibrationError
        When onnxruntime cannot load the model.
    """
    import onnxruntime as ort

    config = {"session.disable_quant_qdq": "1"} if exact else {}
    return _open(loaded, ort.SessionOptions(), config)


def save_fused(loaded: LoadedModel) -> LoadedModel:
    """Return the graph that onnxruntime runs natively, with its fused kernels.

    Optimizations of memory layouts are left out, because they rename tensors. The kernels
    and the bits of integer results are the same. Outputs that are added to this graph
    cannot prevent a fusion, as they would in the model's own graph.
    """
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with working():
        folder = TemporaryFolder()
    path = Path(folder.path) / "fused.onnx"
    options.optimized_model_filepath = str(path)
    prefix = "session.optimized_model_external_initializers"
    options.add_session_config_entry(f"{prefix}_file_name", _WEIGHTS)
    options.add_session_config_entry(f"{prefix}_min_size_in_bytes", "1024")
    _open(loaded, options, {})
    with working():
        proto = onnx.load_model(str(path), load_external_data=False)
    return replace(loaded, proto=proto, folder=folder.path, temporary=folder, file=None)


def _open(
    loaded: LoadedModel, options: onnxruntime.SessionOptions, config: dict[str, str]
) -> onnxruntime.InferenceSession:
    import onnxruntime as ort

    options.log_severity_level = 4
    source: str | bytes
    if loaded.file is not None and is_text(loaded.file):
        source = str(loaded.file)
    else:  # onnxruntime takes no path that is not UTF-8
        source = loaded.proto.SerializeToString()
        if loaded.folder is not None:
            config = {**config, FOLDER_KEY: str(loaded.folder)}
    load_in_child(source, loaded.label, _PROVIDERS, optimize=True, config=config)
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    try:
        return ort.InferenceSession(source, options, providers=_PROVIDERS)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise CalibrationError(
            f"onnxruntime cannot load {loaded.label}: {error}"
        ) from error
