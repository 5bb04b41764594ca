"""Observing the language model: by quantcal, and by torch's HistogramObserver beside it.

What was observed is kept in a folder, with the median seconds of a window, so that a run can
be continued.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import quantcal as qc
from quantcal.torch import observe

from .configurations import READ, Table
from .smollm2 import LlamaForCausalLM

PEER = "torch HistogramObserver"


@torch.no_grad()
def seconds(model: LlamaForCausalLM, windows: Tensor) -> float:
    """Run the model on each window; return the median seconds of one."""
    found = []
    for window in windows:
        start = time.perf_counter()
        model(window[None])
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def observe_windows(
    model: LlamaForCausalLM, windows: Tensor, axis: int | None = None
) -> tuple[qc.Calibrator, float]:
    """Return histograms of the inputs of all linear layers, and the seconds of a window."""
    with observe(model, list(READ), axis=axis) as cal:
        took = seconds(model, windows)
    return cal, took


def torch_ranges(
    model: LlamaForCausalLM, windows: Tensor, names: Iterable[str]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return HistogramObserver's ranges of the inputs of some modules, and its seconds."""
    from torch.ao.quantization.observer import HistogramObserver

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        observers = {name: HistogramObserver(dtype=torch.quint8) for name in names}
    modules = dict(model.named_modules())
    with contextlib.ExitStack() as stack:
        for name, observer in observers.items():
            handle = modules[name].register_forward_pre_hook(_hook(observer))
            stack.callback(handle.remove)
        took = {"window": seconds(model, windows)}
    start = time.perf_counter()
    chosen = {name: o.calculate_qparams() for name, o in observers.items()}
    took["choosing"] = time.perf_counter() - start
    ranges = {
        name: [(code - int(zero_point)) * float(scale) for code in (0, 255)]
        for name, (scale, zero_point) in chosen.items()
    }
    return ranges, took


def _hook(observer: Any) -> Callable[[Any, tuple[Tensor, ...]], None]:
    def record(_: Any, args: tuple[Tensor, ...]) -> None:
        observer(args[0])

    return record


class Observations:
    """What was observed of one model on the same windows, in a folder."""

    def __init__(self, folder: Path, model: LlamaForCausalLM, windows: Tensor) -> None:
        self._folder = folder
        self._model = model
        self._windows = windows
        self.seconds: dict[str, float] = {}
        """Of a window, by who observed; of choosing all ranges."""

    def of(self, name: str, axis: int | None = None) -> qc.Calibrator:
        """Return the histograms, read or observed now."""
        path, told = self._path(name, "qcal"), self._path(name, "json")
        if not path.is_file():
            cal, took = observe_windows(self._model, self._windows, axis)
            told.write_text(json.dumps(took), encoding="utf-8")
            cal.save(path)
        self.seconds[name] = json.loads(told.read_text("utf-8"))
        return qc.load(path)

    def by_torch(self, names: Iterable[str]) -> Table:
        """Return the ranges of HistogramObserver, read or observed now."""
        path = self._path("torch", "json")
        if not path.is_file():
            ranges, took = torch_ranges(self._model, self._windows, names)
            took["plain"] = seconds(self._model, self._windows[:5])
            content = {"seconds": took, "ranges": ranges}
            path.write_text(json.dumps(content, indent=1), encoding="utf-8")
        content = json.loads(path.read_text("utf-8"))
        self.seconds |= {f"torch {of}": s for of, s in content["seconds"].items()}
        return {
            name: qc.QuantParams.from_range(low, high, format="uint8")
            for name, (low, high) in content["ranges"].items()
        }

    def _path(self, name: str, ending: str) -> Path:
        return self._folder / f"observed-{len(self._windows)}-{name}.{ending}"
