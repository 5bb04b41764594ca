"""Sessions over variants of a model, which change nothing and share its weights.

All map one file of weights, so several of them cost little more memory than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal._io.temporary import TemporaryFolder, working
from quantcal.onnx._graph.external import move_out
from quantcal.onnx._model.model import WEIGHTS_FILE, Loaded
from quantcal.onnx._runtime.load_first import load_first

if TYPE_CHECKING:
    import onnx
    import onnxruntime

FOLDER_KEY = "session.model_external_initializers_file_folder_path"
"""onnxruntime's option: where the weights lie of a model that it is given as bytes."""


class Workspace:
    """A place from which a model's weights serve any number of sessions.

    Sessions over variants of the graph (other outputs, added nodes) map the same
    weights file, so several of them cost little more memory than one. That file is made
    in a temporary folder; where the model has files of weights, those are mapped.

    The first variant is loaded in a child process before
    (:mod:`quantcal.onnx._runtime.load_first`).

    Parameters
    ----------
    loaded : Loaded
        Left as it is.
    providers : sequence of str, optional
        onnxruntime execution providers; the CPU by default.
    """

    def __init__(self, loaded: Loaded, providers: Sequence[str] | None = None) -> None:
        import onnx

        self.label = loaded.label
        self.providers = list(providers or ["CPUExecutionProvider"])
        self._weights = loaded.folder
        self._made = 0
        self._opened = False
        self.light = onnx.ModelProto()
        self.light.CopyFrom(loaded.proto)
        with working():
            self._folder = TemporaryFolder()
            if self._weights is None:
                move_out(self.light, self._folder.path, WEIGHTS_FILE)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.close()

    def _path(self) -> str:
        self._made += 1
        return str(self._folder.path / f"graph{self._made}.onnx")

    def open(
        self, outputs: Iterable[str], *, nodes: Sequence[onnx.NodeProto] | None = None
    ) -> onnxruntime.InferenceSession:
        """Open a session whose outputs are exactly ``outputs``.

        Parameters
        ----------
        outputs : iterable of str
            Tensors of the graph; their types need not be known.
        nodes : sequence of NodeProto, optional
            The nodes to run instead of the model's own.
        """
        import onnx

        def changed(proto: onnx.ModelProto) -> None:
            del proto.graph.output[:]
            proto.graph.output.extend(
                onnx.ValueInfoProto(name=name) for name in outputs
            )
            if nodes is not None:
                del proto.graph.node[:]
                proto.graph.node.extend(nodes)

        return self.open_changed(changed)

    def open_changed(
        self,
        change: Callable[[onnx.ModelProto], None],
        *,
        prepare: Callable[[onnxruntime.SessionOptions], None] | None = None,
        taps: tuple[int, int] | None = None,
    ) -> onnxruntime.InferenceSession:
        """Open a session of a variant of the model.

        Parameters
        ----------
        change : callable
            Given a copy of the model, whose weights lie outside, to change.
        prepare : callable, optional
            Given the session's options, to add to.
        taps : tuple of (int, int), optional
            The number of the recorders of ``quantcal::Observe``, and how many they are.
        """
        import onnx

        proto = onnx.ModelProto()
        proto.CopyFrom(self.light)
        change(proto)
        content = proto.SerializeToString()
        # onnxruntime refuses links and whole paths to weights, not another folder.
        config = {} if self._weights is None else {FOLDER_KEY: str(self._weights)}
        source: str | bytes = content
        if self._weights is None:
            source = self._path()
            with working():
                Path(source).write_bytes(content)
        if not self._opened:
            load_first(source, self.label, self.providers, config=config, taps=taps)
        session = open_session(
            source, self.label, self.providers, config=config, prepare=prepare
        )
        self._opened = True
        return session

    def types(self, names: Iterable[str]) -> dict[str, str]:
        """Ask onnxruntime for the types of tensors, such as ``"tensor(float)"``."""
        return self.types_and_ranks(names)[0]

    def types_and_ranks(
        self, names: Iterable[str]
    ) -> tuple[dict[str, str], dict[str, int]]:
        """Ask for the types of tensors, and for ranks of these and of the inputs.

        Unknown ranks are missing, and so are those of scalars, which look the same.
        """
        session = self.open(names)
        outputs = session.get_outputs()
        ranks = {
            value.name: len(value.shape)
            for value in (*session.get_inputs(), *outputs)
            if value.shape
        }
        return {value.name: value.type for value in outputs}, ranks


def open_session(
    model: str | bytes,
    label: str,
    providers: Sequence[str],
    *,
    optimise: bool = False,
    config: Mapping[str, str] | None = None,
    prepare: Callable[[onnxruntime.SessionOptions], None] | None = None,
) -> onnxruntime.InferenceSession:
    """Open a session of a file or of bytes that keeps no memory between runs.

    Graph optimisations stay off unless asked for: they would remove or change tensors.

    Raises
    ------
    CalibrationError
        When onnxruntime cannot load the model; names it and gives the reason.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Nodes that only measure a tensor then run right behind it, and it can be freed.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    # An arena and memory patterns keep the largest sample's memory for ever.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # Between runs the processors belong to who prepares the next sample.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4  # errors come as exceptions, with our words
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    if prepare is not None:
        prepare(options)
    try:
        return ort.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # onnxruntime's exceptions have no common base
        reason = str(error)
        if isinstance(model, str):
            reason = reason.replace(model, label)
        raise CalibrationError(f"onnxruntime cannot load {label}: {reason}") from error
