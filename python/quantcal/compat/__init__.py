"""The thresholds that other calibrators choose, from the same uniform histogram.

"KL" names at least four different algorithms in the tools people use today
(docs/reference/kl.md has the table). These functions return what each of them returns,
defects included, so that a model can be moved and compared. For new work use
:class:`quantcal.MSE` or :class:`quantcal.KL` instead:
these here inherit every weakness of their models.

Only numpy is needed; the tools themselves are not imported. A histogram comes from the tool,
or from :meth:`quantcal.Histogram.rebin`.
"""

from __future__ import annotations

from quantcal.compat.modelopt import (
    modelopt_entropy,
    modelopt_mse,
    modelopt_percentile,
)
from quantcal.compat.mxnet import mxnet_entropy
from quantcal.compat.ncnn import ncnn_kl
from quantcal.compat.onnxruntime import onnxruntime_entropy, onnxruntime_percentile

__all__ = [
    "modelopt_entropy",
    "modelopt_mse",
    "modelopt_percentile",
    "mxnet_entropy",
    "ncnn_kl",
    "onnxruntime_entropy",
    "onnxruntime_percentile",
]
