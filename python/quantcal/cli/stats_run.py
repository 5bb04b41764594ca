"""A command on a file of histograms: its checks, its files and its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from quantcal.cli.errors import check_outputs
from quantcal.cli.options import check_format
from quantcal.cli.results import load_stats

if TYPE_CHECKING:
    from quantcal.calibrator import Calibrator


_Result = TypeVar("_Result")


class StatsRun:
    """One run on a file of histograms.

    Parameters
    ----------
    stats
        The file.
    output
        What the run writes; None for nothing.
    reads
        Other files that the run reads.
    format, symmetric, power_of_two
        The format of the codes, as the flags give it.

    Attributes
    ----------
    calibrator
        The histograms.
    seconds
        How long the work took.

    Raises
    ------
    typer.BadParameter
        If the format is not known.
    CalibrationError
        If a file cannot be read, or the output cannot be written.
    """

    def __init__(
        self,
        stats: Path,
        output: Path | None,
        reads: Iterable[str | Path] = (),
        *,
        format: str | None,
        symmetric: bool | None,
        power_of_two: bool,
    ) -> None:
        check_format(format, symmetric, power_of_two)
        self._output, self._reads = output, [stats, *reads]
        self._check()
        self.calibrator: Calibrator = load_stats(stats)
        self.seconds = 0.0

    def work(self, work: Callable[[Calibrator], _Result]) -> _Result:
        """Do the work and measure its time. Check the output again before it is written."""
        started = time.perf_counter()
        result = work(self.calibrator)
        self.seconds = time.perf_counter() - started
        self._check()
        return result

    def _check(self) -> None:
        check_outputs([self._output], self._reads)
