"""Scopes: the graph of a model and its subgraphs, and unique names across them.

The branches of an `If` and the body of a `Loop` or `Scan` are subgraphs. They see the
values of the outer graphs, and two of them may use one name for different values. After
:func:`unify_names`, a name means one value in the whole model. Then a range, a weight or a
node is found by its name alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import operator_of, subgraphs, unique_name

if TYPE_CHECKING:
    import onnx


def scopes(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph, then its subgraphs, in the order of the model."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from scopes(inner)


def owners(graph: onnx.GraphProto, owner: str = "") -> Iterator[tuple[str, str]]:
    """Yield each node's name and the operator of the outermost node that contains it.

    The operator is ``""`` for nodes of the main graph.
    """
    for node in graph.node:
        yield node.name, owner
        for inner in subgraphs(node):
            yield from owners(inner, owner or operator_of(node))


def name_nodes(graph: onnx.GraphProto) -> None:
    """Make the names of all nodes unique.

    Unnamed nodes are named by type and position in their graph, such as ``Conv_12``.
    """
    taken = {node.name for scope in scopes(graph) for node in scope.node}
    seen = {""}
    for scope in scopes(graph):
        for index, node in enumerate(scope.node):
            if node.name in seen:
                base = node.name or f"{node.op_type}_{index}"
                node.name = unique_name(base, taken)
            seen.add(node.name)


def remove_nodes(
    graph: onnx.GraphProto, unwanted: Callable[[onnx.NodeProto], bool]
) -> None:
    """Remove nodes of one scope. The other nodes stay the same Python objects."""
    for index in reversed(range(len(graph.node))):
        if unwanted(graph.node[index]):
            del graph.node[index]


def unify_names(graph: onnx.GraphProto) -> None:
    """Rename values of subgraphs whose names are also used elsewhere.

    Values of the main graph keep their names, and so do inner values with unique names.
    Others get a number, such as ``h_2``.
    """
    taken = _defined(graph)
    for node in graph.node:
        for inner in subgraphs(node):
            _unify(inner, taken, {})


def _defined(graph: onnx.GraphProto) -> set[str]:
    names = {value.name for value in (*graph.input, *graph.initializer)}
    names |= {tensor.values.name for tensor in graph.sparse_initializer}
    names |= {name for node in graph.node for name in node.output if name}
    return names


def _unify(graph: onnx.GraphProto, taken: set[str], around: Mapping[str, str]) -> None:
    """Rename in a scope and its subgraphs; ``around`` maps the names of outer scopes."""
    defined = sorted(_defined(graph))
    own = {
        name: unique_name(name, taken) if name in taken else name for name in defined
    }
    taken.update(own.values())
    names = {**around, **own}
    changed = {old: new for old, new in names.items() if old != new}
    if changed:
        _rename(graph, changed)
    for node in graph.node:
        for inner in subgraphs(node):
            _unify(inner, taken, names)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Apply new names in one scope, but not in its subgraphs."""
    for node in graph.node:
        for listed in (node.input, node.output):
            for index, name in enumerate(listed):
                if name in names:
                    listed[index] = names[name]
    named = (*graph.input, *graph.output, *graph.initializer, *graph.value_info)
    for value in (*named, *(t.values for t in graph.sparse_initializer)):
        value.name = names.get(value.name, value.name)


def inferred_types(proto: onnx.ModelProto, known: Mapping[str, str]) -> dict[str, str]:
    """Return the types of tensors inside subgraphs, as onnxruntime spells them.

    onnxruntime reports types of the main graph only. From these, onnx infers the types in
    subgraphs. Types that it cannot infer are missing.

    Parameters
    ----------
    proto : ModelProto
        A name must mean one value in the whole model. Large weights may be external.
    known : mapping of str to str
        Types of the main graph.
    """
    import onnx

    if not any(True for node in proto.graph.node for _ in subgraphs(node)):
        return {}
    kinds = {
        f"tensor({name.lower()})": number
        for name, number in onnx.TensorProto.DataType.items()
    }
    helped = onnx.ModelProto()
    helped.CopyFrom(proto)
    listed = {value.name for value in helped.graph.value_info}
    helped.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(name, kinds[kind], None)
        for name, kind in known.items()
        if kind in kinds and name not in listed
    )
    # Nodes on tensors of unknown type stay in float, and the report says why.
    with contextlib.suppress(Exception):
        helped = onnx.shape_inference.infer_shapes(helped)
    words = {number: kind for kind, number in kinds.items()}
    found: dict[str, str] = {}
    for scope in scopes(helped.graph):
        if scope is helped.graph:
            continue
        for value in (*scope.input, *scope.value_info, *scope.output):
            kind = value.type.tensor_type.elem_type
            if value.type.HasField("tensor_type") and kind:
                found[value.name] = words[kind]
        for tensor in scope.initializer:
            found[tensor.name] = words[tensor.data_type]
    return found
