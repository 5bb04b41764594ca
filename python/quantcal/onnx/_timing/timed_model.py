"""A model whose runs are timed: whole, and kernel by kernel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal._io.temporary import TemporaryFolder, working
from quantcal.onnx._model.model import load_light
from quantcal.onnx._runtime.child_process import load_in_child
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.session import FOLDER_KEY
from quantcal.onnx._timing.marks import Marks
from quantcal.onnx._timing.profile import (
    Kernel,
    kernels_of,
    read_runs,
    times_of,
    with_types,
)
from quantcal.onnx._timing.sample_counts import with_unique_names

if TYPE_CHECKING:
    import onnx
    import onnxruntime

    from quantcal.onnx._graph.inputs import Sample
    from quantcal.onnx._model.model import LoadedModel, Model

_PROVIDERS = ["CPUExecutionProvider"]
_SAVED = "optimized.onnx"


class TimedModel:
    """A model as :func:`quantcal.onnx.quantize` names its nodes, and as an application runs it.

    Parameters
    ----------
    model : path, bytes or ModelProto
    threads : int
        Of a run; 0 leaves it to onnxruntime.

    Attributes
    ----------
    loaded : LoadedModel
        Functions are inlined, nodes and values have unique names.
    marks : Marks
        The marks in the names of the model that runs.
    """

    def __init__(self, model: Model, threads: int) -> None:
        loaded = with_unique_names(load_light(model))
        self.loaded: LoadedModel = loaded
        self.marks = Marks(loaded.proto.graph)
        self._threads = threads
        self._config: dict[str, str] = {}
        if loaded.folder is not None:
            self._config[FOLDER_KEY] = str(loaded.folder)
        marked = type(loaded.proto)()
        marked.CopyFrom(loaded.proto)
        self.marks.rename(marked.graph)
        self._content = marked.SerializeToString()
        load_in_child(
            self._content, self.label, _PROVIDERS, optimize=True, config=self._config
        )

    @property
    def label(self) -> str:
        """The name of the model in errors."""
        return self.loaded.label

    @property
    def graph(self) -> onnx.GraphProto:
        """The graph with the user's names."""
        return self.loaded.proto.graph

    def open(
        self, config: Mapping[str, str] | None = None, **fields: Any
    ) -> onnxruntime.InferenceSession:
        """Open a session with all optimizations; ``fields`` are those of its options."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self._threads
        # Threads of one session must not spin while the other one runs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        for key, value in {**self._config, **(config or {})}.items():
            options.add_session_config_entry(key, value)
        for name, value in fields.items():
            setattr(options, name, value)
        try:
            return ort.InferenceSession(self._content, options, providers=_PROVIDERS)
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise CalibrationError(
                f"onnxruntime cannot load {self.label}: {error}"
            ) from error


class WholeRuns:
    """Times whole runs of a model, without a profiler."""

    def __init__(self, model: TimedModel) -> None:
        self._session = model.open()
        self._label = model.label
        self._names = [value.name for value in self._session.get_outputs()]

    def __call__(self, sample: Sample) -> float:
        """Run a sample; return milliseconds."""
        where = f"{self._label}, {sample.where}"
        start = perf_counter()
        run(self._session, self._names, sample.feed, where, whole=True)
        return 1000 * (perf_counter() - start)


class ProfiledRuns:
    """Times the kernels of a model by onnxruntime's profiler.

    Attributes
    ----------
    kernels : dict of str to Kernel
        The nodes of the optimized graph, by name; their types are known after :meth:`end`.
    """

    def __init__(self, model: TimedModel) -> None:
        import onnx

        self._label = model.label
        self._runs = 0
        with working():
            self._folder = TemporaryFolder()
        path = self._folder.path
        try:
            self._session = model.open(
                # Else a graph with its weights may exceed what one file can hold.
                {"session.optimized_model_external_initializers_file_name": "weights"},
                enable_profiling=True,
                profile_file_prefix=str(path / "profile"),
                optimized_model_filepath=str(path / _SAVED),
            )
            saved = onnx.load(path / _SAVED, load_external_data=False)
        except BaseException:
            self._folder.close()
            raise
        self.kernels: dict[str, Kernel] = kernels_of(saved.graph)
        self._names = [value.name for value in self._session.get_outputs()]

    def __call__(self, sample: Sample) -> None:
        """Run a sample."""
        self._runs += 1
        where = f"{self._label}, {sample.where}"
        run(self._session, self._names, sample.feed, where, whole=True)

    def end(self) -> list[dict[str, float]]:
        """Return the milliseconds of each kernel, run by run."""
        with working():
            path = Path(self._session.end_profiling())
            runs = read_runs(path, self._label, self._runs)
        self.close()
        for events in runs:
            self.kernels = with_types(self.kernels, events)
        return [times_of(events, self.kernels) for events in runs]

    def close(self) -> None:
        """Delete the files."""
        self._folder.close()
