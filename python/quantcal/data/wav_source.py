"""Samples of audio: WAV files, whole or in pieces of one length."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.data.folders import WAVES, find_files
from quantcal.data.inputs import Array, Input, UsualInput
from quantcal.data.source import (
    Bound,
    Named,
    SampleSource,
    as_count,
    description,
    fill,
    in_groups,
)
from quantcal.data.thinning import spread
from quantcal.data.wav_file import (
    WavHeader,
    chunks_of,
    read_frames,
    read_header,
    resample,
    to_channels,
)
from quantcal.data.wav_plan import WavPlan, find_wave_input, plan_wav


class WavSource(SampleSource):
    """Pieces of WAV files as samples; made by :func:`wav`."""

    def __init__(
        self,
        files: Sequence[Path],
        origin: object,
        rate: int,
        length: int | None,
        channels: int | None,
        most: int | None,
        constants: object,
    ) -> None:
        super().__init__(files, constants)
        self._origin = origin
        self._rate = rate
        self._length = length
        self._channels = channels
        self._most = most

    def __repr__(self) -> str:
        return description(len(self.files), "WAV file", self._origin)

    def usual_inputs(self) -> Sequence[Input]:
        """Return one input [N, frames] of any size, named "audio"."""
        shape: tuple[int | None, ...] = (None, None)
        if (self._channels or 1) > 1:
            shape = (None, self._channels, None)
        return [UsualInput("audio", np.dtype(np.float32), shape)]

    @cached_property
    def _headers(self) -> list[WavHeader]:
        return [read_header(file) for file in self.files]

    def bind(self, inputs: Sequence[Input]) -> Bound:
        """Return the samples for a model."""
        spec = find_wave_input(inputs, self.constants)
        plan = plan_wav(spec, self._length, self._channels)
        constants = fill(self.constants, inputs)
        places = spread(list(self._places(plan)), self._most)
        if not places:
            raise CalibrationError(f"{self!r}: they are empty. Give others.")

        def pieces() -> Iterator[tuple[str, Array]]:
            current, frames = -1, np.empty((0, 1), np.float32)
            for number, start, end in places:
                if number != current:
                    current, frames = number, self._read(number, plan)
                part = frames[start:end]
                if plan.length is not None and len(part) < plan.length:
                    part = np.pad(part, ((0, plan.length - len(part)), (0, 0)))
                seconds = f"{start / self._rate:.2f} s"
                yield f"{self.files[number]}, {seconds}", plan.piece(part)

        groups, count = in_groups(pieces, len(places), plan.batch or 1, "pieces")

        def start() -> Iterator[Named]:
            for where, group in groups():
                array = group[0] if plan.batch is None else np.stack(group)
                yield where, {plan.name: array} | constants

        return Bound(start, count)

    def _places(self, plan: WavPlan) -> Iterator[tuple[int, int, int]]:
        """Yield the file, the beginning and the end of each piece."""
        for number, header in enumerate(self._headers):
            count = header.frames
            if count:
                count = max(1, round(count * self._rate / header.rate))
                for start, end in chunks_of(count, plan.length):
                    yield number, start, end

    def _read(self, number: int, plan: WavPlan) -> Array:
        file, header = self.files[number], self._headers[number]
        frames = to_channels(read_frames(file, header), plan.channels, file)
        return resample(frames, header.rate, self._rate)


def wav(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    sample_rate: int,
    *,
    length: int | None = None,
    channels: int | None = None,
    max_samples: int | None = None,
    constants: Mapping[str, Any] | None = None,
) -> SampleSource:
    """Make samples of WAV files.

    Values are from -1 to 1. A model that takes int16 gets whole numbers.

    Parameters
    ----------
    source
        A folder, with the folders in it; one file; or a list of files. Hidden files are
        skipped. The order is that of names. Whole numbers of 8, 16, 24 and 32 bits and
        floats of 32 and 64 bits are read; other kinds are refused by name.
    sample_rate
        Frames a second for which the model was trained; it has no default, since a model
        does not say it. Files of another rate are converted by their spectrum.
    length
        Frames of a sample. A file is cut into pieces of this length; a shorter rest is left
        out. A file that is shorter is filled with zeros. Default: what the model's input
        fixes, else whole files.
    channels
        1 takes the mean of all channels; with 2, a file with one channel has it twice.
        Default: what the model's input fixes, else 1.
    max_samples
        Take at most so many samples, evenly spread. Default: all.
    constants
        Other inputs of the model, the same in each sample: an array, or a number that fills
        the input.

    Returns
    -------
    SampleSource
        One file is in memory at a time.

    Raises
    ------
    CalibrationError
        If there are no WAV files (says what was found), one is damaged (names it), or options
        and model do not fit.

    Examples
    --------
    >>> import wave
    >>> with wave.open("tone.wav", "wb") as file:
    ...     file.setparams((1, 2, 16000, 0, "NONE", ""))
    ...     file.writeframes(np.zeros(40000, np.int16).tobytes())
    >>> speech = qc.data.wav("tone.wav", sample_rate=16000, length=16000)
    >>> [sample["audio"].shape for sample in speech]
    [(1, 16000), (1, 16000)]
    """
    rate = as_count("sample_rate", sample_rate)
    if rate is None:
        raise CalibrationError(
            "sample_rate is None. Give the rate for which the model was trained, such as "
            "16000: the model does not say it."
        )
    files: list[Path] = []
    origin: object = "a list"
    if isinstance(source, (str, os.PathLike)):
        origin = Path(source)
        files = find_files(origin, WAVES, "a WAV file")
    elif isinstance(source, Sequence) and source:
        files = [Path(file) for file in source]
    else:
        raise CalibrationError(
            f"The WAV files are {shown(source, 80)}. Give a folder, a file, or a list."
        )
    return WavSource(
        files,
        origin,
        rate,
        as_count("length", length),
        as_count("channels", channels),
        as_count("max_samples", max_samples),
        constants,
    )
