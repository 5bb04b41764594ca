"""PyTorch models: observe their activations, and try ranges before deployment.

torch is imported at the first use of one of the names below.

>>> import torch
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU())
>>> with qc.torch.observe(model) as cal:
...     y = model(torch.randn(4, 8))
>>> with qc.torch.fake_quantize(model, cal.compute("mse"), weights="int8"):
...     quantized = model(torch.randn(4, 8))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from quantcal._process import imports

if TYPE_CHECKING:
    from quantcal.torch.advisor import advise
    from quantcal.torch.compressed_tensors import write_compressed_tensors
    from quantcal.torch.fake_quantization import fake_quantize
    from quantcal.torch.observation import observe
    from quantcal.torch.observers import Observer, PerChannelObserver, pt2e_observers
    from quantcal.torch.qconfig import attach_observer
    from quantcal.torch.smoothing import smoothquant

__all__ = [
    "Observer",
    "PerChannelObserver",
    "advise",
    "attach_observer",
    "fake_quantize",
    "observe",
    "pt2e_observers",
    "smoothquant",
    "write_compressed_tensors",
]

_MODULES = {
    "Observer": "observers",
    "PerChannelObserver": "observers",
    "advise": "advisor",
    "attach_observer": "qconfig",
    "fake_quantize": "fake_quantization",
    "observe": "observation",
    "pt2e_observers": "observers",
    "smoothquant": "smoothing",
    "write_compressed_tensors": "compressed_tensors",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module 'quantcal.torch' has no attribute {name!r}"
        raise AttributeError(msg)
    imports.require(("torch",), "quantcal.torch needs", "torch", "torch")
    module = importlib.import_module(f"quantcal.torch.{_MODULES[name]}")
    found = getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
