"""Names that onnxruntime's quantizer will give to what it adds, kept free for it.

It builds them from tensor names without looking whether they exist: a tensor that
happens to be called ``conv1_scale`` beside one called ``conv1`` would make the result
wrong or invalid.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from quantcal import CalibrationError
from quantcal.onnx.model import names_of, subgraphs, unique_name

if TYPE_CHECKING:
    import onnx

_SUFFIXES = (
    "_scale",
    "_zero_point",
    "_quantized",
    "_quantized_scale",
    "_quantized_zero_point",
    "_QuantizeLinear_Input",
    "_QuantizeLinear_Output",
    "_DequantizeLinear_Output",
)


def free_names(graph: onnx.GraphProto, tensors: Iterable[str]) -> None:
    """Rename inner tensors whose names the quantizer is about to use.

    Parameters
    ----------
    graph : GraphProto
        Changed in place, its subgraphs too.
    tensors : iterable of str
        The activations to be quantised, whose own names must stay.

    Raises
    ------
    CalibrationError
        When such a name belongs to an input, an output or one of ``tensors``.
    """
    taken = names_of(graph)
    kept = set(tensors) | {value.name for value in (*graph.input, *graph.output)}
    roots = set(tensors) | {tensor.name for tensor in graph.initializer}
    used = {root + suffix for root in roots for suffix in _SUFFIXES} & taken
    for name in sorted(used):
        if name in kept:
            raise CalibrationError(
                f"The model has a tensor {name!r}, a name that onnxruntime's quantizer "
                "needs for another. Rename it, or exclude the node of the other."
            )
        _rename(graph, name, unique_name(f"{name}_float", taken))


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
        for inner in subgraphs(node):
            _rename(inner, old, new)
    for value in (*graph.initializer, *graph.value_info, *graph.output):
        if value.name == old:
            value.name = new
