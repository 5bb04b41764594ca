"""The options of a run as the text of a TOML file, with what was asked for in comments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError, __version__
from quantcal.onnx._options.config import config_text
from quantcal.onnx._options.cpu import WeightBits
from quantcal.onnx._options.resolved import Options
from quantcal.strategies.policy import Policy
from quantcal.strategies.policy_file import to_toml

if TYPE_CHECKING:
    from quantcal.calibrator import Calibrator
    from quantcal.onnx._model.model import Model


def text_of_run(
    options: Options,
    model: Model,
    bits: WeightBits,
    policy: Policy | None = None,
    histograms: Calibrator | None = None,
    note: str = "",
) -> str | None:
    """Return the text that repeats a run.

    Parameters
    ----------
    options
        As they were asked for, with all defaults.
    model
        Its name is in a comment.
    bits
        What was chosen for ``reduce_range``.
    policy
        The strategies; None when the ranges were those of a table.
    histograms
        They have the settings of the histograms; None without any.
    note
        One more line for the comment at the top.

    Returns
    -------
    The text. None for strategies that no text can hold.
    """
    import onnx
    import onnxruntime

    name = Path(model).name if isinstance(model, (str, os.PathLike)) else "a model"
    versions = f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"
    source = "--from TABLE " if policy is None else "--samples SAMPLES "
    if options.weights_only:
        source = ""
    top = (
        f"How {name} was quantized, by quantcal {__version__} with {versions}.\n"
        f"To repeat it: quantcal quantize MODEL -o OUT {source}--config THIS"
    )
    if policy is None:
        top += "\nThe ranges are those of the table."
    if note:
        top += f"\n{note}"
    remarks = {"": top}
    if options.reduce_range in ("auto", "nodes"):
        asked = to_toml(options.reduce_range)
        remarks["reduce_range"] = f"asked for: {asked}; chosen: {bits.reason}"
    settings = ("mantissa_bits", "on_nonfinite")
    more = {name: getattr(histograms, name, None) for name in settings}
    try:
        return config_text(options.settled(bits), policy, more, remarks)
    except CalibrationError:
        return None
