"""Reading models, walking their graphs, and opening sessions that change nothing.

All functions here take any ONNX model; what is particular to quantisation (which nodes,
which biases) is in :mod:`quantcal.onnx.prepare`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from quantcal import CalibrationError
from quantcal.onnx.external import (
    TemporaryFolder,
    check_files,
    embed,
    external_tensors,
    move_out,
)
from quantcal.onnx.feeds import InputSpec
from quantcal.onnx.frameworks import require

if TYPE_CHECKING:
    import onnx
    import onnxruntime

    Model: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto

# The one file of weights that all sessions of a model map.
_WEIGHTS = "weights"
# Models from here on are worth a file of weights: all copies of them are light then.
_LARGE_BYTES = 16 << 20
# onnxruntime: where the weights of a model lie that it is given as bytes.
_FOLDER_KEY = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model of our own, free to be changed.

    Attributes
    ----------
    proto : ModelProto
    label : str
        The name that errors call it by.
    folder : Path, optional
        Where the weights lie that are still in files of their own; None when there are
        none.
    made : TemporaryFolder, optional
        The folder, where it was made for them: it goes when nobody holds this any more.
    """

    proto: onnx.ModelProto
    label: str
    folder: Path | None = None
    made: TemporaryFolder | None = None


def load_model(model: Model, *, weights: bool = True) -> Loaded:
    """Read a model from a path, bytes or a ModelProto, which is copied.

    External data is found beside the file, so such models must come by path.

    Parameters
    ----------
    model : path, bytes or ModelProto
    weights : bool
        Read external data too. Without, all but small tensors stay in their files, which
        sessions map: that is enough to run a model of any size.

    Raises
    ------
    CalibrationError
        When it cannot be read.
    """
    require()
    import onnx

    folder = None
    if isinstance(model, onnx.ModelProto):
        proto, label = onnx.ModelProto(), "the model"
        proto.CopyFrom(model)
    elif isinstance(model, bytes):
        label = "the model"
        proto = _parse(lambda: onnx.load_model_from_string(model), label)
    else:
        path = Path(model)
        label = str(path)
        if not path.is_file():
            raise CalibrationError(f"{label} is no file. Give the path of a model.")
        folder = path.resolve().parent
        proto = _parse(lambda: onnx.load(path, load_external_data=False), label)
    if not proto.graph.node:
        raise CalibrationError(f"{label} is no ONNX model, or its graph is empty.")
    outside = next(external_tensors(proto), None)
    if outside is None:
        return Loaded(proto, label)
    if folder is None:
        raise CalibrationError(
            f"The weight {outside.name!r} lies in another file, which only the "
            "model's path can tell. Pass the path instead of the object."
        )
    check_files(proto, folder, label)
    if weights:
        return with_weights(Loaded(proto, label, folder))
    _parse(lambda: embed(proto, folder, small_only=True), label)
    return Loaded(proto, label, folder)


def load_light(model: Model) -> Loaded:
    """Read a model as ``load_model(weights=False)``, so that copies of it are small.

    The weights of a large model that has them in itself are written to a temporary file:
    sessions map it, and what rewrites the model reads them one at a time. With several
    copies of them in memory, observing a model of 90 MB took 320 MB more.
    """
    loaded = load_model(model, weights=False)
    if loaded.folder is not None or loaded.proto.ByteSize() < _LARGE_BYTES:
        return loaded
    made = TemporaryFolder()
    move_out(loaded.proto, made.path, _WEIGHTS)
    # A message keeps the memory of what was taken out of it; a copy has none.
    proto = type(loaded.proto)()
    proto.CopyFrom(loaded.proto)
    return replace(loaded, proto=proto, folder=made.path, made=made)


def with_weights(loaded: Loaded) -> Loaded:
    """Return the model with all its weights in memory."""
    folder = loaded.folder
    if folder is None:
        return loaded
    _parse(lambda: embed(loaded.proto, folder), loaded.label)
    return Loaded(loaded.proto, loaded.label)


def _parse(read: Any, label: str) -> Any:
    try:
        return read()
    except Exception as error:  # protobuf, OS and external-data errors alike
        raise CalibrationError(f"Cannot read {label}: {error}") from error


def model_inputs(proto: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """Return what the model says of its inputs, in its order."""
    defaults = {tensor.name for tensor in proto.graph.initializer}
    return tuple(
        _spec(value, value.name not in defaults)
        for value in proto.graph.input
        if value.name not in defaults or proto.ir_version >= 4
    )


def _spec(value: onnx.ValueInfoProto, required: bool) -> InputSpec:
    import onnx

    if not value.type.HasField("tensor_type"):
        return InputSpec(value.name, None, None, required)
    tensor = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if not tensor.HasField("shape"):
        return InputSpec(value.name, dtype, None, required)
    # A dimension of 0 is how some exporters write "unknown".
    shape = tuple(dim.dim_value or None for dim in tensor.shape.dim)
    return InputSpec(value.name, dtype, shape, required)


def opset_of(proto: onnx.ModelProto) -> int:
    """Return the version of the standard operators; 0 when the model imports none."""
    versions = [o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"}]
    return max(versions, default=0)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a control-flow node holds (If, Loop, Scan)."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def inputs_of(node: onnx.NodeProto) -> list[str]:
    """Return all that a node reads: its inputs and what its subgraphs capture."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        made = {value.name for value in graph.input}
        made |= {tensor.name for tensor in graph.initializer}
        made |= {name for inner in graph.node for name in inner.output}
        read = [name for inner in graph.node for name in inputs_of(inner)]
        read += [value.name for value in graph.output]
        names += [name for name in read if name not in made]
    return names


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of all its subgraphs."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def constants_of(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that no input of the model can change, in subgraphs too.

    Initializers that are inputs too can be overridden only in name: a quantised weight
    is fixed. Random generators and control flow count as variable.
    """
    fixed: set[str] = set()
    _add_constants(graph, fixed)
    return fixed


def _add_constants(graph: onnx.GraphProto, fixed: set[str]) -> None:
    fixed |= {tensor.name for tensor in graph.initializer}
    fixed |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        inside = list(subgraphs(node))
        for inner in inside:
            _add_constants(inner, fixed)
        variable = bool(inside) or node.op_type.startswith(
            ("Random", "Multinomial", "Bernoulli", "Dropout")
        )
        if not variable and all(name in fixed for name in node.input if name):
            fixed.update(name for name in node.output if name)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node after all that it reads, else keep the order.

    onnxruntime's own sort does not see what subgraphs capture.
    """
    nodes = list(graph.node)
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    done = [False] * len(nodes)
    order: list[int] = []
    for root in range(len(nodes)):
        stack = [root]
        while stack:
            i = stack[-1]
            needs = [maker[n] for n in inputs_of(nodes[i]) if n in maker]
            waiting = [] if done[i] else [j for j in needs if not done[j] and j != i]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            if not done[i]:
                done[i] = True
                order.append(i)
    ordered = [nodes[i] for i in order]
    del graph.node[:]
    graph.node.extend(ordered)


class Workspace:
    """A place from which a model's weights serve any number of sessions.

    Sessions over variants of the graph (other outputs, added nodes) map the same
    weights file, so several of them cost little more memory than one. That file is made
    in a temporary folder; where the model has files of weights, those are mapped.

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
        # Windows refuses to delete what a session still maps; its temp folder may keep it.
        self._folder = tempfile.TemporaryDirectory(
            prefix="quantcal-", ignore_cleanup_errors=True
        )
        self._made = 0
        self.light = onnx.ModelProto()
        self.light.CopyFrom(loaded.proto)
        if self._weights is None:
            folder = Path(self._folder.name)
            move_out(self.light, folder, _WEIGHTS)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _path(self) -> str:
        self._made += 1
        return str(Path(self._folder.name) / f"graph{self._made}.onnx")

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
    ) -> onnxruntime.InferenceSession:
        """Open a session of a variant of the model.

        Parameters
        ----------
        change : callable
            Given a copy of the model, whose weights lie outside, to change.
        prepare : callable, optional
            Given the session's options, to add to.
        """
        import onnx

        proto = onnx.ModelProto()
        proto.CopyFrom(self.light)
        change(proto)
        content = proto.SerializeToString()
        if self._weights is not None:
            # onnxruntime refuses links and whole paths to weights, not another folder.
            return open_session(
                content,
                self.label,
                self.providers,
                config={_FOLDER_KEY: str(self._weights)},
                prepare=prepare,
            )
        path = self._path()
        Path(path).write_bytes(content)
        return open_session(path, self.label, self.providers, prepare=prepare)

    def types(self, names: Iterable[str]) -> dict[str, str]:
        """Ask onnxruntime for the types of tensors, such as ``"tensor(float)"``."""
        session = self.open(names)
        return {value.name: value.type for value in session.get_outputs()}


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


def tensors_of(graph: onnx.GraphProto) -> list[str]:
    """Return the outputs of all nodes, in the order of the graph."""
    return [name for node in graph.node for name in node.output if name]


def unique_name(base: str, taken: set[str]) -> str:
    """Return ``base``, or ``base`` with a number, and add it to ``taken``."""
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return name


def names_of(graph: onnx.GraphProto) -> set[str]:
    """Return every tensor name in the graph and its subgraphs."""
    names = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    for node in graph.node:
        names.update(name for name in (*node.input, *node.output) if name)
        for inner in subgraphs(node):
            names |= names_of(inner)
    return names
