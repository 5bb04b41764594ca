"""Which roundings onnxruntime's integer kernels need, by operator.

A kernel that reads codes needs its inputs rounded. Whether its result must be rounded too
is another question: ``MatMulIntegerToFloat`` and ``QGemm`` return floats, so a rounding
behind a MatMul or Gemm only loses accuracy. ``QLinearConv`` and the elementwise kernels
return codes; without a QuantizeLinear behind them onnxruntime computes in float. Operators
without an integer kernel gain nothing from rounded activations.

Found in the graphs that onnxruntime 1.32 saves after optimization; tests count the fused
kernels.
"""

from __future__ import annotations

FLOAT_RESULT = frozenset({"MatMul", "Gemm"})
"""Kernels that read codes and return floats."""

_CODED_RESULT = frozenset(
    {
        *("Conv", "Add", "Mul", "Concat", "Where"),
        *("Sigmoid", "Softmax", "LeakyRelu", "AveragePool", "GlobalAveragePool"),
    }
)
# They move or select codes as they do floats. A Relu or Clip before a rounding is left to it.
_MOVES = frozenset(
    {
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"),
        *("Split", "Slice", "Gather", "MaxPool", "Expand", "DepthToSpace"),
        *("SpaceToDepth", "Resize", "Relu", "Clip"),
    }
)


def reads_codes(operator: str) -> bool:
    """Whether onnxruntime has a kernel that reads codes of this operator's inputs."""
    return operator in FLOAT_RESULT or needs_rounded_result(operator)


def needs_rounded_result(operator: str) -> bool:
    """Whether that kernel exists only where the result is rounded."""
    return operator in _CODED_RESULT or operator in _MOVES
