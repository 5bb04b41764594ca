"""Convert a model to a later opset."""

from __future__ import annotations

from dataclasses import replace

from quantcal._core import CalibrationError
from quantcal.onnx._graph.external import external_tensors
from quantcal.onnx._graph.scopes import name_nodes
from quantcal.onnx._model.model import Loaded, opset_of, with_weights
from quantcal.onnx._model.old_operators import (
    check_convertible,
    put_back,
    reason,
    set_aside,
)

# Opset → its IR version. From IR version 4 on weights are not inputs of the model.
_IRS = {13: 7, 19: 9, 21: 10}


def convert_opset(loaded: Loaded, opset: int) -> Loaded:
    """Return the model in this opset or a later one; the same object if it has one."""
    from onnx import version_converter

    version = opset_of(loaded.proto)
    least = max(ir for known, ir in _IRS.items() if known <= opset)
    # Version 0 means that there are no standard operators.
    if not 0 < version < opset:
        loaded.proto.ir_version = max(loaded.proto.ir_version, least)
        return loaded
    kept = sum(1 for _ in external_tensors(loaded.proto))
    hidden = type(loaded.proto)()
    hidden.CopyFrom(loaded.proto)
    check_convertible(hidden, version, opset, loaded.label)
    aside = set_aside(hidden, version, opset)
    try:
        proto = version_converter.convert_version(hidden, opset)
    except Exception as error:  # the converter raises RuntimeError and its own
        raise CalibrationError(
            f"{loaded.label} has opset {version}; these options need {opset}, and "
            f"onnx cannot convert it: {reason(error, hidden)}. Export the model again "
            f"with opset {opset} or later."
        ) from error
    if (
        sum(1 for _ in external_tensors(proto)) < kept
    ):  # older converters lose external data
        return convert_opset(with_weights(loaded), opset)
    put_back(proto, aside)
    proto.ir_version = max(proto.ir_version, least)
    name_nodes(proto.graph)
    return replace(loaded, proto=proto)
