"""Pictures as files, without a screen."""

from __future__ import annotations

import io
from pathlib import Path

from quantcal._core import CalibrationError
from quantcal._io.files import write_bytes
from quantcal.comparison.comparison import Comparison
from quantcal.report import canvas
from quantcal.report.comparison import figure_size


def save_comparison(comparison: Comparison, path: Path) -> None:
    """Draw a comparison into a file.

    Parameters
    ----------
    comparison
        A comparison of one tensor or of several.
    path
        Its suffix is the format: .png, .svg, .pdf or another one of matplotlib.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    CalibrationError
        If the suffix is not known, or the file cannot be written.
    """
    canvas.require()
    from matplotlib.figure import Figure

    figure = Figure(figsize=figure_size(comparison), layout="constrained")
    kinds = sorted(figure.canvas.get_supported_filetypes())
    kind = path.suffix.lower().removeprefix(".")
    if kind not in kinds:
        endings = ", ".join(f".{kind}" for kind in kinds)
        raise CalibrationError(
            f'{path}: a picture cannot end in "{path.suffix}"; take one of {endings}'
        )
    comparison.plot(figure.subplots())
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, format=kind)
    write_bytes(path, drawn.getvalue())
