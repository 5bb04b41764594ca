"""onnxruntime's own `quantize_static` on our engine, with no other change in a script.

onnxruntime's calibrators are replaced by subclasses that observe with
:func:`quantcal.onnx.observe` and hand its histograms to the original code, which decides.
So memory no longer grows with the samples, their shapes may vary, NaN and infinities are
left out, and the result does not depend on how the samples are split.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from quantcal._core import CalibrationError
from quantcal._process.forks import new_lock
from quantcal._text import shown
from quantcal.onnx._model._optional import require
from quantcal.onnx._ort.calibrators import DEFAULT_BINS, subclasses

_LOCK = new_lock()
_ACTIVE: list[Patch] = []
_REPLACED: list[tuple[ModuleType, str, Any, Any]] = []
_MODULES = ("onnxruntime.quantization.calibrate", "onnxruntime.quantization")


def patch_onnxruntime(*, entropy_bins: int | None = None) -> Patch:
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

    Parameters
    ----------
    entropy_bins : int, optional
        So many bins for Entropy in place of its default of 128, with which it looks at one
        range only and returns MinMax (a warning says so); 2048 is usual.
        ``quantize_static`` has no option for it. A ``num_bins`` of the script stays.

    Returns
    -------
    Patch

    Raises
    ------
    CalibrationError
        If ``entropy_bins`` is no whole number above 128.
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
    >>> with qc.onnx.patch_onnxruntime():
    ...     quantize_static("model.onnx", "int8.onnx", Reader())
    """
    if entropy_bins is not None and not _is_more_than_default(entropy_bins):
        raise CalibrationError(
            f"entropy_bins is {shown(entropy_bins)}. Give a whole number above {DEFAULT_BINS}, "
            "such as 2048."
        )
    require()
    acceleration = Patch(entropy_bins)
    with _LOCK:
        if not _ACTIVE:
            _replace()
        _ACTIVE.append(acceleration)
    return acceleration


class Patch:
    """What :func:`patch_onnxruntime` returns: undo it once, or leave its ``with`` block."""

    def __init__(self, entropy_bins: int | None = None) -> None:
        self.entropy_bins = entropy_bins

    def undo(self) -> None:
        """Give onnxruntime its classes back unless another call still needs ours.

        A second call does nothing. What somebody else has put in their place since stays.
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
    """Return what the last of the active calls says, of those that say something."""
    said = [active.entropy_bins for active in _ACTIVE if active.entropy_bins]
    return said[-1] if said else None


def _restore() -> None:
    while _REPLACED:
        place, name, old, new = _REPLACED.pop()
        if getattr(place, name, None) is new:
            setattr(place, name, old)
