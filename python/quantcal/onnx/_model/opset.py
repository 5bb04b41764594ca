"""Convert a model to a later opset."""

from __future__ import annotations

from dataclasses import replace

from quantcal._core import CalibrationError
from quantcal.onnx._graph.external_data import external_tensors
from quantcal.onnx._graph.nested_scopes import name_nodes
from quantcal.onnx._model.converter_workarounds import (
    check_convertible,
    explain_failure,
    hide_nodes,
    rewrite_hidden,
)
from quantcal.onnx._model.model import LoadedModel, opset_of, with_weights

# Opset → its IR version. From IR version 4 on weights are not inputs of the model.
_IRS = {13: 7, 19: 9, 21: 10}


def convert_opset(loaded: LoadedModel, opset: int) -> LoadedModel:
    """Return the model in this opset or a later one; the same object if it has one."""
    from onnx import version_converter

    version = opset_of(loaded.proto)
    least = max(ir for known, ir in _IRS.items() if known <= opset)
    # Version 0 means that there are no standard operators.
    if not 0 < version < opset:
        loaded.proto.ir_version = max(loaded.proto.ir_version, least)
        return loaded
    kept = sum(1 for _ in external_tensors(loaded.proto))
    copy = type(loaded.proto)()
    copy.CopyFrom(loaded.proto)
    check_convertible(copy, version, opset, loaded.label)
    hidden = hide_nodes(copy, version, opset)
    try:
        proto = version_converter.convert_version(copy, opset)
    except Exception as error:  # the converter raises RuntimeError and its own
        raise CalibrationError(
            f"{loaded.label} has opset {version}; these options need {opset}, and "
            f"onnx cannot convert it: {explain_failure(error, copy)}. Export the model again "
            f"with opset {opset} or later."
        ) from error
    # Older converters lose external data.
    if sum(1 for _ in external_tensors(proto)) < kept:
        return convert_opset(with_weights(loaded), opset)
    rewrite_hidden(proto, hidden)
    proto.ir_version = max(proto.ir_version, least)
    name_nodes(proto.graph)
    return replace(loaded, proto=proto)
