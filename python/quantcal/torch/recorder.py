"""Counts the tensors that hooks see, and adds them to a calibrator pass by pass.

The engine counts CPU tensors in place. Counts of tensors on another device stay there until
the calibrator is read, or until they exceed a limit.
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
from quantcal.torch.device_calibrator import DeviceCalibrator
from quantcal.torch.device_counts import DeviceCounts, check_finite, count_on_device
from quantcal.torch.forward_passes import ForwardPass
from quantcal.torch.sample_runner import copy_inputs
from quantcal.torch.tensor_values import as_engine_input, is_off_cpu, plain_values
from quantcal.torch.weights import weights_of

# Some 400 whole tensors of float32. Above it all counts are fetched from the device.
MAX_DEVICE_BYTES = 512 << 20
"""Maximum size of the counts that stay on other devices."""
MAX_OBSERVATIONS = 4096
"""Maximum number of observations of a tensor that stay on its device."""


class Recorder:
    """Counts tensors, and adds the counts of each complete forward pass to a calibrator.

    Parameters
    ----------
    calibrator
        Receives the counts; None makes a new one.
    axis, merge_calls
        As for `observe`.
    """

    def __init__(
        self, calibrator: Calibrator | None, *, axis: int | None, merge_calls: bool
    ) -> None:
        self._pending: dict[str, list[DeviceCounts]] = {}
        self._lock = new_lock()
        self.calibrator = (
            DeviceCalibrator(self.fetch) if calibrator is None else calibrator
        )
        self.called: set[str] = set()
        """Paths of the modules that were called."""
        self._seen: dict[tuple[str, str], int] = {}
        """By path and kind: 2 after a tensor, 1 after another value, 0 after no value."""
        self._axis = axis
        self._merge_calls = merge_calls

    def record_weights(self, modules: dict[str, nn.Module], axis: int | None) -> None:
        """Record all weights of the modules."""
        named: dict[str, Any] = {}
        for path, module in modules.items():
            of_module = {name: w.tensor for name, w in weights_of(module).items()}
            of_module.setdefault("weight", getattr(module, "weight", None))
            named |= {f"{path}:{name}": tensor for name, tensor in of_module.items()}
        self.calibrator.observe_many(
            {
                name: plain_values(name, weight)
                for name, weight in named.items()
                if isinstance(weight, torch.Tensor)
            },
            axis=axis,
        )

    def count(
        self, name: str, tensor: torch.Tensor, keep: torch.Tensor | None
    ) -> Stats | DeviceCounts:
        """Count one tensor, or only its positions in the mask `keep`.

        Raises
        ------
        TypeError
            If the tensor does not hold plain floats.
        CalibrationError
            If it has no such axis, or the mask covers the axis.
        """
        values = plain_values(name, tensor)
        axis = self._axis
        if keep is not None and axis is not None and axis < keep.ndim - values.ndim:
            msg = (
                f'Tensor "{name}" of shape {list(values.shape)}: axis {axis} is masked by a '
                f"mask of {list(keep.shape)}, so it cannot be that of the channels"
            )
            raise CalibrationError(msg)
        calibrator = self.calibrator
        if is_off_cpu(values):
            try:
                return count_on_device(values, keep, axis, calibrator.mantissa_bits)
            except (CalibrationError, TypeError) as error:
                msg = f'Tensor "{name}": {error}'
                raise type(error)(msg) from error
        if keep is not None:
            values = values[keep]
        return add_observation(
            name,
            new_stats(axis, calibrator.mantissa_bits),
            as_engine_input(values, axis),
            finite_only=calibrator.on_nonfinite == "raise",
            hold=True,
        )

    def note_call(self, path: str, kind: str, *, found: bool, given: bool) -> None:
        """Note whether the input or output of a call held values, and tensors to record."""
        seen = 2 if found else int(given)
        self._seen[path, kind] = max(seen, self._seen.get((path, kind), 0))

    def without_tensors(self) -> list[str]:
        """Return the inputs and outputs that held no tensor in any call.

        A module without inputs is listed only if its outputs held no tensor either.
        """
        full = {path for (path, _), seen in self._seen.items() if seen == 2}
        return [
            f'the {kind} of "{path}"'
            for (path, kind), seen in self._seen.items()
            if seen == 1 or (seen == 0 and path not in full)
        ]

    def copy_sample(self, forward: ForwardPass) -> None:
        """Copy the inputs of the first forward pass, on which `smoothquant` checks itself."""
        calibrator = self.calibrator
        wanted = isinstance(calibrator, DeviceCalibrator) and calibrator.sample is None
        if self._axis is not None and wanted:
            # If they cannot be copied, `smoothquant` asks the user for a sample.
            with contextlib.suppress(Exception):
                forward.notes["sample"] = copy_inputs(forward.args, forward.kwargs)

    def add_forward(self, forward: ForwardPass) -> None:
        """Add the records of a complete forward pass; add nothing after an error.

        Raises
        ------
        CalibrationError
            If the calibrator refuses values that are not finite, or other channels.
        """
        parts: list[tuple[str, Stats]] = []
        pending: list[tuple[str, DeviceCounts]] = []
        strict = self.calibrator.on_nonfinite == "raise"
        for path, call, (suffix, record) in forward.records:
            several = forward.calls[path] > 1 and not self._merge_calls
            name = f"{path}#{call}{suffix}" if several else path + suffix
            if not isinstance(record, DeviceCounts):
                parts.append((name, record))
            elif strict:
                stats = record.fetch()
                check_finite(name, stats)
                parts.append((name, stats))
            else:
                pending.append((name, record))
        if parts:
            self.calibrator.add_stats(parts)
        if pending:
            self._defer(pending)
        calibrator = self.calibrator
        if isinstance(calibrator, DeviceCalibrator) and calibrator.sample is None:
            calibrator.sample = forward.notes.get("sample")

    def _defer(self, records: list[tuple[str, DeviceCounts]]) -> None:
        """Keep counts on their device, merged with pending counts of the same tensor."""
        with self._lock:
            for name, record in records:
                pending = self._pending.setdefault(name, [])
                for counts in pending:
                    if counts.fits(record):
                        counts.add(record)
                        break
                else:
                    pending.append(record)
            every = [c for pending in self._pending.values() for c in pending]
            full = sum(c.nbytes for c in every) > MAX_DEVICE_BYTES
            many = any(c.observations >= MAX_OBSERVATIONS for c in every)
        if full or many:
            self.fetch()

    def fetch(self) -> None:
        """Add the counts that are pending on other devices to the calibrator."""
        if not self._pending:
            return
        with self._lock:
            fetched, self._pending = self._pending, {}
        self.calibrator.add_stats(
            [(name, c.fetch()) for name, pending in fetched.items() for c in pending]
        )
