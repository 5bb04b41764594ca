"""Reading a WAV file: whole numbers of 8 to 32 bits, and floats.

Python's `wave` reads no floats and, before 3.12, no extensible headers. The form is RIFF:
Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0", 1991.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantcal._core import CalibrationError
from quantcal.data.inputs import Array

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_HEADER = 16  # bytes of a format that are always there
_UNKNOWN_SIZE = 0xFFFFFFFF  # of a file that was written to a pipe


@dataclass(frozen=True)
class WavHeader:
    """What a WAV file says about its content.

    Attributes
    ----------
    kind
        1 for whole numbers, 3 for floats.
    channels, rate, bits
        Number of channels, frames a second, bits of a value.
    start, size
        Where the values are, in bytes.
    """

    kind: int
    channels: int
    rate: int
    bits: int
    start: int
    size: int

    @property
    def frames(self) -> int:
        """Number of values of each channel."""
        return self.size // (self.channels * self.bits // 8)


def read_header(path: Path) -> WavHeader:
    """Return what a file says about its content.

    Raises
    ------
    CalibrationError
        If it is not a WAV file, is damaged, or compressed; names it and says what to do.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
            if head[:4] != b"RIFF" or head[8:] != b"WAVE":
                raise _fault(path, "its content is not WAV")
            end = path.stat().st_size
            found: tuple[int, int, int, int] | None = None
            while len(chunk := file.read(8)) == 8:
                name, size = struct.unpack("<4sI", chunk)
                at = file.tell()
                if name == b"data":
                    size = min(size, end - at) if size == _UNKNOWN_SIZE else size
                    if found is None or at + size > end:
                        raise _fault(path, "it is cut off or damaged")
                    return WavHeader(*found, at, size)
                if name == b"fmt ":
                    found = _format(path, file.read(size))
                file.seek(at + size + size % 2)
    except OSError as error:
        raise CalibrationError(
            f"Cannot read {path}: {error.strerror or error}."
        ) from error
    raise _fault(path, "it is cut off or damaged")


def _format(path: Path, content: bytes) -> tuple[int, int, int, int]:
    if len(content) < _HEADER:
        raise _fault(path, "it is cut off or damaged")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:_HEADER])
    if kind == _EXTENSIBLE and len(content) >= 26:
        (kind,) = struct.unpack("<H", content[24:26])
    known = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}.get(kind, ())
    if bits not in known or not channels or not rate:
        raise _fault(path, f"its values are of kind {kind} with {bits} bits")
    return kind, channels, rate, bits


def _fault(path: Path, what: str) -> CalibrationError:
    return CalibrationError(
        f"Cannot read {path}: {what}. Take it out of the folder, or save it again as WAV "
        "with 8, 16, 24 or 32 bits."
    )


def read_frames(path: Path, header: WavHeader) -> Array:
    """Return the values as float32 [frames, channels]; whole numbers are from -1 to below 1.

    Raises
    ------
    CalibrationError
        If the file has become shorter.
    """
    width = header.bits // 8
    with path.open("rb") as file:
        file.seek(header.start)
        content = file.read(header.frames * header.channels * width)
    if len(content) < header.frames * header.channels * width:
        raise _fault(path, "it is cut off or damaged")
    values: Array
    if header.kind == _FLOAT:
        values = np.frombuffer(content, f"<f{width}").astype(np.float32)
    elif width == 1:
        values = (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    elif width == 3:
        # The missing low byte in front makes whole numbers of 32 bits.
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
    else:
        whole = np.frombuffer(content, f"<i{width}").astype(np.float32)
        values = whole / np.float32(1 << (header.bits - 1))
    return values.reshape(-1, header.channels)


def resample(frames: Array, old: int, new: int) -> Array:
    """Return audio at another rate: its spectrum up to the lower of both limits.

    The Fourier method, exact for periodic signals below the limit. Both ends may ring a
    little, since the signal is continued periodically.

    Parameters
    ----------
    frames
        float32 [frames, channels].
    old, new
        Frames a second.
    """
    count = len(frames)
    wanted = max(1, round(count * new / old)) if count else 0
    if old == new or not count:
        return frames
    spectrum = np.fft.rfft(frames.astype(np.float64), axis=0)
    kept = spectrum[: wanted // 2 + 1].copy()
    # The middle frequency of an even length stands for two, its own and the negative one.
    shorter = min(count, wanted)
    if shorter % 2 == 0 and count != wanted:
        kept[shorter // 2] *= 2 if wanted < count else 0.5
    changed: Array = np.fft.irfft(kept, wanted, axis=0) * (wanted / count)
    return changed.astype(np.float32)


def to_channels(frames: Array, channels: int, where: object) -> Array:
    """Return audio with another number of channels: their mean, or one for each.

    Raises
    ------
    CalibrationError
        If neither is possible.
    """
    found = frames.shape[1]
    if found == channels:
        return frames
    if channels == 1:
        mean: Array = frames.mean(axis=1, keepdims=True, dtype=np.float32)
        return mean
    if found == 1:
        return np.repeat(frames, channels, axis=1)
    raise CalibrationError(
        f"{where} has {found} channels, and {channels} are wanted. Convert it, or give "
        "channels=1 (--channels 1) if the model takes one."
    )


def chunks_of(count: int, length: int | None) -> Iterator[tuple[int, int]]:
    """Yield the beginnings and ends of the samples of a file with so many frames.

    A rest that is shorter than a sample is left out, unless it is all there is.
    """
    if length is None:
        yield 0, count
        return
    for start in range(0, max(count - length, 0) + 1, length):
        yield start, start + length
