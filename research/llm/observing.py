"""Observing the language model, with quantcal and with torch's HistogramObserver.

The histograms are stored in a folder, so that a run can be continued.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import quantcal as qc

from .chain import Chain
from .configurations import Table
from .reading import at_once

PEER = "torch HistogramObserver"

Task = Callable[[], object]


def observing(
    chain: Chain, windows: Tensor, whole: qc.Calibrator, channels: qc.Calibrator | None
) -> list[Task]:
    """Return tasks that add all windows to histograms, in any order: counts are exact."""

    def see(name: str, tensor: Tensor) -> None:
        values = tensor.numpy()
        whole.observe(name, values)
        if channels is not None:
            channels.observe(name, values, axis=-1)

    return [lambda w=w: chain.observe(w, see) for w in windows]  # type: ignore[misc]


def torch_ranges(chain: Chain, windows: Tensor) -> dict[str, list[float]]:
    """Return HistogramObserver's ranges, which depend on the order of the windows."""
    from torch.ao.quantization.observer import HistogramObserver

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        observers = {n: HistogramObserver(dtype=torch.quint8) for n in chain.names}
    for window in windows:
        chain.observe(window, lambda name, tensor: observers[name](tensor))
    chosen = {name: o.calculate_qparams() for name, o in observers.items()}
    return {
        name: [(code - int(zero_point)) * float(scale) for code in (0, 255)]
        for name, (scale, zero_point) in chosen.items()
    }


class Observations:
    """What was observed on the same windows, in a folder."""

    def __init__(self, folder: Path, windows: Tensor, workers: int) -> None:
        self._folder = folder
        self._windows = windows
        self._workers = workers

    def of_model(
        self, chain: Chain, *, channels: bool, peer: bool
    ) -> tuple[qc.Calibrator, qc.Calibrator | None, Table | None]:
        """Return histograms, those by channel, and torch's ranges: read or observed now."""
        paths = self._path("whole", "qcal"), self._path("channels", "qcal")
        wanted = [paths[0], *([paths[1]] if channels else [])]
        tasks: list[Task] = []
        if peer and not self._path("torch", "json").is_file():
            tasks.append(lambda: self._observe_by_torch(chain))  # the longest first
        made = [qc.Calibrator(), qc.Calibrator()]
        missing = not all(path.is_file() for path in wanted)
        if missing:
            both = made[0], made[1] if channels else None
            tasks += observing(chain, self._windows, *both)
        at_once(tasks, self._workers)
        if missing:
            for cal, path in zip(made, wanted, strict=False):
                cal.save(path)
        by_channel = qc.load(paths[1]) if channels else None
        return qc.load(paths[0]), by_channel, self._by_torch() if peer else None

    def of_smoothed(self, chains: dict[str, Chain]) -> dict[str, qc.Calibrator]:
        """Return the histograms of smoothed models by their labels."""
        paths = {name: self._path(name.replace(" ", "-"), "qcal") for name in chains}
        made = {name: qc.Calibrator() for name in chains if not paths[name].is_file()}
        tasks = [
            task
            for name, cal in made.items()
            for task in observing(chains[name], self._windows, cal, None)
        ]
        at_once(tasks, self._workers)
        for name, cal in made.items():
            cal.save(paths[name])
        return {name: qc.load(path) for name, path in paths.items()}

    def _observe_by_torch(self, chain: Chain) -> None:
        text = json.dumps(torch_ranges(chain, self._windows), indent=1)
        part = self._path("torch", "part")
        part.write_text(text, encoding="utf-8")
        part.replace(self._path("torch", "json"))

    def _by_torch(self) -> Table:
        ranges = json.loads(self._path("torch", "json").read_text("utf-8"))
        return {
            name: qc.QuantParams.from_range(low, high, format="uint8")
            for name, (low, high) in ranges.items()
        }

    def _path(self, name: str, ending: str) -> Path:
        return self._folder / f"observed-{len(self._windows)}-{name}.{ending}"
