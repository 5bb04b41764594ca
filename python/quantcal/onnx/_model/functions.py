"""Inlining the functions of a model (ONNX's model-local functions).

Afterwards all nodes are in the graph and its subgraphs, where other modules look for
them. The semantics are those of onnxruntime, which differ from ONNX in two ways. It reads
a function's body in the opset of the model, whatever the function imports. And it prefers
its own operator to a function of the same name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal.onnx._graph.graph import all_nodes, subgraphs
from quantcal.onnx._model.model import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx


def inline_functions(loaded: LoadedModel) -> LoadedModel:
    """Return the model with its functions inlined.

    Names of the main graph stay. Names from inside a function get a number, such as
    ``h__1``.

    Parameters
    ----------
    loaded : LoadedModel
        The model, which may be changed.

    Raises
    ------
    CalibrationError
        When a function cannot be inlined. Names it, or gives onnx's reason.
    """
    proto = loaded.proto
    _drop_uncalled(proto)
    if not proto.functions:
        return loaded
    return replace(loaded, proto=_inlined(proto, loaded.label))


def _set_imports(
    holder: onnx.ModelProto | onnx.FunctionProto, versions: dict[str, int]
) -> None:
    import onnx

    del holder.opset_import[:]
    holder.opset_import.extend(
        onnx.helper.make_opsetid(domain, version)
        for domain, version in versions.items()
    )


def _function_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for function in proto.functions:
        yield from _with_inner(function.node)


def _with_inner(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from all_nodes(graph)


def _drop_uncalled(proto: onnx.ModelProto) -> None:
    """Remove functions that onnxruntime never calls, as it has an operator of that name."""
    if not proto.functions:
        return
    known = _operators()
    kept = [f for f in proto.functions if (f.domain, f.name) not in known]
    if len(kept) < len(proto.functions):
        del proto.functions[:]
        proto.functions.extend(kept)


def _operators() -> set[tuple[str, str]]:
    """Return (domain, name) of all operators of onnx and onnxruntime."""
    import onnx

    schemas: list[Any] = list(onnx.defs.get_all_schemas())
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as runtime

        schemas += runtime.get_all_operator_schema()
    except (ImportError, AttributeError):  # a build without schemas: use those of ONNX
        pass
    return {(schema.domain, schema.name) for schema in schemas}


def _give_defaults(proto: onnx.ModelProto) -> None:
    """Copy the default attributes of functions to their calls."""
    # onnx's inliner ignores these defaults, so the calls must have all attributes.
    defaults = {(f.domain, f.name): f.attribute_proto for f in proto.functions}
    for node in (*all_nodes(proto.graph), *_function_nodes(proto)):
        given = {attribute.name for attribute in node.attribute}
        for attribute in defaults.get((node.domain, node.op_type), ()):
            if attribute.name not in given:
                node.attribute.append(attribute)


def _inlined(proto: onnx.ModelProto, label: str) -> onnx.ModelProto:
    from onnx import inliner

    own = {o.domain: o.version for o in proto.opset_import}
    called = {(f.domain, f.name) for f in proto.functions}
    versions = {
        o.domain: o.version for f in proto.functions for o in f.opset_import
    } | own
    if "ai.onnx" in versions:
        versions.setdefault("", versions.pop("ai.onnx"))
    _set_imports(proto, versions)
    _give_defaults(proto)
    for function in proto.functions:
        _set_imports(function, versions)
    try:
        flat = inliner.inline_local_functions(proto)
    except Exception as error:  # onnx has own errors for cycles and invalid calls
        listed = ", ".join(f"{domain}.{name}" for domain, name in sorted(called)[:5])
        raise CalibrationError(
            f"The functions of {label} ({listed}) cannot be inlined: {error}. "
            "Inline them in the exporter, or export the model without functions."
        ) from error
    left = [
        node for node in all_nodes(flat.graph) if (node.domain, node.op_type) in called
    ]
    if left:
        raise CalibrationError(
            f"The function {left[0].domain}.{left[0].op_type} of {label} cannot be "
            f"inlined where node {left[0].name!r} calls it. Inline it in the exporter."
        )
    used = {node.domain for node in all_nodes(flat.graph)} | own.keys() - {
        domain for domain, _ in called
    }
    _set_imports(flat, {d: v for d, v in versions.items() if d in used})
    return flat
