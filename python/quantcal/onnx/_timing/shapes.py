"""The shapes of all tensors of one run, from the events of onnxruntime's profiler.

Nothing is returned by the run itself, so it takes the memory of plain inference. Shapes in
subgraphs are known too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._io.temporary import TemporaryFolder, working
from quantcal.onnx._graph.graph import all_nodes
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._timing.profile import node_of, read_runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnxruntime

    from quantcal.onnx._graph.inputs import Sample
    from quantcal.onnx._runtime.session import Workspace

Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(work: Workspace, sample: Sample) -> tuple[Shapes, dict[str, int]]:
    """Run one sample without optimizations, and return shapes and how often nodes ran.

    Parameters
    ----------
    work : Workspace
        Of a model whose nodes have unique names.
    sample : Sample

    Returns
    -------
    tuple of (dict, dict)
        Tensor → shape in its last computation, and node → runs: a node in a Loop may run
        often, one in a branch that was not taken is missing.
    """
    with working():
        folder = TemporaryFolder()

    def profiled(options: onnxruntime.SessionOptions) -> None:
        options.enable_profiling = True
        # Events do not list weights that a kernel has packed in its own form.
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.profile_file_prefix = str(folder.path / "shapes")

    try:
        session = work.open_changed(lambda _: None, prepare=profiled)
        names = [value.name for value in session.get_outputs()]
        run(session, names, sample.feed, sample.where)
        [events] = read_runs(Path(session.end_profiling()), work.label, 1)
    finally:
        folder.close()
    nodes = {node.name: node for node in all_nodes(work.light.graph)}
    shapes: Shapes = {}
    runs: dict[str, int] = {}
    for event in events:
        node = nodes.get(node_of(event))
        if node is None:
            continue
        runs[node.name] = runs.get(node.name, 0) + 1
        for listed, key in (
            (node.input, "input_type_shape"),
            (node.output, "output_type_shape"),
        ):
            _add(shapes, [name for name in listed if name], event, key)
    return shapes, runs


def _add(shapes: Shapes, names: list[str], event: Mapping[str, Any], key: str) -> None:
    known = event["args"].get(key, [])
    if len(known) != len(names):  # sequences have no entry, so the places are unknown
        return
    for name, entry in zip(names, known, strict=True):
        for sizes in entry.values():
            shapes[name] = tuple(map(int, sizes))
