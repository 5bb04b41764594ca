"""Sessions over variants of a model that share one memory-mapped file of weights.

Several of them need little more memory than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal._io.temporary import TemporaryFolder, working
from quantcal.onnx._graph.external_data import externalize_weights
from quantcal.onnx._model.model import WEIGHTS_FILE, LoadedModel
from quantcal.onnx._runtime.child_process import load_in_child
from quantcal.onnx._runtime.providers import check_session

if TYPE_CHECKING:
    import onnx
    import onnxruntime

FOLDER_KEY = "session.model_external_initializers_file_folder_path"
"""onnxruntime's option for the folder of external data of a model given as bytes."""


class Workspace:
    """Opens sessions over variants of a model, with other outputs or added nodes.

    All sessions map the same weights. These are the model's external data, or a file in a
    temporary folder. The first variant is loaded in a child process first
    (:mod:`quantcal.onnx._runtime.child_process`).

    Parameters
    ----------
    loaded : LoadedModel
        The model, which is not changed.
    providers : sequence of str, optional
        onnxruntime's execution providers, by default the CPU.
    """

    def __init__(
        self, loaded: LoadedModel, providers: Sequence[str] | None = None
    ) -> None:
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
                externalize_weights(self.light, self._folder.path, WEIGHTS_FILE)

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
        """Open a session with exactly these outputs.

        Parameters
        ----------
        outputs : iterable of str
            Tensors of the graph. Their types may be unknown.
        nodes : sequence of NodeProto, optional
            The nodes to run, by default those of the model.
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
        optimize: bool = False,
        config: Mapping[str, str] | None = None,
        disabled: Iterable[str] = (),
    ) -> onnxruntime.InferenceSession:
        """Open a session of a variant of the model.

        Parameters
        ----------
        change : callable
            Changes a copy of the model, whose weights are external.
        prepare : callable, optional
            Changes the session options.
        taps : tuple of (int, int), optional
            The identifier of a set of recorders for ``quantcal::Observe``, and their count.
        optimize, config, disabled
            As for :func:`open_session`.
        """
        import onnx

        proto = onnx.ModelProto()
        proto.CopyFrom(self.light)
        change(proto)
        content = proto.SerializeToString()
        # onnxruntime refuses links and absolute paths to weights, but has this option.
        config = dict(config or {})
        if self._weights is not None:
            config[FOLDER_KEY] = str(self._weights)
        source: str | bytes = content
        if self._weights is None:
            source = self._path()
            with working():
                Path(source).write_bytes(content)
        if not self._opened:
            load_in_child(
                source,
                self.label,
                self.providers,
                optimize=optimize,
                config=config,
                taps=taps,
            )
        session = open_session(
            source,
            self.label,
            self.providers,
            optimize=optimize,
            config=config,
            prepare=prepare,
            disabled=disabled,
        )
        self._opened = True
        return session

    def types(self, names: Iterable[str]) -> dict[str, str]:
        """Return onnxruntime's types of tensors, such as ``"tensor(float)"``."""
        return self.types_and_ranks(names)[0]

    def types_and_ranks(
        self, names: Iterable[str]
    ) -> tuple[dict[str, str], dict[str, int]]:
        """Return the types of tensors, and the ranks of these and of the inputs.

        Unknown ranks are missing. Scalars are missing too, because onnxruntime reports
        them like unknown ranks.
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
    optimize: bool = False,
    config: Mapping[str, str] | None = None,
    prepare: Callable[[onnxruntime.SessionOptions], None] | None = None,
    disabled: Iterable[str] = (),
) -> onnxruntime.InferenceSession:
    """Open a session that keeps no memory between runs.

    Graph optimizations are off by default, because they remove or change tensors.
    ``disabled`` names those that stay off with ``optimize``.

    Raises
    ------
    CalibrationError
        When onnxruntime cannot load the model, or would not use one of the providers. Names
        the model and gives the reason.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Nodes that only measure a tensor then run right after it, so that it is freed early.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    # An arena and memory patterns would keep the memory of the largest sample.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # Between runs, idle threads must not spin: the CPU prepares the next sample.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4  # errors are raised as exceptions, with our messages
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    if prepare is not None:
        prepare(options)
    try:
        session = ort.InferenceSession(
            model,
            options,
            providers=list(providers),
            disabled_optimizers=list(disabled),
        )
    except Exception as error:  # onnxruntime's exceptions have no common base
        reason = str(error)
        if isinstance(model, str):
            reason = reason.replace(model, label)
        raise CalibrationError(f"onnxruntime cannot load {label}: {reason}") from error
    check_session(session, providers, label)
    return session
