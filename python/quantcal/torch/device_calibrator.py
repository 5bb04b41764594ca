"""A calibrator that fetches counts from another device when it is read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from quantcal._statistics import Stats
from quantcal.calibrator import Calibrator


class DeviceCalibrator(Calibrator):
    """A `Calibrator` with a part of its statistics still on another device.

    Parameters
    ----------
    fetch
        Adds the statistics of the device to the calibrator. Every read calls it.
    """

    __slots__ = ("_fetch", "_writers", "fetched", "sample")

    fetched: dict[str, Stats]
    """The statistics that have arrived from the device so far, by name."""
    sample: Any
    """Copies of the inputs of the first forward pass, for `smoothquant`, or None."""

    def __init__(self, fetch: Callable[[], None]) -> None:
        self._fetch = fetch
        self.sample = None
        # The threads that add statistics. They hold its lock, so they must not fetch again.
        self._writers: set[int] = set()
        super().__init__()

    @property
    def _tensors(self) -> dict[str, Stats]:
        if threading.get_ident() not in self._writers:
            self._fetch()
        return self.fetched

    @_tensors.setter
    def _tensors(self, tensors: dict[str, Stats]) -> None:
        self.fetched = tensors

    def add_stats(self, parts: Iterable[tuple[str, Stats]]) -> None:
        self._writers.add(threading.get_ident())
        try:
            super().add_stats(parts)
        finally:
            self._writers.discard(threading.get_ident())
