"""What the hooks see, counted at once and added to a calibrator forward by forward.

CPU tensors are counted by the engine, where they lie. Of tensors on another device the counts
stay there until somebody reads the calibrator, or there are too many of them.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal._process.forks import new_lock
from quantcal._statistics import Stats, add_observation, new_stats
from quantcal.calibrator import Calibrator
from quantcal.torch.device import Counted, check_finite, count
from quantcal.torch.device_calibrator import LiveCalibrator
from quantcal.torch.forwards import Forward
from quantcal.torch.readable import as_engine_reads, is_elsewhere, readable
from quantcal.torch.samples import copied as copied_inputs
from quantcal.torch.weights import weights_of

MAX_DEVICE_BYTES = 512 << 20
"""Counts on other devices, above which they are fetched: some 400 whole tensors of float32."""
MAX_OBSERVATIONS = 4096
"""Extremes of so many observations of a tensor may wait on its device."""


class Recording:
    """Counts tensors, and adds what a complete forward saw to the calibrator."""

    def __init__(
        self, calibrator: Calibrator | None, *, axis: int | None, merge_calls: bool
    ) -> None:
        self._waiting: dict[str, list[Counted]] = {}
        self._lock = new_lock()
        self.calibrator = (
            LiveCalibrator(self.fetch) if calibrator is None else calibrator
        )
        self.called: set[str] = set()
        """Paths of the modules that were called."""
        self._found: dict[tuple[str, str], int] = {}
        """By path and kind: 2 if there were tensors, 1 if something else, 0 if nothing."""
        self._axis = axis
        self._merge_calls = merge_calls

    def weights(self, modules: dict[str, nn.Module], axis: int | None) -> None:
        """Record the weights of modules, as far as they have any."""
        named: dict[str, Any] = {}
        for path, module in modules.items():
            of_module = {name: w.tensor for name, w in weights_of(module).items()}
            of_module.setdefault("weight", getattr(module, "weight", None))
            named |= {f"{path}:{name}": tensor for name, tensor in of_module.items()}
        self.calibrator.observe_many(
            {
                name: readable(name, weight)
                for name, weight in named.items()
                if isinstance(weight, torch.Tensor)
            },
            axis=axis,
        )

    def of(
        self, name: str, tensor: torch.Tensor, keep: torch.Tensor | None
    ) -> Stats | Counted:
        """Count one tensor, or the positions of it that are kept."""
        values = readable(name, tensor)
        axis = self._axis
        if keep is not None and axis is not None and axis < keep.ndim - values.ndim:
            msg = (
                f'Tensor "{name}" of shape {list(values.shape)}: axis {axis} is masked by a '
                f"mask of {list(keep.shape)}, so it cannot be that of the channels"
            )
            raise CalibrationError(msg)
        calibrator = self.calibrator
        if is_elsewhere(values):
            try:
                return count(values, keep, axis, calibrator.mantissa_bits)
            except (CalibrationError, TypeError) as error:
                msg = f'Tensor "{name}": {error}'
                raise type(error)(msg) from error
        if keep is not None:
            values = values[keep]
        return add_observation(
            name,
            new_stats(axis, calibrator.mantissa_bits),
            as_engine_reads(values, axis),
            finite_only=calibrator.on_nonfinite == "raise",
            hold=True,
        )

    def note(self, path: str, kind: str, *, found: bool, given: bool) -> None:
        """Note whether a call's input or output had tensors to record, if it had anything."""
        seen = 2 if found else int(given)
        self._found[path, kind] = max(seen, self._found.get((path, kind), 0))

    def empty(self) -> list[str]:
        """Return the inputs and outputs in which no call had tensors.

        Modules that take nothing are among them if nothing came from them either.
        """
        full = {path for (path, _), seen in self._found.items() if seen == 2}
        return [
            f'the {kind} of "{path}"'
            for (path, kind), seen in self._found.items()
            if seen == 1 or (seen == 0 and path not in full)
        ]

    def begin(self, forward: Forward) -> None:
        """Copy the inputs of a forward while there is no sample: `smoothquant` needs one."""
        live = self.calibrator
        wanted = isinstance(live, LiveCalibrator) and live.sample is None
        if self._axis is not None and wanted:
            with contextlib.suppress(Exception):  # then the user gives a sample there
                forward.notes["sample"] = copied_inputs(forward.args, forward.kwargs)

    def include(self, forward: Forward) -> None:
        """Add what a complete forward saw: all of it, or nothing after an error."""
        parts: list[tuple[str, Stats]] = []
        waiting: list[tuple[str, Counted]] = []
        strict = self.calibrator.on_nonfinite == "raise"
        for path, call, (suffix, record) in forward.records:
            several = forward.calls[path] > 1 and not self._merge_calls
            name = f"{path}#{call}{suffix}" if several else path + suffix
            if not isinstance(record, Counted):
                parts.append((name, record))
            elif strict:
                stats = record.fetch()
                check_finite(name, stats)
                parts.append((name, stats))
            else:
                waiting.append((name, record))
        if parts:
            self.calibrator.add_stats(parts)
        if waiting:
            self._wait(waiting)
        live = self.calibrator
        if isinstance(live, LiveCalibrator) and live.sample is None:
            live.sample = forward.notes.get("sample")

    def _wait(self, records: list[tuple[str, Counted]]) -> None:
        """Keep counts where they are, added to those of the same tensor that wait already."""
        with self._lock:
            for name, record in records:
                kinds = self._waiting.setdefault(name, [])
                for counted in kinds:
                    if counted.fits(record):
                        counted.add(record)
                        break
                else:
                    kinds.append(record)
            every = [c for kinds in self._waiting.values() for c in kinds]
            full = sum(c.nbytes for c in every) > MAX_DEVICE_BYTES
            many = any(c.observations >= MAX_OBSERVATIONS for c in every)
        if full or many:
            self.fetch()

    def fetch(self) -> None:
        """Add what waits on other devices to the calibrator."""
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        self.calibrator.add_stats(
            [(name, c.fetch()) for name, kinds in waiting.items() for c in kinds]
        )


def copied(record: Stats | Counted) -> Stats | Counted:
    """Return a copy that another tensor may have for its own."""
    return record.copy()
