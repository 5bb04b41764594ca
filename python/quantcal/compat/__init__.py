"""The thresholds that other calibrators choose, from the same uniform histogram.

Each tool means a different algorithm by "KL" (docs/reference/kl.md has the table). These
functions return the same thresholds as the tools, including their defects, to migrate or
compare a model. For new work use `quantcal.MSE` or `quantcal.KL` instead.

They need only numpy, and do not import the tools. A histogram comes from the tool, or from
`quantcal.Histogram.rebin`.
"""

from __future__ import annotations

from quantcal.compat.modelopt import (
    modelopt_entropy,
    modelopt_mse,
    modelopt_percentile,
)
from quantcal.compat.ncnn import ncnn_kl
from quantcal.compat.onnxruntime import onnxruntime_entropy, onnxruntime_percentile

__all__ = [
    "modelopt_entropy",
    "modelopt_mse",
    "modelopt_percentile",
    "ncnn_kl",
    "onnxruntime_entropy",
    "onnxruntime_percentile",
]


def __dir__() -> list[str]:
    return sorted(__all__)
