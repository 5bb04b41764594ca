"""Files that commands wrote: histograms, or a table of ranges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quantcal.cli.errors import CommandError

if TYPE_CHECKING:
    from quantcal.calibrator import Calibrator
    from quantcal.table import CalibrationTable


def load_either(file: Path) -> Calibrator | CalibrationTable:
    """Read histograms (.qcal) or a table (.json), whichever a file holds.

    Raises
    ------
    CommandError
        If it is a model.
    CalibrationError
        If it is neither, or cannot be read; names the file.
    """
    from quantcal._load import load
    from quantcal.table import CalibrationTable

    _refuse_model(file)
    return CalibrationTable.load(file) if _is_table(file) else load(file)


def load_stats(file: Path) -> Calibrator:
    """Read histograms; for a table, name the command that writes histograms.

    Raises
    ------
    CommandError
        If the file holds a table, or is a model.
    CalibrationError
        If it is neither, or cannot be read; names the file.
    """
    from quantcal._load import load

    _refuse_model(file)
    if _is_table(file):
        raise CommandError(
            f"{file} holds a table, not histograms. "
            "Give the file that `quantcal observe` wrote (.qcal)."
        )
    return load(file)


def load_table(file: Path) -> CalibrationTable:
    """Read a table; for histograms, name the command that makes a table of them.

    Raises
    ------
    CommandError
        If the file holds histograms, or is a model.
    CalibrationError
        If it is neither, or cannot be read; names the file.
    """
    from quantcal.table import CalibrationTable

    _refuse_model(file)
    if _begins_with(file, b"QCAL"):
        raise CommandError(
            f"{file} holds histograms, not a table. "
            f"`quantcal compute {file} -o table.json` makes one."
        )
    return CalibrationTable.load(file)


def _refuse_model(file: Path) -> None:
    """Refuse an ONNX model, and name the command that makes histograms of it."""
    ours = _is_table(file) or _begins_with(file, b"QCAL")
    if file.suffix.lower() == ".onnx" and file.is_file() and not ours:
        raise CommandError(
            f"{file} is a model, not a file of histograms or ranges. `quantcal observe {file} "
            "-o stats.qcal --samples SAMPLES` makes histograms with it."
        )


def _is_table(file: Path) -> bool:
    """Whether a file is JSON; histograms never begin with a brace."""
    return _begins_with(file, b"{")


def _begins_with(file: Path, what: bytes) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(64).lstrip().startswith(what)
    except OSError:  # reported when it is read
        return False
