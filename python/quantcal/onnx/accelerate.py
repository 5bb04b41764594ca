"""onnxruntime's own `quantize_static` on our engine, with no other change in a script.

onnxruntime's calibrators are replaced by subclasses that observe with
:func:`quantcal.onnx.observe` and hand its histograms to the original code, which decides.
So memory no longer grows with the samples, their shapes may vary, NaN and infinities are
left out, and the result does not depend on how the samples are split.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from quantcal import Calibrator, Histogram
from quantcal.compat import onnxruntime_entropy
from quantcal.onnx.frameworks import require
from quantcal.onnx.model import constants_of

_LOCK = threading.Lock()
_ACTIVE: list[Acceleration] = []
_REPLACED: list[tuple[ModuleType, str, Any, Any]] = []
_CPU = "CPUExecutionProvider"
_MODULES = ("onnxruntime.quantization.calibrate", "onnxruntime.quantization")


def accelerate() -> Acceleration:
    """Make onnxruntime's static quantisation calibrate with this library.

    Works at once, for `quantize_static` and `create_calibrator`, with all four calibration
    methods, until the returned object is undone: by ``undo()``, or at the end of a ``with``
    block, also when an exception leaves it. Calls may be nested and repeated: onnxruntime's
    own classes are back when all of them are undone. The change is one of the process, so
    of all threads.

    * MinMax gives the same ranges, bit for bit. * Percentile, Entropy and Distribution
    decide by the original rules on the histogram that the
      original would have made of all samples together; its own depends on the first one.
      Percentiles agree to a bin. Entropy's search is
      :func:`quantcal.compat.onnxruntime_entropy`.
    * ``symmetric``, ``num_bins``, ``num_quantized_bins``, ``percentile`` and ``scenario`` mean
      what they meant. ``max_intermediate_outputs`` is not needed and has no effect; the
      original throws the outputs away that it counts.
    * ``moving_average`` and ``per_channel`` of MinMax need more than histograms: such
      calibrators stay onnxruntime's own.

    Classes that a script imported before the call stay the original ones; so do calibrators
    that exist already.

    Returns
    -------
    Acceleration

    Raises
    ------
    ImportError
        If onnxruntime or onnx is missing; says how to install them.

    Examples
    --------
    >>> from onnxruntime.quantization import CalibrationMethod, quantize_static
    >>> class Reader:
    ...     def __init__(self):
    ...         self.left = iter([{"x": batch} for batch in batches])
    ...     def get_next(self):
    ...         return next(self.left, None)
    >>> with qc.onnx.accelerate():
    ...     quantize_static("model.onnx", "int8.onnx", Reader())
    """
    require()
    acceleration = Acceleration()
    with _LOCK:
        if not _ACTIVE:
            _replace()
        _ACTIVE.append(acceleration)
    return acceleration


class Acceleration:
    """What :func:`accelerate` returns: undo it once, or leave its ``with`` block."""

    def undo(self) -> None:
        """Give onnxruntime its classes back unless another call still needs ours.

        A second call does nothing. What somebody else has put in their place since stays.
        """
        with _LOCK:
            if self in _ACTIVE:
                _ACTIVE.remove(self)
                if not _ACTIVE:
                    _restore()

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def _replace() -> None:
    calibrate = importlib.import_module(_MODULES[0])
    for name, new in _subclasses(calibrate).items():
        for place in map(importlib.import_module, _MODULES):
            old = getattr(place, name, None)
            if old is not None:
                setattr(place, name, new)
                _REPLACED.append((place, name, old, new))


def _restore() -> None:
    while _REPLACED:
        place, name, old, new = _REPLACED.pop()
        if getattr(place, name, None) is new:
            setattr(place, name, old)


def _subclasses(calibrate: Any) -> dict[str, type]:
    """Return subclasses of onnxruntime's calibrators that observe with our engine."""
    collector = _collector(calibrate)

    class MinMax(calibrate.MinMaxCalibrater):  # type: ignore[misc]
        def __init__(self, model_path: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(model_path, *args, **kwargs)
            self._engine = None
            if not (self.moving_average or self.per_channel):
                self._engine = _Engine(self, model_path, mantissa_bits=8)

        def augment_graph(self) -> None:
            if self._engine is None:
                super().augment_graph()

        def create_inference_session(self) -> None:
            if self._engine is None:
                super().create_inference_session()

        def collect_data(self, data_reader: Any) -> None:
            if self._engine is None:
                super().collect_data(data_reader)
            else:
                self._engine.collect(data_reader)

        def compute_data(self) -> Any:
            if self._engine is None:
                return super().compute_data()
            data = {}
            for name, (histogram, dtype) in self._engine.seen():
                low, high = histogram.min or 0.0, histogram.max or 0.0
                if self.symmetric:
                    high = max(abs(low), abs(high))
                    low = -high
                data[name] = (np.array([low], dtype), np.array([high], dtype))
            return calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, data)

    def histogram_calibrater(base: Any) -> type:
        class Fast(base):  # type: ignore[misc]
            def __init__(self, model_path: Any, *args: Any, **kwargs: Any) -> None:
                super().__init__(model_path, *args, **kwargs)
                # A quarter of a uniform bin, where it can be had: ours are wider far from zero.
                bits = max(8, min(12, (self.num_bins - 1).bit_length() + 2))
                self._engine = _Engine(self, model_path, mantissa_bits=bits)

            def augment_graph(self) -> None:
                """Nothing: the engine observes the model as it is."""

            def create_inference_session(self) -> None:
                """Nothing: the engine opens its own."""

            def collect_data(self, data_reader: Any) -> None:
                self._engine.collect(data_reader)

            def compute_data(self) -> Any:
                self.collector = collector(self)
                return super().compute_data()

        return Fast

    found: dict[str, type] = {"MinMaxCalibrater": MinMax}
    for name in ("EntropyCalibrater", "PercentileCalibrater", "DistributionCalibrater"):
        found[name] = histogram_calibrater(getattr(calibrate, name))
    for name, made in found.items():
        made.__name__ = made.__qualname__ = name
        made.__doc__ = getattr(calibrate, name).__doc__
    return found


class _Engine:
    """Observes the tensors that a calibrator asks for, through any number of calls."""

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
        from quantcal.onnx.observer import observe

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
        """Yield samples until the reader gives None or an empty one, as the original does.

        The original counts constants with each sample, so that is done here.
        """
        while inputs := reader.get_next():
            yield inputs
            constants.observe_many(self._constants)

    def seen(self) -> Iterator[tuple[str, tuple[Histogram, np.dtype[Any]]]]:
        """Yield what was observed of each tensor, and its type."""
        odd = []
        for name, dtype in self._dtypes.items():
            if name in self._calibrator:
                histogram = self._calibrator[name]
                if histogram.finite < histogram.count:
                    odd.append(name)
                yield name, (histogram, dtype)
        if odd:
            logging.getLogger(__name__).warning(
                "%d tensors hold NaN or infinities, which their ranges leave out: %s",
                len(odd),
                ", ".join(odd[:5]),
            )


def _values(model: Any, names: list[str]) -> dict[str, Any]:
    """Return tensors that no input can change, by running the nodes that make them."""
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


def _collector(calibrate: Any) -> Callable[[Any], Any]:
    """Return what makes onnxruntime's collector of a calibrator's histograms."""

    class Collector(calibrate.HistogramCollector):  # type: ignore[misc]
        def get_entropy_threshold(self, histogram: Any, num_quantized_bins: int) -> Any:
            hist, edges, low, high = histogram
            start, end = onnxruntime_entropy(
                hist, edges.astype(np.float32), num_quantized_bins=num_quantized_bins
            )
            return np.maximum(edges.dtype.type(start), low), np.minimum(
                edges.dtype.type(end), high
            )

    def make(owner: Any) -> Any:
        made = Collector(
            method=owner.method,
            symmetric=owner.symmetric,
            num_bins=owner.num_bins,
            num_quantized_bins=owner.num_quantized_bins,
            percentile=owner.percentile,
            scenario=owner.scenario,
        )
        folded = owner.method == "percentile" and owner.symmetric
        made.histogram_dict = {
            name: _uniform(histogram, dtype, owner.num_bins, folded=folded)
            for name, (histogram, dtype) in owner._engine.seen()
        }
        return made

    return make


def _uniform(
    histogram: Histogram, dtype: np.dtype[Any], num_bins: int, *, folded: bool
) -> tuple[Any, Any, Any, Any]:
    """Return counts, edges and extremes as onnxruntime's collector keeps them.

    Equal bins over [-T, T], T being the largest magnitude; or, `folded`, of |x| over [0, T].
    """
    low, high = histogram.min or 0.0, histogram.max or 0.0
    limit = max(abs(low), abs(high))
    extremes = (np.array(low, dtype), np.array(high, dtype))
    if not limit:  # as numpy does for a range of width 0
        counts, edges = np.histogram(np.zeros(1), num_bins, range=(-0.5, 0.5))
        return counts * histogram.zeros, edges.astype(dtype), *extremes
    if folded:
        counts, edges = histogram.rebin(2 * num_bins, -limit, limit)
        whole = counts.astype(np.int64)
        whole = whole[num_bins:] + whole[:num_bins][::-1]
        return whole, edges[num_bins:].astype(dtype), *extremes
    counts, edges = histogram.rebin(num_bins, -limit, limit)
    whole = counts.astype(np.int64)
    # numpy's edge in the middle may be a rounding error above 0, and zeros are many.
    end = dtype.type(limit)
    zero, wanted = np.histogram(np.zeros(1, dtype), num_bins, range=(-end, end))
    whole[np.searchsorted(edges, 0.0, side="right") - 1] -= histogram.zeros
    whole[np.argmax(zero)] += histogram.zeros
    return whole, wanted.astype(dtype), *extremes
