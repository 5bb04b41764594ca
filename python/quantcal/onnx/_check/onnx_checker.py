"""Checking a written model with onnx.checker, relative to its source.

The checker is stricter than runtimes. It refuses deprecated operators, operators that
onnxruntime has added to ONNX's domain, and values without a shape. So an error counts only
if the source does not have one: then it is a defect of quantcal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._core import CalibrationError

if TYPE_CHECKING:
    import onnx


def check_validity(proto: onnx.ModelProto, source: onnx.ModelProto, label: str) -> None:
    """Raise an error when onnx.checker refuses a model but not its source.

    Parameters
    ----------
    proto : ModelProto
    source : ModelProto
        The model it was made from. The weights of both may be external.
    label : str
        The name of the model in errors.

    Raises
    ------
    CalibrationError
        Contains the message of the checker.
    """
    problem = _problem_of(proto)
    if problem and not _problem_of(source):
        raise CalibrationError(
            f"{label} is not valid: {problem} Its source is. Please report it."
        )


def _problem_of(proto: onnx.ModelProto) -> str:
    """Return the checker's message, or an empty text for a valid model."""
    import onnx

    # `check_model` serializes the model, which fails above 2 GiB. It does not look at the
    # values of weights, so they are left out.
    light = onnx.ModelProto()
    for field in ("ir_version", "opset_import", "functions"):
        _copy(proto, light, field)
    for field in (
        "name",
        "node",
        "input",
        "output",
        "value_info",
        "sparse_initializer",
    ):
        _copy(proto.graph, light.graph, field)
    light.graph.initializer.extend(
        onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0])
        for tensor in proto.graph.initializer
    )
    try:
        onnx.checker.check_model(light)
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
