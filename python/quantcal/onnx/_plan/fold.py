"""Fold constants and BatchNormalization; the float model's results stay the same.

:mod:`quantcal.onnx._plan.preparation` says why each is needed. Both functions take the names of
the nodes that may be changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal.onnx._graph.graph import constants_of, inputs_of, operator_of
from quantcal.onnx._graph.nested_scopes import remove_nodes, scopes
from quantcal.onnx._graph.nonstandard_operators import dequantizes
from quantcal.onnx._graph.tied_weights import Tie, find_ties
from quantcal.onnx._graph.weights import Weights, uses_of
from quantcal.onnx._model.model import LoadedModel
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    import onnx

_FLOAT = "tensor(float)"


def fold_constants(
    proto: onnx.ModelProto,
    chosen: set[str],
    types: Mapping[str, str],
    folder: Path | None = None,
) -> dict[str, Tie]:
    """Turn computed constants that the chosen nodes read into initializers.

    Only initializers are quantized as weights; other tensors count as activations.
    onnxruntime computes the values. Outputs of DequantizeLinear are not folded: such
    weights are quantized already. External data is read from ``folder``.

    Returns
    -------
    dict of str to Tie
        Constants that are equal to another one, transposed or not.
    """
    import onnx

    graph = proto.graph
    fixed = constants_of(graph)
    all_scopes = list(scopes(graph))
    everything = [node for scope in all_scopes for node in scope.node]
    outputs = {value.name for scope in all_scopes for value in scope.output}
    maker = {name: node for node in everything for name in node.output if name}
    wanted = {
        name
        for node in everything
        for name in node.input
        if node.name in chosen
        or operator_of(node) == "BatchNormalization"
        or _is_table(node, name, maker)
        if name in fixed & maker.keys()
        and not dequantizes(maker[name])
        and all(
            types.get(made) == _FLOAT and made not in outputs
            for made in filter(None, maker[name].output)
        )
    }
    if not wanted:
        return {}
    # The node is removed, so its other used outputs are folded too, as those of a Split.
    used = uses_of(graph)
    wanted |= {n for name in wanted for n in maker[name].output if used[n]}
    names = sorted(wanted)
    ties = find_ties(graph, names, fixed)
    nodes = [node for node in everything if set(node.output) <= fixed]
    arrays = _compute(proto, names, nodes, folder)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name)
        for array, name in zip(arrays, names, strict=True)
    )
    for scope in all_scopes:
        remove_nodes(scope, lambda node: bool(wanted & set(node.output)))
    _drop_unused(graph, fixed)
    return ties


def _is_table(
    node: onnx.NodeProto, name: str, maker: Mapping[str, onnx.NodeProto]
) -> bool:
    """Whether a tensor is the table of a Gather in a Constant node.

    Such a table may be tied to a weight, so it must be an initializer, too.
    """
    made = maker.get(name)
    return (
        made is not None
        and operator_of(made) == "Constant"
        and operator_of(node) == "Gather"
        and node.input[0] == name
    )


def _compute(
    proto: onnx.ModelProto,
    names: list[str],
    nodes: list[onnx.NodeProto],
    folder: Path | None,
) -> list[np.ndarray[Any, Any]]:
    """Run the constant part of a model, which needs no inputs."""
    import onnx

    read = {name for node in nodes for name in node.input}
    weights = [
        tensor
        for scope in scopes(proto.graph)
        for tensor in scope.initializer
        if tensor.name in read
    ]
    part = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "constants", [], [], initializer=weights),
        opset_imports=proto.opset_import,
        ir_version=proto.ir_version,
        functions=proto.functions,
    )
    with Workspace(LoadedModel(part, "the constants of the model", folder)) as work:
        return list(work.open(names).run(names, {}))


def _drop_unused(graph: onnx.GraphProto, fixed: set[str]) -> None:
    """Remove the nodes that only computed folded constants, in reverse order."""
    used = uses_of(graph)

    def unused(node: onnx.NodeProto) -> bool:
        if set(node.output) <= fixed and not any(used[name] for name in node.output):
            used.subtract(inputs_of(node))
            return True
        return False

    for scope in reversed(
        list(scopes(graph))
    ):  # subgraphs read tensors of outer graphs
        remove_nodes(scope, unused)


def fold_batch_norms(
    graph: onnx.GraphProto,
    chosen: set[str],
    folder: Path | None = None,
    tied: Collection[str] = (),
) -> None:
    """Fold each BatchNormalization into the chosen Conv that alone feeds it.

    The Conv keeps its name and takes over the output of the BatchNormalization.
    It is computed in double precision, so results change by float32 rounding only. Weights
    that are ``tied`` to others are not changed; the Conv gets a copy.
    """
    weights = Weights(graph, folder)
    weights.used.update(tied)
    for scope in list(scopes(graph)):
        _fold_scope(scope, chosen, weights)


def _fold_scope(graph: onnx.GraphProto, chosen: set[str], weights: Weights) -> None:
    convs = {
        node.output[0]: node
        for node in graph.node
        if operator_of(node) == "Conv" and node.name in chosen
    }
    folded = set()
    for node in graph.node:
        conv = convs.get(node.input[0]) if node.input else None
        if conv is not None and _foldable(conv, node, weights):
            _fold(conv, node, weights)
            folded.add(node.name)
    remove_nodes(graph, lambda node: node.name in folded)


def _foldable(conv: onnx.NodeProto, norm: onnx.NodeProto, weights: Weights) -> bool:
    attributes = {a.name: a for a in norm.attribute}
    training = attributes.get("training_mode")
    return (
        operator_of(norm) == "BatchNormalization"
        and not (training and training.i)
        and sum(1 for name in norm.output if name) == 1
        and weights.used[conv.output[0]] == 1
        and weights.is_float(*norm.input[1:], *[n for n in conv.input[1:] if n])
        and all(np.isfinite(weights.array(name)).all() for name in norm.input[1:])
    )


def _fold(conv: onnx.NodeProto, norm: onnx.NodeProto, weights: Weights) -> None:
    epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
    gain, shift, mean, variance = (
        weights.array(name).astype(np.float64) for name in norm.input[1:]
    )
    factor = gain / np.sqrt(variance + epsilon)
    kernel = weights.array(conv.input[1]).astype(np.float64)
    kernel *= factor.reshape(-1, *[1] * (kernel.ndim - 1))
    bias: np.ndarray[Any, Any] = np.zeros(())
    if len(conv.input) > 2 and conv.input[2]:
        bias = weights.array(conv.input[2]).astype(np.float64)
    old = [name for name in conv.input[2:] if name]
    name = old[0] if old else f"{conv.name}_bias"
    bias = (bias - mean) * factor + shift
    inputs = [
        conv.input[0],
        weights.put(conv.input[1], kernel),
        weights.put(name, bias),
    ]
    del conv.input[:]
    conv.input.extend(inputs)
    conv.output[0] = norm.output[0]
