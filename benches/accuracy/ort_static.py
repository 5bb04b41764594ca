"""ONNX Runtime's own static quantization, with the best settings known to us.

It gets the same samples, one at a time (`CalibStridedMinMax`): its histogram calibrators accept
samples of one shape only, and keep all of them in memory. The model is converted to opset 13
and has no bias of shape [1, N], because quantization by channel fails on both.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

from quantcal.onnx._model.model import load_model
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.plan import OP_TYPES
from quantcal.onnx._plan.preparation import prepare

# The package has a function of the same name in its place.
module = importlib.import_module("onnxruntime.quantization.quantize")

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "MinMax": ("MinMax", {}),
    "Percentile 99.999": ("Percentile", {}),
    "Entropy, 2048 bins": ("Entropy", {"num_bins": 2048}),
}


class Reader:
    """A CalibrationDataReader over a list, with ranges of samples."""

    def __init__(self, feeds: Sequence[dict[str, Any]]) -> None:
        self.feeds = feeds
        self.left: Iterator[dict[str, Any]] = iter(feeds)

    def __len__(self) -> int:
        return len(self.feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue with the samples from start to end."""
        self.left = iter(self.feeds[start_index:end_index])

    def get_next(self) -> dict[str, Any] | None:
        """Return the next sample."""
        return next(self.left, None)


def quantize(
    model: Path,
    output: Path,
    feeds: Sequence[dict[str, Any]],
    method: str,
    *,
    reduce_range: bool,
) -> None:
    """Write a model with uint8 activations and int8 weights by channel.

    Its ranges are stored next to it and reused for the next model of the same method.
    """
    prepared = prepare(load_model(model), Options.of())
    source = output.with_suffix(".float.onnx")
    onnx.save(prepared.proto, source)
    name, options = METHODS[method]
    create = module.create_calibrator

    def with_options(*args: Any, **kwargs: Any) -> Any:
        kwargs["extra_options"] = {**kwargs.get("extra_options", {}), **options}
        return create(*args, **kwargs)

    with mock.patch.object(module, "create_calibrator", with_options):
        quantize_static(
            source,
            output,
            Reader(feeds),
            op_types_to_quantize=list(OP_TYPES),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[name],
            extra_options={"CalibStridedMinMax": 1},
            calibration_cache_path=output.with_name(f"{method}.json"),
        )
