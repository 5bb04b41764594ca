"""Calibration for post-training quantization: observe once, compute ranges any number of times.

Observe a network's activations in one streaming pass, keep one small exact histogram per
tensor, and compute ranges, scales and zero points from it by any strategy.
"""

from __future__ import annotations

from quantcal._process import startup

# isort: split
from typing import TYPE_CHECKING

try:
    from quantcal import _core
except ImportError as error:  # pragma: no cover - only without the compiled part
    if error.name != "quantcal._core":
        raise
    missing = isinstance(error, ModuleNotFoundError)
    msg = (
        f"quantcal's compiled part {'is missing' if missing else 'cannot be loaded'}. In a "
        "checkout, build it with `make build`; otherwise reinstall with `pip install "
        f"--force-reinstall quantcal`.{'' if missing else f' The reason: {error}'}"
    )
    raise ImportError(msg) from error

from quantcal import _histogram_views  # noqa: F401 - adds them to the compiled class
from quantcal._core import (
    CalibrationError,
    Histogram,
    get_num_threads,
    set_num_threads,
)
from quantcal._process.lazy import lazy_names

if TYPE_CHECKING:
    from quantcal import blocks as blocks
    from quantcal import compat as compat
    from quantcal import data as data
    from quantcal import demo as demo
    from quantcal import exporters as exporters
    from quantcal import onnx as onnx
    from quantcal import torch as torch
    from quantcal._calibrate import calibrate
    from quantcal._load import load
    from quantcal.calibrator import Calibrator
    from quantcal.channels import Channels
    from quantcal.comparison.api import compare
    from quantcal.comparison.comparison import Comparison
    from quantcal.formats import QuantFormat
    from quantcal.params import QuantParams
    from quantcal.report.page.api import write_report
    from quantcal.stability import Stability, check_stability
    from quantcal.strategies import (
        ACIQ,
        KL,
        MSE,
        Auto,
        Fixed,
        Hybrid,
        MaxEntropy,
        MinMax,
        Percentile,
        Policy,
        Strategy,
    )
    from quantcal.table import CalibrationTable
    from quantcal.tensor_report import TensorReport

__all__ = [
    "ACIQ",
    "KL",
    "MSE",
    "Auto",
    "CalibrationError",
    "CalibrationTable",
    "Calibrator",
    "Channels",
    "Comparison",
    "Fixed",
    "Histogram",
    "Hybrid",
    "MaxEntropy",
    "MinMax",
    "Percentile",
    "Policy",
    "QuantFormat",
    "QuantParams",
    "Stability",
    "Strategy",
    "TensorReport",
    "calibrate",
    "check_stability",
    "compare",
    "get_num_threads",
    "load",
    "set_num_threads",
    "write_report",
]

__version__: str = _core.__version__

_SUBMODULES = (
    "blocks",
    "compat",
    "data",
    "demo",
    "exporters",
    "onnx",
    "torch",
)  # imported when first used: their frameworks are optional

if _core.DEBUG_BUILD:
    import warnings

    warnings.warn(
        "This quantcal was compiled without optimization and is many times slower. "
        "Build it with `maturin develop --release` or `make build`.",
        RuntimeWarning,
        stacklevel=2,
    )


# Imported when first used, with numpy: starting the command needs none of it.
__getattr__ = lazy_names(
    __name__,
    {
        "_calibrate": ["calibrate"],
        "_load": ["load"],
        "calibrator": ["Calibrator"],
        "channels": ["Channels"],
        "comparison.api": ["compare"],
        "comparison.comparison": ["Comparison"],
        "formats": ["QuantFormat"],
        "params": ["QuantParams"],
        "report.page.api": ["write_report"],
        "stability": ["Stability", "check_stability"],
        "strategies": [
            *("ACIQ", "KL", "MSE", "Auto", "Fixed", "Hybrid", "MaxEntropy", "MinMax"),
            *("Percentile", "Policy", "Strategy"),
        ],
        "table": ["CalibrationTable"],
        "tensor_report": ["TensorReport"],
    },
    (*_SUBMODULES, "strategies"),  # whose names() the documents mention
)


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES, "__version__"])


startup.loaded()
