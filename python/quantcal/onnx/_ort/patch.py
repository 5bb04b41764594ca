"""Let onnxruntime's `quantize_static` calibrate with this library.

The patch replaces onnxruntime's calibrators by subclasses. They observe with
:func:`quantcal.onnx.observe` and give its histograms to the original code, which computes the
ranges. So memory does not grow with the samples, and their shapes may vary. NaN and
infinities are ignored, and the result does not depend on how the samples are split.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from quantcal._core import CalibrationError
from quantcal._process.forks import new_lock
from quantcal._text import shown
from quantcal.onnx._model.optional import require
from quantcal.onnx._ort.calibrators import DEFAULT_BINS, subclasses

_LOCK = new_lock()
_ACTIVE: list[Patch] = []
_REPLACED: list[tuple[ModuleType, str, Any, Any]] = []
_MODULES = ("onnxruntime.quantization.calibrate", "onnxruntime.quantization")


def patch_onnxruntime(*, entropy_bins: int | None = None) -> Patch:
    """Make onnxruntime's static quantization calibrate with this library.

    The patch takes effect at once, for `quantize_static` and `create_calibrator`, with all
    four calibration methods. Undo it with ``undo()``, or use it in a ``with`` block, which
    also undoes it after an exception. Calls may be nested and repeated: onnxruntime's
    classes are back when all calls are undone. The patch applies to all threads of the
    process.

    * MinMax gives the same ranges, bit for bit.
    * Percentile, Entropy and Distribution apply the original rules to the histogram of all
      samples together. The original's histogram depends on the first sample. Percentiles
      agree to a bin. The search of Entropy is
      :func:`quantcal.compat.onnxruntime_entropy`.
    * ``symmetric``, ``num_bins``, ``num_quantized_bins``, ``percentile`` and ``scenario``
      have the same meaning. ``max_intermediate_outputs`` is not needed and has no effect;
      the original drops the outputs after that number.
    * ``moving_average`` and ``per_channel`` of MinMax need more than histograms. Such
      calibrators are not replaced.

    Classes that a script imported before the call are the original ones, and so are
    existing calibrators.

    Parameters
    ----------
    entropy_bins : int, optional
        Number of bins for Entropy; 2048 is usual. With its default of 128 Entropy compares
        only one range and returns MinMax, with a warning. ``quantize_static`` has no option
        for it. If a script gives ``num_bins``, that number is used.

    Returns
    -------
    Patch

    Raises
    ------
    CalibrationError
        If ``entropy_bins`` is not an integer above 128.
    ImportError
        If onnxruntime or onnx is missing; the message says how to install them.

    Examples
    --------
    >>> from onnxruntime.quantization import CalibrationMethod, quantize_static
    >>> class Reader:
    ...     def __init__(self):
    ...         self.left = iter([{"x": batch} for batch in batches])
    ...     def get_next(self):
    ...         return next(self.left, None)
    >>> with qc.onnx.patch_onnxruntime():
    ...     quantize_static("model.onnx", "int8.onnx", Reader())
    """
    if entropy_bins is not None and not _is_more_than_default(entropy_bins):
        raise CalibrationError(
            f"entropy_bins is {shown(entropy_bins)}. Give an integer above {DEFAULT_BINS}, "
            "such as 2048."
        )
    require()
    patch = Patch(entropy_bins)
    with _LOCK:
        if not _ACTIVE:
            _replace()
        _ACTIVE.append(patch)
    return patch


class Patch:
    """An active patch of onnxruntime: call :meth:`undo`, or leave its ``with`` block."""

    def __init__(self, entropy_bins: int | None = None) -> None:
        self.entropy_bins = entropy_bins

    def undo(self) -> None:
        """Restore onnxruntime's classes, unless another patch is still active.

        A second call does nothing. Classes that other code replaced since are not restored.
        """
        with _LOCK:
            if self in _ACTIVE:
                _ACTIVE.remove(self)
                if not _ACTIVE:
                    _restore()

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def _replace() -> None:
    calibrate = importlib.import_module(_MODULES[0])
    for name, new in subclasses(calibrate, _entropy_bins).items():
        for place in map(importlib.import_module, _MODULES):
            old = getattr(place, name, None)
            if old is not None:
                setattr(place, name, new)
                _REPLACED.append((place, name, old, new))


def _is_more_than_default(bins: object) -> bool:
    return isinstance(bins, int) and bins > DEFAULT_BINS


def _entropy_bins() -> int | None:
    """Return the number of the last active patch that gives one."""
    given = [active.entropy_bins for active in _ACTIVE if active.entropy_bins]
    return given[-1] if given else None


def _restore() -> None:
    while _REPLACED:
        place, name, old, new = _REPLACED.pop()
        if getattr(place, name, None) is new:
            setattr(place, name, old)
