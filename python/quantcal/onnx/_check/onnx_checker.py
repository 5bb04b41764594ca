"""What onnx.checker says of a written model, held against what it says of its source.

The checker is stricter than the runtimes: it refuses operators that onnxruntime has added
to ONNX's domain, deprecated ones, and values without a shape. Loading and running decide
whether a model is good. A complaint that the source does not draw is a fault of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._core import CalibrationError

if TYPE_CHECKING:
    import onnx


def check_validity(proto: onnx.ModelProto, source: onnx.ModelProto, label: str) -> None:
    """Refuse a model to which onnx.checker objects, unless it objects to the source, too.

    Parameters
    ----------
    proto : ModelProto
    source : ModelProto
        What it was made from; weights of both may lie outside.
    label : str
        What errors call the model.

    Raises
    ------
    CalibrationError
        Gives the complaint.
    """
    complaint = _complaint(proto)
    if complaint and not _complaint(source):
        raise CalibrationError(
            f"{label} is not valid: {complaint} Its source is. Please report it."
        )


def _complaint(proto: onnx.ModelProto) -> str:
    """Return what the checker says of a model whose weights are left out."""
    import onnx

    form = onnx.ModelProto()
    for field in ("ir_version", "opset_import", "functions"):
        _copy(proto, form, field)
    for field in (
        "name",
        "node",
        "input",
        "output",
        "value_info",
        "sparse_initializer",
    ):
        _copy(proto.graph, form.graph, field)
    form.graph.initializer.extend(
        onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0])
        for tensor in proto.graph.initializer
    )
    try:
        onnx.checker.check_model(form)
    except Exception as error:  # the checker's errors and protobuf's
        return str(error)
    return ""


def _copy(
    source: onnx.ModelProto | onnx.GraphProto,
    target: onnx.ModelProto | onnx.GraphProto,
    field: str,
) -> None:
    value = getattr(source, field)
    if isinstance(value, (int, str)):
        setattr(target, field, value)
    else:
        getattr(target, field).extend(value)
