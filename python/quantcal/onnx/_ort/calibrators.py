"""Subclasses of onnxruntime's calibrators that observe with this library."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from quantcal._core import Histogram
from quantcal.calibrator import Calibrator
from quantcal.onnx._graph.graph import constants_of
from quantcal.onnx._ort.histograms import collector_of

_CPU = "CPUExecutionProvider"
DEFAULT_BINS = 128
"""onnxruntime's default for Entropy, which has as many levels: only one window fits."""


def subclasses(
    calibrate: Any, entropy_bins: Callable[[], int | None]
) -> dict[str, type]:
    """Return subclasses of onnxruntime's calibrators that observe with this library.

    Parameters
    ----------
    calibrate : module
        ``onnxruntime.quantization.calibrate``.
    entropy_bins : callable
        Returns the number of bins for Entropy; None for the default.
    """
    collector = collector_of(calibrate)
    found = {"MinMaxCalibrater": _min_max(calibrate)}
    for name in ("EntropyCalibrater", "PercentileCalibrater", "DistributionCalibrater"):
        base = getattr(calibrate, name)
        found[name] = _histogram_calibrator(base, collector, entropy_bins)
    for name, made in found.items():
        made.__name__ = made.__qualname__ = name
        made.__doc__ = getattr(calibrate, name).__doc__
    return found


def _min_max(calibrate: Any) -> type:
    """Return the subclass for MinMax, which reads the extremes of the histograms."""

    class MinMax(calibrate.MinMaxCalibrater):  # type: ignore[misc]
        def __init__(self, model_path: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(model_path, *args, **kwargs)
            self.engine = None
            if not (self.moving_average or self.per_channel):
                self.engine = _Engine(self, model_path, mantissa_bits=8)

        def augment_graph(self) -> None:
            if self.engine is None:
                super().augment_graph()

        def create_inference_session(self) -> None:
            if self.engine is None:
                super().create_inference_session()

        def collect_data(self, data_reader: Any) -> None:
            if self.engine is None:
                super().collect_data(data_reader)
            else:
                self.engine.collect(data_reader)

        def compute_data(self) -> Any:
            if self.engine is None:
                return super().compute_data()
            data = {}
            for name, (histogram, dtype) in self.engine.seen():
                low, high = histogram.min or 0.0, histogram.max or 0.0
                if self.symmetric:
                    high = max(abs(low), abs(high))
                    low = -high
                data[name] = (np.array([low], dtype), np.array([high], dtype))
            return calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, data)

    return MinMax


def _histogram_calibrator(
    base: Any,
    collector: Callable[[Any], Any],
    entropy_bins: Callable[[], int | None],
) -> type:
    """Return the subclass for a calibrator that computes ranges from histograms."""

    class HistogramCalibrator(base):  # type: ignore[misc]
        def __init__(self, model_path: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(model_path, *args, **kwargs)
            if self.method == "entropy":
                if self.num_bins == DEFAULT_BINS:
                    self.num_bins: int = entropy_bins() or DEFAULT_BINS
                _warn_of_one_window(self.num_bins, self.num_quantized_bins)
            # Bins of a quarter of a uniform bin where possible: logarithmic bins are
            # wider far from zero.
            bits = max(8, min(12, (self.num_bins - 1).bit_length() + 2))
            self.engine = _Engine(self, model_path, mantissa_bits=bits)

        def augment_graph(self) -> None:
            """Do nothing: the engine observes the unchanged model."""

        def create_inference_session(self) -> None:
            """Do nothing: the engine opens its session."""

        def collect_data(self, data_reader: Any) -> None:
            self.engine.collect(data_reader)

        def compute_data(self) -> Any:
            self.collector = collector(self)
            return super().compute_data()

    return HistogramCalibrator


def _warn_of_one_window(bins: int, levels: int) -> None:
    """Warn when Entropy has only one range to choose from."""
    if bins // 2 <= levels // 2:
        warnings.warn(
            f"onnxruntime's Entropy with {bins} bins and {levels} levels compares one range, "
            "that of all values, so the result is MinMax. Give more bins, such as "
            'patch_onnxruntime(entropy_bins=2048), or "num_bins" in extra_options of '
            "create_calibrator.",
            stacklevel=3,
        )


class _Engine:
    """Observes the tensors that a calibrator asks for, over any number of calls."""

    def __init__(self, owner: Any, model_path: Any, *, mantissa_bits: int) -> None:
        import onnx

        names, infos = owner.select_tensors_to_calibrate(owner.model)
        kinds = {name: infos[name].type.tensor_type.elem_type for name in names}
        self._dtypes = {
            name: onnx.helper.tensor_dtype_to_np_dtype(kind)
            for name, kind in sorted(kinds.items())
        }
        constants = constants_of(owner.model.graph) & self._dtypes.keys()
        self._constants = _values(owner.model, sorted(constants))
        self._owner = owner
        self._model = str(model_path)
        self._calibrator = Calibrator(mantissa_bits=mantissa_bits)

    def collect(self, reader: Any) -> None:
        from quantcal.onnx._observe.observer import observe

        fresh = Calibrator(mantissa_bits=self._calibrator.mantissa_bits)
        observe(
            self._model,
            self._samples(reader, fresh),
            tensors=[name for name in self._dtypes if name not in self._constants],
            calibrator=self._calibrator,
            providers=self._owner.execution_providers,
        )
        self._calibrator.merge(fresh)

    def _samples(self, reader: Any, constants: Calibrator) -> Iterator[Any]:
        """Yield samples until the reader gives None or an empty one, like the original.

        The original counts constants once for each sample, and so does this.
        """
        while inputs := reader.get_next():
            yield inputs
            constants.observe_many(self._constants)

    def seen(self) -> Iterator[tuple[str, tuple[Histogram, np.dtype[Any]]]]:
        """Yield each tensor with its histogram and type."""
        nonfinite = []
        for name, dtype in self._dtypes.items():
            if name in self._calibrator:
                histogram = self._calibrator[name]
                if histogram.finite < histogram.count:
                    nonfinite.append(name)
                yield name, (histogram, dtype)
        if nonfinite:
            logging.getLogger(__name__).warning(
                "%d tensors have NaN or infinities, which their ranges ignore: %s",
                len(nonfinite),
                ", ".join(nonfinite[:5]),
            )


def _values(model: Any, names: list[str]) -> dict[str, Any]:
    """Return the values of computed constants, by running the nodes that compute them."""
    import onnx
    import onnxruntime as ort

    if not names:
        return {}
    fixed = constants_of(model.graph)
    part = onnx.ModelProto()
    part.ir_version = model.ir_version
    part.opset_import.extend(model.opset_import)
    part.graph.name = "constants"
    part.graph.node.extend(n for n in model.graph.node if fixed.issuperset(n.output))
    read = {name for node in part.graph.node for name in node.input}
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in read)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(part.SerializeToString(), providers=[_CPU])
    return dict(zip(names, session.run(names, {}), strict=True))
