"""Checking the files of a run: before it starts, and again before results are written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal.onnx._check.files_in_use import RunFiles, policy_files
from quantcal.onnx._write.output import check_file, weights_beside

if TYPE_CHECKING:
    from quantcal.onnx._model.model import Model


__all__ = ["FileCheck", "RunFiles"]


class FileCheck:
    """Knows what a run reads, and refuses outputs that would replace it.

    Parameters
    ----------
    model
        A path, bytes or ``onnx.ModelProto``. Of a path, the files of its weights count too.
    reads
        Samples, histograms, tables and files of options, in whatever form a caller holds
        them. What was made of paths counts as these paths; None does not count.
    strategies
        Strategies as ``quantize`` takes them: of a policy file, the file counts.

    Examples
    --------
    >>> files = qc.onnx.FileCheck("model.onnx", ["calibration/"])
    >>> files.check("stats.qcal")
    """

    def __init__(
        self,
        model: Model | None,
        reads: Iterable[object] = (),
        strategies: Iterable[object] = (),
    ) -> None:
        policies = [file for each in strategies for file in policy_files(each)]
        self._used = RunFiles(model, *reads, *policies)

    def check(self, output: str | os.PathLike[str]) -> None:
        """Refuse an output that cannot be written, or that the run reads.

        Raises
        ------
        CalibrationError
            If it is no regular file, its folder is missing or cannot be written to, or it
            is a file that the run reads, under whatever name.
        """
        check_file(output, self._used)

    def check_model(self, output: str | os.PathLike[str]) -> Path:
        """Do the same for a model, and for the file of its weights, which is returned.

        Raises
        ------
        CalibrationError
            As :meth:`check`, for either file.
        """
        check_file(output, self._used).check_both()
        return weights_beside(Path(output))
