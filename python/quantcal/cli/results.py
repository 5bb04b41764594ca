"""Files that commands wrote: histograms, or a table of ranges."""

from __future__ import annotations

from pathlib import Path

from quantcal import CalibrationTable, Calibrator, load


def load_either(file: Path) -> Calibrator | CalibrationTable:
    """Read histograms (.qcal) or a table (.json), whichever a file holds.

    Raises
    ------
    CalibrationError
        If it is neither, or cannot be read; names the file.
    """
    return CalibrationTable.load(file) if _is_table(file) else load(file)


def _is_table(file: Path) -> bool:
    """Whether a file is JSON; histograms never begin with a brace."""
    try:
        with file.open("rb") as opened:
            return opened.read(64).lstrip()[:1] == b"{"
    except OSError:  # told when it is read
        return False
