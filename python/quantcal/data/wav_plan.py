"""What a model's input says about audio: axes, length, channels, and how many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.data.inputs import Array, Input, describe_input, is_float, needed

_CHANNELS = (1, 2)


@dataclass(frozen=True)
class WavPlan:
    """How audio becomes the array of an input.

    Attributes
    ----------
    name, dtype
        Those of the input: floats, or int16.
    batch
        How many pieces an array has; None if it has no axis for them.
    axis
        That of the channels in a piece, 0 or 1; None if it has none.
    channels, length
        Their number, and frames of a piece; None for whole files.
    """

    name: str
    dtype: np.dtype[Any]
    batch: int | None
    axis: int | None
    channels: int
    length: int | None

    def piece(self, frames: Array) -> Array:
        """Return frames [frames, channels] as a piece of the array."""
        if np.issubdtype(self.dtype, np.int16):
            frames = np.clip(np.rint(frames * 32768), -32768, 32767)
        frames = frames.astype(self.dtype)
        if self.axis is None:
            return frames[:, 0]
        return frames.T if self.axis == 0 else frames


def find_wave_input(inputs: Sequence[Input], constants: Iterable[str]) -> Input:
    """Return the input that takes audio: the only one, or the only one that may.

    Raises
    ------
    CalibrationError
        If there are several, or others have no value.
    """
    open_inputs = needed(inputs, constants)
    if len(open_inputs) == 1:
        return open_inputs[0]
    found = [spec for spec in open_inputs if is_audio(spec)]
    listed = ", ".join(map(describe_input, open_inputs)) or "no further input"
    if len(found) != 1:
        raise CalibrationError(
            f"The model wants {listed}: {len(found)} inputs that could be audio. Give the "
            "others as constants={name: number} (--constant NAME=NUMBER), or make the "
            "samples by code: python:module:callable."
        )
    other = next(spec.name for spec in open_inputs if spec is not found[0])
    raise CalibrationError(
        f"The model wants {listed}. WAV files give {found[0].name!r}; give what each sample "
        f"has elsewhere: constants={{{other!r}: …}} (--constant {other}=NUMBER)."
    )


def is_audio(spec: Input) -> bool:
    """Return whether an input may be audio: floats or int16, [N, T] or with channels."""
    shape, dtype = spec.shape, spec.dtype
    if shape is None or not (is_float(spec) or dtype == np.int16):
        return False
    return len(shape) in (1, 2) or (len(shape) == 3 and _axis(shape) is not None)


def plan_wav(
    spec: Input, length: int | None, channels: int | None, batch: int | None = None
) -> WavPlan:
    """Return how audio becomes the array of an input.

    Raises
    ------
    CalibrationError
        If the options and the input do not fit together.
    """
    wants = f"The model wants {describe_input(spec)}"
    if not is_audio(spec) or spec.shape is None or spec.dtype is None:
        raise CalibrationError(
            f"{wants}, which is not audio: floats or int16 in the order [N, frames], [N, "
            "channels, frames] or [N, frames, channels]. If the model takes spectra, make "
            "them by code: python:module:callable, which yields {input name: array}."
        )
    shape = spec.shape
    axis = _axis(shape) if len(shape) == 3 else None
    frames = shape[-1] if axis != 1 else shape[1]
    fixed = 1 if axis is None else shape[1 + axis]
    if channels is not None and fixed not in (None, channels):
        raise CalibrationError(
            f"{wants}: {fixed} channels, but channels (--channels) is {channels}. Leave it "
            "out."
        )
    if length is not None and frames not in (None, length):
        raise CalibrationError(
            f"{wants}: {frames} frames, but length (--length) is {length}. Leave it out."
        )
    batch = None if len(shape) == 1 else shape[0] or 1
    length = frames or length
    if length is None and (batch or 1) > 1:
        raise CalibrationError(
            f"{wants}: {batch} pieces of equal length. Give length (--length) in frames."
        )
    return WavPlan(spec.name, spec.dtype, batch, axis, fixed or channels or 1, length)


def _axis(shape: Sequence[int | None]) -> int | None:
    """Return the axis of channels without that of the batch; None if no axis may be it."""
    first, last = shape[1], shape[2]
    if first in _CHANNELS:
        return 0
    if last in _CHANNELS:
        return 1
    return 0 if first is None else None
