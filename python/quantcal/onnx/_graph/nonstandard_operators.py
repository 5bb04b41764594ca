"""Nonstandard forms of standard operators: fused by onnxruntime, or already quantized.

Such nodes cannot be quantized. They count as nodes of the standard operator, so that a
report lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import STANDARD_DOMAINS, operator_of

if TYPE_CHECKING:
    import onnx

_MS = "com.microsoft"
_FUSED = {
    f"{_MS}.FusedConv": "Conv",
    f"{_MS}.NhwcFusedConv": "Conv",
    f"{_MS}.nchwc.Conv": "Conv",
    f"{_MS}.FusedGemm": "Gemm",
    f"{_MS}.FusedMatMul": "MatMul",
    f"{_MS}.FusedMatMulActivation": "MatMul",
    f"{_MS}.TransposeMatMul": "MatMul",
}
_QUANTIZED = {
    "ConvInteger": "Conv",
    "MatMulInteger": "MatMul",
    "QLinearConv": "Conv",
    "QLinearMatMul": "MatMul",
    f"{_MS}.DynamicQuantizeMatMul": "MatMul",
    f"{_MS}.MatMulBnb4": "MatMul",
    f"{_MS}.MatMulFpQ4": "MatMul",
    f"{_MS}.MatMulInteger16": "MatMul",
    f"{_MS}.MatMulIntegerToFloat": "MatMul",
    f"{_MS}.MatMulNBits": "MatMul",
    f"{_MS}.QGemm": "Gemm",
    f"{_MS}.QLinearConv": "Conv",
}
_DEQUANTIZERS = frozenset({"DequantizeLinear", f"{_MS}.DequantizeLinear"})


def standard_operator(node: onnx.NodeProto) -> str:
    """Return the operator that a node is counted as, without its domain."""
    operator = operator_of(node)
    standard = _FUSED.get(operator) or _QUANTIZED.get(operator)
    return standard or str(node.op_type)


def why_nonstandard(node: onnx.NodeProto) -> str | None:
    """Return why a node is not a standard operator, or None when it is."""
    operator = operator_of(node)
    if operator in _QUANTIZED:
        return "already quantized"
    if operator in _FUSED:
        return (
            f"fused by onnxruntime ({operator}): pass the model from before the "
            "optimization"
        )
    if node.domain not in STANDARD_DOMAINS:
        return f"of the domain {node.domain}, not a standard operator"
    return None


def dequantizes(node: onnx.NodeProto) -> bool:
    """Return whether a node is a DequantizeLinear, of ONNX or of onnxruntime."""
    return operator_of(node) in _DEQUANTIZERS
