"""`load`: a calibrator from the file that it was saved to."""

from __future__ import annotations

from pathlib import Path

from quantcal._core import CalibrationError
from quantcal._io.file_kinds import wrapped
from quantcal._io.files import read_bytes
from quantcal._table_file import KIND
from quantcal.calibrator import Calibrator


def load(path: str | Path) -> Calibrator:
    """Read a calibrator that `Calibrator.save` wrote.

    Raises
    ------
    CalibrationError
        If the file cannot be read, is something else, was cut off or altered, or is from a
        newer version; the message names it.
    """
    data = read_bytes(path)
    try:
        return Calibrator.from_bytes(data)
    except CalibrationError as error:
        msg = f"{path}: {error}"
        kind = wrapped(data)
        if kind is not None:
            msg = f"{path} is {kind.what}. {kind.remedy}"
        if data.startswith(b"{") and KIND.encode() in data:
            msg = (
                f"{path} holds a table, not histograms; "
                "quantcal.CalibrationTable.load reads it"
            )
        raise CalibrationError(msg) from error
