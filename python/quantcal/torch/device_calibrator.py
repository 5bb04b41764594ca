"""A calibrator that fetches counts from elsewhere when it is read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from quantcal._statistics import Stats
from quantcal.calibrator import Calibrator


class LiveCalibrator(Calibrator):
    """A `Calibrator` of which a part may still be on another device.

    Parameters
    ----------
    fetch
        Adds to it what is elsewhere; called whenever it is read.
    """

    __slots__ = ("_fetch", "_kept", "_writers", "sample")

    sample: Any
    """Copies of the inputs of the first forward, for `smoothquant`; None if there are none."""

    def __init__(self, fetch: Callable[[], None]) -> None:
        self._fetch = fetch
        self.sample = None
        self._writers: set[int] = set()  # threads that are adding to it, with its lock
        super().__init__()

    @property
    def _tensors(self) -> dict[str, Stats]:
        if threading.get_ident() not in self._writers:
            self._fetch()
        return self._kept

    @_tensors.setter
    def _tensors(self, tensors: dict[str, Stats]) -> None:
        self._kept = tensors

    def add_stats(self, parts: Iterable[tuple[str, Stats]]) -> None:
        self._writers.add(threading.get_ident())
        try:
            super().add_stats(parts)
        finally:
            self._writers.discard(threading.get_ident())
