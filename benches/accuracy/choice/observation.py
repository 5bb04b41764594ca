"""One observation of the samples that several methods share."""

from __future__ import annotations

import time
from pathlib import Path

import quantcal as qc
from benches.accuracy.choice.memory import peak_of
from benches.accuracy.collection.case import Feed


class Observation:
    """A calibrator that is filled when it is first asked for, and what that cost."""

    def __init__(self) -> None:
        self._found: qc.Calibrator | None = None
        self._asked = False
        self.seconds = 0.0
        self.mebibytes: float | None = None

    def calibrator(self, model: Path, samples: list[Feed]) -> qc.Calibrator:
        """Return the calibrator that has observed the samples."""
        self._asked = True
        if self._found is None:
            start = time.perf_counter()
            self.mebibytes = peak_of(lambda: self._observe(model, samples))
            self.seconds = time.perf_counter() - start
        assert self._found is not None
        return self._found

    def asked(self) -> bool:
        """Return whether it was asked for since the last call."""
        was, self._asked = self._asked, False
        return was

    def _observe(self, model: Path, samples: list[Feed]) -> None:
        self._found = qc.onnx.observe(model, samples, progress=False)
